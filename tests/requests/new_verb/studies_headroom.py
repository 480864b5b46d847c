"""The memory of systems that a job may take."""

from __future__ import annotations

from dataclasses import dataclass

from mowich.estimate import Estimate, exact
from mowich.machines.system import resolve
from mowich.requests.rooms.headroom import Headroom
from mowich.shown import Keyed
from mowich.studies.explain.rules.rule import R

RULES = (R("rows * free", "B", "memory that a job may take, on all chips", "inside: usable bytes less those kept"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadroomRow(Keyed):
    """One system."""

    KEYS = "system free"

    system: str
    free: Estimate


def answer(asked: Headroom) -> list[HeadroomRow]:
    """A row for each system. Units: bytes."""
    rows = []
    for name in asked.systems:
        system = resolve(asked.facts, name)
        free_B = system.hbm_usable_B * system.devices * (1.0 - asked.kept)
        rows.append(HeadroomRow(system=name, free=exact(free_B, "B")))
    return rows
