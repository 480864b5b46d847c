"""`nki.isa`: the instructions with AWS's names and arguments, each handed to `mowich.neuroncore`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import Enum, IntEnum
from typing import Any

from mowich.errors import did_you_mean
from mowich.neuroncore import core as machine
from mowich.neuroncore.core import NkiValidationError as NkiValidationError
from mowich.neuroncore.core import fail
from mowich.neuroncore.instructions import dma, exchange, generator, gpsimd, scalar, selection, sync, tensor, vector
from mowich.neuroncore.registers import Register
from mowich.neuroncore.views import Tile
from mowich.nki import words
from mowich.nki.language import NKIObject, default_generation, equal, maximum

__path__: list[str] = []
__getattr__ = words.missing(__name__)
constants = sys.modules[__name__]
"""`from nki.isa import constants`: the enumerations are here."""


class engine(Enum):
    """Engines of a NeuronCore."""

    unknown = 0
    tensor = 1
    scalar = 2
    gpsimd = 3
    dma = 4
    vector = 5
    sync = 6


tensor_engine = engine.tensor
vector_engine = engine.vector
scalar_engine = engine.scalar
gpsimd_engine = engine.gpsimd
unknown_engine = engine.unknown
activation_engine = engine.scalar
pool_engine = engine.gpsimd


class reduce_cmd(Enum):
    """What an instruction does to the accumulators."""

    idle = 0
    reset = 1
    reduce = 2
    reset_reduce = 3
    load_reduce = 4


class dge_mode(Enum):
    """Who makes the descriptors of a DMA."""

    unknown = 0
    swdge = 1
    hwdge = 2
    none = 3


class oob_mode(Enum):
    """What a run-time index out of bounds does."""

    error = 0
    skip = 1
    disable = 2


class matmul_perf_mode(Enum):
    """Modes of the Tensor Engine."""

    none = "none"
    double_row = "double_row"
    double_column = "double_column"
    double_pixel = "double_pixel"
    double_row_gen3 = "double_row_gen3"


class nc_version(IntEnum):
    """Generations of the NeuronCore."""

    gen2 = 2
    gen3 = 3
    gen4 = 4


class dma_engine(Enum):
    """Which DMA moves data between the cores of a pair."""

    dma = 1
    gpsimd_dma = 2


VirtualRegister = Register


class NkiInstruction(NKIObject):
    """Handle of an instruction that was issued."""

    def __init__(self, handle: int = 0) -> None:
        self.handle = handle

    def depends_on(self, *producers: NkiInstruction) -> NkiInstruction:
        """This instruction runs after the producers; recorded for the scheduler."""
        trace = machine.active().trace
        if trace is not None:
            trace.edges += [(p.handle, self.handle) for p in producers]
        return self


def _done() -> NkiInstruction:
    made = object.__new__(NkiInstruction)
    made.handle = machine.active().clock
    return made


def _spelled(kind: type[Enum]) -> dict[Any, str]:
    """What names a member of an enumeration -> its name: the member, its number, its name. None stands for the first one."""
    members: list[Enum] = list(kind)
    return {None: members[0].name} | {word: m.name for m in members for word in (m, m.value, m.name)}


_ENGINE, _COMMAND, _DGE, _OOB, _PERF, _PAIR_DMA = (
    _spelled(kind) for kind in (engine, reduce_cmd, dge_mode, oob_mode, matmul_perf_mode, dma_engine)
)


def _member(kind: type[Enum], spelled: dict[Any, str], given: Any) -> str:
    """Name of the member that is given as itself, as its number or as its name: older kernels pass numbers. Raises for anything else."""
    try:
        if type(given) is not bool:
            return spelled[given]
    except (KeyError, TypeError):
        pass
    names = {m.name: m.value for m in kind}
    raise fail(
        f"no such {kind.__name__}",
        given=given,
        allowed=", ".join(n if n == v else f"{n} ({v})" for n, v in names.items()),
        fix=did_you_mean(str(given), names),
    )


def _engine(e: Any) -> str:
    if e is None or e is engine.unknown:
        return ""
    name = _member(engine, _ENGINE, e)
    return "" if name == "unknown" else name


def _cmd(c: Any) -> str:
    return _member(reduce_cmd, _COMMAND, c)


def _oob(mode: Any) -> str:
    return "error" if _member(oob_mode, _OOB, mode) == "error" else "skip"


def _perf(mode: Any) -> str:
    return _member(matmul_perf_mode, _PERF, mode).removesuffix("_gen3")


def _pair_dma(which: Any) -> str:
    return _member(dma_engine, _PAIR_DMA, which)


def get_nc_version() -> nc_version:
    """Generation that the kernel runs on."""
    core = machine.running()
    return nc_version(core.generation if core is not None else default_generation())


def get_nc_sub_version() -> int:
    """Silicon revision: 0."""
    return 0


def _dma_flags(dge: Any, priority: Any, eng: Any) -> dict[str, Any]:
    name = _member(dge_mode, _DGE, dge)
    generation = machine.active().generation
    if name == "hwdge" and generation < 3:
        raise fail("hardware descriptor generation needs NeuronCore-v3", fix="use dge_mode.swdge or dge_mode.none")
    if priority is not None:
        if generation < 4:
            raise fail("DMA priority needs NeuronCore-v4")
        if not 0 <= int(priority) <= 3:
            raise fail("DMA priority", given=priority, allowed="0 .. 3")
    trigger = _engine(eng)
    if name == "hwdge" and trigger not in ("", "scalar", "sync"):
        raise fail("hwdge: the engine that triggers a DMA", given=trigger, allowed="scalar, sync")
    return {"dge": name, "priority": priority, "queue": trigger}


def dma_copy(dst: Any, src: Any, priority: Any = None, oob_mode: Any = oob_mode.error, dge_mode: Any = dge_mode.unknown, engine: Any = None,
             name: Any = None, dst_rmw_op: Any = None, unique_indices: Any = True) -> NkiInstruction:  # fmt: skip
    """dst = src between HBM and SBUF."""
    if dst_rmw_op is not None:
        dma.compute(dst, [dst, src], dst_rmw_op, None, _oob(oob_mode))
    else:
        dma.copy(dst, src, _oob(oob_mode), "dma_copy", _dma_flags(dge_mode, priority, engine))
    return _done()


def dma_transpose(dst: Any, src: Any, axes: Any = None, priority: Any = None, dge_mode: Any = dge_mode.unknown, oob_mode: Any = oob_mode.error,
                  name: Any = None, engine: Any = None) -> NkiInstruction:  # fmt: skip
    """dst = src transposed by the DMA engines."""
    dma.transpose(dst, src, axes, _oob(oob_mode), _dma_flags(dge_mode, priority, engine))
    return _done()


def dma_compute(dst: Any, srcs: Any, reduce_op: Any, scales: Any = None, unique_indices: bool = True, oob_mode: Any = oob_mode.error,
                name: Any = None) -> NkiInstruction:  # fmt: skip
    """dst = reduction over scaled sources by the DMA engines."""
    dma.compute(dst, srcs, reduce_op, scales, _oob(oob_mode))
    return _done()


def tensor_copy(dst: Any, src: Any, engine: Any = None, name: Any = None, dtype: Any = None) -> NkiInstruction:
    """dst = src on chip."""
    vector.tensor_copy(dst, src, _engine(engine))
    return _done()


def memset(dst: Any, value: Any, engine: Any = None, name: Any = None, dtype: Any = None) -> NkiInstruction:
    """dst = value."""
    vector.memset(dst, value, _engine(engine))
    return _done()


def tensor_copy_predicated(
    dst: Any, src: Any, predicate: Any, reverse_pred: bool = False, name: Any = None
) -> NkiInstruction:
    """dst = src where predicate."""
    selection.tensor_copy_predicated(dst, src, predicate, reverse_pred)
    return _done()


def nc_matmul(dst: Any, stationary: Any, moving: Any, is_stationary_onezero: bool = False, is_moving_onezero: bool = False, is_transpose: bool = False,
              accumulate: Any = None, tile_position: Any = (), tile_size: Any = (), perf_mode: Any = matmul_perf_mode.none, name: Any = None) -> NkiInstruction:  # fmt: skip
    """dst (+)= stationary.T @ moving."""
    mode = _perf(perf_mode)
    tensor.nc_matmul(
        dst,
        stationary,
        moving,
        is_transpose,
        accumulate,
        tile_position,
        tile_size,
        mode,
        is_stationary_onezero or is_moving_onezero,
    )
    return _done()


def nc_matmul_mx(dst: Any, stationary: Any, moving: Any, stationary_scale: Any, moving_scale: Any, tile_position: Any = None, tile_size: Any = None,
                 accumulate: Any = None, name: Any = None) -> NkiInstruction:  # fmt: skip
    """dst (+)= product of two MX tiles with their scales."""
    tensor.nc_matmul_mx(dst, stationary, moving, stationary_scale, moving_scale, tile_position, tile_size, accumulate)
    return _done()


def nc_transpose(dst: Any, data: Any, engine: Any = None, name: Any = None, dtype: Any = None) -> NkiInstruction:
    """dst = data transposed."""
    tensor.nc_transpose(dst, data, _engine(engine))
    return _done()


def tensor_tensor(
    dst: Any, data1: Any, data2: Any, op: Any, engine: Any = None, name: Any = None, dtype: Any = None
) -> NkiInstruction:
    """dst = data1 op data2."""
    vector.tensor_tensor(dst, data1, data2, op, _engine(engine))
    return _done()


def tensor_scalar(dst: Any, data: Any, op0: Any, operand0: Any = None, reverse0: bool = False, op1: Any = None, operand1: Any = None, reverse1: bool = False,
                  engine: Any = None, name: Any = None, dtype: Any = None) -> NkiInstruction:  # fmt: skip
    """dst = (data op0 operand0) op1 operand1."""
    vector.tensor_scalar(dst, data, op0, operand0, reverse0, op1, operand1, reverse1, _engine(engine))
    return _done()


def tensor_reduce(
    dst: Any,
    op: Any,
    data: Any,
    axis: Any,
    negate: bool = False,
    keepdims: bool = False,
    name: Any = None,
    dtype: Any = None,
) -> NkiInstruction:
    """dst = data reduced over free axes."""
    vector.tensor_reduce(dst, op, data, axis, negate)
    return _done()


def tensor_partition_reduce(dst: Any, op: Any, data: Any, name: Any = None, dtype: Any = None) -> NkiInstruction:
    """dst = data reduced over partitions."""
    gpsimd.tensor_partition_reduce(dst, op, data)
    return _done()


def tensor_scalar_cumulative(dst: Any, src: Any, op0: Any, op1: Any, imm0: Any, imm1: Any = None, reduce_cmd: Any = reduce_cmd.reset_reduce,
                             name: Any = None, reverse0: bool = False) -> NkiInstruction:  # fmt: skip
    """Running reduction along the free axes."""
    vector.tensor_scalar_cumulative(dst, src, op0, op1, imm0, imm1, _cmd(reduce_cmd), reverse0)
    return _done()


def activation(dst: Any, op: Any, data: Any, bias: Any = None, scale: Any = 1.0, reduce_op: Any = None, reduce_res: Any = None,
               reduce_cmd: Any = reduce_cmd.idle, name: Any = None, dtype: Any = None) -> NkiInstruction:  # fmt: skip
    """dst = op(data * scale + bias), with accumulation."""
    scalar.activation(dst, op, data, bias, scale, reduce_op, reduce_res, _cmd(reduce_cmd))
    return _done()


def activation_reduce(
    dst: Any,
    op: Any,
    data: Any,
    reduce_op: Any,
    reduce_res: Any = None,
    bias: Any = None,
    scale: Any = 1.0,
    name: Any = None,
    dtype: Any = None,
) -> NkiInstruction:
    """dst = op(data * scale + bias); reduce_res = its reduction."""
    scalar.activation(dst, op, data, bias, scale, reduce_op, reduce_res, "reset_reduce", "activation_reduce")
    return _done()


def activate2(dst: Any, op: Any, data: Any, imm0: Any = 0.0, imm1: Any = 0.0, op0: Any = None, op1: Any = None, relu_param: Any = 0.0, reverse0: bool = False,
              reverse1: bool = False, reduce_op: Any = None, reduce_res: Any = None, reduce_cmd: Any = reduce_cmd.idle, name: Any = None) -> NkiInstruction:  # fmt: skip
    """dst = op((data op0 imm0) op1 imm1), with accumulation."""
    scalar.activate2(
        dst, op, data, imm0, imm1, op0, op1, relu_param, reverse0, reverse1, reduce_op, reduce_res, _cmd(reduce_cmd)
    )
    return _done()


def iota(
    dst: Any, pattern: Any, offset: Any = 0, channel_multiplier: Any = 0, name: Any = None, dtype: Any = None
) -> NkiInstruction:
    """dst = affine pattern."""
    gpsimd.iota(dst, pattern, offset, channel_multiplier)
    return _done()


def affine_select(dst: Any, pattern: Any, channel_multiplier: Any, on_true_tile: Any, on_false_value: Any, cmp_op: Any = equal, offset: Any = 0,
                  name: Any = None, dtype: Any = None) -> NkiInstruction:  # fmt: skip
    """dst = on_true_tile where the affine pattern compares true with 0."""
    gpsimd.affine_select(dst, pattern, channel_multiplier, on_true_tile, on_false_value, cmp_op, offset)
    return _done()


def local_gather(
    dst: Any,
    src_buffer: Any,
    index: Any,
    num_elem_per_idx: int = 1,
    num_valid_indices: Any = None,
    name: Any = None,
    dtype: Any = None,
) -> NkiInstruction:
    """Gather within groups of 16 partitions."""
    gpsimd.local_gather(dst, src_buffer, index, num_elem_per_idx, num_valid_indices)
    return _done()


def nc_n_gather(dst: Any, data: Any, indices: Any, name: Any = None, dtype: Any = None) -> NkiInstruction:
    """Gather within each partition."""
    gpsimd.nc_n_gather(dst, data, indices)
    return _done()


def bn_stats(dst: Any, data: Any, name: Any = None, dtype: Any = None) -> NkiInstruction:
    """Counts, means and variances of even and odd elements."""
    vector.bn_stats(dst, data)
    return _done()


def bn_aggr(dst: Any, data: Any, name: Any = None, dtype: Any = None) -> NkiInstruction:
    """Mean and variance from bn_stats."""
    vector.bn_aggr(dst, data)
    return _done()


def tensor_tensor_scan(dst: Any, data0: Any, data1: Any, initial: Any, op0: Any, op1: Any, reverse0: bool = False, reverse1: bool = False,
                       name: Any = None, dtype: Any = None) -> NkiInstruction:  # fmt: skip
    """A recurrence along the free axes."""
    vector.tensor_tensor_scan(dst, data0, data1, initial, op0, op1, reverse0, reverse1)
    return _done()


def nc_stream_shuffle(dst: Any, src: Any, shuffle_mask: Any, name: Any = None) -> NkiInstruction:
    """Permute partitions within quadrants."""
    selection.nc_stream_shuffle(dst, src, shuffle_mask)
    return _done()


def rng(dst: Any, engine: Any = engine.vector, name: Any = None) -> NkiInstruction:
    """Random bits."""
    generator.rng(dst, _engine(engine))
    return _done()


def dropout(dst: Any, data: Any, prob: Any, name: Any = None, dtype: Any = None) -> NkiInstruction:
    """Random zeros."""
    generator.dropout(dst, data, prob)
    return _done()


def set_rng_seed(src_seeds: Any, name: Any = None) -> NkiInstruction:
    """Seed the generator."""
    generator.set_rng_seed(src_seeds)
    return _done()


def rand_set_state(src_seeds: Any, engine: Any = engine.gpsimd, name: Any = None) -> NkiInstruction:
    """Load the generator's state."""
    generator.rand_set_state(src_seeds, _engine(engine))
    return _done()


