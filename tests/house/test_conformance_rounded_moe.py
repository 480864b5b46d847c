"""The kernel's roundings that `run.py --rounded` puts into nki-library's reference of the MoE block, on numbers that
show each of them."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "conformance"))  # its files import each other


@pytest.fixture(scope="module")
def moe() -> ModuleType:
    return importlib.import_module("rounded_moe")


@pytest.mark.parametrize(("mx", "expected"), [(True, 1.5), (False, 1.5078125)])
def test_the_input_times_gamma_is_rounded_before_it_is_divided(moe: ModuleType, mx: bool, expected: float) -> None:
    """257/256 times 3/2: a tile of bfloat16 holds 1 for the first; of their product, 1.50586, 1.5078125 is nearest."""
    x, gamma = np.full((1, 1), 257 / 256, np.float32), np.ones((1, 1), np.float32)
    square = float(x[0, 0]) ** 2 / 4
    assert moe.normed(x, gamma, 4 / 9 - square, 4, mx).tolist() == [[expected]]


def test_products_of_tiles_are_added_in_bfloat16(moe: ModuleType) -> None:
    """256 + 1 + 1 from three tiles: a bfloat16 tile stays at 256 where it takes one at a time; one sum gives 258."""
    a = np.zeros((384, 1), np.float32)
    a[[0, 128, 256], 0] = 256, 1, 1
    scales = np.arange(48, dtype=np.float32)[:, None] // 16  # one for each 8 rows: the tile's number
    seen = []

    def product(left: np.ndarray, right: np.ndarray, left_scale: np.ndarray, right_scale: np.ndarray) -> np.ndarray:
        seen.append((len(left), sorted(set(left_scale[:, 0])), len(right_scale)))
        return left.T @ right

    assert moe.accumulated(product, a, np.ones_like(a), scales, scales).tolist() == [[256]]
    assert seen == [(128, [0], 16), (128, [1], 16), (128, [2], 16)]
    assert (a.T @ np.ones_like(a)).tolist() == [[258]]


@pytest.mark.parametrize(("outputs", "affinities", "expected"), [([256, 1, 1], [1, 1, 1], 256), ([1], [257 / 256], 1)])
def test_an_experts_output_is_rounded_with_its_affinity_and_in_the_sum(
    moe: ModuleType, outputs: list[float], affinities: list[float], expected: float
) -> None:
    found = moe.weighted([np.full((1, 1), v, np.float32) for v in outputs], np.array([affinities], np.float32))
    assert found.tolist() == [[expected]]


@pytest.mark.parametrize(
    ("parts", "expected"), [(1, [(0, 1)]), (2, [(0, 1), (1, 2)]), (3, [(0, 2), (2, 3)]), (6, [(0, 3), (3, 6)])]
)
def test_cores_share_out_tiles_of_the_intermediate_dimension(
    moe: ModuleType, parts: int, expected: list[tuple[int, int]]
) -> None:
    assert [(s.start, s.stop) for s in moe.shares(parts)] == expected
