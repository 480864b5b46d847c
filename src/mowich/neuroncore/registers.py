"""Numbers of the sequencers: registers, which change in place, and the scalars of NKI 0.7, which do not."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn, SupportsInt, TypeVar

import numpy as np

from mowich.neuroncore import core as machine
from mowich.neuroncore.core import NkiValidationError, fail

if TYPE_CHECKING:
    from mowich.neuroncore.dtypes import DType

N = TypeVar("N", bound="DeviceNumber")
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")


class NoValue(NkiValidationError, TypeError):
    """Python asks for the value of a number that only the device knows."""


def no_value(what: str, fix: str) -> NoReturn:
    """Raise `NoValue` at the kernel's line."""
    raise NoValue(what, where=machine.where(), fix=fix)


class DeviceNumber:
    """A whole number on the device. value: None while it is not known; source: where it is read from, in a run without
    values."""

    __slots__ = ("source", "value")

    def __init__(self, value: int | None = None) -> None:
        self.value = value
        self.source: str = ""

    def read(self) -> int:
        """The value, for an instruction. Raises where it was never loaded, or rests on data of a run without values."""
        if self.value is None and self.source:
            raise fail(
                f"control flow that reads data of the device cannot be timed without values: {self.source}",
                fix="run with values=True (--values)",
            )
        if self.value is None:
            raise fail("reads a register that was never loaded", fix="register_load or register_move first")
        return self.value

    def on_host(self) -> int:
        """The value for Python."""
        return self.read()

    __hash__ = object.__hash__

    def follow(self: N, compute: Callable[..., int], *given: SupportsInt | DeviceNumber) -> N:
        """This number as the result of arithmetic, which each turn of a loop on the device does again."""

        def again() -> None:
            unknown = next((x for x in given if isinstance(x, DeviceNumber) and x.value is None and x.source), None)
            if unknown is not None:
                self.value, self.source = None, unknown.source
            else:
                self.value = compute(*(x.read() if isinstance(x, DeviceNumber) else int(x) for x in given))

        again()
        core = machine.running()
        if core is not None and core.turns is not None:
            core.turns.note(again)
        return self


def _register(name: str, reverse: bool = False) -> Callable[[Register, SupportsInt], Register]:
    """Arithmetic of registers: a new one."""
    compute = getattr(operator, name)

    def method(self: Register, other: SupportsInt) -> Register:
        return Register().follow(lambda a, b: compute(b, a) if reverse else compute(a, b), self, other)

    return method


def _register_comparison(name: str) -> Callable[[Register, object], bool]:
    compute: Callable[[int, int], bool] = getattr(operator, name)

    def method(self: Register, other: object) -> bool:
        return compute(self.on_host(), int(other)) if isinstance(other, int | Register | np.integer) else NotImplemented

    return method


class Register(DeviceNumber):
    """A 32-bit register of the sequencers: an integer that changes in place. While a loop on the device is traced it
    has no value for Python, nor has it in NKI 0.7."""

    __slots__ = ()

    def on_host(self) -> int:
        """The value for Python."""
        core = machine.running()
        if core is not None and (core.turns is not None or core.is_traced):
            no_value(
                "a register has no value while a kernel is traced: Python asks for it",
                "scalar_offset of .ap() takes it, nl.fori_loop and nl.while_loop loop over it",
            )
        return self.read()

    __int__ = __index__ = on_host
    __hash__ = DeviceNumber.__hash__
    __add__ = __radd__ = _register("add")
    __mul__ = __rmul__ = _register("mul")
    __sub__, __rsub__ = _register("sub"), _register("sub", reverse=True)
    __floordiv__, __mod__ = _register("floordiv"), _register("mod")
    __and__, __or__ = _register("and_"), _register("or_")
    __lshift__, __rshift__ = _register("lshift"), _register("rshift")
    __eq__ = _register_comparison("eq")
    __lt__, __le__ = _register_comparison("lt"), _register_comparison("le")
    __gt__, __ge__ = _register_comparison("gt"), _register_comparison("ge")

    def __bool__(self) -> bool:
        return self.on_host() != 0

    def __repr__(self) -> str:
        return f"register({self.value})"


