"""The page of predictions beside measurements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median

from mowich.evidence.measured_tables import TRAINIUM, is_time
from mowich.evidence.rl_rows import PHASES
from mowich.evidence.scores import FITTED_TO, KERNEL_ERRORS, LeftOut, left_out, left_out_by_chip
from mowich.show import charts, charts_spread
from mowich.show.charts import Chart
from mowich.show.colours import GREY, look_called
from mowich.show.formats import UNKNOWN, percent
from mowich.show.headline import accuracy_headline, tenths
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
    paragraphs,
    rows_in,
    word_columns,
)
from mowich.shown import Result
from mowich.units import sig

IN_SAMPLE = "Constants and widths of ranges were fitted to these rows: a new run is off by more."
"""Said of the rows that ship."""

NO_ROOM = "do not fit by our memory model"
"""Rows whose plan needs more memory than the device has: what made it fit (offload, a policy) is not stated, and so not
predicted."""

_OF_MEMORY = "memory of a device, where rows state it"
"""What a program's allocator held, as the rows print it, and as predicted."""

MOST_REASONS = 8
"""Reasons of refused rows that are told."""


def validate_page(result: Result, run: Run, *, beside: Sequence[Part] = ()) -> Page:
    """Errors over all rows, by chip and by source. beside: what else was measured, between the rows left out of the fit
    and those of it."""
    shipped = result["file"] in FITTED_TO
    fitted = ", in sample: constants and widths of ranges were fitted to these rows" if shipped else ""
    said = (
        f"file {result['file']}{fitted}; error = max(predicted/measured, measured/predicted) - 1; bias above 0:"
        " predicted too slow"
    )
    return Page(
        title="Predicted against measured",
        sentences=accuracy_headline(result).sentences,
        assumptions=[("facts", str(result.get("facts_hash", "")))],
        parts=(
            *(_left_out() if shipped else ()),
            *beside,
            Words(text=said, kind="basis", gap=True),
            *_summaries(result["summary"], shipped, by_phase="pairs" in result),
            *_pairs(result.get("pairs", ())),
            *_hand_tuned(result["rows"]),
            *_refused(result["rows"], by_phase="pairs" in result),
            Words(
                text="Next: mowich validate --json (every row, what was filled in, its interval)",
                kind="next",
                indent=0,
                gap=True,
            ),
        ),
        charts=LateCharts(lambda: _pictures(result["rows"], shipped)),
        records=result["rows"],
        inputs=result.get("inputs", {}),
    )


def _left_out() -> list[Part]:
    """The errors of rows that were left out of the fit, training and serving."""
    found = left_out()
    groups = dict.fromkeys(f"{e.of} ({e.work})" for e in found if e.of)
    made = dict.fromkeys(f"Of {e.work}: {e.command}, {e.date}." for e in found if e.command)
    table = Table(
        title="Left out of the fit",
        columns=word_columns(
            ["left out of the fit", "whole", "n", "median", "p90", "in 90% range"],
            left=["left out of the fit", "whole"],
        ),
        rows=[
            [f"{e.work}, {e.what}", e.unit, str(e.rows), tenths(e.median), tenths(e.p90), percent(e.in_range)]
            for e in found
        ],
        note="What a prediction of a new run may be off by.",
    )
    return [
        table,
        Words(text=f"A group is {'; '.join(groups)}.", kind="note"),
        *(Words(text=text, kind="note") for text in made),
        *_left_out_by_chip(),
    ]


def _left_out_by_chip() -> list[Table]:
    """Errors left out of the fit, for the rows of each chip, or of each family of kernels on a chip."""
    return [
        Table(
            title=f"Left out of the fit, by chip: {_kind_of(work)}",
            columns=word_columns(["by chip", "n", "median", "p90", "in 90% range"], left=["by chip"]),
            rows=[[_label(e), str(e.rows), tenths(e.median), tenths(e.p90), percent(e.in_range)] for e in by_chip],
            wide=True,
        )
        for work, by_chip in _by_work().items()
    ]


PICTURED: Mapping[str, tuple[str, ...]] = {
    "training": ("time of a step",),
    "serving": ("time per token",),
    "serving on Trainium": ("time per token",),
    KERNEL_ERRORS: ("time, newer interface", "time, older interface"),
}
"""Kinds of work -> the figures that are shown by chip, in the order of the pictures. The time per token stands for
serving: the throughput follows from it, and few chips have enough rows of the time to the first token."""


def _by_work() -> dict[str, list[LeftOut]]:
    """Errors by chip of each kind of work, the smallest median first; serving on Trainium stands among serving."""
    found: dict[str, list[LeftOut]] = {}
    kept = left_out_by_chip()
    own = {e.chip for e in kept if e.work == FITTED_TO[TRAINIUM]}  # chips whose stacks have a fit of their own
    for e in kept:
        if e.what in PICTURED.get(e.work, ()) and not (e.work == "serving" and e.chip in own):
            found.setdefault("serving" if e.work == FITTED_TO[TRAINIUM] else e.work, []).append(e)
    return {work: sorted(found[work], key=lambda e: e.median) for work in PICTURED if work in found}


