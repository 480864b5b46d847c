"""Stochastic rounding, where the environment asks for it as the Neuron runtime has it."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import mowich.nki as nki
import mowich.nki.isa as nisa
import mowich.nki.language as nl
from mowich.errors import UserError
from mowich.neuroncore.dtypes import as_dtype, rounded_stochastically, to_f32

ON, SEED = "NEURON_RT_STOCHASTIC_ROUNDING_EN", "NEURON_RT_STOCHASTIC_ROUNDING_SEED"


@nki.jit
def half_more(x: Any, times: int) -> Any:
    """x + 0.5 + 0.5 ..., in the format of x: AWS's own example of what rounding does."""
    tile, out = (nl.ndarray(x.shape, dtype=x.dtype, buffer=b) for b in (nl.sbuf, nl.shared_hbm))
    nisa.dma_copy(dst=tile, src=x)
    for _ in range(times):
        nisa.tensor_scalar(dst=tile, data=tile, op0=nl.add, operand0=0.5)
    nisa.dma_copy(dst=out, src=tile)
    return out


@nki.jit
def summed_in_psum(x: Any, w: Any, times: int) -> Any:
    """A product added `times` times to a bfloat16 tile of PSUM."""
    a, b = (nl.ndarray(t.shape, dtype=t.dtype, buffer=nl.sbuf) for t in (x, w))
    nisa.dma_copy(dst=a, src=x)
    nisa.dma_copy(dst=b, src=w)
    total = nl.ndarray((x.shape[1], w.shape[1]), dtype=nl.bfloat16, buffer=nl.psum)
    for i in range(times):
        nisa.nc_matmul(dst=total, stationary=a, moving=b, accumulate=i > 0)
    made, out = (nl.ndarray(total.shape, dtype=nl.bfloat16, buffer=m) for m in (nl.sbuf, nl.shared_hbm))
    nisa.tensor_copy(dst=made, src=total)
    nisa.dma_copy(dst=out, src=made)
    return out


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float8_e4m3", "float8_e5m2"])
def test_neighbours_and_mean(name: str) -> None:
    dtype, random = as_dtype(name), np.random.default_rng(1)
    x = np.repeat(random.uniform(-8, 8, 200).astype(np.float32), 4000).reshape(200, 4000)
    made = to_f32(rounded_stochastically(x, dtype, random), dtype)
    low, high = made.min(1), made.max(1)
    assert ((low <= x[:, 0]) & (x[:, 0] <= high)).all()
    between = np.nextafter(low.astype(dtype.dtype), np.asarray(np.inf, dtype.dtype))
    assert (to_f32(between, dtype) >= high).all(), "no number but the two neighbours"
    step = high - low
    assert (np.abs(made.mean(1) - x[:, 0]) <= 5 * step / np.sqrt(4000) + 1e-6).all()


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float8_e4m3", "float8_e5m2"])
def test_what_the_format_has_stays(name: str) -> None:
    dtype = as_dtype(name)
    x = to_f32(np.asarray([0.0, 1.0, -1.5, 2.0**-6, np.nan], dtype.dtype), dtype)
    for seed in range(20):
        made = to_f32(rounded_stochastically(x, dtype, np.random.default_rng(seed)), dtype)
        assert np.array_equal(made, x, equal_nan=True)


def test_small_increments_accumulate(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.full((128, 16), 1024, np.float16)
    monkeypatch.setenv(ON, "0")
    assert (half_more(x, 400) == 1024).all()
    monkeypatch.setenv(ON, "1")
    found = half_more(x, 400).astype(np.float64)
    assert abs(found.mean() - 1224) < 2
    assert found.std() > 1
    assert (half_more(x, 400) == found).all(), "the same seed, the same numbers"
    monkeypatch.setenv(SEED, "1")
    assert (half_more(x, 400) != found).any()


def test_sums_in_psum(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = np.zeros((128, 64), ml_dtypes.bfloat16), np.zeros((128, 64), ml_dtypes.bfloat16)
    x[0], w[0] = 1, 1
    monkeypatch.setenv("NEURON_PLATFORM_TARGET_OVERRIDE", "trn3")
    assert (summed_in_psum(x, w, 300) == 256).all()
    monkeypatch.setenv(ON, "1")
    assert abs(summed_in_psum(x, w, 300).astype(np.float64).mean() - 300) < 1


def test_a_wrong_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ON, "1")
    monkeypatch.setenv(SEED, "x")
    with pytest.raises(UserError, match=r"NEURON_RT_STOCHASTIC_ROUNDING_SEED, got 'x'"):
        half_more(np.ones((128, 4), np.float16), 1)
