"""Who is best of a comparison's rows by one measure, and why nobody is: the one rule behind headlines, marks in tables
and flip points.

Rows are those of the JSON contract. Three things keep rows from being ranked:

- **Costs** on different price terms (a capacity block beside on demand, a price of the user's own beside either), or
  with a price of grade D, which nobody quotes; and a cost that only one row has. What a budget trains rests on prices
  too.
- **Times** on different numbers of chips. Chips that are asked for count, because idle ones are paid for; a difference
  of at most 5% is equal, the
  rounding of a plan (`chips_used`) is no difference.
- Intervals that overlap with the best row's: those rows are close, not worse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mowich.estimate import Estimate
from mowich.price_terms import OWN, Quote, quote
from mowich.shown import Result

EQUAL_WITHIN = 1.05
"""The largest number of chips over the smallest, up to which numbers count as equal."""

LESS_IS_BETTER: Mapping[str, bool] = {
    "step_s": True,
    "days": True,
    "usd_per_mtok": True,
    "J_per_token": True,
    "ttft_s": True,
    "tpot_s": True,
    "total_W": True,
    "tokens_per_s_per_chip": False,
    "tokens_per_s_per_user": False,
    "mfu": False,
    "goodput": False,
    "tokens_trained": False,
    "tokens_served": False,
    "tokens_per_s_per_MW": False,
    "item_s": True,
    "items_per_s_per_chip": False,
    "usd_per_item": True,
    "J_per_item": True,
}
"""Numbers that rows are compared by, and which way."""

COSTS = ("usd_per_mtok", "usd_per_item")
"""Measures that rest on a price."""

OF_BUDGETS = ("tokens_trained", "tokens_served")
"""Measures that rest on a price where a budget says the chips."""

AT_EQUAL_CHIPS = ("step_s", "days", "ttft_s", "tpot_s", "tokens_per_s_per_user", "item_s")
"""Measures that more chips make better: not compared between unequal numbers of chips."""

MARKED = (
    "step_s",
    "days",
    "usd_per_mtok",
    "tokens_per_s_per_chip",
    "J_per_token",
    "ttft_s",
    "tpot_s",
    "tokens_per_s_per_user",
    "tokens_trained",
    "tokens_served",
    "item_s",
    "items_per_s_per_chip",
    "usd_per_item",
    "J_per_item",
)
"""Measures whose best row a table marks."""

TERM_ORDER = ("on-demand", "capacity-block", "market", "1y", "3y")
"""Terms that may be advised for all rows, the preferred first; never spot, which no long job can rely on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """metric: the measure. best: place of the best row, None where nobody is; close: places of rows whose intervals
    overlap with its own.
    why_not: why nobody is best, as the end of a sentence ("" where somebody is); fix: what would make it a ranking (""
    where nothing would)."""

    metric: str
    best: int | None = None
    close: tuple[int, ...] = ()
    why_not: str = ""
    fix: str = ""

    def mark(self, place: int) -> str:
        """ "best", "close" or "" for the row at a place."""
        return "best" if place == self.best else "close" if place in self.close else ""


def names_listed(words: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"; "" for none."""
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)


def rows_of(result: Result) -> Sequence[Result]:
    """The rows of a comparison, or the plans of a list of plans."""
    found: Sequence[Result] = result["rows"] if "rows" in result else result["plans"]
    return found


def ranked_estimate(row: Result, metric: str) -> Estimate:
    """A number of a row; unknown where the row has none."""
    return Estimate.from_dict(
        row.get(metric) or {"value": None, "unit": "", "grade": "D", "reason": "not in this result"}
    )


def runs(row: Result) -> bool:
    """Whether the row has a plan, and so times."""
    return any(ranked_estimate(row, metric).value is not None for metric in ("step_s", "tpot_s", "item_s"))


def same_chips(rows: Sequence[Result]) -> bool:
    """Whether the numbers of chips asked for are equal, to within `EQUAL_WITHIN`."""
    counts = [int(row.get("chips_requested") or 0) for row in rows]
    return not counts or max(counts) <= EQUAL_WITHIN * min(counts)


def terms_of(row: Result) -> Quote | None:
    """On what terms the row's price stands; None where it is not known."""
    return quote(str(row.get("price") or ""))


