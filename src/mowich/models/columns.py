"""A row of a measurement table -> `Model`: for `validate`, whose tables state shapes in columns instead of a config.

A row that names a built-in model uses it when the stated columns agree, with the row's layer count where it is a
shortened proxy. Otherwise the model is built from the columns; what they leave open is filled in and listed, never
silently. A row whose shape cannot be known is refused with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from mowich.errors import UserError, shorten
from mowich.models import builtin
from mowich.models.config import model_from_config
from mowich.models.model import Attention, Model

COLUMNS = (
    "n_layers",
    "hidden",
    "n_heads",
    "n_kv_heads",
    "head_dim",
    "ffn_hidden",
    "moe_ffn_hidden",
    "vocab",
    "n_experts",
    "top_k",
    "n_shared_experts",
    "n_dense_layers",
    "mla",
)
"""The columns that describe the shape."""

_PLAIN = re.compile(r"\b(gpt|bloom|megatron|opt|mpt|bert|mt-nlg|nemotron)", re.IGNORECASE)
"""Families with two-matrix MLPs, biases and learned positions (GPT-3 and its descendants)."""

_HYBRID = re.compile(r"nemotron[ _-]*(v?3|h\b|3_5)|mamba|jamba|zamba", re.IGNORECASE)
_CHECKPOINT = re.compile(
    r"([-_ ](instruct|base|chat|it|thinking|hf|bf16|fp8|nvfp4|mxfp4|int8|int4|v0\.\d|\d+-nodes?))+$", re.IGNORECASE
)
"""Ends of a name that say how a checkpoint was tuned or stored, or where it ran, not what shape it has."""
_VISION = re.compile(r"[-_ ]vl[-_ ]", re.IGNORECASE)
"""A vision-language model trained on text runs its text decoder."""
_SAME_KEYS = {"n_layers": ("num_hidden_layers", "n_layer"), "n_kv_heads": ("num_key_value_heads", "num_kv_heads")}


def model_from_columns(row: Mapping[str, str]) -> tuple[Model, list[str]]:
    """The model of a row and what was filled in to build it ("vocab 50304 (padded GPT-2 vocabulary)").

    Reads the columns of `COLUMNS`, model_ref, model_name, params_total and seq_len; a missing column counts as blank.
    Raises UserError with the reason where no model can be built.
    """
    reference, label = _text(row, "model_ref"), _text(row, "model_name")
    reason = builtin.refused().get(re.sub(r"[^a-z0-9]", "", (reference or label).casefold()))
    if reason:
        raise UserError(f"model '{reference or label}' is not supported: {reason}")
    shape = re.search(r"\((.+) shape\)", label)
    bare = re.sub(r"\s*\([^)]*\)$", "", label)  # "Nemotron V3 Super 120B (26.02)": a release, not the model
    plain = _CHECKPOINT.sub("", bare)
    for name in (reference, label, shape[1] if shape else "", bare, plain, _VISION.sub("-", plain)):
        known = builtin.builtin_name(name) if name else None
        if known:
            return _from_builtin(known, row, stated=name == reference)
    if _HYBRID.search(label) and not _text(row, "n_heads"):
        raise UserError(f"model '{reference or label}' is not supported: a hybrid that no built-in model describes")
    return _from_columns(row, reference or label)


def _text(row: Mapping[str, str], key: str) -> str:
    return (row.get(key) or "").strip()


def _number(row: Mapping[str, str], key: str) -> int | None:
    """A whole number, or None when blank or not a number ("qk_nope 128 + ...")."""
    text = _text(row, key)
    try:
        return int(float(text)) if text else None
    except ValueError:
        return None
    except OverflowError:
        raise _too_large(key, text) from None


def _too_large(key: str, text: str) -> UserError:
    return UserError(f"{key}: too large a number", given=shorten(text, 40))


def _size(row: Mapping[str, str]) -> float | None:
    """The printed parameter count: "194B", "176247M", "1.04E+13", "~16B (label)"."""
    text = _text(row, "params_total")
    match = re.match(r"~?\s*(\d+(?:\.\d*)?(?:E\+\d+)?)\s*([MBT]?)", text)
    if match is None:
        return None
    size = float(match[1]) * {"": 1.0, "M": 1e6, "B": 1e9, "T": 1e12}[match[2]]
    if size == float("inf"):
        raise _too_large("params_total", text)
    return size


def _from_builtin(name: str, row: Mapping[str, str], *, stated: bool) -> tuple[Model, list[str]]:
    """The built-in model, with the row's own layer and kv-head counts; other contradictions are listed."""
    model = builtin.builtin(name)
    inferred = [] if stated else [f"shape of the built-in {name} (from the model's name)"]
    first = max((layer for layer in model.layers if layer.attention.num_heads), key=lambda layer: layer.count).attention
    config = _own_counts(builtin.config_of(name), model, first, row)
    if config != builtin.config_of(name):
        source = str(config.pop("source", ""))
        model = model_from_config(config, name=name, where=f"model {name}", source=source)
    for column, value in (
        ("hidden", model.hidden),
        ("vocab", model.vocab),
        ("head_dim", first.head_dim),
        ("n_heads", first.num_heads),
    ):
        given = _number(row, column)
        if given is None:
            if stated and not _text(row, column):
                inferred.append(f"{column} {value} (built-in {name})")
        elif abs(given - value) > 0.01 * value:
            if column in ("hidden", "n_heads"):
                return _from_columns(row, name)
            inferred.append(f"{column} {value} instead of {given} (built-in {name}: {model.source})")
    return model, inferred


