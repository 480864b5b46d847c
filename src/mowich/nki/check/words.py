"""Names, arguments and values that NKI refuses at a call, and what its dynamic loops and launches may be: one function
a rule, over the tree of one compiled function."""

from __future__ import annotations

import ast
import functools
import inspect
from collections import Counter
from collections.abc import Iterator, Sequence
from types import ModuleType

from mowich.errors import did_you_mean
from mowich.neuroncore.instructions import TABLE
from mowich.nki import collectives, faces, isa, language
from mowich.nki.check.program import LOOPS, NEW, OLD, Code, FunctionNode, may_be_called
from mowich.nki.check.rule import KLR, MIGRATION, PARSER, FoundAt, KernelRule, Look, NkiVersion, known_as
from mowich.nki.words import SINCE_0_7, public

WORD_RULES: list[tuple[KernelRule, Look]] = []

ISA, LANGUAGE, COLLECTIVES = f"{NEW}.isa", f"{NEW}.language", f"{NEW}.collectives"
MODULES: dict[str, ModuleType] = {ISA: isa, LANGUAGE: language, COLLECTIVES: collectives}
ALLOCATE = ("ndarray", "zeros", "ones", "full", "empty")
"""Functions of `nki.language` that make a tile of a shape."""
REFERENCE = "nki.isa and nki.language reference"


_rule = functools.partial(known_as, WORD_RULES, stage="words")
"""A decorator: a rule, and the function that looks for it in a compiled function."""


def _calls(code: Code, nodes: Sequence[ast.AST], *modules: str) -> Iterator[tuple[ast.Call, str]]:
    """Calls of functions of these modules, with the function's name."""
    for n in nodes:
        if isinstance(n, ast.Call):
            name = code.module.of(n.func, *modules)
            if name is not None:
                yield n, name


def _keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((k.value for k in call.keywords if k.arg == name), None)


def _argument(call: ast.Call, position: int, name: str) -> ast.expr | None:
    """An argument of a call by its name or position; None where it is not given."""
    if len(call.args) > position and not any(isinstance(a, ast.Starred) for a in call.args):
        return call.args[position]
    return _keyword(call, name)


# ---- names and arguments
# ----------------------------------------------------------------------------------------------------------------------

ALLOWED_OLD = tuple(f"{OLD}.{name}" for name in ("_pre_prod_kernels", "_private_nkl", "_pre_prod_nkl"))
"""Parts of the older package that the newer front end lets through."""


@_rule(
    "older-interface",
    "names of neuronxcc.nki in a kernel of nki",
    "import nki, nki.language as nl, nki.isa as nisa",
    MIGRATION,
    "import neuronxcc.nki.language as nl",
    since=(0, 4),
)
def _older_interface(code: Code, nodes: list[ast.AST]) -> Iterator[FoundAt]:
    said: set[int] = set()
    for n in nodes:
        if isinstance(n, ast.Attribute) and n.lineno not in said:
            names = code.module.dotted(n)
            if names and all(x.startswith(OLD + ".") and not x.startswith(ALLOWED_OLD) for x in names):
                said.add(n.lineno)
                yield n.lineno, f"{ast.unparse(n)} is {min(names)}"


GONE: dict[str, dict[str, tuple[NkiVersion, str]]] = {
    LANGUAGE: {
        "arange": ((0, 2), "slices (t[0:128, 0:512]) or .ap(pattern)"),
        "mgrid": ((0, 2), "slices (t[0:128, 0:512]) or .ap(pattern)"),
    },
    ISA: {
        "tensor_copy_dynamic_src": ((0, 4), "tensor_copy with .ap(scalar_offset=...)"),
        "tensor_copy_dynamic_dst": ((0, 4), "tensor_copy with .ap(scalar_offset=...)"),
    },
}
"""Names that are gone: module -> name -> (since when, what to use)."""


@_rule(
    "unknown-name",
    "a name that nki.language, nki.isa or nki.collectives does not have",
    "the name that the message says",
    REFERENCE,
    "nisa.tensor_multiply(dst=t, data1=a, data2=b)",
)
def _unknown_name(code: Code, nodes: list[ast.AST]) -> Iterator[FoundAt]:
    for n in nodes:
        if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Load):
            module = next((m for m in MODULES if code.module.dotted(n.value) == {m}), None)
            if module is None:
                continue
            if n.attr in GONE.get(module, {}):
                yield n.lineno, f"{module}.{n.attr} is gone, use {GONE[module][n.attr][1]}"
            elif not n.attr.startswith("_") and not hasattr(MODULES[module], n.attr):
                near = did_you_mean(n.attr, public(MODULES[module]))
                yield n.lineno, f"{module} has no '{n.attr}'" + (f", {near}" if near else "")


