"""Chooses among plans that the model cannot tell apart: the simplest wins.

Predicted times of two plans of one job share most of their error. The rest decides the order of close plans;
`training.residuals.plan_margin` says how close, with its evidence. The rules of simplicity are here, for training and
for serving. Systems are still compared by their fastest plans.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Floats
from mowich.facts import Facts
from mowich.plans.plan import EXPERTS_AGAIN, Plan, Plans, ServePlan
from mowich.plans.search import by_time
from mowich.shown import Keyed

PLAN_MARGIN = "training.residuals.plan_margin"
"""The fact: share within which predicted times cannot be told apart."""

_DEGREES = ("tp", "pp", "cp", "ep", "etp", "dp", "micro_batch", "vpp")
_RECOMPUTED = np.array([0.0, 1.0, 3.0, 2.0])
"""Rank of each way of recomputing, by how much it repeats: none, selective, full, experts."""


def margin(facts: Facts) -> float:
    """Share of the fastest plan's time within which plans are not told apart."""
    return facts.number(PLAN_MARGIN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preferred(Keyed):
    """The first plan of an answer is not the fastest. Holds the fastest plan in words, and the share of its time (for
    serving, of the first one's rate) by which the first is slower, and the margin."""

    fastest: str
    slower: float
    within: float


def is_odd(degree: Floats) -> NDArray[np.bool_]:
    """Whether a degree is no power of two.

    >>> is_odd(np.array([1.0, 2.0, 3.0, 64.0, 96.0])).tolist()
    [False, False, True, False, True]
    """
    whole = np.asarray(degree).astype(np.int64)
    return np.asarray((whole & (whole - 1)) != 0)


def complexity(p: Plans, domain: int) -> list[Floats]:
    """How far training plans are from the usual, the weightiest reason first, columns [n]: 0 is the simplest of each.

    Offload to the host; tensor ranks beyond the scale-up `domain` (devices); degrees that are no powers of two; kinds
    of parallelism, with orders of ranks, splits of layers and exchanges that are not the default; amount of recompute;
    schedules beyond 1F1B, and chunks of a stage; collectives that could overlap but wait.
    """
    zero = np.zeros(len(p))
    kinds = sum((np.asarray(getattr(p, name) > 1, dtype=np.float64) for name in ("tp", "pp", "cp", "ep", "etp")), zero)
    kinds = kinds + (p.order > 0) + (p.split > 0) + (p.pp_scatter > 0)
    odd = sum((is_odd(getattr(p, name)).astype(np.float64) for name in _DEGREES), zero)
    away = np.where((p.tp > 1) & (p.tp * p.stride("tp") > domain), 1.0, 0.0)
    assert _RECOMPUTED[EXPERTS_AGAIN] == 2.0
    waits = (p.tp_overlap == 0) * 1.0 + (p.dp_overlap == 0)
    return [
        np.asarray(p.offload > 0, dtype=np.float64),
        away,
        odd,
        kinds,
        _RECOMPUTED[p.recompute.astype(np.intp)],
        p.schedule,
        p.vpp,
        waits,
    ]


def simplest(p: Plans, domain: int, seconds: Floats, need_B: Floats) -> int:
    """The plan to take among training plans that cannot be told apart: of the simplest the fastest, then the one with
    less memory, then the first."""
    kinds = np.stack(np.broadcast_arrays(*complexity(p, domain)))
    alike = np.flatnonzero((kinds[:, np.lexsort(kinds[::-1])[0]] == kinds.T).all(axis=1))
    return int(alike[by_time(seconds[alike], need_B[alike])[0]])


def worker_complexity(decode: ServePlan, prefill: ServePlan | None) -> tuple[int, int, int]:
    """How far a serving plan is from the usual; prefill: of workers of its own, None where workers do both. Degrees
    that are no powers of two; kinds of parallelism, workers of their own counted as one more; pipeline stages.
    Attention data parallelism comes with experts spread over its ranks: the two are one kind.

    >>> worker_complexity(ServePlan(tp=8), None) < worker_complexity(ServePlan(tp=4, pp=2), None)
    True
    >>> worker_complexity(ServePlan(dp=8, ep=8), None) < worker_complexity(ServePlan(pp=8), None)
    True
    """
    workers = [decode] if prefill is None else [decode, prefill]
    odd = sum(n & (n - 1) != 0 for plan in workers for n in (plan.tp, plan.pp, plan.dp, plan.cp, plan.ep))
    kinds = sum(n > 1 for plan in workers for n in (plan.tp, plan.pp, plan.cp, max(plan.dp, plan.ep)))
    return odd, kinds + (prefill is not None), sum(plan.pp for plan in workers)


class WorkerPoints(Protocol):
    """Candidates of a serving search as columns: places of the plans of decode and of prefill workers (-1 where workers
    do both), s to the first token and per token, tokens/s."""

    @property
    def decode(self) -> NDArray[np.intp]: ...
    @property
    def prefill(self) -> NDArray[np.int_]: ...
    @property
    def ttft(self) -> Floats: ...
    @property
    def tpot(self) -> Floats: ...
    @property
    def speed(self) -> Floats: ...


def simplest_first(
    p: WorkerPoints, order: NDArray[np.intp], plans: Sequence[ServePlan], margin: float
) -> NDArray[np.intp]:
    """The order, fastest first, with the simplest plan put first of those within a share of the first one's rate, TTFT
    and TPOT; of equally simple ones the fastest."""
    first = order[0]
    near = order[p.speed[order] * (1.0 + margin) >= p.speed[first]]
    for seconds in (p.ttft, p.tpot):
        near = near[seconds[near] <= seconds[first] * (1.0 + margin)]
    _, each = np.unique(np.stack([p.decode[near], p.prefill[near]], axis=1), axis=0, return_index=True)

    def complexity_of(i: int) -> tuple[int, int, int]:
        decode, prefill = int(p.decode[near[i]]), int(p.prefill[near[i]])
        return worker_complexity(plans[decode], plans[prefill] if prefill >= 0 else None)

    chosen = near[min(np.sort(each).tolist(), key=complexity_of)]
    return np.concatenate([[chosen], order[order != chosen]])


def preferred_workers(
    p: WorkerPoints, taken: int, fastest: int, plans: Sequence[ServePlan], margin: float
) -> Preferred | None:
    """The preference for the candidate `taken` over the fastest one; None where it is the fastest."""
    if taken == fastest:
        return None
    decode, prefill = plans[int(p.decode[fastest])], int(p.prefill[fastest])
    words = str(decode) if prefill < 0 else f"prefill {plans[prefill]}, decode {decode}"
    return Preferred(fastest=words, slower=float(p.speed[fastest] / p.speed[taken]) - 1.0, within=margin)


def why_simpler(mine: Plan, other: Plan, domain: int) -> str:
    """The reason in words for which `mine` is simpler than `other`, "" where it is not.

    >>> why_simpler(Plan(tp=8, dp=8), Plan(tp=8, pp=2, dp=4), 8)
    'fewer kinds of parallelism'
    """
    pair: Sequence[Floats] = complexity(Plans.of([mine, other]), domain)
    for reason, column in zip(_REASONS, pair, strict=True):
        if column[0] != column[1]:
            return reason if column[0] < column[1] else ""
    return ""


_REASONS = (
    "nothing lives with the host",
    "tensor ranks stay in a scale-up domain",
    "fewer degrees that are no powers of two",
    "fewer kinds of parallelism",
    "less is computed again",
    "a plainer pipeline schedule",
    "fewer chunks of a stage",
    "its collectives run beside compute",
)
