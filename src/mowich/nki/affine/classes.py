"""Classes of the values that a loop makes, and what is either of two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class Refused(Exception):
    """This loop cannot be told to be regular; the message says why."""


@dataclass(frozen=True, slots=True)
class Constant:
    """The same in each iteration."""


@dataclass(frozen=True, slots=True)
class Index:
    """A number that is affine in the index."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A slice whose bounds are affine in the index. fixed: its length is shown to be constant."""

    fixed: bool


@dataclass(frozen=True, slots=True)
class View:
    """A tile. fixed: its shape is shown to be constant; still: its offset is; fresh: its storage was made in this
    iteration; blocks: it may be a tensor of the older interface whose blocks are made when they are first named."""

    fixed: bool
    still: bool
    fresh: bool = False
    blocks: bool = False


@dataclass(frozen=True, slots=True)
class Mask:
    """A predicate of the older interface that the index is part of: inequalities of affine expressions, all of which
    have to hold."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A list from before the loop that the index chose, of tiles (deep 1), or of such lists."""

    deep: int


@dataclass(frozen=True, slots=True)
class Mixed:
    """A tile or a constant: good as an operand only."""


@dataclass(frozen=True, slots=True)
class Handle:
    """An instruction that was issued."""


@dataclass(frozen=True, slots=True)
class Several:
    """A tuple whose items are known one by one."""

    items: tuple[Value, ...]


@dataclass(slots=True, eq=False)
class Made:
    """A list made in this iteration. item: class of all its items, None while it is empty; joined: the list that it
    turned out to be one with."""

    item: Value | None = None
    joined: Made | None = None

    def root(self) -> Made:
        """The list that stands for all that are one."""
        return self if self.joined is None else self.joined.root()


Value = Constant | Index | Piece | View | Mask | Listed | Mixed | Handle | Several | Made
SAME = Constant()
INDEX = Index()


def join(a: Value | None, b: Value | None) -> Value | None:
    """What is either of two."""
    if a is None or b is None or a is b:
        return a if b is None else b
    if isinstance(a, Made) and isinstance(b, Made):
        x, y = a.root(), b.root()
        if x is not y:
            x.item = join(x.item, y.item)
            y.joined = x
        return x
    if a == b:
        return a
    if isinstance(a, View) and isinstance(b, View):
        if a.fresh != b.fresh:
            return Mixed()
        return View(a.fixed and b.fixed, a.still and b.still, a.fresh, a.blocks or b.blocks)
    if isinstance(a, Several) and isinstance(b, Several) and len(a.items) == len(b.items):
        return Several(tuple(joined(x, y) for x, y in zip(a.items, b.items, strict=True)))
    if {type(a), type(b)} == {Constant, Index}:
        return INDEX
    if {type(a), type(b)} <= {Constant, View, Mixed}:
        return Mixed()
    raise Refused(f"a value is {said(a)} here and {said(b)} there")


def alike_values(a: Value | None, b: Value | None) -> bool:
    """Whether two values are of one class, lists with what they hold."""
    if isinstance(a, Made) and isinstance(b, Made):
        x, y = a.root(), b.root()
        return x is y or alike_values(x.item, y.item)
    if isinstance(a, Several) and isinstance(b, Several) and len(a.items) == len(b.items):
        return all(alike_values(x, y) for x, y in zip(a.items, b.items, strict=True))
    return a == b


def joined(a: Value, b: Value) -> Value:
    found = join(a, b)
    assert found is not None
    return found


def said(v: Value) -> str:
    return type(v).__name__.lower()


def either(a: dict[str, Value], b: dict[str, Value]) -> dict[str, Value]:
    out: dict[str, Value] = {}
    for n in {**a, **b}:
        found = join(a.get(n), b.get(n))
        if found is not None:
            out[n] = found
    return out


def join_all(items: Sequence[Value]) -> Value:
    found: Value | None = None
    for v in items:
        found = join(found, v)
    return found or SAME
