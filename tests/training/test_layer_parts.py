"""The rows of a step's parts, and the sums that are made of them."""

from __future__ import annotations

import random

import numpy as np
import pytest

from mowich.facts import Facts
from mowich.formula import formula_of
from mowich.models import load_model
from mowich.plans.plan import Plan, Plans, TrainJob
from mowich.serving.parts import PARTS_OF_TOKEN
from mowich.software.stack import equip
from mowich.studies.explain.formula import evaluate, names_in
from mowich.training import parts
from mowich.training.stage import layer_sums

SUMS = {"forward": parts.FORWARD, "backward": parts.BACKWARD_PASS, "again": parts.NEEDED_AGAIN}


@pytest.mark.parametrize("name", SUMS)
def test_a_sum_of_parts_states_the_formula_that_it_computes(name: str) -> None:
    made, rng = SUMS[name], random.Random(name)
    symbols = [symbol for term in made.terms for symbol in (term.factor, term.symbol) if symbol]
    assert sorted(names_in(formula_of(made.law))) == sorted(symbols)
    given = {symbol: 10 ** rng.uniform(-3, 3) for symbol in symbols}
    found = float(made.law(**{k: np.array([v]) for k, v in given.items()})[0])
    assert evaluate(formula_of(made.law), given.__getitem__) == pytest.approx(found, rel=1e-12)


def test_every_part_that_a_layer_computes_is_in_all_sums() -> None:
    """Forward, backward, and where the backward pass computes layers again: there in the layer's share or with the
    attention core."""
    for name, law in parts.COMPUTED.items():
        assert name in {term.part for term in parts.FORWARD.terms}
        assert law.times or law.own, f"{name} has no backward pass"
        own = {term.part for term in parts.BACKWARD_PASS.terms if term.is_own}
        assert name in {term.part for term in parts.BACKWARD_PASS.terms}
        assert (name in own) == (law.own is not None)
        assert (law.repeated == "share") == (name in {term.part for term in parts.NEEDED_AGAIN.terms})


def test_the_parts_of_a_layer_are_its_passes(facts: Facts) -> None:
    """What the rows give sums to the forward and the backward pass of the layer, and of what is waited for."""
    model, p = load_model("gpt-oss-20b"), Plans.of([Plan(tp=2, sp=True, ep=4, dp=4)])
    job = TrainJob(tokens=1e9, seq=4096, batch_seqs=64.0)
    system = equip(facts, "h100", chips=8)
    sums = layer_sums(model, system, job, p, None)
    assert set(sums) == {*parts.LAYER_PARTS, "forward", "weights"}
    assert all(float(sums[name][0]) > 0 for name in ("gemm", "attention", "memory_bound", "moe", "ep"))
    assert float(sums["forward"][0]) < float(np.sum([sums[name][0] for name in parts.LAYER_PARTS]))


def test_a_part_of_training_and_of_serving_has_the_same_words() -> None:
    """But attention, which reads a cache between tokens."""
    trained = {part.name: part for part in parts.PARTS_OF_STEP}
    for part in PARTS_OF_TOKEN:
        if part.name in trained and part.name != "attention":
            known = trained[part.name]
            assert (known.words, known.group, known.short) == (part.words, part.group, part.short)


def test_what_a_time_is_bound_by_has_its_parts_in_print_order() -> None:
    found = parts.bound_by(parts.PARTS_OF_STEP, lambda part: part.binds)
    assert found["compute"] == ("gemm", "attention", "head", "recompute")
    assert "software" not in {name for names in found.values() for name in names}
