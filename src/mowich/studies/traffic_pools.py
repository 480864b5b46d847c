"""The pools of a traffic scenario: workers of one plan on one machine, and the way of a cache from one to the other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mowich.errors import EXIT_INFEASIBLE, UserError
from mowich.facts import Facts
from mowich.machines.system import System
from mowich.models.model import Model
from mowich.plans.memory import kv_B_per_sequence, weights_B
from mowich.plans.plan import ServePlan, ServePlans
from mowich.plans.shapes import Shapes, shapes
from mowich.scenario import Node
from mowich.serving.anchors import METRICS
from mowich.serving.engines import link_Bps
from mowich.serving.traffic.policies import Scheduler
from mowich.serving.traffic.tiers import Tiering, tiering_of
from mowich.serving.traffic.times import Seen, StepTimes
from mowich.serving.transfer import cache_transfer_s, convert_s, handed_s
from mowich.shown import Keyed
from mowich.studies.serving import Deployment, deploy
from mowich.studies.traffic_adapters import AskedAdapters, adapter_costs
from mowich.sums import float_sum

ENCODE_KEYS = ("encode", "encode_plan", "transfer")
"""Keys of `disaggregated` that encoders on workers of their own have, where prompts and answers stay together."""
NOMINAL_TOKENS = 2048.0
"""Tokens of a request, for the room that a deployment leaves for caches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft(Keyed):
    """A small model that proposes `tokens` tokens a step. acceptance: probability of each after those before it; kept:
    tokens kept of a step where shares by position are stated."""

    KEYS = "model=model.name tokens acceptance"

    model: Model
    tokens: int
    acceptance: float | None
    kept: float | None = None

    @property
    def accepted(self) -> float:
        if self.kept is not None:
            return self.kept
        assert self.acceptance is not None
        return accepted_tokens(self.acceptance, self.tokens)


def accepted_tokens(acceptance: float, tokens: int) -> float:
    """Tokens kept of a step that verifies `tokens` proposed ones: those up to the first that is refused, and the one
    that the large model says in its place.

    accepted = (1 - acceptance^(tokens + 1)) / (1 - acceptance)

    Units: acceptance 1, tokens 1. acceptance is below 1.
    """
    return (1.0 - acceptance ** (tokens + 1)) / (1.0 - acceptance)


