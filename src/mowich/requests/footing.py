"""What is the same for all systems of a comparison: chips, units, dollars or power; or money and days in the place of a
number of chips."""

from __future__ import annotations

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
    "Training: money for --days: '$2M'. Rents chips, or powers those of a size.",
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


def has_size(name: str, chips: int | None) -> bool:
    """Whether a question says how many chips a system has: in its name, or for all. With a budget those chips are there
    already.

    >>> has_size("trn2:512", None), has_size("trn2", None), has_size("trn2", 64)
    (True, False, True)
    """
    return chips is not None or ":" in name or "*" in name


def read_budget(reader: QuestionReader, footing: Field[object]) -> bool:
    """Whether there are money and days. Both are needed; they rent chips of a system without a size, and pay the
    electricity of chips that are there. No other footing may be asked for."""
    given = [field for field in (RUN_BUDGET, RUN_DAYS) if reader.given(field) is not None]
    if len(given) == 1:
        other = RUN_DAYS if given[0] is RUN_BUDGET else RUN_BUDGET
        reader.missing(other, f" with {reader.said(given[0])}")
    if not given:
        return False
    if reader.given(footing) is not None and reader.get(footing) != footing.default:
        reader.add(f"{reader.said(RUN_BUDGET)} says what is the same for all", footing, fix="leave one of them out")
    return True


def only_rent(reader: QuestionReader, kind: Field[str], term: str) -> None:
    """A problem, at the field of the kind of price, where a budget is to rent at what is nobody's rent. term: of the
    question, "" without a budget."""
    from mowich.economics.money import RENTAL_KINDS

    if term not in ("", "default", *RENTAL_KINDS):
        said = f"{reader.said(RUN_BUDGET)} rents chips"
        reader.add(said, kind, given=term, allowed=RENTAL_KINDS, fix="leave it out")
        reader.stop()
