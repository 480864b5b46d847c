"""`nki.language`: tensors, number formats, operators, and the convenience layer, with AWS's names, on
`mowich.neuroncore`; loops and programs are in `control`, grids of tiles in `grids`.

`nl.add` and its like are both operators, as in `op=nl.add`, and functions of tiles, as in `nl.add(a, b)`.
"""

from __future__ import annotations

import builtins
import hashlib
import inspect
import math
import os
from collections.abc import Callable, Iterable
from typing import Any, SupportsInt, TypeAlias

import numpy as np

from mowich.arrays import Array
from mowich.neuroncore import core as machine
from mowich.neuroncore import dtypes, ops, placement
from mowich.neuroncore import memory as mem
from mowich.neuroncore.access import (
    Place,
    made_as,
    mark_truth,
    read_tile,
    storage_of,
    tile_elements,
    tile_f32,
    write_tile,
)
from mowich.neuroncore.core import fail
from mowich.neuroncore.dtypes import DType, as_dtype
from mowich.neuroncore.instructions import dma, generator, gpsimd, scalar, selection, tensor, vector
from mowich.neuroncore.instructions.issue import issue
from mowich.neuroncore.instructions.table import done_again
from mowich.neuroncore.memory import MemoryRegion
from mowich.neuroncore.views import DynamicSlice, Tile
from mowich.nki import control, faces, grids, words
from mowich.nki.objects import NKIObject as NKIObject
from mowich.nki.sizes import fp32 as fp32
from mowich.nki.sizes import tile_size as tile_size

__path__: list[str] = []
__getattr__ = words.missing(__name__)

affine_range, sequential_range, static_range = control.affine_range, control.sequential_range, control.static_range
dynamic_range, fori_loop, while_loop = control.dynamic_range, control.fori_loop, control.while_loop
program_id, num_programs, program_ndim = control.program_id, control.num_programs, control.program_ndim
no_reorder, static_assert = control.no_reorder, control.static_assert
NkiTensor = Tile
NkiGrid, NkiTileGrid, NkiBlockGrid = grids.NkiGrid, grids.NkiTileGrid, grids.NkiBlockGrid
tiles, blocks, alloc_tiles, alloc_blocks = grids.tiles, grids.blocks, grids.alloc_tiles, grids.alloc_blocks
bool_ = dtypes.bool_
int8 = dtypes.int8
int16 = dtypes.int16
int32 = dtypes.int32
int64 = dtypes.int64
uint8 = dtypes.uint8
uint16 = dtypes.uint16
uint32 = dtypes.uint32
float16 = dtypes.float16
float32 = dtypes.float32
bfloat16 = dtypes.bfloat16
tfloat32 = dtypes.tfloat32
float8_e4m3 = dtypes.float8_e4m3
float8_e4m3fn = dtypes.float8_e4m3fn
float8_e5m2 = dtypes.float8_e5m2
float8_e3m4 = dtypes.float8_e3m4
float8_e8m0fnu = dtypes.float8_e8m0fnu
float8_e4m3fn_x4 = dtypes.float8_e4m3fn_x4
float8_e5m2_x4 = dtypes.float8_e5m2_x4
float4_e2m1fn_x4 = dtypes.float4_e2m1fn_x4
bool = bool_
float8_e4m3b = float8_e4m3
sbuf = MemoryRegion.sbuf
psum = MemoryRegion.psum
hbm = MemoryRegion.private_hbm
private_hbm = MemoryRegion.private_hbm
shared_hbm = MemoryRegion.shared_hbm


Axes: TypeAlias = SupportsInt | Iterable[SupportsInt]
"""A dimension, or several."""


def is_hbm(buffer: object) -> builtins.bool:
    """True for any HBM."""
    return mem.SPACE[mem.as_region(buffer)] == "H"


def is_sbuf(buffer: object) -> builtins.bool:
    """True for SBUF."""
    return mem.as_region(buffer) is sbuf


def is_psum(buffer: object) -> builtins.bool:
    """True for PSUM."""
    return mem.as_region(buffer) is psum


def is_on_chip(buffer: object) -> builtins.bool:
    """True for SBUF and PSUM."""
    return not is_hbm(buffer)


