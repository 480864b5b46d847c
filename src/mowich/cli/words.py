"""Words of other programs (vLLM, SGLang, AIConfigurator, Megatron...) on our command line, from words.yaml: a word that
means one thing of ours is read as that, any other is led to what to write here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from pathlib import Path

from mowich.errors import did_you_mean


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherWord:
    """A word of another program. taken: forms that it is read as; told: what to write in its place; values: its
    values -> ours (empty: any value, as it is)."""

    taken: Sequence[str] = ()
    told: Sequence[str] = ()
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerbOptions:
    """What a verb has on the command line. flags: its options; valued: those that take a value; has_model: whether the
    model is an argument."""

    flags: frozenset[str]
    valued: frozenset[str] = frozenset()
    has_model: bool = False

    def has(self, form: str) -> bool:
        """Whether the verb takes what a form says: "--isl {N}", "--set plan.tp={N}", "{MODEL}"."""
        flag, _, rest = form.partition(" ")
        if not flag.startswith("--"):
            return self.has_model if flag == _MODEL else True
        plans = not rest.startswith("plan.") or bool({"--train", "--vary"} & self.flags)
        return flag in self.flags and plans

    def takes_words(self) -> bool:
        """Whether the verb takes degrees of a plan as other programs call them: what its help tells."""
        return self.has("--set plan.tp={N}")


_MODEL = "{MODEL}"
_PLACE = re.compile(r"\{([\w.]+)\}")


@cache
def other_words() -> Mapping[str, OtherWord]:
    """Every word, without its dashes."""
    from mowich.files import shipped_yaml

    found = shipped_yaml(Path(__file__).with_name("words.yaml"))
    return {word: OtherWord(**entry) for word, entry in found.items()}


def plain_word(typed: str) -> str:
    """A word as words.yaml writes it: "--total_gpus=8" is "total-gpus"."""
    return typed.partition("=")[0].lstrip("-").casefold().replace("_", "-")


def in_our_words(args: Sequence[str], verb: VerbOptions) -> tuple[list[str], list[str]]:
    """The arguments with every word that is taken in our words, and what to say of each."""
    out: list[str] = []
    said: list[str] = []
    rest = iter(args)
    for arg in rest:
        flag, equals, value = arg.partition("=")
        if arg == "--":
            return [*out, arg, *rest], said
        if flag in verb.flags or not _is_option(arg):
            out.append(arg)
            if arg in verb.valued:  # what follows is its value, whatever it looks like
                out += _next(rest)
            continue
        entry = other_words().get(plain_word(flag))
        form = next((f for f in entry.taken if verb.has(f)), None) if entry is not None else None
        if entry is None or form is None:
            out.append(arg)
            continue
        given = [value] if equals else _next(rest)
        ours = [entry.values.get(v, None if entry.values else v) for v in given]
        if not ours or ours[0] is None or _is_option(given[0]):
            out += [arg] if equals else [arg, *given]
            continue
        made = [_PLACE.sub(lambda _, to=ours[0]: to, part) for part in form.split(" ")]  # type: ignore[misc]
        out += made
        said.append(f"{flag} {given[0]} is {'the model' if form == _MODEL else ' '.join(made)} here")
    return out, said


def _next(rest: Iterator[str]) -> list[str]:
    """The next argument, where there is one."""
    return list(islice(rest, 1))


def _is_option(arg: str) -> bool:
    """Whether an argument is the name of an option: "-1" is a number."""
    return arg[:1] == "-" and not arg[1:2].isdigit() and arg != "-"


def option_hint(given: str, verb: VerbOptions, typed: Sequence[str] = ()) -> tuple[str, str | None]:
    """An option that a verb lacks, as it was typed, and what stands for it: a word of another program in ours, else the
    closest option of ours."""
    # the parser takes "-dp" for "-d"
    given = next((arg.partition("=")[0] for arg in typed if arg.startswith(given) and arg[:2] != "--"), given)
    word = plain_word(given)
    entry = other_words().get(word)
    if entry is not None:
        for form in (*entry.told, *entry.taken):
            if verb.has(form):
                return given, f"here: {_filled(form, _value_of(given, typed), entry)}"
    hint = did_you_mean(word, [flag.lstrip("-") for flag in verb.flags], cutoff=_ALIKE)
    return given, hint and hint.replace("'", "'--", 1)


def _value_of(given: str, typed: Sequence[str]) -> str | None:
    """The value that was typed after an option."""
    for place, arg in enumerate(typed):
        flag, equals, value = arg.partition("=")
        if flag == given:
            after = value if equals else typed[place + 1] if place + 1 < len(typed) else ""
            return after if after and len(after) <= _LONGEST and not _is_option(after) else None
    return None


def _filled(form: str, value: str | None, entry: OtherWord) -> str:
    """A form with the value in its place; with its example where there is none, or none of ours."""
    ours = entry.values.get(value) if value is not None and entry.values else value
    return _PLACE.sub(lambda place: ours or place[1], form)


_ALIKE = 0.7
"""How alike an option has to be that is taken for a slip of the pen: "rate" is not "train"."""
_LONGEST = 40
"""Most characters of a value that is told again."""
