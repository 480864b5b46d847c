"""Requests as the studies take them, and answers as they are sent. Runs in a worker process.

Bodies are read by `mowich.requests`, which reads the command line and Python too, so that all are judged alike. What
has been read, and the facts that a request's settings lead to, are kept for a while by the worker's `Knowledge`: a
comparison is read once for each of its systems, and a slider asks with the same settings.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import fields, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from mowich.errors import UserError, did_you_mean
from mowich.facts import Facts, load_facts
from mowich.files import check_yaml
from mowich.models import model_names
from mowich.models.builtin import aliases, builtin, builtin_name
from mowich.models.model import Model
from mowich.requests import jobs
from mowich.requests.common import Asked
from mowich.requests.fields import Edge
from mowich.requests.schema import QuestionSource
from mowich.show.json import to_json
from mowich.shown import Result
from mowich.web import asks

if TYPE_CHECKING:
    from mowich.fleets.problem import Rate
    from mowich.show.charts import Chart

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


@lru_cache(maxsize=32)
def _pasted(text: str) -> Model:
    from mowich.models.given import model_from_json

    config = json.loads(text)
    given = str(config.get("_name_or_path") or config.get("model_type") or "pasted")
    name = given.rstrip("/").rsplit("/", 1)[-1][:60] or "pasted"
    where = "pasted" if "schema" in config else "config.json"
    return model_from_json(config, name=name, where=where, source="pasted")


def given_model(given: object) -> Model:
    """A built-in name or a pasted config; never a path."""
    if isinstance(given, Mapping):
        return _pasted(asks.canonical(given))
    if not isinstance(given, str):
        raise UserError("not a model", field="model", given=given, allowed="a built-in name, or a pasted config.json")
    name = builtin_name(given)
    if name is None:
        close = did_you_mean(given.rsplit("/", 1)[-1], [*model_names(), *aliases()])
        raise UserError(f"unknown model '{given}'", allowed="a built-in name, or a pasted config.json", fix=close)
    return builtin(name)


class Recent(Generic[Key, Value]):
    """The values that were made last, at most so many."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[Key, Value] = OrderedDict()

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """The value of a key: what is kept, or what `make` gives, which is then kept."""
        if key not in self._kept:
            self._kept[key] = make()
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return self._kept[key]


class Knowledge:
    """What a worker knows: the facts of its server, and what it has read and predicted with them lately. It is made
    when the worker starts, is handed to every verb, and ends with the worker.

    rates: speeds of tasks of fleets, by facts, and by task and system, with the facts that each read: a slider that
    moves a price asks for them again.
    """

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.rates: Recent[tuple[str, str], tuple[Rate, Sequence[str]]] = Recent(512)
        self._requests: Recent[str, object] = Recent(64)
        self._changed: Recent[tuple[object, ...], Facts] = Recent(16)

    @classmethod
    def of_server(cls, dirs: Sequence[str]) -> Knowledge:
        """Of a server with these folders of facts. Raises UserError for facts that cannot be read."""
        return cls(load_facts(tuple(Path(d) for d in dirs)))

    def read(self, ask: asks.Ask) -> object:
        """The request of a verb that a body asks for. Raises UserErrors with every mistake at once."""
        found = self._requests.get(f"{type(ask).__name__}:{asks.canonical(ask)}", lambda: self._read(ask))
        if not isinstance(found, Asked):
            return found
        return replace(found, facts=found.facts.heard_again())  # each answer has a ledger of its own

    def work(self, ask: asks.Ask) -> jobs.JobRequest:
        """The job on systems that a body asks for. Raises UserErrors with every mistake at once."""
        found = self.read(ask)
        assert isinstance(found, jobs.JobRequest)
        return found

    def compared(self, ask: asks.Ask) -> jobs.CompareRequest:
        """The same, of a comparison."""
        found = self.read(ask)
        assert isinstance(found, jobs.CompareRequest)
        return found

    def _read(self, ask: asks.Ask) -> object:
        schema = ask.schema_of
        source = QuestionSource(edge=Edge.KEY, facts=self.facts, load=given_model, change=self._with)
        request = schema.read(ask.values(), source)
        asks.check_work(schema, request)
        return request

    def _with(self, facts: Facts, changes: Mapping[str, float | str]) -> Facts:
        """Facts with settings. The same settings give the same object, so that what is kept for it is used again."""
        key = (facts.hash(), *sorted(changes.items()))
        return self._changed.get(key, lambda: facts.with_values(dict(changes)))


def reply(result: Result, *, inputs: Mapping[str, object] | None = None, **more: object) -> bytes:
    """The body of an answer: `result`, the same object that `--json` prints, and what goes with it."""
    head = json.dumps({k: v for k, v in more.items() if v is not None}, ensure_ascii=False, allow_nan=False)
    return (
        f'{head[:-1]}{", " if len(head) > 2 else ""}"result": {to_json(result, inputs=inputs, indent=None)}}}'.encode()
    )


def chart_data(chart: Chart) -> dict[str, object]:
    """A chart's fields are plain data: `asdict` would copy them all."""
    return {f.name: getattr(chart, f.name) for f in fields(chart)}


MAX_YAML_DEPTH, MAX_YAML_EVENTS = 12, 8000


def safe_yaml(text: str) -> None:
    """Refuse what a scenario that is sent here does not need: anchors, tags, deep nesting, many values. Raises
    UserError."""
    check_yaml(text, "scenario", depth=MAX_YAML_DEPTH, values=MAX_YAML_EVENTS)
