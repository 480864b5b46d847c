"""The plan of a result's row, as what is launched: workers by pool, on chips of one system."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mowich.errors import UserError
from mowich.facts import Facts
from mowich.launch.arguments import SERVED_FIELDS, WORK_SAID, FieldValues, LaunchProgram, Work
from mowich.machines.system import System, resolve
from mowich.plans.launch_settings import SETTING_NAMES
from mowich.shown import Result


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchedPool:
    """Workers of one kind. role: "prefill", "decode", "" where all are alike; copies: workers; devices: of one worker;
    fields: its plan and its job, as a program's table names them."""

    role: str
    copies: int
    devices: int
    fields: FieldValues


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanLaunch:
    """A plan to launch. software: engine or stack that the prediction is of; per_server: devices of one server; inputs:
    of the result, as its JSON states them."""

    work: Work
    model: str
    system: System
    spec: str
    software: str
    per_server: int
    pools: tuple[LaunchedPool, ...]
    inputs: Mapping[str, object] = field(default_factory=dict, repr=False)


def launch_of(inputs: Result, row: Result, facts: Facts, layers: int) -> PlanLaunch:
    """The plan of a row of a result: inputs, row as their JSON states them; layers: of the model. Raises UserError for
    a row without a plan."""
    work: Work = "train" if inputs.get("task") == "train" else "serve"
    if (row.get("plan") if work == "train" else row.get("decode")) is None:
        raise UserError("has no plan to write", field="emit", given=str(row.get("system")), fix=str(row.get("reason")))
    if row.get("decode_system") is not None:
        raise UserError(
            "prefill and decode are on two systems, and no launch command written here starts both",
            field="emit",
            given=f"{row['system']} and {row['decode_system']}",
            fix="ask for one system",
        )
    system = replace(resolve(facts, str(row["system"])), chips=int(str(row["chips_requested"])))
    about = next(s for s in inputs["systems"] if s["system"] == row["system"])
    servers = facts.get(f"systems.{system.id}.chips_per_server")
    per_server = (
        round(facts.number(servers.path))
        if servers is not None and servers.value is not None
        else system.chips_per_unit
    )
    rented = facts.get(f"systems.{system.id}.rented.chips")
    if work == "train" and rented is not None and rented.value is not None:
        per_server = min(per_server, round(facts.number(rented.path)))
    make = _trained if work == "train" else _served
    return PlanLaunch(
        work=work,
        model=str(inputs["model"]),
        system=system,
        spec=str(row["system"]),
        software=str(about["stack"] if work == "train" else row["engine"]),
        per_server=per_server * system.devices_per_chip,
        pools=make(inputs, row, system, per_server * system.devices_per_chip, layers),
        inputs=inputs,
    )


def _served(inputs: Result, row: Result, system: System, per_server: int, layers: int) -> tuple[LaunchedPool, ...]:
    apart = row["mode"] == "disaggregated"

    def pool(role: str) -> LaunchedPool:
        plan = {**row[role], "weights": row[role]["precision"]}
        fields: FieldValues = {name: plan[name] for name in (*SERVED_FIELDS, *SETTING_NAMES) if name in plan}
        seen = (inputs.get("images") or {"tokens": 0.0})["tokens"]
        fields["context"] = math.ceil(inputs["isl"] + seen + inputs["osl"])
        if role == "decode":
            fields["sequences"] = math.ceil(round(row["batch"] / plan["dp"], 6))
        if plan.get("lnc"):
            fields["lnc"] = plan["lnc"]
        devices = plan["tp"] * plan["dp"] * plan["cp"] * plan["pp"]
        return LaunchedPool(role=role if apart else "", copies=row["replicas"][role], devices=devices, fields=fields)

    return tuple(pool(role) for role in (("prefill", "decode") if apart else ("decode",)))


def _trained(inputs: Result, row: Result, system: System, per_server: int, layers: int) -> tuple[LaunchedPool, ...]:
    plan, batch = row["plan"], row["global_batch_seqs"]
    devices = plan["tp"] * plan["dp"] * plan["cp"] * plan["pp"]
    per_node = next(n for n in range(min(devices, per_server), 0, -1) if devices % n == 0)
    fields: FieldValues = {
        **plan,
        "batch": batch,
        "seq": inputs["seq"],
        "steps": math.ceil(inputs["tokens"] / (batch * inputs["seq"])),
        "layers": layers,
        "nodes": devices // per_node,
        "per_node": per_node,
        "slices": max(1, devices // system.domain_devices),
    }
    return (LaunchedPool(role="", copies=1, devices=devices, fields=fields),)


def runs_on(program: LaunchProgram, system: System) -> bool:
    """Whether a program runs on the chips of a system."""
    return system.vendor in program.vendors and (not program.chips or system.chip in program.chips)


def check_program(program: LaunchProgram, launch: PlanLaunch) -> None:
    """Raises UserError where a program is for other work, for other chips, or cannot run a value on these."""
    if program.work != launch.work:
        raise UserError(
            f"{program.title} is for {WORK_SAID[program.work]}, and this plan is for {WORK_SAID[launch.work]}",
            field="emit",
            given=program.name,
        )
    if not runs_on(program, launch.system):
        raise UserError(
            f"{program.title} does not run on {launch.system.display}",
            field="emit",
            given=program.name,
            allowed=f"systems of {', '.join(program.vendors)}"
            + (f" with {' or '.join(program.chips)}" if program.chips else ""),
        )
    for (name, value), (chip, who) in program.only_on.items():
        if chip != launch.system.chip and any(pool.fields.get(name) == value for pool in launch.pools):
            raise UserError(
                f"{program.title} does not run this on {launch.system.display}: {who}",
                field=f"plan.{name}",
                given=value,
                fix="choose another plan with --pick, or fix the field with --set",
            )