# tensors
# --------------------------------------------------------------------------------------------------------------------


_SEQUENCES = (tuple, list)  # made once: a tile is made as often as an instruction


class par_dim(int):
    """`nl.par_dim(n)`: this dimension is the partitions. A word of the older interface; kernels of this one that say it
    say it of the first."""


def ndarray(shape: object, dtype: object, buffer: object = None, name: str = "", address: object = None) -> Tile:
    """A new tensor; address = (partition, byte) places it by hand."""
    if isinstance(shape, _SEQUENCES) and par_dim in map(type, shape[1:]):
        raise fail(
            "par_dim marks a dimension that is not the first",
            given=list(shape),
            fix="partitions come first: move the dimensions before them behind, or make a list of tensors",
        )
    return placement.allocate(
        machine.active(), shape, dtype, sbuf if buffer is None else mem.as_region(buffer), name or "", address
    )


def full(shape: object, fill_value: object, dtype: object, buffer: object = None, name: str = "") -> Tile:
    """A tensor of one value."""
    t = ndarray(shape, dtype, buffer, name)
    if t.on_chip:
        vector.memset(t, fill_value)
    else:
        _fill_hbm(t, np.asarray(fill_value).astype(t.dtype.dtype))
    return t


def _fill_hbm(t: Tile, value: Array) -> None:
    """One number in all of a tensor of HBM, which is there before the kernel starts."""
    if value.size != 1:
        raise fail("one value fills a tensor", tile=t, given=f"an array {list(value.shape)}", fix="nl.shared_constant")
    write_tile(t, np.broadcast_to(value.reshape(()), t.shape))


def zeros(shape: object, dtype: object, buffer: object = None, name: str = "") -> Tile:
    """A tensor of zeros."""
    return full(shape, 0, dtype, buffer, name)


def ones(shape: object, dtype: object, buffer: object = None, name: str = "") -> Tile:
    """A tensor of ones."""
    return full(shape, 1, dtype, buffer, name)


def zeros_like(x: Tile, dtype: object = None, buffer: object = None, name: str = "") -> Tile:
    """Zeros of the shape of x."""
    return full(x.shape, 0, dtype or x.dtype, buffer or x.buffer, name)


def empty_like(x: Tile, dtype: object = None, buffer: object = None, name: str = "") -> Tile:
    """A new tensor of the shape of x."""
    return ndarray(x.shape, dtype or x.dtype, buffer or x.buffer, name)


def rand(shape: object, dtype: object = float32, buffer: object = None, name: str = "") -> Tile:
    """Uniform numbers in [0, 1)."""
    t = ndarray(shape, dtype, buffer, name)
    _random(t)
    return t


@done_again
def _random(t: Tile) -> None:
    # the compiler's instruction for it is not published: as long as a memset
    if not t.on_chip or issue("memset", "", (("dst", t),), ()):
        write_tile(t, machine.active().rng.random(t.shape, dtype=np.float32))


@done_again
def random_seed(seed: SupportsInt | Tile) -> None:
    """Seed the generator."""
    if isinstance(seed, Tile):
        generator.set_rng_seed(seed)
    else:
        machine.active().rng = np.random.default_rng(int(seed))


@faces.shown_without("dtype")
def shared_constant(constant: object, dtype: object = None) -> Tile:
    """An HBM tensor with the data of an array, or of an .npy file."""
    core = machine.active()
    data = np.load(constant) if isinstance(constant, str | os.PathLike) else np.array(constant)
    if dtype is not None:
        data = data.astype(as_dtype(dtype).dtype)
    elif data.dtype in (np.dtype(np.float64), np.dtype(np.int64)):
        data = data.astype(np.float32 if data.dtype.kind == "f" else np.int32)
    data = np.ascontiguousarray(data)
    core.constants.append(hashlib.sha256(data.tobytes()).digest() if core.values else b"")
    return placement.wrap_array(core, data, shared_hbm, "constant")


