"""The page of candidates of a kernel, judged."""

from __future__ import annotations

from mowich.show.formats import interval, number_text
from mowich.show.page import NOTHING, Column, Page, Run, Table, counted, estimate_of, paragraphs, word_columns
from mowich.shown import Result
from mowich.studies.judge.measured import WORTH_MEASURING
from mowich.units import show


def judge_page(result: Result, run: Run) -> Page:
    """Candidates: those that are right by time, those that are not with the reason."""
    rows = result["rows"]
    good = [row for row in rows if row["rank"] is not None]
    bad = [row for row in rows if row["rank"] is None]
    best = good[0] if good else None
    shapes = ", ".join(result["shapes"]) or "inputs() of the reference's file"
    return Page(
        title="Candidates judged",
        sentences=tuple(_sentences(result, best)),
        assumptions=[("reference", result["reference"]), ("target", result["target"]), ("arguments", shapes)],
        parts=(
            *paragraphs([f"{shapes}; {counted(result['seeds'], 'draw')} of each; {result['target']}."], "caption"),
            *([_ranked(good)] if good else []),
            *([_refused(bad)] if bad else []),
        ),
        charts=[],
        records=[dict(row) for row in rows],
    )


def _sentences(result: Result, best: Result | None) -> list[str]:
    count = result["count"]
    ran = count["ok"] + count["timed"]
    said = [f"{ran} of {result['candidates']} candidates are {'timed' if count['timed'] else 'right'}"]
    said += [f"{count['wrong']} wrong"] * bool(count["wrong"]) + [f"{count['refused']} refused"] * bool(
        count["refused"]
    )
    out = [", ".join(said) + "."]
    if best is not None:
        out.append(f"Fastest: {best['file']}, {_time(best)}.")
    if best is not None and ran > 1:
        out.append(_next(result))
    return out


def _next(result: Result) -> str:
    """What to measure, or why nothing."""
    rows = [row for row in result["rows"] if row["expected_gain"] is not None]
    most = max((row["expected_gain"] for row in rows), default=0.0)
    share = f"{most:.1%} of that time"
    if result["measure_next"]:
        names = result["measure_next"]
        saves = "It is" if len(names) == 1 else "One of them is"
        return f"Measure next: {', '.join(names)}. {saves} expected to save {share}."
    if most < WORTH_MEASURING:
        small = f"{WORTH_MEASURING:.0%} of that time"
        return f"No other one is expected to save {small}: a device would hardly change the choice."
    return f"As many as may be measured ({result['measure_budget']}) were. Another one is expected to save {share}."


def _time(row: Result) -> str:
    """ "9.92 (9.4-10.5) us", "9.92 us measured"."""
    e = estimate_of(row["time_s"])
    if row["measured_s"] is not None:
        return f"{number_text(row['measured_s'] * 1e6)} us measured"
    return NOTHING if e.value is None else f"{interval(e, 1e6)} us"


def _ranked(rows: list[Result]) -> Table:
    return Table(
        title="By time",
        columns=[
            *word_columns(
                ["rank", "file", "time", "faster than the first", "order", "expected gain"], left=["file", "order"]
            ),
            Column(name="HBM", keep=3),
            Column(name="binds", right=False, keep=2),
            Column(name="largest difference", keep=1),
        ],
        rows=[
            [
                str(row["rank"]),
                row["file"],
                _time(row),
                NOTHING if row["rank"] == 1 or row["p_best"] is None else f"{row['p_best']:.0%}",
                row["order"] or ("first" if row["rank"] == 1 else NOTHING),
                NOTHING if row["expected_gain"] is None else f"{row['expected_gain']:.1%}",
                show(row["hbm_B"], "B"),
                row["binds"] or NOTHING,
                NOTHING if row["reference"] is None else number_text(row["reference"]["share"]),
            ]
            for row in rows
        ],
        note="Faster than the first: the probability of it. Order: 'tie' where times differ by less than 10% with 80%."
        " Expected gain: share of the time of the first that it is expected to save.",
        most=40,
        elsewhere="--json or --csv",
    )


def _refused(rows: list[Result]) -> Table:
    return Table(
        title="Wrong and refused",
        columns=word_columns(["file", "status", "reason"], left=["file", "status", "reason"]),
        rows=[[row["file"], row["status"], row["reason"] or NOTHING] for row in rows],
        most=40,
        elsewhere="--json or --csv",
    )
