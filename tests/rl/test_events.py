"""Runs of reinforcement learning that are played: against token by token, by hand, and what always holds."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from drawn_runs import constant_times, drawn_run, fixed_lengths, job_of, sides_of, times_of
from mowich.rl.compiled import RUN_LIBRARY
from mowich.rl.cycle import CYCLE_PARTS
from mowich.rl.events import play
from mowich.rl.job import Environment, RlJob
from mowich.rl.lengths import Lengths
from mowich.rl.run import RlRun, StepClock
from mowich.rl.setup import STEP, RunRecord, RunSetup, StepTable
from mowich.rl.sides import RolloutSide, RunSides, TokenTimes
from pace import within

SPREAD = Lengths.lognormal(mean=300.0, cap=1024.0, sigma=0.7)


def played(job: RlJob, sides: RunSides, steps: int = 6) -> tuple[RunSetup, RunRecord]:
    setup = RunSetup.of(job, sides, steps, steps, 0)
    return setup, RlRun(setup).play()


def token_by_token_s(tokens: list[int], times: TokenTimes, prompt: float, most: int) -> float:
    """Seconds of a worker that has all these samples at the start, one step after the other."""
    waiting, now = list(tokens), 0.0
    running: list[tuple[int, float]] = []
    while waiting or running:
        while waiting and len(running) < most:
            left = waiting.pop(0)
            running.append((left, prompt))
            now += prompt * times.prompt_s
        now += float(times.step_s(len(running), sum(context for _, context in running) / len(running)))
        running = [(left - 1, context + 1) for left, context in running if left > 1]
    return now


@pytest.mark.parametrize("seed", range(4))
def test_leaps_take_what_tokens_one_by_one_take(seed: int) -> None:
    """Within 0.1%: all samples there at the start, as many at once as the worker has places."""
    r = random.Random(seed)
    times = replace(times_of(0.01, 2e-4, r.choice((1e-8, 1e-6))), prompt_s=1e-5)
    tokens = sorted(r.randint(1, 600) for _ in range(12))
    lengths = Lengths(np.array(tokens, np.float64), 600.0)
    job = job_of(lengths, prompts=4, samples=3, prompt=100.0)
    sides = sides_of(times, workers=1, most=r.choice((3, 8, 64)))
    setup, run = played(job, sides, 1)
    whole = np.maximum(np.round(setup.draws.tokens), 1.0)
    setup = replace(setup, draws=replace(setup.draws, tokens=whole))
    run = RlRun(setup).play()
    asked = [int(x) for x in whole]
    expected = token_by_token_s(asked, times, 100.0, setup.most)
    assert float(run.steps[0, STEP.index("answered_s")]) == pytest.approx(expected, rel=1e-3)


def test_seconds_of_steps_are_the_integral_of_the_table() -> None:
    """`seconds` against a fine sum, and `steps` is its inverse, within and beyond the table."""
    times = times_of(0.01, 1e-3, 1e-6, most=64)
    clock = StepClock(StepTable.of(RolloutSide(workers=1, times=times, room_tokens=1e6, most=64, chips=1), 64), 2.0)
    r = random.Random(7)
    for _ in range(50):
        n, context, steps = r.randint(1, 64), r.uniform(0.0, 60_000.0), 10.0 ** r.uniform(0.0, 4.5)
        at = context + 2.0 * steps * (np.arange(20_000) + 0.5) / 20_000
        seconds = clock.seconds(n, context, steps)
        assert seconds == pytest.approx(float(times.step_s(float(n), at).mean()) * steps, rel=1e-5)
        assert clock.steps(n, context, seconds) == pytest.approx(steps, rel=1e-9)


def test_turns_by_hand() -> None:
    """Colocated: 100 steps of 10 ms, then reward, pass, update, sync, switch; nothing is stale."""
    job = job_of(fixed_lengths(100.0), environment=Environment(reward_s=0.5))
    sides = sides_of(constant_times(0.01), update_s=3.0, passes_s=1.0, sync_s=2.0, switch_s=4.0, other_s=0.25)
    cycle = play(job, sides)
    known = {
        "generation": 1.0,
        "reward": 0.5,
        "policy": 1.0,
        "training": 3.0,
        "sync": 2.0,
        "switch": 4.0,
        "other": 0.25,
    }
    assert {name: s for name, s in cycle.parts.items() if s} == pytest.approx(known)
    assert cycle.binds == "turns"
    assert (cycle.staleness_max, cycle.longest_s) == pytest.approx((0.0, 1.0))
    assert cycle.rollout_idle_frac == pytest.approx(1.0 - 1.0 / 1.5)
    split = play(replace(job, placement="split"), replace(sides, switch_s=0.0))
    assert split.step_s == pytest.approx(cycle.step_s - 4.0)
    assert split.trainer_wait_frac == pytest.approx(1.5 / split.step_s)


@pytest.mark.parametrize("staleness", [1, 2, 3])
def test_the_bound_on_staleness_by_hand(staleness: int) -> None:
    """Answers of 10 s, an update of 2 s: staleness + 1 batches begin in each wave of 12 s. All have room."""
    job = job_of(fixed_lengths(1000.0), staleness=staleness)
    cycle = play(job, sides_of(constant_times(0.01), update_s=2.0))
    assert cycle.step_s == pytest.approx(max(12.0 / (staleness + 1), 2.0))
    assert cycle.binds == "staleness"
    assert cycle.staleness_max == staleness


def test_the_trainer_binds_by_hand() -> None:
    """An update of 20 s, answers of 10 s: all tokens are made before the next version, as stale as may be."""
    cycle = play(job_of(fixed_lengths(1000.0), staleness=2), sides_of(constant_times(0.01), update_s=20.0, sync_s=1.0))
    assert cycle.binds == "trainer"
    assert cycle.step_s == pytest.approx(21.0)
    assert cycle.staleness_mean == pytest.approx(2.0)
    assert cycle.trainer_wait_frac == pytest.approx(0.0)


def test_littles_law_of_staleness_where_rollouts_bind() -> None:
    """One sequence at once, one after the other: batch = 32 x 1 s. Tokens are made evenly, each batch while one version
    comes; so mean staleness is (update + answer - half of an answer) / step, whatever the bound (at least one)."""
    for staleness in (1, 3):
        job = job_of(fixed_lengths(100.0), staleness=staleness, order="started")
        cycle = play(job, sides_of(constant_times(0.01), workers=1, most=1, update_s=8.0))
        assert cycle.binds == "rollouts"
        assert cycle.step_s == pytest.approx(32.0, rel=1e-3)
        assert cycle.staleness_mean == pytest.approx((8.0 + 0.5) / 32.0, rel=0.07)


def test_new_weights_reach_running_answers_only_where_they_may() -> None:
    """Answers of 10 s, updates of 3 s, staleness 4: partial runs are of several versions; else a worker finishes first,
    and the answers of a sync's wave are all of one."""
    job, sides = job_of(fixed_lengths(1000.0), staleness=4), sides_of(constant_times(0.01), update_s=3.0)
    mixed, whole = (played(replace(job, partial=partial), sides, 10) for partial in (True, False))
    made = [(run.made / 1000.0)[run.end_s > 0.0] for _, run in (mixed, whole)]
    assert (made[0] != np.round(made[0])).any()
    assert np.array_equal(np.round(made[1], 6), np.round(made[1]))
    assert play(replace(job, partial=False), sides).step_s > play(job, sides).step_s


