"""Systems: what a name on the command line means, its bounds, and the levels that the machines are made of."""

from __future__ import annotations

import numpy as np
import pytest

from mowich.errors import UserError
from mowich.facts import Facts
from mowich.machines import collectives
from mowich.machines.system import PRECISIONS, logical_cores, machine_id, parse_spec, resolve, with_lnc
from mowich.software.stack import equip

MACHINES = (
    "trn1",
    "trn2-server",
    "trn2",
    "trn3-gen1",
    "trn3-gen2",
    "trn4",
    "tpu-v4",
    "tpu-v5e",
    "tpu-v5p",
    "tpu-v6e",
    "ironwood",
    "a100-40g",
    "a100",
    "h100",
    "h200",
    "b200",
    "b300",
    "gb200",
    "gb300",
)


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("trn3", ("trn3", None, None)),
        (" trn3:64 ", ("trn3", ":", "64")),
        ("trn3-gen2*4", ("trn3-gen2", "*", "4")),
        ("ironwood:4x4x8", ("ironwood", ":", "4x4x8")),
        ("DGX H100:16", ("DGX H100", ":", "16")),
    ],
)
def test_a_spec_is_a_name_and_a_size(spec: str, parts: tuple[str, str | None, str | None]) -> None:
    assert parse_spec(spec) == parts


@pytest.mark.parametrize(
    ("spec", "chips"),
    [
        ("trn3", 144),
        ("trn3:64", 64),
        ("trn3-gen2*4", 576),
        ("trn3:1k", 1000),
        ("ironwood:4x4x8", 128),
        ("gb300*2", 144),
        ("tpu-v5e:4x8", 32),
    ],
)
def test_a_size_counts_chips_units_or_the_sides_of_a_torus(facts: Facts, spec: str, chips: int) -> None:
    assert resolve(facts, spec).chips == chips


def test_a_size_in_the_name_wins_over_a_given_count(facts: Facts) -> None:
    assert resolve(facts, "trn3:64", chips=1024).chips == 64
    assert resolve(facts, "trn3", chips=1024).chips == 1024


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("trn3:0", "must be at least 1"),
        ("trn3:-4", "not a system"),
        ("trn3:1.5", "whole number"),
        ("trn3*0", "must be at least 1"),
        ("trn3:10M", "1 to 1 000 000"),
        ("trn3:x", "not a count"),
        ("ironwood:0x4x4", "out of range"),
        ("ironwood:4x4", "3 axes"),
        ("gb300:4x4", "a shape needs a torus"),
        ("trn9", "did you mean 'trn"),
        ("efa", "not a machine"),
        ("", "not a system"),
    ],
)
def test_a_bad_size_or_name_is_refused(facts: Facts, spec: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        resolve(facts, spec)
    assert said in error.value.line()
    assert len(error.value.line().splitlines()) == 1


def test_every_alias_leads_to_its_system(facts: Facts) -> None:
    for system, entry in facts.aliases().items():
        for alias in (system, *entry.aliases, *entry.in_data):
            assert facts.resolve_system(alias) == system
            assert facts.resolve_system(alias.upper()) == system


@pytest.mark.parametrize("name", MACHINES)
def test_every_machine_resolves_with_rates_and_nested_levels(facts: Facts, name: str) -> None:
    system = equip(facts, name)
    assert machine_id(facts, name) == system.id
    assert system.chips == system.chips_per_unit
    assert system.hbm_Bps > 0
    assert system.hbm_usable_B > 0
    assert system.peak_flops["bf16"] > 0
    assert set(system.recipes) <= set(PRECISIONS)
    sizes = [level.devices for level in system.levels]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == len(sizes)
    at = system.fabric_level
    assert [level.is_network for level in system.levels] == [False] * at + [True] * (len(sizes) - at)
    assert [level.joins_fabrics for level in system.levels[at:]] == [False, True][: len(sizes) - at]
    assert all(level.bandwidth_Bps > 0 and level.latency_s >= 0 for level in system.levels)
    assert all(
        path.split(".")[0] in ("chips", "systems", "devices", "training", "networks") for path in system.paths.values()
    )


def test_rates_of_a_chip_are_shared_by_its_devices(facts: Facts) -> None:
    system = resolve(facts, "ironwood")
    assert system.devices_per_chip == 2
    assert system.devices == 2 * system.chips
    assert system.hbm_Bps * 2 == pytest.approx(facts.number("chips.tpu_v7_ironwood.memory.hbm_bandwidth"))


def test_trn3_gen2_is_two_racks_and_not_one_hop(facts: Facts) -> None:
    """A sled of 4, a rack of 72, and links between same positions of two racks: 144 chips are further apart than 72."""
    system = resolve(facts, "trn3-gen2")
    chips = {level.name: level.devices // system.devices_per_chip for level in system.levels}
    assert chips["server"] == 4
    assert chips["rack"] == 72
    assert chips["ultraserver"] == 144
    assert next(level for level in system.levels if level.name == "ultraserver").via_inner

    def seconds(chips: int) -> float:
        n = np.array([float(chips * system.devices_per_chip)])
        return float(collectives.all_to_all_s(system, np.array([1e9]), n, np.array([1.0])).inside_s[0])

    assert seconds(144) > 1.2 * seconds(72)
    gen1 = resolve(facts, "trn3-gen1")
    assert gen1.levels[-2].devices // gen1.devices_per_chip == 64


@pytest.mark.parametrize("name", ["trn2", "trn2-server", "trn3-gen1", "trn3-gen2"])
@pytest.mark.parametrize("physical", [1, 2])
def test_a_chip_is_the_same_however_its_cores_are_grouped(facts: Facts, name: str, physical: int) -> None:
    """One machine by facts and by regrouping; a chip's peak, memory and links are those of its devices together."""
    usual = resolve(facts, name)
    asked = resolve(facts.with_values(with_lnc(facts, physical)), name)
    regrouped = logical_cores(facts, usual, physical)
    assert (usual.lnc, asked.lnc, regrouped.lnc) == (2, physical, physical)
    assert asked.devices_per_chip == regrouped.devices_per_chip == 8 // physical
    for system in (asked, regrouped):
        per_chip, per_usual = system.devices_per_chip, usual.devices_per_chip
        assert system.hbm_usable_B * per_chip == pytest.approx(usual.hbm_usable_B * per_usual)
        assert system.hbm_Bps * per_chip == pytest.approx(usual.hbm_Bps * per_usual)
        for precision, rate in usual.peak_flops.items():
            assert system.peak_flops[precision] * per_chip == pytest.approx(rate * per_usual)
        for level, before in zip(system.levels, usual.levels, strict=True):
            assert level.bandwidth_Bps * per_chip == pytest.approx(before.bandwidth_Bps * per_usual)
            assert level.devices * per_usual == before.devices * per_chip or level.is_network


def test_only_trainium_has_logical_cores_and_of_one_or_two(facts: Facts) -> None:
    assert [resolve(facts, name).lnc for name in ("h100", "ironwood", "gb300")] == [0, 0, 0]
    assert set(with_lnc(facts, 1)) == {f"chips.trainium{n}.devices_per_chip" for n in (2, 3)}
    with pytest.raises(UserError, match="allowed: 1, 2"):
        with_lnc(facts, 4)
