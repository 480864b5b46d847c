"""Metered power against what nodes are said to draw."""

from __future__ import annotations

from pathlib import Path

import pytest

from mowich.economics.energy import read_site
from mowich.economics.power import by_part, drawn_W
from mowich.errors import UserError
from mowich.evidence.scores import METERED, Validation
from mowich.evidence.validate import published, read_csv, validate_rows
from mowich.facts import Facts

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


def test_each_source_of_metered_rows_is_met_by_itself(shipped: Validation) -> None:
    """No source alone carries the median."""
    for source, found in shipped.by(lambda r: r.source).items():
        assert found.n == 0 or (found.median_abs_error or 0.0) < 0.15, source


def test_a_node_is_scored_without_its_network_and_a_system_with_it(facts: Facts, tmp_path: Path) -> None:
    file = tmp_path / "power.csv"
    file.write_text(HEAD + "a,h100,8,x,node,900\nb,h100,8,x,system,900\n", encoding="utf-8")
    node, system = validate_rows(file, facts).rows
    found = by_part(facts, "h100", read_site(facts))
    share = facts.number("sites.parts.drawn_share")
    network = float(found.parts["network"])
    assert node.predicted == pytest.approx(drawn_W(float(found.it), network, share))
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
        assert row["kind"].startswith(("metered", "measured system power"))
        assert row["scope"] in ("node", "system")
        assert float(row["W_per_chip"]) > 0
