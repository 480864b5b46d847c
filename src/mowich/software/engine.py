"""Serving engines: what an engine and a chip family reach of published rates, and what the engine adds around steps.

Every number is a fact: `serving.<family>.*`, `serving.<engine>.*`, `serving.common.*`. An engine is a file of
facts; which one a vendor's machines have unless one is named is a fact too (`software.vendors`). Which fact each
constant of a case comes from also depends on its formats and its architecture: `serving.engines`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from mowich.arrays import Columns, Floats
from mowich.errors import unknown
from mowich.facts import Facts
from mowich.machines.system import System
from mowich.machines.wires import MeasuredWire, Wire
from mowich.models.model import Model
from mowich.software.releases import release_words
from mowich.software.vendors import HAND_TUNED, software_of, split_words

FAMILY = {
    "a_decode": "decode_attention",
}
"""Constant -> fact of the chip's family (`serving.<family>.*`)."""
DEVICE_CONSTANTS = (
    "product_16",
    "weights_16",
    "rows_half",
    "low_rows",
    "columns_half",
    "misaligned",
    "narrow_columns",
    "memory",
    "attention",
    "attention_half",
)
"""Constants of the device's operators that every case has (`devices.*`); others go by format (`serving.engines`)."""
ENGINE_FACTS = {
    "tp_latency": "tp_latency",
    "step": "step",
    "per_sequence": "per_sequence",
    "prefill_step": "prefill_step",
}
"""Constant of a step -> fact of the engine (`serving.<engine>.*`)."""
COMMON = (
    "mla_compute",
    "expert_compute",
    "expand",
    "expert_spread",
    "ep_imbalance",
    "ep_latency",
    "ep_wires",
    "tp_wires",
    "generation",
    "visible_yearly",
    "visible_year",
)
"""Constants that every engine shares (`serving.common.*`)."""
STACK = {
    "moe_layer": "moe_layer",
    "expert_reads": "expert_reads",
    "expert_visit": "expert_visit",
    "expert_launch": "expert_launch",
    "launch_ep": "launch_ep",
    "prefill_layer": "prefill_layer",
    "prefill_kernel": "prefill_kernel",
    "capture": "capture",
    "packs": "packs_prompts",
    "of_free": "memory_of_free",
    "answer_held": "answer_held",
    "kernel": "kernel",
    "activation_passes": "activation_passes",
    "kernel_tables": "kernel_tables",
    "ep_uneven": "ep_uneven",
    "guess_host": "guess_host",
    "tp_graph": "tp_graph",
    "products": "products",
    "attention_kernels": "attention_kernels",
    "prompt_products": "prompt_products",
}
"""Constant -> fact of an engine that states it, else of `serving.common`: what only some engines have."""
READS = ("dense_4", "widened_4")
"""Facts of engines: shares of the rate at which 4-bit weights are read, that of experts which the chip multiplies in 4
bits: of products outside of experts, and of weights that kernels widen to 16 bits on such a chip."""
GENERATIONS = "generations"
"""Facts that say of a family of Trainium what its generation multiplies fixed times by, else
`serving.common.fixed_times`; and, in the file of a family, how many generations of NVIDIA's it is after Hopper, each of
which multiplies them by `serving.common.generation` (else none: `serving.common.generations`)."""
UNSTATED = "serving.unstated"
"""Facts of settings that nobody stated, `<engine>_<setting>`: the mean over the measured rows of that engine that
state it."""
AROUND = {
    "budget": "prompt_budget",
    "mixes": "mixes_prompts",
    "front_s": "front_end",
    "front_token_s": "front_end_per_token",
    "memory_share": "memory_share",
    "reserve_B": "reserve",
}
"""Constant around steps -> fact of the engine."""


def engine_names(facts: Facts) -> list[str]:
    """The engines that facts describe: files of `facts/serving` with the fixed time of a step."""
    return [name for name in facts.ids("serving") if facts.get(f"serving.{name}.step") is not None]


