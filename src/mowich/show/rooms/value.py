"""The page of a value: tokens, days and dollars against the amount of one property of a machine."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from mowich.price_terms import price_words
from mowich.show import charts, charts_change
from mowich.show.charts import Chart
from mowich.show.formats import UNKNOWN, first_sentence, interval, number_text, percent
from mowich.show.page import (
    GIB,
    NOTHING,
    Cell,
    Column,
    LateCharts,
    Page,
    Run,
    Table,
    TextCell,
    Words,
    estimate_of,
    figure,
    paragraphs,
)
from mowich.shown import Result
from mowich.studies.rooms.value import OF_MEMORY, OF_SOFTWARE, VALUED
from mowich.units import sig

_GB, _YEAR = 1e9, 31_557_600.0
_NOTE_AMOUNT = "tokens/s, days and worth of a unit: of each between today's amount and the line's."
_NOTE_SOFTWARE = "tokens/s, days and worth: since the line above."
_TASKS = {"train": "training", "serve": "serving"}


def page(result: Result, run: Run) -> Page:
    """A line for each amount, a table for each model and job."""
    jobs = _jobs(result)
    return Page(
        title=f"What {result['of']} is worth on {result['inputs']['on']}",
        sentences=[_first(result, jobs), *(_sentence(result, name, rows) for name, rows in jobs)],
        assumptions=[
            ("system", f"{result['display']}, {result['inputs']['system_chips']:,} chips"),
            ("today", NOTHING if result["of"] == OF_SOFTWARE else _amount(result, result["today"])),
            ("price of a chip", price_words(str(result["price_label"]))),
            ("facts", str(result.get("facts_hash", ""))),
        ],
        parts=(
            *(
                part
                for name, rows in jobs
                for part in (Words(text=name, kind="heading", indent=2, gap=True), _table(result, name, rows))
            ),
            *paragraphs(_remarks(result, jobs), "note", gap=True),
            *_basis(result),
        ),
        charts=LateCharts(lambda: _pictures(result, jobs)),
        records=result["rows"],
        inputs=result["inputs"],
    )


def _jobs(result: Result) -> list[tuple[str, list[Result]]]:
    """The rows of each model and job, by its name."""
    return [
        (f"{model}, {_TASKS[task]}", list(rows))
        for (model, task), rows in groupby(result["rows"], key=lambda r: (r["model"], r["task"]))
    ]


def _amount(result: Result, amount: float) -> str:
    of = VALUED[result["of"]]
    return f"{sig(amount / of.scale)} {of.shown}"


def _called(result: Result, row: Result) -> str:
    return str(row["software"]) if result["of"] == OF_SOFTWARE else _amount(result, row["amount"])


def _first(result: Result, jobs: Sequence[tuple[str, list[Result]]]) -> str:
    """What the last amount gives over the first, from the least job to the most, in a short sentence."""
    ends = [(known[0], known[-1]) for _, rows in jobs if (known := [r for r in rows if r["feasible"]])]
    if not ends:
        return "Nothing fits."
    ratios = [b["tokens_per_s_per_chip"]["value"] / a["tokens_per_s_per_chip"]["value"] for a, b in ends]
    times = " to ".join(dict.fromkeys(sig(ratio) for ratio in (min(ratios), max(ratios))))
    from_to = {(_called(result, a), _called(result, b)) for a, b in ends}
    general = f"The last gives {times} times the tokens of the first."
    if len(from_to) > 1:
        return general
    first, last = from_to.pop()
    return first_sentence(f"{last} gives {times} times the tokens of {first}.", general)


def _sentence(result: Result, name: str, rows: Sequence[Result]) -> str:
    """From end to end, and what more than today gives."""
    known = [r for r in rows if r["feasible"]]
    if not known:
        return f"{name}: nothing fits."
    first, last = known[0], known[-1]
    ratio = last["tokens_per_s_per_chip"]["value"] / first["tokens_per_s_per_chip"]["value"]
    said = f"{name}: {_called(result, last)} gives {sig(ratio)} times the tokens of {_called(result, first)}"
    if result["of"] == OF_SOFTWARE:
        said = f"{name}: {_called(result, last)} makes {sig(ratio)} times the tokens of {_called(result, first)}"
    if last["gain"] is not None and not last["is_today"]:
        said += f", {sig(last['gain'])} times those of today"
    return said + _worth_words(result, known) + "."


def _worth_words(result: Result, known: Sequence[Result]) -> str:
    """Whether more memory than today pays: at the amount where it pays soonest."""
    beyond = [r for r in known if r["amount"] > result["today"]]
    if result["of"] != OF_MEMORY or not beyond:
        return ""
    paying = [r for r in beyond if r["pays_from"]["value"] is not None]
    if not paying:
        return "; more memory than today's adds nothing"
    best = min(paying, key=lambda r: float(r["pays_from"]["value"]))
    cost, worth = estimate_of(result["memory_price"]), estimate_of(best["worth"])
    said = f"; up to {_called(result, best)} a GiB more pays where a chip-hour costs over"
    said += f" ${interval(estimate_of(best['pays_from']))}"
    if worth.value is not None:
        said += f", and is worth ${interval(worth, GIB)} where it costs ${interval(cost, GIB)}"
    return said


def _table(result: Result, name: str, rows: Sequence[Result]) -> Table:
    of, is_software, prefix = VALUED[result["of"]], result["of"] == OF_SOFTWARE, result["rows"].index(rows[0])
    cached = any(r.get("cached_frac") is not None for r in rows)
    trains, per = rows[0]["task"] == "train", "" if is_software else f"/{of.shown}"

    def line(place: int, r: Result) -> list[Cell]:
        at = str(prefix + place + 1)
        more, less = r["more"], r["days_less"]
        days: list[Cell] = [
            figure(r["days"], f"{at}.days"),
            TextCell(NOTHING if less is None else number_text(less, of.scale), metric=f"{at}.days_less"),
        ]
        return [
            f"{_called(result, r)}{' (today)' if r['is_today'] else ''}",
            figure(r["tokens_per_s_per_chip"], f"{at}.tokens_per_s_per_chip"),
            NOTHING if r["gain"] is None else sig(r["gain"]),
            TextCell(NOTHING if more is None else number_text(more, of.scale), metric=f"{at}.more"),
            *(days if trains else []),
            *([UNKNOWN if r.get("cached_frac") is None else percent(r["cached_frac"])] if cached else []),
            figure(r["usd_per_mtok"], f"{at}.usd_per_mtok"),
            figure(r["worth"], f"{at}.worth") if r["more"] is not None else NOTHING,
            *([figure(r["pays_from"], f"{at}.pays_from")] if result["of"] == OF_MEMORY else []),
            str(r["plan"] or UNKNOWN),
        ]

    return Table(
        title=name,
        columns=[
            Column(name="software" if is_software else of.shown, right=False),
            Column(name="tokens/s/chip", short="tok/s/chip", format="number"),
            Column(name="of today's"),
            Column(name=f"tokens/s{per}", short=f"tok/s{per}", keep=6),
            *([Column(name="days", format="number"), Column(name=f"days{per}", keep=5)] if trains else []),
            *([Column(name="prompts cached", keep=60)] if cached else []),
            Column(name="$/Mtok", format="number", keep=70),
            Column(name=f"worth, ${per}", format="number", scale=of.scale, keep=40),
            *([Column(name="pays from, $/h", format="number", keep=45)] if result["of"] == OF_MEMORY else []),
            Column(name="plan", right=False, keep=0, below=True),
        ],
        rows=[line(i, r) for i, r in enumerate(rows)],
        gap=False,
        note=_NOTE_SOFTWARE if is_software else _NOTE_AMOUNT,
    )


def _remarks(result: Result, jobs: Sequence[tuple[str, Sequence[Result]]]) -> list[str]:
    """Why a job has no plan with an amount, once for each reason."""
    out: dict[tuple[str, str], str] = {}
    for name, rows in jobs:
        for r in rows:
            if not r["feasible"]:
                out.setdefault((name, r["reason"]), f"{name}, {_called(result, r)}: {r['reason']}")
    return list(out.values())


def _basis(result: Result) -> list[Words]:
    life, cost = estimate_of(result["life"]), estimate_of(result["memory_price"])
    said = (
        "Each line is the machine with this property set and nothing else, as --set does, and planned again. A"
        " unit's numbers: of each between today's amount and the line's, of software since the line above. worth:"
        f" tokens that a unit adds, at {_price(result)}, over {sig(float(life) / _YEAR)} years of life"
    )
    if result["of"] == OF_MEMORY:
        said += (
            f". pays from: the chip-hour price at which that is what the memory costs, ${interval(cost, _GB)} a GB"
            f" ({result['memory_label']}); what its seller adds is not in it"
        )
    return [Words(text=f"{said}. More: mowich help gap", kind="basis", gap=True)]


def _price(result: Result) -> str:
    """ "the price of a chip-hour, $0.92/chip/h, tco"."""
    known = result["price"]["value"] is not None
    label = ", ".join(price_words(str(result["price_label"])).split(", ")[:2]) if known else str(result["price_label"])
    return f"the price of a chip-hour ({label})"


def _more_words(result: Result, jobs: Sequence[tuple[str, Sequence[Result]]]) -> str:
    """What the most of it gives."""
    said = []
    for name, rows in jobs:
        known = [r for r in rows if r["feasible"] and r["gain"] is not None]
        if known:
            said.append(f"{name}: {_called(result, known[-1])} give {sig(known[-1]['gain'])} times today's tokens")
    return "; ".join(said[:2])


def _pictures(result: Result, jobs: Sequence[tuple[str, Sequence[Result]]]) -> list[Chart]:
    of = VALUED[result["of"]]
    if result["of"] == OF_SOFTWARE:
        return [
            charts.ranges(
                name,
                "Tokens per second and chip under each stack or engine.",
                [charts.interval_bar(str(r["software"]), r["tokens_per_s_per_chip"]) for r in rows if r["feasible"]],
                unit="tokens/s/chip",
                log=True,
            )
            for name, rows in jobs
            if any(r["feasible"] for r in rows)
        ]
    lines = {
        name: [(r["amount"] / of.scale, r["gain"], r["plan"]) for r in rows if r["feasible"] and r["gain"] is not None]
        for name, rows in jobs
    }
    return [
        charts_change.amount_chart(
            f"Tokens against {result['of']}",
            f"Today's machine is 1, at {_amount(result, result['today'])}.",
            {name: points for name, points in lines.items() if points},
            unit=of.shown,
            finding=_more_words(result, jobs),
        )
    ]
