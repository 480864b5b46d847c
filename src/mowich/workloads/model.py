"""What is computed, with no hardware in it: a `Model` is a stack of layer kinds with exact shapes.

Parameters are counted from the shapes, so the counts are exact; FLOP and cache bytes follow from the same
shapes. How a model is split over devices (plans) and how long it takes (simulate) are other modules' work.
Notation: h hidden width, s sequence length, one FLOP = one addition or one multiplication.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

SCHEMA = "mowich/model@1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """One attention block. Counts are per layer and unsharded.

    kind "gqa" covers MHA (num_kv_heads == num_heads), GQA and MQA; "mla" is multi-head latent attention with
    q_lora (None: full-rank query), kv_lora, rope_head_dim; there head_dim = qk_nope + qk_rope and v_head_dim is the value's.
    window: tokens attended at most (sliding window), None for full. With `chunked` the sequence is cut into
    blocks of `window` tokens and a token attends inside its block only.
    qk_norm: "head" normalises each head (head_dim weights for q and for k), "full" the whole projection.
    shares_kv: reads an earlier layer's keys and values, so it has neither k and v projections nor a cache.
    k_is_v: the value is the key before its norm: one projection serves both.
    """

    kind: Literal["gqa", "mla"]
    num_heads: int
    num_kv_heads: int
    head_dim: int
    v_head_dim: int
    window: int | None = None
    q_lora: int | None = None
    kv_lora: int = 0
    rope_head_dim: int = 0
    qkv_bias: bool = False
    out_bias: bool = False
    qk_norm: Literal["none", "head", "full"] = "none"
    sinks: bool = False
    causal: bool = True
    chunked: bool = False
    shares_kv: bool = False
    k_is_v: bool = False
    out_gate: int = 0
    """Columns of a projection from the hidden state that gates the attention output (0: none)."""

    @property
    def q_width(self) -> int:
        """Columns of the query: num_heads * head_dim."""
        return self.num_heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Columns of keys and values that the block projects (gqa): num_kv_heads * (head_dim + v_head_dim)."""
        if self.shares_kv:
            return 0
        return self.num_kv_heads * (self.head_dim + (0 if self.k_is_v else self.v_head_dim))

    @property
    def out_width(self) -> int:
        """Rows of the output projection: num_heads * v_head_dim."""
        return self.num_heads * self.v_head_dim

    def matmul_params(self, hidden: int) -> int:
        """Weights of the projections, each used once per token.

        gqa: h (q + k + v) + o h. mla: h q_lora + q_lora q (or h q), h (kv_lora + rope),
        kv_lora * heads * (nope + v), o h.
        """
        if self.kind == "gqa":
            return hidden * (self.q_width + self.kv_width + self.out_width + self.out_gate)
        query = hidden * self.q_width if self.q_lora is None else self.q_lora * (hidden + self.q_width)
        down = hidden * (self.kv_lora + self.rope_head_dim)
        up = self.kv_lora * self.num_heads * (self.head_dim - self.rope_head_dim + self.v_head_dim)
        return query + down + up + hidden * (self.out_width + self.out_gate)

    def params(self, hidden: int) -> int:
        """All weights of the block: projections, biases, q and k norms, sinks."""
        total = self.matmul_params(hidden)
        if self.kind == "mla":
            total += (self.q_lora or 0) + self.kv_lora
            if self.qkv_bias:
                total += (self.q_lora or 0) + self.kv_lora + self.rope_head_dim
        elif self.qkv_bias:
            total += self.q_width + self.kv_width
        if self.qk_norm == "head":
            total += self.head_dim * (1 if self.shares_kv else 2)
        elif self.qk_norm == "full":
            total += self.q_width + self.num_kv_heads * self.head_dim
        return total + (hidden if self.out_bias else 0) + (self.num_heads if self.sinks else 0)

    def context(self, seq: float) -> float:
        """Mean number of tokens that a token attends to in a sequence of `seq` tokens.

        Not causal: s. Causal: s/2 (the diagonal's half token is left out, as published FLOP counts do).
        Window w < s: w - w^2/(2s). Blocks of w: the block mean, the last one partial.

        >>> a = Attention(kind="gqa", num_heads=1, num_kv_heads=1, head_dim=64, v_head_dim=64, window=1024)
        >>> a.context(1024), a.context(4096)
        (512.0, 896.0)
        """
        if not self.causal:
            return min(seq, float(self.window)) if self.window else float(seq)
        if self.window is None or self.window >= seq:
            return seq / 2
        if self.chunked:
            blocks, rest = divmod(seq, self.window)
            return (blocks * self.window**2 + rest**2) / (2 * seq)
        return self.window - self.window**2 / (2 * seq)

    def core_flop_per_token(self, seq: float) -> float:
        """Forward FLOP of scores and weighted values: 2 * context * heads * (head_dim + v_head_dim)."""
        return 2 * self.context(seq) * self.num_heads * (self.head_dim + self.v_head_dim)

    @property
    def kv_elements_per_token(self) -> int:
        """Elements cached per token: k and v of each kv head, or MLA's compressed kv and its shared rope key."""
        if self.kind == "mla":
            return self.kv_lora + self.rope_head_dim
        return 0 if self.shares_kv else self.num_kv_heads * (self.head_dim + self.v_head_dim)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mlp:
    """A dense feed-forward block: `gated` has three matrices (gate, up, down), else two."""

    ffn: int
    gated: bool = True
    bias: bool = False

    @property
    def matrices(self) -> int:
        """3 when gated, else 2."""
        return 3 if self.gated else 2

    def matmul_params(self, hidden: int) -> int:
        """Weights of the matrices, each used once per token."""
        return self.matrices * hidden * self.ffn

    def params(self, hidden: int) -> int:
        """Matrices and biases."""
        return self.matmul_params(hidden) + (((self.matrices - 1) * self.ffn + hidden) if self.bias else 0)

    params_active = params


