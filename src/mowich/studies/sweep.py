"""`mowich sweep SCENARIO`: the best plan at every point of a grid of models, systems, chips, sequence lengths, batches,
plans and facts.

Points are independent, so any `concurrent.futures.Executor` runs them; results come in the order of the grid, whatever
finished first, and the same scenario gives the same rows. `sweep` keeps the rows; `studies.sweep_store` writes them to
a directory and goes on after a kill. The scenario names the values of each axis, as a list, "64,128", or a range:
"64..4096:x2" doubles, "4 TB/s..6 TB/s:5" takes five values evenly spaced, both ends included.

    mowich: 1
    models: [deepseek-v3, llama-3.1-405b]
    on: [trn3, gb300]
    chips: 1024..16384:x2
    seq: [4096, 8192]
    batch: 64M              # tokens, or 16384seqs
    tokens: 15T
    plan: {tp: "4,8"}       # optional: choices that hold at every point
    vary:                   # optional: more axes, of plan fields and of facts
      plan.pp: 1,2,4
      chips.trainium3.memory.hbm_bandwidth: 4 TB/s..6 TB/s:5
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import product
from pathlib import Path
from typing import TypeVar

from mowich import models, scenario
from mowich.errors import UserError, unknown
from mowich.facts import Facts
from mowich.models.model import Model, as_trained
from mowich.plans.plan import TrainJob, parse_fixed
from mowich.requests import jobs as asked
from mowich.requests.settings import fact_path, read_value
from mowich.shown import Rows, Shown
from mowich.software.stack import equip
from mowich.studies.compare import Row, solve_system, without_plan
from mowich.studies.heard import note_heard
from mowich.studies.outcome import SystemAsk, resolved
from mowich.units import parse_batch, show_count

MAX_POINTS = 100_000
"""Points of a sweep whose rows are kept in memory."""

MAX_STORED = 10_000_000
"""Points of a sweep that is written to a directory: above it a scenario is more likely a mistake than a wish."""

_AXES = ("models", "on", "chips", "seq", "batch", "tokens")
"""Axes that every sweep has; `vary` may name them too, then it replaces the scenario's values."""

_Choice = tuple[int | str, ...]

T = TypeVar("T")
W = TypeVar("W")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One point of the grid; chips None: the size in the system's name, or one unit. plan: choices of varied plan
    fields; facts: (path, SI value)."""

    model: str
    system: str
    chips: int | None
    job: TrainJob
    plan: tuple[tuple[str, _Choice], ...] = ()
    facts: tuple[tuple[str, float], ...] = ()

    def to_dict(self) -> dict[str, object]:
        """What a row of a sweep says before its answer."""
        out: dict[str, object] = {
            "model": self.model,
            "seq": self.job.seq,
            "batch_seqs": self.job.batch_seqs,
            "tokens": self.job.tokens,
        }
        return {**out, "set": self.settings()} if self.settings() else out

    def settings(self) -> dict[str, int | str | float]:
        """What varies beside the model, the system and the job, by name."""
        return {
            **dict(self.facts),
            **{f"plan.{k}": v[0] if len(v) == 1 else ",".join(map(str, v)) for k, v in self.plan},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A sweep as read from its scenario: the product of its axes, facts outermost and plans innermost. fixed: choices
    of plan fields that hold everywhere;
    models: name -> what it names, so that a worker elsewhere needs no file."""

    models: Mapping[str, Model]
    systems: tuple[str, ...]
    chips: tuple[int | None, ...]
    jobs: tuple[TrainJob, ...]
    plans: Mapping[str, tuple[_Choice, ...]]
    facts: Mapping[str, tuple[float, ...]]
    fixed: Mapping[str, Sequence[int | str]]
    inputs: Mapping[str, object]

    def _axes(self) -> tuple[Sequence[object], ...]:
        return (*self.facts.values(), tuple(self.models), self.systems, self.chips, self.jobs, *self.plans.values())

    def __len__(self) -> int:
        return math.prod(map(len, self._axes()))

    def point(self, index: int) -> Point:
        """The point at a place of the grid, 0 .. len - 1."""
        places: list[int] = []
        for axis in reversed(self._axes()):
            index, place = divmod(index, len(axis))
            places.append(place)
        places.reverse()
        n = len(self.facts)
        model, system, chips, job = places[n : n + 4]
        return Point(
            model=tuple(self.models)[model],
            system=self.systems[system],
            chips=self.chips[chips],
            job=self.jobs[job],
            plan=tuple((k, v[i]) for (k, v), i in zip(self.plans.items(), places[n + 4 :], strict=True)),
            facts=tuple((k, v[i]) for (k, v), i in zip(self.facts.items(), places[:n], strict=True)),
        )

    @property
    def points(self) -> tuple[Point, ...]:
        return tuple(map(self.point, range(len(self))))


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

    inputs: Mapping[str, object]
    facts_hash: str
    rows: Rows[tuple[Point, Row]]
    complete: bool = True

    def to_dict(self) -> dict[str, object]:
        """The `mowich/sweep@1` contract: a row of `mowich/compare@1` behind the point that it answers."""
        rows = [{**point.to_dict(), **row.to_dict()} for point, row in self.rows]
        return {
            "schema": "mowich/sweep@1",
            "inputs": dict(self.inputs),
            "facts_hash": self.facts_hash,
            "complete": self.complete,
            "rows": rows,
        }


