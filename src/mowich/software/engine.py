"""Serving engines: what an engine and a chip family reach of published rates, and what the engine adds around steps.

Every number is a fact: `serving.<family>.*`, `serving.<engine>.*`, `serving.common.*`. An engine is a file of
facts; which one a vendor's machines have unless one is named is a fact too (`software.vendors`). Which fact each
constant of a case comes from also depends on its formats and its architecture: `serving.engines`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
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
    """What the engine adds around steps: floats or columns [n]."""

    budget: Floats
    """Prompt tokens per step."""
    packs: Floats
    """1 when several prompts share a step up to the budget, 0 when each runs alone."""
    mixes: Floats
    """1 when prompts share a step with decodes."""
    front_s: Floats
    """s before a request is scheduled."""
    front_token_s: Floats
    """s more for each token of its prompt."""
    visible_tokens: Floats
    """Steps between the first token and its arrival at the user."""
    queue_share: Floats
    """Wait behind other prompts, in units of load x prefill."""
    burst_share: Floats
    """The same wait where users start together."""
    lockstep: Floats
    """Prompts that one finds before it at most, where users ask at the same time, as those of benchmarks do; 0:
    arrivals are random."""
    together: Floats
    """Share of the users that ask at the same time however many they are, as where no prompt runs beside others'
    answers."""
    memory_share: Floats
    """The engine's share of the memory."""
    reserve_B: Floats
    """Bytes that it keeps."""
    of_free: Floats
    """1 where the share is of what weights and reserve leave, 0 where it is of the whole memory."""
    answer_held: Floats
    """Share of an answer that has room in the cache when its prompt is let in; 1: nothing is ever put out again."""
    mtp_cost: Floats
    """Time of a verifying step over a plain one."""
    interval: Floats
    """Steps between two looks for new requests."""
    wait: Floats
    """Steps that a first prompt waits for others."""
    balance: Floats
    """Steps after which ranks of data-parallel attention no longer wait until each has a prompt."""


@dataclass(frozen=True, slots=True)
class EngineWires(Columns):
    """The wires among the ranks of a worker, before software."""

    reduce: Wire
    """All-reduces of tensor parallel ranks."""
    lines: MeasuredWire
    """The engine's all-reduces where they were measured: they take the place of `reduce` and `tp_graph`."""
    inside: Wire
    """Exchanges between experts, the part inside of a domain."""
    outside: Wire
    """Exchanges between experts, the part beyond a domain."""
    stage: Wire
    """Transfers to the next stage."""
    next: Wire
    """Transfers to the next context rank."""

    def free(self) -> EngineWires:
        """These wires, with messages that take no time."""
        return EngineWires(*(getattr(self, f.name).free() for f in fields(self)))


