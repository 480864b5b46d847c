"""What is the same for all systems of a comparison: chips, units, dollars or power; or money and days in the place of a
number of chips."""

from __future__ import annotations

from collections.abc import Sequence

from mowich.requests.fields import Field, number, quantity, word
from mowich.requests.schema import QuestionReader

EQUAL = ("chips", "units", "usd", "power")
"""Footings of a comparison: what is the same for all systems."""
EQUALS = word(
    "equal",
    "Footing of --chips: chips, units, usd or power.",
    words=EQUAL,
    what="footing",
    metavar="WHAT",
    default="chips",
    example="usd",
)
RUN_BUDGET = quantity(
    "budget",
    "USD",
    "Training: what the run may cost, with --days: '$2M'.",
    metavar="USD",
    example="$2M",
)
RUN_DAYS = number(
    "days",
    "Days that --budget pays for.",
    low=0.0,
    above=True,
    high=3650.0,
    metavar="N",
    example="30",
)


def read_budget(reader: QuestionReader, on: Field[tuple[str, ...]], sizes: Sequence[Field[object]]) -> bool:
    """Whether money and days say how many chips each system has, and not the question. Both are needed, and nothing
    else may say it: no name of a system (on), and none of the fields `sizes`."""
    given = [field for field in (RUN_BUDGET, RUN_DAYS) if reader.given(field) is not None]
    if len(given) == 1:
        other = RUN_DAYS if given[0] is RUN_BUDGET else RUN_BUDGET
        reader.missing(other, f" with {reader.said(given[0])}")
    if not given:
        return False
    for field in sizes:
        if reader.given(field) is not None and reader.get(field) != field.default:
            reader.add(
                f"{reader.said(RUN_BUDGET)} says how many chips each system has", field, fix="leave one of them out"
            )
    named = reader.get(on)
    for name in named if isinstance(named, tuple) else ():
        if ":" in name or "*" in name:
            reader.add(f"{reader.said(RUN_BUDGET)} says how many chips '{name}' has", on, fix="leave its size out")
    return True
