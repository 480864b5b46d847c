"""`nki.language`.

Written by `tools/nki_stubs.py` from what `help` shows. Do not edit."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import AbstractContextManager
from mowich.neuroncore.access import Place
from mowich.neuroncore.dtypes import DType
from mowich.neuroncore.memory import MemoryRegion
from mowich.neuroncore.registers import NkiScalar
from mowich.neuroncore.registers import Register as VirtualRegister
from mowich.neuroncore.views import DynamicSlice
from mowich.nki.control import LoopBound
from mowich.nki.language import Axes
from mowich.nki.sizes import _Fp32
from mowich.nki.sizes import _TileSize
from typing import SupportsInt
import builtins
from mowich.nki.objects import NKIObject as NKIObject
from mowich.nki.grids import NkiBlockGrid as NkiBlockGrid
from mowich.nki.grids import NkiGrid as NkiGrid
from mowich.neuroncore.views import Tile
NkiTensor = Tile
from mowich.nki.grids import NkiTileGrid as NkiTileGrid
from mowich.nki.language import par_dim as par_dim
bfloat16: DType
bool: DType
bool_: DType
float16: DType
float32: DType
float4_e2m1fn_x4: DType
float8_e3m4: DType
float8_e4m3: DType
float8_e4m3b: DType
float8_e4m3fn: DType
float8_e4m3fn_x4: DType
float8_e5m2: DType
float8_e5m2_x4: DType
float8_e8m0fnu: DType
fp32: _Fp32
hbm: MemoryRegion
int16: DType
int32: DType
int64: DType
int8: DType
private_hbm: MemoryRegion
psum: MemoryRegion
sbuf: MemoryRegion
shared_hbm: MemoryRegion
tfloat32: DType
tile_size: _TileSize
uint16: DType
uint32: DType
uint8: DType
def abs(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """magnitude"""
def abs_max(x: NkiTensor | float, y: NkiTensor | float, dtype: object = None) -> NkiTensor:
    """the one of x and y that is larger in magnitude (y when equal)"""
def abs_min(x: NkiTensor | float, y: NkiTensor | float, dtype: object = None) -> NkiTensor:
    """the one of x and y that is smaller in magnitude (y when equal)"""
def add(x: NkiTensor | float, y: NkiTensor | float, dtype: object = None) -> NkiTensor:
    """x + y"""
def affine_range(start: Place, stop: Place | None = None, step: Place = 1) -> Iterable[int]:
    """range: iterations without order."""
def all(x: NkiTensor, axis: Axes, dtype: object = None) -> NkiTensor:
    """1 where every element along the axes is nonzero."""
def alloc_blocks(
    *,
    tile_shape: tuple[int, ...],
    block_shape: tuple[int, ...],
    element_shape: tuple[int, ...],
    buffer: MemoryRegion,
    dtype: object,
    address: tuple[int, int] | None = None,
    name: str = '',
) -> NkiBlockGrid:
    """The same tensor as `alloc_tiles` makes, as a grid of blocks of `block_shape` tiles."""
def alloc_tiles(
    *,
    tile_shape: tuple[int, ...],
    element_shape: tuple[int, ...],
    buffer: MemoryRegion,
    dtype: object,
    address: tuple[int, int] | None = None,
    name: str = '',
) -> NkiTileGrid:
    """One tensor for `element_shape` elements, not initialised, as a grid of tiles; address: (partition, byte)."""
def arctan(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """inverse tangent"""
def average(x: NkiTensor | float, y: NkiTensor | float, dtype: object = None) -> NkiTensor:
    """mean, as a reduction"""
def bitwise_and(x: NkiTensor | float, y: NkiTensor | float, dtype: object = None) -> NkiTensor:
    """bits of x and y"""
def bitwise_or(x: NkiTensor | float, y: NkiTensor | float, dtype: object = None) -> NkiTensor:
    """bits of x or y"""
def bitwise_xor(x: NkiTensor | float, y: NkiTensor | float, dtype: object = None) -> NkiTensor:
    """bits of x xor y"""
def blocks(
    source: NkiTensor | NkiGrid,
    *,
    tile_shape: tuple[int, ...] | None = None,
    block_shape: tuple[int, ...],
) -> NkiBlockGrid:
    """The same, counting blocks of `block_shape` tiles."""
def broadcast_to(x: NkiTensor, shape: Iterable[SupportsInt], dtype: object = None) -> NkiTensor:
    """A tile repeated along its dimensions of size 1; partitions are repeated by copying."""
def bypass(x: NkiTensor | float, y: NkiTensor | float, dtype: object = None) -> NkiTensor:
    """the data unchanged"""
def ceil(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """smallest integer not below x"""
def copy(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """a copy in SBUF"""
def cos(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """cosine of any angle"""
def device_print(print_prefix: str, tensor: object = None) -> None:
    """Print a tile."""
def divide(x: NkiTensor | float, y: NkiTensor | float, dtype: object = None) -> NkiTensor:
    """x / y"""
def dropout(x: NkiTensor, rate: object, dtype: object = None) -> NkiTensor:
    """x with elements set to 0 at the given rate."""
def ds(start: Place, size: SupportsInt) -> slice | DynamicSlice:
    """`size` elements from `start`: a slice, dynamic where `start` is a register."""
def dslice(start: Place, size: SupportsInt) -> slice | DynamicSlice:
    """`size` elements from `start`: a slice, dynamic where `start` is a register."""
def dynamic_range(start: Place, stop: Place | None = None, step: Place = 1) -> Iterator[int]:
    """range on the device: bounds may be registers. Gone from NKI 0.7: `fori_loop` does it."""
def empty_like(x: NkiTensor, dtype: object = None, buffer: object = None, name: str = '') -> NkiTensor:
    """A new tensor of the shape of x."""
def equal(x: NkiTensor | float, y: NkiTensor | float, dtype: object = None) -> NkiTensor:
    """1 where x == y"""
def erf(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """error function"""
def erf_dx(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """derivative of erf"""
def exp(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """e to the power x"""
def expand_dims(x: NkiTensor, axis: int) -> NkiTensor:
    """A view with a new dimension of size 1."""
def floor(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """largest integer not above x"""
def fmod(x: NkiTensor | float, y: NkiTensor | float, dtype: object = None) -> NkiTensor:
    """remainder of x / y, with the sign of x"""
def fori_loop(lower: LoopBound, upper: LoopBound, body_fun: Callable[..., object], step: int = 1) -> None:
    """body_fun(i) on the device for each i of range(lower, upper, step). Python traces the body once; i is a number of
    the device, which .ap(scalar_offset=i) takes. Each turn ends with a drain and a barrier over all engines."""
def full(
    shape: object,
    fill_value: object,
    dtype: object,
    buffer: object = None,
    name: str = '',
) -> NkiTensor:
    """A tensor of one value."""
def gather_flattened(data: NkiTensor, indices: NkiTensor, axis: int = 0, dtype: object = None) -> NkiTensor:
    """Elements of each partition at flattened indices."""
def gelu(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """x times the normal distribution function"""
def gelu_apprx_sigmoid(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """x * sigmoid(1.702 x)"""
def gelu_apprx_sigmoid_dx(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """derivative of gelu_apprx_sigmoid"""
def gelu_apprx_tanh(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """gelu by tanh"""
def gelu_dx(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """derivative of gelu"""
def greater(x: NkiTensor | float, y: NkiTensor | float, dtype: object = None) -> NkiTensor:
    """1 where x > y"""
def greater_equal(x: NkiTensor | float, y: NkiTensor | float, dtype: object = None) -> NkiTensor:
    """1 where x >= y"""
def invert(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """bits inverted"""
def is_hbm(buffer: object) -> builtins.bool:
    """True for any HBM."""
def is_on_chip(buffer: object) -> builtins.bool:
    """True for SBUF and PSUM."""
def is_psum(buffer: object) -> builtins.bool:
    """True for PSUM."""
def is_sbuf(buffer: object) -> builtins.bool:
    """True for SBUF."""
def left_shift(x: NkiTensor | float, y: NkiTensor | float, dtype: object = None) -> NkiTensor:
    """x shifted left by y bits"""
def less(x: NkiTensor | float, y: NkiTensor | float, dtype: object = None) -> NkiTensor:
    """1 where x < y"""
def less_equal(x: NkiTensor | float, y: NkiTensor | float, dtype: object = None) -> NkiTensor:
    """1 where x <= y"""
def load(src: NkiTensor, dtype: object = None) -> NkiTensor:
    """HBM -> a new SBUF tile."""
def load_transpose2d(src: NkiTensor, dtype: object = None) -> NkiTensor:
    """HBM [A, B] -> SBUF [B, A]."""
def log(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """natural logarithm"""
def logical_and(x: NkiTensor | float, y: NkiTensor | float, dtype: object = None) -> NkiTensor:
    """1 where both are nonzero"""
def logical_not(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """1 where x is zero"""
def logical_or(x: NkiTensor | float, y: NkiTensor | float, dtype: object = None) -> NkiTensor:
    """1 where one is nonzero"""
def logical_xor(x: NkiTensor | float, y: NkiTensor | float, dtype: object = None) -> NkiTensor:
    """1 where exactly one is nonzero"""
def matmul(x: NkiTensor, y: NkiTensor, transpose_x: builtins.bool = False) -> NkiTensor:
    """x @ y, or x.T @ y with transpose_x, in PSUM (float32)."""
def max(x: NkiTensor, axis: Axes, dtype: object = None, keepdims: builtins.bool = False) -> NkiTensor:
    """Maximum over the last free axes."""
def maximum(x: NkiTensor | float, y: NkiTensor | float, dtype: object = None) -> NkiTensor:
    """the larger of x and y"""
def mean(x: NkiTensor, axis: Axes, dtype: object = None, keepdims: builtins.bool = False) -> NkiTensor:
    """Mean over the last free axes."""
def min(x: NkiTensor, axis: Axes, dtype: object = None, keepdims: builtins.bool = False) -> NkiTensor:
    """Minimum over the last free axes."""
def minimum(x: NkiTensor | float, y: NkiTensor | float, dtype: object = None) -> NkiTensor:
    """the smaller of x and y"""
def mish(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """x * tanh(softplus(x))"""
def mod(x: NkiTensor | float, y: NkiTensor | float, dtype: object = None) -> NkiTensor:
    """x modulo y, with the sign of y"""
def multiply(x: NkiTensor | float, y: NkiTensor | float, dtype: object = None) -> NkiTensor:
    """x * y"""
def ndarray(
    shape: object,
    dtype: object,
    buffer: object = None,
    name: str = '',
    address: object = None,
) -> NkiTensor:
    """A new tensor; address = (partition, byte) places it by hand."""
def negative(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """-x"""
def no_reorder() -> AbstractContextManager[None]:
    """Instructions inside keep their order."""
def not_equal(x: NkiTensor | float, y: NkiTensor | float, dtype: object = None) -> NkiTensor:
    """1 where x != y"""
def num_programs(axes: int | Sequence[int] | None = 0) -> int:
    """Programs along axes of the grid."""
def ones(shape: object, dtype: object, buffer: object = None, name: str = '') -> NkiTensor:
    """A tensor of ones."""
def power(x: NkiTensor | float, y: NkiTensor | float, dtype: object = None) -> NkiTensor:
    """x to the power y"""
def prelu(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """x, or x * slope where negative"""
def prod(x: NkiTensor, axis: Axes, dtype: object = None, keepdims: builtins.bool = False) -> NkiTensor:
    """Product over the last free axes."""
def program_id(axis: int = 0) -> int:
    """Index of this program along an axis of the grid."""
def program_ndim() -> int:
    """Dimensions of the grid; 0 without one."""
def rand(shape: object, dtype: object = ..., buffer: object = None, name: str = '') -> NkiTensor:
    """Uniform numbers in [0, 1)."""
def random_seed(seed: SupportsInt | NkiTensor) -> None:
    """Seed the generator."""
def range(start: Place, stop: Place | None = None, step: Place = 1) -> Iterable[int]:
    """range: unrolled."""
def reciprocal(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """1 / x"""
def relu(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """max(x, 0)"""
def right_shift(x: NkiTensor | float, y: NkiTensor | float, dtype: object = None) -> NkiTensor:
    """x shifted right by y bits, zeros entering"""
def rms_norm(
    x: NkiTensor,
    w: NkiTensor,
    axis: Axes,
    n: int,
    epsilon: float = 1e-06,
    dtype: object = None,
    compute_dtype: object = None,
) -> NkiTensor:
    """x / sqrt(sum(x^2) / n + epsilon) * w."""
def rsqrt(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """1 / square root"""
def sequential_range(start: Place, stop: Place | None = None, step: Place = 1) -> Iterable[int]:
    """range: iterations in order."""
def shared_constant(constant: object) -> NkiTensor:
    """An HBM tensor with the data of an array, or of an .npy file."""
def shared_identity_matrix(n: int, dtype: object = ..., dst: NkiTensor | None = None) -> NkiTensor:
    """An identity matrix in SBUF."""
def sigmoid(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """1 / (1 + exp(-x))"""
def sign(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """-1, 0 or 1"""
def silu(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """x * sigmoid(x)"""
def silu_dx(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """derivative of silu"""
def sin(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """sine of any angle"""
def softmax(x: NkiTensor, axis: Axes = -1, dtype: object = None) -> NkiTensor:
    """exp(x - max) / sum."""
def softplus(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """log(1 + exp(x))"""
def sqrt(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """square root"""
def square(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """x * x"""
def static_assert(condition: object, message: str = '') -> None:
    """Raise where the condition does not hold."""
def static_cast(value: object, dtype: object) -> object:
    """A tile, or a number, in another format."""
def static_range(start: Place, stop: Place | None = None, step: Place = 1) -> Iterable[int]:
    """range: unrolled."""
def store(dst: NkiTensor, value: object = None) -> None:
    """SBUF tile -> HBM."""
def subtract(x: NkiTensor | float, y: NkiTensor | float, dtype: object = None) -> NkiTensor:
    """x - y"""
def sum(x: NkiTensor, axis: Axes, dtype: object = None, keepdims: builtins.bool = False) -> NkiTensor:
    """Sum over the last free axes."""
def tan(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """tangent"""
def tanh(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """hyperbolic tangent"""
def tiles(source: NkiTensor | NkiGrid, *, tile_shape: tuple[int, ...] | None = None) -> NkiTileGrid:
    """A view of a tensor, or of a grid, that counts tiles of its last dimensions. Elements are those of a tile; without
    tile_shape the tiles of the grid stay. Raises TypeError for a shape that is no tuple of whole numbers, ValueError
    for one that does not fit.

    Example: `nl.tiles(x, tile_shape=(128, 512))[i, j].data`"""
def transpose(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """x transposed, in PSUM."""
def trunc(x: NkiTensor, dtype: object = None) -> NkiTensor:
    """x without its fraction"""
def var(x: NkiTensor, axis: Axes, dtype: object = None, keepdims: builtins.bool = False) -> NkiTensor:
    """Variance over the last free axes; the axes stay with size 1."""
def where(condition: NkiTensor, x: object, y: object, dtype: object = None) -> NkiTensor:
    """x where the condition is nonzero, else y."""
def while_loop(
    init: VirtualRegister | NkiScalar,
    body_fun: Callable[..., VirtualRegister | NkiScalar],
) -> None:
    """r = init, and r = body_fun(r) on the device while r is not 0. Python traces the body once; it returns the next
    condition. Scalars of nl.int32 as conditions are inferred: AWS's page names registers."""
def zeros(shape: object, dtype: object, buffer: object = None, name: str = '') -> NkiTensor:
    """A tensor of zeros."""
def zeros_like(x: NkiTensor, dtype: object = None, buffer: object = None, name: str = '') -> NkiTensor:
    """Zeros of the shape of x."""
