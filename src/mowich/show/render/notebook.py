"""Results in a notebook: the report's table and charts, one at a time, with everything that they need inside them.

Nothing is fetched: a picture carries ECharts in a frame of its own, and its numbers as a table beside it. Used through
`mowich.shown.Shown`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from html import escape
from os import PathLike

from mowich.errors import UserError, did_you_mean
from mowich.facts import Facts, load_facts
from mowich.show import colours
from mowich.show.charts import Chart
from mowich.show.explain import explain_text
from mowich.show.formats import number_text
from mowich.show.json import to_json
from mowich.show.page import Page
from mowich.show.render.csv import to_csv
from mowich.show.render.frame import csv_rows, frame_of, write_csv, write_parquet_rows
from mowich.show.render.html import script_json, static
from mowich.show.render.terminal import Style, terminal
from mowich.show.verbs import has_page, page_of
from mowich.shown import Frame, Rows, Shown, plain_row
from mowich.studies.explain import explain

_MOST_ROWS = 20
"""Rows of a table in a notebook; `rows()` has them all."""

STYLE = (
    "<style>.mowich table{border-collapse:collapse;font-size:90%}.mowich th,.mowich td{padding:.2em"
    " .6em;text-align:right;white-space:nowrap}.mowich th:first-child,.mowich td:first-child{text-align:left}.mowich"
    " caption{text-align:left;padding:.2em 0}</style>"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Picture:
    """A chart that shows itself. chart: what it draws (`option` for ECharts, `head` and `rows` the same as a table)."""

    chart: Chart

    def html(self) -> str:
        """The picture as a whole document that needs nothing else."""
        ways = script_json([*self.chart.views.values()] or [self.chart.option])
        script = (
            "const box=document.getElementById('c'),dark=matchMedia('(prefers-color-scheme: dark)').matches;"
            f"const ways={ways};let way=0,chart=null;"
            "const draw=()=>{const [fits,more]=fitted(ways[way],box.clientWidth,dark);"
            f"box.style.height={self.chart.height}+more+'px';chart?.dispose();"
            "chart=echarts.init(box,dark?'dark':null,{renderer:'svg'});chart.setOption(fits);};draw();"
            "addEventListener('resize',()=>chart.resize());"
            "document.querySelectorAll('button').forEach((b,i,all)=>b.addEventListener('click',()=>{way=i;draw();"
            "all.forEach((o)=>o.setAttribute('aria-pressed',String(o===b)));}));"
        )
        buttons = "".join(
            f'<button type="button" aria-pressed="{"false" if i else "true"}">{escape(name)}</button> '
            for i, name in enumerate(self.chart.views)
        )
        title = escape(self.chart.title)
        return (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title></head><body'
            f' style="margin:0;font-family:sans-serif">{buttons}'
            f'<div id="c" role="img" aria-label="{title}; the numbers follow as a table"'
            f' style="height:{self.chart.height}px"></div>'
            f"<details><summary>Numbers</summary>{_table(self.chart.title, self.chart.head, self.chart.rows)}</details>"
            f"<script>{static('echarts.min.js')}{colours.script()}{static('fitted.js')}</script><script>{script}</script></body></html>"
        )

    def _repr_html_(self) -> str:
        height = self.chart.height + 60
        title = escape(self.chart.title)
        return (
            f"<p><b>{escape(self.chart.finding or self.chart.title)}</b> {escape(self.chart.whole_note)}</p>"
            f'<iframe title="{title}" sandbox="allow-scripts" style="width:100%;height:{height}px;border:0"'
            f' srcdoc="{escape(self.html())}"></iframe>'
        )


def page(result: Shown) -> Page | None:
    """The report's page of a result, where its kind has one."""
    data = result.to_dict()
    return page_of(json.loads(json.dumps(data, default=_plain))) if has_page(data) else None


def _plain(value: object) -> object:
    return value.to_dict() if hasattr(value, "to_dict") else value.item() if hasattr(value, "item") else str(value)


def html(result: Shown) -> str:
    """Headline, main table and remarks of a result; a result without a page is a table of its rows."""
    made = page(result)
    if made is not None and made.tables:
        first = made.tables[0]
        table = _table(first.title, first.head, first.cells()[:_MOST_ROWS], len(first.rows))
        under = f"<p>{escape(made.under)}</p>" if made.under else ""
        said = "".join(f"<p>{escape(text)}</p>" for text in made.said("warning", "note", "basis"))
        return f'{STYLE}<div class="mowich"><p><b>{escape(made.headline)}</b></p>{under}{table}{said}</div>'
    found = getattr(result, "rows", None)
    rows = found()[:_MOST_ROWS] if callable(found) else [plain_row(result.to_dict())]
    head = list(dict.fromkeys(k for row in rows for k, v in row.items() if v not in (None, "")))
    body = [[_cell(row.get(k)) for k in head] for row in rows]
    total = len(found) if isinstance(found, Rows) else len(rows)
    return f'{STYLE}<div class="mowich">{_table(str(result.to_dict().get("schema", "")), head, body, total)}</div>'


