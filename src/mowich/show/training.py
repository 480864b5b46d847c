"""Pictures of training answers: where a step's time and a device's memory go, ranges, cost against time."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mowich.show import charts
from mowich.show.charts import Chart
from mowich.show.headline import Headline
from mowich.show.page import GIB, estimate_of
from mowich.show.rows import plan_of, used_B
from mowich.shown import Result

_Named = Sequence[tuple[str, Result]]
"""Rows that run, with the names that pictures give them."""


def training_pictures(rows: _Named, found: Headline, *, is_plan: bool) -> list[Chart]:
    """Pictures of rows: systems compared, or plans of one system."""
    if not rows:
        return []
    out = [_time(rows), _memory(rows), _ranges(rows, found)]
    priced = [(n, r) for n, r in rows if estimate_of(r["usd_per_mtok"]).value is not None]
    if priced:
        out.append(_cost(priced, found, len(rows)))
    return out + _moves(rows, is_plan)


def _time(rows: _Named) -> Chart:
    names = dict.fromkeys(k for _, r in rows for k in r["step_s"]["breakdown"])
    parts = {k: [r["step_s"]["breakdown"].get(k, 0.0) for _, r in rows] for k in names}
    largest = dict(sorted(parts.items(), key=lambda kv: -sum(kv[1])))
    return charts.stacked_bars(
        "Where the time of a step goes", "Named parts sum to the step.", [n for n, _ in rows], largest, unit="s"
    )


def _memory(rows: _Named) -> Chart:
    kinds = list(dict.fromkeys(k for _, r in rows for k in r["memory_B"]))
    return charts.stacked_bars(
        "Memory of a device against what a program may use",
        "The mark is the usable capacity.",
        [n for n, _ in rows],
        {k: [r["memory_B"].get(k, 0.0) / GIB for _, r in rows] for k in kinds},
        unit="GiB",
        marks=[r.get("memory_capacity_B", 0.0) / GIB for _, r in rows],
        mark="usable",
    )


def _ranges(rows: _Named, found: Headline) -> Chart:
    return charts.ranges(
        "Step time with its 90% range",
        (found.why_not("step_s") if len(rows) > 1 else "") or "Rows whose ranges overlap are not ranked.",
        [(n, e.low, float(e), e.high) for n, r in rows if (e := estimate_of(r["step_s"])).low and e.high],
        unit="s",
        log=True,
    )


def _cost(priced: _Named, found: Headline, running: int) -> Chart:
    better = [found.why_not(m) for m in ("usd_per_mtok", "days")] if running > 1 else []
    note = " ".join([w for w in better if w] or ["Down and left is better."])
    if len(priced) < running:
        note += " Rows without a known price are lines in another picture."
    return charts.points(
        "Cost against time",
        note,
        {n: [(float(estimate_of(r["days"])), float(estimate_of(r["usd_per_mtok"])), plan_of(r))] for n, r in priced},
        x="days",
        y="$ per million tokens",
    )


def _moves(rows: _Named, is_plan: bool) -> list[Chart]:
    return [
        charts.tornado(
            f"What moves the step of {'plan ' if is_plan else ''}{name} most",
            "Change of the step time when one fact goes to the ends of its range.",
            [(s["fact"], 100 * math.expm1(s["at_low"]), 100 * math.expm1(s["at_high"])) for s in r["spread"][:8]],
            unit="% of step time",
        )
        for name, r in (rows[:1] if is_plan else rows[:6])
        if r.get("spread")
    ]


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
            )
        )
    return out
