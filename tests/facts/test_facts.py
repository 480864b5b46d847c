"""Facts: laziness, overrides, references, aliases, the hash, and the values that everything else rests on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mowich.errors import UserError
from mowich.facts import Facts, Watched, load_facts
from mowich.facts.schema import parse_leaf
from mowich.units import UNITS, parse, parse_count, show


@pytest.fixture
def facts() -> Facts:
    return load_facts()


def test_load_reads_only_the_files_asked_for(facts: Facts) -> None:
    assert facts._files == {}
    facts.number("chips.trainium3.memory.hbm_bandwidth")
    assert set(facts._files) == {("chips", "trainium3")}


@pytest.mark.parametrize(
    ("path", "written"),
    [
        ("chips.trainium3.memory.hbm_capacity", "144 GiB"),
        ("chips.trainium3.memory.hbm_bandwidth", "4.9 TB/s"),
        ("chips.trainium3.peak_dense.mxfp8", "2517 TFLOP/s"),
        ("chips.trainium3.peak_dense.mxfp4", "2517 TFLOP/s"),
        ("chips.trainium3.peak_dense.bf16", "671 TFLOP/s"),
        ("chips.trainium2.peak_dense.fp8", "1299 TFLOP/s"),
        ("chips.trainium2.memory.hbm_usable", "96 GiB"),
        ("chips.trainium2.scale_out.bandwidth_per_direction", "200 Gbit/s"),
        ("chips.trainium2.scale_up.intra_server_per_direction", "512 GB/s"),
        ("chips.tpu_v7_ironwood.peak_dense.fp8", "4614 TFLOP/s"),
        ("chips.tpu_v7_ironwood.memory.hbm_usable", "189.5 GiB"),
        ("chips.tpu_v5p.peak_dense.bf16", "459 TFLOP/s"),
        ("chips.gb300.memory.hbm_usable", "284208 MiB"),
        ("chips.gb300.scale_out.bandwidth_per_direction", "800 Gbit/s"),
        ("chips.h100_sxm.peak_dense.bf16", "989 TFLOP/s"),
        ("chips.h100_sxm.memory.hbm_usable", "81559 MiB"),
        ("chips.a100_sxm_80g.peak_dense.bf16", "312 TFLOP/s"),
    ],
)
def test_known_values(facts: Facts, path: str, written: str) -> None:
    assert facts.number(path) == pytest.approx(parse(written).value, rel=1e-9)


@pytest.mark.parametrize(
    ("system", "levels"),
    [
        ("trn3-gen2", {"chip": 1, "server": 4, "rack": 72, "ultraserver": 144}),
        ("trn3-gen1", {"chip": 1, "pair": 2, "rack": 32, "ultraserver": 64}),
        ("trn2", {"chip": 1, "server": 16, "ultraserver": 64}),
        ("ironwood", {"chip": 1, "pod": 9216}),
        ("gb300", {"domain": 72}),
        ("h100", {"domain": 8}),
    ],
)
def test_levels_of_systems(facts: Facts, system: str, levels: dict[str, int]) -> None:
    root = f"systems.{system}.levels"
    assert facts.children(root) == (*levels, "scale_out")
    assert {k: facts.number(f"{root}.{k}.chips") for k in levels} == levels


def test_the_rack_to_rack_links_of_trn3_are_not_one_hop(facts: Facts) -> None:
    assert facts.number("systems.trn3-gen2.levels.ultraserver.via_inner") == 1


LANE = 8e9
"""Bytes a second that a lane of PCIe Gen6 carries one way."""


def test_lanes_of_neuronlink_give_what_aws_publishes(facts: Facts) -> None:
    """160 lanes of a chip, 128 active ones inside the rack, 16 to the other rack."""
    at = "chips.trainium3.scale_up"
    lanes = facts.number(f"{at}.lanes_total")
    assert 2 * lanes * LANE == facts.number(f"{at}.bandwidth_both_directions_as_published")
    in_rack = [facts.fact(f"{at}.{key}_per_direction") for key in ("intra_server", "inter_server_in_rack")]
    assert sum(fact.high for fact in in_rack) == pytest.approx(128 * LANE, rel=1e-9)
    assert facts.number(f"{at}.bandwidth_ultraserver_table") / 2**30 * 1e9 == 2 * 128 * LANE
    assert facts.number(f"{at}.inter_rack_per_direction") == 16 * LANE == facts.number(f"{at}.inter_rack")


@pytest.mark.parametrize("key", ["intra_server", "inter_server_in_rack"])
def test_links_with_two_counts_of_lanes_are_one_fact_with_a_range(facts: Facts, key: str) -> None:
    """From AWS's level table, read as one direction, to the analyst's 64 lanes."""
    fact = facts.fact(f"chips.trainium3.scale_up.{key}_per_direction")
    assert fact.grade == "D"
    assert (fact.low, fact.high) == (facts.number(f"chips.trainium3.scale_up.{key}"), 64 * LANE)
    assert fact.value == pytest.approx((fact.low * fact.high) ** 0.5, rel=1e-2)


def test_the_levels_of_trainium3_add_up_to_the_sum(facts: Facts) -> None:
    at = "chips.trainium3.scale_up"
    levels = [f"{at}.{key}_per_direction" for key in ("intra_server", "inter_server_in_rack", "inter_rack")]
    whole = facts.fact(f"{at}.bandwidth_sum_of_levels_per_direction")
    found = [facts.fact(path) for path in levels]
    assert sum(fact.low or fact.value for fact in found) == pytest.approx(whole.low)
    assert sum(fact.high or fact.value for fact in found) == pytest.approx(whole.high)
    assert sum(fact.value for fact in found) == pytest.approx(whole.value, rel=0.01)


def test_a_reference_gives_the_fact_it_points_to(facts: Facts) -> None:
    assert (
        facts.fact("systems.gb300.levels.domain.bandwidth").path
        == "chips.gb300.scale_up.nvlink_bandwidth_per_direction"
    )


def test_an_override_of_what_is_referred_to_reaches_the_reader(facts: Facts) -> None:
    changed = facts.with_values({"chips.gb300.scale_up.nvlink_bandwidth_per_direction": 1e12})
    assert changed.number("systems.gb300.levels.domain.bandwidth") == 1e12
    assert facts.number("systems.gb300.levels.domain.bandwidth") == 9e11


def test_an_override_of_the_reference_reaches_the_reader(facts: Facts) -> None:
    at = "systems.gb300.levels.domain.bandwidth"
    assert facts.with_values({at: 1e12}).number(at) == 1e12


def test_overrides_stack_and_leave_the_original_alone(facts: Facts) -> None:
    path = "chips.trainium3.power.all_in"
    once = facts.with_values({path: 900.0})
    twice = once.with_values({"chips.trainium3.memory.hbm_bandwidth": 5e12})
    assert twice.number(path) == 900.0
    assert (twice.fact(path).grade, twice.fact(path).low, twice.fact(path).unit) == ("user", None, "W")
    assert facts.fact(path).grade == "D"
    assert twice.number("chips.trainium3.peak_dense.bf16") == facts.number("chips.trainium3.peak_dense.bf16")


def test_an_override_fills_an_unknown_fact(facts: Facts) -> None:
    path = "chips.trainium3.power.tdp"
    with pytest.raises(UserError, match="is unknown"):
        facts.number(path)
    assert facts.with_values({path: 800.0}).number(path) == 800.0


def test_hash_is_stable_and_moves_with_every_value(facts: Facts, tmp_path: Path) -> None:
    assert facts.hash() == load_facts().hash()
    assert len(facts.hash()) == 12
    changed = facts.with_values({"chips.trainium3.power.all_in": 900.0})
    assert changed.hash() != facts.hash()
    (tmp_path / "chips").mkdir()
    (tmp_path / "chips" / "trainium3.yaml").write_text('power:\n  all_in: {value: "900 W", grade: user}\n')
    assert load_facts([tmp_path]).hash() != facts.hash()


@pytest.mark.parametrize(
    ("name", "system"),
    [
        ("trn3", "trn3-gen2"),
        ("TRN3-144", "trn3-gen2"),
        (" tpu-v7 ", "ironwood"),
        ("tpu7x", "ironwood"),
        ("trn2u", "trn2"),
        ("trainium2", "trn2-server"),
        ("gb300", "gb300"),
        ("NVIDIA H100-SXM5-80GB", "h100"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("A100 SXM 40GB", "a100-40g"),
        ("AMD Instinct MI300X", "mi300x"),
        ("Google Cloud TPU v5p", "tpu-v5p"),
        ("VR200", "vera-rubin-nvl72"),
    ],
)
def test_resolve_system(facts: Facts, name: str, system: str) -> None:
    assert facts.resolve_system(name) == system


@pytest.mark.parametrize("name", ["H100-NVL-94GB", "A100-PCIe-80GB", "H20", "NVIDIA"])
def test_another_form_of_a_chip_is_another_chip(facts: Facts, name: str) -> None:
    with pytest.raises(UserError, match="unknown system"):
        facts.resolve_system(name)


def test_an_unknown_system_lists_the_known_ones(facts: Facts) -> None:
    with pytest.raises(UserError, match="did you mean 'trn3-gen2'") as error:
        facts.resolve_system("trn3-gen3")
    assert "ironwood" in error.value.line()


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("chips.trainium3.memory.hbm_bandwith", "did you mean 'chips.trainium3.memory.hbm_bandwidth'"),
        ("chips.trainium5.memory.hbm_bandwidth", "did you mean 'trainium"),
        ("chip.trainium3", "did you mean 'chips'"),
    ],
)
def test_unknown_paths(facts: Facts, path: str, hint: str) -> None:
    assert facts.get(path) is None
    with pytest.raises(UserError, match=hint):
        facts.fact(path)


def test_text_is_not_a_number(facts: Facts) -> None:
    assert facts.text("systems.trn3-gen2.levels.rack.kind") == "switch"
    with pytest.raises(UserError, match="is text"):
        facts.number("systems.trn3-gen2.levels.rack.kind")


def test_paths_and_leaves(facts: Facts) -> None:
    paths = facts.paths("chips.trainium3.memory")
    assert "chips.trainium3.memory.hbm_usable" in paths
    assert all(facts.leaf(p) for p in paths)
    assert facts.leaf("chips.trainium3.memory") == {}
    assert facts.paths("chips.trainium3.memory.hbm_usable") == ("chips.trainium3.memory.hbm_usable",)


@pytest.mark.parametrize(
    ("leaf", "problem"),
    [
        ({"value": "144"}, "has no unit"),
        ({"value": "144 GiBB"}, "unknown unit"),
        ({"value": "144 GiB", "grad": "A"}, "did you mean 'grade'"),
        ({"value": "144 GiB", "grade": "E"}, "unknown grade"),
        ({"value": "144 GiB", "low": "100 GiB"}, "both low and high"),
        ({"value": "144 GiB", "low": "100 W", "high": "200 GiB"}, "low measures W"),
        ({"value": "144 GiB", "low": "150 GiB", "high": "200 GiB"}, "outside its range"),
        ({"value": None, "unit": "GBB"}, "unknown unit"),
        ({"value": True}, "not a number"),
    ],
)
def test_leaves_that_are_wrong(leaf: dict[str, object], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        parse_leaf("chips.x.memory.hbm_capacity", leaf, {})


def test_a_leaf_in_full() -> None:
    sources = {"s": {"title": "T", "address": "https://example.org"}}
    leaf = {"value": "4.9 TB/s", "low": "4.7 TB/s", "high": "4.9 TB/s", "source": "s", "date": 2025, "grade": "A"}
    fact = parse_leaf("chips.x.memory.hbm_bandwidth", leaf, sources)
    assert (fact.value, fact.unit, fact.low, fact.shown) == (4.9e12, "B/s", 4.7e12, "4.9 TB/s")
    assert (fact.title, fact.address, fact.date) == ("T", "https://example.org", "2025")


@pytest.mark.parametrize("unit", sorted(UNITS))
def test_every_unit_reads_back(unit: str) -> None:
    quantity = parse(f"3 {unit}")
    assert quantity.value == pytest.approx(3 * UNITS[unit].value)
    assert quantity.unit == UNITS[unit].unit


@pytest.mark.parametrize(
    "unit", ["B", "B/s", "FLOP", "FLOP/s", "OP/s", "Hz", "W", "J", "s", "USD", "USD/chip/s", "USD/J"]
)
@pytest.mark.parametrize("value", [1.5, 2.5e3, 3.5e7, 4.5e12])
def test_what_is_shown_reads_back(unit: str, value: float) -> None:
    text = show(value, unit, digits=6).replace("G$", "e9 $").replace("M$", "e6 $").replace("e9 ", "e9 ")
    if unit == "USD":
        return  # "G$" and "M$" are for reading only
    assert parse(text).value == pytest.approx(value, rel=1e-4)


def test_counts() -> None:
    assert parse_count("15T") == 1.5e13
    assert parse_count("4k") == 4000
    with pytest.raises(UserError, match="whole"):
        parse_count("1.5")
    with pytest.raises(UserError, match="at least"):
        parse_count("-3")


# ---- what is made of facts once
# ----------------------------------------------------------------------------------------------------------------------


def made_of(path: str, calls: list[str]) -> Callable[[Facts], float]:
    """A maker that reads one fact, and another through `once`."""

    def inner(facts: Facts) -> float:
        calls.append("inner")
        return facts.number("chips.h100_sxm.memory.hbm_usable")

    def make(facts: Facts) -> float:
        calls.append("outer")
        return facts.number(path) + facts.once("inner", inner)

    return make


def test_a_view_makes_again_only_what_reads_a_fact_that_it_changes() -> None:
    path, inside, other = "chips.h100_sxm.memory.hbm_bandwidth", "chips.h100_sxm.memory.hbm_usable", "prices.user.h100"
    base, calls = load_facts(), list[str]()
    now = base.once("outer", made_of(path, calls))
    assert calls == ["outer", "inner"]
    again = base.with_values({"chips.trainium3.memory.hbm_bandwidth": 1e12}).with_values({other: 1e-3})
    assert again.once("outer", made_of(path, calls)) == now
    assert calls == ["outer", "inner"], "neither reads what changed"
    moved = base.with_values({path: 1e12})
    assert moved.once("outer", made_of(path, calls)) == 1e12 + base.number(inside)
    assert calls == ["outer", "inner", "outer"], "what the inner one reads is as it was"
    calls.clear()
    deep = base.with_values({inside: 7e10})
    assert deep.once("outer", made_of(path, calls)) == base.number(path) + 7e10
    assert calls == ["outer", "inner"], "the outer one rests on what the inner one read"
    assert base.once("outer", made_of(path, calls)) == now


def test_a_reference_and_a_fact_that_was_missing_count_as_read() -> None:
    base = load_facts()
    refers = next(
        p
        for kind in ("training", "serving")
        for n in base.ids(kind)
        for p in base.paths(f"{kind}.{n}")
        if "ref" in base.leaf(p)
    )
    end = base.fact(refers).path
    assert end != refers
    assert base.once("refers", lambda f: f.get(refers)) == base.fact(end)
    whole = replace(base.fact(end), path=refers, value=0.25, low=None, high=None)
    assert base.with_values({refers: whole}).once("refers", lambda f: f.get(refers)) == whole, "set where it stands"
    assert base.once("missing", lambda f: f.get("prices.user.no-such")) is None
    added = replace(base.fact("prices.user.h100"), path="prices.user.no-such")
    assert (
        base.with_values({"prices.user.no-such": added}).once("missing", lambda f: f.get("prices.user.no-such"))
        == added
    )


def test_who_watches_sees_what_was_read_before() -> None:
    base, calls = load_facts(), list[str]()
    path = "chips.h100_sxm.memory.hbm_bandwidth"
    base.once("outer", made_of(path, calls))
    watched = Watched(base)
    watched.once("outer", made_of(path, calls))
    assert calls == ["outer", "inner"]
    memory = "chips.h100_sxm.memory"
    assert set(watched.read) == {path, f"{memory}.hbm_usable", f"{memory}.hbm_capacity"}, "the share of the capacity"
