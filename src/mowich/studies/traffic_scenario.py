"""Reading a scenario of serving traffic, every mistake with its file and line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Required, TypedDict

from mowich.errors import EXIT_INFEASIBLE, UserError
from mowich.facts import Facts
from mowich.machines.system import System, logical_cores, resolve
from mowich.models import load_model
from mowich.models.model import Model
from mowich.plans.plan import KV, WEIGHTS, ServePlan, W, stated_plan
from mowich.requests import jobs
from mowich.scenario import Node, read_scenario
from mowich.serving.arrivals import ARRIVALS, Draw, lengths
from mowich.serving.engines import link_Bps
from mowich.serving.traffic.policies import PREEMPTIONS, ROUTES, SCHEDULER_POLICIES, Scheduler
from mowich.serving.traffic.routing import Failure
from mowich.serving.traffic.times import Seen, StepTimes
from mowich.software.engine import engine_for, engine_names, packs_prompts
from mowich.studies.serving import BLOCK, Deployment, check_layout, deploy
from mowich.studies.serving_plan import native_weights

NOMINAL_TOKENS = 2048.0
"""Tokens of a request, for the room that a deployment leaves for caches."""


class Traffic(TypedDict, total=False):
    """Where requests come from, as it was asked: a trace (its path, the first `limit` of it, how many times as fast),
    or None and what requests are drawn from. rate: requests per second; prompt, output: their lengths in words."""

    trace: Required[str | None]
    limit: int | None
    speed: float
    rate: float
    requests: int
    arrivals: str
    cv: float
    seed: int
    shared_prefix: int
    priorities: int
    prompt_lengths: Draw
    output_lengths: Draw
    prompt: str
    output: str


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
class TrafficScenario:
    """A scenario file, resolved. has_front: times are the user's, not the engine's own; inputs: what was asked and
    filled in, to run it again."""

    name: str
    system: System
    serve: Pool
    decode: Pool | None
    requests: Traffic
    slo: Mapping[str, float]
    route: str
    failures: tuple[Failure, ...]
    has_front: bool
    transfer_Bps: float
    inputs: Mapping[str, object]
    chips: int


def read_traffic(path: str | Path, facts: Facts) -> TrafficScenario:
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
    plan = _plan(plan_node, ServePlan(weights=native_weights(model, system, facts)))
    on_prefill = on_decode = _cores(plan_node, facts, system)
    decode_plan, decode_replicas, prefill_replicas, decode_engine = None, 0, 0, engine
    if dis.keys():
        decode_node = dis.node("decode_plan")
        decode_plan, on_decode = _plan(decode_node, plan), _cores(decode_node, facts, on_prefill)
        dis.need("prefill", "decode")
        prefill_replicas, decode_replicas = int(dis.count("prefill", 1)), int(dis.count("decode", 1))
        decode_engine = dis.text("decode_engine", engine, allowed=engine_names(facts))
    transfer = dis.quantity("transfer", "B/s")
    dis.done()
    plan_node.done()
    scheduler = _scheduler(sched, facts, engine)
    blocks = int(sched.count("kv_blocks", 0)) if "kv_blocks" in sched else None
    share = sched.number("memory_share", 0.0, low=0.05, high=1.0) if "memory_share" in sched else None
    sched.done()
    root.done()
    root.stop()
    check_layout(model, on_prefill, plan, f"{path} plan")
    if decode_plan is not None:
        check_layout(model, on_decode, decode_plan, f"{path} disaggregated.decode_plan")
    if share is not None:
        facts = facts.with_values({f"serving.{engine}.memory_share": share})
    serve = _pool(model, on_prefill, engine, plan, 1, scheduler, facts, blocks, accept, f"{path}")
    replicas = prefill_replicas if decode_plan else replicas_asked or max(1, on_prefill.devices // plan.devices)
    used = replicas * plan.devices / on_prefill.devices_per_chip
    if decode_plan is not None:
        used += decode_plan.devices * decode_replicas / on_decode.devices_per_chip
    if used > system.chips:
        raise UserError(
            "more devices than the system has",
            where=str(path),
            given=f"{used:g} chips",
            allowed=f"{system.chips} chips of {on_prefill.devices_per_chip} devices",
        )
    serve = replace(serve, replicas=replicas)
    decode = (
        _pool(
            model, on_decode, decode_engine, decode_plan, decode_replicas, scheduler, facts, blocks, accept, f"{path}"
        )
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
        "plan": stated_plan(plan, on_prefill.lnc),
        "replicas": replicas,
        "scheduler": {f: v for f in serve.scheduler.__slots__ if (v := getattr(serve.scheduler, f)) != math.inf},
        "route": route,
        "slo_s": slo,
        "decode_plan": stated_plan(decode_plan, on_decode.lnc) if decode_plan else None,
        "decode_engine": decode_engine if decode_plan else None,
        "decode_replicas": decode_replicas,
        "traffic": {k: v for k, v in requests.items() if not callable(v)},
        "front_s": list(front),
    }
    return TrafficScenario(
        name=name,
        system=on_prefill,
        serve=serve,
        decode=decode,
        requests=requests,
        slo=slo,
        route=route,
        failures=tuple(failures),
        has_front=with_front,
        transfer_Bps=transfer or min(link_Bps(side, 2 * plan.devices) for side in (on_prefill, on_decode)),
        inputs=inputs,
        chips=math.ceil(used),
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


def _cores(node: Node, facts: Facts, start: System) -> System:
    """The machine of a plan: with devices of as many cores as it says (`lnc`)."""
    return logical_cores(facts, start, int(node.count("lnc", 1))) if "lnc" in node else start


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
        packs=packs_prompts(facts, engine),
        policy=node.text("policy", "fcfs", allowed=SCHEDULER_POLICIES),
        preemption=node.text("preemption", "recompute", allowed=PREEMPTIONS),
        prefix_cache=node.flag("prefix_cache", False),
        hash_block=int(node.count("hash_block", chosen.hash_block)),
        host_blocks=int(node.count("host_blocks", 0, minimum=0)),
        host_Bps=node.quantity("host_bandwidth", "B/s", chosen.host_Bps) or chosen.host_Bps,
    )


def _traffic(node: Node, folder: Path) -> Traffic:
    """Where the requests come from, checked."""
    out: Traffic = {"trace": None}
    trace = node.text("trace")
    if trace:
        out["trace"] = str(folder / trace)
        out["limit"] = int(node.count("requests")) if "requests" in node else None
        out["speed"] = node.count("speed", 1.0, minimum=1e-6, whole=False)
    else:
        node.need("rate", "requests", "prompt", "output")
        out["rate"] = (
            node.quantity("rate", "1/s") or 0.0
            if isinstance(node.raw("rate"), str)
            else node.count("rate", 1.0, minimum=1e-9, whole=False)
        )
        out["requests"] = int(node.count("requests", 1))
        out["arrivals"] = node.text("arrivals", "poisson", allowed=ARRIVALS)
        out["cv"] = node.count("cv", 1.0, minimum=0.01, whole=False)
        out["seed"] = int(node.count("seed", 0, minimum=0))
        out["shared_prefix"] = int(node.count("shared_prefix", 0, minimum=0))
        out["priorities"] = int(node.count("priorities", 1))
        prompt, output = _lengths(node, "prompt"), _lengths(node, "output")
        if prompt is not None:
            out["prompt_lengths"], out["prompt"] = prompt, str(node.raw("prompt"))
        if output is not None:
            out["output_lengths"], out["output"] = output, str(node.raw("output"))
    node.done()
    return out


def _lengths(node: Node, key: str) -> Draw | None:
    """The lengths under a key; None where there are none, or they are wrong."""
    try:
        return lengths(node.raw(key), f"traffic.{key}") if key in node else None
    except UserError as error:
        node.problem(key, error.what, given=error.given, allowed=error.allowed)
        return None


def _pool(
    model: Model,
    system: System,
    engine: str,
    plan: ServePlan,
    replicas: int,
    scheduler: Scheduler,
    facts: Facts,
    blocks: int | None,
    accept: float | None,
    where: str,
) -> Pool:
    deployment = deploy(model, system, engine, [plan], facts, accept=accept)
    room = blocks if blocks is not None else deployment.blocks(0, NOMINAL_TOKENS, scheduler.block)
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
