"""One micro-batch through a pipeline stage: the sums of its layers, forward and backward, and the head of the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Floats
from mowich.estimate import Notes, told
from mowich.models.model import Model, Moe
from mowich.models.task import Lora
from mowich.operators.kernels import Kernels
from mowich.operators.law import gemm_s, passes, waited
from mowich.operators.list import backward_times
from mowich.operators.rates import DeviceRates, rates
from mowich.plans import schedules
from mowich.plans.memory import layers_per_stage, stage_split
from mowich.plans.plan import EXPERTS_AGAIN, Plans, TrainJob
from mowich.software.stack import Platform, Stack
from mowich.training.layer import LayerTimes, Once, layer_times
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
    if job.adapters is not None:  # forward, the gradients of inputs and of adapters
        products = next(name for name, parts in groups.items() if "gemm" in parts)
        sums[products] = sums[products] + 3.0 * adapters_s(model, job, p, rates(system, p.precision, kernels))
    imbalance = layers_per_stage(model, p) * p.pp / L
    cut = imbalance / p.pp
    head_forward, _, head_weights = of_head
    head = told(
        notes,
        "head",
        head_s,
        also={"t": p.micro_batch * job.seq / p.cp, "V": model.vocab / p.tp, "h": float(model.hidden)} if notes else {},
        note="one micro-batch: products of t tokens, V words and width h in 16 bit, and passes over the logits",
    )(*of_head)
    layers = total_of(sums[name] for name in groups)
    share = _share_of_head(model, p, layers, head, imbalance, s.head_exposed, notes)
    stage = told(
        notes, "stage", stage_s, also={"layers_per_stage": imbalance * L / p.pp}, note="one micro-batch, fullest stage"
    )(layers=layers, cut=cut, head=head, share=share)
    forward = stage_s(sums["forward"], cut, head_forward, share)
    weights = stage_s((weight_grad - 1.0) * sums["weights"], cut, head_weights, share)

    # in the mean of all stages but the fullest; no stage takes more than all
    f = others_s(sums["forward"] + head_forward, forward, p.pp)
    w = others_s((weight_grad - 1.0) * sums["weights"] + head_weights, weights, p.pp)
    b = np.maximum(0.0, others_s(layers + head, stage, p.pp) - f - w)
    return Stage(
        parts={name: sums[name] * cut for name in groups} | {"head": head * share},
        total_s=stage,
        forward_s=forward,
        bubble_s=schedules.bubble_s(p.schedule, p.pp, p.vpp, f, b, w, notes),
        sums=sums,
        head_s=head,
        imbalance=imbalance,
    )


def _share_of_head(
    model: Model,
    p: Plans,
    layers: Floats,
    head: Floats,
    imbalance: Floats,
    head_exposed: float,
    notes: Notes | None,
) -> Floats:
    """`head_share` by how the layers are dealt out: half of those that an uneven division leaves out of the last stage
    and of the first make room for the head, or all those that a balanced split leaves out of the last."""
    room, limit, even = 0.5 * (imbalance - 1.0) * layers, head_exposed + np.zeros_like(p.pp), 1.0 / p.pp
    if np.any(p.split > 0):
        k, last = stage_split(model, p)
        room = np.where(p.split > 0, (k - last) * layers / model.num_layers, room)
        limit, even = np.where(p.split > 0, 1.0, limit), np.where(p.split > 0, 0.0, even)
    return told(
        notes,
        "head.share",
        head_share,
        unit="x",
        note="of the head's time, in the pace of the pipeline; room: what the last stage has less of layers; copies: 2"
        " where a device works in two stages",
    )(even=even, limit=limit, room=room, head=np.where(head > 0.0, head, 1.0), copies=schedules.copies(p))  # of nothing


def head_share(even: Floats, limit: Floats, room: Floats, head: Floats, copies: Floats) -> Floats:
    """Share of the head's time that the fullest stage of a pipeline takes: what each stage would take of it, `even`,
    and of the rest what the last stage has no room for.

    T = even + (1 - even) * min(limit, max(0, 1 - room / head)) / copies

    room: seconds of layers that the last stage has less than the fullest; limit: of the rest, at most, since recipes
    place layers unevenly; copies: a device of DualPipe works half of the time in the first stage.

    Units: room s, head s.

    Example:
        >>> eight = np.array([0.125])  # one of eight stages, the head takes as long as its layers
        >>> float(head_share(eight, np.array([0.25]), np.array([0.0]), np.array([1.0]), np.array([1.0]))[0])
        0.34375
    """
    return np.asarray(even + (1.0 - even) * np.minimum(limit, np.maximum(0.0, 1.0 - room / head)) / copies)


def stage_s(layers: Floats, cut: Floats, head: Floats, share: Floats) -> Floats:
    """Seconds of one micro-batch through the fullest stage of a pipeline.

    T = layers * cut + head * share

    layers: through all of them; cut: the fullest stage's part of the layers; share: its part of the head.

    Units: layers s, head s.
    """
    return np.asarray(layers * cut + head * share)


def others_s(all_stages: Floats, fullest: Floats, pp: Floats) -> Floats:
    """Seconds of one micro-batch through the mean of the stages but the fullest.

    T = (all_stages - fullest) / max(1, pp - 1)

    Units: all_stages s, fullest s.
    """
    return np.asarray((all_stages - fullest) / np.maximum(1.0, pp - 1.0))


def _grouped(sums: Mapping[str, Floats], groups: Mapping[str, tuple[str, ...]]) -> dict[str, Floats]:
    """The parts by group, and the forward pass and weight gradients beside them."""
    out = {name: total_of(sums[part] for part in parts) for name, parts in groups.items()}
    return out | {name: sums[name] for name in ("forward", "weights")}


def head_times(
    model: Model, system: Platform, job: TrainJob, p: Plans, r: DeviceRates
) -> tuple[Floats, Floats, Floats]:
    """(forward, backward to the input, backward to the weights) of the language-model head and the loss, one
    micro-batch: a 16-bit GEMM each, and passes over the logits; nothing without a vocabulary."""
    s, t = system.stack, p.micro_batch * job.seq / p.cp
    if not model.vocab:
        nothing = np.zeros_like(t)
        return nothing, nothing, nothing
    vocab = float(model.vocab) / p.tp
    gemm = gemm_s(t, vocab, np.full_like(t, float(model.hidden)), r, is_wide=True)
    logits = passes(t * vocab, s.head_passes, r.B)
    weights = np.zeros_like(t) if job.frozen_base else gemm
    return model.heads * (gemm + logits), model.heads * (gemm + logits), model.heads * weights


def head_s(forward: Floats, back: Floats, weights: Floats) -> Floats:
    """Seconds of the head and the loss of one micro-batch.

    T = forward + back + weights

    Units: forward s, back s, weights s.
    """
    return np.asarray(forward + back + weights)


def adapters_s(model: Model, job: TrainJob, p: Plans, r: DeviceRates) -> Floats:
    """Forward seconds of the adapters of all layers, one micro-batch, on one of tp ranks: narrow products that move
    bytes.

    A matrix takes 2 B x t (k + 2 r + 3 n) / B: the input read, rank r written and read, the output written, read and
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
    repeats = _repeats_of(p.recompute if again is None else again[:, None], s)
    # inputs that are kept are not gathered again
    backward_tp = np.where((p.sp > 0) & (p.regather == 0), 1.0, s.backward_tp)
    sums = {name: np.zeros(len(p)) for name in (*LAYER_PARTS, "forward", "weights")}
    once = Once()
    for i, layer in enumerate(model.work, 1):
        kind = None if notes is None else Notes(notes.moved)
        # each kind notes all of its terms
        x = layer_times(model, layer, system, job, p, kind, kernels, once if notes is None else None)
        outside = s.expert_host if isinstance(layer.ffn, Moe) else 1.0  # of graphs
        host = np.zeros(len(p)) + s.host_per_layer * outside * layer.blocks / 2.0
        of_one = _layer_parts(x, s, weight_grad, host, backward_tp, repeats, kind)
        if notes is not None and kind is not None:
            notes.take(
                kind,
                f" x {layer.count} layer{'s' * (layer.count > 1)}" + ("" if len(model.work) == 1 else f" (kind {i})"),
            )
        for name, seconds in of_one.items():
            sums[name] = sums[name] + float(layer.count) * seconds
    return sums


