"""A sweep in a directory, read back as the answer that `mowich sweep` without a directory would have given."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from mowich.errors import UserError
from mowich.estimate import Estimate, unknown_estimate
from mowich.facts import load_facts
from mowich.files import read_json
from mowich.plans.plan import Plan, ServePlan
from mowich.shown import Result
from mowich.studies.explain.training import OF_POINT
from mowich.studies.sweep_columns import PLAN_TYPES, UNITS_OF_SERVING, UNITS_OF_TRAINING, WORKER_TYPES
from mowich.studies.sweep_store import MANIFEST, Parts, tasks_done
from mowich.units import is_digits


def stored_sweep(folder: Path) -> Result:
    """The rows that are on disk, of a finished sweep or one that still runs. Raises UserError where the folder holds no
    sweep or no part of it yet."""
    if not (folder / MANIFEST).is_file():
        raise UserError(
            f"is a folder without {MANIFEST}",
            field=f"result {folder}",
            allowed="a result, or the folder of a sweep (mowich sweep ... --out FOLDER)",
        )
    manifest = read_json(folder / MANIFEST, "result")
    if not tasks_done(folder):
        raise UserError("holds no rows yet", field=f"result {folder}")
    points = int(str(manifest["points"]))
    found = Parts(folder=folder, manifest=manifest, points=points, done=points, infeasible=0).rows()
    inputs = manifest["inputs"]
    given: Mapping[str, object] = inputs if isinstance(inputs, Mapping) else {}
    return {
        "schema": "mowich/sweep@1",
        "version": str(manifest["version"]),
        "facts_hash": str(manifest["facts_hash"]),
        "inputs": {**given, "scenario": str(folder)},
        "points": points,
        "rows": [_row(row, _settings(row, given)) for row in found],
    }


def _settings(row: Mapping[str, object], inputs: Mapping[str, object]) -> dict[str, object]:
    """What a point sets, by its own name where the inputs have it."""
    known = {}
    for group, prefix in (("vary", ""), ("fixed", "plan.")):
        names = inputs.get(group)
        for name in names if isinstance(names, Mapping) else ():
            known["set_" + f"{prefix}{name}".replace(".", "_").replace("-", "_")] = f"{prefix}{name}"
    named = {known.get(k, k.removeprefix("set_")): v for k, v in row.items() if k.startswith("set_")}
    return {k: int(v) if k.startswith("plan.") and isinstance(v, str) and is_digits(v) else v for k, v in named.items()}


def _row(row: Mapping[str, object], settings: Mapping[str, object]) -> dict[str, object]:
    """A line of the table as a row of an answer."""
    serves = "decode_tp" in row
    units = UNITS_OF_SERVING if serves else {k: u for k, u in UNITS_OF_TRAINING.items() if k != "hand_tuned_step_s"}
    workers = ("prefill", "decode", "replicas") if serves else ()
    starts = tuple(f"{name}_" for name in ("set", "plan", *units, "hand_tuned_step_s", "memory_B", *workers))
    plain = {k: v for k, v in row.items() if not k.startswith(starts) and k not in units}
    plain = {k: v for k, v in plain.items() if v is not None or k not in _LEFT_OUT}
    plans = _workers(row) if serves else {"plan": _plan(row)}
    return {
        **plain,
        **_job(row),
        "reason": row.get("reason") or "",
        "display": _display(str(row["system_id"])),
        "price": row.get("price_label"),
        "memory_B": {
            k.removeprefix("memory_B_"): v for k, v in row.items() if k.startswith("memory_B_") and v is not None
        },
        **({"set": dict(settings)} if settings else {}),
        **plans,
        **{name: _estimate(row, name, unit).to_dict() for name, unit in units.items()},
    }


_LEFT_OUT = ("cached_frac", "undecided", *OF_POINT)
"""What an answer leaves out where it is not said."""


def _job(row: Mapping[str, object]) -> dict[str, object]:
    """What the table writes of a job in other words than an answer."""
    out: dict[str, object] = {}
    if isinstance(words := row.get("lora_targets"), str):
        out["lora_targets"] = words.split(",")
    if isinstance(cached := row.get("cached"), str):
        with suppress(ValueError):  # a share; else a trace that it follows from
            out["cached"] = float(cached)
    return out


def _plan(row: Mapping[str, object]) -> Result | None:
    found = {k: row[f"plan_{k}"] for k in PLAN_TYPES if row.get(f"plan_{k}") is not None}
    return Plan.from_dict(found).to_dict() if found else None


def _workers(row: Mapping[str, object]) -> dict[str, object]:
    """The plans of workers and how many there are, and no front: the table has none."""
    out: dict[str, object] = {"front": [], "replicas": {}}
    replicas: dict[str, object] = {}
    for name in ("prefill", "decode"):
        found = {k: row[f"{name}_{k}"] for k in WORKER_TYPES if row.get(f"{name}_{k}") is not None}
        out[name] = ServePlan.from_dict(found).to_dict() if found else None
        replicas |= {name: row[f"replicas_{name}"]} if found else {}
    return {**out, "replicas": replicas}


def _display(system_id: str) -> str:
    """A system's name for a reader; of one of the user's its id."""
    facts = load_facts()
    return str(facts.meta("systems", system_id).get("display")) if system_id in facts.ids("systems") else system_id


def _estimate(row: Mapping[str, object], name: str, unit: str) -> Estimate:
    value, low, high = (row.get(k) for k in (name, f"{name}_low", f"{name}_high"))
    if not isinstance(value, float):
        return unknown_estimate(unit, str(row.get("reason") or "not known"))
    return Estimate(
        value=value,
        unit=unit,
        low=low if isinstance(low, float) else value,
        high=high if isinstance(high, float) else value,
        grade=str(row[f"{name}_grade"]),
    )


__all__ = ["stored_sweep"]
