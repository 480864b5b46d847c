"""Kernels for the fuzzers: settings, random arrays of any format, NumPy's casts, comparison bit by bit, and tiles in
and out."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

import mowich.nki.isa as nisa
import mowich.nki.language as nl
from mowich.nki import run_kernel
from mowich.nki.result import Result

NEW = int(os.environ.get("MOWICH_FUZZ", "0"))
FEW = settings(max_examples=NEW or 120, deadline=None, derandomize=not NEW, suppress_health_check=list(HealthCheck))

MANY = settings(FEW, max_examples=NEW or 300)

FLOATS = [nl.float32, nl.bfloat16, nl.float16, nl.float8_e4m3, nl.float8_e5m2, nl.float8_e4m3fn]
INTEGERS = [nl.int8, nl.uint8, nl.int16, nl.uint16, nl.int32, nl.uint32]
DTYPES = [*FLOATS, *INTEGERS]
WORDS = {1: np.uint8, 2: np.uint16, 4: np.uint32}

dtypes = st.sampled_from(DTYPES)
seeds = st.integers(0, 2**32 - 1)
shapes = st.tuples(st.sampled_from([1, 2, 3, 31, 32, 33, 127, 128]), st.integers(1, 40))


def run(kernel: Callable[..., Any], *arrays: Any, target: str = "trn3") -> Any:
    """First output of a kernel."""
    result = run_kernel(kernel, *arrays, target=target)
    assert isinstance(result, Result)
    return result.outputs[0]


def random(seed: int, shape: tuple[int, ...], dtype: Any) -> Any:
    """Any bit patterns of integers; numbers of both signs and several sizes of floats, zeros included."""
    rng = np.random.default_rng(seed)
    if dtype in INTEGERS:
        return rng.integers(0, 256, (*shape, dtype.itemsize), np.uint8).view(dtype.dtype).reshape(shape)
    a = rng.standard_normal(shape) * 2.0 ** rng.integers(-6, 7, shape)
    a[rng.random(shape) < 0.05] = 0.0
    return a.astype(np.float32).astype(dtype.dtype)


def cast(x: Any, dtype: Any) -> Any:
    """float32 -> dtype: nearest even; integers saturate."""
    if dtype in FLOATS:
        return np.asarray(x, np.float32).astype(dtype.dtype)
    info = np.iinfo(dtype.dtype)
    wide = np.rint(np.asarray(x, np.float64))
    return np.clip(np.where(np.isnan(wide), 0, wide), info.min, info.max).astype(np.int64).astype(dtype.dtype)


def same(got: Any, want: Any) -> None:
    """Equal bit by bit, except that all NaN are one."""
    got, want = np.ascontiguousarray(got), np.ascontiguousarray(want)
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    word = WORDS[got.itemsize]
    differ = got.view(word) != want.view(word)
    if got.dtype.kind not in "iu":
        differ &= ~(np.isnan(got.astype(np.float32)) & np.isnan(want.astype(np.float32)))
    assert not differ.any(), (got[differ][:4], want[differ][:4])


def near(got: Any, want: Any, tolerance: float) -> None:
    np.testing.assert_allclose(
        np.asarray(got, np.float64), np.asarray(want, np.float64), rtol=tolerance, atol=tolerance
    )


def output(like: Any, shape: Any = None, dtype: Any = None) -> Any:
    return nl.ndarray(shape or like.shape, dtype=dtype or like.dtype, buffer=nl.shared_hbm)


def stored(tile: Any) -> Any:
    """The tile in HBM, as a result."""
    out = output(tile)
    nisa.dma_copy(dst=out, src=tile)
    return out


def sbuf(shape: Any, dtype: Any) -> Any:
    return nl.ndarray(shape, dtype=dtype, buffer=nl.sbuf)


def loaded(x: Any) -> Any:
    tile = sbuf(x.shape, x.dtype)
    nisa.dma_copy(dst=tile, src=x)
    return tile
