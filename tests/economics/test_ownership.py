"""Cost of a chip-hour, built up from its parts."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from random import Random

import pytest

from mowich.economics import ownership
from mowich.errors import UserError
from mowich.facts import Facts, Watched
from mowich.price_terms import BUYERS, COST_RULES
from mowich.units import UNITS

YEAR_S, HOUR_S = UNITS["year"].value, 3600.0
ASKED = "prices.ownership.asked"
KNOWN = ("h100", "h200", "b200", "b300", "gb200", "gb300", "vera-rubin-nvl72", "mi300x", "mi355x", "trn2", "trn3-gen1")
KNOWN += ("trn3-gen2", "trn4", "ironwood", "tpu-v6e", "tpu-v5p", "trn2-server", "h800")


def asked(facts: Facts, **terms: str | float) -> Facts:
    return facts.with_values({f"{ASKED}.{name}": value for name, value in terms.items()})


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("rule", COST_RULES)
def test_parts_sum_to_the_total_and_lie_in_their_ranges(facts: Facts, name: str, rule: str) -> None:
    found = ownership.owned(asked(facts, rule=rule), name)
    assert sum(float(e) for e in found.parts.values()) == pytest.approx(float(found.total))
    assert sum(float(e) for e in found.capital.values()) == pytest.approx(float(found.capital_total))
    for e in (*found.parts.values(), found.total, *found.capital.values(), found.capital_total):
        assert e.low is not None
        assert e.high is not None
        assert 0 <= e.low <= float(e) <= e.high
    assert float(found.parts["energy"]) > 0


def test_no_part_of_a_cost_has_a_negative_low_end(facts: Facts) -> None:
    """Of no system, in no quarter, for no buyer, under no rule; parts sum to the whole in all of them."""
    for system in facts.children("prices.machines.bill"):
        for quarter, rule, buyer in itertools.product(ownership.quarters(facts), COST_RULES, BUYERS):
            terms = replace(ownership.read_terms(facts), quarter=quarter, rule=rule, buyer=buyer)
            found = ownership.owned(facts, system, terms)
            if found.total.value is None:
                continue
            for name, part in [*found.parts.items(), *found.capital.items()]:
                where = (system, quarter, rule, buyer, name)
                assert part.low is not None, where
                assert 0.0 <= part.low <= float(part) <= float(part.high or 0.0), where
            assert sum(float(part) for part in found.parts.values()) == pytest.approx(float(found.total))


def test_a_machine_cheaper_than_its_chips_has_no_cost(facts: Facts) -> None:
    for system in ("b200", "h100", "gb300"):
        path = facts.fact(f"prices.machines.bill.{system}.machine").path
        found = ownership.owned(facts.with_values({path: 0.5 * facts.number(path)}), system)
        assert found.total.value is None
        assert found.total.reason == "the chips and memory of its machine cost more than the machine"


def test_no_cost_rests_on_a_published_cost_or_price_of_an_hour(facts: Facts) -> None:
    """What is read has no price of a chip and time, and none of the analyst's totals."""
    for name in KNOWN:
        for rule in COST_RULES:
            watched = Watched(asked(facts, rule=rule))
            ownership.owned(watched, name)
            read = dict(watched.read)
            assert len(read) > 20
            assert not [p for p, f in read.items() if f.unit == "USD/chip/s"]
            assert not [p for p in read if p.startswith(("prices.tco", "prices.market", "prices.aws", "prices.google"))]


def test_an_h100_by_hand(facts: Facts) -> None:
    """SemiAnalysis' rule in 2025Q3: a server of 190,000 USD for 8, 5,200 of network, 1.3% of storage, over four years;
    1,730 W at 125 USD a kW and month, half of it drawn at 0.0861 USD a kWh, PUE 1.14, 300 USD a kW and year."""
    found = ownership.owned(asked(facts, rule="semianalysis", quarter="2025Q3"), "h100")
    capital = (190_000 / 8 + 5_200) * 1.013
    assert float(found.capital_total) == pytest.approx(capital)
    hours = YEAR_S / HOUR_S
    run = 1.73 * (125 * 12 / hours + 0.5 * 0.0861 * 1.14 + 300 / hours)
    assert float(found.total) * HOUR_S == pytest.approx(capital / 4 / hours + run)
    assert found.operating * HOUR_S == pytest.approx(run)


