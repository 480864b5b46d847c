"""A page as lines of text: answer first, tables that fit their width, then what stands behind them.

Columns that have no room go, the least needed first, and it is said which. No cell is cut: on a terminal the words of
the widest column go on below, and what is piped keeps its lines whole. Colour is bold and dim only, where the terminal
has it and NO_COLOR is not set.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rich.cells import cell_len
from rich.console import Console
from rich.style import Style as Pen

from mowich.errors import visible
from mowich.show.page import NOTHING, Column, Details, Page, Table, Words

WIDTH = 100
"""Characters of a line that is piped."""

_NARROW, BROAD = 80, 200
"""Fewest and most characters of a line on a terminal."""

ASCII = str.maketrans({"←": "<", "±": "+-", "…": "~", "–": "-", "×": "x"})
"""What stands for signs that a terminal cannot show."""

BOLD, DIM = Pen(bold=True), Pen(dim=True)

_UNDER = 4
"""Characters by which a line under a row stands in, at most."""

HANG = 2
"""Characters by which the later lines of a paragraph stand in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How to draw. width: characters per line. unicode: arrows and +- may be non-ASCII. colour: ANSI allowed. fold: a
    cell that has no room goes on below; else its line is longer than the width. legend: whether the short names of
    plans are told in words below."""

    width: int = WIDTH
    unicode: bool = True
    colour: bool = False
    fold: bool = True
    legend: bool = False

    def text(self, words: str) -> str:
        """Words in characters that can be shown, and that a terminal does not obey."""
        words = visible(words)
        return words if self.unicode else words.translate(ASCII)

    def bold(self, words: str) -> str:
        return BOLD.render(words) if self.colour else words

    def dim(self, words: str) -> str:
        return DIM.render(words) if self.colour else words


def style_for_stdout(*, plain: bool = False) -> Style:
    """The style that stdout can show: colour only on a terminal, without NO_COLOR and --plain; arrows only where they
    can be encoded."""
    encoding = (getattr(sys.stdout, "encoding", None) or "ascii").casefold().replace("-", "")
    console = Console(file=sys.stdout, legacy_windows=False)
    is_tty = sys.stdout.isatty()
    colour = is_tty and not plain and not console.no_color and not console.is_dumb_terminal
    width = max(_NARROW, min(BROAD, console.width)) if is_tty and not plain else WIDTH
    return Style(width=width, unicode=not plain and encoding.startswith("utf"), colour=colour, fold=is_tty)


class Heading(Protocol):
    """What a column of a narrow table says of itself."""

    @property
    def name(self) -> str: ...
    @property
    def short(self) -> str: ...
    @property
    def keep(self) -> int: ...
    @property
    def right(self) -> bool: ...
    @property
    def below(self) -> bool: ...


def wrap(text: str, style: Style, *, indent: int = 2, hang: int = HANG) -> list[str]:
    """`text` in lines of at most the style's width; later lines are indented by `hang` more."""
    return textwrap.wrap(
        style.text(text),
        style.width,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + hang),
        break_long_words=False,
        break_on_hyphens=False,
    ) or [""]


def text_table(
    columns: Sequence[Heading], rows: Sequence[Sequence[str]], style: Style, *, indent: int = 2, gap: int = 2
) -> tuple[list[str], list[str]]:
    """Lines of a table, at most `style.width` wide, and the names of the columns that did not fit. Those that may stand
    `below` have a line of their own under each row.

    An empty cell is a bug of the caller: an unknown is "?".
    """
    heads = [style.text(c.short or c.name) for c in columns]
    body = [[style.text(x) for x in row] for row in rows]
    size = [max(map(cell_len, (head, *(row[i] for row in body)))) for i, head in enumerate(heads)]
    index, dropped, below = list(range(len(columns))), list[str](), list[int]()

    def total() -> int:
        return indent + sum(size[i] for i in index) + gap * (len(index) - 1)

    while total() > style.width and len(index) > 1 and min(columns[i].keep for i in index) < 99:
        worst = min(index, key=lambda i: (columns[i].keep, -i))
        index.remove(worst)
        if columns[worst].below:
            below.append(worst)
        else:
            dropped.append(heads[worst])
    if total() > style.width and style.fold:
        size = _narrowed(size, index, columns, total() - style.width)

    def lines(row: Sequence[str]) -> list[str]:
        parts = [_folded(row[i], size[i]) for i in index]
        tall = max(map(len, parts), default=1)
        out = []
        for n in range(tall):
            cells = [
                _set(part[n] if n < len(part) else "", size[i], columns[i].right)
                for i, part in zip(index, parts, strict=True)
            ]
            out.append((" " * indent + (" " * gap).join(cells)).rstrip())
        return out

    def whole(row: Sequence[str]) -> list[str]:
        said = "; ".join(row[i] for i in sorted(below) if row[i] not in ("", NOTHING))
        inner = indent + min(size[index[0]] + gap, _UNDER)
        return lines(row) + (wrap(said, style, indent=inner, hang=0) if said else [])

    return [*map(style.dim, lines(heads)), *(line for row in body for line in whole(row))], dropped


