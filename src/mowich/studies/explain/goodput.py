"""A row of goodput made again."""

from __future__ import annotations

from mowich.estimate import Notes
from mowich.facts import Facts
from mowich.machines.system import resolve
from mowich.shown import Result
from mowich.software.vendors import failure_class
from mowich.studies.explain.source import Numbers, Source
from mowich.studies.explain.tree import ResultPath
from mowich.sums import float_sum
from mowich.training import faults, longrun


def goodput_row(result: Result, at: ResultPath, row: Result, facts: Facts) -> Source:
    """One way of surviving failures."""
    from mowich.studies.goodput import TARGET, job_of_inputs

    inputs = result["inputs"]
    system = resolve(facts, inputs["on"])
    kind = failure_class(facts, system.id)

    def numbers(known: Facts, wanted: ResultPath) -> Numbers:
        job = job_of_inputs(known, system.id, inputs)
        rates, way = faults.read_fault_rates(known, kind), faults.read_strategy(known, row["strategy"])
        g = faults.closed_form(job, rates, way)
        out: dict[ResultPath, float] = {
            ("goodput",): g.value,
            ("mtbf_s",): g.mtbf_s,
            ("checkpoint_s",): g.interval_s,
            ("failures",): g.failures,
            ("recovery_s",): way.recovery_s,
        }
        out |= {("lost", k): v for k, v in g.parts.items()}
        out[("monte_carlo", "mean")] = g.value
        best = faults.breakeven_recovery_s(job, rates, way, TARGET)
        return out if best is None else {**out, ("breakeven_recovery_s",): best}

    def record(name: ResultPath, known: Facts, notes: Notes) -> None:
        job = job_of_inputs(known, system.id, inputs)
        longrun.terms(notes, known, kind, job, row["strategy"])
        if name[0] == "lost":
            rates, way = faults.read_fault_rates(known, kind), faults.read_strategy(known, row["strategy"])
            parts = faults.closed_form(job, rates, way).parts
            notes.add(
                "lost",
                float_sum(parts.values()),
                "1",
                words="what is not goodput, in turn: hardware first, then silent corruption, then slow chips; the rest"
                " is 1 - useful",
                given={f"share_{k}": v for k, v in parts.items()},
            )

    return Source(at=at, numbers=numbers, record=record, title=f"{inputs['on']}, {row['strategy']}")
