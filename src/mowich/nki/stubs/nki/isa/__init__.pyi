"""`nki.isa`.

Written by `tools/nki_stubs.py` from what `help` shows. Do not edit."""

from collections.abc import Sequence
from mowich.neuroncore.instructions.operands import Scalar
from mowich.neuroncore.views import Tile as NkiTensor
from typing import Any
from typing import SupportsFloat
from typing import SupportsInt
from mowich.nki.isa import NkiInstruction as NkiInstruction
from mowich.neuroncore.registers import NkiScalar as NkiScalar
from mowich.neuroncore.registers import Register
VirtualRegister = Register
from mowich.nki.isa import dge_mode as dge_mode
from mowich.nki.isa import dma_engine as dma_engine
from mowich.nki.isa import engine as engine
from mowich.nki.isa import matmul_perf_mode as matmul_perf_mode
from mowich.nki.isa import nc_version as nc_version
from mowich.nki.isa import oob_mode as oob_mode
from mowich.nki.isa import reduce_cmd as reduce_cmd
activation_engine: engine
gpsimd_engine: engine
pool_engine: engine
scalar_engine: engine
tensor_engine: engine
unknown_engine: engine
vector_engine: engine
def activate2(
    dst: NkiTensor,
    op: object,
    data: NkiTensor,
    imm0: Scalar = 0.0,
    imm1: Scalar = 0.0,
    op0: object = None,
    op1: object = None,
    relu_param: Scalar = 0.0,
    reverse0: bool = False,
    reverse1: bool = False,
    reduce_op: object = None,
    reduce_res: NkiTensor | None = None,
    reduce_cmd: reduce_cmd | int | str | None = reduce_cmd.idle,
    name: object = None,
) -> NkiInstruction:
    """dst = op((data op0 imm0) op1 imm1) on v4, with the reduction of `activation`."""
def activation(
    dst: NkiTensor | None,
    op: object,
    data: NkiTensor,
    bias: Scalar = None,
    scale: Scalar = 1.0,
    reduce_op: object = None,
    reduce_res: NkiTensor | None = None,
    reduce_cmd: reduce_cmd | int | str | None = reduce_cmd.idle,
    name: object = None,
) -> NkiInstruction:
    """dst = op(data * scale + bias), the sum of it over the free axes into the accumulators as reduce_cmd says."""
def activation_reduce(
    dst: NkiTensor,
    op: object,
    data: NkiTensor,
    reduce_op: object,
    reduce_res: NkiTensor | None = None,
    bias: Scalar = None,
    scale: Scalar = 1.0,
    name: object = None,
) -> NkiInstruction:
    """dst = op(data * scale + bias), and reduce_res = its reduction over the free axes."""
def affine_select(
    dst: NkiTensor,
    pattern: Sequence[Sequence[SupportsInt]],
    channel_multiplier: SupportsInt,
    on_true_tile: NkiTensor,
    on_false_value: SupportsFloat,
    cmp_op: object = ...,
    offset: SupportsInt = 0,
    name: object = None,
) -> NkiInstruction:
    """dst = on_true_tile where (affine value cmp_op 0), else on_false_value."""
def bn_aggr(dst: NkiTensor, data: NkiTensor, name: object = None) -> NkiInstruction:
    """dst [P, 2] = mean and variance from (count, mean, count * variance) triples."""
def bn_stats(dst: NkiTensor, data: NkiTensor, name: object = None) -> NkiInstruction:
    """dst [P, 6] = count, mean and count * variance of the even elements, then of the odd ones."""
def core_barrier(
    data: NkiTensor,
    cores: Sequence[int] = (0, 1),
    engine: engine | int | str | None = engine.gpsimd,
    name: object = None,
) -> NkiInstruction:
    """Wait until all the cores are here."""
def dma_compute(
    dst: NkiTensor,
    srcs: Sequence[NkiTensor],
    reduce_op: object,
    scales: Sequence[float] | None = None,
    unique_indices: object = True,
    oob_mode: oob_mode | int | str | None = oob_mode.error,
    name: object = None,
) -> NkiInstruction:
    """dst = op over the sources, each times its scale, in float32. A source or dst with a vector offset is gathered or
    scattered."""
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
def dropout(dst: NkiTensor, data: NkiTensor, prob: Scalar, name: object = None) -> NkiInstruction:
    """dst = data, each element 0 with probability `prob`."""
