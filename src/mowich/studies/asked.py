"""A question of the command line: asked by a process of its own, as a user would ask it, or in this one."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from mowich.errors import UserError
from mowich.facts import Facts, load_facts
from mowich.kept import CACHE_VARIABLE
from mowich.models.model import Model
from mowich.requests.fields import Edge
from mowich.requests.jobs import JobRequest
from mowich.requests.schema import QuestionSource, Schema
from mowich.shown import Result, Shown

Q = TypeVar("Q")


def question_words(question: str) -> list[str]:
    """The words of a command in quotes, without "mowich". Raises UserError for text that is not a command.

    >>> question_words("mowich fit llama-3.1-70b --train --on 'trn3:64'")
    ['fit', 'llama-3.1-70b', '--train', '--on', 'trn3:64']
    """
    try:
        words = shlex.split(question)
    except ValueError as error:
        raise UserError(f"is not a command ({error})", field="question", given=question) from error
    return words[1:] if words[:1] == ["mowich"] else words


def ask_question(words: Sequence[str]) -> Result:
    """The JSON of the answer. Raises UserError with the first line of a refusal."""
    done = subprocess.run(
        [sys.executable, "-m", "mowich", *words, "--json", "-q"],
        env={**os.environ, CACHE_VARIABLE: "off"},
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        found = json.loads(done.stdout)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        said = done.stderr.strip().splitlines()
        raise not_answered(words, said[0].removeprefix("error: ") if said else "prints no answer as JSON")
    return found


def not_answered(words: Sequence[str], what: str) -> UserError:
    """Why a question that is a part of another is not answered."""
    return UserError(f"the question is not answered: {what}", field="question", given=shlex.join(words))


def read_words(schema: Schema[Q], words: Sequence[str], facts: Facts | None = None, model: Model | None = None) -> Q:
    """The request of a command's words. facts: those that it is asked of, with the directories that it names laid over
    them; None: those that ship; model: in the place of the one that is named."""
    values = schema.typed(words)
    if facts is not None:
        dirs = values.pop("facts", ())
        assert isinstance(dirs, tuple)
        for root in load_facts([Path(one) for one in dirs]).roots[1:]:
            facts = facts.with_root(root)
    load = None if model is None else lambda _: model
    return schema.read(values, QuestionSource(edge=Edge.OPTION, facts=facts, load=load))


def result_of(found: Shown, asked: JobRequest) -> Result:
    """An answer as the command line writes it."""
    result: Result = found.to_dict()
    return {**result, "inputs": {**result["inputs"], **asked.again()}}
