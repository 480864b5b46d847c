"""What a tenant's fall strands: counted by hand, monotone, nothing for no fall; how many chips can be had by facts."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_problems import LENGTH_S, choice, offer, problem, random_problem, serve, speeds
from mowich import cli
from mowich.economics.money import RATE
from mowich.errors import UserError
from mowich.estimate import exact
from mowich.facts import load_facts
from mowich.fleets.answer import solve_fleet
from mowich.fleets.problem import GOALS, FleetProblem, TaskRates
from mowich.fleets.read import read_problem
from mowich.fleets.supply import at_supply_end, is_of_facts, supply_of_facts, units_a_period
from mowich.fleets.tenants import tenant_fall
from mowich.requests.command import command_of
from mowich.requests.scenarios import read_tenant
from mowich.show.fleet_tenant import fall_sentences
from mowich.show.verbs import page_of
from mowich.studies.fleet import Fleet, at_supply_ends

near = partial(pytest.approx, rel=1e-4)


def _committed(system: str, units: list[float], usd: float) -> object:
    """A system of which units of one chip are committed, for so many USD a unit and period."""
    return replace(
        choice(system, len(units)), committed=np.array(units), committed_price=exact(usd / LENGTH_S, RATE, "user")
    )


def _two(most: float = 1.0) -> tuple[FleetProblem, TaskRates]:
    """Ten chips are committed at 3 a period: six serve ann, three serve bob."""
    works = [serve("a", [60, 60], tenant="ann"), serve("b", [30, 30], tenant="bob", most=most)]
    p = replace(problem(works, [_committed("trn2", [10, 10], 3.0)], 2), goals=("tokens", *GOALS))
    return p, speeds({("a", "trn2"): 10, ("b", "trn2"): 10})


def test_a_tenant_that_falls_strands_what_it_no_longer_needs() -> None:
    """Ann has two thirds of the nine chips at work. At a third she needs three: three are free in both periods."""
    found = tenant_fall(*_two(), "ann", 1 / 3)
    assert (found.share, found.work, found.chips, found.idle) == (near(2 / 3), near(0.5), near(3), near(3))
    assert (found.usd, found.committed_usd, found.idle_usd) == (near(18), near(18), near(18))
    assert [(c.system, c.first, c.last, c.units) for c in found.contracts] == [("trn2", "p0", "p1", near(3))]
    assert found.refilled == ()


def test_what_others_take_does_not_stand_idle() -> None:
    """Bob may do twice what he asks: today the tenth chip is his, and of the three that are free he takes two."""
    found = tenant_fall(*_two(most=2.0), "ann", 0.3)
    assert (found.share, found.work) == (near(0.6), near(0.5))
    assert (found.chips, found.idle, found.idle_usd) == (near(3), near(1), near(6))
    [bob] = found.refilled
    assert (bob.workload, bob.tenant, bob.before, bob.after, bob.chips) == ("b", "bob", near(4 / 3), near(2), near(2))
    table = Fleet(problem=_two()[0], rates={}, answer=solve_fleet(*_two(2.0)), fall=found, inputs={"name": "test"})
    said = page_of(table.to_dict()).sentences
    assert said[0] == "If ann falls, $18.0 is needed no more."
    assert said[1].startswith("If ann falls from 60% of the chip-hours to 30%, what is asked needs 3 trn2 less")
    assert "up to 1 trn2 stand idle all the same; $6.00 are paid for them." in said[2]


def test_todays_share_strands_nothing() -> None:
    for p, table in (_two(), _two(most=2.0)):
        share = tenant_fall(p, table, "ann", 0.0).share
        found = tenant_fall(p, table, "ann", share)
        assert (found.work, found.usd, found.rows, found.contracts, found.refilled) == (near(1), near(0), (), (), ())
        assert fall_sentences(Fleet(problem=p, rates={}, answer=solve_fleet(p, table), fall=found).to_dict()["tenant"])


def test_a_tenant_that_leaves_asks_for_nothing() -> None:
    found = tenant_fall(*_two(), "ann", 0.0)
    assert (found.work, found.chips, found.usd) == (0.0, near(6), near(36))
    alone = replace(_two()[0], workloads=_two()[0].workloads[:1])
    assert tenant_fall(alone, _two()[1], "ann", 0.0).usd == near(36)


def test_a_commitment_is_let_go_as_a_whole() -> None:
    """Four units to the end of two periods, six more for the second: of 7 and 4 chips needed, a fall to 4 and 4 frees
    the six, and a fall to 4 in the second period alone would free none of the four."""
    works = [serve("a", [30, 70], tenant="ann"), serve("b", [10, 0], tenant="bob")]
    p = problem(works, [_committed("trn2", [4, 10], 1.0)], 2)
    found = tenant_fall(p, speeds({("a", "trn2"): 10, ("b", "trn2"): 10}), "ann", 0.5 * 10 / 11)
    assert {(c.first, c.last): c.units for c in found.contracts} == {("p0", "p1"): near(1.5), ("p1", "p1"): near(2)}
    assert found.usd == near(1.5 * 2 + 2)


@given(seed=st.integers(0, 10_000), shares=st.tuples(st.floats(0.05, 1.0), st.floats(0.05, 1.0)))
@settings(max_examples=5, deadline=None)
def test_the_deeper_the_fall_the_more_is_stranded(seed: int, shares: tuple[float, float]) -> None:
    """And nothing is where the share is today's. Units are bought, rented and committed."""
    rng = np.random.default_rng(seed)
    drawn, table = random_problem(rng, tasks=3)
    there = [
        replace(c, committed=rng.integers(1, 6, 2).astype(float), committed_price=exact(9e-6, RATE, "user"))
        for c in drawn.choices
    ]
    works = tuple(replace(w, one_system=False) for w in drawn.workloads)
    p = replace(drawn, choices=tuple(there), workloads=works)
    try:
        today = tenant_fall(p, table, "w0", 1e-6).share
    except UserError:  # drawn without a plan, or the tenant does no work
        return
    small, large = sorted(shares)
    deep, shallow, none = (tenant_fall(p, table, "w0", today * share) for share in (small, large, 1.0))
    scale = 1e-3
    assert none.usd <= scale
    assert not none.rows
    assert deep.usd >= shallow.usd - scale >= -2 * scale


