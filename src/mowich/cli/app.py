"""The application that the verbs register with, and the one place that turns exceptions into exit codes."""

from __future__ import annotations

import copy
import errno
import gc
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar, copy_context
from typing import Annotated, Any, NoReturn, Protocol

import typer
from typer.models import CommandInfo

from mowich.cli.help import help_of
from mowich.cli.options import CONTEXT, CommandGroup, VerbCall, command_word, listed
from mowich.cli.output import complain
from mowich.cli.verbs import ALL_VERBS, load_verb
from mowich.cli.words import VerbOptions, in_our_words, option_hint
from mowich.errors import EXIT_BAD_INPUT, EXIT_BUG, EXIT_INTERRUPTED, EXIT_OK, UserError, did_you_mean, words_of
from mowich.requests.jobs import EXAMPLE
from mowich.version import VERSION

_START = """\
Trainium 3 in software, beside the machines it competes with. To begin, paste:

  mowich compare llama-3.1-405b --train --tokens 1T --seq 8192 --batch 512seqs --on trn3,ironwood,gb300 --chips 4096

then `mowich explain`, `fit`, `plan`, `traffic`, `fleet`, `kernel`; every command: mowich --help
"""
"""What `mowich` alone says."""

HELP = "Trainium 3 in software, beside the machines it competes with: what fits, how fast, what it costs, and why."

GC_OBJECTS = 100_000
"""Objects made before Python looks for rings of them."""

IS_DEBUG: ContextVar[bool] = ContextVar("mowich_debug", default=False)
"""Whether errors of this command line are shown with their traceback."""

app = typer.Typer(
    name="mowich",
    cls=CommandGroup,
    help=HELP,
    epilog=f"Example: {EXAMPLE}",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=CONTEXT,
)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="With any verb: show the traceback of an error.")] = False,
) -> None:
    if version:
        print(f"mowich {VERSION}")
        raise typer.Exit


class _Usage(Protocol):
    """A usage error of the parser, wherever typer keeps its class."""

    def format_message(self) -> str: ...


