"""One forward pass of a whole model on one replica: no gradients, nothing decoded, nothing cached.

What a step of diffusion, an encoder or a speech model runs. The operators of a layer and their times are those of a
training step's forward pass (`training.layer`); here are the sums over a pass: what runs once beside the layers, what
the host launches, the branches of guidance, and what a device holds. Ranks of tensor parallelism share the tokens
between products (sequence parallelism) in compiled software, not in eager code.
Formulas: docs/theory/theory-forward.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from mowich.arrays import Floats
from mowich.estimate import Notes, told
from mowich.machines import collectives
from mowich.machines.system import PRECISIONS
from mowich.models.model import Attention, Layer, Model, Moe, Traced
from mowich.operators.law import waited
from mowich.operators.rates import WIDTHS
from mowich.plans.forward import ForwardPlan
from mowich.plans.memory import (
    activation_B_per_layer,
    dense_params_per_device,
    expert_params_per_device,
    groups_of_ranks,
    reserve_B,
)
from mowich.plans.plan import Plan, Plans, TrainJob, one_of
from mowich.software.stack import Platform, Stack
from mowich.sums import float_sum
from mowich.training.layer import Once
from mowich.training.parts import (
    COMPUTED,
    EXCHANGED,
    FORWARD,
    PARTS_OF_STEP,
    LayerTimes,
    StepPart,
    bound_by,
    layer_times,
)
from mowich.training.slices import by_slice
from mowich.training.stage import total_of
from mowich.training.step import software_s

PARTS_OF_PASS = (
    *(part for part in PARTS_OF_STEP if part.law and part.binds_pass),
    StepPart(name="outside", words="work outside of the layers", group="compute", binds_pass="what runs once a pass"),
    *(part for part in PARTS_OF_STEP if part.name == "fixed"),
    StepPart("cfg", "exchange of the branches", "network", binds_pass="links", is_wire=True),
    *(part for part in PARTS_OF_STEP if part.name == "software"),
)
"""The parts of a pass, in print order. outside: what runs once beside the layers; fixed: from one forward to the next;
cfg: the exchange between the branches of guidance; software: what the stack costs beyond the tuned reference."""

PASS_PARTS = tuple(part.name for part in PARTS_OF_PASS)
_WIRES = tuple(part.name for part in PARTS_OF_PASS if part.is_wire)
"""Parts that no software of the devices makes longer."""
_LATENT_B, _ACTIVATION_B = 4.0, 2.0
"""Bytes of an element of a latent, which schedulers keep in fp32, and of what a pass gives, in 16 bit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PassWork:
    """What one step computes for each item. tokens: of an item; branches: forwards of a step; is_diffusion: whether it
    changes a latent, which stays from step to step."""

    tokens: int
    branches: int = 1
    is_diffusion: bool = False

    @property
    def job(self) -> TrainJob:
        """This work as the job that the laws of a layer take: one sequence an item."""
        return TrainJob(tokens=float(self.tokens), seq=self.tokens, batch_seqs=1.0)


@dataclass(frozen=True, slots=True)
class PassTime:
    """Seconds of one step of one replica under each plan [n]. parts: by `PASS_PARTS`, sum to total_s."""

    total_s: Floats
    parts: dict[str, Floats]


def pass_plans(plans: Iterable[ForwardPlan], system: Platform) -> Plans:
    """Plans as columns. The branches of guidance are ranks of data; experts are cut as other matrices are."""
    return Plans.of(
        Plan(
            tp=p.tp,
            cp=p.cp,
            dp=p.cfg,
            etp=p.tp,
            micro_batch=p.batch,
            sp=p.tp > 1 and not system.stack.eager,
            precision=one_of(p.precision, PRECISIONS, "precision"),
        )
        for p in plans
    )


def forward_flop(model: Model, tokens: int) -> float:
    """FLOP of one forward of one item, whatever the machine does: no language-model head, whose logits nobody asks for.

    Units: FLOP.
    """
    return tokens * float_sum(layer.count * layer.flop_per_token(float(tokens)) for layer in model.work)


def pass_time(model: Model, system: Platform, work: PassWork, p: Plans, notes: Notes | None = None) -> PassTime:
    """Seconds of one step, each plan on the slice of the system that it asks for. Columns in, columns out; `notes` (one
    plan only) records every term. Raises nothing: legality and memory are checked by the search."""

    def on(part: Platform, plans: Plans) -> dict[str, Floats]:
        return _pass_time(model, part, work, plans, notes)

    # without gradients attention runs in the kernels of prefill
    parts = by_slice(replace(system, efficiency=replace(system.efficiency, attention_kernels=1.0)), p, on)
    return PassTime(total_s=parts.pop("total"), parts={name: parts[name] for name in PASS_PARTS})


