"""Candidates of a split: sizes, pairs within the chips, goals, the front of dollars against step time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mowich.rl.split import (
    SPLIT_GOALS,
    Candidates,
    SideColumns,
    by_goal,
    front_of,
    side_sizes,
    size_step,
    sizes_beside,
    usd_per_mtok,
)

PRICES = np.array([3.0, 1.0, 2.0])
"""Of a chip of each of three systems."""


def _sides(draw: np.random.Generator, most: int) -> SideColumns:
    """Sides of up to three systems, each at all of its sizes."""
    systems = range(int(draw.integers(1, 4)))
    steps = [int(draw.integers(1, 9)) for _ in systems]
    at = [(i, chips, steps[i]) for i in systems for chips in range(steps[i], most + 1, steps[i])]
    place, chips, step = (np.array(column, dtype=np.intp).reshape(-1) for column in zip(*at, strict=True))
    return SideColumns(system=place, chips=chips, usd_per_s=chips * PRICES[place], step=step)


def _times(sides: Candidates, rollouts: SideColumns, trainers: SideColumns) -> np.ndarray:
    """A step that the slower side binds; more chips never slow it."""
    speed = np.array([1.0, 0.3, 0.7])
    made = rollouts.chips[sides.rollouts] * speed[rollouts.system[sides.rollouts]]
    trained = trainers.chips[sides.trainer] * speed[trainers.system[sides.trainer]]
    return np.maximum(100.0 / made, 60.0 / trained) + 1.0


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), most=st.integers(8, 48))
def test_no_pair_beats_the_chosen_one(seed: int, most: int) -> None:
    """Against loops over every pair: what a goal chooses, and the front."""
    draw = np.random.default_rng(seed)
    rollouts, trainers = _sides(draw, most), _sides(draw, most)
    found = Candidates.within(rollouts, trainers, most)
    step_s = _times(found, rollouts, trainers)
    usd = usd_per_mtok(found.usd_per_s, step_s, 1e6)
    budget = float(np.median(usd)) if len(usd) else np.inf
    pairs = []
    for i in range(len(rollouts.chips)):
        for j in range(len(trainers.chips)):
            left = most - int(rollouts.chips[i] + trainers.chips[j])
            if left >= 0:
                pairs.append((i, j, left < min(rollouts.step[i], trainers.step[j])))
    assert [(i, j, fills) for i, j, fills in zip(found.rollouts, found.trainer, found.fills, strict=True)] == pairs
    for of in {(int(a), int(b)) for a, b in found.systems}:
        mine = (found.systems == np.array(of)).all(axis=1)
        cheapest, fastest = (by_goal(goal, found, step_s, usd, of=of, budget=budget) for goal in SPLIT_GOALS)
        assert len(cheapest) == int((mine & found.fills).sum())
        if len(cheapest):
            assert usd[cheapest[0]] == pytest.approx(usd[mine & found.fills].min(), rel=1e-11)
        within = mine & (usd <= budget)
        assert len(fastest) == int(within.sum())
        if len(fastest):
            assert step_s[fastest[0]] == pytest.approx(step_s[within].min(), rel=1e-11)
    front = front_of(step_s, usd)
    for place in range(len(found)):
        assert any(step_s[k] <= step_s[place] * (1 + 1e-9) and usd[k] <= usd[place] * (1 + 1e-9) for k in front)
    assert all(step_s[a] < step_s[b] and usd[a] > usd[b] for a, b in zip(front, front[1:], strict=False))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), most=st.integers(8, 40), more=st.integers(0, 12))
def test_more_chips_never_cost_more_at_a_step_time(seed: int, most: int, more: int) -> None:
    fronts = []
    for chips in (most, most + more):
        draw = np.random.default_rng(seed)
        rollouts, trainers = _sides(draw, 60), _sides(draw, 60)
        found = Candidates.within(rollouts, trainers, chips)
        step_s = _times(found, rollouts, trainers)
        usd = usd_per_mtok(found.usd_per_s, step_s, 1e6)
        fronts.append([(step_s[k], usd[k]) for k in front_of(step_s, usd)])
    few, many = fronts
    for step, cost in few:
        assert min(other for at, other in many if at <= step * (1 + 1e-9)) <= cost * (1 + 1e-9)


def test_what_has_no_price_is_chosen_by_time() -> None:
    sides = SideColumns(
        system=np.array([0, 0]), chips=np.array([2, 4]), usd_per_s=np.full(2, np.nan), step=np.array([2, 2])
    )
    found = Candidates.within(sides, sides, 6)
    step_s = np.array([9.0, 3.0, 5.0])[: len(found)]
    usd = usd_per_mtok(found.usd_per_s, step_s, 1e6)
    order = by_goal("cost", found, step_s, usd, of=(0, 0))
    assert [int(found.chips[k]) for k in order] == [6, 6]
    assert step_s[order[0]] == 3.0
    assert front_of(step_s, usd) == [1]
    assert len(by_goal("time", found, step_s, usd, of=(0, 0), budget=5.0)) == 0


@settings(max_examples=100, deadline=None)
@given(
    server=st.sampled_from([1, 4, 8, 16]),
    units=st.sampled_from([1, 2, 9, 18, 36, 576]),
    most=st.integers(1, 5000),
    tried=st.integers(2, 20),
)
def test_sizes_are_whole_servers_and_refine_to_every_one(server: int, units: int, most: int, tried: int) -> None:
    step = size_step(server=server, unit=server * units, most=most)
    assert 1 <= step <= max(most, 1)
    assert step % server == 0 or most < server
    sizes = side_sizes(step, most, tried)
    assert len(sizes) <= tried
    assert sizes[0] == step
    assert sizes[-1] == most // step * step
    target = sizes[len(sizes) // 2]
    while new := sizes_beside(sizes, [target], step):
        assert not set(new) & set(sizes)
        assert all(0 < size <= most and size % step == 0 for size in new)
        sizes = sorted({*sizes, *new})
    assert {target - step, target + step} <= {0, *sizes, most // step * step + step}
