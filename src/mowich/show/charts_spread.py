"""Pictures of spreads: a box for each group of many values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import quantiles

from mowich.show.chart_grammar import colour_in, digits, down_the_page, number_axis, rimmed, upright_guide
from mowich.show.charts import Chart
from mowich.show.colours import SystemLook

FEW_DOTS = 4
"""Values of a group up to which each is a dot and there is no box."""


def fences(values: Sequence[float]) -> tuple[float, float, float, float, float]:
    """5%, 25%, 50%, 75% and 95% of values; of few their ends instead of the outer two."""
    if len(values) < 2:
        return (values[0],) * 5
    cuts = quantiles(values, n=20, method="inclusive")
    return cuts[0], cuts[4], cuts[9], cuts[14], cuts[18]


def boxes(
    title: str,
    note: str,
    groups: Mapping[str, Sequence[float]],
    *,
    unit: str,
    looks: Mapping[str, SystemLook],
    finding: str = "",
) -> Chart:
    """A box for each group on a logarithmic axis as wide on both sides of a line at 1; few values are dots."""
    names = list(groups)
    boxed = [
        {"value": list(fences(v)), "itemStyle": rimmed("transparent", colour_in(0, looks[n]), 2)}
        if len(v) > FEW_DOTS
        else {"value": [1.0] * 5, "itemStyle": {"opacity": 0}}
        for n, v in groups.items()
    ]
    dots = [
        {"value": [x, i], "itemStyle": {"color": colour_in(0, looks[n])}, "symbol": looks[n].symbol}
        for i, (n, v) in enumerate(groups.items())
        if len(v) <= FEW_DOTS
        for x in v
    ]
    ends = [x for v in groups.values() for x in (fences(v) if len(v) > FEW_DOTS else v)]
    high = 2.0 ** math.ceil(math.log2(max(1.2, max(ends), 1 / min(ends))))  # so that 1/4, 1/2, 1, 2, 4 have marks
    option = down_the_page(
        [f"{n} ({len(groups[n])})" for n in names],
        number_axis(unit, kind="log", logBase=2, min=1 / high, max=high),
        [
            {"name": "rows", "type": "boxplot", "data": boxed, "boxWidth": [6, 16]},
            {"name": "each row", "type": "scatter", "symbolSize": 9, "data": dots},
            {"name": "exact", "type": "line", "data": [], "markLine": upright_guide(1)},
        ],
        right=32,
        bottom=48,
    )
    return Chart(
        title=title,
        note=note,
        option=option,
        head=["", "rows", *(f"{p}%, {unit}" for p in (5, 25, 50, 75, 95))],
        rows=[[n, str(len(v)), *map(digits, fences(v))] for n, v in groups.items()],
        height=90 + 26 * len(names),
        finding=finding,
    )


__all__ = ["boxes", "fences"]