def engine_for(facts: Facts, system: System, name: str | None, model: Model | None = None) -> str:
    """The engine to use: the named one, else that of the system's chip, else that of its vendor, or for a mixture of
    experts that it has no recipe for what its facts name (`serving.<engine>.other_mixtures`). For "hand-tuned" it is
    the engine with kernels written by hand that the shipped one's facts name (`serving.<engine>.hand_tuned`); where
    they name none, that one itself. An engine that has a build of its own for the chips of a vendor is that build there
    (`build_for`). Raises UserError for one that is not known.

    >>> from mowich.facts import load_facts
    >>> from mowich.machines.system import resolve
    >>> from mowich.models import load_model
    >>> facts = load_facts()
    >>> [engine_for(facts, resolve(facts, "trn3"), None, load_model(m)) for m in ("llama-3.1-8b", "deepseek-v3")]
    ['vllm-neuron', 'nxdi-port']
    """
    shipped = software_of(facts, system.chip, system.vendor, "serving_engine")
    served = shipped if model is None else _with_recipe(facts, shipped, model)
    engine = _by_hand(facts, shipped) if name == HAND_TUNED else name or served
    known = engine_names(facts)
    if engine not in known:
        raise unknown("engine", engine, known, field="engine")
    return build_for(facts, engine, system.vendor)


def build_for(facts: Facts, engine: str, vendor: str) -> str:
    """The build of an engine for the chips of a vendor: the engine whose facts say that it is one
    (`serving.<build>.build_of`, `build_vendor`), else the engine itself. On the chips of another vendor a build is the
    engine that it is one of.

    >>> from mowich.facts import load_facts
    >>> [build_for(load_facts(), engine, vendor) for engine in ("vllm", "vllm-rocm") for vendor in ("AMD", "NVIDIA")]
    ['vllm-rocm', 'vllm', 'vllm-rocm', 'vllm']
    """

    def builds(known: Facts) -> dict[str, tuple[str, str]]:
        of = {name: known.get(f"serving.{name}.build_of") for name in known.ids("serving")}
        return {n: (str(f.value), known.text(f"serving.{n}.build_vendor")) for n, f in of.items() if f is not None}

    known = facts.once(("builds of engines",), builds)
    base = known[engine][0] if engine in known else engine
    return next((name for name, made in known.items() if made == (base, vendor)), base)


def _with_recipe(facts: Facts, engine: str, model: Model) -> str:
    """The engine that a model has a recipe in: this one, unless its facts say which mixtures of experts it has
    (`mixtures`: beginnings of architectures' names) and the model is another mixture."""
    mixtures, others = (facts.get(f"serving.{engine}.{what}") for what in ("mixtures", "other_mixtures"))
    if mixtures is None or others is None or not model.has_experts:
        return engine
    return engine if model.architecture.startswith(split_words(str(mixtures.value))) else str(others.value)


def kernels_shipped(facts: Facts, system: System, model: Model) -> str | None:
    """The engine with kernels written by hand that ships for a model on a system: of its chip, with its logical cores.
    It decodes on workers of their own, and only there. None where none ships."""
    engine = _by_hand(facts, software_of(facts, system.chip, system.vendor, "serving_engine"))
    ships = [facts.get(f"serving.{engine}.ships_{what}") for what in ("model", "chip", "lnc")]
    is_it = [None if fact is None else fact.value for fact in ships] == [model.name, system.chip, float(system.lnc)]
    return engine if is_it else None


def _by_hand(facts: Facts, engine: str) -> str:
    """The engine whose kernels are written by hand in the place of this one's; this one where there is none."""
    named = facts.get(f"serving.{engine}.hand_tuned")
    return engine if named is None else str(named.value)


def packs_prompts(facts: Facts, engine: str) -> bool:
    """Whether several prompts share a step: the engine's own word, else what all engines do."""
    own = f"serving.{engine}.packs_prompts"
    return facts.number(own if facts.get(own) else "serving.common.packs_prompts") > 0.5


