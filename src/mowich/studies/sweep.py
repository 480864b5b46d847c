"""`mowich sweep`: the best plan at every point of a grid of models, systems, chips, jobs, plans and facts.

Points are independent, so any `concurrent.futures.Executor` runs them; results come in the order of the grid, whatever
finished first, and the same scenario gives the same rows. `sweep` keeps the rows; `studies.sweep_store` writes them to
a directory and goes on after a kill. `studies.sweep_grid` reads the grid.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import product

from mowich.errors import UserError
from mowich.facts import Facts
from mowich.machines.system import resolve
from mowich.models.model import Model, as_trained
from mowich.plans.plan import TrainJob
from mowich.requests.jobs import CompareRequest
from mowich.serving.search import ServeJob
from mowich.shown import Rows, Shown
from mowich.software.stack import equip
from mowich.studies.compare import Row, solve_system, without_plan
from mowich.studies.heard import note_heard
from mowich.studies.outcome import SystemAsk, resolved
from mowich.studies.serving_plan import ServeAsk, ServeRow, compare_serving, without_deployment
from mowich.studies.sweep_grid import Grid, Point

SweepRow = Row | ServeRow
"""The answer at a point: a row of `compare`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep(Shown):
    """rows: (point, its best plan or why there is none), in the order of the grid; complete: False when interrupted.

    Units: SI (seconds, bytes, joules, watts), dollars; each number an `Estimate` with its 90% range and grade.

    Example:
        >>> import mowich
        >>> text = (
        ...     "{mowich: 1, models: llama-3.1-8b, on: [trn3, h100], chips: [64], seq: 4096,"
        ...     " batch: 256seqs, tokens: 1T, plan: {precision: bf16}}"
        ... )
        >>> mowich.sweep(text).rows()[0]["system"]
        'trn3'
    """

    SCHEMA = "mowich/sweep@1"
    KEYS = "inputs facts_hash complete rows=told_rows"

    inputs: Mapping[str, object]
    facts_hash: str
    rows: Rows[tuple[Point, SweepRow]]
    complete: bool = True

    @property
    def told_rows(self) -> list[dict[str, object]]:
        """Each row of `mowich/compare@1` behind the point that it answers."""
        return [{**point.to_dict(), **row.to_dict()} for point, row in self.rows]


# solving
# -----------------------------------------------------------------------------------------------------------------
@lru_cache(maxsize=64)
def _view(facts: Facts, values: tuple[tuple[str, float], ...]) -> Facts:
    """The facts of a point: neighbouring points have the same, and with them what has been read of them."""
    return facts.with_values(dict(values)) if values else facts


def solve_point(point: Point, grid: Grid, facts: Facts, term: str, stack: str | None) -> SweepRow:
    """The best plan at one point, or the row that says why there is none: the row of `compare` for the same
    question."""
    facts = _view(facts, point.facts)
    fixed = {**grid.fixed, **dict(point.plan)}
    if isinstance(point.job, ServeJob):
        return _served(point, point.job, grid.models[point.model], facts, fixed, term)
    return _trained(point, point.job, as_trained(grid.models[point.model]), facts, fixed, term, stack)


def _served(
    point: Point, job: ServeJob, model: Model, facts: Facts, fixed: Mapping[str, Sequence[int | str]], term: str
) -> ServeRow:
    try:
        found = compare_serving(
            CompareRequest(
                facts=facts,
                model=model,
                systems=(point.system,),
                serve=job,
                chips=point.chips,
                engine=point.engine,
                fixed=fixed,
                term=term,
            )
        )
        return found.rows[0]
    except UserError as error:  # more chips than the fabric joins, a choice that this model cannot have
        unit = resolve(facts, point.system)
        ask = ServeAsk(
            name=point.system, model=model, system=unit, engine=point.engine or "", job=job, facts=facts, term=term
        )
        row = without_deployment(ask, error.line())
        return replace(row, chips_requested=point.chips or unit.chips)


