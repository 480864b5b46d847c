"""Measured kernels on the clock: latency, order of variants and busy times, in sample and with a family left out of the
fit.

    python tools/kernel_accuracy.py POINTS.json [--megakernel DIR] [--nkilib DIR] [--kda DIR] [--accelopt DIR] [--only
    PATTERN] [--page FILE]

Run by `make kernel-accuracy`. What is not named is left out and said. Without --page the page goes to stdout. With it, and
with all points, the errors of families that were left out of the fit go to facts/published/left_out.json.
"""

from __future__ import annotations

import argparse
import datetime
import fnmatch
import math
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import pairwise, product
from pathlib import Path
from statistics import NormalDist

import numpy as np
from accuracy import kept
from kernel_points import LEFT_OUT, Checkouts, Counts, Point, published_counts, read, run, traces, unit_factor

from mowich.evidence.scores import KERNEL_ERRORS, left_out_file
from mowich.facts import Fact, load_facts
from mowich.neuroncore.clock.costs import Costs
from mowich.neuroncore.clock.latency import latency_estimate
from mowich.neuroncore.clock.records import ClockOptions, Schedule
from mowich.neuroncore.clock.risks import residual_of
from mowich.neuroncore.clock.schedule import schedule
from mowich.neuroncore.instructions.rates import unit_of_queue
from mowich.neuroncore.order import ORDER_SAID, TIE_WITHIN, order_of
from mowich.neuroncore.profile import Profile
from mowich.neuroncore.targets import generation_of
from mowich.neuroncore.trace import Trace

DIFFER = 0.05
"""Measured times of two variants differ from here on: their order counts."""
COUNTS_DIFFER = 0.02
"""Bytes and counts differ from here on."""
UNITS = ("tensor", "vector", "scalar", "gpsimd", "dma")


@dataclass(frozen=True, slots=True)
class Constant:
    """A number of the clock that was fitted. fact: its name; grid: values that the search tries, in units of the fact;
    scale: of its unit in SI; prior: what stands for it where nothing is fitted; trn3: its value there in shares of
    trn2's; beside: of a number that is a limit, the fact that it decides about: costs are made of that one."""

    fact: str
    grid: tuple[float, ...]
    scale: float
    prior: float
    trn3: float = 1.0
    beside: str = ""


NEWER = (
    Constant("dma.software_issue", (1.0, 1.1, 1.2, 1.3, 1.4, 1.6), 1e-6, 1.0),
    Constant("dma.software_first_byte", (0.05, 0.25, 0.5, 0.75, 1.0, 1.25), 1e-6, 0.05),
    Constant("dma.dynamic_descriptor", (5, 10, 14, 16, 18, 20, 24), 1e-9, 5, 23 / 33),
    Constant("dma.descriptor_least", (5, 10, 13, 16, 20), 1e-9, 5),
    Constant("dma.transpose_issue", (0.05, 1.0, 2.0, 2.5, 3.0, 4.0), 1e-6, 0.05),
)
OLDER = (
    Constant("dma.static_issue", (12, 30, 100, 200, 300, 450), 1e-9, 12),
    Constant("dma.static_rate", (23, 24.3, 25.6, 27.2), 1e9, 23),
    Constant("dma.static_bytes", (2, 4), 1024, 4, beside="dma.static_rate"),
    Constant("dma.static_row", (0.1, 20, 30, 40, 50), 1e-9, 0.1),
)
Values = tuple[float, ...]


