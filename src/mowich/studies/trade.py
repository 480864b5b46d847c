"""`mowich plan --neighbours` and `--pareto`: why the best plan wins, and what can be had instead of its speed.

The Pareto front runs over plans and over numbers of chips (the given one, and halves of it down to the fewest that
fit): the plans that no other plan beats in time, memory per device, cost and energy at once. A cost that is not known
does not take part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mowich.errors import UserError, or_infeasible
from mowich.plans.plan import Plan
from mowich.plans.preference import margin
from mowich.progress import tell
from mowich.shown import Keyed
from mowich.software.stack import Platform
from mowich.studies.compare import PlanList, Row, with_plan
from mowich.studies.outcome import SystemAsk
from mowich.sums import float_sum
from mowich.training import search as searching
from mowich.training.neighbours import LEAST_SHOWN, Neighbour, Ties, front, neighbours_of, ties
from mowich.units import show_gib

PER_CHIPS = 3
"""Plans of one number of chips that are worked out in full: the fastest, the smallest, and one between."""

SLOWEST = 1.5
"""Plans slower than this against the fastest on the same chips are not offered for their memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Why(Keyed):
    """The best plan of a system, its neighbours and ties, and a sentence on what holds it in place.

    Units: times relative to the best plan; memory in bytes.

    Example:
        >>> import mowich
        >>> job = {"tokens": "1T", "seq": 4096, "batch": "256seqs"}
        >>> plans = mowich.plan("llama-3.1-8b", "h100:64", train=job, top=1)
        >>> mowich.neighbours(plans).sentence != ""  # doctest: +SKIP
        True
    """

    KEYS = "plan sentence neighbours ties"

    plan: Plan | None
    neighbours: tuple[Neighbour, ...]
    ties: Ties

    @property
    def sentence(self) -> str:
        """ "pp 4: pp 2 does not fit (+12.3 GiB), pp 8 is 2.1% slower (pp_bubble); ..." for the choices that matter, the
        closest first."""
        if self.plan is None:
            return "no plan fits"
        phrases: dict[str, list[tuple[float, str]]] = {}
        for n in self.neighbours:
            if n.slower is None:
                phrases.setdefault(n.field, []).append(
                    (0.0, f"{n.field} {n.value} does not fit (+{show_gib(n.short_B)})")
                )
            elif n.slower > LEAST_SHOWN:
                cause = f" ({n.cause})" if n.cause else ""
                phrases.setdefault(n.field, []).append(
                    (n.slower, f"{n.field} {n.value} is {n.slower:.1%} slower{cause}")
                )
        ordered = sorted(phrases.values(), key=lambda found: max(x for x, _ in found), reverse=True)
        return "; ".join(", ".join(text for _, text in found) for found in ordered) or "every neighbour ties"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trades(Keyed):
    """What is told beside plans. why: what the neighbours of the best cost; front: rows that trade time for memory,
    cost and energy; None: not asked for, or no plan fits."""

    KEYS = "why? pareto=front?"

    why: Why | None = None
    front: tuple[Row, ...] | None = None


def trades(
    plans: PlanList,
    fixed: Mapping[str, Sequence[int | str]],
    *,
    with_why: bool,
    with_front: bool,
) -> Trades:
    """What `--neighbours` (`with_why`) and `--pareto` (`with_front`) ask for."""
    found = Trades()
    if plans.ask is None or plans.rows[0].plan is None:
        return found
    if with_why:
        tell("weighing neighbours")
        found = replace(found, why=why(plans.ask, fixed=fixed))
    if with_front:
        tell("walking the front")
        found = replace(found, front=pareto(plans.ask, fixed=fixed))
    return found


def lower_end(ask: SystemAsk) -> Platform:
    """The system with what a program may surely use of its memory."""
    return replace(ask.system, hbm_usable_B=ask.usable_B[0])


def why(ask: SystemAsk, *, fixed: Mapping[str, Sequence[int | str]] | None = None) -> Why:
    """Neighbours and ties of the best plan."""
    system, near = lower_end(ask), margin(ask.facts)
    found = searching.survey(ask.model, system, ask.job, fixed=fixed, within=near)
    best = found.best
    return Why(
        plan=None if best is None else found.plans.plan(best),
        neighbours=neighbours_of(ask.model, system, ask.job, found),
        ties=ties(found, near),
    )


def pareto(most: SystemAsk, *, fixed: Mapping[str, Sequence[int | str]] | None = None) -> tuple[Row, ...]:
    """Rows of the front, fastest first: seconds per token of the whole job, memory per device, USD/Mtok and J/token;
    `most.chips` and halves of it."""
    rows: list[Row] = []
    count = most.chips
    while count >= 1:
        ask = replace(most, chips=count)
        system = lower_end(ask)
        found = or_infeasible(searching.survey, ask.model, system, ask.job, fixed=fixed)
        if isinstance(found, UserError):
            count //= 2
            continue
        fitting = np.flatnonzero(found.fits)
        if not len(fitting):
            break
        times = found.seconds_per_token[fitting]
        fitting = fitting[times <= times.min() * SLOWEST]
        edge = fitting[front(found.seconds_per_token[fitting], found.need_B[fitting])]
        picks = dict.fromkeys(
            int(edge[i]) for i in np.linspace(0, len(edge) - 1, min(PER_CHIPS, len(edge))).round().astype(int)
        )
        best = [searching.candidate(ask.model, system, ask.job, found.plans.plan(i)) for i in picks]
        summary = searching.Search(
            evaluated=len(found.plans),
            feasible=int(found.fits.sum()),
            seconds=0.0,
            best=tuple(best),
            unconstrained_s_per_token=float(found.seconds_per_token.min()),
            smallest_B=best[-1].memory_B,
            refused={},
        )
        rows += [with_plan(ask, summary, one, True, None) for one in best]
        count //= 2
    if not rows:
        return ()
    costs = [
        np.array([(r.step_s.value or 0.0) / r.global_batch_seqs for r in rows]),
        np.array([float_sum(r.memory_B.values()) for r in rows]),
    ]
    for name in ("usd_per_mtok", "J_per_token"):
        values = [getattr(r, name).value for r in rows]
        if all(v is not None for v in values):
            costs.append(np.array(values))
    return tuple(rows[int(i)] for i in front(*costs))
