"""LLMServingSim 2: not asked. This file says why, so that the page counts its rows as not answered."""

from __future__ import annotations

from argparse import Namespace

from protocol import Answers, CannotAnswerError, Row, each, main

NAME = "LLMServingSim 2"
NEEDS = "its container with ASTRA-Sim and profiles of layers of its own GPUs"
WHY = "it needs a container with ASTRA-Sim, and has profiles of RTX PRO 6000 and RTX 4090 alone"


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
