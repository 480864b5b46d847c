"""What the questions of a brief read: machines, jobs, and answers that were asked once."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mowich.economics import money
from mowich.estimate import Estimate
from mowich.facts import Facts
from mowich.machines.system import resolve
from mowich.models.model import Model
from mowich.plans.plan import TrainJob
from mowich.price_terms import OWN
from mowich.requests.settings import fact_path
from mowich.serving.search import ServeJob
from mowich.software.vendors import HAND_TUNED
from mowich.studies.compare import Comparison
from mowich.studies.compare import Row as TrainRow
from mowich.studies.fleet import Fleet
from mowich.studies.next_measure import NextMeasurements
from mowich.studies.ranking import names_listed
from mowich.studies.rl_split import RlSplit
from mowich.studies.rooms.gap import Gap
from mowich.studies.rooms.value import ValueStudy
from mowich.studies.serving_plan import ServeResult, ServeRow
from mowich.units import StepBatch

SUBJECT, BEFORE, NEXT = "trn3", "trn2", "trn4"
"""The machine that a brief is about, the one before it, and the one that is announced after it."""

AT = 16_384
"""Chips of a training run by default."""
SERVED_ON = 64
"""Chips that serve."""
PRICE_OF_ALL = "tco"
"""The kind of price of every machine: Trainium 3 has no other, and kinds are not mixed. A reader's own price stands in
its place."""

TO_TRAIN = TrainJob(tokens=15e12, seq=4096, batch_seqs=16384.0)
TO_SERVE = ServeJob(prompt=8000.0, output=1000.0, ttft_s=10.0, tpot_s=0.05)
IN_BULK = replace(TO_SERVE, ttft_s=math.inf, tpot_s=math.inf)
LONG_ANSWERS = replace(IN_BULK, prompt=1000.0, output=8000.0)

SERVED_JOBS: Mapping[str, tuple[str, ServeJob]] = {
    "serve": ("serving {} within limits", TO_SERVE),
    "bulk": ("serving {} in bulk", IN_BULK),
    "long": ("serving {} in bulk with long answers", LONG_ANSWERS),
}
"""Jobs of serving: plain words with the place of the model, and what is asked."""

SETTLED_BY = 2
"""How many measurements are named that settle most."""
RL_CHIPS = 512
"""Chips of a run of reinforcement learning."""
TO_REINFORCE: Mapping[str, object] = {
    "algorithm": "grpo",
    "prompts": 256,
    "samples": 16,
    "mean": 3200,
    "cap": 8192,
    "staleness": 4,
}
"""The run, as a question states it."""

PLAIN_NAMES = {
    "trn2": "Trainium 2",
    "trn3": "Trainium 3",
    "trn4": "Trainium 4",
    "ironwood": "Google's Ironwood",
    "gb300": "NVIDIA's GB300",
}
"""Names of machines for newspaper readers; others have the name of their facts."""


def by_hand(system: str) -> str:
    """The key of a machine with kernels written by hand in `Known.rests_on`."""
    return f"{system}, {HAND_TUNED}"


ServedJob = tuple[str, str]
"""(a job of `SERVED_JOBS`, a model)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryWork:
    """One kind of work with other amounts of memory. work: in plain words; gain: tokens with twice the memory over
    tokens with today's, infinite where the work fits only with twice, None where it never fits; study: over a range of
    amounts, None where only two were tried; command: gives the gain."""

    work: str
    gain: float | None
    command: str
    study: ValueStudy | None = None


@dataclass(frozen=True, slots=True)
class ReadBy:
    """What one answer has read. work: its command without its machines; systems: its machines; paths: of facts."""

    work: str
    systems: frozenset[str]
    paths: frozenset[str]

    @classmethod
    def of(cls, words: str, *watched: Facts) -> ReadBy:
        """What the answer to a command has read. watched: the facts of its parts, each with a ledger."""
        paths = [path for facts in watched if facts.ledger is not None for path in facts.ledger.asked]
        return cls(*_work_of(words), frozenset(paths))


