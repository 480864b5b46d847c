"""What a log does not state: system, model, software, plan. Options or a small file next to the log give it.

`runs.log.setup.yaml` belongs to `runs.log`; it has the keys `on`, `model`, `software`, and those of a plan. It
overrules the options, because it is more specific. A measurement that states another value is refused: one of the two
is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mowich.errors import UserError, unknown
from mowich.evidence.measured_tables import table_form
from mowich.evidence.readers.record import MeasuredRecord, RecordKind, RefusedRecord
from mowich.files import exists, line_of, read_yaml
from mowich.machines.system import parse_spec

ENDING = ".setup.yaml"
LENGTHS_NEAR = 0.05
"""Share by which mean lengths sent may differ from the lengths asked for, which are drawn at random."""

TRAINED_COLUMNS: Mapping[str, str] = {
    "tp": "TP",
    "pp": "PP",
    "dp": "DP",
    "cp": "CP",
    "ep": "EP",
    "etp": "ETP",
    "vpp": "VPP",
    "sp": "SP",
    "zero": "fsdp_zero",
    "micro_batch": "micro_batch",
    "grad_accum": "grad_accum",
    "batch": "global_batch_seqs",
    "seq": "seq_len",
    "precision": "precision",
    "recompute": "recompute",
    "task": "task",
}
SERVED_COLUMNS: Mapping[str, str] = {
    "tp": "tp",
    "pp": "pp",
    "dp": "dp",
    "ep": "ep",
    "precision": "precision",
    "kv": "kv_precision",
    "isl": "isl",
    "osl": "osl",
    "concurrency": "concurrency",
    "lnc": "lnc",
    "speculation": "spec_decode",
}
FORWARD_COLUMNS: Mapping[str, str] = {
    **{word: SERVED_COLUMNS[word] for word in ("tp", "dp", "ep", "precision", "kv")},
    "segment": "segment",
}
JOINED_COLUMNS: Mapping[str, str] = {"kind": "kind", "ranks": "ranks", "network": "network"}
KERNEL_COLUMNS: Mapping[str, str] = {"simulated": "simulated"}
PLAN_COLUMNS: Mapping[RecordKind, Mapping[str, str]] = {
    "training": TRAINED_COLUMNS,
    "serving": SERVED_COLUMNS,
    "collective": JOINED_COLUMNS,
    "kernel": KERNEL_COLUMNS,
    "forward": FORWARD_COLUMNS,
}
"""Kind of measurement -> word of a plan -> column of our tables."""

PLAN_WORDS = tuple(dict.fromkeys(word for columns in PLAN_COLUMNS.values() for word in columns))


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """on: a system, "trn3:64"; software: stack or engine; plan: word -> value; said: how the user gave each of them,
    for errors."""

    on: str = ""
    model: str = ""
    software: str = ""
    plan: Mapping[str, str] = field(default_factory=dict)
    said: str = "the options say"

    def over(self, other: Setup) -> Setup:
        """This setup; `other` fills in what it leaves open."""
        return replace(
            self,
            on=self.on or other.on,
            model=self.model or other.model,
            software=self.software or other.software,
            plan={**other.plan, **self.plan},
        )


def check_words(plan: Mapping[str, str]) -> None:
    """Raise UserError, which names the option, for a word that no plan has."""
    for key in plan:
        if key not in PLAN_WORDS:
            raise unknown("word of a plan", key, PLAN_WORDS, field="ran")


def setup_beside(file: Path) -> Setup:
    """The setup in the file next to a log, empty without one. Raises UserError, with its line, for unknown keys."""
    path = file.with_name(file.name + ENDING)
    if not exists(path):
        return Setup()
    data = read_yaml(path, "config").data
    if not isinstance(data, dict):
        raise UserError(
            "a setup is a mapping", where=f"{path}:1", allowed=f"on, model, software, {', '.join(PLAN_WORDS)}"
        )
    known = ("on", "model", "software", *PLAN_WORDS)
    for key, value in data.items():
        where = f"{path}:{line_of(path, [str(key)])}"
        if key not in known:
            raise unknown("key of a setup", str(key), known, where=where)
        if isinstance(value, dict | list) or value is None:
            raise UserError(f"{key} is one word or one number", where=where, given=value)
    words = {str(key): str(value) for key, value in data.items()}
    return Setup(
        on=words.pop("on", ""),
        model=words.pop("model", ""),
        software=words.pop("software", ""),
        plan=words,
        said=f"{path.name} says",
    )


def with_setup(record: MeasuredRecord, setup: Setup) -> MeasuredRecord | RefusedRecord:
    """A measurement completed by the setup, or refused where file and setup contradict each other. Raises UserError, in
    one line, where neither gives what is needed."""
    given = planned_cells(record.kind, setup)
    if setup.on:
        given |= _system_cells(setup.on, record.kind)
    if setup.model and record.kind in ("serving", "training", "forward"):
        given |= {"model_name": setup.model} if record.kind == "training" else {"model": setup.model}
        given |= {"model_ref": setup.model} if record.kind == "training" else {}
    if setup.software and record.kind in ("serving", "training", "forward"):
        given["stack" if record.kind == "training" else "framework"] = setup.software
    found = with_cells(record, given, setup.said)
    if isinstance(found, RefusedRecord):
        return found
    cells = found.cells
    needed = {c: words for c, words in _NEEDED[record.kind].items() if not (c == "ranks" and cells.get("group"))}
    missing = [words for column, words in needed.items() if not cells.get(column)]
    if missing:
        raise UserError(f"does not state {', nor '.join(missing)}", where=record.where, fix=_HOW)
    return found


_OWN_NAMES = ("chip", "system", "model", "model_name", "model_ref", "framework", "stack")
"""Columns that a user's words decide: logs call machines, models and software by other names."""


