"""One answer as one HTML file: offline, printable, readable without pictures, mailable.

It draws the same page as a terminal, with the columns and tables that a terminal has no room for, pictures, the facts
behind it all, and the inputs that make it again. ECharts is inside the file; nothing is fetched. `deepen_page` adds
what needs the facts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from importlib import resources

import yaml

from mowich.errors import UserError
from mowich.facts import Fact, Facts
from mowich.requests.command import command_of
from mowich.show import colours
from mowich.show.charts import Chart
from mowich.show.deepen import deepen_page, explainer_of
from mowich.show.glossary import term_of
from mowich.show.page import Page, Run, Table
from mowich.show.verbs import page_of
from mowich.shown import Result
from mowich.studies.explain import Explainer


@cache
def static(name: str) -> str:
    """A file that goes into every page."""
    return resources.files("mowich.show").joinpath("static", name).read_text(encoding="utf-8")


MANY_CHARTS = 8
"""Pictures of a page above which paper has three beside one another, not two."""

MOST_CARDS = 24
"""Rows of a table that a phone shows as a card each; a longer one scrolls."""

_RANGE = re.compile(r"(\S+) (\([^()]*\))( \S)?")


def _td(cell: str | tuple[str, str, str], head: str = "") -> str:
    label = f' data-head="{escape(head)}"' if head else ""
    if isinstance(cell, str):
        return f"<td{label}>{escape(cell)}</td>"
    text, hover, name = cell
    metric = f' data-metric="{escape(name)}"' if name else ""
    found = _RANGE.fullmatch(text)  # where room is short the range goes below its value, whole
    shown = (
        f'{escape(found[1])}{found[3] or ""} <span class="range">{escape(found[2])}</span>' if found else escape(text)
    )
    said = f'<span class="sr">; {escape(hover)}</span>' if hover else ""
    title = f' title="{escape(hover)}"' if hover else ""
    kind = ' class="ranged"' if found else ""
    return f'<td{kind}{label} tabindex="0"{metric}{title}>{shown}{said}</td>'


def _title(head: str) -> str:
    """What the head of a column means, where there is a pointer."""
    term = term_of(head)
    return f' title="{escape(term.means)}"' if term is not None else ""


def _table(table: Table) -> str:
    head = "".join(
        f'<th scope="col" aria-sort="none"{_title(h)}><button'
        f' type="button">{escape(h).replace("/", "/<wbr>")}</button></th>'
        for h in table.head
    )
    cards = len(table.rows) <= MOST_CARDS
    heads = table.head if cards else [""] * len(table.head)
    body = "".join(
        "<tr>" + "".join(_td(c, h) for c, h in zip(row, heads, strict=True)) + "</tr>" for row in table.cells()
    )
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    name = escape(table.title)
    if not table.rows:
        return f"<section><h2>{name}</h2><p>None.</p></section>"
    return (
        f'<section><h2>{name}</h2>{note}<div class="scroll" tabindex="0" role="region" aria-label="{name}"><table'
        f' class="sortable{" cards" if cards else ""}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        "</div></section>"
    )


MOST_BESIDE = 104
"""Characters of a row that has room in one of two columns of a printed page."""


def _width(table: Table) -> int:
    """Characters of a table's widest row, each column as wide as its longest cell, or as the longest word of its
    head."""
    rows = [[cell if isinstance(cell, str) else cell[0] for cell in row] for row in table.cells()]
    heads = [max((len(word) for word in head.split()), default=0) for head in table.head]
    return sum(max([head, *(len(row[i]) for row in rows)]) + 2 for i, head in enumerate(heads))


def _more_tables(page: Page) -> str:
    """The tables below the pictures; narrow ones stand beside one another on paper."""
    made = [
        _table(t).replace("<section>", '<section class="broad">', 1) if _width(t) > MOST_BESIDE else _table(t)
        for t in page.tables[1:]
    ]
    return f'<div class="tables">{"".join(made)}</div>' if made else ""


def _chart(place: int, chart: Chart, command: str) -> str:
    """A picture below what one sees in it; the ways to draw it, its numbers and its command below it."""
    rows = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in chart.rows)
    head = "".join(f'<th scope="col">{escape(h)}</th>' for h in chart.head)
    name = escape(chart.title)
    ways = "".join(
        f'<button type="button" aria-pressed="{"false" if i else "true"}">{escape(way)}</button>'
        for i, way in enumerate(chart.views)
    )
    views = f'<div class="views" role="group" aria-label="{name}, drawn as">{ways}</div>' if ways else ""
    made = chart.command or command
    again = f"<details><summary>Command{_of(name)}</summary>{_copied(made)}</details>" if made else ""
    return (
        f'<figure><h2>{escape(chart.finding or chart.title)}</h2><p class="note">{escape(chart.whole_note)}</p>{views}'
        "<div"
        f' class="chart" id="chart{place}" role="img" aria-label="{name}; the numbers follow as a table"'
        f' data-height="{chart.height}" style="height:{chart.height}px"></div><div class="under"><details><summary>'
        f'Numbers{_of(name)}</summary><div class="scroll" tabindex="0" role="region" aria-label="Numbers of {name}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></details>{again}</div></figure>"
    )


def _of(name: str) -> str:
    """Whose it is, for those who only hear the page."""
    return f'<span class="sr"> of {name}</span>'


def _copied(text: str) -> str:
    return f'<div class="copy"><pre>{escape(text)}</pre><button type="button">Copy</button></div>'


def _charts(page: Page, command: str) -> str:
    made = "".join(_chart(i, c, command) for i, c in enumerate(page.charts))
    many = " many" if len(page.charts) > MANY_CHARTS else ""
    return f'<div class="charts{many}">{made}</div>' if made else ""


def _stories(page: Page, command: str) -> str:
    """Questions in order, each with its picture; the pictures stand behind those of the page."""
    out, before = [], len(page.charts)
    for place, story in enumerate(page.stories):
        why = "".join(f"<li>{escape(text)}</li>" for text in story.why)
        commands = "".join(map(_copied, story.commands))
        out.append(
            f'<section class="story"><h2>{place + 1}. {escape(story.question)}</h2><p'
            f' class="verdict">{escape(story.verdict)}</p>{_chart(before + place, story.chart, command)}<ul>{why}</ul>'
            '<details><summary>The numbers, and what makes them<span class="sr">:'
            f" {escape(story.question)}</span></summary>{_table(story.numbers)}{commands}</details></section>"
        )
    return "".join(out)


def _notes(page: Page) -> str:
    """Remarks on rows and numbers, and what the answer rests on: the same that a terminal prints."""
    said = "".join(f"<li>{escape(text)}</li>" for text in page.said("note", "basis"))
    return f'<section class="notes"><h2>Notes</h2><ul>{said}</ul></section>' if said else ""


def anchor(path: str) -> str:
    """The id of a fact on the page."""
    return "fact-" + "".join(c if c.isalnum() else "-" for c in path)


def _source(fact: Fact) -> str:
    """Where a fact comes from; the address is a link that a reader may follow, nothing is loaded."""
    title = escape(fact.title or fact.source or "")
    address = str(fact.address or "")
    if address.startswith(("https://", "http://")):
        title = f'<a href="{escape(address)}" rel="noreferrer noopener">{title or escape(address)}</a>'
    where = ", ".join(x for x in (title, escape(fact.locator or ""), escape(str(fact.date or ""))) if x)
    more = "; ".join(
        f"{w}: {escape(t)}" for w, t in (("formula", fact.formula), ("reason", fact.reason), ("note", fact.note)) if t
    )
    return where + (f'<br><span class="note">{more}</span>' if more else "")


def _facts(facts: Sequence[Fact]) -> str:
    if not facts:
        return ""
    rows = "".join(
        f'<tr id="{anchor(f.path)}"><td>{escape(f.path)}</td><td>{escape(f.as_written)}</td>'
        f'<td>{escape(f.grade or "?")}</td><td class="wrap">{_source(f)}</td></tr>'
        for f in facts
    )
    count = {g: sum(f.grade == g for f in facts) for g in ("A", "B", "C", "D", "user")}
    words = ", ".join(f"{n} of grade {g}" if g != "user" else f"{n} of the user" for g, n in count.items() if n)
    return (
        f'<section><h2>Sources</h2><p class="note">{len(facts)} facts stand behind these numbers: {words}. A vendor'
        " document, B independent measurement, C derived with its formula, D estimate.</p><details"
        ' class="sources"><summary>All facts with their sources</summary><div class="scroll" tabindex="0"'
        ' role="region" aria-label="Sources"><table><thead><tr><th scope="col">fact</th><th scope="col">value'
        ' (range)</th><th scope="col">grade</th><th scope="col"'
        f' class="words">source</th></tr></thead><tbody>{rows}</tbody></table></div></details></section>'
    )


def _inputs(page: Page, command: str) -> str:
    text = (
        yaml.safe_dump(json.loads(json.dumps(page.inputs)), sort_keys=False, allow_unicode=True, width=120)
        if page.inputs
        else ""
    )
    made = f"<h3>Command</h3>{_copied(command)}" if command else ""
    given = f'<h3 class="given">Inputs as YAML, fully resolved</h3>{_copied(text)}' if text else ""
    if not made and not given:
        return ""
    return (
        '<details class="again"><summary><h2>Make it again</h2></summary>'
        f'{made}<div class="given">{given}</div></details>'
    )


def _assumptions(page: Page) -> str:
    """What the answer assumes, folded; prices, power and PUE link to their facts."""
    said = "".join(_assumption(page, a) for a in page.assumptions)
    return (
        f'<details class="assumed"><summary><h2>Assumptions</h2></summary><dl class="strip">{said}</dl></details>'
        if said
        else ""
    )


def _assumption(page: Page, item: Sequence[str]) -> str:
    what, value = item[0], item[1]
    known = {f.path for f in page.facts}
    said = f'<a href="#{anchor(item[2])}">{escape(value)}</a>' if len(item) > 2 and item[2] in known else escape(value)
    return f"<div><dt>{escape(what)}</dt><dd>{said}</dd></div>" if value else ""


def script_json(data: object) -> str:
    """JSON that may stand inside a script element."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def filled(template: str, parts: Mapping[str, str]) -> str:
    """A template with each {{name}} replaced by its part, in one pass: what is filled in is never a template."""
    first, *pieces = template.split("{{")
    out = [first]
    for piece in pieces:
        name, _, rest = piece.partition("}}")
        out += [parts[name], rest]
    return "".join(out)


