"""A comparison as a scenario file: YAML -> request, for the page and for whoever keeps the file; and the fields of a
run of reinforcement learning from its file, and back.

```yaml
mowich: 1
workload:
  model: deepseek-v3
  train: {tokens: 15T, seq: 4096, batch: 16384seqs}   # or serve: {isl: 8k, osl: 1k, ttft: 2s, tpot: 50ms}
                      # or forward: {task: diffuse, height: 1024, width: 1024, steps: 28}
systems: [trn2, trn3, gb300]
chips: 16384          # or budget: $2M, days: 30
equal: chips
price: 3y
set: {site.pue: 1.1}
```
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mowich.errors import UserError, UserErrors
from mowich.requests.footing import PAID_RUN
from mowich.requests.rl_fields import SCENARIO_KEYS
from mowich.requests.rl_files import scenario_values
from mowich.scenario import Node, parse_text
from mowich.units import is_digits
from mowich.web import asks
from mowich.web.asks import Mistake

_JOBS = {
    name: tuple(body.model_fields)
    for name, body in (("train", asks.TrainBody), ("serve", asks.ServeBody), ("forward", asks.ForwardBody))
}
"""Job -> its fields."""
_SAME = ("chips", "equal", "stack", "price", *(field.name for field in PAID_RUN))


def _fields(node: Node, names: tuple[str, ...]) -> dict[str, object]:
    out = {k: node.raw(k) for k in names if k in node}
    node.done(names)
    return out


def scenario_ask(text: str, where: str = "scenario") -> asks.Ask:
    """The comparison that a scenario asks for. Raises UserErrors with the lines of all mistakes."""
    root = parse_text(text, where)
    root.need("workload", "systems")
    root.text("name")
    work = root.node("workload")
    work.need("model")
    data: dict[str, object] = {"model": work.raw("model")}
    for job, names in _JOBS.items():
        if job in work:
            data[job] = _fields(work.node(job), names)
    work.done(tuple(_JOBS))
    systems = root.raw("systems")
    data["on"] = systems if isinstance(systems, list) else [systems]
    for key in _SAME:
        if root.raw(key) is not None:
            data[key] = root.raw(key)
    if "set" in root:
        node = root.node("set")
        data["set"] = [f"{key}={node.raw(key)}" for key in node]
    root.done((*_SAME, "set", "name"))
    root.stop()
    try:
        return asks.CompareBody.model_validate(data)
    except ValidationError as error:
        raise UserErrors(
            [UserError(line["what"], where=f"{where} {line['where']}") for line in body_problems(error.errors())]
        ) from None


def body_problems(errors: Sequence[ErrorDetails]) -> list[Mistake]:
    """pydantic's errors as ours: where, what, one line each."""
    out: list[Mistake] = []
    for e in errors:
        where = ".".join(
            str(part) if str(part).isprintable() else repr(part)
            for part in e["loc"]
            if part != "body" and not str(part).startswith(("function-", "constrained-", "dict[", "float"))
        )
        what = str(e["msg"]).removeprefix("Value error, ")
        given = e.get("input")
        shown = f", got {given!r:.60}" if isinstance(given, str | int | float) and not isinstance(given, bool) else ""
        out.append({"where": where or None, "what": what, "line": f"{where + ': ' if where else ''}{what}{shown}"})
    return out[:20]


def rl_fields(text: str) -> dict[str, object]:
    """The fields that a scenario of reinforcement learning gives, as a body has them. Raises UserErrors with the lines
    of all mistakes."""
    root = parse_text(text, "scenario")
    root.text("name")
    values, _ = scenario_values(root)
    root.stop()
    lists = {field.name for field in SCENARIO_KEYS.values() if field.kind in ("names", "texts")}
    return {
        name: [word.strip() for word in value.split(",")] if name in lists and isinstance(value, str) else value
        for name, value in values.items()
    }


def rl_yaml(fields: Mapping[str, object]) -> str:
    """The scenario of fields: each under its key."""
    out: dict[str, object] = {"mowich": 1}
    for key, field in SCENARIO_KEYS.items():
        if fields.get(field.name) is None:
            continue
        *above, own = key.split(".")
        inner = out
        for name in above:
            inner = inner.setdefault(name, {})  # type: ignore[assignment]
        value = fields[field.name]
        inner[own] = int(value) if isinstance(value, str) and is_digits(value) else value
    plain = json.loads(json.dumps(out))  # values that are one object would be an anchor and its aliases
    return _ON_KEY.sub(r"\1on:", yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100))


_ON_KEY = re.compile(r"(?m)^( *)'on':")
"""YAML of old reads a bare `on` as yes; scenarios here do not."""
