"""`neuronxcc.nki.compiler`: allocators and hints. Addresses are for a compiler to take: tensors are checked by their
live ranges instead."""

from __future__ import annotations

from mowich.neuroncore.memory import MemoryRegion
from mowich.nki.compiler import enable_stack_allocator, no_reorder, skip_middle_end_transformations, without_effect

__path__: list[str] = []


class Placement:
    """Where an allocator would put tensors."""

    def __init__(self, region: MemoryRegion, **address: object) -> None:
        self.region, self.address = region, address


class _Memory:
    def __init__(self, region: MemoryRegion) -> None:
        self._region = region

    def alloc(self, function: object = None, **address: object) -> Placement:
        """By a function of the block indices."""
        return Placement(self._region, function=function, **address)

    def mod_alloc(self, **address: object) -> Placement:
        """By block indices modulo numbers of tiles."""
        return Placement(self._region, **address)

    def auto_alloc(self, **address: object) -> Placement:
        """By the compiler."""
        return Placement(self._region, **address)


sbuf = _Memory(MemoryRegion.sbuf)
psum = _Memory(MemoryRegion.psum)


force_auto_alloc = without_effect
__all__ = [
    "Placement",
    "enable_stack_allocator",
    "force_auto_alloc",
    "no_reorder",
    "psum",
    "sbuf",
    "skip_middle_end_transformations",
]
