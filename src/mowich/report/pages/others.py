"""Pages of fit, model, sweep, claims and validate."""

from __future__ import annotations

from mowich.report import charts
from mowich.report.claims import value_text
from mowich.report.headline import accuracy_headline, sweep_headline, tenths, terms_cell
from mowich.report.page import Cell, Page, Result, Table, cell, counted, estimate, plan_words
from mowich.report.table import UNKNOWN, number, percent
from mowich.studies.scores import SHIPPED, left_out
from mowich.units import show, show_count

GIB = 2**30


def fit_page(result: Result) -> Page:
    """Does it fit: memory of a device against what a program may use, and how few chips would do."""
    inputs, memory = result["inputs"], result["memory_B"]
    serving = inputs.get("task") == "serve"
    word = {True: "Fits", False: "Does not fit", None: "May fit"}[result["fits"]]
    least = (
        f"; the smallest that fits is {counted(result['smallest_chips'], 'chip')}"
        if result["smallest_chips"]
        else "; nothing that was tried fits"
    )
    room = (
        f", with room for {counted(result['requests'], 'request')} of {inputs['kv_tokens']:,.0f} tokens"
        if serving and result["fits"] is not False
        else ""
    )
    reason = f" ({result['reason']})" if result.get("reason") else ""
    if reason and not serving:
        reason = f" ({result['reason']} per device)" if result["reason"].endswith("short") else reason
    where = f"{counted(result['chips'], 'chip')} of {result['system_id']}"
    pictures = []
    used = {k: [v / GIB] for k, v in memory.items()}
    if memory:
        pictures.append(charts.stacked_bars("Memory of a device against what a program may use", "The mark is the usable capacity.", [str(result["system_id"])], used, unit="GiB",
                                            marks=[result["memory_capacity_B"] / GIB], mark="usable"))  # fmt: skip
    formats = {w: h for w, h in (result.get("smallest_by_weights") or {}).items() if h}
    if formats:
        names = [f"{w}: {counted(h['chips'], 'chip')}" for w, h in formats.items()]
        kinds = list(dict.fromkeys(k for h in formats.values() for k in h["memory_B"]))
        pictures.append(charts.stacked_bars("Fewest chips by format of the weights", "Memory of a device there, with the caches of the requests that fit.", names, {k: [h["memory_B"].get(k, 0.0) / GIB for h in formats.values()] for k in kinds},
                                            unit="GiB", marks=[result["memory_capacity_B"] / GIB] * len(names), mark="usable"))  # fmt: skip
    rows: list[list[Cell]] = [[k, number(v / GIB), percent(v / result["memory_capacity_B"])] for k, v in memory.items()]
    rows.append(
        ["sum", number(sum(memory.values()) / GIB), percent(sum(memory.values()) / result["memory_capacity_B"])]
    )
    tables = [Table(title="Memory of a device", head=["what", "GiB", "of the usable"], rows=rows)]
    if formats:
        tables.append(Table(title="Fewest chips by format", head=["weights", "chips", "workers", "requests", "plan"],
                            rows=[[w, str(h["chips"]), str(h["workers"]), f"{h['requests']:,}", plan_words(h["plan"])] for w, h in formats.items()]))  # fmt: skip
    work = (
        f"{inputs['kv_tokens']:,.0f} tokens a request"
        if serving
        else f"sequences of {inputs['seq']}, batch of {inputs['batch_seqs']:g}"
    )
    return Page(title=f"{inputs['model']} on {where}", headline=f"{word} on {where}{reason}{room}{least}.",
                assumptions=[("model", str(inputs["model"])), ("work", work), ("plan", plan_words(result["plan"])), ("most of it", str(result["binds"]))], tables=tables, charts=pictures,
                inputs=inputs)  # fmt: skip


def _figure(key: str, value: float) -> str:
    """A figure of a model with the unit that its name implies."""
    if key.startswith("flop"):
        return f"{show_count(value)} FLOP" if value < 1e9 else f"{value / 1e9:,.4g} GFLOP"
    if "bytes" in key:
        return f"{value:,.0f} B" if value < 1e6 else f"{value / 2**20:,.4g} MiB"
    return show_count(value)


