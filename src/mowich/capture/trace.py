"""One forward pass of a PyTorch module on the meta device, written down operation by operation (`graph.Trace`).

Nothing is computed but shapes. Tensors that the code makes out of sizes alone (positions, masks) stay real, so that
code may read them and the kind of a mask is known; they move to the meta device where they meet an activation. A value
of an activation that the code reads is recorded, and refused where the code's way depends on it.
Weights are known by their storage: a view, a transpose, a cast or a second name of one is the same weight.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from mowich.capture import adapters
from mowich.capture.graph import PRODUCTS, Call, Op, Read, Trace, Weight
from mowich.capture.masks import mask_kind
from mowich.capture.problem import CaptureError

_META = torch.device("meta")

BUILT_MOST = 2**22
"""Elements of a tensor that stays real while a module is built."""

REAL_MOST = 2**25
"""Elements of one that stays real in a forward pass."""

_CASTS = frozenset(("aten._to_copy", "aten.clone", "aten.contiguous"))
_READS = frozenset(("aten._local_scalar_dense", "aten.is_nonzero", "aten.equal", "aten.allclose"))
_COUNTED = frozenset(
    f"aten.{name}" for name in ("_unique2", "unique_dim", "unique_consecutive", "repeat_interleave", "bincount")
)
"""Whose output has a size that depends on values."""

_COMPARED = frozenset(f"aten.{name}" for name in ("lt", "le", "gt", "ge", "sub", "rsub"))
"""How code finds what a window of attention shows, with a number of tokens."""

_TORCH = torch.__file__.rsplit("/", 1)[0]
_HERE = __file__.rsplit("/", 1)[0]


@dataclass(frozen=True, slots=True)
class _Kind:
    """What the schema of an operation says of it."""

    name: str
    is_view: bool
    is_inplace: bool
    arguments: tuple[str, ...]


@cache
def _kind_of(func: Any) -> _Kind:
    schema = func._schema
    writes = any(a.alias_info is not None and a.alias_info.is_write for a in schema.arguments)
    aliases = any(r.alias_info is not None for r in schema.returns)
    name = f"{func.namespace}.{schema.name.split('::')[1]}"
    is_view = (aliases and not writes) or name == "aten._unsafe_view"
    return _Kind(name, is_view, writes, tuple(a.name for a in schema.arguments))


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


def _mapped(value: Any, change: Callable[[Tensor], Any]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, (list, tuple)):
        made = [_mapped(one, change) for one in value]
        return made if isinstance(value, list) else tuple(made)
    return value


def _plain(value: Any) -> object:
    """An argument that is not a tensor, as plain data; None where it has another type."""
    if isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)) and all(isinstance(one, (bool, int, float)) for one in value):
        return list(value)
    return None


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _where() -> str:
    """File and line of the code that called PyTorch: the innermost that is neither PyTorch's nor of this package."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith((_TORCH, _HERE, "<")):
            return f"{file.rsplit('/', 1)[-1]}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"


_Made = tuple[tuple[tuple[int, ...], tuple[int, ...], torch.dtype], ...]


def _form(value: Any) -> object:
    if isinstance(value, Tensor):
        return (tuple(value.shape), value.stride(), value.dtype)
    if isinstance(value, (list, tuple)):
        return (type(value), *map(_form, value))
    return (type(value), value)


def _made(func: Any, kind: _Kind, args: Any, kwargs: Mapping[str, Any], forms: dict[tuple[object, ...], _Made]) -> Any:
    """What an operation makes on the meta device; PyTorch works it out once for operands of one form."""
    key: tuple[object, ...] | None = None
    if not kind.is_view and not kind.is_inplace:
        key = (func, _form(args), *((name, _form(value)) for name, value in kwargs.items()))
        known = forms.get(key)
        if known is not None:
            made = [torch.empty_strided(shape, stride, dtype=dtype, device=_META) for shape, stride, dtype in known]
            return made[0] if len(made) == 1 else tuple(made)
    out = _on_meta(func, args, kwargs)
    if key is not None:
        outputs = out if isinstance(out, tuple) and len(out) > 1 else (out,)
        if all(isinstance(one, Tensor) for one in outputs):
            forms[key] = tuple((tuple(one.shape), one.stride(), one.dtype) for one in outputs)
    return out


