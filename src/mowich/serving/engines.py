"""Which fact each constant of a served case comes from, and the constants as columns.

A case is (machine, engine, architecture, formats). Efficiencies belong to the chip's family, fixed times to the engine,
the rest to `facts/serving/common`. The fit of the constants uses the same table of paths (`constant_columns`), with its
own values in place of the facts'.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Floats, distinct
from mowich.facts import Facts
from mowich.machines.device import device_paths, has_own_device
from mowich.machines.system import PRECISIONS, System
from mowich.machines.wires import MeasuredWire, all_reduce_wire, all_to_all_wires, transfer_wire
from mowich.models.model import Model, Moe
from mowich.operators.kernels import table_code
from mowich.plans.plan import FOUR_BIT, WEIGHT_ONLY, ServePlan
from mowich.plans.shapes import quantises_attention
from mowich.serving.expert_balance import expected_imbalance
from mowich.software.all_reduce import NUM_LINES, measured_all_reduce
from mowich.software.engine import (
    AROUND,
    COMMON,
    DEVICE_CONSTANTS,
    ENGINE_FACTS,
    FAMILY,
    GENERATIONS,
    READS,
    STACK,
    UNSTATED,
    Engine,
    EngineCosts,
    EngineWires,
)

LOCKSTEP = "serving.lockstep"
"""Facts of campaigns of measurement whose users ask together: `<campaign>_<engine>`. An engine may state for all rows
that measured it which share of the users ask together, however many they are (`serving.<engine>.together`); a question
of one's own has none of both."""
_TEXT = ("gap",)
"""Campaigns whose prompts are text of one kind: AIPerf cuts them out of one book. Their tokens choose more of the same
experts than random ones do (`serving.common.expert_spread_text`)."""


PROFILES = "serving.profiles"
"""Facts that a profile of forward passes gives: `<factor>_<engine>_<chip>_<architecture>`."""
NO_PROFILE = f"{PROFILES}.none"
PROFILED: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "products": ((), ("reads_linear", "weights_16")),
    "experts": ((), ("reads_expert",)),
    "prompt_products": ((), ("products", "expert_compute")),
    "fixed": (("layer", "kernel", "moe_layer", "step", "per_sequence", "tp_latency"), ()),
    "launches": (("prefill_step", "prefill_kernel"), ()),
    "attention": ((), ("a_decode",)),
    "prompt_attention": ((), ("attention_kernels",)),
    "exchange": (("tp_graph",), ()),
    "dispatch": (("ep_latency",), ()),
    "prompt_exchange": ((), ("tp_wires", "ep_wires")),
}
"""Factor -> (times that it multiplies, rates that it divides), of `EngineCosts`."""
PROFILE_FACTORS = (*PROFILED, "sweep_attention")
"""What a profile gives: the factors above, and another factor of attention for passes over sequences of one length."""

USUAL_ANSWER = 1024.0
"""Tokens of the answers at which the share of guesses that are kept is stated."""
_DRAFTS = 3.0
"""Tokens that a step guesses where nothing is known of it: those of published recipes of DeepSeek."""


def kept_tokens(drafts: Floats, answer: Floats, kept: Floats, repeats: Floats) -> Floats:
    """Tokens that a step keeps of its own and its guesses, each of which is kept with probability a if those before it
    were: 1 + a + ... + a^drafts.

    a = 1 - (1 - kept) (answer / 1024)^-repeats for answers above 1,024 tokens: long ones to random prompts, that may
    not end, repeat themselves and are guessed more easily.
    """
    missed = np.maximum((1.0 - kept) * np.maximum(answer / USUAL_ANSWER, 1.0) ** -repeats, 1e-6)
    return np.asarray((1.0 - (1.0 - missed) ** (drafts + 1.0)) / missed)


_SETTINGS: Mapping[str, float] = {"interval": 1.0, "wait": 0.0, "balance": 0.0, "graphs": 0.0}
"""Settings whose number is a constant of a step, or of what is around it -> that of an engine that has no such setting:
it looks for requests in every step, lets none wait, and captures no steps with prompts."""
_PLACED = ("expert_skew", "expert_drift", "rebalance", "rebalance_steps")
"""Constants of experts that are placed by load, facts of `serving.experts`."""
USUAL_EXPERTS = {"trtllm": "trtllm"}
"""Engine -> the kernels of experts that its constants are of."""
_KINDS = ("dense", "moe", "mla", "hybrid")
"""What `architecture` gives."""