# reading
# -----------------------------------------------------------------------------------------------------------------
_RANGE = re.compile(r"^(.+?)\s*\.\.\s*(.+?)\s*:\s*(x?)\s*([\d.]+)$")
_END = re.compile(r"^(\$?\s*)([+-]?[\d._]+(?:[eE][+-]?\d+)?)(.*)$")
MAX_RANGE = 100_000
"""Values of one range."""


def values_of(text: str) -> list[str]:
    """Values of a list or a range, as text with their units.

    >>> values_of("1,2, 4"), values_of("64..512:x2"), values_of("4 TB/s..5 TB/s:3")
    (['1', '2', '4'], ['64', '128', '256', '512'], ['4 TB/s', '4.5 TB/s', '5 TB/s'])
    """
    form = "64..4096:x2 (times 2), 4 TB/s..6 TB/s:5 (5 values), or values with commas"
    if ".." not in text:
        words = [word.strip() for word in text.split(",")]
        if not all(words):
            raise UserError("an empty value", given=text, allowed=form)
        return words
    match = _RANGE.match(text.strip())
    ends = [_END.match(match[i].strip()) for i in (1, 2)] if match else []
    if match is None or not all(ends) or (ends[0][1], ends[0][3]) != (ends[1][1], ends[1][3]):  # type: ignore[index]
        raise UserError("not a range", given=text, allowed=form, fix="both ends have the same unit" if match else None)
    first, last = ends
    assert first is not None
    assert last is not None
    try:
        low, high, by = float(first[2]), float(last[2]), float(match[4])
    except ValueError:
        raise UserError("not a range", given=text, allowed=form) from None
    if not all(map(math.isfinite, (low, high, by))):
        raise UserError("a number is too large", given=text, allowed=form)
    if match[3]:
        count = math.floor(math.log(high / low) / math.log(by) + 1e-9) + 1 if 0 < low <= high and by > 1 else 0
    else:
        count = int(by) if by == int(by) and (low < high or by == 1) else 0
    if not 1 <= count <= MAX_RANGE:
        raise UserError("an empty range" if not count else f"more than {MAX_RANGE} values", given=text, allowed=form)
    if match[3]:
        numbers = [low * by**i for i in range(count)]
    else:
        numbers = [low + (high - low) * i / max(1, count - 1) for i in range(count)]
    return [f"{first[1]}{number:.12g}{first[3]}" for number in numbers]


class _Axis:
    """The values of one axis, where they are written, and a way to complain there."""

    def __init__(self, root: scenario.Node, node: scenario.Node, key: str, given: str | None) -> None:
        self.key, self._node, self._root, self._given = key, node, root, given
        written = node.raw(key)
        raw = written if given is None else given
        self.words: list[object] = []
        for value in raw if isinstance(raw, list) else [] if raw is None else [raw]:
            if isinstance(value, list | Mapping):
                self.problem(UserError("not a value", given=value, allowed="words, numbers and ranges in one list"))
            elif isinstance(value, str) and (".." in value or given is not None or node is not root):
                self.words += self.read(values_of, value) or ()
            else:
                self.words.append(value)
        if raw == [] or (raw is None and key in node):
            self.problem(UserError("names nothing", allowed="a value or a list of values"))

    def problem(self, error: UserError) -> None:
        if self._given is None:
            self._node.problem(self.key, error.what, given=error.given, allowed=error.allowed, fix=error.fix)
        else:
            self._root.report(
                UserError(error.what, field=f"vary {self.key}", given=error.given, allowed=error.allowed, fix=error.fix)
            )

    def read(self, reader: Callable[[W], T], word: W) -> T | None:
        """reader(word), or None with its problem said."""
        try:
            return reader(word)
        except UserError as error:
            self.problem(error)
            return None

    def all(self, reader: Callable[[object], T]) -> list[T]:
        """Every value that can be read, each once."""
        return list(dict.fromkeys(x for x in (self.read(reader, w) for w in self.words) if x is not None))


