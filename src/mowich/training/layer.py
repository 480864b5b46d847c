"""Forward times of one layer on one rank, by part: its operators (`operators.list`) by the law of time
(`operators.law`), and collectives by that of the fabric (`machines.collectives`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, partial
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
class LayerExchange:
    """An exchange of one layer, forward. It runs beside compute as far as the software issues it early."""

    exposed: Floats
    """Seconds that the layer waits for it."""
    late: Floats
    """Seconds that could be issued early and find no compute to run beside: waits for the host hide them."""


@dataclass(frozen=True, slots=True)
class _Mixture:
    """A layer's mixture of experts; zeros where it has none."""

    gemm: Floats
    """Seconds of the products of routed experts."""
    routing: Floats
    """Seconds of moving rows to experts and back."""
    traffic: LayerExchange
    """Dispatch and combine."""
    again: Floats
    """Seconds of repeating the mixture of experts alone."""
    last: Floats
    """Seconds of the products whose outputs the backward pass does not need."""
    inputs: Floats
    """Elements of the inputs of products."""
    weights: Floats
    """Parameters of the experts of a rank."""


class LayerWork:
    """One layer and one micro-batch on one rank under each plan (columns [n]), forward: what the parts of a layer ask
    for (`training.parts`), made when one first asks. `once`: shared with the model's other kinds of layers."""

    def __init__(
        self,
        model: Model,
        layer: Layer,
        system: Platform,
        job: TrainJob,
        p: Plans,
        notes: Notes | None,
        kernels: Kernels | None,
        once: Once,
    ) -> None:
        self.model, self.layer, self.system, self.job, self.p = model, layer, system, job, p
        self.notes, self.kernels, self.once = notes, kernels, once
        stack = system.stack
        self.share = once("share", lambda: rank_share(job, p, element_B(job, stack)))
        self.rates = once("rates", lambda: rates(system, p.precision, kernels, self.share.element_B))
        # each rank casts its own tokens before a gather in the format of the product; adapters read 16 bit
        self.gathered_low = stack.tp_gather_low_precision if not job.frozen_base else 1.0
        self.nothing = np.zeros_like(self.share.tokens)

    @cached_property
    def products(self) -> list[tuple[list_.Product, Floats]]:
        """The products of a layer outside of its experts, each with its seconds."""
        return _products(self)

    @cached_property
    def products_s(self) -> Floats:
        """Seconds of all of them."""
        return self.sum_of(seconds for _, seconds in self.products)

    @cached_property
    def shared_s(self) -> Floats:
        """Seconds of those of the shared expert."""
        return self.sum_of(seconds for g, seconds in self.products if g.gemm.is_shared_expert)

    def sum_of(self, columns: Iterable[Floats]) -> Floats:
        """Sum of columns; 0 of none."""
        return sum(columns, self.nothing)

    @cached_property
    def core(self) -> tuple[Floats, Floats]:
        """(forward, backward) seconds of attention cores and recurrences."""
        s = self.system.stack
        in_block = s.attention_experts if self.model.has_experts else s.attention_block
        return self.once(("core", self.layer.mixer), lambda: _core_s(self, in_block))

    @cached_property
    def stream(self) -> Floats:
        """Seconds of the passes over memory between products and cores."""
        return _stream_s(self)

    @cached_property
    def mixture(self) -> _Mixture:
        """The mixture of experts."""
        return _mixture(self)


def all_products_s(of: LayerWork) -> Floats:
    """Seconds of the products of a layer, those of routed experts among them."""
    return of.products_s + of.mixture.gemm


def last_products_s(of: LayerWork) -> Floats:
    """Seconds of the products of a layer whose outputs the backward pass does not need."""
    return of.sum_of(seconds for g, seconds in of.products if list_.is_last(g, of.layer)) + of.mixture.last


def _stream_s(of: LayerWork) -> Floats:
    s, share, r, h = of.system.stack, of.share, of.rates, float(of.model.hidden)
    between = list_.stream(of.layer, h, share, is_eager=bool(s.eager))
    by_rows = None
    if of.kernels is not None and share.element_B == 2.0:
        by_rows = r.tabled("passes", between.rows, h, between.norms, between.bytes_ / 2.0 - between.norm_elements)
    return told(
        of.notes,
        "memory_bound",
        passes,
        also={"t": share.tokens, "h": np.where(of.p.sp > 0, h / of.p.tp, h)} if of.notes else {},
        note="forward, one layer; bytes_: norms, residuals, attention's inputs and outputs, the activation function",
        tabled=by_rows,
    )(
        bytes_=between.bytes_,
        times=s.memory_passes if between.most is None else np.minimum(s.memory_passes, between.most),
        B=r.B,
    )


