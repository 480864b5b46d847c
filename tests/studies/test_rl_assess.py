"""One run of reinforcement learning, answered whole."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mowich.economics import money
from mowich.facts import Facts
from mowich.machines.system import resolve
from mowich.models import load_model
from mowich.plans.plan import Plan, ServePlan
from mowich.rl.frameworks import read_framework
from mowich.rl.job import Environment, RlJob
from mowich.rl.lengths import Lengths
from mowich.studies.rl import assess, rollout_plans, trainer_plans_of, trainer_platform
from mowich.studies.rl_row import RlAsk, RlRow, RolloutAsk, TrainerAsk

JOB = RlJob(
    algorithm="grpo",
    prompts=16,
    samples=16,
    global_batch=64,
    lengths=Lengths.lognormal(mean=600.0, cap=1920.0, sigma=0.7),
    prompt=100.0,
    most=2048.0,
    passes=("policy", "reference"),
)


def _ask(facts: Facts, **changed: object) -> RlAsk:
    usual = RlAsk(
        model=load_model("llama-3.2-1b"),
        job=JOB,
        rollouts=RolloutAsk(on="h100:8", system_id="h100", chips=8, engine="vllm", plan=ServePlan()),
        trainer=TrainerAsk(on="h100:8", system_id="h100", chips=8, plan=Plan(dp=8)),
        facts=facts,
        framework="nemo-rl",
    )
    return replace(usual, **changed)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def rows() -> dict[str, RlRow]:
    from mowich.facts import load_facts

    facts = load_facts()
    split = replace(JOB, placement="split", staleness=1)
    return {"colocated": assess(_ask(facts)), "split": assess(_ask(facts, job=split))}


@pytest.mark.parametrize("placement", ["colocated", "split"])
def test_numbers_of_a_row_agree(rows: dict[str, RlRow], facts: Facts, placement: str) -> None:
    row = rows[placement]
    step, chips = float(row.step_s), 8 if placement == "colocated" else 16
    assert row.reason == ""
    assert row.cycle is not None
    assert row.closed_s is not None
    assert sum(map(float, row.parts.values())) == pytest.approx(step)
    assert sum(row.step_s.breakdown.values()) == pytest.approx(step)
    assert float(row.tokens_per_s_per_chip) * chips * step == pytest.approx(JOB.tokens)
    price = float(money.price(facts, "h100").rate)
    assert float(row.usd_per_mtok) == pytest.approx(1e6 * chips * price * step / JOB.tokens)
    assert row.closed_s == pytest.approx(step, rel=0.1)
    assert row.workers == 8
    assert row.cycle.spans
    for found in (row.step_s, row.longest_s, row.usd_per_mtok, row.J_per_token, *row.parts.values()):
        assert found.low is not None
        assert found.high is not None
        assert found.low <= float(found) <= found.high
    assert row.step_s.low < step < row.step_s.high  # type: ignore[operator]


def test_a_searched_plan_is_no_slower_than_a_stated_one(rows: dict[str, RlRow], facts: Facts) -> None:
    ask = _ask(facts)
    fixed = {"precision": ("bf16",)}
    free = assess(
        replace(
            ask,
            rollouts=replace(ask.rollouts, plan=None),
            trainer=replace(ask.trainer, plan=None, fixed=fixed),
        )
    )
    assert free.closed_s is not None
    assert rows["colocated"].closed_s is not None
    assert free.closed_s <= rows["colocated"].closed_s * 1.01
    assert any("rollout worker is searched" in line for line in free.assumed)
    assert any("trainer is searched" in line for line in free.assumed)


def test_what_no_plan_can_do_has_its_reason(facts: Facts) -> None:
    big = load_model("llama-3.1-405b")
    one = RolloutAsk(on="h100:8", system_id="h100", chips=8, engine="vllm")
    row = assess(_ask(facts, model=big, rollouts=one))
    assert "no room" in row.reason
    assert row.step_s.value is None
    assert row.usd_per_mtok.value is None
    small = replace(one, plan=ServePlan(tp=16))
    assert "no worker plan" in assess(_ask(facts, rollouts=small)).reason


def test_a_judge_is_paid_for_and_waited_for(rows: dict[str, RlRow], facts: Facts) -> None:
    judged = Environment(judged_per_s=0.5 * JOB.batch / float(rows["colocated"].step_s), judge_chips=8)
    row = assess(_ask(facts, job=replace(JOB, environment=judged), judge_id="h100"))
    assert float(row.parts["reward"]) > 0.0
    alone = float(row.step_s) / float(rows["colocated"].step_s)
    assert float(row.usd_per_mtok) == pytest.approx(2.0 * alone * float(rows["colocated"].usd_per_mtok))


def test_rows_to_experts_stay_in_a_server_up_to_a_release(facts: Facts) -> None:
    """Collectives between servers of an NVL72 went over the network; recipes send rows by a plain all-to-all."""
    ask = _ask(
        facts,
        model=load_model("qwen3-30b-a3b"),
        trainer=TrainerAsk(on="gb200:16", system_id="gb200", chips=16, plan=Plan(dp=16, ep=16)),
    )
    newest, before = (trainer_platform(ask, read_framework(facts, "nemo-rl", release)) for release in ("", "v0.6"))
    assert newest.levels[0].devices == 72
    assert before.levels[0].devices == 4
    assert newest.levels[-1] == before.levels[-1]
    assert newest.stack.ep_exposed_inside == facts.number("training.common.ep_exposed_alltoall")
    unstated = replace(ask, framework="")
    assert trainer_platform(unstated, read_framework(facts, "")).levels[0].devices == 72


def test_every_dp_is_searched_that_can_fill_its_micro_batches(facts: Facts) -> None:
    """Packed micro-batches of an update need not divide among the ranks."""
    ask = _ask(facts, trainer=TrainerAsk(on="h100:8", system_id="h100", chips=8, fixed={"tp": (1,), "pp": (1,)}))
    for mean in (500.0, 510.0, 555.0):
        job = replace(JOB, global_batch=256, lengths=Lengths.lognormal(mean=mean, cap=1900.0, sigma=0.7))
        plans = trainer_plans_of(replace(ask, job=job), trainer_platform(ask, read_framework(facts, "nemo-rl")))
        assert max(plan.devices for plan in plans) == 8


def test_a_larger_share_of_the_memory_never_loses_room(facts: Facts) -> None:
    model, system = load_model("llama-3.1-8b"), resolve(facts, "h100:8")
    framework = read_framework(facts, "nemo-rl")
    rooms = []
    for share in (0.5, 0.7, 0.9):
        asked = RolloutAsk(on="h100:8", system_id="h100", chips=8, engine="vllm", memory_share=share)
        found = rollout_plans(_ask(facts, model=model, rollouts=asked), system, [ServePlan()], framework, "vllm")
        assert found.sides[0] is not None
        rooms.append(found.sides[0].room_tokens)
    assert rooms == sorted(rooms)
    assert rooms[0] < rooms[-1]
