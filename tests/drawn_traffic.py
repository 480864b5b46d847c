"""Fleets and loads drawn over all that a scenario of traffic can say, for tests of the compiled simulation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from mowich.serving.anchors import NO_SHIFT, ShiftAlong
from mowich.serving.arrivals import draw_columns, lengths
from mowich.serving.conversations import Conversations, pauses
from mowich.serving.traffic.autoscale import Autoscale
from mowich.serving.traffic.columns import RequestColumns
from mowich.serving.traffic.compiled import FleetSetup, ReplicaGroup
from mowich.serving.traffic.play import Cutoff
from mowich.serving.traffic.policies import ROUTES, Scheduler
from mowich.serving.traffic.routing import Failure
from mowich.serving.traffic.times import Seen, StepTimes
from mowich.serving.traffic.unevenness import Unevenness
from mowich.serving.waits import Front

T = TypeVar("T")
BLOCK, HASHED = 16, 32
LONGEST = 400
"""Tokens of a prompt and its answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnWay:
    """A way of caches between two pools."""

    kept: tuple[tuple[float, float], ...]
    token_s: float
    state_s: float
    latency_s: float

    def seconds(self, tokens: int) -> float:
        sent = 0.0
        for share, most in self.kept:
            sent += share * min(tokens, most)
        return self.latency_s + sent * self.token_s + self.state_s


class Draw:
    """Choices of one seed."""

    def __init__(self, seed: int) -> None:
        self.seed, self.rng = seed, np.random.default_rng(seed)

    def one(self, *of: T) -> T:
        return of[int(self.rng.integers(len(of)))]

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))


def drawn_shift(d: Draw) -> ShiftAlong:
    if d.one(True, False, False):
        return replace(NO_SHIFT, constant=d.one(0.0, d.between(-0.2, 0.2)))
    users, prompts = (tuple(np.sort(d.rng.uniform(low, high, d.one(1, 3))).tolist()) for low, high in ((0, 5), (3, 8)))
    parts = tuple(
        tuple(tuple(d.rng.uniform(-0.1, 0.1, 4).tolist()) for _ in range(len(prompts) + 1))
        for _ in range(len(users) + 1)
    )
    reach = (d.between(0.1, 0.6), d.between(0.05, 0.3))
    return ShiftAlong(users=users, prompts=prompts, reach=reach, parts=parts, constant=d.between(-0.1, 0.1))


def drawn_grid(d: Draw, x: int, y: int) -> Unevenness:
    logs = d.rng.uniform(-0.2, 1.0, (d.one(2, 6), d.one(2, 5)))
    return Unevenness(x, y, tuple(tuple(row) for row in logs.tolist()))


def drawn_windows(d: Draw) -> tuple[tuple[float, float], ...]:
    return tuple((float(d.one(64, 128)), d.between(1e-7, 1e-5)) for _ in range(d.one(0, 0, 1, 2)))


def drawn_scheduler(d: Draw) -> Scheduler:
    verified, accepted = d.one((1.0, 1.0), (1.0, 1.0), (2.0, 1.7), (4.0, 2.3))
    groups, stages = d.one(1, 1, 2, 4), d.one(1, 1, 2, 3)
    interval, wait = d.one((1, 0), (1, 0), (4, 0), (1, 3), (3, 5))
    return Scheduler(
        budget=d.one(24, 64, 200) * groups * stages,
        max_sequences=d.one(3, 8, 24) * groups,
        blocks=d.one(30, 36, 60, 500),
        block=BLOCK,
        chunks=d.one(False, True, True),
        mixes=d.one(False, True, True),
        packs=d.one(False, True, True),
        policy=d.one("fcfs", "priority"),
        preemption=d.one("recompute", "swap"),
        prefix_cache=d.one(False, True),
        hash_block=HASHED,
        host_blocks=d.one(0, 10, 100),
        host_Bps=d.one(1e4, 1e6),
        verified=verified,
        accepted=accepted,
        groups=groups,
        stages=stages,
        interval=interval,
        wait=wait,
        enough=d.one(math.inf, 2.0),
    )


def drawn_times(d: Draw, s: Scheduler) -> StepTimes:
    limit = s.budget + math.ceil(s.max_sequences * s.verified) + s.stages + 1
    grid = d.one(True, False, False)
    return StepTimes(
        tokens=np.cumsum(d.rng.uniform(1e-6, 2e-5, limit + 1) + np.eye(1, limit + 1)[0] * 0.01).tolist(),
        sampled=np.cumsum(d.rng.uniform(0.0, 1e-4, s.max_sequences + 1)).tolist(),
        experts=tuple(np.cumsum(d.rng.uniform(0.0, 1e-5, limit + 1)).tolist()) if s.groups > 1 else (),
        per_context=d.one(0.0, d.between(1e-8, 1e-6)),
        windows=drawn_windows(d),
        prefill_step=d.one(0.0, 2e-3),
        pair=d.between(0.0, 1e-7),
        window_pairs=drawn_windows(d),
        kv_B=1.0,
        launches=d.one((0.0, 0.0), (0.005, 0.012)),
        capture=d.one(0.0, 50.0),
        half=d.one(0.0, 40.0),
        prompt_token=d.one(0.0, 1e-5),
        verify=d.one(1.0, 1.2) if s.verified > 1 else 1.0,
        tpot=drawn_shift(d),
        reading=drawn_grid(d, 0, 5) if grid else None,
        asking=drawn_grid(d, 4, 0) if grid else None,
    )


