"""Plans that are known to have run fit in memory, and plans that cannot are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mowich.evidence.rows import Case, read_cases
from mowich.evidence.validate import published, read_csv
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
    "M01137": "the same",
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
    "M00165": "printed as ZeRO-1; its siblings state weight sharding, without which 70B do not fit one device",
}
"""Rows whose memory the model does not reproduce, with what is not known about them."""


def tightest(case: Case, recompute_words: str) -> Plan:
    """The plan, with what the row leaves open at its most frugal: recompute that is not stated, or whose policy is only
    named; activations in host memory where the words say so or say nothing."""
    filled = {item.split("=")[0] for item in case.inferred}
    jax = case.system.stack.name.startswith("jax")
    named = jax or (case.system.stack.name == "pytorch-fsdp" and case.plan.recompute == "selective")
    if not (named or filled & {"recompute", "ep", "micro_batch"}):
        return case.plan
    words = recompute_words.casefold()
    away = "offload" in words or "custom" in words or (not words and jax)
    return replace(case.plan, recompute="full", offload="activations" if away else "none")


def test_every_published_plan_fits(facts: Facts) -> None:
    rows = read_csv(published(), facts)
    over = {}
    checked = 0
    for row, case in zip(rows, read_cases(rows, facts), strict=True):
        if isinstance(case, str):
            continue
        plan = Plans.of([tightest(case, row["recompute"])])
        need = memory_B(case.model, case.system, case.job, plan, micro_batches_of(case.job, plan))
        checked += 1
        if sum(float(v[0]) for v in need.values()) > case.system.hbm_usable_B:
            over[case.id] = case
    assert checked > 1100
    assert set(over) <= set(NOT_MET), sorted(set(over) - set(NOT_MET))


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
