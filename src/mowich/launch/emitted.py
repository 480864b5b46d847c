"""What a plan can be written as, and the text of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mowich.errors import UserError, unknown
from mowich.facts import Facts
from mowich.launch.arguments import SERVED_FIELDS, FieldValues, LaunchProgram, Work, write_arguments
from mowich.launch.bundle import Bundle, BundleFile
from mowich.launch.kubernetes import kubernetes_files, kubernetes_text
from mowich.launch.maxtext import MAXTEXT_RUN
from mowich.launch.megatron import MEGATRON_RUN
from mowich.launch.nxdi import NXDI_SERVE
from mowich.launch.plans import PlanLaunch, check_program, launch_of, runs_on
from mowich.launch.profiling import profile_text
from mowich.launch.serving_benchmark import roomy, sent_load
from mowich.launch.serving_bundle import serving_files
from mowich.launch.sglang import SGLANG_SERVER
from mowich.launch.skypilot import skypilot_text
from mowich.launch.torchtitan import TORCHTITAN_NEURON, TORCHTITAN_RUN
from mowich.launch.training_bundle import training_files
from mowich.launch.trtllm import TRTLLM_SERVE
from mowich.launch.vllm import VLLM_NEURON, VLLM_SERVE
from mowich.launch.write import head, program_text
from mowich.machines.system import System
from mowich.plans.launch_settings import SETTING_NAMES
from mowich.plans.plan import ServePlan, stated_plan
from mowich.shown import Result

PROGRAMS: Mapping[str, LaunchProgram] = {
    p.name: p for p in (VLLM_SERVE, SGLANG_SERVER, TRTLLM_SERVE, NXDI_SERVE, TORCHTITAN_RUN, MEGATRON_RUN, MAXTEXT_RUN)
}
MANIFESTS = ("skypilot", "kubernetes", "profile")
EMITTED = (*PROGRAMS, *MANIFESTS)
"""What a plan can be written as."""


PROGRAM_OF: Mapping[str, str] = {
    "vllm": "vllm",
    "sglang": "sglang",
    "trtllm": "trtllm",
    "neuron": "nxdi",
    "nxdi": "nxdi",
    "jax": "maxtext",
    "pytorch": "torchtitan",
    "megatron": "megatron",
}
"""How the name of an engine or a stack begins -> the program that is it."""

ON_TRAINIUM: Mapping[str, LaunchProgram] = {"vllm": VLLM_NEURON, "torchtitan": TORCHTITAN_NEURON}
"""Program -> what it is on Trainium: a plugin, or a fork."""


def emitted(name: str, inputs: Result, row: Result, facts: Facts, *, layers: int) -> str:
    """The text of a row's plan for a program, "vllm", or for a wrapper of one: "kubernetes", "skypilot:sglang". Raises
    UserError where the plan cannot be said to it."""
    program, launch = _launched(name, inputs, row, facts, layers)
    wrapper = name.partition(":")[0]
    return program_text(program, launch) if wrapper in PROGRAMS else _WRAPS[wrapper](program, launch, facts)


_WRAPS: Mapping[str, Callable[[LaunchProgram, PlanLaunch, Facts], str]] = {
    "skypilot": skypilot_text,
    "kubernetes": kubernetes_text,
    "profile": profile_text,
}
_WRAPPED = {"skypilot": "skypilot.yaml", "profile": "profile.sh"}
"""A wrapper -> its file in a bundle; manifests of Kubernetes stand in every bundle."""


def bundled(name: str, inputs: Result, row: Result, facts: Facts, *, layers: int) -> Bundle:
    """The bundle of a row's plan for a program or a wrapper of one. Raises UserError where the plan cannot be said to
    it."""
    program, launch = _launched(name, inputs, row, facts, layers)
    if launch.work == "serve":
        launch = roomy(launch, sent_load(inputs, row, launch.system.vendor))
        files, benchmark = serving_files(program, launch, inputs, row, facts)
    else:
        files, benchmark = training_files(program, launch, inputs, row, facts)
    wrapper = name.partition(":")[0]
    files += kubernetes_files(program, launch, facts)
    if wrapper in _WRAPPED:
        path = _WRAPPED[wrapper]
        text = _WRAPS[wrapper](program, launch, facts)
        files.append(BundleFile(path=path, text=text, is_script=path.endswith(".sh"), about=f"for {wrapper}"))
    notes = _of_other_software(program, launch, facts)
    return Bundle(program=name, title=head(program, launch)[0], files=files, benchmark=benchmark, notes=notes)


def _of_other_software(program: LaunchProgram, launch: PlanLaunch, facts: Facts) -> list[str]:
    """A line where the prediction is of another engine or stack than the bundle starts."""
    own = tuple(start for start, name in PROGRAM_OF.items() if name == program.name)
    if launch.software.startswith(own):
        return []
    kind, ask = ("serving", "--engine") if launch.work == "serve" else ("training", "--stack")
    names = [name for name in facts.ids(kind) if name.startswith(own)]
    there = f": {ask} {' or '.join(names)} predicts its own" if names else ""
    return [f"The forecast is of {launch.software}, and the bundle starts {program.title}{there}."]


def _launched(name: str, inputs: Result, row: Result, facts: Facts, layers: int) -> tuple[LaunchProgram, PlanLaunch]:
    """The program that a name means for a row, and what it launches. Raises UserError where it cannot run it."""
    wrapper, _, inner = name.partition(":")
    if wrapper not in EMITTED or (inner and wrapper not in MANIFESTS):
        raise unknown("program", name, EMITTED, field="emit")
    if inner and inner not in PROGRAMS:
        raise unknown("program", inner, PROGRAMS, field="emit")
    launch = launch_of(inputs, row, facts, layers)
    program = _program(name, launch.work, launch.system, launch.software)
    _check_here(program, launch)
    return program, launch


def _program(name: str, work: Work, system: System, software: str) -> LaunchProgram:
    """The program that a name of `EMITTED` means on the chips of a system."""
    vendor = system.vendor
    wrapper, _, inner = name.partition(":")
    plain = wrapper if wrapper in PROGRAMS else inner
    if plain:
        return _there(plain, vendor)
    for start, own in PROGRAM_OF.items():
        program = _there(own, vendor)
        if software.startswith(start) and (program.work, True) == (work, vendor in program.vendors):
            return program
    raise UserError(
        f"no program here is {software}",
        field="emit",
        given=wrapper,
        allowed=", ".join(f"{wrapper}:{name}" for name in _fitting(work, system)) or "none on this system",
    )


def _there(name: str, vendor: str) -> LaunchProgram:
    """A program in its form for a vendor's chips."""
    own = ON_TRAINIUM.get(name)
    return own if own is not None and vendor in own.vendors else PROGRAMS[name]


def runs_plan(name: str, plan: ServePlan, system: System, engine: str) -> bool:
    """Whether a program can serve a worker plan on a system."""
    program = _program(name, "serve", system, engine)
    fields = dict(stated_plan(plan, system.lnc))
    fields["weights"] = fields.pop("precision")
    asked: FieldValues = {key: value for key, value in fields.items() if key in (*SERVED_FIELDS, *SETTING_NAMES)}
    if any(asked.get(key) == value and chip != system.chip for (key, value), (chip, _) in program.only_on.items()):
        return False
    try:
        write_arguments(program, asked)
    except UserError:
        return False
    return program.work == "serve" and runs_on(program, system)


def _fitting(work: Work, system: System) -> list[str]:
    """Programs for the work on the chips of a system."""
    return [n for n in PROGRAMS if (p := _there(n, system.vendor)).work == work and runs_on(p, system)]


def _check_here(program: LaunchProgram, launch: PlanLaunch) -> None:
    """`check_program`, with the programs that would do."""
    try:
        check_program(program, launch)
    except UserError as error:
        if error.field == "emit":
            names = _fitting(launch.work, launch.system)
            error.fix = f"here: {' or '.join(f'--emit {name}' for name in names) or 'none'}"
        raise
