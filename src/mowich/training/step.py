"""One training step, in closed form, for one plan or for columns of plans.

Every duration is a named part, and the parts sum to the step: the search, `explain` and `validate` evaluate this code
and no other. Symbols: t tokens per micro-batch and rank, h hidden width, L layers, g micro-batches per step, P peak
FLOP/s, B bytes/s. The formulas and where their constants come from: docs/theory-training.md. Constants live in
facts/training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial, reduce
from statistics import NormalDist
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Floats
from mowich.estimate import Notes
from mowich.machines import collectives
from mowich.machines.system import PRECISIONS
from mowich.models import ops
from mowich.models.model import Layer, Model, Moe
from mowich.models.task import Lora
from mowich.operators.kernels import Kernels
from mowich.plans import schedules
from mowich.plans.memory import (
    adapter_params_per_device,
    away,
    dense_params_per_device,
    expert_params_per_device,
    layer_activations_B,
    layers_per_stage,
    stage_split,
)
from mowich.plans.plan import EXPERTS_AGAIN, OFFLOADS, SCHEDULES, Plan, Plans, TrainJob
from mowich.software.stack import Platform

T = TypeVar("T")

WIDTH_B = {"bf16": 2.0, "fp8": 1.0, "mxfp8": 1.0, "nvfp4": 0.5, "mxfp4": 0.5, "int8": 1.0}
"""Bytes per element of a GEMM operand, by recipe (a definition, not a measurement)."""

WIDTHS = np.array([WIDTH_B[name] for name in PRECISIONS])
BF16 = float(PRECISIONS.index("bf16"))
IS_LOW = np.array([name != "bf16" for name in PRECISIONS])
IS_FOUR = np.array([name.endswith("fp4") for name in PRECISIONS])
IS_BLOCK = np.array([name in ("mxfp8", "mxfp4", "nvfp4") for name in PRECISIONS])
"""Recipes with a scale for each block of elements: those that fused kernels of experts are written for."""

PARTS = (
    "gemm",
    "attention",
    "memory_bound",
    "quantise",
    "moe",
    "head",
    "recompute",
    "host",
    "tp",
    "cp",
    "ep",
    "pp_transfer",
    "pp_bubble",
    "dp",
    "optimizer",
    "offload",
    "fixed",
    "jitter",
    "software",
)
"""Names of the parts of a step, in print order. software: what the stack costs beyond the tuned reference."""


LAYER_PARTS = ("gemm", "attention", "memory_bound", "quantise", "moe", "recompute", "host", "tp", "cp", "ep")
"""The parts that layers have; the others belong to the step."""


def soft_max(a: Floats, b: Floats, power: float) -> Floats:
    """(a^p + b^p)^(1/p): the larger of two overlapped times, rounded where they are close.

    >>> float(soft_max(np.array([1.0]), np.array([0.0]), 4.0)[0])
    1.0
    """
    peak = np.maximum(np.maximum(a, b), 1e-30)
    return np.asarray(peak * ((a / peak) ** power + (b / peak) ** power) ** (1.0 / power))


def waited(compute: Floats, host: Floats, power: float) -> Floats:
    """soft_max(compute, host) - compute, in seconds: what the device waits for its host. Without the rounding of that
    difference.

    >>> f"{waited(np.array([2.0]), np.array([1e-4]), 4.0)[0]:.4g}"
    '3.125e-18'
    """
    ratio = host / np.maximum(compute, 1e-30)
    return np.asarray(np.where(compute > 0, compute * np.expm1(np.log1p(ratio**power) / power), host))


def beside(T: Floats, share: Floats | float, window: Floats | float, contention: Floats | float) -> Floats:
    """Exposed time of a transfer that runs beside compute: T - hidden (1 - contention), hidden = min(share T, window).

    share: the part that the software can issue early enough (buckets, chunks of a fused product); window: the compute
    that may hide it;
    contention: the part of a hidden transfer that its copy kernels take from that compute: the multiprocessors of a
    GPU's collective channels; 0 on Trainium (collective cores of their own) and TPU (ICI).

    >>> float(beside(np.array([10.0]), 0.8, 6.0, 0.1)[0])
    4.6
    """
    return np.asarray(T - np.minimum(share * T, window) * (1.0 - contention))


def beside_with_rest(
    T: Floats, share: Floats | float, window: Floats | float, contention: Floats | float
) -> tuple[Floats, Floats]:
    """(what `beside` leaves exposed, the part of it that could be issued early and finds no compute: max(share T -
    window, 0))."""
    return beside(T, share, window, contention), np.asarray(np.maximum(share * T - window, 0.0))


def total_of(parts: Iterable[Floats]) -> Floats:
    """Sum of columns that broadcast together."""
    return reduce(np.add, parts)


@dataclass(frozen=True, slots=True)
class Rates:
    """What one device does per second under each plan's recipe. P, P16: FLOP/s after efficiency, before shape; m_half:
    tokens; B: bytes/s; width_B: bytes per GEMM operand; quantise_B: bytes moved per GEMM input element; units, tile,
    wave_share: see `waves`;
    power: of the roofline's rounding; precision: index of the recipe; kernels: tables that operators are read from."""

    P: Floats
    P16: float
    m_half: Floats
    n_half: float
    B: float
    width_B: Floats
    quantise_B: Floats
    units: float
    tile: float
    wave_share: float
    misaligned: float
    power: float
    precision: Floats
    kernels: Kernels | None

    def by(self, seconds: Floats) -> str:
        """What a recorded term of so many seconds says of where its time is from."""
        return "" if self.kernels is None else self.kernels.source(seconds)


def rates(system: Platform, precision: Floats, kernels: Kernels | None = None) -> Rates:
    """Rates by column of precision indices. A precision that the chip lacks has rate 0 and never gets here. No recipe
    runs above the published peak of its format, whatever efficiency and gain make together (both at the high ends of
    their ranges would)."""
    e, index = system.efficiency, precision.astype(np.intp)
    low, four = IS_LOW[index], IS_FOUR[index]
    peaks = np.broadcast_arrays(*(np.atleast_1d(system.peak_flops.get(name, 0.0)) for name in PRECISIONS))
    peak = np.concatenate(peaks, axis=-1)[..., index]
    gain = np.where(four, e.fp4_gain, np.where(low, e.low_precision_gain, system.power_share))
    return Rates(
        P=peak * np.minimum(e.gemm_efficiency * gain, 1.0),
        P16=system.peak_flops["bf16"] * system.power_share,
        m_half=e.gemm_m_half * np.where(low, e.low_precision_m_half, 1.0),
        n_half=e.gemm_n_half,
        B=system.hbm_Bps * e.hbm_efficiency,
        width_B=WIDTHS[index],
        quantise_B=np.where(four, e.fp4_quantise_B, np.where(low, e.quantise_B, 0.0)),
        units=e.gemm_units,
        tile=system.stack.gemm_tile,
        wave_share=e.wave_share,
        misaligned=system.stack.misaligned,
        power=system.stack.roofline_power,
        precision=precision,
        kernels=kernels,
    )


