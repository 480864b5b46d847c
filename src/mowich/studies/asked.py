"""A question of the command line: asked by a process of its own, as a user would ask it, or in this one."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mowich.errors import UserError
from mowich.facts import Facts, load_facts
from mowich.kept import CACHE_VARIABLE
from mowich.models.model import Model
from mowich.requests.fields import Edge
from mowich.requests.jobs import COMPARE, PLAN, JobRequest
from mowich.requests.schema import QuestionSource, Schema, Values
from mowich.shown import Result, Shown
from mowich.studies.answers import compare_answered, plan_answered


def question_words(question: str) -> list[str]:
    """The words of a command in quotes, without "mowich". Raises UserError for what is no command.

    >>> question_words("mowich fit llama-3.1-70b --train --on 'trn3:64'")
    ['fit', 'llama-3.1-70b', '--train', '--on', 'trn3:64']
    """
    try:
        words = shlex.split(question)
    except ValueError as error:
        raise UserError(f"is no command ({error})", field="question", given=question) from error
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
        raise _refused(words, said[0].removeprefix("error: ") if said else "prints no answer as JSON")
    return found


def _refused(words: Sequence[str], what: str) -> UserError:
    return UserError(f"the question is not answered: {what}", field="question", given=shlex.join(words))


def ask_here(words: Sequence[str], *, facts: Facts | None = None, model: Model | None = None) -> Result:
    """The JSON of the answer to a `compare` or `plan`, made in this process; other verbs get one of their own. facts:
    those that the question is asked of, with the directories that it names laid over them; None: those that ship;
    model: in the place of the one that is named. Raises UserError for what is refused."""
    verb, *rest = words or ("",)
    try:
        if verb == "compare":
            compared = COMPARE.read(*_read(COMPARE, rest, facts, model))
            return _result(compare_answered(compared), compared)
        if verb == "plan":
            planned = PLAN.read(*_read(PLAN, rest, facts, model))
            return _result(plan_answered(planned), planned)
    except UserError as error:
        raise _refused(words, str(error).splitlines()[0]) from error
    return ask_question(words)


def _read(
    schema: Schema[object], words: Sequence[str], facts: Facts | None, model: Model | None
) -> tuple[Values, QuestionSource]:
    """What the words say, and what they are asked of."""
    values = schema.typed(words)
    if facts is not None:
        dirs = values.pop("facts", ())
        assert isinstance(dirs, tuple)
        for root in load_facts([Path(one) for one in dirs]).roots[1:]:
            facts = facts.with_root(root)
    load = None if model is None else lambda _: model
    return values, QuestionSource(edge=Edge.OPTION, facts=facts, load=load)


def _result(found: Shown, asked: JobRequest) -> Result:
    """An answer as the command line writes it."""
    result: Result = found.to_dict()
    return {**result, "inputs": {**result["inputs"], **asked.again()}}
