"""The figures of `mowich model`: one row per layer kind, and the totals. Data only; `report` draws it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from mowich.workloads.model import SCHEMA, Attention, Layer, Mlp, Model, Moe

DEFAULT_SEQ = 4096
"""Tokens at which FLOP per token are given when the caller states no length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerView:
    """One layer kind; params, FLOP and bytes are of one layer. FLOP are forward, per token, at `seq` of the view."""

    count: int
    attention: str
    ffn: str
    params: int
    params_active: int
    flop_per_token_forward: float
    attention_flop_per_token_forward: float
    kv_bytes_per_token: float
    window: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelView:
    """All that `mowich model` shows. kv_bytes are for 2-byte elements unless `bytes_per_element` says otherwise."""

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
    bytes_per_element: float
    layers: tuple[LayerView, ...]

    def to_dict(self) -> dict[str, object]:
        """The `mowich/model@1` JSON."""
        return {"schema": SCHEMA, **asdict(self), "layers": [asdict(layer) for layer in self.layers]}


def attention_name(a: Attention) -> str:
    """Short words for an attention block: "GQA 32/8 x 128, window 4096".

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
    return text if a.causal else text + ", not causal"


def ffn_name(f: Mlp | Moe) -> str:
    """Short words for a feed-forward block: "MoE 8 of 256 x 2048 + shared 2048", "gated 14336".

    >>> ffn_name(Mlp(ffn=14336))
    'gated 14336'
    """
    if isinstance(f, Mlp):
        return f"{'gated' if f.gated else 'plain'} {f.ffn}"
    shared = f" + shared {f.shared_ffn}" if f.shared_ffn else ""
    return f"MoE {f.top_k} of {f.num_experts} x {f.ffn}{shared}"


def model_view(model: Model, *, seq: int | None = None, bytes_per_element: float = 2.0) -> ModelView:
    """The figures of `model` for sequences of `seq` tokens (4,096, or the model's context if that is shorter)."""
    tokens = seq or min(DEFAULT_SEQ, model.max_seq or DEFAULT_SEQ)

    def row(layer: Layer) -> LayerView:
        return LayerView(
            count=layer.count,
            attention=attention_name(layer.attention),
            ffn=ffn_name(layer.ffn),
            params=layer.params,
            params_active=layer.params_active,
            flop_per_token_forward=layer.flop_per_token(tokens),
            attention_flop_per_token_forward=layer.attention.core_flop_per_token(tokens),
            kv_bytes_per_token=bytes_per_element * layer.attention.kv_elements_per_token,
            window=layer.attention.window,
        )

    return ModelView(
        name=model.name,
        architecture=model.architecture,
        source=model.source,
        seq=tokens,
        num_layers=model.num_layers,
        hidden=model.hidden,
        vocab=model.vocab,
        max_seq=model.max_seq,
        tied_embeddings=model.tied_embeddings,
        mtp_layers=model.mtp_layers,
        params=model.params,
        params_active=model.params_active,
        params_embedding=model.params_embedding,
        params_head=model.head_params,
        params_other=model.final_norm_params + model.other_params,
        mtp_params=model.mtp_params,
        flop_per_token_forward=model.flop_per_token(tokens),
        flop_per_token_train=3 * model.flop_per_token(tokens),
        attention_flop_per_token_forward=model.attention_flop_per_token(tokens),
        head_flop_per_token_forward=2.0 * model.hidden * model.vocab,
        kv_bytes_per_token=model.kv_bytes_per_token(bytes_per_element),
        kv_bytes_at_seq=model.kv_bytes(tokens, bytes_per_element),
        bytes_per_element=bytes_per_element,
        layers=tuple(row(layer) for layer in model.layers),
    )
