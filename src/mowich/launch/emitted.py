"""What a plan can be written as, and the text of it."""

from __future__ import annotations

from collections.abc import Mapping

from mowich.errors import UserError, unknown
from mowich.facts import Facts
from mowich.launch.arguments import LaunchProgram
from mowich.launch.kubernetes import kubernetes_text
from mowich.launch.maxtext import MAXTEXT_RUN
from mowich.launch.megatron import MEGATRON_RUN
from mowich.launch.nxdi import NXDI_SERVE
from mowich.launch.plans import PlanLaunch, check_program, launch_of
from mowich.launch.sglang import SGLANG_SERVER
from mowich.launch.skypilot import skypilot_text
from mowich.launch.torchtitan import TORCHTITAN_RUN
from mowich.launch.vllm import VLLM_SERVE
from mowich.launch.write import program_text
from mowich.shown import Result

PROGRAMS: Mapping[str, LaunchProgram] = {
    p.name: p for p in (VLLM_SERVE, SGLANG_SERVER, NXDI_SERVE, TORCHTITAN_RUN, MEGATRON_RUN, MAXTEXT_RUN)
}
MANIFESTS = ("skypilot", "kubernetes")
EMITTED = (*PROGRAMS, *MANIFESTS)
"""What a plan can be written as."""


PROGRAM_OF: Mapping[str, str] = {
    "vllm-neuron": "nxdi",
    "vllm": "vllm",
    "sglang": "sglang",
    "neuron": "nxdi",
    "nxdi": "nxdi",
    "jax": "maxtext",
    "pytorch": "torchtitan",
    "megatron": "megatron",
}
"""How the name of an engine or a stack begins -> the program that is it."""


def emitted(name: str, inputs: Result, row: Result, facts: Facts, *, layers: int) -> str:
    """The text of a row's plan for a program, "vllm", or for a wrapper of one: "kubernetes", "skypilot:sglang". Raises
    UserError where the plan cannot be said to it."""
    wrapper, _, inner = name.partition(":")
    if wrapper not in EMITTED or (inner and wrapper not in MANIFESTS):
        raise unknown("program", name, EMITTED, field="emit")
    launch = launch_of(inputs, row, facts, layers)
    if wrapper in PROGRAMS:
        _check_here(PROGRAMS[wrapper], launch)
        return program_text(PROGRAMS[wrapper], launch)
    if inner and inner not in PROGRAMS:
        raise unknown("program", inner, PROGRAMS, field="emit")
    program = PROGRAMS[inner] if inner else own_program(launch, wrapper)
    _check_here(program, launch)
    wrap = skypilot_text if wrapper == "skypilot" else kubernetes_text
    return wrap(program, launch, facts)


def own_program(launch: PlanLaunch, wrapper: str) -> LaunchProgram:
    """The program that is the software which a prediction is of."""
    for start, name in PROGRAM_OF.items():
        program = PROGRAMS[name]
        if launch.software.startswith(start) and (program.work, True) == (
            launch.work,
            launch.system.vendor in program.vendors,
        ):
            return program
    raise UserError(
        f"no program here is {launch.software}",
        field="emit",
        given=wrapper,
        allowed=", ".join(f"{wrapper}:{name}" for name in _fitting(launch)) or "none on this system",
    )


def _fitting(launch: PlanLaunch) -> list[str]:
    """Programs for the work and the chips of a plan."""
    return [p.name for p in PROGRAMS.values() if p.work == launch.work and launch.system.vendor in p.vendors]


def _check_here(program: LaunchProgram, launch: PlanLaunch) -> None:
    """`check_program`, with the programs that would do."""
    try:
        check_program(program, launch)
    except UserError as error:
        if error.field == "emit":
            error.fix = f"here: {' or '.join(f'--emit {name}' for name in _fitting(launch)) or 'none'}"
        raise
