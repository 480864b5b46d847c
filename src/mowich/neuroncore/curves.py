"""A schedule as curves for a picture: when each engine was at work, and how full SBUF and PSUM were. Thinned to what a
screen shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mowich.neuroncore.core import limits
from mowich.neuroncore.instructions.rates import ENGINES, PS, unit_of_queue

if TYPE_CHECKING:
    from mowich.neuroncore.profile import Profile

POINTS = 400
"""Most points of a curve, and about as many spans of an engine: gaps below a 400th of the time are closed."""


def curves(profile: Profile, core: int = 0) -> dict[str, object]:
    """The JSON of one core: engines: name -> [[start, end], ...] in seconds; sbuf_B (of a partition) and psum_banks:
    [[second, level], ...], the largest of each piece of time, with their capacities."""
    room = limits(profile.schedule.generation)
    sbuf = [(t / PS, float(min(v, room.sbuf_B))) for t, v in profile.occupancy("S", core)]
    psum = [(t / PS, float(min(room.psum_banks, -(-v // room.psum_bank_B)))) for t, v in profile.occupancy("P", core)]
    total = profile.total_s
    return {
        "core": core,
        "engines": spans(profile, core),
        "sbuf_B": thinned(sbuf, total),
        "sbuf_capacity_B": room.sbuf_B,
        "psum_banks": thinned(psum, total),
        "psum_capacity_banks": room.psum_banks,
    }


def spans(profile: Profile, core: int) -> dict[str, list[list[float]]]:
    """When each engine that did anything was at work."""
    s, cost = profile.schedule, profile.cost
    last = s.offset[core + 1] if core + 1 < profile.cores else len(s.begin)
    gap = profile.total_s / POINTS
    found: dict[str, list[list[float]]] = {name: [] for name in ENGINES}
    order = sorted(range(s.offset[core], last), key=lambda i: (s.begin[i], i))
    for i in order:
        queue = cost[i].queue
        name = unit_of_queue(queue)
        start, end = s.begin[i] / PS, s.end[i] / PS
        mine = found[name]
        if mine and start - mine[-1][1] <= gap:
            mine[-1][1] = max(mine[-1][1], end)
        elif end > start:
            mine.append([start, end])
    return {name: mine for name, mine in found.items() if mine}


def thinned(curve: list[tuple[float, float]], total_s: float) -> list[list[float]]:
    """At most `POINTS` steps: of each piece of time the highest level, then the level at its end."""
    if len(curve) <= POINTS:
        return [list(p) for p in curve]
    out: list[list[float]] = []
    width = 2.0 * total_s / POINTS
    piece: list[tuple[float, float]] = []
    for t, level in curve:
        if piece and int(t / width) != int(piece[0][0] / width):
            out += _piece(piece)
            piece = []
        piece.append((t, level))
    return out + _piece(piece)


def _piece(piece: list[tuple[float, float]]) -> list[list[float]]:
    top = max(piece, key=lambda p: p[1])
    return [list(top)] if top == piece[-1] else [list(top), list(piece[-1])]
