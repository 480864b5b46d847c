"""`mowich sweep`: a scenario of many points, on all cores."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mowich.cli.app import app
from mowich.cli.inputs import Problems, read_facts, read_settings
from mowich.cli.options import Csv, FactsDir, Json, Out, Plain, Quiet, Set, Stack
from mowich.cli.output import emit, one_form, progress, style
from mowich.errors import EXIT_INFEASIBLE, EXIT_INTERRUPTED

if TYPE_CHECKING:
    from concurrent.futures import Executor

TASKS_PER_WORKER = 4
"""Pieces of work per process: enough to even out points of different size."""


@app.command(
    short_help="Best plans over models, systems, chips and lengths.",
    epilog="Example: mowich sweep scenarios/sweep.yaml --csv > sweep.csv",
)
def sweep(
    file: Annotated[
        Path, typer.Argument(metavar="SCENARIO", help="YAML with models, on, chips, seq, batch, tokens, plan.")
    ],
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, max=1024, metavar="N", help="Processes (else one per core; 1: none).")
    ] = None,
    stack: Stack = None,
    settings: Set = None,
    facts: FactsDir = None,
    as_json: Json = False,
    as_csv: Csv = False,
    plain: Plain = False,
    quiet: Quiet = False,
    out: Out = None,
) -> None:
    """The best plan at every point of a grid of models, systems, chips, sequence lengths and batches."""
    from mowich.studies.sweep import read
    from mowich.studies.sweep import sweep as study

    problems = Problems()
    one_form(as_json, as_csv, problems)
    known = read_facts(facts, problems)
    chosen = read_settings(settings, known, problems)
    if chosen.plan:
        problems.add("a sweep takes choices of plans from its scenario", where="--set plan", fix="write plan: {tp: 8} there")  # fmt: skip
    problems.stop()
    grid = read(file, chosen.facts)
    from concurrent.futures import ProcessPoolExecutor

    workers = min(jobs or os.cpu_count() or 1, len(grid.points))
    pool: Executor | None = ProcessPoolExecutor(workers) if workers > 1 else None
    with pool or nullcontext(), progress(quiet) as line:
        result = study(grid, chosen.facts, term=chosen.term, stack=stack, executor=pool, tasks=workers * TASKS_PER_WORKER, progress=line)  # fmt: skip

    def text() -> str:
        from mowich.report.trade import sweep_text

        return sweep_text(result, style(plain))

    emit(result.to_dict(), text, as_json=as_json, as_csv=as_csv, rows="rows", out=out, inputs={"set": list(settings or ()), "facts_dirs": [str(d) for d in facts or ()]})  # fmt: skip
    if not result.complete:
        print("the points above were done, the others are left out", file=sys.stderr)
        raise typer.Exit(EXIT_INTERRUPTED)
    if not any(row.plan is not None for _, row in result.rows):
        raise typer.Exit(EXIT_INFEASIBLE)