def exponential(
    dst: NkiTensor,
    src: NkiTensor,
    max_value: Scalar = 0.0,
    reduce_res: NkiTensor | None = None,
    reduce_cmd: reduce_cmd | int | str | None = reduce_cmd.idle,
    reduce_init: Scalar = 0.0,
    name: object = None,
) -> NkiInstruction:
    """dst = exp(src - max_value) on the Vector Engine of v4, its sum into the accumulators."""
def get_nc_sub_version() -> int:
    """Silicon revision: 0."""
def get_nc_version() -> nc_version:
    """Generation that the kernel runs on."""
def iota(
    dst: NkiTensor,
    pattern: Sequence[Sequence[SupportsInt]],
    offset: SupportsInt = 0,
    channel_multiplier: SupportsInt = 0,
    name: object = None,
) -> NkiInstruction:
    """dst = an affine function of partition and free indices (32-bit integers, then the format of dst)."""
def local_gather(
    dst: NkiTensor,
    src_buffer: NkiTensor,
    index: NkiTensor,
    num_elem_per_idx: int = 1,
    num_valid_indices: int | None = None,
    name: object = None,
) -> NkiInstruction:
    """In each group of 16 partitions, gather the columns that the group's indices (partition first) name."""
def max8(dst: NkiTensor, src: NkiTensor, name: object = None) -> NkiInstruction:
    """dst [P, 8] = the 8 largest of each partition, descending; NaN counts as -inf, +0 goes before -0."""
def memset(
    dst: NkiTensor,
    value: Any,
    engine: engine | int | str | None = None,
    name: object = None,
) -> NkiInstruction:
    """dst = value."""
def nc_find_index8(dst: NkiTensor, data: NkiTensor, vals: NkiTensor, name: object = None) -> NkiInstruction:
    """dst [P, 8] = position of each of 8 values in its partition; equal values take successive occurrences; all ones
    where absent."""
def nc_match_replace8(
    dst: NkiTensor,
    data: NkiTensor,
    vals: NkiTensor,
    imm: float,
    dst_idx: NkiTensor | None = None,
    name: object = None,
) -> NkiInstruction:
    """dst = data with the first occurrence of each of 8 values replaced by imm; positions to dst_idx."""
def nc_matmul(
    dst: NkiTensor,
    stationary: NkiTensor,
    moving: NkiTensor,
    is_stationary_onezero: bool = False,
    is_moving_onezero: bool = False,
    is_transpose: bool = False,
    accumulate: bool | None = None,
    tile_position: Sequence[SupportsInt] = (),
    tile_size: Sequence[SupportsInt] = (),
    perf_mode: matmul_perf_mode | int | str | None = matmul_perf_mode.none,
    name: object = None,
) -> NkiInstruction:
    """dst [M, N] (+)= stationary [K, M] transposed @ moving [K, N], products and sums in float32."""
def nc_matmul_mx(
    dst: NkiTensor,
    stationary: NkiTensor,
    moving: NkiTensor,
    stationary_scale: NkiTensor,
    moving_scale: NkiTensor,
    tile_position: Sequence[SupportsInt] | None = None,
    tile_size: Sequence[SupportsInt] | None = None,
    accumulate: bool | None = None,
    name: object = None,
) -> NkiInstruction:
    """dst [M, N] (+)= dequantised stationary [K, 4, M] transposed @ moving [K, 4, N], one scale per 8 partitions x 4
    parts."""
def nc_n_gather(dst: NkiTensor, data: NkiTensor, indices: NkiTensor, name: object = None) -> NkiInstruction:
    """dst = elements of the same partition at flattened free indices."""
def nc_stream_shuffle(
    dst: NkiTensor,
    src: NkiTensor,
    shuffle_mask: Sequence[SupportsInt],
    name: object = None,
) -> NkiInstruction:
    """Within each quadrant of 32 partitions, dst partition i = src partition shuffle_mask[i]; 255 leaves it."""
def nc_transpose(
    dst: NkiTensor,
    data: NkiTensor,
    engine: engine | int | str | None = None,
    name: object = None,
) -> NkiInstruction:
    """dst [F, P] = data [P, F] transposed, bits untouched. Tensor Engine: SBUF to PSUM, up to 128 x 128; Vector Engine:
    up to 32 x 32."""
