"""Each public claim, derived again from sourced facts (`mowich claims`, docs/records/claims.md): formula, inputs,
result, verdict.

Verdicts: `holds` (derived from facts of grade A to C and within TOLERANCE), `holds only if` (true under a stated
condition, or for a part of the range of an estimated fact), `does not follow` (the facts give another number), `cannot
be checked` (no source states something: said which measurement). A claim that we have no formula for is still listed,
with what is missing. Claims come in the order of their weight for the question whether Trainium 3's scale and price
offset its smaller memory: those that can be checked first, of them those about Trainium 3, then by topic
(`facts.entries.TOPICS`). A test holds docs/records/claims.md to what the facts give.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from mowich.errors import UserError
from mowich.estimate import Notes, told
from mowich.facts import Fact, Facts
from mowich.facts.claim_check import Check, check_of, number_by
from mowich.facts.entries import TOPICS, entries, figure_of
from mowich.models import load_model
from mowich.models.model import Model, Moe
from mowich.progress import steps
from mowich.requests.rooms.claims import ClaimsRequest
from mowich.shown import AnswerList, Keyed, Result
from mowich.studies import memory_claim, serving_claims
from mowich.studies.explain.rules.rule import R
from mowich.studies.explain.source import Numbers, Source
from mowich.studies.explain.tree import ResultPath
from mowich.sums import float_sum
from mowich.units import show

_TOLERANCE = 0.055
"""A derived value this close to the published one agrees: published figures are rounded to one or two digits."""

_MISSING = "missing: "
HOLDS, ONLY_IF, NOT, UNCHECKED = "holds", "holds only if", "does not follow", "cannot be checked"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimReading:
    """A claim read for one chip, or for a unit of chips (UltraServer, rack, pod): published and derived in the unit of
    the claim, derived with its range."""

    published: float
    derived: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim(Keyed):
    """A claim with its check. text: what a reader calls it; topic: of `facts.entries.TOPICS`; plain: the verdict in one
    sentence; published: in the words and the unit of its source; published_value, derived: SI or a ratio, both in
    `unit` ("x" for a ratio), None where there is none; low, high: of derived, over the ranges of its inputs; per_chip,
    per_unit: both readings where chips of a unit are known, with those chips (the new machine's, then the old one's);
    missing: the measurement that would settle a claim that cannot be checked."""

    KEYS = (
        "id group claim=text topic plain published published_value formula inputs derived low high unit verdict "
        "reason missing per_chip per_unit unit_chips source"
    )

    id: str
    group: str
    text: str
    topic: str
    plain: str
    published: str
    published_value: float | None
    formula: str
    inputs: Mapping[str, str]
    derived: float | None
    low: float | None
    high: float | None
    unit: str
    verdict: str
    reason: str
    source: str
    missing: str = ""
    per_chip: ClaimReading | None = None
    per_unit: ClaimReading | None = None
    unit_chips: tuple[int, ...] = ()


def expert_share(model: Model) -> float:
    """Share of a model's parameters that lies in routed experts."""
    return (
        float_sum(
            layer.count * layer.ffn.num_experts * (3.0 if layer.ffn.gated else 2.0) * layer.ffn.ffn * model.hidden
            for layer in model.layers
            if isinstance(layer.ffn, Moe)
        )
        / model.params
    )


def number_of(fact: Fact) -> float | None:
    """The value of a fact of a claim where it is a number."""
    return float(fact.value) if isinstance(fact.value, int | float) else None


def claimed(check: Check, fact: Fact) -> float | None:
    """The claim as a number: a share on top is 1 more; the first number of a text only where a formula is set against
    it."""
    value = number_of(fact)
    if value is None and check.formula and (found := figure_of(fact)) is not None:
        value = found[0]
    return value if value is None or not check.gain else 1.0 + value


def given_numbers(check: Check) -> dict[str, float]:
    """Symbol -> number of `Check.given`."""
    known = {"expert_share": expert_share(load_model(check.model))} if check.model else {}
    out: dict[str, float] = {}
    for symbol, text in check.given.items():
        out[symbol] = number_by(text, {**known, **out})
    return out


