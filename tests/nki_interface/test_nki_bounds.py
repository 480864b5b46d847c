"""Indices of the older interface that leave their tensor: one line with the kernel's file and line wherever no mask
hides them, whether values are computed or not."""

import re
from contextlib import nullcontext

import numpy as np
import pytest

import mowich
import mowich.nki.beta1 as old
import mowich.nki.beta1.isa as oisa
import mowich.nki.beta1.language as onl
from mowich.nki import NkiValidationError

P, F = onl.arange(64)[:, None], onl.arange(32)[None, :]


def kernel_of(body):
    @old.jit
    def kernel(x):
        out = onl.ndarray((64, 32), dtype=np.float32, buffer=onl.shared_hbm)
        t, u = onl.load(x[0:64, 0:32]), onl.load(x[0:64, 0:32])
        body(x, t, u, out)
        onl.store(out, value=t)
        return out

    return kernel


def ran(body, values):
    x = np.ones((100, 48), np.float32)
    return mowich.run_kernel(kernel_of(body), x, target="trn2", values=values)


LEAVE = {
    "a load": lambda x, t, u, out: onl.load(x[P + 50, F]),
    "a load under a mask that hides too little": lambda x, t, u, out: onl.load(x[P + 50, F], mask=P < 51),
    "a load whose index follows no pattern": lambda x, t, u, out: onl.load(x[P, F * F]),
    "a store": lambda x, t, u, out: onl.store(out[P, F + 1], value=t),
    "a store of what leaves its tile": lambda x, t, u, out: onl.store(out[P, F], value=t[P + 1, F]),
    "a store under a mask that hides too little": lambda x, t, u, out: onl.store(out[P, F + 1], value=t, mask=P < 63),
    "a read on chip": lambda x, t, u, out: t.__setitem__(..., u[P, F + 1]),
    "a write on chip": lambda x, t, u, out: t.__setitem__((P + 1, F), u),
    "a number": lambda x, t, u, out: t.__setitem__((P, F + 1), 0.0),
    "an index below 0": lambda x, t, u, out: onl.load(x[P - 1, F]),
    "arithmetic": lambda x, t, u, out: onl.add(u[P, F + 1], t),
    "arithmetic under a mask that hides too little": lambda x, t, u, out: onl.add(u[P, F + 1], t, mask=F < 32 - P),
    "an operator": lambda x, t, u, out: u[P, F + 1] * 2.0,
    "a function": lambda x, t, u, out: onl.exp(u[P, F + 1]),
    "a choice": lambda x, t, u, out: onl.where(u[P, F + 1], t, u),
    "a reduction": lambda x, t, u, out: onl.sum(u[P, F + 1], axis=1),
    "a reduction under a mask that hides too little": lambda x, t, u, out: onl.sum(u[P, F + 2], axis=1, mask=F < 31),
    "an instruction": lambda x, t, u, out: oisa.tensor_scalar(u[P, F + 1], np.add, 1.0),
    "an instruction of two tensors": lambda x, t, u, out: oisa.tensor_tensor(t, u[P, F + 1], op=np.add),
    "a matmul": lambda x, t, u, out: oisa.nc_matmul(t[P, F + 1], u),
    "a transpose": lambda x, t, u, out: oisa.nc_transpose(t[P, F + 1]),
    "a sum in memory": lambda x, t, u, out: onl.atomic_rmw(out[P, F + 1], value=t, op=np.add),
    "a broadcast": lambda x, t, u, out: onl.exp(u[P, F[:, 0:1] + 32].broadcast_to((64, 32))),
    "a choice of elements": lambda x, t, u, out: u[P, F + 1][F < 32] * 1.0,
    "a selection": lambda x, t, u, out: oisa.affine_select(P < F, u[P, F + 1], 0.0),
}


@pytest.mark.parametrize("values", [True, False], ids=["values", "times"])
@pytest.mark.parametrize("body", LEAVE.values(), ids=LEAVE)
def test_an_index_that_leaves_its_tensor_is_one_line(body, values):
    with pytest.raises(NkiValidationError) as raised:
        ran(body, values)
    line = str(raised.value)
    assert "\n" not in line
    assert re.search(r"test_nki_bounds\.py:\d+: out-of-bounds access: (tile|view) .*got 'indices -?\d+ \.\. \d+", line)


