"""Training rows (compare, plan, sweep) made again: one plan on one system, through the functions that the search
evaluated."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from mowich.economics import energy, money
from mowich.estimate import Estimate, Notes, Term, exact, told
from mowich.evidence.row_plan import memory_of
from mowich.facts import Facts
from mowich.facts.moves import nudges
from mowich.machines.system import resolve
from mowich.models.model import Model, as_trained
from mowich.models.task import train_flop_per_token
from mowich.plans.memory import memory_B
from mowich.plans.memory_range import memory_need, usable_B
from mowich.plans.plan import Plan, Plans, TrainJob
from mowich.price_terms import term_of_row
from mowich.shown import Result
from mowich.software.recipes import RELEASE, before, release_of_plans, stack_of_release, switches_of
from mowich.software.stack import Platform, equip
from mowich.software.vendors import vendor_id
from mowich.studies.explain.source import METRIC_OF_BREAKEVEN, Numbers, Source, break_even
from mowich.studies.explain.tree import ResultPath
from mowich.studies.footing import PaidRun
from mowich.studies.hand_tuned import is_hand_tuned, stack_of
from mowich.studies.outcome import SystemAsk, step_outcome
from mowich.training import longrun
from mowich.training.parts import PARTS_OF_STEP
from mowich.training.sensitivity import ends, moved_numbers, noted_on
from mowich.training.step import OneStep, micro_batches_of, predict_step, step_time
from mowich.training.tuned import hand_tuned_terms, predict_hand_tuned

TERMS_OF_PART: Mapping[str, tuple[str, ...]] = {part.name: part.terms or (part.name,) for part in PARTS_OF_STEP}
"""Which recorded terms make each part of the step."""

OF_POINT = (
    *("seq", "batch_seqs", "batch_within", "tokens", "train_task", "lora_rank", "lora_targets", "document", "fill"),
    *("sites", "site_Bps", "outer_every"),
)
"""Inputs of the job that a point of a sweep states."""

Recorder = Callable[[Model, TrainJob, Plan, Platform, Notes], None]
"""Records the terms of a plan on a machine."""


MEMORY_NAMES = ("memory_B", "memory_range_B", "out_of_memory")
"""Keys of a row that follow from its memory."""


def memory_numbers(model: Model, system: Platform, job: TrainJob, plan: Plan, known: Facts) -> dict[ResultPath, float]:
    """The numbers of `MEMORY_NAMES` under other facts."""
    parts = memory_of(model, system, job, plan)
    need = memory_need(known, system, plan, parts)
    out: dict[ResultPath, float] = {("memory_B", k): v for k, v in parts.items()}
    out |= {("memory_range_B", k): v for k, v in need.range_B.items()}
    return out | {("out_of_memory",): need.out_of_memory}


def plan_memory_terms(whole: Notes, name: ResultPath) -> dict[str, Term]:
    """The terms of a plan's memory that make one of `MEMORY_NAMES`; for a category, only its own terms."""
    part = f"memory.{name[1]}" if name[0] == "memory_B" and len(name) > 1 else ""
    return {k: t for k, t in whole.terms.items() if not part or k == part}


def record_step(model: Model, job: TrainJob, plan: Plan, system: Platform, notes: Notes) -> None:
    """Record the terms of a step."""
    step_time(model, system, job, Plans.of([plan]), notes)


def record_memory(model: Model, job: TrainJob, plan: Plan, system: Platform, notes: Notes) -> None:
    """Record the terms of the memory that a plan needs."""
    columns = Plans.of([plan])
    memory_B(model, system, job, columns, micro_batches_of(job, columns), notes)


