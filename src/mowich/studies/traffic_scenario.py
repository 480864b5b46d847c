"""Reading a scenario of serving traffic, every mistake with its file and line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from mowich.economics.money import TERMS
from mowich.errors import UserError
from mowich.facts import Facts
from mowich.machines.system import System, logical_cores, resolve
from mowich.models import load_model
from mowich.models.model import Model
from mowich.plans.launch_settings import SETTING_NAMES, LaunchSettings, check_settings, read_setting
from mowich.plans.plan import KV, WEIGHTS, ServePlan, W, stated_plan
from mowich.plans.schedulers import scheduler_of
from mowich.requests import job_fields
from mowich.scenario import Node, is_inline, read_scenario
from mowich.serving.acceptance import MOST_DRAFTED, POSITIONS, kept_of, published_tables
from mowich.serving.traffic.autoscale import Autoscale
from mowich.serving.traffic.policies import ROUTES, Scheduler, told_fields
from mowich.shown import plain_json
from mowich.software.engine import engine_for, engine_names
from mowich.studies.cache_tiers import AskedTiering, make_tiering, read_tiering, tiering_inputs
from mowich.studies.serving import check_layout
from mowich.studies.serving_plan import native_weights
from mowich.studies.traffic_adapters import AskedAdapters, read_adapters
from mowich.studies.traffic_autoscale import Scaling, ScalingAsk, make_scaling, read_scaling
from mowich.studies.traffic_encoding import Encoding, make_encoding, read_encoding
from mowich.studies.traffic_load import UNSEEN, Traffic, read_load
from mowich.studies.traffic_outages import AskedOutages, ResolvedOutages, read_outages, resolve_outages
from mowich.studies.traffic_pools import (
    Draft,
    EncodePool,
    Pool,
    Speculation,
    Transfer,
    chips_by_system,
    is_apart,
    make_pool,
    make_transfer,
    network_Bps,
)
from mowich.studies.traffic_scheduler import SchedulerReader
from mowich.sums import float_sum


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficScenario:
    """A scenario file, resolved. price: the kind of price; has_front: times are the user's, not the engine's own;
    inputs: what was asked and filled in, to run it again; chips_of: of each system; autoscale, autoscale_decode: the
    rules that replicas (and decoders, where they are apart) come and go by; scaling: all that was asked of rules;
    encoding: of images and sound (None: text alone)."""

    name: str
    system: System
    serve: Pool
    decode: Pool | None
    transfer: Transfer | None
    requests: Traffic
    slo: Mapping[str, float]
    route: str
    outages: ResolvedOutages
    autoscale: Autoscale | None
    price: str
    has_front: bool
    inputs: Mapping[str, object]
    chips_of: Mapping[str, int]
    autoscale_decode: Autoscale | None = None
    scaling: Scaling | None = None
    encoding: Encoding | None = None

    @property
    def pools(self) -> tuple[Pool, ...]:
        return (self.serve,) if self.decode is None else (self.serve, self.decode)

    @property
    def every_pool(self) -> tuple[Pool | EncodePool, ...]:
        """The pools, and encoders on workers of their own, which come last."""
        return _with_encoders(self.pools, self.encoding)

    @property
    def chips(self) -> int:
        """Chips of all pools; with autoscaling, at its most."""
        return sum(self.chips_of.values())


def _with_encoders(pools: Sequence[Pool], encoding: Encoding | None) -> tuple[Pool | EncodePool, ...]:
    return tuple(pools) if encoding is None or encoding.pool is None else (*pools, encoding.pool)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What the file says before machines and models are looked up. apart: the pools of prefill and decode (no keys:
    one pool); with_front: whether times are the user's."""

    root: Node
    name: str
    model: str
    on: str
    engine: str | None
    release: str | None
    plan: Node
    scheduler: Node
    apart: Node
    speculation: Node
    encoder: Node
    slo: Mapping[str, float]
    replicas: int | None
    route: str
    requests: Traffic
    outages: AskedOutages
    scaling: ScalingAsk | None
    price: str
    with_front: bool


