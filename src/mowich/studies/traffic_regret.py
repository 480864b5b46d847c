"""What a rule of autoscaling paid beyond the best in hindsight, over one load.

Three things are played on the same load, with the same start-up time and bounds: every constant number, a schedule that
knew the load, and the rule by limits told the rate to come. The schedule is made by dynamic programming over bins of
looks. It pays for a replica from its order, and for `hold` after it was last needed; it is worth what its requests kept
of the limits, and the price of a kept request is raised until enough are kept. What a number of replicas keeps in a bin
is taken from a play of that number. The schedule is then played, so every figure told is of a play; where it keeps more
than was asked for, its end is made cheaper. The best in
hindsight is the cheapest of all that was played and kept as many requests within the limits as asked: an upper bound on
what is possible, and never dearer than the rule.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from mowich.arrays import Floats
from mowich.errors import UserError
from mowich.progress import steps
from mowich.serving.traffic.autoscale import Autoscale
from mowich.serving.traffic.planner import Helped, Scheduled, as_it_is
from mowich.shown import Keyed
from mowich.sums import float_sum

MOST_CONSTANTS = 40
"""Constant numbers of replicas (pairs, where pools are apart) that are played at most."""
MOST_BINS = 1500
"""Bins of a schedule, at most; each holds whole looks."""
TRIES = 5
"""Schedules that are played to reach a goodput, and again to make them cheaper, at most."""
PRICE_HALVINGS = 40
"""Of the price of a kept request."""
KEPT_MARGIN = 1e-12
"""Of a share of requests: rounding."""

PoolRules = tuple[Autoscale, ...]
"""A rule of each pool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Play(Keyed):
    """What a play came to. how: rule, constant, schedule, known rate; goodput: share of the requests within the limits;
    chip_s: paid chip-seconds; usd: their price (None: unknown); replicas: of a constant; asked, kept: requests by bin
    of arrival, and those within the limits."""

    KEYS = "goodput_frac=goodput chip_hours usd"

    how: str
    goodput: float
    chip_s: float
    usd: float | None
    asked: Mapping[int, int]
    kept: Mapping[int, int]
    replicas: tuple[int, ...] = ()

    @property
    def chip_hours(self) -> float:
        """Paid chip-hours."""
        return self.chip_s / 3600.0