ALIGNED = 64
"""Elements of 16 bits in a line of 128 bytes: a matrix whose rows are no multiple of it is read in parts."""


def waves(m: Floats, n: Floats, groups: Floats | float, units: float, tile: float) -> Floats:
    """Work of the busiest of `units` equal compute units over the mean one, for `groups` outputs [m, n] cut into tiles
    of 2 tile x tile, or of tile x tile at 0.92 of the rate, whichever is better. 1 where units is 1: one systolic array
    has no waves.

    >>> float(waves(np.array([2048.0]), np.array([5376.0]), 1.0, 108.0, 128.0)[0].round(3))
    1.223
    """
    one = units * tile * tile
    best: Floats = np.full_like(m, np.inf)
    for rows, columns, cost in ((2.0, 1.0, 2.0), (1.0, 2.0, 2.0), (1.0, 1.0, 1.0 / 0.92)):
        count = groups * np.ceil(m / (rows * tile)) * np.ceil(n / (columns * tile))
        best = np.minimum(best, np.ceil(count / units) * cost)
    return np.asarray(np.maximum(1.0, best * one / (groups * m * n)))


def gemm_s(
    m: Floats,
    n: Floats,
    k: Floats,
    r: Rates,
    *,
    groups: Floats | float = 1.0,
    P: Floats | float | None = None,
    width_B: Floats | float | None = None,
) -> Floats:
    """Forward time of `groups` products out[m,n] = in[m,k] w[k,n] in one call, by the rates of a recipe (P, width_B: of
    another precision).

    T = soft_max(2 m n k (1 + m_half/m)(1 + n_half/n)(1 + n_half/k) Q / P, (w (m k + k n) + 2 m n) / B). The saturations
    stand for the start and end of every tile; Q = 1 + w_q (mean of `waves` over the three products of a training step -
    1) for compute units that idle in the last wave, times 1 + misaligned where a row of a matrix is no multiple of
    `ALIGNED` elements.
    """
    recipe = r.precision if P is None else BF16
    P = r.P if P is None else P
    width_B = r.width_B if width_B is None else width_B
    flop = 2.0 * groups * m * n * k * (1.0 + r.m_half / m) * (1.0 + r.n_half / n) * (1.0 + r.n_half / k)
    if r.units > 1:
        one, two, three = np.broadcast_arrays(m, n, k)
        sides = np.array([[one, one, two], [two, three, three]])  # of the outputs of the three products
        idle = waves(sides[0], sides[1], groups, r.units, r.tile).sum(axis=0) / 3.0
        whole = (n % ALIGNED == 0) & (k % ALIGNED == 0)
        flop = flop * (1.0 + r.wave_share * (idle - 1.0)) * np.where(whole, 1.0, 1.0 + r.misaligned)
    bytes_ = groups * (width_B * (m * k + k * n) + 2.0 * m * n)
    fitted = soft_max(flop / P, bytes_ / r.B, r.power)
    return fitted if r.kernels is None else r.kernels.products(m, n, k, groups, recipe, fitted)


def busiest_load(tokens: Floats, moe: Moe, ep: Floats, skew: float, capacity: float = 0.0) -> Floats:
    """Rows that the busiest of `ep` devices gets, over the mean, when `tokens` tokens each choose top_k of the experts.

    Experts' popularities are independent with a coefficient of variation `skew`, and each token draws top_k distinct
    ones; a device holds experts / ep of them. Its load then has the relative variance s^2 = (1 - 1/ep) (ep (E-k) /
    ((E-1) tokens k) + skew^2 ep/E), and the largest of ep such loads, nearly normal, is 1 + z s, z the expected largest
    of ep standard normals (Blom 1958). A capacity above 0 pads every expert to capacity times the mean and drops the
    rest.

    >>> moe = Moe(ffn=2048, num_experts=256, top_k=8)
    >>> busiest_load(np.array([65536.0, 65536.0]), moe, np.array([64.0, 64.0]), 0.05).round(3)
    array([1.063, 1.063])
    """
    if capacity > 0:
        return np.full_like(ep, capacity, dtype=np.float64)
    E, k = float(moe.num_experts), float(moe.top_k)
    chance = (E - k) / max(E - 1.0, 1.0) / (np.maximum(tokens, 1.0) * k)
    variance = (1.0 - 1.0 / ep) * ep * (chance + skew**2 / E)
    degrees, at = np.unique(ep, return_inverse=True)
    z = np.array([NormalDist().inv_cdf((n - 0.375) / (n + 0.25)) if n > 1 else 0.0 for n in degrees])[at]
    return np.asarray(np.minimum(1.0 + z * np.sqrt(variance), ep))


class Once(dict[object, Any]):
    """What kinds of layers share in one evaluation (a projection, an attention core, the same experts): made when first
    asked for."""

    def __call__(self, key: object, make: Callable[[], T]) -> T:
        if key not in self:
            self[key] = make()
        return cast(T, self[key])


@dataclass(frozen=True, slots=True)
class Experts:
    """Forward seconds of one layer's mixture of experts on its busiest device. exchange: dispatch and combine as far as
    nothing can hide them; between: the reduction between ranks that share an expert; inputs: elements of GEMM
    inputs."""

    gemm: Floats
    routing: Floats
    exchange: Floats
    between: Floats
    inputs: Floats