def quantised_s(of: LayerWork) -> Floats:
    """Seconds of bringing the inputs of a layer's products into the format of the recipe."""
    r, low, share = of.rates, of.gathered_low, of.share
    own = np.where(low < 1.0, share.split_tokens / share.tokens, 1.0) if np.any(low < 1.0) else 1.0
    inputs = of.sum_of(g.inputs * own if g.gemm.split == "n" else g.inputs for g, _ in of.products) + of.mixture.inputs
    return told(
        of.notes,
        "quantise",
        quantise_s,
        note="forward, one layer; elements: of the products' inputs",
        tabled=r.tabled("quantise", inputs, of.p.precision, of.system.stack.backward_quantise),
    )(b_q=r.quantise_B, elements=inputs, B=r.B)


def accumulated_s(of: LayerWork) -> Floats:
    """Seconds of the backward pass of a layer for adding the gradients of weights to their sum."""
    if of.job.frozen_base:
        return of.nothing
    weights = of.sum_of(g.n * g.k for g, _ in of.products if g.gemm.is_held)
    return told(
        of.notes,
        "accumulate",
        passes,
        note="backward, one layer; bytes_: weights; times: the sum of a gradient is read and written",
    )(bytes_=weights + of.mixture.weights, times=2.0 * of.system.stack.grad_memory_B, B=of.rates.B)


def _products(of: LayerWork) -> list[tuple[list_.Product, Floats]]:
    layer = of.layer

    def seconds_of(g: list_.Product) -> Floats:
        is_wide = g.format == "16 bit"
        return gemm_s(g.m, g.n, g.k, of.rates, is_wide=is_wide, notes=of.notes, name=f"gemm.{g.gemm.name}")

    products = of.once(
        ("products", layer.mixer, layer.ffn, layer.extra_matmul_params),
        lambda: list_.products(layer, of.model.hidden, of.share),
    )
    return [(g, of.once(g.gemm, partial(seconds_of, g))) for g in products]


def _mixture(of: LayerWork) -> _Mixture:
    ffn, zero, p = of.layer.ffn, of.nothing, of.p
    if not isinstance(ffn, Moe):
        return _Mixture(zero, zero, LayerExchange(zero, zero), zero, zero, zero, zero)
    # what can run meanwhile: the shared expert, and the other micro-batch where two travel through a stage at once
    other = of.products_s - of.shared_s + of.core[0] + of.stream
    meanwhile = of.shared_s + np.where(schedules.pairs(p.schedule) > 0, other, 0.0)
    args = (ffn, of.model, of.system, of.job, p, of.rates, of.share, of.notes)
    x = of.once(("experts", ffn), lambda: experts_s(*args))
    traffic = _expert_traffic(of, x, meanwhile)
    return _Mixture(
        gemm=x.gemm,
        routing=x.routing,
        traffic=traffic,
        again=of.shared_s + x.gemm + x.routing + traffic.exposed + of.rates.quantise_B * x.inputs / of.rates.B,
        last=zero if ffn.latent else x.down,
        inputs=x.inputs,
        weights=ffn.num_experts / p.ep * ffn.expert_params(of.model.hidden) / p.etp,
    )


def _expert_traffic(of: LayerWork, x: ExpertTimes, meanwhile: Floats) -> LayerExchange:
    """Dispatch and combine. meanwhile: seconds of compute that may run beside."""
    share, contention = of.system.stack.ep_overlap, of.system.efficiency.comm_contention
    note = "dispatch and combine, one layer; window: what can run meanwhile"
    exposed = told(of.notes, "ep.exposed", beside, note=note)(
        T=x.exchange, share=share, window=meanwhile, contention=contention
    )
    note = "between: ranks that share an expert; one layer"
    ep = told(of.notes, "ep.all_to_all", exchanged_s, also={"ep": of.p.ep}, note=note)(
        exposed=exposed, between=x.between
    )
    return LayerExchange(ep, late(x.exchange, share, meanwhile))


