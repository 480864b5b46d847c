"""`mowich kernel tables`: the sweep describes what exists, times do what times must, and a check finds what changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mowich import cli
from mowich.errors import EXIT_CHECK_FAILED, UserError
from mowich.facts import load_facts
from mowich.operators.tables import OPERATORS, TableRow, operator_s, read_table, write_table
from mowich.studies import kernel_tables as study
from mowich.studies.kernel_tables import TableSweep, Timer, costs_hash

KERNELS = Path(__file__).resolve().parents[2] / "kernels"
CHIPS = ("trainium1", "trainium2", "trainium3")


def small(op: str, dtype: str, kernel: str, **sizes: tuple[int, ...]) -> TableSweep:
    return TableSweep(op=op, dtype=dtype, kernel=kernel, chips=CHIPS, sizes=sizes)


def timed(sweep: TableSweep, chip: str) -> dict[tuple[str, tuple[int, ...]], TableRow]:
    timer = Timer(KERNELS)
    return {(r.scope, r.shape): r for shape in sweep.shapes() for r in timer.rows(sweep, chip, shape)}


def test_every_operator_has_a_sweep_and_every_sweep_a_kernel() -> None:
    found = study.sweeps()
    assert {s.op for s in found} == set(OPERATORS) == set(study.ARGUMENTS)
    timer = Timer(KERNELS)
    for s in found:
        assert set(s.sizes) == set(OPERATORS[s.op].dims)
        assert all(list(v) == sorted(set(v)) for v in s.sizes.values())
        assert callable(timer.kernel(s.kernel))
        assert set(s.chips) <= set(study.generations())


@pytest.mark.parametrize("chip", CHIPS)
def test_times_of_a_matmul(chip: str) -> None:
    """More work takes longer, a pair is faster than a core, sharing HBM never helps, and the time is within its
    interval."""
    rows = timed(small("matmul", "bf16", "matmul.py:matmul", m=(1, 128), n=(512, 1024), k=(256, 1024)), chip)
    scopes = [s.name for s in study.scopes(chip)]
    assert scopes == (["core", "chip"] if chip == "trainium1" else ["core", "chip_lnc1", "pair", "chip"])
    for (scope, (m, n, k)), row in rows.items():
        assert row.low_s < row.seconds < row.high_s
        assert row.grade in "CD"
        assert row.hbm_B >= 2 * (m * k + k * n + m * n)
        assert 0 < row.dma_busy <= 1
        assert 0 < row.tensor_busy <= 1
        for wider in ((128, n, k), (m, 1024, k), (m, n, 1024)):
            assert rows[scope, wider].seconds >= row.seconds
    for shape in {s for _, s in rows}:
        one, every = rows["core", shape].seconds, rows["chip", shape].seconds
        assert every >= rows[scopes[-2], shape].seconds
        if "chip_lnc1" in scopes:
            alone, of_core = rows["chip_lnc1", shape], rows["core", shape]
            assert alone.seconds >= of_core.seconds
            assert (alone.lnc, alone.cores, of_core.lnc, of_core.cores) == (1, 8, 1, 1)
            assert (rows["pair", shape].lnc, rows["chip", shape].lnc) == (2, 2)
        if shape[1] == 1024 and shape[2] == 1024 and "pair" in scopes:
            assert rows["pair", shape].seconds < one


@pytest.mark.parametrize("chip", ["trainium2", "trainium3"])
def test_a_large_matmul_reaches_the_rate_of_the_array(chip: str) -> None:
    """At least 85% of the array's rate, the target for Trainium 2; what is missing is start-up and the last tiles
    (docs/theory/tables.md)."""
    from mowich.facts import load_facts

    m, n, k = 2048, 2048, 2048
    row = timed(small("matmul", "bf16", "matmul.py:matmul", m=(m,), n=(n,), k=(k,)), chip)["core", (m, n, k)]
    assert 2 * m * n * k / row.seconds >= 0.85 * load_facts().number(f"chips.{chip}.peak_per_core.bf16")
    assert row.tensor_busy >= 0.85


def test_a_shape_that_does_not_fit_has_no_row() -> None:
    wide = small("rmsnorm", "bf16", "rmsnorm.py:rmsnorm", rows=(128,), columns=(32768,))
    assert timed(wide, "trainium1") == {}


def test_what_was_written_checks_and_what_was_changed_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = small("add", "bf16", "add.py:add", rows=(1, 256), columns=(512, 2048))
    monkeypatch.setattr(study, "sweeps", lambda ops=(), chips=(): [tiny])
    flags = ["kernel", "tables", "--kernels", str(KERNELS), "--out", str(tmp_path)]
    assert cli.run(flags) == 0
    first = (tmp_path / "add.csv").read_bytes()
    assert cli.run(flags) == 0
    assert (tmp_path / "add.csv").read_bytes() == first
    assert cli.run([*flags, "--check", "--sample", "2"]) == 0
    assert "rows timed again: the same" in capsys.readouterr().out
    rows = list(read_table("add", tmp_path))
    write_table(
        tmp_path,
        "add",
        [TableRow(**{**{f: getattr(r, f) for f in r.__slots__}, "seconds": r.seconds * 1.01}) for r in rows],
    )
    assert cli.run([*flags, "--check"]) == EXIT_CHECK_FAILED
    assert "seconds is" in capsys.readouterr().err
    write_table(tmp_path, "add", [TableRow(**{**{f: getattr(r, f) for f in r.__slots__}, "hash": "0"}) for r in rows])
    assert cli.run([*flags, "--check"]) == EXIT_CHECK_FAILED
    assert "another kernel or other costs" in capsys.readouterr().err
    write_table(tmp_path, "add", [r for r in rows if r.chip != "trainium2"])
    assert cli.run([*flags, "--check"]) == EXIT_CHECK_FAILED
    assert "add bf16 trainium2: no rows in add.csv" in capsys.readouterr().err


def test_bad_names_and_folders_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for flags, words in (
        (["--op", "matmull"], "did you mean 'matmul'"),
        (["--chip", "trainium9"], "trainium1, trainium2, trainium3"),
        (["--kernels", str(tmp_path / "none")], "no folder of kernels"),
    ):
        assert cli.run(["kernel", "tables", "--out", str(tmp_path), *flags]) == 2
        assert words in capsys.readouterr().err
    with pytest.raises(UserError, match="no such kernel"):
        Timer(tmp_path).kernel("none.py:none")


def test_the_tables_that_ship_have_every_shape_once() -> None:
    """Whole grids, or less what does not fit. That their times are today's is for `mowich kernel tables --check`, which
    CI runs."""
    for sweep in study.sweeps():
        rows = [r for r in read_table(sweep.op) if r.dtype == sweep.dtype]
        for chip in sweep.chips:
            names = [s.name for s in study.scopes(chip)]
            have = {(r.scope, r.shape) for r in rows if r.chip == chip}
            for shape in sweep.shapes():
                assert sum((name, shape) in have for name in names) in (0, len(names))
            assert len(have) >= 0.9 * len(names) * len(sweep.shapes())
            assert {r.hash for r in rows if r.chip == chip} == {next(r.hash for r in rows if r.chip == chip)}


ASIDE = [
    ("trainium2", "bf16", (3, 4096, 1024, 1024), 0.01),
    ("trainium2", "fp8", (24, 3072, 1024, 1024), 0.08),
    ("trainium3", "fp8", (16, 4096, 512, 1024), 0.05),
    ("trainium3", "mxfp8", (12, 3072, 2048, 1024), 0.05),
    ("trainium1", "bf16", (2, 3072, 1024, 1024), 0.05),
    ("trainium2", "fp8", (4, 2177, 2048, 2048), 0.08),
    ("trainium3", "mxfp8", (4, 2177, 2048, 2048), 0.08),
    ("trainium3", "bf16", (2, 1300, 2048, 2048), 0.08),
    ("trainium2", "bf16", (24, 64, 1024, 2048), 0.15),
    ("trainium3", "mxfp8", (32, 200, 1024, 1024), 0.15),
]
"""(chip, dtype, (experts, rows, columns, contraction), how near): whole blocks and many experts at once, part of a
block, few rows of many experts."""


@pytest.mark.share(3)
@pytest.mark.parametrize(("chip", "dtype", "shape", "near"), ASIDE)
def test_experts_and_rows_beyond_the_table_take_what_the_kernel_takes(
    chip: str, dtype: str, shape: tuple[int, ...], near: float
) -> None:
    """Shapes that the table does not hold, timed now: beyond its rows, its experts, or both."""
    sweep = next(s for s in study.sweeps(["moe_gemm"]) if s.dtype == dtype)
    for row in Timer(KERNELS).rows(sweep, chip, shape):
        t = operator_s(chip, "moe_gemm", dtype, dict(zip(sweep.sizes, shape, strict=True)), scope=row.scope)
        assert float(t.seconds) == pytest.approx(row.seconds, rel=near)


def test_large_shapes_of_the_tables_are_near_the_rate_that_binds_them() -> None:
    """bf16, on a full chip: the array for a large matmul, the DMA engines for additions."""
    for chip in CHIPS:
        matmul = next(
            r
            for r in read_table("matmul")
            if (r.chip, r.dtype, r.scope, r.shape) == (chip, "bf16", "chip", (2048, 4096, 4096))
        )
        assert matmul.tensor_busy >= 0.9
        add = next(
            r for r in read_table("add") if (r.chip, r.dtype, r.scope, r.shape) == (chip, "bf16", "chip", (2048, 4096))
        )
        assert add.dma_busy >= 0.9


def test_a_hash_is_of_the_kernel_and_of_values_alone() -> None:
    """What is said of a number moves no time, so it makes no table old."""
    path = "neuroncore.timing-v4.vector_engine.clock"
    facts = load_facts()
    before, now = costs_hash(b"kernel", facts, 4), facts.fact(path)
    told = facts.with_values({path: replace(now, note="another note")})
    moved = facts.with_values({path: float(now.value) * 1.01})
    assert costs_hash(b"kernel", told, 4) == before
    assert costs_hash(b"kernel", moved, 4) != before
    assert costs_hash(b"kernel", facts, 3) != before
    assert costs_hash(b"another kernel", facts, 4) != before
