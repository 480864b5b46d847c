"""Serving rows (plan --serve, compare --serve, fit --serve) and traffic made again at the worker plans that a result
states."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from mowich.economics import energy, money
from mowich.errors import UserError
from mowich.estimate import Estimate, Notes, exact
from mowich.facts import Facts
from mowich.machines.system import resolve
from mowich.models.model import Model
from mowich.plans.memory import (
    cache_room_B,
    kept_by_engine_B,
    kv_B_per_sequence,
    served_weights_B,
    serving_memory_B,
)
from mowich.plans.plan import ServePlan
from mowich.plans.shapes import Shapes
from mowich.serving.search import Found, ServeJob, Worker, paired_tokens_per_s, search_serving
from mowich.serving.steady import Load, closed_loop, note_decode
from mowich.serving.step import step
from mowich.shown import Result
from mowich.software.engine import EngineCosts
from mowich.studies.explain.source import Numbers, Source, best_of
from mowich.studies.explain.tree import ResultPath
from mowich.studies.pools import bounded
from mowich.studies.serving import Deployment, deploy
from mowich.studies.serving_plan import worker

_SHAPED = ("rows_half", "low_rows", "columns_half", "misaligned", "narrow_columns")
"""Constants of the shape of products."""

CONSTANTS_OF_PART: Mapping[str, tuple[str, ...]] = {
    "linear": ("peak_linear", "product_linear", "products", *_SHAPED, "hbm_Bps", "weights_linear", "kernel_tables"),
    "head": ("peak_16", "product_16", "products", *_SHAPED, "hbm_Bps", "weights_16", "kernel_tables"),
    "experts": (
        "peak_expert",
        "product_expert",
        "products",
        *_SHAPED,
        "expert_compute",
        "expert_spread",
        "ep_imbalance",
        "hbm_Bps",
        "weights_expert",
        "expert_reads",
        "kernel_tables",
    ),
    "attention": ("hbm_Bps", "a_decode", "peak_16", "mla_compute", "kernel_tables"),
    "prefill_attention": ("peak_16", "attention", "attention_half", "attention_kernels", "kernel_tables"),
    "activations": ("activation_passes", "quantise_linear", "hbm_Bps", "memory"),
    "layers": ("kernel", "layer", "moe_layer", "expert_launch", "prefill_layer", "fixed_times"),
    "host": ("step", "per_sequence", "prefill_step"),
    "tp": ("tp_latency", "reduce_per_B", "tp_graph", "tp_wires"),
    "ep": ("ep_latency", "inside_per_B", "tp_graph", "ep_wires"),
    "cp": ("tp_latency", "next_per_B", "tp_graph", "tp_wires"),
    "pp": ("tp_latency", "stage_per_B", "tp_graph", "tp_wires"),
    "queue": ("queue_share",),
    "start_burst": ("burst_share",),
    "lockstep": ("lockstep",),
    "front_end": ("front_s", "front_token_s"),
    "visibility": ("visible_tokens",),
    "prefill": ("budget", "prefill_step", "peak_linear", "product_linear", "products"),
    "prefill_interference": ("budget", "mixes", "prefill_step"),
    "kv_transfer": ("link_Bps",),
}
"""Part of an engine step, or of the time around it -> the constants that it reads."""

WORDS_OF_PART: Mapping[str, str] = {
    "correction": "what served rows of this family, engine, chip and plan differ by, on the sum of the other parts",
    "queue": "wait for the prompts before it, which workers of their own prefill in order",
    "kv_transfer": "bytes of the prompt's cache over the links of a prefill worker",
}
"""Parts that no formula of one worker gives."""

SOUGHT = "of the pair of workers that the search chose, by the formulas of docs/serving.md"
"""Of parts where prefill and decode have workers of their own."""


_BREAKEVEN = ("breakeven_usd_per_chip_h", "breakeven_W_per_chip")
"""Numbers of a row that are told against the best other one."""


def _job(inputs: Result) -> ServeJob:
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
    wires = tuple(p for k, p in paths.items() if k.endswith((".bandwidth", ".latency")) or k.startswith("fabric."))
    peaks = {k.split(".")[1]: (p,) for k, p in paths.items() if k.startswith("peak_flops.")}
    own = peaks.get(d.plans[0].weights) or peaks.get("fp8") or peaks["bf16"]
    return {
        "hbm_Bps": (paths["hbm_Bps"],),
        "link_Bps": links,
        **{f"{wire}_per_B": wires for wire in ("reduce", "inside", "next", "stage")},
        "peak_16": peaks["bf16"],
        "peak_linear": own,
        "peak_expert": own,
    }


_NEUTRAL = tuple(
    f"serving.common.{name}"
    for name in (
        "kernel",
        "kernel_tables",
        "moe_layer",
        "expert_reads",
        "expert_launch",
        "prefill_layer",
        "fixed_times",
    )
)
"""What an engine has that does not state these: nothing, or once. Facts that explain no time."""


def constant_paths(d: Deployment, i: int) -> dict[str, tuple[str, ...]]:
    """Constant of plan i -> the facts behind it."""
    return {field: (d.table.names[int(index[i])],) for field, index in d.table.index.items()} | chip_paths(d)


def _scalar(holder: Shapes | EngineCosts, name: str, i: int) -> float:
    values = np.asarray(getattr(holder, name))
    return float(np.max(values[..., i] if values.ndim else values))


def part_terms(d: Deployment, i: int, parts: Mapping[str, float], made: Notes, notes: Notes) -> None:
    """Record every part that takes time, of plan i, with the terms that `made` holds of it and the facts behind it."""
    paths = constant_paths(d, i)
    for name, seconds in parts.items():
        facts = tuple(
            dict.fromkeys(p for c in CONSTANTS_OF_PART.get(name, ()) for p in paths.get(c, ()) if p not in _NEUTRAL)
        )
        own = {k: t for k, t in made.terms.items() if k == name or k.startswith(f"{name}.")}
        if name in own and abs(own[name].value - seconds) <= 1e-9 * abs(seconds):
            notes.terms |= {k: replace(t, facts=facts) for k, t in own.items()}
        elif seconds or len(parts) == 1:
            notes.add(name, seconds, "s", words=WORDS_OF_PART.get(name, SOUGHT) if seconds else "none", facts=facts)


def serve_row(result: Result, at: ResultPath, row: Result, model: Model, facts: Facts) -> Source:
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
            site=energy.read_site(known),
            notes=notes,
        )

    def deployment(known: Facts) -> Deployment:
        system = resolve(known, row["system_id"], chips=chips)
        return deploy(model, system, row["engine"], plans, known, accept=job.accept)

    def pair_found(d: Deployment, w: Worker) -> Found:
        """The point of the row's prefill and decode workers."""
        most = bounded(inputs.get("fixed") or {})
        got = search_serving(d.system, w, job, top=64, together=False, pair=(len(plans) - 1, 0), **most)
        points: list[Found] = [*got.best, *got.front, *([got.closest] if got.closest else [])]
        if not points:
            raise UserError("these prefill and decode workers keep no limit, or hold no request, with such facts")
        return min(
            points,
            key=lambda f: (
                abs(f.tpot_s - row["tpot_s"]["value"]) / row["tpot_s"]["value"]
                + abs(f.workers - row["replicas"]["decode"])
                + abs(f.prefill_workers - row["replicas"]["prefill"])
                + abs(f.users - users) / users
            ),
        )

    def found(
        d: Deployment, notes: Notes | None = None
    ) -> tuple[float, float, Mapping[str, float], Mapping[str, float], float]:
        """(TTFT, TPOT, their parts, tokens per second) of the row's workers."""
        w = worker(d, job)
        if not together:
            f = pair_found(d, w)
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
        got_ = closed_loop(
            d.shapes.take(first), d.costs.take(first), d.around_of(0), load, d.system.hbm_usable_B, notes=notes
        )
        x = w.load(np.array([users]))
        tpot = float(got_.tpot_s[0]) * math.exp(float(w.tpot[0][0] + w.tpot[1][0] * x[0]))
        ttft = float(got_.ttft_s[0]) * math.exp(float(w.ttft[0][0] + w.ttft[1][0] * x[0]))
        parts = [{k: float(v[0]) for k, v in p.items()} for p in (got_.ttft_parts, got_.tpot_parts)]
        for p, total in zip(parts, (ttft, tpot), strict=True):
            p["correction"] = total - sum(p.values())
        speed = users * pair[0].dp * job.output / (ttft + (job.output - 1.0) * tpot) * row["replicas"]["decode"]
        return ttft, tpot, parts[0], parts[1], speed

    def decode_terms(d: Deployment, made: Notes) -> None:
        """Record the parts of a step of workers that only decode."""
        w, first, here = worker(d, job), np.zeros(1, dtype=np.intp), Notes()
        n, context = users / max(1.0, pair[0].pp), job.prompt + 0.5 * job.output
        shapes, costs = d.shapes.take(first), d.costs.take(first)
        parts = step(shapes, costs, n=n, context=context, verify=w.verified[first], notes=here)
        note_decode(made, parts, here, d.around_of(0), w.accepted[first])

    def numbers(known: Facts, wanted: ResultPath) -> Numbers:
        d = deployment(known)
        ttft, tpot, ttft_parts, tpot_parts, speed = found(d)
        out: dict[ResultPath, float] = {
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
            energy.chip_power(known, d.system.id).value,
            energy.read_site(known),
        )
        if rate is not None:
            out[("usd_per_mtok",)] = chips * rate / speed * 1e6
        if watts is not None and site.pue.value and site.idle_share.value is not None:
            busy = row["chips_used"] + site.idle_share.value * row["chips_idle"]
            out[("J_per_token",)] = site.pue.value * watts * busy / speed
        for name in _BREAKEVEN:
            even = breakeven(name, speed, known)
            if even is not None and even[1].value is not None:
                out[(name,)] = even[1].value
        return out

    now = deployment(facts)

    def terms(name: ResultPath, notes: Notes) -> None:
        d = now
        first = str(name[0])
        if first in ("ttft_s", "tpot_s", "tokens_per_s_per_chip", "tokens_per_s_per_user"):
            parts = row["ttft_s" if first == "ttft_s" else "tpot_s"]["breakdown"]
            if len(name) > 2:
                parts = {name[2]: parts[name[2]]}
            made = Notes()
            if together:
                found(d, made)
            elif first != "ttft_s":
                decode_terms(d, made)
            part_terms(d, 0, parts, made, notes)
            if first == "tokens_per_s_per_chip" and not together:
                f = pair_found(d, worker(d, job))
                notes.add(
                    "tokens_per_s",
                    f.tokens_per_s,
                    "1/s",
                    paired_tokens_per_s,
                    prefill_workers=f.prefill_workers,
                    prompts_per_s=f.prompts_per_s,
                    decode_workers=f.workers,
                    answers_per_s=f.answers_per_s,
                    osl=job.output,
                )
        elif first == "memory_B":
            memory_terms(d, notes, name)
        elif first == "usd_per_mtok":
            money.price(facts, d.system.id, term=term, notes=notes)
        elif first == "J_per_token":
            energy.chip_power(facts, d.system.id, notes=notes)
        elif first in _BREAKEVEN:
            even = breakeven(first, chips * float(row["tokens_per_s_per_chip"]["value"]), facts, notes)
            if even is not None:
                metric = "usd_per_mtok" if first == _BREAKEVEN[0] else "J_per_token"
                best = best_of(others, metric)
                assert best is not None
                notes.add(f"best.{metric}", best[1].value, best[1].unit, note=f"of {even[0]}, the best other row")

    site, d = energy.read_site(facts), now
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