def test_workers_are_held_by_a_sync_and_it_is_seen_by_whoever_waits() -> None:
    """Rollouts bind: each sync of 1 s holds them, so a step is 1 s longer, and that is seen; the rest is hidden."""
    job = job_of(fixed_lengths(100.0), staleness=1, order="started")
    free, held = (
        play(
            job, sides_of(constant_times(0.01), workers=1, most=1, update_s=8.0, sync_s=sync_s, held_s=min(sync_s, 1.0))
        )
        for sync_s in (0.0, 5.0)
    )
    assert held.step_s - free.step_s == pytest.approx(1.0, rel=0.05)
    assert held.sync_seen_s == pytest.approx(2.0, rel=0.05)  # the trainer is held first, the workers at the end
    assert held.sync_hidden_s == pytest.approx(3.0, rel=0.05)


def test_a_cache_that_is_full_puts_the_newest_back() -> None:
    """Room for 1,000 tokens, answers of 400: three begin, two end at once; no answer is lost and none is made twice."""
    job = job_of(fixed_lengths(400.0), prompts=6, samples=1)
    setup, run = played(job, sides_of(constant_times(0.01), workers=1, room_tokens=1000.0), 1)
    assert setup.places == 5
    ends = np.sort(run.end_s)
    assert ends[0] == ends[1] == pytest.approx(4.0)
    assert ends[-1] > 2.0 * 4.0
    column = {name: run.steps[-1, i] for i, name in enumerate(STEP)}
    assert column["tokens"] == pytest.approx(6 * 400.0)


