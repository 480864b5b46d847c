"""Which loops of a kernel do the same in each iteration, but for numbers that grow by a constant: read from the
kernel's source.

A loop is regular where its syntax tree shows that the control flow of an iteration does not depend on the index, that
no iteration leaves anything to the next but what it did on the device, and that the index reaches nothing but offsets
of views, to which it contributes by sums and by products with what is constant. Values are classed: the same in each
iteration (`Constant`), an integer that is affine in the index (`Index`), a tile (`View`), a list made in the iteration
(`Made`). What the tree alone does not tell is looked up in the running kernel when the loop is entered (`LoopGuard`):
which function a name stands for, whether `tiles[k]` goes through a list of tiles that are alike, whether `k == last`
holds for none of the iterations that are left out. A list that nothing else knows may get a tile in each iteration.
Anything else refuses the loop.
"""

from __future__ import annotations

import ast
import itertools
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import CodeType, FrameType, MethodType

from mowich.neuroncore.memory import Storage
from mowich.nki.affine.analysis import Analysis
from mowich.nki.affine.classes import INDEX, Refused
from mowich.nki.affine.guards import LoopGuard, Objects
from mowich.nki.affine.lookups import Scope
from mowich.nki.affine.source import appends_of, kept_lists, stored, tree_of, with_places


@dataclass(frozen=True, slots=True)
class Loop:
    """A regular loop. index: name of its target; objects, guards: what has to hold when it is entered; lists: names of
    the lists from before it to which each iteration appends a tile; is_older: it
    is of the older interface; has_products: what the index adds to a number may depend on where loops within are;
    has_fresh_blocks: blocks are named that cannot be looked up, they have to be made in the iterations; has_last: the
    last iteration may be another one, cut by a mask or shorter (`min(128, n - start)`)."""

    index: str
    objects: Objects
    guards: tuple[LoopGuard, ...]
    lists: tuple[str, ...]
    is_older: bool
    has_products: bool
    has_fresh_blocks: bool
    has_last: bool

    def holds(self, frame: FrameType, values: range, storages: dict[int, Storage], period: int = 1) -> bool:
        """Whether the loop is regular now, for these values of the index. storages: gets those of the tiles that were
        looked at; period: turns of which each is like the one so far behind it."""
        found = frame.f_locals  # Python makes it anew each time
        if not all(_is_its_own(frame.f_code, found, n) for n in self.lists):
            return False
        names = dict(found)
        return self.objects.hold(frame, names) and all(
            g.holds(frame, names, self.index, values[turn::period], storages)
            for g in self.guards
            for turn in range(period)
        )

    def stands(self, frame: FrameType, values: range, storages: dict[int, Storage]) -> bool:
        """Whether all holds but where the index goes: reading the loop again would come to the same."""
        names = dict(frame.f_locals)
        return self.objects.hold(frame, names) and all(
            g.may_scatter or g.holds(frame, names, self.index, values, storages) for g in self.guards
        )

    def numbers(self, frame: FrameType, values: range, storages: dict[int, Storage]) -> list[list[int]] | None:
        """Columns of integers, one for each of these values of the index, of which the places of an iteration are sums,
        where they are affine in the index in no other way. None: there are none, or too few say how."""
        names = dict(frame.f_locals)
        if self.lists or self.has_fresh_blocks or not self.objects.hold(frame, names):
            return None
        out: list[list[int]] = []
        for g in self.guards:
            # a mask may leave something out anywhere
            if g.kind == "mask" or not g.holds(frame, names, self.index, values, storages):
                found = g.numbers(frame, names, self.index, values, storages)
                if found is None:
                    return None
                out += found
        return out


_KNOWN: dict[tuple[CodeType, int], Loop] = {}
"""Loops that an earlier run found regular: a run for which their guards hold as well need not read them again."""


_REFUSED: dict[tuple[CodeType, int], list[str]] = {}
"""Why loops were refused, each time that they were read."""
OFTEN = 3
"""Times that a loop is read and refused before it is no longer read."""


def known_loop(code: CodeType, call: int) -> Loop | str | None:
    """What earlier runs found out about a loop."""
    why = _REFUSED.get((code, call), [])
    return why[-1] if len(why) >= OFTEN else _KNOWN.get((code, call))


def loop_at(frame: FrameType, call: int, values: range) -> Loop | str:
    """The loop whose range was made by the instruction at `call` of a running function, where it is regular; else why
    it is not. values: of its index."""
    code = frame.f_code
    tree = tree_of(code)
    if tree is None:
        return "the source of this function is not known"
    positions = next(itertools.islice(code.co_positions(), call // 2, None))
    for node in ast.walk(tree):
        if isinstance(node, ast.For) and isinstance(node.iter, ast.Call):
            e = node.iter
            if (e.lineno, e.end_lineno, e.col_offset, e.end_col_offset) == positions:
                found = _judged(node, frame, values)
                if isinstance(found, Loop) and not any(
                    isinstance(x, MethodType) or x is MethodType
                    for x in (*found.objects.expected, *(g.expected for g in found.guards))
                ):
                    _KNOWN[code, call] = found
                if isinstance(found, str):
                    _REFUSED.setdefault((code, call), []).append(found)
                return found
    return "the range is not that of a for loop"


def _judged(node: ast.For, frame: FrameType, values: range) -> Loop | str:
    if not isinstance(node.target, ast.Name) or node.orelse:
        return "the loop has several targets or an else"
    index = node.target.id
    node, places = with_places(node, index, values.step)
    before = frame.f_locals
    appends = {s: name for s, name in appends_of(node).items() if type(before.get(name)) is list}
    analysis = Analysis(index, values, appends=appends, kept=kept_lists(node))
    scope = Scope({**frame.f_globals, **frame.f_locals}, stored(node), {index: INDEX}, True)
    try:
        analysis.is_older = isinstance(node.iter, ast.Call) and analysis.is_older_function(node.iter.func, scope)
        analysis.body(node.body, scope)
        for place in places:
            analysis.guard("constant", place, scope)
    except Refused as why:
        return str(why)
    guards = tuple(analysis.guards.values())
    objects, others = Objects.of(guards)
    kinds = {g.kind for g in guards}
    lists, is_older = tuple(appends.values()), analysis.is_older
    return Loop(
        index,
        objects,
        others,
        lists,
        is_older,
        analysis.has_products,
        "fresh" in kinds,
        bool(kinds & {"mask", "constant"}),
    )


_OWN = 3
"""Most references to a list that only a function's name stands for, while it is counted: that of the name, that of
`f_locals`, and the argument."""


def _is_its_own(code: CodeType, names: Mapping[str, object], name: str) -> bool:
    """Whether a name of a running function stands for a list that nothing else knows: what an iteration does cannot
    depend on how long it is."""
    return (
        name in code.co_varnames
        and name not in code.co_cellvars
        and type(names.get(name)) is list
        and sys.getrefcount(names[name]) <= _OWN
    )
