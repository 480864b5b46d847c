"""`nki.compiler`: hints to a compiler, which a simulator may ignore."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

__path__: list[str] = []


@contextlib.contextmanager
def no_reorder(*_: object, **__: object) -> Iterator[None]:
    """Instructions inside keep their order."""
    yield


def skip_middle_end_transformations(fn: object = None, **_: object) -> Any:
    """Decorator without effect here."""
    return (lambda f: f) if fn is None else fn


def enable_stack_allocator(fn: object = None, **_: object) -> Any:
    """Decorator without effect here."""
    return (lambda f: f) if fn is None else fn
