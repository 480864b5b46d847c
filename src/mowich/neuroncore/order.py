"""Which of two kernels is slower, and how sure that is.

What the clock does not know of one kernel it does not know of a kernel like it either. So the range of a ratio is not
made of the ranges of two times: what both share cancels, in as far as their critical paths are alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mowich.estimate import Estimate, chance_within, from_spreads, unknown_estimate, worst_grade
from mowich.shown import Result

if TYPE_CHECKING:  # pages read the words of an order without the clock
    from mowich.neuroncore.profile import Profile

ORDER_SAID = 0.8
"""Probability from which on an order, or a tie, is said."""
TIE_WITHIN = 0.1
"""Times that differ by less than this share are a tie."""
_SLOWEST, _Z95 = 1e-6, 1.645
OrderVerdict = Literal["a slower", "b slower", "tie", "no order known"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelOrder:
    """Which of two kernels is slower.

    ratio: time of B over time of A, with its own 90% range; p_a_slower: probability that A takes longer than B; p_tie:
    that the times differ by less than 10%; risks: why the range is wide, of each kernel that has a named risk. Both
    probabilities are None where a kernel has no time.

    Example:
        >>> order = mowich.run_kernel(before, x).against(mowich.run_kernel(after, x))  # doctest: +SKIP
        >>> order.verdict, round(order.p_a_slower, 2)  # doctest: +SKIP
        ('a slower', 0.97)
    """

    ratio: Estimate
    p_a_slower: float | None = None
    p_tie: float | None = None
    risks: tuple[str, ...] = ()

    @property
    def verdict(self) -> OrderVerdict:
        """ "a slower" or "b slower" where that is 80% sure; else "tie" where it is 80% sure that the times differ by
        less than 10%; else "no order known"."""
        if self.p_a_slower is None or self.p_tie is None:
            return "no order known"
        if max(self.p_a_slower, 1 - self.p_a_slower) >= ORDER_SAID:
            return "a slower" if self.p_a_slower >= ORDER_SAID else "b slower"
        return "tie" if self.p_tie >= ORDER_SAID else "no order known"

    def to_dict(self) -> dict[str, object]:
        """The part `order` of `mowich/kernel-diff@1`."""
        return {
            "verdict": self.verdict,
            "ratio": self.ratio.to_dict(),
            "p_a_slower": self.p_a_slower,
            "p_tie": self.p_tie,
            "tie_within": TIE_WITHIN,
            "risks": list(self.risks),
        }

    def __str__(self) -> str:
        return order_sentence(self.to_dict())


def order_sentence(row: Result) -> str:
    """The part `order` of an answer in words."""
    p, tie = row["p_a_slower"], row["p_tie"]
    if p is None or tie is None:
        return f"No order known: {row['ratio']['reason']}."
    slower, other = ("A", "B") if p >= 1 / 2 else ("B", "A")
    sure = _percent(max(p, 1 - p))
    if row["verdict"] == "tie":
        same = f"the times differ by less than {row['tie_within']:.0%} with a probability of {_percent(tie)}"
        return f"A tie: {same} ({slower} is slower: {sure})."
    sentence = f"{slower} is slower than {other} with a probability of {sure}."
    return f"No order known: {sentence}" if row["verdict"] == "no order known" else sentence


def _percent(p: float) -> str:
    """A probability as text; near certainty is not printed as certainty."""
    return f"{p:.0%}" if p < 0.995 else "over 99%"


def unshared(a: dict[str, float], b: dict[str, float]) -> float:
    """How much of two critical paths is not alike, 0 to 1.

    u = sum |a_k - b_k| / 2

    a, b: share of each fact in the two times.

    >>> unshared({"dma.rate": 0.75, "wait": 0.25}, {"dma.rate": 0.25, "wait": 0.75})
    0.5
    """
    return sum(abs(a.get(k, 0.0) - b.get(k, 0.0)) for k in {**a, **b}) / 2


def shift(a: float, b: float, end: float) -> float:
    """How far the logarithm of the time of B over the time of A moves when a fact is at one end of its range.

    d = ln((1 + b (e - 1)) / (1 + a (e - 1)))

    a, b: share of the fact in the two times; e (`end`): by how much that part of a time is multiplied at that end. It
    is 0 where both share alike. It holds as long as the critical paths stay the same.

    >>> shift(0.5, 0.5, 2.0), round(shift(0.0, 0.5, 2.0), 3)
    (0.0, 0.405)
    """
    return math.log(max(1 + b * (end - 1), _SLOWEST) / max(1 + a * (end - 1), _SLOWEST))


def order_of(a: Profile, b: Profile) -> KernelOrder:
    """Which of two kernels is slower. The range of ln(time of B / time of A) is, squared and summed,

    - for each fact what its range does to the ratio (`shift`),
    - `model.pair`, by which two kernels that are alike differ beyond that,
    - the range of the class of each kernel, times `unshared` (1 between interfaces or generations),
    - the range of the widest named risk of each kernel, on the side to which it moves the ratio.
    """
    from mowich.neuroncore.clock.risks import residual_class

    if a.time_s.value is None or b.time_s.value is None:
        reason = a.time_s.reason if a.time_s.value is None else b.time_s.reason
        return KernelOrder(ratio=unknown_estimate("1", reason or "a time is not known"))
    value = b.time_s.value / a.time_s.value
    downs, ups = _fact_spreads(a, b)
    shares = _shares(a), _shares(b)
    alike = a.schedule.generation == b.schedule.generation and a.schedule.options.older == b.schedule.options.older
    apart = unshared(*shares) if alike else 1.0
    even = [_Z95 * max(x.costs.number("model.pair") for x in (a, b))]
    even += [
        math.sqrt(apart) * math.log(high / low) / 2
        for low, high in (_range(x, residual_class(x.schedule)) for x in (a, b))
    ]
    words: list[str] = []
    for name, x, faster, slower in (("A", a, ups, downs), ("B", b, downs, ups)):
        if x.risks:
            low, high = _range(x, f"residual_{x.risks[0].name}")
            faster.append(-math.log(low))
            slower.append(math.log(high))
            words += [f"{name}: {risk.why}" for risk in x.risks]
    ratio = from_spreads(
        value, "1", [*downs, *even], [*ups, *even], grade=worst_grade((a.time_s.grade, b.time_s.grade))
    )
    below, above = (chance_within(ratio, limit) for limit in (1 / (1 + TIE_WITHIN), 1 + TIE_WITHIN))
    return KernelOrder(
        ratio=ratio,
        p_a_slower=chance_within(ratio, 1.0),
        p_tie=None if below is None or above is None else above - below,
        risks=tuple(words),
    )


def _shares(profile: Profile) -> dict[str, float]:
    """Share of each fact in the time of a kernel."""
    return {name: seconds / profile.total_s for name, seconds in profile.time_s.breakdown.items()}


def _range(profile: Profile, name: str) -> tuple[float, float]:
    """The range of a fact of the model."""
    fact = profile.costs.facts.fact(f"{profile.costs.prefix}.model.{name}")
    return fact.low or 1.0, fact.high or 1.0


def _fact_spreads(a: Profile, b: Profile) -> tuple[list[float], list[float]]:
    """Half-widths of the logarithm of the ratio, downwards and upwards, by what the range of each fact does to it. A
    fact of two generations is two facts."""
    from mowich.neuroncore.clock.latency import fact_ends

    ends: dict[tuple[str, str], tuple[float, float]] = {}
    shares: list[dict[tuple[str, str], float]] = []
    for profile in (a, b):
        shares.append({(profile.costs.prefix, name): share for name, share in _shares(profile).items()})
        found = {key: fact_ends(profile.costs, key[1]) for key in shares[-1]}
        ends.update((key, two) for key, two in found.items() if two is not None)
    of_a, of_b = shares
    moves = [[shift(of_a.get(key, 0.0), of_b.get(key, 0.0), end) for end in two] for key, two in ends.items()]
    return [max(0.0, *(-m for m in each)) for each in moves], [max(0.0, *each) for each in moves]