def model_page(result: Result) -> Page:
    """What a model is made of: parameters, work and cache by kind of layer."""
    layers = result["layers"]
    names = [f"{x['count']} x {x['attention']}; {x['ffn']}" for x in layers]
    parts = {
        "mixer": [x["count"] * x["params_mixer"] / 1e9 for x in layers], "feed-forward": [x["count"] * x["params_ffn"] / 1e9 for x in layers],
        "norms and the rest": [x["count"] * (x["params"] - x["params_mixer"] - x["params_ffn"]) / 1e9 for x in layers],
    }  # fmt: skip
    work = {"mixer": "mixer_flop_per_token_forward", "scores and values": "attention_flop_per_token_forward", "feed-forward": "ffn_flop_per_token_forward"}  # fmt: skip
    pictures = [
        charts.stacked_bars("Parameters by kind of layer", "Embeddings and head are in the table.", names, parts, unit="billion parameters"),
        charts.stacked_bars("Work of a token, forward", f"At {result['seq']} tokens, causal attention halved.", names, {k: [x["count"] * x[f] / 1e9 for x in layers] for k, f in work.items()}, unit="GFLOP"),
        charts.stacked_bars("Cache of a sequence", f"At {result['seq']} tokens; windows keep less.", names, {"cache": [x["count"] * x["kv_bytes_at_seq"] / 2**20 for x in layers]}, unit="MiB"),
        charts.stacked_bars("The published checkpoint", str(result.get("weight_bytes_assumed") or "Bytes by component, in the formats that it is published in."), ["checkpoint"], {k: [v / GIB] for k, v in result["weight_bytes"].items()}, unit="GiB"),
    ]  # fmt: skip
    keys = ("params", "params_active", "params_embedding", "params_head", "flop_per_token_forward", "flop_per_token_train", "kv_bytes_per_token", "kv_bytes_at_seq", "state_bytes_per_sequence")  # fmt: skip
    rows: list[list[Cell]] = [[k, (_figure(k, float(result[k])), f"{result[k]:,}", k)] for k in keys]
    total = show_count(float(result["params"]))
    active = (
        ""
        if result["params"] == result["params_active"]
        else f", {show_count(float(result['params_active']))} of them active for a token"
    )
    return Page(title=str(result["name"]), headline=f"{total} parameters{active}; {number(result['kv_bytes_per_token'] / 1024)} KiB of cache a token; {number(result['flop_per_token_forward'] / 1e9)} GFLOP a token forward.",
                assumptions=[("architecture", str(result["architecture"])), ("layers", str(result["num_layers"])), ("hidden", str(result["hidden"])), ("vocabulary", f"{result['vocab']:,}"), ("at length", f"{result['seq']:,} tokens"),
                             ("bytes of a cached element", f"{result['bytes_per_element']:g}")], charts=pictures,
                tables=[Table(title="Figures", head=["what", "value"], rows=rows, note="Hover for the exact number.")], inputs=result.get("inputs", {"source": result["source"]}))  # fmt: skip


