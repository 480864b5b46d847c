"""`mowich rl --chips N --on A,B`: how many chips of which vendor make answers and how many train, beside one vendor
alone and beside chips that take turns.

The fronts of both searches (plans of a worker by tokens, plans of a trainer by step time) are paired at every size, the
closed form prunes, and the answer to each pair of systems is a run like any other (`studies.rl.assess`). Who is best is
a decision over the estimates of these rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np

from mowich.arrays import Floats
from mowich.economics import money
from mowich.errors import EXIT_INFEASIBLE, UserError
from mowich.estimate import Estimate
from mowich.machines.system import System, resolve
from mowich.models.model import as_trained
from mowich.plans.plan import Plan, ServePlan
from mowich.progress import steps, tell
from mowich.rl.frameworks import Framework, read_framework
from mowich.rl.rollout import room_tokens, token_times
from mowich.rl.schedule import closed_columns
from mowich.rl.sides import RolloutSide, SyncSide, TokenTimes, TrainerSide
from mowich.rl.split import (
    Candidates,
    Places,
    SideColumns,
    SplitGoal,
    by_goal,
    front_of,
    side_sizes,
    size_step,
    sizes_beside,
    usd_per_mtok,
)
from mowich.rl.sync import SyncEnd, method_of, sync_side
from mowich.rl.trainer import step_job, trainer_side
from mowich.serving.search import ServeJob, search_serving
from mowich.software.engine import engine_for
from mowich.software.stack import Platform, equip
from mowich.studies.ranking import AT_EQUAL_CHIPS, EQUAL_WITHIN, Ranking, names_listed
from mowich.studies.rl import assess
from mowich.studies.rl_row import RlAsk, RlRow
from mowich.studies.serving import Deployment, deploy
from mowich.studies.serving_plan import searched_plans, worker
from mowich.training.search import search
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


# ---- the question and its answer
# ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitAsk:
    """One search. base: the run, split, with what was stated of either side (its systems and chips are not read); chips:
    at most so many in all; systems: among which; goal: what is chosen by; budget: dollars of a million trained tokens,
    of the goal "time"."""

    base: RlAsk
    chips: int
    systems: tuple[str, ...]
    goal: SplitGoal = "cost"
    budget: float = math.inf

    @property
    def metric(self) -> str:
        """The number of a row that decides."""
        return "usd_per_mtok" if self.goal == "cost" else "step_s"


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRow:
    """The best run of its kind. row: as `mowich rl` answers it; prices: of its systems, by name, as their labels say."""

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
        quotes = {name: money.quote(label) for name, label in self.prices.items()}
        return Contender(label=self.label, estimate=getattr(self.row, metric), chips=self.chips, quotes=quotes)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontPoint:
    """A candidate that no other beats in both step time and dollars, in closed form. usd_per_mtok: NaN where no price is
    known."""

    rollouts: str
    rollout_chips: int
    rollout_plan: ServePlan
    workers: int
    trainer: str
    trainer_chips: int
    trainer_plan: Plan
    step_s: float
    usd_per_mtok: float

    def to_dict(self) -> dict[str, object]:
        """A point of the contract."""
        return {
            "rollouts": {
                "system": self.rollouts,
                "chips": self.rollout_chips,
                "plan": self.rollout_plan.to_dict(),
                "workers": self.workers,
            },
            "trainer": {"system": self.trainer, "chips": self.trainer_chips, "plan": self.trainer_plan.to_dict()},
            "step_s": self.step_s,
            "usd_per_mtok": None if math.isnan(self.usd_per_mtok) else self.usd_per_mtok,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RlSplit:
    """The best run of each kind, those over two vendors first, who of them is best, and the front of all candidates with
    at most the chips asked for. evaluated: candidates in closed form."""

    ask: SplitAsk
    rows: tuple[SplitRow, ...]
    front: tuple[FrontPoint, ...]
    evaluated: int

    @cached_property
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

    def best_of(self, *kinds: SplitKind) -> SplitRow | None:
        """The best row of some kinds, by the number that decides; None where none has it."""
        known = [row for row in self.rows if row.kind in kinds and getattr(row.row, self.ask.metric).value is not None]
        return min(known, key=lambda row: float(getattr(row.row, self.ask.metric)), default=None)

    def to_dict(self) -> dict[str, object]:
        """The key "split" of the contract; rows and the decision name places of the answer's rows."""
        found = self.ranking
        return {
            "chips": self.ask.chips,
            "systems": list(self.ask.systems),
            "goal": self.ask.goal,
            "metric": self.ask.metric,
            "best": found.best,
            "not_told_apart": list(found.close),
            "verdict": self.verdict,
            "rows": [{"kind": row.kind, "label": row.label, "chips": row.chips} for row in self.rows],
            "front": [point.to_dict() for point in self.front],
            "evaluated": self.evaluated,
        }


# ---- the search
# ----------------------------------------------------------------------------------------------------------------------

FINER = 4
"""How often sizes between those that were tried are tried, beside the best ones."""


@dataclass(frozen=True, slots=True)
class _Rollouts:
    """One choice of the side that makes answers. vendor: place of its system."""

    vendor: int
    plan: ServePlan
    side: RolloutSide


@dataclass(frozen=True, slots=True)
class _Trainer:
    """One choice of the side that trains. vendor: place of its system."""

    vendor: int
    plan: Plan
    system: Platform
    side: TrainerSide