def memory_terms(d: Deployment, notes: Notes, name: ResultPath) -> None:
    """Record what a device of the first plan holds."""
    e, s = d.around_of(0), d.shapes.take(np.zeros(1, dtype=np.intp))
    held = serving_memory_B(s, e, d.system.hbm_usable_B)
    paths = constant_paths(d, 0)
    plan, usable = d.plans[0], d.system.paths["hbm_usable_B"]
    if len(name) < 2 or name[1] == "weights":
        notes.add(
            "weights",
            held["weights"],
            "B",
            served_weights_B,
            linear=s.W_linear,
            b=s.b_linear,
            experts_B=np.sum(s.moe_layers * s.experts * s.W_expert, axis=0) * s.b_expert,
            ranks=plan.tp * plan.dp,
            pp=plan.pp,
            head=s.W_head,
            format=plan.weights,
        )
    if len(name) < 2 or name[1] == "reserve":
        notes.add(
            "reserve",
            held["reserve"],
            "B",
            kept_by_engine_B,
            usable=d.system.hbm_usable_B,
            share=e.memory_share,
            reserve=e.reserve_B,
            facts=(usable, *paths["memory_share"], *paths["reserve_B"]),
        )
    if len(name) < 2 or name[1] == "kv":
        notes.add(
            "cache room",
            held["kv"],
            "B",
            cache_room_B,
            usable=d.system.hbm_usable_B,
            weights=held["weights"],
            reserve=held["reserve"],
            facts=(usable,),
        )


