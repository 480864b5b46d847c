"""Fleets and loads drawn over all that a scenario of traffic can say, for tests of the compiled simulation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from mowich.serving.agents import JOINS, AgentKind, Agents, Subagents, Tool
from mowich.serving.anchors import NO_SHIFT, ShiftAlong
from mowich.serving.arrivals import draw_columns, lengths
from mowich.serving.conversations import Conversations, pauses
from mowich.serving.sessions import CallSession, Context, SessionBlocks, SessionCall, SessionLoad
from mowich.serving.tenants import Tenants, popularity
from mowich.serving.traffic.adapters import AdapterCosts
from mowich.serving.traffic.autoscale import Autoscale
from mowich.serving.traffic.columns import RequestColumns
from mowich.serving.traffic.compiled import FleetSetup, ReplicaGroup
from mowich.serving.traffic.forecasts import PREDICTORS, Forecasting, LoadPredictor, Noise
from mowich.serving.traffic.outages import RECOVERIES, Chance, Failure, Recovery
from mowich.serving.traffic.planner import ByInside, ByQueue, ByTimes, PoolView, ReplicaPlanner
from mowich.serving.traffic.play import Cutoff
from mowich.serving.traffic.policies import ROUTES, Scheduler
from mowich.serving.traffic.tiers import LOADS, OVERLAPS, WRITES, CacheTier, Tiering
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
        answer_limit=d.one(0, 0, 150),
        **drawn_rules(d),
    )


def drawn_rules(d: Draw) -> dict[str, Any]:
    """What engines do in their own ways: the loop of vLLM and TensorRT-LLM, or that of SGLang."""
    if d.one(True, True, True, False):
        return {
            "policy": d.one("fcfs", "priority"),
            "preemption": d.one("recompute", "swap"),
            "admission": d.one(*["chunk"] * 5, "prompt", "answer", "batch"),
            "long_prompt": d.one(0, 0, 16),
        }
    return {
        "policy": d.one("fcfs", "priority", "lof", "random"),
        "preemption": "retract",
        "admission": d.one("expected", "expected", "chunk"),
        "ratio": d.one(0.7, 0.35, 1.0),
        "ratio_least": d.one(0.05, 0.1),
        "ratio_steps": d.one(20, 600),
        "retract_ahead": d.one(1, 20),
        "answer_clip": d.one(30, 4096),
    }


def drawn_tier(d: Draw, name: str) -> CacheTier:
    return CacheTier(
        name=name,
        capacity_B=HASHED * d.one(3.0, 12.0, 60.0),
        read_Bps=d.one(2e3, 1e5, math.inf),
        write_Bps=d.one(2e3, 1e5, math.inf),
        latency_s=d.one(0.0, 0.01),
        write=d.one(*WRITES),
        lanes=d.one(1, 1, 3),
        stays=d.one(True, False),
    )


def drawn_tiering(d: Draw) -> Tiering | None:
    names = d.one((), (), ("host",), ("host", "ssd"), ("host", "ssd", "remote"), ("ssd",))
    if not names:
        return None
    return Tiering(
        tiers=tuple(drawn_tier(d, name) for name in names),
        load=d.one(*LOADS),
        overlap=d.one(*OVERLAPS),
        prefetch=len(names) > 1 and d.one(True, False),
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
        adapters=drawn_adapters(d),
    )


def drawn_adapters(d: Draw) -> AdapterCosts | None:
    if d.one(True, True, True, False):
        return None
    slots = d.one(1, 2, 4)
    seconds = (d.between(0.0, 1e-3), d.between(0.0, 1e-3), d.between(0.0, 1e-5), d.between(0.0, 0.01), 0.05)
    names = ("fixed_s", "each_s", "token_s", "load_s", "read_s")
    return AdapterCosts(slots=slots, host=slots + d.one(0, 3), **dict(zip(names, seconds, strict=True)))


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
        tiering=drawn_tiering(d),
    )


@dataclass(slots=True)
class Watched:
    """A planner that keeps what it saw."""

    planner: ReplicaPlanner
    seen: list[PoolView]

    def wanted(self, view: PoolView) -> int:
        self.seen.append(view)
        return self.planner.wanted(view)


def drawn_rule(d: Draw, workers: ReplicaGroup) -> Autoscale:
    """A rule of any kind; its planners keep what they see."""
    kind, predictor = d.one("inside", "queue", "times", "times"), d.one(*PREDICTORS)
    counts_tokens, step_s = d.one(True, False), d.between(0.01, 0.05)

    def predictors() -> list[LoadPredictor]:
        how = Forecasting(predictor=predictor, window=5, season=3, noise=Noise(level=1.0, trend=0.1, seen=10.0))
        return [how.make() for _ in range(3)]

    def planner() -> ReplicaPlanner:
        if kind == "inside":
            return ByInside(2.0)
        if kind == "queue":
            up = 40.0 if counts_tokens else 1.0
            return ByQueue(
                queue_up=up, queue_down=0.5 * up, kv_up=0.7, kv_down=0.3, step=1, counts_tokens=counts_tokens
            )
        rate, prompt, output = predictors()
        return ByTimes(
            at=lambda prompt, output, users: (0.2 + 1e-3 * prompt, step_s * users),
            of_replica=lambda prompt, output, ttft_s, tpot_s: (
                ttft_s * tpot_s / (step_s * (1.0 + 1e-3 * prompt * output))
            ),
            ttft_s=0.5,
            tpot_s=2.0 * step_s,
            utilisation=0.8,
            enough=2,
            look_ahead_s=d.seed % 3 * 0.7,
            counts_first=True,
            rate=rate,
            prompt=prompt,
            output=output,
        )

    return Autoscale(
        least=d.one(1, 2),
        most=workers.count,
        every_s=0.7,
        start_s=d.one(0.0, 0.5),
        hold_s=d.one(0.0, 1.5),
        make=lambda: Watched(planner(), []),
    )


def drawn_setup(d: Draw) -> FleetSetup:
    seen = d.one(True, False)
    serve = drawn_workers(d, None, seen)
    decode = drawn_workers(d, serve, seen) if d.one(True, False, False) else None
    rule = decode_rule = None
    if d.one(True, False, False):
        serve = replace(serve, count=d.one(2, 4))
        rule = drawn_rule(d, serve)
        if decode is not None:
            decode = replace(decode, count=d.one(2, 3))
            decode_rule = drawn_rule(d, decode)
    victims = (decode or serve).count
    kept = d.one(((1.0, math.inf),), ((0.4, 64.0), (0.6, math.inf)))
    way = DrawnWay(kept=kept, token_s=d.between(0.0, 1e-4), state_s=d.one(0.0, 1e-3), latency_s=d.one(0.0, 1e-3))
    failures = tuple(
        Failure(
            at_s=d.between(0.1, 5.0),
            replica=int(d.rng.integers(victims)),
            down_s=d.between(0.0, 2.0),
            drain_s=d.one(None, 0.0, d.between(0.0, 4.0)),
        )
        for _ in range(d.one(0, 0, 1, 3, 8))
    )
    recovery = Recovery(
        detect_s=d.one(0.0, 0.0, d.between(0.0, 1.0)),
        retry_s=d.one(0.0, 0.1),
        moves=d.one(*RECOVERIES),
        way=d.one(None, way),
    )
    return FleetSetup(
        serve=serve,
        decode=decode,
        route=d.one(*ROUTES),
        way=way if decode and d.one(True, True, False) else None,
        failures=failures,
        chance=d.one(None, None, Chance(mtbf_s=d.one(0.5, 3.0), down_s=d.between(0.0, 0.5), seed=d.seed)),
        recovery=recovery,
        rule=rule,
        decode_rule=decode_rule,
    )


DrawnLoad = Callable[[], Iterator[RequestColumns] | Conversations | SessionLoad]


def drawn_sessions(d: Draw) -> DrawnLoad:
    """Sessions of agents, or of calls that wait for any of those before them: all or some, answers or starts."""
    rate = d.one(0.8, 6.0, 60.0)
    users, n = d.one(0, 3, 10), d.one(10, 24)
    if d.one(True, False):
        subagents = Subagents(
            chance=0.4,
            count=lengths("uniform(1, 3)", ""),
            turns=lengths("uniform(1, 2)", ""),
            prompt=lengths(20, ""),
            output=lengths(20, ""),
            returns=lengths(15, ""),
            join=d.one(*JOINS),
            system=d.one(None, 40),
        )
        kind = AgentKind(
            name="agent",
            share=1.0,
            system=d.one(0, 40),
            prompt=lengths("uniform(10, 90)", ""),
            turns=lengths("uniform(1, 5)", ""),
            output=lengths("uniform(1, 40)", ""),
            thinking=d.one(None, lengths(20, "")),
            keeps_thinking=d.one(True, False),
            tools=(Tool(name="tool", share=1.0, time=pauses("exponential(0.3 s)", ""), tokens=lengths(20, "")),),
            subagents=subagents,
            compact_at=d.one(math.inf, 200.0),
            compact_to=20,
        )
        return Agents(
            kinds=(kind,),
            sessions=n,
            think=pauses("0.2 s", ""),
            users=users,
            rate=None if users else rate,
            until_s=d.one(math.inf, 3.0),
            seed=d.seed,
            block=HASHED,
            longest=LONGEST,
        ).load
    sessions = [drawn_graph(d, number) for number in range(n)]
    begins = np.cumsum(d.rng.exponential(1.0 / rate, n)).tolist()
    return lambda: SessionLoad(
        make=lambda number: sessions[number] if number < n else None,
        users=users,
        begins=None if users else partial(iter, begins),
        ramp_up_s=1.0,
    )


def drawn_graph(d: Draw, number: int) -> CallSession:
    calls: list[SessionCall] = []
    names = SessionBlocks(number, HASHED)
    for i in range(d.one(1, 3, 8)):
        some = [int(k) for k in d.rng.permutation(i)[: d.one(0, 1, 2, 3)]]
        starts = [d.one(True, False, False) for _ in some]
        after, beside = (
            tuple((k, d.one(0.0, d.between(0.0, 1.0))) for k, start in zip(some, starts, strict=True) if start == kind)
            for kind in (False, True)
        )
        asked = Context(names).grown(int(d.rng.integers(1, 250)))
        output = int(d.rng.integers(1, 120))
        said = asked.grown(output)
        calls.append(
            SessionCall(
                prompt=asked.tokens,
                output=output,
                hashes=asked.names,
                later=said.names[len(asked.names) :],
                after=after,
                beside=beside,
                need=min(len(after), d.one(0, 0, 1)),
                at_s=d.one(0.0, 0.0, d.between(0.0, 2.0)) if i else 0.0,  # a session begins with a call
                name=f"{number}/{i}",
            )
        )
    last = d.one(None, len(calls) - 1)
    return CallSession(calls=calls, pause_s=d.between(0.0, 0.5), last=last)


def drawn_requests(d: Draw) -> DrawnLoad:
    """A load that can be had twice: requests at a rate, some with the same blocks, or users who wait for answers."""
    rate, requests = d.one(2.0, 12.0, 150.0), d.one(12, 40, 80)
    prompt, output = d.one("uniform(1, 200)", "96", "lognormal(40, p95 150)"), d.one("uniform(1, 150)", "1", "30")
    shares = popularity(d.one("uniform", "zipf(1.2)"), d.one(1, 5, 9))
    base = d.one(0.0, 0.3, 1.0)

    def tenants() -> Tenants:
        return Tenants(shares, base, d.seed)

    if d.one(True, False, False):
        users = d.one(0, 3, 10)
        return lambda: Conversations(
            tenants=tenants(),
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
        give = tenants()
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
            yield give.columns(
                replace(
                    columns, names=list(itertools.chain.from_iterable(names)), names_at=np.cumsum([0, *map(len, names)])
                )
            )

    return load


THINK = ("0 s", "0.3 s", "exponential(0.5 s)")


def drawn_cutoff(d: Draw) -> Cutoff | None:
    return d.one(None, None, None, Cutoff(ttft_s=0.5, tpot_s=0.05, most=200.0))
