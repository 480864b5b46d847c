"""The page of predictions beside measurements."""

from __future__ import annotations

from mowich.evidence.scores import SHIPPED, left_out
from mowich.show import charts
from mowich.show.headline import accuracy_headline, tenths
from mowich.show.page import Page, Result, Table
from mowich.show.table import percent

METRICS = {
    "tokens_per_s_per_chip": "tokens/s per chip",
    "tokens_per_s_total": "tokens/s of all chips",
    "tflops_per_chip": "TFLOP/s per chip",
    "seqs_per_s_total": "sequences/s of all chips",
    "step_time_s": "step time in s",
    "derived_step_time_s": "step time in s, derived from the source's figures",
    "mfu_reported_pct": "MFU in %",
}
"""What rows of measurements give, in words."""


IN_SAMPLE = "Constants and widths of ranges were fitted to these rows: a new run is off by more."
"""Said of the rows that ship."""


def validate_page(result: Result) -> Page:
    """Predictions beside measurements, row by row, with their errors by chip."""
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
    outside = (
        [
            Table(
                title="Left out of the fit",
                head=["what", "without", "n", "median", "p90", "in 90% range"],
                note="What a prediction of a new run may be off by.",
                rows=[
                    [
                        f"{e.work}, {e.what}",
                        e.without,
                        str(e.rows),
                        tenths(e.median),
                        tenths(e.p90),
                        percent(e.in_range),
                    ]
                    for e in left_out()
                ],
            )
        ]
        if shipped
        else []
    )
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
    return Page(
        title="Predicted against measured",
        headline=str(accuracy_headline(result)),
        assumptions=[("facts", str(result.get("facts_hash", "")))],
        charts=pictures,
        tables=[
            *outside,
            Table(
                title=f"By chip{', in sample' if shipped else ''}",
                head=["chip", "n", "refused", "median", "mean", "p90", "bias", "in 90% range"],
                rows=rows,
                note=IN_SAMPLE if shipped else "",
            ),
        ],
    )