def usage_line(error: _Usage, typed: Sequence[str] = ()) -> str:
    """A usage error of the parser as one line, with the closest flag or verb. typed: the command line."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "mowich"
    text = " ".join(error.format_message().split()).split(" (Possible options")[0].split(" Did you mean")[0].rstrip(".")
    given = getattr(error, "option_name", None)
    if given and context:
        parameters = context.command.params
        known = (flag for p in parameters for flag in (*p.opts, *p.secondary_opts))
        own = VerbOptions(
            flags=frozenset(flag for flag in known if flag.startswith("-")),
            has_model=any(p.name == "model" for p in parameters),
        )
        whole, hint = option_hint(given, own, typed)
        text = text.replace(given, whole)
    elif text.startswith("No such command") and context:
        given = text.split("'")[1] if "'" in text else ""
        hint = did_you_mean(given, context.command.list_commands(context))
    else:
        hint = None
    text = text[:1].lower() + text[1:]
    return f"{text}; {hint or 'see ' + path + ' --help'}"


def _only(words: Sequence[str]) -> typer.Typer:
    """The application with nothing but the verb that `words` begin with, alone or in its group: making the parsers of
    all takes longer than a verb needs. Without parsers for the list of verbs; whole for anything else."""
    load_verb(app, words)
    if list(words) in (["--help"], ["-h"]):
        return listed(app)
    found = _registered(words)
    one = copy.copy(app)
    if found is not None:
        one.registered_commands, one.registered_groups = [found], []
        return one
    for group in app.registered_groups:
        within = group.typer_instance
        if within is not None and words[:1] == [group.name] and (found := _registered(words[1:], within)) is not None:
            alone, own = copy.copy(group), copy.copy(within)
            own.registered_commands, alone.typer_instance = [found], own
            one.registered_commands, one.registered_groups = [], [alone]
            return one
    return app


def _registered(words: Sequence[str], within: typer.Typer = app) -> CommandInfo | None:
    """The verb that a command line begins with; None where it begins with a group of verbs, or with none. within: a
    group."""
    named = (command for command in within.registered_commands if words[:1] == [command_word(command)])
    return next(named, None)


def _in_our_words(words: Sequence[str]) -> Sequence[str]:
    """A command line whose words of other programs are ours; what was read as what is told, unless it is quiet."""
    found = _registered(words)
    if found is None or not isinstance(found.callback, VerbCall):
        return words
    ours, said = in_our_words(words[1:], found.callback.options)
    if not {"-q", "--quiet"} & set(ours):
        for text in said:
            print(f"note: {text}", file=sys.stderr)
    return [words[0], *ours]


def run(args: Sequence[str]) -> int:
    """Run one command line; the exit code."""
    words = [w for w in args if w != "--debug"]
    debug = len(words) < len(args)

    def answer() -> object:
        IS_DEBUG.set(debug)
        if words[:1] == ["help"] and not {"-h", "--help"} & set(words[1:]):
            return help_of(words[1:], typed, ALL_VERBS)
        if not words and "_MOWICH_COMPLETE" not in os.environ:
            return sys.stdout.write(_START) and EXIT_OK
        return typed(words[1:] if words[:1] == ["help"] else words)

    def typed(words: Sequence[str]) -> object:
        command = typer.main.get_command(_only(words))
        return command.main(_in_our_words(words), prog_name="mowich", standalone_mode=False)

    # in a context of its own: what an option sets (--quiet) ends with this command line
    return outcome(lambda: copy_context().run(answer), debug, words)


def outcome(answer: Callable[[], object], debug: bool, typed: Sequence[str] = ()) -> int:
    """The exit code of what a command does: what it gives where that is a number. Errors become lines on stderr. typed:
    the command line, for the words of an error."""
    usage: Any = typer.BadParameter.__mro__[1]  # UsageError and its base, wherever typer keeps click
    base: Any = usage.__mro__[1]
    try:
        code = answer()
        sys.stdout.flush()
        if code == EXIT_INTERRUPTED:  # typer makes this of Ctrl-C, without a word
            print("interrupted", file=sys.stderr)
        return code if isinstance(code, int) else EXIT_OK
    except UserError as error:
        if debug:
            raise
        complain(error.line())
        return error.code
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _to_nowhere()
        return EXIT_OK
    except base as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message())
            return EXIT_BAD_INPUT
        if debug:
            raise
        complain(usage_line(error, typed))
        return EXIT_BAD_INPUT
    except MemoryError as error:
        if debug:
            raise
        complain(f"this machine has no memory for the answer: {words_of(error) or 'MemoryError'}; ask for less")
        return EXIT_BAD_INPUT
    except OSError as error:
        if debug or error.errno not in _NO_ROOM:
            return _bug(error, debug)
        _to_nowhere()  # what is left is not written when the program ends
        complain(f"the output cannot be written ({error.strerror}); make room, or write elsewhere")
        return EXIT_BAD_INPUT
    except Exception as error:
        return _bug(error, debug)


_NO_ROOM = {getattr(errno, name, errno.ENOSPC) for name in ("ENOSPC", "EDQUOT", "EFBIG")}
"""A disk that is full, a share of it that is used up, a file that has grown as far as it may."""


def _to_nowhere() -> None:
    """Let go of what stdout still holds: nobody can take it."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _bug(error: Exception, debug: bool) -> int:
    """Say that an exception is ours."""
    if debug:
        raise error
    said = f"{type(error).__name__}: {words_of(error)}"
    complain(f"this is a bug in mowich {VERSION}: {said}; --debug shows the traceback")
    return EXIT_BUG


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Entry point."""
    # most of what a command makes lives until it ends: looking through it for rings takes 8% of a comparison
    gc.set_threshold(GC_OBJECTS)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the caller has closed it
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))
    sys.exit(run(sys.argv[1:] if args is None else args))
