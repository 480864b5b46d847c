"""Requests as the studies take them, and answers as they are sent. Runs in a worker process.

Bodies are read by `mowich.requests`, which reads the command line and Python too, so that all are judged alike. What
has been read, and the facts that a request's settings lead to, are kept for a while: a comparison is
read once for each of its systems, and a slider asks with the same settings.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from mowich.errors import UserError, did_you_mean
from mowich.facts import Facts, load_facts
from mowich.files import check_yaml
from mowich.models import model_names
from mowich.models.builtin import aliases, builtin, builtin_name
from mowich.models.model import Model
from mowich.requests import jobs
from mowich.requests.fields import Edge
from mowich.requests.schema import QuestionSource
from mowich.show.json import to_json
from mowich.shown import Result
from mowich.web import asks

if TYPE_CHECKING:
    from mowich.show.charts import Chart


@lru_cache(maxsize=4)
def server_facts(dirs: tuple[str, ...]) -> Facts:
    """The facts of this server, parsed once in each worker."""
    return load_facts(tuple(Path(d) for d in dirs))


@lru_cache(maxsize=32)
def _pasted(text: str) -> Model:
    from mowich.models.config import model_from_config

    config = json.loads(text)
    given = str(config.get("_name_or_path") or config.get("model_type") or "pasted")
    return model_from_config(
        config, name=given.rstrip("/").rsplit("/", 1)[-1][:60] or "pasted", where="config.json", source="pasted"
    )


def given_model(given: object) -> Model:
    """A built-in name or a pasted config; never a path."""
    if isinstance(given, Mapping):
        return _pasted(asks.canonical(given))
    if not isinstance(given, str):
        raise UserError("not a model", field="model", given=given, allowed="a built-in name, or a pasted config.json")
    name = builtin_name(given)
    if name is None:
        close = did_you_mean(given.rsplit("/", 1)[-1], [*model_names(), *aliases()])
        raise UserError(
            f"unknown model '{given}'", field="model", allowed="a built-in name, or a pasted config.json", fix=close
        )
    return builtin(name)


_read: OrderedDict[str, object] = OrderedDict()
"""Requests that this worker has read lately: a comparison is read once for each of its systems."""


def read_ask(ask: asks.Ask, facts: Facts) -> object:
    """The request of a verb that a body asks for. Raises UserErrors with every mistake at once."""
    key = f"{type(ask).__name__}:{facts.hash()}:{asks.canonical(ask)}"
    if key not in _read:
        schema = ask.schema_of
        request = schema.read(
            ask.values(), QuestionSource(edge=Edge.KEY, facts=facts, load=given_model, change=_changed)
        )
        asks.check_work(schema, request)
        _read[key] = request
        if len(_read) > 64:
            _read.popitem(last=False)
    return _read[key]


def work(ask: asks.Ask, facts: Facts) -> jobs.JobRequest:
    """The job on systems that a body asks for."""
    found = read_ask(ask, facts)
    assert isinstance(found, jobs.JobRequest)
    return found


def _changed(facts: Facts, changes: Mapping[str, float | str]) -> Facts:
    """The same facts for the same settings, so that what is kept for them is used again."""
    key = (facts.hash(), *sorted(changes.items()))
    if key not in _kept:
        _kept[key] = facts.with_values(dict(changes))
        if len(_kept) > 16:
            _kept.popitem(last=False)
    return _kept[key]


_kept: OrderedDict[tuple[object, ...], Facts] = OrderedDict()


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
