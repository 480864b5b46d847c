"""The speeds that `kernel judge` and `kernel tune` are held to: candidates of a processor second, and a thousand.

    pytest benchmarks/test_judge_speed.py -s

Processor time of this process and of all that it started, beside an empty loop: a machine that is slow, or busy, is
slow for both. Candidates are our own kernels, each with a line of its own, so that none is known.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from test_kernel_goals import share_of_machine

import mowich
from mowich.progress import listening
from mowich.requests.debugging import ReferenceFile
from mowich.studies.judge.candidate import JudgeRun, KernelCandidate
from mowich.studies.judge.judge import JudgeAsk, judge_kernels

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="candidates run in copies of a process")

KERNELS = Path(__file__).resolve().parents[1] / "kernels"
NAMED = {
    **{name: name for name in ("add", "adamw", "softmax", "rmsnorm", "rotate", "matmul", "matmul_mx", "swiglu_mlp")},
    "attention_prefill": "attention_prefill",
    "quantise": "quantise_fp8",
    "route": "route",
}
"""File -> the kernel of it that is judged, on what `inputs()` of the file gives: the sizes of the tutorials."""
EACH, TURNS = 8, 4
"""Candidates that are judged together, and how often: the best counts."""
GOAL_ALONE, GOAL_VALUES = 20.0, 5.0
"""Candidates of a processor second, in the median over the kernels."""
GOAL_THOUSAND_S = 360.0
"""Processor seconds of a thousand candidates: two processors for three minutes."""
GOAL_VARIANTS = 400.0
"""Variants that are tuned in a processor minute."""


def spent_s() -> float:
    """Processor seconds of this process and of its children that ended."""
    now = os.times()
    return now.user + now.system + now.children_user + now.children_system


def copies(file: str, count: int, turn: int = 0) -> list[KernelCandidate]:
    text = (KERNELS / f"{file}.py").read_text(encoding="utf-8")
    return [KernelCandidate(name=f"{file} {n}", text=f"{text}\n# {n}, {turn}\n") for n in range(count)]


def asked(file: str, kernel: str, values: bool, at_once: int = 1) -> JudgeAsk:
    reference = ReferenceFile(KERNELS / f"{file}.py", "")
    how = JudgeRun(target="trn3", values=values)
    return JudgeAsk(reference=reference, kernel=kernel, how=how, seeds=1, at_once=at_once)


def rate(file: str, kernel: str, values: bool) -> float:
    """Candidates of a processor second, of one kernel, warm."""
    ask = asked(file, kernel, values)
    judge_kernels(copies(file, 1), ask)
    best = 0.0
    for turn in range(TURNS):
        slow, begun = share_of_machine(), spent_s()
        found = judge_kernels(copies(file, EACH, turn), ask)
        best = max(best, EACH / (spent_s() - begun) * slow)
        assert {row.status for row in found.rows} == {"ok" if values else "timed"}
    return best


@pytest.mark.parametrize(("values", "goal"), [(False, GOAL_ALONE), (True, GOAL_VALUES)])
def test_candidates_of_a_second(values: bool, goal: float, record_property: Callable[[str, object], None]) -> None:
    rates = {file: rate(file, kernel, values) for file, kernel in NAMED.items()}
    median = statistics.median(rates.values())
    record_property("candidates_per_s", median)
    print()
    for file, found in rates.items():
        print(f"{file:22}{found:8.1f} a processor second")
    print(f"{'values' if values else 'timed alone'}: {median:.1f} in the median (goal {goal:g})")
    assert median > 0.5 * goal


def test_a_thousand_candidates(record_property: Callable[[str, object], None]) -> None:
    said: list[tuple[object, ...]] = []
    slow, begun, start = share_of_machine(), spent_s(), time.monotonic()
    with listening(lambda *words: said.append(words)):
        found = judge_kernels(copies("softmax", 1000), asked("softmax", "softmax", True, at_once=2))
    spent, took = spent_s() - begun, time.monotonic() - start
    record_property("processor_s", spent)
    print(f"\n1,000 candidates: {spent:.0f} processor seconds, {took:.0f} s on the clock (goal {GOAL_THOUSAND_S:g})")
    assert len(found.rows) == len(said) == 1000
    assert spent / slow < GOAL_THOUSAND_S


def variants(values: Sequence[int]) -> int:
    found = mowich.tune("@attention_prefill", {"AHEAD": values, "TILES": [2, 4], "BLOCK": [512, 1024]}, processes=2)
    return len(found.rows)


def test_variants_of_a_minute(record_property: Callable[[str, object], None]) -> None:
    variants([1])
    slow, begun = share_of_machine(), spent_s()
    count = variants([*range(1, 11)])
    rate = count / (spent_s() - begun) * 60 * slow
    record_property("variants_per_minute", rate)
    print(f"\nkernel tune: {rate:,.0f} variants a processor minute (goal {GOAL_VARIANTS:g})")
    assert rate > GOAL_VARIANTS