@dataclass(slots=True, kw_only=True)
class Hindsight:
    """Plays over one load. rule: what the pools' rules have in common; chips: of a replica of each pool; bin_s: of a
    bin; play: plays rules and tells; limits_s: on TTFT, TPOT and the whole request; known: the rule by limits that
    knows the requests between looks (None: there is none); where: for errors."""

    rule: PoolRules
    chips: tuple[float, ...]
    bin_s: float
    bins: int
    limits_s: tuple[float, float, float]
    play: Callable[[PoolRules, str], Play]
    known: PoolRules | None
    where: str
    plays: list[Play] = field(default_factory=list)
    _kept: Floats | None = None
    _oracle: Play | None = None

    @property
    def numbers(self) -> list[tuple[int, ...]]:
        """Every constant number of each pool, the largest first."""
        return sorted(itertools.product(*(range(r.least, r.most + 1) for r in self.rule)), key=lambda n: (-sum(n), n))

    def learn(self, goodput: float) -> None:
        """Play constant numbers: each until fewer than one that broke the goodput are left, and with help below."""
        if len(self.numbers) > MOST_CONSTANTS:
            raise UserError(
                "regret plays every constant number of replicas",
                where=self.where,
                given=f"{len(self.numbers)} of them",
                allowed=f"at most {MOST_CONSTANTS}: a larger least or a smaller most",
            )
        broke: list[tuple[int, ...]] = []
        shares = []
        for n in steps(self.numbers, "playing constant numbers of replicas"):
            is_below = any(all(a <= b for a, b in zip(n, other, strict=True)) for other in broke)
            play = None if is_below else self._constant(n)
            if play is not None and play.goodput < goodput:
                broke.append(n)
            shares.append(self._helped(n) if play is None or self._spoils(play) else self._shares(play))
        self._kept = np.array(shares)
        if self.known is not None:
            self._oracle = self.play(self.known, "known rate")
            self.plays.append(self._oracle)

    def _constant(self, n: tuple[int, ...]) -> Play:
        rules = tuple(replace(r, least=k, most=k, make=None) for r, k in zip(self.rule, n, strict=True))
        found = replace(self.play(rules, "constant"), replicas=n)
        self.plays.append(found)
        return found

    def _spoils(self, play: Play) -> bool:
        """Whether a bin of a play kept fewer than half, so that what waits could spoil the bins behind it."""
        return any(2 * play.kept.get(k, 0) < asked for k, asked in play.asked.items())

    def _helped(self, n: tuple[int, ...]) -> Floats:
        """Share kept by bin where the number has help in trouble; none in bins with help."""
        planners = [Helped(number=k, limits_s=self.limits_s) for k in n]
        rules = tuple(
            replace(r, least=k, start_s=0.0, hold_s=0.0, make=partial(as_it_is, planner))
            for r, k, planner in zip(self.rule, n, planners, strict=True)
        )
        shares = self._shares(self.play(rules, "helped"))
        for planner in planners:
            for at in planner.helped:
                shares[min(len(shares) - 1, int(at / self.bin_s))] = 0.0
        return shares

    def _shares(self, play: Play) -> Floats:
        out = np.ones(self.bins)
        for k, asked in play.asked.items():
            out[min(self.bins - 1, k)] = play.kept.get(k, 0) / asked
        return out

    def best(self, rule: Play, goodput: float) -> Play:
        """The cheapest play that kept `goodput` of the requests; the rule itself, where nothing was cheaper."""
        target, tried = goodput, set[tuple[int, ...]]()
        for _ in steps(range(TRIES), "playing schedules that knew the load"):
            paths = self._paths(rule, target)
            if paths is None or paths[0] in tried:
                break
            tried.add(paths[0])
            missed = goodput - self._scheduled(paths[0])
            if missed <= KEPT_MARGIN:
                self._spliced(*paths, goodput)
                break
            target = min(1.0, target + missed)
        able = [play for play in self.plays if play.goodput >= goodput - KEPT_MARGIN]
        return min([rule, *able], key=lambda play: (play.chip_s, play.how != "schedule"))

    def _spliced(self, dear: tuple[int, ...], cheap: tuple[int, ...], goodput: float) -> None:
        """Play schedules that begin as the dear one, which keeps the goodput, and end as the cheap one, which may not:
        the shortest beginning is looked for by halving. A price alone finds nothing between the two."""
        unlike = [k for k in range(self.bins) if dear[k] != cheap[k]]
        low, high = 0, len(unlike)
        for _ in range(TRIES):
            if high - low <= 1:
                return
            middle = (low + high) // 2
            until = unlike[middle]
            kept = self._scheduled((*dear[:until], *cheap[until:]))
            low, high = (low, middle) if kept >= goodput - KEPT_MARGIN else (middle, high)

    def _scheduled(self, path: Sequence[int]) -> float:
        """Play the schedule that has these of `numbers` serve in each bin; its goodput."""
        tried = self.play(self._rules([self.numbers[c] for c in path]), "schedule")
        self.plays.append(tried)
        return tried.goodput

    def constant(self, goodput: float) -> Play | None:
        """The cheapest constant number that kept `goodput`; None where none did."""
        able = [p for p in self.plays if p.how == "constant" and p.goodput >= goodput - KEPT_MARGIN]
        return min(able, key=lambda play: play.chip_s) if able else None

    @property
    def oracle(self) -> Play | None:
        return self._oracle

    def _paths(self, rule: Play, goodput: float) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """By what constant numbers kept in each bin, at one price of a kept request: the cheapest schedule that keeps
        `goodput`, and the one at a price a little lower, which does not; which of `numbers` serve in each bin. None
        where even the most replicas would not keep it."""
        assert self._kept is not None
        asked = np.array([float(rule.asked.get(k, 0)) for k in range(self.bins)])
        worth = self._kept * asked
        numbers = np.array(self.numbers, dtype=np.float64)
        chips = np.array(self.chips)
        more = numbers[None, :, :] - numbers[:, None, :]  # [from, to, pool]
        every = self.rule[0].every_s
        start_s = np.array([math.ceil(r.start_s / every) * every for r in self.rule])
        hold_s = np.array([math.ceil(r.hold_s / every) * every for r in self.rule])
        moves = np.maximum(more, 0.0) @ (chips * start_s) + np.maximum(-more, 0.0) @ (chips * hold_s)
        pays = numbers @ chips * self.bin_s
        least = self.numbers.index(tuple(r.least for r in self.rule))
        ready = [int((every + r.start_s) / self.bin_s) + 1 for r in self.rule]
        wanted = goodput * float(asked.sum()) - KEPT_MARGIN

        def path(price: float) -> tuple[tuple[int, ...], float]:
            cost = np.full(len(numbers), math.inf)
            cost[least] = 0.0
            came = []
            for k in range(self.bins):
                ways = cost[:, None] + moves
                for i, first in enumerate(ready):  # what was ordered at the first look does not serve yet
                    if k < first:
                        ways = np.where(more[:, :, i] > 0.0, math.inf, ways)
                came.append(np.argmin(ways, axis=0))
                cost = np.min(ways, axis=0) + pays - price * worth[:, k]
            at = int(np.argmin(cost))
            out = [at]
            for k in range(self.bins - 1, 0, -1):
                out.append(int(came[k][out[-1]]))
            out.reverse()
            return tuple(out), float_sum(float(worth[c, k]) for k, c in enumerate(out))

        low, high = 0.0, 10.0 * float(pays.max() * self.bins)
        dear, kept = path(high)
        if kept < wanted:
            return None
        cheap = path(low)[0]
        for _ in range(PRICE_HALVINGS):
            price = 0.5 * (low + high)
            found, kept = path(price)
            if kept >= wanted:
                high, dear = price, found
            else:
                low, cheap = price, found
        return dear, cheap

    def _rules(self, needs: Sequence[tuple[int, ...]]) -> PoolRules:
        """PoolRules that have these numbers serve in each bin: ordered in time, and held."""
        out = []
        for i, r in enumerate(self.rule):
            looks = round(self.bin_s / r.every_s)
            need = [n[i] for n in needs for _ in range(looks)]
            before, after = (math.ceil(s / r.every_s) for s in (r.hold_s, r.start_s))
            numbers = [max(need[max(0, j - before) : j + after + 1], default=need[-1]) for j in range(1, len(need) + 1)]
            out.append(replace(r, hold_s=0.0, make=partial(Scheduled, numbers, r.every_s)))
        return tuple(out)