def newest_release(facts: Facts, engine: str) -> float:
    """The year of the release that a plan is of: `serving.<engine>.release_year`; nan where the facts say none, so that
    no trend by date is applied.

    >>> from mowich.facts import load_facts
    >>> newest_release(load_facts(), "vllm"), newest_release(load_facts(), "jax-tpu")
    (2026.83, nan)
    """
    path = f"serving.{engine}.release_year"
    return math.nan if facts.get(path) is None else facts.number(path)


def about_engine(facts: Facts, engine: str, model: str, chip: str) -> dict[str, str]:
    """What facts say in words of an engine: "about", "release" (what ships, whether it is supported, when that was
    read), "unsupported": that no server supports what it serves, and "ships": what ships for a model on a chip of the
    kernels of the engine that is written by hand; without those of which they say nothing."""
    said, by_hand = facts.get(f"serving.{engine}.about"), f"serving.{_by_hand(facts, engine)}"
    ships = [facts.get(f"{by_hand}.{what}") for what in ("ships_model", "ships_chip", "ships")]
    words = {} if said is None else {"about": str(said.value)}
    words |= release_words(facts, f"serving.{engine}")
    if (unsupported := facts.get(f"serving.{engine}.unsupported")) is not None:
        words["unsupported"] = str(unsupported.value)
    if [None if fact is None else fact.value for fact in ships[:2]] == [model, chip] and ships[2] is not None:
        words["ships"] = str(ships[2].value)
    return words


@dataclass(frozen=True, slots=True)
class Engine(Columns):
    """What the engine adds around steps: floats or columns [n]. budget: prompt tokens per step; packs: 1 when several
    prompts share a step up to the budget, 0 when each runs alone; mixes: 1 when prompts share a step with decodes;
    front_s, front_token_s: before scheduling; visible_tokens: tokens between the first token and its arrival at the
    user, in steps; queue_share: wait behind other prompts, in units of load x prefill; lockstep: prompts that one finds
    before it, at most, where users ask at the same time, as those of benchmarks do (0: arrivals are random); together:
    share of the users that ask at the same time however many they are, as where no prompt runs beside others' answers;
    memory_share, reserve_B: engine's share of the memory and what it keeps; of_free: 1 where the share is of what
    weights and reserve leave, 0 where it is of the whole memory; answer_held: share of an answer that has room in the
    cache when its prompt is let in (1: nothing is ever put out again); mtp_cost: time of a verifying step over a plain
    one; interval: steps between two looks for new requests; wait: steps that a first prompt waits for others; balance:
    steps after which ranks of data-parallel attention no longer wait until each has a prompt."""

    budget: Floats
    packs: Floats
    mixes: Floats
    front_s: Floats
    front_token_s: Floats
    visible_tokens: Floats
    queue_share: Floats
    burst_share: Floats
    lockstep: Floats
    together: Floats
    memory_share: Floats
    reserve_B: Floats
    of_free: Floats
    answer_held: Floats
    mtp_cost: Floats
    interval: Floats
    wait: Floats
    balance: Floats