def architecture(model: Model) -> str:
    """The class that fixed times per layer are kept by: hybrid (recurrent layers), mla, moe, dense."""
    if any(layer.has_state for layer in model.layers):
        return "hybrid"
    if any(a.kind == "mla" for layer in model.layers for a in layer.attentions):
        return "mla"
    return "moe" if model.has_experts else "dense"


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What decides the constants of a case. has_own: the chip has constants of its own (from its operator tables),
    instead of its family's. accept: tokens kept of a step; drafts: tokens guessed beside the next one, 0 where not
    known; answer: tokens of an answer; released: the year of the engine's release, 2026.5 in the middle of 2026, nan:
    not known; products: path of products of 8-bit weights in steps with prompts
    (`serving.common.prompt_products_<path>`), "" the usual one; norms_apart: norms are kernels of their own after an
    all-reduce, as in older releases; release: of the engine, in words of a table, "": the newest; compiled: sequences
    of a rank group that a compiled graph computes at least, 0 where it computes those that decode; is_sweep: a forward
    pass over sequences of one length. stated: facts that only some engines and families have (`stated`)."""

    model: Model
    arch: str
    system: System
    engine: str
    plan: ServePlan
    speculates: bool = False
    accept: float | None = None
    drafts: int = 0
    answer: float = USUAL_ANSWER
    released: float = math.nan
    campaign: str = ""
    products: str = ""
    norms_apart: bool = False
    release: str = ""
    compiled: float = 0.0
    is_sweep: bool = False
    has_own: bool = False
    stated: frozenset[str] = frozenset()


def arithmetic(weights: str, system: System) -> str:
    """How a format is multiplied: "16", "8" or "4" bit, or "w8" and "w4" (expanded to 16 bit: formats of weights alone,
    and those that the chip has no unit for)."""
    if weights == "bf16":
        return "16"
    if weights in FOUR_BIT:
        return "4" if weights not in WEIGHT_ONLY and system.peak_flops.get(weights) else "w4"
    if weights in WEIGHT_ONLY or not system.peak_flops.get(weights, system.peak_flops.get("fp8", 0.0)):
        return "w8"
    return "8"


def is_expanded(weights: str, system: System) -> bool:
    """Whether a format is narrower than the format in which the chip multiplies it."""
    return arithmetic(weights, system) in ("w4", "w8")


def peak(weights: str, system: System) -> float:
    """Matrix rate that a format runs at: its own where the chip has it, else the nearest wider one. Boards with less
    power have less of the 16-bit rate."""
    how = arithmetic(weights, system)
    if how in ("16", "w4", "w8"):
        return system.peak_flops["bf16"] * system.power_share
    return system.peak_flops.get(weights) or system.peak_flops["fp8"]


def link_Bps(system: System, devices: int, *, reduces: bool = True) -> float:
    """One-way bandwidth per device that a group of neighbours has: what a flat fabric would need for the same time.

    Level by level, innermost first: a reduction sends 1/m of the data beyond a domain that holds m of the group
    (reduces), an exchange (all-to-all) the share of partners that lie beyond it. On one level this is the link itself.
    """
    inside, per_B = 1.0, 0.0
    for level in system.levels:
        held = float(devices) if level is system.levels[-1] else max(inside, min(float(devices), float(level.devices)))
        if held > inside:
            share = (1.0 - inside / held) / inside if reduces else (held - inside) / devices
            per_B += share / level.bandwidth_Bps
            inside = held
        if held >= devices:
            break
    return (1.0 - 1.0 / devices) / per_B if per_B else system.levels[0].bandwidth_Bps


def _stated(case: Served, own: str, usual: str) -> str:
    """A path of the case's own, where the facts hold it, else the usual one."""
    return own if own in case.stated else usual


