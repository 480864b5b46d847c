"""The launch settings of an engine besides the degrees and formats of a plan: which steps are graphs, how often its
scheduler looks for requests, the kernels of its experts, the tokens of a step.

`facts/launch_settings.yaml` has each program's name of a setting. `serving.engines` and `serving.waits` have its effect
on times, for plans and for measured rows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import NotRequired, TypedDict

from mowich.errors import UserError
from mowich.shown import Keyed

SettingValue = int | float | str
"""A value of a setting."""

SETTING_NAMES = ("graphs", "interval", "wait", "balance", "moe", "budget", "memory", "redundant_experts")
"""Settings of a plan, the NAMEs of `--set plan.NAME`."""


class SettingRange(TypedDict):
    """The numbers that a setting may be."""

    low: float
    high: float
    whole: bool


class SettingArguments(TypedDict, total=False):
    """A setting as one program has it; see the head of the file."""

    words: Mapping[str, str]
    number: str
    read: Mapping[str, str]
    absent: SettingValue
    beside: str
    source: str
    why: str


class SettingEntry(TypedDict):
    """A setting of the table."""

    about: str
    allowed: str
    words: NotRequired[list[str]]
    number: NotRequired[SettingRange]
    vllm: SettingArguments
    sglang: SettingArguments
    trtllm: SettingArguments


@cache
def setting_table() -> Mapping[str, SettingEntry]:
    """Setting -> its meaning and its name in each program."""
    from mowich.facts.load import shipped_folder
    from mowich.files import shipped_yaml

    loaded: Mapping[str, SettingEntry] = shipped_yaml(shipped_folder() / "launch_settings.yaml")["settings"]
    return loaded


def setting_arguments(engine: str) -> dict[str, SettingArguments]:
    """Setting -> its arguments, of those that an engine has."""
    found: dict[str, SettingArguments] = {}
    for name, entry in setting_table().items():
        own: SettingArguments = entry.get(engine, {})  # type: ignore[assignment]
        if own and "why" not in own:
            found[name] = own
    return found


def read_setting(name: str, value: object, *, where: str | None = None) -> SettingValue:
    """The value of a setting. Raises UserError, with what is allowed; where: the field that it names.

    >>> read_setting("graphs", "piecewise"), read_setting("memory", "0.85")
    ('piecewise', 0.85)
    """
    entry, text = setting_table()[name], str(value).strip()
    if text in entry.get("words", ()):
        return text
    bounds = entry.get("number")
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if bounds is not None and bounds["low"] <= number <= bounds["high"]:
        if number == int(number):
            return int(number)
        if not bounds["whole"]:
            return number
    raise UserError(f"not a value of {name}, {entry['about']}", field=where, given=text, allowed=entry["allowed"])


def check_settings(names: Collection[str], engine: str, *, where: str | None = None) -> None:
    """Raises UserError for a setting that an engine lacks. where: its place in a file."""
    has = setting_arguments(engine)
    for name in names:
        if name in has:
            continue
        entry = setting_table()[name]
        own: SettingArguments = entry.get(engine, {})  # type: ignore[assignment]
        raise UserError(
            f"{engine} has no such setting: {own.get('why', entry['about'])}",
            where=None if where is None else f"{where}.{name}",
            field=f"plan.{name}" if where is None else None,
            allowed=f"settings of {engine}: {', '.join(has) or 'none'}",
            fix="leave it out",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSettings(Keyed):
    """What an engine is started with; None: not stated. graphs: "off" (no graphs), "decode" (steps without prompts),
    "piecewise" (all steps), or the most tokens of a step with prompts that is a graph; interval: steps between two
    looks for new requests; wait: steps that a first prompt waits for others; balance: steps after which ranks of
    data-parallel attention no longer wait until each has a prompt; moe: kernels of the experts; budget: prompt tokens
    of a step at most; memory: share of the memory that the engine takes; redundant_experts: copies of experts of a
    layer, which are placed by load (0: placed by load, without copies)."""

    KEYS = "graphs? interval? wait? balance? moe? budget? memory? redundant_experts?"

    graphs: str | int | None = None
    interval: int | None = None
    wait: int | None = None
    balance: int | None = None
    moe: str | None = None
    budget: float | None = None
    memory: float | None = None
    redundant_experts: int | None = None

    @classmethod
    def of(cls, given: Mapping[str, object]) -> LaunchSettings:
        """The settings among the fields of a plan, each read by `read_setting`. Raises UserError."""
        stated = {n: given[n] for n in SETTING_NAMES if given.get(n) is not None}
        return cls(**{n: read_setting(n, v, where=f"plan.{n}") for n, v in stated.items()})  # type: ignore[arg-type]

    def __str__(self) -> str:
        """ "graphs=piecewise interval=10"; empty where nothing is stated."""
        said = {name: f"{v:g}" if isinstance(v, float) else v for name, v in self.to_dict().items()}
        return " ".join(f"{name}={v}" for name, v in said.items())


NOTHING_STATED = LaunchSettings()
"""The settings where the plan states none."""
