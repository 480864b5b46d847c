"""Are the checks checked? Each mutant of a check has one thing wrong (an operator, a number, a statement left out), and
its tests must fail.

Prints the share of mutants that tests kill, and those that live; fails where a share is below its floor (`make
mutants`). A mutant's code takes the place of the right one in a fork of this process, which has read the tests already.

    .venv/bin/python tools/mutants.py [--jobs 2] [--only result_check] [--share 4]
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import importlib
import io
import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A module of checks, the tests that hold it (files, or names in them), and the least share of its mutants that
    they must kill."""

    module: str
    tests: tuple[str, ...]
    floor: float


TARGETS = (
    Target(module="mowich.requests.result_check", tests=("tests/requests/test_result_check.py",), floor=0.95),
    Target(
        module="mowich.fleets.check",
        tests=("tests/fleets/test_fleet_check.py", "tests/fleets/test_work_goals.py::test_the_check_sees_a_gap"),
        floor=0.93,
    ),
    Target(module="mowich.studies.judge.names", tests=("tests/studies/test_judge_names.py",), floor=0.85),
)

SWAPS: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
}
"""Operator -> what stands in its place."""

LEFT_OUT = (ast.Raise, ast.Return, ast.AugAssign, ast.Continue, ast.Expr)
"""Statements that a mutant does without."""

TIME_S, TIMES = 20.0, 5.0
"""A mutant that takes so many times as long as the right code, and some seconds, is killed."""


def changes(tree: ast.Module) -> Iterator[tuple[ast.AST, str, object]]:
    """(Node, field, new value) of each mutant, in the order of the tree. Texts and types stay as they are."""
    types = {
        id(inner) for node in ast.walk(tree) for field in ("annotation", "returns") for inner in _below(node, field)
    }
    for node in ast.walk(tree):
        if id(node) in types:
            continue
        if isinstance(node, ast.Compare):
            for place, op in enumerate(node.ops):
                for other in SWAPS[type(op)]:
                    yield node, "ops", [*node.ops[:place], other(), *node.ops[place + 1 :]]
        elif isinstance(node, ast.BoolOp | ast.BinOp | ast.AugAssign):
            for other in SWAPS.get(type(node.op), ()):
                yield node, "op", other()
        elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            yield node, "value", _other(node.value)
        elif isinstance(node, ast.If | ast.IfExp) and not isinstance(node.test, ast.Compare | ast.BoolOp):
            yield node, "test", ast.UnaryOp(ast.Not(), node.test)
        for body in _bodies(node):
            for statement in getattr(node, body):
                if isinstance(statement, LEFT_OUT) and not _is_text(statement):
                    rest = [ast.Pass() if one is statement else one for one in getattr(node, body)]
                    yield node, body, rest


def _other(number: float) -> float:
    if isinstance(number, bool):
        return not number
    return number + 1 if isinstance(number, int) or number == 0.0 else 2.0 * number


def _below(node: ast.AST, field: str) -> Iterator[ast.AST]:
    found = getattr(node, field, None)
    return ast.walk(found) if isinstance(found, ast.AST) else iter(())


def _bodies(node: ast.AST) -> Iterator[str]:
    """Fields that hold statements of a function."""
    if not isinstance(node, ast.Module | ast.ClassDef):
        yield from (field for field in ("body", "orelse", "finalbody") if isinstance(getattr(node, field, None), list))


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """tree: of the whole module; line, said: what is other."""

    tree: ast.Module
    line: int
    said: str


def mutants(text: str) -> list[Mutant]:
    """Every mutant of a module.

    >>> [m.said for m in mutants("def f(x):\\n    return x > 1")]
    ['pass  # return x > 1', 'return x >= 1', 'return x <= 1', 'return x > 2']
    """
    tree, made = ast.parse(text), []
    parents = {id(inner): node for node in ast.walk(tree) for inner in ast.iter_child_nodes(node)}
    for node, field, new in changes(tree):
        old = getattr(node, field)
        setattr(node, field, new)
        shown: ast.AST = node
        while not isinstance(shown, ast.stmt):
            shown = parents[id(shown)]
        said = ast.unparse(shown)
        if isinstance(new, list) and field != "ops":
            (shown,) = [one for one, two in zip(old, new, strict=True) if one is not two]
            said = f"pass  # {ast.unparse(shown)}"
        whole = ast.fix_missing_locations(copy.deepcopy(tree))
        made.append(Mutant(tree=whole, line=getattr(shown, "lineno", 0), said=said.splitlines()[0][:110]))
        setattr(node, field, old)
    return sorted(made, key=lambda m: m.line)


