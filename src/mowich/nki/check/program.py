"""Files with kernels as trees: which functions are kernels, and which functions a kernel reaches, in its own file and
in those that it imports. Nothing is run."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from weakref import WeakKeyDictionary

from mowich.errors import UserError
from mowich.neuroncore.instructions import TABLE

NEW, OLD = "nki", "neuronxcc.nki"
JITS = ("jit", "trace", "simulate", "cpu_simulate")
"""Functions of `nki` that make a kernel of a function."""
MOVES = ("load", "store")
"""Functions of `nki.language` that issue an instruction, and that nothing but a kernel calls."""
LOOPS = ("fori_loop", "while_loop")
"""Loops of `nki.language` that take their body as a function."""

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(eq=False)
class Module:
    """One file, or a text in one. text: its source; aliases: name -> what it was imported as, dotted ("nki.language";
    ".." in front of relative ones); functions, classes: those of its top level."""

    file: str
    path: Path
    tree: ast.Module
    text: str = ""
    aliases: dict[str, set[str]] = field(default_factory=dict)
    functions: dict[str, FunctionNode] = field(default_factory=dict)
    classes: dict[str, ast.ClassDef] = field(default_factory=dict)

    def dotted(self, e: ast.expr) -> set[str]:
        """What a name or an attribute may stand for: `nl.add` -> {"nki.language.add"}; nothing for other things."""
        if isinstance(e, ast.Name):
            return self.aliases.get(e.id, set())
        if isinstance(e, ast.Attribute):
            return {f"{base}.{e.attr}" for base in self.dotted(e.value)}
        return set()

    def of(self, e: ast.expr, *modules: str) -> str | None:
        """The name that an expression takes from one of these modules: "add" of nki.language.add."""
        for name in self.dotted(e):
            base, _, last = name.rpartition(".")
            if base in modules:
                return last
        return None


@dataclass(frozen=True, eq=False)
class Code:
    """A function that is compiled. kernel: it is launched from the host; older: with the older interface; name: as
    reports have it ("C.method")."""

    module: Module
    node: FunctionNode
    name: str
    kernel: bool
    older: bool


def parse_module(text: str, file: str) -> Module:
    """A file's text as a module. Raises UserError for a file that is not Python."""
    try:
        tree = ast.parse(text, file)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise UserError(f"SyntaxError: {getattr(error, 'msg', error)}", where=f"{file}:{line}") from error
    module = Module(file, Path(file), tree, text)
    for node in top_statements(tree.body):
        if isinstance(node, ast.Import):
            for a in node.names:
                top = a.name if a.asname else a.name.partition(".")[0]
                module.aliases.setdefault(a.asname or top, set()).add(top)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            for a in node.names:
                joined = f"{base}{a.name}" if base.endswith(".") else f"{base}.{a.name}"
                module.aliases.setdefault(a.asname or a.name, set()).add(joined)
        elif isinstance(node, FunctionNode):
            module.functions[node.name] = node
        elif isinstance(node, ast.ClassDef):
            module.classes[node.name] = node
    return module


def top_statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements of the top level, those under `if`, `try` and `with` too."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try | ast.With):
            for name in ("body", "orelse", "finalbody"):
                yield from top_statements(getattr(node, name, []))
            for handler in getattr(node, "handlers", []):
                yield from top_statements(handler.body)


@lru_cache(maxsize=512)
def _read(path: Path) -> Module | None:
    """A file that a kernel imports; None where it cannot be read: what it holds is then not looked at."""
    try:
        return parse_module(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError, UserError):
        return None


def _file_of(parts: list[str], folder: Path) -> Path | None:
    base = folder.joinpath(*parts)
    for path in (base.with_suffix(".py") if parts else base / "__init__.py", base / "__init__.py"):
        if path.is_file():
            return path
    return None


def imported_module(module: Module, dotted: str) -> tuple[Module, str] | None:
    """(module, name in it) of something imported from a file that lies beside: relative to the file, or below one of
    the folders above it, as its package is imported."""
    level = len(dotted) - len(dotted.lstrip("."))
    *parts, name = dotted.lstrip(".").split(".")
    folder = module.path.resolve().parent
    folders = [folder, *folder.parents][level - 1 : level] if level else [folder, *folder.parents]
    if not level and not parts:
        return None
    for base in folders:
        path = _file_of(parts, base)
        found = _read(path) if path is not None else None
        if found is not None:
            return found, name
    return None


def file_module(module: Module, dotted: str) -> Module | None:
    """A whole file that is imported from beside a module."""
    found = imported_module(module, f"{dotted}.")
    return None if found is None else found[0]


