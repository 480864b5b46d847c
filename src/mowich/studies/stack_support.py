"""What rows support of a rate on a stack of Trainium, and what they do not.

Stacks differ several times on one chip, so a rate of an architecture that nobody measured there is grade D with a
wide range. Where the fixed time of a step is most of the limit on the time per token, the rate is a small difference of
large numbers: such a row has no figure in dollars, and says so. Engines of other chips are not asked here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol, TypeVar

from mowich.estimate import Estimate, unknown_estimate
from mowich.facts import Facts
from mowich.models.model import Model
from mowich.plans.plan import ServePlan
from mowich.serving.anchors import is_stack
from mowich.serving.engines import architecture
from mowich.serving.search import ServeJob
from mowich.sums import float_sum

EXTRAPOLATED = "serving.extrapolated"
"""Facts that say how far a rate may be off where no row is like it."""
_FIXED = ("layers", "host", "tp", "ep", "cp", "pp")
"""Parts of a token's time that more bandwidth does not shorten: layers, host, and messages, which are short ones."""


class ServedRate(Protocol):
    """What is asked of a row of serving. decode: the plan of a worker that decodes, None where there is none."""

    @property
    def engine(self) -> str: ...
    @property
    def system_id(self) -> str: ...
    @property
    def decode(self) -> ServePlan | None: ...
    @property
    def ttft_s(self) -> Estimate: ...
    @property
    def tpot_s(self) -> Estimate: ...
    @property
    def tokens_per_s_per_chip(self) -> Estimate: ...
    @property
    def tokens_per_s_per_user(self) -> Estimate: ...
    @property
    def usd_per_mtok(self) -> Estimate: ...
    @property
    def J_per_token(self) -> Estimate: ...
    @property
    def breakeven_usd_per_chip_h(self) -> Estimate: ...
    @property
    def breakeven_W_per_chip(self) -> Estimate: ...


R = TypeVar("R", bound=ServedRate)


def served_basis(facts: Facts, model: Model, system_id: str) -> str:
    """What a rate is extrapolated from; "" where its architecture was measured on that chip."""
    from mowich.evidence.measured_architectures import extrapolated_from, served_on  # no other row asks for it

    return extrapolated_from(served_on(facts, system_id), architecture(model))


def fixed_share(tpot: Estimate, limit_s: float) -> float:
    """Fixed time of a token over the limit on its time; 0 without a limit.

    >>> from mowich.estimate import exact
    >>> from dataclasses import replace
    >>> token = replace(exact(0.05, "s"), breakdown={"layers": 0.03, "host": 0.005, "experts": 0.015})
    >>> round(fixed_share(token, 0.05), 2), fixed_share(token, float("inf"))
    (0.7, 0.0)
    """
    return float_sum((tpot.breakdown or {}).get(part, 0.0) for part in _FIXED) / limit_s


def told_support(facts: Facts, model: Model, job: ServeJob, row: R) -> R:
    """A row on a stack of Trainium with the grade and the range that measured rows allow, and without dollars where
    fixed time decides; other rows as they are."""
    if not is_stack(row.engine) or row.decode is None:
        return row
    from mowich.evidence.measured_architectures import most_ranks

    basis = served_basis(facts, model, row.system_id)
    is_mixture = model.has_experts
    ranks = facts.number(f"{EXTRAPOLATED}.large_ranks")
    is_large = is_mixture and row.decode.devices >= ranks and row.decode.devices > most_ranks(facts, row.system_id)
    row = widened(facts, row, basis, is_large=is_large)
    share = fixed_share(row.tpot_s, job.tpot_s)
    if share <= facts.number(f"{EXTRAPOLATED}.fixed_share"):
        return row
    why = (
        f"fixed time of layers, host and messages is {share:.0%} of the limit on the time per token, so the rate"
        " follows fitted constants and no figure in dollars is given"
    )
    return replace(row, undecided=why, usd_per_mtok=unknown_estimate("USD/Mtok", why))  # type: ignore[type-var]


def widened(facts: Facts, row: R, basis: str, *, is_large: bool) -> R:
    """A row with the grade and at least the range that its basis asks for; is_large: and the range of measured ports of
    large mixtures on many ranks."""
    if not basis and not is_large:
        return row
    times, first = (facts.number(f"{EXTRAPOLATED}.{name}") if basis else 1.0 for name in ("times", "times_first"))
    down, up = 1.0 / times, times
    if is_large:
        large = facts.fact(f"{EXTRAPOLATED}.large_mixture")
        down, up = min(down, large.low or 1.0), max(up, large.high or 1.0)
    return replace(  # type: ignore[type-var]
        row,
        tokens_per_s_per_chip=at_least(row.tokens_per_s_per_chip, down, up),
        tokens_per_s_per_user=at_least(row.tokens_per_s_per_user, down, up),
        breakeven_usd_per_chip_h=at_least(row.breakeven_usd_per_chip_h, down, up),
        breakeven_W_per_chip=at_least(row.breakeven_W_per_chip, down, up),
        ttft_s=at_least(row.ttft_s, 1.0 / first, first),
        tpot_s=at_least(row.tpot_s, 1.0 / up, 1.0 / down),
        usd_per_mtok=at_least(row.usd_per_mtok, 1.0 / up, 1.0 / down),
        J_per_token=at_least(row.J_per_token, 1.0 / up, 1.0 / down),
    )


def at_least(e: Estimate, down: float, up: float) -> Estimate:
    """An estimate of grade D whose range spans at least these factors of its value.

    >>> from mowich.estimate import exact
    >>> wide = at_least(exact(10.0, "1/s"), 0.5, 2.0)
    >>> wide.low, wide.high, wide.grade
    (5.0, 20.0, 'D')
    """
    if e.value is None:
        return e
    low, high = e.value * down, e.value * up
    return replace(e, low=min(low, e.low or low), high=max(high, e.high or high), grade="D")
