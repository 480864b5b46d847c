"""What a graph of eager code would count wrongly if nobody looked: experts that all run though a router chooses a few,
and kernels of the user's own, of which only a name is seen.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from mowich.capture.graph import PRODUCTS, Op, Trace, replaced
from mowich.capture.problem import CaptureError
from mowich.capture.scans import scan_of, stated

KNOWN = frozenset(("aten", "prims", "prim", "torchvision", "attention", "experts", "scan", "update"))
"""Where the operations come from that are read as they are; all others are the user's kernels."""

_NUMBER = re.compile(r"(?:^|\.)(\d+)(?=\.|$)")


# ---- experts


@dataclass(frozen=True, slots=True)
class _Router:
    """A choice of the best few: number of choices, how many are taken, tokens that choose."""

    at: int
    module: str
    number: int
    top_k: int
    rows: int


def _routers(trace: Trace) -> list[_Router]:
    found = []
    for at, op in enumerate(trace.ops):
        if op.name not in ("aten.topk", "aten.sort", "aten.argsort", "aten.argmax", "aten.max") or not op.shapes[0]:
            continue
        number = op.shapes[0][-1]
        taken = op.attributes.get("k", 1 if op.name in ("aten.argmax", "aten.max") else 0)
        is_choice = len(op.out_shapes[0]) != len(op.shapes[0]) or op.out_shapes[0][-1] in (taken, 1)
        if isinstance(taken, int) and 0 < taken < number and is_choice and number not in trace.sizes:
            found.append(_Router(at, op.module, number, taken, prod(op.shapes[0][:-1])))
    return found


def _is_beside(router: str, module: str) -> bool:
    """Whether a module lies in the block of a router: below its parent, or below itself."""
    block = router.rpartition(".")[0]
    return module in (router, block) or not block or module.startswith(f"{block}.")


def with_experts(trace: Trace) -> Trace:
    """The trace, where each expert that eager code runs for every token, though a router chooses a few, is part of one
    operation "experts" with `run` "all": it is counted as chosen, top_k for each token, and flagged.

    Experts are alike modules, as many as the router has choices ("experts.0" to "experts.7"), or products with weights
    [experts, ., .] by which each is multiplied. Their elementwise operations stay as they are.
    """
    found: dict[int, Op] = {}
    dropped: set[int] = set()
    for router in _routers(trace):
        for group in _groups(trace, router):
            if group and not dropped & set(group):
                op = _taken(trace, router, group)
                if op is not None:
                    found[group[0]] = op
                    dropped |= set(group[1:])
    return replaced(trace, found, dropped)


def _groups(trace: Trace, router: _Router) -> list[list[int]]:
    """Indices of the products of a router's experts: of alike numbered modules, else of weights that hold all."""
    numbered: dict[str, dict[str, list[int]]] = {}
    stacked: dict[str, list[int]] = {}
    for at in range(router.at + 1, len(trace.ops)):
        op = trace.ops[at]
        if op.name == "aten.topk" and op.module == router.module:
            break  # its next call
        if op.name not in PRODUCTS or not op.weights or not _is_beside(router.module, op.module):
            continue
        weight = trace.weights.get(op.weights[-1])
        if weight is not None and len(weight.shape) == 3 and weight.shape[0] == router.number:
            stacked.setdefault(op.module, []).append(at)
            continue
        for match in _NUMBER.finditer(op.module):
            numbered.setdefault(op.module[: match.start(1)], {}).setdefault(match[1], []).append(at)
    groups = [
        sorted(at for ats in members.values() for at in ats)
        for members in numbered.values()
        if len(members) == router.number and len({_form(trace, ats) for ats in members.values()}) == 1
    ]
    return groups + list(stacked.values())