def derive(facts: Facts, check: Check) -> tuple[float | None, float | None, float | None, dict[str, str], str]:
    """(value, low, high, inputs as written, missing fact): over the ends of the ranges of the inputs."""
    if not check.formula:
        return None, None, None, {}, check.missing
    shown: dict[str, str] = {}
    ends: dict[str, tuple[float, ...]] = {}
    values: dict[str, float] = {}
    for symbol, path in check.inputs.items():
        fact = facts.fact(path)
        value = number_of(fact)
        if value is None:
            return None, None, None, shown, f"no source of ours states {path}"
        values[symbol] = value
        ends[symbol] = (value,) if fact.low is None or fact.low == fact.high else (fact.low, float(fact.high or value))
        shown[symbol] = f"{path} = {fact.as_written}"
    given = given_numbers(check)
    corners = [{**dict(zip(ends, at, strict=True)), **given} for at in itertools.product(*ends.values())]
    value = check.derived({**values, **given})
    found = [end for at in corners for end in check.ends(at)] or [value, *map(check.derived, corners)]
    return value, min(found), max(found), shown, ""


def verdict(
    check: Check,
    published: float | None,
    value: float | None,
    low: float | None,
    high: float | None,
    *,
    at_least: bool = False,
    more: Mapping[str, float] | None = None,
) -> tuple[str, str]:
    """(verdict, reason) of a claimed number against a derived one and its range. at_least: the claim is a bound (">4
    x"); more: numbers for the reason."""
    if value is None or low is None or high is None:
        return UNCHECKED, ""
    if published is None:
        return UNCHECKED, "the claim states no number"
    numbers = {"value": value, "low": low, "high": high, **(more or {})}
    if check.missing:
        return UNCHECKED, f"{_MISSING}{check.missing.format(**numbers)}"
    near = value >= published * (1 - _TOLERANCE) if at_least else abs(value / published - 1) <= _TOLERANCE
    inside = low * (1 - _TOLERANCE) <= published <= high * (1 + _TOLERANCE) or (at_least and high >= published)
    condition = check.condition.format(**numbers)
    if near and not condition:
        return HOLDS, ""
    if (near or inside) and condition:
        return ONLY_IF, condition
    if inside:
        return ONLY_IF, f"the derived value is known as {low:.3g} to {high:.3g}, and the claim lies inside"
    return (
        (ONLY_IF, condition)
        if condition
        else (NOT, f"the facts give {value:.3g}, not {published:.3g}" + (f": {check.note}" if check.note else ""))
    )


_UNIT_IN_NOTE = re.compile(r"(?:(?P<before>press report); )?in (?P<unit>[^;]*)(?:; (?P<after>.*))?")

LONGEST_NOTE = 40
"""Characters of a note that is shown beside a claim; longer ones are in the facts."""


def as_published(fact: Fact) -> str:
    """A claim as its source has it, with a short note: "100 x (up to)". The unit of a count stands in its note ("in
    output token/s per box")."""
    shown, note = fact.as_written, fact.note or ""
    unit = _UNIT_IN_NOTE.fullmatch(note) if fact.unit == "" and fact.value is not None else None
    if fact.unit == "" and isinstance(fact.value, float) and fact.value.is_integer() and not fact.shown_range:
        shown = f"{fact.value:,.0f}"
    if unit:
        shown = f"{shown} {unit['unit']}"
        note = "; ".join(x for x in (unit["before"], unit["after"]) if x)
    return f"{shown} ({note})" if 0 < len(note) < LONGEST_NOTE else shown


def for_another(value: float, scale: float) -> float:
    """A figure of a chip for a unit of chips, or of a unit for a chip.

    T = value * scale
    """
    return value * scale


def scales(check: Check, facts: Facts) -> tuple[float, float]:
    """(claim to a reading per chip, claim to a reading per unit): the chips of a unit, of two units their ratio."""
    chips = [facts.number(path) for path in check.counts]
    ratio = chips[0] / chips[1] if len(chips) > 1 else chips[0]
    return (1.0 / ratio, 1.0) if check.per == "unit" else (1.0, ratio)