@dataclass(frozen=True, slots=True)
class LayerTimes:
    """Forward seconds of one layer and one micro-batch on one rank, by part (and the attention core's backward); comm
    parts are already the exposed share. experts_again: what repeating the mixture of experts alone takes. late: [tp,
    cp, ep] transfers that the software can issue early and that find no compute to run beside: waits for the host hide
    them."""

    gemm: Floats
    attention: Floats
    attention_backward: Floats
    memory_bound: Floats
    quantise: Floats
    moe: Floats
    expert_gemm: Floats
    experts_again: Floats
    tp: Floats
    cp: Floats
    ep: Floats
    late: tuple[Floats, Floats, Floats]


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
    h = float(model.hidden)
    s, e = system.stack, system.efficiency
    a = layer.attention
    r = once("rates", lambda: rates(system, p.precision, kernels))
    t = p.micro_batch * job.seq / p.cp
    stride = p.stride("tp")
    t_seq = np.where(p.sp > 0, t / p.tp, t)  # tokens where sequence parallelism splits them

    def product(g: ops.Gemm) -> tuple[Floats, Floats, Floats, Floats]:
        """(seconds, m, n, k) of one product."""
        n, k = g.local(p.tp)
        m = t_seq if g.split == "none" else t
        high = g.name == "router"  # in 16 bit
        P = r.P16 * e.gemm_efficiency if high else None
        return gemm_s(m, n, k, r, P=P, width_B=2.0 if high else None), m, n, k

    gemm, shared = np.zeros_like(t), np.zeros_like(t)
    inputs = np.zeros_like(t)  # elements of GEMM inputs, for quantisation passes
    for g in ops.dense_gemms(layer, model.hidden):
        seconds, m, n, k = once(g, partial(product, g))
        gemm = gemm + seconds
        shared = shared + (seconds if g.name.startswith("shared") else 0.0)
        inputs = inputs + (0.0 if g.name == "router" else m * k)
        if notes is not None:
            notes.add(
                f"gemm.{g.name}",
                seconds,
                "s",
                "soft_max(2 m n k sat / P, bytes / B), forward, one layer",
                m=m,
                n=n,
                k=k,
                P=r.P,
                B=r.B,
                m_half=r.m_half,
                n_half=r.n_half,
                note=r.by(seconds),
                facts=_paths(system, "peak", "efficiency.gemm_efficiency", "efficiency.gemm_m_half", "hbm_Bps"),
            )
    attention, attention_backward = once(("core", layer.mixer), lambda: _core_s(layer, system, job, p, r, notes))
    width, outputs = ops.ffn_width(layer.ffn)
    h_norm = np.where(p.sp > 0, h / p.tp, h)
    residual = layer.blocks * (5.0 + (4.0 * layer.streams if layer.streams > 1 else 0.0))
    elements = job.element_B * t * (residual * h_norm + 3.0 * ops.mixer_width(layer) / p.tp + outputs * width / p.tp)
    memory_bound = elements * s.memory_passes / r.B
    if kernels is not None and job.element_B == 2.0:
        norms = 2.0 * layer.blocks * t * h_norm  # elements that the norms themselves read and write
        memory_bound = kernels.passes(t_seq, h, float(layer.blocks), elements / job.element_B - norms, memory_bound)
    moe, expert_gemm, ep, experts_again, late_ep = (np.zeros_like(t) for _ in range(5))
    if isinstance(layer.ffn, Moe):
        ffn = layer.ffn
        x = once(("experts", ffn), lambda: _experts_s(ffn, model, system, job, p, r, t_seq, notes))
        moe, expert_gemm, inputs = x.routing, x.gemm, inputs + x.inputs
        # what can run meanwhile: the shared expert, and the other micro-batch where two travel through a stage at once
        meanwhile = shared + np.where(schedules.pairs(p.schedule) > 0, gemm - shared + attention + memory_bound, 0.0)
        ep, late_ep = beside_with_rest(x.exchange, s.ep_overlap, meanwhile, e.comm_contention)
        ep = ep + x.between
        experts_again = shared + expert_gemm + moe + ep + r.quantise_B * x.inputs / r.B
        if notes is not None:
            notes.add(
                "ep.all_to_all",
                ep,
                "s",
                "beside(exposed, overlap, meanwhile) + between ranks that share an expert, dispatch and combine, one"
                " layer",
                exposed=x.exchange,
                meanwhile=meanwhile,
                between=x.between,
                overlap=s.ep_overlap,
                ep=p.ep,
                facts=_paths(system, ".bandwidth", ".latency", "stack.ep_exposed_inside", "stack.ep_exposed_outside"),
            )
    quantise = r.quantise_B * inputs / r.B
    if kernels is not None:
        quantise = kernels.quantise(inputs, p.precision, s.backward_quantise, quantise)
    # tensor parallel: one all-reduce (or all-gather + reduce-scatter) after attention and one after the dense
    # feed-forward
    reduces = float(layer.has_mixer) + float(width > 0)
    volume = 2.0 * t * h

    def reduced() -> Floats:
        if not np.any(p.tp > 1):
            return np.zeros_like(t)
        scattered = 2.0 * collectives.reduce_scatter_s(system, volume, p.tp, stride)
        return np.where(
            p.tp > 1, np.where(p.sp > 0, scattered, collectives.all_reduce_s(system, volume, p.tp, stride)), 0.0
        )

    tp_all = once("reduced", reduced)
    early = s.tp_overlap * p.tp_overlap * (p.sp > 0)
    tp, late_tp = beside_with_rest(reduces * tp_all, early, gemm, e.comm_contention)
    kv_B = 2.0 * 2.0 * t * np.maximum(ops.kv_width(a) / p.tp, 1.0)
    cp, late_cp = np.zeros_like(t), np.zeros_like(t)
    if np.any(p.cp > 1):
        cp_all = once(
            ("gathered", ops.kv_width(a)),
            lambda: collectives.reduce_scatter_s(system, kv_B * p.cp, p.cp, p.tp * stride),
        )
        exposed, rest = beside_with_rest(cp_all, 1.0 - s.cp_exposed, attention, e.comm_contention)
        cp, late_cp = np.where(p.cp > 1, exposed, 0.0), np.where(p.cp > 1, rest, 0.0)
    if notes is not None:
        notes.add(
            "memory_bound",
            memory_bound,
            "s",
            "2 t (5 h' blocks + 3 (q + 2 kv) + outputs x ffn/tp) passes / B, forward, one layer",
            t=t,
            h=h_norm,
            passes=s.memory_passes,
            B=r.B,
            note=r.by(memory_bound),
            facts=_paths(system, "hbm_Bps", "efficiency.hbm_efficiency", "stack.memory_passes"),
        )
        notes.add(
            "quantise",
            quantise,
            "s",
            "b_q x GEMM input elements / B, forward, one layer",
            elements=inputs,
            b_q=r.quantise_B,
            note=r.by(quantise),
            facts=_paths(system, "efficiency.quantise_B"),
        )
        notes.add(
            "tp.collective",
            tp,
            "s",
            "beside(collectives x T, overlap with sp, gemm), forward, one layer",
            collectives=reduces,
            T=tp_all,
            bytes=volume,
            overlap=s.tp_overlap,
            facts=_paths(system, ".bandwidth", ".latency", "stack.tp_overlap"),
        )
        notes.add(
            "cp.exchange",
            cp,
            "s",
            "beside(all-gather of keys and values, 1 - exposed, attention), forward, one layer",
            bytes=kv_B,
            cp=p.cp,
            facts=_paths(system, ".bandwidth", "stack.cp_exposed"),
        )
    return LayerTimes(
        gemm=gemm,
        attention=attention,
        attention_backward=attention_backward,
        memory_bound=memory_bound,
        quantise=quantise,
        moe=moe,
        expert_gemm=expert_gemm,
        experts_again=experts_again,
        tp=tp,
        cp=cp,
        ep=ep,
        late=(late_tp, late_cp, late_ep),
    )


