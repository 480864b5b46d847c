"""`mowich traffic`, and what `plan --serve`, `compare --serve` and `fit --serve` do."""

from __future__ import annotations

import typer

from mowich.cli.app import app
from mowich.cli.options import verb
from mowich.cli.output import emit, progress
from mowich.errors import EXIT_INFEASIBLE
from mowich.requests import jobs, scenarios


@verb(app, scenarios.TRAFFIC)
def traffic(asked: scenarios.Traffic) -> None:
    """The traffic of a scenario."""
    from mowich.studies.traffic import traffic as study

    form = asked.form
    with progress(form.quiet) as line:
        line("simulating")
        result = study(asked.scenario, asked.facts, requests_out=asked.requests_out, trace_out=asked.trace_out)

    emit(result.to_dict(), form, inputs=asked.given, seconds=result.seconds)


def fit(asked: jobs.Fit) -> None:
    """`fit --serve`."""
    from mowich.studies.serving_fit import fit_serving

    assert asked.kv is not None
    form = asked.form
    with progress(form.quiet) as line:
        line(f"fitting on {asked.systems[0]}")
        result = fit_serving(
            asked.model,
            asked.systems[0],
            tokens=asked.kv,
            facts=asked.facts,
            chips=asked.chips,
            engine=asked.engine,
            fixed=asked.fixed,
        )

    emit(result.to_dict(), form, inputs=asked.again(), model=asked.model)
    if result.fits is False:
        raise typer.Exit(EXIT_INFEASIBLE)


def serve(asked: jobs.Plan | jobs.Compare) -> None:
    """`plan --serve` and `compare --serve`."""
    from mowich.studies import serving_plan

    assert asked.serve is not None
    form = asked.form
    with progress(form.quiet) as line:
        line(f"searching {', '.join(asked.systems)}")
        if isinstance(asked, jobs.Plan):
            result = serving_plan.plan(
                asked.model,
                asked.systems[0],
                job=asked.serve,
                facts=asked.facts,
                chips=asked.chips,
                engine=asked.engine,
                top=asked.top,
                fixed=asked.fixed,
                term=asked.term,
            )
        else:
            result = serving_plan.compare(
                asked.model,
                asked.systems,
                job=asked.serve,
                facts=asked.facts,
                chips=asked.chips,
                engine=asked.engine,
                fixed=asked.fixed,
                term=asked.term,
            )

    emit(result.to_dict(), form, inputs=asked.again(), model=asked.model, seconds=result.seconds)
    code = serving_plan.exit_code(result)
    if code:
        raise typer.Exit(code)
