"""Rows that know what was asked, so that their plan can be written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from mowich.errors import UserError
from mowich.facts import Facts
from mowich.shown import Rows, Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a row is of. inputs: as the JSON of its result states them; layers: of the model."""

    inputs: Mapping[str, object]
    facts: Facts
    layers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchedRow(ABC):
    """A row whose plan can be written for a program that runs it."""

    origin: Origin | None = field(default=None, repr=False, compare=False)

    @abstractmethod
    def to_dict(self) -> dict[str, object]:
        """The JSON of the row."""

    def emit(self, program: str) -> Text:
        """The launch command or config of this plan: "vllm", "sglang", "nxdi", "torchtitan", "megatron", "maxtext",
        "skypilot", "kubernetes". Raises UserError where the program cannot run it."""
        from mowich.launch.emitted import emitted

        if self.origin is None:
            raise UserError("this row does not say what was asked", fix="take it from mowich.plan(...).rows")
        of = self.origin
        return Text(emitted(program, of.inputs, self.to_dict(), of.facts, layers=of.layers))


R = TypeVar("R", bound=LaunchedRow)


def with_origin(rows: Rows[R], origin: Origin) -> Rows[R]:
    """The same rows, each knowing what was asked."""
    return Rows(replace(row, origin=origin) for row in rows)
