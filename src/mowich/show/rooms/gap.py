"""The page of a gap: what the ratio of two machines is made of, as a waterfall."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from mowich.price_terms import price_words
from mowich.show import charts, charts_change
from mowich.show.charts import Chart
from mowich.show.colours import looks_of
from mowich.show.formats import first_sentence, interval, number_text, percent
from mowich.show.headline import terms_cell
from mowich.show.page import (
    NOTHING,
    Cell,
    Column,
    LateCharts,
    Page,
    Run,
    Table,
    TextCell,
    Words,
    estimate_of,
    figure,
    paragraphs,
)
from mowich.show.price_lines import range_of
from mowich.show.rows import job_line, price_line
from mowich.show.serve import requests_line
from mowich.shown import Result
from mowich.software.hybrid import REST
from mowich.units import sig

PROPERTY_WORDS = {
    "compute": "compute",
    "bandwidth": "memory bandwidth",
    "capacity": "memory capacity",
    "scale-up": "scale-up links",
    "scale-out": "scale-out network",
    "software": "software",
    REST: "the rest",
    "price": "price",
}
"""Properties for a reader."""

_MEASURES = {
    "tokens_per_s_per_chip": ("makes", "as many tokens per second and chip as", "tokens/s/chip"),
    "usd_per_mtok": ("makes", "as many tokens for a dollar as", "Mtok/USD"),
    "usd_total": ("makes", "as much of the run for a dollar as", "1/USD"),
}

_BAR = 30
"""Characters of the widest bar of the waterfall in text."""


def page(result: Result, run: Run) -> Page:
    """Factors of the ratio of two machines, largest effect first in the sentence, in their own order in the table."""
    rows, (first, second) = result["rows"], result["systems"]
    return Page(
        title=f"Why {second['system']} and {first['system']} differ: {result['inputs']['model']}",
        sentences=_sentences(result),
        assumptions=[
            ("model", str(result["inputs"]["model"])),
            *((s["system"], f"{s['chips']:,} chips, {s['software']}, {s['plan']}") for s in (first, second)),
            *((f"price, {s['system']}", price_words(str(s["price_label"]))) for s in (first, second)),
            ("facts", str(result.get("facts_hash", ""))),
        ],
        parts=(
            Words(
                text=(requests_line if result["inputs"].get("task") == "serve" else job_line)(result["inputs"], run),
                kind="job",
                gap=True,
            ),
            _factors(result),
            *paragraphs(_prices(result), "note", gap=True),
            *_basis(result),
        ),
        charts=LateCharts(lambda: _pictures(result)),
        records=rows,
        inputs=result["inputs"],
        plans=[(str(s["system"]), str(s["plan"])) for s in (first, second)],
    )


def _sentences(result: Result) -> tuple[str, ...]:
    first, second = result["systems"]
    ratio, (makes, of_what, _) = estimate_of(result["ratio"]), _MEASURES[result["metric"]]
    by_size = sorted(result["rows"], key=lambda r: -abs(math.log(r["factor"]["value"])))
    told = [r for r in by_size if abs(math.log(r["factor"]["value"])) >= _TOLD]
    flat = [_word(r) for r in by_size if r not in told]
    product = " x ".join(f"{_word(r)} {sig(r['factor']['value'])}" for r in told) or "nothing"
    names = f"{second['system']} and {first['system']}"
    is_open = ratio.low is not None and ratio.high is not None and ratio.low <= 1.0 <= ratio.high
    short = "tokens per chip" if result["metric"] == "tokens_per_s_per_chip" else "work per dollar"
    words = f"{number_text(ratio.value)} times the {short} of {first['system']}"
    out = [
        first_sentence(f"No winner: the range of {names} includes 1.", "No winner: the range includes 1.")
        if is_open
        else first_sentence(
            f"{second['system']} gives {words}.", f"The second gives {number_text(ratio.value)} times."
        ),
        f"{second['system']} {makes} {interval(ratio)} times {of_what} {first['system']}: {product}"
        + (f" ({', '.join(flat)}: 1.0)" if flat else "")
        + ".",
    ]
    if result["metric"] == "tokens_per_s_per_chip":
        parity = estimate_of(result["price_parity"])
        low, high = (percent(end) for end in (parity.low, parity.high))
        out.append(
            f"Without failures a token costs the same on both where a chip-hour of {first['system']} costs"
            f" {percent(parity.value)} ({low} to {high}) of one of {second['system']}."
        )
    kinds = [terms_cell(str(s["price_label"])) for s in (first, second)]
    if result["metric"] != "tokens_per_s_per_chip" and kinds[0] != kinds[1]:
        out.append(f"The prices are of unlike kinds: {first['system']} {kinds[0]}, {second['system']} {kinds[1]}.")
    return tuple(out)


_TOLD = math.log(1.03)
"""Factors closer to 1 than this are named together."""


def _word(row: Result) -> str:
    return PROPERTY_WORDS[row["property"]]


def _factors(result: Result) -> Table:
    first, second = result["systems"]
    bars = waterfall_text([r["factor"]["value"] for r in result["rows"]])

    def line(row: Result, bar: str) -> list[Cell]:
        return [
            _word(row),
            str(row["first"]),
            str(row["second"]),
            figure(row["factor"], f"{row['property']}.factor"),
            f"{sig(row['orders_low'])}..{sig(row['orders_high'])}",
            NOTHING if row["alone"] is None else sig(row["alone"]),
            str(row["alone_plan"] or NOTHING),
            bar,
        ]

    product = TextCell(sig(result["product"]), metric="product")
    return Table(
        title="Factors",
        columns=[
            Column(name="property", right=False),
            Column(name=first["system"], right=False, keep=2),
            Column(name=second["system"], right=False, keep=2),
            Column(name="factor", format="interval"),
            Column(name="over orders", keep=4),
            Column(name="exchanged first", wide=True),
            Column(name="plan then", wide=True, right=False),
            Column(name="waterfall", right=False, keep=3),
        ],
        rows=[
            *(line(row, bar) for row, bar in zip(result["rows"], bars, strict=False)),
            ["product", "", "", product, "", "", "", bars[-1]],
        ],
        note="factor: above 1 it speaks for the second system. Its range is 90%: the facts of that property and the"
        " model's errors on both systems, and the order of exchange.",
    )


def waterfall_text(factors: Sequence[float]) -> list[str]:
    """A bar for each factor from where the one before ended, on a logarithmic scale, and one for their product: "+"
    gains, "-" loses.

    >>> for bar in waterfall_text([4.0, 0.5, 2.0]):
    ...     print(f"|{bar:30}|")
    |++++++++++++++++++++++++++++++|
    |               ---------------|
    |               +++++++++++++++|
    |==============================|
    """
    ends = [0.0]
    for factor in factors:
        ends.append(ends[-1] + math.log(factor))
    low, high = min(ends), max(ends)
    scale = _BAR / (high - low) if high > low else 0.0

    def bar(start: float, end: float, mark: str) -> str:
        left, right = (round((x - low) * scale) for x in (min(start, end), max(start, end)))
        return " " * left + mark * (right - left)

    return [
        *(bar(a, b, "+" if b >= a else "-") for a, b in pairwise(ends)),
        bar(0.0, ends[-1], "="),
    ]


def _largest_words(factors: Sequence[tuple[str, float]], second: Result) -> str:
    """The factor that does most."""
    name, factor = max(factors, key=lambda nf: abs(math.log(nf[1])) if nf[1] > 0 else 0.0)
    way = "ahead" if factor > 1 else "back"
    times = sig(max(factor, 1.0 / factor))
    return f"{name[0].upper()}{name[1:]} does most: it puts {second['system']} {way} by {times} times"


def _prices(result: Result) -> list[str]:
    """Which prices a cost stands on."""
    if result["metric"] == "tokens_per_s_per_chip":
        return []
    return [price_line([{**s, "price": s["price_label"]} for s in result["systems"]], result["inputs"])]


def _basis(result: Result) -> list[Words]:
    how = (
        f"the mean over all {result['orders']:,} orders (Shapley)"
        if result["is_exact"]
        else f"the mean over {result['orders']:,} orders that were drawn, each with its reverse (seed"
        f" {result['inputs']['seed']})"
    )
    place = "first" if result["rest_first"] else "last"
    return [
        Words(
            text=f"Each factor: the property exchanged in the model and the job planned again, {how}, on"
            f" {result['machines']:,} machines. The rest (devices of a chip, links between them, host, number of"
            f" chips) is exchanged {place}. Software: what kernels and collectives reach of published rates, stack or"
            " engine, and the errors on measured runs. More: mowich help gap",
            kind="basis",
            gap=True,
        )
    ]


def _pictures(result: Result) -> list[Chart]:
    first, second = result["systems"]
    rows = [(_word(r), r["factor"]["value"]) for r in result["rows"]]
    metric = result["metric"]
    _, _, unit = _MEASURES[metric]
    speeds = [
        s["tokens_per_s_per_chip" if metric == "tokens_per_s_per_chip" else "usd_per_mtok"]["value"]
        for s in (first, second)
    ]
    start = speeds[0] if metric == "tokens_per_s_per_chip" else 1.0 / speeds[0]
    return [
        charts_change.waterfall(
            f"From {first['system']} to {second['system']}",
            "Each step multiplies what stands before it by its factor; the line on it is its 90% range.",
            (str(first["system"]), start),
            rows,
            str(second["system"]),
            unit=unit,
            looks=looks_of([(str(s["system"]), s) for s in (first, second)]),
            ends=[range_of(estimate_of(r["factor"])) for r in result["rows"]],
            finding=_largest_words(rows, second),
        ),
        charts.ranges(
            "Factors with their ranges",
            "90%: the facts of the property and the model's errors on both systems, and the order of exchange.",
            [charts.interval_bar(_word(r), r["factor"]) for r in result["rows"]],
            unit="factor",
            log=True,
        ),
    ]