def resolved_name(module: Module, e: ast.expr, depth: int = 8) -> tuple[Module, FunctionNode | ast.ClassDef] | None:
    """The function or class of a file at hand that a name or attribute stands for."""
    if isinstance(e, ast.Name):
        here = _named(module, e.id, depth)
        if here is not None:
            return here
    for dotted in module.dotted(e):
        if not dotted.startswith((NEW + ".", OLD + ".")):
            found = imported_module(module, dotted)
            if found is not None and depth:
                other = _named(*found, depth - 1)
                if other is not None:
                    return other
    return None


def _named(module: Module, name: str, depth: int) -> tuple[Module, FunctionNode | ast.ClassDef] | None:
    found = module.functions.get(name) or module.classes.get(name)
    if found is not None:
        return module, found
    if name in module.aliases and depth:
        return resolved_name(module, ast.Name(name, ast.Load()), depth - 1) if name not in module.functions else None
    return None


def interface(module: Module, e: ast.expr, depth: int = 2) -> str | None:
    """NEW or OLD where a decorator or call makes a kernel with it, None otherwise: `nki.jit`, a name of the file that
    is made of it (`functools.partial(nki.jit, ...)`), or a function of the file that calls it."""
    target = e.func if isinstance(e, ast.Call) else e
    for name in module.dotted(target):
        for top in (NEW, OLD):
            if name in {f"{top}.{jit}" for jit in JITS}:
                return top
        if name.rpartition(".")[2] == "nki_jit":
            return OLD
    if not depth or not isinstance(target, ast.Name):
        return None
    made: list[ast.AST] = [*assigned_values(module).get(target.id, ())]
    if target.id in module.functions:
        made += module.functions[target.id].body
    inner = (n for m in made for n in ast.walk(m) if isinstance(n, ast.Attribute | ast.Name))
    found = (interface(module, n, 0) for n in inner if n is not e)
    return next((top for top in found if top is not None), None)


def assigned_values(module: Module) -> dict[str, list[ast.expr]]:
    """Names that the top level of a module assigns, and what to; a name that is assigned in turns has several."""
    found = _VALUES.get(module)
    if found is None:
        found = _VALUES[module] = {}
        for node in top_statements(module.tree.body):
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    _note(target, node.value, found)
            elif isinstance(node, ast.AnnAssign | ast.AugAssign) and node.value is not None:
                _note(node.target, node.value, found)
            if isinstance(node, ast.For | ast.While | ast.With | ast.AugAssign):
                for inner in ast.walk(node):
                    if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                        found.setdefault(inner.id, []).extend([inner, inner])
    return found


_VALUES: WeakKeyDictionary[Module, dict[str, list[ast.expr]]] = WeakKeyDictionary()


def _note(target: ast.expr, value: ast.expr, found: dict[str, list[ast.expr]]) -> None:
    if isinstance(target, ast.Name):
        found.setdefault(target.id, []).append(value)
    elif isinstance(target, ast.Tuple | ast.List):
        elements = value.elts if isinstance(value, ast.Tuple | ast.List) else []
        for i, t in enumerate(target.elts):
            if isinstance(t, ast.Name):
                at = ast.copy_location(ast.Subscript(value, ast.Constant(i), ast.Load()), value)
                found.setdefault(t.id, []).append(elements[i] if len(elements) == len(target.elts) else at)


def texts_within(module: Module) -> list[Module]:
    """Texts of a file that are Python with kernels, each as a module whose lines are those of the file."""
    out = []
    for n in ast.walk(module.tree):
        if not isinstance(n, ast.Constant) or not isinstance(n.value, str) or not _SOURCE.search(n.value):
            continue
        first = 0 if n.value.count("\n") == (n.end_lineno or 0) - n.lineno else -1
        lines = textwrap.dedent(n.value).splitlines(keepends=True)
        if n.value[:1] not in "\n " and lines:  # the first line is not indented as the others are
            lines = [
                lines[0],
                *textwrap.dedent("".join(n.value.splitlines(keepends=True)[1:])).splitlines(keepends=True),
            ]
        try:
            out.append(parse_module("\n" * (n.lineno - 1 if first == 0 else 0) + "".join(lines), module.file))
        except UserError:
            continue
    return out


def text_with_kernel(text: str, file: str, kernel: str) -> str | None:
    """The text within a file that defines a kernel, on lines of the file; None where it is none, or the file itself
    does."""
    module = parse_module(text, file)
    if kernel in module.functions:
        return None
    return next((m.text for m in texts_within(module) if kernel in m.functions), None)


