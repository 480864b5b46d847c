"""Accuracy beside other tools: scores tell a better tool from a worse one, and the page is what kept answers give."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))

from benchmarks.accuracy import __main__ as command  # noqa: E402
from benchmarks.accuracy import rows, run, score  # noqa: E402
from benchmarks.accuracy.page import page  # noqa: E402

METRIC = rows.METRICS[0]
TRUTH = ROOT.parent / "shared" / "truth"


def _asked(name: str, measured: float) -> rows.Asked:
    given = dict.fromkeys(rows.Asked.__slots__, None)
    return rows.Asked(**{**given, "id": name, "kind": next(iter(rows.CLASSES)), "measured": {METRIC: measured}})


def _answered(tool: str, values: dict[str, float]) -> run.Answered:
    answers = {row: {METRIC: run.Answer(x, x / 1.1, x * 1.1, None)} for row, x in values.items()}
    return run.Answered(tool=tool, version="1", date="2026-12-02", cpu_s=1.0, answers=answers, reasons={})


@given(
    measured=st.lists(st.floats(1e-3, 1e3), min_size=5, max_size=9),
    near=st.floats(1.0, 1.2).filter(lambda x: abs(x - 1.1) > 1e-9),  # an end itself is a matter of rounding
    far=st.floats(1.3, 4.0),
)
def test_a_better_tool_is_told_from_a_worse_one(measured: list[float], near: float, far: float) -> None:
    asked = [_asked(f"r{i}", m) for i, m in enumerate(measured)]
    good = _answered("good", {row.id: row.measured[METRIC] * near for row in asked})
    bad = _answered("bad", {row.id: row.measured[METRIC] / far for row in asked})
    known = score.measured_of(asked, METRIC)
    assert score.score(known, good, METRIC).median == pytest.approx(near - 1.0)
    assert score.score(known, bad, METRIC).median == pytest.approx(far - 1.0)
    assert score.score(known, bad, METRIC).inside == 0.0
    assert score.score(known, good, METRIC).inside == float(near <= 1.1)
    (one,) = score.beside(asked, bad, good, lambda row: row.kind)
    assert (one.is_better, one.nearer) == (True, 1.0)
    (one,) = score.beside(asked, good, bad, lambda row: row.kind)
    assert (one.is_better, one.nearer) == (False, 0.0)


def test_kept_answers_are_read_as_they_were_written(tmp_path: Path) -> None:
    for tool in ("mowich", "aiconfigurator", "calculon", "roofline"):
        found = run.kept(tool)
        assert found is not None
        assert len(found.answers) + len(found.reasons) >= 400
        (tmp_path / f"{tool}.csv").write_text(run.text_of(found), encoding="utf-8")
        assert run.kept(tool, tmp_path) == found


def test_a_folder_without_the_rows_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--truth", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith(f"skipped: {tmp_path} has no ")


@pytest.mark.slow
@pytest.mark.skipif(not TRUTH.is_dir(), reason="the published rows are not here")
def test_the_page_is_what_kept_answers_give() -> None:
    tools = command.tools_of(argparse.Namespace(aiconfigurator="", calculon="", simumax=""))
    asked = rows.read(TRUTH)
    found = [one for tool in tools if (one := run.kept(tool.file)) is not None]
    published = sum(len(rows.cells_of(TRUTH, table)) for table in rows.TABLES)
    assert len(asked) >= 400
    assert command.PAGE.read_text(encoding="utf-8") == page(asked, found, tools, published)


@pytest.mark.slow
@pytest.mark.skipif(not TRUTH.is_dir(), reason="the published rows are not here")
@pytest.mark.parametrize("name", ["roofline", "aiconfigurator"])
def test_a_few_rows_asked_again_give_what_is_kept(name: str) -> None:
    python = command.environment(name) if name == "aiconfigurator" else ""
    if name == "aiconfigurator" and not python:
        pytest.skip("make accuracy-peers installs it")
    kept = run.kept(name)
    assert kept is not None
    asked = [row for row in rows.read(TRUTH) if row.id in kept.answers][:5]
    found = run.ask(run.Tool(file=name, title=name, python=python), asked, TRUTH)
    for row in asked:
        for metric, one in found.answers[row.id].items():
            assert one.value == pytest.approx(kept.answers[row.id][metric].value, rel=1e-4)
