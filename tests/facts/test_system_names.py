"""Names of systems: instances with their chips, families of several systems, suggestions of one kind."""

from __future__ import annotations

import json

import pytest

from mowich.cli import run
from mowich.economics.money import price
from mowich.errors import UserError
from mowich.facts import Facts
from mowich.machines.system import machines, resolve

INSTANCES = [
    ("trn2.3xlarge", "trn2-3xlarge", 1),
    ("trn2.48xlarge", "trn2-server", 16),
    ("trn2u.48xlarge", "trn2", 16),
    ("trn3.3xlarge", "trn3-3xlarge", 1),
    ("trn3.48xlarge", "trn3-server", 16),
    ("trn3e.24xlarge", "trn3-gen2", 4),
    ("p5.48xlarge", "h100", 8),
    ("p5e.48xlarge", "p5e", 8),
    ("p5e", "p5e", 8),
    ("P5EN.48xlarge", "h200", 8),
    ("p6-b200.48xlarge", "b200", 8),
    ("p6-b300.48xlarge", "b300", 8),
    ("p6e-gb200.36xlarge", "gb200", 4),
    ("tpu7x-standard-4t", "ironwood", 4),
]


@pytest.mark.parametrize(("name", "system", "chips"), INSTANCES)
def test_an_instance_has_its_chips(facts: Facts, name: str, system: str, chips: int) -> None:
    assert (resolve(facts, name).id, resolve(facts, name).chips) == (system, chips)


@pytest.mark.parametrize(
    ("spec", "chips"),
    [("p5en.48xlarge*4", 32), ("p6e-gb200.36xlarge*18", 72), ("p5en.48xlarge:12", 12), ("trn2u.48xlarge*4", 64)],
)
def test_a_star_counts_instances_and_a_colon_chips(facts: Facts, spec: str, chips: int) -> None:
    assert resolve(facts, spec).chips == chips


def test_an_instance_takes_the_chips_of_the_question(facts: Facts) -> None:
    assert resolve(facts, "p5en.48xlarge", chips=256).chips == 256


def test_an_instance_alone_has_no_more_chips_than_its_fabric(facts: Facts) -> None:
    with pytest.raises(UserError, match="out of range"):
        resolve(facts, "trn3.3xlarge*2")
    assert resolve(facts, "trn3.48xlarge*4").chips == 64
    assert [level.name for level in resolve(facts, "trn3.48xlarge").levels] == ["chip", "pair", "server", "scale_out"]


def test_chips_that_nobody_states_are_asked_for(facts: Facts) -> None:
    with pytest.raises(UserError) as caught:
        resolve(facts, "p6e-gb300.36xlarge")
    assert "p6e-gb300.36xlarge are not known" in caught.value.line()
    assert resolve(facts, "p6e-gb300.36xlarge:8").chips == 8


def test_a_family_of_several_systems_names_them(facts: Facts) -> None:
    with pytest.raises(UserError) as caught:
        facts.resolve_system("p6")
    assert caught.value.line() == (
        "'p6' names several systems; allowed: p6-b200 (b200), p6-b300 (b300), p6e-gb200 (gb200), p6e-gb300 (gb300)"
    )


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("p5en.48xlrge", "p5en.48xlarge"),
        ("p5en.24xlarge", "p5en.48xlarge"),
        ("p7.48xlarge", "p5.48xlarge"),
        ("trn2.24xlarge", "trn2.48xlarge"),
        ("trn5", "trn4"),
        ("ironwod", "ironwood"),
        ("gb3000", "gb300"),
    ],
)
def test_a_suggestion_is_of_one_kind(facts: Facts, typed: str, meant: str) -> None:
    with pytest.raises(UserError) as caught:
        facts.resolve_system(typed)
    assert caught.value.fix == f"did you mean '{meant}'?"


def test_an_instance_of_a_family_that_nobody_has_gets_no_other_vendor(facts: Facts) -> None:
    with pytest.raises(UserError) as caught:
        facts.resolve_system("g5.48xlarge")
    assert caught.value.fix == "mowich facts list systems"


def test_an_instance_with_a_price_of_its_own_has_that(facts: Facts) -> None:
    paid = {
        name: price(facts, resolve(facts, name).id, term="capacity-block") for name in ("p5e.48xlarge", "p5en.48xlarge")
    }
    assert paid["p5e.48xlarge"].fact_path == "prices.aws.p5e-48xlarge_capacity_block_2026_07.per_accelerator"
    assert paid["p5en.48xlarge"].fact_path == "prices.aws.p5en-48xlarge_capacity_block_2026_10.per_accelerator"
    small = price(facts, resolve(facts, "trn2.3xlarge").id, term="spot")
    assert small.fact_path == "prices.aws.trn2-3xlarge_spot.per_accelerator"
    at_aws = price(facts, resolve(facts, "p6-b300.48xlarge").id, term="on-demand")
    assert at_aws.rate.value == pytest.approx(142.416 / 8 / 3600, rel=1e-4)


def test_no_name_is_of_an_instance_and_of_a_system(facts: Facts) -> None:
    names = {n.casefold() for one in facts.aliases().values() for n in (*one.aliases, *one.in_data)}
    assert not names & set(facts.instances())


def test_the_list_has_names_chips_memory_and_prices(capsys: pytest.CaptureFixture[str], facts: Facts) -> None:
    assert run(["facts", "list", "systems", "--json"]) == 0
    entries = {e["id"]: e for e in json.loads(capsys.readouterr().out)["entries"]}
    assert set(machines(facts)) <= set(entries)
    h200 = entries["h200"]
    assert (h200["instances"], h200["chips_per_unit"], h200["hbm_capacity"]) == (["p5en.48xlarge (8)"], 8, "141 GB")
    assert "p5en" in h200["aliases"]
    assert (h200["price"], h200["price_term"]) == (pytest.approx(7.8948 / 3600), "cap. block")
    assert entries["tpu-8t"]["price"] is None
    assert run(["facts", "list", "systems", "--plain"]) == 0
    page = capsys.readouterr().out
    assert "p6e-gb300.36xlarge (?)" in page
    assert "chips" in page.splitlines()[0]
    assert "groq3-lpx" in page
