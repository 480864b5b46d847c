"""`mowich explain`: why a number is what it is."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mowich.cli.app import app
from mowich.cli.options import verb
from mowich.cli.output import noter, progress, style
from mowich.errors import UserError
from mowich.requests import results


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


@verb(app, results.EXPLAIN)
def explain(asked: results.Explain) -> None:
    """One number, or the names of those that say most, or of all."""
    from mowich.show.explain import explain_page, metrics_page
    from mowich.show.json import to_json
    from mowich.show.render.terminal import terminal
    from mowich.studies.explain import Explainer, metrics

    form, metric, where = asked.form, asked.metric, str(asked.result)
    data = read_result(asked.result)
    try:
        explainer = Explainer(data, results.facts_of_result(data))
        if metric is None:
            if form.as_json:
                sys.stdout.write(to_json({"schema": "mowich/explain@1", "metrics": metrics(data)}))
            else:
                sys.stdout.write(terminal(metrics_page(explainer, whole=asked.all), style(form.plain)))
            return
        with progress(form.quiet) as line:
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
    if form.as_json:
        sys.stdout.write(to_json(found.to_dict()))
        return
    note = noter(form.quiet)
    for warning in found.warnings:
        note(warning)
    sys.stdout.write(terminal(explain_page(found), style(form.plain)))
