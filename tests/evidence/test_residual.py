"""Half-widths of intervals: what makes a step uncertain."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mowich.evidence.residual import FEATURES, features, half_width
from mowich.facts import Facts
from mowich.models.builtin import builtin
from mowich.operators.law import beside
from mowich.software.stack import equip

PARTS = {"gemm": 6.0, "attention": 1.0, "moe": 1.0, "ep": 1.0, "tp": 0.5, "host": 0.5}


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
