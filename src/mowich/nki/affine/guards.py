"""What has to hold in the running kernel when a loop is entered."""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

import numpy as np

from mowich.neuroncore.access import storage_of
from mowich.neuroncore.memory import ALL, Storage
from mowich.neuroncore.views import Tile


@dataclass(frozen=True, slots=True)
class LoopGuard:
    """Something to look up in the running kernel when the loop is entered. text: an expression over names that the loop
    does not assign; kind: "is" (the object `expected`), "type" (its type), "items" (lists in lists, `expected` deep, of
    tiles), "tiles" (a tile, or a list `expected` deep of tiles, for each value of the index, all alike, in affine
    places), "columns" (lists, in lists `expected` deep, and a place in each of them: for each value of the index the
    tiles there, all alike, in affine places), "blocks" (a tensor of the older interface and numbers of one of its
    blocks: for each value of the index a block that is there and written, all in affine places; or some are not there,
    and the loop makes them), "fresh" (nothing: blocks of such a tensor that are made in the iteration alone), "mask" (a
    predicate that leaves nothing out for the last value of the index), "affine" (an integer that is affine in the
    index), "constant" (an integer, the same for each value of the index), "same" (as true or false for each value of
    the index); names: the globals of the function that it stands in, None: of the kernel's own frame."""

    kind: str
    text: str
    code: CodeType
    expected: Any = None
    names: Mapping[str, object] | None = None

    def holds(
        self, frame: FrameType, locals_: dict[str, object], index: str, values: range, storages: dict[int, Storage]
    ) -> bool:
        """Whether it is so now. locals_: names of the frame; storages: gets those of the tiles that were looked at."""
        globals_: Any = frame.f_globals if self.names is None else self.names
        try:
            if self.kind == "fresh":
                return True
            if self.kind == "is":
                return eval(self.code, globals_, locals_) is self.expected
            if self.kind == "type":
                return type(eval(self.code, globals_, locals_)) is self.expected
            if self.kind == "items":
                return all_tiles(eval(self.code, globals_, locals_), self.expected)
            if self.kind == "mask":
                locals_[index] = values[-1]
                mask = eval(self.code, globals_, locals_)
                return bool(mask.holds() if hasattr(mask, "holds") else np.all(mask))
            found = self._over(globals_, locals_, index, values)
            if self.kind == "columns":
                return are_affine([_column(rows, place, self.expected) for rows, place in found], storages)
        except Exception:  # the kernel will meet it as well
            return False
        if self.kind == "blocks":
            tiles = [x.block(*at) for x, at in found]
            if any(t is None for t in tiles):
                return True  # no storage is noted: those that the loop touches must be made by it
            return all(storage_of(t).state == ALL for t in tiles) and are_affine([[t] for t in tiles], storages)
        if self.kind == "same":
            return all(type(x) is bool for x in found) and len(set(found)) == 1
        if self.kind == "constant":
            return all(type(x) is int for x in found) and len(set(found)) == 1
        if self.kind == "affine":
            steps = {b - a for a, b in itertools.pairwise(found)} if all(type(x) is int for x in found) else ()
            return len(steps) == 1
        rows = _rows_of(found, self.expected)
        return rows is not None and are_affine(rows, storages)

    @property
    def may_scatter(self) -> bool:
        """Whether it may be so that integers are known that follow no pattern."""
        return self.kind in ("affine", "tiles")

    def numbers(
        self, frame: FrameType, locals_: dict[str, object], index: str, values: range, storages: dict[int, Storage]
    ) -> list[list[int]] | None:
        """Where this does not hold: the integers that the places of an iteration go by all the same, one of each column
        for each value of the index. None: there are none. Of a mask, which has to leave nothing out for any value: no
        column."""
        if not self.may_scatter and self.kind != "mask":
            return None
        try:
            found = self._over(frame.f_globals, locals_, index, values)
        except Exception:  # the kernel will meet it as well
            return None
        if self.kind == "mask":
            return [] if all(m.holds() if hasattr(m, "holds") else np.all(m) for m in found) else None
        if self.kind == "affine":
            return [found] if set(map(type, found)) == {int} else None
        rows = _rows_of(found, self.expected)
        if rows is None or not are_alike(rows, storages):
            return None
        columns = list(zip(*rows, strict=True))
        return [[of(t) for t in column] for column in columns for of in (_number_of, _offset_of)]

    def _over(self, globals_: Any, locals_: dict[str, object], index: str, values: range) -> list[Any]:
        """The expression for each value of the index."""
        names = tuple([n for n in self.code.co_names if n in locals_ and n != index])
        found: list[Any] = eval(_over(self.text, index, names), globals_)(values, *[locals_[n] for n in names])
        return found


