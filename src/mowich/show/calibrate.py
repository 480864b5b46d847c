"""The page of a calibration: which constants the measurements identify, and how far off predictions were and are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mowich.show import charts
from mowich.show.charts import Chart
from mowich.show.formats import UNKNOWN, percent
from mowich.show.headline import tenths
from mowich.show.page import (
    Cell,
    Column,
    LateCharts,
    Page,
    Part,
    Run,
    Table,
    TextCell,
    Words,
    counted,
    paragraphs,
    word_columns,
)
from mowich.shown import Result
from mowich.units import sig, write_value

MOST_ROWS = 40
"""Points that a terminal shows."""
_MOST_REASONS = 12
"""Refused measurements that are told one by one."""


def calibrate_page(result: Result, run: Run) -> Page:
    """Constants, errors, points, and what was refused."""
    summary, constants = result["summary"], result["constants"]
    inputs = result["inputs"]
    parts: list[Part] = [*_constants(constants)]
    parts += [_errors(summary), *_points(result["rows"])]
    parts += paragraphs(
        [f"{one['where']}: {one['reason']}" for one in result["refused"][:_MOST_REASONS]],
        "note",
        heading="Refused",
        gap=True,
    )
    if len(result["refused"]) > _MOST_REASONS:
        parts.append(Words(text=f"and {len(result['refused']) - _MOST_REASONS} more (--json)", kind="note"))
    parts += paragraphs(list(result["warnings"]), "warning", heading="Notes", gap=True)
    out = inputs.get("out")
    if result["overlay"]:
        said = f"--facts {Path(str(out)).name}" if out else "mowich calibrate ... --out my.yaml writes the overlay"
        parts.append(Words(text=f"Next: {said}", kind="next", indent=0, gap=True))
    return Page(
        title="Constants from your measurements",
        sentences=_sentences(result),
        assumptions=[
            ("files", ", ".join(f"{Path(f['file']).name} ({f['format']})" for f in result["files"])),
            ("facts", str(result.get("facts_hash", ""))),
        ],
        parts=parts,
        charts=LateCharts(lambda: _pictures(result["rows"])),
        records=result["rows"],
        inputs=inputs,
    )


def _sentences(result: Result) -> list[str]:
    summary, constants = result["summary"], result["constants"]
    n = summary["before"]["n"]
    alone = [c for c in constants if c["verdict"] == "identified"]
    own = (
        f"{counted(result['anchors'], 'measured row')} of yours stand beside those that ship"
        if result["anchors"]
        else ""
    )
    if not constants and not own:
        return [
            f"{counted(n, 'measured point')} identify no constant.",
            "Today's ranges are as narrow as what they say. No overlay is written.",
        ]
    moved = sum(c["verdict"] == "moved" for c in constants)
    stay = len(constants) - len(alone) - moved
    found = counted(len(alone), "constant") if constants else "no constant"
    out = [f"{counted(n, 'measured point')} identify {found}."]
    out += [f"They move {moved} more, whose ranges they hardly narrow."] if moved else []
    out += [f"They confirm {stay} at today's value, and narrow what is known of all together."] if stay else []
    out += [f"{own}."] if own else []
    before, after, held = (summary[key]["median"] for key in ("before", "after", "left_out"))
    alone_words = (
        "in the half of the requests that was held out"
        if result["inputs"].get("scenario")
        else ("with each point left out")
    )
    said = "" if held is None else f", {tenths(held)} {alone_words}"
    out.append(f"Median error: {tenths(before)} before, {tenths(after)} after{said}.")
    if result["refused"]:
        out.append(f"{counted(len(result['refused']), 'measurement')} refused.")
    return out


def _constants(constants: Sequence[Result]) -> list[Table]:
    if not constants:
        return []

    def shown(value: float, unit: str) -> str:
        return sig(value) if unit in ("", "1") else write_value(float(f"{value:.3g}"), unit)

    def ends(low: float, high: float, unit: str) -> str:
        return f"{shown(low, unit)} .. {shown(high, unit)}"

    def line(i: int, c: Result) -> list[Cell]:
        unit, how = c["unit"], str(c["verdict"])
        if c["others"]:
            how += f" (not told well from {', '.join(c['others'])})"
        return [
            str(c["path"]),
            TextCell(shown(c["today"], unit), metric=f"constants.{i}.today"),
            ends(c["today_low"], c["today_high"], unit),
            TextCell(shown(c["fitted"], unit), metric=f"constants.{i}.fitted"),
            ends(c["low"], c["high"], unit),
            TextCell(percent(c["narrowed"]), metric=f"constants.{i}.narrowed"),
            TextCell(how, short=how.split(" (")[0]),
        ]

    return [
        Table(
            title="Constants",
            columns=[
                Column(name="fact", right=False),
                Column(name="today"),
                Column(name="its range", keep=3),
                Column(name="fitted"),
                Column(name="new range"),
                Column(name="width left", keep=4),
                Column(name="how", right=False, keep=2),
            ],
            rows=[line(i, c) for i, c in enumerate(constants, 1)],
            note="width left: of the new range over today's, of logarithms.",
            legend=[
                "width left: of the new range over today's, of logarithms; moved: the measurements move it and"
                " hardly narrow its range; confirmed: it stays, and its range narrows"
            ],
        )
    ]


def _errors(summary: Result) -> Table:
    words = {
        "before": "today's constants",
        "after": "fitted constants, in sample",
        "left_out": "fitted without the point",
    }
    return Table(
        title="Errors",
        columns=word_columns(["predicted with", "n", "median", "p90", "bias"], left=["predicted with"]),
        rows=[
            [
                said,
                str(summary[key]["n"]),
                tenths(summary[key]["median"]),
                tenths(summary[key]["p90"]),
                UNKNOWN if summary[key]["bias"] is None else f"{summary[key]['bias']:+.1%}",
            ]
            for key, said in words.items()
        ],
        legend=["error: max(predicted/measured, measured/predicted) - 1; bias above 0: predicted too slow"],
    )


def _points(rows: Sequence[Result]) -> list[Table]:
    def line(r: Result) -> list[Cell]:
        held = r["left_out"]
        return [
            f"{Path(str(r['where'])).name}",
            str(r["metric"]),
            sig(r["measured"]),
            sig(r["before"]),
            sig(r["after"]),
            UNKNOWN if held is None else sig(held),
            TextCell(str(r["what"])),
        ]

    return [
        Table(
            title="Points",
            columns=[
                *word_columns(["where", "metric", "measured", "before", "after", "left out"], left=["where", "metric"]),
                Column(name="what", right=False, keep=1),
            ],
            rows=[line(r) for r in rows],
            most=MOST_ROWS,
        )
    ]


def _pictures(rows: Sequence[Result]) -> list[Chart]:
    by_metric: dict[str, list[Result]] = {}
    for r in rows:
        by_metric.setdefault(str(r["metric"]), []).append(r)

    def dots(found: Sequence[Result], key: str) -> list[tuple[float, float, str]]:
        return [(float(r["measured"]), float(r[key]), str(r["where"])) for r in found]

    return [
        charts.points(
            f"Predicted against measured: {metric}",
            "On the diagonal a prediction is perfect.",
            {"today's constants": dots(found, "before"), "fitted constants": dots(found, "after")},
            x=f"measured, {metric}",
            y="predicted",
            log_x=True,
            log_y=True,
            diagonal="predicted as measured",
        )
        for metric, found in by_metric.items()
    ]