@dataclass
class Timed:
    """A point with its traces. times_us: of the constants tried, those that the kernel depends on; depends: on which it
    does."""

    point: Point
    traces: list[Trace]
    times_us: dict[Values, float] = field(default_factory=dict)
    depends: tuple[bool, ...] = ()

    @cached_property
    def is_tight(self) -> bool:
        """Whether its tiles leave SBUF no room."""
        return residual_of(self.schedule()) in ("residual_overflow", "residual_crowded")

    @property
    def constants(self) -> tuple[Constant, ...]:
        """Those that were fitted to points of its interface."""
        return OLDER if self.point.older else NEWER

    def schedule(self, values: Values | None = None) -> Schedule:
        """The kernel on the clock. values: of the constants, each with a range as wide as that of the fact; None: the
        facts that ship."""
        options = ClockOptions(dge=not self.point.static, older=self.point.older)
        return schedule(self.traces, _costs(generation_of(self.point.chip), self.constants, values), options)

    @cached_property
    def shipped_ps(self) -> int:
        """Its time with the facts that ship, ps: kernels with the same are one to the clock."""
        return self.schedule().total

    def us(self, values: Values) -> float:
        """Microseconds with these constants."""
        if not self.depends:
            used = self._facts(min) | self._facts(max)
            self.depends = tuple((c.beside or c.fact) in used for c in self.constants)
        known = tuple(v for v, d in zip(values, self.depends, strict=True) if d)
        if known not in self.times_us:
            self.times_us[known] = self.schedule(values).total / 1e6
        return self.times_us[known]

    def _facts(self, end: Callable[[Sequence[float]], float]) -> set[str]:
        """Facts that the costs of the kernel are made of, with the constants at one end of their grids."""
        kinds = [k for p in self.schedule(tuple(end(c.grid) for c in self.constants)).programs for k in p.costs]
        return {fact for k in kinds for parts in (k.parts, k.lead_parts) for fact in parts}


@lru_cache(maxsize=4)  # of the values tried last, which all kernels of a chip share
def _costs(generation: int, constants: tuple[Constant, ...], values: Values | None) -> Costs:
    """Costs with these values of the constants; None: with the facts that ship."""
    facts = load_facts()
    if values is not None:
        given: dict[str, float | str | Fact] = {}
        for c, v in zip(constants, values, strict=True):
            path = f"neuroncore.timing-v{generation}.{c.fact}"
            given[path] = _moved(facts.fact(path), v * c.scale * (c.trn3 if generation == 4 else 1.0))
        facts = facts.with_values(given)
    return Costs(generation, facts)


def _moved(fact: Fact, value: float) -> Fact:
    """A fact with another value, and a range that is as wide."""
    assert isinstance(fact.value, float)
    low, high = (None if end is None else end * value / fact.value for end in (fact.low, fact.high))
    return replace(fact, value=value, low=low, high=high)


@dataclass(frozen=True, slots=True)
class Scored:
    """A point beside its prediction, us. residual: fact that its range comes from, beside those of single numbers;
    single: half-widths of the range that those alone give, logarithms, downwards and upwards."""

    point: Point
    us: float
    low_us: float
    high_us: float
    residual: str
    single: tuple[float, float] = (0.0, 0.0)

    @property
    def error(self) -> float:
        """max(ratio, 1 / ratio) - 1."""
        return error(self.us, self.point.us)

    @property
    def is_inside(self) -> bool:
        """The measured time lies in the range that is printed for 90%."""
        return self.low_us <= self.point.us <= self.high_us


def error(predicted: float, measured: float) -> float:
    """max(ratio, 1 / ratio) - 1."""
    return max(predicted / measured, measured / predicted) - 1


def pairs(points: Sequence[tuple[Point, float]]) -> tuple[int, int]:
    """(in order, all) pairs of one family whose measured times differ."""
    right = count = 0
    for i, (p, x) in enumerate(points):
        for q, y in points[:i]:
            if p.family == q.family and p.chart == q.chart and error(p.us, q.us) > DIFFER:
                count += 1
                right += (x - y) * (p.us - q.us) > 0
    return right, count


def loss(points: Iterable[tuple[Point, float]]) -> float:
    """What the search makes small: median + 0.3 x worst error of each family, charts counted half."""
    groups: dict[tuple[str, bool], list[float]] = {}
    for p, x in points:
        groups.setdefault((p.family, p.chart), []).append(error(x, p.us))
    weights = {g: 0.5 if g[1] else 1.0 for g in groups}
    return sum(weights[g] * (statistics.median(e) + 0.3 * max(e)) for g, e in groups.items()) / sum(weights.values())


def search(constants: Sequence[Constant], value_of: Callable[[Values], float]) -> Values:
    """The values of the grids that suit best, of all together. What one constant takes another may give back (of a
    software DMA only the sum of issue and first byte is firm), so a search along one at a time stops short of it. What
    no point depends on keeps its prior."""
    return min(product(*(dict.fromkeys((c.prior, *c.grid)) for c in constants)), key=value_of)


def fitted(timed: Sequence[Timed], *left_out: str) -> Values:
    """The constants that suit the points best, those of some families left out. Kernels whose tiles overflow SBUF or
    leave no room to load ahead are not fitted to: what the compiler does there is not known, and no constant of a DMA
    stands for it."""
    kept = [t for t in timed if t.point.family not in left_out and not t.is_tight]
    return search(kept[0].constants, lambda values: loss((t.point, t.us(values)) for t in kept))


