"""Arguments for a kernel that nobody gave any: shapes, formats and numbers, drawn from what its text says of them."""

from __future__ import annotations

import ast
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mowich.neuroncore.dtypes import as_dtype
from mowich.nki.check.program import Code, assigned_values, resolved_name
from mowich.nki.check.sandbox import Sandbox, Unknown
from mowich.nki.hollows import hollow

DRAWN_FORMATS = ("float32", "bfloat16", "float16", "int32", "uint8", "float8_e4m3", "uint32", "int8", "float8_e5m2")
"""Formats that are drawn, usual ones first."""
DRAWN_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""Sizes that are drawn beside those that the text names."""
LARGEST_SIZE = 4096
"""Of a dimension that is drawn."""
ELEMENTS = (1 << 13, 1 << 14, 1 << 16)
"""Of a tensor that is drawn, at most."""
COMPUTED_ELEMENTS = 1 << 18
"""Of the tensors of a run that computes; larger ones have no values."""
DRAWN_RANKS = (*(2,) * 16, 3, 3, 1, 4)
"""Dimensions of a tensor whose text says nothing of them."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor in HBM that a kernel is tried on."""

    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}".replace(" ", "")


Spec = TensorSpec | int | float | bool | str | None | type[Unknown]
"""An argument; `Unknown`: one that is not known."""
Given = dict[str, Spec]
"""The arguments of a run, by name."""


@dataclass(slots=True)
class Evidence:
    """What the text says of an argument. ranks: dimensions that it may have, at least `least`; is_tensor: it is used as
    one; is_other: as something else; default: what it is where nobody gives it."""

    ranks: set[int] = field(default_factory=set)
    least: int = 0
    is_tensor: bool = False
    is_other: bool = False
    default: ast.expr | None = None


def evidence_of(code: Code) -> dict[str, Evidence]:
    """What the text of a kernel, and of functions that it hands its arguments to, says of them."""
    args = code.node.args
    named = [*args.posonlyargs, *args.args]
    out = {a.arg: Evidence() for a in (*named, *args.kwonlyargs)}
    for a, default in zip(named[len(named) - len(args.defaults) :], args.defaults, strict=True):
        out[a.arg].default = default
    for a, given in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        out[a.arg].default = given
    _look(code, out, 3)
    return out


_OF_TENSORS = ("shape", "dtype", "reshape", "ap", "buffer", "ndim", "permute", "broadcast_to", "view", "slice")
_LOADS = ("load", "dma_copy", "load_transpose2d", "dma_transpose", "store")


def _look(code: Code, of: Mapping[str, Evidence], depth: int) -> None:
    """Note what a function does with its names `of`."""
    shapes: dict[str, Evidence] = {}
    for n in ast.walk(code.node):
        if isinstance(n, ast.Attribute) and (e := _named(n.value, of)) is not None:
            if n.attr in _OF_TENSORS:
                e.is_tensor = True
            else:
                e.is_other = True
        elif isinstance(n, ast.Assign):
            _assigned(n, of, shapes)
        elif isinstance(n, ast.Subscript):
            _subscripted(n, of, shapes)
        elif isinstance(n, ast.For) and (e := _named(n.iter, of)) is not None:
            e.is_other = True
        elif isinstance(n, ast.Compare):
            _compared(n, of, shapes)
        elif isinstance(n, ast.Call):
            _called(code, n, of, depth)


def _named(e: ast.expr | None, of: Mapping[str, Evidence]) -> Evidence | None:
    return of.get(e.id) if isinstance(e, ast.Name) else None


def _shape_of(e: ast.expr, of: Mapping[str, Evidence], shapes: Mapping[str, Evidence]) -> Evidence | None:
    """The argument whose shape an expression is."""
    if isinstance(e, ast.Attribute) and e.attr == "shape":
        return _named(e.value, of)
    return shapes.get(e.id) if isinstance(e, ast.Name) else None


def _assigned(n: ast.Assign, of: Mapping[str, Evidence], shapes: dict[str, Evidence]) -> None:
    for target in n.targets:
        e = _shape_of(n.value, of, shapes)
        if e is not None and isinstance(target, ast.Tuple | ast.List):
            if any(isinstance(t, ast.Starred) for t in target.elts):
                e.least = max(e.least, len(target.elts) - 1)
            else:
                e.ranks.add(len(target.elts))
        elif e is not None and isinstance(target, ast.Name):
            shapes[target.id] = e


def _subscripted(n: ast.Subscript, of: Mapping[str, Evidence], shapes: Mapping[str, Evidence]) -> None:
    e = _shape_of(n.value, of, shapes)
    if e is not None:
        at = n.slice.operand if isinstance(n.slice, ast.UnaryOp) else n.slice
        if isinstance(at, ast.Constant) and isinstance(at.value, int):
            e.least = max(e.least, at.value + (not isinstance(n.slice, ast.UnaryOp)))
        return
    e = _named(n.value, of)
    if e is None:
        return
    keys = n.slice.elts if isinstance(n.slice, ast.Tuple) else [n.slice]
    if isinstance(n.slice, ast.Constant) and isinstance(n.slice.value, str):
        e.is_other = True
    elif isinstance(n.slice, ast.Tuple | ast.Slice):
        e.is_tensor = True
    if not any(isinstance(k, ast.Constant) and k.value in (Ellipsis, None) for k in keys):
        e.least = max(e.least, len(keys))