def _scalar(name: str, reverse: bool = False) -> Callable[[NkiScalar, object], NkiScalar]:
    """Arithmetic of scalars: a new one, which wraps at its width, or what a comparison gives."""
    compute = getattr(operator, name)

    def method(self: NkiScalar, other: object) -> NkiScalar:
        is_comparison, bits = name in COMPARISONS, self.dtype.bits
        if is_comparison and bits > 32:
            no_value("scalars of 64 bits are not compared", "compare scalars of nl.int32")
        half = 1 << bits - 1
        out = NkiScalar(None, self.dtype, is_comparison)
        return out.follow(
            lambda a, b: (int(compute(b, a) if reverse else compute(a, b)) + half) % (2 * half) - half,
            self,
            _operand(name, self, other),
        )

    return method


def _operand(name: str, a: NkiScalar, b: object) -> int | NkiScalar:
    """The other operand of a scalar. Raises where it does not go with it."""
    half = 1 << a.dtype.bits - 1
    if a.is_comparison or (isinstance(b, NkiScalar) and b.is_comparison):
        no_value("the result of a comparison of scalars cannot be used", "count with +, - and *")
    if isinstance(b, NkiScalar):
        if b.dtype is not a.dtype:
            no_value(f"{name} of scalars of {a.dtype} and {b.dtype}", "load both as one format")
        return b
    if type(b) is not int:
        no_value(f"the other operand of a scalar is {type(b).__name__}", "an int of Python, or a scalar")
    if not -half <= b < half:
        no_value(f"the other operand of a scalar of {a.dtype} is {b}", "a number of its width")
    return b


def _refused(name: str) -> Callable[..., NoReturn]:
    def method(_: NkiScalar, *__: object) -> NoReturn:
        no_value(f"a scalar of the device has no operator {name}", "it has +, -, * and comparisons")

    return method


class NkiScalar(DeviceNumber):
    """A scalar of the device (NKI 0.7), of `nl.int32` or `nl.int64`: `nisa.scalar_load` and arithmetic make it. state:
    a number or None; is_comparison: the result of a comparison, which nothing takes."""

    __slots__ = ("dtype", "is_comparison")

    def __init__(self, state: int | None, dtype: DType | None = None, is_comparison: bool = False) -> None:
        from mowich.neuroncore.dtypes import int32

        super().__init__(state)
        self.dtype = int32 if dtype is None else dtype
        self.is_comparison = is_comparison

    def on_host(self) -> NoReturn:
        """Raise: Python never sees the value."""
        no_value(
            "a scalar of the device has no value while a kernel is traced: Python asks for it",
            "scalar_offset of .ap() takes it, nl.fori_loop and nl.while_loop loop over it",
        )

    __int__ = __index__ = __bool__ = __float__ = on_host
    __hash__ = DeviceNumber.__hash__
    __add__ = __radd__ = _scalar("add")
    __mul__ = __rmul__ = _scalar("mul")
    __sub__, __rsub__ = _scalar("sub"), _scalar("sub", reverse=True)
    __eq__, __ne__ = _scalar("eq"), _scalar("ne")  # type: ignore[assignment]
    __lt__, __le__, __gt__, __ge__ = _scalar("lt"), _scalar("le"), _scalar("gt"), _scalar("ge")
    __floordiv__ = __rfloordiv__ = _refused("//")
    __mod__ = __rmod__ = _refused("%")
    __truediv__ = __rtruediv__ = _refused("/")
    __lshift__ = __rlshift__ = _refused("<<")
    __rshift__ = __rrshift__ = _refused(">>")
    __and__ = __rand__ = _refused("&")
    __or__ = __ror__ = _refused("|")

    def __neg__(self) -> NkiScalar:
        return self.__rsub__(0)

    def __pos__(self) -> NkiScalar:
        return self.__add__(0)

    def __repr__(self) -> str:
        return f"scalar({self.dtype})"
