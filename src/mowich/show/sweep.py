"""The page of a sweep: every point of a grid."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mowich.price_terms import term_words
from mowich.show import charts
from mowich.show.chart_grammar import Range
from mowich.show.charts import Chart
from mowich.show.colours import looks_of
from mowich.show.formats import number_text
from mowich.show.headline import sweep_headline
from mowich.show.page import (
    NOTHING,
    Cell,
    Column,
    LateCharts,
    Page,
    Run,
    Table,
    TextCell,
    estimate_of,
    figure,
)
from mowich.show.price_lines import range_of
from mowich.show.rows import plan_of, terms_text
from mowich.shown import Result
from mowich.studies.ranking import runs
from mowich.studies.stated_plan import plan_words
from mowich.units import show_count

_MOST_ROWS = 1000
"""Rows of a page."""

_MOST_LINES = 24
"""Lines of a picture."""

_TRAINED = {"seq": "seq", "batch": "batch_seqs", "tokens": "tokens"}
_TRAINED_MORE = {
    "task": "train_task",
    "lora rank": "lora_rank",
    "document": "document",
    "fill": "fill",
    "sites": "sites",
    "site link": "site_Bps",
    "outer every": "outer_every",
}
_SERVED = {
    "isl": "isl",
    "osl": "osl",
    "TTFT limit": "ttft_limit_s",
    "TPOT limit": "tpot_limit_s",
    "cached": "cached",
    "accept": "accept",
}
"""What may vary beside the model, the system, its chips and what is set: name -> key of a row."""
_KEYS = {"model": "model", **_TRAINED, **_TRAINED_MORE, **_SERVED}


def _serves(rows: Sequence[Result]) -> bool:
    """Whether the points are of serving."""
    return bool(rows) and "isl" in rows[0]


def _job_axes(rows: Sequence[Result]) -> list[str]:
    """The axes of a table beside the machine: those of every job, and others that differ."""
    if not _serves(rows):
        more = [name for name, key in _TRAINED_MORE.items() if any(row.get(key) for row in rows)]
        return ["model", *_TRAINED, *more]
    more = [name for name in list(_SERVED)[2:] if len({row.get(_SERVED[name]) for row in rows}) > 1]
    return ["model", "isl", "osl", *more]


def sweep_page(result: Result, run: Run) -> Page:
    """Every point of a grid: cost against time, time against chips, and the table."""
    rows, inputs = result["rows"], result["inputs"]
    return Page(
        title=f"Sweep of {len(rows):,} points",
        sentences=sweep_headline(result).sentences,
        assumptions=[
            *([("scenario", str(inputs["scenario"]))] if "scenario" in inputs else []),
            ("kind of price", term_words(inputs.get("price_term", ""))),
            ("facts", str(result.get("facts_hash", ""))),
        ],
        parts=(_points(rows), *_best_points(rows)),
        charts=LateCharts(lambda: [*_heat(rows), *_pictures(rows)]),
        records=rows,
        inputs=inputs,
    )


def _axis(row: Result, name: str) -> str | TextCell:
    value = row.get(_KEYS[name])
    if name == "batch":
        return TextCell(f"{value:g}", short=number_text(value))
    if name == "tokens" and value is not None:
        return show_count(value)
    if name in ("TTFT limit", "TPOT limit") and value is not None:
        return f"{number_text(value)} s"
    return NOTHING if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _axes(rows: Sequence[Result]) -> dict[str, list[str]]:
    """What varies: its name -> its values in order, two or more."""
    found: dict[str, list[str]] = {}
    settings = list(rows[0].get("set") or {}) if rows else []
    for name in ("system", "model", "chips", *_job_axes(rows)[1:], *settings):
        values = list(dict.fromkeys(_at(r, name) for r in rows))
        if len(values) > 1:
            found[name] = values
    return found


def _at(row: Result, name: str) -> str:
    """A point's place on an axis."""
    if name in _KEYS:
        said = _axis(row, name)
        return said if isinstance(said, str) else said.text
    if name == "chips":
        return f"{int(row['chips_requested']):,}"
    given = (row.get("set") or {}).get(name, row.get(name))
    return number_text(given) if isinstance(given, float) else str(given)


def _score(row: Result) -> float:
    """What a point is best by: its cost of a token, or without a cost the chip-time of one; less is better."""
    cost, speed = estimate_of(row["usd_per_mtok"]).value, estimate_of(row["tokens_per_s_per_chip"]).value
    return float(cost) if cost is not None else 1.0 / float(speed) if speed else float("inf")


def _by_cost(rows: Sequence[Result]) -> bool:
    """Whether every point that runs has a cost."""
    return all(estimate_of(r["usd_per_mtok"]).value is not None for r in rows)