def read_traffic(
    path: str | Path, facts: Facts, model: Model | None = None, *, rules: Sequence[str] = (), regret: bool = False
) -> TrafficScenario:
    """A scenario: a file, or its text where that begins with a brace. model: the one that it names, where it was read
    before; rules: of autoscaling, instead of those that it names; regret: asked for beside it. Raises UserErrors, each
    with file:line."""
    root = read_scenario(path)
    asked = _asked(root, path, facts, rules, regret)
    where = "the scenario" if is_inline(path) else str(path)
    model = model or load_model(asked.model)
    system = resolve(facts, asked.on)
    engine = engine_for(facts, system, asked.engine, model)
    plan = _plan(asked.plan, ServePlan(weights=native_weights(model, system, facts)))
    machine = _cores(asked.plan, facts, system)
    decode = _decoders(asked.apart, facts, system, machine, engine, plan, model)
    prefill_replicas = int(asked.apart.count("prefill", 1)) if decode is not None else 0
    stated_Bps = asked.apart.quantity("transfer", "B/s", minimum=1.0)
    encoders = read_encoding(
        asked.encoder, asked.apart, asked.requests, model, facts, lambda node: _plan(node, ServePlan(tp=1))
    )
    asked.apart.done()
    speculation = _speculation(asked.speculation, facts)
    asked.speculation.done()
    asked.plan.done(SETTING_NAMES)
    scheduling = _scheduling(asked, facts, engine, plan.launch)
    root.done()
    root.stop()
    _check_plan(model, machine, engine, plan, f"{where} plan")
    systems = {system.id: system}
    if decode is not None:
        _check_plan(model, decode.system, decode.engine, decode.plan, f"{where} disaggregated.decode_plan")
        systems[decode.whole.id] = decode.whole
    if scheduling.memory_share is not None:
        facts = facts.with_values({f"serving.{engine}.memory_share": scheduling.memory_share})
    most = asked.scaling.most[0] if asked.scaling else asked.replicas or max(1, machine.devices // plan.devices)

    encoding = None
    if encoders is not None:
        encoding = make_encoding(
            encoders,
            machine,
            engine,
            plan,
            scheduling.scheduler,
            facts,
            stated_Bps=stated_Bps,
            release=asked.release or "",
            where=f"{where} disaggregated",
        )

    def pool(system: System, engine: str, plan: ServePlan, replicas: int, beside_B: float = 0.0) -> Pool:
        return make_pool(
            model,
            system,
            engine,
            plan,
            replicas,
            scheduling.reader.of_pool(scheduling.scheduler, engine, plan.dp),
            facts,
            blocks=scheduling.blocks,
            apart=decode is not None,
            speculation=speculation,
            adapters=scheduling.adapters,
            where=where,
            release=(asked.release or "") if engine == scheduling.reader.engine else "",
            beside_B=beside_B,
        )

    serve = pool(machine, engine, plan, prefill_replicas or most, 0.0 if encoding is None else encoding.beside_B)
    if scheduling.tiering is not None and scheduling.tiering.tiers:
        tiers = make_tiering(scheduling.tiering, facts, machine, plan, network_Bps(facts, machine))
        serve = replace(serve, tiering=tiers)
    behind = None if decode is None else pool(decode.system, decode.engine, decode.plan, decode.replicas)
    pools = [serve] if behind is None else [serve, behind]
    every_pool = _with_encoders(pools, encoding)
    _check_chips(every_pool, systems, where)
    outages = resolve_outages(asked.outages, behind or serve, facts, where)
    transfer = make_transfer(facts, model, serve, behind, stated_Bps) if behind is not None else None
    scaling = None
    if asked.scaling is not None:
        front = asked.with_front
        scaling = make_scaling(asked.scaling, facts, pools, asked.slo, transfer, has_front=front, where=where)
    first = () if scaling is None else next(iter(scaling.rules.values()))
    made = TrafficScenario(
        name=asked.name,
        system=machine,
        serve=serve,
        decode=behind,
        transfer=transfer,
        requests=asked.requests,
        slo=asked.slo,
        route=asked.route,
        outages=outages,
        autoscale=first[0] if first else None,
        autoscale_decode=first[1] if len(first) > 1 else None,
        scaling=scaling,
        price=asked.price,
        has_front=asked.with_front,
        inputs={},
        chips_of=chips_by_system(every_pool),
        encoding=encoding,
    )
    return replace(made, inputs={"scenario": str(path), **_inputs(made, asked.release, speculation)})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scheduling:
    """What the file says of the scheduler and of its cache. blocks, memory_share: None: what facts say."""

    reader: SchedulerReader
    scheduler: Scheduler
    adapters: AskedAdapters | None
    blocks: int | None
    tiering: AskedTiering | None
    memory_share: float | None


def _scheduling(asked: _Asked, facts: Facts, engine: str, launch: LaunchSettings) -> _Scheduling:
    """The part `scheduler` of the file, every key of it."""
    node, release = asked.scheduler, asked.release
    own = asked.root.parsed("release", lambda given: scheduler_of(facts, engine, str(given))) if release else None
    reader = SchedulerReader(node=node, facts=facts, engine=engine, own=own or scheduler_of(facts, engine))
    scheduler = reader.scheduler(launch, asked.requests.get("max_tokens", 0), is_trace=bool(asked.requests["trace"]))
    adapters = read_adapters(node, asked.requests.get("adapters"), facts, engine)
    blocks = reader.spelled("kv_blocks")
    made = _Scheduling(
        reader=reader,
        scheduler=scheduler,
        adapters=adapters,
        blocks=int(node.count(blocks, 0)) if blocks in node else None,
        tiering=_tiering(node, has_cache=scheduler.prefix_cache),
        memory_share=node.number("memory_share", 0.0, low=0.05, high=1.0) if "memory_share" in node else None,
    )
    reader.done()
    return made


def _check_plan(model: Model, system: System, engine: str, plan: ServePlan, where: str) -> None:
    """Raise UserError for a plan that cannot be laid out, or has a setting that its engine lacks."""
    check_layout(model, system, plan, where)
    check_settings(plan.launch.to_dict(), engine, where=where)


def _asked(root: Node, path: str | Path, facts: Facts, rules: Sequence[str], regret: bool) -> _Asked:
    """The file, but for what its plans say. Raises UserErrors."""
    root.need("model", "on", "traffic")
    inline = is_inline(path)
    limits = {"ttft": job_fields.TTFT, "tpot": job_fields.TPOT, "e2e": job_fields.TTFT, "task": job_fields.TTFT}
    slo_node, fail = root.node("slo"), root.node("failures")
    slo = {k: v for k, field in limits.items() if (v := slo_node.parsed(k, field.parse)) is not None}
    slo_node.done()
    apart = root.node("disaggregated")
    requests = read_load(root.node("traffic"), Path() if inline else Path(path).parent)
    scaling = read_scaling(root, apart, facts, slo, rules=rules, regret=regret)
    by_times = [] if scaling is None else [rule for rule in scaling.rules if rule in ("sla", "forecast")]
    if scaling is not None and requests.get("media") and (by_times or scaling.regret):
        given = by_times[0] if by_times else "regret"  # what they know of a replica is of text alone
        fix = "by: inside, or queue" if by_times else "leave regret out"
        scaling.node.problem(None, "does not know encoders of images and sound", given=given, fix=fix)
    asked = _Asked(
        root=root,
        name=root.text("name", "traffic" if inline else Path(path).stem),
        model=root.text("model"),
        on=root.text("on"),
        engine=root.text("engine", "", allowed=engine_names(facts)) or None,
        release=_release(root),
        plan=root.node("plan"),
        scheduler=root.node("scheduler"),
        apart=apart,
        speculation=root.node("speculation"),
        encoder=root.node("encoder"),
        slo=slo,
        replicas=int(root.count("replicas", 0.0)) if "replicas" in root else None,
        route=root.text("route", "round-robin", allowed=ROUTES),
        requests=requests,
        outages=read_outages(fail),
        scaling=scaling,
        price=root.text("price", "default", allowed=TERMS),
        with_front=root.flag("front_end", True),
    )
    root.raw("mowich")
    root.stop()
    return asked


def _release(root: Node) -> str | None:
    """The release of the engine, as words."""
    given = root.raw("release")
    if isinstance(given, float):  # 0.10 and 0.1 are one number
        root.problem("release", "is text, not a number", given=given, fix=f'release: "{given:g}"')
    return None if given is None or isinstance(given, float) else str(given)


def _speculation(node: Node, facts: Facts) -> Speculation:
    """Speculative decoding: tokens kept per step, shares by position, a published table, or a draft model."""
    known = ("accepted", "accepted_by_position", "published", "acceptance")
    ways = [key for key in known if node.raw(key) is not None]
    if len(ways) > 1:
        node.wrong(ways[1], f"{ways[0]} already says what is accepted", fix="leave one out")
    by_position = _by_position(node)
    tokens = int(node.count("tokens", 1, maximum=MOST_DRAFTED)) if "tokens" in node else None
    if "published" in node:
        return _published(node, tokens, facts)
    if "draft" in node:
        if "accepted" in node:
            node.problem("accepted", "follows from what is accepted of the draft model", fix="leave it out")
        if by_position is None:
            node.need("tokens", "acceptance")
        elif tokens is not None and tokens != by_position.drafts:
            node.problem("tokens", "is not the number of positions", given=tokens, allowed=str(by_position.drafts))
        draft = node.parsed("draft", lambda name: load_model(str(name)))
        acceptance = node.number("acceptance", 0.0, low=0.0, high=0.99)
        if draft is None:
            return Speculation()
        if by_position is not None:
            small = Draft(model=draft, tokens=by_position.drafts, acceptance=None, kept=by_position.accept)
            return Speculation(draft=small, words=by_position.words)
        return Speculation(draft=Draft(model=draft, tokens=tokens or 1, acceptance=acceptance))
    node.refuse("needs a draft model", "tokens", "acceptance", fix="draft: llama-3.1-8b")
    return by_position or Speculation(accept=node.parsed("accepted", job_fields.ACCEPT.parse))


def _by_position(node: Node) -> Speculation | None:
    """What is accepted at each position of a draft; None where it is not stated."""
    if "accepted_by_position" not in node:
        node.refuse("goes with accepted_by_position", "positions")
        return None
    shares, positions = node.raw("accepted_by_position"), node.text("positions", POSITIONS[0], allowed=POSITIONS)
    try:
        accept = kept_of(shares, positions)
    except UserError as error:
        node.problem("accepted_by_position", error.what, given=error.given, allowed=error.allowed, fix=error.fix)
        return None
    assert isinstance(shares, list)
    words = {"accepted_by_position": shares, "positions": positions, "accepted": accept}
    return Speculation(accept=accept, drafts=len(shares), words=words)


def _published(node: Node, tokens: int | None, facts: Facts) -> Speculation:
    """A table of lengths that were published."""
    node.need("tokens")
    tables = published_tables(facts)
    name = node.text("published", "", allowed=sorted(tables))
    node.refuse("is in the published table", "draft")
    if not name or tokens is None:
        return Speculation()
    lengths = tables[name]
    if tokens not in lengths:
        allowed = ", ".join(map(str, lengths))
        node.problem("tokens", f"{name} was not measured with so many tokens", given=tokens, allowed=allowed)
        return Speculation()
    accept = facts.number(lengths[tokens])
    return Speculation(accept=accept, drafts=tokens, words={"published": name, "tokens": tokens, "accepted": accept})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Decoders:
    """The pool that decodes, as asked for. whole: its system, before devices are grouped."""

    plan: ServePlan
    system: System
    whole: System
    engine: str
    replicas: int


def _decoders(
    node: Node, facts: Facts, system: System, machine: System, engine: str, plan: ServePlan, model: Model
) -> _Decoders | None:
    """The pool that decodes apart, on the same system or, with decode_on, on another; None where there is none."""
    if not is_apart(node):
        return None
    node.need("prefill", "decode")
    inner = node.node("decode_plan")
    whole, here, start, default = system, machine, plan, engine
    if "decode_on" in node:
        other = node.parsed("decode_on", lambda name: resolve(facts, str(name)))
        if other is not None:
            whole = here = other
            default = engine_for(facts, other, None, model)
            start = ServePlan(weights=native_weights(model, other, facts), kv=plan.kv)
            node.need("decode_plan")
    out = _Decoders(
        plan=_plan(inner, start),
        system=_cores(inner, facts, here),
        whole=whole,
        engine=node.text("decode_engine", default, allowed=engine_names(facts)),
        replicas=int(node.count("decode", 1)),
    )
    inner.done()
    return out


def _check_chips(pools: Sequence[Pool | EncodePool], systems: Mapping[str, System], where: str) -> None:
    """Raise UserError where workers need more devices than their system has."""
    for name, system in systems.items():
        here = [p for p in pools if p.system.id == name]
        used = float_sum(p.chips for p in here)
        if here and used > system.chips:
            raise UserError(
                "more devices than the system has",
                where=where,
                given=f"{used:g} chips of {name}",
                allowed=f"{system.chips} chips of {here[0].system.devices_per_chip} devices",
            )


def _inputs(s: TrafficScenario, release: str | None, speculation: Speculation) -> dict[str, object]:
    """What was asked and filled in."""
    serve, decode, draft, costs = s.serve, s.decode, speculation.draft, s.serve.times.adapters
    front = serve.seen.front
    requests = {
        k: None if v == math.inf else [None if x == math.inf else x for x in v] if isinstance(v, list) else v
        for k, v in s.requests.items()
        if k not in UNSEEN
    }
    return {
        "name": s.name,
        **serve.deployment.model.inputs(),
        "system": s.system.id,
        "chips": s.system.chips,
        "engine": serve.deployment.engine,
        **({"release": release} if release else {}),
        "plan": stated_plan(serve.plan, serve.system.lnc),
        "replicas": serve.replicas,
        "scheduler": told_fields(serve.scheduler),
        "route": s.route,
        "slo_s": s.slo,
        "decode_plan": stated_plan(decode.plan, decode.system.lnc) if decode else None,
        "decode_engine": decode.deployment.engine if decode else None,
        "decode_replicas": decode.replicas if decode else 0,
        "decode_system": decode.system.id if decode else None,
        "transfer": s.transfer.to_dict() if s.transfer else None,
        "draft": draft.to_dict() if draft else None,
        "autoscale": s.scaling.echo if s.scaling else None,
        "traffic": requests,
        "price_term": s.price,
        "front_s": [front.front_s, front.front_token_s] if s.has_front else [0.0, 0.0],
        **({} if serve.tiering is None else {"cache_tiers": tiering_inputs(serve.tiering)}),
        **({"speculation": dict(speculation.words)} if speculation.words else {}),
        **({"failures": s.outages.to_dict()} if s.outages.is_asked else {}),
        **({} if costs is None else {"adapter_costs": plain_json(costs)}),
        **({} if s.encoding is None else {"encoder": s.encoding.to_dict()}),
    }


def _named(node: Node, key: str, allowed: Sequence[W], default: W) -> W:
    """A word of a vocabulary; the default where another is given, which the node notes as a problem."""
    given = node.text(key, default, allowed=allowed)
    return next((word for word in allowed if word == given), default)


def _plan(node: Node, start: ServePlan) -> ServePlan:
    degrees = {name: int(node.count(name, getattr(start, name))) for name in ("tp", "pp", "dp", "cp", "ep")}
    settings = {name: node.parsed(name, partial(read_setting, name)) for name in SETTING_NAMES if name in node}
    return ServePlan(
        **degrees,
        weights=_named(node, "weights", WEIGHTS, start.weights),
        kv=_named(node, "kv", KV, start.kv),
        launch=LaunchSettings.of({**start.launch.to_dict(), **settings}),
    )


def _cores(node: Node, facts: Facts, start: System) -> System:
    """The machine of a plan: with devices of as many cores as it says (`lnc`)."""
    return logical_cores(facts, start, int(node.count("lnc", 1))) if "lnc" in node else start


def _tiering(node: Node, *, has_cache: bool) -> AskedTiering | None:
    """The tiers of the prefix cache; None where the file says nothing of them."""
    if "cache_tiers" not in node:
        return None
    if node.raw("host_blocks"):
        node.refuse("is the host tier too", "host_blocks")
    if not has_cache:
        node.problem("cache_tiers", "needs a prefix cache", fix="prefix_cache: true")
    return read_tiering(node.node("cache_tiers"))
