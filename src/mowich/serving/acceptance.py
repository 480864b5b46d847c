"""Tokens that a step keeps under speculative decoding, from what is accepted at each position of a draft.

A position is accepted only where all before it were. Engines report marginal shares: of all drafts, those accepted up
to a position (vLLM's `spec_decode_num_accepted_tokens_per_pos` over drafts). A conditional share is of the drafts whose
earlier positions were accepted. Published tables are of mean lengths, by the tokens of a draft.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from typing import Literal

from mowich.errors import UserError
from mowich.facts import Facts

Positions = Literal["marginal", "conditional"]
POSITIONS: tuple[Positions, ...] = ("marginal", "conditional")
"""What shares by position are of: all drafts, or those whose earlier positions were accepted."""
MOST_DRAFTED = 15
"""Most tokens of a draft: with the token of the large model, 16 a step."""
_FACTS, _TOKENS = "serving.acceptance", "tokens_"


def kept_by_marginals(shares: Sequence[float]) -> float:
    """Tokens kept of a step: the large model's own, and each position where it was accepted.

    T = 1 + sum(shares)

    >>> kept_by_marginals([0.8, 0.6, 0.4])
    2.8
    """
    return 1.0 + math.fsum(shares)


def kept_by_conditionals(shares: Sequence[float]) -> float:
    """Tokens kept of a step, where each share counts drafts whose positions before were all accepted:
    1 + a1 + a1 a2 + a1 a2 a3 + ...

    >>> round(kept_by_conditionals([0.8, 0.6, 0.4]), 3)
    2.472
    >>> kept_by_conditionals([0.5, 0.5]) == 1 + 0.5 + 0.25  # as of one probability for all positions
    True
    """
    return 1.0 + math.fsum(itertools.accumulate(shares, operator.mul))


def kept_of(shares: object, positions: str, where: str = "") -> float:
    """Tokens kept of a step by shares of positions. Raises UserError for other values: no list, no shares, or marginal
    shares that rise."""
    if not isinstance(shares, list) or not 1 <= len(shares) <= MOST_DRAFTED:
        raise UserError(
            "not a list of shares", where=where, given=shares, allowed=f"[0.8, 0.6, 0.4], up to {MOST_DRAFTED}"
        )
    numbers = [x for x in shares if isinstance(x, int | float) and not isinstance(x, bool) and 0.0 <= x <= 1.0]
    if len(numbers) < len(shares):
        raise UserError("not a list of shares", where=where, given=shares, allowed="numbers from 0 to 1")
    if positions == "conditional":
        return kept_by_conditionals(numbers)
    if any(b > a for a, b in itertools.pairwise(numbers)):
        raise UserError(
            "marginal shares do not rise: a position counts only where all before it were accepted",
            where=where,
            given=shares,
            fix="positions: conditional",
        )
    return kept_by_marginals(numbers)


def published_tables(facts: Facts) -> dict[str, dict[int, str]]:
    """Table -> tokens of a draft -> path of the mean length that was published."""
    out: dict[str, dict[int, str]] = {}
    for name in facts.children(_FACTS):
        tokens = {
            int(key.removeprefix("tokens_")): key for key in facts.children(f"{_FACTS}.{name}") if "tokens_" in key
        }
        if tokens:
            out[name] = {k: f"{_FACTS}.{name}.{key}" for k, key in sorted(tokens.items())}
    return out
