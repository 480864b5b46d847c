"""How a checkpoint stores its weights: bytes per weight by component, scales included, as its config says.

Quantised checkpoints leave modules out (heads, routers, often attention), by name, layer by layer. A config is read
into one number per
component: the mean over the layers that have it. Embedding, norms, routers and latent projections stay in 16 bits in
every checkpoint read. Where the config says nothing and only the name ends in -FP8 or -NVFP4, the usual exclusions are
assumed and said to be.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial

from mowich.models.ffn import Mlp, Moe
from mowich.models.layer import Layer

STORED_COMPONENTS = ("mixer", "indexer", "mlp", "experts", "shared", "router", "embedding", "head", "other")
"""mixer: attention or recurrence; shared: shared experts; router: routers, their gates, latent projections; other:
norms and small vectors."""

BITS_16 = 2.0
_FORMAT_B = {
    "bf16": BITS_16,
    "fp8": 1.0,
    "fp8_block": 1.0 + 4.0 / 128**2,
    "mxfp8": 1.0 + 1.0 / 32,
    "mxfp4": 0.5 + 1.0 / 32,
    "nvfp4": 0.5 + 1.0 / 16,
    "int4": 0.5 + 2.0 / 32,
}
"""Format -> bytes per weight with its scales (a definition): one fp32 per 128 x 128, one byte per 32 (mx) or 16 (nv),
16 bits per 32 (int4)."""

_ALGORITHMS = {
    "FP8": "fp8",
    "NVFP4": "nvfp4",
    "W4A16_NVFP4": "nvfp4",
    "MXFP8": "mxfp8",
    "MXFP4": "mxfp4",
    "INT4": "int4",
    "FP8_PB_WO": "fp8_block",
    "FP8_BLOCK_SCALES": "fp8_block",
}

TAILS: Mapping[str, tuple[str, ...]] = {
    "mixer": (
        "self_attn.q_proj",
        "self_attn.q_a_proj",
        "self_attn.o_proj",
        "self_attn",
        "attn.wq_a",
        "linear_attn.in_proj_qkv",
        "linear_attn",
        "mixer.in_proj",
        "mixer.q_proj",
    ),
    "mlp": ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "mlp", "mixer.up_proj"),
    "experts": (
        "mlp.experts.0.gate_proj",
        "mlp.experts.0.down_proj",
        "mlp.experts",
        "block_sparse_moe.experts.0.w1",
        "block_sparse_moe.experts",
        "ffn.experts",
        "mixer.experts.0.up_proj",
        "moe.experts",
        "experts",
    ),
    "shared": (
        "mlp.shared_experts.gate_proj",
        "mlp.shared_expert.gate_proj",
        "mlp.shared_experts",
        "mlp.shared_expert",
        "block_sparse_moe.shared_experts",
        "ffn.shared_experts.w1",
        "mixer.shared_experts.up_proj",
    ),
}
"""Component -> module names after "layers.N." that published checkpoints use for it."""


@dataclass(frozen=True, slots=True)
class WeightStorage:
    """Bytes per weight by component, 16 bits where not said. assumed: what was assumed where the config does not say.
    form: the format of most weights of experts and MLPs."""

    bytes_per_weight: tuple[tuple[str, float], ...] = ()
    assumed: str = ""
    form: str = "bf16"

    def of(self, component: str) -> float:
        """Bytes per weight of a component."""
        return dict(self.bytes_per_weight).get(component, BITS_16)


def layer_params(layer: Layer) -> dict[str, int]:
    """Weights of one layer by component."""
    h, a = layer.hidden, layer.attention
    out = {"mixer": layer.mixer.params(h), "other": layer.norm_params + layer.extra_matmul_params}
    if a.indexer:
        out["indexer"] = a.indexer.params(h, a.compressor)
        out["mixer"] -= out["indexer"]
    if isinstance(layer.ffn, Mlp):
        return {**out, "mlp": layer.ffn.params(h)}
    f: Moe = layer.ffn
    shared = f.matrices * h * f.shared_ffn
    return {
        **out,
        "experts": f.num_experts * f.expert_params(h),
        "shared": shared,
        "router": f.shared_params(h) - shared,
    }


def read_storage(
    data: Mapping[str, object], layers: Sequence[Layer], name: str = "", architecture: str = ""
) -> WeightStorage:
    """The storage of a checkpoint from its parsed config (the outer one of a multimodal model), or by its name's
    ending. layers: every one, in order."""
    inner = data.get("text_config")
    text: Mapping[str, object] = inner if isinstance(inner, Mapping) else {}
    config = data.get("quantization_config") or text.get("quantization_config")
    if not isinstance(config, Mapping):
        return _by_name(layers, name)
    is_4bit = "fp4" in (data.get("expert_dtype"), text.get("expert_dtype"))
    base, is_listed = _base(config), isinstance(config.get("quantized_layers"), Mapping)
    excluded = config.get("modules_to_not_convert") or config.get("ignore") or config.get("exclude_modules") or ()
    form_of = _listed_form(config) if is_listed else _form_of_rest(excluded, base)
    tails = GEMMA_TAILS if architecture == "gemma4_text" else TAILS
    sums: dict[str, tuple[float, float]] = {}
    in_form: dict[str, int] = {}
    for number, layer in enumerate(layers):
        for component, params in layer_params(layer).items():
            if component not in tails or not params:
                continue
            names = [f"layers.{number}.{tail}" for tail in tails[component]]
            form, is_named = form_of(names)
            if component == "experts" and is_4bit and not is_named:
                form = "mxfp4"
            total, weight = sums.get(component, (0.0, 0.0))
            sums[component] = (total + params * _FORMAT_B[form], weight + params)
            if component in ("experts", "mlp"):
                form = form.removesuffix("_block")
                in_form[form] = in_form.get(form, 0) + params
    means = {c: total / weight for c, (total, weight) in sums.items()}
    means["indexer"] = means.get("mixer", BITS_16)
    means["head"] = _FORMAT_B[_chosen_formats(config).get("lm_head", "bf16")]
    most = max(in_form, key=lambda form: in_form[form], default="bf16")
    return WeightStorage(tuple((c, means.get(c, BITS_16)) for c in STORED_COMPONENTS), form=most)


_FormOf = Callable[[Sequence[str]], tuple[str, bool]]
"""(format of the weights of a module, whether it is listed by name), by the names that it may have."""


def _chosen_formats(config: Mapping[str, object]) -> dict[str, str]:
    """The formats that a config lists module by module; empty where it lists none."""
    listed = config.get("quantized_layers")
    if not isinstance(listed, Mapping):
        return {}
    return {_tail(k): _ALGORITHMS.get(str(v.get("quant_algo")), "bf16") for k, v in listed.items()}


def _listed_form(config: Mapping[str, object]) -> _FormOf:
    """Of a config that lists modules: what a list of 4-bit layers leaves out stays in the checkpoint's own 8 bits."""
    chosen = _chosen_formats(config)
    rest = "fp8_block" if config.get("quant_method") == "fp8" else "bf16"

    def form_of(names: Sequence[str]) -> tuple[str, bool]:
        listed = [chosen[n] for n in names if n in chosen]
        below = (f for n in names for k, f in chosen.items() if k.startswith(n + "."))
        return (listed[0] if listed else next(below, rest)), bool(listed)

    return form_of


