"""What ran: one record per instruction, with the bytes that it read and wrote. The scheduler replays it; nothing here computes."""

from __future__ import annotations

from typing import Any, NamedTuple


class Access(NamedTuple):
    """Bytes that an instruction touches. storage: number of the allocation; space: "S", "P" or "H"; offset and strides in elements
    of `itemsize` bytes from the start of the allocation (partitions outermost); shape: elements along each stride."""

    storage: int
    space: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    itemsize: int
    dtype: str


class Record(NamedTuple):
    """One instruction: its row of the table, the engine asked for, what it touches, flags that set its cost, the kernel's line."""

    number: int
    name: str
    engine: str
    reads: tuple[Access, ...]
    writes: tuple[Access, ...]
    flags: dict[str, Any] | None
    file: str
    line: int


class Trace:
    """The records of one core in program order, and the order that `depends_on` adds."""

    __slots__ = ("edges", "records")

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.edges: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self.records)