# the page
# -----------------------------------------------------------------------------------------------------------------------


def summary(rows: Sequence[tuple[str, Sequence[tuple[Point, float]], Sequence[Scored]]]) -> list[str]:
    """A line for each group: points, errors, order, and how many lie in their range."""
    out = [
        "| kernels | points | median error | worst | pairs in order | measured in the 90% range |",
        "|--|--:|--:|--:|--:|--:|",
    ]
    for name, points, scored in rows:
        errors = [error(x, p.us) for p, x in points]
        right, count = pairs(points)
        inside = f"{sum(s.is_inside for s in scored)} of {len(scored)}" if scored else "-"
        out.append(
            f"| {name} | {len(points)} | {statistics.median(errors):.1%} | {max(errors):.1%} | "
            f"{f'{right} of {count}' if count else '-'} | {inside} |"
        )
    return out


def by_family(scored: Sequence[Scored]) -> list[str]:
    """The score of each family, charts apart, and of all."""
    groups: dict[str, list[Scored]] = {}
    for s in scored:
        groups.setdefault(f"{s.point.family}{', charts' if s.point.chart else ''}", []).append(s)
    for older, name in ((False, "**all of the newer interface**"), (True, "**all of the older interface**")):
        mine = [s for s in scored if s.point.older == older]
        if mine:
            groups[name] = mine
        logs = [s for s in mine if not s.point.chart]
        if 0 < len(logs) < len(mine):
            groups[f"{name}, without charts"] = logs
    return summary([(name, [(s.point, s.us) for s in mine], mine) for name, mine in groups.items()])


def busy(timed: Sequence[Timed]) -> list[str]:
    """Predicted over measured time at work, by chip and unit."""
    ratios: dict[tuple[str, str], list[float]] = {}
    for t in timed:
        if t.point.active_us:
            active = Profile(t.schedule()).active_s
            for unit, us in t.point.active_us.items():
                for chip in (t.point.chip, "all"):
                    ratios.setdefault((chip, unit), []).append(active[unit] * 1e6 / us)
    out = ["| chip | " + " | ".join(UNITS) + " |", "|--|" + "--:|" * len(UNITS)]
    for chip in sorted({c for c, _ in ratios}, key=lambda c: (c == "all", c)):
        cells = [ratios.get((chip, unit), []) for unit in UNITS]
        out.append(f"| {chip} | " + " | ".join(f"{statistics.median(c):.2f} ({len(c)})" if c else "-" for c in cells) + " |")  # fmt: skip
    return out


def in_unit(t: Timed, counts: Counts | None) -> tuple[Point, int | None]:
    """(The point with its time in the unit that its busy shares require, the factor of the printed time); None where
    the source prints no time of its own or no shares."""
    printed_us = t.point.row.get("us_printed")
    if printed_us is None or counts is None or not counts.active:
        return t.point, None
    unit = max(counts.active, key=lambda u: counts.active[u])
    factor = unit_factor(Profile(t.schedule()).active_s[unit] * 1e6, counts.active[unit], printed_us)
    return replace(t.point, us=factor * printed_us), factor


def counted(timed: Sequence[Timed], counts: Mapping[str, Counts]) -> list[str]:
    """What the compiler made of a kernel, beside what the clock takes it to have made: bytes of HBM, matmuls, spills."""
    names = {"read": "HBM read", "write": "HBM written", "spill": "spilled", "matmuls": "matmuls"}
    alike = dict.fromkeys(names, 0)
    all_of = dict.fromkeys(names, 0)
    rows = []
    for t in timed:
        published = counts.get(t.point.id)
        if published is None:
            continue
        profile = Profile(t.schedule())
        read_B, write_B = profile.hbm_B
        matmuls = sum(n for k, n in profile.counts if unit_of_queue(k.queue) == "tensor")
        mine = {"read": read_B, "write": write_B, "spill": profile.spill_B, "matmuls": matmuls}
        for what, (number, half) in published.figures.items():
            all_of[what] += 1
            if abs(mine[what] - number) <= COUNTS_DIFFER * number + half:
                alike[what] += 1
            else:
                change = f"{mine[what] / number - 1:+.1%}" if number else "-"
                rows.append(f"| {t.point.id} | {names[what]} | {number:,.0f} | {mine[what]:,} | {change} | {published.why or 'not known'} |")  # fmt: skip
    said = ", ".join(f"{names[w]} {alike[w]} of {n}" for w, n in all_of.items() if n)
    head = ["| kernel | what | published | clock | difference | why |", "|--|--|--:|--:|--:|--|"]
    return [
        f"Within {COUNTS_DIFFER:.0%} and the rounding of the source: {said}.",
        *(["", *head, *rows] if rows else []),
    ]


