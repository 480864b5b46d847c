"""Requests as the studies take them, and answers as they are sent. Runs in a worker process.

Words are read by `mowich.requests`, which reads those of the command line too, so that a request and a command are
judged alike. What has been read, and the facts that a request's settings lead to, are kept for a while: a comparison is
read once for each of its systems, and a slider asks with the same settings.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mowich.errors import UserError, did_you_mean
from mowich.facts import Facts
from mowich.facts import load as load_facts
from mowich.files import check_yaml
from mowich.models import names as model_names
from mowich.models.builtin import aliases, builtin, find
from mowich.models.model import Model
from mowich.requests import (
    Problems,
    Settings,
    note_answers,
    note_context,
    read_chips,
    read_job,
    read_serving,
    read_settings,
    read_systems,
    rerun,
)
from mowich.show.json import to_json
from mowich.web import asks

if TYPE_CHECKING:
    from mowich.plans.plan import TrainJob
    from mowich.serving.search import ServeJob

MOST = {"seq": 1e7, "tokens": 1e18, "batch_seqs": 1e8}
"""Larger jobs are not computed here."""


@lru_cache(maxsize=4)
def facts_of(dirs: tuple[str, ...]) -> Facts:
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


def model_of(given: str | Mapping[str, Any]) -> Model:
    """A built-in name or a pasted config; never a path."""
    if not isinstance(given, str):
        return _pasted(asks.canonical(given))
    name = find(given)
    if name is None:
        close = did_you_mean(given.rsplit("/", 1)[-1], [*model_names(), *aliases()])
        raise UserError(
            f"unknown model '{given}'", where="MODEL", allowed="a built-in name, or a pasted config.json", fix=close
        )
    return builtin(name)


@dataclass(slots=True)
class Read:
    """A request as the studies take it, and what the command line would have noted on stderr."""

    model: Model
    settings: Settings
    systems: list[str]
    chips: int | None
    job: TrainJob | None = None
    serving: ServeJob | None = None
    fixed: Mapping[str, Sequence[int | str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


_read: OrderedDict[str, Read] = OrderedDict()
"""Requests that this worker has read lately: a comparison is read once for each of its systems."""


def read(ask: asks.Compare | asks.Plan | asks.ServePlans | asks.Fit, facts: Facts) -> Read:
    """A request as the studies take it. Raises UserErrors with every mistake at once, as the command line would say
    them."""
    key = f"{type(ask).__name__}:{facts.hash()}:{asks.canonical(ask)}"
    if key not in _read:
        _read[key] = _read_now(ask, facts)
        if len(_read) > 64:
            _read.popitem(last=False)
    return _read[key]


def _settings(items: Sequence[str], facts: Facts, problems: Problems) -> Settings:
    """`read_settings`, with the same facts for the same settings, so that what is kept for them is used again."""
    kept = _kept_settings.get(key := (facts.hash(), *items))
    if kept is None:
        kept = read_settings(items, facts, problems)
        if not problems.found:
            _kept_settings[key] = kept
            if len(_kept_settings) > 16:
                _kept_settings.popitem(last=False)
    return kept


_kept_settings: OrderedDict[tuple[str, ...], Settings] = OrderedDict()


def _read_now(ask: asks.Compare | asks.Plan | asks.ServePlans | asks.Fit, facts: Facts) -> Read:
    from mowich.plans.plan import parse_fixed
    from mowich.studies.serving_plan import parse_serving

    problems, notes = Problems(), cast("list[str]", [])
    chosen = _settings(ask.set, facts, problems)
    count = read_chips(ask.chips, problems)
    model: Model | None = None
    with problems.watch("MODEL"):
        model = model_of(ask.model)
    train, serve = getattr(ask, "train", None), getattr(ask, "serve", None)
    job, serving = None, None
    if train is not None:
        needs = not isinstance(ask, asks.Fit)
        job = read_job(
            True,
            train.tokens,
            train.seq,
            train.batch,
            problems,
            notes.append,
            needs_tokens=needs,
            task=train.task,
            document=train.document,
            fill=train.fill,
        )
        for name, most in MOST.items():
            if job is not None and getattr(job, name) > most:
                problems.add(
                    f"must be at most {most:g}",
                    where=f"--{name.removesuffix('_seqs')}",
                    given=f"{getattr(job, name):g}",
                )
    elif serve is not None:
        serving = read_serving(
            serve.isl, serve.osl, serve.ttft, serve.tpot, serve.cached, serve.accept, serve.engine, problems
        )
    equal = getattr(ask, "equal", None)
    if equal is not None and count is None:
        problems.add(
            "needs --chips", where="--equal", fix="--chips counts the first system's chips (units with --equal units)"
        )
    on = ask.on if isinstance(ask.on, str) else ",".join(ask.on)
    systems = read_systems(
        on, count, chosen.facts, problems, equal=equal or "chips", single=isinstance(ask.on, str), stack=ask.stack
    )
    fixed: Mapping[str, Sequence[int | str]] = {}
    with problems.watch():
        fixed = parse_fixed(chosen.plan) if train is not None else parse_serving(chosen.plan)
    problems.stop()
    assert model is not None
    if job is not None:
        note_context(model, job.seq, "--seq", notes.append)
    if serving is not None:
        note_answers(model, serving.prompt, serving.output, notes.append)
    return Read(
        model=model, settings=chosen, systems=systems, chips=count, job=job, serving=serving, fixed=fixed, notes=notes
    )


def reply(result: Mapping[str, Any], *, inputs: Mapping[str, Any] | None = None, **more: Any) -> bytes:
    """The body of an answer: `result`, the same object that `--json` prints, and what goes with it."""
    head = json.dumps({k: v for k, v in more.items() if v is not None}, ensure_ascii=False, allow_nan=False)
    return (
        f'{head[:-1]}{", " if len(head) > 2 else ""}"result": {to_json(result, inputs=inputs, indent=None)}}}'.encode()
    )


def again(ask: Any, loaded: Model) -> dict[str, Any]:
    """What the command line adds to a result's inputs so that it can be run again."""
    return rerun(ask.model if isinstance(ask.model, str) else "config.json", loaded, list(ask.set), None, 0)


MAX_YAML_DEPTH, MAX_YAML_EVENTS = 12, 8000


def safe_yaml(text: str) -> None:
    """Refuse what a scenario that is sent here does not need: anchors, tags, deep nesting, many values. Raises
    UserError."""
    check_yaml(text, "scenario", depth=MAX_YAML_DEPTH, values=MAX_YAML_EVENTS)
