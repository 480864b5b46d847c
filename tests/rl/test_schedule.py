"""A step in closed form: parts sum, a candidate is a column of one, and more of anything never loses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mowich.estimate import Notes
from mowich.rl.job import Environment, RlJob
from mowich.rl.lengths import Lengths
from mowich.rl.schedule import BINDING, closed_columns, closed_cycle
from mowich.rl.sides import RolloutSide, RunSides, SyncSide, TokenTimes, TrainerSide

N = np.geomspace(1.0, 1024.0, 16)
TIMES = TokenTimes(N, np.array([0.0, 8192.0]), 8e-3 + N[:, None] * np.array([[2e-5, 6e-5]]), prompt_s=1e-5)


@st.composite
def drawn_runs(draw: st.DrawFn) -> tuple[RlJob, RunSides]:
    """A run and its sides."""
    cap = draw(st.sampled_from([1024.0, 4096.0, 8192.0]))
    staleness = draw(st.integers(0, 4))
    job = RlJob(
        algorithm="grpo",
        prompts=draw(st.sampled_from([8, 64, 256])),
        samples=draw(st.sampled_from([4, 16])),
        global_batch=32,
        lengths=Lengths.lognormal(mean=cap * draw(st.floats(0.1, 0.8)), cap=cap, sigma=draw(st.floats(0.2, 1.0))),
        prompt=draw(st.sampled_from([20.0, 400.0])),
        most=cap + 400.0,
        placement="split" if staleness else draw(st.sampled_from(["colocated", "split"])),
        staleness=staleness,
        order=draw(st.sampled_from(["started", "finished"])),
        partial=draw(st.booleans()),
        environment=Environment(
            turns=draw(st.sampled_from([1.0, 4.0])), call_s=2.0, reward_s=draw(st.sampled_from([0.0, 3.0]))
        ),
    )
    sides = RunSides(
        rollouts=RolloutSide(
            workers=draw(st.sampled_from([1, 4, 16])),
            times=TIMES,
            room_tokens=draw(st.sampled_from([3e4, 1e6])),
            most=draw(st.sampled_from([16, 1024])),
            chips=16,
        ),
        trainer=TrainerSide(
            update_s=draw(st.floats(1.0, 200.0)), passes_s={"policy": draw(st.floats(0.5, 40.0))}, chips=16
        ),
        sync=SyncSide(method="reshard", trainer_s=1.0, rollouts_s=0.5, whole_s=draw(st.sampled_from([1.0, 9.0]))),
        switch_s=5.0,
        hides_passes=draw(st.booleans()),
        other_s=draw(st.sampled_from([0.0, 2.0])),
    )
    return job, sides


@settings(max_examples=25, deadline=None)
@given(drawn_runs())
def test_parts_sum_and_shares_are_shares(run: tuple[RlJob, RunSides]) -> None:
    job, sides = run
    found = closed_cycle(job, sides)
    assert sum(found.parts.values()) == pytest.approx(found.step_s)
    assert min(found.parts.values()) >= -1e-9 * found.step_s
    assert 0.0 <= found.trainer_wait_frac < 1.0
    assert 0.0 <= found.rollout_idle_frac <= 1.0
    assert 0.0 <= found.staleness_mean <= job.staleness == found.staleness_max
    assert found.step_s >= sides.trainer.busy_s - 1e-9
    if job.placement == "colocated" or job.staleness == 0:
        assert found.binds == "turns"


@settings(max_examples=15, deadline=None)
@given(drawn_runs(), st.floats(1.0, 3.0))
def test_more_never_loses(run: tuple[RlJob, RunSides], by: float) -> None:
    """Within 1%: where versions come sooner, the batches of a wave run closer together, and the first one ends a little
    later."""
    job, sides = run
    now = closed_cycle(job, sides).step_s
    made, t, s = sides.rollouts, sides.trainer, sides.sync
    better = [
        replace(sides, trainer=replace(t, update_s=t.update_s / by)),
        replace(
            sides, sync=replace(s, trainer_s=s.trainer_s / by, rollouts_s=s.rollouts_s / by, whole_s=s.whole_s / by)
        ),
        replace(sides, rollouts=replace(made, times=TIMES.scaled(1.0 / by))),
    ]
    for other in better:
        assert closed_cycle(job, other).step_s <= now * (1.0 + 1e-2)
    if job.staleness:
        assert closed_cycle(replace(job, staleness=job.staleness + 1), sides).step_s <= now * (1.0 + 1e-2)


@settings(max_examples=5, deadline=None)
@given(st.lists(drawn_runs(), min_size=2, max_size=2))
def test_a_candidate_is_a_column_of_one(runs: list[tuple[RlJob, RunSides]]) -> None:
    (job, one), (_, other) = runs
    other = replace(other, hides_passes=one.hides_passes, other_s=one.other_s, switch_s=one.switch_s)
    pairs = [(i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)]
    sides = (one, other)
    columns = closed_columns(
        job,
        [x.rollouts for x in sides],
        [x.trainer for x in sides],
        [x.sync for x in sides],
        tuple(np.array(at, dtype=np.intp) for at in zip(*pairs, strict=True)),  # type: ignore[arg-type]
        switch_s=one.switch_s,
        hides_passes=one.hides_passes,
        other_s=one.other_s,
    )
    for row, (i, j, k) in enumerate(pairs):
        alone = closed_cycle(
            job, replace(one, rollouts=sides[i].rollouts, trainer=sides[j].trainer, sync=sides[k].sync)
        )
        assert columns.step_s[row] == pytest.approx(alone.step_s, rel=1e-12)
        assert columns.staleness_mean[row] == pytest.approx(alone.staleness_mean, abs=1e-12)
        assert BINDING[columns.binds[row]] == alone.binds
        for name, seconds in alone.parts.items():
            assert columns.parts[name][row] == pytest.approx(seconds, abs=1e-9)


def test_what_binds_in_plain_cases() -> None:
    """Hand-made runs: equal answers of 1,000 tokens, 10 ms a step."""
    times = TokenTimes(np.array([1.0]), np.array([1.0]), np.array([[0.01]]), prompt_s=0.0)
    job = RlJob(
        algorithm="grpo",
        prompts=4,
        samples=8,
        global_batch=32,
        lengths=Lengths(np.full(4096, 1000.0), 1000.0),
        prompt=0.0,
        most=1000.0,
        placement="split",
        staleness=1,
    )
    sides = RunSides(
        rollouts=RolloutSide(workers=1, times=times, room_tokens=1e9, most=32, chips=1),
        trainer=TrainerSide(update_s=30.0, passes_s={"policy": 0.0}, chips=1),
        sync=SyncSide(method="reshard", trainer_s=0.0, rollouts_s=0.0, whole_s=0.0),
    )
    trainer = closed_cycle(job, sides)
    assert (trainer.binds, trainer.step_s, trainer.staleness_mean) == ("trainer", pytest.approx(30.0), 1.0)
    quick = replace(sides, trainer=replace(sides.trainer, update_s=0.1))
    rollouts = closed_cycle(replace(job, staleness=4), replace(quick, rollouts=replace(sides.rollouts, most=8)))
    assert rollouts.binds == "rollouts"
    assert rollouts.step_s == pytest.approx(32 / (8 / 10.0))  # eight at a time, ten seconds each
    roomy = replace(sides, rollouts=replace(sides.rollouts, most=64))
    bound = closed_cycle(job, replace(roomy, trainer=replace(sides.trainer, update_s=4.0)))
    assert bound.binds in ("staleness", "longest answer")
    assert bound.step_s == pytest.approx((10.0 + 4.0) / 2.0, rel=1e-3)
    judged = replace(job, environment=Environment(judged_per_s=0.5, judge_chips=1))
    assert closed_cycle(judged, quick).step_s == pytest.approx(64.0)
    assert closed_cycle(judged, quick).binds == "reward"
    assert closed_cycle(replace(judged, staleness=0), quick).parts["reward"] == pytest.approx(54.0)


def test_laws_are_told(facts: object) -> None:
    del facts
    job = RlJob(
        algorithm="grpo",
        prompts=8,
        samples=8,
        global_batch=64,
        lengths=Lengths.lognormal(mean=300.0, cap=1000.0, sigma=0.7),
        prompt=10.0,
        most=1024.0,
        placement="split",
        staleness=1,
    )
    sides = RunSides(
        rollouts=RolloutSide(workers=2, times=TIMES, room_tokens=1e6, most=64, chips=2),
        trainer=TrainerSide(update_s=3.0, passes_s={"policy": 1.0}, chips=2),
        sync=SyncSide(method="reshard", trainer_s=0.5, rollouts_s=0.5, whole_s=0.5),
    )
    notes = Notes()
    found = closed_cycle(job, sides, notes)
    assert {"step", "rollouts", "bound_by_staleness"} <= set(notes.terms)
    assert notes.terms["step"].value == pytest.approx(found.step_s)
    assert notes.terms["step"].formula == "max(trainer, max(rollouts, bound))"
