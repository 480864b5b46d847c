"""Pictures of training answers: where a step's time and a device's memory go, ranges, cost against time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mowich.show import charts, charts_change, charts_parts
from mowich.show.chart_grammar import Range
from mowich.show.charts import Chart
from mowich.show.colours import GREY, PAPER, SystemLook, looks_of
from mowich.show.formats import interval
from mowich.show.headline import Headline
from mowich.show.page import GIB, change_of, estimate_of
from mowich.show.price_lines import EqualPrice, equal_price, equal_words, range_of, unquoted
from mowich.show.rows import fullest_words, plan_of, used_B
from mowich.shown import Result
from mowich.studies.fact_labels import fact_label
from mowich.studies.ranking import rows_of, runs

_Named = Sequence[tuple[str, Result]]
"""Rows that run, with the names that pictures give them."""


def training_pictures(result: Result, found: Headline, *, is_plan: bool) -> list[Chart]:
    """Pictures of the rows that run: systems compared, or plans of one system."""
    every = [(str(i) if is_plan else str(r["system"]), r) for i, r in enumerate(rows_of(result), 1)]
    rows = [(n, r) for n, r in every if runs(r)]
    if not rows:
        return []
    names = [n for n, _ in every]
    looks = looks_of(rows)
    out = [_time(rows), _cost(rows, found, names, looks, result["inputs"], is_plan=is_plan)]
    out += [] if is_plan else [_useful(rows, looks)]
    memory = charts_parts.memory_bars(rows, finding=fullest_words(rows))
    return [*out, _ranges(rows, found, names, looks), memory, *_moves(rows, is_plan)]


def _time(rows: _Named) -> Chart:
    return charts_parts.time_bars(
        "Where the time of a step goes",
        "The line is the 90% range of the whole.",
        [(n, r["step_s"]) for n, r in rows],
        unit="s",
    )


def _ranges(rows: _Named, found: Headline, names: Sequence[str], looks: Mapping[str, SystemLook]) -> Chart:
    return charts.ranges(
        "Step time with its 90% range",
        (found.why_not("step_s") if len(rows) > 1 else "") or "Rows whose ranges overlap are not ranked.",
        [(n, e.low, float(e), e.high) for n, r in rows if (e := estimate_of(r["step_s"])).low and e.high],
        unit="s",
        log=True,
        looks=looks,
        finding=found.best_words(names, {"step_s": "Shortest step"}),
    )


def _cost(
    rows: _Named,
    found: Headline,
    names: Sequence[str],
    looks: Mapping[str, SystemLook],
    inputs: Result,
    *,
    is_plan: bool,
) -> Chart:
    """Cost against time: every row that runs. One that nobody quotes a price of is an upright band, as long as its time
    is uncertain; its break-even is a point on it, and its cost of ownership, where known, another."""
    better = [found.why_not(m) for m in ("usd_per_mtok", "days")] if len(rows) > 1 else []
    said = [w for w in better if w] or ["Down and left is better."]
    dots: dict[str, list[tuple[float, float, str]]] = {}
    even_dots: dict[str, list[tuple[float, float, str]]] = {}
    ends: dict[str, list[tuple[Range | None, Range | None]]] = {}
    bands: dict[str, Range] = {}
    equal: list[tuple[str, EqualPrice]] = []
    dear = unquoted([r for _, r in rows], inputs) if not is_plan else []
    for name, row in rows:
        days, cost = estimate_of(row["days"]), estimate_of(row["usd_per_mtok"])
        if days.value is None:
            continue
        if cost.value is not None:
            dots.setdefault(name, []).append((float(days), float(cost), plan_of(row)))
            ends.setdefault(name, []).append((range_of(days), range_of(cost)))
        even = equal_price([r for _, r in rows], row) if any(row is r for r in dear) else None
        if any(row is r for r in dear) or cost.value is None:
            bands[name] = range_of(days) or (float(days), float(days))
        if even is not None:
            label = f"at ${interval(even.price)} a chip-hour it costs what {even.other} does"
            even_dots.setdefault(name, []).append((float(days), even.cost, label))
            equal.append((name, even))
    return charts.points(
        "Cost against time",
        " ".join(
            [
                *said,
                *(["A band is a row that nobody quotes a price of: its cost depends on it."] if bands else []),
                *([f"An empty mark is its cost at its break-even price: {equal_words(equal)}."] if equal else []),
            ]
        ),
        dots,
        x="days",
        y="$ per million tokens",
        looks=looks,
        ends=ends,
        bands=bands,
        hollow=even_dots,
        hollow_is="break-even",
        finding=found.best_words(names, {"usd_per_mtok": "Cheapest", "days": "Fastest"}),
    )


def _useful(rows: _Named, looks: Mapping[str, SystemLook]) -> Chart:
    """What share of what is paid for does the model's own work: MFU, and goodput of it."""
    shares = {
        "useful work": [100 * _useful_share(r) for _, r in rows],
        "lost to failures": [100 * (float(estimate_of(r["mfu"]).value or 0.0) - _useful_share(r)) for _, r in rows],
    }
    best = max(rows, key=lambda nr: _useful_share(nr[1]))
    return charts.stacked_bars(
        "Useful work of a chip",
        "Of the dense peak in the plan's precision: the model's own FLOP that survive failures (MFU times goodput).",
        [n for n, _ in rows],
        shares,
        unit="% of the peak",
        fills={"lost to failures": {"color": GREY.light, "borderColor": PAPER.light, "borderWidth": 1}},
        ends=[_useful_ends(r) for _, r in rows],
        looks=looks,
        finding=f"{best[0]} uses most of its peak: {_useful_share(best[1]):.0%}",
    )


