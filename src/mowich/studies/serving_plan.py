"""`plan --serve` and `compare --serve`: the best way to serve a model on one system, and several systems side by side.

It joins search, prices and energy, and gives every figure its interval: the width that measured rows leave, and each
fact of grade D moved to the ends of its range.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar, Protocol

import numpy as np

from mowich.economics import money
from mowich.errors import EXIT_INFEASIBLE, EXIT_LIMIT_BROKEN, EXIT_OK
from mowich.estimate import Estimate, exact, from_spreads, unknown_estimate
from mowich.facts import Facts
from mowich.facts.together import moves_together
from mowich.launch.origin import Origin, with_origin
from mowich.machines.system import System, resolve
from mowich.models.model import Model
from mowich.plans import preference
from mowich.plans.memory import serving_memory_B
from mowich.plans.plan import KV, WEIGHTS, ServePlan, ServePlans, WeightFormat, one_of, stated_plan
from mowich.plans.serving_choices import DEGREES
from mowich.plans.shapes import shapes
from mowich.plans.workers import worker_plans
from mowich.requests.footing import YearAsk
from mowich.requests.jobs import CompareRequest, PlanRequest
from mowich.serving.anchors import METRICS, NEARBY, Distance, NearRow, is_stack
from mowich.serving.engines import arithmetic
from mowich.serving.hit_curve import HitCurve
from mowich.serving.search import Found, SearchResult, ServeJob, Worker, search_serving
from mowich.shown import Rows
from mowich.software.engine import about_engine, engine_for, kernels_shipped
from mowich.software.vendors import HAND_TUNED, unmeasured
from mowich.studies.arrivals_row import RandomArrivals
from mowich.studies.breakeven import with_breakeven
from mowich.studies.footing import PlacedSystem, owned_chips, placed_systems, tokens_served
from mowich.studies.outcome import cost_of
from mowich.studies.pools import narrowed, stated_settings, with_pools
from mowich.studies.serving import Deployment, deploy, tabled_shares, with_tables
from mowich.studies.stack_support import told_support
from mowich.studies.system_row import SearchedRows, SystemRow
from mowich.studies.unstated import UnstatedSetting, first_token_spreads, unstated_lines, unstated_settings
from mowich.studies.yearly import with_year
from mowich.sums import float_sum
from mowich.units import show_gib

LONG_PROMPT = 32_768
"""Prompt from which context parallelism is searched too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeRow(SystemRow):
    """One plan of one system. mode: "aggregated" or "disaggregated"; batch: sequences that a decode worker holds, on
    average; distance, nearest: how far away measured rows are, and the nearest rows (none for points of a front);
    undecided: why the row has no dollars although its price is known; cached_frac: share of a prompt's tokens that the
    cache holds, where a trace gives it; tokens_served: in the days that a budget pays for, None without a budget."""

    KEYS = (
        "system system_id display engine chips_requested chips_used chips_idle devices_per_chip feasible reason "
        "mode batch memory_capacity_B binds prefill=stated_prefill decode=stated_decode replicas ttft_s tpot_s "
        "tokens_per_s_per_chip tokens_per_s_per_user usd_per_mtok J_per_token breakeven_usd_per_chip_h "
        "breakeven_W_per_chip memory_B price=price_label power_basis:none? tokens_served? owned? yearly? "
        "undecided:none? cached_frac? front measured.distance=distance measured.nearest=nearest unstated:none? "
        "random_arrivals=arrivals?"
    )

    engine: str
    mode: str = ""
    prefill: ServePlan | None = None
    decode: ServePlan | None = None
    replicas: Mapping[str, int] = field(default_factory=dict)
    batch: float = 0.0
    ttft_s: Estimate
    tpot_s: Estimate
    tokens_per_s_per_user: Estimate
    front: tuple[tuple[float, float], ...] = ()
    distance: Distance | None = None
    nearest: tuple[NearRow, ...] = ()
    undecided: str = ""
    unstated: tuple[UnstatedSetting, ...] = ()
    cached_frac: float | None = None
    arrivals: RandomArrivals | None = None
    tokens_served: Estimate | None = None

    @property
    def stated_prefill(self) -> Mapping[str, object] | None:
        """The plan of a prefill worker as the JSON states it."""
        return None if self.prefill is None else stated_plan(self.prefill, self.lnc)

    @property
    def stated_decode(self) -> Mapping[str, object] | None:
        """The plan of a decode worker as the JSON states it."""
        return None if self.decode is None else stated_plan(self.decode, self.lnc)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeResult(SearchedRows[ServeRow]):
    """Plans of one system (`plan_serving`) or the best of each (`compare_serving`). points: distinct (worker plan,
    batch) that were evaluated; evaluated: points, and pairs of prefill and decode workers; seconds: of the processor;
    notes: warnings that no row has.

    Units: SI (seconds, bytes, joules, watts), dollars; each number an `Estimate` with its 90% range and grade.

    Example:
        >>> import mowich
        >>> serve = {"isl": "2k", "osl": "200"}
        >>> found = mowich.plan("llama-3.1-8b", "h100:8", serve=serve, fixed={"tp": "1"}, top=1)
        >>> len(found.rows), found.rows[0].tpot_s.unit
        (1, 's')
    """

    SCHEMA = "mowich/compare@1"
    KEYS = "inputs facts_hash evaluated points feasible complete rows warnings"
    complete: ClassVar[bool] = True

    points: int
    front: tuple[ServeRow, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServePlanList(ServeResult):
    """What `plan_serving` finds: the plans of one system."""

    SCHEMA = "mowich/plan@1"
    KEYS = (
        "inputs facts_hash evaluated points feasible plans=rows front warnings preferred? compromise? "
        "random_arrivals=arrivals?"
    )

    @property
    def arrivals(self) -> RandomArrivals | None:
        """The first plan under arrivals at random."""
        return self.rows[0].arrivals


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeAsk:
    """One question to one system, as `outcome.SystemAsk` of training. name: as the user wrote it; system: with the
    chips that are requested; fixed: choices of a plan; term: kind of price."""

    name: str
    model: Model
    system: System
    engine: str
    job: ServeJob
    facts: Facts
    fixed: Mapping[str, Sequence[int | str]] = field(default_factory=dict)
    term: str = "default"


def native_weights(model: Model, system: System, facts: Facts) -> WeightFormat:
    """The format of the checkpoint's config. fp8 becomes mxfp8, scaled again offline, where the chip multiplies mxfp8
    faster (Trainium3: 4 rows at a time, not 2). A format that the chip's software does not serve becomes bf16
    (`chips.<chip>.weight_formats`: no MXFP4 on Trainium2)."""
    name = model.storage.form
    served = facts.get(f"chips.{system.chip}.weight_formats")
    if served is not None and name not in str(served.value).split(", "):
        return "bf16"
    faster = system.peak_flops.get("mxfp8", 0.0) > system.peak_flops.get("fp8", 0.0)
    return "mxfp8" if name == "fp8" and faster else one_of(name, WEIGHTS, "format of weights")


def worker(d: Deployment, job: ServeJob) -> Worker:
    """The columns that the search needs."""
    tpot, ttft = (d.loads(metric, prompt=job.prompt) for metric in METRICS)
    caches = shapes(d.model, ServePlans.of([ServePlan(kv=kv) for kv in KV]))
    return Worker(
        plans=d.plans,
        shapes=d.shapes,
        whole=caches.take(np.array([KV.index(p.kv) for p in d.plans], dtype=np.intp)),
        hbm_Bps=d.system.hbm_Bps,
        costs=d.costs.folded(),
        around=d.around.folded(),
        verified=d.verified,
        accepted=d.accepted,
        capacity_B=d.system.hbm_usable_B,
        tpot=tpot,
        ttft=ttft,
        encode_s=d.encode_s,
    )


def searched_plans(
    model: Model, system: System, prompt: float, facts: Facts, fixed: Mapping[str, Sequence[int | str]]
) -> list[ServePlan]:
    """The plans of a worker that a search tries, within the given choices."""
    weights = [str(w) for w in fixed.get("weights", (native_weights(model, system, facts),))]
    native = KV if arithmetic("fp8", system) == "8" or system.peak_flops.get("mxfp8") else ("bf16",)
    kv = [str(k) for k in fixed.get("kv", native)]
    degrees = {k: [int(v) for v in fixed[k]] for k in DEGREES if k in fixed}
    launch = stated_settings(fixed)
    return worker_plans(
        model, system, weights=weights, kv=kv, fixed=degrees, long_prompt=prompt >= LONG_PROMPT, launch=launch
    )


_NONE_LEGAL = "no worker plan is legal here (heads, experts, devices)"


def searched_modes(fixed: Mapping[str, Sequence[int | str]]) -> tuple[bool, bool]:
    """Whether a search tries workers that do both, and whether it tries separate pools of prefill and decode."""
    modes = set(fixed.get("mode", ("any",)))
    return bool(modes & {"any", "aggregated"}), bool(modes & {"any", "disaggregated"})


def _curve(path: str) -> HitCurve:
    from mowich.studies.hit_curves import read_hit_curve  # not above: readers of traces take 40 ms to load

    return read_hit_curve(path)


def solve_serving(
    ask: ServeAsk,
    *,
    top: int = 1,
    with_front: bool = False,
    margin: float = 0.0,
    runs: Callable[[ServePlan], bool] | None = None,
) -> tuple[list[ServeRow], list[ServeRow], SearchResult]:
    """Rows of one system, best first (one infeasible row when nothing meets the limits), its front (in full only
    `with_front`), and the search. margin: a simpler plan within it comes first; runs: which plans are tried."""
    model, system, job, facts, fixed = ask.model, ask.system, ask.job, ask.facts, with_pools(ask.fixed)
    plans = searched_plans(model, system, job.prompt, facts, fixed)
    plans = [p for p in plans if runs is None or runs(p)]
    together, apart = searched_modes(fixed)
    if not plans:
        return [without_deployment(ask, _NONE_LEGAL)], [], _nothing()
    d = deploy(model, system, ask.engine, plans, facts, accept=job.accept, images=job.images)
    w = worker(d, job)
    curve = None if job.cached_by is None else _curve(job.cached_by)
    modes = {"apart": apart, "together": together, "with_front": with_front}
    got = search_serving(system, w, job, top=top, margin=margin, curve=curve, **modes, **narrowed(plans, fixed))
    if got.best:
        front = [_row(d, f, ask, got, light=True) for f in got.front]
        rows = [_row(d, f, ask, got) for f in got.best]
        return [replace(rows[0], front=got.curve), *rows[1:]], front, got
    if got.closest is None:
        memory = serving_memory_B(d.shapes, d.around, system.hbm_usable_B)
        short = float(-memory["kv"].max())
        reason = (
            f"does not fit: {show_gib(max(short, 0.0))} short per device at best (weights"
            f" {show_gib(float(memory['weights'].min()))}; usable {show_gib(system.hbm_usable_B)})"
        )
        if short <= 0 and not together:
            reason = "no split into prefill and decode workers fits these chips and keeps the TTFT limit"
        elif short <= 0:
            reason = "does not fit: not one request of this length has room for its cache"
        return [without_deployment(ask, reason)], [], got
    f = got.closest
    reason = f"no plan meets the limits; the closest has TTFT {f.ttft_s:.3g} s and TPOT {1e3 * f.tpot_s:.3g} ms"
    return [replace(_row(d, f, ask, got), feasible=False, reason=reason)], [], got


def _nothing() -> SearchResult:
    return SearchResult(best=(), front=(), evaluated=0, points=0, fitting=0, closest=None)


def without_deployment(ask: ServeAsk, reason: str) -> ServeRow:
    """The row of a system that cannot serve: every estimate is unknown, with the reason."""
    system, none = ask.system, partial(unknown_estimate, reason=reason)
    return ServeRow(
        system=ask.name,
        system_id=system.id,
        display=system.display,
        engine=ask.engine,
        chips_requested=system.chips,
        devices_per_chip=system.devices_per_chip,
        lnc=system.lnc,
        feasible=False,
        reason=reason,
        ttft_s=none("s"),
        tpot_s=none("s"),
        tokens_per_s_per_chip=none("1/s"),
        tokens_per_s_per_user=none("1/s"),
        usd_per_mtok=none("USD/Mtok"),
        J_per_token=none("J/token"),
        memory_capacity_B=system.hbm_usable_B,
        binds="memory",
        price_label=money.price(ask.facts, system.id, term=ask.term).label,
    )


_BINDS: Mapping[str, tuple[str, ...]] = {
    "weights and matrices": ("linear", "head", "experts"),
    "reading the cache": ("attention",),
    "fixed time of layers": ("layers",),
    "host": ("host",),
    "links": ("tp", "ep", "cp", "pp"),
    "prompts between decodes": ("prefill_interference",),
}


def fact_spreads(d: Deployment, i: int, users: float, context: float, facts: Facts) -> tuple[list[float], list[float]]:
    """(downs, ups) in ln TPOT of every grade-D fact with a range that a decode step of plan i depends on. users: per
    rank group; context: mean tokens of their caches."""
    from mowich.serving.step import step, total

    names = d.table.take(np.array([i])).names
    values = np.array([facts.number(path) for path in names])
    ranged, cases = list[str](), [values]  # then each end of each range, all else unmoved
    for k, fact in enumerate(map(facts.fact, names)):
        if fact.grade != "D" or fact.low is None or fact.high is None or fact.low == fact.high:
            continue
        ranged.append(fact.path)
        for end in (fact.low, fact.high):
            cases.append(values.copy())
            cases[-1][k] = end
    rows = np.full(len(cases), i)
    s, table = d.shapes.take(rows), d.table.take(rows)
    costs, _, verified, _ = table.assemble(np.array(cases))
    t = total(step(s, costs, n=users / np.maximum(1.0, s.pp), context=context, verify=verified))
    found = zip(ranged, *np.log(t[1:] / t[0]).reshape(-1, 2).T.tolist(), strict=True)
    moves = np.array([ends for _, *ends in moves_together([*found], facts)]).reshape(-1, 2)
    moves = moves[np.abs(moves).max(axis=1, initial=0.0) > 1e-3]
    downs, ups = (np.maximum(0.0, side.max(axis=1, initial=0.0)).tolist() for side in (-moves, moves))
    return downs, ups


def _coverage(d: Deployment, f: Found, job: ServeJob) -> tuple[dict[str, float], dict[str, float]]:
    """What the time per token and the time to first token rest on: operator tables of kernels for a share of each, the
    constants of the engine for the rest (`Deployment.coverage`). Prompts between decodes count to the rest."""
    if not np.any(d.costs.kernel_tables * d.costs.tables > 0):
        return d.coverage, d.coverage
    verified = float(np.broadcast_to(d.verified, len(d.plans))[f.decode])
    pp = float(np.maximum(1.0, d.shapes.pp[f.decode]))
    token = tabled_shares(d, f.decode, n=f.users / pp, context=job.prompt + 0.5 * job.output, verify=verified)
    of_token = float_sum(f.tpot_parts.get(name, 0.0) * share for name, share in token.items()) / f.tpot_s
    i, new = f.prefill if f.prefill >= 0 else f.decode, max(job.prompt * (1.0 - job.cached), 1.0)
    budget = float(np.broadcast_to(d.around.budget, len(d.plans))[i])
    mean = job.prompt * job.cached + 0.5 * new
    first = tabled_shares(d, i, prompt=min(new, budget), mean=mean)
    of_first = f.ttft_parts.get("prefill", 0.0) * first[""] / f.ttft_s

    return with_tables(d.coverage, of_token), with_tables(d.coverage, of_first)


def _row(d: Deployment, f: Found, ask: ServeAsk, got: SearchResult, *, light: bool = False) -> ServeRow:
    """A row of one answer. light: leave out the ranges of single facts, as for points of a front."""
    facts, system = ask.facts, d.system
    job = ask.job if ask.job.cached_by is None else replace(ask.job, cached=f.cached)
    plan = d.plans[f.decode]
    half = {m: d.half_width(m, f.decode, users=f.users, prompt=job.prompt, apart=f.prefill >= 0) for m in METRICS}
    distance, nearest = d.measured(f.decode, users=f.users, prompt=job.prompt, output=job.output)
    downs, ups = ([], []) if light else fact_spreads(d, f.decode, f.users, job.prompt + 0.5 * job.output, facts)
    unstated = () if light or f.prefill >= 0 else unstated_settings(d, f.decode, f.users, job, facts)
    sooner, later = first_token_spreads(unstated)
    grade = d.model.graded("D" if max([0.0, *downs, *ups]) > 0.1 or distance != NEARBY else "C")
    of_token, of_first = _coverage(d, f, job)
    tpot = from_spreads(
        f.tpot_s,
        "s",
        [half["tpot"], *downs],
        [half["tpot"], *ups],
        grade=grade,
        coverage=of_token,
        breakdown=f.tpot_parts,
    )
    ttft = from_spreads(
        f.ttft_s,
        "s",
        [half["ttft"], *downs, *sooner],
        [half["ttft"], *ups, *later],
        grade=grade,
        coverage=of_first,
        breakdown=f.ttft_parts,
    )
    prefill_devices = d.plans[f.prefill].devices * f.prefill_workers if f.prefill >= 0 else 0
    used = math.ceil((plan.devices * f.workers + prefill_devices) / system.devices_per_chip)
    token_s = from_spreads(1.0 / f.tokens_per_s, "s", [half["tpot"], *downs], [half["tpot"], *ups], grade=grade)
    cost = cost_of(facts, system.id, term=ask.term, used=used, idle=system.chips - used, step_s=token_s, tokens=1.0)
    one = d.shapes.take(np.array([f.decode]))
    memory = {k: float(v[0]) for k, v in serving_memory_B(one, d.around_of(f.decode), system.hbm_usable_B).items()}
    shares = {word: float_sum(f.tpot_parts.get(p, 0.0) for p in parts) for word, parts in _BINDS.items()}
    row = replace(
        without_deployment(ask, ""),
        chips_used=used,
        chips_idle=system.chips - used,
        feasible=True,
        reason=None,
        mode="aggregated" if f.prefill < 0 else "disaggregated",
        prefill=d.plans[f.prefill] if f.prefill >= 0 else plan,
        decode=plan,
        replicas={"prefill": f.prefill_workers if f.prefill >= 0 else f.workers, "decode": f.workers},
        batch=f.users * plan.dp,
        ttft_s=ttft,
        tpot_s=tpot,
        tokens_per_s_per_chip=token_s.inverse(1.0 / system.chips, "1/s"),
        tokens_per_s_per_user=tpot.inverse(1.0, "1/s"),
        **cost,
        memory_B=memory,
        binds=max(shares, key=lambda k: shares[k]),
        distance=distance,
        nearest=() if light else nearest,
        cached_frac=None if job.cached_by is None else f.cached,
        unstated=unstated,
        search_counts={"evaluated": got.evaluated, "points": got.points, "feasible": got.fitting},
    )
    return told_support(facts, d.model, job, row)


def serving_inputs(
    model: Model,
    job: ServeJob,
    fixed: Mapping[str, Sequence[int | str]],
    term: str,
    systems: Sequence[tuple[str, System, str]],
    facts: Facts,
) -> dict[str, object]:
    def number(x: float) -> float | None:
        return None if math.isinf(x) else x

    return {
        **model.inputs(),
        "task": "serve",
        "isl": job.prompt if job.images is None else job.prompt - job.images.tokens,
        **({} if job.images is None else {"images": job.images.to_dict()}),
        "osl": job.output,
        "ttft_s": number(job.ttft_s),
        "tpot_s": number(job.tpot_s),
        "cached": job.cached if job.cached_by is None else job.cached_by,
        "accept": job.accept,
        "fixed": {k: list(v) for k, v in fixed.items()},
        "price_term": term,
        "systems": [
            {
                "system": n,
                "id": s.id,
                "chips": s.chips,
                "engine": e,
                **about_engine(facts, e, model.name, s.chip),
                **unmeasured(facts, s.id),
                "price_terms": money.quoted_terms(facts, s.id),
            }
            for n, s, e in systems
        ],
    }


def _solve_shipped(
    ask: ServeAsk,
    engine: str | None,
    *,
    top: int = 1,
    with_front: bool = False,
    margin: float = 0.0,
    runs: Callable[[ServePlan], bool] | None = None,
) -> tuple[list[ServeRow], list[ServeRow], SearchResult]:
    """`solve_serving` with the engine that a customer gets by default: shipped kernels that decode this model on
    separate workers, if such a plan keeps the limits; else the server, which is that of `ask`. A row without dollars
    also gets the rate with kernels written by hand. engine: as asked (None: by default)."""
    facts, system = ask.facts, ask.system
    kernels = kernels_shipped(facts, system, ask.model) if engine is None and searched_modes(ask.fixed)[1] else None
    if kernels is not None:
        apart = replace(ask, engine=kernels, fixed={**ask.fixed, "mode": ("disaggregated",)})
        rows, front, got = solve_serving(apart, top=top, with_front=with_front, margin=margin, runs=runs)
        if rows[0].feasible:
            return rows, front, got
    rows, front, got = solve_serving(ask, top=top, with_front=with_front, margin=margin, runs=runs)
    by_hand = engine_for(facts, system, HAND_TUNED)
    if any(row.undecided for row in rows) and by_hand != ask.engine and is_stack(by_hand):
        beside = solve_serving(replace(ask, engine=by_hand))[0][0]
        rate = beside.tokens_per_s_per_chip
        said = f"{float(f'{rate.value:.3g}'):,g} tokens/s per chip" if beside.feasible and rate.value else "no plan"
        rows = [
            replace(row, undecided=f"{row.undecided}; with kernels written by hand: {said}") if row.undecided else row
            for row in rows
        ]
    return rows, front, got


def _ask(asked: PlanRequest | CompareRequest, name: str, chips: int | None, term: str) -> ServeAsk:
    """The question to one system, with the engine that serves there."""
    facts = asked.facts
    system = resolve(facts, name, chips=chips)
    return ServeAsk(
        name=name,
        model=asked.model,
        system=system,
        engine=engine_for(facts, system, asked.engine, asked.model),
        job=asked.serve_job,
        facts=facts,
        fixed=asked.fixed,
        term=term,
    )


def plan_serving(
    asked: PlanRequest, *, prefer: bool = False, runs: Callable[[ServePlan], bool] | None = None
) -> ServeResult:
    """The cheapest plans of one system that meet the limits, and the Pareto front. prefer: put the simplest of the
    plans that cannot be told apart from the cheapest first (`plans.preference`); runs: which plans of workers are
    tried."""
    begin = time.process_time()
    facts, model = asked.facts, asked.model
    ask = _ask(asked, asked.systems[0], asked.chips, asked.term)
    margin = preference.margin(facts) if prefer else 0.0
    rows, front, got = _solve_shipped(ask, asked.engine, top=asked.top, with_front=True, margin=margin, runs=runs)
    name = rows[0].engine
    inputs = serving_inputs(model, ask.job, ask.fixed, ask.term, [(ask.name, ask.system, name)], facts)
    return ServePlanList(
        inputs=inputs,
        facts_hash=facts.hash(),
        evaluated=got.evaluated,
        points=got.points,
        feasible=got.fitting,
        seconds=time.process_time() - begin,
        rows=with_origin(Rows(rows), Origin(inputs=inputs, facts=facts, layers=model.num_layers)),
        front=tuple(front),
        warnings=unstated_lines(rows[0].unstated, name),
        preferred=got.preferred,
    )


def compare_serving(asked: CompareRequest) -> ServeResult:
    """The cheapest plan of each system that meets the limits, in the order given."""
    begin = time.process_time()
    facts, on = asked.facts, asked.footing
    placed, notes = placed_systems(asked)
    rows, systems, evaluated, points, feasible = [], [], 0, 0, 0
    for own in placed:
        ask = _ask(asked, own.name, own.chips, own.term)
        if own.no_chips:
            none = without_deployment(ask, own.no_chips)
            found, got = [replace(none, chips_requested=0, binds="no chips")], _nothing()
        else:
            found, _, got = _solve_shipped(ask, asked.engine)
        systems.append((own.name, ask.system, found[0].engine))
        rows.append(_paid_for(found[0], own, facts))
        evaluated, points, feasible = evaluated + got.evaluated, points + got.points, feasible + got.fitting
    inputs = serving_inputs(asked.model, asked.serve_job, asked.fixed, on.kind(asked.term), systems, facts)
    told = [
        {**entry, **({"chips": 0} if own.no_chips else {}), **own.inputs()}
        for entry, own in zip(inputs["systems"], placed, strict=True)  # type: ignore[call-overload]
    ]
    return ServeResult(
        inputs={
            **inputs,
            **({} if asked.chips is None else {"chips": asked.chips}),
            "systems": told,
            **on.inputs(),
            **(asked.year.inputs() if asked.year else {}),
        },
        facts_hash=facts.hash(),
        evaluated=evaluated,
        points=points,
        feasible=feasible,
        seconds=time.process_time() - begin,
        rows=Rows(rivals(rows, facts, asked.year)),
        warnings=(*notes, *_unstated_of(rows)),
        notes=tuple(notes),
    )


def _paid_for(row: ServeRow, own: PlacedSystem, facts: Facts) -> ServeRow:
    """A row with the tokens of the days that a budget pays for."""
    paid = own.paid
    if paid is None or own.no_chips or row.tokens_per_s_per_chip.value is None:
        return row
    tokens = tokens_served(row.tokens_per_s_per_chip, row.chips_requested, paid)
    there = owned_chips(facts, row.system_id, row.chips_requested, tokens, 0.0, paid) if paid.more else None
    return replace(row, tokens_served=tokens, owned=there)


def _unstated_of(rows: Sequence[ServeRow]) -> tuple[str, ...]:
    """What stating settings would narrow, of each engine once."""
    first = {row.engine: row for row in reversed(rows) if row.unstated}
    return tuple(line for row in first.values() for line in unstated_lines(row.unstated, row.engine))


def rivals(rows: Sequence[ServeRow], facts: Facts, year: YearAsk | None = None) -> tuple[ServeRow, ...]:
    """Rows of several systems with the price and the power at which each equals the best other; no price of a row that
    has no figure in dollars because its rate is undecided. year: the time that they are told for beside the first."""
    found = with_breakeven(
        rows,
        facts,
        speed=lambda r: r.tokens_per_s_per_chip.scaled(r.chips_requested, "1/s"),
        kept=lambda r: exact(1.0, "1"),
    )
    if year is not None:
        found = with_year(found, facts, year, lambda r: r.tokens_per_s_per_chip.scaled(r.chips_requested, "1/s"))
    return tuple(
        replace(r, breakeven_usd_per_chip_h=unknown_estimate("USD/chip/h", r.undecided)) if r.undecided else r
        for r in found
    )


def joined_results(results: Sequence[ServeResult], asked: CompareRequest) -> ServeResult:
    """Comparisons of one job on one system each, as one comparison of all: the same as asking at once."""
    first, *rest = results
    systems = [s for r in results for s in r.inputs["systems"]]  # type: ignore[attr-defined]
    return (
        replace(
            first,
            inputs={key: value for r in results for key, value in r.inputs.items()} | {"systems": systems},
            evaluated=sum(r.evaluated for r in results),
            points=sum(r.points for r in results),
            feasible=sum(r.feasible for r in results),
            seconds=float_sum(r.seconds for r in results),
            rows=Rows(rivals([row for r in results for row in r.rows], asked.facts, asked.year)),
            warnings=(
                *(note for r in results for note in r.notes),
                *_unstated_of([row for r in results for row in r.rows]),
            ),
            notes=tuple(note for r in results for note in r.notes),
        )
        if rest
        else first
    )


class LimitedRow(Protocol):
    """A plan of one system, or a deployment under a load."""

    @property
    def feasible(self) -> bool | None: ...
    @property
    def decode(self) -> object: ...


def exit_code(rows: Sequence[LimitedRow]) -> int:
    """0 where a row meets the limits; 4 where there are plans and a limit is broken; 3 where nothing fits."""
    if any(r.feasible for r in rows):
        return EXIT_OK
    return EXIT_LIMIT_BROKEN if any(r.decode is not None for r in rows) else EXIT_INFEASIBLE
