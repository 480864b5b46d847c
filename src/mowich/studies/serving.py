"""A deployment: a model on workers of one system under one engine, with constants, measured rows around it, memory.

`plan --serve`, `compare --serve` and `traffic` all start from it. Adds nothing but the putting together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mowich.arrays import Floats
from mowich.errors import UserError, unknown
from mowich.facts import Facts, Watched
from mowich.facts.load import once_for
from mowich.facts.moves import nudges
from mowich.machines.system import System, resolve
from mowich.models import ops
from mowich.models.encoder import Encoder, encoder_of
from mowich.models.model import Model, Moe
from mowich.operators.kernels import SIMULATED
from mowich.plans.memory import kv_B_per_sequence, serving_memory_B
from mowich.plans.plan import KV, WEIGHTS, ServePlan, ServePlans
from mowich.plans.shapes import shapes
from mowich.requests.passes import check_decodes
from mowich.serving.anchors import (
    Anchors,
    Class,
    Distance,
    Loads,
    NearRow,
    Neighbourhood,
    ShiftAlong,
    class_of_plan,
    class_of_worker,
)
from mowich.serving.encoding import EMBEDDING_B, EncoderParallel, EncoderWork, ServedImages, encoder_plan, tower
from mowich.serving.engines import (
    ConstantTable,
    Served,
    architecture,
    constant_columns,
    has_own,
    link_Bps,
    stated_facts,
)
from mowich.serving.own_rows import known_anchors
from mowich.serving.search import WorkerColumns
from mowich.serving.step import step, total
from mowich.software.engine import Engine, newest_release
from mowich.sums import float_sum

BLOCK = 16
"""Tokens of a cache block unless a scenario says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment(WorkerColumns):
    """Worker plans of one model, machine and engine as columns, with everything that their times depend on. beside_B:
    of each device that an encoder takes (None: there is none); encode_s: of the images of a request [n] (None: they are
    no part of a job)."""

    model: Model
    system: System
    engine: str
    plans: tuple[ServePlan, ...]
    table: ConstantTable
    has_own: bool
    anchors: Anchors
    beside_B: Floats | None = None
    encode_s: Floats | None = None

    def with_beside(self, beside_B: Floats, encode_s: Floats | None = None) -> Deployment:
        """These plans, where an encoder and its embeddings take `beside_B` bytes of each device [n], reserved as the
        engine reserves its own. encode_s: seconds for the images of a request [n]."""
        around = replace(self.around, reserve_B=self.around.reserve_B + beside_B)
        return replace(self, around=around, beside_B=beside_B, encode_s=encode_s)

    @property
    def coverage(self) -> dict[str, float]:
        """Which share of the times rests on what: constants fitted to served rows, operator tables of the chip, or
        neither."""
        kind = "operator tables" if self.has_own else "fitted" if self.anchors.knows(self.system.family) else "analytic"
        return {kind: 1.0}

    def around_of(self, i: int) -> Engine:
        """The engine constants of plan i."""
        return self.around.take(np.array([i]))

    def near(self, metric: str, i: int, *, apart: bool = False) -> Neighbourhood:
        """The measured rows around plan i. They shift nothing where the constants come from the chip's own operator
        tables (what they hold of other chips' kernels would count twice), nor where prompts have workers of their own
        (apart): the rows are of workers that do both, and shifting decode workers by them harms."""
        found = self.anchors.near(metric, self.class_of(i))
        return found.still() if self.has_own or apart else found

    def along(self, metric: str, *, apart: bool = False) -> ShiftAlong:
        """ln factor of the first plan at any load and length of prompts."""
        return self.near(metric, 0, apart=apart).along()

    def loads(self, metric: str, *, prompt: float) -> Loads:
        """ln factor of every plan at any load, for prompts of one length. Plans of one class have the same."""
        knots = self.anchors.knots
        classes = [(*class_of_plan(p), guesses) for p, guesses in zip(self.plans, self.table.speculates, strict=True)]
        near = {one: self.near(metric, classes.index(one)) for one in dict.fromkeys(classes)}
        sides = {one: n.along_load(math.log2(prompt), knots) for one, n in near.items()}
        falling, rising = (np.array([sides[one][side] for one in classes]) for side in (0, 1))
        return Loads(knots=knots, reach=near[classes[0]].load_reach, falling=falling, rising=rising)

    def half_width(self, metric: str, i: int, *, users: float, prompt: float, apart: bool = False) -> float:
        """Half-width in ln of the 90% range of a time of plan i, by the measured rows around it."""
        near = self.near(metric, i, apart=apart)
        return float(near.half_width(users, math.log2(prompt))[0])

    def measured(self, i: int, *, users: float, prompt: float, output: float) -> tuple[Distance, tuple[NearRow, ...]]:
        """How far away the measured rows are that speak for plan i at a load, and the nearest of them."""
        one = self.class_of(i, users=users, prompt=prompt, output=output)
        return self.anchors.distance(one), self.anchors.near("tpot", one).nearest(one)

    def class_of(self, i: int, *, users: float = 1.0, prompt: float = 1.0, output: float = 1.0) -> Class:
        """What plan i is to measured rows."""
        return class_of_worker(
            self.model,
            architecture(self.model),
            self.system,
            self.engine,
            self.plans[i],
            users=users,
            prompt=prompt,
            output=output,
            guesses=bool(self.table.speculates[i]),
        )

    def blocks(self, i: int, tokens: float, block: int = BLOCK) -> int:
        """Blocks of cache of one rank group of plan i, for sequences of about `tokens` tokens (windows keep less than
        that of each)."""
        one = self.shapes.take(np.array([i]))
        free = float(serving_memory_B(one, self.around.take(np.array([i])), self.system.hbm_usable_B)["kv"][0])
        each = float(kv_B_per_sequence(one, np.array([float(tokens)]))[0]) / tokens
        return max(0, int(free / each / block))


