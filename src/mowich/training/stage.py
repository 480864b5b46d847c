"""One micro-batch through a pipeline stage: the sums of its layers, forward and backward, and the head of the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
from mowich.training.layer import Once
from mowich.training.parts import (
    BACKWARD_PASS,
    COMPUTED,
    EXCHANGED,
    FORWARD,
    LAYER_PARTS,
    NEEDED_AGAIN,
    BackwardJob,
    LayerTimes,
    both_passes_s,
    layer_times,
)
from mowich.training.slices import by_slice


@dataclass(frozen=True, slots=True)
class Stage:
    """Seconds of one micro-batch on the slowest stage under each plan; nothing here depends on dp, unless data-parallel
    ranks lie between tensor-parallel ones."""

    parts: dict[str, Floats]
    """By LAYER_PARTS and "head"."""
    total_s: Floats
    """The sum of the parts."""
    forward_s: Floats
    """Of that, the forward pass."""
    bubble_s: Floats
    """Idle in a step."""
    sums: dict[str, Floats]
    """All layers' parts, or groups of them, before the pipeline cuts them."""
    head_s: Floats
    """The whole head."""
    imbalance: Floats
    """Layers of the fullest stage over the mean one."""


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
    sums, of_head = _one_micro_batch(model, system, job, p, notes, kernels, groups, known)
    if job.adapters is not None:
        products = next(name for name, parts in groups.items() if "gemm" in parts)
        ahead = adapters_s(model, job, p, rates(system, p.precision, kernels))
        sums[products] = with_adapters_s(sums[products], ahead)
    imbalance = fullest_over_mean(layers_per_stage(model, p), p.pp, float(model.num_layers))
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
    share = _share_of_head(model, p, layers, head, imbalance, system.stack.head_exposed, notes)
    most = imbalance * float(model.num_layers) / p.pp
    stage = told(notes, "stage", stage_s, also={"layers_per_stage": most}, note="one micro-batch, fullest stage")(
        layers=layers, cut=cut, head=head, share=share
    )
    weight_grad = backward_times("product", is_frozen=job.frozen_base)
    gradients = (weight_grad - 1.0) * sums["weights"]
    forward = stage_s(sums["forward"], cut, head_forward, share)
    weights = stage_s(gradients, cut, head_weights, share)

    # in the mean of all stages but the fullest; no stage takes more than all
    f = others_s(sums["forward"] + head_forward, forward, p.pp)
    w = others_s(gradients + head_weights, weights, p.pp)
    b = inputs_back_s(others_s(layers + head, stage, p.pp), f, w)
    return Stage(
        parts={name: sums[name] * cut for name in groups} | {"head": head * share},
        total_s=stage,
        forward_s=forward,
        bubble_s=schedules.bubble_s(p.schedule, p.pp, p.vpp, f, b, w, notes),
        sums=sums,
        head_s=head,
        imbalance=imbalance,
    )


def _one_micro_batch(
    model: Model,
    system: Platform,
    job: TrainJob,
    p: Plans,
    notes: Notes | None,
    kernels: Kernels | None,
    groups: Mapping[str, tuple[str, ...]],
    known: Through | None,
) -> tuple[dict[str, Floats], Sequence[Floats]]:
    """(all layers by group of parts, the head's three times) before the pipeline cuts them. Of many plans each
    distinct row of SHARED is evaluated once."""
    if known is not None:
        sums = {name: column[known.row] for name, column in known.sums.items()}
        return sums, [column[known.row] for column in known.head]
    if len(p) == 1:
        sums = _grouped(layer_sums(model, system, job, p, notes, kernels), groups)
        return sums, head_times(model, system, job, p, rates(system, p.precision, kernels))
    distinct, inverse = p.unique(*SHARED, also=beside_shared(p))
    of_layers = _grouped(layer_sums(model, system, job, distinct, None, kernels), groups)
    of_head = head_times(model, system, job, distinct, rates(system, distinct.precision, kernels))
    return {name: column[inverse] for name, column in of_layers.items()}, [column[inverse] for column in of_head]


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
    room, limit, even = uneven_room_s(imbalance, layers), head_exposed + np.zeros_like(p.pp), 1.0 / p.pp
    if np.any(p.split > 0):
        most, last = stage_split(model, p)
        room = np.where(p.split > 0, balanced_room_s(most, last, layers, model.num_layers), room)
        limit, even = np.where(p.split > 0, 1.0, limit), np.where(p.split > 0, 0.0, even)
    return told(
        notes,
        "head.share",
        head_share,
        unit="x",
        note="of the head's time, in the pace of the pipeline; room: what the last stage has less of layers; copies: 2"
        " where a device works in two stages",
    )(even=even, limit=limit, room=room, head=np.where(head > 0.0, head, 1.0), copies=schedules.copies(p))  # of nothing


