"""Repeated layers of a traced model: numbered modules of a list that run, in kinds that do the same."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from mowich.capture.dimensions import Shapes
from mowich.capture.graph import PRODUCTS, WHOLE, Call, Op, Trace

_NUMBERED = re.compile(r"^(?:(.*)\.)?(\d+)$")
_NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")

STAGE_SHARE = 0.7
"""A numbered module is a stage, not a layer, where its own list holds this part of its parameters or more."""


@dataclass(frozen=True)
class LayerKind:
    """Calls of layers that do the same. module: "layers.{}"; calls: of each of them, in order; names: parameters of the
    first that are its own (not counted in an earlier layer)."""

    module: str
    class_name: str
    calls: tuple[Call, ...]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """A model in layers. pattern: the kind of each layer in order of running; outside: operations of no layer."""

    kinds: tuple[LayerKind, ...]
    pattern: tuple[int, ...]
    outside: tuple[int, ...]


def generic(path: str) -> str:
    """A module's path with "{}" for its numbers.

    >>> generic("model.layers.12.mlp")
    'model.layers.{}.mlp'
    """
    return _NUMBER.sub("{}", path)


def is_within(name: str, module: str) -> bool:
    """Whether a parameter or module lies in a module."""
    return not module or name == module or name.startswith(module + ".")


def relative(name: str, module: str) -> str:
    """A path as seen from a module; whole where it lies elsewhere.

    >>> relative("layers.0.mlp.up", "layers.0")
    'mlp.up'
    """
    if not module or not is_within(name, module):
        return name
    return name[len(module) + 1 :]


def layout(trace: Trace, shapes: Sequence[Shapes], last: Trace | None = None) -> Layout:
    """The layers of a model. shapes: of what each operation makes; last: the pass with most tokens, where kinds of
    masks are seen."""
    calls = _layer_calls(trace)
    sizes = {name: prod(weight.shape) for name, weight in trace.weights.items() if not weight.is_buffer}
    owned = _owned(calls, sizes)
    found: dict[object, list[Call]] = {}
    order: list[object] = []
    for index, call in enumerate(calls):
        names = owned[index]
        key = (
            trace.modules.get(call.module, ""),
            generic(call.module),
            tuple((relative(name, call.module), trace.weights[name].shape) for name in names),
            tuple(_signature((last or trace).ops[i], shapes[i], call.module) for i in range(call.start, call.end)),
        )
        found.setdefault(key, []).append(call)
        order.append(key)
    keys = list(found)
    first = {key: order.index(key) for key in keys}
    kinds = tuple(
        LayerKind(
            generic(found[key][0].module),
            trace.modules.get(found[key][0].module, ""),
            tuple(found[key]),
            owned[first[key]],
        )
        for key in keys
    )
    inside = {index for call in calls for index in range(call.start, call.end)}
    return Layout(
        kinds,
        tuple(keys.index(key) for key in order),
        tuple(index for index in range(len(trace.ops)) if index not in inside),
    )


def _signature(op: Op, shapes: Shapes, module: str) -> tuple[object, ...]:
    taken = tuple(sorted((key, str(value)) for key, value in op.attributes.items())) if op.name in WHOLE else ()
    return (op.name, relative(op.module, module), tuple(relative(name, module) for name in op.weights), shapes, taken)


def _owned(calls: Sequence[Call], sizes: Mapping[str, int]) -> list[tuple[str, ...]]:
    """The parameters of each call: those under its module, once."""
    prefixes: dict[str, list[str]] = {call.module: [] for call in calls}
    for name in sizes:
        path = name
        while path and path not in prefixes:
            path = path.rpartition(".")[0]
        if path in prefixes:
            prefixes[path].append(name)
    taken: set[str] = set()
    owned = []
    for call in calls:
        owned.append(() if call.module in taken else tuple(prefixes[call.module]))
        taken.add(call.module)
    return owned


def _layer_calls(trace: Trace) -> list[Call]:
    """The calls of layers, in order; of the whole model where it has no list of layers."""
    heavy = [0]
    for op in trace.ops:
        heavy.append(heavy[-1] + (op.name in PRODUCTS or op.name in WHOLE))
    calls: dict[str, list[Call]] = {}
    for call in trace.calls:
        if heavy[call.end] > heavy[call.start]:
            calls.setdefault(call.module, []).append(call)
    compound = {path.rpartition(".")[0] for path in trace.modules if path}
    lists: dict[str, list[str]] = {}
    for path in trace.modules:
        if path in calls and path in compound:
            parent = _parent(path)
            if parent is not None:
                lists.setdefault(parent, []).append(path)
    accepted = list(_outermost(trace, calls, lists, ""))
    if not accepted:
        accepted = _siblings(trace, calls, compound)
    layers = sorted((call for path in accepted for call in calls[path]), key=lambda call: call.start)
    return layers or [call for call in trace.calls if call.module == ""][:1]


def _parent(path: str) -> str | None:
    """The list that a numbered module is of, None for a module with another name."""
    found = _NUMBERED.match(path)
    return None if found is None else (found[1] or "")


def _outermost(
    trace: Trace, calls: Mapping[str, list[Call]], lists: Mapping[str, list[str]], below: str
) -> Iterator[str]:
    """Layers of the outermost lists below a module; of the lists inside where these are stages."""
    done: list[str] = []
    for parent in sorted(lists, key=lambda path: path.count(".") + bool(path)):
        if not (is_within(parent, below) and parent != below) and (below or parent in done):
            continue
        if any(is_within(parent, path) for path in done):
            continue
        for path in lists[parent]:
            done.append(path)
            inner = [one for one in lists if one != path and is_within(one, path)]
            stage = _stage_lists(trace, calls, lists, path, inner)
            if stage:
                yield from (one for name in stage for one in lists[name])
            else:
                yield path


def _stage_lists(
    trace: Trace, calls: Mapping[str, list[Call]], lists: Mapping[str, list[str]], path: str, inner: Sequence[str]
) -> list[str]:
    """The lists inside of a stage: most of its parameters and all of its attention lie in them; none of a layer."""
    total = sum(_size(trace, name) for name in trace.weights if is_within(name, path))
    cores = [op.module for op in trace.ops if op.name in ("attention", "scan") and is_within(op.module, path)]
    for one in inner:
        held = sum(_size(trace, name) for name in trace.weights if any(is_within(name, p) for p in lists[one]))
        has_cores = all(any(is_within(core, p) for p in lists[one]) for core in cores)
        if cores and has_cores and total and held >= STAGE_SHARE * total:
            return [one]
    return []


def _size(trace: Trace, name: str) -> int:
    weight = trace.weights[name]
    return 0 if weight.is_buffer else prod(weight.shape)


def _siblings(trace: Trace, calls: Mapping[str, list[Call]], compound: set[str]) -> list[str]:
    """Without lists: children of one module that have one class, are made of modules and run."""
    groups: dict[tuple[str, str], list[str]] = {}
    for path in trace.modules:
        if path and path in calls and path in compound:
            groups.setdefault((path.rpartition(".")[0], trace.modules[path]), []).append(path)
    alike = [paths for paths in groups.values() if len(paths) > 1]
    return max(alike, key=len) if alike else []
