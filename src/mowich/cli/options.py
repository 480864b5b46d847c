"""The command line of a verb, made from its schema: options with their help and completion, reading, errors.

Every value stays the text that was typed: the reader of the schema judges it, as it does for Python and HTTP.
Completion reads local data only.
"""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import typer
import typer.core
from typer.models import CommandInfo

from mowich.cli.words import VerbOptions
from mowich.requests.common import Request
from mowich.requests.fields import Edge, Field
from mowich.requests.schema import QuestionSource, Schema

HELP_FLAGS = ["-h", "--help"]
CONTEXT = {"help_option_names": HELP_FLAGS, "max_content_width": 100}
Q = TypeVar("Q", bound=Request)
A = TypeVar("A", bound=int | None)


def complete_model(incomplete: str) -> list[str]:
    """Built-in model names that start with what is typed."""
    from mowich.models import model_names

    return [n for n in model_names() if n.startswith(incomplete.casefold())]


def complete_systems(incomplete: str) -> list[str]:
    """System names, also behind a comma."""
    from mowich.facts import load_facts

    done, _, word = incomplete.rpartition(",")
    return [f"{done},{n}" if done else n for n in load_facts().ids("systems") if n.startswith(word.casefold())]


COMPLETE = {"model": complete_model, "systems": complete_systems}
_TYPES: dict[str, object] = {"flag": bool, "file": Path | None, "files": list[Path] | None, "texts": list[str] | None}
"""Kind of a field -> the type that the parser takes; others are text."""


def _type(field: Field[object]) -> object:
    found = _TYPES.get(field.kind, str | None)
    if not field.needs or not field.is_argument:  # the reader tells of an option that is needed, with all else
        return found
    return {"file": Path, "files": list[Path], "texts": list[str]}.get(field.kind, str)


def _bounds(field: Field[object]) -> str:
    """ "0<=x<=100000", "x>=0.1"."""

    def shown(x: float) -> str:
        return f"{x:.0f}" if field.kind == "count" else f"{x}"

    if field.low == -float("inf"):
        return f"x<={shown(field.high)}"
    if field.high == float("inf"):
        return f"x>={shown(field.low)}"
    return f"{shown(field.low)}<=x<={shown(field.high)}"


def _help(field: Field[object]) -> str | None:
    """The help of an option with its default and its bounds, as the parser would write them of a number."""
    more = ["required"] if field.needs else []
    more += [f"default: {field.shown}"] if field.shown else []
    more += [_bounds(field)] if field.tells_bounds else []
    return f"{field.help}  [{'; '.join(more)}]" if more else field.help or None


def _parameter(field: Field[object]) -> inspect.Parameter:
    """An argument or an option of the parser."""
    complete = COMPLETE.get(field.completes)
    if field.is_argument:
        info: object = typer.Argument(
            metavar=field.metavar, help=field.help or None, autocompletion=complete, show_default=False
        )
    else:
        flag = f"{field.flag}/{field.negative}" if field.negative else field.flag
        info = typer.Option(
            *(flag, field.short) if field.short else (flag,),
            metavar=field.metavar or None,
            help=_help(field),
            hidden=not field.is_listed,
            autocompletion=complete,
        )
    missing = field.default if field.kind == "flag" else None
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if field.needs and field.is_argument else missing,
        annotation=Annotated[_type(field), info],
    )


class VerbCall(Generic[Q]):
    """What the parser calls: reads what was typed, tells the notes, answers. Its parameters are made when the parser
    looks at them, as making those of all verbs takes longer than a page of help."""

    def __init__(self, schema: Schema[Q], answer: Callable[[Q], int | None]) -> None:
        self.options, self.schema, self._answer = schema_options(schema), schema, answer
        self.__name__, self.__doc__ = answer.__name__, schema.help

    def __call__(self, **given: object) -> int | None:
        request = self.schema.read(given, QuestionSource(edge=Edge.OPTION))
        if not request.form.quiet:
            for text in request.notes:
                print(f"note: {text}", file=sys.stderr)
        with self.schema.told(Edge.OPTION):
            return self._answer(request)

    @cached_property
    def __signature__(self) -> inspect.Signature:
        return inspect.Signature([_parameter(field) for field in self.schema.at(Edge.OPTION)])

    @property
    def __annotations__(self) -> dict[str, object]:  # type: ignore[override]
        return {name: parameter.annotation for name, parameter in self.__signature__.parameters.items()}


