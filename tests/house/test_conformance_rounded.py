"""The kernel's roundings that `run.py --rounded` puts into nki-library's reference of the attention block, on numbers
that show each of them."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture(scope="module")
def rounded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rounded", Path(__file__).parents[1] / "conformance" / "rounded.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_tile_holds_the_nearest_number_of_its_format(rounded: ModuleType) -> None:
    assert rounded.bf16([257, 259, -1 / 3]).tolist() == [256, 260, -0.333984375]  # ties to even
    assert rounded.fp8([17, 19, 239, 300, -300, 2**-10]).tolist() == [16, 20, 240, 240, -240, 0]


@pytest.mark.parametrize(
    ("rows", "expected"), [(1, 256), (32, 256), (33, 258), (64, 258), (65, 260), (128, 260), (129, 260)]
)
def test_partial_sums_are_added_in_bfloat16(rounded: ModuleType, rows: int, expected: int) -> None:
    """256 + 1 + 1 + 1 from four tiles: a bfloat16 tile stays at 256 where it takes one at a time; two parts give 257 ->
    256, then 258; one sum gives 259 -> 260."""
    w = np.zeros((2, 128, 4, 1), np.float32)  # core, row, tile, column
    w[0, 0, :, 0] = 256, 1, 1, 1
    out = rounded.projected(np.ones((rows, 1024), np.float32), w.reshape(-1, 1), np.ones(1, np.float32))
    assert out.shape == (rows, 1)
    assert (out == expected).all()


def test_each_core_applies_the_scale_before_the_halves_are_added(rounded: ModuleType) -> None:
    x = np.ones((65, 512), np.float32)
    w = np.zeros((512, 1), np.float32)
    w[0], w[256] = 257, 1  # core 0: 257 -> 256; core 1: 1
    assert rounded.projected(x, w, np.ones(1, np.float32))[0, 0] == 256
    assert rounded.projected(x, w, np.full(1, 0.7, np.float32))[0, 0] == rounded.bf16(
        rounded.bf16(256 * np.float32(0.7)) + rounded.bf16(0.7)
    )


def test_tiles_that_fill_no_part_are_refused(rounded: ModuleType) -> None:
    with pytest.raises(NotImplementedError, match="3 tiles of the hidden dimension in 4 parts"):
        rounded.projected(np.ones((1, 768), np.float32), np.ones((768, 1), np.float32), np.ones(1, np.float32))


def test_the_normalised_input_is_rounded_in_the_order_of_its_kernel(rounded: ModuleType) -> None:
    rng = np.random.default_rng(0)
    x, gamma = rounded.bf16(rng.uniform(-1, 1, (129, 256))), rounded.bf16(rng.uniform(0.5, 1.5, (1, 256)))
    small, large = (rounded.normalised(a, gamma, 1e-3, 256, 0.01) for a in (x[:128], x))
    exact = x * gamma / np.sqrt(np.square(x).mean(-1, keepdims=True) + 1e-3) / np.float32(0.01)
    for found, wanted in ((small, exact[:128]), (large, exact)):
        assert (found == rounded.fp8(found)).all()
        assert np.allclose(found, wanted.clip(-240, 240), rtol=1 / 16 + 1 / 64, atol=2**-9)
    assert (small != large[:128]).any()


def test_a_large_batch_has_its_epsilon_in_fp8(rounded: ModuleType) -> None:
    zero_but_one = np.zeros((129, 4), np.float32)
    zero_but_one[:, 0] = 2**-10  # the epsilon decides
    found = [
        rounded.normalised(zero_but_one[:n], np.ones((1, 4), np.float32), 1e-3, 4, 2**-10)[0, 0] for n in (128, 129)
    ]
    assert found == [rounded.fp8(1 / np.sqrt(1e-3)), rounded.fp8(1 / np.sqrt(2**-9))]
    assert found[0] != found[1]


@pytest.mark.parametrize("contiguous", [True, False])
def test_rope_rounds_products_and_sums(rounded: ModuleType, contiguous: bool) -> None:
    rng = np.random.default_rng(1)
    x = rounded.bf16(rng.normal(size=(8, 3)))
    cos, sin = (rounded.bf16(rng.uniform(-1, 1, (4, 3))) for _ in range(2))
    out = rounded.rope(x, cos, sin, contiguous)
    pairs = [(i, i + 4) for i in range(4)] if contiguous else [(2 * i, 2 * i + 1) for i in range(4)]
    for i, (a, b) in enumerate(pairs):
        turned = (x[a] + 1j * x[b]) * (cos[i] + 1j * sin[i])
        for found, wanted in ((out[a], turned.real), (out[b], turned.imag)):
            assert np.abs(found - wanted).max() < 2**-7 * 4
            assert (found == rounded.bf16(found)).all()
    assert out[pairs[0][0], 0] == rounded.bf16(
        rounded.bf16(x[pairs[0][0], 0] * cos[0, 0]) - rounded.bf16(x[pairs[0][1], 0] * sin[0, 0])
    )
