"""What a user sees: results on stdout in the form asked for, progress, notes and errors on stderr."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mowich.errors import UserError
from mowich.shown import Result

if TYPE_CHECKING:
    from mowich.models.model import Model
    from mowich.requests.common import Form
    from mowich.show.page import Page
    from mowich.show.render.terminal import Style


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
    from mowich.show.render.terminal import style_for_stdout

    return style_for_stdout(plain=plain)


def emit(
    result: Result,
    form: Form,
    *,
    inputs: Mapping[str, object] | None = None,
    model: Model | None = None,
    seconds: float | None = None,
    after: Callable[[Style], str] | None = None,
    text: Callable[[], str] | None = None,
    page: Callable[[], Page] | None = None,
) -> None:
    """Print a result in the form asked for, and save it when asked. inputs: what else is needed to run it again; model,
    seconds: what it was made of, and how long that took; after: more text, below that of the page; text: in the place
    of a page, for an answer that has none; page: where it is not made of the JSON alone."""
    from mowich.show.json import to_json, with_inputs

    if form.out is not None:
        try:
            form.out.write_text(to_json(result, inputs=inputs), encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot be written ({error.strerror})", field=f"out {form.out}") from error
    if form.as_json or text is not None:
        sys.stdout.write(to_json(result, inputs=inputs) if form.as_json or text is None else text())
        return
    from mowich.show.page import Run
    from mowich.show.verbs import page_of

    run = Run(model=model, seconds=seconds, saved=str(form.out or ""))
    shown = page_of(with_inputs(result, inputs), run) if page is None else page()
    if form.as_csv:
        from mowich.show.render.csv import csv_of

        sys.stdout.write(csv_of(shown))
        return
    from mowich.show.render.terminal import terminal

    how = style(form.plain)
    sys.stdout.write(terminal(shown, how) + ("" if after is None else after(how)))


def complain(text: str) -> None:
    """Errors on stderr, one line each."""
    for line in text.splitlines():
        print(f"error: {line}", file=sys.stderr)