def _kind_of(work: str) -> str:
    what = PICTURED[work]
    return f"{work}, {what[0]}" if len(what) == 1 else f"{work}, time"


def _label(e: LeftOut) -> str:
    """A chip, or a family of kernels on it."""
    return f"{e.family} on {chip_name(e.chip)}" if e.family else chip_name(e.chip)


_SHORT = {"trainium": "Trn", "inferentia": "Inf", "trn": "Trn"}


def chip_name(chip: str) -> str:
    """A chip as every table of errors writes it; files of measurements write it in their own ways.

    >>> [chip_name(x) for x in ("trainium2", "trn3", "b300", "A100-80GB", "TPU v7")]
    ['Trn2', 'Trn3', 'B300', 'A100-80GB', 'TPU v7']
    """
    for name, short in _SHORT.items():
        if chip.startswith(name):
            return short + chip.removeprefix(name)
    return chip.upper() if chip.islower() else chip


def _summaries(summary: Mapping[str, Result], shipped: bool, *, by_phase: bool) -> list[Table]:
    """Errors of all rows, by chip and by source; by_phase: of steps of reinforcement learning, by phase and family."""
    first = {"all": summary["all"], "fully specified": summary["fully_specified"]}
    if (summary.get("does_not_fit_memory") or {"n": 0})["n"]:
        first |= {NO_ROOM: summary["does_not_fit_memory"], "all others": summary["fits_memory"]}
    if "memory" in summary:
        first |= {_OF_MEMORY: summary["memory"]}
    phases = {PHASES.get(name, name): s for name, s in summary["by_metric"].items()} if by_phase else {}
    groups: tuple[tuple[str, Mapping[str, Result]], ...] = (
        ("rows", first),
        *([("by phase", {name: phases[name] for name in PHASES.values() if name in phases})] if phases else []),
        ("by chip", summary.get("by_chip", {})),
        ("by source", summary.get("by_source", {})),
        *(
            (words, summary[key])
            for words, key in (
                ("by framework" if by_phase else "by stack", "by_stack"),
                ("by framework, chip and phase" if by_phase else "by stack, chip and metric", "by_stack_and_chip"),
                ("by family and phase", "by_family"),
                ("by model", "by_model"),
            )
            if key in summary
        ),
    )
    return [
        Table(
            title=f"{word[0].upper()}{word[1:]}{', in sample' if shipped else ''}",
            columns=word_columns([word, "n", "refused", "median", "mean", "p90", "bias", "in 90% range"], left=[word]),
            rows=[_errors(name or "(none)", s) for name, s in body.items()],
            note=IN_SAMPLE if shipped else "",
        )
        for word, body in groups
    ]


def _pairs(pairs: Sequence[Result]) -> list[Table]:
    """Synchronous against asynchronous runs that share all else: which is faster, measured and predicted."""
    if not pairs:
        return []
    sure = [pair for pair in pairs if not pair["doubts"]]
    right = sum(pair["is_right"] for pair in sure)
    columns = [
        Column(name="synchronous", right=False, cell=lambda pair: pair["synchronous"]),
        Column(name="asynchronous", right=False, cell=lambda pair: pair["asynchronous"]),
        Column(name="measured", cell=lambda pair: sig(pair["measured"])),
        Column(name="predicted", cell=lambda pair: sig(pair["predicted"])),
        Column(name="order", right=False, cell=lambda pair: "right" if pair["is_right"] else "wrong"),
        Column(name="doubts", right=False, cell=lambda pair: pair["doubts"] or "none"),
    ]
    return [
        Table(
            title="Synchronous against asynchronous",
            columns=columns,
            rows=rows_in(columns, pairs),
            note=f"Step of the first over that of the second. Without doubts: {right} of {len(sure)} right.",
        )
    ]


def _errors(name: str, s: Result) -> list[Cell]:
    return [
        name,
        str(s["n"]),
        str(s["unsupported"]),
        percent(s["median_abs_error"]),
        percent(s["mean_abs_error"]),
        percent(s["p90_abs_error"]),
        TextCell(percent(s["bias"]), short=UNKNOWN if s["bias"] is None else f"{s['bias']:+.0%}"),
        percent(s["interval_coverage"]),
    ]


