"""Elements that a layer's passes over memory read and write, between its products, attention cores, experts and scans.

Elements are of two bytes: one of four bytes counts as two.
Eager: each operation reads its operands and writes its output; views move nothing.
Fused: operations that no product lies between run as one pass, which reads each tensor from outside once and writes
each that is used outside. Two operations are of one pass where the longest path of products before them is equal and
one uses what the other makes; one runs as late as its users allow. A pass that only copies is free: the operation
before it writes in that order.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from math import prod

from mowich.capture.cores import VIEWS
from mowich.capture.graph import PRODUCTS, WHOLE, Op, Trace

_COPIES = frozenset(("aten.clone", "aten.copy_", "aten.copy"))
_NORMS = frozenset(
    f"aten.{name}"
    for name in ("native_layer_norm", "_fused_rms_norm", "native_group_norm", "native_batch_norm", "rsqrt")
)


_FILLED = frozenset(
    f"aten.{name}"
    for name in ("zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full")
)
"""Made of a shape alone."""


def is_barrier(op: Op) -> bool:
    """Whether an operation bounds passes: a product or what is taken whole."""
    return op.name in PRODUCTS or op.name in WHOLE


def is_free(op: Op) -> bool:
    """Whether an operation moves nothing."""
    return op.name in VIEWS or op.name == "update"


class Sizes:
    """Elements of two bytes behind each activation of a trace: of an expanded view those that it repeats."""

    def __init__(self, trace: Trace) -> None:
        self.width: dict[int, int] = {}
        self.elements: dict[int, int] = {}
        for op in trace.ops:
            for position, number in enumerate(op.outputs):
                width = op.widths[position] if position < len(op.widths) else 2
                held = -(-prod(op.out_shapes[position]) * width // 2)
                if op.name in VIEWS and op.inputs and op.inputs[0] in self.elements:
                    held = min(held, self.elements[op.inputs[0]])
                self.width[number] = width
                self.elements[number] = held

    def read(self, number: int, shape: tuple[int, ...]) -> int:
        """Elements that an operation reads of an operand of this shape."""
        known = self.elements.get(number)
        return prod(shape) if known is None else known


def moved(trace: Trace, indexes: Sequence[int], sizes: Sizes) -> tuple[int, int]:
    """(fused, eager) elements that the operations with these indexes move."""
    eager = 0
    for index in indexes:
        op = trace.ops[index]
        if not is_barrier(op) and not is_free(op):
            eager += sum(sizes.read(n, shape) for n, shape in zip(op.inputs, op.shapes, strict=False))
            eager += sum(sizes.elements[number] for number in op.outputs)
    return _fused(trace, indexes, sizes), eager


@dataclass
class _Flow:
    """Who makes and who uses what among some operations. base: of a view, what it shows; depth: products on the longest
    way to an operation."""

    made: dict[int, int] = field(default_factory=dict)
    users: dict[int, list[int]] = field(default_factory=dict)
    base: dict[int, int] = field(default_factory=dict)
    depth: dict[int, int] = field(default_factory=dict)

    def source(self, number: int) -> int:
        return self.base.get(number, number)

    def maker(self, number: int) -> int:
        """The operation among these that made it, -1 for none."""
        return self.made.get(self.source(number), -1)


def _flow(trace: Trace, indexes: Sequence[int]) -> _Flow:
    flow = _Flow()
    for index in indexes:
        op = trace.ops[index]
        makers = [flow.maker(number) for number in op.inputs]
        flow.depth[index] = max((flow.depth[m] + is_barrier(trace.ops[m]) for m in makers if m >= 0), default=0)
        if is_free(op) and op.inputs:
            flow.base.update(dict.fromkeys(op.outputs, flow.source(op.inputs[0])))
            continue
        for number in op.inputs:
            flow.users.setdefault(flow.source(number), []).append(index)
        flow.made.update(dict.fromkeys(op.outputs, index))
    for index in reversed(indexes):  # as late as its users allow
        op = trace.ops[index]
        after = {user for number in op.outputs for user in flow.users.get(number, ())}
        levels = {flow.depth[user] for user in after}
        if len(levels) == 1 and not any(is_barrier(trace.ops[user]) for user in after) and not is_barrier(op):
            flow.depth[index] = max(flow.depth[index], levels.pop())
    return flow


def _fused(trace: Trace, indexes: Sequence[int], sizes: Sizes) -> int:
    flow = _flow(trace, indexes)
    group = {i: i for i in indexes if not is_barrier(trace.ops[i]) and not is_free(trace.ops[i])}

    def root(index: int) -> int:
        while group[index] != index:
            group[index] = group[group[index]]
            index = group[index]
        return index

    for index in group:
        for number in trace.ops[index].inputs:
            maker = flow.maker(number)
            if maker in group and flow.depth[maker] == flow.depth[index]:
                group[root(index)] = root(maker)
    together: dict[int, list[int]] = {}
    for index in group:
        together.setdefault(root(index), []).append(index)
    last = set(trace.outputs) | {number for index in indexes[-1:] for number in trace.ops[index].outputs}
    return sum(
        _pass(trace, flow, members, sizes, last)
        for members in together.values()
        if not all(trace.ops[index].name in _COPIES for index in members)
    )


def _pass(trace: Trace, flow: _Flow, members: Sequence[int], sizes: Sizes, last: Set[int]) -> int:
    """What one pass reads from outside and writes for outside. last: what is used after all these operations."""
    inside = set(members)
    read: dict[int, int] = {}
    total = 0
    for index in members:
        op = trace.ops[index]
        for number, shape in zip(op.inputs, op.shapes, strict=False):
            if flow.maker(number) not in inside:
                source = flow.source(number)
                read[source] = max(read.get(source, 0), sizes.read(number, shape))
        for number in op.outputs:
            used = flow.users.get(number, ())
            if any(user not in inside for user in used) or (not used and number in last):
                total += sizes.elements[number]
    return total + sum(read.values())


def norms(trace: Trace, indexes: Sequence[int]) -> int:
    """Norms among the operations."""
    return sum(trace.ops[index].name in _NORMS for index in indexes)


def launches(trace: Trace, indexes: Sequence[int]) -> int:
    """Kernels that eager code launches: operations that move or compute something."""
    return sum(not is_free(trace.ops[index]) for index in indexes)


def residuals(trace: Trace, indexes: Sequence[int]) -> tuple[int, int]:
    """(residual additions, width of the stream): additions of what came through a product to what did not. The width is
    0 where there is none."""
    apart: set[int] = set()
    widths: dict[int, int] = {}
    count = 0
    for index in indexes:
        op = trace.ops[index]
        crossed = [number for number in op.inputs if number in apart]
        is_sum = op.name in ("aten.add", "aten.add_") and len(op.inputs) == 2 and not op.weights
        if is_barrier(op) or op.name in _FILLED:
            apart.update(op.outputs)
        elif is_sum and len(crossed) == 1 and op.shapes[0] == op.shapes[1] and len(op.shapes[0]) >= 2:
            count += 1
            width = op.out_shapes[0][-1]
            widths[width] = widths.get(width, 0) + 1
        elif crossed:
            apart.update(op.outputs)
    return count, max(widths, key=lambda width: (widths[width], width)) if widths else 0
