"""`mowich explain`: where a number comes from."""

from __future__ import annotations

import sys
from dataclasses import replace

from mowich.cli.app import app
from mowich.cli.options import verb
from mowich.cli.output import noter, progress, style
from mowich.errors import UserError
from mowich.requests import results
from mowich.requests.result_check import whole_result


@verb(app, results.EXPLAIN)
def explain(asked: results.ExplainRequest) -> None:
    """One number, or the names of those that say most, or of all."""
    from mowich.show.explain import explain_page, metrics_page
    from mowich.show.heard import stale_lines
    from mowich.show.json import finite, to_json
    from mowich.show.page import paragraphs
    from mowich.show.render.terminal import terminal
    from mowich.studies.explain import Explainer, metric_explained, metrics
    from mowich.studies.explain.headline import headline_metrics
    from mowich.studies.explain.tree import name_of
    from mowich.studies.record import stale_among

    form, metric, where, data = asked.form, asked.metric, asked.where, asked.data
    try:
        with whole_result(where):
            if metric is None:
                if form.as_json:
                    first = [name_of(data, path) for path in headline_metrics(data)]
                    sys.stdout.write(to_json({"schema": "mowich/explain@1", "metrics": metrics(data), "first": first}))
                else:
                    page = metrics_page(Explainer(data, asked.facts), whole=asked.all)
                    sys.stdout.write(terminal(page, style(form.plain)))
                return
            with progress(form.quiet) as line:
                line("explaining")
                found = metric_explained(asked)
    except UserError as error:
        error.where = error.where or where
        raise
    paths = sorted({fact.path for fact in found.facts})
    stale = {} if asked.limit is None else {"stale": stale_among(asked.facts, paths, asked.limit)}
    if form.as_json:
        sys.stdout.write(to_json(finite({**found.to_dict(), **stale})))
        return
    note = noter(form.quiet)
    for warning in found.warnings:
        note(warning)
    page = explain_page(found)
    old = paragraphs(stale_lines(stale, "This number", each=True), "caption", indent=0, gap=True)
    sys.stdout.write(terminal(replace(page, parts=[*page.parts, *old]), style(form.plain)))
