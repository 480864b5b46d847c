"""The best plans of one system: exact over the space that `plans.enumerate` states.

Memory first, of every plan with its largest legal dp. Then time, of every dp of the plans, those with the least lower
bound (`training.floor`) first, until the bound of the rest is no better than what was found. Ranked by seconds per
token. The winner's interval comes from evaluating the same formulas with each uncertain fact at its ends (`spread`),
and from the residuals of validation.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, reduce

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Columns
from mowich.models.model import Model
from mowich.plans.enumerate import Space, legal_plans
from mowich.plans.memory import CATEGORIES, MEMORY_FIELDS, host_memory_B, memory_B
from mowich.plans.plan import EXPERTS_AGAIN, FEW, Plan, Plans, TrainJob, numbered
from mowich.plans.preference import simplest
from mowich.plans.search import fastest, first_of
from mowich.software.stack import Platform
from mowich.training.floor import (
    _GROUPS,
    Floor,
    floor_of,
    least_layers_s,
    least_of_any,
    of_layers,
    smallest_dp,
    with_traffic,
)
from mowich.training.narrow import contending_dp, scouts
from mowich.training.slices import slice_chips, slices
from mowich.training.stage import SHARED, Through, beside_shared, through
from mowich.training.step import STEP_PARTS, micro_batches_of, step_time

CHUNK = 32768
"""Rows per evaluation: a working set that stays in cache; results do not depend on it."""

_LARGEST, _FIRST, _MOST = 1024, 64, 512
"""Plans that are timed at a time, best bound first: those tried with their largest dp alone, for a first limit; then
with every dp, few while the limit still falls. Results do not depend on it."""

FREE = 512
"""The same, where memory is free."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One plan with its step: seconds, their parts, bytes per device by category, the legal batch in sequences."""

    plan: Plan
    step_s: float
    parts: Mapping[str, float]
    memory_B: Mapping[str, float]
    tokens: float

    @property
    def seconds_per_token(self) -> float:
        return self.step_s / self.tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """evaluated: plans whose memory was evaluated; feasible: those of them that fit at the middle of the range of their
    memory (`plans.memory_range`); best: the top ones by seconds per token, each with its best dp (of plans that differ
    in dp alone the fastest); unconstrained: the best if memory were free; smallest_B: the least memory that any legal
    plan needs, by category; preferred: of the plans within the margin that was asked for the simplest
    (`plans.preference`), the fastest one without a margin."""

    evaluated: int
    feasible: int
    seconds: float
    best: tuple[Candidate, ...]
    unconstrained_s_per_token: float
    smallest_B: Mapping[str, float]
    refused: Mapping[str, int]
    preferred: Candidate | None = None