def readings(
    check: Check,
    facts: Facts,
    published: float | None,
    value: float | None,
    low: float | None,
    high: float | None,
) -> tuple[ClaimReading | None, ClaimReading | None, tuple[int, ...]]:
    """(per chip, per unit, chips of the units) of a claim that has both, else (None, None, ()).

    A unit of n chips against one of m is n / m times a chip against a chip; a figure of one unit is n times that of a
    chip.
    """
    if not check.counts or published is None or value is None or low is None or high is None:
        return None, None, ()
    chip, unit = (
        ClaimReading(
            published=for_another(published, scale),
            derived=for_another(value, scale),
            low=for_another(low, scale),
            high=for_another(high, scale),
        )
        for scale in scales(check, facts)
    )
    return chip, unit, tuple(round(facts.number(path)) for path in check.counts)


def side_text(value: float, unit: str) -> str:
    """A claimed or derived number with its unit: "1.08 EFLOP/s", "4.36 x"."""
    return f"{value:.3g} {unit}".rstrip() if unit in ("", "x") else show(value, unit, 3)


def _range_text(value: float, low: float, high: float, unit: str) -> str:
    span = f" ({side_text(low, unit)} to {side_text(high, unit)})" if high > low * (1 + 1e-3) else ""
    return side_text(value, unit) + span


def _plain(c: Claim) -> str:
    """The verdict in a sentence or two, both sides in one unit, and the other reading beside it."""
    if c.verdict == UNCHECKED or c.derived is None or c.published_value is None or c.low is None or c.high is None:
        return f"Cannot be checked. Missing: {c.missing or c.reason}."
    numbers = (
        f"claimed {side_text(c.published_value, c.unit)}, the facts give"
        f" {_range_text(c.derived, c.low, c.high, c.unit)}"
    )
    said = {HOLDS: "True", ONLY_IF: "True only under a condition", NOT: "Not by the facts"}[c.verdict]
    out = f"{said}: {numbers}."
    if c.per_chip is None or c.per_unit is None:
        return out
    if len(c.unit_chips) == 1:
        return f"{out} That is {side_text(c.per_chip.derived, c.unit)} for each of {c.unit_chips[0]:,} chips."
    n, m = c.unit_chips
    is_unit = c.per_unit.published == c.published_value
    other = c.per_chip if is_unit else c.per_unit
    own, wanted = f"That is {n:,} chips against {m:,}; chip against chip", f"For {n:,} chips against {m:,}"
    return (
        f"{out} {own if is_unit else wanted} the claim is {side_text(other.published, c.unit)} and the facts give"
        f" {side_text(other.derived, c.unit)}."
    )


def weight(c: Claim) -> tuple[int, int, int]:
    """The place of a claim, the least first: checked before unchecked, Trainium 3 before others, then by topic."""
    is_ours = "Trainium 3" in c.text or "Trainium3" in c.id
    return (c.verdict == UNCHECKED, not is_ours, TOPICS.index(c.topic) if c.topic in TOPICS else len(TOPICS))


_TIMES = re.compile(r"(\d+(?:\.\d+)?)x")


def matches(c: Claim, words: str) -> bool:
    """Whether all words of a search stand in a claim's title, id, figures or verdict. "4x" finds what is published as
    about 4 times (4 x, 4.4 x), to the digits of the search."""
    text = " ".join((c.id.replace("_", " "), c.id, c.text, c.topic, c.published, c.verdict)).casefold()
    for word in re.sub(r"(\d)\s+x\b", r"\1x", words.casefold()).split():
        times = _TIMES.fullmatch(word)
        if times is not None:
            digits = len(times[1].partition(".")[2])
            if (
                c.unit != "x"
                or c.published_value is None
                or abs(c.published_value - float(times[1])) >= 0.5 * 10.0**-digits
            ):
                return False
        elif word not in text:
            return False
    return True


