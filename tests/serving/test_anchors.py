"""Measured rows as anchors of a forecast: what they say, how far they reach, and one answer by every door."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mowich.evidence.serving_cases import class_of
from mowich.evidence.serving_checks import read_serving_cases
from mowich.evidence.serving_rows import ServingCase
from mowich.evidence.serving_validate import shifts_of
from mowich.facts import load_facts
from mowich.machines.system import resolve
from mowich.models import load_model
from mowich.requests.jobs import PlanRequest
from mowich.serving.anchors import (
    AMOUNTS,
    CLASS_WORDS,
    METRICS,
    NEARBY,
    Anchor,
    Anchors,
    Class,
    Loads,
    _columns,
    anchor_kernels,
    anchor_lines,
    anchors_for,
    anchors_of,
    with_robust_noise,
)
from mowich.serving.search import ServeJob, search_serving
from mowich.studies.serving import deploy
from mowich.studies.serving_plan import plan_serving, searched_plans, worker

FACTS = load_facts()
SHIPPED = anchors_for()


def measured_class(i: int) -> Class:
    """The class of shipped row i."""
    words: dict[str, Any] = {name: SHIPPED.words[name][i] for name in CLASS_WORDS}
    words["guesses"] = words["guesses"] == "yes"
    return Class(**words, vendor=SHIPPED.vendors[i], **dict(zip(AMOUNTS, 2.0 ** SHIPPED.logs[i], strict=True)))


def drawn(rng: random.Random) -> Class:
    """A class like a measured row, with some of its words and lengths those of others, or of none."""
    one, other = (measured_class(rng.randrange(len(SHIPPED.ids))) for _ in range(2))
    moved: dict[str, Any] = {name: getattr(other, name) for name in CLASS_WORDS if rng.random() < 0.2}
    moved |= {name: float(2.0 ** rng.uniform(0.0, 13.0)) for name in AMOUNTS if rng.random() < 0.5}
    if rng.random() < 0.3:
        moved |= {rng.choice(("model", "chip", "version")): "unheard of"}
    return replace(one, **moved)


FAR = replace(
    measured_class(0),
    **dict.fromkeys(CLASS_WORDS[:-1], "none"),
    guesses=True,
    users=1e6,
    ranks=1e6,
    prompt=1e6,
    output=1e6,
)


@pytest.mark.parametrize("metric", METRICS)
def test_shifts_are_the_same_by_every_door(metric: str) -> None:
    """A simulation and a search look a shift up between the loads and lengths of rows: exactly what the process says
    at any of them, and without a jump."""
    rng = random.Random(1)
    for _ in range(40):
        one = drawn(rng)
        near = SHIPPED.near(metric, one)
        falling, rising = near.along_load(one.log("prompt"), SHIPPED.knots)
        along = near.along()
        at = [one.users, rng.uniform(1.0, 2000.0), *(2.0 ** rng.choice(near.logs[:, 0]) for _ in range(2))]
        for users in at:
            said = float(near.shift(users, one.log("prompt"))[0])
            u = math.exp(math.log2(users) * near.load_reach)
            cell = int(np.searchsorted(SHIPPED.knots, math.log2(users), side="right"))
            assert falling[cell] / u + rising[cell] * u == pytest.approx(said, abs=1e-12)
            assert math.log(along.factor(users, one.log("prompt"))) == pytest.approx(said, abs=1e-12)
            beside = near.shift(users * (1.0 + 1e-9), one.log("prompt"))
            assert float(beside[0]) == pytest.approx(said, abs=1e-8)
        assert SHIPPED.apply(metric, [one])[0][0] == pytest.approx(float(near.shift(one.users, one.log("prompt"))[0]))


@pytest.mark.parametrize("metric", METRICS)
def test_the_most_correlated_rows_are_taken(metric: str) -> None:
    kernel, stated = anchor_kernels()[metric], SHIPPED.stated[metric]
    rng = random.Random(2)
    for _ in range(20):
        one = drawn(rng)
        like = np.exp(-np.abs(SHIPPED.logs[:, 0] - one.log("ranks")) * kernel.reach[0])
        for name, apart in zip(CLASS_WORDS, kernel.apart, strict=True):
            like *= np.where(np.array(SHIPPED.words[name]) == one.word(name), 1.0, math.exp(-apart))
        near = SHIPPED.near(metric, one)
        assert len(near.at) == kernel.rows
        left = np.setdiff1d(stated, near.at)
        assert near.like == pytest.approx(like[near.at])
        assert like[near.at].min() >= like[left].max() - 1e-8
        told = near.nearest(one, count=5)
        assert np.all(np.diff([n.correlation for n in told]) <= 1e-9)


@pytest.mark.parametrize("metric", METRICS)
def test_many_equal_rows_say_their_mean_and_one_says_less(metric: str) -> None:
    rng = random.Random(3)
    for _ in range(5):
        one, miss = FAR if rng.random() < 0.2 else drawn(rng), rng.uniform(-0.3, 0.3)
        rows = [Anchor(id=f"{i}", source="s", one=one, residue={metric: miss}) for i in range(40)]
        many, single = anchors_of(rows), anchors_of(rows[:1])
        shift, half = many.apply(metric, [one])
        assert shift[0] == pytest.approx(miss, rel=0.02)
        assert abs(single.apply(metric, [one])[0][0]) < abs(shift[0])
        assert half[0] < single.apply(metric, [one])[1][0]


@pytest.mark.parametrize("metric", METRICS)
def test_another_row_never_widens(metric: str) -> None:
    """A row of a user's own, wherever it is; one of the same class narrows towards what two runs differ by."""
    rng = random.Random(4)
    kernel = anchor_kernels()[metric]
    for _ in range(15):
        one = drawn(rng)
        before = SHIPPED.apply(metric, [one])[1][0]
        for at in (one, drawn(rng)):
            own = SHIPPED.with_rows([Anchor(id="own", source="mine", one=at, residue={metric: 0.1})])
            assert own.apply(metric, [one])[1][0] <= before + 1e-9
        own = SHIPPED.with_rows(
            [Anchor(id=f"{i}", source="mine", one=one, residue=dict.fromkeys(METRICS, 0.1)) for i in range(12)]
        )
        shift, half = own.apply(metric, [one])
        assert half[0] == pytest.approx(kernel.width * kernel.noise, rel=0.12)
        assert shift[0] == pytest.approx(0.1, abs=0.04)
        assert own.distance(one) == NEARBY


