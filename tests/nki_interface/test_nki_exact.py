"""Bit-exactness where it is defined: every 8- and 16-bit pattern through the instructions against ml_dtypes, roundings
at every midpoint, integers, and microscaling against the rules of OCP MX v1.0, written again here."""

import math

import ml_dtypes
import numpy as np
import pytest

import mowich.nki as nki
import mowich.nki.isa as nisa
import mowich.nki.language as nl
from mowich.neuroncore import dtypes as d
from mowich.neuroncore import integers, ops

FLOATS = [d.float16, d.bfloat16, d.float8_e4m3, d.float8_e4m3fn, d.float8_e5m2, d.float8_e3m4]
INTEGERS = [d.int8, d.uint8, d.int16, d.uint16]
TARGETS = [*FLOATS, d.float32, *INTEGERS, d.int32, d.uint32]


def every_pattern(dtype):
    """All stored patterns of an 8- or 16-bit format as a tile of 128 partitions."""
    word = np.uint8 if dtype.itemsize == 1 else np.uint16
    return np.arange(1 << dtype.bits, dtype=np.uint32).astype(word).view(dtype.dtype).reshape(128, -1)


def converted(x, dtype):
    """What the chip writes: ml_dtypes' rounding of the float32 value; integers to nearest even, saturating, NaN to
    0."""
    with np.errstate(all="ignore"):
        if not dtype.is_int:
            return x.astype(np.float32).astype(dtype.dtype)
        info = np.iinfo(dtype.dtype)
        wide = np.nan_to_num(np.rint(x.astype(np.float64)), nan=0.0, posinf=info.max, neginf=info.min)
        return np.clip(wide, info.min, info.max).astype(dtype.dtype)


def equal_bits(got, want):
    """The same bits, except that any NaN stands for any other."""
    word = f"u{got.itemsize}"
    nan = np.isnan(want.astype(np.float32)) if want.dtype.kind not in "iu" else np.zeros(want.shape, bool)
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got.view(word)[~nan], want.view(word)[~nan])
    assert np.isnan(got.astype(np.float32)[nan]).all()


@pytest.mark.parametrize("source", [*FLOATS, *INTEGERS], ids=str)
def test_every_pattern_through_copies(source):
    x = every_pattern(source)

    def kernel(x):
        made = []
        for dtype in TARGETS:
            held, by_dma = (nl.ndarray(x.shape, dtype=dtype, buffer=nl.sbuf) for _ in range(2))
            tile = nl.ndarray(x.shape, dtype=source, buffer=nl.sbuf)
            nisa.dma_copy(dst=tile, src=x)
            nisa.tensor_copy(dst=held, src=tile)
            nisa.dma_copy(dst=by_dma, src=x)
            for t in (held, by_dma):
                out = nl.ndarray(x.shape, dtype=dtype, buffer=nl.shared_hbm)
                nisa.dma_copy(dst=out, src=t)
                made.append(out)
        return tuple(made)

    found = nki.run_kernel(kernel, x, target="trn3", timed=False).outputs
    for i, dtype in enumerate(TARGETS):
        want = x if dtype is source else converted(x, dtype)
        for got in found[2 * i : 2 * i + 2]:
            if dtype is source:
                np.testing.assert_array_equal(got.view(np.uint8), x.view(np.uint8))
            else:
                equal_bits(got, want)


@pytest.mark.parametrize("target", FLOATS, ids=str)
def test_every_midpoint_rounds_to_even(target):
    """Between each two neighbours of a format lies a number that only the rule of ties decides; just beside it the
    nearer one wins."""
    values = np.unique(every_pattern(target).astype(np.float32))
    values = values[np.isfinite(values)]
    low, high = values[:-1].astype(np.float64), values[1:].astype(np.float64)
    middle = ((low + high) / 2).astype(np.float32)
    beside = np.stack(
        [np.nextafter(middle, low.astype(np.float32)), middle, np.nextafter(middle, high.astype(np.float32))]
    )
    got = d.cast(beside, target).astype(np.float64)
    np.testing.assert_array_equal(got[0], low)
    np.testing.assert_array_equal(got[2], high)
    word = "u1" if target.itemsize == 1 else "u2"
    even = low.astype(np.float32).astype(target.dtype).view(word) % 2 == 0
    np.testing.assert_array_equal(got[1], np.where(even, low, high))


