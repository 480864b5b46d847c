"""`mowich compare`, `plan` and `fit`: a job put on machines."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mowich.cli.app import app
from mowich.cli.options import verb
from mowich.cli.output import emit, progress
from mowich.errors import EXIT_INFEASIBLE, EXIT_INTERRUPTED, UserError
from mowich.requests import jobs
from mowich.writing import write_file

if TYPE_CHECKING:
    from mowich.show.render.terminal import Style
    from mowich.studies.compare import PlanList
    from mowich.studies.forward_answer import ForwardVerb
    from mowich.training.timeline import PlanTimeline


@verb(app, jobs.COMPARE)
def compare(asked: jobs.CompareRequest) -> None:
    """The best plan of each system for one job."""
    if asked.forward is not None:
        _answer_forward(asked, "compare")
        return
    if asked.train is None:
        from mowich.cli.serving import answer_serving as serving

        serving(asked)
        return
    from mowich.studies.job_answers import compared

    form, text = asked.form, None
    with progress(form.quiet) as line:
        line("searching")
        result = compared(asked)
        if asked.emits is not None:
            from mowich.studies.best_emitted import best_text

            form, text = replace(form, out=None), partial(best_text, result, asked)

    is_bundle = text is not None and asked.form.out is not None
    emit(result.to_dict(), form, inputs=asked.again(), model=asked.model, text=text, headed=is_bundle)
    if not result.complete:
        print("the systems above were done, the others are left out", file=sys.stderr)
        raise typer.Exit(EXIT_INTERRUPTED)
    if not any(row.plan is not None for row in result.rows):
        raise typer.Exit(EXIT_INFEASIBLE)


@verb(app, jobs.PLAN)
def plan(asked: jobs.PlanRequest) -> None:
    """The best plans of one system for one job."""
    if asked.forward is not None:
        _answer_forward(asked, "plan", asked.top)
        return
    if asked.load is not None:
        from mowich.cli.serving import answer_rates

        answer_rates(asked)
        return
    if asked.train is None:
        from mowich.cli.serving import answer_serving as serving

        serving(asked)
        return
    from mowich.studies.job_answers import plan_text, planned
    from mowich.studies.trade import trades

    form = asked.form
    with progress(form.quiet) as line:
        line(f"searching {asked.systems[0]}")
        result = planned(asked)
        if asked.emit is not None:
            is_bundle = form.out is not None
            form = replace(form, out=None)  # it names the folder of a bundle
            text = partial(plan_text, result, asked)
            emit(result.to_dict(), form, inputs=asked.again(), text=text, headed=is_bundle and asked.pick == 1)
            return
        extras = trades(result, asked.fixed, with_why=asked.neighbours, with_front=asked.pareto)
    played = played_plan(result, asked.timeline, asked.pick) if asked.timeline is not None else None

    def drawn(how: Style) -> str:
        from mowich.show import timeline as drawing
        from mowich.show.render.terminal import wrap

        if played is None:
            return ""
        of_memory = [line for words in drawing.words_of_peak(played) for line in wrap(words, how)]
        return "\n".join(["", drawing.summary(played), *drawing.draw_timeline(played, how), *of_memory]) + "\n"

    emit(
        {**result.to_dict(), **extras.to_dict()},
        form,
        inputs=asked.again(),
        model=asked.model,
        seconds=result.seconds,
        after=drawn,
    )
    if not any(row.plan is not None for row in result.rows):
        raise typer.Exit(EXIT_INFEASIBLE)


def played_plan(result: PlanList, file: Path, pick: int) -> PlanTimeline | None:
    """Play the pipeline of a plan and write it; None when no plan runs."""
    from mowich.show import timeline as drawing
    from mowich.training.timeline import timeline

    if result.ask is None or result.rows[0].plan is None:
        return None
    if pick > len(result.rows):
        raise UserError("is not among the plans", field="pick", given=pick, allowed=f"1 to {len(result.rows)}")
    chosen = result.rows[pick - 1].plan
    assert chosen is not None
    ask = result.ask
    try:
        found = timeline(ask.model, ask.system, ask.job, chosen)
        text = drawing.to_svg(found) if file.suffix == ".svg" else drawing.to_trace(found)
    except ValueError as error:
        raise UserError(
            str(error),
            field=f"timeline {file}",
            fix="choose a plan with fewer micro-batches, with --pick or --set plan.micro_batch",
        ) from error
    write_file(file, text, field=f"timeline {file}")
    return found


@verb(app, jobs.FIT)
def fit(asked: jobs.FitRequest) -> None:
    """Whether a job fits."""
    if asked.forward is not None:
        _answer_forward(asked, "fit")
        return
    from mowich.studies.job_answers import fitted

    form = asked.form
    with progress(form.quiet) as line:
        line(f"fitting on {asked.systems[0]}")
        result = fitted(asked)

    emit(result.to_dict(), form, inputs=asked.again(), model=asked.model)
    if result.fits is False:
        raise typer.Exit(EXIT_INFEASIBLE)


def _answer_forward(asked: jobs.JobRequest, said: ForwardVerb, top: int = 1) -> None:
    """Forward passes: images, clips, encoders."""
    from mowich.studies.job_answers import forward_found

    form = asked.form
    with progress(form.quiet) as line:
        line(f"searching {', '.join(asked.systems)}")
        result = forward_found(asked, said, top)
    emit(result.to_dict(), form, inputs=asked.again(), model=asked.model)
    if not result.is_feasible:
        raise typer.Exit(EXIT_INFEASIBLE)