def _own_counts(
    config: Mapping[str, object], model: Model, first: Attention, row: Mapping[str, str]
) -> dict[str, object]:
    """The config of a built-in model with the counts of layers and kv heads, and the positions, that a row states."""
    own = dict(config)
    counts = {"n_layers": model.num_layers}
    if first.kind != "mla" and not model.architecture.startswith("gemma4"):
        counts["n_kv_heads"] = first.num_kv_heads
    for column, value in counts.items():
        given = _number(row, column)
        if given and given != value:
            own[next((k for k in _SAME_KEYS[column] if k in own), _SAME_KEYS[column][0])] = given
    seq = _number(row, "seq_len")
    if own.get("learned_positions") and seq:
        own["learned_positions"] = seq
    return own


def _from_columns(row: Mapping[str, str], name: str) -> tuple[Model, list[str]]:
    """A model in our plain form from the columns alone."""
    inferred: list[str] = []
    label = f"{name} {_text(row, 'model_name')}"
    plain = bool(_PLAIN.search(label))
    bloom, marin = "bloom" in label.casefold(), "marin" in label.casefold()
    hidden, layers = _depth(row, name, plain, inferred)
    config: dict[str, object] = {
        "model_type": "decoder",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        **_heads(row, hidden, marin, inferred),
        "gated": not plain,
    }
    vocab = _number(row, "vocab")
    if vocab is None:
        vocab = 50304 if plain else 128256 if marin else 32000
        inferred.append(f"vocab {vocab}")
    experts, ffn = _number(row, "n_experts"), _number(row, "ffn_hidden")
    if ffn is None and not experts:
        ffn = 4 * hidden if plain else 128 * round(8 * hidden / 3 / 128)
        inferred.append(f"ffn_hidden {ffn}")
    config.update(vocab_size=vocab, intermediate_size=ffn or hidden)
    if plain:
        # Megatron's own GPT runs with the padded Llama-sized vocabulary of 131,072 keep a separate head.
        config.update(attention_bias=True, mlp_bias=True, norm_bias=True, tie_word_embeddings=vocab != 131072)
        if not bloom:
            config["learned_positions"] = _number(row, "seq_len") or 2048
        inferred.append("plain MLP with biases (GPT family)")
    else:
        inferred.append("gated MLP, untied embeddings")
    if experts:
        _add_experts(config, row, name, experts, layers * hidden, ffn, marin, inferred)
    if _text(row, "mla"):
        _add_latent(config, row, name)
    if marin:
        config.update(sliding_window=2048, sliding_window_pattern=4)
        inferred.append("window 2048 on three layers of four")
    model = model_from_config(config, name=name, where=f"model {name}", source="columns of the row")
    return model, inferred


