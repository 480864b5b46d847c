"""Serving rows (plan --serve, compare --serve, fit --serve) and traffic made again at the worker plans that a result
states."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from mowich.economics import energy, money
from mowich.errors import UserError
from mowich.estimate import Notes, exact
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
from mowich.serving.pairs import paired_tokens_per_s
from mowich.serving.search import Found, ServeJob, search_serving
from mowich.serving.steady import Load, closed_loop, note_decode
from mowich.serving.step import step
from mowich.shown import Result
from mowich.software.engine import EngineCosts
from mowich.studies.explain.source import METRIC_OF_BREAKEVEN, BreakEven, Numbers, Source, break_even, note_best
from mowich.studies.explain.tree import ResultPath
from mowich.studies.pools import bounded
from mowich.studies.serving import Deployment, deploy
from mowich.studies.serving_plan import worker

_SHAPED = ("rows_half", "low_rows", "columns_half", "misaligned", "narrow_columns")
"""Constants of the shape of products."""

CONSTANTS_OF_PART: Mapping[str, tuple[str, ...]] = {
    "linear": (
        *("peak_linear", "product_linear", "products", *_SHAPED),
        *("hbm_Bps", "weights_linear", "reads_linear", "kernel_tables"),
    ),
    "head": ("peak_16", "product_16", "products", *_SHAPED, "hbm_Bps", "weights_16", "kernel_tables"),
    "experts": (
        "peak_expert",
        "product_expert",
        "products",
        *_SHAPED,
        "expert_compute",
        "expert_spread",
        "ep_imbalance",
        "ep_uneven",
        "hbm_Bps",
        "weights_expert",
        "reads_expert",
        "expert_reads",
        "kernel_tables",
    ),
    "attention": ("hbm_Bps", "a_decode", "peak_16", "mla_compute", "kernel_tables"),
    "prefill_attention": ("peak_16", "attention", "attention_half", "attention_kernels", "kernel_tables"),
    "activations": ("activation_passes", "quantise_linear", "hbm_Bps", "memory"),
    "layers": (
        *("kernel", "layer", "moe_layer", "expert_launch", "prefill_layer", "prefill_kernel"),
        *("fixed_times", "reduce_norms"),
    ),
    "host": ("step", "per_sequence", "guess_host", "prefill_step"),
    "tp": ("tp_latency", "reduce_per_B", "tp_graph", "tp_wires"),
    "ep": ("ep_latency", "inside_per_B", "tp_graph", "ep_wires"),
    "cp": ("tp_latency", "next_per_B", "tp_graph", "tp_wires"),
    "pp": ("tp_latency", "stage_per_B", "tp_graph", "tp_wires"),
    "queue": ("queue_share",),
    "start_burst": ("burst_share",),
    "lockstep": ("lockstep", "together"),
    "held": (),
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
    "kv_transfer": "the prompt's cache and recurrent state, sent by a prefill worker and received by one that decodes",
}
"""Parts that no formula of one worker gives."""

SOUGHT = "of the pair of workers that the search chose, by the formulas of docs/serving.md"
"""Of parts where prefill and decode have workers of their own."""


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
        "guess_host",
        "kernel",
        "kernel_tables",
        "moe_layer",
        "reads",
        "expert_reads",
        "expert_launch",
        "prefill_layer",
        "prefill_kernel",
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


@dataclass(frozen=True, kw_only=True)
class _ServedRow:
    """A serving row with a plan, and the deployment that made it. plans: the decode worker's and, where prefill has
    workers of its own, theirs; others: the rows that it is told against."""

    result: Result
    row: Result
    model: Model
    facts: Facts
    job: ServeJob
    plans: tuple[ServePlan, ...]
    others: tuple[Result, ...]

    @property
    def together(self) -> bool:
        """Whether the same workers prefill and decode."""
        return bool(self.row["mode"] == "aggregated")

    @property
    def chips(self) -> int:
        return int(self.row["chips_requested"])

    @property
    def users(self) -> float:
        """Users of one rank group."""
        return float(self.row["batch"]) / self.plans[0].dp

    @property
    def term(self) -> str:
        return str(self.result["inputs"].get("price_term", "default"))

    @cached_property
    def here(self) -> Deployment:
        """The deployment under the facts of the result."""
        return self.deployment(self.facts)

    @cached_property
    def recorded(self) -> Notes:
        """The formulas of its times: all, or of a step where workers only decode."""
        made = Notes()
        if self.together:
            self.found(self.here, made)
        else:
            self.decode_terms(made)
        return made

    @cached_property
    def pair(self) -> Found:
        """The point of its prefill and decode workers under the facts of the result."""
        return self.pair_found(self.here)

    def deployment(self, known: Facts) -> Deployment:
        system = resolve(known, self.row["system_id"], chips=self.chips)
        return deploy(self.model, system, self.row["engine"], self.plans, known, accept=self.job.accept)

    def break_even(self, name: str, tokens_per_s: float, known: Facts, notes: Notes | None = None) -> BreakEven | None:
        """Where the row equals the best other one. tokens_per_s: of all chips."""
        return break_even(
            name,
            self.others,
            known,
            chips=self.chips,
            idle=int(self.row["chips_idle"]),
            tokens_per_s=exact(tokens_per_s, "1/s"),
            goodput=exact(1.0, "1"),
            notes=notes,
        )

    def pair_found(self, d: Deployment) -> Found:
        """The point of the row's prefill and decode workers."""
        row, users = self.row, self.users
        most = bounded(self.result["inputs"].get("fixed") or {})
        pair = (len(self.plans) - 1, 0)
        got = search_serving(d.system, worker(d, self.job), self.job, top=64, together=False, pair=pair, **most)
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

    def found(self, d: Deployment, notes: Notes | None = None) -> _Served:
        """What the row's workers do."""
        if not self.together:
            f = self.pair_found(d)
            return _Served(f.ttft_s, f.tpot_s, f.ttft_parts, f.tpot_parts, f.tokens_per_s)
        w, job, users = worker(d, self.job), self.job, self.users
        one = np.ones(1)
        first = np.zeros(1, dtype=np.intp)
        load = Load(
            users=one * users,
            prompt=one * job.prompt,
            output=one * job.output,
            cached=one * job.cached,
            verify=w.verified[first],
            accepted=w.accepted[first],
            held=one * 0,
            gathers=one,
            rounds=one * math.inf,
            is_static=one * 0,
        )
        loop = closed_loop(
            d.shapes.take(first), d.costs.take(first), d.around_of(0), load, d.system.hbm_usable_B, notes=notes
        )
        x = w.load(np.array([users]))
        tpot = float(loop.tpot_s[0]) * math.exp(float(w.tpot[0][0] + w.tpot[1][0] * x[0]))
        ttft = float(loop.ttft_s[0]) * math.exp(float(w.ttft[0][0] + w.ttft[1][0] * x[0]))
        parts = [{k: float(v[0]) for k, v in p.items()} for p in (loop.ttft_parts, loop.tpot_parts)]
        for p, total in zip(parts, (ttft, tpot), strict=True):
            p["correction"] = total - sum(p.values())
        answer_s = ttft + (job.output - 1.0) * tpot
        speed = users * self.plans[0].dp * job.output / answer_s * self.row["replicas"]["decode"]
        return _Served(ttft, tpot, parts[0], parts[1], speed)

    def decode_terms(self, made: Notes) -> None:
        """Record the parts of a step of workers that only decode."""
        d = self.here
        w, first, here = worker(d, self.job), np.zeros(1, dtype=np.intp), Notes()
        n, context = self.users / max(1.0, self.plans[0].pp), self.job.prompt + 0.5 * self.job.output
        shapes, costs = d.shapes.take(first), d.costs.take(first)
        parts = step(shapes, costs, n=n, context=context, verify=w.verified[first], notes=here)
        note_decode(made, parts, here, d.around_of(0), w.accepted[first])

    def numbers(self, known: Facts, wanted: ResultPath) -> Numbers:
        """Every number of the row under other facts."""
        d = self.deployment(known)
        served = self.found(d)
        out: dict[ResultPath, float] = {
            ("ttft_s",): served.ttft_s,
            ("tpot_s",): served.tpot_s,
            ("tokens_per_s_per_chip",): served.tokens_per_s / self.chips,
            ("tokens_per_s_per_user",): 1.0 / served.tpot_s,
            ("memory_capacity_B",): d.system.hbm_usable_B,
        }
        out |= {("ttft_s", "breakdown", k): v for k, v in served.ttft_parts.items()}
        out |= {("tpot_s", "breakdown", k): v for k, v in served.tpot_parts.items()}
        memory = serving_memory_B(d.shapes.take(np.zeros(1, dtype=np.intp)), d.around_of(0), d.system.hbm_usable_B)
        out |= {("memory_B", k): float(v[0]) for k, v in memory.items()}
        rate = money.price(known, d.system.id, term=self.term).rate.value
        watts, site = energy.chip_power(known, d.system.id).value, energy.read_site(known)
        if rate is not None:
            out[("usd_per_mtok",)] = self.chips * rate / served.tokens_per_s * 1e6
        if watts is not None and site.pue.value and site.idle_share.value is not None:
            busy = self.row["chips_used"] + site.idle_share.value * self.row["chips_idle"]
            out[("J_per_token",)] = site.pue.value * watts * busy / served.tokens_per_s
        for name in METRIC_OF_BREAKEVEN:
            even = self.break_even(name, served.tokens_per_s, known)
            if even is not None and even.value.value is not None:
                out[(name,)] = even.value.value
        return out

    def terms(self, name: ResultPath, notes: Notes) -> None:
        """Record what a number of the row is made of."""
        d, first = self.here, str(name[0])
        if first in ("ttft_s", "tpot_s", "tokens_per_s_per_chip", "tokens_per_s_per_user"):
            self.time_terms(name, notes)
        elif first == "memory_B":
            memory_terms(d, notes, name)
        elif first == "usd_per_mtok":
            money.price(self.facts, d.system.id, term=self.term, notes=notes)
        elif first == "J_per_token":
            energy.chip_power(self.facts, d.system.id, notes=notes)
        elif first in METRIC_OF_BREAKEVEN:
            speed = self.chips * float(self.row["tokens_per_s_per_chip"]["value"])
            even = self.break_even(first, speed, self.facts, notes)
            if even is not None:
                note_best(first, even, notes)

    def time_terms(self, name: ResultPath, notes: Notes) -> None:
        """Record the parts of a time, or of the time that a speed is one over; of a speed of pairs, the pairs too."""
        parts = self.row["ttft_s" if name[0] == "ttft_s" else "tpot_s"]["breakdown"]
        if len(name) > 2:
            parts = {name[2]: parts[name[2]]}
        made = self.recorded if self.together or name[0] != "ttft_s" else Notes()
        part_terms(self.here, 0, parts, made, notes)
        if name[0] == "tokens_per_s_per_chip" and not self.together:
            f = self.pair
            notes.add(
                "tokens_per_s",
                f.tokens_per_s,
                "1/s",
                paired_tokens_per_s,
                prefill_workers=f.prefill_workers,
                prompts_per_s=f.prompts_per_s,
                decode_workers=f.workers,
                answers_per_s=f.answers_per_s,
                osl=self.job.output,
            )


