"""Results of the older interface carry which elements a masked load left in: a store behind them writes no others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import mowich
import mowich.nki.beta1 as nki
import mowich.nki.beta1.isa as nisa
import mowich.nki.beta1.language as nl

ROWS, COLUMNS = 100, 64
X = np.random.default_rng(7).standard_normal((ROWS, COLUMNS)).astype(np.float32)


def bound(value: float) -> Any:
    return nl.full((128, 1), value, dtype=np.float32)


MAKERS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "activation": (lambda t: nisa.activation(nl.copy, t), lambda x: x),
    "tensor_tensor_scan": (
        lambda t: nisa.tensor_tensor_scan(t, t, 0.0, nl.multiply, nl.add),
        lambda x: np.stack([scan(row) for row in x]),
    ),
    "range_select": (
        lambda t: nisa.range_select(
            on_true_tile=t,
            comp_op0=np.greater_equal,
            comp_op1=np.less,
            bound0=bound(0.0),
            bound1=bound(32.0),
            range_start=0,
            on_false_value=-1.0,
        ),
        lambda x: np.where(np.arange(COLUMNS) < 32, x, -1.0),
    ),
    "isa dropout": (lambda t: nisa.dropout(t, prob=0.0), lambda x: x),
    "dropout": (lambda t: nl.dropout(t, rate=0.0), lambda x: x),
}


def scan(row: Any) -> Any:
    """state = state * x + x."""
    out, state = [], np.float32(0)
    for v in row:
        state = state * v + v
        out.append(state)
    return np.array(out, np.float32)


@pytest.mark.parametrize("name", MAKERS)
def test_elements_that_a_mask_left_out_stay_out(name: str) -> None:
    make, expected = MAKERS[name]

    @nki.jit
    def kernel(x: Any) -> Any:
        out = nl.ndarray((ROWS, COLUMNS), dtype=x.dtype, buffer=nl.shared_hbm)
        p, f = nl.arange(128)[:, None], nl.arange(COLUMNS)[None, :]
        t = nl.load(x[p, f], mask=p < ROWS)
        nl.store(out[p, f], value=make(t))
        return out

    r = mowich.run_kernel(kernel, X, target="trn2")
    assert not isinstance(r, list)
    np.testing.assert_allclose(r.outputs[0], expected(X), rtol=1e-5, atol=1e-5)