def tabled_shares(
    d: Deployment,
    of: int = 0,
    *,
    n: float = 0.0,
    context: float = 0.0,
    verify: float = 1.0,
    prompt: float = 0.0,
    mean: float = 0.0,
) -> dict[str, float]:
    """Of each part of a step of plan `of`, the share that operator tables of kernels hold, 0 to 1; "" for all of it.
    n, context, verify: of its decoding sequences; prompt, mean: its prompt tokens and what they attend to."""
    at, timed = np.array([of]), dict[str, Floats]()
    parts = step(
        d.shapes.take(at),
        d.costs.take(at),
        n=n,
        context=context,
        verify=verify,
        prompt=prompt,
        prompt_context=mean,
        finishing=float(prompt > 0),
        timed=timed,
    )
    whole = {name: float(timed[name][0]) / float(parts[name][0]) for name in timed if parts[name][0] > 0}
    return {**whole, "": float_sum(float(t[0]) for t in timed.values()) / float(total(parts)[0])}


def with_tables(coverage: Mapping[str, float], share: float) -> dict[str, float]:
    """A coverage where tables hold a share, 0 to 1."""
    rest = {kind: part * (1.0 - share) for kind, part in coverage.items()}
    return {SIMULATED: share, **rest} if share > 0 else rest


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Asked:
    """What a deployment is made of; equal where it would be the same. Models are compared by identity: they have many
    numbers."""

    model: Model
    system: System
    engine: str
    plans: tuple[ServePlan, ...]
    accept: float | None
    release: str = ""
    drafts: int = 0

    def __hash__(self) -> int:
        return hash((id(self.model), self.system.id, self.engine, self.accept))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Asked)
            and self.model is other.model
            and (self.engine, self.release, self.accept, self.drafts, self.system, self.plans)
            == (other.engine, other.release, other.accept, other.drafts, other.system, other.plans)
        )


def deploy(
    model: Model,
    system: System,
    engine: str,
    plans: Sequence[ServePlan],
    facts: Facts,
    *,
    accept: float | None = None,
    drafts: int = 0,
    release: str = "",
    images: ServedImages | None = None,
) -> Deployment:
    """Workers of `plans`. accept: tokens kept per step under speculative decoding (None: no speculation); drafts:
    tokens that are guessed for it (0: not stated); release: of the engine, which its all-reduces hang on ("": the
    newest); images: of each request, with their encoder on the workers (None: text alone).

    The checks of legality are `check_layout`'s; here plans are trusted. Raises UserError for a model that decodes no
    tokens: it has no cache and makes none one after another.
    """
    check_decodes(model)
    d = _deploy(
        facts,
        _Asked(
            model=model,
            system=system,
            engine=engine,
            plans=tuple(plans),
            accept=accept,
            release=release,
            drafts=drafts,
        ),
    )
    if images is None:
        return d
    encoder = encoder_of(model, "image")
    item = encoder.image(images.width, images.height, facts)
    work = encoder_work(encoder, system, engine, plans, None, facts, release)
    held = np.maximum(d.around.budget, item.tokens)
    beside_B = work.weights_B + EMBEDDING_B * encoder.out * held
    return d.with_beside(beside_B, work.seconds([(item, images.count)]))