class _Served(NamedTuple):
    """Times of the row's workers, s, with their parts, and their tokens per second."""

    ttft_s: float
    tpot_s: float
    ttft_parts: Mapping[str, float]
    tpot_parts: Mapping[str, float]
    tokens_per_s: float


def serve_row(result: Result, at: ResultPath, row: Result, model: Model, facts: Facts) -> Source:
    """The source of a serving row with a plan."""
    decode, prefill = ServePlan.from_dict(row["decode"]), ServePlan.from_dict(row["prefill"])
    served = _ServedRow(
        result=result,
        row=row,
        model=model,
        facts=facts,
        job=_job(result["inputs"]),
        plans=(decode,) if decode == prefill else (decode, prefill),
        others=tuple(r for r in result.get("rows") or () if r is not row and r["feasible"] is not False),
    )
    site, usable = energy.read_site(facts), served.here.system.paths["hbm_usable_B"]
    symbols = {
        "isl": served.job.prompt,
        "osl": served.job.output,
        "pue": site.pue.value or 0.0,
        "idle_share": site.idle_share.value or 0.0,
        "hbm_usable": facts.number(usable),
    }
    behind = {
        "pue": ("sites.default.pue",),
        "idle_share": ("sites.default.idle_power_share",),
        "hbm_usable": (usable,),
    }
    return Source(
        at=at, numbers=served.numbers, terms=served.terms, symbols=symbols, behind=behind, title=str(row["display"])
    )


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
            taken=e.of_free * (held["weights"] + e.reserve_B),
            facts=(usable, *paths["memory_share"], *paths["reserve_B"], *paths["of_free"]),
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
