"""`neuronxcc.nki.language`: the older names. Functions return new tensors; `mask=` leaves elements out; indices are
arrays."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import SupportsInt, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mowich.neuroncore import core as machine
from mowich.neuroncore import dtypes, ops
from mowich.neuroncore import memory as mem
from mowich.neuroncore.access import element_places, elements_at, put_elements, storage_of, whole_view
from mowich.neuroncore.core import fail
from mowich.neuroncore.instructions import dma, gpsimd, vector
from mowich.neuroncore.instructions.issue import issue
from mowich.neuroncore.instructions.operands import reduce_last
from mowich.neuroncore.memory import MemoryRegion
from mowich.neuroncore.views import Tile
from mowich.nki import language as now
from mowich.nki import loops, words
from mowich.nki.beta1.compiler import Placement
from mowich.nki.beta1.index import Affine, irregular, line, partial
from mowich.nki.beta1.operators import OPERATORS, values_taken
from mowich.nki.beta1.tensor import (
    PendingProduct,
    Reduction,
    Tensor,
    TileBlocks,
    call_operator,
    flush,
    moved,
    new,
    operand,
    part,
    read_tensor,
    tensor_f32,
    wrap_tiles,
    write_tensor,
)
from mowich.nki.language import Axes

Shape: TypeAlias = SupportsInt | Iterable[SupportsInt]
"""Sizes of the dimensions of a tensor, or the size of its only one."""

__path__: list[str] = []
__getattr__ = words.missing(__name__)
constants = sys.modules[__name__]
"""`from neuronxcc.nki.language.constants import sizeinbytes`: it is here."""

par_dim = now.par_dim
sbuf, psum, hbm, private_hbm, shared_hbm = now.sbuf, now.psum, now.hbm, now.private_hbm, now.shared_hbm
tile_size, fp32 = now.tile_size, now.fp32
program_id, num_programs, program_ndim, static_assert = (
    now.program_id,
    now.num_programs,
    now.program_ndim,
    now.static_assert,
)
for _format in dtypes.PUBLIC:
    globals()[_format.name] = _format
bool_ = dtypes.bool_


def sizeinbytes(dtype: object) -> int:
    """Bytes of an element."""
    return dtypes.as_dtype(dtype).itemsize


class nc(int):
    """`nl.nc(2)`: the physical cores that a grid is spread over."""


def spmd_dim(*dims: SupportsInt) -> int:
    """A dimension of the grid that is spread over cores: its size."""
    size = 1
    for d in dims:
        size *= int(d)
    return size


# indices
# --------------------------------------------------------------------------------------------------------------------


def arange(*bounds: SupportsInt) -> Affine:
    """0, 1, 2 ... as an index expression; give it dimensions with `[:, None]`."""
    return line(bounds)


class IndexGrid(tuple[Affine, ...]):
    """`nl.mgrid[0:p, 0:n]`: one index expression per dimension, also as .p, .x, .y, .z, .w."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Affine:
        if name in ("p", "x", "y", "z", "w"):
            return self["pxyzw".index(name)]
        raise AttributeError(name)


class _Mgrid:
    def __getitem__(self, key: slice | tuple[slice, ...]) -> IndexGrid:
        keys = key if isinstance(key, tuple) else (key,)
        lines = [builtins.range(int(k.start or 0), int(k.stop), int(k.step or 1)) for k in keys]
        shape = tuple(len(numbers) for numbers in lines)
        return IndexGrid(
            Affine(shape, numbers.start, tuple(numbers.step if d == axis else 0 for d in builtins.range(len(lines))))
            for axis, numbers in enumerate(lines)
        )


mgrid = _Mgrid()


def ds(start: SupportsInt, size: SupportsInt) -> slice:
    """`size` elements from `start`."""
    return slice(int(start), int(start) + int(size))


dslice = ds


# tensors
# --------------------------------------------------------------------------------------------------------------------


def _place(buffer: object) -> tuple[MemoryRegion, object]:
    """Memory, and address where the buffer was made by an allocator of `nki.compiler`."""
    if buffer is None:
        return sbuf, None
    if isinstance(buffer, Placement):
        return buffer.region, None  # modulo allocation names addresses for a compiler: live ranges are checked instead
    return mem.as_region(buffer), None


def ndarray(shape: Shape, dtype: object, buffer: object = None, name: str = "", **_: object) -> Tensor:
    """A new tensor; the partition dimension is the first one, or the one given as par_dim."""
    flush()
    dims = tuple(shape) if isinstance(shape, Iterable) else (shape,)
    region, address = _place(buffer)
    return new(dims, dtype, region, name or "", address)