def _core_s(
    layer: Layer, system: Platform, job: TrainJob, p: Plans, r: Rates, notes: Notes | None
) -> tuple[Floats, Floats]:
    """(forward, backward) of a layer's attention core, or of its recurrence."""
    s, e, a = system.stack, system.efficiency, layer.attention
    t = p.micro_batch * job.seq / p.cp
    q = ops.attention_width(a) / p.tp
    P16 = r.P16
    scores = t * job.seq * a.num_heads / p.tp  # of the full square, what an unfused kernel writes and reads
    if s.unfused_attention or (s.unfused_encoder and not a.causal):
        attention = 4.0 * t * job.seq * q / (P16 * e.gemm_efficiency) + s.unfused_attention_B * scores / r.B
        backward = 2.0 * attention
    else:
        core_flop = a.core_flop_per_token(job.attended) * t / p.tp
        attention = core_flop * (1.0 + e.attention_s_half / job.attended) / (e.attention_efficiency * P16)
        backward = s.backward_attention * attention
        r_mixer = layer.recurrent
        if r_mixer is not None:  # a chunked scan: matrix products against the bytes that its kernels move
            scan_flop = r_mixer.chunked_flop_per_token() * t / p.tp
            moved = s.recurrent_B * r_mixer.core_elements * t / p.tp
            attention = soft_max(scan_flop / (e.attention_efficiency * P16), moved / r.B, s.roofline_power)
            backward = s.backward_attention * attention
        if a.sinks:
            spill = s.sink_attention_B * scores / r.B
            attention, backward = attention + spill, backward + 2.0 * spill
    if r.kernels is not None:
        sequences = p.micro_batch * (job.seq / job.attended)
        heads = sequences * a.num_heads / p.tp
        attention, backward = r.kernels.attention(
            layer, heads, job.attended, 1.0 / p.cp, s.backward_attention, (attention, backward)
        )
    if notes is not None:
        formula, numbers, constants = _core_formula(layer, job, system)
        beyond: dict[str, object] = (
            {"scores": scores, "B": r.B} if "/ B" in formula else {"B": r.B} if layer.recurrent else {}
        )
        notes.add(
            "attention.core",
            attention,
            "s",
            f"{formula}, forward, one layer",
            t=t,
            c=a.context(job.attended),
            q=q,
            P16=P16,
            **beyond,
            **numbers,
            note=r.by(attention),
            facts=_paths(system, "peak_flops.bf16", *constants),
        )
    return attention, backward


def _experts_s(
    ffn: Moe, model: Model, system: Platform, job: TrainJob, p: Plans, r: Rates, t_seq: Floats, notes: Notes | None
) -> Experts:
    """Times of the experts of one layer, one micro-batch. t_seq: tokens of a rank where sequence parallelism splits
    them."""
    s = system.stack
    t, stride = p.micro_batch * job.seq / p.cp, p.stride("tp")
    w = float(ffn.width(model.hidden))
    _, outputs = ops.ffn_width(ffn)
    tokens = t * p.ep * p.etp / p.tp  # of all ranks that send to a group of experts
    load = busiest_load(tokens, ffn, p.ep, 0.0 if job.is_balanced else s.router_skew, s.moe_capacity)
    rows = load * t * ffn.top_k * p.etp / p.tp  # that the busiest device's experts see, per micro-batch
    experts = ffn.num_experts / p.ep
    m_e = np.maximum(rows / experts, 1e-6)
    up = gemm_s(m_e, ffn.ffn * (2.0 if ffn.gated else 1.0) / p.etp, np.full_like(t, w), r, groups=experts)
    down = gemm_s(m_e, np.full_like(t, w), ffn.ffn / p.etp, r, groups=experts)
    fused = IS_BLOCK[p.precision.astype(np.intp)] & ffn.gated
    passes = np.where(fused, s.moe_passes_fused, s.moe_passes)
    moved = 2.0 * passes * rows * w / p.etp + s.moe_routing_B * t_seq * ffn.num_experts
    moved = (
        moved + job.element_B * s.memory_passes * outputs * rows * ffn.ffn / p.etp
    )  # the experts' activation function
    routing = moved / r.B + s.moe_fixed
    sent = load * t / p.tp * p.etp  # rows before they are copied to top_k experts
    one = collectives.all_to_all_s(
        system, 2.0 * sent * ffn.top_k * w, p.ep, p.etp * stride, top_k=float(ffn.top_k), rows=sent, row_B=2.0 * w
    )
    exchange = np.where(
        p.ep > 1, 2.0 * (s.ep_exposed_inside * one.inside_s + s.ep_exposed_outside * one.outside_s), 0.0
    )
    between = np.zeros_like(t)
    if np.any(p.etp > 1):
        between = np.where(p.etp > 1, 2.0 * collectives.reduce_scatter_s(system, 2.0 * rows * w, p.etp, stride), 0.0)
    if notes is not None:
        notes.add(
            "moe.load",
            load,
            "x",
            "1 + z(ep) sqrt((1 - 1/ep) (ep (E-k) / ((E-1) tokens k) + skew^2 ep/E)), rows of the busiest device over"
            " the mean",
            tokens=tokens,
            ep=p.ep,
            experts=ffn.num_experts,
            top_k=ffn.top_k,
            skew=0.0 if job.is_balanced else s.router_skew,
            facts=_paths(system, "stack.router_skew", "stack.moe_capacity"),
        )
        notes.add(
            "moe.experts",
            up + down,
            "s",
            "experts x (gemm(m_e, gates ffn, h) + gemm(m_e, h, ffn)) on the busiest device, forward, one layer",
            experts=experts,
            m_e=m_e,
            ffn=ffn.ffn / p.etp,
            h=w,
            load=load,
            note=r.by(up + down),
            facts=_paths(system, "peak", "efficiency.gemm_efficiency"),
        )
        notes.add(
            "moe.permute_route",
            routing,
            "s",
            "(2 k_moe rows h + 2 passes outputs rows ffn + routing t E) / B + fixed, forward, one layer",
            rows=rows,
            h=w,
            k_moe=passes,
            B=r.B,
            facts=_paths(system, "stack.moe_passes", "stack.moe_routing_B", "stack.moe_fixed"),
        )
        notes.add(
            "ep.exchange",
            exchange,
            "s",
            "2 x (exposed_in x inside + exposed_out x outside), dispatch and combine, one layer, before overlap",
            send_B=2.0 * sent * ffn.top_k * w,
            inside_s=one.inside_s,
            outside_s=one.outside_s,
            ep=p.ep,
            facts=_paths(system, ".bandwidth", ".latency", "stack.ep_exposed_inside", "stack.ep_exposed_outside"),
        )
    return Experts(
        gemm=up + down, routing=routing, exchange=exchange, between=between, inputs=rows * (w + ffn.ffn / p.etp)
    )


