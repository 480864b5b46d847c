"""Number formats: every 8- and 16-bit pattern against ml_dtypes, integers, packing."""

import ml_dtypes
import numpy as np
import pytest

from mowich.errors import UserError
from mowich.neuroncore import dtypes as d

SMALL = [d.float8_e4m3, d.float8_e4m3fn, d.float8_e5m2, d.float8_e3m4, d.float8_e8m0fnu]
HALF = [d.float16, d.bfloat16]


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return np.array_equal(a, b, equal_nan=True) and np.array_equal(
        np.signbit(a[~np.isnan(a)]), np.signbit(b[~np.isnan(b)])
    )


@pytest.mark.parametrize("dtype", SMALL, ids=str)
def test_every_8_bit_pattern_reads_as_in_ml_dtypes(dtype):
    stored = np.arange(256, dtype=np.uint8).view(dtype.dtype)
    assert same(d.to_f32(stored, dtype), stored.astype(np.float32))
    many = np.tile(stored, (3, d.LOOKUP_BLOCK // 256))[:, :-5].T  # looked up in several pieces, not contiguous
    assert same(d.to_f32(many, dtype), many.astype(np.float32))


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_every_16_bit_pattern_reads_and_writes_as_in_ml_dtypes(dtype):
    stored = np.arange(65536, dtype=np.uint16).view(dtype.dtype)
    wide = d.to_f32(stored, dtype)
    assert same(wide, stored.astype(np.float32))
    finite = ~np.isnan(wide)
    assert np.array_equal(d.cast(wide, dtype).view(np.uint16)[finite], stored.view(np.uint16)[finite])


@pytest.mark.parametrize("dtype", SMALL[:4], ids=str)
@pytest.mark.parametrize("source", HALF, ids=str)
def test_every_16_bit_value_rounds_to_8_bits_as_in_ml_dtypes(dtype, source):
    with np.errstate(all="ignore"):
        wide = np.arange(65536, dtype=np.uint16).view(source.dtype).astype(np.float32)
        ours, theirs = d.cast(wide, dtype), wide.astype(dtype.dtype)
    assert same(ours.astype(np.float32), theirs.astype(np.float32))


@pytest.mark.parametrize("dtype", [*SMALL, d.float4_e2m1fn], ids=str)
@pytest.mark.parametrize("lower", [0, 1, 0x7FFF, 0x8000, 0xFFFF])
def test_float32_rounds_to_8_bits_as_in_ml_dtypes_many_at_a_time_and_few(dtype, lower):
    bits = (np.arange(1 << 16, dtype=np.uint32) << np.uint32(16)) | np.uint32(lower)
    wide = bits.view(np.float32).reshape(256, 256)
    with np.errstate(all="ignore"):
        theirs = wide.astype(dtype.dtype).view(np.uint8)
    assert np.array_equal(d.cast(wide, dtype).view(np.uint8), theirs)
    assert np.array_equal(d.cast(wide.T, dtype).view(np.uint8), theirs.T)  # not contiguous
    assert np.array_equal(d.cast(wide[5, :7], dtype).view(np.uint8), theirs[5, :7])


def test_tfloat32_keeps_ten_bits_and_rounds_ties_to_even():
    x = np.array([1 + 2**-11, 1 + 3 * 2**-11, -(1 + 2**-10), np.inf, np.nan, 0.0], np.float32)
    got = d.round_tf32(x)
    assert got[:3].tolist() == [1.0, 1 + 2**-9, -(1 + 2**-10)]
    assert np.isinf(got[3])
    assert np.isnan(got[4])
    assert got[5] == 0


def test_integers_round_to_even_and_saturate():
    x = np.array([0.5, 1.5, 2.5, -0.5, 1e9, -1e9, np.nan, np.inf], np.float32)
    assert d.to_int(x, np.dtype(np.int8)).tolist() == [0, 2, 2, 0, 127, -128, 0, 127]
    assert d.to_int(x, np.dtype(np.uint8)).tolist() == [0, 2, 2, 0, 255, 0, 0, 255]


@pytest.mark.parametrize("dtype", [d.float8_e4m3fn_x4, d.float8_e5m2_x4, d.float4_e2m1fn_x4], ids=str)
def test_packing_puts_element_0_in_the_low_bits_and_round_trips(dtype):
    values = np.array([[0.5, -1, 2, 4, 6, -6, 0, 1.5]], np.float32)
    words = d.pack(values, dtype)
    assert words.shape == (1, 2)
    assert np.array_equal(d.unpack(words, dtype).reshape(1, -1), values)
    raw = int(words.view("<u4" if dtype.itemsize == 4 else "<u2")[0, 0])
    low = raw & (0xFF if dtype.itemsize == 4 else 0xF)
    assert low == int(np.array([0.5]).astype(dtype.part.dtype).view(np.uint8)[0])


@pytest.mark.parametrize("dtype", [d.float8_e4m3fn_x4, d.float8_e5m2_x4, d.float4_e2m1fn_x4], ids=str)
def test_every_word_is_unpacked_to_the_numbers_of_its_parts(dtype):
    raw = np.random.default_rng(0).integers(0, 256, (96, 7, dtype.itemsize), dtype=np.uint8)
    parts = np.stack([raw & 15, raw >> 4], -1).reshape(96, 7, 4) if dtype.itemsize == 2 else raw
    numbers = parts.view(dtype.part.dtype).astype(np.float32)
    words = raw.view(dtype.dtype)[..., 0]
    for given, wanted in ((words, numbers), (words.T, np.swapaxes(numbers, 0, 1))):
        assert np.array_equal(d.unpack(given, dtype), wanted, equal_nan=True)
        assert np.array_equal(d.unpack_by_part(given, dtype), np.swapaxes(wanted, 1, 2), equal_nan=True)


def test_formats_are_accepted_by_numpy_and_equal_to_what_stores_them():
    assert np.zeros(2, dtype=d.bfloat16).dtype == ml_dtypes.bfloat16
    assert np.zeros(2, dtype=d.float8_e4m3fn_x4).dtype.itemsize == 4
    table = {d.float8_e4m3fn_x4: 1, d.bfloat16: 2}
    assert table[np.zeros(1, d.float8_e4m3fn_x4).dtype] == 1
    assert table[np.zeros(1, ml_dtypes.bfloat16).dtype] == 2
    assert d.bfloat16 == "bfloat16"
    assert str(d.float4_e2m1fn_x4) == "float4_e2m1fn_x4"
    assert d.as_dtype("nl.bfloat16") is d.bfloat16


def test_unknown_format_is_one_clear_line():
    with pytest.raises(UserError, match="did you mean 'bfloat16'"):
        d.as_dtype("bfloat61")
