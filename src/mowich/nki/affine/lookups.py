"""The names of a function whose loop is read, and what is looked up of them before the loop: each time that it is
entered, what was found has to hold again (`LoopGuard`). Then what a call is one of: an instruction, a view, a function
of the language of either interface or of Python."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import MethodType
from typing import Any

from mowich.nki.affine.classes import Refused, Value
from mowich.nki.affine.guards import LoopGuard, over_values
from mowich.nki.affine.source import CLOSED, compiled, parts_of, text_of


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


TILE_VIEWS = _words(
    "reshape permute broadcast broadcast_to expand_dim expand_dims squeeze_dim reshape_dim flatten_dims rearrange view"
    " reinterpret_cast"
)
NEW_TILES = _words("ndarray zeros ones full zeros_like empty_like")
OF_TILES = _words(
    "load store broadcast_to expand_dims load_transpose2d transpose matmul sum prod max min all mean var softmax"
    " rms_norm where static_cast"
)
ASKED = _words("program_id num_programs program_ndim is_hbm is_sbuf is_psum is_on_chip par_dim")
NEWER_LANGUAGE = "mowich.nki.language"
OLDER_LANGUAGE, OLDER_ISA, OLDER_TENSOR = (f"mowich.nki.beta1.{part}" for part in ("language", "isa", "tensor"))
OLDER_NEW = _words("load store load_transpose2d transpose matmul sum prod max min all any mean var softmax where")
"""Functions of the older language whose result is a new tensor."""
RANGES = _words("affine_range sequential_range static_range")
NOT_ISSUED = _words(
    "register_alloc register_move register_load register_store core_barrier sendrecv rng set_rng_seed rand_set_state"
    " rand_get_state get_nc_version get_nc_sub_version"
)
NUMBERS = _words("offset operand0 operand1")
"""Arguments of instructions that take a number which neither time nor trace depends on."""
PURE = _words(
    "min max abs int float bool len sum divmod round isinstance list tuple slice range enumerate zip reversed str type"
    " all any"
)
"""Functions of Python that change nothing."""


def module_of(f: object) -> str:
    """The module of a function; that of the language for its operators."""
    return str(getattr(f, "__module__", "") or "") if not is_operator(f) else NEWER_LANGUAGE


def is_older_tensor(x: object) -> bool:
    """Whether something is a tensor of the older interface."""
    return type(x).__module__ == OLDER_TENSOR


def is_pure(f: object) -> bool:
    """Whether something is one of the functions of Python that change nothing."""
    return function_name(f) in PURE and f is getattr(builtins, function_name(f))


def is_operator(f: object) -> bool:
    """Whether something is an operator of the language, as `nl.add`."""
    return type(f).__module__ == NEWER_LANGUAGE and hasattr(f, "op_name")


def function_name(f: object) -> str:
    """The name of a function or an operator, "" for None."""
    return str(getattr(f, "op_name", "") or getattr(f, "__name__", "")) if f is not None else ""


@dataclass(slots=True)
class Scope:
    """The names of one function. names: those that it sees when the loop is entered; assigned: names that the loop, or
    the function, assigns; known: what they are so far; is_frame: it is the running one; returned: what it gives
    back."""

    names: dict[str, object]
    assigned: frozenset[str]
    known: dict[str, Value]
    is_frame: bool
    returned: Value | None = None

    def is_closed(self, e: ast.expr, index: str = "") -> bool:
        """Whether an expression can be looked up before the loop: it has no effect, and its names are not assigned in
        the loop. index: a name that is one of the loop's own and may be in it."""
        names, calls = parts_of(e)
        if names is None or any(getattr(builtins, c) is not self.names.get(c, getattr(builtins, c)) for c in calls):
            return False
        mine = names & self.assigned
        return not mine or (self.is_frame and mine == {index})

    def look_up(self, e: ast.expr) -> Any:
        """The value of an expression now. Raises Refused where it has none."""
        try:
            return eval(compiled(e), self.names, {})
        except Exception as error:
            raise Refused(f"{text_of(e)} has no value: {error}") from None