def _depth(row: Mapping[str, str], name: str, plain: bool, inferred: list[str]) -> tuple[int, int]:
    """(width, layers). Raises UserError where a row states neither layers nor, for a plain model, its size."""
    hidden, layers, size = _number(row, "hidden"), _number(row, "n_layers"), _size(row)
    if hidden is None:
        raise UserError(f"model '{name}': its shape is not stated", allowed="a row with hidden and n_layers")
    if layers is None and plain and size:
        layers = round(size / (12 * hidden**2))
        inferred.append(f"n_layers {layers} (printed size over 12 h^2)")
    if layers is None:
        raise UserError(f"model '{name}': the number of layers is not stated")
    return hidden, layers


def _heads(row: Mapping[str, str], hidden: int, marin: bool, inferred: list[str]) -> dict[str, int | None]:
    """The heads of attention, as keys of a config."""
    heads, kv_heads, head_dim = (_number(row, key) for key in ("n_heads", "n_kv_heads", "head_dim"))
    if heads is None:
        divisors = [d for d in range(8, hidden // 32 + 1) if hidden % d == 0 and (marin or d % 8 == 0)]
        heads = min(divisors, key=lambda d: abs(d - hidden / 128))
        inferred.append(f"n_heads {heads} (heads of about 128)")
    if kv_heads is None:
        kv_heads = heads // 4 if marin and heads % 4 == 0 else heads
        inferred.append(f"n_kv_heads {kv_heads}" + (" (a quarter, as in its siblings)" if kv_heads < heads else ""))
    if head_dim is None and not _text(row, "mla"):
        head_dim = 128 if hidden % heads else hidden // heads
        inferred.append(f"head_dim {head_dim}")
    return {"num_attention_heads": heads, "num_key_value_heads": kv_heads, "head_dim": head_dim}


def _add_experts(
    config: dict[str, object],
    row: Mapping[str, str],
    name: str,
    experts: int,
    rows: int,
    ffn: int | None,
    marin: bool,
    inferred: list[str],
) -> None:
    """rows: of one matrix of an expert, those of all layers together."""
    width = _number(row, "moe_ffn_hidden")
    size = _size(row)
    if width is None and size:
        width = 128 * round(size / (rows * experts * 3) / 128)
        inferred.append(f"moe_ffn_hidden {width} (from the printed size)")
    if not width:
        raise UserError(f"model '{name}': the width of its experts is not stated")
    top_k = _number(row, "top_k")
    if top_k is None:
        raise UserError(f"model '{name}': top_k is not stated")
    shared = (_number(row, "n_shared_experts") or 0) * (ffn if marin and ffn else width)
    config.update(
        num_experts=experts,
        num_experts_per_tok=top_k,
        moe_intermediate_size=width,
        shared_ffn=shared,
        first_k_dense_replace=_number(row, "n_dense_layers") or 0,
    )


def _add_latent(config: dict[str, object], row: Mapping[str, str], name: str) -> None:
    """Multi-head latent attention from "yes: q_lora 1536, kv_lora 512" and "qk_nope 128 + qk_rope 64, v 128"."""
    text = f"{_text(row, 'mla')} {_text(row, 'head_dim')}"
    found = {key: re.search(rf"\b{key} (\d+)", text) for key in ("q_lora", "kv_lora", "qk_nope", "qk_rope", "v")}
    missing = [key for key, match in found.items() if match is None and key != "q_lora"]
    if missing:
        raise UserError(
            f"model '{name}': attention '{_text(row, 'mla')}' is not modelled",
            allowed='"yes: q_lora 1536, kv_lora 512" with head_dim "qk_nope 128 + qk_rope 64, v 128"',
        )
    value = {key: int(match[1]) for key, match in found.items() if match}
    config.update(
        q_lora_rank=value.get("q_lora"),
        kv_lora_rank=value["kv_lora"],
        qk_nope_head_dim=value["qk_nope"],
        qk_rope_head_dim=value["qk_rope"],
        v_head_dim=value["v"],
    )
    del config["head_dim"]
