"""Serving rows (plan --serve, compare --serve, fit --serve) and traffic made again at the worker plans that a result
states."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mowich.economics import energy, money
from mowich.errors import UserError
from mowich.estimate import Estimate, Notes, exact
from mowich.facts import Facts
from mowich.machines.system import resolve
from mowich.models.model import Model
from mowich.plans.memory import kv_B_per_sequence, serving_memory_B
from mowich.plans.plan import ServePlan
from mowich.plans.shapes import Shapes
from mowich.serving.search import Found, ServeJob, search
from mowich.serving.steady import Load, closed_loop
from mowich.software.engine import Costs
from mowich.studies.explain.source import Numbers, Result, Source, best_of
from mowich.studies.explain.tree import Path
from mowich.studies.serving import Deployment, deploy
from mowich.studies.serving_plan import worker

PART_FORMULAS: Mapping[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "linear": (
        "(tc^3 + tm^3)^(1/3), tc = 2 (m + m_half) W / (peak c), tm = W b / (B w)",
        ("W_linear", "b_linear"),
        ("peak_linear", "c_linear", "m_half", "hbm_Bps", "w_linear"),
    ),
    "head": (
        "(tc^3 + tm^3)^(1/3), tc = 2 (m + m_half) W_head / (peak c), tm = 2 W_head / (B w)",
        ("W_head",),
        ("peak_16", "c_16", "m_half", "hbm_Bps", "w_16"),
    ),
    "experts": (
        (
            "layers (tc^3 + tm^3)^(1/3), tc = 2 rows W / ranks / (peak c rows/(rows + half)), tm = active experts W b /"
            " ranks / (B w)"
        ),
        ("moe_layers", "experts", "top_k", "W_expert", "b_expert"),
        (
            "peak_expert",
            "c_expert",
            "expert_compute",
            "expert_half",
            "expert_spread",
            "ep_imbalance",
            "hbm_Bps",
            "w_expert",
        ),
    ),
    "attention": (
        "hypot(cache bytes / (B a), FLOP / (peak mla)) + 2 n state / (B a)",
        ("att_layers", "kv", "b_kv", "f_dec", "state_B"),
        ("hbm_Bps", "a_decode", "peak_16", "mla_compute"),
    ),
    "prefill_attention": (
        "FLOP of prompt tokens on their context / (peak a)",
        ("f_pre", "f_token"),
        ("peak_16", "a_prefill"),
    ),
    "layers": ("L x fixed time of a layer", ("L",), ("layer",)),
    "host": ("step + per_sequence n (+ prefill_step with a prompt)", (), ("step", "per_sequence", "prefill_step")),
    "tp": (
        "2 L (latency (1 + doubling (log2 tp - 1)) + 2 (tp - 1)/tp 2 m d / (link x share))",
        ("L", "tp", "d"),
        ("tp_latency", "tp_doubling", "link_Bps", "tp_link"),
    ),
    "ep": (
        "2 MoE layers (latency + 0.75 x 2 m d x min(top_k, ranks) / (exchange x share))",
        ("moe_layers", "top_k", "d", "dp"),
        ("ep_latency", "exchange_Bps", "ep_link"),
    ),
    "cp": ("L (latency log2 cp + 2 m d / (link x share))", ("L", "cp", "d"), ("tp_latency", "link_Bps", "tp_link")),
    "pp": (
        "(pp - 1) (latency + 2 m d / tp / (link x share))",
        ("pp", "tp", "d"),
        ("tp_latency", "link_Bps", "tp_link"),
    ),
}
"""Part of an engine step -> its formula (docs/serving.md), the work and the constants that it reads."""

OTHER_FORMULAS: Mapping[str, str] = {
    "prefill_interference": (
        "other users that decode / output tokens x (step with a prompt - step without) x steps of a prompt"
    ),
    "correction": (
        "(factor - 1) x the sum of the other parts; factor of model family, engine, chip and plan learnt from served"
        " rows"
    ),
    "prefill": "steps of one prompt, beside the sequences that decode",
    "step_wait": "share of the running step that an arriving prompt waits for",
    "queue": "queue share x load x prefill / (2 (1 - 0.7 load))",
    "start_burst": "burst share x (users - 1) x prefill / (2 rounds): zero for an endless run",
    "kv_wait": "(users - users whose cache fits) / users x time of a request, where the cache is full",
    "front_end": "fixed time before scheduling + time per prompt token",
    "visibility": "tokens between the first token and its arrival at the user x step",
    "prefill_queue_transfer": (
        "front end + transfer of the cache + T (1 + rho / (2 (1 - rho))): prompts in order on workers of their own"
    ),
}


BREAKEVEN = ("breakeven_usd_per_chip_h", "breakeven_W_per_chip")
"""Numbers of a row that are told against the best other one."""


def _job(inputs: Mapping[str, Any]) -> ServeJob:
    def limit(x: float | None) -> float:
        return math.inf if x is None else float(x)

    return ServeJob(
        prompt=float(inputs["isl"]),
        output=float(inputs["osl"]),
        ttft_s=limit(inputs.get("ttft_s")),
        tpot_s=limit(inputs.get("tpot_s")),
        cached=float(inputs.get("cached") or 0.0),
        accept=inputs.get("accept"),
    )


def chip_paths(d: Deployment) -> dict[str, tuple[str, ...]]:
    """Constant that the chip gives -> the facts behind it."""
    paths = d.system.paths
    links = tuple(p for k, p in paths.items() if k.endswith(".bandwidth"))
    peaks = {k.split(".")[1]: (p,) for k, p in paths.items() if k.startswith("peak_flops.")}
    own = peaks.get(d.plans[0].weights) or peaks.get("fp8") or peaks["bf16"]
    return {
        "hbm_Bps": (paths["hbm_Bps"],),
        "link_Bps": links,
        "exchange_Bps": links,
        "peak_16": peaks["bf16"],
        "peak_linear": own,
        "peak_expert": own,
    }


def constant_paths(d: Deployment, i: int) -> dict[str, tuple[str, ...]]:
    """Constant of plan i -> the facts behind it."""
    return {field: (d.table.names[int(index[i])],) for field, index in d.table.index.items()} | chip_paths(d)


def _scalar(holder: Shapes | Costs, name: str, i: int) -> float:
    values = np.asarray(getattr(holder, name))
    return float(np.max(values[..., i] if values.ndim else values))


def step_terms(
    d: Deployment, i: int, parts: Mapping[str, float], notes: Notes, *, users: float, context: float
) -> None:
    """Record every part of a step of plan i that takes time."""
    paths = constant_paths(d, i)
    for name, seconds in parts.items():
        if name in PART_FORMULAS:
            formula, work, constants = PART_FORMULAS[name]
            if seconds == 0.0:
                continue
            found = [p for c in constants for p in paths.get(c, ())]
            put_in: dict[str, Any] = {k: _scalar(d.shapes, k, i) for k in work} | {
                k: _scalar(d.costs, k, i) for k in constants
            }
            notes.add(
                name, seconds, "s", words=formula, n=users, context=context, facts=tuple(dict.fromkeys(found)), **put_in
            )
        elif seconds or len(parts) == 1:
            notes.add(name, seconds, "s", words=OTHER_FORMULAS.get(name, ""), users=users, facts=_around(name, paths))


def _around(name: str, paths: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The engine's facts that a part outside of the step reads."""
    fields_of = {
        "queue": ("queue_share",),
        "start_burst": ("burst_share",),
        "front_end": ("front_s", "front_token_s"),
        "visibility": ("visible_tokens",),
        "prefill": ("budget", "prefill_step", "peak_linear", "c_linear"),
        "prefill_interference": ("budget", "mixes", "prefill_step"),
        "prefill_queue_transfer": ("front_s", "front_token_s", "peak_linear", "c_linear"),
    }
    return tuple(dict.fromkeys(p for f in fields_of.get(name, ()) for p in paths.get(f, ())))


