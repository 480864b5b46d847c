"""What the parsing front end of NKI (the default up to 0.6) does not take of Python: one function a rule, over the tree
of one compiled function. From 0.7 on kernels are traced, and Python runs as it is.

The list is that of AWS's public front end (`leanprover/KLR`: `interop/klr/gather.c` reads the tree, `KLR/NKI/Simplify`
and `KLR/NKI/Annotations` refuse more), of the language guide and of the migration guide.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Iterator
from typing import Any

from mowich.nki.check.program import LOOPS, NEW, Code, FunctionNode
from mowich.nki.check.rule import GUIDE, KLR, MIGRATION, PARSER, FoundAt, KernelRule, Look, declare, known_as

SYNTAX: list[tuple[KernelRule, Look]] = []
GATHER, SIMPLIFY = f"{KLR} interop/klr/gather.c", f"{KLR} KLR/NKI/Simplify.lean"


_rule = functools.partial(known_as, SYNTAX, stage="syntax", until=PARSER)
"""A decorator: a rule, and the function that looks for it in a compiled function."""


def _each(*kinds: type[ast.AST]) -> Callable[[Callable[[Code, Any], Iterator[FoundAt]]], Look]:
    """A decorator: what looks at one node looks at all of these kinds."""

    def looking(look: Callable[[Code, object], Iterator[FoundAt]]) -> Look:
        return lambda code, nodes: (found for n in nodes if isinstance(n, kinds) for found in look(code, n))

    return looking


def _nodes(what: str, *kinds: type[ast.AST]) -> Look:
    """What refuses nodes of these kinds. what: stands there."""
    return _each(*kinds)(lambda code, n: iter([(n.lineno, what)]))


def compiled_nodes(code: Code) -> list[ast.AST]:
    """All nodes of a function that the front end reads: its body and the defaults of its arguments. Bodies of functions
    that it may not define are left out, but those of dynamic loops are read."""
    bodies = loop_bodies(code)
    args = code.node.args
    todo: list[ast.AST] = [*code.node.body, *args.defaults, *(d for d in args.kw_defaults if d is not None)]
    out: list[ast.AST] = []
    while todo:
        n = todo.pop()
        out.append(n)
        if isinstance(n, FunctionNode | ast.ClassDef | ast.Lambda) and n not in bodies:
            continue
        if isinstance(n, FunctionNode):
            todo += n.body
        elif isinstance(n, ast.AnnAssign):
            todo += [x for x in (n.target, n.value) if x is not None]
        else:
            todo += ast.iter_child_nodes(n)
    return out


def loop_bodies(code: Code) -> set[ast.AST]:
    """The inner functions of a kernel that it gives to `nl.fori_loop` or `nl.while_loop`, which NKI 0.6 asks for."""
    inner = {n.name: n for n in ast.walk(code.node) if isinstance(n, FunctionNode) and n is not code.node}
    given: set[ast.AST] = set()
    for call in ast.walk(code.node):
        if isinstance(call, ast.Call) and code.module.of(call.func, f"{NEW}.language") in LOOPS:
            for arg in (*call.args, *(k.value for k in call.keywords)):
                if isinstance(arg, ast.Name) and arg.id in inner:
                    given.add(inner[arg.id])
    return given


# ---- statements
# ----------------------------------------------------------------------------------------------------------------------


@_rule(
    "inner-function",
    "a function defined inside a kernel",
    "move it to the top level of the file and pass what it needs (bodies of nl.fori_loop and nl.while_loop may stay)",
    GATHER,
    "def kernel(x):\n    def helper(y): ...",
)
@_each(ast.FunctionDef)
def _inner_function(code: Code, n: ast.FunctionDef) -> Iterator[FoundAt]:
    if n not in loop_bodies(code):
        yield n.lineno, f"function '{n.name}' is defined inside '{code.name}'"


_rule("inner-class", "a class defined inside a kernel", "move it to the top level of the file", GATHER, "class C: ...")(
    _nodes("a class is defined inside a kernel", ast.ClassDef)
)
_rule("lambda", "a lambda", "write a function at the top level of the file", GATHER, "f = lambda x: x + 1")(
    _nodes("a lambda", ast.Lambda)
)


@_rule(
    "comprehension",
    "a comprehension or a generator expression",
    "append to a list in a for loop",
    GATHER,
    "tiles = [nl.load(x[i]) for i in range(4)]",
)
@_each(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
def _comprehension(code: Code, n: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> Iterator[FoundAt]:
    kind = "a generator expression" if isinstance(n, ast.GeneratorExp) else "a comprehension"
    yield getattr(n, "lineno", 0), kind


_rule("generator", "yield: a kernel that is a generator", "return a list", GATHER, "yield tile")(
    _nodes("yield", ast.Yield, ast.YieldFrom)
)
_rule("try", "try and except", "if and else; assert for what must hold", GATHER, "try: ...\nexcept ValueError: ...")(
    _nodes("a try statement", ast.Try, ast.TryStar)
)
_rule("raise", "raise", "assert condition, message", GATHER, "raise ValueError(n)")(
    _nodes("a raise statement", ast.Raise)
)
_rule("import", "an import inside a kernel", "move it to the top of the file", GATHER, "import math")(
    _nodes("an import inside a kernel", ast.Import, ast.ImportFrom)
)
_rule("global", "global and nonlocal", "pass a dict or an NKIObject between functions", GATHER, "global count")(
    _nodes("a global or nonlocal statement", ast.Global, ast.Nonlocal)
)
_rule("del", "del", "let the name go; tiles live until their last use", GATHER, "del tile")(
    _nodes("a del statement", ast.Delete)
)
_rule("match", "match", "if and elif, or a dict", GATHER, "match kind: ...")(_nodes("a match statement", ast.Match))


@_rule("async", "async and await", "a function without async", GATHER, "async def kernel(x): ...")
def _async(code: Code, nodes: list[ast.AST]) -> Iterator[FoundAt]:
    if isinstance(code.node, ast.AsyncFunctionDef):
        yield code.node.lineno, f"'{code.name}' is async"
    yield from _nodes("async", ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await)(code, nodes)


@_rule(
    "with",
    "a with statement other than `with nl.no_reorder():`",
    "call the functions of the context one after the other",
    SIMPLIFY,
    "with open(name) as f: ...",
)
@_each(ast.With)
def _with(code: Code, n: ast.With) -> Iterator[FoundAt]:
    item = n.items[0]
    call = item.context_expr
    plain = len(n.items) == 1 and item.optional_vars is None and isinstance(call, ast.Call)
    if not plain or not isinstance(call, ast.Call) or call.args or call.keywords:
        yield n.lineno, f"`with {ast.unparse(call)}`: NKI takes one call without arguments and without a name"
    elif ast.unparse(call.func).rpartition(".")[2] != "no_reorder":
        yield n.lineno, f"`with {ast.unparse(call)}`: NKI has nl.no_reorder() as the only context"


@_rule(
    "loop-else",
    "else of a for or while loop",
    "a flag that the loop sets",
    SIMPLIFY,
    "for i in range(4): ...\nelse: ...",
)
@_each(ast.For, ast.While)
def _loop_else(code: Code, n: ast.For | ast.While) -> Iterator[FoundAt]:
    if n.orelse:
        yield n.orelse[0].lineno, "the else of a loop"


@_rule(
    "loop-target",
    "a for loop over anything but one name",
    "one name, and take its parts in the loop: for pair in pairs: a, b = pair",
    SIMPLIFY,
    "for key, tile in tiles.items(): ...",
)
@_each(ast.For)
def _loop_target(code: Code, n: ast.For) -> Iterator[FoundAt]:
    if not isinstance(n.target, ast.Name):
        yield n.lineno, f"a loop over {ast.unparse(n.target)}"


# ---- expressions
# ----------------------------------------------------------------------------------------------------------------------


_rule(
    "walrus", "an assignment in an expression", "assign in a statement of its own", GATHER, "if (n := len(x)) > 1: ..."
)(_nodes("an assignment in an expression (:=)", ast.NamedExpr))
_rule("set", "a set", "a list or a tuple", GATHER, "axes = {0, 1}")(_nodes("a set", ast.Set))


@_rule(
    "matmul-operator", "the operator @", "nisa.nc_matmul(dst=..., stationary=..., moving=...)", SIMPLIFY, "c = a @ b"
)
@_each(ast.BinOp, ast.AugAssign)
def _matmul(code: Code, n: ast.BinOp | ast.AugAssign) -> Iterator[FoundAt]:
    if isinstance(n.op, ast.MatMult):
        yield n.lineno, "the operator @"


@_rule(
    "unpacked-arguments",
    "arguments unpacked at a call, or a list unpacked (*x, **x)",
    "write the arguments out",
    SIMPLIFY,
    "helper(*tiles)",
)
@_each(ast.Starred, ast.Call, ast.Dict)
def _unpacked(code: Code, n: ast.Starred | ast.Call | ast.Dict) -> Iterator[FoundAt]:
    if isinstance(n, ast.Starred):
        yield n.lineno, "a list is unpacked with *"
    elif isinstance(n, ast.Dict) and None in n.keys:
        yield n.lineno, "a dict is unpacked into a dict"
    for k in n.keywords if isinstance(n, ast.Call) else ():
        if k.arg is None:
            yield n.lineno, f"keyword arguments are unpacked: **{ast.unparse(k.value)}"


@_rule("format-spec", "a format in an f-string", "leave out what follows the colon", GATHER, 'print(f"{scale:.3f}")')
@_each(ast.FormattedValue)
def _format(code: Code, n: ast.FormattedValue) -> Iterator[FoundAt]:
    if n.format_spec is not None:
        yield n.lineno, f"an f-string formats {ast.unparse(n.value)}"


@_rule("dict-key", "a dict whose keys are not texts", "keys that are texts: {'0': tile}", GUIDE, "tiles = {0: tile}")
@_each(ast.Dict)
def _dict_key(code: Code, n: ast.Dict) -> Iterator[FoundAt]:
    for key in n.keys:
        if key is not None and not (isinstance(key, ast.Constant) and isinstance(key.value, str)):
            yield key.lineno, f"the key {ast.unparse(key)} of a dict is no text"
            break


@_rule(
    "large-integer",
    "a whole number beyond 32 bits",
    "numbers of a kernel have 32 bits: -2147483648 .. 2147483647",
    GUIDE,
    "mask = 0xFFFFFFFF",
)
@_each(ast.Constant)
def _large_integer(code: Code, n: ast.Constant) -> Iterator[FoundAt]:
    if isinstance(n.value, int) and n.value > 2**31:
        yield n.lineno, f"{n.value} has more than 32 bits"


@_rule(
    "range-value",
    "range outside the head of a for loop",
    "a for loop that appends to a list",
    f"{KLR} KLR/Trace/NKI.lean",
    "order = list(range(4))",
)
def _range_value(code: Code, nodes: list[ast.AST]) -> Iterator[FoundAt]:
    heads = {id(n.iter) for n in nodes if isinstance(n, ast.For | ast.comprehension)}
    for n in nodes:
        is_range = isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == "range"
        if isinstance(n, ast.Call) and is_range and id(n) not in heads:
            yield n.lineno, f"{ast.unparse(n)} is used as a value"


UNKNOWN_BUILTINS = (
    *("enumerate", "zip", "sum", "any", "all", "sorted", "map", "filter", "reversed", "set", "frozenset", "iter"),
    *("next", "getattr", "setattr", "hasattr", "eval", "exec", "open", "globals", "locals", "super", "callable"),
    *("vars", "dir", "id", "hash", "input", "compile", "bytes", "bytearray", "memoryview", "complex"),
)
"""Functions of Python that the front end does not have."""


@_rule(
    "builtin",
    "a function of Python that NKI does not have: " + ", ".join(UNKNOWN_BUILTINS),
    "a loop over range(len(x)); NKI has print, len, range, min, max, abs, int, float, str, bool, list, tuple, dict,"
    " slice, isinstance, type, divmod",
    f"{KLR} KLR/Trace/Python.lean",
    "for i, tile in enumerate(tiles): ...",
)
@_each(ast.Call)
def _builtin(code: Code, n: ast.Call) -> Iterator[FoundAt]:
    own = (code.module.functions, code.module.classes, code.module.aliases)
    if isinstance(n.func, ast.Name) and n.func.id in UNKNOWN_BUILTINS and not any(n.func.id in names for names in own):
        yield n.lineno, f"{n.func.id}()"


@_rule("identity", "is and is not, but for None", "== and !=", MIGRATION, "if flag is True: ...", since=(0, 3))
@_each(ast.Compare)
def _identity(code: Code, n: ast.Compare) -> Iterator[FoundAt]:
    for op, other in zip(n.ops, n.comparators, strict=True):
        if isinstance(op, ast.Is | ast.IsNot) and not (isinstance(other, ast.Constant) and other.value is None):
            yield n.lineno, f"`{ast.unparse(n)}` compares identities"


# ---- signatures and classes
# ----------------------------------------------------------------------------------------------------------------------


@_rule(
    "varargs", "*args in a signature", "name the arguments, or pass one tuple", SIMPLIFY, "def kernel(*tensors): ..."
)
def _varargs(code: Code, nodes: list[ast.AST]) -> Iterator[FoundAt]:
    if code.node.args.vararg is not None:
        yield code.node.lineno, f"'{code.name}' takes *{code.node.args.vararg.arg}"


@_rule(
    "keyword-only",
    "arguments by keyword only (a * in the signature of a kernel)",
    "leave out the *, arguments with defaults last",
    MIGRATION,
    "def kernel(x, *, scale=1.0): ...",
    since=(0, 3),
)
def _keyword_only(code: Code, nodes: list[ast.AST]) -> Iterator[FoundAt]:
    args = code.node.args
    if code.kernel and args.kwonlyargs and args.vararg is None:
        yield code.node.lineno, f"'{code.name}' takes {args.kwonlyargs[0].arg} by keyword only"


@_rule(
    "list-argument",
    "a list as the default of a kernel's argument",
    "a tuple: stride=(1, 1)",
    MIGRATION,
    "def kernel(x, stride=[1, 1]): ...",
    since=(0, 3),
)
def _list_argument(code: Code, nodes: list[ast.AST]) -> Iterator[FoundAt]:
    args = code.node.args
    if code.kernel:
        for default in (*args.defaults, *args.kw_defaults):
            if isinstance(default, ast.List):
                yield default.lineno, f"'{code.name}' has the list {ast.unparse(default)} as a default"


DECORATORS = ("staticmethod", "dataclass", "jit")


@_rule(
    "decorator",
    "a decorator other than nki.jit, dataclass and staticmethod",
    "call the function that it wraps",
    SIMPLIFY,
    "@functools.cache\ndef helper(n): ...",
)
def _decorator(code: Code, nodes: list[ast.AST]) -> Iterator[FoundAt]:
    for d in code.node.decorator_list:
        name = ast.unparse(d.func if isinstance(d, ast.Call) else d)
        if not code.kernel and name.rpartition(".")[2] not in DECORATORS:
            yield d.lineno, f"'{code.name}' is under @{name}"


BASES = ("NKIObject", "Enum", "NamedTuple")
CLASS_BASE = declare(
    KernelRule(
        id="class-base",
        stage="syntax",
        what="a class of a kernel that does not inherit from NKIObject or Enum, or that has a metaclass",
        fix="class C(nl.NKIObject)",
        source=GUIDE,
        until=PARSER,
        example="class Shape:\n    rows: int = 128",
    )
)


def class_base(node: ast.ClassDef) -> Iterator[FoundAt]:
    """What is wrong with the bases of a class that a kernel makes."""
    bases = [ast.unparse(b).rpartition(".")[2] for b in node.bases]
    if node.keywords:
        yield node.lineno, f"class '{node.name}' has keywords"
    elif not bases:
        yield node.lineno, f"class '{node.name}' has no base"
    else:
        for b in bases:
            if not any(known in b for known in BASES):
                yield node.lineno, f"class '{node.name}' inherits from {b}"
                break