def _compared(n: ast.Compare, of: Mapping[str, Evidence], shapes: Mapping[str, Evidence]) -> None:
    """`len(x.shape) == 3`, `x.shape == (4, 8)`"""
    for a, b in zip([n.left, *n.comparators], n.comparators, strict=False):
        if isinstance(b, ast.Tuple) and (e := _shape_of(a, of, shapes)) is not None:
            e.ranks.add(len(b.elts))
        if isinstance(b, ast.Constant) and isinstance(b.value, int) and isinstance(a, ast.Call) and a.args:
            e = _shape_of(a.args[0], of, shapes)
            if e is not None and isinstance(a.func, ast.Name) and a.func.id == "len":
                e.ranks.add(b.value)


def _called(code: Code, n: ast.Call, of: Mapping[str, Evidence], depth: int) -> None:
    """Arguments handed on: to an instruction that takes tensors, or to a function of a file at hand."""
    last = n.func.attr if isinstance(n.func, ast.Attribute) else n.func.id if isinstance(n.func, ast.Name) else ""
    if last in _LOADS:
        for a in (*n.args[:2], *(k.value for k in n.keywords if k.arg in ("src", "dst"))):
            e = _named(a, of)
            if e is not None:
                e.is_tensor = True
        return
    if not depth or not any(_named(a, of) for a in (*n.args, *(k.value for k in n.keywords))):
        return
    found = resolved_name(code.module, n.func)
    if found is None or found[1] is code.node:
        return
    module, node = found
    if isinstance(node, ast.ClassDef):
        return
    names = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
    handed = dict(zip(names, n.args, strict=False)) | {k.arg: k.value for k in n.keywords if k.arg is not None}
    inner = {name: e for name, a in handed.items() if (e := _named(a, of)) is not None}
    if inner:
        _look(Code(module, node, node.name, False, code.older), inner, depth - 1)


def sizes_of(codes: Sequence[Code]) -> list[int]:
    """Whole numbers that these functions name, and small multiples of them: sizes that a kernel may ask for."""
    found: set[int] = set()
    for code in codes:
        values = assigned_values(code.module)
        for n in ast.walk(code.node):
            found |= set(_whole(n))
            if isinstance(n, ast.Name) and n.id in values:
                found |= {v for e in values[n.id] for inner in ast.walk(e) for v in _whole(inner)}
    named = sorted(n for n in found if 1 < n <= LARGEST_SIZE)
    return named


def _whole(n: ast.AST) -> Iterator[int]:
    if isinstance(n, ast.Constant) and type(n.value) is int:
        yield n.value


def _length(node: ast.AST) -> int:
    """Of what Python 3.11 prints of a tree: later ones leave out what is empty, and have fields more."""
    whole = {"show_empty": True} if sys.version_info >= (3, 13) else {}
    return len(ast.dump(node, **whole).replace(", type_params=[]", ""))


class Drawing:
    """Draws arguments. sizes: that the text names."""

    def __init__(self, code: Code, sizes: Sequence[int]) -> None:
        self.evidence = evidence_of(code)
        self.used = {n.id for n in ast.walk(code.node) if isinstance(n, ast.Name)}
        self.rng = random.Random(_length(code.node))
        several = [n * k for n in sizes for k in (2, 3, 4) if n * k <= LARGEST_SIZE]
        self.named = list(sizes)
        self.most = ELEMENTS[0]
        self.sizes = [*sizes, *sizes, *several, *DRAWN_SIZES]

    def draw(self) -> Given:
        """Arguments that have few sizes between them: so dimensions that must be equal often are."""
        rng = self.rng
        palette = [rng.choice(self.sizes) for _ in range(rng.choice((1, 2, 2, 3, 4)))]
        usual = rng.choice(DRAWN_FORMATS[:2]) if rng.random() < 0.8 else rng.choice(DRAWN_FORMATS)
        self.most = rng.choice(ELEMENTS)
        return {name: self._one(e, palette, usual) if name in self.used else None for name, e in self.evidence.items()}

    def _one(self, e: Evidence, palette: Sequence[int], usual: str) -> Spec:
        rng = self.rng
        if e.default is not None:
            try:
                value = ast.literal_eval(e.default)
            except ValueError:
                return Unknown
            if value is None and e.is_tensor and rng.random() < 0.5:
                return self._tensor(e, palette, usual)
            if isinstance(value, bool):
                return rng.random() < 0.5
            return value if isinstance(value, int | float | str | None) and rng.random() < 0.7 else Unknown
        if e.is_other or not (e.is_tensor or e.ranks):
            return Unknown
        return self._tensor(e, palette, usual)

    def _tensor(self, e: Evidence, palette: Sequence[int], usual: str) -> TensorSpec:
        rng = self.rng
        if e.ranks:
            rank = rng.choice(sorted(e.ranks))
        elif e.least:
            rank = e.least + (rng.random() < 0.2)
        else:
            rank = rng.choice(DRAWN_RANKS)
        dtype = usual if rng.random() < 0.85 else rng.choice(DRAWN_FORMATS)
        shape = [rng.choice(palette) for _ in range(rank)]
        while np.prod(shape, dtype=np.float64) > self.most:
            shape[shape.index(max(shape))] //= 2
        return TensorSpec(tuple(shape), dtype)


def argument(spec: Spec, box: Sandbox) -> object:
    """An argument of a run. Tensors of whole numbers are 0, so that each index that is read is one."""
    if spec is Unknown:
        return Unknown(box)
    if not isinstance(spec, TensorSpec):
        return spec
    if not box.values:
        return hollow(spec.shape, spec.dtype)
    kind = as_dtype(spec.dtype)
    return (np.ones if kind.is_float else np.zeros)(spec.shape, kind.dtype)
