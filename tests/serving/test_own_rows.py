"""A user's own measured rows: carried by an overlay as text, and counted beside those that ship."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mowich.errors import UserError
from mowich.facts import Facts, load_facts
from mowich.machines.system import resolve
from mowich.models import load_model
from mowich.plans.plan import ServePlan
from mowich.serving.anchors import Anchor, Class
from mowich.serving.own_rows import OWN_ROWS, known_anchors, read_rows, rows_text
from mowich.studies.serving import Deployment, deploy

FACTS = load_facts()
PLAN = ServePlan(tp=4, weights="fp8")


def deployed(on: str, facts: Facts) -> Deployment:
    return deploy(load_model("llama-3.1-70b"), resolve(facts, on), "vllm", [PLAN], facts)


def rows_of(one: Class, residue: float, count: int = 6, version: str = "vllm 9.9") -> list[Anchor]:
    own = replace(one, version=version)
    return [
        Anchor(id=f"run {i}", source="calibration my.yaml", one=own, residue={"tpot": residue}) for i in range(count)
    ]


def overlay(folder: Path, rows: list[Anchor]) -> Facts:
    file = folder / "my.yaml"
    file.write_text(f"serving:\n  anchors:\n    rows: {{text: {json.dumps(rows_text(rows))}, grade: B}}\n")
    return load_facts([file])


words = st.text(alphabet="abcdef-0123456789. ", max_size=12)
amounts = st.floats(1.0, 1e5, allow_nan=False).map(lambda x: float(f"{x:g}"))
noises = st.none() | st.floats(0.01, 1.0).map(lambda x: {"tpot": round(x, 4)})
classes = st.builds(
    Class,
    **dict.fromkeys(("engine", "arch", "model", "family", "chip", "weights", "plan", "vendor", "version"), words),
    **dict.fromkeys(("users", "prompt", "output", "ranks"), amounts),
    guesses=st.booleans(),
)


@given(st.lists(st.builds(Anchor, id=words, source=words, one=classes, residue=st.just({"tpot": -0.25}), noise=noises)))
@settings(max_examples=30, deadline=None)
def test_rows_are_read_as_they_were_written(rows: list[Anchor]) -> None:
    assert read_rows(rows_text(rows)) == rows


@pytest.mark.parametrize("residue", [-0.5, 0.4])
def test_a_forecast_goes_to_what_was_measured_there(residue: float, tmp_path: Path) -> None:
    """Of the same class, whichever release the rows name, and less elsewhere; they are its nearest rows, and its range
    gets narrower."""
    here = deployed("h200:4", FACTS)
    at = {"users": 8.0, "prompt": 2048.0, "output": 512.0}
    rows = rows_of(here.class_of(0, **at), residue)
    facts = overlay(tmp_path, rows)
    mine = deployed("h200:4", facts)
    load = {name: at[name] for name in ("users", "prompt")}
    logs = {name: math.log2(value) for name, value in at.items() if name != "users"}
    shift = float(mine.near("tpot", 0).shift(at["users"], logs["prompt"])[0])
    assert shift == pytest.approx(residue, abs=0.06)
    assert mine.half_width("tpot", 0, **load) < here.half_width("tpot", 0, **load)
    _, nearest = mine.measured(0, **at)
    assert [row.source for row in nearest] == ["calibration my.yaml"] * len(nearest)
    moved = [
        float(d.near("tpot", 0).shift(at["users"], logs["prompt"])[0])
        for d in (deployed("b200:4", FACTS), deployed("b200:4", facts))
    ]
    assert abs(moved[1] - moved[0]) < abs(residue)


def test_facts_without_own_rows_have_those_that_ship() -> None:
    assert FACTS.text(OWN_ROWS) == "none"
    assert known_anchors(FACTS, "vllm").own == 0


@pytest.mark.parametrize("text", ["id,source\nx,y\n", rows_text([]) + "a,b,c\n"])
def test_a_text_that_holds_no_row_is_one_line(text: str, tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text(f"serving:\n  anchors:\n    rows: {{text: {json.dumps(text)}, grade: B}}\n")
    with pytest.raises(UserError, match=r"rows, row 1: not a measured row; allowed: columns id, source"):
        deployed("h200:4", load_facts([file]))
