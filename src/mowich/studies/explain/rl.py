"""A row of reinforcement learning made again: the same run at the plans that the row states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path as File

from mowich.economics import money
from mowich.estimate import Notes, Term
from mowich.facts import Facts
from mowich.facts.moves import noted
from mowich.models.model import Model
from mowich.plans.plan import Plan, ServePlan
from mowich.requests.fields import Edge
from mowich.requests.rl import RL
from mowich.requests.rl_fields import QUESTION
from mowich.requests.schema import QuestionSource
from mowich.rl.trainer import packed_job
from mowich.scenario import is_inline
from mowich.shown import Result
from mowich.studies.explain.serving import one_step_terms
from mowich.studies.explain.source import Numbers, Source, note_costs
from mowich.studies.explain.training import record_step
from mowich.studies.explain.tree import ResultPath, flat_numbers
from mowich.studies.rl import assess, rollout_plans, sync_of, trainer_platform
from mowich.studies.rl_row import RlAsk
from mowich.studies.rl_scenario import ask_of
from mowich.sums import float_sum
from mowich.training.sensitivity import noted_on
from mowich.training.step import predict_step

_SIDES: Mapping[str, tuple[str, ...]] = {
    "generation": ("rollouts",),
    "longest_s": ("rollouts",),
    "rollout_idle_frac": ("rollouts",),
    "policy": ("trainer",),
    "reference": ("trainer",),
    "critic": ("trainer",),
    "teacher": ("trainer",),
    "training": ("trainer",),
    "sync": ("sync",),
    "switch": ("framework",),
    "other": ("framework",),
    "reward": (),
}
"""Number, or part of a step -> the source of its terms; any other number has the terms of all."""

_FACTORS = ("generation", "training", "passes", "switch", "other")
"""What a framework adds, as its facts call it."""


@dataclass(frozen=True)
class _Run:
    """A row that has an answer. asked: the inputs, by field; model: as loaded (None: by the name in the scenario)."""

    asked: Mapping[str, object]
    row: Result
    model: Model | None
    facts: Facts

    def ask(self, known: Facts) -> RlAsk:
        """The run of the row under other facts, at its plans."""
        values = {**self.asked, **({} if self.model is None else {QUESTION.name: self.model})}
        request = RL.read(values, QuestionSource(edge=Edge.OPTION, facts=known))
        base, made, trains = ask_of(request), self.row["rollouts"], self.row["trainer"]
        staleness = 0 if self.row["placement"] == "colocated" else base.job.staleness
        return replace(
            base,
            job=replace(base.job, placement=self.row["placement"], staleness=staleness),
            rollouts=replace(
                base.rollouts,
                on=f"{made['system']}:{made['chips']}",
                system_id=made["system"],
                chips=made["chips"],
                engine=made["engine"],
                plan=ServePlan.from_dict(made["plan"]),
                fixed={},
            ),
            trainer=replace(
                base.trainer,
                on=f"{trains['system']}:{trains['chips']}",
                system_id=trains["system"],
                chips=trains["chips"],
                stack=trains["stack"],
                plan=Plan.from_dict(trains["plan"]),
                fixed={},
            ),
        )

    def numbers(self, known: Facts, wanted: ResultPath) -> Numbers:
        """The numbers of the row under other facts."""
        return flat_numbers(assess(self.ask(known)).to_dict())

    @cached_property
    def now(self) -> RlAsk:
        """The run under the facts of the result."""
        return self.ask(self.facts)

    @cached_property
    def cycle(self) -> Mapping[str, Term]:
        """The laws of a step in closed form."""
        notes = Notes()
        assess(self.now, notes=notes)
        return notes.terms

    @cached_property
    def framework(self) -> Mapping[str, Term]:
        """What the framework adds to both sides."""
        ask, notes = self.now, Notes()
        found = ask.software()
        for name in _FACTORS:
            path = found.paths[name]
            unit = self.facts.fact(path).unit or "x"
            words = f"what {found.display} adds: a factor on benchmarked software, or seconds of a step"
            notes.add(f"framework.{name}", self.facts.number(path), unit, words=words)
            notes.terms[f"framework.{name}"] = replace(notes.terms[f"framework.{name}"], facts=(path,))
        return notes.terms

    @cached_property
    def rollouts(self) -> Mapping[str, Term]:
        """A step of a worker with its mean number of sequences at half a mean answer; a run evaluates every step."""
        ask, job, plan = self.now, self.now.job, self.now.rollouts.plan
        assert plan is not None
        found = rollout_plans(ask, ask.maker(), [plan], ask.software(), ask.rollouts.engine)
        side, notes = found.sides[0], Notes()
        if side is None:
            return notes.terms
        context = job.prompt + 0.5 * job.lengths.mean
        n = max(1.0, min(float(side.most), job.rolled / side.workers, side.room_tokens / context) / plan.dp)
        seconds = one_step_terms(found.deployment, self.facts, n, context, notes)
        words = f"sum of its parts, here of {n:.3g} sequences of {context:.4g} tokens; the run evaluates it for all"
        return _summed("worker_step", seconds, words, notes.terms)

    @cached_property
    def trainer(self) -> Mapping[str, Term]:
        """An optimizer step, packed; the passes are its forward times."""
        ask, plan = self.now, self.now.trainer.plan
        assert plan is not None
        platform = trainer_platform(ask, ask.software())
        one = replace(plan, micro_batch=1)
        job = packed_job(ask.job, plan, ask.job.global_batch)
        terms = noted_on(partial(record_step, ask.model, job, one), platform, self.facts).terms
        whole = predict_step(ask.model, platform, job, one).total_s
        words = "sum of its parts, before the framework; passes are its forward times"
        return _summed("optimizer_step", whole, words, terms)

    @cached_property
    def sync(self) -> Mapping[str, Term]:
        """Bringing new weights to the workers."""
        ask = self.now
        serve, train = ask.rollouts.plan, ask.trainer.plan
        assert serve is not None
        assert train is not None

        def record(known: Facts, notes: Notes) -> None:
            own = replace(ask, facts=known)
            framework, workers = own.software(), int(self.row["rollouts"]["workers"])
            platform = trainer_platform(own, framework)
            sync_of(own, framework, platform, train, own.maker(), serve, workers, notes)

        return noted(record, self.facts).terms

    def terms(self, name: ResultPath, notes: Notes) -> None:
        """Record the laws behind a number."""
        words = [str(word) for word in name]
        if words[0] in ("chips", "rollouts", "trainer"):
            return
        own = next((sides for word in words if (sides := _SIDES.get(word)) is not None), None)
        if own is None:  # both sides have the same names, and each part has its own explanation
            wholes = {name: side[name] for side in (self.rollouts, self.trainer) for name in _WHOLES if name in side}
            notes.terms |= {**self.cycle, **self.framework, **wholes, **self.sync}
            return
        for side in own:
            notes.terms |= getattr(self, side)
        if own and own[0] in ("rollouts", "trainer"):
            notes.terms |= self.framework

    def record(self, name: ResultPath, known: Facts, notes: Notes) -> None:
        """Record prices and power of the chips of both sides."""
        ask = self.now
        systems = dict.fromkeys(filter(None, (ask.rollouts.system_id, ask.trainer.system_id, ask.judge_id)))
        note_costs(name, systems, ask.term, known, notes)

    def symbols(self, known: Facts) -> Mapping[str, float]:
        """What formulas read: trained tokens of a step, and the price of all chips."""
        ask = self.now
        both = {ask.rollouts.system_id: 0, ask.trainer.system_id: 0, ask.judge_id: ask.job.environment.judge_chips}
        both[ask.rollouts.system_id] += ask.rollouts.chips
        if ask.job.placement == "split":
            both[ask.trainer.system_id] += ask.trainer.chips
        prices = [float(money.price(known, on, term=ask.term).rate) * n for on, n in both.items() if n]
        return {"tokens": ask.job.tokens, "usd_per_s": float_sum(prices)}


_WHOLES = ("worker_step", "optimizer_step")
_MOST_FACTS = 12
"""Facts that the explanation of a whole names: the first of each of its parts."""


def _summed(name: str, seconds: float, words: str, parts: Mapping[str, Term]) -> dict[str, Term]:
    """Terms after their sum; the sum rests on the facts that move the terms most."""
    notes = Notes()
    notes.add(name, seconds, "s", words=words)
    firsts = [term.facts[i] for i in range(_MOST_FACTS) for term in parts.values() if i < len(term.facts)]
    facts = tuple(dict.fromkeys(firsts))[:_MOST_FACTS]
    return {name: replace(notes.terms[name], facts=facts), **parts}


def rl_row(result: Result, at: ResultPath, row: Result, facts: Facts, model: Model) -> Source | None:
    """A run made again; None where it has no answer, or its scenario is missing."""
    asked = result["inputs"]["asked"]
    given = str(asked.get(QUESTION.name, ""))
    is_scenario = "yaml" in asked or is_inline(given) or File(given).suffix in (".yaml", ".yml")
    if not row["feasible"] or (File(given).suffix in (".yaml", ".yml") and not File(given).is_file()):
        return None
    is_named = is_scenario or result["inputs"]["model_given"] != given
    run = _Run(asked=asked, row=row, model=None if is_named else model, facts=facts)
    return Source(
        at=at,
        numbers=run.numbers,
        record=run.record,
        terms=run.terms,
        symbols=run.symbols,
        title=str(row["name"]),
        is_slow=True,
    )
