"""Products of matmuls that wait (`instructions.products`): the same bits as those that are computed one by one.

Whatever stands between them, and for whoever looks in between. `PRODUCTS_KERNELS`: more kernels.
"""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import mowich.nki as nki
import mowich.nki.isa as nisa
import mowich.nki.language as nl
from mowich.neuroncore.instructions import products, tensor

KERNELS = int(os.environ.get("PRODUCTS_KERNELS", "40"))
SEED = 20261201


def drawn(rng: random.Random) -> Callable[[Any], Any]:
    """A kernel of matmuls, copies of their sums, and instructions that change what they read."""
    columns, width = rng.choice([64, 128, 128, 128]), rng.choice([1, 96, 128])
    steps: list[tuple[str, int, int, bool | None]] = []
    for _ in range(rng.randint(3, 6)):
        first, k = rng.randrange(4), rng.randrange(2)
        kind = rng.choice(["row", "row", "row", "one"])
        tiles = range(first, 4) if kind == "row" else [first]
        add = rng.choice([None, None, True, False])
        steps += [("multiply", m, k, add) for m in tiles]
        steps.append((rng.choice(["read", "change", "change", "print", "nothing", "load"]), first, k, None))

    @nki.jit
    def kernel(x: Any) -> Any:
        a = nl.ndarray((128, 2, 4 * columns), dtype=x.dtype, buffer=nl.sbuf)
        b = nl.ndarray((128, 2, width), dtype=x.dtype, buffer=nl.sbuf)
        sums = [nl.ndarray((columns, width), dtype=nl.float32, buffer=nl.psum) for _ in range(4)]
        out = nl.ndarray((5, columns, width), dtype=nl.float32, buffer=nl.shared_hbm)
        done = nl.ndarray((columns, width), dtype=nl.float32, buffer=nl.sbuf)
        for half in range(2):
            nisa.dma_copy(dst=a[:, half, :], src=x[:, half * 8 : half * 8 + 4 * columns])
            nisa.dma_copy(dst=b[:, half, :], src=x[:, half * 300 : half * 300 + width])
        for total in sums:
            nisa.memset(dst=total, value=0.5)
        nisa.memset(dst=done, value=0.0)
        nisa.dma_copy(dst=out[4], src=done)
        for what, m, k, add in steps:
            place = slice(m * columns, (m + 1) * columns)
            if what == "multiply":
                nisa.nc_matmul(dst=sums[m], stationary=a[:, k, place], moving=b[:, k, :], accumulate=add)
            elif what == "read":
                nisa.tensor_copy(dst=done, src=sums[m])
                nisa.dma_copy(dst=out[4], src=done)
            elif what == "change":
                nisa.tensor_scalar(dst=a[:, k, place], data=a[:, k, place], op0=nl.multiply, operand0=1.25)
                nisa.tensor_scalar(dst=b[:, k, :], data=b[:, k, :], op0=nl.add, operand0=0.125)
            elif what == "load":
                nisa.dma_copy(dst=b[:, k, :], src=x[:, 100 + m : 100 + m + width])
            elif what == "print":
                nl.device_print("sum", sums[m][0:1, 0:1])
        for m, total in enumerate(sums):
            kept = nl.ndarray((columns, width), dtype=nl.float32, buffer=nl.sbuf)
            nisa.tensor_copy(dst=kept, src=total)
            nisa.dma_copy(dst=out[m], src=kept)
        return out

    return kernel


def test_bits_of_products_that_wait(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(SEED)
    together: list[int] = []
    multiply = products.Products._multiply

    def counted(self: products.Products, some: list[products.WaitingProduct]) -> None:
        together.append(len(some))
        multiply(self, some)

    monkeypatch.setattr(products.Products, "_multiply", counted)
    for number in range(KERNELS):
        x = np.random.default_rng(number).standard_normal((128, 600)).astype(rng.choice(["f4", ml_dtypes.bfloat16]))
        kernel, found = drawn(rng), []
        for waits in (tensor.waits, lambda *_: False):
            with monkeypatch.context() as patch:
                patch.setattr(tensor, "waits", waits)
                found.append((np.asarray(nki.simulate(kernel)(x)).tobytes(), capsys.readouterr().out))
        assert found[0] == found[1], f"kernel {number} of seed {SEED}"
    assert sum(n > 2 for n in together) > KERNELS // 2
    assert sum(n == 1 for n in together) > KERNELS // 2


def test_sums_that_a_kernel_returns_and_indices_that_it_reads() -> None:
    """What no instruction reads: a tile in PSUM that is returned, and one that says where a view begins."""
    x = np.tile(np.arange(128, dtype=np.float32), (128, 1))
    x[:, 0] = 1 / 8

    @nki.jit
    def kernel(x: Any) -> Any:
        a = nl.ndarray((128, 128), dtype=x.dtype, buffer=nl.sbuf)
        total = nl.ndarray((128, 128), dtype=nl.float32, buffer=nl.psum)
        out = nl.ndarray((1, 1), dtype=x.dtype, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=a, src=x)
        nisa.nc_matmul(dst=total, stationary=a, moving=a, accumulate=False)
        nisa.dma_copy(dst=out, src=a[0:1, total[0:1, 0:1]])  # 128 / 64
        nisa.nc_matmul(dst=total, stationary=a, moving=a)
        return out, total

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out, total = nki.simulate(kernel)(x)
    assert out.tolist() == [[2.0]]
    np.testing.assert_array_equal(total, 2 * (x.T @ x))