@dataclass(frozen=True, slots=True)
class _Repeats:
    """What the backward pass computes again, by plan. share: of a layer's work; whole: 1 where it is all of a layer;
    stops: 1 where that ends before the last product; attention: 1 where the attention core is among it; experts: where
    experts alone are; launches: times that the host launches a layer behind its forward pass."""

    share: Floats
    whole: Floats
    stops: Floats
    attention: Floats
    experts: NDArray[np.bool_]
    launches: Floats


def _repeats_of(recompute: Floats, s: Stack) -> _Repeats:
    full, selective = recompute == 2, recompute == 1
    rest = 0.0 if s.selective_attention else s.selective_recompute
    return _Repeats(
        share=np.where(full, s.full_recompute, np.where(selective, rest, 0.0)),
        whole=np.where(full, 1.0, 0.0),
        stops=np.where(full, s.recompute_stops, 0.0),
        attention=np.where(full | (selective & bool(s.selective_attention)), 1.0, 0.0),
        experts=recompute == EXPERTS_AGAIN,
        launches=s.backward_host + np.where(full, 1.0, 0.0),
    )


def _layer_parts(
    x: LayerTimes,
    s: Stack,
    weight_grad: float,
    host: Floats,
    backward_tp: Floats,
    repeats: _Repeats,
    notes: Notes | None,
) -> dict[str, Floats]:
    """Seconds of one layer and one micro-batch by LAYER_PARTS, forward and backward; "forward": the pass of that name
    with its waits, "weights": one product for the gradients of weights. host: what the launches of a forward pass
    take."""
    products = x.gemm + x.expert_gemm
    stream, routing = backward_times("stream"), backward_times("routing")
    ahead = told(notes, "layer.forward", forward_s, note="one layer on the device")(
        products=products, attention=x.attention, memory_bound=x.memory_bound, quantise=x.quantise, moe=x.moe
    )
    back = told(notes, "layer.backward", backward_s, note="one layer on the device")(
        weight_grad=weight_grad,
        products=products,
        attention=x.attention_backward,
        stream=stream,
        memory_bound=x.memory_bound,
        casts=s.backward_quantise,
        quantise=x.quantise,
        routing=routing,
        moe=x.moe,
        accumulate=x.accumulate,
    )
    waits, waits_back = waited(ahead, host), waited(back, s.backward_host * host)
    again = again_s(
        share=repeats.share,
        products=products,
        stops=repeats.stops,
        last=x.last,
        memory_bound=x.memory_bound,
        quantise=x.quantise,
        moe=x.moe,
        tp=x.tp,
        whole=repeats.whole,
        ep=x.ep,
        core=repeats.attention,
        attention=x.attention,
    )
    if np.any(repeats.experts):
        again = np.where(repeats.experts, x.experts_again, again)
    parts = {
        "gemm": (1.0 + weight_grad) * products,
        "attention": x.attention + x.attention_backward,
        "memory_bound": (1.0 + stream) * x.memory_bound + x.accumulate,
        "quantise": (1.0 + s.backward_quantise) * x.quantise,
        "moe": (1.0 + routing) * x.moe,
        "host": waits + waits_back,
        # the host launches again what is computed again, before and beside the backward pass
        "recompute": again + waited(back + again, repeats.launches * host) - waits_back,
        "forward": ahead + waits,
        "weights": products,
    }
    one = np.ones_like(waits)
    left, left_back = waits, waits_back  # what is left of the waits to hide transfers in
    for name, exposed, late, times in zip(
        ("tp", "cp", "ep"), (x.tp, x.cp, x.ep), x.late, (backward_tp, one, one), strict=True
    ):
        hidden, hidden_back = np.minimum(late, left), np.minimum(times * late, left_back)
        left, left_back = left - hidden, left_back - hidden_back
        parts["forward"] = parts["forward"] + exposed - hidden
        parts[name] = (1.0 + times) * exposed - hidden - hidden_back
    return parts


