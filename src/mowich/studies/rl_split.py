"""`mowich rl --chips N --on A,B`: how many chips of which vendor make answers and how many train, beside one vendor
alone and beside chips that take turns.

The fronts of both searches (plans of a worker by tokens, plans of a trainer by step time) are paired at every size, the
closed form prunes, and the answer to each pair of systems is a run like any other (`studies.rl.assess`). Who is best is
a decision over the estimates of these rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mowich.economics import money
from mowich.estimate import Estimate
from mowich.studies.ranking import AT_EQUAL_CHIPS, EQUAL_WITHIN, Ranking, names_listed
from mowich.units import show

SplitKind = Literal["two vendors", "one vendor", "colocated"]
"""Both sides on their own systems; both sides apart on one system; both on the same chips in turns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """What a decision reads of a row. label: what it is; estimate: what is compared; chips: asked for; quotes: terms of
    the prices of its systems, with their names."""

    label: str
    estimate: Estimate
    chips: int
    quotes: Mapping[str, money.Quote | None]


def not_told_apart(a: Contender, b: Contender, metric: str) -> str:
    """Why nobody can say which of two is better, in words; "" where one can: prices are on equal terms (of dollars),
    chips are as many (of step times), and ranges do not overlap."""
    if metric in AT_EQUAL_CHIPS:
        if max(a.chips, b.chips) > EQUAL_WITHIN * min(a.chips, b.chips):
            return "the numbers of chips differ"
    else:
        quotes = {**a.quotes, **b.quotes}
        if guessed := [name for name, quote in quotes.items() if quote is not None and quote.is_estimate]:
            return f"the price of {names_listed(guessed)} is an estimate that nobody quotes"
        if len({quote.term if quote else "" for quote in quotes.values()}) > 1:
            return "prices are on different terms"
    return "the ranges overlap" if a.estimate.overlaps(b.estimate) else ""


def split_ranking(rows: Sequence[Contender], metric: str) -> Ranking:
    """Which of some rows is best by dollars of a token or by step time, both of which are the less the better, and
    which others are not told apart from it. Two rows are compared by what they are alone: no third row changes that."""
    known = [i for i, row in enumerate(rows) if row.estimate.value is not None]
    if not known:
        return Ranking(metric=metric, why_not="no row has a known value")
    best = min(known, key=lambda i: float(rows[i].estimate))
    close = [i for i in known if i != best and not_told_apart(rows[i], rows[best], metric)]
    return Ranking(metric=metric, best=best, close=tuple(sorted(close, key=lambda i: float(rows[i].estimate))))


def verdict_text(rows: Sequence[Contender], ranked: Ranking) -> str:
    """Who is best, in words; "no winner" where others are not told apart from the best.

    >>> from mowich.estimate import Estimate
    >>> def of(name: str, x: float) -> Contender:
    ...     usd = Estimate(value=x, unit="USD/Mtok", low=0.9 * x, high=1.1 * x)
    ...     return Contender(label=name, estimate=usd, chips=8, quotes={})
    >>> verdict_text(near := [of("a", 1.0), of("b", 1.1)], split_ranking(near, "usd_per_mtok"))
    'No winner: a costs least (1.00 USD/Mtok), but the ranges overlap beside b.'
    >>> verdict_text(far := [of("a", 1.0), of("b", 2.0)], split_ranking(far, "usd_per_mtok"))
    'a costs least: 1.00 USD/Mtok (0.900 USD/Mtok .. 1.10 USD/Mtok). The next is b, 2.00 USD/Mtok.'
    """
    if ranked.best is None:
        return f"Not ranked: {ranked.why_not}."
    does = "is fastest" if ranked.metric in AT_EQUAL_CHIPS else "costs least"
    best = rows[ranked.best]
    amount = show(float(best.estimate), best.estimate.unit)
    if ranked.close:
        beside: dict[str, list[str]] = {}
        for i in ranked.close:
            beside.setdefault(not_told_apart(rows[i], best, ranked.metric), []).append(rows[i].label)
        reasons = [f"{why} beside {names_listed(labels)}" for why, labels in beside.items()]
        return f"No winner: {best.label} {does} ({amount}), but {'; '.join(reasons)}."
    text = f"{best.label} {does}: {best.estimate}".rsplit(" [", 1)[0]
    others = [row for i, row in enumerate(rows) if i != ranked.best and row.estimate.value is not None]
    if others:
        second = min(others, key=lambda row: float(row.estimate))
        text += f". The next is {second.label}, {show(float(second.estimate), second.estimate.unit)}"
    return f"{text}."
