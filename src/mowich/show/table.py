"""Plain text tables and number formats: what every text report is drawn with.

No colour and no box drawing by default, so that output is the same in a terminal, a pipe and a file. A table never
exceeds its width: columns are dropped from the right of a stated order, and the caller is told which.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from mowich.estimate import Estimate
from mowich.units import sig

WIDTH = 100
UNKNOWN = "?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How to draw. width: characters per line. unicode: arrows and +- may be non-ASCII. colour: ANSI allowed."""

    width: int = WIDTH
    unicode: bool = True
    colour: bool = False

    @property
    def best(self) -> str:
        return "←" if self.unicode else "<"

    @property
    def plus_minus(self) -> str:
        return "±" if self.unicode else "+-"

    def bold(self, text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if self.colour else text

    def dim(self, text: str) -> str:
        return f"\x1b[2m{text}\x1b[0m" if self.colour else text


def style_for_stdout(*, plain: bool = False) -> Style:
    """The style that stdout can show: colour only on a terminal, without NO_COLOR and --plain; arrows only where they
    can be encoded."""
    encoding = (getattr(sys.stdout, "encoding", None) or "ascii").casefold().replace("-", "")
    is_tty = sys.stdout.isatty()
    colour = is_tty and not plain and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return Style(unicode=not plain and encoding.startswith("utf"), colour=colour)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """name: heading. keep: columns with the lowest are dropped first. right: numbers."""

    name: str
    keep: int = 99
    right: bool = True


def table(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], style: Style, *, indent: int = 2, gap: int = 2
) -> tuple[list[str], list[str]]:
    """Lines of a table, at most `style.width` wide, and the names of the columns that did not fit.

    An empty cell is a bug of the caller: an unknown is "?". The last column left is cut with an ellipsis as a last
    resort.
    """
    index = list(range(len(columns)))

    def widths() -> list[int]:
        return [
            max(len(columns[i].name), *(len(row[i]) for row in rows)) if rows else len(columns[i].name) for i in index
        ]

    def total() -> int:
        return indent + sum(widths()) + gap * (len(index) - 1)

    dropped = []
    while total() > style.width and len(index) > 1 and min(columns[i].keep for i in index) < 99:
        worst = min(index, key=lambda i: (columns[i].keep, -i))
        dropped.append(columns[worst].name)
        index.remove(worst)
    size = widths()
    pad = " " * indent

    def line(cells: Sequence[str]) -> str:
        parts = [c.rjust(w) if columns[i].right else c.ljust(w) for i, c, w in zip(index, cells, size, strict=True)]
        text = pad + (" " * gap).join(parts).rstrip()
        return text if len(text) <= style.width else text[: style.width - 1] + ("…" if style.unicode else "~")

    lines = [style.dim(line([columns[i].name for i in index]))]
    lines += [line([row[i] for i in index]) for row in rows]
    return lines, dropped


def wrap(text: str, style: Style, *, indent: int = 2, hang: int = 2) -> list[str]:
    """`text` in lines of at most the style's width; later lines are indented by `hang` more."""
    import textwrap

    return textwrap.wrap(
        text,
        style.width,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + hang),
        break_long_words=False,
        break_on_hyphens=False,
    ) or [""]


def number(value: float | None, scale: float = 1.0, digits: int = 3) -> str:
    """Three significant digits, or "?"."""
    return UNKNOWN if value is None or not math.isfinite(value) else sig(value * scale, digits)


def in_flight(value: float | None) -> str:
    """A mean number of users in flight: whole from 1,000, four digits below, "?" where there is none.

    >>> in_flight(85.0), in_flight(85.256), in_flight(4096.4), in_flight(None)
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
    text = number(e.value, scale)
    if e.low is None or e.high is None or e.high <= e.low * (1 + 1e-9):
        return text
    return f"{text} ({number(e.low, scale, 2)}-{number(e.high, scale, 2)})"


def spread(e: Estimate, style: Style, scale: float = 1.0) -> str:
    """ "3.10 ±18%": the larger half of the interval; a range where it is wider than a factor of 1.5 either way."""
    if e.value is None:
        return UNKNOWN
    if e.low is None or e.high is None or e.high <= e.low:
        return number(e.value, scale)
    half = max(e.high / e.value, e.value / e.low) - 1
    if half > 0.5:
        return interval(e, scale)
    return f"{number(e.value, scale)} {style.plus_minus}{half * 100:.0f}%"


def gib(value: float) -> str:
    """Bytes as a bare number of GiB, for a column that names the unit."""
    return sig(value / 2**30, 3)
