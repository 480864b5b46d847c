"""Forward times of one layer on one rank, by part: its operators (`operators.list`) by the law of time
(`operators.law`), and collectives by that of the fabric (`machines.collectives`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar, cast

import numpy as np

from mowich.arrays import Floats
from mowich.estimate import BY_TABLES, Notes, told
from mowich.machines import collectives
from mowich.models import ops
from mowich.models.model import Layer, Model, Moe
from mowich.operators import list as list_
from mowich.operators.kernels import Kernels
from mowich.operators.law import (
    beside,
    fused_attention,
    gemm_s,
    late,
    passes,
    scan,
    unfused_attention,
)
from mowich.operators.rates import IS_BLOCK, IS_LOW, DeviceRates, rates
from mowich.plans import schedules
from mowich.plans.plan import Plans, TrainJob
from mowich.software.stack import Platform, Stack
from mowich.training.experts import ExpertTimes, experts_s

T = TypeVar("T")


class Once(dict[object, object]):
    """What kinds of layers share in one evaluation (a projection, an attention core, the same experts): made when first
    asked for."""

    def __call__(self, key: object, make: Callable[[], T]) -> T:
        if key not in self:
            self[key] = make()
        return cast(T, self[key])


@dataclass(frozen=True, slots=True)
class LayerTimes:
    """Forward seconds of one layer and one micro-batch on one rank, by part (and the attention core's backward); comm
    parts are already the exposed share. accumulate: of the backward pass, adding the gradients of weights to their sum.
    experts_again: what repeating the mixture of experts alone takes. last: of the products, those whose outputs the
    backward pass does not need. late: [tp, cp, ep] transfers that the software can issue early and that find no compute
    to run beside: waits for the host hide them."""

    gemm: Floats
    attention: Floats
    attention_backward: Floats
    memory_bound: Floats
    quantise: Floats
    accumulate: Floats
    moe: Floats
    expert_gemm: Floats
    experts_again: Floats
    last: Floats
    tp: Floats
    cp: Floats
    ep: Floats
    late: tuple[Floats, Floats, Floats]


@dataclass(frozen=True, slots=True)
class _Products:
    """Of the products of a layer: seconds of all, of the shared expert's, of those whose outputs the backward pass does
    not need; elements of their inputs, for quantisation passes; weights, whose gradients are summed."""

    seconds: Floats
    shared: Floats
    last: Floats
    inputs: Floats
    weights: Floats


@dataclass(frozen=True, slots=True)
class _Exchanges:
    """Exposed seconds of tensor and of context parallel exchanges, and what of them waits for the host would hide."""

    tp: Floats
    late_tp: Floats
    cp: Floats
    late_cp: Floats


def layer_times(
    model: Model,
    layer: Layer,
    system: Platform,
    job: TrainJob,
    p: Plans,
    notes: Notes | None = None,
    kernels: Kernels | None = None,
    once: Once | None = None,
) -> LayerTimes:
    """Forward times of one layer kind under each plan (columns [n]); once: shared with the model's other kinds."""
    once = Once() if once is None else once
    h, s = float(model.hidden), system.stack
    share = once("share", lambda: rank_share(job, p, element_B(job, s)))
    r = once("rates", lambda: rates(system, p.precision, kernels, share.element_B))
    t = share.tokens
    # what is gathered in the format of the product is cast before, by each rank its own tokens; adapters read 16 bit
    gathered_low = s.tp_gather_low_precision if not job.frozen_base else 1.0
    made = _products(model, layer, system, r, share, gathered_low, once, notes)
    in_block = s.attention_experts if model.has_experts else s.attention_block
    attention, attention_backward = once(
        ("core", layer.mixer), lambda: _core_s(layer, system, share, p, r, in_block, notes)
    )
    between = list_.stream(layer, h, share, is_eager=bool(s.eager))
    by_rows = None
    if kernels is not None and share.element_B == 2.0:
        by_rows = r.tabled("passes", between.rows, h, between.norms, between.bytes_ / 2.0 - between.norm_elements)
    memory_bound = told(
        notes,
        "memory_bound",
        passes,
        also={"t": t, "h": np.where(p.sp > 0, h / p.tp, h)} if notes else {},
        note="forward, one layer; bytes_: norms, residuals, attention's inputs and outputs, the activation function",
        tabled=by_rows,
    )(
        bytes_=between.bytes_,
        times=s.memory_passes if between.most is None else np.minimum(s.memory_passes, between.most),
        B=r.B,
    )
    inputs, last, weights = made.inputs, made.last, made.weights
    moe, expert_gemm, ep, experts_again, late_ep = (np.zeros_like(t) for _ in range(5))
    if isinstance(layer.ffn, Moe):
        ffn = layer.ffn
        x = once(("experts", ffn), lambda: experts_s(ffn, model, system, job, p, r, share, notes))
        moe, expert_gemm, inputs = x.routing, x.gemm, inputs + x.inputs
        last = last + (0.0 if ffn.latent else x.down)
        weights = weights + ffn.num_experts / p.ep * ffn.expert_params(model.hidden) / p.etp
        # what can run meanwhile: the shared expert, and the other micro-batch where two travel through a stage at once
        other = made.seconds - made.shared + attention + memory_bound
        meanwhile = made.shared + np.where(schedules.pairs(p.schedule) > 0, other, 0.0)
        ep, late_ep = _expert_traffic_s(system, p, x, meanwhile, notes)
        experts_again = made.shared + expert_gemm + moe + ep + r.quantise_B * x.inputs / r.B
    quantise = told(
        notes,
        "quantise",
        quantise_s,
        note="forward, one layer; elements: of the products' inputs",
        tabled=r.tabled("quantise", inputs, p.precision, s.backward_quantise),
    )(b_q=r.quantise_B, elements=inputs, B=r.B)
    accumulate = np.zeros_like(t)
    if not job.frozen_base:
        accumulate = told(
            notes,
            "accumulate",
            passes,
            note="backward, one layer; bytes_: weights; times: the sum of a gradient is read and written",
        )(bytes_=weights, times=2.0 * s.grad_memory_B, B=r.B)
    moved = _exchanges_s(layer, system, p, share, h, gathered_low, (made.seconds, attention), once, notes)
    return LayerTimes(
        gemm=made.seconds,
        attention=attention,
        attention_backward=attention_backward,
        memory_bound=memory_bound,
        quantise=quantise,
        accumulate=accumulate,
        moe=moe,
        expert_gemm=expert_gemm,
        experts_again=experts_again,
        last=last,
        tp=moved.tp,
        cp=moved.cp,
        ep=ep,
        late=(moved.late_tp, moved.late_cp, late_ep),
    )


def _products(
    model: Model,
    layer: Layer,
    system: Platform,
    r: DeviceRates,
    share: list_.Share,
    gathered_low: float,
    once: Once,
    notes: Notes | None,
) -> _Products:
    """The products of a layer outside of its experts. gathered_low: share of the bytes that a gather of inputs takes in
    the format of the product."""

    def seconds_of(g: list_.Product) -> Floats:
        return gemm_s(g.m, g.n, g.k, r, is_wide=g.format == "16 bit", notes=notes, name=f"gemm.{g.gemm.name}")

    gemm, shared, last, inputs, weights = (np.zeros_like(share.tokens) for _ in range(5))
    own = np.where(gathered_low < 1.0, share.split_tokens / share.tokens, 1.0) if np.any(gathered_low < 1.0) else 1.0
    products = once(
        ("products", layer.mixer, layer.ffn, layer.extra_matmul_params),
        lambda: list_.products(layer, model.hidden, share),
    )
    for g in products:
        seconds = once(g.gemm, partial(seconds_of, g))
        gemm = gemm + seconds
        shared = shared + (seconds if g.gemm.is_shared_expert else 0.0)
        last = last + (seconds if list_.is_last(g, layer) else 0.0)
        inputs = inputs + (g.inputs * own if g.gemm.split == "n" else g.inputs)
        weights = weights + (g.n * g.k if g.gemm.is_held else 0.0)
    return _Products(gemm, shared, last, inputs, weights)


def _expert_traffic_s(
    system: Platform, p: Plans, x: ExpertTimes, meanwhile: Floats, notes: Notes | None
) -> tuple[Floats, Floats]:
    """(exposed, late) seconds of a layer's dispatch and combine. meanwhile: seconds of compute that may run beside."""
    share, contention = system.stack.ep_overlap, system.efficiency.comm_contention
    exposed = told(notes, "ep.exposed", beside, note="dispatch and combine, one layer; window: what can run meanwhile")(
        T=x.exchange, share=share, window=meanwhile, contention=contention
    )
    ep = told(
        notes, "ep.all_to_all", exchanged_s, also={"ep": p.ep}, note="between: ranks that share an expert; one layer"
    )(exposed=exposed, between=x.between)
    return ep, late(x.exchange, share, meanwhile)


def _exchanges_s(
    layer: Layer,
    system: Platform,
    p: Plans,
    share: list_.Share,
    h: float,
    gathered_low: float,
    beside_s: tuple[Floats, Floats],
    once: Once,
    notes: Notes | None,
) -> _Exchanges:
    """Tensor parallel: one all-reduce (or all-gather + reduce-scatter) after attention and one after the dense
    feed-forward; context parallel: a gather of keys and values. beside_s: seconds of the products and of the attention
    core, which they run beside."""
    s, e, stride = system.stack, system.efficiency, p.stride("tp")
    gemm, attention = beside_s
    over_tp, over_cp = list_.exchanges(layer, h, share)
    tp_all = once("reduced", lambda: _reduced_s(system, p, over_tp.bytes_, gathered_low))
    early = s.tp_overlap * p.tp_overlap * (p.sp > 0)
    alone = over_tp.count * tp_all
    tp = told(
        notes,
        "tp.collective",
        beside,
        also={"collectives": over_tp.count, "bytes": over_tp.bytes_},
        note="forward, one layer; T: of all collectives of the layer; window: its products",
    )(T=alone, share=early, window=gemm, contention=e.comm_contention)
    late_tp, cp, late_cp = late(alone, early, gemm), np.zeros_like(share.tokens), np.zeros_like(share.tokens)
    if np.any(p.cp > 1):
        cp_all = once(
            ("gathered", ops.exchanged_kv(layer, share.seq)),
            lambda: collectives.reduce_scatter_s(system, over_cp.bytes_, p.cp, p.tp * stride),
        )
        exposed = told(
            notes,
            "cp.exchange",
            beside,
            also={"bytes": over_cp.bytes_ / p.cp, "cp": p.cp},
            note="forward, one layer; T: keys and values of all ranks; window: the attention core",
        )(T=cp_all, share=1.0 - s.cp_exposed, window=attention, contention=e.comm_contention)
        cp = np.where(p.cp > 1, exposed, 0.0)
        late_cp = np.where(p.cp > 1, late(cp_all, 1.0 - s.cp_exposed, attention), 0.0)
    return _Exchanges(tp, late_tp, cp, late_cp)


def _reduced_s(system: Platform, p: Plans, data_B: Floats, gathered_low: float) -> Floats:
    """Seconds of one tensor parallel exchange of a layer: an all-reduce, or with sequence parallelism a reduce-scatter
    and a gather, which may be in the format of the product."""
    if not np.any(p.tp > 1):
        return np.zeros_like(data_B)
    stride, is_low = p.stride("tp"), IS_LOW[p.precision.astype(np.intp)]
    scatter = collectives.reduce_scatter_s(system, data_B, p.tp, stride)
    gather = scatter
    if np.any(gathered_low != 1.0) and np.any(is_low):
        few = np.where(is_low, gathered_low, 1.0) * data_B
        gather = collectives.reduce_scatter_s(system, few, p.tp, stride)
    scattered = scatter + gather
    whole = collectives.all_reduce_s(system, data_B, p.tp, stride)
    return np.where(p.tp > 1, np.where(p.sp > 0, scattered, whole), 0.0)


def element_B(job: TrainJob, s: Stack) -> float:
    """Bytes of an element between products: automatic mixed precision widens it where the software does not fuse what
    lies between products into them."""
    return max(job.element_B, s.autocast_B) if job.is_autocast else job.element_B


def rank_share(job: TrainJob, p: Plans, element_B: float) -> list_.Share:
    """What of a micro-batch one rank has under each plan."""
    t = p.micro_batch * job.seq / p.cp
    return list_.Share(
        tokens=t,
        split_tokens=np.where(p.sp > 0, t / p.tp, t),
        seq=float(job.seq),
        attended=float(job.attended),
        element_B=element_B,
        tp=p.tp,
        cp=p.cp,
        is_split=p.sp,
    )


def _core_s(
    layer: Layer,
    system: Platform,
    share: list_.Share,
    p: Plans,
    r: DeviceRates,
    in_block: float,
    notes: Notes | None,
) -> tuple[Floats, Floats]:
    """(forward, backward) of a layer's attention cores, or of its recurrences. in_block: rate in recipes with a scale
    for each block over that in 16 bit."""
    each = [_one_core_s(core, system, share, p, r, in_block, notes) for core in list_.cores(layer, share)]
    if len(each) == 1:
        return each[0]
    zero = np.zeros_like(share.tokens)
    return sum((ahead for ahead, _ in each), zero), sum((back for _, back in each), zero)


def _one_core_s(
    core: list_.AttentionCore,
    system: Platform,
    share: list_.Share,
    p: Plans,
    r: DeviceRates,
    in_block: float,
    notes: Notes | None,
) -> tuple[Floats, Floats]:
    s, a, of = system.stack, core.attention, f".{core.module}" if core.module else ""
    law, given = _core_law(core, system, r, share.element_B)
    if law is fused_attention:
        given["e_a"] = np.where(IS_BLOCK[p.precision.astype(np.intp)], in_block, 1.0) * given["e_a"]
    is_kernel = core.has_sinks and law is not unfused_attention  # whose sinks are outside of it
    heard = notes if r.kernels is None else None
    note = {unfused_attention: "unfused", scan: "chunked scan"}.get(law, "fused") + ", forward, one layer"
    attention = told(heard, f"attention.kernel{of}" if is_kernel else f"attention.core{of}", law, note=note)(**given)
    backward = (2.0 if law is unfused_attention else s.backward_attention) * attention
    if is_kernel:
        note = "sinks are outside of the fused kernel: bytes_ are scores, times their bytes"
        spill = told(heard, f"attention.sinks{of}", passes, note=note)(core.scores, s.sink_attention_B, r.B)
        attention = told(heard, f"attention.core{of}", with_sinks_s, note="forward, one layer")(
            kernel=attention, sinks=spill
        )
        backward = backward + 2.0 * spill
    if r.kernels is not None:
        sequences = p.micro_batch * (share.seq / share.attended)
        heads = sequences * a.num_heads / core.ranks
        attention, backward = r.kernels.attention(
            a, heads, share.attended, 1.0 / p.cp, s.backward_attention, (attention, backward)
        )
        if notes is not None:
            said = r.kernels.source(attention) or note
            notes.add(f"attention.core{of}", attention, "s", words=BY_TABLES, note=said, given=given)
    return attention, backward


def is_unfused(system: Platform, core: list_.AttentionCore) -> bool:
    """Whether the software writes the scores of an attention core."""
    s = system.stack
    return bool(core.is_unfused or s.unfused_attention or (s.unfused_encoder and not core.is_causal))


def _core_law(
    core: list_.AttentionCore, system: Platform, r: DeviceRates, element_B: float
) -> tuple[Callable[..., Floats], dict[str, Floats | float]]:
    """(law of an attention core or scan, its arguments)."""
    s, e = system.stack, system.efficiency
    kernels = e.masked_attention if s.dense_masks and core.is_masked else e.older_attention**s.has_older_attention
    e_a = e.attention * e.attention_kernels * kernels
    if is_unfused(system, core):
        given: dict[str, Floats | float] = {
            "F": core.square_flop,
            "scores": core.scores,
            "e_g": e.product_16 * e.sustained,
        }
        b_u = s.unfused_attention_B * element_B / 2.0
        return unfused_attention, given | {"b_u": b_u, "P16": r.P16, "B": r.B}
    if core.kind == "scan":
        given = {"F": core.flop, "elements": core.moved, "e_a": e_a, "P16": r.P16}
        return scan, given | {"b_r": s.recurrent_B, "B": r.B}
    given = {"F": core.flop, "s": core.attended, "s_half": e.attention_half, "e_a": e_a}
    return fused_attention, given | {"P16": r.P16}


def with_sinks_s(kernel: Floats, sinks: Floats) -> Floats:
    """Seconds of an attention core whose sinks are outside of the fused kernel.

    T = kernel + sinks

    Units: kernel s, sinks s.
    """
    return np.asarray(kernel + sinks)


def exchanged_s(exposed: Floats, between: Floats) -> Floats:
    """Seconds of expert traffic that a layer waits for: dispatch and combine, and the ranks that share an expert.

    T = exposed + between

    Units: exposed s, between s.
    """
    return np.asarray(exposed + between)


def quantise_s(b_q: float | Floats, elements: Floats, B: Floats | float) -> Floats:
    """Seconds of bringing the inputs of products into the format of the recipe.

    T = b_q * elements / B

    Units: b_q B, B B/s.
    """
    return np.asarray(b_q * elements / B)
