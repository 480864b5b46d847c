"""Loops and programs of `nki.language`: ranges that Python unrolls, `fori_loop` and `while_loop` on the device, the
grid of programs; and loops over Python's `range` in the function of a kernel, as those that are repeated."""

from __future__ import annotations

import ast
import builtins
import contextlib
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import CodeType, FunctionType
from typing import SupportsIndex, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np

from mowich.neuroncore import access, turns
from mowich.neuroncore import core as machine
from mowich.neuroncore.access import Place
from mowich.neuroncore.core import fail
from mowich.neuroncore.dtypes import int32
from mowich.neuroncore.registers import NkiScalar, Register
from mowich.nki import faces, loops
from mowich.nki.affine.source import tree_of


def _bounds(start: Place, stop: Place | None, step: Place) -> range:
    if type(start) is int and stop is None and type(step) is int and step == 1:
        return range(start)
    values = [access.host_value(v) for v in ((0, start, step) if stop is None else (start, stop, step))]
    if values[2] == 0:
        raise fail("the step of a range is not 0", given=values)
    return range(*values)


def _unrolled(name: str, values: range) -> Iterable[int]:
    """A loop of Python. In NKI 0.7 its older names are deprecated: that is said once in a run."""
    core = machine.running()
    if core is not None and core.is_traced and "unrolled" not in core.warned:
        core.warned.add("unrolled")
        core.warn("unrolled", f"nl.{name} is deprecated in NKI 0.7: range does the same")
    return loops.over(values, 2)


@faces.shown_without("_")
def affine_range(start: Place, stop: Place | None = None, step: Place = 1, **_: object) -> Iterable[int]:
    """range: iterations without order."""
    return _unrolled("affine_range", _bounds(start, stop, step))


@faces.shown_without("_")
def sequential_range(start: Place, stop: Place | None = None, step: Place = 1, **_: object) -> Iterable[int]:
    """range: iterations in order."""
    return _unrolled("sequential_range", _bounds(start, stop, step))


@faces.shown_without("_")
def static_range(start: Place, stop: Place | None = None, step: Place = 1, **_: object) -> Iterable[int]:
    """range: unrolled."""
    return _unrolled("static_range", _bounds(start, stop, step))


@faces.shown_without("_")
def dynamic_range(start: Place, stop: Place | None = None, step: Place = 1, **_: object) -> Iterator[int]:
    """range on the device: bounds may be registers. Gone from NKI 0.7: `fori_loop` does it."""
    core = machine.active()
    if core.is_traced:
        raise fail("nl.dynamic_range is gone from NKI 0.7", fix="nl.fori_loop(lower, upper, body)")
    if isinstance(step, Register):
        raise fail("the step of dynamic_range is a constant")
    for i in _bounds(start, stop, step):
        yield i
        turns.end_turn(core)


LoopBound: TypeAlias = int | Register | NkiScalar


def _read_bound(name: str, given: object) -> LoopBound:
    """A bound of a loop on the device."""
    if isinstance(given, np.integer):
        given = int(given)
    is_number = isinstance(given, Register) or type(given) is int
    is_scalar = isinstance(given, NkiScalar) and given.dtype is int32 and not given.is_comparison
    if not (is_number or is_scalar) or (type(given) is int and not -(1 << 31) <= given < 1 << 31):
        shown = given.dtype if isinstance(given, NkiScalar) and not given.is_comparison else given
        raise fail(name, given=shown, allowed="a whole number of 32 bits, a register, or a scalar of nl.int32")
    return given  # type: ignore[return-value]


def fori_loop(lower: LoopBound, upper: LoopBound, body_fun: Callable[..., object], step: int = 1) -> None:
    """body_fun(i) on the device for each i of range(lower, upper, step). Python traces the body once; i is a number of
    the device, which .ap(scalar_offset=i) takes. Each turn ends with a drain and a barrier over all engines."""
    core = machine.active()
    if type(step) is not int or step < 1:
        raise fail("the step of fori_loop is a constant", given=step, allowed="a whole number from 1 on")
    first, last = _read_bound("lower of fori_loop", lower), _read_bound("upper of fori_loop", upper)
    is_register = not core.is_traced or isinstance(first, Register) or isinstance(last, Register)
    i: Register | NkiScalar = Register() if is_register else NkiScalar(None)
    i.source = "the index of a loop that makes no turn"

    def steps() -> Iterator[None]:
        for value in range(access.scalar_value(first), access.scalar_value(last), step):
            i.value = value
            yield

    def body() -> None:
        if body_fun(i) is not None:
            raise fail("a body of fori_loop returns a value", fix="keep what crosses turns in SBUF or HBM")

    turns.run_loop(core, steps, body)