@_rule(
    "unknown-argument",
    "an argument that an instruction does not take",
    "the arguments that the message says",
    REFERENCE,
    "nisa.dma_copy(dts=t, src=x)",
)
def _unknown_argument(code: Code, nodes: list[ast.AST]) -> Iterator[FoundAt]:
    for call, name in _calls(code, nodes, ISA):
        function = getattr(isa, name, None)
        if name not in TABLE or function is None:
            continue
        parameters = faces.taken(function)
        for k in call.keywords:
            if k.arg is not None and k.arg not in parameters and k.arg != "mask":
                near = did_you_mean(k.arg, parameters)
                yield call.lineno, f"{name} takes no '{k.arg}'" + (f", {near}" if near else "")


@_rule(
    "mask",
    "the argument mask",
    "bound slices with min(), or affine_select",
    MIGRATION,
    "nisa.tensor_copy(d, s, mask=m)",
)
def _mask(code: Code, nodes: list[ast.AST]) -> Iterator[FoundAt]:
    for call, name in _calls(code, nodes, ISA, LANGUAGE):
        if _keyword(call, "mask") is not None:
            yield call.lineno, f"{name} is given a mask"


@_rule(
    "no-destination",
    "an instruction whose result is taken as a value, without dst",
    "nisa.reciprocal(dst=result, data=x)",
    MIGRATION,
    "result = nisa.reciprocal(x)",
)
def _no_destination(code: Code, nodes: list[ast.AST]) -> Iterator[FoundAt]:
    statements = {id(n.value) for n in nodes if isinstance(n, ast.Expr)}
    for call, name in _calls(code, nodes, ISA):
        function = getattr(isa, name, None)
        if name not in TABLE or function is None or id(call) in statements:
            continue
        parameters = list(inspect.signature(function).parameters.values())
        if parameters[0].name != "dst" or any(k.arg in (None, "dst") for k in call.keywords):
            continue
        needed = sum(p.default is p.empty for p in parameters)
        given = len(call.args) + sum(p.name in {k.arg for k in call.keywords} for p in parameters[len(call.args) :])
        if not any(isinstance(a, ast.Starred) for a in call.args) and given < needed:
            yield call.lineno, f"{name} has no dst, and its result is used as a value"


@_rule(
    "string-buffer",
    "a memory named by a text",
    "buffer=nl.sbuf, nl.psum, nl.shared_hbm or nl.private_hbm",
    MIGRATION,
    "nl.ndarray((128, 512), dtype=nl.float32, buffer='sbuf')",
    since=(0, 3),
)
def _string_buffer(code: Code, nodes: list[ast.AST]) -> Iterator[FoundAt]:
    for call, name in _calls(code, nodes, LANGUAGE):
        value = _keyword(call, "buffer")
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield call.lineno, f"{name} is given buffer={value.value!r}"


ENUMERATIONS = ("dge_mode", "oob_mode", "engine", "reduce_cmd", "dma_engine")


@_rule(
    "integer-enumeration",
    "a number for an enumeration of nki.isa: " + ", ".join(ENUMERATIONS),
    "its member: dge_mode=nisa.dge_mode.hwdge",
    MIGRATION,
    "nisa.dma_copy(dst=t, src=x, dge_mode=2)",
    since=(0, 3),
    only_named=True,
)
def _integer_enumeration(code: Code, nodes: list[ast.AST]) -> Iterator[FoundAt]:
    for call, name in _calls(code, nodes, ISA):
        for k in call.keywords:
            if k.arg in ENUMERATIONS and isinstance(k.value, ast.Constant) and type(k.value.value) is int:
                yield call.lineno, f"{name} is given {k.arg}={k.value.value}"


@_rule(
    "wide-format",
    "a format of 64 bits",
    "nl.float32 or nl.int32; the NeuronCore has none of 64 bits",
    REFERENCE,
    "nl.ndarray((128, 512), dtype=np.float64, buffer=nl.sbuf)",
)
def _wide_format(code: Code, nodes: list[ast.AST]) -> Iterator[FoundAt]:
    for line, name, value in _formats(code, nodes):
        if _word(value) in ("float64", "uint64", "double"):
            yield line, f"{name} is given dtype={ast.unparse(value)}"