def test_calls_keep_their_cache_and_no_place() -> None:
    """Two turns of 1 s with a call of 3 s between. One place: the second sample runs while the first waits. A cache for
    250 tokens: it is full a quarter of a second after both came back; the newest ends after the other."""
    job = job_of(fixed_lengths(200.0), prompts=2, samples=1, environment=Environment(turns=2.0, call_s=3.0))
    one = play(job, sides_of(constant_times(0.01), workers=1, most=1))
    assert one.parts["generation"] == pytest.approx(6.0)
    tight = play(job, sides_of(constant_times(0.01), workers=1, room_tokens=250.0))
    assert tight.parts["generation"] == pytest.approx(5.75)


def test_a_judge_is_a_queue_and_rewards_come_after() -> None:
    """32 samples end at 1 s, a judge rates 4 a second: 8 s, then the reward's 0.5 s."""
    job = job_of(fixed_lengths(100.0), environment=Environment(reward_s=0.5, judged_per_s=4.0))
    assert play(job, sides_of(constant_times(0.01))).parts["reward"] == pytest.approx(8.5)


def test_dynamic_sampling_rolls_more_and_trains_on_as_much() -> None:
    """At an acceptance of 0.4 a step makes 2.5 times the answers, and drops the others."""
    for staleness in (None, 2):
        job = job_of(SPREAD, prompts=10, acceptance=0.4, staleness=staleness)
        setup, run = played(job, sides_of(constant_times(0.01)), 6)
        assert np.bincount(run.trained[run.trained >= 0]).tolist() == [10] * 6
        assert setup.draws.kept[run.trained >= 0].all()
        cycle = play(job, sides_of(constant_times(0.01)))
        assert cycle.rolled_tokens == pytest.approx(2.5 * 40 * SPREAD.mean, rel=1e-2)


def test_passes_hide_behind_rollouts_that_still_run() -> None:
    """A trainer that waits for rollouts makes its passes then; what it computes stays the same."""
    job = job_of(SPREAD, staleness=0)
    sides = sides_of(times_of(0.01, 1e-3, 0.0), passes_s=1.0)
    plain, hides = play(job, sides), play(job, replace(sides, hides_passes=True))
    assert hides.parts["policy"] == plain.parts["policy"]
    assert plain.step_s - 1.0 <= hides.step_s < plain.step_s - 0.5
    colocated = play(replace(job, placement="colocated"), replace(sides, hides_passes=True))
    assert colocated.step_s == pytest.approx(plain.step_s)