def test_a_bought_machine_keeps_its_price_in_the_quarter_of_its_quotation(facts: Facts) -> None:
    """Its parts sum to the price that was paid, whatever the split; later, dearer memory comes on top at its cost."""
    rng = Random(7)
    for name in ("h100", "gb200", "mi355x"):
        quoted = str(facts.fact(f"prices.machines.bill.{name}.quoted").value)
        price = facts.number(f"prices.machines.bill.{name}.machine") / facts.number(
            f"prices.machines.bill.{name}.machine_chips"
        )
        for _ in range(10):
            moved = asked(facts, quarter=quoted).with_values(
                {
                    "prices.parts.losses": rng.uniform(0.1, 0.25),
                    f"prices.machines.bill.{name}.chip_price": rng.uniform(12e3, 20e3),
                    f"prices.machines.bill.{name}.logic_area": rng.uniform(600e-6, 800e-6),
                }
            )
            parts = ownership.owned(moved, name).capital
            inside = [parts[p] for p in ownership.BOUGHT if p not in ("network", "storage")]
            assert sum(float(p) for p in inside) == pytest.approx(price)
    then, later = (ownership.owned(asked(facts, quarter=q), "h100").capital for q in ("2025Q3", "2026Q2"))
    memory = facts.number("prices.machines.bill.h100.host_memory") * 1e-9
    assert float(later["host_memory"]) - float(then["host_memory"]) == pytest.approx(memory * (17.5 - 3.98))
    assert float(later["machine"]) == pytest.approx(float(then["machine"]))


def test_dearer_inputs_never_make_a_chip_hour_cheaper(facts: Facts) -> None:
    """Each fact that a cost rests on moves it one way; more of any price costs more."""
    falls = ("life", "residual", "salvage", "wafer_diameter")
    for name in ("h100", "trn3-gen2", "ironwood", "gb300"):
        found, read = ownership.owned(facts, name), Watched(facts)
        ownership.cost_per_s(read, name, found.terms)
        for path, fact in read.read.items():
            value = fact.value
            if not isinstance(value, float):
                continue
            if path.startswith("prices.memory.") and not path.endswith(found.terms.quarter):
                continue  # of the quotation: the dearer it was, the less of the price was for the rest
            if not value or "rules." in path or path.endswith(("chips", "residual_value_5y", "pue", ".dies")):
                continue
            up = float(ownership.owned(facts.with_values({path: value * 1.01}), name).total)
            change = up / float(found.total) - 1
            if any(word in path for word in falls):
                assert change <= 1e-12, path
            else:
                assert change >= -1e-12, path


def test_rules_and_buyers(facts: Facts) -> None:
    """A longer life is cheaper an hour; no cost of capital and no spares under the analysts' rules; a neocloud pays
    more."""
    for name in ("h100", "trn3-gen2"):
        by_life = [float(ownership.owned(asked(facts, life=n * YEAR_S), name).total) for n in (3, 4, 5, 6)]
        assert by_life == sorted(by_life, reverse=True)
        for rule in ("semianalysis", "epoch"):
            parts = ownership.owned(asked(facts, rule=rule), name).parts
            assert float(parts["capital_cost"]) == float(parts["spares"]) == 0
        large, small = (float(ownership.owned(asked(facts, buyer=b), name).total) for b in BUYERS)
        assert small > large
        near, far = (float(ownership.owned(asked(facts, chips=n), name).total) for n in (8192, 100_000))
        assert far > near


@pytest.mark.parametrize(("word", "value"), [("quarter", "2026Q5"), ("rule", "semi"), ("buyer", "me")])
def test_unknown_words_get_one_line(facts: Facts, word: str, value: str) -> None:
    with pytest.raises(UserError) as caught:
        ownership.owned(asked(facts, **{word: value}), "h100")
    assert value in caught.value.line()
    assert "\n" not in caught.value.line()


def test_what_is_not_known_says_why(facts: Facts) -> None:
    found = ownership.owned(facts, "l40s")
    assert found.total.value is None
    assert "no price" in str(found.total.reason)
    assert all(e.value is None for e in found.parts.values())


def test_the_interval_is_that_of_the_moves(facts: Facts) -> None:
    found = ownership.owned(facts, "trn3-gen2")
    up = math.sqrt(sum(max(0.0, low, high) ** 2 for _, low, high in found.moves))
    assert found.total.high == pytest.approx(float(found.total) * math.exp(up))
    path, low, _ = found.moves[0]
    fact = facts.fact(path)
    assert fact.low is not None
    assert math.log(
        float(ownership.owned(facts.with_values({path: fact.low}), "trn3-gen2").total) / float(found.total)
    ) == pytest.approx(low)
