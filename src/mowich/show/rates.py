"""The page of a serving plan for a load: the smallest and the cheapest deployment, and commands that repeat them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mowich.price_terms import term_words
from mowich.show import charts
from mowich.show.charts import Chart
from mowich.show.formats import UNKNOWN, first_sentence, percent, seconds
from mowich.show.page import Cell, Column, LateCharts, Page, Part, Run, Table, TextCell, Words, figure, paragraphs
from mowich.show.rows import kinds_of_systems, price_line, release_lines, size_words
from mowich.shown import Result
from mowich.units import sig

_DEGREES = ("tp", "pp", "dp", "cp", "ep")


def rates_page(result: Result, run: Run) -> Page:
    """Deployments for a load, and what they cost."""
    rows, inputs = result["plans"], result["inputs"]
    return Page(
        title=f"{inputs['model']}: deployments for {_load(inputs)}",
        sentences=_sentences(result),
        assumptions=[
            ("model", str(inputs["model"])),
            ("load", _load(inputs)),
            ("prompt, tokens", f"{inputs['isl']:g}"),
            ("output, tokens", f"{inputs['osl']:g}"),
            ("limits", _limits(inputs)),
            ("headroom", _headroom(inputs)),
            ("engines", ", ".join(f"{s['system']}: {s['engine']}" for s in inputs["systems"])),
            ("kind of price", term_words(inputs["price_term"])),
            ("facts", str(result.get("facts_hash", ""))),
        ],
        parts=_parts(result, run),
        charts=LateCharts(lambda: _pictures(rows)),
        records=rows,
        inputs=inputs,
    )


def _load(inputs: Result) -> str:
    if inputs["users"] is None:
        return f"{sig(inputs['rate'])} requests/s"
    think = f", {seconds(inputs['think_s'])} of thought between" if inputs["think_s"] else ""
    return f"{inputs['users']} users{think}"


def _limits(inputs: Result) -> str:
    return ", ".join(f"{title} {seconds(inputs[key])}" for key, title in _TITLES.items() if inputs[key]) or "none"


def _headroom(inputs: Result) -> str:
    """What stays free, and at which load the limits are kept then."""
    share = inputs["headroom"]
    if not share:
        return "none"
    peak = {**inputs, "rate": (inputs["rate"] or 0.0) / (1.0 - share)}
    if inputs["users"] is not None:
        peak["users"] = math.ceil(round(inputs["users"] / (1.0 - share), 9))
    return f"{share:.0%} of the capacity stays free: limits are kept at {_load({**peak, 'think_s': 0.0})} too"


def _sentences(result: Result) -> list[str]:
    rows, inputs = result["plans"], result["inputs"]
    small = next((r for r in rows if r["is_smallest"] and r["feasible"]), None)
    cheap = next((r for r in rows if r["is_cheapest"] and r["feasible"]), None)
    free = f" with {inputs['headroom']:.0%} of the capacity free" if inputs["headroom"] else ""
    if small is None:
        first = "No deployment was found that keeps the limits."
        none = f"The limits are {_limits(inputs)} for {_load(inputs)}{free}."
        return [first, none, *(_lacking(result) if len(inputs["systems"]) == 1 else ())]
    among = "" if result["is_complete"] else " among those played"
    if cheap is None or cheap is small:
        named = "smallest" if cheap is None else "smallest and the cheapest"
        out = [_first(f"{named.capitalize().replace(' the ', ' ')}{among}", small)]
        out += [f"The {named}{among} that serves {_load(inputs)}{free}: {_words(small)}."]
    else:
        out = [_first(f"Cheapest{among}", cheap)]
        out += [f"The smallest{among} that serves {_load(inputs)}{free}: {_words(small)}."]
        out.append(f"The cheapest{among}: {_words(cheap)}.")
    return out + _inside(cheap or small, inputs)


def _first(word: str, row: Result) -> str:
    """A deployment in a short sentence."""
    return first_sentence(f"{word}: {_where(row)}.", f"{word}: {sum(row['chips_of'].values())} chips.")


def _where(row: Result) -> str:
    """ "16 chips of trn3 and 1 chip of h100"."""
    return " and ".join(f"{n} {'chip' if n == 1 else 'chips'} of {name}" for name, n in row["chips_of"].items())


def _lacking(result: Result) -> list[str]:
    """Why a system has no deployment of its own, by system."""
    return [f"{u['system']}: {u['reason']}." for u in result["unserved"]]


_TITLES = {"p99_ttft_s": "TTFT p99", "p99_tpot_s": "TPOT p99", "ttft_s": "TTFT mean", "tpot_s": "TPOT mean"}
"""Limits of a load for a reader."""

SURE = 0.95
"""The chance from which a limit lies beyond the 90% range of what is limited."""


def _inside(row: Result, inputs: Result) -> list[str]:
    """A word on limits that lie inside of the range of what is predicted."""
    doubtful = [
        f"{_TITLES[name]} (chance to keep {seconds(inputs[name])}: {percent(chance)})"
        for name, chance in row["keeps"].items()
        if chance < SURE
    ]
    if not doubtful:
        return []
    are = "The limits on {} lie" if len(doubtful) > 1 else "The limit on {} lies"
    return [are.format(" and ".join(doubtful)) + " inside the 90% range: a larger --headroom is safer."]


def _words(row: Result) -> str:
    """A deployment in words."""
    price = "" if row["usd_per_h"] is None else f", ${sig(row['usd_per_h'])}/h"
    times = ", ".join(f"{_TITLES[name]} {_spread(row[name])}" for name in ("p99_ttft_s", "p99_tpot_s"))
    return f"{_where(row)}{price}, workers {_workers(row)}; {times}"


def _spread(e: Result) -> str:
    """ "647 ms (320 to 1,900)"."""
    if e["value"] is None:
        return UNKNOWN
    scale = 1.0 if e["value"] >= 1 else 1e3
    ends = " to ".join(f"{float(sig(scale * e[end], 2)):,g}" for end in ("low", "high"))
    return f"{seconds(e['value'])} ({ends})"


def _workers(row: Result) -> str:
    n = row["replicas"]
    if row["mode"] == "aggregated":
        return f"{n['decode']} x {_plan(row['decode'])}"
    return f"{n['prefill']} x {_plan(row['prefill'])} to {n['decode']} x {_plan(row['decode'])}"


def _plan(plan: Result) -> str:
    degrees = [f"{name}{plan[name]}" for name in _DEGREES if plan[name] != 1] or ["tp1"]
    return " ".join([*degrees, f"{plan['precision']}/{plan['kv']}"])


def _parts(result: Result, run: Run) -> list[Part]:
    rows, inputs = result["plans"], result["inputs"]
    job = f"{inputs['model']}{size_words(inputs, run)}: prompts of {inputs['isl']:g} tokens"
    job += f" and answers of {inputs['osl']:g}"
    parts: list[Part] = [Words(text=f"{job}; {_load(inputs)}; limits: {_limits(inputs)}", kind="job", gap=True)]
    if inputs["headroom"]:
        parts.append(Words(text=_headroom(inputs), kind="job"))
    if rows:
        parts.append(_table(rows, inputs))
        parts += paragraphs([f"{i}: {r['reason']}" for i, r in enumerate(rows, 1) if r["reason"]], "note")
    told = [] if len(inputs["systems"]) == 1 else _lacking(result)
    parts += paragraphs([*told, *result["warnings"]], "warning")
    took = "" if run.seconds is None else f" in {sig(run.seconds)} s of processor time"
    rests = kinds_of_systems(rows, "ttft_s")
    parts += paragraphs(
        [
            f"{result['evaluated']} worker plans gave {result['candidates']} candidates; {result['simulated']}"
            f" deployments were played out, {result['simulated_requests']:,} requests{took}.",
            *([price_line(rows, inputs)] if rows else []),
            *release_lines(inputs, "engine"),
            *(
                [
                    f"Step times rest on constants: {'; '.join(rests)}."
                    " How far to trust them: mowich help accuracy-serving."
                ]
                if rests
                else []
            ),
        ],
        "basis",
        indent=0,
        gap=True,
    )
    marked = [r for r in rows if r["is_smallest"] or r["is_cheapest"]] or rows[:1]
    parts += [Words(text=f"Next: {r['command']}", kind="next", indent=0) for r in marked]
    return parts


def _table(rows: Sequence[Result], inputs: Result) -> Table:
    limits = [name for name in _TITLES if inputs[name]]

    def line(i: int, r: Result) -> list[Cell]:
        name = str(i)
        marks = [word for word, key in (("smallest", "is_smallest"), ("cheapest", "is_cheapest")) if r[key]]
        return [
            name,
            " + ".join(r["chips_of"]),
            _workers(r),
            TextCell(str(r["chips_used"]), metric=f"{name}.chips_used"),
            TextCell(UNKNOWN if r["usd_per_h"] is None else f"{sig(r['usd_per_h'])}", metric=f"{name}.usd_per_h"),
            figure(r["p99_ttft_s"], f"{name}.p99_ttft_s"),
            figure(r["p99_tpot_s"], f"{name}.p99_tpot_s"),
            figure(r["ttft_s"], f"{name}.ttft_s"),
            figure(r["tpot_s"], f"{name}.tpot_s"),
            *(percent(r["keeps"].get(key)) for key in limits),
            percent(r["utilisation"]),
            figure(r["usd_per_mtok"], f"{name}.usd_per_mtok"),
            ", ".join(marks) or ("" if r["feasible"] else "breaks a limit"),
        ]

    return Table(
        title="Deployments",
        columns=[
            Column(name="#", right=False),
            Column(name="on", right=False, keep=60),
            Column(name="workers", right=False, keep=0, below=True),
            Column(name="chips"),
            Column(name="$/h", keep=80),
            Column(name="TTFT p99", unit="ms", format="interval", scale=1e3),
            Column(name="TPOT p99", unit="ms", format="interval", scale=1e3),
            Column(name="TTFT", unit="ms", format="interval", scale=1e3, wide=True),
            Column(name="TPOT", unit="ms", format="interval", scale=1e3, wide=True),
            *(Column(name=f"{_TITLES[key]} kept", keep=40) for key in limits),
            Column(name="busy", keep=20),
            Column(name="$/Mtok", format="number", keep=80),
            Column(name="", right=False, keep=10, below=True),
        ],
        rows=[line(i, r) for i, r in enumerate(rows, 1)],
        elsewhere="--json",
    )


def _pictures(rows: Sequence[Result]) -> list[Chart]:
    known = [(str(i), r) for i, r in enumerate(rows, 1) if r["p99_ttft_s"]["value"] is not None]
    if not known:
        return []
    names = [name for name, _ in known]
    return [
        charts.stacked_bars(
            f"{title} at the 99th percentile", "", names, {title: [r[key]["value"] * 1e3 for _, r in known]}, unit="ms"
        )
        for title, key in (("TTFT", "p99_ttft_s"), ("TPOT", "p99_tpot_s"))
        if all(r[key]["value"] is not None for _, r in known)
    ]
