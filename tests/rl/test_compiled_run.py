"""Compiled runs of reinforcement learning against the Python code, bit for bit: drawn runs."""

from __future__ import annotations

import random
from dataclasses import fields, replace

import numpy as np
import pytest

import compiled_code
from drawn_runs import drawn_run, job_of, sides_of, times_of
from mowich.errors import UserError
from mowich.rl.compiled import RUN_LIBRARY, SETUP, played
from mowich.rl.events import play
from mowich.rl.job import Environment, RlJob
from mowich.rl.lengths import Lengths
from mowich.rl.setup import STEP, RunSetup
from mowich.rl.sides import RunSides
from pace import within

needs_compiled = pytest.mark.skipif(not compiled_code.available(RUN_LIBRARY), reason="no C compiler")


def any_run(seed: int) -> tuple[RlJob, RunSides]:
    """A drawn run with everything that one can have."""
    job, sides = drawn_run(seed, is_tight=seed % 2 == 0)
    r = random.Random(seed)
    environment = Environment(
        turns=r.choice((1.0, 1.0, 2.0, 3.4)),
        call_s=r.choice((0.1, 3.0)),
        reward_s=r.choice((0.0, 0.5)),
        judged_per_s=r.choice((float("inf"), 50.0, 3.0)),
    )
    job = replace(job, acceptance=r.choice((1.0, 1.0, 0.6, 0.35)), partial=r.random() < 0.6, environment=environment)
    return job, replace(sides, hides_passes=r.random() < 0.4, other_s=r.choice((0.0, 0.3)))


def assert_same(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = RunSetup.of(*any_run(seed), 4, 2, seed)
    runs = []
    for code in ("python", "compiled"):
        monkeypatch.setenv(RUN_LIBRARY.variable, code)
        runs.append(played(setup))
    for field in fields(runs[0]):
        assert np.array_equal(*(getattr(run, field.name) for run in runs)), (seed, field.name)


@needs_compiled
@pytest.mark.parametrize("start", range(0, 12, 6))
def test_compiled_runs_are_the_python_ones(start: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(start, start + 6):
        assert_same(seed, monkeypatch)


@needs_compiled
@pytest.mark.slow
@pytest.mark.parametrize("start", range(1000, 1500, 50))
def test_compiled_runs_are_the_python_ones_in_more_draws(start: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(start, start + 50):
        assert_same(seed, monkeypatch)


@needs_compiled
def test_fifty_thousand_samples_in_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of processor time, all of `play`, over caches that are full."""
    monkeypatch.setenv(RUN_LIBRARY.variable, "compiled")
    job = job_of(Lengths.lognormal(mean=3000.0, cap=8192.0, sigma=0.7), prompts=128, samples=32, staleness=4)
    with within(1.9):
        play(job, sides_of(times_of(0.008, 2e-5, 2e-9), workers=8, room_tokens=1.5e6, update_s=40.0))  # 98,304 samples


def test_the_struct_is_that_of_the_c_code() -> None:
    """Names, order and kinds of its fields; rows are those of `STEP`."""
    told = compiled_code.fields_in_c(RUN_LIBRARY, "run.c:Setup")
    assert [name for name, _ in told] == list(SETUP.own_fields)
    kinds = dict(told)
    for field in SETUP._fields_:
        assert (kinds[field[0]] == "double") == (field[1].__name__ == "c_double"), field[0]
    assert [name for name, _ in compiled_code.fields_in_c(RUN_LIBRARY, "run.c:Step")] == list(STEP)
    assert compiled_code.functions_in_c(RUN_LIBRARY) == {"play": (1, "int")}


def test_the_environment_says_which_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RUN_LIBRARY.variable, "rust")
    with pytest.raises(UserError, match="MOWICH_RL=rust"):
        play(*drawn_run(0), steps=2)
