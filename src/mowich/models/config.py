"""Hugging Face `config.json` -> `Model`.

Each architecture is one row of `ARCHITECTURES`: which keys mean what, what an omitted key means, which layers are
windowed, which hold experts. One builder reads them all, so that a new architecture is a new row. An architecture that
is not in the table is refused by name: a wrong guess would look like an answer. Missing keys are reported all at once.
Defaults of omitted keys are those of transformers 5.24; `docs/records/parameters.md` lists the counts that were
compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from mowich.errors import UserError, did_you_mean, shorten, unknown
from mowich.models import stacks
from mowich.models.architectures import (
    ARCHITECTURES,
    REFUSED,
    WRAPPERS,
    Architecture,
    Window,
    _full,
    _leading_dense,
    _sparse_step,
)
from mowich.models.likeness import looks_like
from mowich.models.model import Attention, Layer, Mlp, Model, Moe
from mowich.models.reader import MAX_SIZE, ConfigReader
from mowich.models.stated_keys import stated_errors
from mowich.models.storage import read_storage

MAX_LAYERS = 10_000
"""More layers than this is a typo, and each is read one by one."""


def known() -> list[str]:
    """Every model_type that `model_from_config` reads."""
    return sorted((set(ARCHITECTURES) | set(WRAPPERS)) - {"decoder"})


STRUCTURE = re.compile(
    r"(num_(local_|routed_)?experts|n_routed_experts|\w*shared_experts?\w*|first_k_dense_replace|moe_\w+|\w*experts_per_tok\w*|kv_lora_rank|q_lora_rank"
    r"|(mamba|ssm|linear|conv|lru|rnn|gla|kda)_\w+|state_size|layers_block_type|attn_layer_\w+|block_types"
    r"|(num_)?(encoder|decoder)_layers|is_encoder_decoder|altup_\w+|laurel_rank|num_kv_shared_layers|index_topk)"
)
"""Keys that say how layers are built. A config that is read as another architecture has none that stays unread: the
count would be wrong without a word."""

LIKELY = "llama"
"""What most decoders are like."""


def _not_known(model_type: str, where: str) -> UserError:
    """The line for a model_type that is not read by its own structure."""
    said = looks_like(model_type)
    if said.why:
        return UserError(f"model_type '{model_type}' is not supported: {said.why}", where=where)
    near = did_you_mean(model_type, known())
    read = f"--as {said.like} reads it as one of those, everything then has grade D"
    return UserError(f"unknown model_type '{model_type}'", where=where, fix="; ".join(filter(None, [near, read])))


def model_from_config(
    data: Mapping[str, object], *, name: str, where: str, source: str = "", read_as: str = ""
) -> Model:
    """Build a Model from the parsed `data` of a config.

    `where` names the file in errors; `read_as`: an architecture to read it as where its own is not known ("llama").
    Raises UserError for an architecture that is not known (with what it may be read as), for missing keys, for sizes
    that contradict each other, and for keys of structure that the architecture it is read as has not.
    """
    thinker = data.get("thinker_config")  # of a model that also speaks: the part that reads and writes text
    if isinstance(thinker, Mapping):
        data = {"torch_dtype": data.get("torch_dtype"), **thinker}
    model_type = str(data.get("model_type") or "")
    if not model_type and not read_as:
        raise UserError(
            "missing key 'model_type'", where=where, fix=f"for example --as {LIKELY}, everything then has grade D"
        )
    text, inner = _text_part(data, model_type)
    arch = _architecture(model_type, inner, read_as, where)
    renamed = {
        arch.rename.get(key, key): value for key, value in text.items() if value is not None or key not in arch.rename
    }
    filled = dict(arch.defaults)
    filled.update({k: v for k, v in renamed.items() if v is not None or k not in filled})
    reader = ConfigReader(filled, where, read_as or inner)
    reader.errors += stated_errors(filled, where)
    try:
        doubts = (f"its model_type is not known and was read as {read_as}",) if read_as else ()
        model = replace(_build(reader, arch, name, source), read_as=read_as, doubts=doubts)
        _possible(reader, model)
        if read_as:
            _all_structure(reader, read_as)
        storage = read_storage(data, model.layers_in_order, name, model.architecture)
        return replace(model, storage=storage, media=_media(data))
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, re.error) as error:
        # A list where a number belongs, or the reverse, in one of the per-layer keys.
        reader.check()
        raise UserError(f"a value has the wrong type: {shorten(str(error))}", where=where) from error


def _architecture(model_type: str, inner: str, read_as: str, where: str) -> Architecture:
    """The row of the table that reads a config. inner: the model_type of its part of text."""
    for kind in (model_type, inner):
        if kind in REFUSED:
            raise UserError(f"model_type '{kind}' is not supported: {REFUSED[kind]}", where=where, allowed=known())
    if read_as and inner in ARCHITECTURES:
        raise UserError(f"model_type '{inner}' is read by its own structure", where=where, fix="leave --as out")
    if read_as and (read_as not in ARCHITECTURES or read_as == "decoder"):
        raise unknown("model_type", read_as, sorted(set(ARCHITECTURES) - {"decoder"}), where=where)
    if (read_as or inner) not in ARCHITECTURES:
        raise _not_known(inner or model_type, where)
    return ARCHITECTURES[read_as or inner]


def _text_part(data: Mapping[str, object], model_type: str) -> tuple[Mapping[str, object], str]:
    """The part of a config that describes the model of text, and the model_type of that part."""
    nested = data.get("text_config")
    if not isinstance(nested, Mapping):
        return data, WRAPPERS.get(model_type, model_type)
    text = {**nested}
    for key in ("torch_dtype", "dtype", "quantization_config"):
        text.setdefault(key, data.get(key))
    if data.get("tie_word_embeddings") is not None:
        text["tie_word_embeddings"] = data["tie_word_embeddings"]
    return text, str(text.get("model_type") or WRAPPERS.get(model_type, ""))


def _media(data: Mapping[str, object]) -> Mapping[str, object] | None:
    """What says which encoders a model has: the whole config, or in a model that ships what stands under `media`."""
    of = data.get("media")
    if isinstance(of, Mapping):
        return of
    return data if any(isinstance(data.get(key), Mapping) for key in ("vision_config", "audio_config")) else None


def _all_structure(c: ConfigReader, read_as: str) -> None:
    """Refuse a config read as another architecture that says more of its layers than that one knows."""
    left = [k for k, v in c.data.items() if v and k not in c.asked and STRUCTURE.fullmatch(k)]
    if left:
        others = [a for a, keys in (("deepseek_v3", "lora_rank"), ("qwen3_moe", "expert")) if keys in " ".join(left)]
        raise UserError(
            f"'{left[0]}' is nothing that {read_as} has",
            where=c.where,
            given=c.data[left[0]],
            fix=f"perhaps --as {' or '.join(others)}" if others else "its layers cannot be read as another model's",
        )


def _possible(c: ConfigReader, model: Model) -> None:
    """Refuse shapes that no model has: a token that visits more experts than there are, a size below zero in a key of
    one layer, more dense layers than layers."""
    for key in DENSE_FIRST:
        first = c.data.get(key)
        if isinstance(first, int) and first > model.num_layers:
            allowed = f"0 to {model.num_layers}"
            c.errors.append(
                UserError(f"'{key}' is above the number of layers", where=c.where, given=first, allowed=allowed)
            )
    for layer in (*model.layers, *model.mtp):
        experts = layer.ffn
        if isinstance(experts, Moe) and experts.top_k > experts.num_experts:
            key = next((k for k in TOP_K if c.data.get(k) is not None), TOP_K[0])
            c.errors.append(
                UserError(
                    f"'{key}' is above the number of experts",
                    where=c.where,
                    given=experts.top_k,
                    allowed=f"1 to {experts.num_experts}",
                )
            )
            break
        for part in (layer.mixer, experts):
            for name in part.__dataclass_fields__:
                size = getattr(part, name)
                if isinstance(size, int) and not 0 <= size <= MAX_SIZE**2:
                    c.errors.append(
                        UserError(f"a layer's {name} is out of range", where=c.where, given=size, allowed="0 and above")
                    )
    c.check()


TOP_K = ("num_experts_per_tok", "experts_per_token", "num_experts_per_token", "top_k_experts", "moe_topk", "moe_top_k")
"""Keys for how many experts a token visits."""

DENSE_FIRST = ("first_k_dense_replace", "num_dense_layers")
"""Keys for how many layers at the beginning have no experts."""


def _build(c: ConfigReader, arch: Architecture, name: str, source: str) -> Model:
    if arch.stack is not None:
        return _from_stack(c, arch, arch.stack, name, source)
    hidden, vocab = c.count("hidden_size"), c.count("vocab_size")
    num_layers = c.count("num_hidden_layers", maximum=MAX_LAYERS)
    heads = c.count("num_attention_heads")
    c.check()
    norm = 0 if arch.norm_free else hidden * (2 if c.flag(arch.norm_bias) else 1)
    norms = _falcon(c) if c.architecture == "falcon" else arch.norms
    kinds, pattern = _blocks(c, arch, hidden, heads, num_layers)
    inputs = c.count("hidden_size_per_layer_input", default=0, minimum=0) if c.architecture == "gemma4_text" else 0
    layers = tuple(
        Layer(
            count=pattern.count(index),
            mixer=attention,
            ffn=block,
            # Gemma 4: three more norms around the experts, one after the per-layer input
            norm_params=(
                norms + (3 if c.architecture == "gemma4_text" and isinstance(block, Moe) else 0) + (1 if inputs else 0)
            )
            * norm,
            hidden=hidden,
            extra_matmul_params=3 * hidden * inputs,
        )
        for index, (attention, block) in enumerate(kinds)
    )
    tied = c.flag(("tie_word_embeddings", arch.tied))
    positions = _learned_positions(c, arch)
    rows = positions + (arch.position_offset if positions else 0)
    embed_width = c.count("word_embed_proj_dim", default=hidden) if c.architecture == "opt" else hidden
    other, other_matmul = _outside_layers(c, arch, hidden, vocab, embed_width, norm)
    per_layer_input = num_layers * inputs * c.count("vocab_size_per_layer_input", default=vocab)
    model = Model(
        name=name,
        architecture=c.architecture,
        hidden=hidden,
        vocab=vocab,
        layers=layers,
        tied_embeddings=tied,
        learned_positions=positions,
        embedding_params=vocab * embed_width + rows * hidden + per_layer_input,
        head_params=0 if tied else vocab * embed_width,
        final_norm_params=0 if c.architecture == "bert" else norm,
        other_params=other + inputs,
        other_matmul_params=other_matmul,
        mtp_layers=c.count("num_nextn_predict_layers", "num_mtp_modules", default=0, minimum=0),
        max_seq=c.count("max_position_embeddings", default=0, minimum=0),
        config_precision=_precision(c),
        source=source,
        pattern=pattern,
    )
    c.check()
    return model


def _blocks(
    c: ConfigReader, arch: Architecture, hidden: int, heads: int, num_layers: int
) -> tuple[tuple[tuple[Attention, Mlp | Moe], ...], tuple[int, ...]]:
    """(kinds of layers in order of their first, the kind of each layer)."""
    if c.architecture in ("gpt2", "falcon", "bloom", "mpt", "opt") and c.get("intermediate_size") is None:
        ratio = c.count("expansion_ratio", default=4)
        c.data = {**c.data, "intermediate_size": ratio * hidden}
    moe_only = arch.ffn in (_sparse_step, _leading_dense) and c.get("intermediate_size") is None
    mlp = Mlp(ffn=1 if moe_only else c.count("intermediate_size"), gated=c.flag(arch.gated), bias=c.flag(arch.mlp_bias))
    is_latent = arch.attention == "mla" or (c.architecture == "decoder" and c.get("kv_lora_rank") is not None)
    base = (
        stacks.latent(c, qkv_bias=arch.qkv_bias, out_bias=arch.out_bias, least_rope=1)
        if is_latent
        else _gqa(c, arch, hidden, heads)
    )
    windows = _windows(c, arch, num_layers)
    attentions = {window: _attention_of(c, arch, base, window) for window in dict.fromkeys(windows[:num_layers])}
    ffn = _decoder_ffn if c.architecture == "decoder" else arch.ffn
    kinds: dict[tuple[Attention, Mlp | Moe], int] = {}
    pattern: list[int] = []
    for i in range(num_layers):
        attention, block = attentions[windows[i]], ffn(c, i, mlp)
        if c.architecture == "gemma4_text":
            attention, block = _gemma4(c, attention, mlp, i, num_layers)
        if moe_only and block is mlp:
            c.count("intermediate_size")
        c.check()
        pattern.append(kinds.setdefault((attention, block), len(kinds)))
    return tuple(kinds), tuple(pattern)


def _attention_of(c: ConfigReader, arch: Architecture, base: Attention, of: Window) -> Attention:
    """The attention of the layers with a window."""
    window, chunked = of
    attention = replace(base, window=window, chunked=chunked)
    if arch.sinks == "all" or (arch.sinks == "windowed" and window is not None):
        attention = replace(attention, sinks=True)
    return _windowed_heads(c, attention) if arch.windowed_heads and window is not None else attention


def _learned_positions(c: ConfigReader, arch: Architecture) -> int:
    """Rows of the table of learned positions; 0 without one."""
    if c.architecture == "decoder":
        return c.count("learned_positions", default=0, minimum=0)
    return c.count(arch.positions, default=1024 if c.architecture == "gpt2" else None) if arch.positions else 0


def _outside_layers(
    c: ConfigReader, arch: Architecture, hidden: int, vocab: int, embed_width: int, norm: int
) -> tuple[int, int]:
    """(parameters outside of layers, embeddings, head and last norm; those of matrices among them)."""
    matmul = 2 * embed_width * hidden if embed_width != hidden else 0
    other = (norm if arch.embedding_norm else 0) + matmul
    if c.architecture == "bert":
        # token types; the masked-token head: one dense layer, a norm and a bias per word
        matmul = hidden * hidden
        other += 2 * hidden + matmul + hidden + 2 * hidden + vocab
    return other, matmul


def _from_stack(
    c: ConfigReader, arch: Architecture, read: Callable[[ConfigReader], stacks.LayerStack], name: str, source: str
) -> Model:
    """A model whose layers a function of `stacks` reads; root-mean-square norms and no biases outside the layers."""
    hidden, vocab = c.count("hidden_size"), c.count("vocab_size")
    c.count("num_hidden_layers", default=1, maximum=MAX_LAYERS)
    c.check()
    stack = read(c)
    c.check()
    kinds: dict[stacks.LayerBlock, int] = {}
    pattern = tuple(kinds.setdefault(block, len(kinds)) for block in stack.blocks)
    tied = c.flag(("tie_word_embeddings", arch.tied))
    mtp = c.count("num_nextn_predict_layers", "num_mtp_modules", "mtp_num_hidden_layers", default=0, minimum=0)
    c.check()
    model = Model(
        name=name,
        architecture=c.architecture,
        hidden=hidden,
        vocab=vocab,
        layers=tuple(block.layer(pattern.count(index), hidden) for block, index in kinds.items()),
        tied_embeddings=tied,
        embedding_params=vocab * hidden,
        head_params=0 if tied else vocab * hidden,
        final_norm_params=hidden,
        other_params=stack.other_params,
        other_matmul_params=stack.other_matmul_params,
        mtp_layers=mtp,
        mtp=tuple(block.layer(1, hidden) for block in stack.mtp) if mtp else (),
        max_seq=c.count("max_position_embeddings", "model_max_length", default=0, minimum=0),
        config_precision=_precision(c),
        source=source,
        pattern=pattern,
    )
    c.check()
    return model


def _precision(c: ConfigReader) -> str:
    """The word of the config for how its weights are stored."""
    quantization = c.get("quantization_config")
    quant = quantization if isinstance(quantization, Mapping) else {}
    return str(quant.get("quant_method") or c.get("dtype", "torch_dtype", default=""))


def _windows(c: ConfigReader, arch: Architecture, num_layers: int) -> list[Window]:
    """Windows by layer: `layer_types` where the config lists it, else the architecture's rule."""
    types = c.get("layer_types")
    if types and arch.windows is not _full:
        if len(types) < num_layers:
            c.errors.append(
                UserError("'layer_types' is shorter than num_hidden_layers", where=c.where, given=len(types))
            )
            return [(None, False)] * num_layers
        window = None
        if "sliding_attention" in types:
            window = c.count("sliding_window", default=arch.window_default or 4096)
        chunk = c.count("attention_chunk_size", default=8192)
        table: dict[str, Window] = {
            "full_attention": (None, False),
            "sliding_attention": (window, False),
            "chunked_attention": (chunk, True),
        }
        unknown = sorted({str(t) for t in types} - set(table))
        if unknown:
            c.errors.append(UserError(f"unknown layer type '{unknown[0]}'", where=c.where, allowed=list(table)))
            return [(None, False)] * num_layers
        return [table[t] for t in types[:num_layers]]
    return arch.windows(c, num_layers, arch.window_default)