def _narrowed(size: Sequence[int], index: Sequence[int], columns: Sequence[Heading], over: int) -> list[int]:
    """Widths with `over` characters less: words give way, the widest first, down to twelve; then numbers."""
    out = list(size)
    for few, is_open in ((12, False), (1, True)):
        while over > 0:
            able = [i for i in index if out[i] > few and (is_open or not columns[i].right)]
            if not able:
                break
            widest = max(able, key=lambda i: out[i])
            out[widest] -= 1
            over -= 1
    return out


def _folded(cell: str, width: int) -> list[str]:
    if cell_len(cell) <= width:
        return [cell]
    return textwrap.wrap(cell, width, break_on_hyphens=False) or [""]


def _set(cell: str, width: int, right: bool) -> str:
    """A cell in its column; characters of double width count twice."""
    space = " " * max(0, width - cell_len(cell))
    return space + cell if right else cell + space


def not_shown(dropped: Sequence[str], elsewhere: str, style: Style) -> list[str]:
    """Which columns had no room, and where they are."""
    return wrap(f"Not shown at this width: {', '.join(dropped)} (see {elsewhere}).", style) if dropped else []


def _details(found: Details, dropped: Sequence[str], style: Style) -> list[str]:
    """What had no room in a table, beside the names of its rows; below them where a name takes over half of a line."""
    wide = max((cell_len(name) for name, _, _ in found.rows), default=0)
    is_beside = wide <= style.width // 2
    wide = wide if is_beside else HANG
    out = ["", style.bold(style.text(found.title))]
    for name, first, second in found.rows:
        said = "; ".join(m.text for m in first if m.column in ("", *dropped))
        if is_beside:
            out += wrap(f"{name.ljust(wide)}  {said}", style, hang=wide + 2)
        else:
            out += [*wrap(name, style), *(wrap(said, style, indent=wide + 2, hang=0) if said else [])]
        said = "; ".join(m.text for m in second if m.column in ("", *dropped))
        out += [style.dim(x) for x in wrap(said, style, indent=wide + 4, hang=0)] if said else []
    return out


def _table(found: Table, style: Style) -> list[str]:
    shown = [i for i, c in enumerate(found.columns) if not c.wide]
    columns: list[Column] = [found.columns[i] for i in shown]
    rows = found.brief_rows()
    body = [[c.brief(row[i]) for i, c in zip(shown, columns, strict=True)] for row in rows]
    drawn, dropped = text_table(columns, body, style, indent=found.indent)
    lines = [*([""] if found.gap else []), *drawn]
    while found.split and dropped:
        left_over = [0, *(i for i, c in enumerate(columns) if style.text(c.short or c.name) in dropped)]
        columns, body = [columns[i] for i in left_over], [[row[i] for i in left_over] for row in body]
        drawn, dropped = text_table(columns, body, style, indent=found.indent)
        lines += ["", *drawn]
    left = len(found.rows) - len(rows)
    lines += [f"  and {left} more (--json)"] if left and not found.thinned else []
    for text in found.legend:
        lines += wrap(text, style)
    if found.details is not None and found.details.when in dropped:
        lines += _details(found.details, dropped, style)
        dropped = [d for d in dropped if d != found.details.when and d not in found.details.instead_of]
    return lines + not_shown(dropped, found.elsewhere, style)


def _words(found: Words, style: Style) -> list[str]:
    lines = wrap(found.text, style, indent=found.indent, hang=found.hang)
    if found.kind == "heading":
        lines = [style.bold(line) for line in lines]
    return [*([""] if found.gap else []), *lines]


def _legend(page: Page, style: Style) -> list[str]:
    """The plans that stand nowhere else, and the short names of the plans on a page in words."""
    own = [(whose, plan) for whose, plan in page.plans if whose]
    from mowich.show.legend import legend_of  # not above: it brings models

    found = legend_of(page)
    out = []
    for heading, rows in (("Plans", own), ("Plans in words", found)):
        wide = max((cell_len(word) for word, _ in rows), default=0)
        out += ["", style.bold(heading)] if rows else []
        out += [line for word, said in rows for line in wrap(f"{word.ljust(wide)}  {said}", style, hang=wide + 2)]
    return out


def headline_lines(page: Page, style: Style) -> list[str]:
    """The headline, then the other sentences in grey."""
    out = [style.bold(x) for x in wrap(page.headline, style, indent=0, hang=0)] if page.headline else []
    return out + [style.dim(x) for x in wrap(page.under, style, indent=0, hang=0)] if page.under else out


def terminal(page: Page, style: Style) -> str:
    """The whole text of an answer."""
    lines = headline_lines(page, style)
    for part in page.parts:
        if isinstance(part, Words):
            lines += _words(part, style)
        elif not part.wide:
            lines += _table(part, style)
    lines += _legend(page, style) if style.legend else []
    lines = lines[1:] if lines[:1] == [""] else lines
    return "\n".join(line.rstrip() for line in lines) + "\n"
