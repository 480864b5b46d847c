"""Rules of claims and of predicted against measured."""

from __future__ import annotations

from collections.abc import Mapping

from mowich.studies.explain.rules.rule import MEMORY_RANGE, R, Rule, under

TIMED = ("step_time_s", "derived_step_time_s", "ttft_ms", "tpot_ms")
"""Metrics of measured rows that are times; the others are rates."""

_METERED = ("W_per_chip", "pue")
"""The metrics of rows of metered power."""

SLOWER = "predicted time over measured time: above 1 is predicted slower"

SUMMARY = [
    R("n", "rows", "rows that are answered", "count: counted"),
    R("unsupported", "rows", "rows that are refused, with the reason", "count: counted"),
    R("median_abs_error", "1", "median of max(ratio, 1/ratio) - 1", "table: median over the answered rows"),
    R("mean_abs_error", "1", "mean of max(ratio, 1/ratio) - 1", "table: mean over the answered rows"),
    R(
        "p90_abs_error",
        "1",
        "90% of the errors are below",
        "table: 90th percentile over the answered rows, linear between ranks",
    ),
    R("bias", "1", "whether predictions are slow (above 0) or fast", "table: exp(mean of ln ratio) - 1"),
    R(
        "interval_coverage",
        "1",
        "share of the measured figures inside their 90% interval",
        "table: counted / answered rows",
    ),
]

CALIBRATED = [
    R("n", "points", "measured figures that have this prediction", "count: counted"),
    R("median", "1", "median of the error", "table: median of max(predicted/measured, measured/predicted) - 1"),
    R("p90", "1", "90% of the errors are below", "table: 90th percentile, linear between ranks"),
    R(
        "bias",
        "1",
        "whether predictions are slow (above 0) or fast",
        "table: exp(mean of ln predicted/measured time) - 1",
    ),
]

_ERROR = "error of the prediction, alike for fast and slow"

