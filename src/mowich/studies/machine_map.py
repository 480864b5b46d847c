"""A machine chip by chip: which have links between them, and what failed. `show.charts_map` draws it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mowich.errors import UserError
from mowich.facts import Facts
from mowich.machines.links import build, parse_fault
from mowich.machines.system import resolve
from mowich.machines.topology import per_chip

MOST_CHIPS = 256
"""Chips of a machine that a map shows."""


class JoinedPair(NamedTuple):
    """Two nodes with links between them: a chip, and another or a switch. left: share of the worst link that is left, 1
    where none failed."""

    a: int
    b: int
    level: str
    left: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineMap:
    """Nodes below `chips` are chips, the others switches."""

    display: str
    system_id: str
    chips: int
    levels: tuple[tuple[str, int], ...]
    """(name, chips that a domain of it joins), innermost first."""
    links: int
    """Physical links of the machine."""
    pairs: tuple[JoinedPair, ...]
    failed_links: tuple[str, ...]
    """Links that failed, in words."""
    failed_chips: tuple[int, ...]


def map_name(facts: Facts, system_id: str, chips: int) -> str:
    """What `map_of` takes for so many chips of a system, "trn3-gen2:144"; "" where they are one chip, more than one
    scale-up unit, or too many to draw."""
    whole = per_chip(resolve(facts, system_id))
    fits = 1 < chips <= min(whole.chips_per_unit, MOST_CHIPS)
    return f"{system_id}:{chips}" if fits else ""


def has_map(facts: Facts, name: str) -> bool:
    """Whether a system, "trn3-gen2:144", has no more chips than can be drawn."""
    return resolve(facts, name).chips <= MOST_CHIPS


def map_of(facts: Facts, name: str, faults: Sequence[str] = ()) -> MachineMap:
    """The map of a system, "trn3-gen2:144", with the links and chips that failed. Raises UserError for one of more
    chips than can be drawn."""
    system = per_chip(resolve(facts, name))
    if system.chips > MOST_CHIPS:
        raise UserError(f"{system.chips} chips cannot be drawn", field="name", given=name, allowed=f"to {MOST_CHIPS}")
    graph = build(system)
    found = [parse_fault(graph, text) for text in faults]
    shares = {index: share for what, index, share in found if what != "chip"}
    pairs: dict[tuple[int, int, str], float] = {}
    for i, link in enumerate(graph.links):
        ends = int(graph.tail[link.ends[0]]), int(graph.head[link.ends[0]])
        pairs[*ends, link.level] = min(pairs.get((*ends, link.level), 1.0), shares.get(i, 1.0))
    return MachineMap(
        display=system.display,
        system_id=system.id,
        chips=graph.chips,
        levels=tuple((level.name, joins) for level, joins in zip(graph.levels, graph.sizes, strict=True)),
        links=len(graph.links),
        pairs=tuple(JoinedPair(*key, left) for key, left in pairs.items()),
        failed_links=tuple(str(graph.links[i]) for i in shares),
        failed_chips=tuple(index for what, index, _ in found if what == "chip"),
    )