@pytest.mark.parametrize("metric", METRICS)
def test_far_from_every_row_nothing_is_shifted_and_ranges_are_widest(metric: str) -> None:
    rng = random.Random(5)
    (shift,), (half,) = SHIPPED.apply(metric, [FAR])
    kernel = anchor_kernels()[metric]
    assert abs(shift) < 0.05 * kernel.deviation
    assert half == pytest.approx(kernel.width * math.hypot(kernel.deviation, kernel.noise), rel=0.01)
    cases = [drawn(rng) for _ in range(30)]
    assert SHIPPED.apply(metric, cases)[1].max() <= half + 1e-9
    unknown = [replace(one, vendor="none", family="none") for one in (FAR, *cases)]
    shifts, halves = SHIPPED.apply(metric, unknown)
    assert not shifts.any()
    assert halves == pytest.approx(kernel.unmeasured)
    still, wide = SHIPPED.apply(metric, cases, np.ones(len(cases), dtype=bool))
    assert not still.any()
    assert wide == pytest.approx(kernel.width * math.hypot(kernel.deviation, kernel.noise))


def test_distance_is_told_in_four_words() -> None:
    """By a correlated row of the family, any row of the family, of the vendor, or none."""
    i = next(i for i, family in enumerate(SHIPPED.words["family"]) if family == "hopper")
    one = measured_class(i)
    other = replace(FAR, family="hopper", vendor="NVIDIA")
    cases = [one, other, replace(other, family="rubin"), replace(other, family="cdna", vendor="AMD")]
    assert [SHIPPED.distance(c) for c in cases] == [
        NEARBY,
        "measured for this family",
        "measured for this vendor",
        "never measured on this vendor",
    ]


def test_rows_are_read_as_they_are_written_and_contradicted_ones_count_for_less() -> None:
    rng = random.Random(6)
    here = [drawn(rng) for _ in range(3)]
    rows = [
        Anchor(
            id=f"r{i}",
            source=f"source {i % 2}, with a comma",
            one=one,
            residue={"tpot": 0.5 if i == 7 else 0.02, "ttft": math.nan if i % 2 else -0.1},
        )
        for i, one in enumerate(here * 7)
    ]
    made = with_robust_noise(anchors_of(rows))
    noise = made.noise["tpot"]
    assert noise[7] > 1.8 * np.delete(noise, 7).max()
    assert np.delete(noise, 7).min() >= anchor_kernels()["tpot"].noise
    read = Anchors(kernel=anchor_kernels(), **_columns(anchor_lines(rows)))
    assert list(read.ids) == [r.id for r in rows]
    assert list(read.sources) == [r.source for r in rows]
    assert {name: list(read.words[name]) for name in CLASS_WORDS} == {
        name: list(made.words[name]) for name in CLASS_WORDS
    }
    assert read.logs == pytest.approx(made.logs, rel=1e-4, abs=1e-4)
    for m in METRICS:
        assert read.residue[m] == pytest.approx(made.residue[m], abs=5e-5, nan_ok=True)
        assert read.noise[m][read.stated[m]] == pytest.approx(made.noise[m][made.stated[m]], abs=5e-5)