@pytest.mark.parametrize("values", [True, False], ids=["values", "times"])
def test_a_dma_says_what_leaves_out_such_rows(values):
    with pytest.raises(IndexError, match=r"test_nki_bounds\.py:\d+: out-of-bounds access.*oob_mode\.skip"):
        ran(lambda x, t, u, out: oisa.dma_copy(dst=out[P, F + 1], src=t), values)


HIDDEN = {
    "a load": lambda x, t, u, out: onl.load(x[P + 50, F], mask=P < 50),
    "a store": lambda x, t, u, out: onl.store(out[P, F + 1], value=t, mask=F < 31),
    "arithmetic": lambda x, t, u, out: onl.add(u[P, F + 1], t, mask=F < 31),
    "a column": lambda x, t, u, out: onl.add(t, u[P + 1, F[:, 0:1]], mask=P < 63),
    "a reduction": lambda x, t, u, out: onl.sum(u[P, F + 1], axis=1, mask=F < 31),
    "an instruction": lambda x, t, u, out: oisa.tensor_scalar(u[P, F + 1], np.add, 1.0, mask=F < 31),
    "an instruction of two tensors": lambda x, t, u, out: oisa.tensor_tensor(
        t, u[P, F + 1], op=np.add, mask=(F < 31) & (P < 60)
    ),
    "a matmul, of which the mask says nothing about the operands": lambda x, t, u, out: oisa.nc_matmul(
        t[P, F + 1], u, mask=F < 31
    ),
    "a DMA that skips": lambda x, t, u, out: oisa.dma_copy(dst=out[P + 1, F], src=t, oob_mode=oisa.oob_mode.skip),
    "a DMA": lambda x, t, u, out: oisa.dma_copy(dst=out[P + 1, F], src=t, mask=P < 63),
    "a choice of elements": lambda x, t, u, out: u[P, F + 1][F < 31] * 1.0,
}


@pytest.mark.parametrize("values", [True, False], ids=["values", "times"])
@pytest.mark.parametrize("body", HIDDEN.values(), ids=HIDDEN)
def test_a_mask_hides_such_an_index(body, values):
    assert len(ran(body, values).outputs) == 1


@pytest.mark.parametrize("seed", range(30))
def test_values_and_times_refuse_the_same_indices(seed):
    """Random offsets and masks of a load, of a store and of arithmetic: refused exactly where an element that the mask
    leaves in lies outside."""
    random = np.random.default_rng(seed)
    down, aside, rows, columns = (int(n) for n in random.integers((-2, -2, 1, 1), (3, 3, 66, 34)))
    mask = (rows > P) & (columns > F)
    bodies = (
        (lambda x, t, u, out: onl.load(x[P + down + 36, F + aside + 16], mask=mask), (100, 48), (36, 16)),
        (lambda x, t, u, out: onl.store(out[P + down, F + aside], value=t, mask=mask), (64, 32), (0, 0)),
        (lambda x, t, u, out: onl.add(u[P + down, F + aside], t, mask=mask), (64, 32), (0, 0)),
    )
    for body, shape, start in bodies:
        leaves = any(
            first + by < 0 or first + by + min(n, most) > size
            for first, by, n, most, size in zip(start, (down, aside), (rows, columns), (64, 32), shape, strict=True)
        )
        for values in (True, False):
            with pytest.raises(NkiValidationError, match="out-of-bounds access") if leaves else nullcontext():
                ran(body, values)


@pytest.mark.parametrize("repeat_loops", [True, False])
def test_the_last_iteration_of_a_repeated_loop_is_looked_at(repeat_loops):
    def rows(x, t, u, out):
        for i in onl.affine_range(7):
            onl.load(x[16 * i + onl.arange(16)[:, None], F])

    x = np.ones((100, 48), np.float32)
    with pytest.raises(NkiValidationError, match=r"out-of-bounds access.*96 \.\. 111 along dimension 0"):
        mowich.run_kernel(kernel_of(rows), x, target="trn2", values=False, repeat_loops=repeat_loops)
