"""Tasks: operators with a reference in NumPy, arguments, and a plain kernel to begin from, for people and programs that
write faster ones. A task is one file; what is told of it is read from its text, nothing of it runs."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mowich.errors import unknown
from mowich.examples import names_of, tasks_of
from mowich.shown import Keyed, Shown

TASK_GROUPS = ("NKIBench", "example", "Mowich")
"""Operators and sizes of AccelOpt's NKIBench, in files of our own; the kernels that ship as examples; more."""
_NKIBENCH = "nkibench_"


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelTask(Keyed):
    """One operator to make faster. name: what `task:NAME` and `KernelGym.reset` take; group: of `TASK_GROUPS`; kernel:
    the function to write; sizes: of its arguments, "M=200 N=512"; full: the sizes that it is meant for, which take
    longer to judge, "" where it has none; path: its file, with `reference()`, `inputs()` and the kernel to begin from.
    """

    KEYS = "name group what kernel sizes full"

    name: str
    group: str
    what: str
    kernel: str
    sizes: str
    full: str
    path: Path

    @property
    def text(self) -> str:
        """The file: a candidate as it stands."""
        return self.path.read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelTasks(Shown):
    """Tasks that ship. with_text: of one that was named, its file too.

    Units: none.
    """

    tasks: tuple[KernelTask, ...]
    with_text: bool = False

    def to_dict(self) -> dict[str, object]:
        """The JSON contract `mowich/kernel-tasks@1`."""
        rows = [{**t.to_dict(), **({"text": t.text} if self.with_text else {})} for t in self.tasks]
        return {"schema": "mowich/kernel-tasks@1", "tasks": rows}


@cache
def kernel_tasks() -> tuple[KernelTask, ...]:
    """All tasks, those of NKIBench first, then by name."""
    return tuple(sorted(map(_read, tasks_of()), key=lambda t: (TASK_GROUPS.index(t.group), t.name)))


def kernel_task(name: str) -> KernelTask:
    """The task of a name. Raises UserError for an unknown one.

    >>> kernel_task("gelu").kernel, kernel_task("gelu").sizes
    ('gelu', 'R=200 C=512')
    """
    known = {task.name: task for task in kernel_tasks()}
    if name not in known:
        raise unknown("task", name, known)
    return known[name]


def _read(name: str) -> KernelTask:
    """A task from the text of its file."""
    path = tasks_of()[name]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    kernels = [found for found, node in functions.items() if any(_is_jit(d) for d in node.decorator_list)]
    named = {
        t.id: n.value for n in tree.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)
    }
    full = named.get("FULL")
    is_example = name not in names_of("tasks")
    return KernelTask(
        name=name,
        group="example" if is_example else "NKIBench" if name.startswith(_NKIBENCH) else "Mowich",
        what=" ".join((ast.get_docstring(tree) or "").split()).partition(". ")[0].rstrip("."),
        kernel=name if name in kernels else kernels[0],
        sizes=_sizes(functions["inputs"]),
        full=str(full.value) if isinstance(full, ast.Constant) else "",
        path=path,
    )


def _is_jit(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "jit"


def _sizes(inputs: ast.FunctionDef) -> str:
    """ "M=200 N=512": the whole numbers that `inputs()` takes beside the seed."""
    named = inputs.args.args[len(inputs.args.args) - len(inputs.args.defaults) :]
    pairs = zip(named, inputs.args.defaults, strict=True)
    return " ".join(f"{a.arg}={ast.unparse(d)}" for a, d in pairs if a.arg != "seed" and _is_whole(d))


def _is_whole(node: ast.expr) -> bool:
    """Whether an expression is a whole number, or a product of such."""
    if isinstance(node, ast.BinOp):
        return _is_whole(node.left) and _is_whole(node.right)
    return isinstance(node, ast.Constant) and type(node.value) is int
