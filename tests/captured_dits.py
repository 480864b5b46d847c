"""Captured files of diffusion transformers as the exporter writes them, by hand from the public shapes of FLUX.1-dev
(joint attention with text) and Wan 2.1 14B (attention to images, then to text): blocks of any number."""

from __future__ import annotations

from captured_models import BATCH, LENGTH, NONE, TOKENS, Json, product, signed
from mowich.models.captured import CAPTURED_SCHEMA
from mowich.models.captured_model import model_from_captured
from mowich.models.model import Model

_Rows = list[int]


def _text(tokens: int) -> tuple[_Rows, _Rows, _Rows, _Rows]:
    """(positions of the text, rows of the text, positions of text and image, rows of both)."""
    return [tokens, 0, 0, 0], [0, tokens, 0, 0], [tokens, 0, 1, 0], [0, tokens, 0, 1]


def _core(module: str, heads: int, dim: int, queries: _Rows, keys: _Rows, *, masked: bool = False) -> Json:
    return {
        "module": module, "heads": heads, "kv_heads": heads, "qk": dim, "v": dim, "sequences": BATCH,
        "queries": queries, "keys": keys, "causal": False, "window": None, "chunked": False, "sinks": False,
        "masked": masked, "cached": False, "eager": False, "latent": None,
    }  # fmt: skip


def _layer(module: str, count: int, h: int, products: list[Json], cores: list[Json], moved: _Rows, **more: int) -> Json:
    params = sum(p["n"] * p["k"] + p["biases"] for p in products)
    own = {"blocks": 2, "norms": 4, "launches": 100, **more}
    eager = [4 * m for m in moved]
    return {
        "module": module, "class": "Block", "count": count, "params": params, "hidden": h, "products": products,
        "cores": cores, "experts": [], "scans": [], "cached_elements": 0, "moved": moved, "moved_eager": eager, **own,
    }  # fmt: skip


def _file(name: str, h: int, layers: list[Json], outside: list[Json], latent: Json) -> Json:
    once = _layer("", 1, h, outside, [], NONE, blocks=0, norms=1, launches=20)
    inner = sum(x["count"] * x["params"] for x in layers)
    return signed({
        "schema": CAPTURED_SCHEMA, "name": name, "source": "dit.py:build", "kind": "diffusion",
        "versions": {"torch": "2.13.0"},
        "probes": [[2, 128], [2, 256], [3, 128], [3, 256]], "checked": [5, 384],
        "inputs": {"hidden_states": [BATCH, LENGTH, [64, 0, 0, 0]]}, "hidden": h, "vocab": 0, "tied": False,
        "max_seq": 0, "params": inner + once["params"],
        "components": {"embedding": 0, "head": 0, "layers": inner, "other": once["params"]},
        "layers": layers, "pattern": [i for i, x in enumerate(layers) for _ in range(x["count"])], "outside": once,
        "mtp": None, "latent": latent, "config": None, "reads": [], "not_understood": [], "notes": [],
    })  # fmt: skip


def flux_json(*, double: int = 19, single: int = 38, text: int = 512, masked: bool = False) -> Json:
    """FLUX.1-dev: blocks with weights of their own for text and image, then blocks of both in one row."""
    h, heads, ffn = 3072, 24, 12288
    _, of_text, both, rows = _text(text)
    pairs = [("attn.to_q", h, h, "column"), ("attn.to_k", h, h, "column"), ("attn.to_v", h, h, "column")]
    pairs += [("attn.to_out.0", h, h, "row"), ("ff.net.0.proj", ffn, h, "column"), ("ff.net.2", h, ffn, "row")]
    two = [product("norm1.linear", 6 * h, h, rows=BATCH, biases=6 * h)]
    two += [product("norm1_context.linear", 6 * h, h, rows=BATCH, biases=6 * h)]
    two += [product(name, n, k, role, n) for name, n, k, role in pairs]
    two += [product(f"{name}_context", n, k, role, n, rows=of_text) for name, n, k, role in pairs]
    one = [product("norm.linear", 3 * h, h, rows=BATCH, biases=3 * h)]
    one += [product(name, n, k, role, n, rows=rows) for name, n, k, role in pairs[:3]]
    one += [product("proj_mlp", ffn, h, "column", ffn, rows=rows), product("proj_out", h, h + ffn, "row", h, rows=rows)]
    core = _core("attn", heads, h // heads, both, both, masked=masked)
    layers = [
        _layer("transformer_blocks.{}", double, h, two, [core], [0, 27 * h * text, 0, 27 * h]),
        _layer("single_transformer_blocks.{}", single, h, one, [core], [0, 22 * h * text, 0, 22 * h], blocks=1),
    ]
    outside = [product("x_embedder", h, 64, rows=TOKENS), product("context_embedder", h, 4096, rows=of_text)]
    outside += [product("norm_out.linear", 2 * h, h, rows=BATCH), product("proj_out", 64, h, rows=TOKENS)]
    latent = {
        "patch": [1, 2, 2], "vae_spatial": 8, "vae_temporal": None, "causal_frames": None, "text_tokens": text,
        "branches": 1,
    }  # fmt: skip
    return _file("flux-like", h, layers, outside, latent)


def wan_json(*, layers: int = 40, text: int = 512) -> Json:
    """Wan 2.1 14B: attention of the clip's tokens to one another, then to those of the text."""
    h, heads, ffn = 5120, 40, 13824
    positions, of_text, _, _ = _text(text)
    own = [product(f"attn1.to_{x}", h, h, "column", h) for x in "qkv"] + [product("attn1.to_out.0", h, h, "row", h)]
    own += [product("attn2.to_q", h, h, "column", h), product("attn2.to_out.0", h, h, "row", h)]
    own += [product(f"attn2.to_{x}", h, h, "column", h, rows=of_text) for x in "kv"]
    own += [product("ffn.net.0.proj", ffn, h, "column", ffn), product("ffn.net.2", h, ffn, "row", h)]
    cores = [
        _core("attn1", heads, h // heads, LENGTH, LENGTH),
        _core("attn2", heads, h // heads, LENGTH, positions),
    ]
    block = _layer("blocks.{}", layers, h, own, cores, [0, 0, 0, 36 * h], blocks=3)
    outside = [product("patch_embedding", h, 64, rows=TOKENS), product("text_embedder", h, 4096, rows=of_text)]
    outside += [product("time_proj", 6 * h, h, rows=BATCH), product("proj_out", 64, h, rows=TOKENS)]
    latent = {
        "patch": [1, 2, 2], "vae_spatial": 8, "vae_temporal": 4, "causal_frames": True, "text_tokens": text,
        "branches": 2,
    }  # fmt: skip
    return _file("wan-like", h, [block], outside, latent)


def captured_dit(data: Json) -> Model:
    """The model of such a file."""
    return model_from_captured(data, where="dit.json")
