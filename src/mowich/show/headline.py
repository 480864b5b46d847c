"""The answer of a result in a few sentences, made once: text, HTML report, notebook and web page show the same words
and the same marks.

Sentences are ASCII, so that every surface can show them. Who is best, and why nobody is, comes from `studies.ranking`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mowich.estimate import Estimate
from mowich.price_terms import quote
from mowich.show.formats import UNKNOWN, first_sentence, interval, number_text, percent
from mowich.shown import Result
from mowich.studies.ranking import (
    COSTS,
    OF_BUDGETS,
    Ranking,
    names_listed,
    ranked_estimate,
    ranking,
    rankings,
    rows_of,
    runs,
    same_chips,
    sizes,
    terms_of,
)
from mowich.studies.stated_plan import plan_words
from mowich.units import show, show_count


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """sentences: the answer, most important first. rankings: by measure, who is best or why nobody is; empty where rows
    are not rivals."""

    sentences: tuple[str, ...]
    rankings: Mapping[str, Ranking] = field(default_factory=dict)

    def __str__(self) -> str:
        return " ".join(self.sentences)

    def mark(self, metric: str, place: int) -> str:
        """ "best", "close" or "" for a measure of the row at a place."""
        return self.rankings[metric].mark(place) if metric in self.rankings else ""

    def marks(self, rows: int) -> dict[str, list[str]]:
        """By measure the mark of each of `rows` rows."""
        return {metric: [found.mark(place) for place in range(rows)] for metric, found in self.rankings.items()}

    def best_words(self, names: Sequence[str], words: Mapping[str, str]) -> str:
        """What a picture of some measures shows: "Cheapest: a (b overlaps). Fastest: c", or "" where nobody is best.
        names: of all rows; words: measure -> what the best by it is."""
        said = []
        for metric, word in words.items():
            found = self.rankings.get(metric)
            if found is not None and found.best is not None:
                close = [names[i] for i in found.close]
                ties = f" ({names_listed(close)} overlap{'' if len(close) > 1 else 's'})" if close else ""
                said.append(f"{word}: {names[found.best]}{ties}")
        return ". ".join(said)

    def why_not(self, metric: str) -> str:
        """Why nobody is best by a measure, as a sentence; "" where somebody is."""
        found = self.rankings.get(metric)
        if found is None or not found.why_not:
            return ""
        return f"{'Cost is' if metric in COSTS else 'Times are'} not ranked: {found.why_not}."


def headline(result: Result) -> Headline:
    """The answer of a training or serving comparison, or of a list of plans, from its JSON."""
    serving = result["inputs"].get("task") == "serve"
    if "plans" in result:
        row = rows_of(result)[0]
        return Headline(sentences=(_first_plan(row, serving), _plan_sentence(row, serving)))
    return _compared(result, serving)


# comparisons
# ----------------------------------------------------------------------------------------------------------------------


def label_of(system: str, estimated: bool) -> str:
    """The name of a system as the user wrote it, marked when everything about it is an estimate."""
    return f"{system} (est.)" if estimated else system


def row_label(row: Result) -> str:
    """`label_of` a row."""
    return label_of(str(row["system"]), bool(row.get("estimated")))


def _compared(result: Result, serving: bool) -> Headline:
    rows = rows_of(result)
    alive = [row for row in rows if row.get("feasible")]
    made = rankings(result)
    said: list[str] = []
    bought = next((name for name in OF_BUDGETS if name in made), "")
    if not any(runs(row) for row in rows):
        what = "This system" if len(rows) == 1 else f"None of the {len(rows)} systems"
        none = f"{what} can{'not' if len(rows) == 1 else ''} run this job as stated."
        return Headline(sentences=(none, "Each row says why."))
    said.append(_first(result, made, serving, bought))
    if result["inputs"].get("budget_usd") and bought:
        said.append(_trained(result, made[bought]))
    elif len(rows) > 1:
        said += _sizes(result, rows)
    if len(alive) == 1:
        said.append(_alone(alive[0], serving))
    elif alive:
        cost = _cost(result, made["usd_per_mtok"], serving)
        speed = "" if bought else _speed(result, made, serving)
        said += [speed, cost] if made["usd_per_mtok"].best is None else [cost, speed]  # an answer before what has none
    pays = "power feeds" if result["inputs"].get("power_W") else "budget rents"
    said += _left_over(rows, str(result["inputs"].get("price_term") or "default"), pays)
    return Headline(sentences=tuple(s for s in said if s), rankings=made)


def _first(result: Result, made: Mapping[str, Ranking], serving: bool, bought: str) -> str:
    """The answer of a comparison in one short sentence: who is best, or that nobody is."""
    rows = rows_of(result)
    alive = [row for row in rows if row.get("feasible")]
    if result["inputs"].get("budget_usd") and bought:
        footing = f"${show_count(float(result['inputs']['budget_usd']))} in {float(result['inputs']['days']):g} days"
        if made[bought].best is None:
            return "No system is named best for this budget."
        return _first_ranked(rows, made[bought], f"Most tokens for {footing}", "trillion", scale=1e-12)
    if len(alive) == 1:
        metric, does, unit = (
            ("tokens_per_s_per_chip", "gives", "tokens/s per chip") if serving else ("days", "takes", "days")
        )
        number = ranked_estimate(alive[0], metric)
        name = row_label(alive[0])
        only = "Only one system runs this job within its limits." if len(rows) > 1 else "This system runs this job."
        return first_sentence(
            f"{name} {does} about {number_text(number.value)} {unit}." if number.value is not None else only,
            only,
        )
    if not alive:
        return "No system is known to run this job within its limits."
    if made["usd_per_mtok"].best is not None:
        unit = f"per million {'output ' if serving else ''}tokens"
        return _first_ranked(rows, made["usd_per_mtok"], "Cheapest", unit, sign="$")
    days, rate = None if serving or bought else made.get("days"), None if bought else made.get("tokens_per_s_per_chip")
    if days is not None and days.best is not None:
        return _first_ranked(rows, days, "Fastest", "days")
    if rate is not None and rate.best is not None:
        return _first_ranked(rows, rate, "Most per chip", "tokens/s")
    return "No system is named best: these systems are not ranked."


def _first_ranked(
    rows: Sequence[Result], found: Ranking, word: str, unit: str, *, sign: str = "", scale: float = 1.0
) -> str:
    """Who is best by a measure, with every row whose range overlaps, in as few words as names leave room for."""
    assert found.best is not None
    names = [row_label(rows[i]) for i in (found.best, *found.close)]
    number = f"about {sign}{number_text(ranked_estimate(rows[found.best], found.metric).value, scale)} {unit}"
    listed = f"{', '.join(names[:-1])} or {names[-1]}" if found.close else names[0]
    if not found.close:
        return first_sentence(f"{word}: {listed}, {number}.", f"{word}: {listed}.", f"{word}: one, named below.")
    many = f"{word}: one of {len(names)}, ranges overlap."
    return first_sentence(f"{word}: {listed}, {number}.", f"{word}: {listed}; their ranges overlap.", many)


def _trained(result: Result, found: Ranking) -> str:
    """What a budget trains, or serves, on whom the most; where the tokens of the run are asked, who ends in time."""
    rows, inputs = rows_of(result), result["inputs"]
    days, alive = float(inputs["days"]), [row for row in rows if runs(row) and row.get("feasible") is not False]
    footing = f"${show_count(float(inputs['budget_usd']))} in {days:g} days"

    made = " output" if found.metric == "tokens_served" else ""

    def told(row: Result, what: str = "") -> str:
        tokens = interval(ranked_estimate(row, found.metric), 1e-12)
        chips = f"{int(row['chips_requested']):,} chips{' that are there' if row.get('owned') else ''}"
        return f"{row_label(row)}, {tokens} trillion{made}{what} on {chips} ({terms_of(row)})"

    if found.best is None:
        most_first = sorted(alive, key=lambda row: -(ranked_estimate(row, found.metric).value or 0.0))
        order = ", most first" if len(alive) > 1 else ""
        said = f"For {footing}{order}: {'; '.join(told(row, ' tokens') for row in most_first)}."
    else:
        said = f"Most{made} tokens for {footing}: {told(rows[found.best])}{_ties(rows, found)}."
    if inputs.get("tokens"):
        ends = {row_label(row): (ranked_estimate(row, "days").value, _paid_days(row, inputs)) for row in alive}
        in_time = [name for name, (end, paid) in ends.items() if end is not None and end <= paid]
        asked = show_count(float(inputs["tokens"]))
        said += f" {asked} tokens are trained in time on {names_listed(in_time) or 'none of them'}."
    is_beside = any(not row.get("owned") for row in alive)
    return " ".join([said, *(_owned_words(row, inputs, is_beside) for row in alive if row.get("owned"))])


def _paid_days(row: Result, inputs: Result) -> float:
    """The days that a budget pays for on a row."""
    return float((row.get("owned") or inputs)["days"])


def _owned_words(row: Result, inputs: Result, is_beside: bool) -> str:
    """What chips cost that are there already, and what more would. is_beside: rows that the money rents are there."""
    own, days = row["owned"], float(inputs["days"])

    def usd(value: float) -> str:
        return f"${float(f'{value:.3g}'):,.0f}"

    power, each = (own[key]["value"] for key in ("electricity_usd", "chip_usd"))
    said = f"Electricity of {row_label(row)} is {'not known' if power is None else usd(power)}"
    if own["days"] < days:
        said += f", which the budget pays for {own['days']:.3g} of the {days:g} days"
    if each is None:
        return f"{said}; what more chips cost is not known ({own['price']})."
    kind = quote(str(own["price"]))
    if own["missing_chips"]:
        more = int(own["missing_chips"])
        lack = f"{more:,} more chips would train the rest in time, at the same speed per chip"
        return f"{said}; {lack}: {usd(more * each)} of rent ({kind})."
    others = ", or other systems to run beside it" if is_beside else ""
    return f"{said}; what is left rents {int(own['rest_chips']):,} more chips at {usd(each)} each ({kind}){others}."


def _sizes(result: Result, rows: Sequence[Result]) -> list[str]:
    """What the numbers of chips are, where they are unequal."""
    if same_chips(rows):
        return []
    equal = str(result["inputs"].get("equal") or "chips")
    named = [row for row in rows if ":" in str(row["system"]) or "*" in str(row["system"])]
    if result["inputs"].get("power_W"):
        fed = sizes([row for row in rows if row not in named])
        return [f"{show(float(result['inputs']['power_W']), 'W')} at the meter feed: {fed} chips."]
    if equal != "chips":
        return [f"Sizes for equal {equal}: {sizes(rows)} chips."]
    if named:
        return [
            f"Sizes are unequal: {sizes(rows)} chips; leave them out of the names and set --chips N for equal numbers."
        ]
    return [f"Default sizes: {sizes(rows)} chips; set --chips N for equal numbers."]


def _cost(result: Result, found: Ranking, serving: bool) -> str:
    """Who is cheapest, or why nobody is."""
    rows = rows_of(result)
    if found.best is None:
        if not any(ranked_estimate(row, "usd_per_mtok").value is not None for row in rows):
            return ""  # said with the rows that have no price
        return f"Cost is not ranked: {found.why_not}{'; ' + found.fix if found.fix else ''}."
    best = rows[found.best]
    return f"Cheapest: {row_label(best)}, {_dollars(best, serving)}{_ties(rows, found)}."


def _speed(result: Result, made: Mapping[str, Ranking], serving: bool) -> str:
    """Who is fastest where the numbers of chips are equal, else per chip; serving always per chip, because its limits
    bound the time."""
    rows = rows_of(result)
    found = None if serving else made.get("days")
    if found is not None and found.best is not None:
        best = rows[found.best]
        return f"Fastest: {row_label(best)}, {interval(ranked_estimate(best, 'days'))} days{_ties(rows, found)}."
    found = made.get("tokens_per_s_per_chip")
    if found is None or found.best is None:
        return ""
    best = rows[found.best]
    return f"Most per chip: {row_label(best)}, {_rate(best)}{_ties(rows, found)}."


def _ties(rows: Sequence[Result], found: Ranking) -> str:
    close = [row_label(rows[i]) for i in found.close]
    if not close:
        return ""
    many = len(close) > 1
    return f"; {names_listed(close)} overlap{'' if many else 's'} with it and {'are' if many else 'is'} not ranked"


def _dollars(row: Result, serving: bool) -> str:
    return (
        f"${interval(ranked_estimate(row, 'usd_per_mtok'))} per million {'output ' if serving else ''}tokens"
        f" ({terms_of(row) or 'its terms not stated'})"
    )


def _rate(row: Result) -> str:
    return f"{interval(ranked_estimate(row, 'tokens_per_s_per_chip'))} tokens/s per chip"


def _alone(row: Result, serving: bool) -> str:
    """The answer of the only row that runs: its numbers, and no rank."""
    days = ranked_estimate(row, "days")
    parts = [_rate(row)] if serving else [f"{interval(days)} days"] if days.value is not None else []
    if ranked_estimate(row, "usd_per_mtok").value is not None:
        parts.append(_dollars(row, serving))
    return f"{row_label(row)}: {', '.join(parts)}." if parts else ""


def _left_over(rows: Sequence[Result], term: str, pays: str) -> list[str]:
    """Rows that have no price, do not fit, miss a limit, or may not fit. pays: what says the number of chips."""

    def of(keep: Callable[[Result], bool]) -> str:
        return names_listed([row_label(row) for row in rows if keep(row)])

    said = (
        (
            "No price known" if term == "default" else f"No {term} price known",
            lambda r: (
                runs(r)
                and r.get("feasible") is not False
                and not r.get("undecided")
                and ranked_estimate(r, "usd_per_mtok").value is None
            ),
        ),
        ("No figure in dollars, as fixed time decides the rate", lambda r: bool(r.get("undecided"))),
        ("Misses the limits", lambda r: r.get("feasible") is False and bool(r.get("decode"))),
        (f"The {pays} no chip", lambda r: r.get("chips_requested") == 0),
        (
            "Cannot run it",
            lambda r: r.get("feasible") is False and not r.get("decode") and r.get("chips_requested") != 0,
        ),
        ("Not known whether it fits", lambda r: r.get("feasible") is None),
    )
    return [f"{word}: {who}." for word, keep in said if (who := of(keep))]


def sweep_headline(result: Result) -> Headline:
    """How many points of a sweep have a plan, and the cheapest where all are one job and their prices stand on one
    term."""
    rows = rows_of(result)
    said = [f"{len(rows):,} points, {sum(map(runs, rows)):,} with a plan."]
    names = ("model", "seq", "batch_seqs", "tokens", "train_task", "document", "isl", "osl", "cached", "accept")
    jobs = {tuple(row.get(k) for k in names) for row in rows}
    serves = result["inputs"].get("task") == "serve"
    found = ranking(result, "usd_per_mtok")
    if len(jobs) == 1 and found.best is not None:
        best = rows[found.best]
        count = len(found.close)
        those = "1 point overlaps with it and is" if count == 1 else f"{count:,} points overlap with it and are"
        ties = f"; {those} not ranked" if count else ""
        said.append(
            f"Cheapest: {row_label(best)} with {int(best['chips_requested']):,} chips, {_dollars(best, serves)}{ties}."
        )
    elif (
        len(jobs) == 1 and found.why_not and any(ranked_estimate(row, "usd_per_mtok").value is not None for row in rows)
    ):
        said.append(f"Cost is not ranked: {found.why_not}.")
    return Headline(sentences=tuple(said))


def accuracy_headline(result: Result) -> Headline:
    """How far predictions are off. Of the rows that ship the errors of rows left out of the fit come first: their own
    are in sample."""
    everything = result["summary"]["all"]
    total = everything["n"] + everything["unsupported"]
    answered = f"{everything['n']} of {total} rows answered"
    errors = (
        f"Median error {percent(everything['median_abs_error'])}, 90% of them under"
        f" {percent(everything['p90_abs_error'])}."
        if everything["n"]
        else ""
    )
    from mowich.evidence.scores import FITTED_TO, left_out  # not above: it brings how rows are read

    work = FITTED_TO.get(result["file"])
    found = [e for e in left_out() if e.work == work]
    if not found:
        return Headline(sentences=(f"{answered}.", *filter(None, [errors])))
    several = len({e.what for e in found}) > 1
    groups = [
        f"{f'{e.what}: ' if several else ''}median error {tenths(e.median)}, 90% under {tenths(e.p90)} (without"
        f" {e.without})"
        for e in found
    ]
    ends = " to ".join(dict.fromkeys(tenths(pick(e.median for e in found)) for pick in (min, max)))
    first = f"Median error {ends} of rows left out of the fit."
    in_sample = f"In sample: {answered}." + (f" {errors}" if errors else "")
    return Headline(sentences=(first, f"Left out of the fit: {'; '.join(groups)}.", in_sample))


def tenths(share: float | None) -> str:
    """0.066 -> "6.6%"."""
    return UNKNOWN if share is None else f"{100 * share:.1f}%"


# plans
# ----------------------------------------------------------------------------------------------------------------------


def layout(row: Result) -> str:
    """Workers of a serving row: "4 x (tp4 fp8/fp8)", or "3P x (tp4 ..) + 5D x (tp8 ..)" with prefill apart; "?" without
    a plan."""
    if not row.get("decode"):
        return UNKNOWN
    count, decode = row["replicas"], plan_words(row["decode"])
    if row["mode"] == "aggregated":
        return f"{count['decode']} x ({decode})"
    return f"{count['prefill']}P x ({plan_words(row['prefill'])}) + {count['decode']}D x ({decode})"


def _first_plan(row: Result, serving: bool) -> str:
    """Speed of the best plan in one short sentence; of a job that does not run, that it does not."""
    if not runs(row) or (serving and not row.get("feasible")):
        return "No plan runs this job as stated."
    metric, unit = ("tokens_per_s_per_chip", "tokens/s per chip") if serving else ("step_s", "s per step")
    said = f"about {number_text(ranked_estimate(row, metric).value)} {unit}."
    return first_sentence(f"Best plan on {row_label(row)}: {said}", f"Best plan: {said}")


def _plan_sentence(row: Result, serving: bool) -> str:
    """The best plan of one system and its numbers."""
    where = f"{row['display']}, {int(row['chips_requested']):,} chip{'s' * (row['chips_requested'] != 1)}"
    if not runs(row) or (serving and not row.get("feasible")):
        return f"{where}: {row.get('reason') or 'no plan is legal'}."
    cost = ranked_estimate(row, "usd_per_mtok")
    price = "" if cost.value is None else f", {_dollars(row, serving)}"
    if serving:
        return (
            f"Best on {where}: {layout(row)}: {_rate(row)}, TTFT "
            f"{estimate_seconds(ranked_estimate(row, 'ttft_s'))}, TPOT"
            f" {estimate_seconds(ranked_estimate(row, 'tpot_s'))}{price}."
        )
    return (
        f"Best on {where}: {plan_words(row['plan'])}: {interval(ranked_estimate(row, 'step_s'))} s per step, MFU"
        f" {percent(ranked_estimate(row, 'mfu').value)}, {interval(ranked_estimate(row, 'days'))} days{price}; binds:"
        f" {row.get('binds', '')}."
    )


def estimate_seconds(e: Estimate) -> str:
    """ "1.73 s", "106 ms"; "?" when unknown."""
    if e.value is None:
        return UNKNOWN
    return f"{interval(e)} s" if e.value >= 1 else f"{interval(e, 1e3)} ms"


# what stands beside the numbers of a row
# ----------------------------------------------------------------------------------------------------------------------


def chips_cell(used: int, asked: int) -> str:
    """ "144", or "140/144" where fewer are used than asked for and paid for; used is 0 without a plan."""
    return str(asked) if used in (0, asked) else f"{used}/{asked}"


def terms_cell(price: str, *, short: bool = False) -> str:
    """On what terms the price of a label stands, for a cell; "?" for a price that is not known."""
    found = quote(price)
    if found is None:
        return UNKNOWN
    return found.short if short else str(found)


def chips_differ(rows: Sequence[Result]) -> bool:
    """Whether a narrow table needs a column of chips: other numbers were asked for, or those in use differ by more than
    the rounding of a plan."""
    asked = {row.get("chips_requested") for row in rows}
    used = [{"chips_requested": row["chips_used"]} for row in rows if row.get("chips_used")]
    return len(asked) > 1 or not same_chips(used)


def words_beside(rows: Sequence[Result]) -> dict[str, list[str]]:
    """Words that a table shows beside the numbers of each row: the terms of its price, and chips where they differ."""
    out = {"price_terms": [terms_cell(str(row.get("price") or ""), short=True) for row in rows]}
    if chips_differ(rows):
        out["chips"] = [
            chips_cell(int(row.get("chips_used") or 0), int(row.get("chips_requested") or 0)) for row in rows
        ]
    return out