@dataclass(frozen=True, kw_only=True)
class _Vendor:
    """One system as either side: the front of its plans of a worker, and its fastest plan of a trainer at any number of
    chips."""

    ask: SplitAsk
    place: int
    name: str
    framework: Framework
    trained: dict[int, _Trainer | None] = field(default_factory=dict)

    @cached_property
    def system(self) -> System:
        """All the chips that rollouts could have."""
        return resolve(self.ask.base.facts, self.name, chips=self.ask.chips)

    @cached_property
    def engine(self) -> str:
        base = self.ask.base
        return engine_for(base.facts, self.system, base.rollouts.engine or None, base.model)

    @cached_property
    def step(self) -> int:
        """Chips that the sizes of a side are multiples of."""
        server = self.system.chips_per_server
        return size_step(server=server, unit=self.system.chips_per_unit, most=self.ask.chips)

    @cached_property
    def price(self) -> money.Price:
        return money.price(self.ask.base.facts, self.system.id, term=self.ask.base.term)

    @property
    def usd_per_chip_s(self) -> float:
        value = self.price.rate.value
        return math.nan if value is None else value

    @cached_property
    def workers(self) -> list[tuple[ServePlan, TokenTimes, float, int]]:
        """(plan, steps, tokens that the cache holds, most sequences) of the plans on the front of the search for serving:
        none is faster for a user and makes more tokens."""
        base, job = self.ask.base, self.ask.base.job
        serve = ServeJob(prompt=job.prompt, output=job.lengths.mean, accept=base.rollouts.accept)
        plans = searched_plans(base.model, self.system, job.prompt, base.facts, base.rollouts.fixed)
        if not plans:
            return []
        d = _deployed(base, self.system, self.engine, plans)
        w = worker(d, serve)
        found = search_serving(self.system, w, serve, apart=False)
        chosen = np.array(sorted({f.decode for f in (*found.best, *found.front)}), dtype=np.intp)
        if not len(chosen):
            return []
        tokens = job.prompt + job.lengths.mean
        most = self.most
        times = token_times(w, chosen, prompt=job.prompt, longest=job.prompt + job.lengths.cap, most=most)
        room = room_tokens(w, chosen, tokens)
        return [
            (plans[i], t.scaled(self.framework.generation), float(r), round(most * plans[i].dp))
            for i, t, r in zip(chosen.tolist(), times, room, strict=True)
        ]

    @property
    def most(self) -> float:
        """Sequences that a rank group of a worker runs at once."""
        return 256.0

    def rollouts(self, chips: int) -> Iterator[_Rollouts]:
        """The choices of so many chips: whole workers of each plan, the rest stands idle."""
        for plan, times, room, most in self.workers:
            workers = chips * self.system.devices_per_chip // plan.devices
            if workers and room > 0.0:
                side = RolloutSide(workers=workers, times=times, room_tokens=room, most=most, chips=chips)
                yield _Rollouts(self.place, plan, side)

    def trainer(self, chips: int) -> _Trainer | None:
        """The fastest plan of a trainer of so many chips; None where none fits."""
        if chips not in self.trained:
            self.trained[chips] = self._trainer(chips)
        return self.trained[chips]

    def _trainer(self, chips: int) -> _Trainer | None:
        base = self.ask.base
        model = as_trained(base.model)
        system = equip(base.facts, self.name, chips=chips, stack=base.trainer.stack)
        try:
            found = search(model, system, step_job(base.job), fixed=base.trainer.fixed)
        except UserError as error:
            if error.code != EXIT_INFEASIBLE:
                raise
            return None
        if not found.best:
            return None
        plan = found.best[0].plan
        models = {name: m for name, m in (("critic", base.critic), ("teacher", base.teacher)) if m is not None}
        side = trainer_side(model, system, base.job, plan, self.framework, models=models)  # type: ignore[arg-type]
        return _Trainer(self.place, plan, system, side)


def _deployed(base: RlAsk, system: System, engine: str, plans: Sequence[ServePlan]) -> Deployment:
    asked = base.rollouts
    return deploy(
        base.model, system, engine, plans, base.facts, accept=asked.accept, drafts=asked.drafts, release=asked.release
    )


@dataclass(kw_only=True)
class _Table:
    """The candidates that were evaluated, and what they are made of. It grows while sizes are tried."""

    ask: SplitAsk
    vendors: Sequence[_Vendor]
    framework: Framework
    rollouts: list[_Rollouts] = field(default_factory=list)
    trainers: list[_Trainer] = field(default_factory=list)
    known: set[tuple[int, int]] = field(default_factory=set)
    pairs: list[tuple[int, int]] = field(default_factory=list)
    step_s: list[float] = field(default_factory=list)

    def grow(self, rollouts: Mapping[int, Sequence[int]], trainers: Mapping[int, Sequence[int]]) -> None:
        """Take sizes of either side, by place of the vendor, and evaluate the pairs that are new."""
        have = {(r.vendor, r.side.chips) for r in self.rollouts}
        more = [(v, n) for v, sizes in rollouts.items() for n in sizes if (v, n) not in have]
        self.rollouts += [choice for v, n in more for choice in self.vendors[v].rollouts(n)]
        have = {(t.vendor, t.side.chips) for t in self.trainers}
        found = [self.vendors[v].trainer(n) for v, sizes in trainers.items() for n in sizes if (v, n) not in have]
        self.trainers += [t for t in found if t is not None]
        pairs = self.candidates(every=True)
        new = [p for p in zip(pairs.rollouts.tolist(), pairs.trainer.tolist(), strict=True) if p not in self.known]
        if not new:
            return
        i, j = np.array(new, dtype=np.intp).T
        syncs = [self.sync(self.rollouts[a], self.trainers[b]) for a, b in new]
        columns = closed_columns(
            self.ask.base.job,
            [r.side for r in self.rollouts],
            [t.side for t in self.trainers],
            syncs,
            (i, j, np.arange(len(new), dtype=np.intp)),
            hides_passes=self.framework.hides_passes,
            other_s=self.framework.other_s,
        )
        self.known.update(new)
        self.pairs += new
        self.step_s += columns.step_s.tolist()