def shared_identity_matrix(n: int, dtype: object = uint8, dst: Tile | None = None) -> Tile:
    """An identity matrix in SBUF."""
    core = machine.active()
    if dst is not None:
        write_tile(dst, np.eye(int(n), dtype=np.float32))
        return dst
    d = as_dtype(dtype)
    key = ("identity", int(n), d)
    if key not in core.scratch:
        t = ndarray((int(n), int(n)), d, sbuf, "identity")
        core.clock += 1
        write_tile(t, np.eye(int(n), dtype=np.float32))
        core.scratch[key] = t
    t = core.scratch[key]
    return made_as(Tile, storage_of(t), t.dtype, t.shape, t.strides)


def ds(start: Place, size: SupportsInt) -> slice | DynamicSlice:
    """`size` elements from `start`: a slice, dynamic where `start` is a register."""
    if isinstance(start, int | np.integer):
        return slice(int(start), int(start) + int(size))
    return DynamicSlice(start, int(size))


dslice = ds


def load(src: Tile, dtype: object = None) -> Tile:
    """HBM -> a new SBUF tile."""
    out = ndarray(src.shape, dtype or src.dtype, sbuf)
    dma.copy(out, src)
    return out


def store(dst: Tile, value: object = None) -> None:
    """SBUF tile -> HBM."""
    source = value if isinstance(value, Tile) else full(dst.shape, value, dst.dtype)
    dma.copy(dst, _copy("copy", source) if source.space == "P" else source)


