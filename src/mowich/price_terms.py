"""On what terms the price of a chip-hour stands, in words: what the label of a price in an answer says.

No number is here. `economics.money` writes the labels; pages and studies read the terms back from them, which is all
that a saved answer has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

WITHOUT_PRICE = "no price in the facts"
"""What stands in the place of a price: a statement about our facts, and not about what others publish."""

TERM_WORDS = {
    "default": "cost of ownership",
    "tco": "cost of ownership",
    "rent": "rent",
    "list": "list",
    "on-demand": "on demand",
    "spot": "spot",
    "capacity-block": "capacity block",
    "1y": "1-year",
    "3y": "3-year",
    "market": "market",
    "electricity": "electricity",
    "yours": "your own",
    "other": "other terms",
}
"""Terms for a reader. "yours": set by the user; "other": a default price that no named term quotes."""

OWN = "yours"
"""The term of a price that the user has set: it stands on whatever terms the other rows have."""

SHORT_WORDS = {
    **TERM_WORDS,
    "tco": "TCO",
    "on-demand": "on-demand",
    "capacity-block": "cap. block",
    "1y": "1y",
    "3y": "3y",
    "yours": "yours",
    "other": "other",
}
"""Terms for a narrow column."""

ESTIMATE = "estimate"
"""In a label: the price has grade D."""

COST_RULES = ("owner", "semianalysis", "epoch")
"""How capital is spread: what an owner pays over the economic life with the cost of his capital; SemiAnalysis (four
years, nothing left, leased site); Epoch AI (five years, own building of 14)."""

COST_RULE_WORDS = {
    "owner": "owner's rule",
    "semianalysis": "SemiAnalysis' rule",
    "epoch": "Epoch AI's rule",
}
"""Rules for a reader."""

BUYERS = ("hyperscaler", "neocloud")
"""Who buys: at the price of large buyers, or above it with dearer capital and a dearer site."""


@dataclass(frozen=True, slots=True)
class Quote:
    """On what terms a row's price stands. is_estimate: the price has grade D, nobody quotes it."""

    term: str
    is_estimate: bool

    def __str__(self) -> str:
        """ "capacity block", "3-year estimate"."""
        words = TERM_WORDS.get(self.term, self.term)
        return f"{words} estimate" if self.is_estimate else words

    @property
    def short(self) -> str:
        """ "cap. block", "3y est."."""
        words = SHORT_WORDS.get(self.term, self.term)
        return f"{words} est." if self.is_estimate else words


def quote(label: str) -> Quote | None:
    """The terms in a price's label, which is all that a saved result has of them; None for a price that is not known.

    >>> str(quote("$3.96/chip/h, 3y, estimate, 2026-04-03, an analyst's figure"))
    '3-year estimate'
    >>> quote("no price in the facts") is None
    True
    """
    parts = [part.strip() for part in label.split(",")]
    if len(parts) < 2 or not parts[0].startswith("$"):
        return None
    return Quote(term=parts[1], is_estimate=len(parts) > 2 and parts[2] == ESTIMATE)


def price_words(label: str) -> str:
    """A price's label for a reader: its term and who pays it in words.

    >>> price_words("$0.96/chip/h, tco, 2026Q4, hyperscaler, owner's rule")
    "$0.96/chip/h, cost of ownership, bought 2026Q4 by a hyperscaler, owner's rule"
    >>> price_words("$3.96/chip/h, 3y, estimate, 2026-04-03, an analyst's figure")
    "$3.96/chip/h, 3-year estimate, 2026-04-03, an analyst's figure"
    >>> price_words("no price in the facts")
    'no price in the facts'
    """
    found = quote(label)
    if found is None:
        return label
    amount, _, *rest = (part.strip() for part in label.split(","))
    if found.is_estimate:
        rest = rest[1:]
    if found.term == "tco" and len(rest) > 1:
        rest = [f"bought {rest[0]} by a {rest[1]}", *rest[2:]]
    return ", ".join([amount, str(found), *rest])


def term_of_row(inputs: Mapping[str, object], system: str) -> str:
    """The kind of price of a row of a result: that of its system where it has its own, else that of the question.

    >>> term_of_row({"price_term": "rent", "systems": [{"system": "trn2:64", "price_term": "electricity"}]}, "trn2:64")
    'electricity'
    """
    systems = inputs.get("systems")
    for one in systems if isinstance(systems, list | tuple) else ():
        if isinstance(one, Mapping) and one.get("system") == system and one.get("price_term"):
            return str(one["price_term"])
    return str(inputs.get("price_term", "default"))


def term_words(kind: object) -> str:
    """A kind of price for a reader: "cost of ownership" for "tco"."""
    return TERM_WORDS.get(str(kind), str(kind))
