"""How often measured runs follow the predicted order of their plans. This decides how close two plans are before they
cannot be told apart (`plans.preference`)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

from mowich.evidence.rows import Case
from mowich.evidence.scores import RowResult
from mowich.plans.plan import Plan
from mowich.sums import float_sum


@dataclass(frozen=True, slots=True)
class Pair:
    """Two plans of one job on one machine that a source measured. apart: |ln| of the predicted times' quotient;
    is_in_order: whether the plan predicted to be faster ran faster; error: |ln| of the predicted quotient over the
    measured one."""

    apart: float
    is_in_order: bool
    error: float


def plan_pairs(rows: Iterable[RowResult]) -> list[Pair]:
    """Every two plans of one source, model, chip, number of chips, recipe, sequence, batch and kind of run; repeats of
    a plan count once, with their geometric mean."""
    jobs: dict[object, dict[Plan, list[tuple[float, float]]]] = {}
    for row in rows:
        if (case := row.case) is not None and row.ratio is not None:
            measured = math.log(case.measured_step_s)
            logs = measured + math.log(row.ratio), measured
            jobs.setdefault(_job(case), {}).setdefault(case.plan, []).append(logs)
    out = []
    for plans in jobs.values():
        means = [tuple(float_sum(x) / len(x) for x in zip(*logs, strict=True)) for logs in plans.values()]
        for (predicted, measured), (other, its_measured) in itertools.combinations(means, 2):
            by, ran = predicted - other, measured - its_measured
            out.append(Pair(apart=abs(by), is_in_order=by * ran > 0, error=abs(by - ran)))
    return out


def _job(case: Case) -> object:
    job = case.job
    return (
        case.source,
        case.model.name,
        case.chip,
        case.system.devices,
        case.plan.precision,
        job.seq,
        job.task,
        job.batch_seqs,
        case.kind,
    )


def in_order(found: Iterable[Pair], low: float, high: float) -> tuple[int, float]:
    """(pairs that are predicted `low` to `high` apart, share of them that ran in the predicted order)."""
    near = [pair.is_in_order for pair in found if low <= pair.apart < high]
    return len(near), sum(near) / len(near) if near else math.nan
