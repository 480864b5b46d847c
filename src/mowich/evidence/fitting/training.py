"""Training steps: rows that contradict themselves are refused, and constants move the others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from mowich.arrays import Floats
from mowich.evidence.fitting.moved import MovedNumbers, uncertain, with_numbers
from mowich.evidence.fitting.points import DELTA, ConstantValues, MeasuredPoint
from mowich.evidence.measured_tables import is_time, table_form
from mowich.evidence.row_checks import PublishedRow, cell_number
from mowich.evidence.row_rules import stated_flop_per_token
from mowich.evidence.rows import Case
from mowich.facts import Facts
from mowich.machines.system import resolve
from mowich.plans.plan import Plans
from mowich.software.stack import Platform
from mowich.software.vendors import of_vendor
from mowich.training.step import step_time

_AGREE = 0.05
"""How far a rate times a time may lie from the work where a row states all three, which are rounded."""
FLOP_AGREE = 1.6
"""How far FLOP/s over tokens/s may lie from the FLOP of a token: conventions of counting differ by up to 1.5."""

JAX_ON_GPU = "jax-gpu-maxtext"
"""The stack of a JAX program on GPUs whose log names no stack."""


MANY_CHIPS_TRAINED = "pytorch-fsdp"
"""The stack that runs on chips of many vendors under one name; the facts of a chip name its own fork."""


def row_of_training(cells: Mapping[str, str], where: str, facts: Facts) -> PublishedRow:
    """A record as a row of our training table. Figures of a device become those of its chip, which facts count. Raises
    UserError for a system that is not known."""
    row = {**table_form("training").blank(), **cells, "id": cells.get("id") or where}
    if cells.get("device_tokens_per_s"):
        one = resolve(facts, facts.resolve_system(row["chip"]), chips=1)
        each = one.devices_per_chip
        own = facts.get(f"chips.{one.chip}.training_stack")
        if row.get("stack") == MANY_CHIPS_TRAINED and own is not None:
            row["stack"] = str(own.value)
        if cells.get("device_tflops"):
            row["tflops_per_chip"] = f"{float(cells['device_tflops']) * each:.10g}"
        row["tokens_per_s_per_chip"] = f"{float(cells['device_tokens_per_s']) * each:.10g}"
        if cells.get("devices") and not row["n_chips"]:
            row["n_chips"] = f"{int(cells['devices']) // each}"
        if cells.get("device_batch") and not row.get("per_device_batch_stated"):
            row["per_device_batch_stated"] = f"{cells['device_batch']} per JAX device"
        if not row.get("stack"):
            row["stack"] = of_vendor(facts, one.vendor, "training_stack") if one.vendor == "Google" else JAX_ON_GPU
    return row


def contradiction(case: Case, row: PublishedRow) -> str:
    """Why a row contradicts itself or the limits of a chip; "" where it does not.

    MFU = FLOP of the model in a step / (step time x published peak x devices) is at most 1; tokens in a step = rate x
    step time; FLOP/s over tokens/s is the FLOP of a token.
    """
    job, system = case.job, case.system
    tokens = job.tokens_per_step
    peak = system.peak_flops.get(case.plan.precision) or system.peak_flops["bf16"]
    mfu = 3.0 * case.model.flop_per_token(job.seq) * tokens / (case.measured_step_s * peak * system.devices)
    is_frozen = job.task == "lora"
    if mfu > 1.0 and not is_frozen:
        return (
            f"{case.metric}: '{case.measured:g}' would be an MFU of {mfu:.0%} of the published {case.plan.precision}"
            f" peak of {system.chips} x {case.chip}: wrong units, chips or batch"
        )
    stated = ("tokens_per_s_per_chip", "tokens_per_s_total", "step_time_s", "tflops_per_chip")
    each, total, step_s, tflops = (cell_number(row, column) for column in stated)
    rate = total or (each * system.chips if each else None)
    if rate and step_s and abs(rate * step_s / tokens - 1.0) > _AGREE:
        return (
            f"step_time_s: '{step_s:g}' x {rate:g} tokens/s is {rate * step_s:.4g} tokens, and a step has {tokens:.4g}:"
            " wrong units or batch"
        )
    if tflops and not is_frozen:
        flop = tflops * 1e12 / (tokens / case.measured_step_s / system.chips)
        own = stated_flop_per_token(row, case.model, job.seq)
        if not 1.0 / FLOP_AGREE <= flop / own <= FLOP_AGREE:
            return (
                f"tflops_per_chip: '{tflops:g}' over the tokens per second is {flop:.3g} FLOP a token, and"
                f" {case.model.name} has {own:.3g}: another model, or wrong units"
            )
    return ""


def log_error(case: Case, system: Platform, plans: Plans) -> Floats:
    """ln(predicted/measured step time) for each column of numbers of the system."""
    step = step_time(case.model, system, case.job, plans)
    return np.atleast_1d(np.ravel(np.log(step.total_s * case.job.tokens_per_step / step.tokens / case.measured_step_s)))


class TrainingPredictor:
    """Cases of training, and which constants each reads under which name."""

    def __init__(self, cases: Sequence[tuple[str, Case]], facts: Facts) -> None:
        """cases: (place, case)."""
        self.cases = [case for _, case in cases]
        self.points = [_point(where, case) for where, case in cases]
        self.plans = [Plans.of([case.plan]) for case in self.cases]
        systems = {id(case.system): case.system for case in self.cases}
        known = {key: uncertain(system, facts) for key, system in systems.items()}
        self.reads = [known[id(case.system)] for case in self.cases]
        self.paths = tuple(dict.fromkeys(path for reads in self.reads for path in reads.values()))
        seen: dict[object, int] = {}
        self.first = [seen.setdefault(_run(case), i) for i, case in enumerate(self.cases)]

    def _longer(self, i: int) -> float:
        """ln of the first measured time of a case's run over its own."""
        return math.log(self.cases[self.first[i]].measured_step_s / self.cases[i].measured_step_s)

    def errors(self, values: ConstantValues) -> Floats:
        out = np.zeros(len(self.cases))
        for i, (case, reads, plans) in enumerate(zip(self.cases, self.reads, self.plans, strict=True)):
            if self.first[i] != i:
                out[i] = out[self.first[i]] + self._longer(i)
                continue
            system = with_numbers(case.system, {n: values[p] for n, p in reads.items()})
            out[i] = float(log_error(case, system, plans)[0])
        return out

    def slopes(self, values: ConstantValues) -> tuple[Floats, Floats]:
        index = {path: j for j, path in enumerate(self.paths)}
        r, J = np.zeros(len(self.cases)), np.zeros((len(self.cases), len(self.paths)))
        for i, (case, reads, plans) in enumerate(zip(self.cases, self.reads, self.plans, strict=True)):
            if self.first[i] != i:
                r[i], J[i] = r[self.first[i]] + self._longer(i), J[self.first[i]]
                continue
            moved = list(dict.fromkeys(reads.values()))
            columns: dict[str, Floats | float] = {}
            for name, path in reads.items():
                column = np.full((len(moved) + 1, 1), values[path])
                column[moved.index(path) + 1] *= math.exp(DELTA)
                columns[name] = column
            made: MovedNumbers = columns
            logs = log_error(case, with_numbers(case.system, made), plans)
            r[i] = logs[0]
            for j, path in enumerate(moved if len(logs) > 1 else ()):
                J[i, index[path]] = (logs[j + 1] - logs[0]) / DELTA
        return r, J


def _run(case: Case) -> object:
    """The key that cases share where they measure one run repeatedly."""
    return (id(case.system), id(case.model), case.job, case.plan)


def _point(where: str, case: Case) -> MeasuredPoint:
    machine = f"{case.model.name}, {case.system.id}, {case.system.stack.name}"
    return MeasuredPoint(
        where=where,
        kind="training",
        what=f"{case.model.name} on {case.system.id}:{case.system.chips}, {case.plan}",
        metric=case.metric,
        measured=case.measured,
        is_rate=not is_time(case.metric),
        machine=machine,
        setting=f"{machine}, {case.system.chips}, {case.plan}, {case.job.batch_seqs:g}x{case.job.seq}",
    )
