"""How many tensors a checkpoint has, by component: engines load weights by name, one after another, so that this count
sets the time of a weight update as much as the bytes do.

Counts are those of a checkpoint as it is published, each expert with matrices of its own (engines and exporters keep
them apart even where a file stacks them).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mowich.models.attention import Attention
from mowich.models.ffn import Mlp, Moe
from mowich.models.model import Layer, Model, Traced
from mowich.models.recurrent import Recurrent

QUANTISED = ("mixer", "mlp", "experts", "shared")
"""Components whose matrices a checkpoint below 16 bits quantises; the others stay in 16 bits."""

CORRECTED = ("deepseek_v3", "deepseek_v32", "deepseek_v4", "kimi_k2", "glm4_moe", "minimax_m2")
"""Architectures whose routers have a correction of the scores as a tensor of the checkpoint. It is a buffer, so that
`Model.params` does not count it."""

_RECURRENT: Mapping[str, tuple[int, int]] = {"mamba2": (8, 2), "gdn": (9, 5), "kda": (15, 9), "lightning": (4, 3)}
"""Kind of recurrence -> (tensors, matrices among them) of a layer as published: projections, convolutions, decay, step
and norm."""


@dataclass(frozen=True, slots=True)
class TensorCount:
    """tensors: all of them, norms and biases too; matrices: those among them that are multiplied with."""

    tensors: int
    matrices: int

    def __add__(self, other: TensorCount) -> TensorCount:
        return TensorCount(self.tensors + other.tensors, self.matrices + other.matrices)

    def times(self, n: int) -> TensorCount:
        return TensorCount(self.tensors * n, self.matrices * n)


def component_tensors(model: Model) -> dict[str, TensorCount]:
    """Tensors by component, as `Model.component_params` names them; prediction blocks left out.

    >>> from mowich.models.builtin import load_model
    >>> sum(count.tensors for count in component_tensors(load_model("qwen3-30b-a3b")).values())
    18867
    """
    out: dict[str, TensorCount] = {}

    def add(name: str, tensors: int, matrices: int = 0) -> None:
        out[name] = out.get(name, TensorCount(0, 0)) + TensorCount(tensors, matrices)

    for layer in model.layers:
        for name, count in _of_layer(layer).items():
            out[name] = out.get(name, TensorCount(0, 0)) + count.times(layer.count)
        if isinstance(layer.ffn, Moe) and model.architecture in CORRECTED and not layer.ffn.router_bias:
            add("router", layer.count)
    add("embedding", 1 + bool(model.learned_positions), 1)
    add("head", int(model.head_params > 0), int(model.head_params > 0))
    if model.outside:
        add("other", _of_traced(model.outside).tensors)
    add("other", -(-model.final_norm_params // model.hidden))
    return out


def scale_tensors(counts: Mapping[str, TensorCount]) -> dict[str, int]:
    """Scales that a checkpoint below 16 bits has beside its tensors: one of each quantised matrix.

    >>> from mowich.models.builtin import load_model
    >>> counts = component_tensors(load_model("deepseek-v3"))
    >>> sum(count.tensors for count in counts.values()), sum(scale_tensors(counts).values())
    (45395, 45032)
    """
    return {name: count.matrices for name, count in counts.items() if name in QUANTISED}


def _of_layer(layer: Layer) -> dict[str, TensorCount]:
    out = {"other": TensorCount(-(-layer.norm_params // layer.hidden), 0)}
    mixer = layer.mixer
    if isinstance(mixer, Recurrent):
        out["mixer"] = TensorCount(*_RECURRENT[mixer.kind])
    elif isinstance(mixer, Traced):
        out["mixer"] = _of_traced(mixer)
    elif layer.has_mixer:
        out["mixer"] = _of_attention(mixer)
    ffn = layer.ffn
    if isinstance(ffn, Mlp):
        if layer.has_ffn:
            out["mlp"] = TensorCount(ffn.matrices * (1 + ffn.bias), ffn.matrices)
        return out
    out["experts"] = TensorCount(ffn.matrices * (1 + ffn.bias), ffn.matrices).times(ffn.num_experts)
    if ffn.shared_ffn:
        out["shared"] = TensorCount(ffn.matrices, ffn.matrices)
    latent = 2 if ffn.latent else 0
    out["router"] = TensorCount(1 + ffn.router_bias + ffn.shared_gate + latent + ffn.latent_norm, 1 + latent)
    return out


def _of_traced(traced: Traced) -> TensorCount:
    """Matrices and their biases; vectors are counted with the layer's."""
    matrices = sum(product.params > 0 for product in traced.products)
    return TensorCount(matrices + sum(product.biases > 0 for product in traced.products), matrices)


def _of_attention(a: Attention) -> TensorCount:
    """Projections, their biases, and norms inside the block."""
    if a.kind == "mla":
        matrices, vectors = (1 if a.q_lora is None else 2) + 2, (0 if a.q_lora is None else 1) + 1
    else:
        matrices = 1 if a.shares_kv else 2 if a.k_is_v else 3
        vectors = matrices if a.qkv_bias else 0
        vectors += 0 if a.qk_norm == "none" else 1 if a.shares_kv else 2
    matrices += 2 if a.o_lora else 1
    vectors += a.out_bias + a.sinks
    if a.compressor:
        matrices, vectors = matrices + 2, vectors + 2
    if a.indexer and not a.indexer.shared:
        matrices, vectors = matrices + 2 + a.indexer.head_weights, vectors + (2 if a.indexer.norm_params else 0)
    return TensorCount(matrices + vectors, matrices)
