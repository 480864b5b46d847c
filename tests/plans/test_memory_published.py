"""Plans that are known to have run fit in memory, and plans that cannot are refused."""

from __future__ import annotations

import numpy as np
import pytest

from mowich.evidence.measured_tables import published, read_csv
from mowich.evidence.row_plan import memory_share
from mowich.evidence.rows import Case, read_cases
from mowich.evidence.validate import score_memory
from mowich.facts import Facts
from mowich.models.builtin import builtin
from mowich.plans.memory import memory_B
from mowich.plans.plan import Plan, Plans, TrainJob
from mowich.software.stack import equip
from mowich.training.step import micro_batches_of

NOT_MET = {
    "M01134": "the layout of a 700B mixture's experts is not stated",
    "M01135": "the same",
    "M01136": "the same",
    "M01126": "405B on chips of 31 GiB: how much of the weights lies in host memory is not stated",
    "M01141": "the layout of the experts is not stated",
    "M01162": "what the compiler keeps of the weights that it gathers is not known; 6% over",
    "M01946": "the layout of the experts is not stated",
    "M01947": "the same",
    **dict.fromkeys(
        ("M01220", "M01221", "M01222", "M01223", "M01224", "M01363"),
        "with stochastic rounding it is not stated which of weights, gradients and states stay in 32 bit; all are"
        " 0.3% over, even if every layer were computed again",
    ),
    "M01139": "neither length nor policy of 16 pods is stated: sequences of 4,096, all computed again, are half over",
    "M00165": "printed as ZeRO-1; its siblings state weight sharding, without which 70B do not fit one device",
}
"""Rows whose memory the model does not reproduce, with what is not known about them."""


@pytest.fixture(scope="module")
def cases(facts: Facts) -> list[Case]:
    """The published rows that are answered."""
    return [case for case in read_cases(read_csv(published(), facts), facts) if isinstance(case, Case)]


def test_at_most_two_in_a_hundred_plans_that_ran_do_not_fit(cases: list[Case]) -> None:
    over = {case.id for case in cases if case.memory_share > 1.0}
    assert len(cases) > 1100
    assert over <= set(NOT_MET), sorted(over - set(NOT_MET))
    assert len(over) <= 0.02 * len(cases)


def test_a_row_is_weighed_with_another_policy_only_where_it_leaves_one_open(cases: list[Case]) -> None:
    """Time is predicted with the plan as read; the plan that memory is judged by differs in what the row does not
    state, says so, and needs less."""
    other = [case for case in cases if case.memory_plan != case.plan]
    assert 20 < len(other) < 100
    for case in other:
        assert case.memory_share <= 1.0 < memory_share(case.model, case.system, case.job, case.plan)
        assert any(item.startswith("memory=") and "leaves open" in item for item in case.inferred)
        given, taken = case.plan.to_dict(), case.memory_plan.to_dict()
        assert {k for k in given if given[k] != taken.get(k)} <= {
            "recompute",
            "offload",
            "micro_batch",
            "vpp",
            "schedule",
        }
        stated = case.fully_specified and not case.system.stack.name.startswith("jax")
        assert not stated or case.plan.recompute == "selective"  # a policy that is only named


def test_memory_that_rows_state_is_met(facts: Facts, cases: list[Case]) -> None:
    """What nanotron's allocator held: 8% in the median, and most rows in the range."""
    scores = [score_memory(case, facts) for case in cases if case.allocated_B]
    assert len(scores) >= 14
    assert np.median([s.abs_error for s in scores]) < 0.08
    assert np.mean([s.is_covered for s in scores]) >= 0.85


@pytest.mark.parametrize(
    ("model", "system", "chips", "plan"),
    [
        (
            "llama3-70b",
            "h100",
            8,
            Plan(dp=8, zero=3, recompute="full"),
        ),  # 16 B x 70 B parameters are more than 8 x 80 GB
        ("llama-3.1-405b", "h100", 64, Plan(tp=8, pp=8, recompute="full")),
        ("gpt3-175b", "a100", 8, Plan(tp=8, recompute="full")),
        ("deepseek-v3", "h100", 64, Plan(dp=64, ep=64, recompute="full")),
        ("llama3-8b", "h100", 1, Plan(recompute="full")),
        ("llama3-8b", "h100", 8, Plan(dp=8, zero=3, micro_batch=32)),  # activations of 256k tokens, none recomputed
    ],
)
def test_what_cannot_fit_does_not(facts: Facts, model: str, system: str, chips: int, plan: Plan) -> None:
    on = equip(facts, system, chips=chips)
    job = TrainJob(
        tokens=1e9, seq=8192 if model != "gpt3-175b" else 2048, batch_seqs=max(64, plan.micro_batch * plan.dp)
    )
    columns = Plans.of([plan])
    need = memory_B(builtin(model), on, job, columns, micro_batches_of(job, columns))
    assert sum(float(v[0]) for v in need.values()) > on.hbm_usable_B