def run_of(body, *arrays, dtype, shape=None, target="trn3", strict=True):
    """A run of body(dst, *tiles), whose result is dst: a tile of 0 of the shape of the first array, or of `shape`."""

    def kernel(*given):
        tiles = []
        for g in given:
            t = nl.ndarray(g.shape, dtype=g.dtype, buffer=nl.sbuf)
            nisa.dma_copy(dst=t, src=g)
            tiles.append(t)
        dst = nl.ndarray(shape or tiles[0].shape, dtype=dtype, buffer=nl.sbuf)
        nisa.memset(dst, 0)
        body(dst, *tiles)
        out = nl.ndarray(dst.shape, dtype=dtype, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=dst)
        return out

    return nki.run_kernel(kernel, *arrays, target=target, timed=False, strict=strict)


def computed(body, *arrays, **how):
    """The result of body(dst, *tiles)."""
    return run_of(body, *arrays, **how).outputs[0]


OPERATORS = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "maximum": np.maximum,
    "minimum": np.minimum,
}


@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_all_pairs_of_8_bit_integers(dtype, op):
    """Through float32, which holds every result; saturated."""
    one = np.arange(256, dtype=np.uint8).view(dtype)
    a, b = (np.ascontiguousarray(v).reshape(128, 512) for v in np.meshgrid(one, one))
    got = computed(lambda dst, a, b: nisa.tensor_tensor(dst, a, b, getattr(nl, op)), a, b, dtype=dtype)
    info = np.iinfo(dtype)
    np.testing.assert_array_equal(got, np.clip(OPERATORS[op](a.astype(int), b.astype(int)), info.min, info.max))


INTEGER = {
    **OPERATORS,
    "abs_max": lambda a, b: np.where(np.abs(a) > np.abs(b), a, b),
    "mod": np.mod,
    "equal": np.equal,
    "less": np.less,
}
"""Operators on 32-bit integers, with what they are in whole numbers."""


def wide_integers(dtype, seed):
    """[128, 8] integers of 32 bits over their whole range, most of which float32 does not hold."""
    info = np.iinfo(dtype)
    edges = np.array([info.min, info.max, 0, 1, 2**24 + 1, 2**31 - 1, info.max - 1, info.min + 1], np.int64)
    drawn = np.random.default_rng(seed).integers(info.min, info.max, 1016)
    return np.concatenate([drawn, edges]).astype(dtype).reshape(128, 8)


def through_float32(op, a, b, dtype):
    """An operator as the Vector Engine computes it: float32 operands and result, to nearest even and saturating."""
    return converted(op(a.astype(np.float32), b.astype(np.float32)).astype(np.float32), d.as_dtype(dtype))


@pytest.mark.parametrize("op", INTEGER)
@pytest.mark.parametrize("dtype", [np.int32, np.uint32])
@pytest.mark.parametrize("engine", ["gpsimd", "vector", ""])
def test_tensor_tensor_on_32_bit_integers(dtype, op, engine):
    """GpSimd: whole numbers modulo 2^32. Vector: float32. No engine: GpSimd for add, subtract and multiply."""
    a, b = wide_integers(dtype, 3), wide_integers(dtype, 4)[::-1].copy()
    b[:, 0] = a[:, 0] ^ 1  # neighbours: mostly one number in float32
    if op == "mod":
        b = np.maximum(b, 1).astype(dtype)
    name = {"gpsimd": nisa.engine.gpsimd, "vector": nisa.engine.vector, "": nisa.engine.unknown}[engine]
    got = computed(lambda dst, a, b: nisa.tensor_tensor(dst, a, b, getattr(nl, op), engine=name), a, b, dtype=dtype)
    whole = np.asarray(INTEGER[op](a.astype(np.int64), b.astype(np.int64)), np.int64)
    if engine == "gpsimd" or (not engine and op in ("add", "subtract", "multiply")):
        np.testing.assert_array_equal(got.view(np.uint32), whole.astype(np.uint32))
    else:
        np.testing.assert_array_equal(got, through_float32(INTEGER[op], a, b, dtype))
        assert (got.astype(np.int64) != whole).any()  # the difference is to be seen here


def test_an_integer_operand_in_psum_goes_through_float32():
    """GpSimd does not reach PSUM: the sum falls back to the Vector Engine."""
    a, b = wide_integers(np.int32, 5), wide_integers(np.int32, 6)

    def body(dst, a, b):
        held = nl.ndarray(a.shape, dtype=nl.int32, buffer=nl.psum)
        nisa.tensor_copy(dst=held, src=a)
        nisa.tensor_tensor(dst, held, b, nl.add)

    np.testing.assert_array_equal(computed(body, a, b, dtype=np.int32), through_float32(np.add, a, b, np.int32))


