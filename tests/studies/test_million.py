"""A million chips: every vendor's machine answers, over joined fabrics where its own ends, with ranges that are finite
and no narrower than where steps are measured."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

import mowich
from mowich.errors import UserError
from mowich.estimate import Estimate
from mowich.facts import Facts
from mowich.machines import collectives
from mowich.machines.system import System, resolve
from mowich.machines.topology import describe, on_network, per_chip

SYSTEMS = ("trn2", "trn3", "ironwood", "gb300")
MEASURED, MILLION = 16_384, 1_000_000
WIDEST = 9.0  # energy of experts on Trainium, whose power and software at that size were not measured, comes to 7
JOBS: Mapping[str, Mapping[str, object]] = {
    "kimi-k2": {"tokens": "30T", "seq": 4096, "batch": "64M tokens"},
    "llama-3.1-405b": {"tokens": "15T", "seq": 8192, "batch": "128M tokens"},
    "llama-3.1-8b": {"tokens": "15T", "seq": 8192, "batch": "64M tokens"},
}


def ratio(x: Estimate) -> float:
    assert x.low is not None
    assert x.high is not None
    return x.high / x.low


@cache
def compared(model: str, chips: int) -> mowich.Comparison:
    return mowich.compare(model, SYSTEMS, train=dict(JOBS[model]), chips=chips)


@pytest.mark.parametrize(
    "model", [m if m == "llama-3.1-405b" else pytest.param(m, marks=pytest.mark.slow) for m in JOBS]
)
def test_ranges_at_a_million_chips_are_finite_and_no_narrower_than_at_16384(model: str) -> None:
    small, large = (compared(model, n).rows for n in (MEASURED, MILLION))
    for few, many in zip(small, large, strict=True):
        assert many.chips_requested == MILLION
        assert many.survival == "elastic"
        for name in ("step_s", "days", "J_per_token", "usd_per_mtok", "goodput", "tokens_per_s_per_chip"):
            a, b = getattr(few, name), getattr(many, name)
            assert (a.value is None) == (b.value is None), (few.system, name)
            if b.value is not None:
                assert ratio(a) <= ratio(b) <= WIDEST, (few.system, name, ratio(a), ratio(b))
        assert many.days.grade == "D", "nothing of that size was measured"


def test_only_machines_beyond_one_fabric_say_that_fabrics_are_joined() -> None:
    found = compared("llama-3.1-405b", MILLION)
    said = [w.split(":")[0] for w in found.warnings if "fabrics of" in w]
    assert said == ["ironwood", "gb300"]


@pytest.mark.parametrize("system", SYSTEMS)
def test_goodput_at_a_million_chips(system: str) -> None:
    found = mowich.goodput(f"{system}:{MILLION}", samples=20)
    best = max(found.rows, key=lambda r: r.goodput.value or 0.0)
    assert ratio(best.goodput) <= WIDEST


@pytest.mark.parametrize("system", SYSTEMS)
def test_more_chips_than_anybody_joins_get_one_line(system: str) -> None:
    with pytest.raises(UserError) as caught:
        mowich.compare("llama-3.1-8b", [system], train=dict(JOBS["llama-3.1-8b"]), chips=10**9)
    line = caught.value.line()
    assert "\n" not in line
    assert "1000000000" in line
    assert "max_chips" in line


def without_joined(system: System) -> System:
    """The same machine with one fabric for all chips."""
    return replace(system, levels=system.levels[:-1])


def groups(system: System, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Random groups that lie inside one fabric of a system."""
    rng = random.Random(seed)
    fabric = system.levels[system.fabric_level].devices
    strides = [2 ** rng.randrange(0, 12) for _ in range(60)]
    return np.array([float(rng.randrange(2, fabric // s)) for s in strides]), np.array([float(s) for s in strides])


@pytest.mark.parametrize("name", ["ironwood", "gb300"])
def test_a_group_inside_one_fabric_does_not_see_what_joins_fabrics(facts: Facts, name: str) -> None:
    system = resolve(facts, name, chips=100_000)
    n, stride = groups(system, 7)
    size = np.full(len(n), 2.0**28)
    for kind in ("all-reduce", "all-gather", "all-to-all", "permute"):
        a, b = (collectives.choose(x, kind, size, n, stride) for x in (system, without_joined(system)))
        assert a.time_s.tolist() == b.time_s.tolist()
        assert (a.algorithm, a.binds) == (b.algorithm, b.binds)


@pytest.mark.parametrize("name", ["ironwood", "gb300"])
@pytest.mark.parametrize("kind", ["all-reduce", "all-gather", "all-to-all"])
def test_joined_fabrics_are_slower_than_one_and_faster_with_more_between_them(
    facts: Facts, name: str, kind: str
) -> None:
    paths = [f"networks.collectives.joined.{x}" for x in ("bandwidth_share", "step")]
    share = facts.fact(paths[0])
    times = []
    for value in (share.low, share.value, share.high):
        system = per_chip(resolve(facts.with_values({paths[0]: float(value or 0.0)}), f"{name}:{MILLION}"))
        times.append(float(collectives.choose(system, kind, *(np.array([x]) for x in (2.0**34, 1e6, 1.0))).time_s[0]))
    whole = without_joined(per_chip(resolve(facts, f"{name}:{MILLION}")))
    one = float(collectives.choose(whole, kind, *(np.array([x]) for x in (2.0**34, 1e6, 1.0))).time_s[0])
    assert times[0] >= times[1] >= times[2] >= one
    assert times[0] > one


def test_eight_fabrics_exchange_by_hand(facts: Facts) -> None:
    """An all-to-all of all chips: seven eighths of the bytes leave a fabric, over an eighth of the link."""
    system = per_chip(resolve(facts, f"gb300:{MILLION}"))
    joined, fabric = system.levels[-1], system.levels[system.fabric_level]
    assert joined.joins_fabrics
    F = 1e6 / (1e6 / 8)  # the group is spread evenly over the fabrics that it needs
    send = 2.0**40
    by_hand = send * (1 - 1 / F) / (joined.bandwidth_Bps * system.fabric.network_efficiency)
    time = collectives.all_to_all_s(system, *(np.array([x]) for x in (send, 1e6, 1.0))).outside_s[0]
    assert time == pytest.approx(by_hand, rel=1e-3)
    assert joined.bandwidth_Bps == pytest.approx(
        fabric.bandwidth_Bps * facts.number("networks.collectives.joined.bandwidth_share")
    )


def test_another_network_keeps_the_share_of_what_joins_fabrics(facts: Facts) -> None:
    own = resolve(facts, f"gb300:{MILLION}")
    other = on_network(facts, own, "efa_v1")
    at = own.fabric_level
    assert other.levels[at].bandwidth_Bps != own.levels[at].bandwidth_Bps
    for system in (own, other):
        assert system.levels[-1].bandwidth_Bps / system.levels[at].bandwidth_Bps == pytest.approx(
            facts.number("networks.collectives.joined.bandwidth_share")
        )
    thin = on_network(facts, own, "", oversubscription=64.0)
    assert thin.levels[-1].bandwidth_Bps <= thin.levels[at].bandwidth_Bps


def test_levels_of_a_machine_of_joined_fabrics(facts: Facts) -> None:
    rows = {row.name: row for row in describe(resolve(facts, f"gb300:{MILLION}"))}
    assert (rows["scale_out"].joins, rows["scale_out"].of) == (131_072, 8)
    assert (rows["joined"].joins, rows["joined"].of) == (MILLION, 1)
    assert "joined" not in {row.name for row in describe(resolve(facts, "gb300:100000"))}
    assert "joined" not in {row.name for row in describe(resolve(facts, f"trn3:{MILLION}"))}


def test_a_collective_inside_one_fabric_is_no_less_sure(facts: Facts) -> None:
    inside, beyond = (
        json.loads(json.dumps(mowich.collective("all-gather", f"gb300:{n}", sizes=["1GiB"]).to_dict()))["rows"][0]
        for n in (72, MILLION)
    )
    assert inside["time_s"]["grade"] == "C"
    assert beyond["time_s"]["grade"] == "D"
