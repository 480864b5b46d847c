"""The page of a fleet: orders, who does what, what binds, how sure."""

from __future__ import annotations

from mowich.show import charts
from mowich.show.fleet import counted_units, dollars
from mowich.show.page import Page, Result, Table, cell, plan_words
from mowich.show.table import UNKNOWN, number, percent


def fleet_page(result: Result) -> Page:
    periods = result["periods"]
    if result["objective"] is None:
        return Page(
            title=f"Fleet: {result['inputs']['name']}",
            headline=(
                f"No plan: {', '.join(result['conflict'])} cannot hold together."
                if result["conflict"]
                else "No plan was found."
            ),
            assumptions=[("facts", result["facts_hash"])],
            inputs=result["inputs"],
        )
    orders = [(kind, o) for kind in ("buy", "rent") for o in result[kind]]
    totals: dict[tuple[str, str], tuple[float, float]] = {}
    for kind, o in orders:
        units, chips = totals.get((kind, o["system"]), (0.0, 0.0))
        totals[kind, o["system"]] = (units + o["units"], chips + o["chips"])
    most = {
        s: max(sum(u["chips"] for u in result["use"] if u["system"] == s and u["period"] == p) for p in periods)
        for _, s in totals
    }
    ordered = [
        f"{kind} {counted_units(n, c, most[s] if kind == 'rent' else c)} {s}" for (kind, s), (n, c) in totals.items()
    ]
    words = (", ".join(ordered) or "order nothing") + (" at a time" if any("up to" in o for o in ordered) else "")
    single = [v for v in result["single_vendor"] if v["objective"] is not None]
    headline = (
        f"{words[0].upper()}{words[1:]}. {dollars(result['objective'])} over {len(periods)} periods on"
        f" {', '.join(result['stacks'])}."
    )
    if single and len(result["stacks"]) > 1:
        best = min(single, key=lambda v: v["objective"])
        headline += f" Mixing saves {percent(best['objective'] / result['objective'] - 1)} over {best['stack']} alone."
    systems = list(dict.fromkeys(u["system"] for u in result["use"]))

    def line(key: str) -> dict[str, list[float]]:
        return {
            s: [
                sum(float(u[key] or 0.0) for u in result["use"] if u["system"] == s and u["period"] == p)
                for p in periods
            ]
            for s in systems
        }

    shares: dict[str, list[float]] = {}
    for a in result["assign"]:
        shares.setdefault(f"{a['task']} on {a['system']}", [0.0] * len(periods))[periods.index(a["period"])] += a[
            "share"
        ]
    pictures = [
        charts.over_time(
            "Chips that stand", "Bought, rented, committed and already there.", periods, line("chips"), unit="chips"
        ),
        charts.over_time(
            "Energy at the meter",
            "Systems whose power is unknown are left out.",
            periods,
            {s: v for s, v in line("MWh").items() if any(v)},
            unit="MWh",
        ),
        charts.heat(
            "Who does what",
            "Share of the demand of the period, or of all the work of a run.",
            periods,
            shares,
            unit="% of the task",
        ),
    ]
    if result["binding"]:
        top = result["binding"][:10]
        pictures.append(
            charts.stacked_bars(
                "What binds",
                "What one more unit of it (of work and demand: one per cent less) saves.",
                [f"{b['constraint']} ({b['unit']})" for b in top],
                {"saves": [b["shadow_price"] / 1e3 for b in top]},
                unit="thousand $",
            )
        )
    if robust := result.get("robust"):
        known = {k: v for k, v in robust["share"].items() if v[2] is not None and v[2] > 1e-6}
        pictures.append(
            charts.ranges(
                f"Share of chip-hours over {robust['draws']} draws of prices and speeds",
                "5%, median and 95% of the optimum of each draw.",
                [(s, 100 * lo, 100 * mid, 100 * hi) for s, (lo, mid, hi) in known.items()],
                unit="% of chip-hours",
            )
        )
    speed_rows = [
        [
            r["task"],
            r["system"],
            cell(r["tokens_per_s_per_chip"]),
            plan_words(r["plan"]) if "dp" in r["plan"] else "-",
        ]
        for r in result["rates"]
    ]
    tables = [
        Table(
            title="Orders",
            head=["what", "system", "site", "period", "units", "chips", "cost, $", "price"],
            rows=[
                [
                    k,
                    o["system"],
                    o["site"],
                    o["period"],
                    f"{o['units']:,.6g}",
                    f"{o['chips']:,.6g}",
                    f"{o['usd']:,.0f}",
                    o["price"],
                ]
                for k, o in orders
            ],
        ),
        Table(
            title="One stack alone",
            head=["stack", "cost, $", "over the plan", "why not"],
            rows=[
                [
                    v["stack"],
                    UNKNOWN if v["objective"] is None else f"{v['objective']:,.0f}",
                    UNKNOWN if v["over"] is None else f"{v['over']:+.1%}",
                    v["reason"] or "-",
                ]
                for v in result["single_vendor"]
            ],
        ),
        Table(title="Speeds that the plan rests on", head=["task", "system", "tokens/s/chip", "plan"], rows=speed_rows),
    ]
    if result.get("flips"):
        tables.append(
            Table(
                title="Flip points, nearest first",
                head=["task", "from", "to", "when", "times today's"],
                rows=[
                    [
                        f["task"],
                        f["before"],
                        f["after"],
                        (
                            f"{f['system']}'s"
                            f" {f['what']} {'below' if f['at'] < 1 else 'above'} {number(f['value'])} {f['unit']}"
                        ),
                        f"{f['at']:.2f}",
                    ]
                    for f in result["flips"][:30]
                ],
            )
        )
    return Page(
        title=f"Fleet: {result['inputs']['name']}",
        headline=headline,
        tables=tables,
        charts=pictures,
        warnings=result.get("warnings", ()),
        inputs=result["inputs"],
        assumptions=[
            ("cost", "net present, USD"),
            ("gap to the best possible", percent(result["gap"])),
            ("stacks", ", ".join(result["stacks"])),
            ("facts", result["facts_hash"]),
        ],
    )
