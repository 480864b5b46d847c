"""The text of `mowich explain`: a number, what it is the sum of, the formulas with their numbers, and the facts behind them.

Renders what `studies.explain` returns. Every fact shows value, range, grade, title, locator and date, and the facts whose ranges move the answer
most come last, largest first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mowich.estimate import Term
from mowich.facts import Fact, Facts
from mowich.report.table import Style, wrap
from mowich.units import show, show_gib, sig

if TYPE_CHECKING:
    from mowich.studies.explain import Explanation


def quantity(value: float | str | None, unit: str) -> str:
    """A fact's or a term's value with its unit; bytes also as GiB when large."""
    if isinstance(value, str):
        return value
    if value is not None and unit in ("", "1"):
        return f"{value:.4g}"
    if value is not None and unit == "B" and abs(value) >= 2**30:
        return f"{show(value, unit)} ({show_gib(value)})"
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
            lines.extend(
                wrap(
                    ", ".join(f"{k} {v if isinstance(v, str) else plain(v)}" for k, v in term.inputs.items()),
                    style,
                    indent=indent + 2,
                )
            )
        if term.note:
            lines.extend(wrap(term.note, style, indent=indent + 2))
        if term.facts:
            lines.extend(wrap("facts: " + ", ".join(term.facts), style, indent=indent + 2))
        for child in reads[term.name]:
            draw(child, depth + 1)

    for term in reversed(terms):
        draw(term, 0)
    return lines


def moves_lines(moves: Sequence[tuple[str, float, float]], facts: Facts, style: Style, top: int = 5) -> list[str]:
    """Which fact's range moves the answer most. moves: (fact path, change of ln answer at its low end, at its high end)."""
    lines = []
    for path, at_low, at_high in sorted(moves, key=lambda m: -max(abs(m[1]), abs(m[2])))[:top]:
        fact = facts.get(path)
        ends = "" if fact is None else f", {fact.shown_range}"
        lines += wrap(
            f"{path}{ends}: time {math.expm1(at_low):+.1%} at its low end, {math.expm1(at_high):+.1%} at its high end",
            style,
        )
    return lines


def parts_lines(parts: Mapping[str, float], unit: str, style: Style) -> list[str]:
    """What the number is the sum of, largest first, with shares."""
    total = sum(parts.values())
    rows = sorted(((k, v) for k, v in parts.items() if abs(v) > 1e-6 * abs(total)), key=lambda kv: -abs(kv[1]))
    wide = max((len(k) for k, _ in rows), default=0)
    return [f"  {k.ljust(wide)}  {quantity(v, unit):>22}  {v / total:6.1%}" if total else f"  {k}" for k, v in rows]


def explain_text(explanation: Explanation, facts: Facts, style: Style) -> str:
    """The report of `mowich explain`."""
    e = explanation.estimate
    head = f"{explanation.title} = {quantity(e.value, e.unit)}"
    if e.value is None:
        head += f" ({e.reason})"
    elif e.low is not None and e.high is not None and e.high > e.low:
        head += f", 90% range {show(e.low, e.unit)} .. {show(e.high, e.unit)}"
    lines = [*(style.bold(x) for x in wrap(f"{head}, grade {e.grade}", style, indent=0))]
    if len(explanation.parts) > 1:
        lines += ["", "Sum of", *parts_lines(explanation.parts, e.unit, style)]
    if explanation.terms:
        lines += ["", "Formulas", *tree_lines(explanation.terms, style)]
    paths = dict.fromkeys(path for term in explanation.terms for path in term.facts)
    found = [fact for path in paths if (fact := facts.get(path)) is not None]
    if found:
        lines += ["", "Facts"]
        for fact in found:
            lines += fact_lines(fact, style)
    moved = moves_lines(explanation.spread, facts, style)
    if moved:
        lines += ["", "What would move it most (facts that no measurement has tested, within their ranges)", *moved]
    return "\n".join(lines) + "\n"