def _hand_tuned(rows: Sequence[Result]) -> list[Table]:
    """Trainium by chip and model: predicted as shipped, and with hand-tuned kernels, against measured; none without
    such rows."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for row in rows:
        if row.get("model") and row.get("hand_tuned") is not None and row["measured"] is not None:
            groups.setdefault((row["chip"], row["model"]), []).append(row)
    if not groups:
        return []

    def factor(r: Result) -> float:
        """Measured time over hand-tuned time."""
        ratio = float(r["measured"]) / float(r["hand_tuned"])
        return ratio if is_time(r["metric"]) else 1.0 / ratio

    return [
        Table(
            title="Trainium with hand-tuned kernels",
            columns=word_columns(
                ["Trainium, median of rows", "n", "as shipped / measured", "measured / hand-tuned", "from kernels"],
                left=["Trainium, median of rows"],
            ),
            rows=[
                [
                    f"{chip} {model}",
                    str(len(found)),
                    sig(median(r["ratio"] or 0.0 for r in found)),
                    sig(median(map(factor, found))),
                    percent(median(r["hand_tuned_coverage"] or 0.0 for r in found)),
                ]
                for (chip, model), found in sorted(groups.items())
            ],
        )
    ]


def _refused(rows: Sequence[Result], *, by_phase: bool) -> list[Words]:
    """Why rows were refused, the most frequent reasons first. by_phase: a row has a result for each phase, and each of
    its reasons counts once."""
    refused = [(r["id"], r["reason"]) for r in rows if r["status"] != "ok" and r["reason"]]
    count = Counter(reason for _, reason in refused)
    if by_phase:
        count = Counter(one for _, reason in dict.fromkeys(refused) for one in reason.split("; "))
    ranked = sorted(count.items(), key=lambda kv: (-kv[1], kv[0]))[:MOST_REASONS]
    return paragraphs([f"{n} x {reason}" for reason, n in ranked], "note", heading="Refused", gap=True)


def _pictures(rows: Sequence[Result], shipped: bool) -> list[Chart]:
    """How far a new prediction may be off, by what it is of; then the errors of all rows, a box for each chip."""
    by_chip: dict[str, list[float]] = {}
    for r in rows:
        if r["status"] == "ok" and r["ratio"]:
            by_chip.setdefault(str(r["chip"]), []).append(float(r["ratio"]))
    out = _left_out_pictures() if shipped else []
    if by_chip:
        sample = ", in sample" if shipped else ""
        widest = max(by_chip, key=lambda c: charts_spread.fences(by_chip[c])[4] / charts_spread.fences(by_chip[c])[0])
        out.append(
            charts_spread.boxes(
                f"Error by chip{sample}: predicted time over measured",
                "1 is exact, above it predicted too slow. Box: half of the rows; line: 90% of them."
                + (f" {IN_SAMPLE}" if shipped else ""),
                dict(sorted(by_chip.items())),
                unit="predicted / measured",
                looks={chip: look_called(chip) for chip in by_chip},
                finding=f"Widest on {widest}" if len(by_chip) > 1 else "",
            )
        )
    return out


def _left_out_pictures() -> list[Chart]:
    """Errors of rows left out of the fit: by what is predicted, then by chip for training, serving and kernels."""
    found = left_out()
    least, most = min(e.median for e in found), max(e.median for e in found)
    whole = _errors_as_bars(
        "Errors of rows that were left out of the fit",
        "Median, and what nine of ten stay below: what a prediction of a new run may be off by.",
        [(f"{e.work}, {e.what}, whole {e.unit} out", e) for e in found],
        f"A new run is off by {100 * least:.0f} to {100 * most:.0f}% in the median, by its kind",
    )
    return [whole, *(_chip_bars(work, by_chip) for work, by_chip in _by_work().items())]


def _chip_bars(work: str, by_chip: Sequence[LeftOut]) -> Chart:
    without = dict.fromkeys(e.without if e.work == work else f"{e.without} ({e.work})" for e in by_chip)
    note = f"Left out were {', '.join(without)}."
    if work == KERNEL_ERRORS:
        note += f" Kernels measured on hardware, on the kernel clock; {by_chip[0].command}, {by_chip[0].date}."
    best, last = by_chip[0], by_chip[-1]
    finding = (
        f"{work.capitalize()}: {100 * best.median:.0f}% off in the median on {_label(best)},"
        f" {100 * last.median:.0f}% on {_label(last)}"
    )
    return _errors_as_bars(
        f"Errors by chip, left out of the fit: {_kind_of(work)}",
        f"Rows of each in brackets. {note}",
        [(f"{_label(e)} ({e.rows})", e) for e in by_chip],
        finding,
        by_chip=True,
    )


def _errors_as_bars(
    title: str, note: str, rows: Sequence[tuple[str, LeftOut]], finding: str, *, by_chip: bool = False
) -> Chart:
    """A bar to the median and on to the 90th percentile for each; by_chip: in the colour of its chip."""
    return charts.stacked_bars(
        title,
        note,
        [name for name, _ in rows],
        {
            "median": [100 * e.median for _, e in rows],
            "to the 90th of 100": [100 * (e.p90 - e.median) for _, e in rows],
        },
        unit="% off",
        looks={name: look_called(e.chip) for name, e in rows} if by_chip else {},
        fills={"to the 90th of 100": {"color": GREY.light}} if by_chip else {},
        finding=finding,
        row_px=30,
    )
