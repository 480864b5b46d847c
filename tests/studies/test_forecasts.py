"""Frozen forecasts: a ledger takes lines at its end alone, tells every change, and scores what was measured."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mowich.errors import UserError
from mowich.estimate import Estimate
from mowich.examples import shipped_forecasts
from mowich.studies.forecasts import (
    FrozenForecast,
    MeasuredTruth,
    freeze,
    ledger_file,
    line_digest,
    read_forecasts,
    score,
)

DAY = date(2026, 12, 2)
RESULT = {
    "schema": "mowich/compare@1",
    "facts_hash": "0123",
    "digest": "4567",
    "rows": [
        {
            "system": "trn3:64",
            "step_s": {"value": 2.0, "low": 1.0, "high": 4.0, "unit": "s", "grade": "C"},
            "mfu": {"value": None, "low": None, "high": None, "unit": "1", "grade": "D", "reason": "no plan"},
            "chips": 64,
        }
    ],
}


def _ledger(folder: Path, names: tuple[str, ...] = ("a1", "b1", "c1")) -> Path:
    file = folder / "own" / "f.jsonl"
    for name in names:
        freeze(file, RESULT, name=name, question="compare x", number="1.step_s", settles="a step", day=DAY)
    return file


def test_a_number_of_an_answer_is_frozen_with_what_made_it(tmp_path: Path) -> None:
    file = _ledger(tmp_path)
    found = read_forecasts(file)
    assert [row.id for row in found.rows] == ["a1", "b1", "c1"]
    row = found.rows[0]
    assert (row.number, row.frozen, row.facts_hash, row.answer) == ("trn3:64.step_s", "2026-12-02", "0123", "4567")
    assert (row.estimate.low, row.estimate.value, row.estimate.high) == (1.0, 2.0, 4.0)
    assert row.status == "open"
    assert found.to_dict()["summary"] == {
        "forecasts": 3,
        "scored": 0,
        "inside": 0,
        "median_error": None,
    }


@pytest.mark.parametrize(
    ("number", "said"),
    [("1.chips", "not a number with a range"), ("1.mfu", "is not predicted"), ("1.nothing", "unknown metric")],
)
def test_what_has_no_range_is_not_frozen(tmp_path: Path, number: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        freeze(tmp_path / "f.jsonl", RESULT, name="a1", question="q", number=number, settles="s", day=DAY)
    assert not (tmp_path / "f.jsonl").exists()


def test_a_name_is_taken_once(tmp_path: Path) -> None:
    file = _ledger(tmp_path)
    before = file.read_bytes()
    with pytest.raises(UserError, match="frozen already"):
        freeze(file, RESULT, name="b1", question="q", number="1.step_s", settles="s", day=DAY)
    assert file.read_bytes() == before


@given(place=st.integers(0, 10_000), byte=st.integers(32, 126))
def test_any_changed_character_is_told(tmp_path_factory: pytest.TempPathFactory, place: int, byte: int) -> None:
    file = _ledger(tmp_path_factory.mktemp("ledger"))
    text = file.read_text()
    place %= len(text)
    changed = text[:place] + chr(byte) + text[place + 1 :]
    if changed == text or text[place] == "\n":
        return
    file.write_text(changed)
    with pytest.raises(UserError):
        read_forecasts(file)


@pytest.mark.parametrize("order", [(1, 2), (0, 2), (0, 2, 1), (0, 0, 1, 2), (0, 1, 1, 2)])
def test_a_line_that_is_taken_out_moved_or_repeated_is_told(tmp_path: Path, order: tuple[int, ...]) -> None:
    file = _ledger(tmp_path)
    lines = file.read_text().splitlines()
    file.write_text("".join(f"{lines[i]}\n" for i in order))
    with pytest.raises(UserError, match="not the one that was written"):
        read_forecasts(file)


def test_the_end_of_a_ledger_is_named_by_its_head(tmp_path: Path) -> None:
    """A ledger without its last lines is whole; its head says that it is another."""
    file = _ledger(tmp_path)
    head = read_forecasts(file).head
    file.write_text("".join(f"{line}\n" for line in file.read_text().splitlines()[:-1]))
    assert read_forecasts(file).head != head


@given(off=st.floats(-3.0, 3.0), low=st.floats(0.05, 0.95), high=st.floats(1.05, 20.0))
def test_a_made_up_truth_is_scored(off: float, low: float, high: float) -> None:
    truth = 10.0**off
    row = FrozenForecast(
        **dict.fromkeys(("id", "question", "number", "settles", "frozen", "version", "facts_hash"), ""),
        answer="",
        digest="",
        estimate=Estimate(value=1.0, low=low, high=high, unit="s"),
        truths=(MeasuredTruth(value=truth, source="", published=""),),
    )
    assert row.ratio == pytest.approx(1.0 / truth)
    assert row.status == ("above" if truth > high else "below" if truth < low else "inside")
    assert row.deviations is not None
    assert (abs(row.deviations) <= 1.6449) == (row.status == "inside") or min(
        abs(truth - low), abs(truth - high)
    ) < 1e-3
    assert (row.deviations > 0) == (truth > 1.0) or truth == 1.0


def test_what_was_measured_goes_to_the_end_and_the_last_word_counts(tmp_path: Path) -> None:
    file = _ledger(tmp_path)
    before = file.read_text()
    for value in ("5 s", "3.0"):
        score(file, "b1", value, source="a paper", published=date(2027, 1, 5), note="at 63 chips")
    assert file.read_text().startswith(before)
    row = read_forecasts(file).of("b1").rows[0]
    assert [truth.value for truth in row.truths] == [5.0, 3.0]
    assert (row.status, row.ratio) == ("inside", pytest.approx(2.0 / 3.0))
    assert read_forecasts(file).to_dict()["summary"]["inside"] == 1


@pytest.mark.parametrize(
    ("name", "value", "day", "said"),
    [
        ("b2", "3 s", date(2027, 1, 1), "unknown forecast"),
        ("b1", "3 GB", date(2027, 1, 1), "measures B"),
        ("b1", "-3", date(2027, 1, 1), "above 0"),
        ("b1", "nan", date(2027, 1, 1), "above 0"),
        ("b1", "3 s", date(2026, 12, 1), "before the forecast was frozen"),
    ],
)
def test_what_is_no_truth_is_refused(tmp_path: Path, name: str, value: str, day: date, said: str) -> None:
    file = _ledger(tmp_path)
    before = file.read_bytes()
    with pytest.raises(UserError, match=said):
        score(file, name, value, source="x", published=day)
    assert file.read_bytes() == before


@pytest.mark.parametrize("text", ["", "no json\n", '{"schema": "other"}\n', "[1]\n"])
def test_what_is_no_ledger_is_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "f.jsonl"
    file.write_text(text)
    if not text:
        assert not read_forecasts(file).rows
        return
    with pytest.raises(UserError, match=r"f\.jsonl:1: not a line of a ledger"):
        read_forecasts(file)


def test_the_forecasts_that_ship_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert ledger_file(None) == shipped_forecasts()
    found = read_forecasts(shipped_forecasts())
    assert len(found.rows) >= 20
    for row in found.rows:
        assert all((row.question, row.settles, row.frozen, row.facts_hash, row.answer))
        assert row.estimate.low < row.estimate.value < row.estimate.high
    chips = {row.id.split("-")[0] for row in found.rows}
    assert {"trn3", "trn4", "mi455x", "tpu"} <= chips
    lines = [json.loads(line) for line in shipped_forecasts().read_text().splitlines()]
    assert all(line["digest"] == line_digest(line) for line in lines)
