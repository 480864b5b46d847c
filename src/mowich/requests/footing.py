"""What is the same for all systems of a comparison: chips, units, dollars or power; or, in the place of a number of
chips, money and days, chips that are there already, or the power of a site; and the time that an answer is told for."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mowich.errors import UserError
from mowich.requests.fields import Field, number, quantity, read_names, word
from mowich.requests.schema import QuestionReader
from mowich.requests.stated import inputs_of, systems_there, token_price_words
from mowich.shown import Result
from mowich.units import UNITS, parse

EQUAL = ("chips", "units", "usd", "power")
"""Footings of a comparison: what is the same for all systems."""
EQUALS = word(
    "equal",
    "Footing of --chips: chips, units, usd or power.",
    words=EQUAL,
    what="footing",
    metavar="WHAT",
    default="chips",
    example="usd",
)
RUN_BUDGET = quantity(
    "budget",
    "USD",
    "Money for --days. Rents chips, or powers those of a size.",
    metavar="USD",
    example="$2M",
)
RUN_DAYS = number(
    "days",
    "Days that --budget pays for.",
    low=0.0,
    above=True,
    high=3650.0,
    metavar="N",
    example="30",
)


HAVE: Field[tuple[str, ...]] = Field(
    name="have",
    parse=read_names,
    kind="names",
    default=(),
    help="Chips that are there: trn2:512. They cost electricity.",
    metavar="SYSTEMS",
    example="trn2:512",
    completes="systems",
    told=systems_there,
)
SITE_POWER = quantity(
    "power",
    "W",
    "Site at the meter: how many chips of each it feeds.",
    metavar="POWER",
    example="5MW",
)
PERIODS = ("year", "month", "day")
"""Times that an answer is told for."""
PER = word(
    "per", "Tokens, money, energy a year, month or day.", words=PERIODS, what="time", metavar="TIME", example="year"
)


class TokenPrice(NamedTuple):
    """What a million tokens are sold at: USD, with the ends of its range."""

    low: float
    value: float
    high: float


_PER_MTOK = UNITS["$/Mtok"].value
_DEAREST = 0.1
"""USD: nobody sells a token for more."""
_SPAN = re.compile(r"\s*(?P<low>[^/]+?)\s*\.\.\s*(?P<high>[^/]+?)\s*(?P<unit>/.*)")


def read_token_price(value: object) -> TokenPrice:
    """A price of tokens, or a range of it, whose value is the geometric mean.

    >>> read_token_price("$0.50/Mtok")
    TokenPrice(low=0.5, value=0.5, high=0.5)
    >>> read_token_price("$0.2..$0.8/Mtok")
    TokenPrice(low=0.2, value=0.4, high=0.8)
    """
    said = "'$0.50/Mtok', '$0.3..$0.6/Mtok'"
    found = _SPAN.fullmatch(value) if isinstance(value, str) else None
    ends = [f"{found[end]}{found['unit']}" for end in ("low", "high")] if found else [value]
    usd = []
    for end in ends:
        is_number = isinstance(end, int | float) and not isinstance(end, bool)
        try:
            usd.append(float(end) if is_number else parse(end, "USD/token").value)  # type: ignore[arg-type]
        except UserError as error:
            raise UserError("not a price of tokens", given=value, allowed=said, fix=error.fix) from None
    low, high = usd[0], usd[-1]
    if not 0 < low <= high <= _DEAREST:
        wrong = "the low end is above the high one" if low > high else "a price of tokens is above 0"
        raise UserError("more than a token was ever sold at" if high > _DEAREST else wrong, given=value, allowed=said)
    low, high = (float(f"{end / _PER_MTOK:.12g}") for end in (low, high))
    return TokenPrice(low, low if low == high else float(f"{math.sqrt(low * high):.12g}"), high)


SELLS: Field[TokenPrice] = Field(
    name="sells",
    parse=read_token_price,
    kind="quantity",
    unit="USD/token",
    help="With --per: price of tokens, '$0.3..$0.6/Mtok'.",
    metavar="PRICE",
    example="$0.50/Mtok",
    told=token_price_words,
    annotation="str",
)
PAYS_WITHIN = quantity(
    "within",
    "s",
    "With --per: by when porting has to pay, 2y.",
    high=50 * UNITS["year"].value,
    metavar="TIME",
    example="2y",
)
OWN_FLEET = (HAVE, SITE_POWER, PER, SELLS, PAYS_WITHIN)
"""What training and serving ask of a fleet, a site and a year of it."""
PAID_RUN = (RUN_BUDGET, RUN_DAYS, *OWN_FLEET)
"""The same, and the money of a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Footing:
    """What is the same for all systems of a comparison, beside a number of chips."""

    equal: str = "chips"
    """What the number of chips counts, one of `EQUAL`."""
    budget: float | None = None
    """USD that pay for the chips of each system for so many days; None: their number is asked."""
    days: float | None = None
    has_tokens: bool = False
    """The tokens of the run are asked; else they are what the money trains."""
    have: tuple[str, ...] = ()
    """Systems that are there already."""
    power: float | None = None
    """W of the site that says how many chips there are."""

    @property
    def is_counted(self) -> bool:
        """Whether numbers of chips follow from something else than a number that is the same for all."""
        return self.budget is not None or self.power is not None or self.equal != "chips"

    def kind(self, term: str) -> str:
        """The kind of price of what is not there: a budget rents. term: of the question."""
        return "rent" if self.budget is not None and term == "default" else term

    def inputs(self) -> dict[str, object]:
        """What a result states besides chips: money, days and power."""
        paid = {} if self.budget is None else {"budget_usd": self.budget, "days": self.days}
        untold = {"tokens": None} if paid and not self.has_tokens else {}
        return {**paid, **untold, **({} if self.power is None else {"power_W": self.power})}