def _work_of(words: str) -> tuple[str, frozenset[str]]:
    """A command without its machines, and these.

    >>> _work_of("compare m --train --on trn2,trn3 --chips 64")[0]
    'compare m --train --chips 64'
    """
    work, on, rest = words.partition(" --on ")
    systems, space, more = rest.partition(" ")
    return work + space + more, frozenset(systems.split(",") if on else ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Answers that the questions read.

    rivals, models: from the question; `gap` is about the first rival, and the first model is trained; settings: words
    of a command line that make these facts; sizes: chips -> training on this number; tuned: machine -> training on `AT`
    chips with kernels written by hand, where there are some; future: training on Trainium 3 with formats that no
    software ships yet, None where all ship; beside: training on its predecessor and its successor; served: serving;
    served_tuned: (job, model, machine) -> with kernels written by hand, where there are some; announced: serving within
    the limits on its successor; bases: (job, model, machine) -> what its rates are extrapolated from, where nothing
    similar was measured; rests_on: (job, model, machine) -> the constant of the engine that decides the rate alone, if
    any; machine "trn3, hand-tuned": with kernels written by hand. tenants: a fleet of several tenants, one of which
    falls; split: reinforcement learning of the first model over Trainium 3 and the first rival. reads: what the answers
    have read. settles: what measurements would narrow the cost of a training token on Trainium 3 most, None where it
    has no range.
    """

    facts: Facts
    rivals: tuple[str, ...]
    models: tuple[Model, ...]
    settings: tuple[str, ...]
    sizes: Mapping[int, Comparison]
    tuned: Mapping[str, TrainRow]
    future: TrainRow | None
    beside: Comparison
    served: Mapping[ServedJob, ServeResult]
    served_tuned: Mapping[tuple[str, str, str], ServeRow]
    announced: Mapping[str, ServeRow]
    bases: Mapping[tuple[str, str, str], str]
    rests_on: Mapping[tuple[str, str, str], str]
    gap: Gap
    memory: Sequence[MemoryWork]
    fleet: Fleet
    tenants: Fleet
    split: RlSplit
    reads: Sequence[ReadBy]
    settles: NextMeasurements | None

    @property
    def systems(self) -> tuple[str, ...]:
        """Trainium 3 and its rivals."""
        return (SUBJECT, *self.rivals)

    @property
    def memory_over_range(self) -> list[tuple[str, ValueStudy]]:
        """Work over a range of amounts; training is the first."""
        return [(m.work, m.study) for m in self.memory if m.study is not None]

    @property
    def today(self) -> float:
        """Bytes of memory of a Trainium 3 chip that programs may use today."""
        return self.memory_over_range[0][1].today

    def trained(self, chips: int, system: str) -> TrainRow:
        """Training on a machine."""
        rows: list[TrainRow] = [*self.sizes[chips].rows, *(self.beside.rows if chips == AT else ())]
        return next(r for r in rows if r.system == system)

    def serving(self, model: str, system: str, job: str = "serve") -> ServeRow:
        """Serving on a machine."""
        if system == NEXT and NEXT not in self.systems:
            return self.announced[model]
        return next(r for r in self.served[job, model].rows if r.system == system)

    def decided(self, job: str, model: str, *systems: str, tuned: bool = False) -> str:
        """The constant that alone decides the rate on one of some machines; "" without one. tuned: with kernels written
        by hand."""
        names = [by_hand(s) if tuned and (job, model, s) in self.served_tuned else s for s in systems]
        return next((found for s in names if (found := self.rests_on.get((job, model, s)))), "")

    def served_rows(self) -> list[tuple[str, str, ServeRow]]:
        """(model, machine, row) of serving within limits on Trainium 3 and its rivals, where there is a plan."""
        rows = [(m.name, s, self.serving(m.name, s)) for m in self.models for s in self.systems]
        return [found for found in rows if found[2].feasible]

    def name(self, system: str) -> str:
        """A machine in plain words."""
        return PLAIN_NAMES.get(system) or resolve(self.facts, system).display

    def price(self, system: str) -> Estimate:
        """Dollars of a chip-hour: what it costs its owner, or the reader's own price."""
        return self._price(system).rate.scaled(3600.0, "USD/chip/h")

    def is_yours(self, system: str) -> bool:
        """Whether the reader set the price of a machine."""
        return self._price(system).term == OWN

    def _price(self, system: str) -> money.Price:
        return money.price(self.facts, resolve(self.facts, system).id, term=PRICE_OF_ALL)

    def priced_words(self) -> str:
        """The prices by which the machines are compared, as a sentence."""
        yours = [self.name(s) for s in self.systems if self.is_yours(s)]
        rest = [self.name(s) for s in self.systems if not self.is_yours(s)]
        if not yours:
            return (
                "All machines are taken at what they cost to build, house and run, without a seller's margin, because"
                " Trainium 3 has no list price."
            )
        owned = f"; at the cost to its owner, to build, house and run: {names_listed(rest)}" if rest else ""
        return f"At your price: {names_listed(yours)}{owned}."

    def command(self, words: str) -> str:
        """A command with the settings that its answer reads, or with all settings where no answer here is like it."""
        work, systems = _work_of(words)
        like = [one for one in self.reads if one.work == work and (systems & one.systems or not systems)]
        read = frozenset[str]().union(*(one.paths for one in like))
        all_there = like and systems <= frozenset[str]().union(*(one.systems for one in like))
        pairs = zip(self.settings[::2], self.settings[1::2], strict=True)
        kept = [p for p in pairs if p[0] != "--set" or not all_there or self._path_of(p[1]) in read]
        return " ".join((f"mowich {words}", *(shlex.quote(word) for pair in kept for word in pair)))

    def _path_of(self, setting: str) -> str:
        """The path of the fact that a setting changes."""
        known = self.facts.silent()
        return known.fact(fact_path(known, setting.partition("=")[0].strip(), where="set")).path

    def facts_command(self, words: str) -> str:
        """A command that shows facts; it takes folders of facts, not settings."""
        pairs = zip(self.settings[::2], self.settings[1::2], strict=True)
        return " ".join((f"mowich {words}", *(shlex.quote(w) for p in pairs if p[0] == "--facts" for w in p)))

    def to_train(self, chips: int, systems: Sequence[str], *, tuned: bool = False, future: bool = False) -> str:
        """The command of a comparison of training."""
        return self.command(train_command(self.models[0].name, systems, chips, tuned=tuned, future=future))

    def to_settle(self) -> str:
        """The command of what would settle the cost of a training token."""
        return f"mowich next --on {SUBJECT} --budget {SETTLED_BY} --for {shlex.quote(self.to_train(AT, (SUBJECT,)))}"

    def to_serve(self, model: str, systems: Sequence[str], job: str = "serve", *, tuned: bool = False) -> str:
        """The command of a comparison of serving."""
        return self.command(serve_command(model, systems, SERVED_JOBS[job][1], tuned=tuned))


TRAIN_WORDS = (
    f"--train --tokens {TO_TRAIN.tokens * 1e-12:.0f}T --seq {TO_TRAIN.seq}"
    f" --batch {StepBatch(sequences=TO_TRAIN.batch_seqs)}"
)
"""The training job as a command says it."""


def train_command(model: str, systems: Sequence[str], chips: int, *, tuned: bool = False, future: bool = False) -> str:
    """The words of a comparison of training. tuned: with kernels written by hand; future: with formats that no software
    ships yet."""
    more = (f" --stack {HAND_TUNED}" if tuned else "") + (" --recipe future" if future else "")
    return f"compare {model} {TRAIN_WORDS} {_on(systems, chips)}{more}"


def serve_command(model: str, systems: Sequence[str], job: ServeJob, *, tuned: bool = False) -> str:
    """The words of a comparison of serving. tuned: with kernels written by hand."""
    return f"compare {model} {serve_words(job)} {_on(systems, SERVED_ON)}" + (
        f" --engine {HAND_TUNED}" if tuned else ""
    )


def gap_command(model: str, rival: str) -> str:
    """The words of the gap between Trainium 3 and a rival."""
    return f"gap {SUBJECT} {rival} --model {model} {TRAIN_WORDS} --chips {AT}"


def rl_command(model: str, systems: Sequence[str]) -> str:
    """The words of a search for a split of reinforcement learning."""
    more = {name: x for name, x in TO_REINFORCE.items() if name != "algorithm"}
    words = " ".join(f"--{name} {x}" for name, x in more.items())
    return f"rl {model} --{TO_REINFORCE['algorithm']} {words} {_on(systems, RL_CHIPS)}"


def _on(systems: Sequence[str], chips: int) -> str:
    return f"--on {','.join(systems)} --chips {chips} --price {PRICE_OF_ALL}"


def serve_words(job: ServeJob) -> str:
    """A serving job as a command says it.

    >>> serve_words(TO_SERVE), serve_words(LONG_ANSWERS)
    ('--serve --isl 8000 --osl 1000 --ttft 10s --tpot 50ms', '--serve --isl 1000 --osl 8000')
    """
    limits = "" if math.isinf(job.tpot_s) else f" --ttft {job.ttft_s:g}s --tpot {1e3 * job.tpot_s:g}ms"
    return f"--serve --isl {job.prompt:.0f} --osl {job.output:.0f}{limits}"