def _gqa(c: ConfigReader, arch: Architecture, hidden: int, heads: int) -> Attention:
    """Attention with `num_key_value_heads` (as many as heads when omitted) of `head_dim` (h / heads when omitted)."""
    kv_heads = c.count("num_key_value_heads", default=heads)
    head_dim = c.count("head_dim", default=hidden // heads)
    if c.get("head_dim") is None and hidden % heads:
        c.errors.append(
            UserError(
                "'hidden_size' is not a multiple of 'num_attention_heads'",
                where=c.where,
                given=f"{hidden} and {heads}",
                fix="state 'head_dim'",
            )
        )
    if heads % kv_heads:
        c.errors.append(
            UserError(
                "'num_attention_heads' is not a multiple of 'num_key_value_heads'",
                where=c.where,
                given=f"{heads} and {kv_heads}",
            )
        )
    v_head_dim = c.count("v_head_dim", default=head_dim)
    return Attention(
        kind="gqa",
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        v_head_dim=v_head_dim,
        out_gate=heads * v_head_dim if arch.out_gate else 0,
        qkv_bias=c.flag(arch.qkv_bias),
        out_bias=c.flag(arch.out_bias),
        qk_norm=arch.qk_norm if c.flag(arch.qk_norm_if) else "none",
        causal=arch.causal,
    )


def _windowed_heads(c: ConfigReader, full: Attention) -> Attention:
    """MiMo V2's windowed layers have head counts and widths of their own."""
    return replace(
        full,
        num_heads=c.count("swa_num_attention_heads", default=full.num_heads),
        num_kv_heads=c.count("swa_num_key_value_heads", default=full.num_kv_heads),
        head_dim=c.count("swa_head_dim", default=full.head_dim),
        v_head_dim=c.count("swa_v_head_dim", default=full.v_head_dim),
    )


def _gemma4(c: ConfigReader, base: Attention, mlp: Mlp, layer: int, num_layers: int) -> tuple[Attention, Mlp | Moe]:
    """Gemma 4: full layers have heads of `global_head_dim` and may use the key as value; the last
    `num_kv_shared_layers` read earlier keys and values (and may have MLPs of double width); with
    `enable_moe_block` a dense MLP runs beside the experts, whose router has a scale per input and per expert."""
    shared = layer >= num_layers - c.count("num_kv_shared_layers", default=0, minimum=0)
    attention = replace(base, shares_kv=shared)
    overrides = c.get("per_layer_config", default={})
    if base.window is None and overrides:
        # The form that transformers writes: what differs from the other layers, by layer number.
        mine = {int(number): values for number, values in overrides.items()}.get(layer, {})
        width = c.whole(mine.get("head_dim") or base.head_dim, "per_layer_config.head_dim")
        kv_heads = c.whole(mine.get("num_key_value_heads") or base.num_kv_heads, "per_layer_config.num_key_value_heads")
        same = c.flag("attention_k_eq_v") and not shared
        attention = replace(attention, head_dim=width, v_head_dim=width, num_kv_heads=kv_heads, k_is_v=same)
    elif base.window is None:
        width = c.count("global_head_dim", default=512)
        same = c.flag("attention_k_eq_v")
        kv_heads = c.count("num_global_key_value_heads", default=base.num_kv_heads) if same else base.num_kv_heads
        same = same and not shared
        attention = replace(attention, head_dim=width, v_head_dim=width, num_kv_heads=kv_heads, k_is_v=same)
    if shared and c.flag("use_double_wide_mlp"):
        mlp = replace(mlp, ffn=2 * mlp.ffn)
    if not c.flag("enable_moe_block"):
        return attention, mlp
    experts = c.count("num_experts")
    return attention, Moe(
        num_experts=experts,
        top_k=c.count("top_k_experts"),
        ffn=c.count("moe_intermediate_size"),
        shared_ffn=mlp.ffn,
        router_params=c.count("hidden_size") + experts,
    )


def _falcon(c: ConfigReader) -> int:
    """Fill in Falcon's kv heads and return its norms per layer (parallel blocks share one norm)."""
    data = dict(c.data)
    grouped = c.flag("new_decoder_architecture")
    heads = c.count("num_attention_heads")
    if not grouped:
        data["num_key_value_heads"] = 1 if c.flag(("multi_query", True)) else heads
    c.data = data
    parallel = c.flag(("parallel_attn", True))
    return 2 if (grouped and c.count("num_ln_in_parallel_attn", default=2) == 2) or not parallel else 1


def _decoder_ffn(c: ConfigReader, layer: int, mlp: Mlp) -> Mlp | Moe:
    """Our plain form: with `num_experts`, experts from layer `first_k_dense_replace` on, in each
    `interleave_moe_layer_step`-th layer, and a shared expert of `shared_ffn`."""
    if not c.get("num_experts"):
        return mlp
    if layer < c.count("first_k_dense_replace", default=0, minimum=0):
        return mlp
    if (layer + 1) % c.count("interleave_moe_layer_step", default=1):
        return mlp
    return Moe(
        num_experts=c.count("num_experts"),
        top_k=c.count("num_experts_per_tok"),
        ffn=c.count("moe_intermediate_size", "intermediate_size"),
        gated=mlp.gated,
        shared_ffn=c.count("shared_ffn", default=0, minimum=0),
    )
