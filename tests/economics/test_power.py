"""Power by part: sums, bounds, and what a cap feeds."""

from __future__ import annotations

import json

import pytest

from mowich import cli
from mowich.economics import energy, power
from mowich.facts import Facts
from mowich.requests.rooms.power import SCHEMA as POWER
from mowich.studies.rooms.power import answer

MACHINES = ("trn1", "trn2", "trn3-gen2", "ironwood", "tpu-v4", "h100", "b200", "gb200", "gb300")


@pytest.mark.parametrize("name", MACHINES)
def test_power_sums_over_components(facts: Facts, name: str) -> None:
    found = power.by_part(facts, name, energy.read_site(facts))
    parts = [float(e) for e in found.parts.values()]
    assert sum(parts) == pytest.approx(float(found.total))
    assert all(p >= 0 for p in parts)
    assert sum(parts[:3]) == pytest.approx(float(found.it))
    assert float(found.idle) < float(found.total)
    for e in (*found.parts.values(), found.total):
        assert e.low is not None
        assert e.high is not None
        assert e.low <= float(e) <= e.high


def test_a_gb300_by_hand(facts: Facts) -> None:
    """1400 W of chip, 100 GB/s of network at 40 W for 50 GB/s, 2403 W in all: 923 W of server."""
    parts = power.by_part(facts, "gb300", energy.read_site(facts)).parts
    assert float(parts["chip"]) == 1400.0
    assert float(parts["network"]) == pytest.approx(80.0)
    assert float(parts["server"]) == pytest.approx(923.0)
    assert float(parts["cooling"]) == pytest.approx(0.14 * 2403)


def test_a_larger_cap_never_feeds_fewer_chips(facts: Facts) -> None:
    found = power.by_part(facts, "trn3-gen2", energy.read_site(facts))
    counts = [float(power.chips_under(cap, found)) for cap in (1e6, 2e6, 1e8, 1e9)]
    assert counts == sorted(counts)
    assert float(power.chips_under(1e8, found, spares=0.1)) >= counts[2]


def test_an_unknown_power_says_why(facts: Facts) -> None:
    for name in ("gh200", "l40s"):
        assert power.by_part(facts, name, energy.read_site(facts)).total.reason


def test_tokens_per_megawatt(facts: Facts) -> None:
    [row] = answer(POWER.of(facts, systems=["trn3-gen2"], cap_W=1e8, tokens_per_s=1000.0))
    assert row.tokens_per_MW is not None
    assert row.chips_under_cap is not None
    assert float(row.tokens_per_MW) == pytest.approx(1000.0 / float(row.power.total) * 1e6)
    assert float(row.machine_W) == pytest.approx(144 * float(row.power.total))


def test_the_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["power", "--on", "trn3,gb300", "--cap", "100MW", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "mowich/power@1"
    assert [r["system"] for r in found["rows"]] == ["trn3", "gb300"]
    assert cli.run(["power", "--on", "trn3", "--cap", "100MW", "--plain"]) == 0
    assert "the cap feeds" in capsys.readouterr().out
    assert cli.run(["power", "--on", "trn3", "--cap", "100"]) == 2
    assert "unit" in capsys.readouterr().err
