"""The mixture of experts of a layer on its busiest device: products, moving rows to and from experts, exchanges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mowich.arrays import Floats
from mowich.estimate import Notes, told
from mowich.machines import collectives
from mowich.models import ops
from mowich.models.model import Model, Moe
from mowich.operators import list as list_
from mowich.operators.law import busiest_load, gemm_s
from mowich.operators.rates import IS_BLOCK, IS_LOW, DeviceRates
from mowich.plans.plan import Plans, TrainJob
from mowich.software.stack import Platform

_Sides = tuple[Floats, Floats, Floats]
"""Rows, columns and depth of a product."""


@dataclass(frozen=True, slots=True)
class ExpertTimes:
    """Forward seconds of one layer's mixture of experts on its busiest device. exchange: dispatch and combine as far as
    nothing can hide them; between: the reduction between ranks that share an expert; inputs: elements of GEMM
    inputs; down: of gemm, the products behind the activation function."""

    gemm: Floats
    down: Floats
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
    r: DeviceRates,
    share: list_.Share,
    notes: Notes | None,
) -> ExpertTimes:
    """Times of the experts of one layer, one micro-batch."""
    s = system.stack
    t, stride = share.tokens, p.stride("tp")
    w = float(ffn.width(model.hidden))
    _, outputs = ops.ffn_width(ffn)
    tokens = t * p.ep * p.etp / p.tp  # of all ranks that send to a group of experts
    skew = 0.0 if job.is_balanced else s.router_skew
    load = busiest_load(tokens, ffn, p.ep, skew, s.moe_capacity)
    if notes is not None:
        notes.add(
            "moe.load",
            load,
            "x",
            words="rows of the busiest device over the mean: the expected largest of ep loads whose spread is that of"
            " tokens that choose their experts, and of experts that are not equally popular",
            tokens=tokens,
            ep=p.ep,
            experts=ffn.num_experts,
            top_k=ffn.top_k,
            skew=skew,
        )
    rows = load * t * ffn.top_k * p.etp / p.tp  # that the busiest device's experts see, per micro-batch
    experts = ffn.num_experts / p.ep
    m_e = np.maximum(rows / experts, 1e-6)
    wide = (m_e, ffn.ffn * (2.0 if ffn.gated else 1.0) / p.etp, np.full_like(t, w))
    narrow = (m_e, np.full_like(t, w), ffn.ffn / p.etp)
    up, down = (
        gemm_s(*sides, r, groups=experts, notes=notes, name=f"moe.experts.{name}")
        for name, sides in (("up", wide), ("down", narrow))
    )
    rate = s.expert_bias if ffn.bias else 1.0
    by = "" if notes is None or r.kernels is None else r.kernels.source(up + down)
    gemm = told(
        notes,
        "moe.experts",
        experts_gemm_s,
        also={"experts": experts, "m_e": m_e, "ffn": ffn.ffn / p.etp, "h": w, "load": load},
        note=by or "on the busiest device, forward, one layer",
    )(up=up, down=down, rate=rate)
    fused = IS_BLOCK[p.precision.astype(np.intp)] & ffn.gated
    copies = np.where(fused, s.moe_passes_fused, s.moe_passes)
    copied = copied_B(copies, rows, w, p.etp)
    routed = routed_B(s.moe_routing_B, share.split_tokens, float(ffn.num_experts))
    activated = activated_B(share.element_B, s.memory_passes, float(outputs), rows, float(ffn.ffn), p.etp)
    moved = copied + routed + activated
    at = p.precision.astype(np.intp)
    launch = np.where(IS_BLOCK[at], s.expert_launch_block, np.where(IS_LOW[at], s.expert_launch_8bit, s.expert_launch))
    routing = told(
        notes,
        "moe.permute_route",
        routing_s,
        note="forward, one layer; bytes: tokens copied to experts and back, routing, the activation function",
    )(bytes=moved, B=r.B, fixed=s.moe_fixed, experts=experts, launch=launch)
    sent = load * t / p.tp * p.etp  # rows before they are copied to top_k experts
    limited = (
        bool(s.node_dispatch) and ffn.groups > ffn.top_groups
    )  # a row then goes once to each of few nodes, and is copied there
    each_B = (s.ep_dispatch_B + 2.0) / 2.0  # of an element: results come back in 16 bit
    one = collectives.all_to_all_s(
        system,
        each_B * sent * ffn.top_k * w,
        p.ep,
        p.etp * stride,
        reach=float(ffn.top_groups) if limited else None,
        rows=sent,
        row_B=each_B * w,
    )
    inside, outside = (np.where(p.ep > 1, seconds, 0.0) for seconds in (one.inside_s, one.outside_s))
    exchange = told(
        notes,
        "ep.exchange",
        both_ways_s,
        also={"send_B": each_B * sent * ffn.top_k * w, "ep": p.ep},
        note="dispatch and combine, one layer, before overlap",
    )(
        exposed_inside=s.ep_exposed_inside,
        inside_s=inside,
        exposed_outside=s.ep_exposed_limited if limited else s.ep_exposed_outside,
        outside_s=outside,
        paired=np.where(IS_BLOCK[at], s.ep_paired_block, s.ep_paired),
    )
    between = np.zeros_like(t)
    if np.any(p.etp > 1):
        between = np.where(p.etp > 1, 2.0 * collectives.reduce_scatter_s(system, 2.0 * rows * w, p.etp, stride), 0.0)
    return ExpertTimes(
        gemm=gemm,
        down=down / rate,
        routing=routing,
        exchange=exchange,
        between=between,
        inputs=rows * (w + ffn.ffn / p.etp),
    )


def copied_B(copies: Floats | float, rows: Floats, h: float, etp: Floats) -> Floats:
    """Bytes of tokens on their way to the experts of one device and back, in 16 bit.

    T = 2 * copies * rows * h / etp

    copies: times that a row is read or written; rows: of the busiest device; h: elements of a row.
    """
    return np.asarray(2.0 * copies * rows * h / etp)


def routed_B(routing_B: float, tokens: Floats, experts: float) -> Floats:
    """Bytes of choosing the experts.

    T = routing_B * tokens * experts

    Units: routing_B B.
    """
    return np.asarray(routing_B * tokens * experts)


def activated_B(element_B: float, passes: float, outputs: float, rows: Floats, ffn: float, etp: Floats) -> Floats:
    """Bytes of the experts' activation function.

    T = element_B * passes * outputs * rows * ffn / etp

    outputs: matrices whose outputs it reads or writes, of ffn elements a row.

    Units: element_B B.
    """
    return np.asarray(element_B * passes * outputs * rows * ffn / etp)


def routing_s(bytes: Floats, B: Floats | float, fixed: float, experts: Floats, launch: Floats | float) -> Floats:
    """Seconds of routing, permuting and the activation function of one layer's experts, and of launching the work of
    each expert on a device. A layer reads back how many tokens each expert has, so that nothing is queued ahead of it.

    T = bytes / B + fixed + experts * launch

    Units: bytes B, B B/s, fixed s, launch s.
    """
    return np.asarray(bytes / B + fixed + experts * launch)


def experts_gemm_s(up: Floats, down: Floats, rate: float) -> Floats:
    """Seconds of the products of one layer's experts.

    T = (up + down) / rate

    rate: of products that add a bias over that of those without.

    Units: up s, down s.
    """
    return np.asarray((up + down) / rate)


def both_ways_s(
    exposed_inside: float, inside_s: Floats, exposed_outside: float, outside_s: Floats, paired: Floats | float
) -> Floats:
    """Seconds of dispatch and combine that no kernel hides: shares of one exchange inside a domain and outside of it.

    T = 2 * (exposed_inside * inside_s + exposed_outside * outside_s) * paired

    paired: what is left of it where another micro-batch is computed meanwhile.

    Units: inside_s s, outside_s s.
    """
    return np.asarray(2.0 * (exposed_inside * inside_s + exposed_outside * outside_s) * paired)