def rand_get_state(dst: Any, engine: Any = engine.gpsimd, name: Any = None) -> NkiInstruction:
    """Store the generator's state."""
    generator.rand_get_state(dst, _engine(engine))
    return _done()


def rand2(dst: Any, min: Any = 0.0, max: Any = 1.0, name: Any = None) -> NkiInstruction:
    """Uniform numbers."""
    generator.rand2(dst, min, max)
    return _done()


def exponential(dst: Any, src: Any, max_value: Any = 0.0, reduce_res: Any = None, reduce_cmd: Any = reduce_cmd.idle, reduce_init: Any = 0.0,
                name: Any = None) -> NkiInstruction:  # fmt: skip
    """dst = exp(src - max_value), with accumulation."""
    vector.exponential(dst, src, max_value, reduce_res, _cmd(reduce_cmd), reduce_init)
    return _done()


def reciprocal(dst: Any, data: Any, name: Any = None, dtype: Any = None) -> NkiInstruction:
    """dst = 1 / data."""
    vector.reciprocal(dst, data)
    return _done()


def max8(dst: Any, src: Any, name: Any = None, dtype: Any = None) -> NkiInstruction:
    """The 8 largest of each partition."""
    selection.max8(dst, src)
    return _done()


def sequence_bounds(dst: Any, segment_ids: Any, name: Any = None) -> NkiInstruction:
    """Start and end of each element's segment."""
    gpsimd.sequence_bounds(dst, segment_ids)
    return _done()


