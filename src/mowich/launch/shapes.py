"""The shape of a model in the words of programs that train: Megatron's arguments, MaxText's config."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from mowich.models.attention import Attention
from mowich.models.ffn import Mlp, Moe
from mowich.models.model import Layer, Model

_NORMS = 2
"""Norms of a layer: before attention, before the feed-forward block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeWords:
    """words: arguments, or lines of a config; why: what of the model they cannot say ("" where they say all)."""

    words: tuple[str, ...] = ()
    why: str = ""


def unusual(model: Model) -> str:
    """What of a model is no plain stack of attention and feed-forward blocks with one width, "" where nothing is."""
    if model.outside is not None or any(not isinstance(layer.mixer, Attention) for layer in model.layers):
        return "blocks that are not attention"
    if any(not layer.has_mixer or not layer.has_ffn for layer in model.layers):
        return "layers of a single block"
    checks: Mapping[str, Callable[[Attention], bool]] = {
        "attention that reads in both directions": lambda a: not a.causal,
        "sparse attention": lambda a: a.indexer is not None or a.compressor is not None,
        "attention in chunks": lambda a: a.chunked,
        "keys and values that layers share": lambda a: a.shares_kv or a.k_is_v,
        "a gate on the output of attention": lambda a: a.out_gate > 0,
        "a low-rank output of attention": lambda a: a.o_lora > 0,
        "norms of whole queries and keys": lambda a: a.qk_norm == "full",
    }
    for what, is_so in checks.items():
        if any(is_so(layer.attention) for layer in model.layers):
            return what
    if any(layer.streams > 1 or layer.extra_matmul_params for layer in model.layers):
        return "several residual streams or further matrices"
    if any(isinstance(layer.ffn, Moe) and layer.ffn.latent for layer in model.layers):
        return "experts of a latent width"
    return _uneven(model)


def _uneven(model: Model) -> str:
    """What differs between layers that must be alike."""
    widths = {(a.kind, a.num_heads, a.num_kv_heads, a.head_dim, a.v_head_dim) for a in _attentions(model)}
    if len(widths) > 1:
        return "attention of several widths"
    if len({layer.ffn for layer in model.layers if isinstance(layer.ffn, Mlp)}) > 1:
        return "feed-forward blocks of several widths"
    if len({layer.ffn for layer in model.layers if isinstance(layer.ffn, Moe)}) > 1:
        return "experts of several widths"
    if len({a.window for a in _attentions(model)} - {None}) > 1:
        return "windows of several lengths"
    if any(layer.norm_params not in _norm_sizes(layer) for layer in model.layers):
        return "norms behind blocks"
    return ""


def _attentions(model: Model) -> list[Attention]:
    return [layer.attention for layer in model.layers]


def _norm_sizes(layer: Layer) -> tuple[int, int]:
    """Weights of the norms of a layer: RMSNorm, or LayerNorm, which has a bias too."""
    return _NORMS * layer.hidden, 2 * _NORMS * layer.hidden if layer.ffn.bias else 0


def _is_layer_norm(layer: Layer) -> bool:
    return layer.norm_params == _norm_sizes(layer)[1]


def megatron_shape(model: Model, seq: int) -> ShapeWords:
    """MODEL_ARGS of Megatron-LM for a model trained at a length. Multi-token-prediction blocks are counted apart.

    >>> from mowich.models import load_model
    >>> megatron_shape(load_model("llama-3.1-8b"), 8192).words[:3]
    ('--num-layers 32', '--hidden-size 4096', '--num-attention-heads 32')
    """
    if why := unusual(model):
        return ShapeWords(why=why)
    layers = model.layers_in_order
    words = [f"--num-layers {model.num_layers}", f"--hidden-size {model.hidden}"]
    words += _megatron_attention(layers)
    words += _megatron_ffn(layers)
    positions = "learned_absolute" if model.learned_positions else "rope"
    words += [
        f"--position-embedding-type {positions}",
        f"--max-position-embeddings {max(seq, model.learned_positions)}",
    ]
    words += [f"--normalization {'LayerNorm' if _is_layer_norm(layers[0]) else 'RMSNorm'}"]
    words += [] if model.tied_embeddings else ["--untie-embeddings-and-output-weights"]
    words += [f"--mtp-num-layers {model.mtp_layers}"] if model.mtp_layers else []
    return ShapeWords(words=(*words, "--attention-dropout 0.0", "--hidden-dropout 0.0"))


def _megatron_attention(layers: Sequence[Layer]) -> list[str]:
    a = layers[0].attention
    words = [f"--num-attention-heads {a.num_heads}"]
    if a.kind == "mla":
        words += ["--multi-latent-attention", f"--kv-lora-rank {a.kv_lora}"]
        words += [] if a.q_lora is None else [f"--q-lora-rank {a.q_lora}"]
        words += [f"--qk-head-dim {a.head_dim - a.rope_head_dim}", f"--qk-pos-emb-head-dim {a.rope_head_dim}"]
        words += [f"--v-head-dim {a.v_head_dim}"]
    else:
        words += [f"--kv-channels {a.head_dim}"]
        grouped = ["--group-query-attention", f"--num-query-groups {a.num_kv_heads}"]
        words += grouped if a.num_kv_heads < a.num_heads else []
    words += ["--qk-layernorm"] if a.qk_norm == "head" or a.kind == "mla" else []
    if not a.out_bias:
        words += ["--disable-bias-linear", *(["--add-qkv-bias"] if a.qkv_bias else [])]
    words += ["--softmax-type learnable"] if a.sinks else []
    windows = [layer.attention.window for layer in layers]
    if any(windows):
        words += [f"--window-size {next(w for w in windows if w) - 1},0"]
        words += [f"--window-attn-skip-freq '{_runs([int(bool(w)) for w in windows])}'"] if not all(windows) else []
    return words


