"""What must hold between answers of the serving search: more of a resource never loses, a looser limit never loses, a
restriction never wins.

Output tokens per second of the whole system are compared. Seeded: the same jobs every time.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from mowich.facts import Facts, load_facts
from mowich.machines.system import System, resolve
from mowich.models import load_model
from mowich.requests.jobs import CompareRequest
from mowich.serving.search import ServeJob
from mowich.studies.serving_plan import compare_serving

FACTS = load_facts()
MODELS = (
    "llama-3.1-8b",
    "llama-3.1-70b",
    "qwen3-32b",
    "gpt-oss-120b",
    "qwen3-235b-a22b",
    "deepseek-v3",
    "qwen3.5-397b-a17b",
)
SYSTEMS = (
    "h100:8",
    "h100:16",
    "h200:8",
    "h200:32",
    "b200:8",
    "gb300:8",
    "mi355x:8",
    "trn2:16",
    "trn3:16",
    "trn3:32",
    "ironwood:8",
    "v6e:8",
    "rtx-pro-6000:4",
)
SLACK = 2e-4
"""Batches at a limit are found to a few 0.001% of a batch."""

Question = tuple[str, str, str | None, ServeJob]


def speed(question: Question, facts: Facts = FACTS, **fixed: tuple[int | str, ...]) -> float:
    """Output tokens per second of all chips at the best plan; 0 where none meets the limits."""
    model, on, engine, job = question
    asked = CompareRequest(facts=facts, model=load_model(model), systems=(on,), serve=job, engine=engine, fixed=fixed)
    row = compare_serving(asked).rows[0]
    return float(row.tokens_per_s_per_chip) * row.chips_requested if row.feasible else 0.0


def more(facts: dict[str, float]) -> Facts:
    """The facts with some values multiplied."""
    return FACTS.with_values({path: FACTS.number(path) * times for path, times in facts.items()})


def bandwidth(system: System, times: float) -> Facts:
    return more({system.paths["hbm_Bps"]: times})


def capacity(system: System, times: float) -> Facts:
    return more({f"chips.{system.chip}.memory.hbm_capacity": times})


def peaks(system: System, times: float) -> Facts:
    root = f"chips.{system.chip}.peak_dense"
    return more({f"{root}.{name}": times for name in system.peak_flops if FACTS.get(f"{root}.{name}")})


def links(system: System, times: float) -> Facts:
    return more({path: times for name, path in system.paths.items() if name.endswith(".bandwidth")})


RESOURCES: dict[str, Callable[[System, float], Facts]] = {
    "HBM bandwidth": bandwidth,
    "HBM capacity": capacity,
    "peak rates": peaks,
    "links": links,
}
LOOSER = ("ttft_s", "tpot_s", "chips")
RESTRICTIONS: tuple[dict[str, tuple[int | str, ...]], ...] = (
    {"tp": (1,)},
    {"tp": (4,)},
    {"pp": (1,)},
    {"dp": (1,)},
    {"kv": ("bf16",)},
    {"mode": ("aggregated",)},
    {"mode": ("disaggregated",)},
)


def draw(rng: random.Random) -> Question:
    """A job. Answers of 128 tokens and more: with fewer, prompts crowd the steps, where the closed form of TPOT is no
    longer monotone."""
    job = ServeJob(
        prompt=rng.choice((200, 512, 1000, 2000, 8000, 32_000)),
        output=rng.choice((128, 500, 1000, 4000)),
        ttft_s=rng.choice((0.3, 1.0, 3.0, 10.0, math.inf)),
        tpot_s=rng.choice((0.01, 0.02, 0.05, 0.1, math.inf)),
        cached=rng.choice((0.0, 0.0, 0.5)),
        accept=rng.choice((None, None, 2.3)),
    )
    return rng.choice(MODELS), rng.choice(SYSTEMS), rng.choice((None, "vllm", "trtllm", "sglang")), job


@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in (1, 2, 3))])
def test_more_never_loses_and_a_restriction_never_wins(part: int) -> None:
    rng = random.Random(part)
    answered = 0
    draws = 50 if part else 16
    for _ in range(draws):
        question = draw(rng)
        model, on, engine, job = question
        times = rng.choice((1.01, 1.1, 1.5))
        resource, looser, fixed = (
            rng.choice(("HBM bandwidth", *RESOURCES)),
            rng.choice(LOOSER),
            rng.choice(RESTRICTIONS),
        )
        now = speed(question)
        answered += now > 0
        floor = now * (1.0 - SLACK)
        assert speed(question, RESOURCES[resource](resolve(FACTS, on), times)) >= floor, (question, resource, times)
        if looser == "chips":
            name, chips = on.split(":")
            assert speed((model, f"{name}:{2 * int(chips)}", engine, job)) >= floor, (question, "twice the chips")
        else:
            loose = replace(job, **{looser: times * getattr(job, looser)})
            assert speed((model, on, engine, loose)) >= floor, (question, looser, times)
        assert speed(question, **fixed) <= now * (1.0 + SLACK), (question, fixed)
    assert answered > draws // 2


@pytest.mark.share(2)
@pytest.mark.parametrize(
    ("model", "on", "prompt", "output", "ttft_s", "resource"),
    [
        ("qwen3-32b", "trn3:16", 8000, 128, 1.0, "HBM bandwidth"),
        ("llama-3.1-70b", "trn3:16", 8000, 128, 10.0, "HBM bandwidth"),
        ("gpt-oss-120b", "h200:8", 32_000, 4000, 3.0, "HBM bandwidth"),
        ("deepseek-v3", "ironwood:8", 512, 128, 1.0, "peak rates"),
    ],
)
def test_a_better_chip_keeps_what_just_keeps_a_limit(
    model: str, on: str, prompt: int, output: int, ttft_s: float, resource: str
) -> None:
    """A whole number of users within a limit fell by one, and a plan that fills its limit exactly was refused for the
    last bit of its TTFT."""
    question = (model, on, None, ServeJob(prompt=prompt, output=output, ttft_s=ttft_s, tpot_s=0.05))
    before = speed(question)
    for times in (1.01, 1.1, 1.5, 2.0):
        assert speed(question, RESOURCES[resource](resolve(FACTS, on), times)) >= before * (1.0 - SLACK)
