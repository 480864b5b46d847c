"""`mowich facts`: what is known, and where each number comes from."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mowich.cli.app import app
from mowich.cli.options import CONTEXT, Csv, FactsDir, Json, Plain, Quiet, complete_systems
from mowich.cli.output import complain, emit, one_form, style
from mowich.errors import EXIT_CHECK_FAILED, unknown
from mowich.requests import Problems, read_dirs, read_facts

if TYPE_CHECKING:
    from mowich.facts import Facts

facts_app = typer.Typer(
    help="Chips, systems, prices, models: numbers with sources.",
    epilog="Example: mowich facts diff trn3 gb300",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings=CONTEXT,
)
app.add_typer(facts_app, name="facts")


def fact_rows(facts: Facts, paths: Sequence[str]) -> list[dict[str, Any]]:
    from dataclasses import asdict

    from mowich.show.facts import leaves

    return [asdict(fact) for path in paths for fact in leaves(facts, path)]


@facts_app.command("list", epilog="Example: mowich facts list chips")
def facts_list(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="[KIND]", help="chips, systems, prices, models, ...; without it, all.", show_default=False
        ),
    ] = None,
    facts: FactsDir = None,
    as_json: Json = False,
    as_csv: Csv = False,
    plain: Plain = False,
) -> None:
    """What is known: chips, systems, prices, models and the rest."""
    from mowich.facts.load import KINDS
    from mowich.models import names
    from mowich.show.facts import list_text

    problems = Problems()
    one_form(as_json, as_csv, problems)
    if kind is not None and kind not in (*KINDS, "models"):
        problems.found.append(unknown("kind", kind, (*KINDS, "models")))
    problems.stop()
    known = read_facts(facts, problems)
    chosen = [k for k in KINDS if kind in (None, k)]
    entries = [
        {"kind": k, "id": i, **{x: y for x, y in known.meta(k, i).items() if isinstance(y, str) and x != "id"}}
        for k in chosen
        for i in known.ids(k)
    ]
    if kind in (None, "models"):
        entries += [{"kind": "models", "id": n} for n in names()]

    def text() -> str:
        shown = list_text(known, chosen, style(plain)) if chosen else ""
        if kind in (None, "models"):
            from mowich.show.table import wrap

            models = "\n".join(wrap(", ".join(names()), style(plain), hang=0))
            shown = f"  models (mowich model NAME)\n{models}\n" + ("\n" + shown if shown else "")
        return shown

    result = {"schema": "mowich/facts@1", "facts_hash": known.hash(), "entries": entries}
    emit(result, text, as_json=as_json, as_csv=as_csv, rows="entries")


@facts_app.command("show", epilog="Example: mowich facts show trn3   or   mowich facts show chips.trainium3.memory")
def facts_show(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME...",
            help="A chip, a system, an id, or the path of a fact or group.",
            autocompletion=complete_systems,
        ),
    ],
    facts: FactsDir = None,
    as_json: Json = False,
    as_csv: Csv = False,
    plain: Plain = False,
) -> None:
    """Every number of one thing: value, range, grade, source, locator, date."""
    from mowich.show.facts import locate, show_text

    problems = Problems()
    one_form(as_json, as_csv, problems)
    known = read_facts(facts, problems)
    paths: list[str] = []
    for name in names:
        with problems.watch():
            paths += locate(known, name)
    problems.stop()
    result = {"schema": "mowich/facts@1", "facts_hash": known.hash(), "facts": fact_rows(known, paths)}
    emit(
        result,
        lambda: "".join(show_text(known, n, style(plain)) for n in names),
        as_json=as_json,
        as_csv=as_csv,
        rows="facts",
    )


@facts_app.command("diff", epilog="Example: mowich facts diff trn3 gb300")
def facts_diff(
    one: Annotated[str, typer.Argument(metavar="A", autocompletion=complete_systems)],
    two: Annotated[str, typer.Argument(metavar="B", autocompletion=complete_systems)],
    facts: FactsDir = None,
    as_json: Json = False,
    as_csv: Csv = False,
    plain: Plain = False,
) -> None:
    """Two chips or systems side by side."""
    from mowich.show.facts import diff_paths, diff_text

    problems = Problems()
    one_form(as_json, as_csv, problems)
    known = read_facts(facts, problems)
    rows = []
    with problems.watch():
        rows = [
            {
                "field": name,
                **{
                    f"{side}_{k}": getattr(fact, k, None)
                    for side, fact in (("a", x), ("b", y))
                    for k in ("value", "unit", "low", "high", "grade")
                },
            }
            for name, x, y in diff_paths(known, one, two)
        ]
    problems.stop()
    result = {"schema": "mowich/facts-diff@1", "facts_hash": known.hash(), "a": one, "b": two, "rows": rows}
    emit(result, lambda: diff_text(known, one, two, style(plain)), as_json=as_json, as_csv=as_csv, rows="rows")


@facts_app.command("check", epilog="Example: mowich facts check --facts ./my-facts")
def facts_check(facts: FactsDir = None, quiet: Quiet = False) -> None:
    """Schema, units, sources and ranges of every fact; exit 5 when one is wrong."""
    from mowich.facts import load
    from mowich.facts.check import check_files
    from mowich.facts.load import shipped
    from mowich.facts.overlay import overlay

    problems = Problems()
    read_dirs(facts, problems)
    problems.stop()
    known = load()
    errors = check_files(shipped(), known)
    for folder in facts or ():
        errors += overlay(folder, known)[1]
    if not errors and facts:
        with problems.watch():
            load(tuple(facts)).sources  # noqa: B018  reading them is the check
        errors += problems.found
    for error in errors:
        complain(error.line())
    if errors:
        raise typer.Exit(EXIT_CHECK_FAILED)
    if not quiet:
        print("facts check: ok")


@facts_app.command("schema", epilog="Example: mowich facts schema > facts.schema.json")
def facts_schema() -> None:
    """JSON Schema of the files in --facts DIR, for editors."""
    import json

    from mowich.show.facts import json_schema

    sys.stdout.write(json.dumps(json_schema(), indent=1) + "\n")
