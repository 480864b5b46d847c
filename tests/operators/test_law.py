"""The law of time and the list of operators: formulas that stand once, and one list for training and serving."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable

import numpy as np
import pytest

from mowich.estimate import Notes
from mowich.facts import load_facts
from mowich.formula import formula_of, printed
from mowich.models import load_model, ops
from mowich.operators import law
from mowich.operators import list as operators
from mowich.operators.rates import rates
from mowich.plans.plan import Plan, Plans, ServePlan, ServePlans, TrainJob
from mowich.plans.shapes import shapes
from mowich.rl import rollout, schedule
from mowich.software.stack import equip
from mowich.studies.explain.formula import evaluate, names_in
from mowich.training import exchange, experts, forward, layer, stage, step
from mowich.training.layer import rank_share
from mowich.training.parts import layer_times
from mowich.training.step import predict_step

FACTS = load_facts()
STATED = [
    f
    for module in (law, exchange, experts, forward, layer, stage, step, rollout, schedule)
    for _, f in inspect.getmembers(module, inspect.isfunction)
    if f.__module__ == module.__name__ and "\n    T = " in str(f.__doc__) and len(inspect.signature(f).parameters) > 1
]
"""The functions of operators, of a training step and of reinforcement learning that state a formula of their own
arguments."""


def test_the_law_states_its_formulas() -> None:
    kinds = {"product", "products_of_rows", "fused_attention", "scan", "passes", "both"}
    assert kinds <= {f.__name__ for f in STATED}
    with pytest.raises(ValueError, match="states no formula"):
        formula_of(law.gemm_s)


@pytest.mark.parametrize("of", STATED, ids=lambda f: f.__name__)
def test_a_formula_is_what_its_function_computes(of: Callable[..., object]) -> None:
    """In the names of the parameters, on many random numbers."""
    rng = random.Random(of.__name__)
    parameters = list(inspect.signature(of).parameters)
    assert set(names_in(formula_of(of))) <= set(parameters)
    for _ in range(50):
        given = {
            name: rng.choice((1.0, 3.0)) if name in ("p", "power") else 10 ** rng.uniform(-3, 3) for name in parameters
        }
        value = float(np.ravel(of(**{k: v if k in ("p", "power") else np.array([v]) for k, v in given.items()}))[0])
        assert evaluate(formula_of(of), given.__getitem__) == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize(
    ("model", "on", "plan"),
    [
        ("llama-3.1-70b", "h100:64", Plan(tp=8, dp=8, sp=True)),
        ("llama-3.1-70b", "trn3:64", Plan(tp=4, dp=16, precision="mxfp8")),
        ("deepseek-v3", "gb300:72", Plan(tp=3, dp=24, ep=8, precision="fp8")),
        ("gpt-oss-120b", "ironwood:64", Plan(tp=5, dp=12, ep=4)),
    ],
)
def test_what_explain_prints_of_a_product_gives_its_time(model: str, on: str, plan: Plan) -> None:
    """The printed formula with the printed numbers: misaligned rows are in it."""
    notes = Notes()
    job = TrainJob(tokens=1e12, seq=4097, batch_seqs=512.0)
    predict_step(load_model(model), equip(FACTS, on), job, plan, notes)
    terms = [term for name, term in notes.terms.items() if name.startswith("gemm.") and ".step" not in name]
    assert len(terms) >= 4
    for term in terms:
        formula = term.formula.split(", forward")[0].replace("^", "**").replace(" x ", " * ")
        assert formula == formula_of(law.product)
        by_hand = evaluate(formula, {k: float(v) for k, v in term.inputs.items() if not isinstance(v, str)}.__getitem__)
        assert by_hand == pytest.approx(term.value, rel=1e-9), term.name


def test_training_and_serving_sum_the_same_products() -> None:
    """The weights that an engine reads are those of the products that a training step computes."""
    for name in ("llama-3.1-8b", "deepseek-v3", "qwen3-235b-a22b", "gpt-oss-120b", "kimi-k2"):
        model = load_model(name)
        for tp in (1, 2, 4):
            p = Plans.of([Plan(tp=tp)])
            share = rank_share(TrainJob(tokens=1e12, seq=4096, batch_seqs=512.0), p, 2.0)
            trained = sum(
                float(layer.count * sum(g.n * g.k for g in operators.products(layer, model.hidden, share))[0])
                for layer in model.layers
            )
            served = shapes(model, ServePlans.of([ServePlan(tp=tp)]))
            assert served.W_linear[0] == pytest.approx(trained, rel=1e-12)


def test_backward_does_a_product_twice_and_once_with_a_frozen_base() -> None:
    assert operators.backward_times("product") == 2.0
    assert operators.backward_times("product", is_frozen=True) == 1.0
    assert operators.backward_times("stream", is_frozen=True) == 2.0


def test_formulas_are_shown_with_signs() -> None:
    assert printed("a * b ** 2 + c**d") == "a x b^2 + c^d"


def test_a_layer_sums_its_operators() -> None:
    """A dense layer's products one by one are its gemm part."""
    system, model = equip(FACTS, "h100:8"), load_model("llama-3.1-8b")
    job, p = TrainJob(tokens=1e12, seq=8192, batch_seqs=512.0), Plans.of([Plan(tp=2, dp=4)])
    (layer,) = model.layers
    r = rates(system, p.precision)
    one_by_one = sum(
        law.gemm_s(g.m, g.n, g.k, r) for g in operators.products(layer, model.hidden, rank_share(job, p, 2.0))
    )
    assert layer_times(model, layer, system, job, p)["gemm"] == pytest.approx(one_by_one)
    assert [g.gemm for g in operators.products(layer, model.hidden, rank_share(job, p, 2.0))] == list(
        ops.dense_gemms(layer, model.hidden)
    )
