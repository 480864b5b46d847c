"""`mowich traffic`, and what `plan --serve` and `compare --serve` do."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import typer

from mowich.cli.app import app
from mowich.cli.options import verb
from mowich.cli.output import emit, progress
from mowich.requests import jobs, scenarios

if TYPE_CHECKING:
    from mowich.requests.common import Form
    from mowich.show.render.terminal import Style
    from mowich.studies.serving_plan import ServeResult


@verb(app, scenarios.TRAFFIC)
def traffic(asked: scenarios.TrafficRequest) -> None:
    """The traffic of a scenario."""
    from mowich.studies.traffic import traffic as study

    form = asked.form
    with progress(form.quiet) as line:
        line("simulating")
        result = study(asked)

    emit(result.to_dict(), form, inputs=asked.given, seconds=result.seconds)


def answer_rates(asked: jobs.PlanRequest) -> None:
    """`plan --serve` with a load."""
    from mowich.studies import job_answers
    from mowich.studies.serving_plan import exit_code

    form = asked.form
    with progress(form.quiet) as line:
        line(f"simulating deployments on {', '.join(asked.systems)}")
        result = job_answers.rated_planned(asked)

    text = partial(job_answers.plan_text, result, asked) if asked.emit is not None and result.rows else None
    is_bundle = asked.emit is not None and form.out is not None
    form = form if asked.emit is None else replace(form, out=None)  # it names the folder of a bundle
    emit(
        result.to_dict(),
        form,
        inputs=asked.again(),
        model=asked.model,
        seconds=result.seconds,
        text=text,
        headed=is_bundle and text is not None and asked.pick == 1,
    )
    code = exit_code(result.rows)
    if code:
        raise typer.Exit(code)


def _drawn(result: ServeResult, form: Form, how: Style) -> str:
    """The front between speed and throughput as characters: on a terminal, and where --chart asks for it."""
    if not (form.chart or how.fold):
        return ""
    from mowich.show import serve
    from mowich.show.render.scatter import scatter_text

    groups = {name: [(a, b) for a, b, _ in dots] for name, dots in serve.fronts_of(result.to_dict()).items()}
    across, up = serve.FRONT_AXES
    lines = scatter_text(serve.FRONT_TITLE, groups, how, x=across, y=up)
    return "".join(f"{line}\n" for line in lines)


def answer_serving(asked: jobs.PlanRequest | jobs.CompareRequest) -> None:
    """`plan --serve` and `compare --serve`."""
    from mowich.studies import job_answers
    from mowich.studies.serving_plan import exit_code

    form = asked.form
    with progress(form.quiet) as line:
        line(f"searching {', '.join(asked.systems)}")
        if isinstance(asked, jobs.PlanRequest):
            result = job_answers.served_planned(asked)
        else:
            result = job_answers.served_compared(asked)

    text = None
    if isinstance(asked, jobs.PlanRequest):
        text = None if asked.emit is None else partial(job_answers.plan_text, result, asked)
    elif asked.emits is not None:
        from mowich.studies.best_emitted import best_text

        text = partial(best_text, result, asked)
    if text is not None:
        is_bundle = form.out is not None and getattr(asked, "pick", 1) == 1
        form = replace(form, out=None)  # it names the folder of a bundle
        emit(result.to_dict(), form, inputs=asked.again(), text=text, headed=is_bundle)
        return
    drawn = partial(_drawn, result, form)
    emit(result.to_dict(), form, inputs=asked.again(), model=asked.model, seconds=result.seconds, after=drawn)
    code = exit_code(result.rows)
    if code:
        raise typer.Exit(code)
