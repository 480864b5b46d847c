"""How fast Mowich answers: `make bench`. Limits are the project's targets times a factor for slow and busy machines.

Whole processes are timed as a user waits for them, Python's start included; the search is timed inside the process.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

from mowich import facts, models
from mowich.evidence.validate import validate_rows
from mowich.plans.plan import TrainJob
from mowich.software.stack import equip
from mowich.training.search import search

SLACK = 2.5
"""Machines of continuous integration are slower and shared."""

DEMO = (
    "compare",
    "deepseek-v3",
    "--train",
    "--tokens",
    "15T",
    "--seq",
    "4096",
    "--batch",
    "16384seqs",
    "--on",
    "trn2,trn3,trn3-gen1,trn4,ironwood,gb300",
    "--chips",
    "16384",
)


def process(*args: str) -> None:
    """`python -m mowich ARGS` as a process of its own."""
    subprocess.run([sys.executable, "-m", "mowich", *args], check=True, stdout=subprocess.DEVNULL)


def timed(benchmark: Any, run: Callable[[], Any], *, rounds: int, limit_s: float) -> Any:
    """Run after one warm-up, and assert the median against the limit with its slack."""
    result = benchmark.pedantic(run, rounds=rounds, iterations=1, warmup_rounds=1)
    benchmark.extra_info["limit_s"] = limit_s
    assert benchmark.stats.stats.median < limit_s * SLACK
    return result


def test_help_process(benchmark: Any) -> None:
    timed(benchmark, lambda: process("--help"), rounds=7, limit_s=0.3)


def test_compare_six_systems_process(benchmark: Any) -> None:
    timed(benchmark, lambda: process(*DEMO), rounds=5, limit_s=2.0)


def test_compare_two_dense_process(benchmark: Any) -> None:
    args = (
        "compare",
        "llama-3.1-70b",
        "--train",
        "--tokens",
        "1T",
        "--seq",
        "8192",
        "--batch",
        "1024seqs",
        "--on",
        "trn3,gb300",
        "--chips",
        "1024",
    )
    timed(benchmark, lambda: process(*args), rounds=5, limit_s=2.0)


def test_search_plans_per_second(benchmark: Any) -> None:
    """All legal plans of DeepSeek-V3 on 16,384 Trainium3 chips; `plans_per_s` is in the table of extra information."""
    known = facts.load_facts()
    model, job = models.load_model("deepseek-v3"), TrainJob(tokens=15e12, seq=4096, batch_seqs=16384)
    system = equip(known, "trn3", chips=16384)
    found = timed(benchmark, lambda: search(model, system, job), rounds=5, limit_s=0.5)
    rate = found.evaluated / benchmark.stats.stats.median
    benchmark.extra_info |= {"plans": found.evaluated, "plans_per_s": round(rate)}
    print(f"\n{found.evaluated} plans, {found.feasible} fit: {rate:,.0f} plans per second")
    assert rate > 1e5


def test_validate_all_rows(benchmark: Any) -> None:
    known = facts.load_facts()
    result = timed(benchmark, lambda: validate_rows(None, known), rounds=3, limit_s=2.0)
    rows = result.summary()["all"]
    benchmark.extra_info |= {"answered": rows.n, "refused": rows.unsupported}
