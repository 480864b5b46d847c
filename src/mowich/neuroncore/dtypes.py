"""Number formats of the NeuronCore and their conversions, on NumPy and ml_dtypes.

Engines read any format into float32, compute in float32, and round to nearest even on write. Integers saturate; the
legacy float8_e4m3 overflows to infinity, float8_e4m3fn to NaN, as ml_dtypes has it. Packed x4 formats hold four narrow
numbers, element 0 in the lowest bits; as arrays they are structured dtypes, so that NumPy can store them but not
compute with them.
"""

from __future__ import annotations

import contextlib
import functools
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Array
from mowich.errors import UserError, unknown

F32 = np.dtype(np.float32)


class DType:
    """A number format. Accepted by NumPy wherever it takes a dtype; equal, with equal hash, to the NumPy dtype that
    stores it, and equal to its name."""

    name: str
    dtype: np.dtype[Any]
    itemsize: int
    part: DType | None
    __slots__ = ("_hash", "bits", "dtype", "is_float", "is_int", "itemsize", "kind", "name", "pack", "part")

    def __init__(self, name: str, dtype: Any, kind: str, part: DType | None = None) -> None:
        self.name = name
        self.dtype = np.dtype(dtype)
        self._hash = hash(self.dtype)
        self.kind = kind
        self.itemsize = self.dtype.itemsize
        self.bits = 8 * self.itemsize
        self.is_float = kind == "float"
        self.is_int = kind in ("int", "uint", "bool")
        self.part = part
        self.pack = 4 if part is not None else 1

    def __repr__(self) -> str:
        return self.name

    __str__ = __repr__

    @property
    def __name__(self) -> str:
        """The name, as functions and classes have it: test runners name cases by it."""
        return self.name

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if isinstance(other, DType):
            return False
        if isinstance(other, str):
            return other == self.name or _ALIASES.get(other) is self
        if other is None:
            return False
        try:
            return bool(self.dtype == np.dtype(other))  # type: ignore[call-overload]
        except TypeError:
            return False

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return self._hash

    def __call__(self, value: object) -> Any:
        """The value as a NumPy scalar of this format."""
        return self.dtype.type(value)

    def __reduce__(self) -> tuple[Any, ...]:
        return as_dtype, (self.name,)


def _packed(name: str, word: str) -> np.dtype[np.generic]:
    return np.dtype([(name, word)])


bool_ = DType("bool_", np.bool_, "bool")
int8 = DType("int8", np.int8, "int")
int16 = DType("int16", np.int16, "int")
int32 = DType("int32", np.int32, "int")
uint8 = DType("uint8", np.uint8, "uint")
uint16 = DType("uint16", np.uint16, "uint")
uint32 = DType("uint32", np.uint32, "uint")
float16 = DType("float16", np.float16, "float")
float32 = DType("float32", np.float32, "float")
bfloat16 = DType("bfloat16", ml_dtypes.bfloat16, "float")
tfloat32 = DType("tfloat32", np.float32, "float")
float8_e4m3 = DType("float8_e4m3", ml_dtypes.float8_e4m3, "float")
float8_e4m3fn = DType("float8_e4m3fn", ml_dtypes.float8_e4m3fn, "float")
float8_e5m2 = DType("float8_e5m2", ml_dtypes.float8_e5m2, "float")
float8_e3m4 = DType("float8_e3m4", ml_dtypes.float8_e3m4, "float")
float8_e8m0fnu = DType("float8_e8m0fnu", ml_dtypes.float8_e8m0fnu, "float")
float4_e2m1fn = DType("float4_e2m1fn", ml_dtypes.float4_e2m1fn, "float")
float8_e4m3fn_x4 = DType("float8_e4m3fn_x4", _packed("float8_e4m3fn_x4", "<u4"), "packed", float8_e4m3fn)
float8_e5m2_x4 = DType("float8_e5m2_x4", _packed("float8_e5m2_x4", "<u4"), "packed", float8_e5m2)
float4_e2m1fn_x4 = DType("float4_e2m1fn_x4", _packed("float4_e2m1fn_x4", "<u2"), "packed", float4_e2m1fn)
PUBLIC = tuple(d for d in list(globals().values()) if type(d) is DType and d is not float4_e2m1fn)
"""The formats that kernels name: all above but the one that is always packed."""
int64 = DType("int64", np.int64, "int")
uint64 = DType("uint64", np.uint64, "uint")
float64 = DType("float64", np.float64, "float")

