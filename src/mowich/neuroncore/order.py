"""Which of two kernels is slower, and how sure that is.

What the clock does not know of one kernel it does not know of a kernel like it either. So the range of a ratio is not
made of the ranges of two times: what both share cancels, in as far as their critical paths are alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from mowich.estimate import Estimate, chance_within, from_spreads, unknown_estimate, worst_grade
from mowich.shown import Keyed, Result
from mowich.sums import float_sum

if TYPE_CHECKING:  # pages read the words of an order without the clock
    from mowich.neuroncore.profile import Profile

ORDER_SAID = 0.8
"""Probability from which on an order, or a tie, is said."""
TIE_WITHIN = 0.1
"""Times that differ by less than this share are a tie."""
_SLOWEST, _Z95 = 1e-6, 1.645
OrderVerdict = Literal["a slower", "b slower", "tie", "no order known"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelOrder(Keyed):
    """Which of two kernels is slower.

    ratio: time of B over time of A, with its own 90% range; p_a_slower: probability that A takes longer than B; p_tie:
    that the times differ by less than 10%; risks: why the range is wide, of each kernel that has a named risk. Both
    probabilities are None where a kernel has no time.

    Example:
        >>> order = mowich.run_kernel(before, x).against(mowich.run_kernel(after, x))  # doctest: +SKIP
        >>> order.verdict, round(order.p_a_slower, 2)  # doctest: +SKIP
        ('a slower', 0.97)
    """

    KEYS = "verdict ratio p_a_slower p_tie tie_within risks"
    tie_within: ClassVar[float] = TIE_WITHIN

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
    return float_sum(abs(a.get(k, 0.0) - b.get(k, 0.0)) for k in {**a, **b}) / 2


def shift(a: float, b: float, end: float) -> float:
    """How far the logarithm of the time of B over the time of A moves when a fact is at one end of its range.

    d = ln((1 + b (e - 1)) / (1 + a (e - 1)))

    a, b: share of the fact in the two times; e (`end`): by how much that part of a time is multiplied at that end. It
    is 0 where both share alike. It holds as long as the critical paths stay the same.

    >>> shift(0.5, 0.5, 2.0), round(shift(0.0, 0.5, 2.0), 3)
    (0.0, 0.405)
    """
    return math.log(max(1 + b * (end - 1), _SLOWEST) / max(1 + a * (end - 1), _SLOWEST))


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelSide:
    """What the order of two kernels rests on, of one of them: numbers alone, so that another process can send it.

    time_s: None: it has no time, and reason says why; kind: generation and interface, as text; path: fact -> share of
    the time that it decides, and by how much that part is multiplied at either end of the fact's range (1, 1: it has
    none); pair: `model.pair`; width: the range of the kernel's class; risks: (why, low, high) of its named risks.
    """

    time_s: float | None
    reason: str
    grade: str
    kind: str
    path: dict[str, tuple[float, float, float]]
    pair: float
    width: tuple[float, float]
    risks: tuple[tuple[str, float, float], ...]


def order_side(profile: Profile) -> KernelSide:
    """What the order of a kernel and another one rests on."""
    from mowich.neuroncore.clock.latency import fact_ends
    from mowich.neuroncore.clock.risks import residual_class

    time, costs, schedule = profile.time_s, profile.costs, profile.schedule

    def ends(name: str) -> tuple[float, float]:
        return fact_ends(costs, name) or (1.0, 1.0)

    known = time.value is not None
    shares = {name: part / profile.total_s for name, part in time.breakdown.items()} if known else {}
    return KernelSide(
        time_s=time.value,
        reason=time.reason or "",
        grade=time.grade,
        kind=f"{schedule.generation}{' older' * schedule.options.older}",
        path={f"{costs.prefix}.{name}": (share, *ends(name)) for name, share in shares.items()},
        pair=costs.number("model.pair"),
        width=_range(profile, residual_class(schedule)) if known else (1.0, 1.0),
        risks=tuple((risk.why, *_range(profile, f"residual_{risk.name}")) for risk in profile.risks) if known else (),
    )


def order_of(a: Profile, b: Profile) -> KernelOrder:
    """Which of two kernels is slower (`order_between`)."""
    return order_between(order_side(a), order_side(b))


def order_between(a: KernelSide, b: KernelSide) -> KernelOrder:
    """Which of two kernels is slower. The range of ln(time of B / time of A) is, squared and summed,

    - for each fact what its range does to the ratio (`shift`),
    - `model.pair`, by which two kernels that are alike differ beyond that,
    - the range of the class of each kernel, times `unshared` (1 between interfaces or generations),
    - the range of the widest named risk of each kernel, on the side to which it moves the ratio.
    """
    if a.time_s is None or b.time_s is None:
        return KernelOrder(ratio=unknown_estimate("1", (a if a.time_s is None else b).reason or "a time is not known"))
    downs, ups = _fact_spreads(a, b)
    shares = [{name: share for name, (share, _, _) in x.path.items()} for x in (a, b)]
    apart = unshared(*shares) if a.kind == b.kind else 1.0
    even = [_Z95 * max(a.pair, b.pair)]
    even += [math.sqrt(apart) * math.log(high / low) / 2 for low, high in (a.width, b.width)]
    words: list[str] = []
    for name, x, faster, slower in (("A", a, ups, downs), ("B", b, downs, ups)):
        if x.risks:
            _, low, high = x.risks[0]
            faster.append(-math.log(low))
            slower.append(math.log(high))
            words += [f"{name}: {why}" for why, _, _ in x.risks]
    ratio = from_spreads(
        b.time_s / a.time_s, "1", [*downs, *even], [*ups, *even], grade=worst_grade((a.grade, b.grade))
    )
    return order_by(ratio, tuple(words))


def order_by(ratio: Estimate, risks: tuple[str, ...] = ()) -> KernelOrder:
    """The order of two kernels whose times have a known ratio, B over A."""
    below, above = (chance_within(ratio, limit) for limit in (1 / (1 + TIE_WITHIN), 1 + TIE_WITHIN))
    return KernelOrder(
        ratio=ratio,
        p_a_slower=chance_within(ratio, 1.0),
        p_tie=None if below is None or above is None else above - below,
        risks=risks,
    )


def side_spread(side: KernelSide) -> Estimate:
    """By how much the time of a kernel may be off: 1 with its 90% range, as the clock's estimate has it."""
    moves = [[shift(0.0, share, end) for end in ends] for share, *ends in side.path.values()]
    low, high = side.risks[0][1:] if side.risks else side.width
    downs = [max(0.0, *(-m for m in each)) for each in moves]
    ups = [max(0.0, *each) for each in moves]
    return from_spreads(1.0, "1", [*downs, -math.log(low)], [*ups, math.log(high)], grade=side.grade)


def _range(profile: Profile, name: str) -> tuple[float, float]:
    """The range of a fact of the model."""
    fact = profile.costs.facts.fact(f"{profile.costs.prefix}.model.{name}")
    return fact.low or 1.0, fact.high or 1.0


def _fact_spreads(a: KernelSide, b: KernelSide) -> tuple[list[float], list[float]]:
    """Half-widths of the logarithm of the ratio, downwards and upwards, by what the range of each fact does to it. A
    fact of two generations is two facts."""
    none = (0.0, 1.0, 1.0)
    moves = []
    for name in {**a.path, **b.path}:
        (of_a, *ends), (of_b, *others) = a.path.get(name, none), b.path.get(name, none)
        moves.append([shift(of_a, of_b, end) for end in (others if name in b.path else ends)])
    return [max(0.0, *(-m for m in each)) for each in moves], [max(0.0, *each) for each in moves]