def serve_fit(result: Result, at: ResultPath, held: Result, model: Model, facts: Facts) -> Source:
    """The source of one way of holding a served model: the result itself, or one of smallest_by_weights."""
    inputs = result["inputs"]
    plan, chips, tokens = ServePlan.from_dict(held["plan"]), int(held["chips"]), float(inputs["kv_tokens"])

    def deployment(known: Facts) -> Deployment:
        return deploy(model, resolve(known, result["system_id"], chips=chips), result["engine"], [plan], known)

    def numbers(known: Facts, wanted: ResultPath) -> Numbers:
        d = deployment(known)
        fact = known.fact(d.system.paths["hbm_usable_B"])
        capacity = (fact.low or known.number(fact.path)) / d.system.devices_per_chip
        memory = serving_memory_B(d.shapes, d.around, capacity)
        each = float(kv_B_per_sequence(d.shapes, np.array([tokens]))[0])
        room = math.floor(max(float(memory["kv"][0]), 0.0) / each)
        requests = room * plan.dp * held["workers"]
        out: dict[ResultPath, float] = {
            ("memory_B", "weights"): float(memory["weights"][0]),
            ("memory_B", "reserve"): float(memory["reserve"][0]),
            ("memory_B", "kv"): max(room, 1) * each,
            ("requests",): float(requests),
            ("memory_capacity_B",): capacity,
        }
        return out

    d = deployment(facts)

    def terms(name: ResultPath, notes: Notes) -> None:
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
