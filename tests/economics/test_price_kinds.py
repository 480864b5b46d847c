"""The price of a row is decided from its system and the question alone: never from what else is in the list."""

from __future__ import annotations

import json
import random
from functools import cache, lru_cache
from typing import Any

import pytest

import mowich
from mowich.economics import money, rent
from mowich.economics.ownership import owned
from mowich.errors import UserError
from mowich.estimate import exact
from mowich.facts import load_facts
from mowich.machines.system import machines
from mowich.models import load_model
from mowich.plans.plan import TrainJob
from mowich.price_terms import BUYERS, OWN
from mowich.requests.footing import Footing
from mowich.requests.jobs import CompareRequest, PlanRequest
from mowich.requests.loads import ServeLoad
from mowich.serving.search import ServeJob
from mowich.studies.compare import system_asks
from mowich.studies.rates import plan_rates

FACTS = load_facts()
SYSTEMS = tuple(machines(FACTS))
_ORDER = rent.RENTAL_ORDER
OPEN = {"list": ("on-demand", "capacity-block"), "rent": ("rent", *_ORDER), "default": ("tco", *_ORDER)}
JOB: Any = {"tokens": "1T", "seq": 4096, "batch": "64seqs"}


@lru_cache
def own_prices() -> object:
    """The facts with prices of the user's own for two systems."""
    return FACTS.with_values({"prices.user.trn3-gen2": 1.4 / 3600, "prices.user.h200": 3.0 / 3600})


def test_a_price_is_of_the_kind_that_was_asked_or_unknown_with_the_reason() -> None:
    for system in SYSTEMS:
        for kind in money.TERMS:
            found = money.price(FACTS, system, term=kind)
            if found.rate.value is None:
                assert found.label == found.rate.reason
                assert found.term == ""
            else:
                assert found.term in OPEN.get(kind, (kind,)), (system, kind)


def test_the_users_price_wins_over_every_kind_but_electricity() -> None:
    for kind in money.TERMS:
        found = money.price(own_prices(), "h200", term=kind)  # type: ignore[arg-type]
        assert (found.term == OWN) == (kind != "electricity")
        assert found.rate.value == pytest.approx(3.0 / 3600) or kind == "electricity"
    assert money.quoted_terms(own_prices(), "h200") == {}  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"unknown price term '4y'.*capacity-block"):
        money.price(FACTS, "h200", term="4y")


def test_no_price_stays_unknown_in_the_cost() -> None:
    rate = money.price(FACTS, "gb300", term="spot").rate
    cost = money.usd_per_mtok(rate, chips=8, step_s=exact(1, "s"), tokens=1e6, goodput=exact(1, "1"))
    assert (cost.value, cost.reason) == (None, "no spot price in the facts (there is tco, rent, on-demand, 3y)")


@pytest.mark.parametrize("kind", money.PRICE_KINDS)
def test_rows_of_drawn_lists_do_not_depend_on_each_other(kind: str) -> None:
    """Prices and chips of a row in a list, in any order, are those of the row alone."""
    dice = random.Random(kind)
    model, budget = load_model("llama-3.2-1b"), Footing(budget=5e5, days=30)
    job = TrainJob(tokens=1e12, seq=4096, batch_seqs=64)

    @cache
    def asked(names: tuple[str, ...], facts: object, is_paid: bool) -> dict[str, tuple[object, ...]]:
        paid = budget if is_paid else Footing()
        asks = system_asks(
            CompareRequest(facts=facts, model=model, systems=names, train=job, term=kind, footing=paid)  # type: ignore[arg-type]
        ).asks
        rates = [money.price(a.facts, a.system_id, term=a.term) for a in asks]
        return {a.name: (a.chips, a.no_chips, a.term, p.label, p.rate) for a, p in zip(asks, rates, strict=True)}

    for _ in range(8):
        names = tuple(dice.sample(SYSTEMS, k=dice.randint(2, 6)))
        facts, is_paid = dice.choice([FACTS, own_prices()]), dice.random() < 0.5
        together = asked(names, facts, is_paid)
        for name in names:
            assert together[name] == asked((name,), facts, is_paid)[name]