def _formats(code: Code, nodes: list[ast.AST]) -> Iterator[tuple[int, str, ast.expr]]:
    """(Line, function, format) of calls that name a format."""
    for call, name in _calls(code, nodes, ISA, LANGUAGE):
        value = _keyword(call, "dtype") or (_argument(call, 1, "dtype") if name in ALLOCATE else None)
        if value is not None:
            yield call.lineno, name, value


def _word(value: ast.expr) -> object:
    """The format that an expression names: "int64" of np.int64."""
    return value.attr if isinstance(value, ast.Attribute) else getattr(value, "value", None)


NEWER = {f"{NEW}.{m.rpartition('.')[2]}.{n}" for m, names in SINCE_0_7.items() for n in names if n != "int64"}
"""Names that came with NKI 0.7, but for its format."""


@_rule(
    "newer-name",
    "a name that came with NKI 0.7, or int64",
    "slices, registers and whole collectives; or NKI 0.7",
    REFERENCE,
    "nl.tiles(x, tile_shape=(128, 512))",
    until=PARSER,
)
def _newer_name(code: Code, nodes: list[ast.AST]) -> Iterator[FoundAt]:
    for n in nodes:
        if isinstance(n, ast.Name | ast.Attribute):
            for dotted in code.module.dotted(n) & NEWER:
                yield n.lineno, f"{ast.unparse(n)} is {dotted}"
    for line, name, value in _formats(code, nodes):
        if _word(value) == "int64":
            yield line, f"{name} is given dtype={ast.unparse(value)}"


@_rule(
    "jit-option",
    "platform_target under nki.jit",
    "the environment variable NEURON_PLATFORM_TARGET_OVERRIDE names the target",
    MIGRATION,
    "@nki.jit(platform_target='trn2')",
    since=(0, 3),
    only_named=True,
)
def _jit_option(code: Code, nodes: list[ast.AST]) -> Iterator[FoundAt]:
    for d in code.node.decorator_list:
        if isinstance(d, ast.Call) and f"{NEW}.jit" in code.module.dotted(d.func):
            for k in d.keywords:
                if k.arg == "platform_target":
                    yield d.lineno, "nki.jit is given platform_target"


# ---- dynamic loops
# ----------------------------------------------------------------------------------------------------------------------


def _dynamic_loops(code: Code, nodes: Sequence[ast.AST]) -> Iterator[ast.For]:
    for n in nodes:
        head = n.iter if isinstance(n, ast.For) else None
        if isinstance(n, ast.For) and isinstance(head, ast.Call):
            is_dynamic = code.module.of(head.func, LANGUAGE) == "dynamic_range"
            if is_dynamic:
                yield n


@_rule(
    "dynamic-exit",
    "break, continue or return in a dynamic loop",
    "a register that the loop condition reads",
    f"{KLR} KLR/Trace/NKI.lean",
    "for i in nl.dynamic_range(n):\n    break",
)
def _dynamic_exit(code: Code, nodes: list[ast.AST]) -> Iterator[FoundAt]:
    for loop in _dynamic_loops(code, nodes):
        inner = {
            id(x)
            for n in ast.walk(loop)
            if isinstance(n, ast.For | ast.While) and n is not loop
            for x in ast.walk(n)
            if isinstance(x, ast.Break | ast.Continue)
        }
        for n in ast.walk(loop):
            if isinstance(n, ast.Break | ast.Continue | ast.Return) and id(n) not in inner:
                yield n.lineno, f"{type(n).__name__.lower()} in a loop over nl.dynamic_range"


@_rule(
    "dynamic-in-no-reorder",
    "a dynamic loop inside nl.no_reorder()",
    "nl.no_reorder() inside the loop",
    "NKI dynamic loops",
    "with nl.no_reorder():\n    for i in nl.dynamic_range(n): ...",
)
def _dynamic_in_no_reorder(code: Code, nodes: list[ast.AST]) -> Iterator[FoundAt]:
    for block in nodes:
        if not isinstance(block, ast.With):
            continue
        call = block.items[0].context_expr
        if not isinstance(call, ast.Call) or code.module.of(call.func, LANGUAGE) != "no_reorder":
            continue
        within = list(ast.walk(block))
        for loop in _dynamic_loops(code, within):
            yield loop.lineno, "a loop over nl.dynamic_range inside nl.no_reorder()"
        for call, name in _calls(code, within, LANGUAGE):
            if name in LOOPS:
                yield call.lineno, f"nl.{name} inside nl.no_reorder()"


