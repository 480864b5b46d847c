"""What a table of a program says: which argument holds a field of a plan, which fields the program has no argument for,
and how values are written and read back."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from mowich.errors import UserError

FieldValue = int | float | bool | str
"""A value of a field or of an argument."""
FieldValues = dict[str, FieldValue]

Work = Literal["train", "serve"]
WORK_SAID: Mapping[Work, str] = {"train": "training", "serve": "serving"}

SERVED_FIELDS = ("tp", "pp", "dp", "cp", "ep", "weights", "kv")
"""Fields of a serving plan; what is stated of its engine stands beside them (`plans.launch_settings`)."""
_CHECKED = ("seq", "batch", "context")
"""Fields of the job: read back, they are compared with the question."""
_NEAR = 0.9
"""Likeness from which an unknown argument is a misspelt one: programs have many that are alike."""
_LEFT_OUT = ("steps",)
"""Fields of the job that are written, and that a prediction does not read back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanArgument:
    """One argument. field: of the plan, of the job, or one that the program derives; words: value of the field ->
    what is written (empty: numbers, as they are; True: the argument stands by itself); absent: what it means that the
    argument is not there (None: nothing, the search is free); also: other spellings that are read; is_read_only: of an
    older release, never written; is_open: may have words that no plan has; is_whole: a number has no fraction."""

    field: str
    name: str
    words: Mapping[FieldValue, FieldValue] = dataclasses.field(default_factory=dict)
    absent: FieldValue | None = None
    also: tuple[str, ...] = ()
    is_read_only: bool = False
    is_open: bool = False
    is_whole: bool = True

    @property
    def is_switch(self) -> bool:
        """Whether the argument has no value: it is there or not."""
        return True in self.words.values() and all(isinstance(v, bool) for v in self.words.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class NoArgument:
    """A field that the program has no argument for. only: values that it can run with (empty: any); why: what it does
    instead."""

    field: str
    only: tuple[FieldValue, ...] = ()
    why: str = ""


def _same(fields: FieldValues) -> FieldValues:
    return fields


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchProgram:
    """A program that runs plans. vendors: whose chips it runs on, chips: which of them (empty: all); form: how its
    arguments are written; own: fields of a plan -> those that the arguments hold, plan: the way back; fixed: arguments
    that are always written and say nothing of a plan; pools: arguments of workers of prefill and of decode; roles: what
    their values hold, by which they are known; only_on: (field, value) that runs on one chip alone -> the chip, and who
    says so; mark: what a command of it has and one of its namesake on other chips has not; sources: comments that say
    which release the names are of, and what is inferred."""

    name: str
    title: str
    work: Work
    vendors: tuple[str, ...]
    form: Literal["options", "dotted", "keys"]
    arguments: tuple[PlanArgument, ...]
    lacks: tuple[NoArgument, ...] = ()
    own: Callable[[FieldValues], FieldValues] = _same
    plan: Callable[[FieldValues], FieldValues] = _same
    fixed: Mapping[str, FieldValue] = dataclasses.field(default_factory=dict)
    pools: Mapping[str, Mapping[str, FieldValue]] = dataclasses.field(default_factory=dict)
    roles: Mapping[str, str] = dataclasses.field(default_factory=dict)
    only_on: Mapping[tuple[str, FieldValue], tuple[str, str]] = dataclasses.field(default_factory=dict)
    chips: tuple[str, ...] = ()
    mark: str = ""
    sources: tuple[str, ...] = ()

    def by_name(self) -> dict[str, PlanArgument]:
        """Spelling -> argument."""
        return {name: one for one in self.arguments for name in (one.name, *one.also)}


def write_arguments(program: LaunchProgram, fields: FieldValues) -> tuple[FieldValues, list[str]]:
    """(arguments, lines that name what has none) of the fields of a plan and its job. Raises UserError for a value that
    the program cannot run with, naming the field."""
    own = program.own(dict(fields))
    out: FieldValues = {}
    for one in program.arguments:
        value = None if one.is_read_only else own.pop(one.field, None)
        if value is None or (value == one.absent and one.absent is not None):
            continue
        if one.words and value not in one.words:
            raise cannot_say(program, one.field, value, tuple(one.words))
        written = one.words[value] if one.words else value
        if written is not False or program.form != "options":
            out[one.name] = written
    lines = []
    for lack in program.lacks:
        value = own.pop(lack.field, None)
        if value is None:
            continue
        if lack.only and value not in lack.only:
            raise cannot_say(program, lack.field, value, lack.only)
        lines.append(no_argument_line(program, lack.field, value, lack.why))
    for name, value in own.items():
        lines.append(no_argument_line(program, name, value, ""))
    return out, lines


def no_argument_line(program: LaunchProgram, name: str, value: FieldValue, why: str) -> str:
    """The comment that names a field without an argument; `read_arguments` takes it back.

    >>> from mowich.launch.vllm import VLLM_SERVE
    >>> no_argument_line(VLLM_SERVE, "order", "tp-dp-pp", "")
    'plan.order=tp-dp-pp has no argument in vllm'
    """
    said = str(value).lower() if isinstance(value, bool) else value
    return f"plan.{name}={said} has no argument in {program.name}" + (f": {why}" if why else "")


def cannot_say(program: LaunchProgram, name: str, value: FieldValue, allowed: tuple[FieldValue, ...]) -> UserError:
    """The error for a field that the program cannot run with."""
    return UserError(
        f"{program.title} cannot run this plan",
        field=f"plan.{name}",
        given=value,
        allowed=", ".join(map(str, allowed)),
        fix="choose another plan with --pick, or fix the field with --set",
    )


@dataclass(slots=True)
class PlanInFile:
    """What a file says. plan: fields of a plan; job: fields to compare with the question; unknown: arguments that say
    nothing of a plan, as they are written; pools: plans of prefill and of decode, where they are apart."""

    program: LaunchProgram
    plan: FieldValues = dataclasses.field(default_factory=dict)
    job: FieldValues = dataclasses.field(default_factory=dict)
    unknown: list[str] = dataclasses.field(default_factory=list)
    pools: dict[str, FieldValues] = dataclasses.field(default_factory=dict)


def read_arguments(program: LaunchProgram, given: Mapping[str, object], said: FieldValues, where: str) -> PlanInFile:
    """What the arguments of one command or config mean. said: fields that its comments name."""
    names = program.by_name()
    own: FieldValues = {one.field: one.absent for one in program.arguments if one.absent is not None}
    found = PlanInFile(program=program)
    for name, value in given.items():
        one = names.get(name)
        if one is not None and one.is_open and _text(value) not in ("", *map(_text, one.words.values())):
            found.unknown.append(f"{name}={_text(value)}")
        elif one is not None:
            own[one.field] = _meant(one, value, f"{where}: {name}")
        elif program.fixed.get(name) != (value if program.form == "keys" else value or True):
            near = difflib.get_close_matches(name, list(names), n=1, cutoff=_NEAR)
            found.unknown.append(name + (f" (did you mean '{near[0]}'?)" if near else ""))
    stated = {field: value for field, value in own.items() if value is not None}  # null is as not there
    meant = program.plan({**stated, **said})
    meant.pop("layers", None)
    found.job = {key: meant.pop(key) for key in (*_CHECKED, *_LEFT_OUT) if key in meant}
    found.plan = meant
    return found


def _meant(one: PlanArgument, value: object, where: str) -> FieldValue:
    """The value of a field that an argument has."""
    if not one.words and _text(value) == _text(one.absent):
        return one.absent  # type: ignore[return-value]
    if not one.words:
        number = positive(value, where)
        if isinstance(number, float) and one.is_whole:
            raise UserError("not a whole number", where=where, given=value)
        return number
    text = _text(value)
    if one.is_switch:
        is_on = text in ("true", "", "1")
        return next(meant for meant, written in one.words.items() if written is is_on)
    for meant, written in one.words.items():
        if _text(written) == text:
            return meant
    raise UserError(
        "not a value that a plan has", where=where, given=value, allowed=", ".join(_text(w) for w in one.words.values())
    )


def _text(value: object) -> str:
    return "null" if value is None else str(value).strip().casefold()


def positive(value: object, where: str) -> FieldValue:
    """A number above 0, as an integer where it is whole. Raises UserError."""
    try:
        number = float(str(value).replace("_", ""))
    except ValueError:
        number = -1.0
    if not 0 < number < 1e15:
        raise UserError("not a number above 0", where=where, given=value)
    return int(number) if number == int(number) else number
