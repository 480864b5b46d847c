"""`plan --serve` without a load: what Poisson arrivals at 95% of a plan's rate do to its times, beside the steady load
that these are of."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mowich.arrays import Floats
from mowich.estimate import Estimate
from mowich.facts import Facts
from mowich.machines.system import System
from mowich.models.model import Model
from mowich.serving.poisson import ARRIVING, RandomLoad, random_load
from mowich.serving.search import ServeJob, _Columns, ladder
from mowich.studies.serving import deploy
from mowich.studies.serving_plan import ServeRow, worker

MOST_CROWDED = 4.0
"""Times of a plan's batch up to which a random load may go."""

MOST_WAITING = 400.0
"""Requests that may wait beyond it, in a pool that is full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomArrivals:
    """The first plan under Poisson arrivals. share: of its steady rate; ttft_s, tpot_s: means; tpot_at_p99_s: of the
    load that 99 of 100 requests meet at most."""

    share: float
    requests_per_s: float
    ttft_s: Estimate
    tpot_s: Estimate
    tpot_at_p99_s: Estimate

    def to_dict(self) -> dict[str, object]:
        """As in `mowich/plan@1`."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {name: v.to_dict() if isinstance(v, Estimate) else v for name, v in values.items()}


def random_arrivals(model: Model, system: System, row: ServeRow, job: ServeJob, facts: Facts) -> RandomArrivals | None:
    """A row under Poisson arrivals, each time with the range of the steady one; None where there is no plan, or it does
    not keep up. With prefill apart the wait for prompts is random already, and only decoding is looked at."""
    plan, ttft, tpot = row.decode, row.ttft_s.value, row.tpot_s.value
    rate = row.tokens_per_s_per_chip.value
    if plan is None or ttft is None or tpot is None or rate is None:
        return None
    per_s = ARRIVING * rate * row.chips_requested / job.output
    w = worker(deploy(model, system, row.engine, [plan], facts, accept=job.accept, images=job.images), job)
    groups = row.replicas["decode"] * plan.dp
    most = MOST_CROWDED * row.batch / plan.dp + MOST_WAITING / groups
    users = np.unique(np.append(ladder(most), [row.batch / plan.dp, most]))
    users = users[users >= 1.0]
    everyone = _Columns.of(w, job)
    columns = everyone.take(np.zeros(len(users), dtype=np.intp))
    if row.mode == "aggregated":
        first, later = columns.together(columns.loop(users, everyone.prompts()), users)
    else:
        first, later = np.zeros(len(users)), columns.alone(users)
    at = int(np.argmin(np.abs(users - row.batch / plan.dp)))
    inside, first, later = _from_one(users * groups, first, later)
    found = random_load(per_s, inside, first, later, job.output)
    return None if found is None else _with_ranges(row, per_s, found, float(first[at + 1]), float(later[at + 1]))


def _from_one(inside: Floats, first: Floats, later: Floats) -> tuple[Floats, Floats, Floats]:
    """The same from one request in the whole pool on: each is alone in its group until every group has one."""
    return np.append(1.0, inside), np.append(first[0], first), np.append(later[0], later)


def _with_ranges(row: ServeRow, per_s: float, found: RandomLoad, ttft: float, tpot: float) -> RandomArrivals:
    """The times of the row, moved as far as the closed form moves from its steady times ttft, tpot."""
    plain = {"ttft_s": replace(row.ttft_s, breakdown={}), "tpot_s": replace(row.tpot_s, breakdown={})}
    first = plain["ttft_s"] if ttft <= 0.0 else plain["ttft_s"].scaled(found.ttft_s / ttft, "s")
    return RandomArrivals(
        share=ARRIVING,
        requests_per_s=per_s,
        ttft_s=first,
        tpot_s=plain["tpot_s"].scaled(found.tpot_s / tpot, "s"),
        tpot_at_p99_s=plain["tpot_s"].scaled(found.tpot_at_p99_s / tpot, "s"),
    )
