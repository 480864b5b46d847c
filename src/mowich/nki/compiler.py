"""`nki.compiler`: hints to a compiler, which a simulator may ignore."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

__path__: list[str] = []


@contextlib.contextmanager
def no_reorder(*_: Any, **__: Any) -> Iterator[None]:
    """Instructions inside keep their order."""
    yield


def skip_middle_end_transformations(fn: Any = None, **_: Any) -> Any:
    """Decorator without effect here."""
    return (lambda f: f) if fn is None else fn


def enable_stack_allocator(fn: Any = None, **_: Any) -> Any:
    """Decorator without effect here."""
    return (lambda f: f) if fn is None else fn
