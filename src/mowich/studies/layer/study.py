"""The time of decoder layers and of a whole step on simulated NeuronCores (`mowich kernel layer`).

One rank of the group is traced, and stands for all: they run the same kernels on the same shapes. Each part is a launch
of its own; where nki-library's blocks do both halves of a layer, all layers of a kind are one launch as well, which is
what a step takes then. A collective takes what the clock says inside a chip, and beyond it what the machine's fabric
takes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, cast

from mowich.errors import UserError
from mowich.estimate import Estimate
from mowich.facts import Facts
from mowich.machines import collectives
from mowich.machines.system import System, machines, resolve
from mowich.models.model import Layer, Model
from mowich.neuroncore.instructions.rates import PS
from mowich.nki import hollow
from mowich.nki.runtime import run_function
from mowich.requests.kernels import LayerRequest
from mowich.shown import Keyed, Shown
from mowich.software.vendors import chip_of, kernel_target
from mowich.studies.heard import heard
from mowich.studies.layer.calls import (
    Builder,
    Call,
    ffn_builders,
    head_calls,
    kit_lacks_block,
    mixer_builders,
    residual,
    shared_expert,
)
from mowich.studies.layer.decoder import decoder, gather_among, reduce_among
from mowich.studies.layer.law import half_by_law_s
from mowich.studies.layer.library import Kit
from mowich.studies.layer.shape import LayerJob, RankLayer, check_split, odd_ffn, odd_mixer, rank_layer
from mowich.studies.system_run import KIND_OF
from mowich.sums import float_sum

if TYPE_CHECKING:
    from mowich.neuroncore.profile import Profile

Half = Literal["mixer", "ffn"]
_MOST_INSTRUCTIONS, _FEWEST = 200_000, 4
"""Instructions of one launch of many layers that are traced, and layers that are in any case."""
_MOST_PROMPT = 16_384
"""Tokens of a prefill step: attention alone is some 10^5 instructions then."""
_MOST_WORDS = 160
"""Characters of a kernel's own message that a note repeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerPart(Keyed):
    """A part of a layer or of a step. kernel: its name, "" for what the law gives; source: nki-library, mowich (ours or
    the machine's links) or law; time_s: one launch; engines: engine -> seconds at work; binds: what is busiest, with
    its share; hbm_B: bytes read and written on one rank; why: of a part without a kernel."""

    KEYS = "part=name kernel source time_s engines_s=engines binds hbm_B why"

    name: str
    kernel: str
    source: str
    time_s: Estimate
    engines: Mapping[str, float] = field(default_factory=dict)
    binds: str = ""
    hbm_B: float = 0.0
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerKind(Keyed):
    """Layers of one shape. parts: a launch each, in order; one: the layer as one launch, None where no kernel does all
    of it; all_s: all `count` layers."""

    KEYS = "count layer=words layer_s parts_s all_s one_launch=one parts"

    count: int
    words: str
    parts: tuple[LayerPart, ...]
    one: LayerPart | None
    all_s: Estimate

    @property
    def layer_s(self) -> Estimate:
        """One layer: as one launch, else the sum of its parts."""
        return self.one.time_s if self.one is not None else self.parts_s

    @property
    def parts_s(self) -> Estimate:
        """One layer as the sum of its parts."""
        return summed([p.time_s for p in self.parts])


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerStudy(Shown):
    """A decode or prefill step of a model on one group of ranks. after: last norm, head, sampling; step_s: all of it;
    by_law_s: what of it the law gave; library: checkout, version: its commit; notes: what was done otherwise than
    asked.

    Units: seconds.

    Example:
        >>> import mowich
        >>> mowich.run_layer("llama-3.2-1b", "trn3:1", context=512).step_s.unit  # doctest: +SKIP
        's'
    """

    SCHEMA = "mowich/kernel-layer@1"
    KEYS = (
        "inputs.model=model inputs.on=on inputs.tp=job.tp inputs.lnc=job.lnc inputs.batch=job.batch "
        "inputs.context=job.context inputs.phase=job.phase inputs.library=library target library_version=version "
        "step_s law_share kinds after notes"
    )

    model: str
    on: str
    target: str
    job: LayerJob
    kinds: tuple[LayerKind, ...]
    after: tuple[LayerPart, ...]
    step_s: Estimate
    by_law_s: float
    library: str
    version: str
    notes: tuple[str, ...]
    cpu_s: float

    @property
    def law_share(self) -> float:
        """Share of the step that the law gives."""
        return self.by_law_s / float(self.step_s) if float(self.step_s) else 0.0