class ClaimStudy(AnswerList[Claim]):
    """Public claims with their verdicts. word: what they were searched by; memory: what memory per chip costs, where a
    claim of memory is among them.

    Units: those of each claim.

    Example:
        >>> import mowich
        >>> mowich.claims("4.4x")[0].verdict != ""  # doctest: +SKIP
        True
    """

    SCHEMA = "mowich/claims@1"
    KEYS = "facts_hash verdicts claims=rows memory inputs.word=word?"

    def __init__(self, rows: Sequence[Claim], facts: Facts, *, word: str | None = None) -> None:
        super().__init__(rows)
        self.facts_hash, self.word = facts.hash(), word
        self.memory = memory_claim.memory_table(facts) if any(c.topic == "memory" for c in rows) else []
        self.verdicts = {v: sum(c.verdict == v for c in rows) for v in (HOLDS, ONLY_IF, NOT, UNCHECKED)}


def claims(facts: Facts) -> list[Claim]:
    """Every entry of facts/claims with its verdict, in the order of `weight`; derived once for the same facts."""
    return list(facts.once("claims", _derived))


def _derived(facts: Facts) -> tuple[Claim, ...]:
    """As `claims` has them."""
    out: list[Claim] = []
    for entry in steps(list(entries(facts)), "deriving claims"):
        name, found = entry.file, entry.id
        fact = facts.fact(entry.published)
        check = check_of(facts, entry.path, name)
        value, low, high, shown, missing = derive(facts, check)
        published = claimed(check, fact)
        more = None
        if check.more and value is not None and published:
            values = {symbol: facts.number(path) for symbol, path in check.inputs.items()}
            more = {**values, **check.of_claimed(values, published)}
        at_least = (fact.note or "").startswith("more than")
        judged, reason = verdict(check, published, value, low, high, at_least=at_least, more=more)
        if judged == UNCHECKED and not reason:
            reason = f"{_MISSING}{missing or check.missing}"
            if fact.value is None:
                reason = f"{fact.reason}; {reason}"
        if check.served:
            answer = facts.once("gpt-oss served", serving_claims.gpt_oss_served)
            reason += f"; {check.served.format(**answer)}"
        unit = "x" if check.gain or fact.unit in ("1", "text") else fact.unit
        per_chip, per_unit, unit_chips = readings(check, facts, published, value, low, high)
        claim = Claim(
            id=found,
            group=name,
            text=entry.title or entry.key,
            topic=entry.topic,
            plain="",
            published=as_published(fact),
            published_value=published,
            formula=check.says.format(**given_numbers(check)),
            inputs=shown,
            derived=value,
            low=low,
            high=high,
            unit=unit,
            verdict=judged,
            reason=reason,
            missing=reason.rpartition(_MISSING)[2] if judged == UNCHECKED else "",
            source=", ".join(word for word in (fact.title, fact.locator) if word) or f"no source: {fact.reason}",
            per_chip=per_chip,
            per_unit=per_unit,
            unit_chips=unit_chips,
        )
        out.append(replace(claim, plain=_plain(claim)))
    return tuple(sorted(out, key=weight))


def answer(asked: ClaimsRequest) -> ClaimStudy:
    """Each public claim, derived again, with a verdict.

    Args:
        word: only those with these words in title, id, figures or verdict ("4x", "energy trainium").
        facts: other facts than the shipped ones.

    Returns: a `ClaimStudy`, a list of claims that prints itself. Units: those of each claim.

    Example:
        >>> import mowich
        >>> len(mowich.claims("4.4x")) > 0  # doctest: +SKIP
        True
    """
    word = asked.word
    found = [c for c in claims(asked.facts) if word is None or matches(c, word)]
    if not found:
        raise UserError(
            "no claim has all of these words",
            field="word",
            given=word,
            allowed=f"words of a title, a figure such as 4x, a topic ({', '.join(TOPICS)}) or a verdict",
            fix=f"groups of claims: {', '.join(asked.facts.ids('claims'))}",
        )
    return ClaimStudy(found, asked.facts, word=word)


IS_SLOW = True

_SIDES = {
    "published": "what was claimed",
    "derived": "the claim derived again",
    "low": "least that the ranges of its facts allow",
    "high": "most that the ranges of its facts allow",
}
"""Side of a claim -> what it is."""