def text(result: Shown) -> str:
    """A result as the command line prints it; of one without a page, its fields."""
    made = page(result)
    return repr(result) if made is None else terminal(made, Style(fold=False)).rstrip("\n")


def _cell(value: object) -> str:
    return number_text(value) if isinstance(value, float) else "?" if value is None else str(value)


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]], total: int | None = None) -> str:
    def cell(content: object) -> str:
        text, hover = content[:2] if isinstance(content, tuple) else (content, "")
        return (
            f'<td title="{escape(str(hover))}">{escape(str(text))}</td>' if hover else f"<td>{escape(str(text))}</td>"
        )

    heads = "".join(f'<th scope="col">{escape(str(h))}</th>' for h in head)
    body = "".join("<tr>" + "".join(map(cell, row)) + "</tr>" for row in rows)
    more = f", the first {len(rows)} of {total}" if total is not None and total > len(rows) else ""
    return (
        f"<table><caption>{escape(title)}{more}</caption><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
    )


def _charts(result: Shown) -> list[Chart]:
    made = page(result)
    return [] if made is None else list(made.charts)


def pictures(result: Shown) -> list[str]:
    """Titles of a result's charts."""
    return [chart.title for chart in _charts(result)]


PICTURES = {
    "pareto": ("pareto", "throughput of a chip against speed", "cost against time"),
    "time": ("where the time", "where the step", "what the time is made of", "time against"),
    "memory": ("memory of", "cache of"),
    "ranges": ("90% range", "their ranges"),
    "cost": ("cost against", "cost of"),
    "drivers": ("what moves",),
    "waterfall": ("from ",),
    "engines": ("engines:", "whom an engine"),
    "power": ("power of",),
    "accuracy": ("predicted against measured",),
    "work": ("who does what",),
}
"""Name of a kind of picture -> beginnings or parts of titles, the best first."""


def _of_kind(name: str, charts: Sequence[Chart]) -> Chart | None:
    """The picture of a kind that a result has."""
    for part in PICTURES.get(name, ()):
        for chart in charts:
            title = chart.title.casefold()
            if title.startswith(part) or (part != "from " and part in title):
                return chart
    return None


def plot(result: Shown, which: int | str) -> Picture:
    """One chart of a result, by place, by the name of its kind or by a part of its title. Raises UserError, with the
    names and the titles, where there is none."""
    charts = _charts(result)
    titles = [chart.title for chart in charts]
    if isinstance(which, int) and -len(charts) <= which < len(charts):
        return Picture(charts[which])
    if isinstance(which, str):
        word = which.casefold().strip()
        named = next((chart for chart in charts if word and word in chart.title.casefold()), None)
        chosen = _of_kind(word, charts) or named
        if chosen is not None:
            return Picture(chosen)
    kinds = [name for name in PICTURES if _of_kind(name, charts) is not None]
    raise UserError(
        "no such picture",
        given=which,
        allowed=[*kinds, *titles] or "none: this kind of result has no pictures",
        fix=did_you_mean(str(which), [*kinds, *titles]),
    )


def _plain_rows(result: Shown) -> list[dict[str, object]]:
    """Rows of plain numbers; of a result without rows, one of what it says."""
    found = getattr(result, "rows", None)
    return found() if isinstance(found, Rows) else [plain_row(result.to_dict())]


def frame(result: Shown, library: str | None) -> Frame:
    """The rows of a result as a dataframe."""
    return frame_of(_plain_rows(result), library)


def csv(result: Shown, path: str | PathLike[str] | None) -> str:
    """The rows of a result as `--csv` prints them, also written where a path is given."""
    made = page(result)
    text = to_csv(made.records) if made is not None and made.records else csv_rows(_plain_rows(result), is_shown=True)
    if path is not None:
        write_csv(text, str(path))
    return text


def parquet(result: Shown, path: str | PathLike[str]) -> None:
    """Write the rows of a result as one Parquet file."""
    write_parquet_rows(_plain_rows(result), str(path))


def file_text(result: Shown, inputs: Mapping[str, object], more: Mapping[str, object]) -> str:
    """A result as a file of JSON. inputs: beside its own; more: beside the result."""
    return to_json({**result.to_dict(), **more}, inputs=inputs)


def explained(result: Shown, metric: str, facts: object) -> str:
    """`mowich explain` of a number of a result. facts: None: the shipped ones."""
    if facts is not None and not isinstance(facts, Facts):
        raise UserError("not facts", field="facts", given=facts, allowed="what mowich.facts.load_facts() gives")
    return explain_text(
        explain(result.to_dict(), metric, facts or load_facts()), Style(colour=False, unicode=True, width=120)
    )
