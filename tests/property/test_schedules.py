"""Pipeline schedules played event by event against their closed forms: time, transfers, memory."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mowich.plans import schedules
from mowich.plans.plan import SCHEDULES, Plan, Plans
from mowich.training.pipeline import StageTimes, Timeline, play_schedule

CASES = [(name, 3 if name == "interleaved" else 1) for name in SCHEDULES]


def stages(name: str, pp: int, vpp: int, f: float, b: float, w: float) -> list[StageTimes]:
    """Equal stages whose chunks on one device add up to f, b, w."""
    chunks = schedules.num_chunks(name, vpp)
    return [StageTimes(f=f / chunks, b=b / chunks, w=w / chunks)] * (pp * chunks)


def closed(name: str, pp: int, vpp: int, g: int, f: float, b: float, w: float, hop: float = 0.0) -> float:
    """The step by the closed forms."""
    code, p, v, n = (np.array([float(x)]) for x in (SCHEDULES.index(name), pp, vpp, g))
    chunks = np.array([float(schedules.num_chunks(name, vpp))])
    bubble = schedules.bubble_s(code, p, v, *(np.array([x]) for x in (f, b, w)))
    return float(g * (f + b + w) + bubble[0] + schedules.num_hops(code, p, chunks, n)[0] * hop)


@pytest.mark.parametrize(("name", "vpp"), CASES)
@settings(max_examples=25, deadline=None)
@given(
    half=st.integers(1, 4),
    rounds=st.integers(2, 4),
    f=st.floats(0.5, 2.0),
    over=st.floats(1.0, 3.0),
    under=st.floats(0.0, 1.0),
)
def test_equal_stages_take_what_the_closed_form_says(
    name: str, vpp: int, half: int, rounds: int, f: float, over: float, under: float
) -> None:
    pp, b, w = 2 * half, f * over, f * under
    line = play_schedule(name, pp, vpp, rounds * pp, stages(name, pp, vpp, f, b, w))
    assert line.makespan_s == pytest.approx(closed(name, pp, vpp, rounds * pp, f, b, w), rel=1e-9)
    assert line.busiest_s == pytest.approx(rounds * pp * (f + b + w), rel=1e-9)


@pytest.mark.parametrize(("name", "vpp"), CASES)
@pytest.mark.parametrize("pp", [2, 4, 8])
@pytest.mark.parametrize("rounds", [2, 3, 4])
def test_transfers_delay_a_step_as_often_as_counted(name: str, vpp: int, pp: int, rounds: int) -> None:
    f, b, w, hop = 1.0, 1.3, 0.8, 0.01
    line = play_schedule(name, pp, vpp, rounds * pp, stages(name, pp, vpp, f, b, w), hop)
    assert line.makespan_s == pytest.approx(closed(name, pp, vpp, rounds * pp, f, b, w, hop), rel=1e-9)


@pytest.mark.parametrize(("name", "vpp"), CASES)
@settings(max_examples=15, deadline=None)
@given(half=st.integers(1, 3), seed=st.integers(0, 10**6), uneven=st.floats(0.0, 0.5))
def test_uneven_stages_lie_inside_the_stated_bound(name: str, vpp: int, half: int, seed: int, uneven: float) -> None:
    """Between the work of the busiest device and the closed form with every stage as slow as the slowest."""
    pp, g = 2 * half, 4 * half
    scale = 1.0 + uneven * np.random.default_rng(seed).random(pp * schedules.num_chunks(name, vpp))
    some = [StageTimes(f=x, b=1.5 * x, w=0.8 * x) for x in scale]
    line = play_schedule(name, pp, vpp, g, some)
    chunks = schedules.num_chunks(name, vpp)
    top = float(scale.max()) * chunks
    assert line.busiest_s <= line.makespan_s * (1 + 1e-9)
    assert line.makespan_s <= closed(name, pp, vpp, g, top, 1.5 * top, 0.8 * top) * (1 + 1e-9)


@settings(max_examples=20, deadline=None)
@given(pp=st.integers(1, 6), rounds=st.integers(1, 4), seed=st.integers(0, 10**6))
def test_1f1b_of_uneven_stages_takes_at_most_each_once_and_the_slowest_every_time(
    pp: int, rounds: int, seed: int
) -> None:
    """A tighter bound than the closed form's: g T_max + the sum of the others."""
    scale = 1.0 + np.random.default_rng(seed).random(pp)
    line = play_schedule("1f1b", pp, 1, rounds * pp, [StageTimes(f=x, b=x, w=x) for x in scale])
    assert line.makespan_s <= 3 * (rounds * pp * scale.max() + scale.sum() - scale.max()) * (1 + 1e-9)