def _reads(role: str, how: str, case: Served) -> str:
    """Path of the share of a format's read rate that products reach: of 4-bit weights outside of experts, and of those
    that kernels widen to 16 bits although the chip multiplies 4 bits, where the engine states one."""
    name = ""
    if how == "4" and role == "linear":
        name = "dense_4"
    elif how == "w4" and any(case.system.peak_flops.get(fmt) for fmt in FOUR_BIT):
        name = "widened_4"
    return _stated(case, f"serving.{case.engine}.{name}", "serving.common.reads")


def _reduce_norms(case: Served, whose: str) -> str:
    """Path of the kernels of norms whose work an all-reduce does: the engine's, by architecture where it says so, on
    chips whose facts say that engines have such kernels for them."""
    own = f"serving.{case.engine}.reduce_norms"
    if case.norms_apart or not {own, f"serving.{whose}.reduce_norms"} <= case.stated:
        return "serving.common.reduce_norms"
    return _stated(case, f"{own}_{case.arch}", own)


def _is_open(case: Served, name: str) -> bool:
    """Whether nobody states a setting that measured rows of the engine state. Without data-parallel attention no ranks
    wait for each other."""
    is_asked = name != "balance" or case.plan.dp > 1
    return is_asked and getattr(case.plan.launch, name) is None and f"{UNSTATED}.{case.engine}_{name}" in case.stated


def _setting_paths(case: Served) -> dict[str, str]:
    """Constants that depend on the options of the engine's start; where they are not stated, the mean over measured
    rows."""
    launch, engine = case.plan.launch, f"serving.{case.engine}"
    out = {name: f"{UNSTATED}.{case.engine}_{name}" for name in _SETTINGS if _is_open(case, name)}
    # what is late by the launches of many kernels is not where they are one graph: as with dense models, that have few
    out["visible_tokens"] = out["visible_captured"] = f"{engine}.visible_{case.arch}"
    if "graphs" in out or launch.graphs not in (None, "off", "decode"):
        out["visible_captured"] = f"{engine}.visible_dense"
    experts = f"{UNSTATED}.{case.engine}_moe"
    if launch.moe is None and experts in case.stated and case.arch != "dense":
        out["moe_layer"] = experts
    elif launch.moe is not None and launch.moe != USUAL_EXPERTS.get(case.engine):
        out["moe_layer"] = f"serving.common.experts_{launch.moe}"
    if launch.redundant_experts is not None:
        out |= {name: f"serving.experts.{name.removeprefix('expert_')}" for name in _PLACED}
    return out


def engine_paths(case: Served) -> dict[str, str]:
    """Constant -> path of its fact: fields of `EngineCosts` and of `Engine`."""
    whose = case.system.chip if case.has_own else case.system.family
    device = device_paths(whose)
    family, engine, common = (f"serving.{x}" for x in (whose, case.engine, "common"))
    weights = case.plan.weights
    linear = weights if quantises_attention(case.model, weights) else "bf16"
    out = {field: f"{family}.{name}" for field, name in FAMILY.items()}
    for role, fmt in (("linear", linear), ("expert", weights)):
        how = arithmetic(fmt, case.system)
        out[f"weights_{role}"] = device[f"weights_{how.removeprefix('w')}"]
        out[f"product_{role}"] = device[f"product_{'16' if how.startswith('w') else how}"]
        out[f"reads_{role}"] = _reads(role, how, case)
        out[f"quantise_{role}"] = device["quantise_4_B" if how == "4" else "quantise_B"]
    out |= {name: device[name] for name in DEVICE_CONSTANTS}
    out |= {field: f"{engine}.{name}" for field, name in ENGINE_FACTS.items()}
    out |= {name: f"{common}.{name}" for name in COMMON}
    out["layer"] = f"{engine}.layer_{case.arch}"
    out |= {field: f"{engine}.{name}" for field, name in AROUND.items()}
    kind = case.system.family
    out["fixed_times"] = _stated(case, f"serving.{GENERATIONS}.{kind}", f"{common}.fixed_times")
    out[GENERATIONS] = _stated(case, f"serving.{kind}.{GENERATIONS}", f"{common}.{GENERATIONS}")
    out |= {field: _stated(case, f"{engine}.{name}", f"{common}.{name}") for field, name in STACK.items()}
    out["reduce_norms"] = _reduce_norms(case, whose)
    if case.campaign in _TEXT:
        out["expert_spread"] = f"{common}.expert_spread_text"
    if case.products:
        out["prompt_products"] = f"{common}.prompt_products_{case.products}"
    out |= _setting_paths(case)
    out["lockstep"] = out["together"] = f"{LOCKSTEP}.none"
    if (together := f"{LOCKSTEP}.{case.campaign}_{case.engine}") in case.stated:
        out["lockstep"] = together
    elif case.campaign and f"{engine}.together" in case.stated:
        out["together"] = f"{engine}.together"
    out["queue_share"], out["burst_share"] = f"{common}.queue_share", f"{common}.burst_share"
    out |= {f"mtp_{name}": f"{common}.speculation_{name}" for name in ("each", "kept", "repeats")}
    for name in PROFILED:
        fact = "sweep_attention" if name == "attention" and case.is_sweep else name
        own = profile_path(fact, case.engine, case.system.chip, case.arch)
        if own in case.stated:
            out[f"profile_{name}"] = own
    return out


