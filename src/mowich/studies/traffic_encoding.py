"""The encoders of a traffic scenario: their media, where they run, their times, and what an answer tells of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from mowich.errors import EXIT_INFEASIBLE, UserError
from mowich.facts import Facts
from mowich.machines.system import System
from mowich.models.encoder import EncodedItem, Encoder, encoder_of
from mowich.models.model import Model
from mowich.plans.plan import ServePlan
from mowich.scenario import Node
from mowich.serving.encoding import EMBEDDING_B, ENCODER_PARALLEL, EncoderParallel, EncoderWork, can_cut
from mowich.serving.engines import link_Bps
from mowich.serving.media import FleetMedia, MediaDraws, MediaLoad
from mowich.serving.traffic.encoders import EncoderTimes, EncoderWorker
from mowich.serving.traffic.policies import Scheduler
from mowich.serving.traffic.requests import UserRequest
from mowich.shown import Keyed
from mowich.studies.serving import encoder_work
from mowich.studies.traffic_load import Traffic
from mowich.studies.traffic_pools import ENCODE_KEYS, EncodePool
from mowich.sums import float_sum

MOST_ENCODED = 2**20
"""Most tokens of `encoder.max_tokens`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodersAsked:
    """What the file says. encoders, items, loads: one of each kind of media; parallel, max_tokens: None where the
    engine decides; replicas: workers apart, 0: none, with their plan."""

    encoders: tuple[Encoder, ...]
    items: tuple[EncodedItem, ...]
    loads: tuple[MediaLoad, ...]
    parallel: EncoderParallel | None
    max_tokens: int | None
    replicas: int
    plan: ServePlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding(Keyed):
    """Encoders of a scenario. works: of each kind of media, on the workers that encode; most: embeddings that an
    encoder's cache holds; weights_B, cache_B: of a device; beside_B: of a device that reads prompts; pool: of workers
    apart (None: those that read prompts encode)."""

    KEYS = (
        "parallel max_tokens=most weights_B cache_B workers=pool.replicas:zero devices=pool.plan.devices:zero "
        "bandwidth_Bps=pool.Bps media"
    )

    items: tuple[EncodedItem, ...]
    loads: tuple[MediaLoad, ...]
    works: tuple[EncoderWork, ...]
    parallel: EncoderParallel
    most: int
    weights_B: float
    cache_B: float
    beside_B: float
    pool: EncodePool | None

    def times(self) -> EncoderTimes:
        """Seconds of encoding, for a simulation."""

        def law(counts: tuple[int, ...]) -> float:
            return float_sum(
                float(work.seconds([(item, float(n))])[0])
                for work, item, n in zip(self.works, self.items, counts, strict=True)
            )

        return EncoderTimes([item.tokens for item in self.items], law, self.most)

    def of_fleet(self, seed: int, see: Callable[[UserRequest], None]) -> FleetMedia:
        """The media of a load and their encoders, for a simulation. seed: of the load; see: what is done with an
        answered request."""
        pool = self.pool
        return FleetMedia(
            draws=MediaDraws(self.loads, self.items, seed),
            times=self.times(),
            apart=0 if pool is None else pool.replicas,
            travel_s=(lambda embeddings: 0.0) if pool is None else pool.travel_s,
            see=see,
        )

    def scaled(self, log: float) -> Encoding:
        """All times of encoding times e^log."""
        return replace(self, works=tuple(work.scaled(log) for work in self.works))

    @property
    def media(self) -> list[dict[str, object]]:
        """What is encoded, as the inputs of `mowich/traffic@1` state it."""
        return [
            {
                "kind": load.kind,
                "tokens": item.tokens,
                "prompt_tokens": item.prompt,
                "params": work.encoder.params,
                "flop": work.encoder.flop(item),
                "one_s": float(work.seconds([(item, 1.0)])[0]),
            }
            for load, item, work in zip(self.loads, self.items, self.works, strict=True)
        ]