def scalar_tensor_tensor(dst: Any, data: Any, op0: Any, operand0: Any, op1: Any, operand1: Any, reverse0: bool = False, reverse1: bool = False,
                         name: Any = None, dtype: Any = None) -> NkiInstruction:  # fmt: skip
    """dst = (data op0 operand0) op1 operand1, operand1 a tile."""
    vector.scalar_tensor_tensor(dst, data, op0, operand0, op1, operand1, reverse0, reverse1)
    return _done()


def tensor_scalar_reduce(dst: Any, data: Any, op0: Any, operand0: Any, reduce_op: Any, reduce_res: Any = None, reverse0: bool = False,
                         reduce_cmd: Any = reduce_cmd.reset_reduce, reduce_init: Any = None, reduce_res_negate: bool = False, name: Any = None, dtype: Any = None) -> NkiInstruction:  # fmt: skip
    """dst = data op0 operand0; reduce_res = its reduction."""
    vector.tensor_scalar_reduce(
        dst, data, op0, operand0, reduce_op, reduce_res, reverse0, _cmd(reduce_cmd), reduce_init, reduce_res_negate
    )
    return _done()


def range_select(dst: Any, on_true_tile: Any, comp_op0: Any, comp_op1: Any, bound0: Any, bound1: Any, reduce_cmd: Any = reduce_cmd.reset_reduce,
                 reduce_res: Any = None, reduce_op: Any = maximum, range_start: Any = 0, on_false_value: Any = selection.F32_MIN,
                 name: Any = None, dtype: Any = None) -> NkiInstruction:  # fmt: skip
    """dst = on_true_tile where its index lies within bounds."""
    selection.range_select(
        dst,
        on_true_tile,
        comp_op0,
        comp_op1,
        bound0,
        bound1,
        _cmd(reduce_cmd),
        reduce_res,
        reduce_op,
        range_start,
        on_false_value,
    )
    return _done()