def nonzero_with_count(
    dst: NkiTensor,
    src: NkiTensor,
    index_offset: int = 0,
    padding_val: int = -1,
    name: object = None,
) -> NkiInstruction:
    """In partitions 0, 16, 32 ...: indices of nonzero elements, then padding, then their count."""
def quantize_mx(dst: NkiTensor, src: NkiTensor, dst_scale: NkiTensor, name: object = None) -> NkiInstruction:
    """dst (packed fp8) and one e8m0 scale per 8 partitions x 4 columns of src.

    Scale exponent = floor(log2 max |x|) - E_max + headroom; elements are divided by the scale, limited to the format's
    range and rounded to nearest even. The headroom is the fact `neuroncore.v4.mx.scale_headroom`: 0, as nki-library's
    hardware-checked references have it; the reference of 2026-08 documents 1."""
def rand2(dst: NkiTensor, min: Scalar = 0.0, max: Scalar = 1.0, name: object = None) -> NkiInstruction:
    """dst = uniform numbers in [min, max)."""
def rand_get_state(
    dst: NkiTensor,
    engine: engine | int | str | None = engine.gpsimd,
    name: object = None,
) -> NkiInstruction:
    """Store the state words that were loaded last."""
def rand_set_state(
    src_seeds: NkiTensor,
    engine: engine | int | str | None = engine.gpsimd,
    name: object = None,
) -> NkiInstruction:
    """Load the generator's state words."""
def range_select(
    dst: NkiTensor,
    on_true_tile: NkiTensor,
    comp_op0: object,
    comp_op1: object,
    bound0: NkiTensor,
    bound1: NkiTensor,
    reduce_cmd: reduce_cmd | int | str | None = reduce_cmd.reset_reduce,
    reduce_res: NkiTensor | None = None,
    reduce_op: object = ...,
    range_start: SupportsInt = 0,
    on_false_value: float = -3.4028234663852886e+38,
    name: object = None,
) -> NkiInstruction:
    """dst = on_true_tile where its free index + range_start lies in both bounds, else on_false_value; running
    maximum."""
def reciprocal(dst: NkiTensor, data: NkiTensor, name: object = None) -> NkiInstruction:
    """dst = 1 / data."""
def register_alloc(x: int | VirtualRegister | NkiTensor | None = None) -> VirtualRegister:
    """A new register, loaded with an integer, another register or a one-element tile if given."""
def register_load(dst: VirtualRegister, src: NkiTensor) -> None:
    """dst = a one-element tile."""
def register_move(dst: VirtualRegister, src: int | VirtualRegister) -> None:
    """dst = an integer or a register."""
def register_store(dst: NkiTensor, src: int | VirtualRegister) -> None:
    """A one-element tile = src."""
def rng(
    dst: NkiTensor,
    engine: engine | int | str | None = engine.vector,
    name: object = None,
) -> NkiInstruction:
    """dst = random bits (our own generator: AWS does not publish the hardware's polynomial)."""
def scalar_load(src: NkiTensor) -> NkiScalar:
    """A scalar of the device from a one-element tensor of nl.int32 or nl.int64 in SBUF or HBM."""
def scalar_store(dst: NkiTensor, value: NkiScalar) -> None:
    """A one-element tensor = a scalar of the same width."""
def scalar_tensor_tensor(
    dst: NkiTensor,
    data: NkiTensor,
    op0: object,
    operand0: Scalar,
    op1: object,
    operand1: NkiTensor,
    reverse0: bool = False,
    reverse1: bool = False,
    name: object = None,
) -> NkiInstruction:
    """dst = (data op0 operand0) op1 operand1, operand1 a tile of data's shape."""
def select_reduce(
    dst: NkiTensor,
    predicate: NkiTensor,
    on_true: NkiTensor,
    on_false: Scalar,
    reduce_res: NkiTensor | None = None,
    reduce_cmd: reduce_cmd | int | str | None = reduce_cmd.idle,
    reduce_op: object = ...,
    reverse_pred: bool = False,
    name: object = None,
) -> NkiInstruction:
    """dst = on_true where predicate, else on_false; optional running maximum."""
def sendrecv(
    src: NkiTensor,
    dst: NkiTensor,
    send_to_rank: int,
    recv_from_rank: int,
    pipe_id: int,
    dma_engine: dma_engine | int | str | None = dma_engine.dma,
    name: object = None,
) -> NkiInstruction:
    """Send src to a core of the pair, and receive dst from one; dma_engine: "dma", or "gpsimd_dma" for GpSimd's own, as
    use_gpsimd_dma."""