# ---- supply
# ----------------------------------------------------------------------------------------------------------------------

SCENARIO = """
mowich: 1
name: supply
periods: {start: 2027-Q1, count: 2, length: LENGTH}
workloads: {chat: {serve: {model: llama-3.1-8b, isl: 1000, osl: 100, tokens_per_s: 1M}}}
systems: {SYSTEM: {rent: {price: $1/chip/h, supply: SUPPLY}}}
"""


def _read(tmp_path: Path, supply: str, system: str = "gb300", length: str = "quarter", **sets: float) -> FleetProblem:
    start = {"quarter": "2027-Q1", "month": "2027-M01", "year": "2027"}[length]
    text = (
        SCENARIO.replace("2027-Q1", start).replace("SUPPLY", supply).replace("SYSTEM", system).replace("LENGTH", length)
    )
    facts = load_facts().with_values({f"supply.chips.{chip}": number for chip, number in sets.items()})
    return read_problem(tmp_path / "s.yaml", facts, text=text)


def test_supply_of_facts_is_chips_of_a_quarter_in_whole_units(tmp_path: Path) -> None:
    chips = load_facts().number("supply.chips.gb300")
    for supply, share in (("facts", 1.0), ("10% of facts", 0.1)):
        for length, quarters in (("quarter", 1.0), ("month", 1 / 3), ("year", 4.0)):
            [one] = _read(tmp_path, supply, length=length).choices[0].offers
            assert list(one.supply) == [np.floor(share * chips * quarters / 72)] * 2
    p = _read(tmp_path, "facts")
    low, high = (at_supply_end(p, end).choices[0].offers[0].supply[0] for end in ("low", "high"))
    assert low < p.choices[0].offers[0].supply[0] < high