@dataclass(frozen=True, slots=True, kw_only=True)
class Speculation:
    """Speculative decoding: tokens kept per step, stated, or of a draft model; neither: none. drafts: tokens guessed
    for the stated ones (0: not stated); words: what they were read from."""

    accept: float | None = None
    draft: Draft | None = None
    drafts: int = 0
    words: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Workers of one plan. apart: whether they do prompts or answers alone; tiering: of their prefix cache (None: what
    the scheduler says)."""

    plan: ServePlan
    replicas: int
    deployment: Deployment
    scheduler: Scheduler
    times: StepTimes
    seen: Seen
    apart: bool
    tiering: Tiering | None = None

    @property
    def system(self) -> System:
        return self.deployment.system

    @property
    def tiers(self) -> Tiering:
        """Those of its prefix cache."""
        return tiering_of(self.scheduler, self.times.kv_B) if self.tiering is None else self.tiering

    @property
    def chips(self) -> float:
        """Chips of its workers; a part of one where workers share a chip."""
        return self.replicas * self.plan.devices / self.system.devices_per_chip


def make_pool(
    model: Model,
    system: System,
    engine: str,
    plan: ServePlan,
    replicas: int,
    scheduler: Scheduler,
    facts: Facts,
    *,
    blocks: int | None,
    apart: bool,
    speculation: Speculation,
    adapters: AskedAdapters | None = None,
    where: str,
    release: str = "",
    beside_B: float = 0.0,
) -> Pool:
    """Workers of a plan, with their times. blocks: of a rank group's cache (None: what the memory holds); release: of
    the engine ("": the newest); beside_B: of a device that an encoder takes. Raises UserError where the weights and
    adapters leave no room."""
    draft = speculation.draft
    accept = speculation.accept if draft is None else draft.accepted
    deployment = deploy(model, system, engine, [plan], facts, accept=accept, drafts=speculation.drafts, release=release)
    if beside_B:
        deployment = deployment.with_beside(np.array([beside_B]))
    small = None
    if draft is not None:
        small = deploy(draft.model, system, engine, [replace(plan, ep=1)], facts)
    own_B = 0.0 if adapters is None else adapters.slots * adapters.bytes_of(deployment)
    room = blocks if blocks is not None else _blocks(deployment, small, scheduler.block, own_B)
    if room < 1:
        what = "weights leave" if adapters is None else "weights and adapters leave"
        raise UserError(
            f"{model.name} does not fit: {what} no room for a cache",
            where=where,
            given=str(plan),
            fix="more devices per worker or smaller weights",
            code=EXIT_INFEASIBLE,
        )
    if scheduler.slot:
        room = _slots(scheduler, room, where)
    # a rank group of attention data parallelism has its own sequences, blocks and tokens of a step: the worker is dp
    # groups that step together; each stage of a pipeline has a batch of its own under way
    whole = replace(
        scheduler,
        blocks=room * plan.dp,
        max_sequences=scheduler.max_sequences * plan.dp,
        budget=scheduler.budget * plan.dp * plan.pp,
        groups=plan.dp,
        stages=plan.pp,
        compiled=scheduler.compiled * plan.dp,
    )
    whole = _started(whole, deployment)
    if draft is not None:
        whole = replace(whole, verified=draft.tokens + 1.0, accepted=draft.accepted)
    elif accept is not None:
        whole = replace(whole, verified=float(deployment.verified[0]), accepted=float(deployment.accepted[0]))
    tpot, ttft = (deployment.along(metric, apart=apart) for metric in METRICS)
    times = StepTimes.of(deployment.shapes, deployment.costs, deployment.around, whole, tpot)
    if draft is not None and small is not None:
        plain = replace(whole, verified=1.0, accepted=1.0)
        times = times.with_draft(StepTimes.of(small.shapes, small.costs, small.around, plain), draft.tokens)
    if adapters is not None:
        times = replace(times, adapters=adapter_costs(adapters, deployment, facts, where))
    return Pool(
        plan=plan,
        replicas=replicas,
        deployment=deployment,
        scheduler=whole,
        times=times,
        seen=Seen.of(deployment.around, ttft),
        apart=apart,
    )


def _slots(scheduler: Scheduler, room: int, where: str) -> int:
    """Blocks of a cache that has a slot of the longest sequence for each of a compiled graph's. Raises UserError where
    the memory has no room for them."""
    each = -(-scheduler.slot // scheduler.block)
    if each * scheduler.max_sequences > room:
        raise UserError(
            "the cache of the compiled graph does not fit",
            where=f"{where} scheduler",
            given=f"{scheduler.max_sequences} slots of {scheduler.slot:,} tokens",
            allowed=f"{room // each} slots",
            fix="fewer or shorter sequences, or is_block_kv_layout: true",
            code=EXIT_INFEASIBLE,
        )
    return each * scheduler.max_sequences


def _started(scheduler: Scheduler, d: Deployment) -> Scheduler:
    """The scheduler as its engine is started: how often it looks for requests, and what these wait for. A mean over
    measured rows is a whole number of steps here."""
    interval, wait, balance = (float(np.ravel(getattr(d.around, name))[0]) for name in ("interval", "wait", "balance"))
    is_balanced = balance > wait and d.plans[0].dp > 1
    return replace(
        scheduler,
        interval=max(1, round(interval)),
        wait=round(balance if is_balanced else wait),
        enough=scheduler.groups if is_balanced else math.inf,
    )


def _blocks(d: Deployment, draft: Deployment | None, block: int, adapters_B: float) -> int:
    """Blocks of cache of one rank group; adapters (bytes of each device), a draft model's weights and its cache of the
    same tokens are beside."""
    room = d.blocks(0, NOMINAL_TOKENS, block)
    if draft is None and not adapters_B:
        return room
    tokens = np.array([NOMINAL_TOKENS])
    own, small = (
        0.0 if one is None else float(kv_B_per_sequence(one.shapes, tokens)[0]) / NOMINAL_TOKENS for one in (d, draft)
    )
    free = room * block * own - (0.0 if draft is None else float(weights_B(draft.shapes)[0])) - adapters_B
    return max(0, int(free / (own + small) / block))


def is_apart(node: Node) -> bool:
    """Whether a scenario's `disaggregated` has prefill and decode apart; encoders alone may be."""
    keys = set(node.keys())
    return bool(keys) and not ("encode" in keys and keys <= set(ENCODE_KEYS))


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodePool:
    """Workers that encode alone. replicas: how many; embedding_B: bytes of one embedding; Bps: at which they travel."""

    plan: ServePlan
    system: System
    replicas: int
    embedding_B: float
    Bps: float

    @property
    def chips(self) -> float:
        """Chips of its workers; a part of one where workers share a chip."""
        return self.replicas * self.plan.devices / self.system.devices_per_chip

    def travel_s(self, embeddings: int) -> float:
        """Of so many embeddings to a worker that reads them, each of whose ranks takes all."""
        sent_B = self.embedding_B * embeddings
        return float(handed_s(sent_B, sent_B, self.plan.devices, self.Bps, self.Bps))


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer(Keyed):
    """The way of a cache from prefill to decode. Bps: of one request's cache; sent_B: bytes of a token as it is sent;
    state_B, state_s: bytes and seconds of a request's recurrent state; convert_s: seconds to write a token in the other
    pool's format (0 where they are the same); latency_s: before the first byte; words: of its kind; kept: (share of a
    token's bytes, the most tokens that the layers with it keep)."""

    KEYS = (
        "bytes_per_token=sent_B state_bytes=state_B windowed_share bandwidth_Bps=Bps convert_s_per_token=convert_s "
        "latency_s by=words"
    )

    Bps: float
    sent_B: float
    state_B: float
    state_s: float
    convert_s: float
    latency_s: float
    words: str
    kept: tuple[tuple[float, float], ...] = ((1.0, math.inf),)

    def seconds(self, tokens: int) -> float:
        """Of the cache of so many tokens. Layers with a window send no more than their window."""
        sent = 0.0
        for share, most in self.kept:
            sent += share * min(tokens, most)
        return float(cache_transfer_s(sent * self.token_s, self.state_s, self.latency_s))

    @property
    def token_s(self) -> float:
        """Seconds of a token that all layers send."""
        return self.sent_B / self.Bps + self.convert_s

    @property
    def windowed_share(self) -> float:
        """Share of a token's bytes in layers that keep a window."""
        return float_sum(share for share, most in self.kept if math.isfinite(most))