def profile_path(factor: str, engine: str, chip: str, arch: str) -> str:
    """The fact that a profile of forward passes gives.

    >>> profile_path("fixed", "vllm", "b300", "dense")
    'serving.profiles.fixed_vllm_b300_dense'
    """
    return f"{PROFILES}.{factor}_{engine}_{chip}_{arch}"


@dataclass(frozen=True, slots=True)
class ConstantTable:
    """Index of the fact of every constant of every case. names: distinct paths; index: constant -> position in `names`
    [n]; chip: what the facts of chips give, field -> [n]; wires: those of `EngineCosts`; speculates [n];
    accept, drafts, answer, released [n] as in `Served`, nan and 0 where not known; settings: what plans state of their
    engines, name -> [n], nan where they do not."""

    names: tuple[str, ...]
    index: Mapping[str, NDArray[np.intp]]
    chip: Mapping[str, Floats]
    wires: EngineWires
    speculates: NDArray[np.bool_]
    accept: Floats
    drafts: Floats
    answer: Floats
    released: Floats
    settings: Mapping[str, Floats]

    def take(self, rows: NDArray[np.intp]) -> ConstantTable:
        """The cases at `rows`, with the names that they use."""
        used = distinct(np.concatenate([index[rows] for index in self.index.values()]))
        position = np.zeros(len(self.names), dtype=np.intp)
        position[used] = np.arange(len(used))
        return ConstantTable(
            names=tuple(self.names[i] for i in used),
            index={k: position[v[rows]] for k, v in self.index.items()},
            chip={k: v[rows] for k, v in self.chip.items()},
            wires=self.wires.take(rows),
            speculates=self.speculates[rows],
            accept=self.accept[rows],
            drafts=self.drafts[rows],
            answer=self.answer[rows],
            released=self.released[rows],
            settings={k: v[rows] for k, v in self.settings.items()},
        )

    def values(self, value: Callable[[str], float], others: Mapping[str, float] | None = None) -> Floats:
        """Constants in the order of `names`: those of `others`, and `value(path)` for the rest."""
        known = others or {}
        return np.array([known[name] if name in known else value(name) for name in self.names])

    def constants(self, value: Callable[[str], float]) -> tuple[EngineCosts, Engine, Floats, Floats]:
        """(costs, engine, verified tokens, accepted tokens) with `value(path)` for every constant."""
        return self.assemble(self.values(value))

    def assemble(self, values: Floats) -> tuple[EngineCosts, Engine, Floats, Floats]:
        """The same from values in the order of `names`: one row for all cases, or a row for each [n, names]."""
        each = (np.arange(len(values)),) if values.ndim > 1 else ()
        at = {field: values[(*each, index)] for field, index in self.index.items()}
        for name, (times, rates) in PROFILED.items():
            if (factor := at.pop(f"profile_{name}", None)) is not None:
                at |= {field: at[field] * factor for field in times} | {field: at[field] / factor for field in rates}
        self._state(at)
        at["fixed_times"] = at["fixed_times"] * at["generation"] ** at[GENERATIONS]
        years = np.where(np.isnan(self.released), 0.0, self.released - at["visible_year"])
        at["visible_tokens"] = at["visible_tokens"] * at["visible_yearly"] ** years
        of = {**at, **self.chip}
        columns = {f.name: of[f.name] for f in fields(EngineCosts) if f.name != "wires"}
        fitted = EngineCosts(wires=self.wires, **columns)
        costs = fitted.within_published()
        plain = ~self.speculates
        # the fewest guesses of which not all need be right
        fewest = np.where(np.isnan(self.accept), _DRAFTS, np.maximum(np.floor(self.accept), 1.0))
        drafts = np.where(plain, 0.0, np.where(self.drafts > 0, self.drafts, fewest))
        at["mtp_cost"] = 1.0 + drafts * at["mtp_each"]
        engine = Engine(**{f.name: at[f.name] for f in fields(Engine)})
        kept = kept_tokens(drafts, self.answer, at["mtp_kept"], at["mtp_repeats"])
        accepted = np.where(plain | np.isnan(self.accept), kept, self.accept)
        return costs, engine, drafts + 1.0, accepted

    def _state(self, at: dict[str, Floats]) -> None:
        """What settings do to constants. A prompt that is a graph has no launches of its own, and its first token is
        seen as soon as that of a dense model; without graphs every kernel of every step is launched by itself. Graphs
        up to a number of tokens are those of all prompts where a step holds no more; an engine that has such graphs
        by itself has them up to its own size (`capture`)."""
        stated = self.settings
        for name, field in (*((name, name) for name in _SETTINGS), ("budget", "budget"), ("memory", "memory_share")):
            at[field] = np.where(np.isnan(stated[name]), at.get(field, stated[name]), stated[name])
        sizes = stated["sizes"]
        share = np.where(np.isnan(sizes) & (at["capture"] > 0), 0.0, at.pop("graphs"))
        share = np.where((sizes > 0) & (sizes >= at["budget"]), 1.0, share)
        at["capture"] = np.where(np.isnan(sizes), at["capture"], sizes)
        at["kernel"] = at["kernel"] + np.nan_to_num(stated["eager"]) * at["prefill_kernel"]
        at["prefill_kernel"] = at["prefill_kernel"] * (1.0 - share)
        at["visible_tokens"] = (1.0 - share) * at["visible_tokens"] + share * at["visible_captured"]
        if "expert_skew" in at:
            self._balance(at)

    def _balance(self, at: dict[str, Floats]) -> None:
        """Experts that are placed by load: the busiest rank as `expected_imbalance` has it, and the time of placing
        them anew on the steps between two times."""
        copies, experts, ep = (self.settings[name] for name in ("redundant_experts", "experts", "ep"))
        stated = ~np.isnan(copies) & (experts > 0) & (ep > 1)
        shape = np.shape(at["ep_imbalance"])
        out = np.array(at["ep_imbalance"], dtype=np.float64)
        skew, drift = (np.broadcast_to(at[name], shape) for name in ("expert_skew", "expert_drift"))
        for i in np.argwhere(np.broadcast_to(stated, shape)):
            n = i[-1]
            of_plan = (int(experts[n]), int(ep[n]), int(copies[n]))
            out[tuple(i)] = expected_imbalance(*of_plan, float(skew[tuple(i)]), float(drift[tuple(i)]))
        at["ep_imbalance"] = out
        at["step"] = at["step"] + np.where(stated, at["rebalance"] / at["rebalance_steps"], 0.0)


