"""The server's verbs in the process of the test."""

from __future__ import annotations

from typing import Any

from mowich import facts
from mowich.errors import UserError
from mowich.web import verbs
from mowich.web.workers import RefusedRequestError, Workers, error_data


class Here(Workers):
    """Verbs in this process: what is asked is tested, not the processes."""

    def __init__(self) -> None:
        self.facts = facts.load_facts()

    def __len__(self) -> int:
        return 1

    async def call(self, name: str, *arguments: Any, wanted: Any = None, limit_s: Any = None) -> Any:
        try:
            return verbs.VERBS[name](*arguments, self.facts)
        except UserError as error:
            raise RefusedRequestError(422, error_data(error)) from error

    def close(self) -> None:
        pass
