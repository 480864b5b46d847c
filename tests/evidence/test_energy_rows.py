"""Metered power against what nodes are said to draw."""

from __future__ import annotations

from pathlib import Path

import pytest

from mowich.economics.energy import chip_power, drawn_power, read_site
from mowich.economics.power import by_part, node_drawn_W
from mowich.errors import UserError
from mowich.estimate import exact
from mowich.evidence.measured_tables import METERED, published, read_csv
from mowich.evidence.scores import Validation
from mowich.evidence.validate import validate_rows
from mowich.facts import Facts
from mowich.machines.system import machine_id
from mowich.studies.outcome import cost_of

HEAD = "id,chip,n_chips,workload,scope,W_per_chip\n"


@pytest.fixture(scope="module")
def shipped(facts: Facts) -> Validation:
    return validate_rows("energy", facts)


def test_metered_rows_are_met(shipped: Validation) -> None:
    """15% in the median, 85% in the range; a chip without facts is refused, not guessed."""
    found = shipped.summary()["all"]
    assert shipped.path == METERED
    assert found.n > 115
    assert found.median_abs_error is not None
    assert found.interval_coverage is not None
    assert found.median_abs_error < 0.15
    assert found.interval_coverage >= 0.85
    assert {r.chip for r in shipped.rows if r.status == "unsupported"} == {"TPU v3"}


def test_idle_nodes_serving_nodes_and_buildings_are_scored(shipped: Validation) -> None:
    for part in ("serving", "idle"):
        found = [r for r in shipped.rows if part in r.kind]
        assert found
        assert all((r.abs_error or 9.0) < 0.15 for r in found), part
    buildings = [r for r in shipped.rows if r.metric == "pue"]
    assert len(buildings) >= 5
    assert all((r.low or 9.0) <= (r.measured or 0.0) <= (r.high or 0.0) for r in buildings)


def test_a_chip_whose_own_rows_are_left_out_is_met_too(facts: Facts) -> None:
    """The share of the other chip in the place of its own: 15% in the median; that of all: 85% in range."""
    own = [f"chips.{chip}.power.drawn_share" for chip in ("h100_sxm", "b200_sxm")]
    swapped = facts.with_values(dict(zip(own, map(facts.fact, reversed(own)), strict=True)))
    unmetered = facts.with_values(dict.fromkeys(own, facts.fact("sites.parts.drawn_share")))
    assert (validate_rows("energy", swapped).summary()["all"].median_abs_error or 1.0) < 0.15
    assert (validate_rows("energy", unmetered).summary()["all"].interval_coverage or 0.0) >= 0.85


@pytest.mark.parametrize("system", ["h100", "b200", "tpu-v4", "trn3", "ironwood", "gb300", "h200"])
def test_energy_of_a_token_counts_what_is_drawn(facts: Facts, system: str) -> None:
    """Of training and of served tokens alike; more provisioned power is drawn more, and what is assumed is wider."""
    known = machine_id(facts, facts.resolve_system(system))
    cost = cost_of(facts, known, term="default", used=8, idle=0, step_s=exact(2.0, "s"), tokens=1e6)
    draw, provisioned = drawn_power(facts, known), chip_power(facts, known)
    pue = float(read_site(facts).pue)
    assert float(cost["J_per_token"]) == pytest.approx(float(draw.power) * 8 * 2.0 * pue / 1e6)
    assert float(draw.power) <= float(provisioned)
    assert cost["power_basis"] == draw.basis == ("metered" if system in ("h100", "b200", "tpu-v4") else "assumed")
    assert (draw.power.high or 0.0) / float(draw.power) > (1.3 if draw.basis == "assumed" else 1.05)
    path = f"chips.{facts.meta('systems', known)['chip']}.power.all_in"
    more = facts.with_values({path: 2.0 * facts.number(path)})
    assert float(drawn_power(more, known).power) == pytest.approx(2.0 * float(draw.power))
    idle = float(draw.power) * float(draw.idle_share)
    assert idle == pytest.approx(float(read_site(facts).idle_share) * float(provisioned))


def test_each_source_of_metered_rows_is_met_by_itself(shipped: Validation) -> None:
    """No source alone carries the median."""
    for source, found in shipped.by(lambda r: r.source).items():
        assert found.n == 0 or (found.median_abs_error or 0.0) < 0.15, source


def test_a_node_is_scored_without_its_network_and_a_system_with_it(facts: Facts, tmp_path: Path) -> None:
    file = tmp_path / "power.csv"
    file.write_text(HEAD + "a,h100,8,x,node,900\nb,h100,8,x,system,900\n", encoding="utf-8")
    node, system = validate_rows(file, facts).rows
    found = by_part(facts, "h100", read_site(facts))
    share = facts.number("chips.h100_sxm.power.drawn_share")
    network = float(found.parts["network"])
    assert node.predicted == pytest.approx(node_drawn_W(float(found.it) * share, float(found.it), network))
    assert system.predicted == pytest.approx(float(found.it) * share)
    assert node.ratio == pytest.approx((node.predicted or 0.0) / 900)
    assert node.low is not None
    assert node.high is not None
    assert node.low < (node.predicted or 0.0) < node.high


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("a,h100,8,x,rack,900", "unknown scope"),
        ("a,h100,8,x,node,", "must not be blank"),
        ("a,h100,8,x,node,much", "not a number"),
        ("a,h100,0.5,x,node,900", "whole number"),
    ],
)
def test_a_row_that_cannot_be_read_is_refused_with_its_place(facts: Facts, tmp_path: Path, row: str, said: str) -> None:
    file = tmp_path / "power.csv"
    file.write_text(f"{HEAD}{row}\n", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read_csv(file, facts)
    assert said in str(caught.value) + str(caught.value.allowed)
    assert f"{file}:2" in str(caught.value.where)


def test_what_is_not_metered_is_not_among_the_rows(facts: Facts) -> None:
    for row in read_csv(published(METERED), facts):
        assert row["kind"].startswith(("metered", "measured", "PUE as reported"))
        assert float(row["pue" if row["scope"] == "building" else "W_per_chip"]) > 0
