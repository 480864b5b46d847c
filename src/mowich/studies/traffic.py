"""`mowich traffic`: a scenario file read, its traffic simulated, and what its users would have seen.

The keys of a scenario are documented in docs/serving.md. Figures are kept in bounded memory: exact percentiles up to
`EXACT` requests, then a histogram of 0.25% bins, so that a trace of any length streams through.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from mowich.economics import energy
from mowich.errors import EXIT_INFEASIBLE, UserError
from mowich.facts import Facts
from mowich.machines.system import System, resolve
from mowich.models import load as load_model
from mowich.plans.plan import KV, WEIGHTS, ServePlan, W
from mowich.requests import jobs
from mowich.scenario import Node
from mowich.scenario import read as read_scenario
from mowich.serving.arrivals import ARRIVALS, draw, lengths, read_trace
from mowich.serving.engines import link_Bps
from mowich.serving.traffic.fleet import Failure, Fleet
from mowich.serving.traffic.policies import POLICIES, PREEMPTIONS, ROUTES, Scheduler
from mowich.serving.traffic.replica import CacheTooSmallError, Replica
from mowich.serving.traffic.requests import Request
from mowich.serving.traffic.times import Seen, StepTimes
from mowich.shown import Shown, plain
from mowich.software.engine import engine_for, engine_names
from mowich.studies.serving import BLOCK, Deployment, check, deploy
from mowich.studies.serving_plan import native_weights

SCHEMA = "mowich/traffic@1"
EXACT = 200_000
BIN = math.log(1.0025)
FLOOR = 1e-7
REQUEST_COLUMNS = (
    "id",
    "arrival_s",
    "scheduled_s",
    "first_token_s",
    "last_token_s",
    "prompt",
    "output",
    "replica",
    "cached",
    "preemptions",
)


class Figures:
    """Mean and percentiles of positive numbers in bounded memory."""

    def __init__(self) -> None:
        self.count, self.total = 0, 0.0
        self._exact: list[float] | None = []
        self._bins: dict[int, int] = {}

    def add(self, value: float) -> None:
        self.count += 1
        self.total += value
        if self._exact is not None:
            self._exact.append(value)
            if len(self._exact) > EXACT:
                old, self._exact = self._exact, None
                for x in old:
                    self._bin(x)
        else:
            self._bin(value)

    def _bin(self, value: float) -> None:
        at = int(math.log(max(value, FLOOR) / FLOOR) / BIN)
        self._bins[at] = self._bins.get(at, 0) + 1

    def quantile(self, share: float) -> float | None:
        """Linear between ranks while exact, to 0.25% afterwards; None when empty."""
        if not self.count:
            return None
        if self._exact is not None:
            return float(np.quantile(np.array(self._exact), share))
        wanted, seen = share * (self.count - 1), 0
        for at in sorted(self._bins):
            seen += self._bins[at]
            if seen > wanted:
                return FLOOR * math.exp((at + 0.5) * BIN)
        return None

    def to_dict(self) -> dict[str, float | None]:
        """mean, p50, p90, p99."""
        mean = self.total / self.count if self.count else None
        return {"mean": mean, **{f"p{round(100 * q)}": self.quantile(q) for q in (0.5, 0.9, 0.99)}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Workers of one plan."""

    plan: ServePlan
    replicas: int
    deployment: Deployment
    scheduler: Scheduler
    times: StepTimes
    seen: Seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A scenario file, resolved. has_front: times are the user's, not the engine's own; inputs: what was asked and
    filled in, to run it again."""

    name: str
    system: System
    serve: Pool
    decode: Pool | None
    requests: Mapping[str, Any]
    slo: Mapping[str, float]
    route: str
    failures: tuple[Failure, ...]
    has_front: bool
    transfer_Bps: float
    inputs: Mapping[str, object]

    @property
    def devices(self) -> int:
        """Devices that the pools use."""
        return sum(p.plan.devices * p.replicas for p in (self.serve, self.decode) if p)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficResult(Shown):
    """What the users saw and what the machines did. seconds: processor time taken, for the eye: it is no part of
    `to_dict`."""

    inputs: Mapping[str, object]
    facts_hash: str
    requests: int
    completed: int
    ttft_s: Mapping[str, float | None]
    tpot_s: Mapping[str, float | None]
    e2e_s: Mapping[str, float | None]
    queue_s: Mapping[str, float | None]
    goodput_frac: float | None
    tokens_per_s_per_chip: float
    utilisation: float
    J_per_token: float | None
    usd_per_mtok: float | None
    cached_frac: float
    preemptions: int
    failures: int
    chips: int
    makespan_s: float
    events: int
    steps: int
    seconds: float
    coverage: Mapping[str, float]
    warnings: tuple[str, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """The result as one row of plain numbers."""
        return [plain({k: v for k, v in self.to_dict().items() if k not in ("inputs", "warnings")})]

    def to_dict(self) -> dict[str, object]:
        """The `mowich/traffic@1` contract."""
        out: dict[str, object] = {"schema": SCHEMA}
        for name in self.__slots__:
            if name == "seconds":  # the same question gives the same bytes
                continue
            value = getattr(self, name)
            out[name] = (
                dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, tuple) else value
            )
        return out


def read(path: str | Path, facts: Facts) -> Scenario:
    """A scenario. Raises UserErrors, each with file:line."""
    root = read_scenario(path)
    root.need("model", "on", "traffic")
    name = root.text("name", Path(path).stem)
    model_name, on = root.text("model"), root.text("on")
    engine_name = root.text("engine", "", allowed=engine_names(facts)) or None
    plan_node, sched, traffic = root.node("plan"), root.node("scheduler"), root.node("traffic")
    slo_node, dis, fail = root.node("slo"), root.node("disaggregated"), root.node("failures")
    spec = root.node("speculation")
    accept = spec.parsed("accepted", jobs.ACCEPT.parse)
    spec.done()
    limits = {"ttft": jobs.TTFT, "tpot": jobs.TPOT, "e2e": jobs.TTFT}
    slo = {k: v for k, field in limits.items() if (v := slo_node.parsed(k, field.parse)) is not None}
    slo_node.done()
    replicas_asked = int(root.count("replicas", 0.0)) if "replicas" in root else None
    route = root.text("route", "round-robin", allowed=ROUTES)
    requests = _traffic(traffic, Path(path).parent)
    failures = []
    for _, one in fail.nodes():
        one.need("at", "replica", "down")
        failures.append(
            Failure(
                at_s=one.quantity("at", "s", 0.0) or 0.0,
                replica=int(one.count("replica", 0.0, minimum=0)),
                down_s=one.quantity("down", "s", 0.0) or 0.0,
            )
        )
        one.done()
    fail.done()
    with_front = root.flag("front_end", True)
    root.raw("mowich")
    root.stop()
    model = load_model(model_name)
    system = resolve(facts, on)
    engine = engine_for(facts, system, engine_name)
    plan = _plan(plan_node, ServePlan(weights=native_weights(model, system)))
    decode_plan, decode_replicas, prefill_replicas = None, 0, 0
    if dis.keys():
        decode_plan = _plan(dis.node("decode_plan"), plan)
        dis.need("prefill", "decode")
        prefill_replicas, decode_replicas = int(dis.count("prefill", 1)), int(dis.count("decode", 1))
    transfer = dis.quantity("transfer", "B/s")
    dis.done()
    plan_node.done()
    scheduler = _scheduler(sched, facts, engine)
    blocks = int(sched.count("kv_blocks", 0)) if "kv_blocks" in sched else None
    share = sched.number("memory_share", 0.0, low=0.05, high=1.0) if "memory_share" in sched else None
    sched.done()
    root.done()
    root.stop()
    check(model, system, plan, f"{path} plan")
    if decode_plan is not None:
        check(model, system, decode_plan, f"{path} disaggregated.decode_plan")
    tokens = float(requests.get("nominal_tokens", 2048.0))
    if share is not None:
        facts = facts.with_values({f"serving.{engine}.memory_share": share})
    serve = _pool(model, system, engine, plan, 1, scheduler, facts, tokens, blocks, accept, f"{path}")
    used = decode_plan.devices * decode_replicas if decode_plan else 0
    replicas = prefill_replicas if decode_plan else replicas_asked or max(1, system.devices // plan.devices)
    if replicas * plan.devices + used > system.devices:
        raise UserError(
            "more devices than the system has",
            where=str(path),
            given=replicas * plan.devices + used,
            allowed=f"{system.devices} ({system.chips} chips)",
        )
    serve = replace(serve, replicas=replicas)
    decode = (
        _pool(model, system, engine, decode_plan, decode_replicas, scheduler, facts, tokens, blocks, accept, f"{path}")
        if decode_plan
        else None
    )
    for failure in failures:
        if failure.replica >= (decode_replicas or replicas):
            raise UserError(
                "no such replica",
                where=f"{path} failures",
                given=failure.replica,
                allowed=f"0 to {(decode_replicas or replicas) - 1}",
            )
    front = (serve.seen.front.front_s, serve.seen.front.front_token_s) if with_front else (0.0, 0.0)
    inputs = {
        "scenario": str(path),
        "name": name,
        "model": model.name,
        "system": system.id,
        "chips": system.chips,
        "engine": engine,
        "plan": plan.to_dict(),
        "replicas": replicas,
        "scheduler": {f: v for f in serve.scheduler.__slots__ if (v := getattr(serve.scheduler, f)) != math.inf},
        "route": route,
        "slo_s": slo,
        "decode_plan": decode_plan.to_dict() if decode_plan else None,
        "decode_replicas": decode_replicas,
        "traffic": {k: v for k, v in requests.items() if not callable(v)},
        "front_s": list(front),
    }
    return Scenario(
        name=name,
        system=system,
        serve=serve,
        decode=decode,
        requests=requests,
        slo=slo,
        route=route,
        failures=tuple(failures),
        has_front=with_front,
        transfer_Bps=transfer or link_Bps(system, 2 * plan.devices),
        inputs=inputs,
    )


def _named(node: Node, key: str, allowed: Sequence[W], default: W) -> W:
    """A word of a vocabulary; the default where another is given, which the node notes as a problem."""
    given = node.text(key, default, allowed=allowed)
    return next((word for word in allowed if word == given), default)


def _plan(node: Node, start: ServePlan) -> ServePlan:
    degrees = {name: int(node.count(name, getattr(start, name))) for name in ("tp", "pp", "dp", "cp", "ep")}
    return ServePlan(
        **degrees,
        weights=_named(node, "weights", WEIGHTS, start.weights),
        kv=_named(node, "kv", KV, start.kv),
    )


def _scheduler(node: Node, facts: Facts, engine: str) -> Scheduler:
    chosen = Scheduler()
    if (node.raw("preemption") == "swap" or node.raw("host_blocks")) and "host_bandwidth" not in node:
        node.problem("host_bandwidth", "is needed to move cache to host memory", allowed='a quantity such as "50 GB/s"')
    budget = facts.number(f"serving.{engine}.prompt_budget")
    return replace(
        chosen,
        budget=int(node.count("max_num_batched_tokens", budget)),
        max_sequences=int(node.count("max_num_seqs", chosen.max_sequences)),
        block=int(node.count("block_size", BLOCK)),
        chunks=node.flag("chunked_prefill", True),
        mixes=node.flag("mix_prefill", facts.number(f"serving.{engine}.mixes_prompts") > 0.5),
        policy=node.text("policy", "fcfs", allowed=POLICIES),
        preemption=node.text("preemption", "recompute", allowed=PREEMPTIONS),
        prefix_cache=node.flag("prefix_cache", False),
        hash_block=int(node.count("hash_block", chosen.hash_block)),
        host_blocks=int(node.count("host_blocks", 0, minimum=0)),
        host_Bps=node.quantity("host_bandwidth", "B/s", chosen.host_Bps) or chosen.host_Bps,
    )


def _traffic(node: Node, folder: Path) -> dict[str, Any]:
    """Where the requests come from, checked."""
    out: dict[str, Any] = {"trace": None}
    trace = node.text("trace")
    if trace:
        out["trace"] = str(folder / trace)
        out["limit"] = int(node.count("requests")) if "requests" in node else None
        out["speed"] = node.count("speed", 1.0, minimum=1e-6, whole=False)
    else:
        node.need("rate", "requests", "prompt", "output")
        out["rate"] = (
            node.quantity("rate", "1/s")
            if isinstance(node.raw("rate"), str)
            else node.count("rate", 1.0, minimum=1e-9, whole=False)
        )
        out["requests"] = int(node.count("requests", 1))
        out["arrivals"] = node.text("arrivals", "poisson", allowed=ARRIVALS)
        out["cv"] = node.count("cv", 1.0, minimum=0.01, whole=False)
        out["seed"] = int(node.count("seed", 0, minimum=0))
        out["shared_prefix"] = int(node.count("shared_prefix", 0, minimum=0))
        out["priorities"] = int(node.count("priorities", 1))
        for key in ("prompt", "output"):
            if key in node:
                try:
                    out[f"{key}_lengths"] = lengths(node.raw(key), f"traffic.{key}")
                    out[key] = str(node.raw(key))
                except UserError as error:
                    node.problem(key, error.what, given=error.given, allowed=error.allowed)
    node.done()
    return out


def _pool(
    model: Any,
    system: System,
    engine: str,
    plan: ServePlan,
    replicas: int,
    scheduler: Scheduler,
    facts: Facts,
    tokens: float,
    blocks: int | None,
    accept: float | None,
    where: str,
) -> Pool:
    deployment = deploy(model, system, engine, [plan], facts, accept=accept)
    room = blocks if blocks is not None else deployment.blocks(0, tokens, scheduler.block)
    if room < 1:
        raise UserError(
            f"{model.name} does not fit: weights leave no room for a cache",
            where=where,
            given=str(plan),
            fix="more devices per worker or smaller weights",
            code=EXIT_INFEASIBLE,
        )
    # a rank group of attention data parallelism has its own sequences, blocks and tokens of a step: the worker is dp
    # groups that step together; each stage of a pipeline has a batch of its own under way
    whole = replace(
        scheduler,
        blocks=room * plan.dp,
        max_sequences=scheduler.max_sequences * plan.dp,
        budget=scheduler.budget * plan.dp * plan.pp,
        groups=plan.dp,
        stages=plan.pp,
    )
    if accept is not None:
        whole = replace(whole, verified=float(deployment.verified[0]), accepted=float(deployment.accepted[0]))
    tpot, ttft = (deployment.along(metric)[0] for metric in ("tpot", "ttft"))
    times = StepTimes.of(deployment.shapes, deployment.costs, deployment.around, whole, tpot)
    return Pool(
        plan=plan,
        replicas=replicas,
        deployment=deployment,
        scheduler=whole,
        times=times,
        seen=Seen.of(deployment.around, ttft),
    )


def requests_of(scenario: Scenario) -> Iterator[Request]:
    """The requests of a scenario, in order of arrival."""
    r = scenario.requests
    if r["trace"]:
        return read_trace(Path(r["trace"]), limit=r["limit"], speed=r["speed"])
    return draw(
        rate=r["rate"],
        requests=r["requests"],
        prompt=r["prompt_lengths"],
        output=r["output_lengths"],
        arrivals=r["arrivals"],
        cv=r["cv"],
        seed=r["seed"],
        shared_prefix=r["shared_prefix"],
        priorities=r["priorities"],
        block=scenario.serve.scheduler.hash_block,
    )


@dataclass(slots=True)
class _Tally:
    """What is kept of finished requests."""

    ttft: Figures = field(default_factory=Figures)
    tpot: Figures = field(default_factory=Figures)
    e2e: Figures = field(default_factory=Figures)
    queue: Figures = field(default_factory=Figures)
    good: int = 0
    tokens: int = 0
    prompt: int = 0
    cached: int = 0
    preemptions: int = 0
    failures: int = 0
    last_s: float = 0.0


def simulate(
    scenario: Scenario, facts: Facts, *, requests_out: Path | None = None, trace_out: Path | None = None
) -> TrafficResult:
    """Run a scenario. requests_out: one CSV line per finished request; trace_out: a timeline (Chrome trace events).
    Raises UserError for a bad trace or a request that the cache cannot hold."""
    tally = _Tally()
    slo = scenario.slo
    file: IO[str] | None = None
    if requests_out is not None:
        file = requests_out.open("w", encoding="utf-8", newline="")
        file.write(",".join(REQUEST_COLUMNS) + "\n")

    def done(r: Request) -> None:
        ttft, e2e = r.first_token_s - r.arrival_s, r.last_token_s - r.arrival_s
        tpot = (r.last_token_s - r.first_token_s) / (r.output - 1) if r.output > 1 else 0.0
        tally.ttft.add(ttft)
        tally.e2e.add(e2e)
        tally.queue.add(r.scheduled_s - r.arrival_s)
        if r.output > 1:
            tally.tpot.add(tpot)
        tally.good += (
            ttft <= slo.get("ttft", math.inf) and tpot <= slo.get("tpot", math.inf) and e2e <= slo.get("e2e", math.inf)
        )
        tally.tokens += r.output
        tally.prompt += r.prompt
        tally.cached += r.cached
        tally.preemptions += r.preemptions
        tally.failures += r.failures
        tally.last_s = max(tally.last_s, r.last_token_s)
        if file is not None:
            file.write(
                f"{r.id},{r.arrival_s:.6f},{r.scheduled_s:.6f},{r.first_token_s:.6f},{r.last_token_s:.6f},"
                f"{r.prompt},{r.output},{r.replica},{r.cached},{r.preemptions}\n"
            )

    def pool(p: Pool, word: str) -> list[Replica]:
        return [
            Replica(
                i,
                p.times,
                p.scheduler,
                on_done=done,
                trace=trace_out is not None,
                name=f"{word} {i}",
                seen=p.seen if scenario.has_front else None,
            )
            for i in range(p.replicas)
        ]

    serve = pool(scenario.serve, "prefill" if scenario.decode else "replica")
    decode = pool(scenario.decode, "decode") if scenario.decode else []
    kv_B = scenario.serve.times.kv_B
    # a request's cache is in one rank group, and every device of it sends its part
    rate = scenario.transfer_Bps * min(
        p.plan.devices // p.plan.dp for p in (scenario.serve, scenario.decode or scenario.serve)
    )
    fleet = Fleet(
        replicas=serve,
        decoders=decode,
        route=scenario.route,
        front=scenario.serve.seen.front if scenario.has_front else None,
        failures=scenario.failures,
        transfer_s=lambda tokens: tokens * kv_B / rate,
    )
    begin, count, first = time.process_time(), 0, None
    try:
        for request in fleet.run(requests_of(scenario)):
            first = request.arrival_s if first is None else first
            count += 1
    except CacheTooSmallError as error:
        raise UserError(
            str(error),
            where=str(scenario.inputs["scenario"]),
            fix="more memory for the cache, or shorter requests",
            code=EXIT_INFEASIBLE,
        ) from None
    finally:
        if file is not None:
            file.close()
    seconds = time.process_time() - begin
    everyone = [*serve, *decode]
    if trace_out is not None:
        write_timeline(trace_out, everyone)
    span = max(tally.last_s - (first or 0.0), 1e-12)
    busy = sum(r.busy_s for r in everyone) / (len(everyone) * span)
    chips = math.ceil(scenario.devices / scenario.system.devices_per_chip)
    joule, usd = _costs(scenario, facts, chips, span, busy, tally.tokens)
    return TrafficResult(
        inputs=scenario.inputs,
        facts_hash=facts.hash(),
        requests=count,
        completed=tally.e2e.count,
        ttft_s=tally.ttft.to_dict(),
        tpot_s=tally.tpot.to_dict(),
        e2e_s=tally.e2e.to_dict(),
        queue_s=tally.queue.to_dict(),
        goodput_frac=tally.good / count if slo and count else None,
        tokens_per_s_per_chip=tally.tokens / span / chips,
        utilisation=busy,
        J_per_token=joule,
        usd_per_mtok=usd,
        cached_frac=tally.cached / max(1, tally.prompt),
        preemptions=tally.preemptions,
        failures=tally.failures,
        chips=chips,
        makespan_s=span,
        events=sum(r.events for r in everyone),
        steps=sum(r.steps for r in everyone),
        seconds=seconds,
        coverage=_coverage([(scenario.serve, serve), (scenario.decode, decode)]),
    )


def _coverage(pools: Sequence[tuple[Pool | None, Sequence[Replica]]]) -> dict[str, float]:
    """What the step times rest on, as shares of the time that the replicas were busy (of the replicas, when none
    was)."""
    busy = sum(r.busy_s for _, replicas in pools for r in replicas)
    everyone = sum(len(replicas) for _, replicas in pools)
    out: dict[str, float] = {}
    for pool, replicas in pools:
        if pool is not None:
            share = sum(r.busy_s for r in replicas) / busy if busy else len(replicas) / everyone
            for kind, part in pool.deployment.coverage.items():
                out[kind] = out.get(kind, 0.0) + share * part
    return out


def _costs(
    scenario: Scenario, facts: Facts, chips: int, span: float, busy: float, tokens: int
) -> tuple[float | None, float | None]:
    """(J, USD per million) of output tokens: busy and idle chips over the whole span, all of it paid for."""
    from mowich.economics import money

    site, watts = energy.site(facts), energy.power(facts, scenario.system.id)
    rate = money.price(facts, scenario.system.id).rate
    joule = usd = None
    if watts.value is not None and site.pue.value is not None and site.idle_share.value is not None:
        joule = (
            site.pue.value * watts.value * chips * span * (busy + site.idle_share.value * (1.0 - busy)) / max(1, tokens)
        )
    if rate.value is not None:
        usd = rate.value * chips * span / max(1, tokens) * 1e6
    return joule, usd


def write_timeline(path: Path, replicas: list[Replica]) -> None:
    """Steps of every replica as Chrome trace events (ui.perfetto.dev reads them); a leap over an unchanged batch is one
    slice."""
    import json

    with path.open("w", encoding="utf-8") as file:
        file.write('{"displayTimeUnit":"ms","traceEvents":[\n')
        lines = [
            json.dumps({"ph": "M", "pid": 1, "tid": i, "name": "thread_name", "args": {"name": r.name}})
            for i, r in enumerate(replicas)
        ]
        for i, r in enumerate(replicas):
            for start, seconds, n, prompt, steps in r.spans or ():
                name = f"{prompt} prompt + {n} decode" if prompt else f"{n} decode"
                lines.append(
                    json.dumps(
                        {
                            "ph": "X",
                            "pid": 1,
                            "tid": i,
                            "name": name,
                            "ts": start * 1e6,
                            "dur": seconds * 1e6,
                            "args": {"steps": steps},
                        }
                    )
                )
        file.write(",\n".join(lines) + "\n]}\n")


def traffic(
    path: str | Path, facts: Facts, *, requests_out: Path | None = None, trace_out: Path | None = None
) -> TrafficResult:
    """Read and run a scenario file."""
    return simulate(read(path, facts), facts, requests_out=requests_out, trace_out=trace_out)
