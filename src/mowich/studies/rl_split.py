"""`mowich rl --chips N --on A,B`: how many chips of which vendor make answers and how many train, beside one vendor
alone and beside chips that take turns.

The fronts of both searches (plans of a worker by tokens, plans of a trainer by step time) are paired at every size, the
closed form prunes, the events play the best few, and the answer to each pair of systems is a run like any other
(`studies.rl.assess`). Who is best is a decision over the estimates of these rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from mowich.arrays import Floats
from mowich.estimate import Estimate
from mowich.plans import preference
from mowich.plans.plan import Plan, ServePlan
from mowich.plans.search import by_time
from mowich.price_terms import Quote, quote
from mowich.progress import steps, tell
from mowich.rl.events import play
from mowich.rl.split import Candidates, Indices, by_goal, front_of, step_usd_per_mtok
from mowich.shown import Keyed
from mowich.studies.ranking import AT_EQUAL_CHIPS, EQUAL_WITHIN, Ranking, names_listed
from mowich.studies.rl import assess, without_answer
from mowich.studies.rl_row import RlRow
from mowich.studies.split_table import RolloutChoice, SplitSystem, SplitTable, TrainerChoice, scheduled_run
from mowich.studies.split_table import SplitAsk as SplitAsk
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
    quotes: Mapping[str, Quote | None]


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


# ---- the question and its answer
# ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRow(Keyed):
    """The best run of its kind. row: as `mowich rl` answers it; prices: of its systems, by name, as labels say."""

    KEYS = "kind label chips"

    kind: SplitKind
    row: RlRow
    prices: Mapping[str, str]

    @property
    def label(self) -> str:
        """ "rollouts on trn3:64, training on gb300:72", "gb300:128, colocated"."""
        made, trained = self.row.ask.rollouts, self.row.ask.trainer
        if self.kind == "colocated":
            return f"{trained.on}:{trained.chips}, colocated"
        return f"rollouts on {made.on}:{made.chips}, training on {trained.on}:{trained.chips}"

    @property
    def chips(self) -> int:
        """Chips of both sides."""
        trained = self.row.ask.trainer.chips
        return trained if self.kind == "colocated" else trained + self.row.ask.rollouts.chips

    def contender(self, metric: str) -> Contender:
        """What a decision reads of it."""
        quotes = {name: quote(label) for name, label in self.prices.items()}
        return Contender(label=self.label, estimate=getattr(self.row, metric), chips=self.chips, quotes=quotes)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontPoint(Keyed):
    """A candidate that no other beats in both step time and dollars, in closed form. usd_per_mtok: NaN where no price
    is known."""

    KEYS = (
        "rollouts.system=rollouts rollouts.chips=rollout_chips rollouts.plan=rollout_plan rollouts.workers=workers "
        "trainer.system=trainer trainer.chips=trainer_chips trainer.plan=trainer_plan step_s usd_per_mtok:finite"
    )

    rollouts: str
    rollout_chips: int
    rollout_plan: ServePlan
    workers: int
    trainer: str
    trainer_chips: int
    trainer_plan: Plan
    step_s: float
    usd_per_mtok: float

    @property
    def label(self) -> str:
        """ "rollouts on trn3:64, training on gb300:72"."""
        return f"rollouts on {self.rollouts}:{self.rollout_chips}, training on {self.trainer}:{self.trainer_chips}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RlSplit(Keyed):
    """The best run of each kind, those over two vendors first, who of them is best, and the front of all candidates
    with at most the chips asked for. evaluated: candidates in closed form."""

    KEYS = (
        "chips=ask.chips systems=ask.systems goal=ask.goal metric=ask.metric best=ranking.best "
        "not_told_apart=ranking.close verdict cheaper rows front evaluated"
    )

    ask: SplitAsk
    rows: tuple[SplitRow, ...]
    front: tuple[FrontPoint, ...]
    evaluated: int

    @property
    def contenders(self) -> tuple[Contender, ...]:
        """What the decision reads of the rows."""
        return tuple(row.contender(self.ask.metric) for row in self.rows)

    @property
    def ranking(self) -> Ranking:
        """Who is best, and who is not told apart from it."""
        return split_ranking(self.contenders, self.ask.metric)

    @property
    def verdict(self) -> str:
        """The decision in words."""
        return verdict_text(self.contenders, self.ranking)

    @property
    def cheaper(self) -> str:
        """Where fewer chips cost less than the best row, in words; "" where none do."""
        known = [row.row.usd_per_mtok.value for row in self.rows if row.row.usd_per_mtok.value is not None]
        last = self.front[-1] if self.front else None
        if last is None or not known or not last.usd_per_mtok < min(known):
            return ""
        cost = show(last.usd_per_mtok, "USD/Mtok")
        return f"Fewer chips cost less: {last.label} cost {cost}, at {show(last.step_s, 's')} a step."

    def best_of(self, *kinds: SplitKind) -> SplitRow | None:
        """The best row of some kinds, by the number that decides; None where none has it."""
        known = [row for row in self.rows if row.kind in kinds and getattr(row.row, self.ask.metric).value is not None]
        return min(known, key=lambda row: float(getattr(row.row, self.ask.metric)), default=None)


# ---- the search
# ----------------------------------------------------------------------------------------------------------------------

FINALISTS = 3
"""Candidates of a pair of systems, the best ones in closed form, that the events play."""

SIZE_ROUNDS = 4
"""How often sizes between those that were tried are tried, beside the best ones."""


def find_split(ask: SplitAsk) -> RlSplit:
    """The best run over each pair of systems, and on each of them with chips that take turns. Raises UserError for a
    system that is not known."""
    base = ask.base
    framework = base.software()
    names = tuple(dict.fromkeys(ask.systems))
    vendors = [SplitSystem(ask=ask, place=i, name=name, framework=framework) for i, name in enumerate(names)]
    in_turns = replace(base.job, placement="colocated", staleness=0)
    apart, turns = (SplitTable(ask=ask, job=job, vendors=vendors, framework=framework) for job in (base.job, in_turns))
    for vendor in steps(vendors, "searching plans"):
        tell(f"on {vendor.name}")
        for table in (apart, turns):
            table.take(vendor, vendor.legal.first(), vendor.legal.first())
    rows = [
        *_rows_of(apart, [(a, b) for a in vendors for b in vendors]),
        *_rows_of(turns, [(v, v) for v in vendors]),
    ]
    found, step_s, usd = apart.candidates()
    order: tuple[SplitKind, ...] = get_args(SplitKind)
    known = [getattr(row.row, ask.metric).value for row in rows]
    places = sorted(
        range(len(rows)), key=lambda i: (order.index(rows[i].kind), math.inf if known[i] is None else known[i])
    )
    return RlSplit(
        ask=ask,
        rows=tuple(rows[i] for i in places),
        front=tuple(_point(apart, found, step_s, usd, k) for k in front_of(step_s, usd)),
        evaluated=len(apart.seconds) + len(turns.seconds),
    )


def _rows_of(table: SplitTable, kinds: Sequence[tuple[SplitSystem, SplitSystem]]) -> list[SplitRow]:
    """The best run of each pair of systems, sizes refined beside the best ones."""
    ask, near = table.ask, preference.margin(table.ask.base.facts)
    for i in range(SIZE_ROUNDS + 1):
        if table.job.placement == "split":
            table.filled()
        found, step_s, usd = table.candidates()
        orders = {
            (a.place, b.place): by_goal(
                ask.goal, found, step_s, usd, of=(a.place, b.place), budget=ask.budget, margin=near
            )
            for a, b in kinds
        }
        if i == SIZE_ROUNDS or not table.finer(
            [table.choices(found, order[0]) for order in orders.values() if len(order)]
        ):
            break
    return [_row(table, a, b, _played(table, found, orders[a.place, b.place][:FINALISTS])) for a, b in kinds]


def _played(table: SplitTable, found: Candidates, order: Indices) -> tuple[RolloutChoice, TrainerChoice] | None:
    """Of the best few candidates in closed form, the best as the events play them; None for none. order: their places,
    best first."""
    few = [table.choices(found, place) for place in order]
    if len(few) < 2:
        return few[0] if few else None
    step_s = np.array([play(table.job, table.sides(r, t), seed=table.ask.base.seed).step_s for r, t in few])
    usd = step_usd_per_mtok(found.usd_per_s[order], step_s, table.job.tokens)
    by_usd = table.ask.goal == "cost" and bool(np.isfinite(usd).all())
    return few[int(by_time(usd if by_usd else step_s)[0])]


def _row(
    table: SplitTable, a: SplitSystem, b: SplitSystem, chosen: tuple[RolloutChoice, TrainerChoice] | None
) -> SplitRow:
    """A candidate of two systems as a run, or why there is none."""
    ask, base = table.ask, table.ask.base
    is_colocated = table.job.placement == "colocated"
    made = replace(base.rollouts, on=a.name, system_id=a.system.id, engine=a.engine)
    trained = replace(base.trainer, on=b.name, system_id=b.system.id)
    run = scheduled_run(base, table.job, is_one_system=a is b)
    if chosen is None:
        where = a.name if is_colocated else f"{a.name} for rollouts and {b.name} for training"
        limit = " within the budget" if ask.goal == "time" and math.isfinite(ask.budget) else ""
        why = f"no plans fit at most {ask.chips:,} chips of {where}{limit}"
        row = without_answer(replace(run, rollouts=made, trainer=trained), why)
    else:
        r, t = chosen
        made, trained = (
            replace(made, chips=r.side.chips, plan=r.plan),
            replace(trained, chips=t.side.chips, plan=t.plan),
        )
        row = assess(replace(run, rollouts=made, trainer=trained))
    kind: SplitKind = "colocated" if is_colocated else "one vendor" if a is b else "two vendors"
    return SplitRow(kind=kind, row=row, prices={v.name: v.price.label for v in (a, b)})


def _point(table: SplitTable, found: Candidates, step_s: Floats, usd: Floats, place: int) -> FrontPoint:
    r, t = table.choices(found, place)
    return FrontPoint(
        rollouts=table.vendors[r.vendor].name,
        rollout_chips=r.side.chips,
        rollout_plan=r.plan,
        workers=r.side.workers,
        trainer=table.vendors[t.vendor].name,
        trainer_chips=t.side.chips,
        trainer_plan=t.plan,
        step_s=float(step_s[place]),
        usd_per_mtok=float(usd[place]),
    )