def left_out(timed: Sequence[Timed]) -> tuple[list[str], list[tuple[Point, float]]]:
    """The table of constants and errors with each family left out of the fit, and the times predicted then."""
    constants = timed[0].constants
    head = [f"`{c.fact}`" for c in constants]
    out = [
        "| left out | " + " | ".join(head) + " | points | median error | worst | pairs in order |",
        "|--|" + "--:|" * (len(head) + 4),
    ]
    blind: list[tuple[Point, float]] = []
    for family in dict.fromkeys(t.point.family for t in timed):
        values = fitted(timed, family)
        mine = [(t.point, t.us(values)) for t in timed if t.point.family == family]
        blind += mine
        out.append(_row(family, constants, values, mine))
    values = fitted(timed)
    out.append(_row("nothing", constants, values, [(t.point, t.us(values)) for t in timed]))
    logs = [(p, x) for p, x in blind if not p.chart]
    for name, some in (("each family by the others", blind), ("the same without charts", logs)):
        if name.startswith("each") or len(some) < len(blind):
            errors = [error(x, p.us) for p, x in some]
            right, count = pairs(some)
            out.append(
                f"| **{name}** | {' | '.join('' for _ in head)} | {len(some)} | "
                f"{statistics.median(errors):.1%} | {max(errors):.1%} | {right} of {count} |"
            )
    return out, blind


def _row(name: str, constants: Sequence[Constant], values: Values, mine: Sequence[tuple[Point, float]]) -> str:
    units = {1e-6: "us", 1e-9: "ns", 1e9: "GB/s", 1024: "KiB"}
    shown = " | ".join(f"{v:g} {units[c.scale]}" for c, v in zip(constants, values, strict=True))
    errors = [error(x, p.us) for p, x in mine]
    right, count = pairs(mine)
    return f"| {name} | {shown} | {len(mine)} | {statistics.median(errors):.1%} | {max(errors):.1%} | {f'{right} of {count}' if count else '-'} |"


HELD = 0.9
"""Share of the measured times that a range is to hold."""
LEAST_POINTS = 10
"""Points from which on a width can be fitted that holds this share."""
Miss = tuple[float, float, float]
"""ln(measured / predicted) of a point, and the half-widths of its range by single numbers, downwards and upwards."""


def fitted_width(misses: Sequence[Miss]) -> float:
    """The least half-width of a residual, a logarithm and the same on both sides, that holds 90% of the points beside
    the ranges of single numbers.

    >>> round(fitted_width([(0.01 * n, 0.0, 0.06) for n in range(1, 11)]), 3)  # sqrt(0.09^2 - 0.06^2)
    0.067
    """
    needed = sorted(math.sqrt(max(0.0, m * m - (up if m > 0 else down) ** 2)) for m, down, up in misses)
    return needed[math.ceil(HELD * len(needed)) - 1]


def _holds(width: float, miss: Miss) -> bool:
    m, down, up = miss
    return abs(m) <= math.hypot(width, up if m > 0 else down)


