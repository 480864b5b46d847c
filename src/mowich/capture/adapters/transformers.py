"""Classes and configurations of Hugging Face transformers, built on the meta device.

What these models compute through the library's interfaces is taken whole: attention with its heads, window, causality
and sinks (`ALL_ATTENTION_FUNCTIONS`), masks with what they say (`ALL_MASK_ATTENTION_FUNCTIONS`), experts with their
top_k (`ALL_EXPERTS_FUNCTIONS`). All else is the model's own eager code. Nothing is fetched and no code of a checkpoint
runs: a class must be one of the library's.
"""

from __future__ import annotations

import inspect
import json
import math
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes
from transformers import masking_utils
from transformers.initialization import no_init_weights
from transformers.integrations.moe import ExpertsInterface
from transformers.modeling_utils import AttentionInterface
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.utils import logging

from mowich.capture.adapters import Built, patched, take_whole, untraced
from mowich.capture.adapters.transformers_inputs import inputs_of
from mowich.capture.problem import CaptureError


@dataclass(frozen=True, slots=True)
class Mask:
    """What a mask says: a causal one, its window (or chunks of that many tokens), and whether it says more."""

    is_causal: bool = False
    window: int | None = None
    is_chunked: bool = False
    is_dense: bool = False

    def joined(self, other: Mask) -> Mask:
        """Both masks at once."""
        windows = [window for window in (self.window, other.window) if window is not None]
        return Mask(
            self.is_causal or other.is_causal,
            min(windows, default=None),
            self.is_chunked or other.is_chunked,
            self.is_dense or other.is_dense,
        )


def mask_of(function: Callable[..., Any]) -> Mask:
    """What a mask function of the library says, read from what it was made of.

    >>> mask_of(masking_utils.sliding_window_causal_mask_function(1024))
    Mask(is_causal=True, window=1024, is_chunked=False, is_dense=False)
    """
    name = function.__qualname__.split(".")[0]
    made_of = inspect.getclosurevars(function).nonlocals if hasattr(function, "__code__") else {}
    match name:
        case "causal_mask_function":
            return Mask(is_causal=True)
        case "bidirectional_mask_function" | "padding_mask_function" | "packed_sequence_mask_function":
            return Mask()
        case "sliding_window_overlay":
            return Mask(window=int(made_of["sliding_window"]))
        case "sliding_window_bidirectional_overlay":
            return Mask(window=2 * int(made_of["sliding_window"]) + 1)
        case "chunked_overlay":
            return Mask(window=int(made_of["chunk_size"]), is_chunked=True)
        case "and_masks":
            return _joined(made_of["mask_functions"])
        case "or_masks":
            return _joined(made_of["mask_functions"]).joined(Mask(is_dense=True))
        case "add_offsets_to_mask_function" | "remap_positions_for_packed_sequence":
            return mask_of(made_of["mask_function"])
        case _:
            return Mask(is_dense=True)


def _joined(functions: tuple[Callable[..., Any], ...]) -> Mask:
    mask = Mask()
    for function in functions:
        mask = mask.joined(mask_of(function))
    return mask


