"""What a scenario may say: every form that docs/read/fleet.md shows is read, and counts say what they count."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mowich import facts
from mowich.economics.ownership import owned
from mowich.errors import UserError
from mowich.facts import Facts
from mowich.fleets.problem import FleetProblem
from mowich.fleets.read import read_problem

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "read" / "fleet.md").read_text(encoding="utf-8")
KNOWN = facts.load_facts()
BASE = """mowich: 1
name: forms
periods: {start: 2027-Q1, count: 8}
workloads:
  run:
    train: {model: llama-3.1-8b, tokens: 1T, seq: 4096, batch: 512seqs}
systems:
  SYSTEM: {CHIPS}
sites:
  home: {power: 10 MW, pue: 1.2, electricity: $0.06/kWh}
budget: {total: $50M}
"""


def read(text: str, known: Facts = KNOWN) -> FleetProblem:
    return read_problem("scenario.yaml", known, text=text)


def of(chips: str, system: str = "trn2") -> FleetProblem:
    return read(BASE.replace("SYSTEM", system).replace("CHIPS", chips))


def table(head: str) -> list[list[str]]:
    """Rows of a table of the page, cell by cell. head: how its first line begins."""
    lines = PAGE[PAGE.index(head) :].splitlines()
    rows = lines[2 : lines.index("") if "" in lines else None]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def prices() -> Iterator[tuple[str, str]]:
    """(key, form) of every price that the page says may stand there."""
    for _, rent, buy in table("| `price` |"):
        yield from (("rent", form) for form in quoted(rent))
        yield from (("committed", form) for form in quoted(rent))
        yield from (("buy", form) for form in quoted(buy))


def test_a_key_may_be_what_the_page_shows() -> None:
    """The examples of its first table, each in its place."""
    seen, rows = 0, table("| key | what |")
    for key, _, example in rows:
        [name], forms = quoted(key), quoted(example)
        for form in forms:
            seen += 1
            text = BASE.replace("SYSTEM", "trn2").replace(
                "CHIPS", form if name == "systems.NAME" else "have: {home: 64 chips}"
            )
            if name == "sites.NAME":
                text = re.sub(r"home: \{.*", f"home: {form}", text)
            elif name != "systems.NAME":
                text = re.sub(rf"^{name}:.*\n", "", text, flags=re.MULTILINE) + f"{name}: {form}\n"
            read(text)
    assert seen == len(rows) - 1  # workloads have an example of their own


@pytest.mark.parametrize(("key", "form"), list(prices()))
def test_a_price_may_be_what_the_page_shows(key: str, form: str) -> None:
    """On one system at least: not every kind of price is quoted for each."""
    more = {"rent": "for: 1y", "committed": "units: 4", "buy": "life: 5y"}[key]
    refused = []
    for system in ("trn2", "h100", "h200", "b200", "gb300", "tpu-v6e"):
        try:
            problem = of(f"{key}: {{price: {form}, {more}}}", system)
        except UserError as wrong:
            refused.append(wrong.line())
            continue
        [choice] = problem.choices
        price = choice.committed_price if key == "committed" else choice.offers[0].price
        assert price.value is not None
        assert price.value > 0
        return
    pytest.fail("\n".join(refused))


def test_every_example_of_the_page_is_a_scenario() -> None:
    whole = [text for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if "\nperiods:" in text]
    assert whole
    for text in whole:
        assert not read(text).warnings


def test_a_purchase_may_cost_what_its_parts_do() -> None:
    """`tco` of a purchase is the capital of a unit: energy and site are charged where it stands."""
    for system in ("trn2", "gb300", "h100"):
        [choice] = of("buy: {price: tco, life: 5y}", system).choices
        [offer] = choice.offers
        capital = owned(KNOWN, system).capital_total
        assert float(offer.price) == pytest.approx(float(capital) * choice.unit_chips)
        assert (offer.price.low or 0) < float(offer.price) < (offer.price.high or 0)
        assert "/unit, tco, " in offer.price_label
    with pytest.raises(UserError, match="or tco"):
        of("buy: {life: 5y}")


sizes = st.sampled_from([1, 4, 8, 16, 64, 72, 144, 256])


@settings(max_examples=60, deadline=None)
@given(sizes, st.integers(0, 4000), st.sampled_from(["have: {home: GIVEN}", "have: {cloud: GIVEN}"]), st.booleans())
def test_what_one_has_is_counted_in_what_it_says(unit: int, number: int, have: str, several: bool) -> None:
    """The same chips in chips and in units; a number alone where a unit is one chip, or nothing; no part of a unit."""

    def there(given: str) -> float:
        form = f"{{2027-Q2: {given}}}" if several else given
        [choice] = of(f"unit_chips: {unit}, {have.replace('GIVEN', form)}").choices
        [(_, units)] = choice.have.items()
        assert units[0] == (0 if several else units[-1])
        return float(units[-1])

    assert there(f"{number} units") == number
    assert there(f"{number * unit} chips") == number
    if unit == 1 or not number:
        assert there(str(number)) == number
    else:
        said = rf"of what\? a unit has {unit} chips, got '?{number}'?; allowed: '{number} chips' or '{number} units'"
        with pytest.raises(UserError, match=said):
            there(str(number))
        with pytest.raises(UserError, match="only whole units stand"):
            there(f"{number * unit + 1} chips")


@pytest.mark.parametrize("wrong", ["512 racks", "chips", "-64 chips", "12.5 units", "64 chips 2"])
def test_counts_of_nothing_are_refused(wrong: str) -> None:
    with pytest.raises(UserError, match="home"):
        of(f"have: {{home: {wrong}}}")


def test_a_supply_counts_units_or_says_chips() -> None:
    for supply in ("4", "4 units", "256 chips"):
        [choice] = of(f"rent: {{price: $1/chip/h, supply: {supply}}}").choices
        assert set(choice.offers[0].supply) == {4}