def make_transfer(facts: Facts, model: Model, serve: Pool, decode: Pool, stated_Bps: float | None) -> Transfer:
    """Between two pools. A request's cache is in one rank group. Its devices send each part of it once, and every
    device that decodes receives what it holds, copies of heads among it: the slower side sets the time. On one system
    caches take its links; between two systems the network between machines, at the share of it that a transfer of
    caches reaches. The narrower of the two formats is sent; whoever has the wider one converts."""
    pools = (serve, decode)
    groups = [p.plan.devices // p.plan.dp for p in pools]
    caches = [shapes(model, ServePlans.of([ServePlan(kv=p.plan.kv)])) for p in pools]
    whole = [float(kv_B_per_sequence(one, np.ones(1))[0] - one.state_B[0]) for one in caches]
    sent = min(whole)
    latency = 0.0
    if stated_Bps is not None:
        each, words = [stated_Bps, stated_Bps], "as stated"
    elif serve.system.id == decode.system.id:
        each, words = [min(link_Bps(p.system, 2 * serve.plan.devices) for p in pools)] * 2, "links of the system"
    else:
        each, words = [network_Bps(facts, p.system) for p in pools], "network between machines"
        latency = max(p.system.levels[-1].latency_s for p in pools)
    held = decode.times.kv_B / groups[1] * sent / whole[1]  # on each device that decodes, as it is sent
    state = float(caches[0].state_B[0])
    state_held = float(decode.deployment.shapes.state_B[0]) / decode.plan.pp
    memories = [np.float64(p.system.hbm_Bps * group) for p, group in zip(pools, groups, strict=True)]
    return Transfer(
        Bps=sent / float(handed_s(sent, held, groups[0], *each)),
        sent_B=sent,
        state_B=state,
        state_s=float(handed_s(state, state_held, groups[0], *each)),
        convert_s=float(convert_s(*np.array(whole), *memories)),
        latency_s=latency,
        words=words,
        kept=_kept(caches[whole.index(sent)]),
    )


def _kept(cache: Shapes) -> tuple[tuple[float, float], ...]:
    """(share of a token's bytes, the most tokens that its layers keep) of one plan's cache, by window."""
    bytes_of: dict[float, float] = {}
    for layers, kv, held in zip(cache.att_layers[:, 0], cache.kv[:, 0], cache.held[:, 0], strict=True):
        bytes_of[float(held)] = bytes_of.get(float(held), 0.0) + float(layers * kv)
    total = float_sum(bytes_of.values())
    return tuple((part / total, held) for held, part in sorted(bytes_of.items()) if part)


def network_Bps(facts: Facts, system: System) -> float:
    """Bytes per second that a device sends to another machine: of its network, the share that a transfer of caches
    reached where one was measured on its family, else the share that collectives reach."""
    own = facts.get(f"networks.kv_transfer.{system.family}.reached_share")
    share = system.fabric.network_efficiency if own is None else facts.number(own.path)
    return system.levels[-1].bandwidth_Bps * share


def chips_by_system(pools: Sequence[Pool | EncodePool]) -> Mapping[str, int]:
    """Chips that the workers of each system use, whole ones."""
    used: dict[str, float] = {}
    for pool in pools:
        used[pool.system.id] = used.get(pool.system.id, 0.0) + pool.chips
    return {name: math.ceil(chips) for name, chips in used.items()}
