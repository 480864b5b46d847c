"""One micro-batch through a pipeline stage: the sums of its layers, forward and backward, and the head of the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Floats
from mowich.estimate import Notes
from mowich.models.model import Model
from mowich.models.task import Lora
from mowich.operators.kernels import Kernels
from mowich.operators.law import gemm_s, passes, waited
from mowich.operators.list import backward_times
from mowich.operators.rates import DeviceRates, rates
from mowich.plans import schedules
from mowich.plans.memory import layers_per_stage, stage_split
from mowich.plans.plan import EXPERTS_AGAIN, Plans, TrainJob
from mowich.software.stack import Platform
from mowich.training.layer import Once, layer_times
from mowich.training.slices import by_slice

LAYER_PARTS = ("gemm", "attention", "memory_bound", "quantise", "moe", "recompute", "host", "tp", "cp", "ep")
"""The parts that layers have; the others belong to the step."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Seconds of one micro-batch on the slowest stage under each plan; nothing here depends on dp, unless data-parallel
    ranks lie between tensor-parallel ones. parts: by LAYER_PARTS and "head"; total_s: their sum, of which forward_s;
    bubble_s: idle in a step; sums: all layers' parts, or groups of them, before the pipeline cuts them; head_s: the
    whole head; imbalance: layers of the fullest stage over the mean one."""

    parts: dict[str, Floats]
    total_s: Floats
    forward_s: Floats
    bubble_s: Floats
    sums: dict[str, Floats]
    head_s: Floats
    imbalance: Floats


EACH: Mapping[str, tuple[str, ...]] = {name: (name,) for name in LAYER_PARTS}
"""Every part of the layers by itself."""


SHARED = (
    "tp",
    "sp",
    "cp",
    "ep",
    "etp",
    "micro_batch",
    "recompute",
    "precision",
    "tp_overlap",
    "regather",
)
"""What decides, with `beside_shared`, what a micro-batch takes through all layers and the head."""


def beside_shared(p: Plans) -> list[Floats]:
    """The stride of tensor ranks that are not neighbours, and whether two micro-batches travel through a stage."""
    out = [p.stride("tp")] if np.any(p.order > 1) else []
    if np.any(p.schedule > schedules.INTERLEAVED):
        out.append(schedules.pairs(p.schedule))
    return out


HEAD = ("head_forward", "head_back", "head_weights")


@dataclass(frozen=True, slots=True)
class Through:
    """One micro-batch through all layers and the head, by rows: what many plans share is a row of it. sums: by groups
    of parts; head: forward, backward to the input and to the weights; row: of each plan."""

    sums: Mapping[str, Floats]
    head: tuple[Floats, Floats, Floats]
    row: NDArray[np.intp]


def through(
    model: Model,
    system: Platform,
    job: TrainJob,
    p: Plans,
    groups: Mapping[str, tuple[str, ...]],
    row: NDArray[np.intp],
    again: Floats | None = None,
) -> Through:
    """What these plans take, each on its slice of the system, of which plan i of others is row[i]. again: recompute [k]
    in the place of their own; row i * k + j is plan i with the j-th."""

    def on(part: Platform, plans: Plans) -> dict[str, Floats]:
        head = head_times(model, part, job, plans, rates(part, plans.precision))
        sums = layer_sums(model, part, job, plans, None, again=again)
        return _grouped(sums, groups) | dict(zip(HEAD, head, strict=True))

    sums = by_slice(system, p, on)
    if again is not None:
        sums = {name: np.broadcast_to(column, (len(again), len(p))).T.ravel() for name, column in sums.items()}
    forward, back, weights = (sums.pop(name) for name in HEAD)
    return Through(sums, (forward, back, weights), row)


def stage_times(
    model: Model,
    system: Platform,
    job: TrainJob,
    p: Plans,
    notes: Notes | None = None,
    kernels: Kernels | None = None,
    *,
    groups: Mapping[str, tuple[str, ...]] = EACH,
    known: Through | None = None,
) -> Stage:
    """The part of a step that the work of one micro-batch takes. The fullest stage sets the pace.

    groups: name -> parts of layers that are summed under it; all parts are in one. Few groups take less time where
    there are many plans: what layers take is the same for many, and is summed before it is dealt out to them.
    known: that, where it has been computed.
    """
    s = system.stack
    L = float(model.num_layers)
    weight_grad = backward_times("product", is_frozen=job.frozen_base)
    if known is not None:
        sums = {name: column[known.row] for name, column in known.sums.items()}
        of_head = [column[known.row] for column in known.head]
    elif len(p) > 1:
        distinct, inverse = p.unique(*SHARED, also=beside_shared(p))
        of_layers = _grouped(layer_sums(model, system, job, distinct, None, kernels), groups)
        sums = {name: column[inverse] for name, column in of_layers.items()}
        of_head = [
            v[inverse] for v in head_times(model, system, job, distinct, rates(system, distinct.precision, kernels))
        ]
    else:
        sums = _grouped(layer_sums(model, system, job, p, notes, kernels), groups)
        of_head = list(head_times(model, system, job, p, rates(system, p.precision, kernels)))
    imbalance = layers_per_stage(model, p) * p.pp / L
    cut = imbalance / p.pp
    per_micro = {name: sums[name] * cut for name in groups}
    # on the last stage; half of the layers that an uneven division leaves out of it and of the first makes room for it
    head_forward, head_back, head_weights = of_head
    head = head_forward + head_back + head_weights
    layers = total_of(sums[name] for name in groups)
    beyond = np.clip(1.0 - 0.5 * (imbalance - 1.0) * layers / head, 0.0, s.head_exposed)
    head_share = 1.0 / p.pp + beyond * (1.0 - 1.0 / p.pp)
    if np.any(p.split > 0):
        k, last = stage_split(model, p)
        room = (k - last) * layers / L
        head_share = np.where(p.split > 0, np.clip(1.0 - room / head, 0.0, 1.0), head_share)
    # beyond its part, the head delays a device of DualPipe half of the time: it is in the first stage otherwise
    even = np.where(p.split > 0, 0.0, 1.0 / p.pp)
    head_share = even + (head_share - even) / schedules.copies(p)
    per_micro["head"] = head * head_share
    added: Floats | float = 0.0
    if job.adapters is not None:  # forward, the gradients of inputs and of adapters
        products = next(name for name, parts in groups.items() if "gemm" in parts)
        added = 3.0 * adapters_s(model, job, p, rates(system, p.precision, kernels))
        per_micro[products] = per_micro[products] + added * cut
    stage = total_of(per_micro.values())
    forward = sums["forward"] * cut + head_forward * head_share
    weights = (weight_grad - 1.0) * sums["weights"] * cut + head_weights * head_share

    # in the mean of all stages but the fullest; no stage takes more than all
    share = 1.0 / np.maximum(1.0, p.pp - 1.0)
    f = (sums["forward"] + head_forward - forward) * share
    w = ((weight_grad - 1.0) * sums["weights"] + head_weights - weights) * share
    b = np.maximum(0.0, (layers + head + added - stage) * share - f - w)
    return Stage(
        parts=per_micro,
        total_s=stage,
        forward_s=forward,
        bubble_s=schedules.bubble_s(p.schedule, p.pp, p.vpp, f, b, w, notes),
        sums=sums,
        head_s=head,
        imbalance=imbalance,
    )


def _grouped(sums: Mapping[str, Floats], groups: Mapping[str, tuple[str, ...]]) -> dict[str, Floats]:
    """The parts by group, and the forward pass and weight gradients beside them."""
    out = {name: total_of(sums[part] for part in parts) for name, parts in groups.items()}
    return out | {name: sums[name] for name in ("forward", "weights")}


def head_times(
    model: Model, system: Platform, job: TrainJob, p: Plans, r: DeviceRates
) -> tuple[Floats, Floats, Floats]:
    """(forward, backward to the input, backward to the weights) of the language-model head and the loss, one
    micro-batch: a 16-bit GEMM each, and passes over the logits."""
    s, t = system.stack, p.micro_batch * job.seq / p.cp
    vocab = float(model.vocab) / p.tp
    gemm = gemm_s(t, vocab, np.full_like(t, float(model.hidden)), r, is_wide=True)
    logits = passes(t * vocab, s.head_passes, r.B)
    weights = np.zeros_like(t) if job.frozen_base else gemm
    return model.heads * (gemm + logits), model.heads * (gemm + logits), model.heads * weights


def adapters_s(model: Model, job: TrainJob, p: Plans, r: DeviceRates) -> Floats:
    """Forward seconds of the adapters of all layers, one micro-batch, on one of tp ranks: narrow products that move
    bytes.

    T = 2 B x t (k + 2 r + 3 n) / B a matrix: the input read, rank r written and read, the output written, read and
    added. In 16 bit.
    """
    lora = job.adapters or Lora()
    t = p.micro_batch * job.seq / p.cp
    moved = np.zeros_like(t)
    for layer in model.layers:
        for gemm in lora.gemms(layer, model.hidden):
            n, k = gemm.local(p.tp)
            moved = moved + layer.count * t * (k + 2.0 * lora.rank + 3.0 * n)
    return np.asarray(2.0 * moved / r.B)


def layer_sums(
    model: Model,
    system: Platform,
    job: TrainJob,
    p: Plans,
    notes: Notes | None,
    kernels: Kernels | None = None,
    again: Floats | None = None,
) -> dict[str, Floats]:
    """Forward, backward and recompute seconds of one micro-batch through every layer, by part, before the pipeline cuts
    them. again: recompute [k] in the place of the plans' own; the part "recompute" is then [k, n], and the others do
    not depend on it."""
    s = system.stack
    weight_grad = backward_times("product", is_frozen=job.frozen_base)
    stream, routing = backward_times("stream"), backward_times("routing")
    recompute = p.recompute if again is None else again[:, None]
    full, selective = recompute == 2, recompute == 1
    rho = np.where(full, s.full_recompute, np.where(selective & (s.unfused_attention == 0), s.selective_recompute, 0.0))
    attention_again = full | (selective & (s.unfused_attention > 0))
    launched_back = s.backward_host + np.where(full, 1.0, 0.0)
    backward_tp = np.where(
        (p.sp > 0) & (p.regather == 0), 1.0, s.backward_tp
    )  # inputs that are kept are not gathered again
    sums = {name: np.zeros(len(p)) for name in (*LAYER_PARTS, "forward", "weights")}
    once = Once()
    for i, layer in enumerate(model.layers, 1):
        kind = None if notes is None else Notes(notes.moved)
        x = layer_times(
            model, layer, system, job, p, kind, kernels, once if notes is None else None
        )  # each kind notes all of its terms
        if notes is not None and kind is not None:
            notes.take(
                kind,
                f" x {layer.count} layer{'s' * (layer.count > 1)}" + ("" if len(model.layers) == 1 else f" (kind {i})"),
            )
        lin = x.gemm + x.expert_gemm
        forward = lin + x.attention + x.memory_bound + x.quantise + x.moe
        backward = (
            weight_grad * lin
            + x.attention_backward
            + stream * x.memory_bound
            + s.backward_quantise * x.quantise
            + routing * x.moe
            + x.accumulate
        )
        host = np.zeros(len(p)) + s.host_per_layer * layer.blocks / 2.0
        n = float(layer.count)
        sums["gemm"] = sums["gemm"] + n * (1.0 + weight_grad) * lin
        sums["attention"] = sums["attention"] + n * (x.attention + x.attention_backward)
        sums["memory_bound"] = sums["memory_bound"] + n * ((1.0 + stream) * x.memory_bound + x.accumulate)
        sums["quantise"] = sums["quantise"] + n * (1.0 + s.backward_quantise) * x.quantise
        sums["moe"] = sums["moe"] + n * (1.0 + routing) * x.moe
        waits = waited(forward, host)
        waits_back = waited(backward, s.backward_host * host)
        sums["weights"] = sums["weights"] + n * lin
        sums["host"] = sums["host"] + n * (waits + waits_back)
        sums["forward"] = sums["forward"] + n * (forward + waits)
        left, left_back = waits, waits_back  # what is left of the waits to hide transfers in
        once_back = np.ones(len(p))
        for name, exposed, late, again in zip(
            ("tp", "cp", "ep"), (x.tp, x.cp, x.ep), x.late, (backward_tp, once_back, once_back), strict=True
        ):
            ahead, back = np.minimum(late, left), np.minimum(again * late, left_back)
            left, left_back = left - ahead, left_back - back
            sums["forward"] = sums["forward"] + n * (exposed - ahead)
            sums[name] = sums[name] + n * ((1.0 + again) * exposed - ahead - back)
        needed = lin - np.where(full, s.recompute_stops, 0.0) * x.last
        redo = rho * (needed + x.memory_bound + x.quantise + x.moe + x.tp + np.where(full, x.ep, 0.0))
        redo = redo + np.where(attention_again, x.attention, 0.0)
        if np.any(recompute == EXPERTS_AGAIN):
            redo = np.where(recompute == EXPERTS_AGAIN, x.experts_again, redo)
        # the host launches again what is computed again, before and beside the backward pass
        of_both = waited(backward + redo, launched_back * host)
        sums["recompute"] = sums["recompute"] + n * (redo + of_both - waits_back)
    return sums


def total_of(parts: Iterable[Floats]) -> Floats:
    """Sum of columns that broadcast together."""
    return reduce(np.add, parts)
