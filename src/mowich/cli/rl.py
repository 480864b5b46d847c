"""`mowich rl`: a run of reinforcement learning, and the search for its split."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mowich.cli.app import app
from mowich.cli.options import verb
from mowich.cli.output import emit, progress
from mowich.errors import EXIT_INFEASIBLE, UserError
from mowich.requests.rl import RL, RlRequest

if TYPE_CHECKING:
    from mowich.show.render.terminal import Style
    from mowich.studies.rl_answer import RlAnswer


@verb(app, RL)
def rl(asked: RlRequest) -> None:
    """A step of a run, or the split of chips that costs least."""
    from mowich.studies.rl_answer import rl_found

    form = asked.form
    with progress(form.quiet) as line:
        line("playing the run" if asked.chips is None else f"splitting {asked.chips} chips")
        result = rl_found(asked)
    if asked.timeline is not None:
        _write_timeline(result, asked.timeline)

    def drawn(how: Style) -> str:
        from mowich.show import rl_timeline

        row = result.rows[0]
        if asked.timeline is None or row.cycle is None:
            return ""
        lines = rl_timeline.draw_steps(rl_timeline.with_waits(row.cycle.spans, row.ask.job.placement), how)
        return "".join(f"{line}\n" for line in ("", *lines))

    emit(result.to_dict(), form, inputs=asked.given, model=asked.model, after=drawn)
    if not result.is_feasible:
        raise typer.Exit(EXIT_INFEASIBLE)


def _write_timeline(result: RlAnswer, file: Path) -> None:
    """The steps of the first run as a file. Raises UserError where no step was played."""
    from mowich.show import rl_timeline
    from mowich.writing import write_file

    row = result.rows[0]
    if row.cycle is None or not row.cycle.spans:
        raise UserError("no step was played", field=f"timeline {file}", fix=row.reason or None)
    draw = rl_timeline.svg_of_steps if file.suffix == ".svg" else rl_timeline.trace_of_steps
    spans = rl_timeline.with_waits(row.cycle.spans, row.ask.job.placement)
    write_file(file, draw(spans, row.ask.model.name), field=f"timeline {file}")