HOST_ONLY: dict[DType, DType] = {float64: float32, int64: int32, uint64: uint32}
"""Formats that no memory or engine of a NeuronCore has -> what to convert them to. AWS's table of formats ends at 32
bits."""

BY_NAME: dict[str, DType] = {d.name: d for d in (*PUBLIC, float4_e2m1fn, int64, uint64, float64)}
_ALIASES: dict[str, DType] = {
    "bool": bool_,
    "fp32": float32,
    "float": float32,
    "fp16": float16,
    "bf16": bfloat16,
    "tf32": tfloat32,
    "float8e4": float8_e4m3,
    "float8e5": float8_e5m2,
    "float8_e4m3b": float8_e4m3,
    "fp8_e4m3": float8_e4m3,
    "fp8_e5m2": float8_e5m2,
    "int": int32,
}
_BY_NUMPY: dict[np.dtype[np.generic], DType] = {}
for _d in BY_NAME.values():
    _BY_NUMPY.setdefault(_d.dtype, _d)
_CACHE: dict[object, DType] = {}


def as_dtype(given: object) -> DType:
    """Anything that names a format (ours, its name, a NumPy or torch dtype, a scalar type) -> DType. Raises UserError
    for others."""
    if type(given) is DType:
        return given
    try:
        return _CACHE[given]
    except (KeyError, TypeError):
        pass
    found = _find(given)
    with contextlib.suppress(TypeError):
        _CACHE[given] = found
    return found


def _find(given: Any) -> DType:
    name = given if isinstance(given, str) else ""
    if not name and type(given).__module__.startswith("torch"):
        name = str(given).removeprefix("torch.")
    if name:
        name = name.rsplit(".", 1)[-1]
        if name in BY_NAME or name in _ALIASES:
            return BY_NAME.get(name) or _ALIASES[name]
    try:
        dtype = np.dtype(given)
    except (TypeError, ValueError, OverflowError, SyntaxError):  # NumPy reads some words as Python
        is_word = given is None or isinstance(given, str | int | float | type)
        raise unknown("dtype", str(given) if is_word else type(given).__name__, BY_NAME) from None
    if dtype.names and dtype.names[0] in BY_NAME:
        return BY_NAME[dtype.names[0]]
    if dtype in _BY_NUMPY:
        return _BY_NUMPY[dtype]
    raise UserError(
        "an array of this type cannot enter a kernel", given=str(dtype), allowed=", ".join(map(str, PUBLIC))
    )


# conversions
# ---------------------------------------------------------------------------------------------------------------


_WORD = {8: np.uint8, 16: np.uint16}


_FEW = 1024
"""Elements up to which a cast takes less than a look-up."""
LOOKUP_BLOCK = 1 << 16
"""Elements that are looked up at a time: their 64-bit indices stay in a cache."""


def _table(dtype: DType) -> NDArray[np.float32]:
    """All values of an 8-bit format, or of float16, as float32: faster than the cast (float16: twice), and the same
    bits."""
    values: NDArray[np.float32] = (
        np.arange(1 << dtype.bits).astype(_WORD[dtype.bits]).view(dtype.dtype).astype(np.float32)
    )
    return values


_TABLES: dict[DType, NDArray[np.float32]] = {
    d: _table(d) for d in (float16, float8_e4m3, float8_e4m3fn, float8_e5m2, float8_e3m4, float8_e8m0fnu)
}
_LIMITS: dict[np.dtype[np.generic], tuple[float, float]] = {
    d.dtype: (float(np.iinfo(d.dtype).min), float(np.iinfo(d.dtype).max))
    for d in (int8, int16, int32, uint8, uint16, uint32, int64, uint64)
}


def int_limits(dtype: DType) -> tuple[float, float]:
    """Least and largest number of a format of whole numbers; for others there are no such bounds.

    >>> int_limits(int8)
    (-128.0, 127.0)
    """
    return _LIMITS.get(dtype.dtype, (-np.inf, np.inf))