@dataclass(frozen=True, slots=True, kw_only=True)
class Moe:
    """A mixture of experts: each token visits `top_k` of `num_experts` experts of width `ffn`, and one
    dense shared expert of width `shared_ffn` (0: none). `router_params` are weights of the router beyond its
    matrix and bias; `shared_gate` a sigmoid gate (h weights) on the shared expert.
    `latent` is the width that experts work in (0: h)."""

    num_experts: int
    top_k: int
    ffn: int
    shared_ffn: int = 0
    gated: bool = True
    bias: bool = False
    router_bias: bool = False
    shared_gate: bool = False
    router_params: int = 0

    @property
    def matrices(self) -> int:
        """3 when gated, else 2."""
        return 3 if self.gated else 2

    def expert_params(self, hidden: int) -> int:
        """Weights of one routed expert."""
        return Mlp(ffn=self.ffn, gated=self.gated, bias=self.bias).params(hidden)

    def shared_params(self, hidden: int) -> int:
        """Weights that every token uses: shared expert, its gate, the router."""
        total = self.matrices * hidden * self.shared_ffn + hidden * self.num_experts + self.router_params
        return total + (hidden if self.shared_gate else 0) + (self.num_experts if self.router_bias else 0)

    def matmul_params(self, hidden: int) -> int:
        """Weights of the matrices that one token uses: top_k experts, shared expert, gate, router."""
        width = self.top_k * self.ffn + self.shared_ffn
        return hidden * (self.matrices * width + self.num_experts + (1 if self.shared_gate else 0))

    def params(self, hidden: int) -> int:
        """All weights."""
        return self.num_experts * self.expert_params(hidden) + self.shared_params(hidden)

    def params_active(self, hidden: int) -> int:
        """Weights that one token uses."""
        return self.top_k * self.expert_params(hidden) + self.shared_params(hidden)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer kind and how many of them: attention then feed-forward, with `norm_params` for its norms
    (and any other small vectors). `hidden` is the model's h. `extra_matmul_params`: weights of further
    matrices that each token uses once (Gemma's per-layer inputs)."""

    count: int
    attention: Attention
    ffn: Mlp | Moe
    norm_params: int
    hidden: int
    extra_matmul_params: int = 0

    @property
    def params(self) -> int:
        """Weights of one layer of this kind."""
        h = self.hidden
        return self.attention.params(h) + self.ffn.params(h) + self.norm_params + self.extra_matmul_params

    @property
    def params_active(self) -> int:
        """Weights that one token uses in one layer of this kind."""
        h = self.hidden
        return self.attention.params(h) + self.ffn.params_active(h) + self.norm_params + self.extra_matmul_params

    @property
    def matmul_params(self) -> int:
        """Weights of the matrices that one token uses in one layer of this kind."""
        h = self.hidden
        return self.attention.matmul_params(h) + self.ffn.matmul_params(h) + self.extra_matmul_params

    def flop_per_token(self, seq: float) -> float:
        """Forward FLOP per token of one layer of this kind: 2 * matrix weights + attention core."""
        return 2 * self.matmul_params + self.attention.core_flop_per_token(seq)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A decoder (or BERT-like encoder) as a stack of layer kinds, unsharded.

    layers: kinds in order of first appearance, with counts. embedding_params: token (and learned position)
    tables; head_params: the output matrix, 0 when tied to the embedding; other_params: anything else outside
    the layers. mtp_layers: multi-token-prediction blocks, each the last layer kind, a 2h x h projection
    and three norms; not in `params`. heads: times that the head runs per token (see `as_trained`). source: where the shapes were read.
    """

    name: str
    architecture: str
    hidden: int
    vocab: int
    layers: tuple[Layer, ...]
    tied_embeddings: bool
    embedding_params: int
    head_params: int
    final_norm_params: int
    learned_positions: int = 0
    other_params: int = 0
    mtp_layers: int = 0
    heads: int = 1
    max_seq: int = 0
    config_precision: str = ""
    source: str = ""
    pattern: tuple[int, ...] = field(default=())
    """Index into `layers` of every layer in order; empty when the order is not known."""

    @property
    def num_layers(self) -> int:
        """Layers, multi-token-prediction blocks left out."""
        return sum(layer.count for layer in self.layers)

    @property
    def params(self) -> int:
        """Every weight once: tied weights once, multi-token-prediction blocks and buffers left out."""
        inner = sum(layer.count * layer.params for layer in self.layers)
        return inner + self.embedding_params + self.head_params + self.final_norm_params + self.other_params

    @property
    def params_active(self) -> int:
        """Weights with only the experts that one token visits; embeddings and head included."""
        return self.params - sum(layer.count * (layer.params - layer.params_active) for layer in self.layers)

    @property
    def params_embedding(self) -> int:
        """Token and position tables."""
        return self.embedding_params

    @property
    def mtp_params(self) -> int:
        """Weights of the multi-token-prediction blocks (embedding and head are shared with the model)."""
        return self.mtp_layers * (self.layers[-1].params + 2 * self.hidden**2 + 3 * self.hidden)

    def flop_per_token(self, seq: float, *, mtp: bool = False) -> float:
        """Forward model FLOP per token: what the model asks for, whatever the machine does.

        flop = 2 * (matrix weights that a token uses, router and head included, embedding lookup left out)
             + sum over layers of 2 * context(seq) * heads * (qk + v).
        Causal attention is halved and windows are honoured; norms, softmax and activations are left out.
        With `mtp` each prediction block adds a layer, its projection and the head. Training is 3 times this.
        """
        flop = 2.0 * self.vocab * self.hidden * self.heads
        flop += sum(layer.count * layer.flop_per_token(seq) for layer in self.layers)
        if mtp and self.mtp_layers:
            block = self.layers[-1].flop_per_token(seq) + 2 * (2 * self.hidden**2 + self.vocab * self.hidden)
            flop += self.mtp_layers * block
        return flop

    def attention_flop_per_token(self, seq: float) -> float:
        """The part of `flop_per_token` that grows with context: scores and weighted values."""
        return sum(layer.count * layer.attention.core_flop_per_token(seq) for layer in self.layers)

    def kv_bytes_per_token(self, bytes_per_element: float = 2.0) -> float:
        """Bytes of cache that each token writes, over all layers (windows do not reduce it)."""
        elements = sum(layer.count * layer.attention.kv_elements_per_token for layer in self.layers)
        return bytes_per_element * elements

    def kv_bytes(self, seq: float, bytes_per_element: float = 2.0) -> float:
        """Bytes of cache of one sequence of `seq` tokens: windowed layers keep their window only."""
        total = 0.0
        for layer in self.layers:
            window = layer.attention.window
            kept = seq if window is None else min(seq, window)
            total += layer.count * layer.attention.kv_elements_per_token * kept
        return bytes_per_element * total

    def to_dict(self) -> dict[str, object]:
        """The `mowich/model@1` JSON, with FLOP at 4,096 tokens or the model's context if that is shorter."""
        from mowich.workloads.view import model_view

        return model_view(self).to_dict()


def as_trained(model: Model) -> Model:
    """The model with its multi-token-prediction blocks as layers of their own and the head run once more for each: what a
    training step computes. Unchanged when the model has none."""
    if not model.mtp_layers:
        return model
    last = model.layers[-1]
    block = replace(last, count=model.mtp_layers, extra_matmul_params=last.extra_matmul_params + 2 * model.hidden**2)
    return replace(model, layers=(*model.layers, block), heads=1 + model.mtp_layers, mtp_layers=0, pattern=())