ON_CHIPS = Footing()
"""Every system has the same number of chips, or the number in its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class YearAsk:
    """The time that rows are told for."""

    per: str
    """One of `PERIODS`."""
    sells: TokenPrice | None = None
    """USD of a million tokens; None: not asked."""
    within_s: float | None = None
    """Seconds in which a port has to pay; None: as the facts say."""

    @property
    def period_s(self) -> float:
        """Seconds of the time that rows are told for."""
        return UNITS[self.per].value

    def inputs(self) -> dict[str, object]:
        """As a result states it."""
        return {
            "per": self.per,
            "period_s": self.period_s,
            **({} if self.sells is None else {"sells": self.sells._asdict()}),
            **({} if self.within_s is None else {"within_s": self.within_s}),
        }


def is_paid(inputs: Result) -> bool:
    """Whether the money of a run says the chips of a result with these inputs."""
    return bool(inputs.get("budget_usd"))


def price_asked(result: Result) -> object:
    """`--price`. A budget rents where nothing else is said."""
    inputs = inputs_of(result)
    kind = inputs.get("price_term")
    return None if kind == "default" or (kind == "rent" and is_paid(inputs)) else kind


def asks_paid(reader: QuestionReader) -> bool:
    """Whether the money of a run is given, right or wrong."""
    return reader.has(RUN_BUDGET)


def only_one_site(reader: QuestionReader, sites: Field[int]) -> None:
    """A problem where money is given for a run on several sites."""
    if reader.get(sites) is not None and asks_paid(reader):
        reader.add("pays for one site alone", RUN_BUDGET, fix=f"leave {reader.said(sites)} out")


def read_have(reader: QuestionReader) -> tuple[str, ...]:
    """Systems that are there, each with its size."""
    there = reader.get(HAVE) or ()
    if reader.has(HAVE) and reader.get(HAVE) == ():
        reader.add("names no system", HAVE, fix=f"for example {reader.example(HAVE)}")
    for name in there:
        if not has_size(name, None):
            reader.add(f"'{name}' does not say how many are there", HAVE, fix=f"{name}:512")
    return there


def read_power(reader: QuestionReader, others: Sequence[Field[object]], names: Sequence[str]) -> None:
    """A problem where a site's power is asked for beside what says the number of chips in another way. others: fields
    that do, and the money of a run does; names: of the systems that it is to feed."""
    if not reader.has(SITE_POWER):
        return
    for field in (*others, RUN_BUDGET):
        if reader.has(field) and reader.given(field) != field.default:
            reader.add(f"{reader.said(SITE_POWER)} says how many chips", field, fix="leave one of them out")
    if names and all(has_size(name, None) for name in names):
        reader.add(
            "says how many chips, and every system has a size",
            SITE_POWER,
            fix=f"for example {names[0].split(':')[0].split('*')[0]}",
        )
    elif not names and reader.has(HAVE):
        reader.add("needs a system without a size to give its power to", SITE_POWER, fix="name one: trn3")


def read_per(reader: QuestionReader) -> YearAsk | None:
    """The time that rows are told for, None where none is asked; a problem for what is only told of one."""
    per = reader.get(PER)
    if not reader.has(PER):
        for field in (SELLS, PAYS_WITHIN):
            if reader.has(field):
                reader.add(f"needs a time, which {reader.said(PER)} states", field, fix=f"add {reader.example(PER)}")
    return None if per is None else YearAsk(per=per, sells=reader.get(SELLS), within_s=reader.get(PAYS_WITHIN))


def has_size(name: str, chips: int | None) -> bool:
    """Whether a question says how many chips a system has: in its name, or for all. With a budget those chips are there
    already.

    >>> has_size("trn2:512", None), has_size("trn2", None), has_size("trn2", 64)
    (True, False, True)
    """
    return chips is not None or ":" in name or "*" in name


def read_paid(reader: QuestionReader, footing: Field[object]) -> bool:
    """Whether there are money and days. Both are needed; they rent chips of a system without a size, and pay the
    electricity of chips that are there. No other footing may be asked for."""
    given = next((field for field in (RUN_BUDGET, RUN_DAYS) if reader.has(field)), None)
    if given is None:
        return False
    reader.need(RUN_BUDGET, RUN_DAYS, why=f" with {reader.said(given)}")
    if reader.has(footing) and reader.get(footing) != footing.default:
        reader.add(
            f"{reader.said(RUN_BUDGET)} already says what is equal for all systems",
            footing,
            fix="leave one of them out",
        )
    return True


def only_rent(reader: QuestionReader, kind: Field[str], term: str) -> None:
    """A problem, at the field of the kind of price, where a budget is to rent at what is nobody's rent. term: of the
    question, "" without a budget."""
    from mowich.economics.money import RENTAL_KINDS

    if term not in ("", "default", *RENTAL_KINDS):
        said = f"{reader.said(RUN_BUDGET)} rents chips"
        reader.add(said, kind, given=term, allowed=RENTAL_KINDS, fix="leave it out")
        reader.stop()
