"""The step of a plan with hand-tuned kernels, with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mowich.estimate import Estimate, from_spreads, log_spread
from mowich.evidence.residual import step_interval
from mowich.facts import Facts
from mowich.models.model import Model
from mowich.operators.kernels import SIMULATED
from mowich.plans.plan import Plan, TrainJob
from mowich.shown import Result
from mowich.software.stack import TUNED, Platform
from mowich.training.tuned import predict_hand_tuned


def hand_tuned_estimate(
    model: Model,
    system: Platform,
    job: TrainJob,
    plan: Plan,
    facts: Facts,
    spread: Sequence[tuple[str, float, float]],
) -> tuple[Estimate, tuple[tuple[str, float, float], ...]]:
    """The step of a plan with hand-tuned kernels, with the share of it that they were timed for, and the facts that
    move it.

    Its interval: the kernels' own, all at one end together; the residual of training steps; and the facts that move the
    step as shipped. Of those the framework's factor has no part here, and constants of training move only what no
    kernel was timed for. spread: (fact, change of ln step time at its low and high end) of the step as shipped.
    """
    found = predict_hand_tuned(model, system, job, plan)
    step, rest = found.step, 1.0 - found.coverage
    down, up = log_spread(step.total_s, found.low_s, found.high_s)
    faster, slower = step_interval(step.breakdown, model, system, facts)
    kept = [(path, lo, hi) for path, lo, hi in spread if not path.endswith(".framework_carry")]
    kept = [
        (path, rest * lo, rest * hi) if path.startswith(("devices.", "training.")) else (path, lo, hi)
        for path, lo, hi in kept
    ]
    downs = [down, faster, *(max(0.0, -min(lo, hi)) for _, lo, hi in kept)]
    ups = [up, slower, *(max(0.0, max(lo, hi)) for _, lo, hi in kept)]
    coverage = {SIMULATED: found.coverage, "analytic": rest} if found.coverage > 0 else {"analytic": 1.0}
    estimate = from_spreads(step.total_s, "s", downs, ups, grade="D", coverage=coverage, breakdown=step.breakdown)
    return estimate, tuple(sorted(kept, key=lambda m: -max(abs(m[1]), abs(m[2]))))


def is_hand_tuned(inputs: Result, system: str) -> bool:
    """Whether a result's row of a system is of kernels written by hand."""
    named = (s for s in inputs["systems"] if isinstance(s, Mapping) and s["system"] == system)
    return any(str(s.get("stack") or "").endswith(TUNED) for s in named)
