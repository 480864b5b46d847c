"""The page of `mowich explain`: a number, what it is the sum of, the formulas with their numbers, and the facts behind
them.

Of what `studies.explain` returns. Every fact shows value, range, grade, title, locator and date, and the facts
whose ranges move the answer most come last, largest first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mowich.estimate import Estimate, Term
from mowich.facts import Fact
from mowich.formula import printed
from mowich.show.formats import UNKNOWN, headed
from mowich.show.page import NOTHING, Cell, Column, Page, Table, Words, paragraphs
from mowich.show.render.terminal import Style, terminal
from mowich.shown import Result
from mowich.studies.explain.headline import headline_metrics
from mowich.studies.explain.tree import at, is_estimate, name_of, numbers
from mowich.sums import float_sum
from mowich.units import show, show_gib, sig

if TYPE_CHECKING:
    from mowich.studies.explain import Explainer, Explanation, Move


MOST_FACTS = 10
"""Of a term, shown; those that move it most come first."""

COUNTED = ("chips", "devices", "sequences", "requests", "tokens", "workers")
"""Units that are shown whole."""


def _quantity(value: float | str | None, unit: str) -> str:
    """A fact's or a term's value with its unit; bytes also as GiB when large."""
    if isinstance(value, str):
        return value
    if value is not None and unit in ("", "1"):
        return f"{value:.4g}"
    if value is not None and unit == "B" and abs(value) >= 2**30:
        return f"{show(value, unit)} ({show_gib(value)})"
    if value is not None and unit in COUNTED and value == round(value) and abs(value) < 1e9:
        return f"{round(value)} {unit}"
    return show(value, unit)


def plain(value: float) -> str:
    """An input of a formula: counts whole, the rest with four significant digits.

    >>> plain(16384.0), plain(0.0026643)
    ('16384', '0.002664')
    """
    return str(round(value)) if value == round(value) and abs(value) < 1e9 else sig(value, 4)


def fact_words(fact: Fact) -> list[Words]:
    """One fact: value, range, grade, then where it comes from."""
    said = [Words(text=f"{fact.path} = {fact.as_written} [{fact.grade or '?'}]", kind="caption")]
    if fact.value is None:
        more = [f"unknown: {fact.reason}"]
    else:
        where = ", ".join(str(x) for x in (fact.title or fact.source, fact.locator, fact.date) if x)
        more = [f"from {where}"] if where else []
        more += [str(fact.address)] if fact.address else []
        notes = (("formula", fact.formula), ("reason", fact.reason), ("note", fact.note))
        more += [f"{word}: {text}" for word, text in notes if text]
    return said + paragraphs(more, "caption", indent=6)


def _used_by(terms: Sequence[Term]) -> dict[str, list[Term]]:
    """Which earlier terms each term reads: a part of its own name, or those whose name or last word equals one of its
    inputs."""
    out: dict[str, list[Term]] = {}
    seen: dict[str, Term] = {}
    for term in terms:
        found = [seen.get(f"{term.name}.{k}") or seen.get(k) for k in term.inputs]
        reads = [t for t in found if t is not None and t is not term]
        out[term.name] = [t for i, t in enumerate(reads) if t not in reads[:i]]
        seen[term.name] = term
        if not term.name.endswith(".step"):  # of one part, read by that part alone
            seen.setdefault(term.name.rsplit(".", 1)[-1], term)
    return out


def tree_words(terms: Sequence[Term]) -> list[Words]:
    """Terms as a tree: the last first, what it reads below it, each term once."""
    reads = _used_by(terms)
    drawn: set[str] = set()
    out: list[Words] = []

    def draw(term: Term, depth: int) -> None:
        if term.name in drawn:
            return
        drawn.add(term.name)
        indent = 2 + 3 * depth
        out.append(Words(text=f"{term.name}  {_quantity(term.value, term.unit)}", kind="caption", indent=indent))
        more = [f"= {printed(term.formula)}"] if term.formula else []
        more += [f"how: {term.words}"] if term.words else []
        more += [inputs_line(term.inputs, term.units)] if term.inputs else []
        more += [term.note] if term.note else []
        rest = f" and {len(term.facts) - MOST_FACTS} more" if len(term.facts) > MOST_FACTS else ""
        more += ["facts: " + ", ".join(term.facts[:MOST_FACTS]) + rest] if term.facts else []
        out.extend(paragraphs(more, "caption", indent=indent + 2))
        for child in reads[term.name]:
            draw(child, depth + 1)

    for term in reversed(terms):
        draw(term, 0)
    return out


def change_words(change: float) -> str:
    """A relative change: "+12%", "+0.3%", "+0.004%".

    >>> change_words(0.123), change_words(0.0031), change_words(-0.5)
    ('+12%', '+0.31%', '-50%')
    """
    size = abs(100.0 * change)
    return f"{100.0 * change:+.0f}%" if size >= 10 else f"{100.0 * change:+.2g}%"


def moves_said(moves: Sequence[Move], top: int = 6) -> list[str]:
    """What each fact does to the number at the ends of its range; of facts without a range, what one per cent more
    does."""
    ranged = [m for m in moves if not m.is_nudge]
    said = []
    for m in ranged[:top]:
        flips = f"; best then: {m.flips}" if m.flips else ""
        said.append(
            f"{m.fact.path}, {m.fact.shown_range}: {change_words(m.at_low)} at its low end, "
            f"{change_words(m.at_high)} at its high"
            f" end{flips}"
        )
    nudged = [m for m in moves if m.is_nudge][: max(0, top - len(ranged))]
    return said + [f"{m.fact.path}: {change_words(m.at_high)} for {m.high / m.low - 1:+.0%}" for m in nudged]


def parts_said(parts: Mapping[str, float], unit: str) -> list[str]:
    """What the number is the sum of, largest first, with shares."""
    total = float_sum(parts.values())
    rows = sorted(((k, v) for k, v in parts.items() if abs(v) > 1e-6 * abs(total)), key=lambda kv: -abs(kv[1]))
    wide = max((len(k) for k, _ in rows), default=0)
    return [f"{k.ljust(wide)}  {_quantity(v, unit):>22}  {v / total:6.1%}" if total else k for k, v in rows]


AS_IT_IS = ("1/s", "USD/chip/s")
"""Units that a formula's inputs keep: a price by the hour would not give the number with seconds beside it."""