def _labelled(make: Callable[..., Tensor | None]) -> Callable[..., Tensor | None]:
    """A maker of masks whose masks are real and say what they are, also a window that no pass is long enough to show."""

    def labelled(
        *,
        mask_function: Callable[..., Any] = masking_utils.causal_mask_function,
        device: torch.device | str = "cpu",
        **options: Any,
    ) -> Tensor | None:
        says = mask_of(mask_function)
        if says.window is not None:
            options["allow_is_causal_skip"] = False
        with untraced():
            mask = make(mask_function=mask_function, device="cpu", **options)
        if mask is not None:
            mask.mowich_mask = says  # type: ignore[attr-defined]
        return mask

    return labelled


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *_: Any,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    position_bias: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Takes one attention core whole. query: [batch, heads, tokens, width]; the output is [batch, tokens, heads,
    width]."""
    batch, heads, queries, width = query.shape
    kv_heads, keys, value_width = key.shape[1], key.shape[2], value.shape[-1]
    causal = bool(getattr(module, "is_causal", True) if is_causal is None else is_causal) and queries == keys
    mask = getattr(attention_mask, "mowich_mask", None)
    if mask is None:
        mask = Mask(is_causal=causal, is_dense=attention_mask is not None)
    if isinstance(sliding_window, int) and mask.window is None and sliding_window > 0:
        mask = mask.joined(Mask(window=sliding_window))
    sinks = next((options[name] for name in ("s_aux", "sinks") if isinstance(options.get(name), Tensor)), None)
    sequences = batch
    bounds = options.get("cu_seq_lens_q")
    if isinstance(bounds, Tensor) and bounds.device.type != "meta" and batch == 1:  # several, one behind the other
        sequences = len(bounds) - 1
        queries, keys = queries // sequences, keys // sequences
    kept = _kept(module)
    attributes = {
        "heads": heads,
        "kv_heads": kv_heads,
        "qk": width,
        "v": value_width,
        "sequences": sequences,
        "queries": queries,
        "keys": keys,
        "causal": mask.is_causal,
        "window": mask.window,
        "chunked": mask.is_chunked,
        "sinks": sinks is not None,
        "masked": (mask.is_dense and kept is None) or position_bias is not None,
        "cached": mask.is_causal,
        "eager": False,
        "latent": _latent(module),
        "kept": kept,
    }

    def output() -> Tensor:
        return query.new_empty(batch, query.shape[2], heads, value_width)

    given = [query, key, value]
    result = take_whole("attention", module, given, [] if sinks is None else [sinks], output, attributes)
    return result, None


def _latent(module: nn.Module) -> dict[str, int] | None:
    """The compressed keys and values that a latent attention (MLA) caches."""
    rank = getattr(module, "kv_lora_rank", None)
    return {"kv_lora": int(rank), "rope": int(getattr(module, "qk_rope_head_dim", 0))} if rank else None


def _kept(module: nn.Module) -> int | None:
    """Entries that an indexer keeps for each token: sparse attention."""
    indexer = getattr(module, "indexer", None)
    config = getattr(module, "config", None)
    if indexer is None:
        return None
    for name in ("index_topk", "token_budget"):
        kept = getattr(indexer, name, None) or getattr(config, name, None)
        if kept:
            return int(kept)
    blocks = getattr(indexer, "topk_blocks", None)
    return int(blocks) * int(indexer.block_size) if blocks else None


def experts(
    module: nn.Module,
    hidden_states: Tensor,
    top_k_index: Tensor | None = None,
    *_: Any,
    router: nn.Module | None = None,
    **__: Any,
) -> Tensor:
    """Takes routed experts whole. hidden_states: [tokens, width], or the tokens once for each expert where the code
    runs every expert: then without indices, and top_k is its router's."""
    weights = {name: weight for name, weight in module.named_parameters() if weight.dim() > 1}
    down, width = weights.get("down_proj"), hidden_states.shape[-1]
    is_gated = "gate_up_proj" in weights or len(weights) == 3
    number = down.shape[0] if down is not None else int(module.num_experts)  # type: ignore[arg-type]
    held = down.numel() if down is not None else sum(one.numel() for one in weights.values()) // len(weights)
    config = getattr(module, "config", None)
    top_k = top_k_index.shape[-1] if top_k_index is not None else _top_k(module, router, config)
    rows = hidden_states.numel() // width
    attributes = {
        "number": number,
        "top_k": top_k,
        "ffn": held // (number * width),
        "width": width,
        "gated": is_gated,
        "biases": sum(one.numel() for name, one in module.named_parameters() if name not in weights),
        "rows": rows if top_k_index is not None else rows // number,
        "run": "chosen" if top_k_index is not None else "all",
        "groups": int(getattr(config, "n_group", None) or 1),
        "top_groups": int(getattr(config, "topk_group", None) or 1),
    }
    given = [hidden_states] if top_k_index is None else [hidden_states, top_k_index]
    return take_whole(
        "experts", module, given, list(module.parameters()), lambda: torch.empty_like(hidden_states), attributes
    )


def _top_k(module: nn.Module, *holders: Any) -> int:
    for holder in (module, *holders):
        for name in ("top_k", "num_experts_per_tok"):
            if getattr(holder, name, None):
                return int(getattr(holder, name))
    raise CaptureError(f"how many experts a token takes is not known of {type(module).__name__}")