@dataclass(frozen=True, slots=True)
class Objects:
    """What names of the kernel's own frame have to stand for, looked up together: there are many such guards, and each
    one alone takes ten times as long."""

    code: CodeType | None = None
    expected: tuple[object, ...] = ()

    @staticmethod
    def of(guards: Sequence[LoopGuard]) -> tuple[Objects, tuple[LoopGuard, ...]]:
        """(Those of these guards that ask for an object, the others)."""
        mine = [g for g in guards if g.kind == "is" and g.names is None]
        others = tuple(g for g in guards if g.kind != "is" or g.names is not None)
        if not mine:
            return Objects(), others
        code = compile("".join(["(", *(f"({g.text}), " for g in mine), ")"]), "<guard>", "eval", dont_inherit=True)
        return Objects(code, tuple(g.expected for g in mine)), others

    def hold(self, frame: FrameType, locals_: dict[str, object]) -> bool:
        """Whether it is so now."""
        if self.code is None:
            return True
        try:
            return all(map(operator.is_, eval(self.code, frame.f_globals, locals_), self.expected))
        except Exception:  # the kernel will meet it as well
            return False


_VALUES = "__values"


@functools.lru_cache(4096)
def _over(text: str, index: str, names: tuple[str, ...]) -> CodeType:
    """A function of the values of the index and of names of the kernel's frame, which gives an expression for each
    value: at once, for one look-up each takes as long as an instruction."""
    given = ", ".join((_VALUES, *names))
    return compile(f"lambda {given}: [{text} for {index} in {_VALUES}]", "<guard>", "eval", dont_inherit=True)


def over_values(text: str, index: str, names: dict[str, object], values: range) -> list[object]:
    """What an expression is for each value of the index, with these names."""
    found: list[object] = eval(_over(text, index, ()), names)(values)
    return found


def _are_lists(found: Sequence[Any]) -> bool:
    """Whether these are lists as long as each other, with something in them."""
    return {list, tuple}.issuperset(map(type, found)) and len(found[0]) > 0 and len(set(map(len, found))) == 1


def _column(rows: object, place: object, deep: int) -> list[object]:
    """What stands at a place of each of some lists, in lists `deep` deep; nothing where they are no lists."""
    found: list[object] = [rows]
    for _ in range(deep):
        found = [y for x in _as_lists(found) for y in x]
    return [x[place] for x in _as_lists(found)] if type(place) is int else []


def _as_lists(found: Sequence[object]) -> list[Sequence[object]]:
    """The same, where all of them are lists; nothing otherwise."""
    lists: list[Sequence[object]] = [x for x in found if type(x) is list or type(x) is tuple]
    return lists if len(lists) == len(found) else []


def all_tiles(x: Any, deep: int) -> bool:
    """Whether something is a list of tiles that is not empty, or for deep > 1 a list of such lists."""
    if type(x) not in (list, tuple) or not x:
        return False
    return set(map(type, x)) == {Tile} if deep == 1 else all(all_tiles(y, deep - 1) for y in x)


def _rows_of(found: list[Any], deep: int) -> list[Any] | None:
    """The items of what was found, in lists `deep` deep, a row for each. None: they are no lists that are alike."""
    if not deep:
        return [[t] for t in found]
    for _ in range(deep - 1):
        if not _are_lists(found):
            return None
        found = [[y for x in row for y in x] if _are_lists(row) else [] for row in found]
    # a loop within may go through the items: they all have to move on by the same steps
    return found if _are_lists(found) else None


def _number_of(tile: Tile) -> int:
    """That of the storage of a tile."""
    return storage_of(tile).number


def _offset_of(tile: Tile) -> int:
    return tile.first.offset


def are_affine(found: Sequence[Sequence[Any]], storages: dict[int, Storage]) -> bool:
    """Whether all items for the values of an index, as many for each, are tiles that differ from one value to the next
    by the same steps in the storage's number and in the offset, and in nothing else. storages: gets those of the
    tiles."""
    if not are_alike(found, storages):
        return False
    tiles, width = list(itertools.chain.from_iterable(found)), len(found[0])
    return all(
        len(set(map(operator.sub, column[width:], column))) == 1
        for column in (list(map(_number_of, tiles)), list(map(_offset_of, tiles)))
    )


def are_alike(found: Sequence[Sequence[Any]], storages: dict[int, Storage]) -> bool:
    """Whether all items for the values of an index, as many for each, are tiles that differ from one value to the next
    in the storage's number and in the offset only. storages: gets those of the tiles."""
    tiles, width = list(itertools.chain.from_iterable(found)), len(found[0])
    if set(map(type, tiles)) != {Tile}:
        return False
    likes = [t if t.like is None else t.like for t in tiles]
    mine = [storage_of(t) for t in tiles]
    storages.update((s.number, s) for s in mine)
    pairs = set(zip(likes[:width] * (len(found) - 1), likes[width:], strict=True))
    return all(a.dynamic is None and (a is b or _is_alike(a, b)) for a, b in pairs)


def _is_alike(t: Tile, other: Tile) -> bool:
    """Whether two tiles differ in the number of the storage and in the offset only, and their offsets are known."""
    mine, its = storage_of(t), storage_of(other)
    return (
        t.shape == other.shape
        and t.strides == other.strides
        and t.dtype is other.dtype
        and other.dynamic is None
        and mine.layout == its.layout
        and mine.dtype is its.dtype
        and mine.core is its.core
    )
