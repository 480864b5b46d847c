"""Stand-in for AWS's `neuron_dtypes` wheel (not on PyPI), on ml_dtypes; used only where the real one is missing.

The packed x4 types are structured dtypes whose str() contains the name, so that test ids and look-ups work.
"""

from typing import Any

import ml_dtypes
import numpy as np

bfloat16 = np.dtype(ml_dtypes.bfloat16)
float8_e4m3 = np.dtype(ml_dtypes.float8_e4m3)
float8_e4m3fn = np.dtype(ml_dtypes.float8_e4m3fn)
float8_e5m2 = np.dtype(ml_dtypes.float8_e5m2)
float8_e8m0fnu = np.dtype(ml_dtypes.float8_e8m0fnu)
float4_e2m1fn = np.dtype(ml_dtypes.float4_e2m1fn)
float8_e4m3fn_x4 = np.dtype([("float8_e4m3fn_x4", "<u4")])
float8_e5m2_x4 = np.dtype([("float8_e5m2_x4", "<u4")])
float4_e2m1fn_x4 = np.dtype([("float4_e2m1fn_x4", "<u2")])
for _name in ("float32", "float16", "int8", "int16", "int32", "uint8", "uint16", "uint32"):
    globals()[_name] = np.dtype(_name)
tfloat32 = np.dtype(np.float32)
_X4 = {d.names[0]: d for d in (float8_e4m3fn_x4, float8_e5m2_x4, float4_e2m1fn_x4) if d.names}


def to_np(dtype: Any) -> np.dtype:
    if isinstance(dtype, np.dtype):
        return dtype
    name = getattr(dtype, "name", None) or (dtype if isinstance(dtype, str) else None)
    if name is not None:
        name = name.split(".")[-1]
        if name in _X4:
            return _X4[name]
        if isinstance(globals().get(name), np.dtype):
            return globals()[name]
    return np.dtype(dtype)


def unpacked(x: np.ndarray) -> np.ndarray:
    """x4 elements as four times as many narrow ones along the last axis."""
    narrow = getattr(ml_dtypes, str(x.dtype.names[0]).removesuffix("_x4"))
    raw = np.ascontiguousarray(x)
    if x.dtype.itemsize == 4:
        return raw.view(np.uint8).view(narrow)
    words = raw.view("<u2")
    nibbles = np.stack([words >> shift & 15 for shift in (0, 4, 8, 12)], -1).astype(np.uint8)
    return nibbles.reshape(*x.shape[:-1], -1).view(narrow)


def static_cast(x: Any, dtype: Any, **_: Any) -> np.ndarray:
    """Cast as ml_dtypes does; to an x4 type, pack four neighbours of the last axis, the first in the low bits."""
    to, x = to_np(dtype), np.asarray(x)
    if x.dtype == to:
        return x
    with np.errstate(all="ignore"):
        if not to.names:
            return (unpacked(x) if x.dtype.names else x).astype(to)
        if x.dtype.kind in "uV":  # packed already
            return np.ascontiguousarray(x).view(to)
        narrow = np.ascontiguousarray(x.astype(getattr(ml_dtypes, to.names[0].removesuffix("_x4"))))
    if to.itemsize == 4:
        return narrow.view(np.uint8).view("<u4").view(to)
    nibbles = narrow.view(np.uint8).reshape(*narrow.shape[:-1], narrow.shape[-1] // 4, 4).astype(np.uint16) & 15
    packed = nibbles[..., 0] | nibbles[..., 1] << 4 | nibbles[..., 2] << 8 | nibbles[..., 3] << 12
    return packed.astype("<u2").view(to)


def sizeinbytes(dtype: Any) -> int:
    return to_np(dtype).itemsize


def finfo(dtype: Any) -> Any:
    return ml_dtypes.finfo(to_np(dtype))


def is_float_type(dtype: Any) -> bool:
    return to_np(dtype).kind == "f" or "float" in str(to_np(dtype))