@pytest.mark.parametrize("seed", range(16))
def test_what_always_holds(seed: int) -> None:
    """Parts sum to the step, no part is negative, a run repeats, the bound is kept, work is conserved: every group of a
    counted step was finished first and is trained on once, tokens made are those of the answers."""
    job, sides = drawn_run(seed, is_tight=seed % 3 == 0)
    job = replace(
        job, partial=seed % 4 > 0, environment=Environment(turns=1.0 + seed % 2 * 1.5, call_s=0.5, reward_s=0.1)
    )
    cycle = play(job, sides, steps=4, spans=True)
    total = 0.0
    for part in CYCLE_PARTS:
        total += cycle.parts[part]
    assert total == cycle.step_s
    assert min(cycle.parts.values()) >= 0.0
    assert cycle == play(job, sides, steps=4, spans=True)
    assert cycle.staleness_mean <= cycle.staleness_max <= job.staleness
    assert cycle.step_s >= sides.trainer.busy_s - 1e-9
    for fraction in (cycle.trainer_wait_frac, cycle.rollout_idle_frac):
        assert 0.0 <= fraction <= 1.0
    assert all(span.from_s < span.to_s for span in cycle.spans)
    assert {"trainer", "rollouts", "0"} <= {span.lane for span in cycle.spans}
    setup, run = played(job, sides, 4)
    column = {name: run.steps[:, i] for i, name in enumerate(STEP)}
    taken = run.trained >= 0
    assert np.bincount(run.trained[taken]).tolist() == [job.prompts] * 4
    ends = run.end_s.reshape(len(run.trained), job.samples)
    assert (ends[taken].max(axis=1) <= column["ready_s"][run.trained[taken]]).all()
    ended = run.end_s >= 0.0
    assert (run.end_s >= run.start_s)[ended].all()
    made = column["tokens"][-1]
    assert (
        setup.draws.tokens[ended].sum() * (1 - 1e-9) <= made <= setup.draws.tokens[run.start_s >= 0].sum() * (1 + 1e-9)
    )


def test_a_timeline_shows_the_trainer_without_gaps() -> None:
    job = job_of(SPREAD, staleness=1, environment=Environment(reward_s=0.2))
    sides = sides_of(times_of(0.01, 1e-3, 0.0), passes_s=0.5, sync_s=0.5)
    spans = [span for span in play(job, sides, spans=True).spans if span.lane == "trainer"]
    assert all(a.to_s == pytest.approx(b.from_s) for a, b in pairwise(spans))
    assert {span.what for span in spans} <= set(CYCLE_PARTS)


def test_a_timeline_shows_a_whole_wave() -> None:
    """Five batches begin together and end together: of five steps one waits, for as long as all of them do."""
    cycle = play(job_of(fixed_lengths(1000.0), staleness=4), sides_of(constant_times(0.01), update_s=1.0), spans=True)
    trainer = [span for span in cycle.spans if span.lane == "trainer"]
    waits = [span.to_s - span.from_s for span in trainer if span.what == "generation"]
    assert max(waits) > 0.9 * sum(waits) > 0.0
    assert sum(waits) / (trainer[-1].to_s - trainer[0].from_s) == pytest.approx(cycle.trainer_wait_frac, rel=1e-3)


def test_draws_are_the_lengths_and_coupled() -> None:
    """Each share of the lengths once in a run; a longer distribution makes every single answer longer."""
    job, sides = job_of(SPREAD, prompts=64), sides_of(constant_times(0.01))
    draws = RunSetup.of(job, sides, 6, 6, 3).draws
    assert float(draws.tokens.mean()) == pytest.approx(SPREAD.mean, rel=1e-3)
    longer = RunSetup.of(replace(job, lengths=SPREAD.scaled(1.1)), sides, 6, 6, 3).draws
    assert (longer.tokens >= draws.tokens).all()
    assert not np.array_equal(draws.tokens, RunSetup.of(job, sides, 6, 6, 4).draws.tokens)


def test_ten_thousand_samples_in_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of processor time, draws and all, in Python."""
    monkeypatch.setenv(RUN_LIBRARY.variable, "python")
    job = job_of(Lengths.lognormal(mean=3000.0, cap=8192.0, sigma=0.7), prompts=64, samples=16, staleness=1)
    sides = sides_of(times_of(0.01, 1e-4, 1e-8), workers=8, most=256, update_s=20.0)
    with within(0.9):
        play(job, sides, steps=4)  # 9,216 samples: 4 steps before, 4 counted, 1 ahead
