"""What an iteration of a loop adds to the one before it, in plain Python: what `repeat.c` finds is compared with it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mowich.neuroncore.core import Core
from mowich.neuroncore.repeat import Growth, IterationBlock, Repeat, SamplePlaces
from mowich.neuroncore.trace import Trace

_Steps = list[tuple[int, int]]


def _sampled(block: IterationBlock, places: SamplePlaces | None) -> tuple[list[list[int]], list[int], _Steps, bool]:
    """(Kinds, lines and numbers; touches; edges; order) of an iteration as a sample has it."""
    columns = [list(c) for c in (block.kind, block.site, block.number)]
    if places is None:
        return columns, list(block.touched), list(block.edges), block.in_order
    rows, touches = places.instructions.of_sample, places.touches.of_sample
    in_order = [at for at, row in enumerate(rows) if row in block.in_order]
    return (
        [[c[row] for row in rows] for c in columns],
        [block.touched[at] for at in touches],
        [block.edges[n] for n in places.edges.of_sample],
        in_order,
    )


def growth_found(
    core: Core, trace: Trace, base: IterationBlock, sample: IterationBlock, samples: SamplePlaces | None
) -> Growth | None:
    """What grows, where a sample of the iteration behind the base is like it."""
    columns, before, edges, in_order = _sampled(base, samples)
    its, after, later, its_order = _sampled(sample, None)
    n = sample.clock - base.clock
    if (
        columns[:2] != its[:2]
        or [x + n for x in columns[2]] != its[2]
        or len(before) != len(after)
        or len(edges) != len(later)
        or in_order != its_order
        or len(base.form) != len(sample.form)
        or any(y not in (-1, x) for x, y in zip(base.form, sample.form, strict=True))
    ):
        return None
    # storages and patterns, in turn
    steps = [y - x for x, y in zip(before, after, strict=True)]
    elsewhere = False
    for x, y, step in zip(before[::2], after[::2], steps[::2], strict=True):
        is_own, is_its = (s >= b.made and (s - b.made) % core.programs == 0 for s, b in ((x, base), (y, sample)))
        if is_own != is_its or (is_own and step != sample.made - base.made):
            return None
        elsewhere = elsewhere or (step != 0 and not is_own)
    moved = [at for at in range(1, len(steps), 2) if steps[at]]
    offsets = trace.patterns.steps([before[at] for at in moved], [after[at] for at in moved])
    if offsets is None:
        return None
    for at, offset in zip(moved, offsets, strict=True):
        steps[at] = offset
    grown_edges = [(s - x, t - y) for (x, y), (s, t) in zip(edges, later, strict=True)]
    grown = np.array(steps, np.int64)
    if samples is not None:
        places = samples.touches
        # loops within that ran at both ends have to grow alike there
        if samples.has_corners and (grown[places.of_full[places.of_sample]] != grown).any():
            return None
        grown, grown_edges = grown[places.of_full], [grown_edges[n] for n in samples.edges.of_full]
    moves = np.flatnonzero(grown[1::2]) * 2 + 1
    which, firsts = _distinct([(base.touched[at], int(grown[at])) for at in moves])
    firsts = moves[firsts]
    offsets = grown[firsts].tolist()
    grown[moves] = 0
    return Growth(n, len(base.form), grown, grown_edges, elsewhere, moves, which, firsts, offsets)


def _distinct(pairs: Sequence[tuple[int, int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(Of each pair, its place among the different ones in the order in which they come up; of these, where they come
    up first)."""
    known: dict[tuple[int, int], int] = {}
    places = [known.setdefault(pair, len(known)) for pair in pairs]
    return np.array(places, np.int64), np.array([pairs.index(pair) for pair in known], np.int64)


def others_found(repeat: Repeat, count: int) -> set[tuple[int, int]] | None:
    """(Storage, step) of the storages from before a loop that come, in `count` iterations more, to one that the trace
    does not know yet. None: each iteration touches the same of them."""
    base, form = repeat.base, repeat.trace.storages.form
    pairs = set(zip(base.touched[::2], repeat.growth.touched[::2].tolist(), strict=True))
    moving = [(x, d) for x, d in pairs if d and (x < base.made or (x - base.made) % repeat.core.programs)]
    if not repeat.growth.elsewhere or not moving:
        return None
    ends = [(x, d, [x + d * t for t in range(1, count + 1)]) for x, d in moving]
    return {(x, d) for x, d, found in ends if any(not 0 <= n < len(form) or form[n] < 0 for n in found)}