@pytest.mark.parametrize("op", ["add", "subtract", "multiply", "maximum", "minimum"])
@pytest.mark.parametrize("dtype", [np.int32, np.uint32])
def test_tensor_scalar_on_32_bit_integers_is_float32(dtype, op):
    a = wide_integers(dtype, 7)
    scalar = np.full_like(a, 16777219)
    got = computed(lambda dst, a: nisa.tensor_scalar(dst, a, getattr(nl, op), 16777219), a, dtype=dtype)
    np.testing.assert_array_equal(got, through_float32(INTEGER[op], a, scalar, dtype))


def test_tensor_reduce_on_32_bit_integers_is_float32():
    a = np.tile(np.array([[16777217, 33554433]], np.int32), (128, 1))
    got = computed(lambda dst, a: nisa.tensor_reduce(dst[:, 0:1], nl.add, a, axis=1), a, dtype=np.int32)
    assert (got[:, 0] == 50331648).all()
    got = computed(lambda dst, a: nisa.tensor_reduce(dst[:, 0:1], nl.maximum, a, axis=1), a, dtype=np.int32)
    assert (got[:, 0] == 33554432).all()


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
@pytest.mark.parametrize("engine", ["vector", "gpsimd", "scalar", "unknown"])
def test_copies_of_32_bit_integers(engine, target):
    """Bit by bit between equal formats, but on the Scalar Engine of v2; through float32 between different ones. DMA
    alike."""
    a = wide_integers(np.int32, 8)
    other = np.clip(a, 0, None).astype(np.int32)
    name = getattr(nisa.engine, engine)
    got = computed(lambda dst, a: nisa.tensor_copy(dst, a, engine=name), a, dtype=np.int32, target=target)
    rounds = engine == "scalar" and target == "trn1"
    np.testing.assert_array_equal(got, converted(a.astype(np.float32), d.int32) if rounds else a)
    got = computed(lambda dst, a: nisa.tensor_copy(dst, a, engine=name), other, dtype=np.uint32, target=target)
    np.testing.assert_array_equal(got, converted(other.astype(np.float32), d.uint32))
    got = computed(lambda dst, a: nisa.dma_copy(dst, a), other, dtype=np.uint32, target=target)
    np.testing.assert_array_equal(got, converted(other.astype(np.float32), d.uint32))


@pytest.mark.parametrize("dtype", [np.int32, np.uint32])
def test_iota_is_exact(dtype):
    first, step = 2**24 + 1, 3**15
    got = computed(
        lambda dst: nisa.iota(dst, [[1, 8]], offset=first, channel_multiplier=step), dtype=dtype, shape=(128, 8)
    )
    np.testing.assert_array_equal(got, first + np.arange(128)[:, None] * step + np.arange(8))


@pytest.mark.parametrize("generation", [2, 3, 4])
def test_the_table_of_exact_operators(generation):
    """Which operators of which engine keep 32-bit integers, from the facts; an instruction that the table does not name
    keeps none."""
    three = {"add", "subtract", "multiply"}
    assert integers.exact_operators(generation, "tensor_tensor", "") == three
    assert integers.exact_operators(generation, "tensor_tensor", "gpsimd") >= three | {"maximum", "less_equal"}
    assert integers.exact_operators(generation, "tensor_tensor", "gpsimd").isdisjoint({"divide", "power"})
    for instruction in ("tensor_tensor", "tensor_scalar", "tensor_reduce"):
        assert {ops.ALU[o].kind[:3] for o in integers.exact_operators(generation, instruction, "vector")} == {"bit"}
    assert integers.exact_operators(generation, "tensor_copy", "scalar") == (
        {"same format"} if generation > 2 else frozenset()
    )
    assert integers.exact_operators(generation, "scalar_tensor_tensor", "") == frozenset()


def rounding(body, *arrays, strict=True):
    """What a run says float32 rounded."""
    return [w for w in run_of(body, *arrays, dtype=np.int32, strict=strict).warnings if "float32 rounded" in w]