def covered(scored: Sequence[Scored], blind: Sequence[tuple[Point, float]]) -> list[str]:
    """How many measured times lie in the printed range, in sample and around what the other families predict, by the
    class that the range belongs to; and the width that the points of a class ask for, of all and with each family's
    range fitted to the others."""
    width = {s.point.id: s for s in scored}
    classes: dict[str, list[tuple[bool, bool]]] = {}
    misses: dict[str, dict[str, list[Miss]]] = {}
    for p, x in blind:
        s = width[p.id]
        found = (s.is_inside, s.low_us / s.us * x <= p.us <= s.high_us / s.us * x)
        for name in (f"`model.{s.residual}`", "**all**"):
            classes.setdefault(name, []).append(found)
        misses.setdefault(f"`model.{s.residual}`", {}).setdefault(p.family, []).append((math.log(p.us / x), *s.single))
    out = [
        "| range | families, points | inside, in sample | inside, each family by the others | a width that holds 90% of them | inside, each family's width by the others too |",
        "|--|--:|--:|--:|--:|--:|",
    ]
    for name, inside in sorted(classes.items(), key=lambda x: (x[0][0] == "*", x[0])):
        n = len(inside)
        families = misses.get(name, {})
        asked, by_others = "-", "-"
        if len(families) > 1 and n >= LEAST_POINTS:
            h = fitted_width([m for f in families.values() for m in f])
            asked = f"{math.exp(-h):.2f} to {math.exp(h):.2f}"
            held = 0
            for family, mine in families.items():
                h = fitted_width([m for f, some in families.items() if f != family for m in some])
                held += sum(_holds(h, m) for m in mine)
            by_others = _share(held, n)
        count = f"{len(families)}, {n}" if families else f"{len({p.family for p, _ in blind})}, {n}"
        out.append(f"| {name} | {count} | {' | '.join(_share(sum(each), n) for each in zip(*inside, strict=True))} | {asked} | {by_others} |")  # fmt: skip
    return out


@dataclass(frozen=True, slots=True)
class Pair:
    """Two kernels whose families were both left out of the fit. said: probability of the order that is said, one half
    and more; right: 1 where it is the measured one, 0 where not, a half where either is a tie; ratio: measured time of
    the second over that of the first; low, high: range of what was predicted for it; is_tie: whether a tie is said;
    kernels: the one that is said to be slower, and the other, by the time that the clock gives them (`Timed.shipped_ps`)."""

    a: Point
    b: Point
    said: float
    right: float
    ratio: float
    low: float
    high: float
    is_tie: bool = False
    kernels: tuple[int, int] = (0, 0)

    @property
    def is_inside(self) -> bool:
        """The measured ratio lies in its 90% range."""
        return self.low <= self.ratio <= self.high


def pairs_said(timed: Sequence[Timed]) -> list[Pair]:
    """What is said of the order of each pair of a chip, predicted by the families to which neither belongs. Times read
    off bars are compared with each other alone."""
    families = list(dict.fromkeys(t.point.family for t in timed))
    found = []
    for n, one in enumerate(families):
        for two in families[: n + 1]:
            if one.split()[1] != two.split()[1] or not {t.point.family for t in timed} - {one, two}:
                continue
            values = fitted(timed, one, two)
            mine = [(t, Profile(t.schedule(values))) for t in timed if t.point.family in (one, two)]
            for i, (t, x) in enumerate(mine):
                for u, y in mine[:i]:
                    if {t.point.family, u.point.family} == {one, two} and t.point.chart == u.point.chart:
                        found.append(_pair((u, y), (t, x)))
    return found


def _pair(a: tuple[Timed, Profile], b: tuple[Timed, Profile]) -> Pair:
    order = order_of(a[1], b[1])
    p, ratio = order.p_a_slower, order.ratio
    assert p is not None
    assert ratio.low is not None
    assert ratio.high is not None
    measured = b[0].point.us / a[0].point.us
    right = 0.5 if p == 1 / 2 or measured == 1 else 1.0 if (p > 1 / 2) == (measured < 1) else 0.0
    kernels = (a[0].shipped_ps, b[0].shipped_ps) if p >= 1 / 2 else (b[0].shipped_ps, a[0].shipped_ps)
    is_tie = order.verdict == "tie"
    return Pair(a[0].point, b[0].point, max(p, 1 - p), right, measured, ratio.low, ratio.high, is_tie, kernels)


def independent(found: Sequence[Pair]) -> float:
    """How many independent pairs say as much as these about the share in order.

    n^2 / sum of r_ij, with r_ij = 1/2 for each kernel that two pairs have in the same place (half of the error of a
    ratio is that of one kernel): 2 n^2 / (sum of c_k^2 + sum of d_k^2), where c and d count the pairs in which a
    kernel is said to be the slower or the faster one.
    """
    counts = [Counter(p.kernels[place] for p in found) for place in (0, 1)]
    return 2 * len(found) ** 2 / sum(c * c for count in counts for c in count.values())


def share_range(share: float, n: float) -> tuple[float, float]:
    """Wilson's 90% range of a share that n independent cases show.

    >>> [round(x, 2) for x in share_range(0.5, 10)], round(share_range(1.0, 10)[0], 2)
    ([0.27, 0.73], 0.79)
    """
    z = NormalDist().inv_cdf(0.95)
    middle, half = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


BANDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.97, 1.0)
"""Ends of the bands of said probability."""
FEW = 20
"""Pairs of a band from which on its share counts."""


def orders(found: Sequence[Pair]) -> list[str]:
    """How many pairs get an order and how many of these are right, within families and between them; and, for each band
    of said probability, the share that is in order."""
    out = [
        f"| pairs | all | differ by over {DIFFER:.0%} | of these with an order | of these right | measured ratio in its 90% range |",
        "|--|--:|--:|--:|--:|--:|",
    ]
    for name, same in (("of one family", True), ("of two families", False), ("**all**", None)):
        mine = [p for p in found if same is None or (p.a.family == p.b.family) == same]
        if not mine:
            continue
        differ = [p for p in mine if error(p.ratio, 1.0) > DIFFER]
        told = [p for p in differ if p.said >= ORDER_SAID]
        correct = sum(p.right == 1 for p in told)
        inside = sum(p.is_inside for p in mine)
        out.append(
            f"| {name} | {len(mine)} | {len(differ)} | {_share(len(told), len(differ))} | {_share(correct, len(told))} | "
            f"{_share(inside, len(mine))} |"
        )
    out += [
        "",
        "| probability said | pairs | mean said | in order | independent | 90% range of the share |",
        "|--|--:|--:|--:|--:|--:|",
    ]
    for low, high in pairwise(BANDS):
        mine = [p for p in found if low <= p.said < high or p.said == high == 1]
        if mine:
            few = " (few)" if len(mine) < FEW else ""
            said, right = statistics.mean(p.said for p in mine), statistics.mean(p.right for p in mine)
            n = independent(mine)
            least, most = share_range(right, n)
            mark = "" if least <= said <= most else " (outside)"
            out.append(
                f"| {low:.2f} to {high:.2f} | {len(mine)}{few} | {said:.0%} | {right:.0%} | {n:.0f} | {least:.0%} to {most:.0%}{mark} |"
            )
    ties = [p for p in found if p.is_tie]
    near = sum(error(p.ratio, 1.0) < TIE_WITHIN for p in ties)
    if ties:
        out += ["", f"Said to be a tie: {len(ties)} pairs, of which {near} differ by less than {TIE_WITHIN:.0%}."]
    return out


def _share(part: int, whole: int) -> str:
    return f"{part} ({part / whole:.0%})" if whole else "-"


FAMILIES = {
    "moeq": "fused experts, 8 bits",
    "moeb": "fused experts, 16 bits",
    "attn": "fused attention",
    "adamw": "AdamW",
    "mamba": "Mamba",
    "matmul": "matrix product",
    "rmsnorm": "RMSNorm and product",
    "silu": "SiLU",
}
"""First word of a family of points -> the same for a reader."""
INTERFACES = {False: "newer interface", True: "older interface"}


def figures(
    scored: Sequence[Scored], blind: Sequence[tuple[Point, float]], today: datetime.date
) -> list[dict[str, object]]:
    """The entries of `mowich.evidence.scores.LeftOut`: kernels whose family was left out, by interface and by family.

    Their ranges are as wide as those that are printed, around what the other families predict."""
    of = {s.point.id: s for s in scored}
    groups: dict[tuple[str, str, str], list[tuple[Point, float]]] = {}
    for older, words in INTERFACES.items():
        for p, x in blind:
            if p.older == older:
                groups.setdefault((words, "", ""), []).append((p, x))
        for p, x in blind:
            if p.older == older:
                family, chip = p.family.split()
                groups.setdefault((words, chip, FAMILIES.get(family, family)), []).append((p, x))
    out: list[dict[str, object]] = []
    for (words, chip, family), points in groups.items():
        errors = [error(x, p.us) for p, x in points]
        inside = [of[p.id].low_us / of[p.id].us * x <= p.us <= of[p.id].high_us / of[p.id].us * x for p, x in points]
        out.append(
            {
                "work": KERNEL_ERRORS,
                "what": f"time, {words}",
                "unit": "families",
                **({"chip": chip, "family": family} if chip else {}),
                "rows": len(points),
                "median": round(float(np.median(errors)), 6),
                "p90": round(float(np.quantile(errors, 0.9)), 6),
                "in_range": round(float(np.mean(inside)), 6),
                "command": "make kernel-accuracy",
                "date": today.isoformat(),
            }
        )
    return out


