"""What a user sees: results on stdout in the form asked for, progress, notes and errors on stderr."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from mowich.errors import visible
from mowich.kept import keep_last
from mowich.progress import IS_QUIET, listening
from mowich.requests.rooms import room_names
from mowich.shown import Result
from mowich.writing import write_file

if TYPE_CHECKING:
    from mowich.models.model import Model
    from mowich.requests.common import Form
    from mowich.show.page import Page
    from mowich.show.render.terminal import Style


QUIET_S = 0.5
"""Seconds before anything is said of what goes on, and between what is said of it."""


class _Piece:
    """What one level of the work is at. first: how much was done when its count began."""

    def __init__(self, what: str, done: int, total: int) -> None:
        self.what, self.done, self.total, self.first, self.start = what, done, total, done, time.monotonic()

    def words(self, now: float) -> str:
        """ "drawing prices, 12 of 30, 8.1/s, 2 s left"; what has no count: for how long it goes on."""
        took = now - self.start
        if not 0 <= self.done <= self.total or not self.total:
            return f"{self.what}, {duration(took)}"
        said = f"{self.what}, {self.done:,} of {self.total:,}"
        if self.done <= self.first or took <= 0:
            return said
        rate = (self.done - self.first) / took
        return f"{said}, {rate:.3g}/s, {duration((self.total - self.done) / rate)} left"


class Progress:
    """One line on stderr that says what goes on, how fast, and how long it still takes: on a terminal only, without
    --quiet, and only after half a second. Listens to `mowich.progress`."""

    def __init__(self, quiet: bool) -> None:
        self._on = sys.stderr.isatty() and not quiet and os.environ.get("TERM") != "dumb"
        self._pieces: dict[int, _Piece] = {}
        self._width = 0
        self._ended = threading.Event()
        self._lock = threading.Lock()
        if self._on:
            threading.Thread(target=self._tick, daemon=True).start()

    def __call__(self, text: str) -> None:
        """Name what goes on where it does not name itself."""
        self.heard(-1, text, 0, 0)

    def heard(self, level: int, what: str, done: int, total: int) -> None:
        """Take what the work says of itself."""
        if not self._on:
            return
        with self._lock:
            for deeper in [at for at in self._pieces if at > level]:
                del self._pieces[deeper]
            known = self._pieces.get(level)
            if not what:
                self._pieces.pop(level, None)
            elif known is not None and known.total == total and (done >= known.done if total else known.what == what):
                known.what, known.done = what, done
            else:
                self._pieces[level] = _Piece(what, done, total)

    def _tick(self) -> None:
        while not self._ended.wait(QUIET_S):
            with self._lock:
                self._draw()

    def _draw(self) -> None:
        """The outermost piece that is counted, and what goes on in it; where none is, what was said first."""
        now, pieces = time.monotonic(), [piece for _, piece in sorted(self._pieces.items())]
        shown = pieces[next((i for i, piece in enumerate(pieces) if piece.total > 1), 0) :]
        if not shown:
            return
        text = shown[0].words(now)
        room = _columns() - 1
        for inner in shown[1:]:
            more = f"{text} ({inner.what})"
            text = more if len(more) <= room and inner.what != shown[0].what else text
        text = text[:room]
        sys.stderr.write("\r" + text.ljust(self._width))
        sys.stderr.flush()
        self._width = len(text)

    def close(self) -> None:
        self._ended.set()
        with self._lock:
            if self._width:
                sys.stderr.write("\r" + " " * self._width + "\r")
                sys.stderr.flush()
            self._width, self._pieces = 0, {}


def _columns() -> int:
    """Characters of a line of the terminal behind stderr."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _NARROW
    except (OSError, ValueError):
        return _NARROW


_NARROW = 80
"""Characters of a line where the terminal does not say."""


def duration(seconds: float) -> str:
    """ "1.5 h", "12 s".

    >>> duration(5400.0), duration(12.3), duration(0.25)
    ('1.5 h', '12 s', '0 s')
    """
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


@contextmanager
def progress(quiet: bool) -> Iterator[Progress]:
    """Show on stderr what the block says of itself."""
    line = Progress(quiet)
    is_quiet = IS_QUIET.set(quiet)
    try:
        with listening(line.heard):
            yield line
    finally:
        IS_QUIET.reset(is_quiet)
        line.close()


def noter(quiet: bool) -> Callable[[str], None]:
    """A function that says something on stderr, unless quiet."""
    return (lambda text: None) if quiet else (lambda text: print(f"note: {visible(text)}", file=sys.stderr))


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
    headed: bool = False,
) -> None:
    """Print a result in the form asked for, and save it when asked. inputs: what else is needed to run it again; model,
    seconds: what it was made of, and how long that took; after: more text, below that of the page; text: in the place
    of a page, for an answer that has none; page: where it is not made of the JSON alone; headed: the headline of the
    page stands above the text."""
    from mowich.show.heard import heard_lines, stale_lines
    from mowich.show.json import to_json, with_inputs

    if form.as_json or form.as_csv or text is not None or page is not None:  # a page of the JSON has them
        for line in (*heard_lines(result), *stale_lines(result)):
            noter(form.quiet)(line)
    if form.out is not None:
        write_file(form.out, to_json(result, inputs=inputs), field=f"out {form.out}")
    if result.get("schema") in _KEPT:
        keep_last(to_json(result, inputs=inputs))
    if form.as_json or text is not None:
        above = _headline(with_inputs(result, inputs), form) if headed else ""
        sys.stdout.write(above)
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

    how = replace(style(form.plain), legend=form.legend)
    sys.stdout.write(terminal(shown, how) + ("" if after is None else after(how)))


def _headline(result: Result, form: Form) -> str:
    """The headline of a page, with an empty line below it."""
    from mowich.show.page import Run
    from mowich.show.render.terminal import headline_lines
    from mowich.show.verbs import page_of

    lines = headline_lines(page_of(result, Run()), style(form.plain))
    return "".join(f"{line}\n" for line in [*lines, ""])


_KEPT = {
    f"mowich/{verb}@1"
    for verb in (
        *("compare", "plan", "rates", "fit", "sweep", "brief", "traffic", "rl", "forward", "fleet"),
        *("validate", "calibrate", "kernel", "kernel-layer"),
        *room_names(),
    )
}
"""Kinds of results that `mowich explain last` may be asked of."""


def complain(text: str) -> None:
    """Errors on stderr, one line each."""
    with suppress(OSError):  # where it cannot be written, nothing can be said
        for line in visible(text).splitlines():
            print(f"error: {line}", file=sys.stderr)