@dataclass(frozen=True, kw_only=True)
class Whole:
    """The plans of a space, each with its largest legal dp: bytes per device, and whether that fits [n]."""

    model: Model
    system: Platform
    job: TrainJob
    space: Space
    need_B: NDArray[np.float64]
    fits: NDArray[np.bool_]

    @property
    def runs(self) -> tuple[int, int]:
        """Shape of the plans by runs that differ in recompute only."""
        return -1, self.space.num_recompute

    @cached_property
    def through(self) -> Through:
        """What each plan takes through all layers and the head, by GROUPS: row i * num_modes + mode of shapes of the
        i-th kind, which take the same in the same mode. Its `row` is the first one of each shape of the space."""
        space, m, again = self.space, self.space.num_modes, None
        also = [*beside_shared(space.shapes), slice_chips(self.system, space.shapes.devices).astype(np.float64)]
        first, kind = numbered([*(getattr(space.shapes, name) for name in SHARED), *also])
        if space.modes:  # recomputing comes last, of what else takes its time: evaluated once for all ways of it
            again = space.modes["recompute"][: space.num_recompute]
            first = (first[:, None] * m + np.arange(0, m, len(again))).ravel()
        return through(self.model, self.system, self.job, space.take(first), _GROUPS, kind * m, again)

    @cached_property
    def rough(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(seconds through all layers by row of `through`, what a token takes of each at least, by shape): their
        product is no higher than `least_of_any`."""
        shapes = self.space.shapes
        whole = len(slices(self.system)) == 1 and not np.any(shapes.order > 1)
        layers_s = least_layers_s(self.system, self.through, all_parts=whole)
        return layers_s, of_layers(self.model, self.job, shapes)


class Bounds:
    """Seconds per token that no dp of these rows of a space goes below, and their floors. A bound is made where a rough
    one, of the layers alone, does not show that the row is out of the question; what layers take is evaluated once for
    all plans that differ elsewhere."""

    def __init__(self, whole: Whole, rows: NDArray[np.intp]) -> None:
        self.whole, self.rows = whole, rows
        self.bound = np.full(len(rows), np.inf)
        self._at = np.full(len(rows), -1)  # place among the floors that were made
        self._floors: list[Floor] = []
        shape, mode = np.divmod(rows, whole.space.num_modes)
        self._row = whole.through.row[shape] + mode
        layers_s, share = whole.rough
        self._rough = layers_s[self._row] * share[shape]

    def _make(self, places: NDArray[np.intp]) -> None:
        """The bounds at these places."""
        whole, made = self.whole, sum(len(part.stage) for part in self._floors)
        for lo in range(0, len(places), CHUNK):
            part = places[lo : lo + CHUNK]
            plans = whole.space.take(self.rows[part])
            floor = floor_of(whole.model, whole.system, whole.job, plans, replace(whole.through, row=self._row[part]))
            self.bound[part] = least_of_any(whole.system, whole.job, plans, floor)
            self._at[part] = np.arange(made, made + len(part))
            self._floors.append(floor)
            made += len(part)

    def below(self, limit: float) -> NDArray[np.intp]:
        """The places whose bound is below a limit."""
        self._make(np.flatnonzero((self._rough < limit) & (self._at < 0)))
        return np.flatnonzero(self.bound < limit)

    def first(self, most: int) -> NDArray[np.intp]:
        """The places of the `most` least bounds, ascending."""
        if most >= len(self.rows):
            self._make(np.flatnonzero(self._at < 0))
            return first_of(self.bound, most)
        some = first_of(self._rough, most)
        self._make(some[self._at[some] < 0])
        highest = float(self.bound[some].max())  # so many are no higher
        self._make(np.flatnonzero((self._rough <= highest) & (self._at < 0)))
        return first_of(self.bound, most)

    def floor(self, places: NDArray[np.intp]) -> Floor:
        """The floors at places whose bounds were asked for."""
        self._floors = [Floor.joined(self._floors)]
        return self._floors[0].take(self._at[places])


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated(Columns):
    """Plans with what they take: need_B per device, whether it fits, seconds per token [n each]; row: the plan of the
    space that each is, or differs from in a smaller dp."""

    plans: Plans
    row: NDArray[np.intp]
    need_B: NDArray[np.float64]
    fits: NDArray[np.bool_]
    seconds_per_token: NDArray[np.float64]


class Leaders:
    """The fastest dp so far of each plan of a space that fits, and so the `top` fastest plans. margin: share of the
    fastest within which plans are asked for too."""

    def __init__(self, whole: Whole, top: int, margin: float = 0.0) -> None:
        self.margin = margin
        self.seconds_per_token = np.full(len(whole.need_B), np.inf)
        self.need_B = whole.need_B.copy()
        self.dp = np.repeat(whole.space.shapes.dp, whole.space.num_modes)
        self.top = top

    @property
    def limit(self) -> float:
        """Seconds per token that a plan must beat to be among the top, or within the margin."""
        known = self.seconds_per_token[np.isfinite(self.seconds_per_token)]
        if len(known) < self.top:
            return np.inf
        last = float(np.partition(known, self.top - 1)[self.top - 1])
        return max(last, float(known.min()) * (1.0 + self.margin))

    def offer(self, found: Evaluated) -> None:
        """Take those of `found` that are faster, or as fast with less memory."""
        order = np.lexsort((found.need_B, found.seconds_per_token))
        order = order[found.fits[order]]
        rows, first = np.unique(found.row[order], return_index=True)
        at = order[first]
        time, need = found.seconds_per_token[at], found.need_B[at]
        mine = self.seconds_per_token[rows]
        better = (time < mine) | ((time == mine) & (need < self.need_B[rows]))
        rows, at = rows[better], at[better]
        self.seconds_per_token[rows], self.need_B[rows] = found.seconds_per_token[at], found.need_B[at]
        self.dp[rows] = found.plans.dp[at]

    @property
    def rows(self) -> NDArray[np.intp]:
        """The `top` rows, fastest first; of equals those with less memory, then the first."""
        return fastest(self.seconds_per_token, self.need_B, np.isfinite(self.seconds_per_token), self.top)


def candidate(model: Model, system: Platform, job: TrainJob, plan: Plan) -> Candidate:
    """One plan evaluated alone."""
    columns = Plans.of([plan])
    step = step_time(model, system, job, columns)
    found = memory_B(model, system, job, columns, micro_batches_of(job, columns))
    return Candidate(
        plan=plan,
        step_s=float(step.total_s[0]),
        parts={k: float(step.parts[k][0]) for k in STEP_PARTS},
        memory_B={k: float(found[k][0]) for k in CATEGORIES},
        tokens=float(step.tokens[0]),
    )


def search(
    model: Model,
    system: Platform,
    job: TrainJob,
    *,
    fixed: Mapping[str, Sequence[int | str]] | None = None,
    top: int = 1,
    smaller_dp: bool = True,
    margin: float = 0.0,
) -> Search:
    """The `top` plans that are fastest per token of all that are legal and fit. Ties go to the plan with less memory,
    then to the order of enumeration. Raises UserError (exit 3) when no plan is legal; `best` is empty when none fits.

    smaller_dp=False: of each plan its largest legal data-parallel degree alone, which is near the best and far quicker
    where there are many to try. margin: share of the fastest plan's time within which a simpler one is `preferred`.
    """
    start, top = time.perf_counter(), max(top, 1)
    space = legal_plans(model, system, job, fixed)
    whole = _of_space(model, system, job, space if smaller_dp else replace(space, is_dp_free=False))
    space, leaders = whole.space, Leaders(whole, top, margin)
    evaluated, feasible = len(space), int(whole.fits.sum())
    near: list[Evaluated] = []
    free = np.inf
    for found in _contenders(whole, leaders, _worth(whole, every=top > 1)):
        smaller = found.plans.dp < space.dp(found.row)
        evaluated += int(smaller.sum())
        is_free = ~smaller & (np.mod(found.row, space.num_recompute) == 0)
        free = min(free, float(found.seconds_per_token[is_free].min(initial=np.inf)))
        feasible += int((found.fits & smaller).sum())
        if margin:
            near.append(found.take(found.fits & (found.seconds_per_token <= leaders.limit)))
    best = tuple(
        candidate(model, system, job, replace(plan, dp=int(dp)))
        for plan, dp in zip(space.take(leaders.rows), leaders.dp[leaders.rows], strict=True)
    )
    smallest = space.take(np.array([np.argmin(whole.need_B)]))  # fewer ranks need no less memory each
    least_B = memory_B(model, system, job, smallest, micro_batches_of(job, smallest))
    return Search(
        evaluated=evaluated,
        feasible=feasible,
        seconds=time.perf_counter() - start,
        best=best,
        unconstrained_s_per_token=_if_free(whole, free),
        smallest_B={name: float(least_B[name][0]) for name in CATEGORIES},
        refused=whole.space.refused,
        preferred=_simplest(whole, near, best[0], margin) if margin and best else best[0] if best else None,
    )


def _simplest(whole: Whole, near: Sequence[Evaluated], first: Candidate, margin: float) -> Candidate:
    """The simplest of the plans within a share of the first one's time."""
    model, system, job = whole.model, whole.system, whole.job
    plans = Plans.joined([part.plans for part in near])
    seconds, need = (np.concatenate([getattr(part, name) for part in near]) for name in ("seconds_per_token", "need_B"))
    within = np.flatnonzero(seconds <= seconds.min() * (1.0 + margin))
    some = plans.take(within)
    plan = some.plan(simplest(some, system.domain_devices, seconds[within], need[within]))
    return first if plan == first.plan else candidate(model, system, job, plan)


def _of_space(model: Model, system: Platform, job: TrainJob, space: Space) -> Whole:
    """The plans of a space with their memory."""
    if space.modes:
        table = np.empty((len(space.shapes), space.num_modes))
        for lo in range(0, len(table), CHUNK):
            part = space.shapes.rows(lo, lo + CHUNK)
            found = memory_B(model, system, job, part, micro_batches_of(job, part), modes=space.modes)
            table[lo : lo + CHUNK] = reduce(np.add, found.values())
        need = table.ravel()
        fits = need <= system.hbm_usable_B
    else:
        need, fits = memory_of_plans(model, system, job, space.shapes)
    return Whole(model=model, system=system, job=job, space=space, need_B=need, fits=fits)


def _worth(whole: Whole, *, every: bool) -> NDArray[np.bool_]:
    """Which plans fit and can be the fastest (every: or among the first few)."""
    space = whole.space
    if every or np.any(space.modes.get("recompute", space.shapes.recompute) == EXPERTS_AGAIN):
        return whole.fits
    # recomputing only adds time: of each run of plans that differ in it alone, the first that fits is the fastest that
    # fits
    fits = whole.fits.reshape(whole.runs)
    first = np.zeros_like(fits)
    first[np.arange(len(first)), fits.argmax(axis=1)] = True
    # but where activations travel to the host: then recomputing spares the link
    if np.any(space.shapes.offload > 0):
        first |= (np.mod(np.floor(space.shapes.offload / 2.0), 2.0) > 0).reshape(whole.runs)
    return (first & fits).ravel()


def _if_free(whole: Whole, limit: float) -> float:
    """The least seconds per token if memory were free, of plans with their largest dp. limit: that of one of them that
    was timed, inf where none was."""
    bounds = Bounds(whole, np.arange(0, len(whole.need_B), whole.space.num_recompute))
    if np.isfinite(limit):
        left = bounds.below(limit)
        left = left[first_of(bounds.bound[left], FREE)]
    else:
        left = bounds.first(FREE)
    found, timed = limit, np.zeros(len(bounds.rows), dtype=bool)
    while len(left):
        plans = whole.space.take(bounds.rows[left])
        found = min(found, float(step_s_per_token(whole.model, whole.system, whole.job, plans).min()))
        timed[left] = True
        left = bounds.below(found)
        left = left[~timed[left]]
        left = left[first_of(bounds.bound[left], FREE)]
    return found


def _contenders(whole: Whole, leaders: Leaders, wanted: NDArray[np.bool_]) -> Iterator[Evaluated]:
    """Every dp of the plans `wanted` (a mask) that may be among the leaders, or within their margin, in blocks.

    The leaders are kept up to date, so that later blocks are smaller. Where a dp does not fit, plans of its run that
    recompute more and are not wanted themselves take its place.
    """
    model, system, job, space = whole.model, whole.system, whole.job, whole.space
    rows = np.flatnonzero(wanted)
    bounds = Bounds(whole, rows)
    order = bounds.first(_LARGEST if space.is_dp_free else len(rows))  # sorted anew after the first ones
    bound, floor, loaded = bounds.bound, Floor.joined([]), Floor.joined([])
    is_first, at, size = True, 0, _LARGEST
    while at < len(order):
        limit = leaders.limit
        part = order[at : at + size]
        part = part[bound[part] < limit]
        if not len(part):
            return
        start, row = space.take(rows[part]), rows[part]
        known = is_first or not space.is_dp_free  # the plans of the space themselves, whose memory is known
        if known:
            at += size
            yield from _timed(whole, leaders, wanted, start, row, known=True)
        else:
            at, size = at + size, min(2 * size, _MOST)
            own, low = loaded.take(part), smallest_dp(system, job, start, loaded.take(part), limit)
            dp, of, least = contending_dp(model, system, job, start, floor.take(part), own, low, limit)
            for some in _parts(least):
                some = some[least[some] < leaders.limit]  # it falls from part to part
                plans = replace(start.take(of[some]), dp=dp[some])
                yield from _timed(whole, leaders, wanted, plans, row[of[some]], known=False)
        if is_first and space.is_dp_free:  # with a limit, traffic between the ranks that are left counts
            limit = leaders.limit
            left = bounds.below(limit)
            rows, floor = rows[left], bounds.floor(left)
            start = space.take(rows)
            loaded = with_traffic(
                model, system, job, start, floor, np.maximum(1.0, smallest_dp(system, job, start, floor, limit))
            )
            bound = least_of_any(system, job, start, loaded)
            order = np.argsort(bound, kind="stable")
            at, size = 0, _FIRST
            part = order[:_LARGEST]
            start, row = space.take(rows[part]), rows[part]
            dp, of = scouts(system, job, start, smallest_dp(system, job, start, loaded.take(part), limit))
            yield from _timed(whole, leaders, wanted, replace(start.take(of), dp=dp), row[of], known=False)
        is_first = False


def _parts(least: NDArray[np.float64]) -> list[NDArray[np.intp]]:
    """Places in the order of these bounds, few at first: where there are many, the first ones show that most of the
    rest are out of the question."""
    order = np.argsort(least, kind="stable")
    if len(order) <= 8 * _MOST:
        return [order]
    ends = [_LARGEST << k for k in range(len(order).bit_length()) if _LARGEST << k < len(order)]
    return np.split(order, ends)


def _timed(
    whole: Whole, leaders: Leaders, wanted: NDArray[np.bool_], plans: Plans, row: NDArray[np.intp], *, known: bool
) -> Iterator[Evaluated]:
    """Time these plans and offer them to the leaders. row: the plan of the space that each is or comes from; known: it
    is that one, whose memory is known."""
    model, system, job, space = whole.model, whole.system, whole.job, whole.space
    while len(row):
        need, fits = (whole.need_B[row], whole.fits[row]) if known else memory_of_plans(model, system, job, plans)
        per_token = np.full(len(row), np.inf)
        fitting = np.flatnonzero(fits)
        per_token[fitting] = step_s_per_token(model, system, job, plans.take(fitting))
        found = Evaluated(plans=plans, row=row, need_B=need, fits=fits, seconds_per_token=per_token)
        leaders.offer(found)
        yield found
        again = ~fits & (np.mod(row + 1, space.num_recompute) > 0)
        again[again] = ~wanted[row[again] + 1]
        row = row[again] + 1
        plans, known = replace(space.take(row), dp=plans.dp[again]), False


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey(Evaluated):
    """All plans of a space, each with its largest legal dp, then the smaller degrees that may be the best, or as near
    to it as was asked."""

    whole: Whole

    @property
    def best(self) -> int | None:
        """The fastest plan that fits; of equals the one with less memory, then the first."""
        first = fastest(self.seconds_per_token, self.need_B, self.fits, 1)
        return int(first[0]) if len(first) else None

    def best_of(self, name: str, value: float) -> tuple[Plan, float, float] | None:
        """(plan, bytes per device, seconds per token) of the fastest plan that fits with that value of a field; None
        where none fits."""
        leaders = Leaders(self.whole, 1)
        whole = getattr(self.plans, name)[: len(self.whole.need_B)]
        for _ in _contenders(self.whole, leaders, self.whole.fits & (whole == value)):
            pass
        for row in leaders.rows:
            plan = replace(self.plans.plan(int(row)), dp=int(leaders.dp[row]))
            return plan, float(leaders.need_B[row]), float(leaders.seconds_per_token[row])
        return None


def survey(
    model: Model,
    system: Platform,
    job: TrainJob,
    *,
    fixed: Mapping[str, Sequence[int | str]] | None = None,
    within: float = 0.0,
) -> Survey:
    """Memory and time of all plans of the space, with every dp that may be within that share of the best. Raises
    UserError (exit 3) when no plan is legal."""
    whole = _of_space(model, system, job, legal_plans(model, system, job, fixed))
    plans = whole.space.plans
    parts = [
        Evaluated(
            plans=plans,
            row=np.arange(len(plans)),
            need_B=whole.need_B,
            fits=whole.fits,
            seconds_per_token=step_s_per_token(model, system, job, plans),
        )
    ]
    for found in _contenders(whole, Leaders(whole, 1, within), whole.fits):
        parts.append(found.take(found.plans.dp < plans.dp[found.row]))
    every = Evaluated.joined(parts)
    return Survey(whole=whole, **{f.name: getattr(every, f.name) for f in fields(every)})


def memory_of_plans(
    model: Model, system: Platform, job: TrainJob, plans: Plans
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(bytes per device, whether that and what lives in the host's memory fit) of every plan, in chunks."""
    if len(plans) > FEW:
        distinct, kind = plans.unique(*MEMORY_FIELDS)
        need, fits = _memory(model, system, job, distinct)
        return need[kind], fits[kind]
    return _memory(model, system, job, plans)


def _memory(
    model: Model, system: Platform, job: TrainJob, plans: Plans
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """`memory_of_plans`, of each row by itself."""
    need, fits = np.empty(len(plans)), np.empty(len(plans), dtype=bool)
    for lo in range(0, len(plans), CHUNK):
        rows = slice(lo, lo + CHUNK)
        part = plans.rows(lo, lo + CHUNK)
        g = micro_batches_of(job, part)
        found = memory_B(model, system, job, part, g)
        need[rows] = reduce(np.add, found.values())
        fits[rows] = need[rows] <= system.hbm_usable_B
        if np.any(part.offload > 0):
            fits[rows] &= host_memory_B(model, system, job, part, g) <= system.host_B
    return need, fits


def step_s_per_token(model: Model, system: Platform, job: TrainJob, plans: Plans) -> NDArray[np.float64]:
    """Seconds per token of every plan, in chunks."""
    out = np.empty(len(plans))
    for lo in range(0, len(plans), CHUNK):
        step = step_time(model, system, job, plans.rows(lo, lo + CHUNK))
        out[lo : lo + CHUNK] = step.total_s / step.tokens
    return out
