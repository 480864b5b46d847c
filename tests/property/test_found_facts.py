"""The facts of a term are those that move it: by the fair probe, nothing is missing and nothing is said in vain. What a
formula gives for the symbols beside it is the value that was recorded."""

from __future__ import annotations

import random
from functools import partial

import pytest

from fair_probe import unfair
from mowich.estimate import Notes
from mowich.facts import Facts
from mowich.models import load_model
from mowich.models.model import as_trained
from mowich.plans.enumerate import legal_plans
from mowich.plans.plan import TrainJob
from mowich.software.stack import equip
from mowich.studies.explain.formula import evaluate
from mowich.studies.explain.training import record_memory, record_step
from mowich.training.sensitivity import noted

JOBS = [("llama-3.1-8b", 64), ("qwen3-30b-a3b", 64), ("deepseek-v3", 1024), ("gpt-oss-120b", 128), ("mixtral-8x7b", 64)]
SYSTEMS = ["trn3", "trn2", "ironwood", "gb300", "h100", "trn4"]


def drawn(seed: int) -> tuple[str, int, str, int]:
    """(model, chips, system, which plan)."""
    rng = random.Random(seed)
    model, chips = rng.choice(JOBS)
    return model, chips, rng.choice(SYSTEMS), rng.randrange(10**6)


@pytest.mark.parametrize("seed", [*range(2), *(pytest.param(i, marks=pytest.mark.slow) for i in range(2, 40))])
def test_training_terms_rest_on_what_moves_them(seed: int, facts: Facts) -> None:
    name, chips, system_name, at = drawn(seed)
    model, system = as_trained(load_model(name)), equip(facts, system_name, chips=chips)
    job = TrainJob(tokens=1e12, seq=4096, batch_seqs=1024)
    plans = legal_plans(model, system, job).plans
    plan = plans.plan(at % len(plans))
    for record in (record_step, record_memory):
        of_machine = partial(record, model, job, plan)
        told = noted(of_machine, system, facts)

        def under(known: Facts, notes: Notes, of_machine=of_machine) -> None:
            of_machine(equip(known, system.id, chips=chips), notes)

        assert len(told.terms) > 5
        for term in told.terms.values():
            if term.formula:
                given = {k: v for k, v in term.inputs.items() if not isinstance(v, str)}
                assert evaluate(term.formula, given.__getitem__) == pytest.approx(term.value, rel=1e-12), term.name
        assert unfair(told, under, facts) == []
