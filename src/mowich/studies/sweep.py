"""`mowich sweep SCENARIO`: the best plan at every point of a grid of models, systems, chips, sequence lengths and batches.

Points are independent, so any `concurrent.futures.Executor` runs them; results come in the order of the grid, whatever finished first, and the same
scenario gives the same rows. The scenario names the values of each axis:

    mowich: 1
    models: [deepseek-v3, llama-3.1-405b]
    on: [trn3, gb300]
    chips: [1024, 16384]
    seq: [4096, 8192]
    batch: 64M              # tokens, or 16384seqs; may be a list
    tokens: 15T
    plan: {tp: "4,8"}       # optional: choices that hold at every point
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from mowich import scenario, workloads
from mowich.errors import UserError
from mowich.facts import Facts
from mowich.machines.system import resolve
from mowich.plans.plan import TrainJob, parse_fixed
from mowich.studies.compare import Ask, Row, solve, without_plan
from mowich.units import parse_batch
from mowich.workloads.model import as_trained

MAX_POINTS = 100_000
"""Points of one sweep: above it a scenario is more likely a mistake than a wish."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One point of the grid; chips None: the size in the system's name, or one unit."""

    model: str
    system: str
    chips: int | None
    job: TrainJob


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A sweep as read from its scenario. fixed: choices of plan fields that hold everywhere."""

    points: tuple[Point, ...]
    fixed: Mapping[str, Sequence[int | str]]
    inputs: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """rows: (point, its best plan or why there is none), in the order of the grid; complete: False when interrupted."""

    inputs: Mapping[str, object]
    facts_hash: str
    rows: tuple[tuple[Point, Row], ...]
    complete: bool = True

    def to_dict(self) -> dict[str, object]:
        """The `mowich/sweep@1` contract: a row of `mowich/compare@1` behind the point that it answers."""
        rows = [
            {"model": point.model, "seq": point.job.seq, "batch_seqs": point.job.batch_seqs, "tokens": point.job.tokens, **row.to_dict()}
            for point, row in self.rows
        ]  # fmt: skip
        return {"schema": "mowich/sweep@1", "inputs": dict(self.inputs), "facts_hash": self.facts_hash, "complete": self.complete, "rows": rows}  # fmt: skip


def read(path: str | Path, facts: Facts) -> Grid:
    """A scenario file -> its grid. Raises UserError with every mistake in the file and its line."""
    root = scenario.read(path)
    root.need("models", "on", "seq", "batch", "tokens")
    models, systems = root.names("models"), root.names("on")
    for key, words, check in (
        ("models", models, lambda w: workloads.load(w)),
        ("on", systems, lambda w: resolve(facts, w)),
    ):
        if not words and key in root:
            root.problem(key, "names nothing", allowed="a name or a list of names")
        for word in words:
            try:
                check(word)
            except UserError as error:
                root.problem(key, error.what, given=error.given, allowed=error.allowed, fix=error.fix)
    chips = _counts(root, "chips") or [None]
    lengths = _counts(root, "seq")
    tokens = root.count("tokens")
    jobs: list[TrainJob] = []
    for seq, word in product(lengths, root.names("batch")):
        try:
            batch = parse_batch(word, seq or 1)
        except UserError as error:
            root.problem("batch", error.what, given=error.given, allowed=error.allowed, fix=error.fix)
            continue
        if tokens and tokens < batch * (seq or 1):
            root.problem("tokens", f"are less than one step of {batch * (seq or 1):.6g}", given=root.raw("tokens"))
        jobs.append(TrainJob(tokens=tokens, seq=int(seq or 1), batch_seqs=batch))
    fixed: dict[str, tuple[int | str, ...]] = {}
    choices = root.node("plan") if "plan" in root else None
    for key in choices.keys() if choices is not None else ():
        assert choices is not None
        value = choices.raw(key)
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        try:
            fixed |= parse_fixed({key: text})
        except UserError as error:
            choices.problem(key, error.what, given=error.given, allowed=error.allowed, fix=error.fix)
    root.done()
    size = len(models) * len(systems) * len(chips) * len(jobs)
    if size > MAX_POINTS:
        root.problem(None, f"{size} points are more than a sweep takes ({MAX_POINTS})")
    root.stop()
    points = tuple(
        Point(model=model, system=system, chips=count, job=job)
        for model, system, count, job in product(models, systems, chips, jobs)
    )
    inputs = {"scenario": str(path), "models": list(models), "systems": list(systems), "chips": chips, "seq": lengths,
              "batch": list(root.names("batch")), "tokens": tokens, "fixed": {k: list(v) for k, v in fixed.items()}}  # fmt: skip
    return Grid(points=points, fixed=fixed, inputs=inputs)


def _counts(root: scenario.Node, key: str) -> list[int | None]:
    """A count or a list of counts."""
    value = root.raw(key)
    values = value if isinstance(value, list) else [] if value is None else [value]
    return [int(root.count_of(key, v, 1)) for v in values]


def solve_point(point: Point, grid: Grid, facts: Facts, term: str, stack: str | None) -> Row:
    """The best plan at one point, or the row that says why there is none."""
    model = as_trained(workloads.load(point.model))
    try:
        system = resolve(facts, point.system, chips=point.chips, stack=stack)
        ask = Ask(name=point.system, system_id=system.id, chips=system.chips, stack=stack, model=model, facts=facts, job=point.job, term=term)  # fmt: skip
        return solve(ask, fixed=grid.fixed)[0]
    except UserError as error:  # more chips than the fabric joins, a choice that this model cannot have
        unit = resolve(facts, point.system, stack=stack)
        ask = Ask(name=point.system, system_id=unit.id, chips=unit.chips, stack=stack, model=model, facts=facts, job=point.job, term=term)  # fmt: skip
        return without_plan(ask, error.line())


def solve_points(points: Sequence[Point], grid: Grid, facts: Facts, term: str, stack: str | None) -> list[Row]:
    """`solve_point` of several points: one task of an executor."""
    return [solve_point(point, grid, facts, term, stack) for point in points]


def sweep(grid: Grid, facts: Facts, *, term: str = "default", stack: str | None = None, executor: Executor | None = None, tasks: int = 1,
          progress: Callable[[str], None] | None = None) -> Sweep:  # fmt: skip
    """Every point of a grid. executor: any of `concurrent.futures` (None: here, one after the other); tasks: into how many the points are cut for it,
    at best a few per worker. The rows do not depend on either.
    """
    done: list[tuple[Point, Row]] = []
    complete = True
    each = max(1, -(-len(grid.points) // max(1, tasks))) if executor is not None else 1
    pieces = [grid.points[i : i + each] for i in range(0, len(grid.points), each)]
    try:
        for piece, rows in zip(pieces, _run(pieces, grid, facts, term, stack, executor), strict=True):
            done += zip(piece, rows, strict=True)
            if progress:
                progress(f"{len(done)} of {len(grid.points)} points")
    except KeyboardInterrupt:
        if not done:
            raise
        complete = False
    return Sweep(inputs={**grid.inputs, "price_term": term, "stack": stack}, facts_hash=facts.hash(), rows=tuple(done), complete=complete)  # fmt: skip


def _run(pieces: Sequence[Sequence[Point]], grid: Grid, facts: Facts, term: str, stack: str | None, executor: Executor | None) -> Iterator[list[Row]]:  # fmt: skip
    """Rows of each piece, in order."""
    if executor is None:
        yield from (solve_points(piece, grid, facts, term, stack) for piece in pieces)
        return
    futures = [executor.submit(solve_points, piece, grid, facts, term, stack) for piece in pieces]
    try:
        for future in futures:
            yield future.result()
    finally:
        for future in futures:
            future.cancel()


def axes(rows: Iterable[tuple[Point, Row]]) -> list[str]:
    """Which axes take more than one value, for a table."""
    values = [(p.model, p.job.seq, p.job.batch_seqs) for p, _ in rows]
    return [name for i, name in enumerate(("model", "seq", "batch")) if len({v[i] for v in values}) > 1]