def serve_row(result: Result, at: Path, row: Mapping[str, Any], model: Model, facts: Facts) -> Source:
    """The source of a serving row with a plan."""
    inputs, job = result["inputs"], _job(result["inputs"])
    term = str(inputs.get("price_term", "default"))
    pair = [ServePlan.from_dict(row["decode"]), ServePlan.from_dict(row["prefill"])]
    plans = pair[:1] if pair[0] == pair[1] else pair
    together = row["mode"] == "aggregated"
    chips = int(row["chips_requested"])
    users = float(row["batch"]) / pair[0].dp
    others = [r for r in result.get("rows") or () if r is not row and r["feasible"] is not False]

    def breakeven(name: str, speed: float, known: Facts, notes: Notes | None = None) -> tuple[str, Estimate] | None:
        """(the best other row, the price or the power at which this row equals it); None where no row is known."""
        metric = "usd_per_mtok" if name == "breakeven_usd_per_chip_h" else "J_per_token"
        other = best_of(others, metric)
        if other is None:
            return None
        all_chips, always = exact(speed, "1/s"), exact(1.0, "1")
        if metric == "usd_per_mtok":
            return other[0], money.breakeven_usd_per_chip_h(
                other[1], chips=chips, tokens_per_s=all_chips, goodput=always, notes=notes
            )
        return other[0], energy.breakeven_W_per_chip(
            other[1],
            chips=chips,
            idle=int(row["chips_idle"]),
            tokens_per_s=all_chips,
            goodput=always,
            site=energy.site(known),
            notes=notes,
        )

    def deployment(known: Facts) -> Deployment:
        system = resolve(known, row["system_id"], chips=chips)
        return deploy(model, system, row["engine"], plans, known, accept=job.accept)

    def found(d: Deployment) -> tuple[float, float, Mapping[str, float], Mapping[str, float], float]:
        """(TTFT, TPOT, their parts, tokens per second) of the row's workers."""
        w = worker(d, job)
        if not together:
            got = search(d.system, w, job, top=64, together=False, pair=(len(plans) - 1, 0))
            points: list[Found] = [*got.best, *got.front, *([got.closest] if got.closest else [])]
            if not points:
                raise UserError("these prefill and decode workers keep no limit, or hold no request, with such facts")
            f = min(
                points,
                key=lambda f: (
                    abs(f.tpot_s - row["tpot_s"]["value"]) / row["tpot_s"]["value"]
                    + abs(f.workers - row["replicas"]["decode"])
                ),
            )
            return f.ttft_s, f.tpot_s, f.ttft_parts, f.tpot_parts, f.tokens_per_s
        one = np.ones(1)
        first = np.zeros(1, dtype=np.intp)
        load = Load(
            users=one * users,
            prompt=one * job.prompt,
            output=one * job.output,
            cached=one * job.cached,
            verify=w.verified[first],
            accepted=w.accepted[first],
            rounds=one * math.inf,
            is_static=one * 0,
        )
        got_ = closed_loop(d.shapes.take(first), d.costs.take(first), d.around_of(0), load, d.system.hbm_usable_B)
        x = w.load(np.array([users]))
        tpot = float(got_.tpot_s[0]) * math.exp(float(w.tpot[0][0] + w.tpot[1][0] * x[0]))
        ttft = float(got_.ttft_s[0]) * math.exp(float(w.ttft[0][0] + w.ttft[1][0] * x[0]))
        parts = [{k: float(v[0]) for k, v in p.items()} for p in (got_.ttft_parts, got_.tpot_parts)]
        for p, total in zip(parts, (ttft, tpot), strict=True):
            p["correction"] = total - sum(p.values())
        speed = users * pair[0].dp * job.output / (ttft + (job.output - 1.0) * tpot) * row["replicas"]["decode"]
        return ttft, tpot, parts[0], parts[1], speed

    def numbers(known: Facts, wanted: Path) -> Numbers:
        d = deployment(known)
        ttft, tpot, ttft_parts, tpot_parts, speed = found(d)
        out: dict[Path, float] = {
            ("ttft_s",): ttft,
            ("tpot_s",): tpot,
            ("tokens_per_s_per_chip",): speed / chips,
            ("tokens_per_s_per_user",): 1.0 / tpot,
            ("memory_capacity_B",): d.system.hbm_usable_B,
        }
        out |= {("ttft_s", "breakdown", k): v for k, v in ttft_parts.items()}
        out |= {("tpot_s", "breakdown", k): v for k, v in tpot_parts.items()}
        memory = serving_memory_B(d.shapes.take(np.zeros(1, dtype=np.intp)), d.around_of(0), d.system.hbm_usable_B)
        out |= {("memory_B", k): float(v[0]) for k, v in memory.items()}
        rate, watts, site = (
            money.price(known, d.system.id, term=term).rate.value,
            energy.power(known, d.system.id).value,
            energy.site(known),
        )
        if rate is not None:
            out[("usd_per_mtok",)] = chips * rate / speed * 1e6
        if watts is not None and site.pue.value and site.idle_share.value is not None:
            busy = row["chips_used"] + site.idle_share.value * row["chips_idle"]
            out[("J_per_token",)] = site.pue.value * watts * busy / speed
        for name in BREAKEVEN:
            even = breakeven(name, speed, known)
            if even is not None and even[1].value is not None:
                out[(name,)] = even[1].value
        return out

    now = deployment(facts)

    def terms(name: Path, notes: Notes) -> None:
        d = now
        first = str(name[0])
        if first in ("ttft_s", "tpot_s", "tokens_per_s_per_chip", "tokens_per_s_per_user"):
            parts = row["ttft_s" if first == "ttft_s" else "tpot_s"]["breakdown"]
            if len(name) > 2:
                parts = {name[2]: parts[name[2]]}
            step_terms(d, 0, parts, notes, users=users, context=job.prompt + 0.5 * job.output)
        elif first == "memory_B":
            memory_terms(d, notes, name)
        elif first == "usd_per_mtok":
            money.price(facts, d.system.id, term=term, notes=notes)
        elif first == "J_per_token":
            energy.power(facts, d.system.id, notes=notes)
        elif first in BREAKEVEN:
            even = breakeven(first, chips * float(row["tokens_per_s_per_chip"]["value"]), facts, notes)
            if even is not None:
                metric = "usd_per_mtok" if first == BREAKEVEN[0] else "J_per_token"
                best = best_of(others, metric)
                assert best is not None
                notes.add(f"best.{metric}", best[1].value, best[1].unit, note=f"of {even[0]}, the best other row")

    site, d = energy.site(facts), now
    symbols = {
        "isl": job.prompt,
        "osl": job.output,
        "pue": site.pue.value or 0.0,
        "idle_share": site.idle_share.value or 0.0,
        "hbm_usable": facts.number(d.system.paths["hbm_usable_B"]),
    }
    behind = {
        "pue": ("sites.default.pue",),
        "idle_share": ("sites.default.idle_power_share",),
        "hbm_usable": (d.system.paths["hbm_usable_B"],),
    }
    return Source(at=at, numbers=numbers, terms=terms, symbols=symbols, behind=behind, title=str(row["display"]))


