"""Steps with prompts where the host, which launches kernels one by one, may be slower than the device."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mowich.arrays import Floats
from mowich.facts import load_facts
from mowich.machines.system import resolve
from mowich.models import load_model
from mowich.plans.plan import ServePlan, ServePlans
from mowich.plans.shapes import Shapes, shapes
from mowich.serving.arrivals import draw, lengths
from mowich.serving.engines import Served, architecture, constant_columns, has_own, stated_facts
from mowich.serving.step import step, total
from mowich.serving.traffic.policies import Scheduler
from mowich.serving.traffic.replica import Replica
from mowich.serving.traffic.routing import ReplicaFleet
from mowich.serving.traffic.times import StepTimes
from mowich.software.engine import EngineCosts
from mowich.studies.serving import deploy

FACTS = load_facts()


def _case(model: str, tp: int, engine: str = "vllm", chip: str = "b300") -> tuple[Shapes, EngineCosts]:
    system, known = resolve(FACTS, chip, chips=8), load_model(model)
    plan = ServePlan(tp=tp, ep=1)
    stated = stated_facts(FACTS, engine, system)
    case = Served(
        model=known,
        arch=architecture(known),
        system=system,
        engine=engine,
        plan=plan,
        has_own=has_own(FACTS, system),
        stated=stated,
    )
    return shapes(known, ServePlans.of([plan])), constant_columns([case]).constants(FACTS.number)[0]


def _parts(s: Shapes, c: EngineCosts, tokens: float, n: float = 0.0) -> dict[str, Floats]:
    return step(s, c, n=n, context=2048.0, prompt=tokens, prompt_context=tokens / 2.0, finishing=float(tokens > 0))


@given(
    st.sampled_from(["qwen3-32b", "qwen3.6-35b-a3b", "gpt-oss-120b"]),
    st.sampled_from([1, 2, 8]),
    st.floats(1.0, 8000.0),
    st.floats(0.0, 100.0),
    st.floats(0.0, 1e-3),
    st.floats(0.0, 4096.0),
)
@settings(max_examples=30, deadline=None)
def test_a_prompt_takes_the_longer_of_device_and_host(
    model: str, tp: int, tokens: float, n: float, launch: float, capture: float
) -> None:
    """Never their sum, and no more than what no graph holds where the step is captured."""
    s, c = _case(model, tp)
    one = np.ones(1)
    c = replace(c, prefill_kernel=launch * one, capture=capture * one)
    found, without = _parts(s, c, tokens, n), _parts(s, replace(c, prefill_kernel=0.0 * one), tokens, n)
    device = float(total(without)[0] - without["host"][0])
    by_host = s.uncaptured[0] + (0.0 if n + tokens <= capture else s.kernels[0])
    assert float(total(found)[0] - found["host"][0]) == pytest.approx(max(device, by_host * launch), rel=1e-9)
    assert step(s, c, n=n, context=2048.0)["launches"][0] == 0.0  # a step that only decodes is one graph


def test_profiles_of_steps_with_prompts_on_b300() -> None:
    """Measured: 7.5 ms of a dense model on eight devices at 128 tokens; a hybrid mixture some 16 ms up to 512 tokens,
    then 40 to 45 whatever they are."""
    launch = np.full(1, 25e-6)  # of the host, as the profile has it

    def ms(model: str, tokens: float) -> float:
        s, c = _case(model, 8)
        return float(total(_parts(s, replace(c, prefill_kernel=launch), tokens))[0]) * 1e3

    assert 6.0 < ms("qwen3-32b", 128.0) < 9.5
    few, many = (
        [ms("qwen3.6-35b-a3b", t) for t in (16.0, 128.0, 500.0)],
        [ms("qwen3.6-35b-a3b", t) for t in (816.0, 2048.0, 4000.0)],
    )
    assert all(14.0 < x < 19.0 for x in few)
    assert all(38.0 < x < 47.0 for x in many)


@pytest.mark.parametrize(("model", "tokens"), [("qwen3-32b", 100), ("qwen3.6-35b-a3b", 100), ("qwen3.6-35b-a3b", 2000)])
def test_a_played_out_prompt_takes_as_long_as_the_closed_form(model: str, tokens: int) -> None:
    """One request alone: of a dense model, and of a hybrid whose launches bind, in graphs and beyond them."""
    d = deploy(load_model(model), resolve(FACTS, "b300", chips=8), "vllm", [ServePlan(tp=8)], FACTS)
    times = StepTimes.of(d.shapes, d.costs, d.around, Scheduler(budget=8192, max_sequences=4))
    requests = list(draw(rate=1.0, requests=1, prompt=lengths(tokens, ""), output=lengths(2, "")))
    list(ReplicaFleet(replicas=[Replica(0, times, Scheduler(budget=8192, max_sequences=4))]).run(requests))
    played = requests[0].first_token_s - requests[0].scheduled_s
    assert played == pytest.approx(float(total(_parts(d.shapes, d.costs, tokens))[0]), rel=0.03)
