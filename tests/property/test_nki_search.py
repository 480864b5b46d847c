"""max8, nc_find_index8 and nc_match_replace8 against Python one element at a time: ties, NaN, infinities, both zeros,
absent and repeated values, widths on both sides of every change of method, and data whose largest elements are all
dealt to one column.

The examples are the same in every run. MOWICH_FUZZ=N draws N new ones for each test.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mowich.nki.isa as nisa
import mowich.nki.language as nl
from mowich.neuroncore.search import FOLD_COLUMNS, NARROW, largest8, occurrences
from mowich.nki import run_kernel
from nki_kernels import FEW, INTEGERS, cast, dtypes, loaded, random, same, sbuf, seeds, stored

WIDTHS = [8, 9, 16, NARROW, NARROW + 1, 128, 300, 2 * FOLD_COLUMNS, 2 * FOLD_COLUMNS + 1, 700, 3 * FOLD_COLUMNS, 1500]
KINDS = ["any", "levels", "special", "constant", "column", "mixed"]
VALUES = ["largest", "picked", "repeated", "absent", "special"]
SPECIAL = np.array([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 2.0], np.float32)


def drawn(kind: str, seed: int, shape: tuple[int, int], dtype: Any) -> Any:
    """[P, N] elements of a format."""
    rng = np.random.default_rng(seed)
    if kind == "any":
        return random(seed, shape, dtype)
    levels = cast(rng.integers(-3, 4, shape), dtype)
    if kind == "levels":
        return levels
    if kind == "special":
        return cast(rng.choice(SPECIAL, shape), dtype)
    if kind == "constant":
        return cast(np.broadcast_to(rng.choice(SPECIAL, (shape[0], 1)), shape), dtype)
    if kind == "column":
        levels[:, rng.integers(0, 8) :: FOLD_COLUMNS] = cast(rng.integers(4, 100, shape), dtype)[:, ::FOLD_COLUMNS][
            :, :1
        ]
        levels[:, :: FOLD_COLUMNS // 4] += cast(rng.integers(0, 9, shape), dtype)[:, :: FOLD_COLUMNS // 4]
        return levels
    ties = rng.random((shape[0], 1)) < 0.2  # rows of one number between others
    return np.where(ties, levels[:, :1], random(seed, shape, dtype))


def needles(kind: str, seed: int, x: Any, dtype: Any) -> Any:
    """[P, 8] values to look for in x."""
    rng = np.random.default_rng(seed + 1)
    p, n = x.shape
    if kind == "largest":
        return cast(largest(x), dtype)
    if kind == "special":
        return cast(rng.choice(SPECIAL, (p, 8)), dtype)
    at = rng.integers(0, n, (p, 8))
    if kind == "repeated":
        at = np.take_along_axis(at, rng.integers(0, 3, (p, 8)), axis=1)
    values = np.take_along_axis(x, at, axis=1)
    return np.where(rng.random((p, 8)) < 0.5, random(seed, (p, 8), dtype), values) if kind == "absent" else values


def numbers(x: Any) -> list[list[float]]:
    return np.asarray(x).astype(np.float32).tolist()  # type: ignore[no-any-return]


def largest(x: Any) -> Any:
    """The 8 largest of each row, one row after the other."""
    rows = [[-math.inf if math.isnan(v) else v for v in row] for row in numbers(x)]
    return np.array([sorted(row, key=lambda v: (v, math.copysign(1, v)), reverse=True)[:8] for row in rows], np.float32)


def places(x: Any, values: Any, order: Sequence[int]) -> Any:
    """[P, 8]: the values take their places in an order; -1: no place is left."""
    out = np.full(values.shape, -1)
    for p, (row, wanted) in enumerate(zip(numbers(x), numbers(values), strict=True)):
        left: dict[float, list[int]] = {}
        for i, v in enumerate(row):
            if not math.isnan(v):
                left.setdefault(v, []).append(i)
        for j in order:
            if left.get(wanted[j]):
                out[p, j] = left[wanted[j]].pop(0)
    return out


def replaced(x: Any, at: Any, imm: float, dtype: Any) -> Any:
    out = x.astype(np.float32)
    for p, j in zip(*np.nonzero(at >= 0), strict=True):
        out[p, at[p, j]] = imm
    return cast(out, dtype)


@FEW
@given(
    st.sampled_from([1, 2, 33]),
    st.sampled_from(WIDTHS),
    dtypes,
    st.sampled_from(KINDS),
    st.sampled_from(VALUES),
    st.sampled_from(["apart", "in place", "other format", "shifted", "by register"]),
    seeds,
)
def test_searches_element_by_element(p: int, n: int, dtype: Any, kind: str, wanted: str, where: str, seed: int) -> None:
    with np.errstate(invalid="ignore", over="ignore"):
        x = drawn(kind, seed, (p, n), dtype)
        values = needles(wanted, seed, x, dtype)
    imm = [-99.0, math.inf, 0.1][seed % 3]
    to = {"other format": nl.float32 if dtype in INTEGERS else nl.int16}.get(where, dtype)

    def kernel(x: Any, values: Any) -> Any:
        tile, v = sbuf((p, n + 5), dtype), loaded(values)
        nisa.memset(dst=tile, value=7)
        data = tile[:, 3 : n + 3]
        nisa.dma_copy(dst=data, src=x)
        most, found, taken = sbuf((p, 8), dtype), sbuf((p, 8), nl.uint16), sbuf((p, 8), nl.uint32)
        nisa.max8(dst=most, src=data)
        nisa.nc_find_index8(dst=found, data=data, vals=v)
        dst = {"in place": data, "shifted": tile[:, 0:n]}.get(where) or sbuf((p, n), to)
        at = (
            dst.ap([[n, p], [1, n]], scalar_offset=nisa.register_alloc(0), indirect_dim=1)
            if where == "by register"
            else dst
        )
        nisa.nc_match_replace8(dst=at, data=data, vals=v, imm=imm, dst_idx=taken)
        out = nl.ndarray((p, n), dtype=to, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=dst)
        return stored(most), stored(found), out, stored(taken)

    result = run_kernel(kernel, x, values, target="trn3")
    assert not isinstance(result, list)
    most, found, out, taken = result.outputs
    forward, backward = places(x, values, range(8)), places(x, values, range(7, -1, -1))
    with np.errstate(invalid="ignore", over="ignore"):
        same(most, cast(largest(x), dtype))
        same(found, forward.astype(np.uint16))
        same(taken, backward.astype(np.uint32))
        same(out, replaced(x, backward, imm, to))


@pytest.mark.parametrize("n", [600, 2048, 5000])
def test_the_largest_where_one_column_holds_them(n: int) -> None:
    """No bound of maxima of columns is of use then: the 8th of them is far below."""
    x = np.random.default_rng(n).standard_normal((64, n)).astype(np.float32)
    x[:, 5::FOLD_COLUMNS] += 100
    x[:32, 6::FOLD_COLUMNS] = np.nan
    same(np.ascontiguousarray(largest8(x)), largest(x))


@pytest.mark.parametrize("full", [1, 8, 31, 64])
@pytest.mark.parametrize("backwards", [False, True])
def test_rows_of_equal_elements_beside_others(full: int, backwards: bool) -> None:
    """Rows in which every element may be wanted are compared whole, the others not."""
    x = np.random.default_rng(full).standard_normal((64, 1000)).astype(np.float32)
    x[:: 64 // full] = np.float32(-np.inf)
    values = largest(x)
    values[:, 3] = values[:, 2]
    order: Iterable[int] = range(7, -1, -1) if backwards else range(8)
    assert (occurrences(x, values, backwards) == places(x, values, list(order))).all()


def test_plus_zero_goes_before_minus_zero() -> None:
    x = np.full((3, 600), -1, np.float32)
    x[:, 10:20], x[1:, 12], x[2, 300:] = -0.0, 0.0, 5
    top = largest8(x)
    assert np.signbit(top).tolist() == [[True] * 8, [False] + [True] * 7, [False] * 8]
    x[2, 301:] = -7
    assert largest8(x)[2, :3].tolist() == [5, 0, 0]
    assert np.signbit(largest8(x)[2]).tolist() == [False, False] + [True] * 6
