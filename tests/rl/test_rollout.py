"""A batch on workers against one that is played token by token, and steps against those of serving."""

from __future__ import annotations

import numpy as np
import pytest

from mowich.facts import Facts
from mowich.machines.system import resolve
from mowich.models import load_model
from mowich.plans.plan import ServePlan
from mowich.rl.lengths import Lengths
from mowich.rl.rollout import Curve, StepColumns, batch_times, fullest_worker, room_tokens, token_times
from mowich.rl.sides import TokenTimes
from mowich.serving.search import ServeJob
from mowich.serving.step import step, total
from mowich.studies.serving import deploy
from mowich.studies.serving_plan import worker


def _times(fixed: float, each: float, token: float) -> TokenTimes:
    n, context = np.geomspace(1.0, 512.0, 24), np.array([0.0, 4096.0])
    return TokenTimes(n, context, fixed + n[:, None] * (each + token * context[None, :]), prompt_s=0.0)


def _played(times: TokenTimes, lengths: np.ndarray, prompt: float, most: int) -> float:
    """Seconds of a batch on one worker, token by token: samples begin in order, as places become free."""
    waiting, running = list(lengths), np.empty(0)
    done = np.empty(0)
    clock = 0.0
    while waiting or len(running):
        free = most - len(running)
        running = np.concatenate([running, waiting[:free]])
        done = np.concatenate([done, np.zeros(len(running) - len(done))])
        waiting = waiting[free:]
        clock += float(times.step_s(float(len(running)), prompt + float(done.mean())))
        done = done + 1.0
        still = done < running
        running, done = running[still], done[still]
    return clock


@pytest.mark.parametrize("seed", range(5))
def test_a_batch_takes_what_it_takes_token_by_token(seed: int) -> None:
    """The same five batches in each run: a mean of eight batches has chance in it."""
    rng = np.random.default_rng(seed)
    samples, workers, share = int(rng.integers(12, 61)), int(rng.integers(1, 7)), float(rng.choice([0.4, 0.7, 1.0]))
    spread, fixed = rng.uniform(0.2, 0.8), rng.uniform(1e-3, 2e-2)
    times = _times(fixed, 2e-4, 1e-7)
    lengths = Lengths.lognormal(mean=80.0, cap=200.0, sigma=spread)
    most = max(1, round(share * samples))
    found = batch_times(
        StepColumns.of([times]),
        Curve.of(lengths),
        samples=np.array([float(samples)]),
        workers=np.array([float(workers)]),
        prompt=50.0,
        room_tokens=np.array([1e9]),
        most=np.array([float(most)]),
    )
    played = [
        max(_played(times, np.ceil(lengths.at(rng.random(samples))), 50.0, most) for _ in range(workers))
        for _ in range(8)
    ]
    noise = 3.0 * np.std(played) / np.sqrt(len(played) - 1)  # of the mean of so few batches
    within = 0.06 if most == samples else 0.1
    assert found.makespan_s[0] == pytest.approx(np.mean(played), abs=noise + within * np.mean(played))


def test_a_fuller_cache_never_makes_a_batch_slower() -> None:
    curve = Curve.of(Lengths.lognormal(mean=800.0, cap=2000.0, sigma=0.7))
    room = np.geomspace(3e3, 1e6, 40)
    found = batch_times(
        StepColumns.of([_times(1e-2, 1e-5, 1e-9)] * 40),
        curve,
        samples=np.full(40, 100.0),
        workers=np.full(40, 4.0),
        prompt=100.0,
        room_tokens=room,
        most=np.full(40, 512.0),
    )
    assert np.all(np.diff(found.makespan_s) <= 1e-9)
    assert found.makespan_s[0] > 2.0 * found.makespan_s[-1]
    assert np.all(found.running <= found.places + 1e-9)


def test_tokens_below_a_curve_are_those_of_its_answers() -> None:
    lengths = Lengths.lognormal(mean=3000.0, cap=4096.0, sigma=0.7)
    curve = Curve.of(lengths)
    assert curve.running.sum() * curve.width == pytest.approx(lengths.mean, rel=1e-12)
    assert curve.below[-1] == pytest.approx(lengths.mean)
    assert curve.age == pytest.approx((lengths.table**2).mean() / lengths.mean / 2.0)


def test_the_fullest_worker_is_that_of_normal_draws() -> None:
    drawn = np.random.default_rng(1).normal(size=(4000, 32)).max(axis=1).mean()
    assert fullest_worker(np.array([32.0]))[0] == pytest.approx(drawn, rel=0.02)


@pytest.mark.parametrize("plan", [ServePlan(tp=2), ServePlan(tp=1, dp=4, ep=4), ServePlan(tp=2, pp=2)])
def test_steps_are_those_of_serving(facts: Facts, plan: ServePlan) -> None:
    model, system = load_model("qwen3-30b-a3b"), resolve(facts, "h100:8")
    d = deploy(model, system, "vllm", [plan], facts)
    w = worker(d, ServeJob(prompt=100.0, output=1000.0))
    (times,) = token_times(w, np.array([0]), prompt=100.0, longest=4096.0, most=64.0)
    i, j = 11, 5
    users = float(times.sequences[i]) / plan.dp
    alone = total(step(d.shapes, d.costs, n=users / plan.pp, context=float(times.context[j])))
    shift = np.exp(w.tpot.at(np.array([0]), np.array([users])))
    assert times.seconds[i, j] == pytest.approx(float((alone * shift)[0]))
    assert times.sequences[-1] == pytest.approx(64.0 * plan.dp)
    assert float(room_tokens(w, np.array([0]), 1000.0)[0]) == pytest.approx(
        16 * d.blocks(0, 1000.0) * plan.dp, rel=1e-3
    )


def test_columns_of_workers_are_their_tables() -> None:
    rng = np.random.default_rng(3)
    tables = [
        TokenTimes(np.array([1.0]), np.array([1.0]), np.array([[0.01]]), prompt_s=0.0),
        _times(1e-2, 1e-5, 1e-9),
        TokenTimes(np.array([1.0, 8.0, 64.0]), np.array([64.0, 512.0, 4096.0]), rng.random((3, 3)), prompt_s=1e-5),
    ]
    columns = StepColumns.of(tables)
    n, context = rng.uniform(0.5, 700.0, (3, 50)), rng.uniform(0.0, 9000.0, (3, 50))
    n[:, :4], context[:, :4] = [1.0, 8.0, 64.0, 512.0], [64.0, 512.0, 4096.0, 1.0]
    for row, table in enumerate(tables):
        assert columns.step_s(n, context)[row] == pytest.approx(table.step_s(n[row], context[row]), rel=1e-12)
    assert columns.take(np.array([2])).step_s(n[2:], context[2:]) == pytest.approx(columns.step_s(n, context)[2:])