class _Axes:
    """The axes of a scenario file: each stands at its top or under `vary`, or was given beside the file."""

    def __init__(self, root: scenario.Node, given: Mapping[str, str]) -> None:
        self.root, self._given = root, given
        self._vary = root.node("vary")

    def axis(self, key: str) -> _Axis:
        return _Axis(self.root, self._vary if key in self._vary else self.root, key, self._given.get(key))

    def others(self) -> list[str]:
        """Keys that are varied and are no axis of the question: fields of the plan and facts."""
        return [key for key in dict.fromkeys((*self._vary, *self._given)) if key not in _AXES]


def read_sweep(
    path: str | Path,
    facts: Facts,
    *,
    vary: Mapping[str, str] | None = None,
    most: int = MAX_POINTS,
    stack: str | None = None,
) -> Grid:
    """A scenario file, and axes given beside it (name -> "1,2,4" or a range) -> its grid. Raises UserError with every
    mistake and its line."""
    root = scenario.read_scenario(path)
    given = dict(vary or {})
    root.need(*(key for key in _AXES if key not in given and key != "chips"))
    axes = _Axes(root, given)
    named, systems, counts, lengths, batches, amounts = map(axes.axis, _AXES)
    loaded = {str(w): m for w in named.words if (m := named.read(lambda w: models.load_model(str(w)), w)) is not None}
    names = systems.all(lambda w: (equip(facts, str(w), stack=stack), str(w))[1])
    sizes: tuple[int | None, ...] = tuple(counts.all(asked.CHIPS.parse)) or (None,)
    tokens = amounts.all(asked.TOKENS.parse)
    jobs = _jobs(lengths, batches, amounts, tokens)
    fixed = _fixed_fields(root)
    plans, values = _varied(axes, facts, fixed)
    root.done()
    own = {word: model.inputs() for word, model in loaded.items() if model.config is not None}
    inputs: dict[str, object] = {
        "scenario": str(path),
        "models": list(loaded),
        **({"model_inputs": own} if own else {}),
        "systems": list(names),
        "chips": list(sizes),
        "seq": list(dict.fromkeys(j.seq for j in jobs)),
        "batch": [str(w) for w in dict.fromkeys(batches.words)],
        "tokens": tokens[0] if len(tokens) == 1 else tokens,
        "fixed": {k: list(v) for k, v in fixed.items()},
        "vary": {
            **{f"plan.{k}": [",".join(map(str, c)) for c in v] for k, v in plans.items()},
            **{k: list(v) for k, v in values.items()},
        },
    }
    grid = Grid(
        models=loaded,
        systems=tuple(names),
        chips=sizes,
        jobs=jobs,
        plans=plans,
        facts=values,
        fixed=fixed,
        inputs=inputs,
    )
    if len(grid) > most:
        fix = "write them to a directory with --out DIR" if most == MAX_POINTS and len(grid) <= MAX_STORED else None
        root.problem(None, f"{len(grid)} points are more than a sweep takes ({most})", fix=fix)
    root.stop()
    return grid


def _jobs(lengths: _Axis, batches: _Axis, amounts: _Axis, tokens: Sequence[float]) -> tuple[TrainJob, ...]:
    """The training jobs of a sweep: each amount of tokens with each length and batch. tokens: what `amounts` holds."""
    jobs = []
    sequences = lengths.all(lambda w: int(asked.SEQ.parse(w)))
    for total, seq, word in product(tokens, sequences, dict.fromkeys(batches.words)):
        read = batches.read(partial(parse_batch, seq=seq), word)
        if read is None:
            continue
        batch, within = read
        if total < batch * seq:
            amounts.problem(UserError(f"{show_count(total)} are less than one step of {batch * seq:.6g}"))
        jobs.append(TrainJob(tokens=total, seq=seq, batch_seqs=batch, batch_tolerance=within))
    return tuple(jobs)


