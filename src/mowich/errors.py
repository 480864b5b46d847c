"""Errors a user can act on, and the exit codes of the command line.

A `UserError` is one clear line: where, what was given, what is allowed, what to do. Several are
collected into a `UserErrors` so that a file with five mistakes reports five, not one.
Anything else that escapes is our bug (exit code 70).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import ParamSpec, TypedDict, TypeVar, Unpack

_P = ParamSpec("_P")
T = TypeVar("T")

EXIT_OK = 0
EXIT_BAD_INPUT = 2
EXIT_INFEASIBLE = 3
EXIT_LIMIT_BROKEN = 4
EXIT_CHECK_FAILED = 5
EXIT_BUG = 70
EXIT_INTERRUPTED = 130


MAX_GIVEN = 160
"""Characters of a value, or of a name, that an error repeats."""

MAX_WHERE = 600
"""Most characters of a place that are shown: a path is long, and a wrong word may be longer."""

_CONTROL = {code: repr(chr(code))[1:-1] for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)}
"""What would break a line, or colour a terminal."""


def shorten(text: str, most: int = MAX_GIVEN) -> str:
    """At most `most` characters of a text: its beginning and its end.

    >>> shorten("abcdefghijklmnop", 11)
    'abcd...mnop'
    """
    half = (most - 3) // 2
    return text if len(text) <= most else f"{text[:half]}...{text[-half:]}"


_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Characters that a terminal obeys and does not show, but for tabs and ends of lines."""


def visible(text: str) -> str:
    """A text of somebody else's file as a terminal may get it: what a terminal would obey is spelt.

    >>> visible("a\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    return _UNSEEN.sub(lambda found: ascii(found[0])[1:-1], text)


MAX_SAID = 1000
"""Characters of an exception of somebody else's code that an error repeats."""


def words_of(error: BaseException) -> str:
    """What an exception says, on one line; "" where its own code cannot say it.

    >>> words_of(ValueError("two\\n  lines"))
    'two lines'
    """
    try:
        return shorten(" ".join(str(error).split()), MAX_SAID)
    except KeyboardInterrupt:
        raise
    except BaseException:
        return ""


def _as_given(value: object) -> str:
    """A value as Python writes it; its type where its own code cannot."""
    try:
        return shorten(repr(value))
    except Exception:
        return f"<{type(value).__name__}>"


class ErrorDetails(TypedDict, total=False):
    """What a `UserError` says beside what is wrong and where, as keywords that others hand on to it."""

    given: object
    allowed: str | Sequence[str] | None
    fix: str | None
    code: int


class PlacedDetails(ErrorDetails, total=False):
    """`ErrorDetails`, and the place of the mistake."""

    where: str | None
    field: str | None


class UserError(Exception):
    """Bad input. `what` says what is wrong, `where` is the place as the user knows it (file:line, an option), `field`
    the field of a request, which each edge spells in its own way, `given` the value received, `allowed` what would be
    accepted, `fix` the next thing to try.

    Units: none.

    Example:
        >>> import mowich
        >>> try:
        ...     mowich.system("trn3-gen3")
        ... except mowich.UserError as error:
        ...     print(error.fix)
        did you mean 'trn3-gen2'?
    """

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        field: str | None = None,
        given: object = None,
        allowed: str | Sequence[str] | None = None,
        fix: str | None = None,
        code: int = EXIT_BAD_INPUT,
    ) -> None:
        self.what = what
        self.where = where
        self.field = field
        self.given = given
        self.allowed = allowed
        self.fix = fix
        self.code = code
        super().__init__(what)

    def __str__(self) -> str:
        return self.line()

    def line(self) -> str:
        """The whole error as one line."""
        where = shorten(self.where or self.field or "", MAX_WHERE)
        text = f"{where}: {self.what}" if where else self.what
        if self.given is not None:
            text += f", got {_as_given(self.given)}"
        if self.allowed is not None:
            allowed = self.allowed if isinstance(self.allowed, str) else ", ".join(map(str, self.allowed))
            text += f"; allowed: {allowed}"
        if self.fix:
            text += f"; {self.fix}"
        return text.translate(_CONTROL)


class UserErrors(UserError):
    """Several `UserError`s reported together, in the order in which they were found."""

    def __init__(self, errors: Iterable[UserError]) -> None:
        self.errors = tuple(errors)
        if not self.errors:
            raise ValueError("UserErrors needs at least one error")
        super().__init__(self.errors[0].what, code=self.errors[0].code)

    def __reduce__(self) -> tuple[object, ...]:
        """For another process: what an exception is made of again would be the text of the first."""
        return type(self), (self.errors,)

    def line(self) -> str:
        return "\n".join(error.line() for error in self.errors)


class ProblemList:
    """Collects `UserError`s so that one run reports every mistake."""

    def __init__(self) -> None:
        self.found: list[UserError] = []

    @contextmanager
    def watch(self, where: str | None = None) -> Iterator[None]:
        """Keep a UserError of the block instead of raising it; `where` is said of those that do not say it
        themselves."""
        try:
            yield
        except UserErrors as errors:
            self.found += errors.errors
        except UserError as error:
            if error.field is None:
                error.where = error.where or where
            self.found.append(error)

    def add(self, what: str, **details: Unpack[PlacedDetails]) -> None:
        self.found.append(UserError(what, **details))

    def stop(self) -> None:
        """Raise what was found."""
        if self.found:
            raise self.found[0] if len(self.found) == 1 else UserErrors(self.found)


@contextmanager
def placed(where: str) -> Iterator[None]:
    """Say the place of what the block refuses."""
    try:
        yield
    except UserError as error:
        error.where = where
        raise


def or_infeasible(make: Callable[_P, T], *args: _P.args, **named: _P.kwargs) -> T | UserError:
    """What `make` gives, or the error where nothing fits (exit 3). Raises every other UserError.

    >>> or_infeasible(int, "7")
    7
    """
    try:
        return make(*args, **named)
    except UserError as error:
        if error.code != EXIT_INFEASIBLE:
            raise
        return error


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """`"did you mean 'x'?"` for the closest known word, or None when nothing is close. cutoff: how alike, 0 to 1.

    >>> did_you_mean("trn3-gen3", ["trn2", "trn3-gen2", "gb300"])
    "did you mean 'trn3-gen2'?"
    >>> did_you_mean("tiles", ["TILE"])
    "did you mean 'TILE'?"
    """
    if len(word) > MAX_GIVEN:  # no name is as long, and the search takes the square of the length
        return None
    folded = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(word.casefold(), [*folded], n=1, cutoff=cutoff)
    return f"did you mean '{folded[close[0]]}'?" if close else None


def unknown(
    kind: str, word: str, known: Iterable[str], *, where: str | None = None, field: str | None = None
) -> UserError:
    """The error for a name that is not in a list: says the list and the closest name."""
    names = sorted(known)
    return UserError(
        f"unknown {kind} '{shorten(word)}'",
        where=where,
        field=field,
        allowed=names or "none",
        fix=did_you_mean(word, names),
    )