def test_what_nobody_publishes_is_no_supply(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not published .*searched 2026-12"):
        _read(tmp_path, "facts", "trn4")
    with pytest.raises(UserError, match="no fact has how many are made"):
        _read(tmp_path, "facts", "gaudi3")
    with pytest.raises(UserError, match="a share of the chips that are made"):
        _read(tmp_path, "200% of facts")
    assert not is_of_facts("512 chips")
    assert not is_of_facts(40)


def test_supply_without_end_is_no_supply() -> None:
    """A limit that nobody reaches changes nothing, and one more unit of it is worth nothing."""
    p = problem([serve("chat", [100, 50])], [choice("trn2", 2, offer("trn2", "rent", 3, 2))], 2)
    found = supply_of_facts("facts", load_facts(), "trainium2")
    huge = replace(found, quarterly=exact(1e12, "1"))
    table = speeds({("chat", "trn2"): 10})
    [one] = p.choices
    many = np.full(2, units_a_period(huge, 1e12, 1, LENGTH_S))
    limited = replace(p, choices=(replace(one, offers=(replace(one.offers[0], supply=many, supplied=huge),)),))
    free, bounded = solve_fleet(p, table), solve_fleet(limited, table)
    assert (free.value, free.orders) == (near(bounded.value), bounded.orders)
    assert not any(b.kind.startswith("supply") for b in bounded.binding)
    assert list(at_supply_ends(limited, table).values()) == [near(free.value)] * 3
    assert at_supply_ends(p, table) == {}


def test_one_more_chip_of_supply_is_worth_its_shadow_price() -> None:
    """Ten chips a period at 3, the rest at 7: one more of the cheap ones saves 4, and two fewer cost 8."""
    found = replace(supply_of_facts("facts", load_facts(), "trainium2"), quarterly=exact(10.0, "1"))
    ends = replace(found.quarterly, low=10.0 * 0.8, high=10.0 * 1.2)
    cheap = replace(offer("trn2", "rent", 3, 1, supply=10), supplied=replace(found, quarterly=ends))
    p = problem([serve("chat", [150])], [choice("trn2", 1, cheap), choice("h100", 1, offer("h100", "rent", 7, 1))], 1)
    p = replace(p, length_s=365.25 * 86400 / 4)
    p = replace(
        p,
        choices=tuple(
            replace(c, offers=tuple(replace(o, price=o.price.scaled(LENGTH_S / p.length_s, RATE)) for o in c.offers))
            for c in p.choices
        ),
    )
    table = speeds({("chat", "trn2"): 10, ("chat", "h100"): 10})
    answer = solve_fleet(p, table)
    assert answer.usd == near(10 * 3 + 5 * 7)
    assert [(b.constraint, b.shadow_price) for b in answer.binding if "supply" in b.kind] == [
        ("supply of trn2 to rent in p0", near(4))
    ]
    assert at_supply_ends(p, table) == {"low": near(65 + 2 * 4), "value": near(65), "high": near(65 - 2 * 4)}
    page = page_of(
        Fleet(problem=p, rates={}, answer=answer, at_supply=at_supply_ends(p, table), inputs={"name": "x"}).to_dict()
    )
    assert any("costs $8.00 more" in str(part) for part in page.parts)


# ---- the shipped scenario and the command line
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("anthropic", "not a tenant and its share"),
        ("=30%", "not a tenant and its share"),
        ("anthropic=lots", "not a share"),
        ("anthropic=130%", "must lie in 0 to 1"),
        ("anthropic=90%", "a larger share cannot be asked for"),
        ("antropic=30%", "did you mean 'anthropic'?"),
    ],
)
def test_bad_tenants_get_one_line(capsys: pytest.CaptureFixture[str], given: str, said: str) -> None:
    assert cli.run(["fleet", "trainium-tenants", "--draws", "0", "--lp", "--tenant", given]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: --tenant: ")
    assert said in err
    assert err.count("\n") == 1


def test_a_saved_answer_knows_its_tenant(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fleet", "trainium-tenants", "--draws", "0", "--lp", "--tenant", "anthropic=30%"]
    assert cli.run([*words, "--json", "--quiet"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert "--tenant anthropic=0.3" in command_of(result)
    fall = result["tenant"]
    assert 0.5 < fall["share"] < 0.7
    assert fall["work"] == near(0.3 / fall["share"])
    assert fall["usd"] > 1e9
    assert fall["committed_usd"] == near(sum(row["usd"] for row in fall["stranded"]))
    assert sum(c["usd"] for c in fall["let_go"]) == near(fall["committed_usd"])
    found = result["supply"]
    assert found["objective_at_low"] < found["objective_at_value"] <= found["objective_at_high"]


def test_a_tenant_is_read_as_python_has_it_too() -> None:
    assert (
        read_tenant(("ann", 0.3)) == read_tenant("ann = 30%".replace(" ", "")) == read_tenant("ann=0.3") == ("ann", 0.3)
    )


def test_the_shipped_scenario_is_about_a_tenant_with_three_fifths() -> None:
    p = read_problem(Path(__file__).parents[2] / "scenarios" / "trainium-tenants.yaml", load_facts())
    assert {w.whose for w in p.workloads} == {"anthropic", "openai", "bedrock"}
    facts = [o.supplied.fact for c in p.choices for o in c.offers if o.supplied]
    assert facts == ["supply.chips.trainium3", "supply.chips.gb300"]
