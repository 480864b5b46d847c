"""What masks and run-time indices of the older interface cost: the box of the elements that they leave in, and never
nothing."""

import numpy as np
import pytest

import mowich
import mowich.nki.beta1 as old
import mowich.nki.beta1.isa as oisa
import mowich.nki.beta1.language as onl
from mowich.neuroncore.instructions.rates import RINGS
from mowich.nki import hollow


def run(kernel, *arrays, target="trn2"):
    return mowich.run_kernel(kernel, *arrays, target=target, values=False)


def costs(result):
    p = result.schedule.programs[0]
    return [p.costs[c] for c in p.cost]


def test_the_last_tile_of_a_long_tensor_costs_its_rows():
    @old.jit
    def masked(x):
        out = onl.ndarray((10944, 512), dtype=np.float32, buffer=onl.shared_hbm)
        p, f = onl.arange(128)[:, None], onl.arange(512)[None, :]
        for i in onl.affine_range(86):
            m = 128 * i + p < 10944
            t = onl.load(x[128 * i + p, f], mask=m)
            onl.store(out[128 * i + p, f], value=t, mask=m)
        return out

    found = costs(run(masked, hollow((10944, 512), "float32")))
    assert sum(c.hbm_read_B for c in found) == sum(c.hbm_write_B for c in found) == 10944 * 512 * 4
    assert [c.hbm_read_B + c.hbm_write_B for c in found[-2:]] == [64 * 512 * 4] * 2
    assert max(c.descriptors for c in found) <= 128


@pytest.mark.parametrize("seed", range(20))
def test_random_boxes(seed):
    """A load and a store under a random rectangle, of a tensor that the indices may leave: bytes of the rectangle."""
    random = np.random.default_rng(seed)
    (top, bottom), (left, right) = (sorted(random.choice(n, 2, replace=False).tolist()) for n in (100, 300))
    up, aside = (int(n) for n in random.integers(-3, 1, 2))

    @old.jit
    def boxed(x):
        out = onl.ndarray((bottom - top, right - left), dtype=np.float32, buffer=onl.shared_hbm)
        p, f = onl.mgrid[0:128, 0:320]
        r, c = up + p, aside + f
        m = (r < bottom) & (c < right) & (r >= top) & (c >= left)
        onl.store(out[r - top, c - left], value=onl.load(x[r, c], mask=m), mask=m)
        return out

    load, store = costs(run(boxed, hollow((100, 300), "float32")))
    assert load.hbm_read_B == store.hbm_write_B == (bottom - top) * (right - left) * 4
    x = random.standard_normal((100, 300)).astype(np.float32)
    np.testing.assert_array_equal(boxed(x), x[top:bottom, left:right])


def _records(body):
    """What a few lines of a kernel add to the trace: (name, name of each operand's memory, elements of the
    destination)."""

    @old.jit
    def kernel(x, more):
        out = onl.ndarray((128, 64), dtype=np.float32, buffer=onl.shared_hbm)
        t, u = onl.load(x), onl.load(x)
        if more:
            body(x, t, u, out)
        onl.store(out, value=t)
        return out

    without, result = (run(kernel, hollow((128, 64), "float32"), more) for more in (False, True))
    trace = result.cores[0].trace
    assert result.schedule.total > without.schedule.total
    made = [trace.kinds[k] for k in trace.kind][2 : len(trace) - 1]
    return [(k.name, "".join(o.space for o in (*k.reads, *k.writes)), int(np.prod(k.writes[0].shape))) for k in made]


P, F = onl.arange(128)[:, None], onl.arange(64)[None, :]


def test_no_write_is_free():
    def fill(x, t, u, out):
        t[P < 32] = 1.0

    def fill_of_an_odd_row(x, t, u, out):
        t[5:6, :] = 1.0

    def copy_under_a_mask(x, t, u, out):
        u.valid = np.broadcast_to(np.asarray((P < 64) & (F < 16)), (128, 64))
        t[...] = u

    def into_memory(x, t, u, out):
        u.valid = np.broadcast_to(np.asarray(P < 64), (128, 64))
        out[...] = u

    def columns_out_of_order(x, t, u, out):
        t[...] = u[P, (F * F) % 64]

    def into_columns_out_of_order(x, t, u, out):
        t[P, (F * 3) % 64] = u

    def added_in_memory(x, t, u, out):
        onl.atomic_rmw(out, value=t, op=np.add)

    def copied_and_added(x, t, u, out):
        oisa.dma_copy(dst=out[P, F], src=t, mask=F < 8, dst_rmw_op=np.add)

    def rows_at_run_time(x, t, u, out):
        rows = onl.load(x[onl.load(x[:, 0:1], dtype="int32"), F])
        t[...] = rows

    def sums_of_a_part(x, t, u, out):
        t[:, 0:1] = onl.sum(u, axis=1, keepdims=True, mask=F < 24)

    wanted = {
        fill: [("memset", "S", 32 * 64)],
        fill_of_an_odd_row: [("dma_copy", "SS", 64)],
        copy_under_a_mask: [("tensor_copy", "SS", 64 * 16)],
        into_memory: [("dma_copy", "SH", 64 * 64)],
        columns_out_of_order: [("tensor_copy", "SS", 128 * 64)] * 2,  # of which the clock leaves one out
        into_columns_out_of_order: [("tensor_copy", "SS", 128 * 64)],
        added_in_memory: [("dma_compute", "HSH", 128 * 64)],
        copied_and_added: [("dma_compute", "HSH", 128 * 8)],
        rows_at_run_time: [("dma_copy", "HS", 128), ("dma_copy", "HSS", 128 * 64), ("tensor_copy", "SS", 128 * 64)],
        sums_of_a_part: [("tensor_reduce", "SS", 128), ("tensor_copy", "SS", 128)],
    }
    assert {body.__name__: _records(body) for body in wanted} == {b.__name__: records for b, records in wanted.items()}


def test_a_load_at_run_time_indices_waits_for_them_and_costs_what_it_moves():
    @old.jit
    def rows(x, index):
        out = onl.ndarray((128, 64), dtype=np.float32, buffer=onl.shared_hbm)
        at = onl.load(index)
        onl.store(out, value=onl.load(x[at, F]))
        return out

    result = run(rows, hollow((10000, 64), "float32"), hollow((128, 1), "int32"))
    found, s = costs(result), result.schedule
    assert [c.hbm_read_B for c in found] == [512, 128 * 64 * 4, 0]
    rings = [next(name for name, queues in RINGS.items() if c.queue in queues) for c in found]
    assert rings[1] == "software" != rings[0]  # a row each, by descriptors that GpSimd writes
    assert s.begin[1] > s.end[0]
    x = np.random.default_rng(0).standard_normal((1000, 64)).astype(np.float32)
    at = np.random.default_rng(1).integers(0, 1000, (128, 1)).astype(np.int32)
    np.testing.assert_array_equal(rows(x, at), x[at[:, 0]])


def test_a_masked_sum_waits_for_what_it_adds():
    @old.jit
    def sums(x):
        out = onl.ndarray((128, 1), dtype=np.float32, buffer=onl.shared_hbm)
        t = onl.load(x)
        onl.store(out, value=onl.sum(t, axis=1, keepdims=True, mask=F < 24))
        return out

    s = run(sums, hollow((128, 64), "float32")).schedule
    assert s.begin[1] > s.end[0]
    x = np.random.default_rng(0).standard_normal((128, 64)).astype(np.float32)
    np.testing.assert_allclose(sums(x), x[:, :24].sum(axis=1, keepdims=True), rtol=1e-5, atol=1e-5)