def _best_points(rows: Sequence[Result]) -> list[Table]:
    """The best point at each value of each axis."""
    running = [r for r in rows if runs(r)]
    axes = _axes(rows)
    if (
        not running
        or not axes
        or not (_by_cost(running) or all(estimate_of(r["usd_per_mtok"]).value is None for r in running))
    ):
        return []
    shown = ("tpot_s",) if _serves(rows) else ("days",)
    lines: list[list[Cell]] = []
    for name, values in axes.items():
        for value in values:
            here = [r for r in running if _at(r, name) == value]
            if here:
                best = min(here, key=_score)
                point = ", ".join(f"{other} {_at(best, other)}" for other in axes if other != name)
                numbers = [figure(best[m]) for m in (*shown, "usd_per_mtok", "tokens_per_s_per_chip")]
                lines.append([name, value, point, *numbers, _plan(best)])
    word = "least cost" if _by_cost(running) else "most of a chip"
    return [
        Table(
            title="Best point by axis",
            columns=[
                Column(name="axis", right=False),
                Column(name="at", right=False),
                Column(name=f"{word} with", right=False),
                *([_TPOT] if _serves(rows) else [Column(name="days", format="number")]),
                Column(name="$/Mtok", format="number"),
                Column(name="tokens/s/chip", format="number"),
                Column(name="plan", right=False),
            ],
            rows=lines,
            note="The point of the least number at each value of what varies; ranges may overlap."
            if _by_cost(running)
            else "The point that gives most at each value of what varies; ranges may overlap.",
            wide=True,
        )
    ]


def _heat(rows: Sequence[Result]) -> list[Chart]:
    """How near the best point of each pair of values comes to the best of all, over the first two axes."""
    running, axes = [r for r in rows if runs(r)], _axes(rows)
    if (
        len(axes) < 2
        or not running
        or not (_by_cost(running) or all(estimate_of(r["usd_per_mtok"]).value is None for r in running))
    ):
        return []
    down, across = list(axes)[:2]
    least = min(map(_score, running))
    best = min(running, key=_score)

    def share(a: str, b: str) -> float:
        here = [_score(r) for r in running if _at(r, down) == a and _at(r, across) == b]
        return least / min(here) if here else 0.0

    word = "cost of a token" if _by_cost(running) else "chip-time of a token"
    return [
        charts.heat(
            f"Best points by {down} and {across}",
            f"100% is the least {word} of the sweep; half of it costs twice as much. Empty: nothing runs.",
            axes[across],
            {a: [share(a, b) for b in axes[across]] for a in axes[down]},
            unit="% of the best",
            finding=_best_words(running, best, axes),
        )
    ]


def _best_words(running: Sequence[Result], best: Result, axes: Iterable[str]) -> str:
    """The best point, and how many others cannot be told from it."""
    metric = "usd_per_mtok" if _by_cost(running) else "tokens_per_s_per_chip"
    own = estimate_of(best[metric])
    close = sum(1 for r in running if r is not best and own.overlaps(estimate_of(r[metric])))
    ties = f"; {close} of {len(running)} points overlap with it" if close else ""
    said = "Least cost" if _by_cost(running) else "Most of a chip"
    return f"{said}: {', '.join(f'{name} {_at(best, name)}' for name in axes)}{ties}"


def _points(rows: Sequence[Result]) -> Table:
    """The axes, those that vary first on a terminal, then each point's answer."""
    names = _job_axes(rows)
    several = {a for a in names if len({_axis(r, a) for r in rows}) > 1}
    settings = list(rows[0].get("set") or {}) if rows else []
    short = {k: k if k.startswith("plan.") else ".".join(k.split(".")[-2:]) for k in settings}
    more = "" if len(rows) <= _MOST_ROWS else f" The table shows the first {_MOST_ROWS:,} of {len(rows):,}."
    answer = [_TTFT, _TPOT, _RATE] if _serves(rows) else [_STEP, _MFU, _DAYS]
    columns = [
        *(Column(name=a, right=a not in ("model", "task"), wide=a not in several) for a in names),
        *(Column(name=k, short=name) for k, name in short.items()),
        Column(name="system", right=False),
        Column(name="chips"),
        *answer,
        Column(name="$/Mtok", format="number", keep=6),
        Column(name="price", right=False, keep=6),
        Column(name="binds", right=False, keep=4),
        Column(name="plan", right=False, keep=5),
    ]
    return Table(
        title="Points",
        columns=columns,
        rows=[_line(r, i, names, settings) for i, r in enumerate(rows[:_MOST_ROWS], start=1)],
        note=f"Hover or focus a number for its grade and range.{more}",
    )