def planned_cells(kind: RecordKind, setup: Setup) -> dict[str, str]:
    """The columns of a kind of measurement that the words of a plan fill."""
    columns = PLAN_COLUMNS[kind]
    return {columns[word]: value for word, value in setup.plan.items() if word in columns}


def with_cells(record: MeasuredRecord, given: Mapping[str, str], said: str) -> MeasuredRecord | RefusedRecord:
    """A measurement with its blank cells filled in, or refused where it states another value. said: how the user gave
    the cells."""
    cells = dict(record.cells)
    for column, value in given.items():
        stated = cells.get(column, "")
        if stated and column not in _OWN_NAMES and not _same(column, stated, value):
            reason = f"{column}: the file states {stated}, and {said} {value}: one is wrong"
            return RefusedRecord(where=record.where, reason=reason)
        cells[column] = value if column in _OWN_NAMES or not stated else stated
    return replace(record, cells=cells)


_NEEDED: Mapping[RecordKind, Mapping[str, str]] = {
    "training": {"chip": "the system (--on)", "model_name": "the model (--model)"},
    "serving": {
        "chip": "the system (--on)",
        "model": "the model (--model)",
        "framework": "the engine (--software)",
        "tp": "the plan (--plan tp=8)",
        "isl": "the prompt length (--plan isl=1024)",
        "osl": "the output length (--plan osl=128)",
    },
    "forward": {
        "chip": "the system (--on)",
        "model": "the model (--model)",
        "framework": "the engine (--software)",
        "tp": "the plan (--plan tp=8)",
    },
    "collective": {
        "system": "the system (--on)",
        "kind": "the collective (--plan kind=all-reduce)",
        "ranks": "the ranks (--plan ranks=32)",
    },
    "kernel": {
        "system": "the target (--on trn3)",
        "simulated": "the simulated profile of the same kernel (--plan simulated=DIR)",
    },
}
"""Kind of measurement -> column -> what it is, and the option that gives it."""

_HOW = f"give them as options, or as on, model, software, tp, ... in FILE{ENDING} beside the file"


def _system_cells(on: str, kind: RecordKind) -> dict[str, str]:
    """The columns that "trn3:64" fills."""
    if kind in ("collective", "kernel"):
        return {"system": on}
    name, _, size = parse_spec(on)
    out = {"chip": name}
    if size is not None:
        if not size.isdigit() or ":" not in on:
            raise UserError("a number of chips", field="on", given=on, allowed="NAME:CHIPS, as in trn3:64")
        out["n_chips"] = size
    return out


def _same(column: str, stated: str, given: str) -> bool:
    if column == "ranks" or any(column in table_form(kind).numbers for kind in ("training", "serving")):
        try:
            near = LENGTHS_NEAR if column in ("isl", "osl") else 0.0
            return math.isclose(float(stated), float(given), rel_tol=near)
        except ValueError:
            return False
    return stated.casefold() == given.casefold()
