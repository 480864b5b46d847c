"""The share of a chip's published rates that operators reach before any software: the physics that training and serving
share.

Every number is a fact, `devices.<chip>.*` where the chip has constants of its own, else `devices.<family>.*`: set by
measured tables of operators where they exist, else by the fits of steps. The effect of software is a factor of a stack
(`software.stack`) or of an engine (`software.engine`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from mowich.facts import Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """The shares of a device's published rates that operators reach."""

    product_16: float
    """Share of the matrix peak of 16 bit that large products reach."""
    product_8: float
    """The same share of the peak of 8 bit."""
    product_4: float
    """The same share of the peak of 4 bit."""
    rows_half: float
    """Rows at which half of that is reached, in 16 bit."""
    low_rows: float
    """The same rows in 8 and 4 bit, over those in 16."""
    columns_half: float
    """Columns at which half of that is reached."""
    misaligned: float
    """Share of time added to products whose rows are no whole lines of memory."""
    weights_16: float
    """Share of the memory's bandwidth at which 16-bit operands of products are read."""
    weights_8: float
    """The same share for operands of 8 bit."""
    weights_4: float
    """The same share for operands of 4 bit."""
    narrow_columns: float
    """Columns at which reading a narrow matrix takes twice as long."""
    memory: float
    """Share of the bandwidth that passes over memory reach."""
    attention: float
    """Share of the 16-bit peak that fused attention of long sequences reaches."""
    attention_half: float
    """Tokens at which half of that is reached."""
    quantise_B: float
    """Bytes moved to bring an element into 8 bit."""
    quantise_4_B: float
    """Bytes moved to bring an element into 4 bit."""


DEVICE_FIELDS = tuple(f.name for f in fields(Device))
"""Facts of a device, in print order."""


def has_own_device(facts: Facts, chip: str) -> bool:
    """Whether a chip has constants of its own, from operators measured on it, instead of its family's."""
    return chip in facts.ids("devices")


def device_paths(owner: str) -> dict[str, str]:
    """Field of `Device` -> path of its fact, of a chip with constants of its own or of a family."""
    return {name: f"devices.{owner}.{name}" for name in DEVICE_FIELDS}