def _pass_time(model: Model, system: Platform, work: PassWork, p: Plans, notes: Notes | None) -> dict[str, Floats]:
    s, zero = system.stack, np.zeros(len(p))
    parts = dict.fromkeys(PASS_PARTS, zero)
    once, layers = Once(), model.work
    for i, layer in enumerate(layers, 1):
        kind = None if notes is None else Notes(notes.moved)
        x = layer_times(model, layer, system, work.job, p, kind, once=once if notes is None else None)
        cp = _context_s(layer, system, work, p, x["cp"], kind)
        late_cp = np.where(cp < x["cp"], 0.0, x.late["cp"])
        x = replace(x, forward={**x.forward, "cp": cp}, late={**x.late, "cp": late_cp})
        host, starts = launched_s(layer, s)
        of_one = _layer_parts(x, host + zero, starts + zero, kind)
        is_outside = i > len(model.layers)
        if notes is not None and kind is not None:
            kind.drop("accumulate")  # of the backward pass
            which = "" if len(model.layers) == 1 else f" (kind {i})"
            notes.take(kind, " outside" if is_outside else f" x {layer.count} layers{which}")
        for name, seconds in of_one.items():
            to = "outside" if is_outside else name
            parts[to] = parts[to] + float(layer.count) * seconds
    forwards = work.branches / p.dp
    parts["fixed"] = s.pass_start + zero
    for name in PASS_PARTS[: PASS_PARTS.index("cfg")]:
        parts[name] = told(notes, f"{name}.pass", forwards_s, note="one step of one replica")(forwards, parts[name])
    if np.any(p.dp > 1):
        latent_B = 2.0 * _ACTIVATION_B * p.micro_batch * work.tokens / p.cp * output_width(model)
        joined = collectives.reduce_scatter_s(system, latent_B, p.dp, p.tp * p.cp)
        parts["cfg"] = np.where(p.dp > 1, joined, 0.0)
        if notes is not None:
            notes.add("cfg", parts["cfg"], "s", words="each branch sends its output to the other", bytes=latent_B)
    kernels = total_of(seconds for name, seconds in parts.items() if name not in _WIRES)
    parts["software"] = told(notes, "software", software_s, also={"stack": s.name}, note="kernels: all but transfers")(
        kernels=kernels, speed=s.speed * system.efficiency.framework_carry
    )
    total = total_of(parts[name] for name in PASS_PARTS)
    if notes is not None:
        notes.add("pass", total, "s", words="the sum of its parts", given=parts)
    return parts | {"total": total}


def _context_s(layer: Layer, system: Platform, work: PassWork, p: Plans, ring: Floats, notes: Notes | None) -> Floats:
    """Seconds of a layer's context parallel exchange: keys and values pass around a ring beside the attention core, or
    an all-to-all hands each rank its share of the heads before the core and takes it back, whichever is faster. The
    second needs heads that the ranks divide; nothing runs beside it."""
    if not np.any(p.cp > 1):
        return ring
    cores = [a for a, grows in _cores(layer) if grows]
    if not cores:
        return np.zeros_like(ring)
    tokens_B = _ACTIVATION_B * p.micro_batch * work.tokens / p.cp / p.tp
    into = float_sum(a.q_width + a.kv_width for a in cores) * tokens_B
    back = float_sum(a.out_width for a in cores) * tokens_B
    divides = np.all([a.num_heads % (p.tp * p.cp) == 0 for a in cores], axis=0)
    ways = [collectives.all_to_all_s(system, sent_B, p.cp, p.tp) for sent_B in (into, back)]
    across = total_of(way.inside_s + way.outside_s for way in ways)
    chosen = np.where(divides & (p.cp > 1), np.minimum(ring, across), ring)
    if notes is not None:
        words = "the shorter of a ring of keys and values, beside the core, and an all-to-all of heads"
        notes.add("cp.chosen", chosen, "s", words=words, ring=ring, across=across, sent=into + back)
    return chosen


def _cores(layer: Layer) -> list[tuple[Attention, bool]]:
    """(heads and widths, whether its keys are the tokens of the pass) of each attention core."""
    if isinstance(layer.mixer, Traced):
        return [(core.attention, core.keys[1] > 0) for core in layer.mixer.cores]
    return [(layer.attention, True)] if layer.attention.num_heads else []


def launched_s(layer: Layer, s: Stack) -> tuple[float, float]:
    """Seconds of (the host, the device) for launching a layer's forward pass: operation by operation where captured
    code runs eagerly, else as the stack does its layers."""
    if s.eager and isinstance(layer.mixer, Traced):
        return layer.mixer.launches * s.eager_launch, layer.mixer.launches * s.kernel_start
    return s.host_per_layer * (s.expert_host if isinstance(layer.ffn, Moe) else 1.0) * layer.blocks / 2.0, 0.0


