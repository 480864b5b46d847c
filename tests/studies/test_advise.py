"""`kernel advise`: edits take the time that is predicted, nothing is offered that does not fit, no bound is beaten."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mowich
from mowich.cli.app import run
from mowich.errors import UserError
from mowich.studies.advise.advise import AdviseAsk, KernelAdvice, KernelEdit, advise_kernel
from mowich.studies.advise.bounds import EDIT_KINDS
from mowich.studies.advise.files import file_runs
from mowich.studies.advise.text import KernelText
from mowich.studies.kernel_files import as_scripts_expect

KERNELS = Path(__file__).resolve().parents[2] / "kernels"
HEAD = "import nki\nimport nki.isa as nisa\nimport nki.language as nl\n\n\n@nki.jit\n"
EXAMPLES = {
    "softmax": "x=float32[256,512]",
    "rmsnorm": "x=bfloat16[256,512] weight=bfloat16[1,512]",
    "matmul": "lhsT=bfloat16[256,128] rhs=bfloat16[256,512]",
    "adamw": "",
    "rotate": "",
}


def advised(file: Path, kernel: str, words: str, target: str, **more: object) -> KernelAdvice:
    run = file_runs(file, kernel, words.split(), 0)
    with as_scripts_expect(str(file), (), target, None, quiet=True):
        ask = AdviseAsk(
            file=file.name, path=str(file), text=file.read_text(), kernel=kernel, target=target, run=run, runs=False
        )
        return advise_kernel(replace(ask, **more))  # type: ignore[arg-type]


@cache
def example(kernel: str, target: str) -> KernelAdvice:
    return advised(KERNELS / f"{kernel}.py", kernel, EXAMPLES[kernel], target)


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
def test_every_chip_has_bounds_and_edits_in_order(target: str) -> None:
    found = advised(KERNELS / "add.py", "add", "x=float32[256,2048] y=float32[256,2048]", target, top=9)
    times = [edit.time_s for edit in found.edits if edit.time_s is not None]
    assert times == sorted(times)  # no kernel here has a risk
    assert len(times) == len(found.edits)
    assert 0 < found.bounds["all"].time_s < found.base_s


def looked_at(found: KernelAdvice) -> list[KernelEdit]:
    return [*found.edits, *found.others]


def time_of(file: Path, kernel: str, words: str, target: str, text: str) -> float:
    with as_scripts_expect(str(file), (), target, None, quiet=True):
        result = file_runs(file, kernel, words.split(), 0)(text, False)
    result.timed = True
    return float(result.time_s)


@pytest.mark.share(3)
@pytest.mark.parametrize("target", ["trn2", "trn3"])
@pytest.mark.parametrize("kernel", EXAMPLES)
def test_an_edited_kernel_takes_the_time_that_is_predicted(kernel: str, target: str) -> None:
    """Engines, ways of descriptors and queues are timed by the recorded trace, all else by a run."""
    found = example(kernel, target)
    for edit in looked_at(found):
        if edit.text is not None and edit.time_s is not None and edit.kind in ("engine", "dma mode"):
            ran = time_of(KERNELS / f"{kernel}.py", kernel, EXAMPLES[kernel], target, edit.text)
            assert ran == pytest.approx(edit.time_s, rel=0.02), edit


@pytest.mark.parametrize("target", ["trn2", "trn3"])
@pytest.mark.parametrize("kernel", EXAMPLES)
def test_no_edit_beats_the_bound_of_its_kind(kernel: str, target: str) -> None:
    found = example(kernel, target)
    assert set(found.bounds) == {*EDIT_KINDS, "all"}
    for edit in looked_at(found):
        if edit.time_s is not None:
            assert edit.time_s >= found.bounds[edit.kind].time_s, edit
            assert edit.time_s >= found.bounds["all"].time_s, edit
    assert all(found.bounds["all"].time_s <= bound.time_s for bound in found.bounds.values())


# ---- what the edits of a trace stand for, beside the same edit by hand
# ----------------------------------------------------------------------------------------------------------------------

STREAM = (
    HEAD
    + """def stream(x):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    P, C = 128, {columns}
    for i in nl.affine_range(x.shape[1] // C):
        tile = nl.ndarray((P, C), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x[:, i * C : (i + 1) * C])
        nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=2.0)
        nisa.dma_copy(dst=out[:, i * C : (i + 1) * C], src=tile)
    return out