def sweep_page(result: Result) -> Page:
    """Every point of a grid: cost against time, time against chips, and the table."""
    rows = [r for r in result["rows"] if estimate(r["step_s"]).value is not None]
    several = [k for k in ("model", "seq", "batch_seqs") if len({r[k] for r in result["rows"]}) > 1]

    def group(r: Result) -> str:
        return ", ".join([str(r["system"]), *(str(r[k]) if k == "model" else f"{k} {r[k]:g}" for k in several)])

    def grouped(x: str, y: str) -> dict[str, list[tuple[float, float, str]]]:
        out: dict[str, list[tuple[float, float, str]]] = {}
        for r in rows:
            a = float(r[x]) if x == "chips_requested" else estimate(r[x]).value
            b = estimate(r[y]).value
            if a is not None and b is not None:
                out.setdefault(group(r), []).append((a, b, f"{r['chips_requested']} chips, {plan_words(r['plan'])}"))
        return {k: sorted(v) for k, v in list(out.items())[:24]}

    pictures = []
    for title, note, x, y, names in (
        ("Cost against time", "Down and left is better.", "days", "usd_per_mtok", ("days", "$ per million tokens")),
        ("Time of the run against chips", "Both axes logarithmic.", "chips_requested", "days", ("chips", "days")),
        ("MFU against chips", "Of the published dense peak.", "chips_requested", "mfu", ("chips", "MFU")),
    ):
        dots = grouped(x, y)
        if dots:
            pictures.append(charts.points(title, note, dots, x=names[0], y=names[1], log_x=True, log_y=y != "mfu", line=x == "chips_requested"))  # fmt: skip
    head = ["model", "seq", "batch", "system", "chips", "step, s", "MFU, %", "days", "$/Mtok", "price", "binds", "plan"]
    table: list[list[Cell]] = [
        [str(r["model"]), str(r["seq"]), f"{r['batch_seqs']:g}", str(r["system"]), str(r["chips_requested"]), cell(r["step_s"], metric=f"{i}.step_s"), cell(r["mfu"], 100.0, f"{i}.mfu"), cell(r["days"], metric=f"{i}.days"),
         cell(r["usd_per_mtok"], metric=f"{i}.usd_per_mtok"), (terms_cell(str(r.get("price") or ""), short=True), str(r.get("price") or "")), str(r["binds"]), (plan_words(r["plan"]), r.get("reason") or "")]
        for i, r in enumerate(result["rows"][:1000], start=1)
    ]  # fmt: skip
    more = "" if len(result["rows"]) <= 1000 else f" The table shows the first 1,000 of {len(result['rows']):,}."
    inputs = result["inputs"]
    return Page(title=f"Sweep of {len(result['rows']):,} points", headline=str(sweep_headline(result)), charts=pictures,
                assumptions=[("scenario", str(inputs.get("scenario", ""))), ("price term", str(inputs.get("price_term", ""))), ("facts", str(result.get("facts_hash", "")))],
                tables=[Table(title="Points", head=head, rows=table, note=f"Hover or focus a number for its grade and range.{more}")], inputs=inputs)  # fmt: skip


VERDICTS = {"holds": "hold", "holds only if": "hold only under a condition", "does not follow": "do not follow"}
"""Verdicts of several claims."""


def claims_page(result: Result) -> Page:
    """Public claims against what facts give."""
    count = result["verdicts"]
    known = [c for c in result["claims"] if c["derived"] and c["published_value"]]
    bars = [
        (
            c["claim"][:60],
            c["low"] / c["published_value"],
            c["derived"] / c["published_value"],
            c["high"] / c["published_value"],
        )
        for c in known
        if c["low"] and c["high"]
    ]
    pictures = (
        [
            charts.ranges(
                "Derived over claimed",
                "1 is what was claimed; the bar spans the ranges of the facts.",
                bars,
                unit="derived / claimed",
                log=True,
            )
        ]
        if bars
        else []
    )
    rows: list[list[Cell]] = [
        [c["claim"], c["published"], (UNKNOWN, "nothing is derived") if c["derived"] is None else (value_text(c["derived"], c.get("unit", "")), c["formula"], f"{c['id']}.derived"), c["verdict"], (c["formula"] or "-"), (c["reason"] or "-"), c["source"]]
        for c in result["claims"]
    ]  # fmt: skip
    tables = [
        Table(
            title="Claims",
            head=["claim", "published", "derived", "verdict", "formula", "why", "source"],
            rows=rows,
        )
    ]
    if result.get("memory"):
        tables.append(Table(title="What memory per chip costs", head=["model", "context", "system", "GiB", "chips", "tokens/s/chip", "bandwidth lost to weights", "price ratio"],
                            rows=[[m["model"], f"{m['context']:,}", m["system"], number(m["memory_B"] / GIB), str(m["chips"]), number(m["tokens_per_s"]), percent(m["loss"]), number(m["price_ratio"])] for m in result["memory"]]))  # fmt: skip
    return Page(title="Public claims, derived again", headline=f"Of {sum(count.values())} claims " + ", ".join(f"{n} {VERDICTS.get(verdict, verdict) if n > 1 else verdict}" for verdict, n in count.items()) + ".", assumptions=[("facts", str(result.get("facts_hash", "")))],
                tables=tables, charts=pictures, inputs=result.get("inputs", {}))  # fmt: skip


