"""The page of forward passes: seconds, dollars and joules of an image, a clip or a text, on systems or by plans."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from mowich.price_terms import term_words
from mowich.show import charts, charts_parts
from mowich.show.charts import Chart
from mowich.show.charts_parts import memory_words
from mowich.show.colours import looks_of
from mowich.show.fit import FITS
from mowich.show.formats import gib, headed, interval, number_text
from mowich.show.headline import row_label
from mowich.show.page import (
    NOTE,
    NOTE_MARKED,
    NOTHING,
    Cell,
    Column,
    Figure,
    Format,
    LateCharts,
    Page,
    Part,
    Run,
    Table,
    TextCell,
    Words,
    counted,
    estimate_of,
    figure,
    paragraphs,
    table_by_answer,
)
from mowich.show.page import notes as remarks
from mowich.show.price_lines import range_of
from mowich.show.rows import (
    grouped_words,
    plan_of,
    price_line,
    priced_words,
    release_lines,
    row_cells,
    size_words,
    unmeasured_line,
    why_not,
)
from mowich.shown import Result
from mowich.studies.explain.tree import labels
from mowich.studies.ranking import Ranking, names_listed, rankings, rows_of, runs
from mowich.sums import float_sum
from mowich.units import show_count

_LEAST = 1e-6
"""A part of less of a step is none."""
_THOUSAND = 1e3
"""Costs are told of so many items: one costs a part of a cent."""


def forward_page(result: Result, run: Run) -> Page:
    """Systems compared by images or items, the best plans of one, or whether a model fits."""
    rows, inputs = rows_of(result), result["inputs"]
    found = rankings(result) if inputs["verb"] == "compare" and len(rows) > 1 else {}
    names = [row_label(row) for row in rows] if inputs["verb"] != "plan" else [str(i + 1) for i in range(len(rows))]
    alive = [(name, label, row) for name, label, row in zip(names, labels(rows), rows, strict=True) if runs(row)]
    priced = rows[:1] if inputs["verb"] == "plan" else rows
    parts: list[Part] = [
        Words(text=_job(inputs, run) + priced_words(rows, inputs), kind="job", gap=True),
        _answers(result, names, found),
        *(part for table in (_passes, _memory) for part in (table(alive) if alive else ())),
        *remarks(
            [*_reasons(rows, names), *_order(rows, names, found), *_assumed(rows, names)],
            result.get("warnings", ()),
        ),
        *paragraphs([price_line(priced, inputs), *_software(inputs, rows)], "basis", indent=0, gap=True),
        Words(text=_next(result, run.saved), kind="next", indent=0),
    ]
    return Page(
        title=f"{inputs.get('model')}: {_what(inputs)}",
        sentences=_sentences(result, names, found),
        assumptions=_strip(result),
        parts=parts,
        charts=LateCharts(lambda: _pictures(inputs, alive, found, names)),
        records=rows,
        inputs=inputs,
        marks={metric: [ranks.mark(i) for i in range(len(rows))] for metric, ranks in found.items()},
    )


# words
# ----------------------------------------------------------------------------------------------------------------------


def item_word(inputs: Result) -> str:
    """What one item is: "image", "clip", "item"."""
    if inputs.get("task") == "encode":
        return "item"
    return "clip" if inputs.get("frames") else "image"


def _what(inputs: Result) -> str:
    return "encoding" if inputs.get("task") == "encode" else f"{item_word(inputs)}s"


def _a(inputs: Result) -> str:
    """ "an image", "a clip", "an item"."""
    return f"{'a' if item_word(inputs) == 'clip' else 'an'} {item_word(inputs)}"


def _seconds(row: Result, inputs: Result) -> str:
    return f"{interval(estimate_of(row['item_s']))} s {_a(inputs)}"


def _rate(row: Result, inputs: Result) -> str:
    return f"{interval(estimate_of(row['items_per_s_per_chip']))} {item_word(inputs)}s/s per chip"


def _dollars(row: Result, inputs: Result) -> str:
    return f"${interval(estimate_of(row['usd_per_item']), _THOUSAND)} per 1000 {item_word(inputs)}s"


_FIRST = {
    "usd_per_item": ("Cheapest", "least", _dollars),
    "item_s": ("Fastest", "least", _seconds),
    "items_per_s_per_chip": ("Most", "most", _rate),
}
"""Measures by which rows are told, with the words of the best."""


def _decided(inputs: Result, found: Mapping[str, Ranking]) -> Ranking | None:
    """The first measure by which somebody is best: cost, then time of an image, or items per second of an encoder."""
    order = ["usd_per_item", "items_per_s_per_chip", "item_s"]
    if inputs.get("task") != "encode":
        order = ["usd_per_item", "item_s", "items_per_s_per_chip"]
    return next((found[m] for m in order if m in found and found[m].best is not None), None)


def _sentences(result: Result, names: Sequence[str], found: Mapping[str, Ranking]) -> tuple[str, ...]:
    """The answer, without long names and ranges first where they are many."""
    rows, inputs, said = rows_of(result), result["inputs"], _sentence(result, names, found)
    if inputs["verb"] == "fit":
        return headed(said, f"{FITS[bool(rows[0]['feasible'])]} on {counted(rows[0]['chips_requested'], 'chip')}.")
    ranks = _decided(inputs, found)
    if ranks is not None and ranks.best is not None:
        best = _FIRST[ranks.metric][0]
        if ranks.close:
            return headed(said, f"No winner: {len(ranks.close)} close to the {best.lower()}.")
        return headed(said, f"{best}: {names[ranks.best]}.", f"{best}: one system, which the next line names.")
    if not any(row.get("feasible") for row in rows):
        late = any(runs(row) for row in rows)
        return headed(said, "Too slow for the limit." if late else "None of these systems can do this.")
    return headed(said, "At least one system can do this." if inputs["verb"] != "plan" else "A plan can do this.")


def _sentence(result: Result, names: Sequence[str], found: Mapping[str, Ranking]) -> str:
    rows, inputs = rows_of(result), result["inputs"]
    if inputs["verb"] == "fit":
        return _fit_sentence(result)
    ranks = _decided(inputs, found)
    if ranks is not None and ranks.best is not None:
        best, least, told = _FIRST[ranks.metric]
        words = f"{names[ranks.best]}, {told(rows[ranks.best], inputs)}"
        return f"No winner: {len(ranks.close)} close; {least}: {words}." if ranks.close else f"{best}: {words}."
    said = _rate if inputs.get("task") == "encode" else _seconds
    places = [i for i, row in enumerate(rows) if row.get("feasible")]
    is_plan, late = inputs["verb"] == "plan", [i for i, row in enumerate(rows) if runs(row)]
    if not places and late:
        first = min(late, key=lambda i: estimate_of(rows[i]["item_s"]).value or 0.0)
        name = plan_of(rows[first]) if is_plan else names[first]
        return f"Too slow: {name}, {_seconds(rows[first], inputs)}."
    if not places:
        return (
            "This is not possible as stated; the row says why."
            if len(rows) == 1
            else f"None of the {len(rows)} systems can do this; each row says why."
        )
    row = rows[places[0]]
    name = f"Best: {plan_of(row)}" if is_plan else names[places[0]]
    return f"{name}, {said(row, inputs)}."


def _fit_sentence(result: Result) -> str:
    row = rows_of(result)[0]
    where = f"{counted(row['chips_requested'], 'chip')} of {row['system_id']}"
    least = result.get("smallest_chips")
    fewest = "no number tried does" if least is None else f"fewest: {counted(least, 'chip')}"
    return f"{FITS[bool(row['feasible'])]} on {where}; {fewest}."


def _job(inputs: Result, run: Run) -> str:
    """The model and the work in one line."""
    text = f"{inputs.get('model')}{size_words(inputs, run)}: "
    tokens = f"{float(inputs['tokens']):,.0f} tokens"
    if inputs.get("task") == "encode":
        text += f"encode items of {tokens}"
    else:
        size = f" of {inputs['height']} x {inputs['width']} pixels" if inputs.get("height") else ""
        frames = f", {inputs['frames']} frames" if inputs.get("frames") else ""
        forwards = "two forwards a step" if inputs["branches"] == 2 else "one forward a step"
        text += f"{item_word(inputs)}s{size}{frames} ({tokens}), {counted(inputs['steps'], 'step')}, {forwards}"
    if inputs.get("batch"):
        text += f", {inputs['batch']} at once"
    if inputs.get("latency_s"):
        text += f", each within {number_text(float(inputs['latency_s']))} s"
    return text + (f"; {counted(inputs['chips'], 'chip')} each" if inputs.get("chips") else "")


def _strip(result: Result) -> list[tuple[str, str]]:
    inputs = result["inputs"]
    size = f"{inputs['height']} x {inputs['width']}" if inputs.get("height") else ""
    return [
        ("model", str(inputs.get("model"))),
        ("pixels", size),
        ("frames", str(inputs.get("frames") or "")),
        ("tokens", show_count(float(inputs["tokens"]))),
        ("steps", str(inputs["steps"]) if inputs.get("task") == "diffuse" else ""),
        ("forwards a step", str(inputs["branches"]) if inputs.get("task") == "diffuse" else ""),
        ("kind of price", term_words(inputs.get("price_term"))),
        ("facts", str(result.get("facts_hash") or "")),
    ]


def _reasons(rows: Sequence[Result], names: Sequence[str]) -> list[str]:
    return [f"{name}: {row['reason']}" for name, row in zip(names, rows, strict=True) if row.get("reason")]


def _order(rows: Sequence[Result], names: Sequence[str], found: Mapping[str, Ranking]) -> list[str]:
    """Of which rows no order is known, and why."""
    said = []
    words = {"usd_per_item": "cost", "item_s": "time", "items_per_s_per_chip": "rate per chip"}
    for metric, what in words.items():
        ranks = found.get(metric)
        if ranks is None or sum(map(runs, rows)) < 2:
            continue
        if ranks.best is None:
            said.append(f"{what} is not ranked: {ranks.why_not}{'; ' + ranks.fix if ranks.fix else ''}")
        elif ranks.close:
            those = names_listed([names[i] for i in ranks.close])
            said.append(
                f"{what}: the 90% ranges of {those} overlap with that of {names[ranks.best]}: no order is known"
            )
    return said


def _assumed(rows: Sequence[Result], names: Sequence[str]) -> list[str]:
    """What was taken because nobody stated it, each with the rows that it holds for."""
    who: dict[str, list[str]] = {}
    for name, row in zip(names, rows, strict=True):
        for words in row.get("assumed", ()):
            who.setdefault(str(words), []).append(name)
    return [f"assumed{'' if len(of) == len(rows) else f' of {names_listed(of)}'}: {words}" for words, of in who.items()]


def _software(inputs: Result, rows: Sequence[Result]) -> list[str]:
    """Which software the passes run on, and what their times rest on."""
    ran = {row["system"] for row in rows if runs(row)}
    stacks = {str(s["system"]): str(s["stack"]) for s in inputs["systems"] if s["system"] in ran}
    if not stacks:
        return []
    said = "; ".join(grouped_words(stacks))
    return [
        f"Software: {said}. How far to trust it: mowich validate.",
        *release_lines(inputs, "stack"),
        *unmeasured_line(rows, inputs),
    ]


def _next(result: Result, saved: str) -> str:
    """What may be asked next."""
    rows, inputs = rows_of(result), result["inputs"]
    label = next((label for label, row in zip(labels(rows), rows, strict=True) if runs(row)), None)
    job = f"{inputs.get('model_given') or inputs['model']} --task {inputs['task']} ..."
    if label is None:
        return f"Next: more chips, or mowich fit {job} --on {rows[0]['system_id']}"
    save, number = "" if saved else "add --out r.json, then ", shlex.quote(f"{label}.item_s")
    more = "compare" if inputs["verb"] != "compare" else "plan"
    return f"Next: {save}mowich explain {saved or 'r.json'} {number}  |  mowich {more} {job}"


# tables
# ----------------------------------------------------------------------------------------------------------------------


def _columns(inputs: Result) -> list[Column]:
    is_plan = inputs["verb"] == "plan"
    rate: Format = "interval" if inputs.get("task") == "encode" else "number"
    return [
        Column(name="#" if is_plan else "system", right=is_plan),
        Column(name="fits", right=False, wide=True),
        Column(name="chips", keep=9, wide=is_plan),
        Column(name="plan", right=False, keep=99 if is_plan else 60),
        Column(name="s/item", format="spread", of="item_s"),
        Column(name="items/s/chip", format=rate, keep=40, of="items_per_s_per_chip"),
        Column(name="$/1000 items", format="interval", scale=_THOUSAND, of="usd_per_item"),
        Column(name="price", right=False, keep=8),
        Column(name="J/item", format="number", keep=3, marked=False, of="J_per_item"),
        Column(name="MFU", unit="%", short="MFU", format="percent", scale=100.0, keep=10, of="mfu"),
        Column(name="grade", keep=50),
        Column(name="binds", right=False, keep=7),
    ]


def _answers(result: Result, names: Sequence[str], found: Mapping[str, Ranking]) -> Table:
    """The main table: a row a system, or a plan."""
    rows, inputs = rows_of(result), result["inputs"]
    is_ranked = any(ranks.best is not None for ranks in found.values())
    legend = ["\N{LEFTWARDS ARROW} best   ~ range overlaps with the best: not ranked   ? unknown   90% ranges"]
    columns = _columns(inputs)
    return Table(
        title="Plans" if inputs["verb"] == "plan" else "Answers",
        columns=columns,
        rows=[
            _line(row, name, label, place, found, columns)
            for place, (row, name, label) in enumerate(zip(rows, names, labels(rows), strict=True))
        ],
        note=NOTE_MARKED if found else NOTE,
        legend=legend if is_ranked else [],
        gap=False,
    )


def _line(
    row: Result, name: str, label: str, place: int, found: Mapping[str, Ranking], columns: Sequence[Column]
) -> list[Cell]:
    """One row; of one without a plan the reason stands where its time would."""
    is_run = runs(row)

    def number(metric: str) -> Figure:
        ranks = found.get(metric)
        mark = ranks.mark(place) if ranks is not None and ranks.best is not None else None
        short = None if is_run else why_not(row) if metric == "item_s" else NOTHING
        return figure(row[metric], f"{label}.{metric}", mark, short)

    own = {
        "#": name,
        "system": name,
        "plan": plan_of(row) if row["replicas"] < 2 else f"{row['replicas']} x ({plan_of(row)})",
        "grade": estimate_of(row["item_s"]).grade if is_run else NOTHING,
    }
    return row_cells(columns, row, number, own)


def _passes(alive: Sequence[tuple[str, str, Result]]) -> list[Part]:
    """The parts of a pass, which sum to it: a line each, a column for each row."""
    passes = [estimate_of(row["pass_s"]) for _, _, row in alive]
    known = [
        part
        for part in dict.fromkeys(p for one in passes for p in one.breakdown)
        if any(one.breakdown.get(part, 0.0) > _LEAST * (one.value or 0.0) for one in passes)
    ]
    known.sort(key=lambda part: -float_sum(one.breakdown.get(part, 0.0) / (one.value or 1.0) for one in passes))
    lines: list[list[Cell]] = []
    for part in known:
        cells = [
            TextCell(number_text(one.breakdown[part], _THOUSAND), "", f"{label}.pass_s.{part}")
            if one.breakdown.get(part, 0.0) > _LEAST * (one.value or 0.0)
            else NOTHING
            for one, (_, label, _) in zip(passes, alive, strict=True)
        ]
        lines.append([charts_parts.time_part(part).words, *cells])
    lines.append(["pass", *(figure(row["pass_s"], f"{label}.pass_s") for _, label, row in alive)])
    return table_by_answer(
        "Where a forward pass goes, ms",
        "where a forward pass goes, ms:",
        "part",
        Column(name="", format="interval", scale=_THOUSAND),
        [name for name, _, _ in alive],
        lines,
        "The parts sum to the pass: one step of one replica, with both branches of guidance.",
    )


def _memory(alive: Sequence[tuple[str, str, Result]]) -> list[Part]:
    """What takes the memory of a device: a line each, a column for each row."""
    kinds = list(dict.fromkeys(kind for _, _, row in alive for kind in row["memory_B"]))
    kinds.sort(key=lambda kind: -max(row["memory_B"].get(kind, 0.0) for _, _, row in alive))
    rows: list[list[Cell]] = [
        [memory_words(kind), *(_gib(row["memory_B"].get(kind), f"{label}.memory_B.{kind}") for _, label, row in alive)]
        for kind in kinds
    ]
    rows.append(["sum", *(gib(float_sum(row["memory_B"].values())) for _, _, row in alive)])
    rows.append(["usable", *(_gib(row["memory_capacity_B"], f"{label}.memory_capacity_B") for _, label, row in alive)])
    names = [name for name, _, _ in alive]
    return table_by_answer("Memory of a device, GiB", "memory of a device, GiB:", "what", Column(name=""), names, rows)


def _gib(value: float | None, metric: str) -> Cell:
    return TextCell(gib(value), "", metric) if value else NOTHING


# pictures
# ----------------------------------------------------------------------------------------------------------------------


def _pictures(
    inputs: Result, alive: Sequence[tuple[str, str, Result]], found: Mapping[str, Ranking], names: Sequence[str]
) -> list[Chart]:
    if not alive:
        return []
    said = [(name if inputs["verb"] != "plan" else plan_of(row), row) for name, _, row in alive]
    return [
        charts_parts.time_bars(
            "Where a forward pass goes",
            "One step of one replica: a forward of all its items. The line is the 90% range.",
            [(name, row["pass_s"]) for name, row in said],
            unit="ms",
            scale=_THOUSAND,
        ),
        *_cost_against_time(inputs, said, found, names),
        charts_parts.memory_bars(said),
    ]


def _cost_against_time(
    inputs: Result, rows: Sequence[tuple[str, Result]], found: Mapping[str, Ranking], names: Sequence[str]
) -> list[Chart]:
    """Dollars of an item against its seconds, a dot a row with its ranges."""
    priced = [(name, row) for name, row in rows if estimate_of(row["usd_per_item"]).value is not None]
    if len(priced) < 2:
        return []
    ranks, said = found.get("usd_per_item"), ""
    if ranks is not None and ranks.best is not None:
        best = names[ranks.best]
        said = f"No winner: {len(ranks.close)} beside {best}" if ranks.close else f"Cheapest: {best}"

    def of(row: Result) -> tuple[float, float]:
        return float(estimate_of(row["item_s"])), _THOUSAND * float(estimate_of(row["usd_per_item"]))

    def ends(row: Result) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
        return (
            range_of(estimate_of(row["item_s"])),
            range_of(estimate_of(row["usd_per_item"]).scaled(_THOUSAND, "USD")),
        )

    return [
        charts.points(
            f"Dollars of 1000 {item_word(inputs)}s against the time of one",
            "Down and left is better. Lines are 90% ranges.",
            {name: [(*of(row), name)] for name, row in priced},
            x=f"s per {item_word(inputs)}",
            y=f"$ per 1000 {item_word(inputs)}s",
            looks=looks_of(priced),
            ends={name: [ends(row)] for name, row in priced},
            finding=said,
        )
    ]
