"""Neighbours, ties and the Pareto front against plain loops."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mowich.cli import run
from mowich.facts import Facts
from mowich.models import load_model
from mowich.plans.plan import TrainJob, parse_fixed
from mowich.software.stack import equip
from mowich.training.neighbours import front, neighbours_of, ties
from mowich.training.search import search, survey

JOB = TrainJob(tokens=1e12, seq=4096, batch_seqs=64)
FIXED = parse_fixed({"cp": "1", "micro_batch": "1,2"})


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(*[st.integers(0, 5)] * 3), min_size=1, max_size=30), both=st.booleans())
def test_the_front_is_what_nothing_beats(rows: list[tuple[int, int, int]], both: bool) -> None:
    costs = [np.array([float(r[i]) for r in rows]) for i in range(2 if both else 3)]
    points = [tuple(c[i] for c in costs) for i in range(len(rows))]
    kept = {points[int(i)] for i in front(*costs)}
    best = {p for p in points if not any(q != p and all(a <= b for a, b in zip(q, p, strict=True)) for q in points)}
    assert kept == best
    assert len(front(*costs)) == len(best)


def test_a_neighbour_is_the_best_plan_with_that_value(facts: Facts) -> None:
    model, system = load_model("llama-3.1-8b"), equip(facts, "h100:16")
    found = survey(model, system, JOB, fixed=FIXED)
    best = search(model, system, JOB, fixed=FIXED).best[0]
    assert found.plans.plan(found.best or 0) == best.plan
    shown = neighbours_of(model, system, JOB, found)
    assert {n.field for n in shown} >= {"pp", "recompute", "precision", "zero"}
    for n in shown:
        if n.field in ("order", "zero", "shards"):  # fixing these also allows plans that the search leaves out
            continue
        alone = search(model, system, JOB, fixed={**FIXED, **parse_fixed({n.field: n.value})}).best[0]
        assert n.slower == pytest.approx(alone.seconds_per_token / best.seconds_per_token - 1, abs=1e-9)
        assert n.slower >= -1e-12


def test_a_neighbour_that_does_not_fit_says_by_how_much(facts: Facts) -> None:
    model, system = load_model("llama-3.1-8b"), replace(equip(facts, "h100:16"), hbm_usable_B=15 * 2.0**30)
    found = survey(model, system, JOB, fixed=FIXED)
    out = [n for n in neighbours_of(model, system, JOB, found) if n.slower is None]
    assert out
    assert all(n.memory_B - system.hbm_usable_B == pytest.approx(n.short_B) and n.short_B > 0 for n in out)


def test_ties_are_counted_with_what_they_differ_in(facts: Facts) -> None:
    model, system = load_model("llama-3.1-8b"), equip(facts, "h100:16")
    found = survey(model, system, JOB, fixed=FIXED)
    tied = ties(found, 0.01)
    limit = found.seconds_per_token[found.fits].min() * 1.01
    assert tied.count == int(np.sum(found.fits & (found.seconds_per_token <= limit)))


def test_plan_prints_neighbours_and_front(capsys: pytest.CaptureFixture[str]) -> None:
    args = [
        "plan",
        "llama-3.1-8b",
        "--train",
        "--tokens",
        "1T",
        "--seq",
        "4096",
        "--batch",
        "64seqs",
        "--on",
        "h100:16",
        "--neighbours",
        "--pareto",
        "--set",
        "plan.cp=1",
        "--quiet",
    ]
    assert run(args) == 0
    out = capsys.readouterr().out
    assert "Why " in out
    assert "% slower" in out
    assert "Pareto front" in out
    assert run([*args, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    chips = [row["chips_used"] for row in data["pareto"]]
    assert chips == sorted(chips, reverse=True)
    assert len(set(chips)) > 2
    assert data["why"]["neighbours"]
    speeds = [row["days"]["value"] for row in data["pareto"]]
    assert speeds == sorted(speeds)


def test_the_page_of_optimal_plans_has_every_system_of_the_comparison() -> None:
    page = (Path(__file__).parents[2] / "docs" / "records" / "optimal-plans.md").read_text()
    for system in ("trn2", "trn3", "trn3-gen1", "trn4", "ironwood", "gb300"):
        section = page.split(f"## {system}: ")[1].split("\n## ")[0]
        assert "Why: " in section
        assert section.count("\n| ") > 5


def test_twenty_published_plans_stand_beside_ours(facts: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with its source; on GPUs, TPUs and Trainium; each row of the list is one of training.csv that is read."""
    root = Path(__file__).parents[2]
    monkeypatch.syspath_prepend(str(root / "tools"))
    tool = importlib.import_module("optimal_plans")
    found = list(tool.published_plans(facts))
    assert len(found) >= 20
    assert {one.system.vendor for one in found} >= {"NVIDIA", "Google", "AWS"}
    for model in ("llama-3.1-405b", "deepseek-v3", "kimi-k2", "qwen3-235b-a22b", "gpt-oss-120b"):
        assert any(one.model.name == model for one in found), model
    page = (root / "docs" / "records" / "optimal-plans.md").read_text(encoding="utf-8")
    table = page.split("## Published plans beside ours")[1]
    for one in found:
        assert one.source.count("](https://") == 1
        assert f"| {one.name} | `{one.plan}`" in table
    line = tool.beside_ours(next(one for one in found if one.system.chips == 64))
    assert line.count(" | ") == 5


def test_a_list_that_names_no_row_is_refused(facts: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "tools"))
    tool = importlib.import_module("optimal_plans")
    monkeypatch.setattr(tool.yaml, "safe_load", lambda text: {"rows": [{"chip": "no such chip"}], "stated": []})
    with pytest.raises(ValueError, match="no such chip"):
        list(tool.published_plans(facts))