def schema_options(schema: Schema[object]) -> VerbOptions:
    """What a verb has on the command line."""
    fields = schema.at(Edge.OPTION)
    options = [field for field in fields if not field.is_argument]
    return VerbOptions(
        flags=frozenset(name for f in options for name in (f.flag, f.short, f.negative, *HELP_FLAGS) if name),
        valued=frozenset(name for f in options if f.kind != "flag" for name in (f.flag, f.short) if name),
        has_model=any(field.name == "model" for field in fields if field.is_argument),
    )


def _epilog(schema: Schema[object]) -> str | None:
    """What stands below the options: the example, and that words of other programs are taken."""
    said = [f"Example: {schema.example}"] if schema.example else []
    said += [_WORDS] if schema_options(schema).takes_words() else []
    return "\n\n".join(said) or None


_WORDS = "Words of vLLM, SGLang, AIConfigurator, Megatron too: mowich help how-to"


def verb(
    app: typer.Typer, schema: Schema[Q], command: str | None = None
) -> Callable[[Callable[[Q], A]], Callable[[Q], A]]:
    """Register the verb of a schema: what it decorates gets the request, prints the answer, and may give the exit code.
    command: its word where
    that is not the name of the function."""

    def register(answer: Callable[[Q], A]) -> Callable[[Q], A]:
        app.command(
            command,
            cls=Command,
            short_help=schema.short or None,
            epilog=_epilog(schema),
        )(VerbCall(schema, answer))
        return answer

    return register


def command_word(command: CommandInfo) -> str:
    """The word of a verb on the command line, without that of its group."""
    return command.name or (command.callback.__name__ if command.callback else "")


class _AsTyped:
    """What the parser makes of what was typed: nothing. Stands in the place of its own reading of values, which
    imports a library of models of data: most of what a page of help takes."""

    def coerce(self, value: object, param: Any, ctx: object) -> object:
        """The value; an option that may be given many times has a list of them, empty where it was not given."""
        if param.multiple or param.nargs == -1:
            return list(value) if isinstance(value, Sequence) else ()
        return value


def _as_typed(parameters: Iterable[Any]) -> list[Any]:
    """The same parameters, whose values stay the text that was typed."""
    out = list(parameters)
    for parameter in out:
        if hasattr(parameter, "get_runtime_param"):  # older releases read values without a library
            parameter.get_runtime_param = _AsTyped
    return out


class Command(typer.core.TyperCommand):
    """A verb whose values stay the text that was typed."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _as_typed(super().get_params(ctx))


class CommandGroup(typer.core.TyperGroup):
    """Verbs under one word, with options whose values stay the text that was typed."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _as_typed(super().get_params(ctx))


def listed(app: typer.Typer) -> typer.Typer:
    """The application without the parsers of its verbs: all that their list needs."""
    bare = copy.copy(app)
    bare.registered_commands = [copy.copy(command) for command in app.registered_commands]
    for command in bare.registered_commands:
        command.callback = _named(command.callback)
    bare.registered_groups = [copy.copy(group) for group in app.registered_groups]
    for group in bare.registered_groups:
        if group.typer_instance is not None:
            group.typer_instance = listed(group.typer_instance)
    return bare


def _named(callback: Callable[..., object] | None) -> Callable[[], None]:
    """A callback with the name and the help of another, and no parameters."""

    def nothing() -> None: ...

    nothing.__name__, nothing.__doc__ = getattr(callback, "__name__", ""), getattr(callback, "__doc__", "")
    return nothing