def summed(parts: Sequence[Estimate]) -> Estimate:
    """Times one after another: their intervals move together, for the facts behind them are the same."""
    value, low, high = (float_sum(getattr(p, end) or 0.0 for p in parts) for end in ("value", "low", "high"))
    grade = max((p.grade for p in parts), default="C")
    return Estimate(value=value, low=low, high=high, unit="s", grade=grade)


class _Ranks:
    """The group of ranks on its machine: runs kernels as one rank that stands for all. facts: of the clock; kit: the
    kernels."""

    def __init__(self, facts: Facts, system: System, target: str, job: LayerJob, kit: Kit) -> None:
        from mowich.neuroncore.clock.costs import Costs
        from mowich.neuroncore.clock.records import ClockOptions
        from mowich.neuroncore.core import Alike
        from mowich.neuroncore.targets import generation_of

        self.system, self.target, self.job, self.kit = system, target, job, kit
        self.generation = generation_of(target)
        self._costs = Costs(self.generation, facts)
        self.chip_cores = round(self._costs.number("memory.cores"))
        self.device_cores = max(1, self.chip_cores // system.devices_per_chip)
        self._options = ClockOptions(active_cores=min(self.chip_cores, job.tp * job.lnc), dge=True)
        self._alike = Alike(ranks=job.tp, lasts_ps=self._lasts_ps)

    def _lasts_ps(self, kind: str, sent_B: int) -> int | None:
        """A collective on the fabric; None inside a chip. The fabric counts devices of `device_cores` cores."""
        job = self.job
        if job.tp * job.lnc <= self.chip_cores:
            return None
        whole = float(sent_B * (job.tp if kind == "all_gather" else 1))
        n = max(2, job.tp * job.lnc // self.device_cores)
        return round(PS * float_sum(collectives.by_level(self.system, KIND_OF[kind], whole, n).values()))

    def run(self, call: Call) -> Profile:
        """A launch of one kernel."""
        from mowich.neuroncore.clock.schedule import schedule
        from mowich.neuroncore.profile import Profile

        made = run_function(
            call.function,
            (),
            call.arguments,
            generation=self.generation,
            grid=self.job.lnc if self.job.lnc > 1 else None,
            values=False,
            check=False,
            alike=self._alike,
        )
        traces = [core.trace for core in made.cores if core.trace is not None]
        return Profile(schedule(traces, self._costs, self._options), call.kernel)

    def as_devices(self) -> System:
        """The machine with each rank as a device of the planner's."""
        share = self.job.lnc / self.device_cores
        s = self.system
        return replace(
            s,
            devices_per_chip=round(s.devices_per_chip / share),
            peak_flops={k: v * share for k, v in s.peak_flops.items()},
            hbm_Bps=s.hbm_Bps * share,
            hbm_usable_B=s.hbm_usable_B * share,
        )

    def timed(self, call: Call) -> LayerPart:
        """A part of a layer, as a launch."""
        return part_of(call, self.run(call))


def part_of(call: Call, profile: Profile) -> LayerPart:
    """What a launch says about its part."""
    engines = {name: use.busy_s for name, use in profile.engines.items() if use.busy_s > 0}
    busiest = max(engines, key=lambda name: engines[name], default="")
    share = engines.get(busiest, 0.0) / profile.total_s if profile.total_s else 0.0
    return LayerPart(
        name=call.part,
        kernel=call.kernel,
        source=call.source,
        time_s=profile.time_s,
        engines=engines,
        binds=f"{busiest} {share:.0%}" if busiest else "",
        hbm_B=float(sum(profile.hbm_B)),
    )


@heard()
def time_layers(asked: LayerRequest) -> LayerStudy:
    """A step of a model on a group of ranks.

    Raises UserError for a machine without NeuronCores, a degree that does not divide, a model that does not fit or none
    of whose layers has a kernel, and a checkout whose kernels take other arguments.
    """
    begin = time.process_time()
    facts, model, on, lnc = asked.facts, asked.model, asked.on, asked.lnc
    system = resolve(facts, on)
    target = kernel_target(facts, system.chip)
    if target is None:
        allowed = [name for name in machines(facts) if kernel_target(facts, chip_of(facts, name))]
        raise UserError("this machine has no NeuronCore that is simulated", where="--on", given=on, allowed=allowed)
    if lnc == 2 and target == "trn1":
        raise UserError("the cores of a Trainium1 are not joined in pairs", given="--lnc 2", allowed="--lnc 1")
    kit = Kit(asked.library)
    alone = LayerJob(tp=1, lnc=lnc, batch=asked.batch, context=round(asked.context), prefill=asked.prefill)
    ranks = _Ranks(facts, system, target, alone, kit)
    cores = ranks.chip_cores * system.chips
    job = replace(ranks.job, tp=asked.tp if asked.tp is not None else cores // lnc)
    if job.tp * lnc > cores:
        raise UserError(
            f"{job.tp} ranks of {lnc} cores do not fit on {on}",
            given=f"{job.tp * lnc} cores",
            allowed=f"at most {cores // lnc} ranks on {system.chips} chips of {ranks.chip_cores} cores",
        )
    if job.prefill and job.tokens > _MOST_PROMPT:
        raise UserError(
            "a prefill step of so many tokens takes too long to trace",
            given=f"{job.tokens:,} tokens",
            allowed=f"at most {_MOST_PROMPT:,} of all prompts together",
            fix="a smaller --context or --batch",
        )
    check_split(model, job.tp)
    _check_fits(model, system, job, ranks.device_cores)
    if all(odd_mixer(layer) and odd_ffn(layer) for layer in model.layers):
        first = model.layers[0]
        raise UserError(
            f"no layer of {model.name} has kernels: " + ", ".join(dict.fromkeys((odd_mixer(first), odd_ffn(first)))),
            fix="grouped-query attention and gated feed-forward networks have; `mowich plan --serve` takes any model",
        )
    ranks = _Ranks(facts, system, target, job, kit)
    notes: list[str] = []
    with kit.opened():
        kinds = tuple(_kind(facts, model, layer, ranks, notes) for layer in model.layers)
        after = _after(model, ranks)
    by_law = float_sum(
        kind.count * float(p.time_s) for kind in kinds for p in kind.parts if p.source == "law" and kind.one is None
    )
    return LayerStudy(
        model=model.name,
        on=on,
        target=target,
        job=job,
        kinds=kinds,
        after=after,
        step_s=summed([*(k.all_s for k in kinds), *(p.time_s for p in after)]),
        by_law_s=by_law,
        library=str(asked.library) if asked.library is not None else "",
        version=kit.version,
        notes=tuple(dict.fromkeys(notes)),
        cpu_s=time.process_time() - begin,
    )


def _check_fits(model: Model, system: System, job: LayerJob, device_cores: int) -> None:
    """Weights and caches in bf16 against the memory of the cores that the ranks take."""
    per_rank = system.hbm_usable_B * job.lnc / device_cores
    cache = float_sum(layer.count * 2.0 * layer.attention.entry_elements for layer in model.layers)
    needs = (2.0 * model.params + cache * job.batch * job.context) / job.tp
    if needs > per_rank:
        raise UserError(
            f"{model.name} in bf16 does not fit {job.tp} ranks",
            given=f"{needs / 1e9:,.1f} GB a rank",
            allowed=f"{per_rank / 1e9:,.1f} GB",
            fix="more ranks (--tp), or a smaller --batch or --context",
        )


def _kind(facts: Facts, model: Model, layer: Layer, ranks: _Ranks, notes: list[str]) -> LayerKind:
    """Layers of one shape: each part, then all of them as one launch where kernels do all."""
    s, parts = rank_layer(layer, ranks.job), []
    calls: list[Call] = []
    exchange = _exchange(ranks, "all-reduce", reduce_among, s.job.tokens, s.wide)
    add = ranks.timed(residual(ranks.kit, s)[0])
    for half, odd, builders in (
        ("mixer", odd_mixer(layer), mixer_builders(ranks.kit, s)),
        ("ffn", odd_ffn(layer), ffn_builders(ranks.kit, s)),
    ):
        if not (layer.has_mixer if half == "mixer" else layer.has_ffn):
            continue
        made: list[tuple[Call, LayerPart]] = []
        if not odd:
            made = _first_that_runs(ranks, s, builders, notes)
        if not made:
            why = odd or "no kernel takes this shape"
            value = half_by_law_s(facts, ranks.as_devices(), model, layer, cast("Half", half), ranks.job)
            name = "attention" if half == "mixer" else "feed-forward"
            parts.append(LayerPart(name=name, kernel="", source="law", time_s=value, why=why))
        calls += [call for call, _ in made]
        parts += [part for _, part in made]
        parts += [exchange, add] if ranks.job.tp > 1 else [add]
    one, whole = None, None
    if kit_lacks_block(ranks.kit, s) and not odd_mixer(layer):
        notes.append(
            f"attention_block_tkg of nki-library takes one key-value head, a rank has {s.kv_heads}: ours are taken"
        )
    if not s.job.prefill and _is_fusible(calls, layer):
        one, whole = _as_one(ranks, s, calls, layer.count, notes)
    total = summed([p.time_s for p in parts])
    return LayerKind(
        count=layer.count,
        words=_words(layer),
        parts=tuple(parts),
        one=one,
        all_s=whole if whole is not None else total.scaled(layer.count, "s"),
    )


def _words(layer: Layer) -> str:
    a, moe = layer.attention, getattr(layer.ffn, "num_experts", 0)
    mixer = "attention" if layer.recurrent is None else "recurrence"
    window = f" over {a.window:,} tokens" if a.window else ""
    return f"{mixer}{window}, {f'{moe} experts' if moe else 'MLP'}"


def _first_that_runs(
    ranks: _Ranks, s: RankLayer, builders: Sequence[Builder], notes: list[str]
) -> list[tuple[Call, LayerPart]]:
    """The calls of the first builder whose kernels take the shape, with their times."""
    from mowich.neuroncore.core import NkiValidationError

    for builder in builders:
        calls = builder(ranks.kit, s)
        if s.shared_ffn and s.experts and builder in ffn_builders(ranks.kit, s):
            calls = [*calls, *shared_expert(ranks.kit, s)]
        made: list[tuple[Call, LayerPart]] = []
        try:
            for call in calls:
                made.append((call, ranks.timed(call)))
            return made
        except (AssertionError, NkiValidationError, NotImplementedError) as error:
            refused = calls[len(made)].kernel
            notes.append(f"{refused} refuses this shape, another kernel is taken: {_shortened(error)}")
    return []


def _shortened(error: BaseException) -> str:
    """The words of an error on one line."""
    text = " ".join(str(error).split())
    return text if len(text) <= _MOST_WORDS else f"{text[:_MOST_WORDS]} ..."


def _exchange(ranks: _Ranks, name: str, kernel: object, tokens: int, width: int) -> LayerPart:
    """A collective among all ranks, alone."""
    if ranks.job.tp == 1:
        return LayerPart(name=name, kernel="", source="mowich", time_s=Estimate(value=0.0, low=0.0, high=0.0, unit="s"))
    assert callable(kernel)
    arguments = {"tokens": tokens, "width": width, "ranks": ranks.job.tp}
    return ranks.timed(Call(part=name, kernel="links", source="mowich", function=kernel, arguments=arguments))


def _is_fusible(calls: Sequence[Call], layer: Layer) -> bool:
    """Whether nki-library's blocks do both halves of a layer, so that they can be one launch."""
    names = [c.kernel for c in calls]
    halves = (["mlp"], ["moe_block_tkg"], ["rmsnorm", "matmul", "route", "moe_tkg"])
    return names[:1] == ["attention_block_tkg"] and names[1:] in halves and layer.blocks == 2


def _as_one(
    ranks: _Ranks, s: RankLayer, calls: Sequence[Call], count: int, notes: list[str]
) -> tuple[LayerPart | None, Estimate | None]:
    """(One layer as one launch, all layers as one launch); nothing where the kernels do not run together."""
    make = _megakernel if _is_plain(s) else _blocks
    try:
        first = ranks.run(make(ranks, s, calls, 1))
        one = part_of(make(ranks, s, calls, 1), first)
        together = max(_FEWEST, min(count, _MOST_INSTRUCTIONS // max(1, len(first))))
        if count <= together:
            return one, one.time_s if count == 1 else ranks.run(make(ranks, s, calls, count)).time_s
        many, fewer = (ranks.run(make(ranks, s, calls, n)).time_s for n in (together, together // 2))
    except (AssertionError, UserError) as error:
        notes.append(f"the layers do not run as one launch: {_shortened(error)}")
        return None, None
    notes.append(
        f"{together} of {count} layers were run as one launch; each other one takes what the last of these take"
    )
    return one, _longer(many, fewer, (count - together) / (together - together // 2))


def _longer(many: Estimate, fewer: Estimate, times: float) -> Estimate:
    """A launch of more layers: `many`, and so many times what it takes longer than `fewer`."""
    ends = [[getattr(e, end) or 0.0 for end in ("value", "low", "high")] for e in (many, fewer)]
    value, low, high = (a + times * (a - b) for a, b in zip(*ends, strict=True))
    return Estimate(value=value, low=low, high=high, unit="s", grade=many.grade)


def _is_plain(s: RankLayer) -> bool:
    """A layer of Llama's form, which nki-library has one kernel for."""
    return not (s.experts or s.has_qk_norm or s.has_qkv_bias or s.has_out_bias or s.has_sinks or s.has_ffn_bias)


def _blocks(ranks: _Ranks, s: RankLayer, calls: Sequence[Call], count: int) -> Call:
    """Blocks of nki-library one after the other."""
    blocks = [(c.function, dict(c.arguments)) for c in calls]
    return Call(
        part="layer",
        kernel=" + ".join(dict.fromkeys(c.kernel for c in calls)),
        source="nki-library",
        function=decoder,
        arguments={
            "x": hollow((s.job.batch, 1, s.wide), "bfloat16"),
            "attention": blocks[0],
            "ffn": blocks[1:],
            "layers": count,
            "ranks": ranks.job.tp,
        },
    )


def _megakernel(ranks: _Ranks, s: RankLayer, calls: Sequence[Call], count: int) -> Call:
    """`transformer_tkg` of nki-library: layers of Llama's form in one kernel."""
    block, mlp = calls[0].arguments, calls[1].arguments
    each = {
        "W_qkvs": block["W_qkv"],
        "W_outs": block["W_out"],
        "W_gates": mlp["gate_proj_weights_tensor"],
        "W_ups": mlp["up_proj_weights_tensor"],
        "W_downs": mlp["down_proj_weights_tensor"],
        "W_gamma_qkvs": block["rmsnorm_X_gamma"],
        "W_gamma_mlps": mlp["normalization_weights_tensor"],
        "K_caches": block["K_cache"],
        "V_caches": block["V_cache"],
        "W_gate_scales": None,
        "W_up_scales": None,
        "W_down_scales": None,
    }
    arguments: dict[str, object] = {name: [value] * count for name, value in each.items()}
    arguments |= {
        "X": block["X"],
        "RoPE_cos": block["cos"],
        "RoPE_sin": block["sin"],
        "mask_cache": block["attention_mask"],
        "mask_active": None,
        "position_ids": block["kv_cache_update_idx"],
        "num_layers": count,
        "replica_groups": [list(range(ranks.job.tp))] if ranks.job.tp > 1 else None,
    }
    function = ranks.kit.theirs("transformer_tkg", "transformer_tkg", arguments)
    return Call(part="layer", kernel="transformer_tkg", source="nki-library", function=function, arguments=arguments)


def _after(model: Model, ranks: _Ranks) -> tuple[LayerPart, ...]:
    """Last norm, head and greedy sampling, with the exchange of each rank's largest."""
    job = ranks.job
    calls = head_calls(ranks.kit, job, model.hidden, math.ceil(model.vocab / job.tp))
    made = [ranks.timed(call) for call in calls]
    if job.tp > 1:
        made.append(_exchange(ranks, "all-gather of the largest", gather_among, job.batch, 16))
    return tuple(made)
