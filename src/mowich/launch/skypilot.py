"""SkyPilot tasks: the launch commands on instances."""

from __future__ import annotations

from mowich.facts import Facts
from mowich.launch.arguments import LaunchProgram
from mowich.launch.plans import PlanLaunch
from mowich.launch.rented import Placed, Rented, rented_as
from mowich.launch.write import command, head

_CLOUDS = {"AWS": "aws", "Google Cloud": "gcp"}
_RANK = '--node-rank "$SKYPILOT_NODE_RANK" --master-addr "$(echo "$SKYPILOT_NODE_IPS" | head -n1)" '
_PORT = 8000


def skypilot_text(program: LaunchProgram, launch: PlanLaunch, facts: Facts) -> str:
    """One task for each kind of instance, as documents of one file."""
    rented = rented_as(launch, facts)
    top = [*head(program, launch), rented.line(launch)]
    tasks = [_task(program, launch, placed, rented) for placed in rented.placed(launch)]
    return "\n".join(f"# {line}" for line in top) + "\n" + "---\n".join(tasks)


def _task(program: LaunchProgram, launch: PlanLaunch, placed: Placed, rented: Rented) -> str:
    name = "-".join(x for x in (launch.model.replace(".", "-"), program.name, *placed.workers) if x)
    resources = [f"  infra: {_CLOUDS[rented.cloud]}"] if rented.cloud in _CLOUDS else []
    if launch.system.vendor == "Google":
        resources.append("  # SkyPilot rents TPUs as accelerators, by the name of the slice: set it here")
    elif rented.instance:
        resources.append(f"  instance_type: {rented.instance}")
    alone = placed.nodes > 1 and placed.times > 1
    again = [f"# launch this task {placed.times} times, once for each worker"] if alone else []
    nodes = placed.nodes if alone else placed.nodes * placed.times
    lines = [*again, f"name: {name}", "resources:", *resources, f"num_nodes: {nodes}", "run: |"]
    lines += [f"  {line}" for line in _run_lines(program, launch, placed)]
    return "\n".join(lines) + "\n"


def _run_lines(program: LaunchProgram, launch: PlanLaunch, placed: Placed) -> list[str]:
    """The commands that one instance runs: its workers beside each other, each on devices and a port of its own."""
    several = sum(placed.workers.values()) > 1
    lines: list[str] = []
    first, port = 0, _PORT
    for pool in launch.pools:
        for place in range(placed.workers.get(pool.role, 0)):
            more = [f"--port {port}"] if launch.work == "serve" else []
            words, remarks = command(program, launch, pool, more, is_inside=True, rank=_RANK)
            lines += [f"# {text}" for text in remarks] if place == 0 else []
            text = "\n".join(words)
            if several:
                text = f"{_visible(launch, first, first + pool.devices - 1)} {text} &"
            lines += text.split("\n")
            first, port = first + pool.devices, port + 1
    return [*lines, "wait"] if several else lines


def _visible(launch: PlanLaunch, first: int, last: int) -> str:
    """The variable that gives a worker its devices."""
    numbers = ",".join(map(str, range(first, last + 1)))
    if launch.system.vendor == "AWS":
        return f"NEURON_RT_VISIBLE_CORES={first}-{last}"
    return f"TPU_VISIBLE_CHIPS={numbers}" if launch.system.vendor == "Google" else f"CUDA_VISIBLE_DEVICES={numbers}"
