"""Goodput: bounds, monotony, agreement with what large runs report."""

from __future__ import annotations

import numpy as np
import pytest
from fake_facts import FakeFacts, fact
from hypothesis import given
from hypothesis import strategies as st

from mowich.estimate import Notes, exact
from mowich.simulate import longrun

ROOT = "reliability.goodput"


def facts() -> FakeFacts:
    h = 3600.0
    items = [fact(f"{ROOT}.failure_rate_trainium", 2.24e-5 / h, "1/s", 0.5e-5 / h, 1e-4 / h, "D"), fact(f"{ROOT}.recovery", 465.0, "s", 180.0, 1200.0, "D"),
             fact(f"{ROOT}.checkpoint_stall", 5.48, "s", 1.0, 30.0, "D")]  # fmt: skip
    return FakeFacts({f.path: f for f in items})


seconds = st.floats(1.0, 1e7)


@given(mtbf=seconds, recovery=st.floats(0.0, 1e5), stall=st.floats(0.01, 1e3), step=st.floats(0.0, 100.0))
def test_useful_share_is_a_share(mtbf: float, recovery: float, stall: float, step: float) -> None:
    assert 0.0 <= float(longrun.useful_share(mtbf, recovery, stall, step)) < 1.0


@given(
    mtbf=st.floats(10.0, 1e7), factor=st.floats(1.01, 100.0), recovery=st.floats(0.0, 1e4), stall=st.floats(0.01, 1e3)
)
def test_more_failures_never_help(mtbf: float, factor: float, recovery: float, stall: float) -> None:
    assert longrun.useful_share(mtbf / factor, recovery, stall) <= longrun.useful_share(mtbf, recovery, stall) * (
        1 + 1e-9
    )


def test_arrays_equal_floats() -> None:
    mtbf = np.array([1e3, 1e4, 1e5])
    assert np.array_equal(
        longrun.useful_share(mtbf, 600.0, 5.0), [float(longrun.useful_share(m, 600.0, 5.0)) for m in mtbf]
    )


def test_first_order_when_failures_are_rare() -> None:
    mtbf, recovery, stall = 1e6, 600.0, 5.0
    tau = float(longrun.checkpoint_interval_s(stall, mtbf))
    assert float(longrun.useful_share(mtbf, recovery, stall)) == pytest.approx(
        1 - recovery / mtbf - stall / tau - (tau + stall) / 2 / mtbf, abs=2e-5
    )


def goodput(chips: int) -> float:
    return float(longrun.goodput(facts(), "x", chips=chips, step_s=exact(5.0, "s")))  # type: ignore[arg-type]


def test_more_chips_never_raise_goodput_and_bounds_hold() -> None:
    counts = [1, 64, 1024, 16384, 131072, 1_000_000]
    values = [goodput(n) for n in counts]
    assert values == sorted(values, reverse=True)
    for n in counts:
        e = longrun.goodput(facts(), "x", chips=n, step_s=exact(5.0, "s"))  # type: ignore[arg-type]
        assert 0.0 < e.low <= e.value <= e.high < 1.0  # type: ignore[operator]


def test_published_runs_lie_in_the_interval() -> None:
    """HLAT on 4096 Trainium: 98.8% uptime; Llama 3 on 16384 GPUs: over 90%."""
    small = longrun.goodput(facts(), "x", chips=4096, step_s=exact(5.0, "s"))  # type: ignore[arg-type]
    assert small.low < 0.988 < small.high  # type: ignore[operator]
    assert goodput(16384) > 0.9


def test_says_when_the_formula_is_not_valid() -> None:
    notes = Notes()
    e = longrun.goodput(facts(), "x", chips=1_000_000, step_s=exact(5.0, "s"), notes=notes)  # type: ignore[arg-type]
    assert "beyond the formula's validity" in (e.reason or "")
    assert e.grade == "D"
    assert {"mtbf", "checkpoint_interval", "goodput"} <= notes.terms.keys()
    assert longrun.goodput(facts(), "x", chips=1024, step_s=exact(5.0, "s")).reason is None  # type: ignore[arg-type]
