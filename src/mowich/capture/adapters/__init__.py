"""Families of models that bring a helper of their own, and how a helper hands an operation to the tracer as a whole.

`find(spec, ...)` chooses the helper by the part before the colon ("transformers:", "diffusers:", "timm:"); each lies in
a module of this package and is imported only when it is asked for. A helper's functions call `take_whole` while the
tracer runs; `patched` puts them in the place of the library's own.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

from mowich.capture.problem import CaptureError

FAMILIES = ("transformers", "diffusers", "timm")


@dataclass(frozen=True, kw_only=True)
class Built:
    """A module on the meta device and its inputs. inputs(batch, tokens): keyword arguments of its forward; kind: as in
    the JSON, None: found from what it does; config: the config.json behind it; latent: how an image or clip becomes
    tokens; max_seq: tokens at most; cached: elements that one token adds to the cache by the layer's module path, from
    a probe of decoding; notes: for the user."""

    module: Any
    inputs: Callable[[int, int], Mapping[str, Any]]
    name: str
    kind: str | None = None
    config: Mapping[str, Any] | None = None
    latent: Mapping[str, Any] | None = None
    max_seq: int | None = None
    cached: Mapping[str, int] | None = None
    notes: tuple[str, ...] = ()


class Adapter(Protocol):
    """A family's helper for one model."""

    def build(self) -> Built:
        """The module on the meta device. It is called under `torch.device("meta")` and inside `installed()`."""

    def installed(self) -> AbstractContextManager[None]:
        """Its functions stand in the library's place while the module is built and traced."""


def find(spec: str, settings: Mapping[str, Any], config: str | None) -> Adapter | None:
    """The helper of "FAMILY:WHAT", None where FAMILY is none of ours. settings: `--set key=value`; config: path of
    `--config`. A family's module has a function `adapter(what, settings, config) -> Adapter`.

    Raises:
        CaptureError: the family's library is not installed.
    """
    family, colon, what = spec.partition(":")
    if not colon or family not in FAMILIES:
        return None
    if importlib.util.find_spec(family) is None:
        raise CaptureError(
            f"{family} is not installed in this environment", where=spec, fix=f"install it: pip install {family}"
        )
    helper = importlib.import_module(f"{__name__}.{family}")
    made: Adapter = helper.adapter(what, settings, config)
    return made


class Recorder(Protocol):
    """What `take_whole` needs of the tracer that runs."""

    def take(
        self,
        name: str,
        module: Any,
        inputs: Sequence[Any],
        weights: Sequence[Any],
        make_output: Callable[[], Any],
        attributes: Mapping[str, object],
    ) -> Any: ...

    def untraced(self) -> AbstractContextManager[None]: ...


_RUNNING: ContextVar[Recorder | None] = ContextVar("the tracer that runs", default=None)


@contextmanager
def running(recorder: Recorder) -> Iterator[None]:
    """The tracer that takes what `take_whole` hands over."""
    before = _RUNNING.set(recorder)
    try:
        yield
    finally:
        _RUNNING.reset(before)


def is_tracing() -> bool:
    """Whether a tracer runs: elsewhere a replaced function does what the library's does."""
    return _RUNNING.get() is not None


def take_whole(
    name: str,
    module: Any,
    inputs: Sequence[Any],
    weights: Sequence[Any],
    make_output: Callable[[], Any],
    attributes: Mapping[str, object],
) -> Any:
    """Hand an operation over as a whole and return its outputs (a tensor or a tuple of them, as make_output gives).

    name: "attention", "experts" or "scan"; module: whose it is (None: the innermost that runs); inputs: its tensors;
    weights: parameters that it reads; make_output: makes the tensors that come out, nothing in it is recorded.
    attributes, with sizes of this pass as whole numbers:
    attention: heads, kv_heads, qk, v, sequences, queries, keys, causal, and where they are not the default window
    (None), chunked, sinks, masked, eager (False), cached (as causal), latent (None);
    experts: number, top_k, ffn, width, gated, biases, rows (tokens), run ("chosen" or "all"), and where they are not 1
    groups, top_groups;
    scan: kind, heads, head_dim, groups, state, conv, flop, state_elements, conv_elements.
    """
    recorder = _RUNNING.get()
    if recorder is None:
        return make_output()
    return recorder.take(name, module, inputs, weights, make_output, attributes)


def untraced() -> AbstractContextManager[None]:
    """Operations inside are not recorded (they run as PyTorch runs them)."""
    recorder = _RUNNING.get()
    return recorder.untraced() if recorder else nullcontext()


@contextmanager
def patched(owner: Any, name: str, replacement: Any) -> Iterator[None]:
    """An attribute of a module or class is another one inside the block.

    >>> import types
    >>> place = types.SimpleNamespace(width=1)
    >>> with patched(place, "width", 2):
    ...     place.width
    2
    >>> place.width
    1
    """
    had = name in vars(owner) if hasattr(owner, "__dict__") else True
    old = getattr(owner, name)
    setattr(owner, name, replacement)
    try:
        yield
    finally:
        if had:
            setattr(owner, name, old)
        else:
            delattr(owner, name)