def _most_experts(model: Model) -> float:
    """Experts of a layer; 0 without."""
    return float(max((f.num_experts for layer in model.layers if isinstance(f := layer.ffn, Moe)), default=0))


def _settings_of(cases: Sequence[Served]) -> dict[str, Floats]:
    """What plans state of their engines as columns, nan where they do not; graphs: share of steps with prompts; sizes:
    most tokens of a captured step with a prompt; eager: 1 without graphs. What is neither stated nor open is as in
    `_SETTINGS`."""
    launches = [c.plan.launch for c in cases]
    words = {"off": 0.0, "decode": 0.0, "piecewise": 1.0}
    out = {
        name: np.array([np.nan if (v := getattr(s, name)) is None else float(v) for s in launches])
        for name in ("interval", "wait", "balance", "budget", "memory", "redundant_experts")
    }
    experts = {key: _most_experts(model) for key, model in {id(c.model): c.model for c in cases}.items()}
    out["experts"] = np.array([experts[id(c.model)] for c in cases])
    out["ep"] = np.array([float(c.plan.ep) for c in cases])
    out["graphs"] = np.array([words.get(str(s.graphs), np.nan if s.graphs is None else 0.0) for s in launches])
    sizes = {"off": 0.0, "decode": 0.0, "piecewise": np.nan, "None": np.nan}
    out["sizes"] = np.array([sizes[w] if (w := str(s.graphs)) in sizes else float(s.graphs or 0) for s in launches])
    out["eager"] = np.array([1.0 if s.graphs == "off" else np.nan for s in launches])
    for name, usual in _SETTINGS.items():
        is_open = np.array([_is_open(case, name) for case in cases])
        out[name] = np.where(np.isnan(out[name]) & ~is_open, usual, out[name])
    return out