def _run(explainer: Explainer | None) -> Run:
    """The model of the answer, where it can be loaded."""
    if explainer is None:
        return Run()
    try:
        return Run(model=explainer.model())
    except (UserError, KeyError):  # a file of the user's that is not here, an answer without a model
        return Run()


def render_html(
    result: Result, *, command: str = "", facts: Facts | None = None, explainer: Explainer | None = None
) -> str:
    """A result (as its JSON has it) -> one HTML document. facts: those that it was made with, for what `deepen_page`
    adds (None: the page of the JSON alone);
    explainer: in their place, where the model is not to be loaded by its name. Raises UserError for a kind
    without a page."""
    if explainer is None and facts is not None:
        explainer = explainer_of(result, facts)
    page = page_of(result, _run(explainer))
    warnings = list(page.warnings)
    if explainer is not None:
        warnings += explainer.warnings()
        try:
            page = deepen_page(page, explainer)
        except UserError as error:  # the model or the scenario is not here
            warnings.append(f"without facts and sensitivities: {error.line()}")
    command = command or command_of(result)
    said = "".join(f'<p class="warning">{escape(w)}</p>' for w in warnings)
    body = (
        "".join(_table(t) for t in page.tables[:1])
        + _charts(page, command)
        + _stories(page, command)
        + _more_tables(page)
        + _notes(page)
        + _assumptions(page)
        + _facts(page.facts)
    )
    drawn = [*page.charts, *(s.chart for s in page.stories)]
    parts = {
        "title": escape(page.title),
        "style": colours.css() + static("report.css"),
        "headline": escape(page.headline),
        "under": f'<p class="beneath">{escape(page.under)}</p>' if page.under else "",
        "warnings": said,
        "body": body,
        "inputs": _inputs(page, command),
        "options": script_json([c.option for c in drawn]),
        "views": script_json([list(c.views.values())[1:] for c in drawn]),
        "script": static("report.js"),
        "echarts": static("echarts.min.js") + colours.script() + static("fitted.js") if drawn else "",
    }
    return filled(static("report.html"), parts)