@dataclass(frozen=True, slots=True)
class EngineCosts(Columns):
    """Rates of the chip and fitted constants of its family and of the engine: floats, or one value per case [n].

    docs/theory/theory-serving.md has the formulas that they stand in, facts/serving the values.
    """

    hbm_Bps: Floats
    """Bytes/s of a device's memory, as published."""
    link_Bps: Floats
    """Bytes/s of a device to another worker of its size, as published."""
    wires: EngineWires
    """What messages take on the wires of the chip."""
    reduce_crosses: Floats
    """1 where tensor parallel ranks lie in several domains."""
    peak_linear: Floats
    """FLOP/s as published, in the format of attention and shared weights."""
    peak_expert: Floats
    """FLOP/s as published, in the format of experts."""
    peak_16: Floats
    """FLOP/s as published, in 16 bit."""
    is_low_linear: Floats
    """1 where the format of attention and shared weights multiplies in 8 or 4 bit."""
    is_low_expert: Floats
    """1 where the format of experts multiplies in 8 or 4 bit."""
    expands_linear: Floats
    """1 where 4-bit attention and shared weights multiply in 16 bit."""
    expands_expert: Floats
    """1 where 4-bit weights of experts multiply in 16 bit."""
    product_linear: Floats
    """Share of `peak_linear` that the device's large products reach (`machines.device`)."""
    product_expert: Floats
    """Share of `peak_expert` that they reach."""
    product_16: Floats
    """Share of `peak_16` that they reach."""
    weights_linear: Floats
    """Share of `hbm_Bps` at which the device reads attention and shared weights."""
    weights_expert: Floats
    """Share of `hbm_Bps` at which it reads weights of experts."""
    weights_16: Floats
    """Share of `hbm_Bps` at which it reads 16-bit weights."""
    reads_linear: Floats
    """Share of `weights_linear` that the engine's kernels reach."""
    reads_expert: Floats
    """Share of `weights_expert` that the engine's kernels reach."""
    quantise_linear: Floats
    """Bytes moved to bring an input of attention and shared weights into their format."""
    quantise_expert: Floats
    """Bytes moved to bring an input of experts into their format."""
    rows_half: Floats
    """Rows at which products reach half of their rate, in 16 bit."""
    low_rows: Floats
    """The same rows in 8 and 4 bit, over those in 16."""
    columns_half: Floats
    """Columns at which products reach half of their rate."""
    misaligned: Floats
    """Share of time added to products whose rows are no whole lines of memory."""
    narrow_columns: Floats
    """Columns at which to read a narrow matrix takes twice as long."""
    memory: Floats
    """Share of `hbm_Bps` that passes over memory reach."""
    attention: Floats
    """Share of `peak_16` that the device's fused attention of long sequences reaches."""
    attention_half: Floats
    """Tokens at which half of that is reached."""
    products: Floats
    """Share of the device's products that the engine's kernels reach."""
    attention_kernels: Floats
    """Share of `attention` that the engine's kernels reach."""
    prompt_products: Floats
    """Share of products outside of experts that is reached in steps with prompts."""
    expand: Floats
    """Share that products reach which widen 4-bit weights, over those in 16 bit."""
    a_decode: Floats
    """Share of `hbm_Bps` at which decoding attention reads caches and states."""
    mla_compute: Floats
    """Share of `peak_16` that decoding attention reaches."""
    expert_compute: Floats
    """Share of their rate that products of experts reach."""
    expert_spread: Floats
    """Exponent of the tokens that choose experts: 1 where each chooses for itself."""
    ep_imbalance: Floats
    """Work of the busiest rank of experts over the mean."""
    ep_uneven: Floats
    """Spread of the visited experts of a rank, over that of independent choices."""
    ep_latency: Floats
    """s that an exchange between experts takes besides the time of its wires."""
    ep_wires: Floats
    """Share of the rate of `wires.inside` and `wires.outside` that the engine reaches."""
    tp_latency: Floats
    """s that every other message takes besides the time of its wires."""
    tp_graph: Floats
    """What a captured graph leaves of a collective's latency; of all-reduces, within a domain: beyond it they are the
    library's."""
    tp_wires: Floats
    """Share of the rate of `wires.reduce`, `wires.stage` and `wires.next` that the engine reaches."""
    layer: Floats
    """s that a layer takes besides the time of its work."""
    kernel: Floats
    """s that a kernel takes besides the time of its work."""
    activation_passes: Floats
    """Passes over memory of a layer's activations: norms, residuals, rotary embedding, casts."""
    step: Floats
    """s of the host for a step."""
    per_sequence: Floats
    """s of the host for each sequence of a step."""
    guess_host: Floats
    """s of the host for each sequence of a step that verifies guesses, where the scheduler does not run beside the
    device."""
    prefill_step: Floats
    """s of the host more for a step that carries a prompt."""
    moe_layer: Floats
    """s that a layer with experts takes besides `layer`."""
    expert_reads: Floats
    """How often the weights of a visited expert are read while others are left out."""
    expert_visit: Floats
    """s for each visited expert of a layer that a rank has a part of."""
    expert_launch: Floats
    """s for each block of experts of a layer, in a step that carries a prompt."""
    launch_ep: Floats
    """The blocks are experts x ep^-launch_ep."""
    prefill_layer: Floats
    """Times of layers in a step that carries a prompt, over those in a step without."""
    prefill_kernel: Floats
    """s of the host for each kernel that it launches by itself, in a step that carries a prompt."""
    capture: Floats
    """Tokens of a step up to which captured graphs launch its kernels."""
    fixed_times: Floats
    """What the generation of the chip multiplies fixed times by."""
    reduce_norms: Floats
    """Kernels of norms and residuals whose work an all-reduce within a domain does."""
    kernel_tables: Floats
    """1 where the engine's constants are those over operator tables."""
    tables: Floats
    """Number of these tables (`operators.kernels.table_code`); 0 without."""
    linear_format: Floats
    """Place of the format of attention and shared weights in `PRECISIONS`; -1 for another."""
    compiled: Floats
    """Sequences of a rank group that a compiled graph computes at least; 0: as many as decode."""

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

    def within_published(self) -> EngineCosts:
        """These costs, with no rate above the published one and the busiest rank at least as busy as the mean. Ranges
        of fitted shares pass 1, and a user's own shares may. `engines` makes every `EngineCosts` so."""
        capped = {name: np.minimum(getattr(self, name), 1.0) for name in _SHARES}
        return replace(self, ep_imbalance=np.maximum(self.ep_imbalance, 1.0), **capped)

    def at_published(self) -> EngineCosts:
        """These costs at the published rates of the chip, with no fixed time and no transfers: no engine is faster."""
        one, none = np.ones_like(self.hbm_Bps), np.zeros_like(self.hbm_Bps)
        best = dict.fromkeys((*_SHARES, "ep_imbalance", "expert_reads"), one)
        return replace(self, wires=self.wires.free(), **best, **dict.fromkeys(_ADDED, none))


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
"""Fields of `EngineCosts` that add time to that of the published rates."""
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
