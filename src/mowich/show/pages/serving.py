"""Pages of serving plans and comparisons, and of traffic."""

from __future__ import annotations

from mowich.show import charts
from mowich.show.headline import beside, chips_cell, headline, layout, terms_cell
from mowich.show.page import NOTE, NOTE_MARKED, Cell, Page, Result, Table, cell, estimate
from mowich.show.table import in_flight, number, percent


def serve_page(result: Result) -> Page:
    """Serving plans of one system, or the best of several: what users see, throughput, cost, and the front between
    them."""
    inputs, is_plan = result["inputs"], "plans" in result
    rows = result["plans"] if is_plan else result["rows"]
    label = [f"{i + 1}" if is_plan else r["system"] for i, r in enumerate(rows)]
    ok = [(name, r) for name, r in zip(label, rows, strict=True) if estimate(r["tpot_s"]).value is not None]
    found = headline(result)
    pictures = []
    fronts: dict[str, list[tuple[float, float, str]]] = {}
    if result.get("front"):
        fronts["front"] = [
            (
                float(estimate(r["tokens_per_s_per_user"])),
                float(estimate(r["tokens_per_s_per_chip"])),
                layout(r),
            )
            for r in result["front"]
        ]
    else:
        fronts = {name: [(user, chip, name) for user, chip in r["front"]] for name, r in ok if r["front"]}
    if fronts:
        pictures.append(
            charts.points(
                "Throughput against speed",
                "Up and right is better: no plan beats a point of a front in both.",
                fronts,
                x="tokens/s per user",
                y="tokens/s per chip",
                log_y=True,
                line=True,
            )
        )
    if ok:
        labels = [name for name, _ in ok]
        for key, title, note in (
            ("tpot_s", "Where the time per output token goes", "Named parts sum to the time."),
            ("ttft_s", "Where the time to the first token goes", "Named parts sum to the time."),
        ):
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
                note = (found.why_not(key) if len(bars) > 1 else "") or "Rows whose ranges overlap are not ranked."
                pictures.append(charts.ranges(title, note, bars, unit="ms"))
        categories = list(dict.fromkeys(k for _, r in ok for k in r["memory_B"]))
        pictures.append(
            charts.stacked_bars(
                "Memory of a decoding device against what a program may use",
                "The mark is the usable capacity.",
                labels,
                {k: [r["memory_B"].get(k, 0.0) / 2**30 for _, r in ok] for k in categories},
                unit="GiB",
                marks=[r["memory_capacity_B"] / 2**30 for _, r in ok],
                mark="usable",
            )
        )
    head = [
        "plan" if is_plan else "system",
        "meets limits",
        "plan",
        "chips",
        "batch",
        "TTFT, ms",
        "TPOT, ms",
        "tokens/s/chip",
        "tokens/s/user",
        "$/Mtok",
        "price",
        "J/token",
        "grade",
        "rests on",
        "binds",
    ]

    def line(name: str, r: Result, at: str = "", place: int | None = None) -> list[Cell]:
        tpot = estimate(r["tpot_s"])
        fits = ({True: "yes", False: "no", None: "depends"}[r.get("feasible")], r.get("reason") or "")

        def shown(metric: str, scale: float = 1.0) -> Cell:
            return cell(r[metric], scale, f"{at}{name}.{metric}", "" if place is None else found.mark(metric, place))

        chips = chips_cell(int(r["chips_used"]), int(r["chips_requested"]))
        return [
            name,
            fits,
            layout(r),
            (chips, "used / paid for" if "/" in chips else ""),
            in_flight(r["batch"]),
            shown("ttft_s", 1e3),
            shown("tpot_s", 1e3),
            shown("tokens_per_s_per_chip"),
            shown("tokens_per_s_per_user"),
            shown("usd_per_mtok"),
            (terms_cell(str(r.get("price") or ""), short=True), str(r.get("price") or "")),
            shown("J_per_token"),
            tpot.grade if tpot.value is not None else "-",
            ", ".join(f"{share:.0%} {kind}" for kind, share in tpot.coverage.items()) or "-",
            r["binds"],
        ]

    tables = [
        Table(
            title="Answers",
            head=head,
            rows=[line(n, r, place=None if is_plan else i) for i, (n, r) in enumerate(zip(label, rows, strict=True))],
            note=NOTE if is_plan else NOTE_MARKED,
        )
    ]
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
        title=f"{inputs.get('model')}: {'serving plans' if is_plan else 'serving compared'}",
        headline=str(found),
        marks=found.marks(len(rows)),
        beside=beside(rows),
        assumptions=[
            ("model", str(inputs.get("model"))),
            ("prompt, tokens", f"{inputs['isl']:g}"),
            ("output, tokens", f"{inputs['osl']:g}"),
            ("TTFT limit", limit("ttft_s")),
            ("TPOT limit", limit("tpot_s")),
            ("prompts cached", percent(inputs.get("cached") or 0.0)),
            ("engines", ", ".join(f"{s['system']}: {s['engine']}" for s in inputs["systems"])),
            ("price term", str(inputs.get("price_term"))),
            ("facts", str(result.get("facts_hash", ""))),
        ],
        tables=tables,
        charts=pictures,
        warnings=result.get("warnings", ()),
        inputs=inputs,
    )


def traffic_page(result: Result) -> Page:
    times = {"Time to first token": "ttft_s", "Time per output token": "tpot_s", "End to end": "e2e_s"}
    marks = ("mean", "p50", "p90", "p99")
    rows = [[name, *(number(result[key][m], 1e3) for m in marks)] for name, key in times.items()]
    facts = [
        ("requests", f"{result['completed']:,} of {result['requests']:,}"),
        ("utilisation", percent(result.get("utilisation"))),
        ("tokens/s/chip", number(result.get("tokens_per_s_per_chip"))),
        ("$/Mtok", number(result.get("usd_per_mtok"))),
        ("J/token", number(result.get("J_per_token"))),
        ("facts", str(result.get("facts_hash", ""))),
    ]
    pictures = [
        charts.stacked_bars(
            f"{name}: percentiles", "", list(marks), {name.lower(): [result[key][m] * 1e3 for m in marks]}, unit="ms"
        )
        for name, key in times.items()
        if result[key]["mean"] is not None  # nothing was answered
    ]
    good = "" if result["goodput_frac"] is None else f", {percent(result['goodput_frac'])} within the limits"
    return Page(
        title=str(result["inputs"].get("name", "Traffic")),
        assumptions=facts,
        charts=pictures,
        warnings=result.get("warnings", ()),
        inputs=result["inputs"],
        headline=(
            f"{result['completed']:,} of {result['requests']:,} requests served{good}; first token"
            f" {number(result['ttft_s']['p50'], 1e3)} ms at the median, {number(result['ttft_s']['p99'], 1e3)} ms at"
            " p99."
        ),
        tables=[Table(title="What users see, ms", head=["", *marks], rows=rows)],
    )