def _core_formula(layer: Layer, job: TrainJob, system: Platform) -> tuple[str, dict[str, float], tuple[str, ...]]:
    """(formula of a layer's attention core, its constants, their names), as `layer_times` computes it."""
    a, s, e = layer.attention, system.stack, system.efficiency
    if s.unfused_attention or (s.unfused_encoder and not a.causal):
        return (
            "unfused: 4 t s q / (e_g P16) + b_u scores / B; scores = t s heads / tp",
            {"s": job.seq, "e_g": e.gemm_efficiency, "b_u": s.unfused_attention_B},
            ("efficiency.gemm_efficiency", "stack.unfused_attention_B", "hbm_Bps"),
        )
    if layer.recurrent is not None:
        flop, elements = layer.recurrent.chunked_flop_per_token(), layer.recurrent.core_elements
        return (
            "chunked scan: soft_max(t F / (tp e_a P16), b_r t elements / (tp B)); F, elements: of a token",
            {"F": flop, "elements": elements, "b_r": s.recurrent_B, "e_a": e.attention_efficiency},
            ("efficiency.attention_efficiency", "stack.recurrent_B", "hbm_Bps"),
        )
    formula = "fused: 4 t c q (1 + s_half/s) / (e_a P16)"
    numbers = {"s": job.attended, "s_half": e.attention_s_half, "e_a": e.attention_efficiency}
    constants = ["efficiency.attention_efficiency", "efficiency.attention_s_half"]
    if a.indexer:
        formula += ", and the indexer's FLOP at that rate"
    if a.sinks:
        formula += " + b_s scores / B (sinks are outside the fused kernel); scores = t s heads / tp"
        numbers["b_s"] = s.sink_attention_B
        constants += ["stack.sink_attention_B", "hbm_Bps"]
    return f"{formula}; c = attended tokens, q = heads x head size / tp", numbers, tuple(constants)


def _paths(system: Platform, *wanted: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(path for name, path in system.paths.items() for w in wanted if w in name))


@dataclass(frozen=True, slots=True)
class StepTime:
    """Seconds of one step under each plan. parts: name -> [n], sums to total_s; tokens: tokens of the legal batch [n];
    num_micro_batches g [n]."""

    total_s: Floats
    parts: dict[str, Floats]
    tokens: Floats
    num_micro_batches: Floats


def micro_batches(job: TrainJob, p: Plans) -> Floats:
    """g, micro-batches per rank and step (`schedules.micro_batches`)."""
    return schedules.micro_batches(job, p.schedule, p.pp, p.micro_batch * p.dp)


@dataclass(frozen=True, slots=True)
class Stage:
    """Seconds of one micro-batch on the slowest stage under each plan; nothing here depends on dp, unless data-parallel
    ranks lie between tensor-parallel ones. parts: by LAYER_PARTS and "head"; total_s: their sum, of forward, back (to
    the input) and weights (gradients) together; bubble_s: idle in a step;
    sums: all layers' parts, before the pipeline cuts them; head_s: the whole head; imbalance: layers of the fullest
    stage over the mean one."""

    parts: dict[str, Floats]
    total_s: Floats
    forward_s: Floats
    back_s: Floats
    weights_s: Floats
    bubble_s: Floats
    sums: dict[str, Floats]
    head_s: Floats
    imbalance: Floats


def stage_times(
    model: Model, system: Platform, job: TrainJob, p: Plans, notes: Notes | None = None, kernels: Kernels | None = None
) -> Stage:
    """The part of a step that the work of one micro-batch takes. Every stage is taken to be as slow as the fullest."""
    s = system.stack
    L = float(model.num_layers)
    weight_grad = 1.0 if job.frozen_base else 2.0
    if len(p) > 1:
        outside = [p.stride("tp")] if np.any(p.order > 1) else []  # tensor ranks that are not neighbours
        if np.any(p.schedule > schedules.INTERLEAVED):
            outside.append(schedules.pairs(p.schedule))
        distinct, inverse = p.unique(
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
            also=outside,
        )
        sums = {k: v[inverse] for k, v in layer_sums(model, system, job, distinct, None, kernels).items()}
        of_head = [
            v[inverse] for v in head_times(model, system, job, distinct, rates(system, distinct.precision, kernels))
        ]
    else:
        sums = layer_sums(model, system, job, p, notes, kernels)
        of_head = list(head_times(model, system, job, p, rates(system, p.precision, kernels)))
    imbalance = layers_per_stage(model, p) * p.pp / L
    per_micro = {k: sums[k] / p.pp * imbalance for k in LAYER_PARTS}
    # on the last stage; where the split is not known, uneven splits hide half of what it adds there
    head_forward, head_back, head_weights = of_head
    head = head_forward + head_back + head_weights
    head_share = 1.0 / p.pp + s.head_exposed * (1.0 - 1.0 / p.pp)
    if np.any(p.split > 0):
        k, last = stage_split(model, p)
        room = (k - last) * total_of(sums[name] for name in LAYER_PARTS) / L
        head_share = np.where(p.split > 0, np.clip(1.0 - room / head, 0.0, 1.0), head_share)
    per_micro["head"] = head * head_share
    if job.adapters is not None:  # forward, the gradients of inputs and of adapters
        per_micro["gemm"] = (
            per_micro["gemm"] + 3.0 * adapters_s(model, job, p, rates(system, p.precision, kernels)) / p.pp * imbalance
        )
    stage = total_of(per_micro.values())
    forward = sums["forward"] / p.pp * imbalance + head_forward * head_share
    weights = (weight_grad - 1.0) * sums["weights"] / p.pp * imbalance + head_weights * head_share
    back = stage - forward - weights
    return Stage(
        parts=per_micro,
        total_s=stage,
        forward_s=forward,
        back_s=back,
        weights_s=weights,
        bubble_s=schedules.bubble_s(p.schedule, p.pp, p.vpp, forward, back, weights),
        sums=sums,
        head_s=head,
        imbalance=imbalance,
    )