def _form_of_rest(excluded: Iterable[str], base: str) -> _FormOf:
    """Of a config that excludes modules: the others have its format, `base`. Prediction blocks number their layers
    anew, so that their names say nothing of others."""
    rules = _rules(p for p in excluded if not p.startswith("mtp"))

    def form_of(names: Sequence[str]) -> tuple[str, bool]:
        return ("bf16" if any(rule(n) for n in names for rule in rules) else base), False

    return form_of


def _base(config: Mapping[str, object]) -> str:
    """The format of what is quantised."""
    method, algorithm = str(config.get("quant_method", "")), str(config.get("quant_algo", ""))
    if algorithm in _ALGORITHMS:
        return _ALGORITHMS[algorithm]
    if method == "fp8":
        return "fp8_block" if config.get("weight_block_size") else "fp8"
    if method == "mxfp4":
        return "mxfp4"
    groups = _group(config, "config_groups")
    group = _group(_group(groups, next(iter(groups), "")), "weights")
    if group.get("num_bits") == 4:
        return "int4" if group.get("type") == "int" else "mxfp4" if group.get("group_size") == 32 else "nvfp4"
    return "fp8" if group.get("num_bits") == 8 else "bf16"


def _group(config: Mapping[str, object], key: str) -> Mapping[str, object]:
    """A mapping inside a config; empty where there is none. Raises TypeError for anything else."""
    found = config.get(key) or {}
    if not isinstance(found, Mapping):
        raise TypeError(f"'{key}' must be a mapping, not {type(found).__name__}")
    return found