@pytest.mark.parametrize(
    ("body", "values", "said"),
    [
        (lambda dst, a: nisa.tensor_scalar(dst, a, nl.multiply, 3), 16777217, "16777217 to 16777216"),
        (lambda dst, a: nisa.tensor_scalar(dst, a, nl.add, 1), 16777216, "16777217 to 16777216"),
        (lambda dst, a: nisa.tensor_scalar(dst, a, nl.multiply, 3, op1=nl.add, operand1=1), 5592405, None),
        (lambda dst, a: nisa.tensor_tensor(dst, a, a, nl.maximum), 16777217, "16777217 to 16777216"),
        (lambda dst, a: nisa.tensor_tensor(dst, a, a, nl.add), 16777217, None),
        (lambda dst, a: nisa.tensor_reduce(dst[:, 0:1], nl.add, a, axis=1), 2097153, "16777224"),
        (lambda dst, a: nisa.tensor_scalar(dst, a, nl.multiply, 2), 16777216, None),
        (lambda dst, a: nisa.tensor_copy(dst, a), 16777217, None),
        (lambda dst, a: nisa.dma_copy(dst, a), 16777217, None),
        (lambda dst, a: nisa.dma_copy(dst.view(nl.float32), a), 16777217, "16777217 to 16777216"),
        (lambda dst, a: nisa.dma_compute(dst, [a, a], nl.add), 16777217, "16777217 to 16777216"),
    ],
)
def test_a_strict_run_warns_where_an_integer_was_rounded(body, values, said):
    """With the kernel's line; not where nothing was lost, nor in a run that is not strict."""
    a = np.full((128, 8), values, np.int32)
    if said == "16777224":  # 8 * 2097153, which float32 holds: one more is lost
        a[:, 0] += 1
        said = "16777225 to 16777224"
    found = rounding(body, a)
    assert len(found) == (said is not None)
    assert rounding(body, a, strict=False) == []
    if said is not None:
        assert said in found[0]
        assert found[0].startswith(__file__)


BITS = {"bitwise_and": np.bitwise_and, "bitwise_or": np.bitwise_or, "bitwise_xor": np.bitwise_xor}


@pytest.mark.parametrize("op", [*BITS, "left_shift", "right_shift", "invert"])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32])
def test_bits_of_integers(dtype, op):
    rng, bits = np.random.default_rng(5), 8 * np.dtype(dtype).itemsize
    word = f"u{bits // 8}"
    a = rng.integers(0, 1 << bits, (128, 16), dtype=np.uint64).astype(word)
    if op in BITS:
        b = rng.integers(0, 1 << bits, (128, 16), dtype=np.uint64).astype(word)
        got = computed(
            lambda dst, a, b: nisa.tensor_tensor(dst, a, b, getattr(nl, op)), a.view(dtype), b.view(dtype), dtype=dtype
        )
        want = BITS[op](a, b)
    elif op == "invert":
        got = computed(lambda dst, a: nisa.tensor_scalar(dst, a, nl.invert, 0), a.view(dtype), dtype=dtype)
        want = ~a
    else:
        got = computed(lambda dst, a: nisa.tensor_scalar(dst, a, getattr(nl, op), 3), a.view(dtype), dtype=dtype)
        want = a << np.array(3, word) if op == "left_shift" else a >> np.array(3, word)
    np.testing.assert_array_equal(got.view(word), want.astype(word))


# microscaling
# ---------------------------------------------------------------------------------------------------------------

E_MAX = {"float8_e4m3fn": 8, "float8_e5m2": 15}


def ocp_block(values, part):
    """OCP MX v1.0, section 6.3: scale 2^(floor(log2 max) - emax) of a block, elements to nearest even, saturating."""
    top = max(abs(float(v)) for v in values)
    exponent = -127 if top == 0 else max(math.frexp(top)[1] - 1 - E_MAX[part.name], -127)
    largest = float(ml_dtypes.finfo(part.dtype).max)
    scaled = [min(max(float(v) / 2.0**exponent, -largest), largest) for v in values]
    return exponent, np.array(scaled, np.float64).astype(np.float32).astype(part.dtype)


