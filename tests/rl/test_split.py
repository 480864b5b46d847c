"""Candidates of a split: sizes, pairs within the chips, goals, the front of dollars against step time."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drawn_runs import drawn_run
from mowich.rl.schedule import closed_cycle
from mowich.rl.sides import SyncSide, TrainerSide
from mowich.rl.split import Candidates, Legal, SideColumns, by_goal, front_of, is_beaten, step_usd_per_mtok

PRICES = np.array([3.0, 1.0, 2.0])
"""Of a chip of each of three systems."""


def _sides(draw: np.random.Generator, most: int) -> SideColumns:
    """Sides of up to three systems, each at all of its sizes."""
    systems = range(int(draw.integers(1, 4)))
    steps = [int(draw.integers(1, 9)) for _ in systems]
    at = [(i, chips, steps[i]) for i in systems for chips in range(steps[i], most + 1, steps[i])]
    place, chips, step = (np.array(column, dtype=np.intp) for column in zip(*at, strict=True))
    least_s = draw.uniform(10.0, 90.0) / chips
    return SideColumns(system=place, chips=chips, more=step, usd_per_s=chips * PRICES[place], least_s=least_s)


def _times(found: Candidates, draw: np.random.Generator) -> np.ndarray:
    """A step that is never shorter than what either side takes alone."""
    return found.least_s * (1.0 + draw.exponential(0.5, len(found)))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), most=st.integers(9, 48), margin=st.sampled_from([0.0, 0.1]))
def test_no_pair_beats_the_chosen_one(seed: int, most: int, margin: float) -> None:
    """Against loops over every pair: what a goal chooses, and the front."""
    draw = np.random.default_rng(seed)
    rollouts, trainers = _sides(draw, most), _sides(draw, most)
    found = Candidates.apart(rollouts, trainers, most)
    pairs = []
    for i in range(len(rollouts.chips)):
        for j in range(len(trainers.chips)):
            left = most - int(rollouts.chips[i] + trainers.chips[j])
            if left >= 0:
                pairs.append((i, j, left < rollouts.more[i]))
    assert [(i, j, fills) for i, j, fills in zip(found.rollouts, found.trainer, found.fills, strict=True)] == pairs
    step_s = _times(found, draw)
    usd = step_usd_per_mtok(found.usd_per_s, step_s, 1e6)
    budget = float(np.median(usd)) if len(usd) else np.inf
    for of in {(int(a), int(b)) for a, b in found.systems}:
        mine = (found.systems == np.array(of)).all(axis=1)
        full, within = mine & found.fills, mine & (usd <= budget)
        cheapest = by_goal("cost", found, step_s, usd, of=of, margin=margin)
        fastest = by_goal("time", found, step_s, usd, of=of, budget=budget)
        assert len(cheapest) == int((full if full.any() else mine).sum())
        assert len(fastest) == int(within.sum())
        if full.any():
            near = full & (usd <= usd[full].min() * (1.0 + margin))
            assert step_s[cheapest[0]] == pytest.approx(step_s[near].min(), rel=1e-11)
            assert usd[cheapest[0]] <= usd[full].min() * (1.0 + margin + 1e-11)
        if len(fastest):
            assert step_s[fastest[0]] == pytest.approx(step_s[within].min(), rel=1e-11)
    front = front_of(step_s, usd)
    for place in range(len(found)):
        assert any(step_s[k] <= step_s[place] * (1 + 1e-9) and usd[k] <= usd[place] * (1 + 1e-9) for k in front)
    assert all(step_s[a] < step_s[b] and usd[a] > usd[b] for a, b in pairwise(front))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), most=st.integers(9, 40), more=st.integers(0, 12))
def test_more_chips_never_cost_more_at_a_step_time(seed: int, most: int, more: int) -> None:
    draw = np.random.default_rng(seed)
    rollouts, trainers = _sides(draw, 60), _sides(draw, 60)
    slower = np.random.default_rng(seed).exponential(0.5, (len(rollouts.chips), len(trainers.chips)))
    fronts = []
    for chips in (most, most + more):
        found = Candidates.apart(rollouts, trainers, chips)
        step_s = found.least_s * (1.0 + slower[found.rollouts, found.trainer])
        usd = step_usd_per_mtok(found.usd_per_s, step_s, 1e6)
        fronts.append([(step_s[k], usd[k]) for k in front_of(step_s, usd)])
    few, many = fronts
    for step, cost in few:
        assert min(other for at, other in many if at <= step * (1 + 1e-9)) <= cost * (1 + 1e-9)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), most=st.integers(9, 40), share=st.floats(0.0, 1.0))
def test_what_is_beaten_by_its_bound_is_not_on_the_front(seed: int, most: int, share: float) -> None:
    """Whatever was evaluated first, leaving out what a bound shows to be beaten leaves the front as it is."""
    draw = np.random.default_rng(seed)
    found = Candidates.apart(_sides(draw, most), _sides(draw, most), most)
    step_s = _times(found, draw)
    usd = step_usd_per_mtok(found.usd_per_s, step_s, 1e6)
    known = draw.random(len(found)) < share
    beaten = is_beaten(found.least_s, step_usd_per_mtok(found.usd_per_s, found.least_s, 1e6), step_s[known], usd[known])
    kept = np.where(known | ~beaten, step_s, np.inf)
    both = [[(t[k], usd[k]) for k in front_of(t, usd)] for t in (step_s, kept)]
    assert both[0] == both[1]


def test_what_has_no_price_is_chosen_by_time() -> None:
    sides = SideColumns(
        system=np.array([0, 0]),
        chips=np.array([2, 4]),
        more=np.array([2, 2]),
        usd_per_s=np.full(2, np.nan),
        least_s=np.ones(2),
    )
    found = Candidates.apart(sides, sides, 6)
    step_s = np.array([9.0, 3.0, 5.0])
    usd = step_usd_per_mtok(found.usd_per_s, step_s, 1e6)
    order = by_goal("cost", found, step_s, usd, of=(0, 0))
    assert [int(found.chips[k]) for k in order] == [6, 6]
    assert step_s[order[0]] == 3.0
    assert front_of(step_s, usd) == [1]
    assert len(by_goal("time", found, step_s, usd, of=(0, 0), budget=5.0)) == 0
    turns = Candidates.in_turns(sides, sides, 4)
    assert [(int(n), bool(full)) for n, full in zip(turns.chips, turns.fills, strict=True)] == [(2, False), (4, True)]


@settings(max_examples=100, deadline=None)
@given(
    server=st.sampled_from([1, 4, 8, 16]),
    servers=st.sampled_from([1, 2, 9, 18, 36, 576]),
    most=st.integers(1, 5000),
    tried=st.integers(2, 20),
)
def test_sizes_are_legal_and_refine_to_every_one(server: int, servers: int, most: int, tried: int) -> None:
    unit = server * servers
    legal = Legal(server=server, unit=unit, most=most)

    def is_legal(chips: int) -> bool:
        return chips <= most and chips % (server if chips <= unit else unit) == 0

    sizes = legal.first(tried)
    assert all(map(is_legal, sizes))
    assert bool(sizes) == (most >= server)
    if not sizes:
        return
    assert sizes[0] == server
    assert legal.at_most(most) >= sizes[-1]
    target = sizes[len(sizes) // 2]
    while new := legal.beside(sizes, [target]):
        assert not set(new) & set(sizes)
        assert all(map(is_legal, new))
        sizes = sorted({*sizes, *new})
    larger = target + legal.more(target)
    assert not any(is_legal(n) for n in range(target + 1, min(larger, most + 1)))
    assert larger in sizes or larger > legal.at_most(most) or target == max(legal.first(tried))
    assert legal.at_most(target - 1) in {0, *sizes}


@pytest.mark.parametrize("seed", range(60))
def test_a_step_takes_no_less_than_either_side_alone(seed: int) -> None:
    """What leaves candidates out: rollouts beside a trainer that takes no time, and the trainer itself, are bounds of a
    step in closed form."""
    job, sides = drawn_run(seed)
    sides = replace(sides, hides_passes=seed % 2 == 0)
    whole = closed_cycle(job, sides).step_s
    nothing = SyncSide(method="", trainer_s=0.0, rollouts_s=0.0, whole_s=0.0)
    alone = closed_cycle(
        job, replace(sides, trainer=TrainerSide(update_s=0.0, passes_s={}, chips=0), sync=nothing)
    ).step_s
    least = sides.trainer.update_s if sides.hides_passes else sides.trainer.busy_s
    assert whole >= max(alone, least) * (1.0 - 1e-6)
    if job.placement == "colocated":
        assert whole >= (alone + least) * (1.0 - 1e-6)