RULES = (
    R("verdicts *", "claims", "claims with this verdict", "count: counted"),
    R("claims * published_value", "1", _SIDES["published"], "lookup: as published"),
    R("claims * derived", "1", _SIDES["derived"], "terms: the formula of the claim, below"),
    *(
        R(f"claims * {end}", "1", _SIDES[end], "search: the formula at every corner of the ranges of its facts")
        for end in ("low", "high")
    ),
    *(
        R(
            f"claims * {per} {side}",
            "1",
            f"{what} for {one}",
            "terms: the claim over or times the chips of a unit",
        )
        for per, one in (("per_chip", "one chip"), ("per_unit", "a unit of chips"))
        for side, what in _SIDES.items()
    ),
    R("claims * unit_chips *", "chips", "chips of a unit, the new machine first", "lookup: as published"),
    *(
        R(f"memory * {name}", *said)
        for numbers in memory_claim.memory_lines().values()
        for name, said in numbers.items()
    ),
)
"""What each number is."""


def source(result: Result, at: ResultPath, row: Result, facts: Facts, model: Callable[[], Model]) -> Source:
    """A claim, or a line of the table of memory, made again."""
    return (_claim_source if at[0] == "claims" else _memory_source)(result, at, row, facts)


def _claim_source(result: Result, at: ResultPath, row: Result, facts: Facts) -> Source:
    """One public claim: its own formula over the facts that it names."""
    entry = next((e for e in entries(facts) if e.id == row["id"]), None)
    check = Check() if entry is None else check_of(facts, entry.path, entry.file)
    paths = {k: str(v).split(" = ")[0] for k, v in row["inputs"].items() if " = " in str(v)}
    plain = {k: float(v) for k, v in row["inputs"].items() if k not in paths} | given_numbers(check)
    formula = check.formula if row["derived"] is not None else ""

    def law(**values: float) -> float:
        return check.derived(values)

    law.__doc__ = f"T = {formula}"

    def numbers(known: Facts, wanted: ResultPath) -> Numbers:
        value, low, high, _, _ = derive(known, check)
        return {(k,): v for k, v in (("derived", value), ("low", low), ("high", high)) if v is not None}

    def symbols(known: Facts) -> dict[str, float]:
        return {k: known.number(p) for k, p in paths.items()} | plain

    def published(known: Facts) -> float | None:
        """What was claimed, as the result reads it."""
        fact = None if entry is None else known.fact(entry.published)
        return None if fact is None else claimed(check, fact)

    def record(name: ResultPath, known: Facts, notes: Notes) -> None:
        if name[0] == "published_value":
            value = published(known)
            if value is not None and entry is not None:
                text = f" ({entry.published})" if known.fact(entry.published).unit == "text" else ""
                notes.add("published", value, "1", note=row["published"] + text)
        elif name[0] in ("per_chip", "per_unit"):
            made = {k[0]: v for k, v in numbers(known, ("derived",)).items()} | {"published": published(known)}
            scale = scales(check, known)[name[0] == "per_unit"]
            value = made.get(str(name[1]))
            if value is not None:
                told(notes, name[0].replace("_", " "), for_another, unit="1")(value=value, scale=scale)
        elif formula:
            told(notes, row["id"], law, unit="1", words=row["formula"], note=row["reason"])(**symbols(known))

    return Source(
        at=at,
        numbers=numbers,
        record=record,
        symbols=symbols,
        formulas={("derived",): formula} if formula else {},
        title=row["claim"],
    )


def _memory_source(result: Result, at: ResultPath, row: Result, facts: Facts) -> Source:
    """A line of the table of what memory per chip costs."""
    name, system = row["model"], row["system"]

    def numbers(known: Facts, wanted: ResultPath) -> Numbers:
        """The bound alone: what moves a planned figure is explained from the answer of the comparison itself."""
        return {(k,): float(v) for k, v in memory_claim.memory_bounds(known, name)[system].items()}

    first = next(r for r in result["memory"] if r["model"] == name)

    def symbols(known: Facts) -> dict[str, float]:
        return memory_claim.bound_symbols(known, name, system) | {
            "first_tokens_per_s": first["tokens_per_s"],
            "first_planned_tokens_per_s": first["planned_tokens_per_s"]["value"],
        }

    return Source(at=at, numbers=numbers, symbols=symbols, title=f"{name}, {row['context']} tokens, {system}")
