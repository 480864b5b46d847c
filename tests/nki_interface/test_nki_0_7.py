"""NKI 0.7 (Neuron 2.33): what its pages say, each by a small kernel with values, time and errors."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mowich
import mowich.nki as nki
import mowich.nki.isa as nisa
import mowich.nki.language as nl
from mowich.errors import UserError
from mowich.neuroncore.core import NkiValidationError

GROUP = 16
"""Partitions that are one problem of topk."""


def returned(*tiles: Any) -> Any:
    """Tiles copied to HBM, as a kernel returns them."""
    outs = [nl.ndarray(t.shape, dtype=t.dtype, buffer=nl.shared_hbm) for t in tiles]
    for out, t in zip(outs, tiles, strict=True):
        nisa.dma_copy(dst=out, src=t)
    return outs[0] if len(outs) == 1 else tuple(outs)


# topk
# ----------------------------------------------------------------------------------------------------------------


def largest(x: Any, n: int, k: int, width: int, in_order: bool) -> Any:
    values = nl.full((x.shape[0], width), 7, dtype=nl.bfloat16, buffer=nl.sbuf)
    places = nl.full((x.shape[0], width), 7, dtype=nl.uint32, buffer=nl.sbuf)
    nisa.topk(values[:, :k], places[:, :k], nl.load(x), n, sorted=in_order)
    return returned(values, places)


@given(st.data())
def test_topk_writes_a_snake_and_leaves_the_other_columns(data: st.DataObject) -> None:
    groups = data.draw(st.sampled_from((1, 2, 8)))
    n = data.draw(st.integers(8, 300))
    k = data.draw(st.integers(1, n))
    in_order = data.draw(st.booleans())
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    # different values: the places are then known
    x = rng.permuted(np.arange(GROUP * 20, dtype=np.float32) % 256, axis=0).astype(ml_dtypes.bfloat16)
    x = np.stack([rng.permutation(x) for _ in range(groups)]).reshape(groups * GROUP, -1)
    got = mowich.run_kernel(largest, x, n, k, k + 2, in_order, strict=False, timed=False)
    values, places = got.outputs
    columns = -(-k // GROUP)
    assert (values[:, columns:] == 7).all() and (places[:, columns:] == 7).all()
    for g in range(groups):
        rows = slice(g * GROUP, (g + 1) * GROUP)
        snake = x[rows].astype(np.float32).T.reshape(-1)[:n]
        found = values[rows, :columns].astype(np.float32).T.reshape(-1)[:k]
        at = places[rows, :columns].T.reshape(-1)[:k]
        assert sorted(found) == sorted(np.sort(snake)[n - k :])
        assert (snake[at] == found).all() and len(set(at.tolist())) == k
        if in_order:
            assert (np.diff(found) <= 0).all()


@pytest.mark.parametrize(
    ("n", "k", "in_order", "said"),
    [(7, 1, False, "n counts"), (65521, 8, False, "n counts"), (64, 65, False, "too many"), (9000, 8193, True, "8,192")],
)
def test_topk_has_limits(n: int, k: int, in_order: bool, said: str) -> None:
    x = np.zeros((16, -(-n // GROUP)), ml_dtypes.bfloat16)
    with pytest.raises(NkiValidationError, match=said):
        mowich.run_kernel(largest, x, n, k, k, in_order)
