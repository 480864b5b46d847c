"""A question of the command line, asked by a process of its own, as a user would ask it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence

from mowich.errors import UserError
from mowich.kept import CACHE_VARIABLE
from mowich.shown import Result


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
        what = said[0].removeprefix("error: ") if said else "prints no answer as JSON"
        raise UserError(f"the question is not answered: {what}", field="question", given=shlex.join(words))
    return found
