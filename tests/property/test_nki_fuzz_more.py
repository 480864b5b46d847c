"""More random kernels against NumPy: every function of the Scalar Engine, selections, searches, gathers, running
reductions, statistics, access patterns on chip, reductions by DMA, and microscaling.

The examples are the same in every run. MOWICH_FUZZ=N draws N new ones for each test.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mowich.nki.isa as nisa
import mowich.nki.language as nl
from mowich.errors import UserError
from mowich.nki import run_kernel
from nki_kernels import (
    FEW,
    FLOATS,
    INTEGERS,
    cast,
    dtypes,
    loaded,
    near,
    output,
    random,
    run,
    same,
    sbuf,
    seeds,
    shapes,
    stored,
)

partitions = st.sampled_from([1, 2, 31, 32, 33, 64, 127, 128])
COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "equal": np.equal,
    "not_equal": np.not_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
}


def pair(kernel: Callable[..., Any], *arrays: Any, target: str = "trn3") -> list[Any]:
    """All outputs of a kernel."""
    result = run_kernel(kernel, *arrays, target=target)
    assert not isinstance(result, list)
    return list(result.outputs)


# functions
# ----------------------------------------------------------------------------------------------------

erf = np.vectorize(math.erf, otypes=[float])


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def derivative(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """By central differences, as good as 1e-9 in float64."""
    return lambda x: (f(x + 1e-5) - f(x - 1e-5)) / 2e-5


def gelu(x: Any) -> Any:
    return x * 0.5 * (1 + erf(x / math.sqrt(2)))


def approximate(x: Any) -> Any:
    return x * sigmoid(1.702 * x)


def silu(x: Any) -> Any:
    return x * sigmoid(x)


FUNCTIONS: dict[str, tuple[Callable[[Any], Any], float, float]] = {  # NumPy's function, and the range to draw from
    "gelu": (gelu, -8, 8),
    "gelu_dx": (derivative(gelu), -8, 8),
    "gelu_apprx_sigmoid": (approximate, -8, 8),
    "gelu_apprx_sigmoid_dx": (derivative(approximate), -8, 8),
    "silu": (silu, -8, 8),
    "silu_dx": (derivative(silu), -8, 8),
    "gelu_apprx_tanh": (lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))), -8, 8),
    "softplus": (lambda x: np.log1p(np.exp(x)), -8, 8),
    "mish": (lambda x: x * np.tanh(np.log1p(np.exp(x))), -8, 8),
    "erf": (erf, -5, 5),
    "erf_dx": (derivative(erf), -3, 3),
    "exp": (np.exp, -8, 8),
    "log": (np.log, 1e-3, 100),
    "sin": (np.sin, -3.1, 3.1),
    "cos": (np.cos, -3.1, 3.1),
    "arctan": (np.arctan, -1.5, 1.5),
    "tanh": (np.tanh, -8, 8),
    "sigmoid": (sigmoid, -8, 8),
    "sqrt": (np.sqrt, 1e-3, 100),
    "rsqrt": (lambda x: 1 / np.sqrt(x), 1e-3, 100),
    "reciprocal": (lambda x: 1 / x, 1e-3, 100),
    "square": (np.square, -8, 8),
    "abs": (np.abs, -8, 8),
    "relu": (lambda x: np.maximum(x, 0), -8, 8),
    "sign": (np.sign, -8, 8),
    "ceil": (np.ceil, -8, 8),
    "floor": (np.floor, -8, 8),
    "trunc": (np.trunc, -8, 8),
    "copy": (lambda x: x, -8, 8),
}


@FEW
@given(
    shapes,
    st.sampled_from(FLOATS[:3]),
    st.sampled_from(FLOATS[:3]),
    st.sampled_from(sorted(FUNCTIONS)),
    st.booleans(),
    seeds,
)
def test_every_function(shape: tuple[int, int], dtype: Any, out: Any, op: str, nki_names: bool, seed: int) -> None:
    f, low, high = FUNCTIONS[op]
    x = np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32).astype(dtype.dtype)
    token = getattr(nl, op, op) if nki_names else op

    def kernel(x: Any) -> Any:
        tile = sbuf(shape, out)
        nisa.activation(dst=tile, op=token, data=loaded(x))
        return stored(tile)

    want = f(x.astype(np.float64))
    got = run(kernel, x).astype(np.float64)
    step = {"float32": 2.0**-18, "bfloat16": 2.0**-8, "float16": 2.0**-11}[out.name]
    assert np.all(np.abs(got - want) <= step * np.abs(want) + 2e-6)


@FEW
@given(
    shapes,
    st.sampled_from(FLOATS[:2]),
    st.sampled_from(["add", "subtract", "multiply", "maximum"]),
    st.sampled_from(["add", "maximum", "minimum"]),
    st.booleans(),
    st.booleans(),
    seeds,
)
def test_scalar_then_tensor(
    shape: tuple[int, int], dtype: Any, op0: str, op1: str, r0: bool, r1: bool, seed: int
) -> None:
    x, y = random(seed, shape, dtype), random(seed + 1, shape, dtype)
    model: dict[str, Any] = {
        "add": np.add,
        "subtract": np.subtract,
        "multiply": np.multiply,
        "maximum": np.maximum,
        "minimum": np.minimum,
    }

    def kernel(x: Any, y: Any) -> Any:
        tile = sbuf(shape, nl.float32)
        nisa.scalar_tensor_tensor(
            dst=tile,
            data=loaded(x),
            op0=getattr(nl, op0),
            operand0=1.25,
            op1=getattr(nl, op1),
            operand1=loaded(y),
            reverse0=r0,
            reverse1=r1,
        )
        return stored(tile)

    a, b, c = x.astype(np.float32), y.astype(np.float32), np.float32(1.25)
    first = model[op0](c, a) if r0 else model[op0](a, c)
    same(run(kernel, x, y), (model[op1](b, first) if r1 else model[op1](first, b)).astype(np.float32))


@FEW
@given(
    st.integers(1, 128),
    st.integers(1, 30),
    st.sampled_from(["add", "subtract", "multiply"]),
    st.sampled_from(["add", "multiply", "maximum", "minimum"]),
    st.booleans(),
    st.booleans(),
    seeds,
)
def test_reductions_that_carry_over(p: int, f: int, op0: str, reduce: str, negate: bool, load: bool, seed: int) -> None:
    x, y = (np.random.default_rng(seed + i).uniform(-1.1, 1.1, (p, f)).astype(np.float32) for i in (0, 1))

    def kernel(x: Any, y: Any) -> Any:
        tile, total = sbuf((p, f), nl.float32), sbuf((p, 1), nl.float32)
        token = getattr(nl, reduce)
        how: dict[str, Any] = {"reduce_cmd": nisa.reduce_cmd.load_reduce, "reduce_init": 0.5} if load else {}
        nisa.tensor_scalar_reduce(dst=tile, data=loaded(x), op0=getattr(nl, op0), operand0=0.75, reduce_op=token, **how)
        nisa.tensor_scalar_reduce(
            dst=tile,
            data=loaded(y),
            op0=getattr(nl, op0),
            operand0=0.75,
            reduce_op=token,
            reduce_res=total,
            reduce_cmd=nisa.reduce_cmd.reduce,
            reduce_res_negate=negate,
        )
        return stored(total)

    model: dict[str, Any] = {
        "add": np.add,
        "subtract": np.subtract,
        "multiply": np.multiply,
        "maximum": np.maximum,
        "minimum": np.minimum,
    }
    both = model[op0](np.concatenate([x, y], axis=1).astype(np.float64), 0.75)
    want = model[reduce].reduce(both, axis=1)
    want = model[reduce](want, 0.5) if load else want
    near(run(kernel, x, y)[:, 0], -want if negate else want, 1e-4)


@FEW
@given(
    partitions,
    st.integers(1, 30),
    st.sampled_from(["add", "multiply"]),
    st.sampled_from(["add", "subtract", "multiply", "maximum", "minimum"]),
    st.booleans(),
    seeds,
)
def test_running_reductions(p: int, f: int, op0: str, op1: str, reverse: bool, seed: int) -> None:
    x = np.random.default_rng(seed).uniform(-1.2, 1.2, (p, f)).astype(np.float32)
    start = np.random.default_rng(seed + 1).uniform(-1, 1, (p, 1)).astype(np.float32)

    def kernel(x: Any, start: Any) -> Any:
        tile = sbuf((p, f), nl.float32)
        nisa.tensor_scalar_cumulative(
            dst=tile,
            src=loaded(x),
            op0=getattr(nl, op0),
            op1=getattr(nl, op1),
            imm0=0.5,
            imm1=loaded(start),
            reduce_cmd=nisa.reduce_cmd.load_reduce,
            reverse0=reverse,
        )
        return stored(tile)

    model: dict[str, Any] = {
        "add": np.add,
        "subtract": np.subtract,
        "multiply": np.multiply,
        "maximum": np.maximum,
        "minimum": np.minimum,
    }
    state, want = start[:, 0].astype(np.float64), np.empty((p, f))
    for i in range(f):
        state = model[op1](model[op0](x[:, i].astype(np.float64), 0.5), state)
        want[:, i] = state
    near(run(kernel, x, start), want, 1e-4)


# selections
# ----------------------------------------------------------------------------------------------------


@FEW
@given(
    shapes,
    st.sampled_from(FLOATS),
    st.sampled_from(FLOATS),
    st.sampled_from(INTEGERS[:4]),
    st.booleans(),
    st.booleans(),
    seeds,
)
def test_select_and_its_maximum(
    shape: tuple[int, int], dtype: Any, out: Any, mask: Any, reverse: bool, column: bool, seed: int
) -> None:
    x, other = random(seed, shape, dtype), random(seed + 1, (shape[0], 1), nl.float32)
    m = np.random.default_rng(seed).integers(0, 2, shape).astype(mask.dtype)

    def kernel(x: Any, m: Any, other: Any) -> Any:
        tile, most = sbuf(shape, out), sbuf((shape[0], 1), nl.float32)
        nisa.select_reduce(
            dst=tile,
            predicate=loaded(m),
            on_true=loaded(x),
            on_false=loaded(other) if column else -3.0,
            reverse_pred=reverse,
            reduce_cmd=nisa.reduce_cmd.reset_reduce,
            reduce_res=most,
        )
        return stored(tile), stored(most)

    chosen = np.where((m == 0) if reverse else (m != 0), x.astype(np.float32), other if column else np.float32(-3))
    got, most = pair(kernel, x, m, other)
    same(got, cast(chosen, out))
    same(most[:, 0], chosen.max(axis=1))


@FEW
@given(shapes, dtypes, st.booleans(), seeds)
def test_copies_where_a_predicate_holds(shape: tuple[int, int], dtype: Any, reverse: bool, seed: int) -> None:
    x, y = random(seed, shape, dtype), random(seed + 1, shape, dtype)
    m = np.random.default_rng(seed).integers(0, 2, shape).astype(np.uint8)

    def kernel(x: Any, y: Any, m: Any) -> Any:
        tile = loaded(y)
        nisa.tensor_copy_predicated(dst=tile, src=loaded(x), predicate=loaded(m), reverse_pred=reverse)
        return stored(tile)

    same(run(kernel, x, y, m), np.where((m == 0) if reverse else (m != 0), x, y))


@FEW
@given(
    st.integers(1, 128),
    st.lists(st.tuples(st.integers(-4, 4), st.integers(1, 6)), min_size=1, max_size=3),
    st.integers(-9, 9),
    st.integers(-3, 3),
    st.sampled_from(sorted(COMPARE)),
    st.sampled_from([*FLOATS[:3], *INTEGERS[:4]]),
    seeds,
)
def test_affine_select(
    p: int, pattern: list[tuple[int, int]], offset: int, channel: int, op: str, dtype: Any, seed: int
) -> None:
    shape = (p, *(n for _, n in pattern))
    x = random(seed, shape, dtype)

    def kernel(x: Any) -> Any:
        tile = sbuf(shape, dtype)
        nisa.affine_select(
            dst=tile,
            pattern=[list(q) for q in pattern],
            offset=offset,
            channel_multiplier=channel,
            on_true_tile=loaded(x),
            on_false_value=7.0,
            cmp_op=getattr(nl, op),
        )
        return stored(tile)

    index = np.indices(shape)
    value = offset + channel * index[0] + sum(s * index[i + 1] for i, (s, _) in enumerate(pattern))
    same(run(kernel, x), np.where(COMPARE[op](value, 0), x, np.asarray(7).astype(dtype.dtype)))


@FEW
@given(
    st.integers(1, 128),
    st.integers(1, 40),
    st.sampled_from(["less", "less_equal", "greater", "greater_equal", "equal"]),
    st.sampled_from(["less", "less_equal", "greater", "greater_equal", "equal"]),
    st.integers(0, 5),
    seeds,
)
def test_range_select(p: int, f: int, op0: str, op1: str, start: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = random(seed, (p, f), nl.bfloat16)
    low, high = (rng.integers(0, f + 6, (p, 1)).astype(np.float32) for _ in range(2))

    def kernel(x: Any, low: Any, high: Any) -> Any:
        tile, most = sbuf((p, f), nl.float32), sbuf((p, 1), nl.float32)
        nisa.range_select(
            dst=tile,
            on_true_tile=loaded(x),
            comp_op0=getattr(nl, op0),
            comp_op1=getattr(nl, op1),
            bound0=loaded(low),
            bound1=loaded(high),
            range_start=start,
            on_false_value=-1e30,
            reduce_res=most,
        )
        return stored(tile), stored(most)

    index = np.arange(f) + start
    want = np.where(COMPARE[op0](index, low) & COMPARE[op1](index, high), x.astype(np.float32), np.float32(-1e30))
    got, most = pair(kernel, x, low, high)
    same(got, want.astype(np.float32))
    same(most[:, 0], want.max(axis=1).astype(np.float32))


# searches and gathers
# ----------------------------------------------------------------------------------------------------


@FEW
@given(partitions, st.integers(8, 60), st.integers(2, 40), seeds)
def test_the_eight_largest(p: int, f: int, levels: int, seed: int) -> None:
    """Few levels make many ties."""
    x = np.random.default_rng(seed).integers(-levels, levels, (p, f)).astype(np.float32)

    def kernel(x: Any) -> Any:
        tile, most, at, replaced, where = (
            loaded(x),
            sbuf((p, 8), nl.float32),
            sbuf((p, 8), nl.uint32),
            sbuf((p, f), nl.float32),
            sbuf((p, 8), nl.uint32),
        )
        nisa.max8(dst=most, src=tile)
        nisa.nc_find_index8(dst=at, data=tile, vals=most)
        nisa.nc_match_replace8(dst=replaced, data=tile, vals=most, imm=-99.0, dst_idx=where)
        return stored(most), stored(at), stored(replaced), stored(where)

    order = np.argsort(-x, axis=1, kind="stable")[:, :8]
    most, at, replaced, where = pair(kernel, x)
    same(most, np.take_along_axis(x, order, axis=1))
    same(at, order.astype(np.uint32))  # equal values: earlier places first
    want = x.copy()
    np.put_along_axis(want, order, -99.0, axis=1)
    same(replaced, want)
    same(np.sort(where, axis=1), np.sort(order, axis=1).astype(np.uint32))
    same(np.take_along_axis(x, where.astype(np.int64), axis=1), most)


@FEW
@given(partitions, st.integers(1, 40), st.integers(1, 40), dtypes, seeds)
def test_gathers_within_partitions(p: int, f: int, n: int, dtype: Any, seed: int) -> None:
    x = random(seed, (p, f), dtype)
    index = np.random.default_rng(seed).integers(0, f, (p, n)).astype(np.uint32)

    def kernel(x: Any, index: Any) -> Any:
        tile = sbuf((p, n), dtype)
        nisa.nc_n_gather(dst=tile, data=loaded(x), indices=loaded(index))
        return stored(tile)

    same(run(kernel, x, index), np.take_along_axis(x, index.astype(np.int64), axis=1))


@FEW
@given(st.integers(1, 8), st.integers(1, 20), st.integers(1, 4), st.sampled_from([1, 2, 4]), seeds)
def test_gathers_of_groups(groups: int, rows: int, n: int, each: int, seed: int) -> None:
    """16 partitions share the indices of theirs, partition first."""
    p = 16 * groups
    x = random(seed, (p, rows * each), nl.bfloat16)
    index = np.random.default_rng(seed).integers(0, rows, (p, n)).astype(np.uint16)

    def kernel(x: Any, index: Any) -> Any:
        tile = sbuf((p, n * 16 * each), x.dtype)
        nisa.local_gather(dst=tile, src_buffer=loaded(x), index=loaded(index), num_elem_per_idx=each)
        return stored(tile)

    want = np.stack(
        [x[i].reshape(rows, each)[index[i // 16 * 16 : i // 16 * 16 + 16].T.reshape(-1)].reshape(-1) for i in range(p)]
    )
    same(run(kernel, x, index), want)


@FEW
@given(
    partitions,
    st.integers(1, 20),
    dtypes,
    st.lists(st.sampled_from([*range(32), 255]), min_size=32, max_size=32),
    seeds,
)
def test_shuffles_of_quadrants(p: int, f: int, dtype: Any, mask: list[int], seed: int) -> None:
    x, y = random(seed, (p, f), dtype), random(seed + 1, (p, f), dtype)

    def kernel(x: Any, y: Any) -> Any:
        tile = loaded(y)
        nisa.nc_stream_shuffle(dst=tile, src=loaded(x), shuffle_mask=mask)
        return stored(tile)

    source = np.array([q // 32 * 32 + mask[q % 32] if mask[q % 32] != 255 else -1 for q in range(p)])
    if (source >= p).any():
        with pytest.raises(UserError):
            run(kernel, x, y)
    else:
        same(run(kernel, x, y), np.where((source < 0)[:, None], y, x[source]))


@FEW
@given(
    st.integers(1, 8),
    st.integers(1, 30),
    st.sampled_from([nl.int32, nl.float32]),
    st.integers(-5, 50),
    st.floats(0, 1),
    seeds,
)
def test_nonzero(groups: int, f: int, dtype: Any, offset: int, density: float, seed: int) -> None:
    p = 16 * groups
    rng = np.random.default_rng(seed)
    x = np.where(rng.random((p, f)) < density, rng.integers(1, 9, (p, f)), 0).astype(dtype.dtype)

    def kernel(x: Any) -> Any:
        tile = sbuf((p, f + 1), nl.int32)
        nisa.memset(dst=tile, value=-7)
        nisa.nonzero_with_count(dst=tile, src=loaded(x), index_offset=offset, padding_val=-1)
        return stored(tile)

    want = np.full((p, f + 1), -7, np.int32)
    for i in range(0, p, 16):
        at = np.flatnonzero(x[i])
        want[i] = [*(at + offset), *([-1] * (f - at.size)), at.size]
    same(run(kernel, x), want)


@FEW
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(1, 6)), min_size=1, max_size=6),
    st.sampled_from([nl.int32, nl.float32]),
)
def test_bounds_of_sequences(runs: list[tuple[int, int]], dtype: Any) -> None:
    ids = np.concatenate([np.full(n, i) for i, n in runs]).astype(dtype.dtype)
    n = ids.size

    def kernel(x: Any) -> Any:
        tile = sbuf((1, 2, n), dtype)
        nisa.sequence_bounds(dst=tile, segment_ids=loaded(x))
        return stored(tile)

    want = np.empty((1, 2, n), dtype.dtype)
    for i in range(n):
        first, last = i, i
        while first > 0 and ids[first - 1] == ids[i]:
            first -= 1
        while last + 1 < n and ids[last + 1] == ids[i]:
            last += 1
        want[0, :, i] = (first, last + 1) if ids[i] else (n, -1)
    got = run(kernel, ids.reshape(1, n))
    if n != 2:  # a tile whose last axis is 2 is taken as pairs
        same(got, want)


# statistics and reductions
# ----------------------------------------------------------------------------------------------------


@FEW
@given(partitions, st.integers(2, 60), st.integers(1, 3), st.sampled_from(FLOATS[:3]), seeds)
def test_mean_and_variance(p: int, f: int, parts: int, dtype: Any, seed: int) -> None:
    x = np.random.default_rng(seed).uniform(-3, 5, (p, parts, f)).astype(np.float32).astype(dtype.dtype)

    def kernel(x: Any) -> Any:
        stats, out = sbuf((p, parts * 6), nl.float32), sbuf((p, 2), nl.float32)
        tile = loaded(x)
        for i in range(parts):
            nisa.bn_stats(dst=stats[:, 6 * i : 6 * i + 6], data=tile[:, i, :])
        nisa.bn_aggr(dst=out, data=stats)
        return stored(out)

    y = x.astype(np.float64).reshape(p, -1)
    near(run(kernel, x), np.stack([y.mean(axis=1), y.var(axis=1)], axis=1), 1e-5)


@FEW
@given(
    st.integers(1, 128),
    st.integers(1, 30),
    st.sampled_from(["add", "maximum", "minimum"]),
    st.sampled_from(FLOATS[:3]),
    seeds,
)
def test_reductions_over_partitions(p: int, f: int, op: str, dtype: Any, seed: int) -> None:
    x = np.random.default_rng(seed).uniform(-3, 5, (p, f)).astype(np.float32).astype(dtype.dtype)

    def kernel(x: Any) -> Any:
        tile = sbuf((1, f), nl.float32)
        nisa.tensor_partition_reduce(dst=tile, op=getattr(nl, op), data=loaded(x))
        return stored(tile)

    model = {"add": np.sum, "maximum": np.max, "minimum": np.min}[op]
    try:
        got = run(kernel, x)
    except UserError:
        assert op == "minimum"  # the hardware has no such reduction
        return
    near(got[0], model(x.astype(np.float64), axis=0), 1e-4)


@FEW
@given(
    shapes,
    st.sampled_from(FLOATS[:3]),
    st.lists(st.sampled_from([1.0, 0.5, -2.0]), min_size=2, max_size=4),
    st.sampled_from(["add", "maximum"]),
    seeds,
)
def test_reductions_by_dma(shape: tuple[int, int], dtype: Any, scales: list[float], op: str, seed: int) -> None:
    xs = [random(seed + i, shape, dtype) for i in range(len(scales))]
    scaled = op == "add"

    def kernel(*xs: Any) -> Any:
        out = output(xs[0])
        nisa.dma_compute(dst=out, srcs=list(xs), reduce_op=getattr(nl, op), scales=scales if scaled else None)
        return out

    terms = [x.astype(np.float64) * (s if scaled else 1) for x, s in zip(xs, scales, strict=True)]
    want = np.sum(terms, axis=0) if scaled else np.max(terms, axis=0)
    got = run(kernel, *xs).astype(np.float64)
    step = {"float32": 2.0**-22, "bfloat16": 2.0**-8, "float16": 2.0**-10}[dtype.name]
    assert np.all(np.abs(got - want) <= 2 * step * np.sum(np.abs(terms), axis=0) + 1e-7)


# access patterns on chip
# ----------------------------------------------------------------------------------------------------


@FEW
@given(
    partitions,
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 5)), min_size=1, max_size=3),
    st.integers(0, 20),
    dtypes,
    st.booleans(),
    seeds,
)
def test_access_patterns_of_sbuf(
    p: int, pattern: list[tuple[int, int]], offset: int, dtype: Any, write: bool, seed: int
) -> None:
    """Steps and counts along the free dimension: every partition has the same."""
    width = 1 + offset + sum(s * (n - 1) for s, n in pattern)
    x = random(seed, (p, width), dtype)
    grids = np.indices([n for _, n in pattern])
    at = offset + sum(g * s for g, (s, _) in zip(grids, pattern, strict=True))
    y = random(seed + 1, (p, *at.shape), dtype)
    steps = [[width, p], *(list(q) for q in pattern)]

    def kernel(x: Any, y: Any) -> Any:
        tile = loaded(x)
        if write:
            nisa.tensor_copy(dst=tile.ap(steps, offset=offset), src=loaded(y))
            return stored(tile)
        part = sbuf(y.shape, dtype)
        nisa.tensor_copy(dst=part, src=tile.ap(steps, offset=offset))
        return stored(part)

    if write and np.unique(at).size < at.size:
        return  # which of two writes to an element stays is not defined
    want = x.copy()
    if write:
        want[:, at.reshape(-1)] = y.reshape(p, -1)
    same(run(kernel, x, y), want if write else x[:, at])


@FEW
@given(
    st.tuples(st.integers(1, 32), st.integers(1, 6), st.integers(1, 6), st.integers(1, 4)),
    st.permutations([1, 2, 3]),
    dtypes,
    seeds,
)
def test_permuted_views(shape: tuple[int, ...], order: list[int], dtype: Any, seed: int) -> None:
    x = random(seed, shape, dtype)
    axes = (0, *order)

    def kernel(x: Any) -> Any:
        tile = loaded(x)
        out = sbuf(tuple(shape[a] for a in axes), dtype)
        nisa.tensor_copy(dst=out, src=tile.permute(axes))
        return stored(out)

    same(run(kernel, x), np.transpose(x, axes))


@FEW
@given(st.integers(1, 64), st.integers(1, 16), st.sampled_from(INTEGERS), st.sampled_from(INTEGERS), seeds)
def test_views_as_other_formats(p: int, f: int, first: Any, second: Any, seed: int) -> None:
    x = random(seed, (p, 4 * f), first)

    def kernel(x: Any) -> Any:
        return stored(loaded(x).view(second))

    same(run(kernel, x), x.view(second.dtype))


# shifts
# ----------------------------------------------------------------------------------------------------


@FEW
@given(shapes, st.sampled_from([nl.int32, nl.uint32]), st.sampled_from(["left_shift", "right_shift"]), seeds)
def test_shifts(shape: tuple[int, int], dtype: Any, op: str, seed: int) -> None:
    x = random(seed, shape, dtype)
    by = np.random.default_rng(seed).integers(0, 32, shape).astype(dtype.dtype)

    def kernel(x: Any, by: Any) -> Any:
        tile = sbuf(shape, dtype)
        nisa.tensor_tensor(dst=tile, data1=loaded(x), data2=loaded(by), op=getattr(nl, op))
        return stored(tile)

    bits = x.view(np.uint32).astype(np.uint64)
    want = (bits << by.astype(np.uint64)) if op == "left_shift" else bits >> by.astype(np.uint64)
    same(run(kernel, x, by), want.astype(np.uint32).view(dtype.dtype))


# microscaling
# ----------------------------------------------------------------------------------------------------


@FEW
@given(
    st.sampled_from([32, 64, 128]),
    st.integers(1, 32),
    st.integers(1, 40),
    st.sampled_from([nl.float8_e4m3fn_x4, nl.float8_e5m2_x4]),
    st.booleans(),
    seeds,
)
def test_microscaling_products(k: int, m: int, n: int, packed: Any, spread: bool, seed: int) -> None:
    """quantize_mx then nc_matmul_mx: within the error of the format of the product of the numbers themselves, for every
    block's size."""
    rng = np.random.default_rng(seed)
    sizes = 2.0 ** rng.integers(-12, 12, (k // 8, 1)) if spread else np.ones((k // 8, 1))
    a, b = (rng.uniform(-1, 1, (k, 4 * c)) * np.repeat(sizes, 8, axis=0) for c in (m, n))
    a, b = a.astype(np.float32), b.astype(np.float32)

    def quantised(x: Any) -> tuple[Any, Any]:
        tile, columns = loaded(x), x.shape[1] // 4
        half = sbuf(x.shape, nl.bfloat16)
        nisa.tensor_copy(dst=half, src=tile)
        data, scale = sbuf((k, columns), packed), sbuf((k, columns), nl.uint8)
        nisa.quantize_mx(dst=data, src=half, dst_scale=scale)
        return data, scale

    def kernel(a: Any, b: Any) -> Any:
        total = nl.ndarray((m, n), dtype=nl.float32, buffer=nl.psum)
        (x, xs), (y, ys) = quantised(a), quantised(b)
        nisa.nc_matmul_mx(dst=total, stationary=x, moving=y, stationary_scale=xs, moving_scale=ys)
        out = sbuf((m, n), nl.float32)
        nisa.tensor_copy(dst=out, src=total)
        return stored(out)

    x, y = a.astype(np.float64).reshape(k, m, 4), b.astype(np.float64).reshape(k, n, 4)
    want = np.einsum("kmc,knc->mn", x, y)
    # an element is off by half a step of its own, or of the block's smallest normal number
    step = {"float8_e4m3fn_x4": 2.0**-4, "float8_e5m2_x4": 2.0**-3}[packed.name]
    bound = np.einsum("kmc,knc->mn", np.abs(x), np.abs(y)) * (2 * step + step**2 + 2.0**-7)
    floor = np.repeat(sizes, 8, axis=0)[:, 0]
    bound += 2.0**-9 * 4 * (floor**2).sum()
    assert np.all(np.abs(run(kernel, a, b) - want) <= bound + 1e-6)
