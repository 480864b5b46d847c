"""Architectures that are read layer by layer: hybrids of recurrences and attention, sparse and compressed attention,
searched blocks.

Each function takes a config and returns a `LayerStack`: the blocks of every layer in order, those of a
multi-token-prediction block, and what lies outside the layers. Plainer architectures are rows of the table in `config`.
Shapes follow transformers 5.24 where it knows the architecture; docs/records/parameters.md lists the counts that were
compared, and says what the others were read from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from mowich.errors import UserError
from mowich.models.model import NO_ATTENTION, NO_FFN, Attention, Compressor, Indexer, Layer, Mixer, Mlp, Moe, Recurrent
from mowich.models.reader import ConfigReader, Flag

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerBlock:
    """One layer as a config states it. norms: norms of h weights; vectors: other small weights."""

    mixer: Mixer
    ffn: Mlp | Moe
    norms: int = 2
    vectors: int = 0
    extra_matmul_params: int = 0
    streams: int = 1
    side_flop: float = 0.0

    def layer(self, count: int, hidden: int) -> Layer:
        """`count` layers of this kind."""
        return Layer(
            count=count,
            mixer=self.mixer,
            ffn=self.ffn,
            norm_params=self.norms * hidden + self.vectors,
            hidden=hidden,
            extra_matmul_params=self.extra_matmul_params,
            streams=self.streams,
            side_flop=self.side_flop,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerStack:
    """Every layer in order; the layers of one multi-token-prediction block (empty: the last layer's kind); weights
    outside the layers beside embedding, head and last norm (`other_matmul_params`: the matrices among them)."""

    blocks: tuple[LayerBlock, ...]
    mtp: tuple[LayerBlock, ...] = ()
    other_params: int = 0
    other_matmul_params: int = 0


def per_layer(c: ConfigReader, keys: Sequence[str], default: list[Any]) -> list[Any]:
    """A list with one entry per layer under the first of `keys` that is present; longer lists go on for prediction
    blocks."""
    given = c.get(*keys, default=default)
    if not isinstance(given, (list, str)) or len(given) < len(default):
        key = next((k for k in keys if c.get(k) is not None), keys[0])
        c.errors.append(
            UserError(
                f"'{key}' must list all {len(default)} layers",
                where=c.where,
                given=len(given) if isinstance(given, (list, str)) else given,
            )
        )
        return default
    return list(given)


def _choose(c: ConfigReader, key: str, value: object, table: Mapping[str, T]) -> T:
    """The entry of `table` that `value` names; a clear error otherwise."""
    if str(value) in table:
        return table[str(value)]
    c.errors.append(UserError(f"unknown value in '{key}'", where=c.where, given=value, allowed=list(table)))
    return next(iter(table.values()))


def _grouped(c: ConfigReader, head_dim: int = 0) -> Attention:
    """Grouped attention with `num_key_value_heads` heads of `head_dim`."""
    heads = c.count("num_attention_heads")
    size = c.count("head_dim", default=head_dim or c.count("hidden_size") // heads)
    return Attention(
        kind="gqa",
        num_heads=heads,
        num_kv_heads=c.count("num_key_value_heads", default=heads),
        head_dim=size,
        v_head_dim=size,
        qkv_bias=c.flag("attention_bias"),
        out_bias=c.flag("attention_bias"),
    )


def latent(
    c: ConfigReader, *, qkv_bias: Flag = "attention_bias", out_bias: Flag = "attention_bias", least_rope: int = 0
) -> Attention:
    """Multi-head latent attention; a null `q_lora_rank` is a full-rank query. least_rope: rotated numbers of a head
    that there are at least."""
    rope, heads = c.count("qk_rope_head_dim", minimum=least_rope), c.count("num_attention_heads")
    return Attention(
        kind="mla",
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=c.count("qk_nope_head_dim") + rope,
        v_head_dim=c.count("v_head_dim"),
        q_lora=c.count("q_lora_rank", default=0, minimum=0) or None,
        kv_lora=c.count("kv_lora_rank"),
        rope_head_dim=rope,
        qkv_bias=c.flag(qkv_bias),
        out_bias=c.flag(out_bias),
    )


def qwen_next(c: ConfigReader) -> LayerStack:
    """Qwen3-Next and Qwen3.5: gated delta nets, and attention with an output gate in each `full_attention_interval`-th
    layer; dense or with experts and a gated shared expert."""
    n = c.count("num_hidden_layers")
    base = _grouped(c, 256)
    full = replace(base, qk_norm="head", out_gate=base.out_width)
    linear = Recurrent(
        kind="gdn",
        num_heads=c.count("linear_num_value_heads", default=32),
        head_dim=c.count("linear_value_head_dim", default=128),
        num_groups=c.count("linear_num_key_heads", default=16),
        state_dim=c.count("linear_key_head_dim", default=128),
        conv=c.count("linear_conv_kernel_dim", default=4),
    )
    period = c.count("full_attention_interval", default=4)
    types = per_layer(
        c, ["layer_types"], ["linear_attention" if (i + 1) % period else "full_attention" for i in range(n)]
    )
    mixers: dict[str, Mixer] = {"linear_attention": linear, "full_attention": full}
    blocks = tuple(LayerBlock(mixer=_choose(c, "layer_types", types[i], mixers), ffn=_qwen_ffn(c, i)) for i in range(n))
    return LayerStack(blocks=blocks, mtp=(LayerBlock(mixer=full, ffn=_qwen_ffn(c, n - 1)),))


def _qwen_ffn(c: ConfigReader, layer: int) -> Mlp | Moe:
    experts = c.count("num_experts", default=0, minimum=0)
    dense = layer in c.get("mlp_only_layers", default=[]) or (layer + 1) % c.count("decoder_sparse_step", default=1)
    if not experts or dense:
        return Mlp(ffn=c.count("intermediate_size"))
    return qwen_experts(c, experts, shared=512)


def qwen_experts(c: ConfigReader, experts: int, *, shared: int) -> Moe:
    """Experts, and a gated shared one where it is stated. shared: its width, where the config states none; 0 for
    none."""
    shared = c.count("shared_expert_intermediate_size", default=shared, minimum=0)
    return Moe(
        num_experts=experts,
        top_k=c.count("num_experts_per_tok"),
        ffn=c.count("moe_intermediate_size"),
        shared_ffn=shared,
        shared_gate=shared > 0,
    )


NEMOTRON_BLOCKS = {
    "M": "mamba",
    "*": "attention",
    "-": "mlp",
    "E": "moe",
    "linear_attention": "mamba",
    "full_attention": "attention",
}
"""Letters of `hybrid_override_pattern`, and newer words, for the kinds of single block."""


def nemotron_h(c: ConfigReader) -> LayerStack:
    """Nemotron-H and Nemotron 3: single blocks of Mamba-2, attention, MLP or experts, one norm each; experts may work
    in a latent width."""
    pattern = c.get("layers_block_type", "layer_types", "hybrid_override_pattern")
    if not pattern:
        c.errors.append(UserError("missing key 'layers_block_type'", where=c.where, fix="or 'hybrid_override_pattern'"))
        c.check()
    bias = c.flag("mlp_bias")
    base = _grouped(c, 128)
    size = c.count("attention_head_dim", "head_dim", default=128)
    mamba = Recurrent(
        kind="mamba2",
        num_heads=c.count("mamba_num_heads"),
        head_dim=c.count("mamba_head_dim"),
        num_groups=c.count("n_groups", "mamba_n_groups", default=8),
        state_dim=c.count("ssm_state_size"),
        conv=c.count("conv_kernel", "mamba_d_conv", default=4),
        conv_bias=c.flag(("use_conv_bias", True)),
        proj_bias=c.flag("use_bias"),
        chunk=c.count("chunk_size", "mamba_chunk_size", default=128),
    )

    def experts() -> Moe:
        return Moe(
            num_experts=c.count("n_routed_experts"),
            top_k=c.count("num_experts_per_tok"),
            ffn=c.count("moe_intermediate_size"),
            shared_ffn=c.count("moe_shared_expert_intermediate_size", default=0, minimum=0),
            gated=False,
            bias=bias,
            latent=c.count("moe_latent_size", default=0, minimum=0),
        )

    def block(kind: str) -> LayerBlock:
        word = NEMOTRON_BLOCKS.get(kind, kind)
        if word == "mamba":
            return LayerBlock(mixer=mamba, ffn=NO_FFN, norms=1)
        if word == "attention":
            attention = replace(base, head_dim=size, v_head_dim=size, qkv_bias=False, out_bias=False)
            return LayerBlock(mixer=attention, ffn=NO_FFN, norms=1)
        if word == "mlp":
            return LayerBlock(
                mixer=NO_ATTENTION, ffn=Mlp(ffn=c.count("intermediate_size"), gated=False, bias=bias), norms=1
            )
        if word == "moe":
            return LayerBlock(mixer=NO_ATTENTION, ffn=experts(), norms=1)
        c.errors.append(
            UserError("unknown kind of block", where=c.where, given=kind, allowed="mamba, attention, mlp, moe")
        )
        return LayerBlock(mixer=NO_ATTENTION, ffn=NO_FFN)

    kinds = {kind: block(kind) for kind in dict.fromkeys(pattern)}
    heads = c.get("mtp_layers_block_type", "mtp_hybrid_override_pattern", default=["attention", "moe"])
    mtp = tuple(block(kind) for kind in heads) if c.get("num_nextn_predict_layers") else ()
    return LayerStack(blocks=tuple(kinds[kind] for kind in pattern), mtp=mtp)


def mamba2(c: ConfigReader) -> LayerStack:
    """Mamba-2 alone: one block and one norm a layer."""
    mixer = Recurrent(
        kind="mamba2",
        num_heads=c.count("num_heads"),
        head_dim=c.count("head_dim"),
        num_groups=c.count("n_groups", default=8),
        state_dim=c.count("state_size", default=128),
        conv=c.count("conv_kernel", default=4),
        conv_bias=c.flag(("use_conv_bias", True)),
        proj_bias=c.flag("use_bias"),
        chunk=c.count("chunk_size", default=256),
    )
    return LayerStack(blocks=(LayerBlock(mixer=mixer, ffn=NO_FFN, norms=1),) * c.count("num_hidden_layers"))


def bamba(c: ConfigReader) -> LayerStack:
    """Bamba: Mamba-2, attention in `attn_layer_indices`, a gated MLP in every layer."""
    n, hidden = c.count("num_hidden_layers"), c.count("hidden_size")
    heads = c.count("mamba_n_heads", default=128)
    given = c.get("mamba_d_head", default="auto")
    mamba = Recurrent(
        kind="mamba2",
        num_heads=heads,
        num_groups=c.count("mamba_n_groups", default=1),
        conv=c.count("mamba_d_conv", default=4),
        head_dim=c.count("mamba_expand", default=2) * hidden // heads if given == "auto" else c.count("mamba_d_head"),
        state_dim=c.count("mamba_d_state", default=256),
        conv_bias=c.flag(("mamba_conv_bias", True)),
        proj_bias=c.flag("mamba_proj_bias"),
        chunk=c.count("mamba_chunk_size", default=256),
    )
    attention, mlp = _grouped(c), Mlp(ffn=c.count("intermediate_size"), bias=c.flag("mlp_bias"))
    chosen = set(c.get("attn_layer_indices", default=[]))
    return LayerStack(blocks=tuple(LayerBlock(mixer=attention if i in chosen else mamba, ffn=mlp) for i in range(n)))


def minimax(c: ConfigReader) -> LayerStack:
    """MiniMax-Text-01: lightning attention and, where `layer_types` (or `attn_type_list`) says so, full attention;
    experts."""
    n = c.count("num_hidden_layers")
    full = _grouped(c)
    linear = Recurrent(
        kind="lightning",
        num_heads=full.num_heads,
        head_dim=full.head_dim,
        num_groups=full.num_heads,
        state_dim=full.head_dim,
        conv=0,
        chunk=c.count("block_size", default=256),
    )
    moe = Moe(
        num_experts=c.count("num_local_experts"), top_k=c.count("num_experts_per_tok"), ffn=c.count("intermediate_size")
    )
    mixers: dict[str, Mixer] = {"linear_attention": linear, "full_attention": full, "0": linear, "1": full}
    types = per_layer(
        c, ["layer_types", "attn_type_list"], ["linear_attention" if i % 2 else "full_attention" for i in range(n)]
    )
    return LayerStack(
        blocks=tuple(LayerBlock(mixer=_choose(c, "layer_types", types[i], mixers), ffn=moe) for i in range(n))
    )


def _deepseek_ffn(c: ConfigReader, layer: int) -> Mlp | Moe:
    """Experts from layer `first_k_dense_replace` on, or where `mlp_layer_types` says so."""
    types = c.get("mlp_layer_types")
    first = c.count("first_k_dense_replace", default=3, minimum=0)
    dense = types[layer] == "dense" if types and layer < len(types) else layer < first
    if dense:
        return Mlp(ffn=c.count("intermediate_size"))
    width = c.count("moe_intermediate_size")
    return Moe(
        num_experts=c.count("n_routed_experts"),
        top_k=c.count("num_experts_per_tok"),
        ffn=width,
        shared_ffn=width * c.count("n_shared_experts", default=1, minimum=0),
    )


def deepseek_sparse(c: ConfigReader) -> LayerStack:
    """DeepSeek-V3.2 and GLM-5: latent attention to the `index_topk` tokens that an indexer keeps. In GLM-5.2 most
    layers take the choice of an earlier layer (`indexer_types`, or `index_topk_freq`)."""
    n = c.count("num_hidden_layers")
    base = latent(c)
    head = c.count("index_head_dim", default=128)
    own = Indexer(
        num_heads=c.count("index_n_heads", default=64),
        head_dim=head,
        top_k=c.count("index_topk", default=2048),
        query_in=base.q_lora or 0,
        norm_params=2 * head,
    )
    frequency, offset = c.count("index_topk_freq", default=1), c.count("index_skip_topk_offset", default=2, minimum=0)
    rule = ["full" if max(i - offset + 1, 0) % frequency == 0 else "shared" for i in range(n)]
    types = per_layer(c, ["indexer_types", "index_topk_pattern"], rule)
    indexers = {"full": own, "F": own, "shared": replace(own, shared=True), "S": replace(own, shared=True)}
    blocks = tuple(
        LayerBlock(
            mixer=replace(base, indexer=_choose(c, "indexer_types", types[i], indexers)), ffn=_deepseek_ffn(c, i)
        )
        for i in range(n)
    )
    return LayerStack(blocks=blocks, mtp=(LayerBlock(mixer=replace(base, indexer=own), ffn=blocks[-1].ffn),))


def _hyper_connections(streams: int, hidden: int) -> dict[str, int]:
    """Weights of a layer's hyper-connections, before each of its two blocks: (2 + n) n weights of mixing from all n
    streams, as many biases, three scales."""
    mixing = (2 + streams) * streams
    return {"vectors": 2 * (mixing + 3), "extra_matmul_params": 2 * mixing * streams * hidden}


V4_TYPES = {"0": "sliding_attention", "4": "compressed_sparse_attention", "128": "heavily_compressed_attention"}
"""`compress_ratios` of DeepSeek-V4 -> kind of layer."""


def deepseek_v4(c: ConfigReader) -> LayerStack:
    """DeepSeek-V4: one shared key-value head whose past beyond a window is compressed, all of it read (ratio 128) or
    what an indexer keeps (ratio 4); low-rank queries, grouped low-rank outputs; experts in every layer;
    hyper-connections."""
    n, hidden, head = c.count("num_hidden_layers"), c.count("hidden_size"), c.count("head_dim", default=512)
    q_lora, heads, streams = c.count("q_lora_rank"), c.count("num_attention_heads"), c.count("hc_mult", default=4)
    plain = Attention(
        kind="gqa",
        num_heads=heads,
        num_kv_heads=1,
        head_dim=head,
        v_head_dim=head,
        window=c.count("sliding_window", default=128),
        q_lora=q_lora,
        o_lora=c.count("o_lora_rank", default=1024),
        o_groups=c.count("o_groups", default=8),
        k_is_v=True,
        cached_once=True,
        sinks=True,
        norm_params=head,
    )
    rates = c.get("compress_rates", default={})
    near = c.whole(rates.get("compressed_sparse_attention", 4), "compress_rates.compressed_sparse_attention")
    far = c.whole(rates.get("heavily_compressed_attention", 128), "compress_rates.heavily_compressed_attention")
    indexer = Indexer(
        num_heads=c.count("index_n_heads", default=64),
        head_dim=c.count("index_head_dim", default=128),
        top_k=c.count("index_topk", default=512),
        query_in=q_lora,
    )
    mixers = {
        "sliding_attention": plain,
        "compressed_sparse_attention": replace(plain, compressor=Compressor(ratio=near, overlap=True), indexer=indexer),
        "heavily_compressed_attention": replace(plain, compressor=Compressor(ratio=far)),
    }
    ratios = c.get("compress_ratios", default=[128 if i < 2 or i % 2 else 4 for i in range(n)])
    types = per_layer(c, ["layer_types"], [V4_TYPES.get(str(r), str(r)) for r in ratios])
    width = c.count("moe_intermediate_size")
    moe = Moe(
        num_experts=c.count("n_routed_experts"),
        top_k=c.count("num_experts_per_tok"),
        ffn=width,
        shared_ffn=width * c.count("n_shared_experts", default=1, minimum=0),
    )
    mixing = _hyper_connections(streams, hidden)
    blocks = tuple(
        LayerBlock(mixer=_choose(c, "compress_ratios", kind, mixers), ffn=moe, streams=streams, **mixing)
        for kind in types
    )
    outside = streams * streams * hidden
    mtp = blocks[n:] or (replace(blocks[-1], mixer=plain),)
    return LayerStack(blocks=blocks[:n], mtp=mtp[:1], other_params=outside + streams + 1, other_matmul_params=outside)


def minimax_m3(c: ConfigReader) -> LayerStack:
    """MiniMax-M3: grouped attention to the best blocks of keys by an indexer; leading layers dense and fully
    attending."""
    n = c.count("num_hidden_layers")
    sparse = c.get("sparse_attention_config", default={})
    full = replace(_grouped(c, 128), qk_norm="head", qkv_bias=False, out_bias=False)
    head = c.count("index_head_dim", default=sparse.get("sparse_index_dim", 128))
    size = c.count("index_block_size", default=sparse.get("sparse_block_size", 128))
    indexer = Indexer(
        num_heads=c.count("index_n_heads", default=sparse.get("sparse_num_index_heads", 4)),
        head_dim=head,
        top_k=size * c.count("index_topk_blocks", default=sparse.get("sparse_topk_blocks", 16)),
        head_weights=False,
        norm_params=2 * head,
    )
    mixers = {
        "full_attention": full,
        "0": full,
        "minimax_m3_sparse": replace(full, indexer=indexer),
        "1": replace(full, indexer=indexer),
    }
    default = sparse.get("sparse_attention_freq") or ["full_attention"] * n
    types = per_layer(c, ["layer_types"], [str(int(x)) if isinstance(x, (int, bool)) else x for x in default])
    expert = per_layer(c, ["mlp_layer_types", "moe_layer_freq"], ["sparse"] * n)
    shared = c.count("shared_intermediate_size", default=3072, minimum=0) * c.count(
        "n_shared_experts", default=1, minimum=0
    )
    moe = Moe(
        num_experts=c.count("num_local_experts"),
        top_k=c.count("num_experts_per_tok"),
        ffn=c.count("intermediate_size"),
        shared_ffn=shared,
    )
    mlp = Mlp(ffn=c.count("dense_intermediate_size", default=12288))
    ffns: dict[str, Mlp | Moe] = {"sparse": moe, "1": moe, "dense": mlp, "0": mlp}
    blocks = tuple(
        LayerBlock(mixer=_choose(c, "layer_types", types[i], mixers), ffn=_choose(c, "moe_layer_freq", expert[i], ffns))
        for i in range(n)
    )
    return LayerStack(blocks=blocks)


def step3(c: ConfigReader) -> LayerStack:
    """Step 3.5 and 3.7: windowed layers between full ones, a gate per head on the attention output, experts from the
    fourth layer on with one shared expert."""
    n, extra = c.count("num_hidden_layers"), c.count("num_nextn_predict_layers", default=0, minimum=0)
    base = replace(_grouped(c, 128), qk_norm="head")
    other = c.get("attention_other_setting", default={})
    heads = c.count("num_sliding_attention_heads", default=other.get("num_attention_heads", base.num_heads))
    full = replace(base, out_gate=base.num_heads)
    types = per_layer(c, ["layer_types"], ["full_attention"] * n)
    window = c.count("sliding_window") if "sliding_attention" in types else None
    mixers = {
        "full_attention": full,
        "sliding_attention": replace(base, num_heads=heads, out_gate=heads, window=window),
    }
    moe = Moe(
        num_experts=c.count("n_routed_experts", "num_experts", "moe_num_experts"),
        ffn=c.count("moe_intermediate_size"),
        top_k=c.count("num_experts_per_tok", "moe_top_k"),
        shared_ffn=c.count("share_expert_dim", "share_expert_dims", default=1280, minimum=0),
    )
    mlp = Mlp(ffn=c.count("intermediate_size"))
    listed = c.get("moe_layers_enum")
    chosen = {int(i) for i in (listed.split(",") if isinstance(listed, str) else listed)} if listed else None
    first = c.count("first_k_dense_replace", default=3, minimum=0)
    given = c.get("mlp_layer_types")

    def block(i: int) -> LayerBlock:
        sparse = given[i] == "sparse" if given and i < len(given) else i in chosen if chosen else first <= i < n
        kind = types[i] if i < len(types) else types[-1]
        return LayerBlock(mixer=_choose(c, "layer_types", kind, mixers), ffn=moe if sparse else mlp)

    return LayerStack(blocks=tuple(block(i) for i in range(n)), mtp=(block(n),) if extra else ())


def kimi_linear(c: ConfigReader) -> LayerStack:
    """Kimi Linear and Kimi K3: Kimi delta attention with latent attention in the listed layers, experts after the first
    layer.

    K3 adds output gates of full rank, experts in a latent width, and residuals that attend to the sums of earlier
    blocks of `attn_res_block_size` layers; each of the two modules of a layer, and the output, has a query of h weights
    and a norm.
    """
    n, hidden = c.count("num_hidden_layers"), c.count("hidden_size")
    linear = c.get("linear_attn_config", default={})
    head = c.whole(linear.get("head_dim", c.get("linear_head_dim", default=128)), "linear_attn_config.head_dim")
    heads = c.whole(linear.get("num_heads", c.get("linear_num_heads", default=32)), "linear_attn_config.num_heads")
    taps = linear.get("short_conv_kernel_size", c.get("linear_conv_kernel_dim", default=4))
    kda = Recurrent(
        kind="kda",
        num_heads=heads,
        head_dim=head,
        num_groups=heads,
        state_dim=head,
        conv=c.whole(taps, "linear_attn_config.short_conv_kernel_size"),
        decay_rank=head,
        gate_rank=0 if linear.get("use_full_rank_gate") else head,
    )
    base = latent(c)
    mla = replace(base, out_gate=base.out_width) if c.flag("mla_use_output_gate") else base
    chosen = linear.get("full_attn_layers")  # numbered from 1
    rule = [
        "full_attention" if ((i + 1) in chosen if chosen else i and i % 4 == 0) else "linear_attention"
        for i in range(n)
    ]
    types = per_layer(c, ["layer_types"], rule)
    mixers: dict[str, Mixer] = {"full_attention": mla, "linear_attention": kda}
    width, first = c.count("moe_intermediate_size"), c.count("first_k_dense_replace", default=1, minimum=0)
    moe = Moe(
        num_experts=c.count("num_experts", "num_local_experts"),
        top_k=c.count("num_experts_per_token", "num_experts_per_tok"),
        ffn=width,
        shared_ffn=width * c.count("num_shared_experts", "n_shared_experts", default=1, minimum=0),
        latent=c.count("routed_expert_hidden_size", default=0, minimum=0),
        latent_norm=c.flag("latent_moe_use_norm"),
    )
    mlp = Mlp(ffn=c.count("intermediate_size"))
    given = c.get("mlp_layer_types")
    depth = c.count("attn_res_block_size", default=0, minimum=0)
    # Sources that a module attends to, mean over layers: finished blocks and the running sum. A score and a weighted
    # sum each.
    sources = sum(i // depth + 2 for i in range(n)) / n if depth else 0.0
    blocks = tuple(
        LayerBlock(
            mixer=_choose(c, "layer_types", types[i], mixers),
            vectors=4 * hidden if depth else 0,
            side_flop=2 * sources * 4.0 * hidden,
            ffn=mlp if (given[i] == "dense" if given else i < first) else moe,
        )
        for i in range(n)
    )
    return LayerStack(blocks=blocks, other_params=2 * hidden if depth else 0)


def glm_next(c: ConfigReader) -> LayerStack:
    """GLM-5.3: Kimi delta attention, with latent attention in each fourth layer to the `index_topk` tokens that an
    indexer keeps by pools of `index_kpool` keys; experts after three layers; hyper-connections whose streams are
    averaged at the end."""
    n, hidden, streams = c.count("num_hidden_layers"), c.count("hidden_size"), c.count("hc_mult", default=4)
    linear = c.get("linear_attn_config", default={})
    head = c.whole(linear.get("head_dim", 128), "linear_attn_config.head_dim")
    heads = c.whole(linear.get("num_heads", 64), "linear_attn_config.num_heads")
    kda = Recurrent(
        kind="kda",
        num_heads=heads,
        head_dim=head,
        num_groups=heads,
        state_dim=head,
        conv=c.whole(linear.get("short_conv_kernel_size", 4), "linear_attn_config.short_conv_kernel_size"),
        decay_rank=head,
        gate_rank=head,
    )
    base, key = latent(c), c.count("index_head_dim", default=128)
    indexer = Indexer(
        num_heads=c.count("index_n_heads", default=32),
        head_dim=key,
        top_k=c.count("index_topk", default=2048),
        query_in=base.q_lora or 0,
        norm_params=2 * key,
        pool=c.count("index_kpool", default=4),
    )
    sparse = replace(base, indexer=indexer)
    mixers: dict[str, Mixer] = {
        "linear_attention": kda,
        "deepseek_sparse_attention": sparse,
        "indexed_attention": sparse,
        "full_attention": sparse,
    }
    types = per_layer(c, ["layer_types"], ["linear_attention" if (i + 1) % 4 else "full_attention" for i in range(n)])
    mixing = _hyper_connections(streams, hidden)
    blocks = tuple(
        LayerBlock(
            mixer=_choose(c, "layer_types", types[i], mixers), ffn=_deepseek_ffn(c, i), streams=streams, **mixing
        )
        for i in range(n)
    )
    return LayerStack(blocks=blocks, mtp=(replace(blocks[-1], mixer=sparse),))


def nemotron_nas(c: ConfigReader) -> LayerStack:
    """Nemotron Super and Ultra of 2025: Llama blocks searched one by one (`block_configs`): attention may be missing or
    a matrix, feed-forward blocks have widths of their own."""
    n, hidden = c.count("num_hidden_layers"), c.count("hidden_size")
    configs = per_layer(c, ["block_configs"], [{}] * n)
    heads = c.count("num_attention_heads")
    base = replace(_grouped(c), num_kv_heads=heads)

    def block(config: Any) -> LayerBlock:
        a, f = config.get("attention") or {}, config.get("ffn") or {}
        mixer, ffn, norms, extra = NO_ATTENTION, NO_FFN, 0, 0
        if a.get("replace_with_linear"):
            norms, extra = norms + 1, extra + hidden * hidden
        elif not a.get("no_op"):
            norms += 1
            mixer = replace(base, num_kv_heads=heads // c.whole(a["n_heads_in_group"], "n_heads_in_group"))
        if f.get("replace_with_linear"):
            norms, extra = norms + 1, extra + hidden * hidden
        elif not f.get("no_op"):
            wide = int(2 * float(f["ffn_mult"]) * hidden / 3)
            norms, ffn = norms + 1, Mlp(ffn=-(-wide // 256) * 256)
        return LayerBlock(mixer=mixer, ffn=ffn, norms=norms, extra_matmul_params=extra)

    return LayerStack(blocks=tuple(block(config) for config in configs[:n]))