def sequence_bounds(dst: NkiTensor, segment_ids: NkiTensor, name: object = None) -> NkiInstruction:
    """dst [1, 2, n] = first and one-past-last index of each element's run of equal ids; n and -1 where the id is 0."""
def set_rng_seed(src_seeds: NkiTensor, name: object = None) -> NkiInstruction:
    """Seed the generator with a [1, 1] tile."""
def tensor_copy(
    dst: NkiTensor,
    src: NkiTensor,
    engine: engine | int | str | None = None,
    name: object = None,
) -> NkiInstruction:
    """dst = src; bit-exact between equal formats where the engine can, through float32 otherwise. is_assigned: it
    stands for an assignment."""
def tensor_copy_predicated(
    dst: NkiTensor,
    src: Scalar,
    predicate: NkiTensor,
    reverse_pred: bool = False,
    name: object = None,
) -> NkiInstruction:
    """dst = src where predicate; dst keeps its elements elsewhere."""
def tensor_partition_reduce(
    dst: NkiTensor,
    op: object,
    data: NkiTensor,
    name: object = None,
) -> NkiInstruction:
    """dst [1, F] = data reduced over partitions."""
def tensor_reduce(
    dst: NkiTensor,
    op: object,
    data: NkiTensor,
    axis: Any,
    negate: bool = False,
    keepdims: object = False,
    name: object = None,
) -> NkiInstruction:
    """dst = data reduced over its last free axes."""
def tensor_scalar(
    dst: NkiTensor,
    data: NkiTensor,
    op0: object,
    operand0: Scalar = None,
    reverse0: bool = False,
    op1: object = None,
    operand1: Scalar = None,
    reverse1: bool = False,
    engine: engine | int | str | None = None,
    name: object = None,
) -> NkiInstruction:
    """dst = (data op0 operand0) op1 operand1, the operands one value per partition or one in all."""
def tensor_scalar_cumulative(
    dst: NkiTensor,
    src: NkiTensor,
    op0: object,
    op1: object,
    imm0: Scalar,
    imm1: Scalar = None,
    reduce_cmd: reduce_cmd | int | str | None = reduce_cmd.reset_reduce,
    name: object = None,
) -> NkiInstruction:
    """dst[i] = op1(src[i] op0 imm0, dst[i - 1]) along the free axes; the accumulators carry over between
    instructions."""
def tensor_scalar_reduce(
    dst: NkiTensor,
    data: NkiTensor,
    op0: object,
    operand0: Scalar,
    reduce_op: object,
    reduce_res: NkiTensor | None = None,
    reverse0: bool = False,
    reduce_cmd: reduce_cmd | int | str | None = reduce_cmd.reset_reduce,
    reduce_init: Scalar = None,
    reduce_res_negate: bool = False,
    name: object = None,
) -> NkiInstruction:
    """dst = data op0 operand0, reduced over the free axes into the accumulators."""
def tensor_tensor(
    dst: NkiTensor,
    data1: NkiTensor,
    data2: NkiTensor,
    op: object,
    engine: engine | int | str | None = None,
    name: object = None,
) -> NkiInstruction:
    """dst = data1 op data2."""
def tensor_tensor_scan(
    dst: NkiTensor,
    data0: NkiTensor,
    data1: NkiTensor,
    initial: Scalar,
    op0: object,
    op1: object,
    reverse0: bool = False,
    reverse1: bool = False,
    name: object = None,
) -> NkiInstruction:
    """dst[i] = (data0[i] op0 dst[i - 1]) op1 data1[i], from `initial`, along the free axes."""
def topk(
    val_dst: NkiTensor,
    idx_dst: NkiTensor,
    src: NkiTensor,
    n: int,
    sorted: bool = False,
    name: object = None,
) -> NkiInstruction:
    """In each group of 16 partitions, the K largest of the first n elements of the snake (element e: partition e % 16,
    column e // 16), with their places in it. K is the free size of val_dst. Result j lies in the snake too: columns 0
    .. ceil(K / 16) - 1 are written, the last one whole, its slots behind K without meaning (NaN here); the others stay.
    sorted: largest first; without it no order holds, and the results come as they lie in src."""