def _measure(table: str, what: str, value: float | None) -> str:
    """A figure of a profile with the unit that its field has; opcodes and lines are nanoseconds."""
    if value is None:
        return UNKNOWN
    if table != "summary":
        return f"{number(value, 1e-3)} us"
    if what.endswith("_time"):
        return show(value, "s")
    if what.endswith("_percent"):
        return f"{number(value)}%"
    if what.endswith("_bytes"):
        return show(value, "B")
    return f"{value:,.0f}" if value == round(value) else number(value)


def diff_page(result: Result) -> Page:
    """Two profiles of a kernel, figure by figure."""
    tables = [
        Table(title={"summary": "Figures", "opcodes": "Opcodes", "lines": "Lines"}[name], head=["what", "A", "B", "B/A"],
              rows=[[str(r["what"]), _measure(name, r["what"], r["a"]), _measure(name, r["what"], r["b"]), number(r["ratio"])] for r in result[name] if r["a"] or r["b"]])
        for name in ("summary", "opcodes", "lines") if result.get(name)
    ]  # fmt: skip
    time = next((r for r in result["summary"] if r["what"] == "total_time"), None)
    moved = [r for r in result["opcodes"] if r["ratio"] and r["a"]][:20]
    pictures = (
        [
            charts.stacked_bars(
                "Time of opcodes, B over A",
                "1 is unchanged.",
                [str(r["what"]) for r in moved],
                {"B/A": [r["ratio"] for r in moved]},
                unit="ratio",
            )
        ]
        if moved
        else []
    )
    word = "" if time is None or not time["ratio"] else f"B takes {number(time['ratio'])} times the time of A."
    return Page(
        title="Two profiles compared",
        headline=word or "Two profiles, figure by figure.",
        assumptions=[("A", str(result["a"])), ("B", str(result["b"]))],
        tables=tables,
        charts=pictures,
    )


METRICS = {
    "tokens_per_s_per_chip": "tokens/s per chip", "tokens_per_s_total": "tokens/s of all chips", "tflops_per_chip": "TFLOP/s per chip", "seqs_per_s_total": "sequences/s of all chips",
    "step_time_s": "step time in s", "derived_step_time_s": "step time in s, derived from the source's figures", "mfu_reported_pct": "MFU in %",
}  # fmt: skip
"""What rows of measurements give, in words."""


IN_SAMPLE = "Constants and widths of ranges were fitted to these rows: a new run is off by more."
"""Said of the rows that ship."""


def validate_page(result: Result) -> Page:
    answered = [r for r in result["rows"] if r["status"] == "ok"]
    by_metric: dict[str, list[tuple[float, float, str]]] = {}
    for r in answered:
        by_metric.setdefault(str(r["metric"]), []).append((float(r["measured"]), float(r["predicted"]), str(r["id"])))
    everything = result["summary"]["all"]
    groups = {**result["summary"].get("by_chip", {})}
    apart = result["summary"].get("does_not_fit_memory") or {"n": 0}
    summary = [
        ["all", everything],
        *([["do not fit by our memory model", apart]] if apart["n"] else []),
        *([k, v] for k, v in groups.items()),
    ]
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
    shipped = result["file"] == SHIPPED
    outside = [Table(title="Left out of the fit", head=["what", "without", "n", "median", "p90", "in 90% range"], note="What a prediction of a new run may be off by.",
                     rows=[[f"{e.work}, {e.what}", e.without, str(e.rows), tenths(e.median), tenths(e.p90), percent(e.in_range)] for e in left_out()])] if shipped else []  # fmt: skip
    pictures = [
        charts.points(
            f"Predicted against measured{', in sample' if shipped else ''}: {METRICS.get(metric, metric)}",
            "On the diagonal a prediction is perfect.",
            {"published runs": dots},
            x=f"measured, {METRICS.get(metric, metric)}",
            y="predicted",
            log_x=True,
            log_y=True,
            diagonal="predicted as measured",
        )
        for metric, dots in by_metric.items()
    ]
    return Page(title="Predicted against measured", headline=str(accuracy_headline(result)),
                assumptions=[("facts", str(result.get("facts_hash", "")))], charts=pictures,
                tables=[*outside, Table(title=f"By chip{', in sample' if shipped else ''}", head=["chip", "n", "refused", "median", "mean", "p90", "bias", "in 90% range"], rows=rows, note=IN_SAMPLE if shipped else "")])  # fmt: skip