def slices(system: Platform) -> list[int]:
    """Chips of the parts of a system that a job may ask for, descending: all, half of them, half of that. Only a torus
    tells them apart: its sides, and so its rings, are those of the slice that the job occupies. So halves that hold a
    whole torus, and those of other fabrics, are left out.
    """
    torus = max((level.devices for level in system.levels if level.axes), default=0)
    halves = [system.chips >> k for k in range(1, system.chips.bit_length())]
    return [system.chips, *(chips for chips in halves if chips * system.devices_per_chip < torus)]


def slice_chips(system: Platform, devices: Floats) -> NDArray[np.int64]:
    """Chips of the smallest of `slices` that holds so many devices. So a plan takes the same time on twice the chips,
    where it leaves half of them idle."""
    sizes = np.array(slices(system)[::-1])
    if len(sizes) == 1:
        return np.broadcast_to(sizes, devices.shape)
    return np.asarray(sizes[np.searchsorted(sizes * system.devices_per_chip, devices).clip(max=len(sizes) - 1)])


def by_slice(system: Platform, p: Plans, on: Callable[[Platform, Plans], dict[str, Floats]]) -> dict[str, Floats]:
    """Columns that `on` makes of plans and of the slice of the system that they run on, in the order of the plans."""
    chips = slice_chips(system, p.devices)
    sizes = np.unique(chips)
    if len(sizes) == 1:
        return on(system if sizes[0] == system.chips else replace(system, chips=int(sizes[0])), p)
    places = [np.flatnonzero(chips == size) for size in sizes]
    found = [on(replace(system, chips=int(size)), p.take(place)) for size, place in zip(sizes, places, strict=True)]
    back = np.argsort(np.concatenate(places))
    return {name: np.concatenate([part[name] for part in found], axis=-1)[..., back] for name in found[0]}


def step_time(
    model: Model, system: Platform, job: TrainJob, p: Plans, notes: Notes | None = None, kernels: Kernels | None = None
) -> StepTime:
    """Time of one training step, each plan on the slice of the system that it asks for. Columns in, columns out;
    `notes` (one plan only) records every term; `kernels`: operators by their tables."""
    if len(slices(system)) == 1:
        return _step_time(model, system, job, p, notes, kernels)

    def on(part: Platform, plans: Plans) -> dict[str, Floats]:
        step = _step_time(model, part, job, plans, notes, kernels)
        return {"total": step.total_s, "tokens": step.tokens, "g": step.num_micro_batches, **step.parts}

    found = by_slice(system, p, on)
    return StepTime(
        total_s=found["total"],
        parts={name: found[name] for name in PARTS},
        tokens=found["tokens"],
        num_micro_batches=found["g"],
    )


