"""The gym: what is right and fast is rewarded, what is not says why, and the same texts give the same answers."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judge_cheats import CHEATS
from mowich.errors import UserError
from mowich.gym import REWARD_FLOOR, KernelGym, kernel_reward, kernel_task

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="candidates run in copies of a process")

SECONDS = st.floats(1e-9, 1e3)
GELU = kernel_task("gelu").text
STEPS = "        nisa.dma_copy(dst=result[rows, :], src=tile)\n"
TEXTS = {
    "slower": GELU.replace(STEPS, 4 * "        nisa.tensor_copy(dst=inner, src=tile)\n" + STEPS),
    "wrong": GELU.replace("operand1=0.5", "operand1=0.4"),
    "refused": "import os\n" + GELU,
    "empty": "",
    "no Python": "def f(:",
}


@given(SECONDS, SECONDS, SECONDS)
def test_right_above_wrong_above_refused_and_faster_above_slower(a: float, b: float, start: float) -> None:
    fast, slow = min(a, b), max(a, b)
    assert kernel_reward("ok", fast, start) >= kernel_reward("ok", slow, start) >= REWARD_FLOOR
    assert REWARD_FLOOR > kernel_reward("wrong", None, start) > kernel_reward("refused", None, start)
    assert kernel_reward("ok", start, start) == 1.0
    assert math.isclose(kernel_reward("ok", start / 4, start), 3.0)


def episode(texts: Iterable[str]) -> list[Any]:
    gym = KernelGym(seeds=1, most_steps=len(TEXTS), goal=1.5)
    start = gym.reset("gelu", seed=3)[0]
    steps = [gym.step(text) for text in texts]
    return [start, *([*step[:4], step[4]["p_faster"]] for step in steps)]


def test_an_episode() -> None:
    start, *steps = episode(TEXTS.values())
    assert episode([*TEXTS.values()][:2])[1:] == steps[:2]  # the same texts give the same answers
    assert start["status"] == "ok"
    assert start["start_s"] == start["best_s"] == start["time_s"]
    assert (start["low_s"] or 1) < (start["time_s"] or 0) < (start["high_s"] or 0)
    rows = dict(zip(TEXTS, steps, strict=True))
    found = {name: (row[0]["status"], row[1]) for name, row in rows.items()}
    assert found["slower"][0] == "ok"
    assert REWARD_FLOOR <= found["slower"][1] < 1.0
    assert found["wrong"] == ("wrong", 0.0)
    assert {name: found[name] for name in ("refused", "empty", "no Python")} == dict.fromkeys(
        ("refused", "empty", "no Python"), ("refused", -1.0)
    )
    reasons = {name: row[0]["reason"] for name, row in rows.items()}
    assert reasons["slower"] == ""
    assert "the reference" in reasons["wrong"]
    assert reasons["refused"].startswith("candidate.py:1: not for a candidate: it imports os")
    assert [row[3] for row in steps] == [False] * (len(TEXTS) - 1) + [True]
    assert rows["slower"][4] < 0.5
    assert json.dumps(start)


def test_a_goal_ends_an_episode_and_no_cheat_reaches_it() -> None:
    gym = KernelGym(seeds=1, goal=1.01)
    gym.reset("softmax")
    for name in sorted(CHEATS)[::60]:
        observation, reward, terminated, _, _ = gym.step(CHEATS[name])
        assert (observation["status"] != "ok", reward <= 0.0, terminated) == (True, True, False), name
    start = KernelGym(seeds=1, goal=1.0)
    seen, _ = start.reset("gelu")
    assert start.step(seen["text"])[2]


def test_what_is_wrong_with_a_call_is_a_line() -> None:
    with pytest.raises(UserError, match="begins with reset"):
        KernelGym().step("")
    with pytest.raises(UserError, match="unknown task 'gelo'"):
        KernelGym().reset("gelo")
    with pytest.raises(UserError, match="trn9"):
        KernelGym(target="trn9")
    with pytest.raises(UserError, match="does not run on trn1"):
        KernelGym(target="trn1", seeds=1).reset("matmul_mx")
