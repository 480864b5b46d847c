"""How a tool is asked: a file of this folder runs as a process of the tool's own environment.

It reads rows as JSON from its standard input and writes one JSON object: version, answers, reasons, cpu_s.

Standard library alone: the environment of a tool need not have Mowich. An adapter has `NAME`, `NEEDS` (what must be
installed or given), `version(options)` and `answer(rows, options)`, and ends with `main(...)`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

Row = dict[str, Any]
Answers = dict[str, dict[str, dict[str, Any]]]
"""Row -> metric -> value, and low and high or inside where the tool states a range."""
Found = tuple[Answers, dict[str, str]] | tuple[Answers, dict[str, str], float]
"""Answers, reasons, and the seconds of CPU that they took where the adapter measures them."""


class CannotAnswerError(Exception):
    """Why a tool does not answer a row, in words that do not name the row."""


def each(rows: Iterable[Row], ask: Callable[[Row], dict[str, float]]) -> tuple[Answers, dict[str, str]]:
    """(answers, reasons) of a tool that is asked row by row. ask: metric -> value, or it raises CannotAnswerError."""
    answers: Answers = {}
    reasons: dict[str, str] = {}
    for row in rows:
        try:
            answers[row["id"]] = {metric: {"value": value} for metric, value in ask(row).items()}
        except CannotAnswerError as error:
            reasons[row["id"]] = str(error)
    return answers, reasons


def checkout_version(options: argparse.Namespace) -> str:
    """The commit of the checkout that was given, with its day."""
    done = subprocess.run(
        ["git", "-C", options.dir, "log", "-1", "--format=%h of %cs"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "a folder without git"


def main_unasked(work: str, why: str) -> None:
    """The `main` of a tool for one kind of work that cannot be asked here: each row has the reason."""

    def ask(row: Row) -> dict[str, float]:
        raise CannotAnswerError(why if row["work"] == work else f"no {row['work']}: it simulates {work}")

    main(lambda options: "not installed", lambda rows, options: each(rows, ask))


def main(
    version: Callable[[argparse.Namespace], str],
    answer: Callable[[list[Row], argparse.Namespace], Found],
) -> None:
    """Answer the rows of the standard input. Processor time is that of the process, imports included, unless the
    adapter says what of it answers took. What a tool prints goes to the standard error."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", default="", help="a checkout of the tool")
    parser.add_argument("--truth", default="", help="the folder of the published rows")
    options = parser.parse_args()
    rows = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr):
        answers, reasons, *seconds = answer(rows, options)
        said = version(options)
    json.dump(
        {
            "version": said,
            "answers": answers,
            "reasons": reasons,
            "cpu_s": seconds[0] if seconds else time.process_time(),
        },
        sys.stdout,
    )
