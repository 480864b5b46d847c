"""Plans that leave as launch commands, and such files as plans: the fields, and how a file becomes choices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mowich.errors import UserError, unknown
from mowich.plans.launch_settings import SETTING_NAMES, setting_arguments
from mowich.plans.serving_choices import DEGREES, POOL_CHOICES, SEQUENCES_CHOICE
from mowich.requests.fields import CALLED, Edge, Field, read_path, word

if TYPE_CHECKING:
    from pathlib import Path

    from mowich.launch.arguments import FieldValues, PlanInFile
    from mowich.plans.plan import TrainJob
    from mowich.requests.schema import QuestionReader
    from mowich.requests.settings import Settings
    from mowich.serving.search import ServeJob

EMIT: Field[str] = word(
    "emit",
    "The best plan for vllm...; with --out DIR: a bundle of it.",
    metavar="PROGRAM",
    edges=frozenset({Edge.OPTION}) | CALLED,
    example="vllm",
)
PLAN_FILE: Field[Path] = Field(
    name="plan_file",
    parse=read_path,
    kind="file",
    option="--plan",
    keyword="plan",
    help="Predict the plan of a launch command or config.",
    metavar="FILE",
    edges=frozenset({Edge.OPTION}) | CALLED,
    example="launch.sh",
)


def file_choices(
    reader: QuestionReader, train: TrainJob | None, serve: ServeJob | None, *, serving: bool, layers: int
) -> dict[str, str]:
    """What the file of a question fixes, as `--set plan.*` would say it. train, serve: its job. Notes what the file
    says beside, and every problem: another kind of work, a job that is not the question's."""
    file = reader.get(PLAN_FILE)
    if file is None:
        return {}
    with reader.watch(PLAN_FILE):
        from mowich.launch.read import read_plan_file

        found = read_plan_file(file, layers=layers)
        if (found.program.work == "serve") is not serving:
            from mowich.launch.arguments import WORK_SAID

            raise UserError(
                f"is for {found.program.title}, which is {WORK_SAID[found.program.work]}",
                where=str(file),
                fix="ask with --serve" if found.program.work == "serve" else "ask with --train",
            )
        if found.unknown:
            reader.note(f"{file}: no field of a plan, and left out: {', '.join(found.unknown)}")
        _check_job(reader, found, str(file), train, serve)
        return _choices_of(found)
    return {}


def _choices_of(found: PlanInFile) -> dict[str, str]:
    if not found.pools:
        out = {name: _said(value) for name, value in found.plan.items()}
        return {**out, "mode": "aggregated"} if found.program.work == "serve" else out
    out = {role: _pool_said(pool) for role, pool in found.pools.items()}
    prefill, decode = found.pools["prefill"], found.pools["decode"]
    for name in SETTING_NAMES:
        if prefill.get(name) != decode.get(name):
            raise UserError(
                f"{name} of the workers of prefill and of decode differs",
                field=f"plan.{name}",
                given=f"{prefill.get(name, 'not stated')} and {decode.get(name, 'not stated')}",
                allowed="one value for both",
            )
    more = {name: _said(decode[name]) for name in (SEQUENCES_CHOICE, "lnc", *SETTING_NAMES) if name in decode}
    return {**out, **more}


def _pool_said(pool: FieldValues) -> str:
    return " ".join(f"{name}={value}" for name, value in pool.items() if name in (*DEGREES, "weights", "kv"))


