"""The page of a brief: jobs by rival, then questions for readers outside the field."""

from __future__ import annotations

from collections.abc import Sequence

from mowich.price_terms import term_words
from mowich.show import charts, charts_change
from mowich.show.charts import Chart
from mowich.show.colours import OTHER, look_called
from mowich.show.formats import first_sentence
from mowich.show.page import (
    Column,
    LateCharts,
    Page,
    Part,
    Run,
    Story,
    Table,
    TextCell,
    Words,
    figure,
    paragraphs,
    rows_in,
)
from mowich.shown import Result


def _first(result: Result) -> str:
    """What scale does to the gap of memory, and at which price, in a short sentence."""
    level = {row["id"]: str(row["level"]) for row in result["rows"]}
    scale, price = level["scale"], level["price"]
    return first_sentence(f"With scale {scale}; price: {price}.", f"{scale.capitalize()}; price: {price}.")


def brief_page(result: Result, run: Run) -> Page:
    """Verdict first, then a picture, why, and the numbers with their commands."""
    table = result.get("table") or ()  # an answer of an older version has none
    parts: list[Part] = [_jobs(table), *_flips(table)] if table else []
    for place, row in enumerate(result["rows"], start=1):
        parts.append(Words(text=f"{place}. {row['question']}", kind="heading", indent=0, gap=True))
        parts.append(Words(text=row["verdict"], kind="caption", hang=0))
        parts += [Words(text=f"- {text}", kind="caption", indent=4) for text in row["why"]]
        parts += [Words(text=command, kind="caption", indent=4) for command in row["commands"][:1]]
    inputs, story = result["inputs"], result["story"]
    parts.append(
        Words(
            text="Every number has a 90% range and a name: mowich brief --out brief.json, then mowich explain"
            " brief.json lists them. For the picture of each question: mowich report brief.json",
            kind="next",
            indent=0,
            gap=True,
        )
    )
    return Page(
        title="Trainium 3: does scale and price make up for 144 GiB?",
        sentences=(_first(result), *result["headline"]),
        assumptions=[
            ("beside", ", ".join(inputs["against"])),
            ("trained", f"{inputs['models'][0]}, {inputs['train']['tokens'] * 1e-12:g}T tokens"),
            ("served", ", ".join(inputs["models"])),
            ("price", f"{term_words(inputs['price_term'])} of each machine"),
            ("facts", str(result["facts_hash"])),
        ],
        parts=parts,
        charts=LateCharts(
            lambda: [
                charts_change.waterfall(
                    f"From {story['first']} to {story['second']}, training {inputs['models'][0]}",
                    "Tokens per second of one chip: each step multiplies what stands before it. A step that gains puts"
                    " the second machine ahead.",
                    (str(story["first"]), story["tokens_per_s_per_chip"]),
                    [(f["property"], f["factor"]) for f in story["factors"]],
                    str(story["second"]),
                    unit="tokens/s/chip",
                    looks={n: look_called(n) for n in (str(story["first"]), str(story["second"]))},
                )
            ]
        ),
        records=[
            {"question": row["id"], "number": n["name"], "what": n["what"], "is": n["estimate"], "of": n["of"]}
            for row in result["rows"]
            for n in row["numbers"]
        ],
        inputs=inputs,
        stories=[_story(row) for row in result["rows"]],
    )


def _jobs(rows: Sequence[Result]) -> Table:
    """Each job beside each rival: tokens of a chip and of a dollar."""
    ratios = ("speed", "tuned_speed", "dollar", "tuned_dollar")
    return Table(
        title="Tokens on Trainium 3 over those on the other machine",
        note="Above 1 Trainium 3 makes more of them. A dollar is of what a machine costs its owner, or of your price."
        " Hand-tuned: kernels written by hand, where there are some.",
        columns=[
            Column(name="work", right=False),
            Column(name="beside", right=False),
            Column(name="per chip", format="number"),
            Column(name="per chip, hand-tuned", short="by hand", format="number"),
            Column(name="per dollar", format="interval"),
            Column(name="per dollar, hand-tuned", short="by hand", format="number"),
            Column(name="verdict", right=False),
            Column(name="where it flips", right=False, wide=True),
        ],
        rows=[
            [
                TextCell(row["work"], short=f"{row['model']}, {_JOBS[row['job']]}"),
                TextCell(row["rival_name"], short=row["rival"]),
                *(figure(row[name], _number(row, name)) for name in ratios),
                TextCell(row["level"], hover=row["basis"]),
                row["flips"],
            ]
            for row in rows
        ],
    )


_JOBS = {"train": "training", "serve": "within limits", "bulk": "in bulk"}
"""Jobs where there is little room: serving is what is not training."""


def _number(row: Result, ratio: str) -> str:
    """The name of the number of the first question that a ratio of the table is; "" for one that is not known."""
    if row[ratio]["value"] is None:
        return ""
    software, _, kind = ratio.rpartition("_")
    return f"jobs.numbers.{software or 'shipped'}.{row['job']}.{row['model']}.{row['rival']}.{kind}.estimate"


def _flips(rows: Sequence[Result]) -> list[Words]:
    """Where the other machine is the cheaper one, a sentence for each line of the table."""
    said = [(f"{row['work']}, beside {row['rival_name']}: {row['flips']}") for row in rows if row["flips"]]
    return paragraphs([text[:1].upper() + text[1:] for text in said], "caption", heading="Where it flips", gap=True)


def _story(row: Result) -> Story:
    columns = [
        Column(name="number", right=False, cell=lambda n: TextCell(n["what"])),
        Column(
            name="value",
            format="interval",
            cell=lambda n: figure(n["estimate"], f"{row['id']}.numbers.{n['name']}.estimate"),
        ),
        Column(name="unit", right=False, cell=lambda n: n["estimate"]["unit"] if n["estimate"]["unit"] != "1" else ""),
        Column(name="from", right=False, cell=lambda n: n["of"]),
    ]
    return Story(
        question=row["question"],
        verdict=row["verdict"],
        why=row["why"],
        chart=_picture(row["picture"]),
        numbers=Table(
            title="Numbers",
            columns=columns,
            rows=rows_in(columns, row["numbers"]),
        ),
        commands=row["commands"],
    )


def _picture(data: Result) -> Chart:
    """The chart of a picture's data."""
    title, unit, labels, series = data["title"], data["unit"], data["labels"], data["series"]
    named = [name for name in (*labels, *series) if look_called(name) is not OTHER]
    looks = {name: look_called(name) for name in named}
    if data["kind"] == "ranges":
        values = next(iter(series.values()))
        bars = list(zip(labels, data["low"], values, data["high"], strict=True))
        return charts.ranges(title, "Each with its 90% range.", bars, unit=unit, log=True, looks=looks)
    if data["kind"] == "lines":
        groups = {
            name: [(x, y, label) for x, y, label in zip(data["x"], values, labels, strict=True) if y is not None]
            for name, values in series.items()
        }
        wide = max(data["x"]) / min(data["x"]) > _WIDE
        return charts.points(
            title,
            "",
            groups,
            x=data["x_unit"],
            y=unit,
            log_x=wide,
            log_y=wide,
            line=True,
            looks=looks,
            from_zero=not wide,
        )
    return charts.stacked_bars(title, "", labels, series, unit=unit, looks=looks)


_WIDE = 30.0
"""Lines over a larger span than this have logarithmic axes."""
