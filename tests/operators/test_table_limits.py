"""No time of a table is below what the hardware allows: FLOP at the published dense peak, bytes at the published
bandwidth."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from mowich.errors import UserError
from mowich.facts import load_facts
from mowich.operators.tables import OPERATORS, TableRow, Times, operator_s, read_table, schema, write_table

FORMATS = {"trainium1": ("bf16",), "trainium2": ("bf16", "fp8"), "trainium3": ("bf16", "fp8", "mxfp8")}
LIMITS = {
    "experts": (1, 512),
    "m": (1, 65536),
    "n": (128, 65536),
    "k": (256, 8192),
    "hidden": (2048, 16384),
    "ffn": (512, 8192),
    "heads": (1, 4096),
    "queries": (128, 8192),
    "prefix": (1, 1e6),
    "head_dim": (64, 128),
    "sequences": (1, 1e5),
    "group": (1, 32),
    "context": (128, 1e6),
    "rows": (1, 1e6),
    "columns": (256, 16384),
    "elements": (131072, 1e11),
}
"""Range of the random sizes, far beyond the tables where they can be extended."""

CASES = 400


def work(op: str, width: float, s: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(FLOP of the products, bytes in and out) of an operator, written out again here: products in, 16 bit out."""
    if op in ("matmul", "moe_gemm"):
        e, m, n, k = (s.get(d, np.float64(1.0)) for d in ("experts", "m", "n", "k"))
        return 2 * e * m * n * k, e * (width * m * k + width * k * n + 2 * m * n)
    if op == "swiglu_mlp":
        m, h, f = s["m"], s["hidden"], s["ffn"]
        return 2 * m * h * f + 2 * m * h * f + 2 * m * f * h, 2 * (m * h + m * h + 3 * h * f)
    if op == "attention_prefill":
        h, q, p, d = (s[x] for x in ("heads", "queries", "prefix", "head_dim"))
        seen = q * p + q * (q + 1) / 2
        return 2 * (2 * h * seen * d), 2 * (h * q * d + h * q * d + (p + q) * d + (p + q) * d)
    if op == "attention_decode":
        n, g, c, d = (s[x] for x in ("sequences", "group", "context", "head_dim"))
        return 2 * (2 * n * g * c * d), 2 * (n * g * d + n * g * d + n * c * d + n * c * d)
    if op == "adamw":
        return 0 * s["elements"], s["elements"] * (2 + 4 + 4 + 4 + 4 + 4 + 4 + 2)
    elements = s["rows"] * s["columns"]
    return 0 * elements, elements * {"rmsnorm": 4.0, "softmax": 4.0, "add": 6.0, "quantise": 2.0 + width}[op]


def rates(chip: str, dtype: str, scope: str) -> tuple[float, float]:
    """(FLOP/s, bytes/s) as published: a chip of 2 cores and 2 devices, or of 8 cores and 4; data of one that works
    alone lie in its stack of HBM."""
    facts = load_facts()
    peak = facts.number(f"chips.{chip}.peak_dense.{dtype}")
    hbm = facts.number(f"chips.{chip}.memory.hbm_bandwidth")
    cores, devices = (2, 2) if chip == "trainium1" else (8, 4)
    if scope == "chip_lnc1":
        return peak / cores, hbm / cores
    return peak / {"core": cores, "pair": cores / 2, "chip": devices}[scope], hbm / devices


def asked(op: str, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        d: np.exp(rng.uniform(np.log(LIMITS[d][0]), np.log(LIMITS[d][1]), CASES)).round() for d in OPERATORS[op].dims
    }


@pytest.mark.parametrize("op", OPERATORS)
def test_no_time_of_the_shipped_tables_is_below_the_hardware(op: str) -> None:
    known = 0
    for seed, chip in enumerate(FORMATS):
        for dtype in FORMATS[chip]:
            for scope in schema.SCOPES:
                sizes = asked(op, seed)
                t = operator_s(chip, op, dtype, sizes, scope=scope)
                if not t.known.any():
                    continue
                known += int(t.known.sum())
                flop, moved = work(op, {"bf16": 2.0, "fp8": 1.0, "mxfp8": 33 / 32}[dtype], sizes)
                peak, Bps = rates(chip, dtype, scope)
                least = np.maximum(flop / peak, moved / Bps)[t.known] * (1 - 1e-9)
                for seconds in (t.low, t.seconds, t.high):
                    assert (seconds[t.known] >= least).all()
                assert (t.low <= t.seconds)[t.known].all()
                assert (t.seconds <= t.high)[t.known].all()
    assert known > CASES


