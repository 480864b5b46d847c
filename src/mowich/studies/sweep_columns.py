"""The table of a sweep on disk: names and types of its columns, and the line of one point.

Names are those of `--csv` with `_` for `.`; numbers are SI as there, unknown is null.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from mowich.estimate import Estimate
from mowich.plans.launch_settings import SETTING_NAMES
from mowich.plans.memory import CATEGORIES
from mowich.plans.plan import SWITCHES, WORDS, Plan, ServePlan
from mowich.studies.compare import Row
from mowich.studies.serving_plan import ServeRow
from mowich.studies.sweep import SweepRow
from mowich.studies.sweep_grid import Grid, Point, job_words
from mowich.training.step import STEP_PARTS

UNITS_OF_TRAINING = {
    "step_s": "s",
    "hand_tuned_step_s": "s",
    "tokens_per_s_per_chip": "1/s",
    "mfu": "1",
    "usd_per_mtok": "USD/Mtok",
    "J_per_token": "J/token",
    "goodput": "1",
    "days": "d",
}
"""Estimates of a row of training."""
UNITS_OF_SERVING = {
    "ttft_s": "s",
    "tpot_s": "s",
    "tokens_per_s_per_chip": "1/s",
    "tokens_per_s_per_user": "1/s",
    "usd_per_mtok": "USD/Mtok",
    "J_per_token": "J/token",
}
"""Estimates of a row of serving."""
_BOTH: Mapping[str, type] = {
    "system_id": str,
    "chips_requested": int,
    "chips_used": int,
    "chips_idle": int,
    "devices_per_chip": int,
    "feasible": bool,
    "reason": str,
    "binds": str,
    "price_label": str,
    "memory_capacity_B": float,
}
_OF_TRAINING: Mapping[str, type] = {"global_batch_seqs": int, "survival": str, "estimated": bool}
_OF_SERVING: Mapping[str, type] = {"engine": str, "mode": str, "batch": float, "cached_frac": float, "undecided": str}
_JOB_TYPES: Mapping[str, type] = {
    "seq": int,
    "train_task": str,
    "lora_rank": int,
    "lora_targets": str,
    "sites": int,
    "cached": str,
}
"""Words of a job that are no float."""
SQL = {str: "varchar", int: "bigint", float: "double", bool: "boolean"}
PLAN_TYPES = {f.name: str if f.name in WORDS else bool if f.name in SWITCHES else int for f in fields(Plan)}
WORKER_TYPES: Mapping[str, type] = {
    **dict.fromkeys(("tp", "pp", "dp", "cp", "ep"), int),
    "precision": str,
    "kv": str,
    **dict.fromkeys(SETTING_NAMES, str),
}
"""Fields of the plan of a worker that serves."""
SERVED_MEMORY = ("weights", "reserve", "kv")


def _plain(*, serves: bool) -> dict[str, type]:
    """Columns that hold what a row has under the same name, in order."""
    if serves:
        return {**_BOTH, **_OF_SERVING}
    names = list(_BOTH)
    at = names.index("feasible")  # where they stood in the first tables
    order = [*names[:at], "global_batch_seqs", "feasible", "reason", "survival", "binds", "price_label", "estimated"]
    return {name: {**_BOTH, **_OF_TRAINING}[name] for name in (*order, "memory_capacity_B")}


def _job_columns(grid: Grid) -> dict[str, type]:
    """Columns of the jobs of a grid: what any of them states."""
    said = dict.fromkeys(name for job in grid.jobs for name in job_words(job))
    return {name: _JOB_TYPES.get(name, float) for name in said}


def store_columns(grid: Grid) -> dict[str, type]:
    """Name and type of every column: the point, the answer with 90% ranges and grades, its plan, the parts of the step
    and the memory per device."""
    out: dict[str, type] = {"id": str, "model": str, "system": str, "chips": int, **_job_columns(grid)}
    out |= {_name("set", "engine"): str} if any(grid.engines) else {}
    out |= {_name("set", key): str for key in (f"plan.{k}" for k in grid.plans)}
    out |= {_name("set", key): float for key in grid.facts}
    out |= _plain(serves=grid.serves)
    for name in UNITS_OF_SERVING if grid.serves else UNITS_OF_TRAINING:
        out |= {name: float, f"{name}_low": float, f"{name}_high": float, f"{name}_grade": str}
    if grid.serves:
        for worker in ("prefill", "decode"):
            out |= {f"replicas_{worker}": int, **{f"{worker}_{k}": t for k, t in WORKER_TYPES.items()}}
        return out | {f"memory_B_{name}": float for name in SERVED_MEMORY}
    out |= {f"plan_{k}": t for k, t in PLAN_TYPES.items()}
    out |= {f"step_s_{part}": float for part in STEP_PARTS}
    return out | {f"memory_B_{name}": float for name in CATEGORIES}


def _name(*words: str) -> str:
    return "_".join(words).replace(".", "_").replace("-", "_")


def record(point: Point, row: SweepRow, key: str) -> dict[str, object]:
    """One row of the table; what is unknown is left out."""
    out: dict[str, object] = {"id": key, "model": point.model, "system": point.system, "chips": point.chips}
    for name, value in point.job_words.items():
        is_words = _JOB_TYPES.get(name) is str and value is not None
        out[name] = ",".join(value) if isinstance(value, list) else str(value) if is_words else value
    out |= {_name("set", k): v if k in dict(point.facts) else str(v) for k, v in point.settings.items()}
    serves = isinstance(row, ServeRow)
    out |= {name: getattr(row, name) for name in _plain(serves=serves)}
    for name in UNITS_OF_SERVING if serves else UNITS_OF_TRAINING:
        e: Estimate | None = getattr(row, name)
        if e is not None and e.value is not None:
            out |= {name: e.value, f"{name}_low": e.low, f"{name}_high": e.high, f"{name}_grade": e.grade}
    out |= _workers(row) if isinstance(row, ServeRow) else _plan(row)
    return out | {f"memory_B_{name}": value for name, value in row.memory_B.items()}


def _plan(row: Row) -> dict[str, object]:
    if row.plan is None:
        return {}
    out: dict[str, object] = {f"plan_{k}": v for k, v in row.plan.to_dict().items()}
    return out | {f"step_s_{part}": row.step_s.breakdown[part] for part in STEP_PARTS}


def _workers(row: ServeRow) -> dict[str, object]:
    out: dict[str, object] = {}
    for name, plan in (("prefill", row.prefill), ("decode", row.decode)):
        if isinstance(plan, ServePlan):
            said = plan.to_dict()
            words = {k: str(said[k]) if t is str else said[k] for k, t in WORKER_TYPES.items() if k in said}
            out |= {f"replicas_{name}": row.replicas[name], **{f"{name}_{k}": v for k, v in words.items()}}
    return out
