"""`mowich facts`: what is known, and where each number comes from."""

from __future__ import annotations

import os
import sys

import typer

from mowich.cli.app import app
from mowich.cli.options import CONTEXT, CommandGroup, verb
from mowich.cli.output import complain, emit
from mowich.errors import EXIT_CHECK_FAILED, ProblemList, UserError
from mowich.requests import known
from mowich.writing import write_file

facts_app = typer.Typer(
    cls=CommandGroup,
    help="Chips, systems, prices, models: numbers with sources.",
    epilog="Example: mowich facts diff trn3 gb300",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings=CONTEXT,
)
app.add_typer(facts_app, name="facts")


@verb(facts_app, known.FACTS_LIST, "list")
def facts_list(asked: known.FactsRequest) -> None:
    """What is known, by kind."""
    from mowich.facts.load import FACT_KINDS
    from mowich.show.facts import list_page
    from mowich.studies.fact_list import fact_entries, system_entry

    form, facts = asked.form, asked.facts
    kind = asked.names[0] if asked.names else None
    chosen = [k for k in FACT_KINDS if kind in (None, k)]
    entries = fact_entries(facts, chosen, with_models=kind in (None, "models"))
    if kind == "systems":
        entries = [entry | system_entry(facts, str(entry["id"])) for entry in entries]
    result = {"schema": "mowich/facts@1", "facts_hash": facts.hash(), "entries": entries}
    emit(result, form, page=lambda: list_page(facts, chosen, entries))


@verb(facts_app, known.FACTS_SHOW, "show")
def facts_show(asked: known.FactsRequest) -> None:
    """Every number of some things."""
    from mowich.facts.find import fact_rows, locate
    from mowich.show.facts import show_page
    from mowich.studies.fact_list import fabric_levels

    form, facts, names = asked.form, asked.facts, asked.names
    problems = ProblemList()
    paths: list[str] = []
    for name in names:
        with problems.watch():
            paths += locate(facts, name)
    problems.stop()
    rows = fact_rows(facts, paths)
    result = {"schema": "mowich/facts@1", "facts_hash": facts.hash(), "facts": rows}
    emit(result, form, page=lambda: show_page(facts, names, [(p, fabric_levels(facts, p)) for p in paths], rows))


@verb(facts_app, known.FACTS_DIFF, "diff")
def facts_diff(asked: known.FactsRequest) -> None:
    """Two things side by side."""
    from mowich.facts.find import diff_paths
    from mowich.show.facts import facts_diff_page

    form, facts = asked.form, asked.facts
    one, two = asked.names
    problems = ProblemList()
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
            for name, x, y in diff_paths(facts, one, two)
        ]
    problems.stop()
    result = {"schema": "mowich/facts-diff@1", "facts_hash": facts.hash(), "a": one, "b": two, "rows": rows}
    emit(result, form, page=lambda: facts_diff_page(facts, one, two, rows))


@verb(facts_app, known.FACTS_NEW, "new")
def facts_new(asked: known.NewRequest) -> None:
    """A file of facts to fill in."""
    from mowich.facts.skeleton import chip_skeleton, system_skeleton

    if asked.what == "chip":
        text = chip_skeleton(asked.facts, asked.name, asked.family)
    else:
        text = system_skeleton(asked.facts, asked.name, str(asked.chip))
    if asked.out is None:
        sys.stdout.write(text)
        return
    if os.path.lexists(asked.out):  # never over a file that somebody has filled in
        raise UserError("is there already", field=f"out {asked.out}", fix="take another name, or remove it")
    write_file(asked.out, text, field=f"out {asked.out}")
    if not asked.form.quiet:
        print(f"{asked.out}: fill in what says FILL, then mowich facts check --facts {asked.out}")


@verb(facts_app, known.FACTS_CHECK, "check")
def facts_check(asked: known.CheckRequest) -> None:
    """Check the facts that ship, and the user's."""
    from mowich.facts import load_facts
    from mowich.facts.check import check_files
    from mowich.facts.load import shipped_folder
    from mowich.facts.overlay import overlay

    if asked.stale_s is not None:
        _list_stale(asked)
        return
    problems, facts, ours = ProblemList(), asked.dirs, load_facts()
    errors = check_files(shipped_folder(), ours)
    for folder in facts:
        errors += overlay(folder, ours)[1]
    if not errors and facts:
        with problems.watch():
            load_facts(facts).sources  # noqa: B018  reading them is the check
        errors += problems.found
    for error in errors:
        complain(error.line())
    if errors:
        raise typer.Exit(EXIT_CHECK_FAILED)
    if not asked.form.quiet:
        print("facts check: ok")


def _list_stale(asked: known.CheckRequest) -> None:
    """Facts that nobody has looked at for long; ends with the exit code of a check where there are any."""
    from mowich.studies.staleness import find_stale

    found = find_stale(asked)
    emit(found.to_dict(), asked.form)
    if found.stale:
        raise typer.Exit(EXIT_CHECK_FAILED)


@verb(facts_app, known.FACTS_SCHEMA, "schema")
def facts_schema(asked: known.FactsRequest) -> None:
    """JSON Schema of the files in --facts DIR, for editors."""
    import json

    from mowich.facts.json_schema import json_schema

    kind = asked.names[0] if asked.names else None
    sys.stdout.write(json.dumps(json_schema(asked.facts, kind), indent=1) + "\n")