def _useful_share(row: Result) -> float:
    goodput = estimate_of(row["goodput"]).value
    return float(estimate_of(row["mfu"]).value or 0.0) * (1.0 if goodput is None else float(goodput))


def _useful_ends(row: Result) -> Range | None:
    """The range of the useful share, per cent: that of the MFU."""
    mfu = estimate_of(row["mfu"])
    found = range_of(mfu)
    if found is None or not mfu.value:
        return None
    kept = 100 * _useful_share(row) / float(mfu)
    return found[0] * kept, found[1] * kept


def _moves(rows: _Named, is_plan: bool) -> list[Chart]:
    return [
        charts_change.tornado(
            f"What moves the step of {'plan ' if is_plan else ''}{name} most",
            "Change of the step time when one fact goes to the ends of its range.",
            [
                (fact_label(s["fact"]), 100 * change_of(s["at_low"]), 100 * change_of(s["at_high"]))
                for s in r["spread"][:8]
            ],
            unit="% of step time",
            finding=moved_most(
                fact_label(r["spread"][0]["fact"]),
                change_of(r["spread"][0]["at_low"]),
                change_of(r["spread"][0]["at_high"]),
            ),
        )
        for name, r in (rows[:1] if is_plan else rows[:6])
        if r.get("spread")
    ]


def moved_most(what: str, at_low: float, at_high: float) -> str:
    """The finding of a tornado. at_low, at_high: change, as shares."""
    return f"{what[0].upper()}{what[1:]} moves it most: {at_low:+.0%} to {at_high:+.0%}"


def front_pictures(front: Sequence[Result]) -> list[Chart]:
    """The Pareto front of one system: time against memory, and against cost."""
    timed = [r for r in front if estimate_of(r["days"]).value is not None]
    priced = [r for r in timed if estimate_of(r["usd_per_mtok"]).value is not None]

    def chips(row: Result) -> str:
        return f"{row['chips_used'] + row['chips_idle']} chips, {plan_of(row)}"

    out = [
        charts.points(
            "Pareto front: time against memory",
            "Plans that no other beats in time, memory, cost and energy at once, on ever fewer chips.",
            {"front": [(float(estimate_of(r["days"])), used_B(r) / GIB, chips(r)) for r in timed]},
            x="days",
            y="GiB of a device",
            log_x=True,
            ends={"front": [(range_of(estimate_of(r["days"])), None) for r in timed]},
        )
    ]
    if priced:
        out.append(
            charts.points(
                "Pareto front: time against cost",
                "The same plans.",
                {
                    "front": [
                        (float(estimate_of(r["days"])), float(estimate_of(r["usd_per_mtok"])), plan_of(r))
                        for r in priced
                    ]
                },
                x="days",
                y="$ per million tokens",
                log_x=True,
                ends={
                    "front": [
                        (range_of(estimate_of(r["days"])), range_of(estimate_of(r["usd_per_mtok"]))) for r in priced
                    ]
                },
            )
        )
    return out
