"""The figures of `mowich model`: one row per layer kind, and the totals. Data only; `report` draws it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from mowich.errors import UserError
from mowich.models.attention import Attention
from mowich.models.encoder import HasMedia, encoder_kinds, encoder_of
from mowich.models.ffn import Mlp, Moe
from mowich.models.layer import Layer, Mixer
from mowich.models.recurrent import Recurrent
from mowich.models.traced import Traced
from mowich.shown import Keyed

if TYPE_CHECKING:
    from mowich.facts import Facts
    from mowich.models.captured import Captured, CapturedKind, CapturedLayer

DEFAULT_SEQ = 4096
"""Tokens at which FLOP per token are given when the caller states no length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerView:
    """One layer kind; params, FLOP and bytes are of one layer. FLOP are forward, per token, at `seq` of the view.

    attention: the mixer in words, also where it is a recurrence. flop_per_token_forward = mixer projections + core
    (`attention_flop_...`: scores and values, indexer, or the recurrence) + feed-forward + rest (residual mixing, extra
    matrices).
    """

    count: int
    attention: str
    ffn: str
    params: int
    params_active: int
    params_mixer: int
    params_ffn: int
    flop_per_token_forward: float
    mixer_flop_per_token_forward: float
    attention_flop_per_token_forward: float
    ffn_flop_per_token_forward: float
    kv_bytes_per_token: float
    kv_bytes_at_seq: float
    state_bytes_per_sequence: float
    window: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelView(Keyed):
    """All that `mowich model` shows. kv_bytes are for 2-byte elements unless `bytes_per_element` says otherwise."""

    SCHEMA = "mowich/model@1"
    KEYS = (
        "name architecture source seq num_layers hidden vocab max_seq tied_embeddings mtp_layers params "
        "params_active params_embedding params_head params_other mtp_params flop_per_token_forward "
        "flop_per_token_train attention_flop_per_token_forward head_flop_per_token_forward kv_bytes_per_token "
        "kv_bytes_at_seq state_bytes_per_sequence bytes_per_element weight_bytes weight_bytes_assumed layers "
        "encoders:none? captured:none?"
    )

    name: str
    architecture: str
    source: str
    seq: int
    num_layers: int
    hidden: int
    vocab: int
    max_seq: int
    tied_embeddings: bool
    mtp_layers: int
    params: int
    params_active: int
    params_embedding: int
    params_head: int
    params_other: int
    mtp_params: int
    flop_per_token_forward: float
    flop_per_token_train: float
    attention_flop_per_token_forward: float
    head_flop_per_token_forward: float
    kv_bytes_per_token: float
    kv_bytes_at_seq: float
    state_bytes_per_sequence: float
    bytes_per_element: float
    weight_bytes: dict[str, float]
    weight_bytes_assumed: str
    layers: tuple[LayerView, ...]
    encoders: dict[str, dict[str, object]] = field(default_factory=dict)
    captured: dict[str, object] = field(default_factory=dict)


SHOWN_PIXELS, SHOWN_SECONDS = 1024, 10.0
"""Sides of the picture, and length of the sound, that an encoder's work is shown for."""


def encoder_views(model: HasMedia, facts: Facts | None) -> dict[str, dict[str, object]]:
    """What encoders a model has: parameters, and tokens and work of one picture or piece of sound; the reason where one
    is not understood."""
    from mowich.facts import load_facts

    out: dict[str, dict[str, object]] = {}
    for kind in encoder_kinds(model):
        try:
            encoder = encoder_of(model, kind)
        except UserError as error:
            out[kind] = {"reason": error.what}
            continue
        known = facts or load_facts()
        is_image = kind == "image"
        item = encoder.image(SHOWN_PIXELS, SHOWN_PIXELS, known) if is_image else encoder.audio(SHOWN_SECONDS, known)
        out[kind] = {
            "of": f"{SHOWN_PIXELS} x {SHOWN_PIXELS} pixels" if is_image else f"{SHOWN_SECONDS:g} s",
            "params": encoder.params,
            "num_layers": encoder.num_layers,
            "hidden": encoder.hidden,
            "positions": item.positions,
            "tokens": item.tokens,
            "prompt_tokens": item.prompt,
            "flop": encoder.flop(item),
            "embedding_elements": encoder.out,
        }
    return out


RECURRENT_NAMES = {
    "mamba2": "Mamba-2",
    "gdn": "gated delta net",
    "kda": "Kimi delta attention",
    "lightning": "lightning attention",
}


def mixer_name(layer: Layer) -> str:
    """Short words for a layer's mixer: "GQA 32/8 x 128", "Mamba-2 64 x 64, state 128", "-" where there is none."""
    if layer.recurrent is not None:
        return recurrent_name(layer.recurrent)
    if layer.traced:
        return traced_name(layer.traced)
    return attention_name(layer.attention) if layer.has_mixer else "-"


def traced_name(traced: Traced) -> str:
    """Short words for a captured block: its module, products, and its cores and scans by kind."""
    inner = [attention_name(core.attention) for core in traced.cores] + [scan.kind for scan in traced.scans]
    kinds = [f"{inner.count(kind)} x {kind}" if inner.count(kind) > 1 else kind for kind in dict.fromkeys(inner)]
    return "; ".join([f"{traced.module}: {len(traced.products)} products", *kinds])


def recurrent_name(r: Recurrent) -> str:
    """Short words for a recurrence: heads x width, state, groups of keys where fewer than heads."""
    groups = f", {r.num_groups} groups" if r.num_groups != r.num_heads else ""
    return f"{RECURRENT_NAMES[r.kind]} {r.num_heads} x {r.head_dim}, state {r.state_dim}{groups}"


