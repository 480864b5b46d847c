"""Random kernels against NumPy: instructions over shapes, dtypes and access patterns give NumPy's value or one clear
error.

The examples are the same in every run. MOWICH_FUZZ=N draws N new ones for each test.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import mowich.nki.isa as nisa
import mowich.nki.language as nl
from mowich.errors import UserError
from mowich.nki import run_kernel
from nki_kernels import (
    FEW,
    FLOATS,
    INTEGERS,
    MANY,
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

# copies and casts
# ----------------------------------------------------------------------------------------------------


@FEW
@given(shapes, dtypes, dtypes, st.booleans(), seeds)
def test_casts(shape: tuple[int, int], source: Any, target: Any, by_dma: bool, seed: int) -> None:
    x = random(seed, shape, source)

    def kernel(x: Any) -> Any:
        tile = sbuf(x.shape, target)
        if by_dma:
            nisa.dma_copy(dst=tile, src=x)
        else:
            nisa.tensor_copy(dst=tile, src=loaded(x))
        return stored(tile)

    if source is target:
        want = x
    elif source in INTEGERS and target in INTEGERS:
        info = np.iinfo(target.dtype)
        want = np.clip(x.astype(np.int64), info.min, info.max).astype(target.dtype)
    else:
        want = cast(x.astype(np.float32), target)
    same(run(kernel, x), want)


@st.composite
def slices(draw: Any, shape: tuple[int, ...]) -> tuple[slice, ...]:
    made = []
    for n in shape:
        start = draw(st.integers(0, n - 1))
        made.append(slice(start, draw(st.integers(start + 1, n)), draw(st.integers(1, 3))))
    return tuple(made)


@FEW
@given(st.data(), dtypes, seeds)
def test_slices_of_slices(data: Any, dtype: Any, seed: int) -> None:
    x = random(seed, (40, 7, 9), dtype)
    first = data.draw(slices(x.shape))
    second = data.draw(slices(x[first].shape))

    def kernel(x: Any) -> Any:
        part = loaded(x[first])
        out = output(x, x[first][second].shape)
        nisa.dma_copy(dst=out, src=part[second])
        return out

    same(run(kernel, x), x[first][second])


@FEW
@given(st.data(), dtypes, seeds)
def test_writes_reach_their_slice_only(data: Any, dtype: Any, seed: int) -> None:
    x, y = random(seed, (33, 6, 5), dtype), random(seed + 1, (33, 6, 5), dtype)
    part = data.draw(slices(x.shape))

    def kernel(x: Any, y: Any) -> Any:
        tile = loaded(x)
        nisa.dma_copy(dst=tile[part], src=y[part])
        return stored(tile)

    want = x.copy()
    want[part] = y[part]
    same(run(kernel, x, y), want)


@FEW
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 6)), min_size=1, max_size=4), st.integers(0, 300), seeds)
def test_access_patterns_of_hbm(pattern: list[tuple[int, int]], offset: int, seed: int) -> None:
    x = random(seed, (24, 20), nl.float32)
    at = offset + sum(
        np.arange(n).reshape((-1,) + (1,) * (len(pattern) - 1 - i)) * s for i, (s, n) in enumerate(pattern)
    )

    def kernel(x: Any) -> Any:
        view = x.ap([list(p) for p in pattern], offset=offset)
        out = output(x, view.shape)
        nisa.dma_copy(dst=out, src=view)
        return out

    if np.max(at) >= x.size:
        with pytest.raises(UserError):
            run(kernel, x)
    else:
        same(run(kernel, x), x.reshape(-1)[at])


@FEW
@given(st.integers(1, 128), st.integers(1, 30), st.integers(1, 60), st.booleans(), seeds)
def test_gathers_and_scatters(rows: int, width: int, table: int, scatter: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = random(seed, (rows if scatter else table, width), nl.bfloat16)
    index = rng.integers(0, table, (rows, 1)).astype(np.uint32)
    base = random(seed + 1, (table, width), nl.bfloat16)

    def kernel(x: Any, index: Any, base: Any) -> Any:
        offsets = loaded(index)
        if not scatter:
            tile = sbuf((rows, width), x.dtype)
            nisa.dma_copy(dst=tile, src=x.ap([[width, rows], [1, width]], vector_offset=offsets, indirect_dim=0))
            return stored(tile)
        out = stored(loaded(base)) if table <= 128 else base
        nisa.dma_copy(dst=out.ap([[width, rows], [1, width]], vector_offset=offsets, indirect_dim=0), src=loaded(x))
        return out

    if scatter:
        want = base.copy()
        for r in range(rows):
            want[index[r, 0]] = x[r]
    else:
        want = x[index[:, 0]]
    same(run(kernel, x, index, base), want)


@FEW
@given(st.integers(1, 128), st.integers(1, 128), st.sampled_from(FLOATS[:3]), st.sampled_from(["tensor", "dma"]), seeds)
def test_transposes(p: int, f: int, dtype: Any, how: str, seed: int) -> None:
    assume(how == "tensor" or dtype.itemsize == 2)
    x = random(seed, (p, f), dtype)

    def kernel(x: Any) -> Any:
        tile = loaded(x)
        out = sbuf((f, p), x.dtype)
        if how == "dma":
            nisa.dma_transpose(dst=out, src=x)
        else:
            turned = nl.ndarray((f, p), dtype=x.dtype, buffer=nl.psum)
            nisa.nc_transpose(dst=turned, data=tile)
            nisa.tensor_copy(dst=out, src=turned)
        return stored(out)

    same(run(kernel, x), x.T)


# arithmetic
# ----------------------------------------------------------------------------------------------------

ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "maximum": np.fmax,
    "minimum": np.fmin,
    "equal": lambda a, b: a == b,
    "not_equal": lambda a, b: a != b,
    "less": lambda a, b: a < b,
    "greater_equal": lambda a, b: a >= b,
    "logical_and": lambda a, b: (a != 0) & (b != 0),
    "logical_or": lambda a, b: (a != 0) | (b != 0),
}
BITS = {"bitwise_and": np.bitwise_and, "bitwise_or": np.bitwise_or, "bitwise_xor": np.bitwise_xor}
EXACT = ("add", "subtract", "multiply", "maximum", "minimum")


def wide(op: str, a: Any, b: Any, dtype: Any) -> Any:
    """32-bit integers: exact, modulo 2^32."""
    model = {"maximum": np.maximum, "minimum": np.minimum}.get(op, ARITHMETIC[op])
    return model(a.astype(np.int64), b.astype(np.int64)).astype(np.uint32).view(dtype.dtype)


@FEW
@given(shapes, dtypes, dtypes, dtypes, st.sampled_from(sorted(ARITHMETIC)), seeds)
def test_tensor_tensor(shape: tuple[int, int], d1: Any, d2: Any, out: Any, op: str, seed: int) -> None:
    a, b = random(seed, shape, d1), random(seed + 1, shape, d2)

    def kernel(a: Any, b: Any) -> Any:
        tile = sbuf(shape, out)
        nisa.tensor_tensor(dst=tile, data1=loaded(a), data2=loaded(b), op=getattr(nl, op))
        return stored(tile)

    with np.errstate(all="ignore"):
        if op in EXACT and {d1, d2, out} <= {nl.int32, nl.uint32}:
            want = wide(op, a, b, out)
        else:
            want = cast(np.asarray(ARITHMETIC[op](a.astype(np.float32), b.astype(np.float32))).astype(np.float32), out)
    same(run(kernel, a, b), want)


@FEW
@given(shapes, st.sampled_from(INTEGERS), st.sampled_from(sorted(BITS)), seeds)
def test_bits(shape: tuple[int, int], dtype: Any, op: str, seed: int) -> None:
    a, b = random(seed, shape, dtype), random(seed + 1, shape, dtype)

    def kernel(a: Any, b: Any) -> Any:
        tile = sbuf(shape, dtype)
        nisa.tensor_tensor(dst=tile, data1=loaded(a), data2=loaded(b), op=getattr(nl, op))
        return stored(tile)

    same(run(kernel, a, b), BITS[op](a, b))


@FEW
@given(
    shapes,
    st.sampled_from(FLOATS),
    st.sampled_from(FLOATS),
    st.sampled_from(["add", "subtract", "multiply", "maximum"]),
    st.sampled_from(["add", "subtract", "multiply", "minimum", "less"]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    seeds,
)
def test_tensor_scalar(
    shape: tuple[int, int], dtype: Any, out: Any, op0: str, op1: str, r0: bool, r1: bool, column: bool, seed: int
) -> None:
    x, c = random(seed, shape, dtype), random(seed + 1, (shape[0], 1), nl.float32)
    number = float(np.float32(random(seed + 2, (1,), nl.float32)[0]))

    def kernel(x: Any, c: Any) -> Any:
        tile = sbuf(shape, out)
        nisa.tensor_scalar(
            dst=tile,
            data=loaded(x),
            op0=getattr(nl, op0),
            operand0=loaded(c) if column else number,
            reverse0=r0,
            op1=getattr(nl, op1),
            operand1=number,
            reverse1=r1,
        )
        return stored(tile)

    def step(op: str, a: Any, b: Any, reverse: bool) -> Any:
        return np.asarray(ARITHMETIC[op](*((b, a) if reverse else (a, b)))).astype(np.float32)

    with np.errstate(all="ignore"):
        first = step(op0, x.astype(np.float32), c if column else np.float32(number), r0)
        want = cast(step(op1, first, np.float32(number), r1), out)
    same(run(kernel, x, c), want)


@FEW
@given(
    st.tuples(st.integers(1, 64), st.integers(1, 6), st.integers(1, 9)),
    st.sampled_from(["add", "maximum", "minimum"]),
    st.sampled_from(FLOATS[:3]),
    st.sampled_from([(1, 2), (2,)]),
    st.booleans(),
    seeds,
)
def test_tensor_reduce(
    shape: tuple[int, int, int], op: str, dtype: Any, axis: tuple[int, ...], negate: bool, seed: int
) -> None:
    x = random(seed, shape, dtype)
    model = {"add": np.sum, "maximum": np.max, "minimum": np.min}[op]
    want: Any = model(x.astype(np.float64), axis=axis)
    want = (-want if negate else want).reshape(shape[0], -1)

    def kernel(x: Any) -> Any:
        tile = sbuf(want.shape, nl.float32)
        nisa.tensor_reduce(dst=tile, op=getattr(nl, op), data=loaded(x), axis=axis, negate=negate)
        return stored(tile)

    near(run(kernel, x), want, 1e-4)


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "exp": np.exp,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "square": np.square,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "copy": lambda x: x,
    "silu": lambda x: x / (1 + np.exp(-x)),
    "abs": np.abs,
    "sign": np.sign,
    "floor": np.floor,
}


@FEW
@given(shapes, st.sampled_from(FLOATS), st.sampled_from(sorted(FUNCTIONS)), st.booleans(), seeds)
def test_activation_and_its_sum(shape: tuple[int, int], dtype: Any, op: str, column: bool, seed: int) -> None:
    x = np.clip(random(seed, shape, dtype).astype(np.float32), -8, 8).astype(dtype.dtype)
    bias = random(seed + 1, (shape[0], 1), nl.float32).clip(-2, 2)
    scale = 0.75

    def kernel(x: Any, bias: Any) -> Any:
        tile, total = sbuf(shape, nl.float32), sbuf((shape[0], 1), nl.float32)
        nisa.activation_reduce(
            dst=tile,
            op=getattr(nl, op),
            data=loaded(x),
            bias=loaded(bias) if column else None,
            scale=scale,
            reduce_op=nl.add,
            reduce_res=total,
        )
        both = output(tile, (shape[0], shape[1] + 1))
        nisa.dma_copy(dst=both[:, : shape[1]], src=tile)
        nisa.dma_copy(dst=both[:, shape[1] :], src=total)
        return both

    # in float32 up to the function, whose steps would show another rounding
    inside = x.astype(np.float32) * np.float32(scale) + (bias if column else np.float32(0))
    want = FUNCTIONS[op](inside.astype(np.float64))
    got = run(kernel, x, bias)
    near(got[:, :-1], want, 1e-5)
    np.testing.assert_allclose(got[:, -1], want.sum(axis=1), rtol=1e-4, atol=1e-5 * (1 + np.abs(want).sum()))


@FEW
@given(
    st.integers(1, 128),
    st.integers(1, 20),
    st.sampled_from(["multiply", "add"]),
    st.sampled_from(["add", "maximum"]),
    seeds,
)
def test_scans(p: int, f: int, op0: str, op1: str, seed: int) -> None:
    a, b = (np.random.default_rng(seed + i).uniform(-1, 1, (p, f)).astype(np.float32) for i in (0, 1))

    def kernel(a: Any, b: Any) -> Any:
        tile = sbuf((p, f), nl.float32)
        nisa.tensor_tensor_scan(
            dst=tile, data0=loaded(a), data1=loaded(b), initial=0.5, op0=getattr(nl, op0), op1=getattr(nl, op1)
        )
        return stored(tile)

    want, state = np.empty_like(a), np.full(p, 0.5, np.float32)
    for i in range(f):
        state = ARITHMETIC[op1](ARITHMETIC[op0](a[:, i], state), b[:, i])
        want[:, i] = state
    near(run(kernel, a, b), want, 1e-5)


@FEW
@given(
    st.integers(1, 128),
    st.lists(st.tuples(st.integers(-9, 9), st.integers(1, 5)), min_size=1, max_size=3),
    st.integers(-99, 99),
    st.integers(-5, 5),
)
def test_iota(p: int, pattern: list[tuple[int, int]], offset: int, channel: int) -> None:
    shape = (p, *(n for _, n in pattern))

    def kernel(x: Any) -> Any:
        tile = sbuf(shape, nl.int32)
        nisa.iota(dst=tile, pattern=[list(q) for q in pattern], offset=offset, channel_multiplier=channel)
        return stored(tile)

    index = np.indices(shape)
    want = offset + channel * index[0] + sum(s * index[i + 1] for i, (s, _) in enumerate(pattern))
    same(run(kernel, np.zeros(1, np.float32)), want.astype(np.int32))


# matrix products
# ----------------------------------------------------------------------------------------------------


@FEW
@given(
    st.integers(1, 128),
    st.integers(1, 128),
    st.integers(1, 512),
    st.integers(1, 3),
    st.sampled_from([nl.float32, nl.bfloat16, nl.float16, nl.float8_e5m2]),
    st.booleans(),
    seeds,
)
def test_matmul_sums_over_calls(k: int, m: int, n: int, calls: int, dtype: Any, explicit: bool, seed: int) -> None:
    a, b = random(seed, (calls, k, m), dtype), random(seed + 1, (calls, k, n), dtype)

    def kernel(a: Any, b: Any) -> Any:
        total = nl.ndarray((m, n), dtype=nl.float32, buffer=nl.psum)
        for i in range(calls):
            nisa.nc_matmul(
                dst=total, stationary=loaded(a[i]), moving=loaded(b[i]), accumulate=i > 0 if explicit else None
            )
        out = sbuf((m, n), nl.float32)
        nisa.tensor_copy(dst=out, src=total)
        return stored(out)

    x, y = a.astype(np.float64), b.astype(np.float64)
    want = np.einsum("ckm,ckn->mn", x, y, optimize=True)
    size = np.einsum("ckm,ckn->mn", np.abs(x), np.abs(y), optimize=True)
    got = run(kernel, a, b)
    assert np.all(np.abs(got - want) <= 1e-5 * size + 1e-30)


# what is not legal
# ----------------------------------------------------------------------------------------------------


@MANY
@given(st.data(), st.sampled_from(["trn1", "trn2", "trn3"]), seeds)
def test_anything_else_is_one_clear_error(data: Any, target: str, seed: int) -> None:
    """Shapes, memories, formats and operators drawn without regard to the rules."""
    draw = data.draw
    anything = st.sampled_from([*nl_public(), nl.sbuf, None, "add", 3])
    odd = st.integers(0, 15).map(lambda n: n == 7)
    buffers = st.sampled_from([nl.psum, nl.private_hbm, nl.shared_hbm])
    lengths = st.lists(st.sampled_from([1, 2, 4, 8, 16, 32, 100, 128]), min_size=1, max_size=3)

    def kernel(x: Any) -> Any:
        shape, dtype = draw(lengths), draw(dtypes)
        tiles = []
        for i in range(3):
            if draw(odd):
                shape = draw(lengths)
            if draw(odd):
                shape = [draw(st.sampled_from([129, 512, 600])), *shape[1:]]
            if draw(odd):
                dtype = draw(dtypes)
            tile = nl.ndarray(shape, dtype=dtype, buffer=draw(buffers) if draw(odd) else nl.sbuf)
            if tile.on_chip and not draw(odd):
                nisa.memset(dst=tile, value=draw(st.sampled_from([0, 1.5, -1])))
            if draw(odd):
                tile = tile[draw(st.integers(0, 130)) : draw(st.integers(0, 130))]
            if i == 0 and draw(odd):
                tile = nl.ndarray(draw(lengths), dtype=nl.float32, buffer=nl.psum)
            tiles.append(tile)
        a, b, c = tiles
        operations: dict[str, Callable[[], object]] = {
            "copy": lambda: nisa.tensor_copy(dst=a, src=b),
            "dma": lambda: nisa.dma_copy(dst=a, src=b),
            "dma transpose": lambda: nisa.dma_transpose(dst=a, src=b),
            "transpose": lambda: nisa.nc_transpose(dst=a, data=b),
            "tensor": lambda: nisa.tensor_tensor(dst=a, data1=b, data2=c, op=draw(anything)),
            "scalar": lambda: nisa.tensor_scalar(
                dst=a, data=b, op0=draw(anything), operand0=draw(st.sampled_from([c, 1, 2.5]))
            ),
            "scalar tensor": lambda: nisa.scalar_tensor_tensor(
                dst=a, data=b, op0=draw(anything), operand0=2.0, op1=nl.add, operand1=c
            ),
            "activation": lambda: nisa.activation(
                dst=a, op=draw(anything), data=b, bias=draw(st.sampled_from([c, None]))
            ),
            "reduce": lambda: nisa.tensor_reduce(dst=a, op=draw(anything), data=b, axis=draw(st.integers(0, 4))),
            "matmul": lambda: nisa.nc_matmul(dst=a, stationary=b, moving=c),
            "select": lambda: nisa.tensor_copy_predicated(dst=a, src=b, predicate=c),
            "max8": lambda: nisa.max8(dst=a, src=b),
            "stats": lambda: nisa.bn_stats(dst=a, data=b),
            "shuffle": lambda: nisa.nc_stream_shuffle(dst=a, src=b, shuffle_mask=list(range(32))),
            "gather": lambda: nisa.nc_n_gather(dst=a, data=b, indices=c),
            "partition reduce": lambda: nisa.tensor_partition_reduce(dst=a, op=draw(anything), data=b),
            "scan": lambda: nisa.tensor_tensor_scan(
                dst=a, data0=b, data1=c, initial=0.0, op0=draw(anything), op1=nl.add
            ),
            "iota": lambda: nisa.iota(dst=a, pattern=[[1, draw(st.sampled_from([1, 4, 32]))]], channel_multiplier=2),
            "affine select": lambda: nisa.affine_select(
                dst=a,
                pattern=[[1, draw(st.sampled_from([1, 4, 32]))]],
                channel_multiplier=1,
                on_true_tile=b,
                on_false_value=0.0,
            ),
            "find": lambda: nisa.nc_find_index8(dst=a, data=b, vals=c),
            "replace": lambda: nisa.nc_match_replace8(dst=a, data=b, vals=c, imm=0.0),
            "local gather": lambda: nisa.local_gather(dst=a, src_buffer=b, index=c),
            "aggregate": lambda: nisa.bn_aggr(dst=a, data=b),
            "bounds": lambda: nisa.sequence_bounds(dst=a, segment_ids=b),
            "range select": lambda: nisa.range_select(
                dst=a,
                on_true_tile=b,
                comp_op0=nl.greater_equal,
                comp_op1=nl.less,
                bound0=c,
                bound1=c,
                reduce_res=draw(st.sampled_from([c, None])),
            ),
            "select reduce": lambda: nisa.select_reduce(
                dst=a, predicate=b, on_true=c, on_false=draw(st.sampled_from([0.0, b]))
            ),
            "scalar reduce": lambda: nisa.tensor_scalar_reduce(
                dst=a, data=b, op0=draw(anything), operand0=1.0, reduce_op=draw(anything), reduce_res=c
            ),
            "quantize": lambda: nisa.quantize_mx(dst=a, src=b, dst_scale=c),
            "matmul mx": lambda: nisa.nc_matmul_mx(dst=a, stationary=b, moving=b, stationary_scale=c, moving_scale=c),
            "exponential": lambda: nisa.exponential(
                dst=a, src=b, max_value=draw(st.sampled_from([0.0, c])), reduce_res=draw(st.sampled_from([c, None]))
            ),
            "compute": lambda: nisa.dma_compute(
                dst=a, srcs=[b, c], reduce_op=draw(anything), scales=draw(st.sampled_from([None, [1.0, 2.0], [1.0]]))
            ),
            "nonzero": lambda: nisa.nonzero_with_count(dst=a, src=b),
            "dropout": lambda: nisa.dropout(dst=a, data=b, prob=draw(st.sampled_from([0.5, c]))),
            "rng": lambda: nisa.rng(dst=a),
            "cumulative": lambda: nisa.tensor_scalar_cumulative(dst=a, src=b, op0=draw(anything), op1=nl.add, imm0=1.0),
            "view": lambda: nisa.tensor_copy(dst=a, src=b.view(draw(dtypes))),
            "reshape": lambda: nisa.tensor_copy(dst=a, src=b.reshape(draw(lengths))),
            "permute": lambda: nisa.tensor_copy(dst=a, src=b.permute(draw(st.permutations(range(b.ndim))))),
            "layer": lambda: nl.store(a, draw(st.sampled_from([nl.add, nl.multiply, nl.maximum, nl.matmul]))(b, c)),
            "where": lambda: nl.store(a, nl.where(b, c, draw(st.sampled_from([c, 0.0])))),
            "norm": lambda: nl.store(
                a,
                draw(st.sampled_from([nl.softmax, nl.mean, nl.var, nl.sum, nl.max]))(b, axis=draw(st.integers(-2, 3))),
            ),
            "reciprocal": lambda: nisa.reciprocal(dst=a, data=b),
            "pattern": lambda: nisa.tensor_copy(
                dst=a,
                src=b.ap(
                    [[draw(st.integers(0, 600)), 4], [draw(st.integers(0, 9)), 3]], offset=draw(st.integers(0, 99))
                ),
            ),
        }
        operations[draw(st.sampled_from(sorted(operations)))]()
        return a if a.buffer is not nl.sbuf and a.buffer is not nl.psum else None

    try:
        run_kernel(kernel, np.zeros((2, 2), np.float32), target=target)
    except UserError as error:
        text = error.line()
        assert "\n" not in text
        assert len(text) > 20


def nl_public() -> list[Any]:
    names = (
        "add",
        "subtract",
        "divide",
        "maximum",
        "power",
        "mod",
        "bitwise_and",
        "left_shift",
        "invert",
        "abs",
        "rsqrt",
        "exp",
        "gelu",
        "sin",
        "logical_not",
        "less",
        "average",
        "bypass",
        "abs_max",
    )
    return [getattr(nl, n) for n in names]


def test_formats_are_those_of_ml_dtypes() -> None:
    assert nl.bfloat16.dtype == ml_dtypes.bfloat16
