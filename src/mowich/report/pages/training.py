"""Pages of training comparisons and plans."""

from __future__ import annotations

import math

from mowich.report import charts
from mowich.report.page import Page, Result, Table, best_row, cell, estimate, plan_words
from mowich.report.table import interval, number, percent
from mowich.units import show_count, show_gib


def compare_page(result: Result) -> Page:
    rows = result["rows"] if "rows" in result else result["plans"]
    inputs = result["inputs"]
    is_plan = "plans" in result
    label = [f"{i + 1}" if is_plan else r["system"] for i, r in enumerate(rows)]
    ok = [(name, r) for name, r in zip(label, rows, strict=True) if estimate(r["step_s"]).value is not None]
    cheapest, close = best_row(rows, "usd_per_mtok")
    fastest, near = best_row(rows, "days")
    parts = []
    if cheapest is not None and not is_plan:
        parts.append(
            f"Cheapest: {cheapest['system']}, ${interval(estimate(cheapest['usd_per_mtok']))} per million tokens"
            + (f" ({', '.join(close)} overlap)" if close else "")
            + "."
        )
    if fastest is not None:
        who = f"plan {label[rows.index(fastest)]} ({plan_words(fastest['plan'])} on {fastest['system']})" if is_plan else fastest["system"]  # fmt: skip
        parts.append(
            f"Fastest: {who}, {interval(estimate(fastest['days']))} days"
            + (f" ({', '.join(near)} overlap)" if near and not is_plan else "")
            + "."
        )
    unpriced = [] if is_plan else [name for name, r in ok if estimate(r["usd_per_mtok"]).value is None]
    if unpriced:
        parts.append(f"No price known: {', '.join(unpriced)}.")
    short = [] if is_plan else [name for name, r in zip(label, rows, strict=True) if r.get("feasible") is False]
    if not ok:
        parts.append("Nothing fits.")
    elif short:
        parts.append(f"Cannot run it: {', '.join(short)}.")
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
        pictures.append(charts.stacked_bars("Memory of a device against what a program may use", "The mark is the usable capacity.", labels,
                                            {k: [r["memory_B"].get(k, 0.0) / 2**30 for _, r in ok] for k in categories}, unit="GiB",
                                            marks=[r.get("memory_capacity_B", 0.0) / 2**30 for _, r in ok], mark="usable"))  # fmt: skip
        pictures.append(charts.ranges("Step time with its 90% range", "Rows whose ranges overlap are not ranked.",
                                      [(n, e.low, float(e), e.high) for n, r in ok if (e := estimate(r["step_s"])).low and e.high], unit="s", log=True))  # fmt: skip
        priced = [(n, r) for n, r in ok if estimate(r["usd_per_mtok"]).value is not None]
        if priced:
            pictures.append(charts.points("Cost against time", "Down and left is better." + (" Rows without a known price are not here." if len(priced) < len(ok) else ""), {n: [(float(estimate(r["days"])), float(estimate(r["usd_per_mtok"])), plan_words(r["plan"]))] for n, r in priced},
                                          x="days", y="$ per million tokens"))  # fmt: skip
        for name, r in ok[:1] if is_plan else ok[:6]:
            spread = r.get("spread") or []
            if spread:
                bars = [(s["fact"], 100 * math.expm1(s["at_low"]), 100 * math.expm1(s["at_high"])) for s in spread[:8]]
                pictures.append(charts.tornado(f"What moves the step of {'plan ' if is_plan else ''}{name} most", "Change of the step time when one fact goes to the ends of its range.", bars, unit="% of step time"))  # fmt: skip
    if result.get("pareto"):
        front = [(float(estimate(r["days"])), sum(r["memory_B"].values()) / 2**30, f"{r['chips_used'] + r['chips_idle']} chips, {plan_words(r['plan'])}") for r in result["pareto"]
                 if estimate(r["days"]).value is not None]  # fmt: skip
        pictures.append(charts.points("Pareto front: time against memory", "Plans that no other beats in time, memory, cost and energy at once, on ever fewer chips.", {"front": front}, x="days", y="GiB of a device", log_x=True))  # fmt: skip
        dear = [(float(estimate(r["days"])), float(estimate(r["usd_per_mtok"])), plan_words(r["plan"])) for r in result["pareto"] if estimate(r["usd_per_mtok"]).value is not None and estimate(r["days"]).value is not None]  # fmt: skip
        if dear:
            pictures.append(charts.points("Pareto front: time against cost", "The same plans.", {"front": dear}, x="days", y="$ per million tokens", log_x=True))  # fmt: skip
    table = []
    for name, r in zip(label, rows, strict=True):
        fits = {True: "yes", False: "no", None: "depends"}[r.get("feasible")]
        table.append([name, (fits, r.get("reason") or ""), plan_words(r.get("plan")), str(r.get("chips_used", "")), cell(r["step_s"], metric=f"{name}.step_s"), cell(r["mfu"], 100.0, metric=f"{name}.mfu"), cell(r["tokens_per_s_per_chip"], metric=f"{name}.tokens_per_s_per_chip"),
                      cell(r["usd_per_mtok"], metric=f"{name}.usd_per_mtok"), cell(r["J_per_token"], metric=f"{name}.J_per_token"), cell(r["goodput"], 100.0, metric=f"{name}.goodput"), r.get("survival") or "-", cell(r["days"], metric=f"{name}.days"), cell(r["breakeven_usd_per_chip_h"], metric=f"{name}.breakeven_usd_per_chip_h"),
                      estimate(r["step_s"]).grade if estimate(r["step_s"]).value is not None else "-", r.get("binds", "")])  # fmt: skip
    head = [
        "plan" if is_plan else "system",
        "fits",
        "plan",
        "chips",
        "step, s",
        "MFU, %",
        "tokens/s/chip",
        "$/Mtok",
        "J/token",
        "goodput, %",
        "survives failures by",
        "days",
        "break-even $/chip/h",
        "grade",
        "binds",
    ]
    tables = [Table(title="Answers", head=head, rows=table, note="Hover or focus a number for its grade and range. ? is unknown, with the reason.")]  # fmt: skip
    if result.get("why"):
        tables.append(_why(result["why"], rows[0]))
    return Page(
        title=f"{inputs.get('model')}: {'plans' if is_plan else 'systems compared'}", headline=" ".join(parts),
        assumptions=[("model", str(inputs.get("model"))), ("tokens", show_count(float(inputs.get("tokens") or 0))), ("sequence", str(inputs.get("seq"))), ("batch, sequences", f"{float(inputs.get('batch_seqs') or 0):g}"),
                     ("price term", str(inputs.get("price_term"))), ("facts", str(result.get("facts_hash", "")))],
        tables=tables, charts=pictures,
        warnings=result.get("warnings", ()), inputs=inputs,
    )  # fmt: skip


def _why(why: Result, best: Result) -> Table:
    """The neighbours of the best plan: what one choice a step away costs, and what ties."""
    rows = [
        [f"{n['field']} {n['value']}", f"{n['slower']:+.1%}" if n["slower"] is not None else f"does not fit, +{show_gib(n['short_B'])}", number(n["memory_B"] / 2**30), n["cause"] or "-", plan_words(n["plan"])]
        for n in why["neighbours"]
    ]  # fmt: skip
    ties = why["ties"]
    differ = "; ".join(f"{k.replace('_', ' ')} {', '.join(v)}" for k, v in ties["differ_in"].items())
    note = f"One choice of {plan_words(best['plan'])} a step away, the others made anew. " + (
        f"{ties['count']} plans lie within {percent(ties['within'])}, less than the model can tell apart; they differ in {differ or 'nothing that is shown'}."
        if ties["count"] > 1
        else f"No other plan lies within {percent(ties['within'])}."
    )
    return Table(title="Why this plan: its neighbours", head=["with", "step time", "GiB of a device", "because of", "best such plan"], rows=rows, note=note)  # fmt: skip