def drawn_workers(d: Draw, like: ReplicaGroup | None, seen: bool) -> ReplicaGroup:
    scheduler = drawn_scheduler(d)
    if like is not None:  # one engine, or another of the same cache
        same = like.scheduler
        scheduler = d.one(same, replace(scheduler, prefix_cache=same.prefix_cache))
    front = Front(d.one(0.5, 0.75), d.between(0.0, 0.01), d.between(0.0, 1e-5), d.between(0.0, 2.0))
    return ReplicaGroup(
        count=d.one(1, 1, 2, 3, 5),
        times=drawn_times(d, scheduler),
        scheduler=scheduler,
        seen=Seen(front=front, ttft=drawn_shift(d)) if seen else None,
    )


def drawn_setup(d: Draw) -> FleetSetup:
    seen = d.one(True, False)
    serve = drawn_workers(d, None, seen)
    decode = drawn_workers(d, serve, seen) if d.one(True, False, False) else None
    rule = None
    if decode is None and d.one(True, False, False):
        serve = replace(serve, count=d.one(2, 4))
        least = d.one(1, 2)
        rule = Autoscale(least=least, most=serve.count, inside=2.0, every_s=0.7, start_s=d.one(0.0, 0.5), hold_s=1.5)
    victims = (decode or serve).count
    kept = d.one(((1.0, math.inf),), ((0.4, 64.0), (0.6, math.inf)))
    way = DrawnWay(kept=kept, token_s=d.between(0.0, 1e-4), state_s=d.one(0.0, 1e-3), latency_s=d.one(0.0, 1e-3))
    failures = tuple(
        Failure(at_s=d.between(0.1, 5.0), replica=int(d.rng.integers(victims)), down_s=d.between(0.0, 2.0))
        for _ in range(d.one(0, 0, 1, 3))
    )
    return FleetSetup(
        serve=serve,
        decode=decode,
        route=d.one(*ROUTES),
        way=way if decode and d.one(True, True, False) else None,
        failures=failures,
        rule=rule,
    )


DrawnLoad = Callable[[], Iterator[RequestColumns] | Conversations]


def drawn_requests(d: Draw) -> DrawnLoad:
    """A load that can be had twice: requests at a rate, some with the same blocks, or users who wait for answers."""
    rate, requests = d.one(2.0, 12.0, 150.0), d.one(12, 40, 80)
    prompt, output = d.one("uniform(1, 200)", "96", "lognormal(40, p95 150)"), d.one("uniform(1, 150)", "1", "30")
    if d.one(True, False, False):
        users = d.one(0, 3, 10)
        return lambda: Conversations(
            requests=requests,
            prompt=lengths(prompt, ""),
            output=lengths(output, ""),
            turns=lengths("uniform(1, 4)", ""),
            think=pauses(THINK[d.seed % len(THINK)], ""),
            users=users,
            rate=None if users else rate,
            ramp_up_s=2.0 * (d.seed % 2),
            until_s=math.inf if d.seed % 3 else 4.0,
            seed=d.seed,
            shared_prefix=40 * (d.seed % 3),
            block=HASHED,
            longest=LONGEST,
        )
    families = d.rng.integers(1, 7)
    named = d.rng.integers(0, 6, requests)

    def load() -> Iterator[RequestColumns]:
        for columns in draw_columns(
            rate=rate,
            requests=requests,
            prompt=lengths(prompt, ""),
            output=lengths(output, ""),
            arrivals=("poisson", "fixed", "gamma")[d.seed % 3],
            cv=2.0,
            seed=d.seed,
            priorities=3,
        ):
            names = [
                [(i % int(families)) * 100 + k for k in range(min(int(named[i]), p // HASHED))]
                for i, p in enumerate(columns.prompt.tolist())
            ]
            yield replace(
                columns, names=list(itertools.chain.from_iterable(names)), names_at=np.cumsum([0, *map(len, names)])
            )

    return load


THINK = ("0 s", "0.3 s", "exponential(0.5 s)")


def drawn_cutoff(d: Draw) -> Cutoff | None:
    return d.one(None, None, None, Cutoff(ttft_s=0.5, tpot_s=0.05, most=200.0))