@contextmanager
def interfaces() -> Iterator[None]:
    """The library's attention, masks and experts taken whole while it is open, under the names that models ask for."""
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        before = logging.get_verbosity()
        logging.set_verbosity_error()
        stack.callback(logging.set_verbosity, before)
        padding = "warn_if_padding_and_no_attention_mask"  # reads the tokens
        stack.enter_context(patched(transformers.PreTrainedModel, padding, lambda *_, **__: None))
        for name in ("sdpa", "eager"):
            stack.enter_context(_registered(AttentionInterface._global_mapping, name, attention))
            masks = masking_utils.AttentionMaskInterface._global_mapping
            stack.enter_context(_registered(masks, name, _labelled(masks[name])))
        stack.enter_context(_registered(AttentionInterface._global_mapping, PACKED, attention))
        for name in ("grouped_mm", "batched_mm", "eager"):
            stack.enter_context(_registered(ExpertsInterface._global_mapping, name, experts))
        yield


@contextmanager
def _registered(mapping: dict[str, Any], name: str, function: Any) -> Iterator[None]:
    before = mapping.get(name)
    mapping[name] = function
    try:
        yield
    finally:
        if before is None:
            del mapping[name]
        else:
            mapping[name] = before


def _undecorated(module: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
    """(parent, module) that hold routed experts as the library holds them, but run them in a way of their own."""
    return [
        (parent, part)
        for parent in module.modules()
        for part in parent.children()
        if type(part).__name__.endswith("Experts")
        and not hasattr(part, "has_gate")
        and (
            {"gate_up_proj", "down_proj"} <= {name for name, _ in part.named_parameters(recurse=False)}
            or "top_k_index" in inspect.signature(part.forward).parameters
        )
    ]


@dataclass(frozen=True, slots=True)
class Transformers:
    """A class of transformers, or the model that a config.json names. what: "LlamaForCausalLM", or a path of a
    config.json; settings: values of the configuration that the user sets; config: path of the class's config.json."""

    what: str
    settings: Mapping[str, Any]
    config: str | None = None

    def installed(self) -> AbstractContextManager[None]:
        """While it is open, what the library computes through its interfaces is taken whole."""
        return interfaces()

    def build(self) -> Built:
        """The module on the meta device, with its inputs."""
        path = self.config or (self.what if "/" in self.what or self.what.endswith(".json") else None)
        raw = _read(Path(path)) if path else None
        cls = _class("" if path == self.what else self.what, raw)
        config = _config(cls, raw, self.settings)
        with no_init_weights():
            module = cls(config)
        module.tie_weights()
        module.eval()
        sys.modules[cls.__module__].__dict__.update(torch_compilable_check=lambda *_, **__: None)  # of values
        for parent, part in _undecorated(module):
            part.forward = partial(experts, part, router=parent)  # type: ignore[method-assign]
        kind, inputs, notes = inputs_of(module)
        if kind == "vision-language" and getattr(config, "vision_config", None) is not None:
            config.vision_config._attn_implementation_internal = PACKED  # images of a batch in one call
        text = config.get_text_config(decoder=True) if kind in DECODES else config
        return Built(
            module=module,
            inputs=inputs,
            name=str((raw or {}).get("_name_or_path") or config.model_type),
            kind=kind,
            config=_finite(raw if raw is not None else config.to_dict()),
            max_seq=getattr(text, "max_position_embeddings", None),
            cached=cached_elements(module, inputs) if kind in DECODES else None,
            notes=notes,
        )


def adapter(what: str, settings: Mapping[str, Any], config: str | None) -> Transformers:
    """The helper of `transformers:WHAT`."""
    return Transformers(what, settings, config)


PACKED = "flash_attention_2"
"""The library's attention of several sequences in one call."""

DECODES = ("decoder", "vision-language", "encoder-decoder")


def _read(path: Path) -> dict[str, Any]:
    file = path / "config.json" if path.is_dir() else path
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CaptureError(f"{file}: {error.strerror or error}") from None
    except ValueError as error:
        raise CaptureError(f"{file}: not JSON ({error})") from None
    if not isinstance(raw, dict):
        raise CaptureError(f"{file}: give an object, as config.json of transformers is")
    return raw


def _finite(value: Any) -> Any:
    """A configuration as JSON has it: a number without end is null."""
    if isinstance(value, dict):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _class(name: str, raw: dict[str, Any] | None) -> Any:
    """The class that a name or a configuration asks for."""
    names = [name] if name else []
    if raw is not None and not name:
        names = [str(given) for given in raw.get("architectures") or []]
        model_type = str(raw.get("model_type", ""))
        for mapping in (
            modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
            modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
            modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
            modeling_auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES,
            modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
            modeling_auto.MODEL_MAPPING_NAMES,
        ):
            if model_type in mapping:
                names.append(str(mapping[model_type]))
    for given in names:
        cls = getattr(transformers, given, None)
        if isinstance(cls, type) and issubclass(cls, transformers.PreTrainedModel):
            return cls
    raise CaptureError(f"transformers {transformers.__version__} has no model class {' or '.join(names) or name!r}")


def _config(cls: Any, raw: dict[str, Any] | None, changes: Mapping[str, Any]) -> Any:
    """The configuration of a class: as given, else its default; its text part where the class takes that alone."""
    wanted = cls.config_class
    if cls.__name__.endswith(("ForCausalLM", "LMHeadModel", "WithLMHead")) and hasattr(wanted, "is_decoder"):
        changes = {"is_decoder": True, **changes}  # what makes an encoder's class causal
    if raw is None:
        return wanted(**changes)
    model_type = str(raw.get("model_type", ""))
    config_class = CONFIG_MAPPING[model_type] if model_type in CONFIG_MAPPING else wanted  # noqa: SIM401 (lazy)
    config = config_class(**{**changes, **{k: v for k, v in raw.items() if k != "architectures"}})
    if isinstance(config, wanted):
        return config
    parts = [part for name in config.sub_configs if isinstance(part := getattr(config, name, None), wanted)]
    return parts[0] if parts else config.get_text_config()


def cached_elements(module: Any, inputs: Callable[[int, int], dict[str, Any]]) -> dict[str, int] | None:
    """Elements that one token adds to the cache, by the module of its layer, as the model's own cache grows from 128 to
    256 tokens; None where the model has no such cache."""
    from mowich.capture.trace import trace

    held: list[dict[int, int]] = []
    named = "cache" if "cache" in inspect.signature(module.forward).parameters else "past_key_values"
    with _disable_current_modes():
        for tokens in _CACHE_PROBES:
            try:
                cache = transformers.DynamicCache(config=module.config)
                trace(module, {**inputs(1, tokens), "use_cache": True, named: cache})
            except Exception:  # a model without a cache of this kind: its cores say what is cached
                return None
            held.append({index: _held(layer, tokens) for index, layer in enumerate(cache.layers)})
            if not any(_unlike(layer, tokens) for layer in cache.layers):
                break
    if not any(held[0].values()):
        return None
    tokens = _CACHE_PROBES[0] if len(held) == 1 else _CACHE_PROBES[1] - _CACHE_PROBES[0]
    grown = held[0] if len(held) == 1 else {index: held[1].get(index, 0) - few for index, few in held[0].items()}
    return {
        found[1]: grown.get(part.layer_idx, 0) // tokens
        for name, part in module.named_modules()
        if isinstance(getattr(part, "layer_idx", None), int) and (found := _NUMBERED.match(name))
    }


_CACHE_PROBES = (128, 256)
_NUMBERED = re.compile(r"^(.*?\.\d+)(?:\.|$)")


def _kept_tensors(layer: Any) -> Iterator[tuple[str, Tensor]]:
    """What a layer's cache holds, but for the states of recurrences, which do not grow."""
    for name, tensor in vars(layer).items():
        is_held = isinstance(tensor, Tensor) and tensor.is_floating_point() and tensor.dim() >= 3 and tensor.numel() > 0
        if is_held and "state" not in name:
            yield name, tensor


def _is_window(layer: Any, name: str) -> bool:
    return bool(getattr(layer, "is_sliding", False)) and name in ("keys", "values")


def _held(layer: Any, tokens: int) -> int:
    """Elements of a layer's cache after so many tokens, as if a window kept all of them."""
    return sum(
        tensor.numel() * tokens // tensor.shape[-2] if _is_window(layer, name) else tensor.numel()
        for name, tensor in _kept_tensors(layer)
    )


def _unlike(layer: Any, tokens: int) -> bool:
    """Whether a cache holds what is not one entry for each token, as compressors do."""
    return any(tensor.shape[-2] != tokens and not _is_window(layer, name) for name, tensor in _kept_tensors(layer))
