"""What a plan can be written as, and the text of it."""

from __future__ import annotations

from collections.abc import Mapping

from mowich.errors import UserError, unknown
from mowich.facts import Facts
from mowich.launch.arguments import SERVED_FIELDS, FieldValues, LaunchProgram, Work, write_arguments
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
from mowich.machines.system import System
from mowich.plans.plan import ServePlan, stated_plan
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

PLUGINS: Mapping[tuple[str, str], str] = {("vllm", "AWS"): "nxdi"}
"""Program and vendor -> the program that it is there: vLLM runs on Trainium by its Neuron plugin."""


def emitted(name: str, inputs: Result, row: Result, facts: Facts, *, layers: int) -> str:
    """The text of a row's plan for a program, "vllm", or for a wrapper of one: "kubernetes", "skypilot:sglang". Raises
    UserError where the plan cannot be said to it."""
    wrapper, _, inner = name.partition(":")
    if wrapper not in EMITTED or (inner and wrapper not in MANIFESTS):
        raise unknown("program", name, EMITTED, field="emit")
    if inner and inner not in PROGRAMS:
        raise unknown("program", inner, PROGRAMS, field="emit")
    launch = launch_of(inputs, row, facts, layers)
    program = _program(name, launch.work, launch.system.vendor, launch.software)
    _check_here(program, launch)
    if wrapper in PROGRAMS:
        return program_text(program, launch)
    wrap = skypilot_text if wrapper == "skypilot" else kubernetes_text
    return wrap(program, launch, facts)


def _program(name: str, work: Work, vendor: str, software: str) -> LaunchProgram:
    """The program that a name of `EMITTED` means on a vendor's chips."""
    wrapper, _, inner = name.partition(":")
    plain = wrapper if wrapper in PROGRAMS else inner
    if plain:
        return PROGRAMS[PLUGINS.get((plain, vendor), plain)]
    for start, own in PROGRAM_OF.items():
        program = PROGRAMS[own]
        if software.startswith(start) and (program.work, True) == (work, vendor in program.vendors):
            return program
    raise UserError(
        f"no program here is {software}",
        field="emit",
        given=wrapper,
        allowed=", ".join(f"{wrapper}:{name}" for name in _fitting(work, vendor)) or "none on this system",
    )


def runs_plan(name: str, plan: ServePlan, system: System, engine: str) -> bool:
    """Whether a program can serve a worker plan on a system."""
    program = _program(name, "serve", system.vendor, engine)
    fields = dict(stated_plan(plan, system.lnc))
    fields["weights"] = fields.pop("precision")
    asked: FieldValues = {key: value for key, value in fields.items() if key in SERVED_FIELDS}
    if any(asked.get(key) == value and chip != system.chip for (key, value), (chip, _) in program.only_on.items()):
        return False
    try:
        write_arguments(program, asked)
    except UserError:
        return False
    return program.work == "serve" and system.vendor in program.vendors


def _fitting(work: Work, vendor: str) -> list[str]:
    """Programs for the work on the chips of a vendor."""
    return [p.name for p in PROGRAMS.values() if p.work == work and vendor in p.vendors]


def _check_here(program: LaunchProgram, launch: PlanLaunch) -> None:
    """`check_program`, with the programs that would do."""
    try:
        check_program(program, launch)
    except UserError as error:
        if error.field == "emit":
            names = _fitting(launch.work, launch.system.vendor)
            error.fix = f"here: {' or '.join(f'--emit {name}' for name in names) or 'none'}"
        raise
