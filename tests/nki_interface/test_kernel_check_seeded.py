"""Seeded mistakes: `kernel check` finds each kind on its line, with shapes and without, and nothing in the kernel that
does the same without the mistake."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from test_kernel_check import MISTAKES, marked

import mowich
import mowich.nki.isa as nisa
import mowich.nki.language as nl
from mowich.neuroncore.dtypes import DType, as_dtype
from mowich.nki import jit, words
from mowich.nki.check import check_run, check_text
from mowich.nki.check.program import kernel_entries, parse_module

FILE = MISTAKES / "seeded.txt"
TEXT = FILE.read_text(encoding="utf-8")
KERNELS = {c.name: c.node for c in kernel_entries(parse_module(TEXT, str(FILE))) if c.kernel}
KINDS = [name.removeprefix("wrong_") for name in KERNELS if name.startswith("wrong_")]
ONLY_RUN = {k for k in KINDS if "only a run" in TEXT[TEXT.index(f"def wrong_{k}(") :].split('"""')[1]}
"""Kinds that no shape shows."""


def lines(name: str) -> range:
    """Lines of a kernel."""
    node = KERNELS[name]
    return range(node.lineno, (node.end_lineno or 0) + 1)


def of(name: str, found: set[tuple[int, str]]) -> set[tuple[int, str]]:
    """Those of the findings that lie in a kernel."""
    return {(line, rule) for line, rule in found if line in lines(name)}


@pytest.fixture(scope="module")
def without_shapes() -> set[tuple[int, str]]:
    return {(f.line, f.rule) for f in check_text(TEXT, str(FILE)).findings}


@pytest.fixture(scope="module")
def module() -> ModuleType:
    made = ModuleType("seeded")
    with mowich.nki.installed():
        exec(compile(TEXT, str(FILE), "exec"), made.__dict__)
    return made


def test_there_are_enough_kinds() -> None:
    assert len(KINDS) >= 24
    assert {f"right_{k}" for k in KINDS} | {f"wrong_{k}" for k in KINDS} == set(KERNELS)
    assert len(ONLY_RUN) == 2


def test_the_text_alone_finds_each_kind_that_hangs_on_no_value(without_shapes: set[tuple[int, str]]) -> None:
    assert {k for k in KINDS if not of(f"wrong_{k}", without_shapes)} == ONLY_RUN


def test_the_text_alone_finds_nothing_else(without_shapes: set[tuple[int, str]]) -> None:
    places = {line for line, _ in marked(FILE)}
    returned = set(lines("wrong_returned_tile"))
    assert {(line, rule) for line, rule in without_shapes if line not in places | returned} == set()
    assert without_shapes <= marked(FILE)
    assert [k for k in KINDS if of(f"right_{k}", without_shapes)] == []


@pytest.mark.share(3)
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_finds_it_and_nothing_in_its_twin(kind: str, module: ModuleType) -> None:
    found = {(f.line, f.rule) for f in run(module, f"wrong_{kind}").findings}
    assert found
    assert of(f"wrong_{kind}", found) == found <= marked(FILE) | _allocated(kind)
    assert run(module, f"right_{kind}").findings == ()


def _allocated(kind: str) -> set[tuple[int, str]]:
    """A run names the line that made a tile, the text the line that returns it."""
    return {(n, "returned-tile") for n in lines(f"wrong_{kind}")} if kind == "returned_tile" else set()


HEAD = "import nki, os, numpy as np\nimport nki.isa as nisa\nimport nki.language as nl\n@nki.jit\ndef k(x):\n"
REACHES = (
    "open({path!r}, 'w')",
    "os.mkdir({path!r})",
    "nl.os.mkdir({path!r})",
    "getattr(nl, 'os').mkdir({path!r})",
    "np.save({path!r}, 1)",
    "import os; os.mkdir({path!r})",
    "from os import mkdir; mkdir({path!r})",
    "().__class__.__base__.__subclasses__()[0]({path!r})",
    "nl.load.__globals__['os'].mkdir({path!r})",
    "__builtins__['open']({path!r}, 'w')",
    "__box__.imported('', 'os').mkdir({path!r})",
    "eval('open')({path!r}, 'w')",
    "nl.loops.CDLL(None).mkdir({path!r}.encode(), 511)",
    "nisa.FunctionType(nl.load.__code__, dict(open=open))()",
    "nl.shared_constant({path!r})",
    "nl.add = None; nl.load.__code__ = None",
)


@pytest.mark.parametrize("reach", REACHES)
def test_a_kernel_that_is_tried_reaches_nothing_of_the_machine(reach: str, tmp_path: Path) -> None:
    before = nl.add, nl.load.__code__
    looked = check_text(f"{HEAD}    {reach.format(path=str(tmp_path / 'made'))}\n    return x\n", "k.py")
    assert [f.rule for f in looked.findings if f.rule not in ("unknown-name", "exception")] == []
    assert list(tmp_path.iterdir()) == []
    assert (nl.add, nl.load.__code__) == before


@pytest.mark.parametrize(
    "body",
    [
        "while True: pass",
        "[i for i in range(10**12)]",
        "list(range(10**12))",
        "for i in range(10**9):\n        for j in range(10**9): nisa.dma_copy(dst=x, src=x)",
        "k(x)",
    ],
)
def test_the_work_of_a_kernel_that_is_tried_is_bounded(body: str) -> None:
    assert check_text(f"{HEAD}    {body}\n    return x\n", "k.py").findings == ()


@pytest.mark.parametrize("given", [2.0, None, "a"], ids=str)
def test_whatever_a_kernel_raises_is_one_finding_at_its_line(given: object) -> None:
    x = np.ones((128, 4), np.float32)
    places = set()
    for name in words.public(nl):
        function = getattr(nl, name)
        if not callable(function) or isinstance(function, type | DType):
            continue

        def calls(x: Any, function: Any = function) -> Any:
            function(given)
            nisa.dma_copy(dst=x, src=x)
            return x

        for f in check_run(jit(calls), (x,), {}).findings:
            places.add(f.line - calls.__code__.co_firstlineno)
            assert f.text().count("\n") == 0
            assert "bug in mowich" not in f.text()
    assert places == {1}


def run(module: ModuleType, name: str) -> Any:
    """The check of a kernel on the arguments that its text says."""
    kernel = getattr(module, name)
    first = kernel.func.__doc__.splitlines()[0]
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        n: rng.standard_normal([int(s) for s in shape.split(",")]).astype(as_dtype(dtype).dtype)
        for n, dtype, shape in re.findall(r"(\w+)=(\w+)\[([\d,]+)\]", first)
    }
    return mowich.check_kernel(kernel, lnc=2 if "--lnc=2" in first else None, **arrays)
