"""What operators alone reach of a chip's published rates, before any software: the physics that training and serving
share.

Every number is a fact, `devices.<chip>.*` where the chip has constants of its own, else `devices.<family>.*`: set by
measured tables of operators where they exist, else by the fits of steps. What software makes of an operator is a factor
of a stack (`software.stack`) or of an engine (`software.engine`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from mowich.facts import Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """product_16, product_8, product_4: share of the matrix peak of the format that large products reach; rows_half,
    columns_half: sides at which half of that is reached; low_rows: rows_half of 8 and 4 bit over that of 16;
    misaligned: time added to products whose rows are no whole lines of memory; weights_16, weights_8, weights_4: share
    of the memory's bandwidth at which operands of products are read; narrow_columns: columns at which reading a narrow
    matrix takes twice as long; memory: share of the bandwidth that passes over memory reach; attention: share of the
    16-bit peak of fused attention of long sequences; attention_half: tokens at which half of that is reached;
    quantise_B, quantise_4_B: bytes moved to bring an element into 8 or 4 bit."""

    product_16: float
    product_8: float
    product_4: float
    rows_half: float
    low_rows: float
    columns_half: float
    misaligned: float
    weights_16: float
    weights_8: float
    weights_4: float
    narrow_columns: float
    memory: float
    attention: float
    attention_half: float
    quantise_B: float
    quantise_4_B: float


DEVICE_FIELDS = tuple(f.name for f in fields(Device))
"""Facts of a device, in print order."""


def has_own_device(facts: Facts, chip: str) -> bool:
    """Whether a chip has constants of its own, from operators measured on it, instead of its family's."""
    return chip in facts.ids("devices")


def device_paths(owner: str) -> dict[str, str]:
    """Field of `Device` -> path of its fact, of a chip with constants of its own or of a family."""
    return {name: f"devices.{owner}.{name}" for name in DEVICE_FIELDS}
