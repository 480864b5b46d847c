"""Timing tables: their CSV, interpolation between shapes, refusal outside them, and what is said of coverage."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mowich.errors import UserError
from mowich.operators.tables import OPERATORS, SCOPES, TableRow, lookup, operator_s, read_table, schema, write_table

M, N, K = (1, 128, 2048), (512, 4096), (512, 8192)
CHIP = "trainium2"
"""A chip that has facts: what it can do at most is asked of them."""


def row(op: str, shape: tuple[int, ...], seconds: float, **other: object) -> TableRow:
    made: dict[str, object] = {
        "op": op,
        "chip": CHIP,
        "dtype": "bf16",
        "scope": "chip",
        "lnc": 2,
        "cores": 8,
        "shape": shape,
        "seconds": seconds,
        "low_s": 0.8 * seconds,
        "high_s": 1.5 * seconds,
        "grade": "D",
        "hbm_B": 1e6,
        "dma_busy": 0.5,
        "tensor_busy": 0.25,
        "kind": "simulated",
        "kernel": "matmul.py:matmul",
        "hash": "0123",
        "source": "test",
    }
    return TableRow(**{**made, **other})  # type: ignore[arg-type]


def rows(time: Callable[[float, float, float], float]) -> list[TableRow]:
    return [row("matmul", s, time(*s)) for s in itertools.product(M, N, K)]


def once(factory: pytest.TempPathFactory, name: str, time: Callable[[float, float, float], float]) -> Path:
    """A folder with a matmul table of these times, written the first time."""
    folder = factory.getbasetemp() / name
    if not folder.exists():
        write_table(folder, "matmul", rows(time))
    return folder


def power(m: float, n: float, k: float) -> float:
    return 1e-9 * m**0.5 * n**0.9 * k


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tables")
    write_table(made, "matmul", rows(power))
    return made


def test_a_file_reads_back_and_writes_the_same_bytes(tmp_path: Path) -> None:
    first = write_table(tmp_path / "a", "matmul", rows(power))
    again = write_table(tmp_path / "b", "matmul", reversed(read_table("matmul", tmp_path / "a")))
    assert first.read_bytes() == again.read_bytes()
    assert {r.key() for r in read_table("matmul", tmp_path / "a")} == {r.key() for r in rows(power)}
    assert first.read_text().splitlines()[0].startswith("op,chip,dtype,scope,lnc,cores,m,n,k,")


def test_shapes_of_the_table_are_answered_as_they_are(folder: Path) -> None:
    found = read_table("matmul", folder)
    m, n, k = np.array([r.shape for r in found]).T
    t = operator_s(CHIP, "matmul", "bf16", {"m": m, "n": n, "k": k}, folder=folder)
    np.testing.assert_allclose(t.seconds, [r.seconds for r in found], rtol=1e-12)
    np.testing.assert_allclose(t.high, [r.high_s for r in found], rtol=1e-12)
    assert t.inside.all()
    assert not t.scaled.any()
    assert t.share() == 1.0
    assert (t.grade, t.kind, t.hash) == ("D", "simulated", "0123")


@given(m=st.floats(1, 2048), n=st.floats(512, 4096), k=st.floats(512, 8192))
def test_work_that_adds_up_is_exact_between_shapes(
    tmp_path_factory: pytest.TempPathFactory, m: float, n: float, k: float
) -> None:
    def time(m: float, n: float, k: float) -> float:
        return 2e-6 + k * (3e-9 + 1e-12 * m + 2e-12 * n + 5e-14 * m * n)

    t = operator_s(CHIP, "matmul", "bf16", {"m": m, "n": n, "k": k}, folder=once(tmp_path_factory, "between", time))
    assert t.seconds == pytest.approx(time(m, n, k), rel=1e-4)
    assert t.low <= t.seconds <= t.high


@given(queries=st.floats(128, 1024), prefix=st.floats(0, 1e6))
def test_powers_are_exact_along_a_curved_dimension(
    tmp_path_factory: pytest.TempPathFactory, queries: float, prefix: float
) -> None:
    def time(heads: float, queries: float, prefix: float) -> float:
        return 1e-9 * heads * queries**1.7 * (1000 + prefix)

    folder = tmp_path_factory.getbasetemp() / "curved"
    if not folder.exists():
        shapes = itertools.product((1, 8), (128, 1024), (0, 4096))
        write_table(folder, "attention_prefill", [row("attention_prefill", (*s, 128), time(*s)) for s in shapes])
    t = operator_s(
        CHIP,
        "attention_prefill",
        "bf16",
        {"heads": 4, "queries": queries, "prefix": prefix, "head_dim": 128},
        folder=folder,
    )
    assert t.seconds == pytest.approx(time(4, queries, prefix), rel=1e-3)
    assert bool(t.scaled) == (prefix > 4096)


def test_outside_has_no_time_and_repeated_work_is_scaled_and_says_so(folder: Path) -> None:
    shape = {"m": [0.5, 4096, 4096, 128, 128], "n": [512, 512, 4096, 511, 512], "k": [512, 512, 8193, 512, 512]}
    t = operator_s(CHIP, "matmul", "bf16", shape, folder=folder)
    assert t.known.tolist() == [False, True, False, False, True]
    assert t.scaled.tolist() == [False, True, False, False, False]
    one_more = (power(2048, 512, 512) - power(128, 512, 512)) / (2048 - 128)
    assert t.seconds[1] == pytest.approx(power(2048, 512, 512) + 2048 * one_more, rel=1e-4)
    assert np.isnan(t.seconds[~t.known]).all()
    assert t.share() == pytest.approx(0.4)
    assert t.share([0, 3, 0, 0, 1]) == 1.0


@given(m=st.floats(2048, 1e6), n=st.floats(4096, 1e6), k=st.floats(512, 8192))
def test_repeated_work_with_a_start_up_is_extended_exactly(
    tmp_path_factory: pytest.TempPathFactory, m: float, n: float, k: float
) -> None:
    def time(m: float, n: float, k: float) -> float:
        return k * (3e-9 + 1e-12 * m + 2e-12 * n + 5e-14 * m * n)

    t = operator_s(CHIP, "matmul", "bf16", {"m": m, "n": n, "k": k}, folder=once(tmp_path_factory, "beyond", time))
    assert t.seconds == pytest.approx(time(m, n, k), rel=1e-3)
    assert t.low <= t.seconds <= t.high


@given(experts=st.floats(1, 200), m=st.integers(1025, 50000))
def test_rows_and_experts_beyond_the_table_are_so_many_blocks_of_so_many_experts(
    tmp_path_factory: pytest.TempPathFactory, experts: float, m: int
) -> None:
    """A block of 1024 rows takes 5 us of an expert for its weights, whole or not, and 2 us for each tile of 128 rows;
    starting takes 7 us."""

    def time(e: float, m: float) -> float:
        return float(7e-6 + e * (5e-6 * np.ceil(m / 1024) + 2e-6 * np.ceil(m / 128)))

    folder = tmp_path_factory.getbasetemp() / "blocks"
    if not folder.exists():
        shapes = itertools.product((1, 4), (1, 1024, 1152, 2048), (64, 128), (64, 128))
        write_table(folder, "moe_gemm", [row("moe_gemm", s, time(*s[:2])) for s in shapes])
    t = operator_s(CHIP, "moe_gemm", "bf16", {"experts": experts, "m": m, "n": 64, "k": 64}, folder=folder)
    assert t.seconds == pytest.approx(time(experts, m), rel=1e-4)
    assert bool(t.scaled) == (experts > 4 or m > 2048)
    assert not t.at_limit


def test_no_table_is_no_coverage(folder: Path) -> None:
    t = operator_s("other", "matmul", "bf16", {"m": [1, 2], "n": 512, "k": 512}, folder=folder)
    assert t.share() == 0.0
    assert np.isnan(t.seconds).all()
    assert t.grade == ""


def test_a_hole_of_the_grid_has_no_time_and_its_edges_do(tmp_path: Path) -> None:
    write_table(tmp_path, "matmul", [r for r in rows(power) if r.shape != (2048, 4096, 8192)])
    t = operator_s(
        CHIP,
        "matmul",
        "bf16",
        {"m": [2048, 2048, 300], "n": [4096, 512, 4096], "k": [8000, 8192, 512]},
        folder=tmp_path,
    )
    assert t.known.tolist() == [False, True, True]


def _refused(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    return caught.value.line()


def test_bad_questions_are_one_line(folder: Path) -> None:
    good = {"m": 1, "n": 512, "k": 512}
    asked: Iterable[tuple[Callable[[], object], str]] = (
        (lambda: operator_s(CHIP, "matmull", "bf16", good), "did you mean 'matmul'"),
        (lambda: operator_s(CHIP, "matmul", "bf16", good, scope="cores"), "allowed: chip, chip_lnc1, core, pair"),
        (lambda: operator_s(CHIP, "matmul", "bf16", {"m": 1, "n": 2}), "add k"),
        (lambda: operator_s(CHIP, "matmul", "bf16", {**good, "q": 2}), "unknown dimension of matmul 'q'"),
        (lambda: operator_s(CHIP, "matmul", "bf16", {**good, "m": 0}), "m is not positive"),
    )
    for call, words in asked:
        line = _refused(call)
        assert words in line
        assert "\n" not in line


def test_a_broken_file_is_an_error_with_its_line(tmp_path: Path) -> None:
    path = write_table(tmp_path, "matmul", rows(power))
    text = path.read_text()
    path.write_text(text.replace("m,n,k", "m,k,n", 1))
    assert "matmul.csv:1" in _refused(lambda: read_table("matmul", tmp_path))
    path.write_text(text.replace(",chip,2,8,1,512,512,", ",chip,2,8,one,512,512,", 1))
    assert "matmul.csv:2" in _refused(lambda: read_table("matmul", tmp_path))
    path.write_text(text.replace(f"{CHIP},bf16,chip,2", f"{CHIP},bf16,rack,2", 1))
    assert "unknown scope 'rack'" in _refused(lambda: read_table("matmul", tmp_path))
    path.write_text(text.replace(f"{CHIP},bf16,chip,2", f"{CHIP},bf61,chip,2", 1))
    assert "did you mean 'bf16'" in _refused(lambda: read_table("matmul", tmp_path))


@pytest.mark.parametrize("op", OPERATORS)
def test_shipped_tables_read(op: str) -> None:
    found = read_table(op)
    assert len({r.key() for r in found}) == len(found)
    assert all(r.scope in SCOPES and len(r.shape) == len(OPERATORS[op].dims) for r in found)
    assert schema.dump(OPERATORS[op], found) == (
        (schema.FOLDER / f"{op}.csv").read_text() if found else schema.dump(OPERATORS[op], ())
    )


def test_shipped_tables_are_kept_as_they_read(tmp_path: Path) -> None:
    """A table that is kept beside its file, and the same file in a folder of a user's, which is read row by row."""
    for op in ("matmul", "rmsnorm"):
        (tmp_path / f"{op}.csv").write_bytes((schema.FOLDER / f"{op}.csv").read_bytes())
        every = {(r.chip, r.dtype, r.scope) for r in read_table(op)}
        assert len(every) > 1
        for chip, dtype, scope in every:
            kept, own = (lookup._grid(op, chip, dtype, scope, folder) for folder in (schema.FOLDER, tmp_path))
            assert kept is not None
            assert own is not None
            assert [a.tolist() for a in kept.axes] == [a.tolist() for a in own.axes]
            assert np.array_equal(kept.log_s, own.log_s, equal_nan=True)
            assert (kept.grade, kept.kind, kept.kernel, kept.hash) == (own.grade, own.kind, own.kernel, own.hash)
        assert lookup._grid(op, "trainium3", "no such format", "chip", schema.FOLDER) is None
