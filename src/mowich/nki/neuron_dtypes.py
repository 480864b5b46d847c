"""`neuron_dtypes`: NumPy dtypes of the Neuron formats, and conversions between them, for tests that prepare and check
kernel arrays."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from mowich.arrays import Array
from mowich.neuroncore import dtypes as formats

for _format in (*formats.PUBLIC, formats.float4_e2m1fn):
    globals()[_format.name] = _format.dtype


def to_np(dtype: object) -> np.dtype[Any]:
    """Any name of a format -> NumPy dtype."""
    return formats.as_dtype(dtype).dtype


def static_cast(x: object, dtype: object, **_: object) -> Array:
    """An array in another format. Packed formats: [.., F] packed <-> [.., 4 F] numbers; integers of the word's size are
    its bits.

    >>> words = static_cast(np.ones((2, 8), np.float32), "float8_e4m3fn_x4")
    >>> words.shape, static_cast(words, np.float32).shape
    ((2, 2), (2, 8))
    """
    a = np.asarray(x)
    source, target = formats.as_dtype(a.dtype), formats.as_dtype(dtype)
    if a.dtype == target.dtype:
        return a
    if source.part is not None:
        if target.part is not None or (target.is_int and target.itemsize == source.itemsize):
            return np.ascontiguousarray(a).view(target.dtype)
        values = formats.unpack(a, source)
        with np.errstate(all="ignore"):
            return values.reshape(*a.shape[:-1], 4 * a.shape[-1]).astype(target.dtype)
    if target.part is not None:
        if a.dtype.kind in "uV":
            return np.ascontiguousarray(a).view(target.dtype)
        with np.errstate(all="ignore"):
            return formats.pack(a.astype(np.float32), target)
    with np.errstate(all="ignore"):
        if source.is_float and source.itemsize == 1:
            a = formats.to_f32(a, source)
        return formats.cast(a, target) if target.is_float and a.dtype == np.float32 else a.astype(target.dtype)


def sizeinbytes(dtype: object) -> int:
    """Bytes per element."""
    return to_np(dtype).itemsize


def finfo(dtype: object) -> Any:
    """Limits of a floating-point format."""
    return ml_dtypes.finfo(to_np(dtype))  # type: ignore[no-untyped-call]


def is_float_type(dtype: object) -> bool:
    """True for floating-point formats, packed ones among them."""
    d = formats.as_dtype(dtype)
    return d.is_float or d.part is not None
