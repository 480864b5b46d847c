"""Functions of a file as code for the sandbox: their calls, attributes, subscripts, loops and assertions go through
`__box__`, a `sandbox.Sandbox`, and each statement that ends is marked."""

from __future__ import annotations
import __future__

import ast
import copy
from types import CodeType
from weakref import WeakKeyDictionary

from mowich.nki.check.program import FunctionNode, Module, top_statements

_CODE: WeakKeyDictionary[ast.AST, CodeType] = WeakKeyDictionary()
_TWINS: WeakKeyDictionary[Module, dict[tuple[int, int, str], ast.stmt]] = WeakKeyDictionary()
_FLAGS = __future__.annotations.compiler_flag


def compiled_code(module: Module, node: FunctionNode | ast.ClassDef | ast.expr) -> CodeType:
    """The code of a function, class or expression of a module, handed to the sandbox where it calls or reads."""
    found = _CODE.get(node)
    if found is None:
        if isinstance(node, ast.expr):
            body = ast.Expression(_Rewritten(module.file).visit(copy.deepcopy(node)))
            found = compile(ast.fix_missing_locations(body), module.file, "eval", _FLAGS, True)
        else:
            made = _Rewritten(module.file).visit(_twin(module, node))
            tree = ast.fix_missing_locations(ast.Module([made], []))
            found = compile(tree, module.file, "exec", _FLAGS, True)
        _CODE[node] = found
    return found


def _twin(module: Module, node: FunctionNode | ast.ClassDef) -> ast.stmt:
    """The same statement in a tree of its own, which may be changed: a text is read faster than a tree is copied."""
    twins = _TWINS.get(module)
    if twins is None:
        top = top_statements(ast.parse(module.text).body)
        twins = _TWINS[module] = {
            (n.lineno, n.col_offset, n.name): n for n in top if isinstance(n, FunctionNode | ast.ClassDef)
        }
    return twins.pop((node.lineno, node.col_offset, node.name))


_KEPT = ("staticmethod", "classmethod", "property", "dataclass")
"""Decorators that stay: others make a kernel of a function, or a function of it that does the same."""