def test_1f1b_with_the_head_on_the_last_stage_waits_for_the_others_once() -> None:
    """The pace is that of the fullest stage, the last; the idle time is one micro-batch through all others."""
    for pp, g, head in ((2, 4, 0.3), (4, 8, 0.5), (8, 16, 1.0)):
        plain = StageTimes(f=1.0, b=1.1, w=0.9)
        last = StageTimes(f=1.0 + head, b=1.1 + head, w=0.9 + head)
        others = (pp - 1) * (1.0 + 1.1 + 0.9)
        total = play_schedule("1f1b", pp, 1, g, [plain] * (pp - 1) + [last]).makespan_s
        assert total == pytest.approx(g * (3.0 + 3 * head) + others)


@pytest.mark.parametrize(("name", "vpp"), CASES)
@pytest.mark.parametrize("pp", [2, 4, 8])
@pytest.mark.parametrize("rounds", [2, 3])
def test_held_activations_are_those_of_the_memory_model(name: str, vpp: int, pp: int, rounds: int) -> None:
    g = rounds * pp
    line = play_schedule(name, pp, vpp, g, stages(name, pp, vpp, 1.0, 1.0, 1.0))
    chunks = schedules.num_chunks(name, vpp)
    columns = Plans.of([Plan(pp=pp, vpp=chunks if chunks > 1 else 1, schedule=name)])
    assert max(line.peak) == schedules.in_flight(columns, np.array([float(g)]))[0]


@pytest.mark.parametrize(("name", "vpp"), CASES)
def test_every_piece_runs_once_and_after_what_it_needs(name: str, vpp: int) -> None:
    pp, g = 4, 8
    line = play_schedule(name, pp, vpp, g, stages(name, pp, vpp, 1.0, 1.5, 0.5), 0.1)
    copies = 2 if name == "dualpipe" else 1
    per_stage = g // copies
    chunks = schedules.num_chunks(name, vpp)
    forwards = [s for s in line.spans if s.op.kind == "F"]
    weights = [s for s in line.spans if s.op.kind in ("W", "BW")]
    inputs = [s for s in line.spans if s.op.kind in ("B", "BW")]
    assert len(forwards) == len(weights) == len(inputs) == pp * chunks * per_stage * copies
    assert len({(s.op.micro, s.op.stage, s.op.direction) for s in forwards}) == len(forwards)
    for device in range(pp):
        mine = [s for s in line.spans if s.device == device]
        assert all(one.end_s <= two.start_s + 1e-9 for one, two in pairwise(mine))


def shape(line: Timeline) -> str:
    """The first device's list in short: F0 F1 b0 ..."""
    return " ".join(f"{s.op.kind}{s.op.micro}" for s in line.spans if s.device == 0)


def test_lists_are_those_of_the_papers() -> None:
    one = [StageTimes(f=1, b=1, w=1)] * 2
    assert shape(play_schedule("gpipe", 2, 1, 2, one)) == "F0 F1 BW0 BW1"
    assert shape(play_schedule("1f1b", 2, 1, 3, one)) == "F0 F1 BW0 F2 BW1 BW2"
    assert shape(play_schedule("zb-h1", 2, 1, 3, one)) == "F0 F1 B0 W0 F2 B1 W1 B2 W2"
    assert shape(play_schedule("1f1b", 1, 1, 2, one[:1])) == "F0 BW0 F1 BW1"


@pytest.mark.parametrize(
    ("name", "pp", "vpp", "g", "said"),
    [
        ("interleaved", 4, 1, 8, "vpp above 1"),
        ("1f1b", 4, 2, 8, "vpp 1"),
        ("interleaved", 4, 2, 6, "whole rounds"),
        ("zb-v", 4, 1, 6, "less one"),
        ("dualpipe", 3, 1, 6, "even number"),
        ("dualpipe", 4, 1, 6, "twice as many"),
        ("1f1b", 4, 1, 3, "at least as many"),
    ],
)
def test_a_schedule_that_does_not_exist_says_what_it_lacks(name: str, pp: int, vpp: int, g: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        schedules.order(name, pp, vpp, g)


def test_deepseeks_bubbles() -> None:
    """Table 2 of the DeepSeek-V3 report, with F&B = F + B, B whole: 1F1B (PP-1)(F+B), ZB1P (PP-1)(F+B-2W), DualPipe
    (PP/2-1)(F&B+B-3W)."""
    F, W = 1.0, 0.9
    B = 2.1  # of which W is for the weights
    one = np.ones(1)
    codes = (schedules.ONE_F_ONE_B, schedules.ZB_H1, schedules.DUALPIPE)
    got = [float(schedules.bubble_s(c * one, 16 * one, one, F * one, (B - W) * one, W * one)[0]) for c in codes]
    assert got == pytest.approx([15 * (F + B), 15 * (F + B - 2 * W), 7 * (F + B + B - 3 * W)])