def _cases(facts: Facts, asked: _Asked, systems: Sequence[System]) -> list[Served]:
    """Every plan on each of `systems`, which are the machine under facts that differ in numbers."""
    own, arch = has_own(facts, asked.system), architecture(asked.model)
    here, released = stated_facts(facts, asked.engine, asked.system), newest_release(facts, asked.engine)
    return [
        Served(
            model=asked.model,
            arch=arch,
            system=system,
            engine=asked.engine,
            plan=p,
            speculates=asked.accept is not None,
            accept=asked.accept,
            release=asked.release,
            drafts=asked.drafts,
            released=released,
            has_own=own,
            stated=here,
        )
        for p in asked.plans
        for system in systems
    ]


def encoder_work(
    encoder: Encoder,
    system: System,
    engine: str,
    plans: Sequence[ServePlan],
    parallel: EncoderParallel | None,
    facts: Facts,
    release: str = "",
) -> EncoderWork:
    """An encoder on workers of plans, a column each. parallel: how it is spread over their ranks; release: of the
    engine."""
    spread = [encoder_plan(encoder, p, parallel) for p in plans]
    cut = tuple(p for p, _ in spread)
    asked = _Asked(model=tower(encoder), system=system, engine=engine, plans=cut, accept=None, release=release)
    costs = constant_columns(_cases(facts, asked, [system])).constants(facts.number)[0]
    links = np.array([link_Bps(system, max(2, p.tp)) for p in plans])
    return EncoderWork.of(encoder, spread, costs, links)


