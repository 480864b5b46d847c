"""What would change the answer of a comparison: each fact moved to the ends of its range, and the value at which
another system wins.

All rows are made again under the moved fact, with plans fixed; where the winner at an end is another than now, the
value in between at which they tie is found by bisection. Prices and power have their break-evens in the rows
themselves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mowich.errors import UserError
from mowich.facts import Fact, Facts, Watched
from mowich.studies.explain import Explainer
from mowich.studies.explain.explainer import LEAST
from mowich.studies.explain.source import Source
from mowich.studies.explain.tree import labels
from mowich.studies.ranking import LESS_IS_BETTER, ranking

_FACTS = 8
"""Facts that are looked at: those that move one of the rows most."""

STEPS = 14
"""Bisections: the flip point is known to 1/16,000 of the range, in logarithms where it spans a factor of two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One fact. changes: row -> (relative change of the metric at the low end, at the high end); winner: who is best at
    the low end, at the high end;
    flip: the value at which the winner changes, SI (None: it does not within the range)."""

    fact: Fact
    low: float
    high: float
    changes: Mapping[str, tuple[float, float]]
    winner: tuple[str, str]
    flip: float | None
    flips_to: str | None

    @property
    def size(self) -> float:
        return max(abs(x) for pair in self.changes.values() for x in pair)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turning:
    """metric: what rows are compared by; winner: the best row now; turns: largest first."""

    metric: str
    winner: str
    turns: tuple[Turn, ...]


def turning(explainer: Explainer, metric: str) -> Turning | None:
    """The facts that move `metric` of a comparison's rows, with flip points; None where the rows are not ranked by it
    (`studies.ranking`)."""
    if ranking(explainer.result, metric).best is None:
        return None
    rows = explainer.result["rows"]
    names = labels(rows)
    sources = {}
    for i, row in enumerate(rows):
        source = explainer.source(("rows", i, metric)) if row[metric]["value"] is not None else None
        if source is not None:
            sources[names[i]] = source
    if len(sources) < 2:
        return None

    def values(facts: Facts, which: Mapping[str, object] | None = None) -> dict[str, float]:
        return {
            n: v
            for n, s in sources.items()
            if (which is None or n in which) and (v := s.numbers(facts, (metric,)).get((metric,))) is not None
        }

    sign = 1.0 if LESS_IS_BETTER[metric] else -1.0

    def best(found: Mapping[str, float]) -> str:
        return min(found, key=lambda n: sign * found[n])

    now = values(explainer.facts)
    turns = []
    for fact in candidates(explainer, sources, metric, now)[:_FACTS]:
        assert fact.low is not None
        assert fact.high is not None
        try:
            ends = [values(explainer.facts.with_values({fact.path: end})) for end in (fact.low, fact.high)]
        except (UserError, ZeroDivisionError):
            continue
        changes = {
            n: (ends[0][n] / now[n] - 1.0, ends[1][n] / now[n] - 1.0) for n in now if n in ends[0] and n in ends[1]
        }
        if not changes:  # at an end no row has the metric any more: failures leave no time to train
            continue
        winners = (best(ends[0]), best(ends[1]))
        flip, to = None, None
        middle = float(fact.value or 0.0)
        for end, who in zip((fact.low, fact.high), winners, strict=True):
            if who != best(now):
                pair = {best(now): None, who: None}
                flip = _bisect(
                    middle,
                    end,
                    lambda x, p=pair, f=fact.path: best(values(explainer.facts.with_values({f: x}), p)) == best(now),
                )
                to = who
                break
        turns.append(
            Turn(fact=fact, low=fact.low, high=fact.high, changes=changes, winner=winners, flip=flip, flips_to=to)
        )
    moving = sorted((t for t in turns if t.size > LEAST), key=lambda t: -t.size)
    return Turning(metric=metric, winner=best(now), turns=tuple(moving))


def candidates(
    explainer: Explainer, sources: Mapping[str, Source], metric: str, now: Mapping[str, float]
) -> list[Fact]:
    """Facts with a range that may move the metric, those that move a row most first: what `compare` moved for the step
    (its `spread`), and what the metric rests on besides (price, power, failures, site)."""
    rows = dict(zip(labels(explainer.result["rows"]), explainer.result["rows"], strict=True))
    sizes: dict[str, float] = {}
    order = labels(explainer.result["rows"])
    for name, source in sources.items():
        if "spread" not in rows[name]:  # a serving row: all that it rests on
            for m in explainer.at(("rows", order.index(name), metric), winners=False).moves:
                sizes[m.fact.path] = max(sizes.get(m.fact.path, 0.0), m.size)
            continue
        for s in rows[name]["spread"]:
            sizes[s["fact"]] = max(sizes.get(s["fact"], 0.0), abs(s["at_low"]), abs(s["at_high"]))
        watched = Watched(explainer.facts)
        source.numbers(watched, (metric,))
        for fact in watched.read.values():
            if not (fact.path.startswith(("prices.", "reliability.", "sites.")) or ".power." in fact.path):
                continue
            if fact.low is None or fact.high is None or fact.low == fact.high or fact.path in sizes:
                continue
            ends = (
                source.numbers(explainer.facts.with_values({fact.path: end}), (metric,)).get((metric,))
                for end in (fact.low, fact.high)
            )
            sizes[fact.path] = max((abs(end / now[name] - 1.0) for end in ends if end is not None), default=0.0)
    found = (explainer.facts.get(path) for path in sorted(sizes, key=lambda p: -sizes[p]))
    return [f for f in found if f is not None and f.low is not None and f.high is not None]


def _bisect(holds: float, breaks: float, test: object) -> float:
    """The value between, at which `test` stops to hold."""
    assert callable(test)
    log = min(holds, breaks) > 0 and max(holds, breaks) / min(holds, breaks) > 2
    a, b = (math.log(holds), math.log(breaks)) if log else (holds, breaks)
    for _ in range(STEPS):
        middle = (a + b) / 2
        if test(math.exp(middle) if log else middle):
            a = middle
        else:
            b = middle
    return math.exp((a + b) / 2) if log else (a + b) / 2
