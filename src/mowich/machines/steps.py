"""Collectives as lists of steps. Ranks execute them on arrays and the fabric times them, so the same algorithm is run
and timed.

A step moves one chunk from one rank to another in a round, and either replaces the chunk there or is added to it.
`play_steps` plays the rounds on NumPy arrays, so that the order in which values are added is the algorithm's own;
`time_s` sends the same moves over the links of a machine as max-min fair flows, round by round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mowich.arrays import Array
from mowich.errors import UserError, unknown
from mowich.machines import flows, links
from mowich.machines.system import System

_ALGORITHMS = ("ring", "halving-doubling", "mesh", "level by level")


@dataclass(frozen=True, slots=True)
class ChunkStep:
    """In round `round` rank `src` sends chunk `chunk` (of n) to rank `dst`, which replaces its own or, with `adds`,
    adds it: own + received."""

    round: int
    src: int
    dst: int
    chunk: int
    adds: bool


def all_reduce(n: int, algorithm: str, *, domain: int | None = None) -> list[ChunkStep]:
    """The steps of an all-reduce among n ranks on a buffer of n chunks.

    ring: n-1 rounds of reduce-scatter and n-1 of all-gather; halving-doubling: 2 log2 n rounds, n a power of two; mesh:
    each to each, 2 rounds; level by level: a mesh among the `domain` ranks of each domain, then among the ranks of the
    same place in it, and back (n a multiple of domain).
    """
    if algorithm == "ring":
        return _ring(n)
    if algorithm == "mesh":
        down = [ChunkStep(0, i, c, c, True) for c in range(n) for i in range(n) if i != c]
        return down + _returned(down, 1)
    if algorithm == "halving-doubling":
        return _halving_doubling(n)
    if algorithm == "level by level":
        return _by_level(n, domain or n)
    raise unknown("algorithm", algorithm, _ALGORITHMS)


def _returned(steps: Sequence[ChunkStep], number: int) -> list[ChunkStep]:
    """Sums go back the same ways, in round `number`."""
    return [ChunkStep(number, s.dst, s.src, s.chunk, False) for s in steps]


def _ring(n: int) -> list[ChunkStep]:
    down = [ChunkStep(r, i, (i + 1) % n, (i - r) % n, True) for r in range(n - 1) for i in range(n)]
    up = [ChunkStep(n - 1 + r, i, (i + 1) % n, (i + 1 - r) % n, False) for r in range(n - 1) for i in range(n)]
    return down + up


def _halving_doubling(n: int) -> list[ChunkStep]:
    if n & (n - 1):
        raise UserError("halving and doubling needs a power of two", given=n)
    out: list[ChunkStep] = []
    rounds = n.bit_length() - 1
    for r in range(rounds):  # halving: keep the half of the chunks that has one's own bit
        bit = n >> (r + 1)
        for i in range(n):
            sent = [c for c in range(n) if (c ^ i) & bit and (c ^ i) & ~(2 * bit - 1) == 0]
            out += [ChunkStep(r, i, i ^ bit, c, True) for c in sent]
    for r in range(rounds):  # doubling: hand finished chunks to the partner
        bit = 1 << r
        for i in range(n):
            out += [ChunkStep(rounds + r, i, i ^ bit, c, False) for c in range(n) if (c ^ i) & ~(bit - 1) == 0]
    return out


def _by_level(n: int, m: int) -> list[ChunkStep]:
    """Domains of m ranks; chunk c belongs to place c % m inside and to domain c // m outside."""
    if n % m:
        raise UserError("a group fills whole domains", given=n, allowed=f"a multiple of {m}")
    k = n // m
    down = [
        ChunkStep(0, d * m + i, d * m + c % m, c, True)
        for d in range(k)
        for c in range(n)
        for i in range(m)
        if i != c % m
    ]
    across = [
        ChunkStep(1, d * m + c % m, (c // m) * m + c % m, c, True) for c in range(n) for d in range(k) if d != c // m
    ]
    return down + across + _returned(across, 2) + _returned(down, 3)


def play_steps(steps: Sequence[ChunkStep], inputs: Sequence[Array], *, widen: type | None = None) -> list[Array]:
    """Play the steps on one array per rank [all of one shape] and give each rank's result.

    A round reads the values before it; several additions in one round follow the order of the list. widen: the dtype of
    partial sums (None: the arrays' own). Arrays are cut into n chunks along their flat order.
    """
    n = len(inputs)
    dtype = inputs[0].dtype
    chunks = [[c.astype(widen) if widen else c.copy() for c in np.array_split(x.reshape(-1), n)] for x in inputs]
    for number in sorted({s.round for s in steps}):
        now = [s for s in steps if s.round == number]
        sent = {(s.src, s.chunk): chunks[s.src][s.chunk] for s in now}
        for s in now:
            value = sent[s.src, s.chunk]
            chunks[s.dst][s.chunk] = chunks[s.dst][s.chunk] + value if s.adds else value
    return [np.concatenate(c).astype(dtype).reshape(inputs[0].shape) for c in chunks]


def time_s(steps: Sequence[ChunkStep], system: System, data_B: float) -> float:
    """Seconds of the steps on ranks that are the system's chips 0 to n-1, on links at the library's reached share: each
    round's flows, plus a step's latency of the outermost level that the round crosses, plus the base of a call. No
    pipelining between rounds."""
    graph = links.build(system)
    routes = links.Routes(graph, graph.capacity_Bps)
    n = 1 + max(max(s.src, s.dst) for s in steps)
    reached = system.fabric.ring_efficiency
    total = system.fabric.base_s
    for number in sorted({s.round for s in steps}):
        moved: dict[tuple[int, int], float] = {}
        for s in steps:
            if s.round == number:
                moved[s.src, s.dst] = moved.get((s.src, s.dst), 0.0) + data_B / n
        far = max(next(i for i, size in enumerate(graph.sizes) if a // size == b // size) for a, b in moved)
        total += (
            graph.levels[far].latency_s
            + flows.finish_s(graph.capacity_Bps, flows.lay(routes, [(a, b, x) for (a, b), x in moved.items()]))
            / reached
        )
    return total
