"""The choices of a split, as they are searched: plans and sizes of either side on each system, and the candidates that
were evaluated in closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from mowich.arrays import Floats
from mowich.economics import money
from mowich.errors import UserError, or_infeasible
from mowich.machines.system import System, resolve
from mowich.plans.plan import Plan, ServePlan
from mowich.rl.frameworks import Framework
from mowich.rl.job import RlJob
from mowich.rl.schedule import closed_columns
from mowich.rl.sides import NO_SYNC, RolloutSide, RunSides, SyncSide, TrainerSide
from mowich.rl.split import Candidates, Indices, Legal, SideColumns, SplitGoal, front_of, is_beaten, step_usd_per_mtok
from mowich.rl.trainer import trainer_side
from mowich.serving.search import ServeJob, search_serving
from mowich.software.engine import engine_for
from mowich.software.stack import Platform
from mowich.studies.rl import deployed, models_of, rollout_plans, sync_of, trainer_plans_of, trainer_platform
from mowich.studies.rl_row import RlAsk
from mowich.studies.serving_plan import searched_plans, worker


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

    @property
    def judge_usd_per_s(self) -> float:
        """Dollars a second of the chips that rate answers, which are beside those that are split."""
        base, chips = self.base, self.base.job.environment.judge_chips
        if not (base.judge_id and chips):
            return 0.0
        rate = money.price(base.facts, base.judge_id, term=base.term).rate.value
        return math.nan if rate is None else chips * rate


@dataclass(frozen=True, slots=True)
class RolloutChoice:
    """One choice of the side that makes answers. vendor: place of its system."""

    vendor: int
    plan: ServePlan
    side: RolloutSide


@dataclass(frozen=True, slots=True)
class TrainerChoice:
    """One choice of the side that trains. vendor: place of its system."""

    vendor: int
    plan: Plan
    system: Platform
    side: TrainerSide


@dataclass(kw_only=True)
class SplitSystem:
    """One system as either side: the front of its plans of a worker, and its best plan of a trainer of any size."""

    ask: SplitAsk
    place: int
    name: str
    framework: Framework
    trained: dict[int, TrainerChoice | None] = field(default_factory=dict)

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
        serve = ServeJob(prompt=job.prompt, output=job.lengths.mean, accept=asked.accept)
        d = deployed(base, self.system, self.engine, plans)
        found = search_serving(self.system, worker(d, serve), serve, apart=False)
        return [plans[i] for i in sorted({f.decode for f in (*found.best, *found.front)})]

    def workers(self, job: RlJob) -> list[tuple[ServePlan, RolloutSide]]:
        """The plans of a worker with what it takes in a run, where it has room."""
        if not self.plans:
            return []
        run = replace(self.ask.base, job=job)
        found = rollout_plans(run, self.system, self.plans, self.framework, self.engine)
        pairs = zip(found.deployment.plans, found.sides, strict=True)
        return [(plan, side) for plan, side in pairs if side is not None]

    def trainer(self, chips: int) -> TrainerChoice | None:
        """Of the fastest plans of a trainer of so many chips the one that is least busy; None where none fits."""
        if chips not in self.trained:
            self.trained[chips] = self._trainer(chips)
        return self.trained[chips]

    def _trainer(self, chips: int) -> TrainerChoice | None:
        base = self.ask.base
        own = replace(base, trainer=replace(base.trainer, system_id=self.system.id, chips=chips))
        system = trainer_platform(own, self.framework)
        plans = or_infeasible(trainer_plans_of, own, system)
        if isinstance(plans, UserError):
            return None
        made = [
            trainer_side(base.model, system, base.job, p, self.framework, models=models_of(base))
            for p in plans[:TRAINER_PLANS]
        ]
        if not made:
            return None
        best = min(range(len(made)), key=lambda i: made[i].busy_s)
        return TrainerChoice(self.place, plans[best], system, replace(made[best], chips=chips))


TRAINER_PLANS = 3
"""Plans of a trainer with the fastest optimizer steps; forward passes also decide between them."""

_NO_TRAINER = TrainerSide(update_s=0.0, passes_s={}, chips=0)


@dataclass(kw_only=True)
class SplitTable:
    """The choices of either side at the sizes that were tried, and the candidates that were evaluated. It grows while
    sizes are tried. job: split, or in turns on the same chips; alone_s: a step of each choice of rollouts with a
    trainer that takes no time; seconds: steps by (place of the rollouts, of the trainer)."""

    ask: SplitAsk
    job: RlJob
    vendors: Sequence[SplitSystem]
    framework: Framework
    rollouts: list[RolloutChoice] = field(default_factory=list)
    alone_s: list[float] = field(default_factory=list)
    trainers: list[TrainerChoice] = field(default_factory=list)
    sizes: dict[tuple[str, int], set[int]] = field(default_factory=dict)
    workers: dict[int, list[tuple[ServePlan, RolloutSide]]] = field(default_factory=dict)
    seconds: dict[tuple[int, int], float] = field(default_factory=dict)

    def take(self, vendor: SplitSystem, rollouts: Sequence[int], trainers: Sequence[int]) -> bool:
        """Try sizes of a system as either side; whether one of them is new."""
        made: list[RolloutChoice] = []
        more, new = self._new("rollouts", vendor, rollouts), self._new("trainer", vendor, trainers)
        for chips in more:
            for plan, side in self._workers(vendor):
                if workers := chips * vendor.system.devices_per_chip // plan.devices:
                    made.append(RolloutChoice(vendor.place, plan, replace(side, workers=workers, chips=chips)))
        self.rollouts += made
        if made:
            at, none = np.arange(len(made)), np.zeros(len(made), dtype=np.intp)
            alone = self._closed([r.side for r in made], [_NO_TRAINER], [NO_SYNC], (at, none, none))
            self.alone_s += alone.tolist()
        trained = [vendor.trainer(chips) for chips in new]
        self.trainers += [trainer for trainer in trained if trainer is not None]
        return bool(more or new)

    def _new(self, side: str, vendor: SplitSystem, sizes: Sequence[int]) -> list[int]:
        known = self.sizes.setdefault((side, vendor.place), set())
        new = sorted({n for n in sizes if n} - known)
        known.update(new)
        return new

    def _workers(self, vendor: SplitSystem) -> list[tuple[ServePlan, RolloutSide]]:
        if vendor.place not in self.workers:
            self.workers[vendor.place] = vendor.workers(self.job)
        return self.workers[vendor.place]

    def filled(self) -> None:
        """Beside each size of a trainer, try the most chips that rollouts may have then."""
        left = {self.ask.chips - trainer.side.chips for trainer in self.trainers}
        for v in self.vendors:
            self.take(v, sorted({v.legal.at_most(n) for n in left}), ())

    def finer(self, best: Sequence[tuple[RolloutChoice, TrainerChoice]]) -> bool:
        """Try sizes beside those of the best candidates, and the most chips that their rollouts leave to a trainer;
        whether one of them is new."""
        found = False
        for v in self.vendors:
            made, trained = (sorted(self.sizes[side, v.place]) for side in ("rollouts", "trainer"))
            made = v.legal.beside(made, [r.side.chips for r, _ in best if r.vendor == v.place])
            trained = v.legal.beside(trained, [t.side.chips for _, t in best if t.vendor == v.place])
            left = [v.legal.at_most(self.ask.chips - r.side.chips) for r, t in best if t.vendor == v.place]
            both = sorted({*made, *trained}) if self.job.placement == "colocated" else None
            found |= self.take(v, both or made, both or [*trained, *left])
        return found

    def candidates(self) -> tuple[Candidates, Floats, Floats]:
        """Every candidate within the chips: (pairs, step times, dollars of a million tokens), in closed form. Those
        that another one of the same systems beats whatever they take are left out (their time is infinite)."""
        made, trained = self._columns(self.rollouts, self.alone_s), self._columns(self.trainers, self._least_s())
        trained = replace(trained, usd_per_s=trained.usd_per_s + self.ask.judge_usd_per_s)
        if self.job.placement == "colocated":
            found = Candidates.in_turns(made, trained, self.ask.chips)
        else:
            found = Candidates.apart(made, trained, self.ask.chips)
        pairs = list(zip(found.rollouts.tolist(), found.trainer.tolist(), strict=True))
        step_s = np.array([self.seconds.get(pair, np.inf) for pair in pairs])
        least_usd = np.nan_to_num(step_usd_per_mtok(found.usd_per_s, found.least_s, self.job.tokens))
        usd = np.nan_to_num(step_usd_per_mtok(found.usd_per_s, step_s, self.job.tokens))
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
                usd[wave] = np.nan_to_num(step_usd_per_mtok(found.usd_per_s[wave], step_s[wave], self.job.tokens))
        return found, step_s, step_usd_per_mtok(found.usd_per_s, step_s, self.job.tokens)

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
        at: tuple[Indices, Indices, Indices],
    ) -> Floats:
        around = self.framework.around(self.job)
        return closed_columns(self.job, rollouts, trainers, syncs, at, **around).step_s

    def _least_s(self) -> list[float]:
        """Seconds of a step that each trainer takes at least, whatever makes its answers."""
        return [t.side.update_s if self.framework.hides_passes else t.side.busy_s for t in self.trainers]

    def _columns(
        self, choices: Sequence[RolloutChoice] | Sequence[TrainerChoice], least_s: Sequence[float]
    ) -> SideColumns:
        vendors = [self.vendors[choice.vendor] for choice in choices]
        chips = np.array([choice.side.chips for choice in choices], dtype=np.intp)
        return SideColumns(
            system=np.array([v.place for v in vendors], dtype=np.intp),
            chips=chips,
            more=np.array([v.legal.more(n) for v, n in zip(vendors, chips.tolist(), strict=True)], dtype=np.intp),
            usd_per_s=chips * np.array([v.usd_per_chip_s for v in vendors]),
            least_s=np.array(least_s),
        )

    def sync(self, made: RolloutChoice, trained: TrainerChoice) -> SyncSide:
        """What new weights take between both."""
        system = replace(self.vendors[made.vendor].system, chips=made.side.chips)
        run = scheduled_run(self.ask.base, self.job, is_one_system=made.vendor == trained.vendor)
        return sync_of(run, self.framework, trained.system, trained.plan, system, made.plan, made.side.workers)

    def sides(self, made: RolloutChoice, trained: TrainerChoice) -> RunSides:
        """What a step of a candidate is made of."""
        around = self.framework.around(self.job)
        return RunSides(rollouts=made.side, trainer=trained.side, sync=self.sync(made, trained), **around)

    def choices(self, found: Candidates, place: int) -> tuple[RolloutChoice, TrainerChoice]:
        """Both sides of a candidate."""
        return self.rollouts[found.rollouts[place]], self.trainers[found.trainer[place]]


def scheduled_run(base: RlAsk, job: RlJob, *, is_one_system: bool) -> RlAsk:
    """The run with another schedule. On one system nothing crosses between sites, and on the same chips a sync is the
    framework's own."""
    run = replace(base, job=job, link_Bps=None if is_one_system else base.link_Bps)
    return run if job.placement == "split" else replace(run, sync="")
