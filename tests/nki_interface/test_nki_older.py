"""The older front end, `neuronxcc.nki`, and what early kernels of the newer one say: forms that published kernels
use."""

import numpy as np
import pytest

import mowich.nki as nki
import mowich.nki.beta1 as old
import mowich.nki.beta1.isa as oisa
import mowich.nki.beta1.language as onl
import mowich.nki.isa as nisa
import mowich.nki.language as nl
from mowich.nki import NkiValidationError


def rnd(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_sizes_in_bytes_and_the_level_that_the_package_gives_to_logging():
    import logging

    with nki.installed():
        import neuronxcc.nki  # noqa: F401
        from neuronxcc.nki.language.constants import sizeinbytes

        assert [sizeinbytes(d) for d in (onl.bfloat16, np.float32, "int8")] == [2, 4, 1]
        assert logging.OFF > logging.CRITICAL


def test_affine_select_of_a_product_in_psum():
    @old.jit
    def causal(a, b):
        out = onl.ndarray((64, 64), dtype=onl.float32, buffer=onl.shared_hbm)
        scores = oisa.nc_matmul(onl.load(a), onl.load(b))
        i, j = onl.mgrid[0:64, 0:64]
        onl.store(out, oisa.affine_select(pred=i >= j, on_true_tile=scores[i, j], on_false_value=-1.0))
        return out

    a, b = rnd(32, 64), rnd(32, 64, seed=1)
    want = np.where(np.tri(64, dtype=bool), a.T @ b, -1)
    np.testing.assert_allclose(causal(a, b), want, rtol=1e-5, atol=1e-5)


def test_a_condition_chooses_elements_of_an_operand():
    """Products leave out columns past the end, of which the index is out of bounds."""

    @old.jit
    def product(a, b):
        out = onl.ndarray((48, 64), dtype=onl.float32, buffer=onl.shared_hbm)
        x, y = onl.load(a), onl.load(b)
        k, m, n = onl.arange(32)[:, None], onl.arange(64)[None, :], onl.arange(64)[None, :]
        acc = onl.zeros((64, 64), dtype=onl.float32, buffer=onl.psum)
        for start in range(0, 64, 32):
            acc[onl.arange(64)[:, None], n] += oisa.nc_matmul(x[k, m][m < 48][True], y[k, start + n][start + n < 64])
        onl.store(out, onl.copy(acc)[0:48, :])
        return out

    a, b = rnd(32, 64), rnd(32, 64, seed=1)
    want = a[:, :48].T @ b
    want[:, :32] += want[:, 32:]
    np.testing.assert_allclose(product(a, b), want, rtol=1e-5, atol=1e-4)


def test_a_column_keeps_a_free_dimension():
    @old.jit
    def columns(a):
        out = onl.ndarray((64, 2), dtype=a.dtype, buffer=onl.shared_hbm)
        t = onl.load(a)

        def swap(left, right):
            before = onl.copy(left[:, 0:1])
            left[:, 0] = onl.copy(right[:, 0:1])
            right[:, 0] = before

        swap(t[:, 0], t[:, 1])
        onl.store(out, t)
        return out

    a = rnd(64, 2)
    np.testing.assert_array_equal(columns(a), a[:, ::-1])


def test_a_tile_of_indices_gathers_rows():
    @old.jit
    def gather(data, at):
        out = onl.ndarray((32, 4), dtype=data.dtype, buffer=onl.shared_hbm)
        rows = onl.load(at)
        for i in range(4):
            column = onl.ndarray((32, 1), dtype=data.dtype, buffer=onl.sbuf)
            column[:, 0] = onl.load(data[1, rows[:, i].as_tile()])
            onl.store(out[:, i : i + 1], column)
        return out

    data, at = rnd(2, 100, 1), np.random.default_rng(2).integers(0, 100, (32, 4)).astype(np.int32)
    np.testing.assert_array_equal(gather(data, at), data[1, at, 0])


@pytest.mark.parametrize("grid", [(1, 1), (1,), (2, 1), None])
def test_a_grid_has_the_dimensions_that_it_was_given(grid):
    @old.jit
    def count(a):
        out = onl.ndarray((1, 2), dtype=onl.float32, buffer=onl.shared_hbm)
        if onl.program_id(0) == 0:
            t = onl.ndarray((1, 2), dtype=onl.float32, buffer=onl.sbuf)
            t[:, 0:1], t[:, 1:2] = float(onl.program_ndim()), float(onl.num_programs(0))
            onl.store(out, t)
        return out

    got = (count[grid] if grid else count)(np.zeros((1, 1), np.float32))
    np.testing.assert_array_equal(got[0], [len(grid or ()), grid[0] if grid else 1])


def test_a_tensor_given_as_axis_is_named():
    @old.jit
    def larger(a):
        t = onl.load(a)
        return onl.max(t, t)

    with pytest.raises(NkiValidationError, match=r"a tensor is no axis.*nl\.maximum\(a, b\)"):
        larger(rnd(4, 4))


def test_par_dim_marks_the_first_dimension_only():
    @nki.jit
    def double(a, before=()):
        out = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
        t = nl.ndarray((*before, nl.par_dim(a.shape[0]), a.shape[1]), dtype=a.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=t, src=a)
        nisa.tensor_tensor(dst=t, data1=t, data2=t, op=nl.add)
        nisa.dma_copy(dst=out, src=t)
        return out

    np.testing.assert_array_equal(double(rnd(8, 3)), 2 * rnd(8, 3))
    with pytest.raises(NkiValidationError, match=r"par_dim marks a dimension that is not the first.*\[2, 8, 3\]"):
        double(rnd(8, 3), before=(2,))


def test_a_range_of_a_loop_is_an_index():
    @nki.jit
    def part(a):
        rows, columns = nl.affine_range(8), nl.affine_range(1, 7, 2)
        out = nl.ndarray((8, 3), dtype=a.dtype, buffer=nl.shared_hbm)
        nl.store(out[rows, nl.affine_range(3)], nl.load(a[rows, columns]))
        return out

    np.testing.assert_array_equal(part(rnd(16, 9)), rnd(16, 9)[:8, 1:7:2])


def test_a_reduction_over_loops_starts_anew_where_they_are_at_zero():
    @old.jit
    def sums(a):
        out = onl.ndarray((2, 64, 3), dtype=a.dtype, buffer=onl.shared_hbm)
        total = onl.ndarray((64, 3), dtype=a.dtype, buffer=onl.sbuf)
        again = onl.ndarray((64, 1), dtype=a.dtype, buffer=onl.sbuf)
        for i in onl.affine_range(3):
            for j in onl.affine_range(4):
                column = onl.load(a[:, 4 * i + j : 4 * i + j + 1])
                total[:, i : i + 1] = onl.loop_reduce(column, op=np.add, loop_indices=[j], dtype=a.dtype)
                again[:, 0:1] = onl.loop_reduce(column, op=np.add, loop_indices=[j], dtype=a.dtype)
            onl.store(out[1, :, i : i + 1], again)
        onl.store(out[0], total)
        return out

    a = rnd(64, 12)
    np.testing.assert_allclose(sums(a), [a.reshape(64, 3, 4).sum(-1)] * 2, rtol=1e-5, atol=1e-5)


def test_blocks_are_tiles_that_live_while_they_are_used():
    """Eight blocks of 64 KB per partition, one in use at a time: no spills, and no warning of capacity."""

    def doubled(a):
        out = onl.ndarray(a.shape, dtype=a.dtype, buffer=onl.shared_hbm)
        t = onl.ndarray((2, 4, onl.par_dim(128), 16384 // 4), dtype=a.dtype, buffer=onl.sbuf)
        twice = onl.ndarray((2, 4, onl.par_dim(128), 16384 // 4), dtype=a.dtype, buffer=onl.sbuf)
        for i in onl.affine_range(2):
            for j in onl.affine_range(4):
                t[i, j] = onl.load(a[i, j])
                row = twice[i]
                row[j] = onl.add(t[i][j], t[i, j, :, :])
                onl.store(out[i, j], twice[i, j])
        return out

    a = rnd(2, 4, 128, 16384 // 4)
    result = nki.run_kernel(old.jit(doubled), a, target="trn2")
    np.testing.assert_array_equal(result.outputs[0], 2 * a)
    assert result.profile.spill_B == 0
    assert not result.warnings


def test_blocks_lie_side_by_side_where_they_are_named_together():
    @old.jit
    def together(a, first):
        out = onl.ndarray((4, 8, 16), dtype=a.dtype, buffer=onl.shared_hbm)
        t = onl.zeros((4, onl.par_dim(8), 16), dtype=a.dtype, buffer=onl.sbuf)
        for i in range(first):
            t[i] = onl.load(a[i])
        p, j, f = onl.mgrid[0:8, 0:2, 0:16]
        t[2 + j, p, f] = onl.load(a[2 + j, p, f])
        t[0, 0:1, 0:1] = 7.0
        for i in range(4):
            onl.store(out[i], t[i])
        return out

    a = rnd(4, 8, 16)
    for first in (0, 2):
        want = a.copy()
        want[first:2] = 0
        want[0, 0, 0] = 7
        np.testing.assert_array_equal(together(a, first), want)


def test_a_kernel_to_measure_takes_the_form_of_an_array():
    @old.benchmark(warmup=1, iters=2)
    def double(a, scale):
        out = onl.ndarray(a.shape, dtype=a.dtype, buffer=onl.shared_hbm)
        onl.store(out, onl.load(a) * scale)
        return out

    a = double(old.typing.tensor[[64, 32], onl.bfloat16], 2.0)
    assert a.shape == (64, 32)
    assert a.dtype == onl.bfloat16.dtype
    assert double.benchmark_result.nc_latency.get_latency_percentile(99) > 0


def test_a_column_is_added_along_all_free_dimensions():
    @old.jit
    def biased(a, bias):
        out = onl.ndarray((32, 6, 4), dtype=a.dtype, buffer=onl.shared_hbm)
        t, b = onl.load(a), onl.load(bias)
        onl.store(out, oisa.tensor_tensor(t.reshape(shape=(32, 6, 4)), b[:, 1], onl.add))
        return out

    a, bias = rnd(32, 24), rnd(32, 2, seed=1)
    np.testing.assert_array_equal(biased(a, bias), (a + bias[:, 1:]).reshape(32, 6, 4))


def test_shapes_that_do_not_fit_are_named():
    @old.jit
    def added(a, b):
        return oisa.tensor_tensor(onl.load(a), onl.load(b), onl.add)

    @old.jit
    def copied(a, b):
        oisa.dma_copy(dst=b, src=onl.load(a))

    with pytest.raises(NkiValidationError, match=r"tensor_tensor: shapes differ.*data1 \[8, 4\], data2 \[8, 3\]"):
        added(rnd(8, 4), rnd(8, 3))
    with pytest.raises(
        NkiValidationError, match=r"dma_copy: src has 32 elements and dst 24.*src \[8, 4\], dst \[8, 3\]"
    ):
        copied(rnd(8, 4), rnd(8, 3))


def test_names_that_the_newer_interface_lacks_say_what_to_do():
    with pytest.raises(AttributeError, match=r"no nki\.benchmark; `mowich kernel profile"):
        nki.benchmark(warmup=1)
    assert not hasattr(nki, "simulate_kernel")
    assert not hasattr(nki, "nothing")


def test_elements_that_a_mask_leaves_out_of_a_load_are_computed_on_and_stand_out():
    def doubled(a, hide):
        out = onl.ndarray((128, 8), dtype=a.dtype, buffer=onl.shared_hbm)
        i, j = onl.mgrid[0:128, 0:8]
        t = onl.load(a[i, j], mask=i < a.shape[0])
        onl.store(out[i, j], t * t, mask=i < a.shape[0]) if hide else onl.store(out, onl.copy(t * t))
        return out

    a = rnd(100, 8)
    with pytest.raises(NkiValidationError, match="22% of its elements were never written"):
        nki.run_kernel(old.jit(doubled), a, True)
    got = nki.run_kernel(old.jit(doubled), a, False).outputs[0]
    np.testing.assert_array_equal(got[:100], a * a)
    assert np.isnan(got[100:]).all()


def test_compiler_options_of_the_older_interface_have_their_effect():
    """--disable-dge: descriptors are made before the launch, as with the newer interface."""
    import mowich
    from mowich.neuroncore.instructions.rates import RINGS

    def body(x):
        out = onl.ndarray((128, 512), dtype=np.float32, buffer=onl.shared_hbm)
        onl.store(out, value=onl.load(x))
        return out

    def rings(kernel):
        p = mowich.run_kernel(kernel, nki.hollow((128, 512), "float32"), target="trn2", values=False).schedule.programs[
            0
        ]
        return {name for c in p.cost for name, queues in RINGS.items() if p.costs[c].queue in queues}

    assert rings(old.jit(body)) == {"sync"}
    for option in ("--disable-dge", "--lnc=1 --disable-dge", ["--disable-dge"]):
        for decorate in (old.jit, old.benchmark):
            assert rings(decorate(additional_compile_opt=option)(body)) == {"static"}
