"""Measured steps in drawn worlds: what calibration says of others is nearer, narrower and right."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from measurements import training_case, training_csv
from mowich.evidence.fitting.moved import has_range
from mowich.facts import Facts, load_facts
from mowich.facts.together import FITTED_TOGETHER, correlations, moves_together
from mowich.requests.calibrate import CalibrateRequest
from mowich.studies.calibrate import calibrate
from mowich.training.sensitivity import moves
from mowich.training.step import predict_step

Run = dict[str, str]


def run(model: str, chips: str, tp: str, pp: str, batch: str, seq: str) -> Run:
    """A row of training on Trainium 3, of which no step was ever published."""
    plan = {"n_chips": chips, "TP": tp, "PP": pp, "global_batch_seqs": batch, "seq_len": seq, "precision": "bf16"}
    return {"chip": "Trainium3", "stack": "torchtitan-neuron", "model_name": model, "model_ref": model, **plan}


MEASURED = run("llama-3.1-8b", "64", "4", "1", "256", "8192")
SECOND = run("llama-3.1-70b", "256", "8", "2", "512", "4096")
OTHERS = (
    run("llama-3.1-70b", "256", "8", "4", "512", "8192"),
    run("llama-3.1-8b", "64", "8", "1", "256", "8192"),
    run("llama-3.2-1b", "16", "1", "1", "128", "8192"),
)


def log_seconds(cells: Run, facts: Facts) -> float:
    case = training_case(cells, facts)
    step = predict_step(case.model, case.system, case.job, case.plan)
    return math.log(step.total_s * case.job.tokens_per_step / step.tokens)


def found_moves(cells: Run, facts: Facts) -> list[tuple[str, float, float]]:
    case = training_case(cells, facts)
    name, chips = case.system.stack.name, case.system.chips
    plan = (case.model, case.job, case.plan)
    return moves_together(moves(*plan, facts=facts, system_id=case.system.id, chips=chips, stack_name=name), facts)


def half_widths(cells: Run, facts: Facts) -> tuple[float, float]:
    """How far below and above constants alone let a step lie, in ln."""
    found = found_moves(cells, facts)
    ends = ([max(0.0, -min(low, high)) for _, low, high in found], [max(0.0, max(low, high)) for _, low, high in found])
    return math.hypot(*ends[0]), math.hypot(*ends[1])


def drawn_worlds(facts: Facts, count: int) -> Iterator[Facts]:
    """Facts whose constants with a range are drawn within it, those that move one of the steps."""
    paths = {path for cells in (MEASURED, *OTHERS) for path, _, _ in found_moves(cells, facts)}
    known = [(path, facts.fact(path)) for path in sorted(paths) if has_range(facts.fact(path))]
    assert len(known) > 10
    rng = random.Random(3)
    for _ in range(count):
        truth = {}
        for path, fact in known:
            low, high = math.log(fact.low or 0.0), math.log(fact.high or 0.0)
            drawn = math.log(facts.number(path)) + rng.gauss(0.0, (high - low) / 3.29)
            truth[path] = math.exp(min(max(drawn, low), high))
        yield facts.with_values(truth)


def told_by(folder: Path, name: str, runs: list[Run], world: Facts, facts: Facts) -> Facts:
    """Facts after a calibration to what these runs take in a world."""
    log, own = folder / f"{name}.csv", folder / f"{name}.yaml"
    log.write_text(training_csv(runs, world), encoding="utf-8")
    calibrate(CalibrateRequest(facts=facts, files=(log,), out=own))
    after = load_facts([own])
    assert after.text(FITTED_TOGETHER) != "none"
    return after


@pytest.mark.parametrize("worlds", [6, pytest.param(40, marks=pytest.mark.slow)])
def test_one_step_tells_of_others_in_worlds_whose_constants_are_drawn(
    facts: Facts, tmp_path: Path, worlds: int
) -> None:
    errors, widths, right = [], [], []
    for k, world in enumerate(drawn_worlds(facts, worlds)):
        after = told_by(tmp_path, str(k), [MEASURED], world, facts)
        for cells in OTHERS:
            told = [(log_seconds(cells, world) - log_seconds(cells, f), *half_widths(cells, f)) for f in (facts, after)]
            errors.append([error for error, _, _ in told])
            widths.append([down + up for _, down, up in told])
            right.append([-down <= error <= up for error, down, up in told])
    before, now = np.sqrt(np.mean(np.square(errors), axis=0))
    assert now < 0.5 * before
    assert np.mean(widths, axis=0)[1] < 0.5 * np.mean(widths, axis=0)[0]
    assert np.mean(right, axis=0)[1] >= 0.85


@pytest.mark.parametrize("worlds", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_a_second_calibration_goes_on_from_what_the_first_found_together(
    facts: Facts, tmp_path: Path, worlds: int
) -> None:
    widths, right = [], []
    for k, world in enumerate(drawn_worlds(facts, worlds)):
        first = told_by(tmp_path, f"{k} first", [MEASURED], world, facts)
        second = told_by(tmp_path, f"{k} second", [SECOND], world, first)
        assert {path for pair in correlations(first) for path in pair} <= {
            path for pair in correlations(second) for path in pair
        }
        for cells in (MEASURED, *OTHERS):
            error = log_seconds(cells, world) - log_seconds(cells, second)
            down, up = half_widths(cells, second)
            right.append(-down <= error <= up)
            widths.append([sum(half_widths(cells, first)), down + up])
    before, now = np.mean(widths, axis=0)
    assert now < 0.9 * before
    assert np.mean(right) >= 0.85
