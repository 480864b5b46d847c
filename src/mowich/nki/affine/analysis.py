"""Reads the body of a loop: statement after statement, and the functions of the kernel's own that it calls."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType

import numpy as np

from mowich.neuroncore.views import Tile
from mowich.nki.affine.classes import (
    INDEX,
    SAME,
    Constant,
    Handle,
    Index,
    Listed,
    Made,
    Mask,
    Mixed,
    Piece,
    Refused,
    Several,
    Value,
    View,
    alike_values,
    either,
    join,
    join_all,
    joined,
    said,
)
from mowich.nki.affine.guards import all_tiles
from mowich.nki.affine.lookups import (
    ASKED,
    NEW_TILES,
    NEWER_LANGUAGE,
    NOT_ISSUED,
    NUMBERS,
    OF_TILES,
    OLDER_ISA,
    OLDER_LANGUAGE,
    OLDER_NEW,
    RANGES,
    TILE_VIEWS,
    Lookups,
    Scope,
    function_name,
    is_older_tensor,
    is_operator,
    is_pure,
    module_of,
)
from mowich.nki.affine.source import multiplied_out, parts_of, stored, text_of, tree_of

INEQUALITIES = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
"""Comparisons of what is affine that hold in between where they hold at both ends."""
DEEPEST = 8
"""Calls within calls that are followed."""


@dataclass(slots=True)
class Analysis(Lookups):
    """One loop. appends: statements that append to a list from before the loop, once in each iteration, with the names
    of the lists; kept: lists made in an iteration (`kept_lists`)."""

    appends: dict[ast.stmt, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    depth: int = 0
    loops: int = 0  # nested loops around what is read now
    has_products: bool = False  # the index is multiplied by what may differ from turn to turn of a loop within
    is_older: bool = False  # the kernel is written for the older interface, whose instructions return tensors

    # statements
    # --------------------------------------------------------------------------------------------------------
    def body(self, statements: Sequence[ast.stmt], scope: Scope) -> None:
        """Read statements one after the other."""
        for s in statements:
            self.statement(s, scope)

    def statement(self, s: ast.stmt, scope: Scope) -> None:
        """Read a statement. Raises Refused for one that may leave something to the next iteration."""
        if s in self.appends:
            self.append(s, scope)
        elif isinstance(s, ast.Expr):
            if not isinstance(s.value, ast.Constant):
                self.value(s.value, scope)
        elif isinstance(s, ast.Assign):
            value = self.sharp(s.value, scope)
            for target in s.targets:
                self.assign(target, value, scope)
        elif isinstance(s, ast.AnnAssign):
            if s.value is not None:
                self.assign(s.target, self.value(s.value, scope), scope)
        elif isinstance(s, ast.AugAssign) and self.is_older and self.changed(s, scope):
            pass
        elif isinstance(s, ast.AugAssign):
            if not isinstance(s.target, ast.Name):
                raise Refused("an item or attribute is changed in place")
            before = self.value(ast.Name(s.target.id, ast.Load()), scope)
            if not isinstance(before, Constant | Index) or s.target.id not in scope.known:
                raise Refused(f"{s.target.id} is changed in place")
            after = self.arithmetic(s.op, before, self.value(s.value, scope))
            if isinstance(s.op, ast.Mult):
                self.multiplied(after, ast.Name(s.target.id, ast.Load()), s.value, scope)
            scope.known[s.target.id] = after if not self.loops else joined(before, after)
        elif isinstance(s, ast.For):
            self.loop(s, scope)
        elif isinstance(s, ast.If):
            self.condition(s.test, scope)
            known = dict(scope.known)
            self.body(s.body, scope)
            one, scope.known = scope.known, known
            self.body(s.orelse, scope)
            scope.known = either(one, scope.known)
        elif isinstance(s, ast.Assert):
            self.condition(s.test, scope)
        elif isinstance(s, ast.Return) and not scope.is_frame:
            scope.returned = join(scope.returned, self.value(s.value, scope) if s.value is not None else SAME)
        elif isinstance(s, ast.With) and len(s.items) == 1 and s.items[0].optional_vars is None:
            call = s.items[0].context_expr
            if not isinstance(call, ast.Call) or call.args or not self.is_language(call.func, scope, ("no_reorder",)):
                raise Refused("a context is entered")
            self.body(s.body, scope)
        elif isinstance(s, ast.Continue):
            if scope.is_frame and not self.loops:
                raise Refused("the loop goes on early")
        elif isinstance(s, ast.Break):
            if scope.is_frame and not self.loops:
                raise Refused("the loop is left early")
        elif not isinstance(s, ast.Pass | ast.Raise):
            raise Refused(f"{type(s).__name__} is not followed")

    def append(self, s: ast.stmt, scope: Scope) -> None:
        """A list from before the loop gets a tile in each iteration, or a list of tiles that nothing else knows: those
        of the iterations that do not run can be made, where they differ in the storage alone."""
        assert isinstance(s, ast.Expr)
        assert isinstance(s.value, ast.Call)
        given = s.value.args[0]
        found = self.value(given, scope)
        item: Value | None = found
        name = given.id if isinstance(given, ast.Name) else ""
        while isinstance(item, Made) and name in self.kept:
            item, name = item.root().item, self.kept[name]
        if self.is_older or not isinstance(item, View) or not item.fixed or not item.still:
            raise Refused(f"{self.appends[s]} gets a value that is {said(found)}")

    def loop(self, s: ast.For, scope: Scope) -> None:
        """A loop within: over a range, or over what a list holds. It is read until nothing new is found."""
        if s.orelse:
            raise Refused("a loop has an else")
        item = self.items(s.iter, scope)
        self.loops += 1
        for _ in range(4):
            before = dict(scope.known)
            self.assign(s.target, item, scope)
            self.body(s.body, scope)
            scope.known = either(before, scope.known)
            if all(alike_values(v, before.get(n)) for n, v in scope.known.items()):
                break
        else:
            raise Refused("values change their kind in a loop")
        self.loops -= 1

    def items(self, e: ast.expr, scope: Scope) -> Value:
        """The class of what a loop goes through."""
        if isinstance(e, ast.Call):
            f = self.function(e.func, scope) if not self.is_method(e, scope) else None
            if f is range or (module_of(f) in (NEWER_LANGUAGE, OLDER_LANGUAGE) and function_name(f) in RANGES):
                for a in (*e.args, *(k.value for k in e.keywords)):
                    self.constant(a, scope)
                return SAME
            if f is enumerate and len(e.args) == 1:
                return Several((SAME, self.items(e.args[0], scope)))
            if f is zip:
                return Several(tuple(self.items(a, scope) for a in e.args))
            if f is reversed and len(e.args) == 1:
                return self.items(e.args[0], scope)
        found = self.value(e, scope)
        if isinstance(found, Constant):
            return self.constant_item(e, scope)
        if isinstance(found, Listed):
            return Listed(found.deep - 1) if found.deep > 1 else View(True, False)
        if isinstance(found, Made):
            return found.root().item or SAME
        if isinstance(found, Several):
            return join_all(found.items)
        raise Refused(f"a loop goes through a value that is {said(found)}")

    def constant_item(self, e: ast.expr, scope: Scope) -> Value:
        """An item of something constant: a list that is known before the loop, as an iterator would go on from
        iteration to iteration."""
        if isinstance(e, ast.Tuple | ast.List):
            return SAME
        if not scope.is_closed(e) or type(scope.look_up(e)) not in (list, tuple, range, str):
            raise Refused("a loop goes through an object")
        if all_tiles(scope.look_up(e), 1):
            self.guard("items", e, scope, 1)
            return View(True, True)
        self.guard("type", e, scope, type(scope.look_up(e)))
        return SAME

    def assign(self, target: ast.expr, value: Value, scope: Scope) -> None:
        """target = value."""
        if isinstance(target, ast.Name):
            if scope.is_frame and target.id == self.index:
                raise Refused("the index is assigned")
            scope.known[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List):
            if any(isinstance(t, ast.Starred) for t in target.elts):
                raise Refused("a starred target")
            if isinstance(value, Several) and len(value.items) == len(target.elts):
                parts: Sequence[Value] = value.items
            elif isinstance(value, Constant):
                parts = [SAME] * len(target.elts)
            elif isinstance(value, Made):
                parts = [value.root().item or SAME] * len(target.elts)
            else:
                raise Refused("a tile is unpacked")
            for t, v in zip(target.elts, parts, strict=True):
                self.assign(t, v, scope)
        elif isinstance(target, ast.Subscript):
            base = self.value(target.value, scope)
            if isinstance(base, Made):
                self.constant(target.slice, scope)
                base.root().item = join(base.root().item, value)
            elif self.is_older and self.stores(target, base, value, scope):
                pass
            elif isinstance(value, View) and not self.is_older and self.tile(target.value, base, scope) is not None:
                self.subscript(target, scope)
            else:
                raise Refused("an item of an object is assigned")
        else:
            raise Refused("an attribute is assigned")

    def sharp(self, e: ast.expr, scope: Scope) -> Value:
        """The class of an expression that gets another name; something constant may be a tile."""
        found = self.value(e, scope)
        return (
            (self.tile(e, found, scope) or found)
            if isinstance(found, Constant) and isinstance(e, ast.Name | ast.Attribute | ast.Subscript)
            else found
        )

    # expressions
    # -------------------------------------------------------------------------------------------------------
    def value(self, e: ast.expr, scope: Scope) -> Value:
        """The class of an expression. Whether `i // 2`, `min(i * 64, n)` or `starts[i]` is affine, or one and the same
        (`min(128, n - start)`), is looked up when the loop is entered."""
        try:
            return self.plain_value(e, scope)
        except Refused:
            if not isinstance(e, ast.BinOp | ast.Call | ast.Subscript) or not scope.is_frame:
                raise
            names = parts_of(e)[0]
            if self.is_older and (names is None or any(is_older_tensor(scope.names.get(n)) for n in names)):
                raise
            if scope.is_closed(e) or not scope.is_closed(e, self.index):
                raise
            if self.is_constant(e, scope):
                self.guard("constant", e, scope)
                return SAME
            self.guard("affine", e, scope)
            return INDEX

    def plain_value(self, e: ast.expr, scope: Scope) -> Value:
        """The same, as far as the tree tells it."""
        if isinstance(e, ast.Constant):
            return SAME
        if isinstance(e, ast.Name):
            return self.name(e.id, scope)
        if isinstance(e, ast.Attribute):
            return self.attribute(e, scope)
        if isinstance(e, ast.BinOp):
            if self.is_older:
                return self.arithmetic(e.op, self.sharp(e.left, scope), self.sharp(e.right, scope))
            product = self.arithmetic(e.op, self.value(e.left, scope), self.value(e.right, scope))
            if isinstance(e.op, ast.Mult):
                self.multiplied(product, e.left, e.right, scope)
            return product
        if isinstance(e, ast.UnaryOp):
            v = self.value(e.operand, scope)
            if isinstance(v, Constant) or (isinstance(v, Index) and isinstance(e.op, ast.USub | ast.UAdd)):
                return v
            raise Refused("an operator of a tile or of the index")
        if isinstance(e, ast.Subscript):
            return self.subscript(e, scope)
        if isinstance(e, ast.Call):
            return self.call(e, scope)
        if isinstance(e, ast.Tuple):
            return self.several([self.value(x, scope) for x in e.elts])
        if isinstance(e, ast.List):
            made = Made()
            for x in e.elts:
                made.item = join(made.item, self.value(x, scope))
            return made
        if isinstance(e, ast.ListComp | ast.GeneratorExp):
            return self.comprehension(e, scope)
        if isinstance(e, ast.IfExp):
            self.condition(e.test, scope)
            return joined(self.value(e.body, scope), self.value(e.orelse, scope))
        if isinstance(e, ast.Compare) and self.is_older and len(e.ops) == 1 and isinstance(e.ops[0], INEQUALITIES):
            found = [self.sharp(x, scope) for x in (e.left, *e.comparators)]
            if any(isinstance(v, Index) for v in found) and all(isinstance(v, Constant | Index) for v in found):
                self.mask(e, scope)
                return Mask()
            if any(isinstance(v, View) for v in found) and all(isinstance(v, Constant | View) for v in found):
                return View(all(v.fixed for v in found if isinstance(v, View)), True, True)
        if isinstance(e, ast.Compare | ast.BoolOp):
            self.condition(e, scope)
            return SAME
        if isinstance(e, ast.JoinedStr):
            for part in e.values:
                if isinstance(part, ast.FormattedValue):
                    self.constant(part.value, scope)
            return SAME
        if isinstance(e, ast.Slice):
            return self.piece(e.lower, e.upper, e.step, scope)
        raise Refused(f"{type(e).__name__} is not followed")

    @staticmethod
    def several(items: list[Value]) -> Value:
        """A tuple."""
        return SAME if all(isinstance(v, Constant) for v in items) else Several(tuple(items))

    def name(self, name: str, scope: Scope) -> Value:
        """What a name stands for. Raises Refused where it may be left from the iteration before."""
        if name in scope.known:
            return scope.known[name]
        if name in scope.assigned:
            raise Refused(f"{name} is left from the iteration before")
        return SAME

    def constant(self, e: ast.expr, scope: Scope) -> None:
        """Raises Refused where an expression is not constant."""
        v = self.value(e, scope)
        if not isinstance(v, Constant):
            raise Refused(f"{text_of(e)} is {said(v)}")

    def condition(self, e: ast.expr, scope: Scope) -> None:
        """A test: constant, or one of the index alone that comes out the same in all iterations but the first."""
        try:
            if isinstance(e, ast.BoolOp):
                for part in e.values:
                    self.condition(part, scope)
                return
            if isinstance(e, ast.UnaryOp) and isinstance(e.op, ast.Not):
                return self.condition(e.operand, scope)
            if isinstance(e, ast.Compare):
                self.compared(e, scope)
                return
            self.constant(e, scope)
        except Refused:
            if not isinstance(e, ast.Compare) or not scope.is_closed(e, self.index):
                raise
            self.guard("same", e, scope)

    def compared(self, e: ast.Compare, scope: Scope) -> None:
        values = [self.value(x, scope) for x in (e.left, *e.comparators)]
        if all(isinstance(v, Constant) for v in values):
            return
        nothing = [isinstance(x, ast.Constant) and x.value is None for x in e.comparators]
        if (
            all(nothing)
            and all(isinstance(o, ast.Is | ast.IsNot) for o in e.ops)
            and isinstance(values[0], View | Handle | Index)
        ):
            return
        raise Refused(f"a test of {text_of(e)}")

    def attribute(self, e: ast.Attribute, scope: Scope) -> Value:
        """An attribute of something constant, or one of a tile that does not change."""
        base = self.value(e.value, scope)
        if isinstance(base, Constant):
            if scope.is_closed(e.value):
                self.plain_object(scope.look_up(e.value), e.attr)
            return SAME
        if isinstance(base, View) and (
            e.attr in ("dtype", "ndim", "buffer", "space", "itemsize") or (base.fixed and e.attr in ("shape", "size"))
        ):
            return SAME
        raise Refused(f"attribute {e.attr} of a value that is {said(base)}")

    @staticmethod
    def plain_object(x: object, attribute: str) -> None:
        """Raises Refused where looking something up in an object runs the kernel's own code."""
        kind = type(x)
        own = not kind.__module__.startswith("mowich.") and not isinstance(x, ModuleType | type)
        if own and (isinstance(getattr(kind, attribute, None), property) or hasattr(kind, "__getattr__")):
            raise Refused(f"{attribute} is a property")

    def arithmetic(self, op: ast.operator, a: Value, b: Value) -> Value:
        """Sums and products of what is affine."""
        if isinstance(a, Constant) and isinstance(b, Constant):
            return SAME
        affine = all(isinstance(v, Constant | Index) for v in (a, b))
        if affine and isinstance(op, ast.Add | ast.Sub):
            return INDEX
        if affine and isinstance(op, ast.Mult) and (isinstance(a, Constant) or isinstance(b, Constant)):
            return INDEX
        if isinstance(op, ast.Mult) and isinstance(a, Made) and isinstance(b, Constant):
            return a
        if isinstance(op, ast.BitAnd) and all(isinstance(v, Mask | Constant) for v in (a, b)):
            return Mask()
        views = [v for v in (a, b) if isinstance(v, View)]
        if self.is_older and views and all(isinstance(v, View | Constant) for v in (a, b)):
            return View(all(v.fixed for v in views), True, True)
        raise Refused(f"{type(op).__name__} of values that are {said(a)} and {said(b)}")

    def multiplied(self, product: Value, a: ast.expr, b: ast.expr, scope: Scope) -> None:
        """Note a product of the index with something that is not known to be one and the same in the whole loop."""
        if isinstance(product, Index):
            factors = [e for e in (a, b) if not isinstance(self.value(e, scope), Index)]
            self.has_products |= not all(scope.is_closed(e) for e in factors)

    def piece(self, low: ast.expr | None, high: ast.expr | None, step: ast.expr | None, scope: Scope) -> Value:
        """A slice."""
        if step is not None:
            self.constant(step, scope)
        ends = [self.value(x, scope) if x is not None else SAME for x in (low, high)]
        if all(isinstance(v, Constant) for v in ends):
            return SAME
        if not all(isinstance(v, Constant | Index) for v in ends) or low is None or high is None:
            raise Refused("a slice that is not affine")
        a, b = self.terms(low, scope), self.terms(high, scope)
        return Piece(a is not None and a == b)

    def terms(self, e: ast.expr, scope: Scope) -> dict[tuple[str, ...], int] | None:
        """The part of an affine expression that moves with the index, multiplied out: factors -> how many. None where
        it is not seen."""
        try:
            found = multiplied_out(e, lambda part: self.constant(part, scope))
        except Refused:
            return None
        moving = {n for n, v in scope.known.items() if isinstance(v, Index)}
        return {k: n for k, n in found.items() if n and any(x in moving for x in k)}

    def subscript(self, e: ast.Subscript, scope: Scope) -> Value:
        """An item or a view of a tile, an item of a list."""
        chosen = self.chosen(e, scope)
        if chosen is not None:
            return chosen
        base = self.value(e.value, scope)
        keys = e.slice.elts if isinstance(e.slice, ast.Tuple) else [e.slice]
        values = [self.value(k, scope) for k in keys]
        still = all(isinstance(v, Constant) for v in values)
        if not all(isinstance(v, Constant | Index | Piece) for v in values):
            raise Refused("an index that is neither constant nor affine")
        if isinstance(base, Constant) and still:
            if scope.is_closed(e.value):
                x = scope.look_up(e.value)
                if self.is_older and is_older_tensor(x):
                    tile = self.tile(e.value, base, scope)
                    return View(True, True, False, tile.blocks) if tile is not None else SAME
                own = not self.is_older or type(x).__module__ != OLDER_LANGUAGE
                if isinstance(getattr(type(x), "__getitem__", None), FunctionType) and type(x) is not Tile and own:
                    raise Refused(f"{text_of(e.value)} is an object with items of its own")
            return SAME
        if isinstance(base, Listed) and still and not isinstance(e.slice, ast.Slice | ast.Tuple):
            return Listed(base.deep - 1) if base.deep > 1 else View(True, False)
        if isinstance(base, Made | Several):
            if not still:
                raise Refused("a list of this iteration goes by the index")
            if isinstance(base, Several):
                at = e.slice.value if isinstance(e.slice, ast.Constant) else None
                if isinstance(at, int) and -len(base.items) <= at < len(base.items):
                    return base.items[at]
                return join_all(base.items)
            return base if isinstance(e.slice, ast.Slice) else base.root().item or SAME
        if self.is_older and isinstance(base, Index) and still:  # an axis more, or part of an index expression
            return INDEX
        tile = self.tile(e.value, base, scope)
        if tile is not None:
            if tile.blocks and not still:
                self.block(e, tile, keys, scope)
            fixed = tile.fixed and all(not isinstance(v, Piece) or v.fixed for v in values)
            return View(fixed, tile.still and still, tile.fresh, tile.blocks)
        if isinstance(base, Constant) and self.is_in_column(e, scope):
            return View(True, False)
        raise Refused(f"{text_of(e)} is not seen to be affine")

    def chosen(self, e: ast.Subscript, scope: Scope) -> Value | None:
        """What the index chooses from a list from before the loop: a tile, or a list of tiles; None where it does
        not."""
        if scope.is_closed(e) or not scope.is_closed(e, self.index) or not scope.is_frame:
            return None
        if type(scope.look_up(e.value)) not in (list, tuple):
            return None
        found, deep = scope.look_up(e), 0
        while type(found) in (list, tuple) and found:
            found, deep = found[0], deep + 1
        if type(found) is not Tile:
            raise Refused(f"{text_of(e)} is no tile")
        self.guard("tiles", e, scope, deep)
        return Listed(deep) if deep else View(True, False)

    def tile(self, e: ast.expr, base: Value, scope: Scope) -> View | None:
        """The tile that an expression is, or None: something constant may be one, or anything else."""
        if isinstance(base, View):
            return base
        if not isinstance(base, Constant):
            return None
        if scope.is_closed(e):
            found = scope.look_up(e) if not self.is_older or isinstance(e, ast.Name | ast.Attribute) else None
            if type(found) is Tile or (self.is_older and is_older_tensor(found)):
                self.guard("type", e, scope, type(found))
                return View(True, True, False, is_older_tensor(found) and hasattr(found, "is_free"))
            return None
        deep = 0
        while isinstance(e, ast.Subscript) and not isinstance(e.slice, ast.Slice | ast.Tuple):
            e, deep = e.value, deep + 1
            if scope.is_closed(e):
                if all_tiles(scope.look_up(e), deep):
                    self.guard("items", e, scope, deep)
                    return View(True, True)
                break
        return None

    def comprehension(self, e: ast.ListComp | ast.GeneratorExp, scope: Scope) -> Value:
        """A list made by a comprehension."""
        before = dict(scope.known)
        for g in e.generators:
            if g.is_async:
                raise Refused("an async comprehension")
            self.assign(g.target, self.items(g.iter, scope), scope)
            for test in g.ifs:
                self.condition(test, scope)
        self.loops += 1
        made = Made(self.value(e.elt, scope))
        self.loops -= 1
        scope.known = before
        return made

    # calls
    # -------------------------------------------------------------------------------------------------------------
    def is_method(self, e: ast.Call, scope: Scope) -> bool:
        """Whether a call is one of a method of something that is not constant."""
        return isinstance(e.func, ast.Attribute) and not isinstance(self.value(e.func.value, scope), Constant)

    def call(self, e: ast.Call, scope: Scope) -> Value:
        """A call: of an instruction, of a view, of a function of the kernel's own, which is read as well."""
        if any(isinstance(a, ast.Starred) for a in e.args):
            raise Refused("starred arguments")
        if isinstance(e.func, ast.Attribute) and not self.is_number(e, scope):
            base = self.value(e.func.value, scope)
            tile = self.tile(e.func.value, base, scope)
            if tile is not None:
                return self.view(e, tile, scope)
            if isinstance(base, Constant) and self.is_older and isinstance(e.func.value, ast.Subscript):
                raise Refused("a method of an item")
            if isinstance(base, Made):
                return self.change(e, base, scope)
            if isinstance(base, Handle) and e.func.attr == "depends_on":
                self.operands(e, scope)
                return base
            if not isinstance(base, Constant):
                raise Refused(f"method {e.func.attr} of a value that is {said(base)}")
        if self.is_number(e, scope):
            return SAME
        f = self.function(e.func, scope)
        if module_of(f) == "mowich.nki.isa" and isinstance(f, FunctionType):
            if f.__name__ in NOT_ISSUED or f.__name__.startswith("_"):
                if f.__name__ in ("get_nc_version", "get_nc_sub_version"):
                    return SAME
                raise Refused(f"{f.__name__} is not repeated")
            self.operands(e, scope)
            return Handle()
        if module_of(f) == NEWER_LANGUAGE and not (self.is_older and is_operator(f)):
            return self.of_language(e, f, scope)
        if module_of(f) in (NEWER_LANGUAGE, OLDER_LANGUAGE, OLDER_ISA):
            return self.of_older(e, f, scope)
        if isinstance(f, ModuleType) or f is None:
            raise Refused("a call of an object")
        if is_pure(f) or (isinstance(f, BuiltinFunctionType) and f.__module__ == "math"):
            return self.pure(e, f, scope)
        return self.follow(e, f, scope)

    def operands(self, e: ast.Call, scope: Scope) -> list[Value]:
        """Arguments of an instruction: tiles and what is constant."""
        values = [self.value(a, scope) for a in e.args]
        for v in values:
            self.operand(v)
        for k in e.keywords:
            v = self.value(k.value, scope)
            if isinstance(v, Index) and k.arg in NUMBERS:
                continue
            if isinstance(v, Mask) and k.arg in ("mask", "pred"):
                continue
            self.operand(v)
            values.append(v)
        return values

    def operand(self, v: Value) -> None:
        """Raises Refused for the index, of which an instruction may make anything."""
        if isinstance(v, Made) and v.root().item is not None:
            self.operand(v.root().item or SAME)
        elif isinstance(v, Several):
            for x in v.items:
                self.operand(x)
        elif isinstance(v, Index | Piece | Mask):
            raise Refused("the index is an argument")

    def of_language(self, e: ast.Call, f: object, scope: Scope) -> Value:
        """A call of `nki.language`."""
        name = function_name(f)
        if name in ("ds", "dslice") and len(e.args) == 2 and not e.keywords:
            start, size = (self.value(a, scope) for a in e.args)
            if isinstance(start, Constant | Index) and isinstance(size, Constant):
                return SAME if isinstance(start, Constant) else Piece(True)
            raise Refused("a slice that is not affine")
        if name in ASKED:
            self.operands(e, scope)
            return SAME
        values = self.operands(e, scope)
        fixed = all(not isinstance(v, View) or v.fixed for v in values) and not any(
            isinstance(v, Mixed) for v in values
        )
        if name in NEW_TILES:
            return View(fixed, True)
        if name in OF_TILES or is_operator(f):
            return View(fixed, False)
        raise Refused(f"nl.{name} is not repeated")

    # the older interface
    # -------------------------------------------------------------------------------------------------
    def changed(self, s: ast.AugAssign, scope: Scope) -> bool:
        """x += ..., where x is a tensor, or a view of one: the tensor itself is changed. False: x is something else."""
        if isinstance(s.target, ast.Name):
            tile: Value | None = scope.known.get(s.target.id)
        elif isinstance(s.target, ast.Subscript):
            tile = self.sharp(ast.Subscript(s.target.value, s.target.slice, ast.Load()), scope)
        else:
            return False
        if not isinstance(tile, View) or not isinstance(s.op, ast.Add | ast.Sub | ast.Mult):
            return False
        if not isinstance(self.sharp(s.value, scope), View | Constant):
            raise Refused("a tensor is changed by the index")
        return True

    def stores(self, target: ast.Subscript, base: Value, value: Value, scope: Scope) -> bool:
        """tensor[...] = value. A value that may be the same view as its target is not copied, nor is a number written
        everywhere in one way: neither may move. False: no tensor."""
        if self.tile(target.value, base, scope) is None:
            return False
        view = self.subscript(ast.Subscript(target.value, target.slice, ast.Load()), scope)
        if not isinstance(view, View):
            return False
        if view.still and isinstance(value, View | Constant | Mixed) and (not isinstance(value, View) or value.still):
            return True
        if isinstance(value, View) and value.fresh and not view.fresh:
            return True
        raise Refused("a view is assigned to another that moves")

    def block(self, e: ast.Subscript, tile: View, keys: Sequence[ast.expr], scope: Scope) -> None:
        """A tensor with blocks goes by the index: they are there when the loop is entered, or each iteration makes its
        own."""
        if tile.fresh:  # which of them are one and the same cannot be told
            raise Refused("blocks of the iteration go by the index")
        found = scope.look_up(e.value) if scope.is_closed(e.value) else None
        counts = getattr(found, "counts", ()) if is_older_tensor(found) else ()
        first = list(keys[: len(counts)])
        if not first or not scope.is_frame or any(not scope.is_closed(k, self.index) for k in first):
            self.guard("fresh", e, scope)
            return
        if all(isinstance(self.value(k, scope), Constant) for k in first):
            return
        at = ast.Tuple([e.value, ast.Tuple(first, ast.Load())], ast.Load())
        self.guard("blocks", at, scope)

    def of_older(self, e: ast.Call, f: object, scope: Scope) -> Value:
        """A call of the older language or of an older instruction: its result is a new tensor."""
        name = function_name(f)
        if module_of(f) == OLDER_LANGUAGE and name in ("ds", "dslice"):
            return self.of_language(e, f, scope)
        values = self.operands(e, scope)
        fixed = all(v.fixed for v in values if isinstance(v, View)) and not any(isinstance(v, Mixed) for v in values)
        if module_of(f) == OLDER_ISA:
            if name in NOT_ISSUED or name.startswith("_") or not isinstance(f, FunctionType):
                raise Refused(f"{name} is not repeated")
            return View(fixed, True, True)
        if hasattr(f, "op_name") or name in OLDER_NEW:
            return View(fixed, True, True)
        if name in ("arange", "sizeinbytes", "static_assert"):
            return SAME
        if name in NEW_TILES:
            return View(fixed, True, True, not self.is_plain(e, scope))
        if name in ("expand_dims", "broadcast_to"):  # may be a view of what it is given
            return View(fixed, False, any(isinstance(v, View) and v.fresh for v in values))
        raise Refused(f"nl.{name} is not repeated")

    def is_number(self, e: ast.Call, scope: Scope) -> bool:
        """Whether a call makes a number of NumPy of something constant: `np.dtype(np.float32).type(1)`."""
        f = e.func
        if not isinstance(f, ast.Attribute) or f.attr != "type" or not isinstance(f.value, ast.Call) or e.keywords:
            return False
        if f.value.keywords or self.function(f.value.func, scope) is not np.dtype:
            return False
        for a in (*e.args, *f.value.args):
            self.constant(a, scope)
        return True

    def pure(self, e: ast.Call, f: object, scope: Scope) -> Value:
        """A function of Python without effect."""
        values = [self.value(a, scope) for a in (*e.args, *(k.value for k in e.keywords))]
        if all(isinstance(v, Constant) for v in values):
            return SAME
        if f is len and isinstance(values[0], Made | Several):
            return SAME
        if f is slice and 2 <= len(e.args) <= 3:
            return self.piece(e.args[0], e.args[1], e.args[2] if len(e.args) == 3 else None, scope)
        if f is isinstance and isinstance(values[0], View | Made | Index):
            return SAME
        if f in (list, tuple) and isinstance(values[0], Made):
            return Made(values[0].root().item)
        if f is list and isinstance(values[0], Several):
            return Made(join_all(values[0].items))
        raise Refused(f"{function_name(f)} of a value that is not constant")

    def view(self, e: ast.Call, tile: View, scope: Scope) -> Value:
        """A view of a tile."""
        assert isinstance(e.func, ast.Attribute)
        name = e.func.attr
        values = [self.value(a, scope) for a in (*e.args, *(k.value for k in e.keywords))]
        constant = all(isinstance(v, Constant) for v in values)
        if name in TILE_VIEWS and constant:
            return View(tile.fixed, tile.still, tile.fresh, tile.blocks)
        if self.is_older and name == "astype" and constant:
            return View(tile.fixed, True, True)
        if (
            name == "ap"
            and constant
            and tile.still
            and not any(k.arg and k.arg.endswith("_offset") for k in e.keywords)
            and len(e.args) < 3
        ):
            return View(True, True)
        if name == "get_pattern" and constant and tile.fixed and not e.args:
            return SAME
        if name in ("slice", "select") and all(isinstance(v, Constant | Index) for v in values):
            if name == "select" or constant:
                return View(tile.fixed, tile.still and constant)
            ends = [*e.args[1:], *(k.value for k in e.keywords if k.arg in ("start", "end"))]
            piece = self.piece(ends[0], ends[1], None, scope) if len(ends) >= 2 else Piece(False)
            return View(tile.fixed and isinstance(piece, Piece) and piece.fixed, False)
        raise Refused(f"view {name} is not repeated")

    def change(self, e: ast.Call, made: Made, scope: Scope) -> Value:
        """A method of a list that this iteration made."""
        assert isinstance(e.func, ast.Attribute)
        values = [self.value(a, scope) for a in e.args]
        root = made.root()
        if e.func.attr == "append" and len(values) == 1:
            root.item = join(root.item, values[0])
        elif e.func.attr == "extend" and len(values) == 1 and isinstance(values[0], Made | Several):
            more = values[0]
            root.item = join(root.item, more.root().item if isinstance(more, Made) else join_all(more.items))
        elif e.func.attr in ("pop", "clear", "reverse") and all(isinstance(v, Constant) for v in values):
            return root.item or SAME
        else:
            raise Refused(f"method {e.func.attr} of a list")
        return SAME

    def follow(self, e: ast.Call, f: object, scope: Scope) -> Value:
        """Read a function of the kernel's own, with the arguments of this call."""
        first: list[Value] = []
        if isinstance(f, MethodType):
            f, first = f.__func__, [SAME]
        f = getattr(f, "func", f) if module_of(type(f)) == "mowich.nki.runtime" else f
        if not isinstance(f, FunctionType):
            raise Refused(f"a call of {function_name(f) or type(f).__name__}")
        tree = tree_of(f.__code__)
        if not isinstance(tree, ast.FunctionDef) or self.depth >= DEEPEST:
            raise Refused(f"{f.__name__} is not read")
        if tree.args.vararg or tree.args.kwarg or any(k.arg is None for k in e.keywords):
            raise Refused(f"{f.__name__} takes any arguments")
        names = [a.arg for a in (*tree.args.posonlyargs, *tree.args.args, *tree.args.kwonlyargs)]
        given = [*first, *(self.sharp(a, scope) for a in e.args)]
        known: dict[str, Value] = dict.fromkeys(names, SAME)
        if len(given) > len(names):
            raise Refused(f"{f.__name__} takes fewer arguments")
        known.update(zip(names, given, strict=False))
        for k in e.keywords:
            if k.arg not in known:
                raise Refused(f"{f.__name__} has no argument {k.arg}")
            known[str(k.arg)] = self.sharp(k.value, scope)
        if f.__closure__ or f.__code__.co_flags & (CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR):
            raise Refused(f"{f.__name__} is a closure or a generator")
        inside = Scope(f.__globals__, stored(tree) | frozenset(names), known, False)
        self.depth += 1
        loops, self.loops = self.loops, 0
        self.body(tree.body, inside)
        self.loops = loops
        self.depth -= 1
        return inside.returned or SAME