@dataclass(frozen=True, slots=True)
class EngineCosts(Columns):
    """Rates of the chip and fitted constants of its family and of the engine: floats, or one value per case [n].

    hbm_Bps, link_Bps, peak_*: per device, as published; link_Bps to another worker of its size. reduce_*, inside_*,
    outside_*, stage_*, next_*: the wires of an all-reduce of tensor parallel ranks, of an exchange between experts
    inside of a domain and beyond it, of transfers to the next stage and to the next context rank
    (`machines.wires.Wire`); reduce_crosses: 1 where tensor parallel ranks lie in several domains; tp_graph: what
    launching a collective in a captured graph, by kernels of the engine, leaves of its latency, of all-reduces within a
    domain (beyond it they are the library's); lines_*: the engine's all-reduces where they were measured, in the place
    of both (`machines.wires.MeasuredWire`); tp_wires, ep_wires: share of the wires' rate that the engine reaches;
    tp_latency, ep_latency: s that each waits beside. is_low_*: 1 where the format multiplies in 8 or 4 bit; expands_*:
    1 where 4-bit weights multiply in 16 bit. product_*, weights_*, quantise_* and all from rows_half to attention_half:
    of the device's operators alone (`machines.device`). Software: products, attention_kernels, reads_*: what the
    engine's kernels reach of them; prompt_products: and of products outside of experts in steps with prompts;
    expert_compute: of products of experts; expand: of those that widen 4-bit weights; a_decode: share of the bandwidth
    at which caches are read. guess_host: s of the host for each sequence of a step that verifies guesses, where the
    scheduler does not run beside the device. moe_layer: s that a layer with experts takes beside `layer`; expert_reads:
    how often the weights of a visited expert are read while others are left out; expert_visit: s for each visited
    expert of a layer that a rank has a part of; expert_launch: s for each block of experts of a layer in a step that
    carries a prompt, experts x ep^-launch_ep of them; compiled: sequences of a rank group that a compiled graph
    computes at least (0: as many as decode); prefill_layer: what such a step multiplies times of layers by;
    prefill_kernel: s of the host for each kernel of it that it launches by itself; capture: tokens of such a step up to
    which captured graphs launch its kernels; fixed_times: what a generation of chips multiplies fixed times by;
    reduce_norms: kernels of norms and residuals whose work an all-reduce within a domain does. The rest is explained in
    docs/theory/theory-serving.md and in facts/serving.
    """

    hbm_Bps: Floats
    link_Bps: Floats
    reduce_latency: Floats
    reduce_bulk: Floats
    reduce_per_B: Floats
    reduce_ahead: Floats
    reduce_crosses: Floats
    lines_latency: Floats
    lines_per_B: Floats
    lines_from_B: Floats
    inside_latency: Floats
    inside_bulk: Floats
    inside_per_B: Floats
    outside_latency: Floats
    outside_bulk: Floats
    outside_per_B: Floats
    stage_latency: Floats
    stage_bulk: Floats
    stage_per_B: Floats
    next_latency: Floats
    next_bulk: Floats
    next_per_B: Floats
    short_B: Floats
    large_B: Floats
    pipeline: Floats
    pipeline_limit: Floats
    peak_linear: Floats
    peak_expert: Floats
    peak_16: Floats
    is_low_linear: Floats
    is_low_expert: Floats
    expands_linear: Floats
    expands_expert: Floats
    product_linear: Floats
    product_expert: Floats
    product_16: Floats
    weights_linear: Floats
    weights_expert: Floats
    weights_16: Floats
    reads_linear: Floats
    reads_expert: Floats
    quantise_linear: Floats
    quantise_expert: Floats
    rows_half: Floats
    low_rows: Floats
    columns_half: Floats
    misaligned: Floats
    narrow_columns: Floats
    memory: Floats
    attention: Floats
    attention_half: Floats
    products: Floats
    attention_kernels: Floats
    prompt_products: Floats
    expand: Floats
    a_decode: Floats
    mla_compute: Floats
    expert_compute: Floats
    expert_spread: Floats
    ep_imbalance: Floats
    ep_uneven: Floats
    ep_latency: Floats
    ep_wires: Floats
    tp_latency: Floats
    tp_graph: Floats
    tp_wires: Floats
    layer: Floats
    kernel: Floats
    activation_passes: Floats
    step: Floats
    per_sequence: Floats
    guess_host: Floats
    prefill_step: Floats
    moe_layer: Floats
    expert_reads: Floats
    expert_visit: Floats
    expert_launch: Floats
    launch_ep: Floats
    prefill_layer: Floats
    prefill_kernel: Floats
    capture: Floats
    fixed_times: Floats
    reduce_norms: Floats
    kernel_tables: Floats
    tables: Floats
    linear_format: Floats
    compiled: Floats

    def rate(self, kind: Literal["linear", "expert", "16"]) -> Floats:
        """FLOP/s of large products in the format of attention and shared weights, of experts, or in 16 bit."""
        peak, product = getattr(self, f"peak_{kind}"), getattr(self, f"product_{kind}")
        reached: Floats = peak * product * self.products
        if kind == "16":
            return reached
        return np.asarray(reached * np.where(getattr(self, f"expands_{kind}") > 0, self.expand, 1.0))

    def half(self, kind: Literal["linear", "expert"]) -> Floats:
        """Rows at which half of that is reached."""
        return np.asarray(self.rows_half * np.where(getattr(self, f"is_low_{kind}") > 0, self.low_rows, 1.0))

    def wire(self, name: Literal["reduce", "inside", "outside", "stage", "next"]) -> Wire:
        """The wires of a collective, before software."""
        latency, bulk, per_B = (getattr(self, f"{name}_{part}") for part in ("latency", "bulk", "per_B"))
        ahead = self.reduce_ahead if name == "reduce" else np.zeros_like(per_B)
        return Wire(latency, bulk, per_B, ahead, self.short_B, self.large_B, self.pipeline, self.pipeline_limit)

    @property
    def lines(self) -> MeasuredWire:
        """All-reduces of tensor parallel ranks as they were measured with the engine."""
        return MeasuredWire(self.lines_latency, self.lines_per_B, self.lines_from_B)

    def within_published(self) -> EngineCosts:
        """The same with no rate above the published one, and the busiest rank no less busy than the mean: ranges of
        fitted shares pass 1, and a user's own may. `engines` makes every `EngineCosts` so."""
        capped = {name: np.minimum(getattr(self, name), 1.0) for name in _SHARES}
        return replace(self, ep_imbalance=np.maximum(self.ep_imbalance, 1.0), **capped)

    def at_published(self) -> EngineCosts:
        """The same at the published rates of the chip, with no fixed time and no transfers: what no engine
        is faster than."""
        one, none = np.ones_like(self.hbm_Bps), np.zeros_like(self.hbm_Bps)
        best = dict.fromkeys((*_SHARES, "ep_imbalance", "expert_reads"), one)
        wires = {
            f"{name}_{part}": np.zeros_like(getattr(self, f"{name}_{part}"))
            for name in ("reduce", "inside", "outside", "stage", "next")
            for part in ("latency", "bulk", "per_B")
        }
        wires |= {name: np.zeros_like(getattr(self, name)) for name in ("lines_latency", "lines_per_B")}
        ahead = np.zeros_like(self.reduce_ahead)
        return replace(self, **best, **dict.fromkeys(_ADDED, none), **wires, reduce_ahead=ahead)


_ADDED = (
    "layer",
    "kernel",
    "moe_layer",
    "step",
    "per_sequence",
    "guess_host",
    "prefill_step",
    "tp_latency",
    "ep_latency",
    "expert_visit",
    "expert_launch",
    "compiled",
    "prefill_kernel",
    "rows_half",
    "columns_half",
    "misaligned",
    "narrow_columns",
    "attention_half",
    "quantise_linear",
    "quantise_expert",
    "activation_passes",
    "kernel_tables",
)
"""Fields of `EngineCosts` that add time to what the published rates give."""
_SHARES = (
    "product_linear",
    "product_expert",
    "product_16",
    "weights_linear",
    "weights_expert",
    "weights_16",
    "reads_linear",
    "reads_expert",
    "memory",
    "attention",
    "products",
    "attention_kernels",
    "expand",
    "a_decode",
    "mla_compute",
    "expert_compute",
    "tp_wires",
    "ep_wires",
    "tp_graph",
)
"""Fields of `EngineCosts` that are shares of a published rate."""
