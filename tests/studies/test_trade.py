"""Neighbours, ties and the Pareto front against plain loops."""

from __future__ import annotations

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
    page = (Path(__file__).parents[2] / "docs" / "optimal-plans.md").read_text()
    for system in ("trn2", "trn3", "trn3-gen1", "trn4", "ironwood", "gb300"):
        section = page.split(f"## {system}: ")[1].split("\n## ")[0]
        assert "Why: " in section
        assert section.count("\n| ") > 5
