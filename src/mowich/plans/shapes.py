"""The work of one rank of a serving worker: the demands of a model under a plan, without hardware.

A sum over the operators of the layers (`operators.list.serving`), as columns [n]; kinds of layers [k, n].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mowich.arrays import Columns, Floats
from mowich.models import ops
from mowich.models.model import Model
from mowich.operators import list as list_
from mowich.operators.law import Sides, is_aligned
from mowich.plans.plan import FOUR_BIT, KV, KV_B, WEIGHT_B, WEIGHTS, ServePlan, ServePlans


@dataclass(frozen=True, slots=True)
class Shapes(Columns):
    """Work of one rank. Columns [n]; rows of layer kinds [k, n], zero where a model has fewer kinds; of products as
    kernels see them [p, n]."""

    d: Floats
    """Elements of a token between layers."""
    L: Floats
    """Layers, each with a mixer and a feed-forward."""
    tp: Floats
    """Tensor-parallel ranks."""
    dp: Floats
    """Rank groups that have their own tokens and share the experts."""
    cp: Floats
    """Context-parallel ranks."""
    pp: Floats
    """Pipeline stages."""
    ep: Floats
    """Ranks that share the experts."""
    W_linear: Floats
    """Weights per rank of the products outside of experts, over all layers of the worker."""
    linear_count: Floats
    """Products of all layers, by whether their rows are whole lines, as `Sides` has it [2, n]."""
    linear_inner: Floats
    """Sum of their inner sides [2, n]."""
    linear_outer: Floats
    """Sum of their outer sides [2, n]."""
    linear_longer: Floats
    """Sum of their longer sides [2, n]."""
    linear_weights: Floats
    """Sum of their weights [2, n]."""
    W_head: Floats
    """Weights per rank of the output head."""
    b_linear: Floats
    """Bytes per weight outside of experts, the mean."""
    b_expert: Floats
    """Bytes per weight of experts."""
    b_kv: Floats
    """Bytes per element of the cache."""
    state_B: Floats
    """Bytes of recurrent state per sequence, over all layers."""
    f_token: Floats
    """FLOP of recurrences per prompt token, over all layers."""
    kernels: Floats
    """Kernels that a step launches."""
    uncaptured: Floats
    """Additional kernels of a step with a prompt, which captured graphs leave out."""
    moe_layers: Floats
    """Layers with experts [k, n]."""
    experts: Floats
    """Of a layer [k, n]."""
    redundant: Floats
    """Extra copies of experts of a layer."""
    top_k: Floats
    """Experts that a token visits [k, n]."""
    W_expert: Floats
    """Weights of one whole expert [k, n]."""
    expert_inner: Floats
    """Of the matrices of one expert on one rank, the sum of their inner sides [k, n]."""
    expert_outer: Floats
    """The sum of their outer sides [k, n]."""
    expert_longer: Floats
    """The sum of their longer sides [k, n]."""
    expert_ragged: Floats
    """1 where their rows are not whole lines [k, n]."""
    expert_width: Floats
    """Elements of a token that an expert takes [k, n]."""
    att_layers: Floats
    """Layers with attention [k, n]."""
    kv: Floats
    """Elements of the cache per token, layer and rank [k, n]."""
    window: Floats
    """The most cached tokens that a step reads [k, n]."""
    held: Floats
    """The most cached tokens that stay in memory [k, n]."""
    f_dec: Floats
    """FLOP of a decode per (query token, context token) and layer [k, n]."""
    f_pre: Floats
    """FLOP of a prompt per (query token, context token) and layer [k, n]."""
    product_count: Floats
    """Layers that have a product of `W_linear` [p, n]."""
    product_n: Floats
    """Its outer side on one rank [p, n]."""
    product_k: Floats
    """Its inner side on one rank [p, n]."""
    att_heads: Floats
    """Heads of queries on one rank [k, n]."""
    att_cached: Floats
    """Heads of keys on one rank [k, n]."""
    att_dim: Floats
    """Their width [k, n]; 0 where a cache is not read by plain grouped-query attention."""

    @property
    def linear(self) -> Sides:
        """The sides of the products of all layers."""
        return Sides(
            count=self.linear_count,
            inner=self.linear_inner,
            outer=self.linear_outer,
            longer=self.linear_longer,
            weights=self.linear_weights,
        )

    def __len__(self) -> int:
        return len(self.d)


def quantises_attention(model: Model, weights: str) -> bool:
    """Whether a checkpoint in `weights` also quantises attention: 4-bit mixtures of experts keep it in 16 bit
    (published checkpoints)."""
    return not (weights in FOUR_BIT and model.has_experts)


_QUANTISED = frozenset({"attn_out", "mlp_up", "mlp_down", "shared_up", "shared_down"})
"""Products outside of experts that NVFP4 checkpoints of models with latent attention have in four bits: the model card
of DeepSeek-R1-0528-FP4-v2 names the output of attention beside the feed-forwards of the first version."""


def linear_B(model: Model, weights: str, sizes: Mapping[str, Floats]) -> Floats:
    """Mean bytes of a weight outside of experts. sizes: weights of all layers by the name of their product."""
    outside = weights if quantises_attention(model, weights) else "bf16"
    is_latent = any(a.kind == "mla" for layer in model.layers for a in layer.attentions)
    if weights != "nvfp4" or outside == weights or not is_latent:
        return np.asarray(WEIGHT_B[outside])
    low = sum((size for name, size in sizes.items() if name in _QUANTISED), np.asarray(0.0))
    share = low / np.maximum(sum(sizes.values(), np.asarray(0.0)), 1.0)
    return np.asarray(share * WEIGHT_B[weights] + (1.0 - share) * WEIGHT_B[outside])


def shapes_of(workers: Sequence[tuple[Model, ServePlan]]) -> Shapes:
    """Columns of workers of several models, in their order; those of one model are shaped together."""
    groups: dict[int, list[int]] = {}
    for i, (model, _) in enumerate(workers):
        groups.setdefault(id(model), []).append(i)
    parts = [shapes(workers[rows[0]][0], ServePlans.of([workers[i][1] for i in rows])) for rows in groups.values()]
    return Shapes.joined(parts).take(np.argsort(np.concatenate([*map(np.array, groups.values())]), kind="stable"))


def shapes(model: Model, plans: ServePlans) -> Shapes:
    """The work that each plan leaves to one rank."""
    n = len(plans)
    tp, dp, h = plans.tp, plans.dp, model.hidden
    names = [WEIGHTS[int(w)] for w in plans.weights]
    state, not_held = np.zeros(n), np.zeros(n)
    linear = Sides.of(state, state, 0.0)
    counts: dict[ops.Gemm, float] = {}
    sizes: dict[str, Floats] = {}
    moe: list[list[Floats]] = []
    att: list[list[Floats]] = []
    one = np.ones(n)
    b_kv = np.array([KV_B[KV[int(k)]] for k in plans.kv])
    flop_token, blocks, launched, left_out, casts = np.zeros(n), 0.0, 0.0, 0.0, 0.0
    for layer in model.work:
        work, count = list_.serving(layer, h, tp, b_kv), float(layer.count)
        linear, not_held = linear + work.sides.times(count), not_held + count * work.not_held
        state, flop_token = state + count * work.state_B, flop_token + count * work.scan_flop
        blocks += count * work.blocks
        launched += count * work.kernels
        left_out += count * work.uncaptured
        for gemm in work.products:
            counts[gemm] = counts.get(gemm, 0.0) + count * gemm.rows[1]
            local, name = gemm.local(tp), gemm.group or gemm.name
            sizes[name] = sizes.get(name, one * 0.0) + count * local[0] * local[1] * gemm.is_held
        att += [
            [one * count, c.elements, c.window, c.held, c.decode_flop, c.prefill_flop, c.heads, c.cached, one * c.dim]
            for c in work.caches
        ]
        if work.experts is not None:
            # the scales of 8-bit mixtures go by block: a kernel casts the inputs of each product
            casts += count * sum(gemm.name != "router" for gemm in work.products)
            f = work.experts
            width = f.ffn * plans.ep / (tp * dp)  # a rank's part of each of its experts
            up = (f.params / (f.ffn * f.width) - 1.0) * width  # columns of gate and up together
            inner, outer, longer = f.width + width, up + f.width, np.maximum(up, f.width) + np.maximum(f.width, width)
            ragged = np.where(is_aligned(up, f.width) & is_aligned(f.width, width), 0.0, 1.0)
            of_one = [one * x for x in (f.params, inner, outer, longer, ragged, f.width)]
            moe.append([one * count, one * f.number, one * f.top_k, *of_one])
    b_linear, named = np.zeros(n), np.array(names)
    for name in set(names):
        b_linear = np.where(named == name, linear_B(model, name, sizes), b_linear)
    K = max(1, len(moe))
    moe_rows = np.zeros((9, K, n))
    for i, row in enumerate(moe):
        moe_rows[:, i] = row
    att_rows = np.array(att or [[one * 0.0] * 9]).transpose(1, 0, 2)
    sides = np.array([gemm.local(tp) for gemm in counts] or [(0.0 * one, 0.0 * one)])
    return Shapes(
        d=one * h,
        L=one * blocks / 2.0,
        kernels=launched + np.where(named == "fp8", casts, 0.0),
        uncaptured=one * left_out,
        tp=tp,
        dp=dp,
        cp=plans.cp,
        pp=plans.pp,
        ep=plans.ep,
        W_linear=linear.total("weights") - not_held,
        linear_count=linear.count,
        linear_inner=linear.inner,
        linear_outer=linear.outer,
        linear_longer=linear.longer,
        linear_weights=linear.weights,
        W_head=model.vocab * h / tp,
        b_linear=b_linear,
        b_expert=np.array([WEIGHT_B[w] for w in names]),
        b_kv=b_kv,
        state_B=state,
        f_token=flop_token,
        moe_layers=moe_rows[0],
        experts=moe_rows[1],
        redundant=plans.redundant,
        top_k=moe_rows[2],
        W_expert=moe_rows[3],
        expert_inner=moe_rows[4],
        expert_outer=moe_rows[5],
        expert_longer=moe_rows[6],
        expert_ragged=moe_rows[7],
        expert_width=moe_rows[8],
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