def _trained(
    point: Point,
    job: TrainJob,
    model: Model,
    facts: Facts,
    fixed: Mapping[str, Sequence[int | str]],
    term: str,
    stack: str | None,
) -> Row:
    ask = partial(SystemAsk, name=point.system, stack=stack, model=model, facts=facts, job=job, term=term)
    try:
        system = resolved(facts, point.system, point.chips, stack)
        return solve_system(ask(system_id=system.id, chips=system.chips), fixed=fixed)[0]
    except UserError as error:  # more chips than the fabric joins, a choice that this model cannot have
        unit = equip(facts, point.system, stack=stack)
        row = without_plan(ask(system_id=unit.id, chips=unit.chips), error.line())
        return replace(row, chips_requested=point.chips or unit.chips)


def has_plan(row: SweepRow) -> bool:
    """Whether a row has a plan, and so times."""
    return (row.decode if isinstance(row, ServeRow) else row.plan) is not None


def solve_points(
    points: Sequence[Point], grid: Grid, facts: Facts, term: str, stack: str | None
) -> tuple[list[SweepRow], tuple[str, ...]]:
    """`solve_point` of several points, one task of an executor; and the facts that it asked for, for the ledger."""
    rows = [solve_point(point, grid, facts, term, stack) for point in points]
    return rows, () if facts.ledger is None else tuple(facts.ledger.asked)


def first_points(grid: Grid) -> Iterator[Point]:
    """A point of each model on each system: together they read what the whole grid reads."""
    for model, system in product(grid.models, grid.systems):
        yield replace(grid.point(0), model=model, system=system)


def sweep(
    grid: Grid,
    facts: Facts,
    *,
    term: str = "default",
    stack: str | None = None,
    executor: Executor | None = None,
    tasks: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Sweep:
    """Every point of a grid. executor: any of `concurrent.futures` (None: here, one after the other); tasks: into how
    many the points are cut for it, at best a few per worker; progress: told how many points are done. The rows do not
    depend on any of them.
    """
    done: list[tuple[Point, SweepRow]] = []
    facts = facts.heard(grid.facts) if grid.facts else facts
    complete = True
    points = grid.points
    each = max(1, -(-len(points) // max(1, tasks))) if executor is not None else 1
    pieces = [points[i : i + each] for i in range(0, len(points), each)]
    try:
        for piece, rows in zip(pieces, _run(pieces, grid, facts, term, stack, executor), strict=True):
            done += zip(piece, rows, strict=True)
            if progress:
                progress(len(done))
    except KeyboardInterrupt:
        if not done:
            raise
        complete = False
    inputs = {**grid.inputs, "price_term": term, "stack": stack}
    found = Sweep(inputs=inputs, facts_hash=facts.hash(), rows=Rows(done), complete=complete)
    return note_heard(found, facts, axes=list(grid.facts), question=[replace(grid, inputs={}), term, stack])


def _run(
    pieces: Sequence[Sequence[Point]], grid: Grid, facts: Facts, term: str, stack: str | None, executor: Executor | None
) -> Iterator[list[SweepRow]]:
    """Rows of each piece, in order."""
    if executor is None:
        yield from (solve_points(piece, grid, facts, term, stack)[0] for piece in pieces)
        return
    from mowich.studies.sweep_workers import workers_live

    futures: list[Future[tuple[list[SweepRow], tuple[str, ...]]]] = []
    try:
        with workers_live("--out DIR keeps what is done, and goes on from there"):
            futures += [executor.submit(solve_points, piece, grid, facts, term, stack) for piece in pieces]
            for future in futures:
                rows, asked = future.result()
                if facts.ledger is not None:
                    facts.ledger.note_all(asked)
                yield rows
    finally:
        for future in futures:
            future.cancel()


def digest(data: object) -> str:
    """16 hex digits of plain data, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]
