"""What is checked of a saved result: every kept answer passes, and a number that was changed by hand is named."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator, MutableMapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from mowich import cli
from mowich.errors import UserError, UserErrors
from mowich.requests.result_check import ROUNDING, check_result, whole_result

ANSWERS = Path(__file__).resolve().parents[1] / "golden" / "answers"


@cache
def answers() -> list[dict[str, Any]]:
    """The JSON of every kept answer but those of kernels, which are long."""
    lines = (line for f in sorted(ANSWERS.glob("*.jsonl")) if f.stem != "kernels" for line in f.open(encoding="utf-8"))
    kept = (json.loads(line)["answer"] for line in lines)
    return [answer for answer in kept if isinstance(answer, dict)]


def estimates(node: object, at: str = "") -> Iterator[tuple[str, MutableMapping[str, Any]]]:
    """(Place, estimate) of every estimate with a value and a range."""
    if isinstance(node, dict):
        if {"value", "unit", "low", "high"} <= node.keys():
            if node["value"] and node["low"]:
                yield at, node
            return
        for key, value in node.items():
            yield from estimates(value, f"{at}.{key}".lstrip("."))
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from estimates(value, f"{at}.{i}".lstrip("."))


def test_every_kept_answer_passes() -> None:
    assert len(answers()) > 200
    for answer in answers():
        check_result(answer, "kept")


FORGED = {
    "above its range": lambda e: {**e, "value": e["high"] * 1.01},
    "below its range": lambda e: {**e, "value": e["low"] * 0.99},
    "ends the wrong way": lambda e: {**e, "low": e["high"] * 1.01, "high": e["low"] * 0.99},
    "one end": lambda e: {**e, "high": None},
    "below 0": lambda e: {**e, "low": -abs(e["low"])},
    "a part": lambda e: {**e, "breakdown": {**e["breakdown"], "of it": 2.0 * e["value"]}},
    "text": lambda e: {**e, "value": str(e["value"])},
    "not finite": lambda e: {**e, "high": float("inf")},
    "a part of text": lambda e: {**e, "breakdown": {"of it": "all"}},
    "a grade": lambda e: {**e, "grade": "S"},
}
"""Ways to change an estimate that no answer of Mowich has."""


@pytest.mark.share(4)
@pytest.mark.parametrize("way", FORGED)
@pytest.mark.parametrize("seed", range(20))
def test_a_changed_number_is_named(way: str, seed: int) -> None:
    rng = random.Random(f"{way} {seed}")
    answer = copy.deepcopy(rng.choice([a for a in answers() if next(estimates(a), None)]))
    at, found = rng.choice([(at, e) for at, e in estimates(answer) if not at.endswith("margin")])
    forged = FORGED[way](found)
    found.clear()
    found.update(forged)
    with pytest.raises(UserError) as caught:
        check_result(answer, "saved.json")
    assert f"saved.json {at}" in caught.value.line()
    assert "version" not in caught.value.line()


def test_shares_lie_between_0_and_1() -> None:
    for name in ("cached_frac", "utilisation"):
        with pytest.raises(UserError, match=f"saved.json {name}: not a share, got 5.0"):
            check_result({"schema": "mowich/traffic@1", name: 5.0}, "saved.json")


EXACT = {"value": 1.0, "unit": "1", "low": 1.0, "high": 1.0}
AT_THE_EDGE: dict[str, tuple[dict[str, object], str]] = {
    "a share of 1 and its rounding": ({"mfu": 1.0 + ROUNDING}, ""),
    "a share above it": ({"mfu": 1.0 + 1.5e-6}, "mfu: not a share"),
    "an estimate of a share": ({"mfu": {**EXACT, "high": 1.0 + ROUNDING}}, ""),
    "an estimate above it": ({"mfu": {**EXACT, "high": 1.0 + 1.5e-6}}, "mfu.high: not a share"),
    "what is no share": ({"step_s": {**EXACT, "high": 7.0}}, ""),
    "a value below its range by rounding": ({"x": {**EXACT, "value": 1e6, "low": 1e6 + 1.0, "high": 2e6}}, ""),
    "a value above it by rounding": ({"x": {**EXACT, "value": 1e6, "low": 1.0, "high": 1e6 - 1.0}}, ""),
    "a value outside": ({"x": {**EXACT, "value": 1e6, "low": 1.0, "high": 1e6 - 1.5}}, "x: value and range do not fit"),
    "a sum off by rounding": ({"x": {**EXACT, "value": 1e6, "high": 2e6, "breakdown": {"a": 1e6, "b": 1.0}}}, ""),
    "a sum off by more": (
        {"x": {**EXACT, "value": 1e6, "high": 2e6, "breakdown": {"a": 1e6, "b": 1.5}}},
        "x: is not the sum of its breakdown",
    ),
    "parts with names of their own": ({"x": {**EXACT, "value": 2.0, "high": 2.0, "breakdown": {"b_frac": 2.0}}}, ""),
    "true where a number is": ({"x": {**EXACT, "low": True}}, "x.low: not a number"),
    "a margin": ({"margin": {**EXACT, "low": -1.0}}, ""),
    "no range": ({"x": {**EXACT, "low": None, "high": None}}, ""),
    "no value": ({"x": {**EXACT, "value": None, "low": None, "high": None}}, ""),
}


@pytest.mark.parametrize("case", AT_THE_EDGE)
def test_bounds_are_where_they_are_said_to_be(case: str) -> None:
    answer, said = AT_THE_EDGE[case]
    if not said:
        check_result(answer, "saved.json")
        return
    with pytest.raises(UserError, match=f"saved.json {said}") as caught:
        check_result(answer, "saved.json")
    assert "the file was changed since mowich wrote it" in caught.value.line()


def test_five_problems_are_told_at_once() -> None:
    with pytest.raises(UserErrors) as caught:
        check_result({"rows": [{"mfu": 2.0}] * 7}, "saved.json")
    assert [error.where for error in caught.value.errors] == [f"saved.json rows.{i}.mfu" for i in range(5)]


def test_what_is_missing_is_no_bug() -> None:
    with pytest.raises(UserError, match=r"saved.json: not a whole result: KeyError 'rows'"), whole_result("saved.json"):
        {}["rows"]


def test_the_command_line_refuses_it_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "saved.json"
    words = ["collective", "all-reduce", "--on", "trn3-gen2", "--bytes", "1MiB", "--out", str(file), "-q"]
    assert cli.run(words) == 0
    data = json.loads(file.read_text())
    data["rows"][0]["time_s"]["value"] *= 9
    file.write_text(json.dumps(data))
    capsys.readouterr()
    for words in (["explain", str(file)], ["report", str(file)]):
        assert cli.run(words) == 2
        said = capsys.readouterr().err
        assert "rows.0.time_s: value and range do not fit" in said
        assert all(line.startswith("error: ") for line in said.splitlines())


def test_a_number_within_its_range_that_is_not_ours_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "saved.json"
    words = ["collective", "all-reduce", "--on", "trn3-gen2", "--bytes", "1MiB", "--out", str(file), "-q"]
    assert cli.run(words) == 0
    data = json.loads(file.read_text())
    row = data["rows"][0]["time_s"]
    row["value"] *= 1.001
    row["breakdown"] = {name: x * 1.001 for name, x in row["breakdown"].items()}
    file.write_text(json.dumps(data))
    capsys.readouterr()
    assert cli.run(["explain", str(file), "1.time_s"]) == 0
    said = "".join(capsys.readouterr())
    assert "the result was changed, or another build of this version made it" in said
