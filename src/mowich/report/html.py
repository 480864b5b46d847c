"""One result as one HTML file: offline, printable, readable without pictures, mailable.

A page is what the text report says, the same numbers, then charts of them (report/charts.py) and the inputs that make it again. ECharts is inside the
file; nothing is fetched. `render` picks the page by the result's schema.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from html import escape
from importlib import resources
from typing import Any

from mowich.errors import UserError
from mowich.estimate import Estimate
from mowich.report import charts
from mowich.report.charts import Chart
from mowich.report.table import UNKNOWN, interval, number, percent
from mowich.units import show_count, sig

Result = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Cells may be (text, hover)."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str | tuple[str, str]]]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """headline: the answer in a sentence; assumptions: (what, value); text: the report as a terminal shows it."""

    title: str
    headline: str
    assumptions: Sequence[tuple[str, str]]
    tables: Sequence[Table] = ()
    charts: Sequence[Chart] = ()
    warnings: Sequence[str] = ()
    inputs: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""


@cache
def _static(name: str) -> str:
    return resources.files("mowich.report").joinpath("static", name).read_text(encoding="utf-8")


def _e(data: Mapping[str, Any] | None) -> Estimate:
    return Estimate.from_dict(data or {"value": None, "unit": "", "reason": "not in this result"})


def _cell(data: Mapping[str, Any] | None, scale: float = 1.0) -> tuple[str, str]:
    """An estimate as (text, hover): the value with its range, its grade and why it is unknown."""
    e = _e(data)
    if e.value is None:
        return UNKNOWN, e.reason or "unknown"
    return interval(e, scale), f"grade {e.grade}; 90% range {number(e.low, scale)} to {number(e.high, scale)}"


# ---- pages ----------------------------------------------------------------------------------------------------------------------------


def _plan_words(plan: Mapping[str, Any] | None) -> str:
    if not plan:
        return "-"
    keys = ("tp", "pp", "vpp", "dp", "cp", "ep", "zero", "micro_batch")
    return (
        " ".join(
            f"{k.replace('micro_batch', 'mb')}{plan[k]}"
            for k in keys
            if plan.get(k, 1) not in (1, None) or k in ("dp",)
        )
        + f" {plan.get('precision', '')}"
    )


def _best(rows: Sequence[Result], key: str, *, most: bool = False) -> tuple[Result | None, list[str]]:
    known = [r for r in rows if r.get("feasible") and _e(r[key]).value is not None]
    if not known:
        return None, []
    best = (max if most else min)(known, key=lambda r: float(_e(r[key])))
    return best, [r["system"] for r in known if r is not best and _e(r[key]).overlaps(_e(best[key]))]


def _serve_plan_words(row: Result) -> str:
    def words(p: Mapping[str, Any]) -> str:
        degrees = [f"{k}{p[k]}" for k in ("tp", "pp", "dp", "cp", "ep") if p.get(k, 1) != 1 or k == "tp"]
        return f"{' '.join(degrees)} {p['precision']}/{p['kv']}"

    if not row.get("decode"):
        return "-"
    count = row["replicas"]
    if row["mode"] == "aggregated":
        return f"{count['decode']} x ({words(row['decode'])})"
    return f"{count['prefill']}P x ({words(row['prefill'])}) + {count['decode']}D x ({words(row['decode'])})"


def serve_page(result: Result) -> Page:
    """Serving plans of one system, or the best of several: what users see, throughput, cost, and the front between them."""
    inputs, is_plan = result["inputs"], "plans" in result
    rows = result["plans"] if is_plan else result["rows"]
    label = [f"{i + 1}" if is_plan else r["system"] for i, r in enumerate(rows)]
    ok = [(name, r) for name, r in zip(label, rows, strict=True) if _e(r["tpot_s"]).value is not None]
    best, close = _best(rows, "usd_per_mtok")
    if best is None:
        best, close = _best(rows, "tokens_per_s_per_chip", most=True)
    if best is None:
        headline = "No plan meets the limits." if ok else "Nothing fits."
    else:
        who = f"plan {label[rows.index(best)]}" if is_plan else best["system"]
        also = f" ({', '.join(dict.fromkeys(close))} overlap)" if close and not is_plan else ""
        headline = (f"Cheapest: {who}, {_serve_plan_words(best)}, {interval(_e(best['tokens_per_s_per_chip']))} tokens/s per chip, "
                    f"${interval(_e(best['usd_per_mtok']))} per million output tokens{also}.")  # fmt: skip
    pictures = []
    fronts: dict[str, list[tuple[float, float, str]]] = {}
    if result.get("front"):
        fronts["front"] = [
            (float(_e(r["tokens_per_s_per_user"])), float(_e(r["tokens_per_s_per_chip"])), _serve_plan_words(r))
            for r in result["front"]
        ]
    else:
        fronts = {name: [(user, chip, name) for user, chip in r["front"]] for name, r in ok if r["front"]}
    if fronts:
        pictures.append(charts.points("Throughput against speed", "Up and right is better: no plan beats a point of a front in both.", fronts,
                                      x="tokens/s per user", y="tokens/s per chip", log_y=True, line=True))  # fmt: skip
    if ok:
        labels = [name for name, _ in ok]
        for key, title, note in (("tpot_s", "Where the time per output token goes", "Named parts sum to the time."),
                                 ("ttft_s", "Where the time to the first token goes", "Named parts sum to the time.")):  # fmt: skip
            names = list(dict.fromkeys(k for _, r in ok for k in r[key]["breakdown"]))
            parts = {k: [1e3 * r[key]["breakdown"].get(k, 0.0) for _, r in ok] for k in names}
            pictures.append(charts.stacked_bars(title, note, labels, parts, unit="ms"))
        for key, title in (
            ("tpot_s", "Time per output token with its 90% range"),
            ("ttft_s", "Time to the first token with its 90% range"),
        ):
            bars = [
                (name, 1e3 * e.low, 1e3 * float(e), 1e3 * e.high) for name, r in ok if (e := _e(r[key])).low and e.high
            ]
            if bars:
                pictures.append(charts.ranges(title, "Rows whose ranges overlap are not ranked.", bars, unit="ms"))
        categories = list(dict.fromkeys(k for _, r in ok for k in r["memory_B"]))
        pictures.append(charts.stacked_bars("Memory of a decoding device against what a program may use", "The mark is the usable capacity.", labels,
                                            {k: [r["memory_B"].get(k, 0.0) / 2**30 for _, r in ok] for k in categories}, unit="GiB",
                                            marks=[r["memory_capacity_B"] / 2**30 for _, r in ok], mark="usable"))  # fmt: skip
    head = ["plan" if is_plan else "system", "meets limits", "plan", "batch", "TTFT, ms", "TPOT, ms", "tokens/s/chip", "tokens/s/user", "$/Mtok", "J/token", "grade", "rests on", "binds"]  # fmt: skip

    def line(name: str, r: Result) -> list[str | tuple[str, str]]:
        tpot = _e(r["tpot_s"])
        fits = ({True: "yes", False: "no", None: "depends"}[r.get("feasible")], r.get("reason") or "")
        return [name, fits, _serve_plan_words(r), str(r["batch"] or UNKNOWN), _cell(r["ttft_s"], 1e3), _cell(r["tpot_s"], 1e3), _cell(r["tokens_per_s_per_chip"]),
                _cell(r["tokens_per_s_per_user"]), _cell(r["usd_per_mtok"]), _cell(r["J_per_token"]), tpot.grade if tpot.value is not None else "-",
                ", ".join(f"{share:.0%} {kind}" for kind, share in tpot.coverage.items()) or "-", r["binds"]]  # fmt: skip

    tables = [Table(title="Answers", head=head, rows=[line(n, r) for n, r in zip(label, rows, strict=True)], note="Hover or focus a number for its grade and range. ? is unknown, with the reason.")]  # fmt: skip
    if result.get("front"):
        tables.append(
            Table(
                title="Front, fastest user to cheapest token",
                head=head,
                rows=[line(str(i), r) for i, r in enumerate(result["front"], start=1)],
            )
        )

    def limit(key: str) -> str:
        return "none" if inputs.get(key) is None else f"{number(inputs[key], 1e3)} ms"

    return Page(
        title=f"{inputs.get('model')}: {'serving plans' if is_plan else 'serving compared'}", headline=headline,
        assumptions=[("model", str(inputs.get("model"))), ("prompt, tokens", f"{inputs['isl']:g}"), ("output, tokens", f"{inputs['osl']:g}"), ("TTFT limit", limit("ttft_s")), ("TPOT limit", limit("tpot_s")),
                     ("prompts cached", percent(inputs.get("cached") or 0.0)), ("engines", ", ".join(f"{s['system']}: {s['engine']}" for s in inputs["systems"])),
                     ("price term", str(inputs.get("price_term"))), ("facts", str(result.get("facts_hash", "")))],
        tables=tables, charts=pictures, warnings=result.get("warnings", ()), inputs=inputs,
    )  # fmt: skip


def compare_page(result: Result) -> Page:
    rows = result["rows"] if "rows" in result else result["plans"]
    inputs = result["inputs"]
    is_plan = "plans" in result
    label = [f"{i + 1}" if is_plan else r["system"] for i, r in enumerate(rows)]
    ok = [(name, r) for name, r in zip(label, rows, strict=True) if _e(r["step_s"]).value is not None]
    cheapest, close = _best(rows, "usd_per_mtok")
    fastest, near = _best(rows, "days")
    parts = []
    if cheapest is not None and not is_plan:
        parts.append(
            f"Cheapest: {cheapest['system']}, ${interval(_e(cheapest['usd_per_mtok']))} per million tokens"
            + (f" ({', '.join(close)} overlap)" if close else "")
            + "."
        )
    if fastest is not None:
        parts.append(
            f"Fastest: {'plan ' + label[rows.index(fastest)] if is_plan else fastest['system']}, {interval(_e(fastest['days']))} days"
            + (f" ({', '.join(near)} overlap)" if near and not is_plan else "")
            + "."
        )
    if not ok:
        parts.append("Nothing fits.")
    names = sorted(
        {k for _, r in ok for k in r["step_s"]["breakdown"]},
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
                                      [(n, e.low, float(e), e.high) for n, r in ok if (e := _e(r["step_s"])).low and e.high], unit="s", log=True))  # fmt: skip
        priced = [(n, r) for n, r in ok if _e(r["usd_per_mtok"]).value is not None]
        if priced:
            pictures.append(charts.points("Cost against time", "Down and left is better.", {n: [(float(_e(r["days"])), float(_e(r["usd_per_mtok"])), _plan_words(r["plan"]))] for n, r in priced},
                                          x="days", y="$ per million tokens"))  # fmt: skip
        for name, r in ok[:6]:
            spread = r.get("spread") or []
            if spread:
                pictures.append(charts.tornado(f"What moves {name} most", "Change of the step time when one fact goes to the ends of its range.",
                                               [(s["fact"], 100 * (2.718281828459045 ** s["at_low"] - 1), 100 * (2.718281828459045 ** s["at_high"] - 1)) for s in spread[:8]], unit="% of step time"))  # fmt: skip
    table = []
    for name, r in zip(label, rows, strict=True):
        fits = {True: "yes", False: "no", None: "depends"}[r.get("feasible")]
        table.append([name, (fits, r.get("reason") or ""), _plan_words(r.get("plan")), str(r.get("chips_used", "")), _cell(r["step_s"]), _cell(r["mfu"], 100.0), _cell(r["tokens_per_s_per_chip"]),
                      _cell(r["usd_per_mtok"]), _cell(r["J_per_token"]), _cell(r["goodput"], 100.0), _cell(r["days"]), _cell(r["breakeven_usd_per_chip_h"]),
                      _e(r["step_s"]).grade if _e(r["step_s"]).value is not None else "-", r.get("binds", "")])  # fmt: skip
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
        "days",
        "break-even $/chip/h",
        "grade",
        "binds",
    ]
    return Page(
        title=f"{inputs.get('model')}: {'plans' if is_plan else 'systems compared'}", headline=" ".join(parts),
        assumptions=[("model", str(inputs.get("model"))), ("tokens", show_count(float(inputs.get("tokens") or 0))), ("sequence", str(inputs.get("seq"))), ("batch, sequences", f"{float(inputs.get('batch_seqs') or 0):g}"),
                     ("price term", str(inputs.get("price_term"))), ("facts", str(result.get("facts_hash", "")))],
        tables=[Table(title="Answers", head=head, rows=table, note="Hover or focus a number for its grade and range. ? is unknown, with the reason.")], charts=pictures,
        warnings=result.get("warnings", ()), inputs=inputs,
    )  # fmt: skip


def fleet_page(result: Result) -> Page:
    periods = result["periods"]
    if result["objective"] is None:
        return Page(
            title=f"Fleet: {result['inputs']['name']}",
            headline=f"No plan: {', '.join(result['conflict'])} cannot hold together.",
            assumptions=[("facts", result["facts_hash"])],
            inputs=result["inputs"],
        )
    orders = [(kind, o) for kind in ("buy", "rent") for o in result[kind]]
    totals: dict[tuple[str, str], float] = {}
    for kind, o in orders:
        totals[kind, o["system"]] = totals.get((kind, o["system"]), 0.0) + o["units"]
    words = ", ".join(f"{kind} {n:,.0f} {s}" for (kind, s), n in totals.items()) or "order nothing"
    single = [v for v in result["single_vendor"] if v["objective"] is not None]
    headline = f"{words[0].upper()}{words[1:]}. ${result['objective'] / 1e6:,.1f}M over {len(periods)} periods on {', '.join(result['stacks'])}."
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
        charts.over_time("Chips that stand", "Bought, rented, committed and already there.", periods, line("chips"), unit="chips"),
        charts.over_time("Energy at the meter", "Systems whose power is unknown are left out.", periods, {s: v for s, v in line("MWh").items() if any(v)}, unit="MWh"),
        charts.heat("Who does what", "Share of the demand of the period, or of all the work of a run.", periods, shares, unit="% of the task"),
    ]  # fmt: skip
    if result["binding"]:
        top = result["binding"][:10]
        pictures.append(charts.stacked_bars("What binds", "What one more unit of it (of work and demand: one per cent less) saves.", [f"{b['constraint']} ({b['unit']})" for b in top],
                                            {"saves": [b["shadow_price"] / 1e3 for b in top]}, unit="thousand $"))  # fmt: skip
    if robust := result.get("robust"):
        known = {k: v for k, v in robust["share"].items() if v[2] > 1e-6}
        pictures.append(charts.ranges(f"Share of chip-hours over {robust['draws']} draws of prices and speeds", "5%, median and 95% of the optimum of each draw.",
                                      [(s, 100 * lo, 100 * mid, 100 * hi) for s, (lo, mid, hi) in known.items()], unit="% of chip-hours"))  # fmt: skip
    speed_rows = [
        [
            r["task"],
            r["system"],
            _cell(r["tokens_per_s_per_chip"]),
            _plan_words(r["plan"]) if "dp" in r["plan"] else "-",
        ]
        for r in result["rates"]
    ]
    tables = [
        Table(title="Orders", head=["what", "system", "site", "period", "units", "chips", "cost, $", "price"],
              rows=[[k, o["system"], o["site"], o["period"], f"{o['units']:,.6g}", f"{o['chips']:,.6g}", f"{o['usd']:,.0f}", o["price"]] for k, o in orders]),
        Table(title="One stack alone", head=["stack", "cost, $", "over the plan", "why not"],
              rows=[[v["stack"], UNKNOWN if v["objective"] is None else f"{v['objective']:,.0f}", UNKNOWN if v["over"] is None else f"{v['over']:+.1%}", v["reason"] or "-"] for v in result["single_vendor"]]),
        Table(title="Speeds that the plan rests on", head=["task", "system", "tokens/s/chip", "plan"], rows=speed_rows),
    ]  # fmt: skip
    if result.get("flips"):
        tables.append(Table(title="Flip points, nearest first", head=["task", "from", "to", "when", "times today's"],
                            rows=[[f["task"], f["before"], f["after"], f"{f['system']}'s {f['what']} {'below' if f['at'] < 1 else 'above'} {sig(f['value'])} {f['unit']}", f"{f['at']:.2f}"] for f in result["flips"][:30]]))  # fmt: skip
    return Page(
        title=f"Fleet: {result['inputs']['name']}", headline=headline, tables=tables, charts=pictures, warnings=result.get("warnings", ()), inputs=result["inputs"],
        assumptions=[("cost", "net present, USD"), ("gap to the best possible", percent(result["gap"])), ("stacks", ", ".join(result["stacks"])), ("facts", result["facts_hash"])],
    )  # fmt: skip


def validate_page(result: Result) -> Page:
    answered = [r for r in result["rows"] if r["status"] == "ok"]
    by_metric: dict[str, list[tuple[float, float, str]]] = {}
    for r in answered:
        by_metric.setdefault(str(r["metric"]), []).append((float(r["measured"]), float(r["predicted"]), str(r["id"])))
    everything = result["summary"]["all"]
    groups = {**result["summary"].get("by_chip", {})}
    summary = [["all", everything], *([k, v] for k, v in groups.items())]
    rows = [
        [
            str(n),
            str(s["n"]),
            str(s["unsupported"]),
            *(
                percent(s[k])
                for k in ("median_abs_error", "mean_abs_error", "p90_abs_error", "bias", "interval_coverage")
            ),
        ]
        for n, s in summary
    ]
    pictures = [
        charts.points(
            f"Predicted against measured: {metric}",
            "The diagonal is a perfect prediction.",
            {metric: dots},
            x="measured",
            y="predicted",
            log_x=True,
            log_y=True,
        )
        for metric, dots in by_metric.items()
    ]
    return Page(title="Predicted against measured", headline=f"{everything['n']} answers; median error {percent(everything['median_abs_error'])}, 90% of them under {percent(everything['p90_abs_error'])}.",
                assumptions=[("facts", str(result.get("facts_hash", "")))], charts=pictures,
                tables=[Table(title="By chip", head=["chip", "n", "refused", "median", "mean", "p90", "bias", "in 90% range"], rows=rows)])  # fmt: skip


def kernel_page(result: Result) -> Page:
    engines = {name: e for name, e in result["engines"].items() if e["instructions"]}
    us = 1e6
    states = {s: [e[f"{s}_s"] * us for e in engines.values()] for s in ("busy", "wait", "idle")}
    waits = sorted({w for e in engines.values() for w in e.get("waits_s", {})})
    pictures = [
        charts.stacked_bars("Engines: busy, waiting, idle", "The three sum to the time of the kernel.", list(engines), states, unit="us"),
        charts.stacked_bars("Where the time rests", "Parts of the critical path by the fact that sets them.", ["latency"],
                            {k: [v * us] for k, v in result["time_s"]["breakdown"].items()}, unit="us"),
    ]  # fmt: skip
    if waits:
        pictures.append(
            charts.stacked_bars(
                "Whom an engine waits for",
                "Part of its waiting time.",
                list(engines),
                {w: [e.get("waits_s", {}).get(w, 0.0) * us for e in engines.values()] for w in waits},
                unit="us",
            )
        )
    roof = result["roofline"]
    rows = [
        [f"{r['file']}:{r['line']}", number(r["seconds"] * us), r["cause"], r.get("remedy", "")] for r in result["top"]
    ]
    sizes = [
        [
            f"{d['descriptor_low_B']:,} to {d['descriptor_high_B']:,} B"
            if d["descriptor_high_B"] is not None
            else f"from {d['descriptor_low_B']:,} B",
            f"{d['descriptors']:,}",
            f"{d['bytes']:,}",
            percent(d["efficiency"]),
        ]
        for d in result.get("dma", ())
    ]
    time = _e(result["time_s"])
    busiest = max(engines, key=lambda name: engines[name]["busy_s"], default="-")
    return Page(
        title=f"Kernel on {result['target']}", headline=f"{interval(time, us)} us on {result['target']}; the {busiest} engine works most; {roof['bound']} bound.",
        assumptions=[("instructions", f"{result['instructions']:,}"), ("MFU", percent(result["mfu"])), ("MBU", percent(result["mbu"])),
                     ("FLOP per byte", f"{number(roof['flop_per_B'])}, ridge {number(roof['ridge_flop_per_B'])}"), ("SBUF peak per partition", f"{result['sbuf_peak_B']:,} B"), ("PSUM banks", str(result["psum_peak_banks"])), ("grade", time.grade)],
        tables=[Table(title="Lines that cost most", head=["line", "us", "cause", "remedy"], rows=rows), Table(title="DMA by size of descriptor", head=["size", "descriptors", "bytes", "efficiency"], rows=sizes)],
        charts=pictures, warnings=result.get("warnings", ()), inputs=result.get("inputs", {}),
    )  # fmt: skip


def traffic_page(result: Result) -> Page:
    times = {"time to first token": "ttft_s", "time per output token": "tpot_s", "end to end": "e2e_s"}
    marks = ("mean", "p50", "p90", "p99")
    rows = [[name, *(number(result[key][m], 1e3) for m in marks)] for name, key in times.items()]
    facts = [("requests", f"{result['completed']:,} of {result['requests']:,}"), ("utilisation", percent(result.get("utilisation"))), ("tokens/s/chip", number(result.get("tokens_per_s_per_chip"))),
             ("$/Mtok", number(result.get("usd_per_mtok"))), ("J/token", number(result.get("J_per_token"))), ("facts", str(result.get("facts_hash", "")))]  # fmt: skip
    pictures = [
        charts.stacked_bars(
            f"{name}: percentiles", "", list(marks), {name: [result[key][m] * 1e3 for m in marks]}, unit="ms"
        )
        for name, key in times.items()
    ]
    return Page(title=str(result["inputs"].get("name", "Traffic")), assumptions=facts, charts=pictures, warnings=result.get("warnings", ()), inputs=result["inputs"],
                headline=f"{percent(result['goodput_frac'])} of requests meet the limits; first token {number(result['ttft_s']['p50'], 1e3)} ms at the median, {number(result['ttft_s']['p99'], 1e3)} ms at p99.",
                tables=[Table(title="What users see, ms", head=["", *marks], rows=rows)])  # fmt: skip


def job_page(result: Result) -> Page:
    """Training or serving, as the inputs say."""
    return (serve_page if result["inputs"].get("task") == "serve" else compare_page)(result)


PAGES: Mapping[str, Callable[[Result], Page]] = {
    "mowich/compare@1": job_page,
    "mowich/plan@1": job_page,
    "mowich/fleet@1": fleet_page,
    "mowich/validate@1": validate_page,
    "mowich/kernel@1": kernel_page,
    "mowich/traffic@1": traffic_page,
}


# ---- rendering ------------------------------------------------------------------------------------------------------------------------


def _td(cell: str | tuple[str, str]) -> str:
    if isinstance(cell, tuple):
        text, hover = cell
        return f'<td tabindex="0" title="{escape(hover)}">{escape(text)}</td>' if hover else f"<td>{escape(text)}</td>"
    return f"<td>{escape(cell)}</td>"


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(h)}</th>' for h in table.head)
    body = "".join("<tr>" + "".join(_td(c) for c in row) + "</tr>" for row in table.rows)
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return f'<section><h2>{escape(table.title)}</h2>{note}<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></section>'


def _chart(place: int, chart: Chart) -> str:
    rows = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in chart.rows)
    head = "".join(f'<th scope="col">{escape(h)}</th>' for h in chart.head)
    return (
        f'<figure><h2>{escape(chart.title)}</h2><p class="note">{escape(chart.note)}</p>'
        f'<div class="chart" id="chart{place}" role="img" aria-label="{escape(chart.title)}; the numbers follow as a table" style="height:{chart.height}px"></div>'
        f'<details><summary>Numbers</summary><div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></details></figure>'
    )  # fmt: skip


def _json(data: Any) -> str:
    """JSON that may stand inside a script element."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def render(result: Result, *, command: str = "") -> str:
    """A result (as its JSON has it) -> one HTML document. Raises UserError for a schema without a page."""
    make = PAGES.get(str(result.get("schema")))
    if make is None:
        raise UserError("no report for this kind of result", given=result.get("schema"), allowed=", ".join(PAGES))
    page = make(result)
    assumptions = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in page.assumptions if v)
    warnings = "".join(f'<p class="warning">{escape(w)}</p>' for w in page.warnings)
    body = (
        "".join(_table(t) for t in page.tables[:1])
        + "".join(_chart(i, c) for i, c in enumerate(page.charts))
        + "".join(_table(t) for t in page.tables[1:])
    )
    inputs = f"<section><h2>Inputs</h2>{f'<pre>{escape(command)}</pre>' if command else ''}<pre>{escape(json.dumps(page.inputs, indent=1))}</pre></section>"
    return (
        _static("report.html").replace("{{title}}", escape(page.title)).replace("{{style}}", _static("report.css")).replace("{{headline}}", escape(page.headline))
        .replace("{{assumptions}}", assumptions).replace("{{warnings}}", warnings).replace("{{body}}", body).replace("{{inputs}}", inputs)
        .replace("{{options}}", _json([c.option for c in page.charts])).replace("{{script}}", _static("report.js")).replace("{{echarts}}", _static("echarts.min.js") if page.charts else "")
    )  # fmt: skip
