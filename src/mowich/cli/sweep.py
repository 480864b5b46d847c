"""`mowich sweep`: one question at many points, on all cores or on a Ray cluster, printed or written to a directory of
Parquet."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from mowich.cli.app import app
from mowich.cli.options import verb
from mowich.cli.output import emit, progress
from mowich.errors import EXIT_CHECK_FAILED, EXIT_INFEASIBLE, EXIT_INTERRUPTED, UserError
from mowich.progress import tell
from mowich.requests import scenarios

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from pathlib import Path

    from mowich.studies.sweep_grid import Grid
    from mowich.studies.sweep_store import Parts

TASKS_PER_WORKER = 4
"""Pieces of work per process: enough to even out points of different size."""


@verb(app, scenarios.SWEEP)
def sweep(asked: scenarios.SweepRequest) -> None:
    """The best plan at every point of a grid."""
    from mowich.studies import sweep as study
    from mowich.studies.sweep_grid import asked_grid

    form, folder = asked.form, asked.folder
    grid = asked_grid(asked)
    for text in () if form.quiet else grid.notes:
        print(f"note: {text}", file=sys.stderr)
    if asked.verify and folder is not None:
        _verify(asked, grid, folder)
        return
    pool, workers = _pool(asked.executor, asked.jobs, grid)

    def told(done: int, computed: int = 0) -> None:
        tell("points", done, len(grid))

    with pool or nullcontext(), progress(form.quiet):
        told(0)
        if folder is not None:
            from mowich.studies.sweep_store import sweep_to

            written = sweep_to(
                folder,
                grid,
                asked.facts,
                term=asked.term,
                stack=asked.stack,
                executor=pool,
                workers=workers,
                progress=told,
            )
        else:
            result = study.sweep(
                grid,
                asked.facts,
                term=asked.term,
                stack=asked.stack,
                executor=pool,
                tasks=workers * TASKS_PER_WORKER,
                progress=told,
            )

    given = asked.given
    if folder is not None and written.set_aside and not form.quiet:
        names = ", ".join(written.set_aside)
        print(f"note: damaged parts were set aside in {folder / '_damaged'} and made again: {names}", file=sys.stderr)
    if folder is not None:
        emit(written.to_dict(), replace(form, out=None), inputs=given, text=lambda: _stored(written))
        feasible = written.done - written.infeasible
        left = f"{written.points - written.done} points are left: the same command goes on"
    else:
        emit(result.to_dict(), form, inputs=given)
        feasible = sum(study.has_plan(row) for _, row in result.rows)
        left = "the points above were done, the others are left out"
    if not (written if folder is not None else result).complete:
        print(left, file=sys.stderr)
        raise typer.Exit(EXIT_INTERRUPTED)
    if not feasible:
        raise typer.Exit(EXIT_INFEASIBLE)


def _verify(asked: scenarios.SweepRequest, grid: Grid, folder: Path) -> None:
    """Say which parts are sound; exit 5 where one is damaged, or where a file that is not a part would be read as
    rows."""
    from mowich.studies.sweep_store import verify_parts

    found = verify_parts(folder, grid, asked.facts, term=asked.term, stack=asked.stack)
    lines = [
        f"{len(found.sound):,} parts are sound, {len(found.damaged):,} damaged, {len(found.missing):,} not there yet.",
        *(f"  damaged: {name}" for name in found.damaged),
        *(f"  none of this sweep, or left over: {name}" for name in found.strays),
    ]
    emit(found.to_dict(), replace(asked.form, out=None), text=lambda: "\n".join(lines) + "\n")
    if found.damaged:
        raise UserError(
            f"{len(found.damaged)} damaged parts",
            where=str(folder),
            fix="the same command without --verify sets them aside and makes them again",
            code=EXIT_CHECK_FAILED,
        )
    if found.misread:
        raise UserError(
            f"{len(found.misread)} files belong to no part of this sweep, but readers take them for its rows",
            where=str(folder),
            fix="move them away",
            code=EXIT_CHECK_FAILED,
        )


def _pool(executor: str | None, jobs: int | None, grid: Grid) -> tuple[Executor | None, int]:
    """Where tasks run, and how many at a time."""
    from mowich.studies.sweep_workers import RayExecutor, processes

    if executor is not None:
        cluster = RayExecutor(executor)
        return cluster, cluster.workers
    workers = min(jobs or os.cpu_count() or 1, len(grid))
    return (processes(workers) if workers > 1 else None), workers


def _stored(written: Parts) -> str:
    """What is in the directory, and how to read it."""
    folder = f"{written.folder}".rstrip("/")
    time = "step_s" if "step_s" in written.manifest["columns"] else "tpot_s"
    lines = [
        (
            f"{written.done:,} of {written.points:,} points in {folder}/, {written.done - written.infeasible:,} with a"
            " plan."
        ),
        "",
        f"  {len(written.manifest['columns'])} columns, one row a point; any reader of Parquet opens it:",
        f"""  duckdb -c "select system, chips, min({time}) from '{folder}/*.parquet' group by all order by all\"""",
    ]
    return "\n".join(lines) + "\n"
