"""Recurrences that are read as one operation, by the name of the function that runs them.

A state that is carried over tokens is a loop in eager code: its operations grow with tokens and cannot be fitted. Here
the functions of published recurrences (of transformers, mamba_ssm, flash-linear-attention and code written after them)
are known by their names, and counted by formula, token by token, as `models.recurrent` counts them. The causal
convolution before them is an operation of its own. Everything else is named by the user: `--scan MODULE=FLOP,ELEMENTS`.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Literal

from mowich.capture.adapters import is_tracing, patched, take_whole
from mowich.capture.problem import CaptureError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

Kind = Literal["mamba2", "mamba", "gdn", "kda", "lightning", "rwkv", "other"]

STEPS: Mapping[Kind, int] = {"mamba2": 7, "mamba": 9, "gdn": 8, "kda": 8, "lightning": 4, "rwkv": 24, "other": 5}
"""FLOP of a token for each element of the state. mamba: of each channel and state, as its authors count (discretise,
write, read). rwkv: the version with one number per channel, both maxima and exponentials counted. other: write with
decay (3), read (2)."""


@dataclass(frozen=True, slots=True)
class _Function:
    """A function of a recurrence. layout: order of the dimensions of its first tensors (b: batch, s: tokens, h: heads,
    p: width); values, keys: names and place of the parameters that have the values and the keys; states: parameters
    that ask for the last state."""

    kind: Kind
    layout: str
    values: tuple[str, ...]
    values_at: int
    keys: tuple[str, ...]
    keys_at: int
    states: tuple[str, ...] = ("output_final_state", "return_final_states", "return_last_state", "return_state")


_DELTA = _Function("gdn", "bshp", ("value", "v"), 2, ("key", "k"), 1)
_KDA = _Function("kda", "bshp", ("value", "v"), 2, ("key", "k"), 1)
_LINEAR = _Function("lightning", "bshp", ("value", "v"), 2, ("key", "k"), 1)
_TURNED = _Function("lightning", "bhsp", ("value", "v"), 2, ("key", "k"), 1)
_MAMBA2 = _Function("mamba2", "bshp", ("hidden_states", "x"), 0, ("B",), 3)
_MAMBA = _Function("mamba", "bhs", ("hidden_states", "u"), 0, ("A",), 2)
_RWKV = _Function("rwkv", "bsh", ("value",), 3, (), 0)
_MLSTM = _Function("other", "bhsp", ("value", "matV", "v"), 2, ("key", "matK", "k"), 1)

FUNCTIONS: Mapping[str, _Function] = {
    **{
        f"{how}_{rule}": _DELTA
        for rule in ("gated_delta_rule", "delta_rule")
        for how in ("chunk", "fused_chunk", "fused_recurrent", "torch_chunk", "torch_recurrent")
    },
    **dict.fromkeys(
        ("chunk_kda", "fused_recurrent_kda", "chunk_kimi_delta_attention", "recurrent_kimi_delta_attention"), _KDA
    ),
    **{
        f"{how}_{rule}": _LINEAR
        for rule in ("simple_gla", "retention", "linear_attn", "lightning_attn", "gla")
        for how in ("chunk", "fused_chunk", "fused_recurrent", "parallel")
    },
    **dict.fromkeys(("lightning_attn_func", "lightning_attention"), _TURNED),
    **dict.fromkeys(("mamba_chunk_scan_combined", "mamba2_chunk_scan"), _MAMBA2),
    **dict.fromkeys(("selective_scan_fn", "mamba_selective_scan", "selective_scan_ref"), _MAMBA),
    **dict.fromkeys(("rwkv_linear_attention", "rwkv_linear_attention_cpu"), _RWKV),
    **dict.fromkeys(("mlstm_chunkwise_native_autograd", "mlstm_recurrent_sequence_native"), _MLSTM),
}
"""Functions of recurrences by their names, wherever they are defined."""


def scan_of(
    kind: Kind,
    *,
    batch: int,
    tokens: int,
    heads: int,
    head_dim: int,
    groups: int,
    state: int,
    conv: int = 0,
    conv_width: int = 0,
) -> dict[str, object]:
    """Attributes of an operation "scan": H heads with values of P and keys of N columns, G groups of heads that share
    keys; the state of a sequence is H N P elements. flop: forward, of this pass: steps * H * N * P for each token;
    conv, conv_width: taps and channels of the causal convolution before it, counted for what it keeps alone.

    >>> scan_of("mamba2", batch=2, tokens=128, heads=64, head_dim=64, groups=8, state=128)["flop"]
    939524096
    """
    elements = heads * head_dim * state
    return {
        "kind": kind,
        "heads": heads,
        "head_dim": head_dim,
        "groups": groups,
        "state": state,
        "conv": conv,
        "flop": STEPS[kind] * elements * batch * tokens,
        "state_elements": elements,
        "conv_elements": max(0, conv - 1) * conv_width,
    }


def parsed(given: Sequence[str]) -> dict[str, tuple[int, int]]:
    """`--scan MODULE=FLOP,ELEMENTS` -> {module: (FLOP of a token, elements of the state of a sequence)}. MODULE is a
    path ("layers.*.mixer") or the name of a class.

    >>> parsed(["layers.*.mixer=1e6,65536"])
    {'layers.*.mixer': (1000000, 65536)}

    Raises:
        CaptureError: something else is given.
    """
    return stated(
        given,
        "--scan",
        "MODULE=FLOP,ELEMENTS, for example layers.*.mixer=1e6,65536",
        "FLOP of a token and elements of the state of a sequence",
    )


def stated(given: Sequence[str], option: str, allowed: str, what: str) -> dict[str, tuple[int, int]]:
    """The numbers that the user states of something named: NAME=FIRST,SECOND, whole numbers of 0 or more.

    Raises:
        CaptureError: something else is given.
    """
    named: dict[str, tuple[int, int]] = {}
    for one in given:
        name, equals, numbers = one.rpartition("=")
        try:
            first, second = (int(float(part)) for part in numbers.split(","))
        except (ValueError, OverflowError):
            first = second = -1
        if not equals or not name or first < 0 or second < 0:
            raise CaptureError(f"{what} are whole numbers of 0 or more", where=option, given=one, allowed=allowed)
        named[name] = first, second
    return named


@contextmanager
def installed(root: Module, named: Mapping[str, tuple[int, int]] | None = None) -> Iterator[None]:
    """Inside the block the recurrences that the code of `root` calls by a name of `FUNCTIONS`, and the modules that
    `named` names, are handed to the tracer whole.

    Raises:
        CaptureError: `named` names a module that is not there.
    """
    with ExitStack() as stack:
        files: set[str] = set()
        running: list[Module] = []
        for _, part in root.named_modules():
            if _convolution(part)[0]:
                stack.callback(part.register_forward_pre_hook(lambda it, args: running.append(it)).remove)
                stack.callback(part.register_forward_hook(lambda it, args, out: running.remove(it)).remove)
            files |= {cls.__module__ for cls in type(part).__mro__}
            for name, value in list(vars(part).items()):
                if callable(value) and getattr(value, "__name__", "") in FUNCTIONS:
                    stack.enter_context(patched(part, name, _wrapped(value, [part])))
            _special(part, stack)
        for file in sorted(files):
            if file in sys.modules and file.partition(".")[0] != "torch":
                _take_functions(sys.modules[file], running, stack)
        for wanted, (flop, elements) in (named or {}).items():
            parts = [x for at, x in root.named_modules() if fnmatchcase(at, wanted) or type(x).__name__ == wanted]
            if not parts:
                raise CaptureError("no module has this path or class", where="--scan", given=wanted)
            for part in parts:
                stack.enter_context(patched(part, "forward", partial(_stated, part, part.forward, flop, elements)))
        yield


def _take_functions(file: ModuleType, running: list[Module], stack: ExitStack) -> None:
    """Functions of recurrences that a file of code calls by their names, taken whole."""
    for name, value in list(vars(file).items()):
        is_named = name in FUNCTIONS or getattr(value, "__name__", "") in FUNCTIONS
        if is_named and callable(value) and not isinstance(value, type):
            stack.enter_context(patched(file, name, _wrapped(value, running, name)))


def _stated(
    part: Module, forward: Callable[..., object], flop: int, elements: int, *args: Tensor, **kwargs: Tensor
) -> Tensor:
    """A module whose work the user states, taken whole."""
    tensors = [one for one in (*args, *kwargs.values()) if hasattr(one, "new_empty")]
    if not is_tracing() or not tensors:
        return forward(*args, **kwargs)
    first = max(tensors, key=lambda tensor: tensor.dim())
    tokens = first.shape[0] * (first.shape[1] if first.dim() > 1 else 1)
    attributes = {
        **scan_of("other", batch=1, tokens=tokens, heads=1, head_dim=1, groups=1, state=elements),
        "flop": flop * tokens,
    }
    weights = list(part.parameters())
    return take_whole("scan", part, tensors, weights, lambda: forward(*args, **kwargs), attributes)


def _wrapped(function: Callable[..., object], running: list[Module], alias: str = "") -> Callable[..., object]:
    """running: modules with a convolution that run now, the innermost last."""
    rule = FUNCTIONS.get(alias) or FUNCTIONS[function.__name__]

    def whole(*args: Tensor, **kwargs: Tensor) -> Tensor:
        if not is_tracing():
            return function(*args, **kwargs)
        return _run(rule, running[-1] if running else None, args, kwargs)

    whole.__name__ = getattr(function, "__name__", alias)
    whole.__wrapped__ = function  # type: ignore[attr-defined]
    return whole


def _run(rule: _Function, part: Module, args: tuple[Tensor, ...], kwargs: Mapping[str, Tensor]) -> Tensor:
    """What a function of a recurrence gives back, taken whole: values, or (values, last state) where that is asked for
    or always given."""
    values = _argument(args, kwargs, rule.values, rule.values_at)
    keys = _argument(args, kwargs, rule.keys, rule.keys_at) if rule.keys else None
    sizes = dict(zip(rule.layout, values.shape, strict=False))
    batch, tokens, heads, width = sizes["b"], sizes["s"], sizes["h"], sizes.get("p", 1)
    state = int(keys.shape[-1]) if keys is not None else 1
    groups = heads
    if keys is not None and rule.layout == "bshp" and keys.dim() == 4:
        groups = int(keys.shape[2])
    conv, conv_width = _convolution(part)
    attributes = scan_of(
        rule.kind,
        batch=batch,
        tokens=tokens,
        heads=heads,
        head_dim=width,
        groups=groups if rule.kind not in ("mamba", "rwkv") else 1,
        state=state,
        conv=conv,
        conv_width=conv_width,
    )
    given = [one for one in (*args, *kwargs.values()) if hasattr(one, "new_empty") and one.dim() > 0]
    is_asked = any(kwargs.get(name) for name in rule.states)
    gives_pair = is_asked or rule.kind in ("gdn", "kda", "rwkv") or (rule.kind == "lightning" and rule.layout == "bshp")

    def made() -> Tensor:
        out = values.new_empty(values.shape)
        if not gives_pair:
            return out
        return out, values.new_empty((batch, heads, state, width)) if is_asked else None

    weights = [one for one in given if getattr(one, "is_leaf", False) and type(one).__name__ == "Parameter"]
    inputs = [one for one in given if not any(one is weight for weight in weights)]
    return take_whole("scan", None, inputs, weights, made, attributes)


def _argument(args: tuple[Tensor, ...], kwargs: Mapping[str, Tensor], names: tuple[str, ...], place: int) -> Tensor:
    for name in names:
        if name in kwargs:
            return kwargs[name]
    return args[place]


def _convolution(part: Module) -> tuple[int, int]:
    """Taps and channels of the causal convolutions of a module: (0, 0) without one."""
    found = [
        (int(child.kernel_size[0]), int(child.in_channels))
        for child in (part.children() if part is not None else ())
        if getattr(child, "groups", 0) == getattr(child, "in_channels", 1) and len(child.kernel_size) == 1
    ]
    return (found[0][0], sum(width for _, width in found)) if found else (0, 0)


# ---- recurrences that are no function of their own


def _special(part: Module, stack: ExitStack) -> None:
    """Classes of transformers that write their recurrence into a method."""
    name = type(part).__name__
    if name.endswith("Rglru") and hasattr(part, "_rnn_scan"):
        stack.enter_context(patched(part, "_rnn_scan", partial(_rglru, part, part._rnn_scan)))
    elif name.endswith("LightningAttention") and _has(part, "qkv_proj", "out_proj", "output_gate", "norm", "act_fn"):
        stack.enter_context(patched(part, "forward", partial(_lightning, part, part.forward)))
    elif "LSTM" in name and name.endswith("Backend"):
        stack.enter_context(patched(part, "forward", partial(_mlstm, part, part.forward)))


def _has(part: Module, *names: str) -> bool:
    return all(hasattr(part, name) for name in names)


def _rglru(part: Module, before: Callable[..., object], *args: Tensor, **kwargs: Tensor) -> Tensor:
    """The gated linear recurrence of RecurrentGemma: one number per channel."""
    if not is_tracing():
        return before(*args, **kwargs)
    bound = inspect.signature(before).bind(*args, **kwargs).arguments
    x, gate = bound["hidden_states"], bound["recurrent_gate"]
    batch, tokens, channels = x.shape
    attributes = scan_of("other", batch=batch, tokens=tokens, heads=channels, head_dim=1, groups=1, state=1)
    return take_whole(
        "scan", part, [x, gate], [], lambda: (x.new_empty(x.shape), x.new_empty((batch, channels))), attributes
    )


def _mlstm(part: Module, before: Callable[..., object], *args: Tensor, **kwargs: Tensor) -> Tensor:
    """The matrix memory of xLSTM, with its normaliser."""
    if not is_tracing():
        return before(*args, **kwargs)
    bound = inspect.signature(before).bind(*args, **kwargs).arguments
    query, key, value = bound["query"], bound["key"], bound["value"]
    batch, heads, tokens, width = value.shape
    state = key.shape[-1]
    attributes = scan_of("other", batch=batch, tokens=tokens, heads=heads, head_dim=width, groups=heads, state=state)
    given = [query, key, value, bound["igate"], bound["fgate"]]

    def made() -> Tensor:
        last = (
            value.new_empty((batch, heads, state, width)),
            value.new_empty((batch, heads, state)),
            value.new_empty((batch, heads, 1)),
        )
        return value.new_empty(value.shape), last

    return take_whole("scan", part, given, [], made, attributes)


def _lightning(part: Module, before: Callable[..., object], *args: Tensor, **kwargs: Tensor) -> Tensor:
    """Lightning attention as MiniMax writes it: the loop over blocks of tokens is the scan."""
    if not is_tracing():
        return before(*args, **kwargs)
    x = args[0] if args else kwargs["hidden_states"]
    batch, tokens, _ = x.shape
    heads, width = part.num_attention_heads, part.head_dim
    fused = part.act_fn(part.qkv_proj(x)).reshape(batch, tokens, heads, 3 * width)
    parts = list(fused.split(width, dim=3))
    attributes = scan_of(
        "lightning", batch=batch, tokens=tokens, heads=heads, head_dim=width, groups=heads, state=width
    )
    out = take_whole("scan", part, parts, [], lambda: parts[2].new_empty(parts[2].shape), attributes)
    out = part.norm(out.reshape(batch, tokens, heads * width))
    return part.out_proj(part.output_gate(x).sigmoid() * out), None
