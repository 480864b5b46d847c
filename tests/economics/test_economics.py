"""Money and energy: formulas against hand-worked numbers, intervals, and what stays unknown."""

from __future__ import annotations

import pytest

from fake_facts import FakeFacts
from mowich.economics import energy, money
from mowich.estimate import Estimate, Notes, exact, told, unknown_estimate
from mowich.facts import Fact


def facts(*items: Fact) -> FakeFacts:
    return FakeFacts({f.path: f for f in items})


STEP = Estimate(value=4.0, unit="s", low=3.0, high=6.0, grade="C")
GOOD = Estimate(value=0.9, unit="1", low=0.8, high=0.95, grade="D")


def test_idle_chips_are_paid_for() -> None:
    price = exact(0.001, money.RATE)
    few = money.usd_per_mtok(price, chips=90, step_s=STEP, tokens=1e6, goodput=GOOD)
    more = money.usd_per_mtok(price, chips=100, step_s=STEP, tokens=1e6, goodput=GOOD)
    assert more.value == pytest.approx(few.value * 100 / 90)  # type: ignore[operator]
    assert more.low < more.value < more.high  # type: ignore[operator]
    assert more.grade == "D"


def test_breakeven_price_gives_the_best_rows_cost_back() -> None:
    notes = Notes()
    best = Estimate(value=0.3, unit=money.PER_MTOK, low=0.25, high=0.4, grade="B")
    law = told(notes, "even", money.breakeven_usd_per_chip_h, unit="USD/chip/h")
    even = law(best, chips=128, tokens_per_s=exact(5e4, "1/s"), goodput=exact(0.9, "1"))
    cost = money.usd_per_mtok(
        exact(even.value / 3600, money.RATE), chips=128, step_s=exact(2.0, "s"), tokens=1e5, goodput=exact(0.9, "1")
    )  # type: ignore[operator]
    assert cost.value == pytest.approx(0.3)
    assert even.low / even.value == pytest.approx(0.25 / 0.3)  # type: ignore[operator]
    assert notes.terms["even"].value == even.value


PUE = Estimate(value=1.2, unit="1", low=1.1, high=1.3, grade="D")
SHARE = Estimate(value=0.3, unit="1", low=0.1, high=0.5, grade="D")


def joule(power: Estimate, *, used: int, idle: int, step_s: Estimate = STEP) -> Estimate:
    given = {"step_s": step_s, "tokens": 1e6, "goodput": GOOD, "pue": PUE, "idle_share": SHARE}
    return energy.joule_per_token(power, used=used, idle=idle, **given)  # type: ignore[arg-type]


def test_breakeven_watts_give_the_best_rows_energy_back_and_pue_cancels() -> None:
    kept = exact(0.9, "1")
    chips = energy.powered_chips(100, 0, SHARE)
    best = energy.joule_per_token(
        exact(900.0, "W"),
        used=100,
        idle=0,
        step_s=exact(2.0, "s"),
        tokens=1e6,
        goodput=kept,
        pue=PUE,
        idle_share=SHARE,
    )
    assert best.low < best.value < best.high  # type: ignore[operator]
    given = {"tokens_per_s": exact(5e5, "1/s"), "goodput": kept, "pue": PUE, "powered_chips": chips}
    even = energy.breakeven_W_per_chip(best, **given, drawn_share=exact(0.5, "1"))
    assert even.value == pytest.approx(1800.0)  # provisioned, of which half is drawn
    assert even.low == pytest.approx(1800.0, rel=1e-6)
    assert even.high == pytest.approx(1800.0, rel=1e-6)


def test_idle_chips_draw_a_share() -> None:
    busy, idle = (joule(exact(900.0, "W"), used=100, idle=idle) for idle in (0, 10))
    assert idle.value == pytest.approx(busy.value * 1.03)  # type: ignore[operator]


def test_unknown_power_stays_unknown() -> None:
    nothing, notes = unknown_estimate("W", "no published power"), Notes()
    assert joule(nothing, used=1, idle=0).value is None
    even = told(notes, "even", energy.breakeven_W_per_chip, unit="W")(
        nothing,
        tokens_per_s=exact(1, "1/s"),
        goodput=GOOD,
        pue=PUE,
        powered_chips=exact(1, "chips"),
        drawn_share=GOOD,
    )
    assert even.reason == "no published power"
    assert not notes.terms  # a law that gives nothing records nothing
