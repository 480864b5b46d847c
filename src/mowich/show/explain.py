"""The text of `mowich explain`: a number, what it is the sum of, the formulas with their numbers, and the facts behind
them.

Renders what `studies.explain` returns. Every fact shows value, range, grade, title, locator and date, and the facts
whose ranges move the answer most come last, largest first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mowich.estimate import Estimate, Term
from mowich.facts import Fact
from mowich.show.table import Style, wrap
from mowich.studies.explain.tree import at, is_estimate, name_of, numbers
from mowich.units import show, show_gib, sig

if TYPE_CHECKING:
    from mowich.studies.explain import Explainer, Explanation, Move


COUNTED = ("chips", "devices", "sequences", "requests", "tokens", "workers")
"""Units that are shown whole."""


def quantity(value: float | str | None, unit: str) -> str:
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


def fact_lines(fact: Fact, style: Style, *, indent: int = 2) -> list[str]:
    """One fact: value, range, grade, then where it comes from."""
    lines = wrap(f"{fact.path} = {fact.as_written} [{fact.grade or '?'}]", style, indent=indent)
    if fact.value is None:
        lines += wrap(f"unknown: {fact.reason}", style, indent=indent + 4)
        return lines
    where = ", ".join(str(x) for x in (fact.title or fact.source, fact.locator, fact.date) if x)
    if where:
        lines += wrap(f"from {where}", style, indent=indent + 4)
    if fact.address:
        lines += [" " * (indent + 4) + str(fact.address)]
    for word, text in (("formula", fact.formula), ("reason", fact.reason), ("note", fact.note)):
        if text:
            lines += wrap(f"{word}: {text}", style, indent=indent + 4)
    return lines


def _used_by(terms: Sequence[Term]) -> dict[str, list[Term]]:
    """Which earlier terms each term reads: those whose name or last word equals one of its inputs."""
    out: dict[str, list[Term]] = {}
    seen: dict[str, Term] = {}
    for term in terms:
        reads = [seen[k] for k in term.inputs if k in seen and seen[k] is not term]
        out[term.name] = [t for i, t in enumerate(reads) if t not in reads[:i]]
        seen[term.name] = term
        seen.setdefault(term.name.rsplit(".", 1)[-1], term)
    return out


def tree_lines(terms: Sequence[Term], style: Style) -> list[str]:
    """Terms as a tree: the last first, what it reads below it, each term once."""
    reads = _used_by(terms)
    drawn: set[str] = set()
    lines: list[str] = []

    def draw(term: Term, depth: int) -> None:
        indent = 2 + 3 * depth
        if term.name in drawn:
            return
        drawn.add(term.name)
        lines.extend(wrap(style.bold(term.name) + f"  {quantity(term.value, term.unit)}", style, indent=indent))
        if term.formula:
            lines.extend(wrap(f"= {term.formula}", style, indent=indent + 2))
        if term.inputs:
            lines.extend(wrap(inputs_line(term.inputs), style, indent=indent + 2))
        if term.note:
            lines.extend(wrap(term.note, style, indent=indent + 2))
        if term.facts:
            lines.extend(wrap("facts: " + ", ".join(term.facts), style, indent=indent + 2))
        for child in reads[term.name]:
            draw(child, depth + 1)

    for term in reversed(terms):
        draw(term, 0)
    return lines


def share(change: float) -> str:
    """A relative change: "+12%", "+0.3%", "+0.004%".

    >>> share(0.123), share(0.0031), share(-0.5)
    ('+12%', '+0.31%', '-50%')
    """
    size = abs(100.0 * change)
    return f"{100.0 * change:+.0f}%" if size >= 10 else f"{100.0 * change:+.2g}%"


def moves_lines(moves: Sequence[Move], style: Style, top: int = 6) -> list[str]:
    """What each fact does to the number at the ends of its range; of facts without a range, what one per cent more
    does."""
    lines: list[str] = []
    ranged = [m for m in moves if not m.is_nudge]
    for m in ranged[:top]:
        flips = f"; best then: {m.flips}" if m.flips else ""
        lines += wrap(
            f"{m.fact.path}, {m.fact.shown_range}: {share(m.at_low)} at its low end, {share(m.at_high)} at its high"
            f" end{flips}",
            style,
        )
    for m in [m for m in moves if m.is_nudge][: max(0, top - len(ranged))]:
        lines += wrap(f"{m.fact.path}: {share(m.at_high)} for {m.high / m.low - 1:+.0%}", style)
    return lines


def parts_lines(parts: Mapping[str, float], unit: str) -> list[str]:
    """What the number is the sum of, largest first, with shares."""
    total = sum(parts.values())
    rows = sorted(((k, v) for k, v in parts.items() if abs(v) > 1e-6 * abs(total)), key=lambda kv: -abs(kv[1]))
    wide = max((len(k) for k, _ in rows), default=0)
    return [f"  {k.ljust(wide)}  {quantity(v, unit):>22}  {v / total:6.1%}" if total else f"  {k}" for k, v in rows]


def inputs_line(inputs: Mapping[str, float | str]) -> str:
    """Names of a formula with their numbers: "chips 8192, step_s 4.2"."""
    return ", ".join(f"{k} {v if isinstance(v, str) else plain(v)}" for k, v in inputs.items())


def explain_text(e: Explanation, style: Style) -> str:
    """The report of `mowich explain`."""
    value = e.estimate
    head = f"{e.title} = {quantity(value.value, value.unit)}"
    if value.value is None:
        head += f" ({value.reason})"
    elif value.low is not None and value.high is not None and value.high > value.low:
        head += f", 90% range {show(value.low, value.unit)} .. {show(value.high, value.unit)}"
    if value.grade:
        head += f", grade {value.grade}"
    lines = [*(style.bold(x) for x in wrap(head, style, indent=0)), *wrap(e.says, style)]
    if e.formula:
        lines += wrap(f"= {e.formula}", style, indent=2)
    if e.inputs:
        lines += wrap(inputs_line(e.inputs), style, indent=4)
    if len(e.parts) > 1:
        lines += ["", "Sum of", *parts_lines(e.parts, value.unit)]
    if e.terms:
        lines += ["", "Formulas", *tree_lines(e.terms, style)]
    if e.facts:
        lines += ["", "Facts"]
        for fact in e.facts:
            lines += fact_lines(fact, style)
    moved = moves_lines(e.moves, style)
    if moved:
        lines += ["", "What would move it most (one fact at a time, plans fixed)", *moved]
    return "\n".join(lines) + "\n"


def metrics_text(explainer: Explainer, style: Style) -> str:
    """Every number of a result that can be explained, with what it is."""
    result = explainer.result
    rows = []
    for path in numbers(result):
        node = at(result, path)
        e = Estimate.from_dict(node) if is_estimate(node) else None
        rule = explainer.rule(path)
        unit = e.unit if e is not None else rule.unit if rule else "1"
        value = e.value if e is not None else node
        rows.append(
            (name_of(result, path), "?" if value is None else quantity(float(value), unit), rule.says if rule else "")
        )
    wide = min(48, max((len(r[0]) for r in rows), default=0))
    cells = max((len(r[1]) for r in rows), default=0)
    lines = [f"{len(rows)} numbers; mowich explain RESULT NAME explains one", ""]
    for name, value, says in rows:
        text = f"  {name.ljust(wide)}  {value.rjust(cells)}  {says}"
        lines.append(text if len(text) <= style.width else text[: style.width - 1] + ("…" if style.unicode else "~"))
    return "\n".join(lines) + "\n"