def _tables(case: Served) -> float:
    """Number of the operator tables of a case whose engine's constants are those over tables; 0 without."""
    has_any = f"serving.{case.engine}.kernel_tables" in case.stated
    return float(table_code(case.system.chip, case.system.devices_per_chip)) if has_any else 0.0


def _format(weights: str) -> float:
    return float(PRECISIONS.index(weights)) if weights in PRECISIONS else -1.0


def constant_columns(cases: Sequence[Served]) -> ConstantTable:
    """The table of paths of many cases."""
    names, index = _indexed_paths(cases)
    return ConstantTable(
        names=names,
        index=index,
        chip=_chip_columns(cases),
        wires=wires_of(cases),
        speculates=np.array([c.speculates for c in cases]),
        accept=np.array([c.accept or np.nan for c in cases]),
        drafts=np.array([float(c.drafts) for c in cases]),
        answer=np.array([c.answer for c in cases]),
        released=np.array([c.released for c in cases]),
        settings=_settings_of(cases),
    )


def _indexed_paths(cases: Sequence[Served]) -> tuple[tuple[str, ...], dict[str, NDArray[np.intp]]]:
    """(Distinct paths of constants, constant -> place of each case's path among them [n])."""
    names: dict[str, int] = {}
    kinds: dict[tuple[object, ...], int] = {}  # cases whose constants have the same paths
    rows: list[dict[str, str]] = []
    kind = np.empty(len(cases), dtype=np.intp)
    for i, case in enumerate(cases):
        of_software = (case.arch, case.engine, case.plan.weights, case.has_own, case.campaign, case.plan.launch)
        of_case = (case.plan.dp > 1, case.norms_apart, case.products, case.is_sweep)
        key = (id(case.model), id(case.system), *of_software, *of_case)
        if key not in kinds:
            kinds[key] = len(rows)
            rows.append(engine_paths(case))
        kind[i] = kinds[key]
    known = dict.fromkeys(field for row in rows for field in row)

    def place(row: Mapping[str, str], field: str) -> int:
        """The place of a field's path among `names`. A setting that the plan states has no path: any place serves,
        since its value is the plan's."""
        path = row.get(field, NO_PROFILE if field.startswith("profile_") else None)
        return 0 if path is None else names.setdefault(path, len(names))

    index = {field: np.array([place(row, field) for row in rows], dtype=np.intp)[kind] for field in known}
    return tuple(names), index


def _chip_columns(cases: Sequence[Served]) -> dict[str, Floats]:
    """What the facts of chips give to each case: field -> [n]."""
    linear = [c.plan.weights if quantises_attention(c.model, c.plan.weights) else "bf16" for c in cases]
    chip = {
        "hbm_Bps": [c.system.hbm_Bps for c in cases],
        "link_Bps": [link_Bps(c.system, 2 * c.plan.devices) for c in cases],
        "reduce_crosses": [float(c.plan.tp > c.system.domain_devices) for c in cases],
        "peak_linear": [peak(fmt, c.system) for fmt, c in zip(linear, cases, strict=True)],
        "peak_expert": [peak(c.plan.weights, c.system) for c in cases],
        "peak_16": [peak("bf16", c.system) for c in cases],
        "tables": [_tables(c) for c in cases],
        "linear_format": [_format(fmt) for fmt in linear],
        "compiled": [c.compiled for c in cases],
    }
    for role, formats in (("linear", linear), ("expert", [c.plan.weights for c in cases])):
        how = [arithmetic(fmt, c.system) for fmt, c in zip(formats, cases, strict=True)]
        chip[f"is_low_{role}"] = [float(x in ("8", "4")) for x in how]
        chip[f"expands_{role}"] = [float(x == "w4") for x in how]
    return {k: np.array(v) for k, v in chip.items()}


