"""The mixture of experts of a layer on its busiest device: products, moving rows to and from experts, exchanges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mowich.arrays import Floats
from mowich.estimate import Notes
from mowich.machines import collectives
from mowich.models import ops
from mowich.models.model import Model, Moe
from mowich.operators import list as list_
from mowich.operators.law import (
    busiest_load,
    gemm_s,
    passes,
)
from mowich.operators.rates import IS_BLOCK, Rates
from mowich.plans.plan import Plans, TrainJob
from mowich.software.stack import Platform
from mowich.training.terms import paths_of


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


def experts_s(
    ffn: Moe,
    model: Model,
    system: Platform,
    job: TrainJob,
    p: Plans,
    r: Rates,
    share: list_.Share,
    notes: Notes | None,
) -> Experts:
    """Times of the experts of one layer, one micro-batch."""
    s = system.stack
    t, stride = share.tokens, p.stride("tp")
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
    copies = np.where(fused, s.moe_passes_fused, s.moe_passes)
    moved = 2.0 * copies * rows * w / p.etp + s.moe_routing_B * share.split_tokens * ffn.num_experts
    moved = (
        moved + job.element_B * s.memory_passes * outputs * rows * ffn.ffn / p.etp
    )  # the experts' activation function
    routing = passes(moved, 1.0, r.B) + s.moe_fixed
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
            facts=paths_of(system, "stack.router_skew", "stack.moe_capacity"),
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
            facts=paths_of(system, "peak", "efficiency.gemm_efficiency"),
        )
        notes.add(
            "moe.permute_route",
            routing,
            "s",
            "(2 k_moe rows h + 2 passes outputs rows ffn + routing t E) / B + fixed, forward, one layer",
            rows=rows,
            h=w,
            k_moe=copies,
            B=r.B,
            facts=paths_of(system, "stack.moe_passes", "stack.moe_routing_B", "stack.moe_fixed"),
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
            facts=paths_of(system, ".bandwidth", ".latency", "stack.ep_exposed_inside", "stack.ep_exposed_outside"),
        )
    return Experts(
        gemm=up + down, routing=routing, exchange=exchange, between=between, inputs=rows * (w + ffn.ffn / p.etp)
    )