def uneven_room_s(imbalance: Floats, layers: Floats) -> Floats:
    """Seconds of layers that the last stage has less than the fullest, where they are dealt out as evenly as they go:
    half of what the mean stage has less, for the first stage makes room as well.

    T = 0.5 * (imbalance - 1) * layers

    imbalance: layers of the fullest stage over the mean one; layers: of a stage's work, through all of them.

    Units: layers s.

    >>> float(uneven_room_s(np.array([1.25]), np.array([0.8]))[0])  # 5 layers in 4 stages: one has 2, the mean 1.25
    0.1
    """
    return np.asarray(0.5 * (imbalance - 1.0) * layers)


def balanced_room_s(most: Floats, last: Floats, layers: Floats, num_layers: float) -> Floats:
    """Seconds of layers that the last stage has less than the fullest, in a split that leaves them out for the head.

    T = (most - last) * layers / num_layers

    most, last: layers of the fullest and of the last stage; layers: through all of them.

    Units: layers s.

    >>> float(balanced_room_s(np.array([8.0]), np.array([6.0]), np.array([4.0]), 32)[0])  # two layers of 0.125 s
    0.25
    """
    return np.asarray((most - last) * layers / num_layers)


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

    >>> float(stage_s(np.array([3.2]), np.array([0.25]), np.array([0.4]), np.array([0.5]))[0])  # one of four stages
    1.0
    """
    return np.asarray(layers * cut + head * share)


def others_s(all_stages: Floats, fullest: Floats, pp: Floats) -> Floats:
    """Seconds of one micro-batch through the mean of the stages but the fullest.

    T = (all_stages - fullest) / max(1, pp - 1)

    Units: all_stages s, fullest s.

    >>> float(others_s(np.array([3.5]), np.array([1.25]), np.array([4.0]))[0])
    0.75
    """
    return np.asarray((all_stages - fullest) / np.maximum(1.0, pp - 1.0))


def inputs_back_s(whole: Floats, forward: Floats, weights: Floats) -> Floats:
    """Seconds of one micro-batch through a stage that are neither its forward pass nor gradients of weights.

    T = max(0, whole - forward - weights)

    Units: whole s, forward s, weights s.

    >>> float(inputs_back_s(np.array([0.75]), np.array([0.25]), np.array([0.25]))[0])
    0.25
    """
    return np.maximum(0.0, whole - forward - weights)


def fullest_over_mean(most: Floats, pp: Floats, num_layers: float) -> Floats:
    """Layers of the fullest of pp stages over those of the mean one.

    T = most * pp / num_layers

    most: layers of the fullest stage.

    >>> float(fullest_over_mean(np.array([16.0]), np.array([8.0]), 126.0)[0])  # 126 layers in 8 stages
    1.0158730158730158
    """
    return np.asarray(most * pp / num_layers)


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

    >>> float(head_s(np.array([0.25]), np.array([0.25]), np.array([0.125]))[0])
    0.625
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


def with_adapters_s(products: Floats, adapters: Floats) -> Floats:
    """Seconds of the products of all layers with those of their adapters: forward, the gradients of their inputs and
    their own.

    T = products + 3 * adapters

    adapters: of the forward pass.

    Units: products s, adapters s.

    >>> float(with_adapters_s(np.array([2.0]), np.array([0.25]))[0])
    2.75
    """
    return np.asarray(products + 3.0 * adapters)


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
    back = BackwardJob(stack=s, is_frozen=job.frozen_base, p=p)
    repeats = _repeats_of(p.recompute if again is None else again[:, None], s)
    sums = {name: np.zeros(len(p)) for name in (*LAYER_PARTS, "forward", "weights")}
    once = Once()
    for i, layer in enumerate(model.work, 1):
        kind = None if notes is None else Notes(notes.moved)
        # each kind notes all of its terms
        x = layer_times(model, layer, system, job, p, kind, kernels, once if notes is None else None)
        outside = s.expert_host if isinstance(layer.ffn, Moe) else 1.0  # of graphs
        host = np.zeros(len(p)) + s.host_per_layer * outside * layer.blocks / 2.0
        of_one = _layer_parts(x, back, host, repeats, kind)
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
    """What the backward pass computes again, by plan."""

    share: Floats
    """Of a layer's work."""
    whole: Floats
    """1 where it is all of a layer."""
    stops: Floats
    """1 where that ends before the last product."""
    attention: Floats
    """1 where the attention core is among it."""
    experts: NDArray[np.bool_]
    """Where experts alone are."""
    launches: Floats
    """Times that the host launches a layer behind its forward pass."""


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
    x: LayerTimes, job: BackwardJob, host: Floats, repeats: _Repeats, notes: Notes | None
) -> dict[str, Floats]:
    """Seconds of one layer and one micro-batch by LAYER_PARTS, forward and backward; "forward": the pass of that name
    with its waits, "weights": one product for the gradients of weights. host: what the launches of a forward pass
    take."""
    factors = {symbol: times(job) for symbol, times in (law.times for law in COMPUTED.values() if law.times)}
    ahead = told(notes, "layer.forward", FORWARD.law, note="one layer on the device")(**FORWARD.given(x, {}))
    back = told(notes, "layer.backward", BACKWARD_PASS.law, note="one layer on the device")(
        **BACKWARD_PASS.given(x, factors)
    )
    waits, waits_back = waited(ahead, host), waited(back, job.stack.backward_host * host)
    needed = NEEDED_AGAIN.given(x, {"whole": repeats.whole})
    needed["products"] = products_again_s(x["gemm"], repeats.stops, x.last)
    cores = total_of(x[name] for name, law in COMPUTED.items() if law.repeated == "core")
    again = again_s(share=repeats.share, needed=NEEDED_AGAIN.law(**needed), core=repeats.attention, attention=cores)
    if np.any(repeats.experts):
        again = np.where(repeats.experts, x.experts_again, again)
    parts = {name: both_passes_s(x, name, factors) for name in COMPUTED} | {
        "host": waits + waits_back,
        # the host launches again what is computed again, before and beside the backward pass
        "recompute": again + waited(back + again, repeats.launches * host) - waits_back,
        "forward": ahead + waits,
        "weights": x["gemm"],
    }
    left, left_back = waits, waits_back  # what is left of the waits to hide transfers in
    for name, law in EXCHANGED.items():
        exposed, late, again_times = x[name], x.late[name], law.times(job)
        hidden, hidden_back = np.minimum(late, left), np.minimum(again_times * late, left_back)
        left, left_back = left - hidden, left_back - hidden_back
        parts["forward"] = parts["forward"] + exposed - hidden
        parts[name] = (1.0 + again_times) * exposed - hidden - hidden_back
    return parts


def products_again_s(products: Floats, stops: Floats, last: Floats) -> Floats:
    """Seconds of the products of a layer that the backward pass needs again.

    T = products - stops * last

    last: of the products, those whose outputs the backward pass does not need; stops: 1 where they are left out.

    Units: products s, last s.

    >>> float(products_again_s(np.array([1.0]), np.array([1.0]), np.array([0.25]))[0])
    0.75
    """
    return np.asarray(products - stops * last)


def again_s(share: Floats, needed: Floats, core: Floats, attention: Floats) -> Floats:
    """Seconds that the backward pass of a layer computes again.

    T = share * needed + core * attention

    needed: what one repetition takes; core: 1 where the attention core is repeated.

    Units: needed s, attention s.

    >>> float(again_s(np.array([1.0]), np.array([0.75]), np.array([1.0]), np.array([0.25]))[0])  # a whole layer
    1.0
    """
    return np.asarray(share * needed + core * attention)


def total_of(parts: Iterable[Floats]) -> Floats:
    """Sum of columns that broadcast together."""
    return reduce(np.add, parts)
