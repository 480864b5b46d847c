"""`mowich explain`: why a number is what it is."""

from __future__ import annotations

import sys

from mowich.cli.app import app
from mowich.cli.options import verb
from mowich.cli.output import noter, progress, style
from mowich.errors import UserError
from mowich.requests import results


@verb(app, results.EXPLAIN)
def explain(asked: results.ExplainRequest) -> None:
    """One number, or the names of those that say most, or of all."""
    from mowich.show.explain import explain_page, metrics_page
    from mowich.show.json import to_json
    from mowich.show.render.terminal import terminal
    from mowich.studies.answers import metric_explained
    from mowich.studies.explain import Explainer, metrics

    form, metric, where, data = asked.form, asked.metric, asked.where, asked.data
    try:
        if metric is None:
            if form.as_json:
                sys.stdout.write(to_json({"schema": "mowich/explain@1", "metrics": metrics(data)}))
            else:
                sys.stdout.write(
                    terminal(metrics_page(Explainer(data, asked.facts), whole=asked.all), style(form.plain))
                )
            return
        with progress(form.quiet) as line:
            line("explaining")
            found = metric_explained(asked)
    except UserError as error:
        error.where = error.where or where
        raise
    except (KeyError, TypeError, IndexError, AttributeError, ValueError, ArithmeticError, StopIteration) as error:
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
