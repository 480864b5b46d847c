"""Each public claim, derived again from sourced facts (`mowich claims`, docs/claims.md): formula, inputs, result,
verdict.

Verdicts: `holds` (derived from facts of grade A to C and within TOLERANCE), `holds only if` (true under a stated
condition, or for a part of the range of an estimated fact), `does not follow` (the facts give another number), `cannot
be checked` (something is not published: said what). A claim that we have no formula for is still listed, with what is
missing. A test holds docs/claims.md to what the facts give.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass

from mowich.facts import Fact, Facts
from mowich.facts.entries import entries
from mowich.studies import serving_claims
from mowich.studies.claim_checks import Check, checks, claimed, number_of

_TOLERANCE = 0.055
"""A derived value this close to the published one agrees: published figures are rounded to one or two digits."""

HOLDS, ONLY_IF, NOT, UNCHECKED = "holds", "holds only if", "does not follow", "cannot be checked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A claim with its check. published: in words, with the unit of its source; published_value, derived: SI or a
    ratio, None where there is none; low, high: of derived, over the ranges of its inputs; unit: of derived, "x" for a
    ratio."""

    id: str
    group: str
    text: str
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

    def to_dict(self) -> dict[str, object]:
        """As in the JSON of `mowich claims`."""
        return {
            "id": self.id,
            "group": self.group,
            "claim": self.text,
            "published": self.published,
            "published_value": self.published_value,
            "formula": self.formula,
            "inputs": dict(self.inputs),
            "derived": self.derived,
            "low": self.low,
            "high": self.high,
            "unit": self.unit,
            "verdict": self.verdict,
            "reason": self.reason,
            "source": self.source,
        }


def derive(facts: Facts, check: Check) -> tuple[float | None, float | None, float | None, dict[str, str], str]:
    """(value, low, high, inputs as written, missing fact): over the ends of the ranges of the inputs."""
    if check.of is None:
        return None, None, None, {}, check.missing
    shown: dict[str, str] = {}
    ends: dict[str, tuple[float, ...]] = {}
    values: dict[str, float] = {}
    for symbol, path in check.inputs.items():
        fact = facts.fact(path)
        value = number_of(fact)
        if value is None:
            return None, None, None, shown, f"{path} is not published"
        values[symbol] = value
        ends[symbol] = (value,) if fact.low is None or fact.low == fact.high else (fact.low, float(fact.high or value))
        shown[symbol] = f"{path} = {fact.as_written}"
    value = check.of(**values, **check.given)
    corners = [
        check.of(**dict(zip(ends, combo, strict=True)), **check.given) for combo in itertools.product(*ends.values())
    ]
    low, high = min([value, *corners]), max([value, *corners])
    if check.spread is not None:
        spans = [check.spread(dict(zip(ends, combo, strict=True))) for combo in itertools.product(*ends.values())]
        low, high = min(a for a, _ in spans), max(b for _, b in spans)
    return value, low, high, shown, ""


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
        return UNCHECKED, f"not published: {check.missing.format(**numbers)}"
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


def title(key: str) -> str:
    """The words of a claim from its key."""
    return re.sub(r"\s+", " ", key.replace("_", " ")).strip()


def tokens_per_chip(batch: float, length: float, step: float, chips: float) -> float:
    """Tokens per second and chip of a training step.

    T = batch * length / (step * chips)

    Units: length tokens, step s, chips chips.
    """
    return batch * length / (step * chips)


def training_row(facts: Facts, root: str, key: str) -> Claim:
    """A measured training row: its tokens per chip from batch, length and step, and its MFU from the published peak."""
    match = re.fullmatch(r"(.+)_(\d+)_(\d+)_(\d+)_(bf16|fp8_full)", key)
    step, tokens = facts.fact(f"{root}.{key}.step_time"), facts.fact(f"{root}.{key}.tokens_per_chip")
    published = float(tokens.value or 0)
    assert match is not None, key
    chips, batch, seq = (int(match[i]) for i in (2, 3, 4))
    value = tokens_per_chip(batch, seq, float(step.value or 1), chips)
    agrees = abs(value / published - 1) <= 0.01
    return Claim(
        id=f"{root.split('.')[1]}.{key}",
        group=root.split(".")[1],
        text=f"{match[1]}, {chips} chips, {match[5]}: tokens per second and chip",
        published=f"{published:g} tokens/s",
        published_value=published,
        formula="batch x length / (step x chips)",
        inputs={
            "step": f"{step.path} = {step.as_written}",
            "batch": str(batch),
            "length": str(seq),
            "chips": str(chips),
        },
        derived=value,
        low=value,
        high=value,
        unit="tokens/s",
        verdict=HOLDS if agrees else NOT,
        reason=(
            "arithmetic of the row; our own prediction of it is in accuracy.md"
            if agrees
            else f"the row's step gives {value:.1f}"
        ),
        source=f"{tokens.title}, {tokens.locator}",
    )


def claims(facts: Facts) -> list[Claim]:
    """Every entry of facts/claims with its verdict, in the order of the files."""
    table = checks()
    out: list[Claim] = []
    for entry in entries(facts):
        name, key, found = entry.file, entry.key, entry.id
        if name == "measured-ironwood-training":
            out.append(training_row(facts, entry.path.rpartition(".")[0], key))
            continue
        fact = facts.fact(entry.published)
        check = next((c for start, c in table.items() if found.startswith(start)), None)
        if check is None:
            check = Check(
                missing=(
                    "concurrency, engine settings and latency of the measured point; `mowich validate` predicts rows"
                    " that state them"
                )
            )
        value, low, high, shown, missing = derive(facts, check)
        published = claimed(check, fact)
        more = None
        if check.more and value is not None and published:
            values = {symbol: facts.number(path) for symbol, path in check.inputs.items()}
            more = {**values, **check.more(values, published)}
        at_least = isinstance(fact.value, str) and fact.value.startswith(">")
        judged, reason = verdict(check, published, value, low, high, at_least=at_least, more=more)
        if judged == UNCHECKED and not reason:
            reason = f"not published: {missing or check.missing}"
            if fact.value is None:
                reason = f"{fact.reason}; {reason}"
        if found.startswith("trainium3-reinvent-2025.GPT-OSS"):
            reason += _served(serving_claims.gpt_oss_served(facts), is_response="response" in key)
        unit = "x" if check.is_gain or fact.unit in ("1", "text") else fact.unit
        out.append(
            Claim(
                id=found,
                group=name,
                text=title(key),
                published=as_published(fact),
                published_value=published,
                formula=check.formula,
                inputs=shown,
                derived=value,
                low=low,
                high=high,
                unit=unit,
                verdict=judged,
                reason=reason,
                source=f"{fact.title}, {fact.locator}",
            )
        )
    return out


def _served(claim: serving_claims.ServeClaim, *, is_response: bool) -> str:
    """What the serving model adds to the bound of bandwidth: the same claim with engines, links and batches."""
    if is_response:
        said = (
            f"responses {claim.response:.2g} times as fast at equal throughput per chip"
            f" ({claim.response_alone:.2g} times for a lone user)"
        )
    else:
        said = (
            f"{claim.throughput:.2g} times the throughput per chip ({claim.throughput_same_format:.2g} times with"
            " 16-bit weights on both)"
        )
    return (
        f"; the serving model, at a limit of {claim.tpot_s * 1e3:.0f} ms per token and with those two formats, gives"
        f" {said}"
    )


# the question behind the claims
# ----------------------------------------------------------------------------------------------------------------------
