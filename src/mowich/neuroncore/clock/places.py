"""Where results go, as a compiler has it: what an instruction returned is written to its destination at once, and a tile that is
overwritten whole begins anew, in bytes of its own.

Both change which storage an instruction touches, and no value. Copies that the author of a kernel wrote stay.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

import numpy as np

from mowich.neuroncore.clock.depend import Box, box, covers, meet
from mowich.neuroncore.instructions.table import TABLE
from mowich.neuroncore.trace import Allocation, Kind, Operand, Pattern, Trace

NARROW = ("bfloat16", "float16", "float8_e4m3", "float8_e4m3fn", "float8_e5m2", "tfloat32")
"""Formats that an engine, which computes in float32, writes as well as float32 itself."""


def _starts(trace: Trace) -> list[int]:
    """Where the operands of each instruction begin in `touched`, and the end of the last."""
    sizes = np.asarray([2 * (len(k.reads) + len(k.writes)) for k in trace.kinds] or [0], np.int64)
    mine = sizes[np.frombuffer(trace.kind, np.int32)] if len(trace.kind) else np.zeros(0, np.int64)
    return [0, *np.cumsum(mine).tolist()]


def _is_whole(pattern: Pattern) -> bool:
    """True where a view holds every byte of its storage, each once."""
    shape, itemsize, offset, dims, strides, size = pattern
    total = math.prod(shape) * itemsize
    if offset != 0 or math.prod(dims) * size != total:
        return False
    steps = [(n, s) for n, s in zip(dims, strides, strict=True) if n > 1]
    return all(s > 0 for _, s in steps) and (sum((n - 1) * s for n, s in steps) + 1) * size == total


def _copied(trace: Trace, kinds: list[Kind]) -> Trace:
    """A trace without instructions, with the lists of another."""
    out = Trace()
    out.kinds, out.sites, out.patterns, out.storages = kinds, trace.sites, trace.patterns, dict(trace.storages)
    out.edges, out.ordered = trace.edges, trace.ordered
    return out


def _keeps(kind: Kind) -> bool:
    """True where elements of what an instruction writes may stay, or count in the result."""
    return TABLE[kind.name].keeps and not kind.flag("overwrites")


# results go to their destination --------------------------------------------------------------------------------------------


def settled(trace: Trace) -> Trace:
    """A trace whose results go to their destination without a copy. The same trace where there are none to move.

    The older interface assigns what an instruction returned (`t[...] = nl.load(x)`), which is recorded as a copy. It is left out where
    nothing else reads or writes what it copies, nothing touches its destination between, and the first instruction may write there.
    """
    assigned = [bool(k.flag("assigned")) for k in trace.kinds]
    if not any(assigned):
        return trace
    start, touched, kinds = _starts(trace), trace.touched, trace.kinds
    reads: dict[int, int] = {}
    writes: dict[int, int] = {}
    counts = [(len(k.reads), len(k.reads) + len(k.writes)) for k in kinds]
    for i, k in enumerate(trace.kind):
        at, (nr, nt) = start[i], counts[k]
        for j in range(at, at + 2 * nr, 2):
            reads[touched[j]] = reads.get(touched[j], 0) + 1
        for j in range(at + 2 * nr, at + 2 * nt, 2):
            writes[touched[j]] = writes.get(touched[j], 0) + 1
    kind = list(trace.kind)
    now = touched[:]
    gone: set[int] = set()
    last: dict[int, int] = {}
    writer: dict[int, int] = {}
    made: dict[tuple[int, int, int, int], int] = {}
    out = _copied(trace, list(kinds))
    for i, k in enumerate(trace.kind):
        at, (nr, nt) = start[i], counts[k]
        if assigned[k]:
            source, _, target, pattern = touched[at : at + 4]
            j = writer.get(source, -1)
            if reads[source] == writes[source] == 1 and j >= 0 and last.get(target, -1) <= j and source != target:
                n = next(
                    n for n in range(len(out.kinds[kind[j]].writes)) if now[_slot(start, out, kind, j, n)] == source
                )
                slot = _slot(start, out, kind, j, n)
                if _may_write(trace, out.kinds[kind[j]], n, now[slot + 1], at, k):
                    key = (kind[j], n, k, pattern if out.kinds[kind[j]].engine == "dma" else -1)
                    if key not in made:
                        made[key] = len(out.kinds)
                        out.kinds.append(_writing(trace, out.kinds[kind[j]], n, kinds[k].writes[0], target, pattern))
                    kind[j], now[slot], now[slot + 1] = made[key], target, pattern
                    gone.add(i)
                    writer[target] = j
                    last[target] = max(last.get(target, -1), j)
                    continue
        for slot in range(at, at + 2 * nt, 2):
            last[touched[slot]] = i
            if slot >= at + 2 * nr:
                writer[touched[slot]] = i
    return _without(trace, out, kind, now, start, gone) if gone else trace


def _slot(start: Sequence[int], out: Trace, kind: Sequence[int], i: int, n: int) -> int:
    """Place in `touched` of what instruction i writes n-th."""
    return start[i] + 2 * (len(out.kinds[kind[i]].reads) + n)


def _may_write(trace: Trace, first: Kind, n: int, pattern: int, at: int, copy: int) -> bool:
    """Whether an instruction may write its n-th result, with this pattern, where a copy, whose operands lie at `at`, would."""
    result, source, target = first.writes[n], trace.kinds[copy].reads[0], trace.kinds[copy].writes[0]
    tile, _, place, _ = trace.touched[at : at + 4]
    a, d = trace.storages[tile], trace.storages[place]
    if a.address is not None or a.is_input or a.space == "H" or d.space == "H":
        return False
    same = pattern == trace.touched[at + 1] or (
        _is_whole(trace.patterns[pattern]) and _is_whole(trace.patterns[trace.touched[at + 1]])
    )
    if not same or math.prod(result.shape) != math.prod(target.shape) or source.shape[0] != target.shape[0]:
        return False
    if result.shape[0] != target.shape[0] or _keeps(first):
        return False
    if result.dtype != target.dtype and (
        result.dtype != "float32" or target.dtype not in NARROW or first.engine in ("dma", "tensor")
    ):
        return False
    allowed = TABLE[first.name].spaces.get("dst", "SP")
    if first.engine in ("dma", "gpsimd"):
        return target.space == "S"
    return target.space in allowed and (first.engine != "tensor" or target.space == "P")


def _writing(trace: Trace, kind: Kind, n: int, target: Operand, storage: int, pattern: int) -> Kind:
    """A kind of instruction that writes its n-th result somewhere else."""
    if kind.engine == "dma":
        a, (_, _, offset, _, _, size) = trace.storages[storage], trace.patterns[pattern]
        first = (offset or 0) * size // max(a.row_B, 1) + (a.address[0] if a.address else 0)
        target = target._replace(start=first)
    return kind._replace(writes=(*kind.writes[:n], target, *kind.writes[n + 1 :]))


def _without(
    trace: Trace, out: Trace, kind: Sequence[int], touched: array[int], start: Sequence[int], gone: set[int]
) -> Trace:
    """The instructions of a trace, with other kinds and storages, but for those that are gone."""
    in_order = set(trace.in_order)
    for i, k in enumerate(kind):
        if i in gone:
            continue
        if i in in_order:
            out.in_order.append(len(out.kind))
        if i in trace.meetings:
            out.meetings[len(out.kind)] = trace.meetings[i]
        out.kind.append(k)
        out.site.append(trace.site[i])
        out.number.append(trace.number[i])
        out.touched.extend(touched[start[i] : start[i + 1]])
    return out


# a tile that is overwritten begins anew -------------------------------------------------------------------------------------


def renewed(trace: Trace) -> Trace:
    """A trace in which every whole overwrite of a tile begins a new one. The same trace where no tile is overwritten whole.

    Of tiles on chip without an address: where an instruction writes all bytes of one that is in use, and does not read it, what comes
    later means the new one. So a tile declared before a loop does not hold its iterations apart.
    """
    whole: dict[int, bool] = {}
    counts = []
    for made in trace.kinds:
        fixed = _keeps(made) or any(o.dynamic for o in (*made.reads, *made.writes))
        nr, nt = len(made.reads), len(made.reads) + len(made.writes)
        counts.append((nr, nt, () if fixed else tuple(n for n, o in enumerate(made.writes, nr) if o.space != "H")))
    touched = trace.touched
    own = {n for n, a in trace.storages.items() if a.address is None and not a.is_input and a.space != "H"}
    number = max(trace.storages, default=0)
    seen: set[int] = set()
    now: dict[int, int] = {}
    changed = touched[:]
    fresh: dict[int, Allocation] = {}
    at = 0
    for k in trace.kind:
        nr, nt, fully = counts[k]
        reading = touched[at : at + 2 * nr : 2]
        for n in fully:
            s = touched[at + 2 * n]
            if s not in own or s not in seen or s in reading:
                continue
            pattern = touched[at + 2 * n + 1]
            found = whole.get(pattern)
            if found is None:
                found = whole[pattern] = _is_whole(trace.patterns[pattern])
            if found:
                number += 1
                fresh[number] = trace.storages[s]._replace(number=number)
                for j in range(at, at + 2 * nr, 2):  # what it reads is older
                    changed[j] = now.get(touched[j], touched[j])
                now[s] = number
        for j in range(at, at + 2 * nt, 2):
            s = touched[j]
            seen.add(s)
            if s in now:
                changed[j] = now[s]
        at += 2 * nt
    if not fresh:
        return trace
    out = _copied(trace, trace.kinds)
    out.storages.update(fresh)
    out.kind, out.site, out.number, out.touched = trace.kind, trace.site, trace.number, changed
    out.in_order, out.meetings = trace.in_order, trace.meetings
    return out


# zeros that a product replaces ----------------------------------------------------------------------------------------------


def unzeroed(trace: Trace) -> Trace:
    """A trace without zeros written to PSUM that products are added to next: the first product of a sum overwrites instead."""
    zeros = [k.name == "memset" and bool(k.flag("zero")) and k.writes[0].space == "P" for k in trace.kinds]
    if not any(zeros):
        return trace
    products = [k.name in ("nc_matmul", "nc_matmul_mx") for k in trace.kinds]
    start, touched = _starts(trace), trace.touched
    counts = [(len(k.reads), len(k.reads) + len(k.writes)) for k in trace.kinds]
    pending: dict[
        int, tuple[int, dict[int, Box], int]
    ] = {}  # storage -> the zeros, what products wrote since, bytes left
    gone: set[int] = set()
    for i, k in enumerate(trace.kind):
        at, (nr, nt) = start[i], counts[k]
        if zeros[k]:
            pending[touched[at]] = (i, {}, _bytes(trace.patterns[touched[at + 1]]))
            continue
        for j in range(at, at + 2 * nt, 2):
            found = pending.get(touched[j])
            if found is None:
                continue
            z, boxes, left = found
            pattern = touched[j + 1]
            if pattern in boxes and products[k]:
                continue
            mine, zeroed = box(trace.patterns[pattern]), trace.patterns[touched[start[z] + 1]]
            fits = products[k] and j == at + 2 * nr and (_is_whole(zeroed) or covers(box(zeroed), mine))
            if not fits or any(meet(mine, other) for other in boxes.values()):
                del pending[touched[j]]
                continue
            boxes[pattern] = mine
            left -= _bytes(trace.patterns[pattern])
            pending[touched[j]] = (z, boxes, left)
            if not left:
                gone.add(z)
                del pending[touched[j]]
    return _without(trace, _copied(trace, trace.kinds), trace.kind, touched, start, gone) if gone else trace


def _bytes(pattern: Pattern) -> int:
    """Bytes that a view names."""
    return math.prod(pattern[3]) * pattern[5]