def _said(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check_job(
    reader: QuestionReader, found: PlanInFile, where: str, train: TrainJob | None, serve: ServeJob | None
) -> None:
    """The lengths and the batch that a file states are those of the question."""
    asked: dict[str, float] = {} if train is None else {"seq": train.seq, "batch": round(train.batch_seqs)}
    if serve is not None:
        asked["context"] = serve.prompt + serve.output
    slack = {} if train is None else {"batch": train.batch_tolerance}
    for name, value in found.job.items():
        given = asked.get(name)
        if name == "steps":
            reader.note(f"{where}: the number of steps is left out, the tokens of the question count")
        elif name == "context" and given is not None and float(value) < given:
            reader.add(f"holds {value} tokens, and a request has {given:g}", PLAN_FILE, given=where)
        elif name != "context" and given is not None and abs(float(value) - given) > slack.get(name, 0.0) * given:
            reader.add(f"{name} is {value}, and the question's is {given:g}", PLAN_FILE, given=where)


def settings_of_engines(reader: QuestionReader, chosen: Mapping[str, str], engines: Sequence[str]) -> dict[str, str]:
    """The choices of a file without settings that an engine of the question does not have: a file of one program may be
    predicted for another. Those that a program is not told are left out without a word."""
    has = [setting_arguments(engine) for engine in engines]
    out = dict(chosen)
    for name in [n for n in SETTING_NAMES if n in chosen and not all(n in own for own in has)]:
        value = out.pop(name)
        tables = [setting_arguments(program).get(name, {}) for program in ("vllm", "sglang", "trtllm")]
        if value not in {_said(own["absent"]) for own in tables if "absent" in own}:
            reader.note(
                f"plan.{name}={value} of {reader.said(PLAN_FILE)} is not a setting of"
                f" {', '.join(engines)}, and is left out"
            )
    return out


def joined_choices(reader: QuestionReader, given: Mapping[str, str], chosen: Mapping[str, str]) -> dict[str, str]:
    """Choices of the settings with those of a file; a field that both state otherwise is a problem."""
    for name in given.keys() & chosen.keys():
        if given[name] != chosen[name]:
            reader.add(f"says {name}={chosen[name]}, and the settings say {given[name]}", PLAN_FILE)
    return {**given, **chosen}


def only_degrees(reader: QuestionReader, fixed: object, question: str) -> None:
    """Raises UserError for choices that only a search for the best plans takes."""
    for name in (*POOL_CHOICES, SEQUENCES_CHOICE):
        if isinstance(fixed, Mapping) and name in fixed:
            raise UserError(f"is not for {question}", field=f"plan.{name}", given=fixed[name][0])


def use_cores(reader: QuestionReader, settings: Settings, lnc: str | None, systems: Sequence[str]) -> None:
    """The cores of a device that a file states, where the system has other ones."""
    from mowich.machines.system import resolve
    from mowich.requests.settings import lnc_facts, read_lnc

    if lnc is None or not systems:
        return
    with reader.watch(PLAN_FILE):
        cores = read_lnc(lnc, where=reader.said(PLAN_FILE))
        if any(resolve(settings.facts, name).lnc != cores for name in systems):
            settings.lnc = cores
            settings.facts = settings.facts.with_values(lnc_facts(settings.facts, cores))


def check_program_name(name: str) -> None:
    """Raises UserError for a name that no program has."""
    from mowich.launch.emitted import EMITTED, MANIFESTS, PROGRAMS

    wrapper, _, inner = name.partition(":")
    if wrapper not in EMITTED or (inner and (wrapper not in MANIFESTS or inner not in PROGRAMS)):
        raise unknown("program", name, EMITTED)


def check_emit(reader: QuestionReader, has_timeline: bool) -> None:
    """What does not go with a launch command, and a folder that no bundle may be written to."""
    from mowich.launch.bundle_folder import check_folder
    from mowich.requests.common import CSV, JSON, OUT

    name = reader.get(EMIT)
    if name is None:
        return
    with reader.watch(EMIT):
        check_program_name(name)
    if has_timeline or reader.flag(JSON) or reader.flag(CSV):
        reader.add(
            "prints a launch command and nothing else", EMIT, given=name, fix="leave out --json, --csv, --timeline"
        )
    folder = reader.get(OUT)
    if folder is not None:
        with reader.watch(OUT):
            check_folder(folder)
