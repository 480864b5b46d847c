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
from typing import Literal

import numpy as np

from mowich.arrays import Floats
from mowich.economics import money
from mowich.errors import EXIT_INFEASIBLE, UserError
from mowich.estimate import Estimate
from mowich.machines.system import System, resolve
from mowich.plans.plan import Plan, ServePlan
from mowich.progress import steps, tell
from mowich.rl.frameworks import Framework, read_framework
from mowich.rl.schedule import closed_columns
from mowich.rl.sides import RolloutSide, SyncSide, TrainerSide
from mowich.rl.split import (
    Candidates,
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
from mowich.rl.trainer import trainer_side
from mowich.serving.search import ServeJob, search_serving
from mowich.software.engine import engine_for
from mowich.software.stack import Platform
from mowich.studies.ranking import AT_EQUAL_CHIPS, EQUAL_WITHIN, Ranking, names_listed
from mowich.studies.rl import assess, models_of, rollout_plans, trainer_plans_of, trainer_platform, without_answer
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
    chips: at most so many in all; systems: among which; goal: what is chosen by; budget: dollars of a million trained
    tokens, of the goal "time"."""

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


@dataclass(kw_only=True)
class _Vendor:
    """One system as either side: the front of its plans of a worker, and its fastest plan of a trainer at any number of
    chips."""

    ask: SplitAsk
    place: int
    name: str
    framework: Framework

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
    def workers(self) -> list[tuple[ServePlan, RolloutSide]]:
        """Plans on the front of the search for serving (none is faster for a user and makes more tokens), each with as
        many workers as all chips hold."""
        base, job, asked = self.ask.base, self.ask.base.job, self.ask.base.rollouts
        plans = (
            [asked.plan] if asked.plan else searched_plans(base.model, self.system, job.prompt, base.facts, asked.fixed)
        )
        made = {
            "engine": self.engine,
            "release": asked.release,
            "memory_share": asked.memory_share,
            "accept": asked.accept,
            "drafts": asked.drafts,
        }
        if len(plans) > 1:
            serve = ServeJob(prompt=job.prompt, output=job.lengths.mean, accept=asked.accept)
            d = deploy(
                base.model,
                self.system,
                self.engine,
                plans,
                base.facts,
                accept=asked.accept,
                drafts=asked.drafts,
                release=asked.release,
            )
            found = search_serving(self.system, worker(d, serve), serve, apart=False)
            plans = [plans[i] for i in sorted({f.decode for f in (*found.best, *found.front)})]
        if not plans:
            return []
        sides = rollout_plans(base.model, self.system, job, plans, self.framework, base.facts, **made)
        pairs = zip(sides.deployment.plans, sides.sides, strict=True)
        return [(plan, side) for plan, side in pairs if side is not None]

    def rollouts(self, chips: int) -> list[_Rollouts]:
        """The choices of so many chips: whole workers of each plan, the rest stands idle."""
        found = []
        for plan, side in self.workers:
            if workers := chips * self.system.devices_per_chip // plan.devices:
                found.append(_Rollouts(self.place, plan, replace(side, workers=workers, chips=chips)))
        return found

    def trainer(self, chips: int) -> _Trainer | None:
        """Of the fastest plans of a trainer of so many chips the one that is least busy; None where none fits."""
        base = self.ask.base
        asked = replace(base.trainer, system_id=self.system.id, chips=chips)
        own = replace(base, trainer=asked)
        system = trainer_platform(own, self.framework)
        try:
            plans = trainer_plans_of(own, system)
        except UserError as error:
            if error.code != EXIT_INFEASIBLE:
                raise
            return None
        sides = [
            trainer_side(base.model, system, base.job, plan, self.framework, models=models_of(base)) for plan in plans
        ]
        if not sides:
            return None
        best = min(range(len(sides)), key=lambda i: sides[i].busy_s)
        return _Trainer(self.place, plans[best], system, replace(sides[best], chips=chips))


@dataclass(kw_only=True)
class _Table:
    """The choices of either side at the sizes that were tried, and the candidates that were evaluated. It grows."""

    ask: SplitAsk
    vendors: Sequence[_Vendor]
    framework: Framework
    rollouts: list[_Rollouts] = field(default_factory=list)
    trainers: list[_Trainer] = field(default_factory=list)
    tried: dict[tuple[str, int], set[int]] = field(default_factory=dict)
    seconds: dict[tuple[int, int], float] = field(default_factory=dict)

    def with_rollouts(self, vendor: int, sizes: Sequence[int]) -> bool:
        """Take sizes of the side that makes answers; whether one of them is new."""
        new = self._new("rollouts", vendor, sizes)
        self.rollouts += [choice for n in new for choice in self.vendors[vendor].rollouts(n)]
        return bool(new)

    def with_trainers(self, vendor: int, sizes: Sequence[int]) -> bool:
        """Take sizes of the side that trains; whether one of them is new."""
        new = self._new("trainer", vendor, sizes)
        self.trainers += [choice for n in new if (choice := self.vendors[vendor].trainer(n)) is not None]
        return bool(new)

    def _new(self, side: str, vendor: int, sizes: Sequence[int]) -> list[int]:
        known = self.tried.setdefault((side, vendor), set())
        new = sorted(set(sizes) - known)
        known.update(new)
        return new

    def with_all_used(self) -> None:
        """Beside each size of a trainer, the most chips that rollouts may have then."""
        for vendor in self.vendors:
            left = {self.ask.chips - trainer.side.chips for trainer in self.trainers}
            self.with_rollouts(vendor.place, sorted({n // vendor.step * vendor.step for n in left} - {0}))

    def with_finer(self, best: Sequence[tuple[_Rollouts, _Trainer]]) -> bool:
        """Take sizes beside those of the best candidates; whether one of them is new."""
        found = False
        for vendor in self.vendors:
            made = [r.side.chips for r, _ in best if r.vendor == vendor.place]
            trained = [t.side.chips for _, t in best if t.vendor == vendor.place]
            known = [sorted(self.tried[side, vendor.place]) for side in ("rollouts", "trainer")]
            found |= self.with_rollouts(vendor.place, sizes_beside(known[0], made, vendor.step))
            found |= self.with_trainers(vendor.place, sizes_beside(known[1], trained, vendor.step))
        return found

    def evaluated(self) -> tuple[Candidates, Floats, Floats]:
        """Every candidate within the chips: (pairs, step times, dollars of a million tokens), in closed form."""
        ask, job = self.ask, self.ask.base.job
        found = Candidates.within(self._columns(self.rollouts), self._columns(self.trainers), ask.chips)
        pairs = list(zip(found.rollouts.tolist(), found.trainer.tolist(), strict=True))
        if new := [pair for pair in pairs if pair not in self.seconds]:
            i, j = np.array(new, dtype=np.intp).T
            columns = closed_columns(
                job,
                [r.side for r in self.rollouts],
                [t.side for t in self.trainers],
                [self.sync(self.rollouts[a], self.trainers[b]) for a, b in new],
                (i, j, np.arange(len(new))),
                hides_passes=self.framework.hides_passes,
                other_s=self.framework.other_s,
            )
            self.seconds.update(zip(new, columns.step_s.tolist(), strict=True))
        step_s = np.array([self.seconds[pair] for pair in pairs])
        return found, step_s, usd_per_mtok(found.usd_per_s, step_s, job.tokens)

    def _columns(self, choices: Sequence[_Rollouts] | Sequence[_Trainer]) -> SideColumns:
        vendors = [self.vendors[choice.vendor] for choice in choices]
        chips = np.array([choice.side.chips for choice in choices], dtype=np.intp)
        return SideColumns(
            system=np.array([v.place for v in vendors], dtype=np.intp),
            chips=chips,
            usd_per_s=chips * np.array([v.usd_per_chip_s for v in vendors]),
            step=np.array([v.step for v in vendors], dtype=np.intp),
        )

    def sync(self, made: _Rollouts, trained: _Trainer) -> SyncSide:
        """What new weights take between both."""
        base, system = self.ask.base, self.vendors[made.vendor].system
        is_one_vendor = system.vendor == trained.system.vendor
        return sync_side(
            base.model,
            SyncEnd(
                system=trained.system,
                devices=trained.plan.devices,
                plan=trained.plan,
                format="bf16",
            ),
            SyncEnd(
                system=replace(system, chips=made.side.chips),
                devices=made.side.workers * made.plan.devices,
                plan=made.plan,
                format=made.plan.weights,
                workers=made.side.workers,
            ),
            method_of(base.sync, self.framework, is_colocated=False, is_one_vendor=is_one_vendor),
            framework=self.framework,
            link_Bps=base.link_Bps,
            facts=base.facts,
        )


def find_split(ask: SplitAsk) -> RlSplit:
    """The best run over each pair of systems, and on each of them with chips that take turns. Raises UserError for a
    system that is not known."""
    base = ask.base
    framework = read_framework(base.facts, base.framework, base.framework_release)
    vendors = [
        _Vendor(ask=ask, place=i, name=name, framework=framework) for i, name in enumerate(dict.fromkeys(ask.systems))
    ]
    table = _Table(ask=ask, vendors=vendors, framework=framework)
    for vendor in steps(vendors, "searching plans"):
        tell(f"on {vendor.name}")
        sizes = side_sizes(vendor.step, ask.chips)
        table.with_rollouts(vendor.place, sizes)
        table.with_trainers(vendor.place, sizes)
    for _ in range(FINER):
        table.with_all_used()
        found, step_s, usd = table.evaluated()
        best = _best_of_kinds(table, found, step_s, usd)
        if not table.with_finer(
            [(table.rollouts[found.rollouts[k]], table.trainers[found.trainer[k]]) for k in best.values()]
        ):
            break
    rows = [_row(table, found, best.get((a.place, b.place)), a, b) for a in vendors for b in vendors]
    rows += [_in_turns(vendor) for vendor in vendors]
    order = {"two vendors": 0, "one vendor": 1, "colocated": 2}
    unknown = [getattr(row.row, ask.metric).value is None for row in rows]
    values = [
        math.inf if none else float(getattr(row.row, ask.metric)) for row, none in zip(rows, unknown, strict=True)
    ]
    places = sorted(range(len(rows)), key=lambda i: (order[rows[i].kind], values[i]))
    return RlSplit(
        ask=ask,
        rows=tuple(rows[i] for i in places),
        front=tuple(_point(table, found, step_s, usd, k) for k in front_of(step_s, usd)),
        evaluated=len(table.seconds),
    )


def _best_of_kinds(table: _Table, found: Candidates, step_s: Floats, usd: Floats) -> dict[tuple[int, int], int]:
    """(place of the rollouts' system, of the trainer's) -> place of the best candidate of both."""
    ask = table.ask
    kinds = [(a.place, b.place) for a in table.vendors for b in table.vendors]
    orders = {of: by_goal(ask.goal, found, step_s, usd, of=of, budget=ask.budget) for of in kinds}
    return {of: int(order[0]) for of, order in orders.items() if len(order)}


def _row(table: _Table, found: Candidates, place: int | None, a: _Vendor, b: _Vendor) -> SplitRow:
    """The best candidate of two systems as a run, or why there is none."""
    base = table.ask.base
    half = max(a.step, b.step)
    made = replace(base.rollouts, on=a.name, system_id=a.system.id, chips=half, engine=a.engine)
    trained = replace(base.trainer, on=b.name, system_id=b.system.id, chips=half)
    if place is None:
        run = without_answer(
            replace(base, rollouts=made, trainer=trained),
            f"no plans of rollouts on {a.name} and training on {b.name} fit {table.ask.chips:,} chips"
            + (" within the budget" if table.ask.goal == "time" and math.isfinite(table.ask.budget) else ""),
        )
    else:
        r, t = table.rollouts[found.rollouts[place]], table.trainers[found.trainer[place]]
        made = replace(made, chips=r.side.chips, plan=r.plan)
        trained = replace(trained, chips=t.side.chips, plan=t.plan)
        run = assess(replace(base, rollouts=made, trainer=trained))
    prices = {v.name: v.price.label for v in (a, b)}
    return SplitRow(kind="one vendor" if a is b else "two vendors", row=run, prices=prices)


def _in_turns(vendor: _Vendor) -> SplitRow:
    """The same work on chips of one system that make answers and train in turns."""
    base = vendor.ask.base
    chips = max(vendor.step, vendor.ask.chips // vendor.step * vendor.step)
    on = {"on": vendor.name, "system_id": vendor.system.id, "chips": chips}
    run = assess(
        replace(
            base,
            job=replace(base.job, placement="colocated", staleness=0),
            rollouts=replace(base.rollouts, engine=vendor.engine, **on),
            trainer=replace(base.trainer, **on),
            link_Bps=None,
            sync="",
        )
    )
    return SplitRow(kind="colocated", row=run, prices={vendor.name: vendor.price.label})


def _point(table: _Table, found: Candidates, step_s: Floats, usd: Floats, place: int) -> FrontPoint:
    r, t = table.rollouts[found.rollouts[place]], table.trainers[found.trainer[place]]
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