@dataclass(frozen=True, slots=True)
class _Row:
    """A row with a plan, its question, and the rows that it is compared with. others: of the same result; term: the
    price that was chosen; tokens: of a step; hand_tuned: its time is with kernels written by hand; paid_days: days that
    a budget pays for, None without one."""

    row: Result
    model: Model
    job: TrainJob
    plan: Plan
    used: int
    idle: int
    tokens: float
    term: str
    stack: str | None
    hand_tuned: bool
    paid_days: float | None
    others: Sequence[Result]

    def platform(self, known: Facts) -> Platform:
        """The machine and software of the row under other facts."""
        return equip(known, self.row["system_id"], chips=int(self.row["chips_requested"]), stack=self.stack)

    def ask(self, known: Facts) -> SystemAsk:
        """The question of the row under other facts."""
        days, tokens = self.paid_days, self.job.tokens
        return SystemAsk(
            name=self.row["system"],
            system_id=self.row["system_id"],
            chips=self.used + self.idle,
            stack=self.stack,
            model=self.model,
            facts=known,
            job=self.job,
            term=self.term,
            paid=None if days is None else PaidRun(usd=math.nan, days=days, has_tokens=bool(tokens)),
        )

    def break_even(
        self, name: str, speed: Estimate, goodput: Estimate, known: Facts, notes: Notes | None = None
    ) -> Estimate | None:
        """Where the row equals the best other row. speed: tokens per second of all chips."""
        return break_even(
            name,
            self.others,
            known,
            system_id=str(self.row["system_id"]),
            chips=self.used + self.idle,
            idle=self.idle,
            tokens_per_s=speed,
            goodput=goodput,
            notes=notes,
        )

    def numbers(self, known: Facts, wanted: ResultPath) -> Numbers:
        """The numbers of the row under other facts."""
        machine, first = self.platform(known), wanted[0]
        if first in MEMORY_NAMES:
            return memory_numbers(self.model, machine, self.job, self.plan, known)
        if first == "hand_tuned_step_s":
            fast = predict_hand_tuned(self.model, machine, self.job, self.plan).step
            return {(first,): fast.total_s} | {(first, "breakdown", k): v for k, v in fast.breakdown.items()}
        return self._of_step(known, machine)

    def _of_step(self, known: Facts, machine: Platform) -> Numbers:
        """The step, and what follows from its time."""
        step = self._step(machine)
        goodput = longrun.kept(known, machine.id, chips=self.used, step_s=step.total_s)
        made = step_outcome(
            self.ask(known), self.plan, step_s=exact(step.total_s, "s"), tokens=step.tokens, goodput=goodput
        )
        out: dict[ResultPath, float] = {("memory_capacity_B",): usable_B(known, machine)[0]}
        out |= {("step_s", "breakdown", k): v for k, v in step.breakdown.items()}
        found = {name: e for name, e in made.items() if isinstance(e, Estimate)}
        if goodput.value:
            speed = exact(step.tokens * self.job.fill / step.total_s, "1/s")
            evens = {name: self.break_even(name, speed, goodput, known) for name in METRIC_OF_BREAKEVEN}
            found |= {name: even for name, even in evens.items() if even is not None}
        return out | {(name,): e.value for name, e in found.items() if e.value is not None}

    def _step(self, machine: Platform) -> OneStep:
        if self.hand_tuned:
            return predict_hand_tuned(self.model, machine, self.job, self.plan).step
        return predict_step(self.model, machine, self.job, self.plan)

    def recorded(self, facts: Facts, record: Recorder) -> Notes:
        """All terms of a step or of a memory, each with the facts that move it."""
        return noted_on(partial(record, self.model, self.job, self.plan), self.platform(facts), facts)

    def terms(
        self,
        recorded: Callable[[Recorder], Notes],
        recipe: Callable[[], Notes],
        name: ResultPath,
        notes: Notes,
    ) -> None:
        """Record the terms of a step or a memory; of a part, only its own terms."""
        first = str(name[0])
        if first in ("step_s", "hand_tuned_step_s"):
            tuned = self.hand_tuned or first == "hand_tuned_step_s"
            whole = recorded(hand_tuned_terms if tuned else record_step).terms
            wanted = TERMS_OF_PART[str(name[2])] if len(name) > 2 else ("",)
            notes.terms |= {k: t for k, t in whole.items() if k.startswith(wanted)}
            if name == ("step_s",) and not self.hand_tuned:
                notes.terms |= recipe().terms
        elif first in MEMORY_NAMES:
            notes.terms |= plan_memory_terms(recorded(record_memory), name)

    def recipe(self, facts: Facts) -> Notes:
        """The gain of the chosen software release, and the facts that move it: the time of the same plan with the
        release before it over the time with it."""
        machine, notes = self.platform(facts), Notes()
        release = release_of_plans(facts, machine.vendor, machine.stack.name)
        earlier = None if release is None else before(facts, release)
        while earlier is not None and switches_of(facts, earlier, machine.recipes) == switches_of(
            facts, str(release), machine.recipes
        ):
            earlier = before(facts, earlier)
        if earlier is None:
            return notes
        set_back = facts.with_values({f"vendors.{vendor_id(machine.vendor)}.{RELEASE}": earlier})
        stack = stack_of_release(facts, earlier)
        other = equip(set_back, machine.id, chips=machine.chips, stack=stack)
        (then, under_then), (now, under_now) = (
            moved_numbers(self._step_times, ends(known, side.id, side.stack.name, nudges), side.chips)
            for known, side in ((set_back, other), (facts, machine))
        )
        words = f"time of this plan with the recipes of {earlier}, over that with those of {release}"
        notes.add("recipe", then / now, "x", words=words)
        for move in dict.fromkeys((*under_now, *under_then)):
            own = Notes()
            own.add("recipe", under_then.get(move, then) / under_now.get(move, now), "x")
            notes.learn(move[0], own)
        return notes.with_facts()

    def _step_times(self, machine: Platform) -> np.ndarray:
        """Seconds of a step on each row of a machine."""
        return np.asarray(step_time(self.model, machine, self.job, Plans.of([self.plan])).total_s)

    def record(self, name: ResultPath, known: Facts, notes: Notes) -> None:
        """Record what follows from the row's step time and goodput."""
        first, system = str(name[0]), str(self.row["system_id"])
        if first == "usd_per_mtok":
            told(notes, first, money.usd_per_mtok, unit=money.PER_MTOK, note="chips used and idle are paid for")(
                price=money.price(known, system, term=self.term, notes=notes).rate,
                chips=self.used + self.idle,
                step_s=self.step_s,
                tokens=self.tokens,
                goodput=self.goodput,
            )
        elif first == "J_per_token":
            site, draw = energy.read_site(known), energy.drawn_power(known, system, notes=notes)
            told(notes, first, energy.joule_per_token, unit=energy.PER_TOKEN)(
                power=draw.power,
                used=self.used,
                idle=self.idle,
                step_s=self.step_s,
                tokens=self.tokens,
                goodput=self.goodput,
                pue=site.pue,
                idle_share=draw.idle_share,
            )
        elif first == "goodput":
            longrun.record_goodput(known, system, chips=self.used, step_s=float(self.step_s), notes=notes)
        elif first in METRIC_OF_BREAKEVEN:
            speed = exact(self.tokens / float(self.step_s), "1/s")
            self.break_even(first, speed, self.goodput, known, notes)

    @property
    def step_s(self) -> Estimate:
        """The step time of the row."""
        return Estimate.from_dict(self.row["step_s"])

    @property
    def goodput(self) -> Estimate:
        """The goodput of the row."""
        return Estimate.from_dict(self.row["goodput"])


