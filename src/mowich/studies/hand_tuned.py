"""The step of a plan with hand-tuned kernels, with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mowich.estimate import Estimate, from_spreads, log_spread
from mowich.evidence.residual import step_interval
from mowich.facts import Facts
from mowich.facts.together import moves_together
from mowich.models.model import Model
from mowich.operators.kernels import SIMULATED
from mowich.plans.plan import Plan, TrainJob
from mowich.shown import Result
from mowich.software.stack import TUNED, Platform
from mowich.training.search import Candidate, Search, search
from mowich.training.tuned import hand_tuned, predict_hand_tuned


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
    kept = [(path, lo, hi) for path, lo, hi in spread if not path.endswith((".framework_carry", ".speed"))]
    kept = [
        (path, rest * lo, rest * hi) if path.startswith(("devices.", "training.")) else (path, lo, hi)
        for path, lo, hi in kept
    ]
    wide = moves_together(kept, facts)
    downs = [down, faster, *(max(0.0, -min(lo, hi)) for _, lo, hi in wide)]
    ups = [up, slower, *(max(0.0, max(lo, hi)) for _, lo, hi in wide)]
    coverage = {SIMULATED: found.coverage, "analytic": rest} if found.coverage > 0 else {"analytic": 1.0}
    estimate = from_spreads(step.total_s, "s", downs, ups, grade="D", coverage=coverage, breakdown=step.breakdown)
    return estimate, tuple(sorted(kept, key=lambda m: -max(abs(m[1]), abs(m[2]))))


AMONG = 24
"""Plans that each of two searches keeps, of which the best with kernels written by hand is taken: those that are best
with the software as shipped, and those that are best where software adds nothing. Tables of kernels are read for these
alone, as reading them takes most of a search's time."""


def hand_tuned_plans(
    model: Model,
    system: Platform,
    job: TrainJob,
    *,
    fixed: Mapping[str, Sequence[int | str]],
    found: Search,
    smaller_dp: bool = True,
) -> list[tuple[float, Candidate, Search]]:
    """The plans of a job with kernels written by hand, best first: seconds of the step, the plan, and the search that
    found it. found: the search with the software as shipped, which keeps `AMONG` plans."""
    more = search(model, hand_tuned(system), job, fixed=fixed, top=AMONG, smaller_dp=smaller_dp)
    seen: dict[Plan, tuple[float, Candidate, Search]] = {}
    for source in (found, more):
        for candidate in source.best:
            if candidate.plan not in seen:
                step = predict_hand_tuned(model, system, job, candidate.plan).step
                seen[candidate.plan] = (step.total_s, candidate, source)
    return sorted(seen.values(), key=lambda one: one[0] / one[1].tokens)


def is_hand_tuned(inputs: Result, system: str) -> bool:
    """Whether a result's row of a system is of kernels written by hand."""
    named = (s for s in inputs["systems"] if isinstance(s, Mapping) and s["system"] == system)
    return any(str(s.get("stack") or "").endswith(TUNED) for s in named)


def stack_of(inputs: Result, system: str) -> str | None:
    """The training software that a result's inputs state for its row of a system, as `resolve` takes it; a sweep states
    one for all points."""
    stated = (s["stack"] for s in inputs["systems"] if isinstance(s, Mapping) and s["system"] == system)
    return inputs.get("stack") or next(stated, "").removesuffix(TUNED) or None
