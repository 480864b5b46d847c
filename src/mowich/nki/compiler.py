"""`nki.compiler`: hints to a compiler, which a simulator may ignore."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from mowich.errors import UserError

__path__: list[str] = []


@contextlib.contextmanager
def no_reorder(*_: object, **__: object) -> Iterator[None]:
    """Instructions inside keep their order."""
    yield


def without_effect(fn: object = None, **_: object) -> Any:
    """Decorator without effect here."""
    return (lambda f: f) if fn is None else fn


skip_middle_end_transformations = enable_stack_allocator = without_effect


class AddressRotation(Enum):
    """Which tensors the backend may move between buffers."""

    AUTO = "auto"
    ENABLE = "enable"
    DISABLE = "disable"


PREFETCH_RING = "NKI_PREFETCH_RING_SIZE"
"""Environment variable that excludes `prefetch_auto`."""


@dataclass(frozen=True, kw_only=True)
class CompileConfig:
    """`nki.jit(compile_config=...)`: options of the compiler behind the front end, without effect on values here. None:
    the compiler's own default, which AWS's page does not say. `AUTO`: only what the backend placed may move;
    barrier_check: compile with the checker of core barriers; prefetch_auto: a DMA prefetch ring in SBUF;
    nki_alloc_fallback=False: an overflow of SBUF or PSUM is an error at once. Raises where prefetch_auto meets
    NKI_PREFETCH_RING_SIZE."""

    address_rotation: AddressRotation = AddressRotation.AUTO
    non_ssa_legalization: bool | None = None
    dead_code_elim: bool | None = None
    barrier_check: bool | None = None
    prefetch_auto: bool = False
    nki_alloc_fallback: bool = True

    def __post_init__(self) -> None:
        if self.prefetch_auto and os.environ.get(PREFETCH_RING):
            raise UserError(f"prefetch_auto with {PREFETCH_RING}", fix="one of the two")


@dataclass(frozen=True, kw_only=True)
class SpecializationConfig:
    """`nki.jit(specialization_config=...)`. allow_nested_config_override: a kernel within this one that has another
    `CompileConfig` is a warning, not an error."""

    allow_nested_config_override: bool = False
