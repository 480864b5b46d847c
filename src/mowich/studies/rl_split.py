"""`mowich rl --chips N --on A,B`: how many chips of which vendor make answers and how many train, beside one vendor
alone and beside chips that take turns.

The fronts of both searches (plans of a worker by tokens, plans of a trainer by step time) are paired at every size, the
closed form prunes, and the answer to each pair of systems is a run like any other (`studies.rl.assess`). Who is best is
a decision over the estimates of these rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from mowich.arrays import Floats
from mowich.economics import money
from mowich.errors import EXIT_INFEASIBLE, UserError
from mowich.estimate import Estimate
from mowich.machines.system import System, resolve
from mowich.plans import preference
from mowich.plans.plan import Plan, ServePlan
from mowich.progress import steps, tell
from mowich.rl.frameworks import Framework, read_framework
from mowich.rl.job import RlJob
from mowich.rl.schedule import closed_columns
from mowich.rl.sides import RolloutSide, SyncSide, TrainerSide
from mowich.rl.split import (
    Candidates,
    Legal,
    Places,
    SideColumns,
    SplitGoal,
    by_goal,
    front_of,
    is_beaten,
    usd_per_mtok,
)
from mowich.rl.trainer import trainer_side
from mowich.serving.search import ServeJob, search_serving
from mowich.software.engine import engine_for
from mowich.software.stack import Platform
from mowich.studies.ranking import AT_EQUAL_CHIPS, EQUAL_WITHIN, Ranking, names_listed
from mowich.studies.rl import (
    assess,
    models_of,
    rollout_plans,
    sync_of,
    trainer_plans_of,
    trainer_platform,
    without_answer,
)
from mowich.studies.rl_row import RlAsk, RlRow
from mowich.studies.serving import deploy
from mowich.studies.serving_plan import searched_plans, worker
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
    """One search. base: the run, split, with what was stated of either side (its systems and chips are not read);
    chips: so many in all, or at most (`SplitGoal`); systems: among which; goal: what is chosen by; budget: dollars of a
    million trained tokens, of the goal "time"."""

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
    """The best run of its kind. row: as `mowich rl` answers it; prices: of its systems, by name, as labels say."""

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
    """A candidate that no other beats in both step time and dollars, in closed form. usd_per_mtok: NaN where no price
    is known."""

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
    """The best run of each kind, those over two vendors first, who of them is best, and the front of all candidates
    with at most the chips asked for. evaluated: candidates in closed form."""

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
            "cheaper": self.cheaper,
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


@dataclass(kw_only=True)
class _Vendor:
    """One system as either side: the front of its plans of a worker, and its best plan of a trainer of any size."""

    ask: SplitAsk
    place: int
    name: str
    framework: Framework
    trained: dict[int, _Trainer | None] = field(default_factory=dict)

    @cached_property
    def system(self) -> System:
        """All the chips that may be asked for."""
        return resolve(self.ask.base.facts, self.name, chips=self.ask.chips)

    @cached_property
    def engine(self) -> str:
        base = self.ask.base
        return engine_for(base.facts, self.system, base.rollouts.engine or None, base.model)

    @cached_property
    def legal(self) -> Legal:
        """Sizes of either side."""
        system = self.system
        return Legal(server=min(system.chips_per_server, system.chips), unit=system.chips_per_unit, most=system.chips)

    @cached_property
    def price(self) -> money.Price:
        return money.price(self.ask.base.facts, self.system.id, term=self.ask.base.term)

    @property
    def usd_per_chip_s(self) -> float:
        value = self.price.rate.value
        return math.nan if value is None else value

    @cached_property
    def plans(self) -> list[ServePlan]:
        """Plans of a worker on the front of the search for serving: none is faster for a user and makes more tokens."""
        base, job, asked = self.ask.base, self.ask.base.job, self.ask.base.rollouts
        if asked.plan is not None:
            return [asked.plan]
        plans = searched_plans(base.model, self.system, job.prompt, base.facts, asked.fixed)
        if not plans:
            return []
        how = {"accept": asked.accept, "drafts": asked.drafts, "release": asked.release}
        serve = ServeJob(prompt=job.prompt, output=job.lengths.mean, accept=asked.accept)
        d = deploy(base.model, self.system, self.engine, plans, base.facts, **how)  # type: ignore[arg-type]
        found = search_serving(self.system, worker(d, serve), serve, apart=False)
        return [plans[i] for i in sorted({f.decode for f in (*found.best, *found.front)})]

    def workers(self, job: RlJob) -> list[tuple[ServePlan, RolloutSide]]:
        """The plans of a worker with what it takes in a run, where it has room."""
        base, asked = self.ask.base, self.ask.base.rollouts
        if not self.plans:
            return []
        found = rollout_plans(
            base.model,
            self.system,
            job,
            self.plans,
            self.framework,
            base.facts,
            engine=self.engine,
            release=asked.release,
            memory_share=asked.memory_share,
            accept=asked.accept,
            drafts=asked.drafts,
        )
        pairs = zip(found.deployment.plans, found.sides, strict=True)
        return [(plan, side) for plan, side in pairs if side is not None]

    def trainer(self, chips: int) -> _Trainer | None:
        """Of the fastest plans of a trainer of so many chips the one that is least busy; None where none fits."""
        if chips not in self.trained:
            self.trained[chips] = self._trainer(chips)
        return self.trained[chips]

    def _trainer(self, chips: int) -> _Trainer | None:
        base = self.ask.base
        own = replace(base, trainer=replace(base.trainer, system_id=self.system.id, chips=chips))
        system = trainer_platform(own, self.framework)
        try:
            plans = trainer_plans_of(own, system)
        except UserError as error:
            if error.code != EXIT_INFEASIBLE:
                raise
            return None
        made = [trainer_side(base.model, system, base.job, p, self.framework, models=models_of(base)) for p in plans]
        if not made:
            return None
        best = min(range(len(made)), key=lambda i: made[i].busy_s)
        return _Trainer(self.place, plans[best], system, replace(made[best], chips=chips))


_NO_SYNC = SyncSide(method="", trainer_s=0.0, rollouts_s=0.0, whole_s=0.0)
_NO_TRAINER = TrainerSide(update_s=0.0, passes_s={}, chips=0)


@dataclass(kw_only=True)
class _Table:
    """The choices of either side at the sizes that were tried, and the candidates that were evaluated. It grows while
    sizes are tried. job: split, or in turns on the same chips; alone_s: a step of each choice of rollouts with a
    trainer that takes no time; seconds: steps by (place of the rollouts, of the trainer)."""

    ask: SplitAsk
    job: RlJob
    vendors: Sequence[_Vendor]
    framework: Framework
    rollouts: list[_Rollouts] = field(default_factory=list)
    alone_s: list[float] = field(default_factory=list)
    trainers: list[_Trainer] = field(default_factory=list)
    sizes: dict[tuple[str, int], set[int]] = field(default_factory=dict)
    workers: dict[int, list[tuple[ServePlan, RolloutSide]]] = field(default_factory=dict)
    seconds: dict[tuple[int, int], float] = field(default_factory=dict)

    def take(self, vendor: _Vendor, rollouts: Sequence[int], trainers: Sequence[int]) -> bool:
        """Try sizes of a system as either side; whether one of them is new."""
        made: list[_Rollouts] = []
        more, new = self._new("rollouts", vendor, rollouts), self._new("trainer", vendor, trainers)
        for chips in more:
            for plan, side in self._workers(vendor):
                if workers := chips * vendor.system.devices_per_chip // plan.devices:
                    made.append(_Rollouts(vendor.place, plan, replace(side, workers=workers, chips=chips)))
        self.rollouts += made
        if made:
            at, none = np.arange(len(made)), np.zeros(len(made), dtype=np.intp)
            alone = self._closed([r.side for r in made], [_NO_TRAINER], [_NO_SYNC], (at, none, none))
            self.alone_s += alone.tolist()
        trained = [vendor.trainer(chips) for chips in new]
        self.trainers += [trainer for trainer in trained if trainer is not None]
        return bool(more or new)

    def _new(self, side: str, vendor: _Vendor, sizes: Sequence[int]) -> list[int]:
        known = self.sizes.setdefault((side, vendor.place), set())
        new = sorted({n for n in sizes if n} - known)
        known.update(new)
        return new

    def _workers(self, vendor: _Vendor) -> list[tuple[ServePlan, RolloutSide]]:
        if vendor.place not in self.workers:
            self.workers[vendor.place] = vendor.workers(self.job)
        return self.workers[vendor.place]

    def filled(self) -> None:
        """Beside each size of a trainer, try the most chips that rollouts may have then."""
        left = {self.ask.chips - trainer.side.chips for trainer in self.trainers}
        for v in self.vendors:
            self.take(v, sorted({v.legal.at_most(n) for n in left}), ())

    def finer(self, best: Sequence[tuple[_Rollouts, _Trainer]]) -> bool:
        """Try sizes beside those of the best candidates; whether one of them is new."""
        found = False
        for v in self.vendors:
            made, trained = (sorted(self.sizes[side, v.place]) for side in ("rollouts", "trainer"))
            made = v.legal.beside(made, [r.side.chips for r, _ in best if r.vendor == v.place])
            trained = v.legal.beside(trained, [t.side.chips for _, t in best if t.vendor == v.place])
            both = sorted({*made, *trained}) if self.job.placement == "colocated" else None
            found |= self.take(v, both or made, both or trained)
        return found

    def candidates(self) -> tuple[Candidates, Floats, Floats]:
        """Every candidate within the chips: (pairs, step times, dollars of a million tokens), in closed form. Those
        that another one of the same systems beats whatever they take are left out (their time is infinite)."""
        made, trained = self._columns(self.rollouts, self.alone_s), self._columns(self.trainers, self._least_s())
        if self.job.placement == "colocated":
            found = Candidates.in_turns(made, trained, self.ask.chips)
        else:
            found = Candidates.apart(made, trained, self.ask.chips)
        pairs = list(zip(found.rollouts.tolist(), found.trainer.tolist(), strict=True))
        step_s = np.array([self.seconds.get(pair, np.inf) for pair in pairs])
        least_usd = np.nan_to_num(usd_per_mtok(found.usd_per_s, found.least_s, self.job.tokens))
        usd = np.nan_to_num(usd_per_mtok(found.usd_per_s, step_s, self.job.tokens))
        for is_first in (True, False):  # what may be best, then what it does not beat
            wave: list[int] = []
            for of in np.unique(found.systems, axis=0):
                mine = (found.systems == of).all(axis=1)
                known = mine & np.isfinite(step_s)
                rest = mine & ~np.isfinite(step_s)
                rest[rest] = ~is_beaten(found.least_s[rest], least_usd[rest], step_s[known], usd[known])
                left = np.flatnonzero(rest)
                wave += left[front_of(found.least_s[left], least_usd[left])].tolist() if is_first else left.tolist()
            if wave:
                step_s[wave] = self._evaluate([pairs[k] for k in wave])
                usd[wave] = np.nan_to_num(usd_per_mtok(found.usd_per_s[wave], step_s[wave], self.job.tokens))
        return found, step_s, usd_per_mtok(found.usd_per_s, step_s, self.job.tokens)

    def _evaluate(self, pairs: Sequence[tuple[int, int]]) -> list[float]:
        """Step times of some pairs, which are kept."""
        first, i = np.unique([a for a, _ in pairs], return_inverse=True)
        syncs = [self.sync(self.rollouts[a], self.trainers[b]) for a, b in pairs]
        at = i, np.array([b for _, b in pairs], dtype=np.intp), np.arange(len(pairs))
        sides = [self.rollouts[a].side for a in first]
        found: list[float] = self._closed(sides, [t.side for t in self.trainers], syncs, at).tolist()
        self.seconds.update(zip(pairs, found, strict=True))
        return found

    def _closed(
        self,
        rollouts: Sequence[RolloutSide],
        trainers: Sequence[TrainerSide],
        syncs: Sequence[SyncSide],
        at: tuple[Places, Places, Places],
    ) -> Floats:
        is_colocated = self.job.placement == "colocated"
        return closed_columns(
            self.job,
            rollouts,
            trainers,
            syncs,
            at,
            switch_s=self.framework.switch_s if is_colocated else 0.0,
            hides_passes=self.framework.hides_passes,
            other_s=self.framework.other_s,
        ).step_s

    def _least_s(self) -> list[float]:
        """Seconds of a step that each trainer takes at least, whatever makes its answers."""
        return [t.side.update_s if self.framework.hides_passes else t.side.busy_s for t in self.trainers]

    def _columns(self, choices: Sequence[_Rollouts] | Sequence[_Trainer], least_s: Sequence[float]) -> SideColumns:
        vendors = [self.vendors[choice.vendor] for choice in choices]
        chips = np.array([choice.side.chips for choice in choices], dtype=np.intp)
        return SideColumns(
            system=np.array([v.place for v in vendors], dtype=np.intp),
            chips=chips,
            more=np.array([v.legal.more(n) for v, n in zip(vendors, chips.tolist(), strict=True)], dtype=np.intp),
            usd_per_s=chips * np.array([v.usd_per_chip_s for v in vendors]),
            least_s=np.array(least_s),
        )

    def sync(self, made: _Rollouts, trained: _Trainer) -> SyncSide:
        """What new weights take between both."""
        system = replace(self.vendors[made.vendor].system, chips=made.side.chips)
        run = _run(self.ask.base, self.job)
        return sync_of(run, self.framework, trained.system, trained.plan, system, made.plan, made.side.workers)

    def choices(self, found: Candidates, place: int) -> tuple[_Rollouts, _Trainer]:
        """Both sides of a candidate."""
        return self.rollouts[found.rollouts[place]], self.trainers[found.trainer[place]]


def _run(base: RlAsk, job: RlJob) -> RlAsk:
    """The run with another schedule; on the same chips nothing crosses between sites."""
    return replace(base, job=job) if job.placement == "split" else replace(base, job=job, sync="", link_Bps=None)


def find_split(ask: SplitAsk) -> RlSplit:
    """The best run over each pair of systems, and on each of them with chips that take turns. Raises UserError for a
    system that is not known."""
    base = ask.base
    framework = read_framework(base.facts, base.framework, base.framework_release)
    names = tuple(dict.fromkeys(ask.systems))
    vendors = [_Vendor(ask=ask, place=i, name=name, framework=framework) for i, name in enumerate(names)]
    in_turns = replace(base.job, placement="colocated", staleness=0)
    apart, turns = (_Table(ask=ask, job=job, vendors=vendors, framework=framework) for job in (base.job, in_turns))
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


def _rows_of(table: _Table, kinds: Sequence[tuple[_Vendor, _Vendor]]) -> list[SplitRow]:
    """The best run of each pair of systems, sizes refined beside the best ones."""
    ask, near = table.ask, preference.margin(table.ask.base.facts)
    for i in range(FINER + 1):
        if table.job.placement == "split":
            table.filled()
        found, step_s, usd = table.candidates()
        orders = {
            (a.place, b.place): by_goal(
                ask.goal, found, step_s, usd, of=(a.place, b.place), budget=ask.budget, margin=near
            )
            for a, b in kinds
        }
        if i == FINER or not table.finer([table.choices(found, order[0]) for order in orders.values() if len(order)]):
            break
    out = []
    for a, b in kinds:
        order = orders[a.place, b.place]
        chosen = table.choices(found, order[0]) if len(order) else None
        out.append(_row(table, a, b, chosen))
    return out


def _row(table: _Table, a: _Vendor, b: _Vendor, chosen: tuple[_Rollouts, _Trainer] | None) -> SplitRow:
    """A candidate of two systems as a run, or why there is none."""
    ask, base = table.ask, table.ask.base
    is_colocated = table.job.placement == "colocated"
    made = replace(base.rollouts, on=a.name, system_id=a.system.id, engine=a.engine)
    trained = replace(base.trainer, on=b.name, system_id=b.system.id)
    run = _run(base, table.job)
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


def _point(table: _Table, found: Candidates, step_s: Floats, usd: Floats, place: int) -> FrontPoint:
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