def _step_time(
    model: Model, system: Platform, job: TrainJob, p: Plans, notes: Notes | None, kernels: Kernels | None
) -> StepTime:
    """`step_time` on a slice.

    step = g x T_stage + bubble + pipeline transfers + exposed dp + optimizer + offload + fixed, then x (1 + j
    log2(n/8)) / software speed; bubble and transfers by schedule (`plans.schedules`), for 1F1B (pp-1) T_stage. Every
    stage is taken to be as slow as the fullest. No failure.
    """
    s = system.stack
    t = p.micro_batch * job.seq / p.cp
    h = float(model.hidden)
    g = micro_batches(job, p)
    r = rates(system, p.precision, kernels)
    x = stage_times(model, system, job, p, notes, kernels)
    per_micro, stage, forward, weights, back = x.parts, x.total_s, x.forward_s, x.weights_s, x.back_s
    parts = {name: g * per_micro[name] if name in per_micro else np.zeros_like(t) for name in PARTS}
    parts["pp_bubble"] = x.bubble_s
    hop_B = 2.0 * t * h / np.where((p.sp > 0) | (p.pp_scatter > 0), p.tp, 1.0)
    transfer = collectives.transfer_s(system, hop_B, p.stride("pp"))
    num_hops = schedules.num_hops(p.schedule, p.pp, p.vpp, g)
    # beside compute, unless a stage's transfers take longer than its work
    parts["pp_transfer"] = np.where(p.pp > 1, num_hops * transfer + g * np.maximum(0.0, p.vpp * transfer - stage), 0.0)
    dense, expert = dense_params_per_device(model, p), expert_params_per_device(model, p)
    adapters = adapter_params_per_device(model, job, p) if job.frozen_base else None
    parts["dp"] = _dp_s(system, p, r, dense, expert, g, forward, stage - forward, notes, adapters)
    replicas = p.dp * schedules.copies(p)
    shard = np.where(p.zero >= 1, replicas * p.cp, 1.0)
    expert_ranks = np.maximum(1.0, p.tp * p.cp * replicas / (p.ep * p.etp))
    owned = dense / shard + expert / np.where(p.zero >= 1, expert_ranks, 1.0)
    if np.any(p.offload > 0):
        parts["offload"] = _offload_s(model, system, job, p, g, dense + expert, owned, forward, stage - forward)
    n_devices = p.devices
    doublings = np.log2(np.maximum(1.0, n_devices / 8.0))
    parts["optimizer"] = s.optimizer_B * (owned if adapters is None else adapters / shard) / r.B
    if kernels is not None:
        parts["optimizer"] = kernels.optimizer(owned if adapters is None else adapters / shard, parts["optimizer"])
    parts["fixed"] = s.step_fixed + s.step_per_doubling * np.log2(np.maximum(1.0, n_devices))
    base = total_of(parts[k] for k in PARTS)
    parts["jitter"] = base * s.jitter_per_doubling * doublings
    speed = s.speed * system.efficiency.framework_carry
    parts["software"] = (base + parts["jitter"]) * (1.0 / speed - 1.0)
    total = base + parts["jitter"] + parts["software"]
    if notes is not None:
        for name in LAYER_PARTS:
            notes.add(
                f"{name}.step",
                parts[name],
                "s",
                "micro-batches x all layers, forward and backward / pp x fullest stage over mean",
                micro_batches=g,
                all_layers=x.sums[name],
                pp=p.pp,
                fullest_over_mean=x.imbalance,
            )
        notes.add(
            "stage",
            stage,
            "s",
            "sum of the fullest stage's layers and head share, one micro-batch",
            layers_per_stage=layers_per_stage(model, p),
        )
        notes.add(
            "head",
            x.head_s,
            "s",
            "3 gemm(t, V/tp, h) in 16 bit + 2 passes t V/tp / B; exposed share w (1-1/pp) on the last stage",
            t=t,
            V=model.vocab / p.tp,
            h=h,
            note=r.by(x.head_s),
            facts=_paths(system, "stack.head_exposed", "stack.head_passes"),
        )
        formula = schedules.BUBBLE_OF[SCHEDULES[int(p.schedule[0])]]
        notes.add("pp_bubble", parts["pp_bubble"], "s", formula, pp=p.pp, vpp=p.vpp, f=forward, b=back, w=weights)
        notes.add(
            "pp_transfer",
            parts["pp_transfer"],
            "s",
            "transfers that the schedule waits for x T, + g max(0, vpp T - stage)",
            transfers=num_hops,
            T=transfer,
            bytes=hop_B,
            facts=_paths(system, ".bandwidth", ".latency"),
        )
        notes.add(
            "optimizer",
            parts["optimizer"],
            "s",
            "b_opt x owned parameters / B",
            owned=owned,
            b_opt=s.optimizer_B,
            B=r.B,
            note=r.by(parts["optimizer"]),
            facts=_paths(system, "stack.optimizer_B", "hbm_Bps"),
        )
        notes.add(
            "offload",
            parts["offload"],
            "s",
            "g x (what travels longer than forward and backward take) + optimizer states, bytes / H",
            g=g,
            offload=OFFLOADS[int(p.offload[0])],
            H=system.host_Bps,
            owned=owned,
            facts=_paths(system, "host_Bps"),
        )
        notes.add(
            "jitter",
            parts["jitter"],
            "s",
            "j log2(devices/8) x base",
            j=s.jitter_per_doubling,
            devices=n_devices,
            facts=_paths(system, "stack.jitter_per_doubling"),
        )
        notes.add(
            "software",
            parts["software"],
            "s",
            "(1/speed - 1) x (base + jitter)",
            speed=speed,
            stack=s.name,
            facts=_paths(system, "stack.speed", "efficiency.framework_carry"),
        )
        notes.add(
            "step",
            total,
            "s",
            "g x stage + bubble + transfers + dp + optimizer + offload + fixed, then jitter and software",
            g=g,
        )
    return StepTime(total_s=total, parts=parts, tokens=g * p.micro_batch * p.dp * job.seq, num_micro_batches=g)


def head_times(model: Model, system: Platform, job: TrainJob, p: Plans, r: Rates) -> tuple[Floats, Floats, Floats]:
    """(forward, backward to the input, backward to the weights) of the language-model head and the loss, one
    micro-batch: a 16-bit GEMM each, and passes over the logits."""
    s, t = system.stack, p.micro_batch * job.seq / p.cp
    vocab = float(model.vocab) / p.tp
    high = replace(r, m_half=np.zeros_like(t) + system.efficiency.gemm_m_half)
    gemm = gemm_s(
        t, vocab, np.full_like(t, float(model.hidden)), high, P=r.P16 * system.efficiency.gemm_efficiency, width_B=2.0
    )
    passes = s.head_passes * t * vocab / r.B
    weights = np.zeros_like(t) if job.frozen_base else gemm
    return model.heads * (gemm + passes), model.heads * (gemm + passes), model.heads * weights


def adapters_s(model: Model, job: TrainJob, p: Plans, r: Rates) -> Floats:
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
    model: Model, system: Platform, job: TrainJob, p: Plans, notes: Notes | None, kernels: Kernels | None = None
) -> dict[str, Floats]:
    """Forward, backward and recompute seconds of one micro-batch through every layer, by part, before the pipeline cuts
    them."""
    s = system.stack
    weight_grad = 1.0 if job.frozen_base else 2.0
    full, selective = p.recompute == 2, p.recompute == 1
    rho = np.where(full, s.full_recompute, np.where(selective & (s.unfused_attention == 0), s.selective_recompute, 0.0))
    attention_again = full | (selective & (s.unfused_attention > 0))
    backward_tp = np.where(
        (p.sp > 0) & (p.regather == 0), 1.0, s.backward_tp
    )  # inputs that are kept are not gathered again
    sums = {name: np.zeros(len(p)) for name in (*LAYER_PARTS, "forward", "weights")}
    once = Once()
    for i, layer in enumerate(model.layers, 1):
        kind = None if notes is None else Notes()
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
            + 2.0 * x.memory_bound
            + s.backward_quantise * x.quantise
            + 2.0 * x.moe
        )
        host = np.zeros(len(p)) + s.host_per_layer * layer.blocks / 2.0
        n = float(layer.count)
        sums["gemm"] = sums["gemm"] + n * (1.0 + weight_grad) * lin
        sums["attention"] = sums["attention"] + n * (x.attention + x.attention_backward)
        sums["memory_bound"] = sums["memory_bound"] + n * 3.0 * x.memory_bound
        sums["quantise"] = sums["quantise"] + n * (1.0 + s.backward_quantise) * x.quantise
        sums["moe"] = sums["moe"] + n * 3.0 * x.moe
        waits = waited(forward, host, s.roofline_power)
        waits_back = waited(backward, s.backward_host * host, s.roofline_power)
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
        redo = rho * (lin + x.memory_bound + x.quantise + x.moe + x.tp + np.where(full, x.ep, 0.0))
        redo = redo + np.where(attention_again, x.attention, 0.0)
        if np.any(p.recompute == EXPERTS_AGAIN):
            redo = np.where(p.recompute == EXPERTS_AGAIN, x.experts_again, redo)
        sums["recompute"] = sums["recompute"] + n * redo
    return sums