def train_row(result: Result, at: ResultPath, row: Result, model: Model, facts: Facts) -> Source:
    """The source of a row with a plan. model: as loaded, `facts`: those of the result."""
    inputs = result["inputs"]
    model = as_trained(model)
    job = TrainJob.from_inputs({**inputs, **{k: row[k] for k in OF_POINT if k in row}})
    made = _Row(
        row=row,
        model=model,
        job=job,
        plan=Plan.from_dict(row["plan"]),
        used=int(row["chips_used"]),
        idle=int(row["chips_idle"]),
        tokens=float(row["global_batch_seqs"]) * job.seq * job.fill,
        term=term_of_row(inputs, row["system"]),
        stack=stack_of(inputs, row["system"]),
        hand_tuned=is_hand_tuned(inputs, row["system"]),
        paid_days=(row.get("owned") or inputs).get("days"),
        others=[r for r in result.get("rows") or () if r is not row],
    )
    system = made.platform(facts)

    def symbols(known: Facts) -> dict[str, float]:
        usable = known.fact(system.paths["hbm_usable_B"])
        peak = resolve(known, system.id, chips=system.chips).peak_flops[made.plan.precision]
        return {
            "tokens_per_step": made.tokens,
            "tokens": job.tokens / job.sites,
            "paid_days": made.paid_days or 0.0,
            "flop_per_token": train_flop_per_token(model, job.attended, job.task, job.lora),
            "peak": peak * system.devices_per_chip,
            "hbm_usable": usable.low or known.number(usable.path),
        }

    return Source(
        at=at,
        numbers=made.numbers,
        record=made.record,
        terms=partial(made.terms, cache(partial(made.recorded, facts)), cache(partial(made.recipe, facts))),
        symbols=symbols,
        title=str(row["display"]),
    )