"""
)
STATISTICS = (
    HEAD
    + """def rows(x):
    out = nl.ndarray((x.shape[0], 1), dtype=nl.float32, buffer=nl.shared_hbm)
    for i in nl.affine_range(x.shape[0] // 128):
        tile = nl.ndarray((128, x.shape[1]), dtype=nl.float32, buffer=nl.sbuf)
        power = nl.ndarray((128, x.shape[1]), dtype=nl.float32, buffer=nl.sbuf)
        total = nl.ndarray((128, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x[i * 128 : (i + 1) * 128, :])
{body}
        nisa.dma_copy(dst=out[i * 128 : (i + 1) * 128, :], src=total)
    return out
"""
)
TWO = """        nisa.activation(dst=power, op=nl.exp, data=tile)
        nisa.tensor_reduce(dst=total, op=nl.add, data=power, axis=1)"""
ONE = "        nisa.activation_reduce(dst=power, op=nl.exp, data=tile, reduce_op=nl.add, reduce_res=total)"
COPIED = """        twin = nl.ndarray((128, x.shape[1]), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_copy(dst=twin, src=tile)
        nisa.tensor_reduce(dst=total, op=nl.add, data=twin, axis=1)"""
NOT_COPIED = "        nisa.tensor_reduce(dst=total, op=nl.add, data=tile, axis=1)"
ZEROED = """        nisa.memset(dst=power, value=0.0)
        nisa.memset(dst=power, value=0.0)
        nisa.tensor_tensor(dst=power, data1=power, data2=tile, op=nl.add)
        nisa.tensor_reduce(dst=total, op=nl.add, data=power, axis=1)"""
ZEROED_ONCE = ZEROED.replace("        nisa.memset(dst=power, value=0.0)\n", "", 1)
SHARED = (
    HEAD
    + """def shared(x, w):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
{before}
    for i in nl.affine_range(x.shape[0] // 128):
{within}
        tile = nl.ndarray((128, x.shape[1]), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x[i * 128 : (i + 1) * 128, :])
        nisa.tensor_tensor(dst=tile, data1=tile, data2=row, op=nl.add)
        nisa.dma_copy(dst=out[i * 128 : (i + 1) * 128, :], src=tile)
    return out
"""
)
MERGED = (
    HEAD
    + """def stream(x):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    P, C = 128, 128
    for i in nl.affine_range(x.shape[1] // (4 * C)):
        wide = nl.ndarray((P, 4 * C), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=wide, src=x[:, i * 4 * C : (i + 1) * 4 * C])
        for j in nl.affine_range(4):
            tile = wide[:, j * C : (j + 1) * C]
            nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=2.0)
            nisa.dma_copy(dst=out[:, (4 * i + j) * C : (4 * i + j + 1) * C], src=tile)
    return out
"""
)
LOAD = """    row = nl.ndarray((128, x.shape[1]), dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=row, src=w)"""
INDENTED = LOAD.replace("    ", "        ", 1).replace("\n    ", "\n        ")

ROWS = "x=float32[512,1024]"
BY_HAND = {
    "dma size": ("stream", STREAM.format(columns=128), MERGED, "x=float32[128,8192]"),
    "as one activation_reduce": ("rows", STATISTICS.format(body=TWO), STATISTICS.format(body=ONE), ROWS),
    "leave the copy": ("rows", STATISTICS.format(body=COPIED), STATISTICS.format(body=NOT_COPIED), ROWS),
    "leave the memset": ("rows", STATISTICS.format(body=ZEROED), STATISTICS.format(body=ZEROED_ONCE), ROWS),
    "keep what": (
        *("shared", SHARED.format(before="", within=INDENTED), SHARED.format(before=LOAD, within="")),
        "x=float32[1024,1024] w=float32[128,1024]",
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_a_change_of_the_trace_is_the_edit_by_hand(name: str, tmp_path: Path) -> None:
    kernel, before, after, words = BY_HAND[name]
    file = tmp_path / f"{kernel}.py"
    file.write_text(before)
    found = advised(file, kernel, words, "trn2", top=20)
    timed = [edit for edit in looked_at(found) if edit.time_s is not None]
    if name == "dma size":  # of the loads; the stores of the kernel by hand are as before
        timed = [edit for edit in timed if edit.what.startswith("4 of these") and edit.sites[0][1] == 12]
    else:
        timed = [edit for edit in timed if name in edit.what]
    times = [edit.time_s for edit in timed if edit.time_s is not None]
    assert times
    assert min(times) == pytest.approx(time_of(file, kernel, words, "trn2", after), rel=0.05)
    assert min(times) < found.base_s


def test_a_tile_that_is_used_again_gets_more_places(tmp_path: Path) -> None:
    """A tile that is allocated before a loop holds its turns apart; allocated within, it does not."""
    text = STREAM.format(columns=512).replace(
        "    for i", "    tile = nl.ndarray((P, C), dtype=x.dtype, buffer=nl.sbuf)\n    for i"
    )
    text = text.replace("        tile = nl.ndarray((P, C), dtype=x.dtype, buffer=nl.sbuf)\n", "")
    file = tmp_path / "stream.py"
    file.write_text(text)
    found = advised(file, "stream", "x=float32[128,8192]", "trn2", runs=True)
    first = found.edits[0]
    assert (first.kind, first.what) == ("buffers", "allocate tile in the loop of line 11")
    assert first.gain(found.base_s) > 0.5
    assert first.rerun is not None
    assert first.rerun.verdict == "right"
    assert first.rerun.time_s == first.time_s


# ---- what is not offered
# ----------------------------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_not_offered(tmp_path: Path) -> None:
    text = STREAM.format(columns=16384)
    copies = "twin = nl.ndarray((P, C), dtype=x.dtype, buffer=nl.sbuf)\n        nisa.tensor_copy(dst=twin, src=tile)"
    text = text.replace("nisa.tensor_scalar", f"{copies}\n        {copies}\n        nisa.tensor_scalar")
    file = tmp_path / "stream.py"
    file.write_text(text)
    found = advised(file, "stream", "x=float32[128,65536]", "trn2", top=50)
    assert all(edit.time_s is not None for edit in found.edits)
    reasons = {edit.what: edit.why_not for edit in found.others}
    assert "do not fit SBUF" in reasons["4 of these DMAs as one, of 4 tiles"]
    assert "bytes in each partition of SBUF" in reasons["C = 65536 in place of 16384"]


def test_what_an_engine_cannot_do_is_told_with_the_reason() -> None:
    found = example("rmsnorm", "trn2")
    assert any("GpSimd engine cannot reach PSUM" in edit.why_not for edit in found.others)


def test_descriptors_by_hardware_take_equal_formats(tmp_path: Path) -> None:
    text = STREAM.format(columns=512).replace(
        "tile = nl.ndarray((P, C), dtype=x.dtype", "tile = nl.ndarray((P, C), dtype=nl.bfloat16"
    )
    file = tmp_path / "stream.py"
    file.write_text(text)
    found = advised(file, "stream", "x=float32[128,8192]", "trn2")
    assert any("same format on both sides" in edit.why_not for edit in found.others if edit.what == "dge_mode=hwdge")


def test_a_faster_edit_that_is_wrong_is_not_offered(tmp_path: Path) -> None:
    """A quarter of the turns is faster, and another answer."""
    text = STREAM.format(columns=512).replace("P, C = 128", "TURNS = 64\n    P, C = 128")
    line = "        nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=2.0)\n"
    text = text.replace(line, f"        for _ in range(TURNS):\n    {line}")
    file = tmp_path / "stream.py"
    file.write_text(text)
    found = advised(file, "stream", "x=float32[128,8192]", "trn2", runs=True)
    wrong = [edit for edit in found.others if edit.rerun is not None and edit.rerun.verdict == "wrong"]
    assert "TURNS = 16 in place of 64" in [edit.what for edit in wrong]
    assert all(edit.rerun is None or edit.rerun.verdict == "right" for edit in found.edits)


def test_bf16_is_offered_where_the_answer_may_differ_as_much(tmp_path: Path) -> None:
    file, words = KERNELS / "matmul.py", "lhsT=float32[256,128] rhs=float32[256,512]"
    strict = advised(file, "matmul", words, "trn2", top=50)
    loose = advised(file, "matmul", words, "trn2", top=50, tolerance=0.02)
    what = "operands in bf16: one pass, not four"
    assert [edit.why_not != "" for edit in looked_at(strict) if edit.what == what] == [True]
    assert what in [edit.what for edit in looked_at(loose) if edit.time_s is not None]


# ---- edits of a text
# ----------------------------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(["vector", "scalar", "gpsimd"]), min_size=1, max_size=3), st.booleans())
@settings(max_examples=25, deadline=None)
def test_a_keyword_is_set_and_nothing_else_changes(engines: list[str], spread: bool) -> None:
    call = "nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=2.0)"
    text = STREAM.format(columns=512)
    if spread:
        text = text.replace(call, call.replace(", ", ",\n            ").replace("2.0)", "2.0,\n        )"))
    line = next(n for n, said in enumerate(text.splitlines(), 1) if "tensor_scalar" in said)
    for engine in engines:
        changed = KernelText(text, "stream").with_keywords(
            [(line, "tensor_scalar", "engine", "{isa}." + engine + "_engine")]
        )
        assert changed is not None
        compile(changed, "stream.py", "exec")
        assert KernelText(changed, "stream").keyword_of(line, "tensor_scalar", "engine") == f"nisa.{engine}_engine"
        assert re.sub(r",\s*engine=nisa\.\w+", "", changed) == re.sub(r",\s*engine=nisa\.\w+", "", text)
        text = changed


def test_loops_are_exchanged_where_one_does_not_go_by_the_other() -> None:
    text = HEAD + "def f(x):\n    for i in range(4):\n        for j in range(i, 8):\n            g(i, j)\n"
    assert [*KernelText(text, "f").exchanged()] == []
    (edit,) = KernelText(text.replace("range(i, 8)", "nl.affine_range(8)"), "f").exchanged()
    assert "    for j in nl.affine_range(8):\n        for i in range(4):\n" in edit.text


# ---- the verb
# ----------------------------------------------------------------------------------------------------------------------


def test_the_answer_as_json_and_as_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["kernel", "advise", "@softmax", "x=float32[256,512]", "--target", "trn2"]
    assert run([*asked, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["schema"] == "mowich/kernel-advise@1"
    first = answer["edits"][0]
    assert first["run"]["verdict"] == "right"
    assert first["run"]["time_s"] == pytest.approx(first["time_s"], rel=0.02)
    assert first["diff"].startswith("--- a/softmax.py")
    assert first["ratio"]["low"] < first["ratio"]["value"] < first["ratio"]["high"]
    assert 0.5 < first["p_faster"] < 1.0
    assert run([*asked, "--no-run", "--all"]) == 0
    page = capsys.readouterr().out
    assert "not run" in page
    assert "why not" in page
    found = mowich.advise("@softmax", ["x=float32[256,512]"], target="trn2", runs=False)
    assert found.edits[0].time_s == first["time_s"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing.py"], "no such file"),
        (["@quantise"], "several kernels"),
        (["@softmax", "-k", "softmin"], "unknown kernel"),
        (["@softmax", "y=3"], "unknown argument"),
        (["@softmax", "--top", "0"], "--top"),
    ],
)
def test_bad_questions_are_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["kernel", "advise", *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_a_kernel_that_does_not_run_is_refused_at_its_line(tmp_path: Path) -> None:
    file = tmp_path / "stream.py"
    file.write_text(STREAM.format(columns=512).replace("(128, 512)", "(128, 512)").replace("P, C = 128", "P, C = 256"))
    with pytest.raises(UserError, match=r"stream\.py"):
        advised(file, "stream", "x=float32[128,8192]", "trn2")


def test_the_same_question_has_the_same_answer() -> None:
    made: Callable[[], object] = lambda: advised(  # noqa: E731
        KERNELS / "rotate.py", "rotate", "", "trn3"
    ).to_dict()
    assert json.dumps(made(), default=float) == json.dumps(made(), default=float)
    assert np.isfinite(example("rotate", "trn3").base_s)


def test_edits_are_run_without_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """So that advice is given in a process that writes none."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    found = mowich.advise("@softmax_slow", ["x=float32[128,512]"])
    assert {edit.rerun.verdict for edit in found.edits if edit.rerun is not None} == {"right"}
    assert "edited-1" not in str(found.to_dict())
