"""`mowich kernel check` with arguments: what only a run of a kernel shows, and that a kernel without the mistake gives
no finding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_kernel_check import MISTAKES, marked

import mowich
import mowich.nki.isa as nisa
import mowich.nki.language as nl
from mowich import cli
from mowich.errors import UserError
from mowich.nki import Kernel, jit
from mowich.nki.check import NKI_RULES, check_run

FILE = MISTAKES / "runs.txt"
WIDE, PAGES = "x=float32[128,4]", "x=int32[128,4]"

RUNS: dict[str, tuple[list[str], set[str]]] = {
    "overflow": ([WIDE], {"fp8-overflow"}),
    "right_overflow": ([WIDE], set()),
    "overflow_of_a_dma": ([WIDE], {"fp8-overflow"}),
    "offsets": ([PAGES], {"integer-rounded"}),
    "right_offsets": ([PAGES], set()),
    "returned": ([WIDE], {"returned-tile"}),
    "broadcast": ([WIDE, "y=float32[1,4]"], {"implicit-broadcast"}),
    "right_broadcast": ([WIDE, "y=float32[1,4]"], set()),
    "scatter": (["x=float32[8,4]", "index=int32[8,1]"], {"duplicate-rows"}),
    "both_cores": ([WIDE, "--lnc", "2"], {"race"}),
    "right_both_cores": ([WIDE, "--lnc", "2"], set()),
    "swap": ([WIDE, "--lnc", "2"], {"race"}),
    "right_swap": ([WIDE, "--lnc", "2"], set()),
    "shifted": ([WIDE], {"dma-overlap"}),
    "right_shifted": ([WIDE], set()),
    "limited": (["x=float32[128,16]"], {"assertion"}),
    "limited-4": ([WIDE], {"limit"}),
    "condition": ([WIDE], {"limit"}),
}
"""Kernel of the file (and a number, where it runs twice) -> (arguments, rules that it breaks)."""


@pytest.mark.parametrize("name", RUNS)
def test_what_a_run_shows_is_found_on_its_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    words, rules = RUNS[name]
    code = cli.run(["kernel", "check", str(FILE), "-k", name.partition("-")[0], *words, "--json"])
    found = {(f["line"], f["rule"]) for f in json.loads(capsys.readouterr().out)["findings"]}
    assert {rule for _, rule in found} == rules
    assert found <= marked(FILE)
    assert code == (5 if rules else 0)


def test_each_rule_of_a_run_has_a_kernel_that_breaks_it() -> None:
    broken = {rule for _, rules in RUNS.values() for rule in rules} | {r for _, r in marked(MISTAKES / "seeded.txt")}
    assert {rule.id for rule in NKI_RULES.values() if rule.stage == "run"} <= broken


def test_without_shapes_only_what_no_shape_mends_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["kernel", "check", str(FILE), "--json"]) == 5
    made = json.loads(capsys.readouterr().out)
    assert len(made["kernels"]) == 17
    found = {(f["line"], f["rule"]) for f in made["findings"]}
    assert {rule for _, rule in found} == {"returned-tile", "limit"}
    assert found <= marked(FILE)


def test_a_clean_run_says_in_how_many_orders(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["kernel", "check", str(FILE), "-k", "right_both_cores", WIDE, "--lnc", "2"]) == 0
    [line] = capsys.readouterr().out.splitlines()
    assert line.endswith("; ran in 4 instructions, 3 orders of its cores)")


def test_counts_of_overflow_are_those_of_numpy(capsys: pytest.CaptureFixture[str]) -> None:
    x = np.linspace(-2, 2, 512, dtype=np.float32).reshape(128, 4)
    lost = int((~np.isfinite((300 * x).astype(nl.float8_e4m3.dtype).astype(np.float32))).sum())
    assert 0 < lost < 512

    @jit
    def scaled(x: Any) -> Any:
        out = nl.ndarray(x.shape, dtype=nl.float8_e4m3, buffer=nl.shared_hbm)
        tile = nl.load(x)
        narrow = nl.ndarray(x.shape, dtype=nl.float8_e4m3, buffer=nl.sbuf)
        for _ in range(3):
            nisa.tensor_scalar(dst=narrow, data=tile, op0=nl.multiply, operand0=300.0)
        nisa.dma_copy(dst=out, src=narrow)
        return out

    [one] = check_run(scaled, (x,), {}).findings
    assert one.what.endswith(f": {3 * lost} of {3 * 512:,}")


def test_the_number_that_masks_may_overflow() -> None:
    @jit
    def masked(x: Any) -> Any:
        out = nl.ndarray(x.shape, dtype=nl.float8_e4m3, buffer=nl.shared_hbm)
        tile = nl.load(x)
        nl.store(out, nl.copy(tile, dtype=nl.float8_e4m3))
        return out

    x = np.full((4, 4), np.finfo(np.float32).min, np.float32)
    assert check_run(masked, (x,), {}).findings == ()
    x[0, 0] = 1000.0
    assert [f.rule for f in check_run(masked, (x,), {}).findings] == ["fp8-overflow"]


@pytest.mark.parametrize("seed", range(4))
def test_rows_that_differ_are_no_duplicates(seed: int) -> None:
    @jit
    def scatter(x: Any, index: Any) -> Any:
        out = nl.zeros((16, 4), dtype=x.dtype, buffer=nl.shared_hbm)
        rows, at = nl.load(x), nl.load(index)
        nisa.dma_copy(dst=out.ap(pattern=[[4, 8], [1, 4]], vector_offset=at, indirect_dim=0), src=rows)
        return out

    rng = np.random.default_rng(seed)
    x = rng.standard_normal((8, 4)).astype(np.float32)
    index = rng.permutation(16)[:8].astype(np.int32).reshape(8, 1)
    assert check_run(scatter, (x, index), {}).findings == ()
    index[5] = index[2]
    [one] = check_run(scatter, (x, index), {}).findings
    assert one.rule == "duplicate-rows"
    assert one.what.endswith(": 1 of 8")
    x[5] = x[2]  # the same values: whichever row stays
    assert check_run(scatter, (x, index), {}).findings == ()


def test_an_index_of_the_older_interface_is_not_spread_over_partitions() -> None:
    import mowich.nki.beta1.language as old
    from mowich.nki import beta1

    def add(x: Any, spread: bool) -> Any:
        out = old.ndarray(x.shape, dtype=x.dtype, buffer=old.shared_hbm)
        tile = old.load(x)
        at = old.arange(4)[None, :]
        old.store(out, tile + (old.broadcast_to(at, shape=x.shape) if spread else at))
        return out

    x = np.ones((128, 4), np.float32)
    kernel = beta1.jit(add)
    assert isinstance(kernel, Kernel)
    assert [f.rule for f in check_run(kernel, (x, False), {}).findings] == ["implicit-broadcast"]
    assert check_run(kernel, (x, True), {}).findings == ()


def test_arguments_stay_as_they_were() -> None:
    @jit
    def clear(x: Any) -> Any:
        tile = nl.load(x)
        nisa.memset(dst=tile, value=0.0)
        nisa.dma_copy(dst=x, src=tile)
        return x

    x = np.ones((4, 4), np.float32)
    assert check_run(clear, (x,), {}).findings == ()
    assert x.sum() == 16


def test_the_function_of_python_checks_a_file_or_a_kernel(tmp_path: Path) -> None:
    checked = mowich.check_kernel(FILE, nki="0.6")
    assert {f.rule for f in checked.findings} == {"returned-tile", "limit"}
    assert len(checked.kernels) == 17
    with mowich.nki.installed():
        space: dict[str, Any] = {}
        file = tmp_path / "kernels.py"
        file.write_text(FILE.read_text(encoding="utf-8"), encoding="utf-8")
        exec(compile(file.read_text(encoding="utf-8"), str(file), "exec"), space)
        found = mowich.check_kernel(space["swap"], np.ones((128, 4), np.float32), lnc=2)
    assert {f.rule for f in found.findings} == {"race"}
    with pytest.raises(UserError, match="arguments go with a kernel"):
        mowich.check_kernel(FILE, np.ones(4))
