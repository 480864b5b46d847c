"""Registers of the sequencers."""

from __future__ import annotations

from typing import SupportsInt

import numpy as np

from mowich.neuroncore.core import fail


class Register:
    """A 32-bit register of the sequencers: an integer that changes in place."""

    __slots__ = ("value",)

    def __init__(self, value: int | None = None) -> None:
        self.value = value

    def read(self) -> int:
        """The value. Raises where the register was never loaded."""
        if self.value is None:
            raise fail("reads a register that was never loaded", fix="register_load or register_move first")
        return self.value

    def __int__(self) -> int:
        return self.read()

    __index__ = __int__

    def __bool__(self) -> bool:
        return self.read() != 0

    def __repr__(self) -> str:
        return f"register({self.value})"

    def __hash__(self) -> int:
        return id(self)

    def __add__(self, other: SupportsInt) -> Register:
        return Register(self.read() + int(other))

    __radd__ = __add__

    def __mul__(self, other: SupportsInt) -> Register:
        return Register(self.read() * int(other))

    __rmul__ = __mul__

    def __sub__(self, other: SupportsInt) -> Register:
        return Register(self.read() - int(other))

    def __rsub__(self, other: SupportsInt) -> Register:
        return Register(int(other) - self.read())

    def __floordiv__(self, other: SupportsInt) -> Register:
        return Register(self.read() // int(other))

    def __mod__(self, other: SupportsInt) -> Register:
        return Register(self.read() % int(other))

    def __and__(self, other: SupportsInt) -> Register:
        return Register(self.read() & int(other))

    def __or__(self, other: SupportsInt) -> Register:
        return Register(self.read() | int(other))

    def __lshift__(self, other: SupportsInt) -> Register:
        return Register(self.read() << int(other))

    def __rshift__(self, other: SupportsInt) -> Register:
        return Register(self.read() >> int(other))

    def __eq__(self, other: object) -> bool:
        return self.read() == other if isinstance(other, int | Register | np.integer) else NotImplemented

    def __lt__(self, other: SupportsInt) -> bool:
        return self.read() < int(other)

    def __le__(self, other: SupportsInt) -> bool:
        return self.read() <= int(other)

    def __gt__(self, other: SupportsInt) -> bool:
        return self.read() > int(other)

    def __ge__(self, other: SupportsInt) -> bool:
        return self.read() >= int(other)
