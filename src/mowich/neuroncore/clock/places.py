"""Where results go, as a compiler has it: what an instruction returned is written to its destination at once, and a
tile that is overwritten whole begins anew, in bytes of its own.

Both change which storage an instruction touches, and no value. Copies that the author of a kernel wrote stay.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from ctypes import CDLL

import numpy as np

from mowich.neuroncore.clock import compiled
from mowich.neuroncore.clock.compiled import ClockColumn
from mowich.neuroncore.clock.depend import Box, box, covers, meet
from mowich.neuroncore.clock.lower import Uses, trace_given, uses_of
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


def _copied(trace: Trace, kinds: list[Kind]) -> Trace:
    """A trace without instructions, with the lists of another."""
    out = Trace()
    out.kinds, out.sites, out.patterns, out.storages = kinds, trace.sites, trace.patterns, trace.storages.copy()
    out.edges, out.ordered = trace.edges, trace.ordered
    return out


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
    return _without(trace, out, np.array(kind), now, uses, gone) if gone else trace


def _slot(start: Sequence[int], out: Trace, kind: Sequence[int], i: int, n: int) -> int:
    """Place in `touched` of what instruction i writes n-th."""
    return start[i] + 2 * (len(out.kinds[kind[i]].reads) + n)


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


def _without(trace: Trace, out: Trace, kind: ClockColumn, touched: Sequence[int], uses: Uses, gone: set[int]) -> Trace:
    """The instructions of a trace, with other kinds and storages, but for those that are gone."""
    kept = np.ones(len(kind), np.bool_)
    kept[list(gone)] = False
    still = kept[uses.whose]
    out.kind.frombytes(kind[kept].astype(np.int32).tobytes())
    out.site.frombytes(np.array(trace.site, np.int32)[kept].tobytes())
    out.number.frombytes(np.array(trace.number, np.int64)[kept].tobytes())
    out.touched.frombytes(np.array(touched, np.int64).reshape(-1, 2)[still].tobytes())
    place = np.cumsum(kept) - 1
    out.in_order.extend(int(place[i]) for i in trace.in_order if kept[i])
    out.meetings.update((int(place[i]), meeting) for i, meeting in trace.meetings.items() if kept[i])
    return out


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
    out = _copied(trace, trace.kinds)
    form = out.storages.form
    form.frombytes(np.array(form, np.int32)[after].tobytes())
    out.kind, out.site, out.number, out.touched = trace.kind, trace.site, trace.number, touched
    out.in_order, out.meetings = trace.in_order, trace.meetings
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
    uses = uses_of(trace)
    number, whose = uses.number, uses.whose
    form = np.array(trace.storages.form, np.int32)
    is_own = (np.array([*own, False])[form])[: len(uses.writes)] & (uses.writes > 1)
    at = np.flatnonzero(uses.written & is_own[number] & np.array(overwrites)[uses.kind[whose]])
    seen = np.full(len(is_own), len(number))
    seen[number[::-1]] = np.arange(len(number))[::-1]
    at = at[at > seen[number[at]]]
    patterns, which = np.unique(uses.pattern[at], return_inverse=True)
    at = at[np.array([_is_whole(trace.patterns[p]) for p in patterns.tolist()], np.bool_)[which]]
    concerned = np.zeros(len(is_own), np.bool_)
    concerned[number[at]] = True
    read = np.flatnonzero(~uses.written & concerned[number])
    at = at[~np.isin(whose[at] * len(is_own) + number[at], whose[read] * len(is_own) + number[read])]
    # the operands of each storage in their order: from an overwrite on they mean the new one
    begun = np.full(len(number), -1)
    begun[at] = len(form) + np.arange(len(at))
    rows = np.flatnonzero(concerned[number])
    rows = rows[np.argsort(number[rows], kind="stable")]
    places = np.arange(len(rows))
    first = np.maximum.accumulate(np.where(np.diff(number[rows], prepend=-1) != 0, places, 0))
    latest = np.maximum.accumulate(np.where(begun[rows] >= 0, places, -1))
    changed = number.copy()
    changed[rows] = np.where(latest >= first, begun[rows[latest]], number[rows])
    return array("q", np.stack([changed, uses.pattern], axis=1).tobytes()), number[at]


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
    return _without(trace, _copied(trace, trace.kinds), uses.kind, trace.touched, uses, gone) if gone else trace


def _bytes(pattern: Pattern) -> int:
    """Bytes that a view names."""
    return math.prod(pattern[3]) * pattern[5]