def memory_terms(d: Deployment, notes: Notes, name: Path) -> None:
    """Record what a device of the first plan holds."""
    e = d.around_of(0)
    held = serving_memory_B(d.shapes.take(np.zeros(1, dtype=np.intp)), e, d.system.hbm_usable_B)
    paths = constant_paths(d, 0)
    plan, usable = d.plans[0], d.system.paths["hbm_usable_B"]
    if len(name) < 2 or name[1] == "weights":
        notes.add(
            "weights",
            held["weights"][0],
            "B",
            words="(linear b + experts b / (tp dp)) / pp + 4 head / min(pp, 2)",
            linear=_scalar(d.shapes, "W_linear", 0),
            b=_scalar(d.shapes, "b_linear", 0),
            b_expert=_scalar(d.shapes, "b_expert", 0),
            head=_scalar(d.shapes, "W_head", 0),
            tp=plan.tp,
            dp=plan.dp,
            pp=plan.pp,
            format=plan.weights,
        )
    if len(name) < 2 or name[1] == "reserve":
        notes.add(
            "reserve",
            held["reserve"][0],
            "B",
            words="usable x (1 - engine's share) + reserve",
            usable=d.system.hbm_usable_B,
            share=float(np.ravel(e.memory_share)[0]),
            reserve=float(np.ravel(e.reserve_B)[0]),
            facts=(usable, *paths["memory_share"], *paths["reserve_B"]),
        )
    if len(name) < 2 or name[1] == "kv":
        notes.add(
            "cache room",
            held["kv"][0],
            "B",
            words="usable - weights - reserve",
            usable=d.system.hbm_usable_B,
            weights=held["weights"][0],
            reserve=held["reserve"][0],
            facts=(usable,),
        )


