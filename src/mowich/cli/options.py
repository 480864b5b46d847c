"""The command line of a verb, made from its schema: options with their help and completion, reading, errors.

Every value stays the text that was typed: the reader of the schema judges it, as it does for Python and HTTP.
Completion reads local data only.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from mowich.requests.common import Request
from mowich.requests.fields import Edge, Field
from mowich.requests.schema import Schema, Source

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
Q = TypeVar("Q", bound=Request)


def complete_model(incomplete: str) -> list[str]:
    """Built-in model names that start with what is typed."""
    from mowich.models import names

    return [n for n in names() if n.startswith(incomplete.casefold())]


def complete_systems(incomplete: str) -> list[str]:
    """System names, also behind a comma."""
    from mowich.facts import load

    done, _, word = incomplete.rpartition(",")
    return [f"{done},{n}" if done else n for n in load().ids("systems") if n.startswith(word.casefold())]


COMPLETE = {"model": complete_model, "systems": complete_systems}
TYPES: dict[str, Any] = {"flag": bool, "file": Path | None, "files": list[Path] | None, "texts": list[str] | None}
"""Kind of a field -> the type that the parser takes; others are text."""


def _type(field: Field[Any]) -> Any:
    found = TYPES.get(field.kind, str | None)
    if not field.needs or field.kind == "flag":
        return found
    return {"file": Path, "texts": list[str]}.get(field.kind, str)


def _bounds(field: Field[Any]) -> str:
    """ "0<=x<=100000", "x>=0.1"."""

    def shown(x: float) -> str:
        return f"{x:.0f}" if field.kind == "count" else f"{x}"

    if field.low == -float("inf"):
        return f"x<={shown(field.high)}"
    if field.high == float("inf"):
        return f"x>={shown(field.low)}"
    return f"{shown(field.low)}<=x<={shown(field.high)}"


def _help(field: Field[Any]) -> str | None:
    """The help of an option with its default and its bounds, as the parser would write them of a number."""
    more = [f"default: {field.shown}"] if field.shown else []
    more += [_bounds(field)] if field.tells_bounds else []
    return f"{field.help}  [{'; '.join(more)}]" if more else field.help or None


def _parameter(field: Field[Any]) -> inspect.Parameter:
    """An argument or an option of the parser."""
    complete = COMPLETE.get(field.completes)
    if field.is_argument:
        info: Any = typer.Argument(
            metavar=field.metavar, help=field.help or None, autocompletion=complete, show_default=False
        )
    else:
        flag = f"{field.flag}/{field.negative}" if field.negative else field.flag
        info = typer.Option(
            *(flag, field.short) if field.short else (flag,),
            metavar=field.metavar or None,
            help=_help(field),
            autocompletion=complete,
        )
    missing = field.default if field.kind == "flag" else None
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if field.needs else missing,
        annotation=Annotated[_type(field), info],
    )


def verb(
    app: typer.Typer, schema: Schema[Q], command: str | None = None
) -> Callable[[Callable[[Q], None]], Callable[[Q], None]]:
    """Register the verb of a schema: what it decorates gets the request, and prints the answer. command: its word where
    that is not the name of the function."""

    def register(answer: Callable[[Q], None]) -> Callable[[Q], None]:
        def run(**given: object) -> None:
            request = schema.read(given, Source(edge=Edge.OPTION))
            if not request.form.quiet:
                for text in request.notes:
                    print(f"note: {text}", file=sys.stderr)
            with schema.told(Edge.OPTION):
                answer(request)

        parameters = [_parameter(field) for field in schema.at(Edge.OPTION)]
        run.__name__, run.__doc__ = answer.__name__, schema.help
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        app.command(
            command, short_help=schema.short or None, epilog=f"Example: {schema.example}" if schema.example else None
        )(run)
        return answer

    return register