def read_encoding(
    node: Node, apart: Node, requests: Traffic, model: Model, facts: Facts, read_plan: Callable[[Node], ServePlan]
) -> EncodersAsked | None:
    """What the file says of encoders; None for a load of text alone. Problems are noted."""
    loads = requests.get("media", ())
    if not loads:
        for one, keys in ((node, node.keys()), (apart, ENCODE_KEYS[:2])):
            one.refuse("needs images or sound", *keys, fix="traffic.images: {size: 1024x1024}")
        return None
    encoders = tuple(encoder_of(model, load.kind) for load in loads)
    parallel = node.text("parallel", "", allowed=ENCODER_PARALLEL) if "parallel" in node else ""
    inner = apart.node("encode_plan")
    plan = read_plan(inner)
    for name in ("pp", "dp", "cp", "ep"):
        if getattr(plan, name) > 1:
            inner.wrong(name, "does not cut an encoder", allowed="tp")
    inner.done()
    out = EncodersAsked(
        encoders=encoders,
        items=tuple(load.item(encoder, facts) for load, encoder in zip(loads, encoders, strict=True)),
        loads=loads,
        parallel=next((way for way in ENCODER_PARALLEL if way == parallel), None),
        max_tokens=int(node.count("max_tokens", 1, maximum=MOST_ENCODED)) if "max_tokens" in node else None,
        replicas=int(apart.count("encode", 1)) if "encode" in apart else 0,
        plan=plan,
    )
    if inner.keys() and not out.replicas:
        apart.problem("encode_plan", "needs workers that encode", fix="encode: 2")
    node.done(("parallel", "max_tokens"))
    return out


def make_encoding(
    asked: EncodersAsked,
    system: System,
    engine: str,
    plan: ServePlan,
    scheduler: Scheduler,
    facts: Facts,
    *,
    stated_Bps: float | None,
    release: str,
    where: str,
) -> Encoding:
    """The encoders on their machine. Raises UserError where ranks cannot cut them, and where they do not fit."""
    here = asked.plan if asked.replicas else plan
    for encoder in asked.encoders:
        if asked.parallel == "weights" and not can_cut(encoder, here.tp):
            heads = encoder.layers[0].attention.num_heads
            raise UserError(
                f"tp={here.tp} does not divide {heads} heads of the {encoder.kind} encoder",
                where="encoder.parallel",
                given="weights",
                fix="parallel: data",
            )
    works = tuple(encoder_work(e, system, engine, [here], asked.parallel, facts, release) for e in asked.encoders)
    # an engine's budget is that of its steps, and one item always has room
    most = max(asked.max_tokens or scheduler.budget, *(item.tokens for item in asked.items))
    weights_B = float_sum(float(work.weights_B[0]) for work in works)
    embedding_B = EMBEDDING_B * max(work.encoder.out for work in works)
    cache_B = embedding_B * most
    pool = None
    if asked.replicas:
        pool = EncodePool(
            plan=here,
            system=system,
            replicas=asked.replicas,
            embedding_B=embedding_B,
            Bps=stated_Bps or min(link_Bps(system, 2 * p.devices) for p in (here, plan)),
        )
        if weights_B + cache_B > system.hbm_usable_B:
            raise UserError("the encoder does not fit on its workers", where=where, code=EXIT_INFEASIBLE)
    return Encoding(
        items=asked.items,
        loads=asked.loads,
        works=works,
        parallel="data" if float(works[0].ranks[0]) > 1 else "weights",
        most=most,
        weights_B=weights_B,
        cache_B=cache_B,
        beside_B=cache_B + (0.0 if asked.replicas else weights_B),
        pool=pool,
    )


def media_figures(workers: Sequence[EncoderWorker], tally: Mapping[str, float], there_s: float) -> dict[str, object]:
    """What is told of the media of a traffic. workers: that encoded; tally: sums over the requests; there_s: for which
    each was there."""
    seen = sum(w.encoded + w.reused for w in workers)
    busy_s = 0.0
    for worker in workers:
        busy_s += worker.busy_s
    counted = max(1.0, tally["counted"])
    return {
        "requests": int(tally["requests"]),
        "items": int(tally["items"]),
        "tokens": int(tally["tokens"]),
        "reused_frac": sum(w.reused for w in workers) / max(1, seen),
        "encoder_utilisation": busy_s / (len(workers) * there_s),
        "ttft_parts_s": {
            name: tally[name] / counted
            for name in ("queue", "encoder_queue", "encoder", "embedding_transfer", "prompt")
        },
    }