EVIDENCE_RULES: Mapping[str, tuple[Rule, ...]] = {
    "mowich/validate@1": (
        R(
            "rows * measured",
            "1",
            "what was measured, in the metric's unit",
            "lookup: read from the file; training rows: as published",
        ),
        *(
            R(
                f"rows * {name}",
                "W",
                f"{what}what a node, a system or an idle machine draws of one chip, before PUE",
                "table: what a busy chip draws (a node: without network; economics/energy.py:drawn_power) or an idle"
                " one; of a building, its PUE",
                when=("metric", _METERED),
            )
            for name, what in (("predicted", ""), ("low", "low end of "), ("high", "high end of "))
        ),
        R("rows * ratio", "1", "predicted over metered", "= predicted / measured", when=("metric", _METERED)),
        R(
            "rows * predicted",
            "1",
            "what the model says, in the metric's unit",
            "table: the step that the terms make, turned into the metric of the row",
        ),
        R(
            "rows * low",
            "1",
            "low end of the 90% interval of the prediction",
            "table: predicted / exp(half-width of the residual for this kind of row)",
        ),
        R(
            "rows * high",
            "1",
            "high end of the 90% interval of the prediction",
            "table: predicted x exp(half-width of the residual for this kind of row)",
        ),
        R(
            "rows * hand_tuned",
            "1",
            "what the step would give with our timed kernels, in the metric's unit, scaled as the measured one is",
            "table: the step that the terms make, kernels at the times of tables, turned into the metric of the row",
        ),
        R(
            "rows * hand_tuned_coverage",
            "1",
            "share of that step that kernels of ours were timed for",
            "table: how much longer the step gets, over how much longer its timed kernels are made",
        ),
        R("rows * ratio", "1", SLOWER, "= predicted / measured", when=("metric", TIMED)),
        R("rows * ratio", "1", SLOWER, "= measured / predicted"),
        R("rows * abs_error", "1", "error, alike for fast and slow", "= max(ratio, 1 / ratio) - 1"),
        R(
            "rows * memory measured",
            "B",
            "what the program says that its allocator held",
            "lookup: read from the file: memory N GB in its notes, in 2^30 bytes",
        ),
        R(
            "rows * memory predicted",
            "B",
            "what its allocator holds of the plan's memory",
            "table: memory of the plan less what driver and collectives take (plans/memory_range.py)",
        ),
        R("rows * memory low", "B", "low end of its 90% range", MEMORY_RANGE),
        R("rows * memory high", "B", "high end of its 90% range", MEMORY_RANGE),
        R("rows * memory ratio", "1", "predicted over measured bytes", "= predicted / measured"),
        R("rows * memory abs_error", "1", "error, alike for more and less", "= max(ratio, 1 / ratio) - 1"),
        *(
            rule
            for group in ("all", "memory", "fully_specified", "fits_memory", "does_not_fit_memory", "* *")
            for rule in under(f"summary {group}", SUMMARY)
        ),
    ),
    "mowich/verify@1": (
        R("of chips", "chips", "chips of the row that was run", "lookup: read from the result"),
        R("of row", "1", "place of the row that was run, from 1", "lookup: read from the result"),
        R("inputs pick", "1", "place of the row that was run, from 1", "lookup: as asked, or as the bundle says"),
        R("rows * measured", "1", "what the log measured, in its unit", "lookup: read from the log"),
        R("rows * predicted", "1", "what was predicted", "lookup: read from the result, which explains it"),
        R(
            "rows * ratio",
            "1",
            SLOWER,
            "= measured / predicted",
            when=("name", ("tokens_per_s_per_chip",)),
        ),
        R("rows * ratio", "1", SLOWER, "= predicted / measured"),
        R(
            "causes * factor",
            "1",
            "what it does to the time, alone",
            "table: a setting or a fact at an end of its range, or how many times as long a part would have to take",
        ),
        R("calibrate anchors", "rows", "measured rows that an overlay would hold", "count: counted"),
        R("calibrate would_move * before", "1", "today's value of the fact", "lookup: read from the facts"),
        R("calibrate would_move * after", "1", "its value that fits the logs", "search: the fit of mowich calibrate"),
        R("calibrate error_before", "1", "median error with today's constants", "table: that of mowich calibrate"),
        R("calibrate error_after", "1", "median error with the fitted ones", "table: that of mowich calibrate"),
    ),
    "mowich/forecasts@1": (
        R(
            "rows * predicted",
            "1",
            "what was frozen, in its unit",
            "lookup: read from the ledger; its question explains it",
        ),
        R(
            "rows * measured",
            "1",
            "what was measured since, in the unit of the forecast",
            "lookup: read from the ledger",
        ),
        R("rows * ratio", "1", "predicted over measured", "= predicted / measured"),
        R(
            "rows * deviations",
            "1",
            "how far what was measured lies from the forecast: 1.64 is an end of the range",
            "table: 1.645 ln(measured / predicted) / ln(end / predicted), with the end on that side",
        ),
        R("summary forecasts", "forecasts", "forecasts in the ledger", "count: counted"),
        R("summary scored", "forecasts", "those of which something was measured", "count: counted"),
        R("summary inside", "forecasts", "those whose range held what was measured", "count: counted"),
        R(
            "summary median_error",
            "1",
            "median error of those that were measured",
            "table: median of max(ratio, 1 / ratio) - 1",
        ),
    ),
    "mowich/next@1": (
        R("now", "1", "the number today, in its unit", "lookup: the answer of the question, which explains it"),
        R("offered", "measurements", "measurements that were judged", "count: counted"),
        R(
            "rows * alone",
            "1",
            "half-width of the range with this measurement alone, over that of today",
            "table: what a result would leave of each part of the range, by how it correlates with the number",
        ),
        R(
            "rows * left",
            "1",
            "half-width of the range with this measurement and those before it, over that of today",
            "table: the question asked again, with results as they are predicted today",
        ),
        R(
            "rows * after",
            "1",
            "the number with this measurement and those before it, in its unit",
            "lookup: the question asked again, with results as they are predicted today",
        ),
    ),
    "mowich/calibrate@1": (
        R("anchors", "rows", "measured rows that the overlay holds", "count: counted"),
        R("files * points", "points", "measured figures of this file that were used", "count: counted"),
        R("files * refused", "measurements", "measurements of this file that were refused", "count: counted"),
        R("constants * today", "1", "today's value of the fact", "lookup: read from the facts"),
        R("constants * today_low", "1", "low end of today's range", "lookup: read from the facts"),
        R("constants * today_high", "1", "high end of today's range", "lookup: read from the facts"),
        R(
            "constants * fitted",
            "1",
            "value of the fact that fits the measurements best",
            "search: least squares with robust weights, each constant pulled to today's value by its range",
        ),
        R(
            "constants * low",
            "1",
            "low end of the new 90% range, within today's",
            "table: fitted / exp(1.645 standard deviations of the posterior), not below today's range",
        ),
        R(
            "constants * high",
            "1",
            "high end of the new 90% range, within today's",
            "table: fitted x exp(1.645 standard deviations of the posterior), not above today's range",
        ),
        R(
            "constants * narrowed",
            "1",
            "width of the new range over that of today's, of logarithms",
            "= ln(high / low) / ln(today_high / today_low)",
        ),
        R(
            "scale",
            "1",
            "how far constants move at all, over what their ranges allow",
            "search: learned from how far the constants together move",
        ),
        R("rows * measured", "1", "what was measured, in the metric's unit", "lookup: read from the file"),
        R(
            "rows * before",
            "1",
            "predicted by today's constants, in the metric's unit",
            "table: the model at the facts",
        ),
        R("rows * after", "1", "predicted by the fitted constants", "table: the model at the fitted constants"),
        R(
            "rows * left_out",
            "1",
            "predicted by constants fitted without the setting of this point",
            "table: the model at constants fitted to the other settings",
        ),
        R("rows * error_before", "1", _ERROR, "= max(before / measured, measured / before) - 1"),
        R("rows * error_after", "1", _ERROR, "= max(after / measured, measured / after) - 1"),
        R("rows * error_left_out", "1", _ERROR, "= max(left_out / measured, measured / left_out) - 1"),
        *under("summary *", CALIBRATED),
    ),
}

BRIEF_RULES: Mapping[str, tuple[Rule, ...]] = {
    "mowich/brief@1": (
        R(
            "rows * numbers * estimate",
            "1",
            "a number of the brief: what it is and the command that gives it stand below",
            "search: a figure of the answer that the command gives",
        ),
        R(
            "story tokens_per_s_per_chip",
            "1/s",
            "tokens per second and chip of Trainium 3 in training",
            "search: its best plan, as `compare` finds it",
        ),
        R(
            "story factors * factor",
            "1",
            "what a property is worth: above 1 it speaks for the other machine",
            "search: as `gap` finds it; the command stands in `story`",
        ),
        R("rows * numbers * symbols *", "1", "a figure that the number is made of", "search: of the same command"),
        R(
            "table * *",
            "1",
            "a ratio of the first table: Trainium 3 over the other machine",
            "inside: both figures are of the command that is told with it",
        ),
        R("rows * picture **", "1", "a number as the picture draws it", "inside: the numbers of the question, drawn"),
    ),
}
