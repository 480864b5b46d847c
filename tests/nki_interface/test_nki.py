"""Kernels through the front end: values against NumPy, and errors a kernel author can use."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mowich.nki as nki
import mowich.nki.collectives as ncc
import mowich.nki.isa as nisa
import mowich.nki.language as nl
from mowich.errors import UserError
from mowich.nki import NkiValidationError

BF = ml_dtypes.bfloat16
HERE = r"test_nki\.py:\d+: "


def rnd(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def once(body, *arrays, shape, dtype=nl.float32, **how):
    """Load the arrays, apply body(dst, *tiles), return dst."""

    def kernel(*hbm):
        out = nl.ndarray(shape, dtype=dtype, buffer=nl.shared_hbm)
        dst = nl.ndarray(shape, dtype=dtype, buffer=nl.sbuf)
        body(dst, *[nl.load(h) for h in hbm])
        nisa.dma_copy(dst=out, src=dst)
        return out

    return nki.run_kernel(kernel, *arrays, **how).outputs[0]


@nki.jit
def tiled_matmul(lhs_t, rhs):
    k, m = lhs_t.shape
    n = rhs.shape[1]
    out = nl.ndarray((m, n), dtype=lhs_t.dtype, buffer=nl.shared_hbm)
    acc = nl.ndarray((m, n), dtype=nl.float32, buffer=nl.psum)
    for i in nl.affine_range(k // 128):
        nisa.nc_matmul(
            dst=acc, stationary=nl.load(lhs_t[nl.ds(i * 128, 128), :]), moving=nl.load(rhs[nl.ds(i * 128, 128), :])
        )
    sb = nl.ndarray((m, n), dtype=out.dtype, buffer=nl.sbuf)
    nisa.tensor_copy(dst=sb, src=acc)
    nisa.dma_copy(dst=out, src=sb)
    return out


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
@pytest.mark.parametrize("dtype", [np.float32, BF])
def test_matmul_accumulates_in_psum(target, dtype):
    a, b = rnd(256, 64).astype(dtype), rnd(256, 96, seed=1).astype(dtype)
    got = nki.run_kernel(tiled_matmul, a, b, target=target).outputs[0]
    want = (a.astype(np.float32).T @ b.astype(np.float32)).astype(dtype)
    np.testing.assert_allclose(
        got.astype(np.float32), want.astype(np.float32), rtol=1e-2 if dtype is BF else 1e-5, atol=1e-4
    )


@pytest.mark.parametrize(
    "op", ["add", "subtract", "multiply", "maximum", "minimum", "power", "less", "equal", "logical_and", "abs_max"]
)
def test_tensor_tensor(op):
    a, b = np.abs(rnd(128, 40)), rnd(128, 40, seed=1)
    from mowich.neuroncore.ops import ALU

    got = once(lambda d, x, y: nisa.tensor_tensor(dst=d, data1=x, data2=y, op=getattr(nl, op)), a, b, shape=(128, 40))
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(got, np.asarray(ALU[op].apply(a, b)).astype(np.float32))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 128),
    st.integers(1, 40),
    st.sampled_from(["float32", "bfloat16", "float16", "int8", "uint8", "int32"]),
    st.sampled_from(["float32", "bfloat16", "int8"]),
    st.sampled_from(["add", "subtract", "multiply", "maximum"]),
    st.booleans(),
)
def test_tensor_scalar_equals_numpy(p, f, source, target, op, reverse):
    from mowich.neuroncore.dtypes import as_dtype, cast
    from mowich.neuroncore.ops import ALU

    a = cast(rnd(p, f, seed=p * 41 + f) * 50, as_dtype(source))
    got = once(
        lambda d, x: nisa.tensor_scalar(dst=d, data=x, op0=getattr(nl, op), operand0=3.0, reverse0=reverse),
        a,
        shape=(p, f),
        dtype=target,
    )
    wide, three = a.astype(np.float32), np.float32(3)
    want = cast(ALU[op].apply(three, wide) if reverse else ALU[op].apply(wide, three), as_dtype(target))
    np.testing.assert_array_equal(got.astype(np.float64), want.astype(np.float64))


def test_exact_integers_of_32_bits():
    a = np.array([[2**31 - 1, -(2**31), 16777217]], np.int32)
    got = once(lambda d, x: nisa.tensor_tensor(dst=d, data1=x, data2=x, op=nl.add), a, shape=(1, 3), dtype=nl.int32)
    np.testing.assert_array_equal(got, (a.view(np.uint32) * 2).view(np.int32))


def test_activation_scale_bias_and_accumulators():
    x, b = rnd(64, 32), rnd(64, 1, seed=2)

    def kernel(x_hbm, b_hbm):
        x, b = nl.load(x_hbm), nl.load(b_hbm)
        y = nl.ndarray((64, 32), dtype=nl.float32, buffer=nl.sbuf)
        total = nl.ndarray((64, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.activation(
            dst=y, op=nl.exp, data=x, bias=b, scale=0.5, reduce_op=nl.add, reduce_cmd=nisa.reduce_cmd.reset_reduce
        )
        nisa.activation(
            dst=y,
            op=nl.exp,
            data=x,
            bias=b,
            scale=0.5,
            reduce_op=nl.add,
            reduce_cmd=nisa.reduce_cmd.reduce,
            reduce_res=total,
        )
        outs = [nl.ndarray(t.shape, dtype=t.dtype, buffer=nl.shared_hbm) for t in (y, total)]
        for o, t in zip(outs, (y, total), strict=True):
            nisa.dma_copy(dst=o, src=t)
        return tuple(outs)

    y, total = nki.simulate(kernel)(x, b)
    want = np.exp(x * np.float32(0.5) + b)
    np.testing.assert_allclose(y, want, rtol=1e-6)
    np.testing.assert_allclose(total, 2 * want.sum(1, keepdims=True), rtol=1e-5)


def test_bn_stats_and_aggr_give_mean_and_variance():
    x = rnd(128, 501)

    def body(d, x):
        s = nl.ndarray((128, 6), dtype=nl.float32, buffer=nl.sbuf)
        nisa.bn_stats(dst=s, data=x)
        nisa.bn_aggr(dst=d, data=s)

    got = once(body, x, shape=(128, 2))
    np.testing.assert_allclose(got, np.stack([x.mean(1), x.var(1)], 1), rtol=1e-4, atol=1e-6)


def test_find_and_match_pair_duplicates_in_opposite_orders():
    data = np.array([[1, 2, 3, 4, 8, 8, 8, 8, 8, 8, 8]], np.float32)
    vals = np.array([[3, 8, 8, 8, 8, 8, 8, 8]], np.float32)
    found = once(lambda d, x, v: nisa.nc_find_index8(dst=d, data=x, vals=v), data, vals, shape=(1, 8), dtype=nl.uint32)
    assert found.tolist() == [[2, 4, 5, 6, 7, 8, 9, 10]]

    def body(d, x, v):
        replaced = nl.ndarray((1, 11), dtype=nl.float32, buffer=nl.sbuf)
        nisa.nc_match_replace8(dst=replaced, data=x, vals=v, imm=0.0, dst_idx=d)

    assert once(body, data, vals, shape=(1, 8), dtype=nl.uint32).tolist() == [[2, 10, 9, 8, 7, 6, 5, 4]]


def test_nonzero_with_count_as_documented():
    x = np.array([[0, 1, 1, 0, 0, 1, 0, 0]], np.int32)
    got = once(lambda d, t: nisa.nonzero_with_count(dst=d, src=t, index_offset=16), x, shape=(1, 9), dtype=nl.int32)
    assert got.tolist() == [[17, 18, 21, -1, -1, -1, -1, -1, 3]]


def test_gather_and_scatter_by_vector_offset():
    data, idx = rnd(50, 6), np.array([[3], [49], [0], [7]], np.uint32)

    def kernel(data, idx, into):
        i = nl.load(idx)
        rows = nl.ndarray((4, 6), dtype=nl.float32, buffer=nl.sbuf)
        nisa.dma_copy(dst=rows, src=data.ap([[6, 4], [1, 6]], vector_offset=i, indirect_dim=0))
        nisa.dma_copy(dst=into.ap([[6, 4], [1, 6]], vector_offset=i, indirect_dim=0), src=rows)
        out = nl.ndarray((4, 6), dtype=nl.float32, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=rows)
        return out

    into = np.zeros((50, 6), np.float32)
    got = nki.simulate(kernel)(data, idx, into)
    np.testing.assert_array_equal(got, data[idx[:, 0]])
    np.testing.assert_array_equal(into[idx[:, 0]], data[idx[:, 0]])
    assert not into[1].any()


def test_rows_out_of_bounds_raise_or_are_left_out():
    data, idx = rnd(5, 4), np.array([[3], [9]], np.int32)

    def kernel(data, idx, mode):
        rows = nl.zeros((2, 4), dtype=nl.float32)
        nisa.dma_copy(dst=rows, src=data.ap([[4, 2], [1, 4]], vector_offset=nl.load(idx)), oob_mode=mode)
        out = nl.ndarray((2, 4), dtype=nl.float32, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=rows)
        return out

    with pytest.raises(NkiValidationError, match=HERE + "out-of-bounds"):
        nki.simulate(kernel)(data, idx, nisa.oob_mode.error)
    got = nki.simulate(kernel)(data, idx, nisa.oob_mode.skip)
    np.testing.assert_array_equal(got, np.stack([data[3], np.zeros(4, np.float32)]))


def test_a_row_is_left_out_when_any_source_of_a_dma_compute_lacks_it():
    data, first, second = rnd(5, 4), np.array([[9], [1], [4]], np.int32), np.array([[3], [9], [2]], np.int32)

    def kernel(data, first, second):
        rows = nl.zeros((3, 4), dtype=nl.float32)
        srcs = [data.ap([[4, 3], [1, 4]], vector_offset=nl.load(i)) for i in (first, second)]
        nisa.dma_compute(rows, srcs, nl.add, oob_mode=nisa.oob_mode.skip)
        out = nl.ndarray((3, 4), dtype=nl.float32, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=rows)
        return out

    want = np.stack([np.zeros(4, np.float32), np.zeros(4, np.float32), data[4] + data[2]])
    np.testing.assert_array_equal(nki.simulate(kernel)(data, first, second), want)
    np.testing.assert_array_equal(nki.simulate(kernel)(data, second, first), want)


@pytest.mark.parametrize("name", ["float8_e4m3fn_x4", "float8_e5m2_x4"])
def test_quantised_matmul_is_near_the_exact_one(name):
    a, b = rnd(128, 4 * 64).astype(BF), rnd(128, 4 * 32, seed=1).astype(BF)

    def kernel(a, b):
        out = nl.ndarray((64, 32), dtype=nl.float32, buffer=nl.shared_hbm)
        packed = []
        for x, n in ((nl.load(a), 64), (nl.load(b), 32)):
            q = nl.ndarray((128, n), dtype=name, buffer=nl.sbuf)
            s = nl.ndarray((128, n), dtype=nl.uint8, buffer=nl.sbuf)
            nisa.quantize_mx(dst=q, src=x, dst_scale=s)
            packed.append((q, s))
        acc = nl.ndarray((64, 32), dtype=nl.float32, buffer=nl.psum)
        nisa.nc_matmul_mx(
            dst=acc,
            stationary=packed[0][0],
            moving=packed[1][0],
            stationary_scale=packed[0][1],
            moving_scale=packed[1][1],
        )
        sb = nl.copy(acc)
        nisa.dma_copy(dst=out, src=sb)
        return out

    got = nki.run_kernel(kernel, a, b, target="trn3").outputs[0]
    wa, wb = (x.astype(np.float32).reshape(128, -1, 4).transpose(0, 2, 1).reshape(512, -1) for x in (a, b))
    want = wa.T @ wb
    assert np.abs(got - want).max() < 0.15 * np.abs(want).max()
    with pytest.raises(NkiValidationError, match="needs NeuronCore-v4"):
        nki.run_kernel(kernel, a, b, target="trn2")


def test_transposes_keep_every_bit():
    x = np.arange(65536, dtype=np.uint16).reshape(128, 512)[:, :128].copy().view(BF)

    def kernel(x):
        t = nl.ndarray((128, 128), dtype=nl.bfloat16, buffer=nl.psum)
        nisa.nc_transpose(dst=t, data=nl.load(x))
        out = nl.ndarray((128, 128), dtype=nl.bfloat16, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=nl.copy(t))
        return out

    got = nki.simulate(kernel)(x)
    np.testing.assert_array_equal(got.view(np.uint16), x.view(np.uint16).T)


def test_registers_and_loops_on_the_device():
    def kernel(n, x):
        reg = nisa.register_alloc()
        nisa.register_load(reg, nl.load(n))
        acc = nl.zeros((1, 1), dtype=nl.float32)
        one = nl.ndarray((1, 1), dtype=nl.float32, buffer=nl.sbuf)

        def body(i):
            nisa.dma_copy(dst=one, src=x.ap([[1, 1], [1, 1]], scalar_offset=i, indirect_dim=1))
            nisa.tensor_tensor(dst=acc, data1=acc, data2=one, op=nl.add)

        nl.fori_loop(0, reg, body)
        while reg:
            nisa.register_move(reg, reg - 1)
        assert int(reg) == 0
        out = nl.ndarray((1, 1), dtype=nl.float32, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=acc)
        return out

    x = np.arange(10, dtype=np.float32).reshape(1, 10)
    assert nki.simulate(kernel)(np.array([[6]], np.int32), x)[0, 0] == 15


@nki.jit
def exchange(x):
    me = nl.program_id(0)
    out = nl.ndarray((2, 4), dtype=nl.float32, buffer=nl.shared_hbm)
    mine = nl.load(x[nl.ds(me, 1), :])
    theirs = nl.ndarray((1, 4), dtype=nl.float32, buffer=nl.sbuf)
    nisa.sendrecv(src=mine, dst=theirs, send_to_rank=1 - me, recv_from_rank=1 - me, pipe_id=0)
    nisa.dma_copy(dst=out[nl.ds(me, 1), :], src=theirs)
    nisa.core_barrier(out, (0, 1))
    return out


def test_two_cores_exchange_and_share_hbm():
    x = rnd(2, 4)
    for _ in range(3):
        np.testing.assert_array_equal(nki.simulate(exchange[2])(x), x[::-1])
    with pytest.raises(NkiValidationError, match="needs two cores"):
        exchange(x)


def test_deadlock_says_who_waits_for_what():
    @nki.jit
    def stuck(x):
        if nl.program_id(0) == 0:
            nisa.core_barrier(x, (0, 1))

    with pytest.raises(
        NkiValidationError,
        match=r"deadlock.*core 0 waits for core 1 in core_barrier at .*test_nki.py:\d+; core 1 has ended",
    ):
        stuck[2](rnd(2, 2))


def test_mismatched_collectives_are_named():
    def kernel(x, kind):
        out = nl.ndarray((8, 4), dtype=nl.float32, buffer=nl.shared_hbm)
        ncc.all_reduce([x], [out], ncc.ReplicaGroup([[0, 1]]), nl.add if kind else nl.maximum)

    with pytest.raises(NkiValidationError, match="does not match between ranks"):
        nki.simulate_ranks(kernel, [[rnd(8, 4), 0], [rnd(8, 4), 1]])


# errors
# ---------------------------------------------------------------------------------------------------------------------


def body(f):
    """A kernel of one argument that runs f."""

    def kernel(x):
        f(x)

    return kernel


def sb(*shape, dtype=nl.float32, buffer=nl.sbuf, **k):
    t = nl.ndarray(shape, dtype=dtype, buffer=buffer, **k)
    nisa.memset(t, 0)
    return t


ERRORS = {
    "partition dimension 256 exceeds 128 partitions.*pmax": lambda x: nl.ndarray((256, 4), dtype=nl.float32),
    "needs 1,048,576 bytes in each partition of SBUF": lambda x: nl.ndarray((128, 262144), dtype=nl.float32),
    "dst is in SBUF, must be in PSUM.*nl.psum": lambda x: nisa.nc_matmul(sb(4, 4), sb(4, 4), sb(4, 4)),
    "cannot both be in PSUM": lambda x: nisa.tensor_tensor(
        sb(4, 4), sb(4, 4, buffer=nl.psum), sb(4, 4, buffer=nl.psum), nl.add
    ),
    "data1 is in HBM, must be in SBUF or PSUM.*dma_copy": lambda x: nisa.tensor_tensor(sb(4, 4), x, sb(4, 4), nl.add),
    "src is in PSUM, must be in SBUF or HBM": lambda x: nisa.dma_copy(dst=x, src=sb(4, 4, buffer=nl.psum)),
    "starts at partition 8.*allowed: start at 0, 32, 64, 96": lambda x: nisa.tensor_copy(sb(4, 4), sb(128, 4)[8:12]),
    "same partitions and elements": lambda x: nisa.tensor_copy(sb(4, 4), sb(4, 5)),
    "does not run on the scalar engine": lambda x: nisa.tensor_tensor(
        sb(4, 4), sb(4, 4), sb(4, 4), nl.add, engine=nisa.engine.scalar
    ),
    "GpSimd engine cannot reach PSUM": lambda x: nisa.tensor_copy(
        sb(4, 4), sb(4, 4, buffer=nl.psum), engine=nisa.engine.gpsimd
    ),
    "float32 goes with float32 only": lambda x: nisa.nc_matmul(
        nl.ndarray((4, 4), nl.float32, nl.psum), sb(4, 4), sb(4, 4, dtype=nl.bfloat16)
    ),
    "works on integer tiles": lambda x: nisa.tensor_scalar(sb(4, 4), sb(4, 4), nl.bitwise_and, 1),
    "out-of-bounds access": lambda x: nisa.tensor_copy(sb(4, 4), sb(4, 4)[:, 2:6]),
    "never loaded": lambda x: int(nisa.register_alloc()),
    "cannot reduce the partition dimension": lambda x: nisa.tensor_reduce(sb(1, 4), nl.add, sb(4, 4), 0),
}


@pytest.mark.parametrize("message", ERRORS, ids=lambda m: m[:24])
def test_errors_name_the_line_the_tile_and_the_limit(message):
    with pytest.raises(NkiValidationError, match=HERE + ".*" + message):
        nki.run_kernel(body(ERRORS[message]), np.zeros((4, 4), np.float32), target="trn3")


def test_a_matmul_result_stays_in_one_psum_bank_before_v4():
    def kernel(x):
        wide = nl.ndarray((128, 1024), dtype=nl.float32, buffer=nl.psum)
        nisa.nc_matmul(wide[:, 256:768], sb(128, 128), sb(128, 512))

    with pytest.raises(NkiValidationError, match="crosses a PSUM bank"):
        nki.run_kernel(kernel, np.zeros((1, 1), np.float32), target="trn2")
    nki.run_kernel(kernel, np.zeros((1, 1), np.float32), target="trn3")


def test_reads_of_uninitialised_bytes():
    def kernel(x):
        t = nl.ndarray((4, 8), dtype=nl.float32, buffer=nl.sbuf, name="half")
        nisa.memset(t[:, 0:4], 1)
        nisa.tensor_copy(sb(4, 8), t)

    with pytest.raises(NkiValidationError, match=HERE + r"reads uninitialised bytes of tile 'half'.*50%"):
        nki.run_kernel(kernel, np.zeros((1, 1), np.float32))
    with pytest.warns(UserWarning, match="uninitialised"):
        nki.simulate(kernel)(np.zeros((1, 1), np.float32))


def test_over_capacity_lists_the_largest_live_tiles():
    def kernel(x):
        tiles = [sb(128, 16384, name=f"big{i}") for i in range(5)]
        total = sb(128, 16384)
        for t in tiles:
            nisa.tensor_tensor(total, total, t, nl.add)

    with pytest.raises(NkiValidationError, match=r"SBUF over capacity.*big\d.*test_nki.py"):
        nki.run_kernel(kernel, np.zeros((1, 1), np.float32), target="trn3")

    def reuses(x):
        for i in range(20):
            sb(128, 16384, name=f"one{i}")

    nki.run_kernel(reuses, np.zeros((1, 1), np.float32), target="trn3")


def test_loads_may_wait_for_their_first_read():
    def kernel(x, used):
        loaded = [nl.ndarray((128, 16384), dtype=nl.float32, buffer=nl.sbuf) for _ in range(5)]
        total = sb(128, 16384)
        for t in loaded:
            nisa.dma_copy(t, x)
        for t in loaded:
            nisa.tensor_tensor(total, total, t, nl.add)
        if used:
            for t in loaded:
                nisa.tensor_tensor(total, total, t, nl.add)

    x = np.zeros((128, 16384), np.float32)
    nki.run_kernel(kernel, x, False, target="trn3")
    with pytest.raises(NkiValidationError, match="SBUF over capacity"):
        nki.run_kernel(kernel, x, True, target="trn3")


def test_a_pattern_of_a_column_view_counts_its_own_rows():
    def kernel(x):
        t = nl.load(x)
        right = t.ap([[8, 4], [1, 4]], offset=4)
        out = nl.ndarray((2, 2), dtype=nl.float32, buffer=nl.shared_hbm)
        nisa.dma_copy(out, right.ap([[4, 2], [1, 2]], offset=2))
        return out

    x = np.arange(32, dtype=np.float32).reshape(4, 8)
    np.testing.assert_array_equal(nki.run_kernel(kernel, x).outputs[0], x[:2, 6:8])


@pytest.mark.parametrize("parts", [[slice(0, 4)], [slice(0, 2), slice(2, 4)]])
def test_what_was_written_through_one_tile_is_known_to_others_at_its_address(parts):
    def kernel(x, columns):
        a = nl.ndarray((4, 4), dtype=nl.float32, buffer=nl.sbuf, address=(0, 0))
        for part in parts:
            nisa.memset(a[:, part], 1)
        b = nl.ndarray((4, 8), dtype=nl.float32, buffer=nl.sbuf, address=(0, 0), name="wider")
        nisa.tensor_copy(sb(4, columns), b[:, :columns])

    x = np.zeros((1, 1), np.float32)
    nki.run_kernel(kernel, x, 4)
    with pytest.raises(NkiValidationError, match=r"reads uninitialised bytes of tile 'wider'.*50%"):
        nki.run_kernel(kernel, x, 8)


def test_an_instruction_that_passed_its_checks_is_checked_again_on_other_forms():
    def kernel(x, start, columns):
        a, b = sb(64, 8), sb(64, 8)
        for first, n in ((0, 4), (32, 4), (start, columns)):
            nisa.tensor_copy(b[first : first + 32, 0:n], a[first : first + 32, 0:n])
        nisa.tensor_copy(b[0:32, ::2], a[0:32, 0:4])

    x = np.zeros((1, 1), np.float32)
    nki.run_kernel(kernel, x, 0, 4)
    with pytest.raises(NkiValidationError, match="dst of 32 partitions starts at partition 16"):
        nki.run_kernel(kernel, x, 16, 4)
    with pytest.raises(NkiValidationError, match="is empty"):
        nki.run_kernel(kernel, x, 32, 0)


def test_manual_addresses_share_bytes():
    def kernel(x):
        a = nl.ndarray((4, 4), dtype=nl.float32, buffer=nl.sbuf, address=(0, 0))
        b = nl.ndarray((4, 2), dtype=nl.float32, buffer=nl.sbuf, address=(0, 8))
        nisa.dma_copy(dst=a, src=x)
        out = nl.ndarray((4, 2), dtype=nl.float32, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=b)
        return out

    x = rnd(4, 4)
    np.testing.assert_array_equal(nki.simulate(kernel)(x), x[:, 2:])


def test_overlapping_manual_tiles_in_use_together_are_an_error():
    def kernel(x, second):
        a = sb(4, 4, address=(0, 0), name="first")
        b = sb(4, 4, address=(0, second), name="second")
        nisa.tensor_copy(sb(4, 4, address=(0, 64)), a)
        nisa.tensor_copy(sb(4, 4, address=(0, 96)), b)

    with pytest.raises(NkiValidationError, match=r"tiles overlap in SBUF.*'first'.*'second'.*byte 16"):
        nki.run_kernel(kernel, np.zeros((1, 1), np.float32), 8)
    nki.run_kernel(kernel, np.zeros((1, 1), np.float32), 16)


# arguments, results, records
# ------------------------------------------------------------------------------------------------


def test_arguments_in_trees_are_written_in_place_and_results_keep_their_form():
    class Config(nl.NKIObject):
        scale: float
        data: object = None

    def kernel(config, more):
        t = nl.load(config.data)
        nisa.tensor_scalar(t, t, nl.multiply, config.scale)
        nisa.dma_copy(dst=more["into"][0], src=t)
        return {"same": more["into"][0]}

    x, into = rnd(4, 4), np.zeros((4, 4), np.float32)
    got = nki.simulate(kernel)(Config(scale=2.0, data=x), {"into": [into]})
    np.testing.assert_array_equal(got["same"], 2 * x)
    np.testing.assert_array_equal(into, 2 * x)


def test_the_trace_has_the_bytes_that_each_instruction_touches():
    r = nki.run_kernel(tiled_matmul, rnd(256, 64), rnd(256, 96), target="trn2")
    records = r.cores[0].trace.records
    assert [x.name for x in records].count("nc_matmul") == 2
    mm = next(x for x in records if x.name == "nc_matmul")
    assert mm.engine == "tensor"
    assert mm.writes[0].space == "P"
    assert mm.reads[0].shape == (128, 64)
    assert mm.file.endswith("test_nki.py")
    assert r.instructions == len(records)


def test_a_run_without_values_records_the_same_instructions():
    a, b = rnd(256, 64), rnd(256, 96)
    with_values = nki.run_kernel(tiled_matmul, a, b).cores[0].trace.records
    without = nki.run_kernel(tiled_matmul, a, b, values=False).cores[0].trace.records
    assert [(x.name, x.reads, x.writes) for x in with_values] == [(x.name, x.reads, x.writes) for x in without]


def test_import_nki_resolves_inside_installed_only():
    from importlib import import_module

    with nki.installed():
        assert import_module("nki").jit is nki.jit
        assert import_module("nki.language") is nl
        assert import_module("nki.isa.constants").oob_mode.skip
    with pytest.raises(ImportError):
        __import__("nki.language")


def test_every_submodule_can_be_imported_from_its_package():
    from mowich.nki.install import BETA1, NAMES

    with nki.installed():
        for name in [n for n in (*NAMES, *BETA1) if "." in n]:
            package, _, part = name.rpartition(".")
            assert getattr(__import__(package, fromlist=[part]), part).__name__.startswith("mowich.")


def test_lenient_configuration_dataclasses():
    from dataclasses import dataclass

    @dataclass
    class Sizes(nl.NKIObject):
        a: int
        b: int
        c: int = 3
        loose = None

    made = Sizes(a=1, loose=5)
    assert (made.a, made.b, made.c, made.loose) == (1, None, 3, 5)


def test_unknown_target_lists_the_known():
    with pytest.raises(UserError, match="unknown target 'trn9'"):
        nki.run_kernel(tiled_matmul, rnd(128, 4), rnd(128, 4), target="trn9")


def test_convenience_layer():
    x, y = np.abs(rnd(64, 30)) + 0.5, rnd(64, 1, seed=3)

    def kernel(x, y):
        a, b = nl.load(x), nl.load(y)
        z = nl.softmax(nl.add(nl.multiply(a, b), 1.5), axis=1)
        w = nl.where(nl.greater(a, 1.0), nl.sqrt(a), nl.negative(a))
        outs = []
        for t in (z, w, nl.mean(a, axis=1), nl.var(a, axis=1), nl.sin(nl.multiply(a, 7.0))):
            o = nl.ndarray(t.shape, dtype=t.dtype, buffer=nl.shared_hbm)
            nl.store(o, t)
            outs.append(o)
        return tuple(outs)

    z, w, mean, var, sine = nki.simulate(kernel)(x, y)
    e = np.exp(x * y + 1.5 - (x * y + 1.5).max(1, keepdims=True))
    np.testing.assert_allclose(z, e / e.sum(1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(w, np.where(x > 1, np.sqrt(x), -x), rtol=1e-6)
    np.testing.assert_allclose(mean[:, 0], x.mean(1), rtol=1e-5)
    np.testing.assert_allclose(var[:, 0], x.var(1), rtol=1e-4)
    np.testing.assert_allclose(sine, np.sin(7 * x), atol=1e-5)


def test_a_number_in_hbm_broadcasts_over_partitions():
    def kernel(x, limit):
        out = nl.ndarray(x.shape, dtype=nl.float32, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=nl.copy(nl.greater(nl.load(x), limit), dtype=nl.float32))
        return out

    x = rnd(128, 4)
    got = nki.run_kernel(kernel, x, np.full((1, 1), 0.1, np.float32), target="trn2").outputs[0]
    np.testing.assert_array_equal(got, (x > 0.1).astype(np.float32))
