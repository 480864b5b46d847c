"""Time of one engine step (decode tokens, prompt tokens, or both) on one rank, in closed form, for columns of cases.

`Shapes` is the work: what a model asks of one rank under a plan, without hardware. `Costs` is the machine and the
engine: peak rates of the chip and the fitted efficiencies and latencies of `facts/serving`. `step` puts them together
into named times that sum. Everything is an array over cases [n] (kinds of layers: [k, n]), so one deployment, a search
and the fit of the constants evaluate the same code.
Symbols: m tokens, W weights, P FLOP/s, B bytes/s, S context tokens, L layers, d hidden width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Floats
from mowich.models.model import Model, Moe
from mowich.operators import list as list_
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
from mowich.plans.serving import KV, KV_B, WEIGHT_B, WEIGHTS, ServePlans
from mowich.software.engine import Costs

PARTS = ("linear", "head", "experts", "attention", "prefill_attention", "layers", "host", "tp", "ep", "cp", "pp")
"""Names of the parts of a step, in print order. layers: fixed time per layer (launches, norms, routing); host:
scheduler and sampler."""

FOUR_BIT = frozenset({"nvfp4", "mxfp4", "int4"})


@dataclass(frozen=True, slots=True)
class Shapes:
    """Work of one rank. Columns [n]; rows of layer kinds [k, n], zero where a model has fewer kinds.

    W_*: weights per rank over all layers of the worker; b_*: bytes per weight; kv: elements per token, layer and rank;
    window: tokens of it that a step reads at most, held: that stay in memory at most; f_dec, f_pre: FLOP per (query
    token, context token) and layer; state_B: bytes of recurrent state per sequence, f_token: FLOP of recurrences per
    prompt token, over all layers.
    """

    d: Floats
    L: Floats
    tp: Floats
    dp: Floats
    cp: Floats
    pp: Floats
    ep: Floats
    W_linear: Floats
    W_head: Floats
    b_linear: Floats
    b_expert: Floats
    b_kv: Floats
    state_B: Floats
    f_token: Floats
    moe_layers: Floats
    experts: Floats
    top_k: Floats
    W_expert: Floats
    att_layers: Floats
    kv: Floats
    window: Floats
    held: Floats
    f_dec: Floats
    f_pre: Floats

    def __len__(self) -> int:
        return len(self.d)

    def take(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> Shapes:
        """The cases at `index`."""
        return Shapes(*(getattr(self, f.name)[..., index] for f in fields(self)))


def quantises_attention(model: Model, weights: str) -> bool:
    """Whether a checkpoint in `weights` also quantises attention: 4-bit mixtures of experts keep it in 16 bit
    (published checkpoints)."""
    return not (weights in FOUR_BIT and any(isinstance(layer.ffn, Moe) for layer in model.layers))


def shapes(model: Model, plans: ServePlans, *, attention: str | None = None) -> Shapes:
    """The work that each plan leaves to one rank. attention: format of attention and shared weights (None: by
    `quantises_attention`)."""
    n = len(plans)
    tp, dp, h = plans.tp, plans.dp, model.hidden
    names = [WEIGHTS[int(w)] for w in plans.weights]
    linear_names = [attention or (w if quantises_attention(model, w) else "bf16") for w in names]
    W_linear, state = np.zeros(n), np.zeros(n)
    moe: list[list[Floats]] = []
    att: list[list[Floats]] = []
    one = np.ones(n)
    b_kv = np.array([KV_B[KV[int(k)]] for k in plans.kv])
    flop_token, blocks = np.zeros(n), 0.0
    for layer in model.layers:
        work, count = list_.serving(layer, h, tp, b_kv), float(layer.count)
        W_linear = W_linear + count * work.weights
        state, flop_token = state + count * work.state_B, flop_token + count * work.scan_flop
        blocks += count * work.blocks
        att += [[one * count, c.elements, c.window, c.held, c.decode_flop, c.prefill_flop] for c in work.caches]
        if work.experts is not None:
            f = work.experts
            moe.append([one * count, one * f.number, one * f.top_k, one * f.params])
    K = max(1, len(moe))
    moe_rows = np.zeros((4, K, n))
    for i, row in enumerate(moe):
        moe_rows[:, i] = row
    att_rows = np.array(att or [[one * 0.0] * 6]).transpose(1, 0, 2)
    return Shapes(
        d=one * h,
        L=one * blocks / 2.0,
        tp=tp,
        dp=dp,
        cp=plans.cp,
        pp=plans.pp,
        ep=plans.ep,
        W_linear=W_linear,
        W_head=model.vocab * h / tp,
        b_linear=np.array([WEIGHT_B[w] for w in linear_names]),
        b_expert=np.array([WEIGHT_B[w] for w in names]),
        b_kv=b_kv,
        state_B=state,
        f_token=flop_token,
        moe_layers=moe_rows[0],
        experts=moe_rows[1],
        top_k=moe_rows[2],
        W_expert=moe_rows[3],
        att_layers=att_rows[0],
        kv=att_rows[1],
        window=att_rows[2],
        held=att_rows[3],
        f_dec=att_rows[4],
        f_pre=att_rows[5],
    )


def concat(parts: Sequence[Shapes]) -> Shapes:
    """Cases of several models as one set of columns."""
    out = []
    for f in fields(Shapes):
        arrays = [getattr(p, f.name) for p in parts]
        if arrays[0].ndim == 2:
            k = max(a.shape[0] for a in arrays)
            arrays = [np.pad(a, ((0, k - a.shape[0]), (0, 0))) for a in arrays]
        out.append(np.concatenate(arrays, axis=-1))
    return Shapes(*out)


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
