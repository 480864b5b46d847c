"""The cost of every kind of instruction on one generation: the cost of its row, kept."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from mowich.errors import UserError
from mowich.facts import Facts
from mowich.neuroncore.instructions import TABLE
from mowich.neuroncore.instructions.rates import Cost, InstructionRates
from mowich.neuroncore.trace import Kind, Operand


class Costs(InstructionRates):
    """The numbers of one generation, and the costs that follow from them."""

    def __init__(self, generation: int, facts: Facts | None = None) -> None:
        super().__init__(generation, facts)
        self._found: dict[tuple[Kind, int], Cost] = {}

    def of(self, kind: Kind, ranks: int = 1) -> Cost:
        """The cost of a kind of instruction; ranks: members of a collective."""
        found = self._found.get((kind, ranks))
        if found is None:
            row = TABLE.get(kind.name)
            if row is None or kind.engine not in row.engines:
                raise UserError(f"no cost for {kind.name} on the {kind.engine} engine")
            billed = kind if ranks == 1 else kind._replace(flags=(*kind.flags, ("ranks", ranks)))
            found = self._found[kind, ranks] = row.cost(self, billed)
        return found

    def spill(self, parts: int, row_B: int, is_load: bool) -> Cost:
        """A tile of `parts` partitions to a buffer in HBM, or back."""
        tile = Operand("S", (parts, row_B), (row_B, 1), 1, "uint8", 0, "")
        memory = Operand("H", (parts, row_B), (row_B, 1), 1, "uint8", 0, "")
        source, target = (memory, tile) if is_load else (tile, memory)
        made = self.of(Kind("dma_copy", "dma", (), (source,), (target,)))
        return replace(made, opcode="reload" if is_load else "spill")


@cache
def costs(generation: int) -> Costs:
    """Costs of a generation from the shipped facts."""
    return Costs(generation)
