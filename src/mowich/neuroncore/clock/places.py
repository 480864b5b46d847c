"""Where results go, as a compiler has it: what an instruction returned is written to its destination at once, and a
tile that is overwritten whole begins anew, in bytes of its own.

Both change which storage an instruction touches, and no value. Copies that the author of a kernel wrote stay.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Sequence
from ctypes import CDLL

import numpy as np

from mowich.neuroncore.clock import compiled
from mowich.neuroncore.clock.compiled import ClockColumn
from mowich.neuroncore.clock.depend import Box, box, covers, meet
from mowich.neuroncore.clock.lower import trace_given, uses_of, with_kinds, without
from mowich.neuroncore.clock.reference import operands_of
from mowich.neuroncore.instructions.table import TABLE
from mowich.neuroncore.trace import Kind, Operand, Pattern, Trace

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
    start, touched, kinds = (2 * uses.start).tolist(), trace.touched, trace.kinds
    reads, writes = uses.reads.tolist(), uses.writes.tolist()
    counts = [(len(k.reads), len(k.reads) + len(k.writes)) for k in kinds]
    kind = list(trace.kind)
    now = touched[:]
    gone: set[int] = set()
    last: dict[int, int] = {}
    writer: dict[int, int] = {}
    made: dict[tuple[int, int, int, int], int] = {}
    made_kinds = list(kinds)
    for i, k in enumerate(trace.kind):
        at, (nr, nt) = start[i], counts[k]
        if assigned[k]:
            source, _, target, pattern = touched[at : at + 4]
            j = writer.get(source, -1)
            if reads[source] == writes[source] == 1 and j >= 0 and last.get(target, -1) <= j and source != target:
                n = next(
                    n
                    for n in range(len(made_kinds[kind[j]].writes))
                    if now[_slot(start, made_kinds[kind[j]], j, n)] == source
                )
                slot = _slot(start, made_kinds[kind[j]], j, n)
                if _may_write(trace, made_kinds[kind[j]], n, now[slot + 1], at, k):
                    key = (kind[j], n, k, pattern if made_kinds[kind[j]].engine == "dma" else -1)
                    if key not in made:
                        made[key] = len(made_kinds)
                        made_kinds.append(_writing(trace, made_kinds[kind[j]], n, kinds[k].writes[0], target, pattern))
                    kind[j], now[slot], now[slot + 1] = made[key], target, pattern
                    gone.add(i)
                    writer[target] = j
                    last[target] = max(last.get(target, -1), j)
                    continue
        for slot in range(at, at + 2 * nt, 2):
            last[touched[slot]] = i
            if slot >= at + 2 * nr:
                writer[touched[slot]] = i
    return without(trace, made_kinds, np.array(kind), np.array(now, np.int64), uses, list(gone)) if gone else trace


def _slot(start: Sequence[int], kind: Kind, i: int, n: int) -> int:
    """Place in `touched` of what instruction i, of a kind, writes n-th."""
    return start[i] + 2 * (len(kind.reads) + n)


def _may_write(trace: Trace, first: Kind, n: int, pattern: int, at: int, copy: int) -> bool:
    """Whether an instruction may write its n-th result, with this pattern, where a copy, whose operands lie at `at`,
    would."""
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
        result.dtype != "float32" or target.dtype not in _NARROW or first.engine in ("dma", "tensor")
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


def refills(before: Trace, after: Trace) -> bool:
    """Whether loads fill tiles that began anew, as where the author keeps two buffers of his own. before, after: what
    `renewed` took and gave."""
    if after is before:
        return False
    uses, is_dma = uses_of(after), np.array([k.engine == "dma" for k in after.kinds])
    is_new = uses.written & (uses.number >= len(before.storages.form))
    return bool(is_dma[uses.kind[uses.whose[is_new]]].any())


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
    given, _kept = trace_given(trace, overwrites, own)
    whole = np.zeros(len(trace.patterns), np.uint8)
    for n in np.flatnonzero(trace.patterns.columns(-1)[1] == 0).tolist():
        whole[n] = _is_whole(trace.patterns[n])
    touched, out = trace.touched[:], compiled.Renewed()
    pointers = (compiled.address(whole), compiled.address(touched), compiled.by_reference(out))
    if not compiled.done(library.clock_renewed(compiled.by_reference(given), *pointers)):
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
    pending: dict[int, tuple[int, Pattern, dict[int, Box], int]] = {}
    gone: set[int] = set()
    for i, storage, pattern, is_written in zip(*(c[rows].tolist() for c in columns), strict=True):
        k = trace.kind[i]
        if zeros[k]:
            zeroed = trace.patterns[pattern]
            pending[storage] = (i, zeroed, {}, _bytes(zeroed))  # what products wrote since, bytes left
            continue
        found = pending.get(storage)
        if found is None:
            continue
        z, zeroed, boxes, left = found
        if pattern in boxes and products[k]:
            continue
        part = box(trace.patterns[pattern])
        fits = products[k] and is_written and (_is_whole(zeroed) or covers(box(zeroed), part))
        if not fits or any(meet(part, other) for other in boxes.values()):
            del pending[storage]
            continue
        boxes[pattern] = part
        left -= _bytes(trace.patterns[pattern])
        pending[storage] = (z, zeroed, boxes, left)
        if not left:
            gone.add(z)
            del pending[storage]
    if not gone:
        return trace
    return without(trace, trace.kinds, uses.kind, np.array(trace.touched, np.int64), uses, list(gone))


def _bytes(pattern: Pattern) -> int:
    """Bytes that a view names."""
    return math.prod(pattern[3]) * pattern[5]
