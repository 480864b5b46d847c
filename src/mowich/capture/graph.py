"""What one traced forward pass did: operations in order, with the tensors that flow between them.

Plain data without PyTorch, so that what follows from a graph (roles of weights, kinds of layers) is tested without it.
"""

from __future__ import annotations

from dataclasses import dataclass, field


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
    """One operation. name: "aten.mm", or of what is taken whole "attention", "experts", "scan"; module: path of the
    innermost module that ran it, "" for the root; inputs, outputs: numbers of activations, a view has a number of its
    own; weights: names of parameters that it reads, through views and transposes too, in the order of its operands;
    shapes, out_shapes: of inputs and outputs; attributes: of what is taken whole (heads, causal, top_k) and of views
    (sizes, dimensions)."""

    name: str
    module: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    weights: tuple[str, ...] = ()
    shapes: tuple[tuple[int, ...], ...] = ()
    out_shapes: tuple[tuple[int, ...], ...] = ()
    attributes: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One forward pass. sizes: (batch, tokens) of its inputs; inputs: numbers of the activations that came in by name;
    outputs: those that came out; modules: path -> name of its class, in order of registration."""

    sizes: tuple[int, int]
    ops: tuple[Op, ...]
    inputs: dict[str, int]
    outputs: tuple[int, ...]
    weights: dict[str, Weight]
    modules: dict[str, str]
