"""Long runs: formula against Monte Carlo, published runs from rates of others, and what must always hold."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mowich import cli
from mowich.facts import Facts, load_facts
from mowich.requests.rooms.goodput import SCHEMA as GOODPUT
from mowich.studies.rooms.goodput import answer, published_runs
from mowich.training import faults
from mowich.training.faults import STRATEGIES, FaultRates, Job, Strategy
from pace import within

JOB = Job(chips=16384, step_s=5.0, days=54.0, spare_share=0.02, unit_chips=8, replica_chips=1024)
FACTS = load_facts()
RATES = faults.read_fault_rates(FACTS, "gpu")
WAYS = {name: faults.read_strategy(FACTS, name) for name in STRATEGIES}


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("chips", [4096, 65536, 1_000_000])
def test_formula_and_monte_carlo_agree(name: str, chips: int) -> None:
    """Where failures are many the mean of the runs is the formula's, within four standard errors and half a percent of
    losses by counting bins."""
    job = replace(JOB, chips=chips)
    runs = faults.simulate_runs(job, RATES, WAYS[name], samples=200)
    g = faults.closed_form(job, RATES, WAYS[name])
    assert runs.mean() == pytest.approx(g.value, abs=4 * runs.std() / 200**0.5 + 0.005)


@pytest.mark.parametrize("name", STRATEGIES)
def test_parts_and_value_sum_to_one(name: str) -> None:
    for chips in (1024, 16384, 1_000_000):
        g = faults.closed_form(replace(JOB, chips=chips), RATES, WAYS[name])
        assert sum(g.parts.values()) + g.value == pytest.approx(1.0, abs=1e-9)
        assert all(part >= 0 for part in g.parts.values())


def test_by_hand() -> None:
    """One failure in 1e4 s, 100 s to recover, checkpoints of 1 s each 100 s: 100 / (1e4 e^0.01 (e^0.0101 - 1)) =
    0.97539."""
    rates = FaultRates(
        failures={"accelerator": 1e-6, "host": 0.0, "network": 0.0, "software": 0.0},
        silent=0.0,
        slow=0.0,
        repair_s=1.0,
        replaced=0.0,
    )
    way = Strategy(
        name="async",
        display="",
        stall_s=1.0,
        detect_s=60.0,
        restart_s=40.0,
        rebuild_s=0.0,
        check_period_s=1e9,
        check_s=0.0,
        slow_found_s=0.0,
        slow_speed=1.0,
    )
    g = faults.closed_form(replace(JOB, chips=100, checkpoint_s=100.0), rates, way)
    assert g.value == pytest.approx(100 / (1e4 * np.exp(0.01) * np.expm1(0.0101)), rel=1e-9)
    assert g.interval_s == 100.0


seconds = st.floats(0.5, 5e3)


@settings(max_examples=40, deadline=None)
@given(
    chips=st.integers(64, 1_000_000),
    one=st.floats(0, 0.2),
    two=st.floats(0, 0.2),
    name=st.sampled_from(STRATEGIES),
    days=st.floats(1, 200),
)
def test_more_spares_never_lower_goodput(chips: int, one: float, two: float, name: str, days: float) -> None:
    few, many = sorted((one, two))
    slow = replace(RATES, repair_s=30 * 86400.0)  # repairs of a month: spares matter
    job = replace(JOB, chips=chips, days=days)
    a, b = (faults.closed_form(replace(job, spare_share=s), slow, WAYS[name]).value for s in (few, many))
    assert b >= a - 1e-12


@settings(max_examples=40, deadline=None)
@given(chips=st.integers(64, 500_000), factor=st.floats(1.0, 10.0), name=st.sampled_from(STRATEGIES))
def test_more_failures_or_longer_recoveries_never_help(chips: int, factor: float, name: str) -> None:
    job = replace(JOB, chips=chips)
    base = faults.closed_form(job, RATES, WAYS[name]).value
    worse = replace(RATES, failures={k: v * factor for k, v in RATES.failures.items()})
    assert faults.closed_form(job, worse, WAYS[name]).value <= base + 1e-9
    longer = replace(WAYS[name], restart_s=WAYS[name].restart_s * factor)
    assert faults.closed_form(job, RATES, longer).value <= base + 1e-12


def test_shortage_is_exact_where_it_is_summed_and_continuous_where_it_is_not() -> None:
    assert faults.shortage(0.0, 1.0) == (0.0, 0.0)
    exact, normal = faults.shortage(499.9, 480.0), faults.shortage(500.1, 480.0)
    assert exact[0] == pytest.approx(normal[0], rel=0.02)
    rng = np.random.default_rng(0)
    x = rng.poisson(30.0, 400_000)
    assert faults.shortage(30.0, 33.0)[0] == pytest.approx(np.maximum(0, x - 33).mean(), rel=0.02)


def test_the_slowest_of_many() -> None:
    rng = np.random.default_rng(1)
    drawn = (1.0 + 0.02 * rng.standard_normal((400, 10_000))).max(axis=1).mean()
    assert float(faults.slowest_of(10_000, 0.02)) == pytest.approx(drawn, rel=0.002)


def test_breakeven_recovery_reaches_the_target() -> None:
    found = faults.breakeven_recovery_s(JOB, RATES, WAYS["async"], 0.9)
    assert found is not None
    at = faults.closed_form(JOB, RATES, replace(WAYS["async"], detect_s=0.0, restart_s=found)).value
    assert at == pytest.approx(0.9, abs=1e-6)
    assert faults.breakeven_recovery_s(replace(JOB, chips=1_000_000), RATES, WAYS["sync"], 0.9) is None


def test_published_runs_from_rates_of_others(facts: Facts) -> None:
    """419 interruptions within a factor of two; every published figure inside its range; losses of time within a factor
    of two."""
    for run in published_runs(facts, samples=200):
        assert run.inside, run.run
        value = float(run.predicted)
        ratio = value / run.published if run.what == "failures" else (1 - value) / (1 - run.published)
        assert 0.5 < ratio < 2.0, (run.run, ratio)


def test_a_million_chips_for_90_days_a_thousand_times() -> None:
    """The target is 10 s on one core."""
    job = replace(JOB, chips=1_000_000, days=90.0)
    with within(10.0):
        runs = faults.simulate_runs(job, RATES, WAYS["elastic"], samples=1000)
    assert len(runs) == 1000


def test_same_seed_same_runs() -> None:
    one, two = (faults.simulate_runs(JOB, RATES, WAYS["memory"], samples=50, seed=3) for _ in range(2))
    assert np.array_equal(one, two)


def test_restarting_the_whole_does_not_survive_a_million_chips(facts: Facts) -> None:
    found = answer(GOODPUT.of(facts, on="trn3:1000000", days=30, step_s=5.0, samples=50))
    by = {r.strategy: r.formula.value for r in found.rows}
    assert by["sync"] < by["async"] < 0.05 < by["memory"] < by["elastic"]
    assert found.survival == "elastic"
    assert any("plans take elastic" in w for w in found.warnings)


def test_the_verb_follows_its_contract(capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.run(
        ["goodput", "--on", "h100:16384", "--days", "54", "--strategy", "async", "--samples", "50", "--json"]
    )
    found = json.loads(capsys.readouterr().out)
    assert code == 0
    assert found["schema"] == "mowich/goodput@1"
    [row] = found["rows"]
    assert row["goodput"]["low"] <= row["goodput"]["value"] <= row["goodput"]["high"]
    assert sum(row["lost"].values()) + row["goodput"]["value"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("--strategy", "asynch"), "did you mean 'async'"),
        (("--spares", "many"), "not a share"),
        (("--days", "0"), "above 0"),
        (("--step", "5"), "unit"),
    ],
)
def test_bad_input_is_refused(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], what: str) -> None:
    code = cli.run(["goodput", "--on", "h100:64", *words])
    assert code == 2
    assert what in capsys.readouterr().err