def _layer_parts(x: LayerTimes, host: Floats, starts: Floats, notes: Notes | None) -> dict[str, Floats]:
    """Seconds of one layer by part; what the device waits for its host hides transfers that could be issued early."""
    ahead = told(notes, "layer.forward", FORWARD.law, note="one layer on the device")(**FORWARD.given(x, {}))
    waits = told(notes, "host.waits", waited, note="one layer; host: its launches")(compute=ahead + starts, host=host)
    launches = told(notes, "host", launches_s, note="one layer")(starts=starts, waits=waits)
    parts = {name: x[name] for name in COMPUTED} | {"host": launches}
    left = waits
    for name in EXCHANGED:
        hidden = np.minimum(x.late[name], left)
        left, parts[name] = left - hidden, x[name] - hidden
    return parts


def launches_s(starts: Floats, waits: Floats) -> Floats:
    """Seconds of launches: what the device takes to begin each operation, and what it waits for its host.

    T = starts + waits

    Units: starts s, waits s.

    >>> float(launches_s(np.array([2.0]), np.array([0.5]))[0])
    2.5
    """
    return np.asarray(starts + waits)


def forwards_s(forwards: Floats | float, one: Floats) -> Floats:
    """Seconds of a step that a part takes: the branches of guidance that share devices run one behind the other.

    T = forwards * one

    forwards: branches of a step over those that have devices of their own; one: of one forward of all layers.

    Units: one s.

    >>> float(forwards_s(2.0, np.array([0.25]))[0])
    0.5
    """
    return np.asarray(forwards * one)


def output_width(model: Model) -> float:
    """Elements of a token of what a pass gives: of its last product over all tokens, else of the residual stream."""
    last = [] if model.outside is None else [p.n for p in model.outside.products if p.rows[1] > 0]
    return float(last[-1] if last else model.hidden)


MEMORY_PARTS = ("weights", "activations", "latents", "reserve")
"""What a device holds during a pass. latents: what steps change and what each branch makes; of one pass its output."""


def pass_memory_B(
    model: Model, system: Platform, work: PassWork, p: Plans, notes: Notes | None = None
) -> dict[str, Floats]:
    """Bytes of a device by `MEMORY_PARTS` under each plan [n]: the weights in the format of the products, all
    activations of the layer that has most of them, latents in fp32, and what the software takes."""
    s, job = system.stack, work.job
    params = dense_params_per_device(model, p) + expert_params_per_device(model, p)
    weights = told(notes, "memory.weights", pass_weights_B, unit="B")(params, WIDTHS[p.precision.astype(np.intp)])
    activations = np.zeros(len(p))
    for layer in model.work:
        activations = np.maximum(activations, activation_B_per_layer(model, layer, system, job, p))
    latents = told(notes, "memory.latents", latents_B, unit="B")(
        bytes=_LATENT_B if work.is_diffusion else _ACTIVATION_B,
        items=p.micro_batch,
        tokens=work.tokens / p.cp,
        width=output_width(model),
        held=1.0 + work.branches if work.is_diffusion else 1.0,
    )
    reserve = told(notes, "memory.reserve", reserve_B, unit="B")(
        runtime=system.efficiency.runtime_reserve,
        groups=groups_of_ranks(p),
        communicator=s.communicator_B,
        workspace=s.workspace_B,
        graph_pool=s.graph_pool_B,
        fragmentation=s.fragmentation,
        moving=activations + latents,
    )
    if notes is not None:
        notes.add("memory.activations", activations, "B", words="everything that the largest layer makes, in 16 bit")
    return {"weights": weights, "activations": activations, "latents": latents, "reserve": reserve}


def pass_weights_B(params: Floats, bytes: Floats) -> Floats:
    """Bytes of the weights of a device.

    T = params * bytes

    params: of the device; bytes: of one in the format of the products.

    Units: bytes B.

    >>> float(pass_weights_B(np.array([6e9]), np.array([2.0]))[0])
    12000000000.0
    """
    return np.asarray(params * bytes)


def latents_B(bytes: float, items: Floats, tokens: Floats, width: float, held: float) -> Floats:
    """Bytes of latents of a device: the one that steps change, and the output of each branch.

    T = bytes * items * tokens * width * held

    bytes: of an element; tokens: of an item on the device; width: elements of a token; held: copies.

    Units: bytes B.

    >>> float(latents_B(4.0, np.array([1.0]), np.array([4096.0]), 64.0, 2.0)[0])
    2097152.0
    """
    return np.asarray(bytes * items * tokens * width * held)


BOUND_BY = bound_by(PARTS_OF_PASS, lambda part: part.binds_pass)
"""What binds a pass, in words, and its parts."""


def binds_pass(parts: Mapping[str, float]) -> str:
    """What takes most of a pass, in words."""
    shares = {word: float_sum(parts.get(name, 0.0) for name in names) for word, names in BOUND_BY.items()}
    return max(shares, key=lambda word: shares[word])
