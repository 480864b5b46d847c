"""The work of one rank of a worker that serves: what a model asks of it under a plan, without hardware.

A sum over the operators of the layers (`operators.list.serving`), as columns [n]; kinds of layers [k, n].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mowich.arrays import Columns, Floats
from mowich.models import ops
from mowich.models.model import Model, Moe
from mowich.operators import list as list_
from mowich.plans.plan import KV, KV_B, WEIGHT_B, WEIGHTS, ServePlans

FOUR_BIT = frozenset({"nvfp4", "mxfp4", "int4"})
"""Formats of weights with four bits."""


@dataclass(frozen=True, slots=True)
class Shapes(Columns):
    """Work of one rank. Columns [n]; rows of layer kinds [k, n], zero where a model has fewer kinds.

    W_*: weights per rank over all layers of the worker; b_*: bytes per weight; kv: elements per token, layer and rank;
    window: tokens of it that a step reads at most, held: that stay in memory at most; f_dec, f_pre: FLOP per (query
    token, context token) and layer; state_B: bytes of recurrent state per sequence, f_token: FLOP of recurrences per
    prompt token, over all layers; kernels: that a step launches; expert_width: columns of one expert on one rank.
    As kernels see the same work: product_count, product_n, product_k: layers that have a product of W_linear, with its
    sides on one rank [p, n]; att_heads, att_cached: heads of queries and of keys on one rank, att_dim: their width, 0
    where a cache is not read by plain grouped-query attention.
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
    kernels: Floats
    moe_layers: Floats
    experts: Floats
    top_k: Floats
    W_expert: Floats
    expert_width: Floats
    att_layers: Floats
    kv: Floats
    window: Floats
    held: Floats
    f_dec: Floats
    f_pre: Floats
    product_count: Floats
    product_n: Floats
    product_k: Floats
    att_heads: Floats
    att_cached: Floats
    att_dim: Floats

    def __len__(self) -> int:
        return len(self.d)


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
    counts: dict[ops.Gemm, float] = {}
    moe: list[list[Floats]] = []
    att: list[list[Floats]] = []
    one = np.ones(n)
    b_kv = np.array([KV_B[KV[int(k)]] for k in plans.kv])
    flop_token, blocks, launched = np.zeros(n), 0.0, 0.0
    for layer in model.layers:
        work, count = list_.serving(layer, h, tp, b_kv), float(layer.count)
        W_linear = W_linear + count * work.weights
        state, flop_token = state + count * work.state_B, flop_token + count * work.scan_flop
        blocks += count * work.blocks
        launched += count * work.kernels
        for gemm in work.products:
            counts[gemm] = counts.get(gemm, 0.0) + count
        att += [
            [one * count, c.elements, c.window, c.held, c.decode_flop, c.prefill_flop, c.heads, c.cached, one * c.dim]
            for c in work.caches
        ]
        if work.experts is not None:
            f = work.experts
            width = f.ffn * plans.ep / (tp * dp)  # a rank's part of each of its experts
            moe.append([one * count, one * f.number, one * f.top_k, one * f.params, one * width])
    K = max(1, len(moe))
    moe_rows = np.zeros((5, K, n))
    for i, row in enumerate(moe):
        moe_rows[:, i] = row
    att_rows = np.array(att or [[one * 0.0] * 9]).transpose(1, 0, 2)
    sides = np.array([gemm.local(tp) for gemm in counts] or [(0.0 * one, 0.0 * one)])
    return Shapes(
        d=one * h,
        L=one * blocks / 2.0,
        kernels=one * launched,
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
        expert_width=moe_rows[4],
        att_layers=att_rows[0],
        kv=att_rows[1],
        window=att_rows[2],
        held=att_rows[3],
        f_dec=att_rows[4],
        f_pre=att_rows[5],
        product_count=np.array([one * count for count in counts.values()] or [0.0 * one]),
        product_n=sides[:, 0],
        product_k=sides[:, 1],
        att_heads=att_rows[6],
        att_cached=att_rows[7],
        att_dim=att_rows[8],
    )