ROW = {
    "id": "r",
    "source": "made here",
    "date": "2026-06-26",
    "mode": "online agg",
    "tpot_ms": "10",
}
MEASURED = [
    ("h200", "h200:8", "vllm", "Llama-3.3-70B", "fp8", 8),
    ("b200", "b200:8", "sglang", "DeepSeek-V3", "fp8", 8),
    ("h100", "h100:8", "trtllm", "Qwen3-32B", "bf16", 4),
]


@pytest.mark.parametrize(("chip", "on", "engine", "model", "weights", "tp"), MEASURED)
def test_a_search_and_validate_shift_alike(chip: str, on: str, engine: str, model: str, weights: str, tp: int) -> None:
    """The same plan at the same load, asked for or measured: one class, one shift, one width."""
    cells = {"chip": chip, "framework": engine, "model": model, "precision": weights, "tp": str(tp), "n_chips": str(tp)}
    rows = [
        {**ROW, **cells, "isl": str(isl), "osl": str(osl), "concurrency": str(users)}
        for isl, osl, users in ((1024, 1024, 32), (8000, 500, 4), (300, 2000, 177))
    ]
    for case in read_serving_cases(rows, FACTS):
        assert isinstance(case, ServingCase), case
        lengths = {"prompt": case.prompt * case.mean_length, "output": case.output * case.mean_length}
        d = deploy(case.model, resolve(FACTS, on), case.engine, [case.plan], FACTS)
        assert d.class_of(0, users=case.users, **lengths) == replace(class_of(case), version="")
        shift, half = shifts_of([replace(case, version="")], FACTS)
        for m in METRICS:
            asked = d.loads(m, prompt=lengths["prompt"]).at(np.zeros(1, dtype=np.intp), np.array([case.users]))
            assert float(asked[0]) == pytest.approx(float(shift[m][0]), abs=1e-12)
            assert d.half_width(m, 0, users=case.users, prompt=lengths["prompt"]) == pytest.approx(float(half[m][0]))


def test_workers_of_their_own_are_not_shifted() -> None:
    """Measured rows are of workers that do prompts and answers: shifting others by them harms."""
    model, system = load_model("llama-3.1-70b"), resolve(FACTS, "h200:8")
    job = ServeJob(prompt=2000.0, output=500.0, tpot_s=0.03)
    d = deploy(model, system, "vllm", searched_plans(model, system, job.prompt, FACTS, {}), FACTS)
    shifted = worker(d, job)
    flat = Loads(
        knots=shifted.tpot.knots,
        reach=1.0,
        falling=np.zeros_like(shifted.tpot.falling),
        rising=np.zeros_like(shifted.tpot.rising),
    )
    plain = replace(shifted, tpot=flat, ttft=flat)
    for apart in (True, False):
        best = [search_serving(system, w, job, apart=apart, together=not apart).best for w in (shifted, plain)]
        assert best[0]
        assert (best[0] == best[1]) == apart


@pytest.mark.parametrize(
    ("model", "on", "distance", "grade"),
    [
        ("llama-3.1-70b", "h100:8", NEARBY, "C"),
        ("llama-3.1-70b", "mi355x:8", "never measured on this vendor", "D"),
    ],
)
def test_a_row_says_how_far_away_it_was_measured(model: str, on: str, distance: str, grade: str) -> None:
    job = ServeJob(prompt=1024.0, output=1024.0, tpot_s=0.03)
    fixed = {"tp": (4,), "weights": ("fp8",), "mode": ("aggregated",)}
    row = plan_serving(
        PlanRequest(facts=FACTS, model=load_model(model), systems=(on,), serve=job, fixed=fixed, top=1)
    ).rows[0]
    assert (row.distance, row.tpot_s.grade) == (distance, grade)
    said = row.to_dict()["measured"]
    assert isinstance(said, dict)
    assert said["distance"] == distance
    assert len(said["nearest"]) == len(row.nearest) == 3
    wide = math.log((row.tpot_s.high or 0.0) / float(row.tpot_s))
    assert (wide >= anchor_kernels()["tpot"].unmeasured - 1e-9) == (distance != NEARBY)
    assert all(near.id in SHIPPED.ids for near in row.nearest)
