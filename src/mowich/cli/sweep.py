"""`mowich sweep`: a scenario of many points, on all cores or on a Ray cluster, printed or written to a directory of
Parquet."""

from __future__ import annotations

import os
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mowich.cli.app import app
from mowich.cli.options import Csv, FactsDir, Json, Plain, Quiet, Set, Stack
from mowich.cli.output import Progress, emit, one_form, progress, style
from mowich.errors import EXIT_INFEASIBLE, EXIT_INTERRUPTED
from mowich.requests import Problems, facts_changes, read_facts, read_settings

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from mowich.studies.sweep import Grid

TASKS_PER_WORKER = 4
"""Pieces of work per process: enough to even out points of different size."""


@app.command(
    short_help="Best plans over models, systems, chips and lengths.",
    epilog="Example: mowich sweep scenarios/sweep.yaml --vary chips=1024..16384:x2 --out results/",
)
def sweep(
    file: Annotated[
        Path, typer.Argument(metavar="SCENARIO", help="YAML with models, on, chips, seq, batch, tokens, plan, vary.")
    ],
    vary: Annotated[
        list[str] | None,
        typer.Option(
            "--vary",
            metavar="PATH=VALUES",
            help=(
                "An axis: chips=64..4096:x2, plan.tp=1,2,4, or a fact: prices.trn3='$1/chip/h..$3/chip/h:5'."
                " Repeatable."
            ),
        ),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, max=1024, metavar="N", help="Processes (else one per core; 1: none).")
    ] = None,
    executor: Annotated[
        str | None, typer.Option("--executor", metavar="WHERE", help="ray (this machine's cluster) or ray://HOST:PORT.")
    ] = None,
    stack: Stack = None,
    settings: Set = None,
    facts: FactsDir = None,
    as_json: Json = False,
    as_csv: Csv = False,
    plain: Plain = False,
    quiet: Quiet = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Write Parquet files to a directory and go on there after a kill; FILE.json: one JSON file.",
        ),
    ] = None,
) -> None:
    """The best plan at every point of a grid of models, systems, chips, sequence lengths, batches, plan fields and
    facts."""
    from mowich.studies import sweep as study

    folder = out if out is not None and out.suffix != ".json" else None
    problems = Problems()
    one_form(as_json, as_csv, problems)
    if folder is not None and as_csv:
        problems.add("rows go to the directory", where="--csv", fix="leave out --csv or --out")
    if executor is not None and executor != "ray" and not executor.startswith("ray://"):
        problems.add("not a place to run", where="--executor", given=executor, allowed="ray, ray://HOST:PORT")
    if executor is not None and jobs is not None:
        problems.add("is for processes of this machine", where="--jobs", fix="leave it out with --executor")
    known = read_facts(facts, problems)
    chosen = read_settings(settings, known, problems)
    if chosen.plan:
        problems.add(
            "a sweep takes choices of plans from its scenario",
            where="--set plan",
            fix="write plan: {tp: 8} there, or --vary plan.tp=8",
        )
    axes = _axes(vary, problems)
    problems.stop()
    most = study.MAX_STORED if folder is not None else study.MAX_POINTS
    grid = study.read(file, chosen.facts, vary=axes, most=most, stack=stack)
    pool, workers = _pool(executor, jobs, grid)
    with pool or nullcontext(), progress(quiet) as line:
        told = _Meter(line, len(grid))
        if folder is not None:
            from mowich.studies.sweep_store import sweep_to

            written = sweep_to(
                folder, grid, chosen.facts, term=chosen.term, stack=stack, executor=pool, workers=workers, progress=told
            )
        else:
            result = study.sweep(
                grid,
                chosen.facts,
                term=chosen.term,
                stack=stack,
                executor=pool,
                tasks=workers * TASKS_PER_WORKER,
                progress=told,
            )

    given = facts_changes(settings, facts)
    if folder is not None:
        emit(written.to_dict(), lambda: _stored(written), as_json=as_json, as_csv=False, rows="", inputs=given)
        feasible = written.done - written.infeasible
        left = f"{written.points - written.done} points are left: the same command goes on"
    else:

        def text() -> str:
            from mowich.show.trade import sweep_text

            return sweep_text(result, style(plain))

        emit(result.to_dict(), text, as_json=as_json, as_csv=as_csv, rows="rows", out=out, inputs=given)
        feasible = sum(row.plan is not None for _, row in result.rows)
        left = "the points above were done, the others are left out"
    if not (written if folder is not None else result).complete:
        print(left, file=sys.stderr)
        raise typer.Exit(EXIT_INTERRUPTED)
    if not feasible:
        raise typer.Exit(EXIT_INFEASIBLE)


def _axes(items: list[str] | None, problems: Problems) -> dict[str, str]:
    """--vary path=values, each once."""
    out: dict[str, str] = {}
    for item in items or ():
        key, equals, values = (part.strip() for part in item.partition("="))
        key = {"model": "models", "system": "on", "systems": "on"}.get(key, key)
        if not equals or not key or not values:
            problems.add("not an axis", where="--vary", given=item, allowed="path=values, as in chips=64..4096:x2")
        elif key in out:
            problems.add(
                f"{key} is varied twice", where="--vary", fix=f"write its values with commas: {key}={out[key]},{values}"
            )
        out[key] = values
    return out


def _pool(executor: str | None, jobs: int | None, grid: Grid) -> tuple[Executor | None, int]:
    """Where tasks run, and how many at a time."""
    from mowich.studies.sweep_workers import RayExecutor, processes

    if executor is not None:
        cluster = RayExecutor(executor)
        return cluster, cluster.workers
    workers = min(jobs or os.cpu_count() or 1, len(grid))
    return (processes(workers) if workers > 1 else None), workers


class _Meter:
    """Progress as points done, points per second of this run, and time left."""

    def __init__(self, line: Progress, points: int) -> None:
        self._line, self._points, self._start = line, points, time.monotonic()

    def __call__(self, done: int, computed: int | None = None) -> None:
        rate = (done if computed is None else computed) / max(1e-9, time.monotonic() - self._start)
        left = (self._points - done) / max(rate, 1e-9)
        self._line(f"{done:,} of {self._points:,} points, {rate:.3g} points/s, {_duration(left)} left")


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _stored(written: Any) -> str:
    """What is in the directory, and how to read it."""
    folder = f"{written.folder}".rstrip("/")
    lines = [
        (
            f"{written.done:,} of {written.points:,} points in {folder}/, {written.done - written.infeasible:,} with a"
            " plan."
        ),
        "",
        f"  {len(written.manifest['columns'])} columns, one row a point; any reader of Parquet opens it:",
        f"""  duckdb -c "select system, chips, min(step_s) from '{folder}/*.parquet' group by all order by all\"""",
    ]
    return "\n".join(lines) + "\n"
