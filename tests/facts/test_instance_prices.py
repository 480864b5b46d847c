"""Prices of instances and of one of their chips say the same."""

from __future__ import annotations

import pytest

from mowich.economics import money
from mowich.facts import Facts


def test_a_chip_has_the_share_of_its_instance(facts: Facts) -> None:
    seen = 0
    for path in [p for p in facts.paths("prices.aws") if p.endswith(".per_accelerator")]:
        chip, whole = facts.fact(path), facts.fact(path.replace(".per_accelerator", ".price"))
        chips = round(whole.value / chip.value)  # type: ignore[operator]
        for part, of_all in ((chip.value, whole.value), (chip.low, whole.low), (chip.high, whole.high)):
            assert (part is None) == (of_all is None), path
            assert part is None or part == pytest.approx(float(of_all or 0.0) / chips, rel=2e-4), path
        assert str(chip.formula).endswith(f"/{chips}"), path
        seen += 1
    assert seen > 20


@pytest.mark.parametrize(
    ("system", "term", "usd_per_h", "day"),
    [("trn2", "spot", 0.90996, "2026-10-03"), ("inf2", "on-demand", 1.0818, "2026-09-01")],
)
def test_a_price_that_was_read_on_a_day_stands_before_one_without(
    facts: Facts, system: str, term: str, usd_per_h: float, day: str
) -> None:
    found = money.price(facts, system, term=term)
    assert found.rate.value == pytest.approx(usd_per_h / 3600)
    assert day in found.label
