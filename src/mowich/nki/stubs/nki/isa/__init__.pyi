"""`nki.isa`.

Written by `tools/nki_stubs.py` from what `help` shows. Do not edit."""

from collections.abc import Sequence
from mowich.neuroncore.views import Tile as NkiTensor
from mowich.nki.isa import NkiInstruction as NkiInstruction
from mowich.neuroncore.registers import NkiScalar as NkiScalar
from mowich.neuroncore.registers import Register
VirtualRegister = Register
from mowich.nki.instructions import activate2 as activate2
from mowich.nki.instructions import activation as activation
from mowich.nki.instructions import activation_reduce as activation_reduce
from mowich.nki.instructions import affine_select as affine_select
from mowich.nki.instructions import bn_aggr as bn_aggr
from mowich.nki.instructions import bn_stats as bn_stats
from mowich.nki.instructions import core_barrier as core_barrier
from mowich.nki.isa import dge_mode as dge_mode
from mowich.nki.instructions import dma_compute as dma_compute
from mowich.nki.isa import dma_engine as dma_engine
from mowich.nki.instructions import dropout as dropout
from mowich.nki.isa import engine as engine
from mowich.nki.instructions import exponential as exponential
from mowich.nki.instructions import iota as iota
from mowich.nki.instructions import local_gather as local_gather
from mowich.nki.isa import matmul_perf_mode as matmul_perf_mode
from mowich.nki.instructions import max8 as max8
from mowich.nki.instructions import memset as memset
from mowich.nki.instructions import nc_find_index8 as nc_find_index8
from mowich.nki.instructions import nc_match_replace8 as nc_match_replace8
from mowich.nki.instructions import nc_matmul as nc_matmul
from mowich.nki.instructions import nc_matmul_mx as nc_matmul_mx
from mowich.nki.instructions import nc_n_gather as nc_n_gather
from mowich.nki.instructions import nc_stream_shuffle as nc_stream_shuffle
from mowich.nki.instructions import nc_transpose as nc_transpose
from mowich.nki.isa import nc_version as nc_version
from mowich.nki.instructions import nonzero_with_count as nonzero_with_count
from mowich.nki.isa import oob_mode as oob_mode
from mowich.nki.instructions import quantize_mx as quantize_mx
from mowich.nki.instructions import rand2 as rand2
from mowich.nki.instructions import rand_get_state as rand_get_state
from mowich.nki.instructions import rand_set_state as rand_set_state
from mowich.nki.instructions import range_select as range_select
from mowich.nki.instructions import reciprocal as reciprocal
from mowich.nki.isa import reduce_cmd as reduce_cmd
from mowich.nki.instructions import rng as rng
from mowich.nki.instructions import scalar_tensor_tensor as scalar_tensor_tensor
from mowich.nki.instructions import select_reduce as select_reduce
from mowich.nki.instructions import sendrecv as sendrecv
from mowich.nki.instructions import sequence_bounds as sequence_bounds
from mowich.nki.instructions import set_rng_seed as set_rng_seed
from mowich.nki.instructions import tensor_copy as tensor_copy
from mowich.nki.instructions import tensor_copy_predicated as tensor_copy_predicated
from mowich.nki.instructions import tensor_partition_reduce as tensor_partition_reduce
from mowich.nki.instructions import tensor_reduce as tensor_reduce
from mowich.nki.instructions import tensor_scalar as tensor_scalar
from mowich.nki.instructions import tensor_scalar_cumulative as tensor_scalar_cumulative
from mowich.nki.instructions import tensor_scalar_reduce as tensor_scalar_reduce
from mowich.nki.instructions import tensor_tensor as tensor_tensor
from mowich.nki.instructions import tensor_tensor_scan as tensor_tensor_scan
from mowich.nki.instructions import topk as topk
activation_engine: engine
gpsimd_engine: engine
pool_engine: engine
scalar_engine: engine
tensor_engine: engine
unknown_engine: engine
vector_engine: engine
def dma_copy(
    dst: NkiTensor,
    src: NkiTensor,
    priority: int | None = None,
    oob_mode: oob_mode | int | str = oob_mode.error,
    dge_mode: dge_mode | int | str = dge_mode.unknown,
    engine: engine | int | str | None = None,
    name: str | None = None,
) -> NkiInstruction:
    """dst = src between HBM and SBUF."""
def dma_transpose(
    dst: NkiTensor,
    src: NkiTensor,
    axes: Sequence[int] | None = None,
    priority: int | None = None,
    dge_mode: dge_mode | int | str = dge_mode.unknown,
    oob_mode: oob_mode | int | str = oob_mode.error,
    name: str | None = None,
) -> NkiInstruction:
    """dst = src transposed by the DMA engines."""
def get_nc_sub_version() -> int:
    """Silicon revision: 0."""
def get_nc_version() -> nc_version:
    """Generation that the kernel runs on."""
def register_alloc(x: int | VirtualRegister | NkiTensor | None = None) -> VirtualRegister:
    """A new register, loaded with an integer, another register or a one-element tile if given."""
def register_load(dst: VirtualRegister, src: NkiTensor) -> None:
    """dst = a one-element tile."""
def register_move(dst: VirtualRegister, src: int | VirtualRegister) -> None:
    """dst = an integer or a register."""
def register_store(dst: NkiTensor, src: int | VirtualRegister) -> None:
    """A one-element tile = src."""
def scalar_load(src: NkiTensor) -> NkiScalar:
    """A scalar of the device from a one-element tensor of nl.int32 or nl.int64 in SBUF or HBM."""
def scalar_store(dst: NkiTensor, value: NkiScalar) -> None:
    """A one-element tensor = a scalar of the same width."""