@pytest.mark.parametrize("packed", [d.float8_e4m3fn_x4, d.float8_e5m2_x4], ids=str)
@pytest.mark.parametrize("source", [d.bfloat16, d.float16], ids=str)
def test_quantize_mx_follows_ocp(packed, source):
    rng = np.random.default_rng(11)
    x = (rng.standard_normal((128, 64)) * np.exp2(rng.integers(-20, 16, (128, 64)))).astype(np.float32)
    x[0:8, 0:4] = 0  # a block of zeros
    x[8:16, 0:4] = 2.0 ** np.arange(-14, 18).reshape(8, 4) / 4  # powers of two on both sides
    x[16:24, 0:4] = [448, -448, 449, 1e-7]
    x = np.clip(x, -60000, 60000).astype(source.dtype)

    def kernel(x):
        tile = nl.ndarray(x.shape, dtype=source, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x)
        words = nl.ndarray((128, 16), dtype=packed, buffer=nl.sbuf)
        scales = nl.ndarray((128, 16), dtype=nl.float8_e8m0fnu, buffer=nl.sbuf)
        nisa.memset(scales, 0)
        nisa.quantize_mx(dst=words, src=tile, dst_scale=scales)
        out = [nl.ndarray((128, 16), dtype=t.dtype, buffer=nl.shared_hbm) for t in (words, scales)]
        for o, t in zip(out, (words, scales), strict=True):
            nisa.dma_copy(dst=o, src=t)
        return tuple(out)

    words, scales = nki.run_kernel(kernel, x, target="trn3", timed=False).outputs
    elements = words.view(np.uint8).reshape(128, 16, 4)
    for block in range(16):
        for column in range(16):
            rows = slice(8 * block, 8 * block + 8)
            exponent, want = ocp_block(x[rows, 4 * column : 4 * column + 4].reshape(-1), packed.part)
            np.testing.assert_array_equal(elements[rows, column].reshape(-1), want.view(np.uint8))
            quadrant, row = divmod(block, 4)  # four rows of scales at the start of each quadrant of 32 partitions
            assert scales.view(np.uint8)[32 * quadrant + row, column] == exponent + 127


@pytest.mark.parametrize("packed", [d.float8_e4m3fn_x4, d.float8_e5m2_x4, d.float4_e2m1fn_x4], ids=str)
def test_matmul_mx_multiplies_the_scaled_values(packed):
    """Small integers times powers of two, so that float32 sums are exact: the product of the elements by 2^(scale -
    127) each."""
    rng, m, n = np.random.default_rng(7), 8, 12
    part = packed.part.dtype
    values = [rng.integers(-4, 5, (128, 4 * f)).astype(np.float32) for f in (m, n)]
    scales = [rng.integers(125, 130, (16, f)).astype(np.uint8) for f in (m, n)]
    words = [d.pack(v, packed) for v in values]

    def laid_out(s):
        tile = np.zeros((128, s.shape[1]), np.uint8)
        for block in range(16):
            tile[32 * (block // 4) + block % 4] = s[block]
        return tile

    def kernel(a, b, sa, sb):
        held = []
        for g in (a, b, sa, sb):
            t = nl.ndarray(g.shape, dtype=g.dtype, buffer=nl.sbuf)
            nisa.dma_copy(dst=t, src=g)
            held.append(t)
        total = nl.ndarray((m, n), dtype=nl.float32, buffer=nl.psum)
        nisa.nc_matmul_mx(total, *held)
        out = nl.ndarray((m, n), dtype=nl.float32, buffer=nl.shared_hbm)
        nisa.dma_copy(dst=out, src=nl.copy(total))
        return out

    got = nki.run_kernel(kernel, *words, *map(laid_out, scales), target="trn3", timed=False).outputs[0]
    wide = []
    for v, s in zip(values, scales, strict=True):
        stored = v.astype(part).astype(np.float64).reshape(16, 8, -1, 4)
        wide.append(
            (stored * np.exp2(s.astype(np.float64) - 127)[:, None, :, None]).transpose(0, 1, 3, 2).reshape(512, -1)
        )
    np.testing.assert_array_equal(got, wide[0].T @ wide[1])


def test_a_scale_of_255_is_nan_and_fp4_has_its_16_values():
    from mowich.neuroncore.dtypes import FP4_VALUES

    assert np.isnan(d.to_f32(np.array([255], np.uint8).view(d.float8_e8m0fnu.dtype), d.float8_e8m0fnu))[0]
    want = np.arange(16, dtype=np.uint8).view(ml_dtypes.float4_e2m1fn).astype(np.float32)
    np.testing.assert_array_equal(FP4_VALUES.view(np.uint32), want.view(np.uint32))
    scales = np.arange(255, dtype=np.uint8).view(d.float8_e8m0fnu.dtype)
    np.testing.assert_array_equal(
        d.to_f32(scales, d.float8_e8m0fnu).astype(np.float64), np.exp2(np.arange(255.0) - 127)
    )
