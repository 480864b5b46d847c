"""Pages of serving plans and comparisons, and of traffic."""

from __future__ import annotations

from mowich.report import charts
from mowich.report.page import Cell, Page, Result, Table, best_row, cell, estimate, plan_words
from mowich.report.table import UNKNOWN, interval, number, percent


def serve_plan_words(row: Result) -> str:
    if not row.get("decode"):
        return "-"
    count = row["replicas"]
    if row["mode"] == "aggregated":
        return f"{count['decode']} x ({plan_words(row['decode'])})"
    return f"{count['prefill']}P x ({plan_words(row['prefill'])}) + {count['decode']}D x ({plan_words(row['decode'])})"


def serve_page(result: Result) -> Page:
    """Serving plans of one system, or the best of several: what users see, throughput, cost, and the front between them."""
    inputs, is_plan = result["inputs"], "plans" in result
    rows = result["plans"] if is_plan else result["rows"]
    label = [f"{i + 1}" if is_plan else r["system"] for i, r in enumerate(rows)]
    ok = [(name, r) for name, r in zip(label, rows, strict=True) if estimate(r["tpot_s"]).value is not None]
    best, close = best_row(rows, "usd_per_mtok")
    if best is None:
        best, close = best_row(rows, "tokens_per_s_per_chip", most=True)
    if best is None:
        headline = "No plan meets the limits." if ok else "Nothing fits."
    else:
        who = f"plan {label[rows.index(best)]}" if is_plan else best["system"]
        also = f" ({', '.join(dict.fromkeys(close))} overlap)" if close and not is_plan else ""
        cost = estimate(best["usd_per_mtok"])
        first, price = (
            ("Most per chip", "no price known")
            if cost.value is None
            else ("Cheapest", f"${interval(cost)} per million output tokens")
        )
        headline = f"{first}: {who}, {serve_plan_words(best)}, {interval(estimate(best['tokens_per_s_per_chip']))} tokens/s per chip, {price}{also}."
    unpriced = [] if is_plan else [name for name, r in ok if estimate(r["usd_per_mtok"]).value is None]
    if best is not None and unpriced and len(unpriced) < len(ok):
        headline += f" No price known: {', '.join(unpriced)}."
    pictures = []
    fronts: dict[str, list[tuple[float, float, str]]] = {}
    if result.get("front"):
        fronts["front"] = [
            (
                float(estimate(r["tokens_per_s_per_user"])),
                float(estimate(r["tokens_per_s_per_chip"])),
                serve_plan_words(r),
            )
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
                (name, 1e3 * e.low, 1e3 * float(e), 1e3 * e.high)
                for name, r in ok
                if (e := estimate(r[key])).low and e.high
            ]
            if bars:
                pictures.append(charts.ranges(title, "Rows whose ranges overlap are not ranked.", bars, unit="ms"))
        categories = list(dict.fromkeys(k for _, r in ok for k in r["memory_B"]))
        pictures.append(charts.stacked_bars("Memory of a decoding device against what a program may use", "The mark is the usable capacity.", labels,
                                            {k: [r["memory_B"].get(k, 0.0) / 2**30 for _, r in ok] for k in categories}, unit="GiB",
                                            marks=[r["memory_capacity_B"] / 2**30 for _, r in ok], mark="usable"))  # fmt: skip
    head = ["plan" if is_plan else "system", "meets limits", "plan", "batch", "TTFT, ms", "TPOT, ms", "tokens/s/chip", "tokens/s/user", "$/Mtok", "J/token", "grade", "rests on", "binds"]  # fmt: skip

    def line(name: str, r: Result, at: str = "") -> list[Cell]:
        tpot = estimate(r["tpot_s"])
        fits = ({True: "yes", False: "no", None: "depends"}[r.get("feasible")], r.get("reason") or "")
        return [name, fits, serve_plan_words(r), str(r["batch"] or UNKNOWN), cell(r["ttft_s"], 1e3, f"{at}{name}.ttft_s"), cell(r["tpot_s"], 1e3, f"{at}{name}.tpot_s"), cell(r["tokens_per_s_per_chip"], metric=f"{at}{name}.tokens_per_s_per_chip"),
                cell(r["tokens_per_s_per_user"], metric=f"{at}{name}.tokens_per_s_per_user"), cell(r["usd_per_mtok"], metric=f"{at}{name}.usd_per_mtok"), cell(r["J_per_token"], metric=f"{at}{name}.J_per_token"), tpot.grade if tpot.value is not None else "-",
                ", ".join(f"{share:.0%} {kind}" for kind, share in tpot.coverage.items()) or "-", r["binds"]]  # fmt: skip

    tables = [Table(title="Answers", head=head, rows=[line(n, r) for n, r in zip(label, rows, strict=True)], note="Hover or focus a number for its grade and range. ? is unknown, with the reason.")]  # fmt: skip
    if result.get("front"):
        tables.append(
            Table(
                title="Front, fastest user to cheapest token",
                head=head,
                rows=[line(str(i), r, "front.") for i, r in enumerate(result["front"], start=1)],
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


def traffic_page(result: Result) -> Page:
    times = {"Time to first token": "ttft_s", "Time per output token": "tpot_s", "End to end": "e2e_s"}
    marks = ("mean", "p50", "p90", "p99")
    rows = [[name, *(number(result[key][m], 1e3) for m in marks)] for name, key in times.items()]
    facts = [("requests", f"{result['completed']:,} of {result['requests']:,}"), ("utilisation", percent(result.get("utilisation"))), ("tokens/s/chip", number(result.get("tokens_per_s_per_chip"))),
             ("$/Mtok", number(result.get("usd_per_mtok"))), ("J/token", number(result.get("J_per_token"))), ("facts", str(result.get("facts_hash", "")))]  # fmt: skip
    pictures = [
        charts.stacked_bars(
            f"{name}: percentiles", "", list(marks), {name.lower(): [result[key][m] * 1e3 for m in marks]}, unit="ms"
        )
        for name, key in times.items()
        if result[key]["mean"] is not None  # nothing was answered
    ]
    good = "" if result["goodput_frac"] is None else f", {percent(result['goodput_frac'])} within the limits"
    return Page(title=str(result["inputs"].get("name", "Traffic")), assumptions=facts, charts=pictures, warnings=result.get("warnings", ()), inputs=result["inputs"],
                headline=f"{result['completed']:,} of {result['requests']:,} requests served{good}; first token {number(result['ttft_s']['p50'], 1e3)} ms at the median, {number(result['ttft_s']['p99'], 1e3)} ms at p99.",
                tables=[Table(title="What users see, ms", head=["", *marks], rows=rows)])  # fmt: skip