def _fixed_fields(root: scenario.Node) -> dict[str, Sequence[int | str]]:
    """Fields of the plan that are the same at every point."""
    fixed: dict[str, Sequence[int | str]] = {}
    choices = root.node("plan")
    for key in choices:
        value = choices.raw(key)
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        try:
            fixed |= parse_fixed({key: text})
        except UserError as error:
            choices.problem(key, error.what, given=error.given, allowed=error.allowed, fix=error.fix)
    return fixed


def _varied(
    axes: _Axes, facts: Facts, fixed: Mapping[str, Sequence[int | str]]
) -> tuple[dict[str, tuple[_Choice, ...]], dict[str, tuple[float, ...]]]:
    """(field of the plan -> its choices, path of a fact -> its values) that are varied. fixed: fields that may not
    be."""
    plans: dict[str, tuple[_Choice, ...]] = {}
    values: dict[str, tuple[float, ...]] = {}
    known = facts.silent()  # what is varied is not read thereby
    for key in axes.others():
        one = axes.axis(key)
        if key.startswith("plan."):
            field = key.removeprefix("plan.")
            plans[field] = tuple(one.all(partial(_choice, field)))
            if field in fixed:
                one.problem(UserError(f"plan.{field} is both varied and fixed", fix="leave one of them out"))
        elif "." not in key:
            one.problem(unknown("axis", key, _AXES))
        else:
            path_of = one.read(lambda w: fact_path(known, w, where=""), key)
            if path_of is not None:
                values[path_of] = tuple(one.all(partial(_fact_value, known, key)))
    return plans, values


def _choice(field: str, word: object) -> _Choice:
    return parse_fixed({field: str(word)})[field]


def _fact_value(facts: Facts, key: str, word: object) -> float:
    value = read_value(facts, key, str(word), where="")[1]
    if isinstance(value, str):
        raise UserError("this fact is a word: a sweep varies numbers", fix=f"--set {key}={value} holds for all points")
    return value


# solving
# -----------------------------------------------------------------------------------------------------------------
@lru_cache(maxsize=64)
def _view(facts: Facts, values: tuple[tuple[str, float], ...]) -> Facts:
    """The facts of a point: neighbouring points have the same, and with them what has been read of them."""
    return facts.with_values(dict(values)) if values else facts


def solve_point(point: Point, grid: Grid, facts: Facts, term: str, stack: str | None) -> Row:
    """The best plan at one point, or the row that says why there is none."""
    model = as_trained(grid.models[point.model])
    facts = _view(facts, point.facts)
    fixed = {**grid.fixed, **dict(point.plan)}
    try:
        system = resolved(facts, point.system, point.chips, stack)
        ask = SystemAsk(
            name=point.system,
            system_id=system.id,
            chips=system.chips,
            stack=stack,
            model=model,
            facts=facts,
            job=point.job,
            term=term,
        )
        return solve_system(ask, fixed=fixed)[0]
    except UserError as error:  # more chips than the fabric joins, a choice that this model cannot have
        unit = equip(facts, point.system, stack=stack)
        ask = SystemAsk(
            name=point.system,
            system_id=unit.id,
            chips=unit.chips,
            stack=stack,
            model=model,
            facts=facts,
            job=point.job,
            term=term,
        )
        row = without_plan(ask, error.line())
        return replace(row, chips_requested=point.chips or unit.chips)


def solve_points(
    points: Sequence[Point], grid: Grid, facts: Facts, term: str, stack: str | None
) -> tuple[list[Row], tuple[str, ...]]:
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
    done: list[tuple[Point, Row]] = []
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
) -> Iterator[list[Row]]:
    """Rows of each piece, in order."""
    if executor is None:
        yield from (solve_points(piece, grid, facts, term, stack)[0] for piece in pieces)
        return
    from mowich.studies.sweep_workers import workers_live

    futures: list[Future[tuple[list[Row], tuple[str, ...]]]] = []
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


def axes(rows: Iterable[tuple[Point, Row]]) -> list[str]:
    """Which axes take more than one value, for a table."""
    values = [(p.model, p.job.seq, p.job.batch_seqs, p.job.tokens) for p, _ in rows]
    return [name for i, name in enumerate(("model", "seq", "batch", "tokens")) if len({v[i] for v in values}) > 1]


def digest(data: object) -> str:
    """16 hex digits of plain data, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]
