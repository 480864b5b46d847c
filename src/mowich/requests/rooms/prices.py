"""prices: what a chip-hour costs its owner, part by part, and what a buyer pays."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mowich.errors import unknown
from mowich.requests.common import FORM, Asked
from mowich.requests.fields import count, quantity, share, word
from mowich.requests.job_fields import ON
from mowich.requests.schema import QuestionReader, Schema, VerbOnWeb
from mowich.requests.settings import OF_FACTS, PRICE_KIND, asked_of, read_term
from mowich.units import UNITS

_YEAR_S = UNITS["year"].value
_MOST_YEARS = 50
PRICED = replace(
    ON,
    keyword="systems",
    needs=False,
    help=ON.help + " Without it: every system with a known cost.",
    told="systems",
)
_KIND = replace(PRICE_KIND, told="price_term")
QUARTER = word(
    "quarter", "Quarter of purchase: memory prices are of it.", metavar="YYYYQN", shown="2026Q4", example="2026Q1"
)
RULE = word(
    "rule",
    "How capital is spread: owner, semianalysis (4 years, leased site), epoch (5 years).",
    metavar="NAME",
    shown="owner",
    example="semianalysis",
)
BUYER = word("buyer", "Who buys: hyperscaler or neocloud.", metavar="WHO", shown="hyperscaler", example="neocloud")
LIFE = quantity(
    "life",
    "s",
    "Life of the machine, instead of that of the rule: 4years.",
    above=True,
    keyword="life_s",
    metavar="TIME",
    example="4years",
)
CHIPS_JOINED = count(
    "chips", "Chips that share one network: above 8,192 it has another layer.", high=1e9, metavar="N", example="100k"
)
MARGIN = share(
    "margin",
    "Margin of a seller, of his price: 30%. Without it: the range of the facts.",
    metavar="SHARE",
    example="30%",
    told="margin_given",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PricesRequest(Asked):
    """Costs and prices of systems (none named: all that are known). price: the kind of price; quarter, rule, buyer,
    life_s, chips: terms of the cost, None: those of the facts; margin: of a seller, None: the range of the facts."""

    systems: tuple[str, ...] | None
    price: str
    quarter: str | None
    rule: str | None
    buyer: str | None
    life_s: float | None
    chips: float | None
    margin: float | None


def _prices(reader: QuestionReader) -> PricesRequest:
    from mowich.economics.ownership import quarters
    from mowich.facts import Facts
    from mowich.machines.system import machine_id, parse_spec
    from mowich.price_terms import BUYERS, COST_RULES

    asked = asked_of(reader, "takes no plan; the kind of price is --price")
    facts = asked["facts"]
    assert isinstance(facts, Facts)
    kind = reader.get(PRICE_KIND) or "tco"
    with reader.watch(PRICE_KIND):
        read_term(kind)
        if kind == "default":
            kind = "tco"
    for field, known in ((QUARTER, quarters(facts)), (RULE, COST_RULES), (BUYER, BUYERS)):
        given = reader.get(field)
        if given is not None and given not in known:
            with reader.watch(field):
                raise unknown(field.name, given, known)
    life = reader.get(LIFE)
    if life is not None and not _YEAR_S <= life <= _MOST_YEARS * _YEAR_S:
        reader.add(f"must be 1 to {_MOST_YEARS} years", LIFE, given=reader.given(LIFE))
    if reader.get(PRICED) == ():
        reader.add("names no system", PRICED, fix=f"for example {PRICED.example}")
    seen: dict[str, str] = {}
    for name in reader.get(PRICED) or ():
        with reader.watch(PRICED):
            system = machine_id(facts, parse_spec(name)[0])
            if seen.setdefault(system, name) != name or list(reader.get(PRICED) or ()).count(name) > 1:
                reader.add(f"'{name}' is named twice", PRICED)
                break
    reader.stop()
    return reader.fill(PricesRequest, **asked, price=kind)


SCHEMA = Schema(
    name="prices",
    fields=(
        *(PRICED, _KIND, QUARTER, RULE, BUYER, LIFE, CHIPS_JOINED, MARGIN, *OF_FACTS),
        *FORM,
    ),
    make=_prices,
    help=(
        "What a chip-hour costs its owner, built up from its parts; what a seller asks for it; and what of published"
        " prices he keeps."
    ),
    short="Cost of ownership of a chip-hour by part, prices, margins.",
    example="mowich prices --on trn3,ironwood,gb300 --rule semianalysis --quarter 2026Q1",
    after="power",
    web=VerbOnWeb(
        tag="machines",
        said="What a chip-hour costs and is sold for:",
        about="What a chip-hour costs its owner, what a seller asks, what he keeps.",
        is_quick=True,
    ),
)