def test_no_row_of_a_comparison_moves_when_another_is_dropped_or_the_order_changes() -> None:
    for given in ({"budget": "$40k", "days": 30}, {"chips": 8, "price": "on-demand"}):

        def rows(*names: str, **asked: Any) -> dict[str, tuple[object, ...]]:
            found = mowich.compare("llama-3.2-1b", names, train=JOB, **asked).rows
            return {r.system: (r.price_label, r.chips_requested, r.usd_per_mtok, r.tokens_trained) for r in found}

        three = rows("trn2", "trn3", "h200", **given)
        for some in (("h200", "trn2"), ("trn3",)):
            for name, row in rows(*some, **given).items():
                assert row == three[name], (given, some, name)


def test_a_budget_rents_and_the_estimate_lies_in_what_is_observed() -> None:
    found = rent.markups(FACTS)
    assert set(found) == set(BUYERS)
    for seller, one in found.items():
        assert 1.0 < one.low < one.high, seller
        assert len(one.pairs) > 3
    for system in SYSTEMS:
        guess, cost = rent.estimated(FACTS, system), owned(FACTS, system).total.value
        quoted = any(rent.quoted(FACTS, system, kind) for kind in rent.RENTAL_ORDER)
        price = money.price(FACTS, system, term="rent")
        assert (guess is None) == (cost is None)
        if quoted:
            assert price.term in rent.RENTAL_ORDER
            assert price.rate.grade != "D"
        elif guess is None:
            assert price.rate.value is None
        else:
            assert (price.rate, price.term, price.rate.grade) == (guess.rate, "rent", "D")
            low, high = found["hyperscaler"].low, found["hyperscaler"].high
            assert cost is not None
            assert (
                float(guess.rate.low or 0) < cost * low < float(guess.rate) < cost * high < float(guess.rate.high or 0)
            )
    with pytest.raises(UserError, match="budget rents chips"):
        mowich.compare("llama-3.2-1b", ["trn2"], train=JOB, budget="$1M", days=30, price="tco")


@pytest.mark.parametrize("kind", ["default", "tco", "on-demand", "spot"])
def test_traffic_costs_what_the_scenario_asks_whatever_pools_it_has(kind: str) -> None:
    """A pool of another system beside it moves no price."""
    one = {"mowich": 1, "model": "llama-3.1-8b", "on": "h200:1", "price": kind}
    one |= {"traffic": {"requests": 3, "rate": 5, "prompt": 100, "output": 3}}
    apart = {"prefill": 1, "decode": 1, "decode_on": "trn2:1", "decode_plan": {"tp": 1}, "transfer": "10 GB/s"}
    for asked in (one, {**one, "disaggregated": apart}):
        found = mowich.traffic(json.dumps(asked), draws=0)
        rates = [money.price(FACTS, name, term=kind).rate.value for name in found.chips_of]
        chips = found.chips_of.values()
        known = None if None in rates else sum(n * (rate or 0.0) for n, rate in zip(chips, rates, strict=True)) * 3600
        assert found.usd_per_h == (known if known is None else pytest.approx(known))


@pytest.mark.slow
def test_a_load_is_priced_at_the_kind_that_was_asked_in_every_number() -> None:
    found = plan_rates(
        PlanRequest(
            facts=FACTS,
            model=load_model("llama-3.1-8b"),
            model_given="llama-3.1-8b",
            systems=("gb300", "h200"),
            serve=ServeJob(prompt=1000, output=20),
            load=ServeLoad(rate=2.0, p99_ttft_s=2.0),
            chips=1,
            term="tco",
        )
    )
    assert len(found.rows) == 2
    for row in found.rows:
        assert row.usd_per_h == pytest.approx(
            3600 * sum(n * float(money.price(FACTS, i, term="tco").rate) for i, n in row.chips_of.items())
        )
        assert '"price": "tco"' in row.scenario
    [cheapest] = [row for row in found.rows if row.is_cheapest]
    assert cheapest.usd_per_h == min(row.usd_per_h or 0.0 for row in found.rows)
