"""What can make a number of a result once more: with other facts, and with its formulas written down.

A `Source` belongs to a part of a result (a row, or the whole). It evaluates the functions that made the numbers, at the
plan and the inputs that the result states: `numbers` under any facts, `terms` with a recorder. So the model itself
explains its numbers, and nothing is written twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from mowich.economics import energy, money
from mowich.estimate import Estimate, Notes, told
from mowich.facts import Facts
from mowich.shown import Result
from mowich.studies.explain.rules.rule import Rule
from mowich.studies.explain.tree import ResultPath

Numbers = Mapping[ResultPath, float]
"""Path below the source's own -> value."""


def _no_numbers(known: Facts, wanted: ResultPath) -> Numbers:
    return {}


def _no_terms(name: ResultPath, notes: Notes) -> None:
    return None


def _no_symbols(known: Facts) -> Mapping[str, float]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """at: the path that the others are relative to. numbers: made again under other facts with plans and choices fixed,
    at least the one at the given path (none: nothing is made again); record: the formulas of one number under any
    facts, each term with the facts that move it (`facts.moves.noted`); terms: those whose facts are found in another
    way; symbols: further names that formulas may read, and names of the result that facts give, under any facts;
    formulas: path -> the row's own formula of a number; held: number -> what stays fixed while facts move its parts,
    and settles anew while they move the whole; is_slow: make it again at most once for each end of a range."""

    at: ResultPath
    numbers: Callable[[Facts, ResultPath], Numbers] = _no_numbers
    record: Callable[[ResultPath, Facts, Notes], None] | None = None
    terms: Callable[[ResultPath, Notes], None] = _no_terms
    symbols: Callable[[Facts], Mapping[str, float]] = _no_symbols
    formulas: Mapping[ResultPath, str] = field(default_factory=dict)
    held: Mapping[ResultPath, str] = field(default_factory=dict)
    title: str = ""
    is_slow: bool = False


def rule_of_row(rule: Rule, path: ResultPath, source: Source | None) -> Rule:
    """The rule of a number; its formula is the row's own where there is one."""
    own = source.formulas.get(path[len(source.at) :]) if source is not None else None
    return rule if own is None else replace(rule, formula=own, words="", kind="")


METRIC_OF_BREAKEVEN: Mapping[str, str] = {
    "breakeven_usd_per_chip_h": "usd_per_mtok",
    "breakeven_W_per_chip": "J_per_token",
}
"""Number that compares a row with the best other row -> the measure that makes a row the best."""


def break_even(
    name: str,
    others: Iterable[Result],
    known: Facts,
    *,
    system_id: str,
    chips: int,
    idle: int,
    tokens_per_s: Estimate,
    goodput: Estimate,
    notes: Notes | None = None,
) -> Estimate | None:
    """The price or the power at which a row equals the best of others, `name` being a key of `METRIC_OF_BREAKEVEN`;
    None where no other row has the measure. system_id: of the row; chips: paid for, with those `idle`; tokens_per_s: of
    all chips; notes: take the law, and the measure of the best other row."""
    metric = METRIC_OF_BREAKEVEN[name]
    found = [(str(r["system"]), Estimate.from_dict(r[metric])) for r in others if r[metric]["value"] is not None]
    if not found:
        return None
    system, best = min(found, key=lambda other: float(other[1]))
    if metric == "usd_per_mtok":
        value = told(notes, name, money.breakeven_usd_per_chip_h, unit="USD/chip/h")(
            best, chips=chips, tokens_per_s=tokens_per_s, goodput=goodput
        )
    else:
        site, draw = energy.read_site(known), energy.drawn_power(known, system_id)
        value = told(notes, name, energy.breakeven_W_per_chip, unit="W")(
            best,
            tokens_per_s=tokens_per_s,
            goodput=goodput,
            pue=site.pue,
            powered_chips=energy.powered_chips(chips - idle, idle, draw.idle_share),
            drawn_share=draw.share,
        )
    if notes is not None:
        notes.add(f"best.{metric}", best.value, best.unit, note=f"of {system}, the best other row")
    return value


def note_costs(name: ResultPath, systems: Iterable[str], term: str, known: Facts, notes: Notes) -> None:
    """Record the prices, or the power, of the chips of systems, where a number is a cost or an energy."""
    for system in systems:
        if name[0] in ("usd_per_mtok", "usd_per_item", "usd_per_h"):
            money.price(known, system, term=term, notes=notes)
        elif name[0] in ("J_per_token", "J_per_item"):
            energy.drawn_power(known, system, notes=notes)
