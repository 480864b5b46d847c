"""A constant that its tile cannot hold is told with what is written; one that fits is not."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mowich
from mowich.neuroncore import dtypes

INTS = (dtypes.int8, dtypes.uint8, dtypes.int16, dtypes.uint16, dtypes.int32)
FLOATS = {dtypes.float8_e4m3: 240.0, dtypes.float16: 65504.0, dtypes.float8_e5m2: 57344.0}


def _told(dtype: dtypes.DType, value: float) -> list[str]:
    import mowich.nki.isa as nisa
    import mowich.nki.language as nl
    from mowich import nki

    @nki.jit
    def filled(a):  # type: ignore[no-untyped-def]
        out = nl.ndarray(a.shape, dtype=dtype, buffer=nl.shared_hbm)
        tile = nl.ndarray(a.shape, dtype=dtype, buffer=nl.sbuf)
        nisa.memset(dst=tile, value=value)
        nisa.dma_copy(dst=out, src=tile)
        return out

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = mowich.run_kernel(filled, np.zeros((2, 2), np.float32), target="trn3")
    assert isinstance(result, mowich.nki.Result)
    return [line for line in result.warnings if "is written as" in line]


@settings(max_examples=40)
@given(st.sampled_from(INTS), st.integers(-(2**33), 2**33))
def test_whole_numbers_outside_of_their_format_are_told(dtype: dtypes.DType, value: int) -> None:
    bounds = np.iinfo(dtype.dtype)
    assert bool(_told(dtype, value)) == (not bounds.min <= value <= bounds.max)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_numbers_that_become_infinity_are_told(dtype: dtypes.DType) -> None:
    largest = FLOATS[dtype]
    assert not _told(dtype, largest)
    assert not _told(dtype, -largest)
    assert _told(dtype, 2.0 * largest)
    assert not _told(dtype, -np.inf)  # a mask means it
