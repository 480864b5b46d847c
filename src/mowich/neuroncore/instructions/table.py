"""The table of the instructions of a NeuronCore: a row for each, which `@instruction` makes from what stands around its
effect.

A row says which engines run the instruction, since which generation, where its operands lie and in which formats, what
it computes and what it costs. `issue` checks the constraints, the clock asks for the cost. Source of the rows: the
reference of `nki.isa` (fact source `nkiisa`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import CodeType, FunctionType
from typing import Any, TypeVar

from mowich.neuroncore.instructions.rates import FP8, SHORT, Cost, InstructionRates
from mowich.neuroncore.trace import Kind

F = TypeVar("F", bound=Callable[..., None])
A = TypeVar("A", bound=Callable[..., object])

UNSIGNED = ("uint8", "uint16", "uint32")
BOOL = "bool_"  # a byte of 0 or 1
INTEGERS = ("int8", "int16", "int32", *UNSIGNED)
FLOATS = ("float32", "tfloat32", *SHORT, *FP8)
SCALES = ("float8_e8m0fnu", "uint8")
PACKED = ("float8_e4m3fn_x4", "float8_e5m2_x4", "float4_e2m1fn_x4")


@dataclass(frozen=True, slots=True, kw_only=True)
class InstructionRow:
    """One instruction. engines: that can run it, first one by default; since: first generation; engine_since: first
    generation in which an engine runs it, where later; spaces: operand -> letters of the memories it may lie in (S
    SBUF, P PSUM, H HBM), "SP" where not listed;
    dtypes: operand -> the formats it may have, any where not listed; effect: what it does to tiles; cost: the time it
    takes; keeps: elements of what it writes may stay, or count in the result; face: its arguments in `nki.isa`, in
    AWS's order.

    A face lists names. "*" stands for the arguments of the effect that the face does not name, and the effect says what
    their defaults are; arguments of the effect by keyword only are not in the face. A name that the effect does not
    have is taken and not used, None by default. What follows "=" is the default in the interface; what follows "|" is
    taken, and no signature shows it: older kernels pass it. An empty face: the
    interface has a function of its own for the instruction."""

    name: str
    engines: tuple[str, ...]
    effect: Callable[..., None]
    cost: Callable[[InstructionRates, Kind], Cost]
    since: int = 2
    engine_since: Mapping[str, int] = field(default_factory=dict)
    spaces: Mapping[str, str] = field(default_factory=dict)
    dtypes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    keeps: bool = False
    face: str = "* name"


TABLE: dict[str, InstructionRow] = {}
"""Every instruction by its name in `nki.isa`."""


EACH_TURN: dict[CodeType, Callable[..., object]] = {}
"""What a loop on the device does again in each turn (`neuroncore.turns`): the effects of all instructions, and other
functions that write to tiles."""


def done_again(function: A) -> A:
    """Enter a function among those that each turn of a loop on the device does again."""
    assert isinstance(function, FunctionType)
    EACH_TURN[function.__code__] = function
    return function


def instruction(
    name: str = "", *, engines: tuple[str, ...], cost: Callable[[InstructionRates, Kind], Cost], **more: Any
) -> Callable[[F], F]:
    """Enter the decorated effect in the table, under its own name unless `name` is given. more: other fields of
    `InstructionRow`."""

    def entered(effect: F) -> F:
        key = name or effect.__name__
        if key in TABLE:
            raise ValueError(f"instruction {key} is in the table already")
        TABLE[key] = InstructionRow(name=key, engines=engines, effect=effect, cost=cost, **more)
        return done_again(effect)

    return entered