@dataclass(slots=True)
class Lookups:
    """What is looked up of one loop. values: of its index, now; guards: what has to hold when it is entered."""

    index: str
    values: range
    guards: dict[tuple[str, str, int], LoopGuard] = field(default_factory=dict)

    def is_constant(self, e: ast.expr, scope: Scope) -> bool:
        """Whether an expression is the same integer for all values of the index but the last, as the loop is entered
        now."""
        try:
            found = over_values(text_of(e), self.index, scope.names, self.values[:-1])
        except Exception:  # the kernel will meet it as well
            return False
        return len(found) > 1 and all(type(x) is int for x in found) and len(set(found)) == 1

    def guard(self, kind: str, e: ast.expr, scope: Scope, expected: object = None) -> None:
        """Look an expression up each time that the loop is entered."""
        if kind in ("tiles", "columns", "same", "affine", "constant") and not scope.is_frame:
            raise Refused("the index is looked up in another function")
        text = text_of(e)
        key = (kind, text, 0 if scope.is_frame else id(scope.names))
        if key not in self.guards:
            names = None if scope.is_frame else scope.names
            self.guards[key] = LoopGuard(kind, text, compiled(e), expected, names)

    def function(self, e: ast.expr, scope: Scope) -> Any:
        """The function that an expression stands for now; that it still is, is guarded."""
        if not scope.is_closed(e):
            raise Refused(f"{text_of(e)} is not known before the loop")
        f = scope.look_up(e)
        if isinstance(f, MethodType):  # each look-up makes another one
            self.guard("type", e, scope, MethodType)
            if isinstance(e, ast.Attribute):
                self.guard("is", e.value, scope, f.__self__)
        else:
            self.guard("is", e, scope, f)
        return f

    def is_language(self, e: ast.expr, scope: Scope, names: Sequence[str]) -> bool:
        """Whether an expression is one of these functions of `nki.language`."""
        f = self.function(e, scope)
        return module_of(f) in (NEWER_LANGUAGE, OLDER_LANGUAGE) and function_name(f) in names

    def is_older_function(self, e: ast.expr, scope: Scope) -> bool:
        """Whether a function is one of the older language."""
        return module_of(self.function(e, scope)) == OLDER_LANGUAGE

    def mask(self, e: ast.Compare, scope: Scope) -> None:
        """A predicate of the index has to leave nothing out in the last iteration that is repeated: it is looked up
        when the loop is entered."""
        names = {n.id for n in ast.walk(e) if isinstance(n, ast.Name)}
        for node in ast.walk(e):
            if isinstance(node, ast.Call):
                if not self.is_language(node.func, scope, ("arange",)) or node.keywords:
                    raise Refused("a mask that is not known before the loop")
            elif not isinstance(node, (ast.Name, *CLOSED)):
                raise Refused("a mask that is not known before the loop")
        if names & scope.assigned - {self.index} or any(is_older_tensor(scope.names.get(n)) for n in names):
            raise Refused("a mask that is not known before the loop")
        self.guard("mask", e, scope)

    def is_plain(self, e: ast.Call, scope: Scope) -> bool:
        """Whether a new tensor is seen to have no dimension before its partitions."""
        shape = e.args[0] if e.args else next((k.value for k in e.keywords if k.arg == "shape"), None)
        if not isinstance(shape, ast.Tuple | ast.List) or not shape.elts:
            return False
        first = shape.elts[0]
        if isinstance(first, ast.Call) and getattr(self.function(first.func, scope), "__name__", "") == "par_dim":
            return True
        for n in shape.elts[1:]:
            if isinstance(n, ast.Constant):
                continue
            if not scope.is_closed(n) or type(scope.look_up(n)) is not int:
                return False
            self.guard("type", n, scope, int)
        return True

    def is_in_column(self, e: ast.Subscript, scope: Scope) -> bool:
        """Whether an expression is a tile at a place that the index tells, in one of some lists from before the loop:
        which one of them, a loop within tells."""
        if not scope.is_frame or not scope.is_closed(e.slice, self.index):
            return False
        rows, deep, keys = e.value, 0, [e.slice]
        while isinstance(rows, ast.Subscript) and not scope.is_closed(rows):
            keys.append(rows.slice)
            rows, deep = rows.value, deep + 1
        if not deep or not scope.is_closed(rows) or any(isinstance(k, ast.Slice | ast.Tuple) for k in keys):
            return False
        self.guard("columns", ast.Tuple([rows, e.slice], ast.Load()), scope, deep)
        return True