def serve_fit(result: Result, at: Path, held: Mapping[str, Any], model: Model, facts: Facts) -> Source:
    """The source of one way of holding a served model: the result itself, or one of smallest_by_weights."""
    inputs = result["inputs"]
    plan, chips, tokens = ServePlan.from_dict(held["plan"]), int(held["chips"]), float(inputs["kv_tokens"])

    def deployment(known: Facts) -> Deployment:
        return deploy(model, resolve(known, result["system_id"], chips=chips), result["engine"], [plan], known)

    def numbers(known: Facts, wanted: Path) -> Numbers:
        d = deployment(known)
        fact = known.fact(d.system.paths["hbm_usable_B"])
        capacity = (fact.low or known.number(fact.path)) / d.system.devices_per_chip
        memory = serving_memory_B(d.shapes, d.around, capacity)
        each = float(kv_B_per_sequence(d.shapes, np.array([tokens]))[0])
        room = math.floor(max(float(memory["kv"][0]), 0.0) / each)
        requests = room * plan.dp * held["workers"]
        out: dict[Path, float] = {
            ("memory_B", "weights"): float(memory["weights"][0]),
            ("memory_B", "reserve"): float(memory["reserve"][0]),
            ("memory_B", "kv"): max(room, 1) * each,
            ("requests",): float(requests),
            ("memory_capacity_B",): capacity,
        }
        return out

    d = deployment(facts)

    def terms(name: Path, notes: Notes) -> None:
        each = float(kv_B_per_sequence(d.shapes, np.array([tokens]))[0])
        if name[0] in ("memory_B", "requests"):
            memory_terms(d, notes, name if name[0] == "memory_B" and name[-1] != "kv" else ())
            notes.add(
                "one request",
                each,
                "B",
                words="tokens x cache elements per token and rank x bytes, layers of its stage",
                tokens=tokens,
                format=plan.kv,
            )

    path = d.system.paths["hbm_usable_B"]
    fact = facts.fact(path)
    usable = result["memory_capacity_B"] * d.system.devices_per_chip if not at else fact.low or facts.number(path)
    each = float(kv_B_per_sequence(d.shapes, np.array([tokens]))[0])
    return Source(
        at=at,
        numbers=numbers,
        terms=terms,
        symbols={"hbm_usable": usable, "one_request": each, "usable": usable / d.system.devices_per_chip},
        behind={"hbm_usable": (path,), "usable": (path,)},
        title=f"{result['system_id']}: {model.name}",
    )
