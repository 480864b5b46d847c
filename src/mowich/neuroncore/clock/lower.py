"""What the compiler does to a kernel before it runs, as far as documents and profiles show it: rewritings that change no value.

A product, sum or other `tensor_tensor` of the same unchanged tiles is computed once (loads are never merged). A row repeated over the
partitions by the Tensor Engine is read in PSUM by its one consumer, where it fits a bank; several consumers read the copy in SBUF.
With `--disable-dge` the descriptors of a DMA are made before the launch, where its addresses are known then. A `tensor_copy` that names no engine goes to the Scalar Engine where the Vector Engine has the most work of all engines and has more to do at that point ("engine
workload", nki.isa); on NeuronCore-v4 it does not, as profiles show.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from mowich.neuroncore.clock.costs import Costs
from mowich.neuroncore.instructions.rates import SCALAR, TENSOR, VECTOR
from mowich.neuroncore.trace import Kind, Operand, Trace

MERGED = ("tensor_tensor",)
"""Instructions without immediate operands: the record tells all that their result depends on."""


def lowered(trace: Trace, bank_B: int) -> Trace:
    """A trace without the instructions that the compiler leaves out. The same trace where there are none."""
    writers: dict[int, int] = {}
    readers: dict[int, list[int]] = {}
    sizes = [(len(k.reads), len(k.reads) + len(k.writes)) for k in trace.kinds]
    touched = trace.touched
    start = array("q", bytes(8 * (len(trace.kind) + 1)))
    at = 0
    candidates = any(k.name in MERGED or k.flag("broadcast") for k in trace.kinds)
    if not candidates:
        return trace
    for i, k in enumerate(trace.kind):
        start[i] = at
        nr, nt = sizes[k]
        for j in range(at, at + 2 * nr, 2):
            readers.setdefault(touched[j], []).append(i)
        for j in range(at + 2 * nr, at + 2 * nt, 2):
            writers[touched[j]] = writers.get(touched[j], 0) + 1
        at += 2 * nt
    start[len(trace.kind)] = at
    same = _merged(trace, sizes, start, writers)
    direct = _forwarded(trace, start, writers, readers, bank_B)
    if not same[1] and not direct:
        return trace
    return _rewritten(trace, sizes, start, same, direct)


def _merged(
    trace: Trace, sizes: Sequence[tuple[int, int]], start: Sequence[int], writers: dict[int, int]
) -> tuple[dict[int, int], set[int]]:
    """(storage -> the storage that holds the same values, instructions left out)."""
    root: dict[int, int] = {}
    gone: set[int] = set()
    names = [k.name in MERGED and all(o.space != "H" for o in (*k.reads, *k.writes)) for k in trace.kinds]
    version: dict[int, int] = {}
    seen: dict[tuple[int, ...], int] = {}
    touched = trace.touched
    for i, k in enumerate(trace.kind):
        nr, nt = sizes[k]
        at = start[i]
        target = touched[at + 2 * nr] if nt > nr else -1
        if names[k] and writers[target] == 1 and trace.storages[target].address is None:
            key = [k, touched[at + 2 * nr + 1]]
            for j in range(at, at + 2 * nr, 2):
                s = root.get(touched[j], touched[j])
                key += (s, version.get(s, 0), touched[j + 1])
            found = tuple(key)
            before = seen.get(found)
            if before is not None and target not in key[2::3]:
                root[target] = before
                gone.add(i)
            else:
                seen[found] = target
        for j in range(at + 2 * nr, at + 2 * nt, 2):
            s = touched[j]
            version[s] = version.get(s, 0) + 1
    return root, gone


def _forwarded(trace: Trace, start: Sequence[int], writers: dict[int, int], readers: dict[int, list[int]],
               bank_B: int) -> dict[int, tuple[int, int, int]]:  # fmt: skip
    """Copy of a repeated row -> (its reader, the tile in SBUF, the tile in PSUM), where the reader may read PSUM instead."""
    out: dict[int, tuple[int, int, int]] = {}
    rows = [bool(k.flag("broadcast")) for k in trace.kinds]
    kinds, touched = trace.kinds, trace.touched
    for i in range(len(trace.kind) - 1):
        if not rows[trace.kind[i]]:
            continue
        copy = i + 1
        at = start[copy]
        psum, tile = touched[at], touched[at + 2]
        a = trace.storages[tile]
        users = readers.get(tile, [])
        if len(users) != 1 or writers[tile] != 1 or trace.storages[psum].row_B > bank_B:
            continue
        if a.parts * a.row_B != trace.storages[psum].parts * trace.storages[psum].row_B or a.itemsize != 4:
            continue
        user = users[0]
        k = kinds[trace.kind[user]]
        mine = [n for n in range(len(k.reads)) if touched[start[user] + 2 * n] == tile]
        if k.engine not in ("vector", "scalar") or len(mine) != 1 or any(o.space == "P" for o in k.reads[:2]):
            continue
        out[copy] = (user, tile, psum)
    return out


def _rewritten(trace: Trace, sizes: Sequence[tuple[int, int]], start: Sequence[int], same: tuple[dict[int, int], set[int]],
               direct: dict[int, tuple[int, int, int]]) -> Trace:  # fmt: skip
    root, gone = same
    out = Trace()
    out.kinds, out.sites, out.patterns, out.storages = list(trace.kinds), trace.sites, trace.patterns, trace.storages
    out.edges = trace.edges
    moved = {user: (tile, psum) for user, tile, psum in direct.values()}
    made: dict[tuple[int, int], int] = {}
    touched = trace.touched
    in_order = set(trace.in_order)
    for i, k in enumerate(trace.kind):
        if i in gone or i in direct:
            continue
        if i in in_order:
            out.in_order.append(len(out.kind))
        if i in trace.meetings:
            out.meetings[len(out.kind)] = trace.meetings[i]
        row = touched[start[i] : start[i + 1]]
        if root:
            for j in range(0, len(row), 2):
                row[j] = root.get(row[j], row[j])
        if i in moved:
            tile, psum = moved[i]
            n = next(n for n in range(sizes[k][0]) if row[2 * n] == tile)
            row[2 * n] = psum
            if (k, n) not in made:
                made[k, n] = len(out.kinds)
                out.kinds.append(_in_psum(trace.kinds[k], n))
            k = made[k, n]
        out.kind.append(k)
        out.site.append(trace.site[i])
        out.number.append(trace.number[i])
        out.touched.extend(row)
    return out


def _in_psum(kind: Kind, n: int) -> Kind:
    reads: list[Operand] = list(kind.reads)
    reads[n] = reads[n]._replace(space="P")
    return kind._replace(reads=tuple(reads))


def _with_kinds(trace: Trace, kinds: list[Kind]) -> Trace:
    """The same instructions, of other kinds."""
    out = Trace()
    out.kinds, out.sites, out.patterns, out.storages = kinds, trace.sites, trace.patterns, trace.storages
    out.edges, out.meetings, out.in_order = trace.edges, trace.meetings, trace.in_order
    out.kind, out.site, out.number, out.touched = trace.kind, trace.site, trace.number, trace.touched
    return out


def without_dge(trace: Trace) -> Trace:
    """A trace as the compiler makes it with --disable-dge: no DMA asks for descriptors at run time but by a run-time index."""
    kinds = [
        k._replace(flags=(*(f for f in k.flags if f[0] != "dge"), ("dge", "none"))) if k.engine == "dma" else k
        for k in trace.kinds
    ]
    return _with_kinds(trace, kinds)


def balanced(trace: Trace, costs: Costs) -> Trace:
    """A trace whose free copies are shared between the Vector and the Scalar Engine, where the Vector Engine has more work than the other
    engines and the compiler of the generation shares them."""
    free = [k.name == "tensor_copy" and bool(k.flag("free")) for k in trace.kinds]
    if not any(free) or not costs.number("model.shares_copies"):
        return trace
    made = [costs.of(k) for k in trace.kinds]
    count = [0] * len(made)
    for k in trace.kind:
        count[k] += 1
    tensor, vector, scalar = (
        sum(n * c.occupancy for n, c in zip(count, made, strict=True) if c.queue == q) for q in (TENSOR, VECTOR, SCALAR)
    )
    if vector <= max(tensor, scalar):
        return trace
    out = _with_kinds(trace, list(trace.kinds))
    out.kind = array("i")
    other: dict[int, int] = {}
    for k, is_free in enumerate(free):
        if is_free:
            other[k] = len(out.kinds)
            out.kinds.append(trace.kinds[k]._replace(engine="scalar"))
            made.append(costs.of(out.kinds[-1]))
    done = {VECTOR: 0, SCALAR: 0}
    for k in trace.kind:
        if k in other and done[SCALAR] + made[other[k]].occupancy < done[VECTOR] + made[k].occupancy:
            k = other[k]
        queue = made[k].queue
        if queue in done:
            done[queue] += made[k].occupancy
        out.kind.append(k)
    return out
