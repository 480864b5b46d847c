"""A fit of a training job made again: the memory of its plan."""

from __future__ import annotations

from functools import partial

from mowich.estimate import Notes
from mowich.facts import Facts
from mowich.models.model import Model, as_trained
from mowich.plans.memory_range import usable_B
from mowich.plans.plan import Plan, TrainJob
from mowich.shown import Result
from mowich.software.stack import equip
from mowich.studies.explain.source import Numbers, Source
from mowich.studies.explain.training import MEMORY_NAMES, memory_numbers, plan_memory_terms, record_memory
from mowich.studies.explain.tree import ResultPath
from mowich.training.sensitivity import noted_on


def train_fit(result: Result, model: Model, facts: Facts) -> Source:
    """Memory of the plan that needs least of it."""
    model, job, plan = as_trained(model), TrainJob.from_inputs(result["inputs"]), Plan.from_dict(result["plan"])
    stack = result["inputs"]["systems"][0]["stack"]
    chips = int(result["chips"])

    def numbers(known: Facts, wanted: ResultPath) -> Numbers:
        system = equip(known, result["system_id"], chips=chips, stack=stack)
        out = memory_numbers(model, system, job, plan, known)
        return out | {("memory_capacity_B",): usable_B(known, system)[0]}

    system = equip(facts, result["system_id"], chips=chips, stack=stack)

    def terms(name: ResultPath, notes: Notes) -> None:
        if name[0] in MEMORY_NAMES:
            notes.terms |= plan_memory_terms(noted_on(partial(record_memory, model, job, plan), system, facts), name)

    def symbols(known: Facts) -> dict[str, float]:
        usable = known.fact(system.paths["hbm_usable_B"])
        return {"hbm_usable": usable.low or known.number(usable.path)}

    return Source(at=(), numbers=numbers, terms=terms, symbols=symbols, title=f"{result['system_id']}: {model.name}")
