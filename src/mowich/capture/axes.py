"""Axes of tensors, followed through a graph: where the columns of a product go when they are split into heads, cut,
joined, turned and multiplied.

A dimension of an activation is a list of factors, outermost first. A factor is an axis (a number of `Axes`) or plain: a
size that no product made, written as its negative (-128: 128 tokens). A dimension of one element has no factors.
An axis may turn out to be a product of smaller axes (columns that are heads x width) or several axes one behind another
(queries, keys and values in one weight); all activations that have the axis then have these. Two axes that must be
split alike are one.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

Dim = tuple[int, ...]
Dims = tuple[Dim, ...]

NORMED, MIXED, LOST = 1, 2, 4
"""What stands against splitting an axis: a norm or a sum over it (a small exchange heals it), something that needs it
whole, and an operation that is not understood."""


def plain(shape: tuple[int, ...]) -> Dims:
    """Dimensions that no product made.

    >>> plain((2, 1, 128))
    ((-2,), (), (-128,))
    """
    return tuple((-size,) if size > 1 else () for size in shape)


@dataclass(slots=True)
class Axes:
    """All axes of a graph. parent: of two that are one; sizes; marks: NORMED, MIXED, LOST of each; products, chains:
    what an axis turned out to be."""

    parent: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    products: dict[int, Dim] = field(default_factory=dict)
    chains: dict[int, Dims] = field(default_factory=dict)
    joined: dict[Dims, int] = field(default_factory=dict)

    def new(self, size: int, marks: int = 0) -> Dim:
        """A dimension of an axis of its own.

        >>> axes = Axes()
        >>> axes.new(12), axes.new(1)
        ((0,), ())
        """
        if size <= 1:
            return ()
        self.parent.append(len(self.parent))
        self.sizes.append(size)
        self.marks.append(marks)
        return (len(self.parent) - 1,)

    def root(self, axis: int) -> int:
        """The axis that stands for it."""
        top = axis
        while self.parent[top] != top:
            top = self.parent[top]
        while self.parent[axis] != top:
            self.parent[axis], axis = top, self.parent[axis]
        return top

    def factors(self, dim: Dim) -> list[int]:
        """The factors of an axis that are known so far."""
        found: list[int] = []
        for factor in dim:
            if factor < 0:
                found.append(factor)
                continue
            axis = self.root(factor)
            if axis in self.products:
                found += self.factors(self.products[axis])
            else:
                found.append(axis)
        return found

    def size(self, factor: int) -> int:
        """Elements of a factor."""
        return -factor if factor < 0 else self.sizes[factor]

    def width(self, dim: Dim) -> int:
        """Elements of a dimension."""
        count = 1
        for factor in dim:
            count *= self.size(factor)
        return count

    def leaves(self, dim: Dim) -> list[int]:
        """The axes that it is made of, chains taken apart."""
        found: list[int] = []
        for factor in self.factors(dim):
            if factor < 0:
                continue
            parts = self.chains.get(factor)
            if parts is None:
                found.append(factor)
            else:
                for part in parts:
                    found += self.leaves(part)
        return found

    def mark(self, dim: Dim, marks: int) -> None:
        """Something stands against splitting what the dimension is made of."""
        for leaf in self.leaves(dim):
            self.marks[leaf] |= marks

    # ---- taking apart

    def split(self, factor: int, outer: int) -> tuple[Dim, Dim] | None:
        """A factor as `outer` times the rest; None where `outer` does not divide it."""
        size = self.size(factor)
        if size % outer:
            return None
        inner = size // outer
        if outer == 1 or inner == 1:
            return ((), (factor,)) if outer == 1 else ((factor,), ())
        if factor < 0:
            return (-outer,), (-inner,)
        parts = self.chains.get(factor)
        if parts is None:
            pair = self.new(outer, self.marks[factor]), self.new(inner, self.marks[factor])
        else:
            if any(self.width(part) % inner for part in parts):
                self.mark((factor,), LOST)
                return None
            apart = [self.cut_outer(part, self.width(part) // inner) for part in parts]
            if any(one is None for one in apart):
                self.mark((factor,), LOST)
                return None
            known = [one for one in apart if one is not None]
            for one in known[1:]:
                self.unite(known[0][1], one[1])
            pair = self.chain([one[0] for one in known], [self.width(part) // inner for part in parts]), known[0][1]
            self.chains.pop(factor, None)
        self.products[factor] = (*pair[0], *pair[1])
        return pair

    def cut_outer(self, dim: Dim, outer: int) -> tuple[Dim, Dim] | None:
        """A dimension as `outer` times the rest."""
        laid = self.lay(self.factors(dim), (outer, self.width(dim) // outer))
        return None if laid is None else (laid[0], laid[1])

    def lay(self, factors: list[int], shape: tuple[int, ...]) -> list[Dim] | None:
        """Factors laid into dimensions of these sizes, outermost first; None where they do not fit."""
        rest = factors[::-1]
        dims: list[Dim] = []
        for size in shape:
            dim: list[int] = []
            need = size
            while need > 1:
                if not rest:
                    return None
                factor = rest.pop()
                have = self.size(factor)
                if need % have == 0:
                    need //= have
                    dim += self.factors((factor,))
                    continue
                pair = self.split(factor, need) if have % need == 0 else None
                if pair is None:
                    return None
                rest += self.factors(pair[1])[::-1]
                rest += self.factors(pair[0])[::-1]
            dims.append(merged(dim))
        return dims

    def cut(self, dim: Dim, start: int, stop: int) -> Dim:
        """Elements start to stop of a dimension."""
        factors = self.factors(dim)
        width = self.width(dim)
        if stop - start >= width:
            return dim
        if stop - start <= 0 or not factors:
            return ()
        inner = 1
        for factor in factors[1:]:
            inner *= self.size(factor)
        if inner > 1:
            if start % inner == 0 and stop % inner == 0:
                return (*self.cut((factors[0],), start // inner, stop // inner), *factors[1:])
            if start // inner == (stop - 1) // inner:
                self.cut((factors[0],), start // inner, start // inner + 1)
                return self.cut(tuple(factors[1:]), start % inner, (stop - 1) % inner + 1)
            self.mark(dim, LOST)
            return plain((stop - start,))[0]
        factor = factors[0]
        if factor < 0:
            return plain((stop - start,))[0]
        parts = self.chains.get(factor)
        if parts is None:
            bounds = sorted({0, start, stop, width})
            sizes = [end - begin for begin, end in itertools.pairwise(bounds)]
            made = [self._part(size, self.marks[factor]) for size in sizes]
            self.chains[factor] = tuple(made)
            return made[bounds.index(start)]
        return self._cut_chain(factor, parts, start, stop)

    def _part(self, size: int, marks: int) -> Dim:
        """A part of a chain; one of a single element too is an axis, that cannot be split."""
        self.parent.append(len(self.parent))
        self.sizes.append(size)
        self.marks.append(marks)
        return (len(self.parent) - 1,)

    def _cut_chain(self, axis: int, parts: Dims, start: int, stop: int) -> Dim:
        kept: list[Dim] = []
        refined: list[Dim] = []
        at = 0
        for part in parts:
            width = self.width(part)
            low, high = max(start, at) - at, min(stop, at + width) - at
            if low >= high:
                refined.append(part)
            elif high - low == width:
                refined.append(part)
                kept.append(part)
            else:
                middle = self.cut(part, low, high)
                refined += [
                    one
                    for one in (
                        self.cut(part, 0, low) if low else (),
                        middle,
                        self.cut(part, high, width) if high < width else (),
                    )
                    if one
                ]
                kept.append(middle)
            at += width
        if axis in self.chains and sum(self.width(part) for part in refined) == self.sizes[axis]:
            self.chains[axis] = tuple(refined)
        return self.chain(kept, [self.width(part) for part in kept])

    def chain(self, parts: list[Dim], sizes: list[int]) -> Dim:
        """Dimensions one behind another, of these sizes."""
        total = sum(sizes)
        if total <= 1:
            return ()
        if len(parts) == 1:
            return parts[0]
        if not any(self.leaves(part) for part in parts):
            return (-total,)
        filled = tuple(part if part else self._part(1, 0) for part in parts)
        flat: list[Dim] = []
        for part in filled:
            factors = self.factors(part)
            flat += self.chains[factors[0]] if len(factors) == 1 and factors[0] in self.chains else (tuple(factors),)
        key = tuple(flat)
        known = self.joined.get(key)
        if known is not None and self.root(known) in self.chains:
            return (known,)
        dim = self.new(total)
        self.chains[dim[0]] = key
        self.joined[key] = dim[0]
        return dim

    # ---- making one

    def unite(self, one: Dim, other: Dim) -> None:
        """Two dimensions of the same size are split alike."""
        left, right = ([f for f in self.factors(dim)[::-1] if self.size(f) > 1] for dim in (one, other))
        while left and right:
            a, b = left.pop(), right.pop()
            if self.size(a) == self.size(b):
                self._join(a, b)
                continue
            big, small, rest = (a, b, left) if self.size(a) > self.size(b) else (b, a, right)
            (right if rest is left else left).append(small)
            pair = self.split(big, self.size(small))
            if pair is None:
                break
            rest += [f for half in pair[::-1] for f in self.factors(half)[::-1] if self.size(f) > 1]
        else:
            return
        self.mark(one, LOST)
        self.mark(other, LOST)

    def unite_outer(self, one: Dim, other: Dim) -> None:
        """The narrower dimension is the outer factor of the other: heads of keys and heads of queries that share
        them."""
        if self.width(one) < self.width(other):
            one, other = other, one
        if not other:
            return
        pair = self.cut_outer(one, self.width(other))
        if pair is None:
            self.mark(one, LOST)
            self.mark(other, LOST)
        else:
            self.unite(pair[0], other)

    def _join(self, a: int, b: int) -> None:
        if a < 0 or b < 0:
            return
        a, b = self.root(a), self.root(b)
        if a == b:
            return
        if a in self.products or b in self.products:
            self.unite((a,), (b,))
            return
        if b in self.chains and a not in self.chains:
            a, b = b, a
        theirs = self.chains.pop(b, None)
        ours = self.chains.get(a)
        self.parent[b] = a
        if ours is None:
            self.marks[a] |= self.marks[b]
        elif theirs is None:
            self.mark((a,), self.marks[b])
        else:
            self._align(a, ours, theirs)

    def _align(self, axis: int, ours: Dims, theirs: Dims) -> None:
        bounds = sorted({0, *self._ends(ours), *self._ends(theirs)})
        spans = list(itertools.pairwise(bounds))
        for begin, end in spans:
            self.unite(self._within(ours, begin, end), self._within(theirs, begin, end))
        if axis in self.chains:
            self.chains[axis] = tuple(self._within(ours, begin, end) or self._part(1, 0) for begin, end in spans)

    def _ends(self, parts: Dims) -> list[int]:
        ends, at = [], 0
        for part in parts:
            at += self.width(part)
            ends.append(at)
        return ends

    def _within(self, parts: Dims, begin: int, end: int) -> Dim:
        at = 0
        for part in parts:
            width = self.width(part)
            if at <= begin and end <= at + width:
                return self.cut(part, begin - at, end - at)
            at += width
        return ()

    # ---- what may be split

    def leads(self, dim: Dim) -> list[tuple[int | None, int]]:
        """(axis, elements) of each part of a dimension that is split as one: its outermost axis that has several
        elements; (None, elements) where there is none."""
        width = self.width(dim)
        for factor in self.factors(dim):
            if factor < 0:
                continue
            parts = self.chains.get(factor)
            if parts is None:
                if self.sizes[factor] > 1:
                    return [(factor, width)]
            elif any(self.width(part) > 1 for part in parts):
                share = width // self.sizes[factor]
                found = [(axis, size * share) for part in parts for axis, size in self.leads(part)]
                if any(axis is not None for axis, _ in found):
                    return found
        return [(None, width)]


def merged(factors: list[int]) -> Dim:
    """Neighbours that are plain become one.

    >>> merged([-2, -3, 7])
    (-6, 7)
    """
    dim: list[int] = []
    for factor in factors:
        if dim and factor < 0 and dim[-1] < 0:
            dim[-1] = -(factor * dim[-1])
        else:
            dim.append(factor)
    return tuple(dim)
