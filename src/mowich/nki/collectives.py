"""`nki.collectives`: exchanges between ranks, run in one process by taking turns (`neuroncore.communicator`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, SupportsInt

import numpy as np

from mowich.arrays import Array
from mowich.neuroncore import core as machine
from mowich.neuroncore import ops
from mowich.neuroncore.access import read_tile, storage_of, tile_elements, write_tile
from mowich.neuroncore.core import Core, fail
from mowich.neuroncore.dtypes import cast, to_f32
from mowich.neuroncore.instructions import exchange
from mowich.neuroncore.instructions.table import done_again
from mowich.neuroncore.registers import Register
from mowich.neuroncore.views import Tile
from mowich.nki import words
from mowich.nki.isa import NkiInstruction, _done
from mowich.nki.objects import NKIObject

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


def _begun(
    kind: str, srcs: object, dsts: object, replica_group: object
) -> tuple[list[Tile], list[Tile], list[int], int]:
    """An exchange that is issued: (sources, destinations, ranks of the group, place of this rank among them)."""
    sources, destinations = _list(srcs), _list(dsts)
    _issue(kind, sources, destinations)
    rank = machine.active().rank
    members = _group(replica_group, rank)
    return sources, destinations, members, members.index(rank)


@done_again
def all_reduce(
    srcs: object, dsts: object, replica_group: object, op: object, priority: object = None, name: str | None = None
) -> NkiInstruction:
    """Every rank gets the reduction over the group."""
    sources, to, members, _ = _begun("all_reduce", srcs, dsts, replica_group)
    row = ops.alu(op)
    totals = _totals("all_reduce", members, (_signature(sources), row.name), sources, to, row)
    for d, total in zip(to, totals, strict=True):
        write_tile(d, total.reshape(d.shape))
    return _done()


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
) -> NkiInstruction:
    """Every rank gets all sources, joined along a dimension."""
    sources, to, members, _ = _begun("all_gather", srcs, dsts, replica_group)
    parts = _meet("all_gather", members, (_signature(sources), collective_dim), [_bytes(s) for s in sources])
    for i, d in enumerate(to):
        joined = np.concatenate([p[i] for p in parts], axis=int(collective_dim))
        if joined.size != d.size:
            raise fail(f"all_gather: dst has {d.size} elements, the sources {joined.size}", tile=d)
        write_tile(d, joined.reshape(d.shape))
    return _done()


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
) -> NkiInstruction:
    """Each rank gets its part of the reduction over the group."""
    sources, to, members, me = _begun("reduce_scatter", srcs, dsts, replica_group)
    row = ops.alu(op)
    totals = _totals("reduce_scatter", members, (_signature(sources), collective_dim, row.name), sources, to, row)
    for d, total in zip(to, totals, strict=True):
        mine = _part(total, len(members), me, int(collective_dim))
        write_tile(d, mine.reshape(d.shape))
    return _done()


@done_again
def all_to_all(
    srcs: object,
    dsts: object,
    replica_group: object,
    collective_dim: int = 0,
    priority: object = None,
    name: str | None = None,
) -> NkiInstruction:
    """Part i of each source goes to rank i of the group; the parts received are joined."""
    sources, to, members, me = _begun("all_to_all", srcs, dsts, replica_group)
    parts = _meet("all_to_all", members, (_signature(sources), collective_dim), [_bytes(s) for s in sources])
    for i, d in enumerate(to):
        mine = [_part(p[i], len(members), me, int(collective_dim)) for p in parts]
        write_tile(d, np.concatenate(mine, axis=int(collective_dim)).reshape(d.shape))
    return _done()


def _metadata(kind: str, t: Tile, has_rdispls: bool, ranks: int) -> Array | None:
    """[rows, ranks] counts and displacements of a metadata tensor, in elements; None in a run without values."""
    rows, core = 4 if has_rdispls else 3, machine.active()
    if core.is_traced and (t.dtype.name != "uint32" or t.size != rows * ranks):
        raise fail(
            f"{kind}: the metadata tensor",
            tile=t,
            allowed=f"uint32 [{rows}, {ranks}] in HBM, [1, {rows}, {ranks}] in SBUF",
        )
    if not core.values:
        return None
    a = read_tile(t).astype(np.int64)
    return a.reshape(-1, a.shape[-1])


@dataclass(frozen=True, slots=True)
class _Variable:
    """An exchange of pieces of different sizes. kind: of the collective; row: how the pieces of the senders are added,
    None: they lie side by side; where: its line; prepared: the half that was issued; the rest as `all_to_all_v`."""

    kind: str
    srcs: object
    dsts: object
    replica_group: object
    metadata: Tile
    known: bool
    has_rdispls: bool
    row: ops.Alu | None = None
    where: str = ""
    prepared: NkiInstruction | None = None

    def run(self, half: str = "") -> NkiInstruction:
        """The exchange, or the half of it that moves."""
        srcs, dsts, members, me = _begun(self.kind + half, self.srcs, self.dsts, self.replica_group)
        if len(srcs) != 1:
            raise fail(f"{self.kind} takes one tensor", given=len(srcs))
        kind = self.kind
        self._check(machine.active(), members, dsts[0])
        table = _metadata(kind, self.metadata, self.has_rdispls, len(members))
        parts = _meet(kind, members, srcs[0].dtype.name, (_bytes(srcs[0]).reshape(-1), table))
        if table is not None:
            self._write(parts, members, me, table, dsts[0])
        return _done()

    def prepare(self) -> NkiInstruction:
        """The half that sets up: it reads the metadata alone."""
        core = machine.active()
        if core.scratch.get("switched"):
            raise fail(f"{self.kind}_prepare on chips that a NeuronSwitch joins", fix=f"{self.kind} does both halves")
        waiting = core.scratch.get(PREPARED)
        if waiting is not None:
            raise fail(
                f"{self.kind}_prepare while another prepare waits for its trigger",
                given=f"{waiting.kind}_prepare at {waiting.where}",
                fix="all prepares share one slot: trigger the first before the second",
            )
        self._check(core, _group(self.replica_group, core.rank), _list(self.dsts)[0])
        exchange.collective(f"{self.kind}_prepare", [], [("metadata", self.metadata)])
        made = _done()
        made.prepared = machine.where()
        core.scratch[PREPARED] = replace(self, prepared=made, where=made.prepared)
        return made

    def _check(self, core: Core, members: list[int], dst: Tile) -> None:
        if self.has_rdispls and self.kind == "all_gather_v":
            raise fail("all_gather_v has no receive displacements", fix="has_rdispls=False: rank r lands in its slot")
        sent = _list(self.srcs)[0].size
        if self.row is None and core.is_traced and not self.has_rdispls and dst.size != sent * len(members):
            raise fail(
                f"{self.kind}: without has_rdispls dst has a slot of the size of src for each rank",
                tile=dst,
                given=f"{dst.size:,} elements",
                allowed=f"{len(members)} x {sent:,}",
            )
        if self.row is not None and (core.programs != 2 or len(members) != SCATTER_RANKS):
            raise fail(
                f"{self.kind} joins {SCATTER_RANKS} ranks of two cores on one chip",
                given=f"{len(members)} ranks, {core.programs} core{'s' * (core.programs > 1)} each",
            )
        if self.row is not None and dst.size * dst.itemsize > SCATTER_B:
            raise fail(f"{self.kind}: the result of a rank", tile=dst, allowed=f"at most {SCATTER_B:,} bytes")

    def _write(self, parts: list[tuple[Array, Array]], members: list[int], me: int, table: Array, dst: Tile) -> None:
        storage_of(dst).fill()
        out = tile_elements(dst).reshape(-1).copy()
        slot = dst.size // len(members)
        counts, total = np.zeros(len(members), np.int64), None
        for r, (data, meta) in enumerate(parts):
            column = 0 if self.kind == "all_gather_v" else me
            count, start = int(meta[0, column]), int(meta[1, column])
            at = 0 if self.row is not None else int(table[3, r]) if self.has_rdispls else slot * r
            if start + count > data.size or at + count > out.size:
                raise fail(
                    f"{self.kind}: rank {members[r]} sends {count} elements that do not fit",
                    tile=dst,
                    given=f"source offset {start}, destination offset {at}",
                )
            piece = data[start : start + count]
            if self.row is not None:
                wide = to_f32(piece, dst.dtype) if dst.dtype.is_float else piece.astype(np.int64)
                if total is not None and len(total) != count:
                    raise fail(f"{self.kind}: the ranks send {len(total)} and {count} elements to rank {members[me]}")
                total = wide if total is None else np.asarray(self.row.apply(total, wide))
                piece = cast(total, dst.dtype)
            out[at : at + count] = piece
            counts[r] = count
        write_tile(dst, out.reshape(dst.shape))
        if not self.known:
            whole = tile_elements(self.metadata).copy()
            whole.reshape(-1, whole.shape[-1])[2] = counts
            write_tile(self.metadata, whole)


PREPARED = "prepared"
"""In the state of a core (`Core.scratch`): the exchange that waits for its trigger."""
SCATTER_RANKS, SCATTER_B = 4, 1 << 14
"""Of `reduce_scatter_v`, as its docstring in NKI 0.7.0b1 has it: ranks of a group, most bytes of a result."""


def _triggered(kind: str, prepare_instr: object) -> NkiInstruction:
    core = machine.active()
    waiting: _Variable | None = core.scratch.get(PREPARED)
    where = getattr(prepare_instr, "prepared", None)
    if waiting is None or waiting.kind != kind or waiting.where != where:
        raise fail(
            f"{kind}_trigger without its prepare",
            given="none waits" if waiting is None else f"{waiting.kind}_prepare at {waiting.where} waits",
            fix=f"{kind}_trigger(instruction that {kind}_prepare returned), once after each prepare",
        )
    del core.scratch[PREPARED]
    assert waiting.prepared is not None
    return waiting.run("_trigger").depends_on(waiting.prepared)


class _ByMetadata:
    """`all_to_all_v` and its like, or the half of one that sets up: an exchange of pieces whose sizes a metadata tensor
    has."""

    def __init__(self, name: str, doc: str) -> None:
        self.__name__, self.__doc__ = name, doc

    @done_again
    def __call__(
        self,
        srcs: object,
        dsts: object,
        replica_group: object,
        metadata_tensor: Tile,
        recv_counts_known: bool = False,
        has_rdispls: bool = False,
        priority: object = None,
        name: str | None = None,
    ) -> NkiInstruction:
        kind = self.__name__.removesuffix("_prepare")
        made = _Variable(kind, srcs, dsts, replica_group, metadata_tensor, recv_counts_known, has_rdispls)
        return made.run() if kind == self.__name__ else made.prepare()


all_to_all_v = _ByMetadata(
    "all_to_all_v",
    "All-to-all with sizes from a metadata tensor, uint32 [3 or 4, ranks] in elements: send counts, send displacements,"
    " receive counts (written unless known), with has_rdispls receive displacements.",
)
all_gather_v = _ByMetadata(
    "all_gather_v", "All-gather of pieces with sizes from a metadata tensor, of whose send rows column 0 counts."
)
all_to_all_v_prepare = _ByMetadata(
    "all_to_all_v_prepare",
    "Set up an `all_to_all_v`: reads the metadata; `all_to_all_v_trigger` moves the data, once after each prepare.",
)
all_gather_v_prepare = _ByMetadata(
    "all_gather_v_prepare",
    "Set up an `all_gather_v`: reads the metadata; `all_gather_v_trigger` moves the data, once after each prepare.",
)


@done_again
def reduce_scatter_v(
    srcs: object,
    dsts: object,
    replica_group: object,
    metadata_tensor: Tile,
    op: object,
    recv_counts_known: bool = False,
    has_rdispls: bool = False,
    priority: object = None,
    name: str | None = None,
) -> NkiInstruction:
    """Each rank gets the reduction over the pieces that the others send it. Its arguments are inferred from
    `all_to_all_v`: no page of Neuron 2.33 shows them."""
    row = ops.alu(op)
    kind = "reduce_scatter_v"
    return _Variable(kind, srcs, dsts, replica_group, metadata_tensor, recv_counts_known, has_rdispls, row).run()


@done_again
def all_to_all_v_trigger(prepare_instr: NkiInstruction, name: str | None = None) -> NkiInstruction:
    """Move the data of the `all_to_all_v_prepare` that returned this instruction."""
    return _triggered("all_to_all_v", prepare_instr)


@done_again
def all_gather_v_trigger(prepare_instr: NkiInstruction, name: str | None = None) -> NkiInstruction:
    """Move the data of the `all_gather_v_prepare` that returned this instruction."""
    return _triggered("all_gather_v", prepare_instr)


@done_again
def collective_permute(
    srcs: object,
    dsts: object,
    source_target_pairs: Sequence[Sequence[int]],
    priority: object = None,
    name: str | None = None,
) -> NkiInstruction:
    """Each target gets the data of its source."""
    srcs, dsts = _list(srcs), _list(dsts)
    _issue("collective_permute", srcs, dsts)
    core = machine.active()
    pairs = [(int(a), int(b)) for a, b in source_target_pairs]
    members = sorted({r for p in pairs for r in p})
    if core.rank not in members:
        return _done()
    parts = _meet("collective_permute", members, (_signature(srcs), tuple(pairs)), [_bytes(s) for s in srcs])
    for a, b in pairs:
        if b == core.rank:
            for i, d in enumerate(dsts):
                write_tile(d, parts[members.index(a)][i].reshape(d.shape))
    return _done()


def _channels(x: object) -> list[list[Tile]]:
    return [_list(c) for c in (x if isinstance(x, list | tuple) else [x])]


def _ring(kind: str, first: object, second: object, dsts_by_channel: object, group: object, op: object) -> None:
    """Each rank sends its tiles to its successor, of two lists op(first, second)."""
    srcs, others, dsts = _channels(first), _channels(second), _channels(dsts_by_channel)
    _, _, members, me = _begun(kind, [s for c in srcs for s in c], [d for c in dsts for d in c], group)
    if second is None:
        payload = [[_bytes(s) for s in c] for c in srcs]
    else:
        row = ops.alu(op)
        pairs = [zip(c0, c1, strict=True) for c0, c1 in zip(srcs, others, strict=True)]
        payload = [[_reduced([_bytes(a), _bytes(b)], a, a, row) for a, b in channel] for channel in pairs]
    received = _meet(kind, members, tuple(_signature(c) for c in srcs), payload)[(me - 1) % len(members)]
    for c, channel in enumerate(dsts):
        for i, d in enumerate(channel):
            write_tile(d, received[c][i].reshape(d.shape))


@done_again
def collective_permute_implicit(
    srcs_by_channel: object,
    dsts_by_channel: object,
    replica_group: object,
    channel_ids: object = (0,),
    priority: object = None,
    name: str | None = None,
) -> NkiInstruction:
    """Each rank sends to its successor in the group and receives from its predecessor."""
    _ring("collective_permute_implicit", srcs_by_channel, None, dsts_by_channel, replica_group, None)
    return _done()


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
) -> NkiInstruction:
    """Each rank sends op(src0, src1) to its successor."""
    kind = "collective_permute_implicit_reduce"
    _ring(kind, srcs0_by_channel, srcs1_by_channel, dsts_by_channel, replica_group, op)
    return _done()


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
