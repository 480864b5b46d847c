"""Goodput of a long training run: the share of time that trains, after failures, restarts, lost work and checkpoints.

Closed form. Failures are Poisson with a rate per chip-hour measured on published runs; checkpoints are taken at the Young/Daly interval and
stall the step only while the state leaves the devices (asynchronous). Spare chips are assumed to be at hand. Planned maintenance,
evaluation and slow (not failed) chips are left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mowich.estimate import Estimate, Notes, unknown, worst_grade
from mowich.facts import Facts
from mowich.units import show

VALID_RATIO = 3.0
"""Below this many recoveries per mean time between failures the closed form is an extrapolation: real jobs of that size restart in part."""


LEAST_SHARE = 1e-6
"""A share of useful time below this is reported as a run that never ends."""


def kind_of(facts: Facts, system_id: str) -> str:
    """gpu, tpu or trainium: whose failure rates a system has."""
    vendor = str(facts.meta("chips", str(facts.meta("systems", system_id)["chip"]))["vendor"])
    return {"AWS": "trainium", "Google": "tpu"}.get(vendor, "gpu")


def mtbf_s(rate_per_chip_s: Any, chips: Any) -> Any:
    """Mean seconds between failures of the whole job: M = 1 / (rate chips). Assumes that any chip's failure stops the job.

    >>> round(float(mtbf_s(1.973e-5 / 3600, 16384)) / 3600, 2)  # Llama 3 405B: 419 in 54 days
    3.09
    """
    return 1.0 / (np.asarray(rate_per_chip_s, dtype=float) * chips)


def checkpoint_interval_s(stall_s: Any, mtbf: Any, step_s: Any = 0.0) -> Any:
    """Young/Daly interval between checkpoints: tau = sqrt(2 C M), not below one step nor above M.

    C: stall per checkpoint, s; M: mean time between failures, s. Source: Daly 2006, first order; the bound M is where its series ends.

    >>> round(float(checkpoint_interval_s(5.0, 10000.0)), 1)
    316.2
    """
    interval = np.minimum(np.sqrt(2.0 * np.asarray(stall_s, dtype=float) * mtbf), mtbf)
    return np.maximum(interval, step_s)


def useful_share(mtbf: Any, recovery_s: Any, stall_s: Any, step_s: Any = 0.0) -> Any:
    """Useful time over total time: g = tau / (M exp(R/M) (exp((tau + C)/M) - 1)).

    M: mean time between failures; R: detection and restart; C: stall per checkpoint; tau: interval; all s. Exact for Poisson failures that may
    also strike during recovery (Daly 2006), so it lies in (0, 1) for any M; for M >> R it is 1 - R/M - C/tau - (tau + C)/2M.

    >>> round(float(useful_share(11135.0, 600.0, 5.0)), 3)
    0.919
    """
    mtbf = np.asarray(mtbf, dtype=float)
    tau = checkpoint_interval_s(stall_s, mtbf, step_s)
    with np.errstate(over="ignore"):
        return tau / (mtbf * np.exp(recovery_s / mtbf) * np.expm1((tau + stall_s) / mtbf))


def _logit(g: float) -> float:
    g = min(max(g, 1e-12), 1 - 1e-12)
    return math.log(g / (1 - g))


def goodput(facts: Facts, system_id: str, *, chips: int, step_s: Estimate, notes: Notes | None = None) -> Estimate:
    """Goodput of a job of `chips` chips, with the interval that the ranges of the failure rate, the recovery and the stall make.

    Facts `reliability.goodput.*`: failure_rate per vendor's machines, recovery, checkpoint_stall. Each fact goes to its ends alone; the moves are
    combined in quadrature as log odds, so that the interval stays inside (0, 1). `reason` says when the formula is used beyond MTBF >> recovery.
    """
    root = "reliability.goodput"
    kind = kind_of(facts, system_id)
    paths = {"rate": f"{root}.failure_rate_{kind}", "recovery": f"{root}.recovery", "stall": f"{root}.checkpoint_stall"}
    values = {name: facts.number(path) for name, path in paths.items()}
    step = step_s.value or 0.0

    def share(x: Mapping[str, float]) -> float:
        return float(useful_share(mtbf_s(x["rate"], chips), x["recovery"], x["stall"], step))

    value = share(values)
    if value < LEAST_SHARE:
        mean = float(mtbf_s(values["rate"], chips))
        return unknown(
            "1",
            f"a step of {show(step, 's')} is too long to finish between failures, {show(mean, 's')} apart on average",
        )
    middle, downs, ups, grades = _logit(value), [0.0], [0.0], []
    for name, path in paths.items():
        fact = facts.fact(path)
        grades.append(fact.grade or "D")
        ends = [_logit(share({**values, name: end})) - middle for end in (fact.low, fact.high) if end is not None]
        downs.append(min([0.0, *ends]))
        ups.append(max([0.0, *ends]))
    low = middle - math.hypot(*downs)
    high = middle + math.hypot(*ups)
    mtbf = float(mtbf_s(values["rate"], chips))
    reason = None
    if mtbf < VALID_RATIO * values["recovery"]:
        reason = (f"beyond the formula's validity: a failure every {mtbf / 60:.2g} min against {values['recovery'] / 60:.2g} min to recover;"
                  " a job of this size must survive failures in part")  # fmt: skip
    if notes is not None:
        tau = float(checkpoint_interval_s(values["stall"], mtbf, step))
        notes.add("mtbf", mtbf, "s", "1 / (rate x chips)", rate=values["rate"], chips=chips, facts=(paths["rate"],))
        notes.add(
            "checkpoint_interval",
            tau,
            "s",
            "sqrt(2 x stall x mtbf), at least one step",
            stall=values["stall"],
            mtbf=mtbf,
            facts=(paths["stall"],),
        )
        notes.add("goodput", value, "1", "tau / (mtbf e^(recovery/mtbf) (e^((tau + stall)/mtbf) - 1))", tau=tau, recovery=values["recovery"],
                  stall=values["stall"], mtbf=mtbf, facts=tuple(paths.values()), note=reason or "")  # fmt: skip
    odds = [1 / (1 + math.exp(-x)) for x in (low, high)]
    return Estimate(
        value=value, unit="1", low=odds[0], high=odds[1], grade="D" if reason else worst_grade(grades), reason=reason
    )