def page(
    timed: Sequence[Timed], failed: Mapping[str, str], missing: int, unlike: Sequence[str] = ()
) -> tuple[str, list[dict[str, object]]]:
    """The whole page, and the errors of the kernels whose family was left out."""
    scored = []
    unseen: list[tuple[Point, float]] = []
    for t in timed:
        made = t.schedule()
        e = latency_estimate(made)
        assert e.value is not None
        assert e.low is not None
        assert e.high is not None
        residual = residual_of(made)
        fact = load_facts().fact(f"{made.costs.prefix}.model.{residual}")
        # a range is of squares that are summed: what is left without the residual's is that of single numbers
        single = [
            math.sqrt(max(0.0, math.log(whole) ** 2 - math.log(part or 1.0) ** 2))
            for whole, part in ((e.low / e.value, fact.low), (e.high / e.value, fact.high))
        ]
        scored.append(Scored(t.point, e.value * 1e6, e.low * 1e6, e.high * 1e6, residual, (single[0], single[1])))
    out = [HEAD, "", "## Score", "", *by_family(scored), ""]
    out += [f"Not scored: `{name}`: {why}." for name, why in LEFT_OUT.items()]
    out += [f"Did not run: `{name}`: {why}." for name, why in failed.items()]
    if missing:
        out.append(f"{missing} further points of the file were left out: their checkouts were not named.")
    out += [f"Unit: {line}." for line in unlike]
    out += ["", BUSY, "", *busy(timed), "", PLACES, "", COUNTED, "", *counted(timed, published_counts()), "", LEAVE_OUT]
    said: list[Pair] = []
    for older, name in ((False, "Newer interface"), (True, "Older interface")):
        mine = [t for t in timed if t.point.older == older]
        if len({t.point.family for t in mine}) > 1:
            table, blind = left_out(mine)
            unseen += blind
            spread = sorted(p.us / x for p, x in blind)
            out += ["", f"### {name}", "", *table, ""]
            out.append(
                f"Measured over predicted, each family by the others: from {spread[int(0.05 * len(spread))]:.2f} to "
                f"{spread[-1 - int(0.05 * len(spread))]:.2f} without the outer 5% on each side."
            )
            out += ["", *covered(scored, blind)]
            out += [] if older else ["", WIDTHS]
            if older and any(s.residual == "residual_crowded" for s in scored):
                out += ["", CROWDED]
            told = pairs_said(mine)
            said += told
            out += ["", f"#### Order, {name.lower()}", "", ORDER, "", *orders(told)]
    if said:
        out += ["", "### Order, both interfaces", "", *orders(said)]
    out += ["", "## Every point", "", "| kernel | measured | clock | 90% range | difference |", "|--|--:|--:|--:|--:|"]
    for s in scored:
        mark = "" if s.is_inside else " (outside)"
        out.append(f"| {s.point.id} | {s.point.us:.1f} us | {s.us:.1f} us | {s.low_us:.1f} .. {s.high_us:.1f}{mark} | {s.us / s.point.us - 1:+.1%} |")  # fmt: skip
    return "\n".join(out) + "\n", figures(scored, unseen, datetime.datetime.now(datetime.UTC).date())


