"""`nki.collectives`.

Written by `tools/nki_stubs.py` from what `help` shows. Do not edit."""

from collections.abc import Sequence
from mowich.neuroncore.registers import Register as VirtualRegister
from mowich.neuroncore.views import Tile as NkiTensor
from mowich.nki.isa import NkiInstruction
from typing import SupportsInt
from mowich.nki.collectives import ReplicaGroup as ReplicaGroup
def all_gather(
    srcs: object,
    dsts: object,
    replica_group: object,
    collective_dim: int = 0,
    priority: object = None,
    name: str | None = None,
) -> NkiInstruction:
    """Every rank gets all sources, joined along a dimension."""
def all_gather_v(
    srcs: object,
    dsts: object,
    replica_group: object,
    metadata_tensor: NkiTensor,
    recv_counts_known: bool = False,
    has_rdispls: bool = False,
    priority: object = None,
    name: str | None = None,
) -> NkiInstruction:
    """All-gather of pieces with sizes from a metadata tensor, of whose send rows column 0 counts."""
def all_gather_v_prepare(
    srcs: object,
    dsts: object,
    replica_group: object,
    metadata_tensor: NkiTensor,
    recv_counts_known: bool = False,
    has_rdispls: bool = False,
    priority: object = None,
    name: str | None = None,
) -> NkiInstruction:
    """Set up an `all_gather_v`: reads the metadata; `all_gather_v_trigger` moves the data, once after each prepare."""
def all_gather_v_trigger(prepare_instr: NkiInstruction, name: str | None = None) -> NkiInstruction:
    """Move the data of the `all_gather_v_prepare` that returned this instruction."""
def all_reduce(
    srcs: object,
    dsts: object,
    replica_group: object,
    op: object,
    priority: object = None,
    name: str | None = None,
) -> NkiInstruction:
    """Every rank gets the reduction over the group."""
def all_to_all(
    srcs: object,
    dsts: object,
    replica_group: object,
    collective_dim: int = 0,
    priority: object = None,
    name: str | None = None,
) -> NkiInstruction:
    """Part i of each source goes to rank i of the group; the parts received are joined."""
def all_to_all_v(
    srcs: object,
    dsts: object,
    replica_group: object,
    metadata_tensor: NkiTensor,
    recv_counts_known: bool = False,
    has_rdispls: bool = False,
    priority: object = None,
    name: str | None = None,
) -> NkiInstruction:
    """All-to-all with sizes from a metadata tensor, uint32 [3 or 4, ranks] in elements: send counts, send displacements, receive counts (written unless known), with has_rdispls receive displacements."""
def all_to_all_v_prepare(
    srcs: object,
    dsts: object,
    replica_group: object,
    metadata_tensor: NkiTensor,
    recv_counts_known: bool = False,
    has_rdispls: bool = False,
    priority: object = None,
    name: str | None = None,
) -> NkiInstruction:
    """Set up an `all_to_all_v`: reads the metadata; `all_to_all_v_trigger` moves the data, once after each prepare."""
def all_to_all_v_trigger(prepare_instr: NkiInstruction, name: str | None = None) -> NkiInstruction:
    """Move the data of the `all_to_all_v_prepare` that returned this instruction."""
def collective_permute(
    srcs: object,
    dsts: object,
    source_target_pairs: Sequence[Sequence[int]],
    priority: object = None,
    name: str | None = None,
) -> NkiInstruction:
    """Each target gets the data of its source."""
def collective_permute_implicit(
    srcs_by_channel: object,
    dsts_by_channel: object,
    replica_group: object,
    channel_ids: object = (0,),
    priority: object = None,
    name: str | None = None,
) -> NkiInstruction:
    """Each rank sends to its successor in the group and receives from its predecessor."""
def collective_permute_implicit_current_processing_rank_id(
    iteration_id: SupportsInt,
    replica_group: object,
    channel_id: object = 0,
    name: str | None = None,
) -> VirtualRegister:
    """Rank whose data is at hand in an iteration of the ring: one's own first, then the predecessors'."""
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
def rank_id(name: str | None = None) -> VirtualRegister:
    """Rank of this logical core."""
def reduce_scatter(
    srcs: object,
    dsts: object,
    replica_group: object,
    collective_dim: int = 0,
    op: object = 'add',
    priority: object = None,
    name: str | None = None,
) -> NkiInstruction:
    """Each rank gets its part of the reduction over the group."""
def reduce_scatter_v(
    srcs: object,
    dsts: object,
    replica_group: object,
    metadata_tensor: NkiTensor,
    op: object,
    recv_counts_known: bool = False,
    has_rdispls: bool = False,
    priority: object = None,
    name: str | None = None,
) -> NkiInstruction:
    """Each rank gets the reduction over the pieces that the others send it. Its arguments are inferred from
    `all_to_all_v`: no page of Neuron 2.33 shows them."""
