"""A terminal, a pipe, a full disk: what a command says there. Terminals are pseudo-terminals."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mowich import cli
from mowich import progress as course
from mowich.cli import output
from mowich.show.serve import FRONT_TITLE

SERVE = ["plan", "llama-3.1-8b", "--serve", "--isl", "2k", "--osl", "200", "--on", "h100:8", "--top", "2"]


class Screen(io.StringIO):
    """A stderr that is a terminal."""

    def isatty(self) -> bool:
        return True


@contextmanager
def shown(monkeypatch: pytest.MonkeyPatch, *, quiet: bool = False, terminal: bool = True) -> Iterator[io.StringIO]:
    screen = Screen() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(output, "QUIET_S", 0.02)
    monkeypatch.setenv("TERM", "xterm")
    with output.progress(quiet) as line:
        line("searching")
        for _ in course.steps(range(6), "drawing prices"):
            course.tell("solving")
            time.sleep(0.03)
        yield screen


def test_what_takes_long_says_how_fast_it_is_and_how_long_it_still_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    with shown(monkeypatch) as screen:
        pass
    said = screen.getvalue()
    assert "drawing prices, 3 of 6, " in said
    assert "/s, 0 s left (solving)" in said
    assert said.endswith("\r")  # and nothing of it stays


@pytest.mark.parametrize(("quiet", "terminal"), [(True, True), (False, False)])
def test_neither_a_pipe_nor_quiet_hears_of_it(monkeypatch: pytest.MonkeyPatch, quiet: bool, terminal: bool) -> None:
    with shown(monkeypatch, quiet=quiet, terminal=terminal) as screen:
        pass
    assert screen.getvalue() == ""


def test_loops_within_loops_have_levels_and_end_them() -> None:
    heard: list[tuple[int, str, int, int]] = []
    with course.listening(lambda *said: heard.append(said)):
        with course.course(2) as begin:
            begin("training")
            assert list(course.steps(["a"], "searching {}")) == ["a"]
            begin("serving")
        course.tell("after")
    assert heard == [
        (0, "training", 0, 2),
        (1, "searching a", 0, 1),
        (1, "", 1, 1),
        (0, "serving", 1, 2),
        (0, "", 2, 2),
        (0, "after", 0, 0),
    ]
    course.tell("nobody listens")
    assert len(heard) == 6


def test_a_chart_is_drawn_in_a_pipe_where_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*SERVE, "--quiet"]) == 0
    assert FRONT_TITLE not in capsys.readouterr().out
    assert cli.run([*SERVE, "--quiet", "--chart", "--legend", "--plain"]) == 0
    out = capsys.readouterr().out
    assert FRONT_TITLE in out
    assert "Plans in words" in out
    assert out.isascii()


def mowich(words: str, **streams: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        [sys.executable, "-m", "mowich", *words.split()], text=True, check=False, timeout=120, **streams
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full disk here")
@pytest.mark.parametrize("words", ["", "facts list chips", "model llama-3.1-8b --json", "--help"])
def test_a_full_disk_is_one_line_and_no_bug(words: str) -> None:
    with open("/dev/full", "w") as full:
        said = mowich(words, stdout=full, stderr=subprocess.PIPE)
    assert said.returncode == 2
    assert said.stderr.splitlines() == [
        "error: the output cannot be written (No space left on device); make room, or write elsewhere"
    ]


@pytest.mark.skipif(os.name == "nt", reason="a shell of its own")
def test_closed_streams_and_closed_pipes_are_no_bugs() -> None:
    run = f"{sys.executable} -m mowich facts list chips"
    for shell in (f"{run} >&-", f"{run} 2>&-", f"{run} | head -1 >/dev/null; exit ${{PIPESTATUS[0]}}"):
        said = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False, timeout=120)
        assert (said.returncode, said.stderr) == (0, ""), shell
