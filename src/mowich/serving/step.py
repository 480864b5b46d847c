"""Time of one engine step (decode tokens, prompt tokens, or both) on one rank, in closed form, for columns of cases.

`plans.shapes.Shapes` is the work: what a model asks of one rank under a plan, without hardware. `Costs` is the machine
and the engine: peak rates of the chip and the fitted efficiencies and latencies of `facts/serving`. `step` puts them
together into named times that sum, by the functions of `operators.law`. Everything is an array over cases [n] (kinds
of layers: [k, n]), so one deployment, a search and the fit of the constants evaluate the same code.
Symbols: m tokens, W weights, P FLOP/s, B bytes/s, S context tokens, L layers, d hidden width.
"""

from __future__ import annotations

import numpy as np

from mowich.arrays import Floats
from mowich.operators.law import (
    active_experts,
    cached_attention,
    fan_out,
    fused_attention,
    hop,
    passes,
    ring,
    roof,
    visited_experts,
)
from mowich.plans.shapes import Shapes
from mowich.software.engine import Costs

PARTS = ("linear", "head", "experts", "attention", "prefill_attention", "layers", "host", "tp", "ep", "cp", "pp")
"""Names of the parts of a step, in print order. layers: fixed time per layer (launches, norms, routing); host:
scheduler and sampler."""


def _experts_s(s: Shapes, c: Costs, m: Floats) -> Floats:
    """Time of the experts of all layers for m tokens per rank group: all tp x dp ranks share the tokens of the dp
    groups."""
    ranks, M = s.tp * s.dp, m * s.dp
    A = np.maximum(active_experts(s.experts, s.top_k, np.maximum(M, 1e-9) ** c.expert_spread), 1e-9)
    rows = M * s.top_k
    slow = np.where(s.ep > 1, c.ep_imbalance, 1.0)
    P, B = c.peak_expert * c.c_expert * c.expert_compute, c.hbm_Bps * c.w_expert
    each = visited_experts(rows, A, s.W_expert, s.b_expert, ranks, P, B, c.expert_half)
    return np.where(m > 0, np.sum(s.moe_layers * slow * each, axis=0), 0.0)


def step(
    s: Shapes,
    c: Costs,
    *,
    n: Floats | float,
    context: Floats | float,
    verify: Floats | float = 1.0,
    prompt: Floats | float = 0.0,
    prompt_context: Floats | float = 0.0,
    finishing: Floats | float = 0.0,
) -> dict[str, Floats]:
    """Seconds of one engine step by part, on one rank of a worker (all columns [n]).

    n: sequences decoding on this rank, each verifying `verify` tokens against `context` tokens of cache. prompt: new
    prompt tokens in the step, that attend to `prompt_context` tokens on average (their own prefix included); finishing:
    prompts whose first token is sampled. Assumes even lengths and experts routed as `expert_spread` says; no overlap
    between parts. Breaks for batches so uneven that one long sequence decides the attention time.
    """
    zero = np.zeros(len(s))
    n, prompt, context = zero + n, zero + prompt, zero + context
    v = zero + verify
    mp = prompt / s.cp
    m = n * v + mp
    B = c.hbm_Bps
    linear = roof(s.W_linear, s.W_linear * s.b_linear, m, c.peak_linear * c.c_linear, B * c.w_linear, c.m_half)
    m_head = n * v + finishing
    head = roof(s.W_head, 2.0 * s.W_head, m_head, c.peak_16 * c.c_16, B * c.w_16, c.m_half)
    ranks = s.tp * s.dp
    experts = _experts_s(s, c, m) if np.any(s.moe_layers) else zero
    # attention
    seen = np.minimum(context, s.window)
    kv_B = np.sum(s.att_layers * s.kv * seen, axis=0) * n * s.b_kv / s.cp
    flop = np.sum(s.att_layers * s.f_dec * seen, axis=0) * n * v / s.cp
    attention = cached_attention(kv_B, flop, B * c.a_decode, c.peak_16 * c.mla_compute)
    attention = attention + passes(n * s.state_B, 2.0, B * c.a_decode)
    pairs = np.sum(s.att_layers * s.f_pre * np.minimum(prompt_context, s.window), axis=0) * mp
    prefill_attention = fused_attention(pairs + mp * s.f_token, 1.0, 0.0, c.a_prefill, c.peak_16)
    # communication
    moved = 2.0 * m * s.d
    latency = c.tp_latency * (1.0 + c.tp_doubling * (np.log2(np.maximum(s.tp, 2.0)) - 1.0))
    link, dispatch = c.link_Bps * c.tp_link, c.exchange_Bps * c.ep_link
    tp = np.where(s.tp > 1, 2.0 * s.L * ring(moved, s.tp, latency, link), 0.0)
    moe_layers = np.sum(s.moe_layers, axis=0)
    fan = np.minimum(np.max(s.top_k, axis=0), np.maximum(ranks, 1.0))
    ep = np.where(s.dp > 1, 2.0 * moe_layers * fan_out(moved, fan, c.ep_latency, dispatch), 0.0)
    cp = np.where(s.cp > 1, s.L * hop(moved, c.tp_latency * np.log2(np.maximum(s.cp, 2.0)), link), 0.0)
    pp = np.where(s.pp > 1, (s.pp - 1.0) * hop(moved / s.tp, c.tp_latency, link), 0.0)
    host = c.step + c.per_sequence * n + np.where(prompt > 0, c.prefill_step, 0.0)
    return {
        "linear": linear,
        "head": head,
        "experts": experts,
        "attention": attention,
        "prefill_attention": prefill_attention,
        "layers": s.L * c.layer,
        "host": host,
        "tp": tp,
        "ep": ep,
        "cp": cp,
        "pp": pp,
    }


def total(parts: dict[str, Floats]) -> Floats:
    """Sum of the parts of a step."""
    return np.asarray(sum(parts.values()))