def full(shape: Shape, fill_value: object, dtype: object, buffer: object = None, name: str = "", **_: object) -> Tensor:
    """A tensor of one value."""
    out = ndarray(shape, dtype, buffer, name)
    if isinstance(out, TileBlocks):
        out.fill = fill_value
        return out
    if out.tile.on_chip:  # the whole allocation, whichever dimension the partitions are of the tensor
        vector.memset(whole_view(out.tile), fill_value)
    else:
        now._fill_hbm(out.tile, np.asarray(fill_value, np.float32 if out.tile.dtype.is_float else np.int64))
    return out


def zeros(shape: Shape, dtype: object, buffer: object = None, name: str = "", **_: object) -> Tensor:
    """A tensor of zeros."""
    return full(shape, 0, dtype, buffer, name)


def ones(shape: Shape, dtype: object, buffer: object = None, name: str = "", **_: object) -> Tensor:
    """A tensor of ones."""
    return full(shape, 1, dtype, buffer, name)


def zeros_like(a: Tensor, dtype: object = None, buffer: object = None, name: str = "", **_: object) -> Tensor:
    """Zeros of the shape of a."""
    return full(a.shape, 0, dtype or a.dtype, buffer or a.buffer, name)


def empty_like(a: Tensor, dtype: object = None, buffer: object = None, name: str = "", **_: object) -> Tensor:
    """A new tensor of the shape of a."""
    return ndarray(a.shape, dtype or a.dtype, buffer or a.buffer, name)


def rand(shape: Sequence[SupportsInt], dtype: object = "float32", **_: object) -> Tensor:
    """Uniform numbers in [0, 1)."""
    return wrap_tiles(now.rand(tuple(int(n) for n in shape), dtype))


def random_seed(seed: SupportsInt | Tensor, **_: object) -> None:
    """Seed the generator."""
    now.random_seed(operand(seed) if isinstance(seed, Tensor) else seed)


def shared_constant(constant: object, dtype: object = None, **_: object) -> Tensor:
    """An HBM tensor with the data of an array."""
    return wrap_tiles(now.shared_constant(constant, dtype))


def shared_identity_matrix(n: int, dtype: object = "uint8", **_: object) -> Tensor:
    """An identity matrix in HBM."""
    return shared_constant(np.eye(int(n), dtype=np.float32), dtype)


def load(src: Tensor, mask: object = None, dtype: object = None, **_: object) -> Tensor:
    """HBM -> a new SBUF tensor. With a mask, the other elements hold what betrays them (NaN): kernels compute on them,
    and leave them out when they store."""
    flush()
    mask = partial(mask)
    out = new(src.shape, dtype or src.dtype)
    if mask is None and src.is_box and out.ndim >= 2:
        dma.copy(out.tile, src.tile)
        return out
    keep = None if mask is None else np.broadcast_to(np.asarray(mask), src.shape)
    if moved(out, src, keep):
        a = np.ascontiguousarray(read_tensor(src, keep))
        write_tensor(out, dma.convert(a, src.dtype, out.dtype), keep)
        if keep is not None:
            storage_of(out.tile).whole()
    out.valid = keep
    return out


def store(dst: Tensor, value: object = None, mask: object = None, **_: object) -> None:
    """SBUF -> HBM; with a mask, or the mask under which the value was made, only there."""
    flush()
    mask = partial(mask)
    if not isinstance(value, Tensor):
        value = full(dst.shape if dst.ndim >= 2 else (1, *dst.shape) if dst.ndim else (1, 1), value, dst.dtype)
    value.check_under(mask)
    if value.tile.space == "P":
        valid = value.valid
        value = call_operator("copy", value)
        value.valid = valid
    if mask is None and dst.is_box and value.is_box and value.valid is None:
        dma.copy(dst.tile, value.tile)
        return
    keep = np.broadcast_to(np.asarray(mask), dst.shape) if mask is not None else None
    if value.valid is not None and value.size == dst.size and not dst.is_box and mask is None:
        keep = value.valid.reshape(dst.shape)
    if moved(dst, value, keep if value.size == dst.size else None):
        write_tensor(dst, dma.convert(np.ascontiguousarray(read_tensor(value, keep)), value.dtype, dst.dtype), keep)


def load_transpose2d(src: Tensor, mask: object = None, dtype: object = None, **_: object) -> Tensor:
    """HBM [A, B] -> SBUF [B, A]."""
    flush()
    return wrap_tiles(now.load_transpose2d(src.tile if src.is_box else operand(src, mask, is_aligned=False), dtype))


def atomic_rmw(dst: Tensor, value: Tensor, op: object, mask: object = None, **_: object) -> None:
    """dst = dst op value in HBM, element by element."""
    flush()
    row = ops.alu(op)
    keep = None if partial(mask) is None else np.broadcast_to(np.asarray(mask), dst.shape)
    to = part(dst, keep)
    if to is None or not issue(
        "dma_compute", "", (("dst", to),), (("src0", to), ("src1", operand(value, mask))), {"op": row.name}
    ):
        return
    a, where = np.broadcast_to(tensor_f32(value), dst.shape), element_places(dst.tile)
    for i in np.ndindex(*dst.shape):
        put_elements(dst.tile, where[i], row.apply(np.float32(elements_at(dst.tile, where[i])), a[i]))