def select_reduce(dst: Any, predicate: Any, on_true: Any, on_false: Any, reduce_res: Any = None, reduce_cmd: Any = reduce_cmd.idle, reduce_op: Any = maximum,
                  reverse_pred: bool = False, name: Any = None, dtype: Any = None) -> NkiInstruction:  # fmt: skip
    """dst = on_true or on_false by predicate, with a running maximum."""
    selection.select_reduce(dst, predicate, on_true, on_false, reduce_res, _cmd(reduce_cmd), reduce_op, reverse_pred)
    return _done()


def nc_find_index8(dst: Any, data: Any, vals: Any, name: Any = None) -> NkiInstruction:
    """Positions of 8 values."""
    selection.nc_find_index8(dst, data, vals)
    return _done()


def nc_match_replace8(
    dst: Any, data: Any, vals: Any, imm: Any, dst_idx: Any = None, name: Any = None
) -> NkiInstruction:
    """Replace 8 values, and give their positions."""
    selection.nc_match_replace8(dst, data, vals, imm, dst_idx)
    return _done()


def nonzero_with_count(
    dst: Any, src: Any, index_offset: Any = 0, padding_val: Any = -1, name: Any = None
) -> NkiInstruction:
    """Indices of nonzero elements, and their count."""
    gpsimd.nonzero_with_count(dst, src, index_offset, padding_val)
    return _done()