_SOURCE = re.compile(r"\bnki\b(?s:.*)^\s*def \w+\(", re.MULTILINE)


def _issues(module: Module, node: FunctionNode) -> str | None:
    """The interface of a function that issues instructions itself, None for one that does not."""
    for call in ast.walk(node):
        if isinstance(call, ast.Call):
            for top in (NEW, OLD):
                if module.of(call.func, f"{top}.isa") in TABLE or module.of(call.func, f"{top}.language") in MOVES:
                    return top
    return None


def kernel_entries(module: Module, kernel: str | None = None) -> list[Code]:
    """Where a compiler would begin: functions under `nki.jit`, those given to it, and functions that issue instructions
    themselves. kernel: only that function. Raises UserError where there is no such function."""
    found: dict[str, Code] = {}
    wrapped = {
        arg.id: top
        for call in ast.walk(module.tree)
        if isinstance(call, ast.Call) and (top := interface(module, call)) is not None
        for arg in call.args
        if isinstance(arg, ast.Name)
    }
    for name, node in module.functions.items():
        top = next((t for d in node.decorator_list if (t := interface(module, d)) is not None), wrapped.get(name))
        within = top or _issues(module, node)
        if within is not None:
            found[name] = Code(module, node, name, top is not None, within == OLD)
    if kernel is None:
        return list(found.values())
    if kernel not in module.functions:
        from mowich.errors import unknown

        raise unknown("kernel", kernel, found or module.functions, where=module.file)
    old = any(name.startswith(OLD) for names in module.aliases.values() for name in names)
    node = module.functions[kernel]
    return [found.get(kernel) or Code(module, node, kernel, True, _issues(module, node) == OLD or old)]


def may_be_called(code: Code) -> bool:
    """Whether another kernel may call this one: one of its file does, or it lies in a package."""
    if code.module.path.resolve().with_name("__init__.py").is_file():
        return True
    return bool(_named_in(code.module).get(code.name, set()) - {code.node})


def _named_in(module: Module) -> dict[str, set[ast.AST]]:
    """The functions of a module's top level by the names that they read."""
    found = _NAMED.get(module)
    if found is None:
        found = _NAMED[module] = {}
        for f in module.functions.values():
            for n in ast.walk(f):
                if isinstance(n, ast.Name):
                    found.setdefault(n.id, set()).add(f)
    return found


_NAMED: WeakKeyDictionary[Module, dict[str, set[ast.AST]]] = WeakKeyDictionary()


def reached_code(start: list[Code]) -> list[Code]:
    """These functions and all that they call or name, in files at hand; each once."""
    out: list[Code] = []
    seen: set[ast.AST] = set()
    todo = list(start)
    seen.update(c.node for c in todo)
    while todo:
        code = todo.pop()
        out.append(code)
        for e in _names(code.node):
            found = resolved_name(code.module, e)
            if found is None:
                continue
            module, node = found
            nodes = [node] if isinstance(node, FunctionNode) else _methods(node)
            for n in nodes:
                if n not in seen:
                    seen.add(n)
                    name = n.name if n is node else f"{node.name}.{n.name}"
                    todo.append(Code(module, n, name, False, code.older))
    return sorted(out, key=lambda c: (c.module.file, c.node.lineno))


def _methods(node: ast.ClassDef) -> list[FunctionNode]:
    return [m for m in node.body if isinstance(m, FunctionNode)]


def _names(node: FunctionNode) -> Iterator[ast.expr]:
    """Names and attributes that the body of a function reads; annotations and decorators are not followed."""
    todo: list[ast.AST] = [*node.body, *node.args.defaults, *(d for d in node.args.kw_defaults if d is not None)]
    while todo:
        n = todo.pop()
        if isinstance(n, ast.Name | ast.Attribute) and isinstance(n.ctx, ast.Load):
            yield n
        if isinstance(n, ast.AnnAssign):
            todo += [x for x in (n.target, n.value) if x is not None]
        else:
            todo += ast.iter_child_nodes(n)


def classes_of(codes: list[Code]) -> list[tuple[Module, ast.ClassDef]]:
    """The classes that these functions make or name, in files at hand, each once. Enumerations and others of Python's
    own are left out by their base."""
    seen: dict[ast.ClassDef, Module] = {}
    for code in codes:
        if code.older:
            continue
        for e in _names(code.node):
            found = resolved_name(code.module, e)
            if found is not None and isinstance(found[1], ast.ClassDef):
                seen.setdefault(found[1], found[0])
    return [(m, c) for c, m in seen.items()]