def attention_name(a: Attention) -> str:
    """Short words for an attention block: "GQA 32/8 x 128, window 4096", with what it reads of the past.

    >>> attention_name(Attention(kind="gqa", num_heads=32, num_kv_heads=8, head_dim=128, v_head_dim=128))
    'GQA 32/8 x 128'
    """
    if a.kind == "mla":
        text = f"MLA {a.num_heads} x {a.head_dim}/{a.v_head_dim}, kv {a.kv_lora}+{a.rope_head_dim}"
    else:
        word = "MHA" if a.num_heads == a.num_kv_heads else "MQA" if a.num_kv_heads == 1 else "GQA"
        heads = f"{a.num_heads}" if word == "MHA" else f"{a.num_heads}/{a.num_kv_heads}"
        width = f"{a.head_dim}" if a.head_dim == a.v_head_dim else f"{a.head_dim}/{a.v_head_dim}"
        text = f"{word} {heads} x {width}"
    if a.window is not None:
        text += f", {'chunk' if a.chunked else 'window'} {a.window}"
    if a.compressor:
        text += f", past 1/{a.compressor.ratio}"
    if a.indexer:
        text += f", top {a.indexer.top_k}" + (" (shared)" if a.indexer.shared else "")
    if a.shares_kv:
        text += ", earlier layer's k and v"
    return text if a.causal else text + ", not causal"


def ffn_name(f: Mlp | Moe) -> str:
    """Short words for a feed-forward block: "MoE 8 of 256 x 2048 + shared 2048", "gated 14336".

    >>> ffn_name(Mlp(ffn=14336))
    'gated 14336'
    """
    if isinstance(f, Mlp):
        return f"{'gated' if f.gated else 'plain'} {f.ffn}" if f.ffn else "-"
    shared = f" + shared {f.shared_ffn}" if f.shared_ffn else ""
    latent = f" in {f.latent}" if f.latent else ""
    return f"MoE {f.top_k} of {f.num_experts} x {f.ffn}{latent}{shared}"


def layer_view(layer: Layer, seq: int, bytes_per_element: float) -> LayerView:
    """The figures of one layer kind for sequences of `seq` tokens; bytes_per_element: of the cache."""
    return LayerView(
        count=layer.count,
        attention=mixer_name(layer),
        ffn=ffn_name(layer.ffn),
        params=layer.params,
        params_active=layer.params_active,
        params_mixer=layer.mixer.params(layer.hidden),
        params_ffn=layer.ffn.params(layer.hidden),
        flop_per_token_forward=layer.flop_per_token(seq),
        mixer_flop_per_token_forward=layer.mixer_product_flop(seq),
        attention_flop_per_token_forward=layer.mixer.core_flop_per_token(seq),
        ffn_flop_per_token_forward=2.0 * layer.ffn.matmul_params(layer.hidden),
        kv_bytes_per_token=bytes_per_element * layer.kv_elements_per_token,
        kv_bytes_at_seq=bytes_per_element * layer.cached_elements(seq),
        state_bytes_per_sequence=layer.state_bytes(),
        window=layer.attention.window,
    )


_TOKENS: dict[CapturedKind, str] = {
    "decoder": "of a text that is read and goes on",
    "encoder": "of a text that is read once",
    "encoder-decoder": "of what is written; what is read has as many, or a fixed number of rows",
    "vision-language": "of the text; an image has a fixed number of rows",
    "speech": "of the sound, as positions of the encoder",
    "diffusion": "patches of the latent image or clip; the text has a fixed number of rows",
    "module": "rows of the module's inputs",
}
"""Kind of model -> what its tokens are."""


def captured_view(
    c: Captured,
    *,
    forms: Sequence[Mixer] | None,
    outside: Traced | None,
    once: float,
    doubts: Sequence[str],
    remarks: Sequence[str],
) -> dict[str, object]:
    """The `captured` object of `mowich/model@1`.

    read_from: whether the config behind it or the code gave its shapes (forms: those of the layers, None by the
    config). Of each kind of layer: its module, in what form it is computed ("ours" or "traced"), its products under
    their modules' names, roles of weights with their number; of what runs once, the head left out, forward FLOP per
    token (`once`).
    """
    of_layers = [None] * len(c.layers) if forms is None else forms
    return {
        "kind": c.kind,
        "tokens": _TOKENS[c.kind],
        "source": c.source,
        "versions": dict(c.versions),
        "read_from": "config" if forms is None else "code",
        "layers": [_captured_layer(layer, form) for layer, form in zip(c.layers, of_layers, strict=True)],
        "outside": {**_captured_layer(c.outside, outside), "flop_per_token_forward": once},
        "doubts": list(doubts),
        "remarks": list(remarks),
        "reads": [asdict(read) for read in c.reads],
        "not_understood": [asdict(one) for one in c.not_understood],
        "notes": list(c.notes),
    }


def _captured_layer(layer: CapturedLayer, form: Mixer | None) -> dict[str, object]:
    return {
        "module": layer.module,
        "class": layer.class_,
        "count": layer.count,
        "form": "traced" if isinstance(form, Traced) else "ours",
        "products": [
            {"module": p.module, "n": p.n, "k": p.k, "rows": list(p.rows), "role": p.role} for p in layer.products
        ],
        "cores": [core.module for core in layer.cores],
        "experts": [experts.module for experts in layer.experts],
        "scans": [scan.module for scan in layer.scans],
        "roles": dict(sorted(Counter(p.role for p in layer.products if p.weight is not None).items())),
    }
