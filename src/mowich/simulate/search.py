"""The best plans of one system: exact over the space that `plans.enumerate` states.

Memory first, then time, both over all plans at once. Ranked by seconds per token. The winner's interval comes from evaluating the
same formulas with each uncertain fact at its ends (`spread`), and from the residuals of validation.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from mowich.machines.system import System
from mowich.plans.enumerate import legal_plans
from mowich.plans.memory import CATEGORIES, host_memory_B, memory_B
from mowich.plans.plan import Plan, Plans, TrainJob
from mowich.simulate.train import PARTS, StepTime, micro_batches, step_time
from mowich.workloads.model import Model

CHUNK = 32768
"""Rows per evaluation: a working set that stays in cache; results do not depend on it."""


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
    """evaluated: legal plans; feasible: those that fit; best: the top ones by seconds per token; unconstrained: the best if
    memory were free; smallest_B: the least memory that any legal plan needs, by category."""

    evaluated: int
    feasible: int
    seconds: float
    best: tuple[Candidate, ...]
    unconstrained_s_per_token: float
    smallest_B: Mapping[str, float]
    refused: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Every legal plan with what it takes: need_B per device, whether it fits, seconds per token [n each]."""

    plans: Plans
    need_B: NDArray[np.float64]
    fits: NDArray[np.bool_]
    seconds_per_token: NDArray[np.float64]

    @property
    def best(self) -> int | None:
        """The fastest plan that fits; of equals the one with less memory, then the first."""
        first = _fastest(self.seconds_per_token, self.need_B, self.fits, 1)
        return int(first[0]) if len(first) else None


def survey(
    model: Model, system: System, job: TrainJob, *, fixed: Mapping[str, Sequence[int | str]] | None = None
) -> Survey:
    """Memory and time of all legal plans, none left out. Raises UserError (exit 3) when no plan is legal."""
    plans = legal_plans(model, system, job, fixed).plans
    need, fits, _ = memory(model, system, job, plans)
    return Survey(plans=plans, need_B=need, fits=fits, seconds_per_token=step_s_per_token(model, system, job, plans))


def candidate(model: Model, system: System, job: TrainJob, plan: Plan) -> Candidate:
    """One plan evaluated alone."""
    columns = Plans.of([plan])
    found = memory_B(model, system, job, columns, micro_batches(job, columns))
    return _candidate(plan, step_time(model, system, job, columns), 0, {k: float(found[k][0]) for k in CATEGORIES})


def _candidate(plan: Plan, step: StepTime, row: int, memory: Mapping[str, float]) -> Candidate:
    return Candidate(plan=plan, step_s=float(step.total_s[row]), parts={k: float(step.parts[k][row]) for k in PARTS}, memory_B=memory,
                     tokens=float(step.tokens[row]))  # fmt: skip


def search(model: Model, system: System, job: TrainJob, *, fixed: Mapping[str, Sequence[int | str]] | None = None,
           top: int = 1) -> Search:  # fmt: skip
    """Evaluate every legal plan; keep the `top` fastest per token that fit. Ties go to the plan with less memory, then to
    the order of enumeration. Raises UserError (exit 3) when no plan is legal; `best` is empty when none fits.
    """
    start, top = time.perf_counter(), max(top, 1)
    space = legal_plans(model, system, job, fixed)
    plans = space.plans
    need, fits, categories = memory(model, system, job, plans)
    # recomputing only adds time: of each run of plans that differ in it alone, the first that fits is the fastest that fits,
    # and the first of all is the fastest if memory were free
    first = np.zeros_like(fits).reshape(-1, space.num_recompute)
    first[np.arange(len(first)), fits.reshape(first.shape).argmax(axis=1)] = True
    first[:, 0] = True
    # but where activations travel to the host: then recomputing spares the link
    first |= (np.mod(np.floor(plans.offload / 2.0), 2.0) > 0).reshape(first.shape)
    if top > 1:  # those behind the best may recompute more than they must
        first[:] = True
    worth = np.flatnonzero(first)
    least, leaders = np.inf, []
    for lo in range(0, len(worth), CHUNK):
        rows = worth[lo : lo + CHUNK]
        step = step_time(model, system, job, plans.take(rows))
        per_token = step.total_s / step.tokens
        least = min(least, float(per_token.min()))
        leaders += [
            (float(per_token[i]), float(need[rows[i]]), int(rows[i]), step, int(i))
            for i in _fastest(per_token, need[rows], fits[rows], top)
        ]
    leaders = sorted(leaders, key=lambda one: one[:3])[:top]

    def bytes_of(place: int) -> dict[str, float]:
        return {name: float(column[place]) for name, column in categories.items()}

    best = [_candidate(plans.plan(place), step, i, bytes_of(place)) for _, _, place, step, i in leaders]
    return Search(evaluated=len(plans), feasible=int(fits.sum()), seconds=time.perf_counter() - start, best=tuple(best),
                  unconstrained_s_per_token=least, smallest_B=bytes_of(int(np.argmin(need))), refused=space.refused)  # fmt: skip


def _fastest(
    per_token: NDArray[np.float64], need_B: NDArray[np.float64], fits: NDArray[np.bool_], top: int
) -> NDArray[np.intp]:
    """The `top` fastest of those that fit, best first; of equals those with less memory, then the first."""
    runners = np.flatnonzero(fits & np.isfinite(per_token))
    if len(runners) > top:
        limit = np.partition(per_token[runners], top - 1)[top - 1]
        runners = runners[per_token[runners] <= limit]
    return runners[np.lexsort((need_B[runners], per_token[runners]))][:top]


def memory(
    model: Model, system: System, job: TrainJob, plans: Plans
) -> tuple[NDArray[np.float64], NDArray[np.bool_], dict[str, NDArray[np.float64]]]:
    """(bytes per device, whether that and what lives in the host's memory fit, the bytes by category) of every plan, in chunks."""
    need, fits = np.empty(len(plans)), np.empty(len(plans), dtype=bool)
    categories = {name: np.empty(len(plans)) for name in CATEGORIES}
    for lo in range(0, len(plans), CHUNK):
        rows = slice(lo, lo + CHUNK)
        part = plans.rows(lo, lo + CHUNK)
        g = micro_batches(job, part)
        found = memory_B(model, system, job, part, g)
        for name, column in categories.items():
            column[rows] = found[name]
        need[rows] = reduce(np.add, found.values())
        fits[rows] = need[rows] <= system.hbm_usable_B
        if np.any(part.offload > 0):
            fits[rows] &= host_memory_B(model, system, job, part, g) <= system.host_B
    return need, fits, categories


def step_s_per_token(model: Model, system: System, job: TrainJob, plans: Plans) -> NDArray[np.float64]:
    """Seconds per token of every plan, in chunks."""
    out = np.empty(len(plans))
    for lo in range(0, len(plans), CHUNK):
        step = step_time(model, system, job, plans.rows(lo, lo + CHUNK))
        out[lo : lo + CHUNK] = step.total_s / step.tokens
    return out