def _meta_like(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=_META)


class _RealSizes(TorchDispatchMode):  # type: ignore[misc]
    """While a module is built under the meta device: small tensors made of sizes alone are real, so that code may read
    them (rates of dropout by depth, tables of positions); where one meets the meta device it moves there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        given = [*_tensors(args), *_tensors(kwargs.values())]
        kind = _kind_of(func)
        if any(tensor.device.type == "meta" for tensor in given):
            return _beside_meta(func, kind, args, kwargs)
        if _is_on("meta", kwargs.get("device")):
            if kind.name in _EMPTY or (not given and _elements(args) > BUILT_MOST):
                return func(*args, **kwargs)
            kwargs["device"] = torch.device("cpu")
        elif kind.name in _RANDOM and given:
            return args[0]  # initial values do not matter
        is_large = any(tensor.numel() > BUILT_MOST for tensor in given)
        return _on_meta(func, args, kwargs) if is_large else func(*args, **kwargs)


def _beside_meta(func: Any, kind: _Kind, args: Any, kwargs: Mapping[str, Any]) -> Any:
    """What an operation makes while a module is built, where one of its operands is on the meta device."""
    if kind.name in _READS or (kind.name == "aten._to_copy" and _is_on("cpu", kwargs.get("device"))):
        raise CaptureError(
            "its value is not known while the model is built on the meta device",
            where=_where(),
            fix="compute it from sizes, or from a tensor made by arange, linspace or tensor",
        )
    written = args[0] if kind.is_inplace and args and isinstance(args[0], Tensor) else None
    if written is not None and written.device.type != "meta":
        return written  # a parameter or buffer that only its shape matters of
    return _on_meta(func, args, kwargs)


_EMPTY = frozenset(f"aten.{name}" for name in ("empty", "empty_like", "empty_strided", "new_empty", "rand", "randn"))
_RANDOM = frozenset(f"aten.{name}" for name in ("normal_", "uniform_", "bernoulli_", "trunc_normal_"))


def _is_on(kind: str, device: Any) -> bool:
    return device is not None and torch.device(device).type == kind


def _to_meta(tensor: Tensor) -> Tensor:
    return tensor if tensor.device.type == "meta" else _meta_like(tensor)


def _on_meta(func: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
    """What an operation makes of its operands on the meta device."""
    return func(*_mapped(args, _to_meta), **{name: _mapped(value, _to_meta) for name, value in kwargs.items()})


def _elements(args: Any) -> int:
    """Elements of what a factory makes, as far as its arguments say."""
    size = args[0] if args else ()
    if isinstance(size, (list, tuple)) and all(isinstance(one, int) for one in size):
        return math.prod(size)
    numbers = [abs(one) for one in args if isinstance(one, (int, float)) and math.isfinite(one)]
    return int(max(numbers, default=0))


def _is_wide(args: Any) -> bool:
    """Whether a factory makes what has more than two dimensions: no mask and no list of positions."""
    size = args[0] if args else ()
    return isinstance(size, (list, tuple)) and sum(isinstance(one, int) and one != 1 for one in size) > 2


def _stays_on_meta(kind: _Kind, args: Any, kwargs: Mapping[str, Any]) -> bool:
    """Whether a factory makes what is no list of positions and no mask, or too much to be real."""
    is_float = (kwargs.get("dtype") or torch.get_default_dtype()).is_floating_point
    is_filled = is_float or kind.name == "aten.full"
    return kind.name in _EMPTY or _elements(args) > REAL_MOST or (_is_wide(args) and is_filled)


class _Autocast(torch.autocast):  # type: ignore[misc]
    """Code asks for autocast on the device of its tensors; there is none on the meta device."""

    def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
        super().__init__("cpu" if device_type == "meta" else device_type, *args, **kwargs)


@contextmanager
def building() -> Iterator[None]:
    """The meta device, where sizes stay real: a user's function builds its module inside."""
    with adapters.patched(torch, "autocast", _Autocast), torch.device("meta"), _RealSizes(), torch.no_grad():
        yield