@_rule(
    "dynamic-step",
    "a step of a dynamic loop that is not a positive number of the compiler",
    "a step of 1 or more, known to the compiler",
    "NKI dynamic loops",
    "for i in nl.dynamic_range(10, 0, -1): ...",
)
def _dynamic_step(code: Code, nodes: list[ast.AST]) -> Iterator[FoundAt]:
    for call, name in _calls(code, nodes, LANGUAGE):
        if name == "dynamic_range":
            step = _argument(call, 2, "step")
        elif name == "fori_loop":
            step = _argument(call, 3, "step")
        else:
            continue
        try:
            value = ast.literal_eval(step) if step is not None else 1
        except ValueError:
            continue
        if not isinstance(value, int) or value < 1:
            yield call.lineno, f"nl.{name} has the step {value}"


@_rule(
    "loop-body",
    "a body of nl.fori_loop that returns a value, or of nl.while_loop that returns none",
    "keep what crosses turns in SBUF or HBM; a while body returns the next condition and nothing else",
    MIGRATION,
    "def body(i): return i",
    since=(0, 6),
)
def _loop_body(code: Code, nodes: list[ast.AST]) -> Iterator[FoundAt]:
    inner = {n.name: n for n in nodes if isinstance(n, FunctionNode)} | code.module.functions
    for call, name in _calls(code, nodes, LANGUAGE):
        if name not in LOOPS:
            continue
        body = _argument(call, 2 if name == "fori_loop" else 1, "body_fun")
        node = inner.get(body.id) if isinstance(body, ast.Name) else None
        if node is None:
            continue
        values = [n for n in ast.walk(node) if isinstance(n, ast.Return) and n.value is not None]
        if name == "fori_loop" and values:
            yield values[0].lineno, f"'{node.name}', a body of nl.fori_loop, returns a value"
        elif name == "while_loop" and not values:
            yield node.lineno, f"'{node.name}', a body of nl.while_loop, returns no condition"


@_rule(
    "dynamic-range",
    "nl.dynamic_range, and while over a register: a register has no value while a kernel is traced",
    "nl.fori_loop(lower, upper, body), nl.while_loop(register, body)",
    MIGRATION,
    "for i in nl.dynamic_range(n): ...",
    since=(0, 7),
)
def _dynamic_range(code: Code, nodes: list[ast.AST]) -> Iterator[FoundAt]:
    for call, name in _calls(code, nodes, LANGUAGE):
        if name == "dynamic_range":
            yield call.lineno, "nl.dynamic_range"
    registers = {
        t.id
        for n in nodes
        if isinstance(n, ast.Assign)
        and isinstance(n.value, ast.Call)
        and code.module.of(n.value.func, ISA) == "register_alloc"
        for t in n.targets
        if isinstance(t, ast.Name)
    }
    for n in nodes:
        if isinstance(n, ast.While) and isinstance(n.test, ast.Name) and n.test.id in registers:
            yield n.lineno, f"while {n.test.id}, which is a register"


# ---- launches
# ----------------------------------------------------------------------------------------------------------------------


def _space(code: Code, call: ast.Call) -> str:
    """The memory that a call of an allocating function names: "sbuf" where it says none, "" where that is unknown."""
    value = _argument(call, 2 if code.module.of(call.func, LANGUAGE) in ("ndarray", "empty") else 99, "buffer")
    if value is None:
        return "sbuf"
    return code.module.of(value, LANGUAGE) or ""