def put_in(value: float | str, unit: str) -> str:
    """An input of a formula with its unit.

    >>> put_in(16384.0, ""), put_in(16384.0, "chips"), put_in(0.0026643, "s")
    ('16384', '16384 chips', '2.664 ms')
    """
    if isinstance(value, str):
        return f"{value} {unit}" if unit else value
    if unit in ("", "1"):
        return plain(value)
    return f"{plain(value)} {unit}" if unit in COUNTED or unit in AS_IT_IS else show(value, unit, 4)


def inputs_line(inputs: Mapping[str, float | str], units: Mapping[str, str]) -> str:
    """Names of a formula with their numbers: "chips 8192 chips, step_s 4.2 s"."""
    return ", ".join(f"{k} {put_in(v, units.get(k, ''))}" for k, v in inputs.items())


def explain_page(e: Explanation) -> Page:
    """One number of a result."""
    return Page(
        title=e.title,
        sentences=headed(
            _head(e.title, e.estimate),
            f"{e.title} = {_quantity(e.estimate.value, e.estimate.unit)}",
            f"It is {_quantity(e.estimate.value, e.estimate.unit)}.",
        ),
        parts=(
            Words(text=e.says, kind="caption"),
            *paragraphs([f"= {printed(e.formula)}"] if e.formula else [], "caption"),
            *paragraphs([inputs_line(e.inputs, e.units)] if e.inputs else [], "caption", indent=4),
            *paragraphs([e.words] if e.words else [], "caption", heading=f"How it comes about ({e.kind})", gap=True),
            *paragraphs(
                parts_said(e.parts, e.estimate.unit) if len(e.parts) > 1 else [], "caption", heading="Sum of", gap=True
            ),
            *_under("Formulas", [*_held_words(e), *tree_words(e.terms)]),
            *_under("Facts", [w for fact in e.facts for w in fact_words(fact)]),
            *paragraphs(
                moves_said(e.moves),
                "caption",
                heading="What would move it most (one fact at a time, plans fixed"
                + (f", {e.held} settled anew)" if e.held else ")"),
                gap=True,
            ),
        ),
    )


def _head(title: str, number: Estimate) -> str:
    """A number with its range and its grade."""
    head = f"{title} = {_quantity(number.value, number.unit)}"
    if number.value is None:
        head += f" ({number.reason})"
    elif number.low is not None and number.high is not None and number.high > number.low:
        head += f", 90% range {show(number.low, number.unit)} .. {show(number.high, number.unit)}"
    return head + (f", grade {number.grade}" if number.grade else "")


def explanation_said(data: Result) -> list[str]:
    """What the JSON of an explanation says in a few sentences: the number with its range, what it is, its formula; of a
    list of names, how many there are.

    Units: those of the number.
    """
    if "metrics" in data:
        return [f"{len(data['metrics'])} numbers; those that say most: {', '.join(data['first'])}."]
    number = Estimate(
        **{key: data[key] for key in ("value", "unit", "low", "high", "reason")}, grade=data["grade"] or ""
    )
    return [f"{_head(data['title'], number)}.", *filter(None, (data["says"], data["formula"]))]


def _held_words(e: Explanation) -> list[Words]:
    """What the facts of the terms leave as it is."""
    said = f"facts of a part: those that move it with {e.held} held as they are"
    return [Words(text=said, kind="caption")] if e.held and any(t.facts for t in e.terms) else []


def _under(heading: str, said: Sequence[Words]) -> list[Words]:
    return [Words(text=heading, kind="heading", indent=0, gap=True), *said] if said else []


def explain_text(e: Explanation, style: Style) -> str:
    """An explanation as text."""
    return terminal(explain_page(e), style)


def metrics_page(explainer: Explainer, *, whole: bool = False) -> Page:
    """The numbers of a result that say most, or every one that can be explained (whole), with what each is."""
    result = explainer.result
    rows: list[list[Cell]] = []
    known = list(numbers(result))
    shown = known if whole else headline_metrics(result)
    for path in shown:
        node = at(result, path)
        e = Estimate.from_dict(node) if is_estimate(node) else None
        rule = explainer.rule(path)
        unit = e.unit if e is not None else rule.unit if rule else "1"
        value = e.value if e is not None else node
        said = UNKNOWN if value is None else _quantity(float(value), unit)
        rows.append([name_of(result, path), said, rule.says if rule else NOTHING])
    of = f" of {len(known)} numbers (--all: all of them)" if len(shown) < len(known) else " numbers"
    columns = [Column(name="name", right=False), Column(name="value"), Column(name="what it is", right=False)]
    return Page(
        title="Numbers of a result",
        sentences=(f"{len(rows)}{of}.", "mowich explain RESULT NAME explains one."),
        parts=(Table(title="Numbers", columns=columns, rows=rows, elsewhere="--json"),),
    )
