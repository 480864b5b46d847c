"""`mowich explain`: why a number is what it is."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mowich.cli.app import app
from mowich.cli.options import Json, Plain, Quiet
from mowich.cli.output import noter, progress, style
from mowich.errors import UserError
from mowich.requests import Problems, read_facts, read_settings

if TYPE_CHECKING:
    from mowich.facts import Facts


def read_result(result: Path) -> Mapping[str, Any]:
    """The JSON object of a file, or of stdin for "-". Raises UserError where it is none."""
    from mowich.files import parse_json, read_json, read_stream

    where = str(result)
    if where == "-":
        data = parse_json(read_stream(sys.stdin, "result", where), where)
    else:
        data = read_json(result, "result", fix="mowich compare ... --out FILE writes one")
    if not str(data.get("schema", "")).startswith("mowich/"):
        raise UserError(
            "not a result of mowich",
            where=where,
            given=data.get("schema"),
            allowed="what a verb writes with --json or --out",
        )
    return data


def facts_of_result(data: Mapping[str, Any]) -> Facts:
    """The facts that a result was made with: its --facts directories and its --set."""
    problems = Problems()
    inputs = data.get("inputs")
    inputs = inputs if isinstance(inputs, Mapping) else {}
    known = read_facts([Path(str(d)) for d in inputs.get("facts_dirs") or ()], problems)
    chosen = read_settings([str(s) for s in inputs.get("set") or ()], known, problems)
    problems.stop()
    return chosen.facts


@app.command(
    short_help="Formula, numbers and sources of one number.",
    epilog="Example: mowich explain r.json trn3-gen2.step_s.ep   (r.json from mowich compare ... --out r.json)",
)
def explain(
    result: Annotated[
        Path, typer.Argument(metavar="RESULT", help="JSON of any verb (--out or --json); - reads stdin.")
    ],
    metric: Annotated[
        str | None,
        typer.Argument(
            metavar="[METRIC]",
            help=(
                "trn3.step_s, trn3.step_s.ep, 1.mfu (row number), ttft_s.p99, gb300.usd_per_mtok.high; without it: all"
                " names."
            ),
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
    plain: Plain = False,
    quiet: Quiet = False,
) -> None:
    """Any number of any result: its formula with the numbers put in, the facts and sources behind it, and what would
    change it most."""
    from mowich.show.explain import explain_text, metrics_text
    from mowich.show.json import to_json
    from mowich.studies.explain import Explainer, metrics

    where = str(result)
    data = read_result(result)
    try:
        explainer = Explainer(data, facts_of_result(data))
        if metric is None:
            if as_json:
                sys.stdout.write(to_json({"schema": "mowich/explain@1", "metrics": metrics(data)}))
            else:
                sys.stdout.write(metrics_text(explainer, style(plain)))
            return
        with progress(quiet) as line:
            line("explaining")
            found = explainer.explain(metric)
    except UserError as error:
        error.where = error.where or where
        raise
    except (KeyError, TypeError, IndexError, AttributeError, ValueError, StopIteration) as error:
        raise UserError(
            f"not a whole result: {type(error).__name__} {error}",
            where=where,
            fix="make it again with its verb and --out FILE",
        ) from error
    if as_json:
        sys.stdout.write(to_json(found.to_dict()))
        return
    note = noter(quiet)
    for warning in found.warnings:
        note(warning)
    sys.stdout.write(explain_text(found, style(plain)))
