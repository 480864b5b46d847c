"""Numbers as words: three significant digits, ranges, percentages, units of time."""

from __future__ import annotations

import math
import re

from mowich.estimate import Estimate
from mowich.units import show, sig

UNKNOWN = "?"

MOST_FIRST_WORDS = 12
"""Words that the first sentence of an answer has at most."""

_WORD = re.compile(r"\w+(?:[.,'/^-]\w+)*%?")


def first_sentence(*said: str) -> str:
    """The first of some sentences that has at most `MOST_FIRST_WORDS` words, else the last: long names need room.

    >>> first_sentence("Cheapest: a very long name that is said in one more word than twelve.", "It is known.")
    'It is known.'
    """
    return next((s for s in said if s and _count(s) <= MOST_FIRST_WORDS), said[-1])


def headed(whole: str, *short: str) -> tuple[str, ...]:
    """A sentence alone where it is short enough to begin an answer; else behind the first of the short ones that is.

    >>> headed("Fits on 8 chips."), headed("It fits" + " and fits" * 9 + ".", "It fits.")[0]
    (('Fits on 8 chips.',), 'It fits.')
    """
    first = first_sentence(whole, *short)
    return (whole,) if first == whole else (first, whole)


def _count(said: str) -> int:
    """Words of a sentence: the larger of two ways to count them."""
    return max(len(_WORD.findall(said)), len(said.split()))


def number_text(value: float | None, scale: float = 1.0, digits: int = 3) -> str:
    """Three significant digits, or "?"."""
    return UNKNOWN if value is None or not math.isfinite(value) else sig(value * scale, digits)


def in_flight_words(value: float | None) -> str:
    """A mean number of users in flight: whole from 1,000, four digits below, "?" where there is none.

    >>> in_flight_words(85.0), in_flight_words(85.256), in_flight_words(4096.4), in_flight_words(None)
    ('85', '85.26', '4096', '?')
    """
    return UNKNOWN if not value else f"{value:.0f}" if value >= 1000 else f"{value:.4g}"


def percent(value: float | None) -> str:
    """0.384 -> "38%"; one decimal below 10% and near 100%; "?" when unknown.

    >>> percent(0.384), percent(0.0312), percent(None)
    ('38%', '3.1%', '?')
    """
    if value is None or not math.isfinite(value):
        return UNKNOWN
    return f"{value * 100:.0f}%" if 0.0995 <= abs(value) < 0.985 or abs(value) >= 0.9995 else f"{value * 100:.1f}%"


def interval(e: Estimate, scale: float = 1.0) -> str:
    """ "3.10 (2.60-3.70)": value with its 90% interval; "?" when unknown; no range where there is none."""
    if e.value is None:
        return UNKNOWN
    text = number_text(e.value, scale)
    if e.low is None or e.high is None or e.high - e.low <= 1e-9 * abs(e.low):
        return text
    if e.low < 0:
        return f"{text} ({number_text(e.low, scale, 2)} to {number_text(e.high, scale, 2)})"
    return f"{text} ({number_text(e.low, scale, 2)}-{number_text(e.high, scale, 2)})"


def spread(e: Estimate, scale: float = 1.0) -> str:
    """ "3.10 ±18%": the larger half of the interval; a range where it is wider than a factor of 1.5 either way."""
    if e.value is None:
        return UNKNOWN
    if e.low is None or e.high is None or e.high <= e.low:
        return number_text(e.value, scale)
    half = max(e.high / e.value, e.value / e.low) - 1
    if half > 0.5:
        return interval(e, scale)
    return f"{number_text(e.value, scale)} ±{half * 100:.0f}%"


def with_range(e: Estimate) -> str:
    """A value with its unit and its 90% range; "?" when unknown; no range where there is none.

    >>> with_range(Estimate(value=2.0, low=1.5, high=2.5, unit="s"))
    '2.00 s (1.50 s to 2.50 s)'
    """
    if e.value is None:
        return UNKNOWN
    text = show(e.value, e.unit)
    return text if e.low is None or e.high is None else f"{text} ({show(e.low, e.unit)} to {show(e.high, e.unit)})"


def gib(value: float) -> str:
    """Bytes as a bare number of GiB, for a column that names the unit."""
    return sig(value / 2**30, 3)


def seconds(value: float | None) -> str:
    """ "1.73 s", "106 ms"; "?" when unknown."""
    if value is None:
        return UNKNOWN
    return f"{sig(value)} s" if value >= 1 else f"{sig(value * 1e3)} ms"