def wires_of(cases: Sequence[Served]) -> EngineWires:
    """The wires of every case: groups of one system are laid out together."""
    plans = [c.plan for c in cases]
    tp, dp, cp = (np.array([float(getattr(p, name)) for p in plans]) for name in ("tp", "dp", "cp"))
    groups: dict[int, list[int]] = {}
    for i, case in enumerate(cases):
        groups.setdefault(id(case.system), []).append(i)
    parts = []
    for rows in groups.values():
        system, at = cases[rows[0]].system, np.array(rows)
        inside, outside = all_to_all_wires(system, tp[at] * dp[at], np.ones(len(at)))
        parts.append(
            EngineWires(
                reduce=all_reduce_wire(system, tp[at], np.ones(len(at))),
                lines=measured_lines([cases[i] for i in rows]),
                inside=inside,
                outside=outside,
                stage=transfer_wire(system, tp[at] * dp[at] * cp[at]),
                next=transfer_wire(system, tp[at]),
            )
        )
    return EngineWires.joined(parts).take(np.argsort([i for rows in groups.values() for i in rows]))


def measured_lines(cases: Sequence[Served]) -> MeasuredWire:
    """All-reduces of cases of one system as their engines were measured [lines, n]: bytes at the rate of
    the system's own links, as far as that differs from that of the links that were measured. Groups that reach beyond
    these links have none."""
    latency, per_B, from_B = np.zeros((3, NUM_LINES, len(cases)))
    from_B[:] = np.inf
    rows: dict[tuple[str, str, int], list[int]] = {}
    for i, case in enumerate(cases):
        rows.setdefault((case.engine, case.release, case.plan.tp), []).append(i)
    system = cases[0].system
    for (engine, release, tp), at in rows.items():
        found = measured_all_reduce(system.chip, engine, release, tp)
        if found is not None and tp <= system.levels[0].devices:
            rate = found.link_Bps / system.levels[0].bandwidth_Bps
            latency[:, at] = np.array(found.latency_s)[:, None]
            per_B[:, at] = np.array(found.per_B)[:, None] * rate
            from_B[:, at] = np.array(found.from_B)[:, None]
    return MeasuredWire(latency, per_B, from_B)


def stated_facts(facts: Facts, engine: str, system: System) -> frozenset[str]:
    """Paths of `STACK`, `READS`, `GENERATIONS`, `LOCKSTEP`, `UNSTATED` and of all-reduces with norms that the facts
    hold for this engine and this chip."""

    def read(known: Facts) -> frozenset[str]:
        norms = ("reduce_norms", *(f"reduce_norms_{arch}" for arch in _KINDS))
        paths_ = [f"serving.{engine}.{name}" for name in (*STACK.values(), *READS, *norms, "together")]
        paths_ += [f"serving.{whose}.reduce_norms" for whose in (system.chip, system.family)]
        paths_ += [f"serving.{GENERATIONS}.{system.family}", f"serving.{system.family}.{GENERATIONS}"]
        paths_ += [f"{UNSTATED}.{engine}_{name}" for name in (*_SETTINGS, "moe")]
        paths_ += [profile_path(factor, engine, system.chip, arch) for factor in PROFILE_FACTORS for arch in _KINDS]
        paths_ += [f"{LOCKSTEP}.{name}" for name in known.children(LOCKSTEP) if name.endswith(f"_{engine}")]
        return frozenset(path for path in paths_ if known.get(path) is not None)

    return facts.once(("stated", engine, system.family, system.chip), read)


def has_own(facts: Facts, system: System) -> bool:
    """Whether the chip has constants of its own, from operator tables measured on it."""
    return has_own_device(facts, system.chip)
