"""How much a search of serving plans computes: few steps and few look-ups in tables, each for many columns, and the
same numbers as one at a time."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from mowich.arrays import Floats
from mowich.machines.system import resolve
from mowich.models import load_model
from mowich.operators.tables import lookup
from mowich.serving import steady
from mowich.serving.search import HALVINGS, ServeJob, Worker, _at_limit, _Columns, search_serving
from mowich.serving.steady import closed_loop
from mowich.software.engine import engine_for
from mowich.studies.serving import deploy
from mowich.studies.serving_plan import searched_plans, worker
from shared_facts import fresh_facts

FACTS = fresh_facts()
JOB = ServeJob(prompt=8000, output=1000, ttft_s=2.0, tpot_s=0.05)
"""The question that the page opens with."""


def worker_of(on: str, job: ServeJob = JOB, engine: str | None = None) -> Worker:
    """Every plan of Llama 3.1 70B on a system."""
    model, system = load_model("llama-3.1-70b"), resolve(FACTS, on)
    plans = searched_plans(model, system, job.prompt, FACTS, {})
    return worker(deploy(model, system, engine or engine_for(FACTS, system, None), plans, FACTS), job)


def counted(monkeypatch: pytest.MonkeyPatch, of: object, name: str) -> list[int]:
    """Gets an entry for each call of a function from now on."""
    calls: list[int] = []
    plain: Callable[..., object] = getattr(of, name)

    def count(*given: object, **named: object) -> object:
        calls.append(1)
        return plain(*given, **named)

    monkeypatch.setattr(of, name, count)
    return calls


@pytest.mark.parametrize(("on", "steps", "look_ups"), [("trn3:64", 16, 8), ("trn2:64", 16, 8), ("gb300:64", 34, 0)])
def test_a_question_takes_few_steps_and_few_look_ups(
    monkeypatch: pytest.MonkeyPatch, on: str, steps: int, look_ups: int
) -> None:
    """An engine that keeps prompts apart times them once for each plan, whatever the batch; halvings towards a limit
    are timed four at a time."""
    w = worker_of(on)
    timed, read = counted(monkeypatch, steady, "step"), counted(monkeypatch, lookup, "_interpolate")
    found = search_serving(resolve(FACTS, on), w, JOB)
    assert found.best
    assert 0 < len(timed) <= steps
    assert bool(look_ups) == bool(read)
    assert len(read) <= look_ups


@pytest.mark.parametrize(
    ("on", "engine"), [("trn3:64", None), ("gb300:64", None), ("h200:8", "sglang"), ("h200:8", "vllm")]
)
@pytest.mark.parametrize("prompt", [300.0, 8000.0, 40_000.0])
def test_a_loop_with_known_prompts_has_the_numbers_of_one_without(on: str, engine: str | None, prompt: float) -> None:
    """Engines that mix prompts with decodes and that do not, that pack several and that do not; prompts of less than
    the budget of a step and of more."""
    job = ServeJob(prompt=prompt, output=200.0, cached=0.25)
    w, rng = worker_of(on, job, engine), np.random.default_rng(7)
    rows = np.sort(rng.integers(0, len(w.plans), 200))
    users = np.exp(rng.uniform(0.0, 6.0, 200))
    everyone = _Columns.of(w, job)
    columns = everyone.take(rows)
    fresh = closed_loop(columns.shapes, columns.costs, columns.around, columns.load(users), w.capacity_B)
    known = columns.loop(users, everyone.prompts())
    for name in ("ttft_s", "tpot_s", "running", "tokens_per_s"):
        np.testing.assert_allclose(getattr(known, name), getattr(fresh, name), rtol=1e-12, err_msg=name)
    fits = users <= np.maximum(fresh.capacity, 1.0)
    np.testing.assert_allclose(columns.alone(users, known.full_step)[fits], columns.alone(users)[fits], rtol=1e-12)


def test_halvings_together_end_where_one_after_another_does() -> None:
    w, rng = worker_of("trn3:64"), np.random.default_rng(11)
    rows = np.sort(rng.integers(0, len(w.plans), 60))
    columns = _Columns.of(w, ServeJob(prompt=8000, output=1000, tpot_s=0.03)).take(rows)
    low = np.exp(rng.uniform(0.0, 3.0, 60))
    high = low * rng.uniform(1.5, 40.0, 60)
    start = columns.alone(low)
    most, tpot = _at_limit(columns, low, high, start)
    for _ in range(HALVINGS):
        middle: Floats = 0.5 * (low + high)
        good = columns.alone(middle) <= columns.job.tpot_s
        low, high = np.where(good, middle, low), np.where(good, high, middle)
    assert most.tolist() == low.tolist()
    np.testing.assert_allclose(tpot, columns.alone(low), rtol=1e-12)
    assert 5 < np.count_nonzero(tpot <= columns.job.tpot_s) < 60
    assert math.isclose(float(np.max(tpot[start <= columns.job.tpot_s])), columns.job.tpot_s, rel_tol=1e-3)


def test_workers_are_put_together_once_for_questions_that_differ_in_lengths_alone() -> None:
    """Other facts, another size, another engine or other plans are another deployment."""
    model, system = load_model("llama-3.1-70b"), resolve(FACTS, "trn3:64")
    plans = searched_plans(model, system, 8000.0, FACTS, {})
    first = deploy(model, system, "vllm-neuron", plans, FACTS)
    assert deploy(model, resolve(FACTS, "trn3:64"), "vllm-neuron", list(plans), FACTS) is first
    assert deploy(load_model("llama-3.1-70b"), system, "vllm-neuron", plans, FACTS) is first
    path = "chips.trainium3.memory.hbm_bandwidth"
    faster = FACTS.with_values({path: 2.0 * FACTS.number(path)})
    others = (
        deploy(model, resolve(faster, "trn3:64"), "vllm-neuron", plans, faster),
        deploy(model, resolve(FACTS, "trn3:128"), "vllm-neuron", plans, FACTS),
        deploy(model, system, "nxdi-nki", plans, FACTS),
        deploy(model, system, "vllm-neuron", plans[1:], FACTS),
        deploy(model, system, "vllm-neuron", plans, FACTS, accept=2.0),
        deploy(load_model("llama-3.1-8b"), system, "vllm-neuron", plans, FACTS),
    )
    assert all(d is not first for d in others)
    assert (others[0].costs.hbm_Bps == 2.0 * first.costs.hbm_Bps).all()
