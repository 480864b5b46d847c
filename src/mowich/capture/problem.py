"""What the exporter refuses, as one line. Exit codes are those of the program (`mowich.errors`), which this package
does not import."""

from __future__ import annotations

EXIT_BAD_INPUT = 2
EXIT_CHECK_FAILED = 5
EXIT_BUG = 70


class CaptureError(Exception):
    """What cannot be captured. what: what is wrong; where: the place as the user knows it; given, allowed, fix: as in
    the program's other errors; code: exit code.

    >>> str(CaptureError("no such module", where="my_model.py:build", fix="name a file or a module"))
    'my_model.py:build: no such module; name a file or a module'
    """

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        given: object = None,
        allowed: str | None = None,
        fix: str | None = None,
        code: int = EXIT_BAD_INPUT,
    ) -> None:
        self.code = code
        text = f"{where}: {what}" if where else what
        text += f", got {given!r}" if given is not None else ""
        text += f"; allowed: {allowed}" if allowed else ""
        text += f"; {fix}" if fix else ""
        super().__init__(one_line(text))


def one_line(text: str, most: int = 1000) -> str:
    """A text on one line, without characters that a terminal obeys.

    >>> one_line("two\\n  lines")
    'two lines'
    """
    words = " ".join(text.split())
    plain = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in words)
    return plain if len(plain) <= most else f"{plain[: most // 2]}...{plain[-most // 2 :]}"
