"""SkyPilot tasks: the launch commands on instances."""

from __future__ import annotations

from mowich.facts import Facts
from mowich.launch.arguments import LaunchProgram
from mowich.launch.plans import PlanLaunch
from mowich.launch.rented import Placed, Rented, rented_as
from mowich.launch.training_start import TrainingStart, nodes_of, start_lines, training_start, written_configs
from mowich.launch.write import command, head

_CLOUDS = {"AWS": "aws", "Google Cloud": "gcp"}
_PORT = 8000


def skypilot_text(program: LaunchProgram, launch: PlanLaunch, facts: Facts) -> str:
    """One task for each kind of instance, as documents of one file."""
    rented = rented_as(launch, facts)
    top = [*head(program, launch), rented.line(launch)]
    if launch.work == "train":
        return "\n".join(f"# {line}" for line in top) + "\n" + _trained(program, launch, rented, facts)
    tasks = [_task(program, launch, placed, rented) for placed in rented.placed(launch)]
    return "\n".join(f"# {line}" for line in top) + "\n" + "---\n".join(tasks)


def _trained(program: LaunchProgram, launch: PlanLaunch, rented: Rented, facts: Facts) -> str:
    """The task that trains, on all nodes of the plan."""
    start = training_start(program, launch, facts)
    nodes, _ = nodes_of(launch)
    name = f"{launch.model.replace('.', '-')}-{program.name}"
    envs = ["envs:", *(f'  {key}: "{value}"' for key, value, _ in start.asks)] if start.asks else []
    lines = [f"name: {name}", "resources:", *_resources(launch, rented), f"num_nodes: {nodes}", *envs, "run: |"]
    return "\n".join([*lines, *(f"  {line}".rstrip() for line in _node_lines(start, nodes))]) + "\n"


def _node_lines(start: TrainingStart, nodes: int) -> list[str]:
    lines = ["set -euo pipefail", 'export NODE_RANK="$SKYPILOT_NODE_RANK" CONFIG_DIR=/tmp/mowich']
    lines.append('export MASTER_ADDR="$(echo "$SKYPILOT_NODE_IPS" | head -n1)"')
    text = "\n".join([*lines, *written_configs(start), *start_lines(start, nodes)])
    return text.split("\n")


def _resources(launch: PlanLaunch, rented: Rented) -> list[str]:
    """What is rented."""
    resources = [f"  infra: {_CLOUDS[rented.cloud]}"] if rented.cloud in _CLOUDS else []
    if launch.system.vendor == "Google":
        resources.append("  # SkyPilot rents TPUs as accelerators, by the name of the slice: set it here")
    elif rented.instance:
        resources.append(f"  instance_type: {rented.instance}")
    return resources


def _task(program: LaunchProgram, launch: PlanLaunch, placed: Placed, rented: Rented) -> str:
    name = "-".join(x for x in (launch.model.replace(".", "-"), program.name, *placed.workers) if x)
    resources = _resources(launch, rented)
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
            words, remarks = command(program, launch, pool, [f"--port {port}"], is_inside=True)
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