def expand_dims(data: Tensor, axis: int) -> Tensor:
    """A view with a new dimension of size 1."""
    axis = int(axis) % (data.ndim + 1)
    return data[(slice(None),) * axis + (None,)]


def broadcast_to(
    src: Tensor, shape: Sequence[SupportsInt], dtype: object = None, mask: object = None, **_: object
) -> Tensor:
    """A tensor repeated along its dimensions of size 1."""
    return wrap_tiles(now.broadcast_to(operand(src, mask), tuple(int(n) for n in shape), dtype))


def transpose(x: Tensor, dtype: object = None, mask: object = None, **_: object) -> Tensor:
    """x transposed, in PSUM."""
    flush()
    return wrap_tiles(now.transpose(operand(x, mask, is_aligned=False), dtype))


def matmul(x: Tensor, y: Tensor, transpose_x: builtins.bool = False, mask: object = None, **_: object) -> Tensor:
    """x @ y, or x.T @ y with transpose_x, in PSUM: `psum += nl.matmul(...)` accumulates in the engine."""
    flush()
    x, y = (call_operator("copy", t) if t.tile.space == "P" else t for t in (x, y))
    left, right = operand(x, mask, is_aligned=False), operand(y, mask, is_aligned=False)
    if not transpose_x:
        left = call_operator("copy", Tensor(now.transpose(left))).tile
    return PendingProduct((left.shape[1], right.shape[1]), {"stationary": left, "moving": right})


def gather_flattened(data: Tensor, indices: Tensor, mask: object = None, **_: object) -> Tensor:
    """Elements of each partition at flattened indices."""
    return wrap_tiles(now.gather_flattened(operand(data, mask), operand(indices, mask)))


def loop_reduce(
    x: Tensor,
    op: object,
    loop_indices: SupportsInt | Iterable[SupportsInt] | None = None,
    dtype: object = None,
    **_: object,
) -> Tensor:
    """x, to be added up over the iterations of the loops named: it starts where they all are at 0."""
    same = x.is_box and x.valid is None and (dtype is None or dtypes.as_dtype(dtype) is x.dtype)
    out = Reduction(x.tile if same else call_operator("copy", x, dtype=dtype or x.dtype).tile)
    out.op = ops.alu(op).name
    named = loop_indices if isinstance(loop_indices, Iterable) else () if loop_indices is None else (loop_indices,)
    out.first = bool(named) and not np.any([int(i) for i in named])
    return out


def device_print(prefix: str, x: object = None, **_: object) -> None:
    """Print a tensor."""
    now._print(prefix, read_tensor(x, np.bool_(True)) if isinstance(x, Tensor) else x)


def static_cast(value: object, dtype: DTypeLike) -> object:
    """A tensor, or a host array, in another format."""
    if isinstance(value, Tensor):
        return call_operator("copy", value, dtype=dtype)
    return np.asarray(value).astype(getattr(dtype, "dtype", dtype)) if isinstance(value, np.ndarray) else value


# operators
# ------------------------------------------------------------------------------------------------------------------


globals().update(OPERATORS)


def where(condition: object, x: object, y: object, dtype: object = None, mask: object = None, **_: object) -> Tensor:
    """x where the condition holds, else y."""
    flush()
    chosen = values_taken(condition, mask)
    assert isinstance(chosen, Tile)
    return wrap_tiles(now.where(chosen, operand(x, mask), operand(y, mask), dtype))


