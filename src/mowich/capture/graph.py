"""What one traced forward pass did: operations in order, with the tensors that flow between them.

Plain data without PyTorch, so that roles of weights and kinds of layers, which follow from a graph, are tested without
it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

PRODUCTS = frozenset(
    f"aten.{name}"
    for name in ("mm", "addmm", "bmm", "baddbmm", "addbmm", "convolution", "mv", "addmv", "dot", "_grouped_mm")
)
"""Operations that multiply matrices."""

WHOLE = frozenset(("attention", "experts", "scan"))
"""Operations that a helper or the tracer takes whole."""


@dataclass(frozen=True, slots=True)
class Weight:
    """A parameter of the module, or a buffer. name: "layers.0.mlp.up.weight"; two names of one storage are one weight,
    under its first name."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    is_buffer: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One operation. name: "aten.mm", or of what is taken whole "attention", "experts", "scan", or "update": a tensor
    part of which was written in place since (inputs: as it was, what was written); module: path of the innermost module
    that ran it, "" for the root; inputs, outputs: numbers of activations, a view has a number of its own; weights:
    names of parameters that it reads, through views, transposes and casts too, in the order of its operands; shapes,
    out_shapes: of inputs and outputs; attributes: of what is taken whole (heads, causal, top_k), else the arguments
    that are no tensors under their names (dims, size, dim); where it reads a weight "operands", a letter for each
    tensor operand (a: activation, w: weight, c: a constant of the code), and of a product "weight_shapes"; where it
    reads a constant mask "mask"; widths: bytes per element of the outputs."""

    name: str
    module: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    weights: tuple[str, ...] = ()
    shapes: tuple[tuple[int, ...], ...] = ()
    out_shapes: tuple[tuple[int, ...], ...] = ()
    attributes: dict[str, object] = field(default_factory=dict)
    widths: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a module: its path, and the numbers of its first operation and of the one after its last."""

    module: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Read:
    """A value that the code read: its module, what ("item", "nonzero"), where ("my_model.py:41"). Its code may run
    otherwise for other values."""

    module: str
    what: str
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One forward pass. sizes: (batch, tokens) of its inputs; inputs: numbers of the activations that came in by name;
    outputs: those that came out; modules: path -> name of its class, in order of registration; calls: of modules, in
    the order in which they ended; reads: of values; far: positions that are compared with more tokens than the pass has
    (what: that number); input_shapes: of all inputs that are tensors."""

    sizes: tuple[int, int]
    ops: tuple[Op, ...]
    inputs: dict[str, int]
    outputs: tuple[int, ...]
    weights: dict[str, Weight]
    modules: dict[str, str]
    calls: tuple[Call, ...] = ()
    reads: tuple[Read, ...] = ()
    far: tuple[Read, ...] = ()
    input_shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)


def replaced(trace: Trace, found: Mapping[int, Op], dropped: set[int]) -> Trace:
    """The trace with operations in the place of others (index -> operation), and without those in `dropped`."""
    if not found and not dropped:
        return trace
    kept = [index for index in range(len(trace.ops)) if index not in dropped]
    renumbered, count = [], 0
    for index in range(len(trace.ops) + 1):
        renumbered.append(count)
        count += index not in dropped
    return replace(
        trace,
        ops=tuple(found.get(index, trace.ops[index]) for index in kept),
        calls=tuple(replace(one, start=renumbered[one.start], end=renumbered[one.end]) for one in trace.calls),
    )