def forward_s(products: Floats, attention: Floats, memory_bound: Floats, quantise: Floats, moe: Floats) -> Floats:
    """Seconds that the device computes in the forward pass of a layer.

    T = products + attention + memory_bound + quantise + moe

    Units: products s, attention s, memory_bound s, quantise s, moe s.
    """
    return np.asarray(products + attention + memory_bound + quantise + moe)


def backward_s(
    weight_grad: float,
    products: Floats,
    attention: Floats,
    stream: float,
    memory_bound: Floats,
    casts: float,
    quantise: Floats,
    routing: float,
    moe: Floats,
    accumulate: Floats,
) -> Floats:
    """Seconds that the device computes in the backward pass of a layer: so many times what its forward pass takes, the
    attention core by itself, and the sum of the gradients of weights.

    T = weight_grad * products + attention + stream * memory_bound + casts * quantise + routing * moe + accumulate

    weight_grad: products of the backward pass for each of the forward pass.

    Units: products s, attention s, memory_bound s, quantise s, moe s, accumulate s.
    """
    return np.asarray(
        weight_grad * products + attention + stream * memory_bound + casts * quantise + routing * moe + accumulate
    )


def again_s(
    share: Floats,
    products: Floats,
    stops: Floats,
    last: Floats,
    memory_bound: Floats,
    quantise: Floats,
    moe: Floats,
    tp: Floats,
    whole: Floats,
    ep: Floats,
    core: Floats,
    attention: Floats,
) -> Floats:
    """Seconds that the backward pass of a layer computes again.

    T = share * (products - stops * last + memory_bound + quantise + moe + tp + whole * ep) + core * attention

    last: of the products, those whose outputs the backward pass does not need; stops: 1 where they are left out; whole:
    1 where rows go to their experts again; core: 1 where the attention core is repeated.

    Units: products s, last s, memory_bound s, quantise s, moe s, tp s, ep s, attention s.
    """
    needed = products - stops * last + memory_bound + quantise + moe + tp + whole * ep
    return np.asarray(share * needed + core * attention)


def total_of(parts: Iterable[Floats]) -> Floats:
    """Sum of columns that broadcast together."""
    return reduce(np.add, parts)