def _made(code: Code, nodes: Sequence[ast.AST]) -> dict[str, ast.Call | None]:
    """Names that one statement alone assigns, and the allocating call there; None for names of other values."""
    count = Counter(n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
    out: dict[str, ast.Call | None] = dict.fromkeys(count)
    for n in nodes:
        if isinstance(n, ast.Assign) and len(n.targets) == 1 and isinstance(n.value, ast.Call):
            target, makes = n.targets[0], code.module.of(n.value.func, LANGUAGE) in ALLOCATE
            if makes and isinstance(target, ast.Name) and count[target.id] == 1:
                out[target.id] = n.value
    return out


def _root(e: ast.expr) -> str | None:
    """The name under slices: "x" of x[0:4]."""
    while isinstance(e, ast.Subscript):
        e = e.value
    return e.id if isinstance(e, ast.Name) else None


@_rule(
    "partitions",
    "a tile of SBUF or PSUM of more than 128 partitions",
    "tile the first dimension in steps of nl.tile_size.pmax",
    REFERENCE,
    "nl.ndarray((256, 512), dtype=nl.float32, buffer=nl.sbuf)",
    stage="launch",
)
def _partitions(code: Code, nodes: list[ast.AST]) -> Iterator[FoundAt]:
    for call, name in _calls(code, nodes, LANGUAGE):
        shape = _argument(call, 0, "shape") if name in ALLOCATE else None
        if isinstance(shape, ast.Tuple | ast.List) and shape.elts and _space(code, call) in ("sbuf", "psum"):
            first = shape.elts[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, int) and first.value > PARTITIONS:
                yield call.lineno, f"a tile of {first.value} partitions in {_space(code, call).upper()}"


PARTITIONS = 128
"""Of SBUF and PSUM in every generation; a launch reads the fact `neuroncore.v*.sbuf.partitions`."""


@_rule(
    "returned-tile",
    "a kernel that returns a tile of SBUF or PSUM",
    "copy it to a tensor made with buffer=nl.shared_hbm, and return that",
    MIGRATION,
    "tile = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)\nreturn tile",
    stage="launch",
)
def _returned_tile(code: Code, nodes: list[ast.AST]) -> Iterator[FoundAt]:
    if not code.kernel or may_be_called(code):
        return
    made = _made(code, nodes)
    for n in nodes:
        if isinstance(n, ast.Return) and n.value is not None:
            for e in n.value.elts if isinstance(n.value, ast.Tuple | ast.List) else [n.value]:
                call = made.get(e.id) if isinstance(e, ast.Name) else None
                if call is not None and _space(code, call) in ("sbuf", "psum"):
                    yield n.lineno, f"'{code.name}' returns '{ast.unparse(e)}', a tile in {_space(code, call).upper()}"


COLLECT = (
    "all_reduce",
    "all_gather",
    "reduce_scatter",
    "all_to_all",
    "all_to_all_v",
    "all_gather_v",
    "collective_permute",
)
"""Collectives whose first two arguments are the tensors that they read and those that they write."""


@_rule(
    "collective-on-argument",
    "a collective that reads or writes an argument of the kernel",
    "copy to a tensor of the kernel (buffer=nl.private_hbm) with dma_copy, and exchange that",
    "neuronx-cc NCC_IBIR440: collective instructions cannot read IO tensors",
    "ncc.all_reduce(srcs=[x], dsts=[y], replica_group=group, op=nl.add)",
    stage="launch",
)
def _collective_on_argument(code: Code, nodes: list[ast.AST]) -> Iterator[FoundAt]:
    if not code.kernel:
        return
    args = code.node.args
    names = {a.arg for a in (*args.posonlyargs, *args.args, *args.kwonlyargs)}
    names -= {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    for call, name in _calls(code, nodes, COLLECTIVES):
        if name not in COLLECT:
            continue
        for word, position in (("srcs", 0), ("dsts", 1)):
            given = _argument(call, position, word)
            for e in given.elts if isinstance(given, ast.List | ast.Tuple) else [given]:
                if e is not None and _root(e) in names:
                    verb = "reads" if word == "srcs" else "writes"
                    yield call.lineno, f"{name} {verb} '{_root(e)}', an argument of '{code.name}'"


@_rule(
    "tile-assignment",
    "an assignment to elements of a tile",
    "nisa.tensor_copy(dst=tile, src=...), or nisa.memset(dst=tile, value=...) for a number",
    f"{KLR} KLR/Trace/NKI.lean",
    "tile[0:128, 0] = 1.0",
    until=PARSER,
)
def _tile_assignment(code: Code, nodes: list[ast.AST]) -> Iterator[FoundAt]:
    made = _made(code, nodes)
    for n in nodes:
        if not isinstance(n, ast.Assign | ast.AugAssign):
            continue
        for t in n.targets if isinstance(n, ast.Assign) else [n.target]:
            if isinstance(t, ast.Subscript) and made.get(_root(t) or "") is not None:
                yield n.lineno, f"elements of the tile '{_root(t)}' are assigned"