@once_for(12)
def _deploy(facts: Facts, asked: _Asked) -> Deployment:
    """Questions that differ in lengths or limits have the same deployments."""
    model, system, engine, plans = asked.model, asked.system, asked.engine, asked.plans
    own = has_own(facts, system)
    table = constant_columns(_cases(facts, asked, [system]))
    costs, around, verified, accepted = table.constants(facts.number)
    return Deployment(
        model=model,
        system=system,
        engine=engine,
        plans=plans,
        shapes=shapes(model, ServePlans.of(plans)),
        costs=costs,
        around=around,
        verified=verified,
        accepted=accepted,
        table=table,
        has_own=own,
        anchors=known_anchors(facts, engine),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRows(WorkerColumns):
    """One worker plan under several sets of facts, a row each [n]. usable_B: memory of a device; encode_s: of the
    images of a request."""

    plan: ServePlan
    usable_B: Floats
    encode_s: Floats | float = 0.0

    def __len__(self) -> int:
        return len(self.usable_B)

    def with_images(self, d: Deployment, i: int) -> WorkerRows:
        """The rows with what the encoder of plan i of a deployment takes, whatever the facts."""
        if d.beside_B is None or d.encode_s is None:
            return self
        around = replace(self.around, reserve_B=self.around.reserve_B + float(d.beside_B[i]))
        return replace(self, around=around, encode_s=np.full(len(self), float(d.encode_s[i])))


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedFacts:
    """The worker plans of a deployment with its facts moved, one at a time. plans: row 0 of each is the deployment as
    it is; moved: path of the fact that each other row has moved."""

    plans: tuple[WorkerRows, ...]
    moved: tuple[str, ...]


def moved_facts(d: Deployment, facts: Facts) -> MovedFacts:
    """The workers of a deployment with every fact that they are made of at each of its `facts.moves.nudges`. facts:
    those of the deployment."""
    accept = float(d.table.accept[0]) if d.table.speculates[0] else None
    drafts = int(d.table.drafts[0])
    found = _moved(
        facts, _Asked(model=d.model, system=d.system, engine=d.engine, plans=d.plans, accept=accept, drafts=drafts)
    )
    return replace(found, plans=tuple(rows.with_images(d, i) for i, rows in enumerate(found.plans)))


def worker_rows(d: Deployment) -> tuple[WorkerRows, ...]:
    """The worker plans of a deployment as they are, a row each."""
    usable = np.array([d.system.hbm_usable_B])
    rows = _by_plan(d.plans, d, usable)
    if d.encode_s is None:
        return rows
    return tuple(replace(one, encode_s=d.encode_s[i : i + 1]) for i, one in enumerate(rows))


def _rows(facts: Facts, asked: _Asked, under: Sequence[tuple[Facts, System]]) -> tuple[WorkerRows, ...]:
    """Every plan under these facts, and the machine that they make."""
    table = constant_columns(_cases(facts, asked, [system for _, system in under]))
    values = np.array([[known.number(name) for name in table.names] for known, _ in under])
    costs, around, verified, accepted = table.assemble(np.tile(values, (len(asked.plans), 1)))
    usable = np.array([system.hbm_usable_B for _, system in under])
    work = shapes(asked.model, ServePlans.of(asked.plans))
    every = WorkerColumns(shapes=work, costs=costs, around=around, verified=verified, accepted=accepted)
    return _by_plan(asked.plans, every, usable)


def _by_plan(plans: Sequence[ServePlan], of: WorkerColumns, usable_B: Floats) -> tuple[WorkerRows, ...]:
    """Columns of plans, each under the same sets of facts in turn, apart. of: shapes of each plan, and the rest of each
    plan under each set; usable_B: of those sets."""
    n, out = len(usable_B), []
    for i, plan in enumerate(plans):
        mine, copies = np.arange(i * n, (i + 1) * n), np.full(n, i)
        out.append(
            WorkerRows(
                plan=plan,
                shapes=of.shapes.take(copies),
                costs=of.costs.take(mine),
                around=of.around.take(mine),
                verified=of.verified[mine],
                accepted=of.accepted[mine],
                usable_B=usable_B,
            )
        )
    return tuple(out)


@once_for(12)
def _moved(facts: Facts, asked: _Asked) -> MovedFacts:
    system, watched = asked.system, Watched(facts)
    resolve(watched, system.id, chips=system.chips)
    _rows(watched, asked, [(watched, system)])
    under, moved = [(facts, system)], []
    for path, fact in watched.read.items():
        for value in nudges(fact):
            try:
                known = facts.with_values({path: value})
                other = resolve(known, system.id, chips=system.chips)
            except (UserError, ZeroDivisionError):  # what the fact cannot be
                continue
            under.append((known, system if other == system else other))
            moved.append(path)
    return MovedFacts(plans=_rows(facts, asked, under), moved=tuple(moved))


def head_counts(model: Model) -> tuple[int, ...]:
    """Query heads of the attention layers: tp must divide them."""
    return tuple(sorted(set(ops.query_heads(model))))


def check_layout(model: Model, system: System, plan: ServePlan, where: str) -> None:
    """Raise UserError for a plan that cannot be laid out on this machine."""
    heads = head_counts(model)
    if any(h % plan.tp for h in heads):
        legal = [t for t in (1, 2, 4, 8, 16, 32, 64, 128) if all(h % t == 0 for h in heads)]
        raise UserError(
            f"tp={plan.tp} does not divide {heads[0]} query heads of {model.name}",
            where=where,
            allowed=" ".join(map(str, legal)),
        )
    experts = max((layer.ffn.num_experts for layer in model.layers if isinstance(layer.ffn, Moe)), default=1)
    held = f"{experts} experts and {plan.redundant} copies" if plan.redundant else f"{experts} experts"
    if plan.ep > 1 and ((experts + plan.redundant) % plan.ep or (plan.tp * plan.dp) % plan.ep):
        raise UserError(f"ep={plan.ep} must divide {held} and tp x dp = {plan.tp * plan.dp}", where=where)
    if plan.launch.redundant_experts is not None and (plan.ep == 1 or experts == 1):
        raise UserError(
            "there are no experts to place" if experts == 1 else "experts are not spread over ranks",
            where=where,
            given=f"redundant_experts: {plan.launch.redundant_experts}",
            fix="leave it out" if experts == 1 else "ep: 8",
        )
    if plan.weights not in WEIGHTS:
        raise unknown("format of weights", plan.weights, WEIGHTS, where=where)
    if plan.kv not in KV:
        raise unknown("format of the cache", plan.kv, KV, where=where)
    if plan.devices > system.devices:
        raise UserError(
            f"one worker needs {plan.devices} devices",
            where=where,
            given=plan.devices,
            allowed=f"at most {system.devices} on {system.chips} chips",
        )