def tensor_exchange(of: LayerWork) -> LayerExchange:
    """Tensor parallel: one all-reduce (or all-gather + reduce-scatter) after attention and one after the dense
    feed-forward, beside the products."""
    s, p = of.system.stack, of.p
    over_tp, _ = list_.exchanges(of.layer, float(of.model.hidden), of.share)
    tp_all = of.once("reduced", lambda: _reduced_s(of.system, p, over_tp.bytes_, of.gathered_low))
    early, window = s.tp_overlap * p.tp_overlap * (p.sp > 0), of.products_s
    alone = over_tp.count * tp_all
    tp = told(
        of.notes,
        "tp.collective",
        beside,
        also={"collectives": over_tp.count, "bytes": over_tp.bytes_},
        note="forward, one layer; T: of all collectives of the layer; window: its products",
    )(T=alone, share=early, window=window, contention=of.system.efficiency.comm_contention)
    return LayerExchange(tp, late(alone, early, window))


def context_exchange(of: LayerWork) -> LayerExchange:
    """Context parallel: a gather of keys and values, beside the attention core."""
    s, p = of.system.stack, of.p
    if not np.any(p.cp > 1):
        return LayerExchange(of.nothing, of.nothing)
    _, over_cp = list_.exchanges(of.layer, float(of.model.hidden), of.share)
    window, _ = of.core
    cp_all = of.once(
        ("gathered", ops.exchanged_kv(of.layer, of.share.seq)),
        lambda: collectives.reduce_scatter_s(of.system, over_cp.bytes_, p.cp, p.tp * p.stride("tp")),
    )
    exposed = told(
        of.notes,
        "cp.exchange",
        beside,
        also={"bytes": over_cp.bytes_ / p.cp, "cp": p.cp},
        note="forward, one layer; T: keys and values of all ranks; window: the attention core",
    )(T=cp_all, share=1.0 - s.cp_exposed, window=window, contention=of.system.efficiency.comm_contention)
    waited_for = late(cp_all, 1.0 - s.cp_exposed, window)
    return LayerExchange(np.where(p.cp > 1, exposed, 0.0), np.where(p.cp > 1, waited_for, 0.0))


def expert_exchange(of: LayerWork) -> LayerExchange:
    """Expert parallel: dispatch and combine, beside what can run meanwhile."""
    return of.mixture.traffic


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


def _core_s(of: LayerWork, in_block: float) -> tuple[Floats, Floats]:
    """(forward, backward) of a layer's attention cores, or of its recurrences. in_block: rate in recipes with a scale
    for each block over that in 16 bit."""
    each = [_one_core_s(core, of, in_block) for core in list_.cores(of.layer, of.share)]
    if len(each) == 1:
        return each[0]
    zero = of.nothing
    return sum((ahead for ahead, _ in each), zero), sum((back for _, back in each), zero)


def _one_core_s(core: list_.AttentionCore, of: LayerWork, in_block: float) -> tuple[Floats, Floats]:
    s, a, name = of.system.stack, core.attention, f".{core.module}" if core.module else ""
    p, r, share, notes = of.p, of.rates, of.share, of.notes
    law, given = _core_law(core, of.system, r, share.element_B)
    if law is fused_attention:
        given["e_a"] = np.where(IS_BLOCK[p.precision.astype(np.intp)], in_block, 1.0) * given["e_a"]
    is_kernel = core.has_sinks and law is not unfused_attention  # whose sinks are outside of it
    heard = notes if r.kernels is None else None
    note = {unfused_attention: "unfused", scan: "chunked scan"}.get(law, "fused") + ", forward, one layer"
    attention = told(heard, f"attention.kernel{name}" if is_kernel else f"attention.core{name}", law, note=note)(
        **given
    )
    backward = (2.0 if law is unfused_attention else s.backward_attention) * attention
    if is_kernel:
        note = "sinks are outside of the fused kernel: bytes_ are scores, times their bytes"
        spill = told(heard, f"attention.sinks{name}", passes, note=note)(core.scores, s.sink_attention_B, r.B)
        attention = told(heard, f"attention.core{name}", with_sinks_s, note="forward, one layer")(
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
            notes.add(f"attention.core{name}", attention, "s", words=BY_TABLES, note=said, given=given)
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
