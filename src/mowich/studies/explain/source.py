"""What can make a number of a result once more: with other facts, and with its formulas written down.

A `Source` belongs to a part of a result (a row, or the whole). It evaluates the functions that made the numbers, at the
plan and the inputs that the result states: `numbers` under any facts, `terms` with a recorder. So no explanation is
told twice: it is the model itself, asked to show its work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mowich.estimate import Estimate, Notes
from mowich.facts import Facts
from mowich.studies.explain.rules.rule import Rule
from mowich.studies.explain.tree import ResultPath

Numbers = Mapping[ResultPath, float]
"""Path below the source's own -> value."""


def _no_terms(name: ResultPath, notes: Notes) -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """at: the path that the others are relative to. numbers: made again under other facts, plans and choices fixed, at
    least the one whose path is given; terms: record the formulas of one number; symbols: further names that formulas
    may read; behind: the facts of each symbol; formulas: path -> the formula of a number that has one of its own in
    each row; is_slow: made again once for each end of a range and no more often."""

    at: ResultPath
    numbers: Callable[[Facts, ResultPath], Numbers]
    terms: Callable[[ResultPath, Notes], None] = _no_terms
    symbols: Mapping[str, float] = field(default_factory=dict)
    behind: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    formulas: Mapping[ResultPath, str] = field(default_factory=dict)
    title: str = ""
    is_slow: bool = False


def rule_of_row(rule: Rule, path: ResultPath, source: Source | None) -> Rule:
    """The rule of a number with the formula of its row, where each row has its own."""
    own = source.formulas.get(path[len(source.at) :]) if source is not None else None
    return rule if own is None else replace(rule, formula=own, words="", kind="")


def best_of(rows: Any, metric: str) -> tuple[str, Estimate] | None:
    """(system, estimate) of the row with the least of a metric; None where no row has it."""
    known = [(str(r["system"]), Estimate.from_dict(r[metric])) for r in rows if r[metric]["value"] is not None]
    return min(known, key=lambda found: float(found[1])) if known else None