def _form(trace: Trace, ats: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """The shapes of the weights that an expert reads."""
    return tuple(trace.weights[name].shape for at in ats for name in trace.ops[at].weights if name in trace.weights)


def _taken(trace: Trace, router: _Router, group: Sequence[int]) -> Op | None:
    ops = [trace.ops[at] for at in group]
    names = tuple(dict.fromkeys(name for op in ops for name in op.weights))
    first, last = ops[0], ops[-1]
    width, ffn = first.shapes[-1][-1], last.shapes[-1][-1]
    shapes = [trace.weights[name].shape for name in names if name in trace.weights]
    matrices = sum(prod(shape) for shape in shapes if len(shape) > 1)
    biases = sum(prod(shape) for shape in shapes if len(shape) == 1)
    if shapes and all(len(shape) == 3 for shape in shapes if len(shape) > 1):
        biases = 0
    share = matrices / (router.number * width * ffn) if width and ffn else 0
    if share not in (2, 3):
        return None
    return Op(
        name="experts",
        module=_common(op.module for op in ops),
        inputs=first.inputs,
        outputs=tuple(number for op in ops for number in op.outputs),
        weights=names,
        shapes=first.shapes,
        out_shapes=tuple(shape for op in ops for shape in op.out_shapes),
        attributes={
            "number": router.number,
            "top_k": router.top_k,
            "ffn": ffn,
            "width": width,
            "gated": share == 3,
            "biases": biases,
            "rows": router.rows,
            "run": "all",
        },
        widths=tuple(width_ for op in ops for width_ in op.widths),
    )


def _common(modules: object) -> str:
    paths = [path.split(".") for path in modules]  # type: ignore[attr-defined]
    shared = []
    for names in zip(*paths, strict=False):
        if len(set(names)) > 1:
            break
        shared.append(names[0])
    return ".".join(shared)


def lone_routers(trace: Trace) -> list[dict[str, str]]:
    """Routers whose experts were not found, as rows of `not_understood`: every product behind them is counted for every
    token. Call it on what `with_experts` gives."""
    homes = [op.module for op in trace.ops if op.name == "experts" or op.name == "aten._grouped_mm"]
    told: dict[str, dict[str, str]] = {}
    for router in _routers(trace):
        if trace.ops[router.at].name != "aten.topk":
            continue
        if not any(_is_beside(router.module, home) for home in homes):
            told[router.module] = {
                "module": router.module,
                "what": "aten.topk",
                "why": f"it chooses {router.top_k} of {router.number}; what it chooses was not found, all of it counts",
            }
    return list(told.values())


# ---- kernels


def with_kernels(trace: Trace, named: Mapping[str, tuple[int, int]]) -> Trace:
    """The trace, where each of the user's own kernels is an operation "scan" with the work that the user states for a
    token. named: of `scans.stated`, by the kernel's name ("mylib.fused_mixer").

    Raises:
        CaptureError: a kernel is not named, or one is named that does not run.
    """
    unknown: Counter[tuple[str, str]] = Counter()
    found: dict[int, Op] = {}
    used: set[str] = set()
    for at, op in enumerate(trace.ops):
        space = op.name.partition(".")[0]
        if space in KNOWN:
            continue
        if op.name not in named:
            unknown[op.name, op.module] += 1
            continue
        used.add(op.name)
        flop, moved_bytes = named[op.name]
        tokens = max(1, trace.sizes[0] * trace.sizes[1])
        found[at] = replace(op, name="scan", attributes=kernel_of(flop, moved_bytes, tokens))
    if unknown:
        (name, module), _count = next(iter(unknown.items()))
        others = f" and {len({kernel for kernel, _ in unknown}) - 1} more" if len({k for k, _ in unknown}) > 1 else ""
        raise CaptureError(
            f"the work of {name}{others} is not known: a custom kernel",
            where=f"module {module or '(the root)'}",
            fix=f"state the work of a token: --kernel {name}=FLOP,BYTES",
        )
    unused = sorted(set(named) - used)
    if unused:
        seen = sorted({op.name for op in trace.ops if op.name.partition(".")[0] not in KNOWN})
        raise CaptureError(
            "no kernel of this name ran", where="--kernel", given=unused[0], allowed=", ".join(seen) or "none ran"
        )
    return replaced(trace, found, set())


def kernel_of(flop: int, moved_bytes: int, tokens: int) -> dict[str, object]:
    """Attributes of a kernel as a recurrence without a state: what it moves is read and written in elements of two
    bytes, half of them its output."""
    width = max(1, moved_bytes // 4)
    return {
        **scan_of("other", batch=1, tokens=tokens, heads=1, head_dim=width, groups=1, state=0),
        "flop": flop * tokens,
    }


def parsed_kernels(given: Sequence[str]) -> dict[str, tuple[int, int]]:
    """`--kernel NAME=FLOP,BYTES` -> {name: (FLOP, bytes) of a token}. NAME as operations have it: "mylib.fused", or
    "mylib::fused".

    >>> parsed_kernels(["mylib::fused=2e6,8192"])
    {'mylib.fused': (2000000, 8192)}

    Raises:
        CaptureError: something else is given.
    """
    named = stated(given, "--kernel", "NAME=FLOP,BYTES, for example mylib.fused=2e6,8192", "FLOP and bytes of a token")
    return {name.replace("::", "."): numbers for name, numbers in named.items()}
