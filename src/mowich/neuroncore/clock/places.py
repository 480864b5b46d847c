"""Where results go, as a compiler has it: what an instruction returned is written to its destination at once, and a
tile that is overwritten whole begins anew, in bytes of its own.

Both change which storage an instruction touches, and no value. Copies that the author of a kernel wrote stay.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from ctypes import CDLL
from functools import cache

import numpy as np

from mowich.neuroncore.clock import compiled
from mowich.neuroncore.clock.compiled import ClockColumn
from mowich.neuroncore.clock.depend import Box, box, covers, meet
from mowich.neuroncore.clock.lower import trace_given, uses_of, with_kinds, without
from mowich.neuroncore.clock.reference import operands_of
from mowich.neuroncore.instructions.table import TABLE
from mowich.neuroncore.trace import Allocation, Kind, Operand, Pattern, Trace

_NARROW = ("bfloat16", "float16", "float8_e4m3", "float8_e4m3fn", "float8_e5m2", "tfloat32")
"""Formats that an engine, which computes in float32, writes as well as float32 itself."""


def _is_whole(pattern: Pattern) -> bool:
    """True where a view holds every byte of its storage, each once."""
    shape, itemsize, offset, dims, strides, size = pattern
    total = math.prod(shape) * itemsize
    if offset != 0 or math.prod(dims) * size != total:
        return False
    steps = [(n, s) for n, s in zip(dims, strides, strict=True) if n > 1]
    return all(s > 0 for _, s in steps) and (sum((n - 1) * s for n, s in steps) + 1) * size == total


def _keeps(kind: Kind) -> bool:
    """True where elements of what an instruction writes may stay, or count in the result."""
    return TABLE[kind.name].keeps and not kind.flag("overwrites")


# results go to their destination
# --------------------------------------------------------------------------------------------


def settled(trace: Trace) -> Trace:
    """A trace whose results go to their destination without a copy. The same trace where there are none to move.

    The older interface assigns what an instruction returned (`t[...] = nl.load(x)`), which is recorded as a copy. It is
    left out where nothing else reads or writes what it copies, nothing touches its destination between, and the first
    instruction may write there.
    """
    assigned = [bool(k.flag("assigned")) for k in trace.kinds]
    if not any(assigned):
        return trace
    uses = uses_of(trace)
    start, number, whose = uses.start, uses.number, uses.whose
    writer = np.full(len(uses.writes), -1)
    writer[number[uses.written]] = whose[uses.written]
    copies = np.flatnonzero(np.array(assigned)[uses.kind])
    source, target = number[start[copies]], number[start[copies] + 1]
    is_read_once = (uses.reads[source] == 1) & (uses.writes[source] == 1) & (source != target)
    copies = copies[is_read_once & (writer[source] >= 0) & (writer[source] < copies)]
    if not len(copies):
        return trace
    before = _touched_before(number)
    touch = before[start[copies] + 1]
    last_touch = np.where(touch >= 0, whose[touch], -1)
    columns = (copies, 2 * start[copies], writer[number[start[copies]]], touch, last_touch)
    kind, kinds, now, touched = list(trace.kind), list(trace.kinds), trace.touched[:], trace.touched
    begin, form, forms = (2 * start).tolist(), trace.storages.form, trace.storages.forms
    gone: dict[int, int] = {}  # copies, with the instruction that writes in their place
    known: dict[tuple[int, ...], int] = {}
    made: dict[tuple[int, int, int, int], int] = {}
    for i, at, j, operand, last in zip(*(c.tolist() for c in columns), strict=True):
        tile, view, place, pattern = touched[at : at + 4]
        j = gone.get(j, j)
        if (_last_touch(operand, before, whose, start, gone) if last in gone else last) > j:
            continue
        first, n = kinds[kind[j]], 0
        slot = begin[j] + 2 * len(first.reads)
        while now[slot] != tile:
            slot, n = slot + 2, n + 1
        key = (kind[j], n, now[slot + 1], trace.kind[i], view, pattern, form[tile], form[place])
        if key not in known:
            copy, to = trace.kinds[trace.kind[i]], forms[form[place]]
            same = now[slot + 1] == view or all(_is_whole(trace.patterns[x]) for x in (now[slot + 1], view))
            known[key] = -1
            if same and _may_write(first, n, copy, forms[form[tile]], to):
                # descriptors depend on where a DMA writes
                like = (kind[j], n, trace.kind[i], pattern if first.engine == "dma" else -1)
                if like not in made:
                    made[like] = len(kinds)
                    kinds.append(_writing(first, n, copy.writes[0], to, trace.patterns[pattern]))
                known[key] = made[like]
        if known[key] >= 0:
            kind[j], now[slot], now[slot + 1] = known[key], place, pattern
            gone[i] = j
    return without(trace, kinds, np.array(kind), np.array(now, np.int64), uses, list(gone)) if gone else trace


def _touched_before(number: ClockColumn) -> ClockColumn:
    """Of each operand, the one before it of the same storage; -1: none."""
    order, before = np.argsort(number, kind="stable"), np.full(len(number), -1)
    before[order[1:]] = np.where(number[order[1:]] == number[order[:-1]], order[:-1], -1)
    return before


def _last_touch(
    operand: int, before: ClockColumn, whose: ClockColumn, start: ClockColumn, gone: Mapping[int, int]
) -> int:
    """The last instruction that touches a storage, up to an operand of it: where a copy to it is gone, the one that
    writes in its place; -1: none."""
    while operand >= 0 and (i := int(whose[operand])) in gone:
        if operand == start[i] + 1:
            return gone[i]
        operand = int(before[operand])
    return int(whose[operand]) if operand >= 0 else -1


def _may_write(first: Kind, n: int, copy: Kind, a: Allocation, d: Allocation) -> bool:
    """Whether an instruction may write its n-th result, of an allocation like `a`, where a copy would, to one like
    `d`."""
    result, source, target = first.writes[n], copy.reads[0], copy.writes[0]
    if a.address is not None or a.is_input or a.space == "H" or d.space == "H":
        return False
    if math.prod(result.shape) != math.prod(target.shape) or source.shape[0] != target.shape[0]:
        return False
    if result.shape[0] != target.shape[0] or _keeps(first):
        return False
    if result.dtype != target.dtype and (
        result.dtype != "float32" or target.dtype not in _NARROW or first.engine in ("dma", "tensor")
    ):
        return False
    allowed = TABLE[first.name].spaces.get("dst", "SP")
    if first.engine in ("dma", "gpsimd"):
        return target.space == "S"
    return target.space in allowed and (first.engine != "tensor" or target.space == "P")


def _writing(kind: Kind, n: int, target: Operand, a: Allocation, pattern: Pattern) -> Kind:
    """A kind of instruction that writes its n-th result somewhere else: to an allocation like `a`."""
    if kind.engine == "dma":
        _, _, offset, _, _, size = pattern
        first = (offset or 0) * size // max(a.row_B, 1) + (a.address[0] if a.address else 0)
        target = target._replace(start=first)
    return kind._replace(writes=(*kind.writes[:n], target, *kind.writes[n + 1 :]))


# a tile that is overwritten begins anew
# -------------------------------------------------------------------------------------


def renewed(trace: Trace) -> Trace:
    """A trace in which every whole overwrite of a tile begins a new one. The same trace where no tile is overwritten
    whole.

    Of tiles on chip without an address: where an instruction writes all bytes of one that is in use, and does not read
    it, what comes later means the new one. So a tile declared before a loop does not hold its iterations apart.
    """
    if not len(trace):
        return trace
    overwrites = [not (_keeps(k) or any(o.dynamic for o in (*k.reads, *k.writes))) for k in trace.kinds]
    own = [a.address is None and not a.is_input and a.space != "H" for a in trace.storages.forms]
    library = compiled.library(len(trace))
    found = None if library is None else _compiled_begun(library, trace, overwrites, own)
    touched, after = _begun(trace, overwrites, own) if found is None else found
    if not len(after):
        return trace
    out = with_kinds(trace, trace.kinds)
    out.storages, out.touched = trace.storages.copy(), touched
    out.storages.more(after)
    return out


def _begun(trace: Trace, overwrites: Sequence[bool], own: Sequence[bool]) -> tuple[array[int], ClockColumn]:
    """(What is touched, where tiles that begin anew have numbers of their own, from the last known number on; the
    storage after which each of them comes). overwrites: of each kind, whether it may overwrite a tile; own: of each
    form of storages, whether it may begin anew."""
    operands, form = operands_of(trace), trace.storages.form
    writes = Counter(o.tile.number for mine in operands for o in mine if o.is_written)
    now: dict[int, int] = {}
    touched, after = array("q"), array("q")
    for k, mine in zip(trace.kind, operands, strict=True):
        read = {o.tile.number for o in mine if not o.is_written}
        for o in mine:
            s = o.tile.number
            is_new = o.is_written and overwrites[k] and s in now and s not in read and writes[s] > 1 and own[form[s]]
            if is_new and _is_whole(trace.patterns[o.pattern]):
                now[s] = len(form) + len(after)
                after.append(s)
            touched.extend((now.setdefault(s, s), o.pattern))
    return touched, np.array(after, np.int64)


def _compiled_begun(
    library: CDLL, trace: Trace, overwrites: Sequence[bool], own: Sequence[bool]
) -> tuple[array[int], ClockColumn] | None:
    """`_begun` by the compiled code; None where it cannot."""
    given = trace_given(trace, overwrites, own)
    whole = np.zeros(len(trace.patterns), np.uint8)
    for n in np.flatnonzero(trace.patterns.columns(-1)[1] == 0).tolist():
        whole[n] = _is_whole(trace.patterns[n])
    touched, out = trace.touched[:], compiled.Renewed()
    if not compiled.is_done(library.clock_renewed, given, whole, touched, out):
        return None
    return touched, np.array(out.take("after", "q", out.n), np.int64)


# zeros that a product replaces
# ----------------------------------------------------------------------------------------------


def unzeroed(trace: Trace) -> Trace:
    """A trace without zeros written to PSUM that products are added to next: the first product of a sum overwrites
    instead."""
    zeros = [k.name == "memset" and bool(k.flag("zero")) and k.writes[0].space == "P" for k in trace.kinds]
    if not any(zeros):
        return trace
    products = [k.name in ("nc_matmul", "nc_matmul_mx") for k in trace.kinds]
    uses = uses_of(trace)
    mine = np.zeros(len(uses.writes), np.bool_)  # storages that zeros are written to
    mine[uses.number[uses.start[:-1][np.array(zeros)[uses.kind]]]] = True
    rows = np.flatnonzero(mine[uses.number])
    columns = (uses.whose, uses.number, uses.pattern, uses.written)
    pending: dict[int, tuple[int, int, dict[int, Box], int]] = {}
    gone: set[int] = set()

    @cache
    def box_of(pattern: int) -> Box:
        return box(trace.patterns[pattern])

    @cache
    def bytes_of(pattern: int) -> int:
        view: Pattern = trace.patterns[pattern]
        return math.prod(view[3]) * view[5]

    @cache
    def is_part(pattern: int, whole: int) -> bool:
        return _is_whole(trace.patterns[whole]) or covers(box_of(whole), box_of(pattern))

    for i, storage, pattern, is_written in zip(*(c[rows].tolist() for c in columns), strict=True):
        k = trace.kind[i]
        if zeros[k]:
            pending[storage] = (i, pattern, {}, bytes_of(pattern))  # what products wrote since, bytes left
            continue
        found = pending.get(storage)
        if found is None:
            continue
        z, zeroed, boxes, left = found
        if pattern in boxes and products[k]:
            continue
        fits = products[k] and is_written and is_part(pattern, zeroed)
        if not fits or any(meet(box_of(pattern), other) for other in boxes.values()):
            del pending[storage]
            continue
        boxes[pattern] = box_of(pattern)
        left -= bytes_of(pattern)
        pending[storage] = (z, zeroed, boxes, left)
        if not left:
            gone.add(z)
            del pending[storage]
    if not gone:
        return trace
    return without(trace, trace.kinds, uses.kind, np.array(trace.touched, np.int64), uses, list(gone))