GEMMA_TAILS = {**TAILS, "experts": ("experts.0.gate_proj", "experts", "moe"), "shared": ("mlp.gate_proj", "mlp")}
"""Gemma 4 has its dense MLP (our shared expert) beside the experts, not around them."""


def _tail(module: str) -> str:
    """A module's name from "layers." on: wrappers put "model.", "language_model." and the like before it."""
    at = module.find("layers.")
    return module[at:] if at >= 0 else module.rsplit(".", 1)[-1]


def _expressed(expression: re.Pattern[str], name: str) -> bool:
    """Whether a module's name matches a regular expression, below the model or below that of a wrapper."""
    return any(expression.match(before + name) for before in ("model.", "language_model.model."))


def _globbed(glob: str, name: str) -> bool:
    """Whether a module's name, or that below the model, matches a glob."""
    return fnmatchcase(name, glob) or fnmatchcase("model." + name, glob)


def _rules(patterns: Iterable[str]) -> list[Callable[[str], bool]]:
    """Exclusions as predicates of a name: "re:" expressions, globs, module names (with all below them), bare words."""
    exact: set[str] = set()
    out: list[Callable[[str], bool]] = []
    for pattern in patterns:
        if pattern.startswith("re:"):
            out.append(partial(_expressed, re.compile(pattern[3:])))
        elif "*" in pattern:
            out.append(partial(_globbed, _tail(pattern) if "layers." in pattern else pattern))
        else:
            exact.add(_tail(pattern) if "layers." in pattern else pattern)

    def named(n: str) -> bool:
        parts = n.split(".")
        return any(".".join(parts[:i]) in exact for i in range(1, len(parts) + 1))

    return [*out, named]


def _by_name(layers: Sequence[Layer], name: str) -> WeightStorage:
    """16 bits, or what a name that ends in -FP8 or -NVFP4 usually means: the head in 16 bits, in 4-bit mixtures of
    experts the mixers as well."""
    ending = next((e for e in ("nvfp4", "fp8") if re.search(rf"[-_]{e}(?:[-_]|$)", name.casefold())), None)
    means = dict.fromkeys(STORED_COMPONENTS, BITS_16)
    if ending is None:
        return WeightStorage(tuple(means.items()))
    keeps_mixers = ending == "nvfp4" and any(isinstance(layer.ffn, Moe) for layer in layers)
    for component in ("mlp", "experts", "shared", *(() if keeps_mixers else ("mixer", "indexer"))):
        means[component] = _FORMAT_B[ending]
    kept = "head and mixers" if keeps_mixers else "head"
    return WeightStorage(
        tuple(means.items()), assumed=f"{ending} by the name alone: {kept} taken to stay in 16 bits", form=ending
    )
