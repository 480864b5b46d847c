"""Half-widths of intervals: what makes a step uncertain."""

from __future__ import annotations

import csv
import importlib
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from mowich.evidence.residual import FEATURES, MEASURED_CHIPS, RUN_KINDS, features, half_width, kind_of, step_interval
from mowich.facts import Facts
from mowich.models.builtin import builtin
from mowich.operators.law import beside
from mowich.software.stack import equip

TOOLS = Path(__file__).resolve().parents[2] / "tools"
PARTS = {"gemm": 6.0, "attention": 1.0, "moe": 1.0, "ep": 1.0, "tp": 0.5, "host": 0.5}


@pytest.fixture
def fit_training(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [str(TOOLS), *sys.path])
    return importlib.import_module("fit_training")


def test_shares_of_a_step(facts: Facts) -> None:
    x = features(PARTS, builtin("deepseek-v3"), equip(facts, "h100", chips=64))
    assert x["experts"] == pytest.approx(0.2)
    assert x["attention"] == pytest.approx(0.1)
    assert x["network"] == x["host"] == pytest.approx(0.05)
    assert x["moe_model"] == 1
    assert x["tpu"] == x["neuron"] == x["framework"] == 0
    assert set(FEATURES) <= set(x)


def test_width_is_the_root_of_the_squares(facts: Facts) -> None:
    model, system = builtin("deepseek-v3"), equip(facts, "h100", chips=64)
    x = features(PARTS, model, system)
    by_hand = math.sqrt(sum((facts.number(f"training.residuals.{name}") * value) ** 2 for name, value in x.items()))
    assert half_width(PARTS, model, system, facts) == pytest.approx(by_hand)
    assert 0.05 < by_hand < 1.0


def test_each_doubling_beyond_the_measured_sizes_adds_to_the_width(facts: Facts) -> None:
    model, w = builtin("deepseek-v3"), facts.number("training.residuals.beyond_measured_size")
    widths = [
        half_width(PARTS, model, equip(facts, "trn2", chips=MEASURED_CHIPS * times), facts) for times in (1, 2, 16)
    ]
    assert widths[1] - widths[0] == pytest.approx(w)
    assert widths[2] - widths[0] == pytest.approx(4 * w)


def test_less_known_is_wider(facts: Facts) -> None:
    dense, h100 = builtin("llama3-70b"), equip(facts, "h100", chips=64)
    known = half_width(PARTS, dense, h100, facts)
    assert half_width(PARTS, dense, h100, facts, ["recompute=none (not stated)", "tp=8 (smallest)"]) >= known
    assert half_width(PARTS, dense, equip(facts, "h100", chips=64, stack="jax-gpu"), facts) >= known
    assert half_width(PARTS, dense, equip(facts, "trn2", chips=64), facts) > known
    assert half_width(PARTS, dense, equip(facts, "h100", chips=65536), facts) > known


def test_beside() -> None:
    T = np.array([10.0])
    assert beside(T, 0.0, 100.0, 0.1) == pytest.approx(10.0)  # nothing can be issued early
    assert beside(T, 1.0, 100.0, 0.0) == pytest.approx(0.0)
    assert beside(T, 1.0, 4.0, 0.0) == pytest.approx(6.0)  # the window is over
    assert beside(T, 0.5, 100.0, 0.2) == pytest.approx(6.0)  # 5 hidden, of which 1 is taken from compute


def test_ends_lean_by_kind_of_run(facts: Facts) -> None:
    """Each end is its multiple of W; every kind has both, and a row of B200 with experts is slower more often than
    faster."""
    model, b200 = builtin("deepseek-v3"), equip(facts, "b200", chips=64)
    faster, slower = step_interval(PARTS, model, b200, facts)
    width = half_width(PARTS, model, b200, facts)
    assert kind_of(model, b200) == "gpu_moe_air"
    assert faster == pytest.approx(width * facts.number("training.residuals.gpu_moe_air_faster"))
    assert slower == pytest.approx(width * facts.number("training.residuals.gpu_moe_air_slower"))
    assert slower > 2.0 * faster
    dense = builtin("llama3-70b")
    assert kind_of(dense, equip(facts, "h100", chips=64)) == "gpu_dense_stated"
    assert (
        kind_of(dense, equip(facts, "h100", chips=64, stack="jax-gpu"), ["tp=8 (smallest)"]) == "gpu_dense_open_other"
    )
    assert kind_of(dense, equip(facts, "trn3", chips=64)) == kind_of(model, equip(facts, "trn3", chips=64))
    assert kind_of(model, equip(facts, "ironwood", chips=64)) == "tpu_moe"
    for kind in set(RUN_KINDS) - set(RUN_KINDS.values()):
        assert all(facts.number(f"training.residuals.{kind}_{end}") > 0.1 for end in ("faster", "slower"))


def test_the_only_source_of_a_kind_says_nothing_when_it_is_left_out(fit_training: ModuleType) -> None:
    """Its errors are then those of priors: however large, ranges of its kind and of others stay as they are."""
    rng = np.random.default_rng(7)
    n = 120
    x = np.column_stack([np.ones(n), *(rng.random((len(FEATURES) - 1, n)))])
    kinds = ["neuron_encoder"] * 40 + ["neuron_decoder"] * 80
    sources = ["one"] * 40 + ["two"] * 40 + ["three"] * 40
    groups = [str(i // 4) for i in range(n)]
    group = rng.normal(0.0, 0.05, n)
    calm, wild = rng.normal(0.0, 0.05, n), np.where(np.arange(n) < 40, 3.0, 0.0)
    found = [
        fit_training.widths(x, {"group": group, "source": calm + factor * wild}, groups, sources, kinds, folds=3)
        for factor in (0.0, 1.0)
    ]
    assert found[0].leans == found[1].leans
    assert found[0].w == pytest.approx(found[1].w)


def test_few_groups_show_little_of_the_next_one(fit_training: ModuleType) -> None:
    """Student's t at 0.96, tables: 2.004 and 1.844 with 8 and 20 degrees of freedom; normal: 1.751."""
    assert fit_training.few(9) == pytest.approx(2.004 * math.sqrt(1 + 1 / 9) / 1.751, rel=0.01)
    assert fit_training.few(21) == pytest.approx(1.844 * math.sqrt(1 + 1 / 21) / 1.751, rel=0.01)
    assert fit_training.few(1) == fit_training.few(3) > fit_training.few(4) > fit_training.few(100) > 1.0
    assert fit_training.few(10**6) == pytest.approx(1.0, abs=1e-5)


def test_intervals_hold_in_every_class_of_rows(fit_training: ModuleType, facts: Facts) -> None:
    """Of rows whose group no fit saw, 85 to 95% in each class of 20 rows or more, but for one row."""
    rows, cases = fit_training.read(facts)
    with fit_training.HELD_OUT.open(newline="", encoding="utf-8") as file:
        held = {row["id"]: int(row["inside_group"]) for row in csv.DictReader(file)}
    inside: dict[str, list[int]] = {}
    for case in cases:
        for name in fit_training.classes_of(case):
            inside.setdefault(name, []).append(held[case.id])
    shares = {name: (float(np.mean(each)), len(each)) for name, each in inside.items() if len(each) >= 20}
    assert len(rows) == len(cases)
    assert len(shares) >= 8
    assert {name: share for name, (share, n) in shares.items() if not 0.85 - 1 / n <= share <= 0.95 + 1 / n} == {}
