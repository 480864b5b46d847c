"""LoRA adapters of a traffic scenario: the limits of the scheduler in its engine's words, and what they cost a pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from mowich.arrays import Floats
from mowich.errors import UserError
from mowich.facts import Facts
from mowich.scenario import Node
from mowich.serving.adapters import Targets, adapter_B, adapter_shapes, narrow_products_s, token_s
from mowich.serving.traffic.adapters import BASE, AdapterCosts
from mowich.serving.traffic.columns import Counts
from mowich.studies.serving import Deployment
from mowich.studies.traffic_load import MOST_RANK, AdapterLoad

_ENGINE_WORDS = {"sglang": ("max_loras_per_batch", "max_loaded_loras")}
"""Engine -> its words for adapters of a batch, and in host memory."""
USUAL_WORDS = ("max_loras", "max_cpu_loras")
"""Of vLLM, of engines that took over its arguments, and of TensorRT-LLM, which sizes its PEFT cache by them."""
MOST_LORAS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedAdapters:
    """The adapters of a load, and the limits of its engine. slots: of a batch and on the device; host: in host memory;
    rank: that memory is kept for and kernels run at; host_Bps: of the link to host memory (None: the chip's)."""

    load: AdapterLoad
    slots: int
    host: int
    rank: int
    host_Bps: float | None

    def bytes_of(self, d: Deployment) -> float:
        """Of one adapter on each device."""
        plan = d.plans[0]
        shapes = adapter_shapes(d.model, cast(Targets, self.load["targets"]), plan.tp)
        return adapter_B(shapes.elements, self.rank) / plan.pp


def lora_words(engine: str) -> tuple[str, str]:
    """An engine's words for adapters of a batch, and in host memory; of a build, those of its engine."""
    return next((words for name, words in _ENGINE_WORDS.items() if engine.startswith(name)), USUAL_WORDS)


def read_adapters(node: Node, load: AdapterLoad | None, facts: Facts, engine: str) -> AskedAdapters | None:
    """The limits among the keys of a scheduler; None where there are no adapters, or they are of rank 0."""
    words = lora_words(engine)
    for word in dict.fromkeys((*USUAL_WORDS, *(w for pair in _ENGINE_WORDS.values() for w in pair))):
        if word in node and word not in words:
            other = USUAL_WORDS.index(word) if word in USUAL_WORDS else next(iter(_ENGINE_WORDS.values())).index(word)
            node.wrong(word, f"is not an argument of {engine}", fix=f"{words[other]}: 8")
    if load is None:
        fix = "traffic: {adapters: {count: 8, ...}}"
        node.refuse("needs LoRA adapters", *words, "max_lora_rank", fix=fix)
        return None
    base = next((name for name in ("sglang", "trtllm") if engine.startswith(name)), "vllm")
    slots = int(node.count(words[0], facts.number(f"serving.lora.{base}_max_loras"), maximum=MOST_LORAS))
    # SGLang keeps all that were loaded; the others as many as a batch holds
    host = int(node.count(words[1], load["count"] if base == "sglang" else slots, maximum=1e6))
    if host < slots:
        node.problem(words[1], f"is below {words[0]}", given=host, allowed=f"at least {slots}")
    rank = int(node.count("max_lora_rank", max(1, load["rank"]), maximum=MOST_RANK))
    if rank < load["rank"]:
        node.problem("max_lora_rank", "is below the adapters' rank", given=rank, allowed=f"at least {load['rank']}")
    if not load["rank"]:
        return None
    return AskedAdapters(
        load=load, slots=slots, host=host, rank=rank, host_Bps=node.quantity("host_bandwidth", "B/s", minimum=1.0)
    )


FEWEST = 20
"""Requests of a tenant from which its 99th percentile is told: of fewer it is its slowest request."""


@dataclass(slots=True)
class TenantTally:
    """Times of answered requests by adapter, for the spread between tenants."""

    ttft: dict[int, list[float]] = field(default_factory=dict)
    e2e: dict[int, list[float]] = field(default_factory=dict)

    def add(self, adapters: Counts, ttft_s: Floats, e2e_s: Floats) -> None:
        """Columns of answered requests."""
        for times, values in ((self.ttft, ttft_s), (self.e2e, e2e_s)):
            for adapter, value in zip(adapters.tolist(), values.tolist(), strict=True):
                times.setdefault(adapter, []).append(value)

    def to_dict(self, loads: Sequence[tuple[int, int]]) -> dict[str, object]:
        """adapters that were asked for, loads to devices and reads from disk, and of the tenants with FEWEST requests
        at least: how many, and the best, the median and the worst of their 99th percentiles. loads: of each replica,
        and how many of them were read from disk."""
        many = [tenant for tenant, times in self.e2e.items() if len(times) >= FEWEST]
        out: dict[str, object] = {
            "adapters": sum(1 for tenant in self.e2e if tenant != BASE),
            "loads": sum(number for number, _ in loads),
            "reads": sum(number for _, number in loads),
            "counted": len(many),
        }
        for name, times in (("p99_ttft_s", self.ttft), ("p99_e2e_s", self.e2e)):
            marks = [float(np.quantile(np.array(times[tenant]), 0.99)) for tenant in many]
            ends = (min(marks), float(np.median(marks)), max(marks)) if marks else (None, None, None)
            out[name] = dict(zip(("best", "median", "worst"), ends, strict=True))
        return out


def adapter_costs(asked: AskedAdapters, d: Deployment, facts: Facts, where: str) -> AdapterCosts:
    """What adapters take of a worker. Raises UserError where the link to host memory is not known, and for data
    parallel attention, whose groups have batches of their own."""
    plan, c = d.plans[0], d.costs
    if plan.dp > 1:
        raise UserError(
            "LoRA adapters run on one group of ranks",
            where=f"{where} plan.dp",
            given=plan.dp,
            allowed="dp: 1",
            fix="more replicas",
        )
    host_Bps = asked.host_Bps or d.system.host_Bps
    if not host_Bps:
        raise UserError(
            "no fact says how fast the link to host memory is",
            where=f"{where} scheduler.host_bandwidth",
            allowed='a quantity such as "50 GB/s"',
        )
    shapes = adapter_shapes(d.model, cast(Targets, asked.load["targets"]), plan.tp)
    own_B, sent_B = (adapter_B(shapes.elements, rank) for rank in (asked.rank, asked.load["rank"]))
    memory_Bps, flops = (float(np.ravel(x)[0]) for x in (c.hbm_Bps * c.weights_16, c.rate("16")))
    return AdapterCosts(
        slots=asked.slots,
        host=asked.host,
        fixed_s=narrow_products_s(shapes.products, facts.number("serving.lora.kernel")),
        each_s=own_B / memory_Bps,
        token_s=token_s(shapes.moved, memory_Bps, shapes.elements, asked.rank, flops),
        load_s=sent_B / plan.pp / host_Bps,
        read_s=sent_B * plan.tp * plan.cp / facts.number("serving.lora.disk"),
    )