def topk(val_dst: Any, idx_dst: Any, src: Any, n: Any, name: Any = None) -> NkiInstruction:
    """The K largest of each group's snake."""
    gpsimd.topk(val_dst, idx_dst, src, n)
    return _done()


def quantize_mx(dst: Any, src: Any, dst_scale: Any, name: Any = None) -> NkiInstruction:
    """MX quantisation: packed data and scales."""
    vector.quantize_mx(dst, src, dst_scale)
    return _done()


# registers and the pair of cores --------------------------------------------------------------------------------------------


def register_alloc(x: Any = None) -> Register:
    """A new register, loaded with an integer, another register or a one-element tile if given."""
    register = Register()
    if isinstance(x, Tile):
        sync.register_load(register, x)
    elif x is not None:
        register.value = int(x)
    return register


def register_move(dst: Register, src: Any) -> None:
    """dst = an integer or a register."""
    dst.value = int(src)


def register_load(dst: Register, src: Any) -> None:
    """dst = a one-element tile."""
    sync.register_load(dst, src)


def register_store(dst: Any, src: Any) -> None:
    """A one-element tile = src."""
    sync.register_store(dst, src)


def core_barrier(
    data: Any, cores: Sequence[int] = (0, 1), engine: Any = engine.gpsimd, name: Any = None
) -> NkiInstruction:
    """Wait until all the cores are here."""
    sync.core_barrier(data, cores, _engine(engine))
    return _done()


def sendrecv(src: Any, dst: Any, send_to_rank: Any, recv_from_rank: Any, pipe_id: Any, dma_engine: Any = dma_engine.dma, name: Any = None,
             use_gpsimd_dma: Any = None) -> NkiInstruction:  # fmt: skip
    """Send src to a core of the pair while receiving dst from one."""
    by_gpsimd = bool(use_gpsimd_dma) or _pair_dma(dma_engine) == "gpsimd_dma"
    exchange.sendrecv(dst, src, send_to_rank, recv_from_rank, pipe_id, by_gpsimd)
    return _done()