_STEP = Column(name="step", unit="s", short="step s", format="number")
_MFU = Column(name="MFU", unit="%", short="MFU", format="percent", scale=100.0)
_DAYS = Column(name="days", format="number")
_TTFT = Column(name="TTFT", unit="s", short="TTFT s", format="number")
_TPOT = Column(name="TPOT", unit="ms", short="TPOT ms", format="number", scale=1e3)
_RATE = Column(name="tokens/s/chip", short="tok/s/chip", format="number")


def _plan(row: Result) -> str:
    """The plan of a point; of serving that of its decode workers, behind that of prefill where these are others."""
    if "decode" not in row:
        return plan_of(row)
    plans = dict.fromkeys(plan_words(row[worker]) for worker in ("prefill", "decode"))
    return " + ".join(plans)


def _line(row: Result, place: int, names: Sequence[str], settings: Sequence[str]) -> list[Cell]:
    given = row.get("set") or {}
    own = [number_text(given[k]) if isinstance(given[k], float) else str(given[k]) for k in settings]
    reason = str(row.get("reason") or "")
    answer = ("ttft_s", "tpot_s", "tokens_per_s_per_chip") if "isl" in row else ("step_s", "mfu", "days")
    return [
        *(_axis(row, a) for a in names),
        *own,
        str(row["system"]),
        str(row["chips_requested"]),
        *(figure(row[m], f"{place}.{m}") for m in (*answer, "usd_per_mtok")),
        terms_text(row),
        str(row["binds"]),
        TextCell(_plan(row), reason, short=_plan(row) if row.get("plan") or row.get("decode") else reason),
    ]


_TRAINED_PICTURES = (
    ("Cost against time", "Down and left is better.", "days", "usd_per_mtok", ("days", "$ per million tokens")),
    ("Time of the run against chips", "Both axes logarithmic.", "chips_requested", "days", ("chips", "days")),
    ("MFU against chips", "Of the published dense peak.", "chips_requested", "mfu", ("chips", "MFU")),
)
_SERVED_PICTURES = (
    (
        "Cost against time per token",
        "Down and left is better.",
        "tpot_s",
        "usd_per_mtok",
        ("seconds per token", "$ per million tokens"),
    ),
    (
        "Rate of a chip against the rate of a user",
        "Up and right is better.",
        "tokens_per_s_per_user",
        "tokens_per_s_per_chip",
        ("tokens/s per user", "tokens/s per chip"),
    ),
)


def _pictures(rows: Sequence[Result]) -> list[Chart]:
    own = ("model", "isl", "osl") if _serves(rows) else ("model", "seq", "batch_seqs")
    several = [k for k in own if len({r[k] for r in rows}) > 1]
    found = [r for r in rows if runs(r)]

    def group(r: Result) -> str:
        return ", ".join(
            [str(r["system"]), *(str(r[k]) if k == "model" else f"{k.removesuffix('_seqs')} {r[k]:g}" for k in several)]
        )

    def grouped(x: str, y: str) -> dict[str, list[tuple[float, float, str]]]:
        out: dict[str, list[tuple[float, float, str]]] = {}
        for r in found:
            a = float(r[x]) if x == "chips_requested" else estimate_of(r[x]).value
            b = estimate_of(r[y]).value
            if a is not None and b is not None:
                out.setdefault(group(r), []).append((a, b, f"{r['chips_requested']} chips, {_plan(r)}"))
        return {k: sorted(v) for k, v in list(out.items())[:_MOST_LINES]}

    def spans(x: str, y: str) -> dict[str, list[tuple[Range | None, Range | None]]]:
        """Ranges of the dots, in their order; of few dots only."""
        out: dict[str, list[tuple[tuple[float, float], Range | None, Range | None]]] = {}
        for r in found if len(found) <= _MOST_LINES else []:
            up = estimate_of(r[y])
            across = None if x == "chips_requested" else estimate_of(r[x])
            at = float(r[x]) if across is None else across.value
            if at is not None and up.value is not None:
                wide = None if across is None else range_of(across)
                out.setdefault(group(r), []).append(((at, float(up)), wide, range_of(up)))
        return {k: [(a, b) for _, a, b in sorted(v, key=lambda t: t[0])] for k, v in out.items()}

    looks = looks_of([(group(r), r) for r in found])
    pictures = []
    for title, note, x, y, names in _SERVED_PICTURES if _serves(rows) else _TRAINED_PICTURES:
        dots, line = grouped(x, y), x == "chips_requested"
        if dots:
            pictures.append(
                charts.points(
                    title,
                    note,
                    dots,
                    x=names[0],
                    y=names[1],
                    log_x=True,
                    log_y=y != "mfu",
                    line=line,
                    looks=looks,
                    ends=spans(x, y),
                )
            )
    return pictures