def _offload_s(
    model: Model,
    system: Platform,
    job: TrainJob,
    p: Plans,
    g: Floats,
    params: Floats,
    owned: Floats,
    forward: Floats,
    backward: Floats,
) -> Floats:
    """Exposed time of what travels to and from the host's memory in a step.

    Per micro-batch, beside compute, what takes longer than forward or backward: forward max(weights in, activations
    out) / H, backward max(weights and activations in, gradients out) / H. Once: optimizer states in and out at the same
    time, bytes / H, with nothing to hide behind. H: bytes/s of the link, one way.
    """
    s, gone = system.stack, away(p)
    weights = gone["weights"] * s.weight_B * params
    kept = layer_activations_B(model, system, job, p) * layers_per_stage(model, p)
    activations = gone["activations"] * kept
    H = system.host_Bps
    gradients = gone["weights"] * s.grad_memory_B * params
    first = np.maximum(0.0, np.maximum(weights, activations) / H - forward)
    second = np.maximum(0.0, np.maximum(weights + activations, gradients) / H - backward)
    return np.asarray(g * (first + second) + gone["optimizer"] * s.optimizer_memory_B * owned / H)


def least_dp_s(model: Model, system: Platform, job: TrainJob, p: Plans, forward: Floats, backward: Floats) -> Floats:
    """Exposed traffic between data-parallel ranks that no larger dp takes less of: with zero 3 of one micro-batch, else
    of the step. forward, backward: seconds of one micro-batch on the slowest stage."""
    adapters = adapter_params_per_device(model, job, p) if job.frozen_base else None
    one = np.ones(len(p))
    return _dp_s(
        system,
        p,
        rates(system, p.precision),
        dense_params_per_device(model, p),
        expert_params_per_device(model, p),
        one,
        forward,
        backward,
        None,
        adapters,
        collectives.least_linear,
    )


def _dp_s(
    system: Platform,
    p: Plans,
    r: Rates,
    dense: Floats,
    expert: Floats,
    g: Floats,
    forward: Floats,
    backward: Floats,
    notes: Notes | None,
    adapters: Floats | None = None,
    linear: Callable[[Platform, Floats, Floats], tuple[Floats, Floats]] = collectives.linear,
) -> Floats:
    """Exposed time of gradient and weight traffic, bucket by bucket beside the `forward` and `backward` of one
    micro-batch.

    zero <= 1: once a step a reduce-scatter (grad_B per parameter) beside the last backward and a gather (gather_B)
    beside the first forward; window w of each. zero 2: the reduction runs per micro-batch. zero 3: per micro-batch a
    gather beside forward, a gather and a scatter beside backward. With `adapters` the base is frozen: their gradients
    alone are reduced, and zero 3 gathers the base without scattering. linear: (seconds per byte, latency) of a
    collective over groups of a size and stride.
    """
    s = system.stack
    gather_B = s.gather_B * np.where(r.width_B < 2.0, s.gather_low_precision, 1.0)  # 8-bit recipes may gather 8 bits
    group, stride = p.dp * p.cp * schedules.copies(p), np.where(p.order == 0, p.tp, p.stride("dp"))
    e_group = np.maximum(1.0, p.tp * p.cp * p.dp * schedules.copies(p) / (p.ep * p.etp))
    e_stride = np.where(p.order == 0, p.ep * p.etp, stride)  # other orders leave expert groups whole (`mode_rules`)

    per_B, latency = linear(system, group, stride)
    e_per_B, e_latency = linear(system, e_group, e_stride)
    lone, e_lone = group <= 1, (e_group <= 1) | (expert <= 0)

    def both(bytes_per_param: Floats | float) -> Floats:
        one = np.where(lone, 0.0, bytes_per_param * dense * per_B + latency)
        return one + np.where(e_lone, 0.0, bytes_per_param * expert * e_per_B + e_latency)

    def trained(bytes_per_param: Floats | float) -> Floats:
        return (
            both(bytes_per_param)
            if adapters is None
            else np.where(lone, 0.0, bytes_per_param * adapters * per_B + latency)
        )

    o, busy, w = s.dp_overlap * p.dp_overlap, system.efficiency.comm_contention, s.dp_window
    scatter, gather, gather_base = trained(s.grad_B), trained(gather_B), both(gather_B)
    exposed = beside(scatter, o, w * backward, busy) + beside(gather, o, w * forward, busy)
    two = (g - 1.0) * beside(scatter, o, w * backward, busy) + exposed
    f = s.fsdp_overlap * p.dp_overlap
    behind = both(gather_B + (s.gather_B if adapters is None else 0.0))
    three = g * (beside(gather_base, f, forward, busy) + beside(behind, f, backward, busy))
    result = np.where(p.zero == 3, three, np.where(p.zero == 2, two, exposed))
    if notes is not None:
        notes.add(
            "dp",
            result,
            "s",
            "zero 0-1: beside(scatter, o, w backward) + beside(gather, o, w forward); zero 3: per micro-batch",
            scatter=scatter,
            gather=gather,
            window=w,
            overlap=o,
            dense_params=dense,
            expert_params=expert,
            dp_group=group,
            facts=_paths(
                system,
                ".bandwidth",
                "stack.dp_overlap",
                "stack.fsdp_overlap",
                "fabric.network_efficiency",
                "stack.grad_B",
            ),
        )
    return np.asarray(result)


@dataclass(frozen=True, slots=True)
class OneStep:
    """`StepTime` of a single plan, as floats."""

    total_s: float
    breakdown: dict[str, float]
    tokens: float
    num_micro_batches: float


def predict_step(model: Model, system: Platform, job: TrainJob, plan: Plan, notes: Notes | None = None) -> OneStep:
    """One plan's step. Raises nothing: legality and memory are checked by `plans`."""
    step = step_time(model, system, job, Plans.of([plan]), notes)
    return OneStep(
        float(step.total_s[0]),
        {k: float(v[0]) for k, v in step.parts.items()},
        float(step.tokens[0]),
        float(step.num_micro_batches[0]),
    )