HEAD = """# Accuracy of the kernel clock

Generated by `make kernel-accuracy`. Do not edit. Published kernels that were measured on hardware, unmodified, beside the clock
([kernel-timing.md](../theory/kernel-timing.md) says what it assumes). The file of points and the checkouts are named on the command line:

    make kernel-accuracy POINTS=points.json MEGAKERNEL=nki-moe-megakernel NKILIB=nki-library/src/nkilib_src KDA=kda-for-trainium ACCELOPT=AccelOpt

**Error** is max(ratio, 1 / ratio) - 1. **Pairs** are two variants of a family whose measured times differ by more than 5%. *Charts*:
times read off bars, grade C. The constants of DMA descriptors were fitted to these points: the first table is in sample, the tables of
what is left out are not. Kernels of kda-for-trainium: the device time, once or twice the time that their author
prints, as the busy shares beside it require."""
BUSY = """## Time at work

Predicted over measured time at work, median (points). As a profiler counts: the union of intervals, of the Scalar Engine with its latency,
of the Tensor Engine with the load of stationary tiles, of DMA from first to last byte, of GpSimd with the descriptors that it writes."""
PLACES = """The Vector Engine of trn2 is short in all three of its points. Where the compiler puts copies that name no engine is not identified: to meet both
engines, one kernel asks for a half to three quarters of them on the Vector Engine, and one for a third. In the third kernel both engines are short,
so no place for its copies explains it. Every copy on the Vector Engine gives a median of 1.14, and 0.74 for the Scalar Engine; the worst error of the
attention charts goes from 11.7% to 15.6%. Every second one gives 0.74 and 1.00, and larger errors of the time: all of trn2 5.9% -> 6.1%, attention
4.3% -> 5.5%."""
LEAVE_OUT = """## With a family left out

The constants are fitted again to the other families, all together over fixed grids (least median error + 0.3 x worst of each family;
charts half), and predict the family that was left out. On trn3 the cost of a descriptor made at run time is
trn2's in proportion to the rates of a DMA engine. Kernels whose tiles overflow SBUF or leave no room to load ahead are scored and not
fitted to: no constant of a DMA stands for what the compiler does there. Only the constants of a table are fitted again: which
rules there are, and every other constant, was chosen with all points in view."""


CROWDED = """A range with a name of its own is that of a risk: the compiler does there what cannot be told from published kernels. Kernels of which
one instruction holds more than a third of SBUF measure 1.00 to 1.63 times the clock's time (`model.residual_crowded`), the one that spills 1.92
times (`model.residual_overflow`). [kernel-timing.md](../theory/kernel-timing.md) lists the risks."""
WIDTHS = """The last columns: the least range, the same on both sides, that holds 90% of the kernels beside the ranges of single numbers; and how many
kernels a range holds that was fitted so without their family. Fewer than ten kernels, or one family, have none. Two attention kernels load transposed, 2
bytes a descriptor. No other family does, so without attention nothing tells what such a descriptor costs: these two are 62% off then, and a width
that holds them is no width of the others."""
COUNTED = """## Bytes and counts

What profiles count beside what the clock takes the compiler to have made (`tools/kernel_counts.yaml`). What differs here is the compiler's
doing, not the hardware's."""
ORDER = """Two kernels of a chip, predicted by the families to which neither belongs: an order is said from a probability of 80% on
([kernel-timing.md](../theory/kernel-timing.md#which-of-two-kernels-is-slower)). In each band, the share of pairs whose measured order is the said one; a tie counts
half. Pairs that share a kernel are not independent, least of all those of variants with one prediction: half of the error of a ratio is
that of one kernel. *Independent* is how many pairs without a common kernel would say as much, and the range is Wilson's for as many: a band
is off where what it says lies outside."""


def main(words: Sequence[str]) -> None:
    """Read the points, run their kernels, write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("points", type=Path)
    for name in ("megakernel", "nkilib", "kda", "accelopt", "page"):
        parser.add_argument(f"--{name}", type=lambda text: Path(text) if text else None, default=None)
    parser.add_argument("--only", default="*", help="ids of points, with wildcards")
    given = parser.parse_args(words)
    checkouts = Checkouts(given.points, given.megakernel, given.nkilib, given.kda, given.accelopt)
    timed: list[Timed] = []
    failed: dict[str, str] = {}
    counts = published_counts()
    unlike: list[str] = []
    missing = 0
    for point in read(given.points):
        if not fnmatch.fnmatch(point.id, given.only) or not checkouts.has(point):
            missing += 1
            continue
        try:
            made = Timed(point, traces(run(point, checkouts)))
            made.point, factor = in_unit(made, counts.get(point.id))
            timed.append(made)
            if made.point.us != point.us:
                unlike.append(
                    f"`{point.id}` takes {factor} times the printed time, not {point.us / point.row['us_printed']:g} times"
                )
        except Exception as problem:  # a kernel of someone else's: whatever it raises is told, and the others go on
            failed[point.id] = f"{type(problem).__name__}: {str(problem)[:150]}"
            print(f"{point.id}: {failed[point.id]}", file=sys.stderr)
    if not timed:
        sys.exit("no point ran: name the checkouts (tools/README.md)")
    text, found = page(timed, failed, missing, unlike)
    if given.page is None:
        print(text)
    else:
        given.page.write_text(text, encoding="utf-8")
        if not missing and not failed:  # of all points, or the figures that ship would be of some
            left_out_file().write_text(kept(KERNEL_ERRORS, found), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
