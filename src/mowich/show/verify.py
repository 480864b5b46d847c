"""The page of a run beside its forecast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mowich.estimate import Estimate
from mowich.show.formats import UNKNOWN, percent, with_range
from mowich.show.page import Cell, Column, Page, Part, Run, Table, TextCell, Words, counted, paragraphs, word_columns
from mowich.shown import Result
from mowich.units import show

_STATUS: Mapping[str, str] = {
    "inside": "inside",
    "above": "OUTSIDE, above",
    "below": "OUTSIDE, below",
    "another setup": "another setup",
    "not predicted": "not predicted",
    "no range": "no range",
}
_ENGINES_WORK: Mapping[str, str] = {"train": "training", "serve": "serving", "load": "serving a load"}


def verify_page(result: Result, run: Run) -> Page:
    """What was measured beside what was predicted, what differs in the setup, and what would explain what is
    outside."""
    of = result["of"]
    named = f"{of['model']}, {_ENGINES_WORK[of['work']]}, on {of['chips']} chips of {of['system']}, {of['software']}"
    return Page(
        title="Measured beside predicted",
        sentences=_sentences(result),
        assumptions=[("forecast", f"row {of['row']}: {named}"), ("facts", str(result.get("facts_hash", "")))],
        parts=(
            Words(text=f"Forecast: {named}.", kind="basis"),
            *_figures(result["rows"]),
            *_setup(result["setup"]),
            *_causes(result),
            *_calibration(result["calibrate"]),
            *paragraphs(
                [f"{one['where']}: {one['reason']}" for one in result["refused"]], "note", heading="Refused", gap=True
            ),
        ),
        records=result["rows"],
        inputs=result.get("inputs", {}),
    )


def _sentences(result: Result) -> list[str]:
    """The verdict, then the figure that is farthest out, or what differs."""
    rows, verdict = result["rows"], result["verdict"]
    compared = [row for row in rows if row["status"] in ("inside", "above", "below")]
    outside = [row for row in compared if row["status"] != "inside"]
    differ = [item for item in result["setup"] if item["agrees"] is False]
    if verdict == "inside":
        off = [max(row["ratio"], 1.0 / row["ratio"]) - 1.0 for row in compared]
        said = [
            f"Inside: {counted(len(compared), 'figure')} in the forecast's ranges, at most {percent(max(off))} off."
        ]
    elif verdict == "outside":
        worst = max(outside, key=lambda row: max(row["ratio"], 1.0 / row["ratio"]))
        said = [
            f"Outside: {len(outside)} of {counted(len(compared), 'figure')} are out of the forecast's ranges.",
            f"Farthest: {worst['what']}, {show(worst['measured'], worst['unit'])}, where"
            f" {_range(worst['predicted'])} was predicted.",
        ]
    elif verdict == "another setup":
        said = ["Another setup: the log is of another run than the forecast.", "It says nothing of the forecast."]
    else:
        said = ["Nothing to compare: the log measures no number of this forecast."]
    if differ:
        said.append(f"Different: {_differences(differ)}.")
    return said


def _differences(items: Sequence[Result]) -> str:
    """ "concurrency 64 (forecast 73)", each difference once."""
    return ", ".join(dict.fromkeys(f"{item['name']} {item['log']} (forecast {item['forecast']})" for item in items))


def _range(predicted: Result | None) -> str:
    return UNKNOWN if predicted is None else with_range(Estimate.from_dict(predicted))


def _place(where: str) -> str:
    """A log and its line, without the folder."""
    return Path(where).name


def _figures(rows: Sequence[Result]) -> list[Part]:
    def line(i: int, row: Result) -> list[Cell]:
        predicted = row["predicted"]
        return [
            row["what"],
            TextCell(show(row["measured"], row["unit"]), metric=f"rows.{i}.measured"),
            TextCell(_range(predicted), metric=f"rows.{i}.predicted" if predicted else ""),
            TextCell(UNKNOWN if row["ratio"] is None else f"{row['ratio']:.3g}", metric=f"rows.{i}.ratio"),
            _STATUS[row["status"]],
            TextCell(_place(row["log"])),
        ]

    if not rows:
        return []
    return [
        Table(
            title="Figures",
            columns=[
                *word_columns(
                    ["figure", "measured", "predicted, 90% range", "ratio", "status"], left=["figure", "status"]
                ),
                Column(name="log", right=False, keep=1),
            ],
            rows=[line(i, row) for i, row in enumerate(rows, 1)],
            legend=["ratio: predicted over measured time; above 1 is predicted slower"],
        )
    ]


def _setup(items: Sequence[Result]) -> list[Part]:
    """What differs, and what the log does not state."""
    out: list[Part] = []
    differ = [item for item in items if item["agrees"] is False]
    quiet = list(dict.fromkeys(item["name"] for item in items if item["agrees"] is None))
    same = list(dict.fromkeys(item["name"] for item in items if item["agrees"]))
    if differ:
        out.append(
            Table(
                title="Setups that differ",
                columns=[
                    Column(name="of the run", right=False),
                    Column(name="forecast"),
                    Column(name="log"),
                    Column(name="where", right=False, keep=1),
                ],
                rows=[
                    [item["name"], item["forecast"], item["log"], TextCell(_place(item["where"]))] for item in differ
                ],
            )
        )
    said = []
    if same:
        said.append(f"As in the forecast: {', '.join(same)}.")
    if quiet:
        said.append(f"Not stated by the log: {', '.join(quiet)}. The forecast's are taken.")
    return [*out, *paragraphs(said, "note", heading="Setup", gap=True)]


def _causes(result: Result) -> list[Part]:
    said = [
        f"{one['of']}: {one['name']} {one['what']}{'' if one['reaches'] else ', which is not enough alone'}."
        f" {one['command']}"
        for one in result["causes"]
    ]
    if result["verdict"] == "outside" and not any(one["reaches"] for one in result["causes"]):
        said.append("No setting, no part of a time and no end of a fact's range reaches what was measured by itself.")
    if result["verdict"] == "outside" and result["of"]["work"] == "load":
        said.append(
            "The forecast takes a router that gives each request to the worker with the fewest, and requests at random"
            " times. Where medians lie inside and high percentiles above, look at the router, at bursts of requests,"
            " and for a worker that stood still."
        )
    return [*paragraphs(said, "note", heading="What would explain it", gap=True)]


def _calibration(found: Result) -> Sequence[Part]:
    """What `calibrate` makes of the logs."""
    if found.get("reason"):
        return list(
            paragraphs([f"Nothing: {found['reason']}."], "note", heading="What calibrate makes of it", gap=True)
        )
    moved = found["would_move"]
    before, after = percent(found["error_before"]), percent(found["error_after"])
    said = [
        f"It would move {counted(len(moved), 'constant')} and keep {counted(found['anchors'], 'measured row')};"
        f" median error {before} before, {after} after.",
        *(
            f"{one['path']}: {show(one['before'], one['unit'])} to {show(one['after'], one['unit'])}"
            for one in moved[:_MOST_MOVED]
        ),
        *([f"{len(moved) - _MOST_MOVED} more"] if len(moved) > _MOST_MOVED else []),
    ]
    return [
        *paragraphs(said, "note", heading="What calibrate makes of it", gap=True),
        Words(text=f"Next: {found['command']}", kind="next", indent=0, gap=True),
    ]


_MOST_MOVED = 5
"""Constants that are named."""
