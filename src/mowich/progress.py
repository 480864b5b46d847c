"""How far a long answer is: told by what makes it, heard by who shows it.

What loops for long says so with `steps`, which counts its items; what is one long piece names itself with `tell`. Where
nobody listens neither does anything. Loops within loops have levels: 0 is the outermost.

>>> heard = []
>>> with listening(lambda *said: heard.append(said)):
...     for system in steps(["trn3", "gb300"], "searching {}"):
...         tell(f"planning on {system}")
>>> heard[0], heard[1], heard[-1]
((0, 'searching trn3', 0, 2), (1, 'planning on trn3', 0, 0), (0, '', 2, 2))
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

Listener = Callable[[int, str, int, int], None]
"""Level, what goes on, items done, and of how many (0: not known). "" ends a level."""

IS_QUIET: ContextVar[bool] = ContextVar("mowich_quiet", default=False)
"""Whether stderr is for errors only (--quiet)."""
_LISTENER: ContextVar[Listener | None] = ContextVar("mowich_listener", default=None)
_LEVEL: ContextVar[int] = ContextVar("mowich_level", default=0)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Tell `listener` what the block does."""
    before, level = _LISTENER.set(listener), _LEVEL.set(0)
    try:
        yield
    finally:
        _LISTENER.reset(before)
        _LEVEL.reset(level)


def tell(what: str, done: int = 0, total: int = 0) -> None:
    """Say what goes on, and how much of it is done."""
    listener = _LISTENER.get()
    if listener is not None:
        listener(_LEVEL.get(), what, done, total)


@contextmanager
def course(total: int) -> Iterator[Callable[[str], None]]:
    """What names each of `total` pieces of work as it begins; what a piece says itself is a level deeper."""
    level, done = _LEVEL.get(), 0

    def begin(what: str) -> None:
        nonlocal done
        _LEVEL.set(level)
        tell(what, done, total)
        done += 1
        _LEVEL.set(level + 1)

    try:
        yield begin
    finally:
        _LEVEL.set(level)
        tell("", done, total)


def steps(items: Collection[T], what: str) -> Iterator[T]:
    """The items, each counted as it is taken. what: names what is done with one; {} in it stands for the item."""
    if _LISTENER.get() is None:
        yield from items
        return
    with course(len(items)) as begin:
        for item in items:
            begin(what.replace("{}", str(item)) if "{}" in what else what)
            yield item
