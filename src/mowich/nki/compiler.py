"""`nki.compiler`: hints to a compiler, which a simulator may ignore."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True, kw_only=True)
class CompileConfig:
    """`nki.jit(compile_config=...)`: options of the compiler behind the front end, without effect here."""

    address_rotation: bool | None = None
    non_ssa_legalization: bool | None = None
    dead_code_elim: bool | None = None
    barrier_check: bool | None = None


@dataclass(frozen=True, kw_only=True)
class SpecializationConfig:
    """`nki.jit(specialization_config=...)`: options of the front end, without effect here."""

    allow_nested_config_override: bool | None = None
