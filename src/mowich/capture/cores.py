"""Attention that the user's code writes out (scores, softmax, values) becomes one operation "attention", as where it
calls the library's: `eager` says so. Found in the graph: a product of two activations whose output flows through
elementwise operations, with a softmax or a causal mask among them, into a product with a third."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from mowich.capture.graph import Op, Trace, replaced

_BATCHED = ("aten.bmm", "aten.baddbmm")
_SOFTMAX = ("aten._softmax", "aten._safe_softmax", "aten._log_softmax")
VIEWS = frozenset(
    f"aten.{name}"
    for name in (
        "view",
        "_unsafe_view",
        "expand",
        "transpose",
        "permute",
        "t",
        "unsqueeze",
        "squeeze",
        "select",
        "slice",
        "split",
        "split_with_sizes",
        "chunk",
        "unbind",
        "alias",
        "detach",
        "as_strided",
        "unfold",
        "diagonal",
        "movedim",
        "lift_fresh",
        "_reshape_alias",
        "view_as_real",
        "view_as_complex",
        "real",
        "imag",
    )
)
"""Operations that move nothing."""

_LAYOUT = frozenset(("aten.view", "aten._unsafe_view", "aten.expand", "aten.clone", "aten._to_copy", "aten.alias"))
_MASKING = frozenset(f"aten.{name}" for name in ("masked_fill", "masked_fill_", "where", "add", "add_"))

_SCORES = frozenset(
    f"aten.{name}"
    for name in (
        *("mul", "div", "add", "sub", "neg", "tanh", "clamp", "clamp_min", "sigmoid", "exp", "relu", "pow"),
        *("mul_", "div_", "add_", "sub_", "masked_fill", "masked_fill_", "where", "nan_to_num", "dropout"),
        *("native_dropout", "cat", "slice", "unsqueeze", "squeeze", "transpose", "permute", "maximum", "softplus"),
        *("copy_", "constant_pad_nd", "tril", "triu", "logical_not"),
    )
)


def producers(trace: Trace) -> dict[int, int]:
    """Number of an activation -> index of the operation that made it."""
    return {number: index for index, op in enumerate(trace.ops) for number in op.outputs}


def with_cores(trace: Trace) -> Trace:
    """The trace, its written-out attention as operations "attention", and keys that only repeat fewer heads counted as
    those."""
    made = producers(trace)
    dropped: set[int] = set()
    found: dict[int, Op] = {}
    for index, op in enumerate(trace.ops):
        if op.name in _BATCHED and len(op.inputs) >= 2 and not op.weights:
            path = _score_path(trace, made, op.inputs[-2])
            if path is not None:
                scores, between = path
                found[index] = _core(trace, scores, between, op, made)
                dropped |= {scores, *between}
        elif op.name == "attention" and "kv_heads" in op.attributes:
            repeats = _repeats(trace, made, op.inputs[1])
            kv_heads, heads = int(str(op.attributes["kv_heads"])), int(str(op.attributes["heads"]))
            if repeats > 1 and kv_heads == heads and kv_heads % repeats == 0:
                found[index] = replace(op, attributes={**op.attributes, "kv_heads": kv_heads // repeats})
    return replaced(trace, found, dropped)


def _score_path(trace: Trace, made: dict[int, int], number: int) -> tuple[int, list[int]] | None:
    """From the weights of values back to the product that made the scores: its index, and those of the operations
    between; None where there is none."""
    between: list[int] = []
    has_softmax = False
    while True:
        index = made.get(number)
        if index is None or len(between) > 60:
            return None
        op = trace.ops[index]
        if op.name in _BATCHED and not op.weights and len(op.inputs) >= 2:
            return (index, between) if has_softmax else None
        if op.name not in _SCORES and op.name not in _LAYOUT and op.name not in _SOFTMAX and op.name != "update":
            return None
        if not op.inputs or (op.weights and op.name not in ("aten.add", "aten.add_", "aten.mul", "aten.cat")):
            return None
        between.append(index)
        mask = op.attributes.get("mask")
        has_softmax = has_softmax or op.name in _SOFTMAX or (isinstance(mask, dict) and "causal" in mask)
        sizes = [prod(shape) for shape in op.shapes]
        number = op.inputs[sizes.index(max(sizes))]


def _core(trace: Trace, scores: int, between: list[int], values: Op, made: dict[int, int]) -> Op:
    first = trace.ops[scores]
    query, key = first.shapes[-2:]
    softmax = next((trace.ops[i] for i in between if trace.ops[i].name in _SOFTMAX), None)
    shape = softmax.shapes[0] if softmax else first.out_shapes[0]
    has_sinks = any(trace.ops[index].name == "aten.cat" for index in between)
    groups, queries, keys = query[0], query[1], key[2]
    if len(shape) >= 4:
        sequences, heads = shape[0], prod(shape[1:-2])
    else:
        sequences, heads = groups, 1
    if len(shape) >= 2 and shape[-2] not in (0, queries) and queries % shape[-2] == 0:
        heads, queries = max(heads, groups * queries // (shape[-2] * sequences)), shape[-2]
    kv_heads = max(1, groups // max(1, sequences))
    repeats = _repeats(trace, made, first.inputs[-1])
    attributes: dict[str, object] = {
        "heads": heads,
        "kv_heads": kv_heads // repeats if kv_heads % repeats == 0 else kv_heads,
        "qk": query[2],
        "v": values.shapes[-1][2],
        "sequences": sequences,
        "queries": queries,
        "keys": keys,
        "causal": False,
        "eager": True,
        "sinks": has_sinks,
    }
    for index in between:
        op = trace.ops[index]
        mask = op.attributes.get("mask")
        if isinstance(mask, dict):
            attributes.update(mask)
        elif op.name in _MASKING and (op.weights or len(op.inputs) > 1):
            attributes["masked"] = True
    return replace(
        values,
        name="attention",
        inputs=(*first.inputs[-2:], values.inputs[-1]),
        shapes=(query, key, values.shapes[-1]),
        attributes=attributes,
    )


def _repeats(trace: Trace, made: dict[int, int], number: int) -> int:
    """How often the keys repeat each head: what an expand on their way multiplied, 1 where there is none."""
    repeats = 1
    for _ in range(12):
        index = made.get(number)
        if index is None:
            break
        op = trace.ops[index]
        if len(op.inputs) != 1 or op.weights or (op.name not in VIEWS and op.name != "aten.clone"):
            break
        if op.name == "aten.expand" and op.shapes[0] and op.shapes[0][0] == op.out_shapes[0][0]:
            repeats *= max(1, prod(op.out_shapes[0]) // max(1, prod(op.shapes[0])))
        number = op.inputs[0]
    return repeats