def while_loop(init: Register | NkiScalar, body_fun: Callable[..., Register | NkiScalar]) -> None:
    """r = init, and r = body_fun(r) on the device while r is not 0. Python traces the body once; it returns the next
    condition. Scalars of nl.int32 as conditions are inferred: AWS's page names registers."""
    if not isinstance(init, Register | NkiScalar):
        raise fail("the condition of while_loop", given=init, allowed="a register, or a scalar of nl.int32")
    first = _read_bound("the condition of while_loop", init)
    assert isinstance(first, Register | NkiScalar)
    given: Register | NkiScalar = Register() if isinstance(first, Register) else NkiScalar(None)
    given.source = "the condition of a loop that makes no turn"
    following: list[Register | NkiScalar] = []

    def steps() -> Iterator[None]:
        given.value = first.read()
        while given.value:
            yield
            given.value = following[0].read()

    def body() -> None:
        made = body_fun(given)
        if not isinstance(made, Register | NkiScalar):
            raise fail(
                "a body of while_loop returns no condition",
                given=type(made).__name__,
                allowed="a register, or a scalar of nl.int32",
            )
        _read_bound("the condition of while_loop", made)
        following[:] = [made]

    turns.run_loop(machine.active(), steps, body)


@contextlib.contextmanager
def no_reorder() -> Iterator[None]:
    """Instructions inside keep their order."""
    trace = machine.active().trace
    before = trace is not None and trace.keeps_order
    if trace is not None:
        trace.keep_order(True)
    try:
        yield
    finally:
        if trace is not None:
            trace.keep_order(before)


def program_id(axis: int = 0) -> int:
    """Index of this program along an axis of the grid."""
    core = machine.active()
    return core.grid_index[axis] if axis < len(core.grid_index) else 0


def num_programs(axes: int | Sequence[int] | None = 0) -> int:
    """Programs along axes of the grid."""
    core = machine.active()
    if axes is None:
        return math.prod(core.grid)
    wanted: Sequence[int] = (axes,) if isinstance(axes, int) else axes
    return math.prod(core.grid[a] if a < len(core.grid) else 1 for a in wanted)


def program_ndim() -> int:
    """Dimensions of the grid; 0 without one."""
    return len(machine.active().grid)


def static_assert(condition: object, message: str = "") -> None:
    """Raise where the condition does not hold."""
    if not condition:
        raise fail(f"static_assert failed{': ' + message if message else ''}")


def _range(*bounds: SupportsIndex) -> Iterable[int]:
    """What `range` is to a kernel whose loops may be repeated."""
    return loops.over(range(*bounds))


_WITH_RANGE_LOOPS: WeakKeyDictionary[FunctionType, FunctionType] = WeakKeyDictionary()
_BUILTINS = {**vars(builtins), "range": _range}


def with_range_loops(func: Callable[..., object]) -> Callable[..., object]:
    """The same function, whose loops over Python's `range` may be repeated as those over `nl.affine_range` are. It has
    the same code and the same globals; where its source names `range` elsewhere than in a loop, it is left alone."""
    if not isinstance(func, FunctionType) or "range" in func.__globals__ or not _has_range_loops(func.__code__):
        return func
    made = _WITH_RANGE_LOOPS.get(func)
    if made is None or made.__code__ is not func.__code__:
        space, key = func.__globals__, "__builtins__"
        before = space.get(key)
        if before is not builtins and before is not vars(builtins):
            return func
        space[key] = _BUILTINS  # a function keeps those that its globals had when it was made
        try:
            made = FunctionType(func.__code__, space, func.__name__, func.__defaults__, func.__closure__)
        finally:
            space[key] = before
        functools.update_wrapper(made, func)
        made.__kwdefaults__ = func.__kwdefaults__
        _WITH_RANGE_LOOPS[func] = made
    return made


@functools.lru_cache(1024)
def _has_range_loops(code: CodeType) -> bool:
    """Whether a function names `range`, and all that it does with it is to go through it in loops."""
    if "range" not in code.co_names or (tree := tree_of(code)) is None:
        return False
    named = [n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == "range"]
    calls = [n.iter.func for n in ast.walk(tree) if isinstance(n, ast.For) and isinstance(n.iter, ast.Call)]
    return all(any(n is call for call in calls) for n in named)


OF_LANGUAGE = (
    *(affine_range, sequential_range, static_range, dynamic_range, fori_loop, while_loop),
    *(no_reorder, program_id, num_programs, program_ndim, static_assert),
)
for _function in OF_LANGUAGE:  # where kernels know it, and what reads their source
    _function.__module__ = "mowich.nki.language"
