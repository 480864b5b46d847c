"""A part of a time, as readers meet it: its name in answers, its words and its group.

Jobs have rows of it where their laws stand: `training.parts`, `training.forward`, `serving.parts`. Pages take words and
colours from there (`show.charts_parts`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PartGroup = Literal["compute", "memory", "network", "waiting", "software"]
"""What time goes to. A group has a colour (`show/colours.yaml`). Products count as compute also where reading their
weights binds."""


@dataclass(frozen=True, slots=True)
class TimePart:
    """One part of a time."""

    name: str
    """In answers: "pp_transfer"."""
    words: str
    """For a reader."""
    group: PartGroup
    short: str = ""
    """In a narrow table, "" its name."""