class _Rewritten(ast.NodeTransformer):
    """A tree whose calls, attributes and subscripts go through the sandbox. file: of the module."""

    def __init__(self, file: str) -> None:
        self.file = file

    @staticmethod
    def _box(name: str, at: ast.AST, *args: ast.expr) -> ast.Call:
        owner = ast.Name("__box__", ast.Load())
        made = ast.Call(ast.Attribute(owner, name, ast.Load()), list(args), [])
        return ast.copy_location(made, at)

    def _visited(self, e: ast.expr) -> ast.expr:
        made = self.visit(e)
        assert isinstance(made, ast.expr)
        return made

    # expressions
    # ------------------------------------------------------------------------------------------------------------------
    def visit_Call(self, node: ast.Call) -> ast.expr:
        if isinstance(node.func, ast.Name) and node.func.id == "super":
            return node
        made = self._box("call", node, self._visited(node.func), *(self._visited(a) for a in node.args))
        made.keywords = [ast.keyword(k.arg, self._visited(k.value)) for k in node.keywords]
        return made

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        owner, name = self._visited(node.value), ast.Constant(node.attr)
        if isinstance(node.ctx, ast.Load):
            if isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "super":
                return node
            return self._box("attribute", node, owner, name)
        return ast.copy_location(ast.Subscript(self._box("slot", node, owner), name, node.ctx), node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        owner, key = self._visited(node.value), self._visited(node.slice)
        if isinstance(node.ctx, ast.Load):
            return self._box("item", node, owner, key)
        return ast.copy_location(ast.Subscript(self._box("cells", node, owner), key, node.ctx), node)

    def visit_Slice(self, node: ast.Slice) -> ast.expr:
        parts = [ast.Constant(None) if e is None else self._visited(e) for e in (node.lower, node.upper, node.step)]
        return self._box("slice", node, *parts)

    def visit_Name(self, node: ast.Name) -> ast.expr:
        is_private = node.id.startswith("__") and node.id != "__name__"
        return self._box("unknown", node) if is_private and isinstance(node.ctx, ast.Load) else node

    def visit_comprehension(self, node: ast.comprehension) -> ast.comprehension:
        self.generic_visit(node)
        node.iter = self._each(node.target, node.iter)
        return node

    def _each(self, target: ast.expr, iterated: ast.expr) -> ast.expr:
        count = len(target.elts) if isinstance(target, ast.Tuple | ast.List) else 0
        return self._box("each", iterated, iterated, ast.Constant(count))

    def visit_MatchValue(self, node: ast.MatchValue) -> ast.MatchValue:
        return node

    # statements
    # ------------------------------------------------------------------------------------------------------------------
    def _ended(self, node: ast.stmt, head: ast.expr | None = None) -> list[ast.expr]:
        """File, first line and last line of a statement, or of its head."""
        last = node.end_lineno if head is None else head.end_lineno
        return [ast.Constant(self.file), ast.Constant(node.lineno), ast.Constant(last)]

    def _marked(self, node: ast.stmt) -> list[ast.stmt]:
        end = ast.copy_location(ast.Expr(self._box("done", node, *self._ended(node))), node)
        return [node, end]

    def visit_Expr(self, node: ast.Expr) -> ast.stmt | list[ast.stmt]:
        self.generic_visit(node)
        return node if isinstance(node.value, ast.Constant) else self._marked(node)

    def visit_Assign(self, node: ast.Assign) -> list[ast.stmt]:
        self.generic_visit(node)
        counts = [len(t.elts) for t in node.targets if isinstance(t, ast.Tuple | ast.List) and not _starred(t)]
        if counts:
            node.value = self._box("unpacked", node.value, node.value, ast.Constant(counts[0]))
        return self._marked(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> list[ast.stmt]:
        self.generic_visit(node)
        return self._marked(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt | list[ast.stmt]:
        if node.value is None:
            return node
        node.value, node.target = self._visited(node.value), self.visit(node.target)
        node.simple = int(isinstance(node.target, ast.Name))
        return self._marked(node)

    def visit_If(self, node: ast.If) -> ast.stmt:
        self.generic_visit(node)
        node.body.insert(0, self._entered(node, node.test))
        node.orelse.insert(0, self._entered(node, node.test))
        return node

    def visit_With(self, node: ast.With) -> ast.stmt:
        self.generic_visit(node)
        node.body.insert(0, self._entered(node, node.items[-1].context_expr))
        return node

    def _entered(self, node: ast.stmt, head: ast.expr) -> ast.stmt:
        """The mark that the head of a compound statement ended."""
        return ast.copy_location(ast.Expr(self._box("done", node, *self._ended(node, head))), node)

    def visit_Return(self, node: ast.Return) -> ast.stmt:
        self.generic_visit(node)
        if node.value is not None:
            node.value = self._box("returned", node, node.value, *self._ended(node))
        return node

    def visit_For(self, node: ast.For) -> ast.stmt:
        self.generic_visit(node)
        entered = self._entered(node, node.iter)
        node.iter = self._each(node.target, node.iter)
        node.body.insert(0, entered)
        return node

    def visit_While(self, node: ast.While) -> ast.stmt:
        self.generic_visit(node)
        node.body[:0] = [self._tick(node), self._entered(node, node.test)]
        return node

    def _tick(self, node: ast.stmt) -> ast.stmt:
        return ast.copy_location(ast.Expr(self._box("tick", node)), node)

    def visit_Assert(self, node: ast.Assert) -> list[ast.stmt]:
        out: list[ast.stmt] = []
        for i, part in enumerate(_conjuncts(node.test)):
            test = self._box("assume", part, self._visited(part))
            call = self._box("require", node, test, *self._ended(node), ast.Constant(i))
            out.append(ast.copy_location(ast.Expr(call), node))
        return out

    def visit_Raise(self, node: ast.Raise) -> ast.stmt:
        call = self._box("require", node, ast.Constant(False), *self._ended(node), ast.Constant(0))
        return ast.copy_location(ast.Expr(call), node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.ExceptHandler:
        self.generic_visit(node)
        if node.type is None:
            node.type = ast.copy_location(ast.Name("Exception", ast.Load()), node)
        return node

    def visit_Import(self, node: ast.Import) -> list[ast.stmt]:
        return [self._bound(a.asname or a.name.partition(".")[0], a.name if a.asname else "", node) for a in node.names]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> list[ast.stmt]:
        base = "." * node.level + (node.module or "")
        dot = "" if base.endswith(".") else "."
        return [self._bound(a.asname or a.name, f"{base}{dot}{a.name}", node) for a in node.names if a.name != "*"]

    def _bound(self, name: str, dotted: str, node: ast.stmt) -> ast.stmt:
        call = self._box("imported", node, ast.Constant(self.file), ast.Constant(dotted or name))
        return ast.copy_location(ast.Assign([ast.Name(name, ast.Store())], call), node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.stmt:
        node.decorator_list = [d for d in node.decorator_list if ast.unparse(d).partition("(")[0] in _KEPT]
        node.args.defaults = [self._visited(d) for d in node.args.defaults]
        node.args.kw_defaults = [None if d is None else self._visited(d) for d in node.args.kw_defaults]
        made = [self.visit(statement) for statement in node.body]
        node.body = [s for x in made for s in (x if isinstance(x, list) else [x])]
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.stmt:
        node.bases = [self._visited(b) for b in node.bases]
        body: list[ast.stmt] = []
        for statement in node.body:
            if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
                statement.value = self._visited(statement.value)
            body.append(self.visit(statement) if isinstance(statement, ast.FunctionDef | ast.ClassDef) else statement)
        node.body = body
        return node


def _conjuncts(test: ast.expr) -> list[ast.expr]:
    """The conditions that an assertion has joined: each is tried by itself."""
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        return [part for value in test.values for part in _conjuncts(value)]
    if isinstance(test, ast.Compare) and len(test.ops) > 1:
        sides = [test.left, *test.comparators]
        pairs = zip(sides, test.ops, sides[1:], strict=False)
        return [ast.copy_location(ast.Compare(copy.deepcopy(a), [op], [b]), test) for a, op, b in pairs]
    return [test]


def _starred(target: ast.Tuple | ast.List) -> bool:
    return any(isinstance(e, ast.Starred) for e in target.elts)