def to_f32(array: Array, dtype: DType) -> NDArray[np.float32]:
    """Stored elements -> float32, exactly (32-bit integers round to nearest even). May return the array itself, never
    write to it."""
    if array.dtype is F32 or array.dtype == F32:
        return array
    table = _TABLES.get(dtype)
    if table is not None:
        words = array.view(_WORD[dtype.bits])
        if words.size <= LOOKUP_BLOCK:
            return table.take(words)
        out, flat = np.empty(words.size, np.float32), words.reshape(-1)
        for at in range(0, words.size, LOOKUP_BLOCK):
            table.take(flat[at : at + LOOKUP_BLOCK], out=out[at : at + LOOKUP_BLOCK], mode="clip")
        return out.reshape(words.shape)
    if dtype.part is not None:
        raise UserError(
            f"{dtype} elements are packed: only matmul with scales reads them as numbers",
            allowed="nc_matmul_mx, dma_copy, tensor_copy",
        )
    return array.astype(np.float32)


def round_tf32(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 -> nearest number with 10 bits of mantissa, ties to even; infinities and NaN stay.

    >>> float(round_tf32(np.array([1 + 2**-11, 1 + 3 * 2**-11], np.float32))[1])
    1.001953125
    """
    bits = x.view(np.uint32)
    rounded = bits + np.uint32(0xFFF) + ((bits >> np.uint32(13)) & np.uint32(1))
    rounded &= np.uint32(0xFFFFE000)
    special = (bits & np.uint32(0x7F800000)) == np.uint32(0x7F800000)
    return np.where(special, bits, rounded).view(np.float32)


def to_int(x: Array, dtype: np.dtype[np.generic]) -> Array:
    """Numbers -> integers: nearest even, saturating; NaN becomes 0.

    >>> to_int(np.array([2.5, -1.0, 300.0, np.nan]), np.dtype(np.uint8)).tolist()
    [2, 0, 255, 0]
    """
    low, high = _LIMITS[dtype]
    if x.dtype.kind in "iu":
        return np.clip(x.astype(np.int64), int(low), int(high)).astype(dtype)
    wide = np.rint(x.astype(np.float64))
    np.clip(wide, low, high, out=wide)
    bad = np.isnan(wide)
    if bad.any():
        wide[bad] = 0.0
    return wide.astype(dtype)


def cast(x: Array, dtype: DType) -> Array:
    """Computed values (float32, or exact integers) -> elements of a format, as an engine writes them."""
    to = dtype.dtype
    if x.dtype == to and dtype is not tfloat32:
        return x
    if dtype.is_float:
        if x.dtype.kind in "iub":
            x = x.astype(np.float32)
        return _narrow(x, dtype) if to.itemsize == 1 and x.size > _FEW and x.dtype == F32 else x.astype(to)
    if dtype.kind == "bool":
        return np.asarray(x != 0)
    if dtype.is_int:
        if x.dtype.kind == "b":
            return x.astype(to)
        return to_int(x, to)
    raise UserError(f"an engine cannot write {dtype}", allowed="quantize_mx writes packed formats")


def rounded_stochastically(x: Array, dtype: DType, random: np.random.Generator) -> Array:
    """float32 -> elements of a narrower floating-point format: one of the two neighbours of each number, the nearer
    with the greater chance, so that the mean is the number. What the format has, infinities and NaN stay."""
    nearest = cast(x, dtype)
    back = to_f32(nearest, dtype)
    off = x - back
    other = np.nextafter(nearest, np.where(off > 0, np.inf, -np.inf).astype(dtype.dtype))
    step = np.abs(to_f32(other, dtype) - back)
    chance = np.where(np.isfinite(step) & (step > 0), np.abs(off) / np.where(step > 0, step, 1), 0)
    return np.where(random.random(x.shape, dtype=np.float32) < chance, other, nearest)


@functools.cache
def _narrow_words(dtype: DType) -> Array:
    """An 8-bit format's element for the upper 16 bits of each float32."""
    with np.errstate(all="ignore"):
        return (np.arange(1 << 16, dtype=np.uint32) << np.uint32(16)).view(np.float32).astype(dtype.dtype)


def _narrow(x: NDArray[np.float32], dtype: DType) -> Array:
    """float32 -> an 8-bit format by look-up, a fifth of the time of the cast, and the same bits.

    The 16 lower bits of a float32 only decide whether it lies above a number or half-way between two, and the last of
    the upper 16 bits does not reach an 8-bit mantissa: set where any lower bit is (rounding to odd), it decides as they
    would.
    """
    words, bits = _narrow_words(dtype), np.ascontiguousarray(x).view(np.uint32).reshape(-1)
    out = np.empty(x.size, dtype.dtype)
    for at in range(0, x.size, LOOKUP_BLOCK):
        part = bits[at : at + LOOKUP_BLOCK]
        upper = (part >> np.uint32(16)).astype(np.uint16)
        upper |= part.astype(np.uint16) != 0
        words.take(upper, out=out[at : at + LOOKUP_BLOCK], mode="clip")
    return out.reshape(x.shape)


def _part_of(dtype: DType) -> DType:
    if dtype.part is None:
        raise UserError("not a packed format", given=str(dtype))
    return dtype.part


def unpack(words: Array, dtype: DType) -> NDArray[np.float32]:
    """Packed elements [..., F] -> the float32 values of their parts [..., F, 4], part 0 from the lowest bits."""
    part = _part_of(dtype)
    if part is float4_e2m1fn:
        values: NDArray[np.float32] = _fp4_words().take(np.ascontiguousarray(words).view(np.uint16), axis=0)
        return values
    pairs = np.ascontiguousarray(words).view(np.uint16)
    return _pairs(part).take(pairs, axis=0, mode="clip").reshape(*words.shape, 4)


def unpack_by_part(words: Array, dtype: DType) -> NDArray[np.float32]:
    """Packed elements [P, F] -> the float32 values of their parts [P, 4, F].

    >>> values = np.arange(8, dtype=np.float32).reshape(1, 8)
    >>> [list(map(int, part)) for part in unpack_by_part(pack(values, float8_e4m3fn_x4), float8_e4m3fn_x4)[0]]
    [[0, 4], [1, 5], [2, 6], [3, 7]]
    """
    part = _part_of(dtype)
    p, f = words.shape
    nibbles = part is float4_e2m1fn
    bits: Any = np.ascontiguousarray(words).view(np.uint16 if nibbles else np.uint32)
    parts = np.empty((p, 4, f), np.uint8)
    for k in range(4):
        parts[:, k] = bits >> 4 * k & 15 if nibbles else bits >> 8 * k
    pairs = _pairs(part).take(parts.reshape(-1).view(np.uint16), axis=0, mode="clip")
    return np.asarray(pairs.reshape(p, 4, f))


@functools.cache
def _pairs(part: DType) -> NDArray[np.float32]:
    """The two numbers that two bytes stand for, the first from the lower one: half of the look-ups of one by one."""
    table = np.resize(FP4_VALUES, 256) if part is float4_e2m1fn else _TABLES[part]
    found: NDArray[np.float32] = table[np.arange(1 << 16)[:, None] >> np.array([0, 8]) & 255]
    return found


@functools.cache
def _fp4_words() -> NDArray[np.float32]:
    """The four numbers of each of the 65,536 words of float4_e2m1fn_x4: a look-up of 16 bytes, where one by one takes
    four of 4."""
    words = np.arange(1 << 16)[:, None] >> np.arange(0, 16, 4)
    found: NDArray[np.float32] = FP4_VALUES[words & 15]
    return found


def pack(values: NDArray[np.float32], dtype: DType) -> Array:
    """float32 values [..., 4 F] -> packed elements [..., F] (nearest even, in the range of the part)."""
    part = _part_of(dtype)
    parts = np.ascontiguousarray(cast(values, part))
    if part is float4_e2m1fn:
        nib = parts.view(np.uint8).reshape(*values.shape[:-1], -1, 4).astype(np.uint16) & np.uint16(15)
        word = nib[..., 0] | nib[..., 1] << 4 | nib[..., 2] << 8 | nib[..., 3] << 12
        return np.ascontiguousarray(word.astype("<u2")).view(dtype.dtype)
    return parts.view(np.uint8).view("<u4").view(dtype.dtype)


FP4_VALUES = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
"""The 16 numbers of float4_e2m1fn, by their bits."""