def settled(module: Any) -> Any:
    """The module with every parameter, and every buffer but the small real ones, on the meta device; ties are kept."""
    moved: dict[int, Any] = {}
    for owner in module.modules():
        for key, tensor in owner._parameters.items():
            if tensor is not None and tensor.device.type != "meta":
                if id(tensor) not in moved:
                    moved[id(tensor)] = torch.nn.Parameter(_meta_like(tensor), requires_grad=False)
                owner._parameters[key] = moved[id(tensor)]
        for key, tensor in owner._buffers.items():
            if tensor is not None and tensor.device.type != "meta" and tensor.numel() > BUILT_MOST:
                owner._buffers[key] = moved.setdefault(id(tensor), _meta_like(tensor))
    return module.eval()


@dataclass
class _Tracer:
    """What is known in one pass. numbers: id of a tensor -> its number, the version of its storage when it got it, the
    tensor (kept, so that its id stays its own); weights: storage -> names of parameters; written: storage -> version
    and number of what was written last; moved: storage of a real tensor that an activation was written into -> its twin
    on the meta device; tainted: storages of real tensors that depend on values of inputs; forms: operation and forms of
    its operands -> form of what it makes, as layers repeat."""

    paths: dict[int, str]
    values: Mapping[str, float]
    weights: dict[int, tuple[str, ...]]
    kept: list[Any] = field(default_factory=list)
    ops: list[Op] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    far: list[Read] = field(default_factory=list)
    tokens: int = 0
    numbers: dict[int, tuple[int, int, Tensor]] = field(default_factory=dict)
    written: dict[int, tuple[int, int]] = field(default_factory=dict)
    moved: dict[int, Tensor] = field(default_factory=dict)
    tainted: set[int] = field(default_factory=set)
    stack: list[tuple[str, int]] = field(default_factory=list)
    masks: dict[tuple[object, ...], dict[str, object]] = field(default_factory=dict)
    forms: dict[tuple[object, ...], _Made] = field(default_factory=dict)
    is_quiet: bool = False
    last: int = 0

    @property
    def module(self) -> str:
        return self.stack[-1][0] if self.stack else ""

    # ---- numbers

    def fresh(self, tensor: Tensor) -> int:
        self.last += 1
        self.numbers[id(tensor)] = (self.last, self.written.get(_storage(tensor), (0, 0))[0], tensor)
        return self.last

    def number(self, tensor: Tensor) -> int:
        known = self.numbers.get(id(tensor))
        version, written = self.written.get(_storage(tensor), (0, 0))
        if known is None and not written:
            return self.fresh(tensor)
        if known is not None and known[1] == version:
            return known[0]
        inputs = (known[0], written) if known else (written,)
        return self.note("update", self.module, inputs, [tensor] * len(inputs), [tensor])[0]

    def note(
        self,
        name: str,
        module: str,
        inputs: tuple[int, ...],
        shaped: Sequence[Tensor],
        outputs: Sequence[Tensor],
        weights: Sequence[str] = (),
        attributes: Mapping[str, object] | None = None,
    ) -> tuple[int, ...]:
        """Write an operation down; gives the numbers of its outputs. shaped: tensors of the shapes of its inputs."""
        made = tuple(self.fresh(tensor) for tensor in outputs)
        self.ops.append(
            Op(
                name=name,
                module=module,
                inputs=inputs,
                outputs=made,
                weights=tuple(weights),
                shapes=tuple(tuple(tensor.shape) for tensor in shaped),
                out_shapes=tuple(tuple(tensor.shape) for tensor in outputs),
                attributes=dict(attributes or {}),
                widths=tuple(tensor.element_size() for tensor in outputs),
            )
        )
        return made

    def names_of(self, tensor: Tensor) -> tuple[str, ...]:
        return self.weights.get(_storage(tensor), ())

    # ---- modules

    def enter(self, module: Any, args: Any) -> None:
        self.stack.append((self.paths.get(id(module), self.module), len(self.ops)))

    def leave(self, module: Any, args: Any, output: Any) -> None:
        path, start = self.stack.pop()
        self.calls.append(Call(path, start, len(self.ops)))

    # ---- reads of values

    def read(self, what: str, *, is_decisive: bool) -> float | None:
        """The value that the user states for a read; what: of the operation that reads, or a word."""
        where, what = _where(), what.removeprefix("aten.").replace("_local_scalar_dense", "item")
        self.reads.append(Read(self.module, what, where))
        if not is_decisive:
            return None
        if where in self.values:
            return self.values[where]
        place = f" in module {self.module}" if self.module else ""
        raise CaptureError(
            f"the code reads a value of an activation ({what}){place}, which is not known without running the model",
            where=where,
            fix=f"say it with --value {where}=NUMBER, or write the code without it",
        )

    # ---- operations

    def dispatch(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        kind = _kind_of(func)
        given = [*_tensors(args), *_tensors(kwargs.values())]
        if self.moved:
            args = _mapped(args, self._twin)
            kwargs = {key: _mapped(value, self._twin) for key, value in kwargs.items()}
            given = [*_tensors(args), *_tensors(kwargs.values())]
        if not any(tensor.device.type == "meta" for tensor in given):
            return self._real(func, kind, args, kwargs, given)
        if kind.name in _READS:
            return self.read(kind.name, is_decisive=True)
        if kind.name in _COUNTED:
            self.read(kind.name[5:].strip("_0123456789"), is_decisive=True)
        if kind.name in ("aten.nonzero", "aten.masked_select"):
            self.read(kind.name, is_decisive=False)
            tensor = given[0]
            shape = (tensor.numel(), tensor.dim()) if kind.name == "aten.nonzero" else (tensor.numel(),)
            out = torch.empty(shape, dtype=torch.int64 if len(shape) == 2 else tensor.dtype, device=_META)
            return self._record(kind, args, kwargs, given, out)
        if kind.name in ("aten.index", "aten.index_put", "aten.index_put_"):
            args = (args[0], [index for one in args[1] for index in self._indexes(one)], *args[2:])
        if _is_on("cpu", kwargs.get("device")):
            kwargs["device"] = _META
        base = args[0] if args else None
        if kind.is_inplace and isinstance(base, Tensor) and base.device.type != "meta":
            twin = self._move(base)
            _on_meta(func, (twin, *args[1:]), kwargs)
            self._record(kind, (twin, *args[1:]), kwargs, [twin, *given[1:]], twin)
            return base
        return self._record(kind, args, kwargs, given, _made(func, kind, args, kwargs, self.forms))

    def _indexes(self, index: Any) -> list[Any]:
        """A mask as an index is a list of places for each of its dimensions: those of a real one, of one of activations
        as many as it has elements, at most."""
        if not isinstance(index, Tensor) or index.dtype not in (torch.bool, torch.uint8):
            return [index]
        if self._twin(index).device.type != "meta":
            with self.untraced():
                return list(index.nonzero().unbind(1))
        self.read("mask", is_decisive=False)
        return [torch.empty(index.numel(), dtype=torch.int64, device=_META) for _ in range(index.dim())]

    def _real(self, func: Any, kind: _Kind, args: Any, kwargs: dict[str, Any], given: list[Tensor]) -> Any:
        """What an operation on real tensors alone makes: a real tensor, but of what has no values or is large."""
        if _is_on("meta", kwargs.get("device")):
            if not given and _stays_on_meta(kind, args, kwargs):
                out = func(*args, **kwargs)
                self.kept.append(out)
                return out
            kwargs["device"] = torch.device("cpu")
        is_tainted = bool(self.tainted) and any(_storage(tensor) in self.tainted for tensor in given)
        if is_tainted and kind.name in _READS:
            self.read(kind.name, is_decisive=False)
        if kind.name in _COMPARED and not given[0].is_floating_point() and given[0].dim():
            scalars = [abs(one) for one in args if isinstance(one, int) and not isinstance(one, bool)]
            if self.tokens and scalars and self.tokens < scalars[0] < BUILT_MOST:
                self.far.append(Read(self.module, str(scalars[0]), _where()))
        out = func(*args, **kwargs)
        for tensor in _tensors((out,)) if is_tainted else ():
            self.tainted.add(_storage(tensor))
            self.kept.append(tensor)
        return out

    def _move(self, base: Tensor) -> Tensor:
        """The twin of a real tensor that an activation is written into: what reads it from now on reads the twin."""
        storage = _storage(base)
        size = base.untyped_storage().nbytes() // base.element_size()
        self.kept.append(base)
        self.moved[storage] = torch.empty(size, dtype=base.dtype, device=_META)
        return self._twin(base)

    def _twin(self, tensor: Tensor) -> Tensor:
        twin = self.moved.get(_storage(tensor)) if tensor.device.type != "meta" else None
        if twin is None:
            return tensor
        if twin.dtype != tensor.dtype:
            return _meta_like(tensor)
        return torch.as_strided(twin, tensor.shape, tensor.stride(), tensor.storage_offset())

    def _record(self, kind: _Kind, args: Any, kwargs: Mapping[str, Any], given: Sequence[Tensor], out: Any) -> Any:
        """Write an operation on activations down; one on weights alone makes a weight."""
        outputs = list(_tensors((out,)))
        letters = ["w" if self.names_of(one) else "a" if one.device.type == "meta" else "c" for one in given]
        is_product = kind.name in PRODUCTS
        if "w" in letters and "a" not in letters and kind.name != "aten.embedding":
            if not is_product:
                self._derive([one for one in outputs if not (kind.is_inplace and one is given[0])], given)
                return out
            letters[letters.index("w")] = "a"  # learned queries, latents: the first operand is what a layer works on
        inputs, weights = ([x for x, one in zip(given, letters, strict=True) if one == which] for which in "aw")
        names = [name for tensor in weights for name in self.names_of(tensor)]
        arguments = [*zip(kind.arguments, args, strict=False), *kwargs.items()]
        attributes = {key: said for key, value in arguments if (said := _plain(value)) is not None}
        if names:
            attributes["operands"] = "".join(letters)
            if is_product or kind.name == "aten.embedding":
                attributes["weight_shapes"] = tuple(tuple(tensor.shape) for tensor in weights)
        if "c" in letters:
            mask = self._mask(kind.name, args, given, letters)
            if mask is not None:
                attributes["mask"] = mask
        numbers = tuple(self.number(tensor) for tensor in inputs)
        if kind.is_inplace:
            base = _storage(outputs[0] if outputs else given[0])
            self.written[base] = (self.written.get(base, (0, 0))[0] + 1, self.last + 1)
        self.note(kind.name, self.module, numbers, inputs, outputs, names, attributes)
        return out

    def _derive(self, tensors: Sequence[Tensor], weights: Sequence[Tensor]) -> None:
        """Tensors that are made of weights alone are the same weights."""
        names = tuple(dict.fromkeys(name for weight in weights for name in self.names_of(weight)))
        for tensor in tensors:
            self.weights[_storage(tensor)] = names
            self.kept.append(tensor)

    def _mask(self, name: str, args: Any, given: Sequence[Tensor], letters: Sequence[str]) -> dict[str, object] | None:
        """What a constant that scores are masked with hides, None where the operation masks nothing."""
        if name not in ("aten.masked_fill", "aten.masked_fill_", "aten.where", "aten.add", "aten.add_"):
            return None
        constant = next(tensor for tensor, letter in zip(given, letters, strict=True) if letter == "c")
        if constant.dim() < 2 or min(constant.shape[-2:]) < 2:
            return None
        is_hidden = "masked_fill" in name
        if name == "aten.where":
            if args[0] is not constant:
                return None
            # where(mask, scores, -inf) shows what where(mask, -inf, scores) hides
            is_hidden = not (isinstance(args[1], Tensor) and args[1].device.type == "meta" and args[1].dim() > 0)
        return self.mask_of(constant, is_hidden=is_hidden)

    def mask_of(self, mask: Tensor | None, *, is_hidden: bool = False) -> dict[str, object]:
        """What a mask of attention shows: real ones are looked at, of one on the meta device nothing is known."""
        if mask is None:
            return {}
        if mask.device.type == "meta" or self._twin(mask) is not mask:
            return {"masked": True}
        key = (_storage(mask), mask.storage_offset(), tuple(mask.shape), mask.stride(), is_hidden, mask._version)
        if key not in self.masks:
            self.kept.append(mask)
            with self.untraced():
                visible = mask if mask.dtype == torch.bool else mask.float()
                if visible.dtype == torch.bool:
                    visible = ~visible if is_hidden else visible
                else:
                    hidden = visible <= -1e3
                    if not bool(((visible == 0) | hidden).all()):
                        self.masks[key] = {"masked": True}
                        return self.masks[key]
                    visible = ~hidden
                rows, columns = visible.shape[-2:]
                flat = visible.reshape(-1, rows, columns)
                if bool((flat == flat[:1]).all()):
                    self.masks[key] = mask_kind(flat[0].tolist())
                else:
                    self.masks[key] = {"masked": True}
        return self.masks[key]

    # ---- what is taken whole

    @contextmanager
    def untraced(self) -> Iterator[None]:
        before, self.is_quiet = self.is_quiet, True
        try:
            yield
        finally:
            self.is_quiet = before

    def take(
        self,
        name: str,
        module: Any,
        inputs: Sequence[Any],
        weights: Sequence[Any],
        make_output: Callable[[], Any],
        attributes: Mapping[str, object],
    ) -> Any:
        numbers = tuple(self.number(tensor) for tensor in inputs)
        names = tuple(name for tensor in weights for name in self.names_of(tensor))
        with self.untraced():
            out = make_output()
        path = self.paths.get(id(module), self.module)
        self.note(name, path, numbers, inputs, list(_tensors((out,))), names, attributes)
        return out

    def attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """`scaled_dot_product_attention`, taken whole."""
        if self.is_quiet:
            return _attention(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
        shape = query.shape
        heads = shape[-3] if len(shape) > 3 else 1
        attributes: dict[str, object] = {
            "heads": heads,
            "kv_heads": key.shape[-3] if len(shape) > 3 else 1,
            "qk": shape[-1],
            "v": value.shape[-1],
            "sequences": math.prod(shape[: -3 if len(shape) > 3 else -2]),
            "queries": shape[-2],
            "keys": key.shape[-2],
            "causal": bool(is_causal),
            **self.mask_of(attn_mask),
        }
        inputs = [_to_meta(self._twin(tensor)) for tensor in (query, key, value)]
        return self.take(
            "attention",
            None,
            inputs,
            [],
            lambda: torch.empty((*shape[:-1], value.shape[-1]), dtype=query.dtype, device=_META),
            attributes,
        )


class _Dispatch(TorchDispatchMode):  # type: ignore[misc]
    def __init__(self, tracer: _Tracer) -> None:
        super().__init__()
        self.tracer = tracer

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.tracer.is_quiet:
            return func(*args, **(kwargs or {}))
        return self.tracer.dispatch(func, args, dict(kwargs or {}))


_attention = torch.nn.functional.scaled_dot_product_attention


class _Functions(TorchFunctionMode):  # type: ignore[misc]
    """Takes attention whole before PyTorch takes it apart."""

    def __init__(self, tracer: _Tracer) -> None:
        super().__init__()
        self.tracer = tracer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is _attention and not self.tracer.is_quiet:
            return self.tracer.attention(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _weights_of(module: Any) -> tuple[dict[str, Weight], dict[int, tuple[str, ...]]]:
    """Parameters and buffers on the meta device by name, and names by storage."""
    weights: dict[str, Weight] = {}
    storages: dict[int, tuple[str, ...]] = {}
    for is_buffer, named in (
        (False, module.named_parameters(remove_duplicate=True)),
        (True, module.named_buffers(remove_duplicate=True)),
    ):
        for name, tensor in named:
            if tensor.device.type != "meta":
                continue
            storage = _storage(tensor)
            if storage in storages and tensor.untyped_storage().nbytes() > 0:
                continue
            storages[storage] = (name,)
            weights[name] = Weight(name, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), is_buffer)
    return weights, storages


def trace(
    module: Any,
    inputs: Mapping[str, Any],
    *,
    sizes: tuple[int, int] = (0, 0),
    values: Mapping[str, float] | None = None,
) -> Trace:
    """One forward pass of `module(**inputs)` on the meta device. sizes: (batch, tokens) of the inputs; values: of
    activations that the code reads, by "file:line".

    Example: `trace(module, {"input_ids": torch.empty(2, 128, dtype=torch.long, device="meta")})`.

    Raises:
        CaptureError: the code reads a value that is not known.
    """
    weights, storages = _weights_of(module)
    paths: dict[int, str] = {}
    modules: dict[str, str] = {}
    for path, child in module.named_modules():
        paths[id(child)] = path
        modules[path] = type(child).__name__
    tracer = _Tracer(paths, values or {}, storages, tokens=sizes[1])
    numbers, input_shapes = {}, {}
    for name, value in inputs.items():
        for position, tensor in enumerate(_tensors((value,))):
            label = name if isinstance(value, Tensor) else f"{name}.{position}"
            input_shapes[label] = tuple(tensor.shape)
            if tensor.device.type == "meta":
                numbers[label] = tracer.fresh(tensor)
            else:
                tracer.tainted.add(_storage(tensor))
                tracer.kept.append(tensor)
    with ExitStack() as around:
        around.enter_context(torch.no_grad())
        around.enter_context(adapters.patched(torch, "autocast", _Autocast))
        around.enter_context(adapters.patched(torch.nn.functional, _attention.__name__, tracer.attention))
        for register, hook in (
            (torch.nn.modules.module.register_module_forward_pre_hook, tracer.enter),
            (torch.nn.modules.module.register_module_forward_hook, tracer.leave),
        ):
            around.callback(register(hook).remove)
        around.enter_context(adapters.running(tracer))
        around.enter_context(_Functions(tracer))
        around.enter_context(_Dispatch(tracer))
        output = module(**inputs)
    outputs = tuple(tracer.numbers[id(t)][0] for t in _outputs(output) if id(t) in tracer.numbers)
    return Trace(
        sizes=sizes,
        ops=tuple(tracer.ops),
        inputs=numbers,
        outputs=outputs,
        weights=weights,
        modules=modules,
        calls=tuple(tracer.calls),
        reads=tuple(tracer.reads),
        far=tuple(tracer.far),
        input_shapes=input_shapes,
    )


def _outputs(output: Any) -> Iterator[Tensor]:
    """The tensors of what a model returns: a tensor, a list, a dictionary, a data class."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _outputs(value)
    elif isinstance(output, (list, tuple)):
        for value in output:
            yield from _outputs(value)
    elif hasattr(output, "__dict__"):
        for value in vars(output).values():
            yield from _outputs(value)
