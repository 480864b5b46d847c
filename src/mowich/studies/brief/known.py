"""What the questions of a brief read: machines, jobs, and answers that were asked once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mowich.facts import Facts
from mowich.machines.system import resolve
from mowich.models.model import Model
from mowich.plans.plan import TrainJob
from mowich.serving.search import ServeJob
from mowich.studies.compare import Comparison
from mowich.studies.compare import Row as TrainRow
from mowich.studies.fleet import Fleet
from mowich.studies.gap import Gap
from mowich.studies.serving_plan import ServeResult, ServeRow
from mowich.studies.value import ValueStudy

SUBJECT, BEFORE, NEXT = "trn3", "trn2", "trn4"
"""The machine that a brief is about, the one before it, and the one that is announced after it."""

AT = 16_384
"""Chips of a training run where nothing else is said."""
SERVED_ON = 64
"""Chips that serve."""

TO_TRAIN = TrainJob(tokens=15e12, seq=4096, batch_seqs=16384.0)
TO_SERVE = ServeJob(prompt=8000.0, output=1000.0, ttft_s=10.0, tpot_s=0.05)

PLAIN_NAMES = {
    "trn2": "Trainium 2",
    "trn3": "Trainium 3",
    "trn4": "Trainium 4",
    "ironwood": "Google's Ironwood",
    "gb300": "NVIDIA's GB300",
}
"""Machines as a newspaper calls them; others by the name of their facts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Answers that the questions read. rivals, models: as asked, the first rival is the one of `gap`, the first model
    is trained; sizes: chips -> training on that many; served: model -> serving; memory: "train", "serve", "bulk"."""

    facts: Facts
    rivals: tuple[str, ...]
    models: tuple[Model, ...]
    sizes: Mapping[int, Comparison]
    served: Mapping[str, ServeResult]
    gap: Gap
    memory: Mapping[str, ValueStudy]
    fleet: Fleet

    @property
    def systems(self) -> tuple[str, ...]:
        """Trainium 3 and its rivals."""
        return (SUBJECT, *self.rivals)

    def trained(self, chips: int, system: str) -> TrainRow:
        """Training on a machine."""
        return next(r for r in self.sizes[chips].rows if r.system == system)

    def serving(self, model: str, system: str) -> ServeRow:
        """Serving on a machine."""
        return next(r for r in self.served[model].rows if r.system == system)

    def served_rows(self) -> list[tuple[str, str, ServeRow]]:
        """(model, machine, row) of serving on Trainium 3 and its rivals, where there is a plan."""
        rows = [(m.name, s, self.serving(m.name, s)) for m in self.models for s in self.systems]
        return [found for found in rows if found[2].feasible]

    def name(self, system: str) -> str:
        """A machine in plain words."""
        return PLAIN_NAMES.get(system) or resolve(self.facts, system).display

    def to_train(self, chips: int, systems: Sequence[str]) -> str:
        """The command of a comparison of training."""
        return (
            f"mowich compare {self.models[0].name} --train --tokens 15T --seq {TO_TRAIN.seq} --batch"
            f" {TO_TRAIN.batch_seqs:.0f}seqs --on {','.join(systems)} --chips {chips}"
        )

    def to_serve(self, model: str, systems: Sequence[str]) -> str:
        """The command of a comparison of serving."""
        return (
            f"mowich compare {model} --serve --isl {TO_SERVE.prompt:.0f} --osl {TO_SERVE.output:.0f}"
            f" --ttft {TO_SERVE.ttft_s:g}s --tpot {1e3 * TO_SERVE.tpot_s:g}ms --on {','.join(systems)}"
            f" --chips {SERVED_ON}"
        )