def reduce(
    op: str,
    x: Tensor,
    axis: Axes | Tensor,
    dtype: object = None,
    keepdims: builtins.bool = False,
    mask: object = None,
    negate: builtins.bool = False,
) -> Tensor:
    """Reduction over free axes, any of them; elements that a mask leaves out do not count."""
    flush()
    if isinstance(axis, Tensor):
        raise fail(
            "a tensor is no axis",
            tile=operand(axis),
            allowed="an integer or a tuple of them",
            fix=f"nl.{ops.alu(op).name}(a, b) takes two tensors",
        )
    ndim = len(x.shape)
    axes = sorted([int(a) % ndim for a in _listed(axis)])
    row = ops.alu(op)
    x.check_under(mask)
    if mask is not None or x.valid is not None:
        irregular()
        keep = np.broadcast_to(np.asarray(mask if mask is not None else x.valid), x.shape)
        if axes and axes[0] > 0:
            return _reduced(row, x, axes, keep, dtype or x.dtype, keepdims, negate)
        source = new(x.shape, "float32")
        if moved(source, x, keep):
            write_tensor(
                source, np.where(keep, tensor_f32(x, True), np.float32(row.identity if row.identity is not None else 0))
            )
    else:
        source = x if x.is_box else Tensor(operand(x))
    t = operand(source)
    if len(t.shape) != ndim:
        axes = [a + len(t.shape) - ndim for a in axes]
    if axes and axes[0] == 0:
        line = new((t.shape[0], 1), dtype or x.dtype)
        vector.tensor_reduce(line.tile, row.name, t, list(range(1, t.ndim)))
        out = new((1, 1), dtype or x.dtype)
        gpsimd.tensor_partition_reduce(out.tile, row.name, line.tile)
        return out
    rest = [d for d in range(len(t.shape)) if d not in axes]
    if rest and axes and rest[-1] > axes[0]:
        t = t.permute([*rest, *axes])
    kept = tuple(t.shape[: len(rest)])
    shape = tuple(1 if d in axes else n for d, n in enumerate(x.shape)) if keepdims else kept
    shape = shape if len(shape) >= 2 else (*shape, 1)
    out = new(shape, dtype or x.dtype)
    vector.tensor_reduce(out.tile, row.name, t, list(range(len(rest), len(t.shape))), negate)
    return out


def _reduced(
    row: ops.Alu,
    x: Tensor,
    axes: list[int],
    keep: NDArray[np.bool_],
    dtype: object,
    keepdims: builtins.bool,
    negate: builtins.bool,
) -> Tensor:
    """Reduction over free axes of the elements that a mask leaves in: the engine walks the box of them."""
    every = np.asarray(keep.any(axis=tuple(axes), keepdims=True))
    shape = every.shape if keepdims else tuple(n for d, n in enumerate(every.shape) if d not in axes)
    shape = shape if len(shape) >= 2 else (*shape, 1)
    out = new(shape, dtype)
    out.valid = every.reshape(shape)
    data, dst = part(x, keep), part(out, out.valid)
    if data is None or dst is None:
        issued = machine.active().values
    else:
        issued = issue("tensor_reduce", "", (("dst", dst),), (("data", data),), {"op": row.name})
    if issued:
        a = np.where(keep, tensor_f32(x, True), np.float32(row.identity if row.identity is not None else 0))
        last = np.moveaxis(a, axes, range(a.ndim - len(axes), a.ndim))
        found = reduce_last(row, np.ascontiguousarray(last).reshape(*last.shape[: a.ndim - len(axes)], -1))
        write_tensor(out, -found if negate else found)
    return out


def _listed(axis: Axes) -> Iterable[SupportsInt]:
    """Dimensions, one or several."""
    return axis if isinstance(axis, Iterable) else (axis,)


class _Reducer(now.NkiOp):
    """`nl.max` and its like: an operator, and a reduction."""

    def __init__(self, name: str, operator: str) -> None:
        super().__init__(
            operator, lambda op, x, axis, **kwargs: reduce(op, x, axis, **kwargs), f"{name} over free axes"
        )


sum = _Reducer("sum", "add")
prod = _Reducer("product", "multiply")
max = _Reducer("maximum", "maximum")
min = _Reducer("minimum", "minimum")
all = _Reducer("all", "logical_and")
any = _Reducer("any", "logical_or")


def mean(x: Tensor, axis: Axes, dtype: object = None, keepdims: builtins.bool = False, **_: object) -> Tensor:
    """Mean over free axes."""
    n = np.prod([x.shape[int(a)] for a in _listed(axis)])
    return call_operator("multiply", reduce("add", x, axis, "float32", keepdims), float(1 / n), dtype=dtype or x.dtype)


def var(x: Tensor, axis: Axes, dtype: object = None, mask: object = None, **_: object) -> Tensor:
    """Variance over free axes."""
    return wrap_tiles(now.var(operand(x, mask), axis, dtype))


def softmax(x: Tensor, axis: Axes = -1, dtype: object = None, mask: object = None, **_: object) -> Tensor:
    """exp(x - max) / sum."""
    return wrap_tiles(now.softmax(operand(x, mask), axis, dtype))


def dropout(x: Tensor, rate: object, dtype: object = None, mask: object = None, **_: object) -> Tensor:
    """x with elements set to 0 at the given rate."""
    out: Tensor = wrap_tiles(now.dropout(operand(x, mask), operand(rate, mask), dtype))
    if x.valid is not None and x.valid.shape == out.shape:
        out.valid = x.valid
    return out


# loops
# ----------------------------------------------------------------------------------------------------------------------


def affine_range(*bounds: int, **_: object) -> Iterator[int]:
    """range: iterations without order."""
    return iter(loops.over(builtins.range(*[int(b) for b in bounds])))


sequential_range = static_range = affine_range
no_reorder = now.no_reorder
__all__ = ["PendingProduct", "Tile"]