def ranking(result: Result, metric: str) -> Ranking:
    """The rows of a comparison by one measure. Only rows that are known to fit take part."""
    rows = rows_of(result)
    known = [i for i, row in enumerate(rows) if row.get("feasible") and ranked_estimate(row, metric).value is not None]
    if not known:
        return Ranking(metric=metric, why_not="no row that fits has a known value")
    why, fix = _obstacle(result, metric, known)
    if why:
        return Ranking(metric=metric, why_not=why, fix=fix)
    value = {i: ranked_estimate(rows[i], metric) for i in known}
    sign = 1.0 if LESS_IS_BETTER[metric] else -1.0
    best = min(known, key=lambda i: sign * (value[i].value or 0.0))
    return Ranking(
        metric=metric, best=best, close=tuple(i for i in known if i != best and value[i].overlaps(value[best]))
    )


def rankings(result: Result) -> dict[str, Ranking]:
    """The ranking by every measure that a table marks."""
    return {metric: ranking(result, metric) for metric in MARKED if any(metric in row for row in rows_of(result))}


def _obstacle(result: Result, metric: str, known: Sequence[int]) -> tuple[str, str]:
    """(why the known rows cannot be ranked, what would help); both "" where they can."""
    rows = rows_of(result)
    here = [rows[i] for i in known]
    if metric in COSTS or (metric in OF_BUDGETS and result["inputs"].get("budget_usd") and len(here) > 1):
        return _cost_obstacle(result, here)
    if len(here) < 2:
        return f"only {here[0]['system']} has it", ""
    if metric in AT_EQUAL_CHIPS and not same_chips(here):
        return f"numbers of chips differ ({sizes(here)})", ""
    return "", ""


def sizes(rows: Sequence[Result]) -> str:
    """ "trn3 144, h200 8": chips asked for; a name that states its number stands alone."""
    said = []
    for row in rows:
        name, chips = str(row["system"]), int(row.get("chips_requested") or 0)
        said.append(name if name.endswith(f":{chips}") else f"{name} {chips:,}")
    return ", ".join(said)


def _cost_obstacle(result: Result, rows: Sequence[Result]) -> tuple[str, str]:
    quotes = {i: terms_of(row) for i, row in enumerate(rows)}
    said = ", ".join(dict.fromkeys(f"{row['system']} {quotes[i] or 'not stated'}" for i, row in enumerate(rows)))
    terms = {"" if q is None else q.term for q in quotes.values()}
    if len(rows) == 1:
        others = sum(runs(row) for row in rows_of(result)) - 1
        return f"only {rows[0]['system']} has a known price ({quotes[0] or 'its terms not stated'})", (
            _advice(result) if others else ""
        )
    if len(terms) > 1:
        return f"prices are on different terms ({said})", _advice(result)
    guessed = list(dict.fromkeys(str(rows[i]["system"]) for i, q in quotes.items() if q is not None and q.is_estimate))
    if guessed:
        many = len(guessed) > 1
        return (
            (
                f"the price{'s' * many} of {names_listed(guessed)} "
                f"{'are estimates' if many else 'is an estimate'} that nobody"
                " quotes"
            ),
            _advice(result),
        )
    return "", ""


def _advice(result: Result) -> str:
    """What puts the rows that run on one term: a term at which they have a price that is quoted, the cost of ownership,
    or prices of one's own."""
    inputs = result["inputs"]
    systems = inputs.get("systems", ())
    running = [
        (row, s) for row, s in zip(rows_of(result), systems, strict=False) if runs(row) and isinstance(s, Mapping)
    ]
    if not running:
        return ""
    terms = {str(row["system"]): getattr(terms_of(row), "term", "") for row, _ in running}
    if "electricity" in terms.values():
        return ""  # of chips that are there: nothing puts rent beside it
    lacking = [row for row, _ in running if terms[str(row["system"])] != OWN]
    mine = " ".join(f"--set prices.{row['system_id']}='$N/chip/h'" for row in lacking)
    if len(lacking) < len(running):
        return f"give each a price of your own ({mine}), or none"
    who: dict[str, list[str]] = {}
    for term in TERM_ORDER:
        grades = {str(row["system"]): (s.get("price_terms") or {}).get(term) for row, s in running}
        if "D" not in grades.values():
            who[term] = [name for name, grade in grades.items() if grade]
    term = max(who, key=lambda t: len(who[t]), default="")
    asked = str(inputs.get("price_term"))
    owners = "" if inputs.get("budget_usd") or asked in ("default", "tco") else "--price tco"
    if term and term != asked and len(who[term]) > 1:
        return f"ask for one with --price {term}, which {names_listed(who[term])} have{owners and f', or for {owners}'}"
    return f"ask for {owners}, or give each a price of your own: {mine}" if owners else f"give each your own: {mine}"
