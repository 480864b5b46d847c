"""AISimulate: not asked. This file says why, so that the page counts its rows as not answered."""

from __future__ import annotations

from argparse import Namespace

from protocol import Answers, CannotAnswerError, Row, each, main

NAME = "AISimulate"
NEEDS = "a wheel that PyPI does not hold"
WHY = "PyPI holds a stub of its wheel: the wheel comes from an index that is not public here"


def ask(row: Row) -> dict[str, float]:
    if row["work"] != "serving":
        raise CannotAnswerError(f"no {row['work']}: it simulates serving")
    raise CannotAnswerError(WHY)


def version(options: Namespace) -> str:
    return "not installed"


def answer(rows: list[Row], options: Namespace) -> tuple[Answers, dict[str, str]]:
    return each(rows, ask)


if __name__ == "__main__":
    main(version, answer)
