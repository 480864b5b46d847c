"""What the compiler does to a kernel before it runs, as far as documents and profiles show it: rewritings that change
no value.

A product, sum or other `tensor_tensor` of the same unchanged tiles is computed once (loads are never merged). From
NeuronCore-v3 on that holds for different statements, and for a statement that gives the same as the last time that it
ran: what does not change in the innermost loop is moved out of it, what comes again after others is not. A row
repeated over the partitions by the Tensor Engine is read in PSUM by its one consumer, where it fits a bank; several
consumers read the copy in SBUF. With `--disable-dge` the descriptors of a DMA are made before the launch, where its
addresses are known then. A `tensor_copy` that names no engine, and a `tensor_scalar` that the Scalar Engine can run,
goes to the Scalar Engine where the Vector Engine has the most work of all engines and has more to do at that point
("engine workload", nki.isa); on NeuronCore-v3 short ones stay, and on NeuronCore-v4 all do, as profiles show.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Sequence
from ctypes import CDLL
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mowich.neuroncore.clock import compiled
from mowich.neuroncore.clock.compiled import ClockColumn
from mowich.neuroncore.clock.costs import Costs
from mowich.neuroncore.clock.reference import operands_of
from mowich.neuroncore.instructions.rates import SCALAR, TENSOR, VECTOR, Cost
from mowich.neuroncore.trace import Kind, Operand, Trace

MERGED = ("tensor_tensor",)
"""Instructions without immediate operands: the record tells all that their result depends on."""


@dataclass(slots=True)
class Uses:
    """Who touches what, in columns. kind: of each instruction; start: where its operands begin, in operands, and the
    end of the last; whose: the instruction of each operand; number, pattern: of each operand; written: whether it
    is; writes, reads: how many operands of each storage are; reader: the last instruction that reads each storage."""

    kind: ClockColumn
    start: ClockColumn
    whose: ClockColumn
    number: ClockColumn
    pattern: ClockColumn
    written: NDArray[np.bool_]
    writes: ClockColumn
    reads: ClockColumn
    reader: ClockColumn


def uses_of(trace: Trace) -> Uses:
    """Who touches what in a trace."""
    kind = np.array(trace.kind, np.int64)
    reads = np.array([len(k.reads) for k in trace.kinds], np.int64)[kind]
    count = np.array([len(k.reads) + len(k.writes) for k in trace.kinds], np.int64)[kind]
    start = np.concatenate([[0], np.cumsum(count)])
    whose = np.repeat(np.arange(len(kind)), count)
    number, pattern = (np.array(trace.touched[c::2], np.int64) for c in (0, 1))
    written = np.arange(len(number)) - start[whose] >= reads[whose]
    most = int(number.max(initial=0)) + 1
    reader = np.full(most, -1)
    reader[number[~written]] = whose[~written]
    return Uses(
        kind,
        start,
        whose,
        number,
        pattern,
        written,
        writes=np.bincount(number[written], minlength=most),
        reads=np.bincount(number[~written], minlength=most),
        reader=reader,
    )


def lowered(trace: Trace, bank_B: int, only_invariant: bool = False) -> Trace:
    """A trace without the instructions that the compiler leaves out. The same trace where there are none.
    only_invariant: what a statement computed earlier counts only where it computed the same the last time."""
    if not len(trace) or not any(k.name in MERGED or k.flag("broadcast") for k in trace.kinds):
        return trace
    root, gone = _merged(trace, only_invariant)
    rows = any(k.flag("broadcast") for k in trace.kinds)
    if not gone.any() and not rows:
        return trace
    uses = uses_of(trace)
    direct = _forwarded(trace, uses, bank_B) if rows else {}
    if not gone.any() and not direct:
        return trace
    return _rewritten(trace, uses, root, gone, direct)


def _merged(trace: Trace, only_invariant: bool) -> tuple[ClockColumn, NDArray[np.bool_]]:
    """(Of each storage, the storage that holds the same values; of each instruction, whether it is left out)."""
    merges = [k.name in MERGED and all(o.space != "H" for o in (*k.reads, *k.writes)) for k in trace.kinds]
    root, gone = np.arange(len(trace.storages.form)), np.zeros(len(trace), np.bool_)
    if not any(merges):
        return root, gone
    library = compiled.library(len(trace))
    if library is None or not _compiled_merged(library, trace, merges, only_invariant, root, gone):
        _find_merged(trace, merges, only_invariant, root, gone)
    return root, gone


def _find_merged(
    trace: Trace, merges: Sequence[bool], only_invariant: bool, root: ClockColumn, gone: NDArray[np.bool_]
) -> None:
    """What `_merged` gives, into columns that start as the storages themselves and as none. A result is known by its
    kind and view, and by the storage, the version and the view of each operand."""
    operands = operands_of(trace)
    writes = Counter(o.tile.number for mine in operands for o in mine if o.is_written)
    version: Counter[int] = Counter()
    seen: dict[object, tuple[int, int]] = {}
    last: dict[int, object] = {}
    for i, (k, mine) in enumerate(zip(trace.kind, operands, strict=True)):
        written = [o for o in mine if o.is_written]
        if merges[k] and written and writes[written[0].tile.number] == 1 and written[0].tile.address is None:
            target, site = written[0].tile.number, trace.site[i]
            reads = [(int(root[o.tile.number]), o.pattern) for o in mine if not o.is_written]
            key = (k, written[0].pattern, *((s, version[s], pattern) for s, pattern in reads))
            tile, statement = seen.get(key, (-1, -1))
            is_known = tile >= 0 and (not only_invariant or statement != site or last.get(site) == key)
            last[site] = key
            if is_known and target not in dict(reads):
                root[target], gone[i] = tile, True
            else:
                seen[key] = target, site
        version.update(o.tile.number for o in written)


def _compiled_merged(
    library: CDLL,
    trace: Trace,
    merges: Sequence[bool],
    only_invariant: bool,
    root: ClockColumn,
    gone: NDArray[np.bool_],
) -> bool:
    """`_find_merged` by the compiled code; False where it cannot."""
    given = trace_given(trace, merges, [a.address is None for a in trace.storages.forms])
    found, left_out = root.copy(), np.zeros(len(gone), np.uint8)
    if not compiled.is_done(library.clock_merged, given, only_invariant, found, left_out):
        return False
    root[:], gone[:] = found, left_out.astype(np.bool_)
    return True


def trace_given(trace: Trace, kinds: Sequence[bool], forms: Sequence[bool]) -> compiled.Struct:
    """A trace for the compiled code: a question about these kinds of instructions and these forms of storages."""
    rows = compiled.rows(
        [(len(k.reads), len(k.reads) + len(k.writes), m) for k, m in zip(trace.kinds, kinds, strict=True)], 3
    )
    return compiled.TraceGiven.of(
        trace,
        instructions=len(trace),
        storages=len(trace.storages.form),
        sites=len(trace.sites),
        kind_rows=rows,
        storage_form=trace.storages.form,
        is_free=np.array(forms, np.uint8),
    )


def _forwarded(trace: Trace, uses: Uses, bank_B: int) -> dict[int, tuple[int, int, int]]:
    """Copy of a repeated row -> (its reader, the tile in SBUF, the tile in PSUM), where the reader may read PSUM
    instead."""
    out: dict[int, tuple[int, int, int]] = {}
    rows = np.array([bool(k.flag("broadcast")) for k in trace.kinds])
    kinds, touched = trace.kinds, trace.touched
    for i in np.flatnonzero(rows[uses.kind[:-1]]).tolist():
        copy = i + 1
        at = 2 * int(uses.start[copy])
        psum, tile = touched[at], touched[at + 2]
        a = trace.storages[tile]
        if uses.reads[tile] != 1 or uses.writes[tile] != 1 or trace.storages[psum].row_B > bank_B:
            continue
        if a.parts * a.row_B != trace.storages[psum].parts * trace.storages[psum].row_B or a.itemsize != 4:
            continue
        user = int(uses.reader[tile])
        k = kinds[trace.kind[user]]
        mine = [n for n in range(len(k.reads)) if uses.number[uses.start[user] + n] == tile]
        if k.engine not in ("vector", "scalar") or len(mine) != 1 or any(o.space == "P" for o in k.reads[:2]):
            continue
        out[copy] = (user, tile, psum)
    return out


def _rewritten(
    trace: Trace, uses: Uses, root: ClockColumn, gone: NDArray[np.bool_], direct: dict[int, tuple[int, int, int]]
) -> Trace:
    kinds, kept = list(trace.kinds), ~gone
    kept[list(direct)] = False
    kind, number = uses.kind.copy(), root[uses.number]
    made: dict[tuple[int, int], int] = {}
    moved = {user: (tile, psum) for user, tile, psum in direct.values()}
    for user in sorted(u for u in moved if kept[u]):
        tile, psum = moved[user]
        first, k = int(uses.start[user]), int(kind[user])
        n = next(n for n in range(len(kinds[k].reads)) if number[first + n] == tile)
        number[first + n] = psum
        if (k, n) not in made:
            made[k, n] = len(kinds)
            kinds.append(_in_psum(kinds[k], n))
        kind[user] = made[k, n]
    touched = np.stack([number, uses.pattern], axis=1)
    return without(trace, kinds, kind, touched, uses, np.flatnonzero(~kept))


def _in_psum(kind: Kind, n: int) -> Kind:
    reads: list[Operand] = list(kind.reads)
    reads[n] = reads[n]._replace(space="P")
    return kind._replace(reads=tuple(reads))


def with_kinds(trace: Trace, kinds: list[Kind]) -> Trace:
    """The same instructions, of other kinds."""
    out = Trace()
    out.kinds, out.sites, out.patterns, out.storages = kinds, trace.sites, trace.patterns, trace.storages
    out.edges, out.meetings, out.in_order = trace.edges, trace.meetings, trace.in_order
    out.kind, out.site, out.number, out.touched = trace.kind, trace.site, trace.number, trace.touched
    return out


def without(
    trace: Trace,
    kinds: list[Kind],
    kind: ClockColumn,
    touched: ClockColumn,
    uses: Uses,
    gone: Sequence[int] | ClockColumn,
) -> Trace:
    """The instructions of a trace, of other kinds and on other storages, but for those that are gone."""
    out, kept = with_kinds(trace, kinds), np.ones(len(kind), np.bool_)
    kept[gone] = False
    out.kind = array("i", kind[kept].astype(np.int32).tobytes())
    out.site = array("i", np.array(trace.site, np.int32)[kept].tobytes())
    out.number = array("q", np.array(trace.number, np.int64)[kept].tobytes())
    out.touched = array("q", touched.reshape(-1, 2)[kept[uses.whose]].tobytes())
    place = np.cumsum(kept) - 1
    out.in_order = array(trace.in_order.typecode, [int(place[i]) for i in trace.in_order if kept[i]])
    out.meetings = {int(place[i]): meeting for i, meeting in trace.meetings.items() if kept[i]}
    return out


def without_dge(trace: Trace) -> Trace:
    """A trace as the compiler makes it with --disable-dge: no DMA asks for descriptors at run time but by a run-time
    index. All others are made ahead, and the DMA engine reads them directly."""
    ahead = (("dge", "none"), ("ahead", True))
    kinds = [
        k._replace(flags=(*(f for f in k.flags if f[0] != "dge"), *ahead)) if k.engine == "dma" else k
        for k in trace.kinds
    ]
    return with_kinds(trace, kinds)


def balanced(trace: Trace, costs: Costs) -> Trace:
    """A trace whose free copies and tensor_scalars are shared between the Vector and the Scalar Engine, where the
    Vector Engine has more work than the other engines and the compiler of the generation shares them."""
    least = costs.number("model.shares_from")
    free = [
        k.name in ("tensor_copy", "tensor_scalar")
        and bool(k.flag("free"))
        and math.prod(k.writes[0].shape[1:]) >= least
        for k in trace.kinds
    ]
    if not any(free) or not costs.number("model.shares_copies"):
        return trace
    made = [costs.of(k) for k in trace.kinds]
    count = np.bincount(np.array(trace.kind, np.int64), minlength=len(made)).tolist()
    tensor, vector, scalar = (
        sum(n * c.occupancy for n, c in zip(count, made, strict=True) if c.queue == q) for q in (TENSOR, VECTOR, SCALAR)
    )
    if vector <= max(tensor, scalar):
        return trace
    out = with_kinds(trace, list(trace.kinds))
    out.kind = array("i")
    other: dict[int, int] = {}
    for k, is_free in enumerate(free):
        if is_free:
            other[k] = len(out.kinds)
            out.kinds.append(trace.kinds[k]._replace(engine="scalar"))
            made.append(costs.of(out.kinds[-1]))
    library = compiled.library(len(trace))
    out.kind = _shared(trace, made, other) if library is None else _compiled_shared(library, trace, made, other)
    return out


def _shared(trace: Trace, made: Sequence[Cost], other: dict[int, int]) -> array[int]:
    """The kind of each instruction: free ones go to the Scalar Engine as long as that has less to do."""
    out = array("i")
    done = {VECTOR: 0, SCALAR: 0}
    for k in trace.kind:
        if k in other and done[SCALAR] + made[other[k]].occupancy < done[VECTOR] + made[k].occupancy:
            k = other[k]
        queue = made[k].queue
        if queue in done:
            done[queue] += made[k].occupancy
        out.append(k)
    return out


def _compiled_shared(library: CDLL, trace: Trace, made: Sequence[Cost], other: dict[int, int]) -> array[int]:
    """`_shared` by the compiled code."""
    scalar = np.array([other.get(k, -1) for k in range(len(made))], np.int64)
    occupancy = np.array([c.occupancy for c in made], np.int64)
    engine = np.array([{VECTOR: 0, SCALAR: 1}.get(c.queue, -1) for c in made], np.int64)
    out = array("i", bytes(4 * len(trace)))
    library.clock_balanced(len(trace), *(compiled.address(c) for c in (trace.kind, scalar, occupancy, engine, out)))
    return out