def load_transpose2d(src: Tile, dtype: object = None) -> Tile:
    """HBM [A, B] -> SBUF [B, A]."""
    if src.ndim > 2:
        src = src.reshape((src.shape[0], src.size // src.shape[0]))
    out = ndarray((src.shape[1], src.shape[0]), dtype or src.dtype, sbuf)
    dma.transpose(out, src, (1, 0))
    return out


def expand_dims(x: Tile, axis: int) -> Tile:
    """A view with a new dimension of size 1."""
    return x.expand_dim(axis)


def broadcast_to(x: Tile, shape: Iterable[SupportsInt], dtype: object = None) -> Tile:
    """A tile repeated along its dimensions of size 1; partitions are repeated by copying."""
    wanted = tuple(int(n) for n in shape)
    if x.shape == wanted:
        return x if dtype is None or as_dtype(dtype) is x.dtype else copy(x, dtype=dtype)
    out = ndarray(wanted, dtype or x.dtype, sbuf)
    _broadcast(out, x)
    return out


@done_again
def _broadcast(out: Tile, x: Tile) -> None:
    core, wanted = machine.active(), out.shape
    if x.space == "H":  # a DMA repeats what it reads
        issue("dma_copy", "", (("dst", out),), (("src", x),))
    elif out.ndim == x.ndim and x.shape[0] == 1 and wanted[0] > 1 and core.trace is not None:
        _record_broadcast(core, out, x)
    elif core.trace is not None:
        issue("tensor_copy", "", (("dst", out),), (("src", x),))
    else:
        core.clock += 1
    if core.values:
        a = np.broadcast_to(read_tile(x), wanted)
        write_tile(out, a if out.dtype is x.dtype else np.broadcast_to(tile_f32(x), wanted))
    else:
        storage_of(out).state = mem.ALL


def _record_broadcast(core: machine.Core, out: Tile, x: Tile) -> None:
    """Partitions are repeated by the Tensor Engine, a column of ones times the row, a PSUM bank at a time; the Scalar
    Engine copies each bank to SBUF: what profiles of compiled kernels show."""
    if x.space == "P":
        x = copy(x)
    parts = out.shape[0]
    key = ("ones", parts, x.dtype)
    if key not in core.scratch:
        core.scratch[key] = ones((1, parts), x.dtype)
    row = (
        x.broadcast_to((1, *out.shape[1:])).reshape((1, out.size // parts))
        if x.is_contiguous() and x.size * parts == out.size
        else None
    )
    bank = core.limits.psum_bank_B // 4
    flat = out.reshape((parts, out.size // parts))
    for start in builtins.range(0, out.size // parts, bank):
        stop = builtins.min(start + bank, out.size // parts)
        product = ndarray((parts, stop - start), float32, psum)
        moving = row.slice(1, start, stop) if row is not None else x
        issue(
            "nc_matmul",
            "",
            (("dst", product),),
            (("stationary", core.scratch[key]), ("moving", moving)),
            {"broadcast": True},
        )
        issue("tensor_copy", "scalar", (("dst", flat.slice(1, start, stop)),), (("src", product),))


def transpose(x: Tile, dtype: object = None) -> Tile:
    """x transposed, in PSUM."""
    out = ndarray((x.size // x.shape[0], x.shape[0]), dtype or x.dtype, psum)
    if x.space == "P":
        x = copy(x)
    tensor.nc_transpose(out, x, "tensor")
    return out


def matmul(x: Tile, y: Tile, transpose_x: builtins.bool = False) -> Tile:
    """x @ y, or x.T @ y with transpose_x, in PSUM (float32)."""
    if not transpose_x:
        x = copy(transpose(x))
    out = ndarray((x.shape[1], y.shape[1]), float32, psum)
    tensor.nc_matmul(out, x, y, accumulate=False)
    return out


def gather_flattened(data: Tile, indices: Tile, axis: int = 0, dtype: object = None) -> Tile:
    """Elements of each partition at flattened indices."""
    if data.space == "P":
        data = copy(data)
    if indices.dtype is not uint32:
        indices = copy(indices, dtype=uint32)
    out = ndarray(indices.shape, data.dtype, sbuf)
    gpsimd.nc_n_gather(out, data, indices)
    return out if dtype is None else copy(out, dtype=dtype)


@done_again
def device_print(print_prefix: str, tensor: object = None) -> None:
    """Print a tile."""
    machine.active().compute_waiting()
    _print(print_prefix, tile_elements(tensor) if isinstance(tensor, Tile) else tensor)


def _print(*words: object) -> None:
    """Print to where output went when the kernel was launched: a kernel does not read there what it prints."""
    core = machine.running()
    print(*words, file=None if core is None else core.scratch.get("stdout"))


# operators and functions
# ----------------------------------------------------------------------------------------------------


class NkiOp:
    """An operator: a token for `op=`, and a function of tiles."""

    def __init__(self, name: str, call: Callable[..., object], doc: str) -> None:
        self.op_name = name
        self.__name__ = name
        self._call = call
        self.__doc__ = doc

    def __call__(self, *args: object, **kwargs: object) -> Any:
        return self._call(self.op_name, *args, **kwargs)

    def signature(self) -> list[inspect.Parameter]:
        """Its parameters as a function of tiles."""
        return list(inspect.signature(self._call).parameters.values())[1:]

    def __repr__(self) -> str:
        return f"nl.{self.op_name}"

    def __eq__(self, other: object) -> builtins.bool:
        return self is other or (isinstance(other, str) and other == self.op_name)

    def __hash__(self) -> int:
        return hash(self.op_name)

    def __reduce__(self) -> str:
        return self.op_name


def _result_dtype(x: object, y: object) -> DType:
    a, b = (t.dtype if isinstance(t, Tile) else None for t in (x, y))
    if a is None or b is None:
        found = a or b
        assert found is not None
        return found
    if a is b:
        return a
    if a.is_float != b.is_float:
        return a if a.is_float else b
    if a.itemsize == b.itemsize:
        return float32 if a.is_float else a
    return a if a.itemsize > b.itemsize else b


def _binary(name: str, x: object, y: Any, dtype: object = None) -> Tile:
    """Element by element, with broadcasting, in a new SBUF tile."""
    if not isinstance(x, Tile) and not isinstance(y, Tile):
        return ops.alu(name).apply(x, y)  # type: ignore[no-any-return]
    d = as_dtype(dtype) if dtype is not None else _result_dtype(x, y)
    if isinstance(x, Tile) and isinstance(y, Tile):
        shape = x.shape
        if y.shape != shape:
            nd = builtins.max(x.ndim, y.ndim)
            for _i in builtins.range(nd - x.ndim):
                x = x.expand_dim(x.ndim)
            for _i in builtins.range(nd - y.ndim):
                y = y.expand_dim(y.ndim)
            sizes = list(zip(x.shape, y.shape, strict=True))
            shape = tuple([m if n == 1 else n for n, m in sizes])
            if [n for n, m in sizes if n != m and 1 not in (n, m)]:
                raise fail(f"nl.{name}: {list(x.shape)} and {list(y.shape)} do not broadcast", tile=y)
            x, y = (t if t.shape == shape else _spread(t, shape) for t in (x, y))
        if x.space == "P" and y.space == "P":
            y = copy(y)
        out = ndarray(shape, d, sbuf)
        if x.space == "H" or y.space == "H":
            raise fail(
                f"nl.{name} works on SBUF and PSUM tiles", tile=x if x.space == "H" else y, fix="nl.load it first"
            )
        vector.tensor_tensor(out, x, y, name)
        mark_truth(out, ops.alu(name).kind == "compare")
        return out
    tile, other = (x, y) if isinstance(x, Tile) else (y, x)
    out = ndarray(tile.shape, d, sbuf)
    vector.tensor_scalar(out, tile, name, other, reverse0=tile is not x)
    mark_truth(out, ops.alu(name).kind == "compare")
    return out


def _spread(t: Tile, shape: tuple[int, ...]) -> Tile:
    if t.shape[0] != shape[0]:
        machine.active().observe(
            "implicit broadcast", f"{t.describe()} of one partition meets a tile of {shape[0]} partitions"
        )
        return broadcast_to(t, shape)
    return t.broadcast_to(shape)


def _unary(name: str, x: Tile, dtype: object = None) -> Tile:
    """Element by element in a new SBUF tile."""
    out = ndarray(x.shape, dtype or x.dtype, sbuf)
    if name in ("sin", "cos", "tan"):
        _wrapped_angle(name, out, x)
    elif name == "invert":
        vector.tensor_scalar(out, x, "invert", 0)
    elif x.dtype.is_int and name in ("abs", "square", "negative", "logical_not", "relu"):
        vector.tensor_scalar(out, x, name, 0)
    else:
        scalar.activation(out, name, x)
    return out


def _wrapped_angle(name: str, out: Tile, x: Tile) -> None:
    """Trigonometry of any angle: brought to [-pi, pi] first, as the Scalar Engine's sine needs."""
    shift = math.pi + (math.pi / 2 if name == "cos" else 0.0)
    angle = ndarray(x.shape, float32, sbuf)
    if name == "tan":
        scalar.activation(out, "tan", x)
        return
    vector.tensor_scalar(angle, x, "add", shift, op1="mod", operand1=2 * math.pi)
    vector.tensor_scalar(angle, angle, "subtract", math.pi)
    scalar.activation(out, "sin", angle)


def _copy(name: str, x: Tile, dtype: object = None) -> Tile:
    out = ndarray(x.shape, dtype or x.dtype, sbuf)
    vector.tensor_copy(out, x)
    return out


class _BinaryOp(NkiOp):
    """An operator of two operands."""

    def __init__(self, name: str, doc: str) -> None:
        super().__init__(name, _binary, doc)

    def __call__(self, x: Tile | float, y: Tile | float, dtype: object = None) -> Tile:  # type: ignore[override]
        return self._call(self.op_name, x, y, dtype)  # type: ignore[return-value]


class _UnaryOp(NkiOp):
    """An operator of one operand."""

    def __init__(self, name: str, doc: str) -> None:
        super().__init__(name, _copy if name == "copy" else _unary, doc)

    def __call__(self, x: Tile, dtype: object = None) -> Tile:  # type: ignore[override]
        return self._call(self.op_name, x, dtype)  # type: ignore[return-value]


add = _BinaryOp("add", "x + y")
subtract = _BinaryOp("subtract", "x - y")
multiply = _BinaryOp("multiply", "x * y")
divide = _BinaryOp("divide", "x / y")
maximum = _BinaryOp("maximum", "the larger of x and y")
minimum = _BinaryOp("minimum", "the smaller of x and y")
power = _BinaryOp("power", "x to the power y")
mod = _BinaryOp("mod", "x modulo y, with the sign of y")
fmod = _BinaryOp("fmod", "remainder of x / y, with the sign of x")
abs_max = _BinaryOp("abs_max", "the one of x and y that is larger in magnitude (y when equal)")
abs_min = _BinaryOp("abs_min", "the one of x and y that is smaller in magnitude (y when equal)")
equal = _BinaryOp("equal", "1 where x == y")
not_equal = _BinaryOp("not_equal", "1 where x != y")
less = _BinaryOp("less", "1 where x < y")
less_equal = _BinaryOp("less_equal", "1 where x <= y")
greater = _BinaryOp("greater", "1 where x > y")
greater_equal = _BinaryOp("greater_equal", "1 where x >= y")
bitwise_and = _BinaryOp("bitwise_and", "bits of x and y")
bitwise_or = _BinaryOp("bitwise_or", "bits of x or y")
bitwise_xor = _BinaryOp("bitwise_xor", "bits of x xor y")
left_shift = _BinaryOp("left_shift", "x shifted left by y bits")
right_shift = _BinaryOp("right_shift", "x shifted right by y bits, zeros entering")
logical_and = _BinaryOp("logical_and", "1 where both are nonzero")
logical_or = _BinaryOp("logical_or", "1 where one is nonzero")
logical_xor = _BinaryOp("logical_xor", "1 where exactly one is nonzero")
average = _BinaryOp("average", "mean, as a reduction")
bypass = _BinaryOp("bypass", "the data unchanged")
invert = _UnaryOp("invert", "bits inverted")
logical_not = _UnaryOp("logical_not", "1 where x is zero")
abs = _UnaryOp("abs", "magnitude")
square = _UnaryOp("square", "x * x")
exp = _UnaryOp("exp", "e to the power x")
log = _UnaryOp("log", "natural logarithm")
sqrt = _UnaryOp("sqrt", "square root")
rsqrt = _UnaryOp("rsqrt", "1 / square root")
tanh = _UnaryOp("tanh", "hyperbolic tangent")
sigmoid = _UnaryOp("sigmoid", "1 / (1 + exp(-x))")
relu = _UnaryOp("relu", "max(x, 0)")
prelu = _UnaryOp("prelu", "x, or x * slope where negative")
gelu = _UnaryOp("gelu", "x times the normal distribution function")
gelu_dx = _UnaryOp("gelu_dx", "derivative of gelu")
gelu_apprx_tanh = _UnaryOp("gelu_apprx_tanh", "gelu by tanh")
gelu_apprx_sigmoid = _UnaryOp("gelu_apprx_sigmoid", "x * sigmoid(1.702 x)")
gelu_apprx_sigmoid_dx = _UnaryOp("gelu_apprx_sigmoid_dx", "derivative of gelu_apprx_sigmoid")
silu = _UnaryOp("silu", "x * sigmoid(x)")
silu_dx = _UnaryOp("silu_dx", "derivative of silu")
softplus = _UnaryOp("softplus", "log(1 + exp(x))")
mish = _UnaryOp("mish", "x * tanh(softplus(x))")
erf = _UnaryOp("erf", "error function")
erf_dx = _UnaryOp("erf_dx", "derivative of erf")
reciprocal = _UnaryOp("reciprocal", "1 / x")
sin = _UnaryOp("sin", "sine of any angle")
cos = _UnaryOp("cos", "cosine of any angle")
tan = _UnaryOp("tan", "tangent")
arctan = _UnaryOp("arctan", "inverse tangent")
ceil = _UnaryOp("ceil", "smallest integer not below x")
floor = _UnaryOp("floor", "largest integer not above x")
trunc = _UnaryOp("trunc", "x without its fraction")
negative = _UnaryOp("negative", "-x")
sign = _UnaryOp("sign", "-1, 0 or 1")
copy = _UnaryOp("copy", "a copy in SBUF")


def _axes(x: Tile, axis: Axes) -> list[int]:
    return sorted(int(a) % x.ndim for a in (axis if isinstance(axis, Iterable) else (axis,)))


def _reduce(op: str, x: Tile, axis: Axes, dtype: object, keepdims: builtins.bool) -> Tile:
    axes = _axes(x, axis)
    kept = x.shape[: axes[0]] if axes else x.shape
    shape = kept + (1,) * len(axes) if keepdims else kept
    if len(shape) < 2:
        shape = (*shape, 1)
    out = ndarray(shape, dtype or x.dtype, sbuf)
    vector.tensor_reduce(out, op, x, axes)
    return out


def sum(x: Tile, axis: Axes, dtype: object = None, keepdims: builtins.bool = False) -> Tile:
    """Sum over the last free axes."""
    return _reduce("add", x, axis, dtype, keepdims)


def prod(x: Tile, axis: Axes, dtype: object = None, keepdims: builtins.bool = False) -> Tile:
    """Product over the last free axes."""
    return _reduce("multiply", x, axis, dtype, keepdims)


def max(x: Tile, axis: Axes, dtype: object = None, keepdims: builtins.bool = False) -> Tile:
    """Maximum over the last free axes."""
    return _reduce("maximum", x, axis, dtype, keepdims)


def min(x: Tile, axis: Axes, dtype: object = None, keepdims: builtins.bool = False) -> Tile:
    """Minimum over the last free axes."""
    return _reduce("minimum", x, axis, dtype, keepdims)


def all(x: Tile, axis: Axes, dtype: object = None) -> Tile:
    """1 where every element along the axes is nonzero."""
    return _reduce("logical_and", x, axis, dtype, False)


def mean(x: Tile, axis: Axes, dtype: object = None, keepdims: builtins.bool = False) -> Tile:
    """Mean over the last free axes."""
    total = _reduce("add", x, axis, float32, keepdims)
    out = ndarray(total.shape, dtype or x.dtype, sbuf)
    vector.tensor_scalar(out, total, "multiply", 1.0 / math.prod(x.shape[a] for a in _axes(x, axis)))
    return out


def var(x: Tile, axis: Axes, dtype: object = None, keepdims: builtins.bool = False) -> Tile:
    """Variance over the last free axes; the axes stay with size 1."""
    m = mean(x, axis, float32, keepdims=True)
    return mean(square(_binary("subtract", x, m, float32)), axis, dtype or x.dtype, keepdims=True)


def softmax(x: Tile, axis: Axes = -1, dtype: object = None) -> Tile:
    """exp(x - max) / sum."""
    top = _reduce("maximum", x, axis, float32, True)
    e = _unary("exp", _binary("subtract", x, top, float32))
    total = _reduce("add", e, axis, float32, True)
    return _binary("multiply", e, _unary("reciprocal", total), dtype or x.dtype)


def rms_norm(
    x: Tile, w: Tile, axis: Axes, n: int, epsilon: float = 1e-6, dtype: object = None, compute_dtype: object = None
) -> Tile:
    """x / sqrt(sum(x^2) / n + epsilon) * w."""
    total = _reduce("add", _unary("square", x, float32), axis, float32, True)
    scale = ndarray(total.shape, float32, sbuf)
    vector.tensor_scalar(scale, total, "multiply", 1.0 / n, op1="add", operand1=epsilon)
    normal = _binary("multiply", x, _unary("rsqrt", scale), compute_dtype or float32)
    return _binary("multiply", normal, w, dtype or x.dtype)


def where(condition: Tile, x: object, y: object, dtype: object = None) -> Tile:
    """x where the condition is nonzero, else y."""
    d = as_dtype(dtype) if dtype is not None else _result_dtype(x, y)
    shape = condition.shape
    out = ndarray(shape, d, sbuf)
    if isinstance(y, Tile):
        vector.tensor_copy(out, y if y.shape == shape else _spread(y, shape))
    else:
        vector.memset(out, y)
    keep = condition
    if keep.dtype not in (bool_, uint8, uint16, uint32):
        keep = ndarray(shape, uint8, sbuf)
        vector.tensor_scalar(keep, condition, "not_equal", 0)
    if isinstance(x, Tile):
        x = x if x.shape == shape else _spread(x, shape)
        x = x if x.dtype is d else _copy("copy", x, d)
    selection.tensor_copy_predicated(out, x, keep)
    return out


def dropout(x: Tile, rate: object, dtype: object = None) -> Tile:
    """x with elements set to 0 at the given rate."""
    out = ndarray(x.shape, x.dtype, sbuf)
    generator.dropout(out, x, rate)
    return out if dtype is None else _copy("copy", out, dtype)


def static_cast(value: object, dtype: object) -> object:
    """A tile, or a number, in another format."""
    return _copy("copy", value, dtype) if isinstance(value, Tile) else value


range = static_range
"""A range that takes registers; `builtins.range` is Python's."""
