"""One line about a number, and what makes a table of them.

A `Rule` gives the path of the number ("*": any one step, "**": any rest), its unit, what it is, and how it comes about:
arithmetic over names of the result where it begins with "= " (then `explain` shows the numbers put in, and a test holds
that it gives the number), else words with their kind (`KINDS`). Where a function computes the number from floats, the
arithmetic is that of its docstring (`of`). Estimates bring their own unit. Formulas that the model evaluates itself (a
step, an engine's step, a collective) are not here: `Source.terms` records them from the code. Where each row has its
own formula (a claim), `Source.formulas` has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from mowich.formula import Law, formula_of
from mowich.studies.explain.tree import ResultPath

KINDS: Mapping[str, str] = {
    "lookup": "read from the question, a file or the facts",
    "search": "chosen, or counted, by a search, a bisection or a programme",
    "simulation": "counted, or timed, in a simulation",
    "table": "a statistic over rows of a table",
    "count": "counted",
    "terms": "the formulas that the model recorded make it",
    "inside": "arithmetic over figures that the result does not keep",
}
"""Why a number has words and no formula."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """path: pattern of steps. says: what the number is. formula: arithmetic, without "= "; words: how it comes about
    otherwise, kind: why that is no formula, a word of `KINDS`. facts: templates of paths, {chip} and {system} filled
    in; when: (name, value) that must hold beside the number, value one or a tuple of several."""

    path: tuple[str, ...]
    unit: str
    says: str
    formula: str = ""
    words: str = ""
    kind: str = ""
    facts: tuple[str, ...] = ()
    when: tuple[str, object] | None = None

    def matches(self, path: ResultPath) -> bool:
        """Whether the rule is of the number at `path`."""
        for i, step in enumerate(self.path):
            if step == "**":
                return len(path) > i
            if i >= len(path) or (step != "*" and step != str(path[i])):
                return False
        return len(path) == len(self.path)

    def holds(self, beside: Mapping[str, object]) -> bool:
        """Whether the names next to the number have the values of `when`."""
        if self.when is None:
            return True
        name, wanted = self.when
        return beside.get(name) in (wanted if isinstance(wanted, tuple) else (wanted,))


def of(law: Law, **symbols: str) -> str:
    """The formula of a function's docstring, as a rule has it. symbols: what a name of the function is called in the
    result, or is made of there.

    >>> from mowich.training.faults import mtbf_s
    >>> of(mtbf_s, rate="failure_rate", chips="used + idle")
    '= 1 / (failure_rate * (used + idle))'
    """

    def named(found: re.Match[str]) -> str:
        text = symbols.get(found.group(), found.group())
        return f"({text})" if " " in text else text

    return "= " + re.sub(r"[A-Za-z_]\w*", named, formula_of(law))


def R(path: str, unit: str, says: str, how: str, *facts: str, when: tuple[str, object] | None = None) -> Rule:
    """A rule. how: its formula where that begins with "= ", else "KIND: words". Raises ValueError for a kind that is
    none of `KINDS`."""
    if how.startswith("= "):
        return Rule(path=tuple(path.split(" ")), unit=unit, says=says, formula=how[2:], facts=facts, when=when)
    kind, _, words = how.partition(": ")
    if kind not in KINDS or not words:
        raise ValueError(f"{path}: words without a kind: {how}")
    return Rule(path=tuple(path.split(" ")), unit=unit, says=says, words=words, kind=kind, facts=facts, when=when)


def under(prefix: str, rules: Iterable[Rule]) -> list[Rule]:
    """The rules of numbers below a path."""
    return [replace(r, path=(*prefix.split(" "), *r.path)) for r in rules]


CHOSEN_BY_SEARCH = "search: of all legal plans that fit, the one that this row is about"
MOVED = "search: the model evaluated once more with this one fact at the end of its range, everything else fixed"
MEMORY_RANGE = (
    "table: the bytes less or plus what training.common.memory_spread moves of activations and temporary bytes, in"
    " quadrature with what the ranges of the reserve's facts move (plans/memory_range.py)"
)
OUT_OF_MEMORY = (
    "table: the share of a normal need with this 90% range that lies above what is usable, whose own range is added in"
    " quadrature"
)

METRIC_UNITS: Mapping[str, str] = {
    "tokens_per_step": "tokens",
    "tokens": "tokens",
    "tokens_per_s": "1/s",
    "flop_per_token": "FLOP",
    "peak": "FLOP/s",
    "price": "USD/chip/s",
    "power": "W",
    "hbm_usable": "B",
    "usable": "B",
    "one_request": "B",
    "weights": "B",
    "kv": "B",
    "bandwidth": "B/s",
    "hbm_Bps": "B/s",
    "dma_Bps": "B/s",
    "cap_W": "W",
    "osl": "tokens",
    "isl": "tokens",
    "powered_chips": "chips",
    "tokens_per_s_per_chip": "1/s",
    "days": "d",
    "paid_days": "d",
}
"""Units of names that stand in formulas and in no number of the result; a count or a share has none."""
