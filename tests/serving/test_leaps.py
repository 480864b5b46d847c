"""A replica leaps from event to event: the times of requests are those of one step at a time, at a fraction of the
cost."""

from __future__ import annotations

import numpy as np
import pytest

from drawn_loads import drawn_load
from mowich.serving.traffic.policies import ADMISSIONS, Scheduler
from mowich.serving.traffic.replica import Replica
from mowich.serving.traffic.requests import UserRequest
from mowich.serving.traffic.routing import ReplicaFleet
from mowich.serving.traffic.times import StepTimes

TIMES = StepTimes(
    tokens=[0.01 + 1e-5 * m for m in range(2000)],
    sampled=[1e-4 * n for n in range(200)],
    per_context=3e-7,
    windows=(),
    prefill_step=2e-3,
    pair=1e-8,
    window_pairs=(),
    kv_B=1.0,
    half=40.0,
    prompt_token=1e-6,
)


class Stepwise(Replica):
    """The same replica, one step at a time."""

    __slots__ = ()

    def _leap(self, until: float) -> None:
        super()._leap(self.t)

    def _next_chunks(self, take: int, least: int, n: int, first: float, until: float) -> tuple[int, float]:
        return 1, first


class Counted(Replica):
    """A replica that counts the pieces its work is done in."""

    __slots__ = ("pieces",)
    pieces: int

    def _mixed(self, until: float) -> bool:
        self.pieces += 1
        return super()._mixed(until)

    def _leap(self, until: float) -> None:
        self.pieces += 1
        super()._leap(until)


def follow_up(request: UserRequest) -> list[UserRequest]:
    if request.turn == 2:
        return []
    more = UserRequest(f"{request.id}+", request.last_token_s + 0.3, request.prompt + 40, request.output)
    more.turn = request.turn + 1
    return [more]


def answers(kind: type[Replica], seed: int) -> tuple[list[UserRequest], Replica]:
    """The requests of a small load of this seed, played by one kind of replica, and one replica that played them."""
    rng = np.random.default_rng(seed)

    def some(*of: float) -> float:
        return float(rng.choice(of))

    scheduler = Scheduler(
        budget=int(some(24, 64, 200)),
        max_sequences=int(some(3, 16)),
        blocks=int(some(45, 80, 300)),
        block=16,
        chunks=some(0, 1, 1, 1) > 0,
        mixes=some(0, 1, 1, 1) > 0,
        policy=str(rng.choice(["fcfs", "priority"])),
        preemption=str(rng.choice(["recompute", "swap", "retract"])),
        admission=str(rng.choice(["chunk", "chunk", *ADMISSIONS])),
        ratio=0.7,
        ratio_least=some(0.05, 0.4),
        ratio_steps=int(some(30, 600)),
        answer_limit=int(some(0, 200)),
        long_prompt=int(some(0, 0, 16)),
        prefix_cache=some(0, 0, 1) > 0,
        hash_block=32,
        host_Bps=1e5,
        accepted=some(1.0, 1.7),
        verified=1.0,
        groups=int(some(1, 1, 2)),
    )
    asked = drawn_load(
        rng, seed, rate=some(0.5, 5.0, 50.0), requests=14, prompt="uniform(8, 300)", output="uniform(1, 250)"
    )
    pool = [kind(i, TIMES, scheduler) for i in range(2)]
    follows = some(0, 0, 1) > 0
    if follows:
        asked = asked[:5]
    fleet = ReplicaFleet(replicas=pool, route="least-loaded", follow=follow_up if follows else None)
    return list(fleet.run(asked)), pool[0]


def test_leaps_give_the_times_of_one_step_at_a_time() -> None:
    preempted = waited = 0
    for seed in range(140):
        (leapt, one), (stepped, other) = answers(Replica, seed), answers(Stepwise, seed)
        assert len(leapt) == len(stepped)
        for a, b in zip(leapt, stepped, strict=True):
            assert (a.id, a.preemptions, a.cached, a.replica) == (b.id, b.preemptions, b.cached, b.replica), seed
            mine = (a.scheduled_s, a.first_token_s, a.last_token_s)
            assert mine == pytest.approx((b.scheduled_s, b.first_token_s, b.last_token_s), rel=1e-9), seed
            preempted += a.preemptions
            waited += a.scheduled_s > a.arrival_s + 0.1
        assert (one.steps, one.prompt_tokens) == (other.steps, other.prompt_tokens)
        assert one.busy_s == pytest.approx(other.busy_s, rel=1e-9)
    assert preempted > 50
    assert waited > 50


def test_the_cost_of_a_long_answer_follows_events_and_not_tokens() -> None:
    """Prompts that wait under way for room in a full cache, and prompts of many chunks."""
    replica = Counted(0, TIMES, Scheduler(budget=512, max_sequences=8, blocks=4000))
    replica.pieces = 0
    list(ReplicaFleet(replicas=[replica]).run([UserRequest(str(i), 0.0, 100, 60_000) for i in range(4)]))
    assert replica.served == 4
    assert replica.pieces * 20 < replica.steps
