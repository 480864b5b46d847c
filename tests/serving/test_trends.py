"""What a generation of chips and a year of releases do to the constants of serving."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mowich.evidence.engine_releases import release_year, year_of
from mowich.facts import load_facts
from mowich.facts.load import shipped_folder
from mowich.machines.system import resolve
from mowich.models import load_model
from mowich.plans.plan import ServePlan, ServePlans
from mowich.plans.shapes import shapes
from mowich.serving.engines import Served, architecture, constant_columns, stated_facts
from mowich.serving.step import step
from mowich.software.engine import engine_names, newest_release
from mowich.studies.serving import deploy

FACTS = load_facts()
ENGINES = ("vllm", "sglang", "trtllm")


def served(model: str, on: str, engine: str, released: float = math.nan) -> Served:
    loaded, system = load_model(model), resolve(FACTS, on)
    return Served(
        model=loaded,
        arch=architecture(loaded),
        system=system,
        engine=engine,
        plan=ServePlan(tp=8, weights="fp8", kv="fp8"),
        released=released,
        stated=stated_facts(FACTS, engine, system),
    )


@settings(deadline=None, max_examples=30)
@given(
    model=st.sampled_from(["llama-3.1-70b", "qwen3-235b-a22b", "deepseek-v3"]),
    chip=st.sampled_from([("b200:8", 1), ("b300:8", 1), ("vr200:8", 2), ("h200:8", 0), ("mi300x:8", 0)]),
    engine=st.sampled_from(ENGINES),
    n=st.floats(1, 512),
    prompt=st.sampled_from([0.0, 1000.0]),
)
def test_a_generation_of_chips_shortens_kernels_layers_and_waits(
    model: str, chip: tuple[str, int], engine: str, n: float, prompt: float
) -> None:
    """Launches of kernels, too: of all fixed times of layers, by the same factor for each generation; nothing else."""
    name, count = chip
    one = served(model, name, engine)
    costs = constant_columns([one]).constants(FACTS.number)[0]
    work = shapes(one.model, ServePlans.of([one.plan]))
    given = {"n": n, "context": 1000.0, "prompt": prompt, "prompt_context": prompt / 2}
    old = replace(costs, fixed_times=np.ones(1))
    now, before = step(work, costs, **given), step(work, old, **given)
    factor = FACTS.number("serving.common.generation") ** count
    assert factor == 1.0 if count == 0 else factor < 0.9**count
    assert now["layers"][0] == pytest.approx(factor * before["layers"][0])
    wait = 2.0 * float(work.L[0] * costs.tp_latency[0])
    assert before["tp"][0] - now["tp"][0] == pytest.approx((1.0 - factor) * wait, abs=1e-12)
    assert all(now[part] == before[part] for part in now if part not in ("layers", "tp", "launches"))
    assert now.get("launches", 0.0) >= before.get("launches", 0.0)  # the host waits less for the device


@settings(deadline=None, max_examples=30)
@given(
    model=st.sampled_from(["llama-3.1-70b", "qwen3-235b-a22b", "deepseek-v3"]),
    engine=st.sampled_from(ENGINES),
    years=st.tuples(st.floats(2024, 2028), st.floats(2024, 2028)),
)
def test_a_later_release_shows_the_first_token_after_fewer_steps(
    model: str, engine: str, years: tuple[float, float]
) -> None:
    """The same fall for each year; of a release that nobody knows, what the constants are of."""
    cases = [served(model, "h200:8", engine, year) for year in (*years, math.nan)]
    table = constant_columns(cases)
    first, last, unknown = table.constants(FACTS.number)[1].visible_tokens
    fall = FACTS.number("serving.common.visible_yearly")
    assert 0.0 < fall < 1.0
    assert last / first == pytest.approx(fall ** (years[1] - years[0]))
    assert first / unknown == pytest.approx(fall ** (years[0] - FACTS.number("serving.common.visible_year")))
    kept = table.take(np.array([1, 2])).constants(FACTS.number)[1].visible_tokens
    assert kept.tolist() == [last, unknown]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_plan_is_of_the_newest_release(engine: str) -> None:
    """Facts say which, the table has it, and none later."""
    released = newest_release(FACTS, engine)
    named = str(FACTS.fact(f"serving.{engine}.release").value).split()[1]
    assert release_year(engine, f"{engine} {named}", "") == released
    with (shipped_folder() / "published" / "engine_releases.csv").open(encoding="utf-8", newline="") as file:
        own = [row for row in csv.DictReader(file) if row["engine"] == engine]
    assert max(year_of(row["date"]) for row in own) == released
    plan = ServePlan(tp=8, weights="fp8", kv="fp8")
    later = FACTS.with_values({f"serving.{engine}.release_year": released + 1.0})
    model, system = load_model("llama-3.1-70b"), resolve(FACTS, "h200:8")
    now, then = (deploy(model, system, engine, [plan], f).around.visible_tokens[0] for f in (FACTS, later))
    assert then / now == pytest.approx(FACTS.number("serving.common.visible_yearly"))


def test_engines_without_a_table_of_releases_have_no_trend() -> None:
    for engine in set(engine_names(FACTS)) - set(ENGINES) - {f"{engine}-rocm" for engine in ENGINES}:
        assert math.isnan(newest_release(FACTS, engine))
        assert math.isnan(release_year(engine, f"{engine} 0.12.0", "2026-01-01"))


@settings(max_examples=50)
@given(day=st.dates(min_value=date(2023, 1, 1), max_value=date(2040, 1, 1)))
def test_a_release_counts_from_its_own_day_and_an_unknown_one_from_the_row(day: date) -> None:
    assert release_year("vllm", "vllm 0.19.0", str(day)) == year_of("2026-04-03")
    assert release_year("trtllm", "trtllm 1.1.0rc2.post2", str(day)) == year_of("2025-08-30")
    for name in ("vllm", "vllm nightly-5b8c30d62b754b57", "vllm 99.0.1"):
        assert release_year("vllm", name, f"measured on {day}") == year_of(str(day))
    assert math.isnan(release_year("vllm", "vllm", ""))
