"""Captured files as the exporter writes them, made from a Model: each projection, core and table of its layers as
operations of a plain implementation would show it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mowich.models.attention import Attention
from mowich.models.captured import CAPTURED_SCHEMA, digest_of
from mowich.models.ffn import Moe
from mowich.models.model import Layer, Model
from mowich.models.recurrent import Recurrent

Json = dict[str, Any]
TOKENS, BATCH, LENGTH, NONE = [0, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]


def product(module: str, n: int, k: int, role: str = "replicated", biases: int = 0, **more: object) -> Json:
    """A product whose rows are all tokens."""
    own = {"rows": TOKENS, "role": role, "biases": biases, "times": 1, "shared": False}
    return {"module": module, "weight": "weight", "n": n, "k": k, **own, **more}


def _attention(a: Attention, h: int, fused: bool) -> list[Json]:
    def bias(n: int) -> int:
        return n if a.qkv_bias else 0

    at = "self_attn"
    if a.o_lora:  # a chain that no layer of ours has apart
        return [product(f"{at}.chain", a.matmul_params(h), 1)]
    keys = 0 if a.shares_kv else a.num_kv_heads * a.head_dim
    values = 0 if a.shares_kv or a.k_is_v else a.num_kv_heads * a.v_head_dim
    if a.kind == "mla":
        low, up = a.kv_lora + a.rope_head_dim, a.num_heads * (a.head_dim - a.rope_head_dim + a.v_head_dim)
        query = (
            [product(f"{at}.q_proj", a.q_width, h, "column")]
            if a.q_lora is None
            else [
                product(f"{at}.q_a_proj", a.q_lora, h, biases=bias(a.q_lora)),
                product(f"{at}.q_b_proj", a.q_width, a.q_lora, "column"),
            ]
        )
        chain = [
            product(f"{at}.kv_a_proj", low, h, biases=bias(low)),
            product(f"{at}.kv_b_proj", up, a.kv_lora, "column"),
        ]
        inner = [*query, *chain]
    elif fused:
        n = a.q_width + keys + values + a.out_gate
        inner = [product(f"{at}.qkv_proj", n, h, "column", bias(n - a.out_gate))]
    else:
        named = (("q", a.q_width), ("k", keys), ("v", values))
        inner = [product(f"{at}.{name}_proj", n, h, "column", bias(n)) for name, n in named if n]
        inner += [product(f"{at}.gate_proj", a.out_gate, h, "column")] if a.out_gate else []
    return [*inner, product(f"{at}.o_proj", h, a.out_width, "row", h if a.out_bias else 0)]


def _mlp(at: str, ffn: int, gated: bool, bias: bool, h: int, fused: bool) -> list[Json]:
    b = ffn if bias else 0
    if fused and gated:
        up = [product(f"{at}.gate_up_proj", 2 * ffn, h, "column", 2 * b)]
    else:
        up = [product(f"{at}.{n}_proj", ffn, h, "column", b) for n in (("gate", "up") if gated else ("up",))]
    return [*up, product(f"{at}.down_proj", h, ffn, "row", h if bias else 0)]


def _core(a: Attention, cached: bool) -> Json:
    latent = {"kv_lora": a.kv_lora, "rope": a.rope_head_dim} if a.kind == "mla" else None
    return {
        "module": "self_attn", "heads": a.num_heads, "kv_heads": a.num_kv_heads, "qk": a.head_dim, "v": a.v_head_dim,
        "sequences": BATCH, "queries": LENGTH, "keys": LENGTH, "causal": a.causal, "window": a.window,
        "chunked": a.chunked, "sinks": a.sinks, "masked": False, "cached": cached, "eager": False, "latent": latent,
    }  # fmt: skip


def captured_layer(layer: Layer, at: str, *, fused: bool = False, cached: bool = True) -> Json:
    """One kind of layer."""
    h, a, f, r = layer.hidden, layer.attention, layer.ffn, layer.recurrent
    products, cores, experts, scans = [], [], [], []
    if isinstance(r, Recurrent):
        products += [product("mixer.in_proj", r.in_width, h), product("mixer.out_proj", h, r.value_width)]
        padded, of_conv = [0, max(0, r.conv - 1), 0, 1], 2 * r.conv * r.conv_width
        if r.conv:
            bias = r.conv_width if r.conv_bias else 0
            products.append(product("mixer.conv1d", r.conv_width, r.conv, biases=bias, rows=padded))
        flop = [0, 0, 0, round(r.core_flop_per_token()) - of_conv]
        sizes = {"heads": r.num_heads, "head_dim": r.head_dim, "groups": r.num_groups, "state": r.state_dim}
        kept = {"state_elements": r.state_elements, "conv_elements": r.conv_elements}
        scans.append({"module": "mixer", "kind": r.kind, **sizes, "conv": r.conv, "flop": flop, **kept})
    elif a.num_heads:
        products += _attention(a, h, fused)
        cores.append(_core(a, cached))
    if isinstance(f, Moe):
        products.append(product("mlp.gate", f.num_experts, h, biases=f.num_experts if f.router_bias else 0))
        width = f.width(h)
        if f.latent:
            products += [product("mlp.down_latent", width, h), product("mlp.up_latent", h, width)]
        if f.shared_ffn:
            products += _mlp("mlp.shared_expert", f.shared_ffn, f.gated, False, h, fused)
        if f.shared_gate:
            products.append(product("mlp.shared_expert_gate", 1, h))
        biases = f.num_experts * (f.expert_params(h) - f.expert_matmul_params(h))
        experts.append({
            "module": "mlp.experts", "number": f.num_experts, "top_k": f.top_k, "ffn": f.ffn, "width": width,
            "gated": f.gated, "biases": biases, "rows": TOKENS, "params": f.num_experts * f.expert_params(h),
            "run": "chosen", "groups": f.groups, "top_groups": f.top_groups,
        })  # fmt: skip
    elif f.ffn:
        products += _mlp("mlp", f.ffn, f.gated, f.bias, h, fused)
    taken = sum(p["n"] * p["k"] for p in products if p["module"] != "mixer.conv1d") + (
        f.top_k * f.expert_matmul_params(h) if isinstance(f, Moe) else 0
    )
    products += [product("more", layer.matmul_params - taken, 1)] if layer.matmul_params > taken else []
    return {
        "module": at, "class": "DecoderLayer", "count": layer.count, "params": layer.params, "hidden": h,
        "blocks": layer.blocks, "products": products, "cores": cores, "experts": experts, "scans": scans,
        "cached_elements": int(a.kv_elements_per_token) if cached else 0, "moved": [0, 0, 0, 10 * h],
        "moved_eager": [0, 0, 0, 40 * h], "norms": 2, "launches": 30,
    }  # fmt: skip


def captured_json(
    model: Model, *, config: Mapping[str, object] | None = None, fused: bool = False, kind: str = "decoder"
) -> Json:
    """The captured file of a model."""
    cached = kind == "decoder"
    other = model.final_norm_params + model.other_params
    outside = model.embedding_params + model.head_params + other
    head = [product("lm_head", model.vocab, model.hidden, "vocabulary", shared=model.tied_embeddings)]
    extra = model.other_matmul_params
    head += [product("project", extra // model.hidden, model.hidden)] if extra else []
    return signed({
        "schema": CAPTURED_SCHEMA, "name": model.name, "source": "my_model.py:build", "kind": kind,
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
        "probes": [[2, 128], [2, 256], [3, 128], [3, 256]], "checked": [5, 384],
        "inputs": {"input_ids": [BATCH, LENGTH]}, "hidden": model.hidden, "vocab": model.vocab,
        "tied": model.tied_embeddings, "max_seq": model.max_seq, "params": model.params,
        "components": {
            "embedding": model.embedding_params, "head": model.head_params, "layers": model.params - outside,
            "other": other,
        },
        "layers": [captured_layer(x, "model.layers.{}", fused=fused, cached=cached) for x in model.layers],
        "pattern": list(model.pattern or (i for i, x in enumerate(model.layers) for _ in range(x.count))),
        "outside": {
            "module": "", "class": "Decoder", "count": 1, "params": outside, "hidden": model.hidden, "blocks": 0,
            "products": head, "cores": [], "experts": [], "scans": [], "cached_elements": 0, "moved": NONE,
            "moved_eager": NONE, "norms": 1, "launches": 4,
        },
        "mtp": None, "latent": None, "config": None if config is None else dict(config),
        "reads": [], "not_understood": [], "notes": [],
    })  # fmt: skip


def signed(data: Json) -> Json:
    """The file with the digest of what it holds."""
    return {**data, "digest": digest_of(data)}
