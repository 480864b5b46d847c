"""The instructions of a NeuronCore, a module for each engine family. What runs an instruction, what its operands may
be, what it does to tiles and what it costs stand together; `table` collects them, `issue` checks and records, `rates`
holds the numbers of a generation.

A new instruction is its cost and its effect under `@instruction`, in one place: its function in `nki.isa` is made of
that.
"""

from mowich.neuroncore.instructions import dma, exchange, generator, gpsimd, scalar, selection, sync, tensor, vector
from mowich.neuroncore.instructions.table import TABLE, InstructionRow, instruction

__all__ = [
    "TABLE",
    "InstructionRow",
    "dma",
    "exchange",
    "generator",
    "gpsimd",
    "instruction",
    "scalar",
    "selection",
    "sync",
    "tensor",
    "vector",
]