def put_in(module: ModuleType, tree: ast.Module) -> None:
    """Gives the functions, methods and values of a module those of a mutant. Functions stay the same objects, which
    others have imported by name."""
    new = ModuleType(module.__name__)
    new.__file__ = module.__file__
    exec(compile(tree, module.__file__ or "", "exec"), new.__dict__)
    for name, value in vars(new).items():
        _replace(module, name, getattr(module, name, None), value, module.__name__)


def _replace(owner: object, name: str, old: object, new: object, where: str) -> None:
    for key in ("__wrapped__", "__func__", "fget"):  # of a cache, a class method, a property
        if hasattr(new, key) and hasattr(old, key):
            getattr(old, "cache_clear", lambda: None)()
            return _replace(old, key, getattr(old, key), getattr(new, key), where)
    if isinstance(old, FunctionType) and isinstance(new, FunctionType):
        if old.__module__ == where:
            old.__code__, old.__defaults__, old.__kwdefaults__ = new.__code__, new.__defaults__, new.__kwdefaults__
    elif isinstance(old, type) and isinstance(new, type):
        for key, value in vars(new).items():
            if old.__module__ == where and key in vars(old) and not isinstance(value, type):
                _replace(old, key, vars(old)[key], value, where)
    elif isinstance(owner, ModuleType) and not name.startswith("__") and not callable(new):
        setattr(owner, name, new)
    return None


def passed(tests: tuple[str, ...], module: ModuleType, tree: ast.Module | None, limit_s: float) -> bool:
    """Whether tests pass with a mutant (None: the right code), in a fork."""
    child = os.fork()
    if child:
        status = os.waitpid(child, 0)[1]
        return os.waitstatus_to_exitcode(status) == 0
    os.setpgid(0, 0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    signal.signal(signal.SIGALRM, lambda *_: os.killpg(0, signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        if tree is not None:
            put_in(module, tree)
        ended = int(_ran(tests))
    except BaseException:
        ended = 70
    os._exit(ended)


def _ran(tests: tuple[str, ...], *words: str) -> int:
    return int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-n", "0", *words, *tests]))


def tried(target: Target, jobs: int, share: int) -> float:
    """The share of the mutants of a module that its tests kill."""
    module = importlib.import_module(target.module)
    assert module.__file__
    with contextlib.redirect_stdout(io.StringIO()):
        _ran(target.tests, "--collect-only")  # what tests import is imported once
    began = time.monotonic()
    if not passed(target.tests, module, None, 600.0):
        sys.exit(f"{target.module}: its tests fail without a mutant")
    limit_s = TIME_S + TIMES * (time.monotonic() - began)
    made = mutants(Path(module.__file__).read_text(encoding="utf-8"))[::share]
    alive = 0
    with ThreadPoolExecutor(jobs) as pool:
        for mutant, lives in zip(
            made, pool.map(lambda m: passed(target.tests, module, m.tree, limit_s), made), strict=True
        ):
            alive += lives
            if lives:
                print(f"  lives: {target.module.rpartition('.')[2]}.py:{mutant.line}: {mutant.said}", flush=True)
    killed = 1.0 - alive / len(made)
    print(f"{target.module}: {len(made)} mutants, {killed:.1%} killed, floor {target.floor:.0%}", flush=True)
    return killed


def main() -> int:
    parser = argparse.ArgumentParser(description="Try mutants of the checks on their tests.")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", default="", help="modules whose name ends so")
    parser.add_argument("--share", type=int, default=1, help="one mutant in so many")
    asked = parser.parse_args()
    os.chdir(ROOT)
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    sys.path.insert(0, str(ROOT / "tests"))
    targets = [target for target in TARGETS if target.module.endswith(asked.only)]
    below = [target for target in targets if tried(target, asked.jobs, asked.share) < target.floor]
    return int(bool(below))


if __name__ == "__main__":
    sys.exit(main())
