"""`nki.collectives`: exchanges between ranks, run in one process by taking turns (`neuroncore.communicator`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, SupportsInt

import numpy as np

from mowich.arrays import Array
from mowich.neuroncore import core as machine
from mowich.neuroncore import ops
from mowich.neuroncore.core import fail
from mowich.neuroncore.dtypes import cast, to_f32
from mowich.neuroncore.instructions import exchange
from mowich.neuroncore.instructions.table import done_again
from mowich.neuroncore.registers import Register
from mowich.neuroncore.views import Tile, read_tile, storage_of, tile_elements, write_tile
from mowich.nki import words
from mowich.nki.language import NKIObject

__path__: list[str] = []
__getattr__ = words.missing(__name__)


class ReplicaGroup(NKIObject):
    """Groups of ranks that exchange among themselves."""

    def __init__(self, groups: Any = None, **kwargs: object) -> None:
        if groups is None:
            groups = kwargs.get("replica_groups", kwargs.get("ranks", ()))
        rows = [list(g) if isinstance(g, Sequence) else [g] for g in groups]
        if rows and all(len(r) == 1 for r in rows) and not isinstance(groups[0], Sequence):
            rows = [[r[0] for r in rows]]
        self.groups = [[int(x) for x in r] for r in rows]

    def of(self, rank: int) -> list[int]:
        """The group of a rank."""
        for g in self.groups:
            if rank in g:
                return g
        raise fail(f"rank {rank} is in no group of this collective", given=self.groups)


def _group(replica_group: object, rank: int) -> list[int]:
    return (replica_group if isinstance(replica_group, ReplicaGroup) else ReplicaGroup(replica_group)).of(rank)


def _meet(kind: str, members: list[int], signature: object, payload: object) -> list[Any]:
    """Contributions of the members in group order. The programs of a pair act as one: the second adds nothing."""
    core = machine.active()
    if core.alike is not None and not core.values and max(members) < core.alike.ranks:
        return [payload] * len(members)
    if core.ranks == 1 or core.rank_group is None:
        if members != [core.rank]:
            raise fail(
                f"{kind} among ranks {members} in a run of one rank",
                fix="use mowich.nki.simulate_ranks, or run_kernel(..., ranks=N)",
            )
        return [payload]
    if max(members) >= core.ranks:
        raise fail(
            f"{kind} among ranks {members} in a run of {core.ranks} ranks",
            fix="a group names ranks of the run, from 0 on",
        )
    per = core.programs
    counter = ("collective", tuple(members), kind)
    turn = core.serial.get(counter, 0)
    core.serial[counter] = turn + 1
    everyone = [m * per + core.program for m in members]
    key = (kind, tuple(members), core.program, turn)
    found = core.rank_group.exchange(
        core.rank * per + core.program, key, everyone, (signature, payload), f"{kind} number {turn}"
    )
    out = []
    for e in everyone:
        theirs, data = found[e]
        if theirs != signature:
            raise fail(
                f"{kind} does not match between ranks {core.rank} and {e // per}",
                given=f"{signature} and {theirs}",
                fix="all ranks of a group pass the same shapes, formats, operator and dimension",
            )
        out.append(data)
    return out


def _bytes(t: Tile) -> Array:
    if not machine.active().values:
        return np.broadcast_to(np.zeros((), t.dtype.dtype), t.shape)
    return np.ascontiguousarray(read_tile(t)).copy()


def _list(x: Any) -> list[Tile]:
    return list(x) if isinstance(x, list | tuple) else [x]


def _issue(kind: str, srcs: list[Tile], dsts: list[Tile]) -> None:
    for verb, tiles in (("reads", srcs), ("writes", dsts)):
        for t in tiles:
            if t.space == "H" and not storage_of(t).site[0]:  # allocated at no place of the kernel
                machine.active().warn(
                    "collective on an argument",
                    f"{kind} {verb} {t.describe()} of the kernel: on the chip a collective cannot (AWS's nki-library);"
                    " copy through a tensor of the kernel with dma_copy",
                )
    exchange.collective(kind, [("dst", d) for d in dsts], [("src", s) for s in srcs])
    if len(srcs) != len(dsts):
        raise fail(f"{kind}: as many sources as destinations", given=f"{len(srcs)}, {len(dsts)}")


def _signature(srcs: list[Tile]) -> tuple[object, ...]:
    return tuple((s.shape, s.dtype.name) for s in srcs)


@done_again
def all_reduce(
    srcs: object, dsts: object, replica_group: object, op: object, priority: object = None, name: str | None = None
) -> None:
    """Every rank gets the reduction over the group."""
    srcs, dsts = _list(srcs), _list(dsts)
    _issue("all_reduce", srcs, dsts)
    row = ops.alu(op)
    members = _group(replica_group, machine.active().rank)
    totals = _totals("all_reduce", members, (_signature(srcs), row.name), srcs, dsts, row)
    for d, total in zip(dsts, totals, strict=True):
        write_tile(d, total.reshape(d.shape))


def _totals(
    kind: str, members: list[int], signature: object, srcs: list[Tile], dsts: list[Tile], row: ops.Alu
) -> list[Array]:
    """The reductions over the group in the format of each dst, computed once for all members: by the first that gets
    here."""
    parts = _meet(kind, members, signature, ([_bytes(s) for s in srcs], {}))
    known: dict[Any, Array] = parts[0][1]
    out = []
    for i, (s, d) in enumerate(zip(srcs, dsts, strict=True)):
        if (i, d.dtype.name) not in known:
            known[i, d.dtype.name] = _reduced([arrays[i] for arrays, _ in parts], s, d, row)
        out.append(known[i, d.dtype.name])
    return out


def _reduced(arrays: list[Array], src: Tile, dst: Tile, row: ops.Alu) -> Array:
    total = to_f32(arrays[0], src.dtype) if src.dtype.is_float else arrays[0].astype(np.int64)
    for a in arrays[1:]:
        total = row.apply(total, to_f32(a, src.dtype) if src.dtype.is_float else a.astype(np.int64))
    return cast(np.asarray(total), dst.dtype)


@done_again
def all_gather(
    srcs: object,
    dsts: object,
    replica_group: object,
    collective_dim: int = 0,
    priority: object = None,
    name: str | None = None,
) -> None:
    """Every rank gets all sources, joined along a dimension."""
    srcs, dsts = _list(srcs), _list(dsts)
    _issue("all_gather", srcs, dsts)
    parts = _meet(
        "all_gather",
        _group(replica_group, machine.active().rank),
        (_signature(srcs), collective_dim),
        [_bytes(s) for s in srcs],
    )
    for i, d in enumerate(dsts):
        joined = np.concatenate([p[i] for p in parts], axis=int(collective_dim))
        if joined.size != d.size:
            raise fail(f"all_gather: dst has {d.size} elements, the sources {joined.size}", tile=d)
        write_tile(d, joined.reshape(d.shape))


def _part(a: Array, n: int, i: int, axis: int) -> Array:
    """Part i of n along an axis: `np.array_split(a, n, axis)[i]`, without making the others."""
    size, more = divmod(a.shape[axis], n)
    start = i * size + min(i, more)
    at = [slice(None)] * a.ndim
    at[axis] = slice(start, start + size + (i < more))
    return a[tuple(at)]


@done_again
def reduce_scatter(
    srcs: object,
    dsts: object,
    replica_group: object,
    collective_dim: int = 0,
    op: object = "add",
    priority: object = None,
    name: str | None = None,
) -> None:
    """Each rank gets its part of the reduction over the group."""
    srcs, dsts = _list(srcs), _list(dsts)
    _issue("reduce_scatter", srcs, dsts)
    row = ops.alu(op)
    core = machine.active()
    members = _group(replica_group, core.rank)
    totals = _totals("reduce_scatter", members, (_signature(srcs), collective_dim, row.name), srcs, dsts, row)
    for d, total in zip(dsts, totals, strict=True):
        mine = _part(total, len(members), members.index(core.rank), int(collective_dim))
        write_tile(d, mine.reshape(d.shape))


@done_again
def all_to_all(
    srcs: object,
    dsts: object,
    replica_group: object,
    collective_dim: int = 0,
    priority: object = None,
    name: str | None = None,
) -> None:
    """Part i of each source goes to rank i of the group; the parts received are joined."""
    srcs, dsts = _list(srcs), _list(dsts)
    _issue("all_to_all", srcs, dsts)
    core = machine.active()
    members = _group(replica_group, core.rank)
    parts = _meet("all_to_all", members, (_signature(srcs), collective_dim), [_bytes(s) for s in srcs])
    me = members.index(core.rank)
    for i, d in enumerate(dsts):
        mine = [_part(p[i], len(members), me, int(collective_dim)) for p in parts]
        write_tile(d, np.concatenate(mine, axis=int(collective_dim)).reshape(d.shape))


def _metadata(t: Tile) -> Array:
    a = read_tile(t).astype(np.int64)
    return a.reshape(-1, a.shape[-1])


def _variable(
    kind: str,
    srcs: object,
    dsts: object,
    replica_group: object,
    metadata: Tile,
    known: bool,
    has_rdispls: bool,
    uniform: bool,
) -> None:
    srcs, dsts = _list(srcs), _list(dsts)
    _issue(kind, srcs, dsts)
    src, dst = srcs[0], dsts[0]
    core = machine.active()
    members = _group(replica_group, core.rank)
    table = _metadata(metadata)
    parts = _meet(kind, members, src.dtype.name, (_bytes(src).reshape(-1), table))
    me = members.index(core.rank)
    slot = dst.size // len(members)
    out = tile_elements(dst).reshape(-1).copy()
    if not storage_of(dst).filled:
        storage_of(dst).fill()
        out = tile_elements(dst).reshape(-1).copy()
    counts = np.zeros(len(members), np.int64)
    for r, (data, meta) in enumerate(parts):
        column = 0 if uniform else me
        count, start = int(meta[0, column]), int(meta[1, column])
        at = int(table[3, r]) if has_rdispls else slot * r
        if start + count > data.size or at + count > out.size:
            raise fail(
                f"{kind}: rank {members[r]} sends {count} elements that do not fit",
                tile=dst,
                given=f"source offset {start}, destination offset {at}",
            )
        out[at : at + count] = data[start : start + count]
        counts[r] = count
    write_tile(dst, out.reshape(dst.shape))
    if not known:
        whole = tile_elements(metadata).copy()
        whole.reshape(-1, whole.shape[-1])[2] = counts
        write_tile(metadata, whole)


@done_again
def all_to_all_v(
    srcs: object,
    dsts: object,
    replica_group: object,
    metadata_tensor: Tile,
    recv_counts_known: bool = False,
    has_rdispls: bool = False,
    priority: object = None,
    name: str | None = None,
) -> None:
    """All-to-all with sizes from a metadata tensor: counts and displacements by rank."""
    _variable("all_to_all_v", srcs, dsts, replica_group, metadata_tensor, recv_counts_known, has_rdispls, False)


@done_again
def all_gather_v(
    srcs: object,
    dsts: object,
    replica_group: object,
    metadata_tensor: Tile,
    recv_counts_known: bool = False,
    has_rdispls: bool = False,
    priority: object = None,
    name: str | None = None,
) -> None:
    """All-gather of chunks with sizes from a metadata tensor."""
    _variable("all_gather_v", srcs, dsts, replica_group, metadata_tensor, recv_counts_known, has_rdispls, True)


@done_again
def collective_permute(
    srcs: object,
    dsts: object,
    source_target_pairs: Sequence[Sequence[int]],
    priority: object = None,
    name: str | None = None,
) -> None:
    """Each target gets the data of its source."""
    srcs, dsts = _list(srcs), _list(dsts)
    _issue("collective_permute", srcs, dsts)
    core = machine.active()
    pairs = [(int(a), int(b)) for a, b in source_target_pairs]
    members = sorted({r for p in pairs for r in p})
    if core.rank not in members:
        return
    parts = _meet("collective_permute", members, (_signature(srcs), tuple(pairs)), [_bytes(s) for s in srcs])
    for a, b in pairs:
        if b == core.rank:
            for i, d in enumerate(dsts):
                write_tile(d, parts[members.index(a)][i].reshape(d.shape))


def _ring(
    kind: str, payloads: list[list[Array]], signature: object, dsts: list[list[Tile]], members: list[int]
) -> None:
    core = machine.active()
    parts = _meet(kind, members, signature, payloads)
    before = (members.index(core.rank) - 1) % len(members)
    for c, channel in enumerate(dsts):
        for i, d in enumerate(channel):
            write_tile(d, parts[before][c][i].reshape(d.shape))


def _channels(x: object) -> list[list[Tile]]:
    return [_list(c) for c in (x if isinstance(x, list | tuple) else [x])]


@done_again
def collective_permute_implicit(
    srcs_by_channel: object,
    dsts_by_channel: object,
    replica_group: object,
    channel_ids: object = (0,),
    priority: object = None,
    name: str | None = None,
) -> None:
    """Each rank sends to its successor in the group and receives from its predecessor."""
    srcs, dsts = _channels(srcs_by_channel), _channels(dsts_by_channel)
    _issue("collective_permute_implicit", [s for c in srcs for s in c], [d for c in dsts for d in c])
    members = _group(replica_group, machine.active().rank)
    _ring(
        "collective_permute_implicit",
        [[_bytes(s) for s in c] for c in srcs],
        tuple(_signature(c) for c in srcs),
        dsts,
        members,
    )


@done_again
def collective_permute_implicit_reduce(
    srcs0_by_channel: object,
    srcs1_by_channel: object,
    dsts_by_channel: object,
    replica_group: object,
    op: object,
    channel_ids: object = (0,),
    priority: object = None,
    name: str | None = None,
) -> None:
    """Each rank sends op(src0, src1) to its successor."""
    first, second, dsts = _channels(srcs0_by_channel), _channels(srcs1_by_channel), _channels(dsts_by_channel)
    _issue("collective_permute_implicit_reduce", [s for c in first for s in c], [d for c in dsts for d in c])
    row = ops.alu(op)
    members = _group(replica_group, machine.active().rank)
    payload = [
        [_reduced([_bytes(a), _bytes(b)], a, a, row) for a, b in zip(c0, c1, strict=True)]
        for c0, c1 in zip(first, second, strict=True)
    ]
    _ring("collective_permute_implicit_reduce", payload, tuple(_signature(c) for c in first), dsts, members)


def collective_permute_implicit_current_processing_rank_id(
    iteration_id: SupportsInt, replica_group: object, channel_id: object = 0, name: str | None = None
) -> Register:
    """Rank whose data is at hand in an iteration of the ring: one's own first, then the predecessors'."""
    core = machine.active()
    members = _group(replica_group, core.rank)
    return Register(members[(members.index(core.rank) - int(iteration_id)) % len(members)])


def rank_id(name: str | None = None) -> Register:
    """Rank of this logical core."""
    return Register(machine.active().rank)
