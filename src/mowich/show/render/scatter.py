"""Points as a picture of characters, 60 wide and 15 high: what a terminal has in the place of a chart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mowich.show.formats import number_text
from mowich.show.render.terminal import Style, wrap

_ACROSS, _UP = 60, 15
"""Characters inside the axes."""

_SIGNS = "ox+*#%@&"
"""Of the groups, in their order."""

_WIDE = 20.0
"""An axis whose ends are further apart than this factor is logarithmic."""

_CORNER = {True: ("│", "└", "─"), False: ("|", "+", "-")}
"""The axes, with and without signs beyond ASCII."""


class _Axis:
    """Where a value stands on an axis of `cells` characters."""

    def __init__(self, values: Sequence[float], cells: int) -> None:
        self.low, self.high, self.cells = min(values), max(values), cells
        self.is_log = self.low > 0 and self.high / self.low > _WIDE

    def at(self, value: float) -> int:
        low, high, x = (math.log(v) if self.is_log else v for v in (self.low, self.high, value))
        return round((x - low) / (high - low) * (self.cells - 1)) if high > low else 0

    def value(self, cell: int) -> float:
        """What stands at a character."""
        share = cell / (self.cells - 1)
        if self.is_log:
            return self.low * math.exp(math.log(self.high / self.low) * share)
        return self.low + (self.high - self.low) * share


def scatter_text(
    title: str, groups: Mapping[str, Sequence[tuple[float, float]]], style: Style, *, x: str, y: str
) -> list[str]:
    """Lines of a picture of points (x, y), a sign for each group. A group drawn later stands in front."""
    points = [point for dots in groups.values() for point in dots]
    if not points:
        return []
    across, up = _Axis([a for a, _ in points], _ACROSS), _Axis([b for _, b in points], _UP)
    field = [[" "] * _ACROSS for _ in range(_UP)]
    signs = dict(zip(groups, (_SIGNS[i % len(_SIGNS)] for i in range(len(groups))), strict=True))
    for name, dots in groups.items():
        for a, b in dots:
            field[up.at(b)][across.at(a)] = signs[name]
    side, corner, floor = _CORNER[style.unicode]
    ticks = {cell: number_text(up.value(cell)) for cell in (0, _UP // 2, _UP - 1)}
    wide = max(map(len, ticks.values()))
    lines = ["", style.bold(title)]
    lines += wrap(f"{y} upwards, {x} to the right{_logs(across, up)}", style)
    for cell in reversed(range(_UP)):
        lines.append(f"  {ticks.get(cell, '').rjust(wide)} {side}{''.join(field[cell])}".rstrip())
    lines.append(f"  {' ' * wide} {corner}{floor * _ACROSS}")
    left, middle, right = (number_text(across.value(cell)) for cell in (0, _ACROSS // 2, _ACROSS - 1))
    start = wide + 4
    below = " " * start + left
    below = below.ljust(start + _ACROSS // 2 - len(middle) // 2) + middle
    lines.append(below.ljust(start + _ACROSS - len(right)) + right)
    return lines + wrap("   ".join(f"{sign} {name}" for name, sign in signs.items()), style)


def _logs(across: _Axis, up: _Axis) -> str:
    """Which axes are logarithmic, in words."""
    if across.is_log and up.is_log:
        return "; both logarithmic"
    return "; logarithmic upwards" if up.is_log else "; logarithmic to the right" if across.is_log else ""
