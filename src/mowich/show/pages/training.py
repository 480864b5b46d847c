"""Pages of training comparisons and plans."""

from __future__ import annotations

import math

from mowich.show import charts
from mowich.show.headline import beside, chips_cell, headline, terms_cell
from mowich.show.page import NOTE, NOTE_MARKED, Cell, Page, Result, Table, cell, estimate, plan_words
from mowich.show.table import number, percent
from mowich.units import show_count, show_gib


def compare_page(result: Result) -> Page:
    rows = result["rows"] if "rows" in result else result["plans"]
    inputs = result["inputs"]
    is_plan = "plans" in result
    label = [f"{i + 1}" if is_plan else r["system"] for i, r in enumerate(rows)]
    ok = [(name, r) for name, r in zip(label, rows, strict=True) if estimate(r["step_s"]).value is not None]
    found = headline(result)
    names = sorted(
        dict.fromkeys(k for _, r in ok for k in r["step_s"]["breakdown"]),
        key=lambda k: -sum(r["step_s"]["breakdown"].get(k, 0.0) for _, r in ok),
    )
    pictures = []
    if ok:
        labels = [n for n, _ in ok]
        pictures.append(
            charts.stacked_bars(
                "Where the time of a step goes",
                "Named parts sum to the step.",
                labels,
                {k: [r["step_s"]["breakdown"].get(k, 0.0) for _, r in ok] for k in names},
                unit="s",
            )
        )
        categories = list(dict.fromkeys(k for _, r in ok for k in r["memory_B"]))
        pictures.append(
            charts.stacked_bars(
                "Memory of a device against what a program may use",
                "The mark is the usable capacity.",
                labels,
                {k: [r["memory_B"].get(k, 0.0) / 2**30 for _, r in ok] for k in categories},
                unit="GiB",
                marks=[r.get("memory_capacity_B", 0.0) / 2**30 for _, r in ok],
                mark="usable",
            )
        )
        pictures.append(
            charts.ranges(
                "Step time with its 90% range",
                (found.why_not("step_s") if len(ok) > 1 else "") or "Rows whose ranges overlap are not ranked.",
                [(n, e.low, float(e), e.high) for n, r in ok if (e := estimate(r["step_s"])).low and e.high],
                unit="s",
                log=True,
            )
        )
        priced = [(n, r) for n, r in ok if estimate(r["usd_per_mtok"]).value is not None]
        if priced:
            better = [found.why_not(m) for m in ("usd_per_mtok", "days")] if len(ok) > 1 else []
            note = " ".join([*(w for w in better if w)] or ["Down and left is better."]) + (
                " Rows without a known price are not here." if len(priced) < len(ok) else ""
            )
            pictures.append(
                charts.points(
                    "Cost against time",
                    note,
                    {
                        n: [(float(estimate(r["days"])), float(estimate(r["usd_per_mtok"])), plan_words(r["plan"]))]
                        for n, r in priced
                    },
                    x="days",
                    y="$ per million tokens",
                )
            )
        for name, r in ok[:1] if is_plan else ok[:6]:
            spread = r.get("spread") or []
            if spread:
                bars = [(s["fact"], 100 * math.expm1(s["at_low"]), 100 * math.expm1(s["at_high"])) for s in spread[:8]]
                pictures.append(
                    charts.tornado(
                        f"What moves the step of {'plan ' if is_plan else ''}{name} most",
                        "Change of the step time when one fact goes to the ends of its range.",
                        bars,
                        unit="% of step time",
                    )
                )
    if result.get("pareto"):
        front = [
            (
                float(estimate(r["days"])),
                sum(r["memory_B"].values()) / 2**30,
                f"{r['chips_used'] + r['chips_idle']} chips, {plan_words(r['plan'])}",
            )
            for r in result["pareto"]
            if estimate(r["days"]).value is not None
        ]
        pictures.append(
            charts.points(
                "Pareto front: time against memory",
                "Plans that no other beats in time, memory, cost and energy at once, on ever fewer chips.",
                {"front": front},
                x="days",
                y="GiB of a device",
                log_x=True,
            )
        )
        dear = [
            (float(estimate(r["days"])), float(estimate(r["usd_per_mtok"])), plan_words(r["plan"]))
            for r in result["pareto"]
            if estimate(r["usd_per_mtok"]).value is not None and estimate(r["days"]).value is not None
        ]
        if dear:
            pictures.append(
                charts.points(
                    "Pareto front: time against cost",
                    "The same plans.",
                    {"front": dear},
                    x="days",
                    y="$ per million tokens",
                    log_x=True,
                )
            )
    table: list[list[Cell]] = []
    for place, (name, r) in enumerate(zip(label, rows, strict=True)):
        fits = {True: "yes", False: "no", None: "depends"}[r.get("feasible")]

        def shown(metric: str, scale: float = 1.0, row: Result = r, name: str = name, place: int = place) -> Cell:
            return cell(row[metric], scale, f"{name}.{metric}", found.mark(metric, place))

        chips = chips_cell(int(r.get("chips_used") or 0), int(r.get("chips_requested") or 0))
        table.append(
            [
                name,
                (fits, r.get("reason") or ""),
                plan_words(r.get("plan")),
                (chips, "used / paid for" if "/" in chips else ""),
                shown("step_s"),
                shown("mfu", 100.0),
                shown("tokens_per_s_per_chip"),
                shown("usd_per_mtok"),
                (terms_cell(str(r.get("price") or ""), short=True), str(r.get("price") or "")),
                shown("J_per_token"),
                shown("goodput", 100.0),
                shown("days"),
                shown("breakeven_usd_per_chip_h"),
                estimate(r["step_s"]).grade if estimate(r["step_s"]).value is not None else "-",
                r.get("binds", ""),
                r.get("survival") or "-",
            ]
        )
    head = [
        "plan" if is_plan else "system",
        "fits",
        "plan",
        "chips",
        "step, s",
        "MFU, %",
        "tokens/s/chip",
        "$/Mtok",
        "price",
        "J/token",
        "goodput, %",
        "days",
        "break-even $/chip/h",
        "grade",
        "binds",
        "survives failures by",
    ]
    tables = [Table(title="Answers", head=head, rows=table, note=NOTE if is_plan else NOTE_MARKED)]
    if result.get("why"):
        tables.append(_why(result["why"], rows[0]))
    return Page(
        title=f"{inputs.get('model')}: {'plans' if is_plan else 'systems compared'}",
        headline=str(found),
        marks=found.marks(len(rows)),
        beside=beside(rows),
        assumptions=[
            ("model", str(inputs.get("model"))),
            ("tokens", show_count(float(inputs.get("tokens") or 0))),
            ("sequence", str(inputs.get("seq"))),
            ("batch, sequences", f"{float(inputs.get('batch_seqs') or 0):g}"),
            ("price term", str(inputs.get("price_term"))),
            ("facts", str(result.get("facts_hash", ""))),
        ],
        tables=tables,
        charts=pictures,
        warnings=result.get("warnings", ()),
        inputs=inputs,
    )


def _why(why: Result, best: Result) -> Table:
    """The neighbours of the best plan: what one choice a step away costs, and what ties."""
    rows = [
        [
            f"{n['field']} {n['value']}",
            f"{n['slower']:+.1%}" if n["slower"] is not None else f"does not fit, +{show_gib(n['short_B'])}",
            number(n["memory_B"] / 2**30),
            n["cause"] or "-",
            plan_words(n["plan"]),
        ]
        for n in why["neighbours"]
    ]
    ties = why["ties"]
    differ = "; ".join(f"{k.replace('_', ' ')} {', '.join(v)}" for k, v in ties["differ_in"].items())
    note = f"One choice of {plan_words(best['plan'])} a step away, the others made anew. " + (
        f"{ties['count']} plans lie within {percent(ties['within'])}, less than the model can tell apart; they differ"
        f" in {differ or 'nothing that is shown'}."
        if ties["count"] > 1
        else f"No other plan lies within {percent(ties['within'])}."
    )
    return Table(
        title="Why this plan: its neighbours",
        head=["with", "step time", "GiB of a device", "because of", "best such plan"],
        rows=rows,
        note=note,
    )