@pytest.mark.parametrize("chip", ["trainium2", "trainium3"])
def test_products_of_experts_are_never_above_the_peak(chip: str) -> None:
    """Few experts to many, few rows to many: beyond both ends of the table at once."""
    e, m = np.meshgrid([1, 2, 4, 8, 16, 32, 64], [128, 256, 512, 1024, 2048, 4096, 8192])
    for dtype, (n, k) in itertools.product(FORMATS[chip], ((4096, 7168), (7168, 2048), (2048, 2048), (8192, 4096))):
        t = operator_s(chip, "moe_gemm", dtype, {"experts": e, "m": m, "n": n, "k": k})
        assert t.known.all()
        assert (2.0 * e * m * n * k / t.seconds <= rates(chip, dtype, "chip")[0]).all()


def fast(chip: str, dtype: str, kind: str, seconds: float) -> list[TableRow]:
    return [
        TableRow(
            op="matmul",
            chip=chip,
            dtype=dtype,
            scope="chip",
            lnc=1,
            cores=1,
            shape=(m, n, k),
            seconds=seconds,
            low_s=0.5 * seconds,
            high_s=2 * seconds,
            grade="C",
            hbm_B=1.0,
            dma_busy=0.5,
            tensor_busy=0.5,
            kind=kind,
            kernel="none",
            hash="0",
            source="test",
        )
        for m in (16, 4096)
        for n in (512, 4096)
        for k in (512, 8192)
    ]


@pytest.mark.parametrize(
    ("chip", "dtype"),
    [("h100_sxm", "bf16"), ("h100_sxm", "fp8"), ("b200_sxm", "nvfp4"), ("gb300", "mxfp8"), ("trainium3", "mxfp8")],
)
@pytest.mark.parametrize("kind", ["measured", "simulated"])
def test_a_table_that_is_faster_than_the_chip_is_held(tmp_path: Path, chip: str, dtype: str, kind: str) -> None:
    """Whatever a table says, also a measured one, and also of 4 bits: the dense peak, not the sparse one."""
    write_table(tmp_path, "matmul", fast(chip, dtype, kind, 1e-12))
    shape = {"m": np.array([16.0, 4096, 50000]), "n": 4096.0, "k": 8192.0}
    t = operator_s(chip, "matmul", dtype, shape, folder=tmp_path)
    facts = load_facts()
    devices = facts.number(f"chips.{chip}.devices_per_chip")
    flop_s = 2.0 * shape["m"] * 4096 * 8192 / (facts.number(f"chips.{chip}.peak_dense.{dtype}") / devices)
    bytes_s = schema.FORMAT_B[dtype] * 4096 * 8192 / (facts.number(f"chips.{chip}.memory.hbm_bandwidth") / devices)
    assert t.at_limit.all()
    assert t.inside.tolist() == [True, True, False]
    assert t.seconds[1:] == pytest.approx(flop_s[1:], rel=1e-3)
    assert bytes_s < t.seconds[0] < 1.1 * bytes_s
    for other in (t.low, t.high):
        assert (other == t.seconds).all()


def test_a_time_above_the_limit_stays_as_it_is(tmp_path: Path) -> None:
    write_table(tmp_path, "matmul", fast("h100_sxm", "bf16", "measured", 1.0))
    t: Times = operator_s("h100_sxm", "matmul", "bf16", {"m": 16, "n": 512, "k": 512}, folder=tmp_path)
    assert (float(t.low), float(t.seconds), float(t.high)) == pytest.approx((0.5, 1.0, 2.0))
    assert not t.at_limit


def test_a_table_of_a_chip_without_a_published_rate_is_refused(tmp_path: Path) -> None:
    write_table(tmp_path, "matmul", fast("h100_sxm", "mxfp4", "measured", 1.0))
    with pytest.raises(UserError, match=r"chips\.h100_sxm\.peak_dense\.mxfp4"):
        operator_s("h100_sxm", "matmul", "mxfp4", {"m": 16, "n": 512, "k": 512}, folder=tmp_path)


@pytest.mark.parametrize("op", OPERATORS)
def test_no_kernel_moves_less_than_the_least_bytes(op: str) -> None:
    """The formula beside each operator against what the simulated kernels moved: never more, and within a thousandth of
    it somewhere."""
    rows = read_table(op)
    sizes = np.array([r.shape for r in rows], np.float64).T
    width = np.array([schema.FORMAT_B[r.dtype] for r in rows])
    share = np.array([r.hbm_B for r in rows]) / OPERATORS[op].least_B(width, *sizes)
    assert share.min() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("op", OPERATORS)
def test_no_row_that_ships_is_below_the_limit(op: str) -> None:
    """What the clock itself says keeps the rule; only an extension, or the low end of an interval, may need it."""
    rows = [r for r in read_table(op) if r.scope == "chip"]
    for chip, dtype in {(r.chip, r.dtype) for r in rows}:
        some = [r for r in rows if (r.chip, r.dtype) == (chip, dtype)]
        sizes = dict(zip(OPERATORS[op].dims, np.array([r.shape for r in some], np.float64).T, strict=True))
        t = operator_s(chip, op, dtype, sizes)
        assert not t.at_limit.any()
        assert t.seconds == pytest.approx([r.seconds for r in some], rel=1e-9)
