"""What a user sees: results on stdout in the form asked for, progress, notes and errors on stderr."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mowich.errors import UserError

if TYPE_CHECKING:
    from mowich.show.table import Style


class Progress:
    """One line on stderr, only on a terminal and only after half a second."""

    def __init__(self, quiet: bool) -> None:
        self._on = sys.stderr.isatty() and not quiet
        self._start = time.monotonic()
        self._text = ""
        self._width = 0
        self._timer = threading.Timer(0.5, self._draw) if self._on else None
        if self._timer:
            self._timer.daemon = True
            self._timer.start()

    def __call__(self, text: str) -> None:
        self._text = text
        if self._on and time.monotonic() - self._start > 0.5:
            self._draw()

    def _draw(self) -> None:
        if self._text:
            sys.stderr.write("\r" + self._text.ljust(self._width))
            sys.stderr.flush()
            self._width = max(self._width, len(self._text))

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()
        if self._width:
            sys.stderr.write("\r" + " " * self._width + "\r")
            sys.stderr.flush()
            self._width = 0
        self._text = ""


@contextmanager
def progress(quiet: bool) -> Iterator[Progress]:
    line = Progress(quiet)
    try:
        yield line
    finally:
        line.close()


def noter(quiet: bool) -> Callable[[str], None]:
    """A function that says something on stderr, unless quiet."""
    return (lambda text: None) if quiet else (lambda text: print(f"note: {text}", file=sys.stderr))


def style(plain: bool) -> Style:
    from dataclasses import replace

    from mowich.show.table import style_for_stdout

    found = style_for_stdout(plain=plain)
    if sys.stdout.isatty() and not plain:
        import shutil

        found = replace(found, width=max(80, min(160, shutil.get_terminal_size((100, 24)).columns)))
    return found


def emit(
    result: Mapping[str, Any],
    text: Callable[[], str],
    *,
    as_json: bool,
    as_csv: bool,
    rows: str,
    out: Path | None = None,
    inputs: Mapping[str, Any] | None = None,
) -> None:
    """Print a result in the form asked for, and save it when asked."""
    from mowich.show.json import to_json

    if out is not None:
        try:
            out.write_text(to_json(result, inputs=inputs), encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot be written ({error.strerror})", field=f"out {out}") from error
    if as_json:
        sys.stdout.write(to_json(result, inputs=inputs))
    elif as_csv:
        from mowich.show.csv import to_csv

        sys.stdout.write(to_csv(result[rows]))
    else:
        sys.stdout.write(text())


def complain(text: str) -> None:
    """Errors on stderr, one line each."""
    for line in text.splitlines():
        print(f"error: {line}", file=sys.stderr)