def _megatron_ffn(layers: Sequence[Layer]) -> list[str]:
    dense = next((layer.ffn for layer in layers if isinstance(layer.ffn, Mlp)), None)
    moe = next((layer.ffn for layer in layers if isinstance(layer.ffn, Moe)), None)
    gated = (dense or moe or Mlp(ffn=0)).gated
    words = [f"--ffn-hidden-size {dense.ffn if dense else moe.ffn if moe else 0}", *(["--swiglu"] if gated else [])]
    if moe is None:
        return words
    words += [f"--num-experts {moe.num_experts}", f"--moe-router-topk {moe.top_k}", f"--moe-ffn-hidden-size {moe.ffn}"]
    if dense is not None:
        words += [f"--moe-layer-freq '{_runs([int(isinstance(layer.ffn, Moe)) for layer in layers])}'"]
    words += [f"--moe-shared-expert-intermediate-size {moe.shared_ffn}"] if moe.shared_ffn else []
    words += ["--moe-shared-expert-gate"] if moe.shared_gate else []
    if moe.groups > 1:
        words += [f"--moe-router-num-groups {moe.groups}", f"--moe-router-group-topk {moe.top_groups}"]
    return [*words, "--moe-grouped-gemm", "--moe-token-dispatcher-type alltoall"]


def _runs(values: Sequence[int]) -> str:
    """A list as Megatron takes it.

    >>> _runs([0, 0, 0, 1, 1]), _runs([1, 0, 1, 0])
    ('([0]*3+[1]*2)', '([1,0]*2)')
    """
    for size in range(1, len(values) // 2 + 1):
        if len(values) % size == 0 and list(values[:size]) * (len(values) // size) == list(values):
            return f"([{','.join(map(str, values[:size]))}]*{len(values) // size})"
    return "(" + "+".join(f"[{value}]*{len(list(run))}" for value, run in groupby(values)) + ")"


def megatron_layout(layers: int, mtp: int, stages: int) -> str:
    """Layers of each stage of a pipeline that they do not fill evenly, as `--pipeline-model-parallel-layout` has it:
    the embedding first, the head last; stages with a layer less come last. layers: without the mtp ones.

    >>> megatron_layout(61, 1, 16)
    'Et*4|t*4|t*4|t*4|t*4|t*4|t*4|t*4|t*4|t*4|t*4|t*4|t*4|t*4|t*3|t*2mL'
    """
    each = [(layers + mtp) // stages + (stage < (layers + mtp) % stages) for stage in range(stages)]
    out = []
    for stage, many in enumerate(each):
        last = stage == stages - 1
        decoders = many - mtp if last else many
        body = f"t*{decoders}" if decoders > 1 else "t" * decoders
        out.append(("E" if stage == 0 else "") + body + ("m" * mtp + "L" if last else ""))
    return "|".join(out)


_BLOCKS = {"llama": "llama2", "mistral": "mistral", "qwen3": "qwen3", "mixtral": "mixtral"}
"""Architecture -> `decoder_block` of MaxText."""


def maxtext_shape(model: Model) -> ShapeWords:
    """Keys of MaxText's config for a model that it has no file of.

    >>> from mowich.models import load_model
    >>> maxtext_shape(load_model("llama-3.2-1b")).words[0]
    'decoder_block: "llama2"'
    """
    block = _BLOCKS.get(model.architecture, "")
    why = unusual(model) or ("" if block else f"the architecture {model.architecture}")
    if why:
        return ShapeWords(why=why)
    a, ffn = model.layers[0].attention, model.layers[0].ffn
    keys: dict[str, object] = {
        "decoder_block": f'"{block}"',
        "base_emb_dim": model.hidden,
        "base_num_query_heads": a.num_heads,
        "base_num_kv_heads": a.num_kv_heads,
        "head_dim": a.head_dim,
        "base_num_decoder_layers": model.num_layers,
        "base_mlp_dim": ffn.ffn,
        "mlp_activations": '["silu", "linear"]',
        "vocab_size": model.vocab,
        "logits_via_embedding": str(model.tied_embeddings).lower(),
        "enable_dropout": "false",
    }
    if isinstance(ffn, Moe):
        keys |= {"num_experts": ffn.num_experts, "num_experts_per_tok": ffn.top_k, "base_moe_mlp_dim": ffn.ffn}
    keys |= {"use_qk_norm": "true"} if a.qk_norm == "head" else {}
    return ShapeWords(words=tuple(f"{key}: {value}" for key, value in keys.items()))
