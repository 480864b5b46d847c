"""Constants that were fitted to the same measurements: more is known of them together than of each alone.

A measured step says little of any one constant, and much of their product. `mowich calibrate` therefore writes how its
constants are correlated into its overlay, as the text of one fact: a line for each pair, "PATH PATH r".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from mowich.arrays import Floats
from mowich.errors import UserError
from mowich.facts.load import Facts
from mowich.sums import float_sum

FITTED_TOGETHER = "training.common.fitted_together"
NOT_FITTED = "none"
_LEAST = 0.005
"""A smaller correlation, either sign, is not written."""
_PAIR = 3
"""Words of a line."""

Correlations = Mapping[tuple[str, str], float]
"""Two paths, in the order of the alphabet -> their correlation."""


def correlations_text(paths: Sequence[str], correlation: Floats) -> str:
    """The text of the fact. correlation: of the ln of the constants [n, n].

    >>> import numpy as np
    >>> correlations_text(["b.x", "a.y"], np.array([[1.0, -0.75], [-0.75, 1.0]]))
    'a.y b.x -0.7500'
    """
    order = sorted(range(len(paths)), key=lambda k: paths[k])
    return "\n".join(
        f"{paths[i]} {paths[j]} {float(correlation[i, j]):.4f}"
        for at, i in enumerate(order)
        for j in order[at + 1 :]
        if abs(float(correlation[i, j])) >= _LEAST
    )


def correlations(facts: Facts) -> Correlations:
    """How the constants of the last calibration are correlated: those that still are as it wrote them. Raises UserError
    for a line that is no pair."""
    return facts.once("correlations", _read)


def _read(facts: Facts) -> Correlations:
    fact = facts.fact(FITTED_TOGETHER)
    out: dict[tuple[str, str], float] = {}
    if fact.value == NOT_FITTED:
        return out
    for number, line in enumerate(str(fact.value).splitlines(), 1):
        words = line.split()
        try:
            first, second, r = words[0], words[1], float(words[2])
            is_one = len(words) == _PAIR and abs(r) <= 1.0 and first != second
        except (IndexError, ValueError):
            is_one = False
        if not is_one:
            raise UserError(
                "no pair of constants",
                where=f"{FITTED_TOGETHER}, line {number}",
                given=line,
                allowed="two paths of facts, and their correlation from -1 to 1",
            )
        if all(facts.fact(path).source == fact.source for path in (first, second)):
            out[min(first, second), max(first, second)] = r
    return out


def correlation_matrix(paths: Sequence[str], facts: Facts) -> Floats:
    """The correlations of constants as a matrix [n, n]: 1 on the diagonal, 0 for a pair that no calibration wrote.

    Written correlations are rounded and small ones are left out, so the matrix nearest to them that is one of
    correlations takes their place: no eigenvalue below `_LEAST`.
    """
    at = {path: i for i, path in enumerate(paths)}
    found = np.eye(len(paths))
    for (a, b), r in correlations(facts).items():
        if a in at and b in at:
            found[at[a], at[b]] = found[at[b], at[a]] = r
    values, vectors = np.linalg.eigh(found)
    if not len(values) or values[0] >= _LEAST:
        return found
    found = vectors @ (np.maximum(values, _LEAST)[:, None] * vectors.T)
    sd = np.sqrt(np.diag(found))
    return np.asarray(found / np.outer(sd, sd))


def moves_together(moves: Sequence[tuple[str, float, float]], facts: Facts) -> list[tuple[str, float, float]]:
    """Moves as they count in a range: (path, change of the ln of a number at the low end of the constant, at its high
    end). Squares of independent moves add up. Those of constants that were fitted together are scaled alike, so that
    their squares add up to the variance that their correlations leave.

    m: half the move between both ends, with its sign; scale: sqrt(sum r_ij m_i m_j / sum m_i^2).
    Two moves of 0.3 with r = -0.75 count as sqrt(2 x 0.09 x 0.25) = 0.21 together, and not as 0.42.
    """
    known = correlations(facts)
    if not known:
        return list(moves)
    fitted = {path for pair in known for path in pair}
    half = {path: 0.5 * (high - low) for path, low, high in moves if path in fitted}
    alone = float_sum(m * m for m in half.values())
    both = float_sum(2.0 * r * half[a] * half[b] for (a, b), r in known.items() if a in half and b in half)
    scale = math.sqrt(max(alone + both, 0.0) / alone) if alone else 1.0
    return [(p, scale * low, scale * high) if p in half else (p, low, high) for p, low, high in moves]