def bin_width_s(every_s: float, until_s: float) -> float:
    """A bin of whole looks, so that there are at most `MOST_BINS`.

    Example:
        >>> bin_width_s(30.0, 86_400.0)
        60.0
    """
    return every_s * max(1, math.ceil(until_s / every_s / MOST_BINS))


def regret(hindsight: Hindsight, rule: Play, target: float | None) -> dict[str, object]:
    """What is told of a rule: itself, the best constant number, the best in hindsight, and the rate known."""
    goodput = rule.goodput if target is None else min(target, rule.goodput)
    best, constant = hindsight.best(rule, goodput), hindsight.constant(goodput)
    paid, least = rule.chip_s / 3600.0, best.chip_s / 3600.0
    return {
        "goodput_frac": goodput,
        "rule": rule.to_dict(),
        "constant": None if constant is None else {**constant.to_dict(), "replicas": list(constant.replicas)},
        "hindsight": {**best.to_dict(), "is": best.how},
        "known_rate": None if hindsight.oracle is None else hindsight.oracle.to_dict(),
        "chip_hours": paid - least,
        "frac": (paid - least) / paid if paid else 0.0,
        "short_frac": 0.0 if target is None else max(0.0, target - rule.goodput),
        "plays": len(hindsight.plays),
    }
