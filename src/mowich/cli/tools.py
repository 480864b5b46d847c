"""Verbs as tools for programs: a table, and for each tool the JSON schemas of its arguments and of its answer.

The arguments are made from the schema of the verb. What a call does is in `cli/tool_calls.py`. This module knows
nothing of a protocol.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mowich.requests import (
    advising,
    brief,
    calibrate,
    forecasting,
    jobs,
    judging,
    kernels,
    known,
    results,
    rl,
    scenarios,
    tasks,
    tuning,
    verify,
)
from mowich.requests.common import CHART, FORM, KEPT_SEED, LEGEND
from mowich.requests.fields import Edge, Field
from mowich.requests.room import schema_of_room, with_rooms
from mowich.requests.rooms import room_names
from mowich.requests.schema import Schema
from mowich.requests.settings import AS_OF, STALE
from mowich.shown import Result

CodeOf = Literal["nobody", "call", "guests"]
"""Whose code a verb runs: nobody's; the caller's, so that the whole call is closed; the caller's, in processes that the
verb closes itself."""

SentText = Literal["kernel", "scenario", "model", "result", "table", "log"]
"""What a field takes as text in the place of a file."""

SUFFIX_OF: Mapping[SentText, str] = {
    "kernel": ".py",
    "scenario": ".yaml",
    "model": ".json",
    "result": ".json",
    "table": ".csv",
    "log": ".log",
}
"""Of the file that a text that was sent becomes for the call."""

_SENT: Mapping[SentText, str] = {
    "kernel": "Text of a Python file, or a name: FILE.py, @NAME (an example), task:NAME.",
    "scenario": "Text of a scenario, or its name.",
    "model": "Or its text.",
    "result": "ID of an answer of this session (compare-1), last, or the JSON of a result.",
    "table": "Or the text of a CSV table.",
    "log": "Texts of files, or their names.",
}
"""What the description of such a field says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolVerb:
    """A verb as a tool. answers: kinds of results that it gives; code: whose code it runs; texts: names of its fields
    that take the text of a file, and what that holds, beside those that take a model; always: values that a call has,
    and may not say."""

    schema: Schema[object]
    answers: tuple[str, ...]
    code: CodeOf = "nobody"
    texts: Mapping[str, SentText] = field(default_factory=dict)
    always: Mapping[str, object] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """ "kernel_judge" """
        return self.schema.name.replace(" ", "_")

    @property
    def about(self) -> str:
        """What it does, in at most 600 characters."""
        return f"{self.schema.help} Command: {self.schema.example}"

    @property
    def fields(self) -> tuple[Field[object], ...]:
        """What a call may say: not the form of the answer, nor files and folders that are no argument of the verb and
        cannot be sent as text, nor limits of a process in a call that is closed with its own, nor a seed that moves
        nothing, nor what goes with one of these. How old facts are is asked of one number, with explain."""
        left = {f.name for f in (*FORM, LEGEND, CHART, judging.LINES)} | _LEFT | self.always.keys()
        left |= {f.name for f in (kernels.GUEST_TIME, kernels.GUEST_MEMORY) if self.code == "call"}
        left |= set() if self.schema is results.EXPLAIN else {f.name for f in (STALE, AS_OF)}
        every = self.schema.at(Edge.OPTION)
        mine = [f for f in every if f.name not in left and f.help != KEPT_SEED.help]
        mine = [f for f in mine if f.is_argument or f.name in self.texts or f.kind not in ("file", "files")]
        gone = {f.flag for f in every} - {f.flag for f in mine}
        return tuple(f for f in mine if f.is_argument or not gone.intersection(_FLAG.findall(f.help)))

    def holds(self, one: Field[object]) -> SentText | None:
        """What a text that is sent for a field is; None where it takes none."""
        return self.texts.get(one.name) or ("model" if one.kind == "object" and one.completes == "model" else None)

    def input_schema(self) -> Result:
        """The JSON schema of its arguments."""
        return {
            "type": "object",
            "properties": {f.name: self._property(f) for f in self.fields},
            "required": [f.name for f in self.fields if f.needs],
            "additionalProperties": False,
        }

    def output_schema(self) -> Result:
        """The JSON schema of its answer: which kind of result it is, and the keys that say most. Others are allowed,
        and a long answer leaves out some of its own, which `left_out` names."""
        keys = [RESULT_KEYS[kind] for kind in self.answers]
        named = {key: type_ for of_kind in keys for key, type_ in of_kind.items()}
        return {
            "type": "object",
            "properties": {
                "schema": {"enum": [f"mowich/{kind}@1" for kind in self.answers]},
                **{key: {"type": type_} for key, type_ in named.items()},
            },
            "required": ["schema"],
        }

    def _property(self, one: Field[object]) -> Result:
        """One argument as JSON schema has it."""
        sent = self.holds(one)
        out = {"type": ["string", "object"]} if sent in ("model", "result") else _TYPES.get(one.kind, _WORD)
        said = [] if sent == "result" else [one.help or ("A system." if one.completes == "systems" else "")]
        said += [] if sent is None else [_SENT[sent]]
        if one.kind == "quantity" and one.unit:
            said.append(f"Number: {one.unit}.")
        if one.words and not callable(one.words):  # the help of the others names what is usual: a session reads less
            out = {**out, "enum": list(one.words)}
        if isinstance(one.default, int | float | str) and one.default not in (False, ""):
            out = {**out, "default": one.default}
        elif one.shown:
            said.append(f"Default: {one.shown}.")
        told = self.in_its_words(" ".join(filter(None, said)))
        return {**out, "description": told} if told else out

    def in_its_words(self, text: str) -> str:
        """A text with its fields as it calls them: ttft where the command line has --ttft."""
        for one in self.fields:
            for flag in () if one.is_argument else filter(None, (one.flag, one.short)):
                text = re.sub(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", one.name, text)
        return text


_LEFT = frozenset(("emit", "executor", "verify"))
"""Fields of answers that are not JSON, of work elsewhere, and of a folder that was written."""
_FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]*")

_RUN: Mapping[str, SentText] = {"file": "kernel"}
_PLAYED: Mapping[str, SentText] = {"scenario": "scenario"}
_EXPLAINED: Mapping[str, SentText] = {"result": "result"}

_TOOLS: Mapping[str, ToolVerb] = {
    tool.name: tool
    for tool in (
        ToolVerb(schema=jobs.COMPARE, answers=("compare", "forward")),
        ToolVerb(schema=jobs.PLAN, answers=("plan", "rates", "forward")),
        ToolVerb(schema=jobs.FIT, answers=("fit", "forward")),
        ToolVerb(schema=scenarios.TRAFFIC, answers=("traffic",), texts=_PLAYED),
        ToolVerb(schema=rl.RL, answers=("rl",)),
        ToolVerb(schema=brief.BRIEF, answers=("brief",)),
        ToolVerb(schema=scenarios.SWEEP, answers=("sweep",), texts=_PLAYED, always={"jobs": "1"}),
        ToolVerb(schema=scenarios.FLEET, answers=("fleet",), texts=_PLAYED),
        ToolVerb(schema=known.MODEL_VIEW, answers=("model",)),
        ToolVerb(schema=results.EXPLAIN, answers=("explain",), texts=_EXPLAINED),
        ToolVerb(schema=results.VALIDATE, answers=("validate",), texts={"file": "table"}),
        ToolVerb(schema=calibrate.CALIBRATE, answers=("calibrate",), texts={"files": "log", **_PLAYED}),
        ToolVerb(schema=verify.VERIFY_RUN, answers=("verify",), texts={"result": "result", "files": "log"}),
        ToolVerb(schema=forecasting.FORECAST_LIST, answers=("forecasts",), texts={"ledger": "table"}),
        ToolVerb(schema=known.FACTS_LIST, answers=("facts",)),
        ToolVerb(schema=known.FACTS_SHOW, answers=("facts",)),
        ToolVerb(schema=known.FACTS_DIFF, answers=("facts-diff",)),
        ToolVerb(schema=known.EXAMPLES, answers=("example",)),
        ToolVerb(schema=tasks.KERNEL_TASKS, answers=("kernel-tasks",)),
        ToolVerb(schema=kernels.CHECK, answers=("kernel-check",), code="call", texts=_RUN),
        ToolVerb(
            schema=judging.JUDGE,
            answers=("judge",),
            code="guests",
            texts={"candidates": "kernel", "reference": "kernel"},
        ),
        ToolVerb(schema=kernels.PROFILE, answers=("kernel",), code="call", texts=_RUN),
        ToolVerb(schema=advising.ADVISE, answers=("kernel-advise",), code="call", texts=_RUN),
        ToolVerb(schema=tuning.TUNE, answers=("kernel-tune",), code="guests", texts={**_RUN, "reference": "kernel"}),
        ToolVerb(
            schema=kernels.RUN,
            answers=("kernel-run", "kernel-debug"),
            code="call",
            texts={**_RUN, "first_difference": "kernel"},
        ),
        ToolVerb(
            schema=kernels.KERNEL_DIFF,
            answers=("kernel-diff",),
            code="call",
            texts={"a": "kernel", "b": "kernel"},
        ),
        ToolVerb(schema=kernels.LAYER, answers=("kernel-layer",)),
    )
}
TOOLS: Mapping[str, ToolVerb] = {
    name: _TOOLS[name] if name in _TOOLS else ToolVerb(schema=schema_of_room(name), answers=(name,))
    for name in with_rooms(_TOOLS)
}
"""Every tool by its name. A verb becomes one by a line above, or by its room."""

NO_TOOLS: Mapping[str, str] = {
    "capture": "runs a model's code with the caller's rights and writes a file",
    "forecast add": "writes a file",
    "forecast score": "writes a file",
    "next": "asks a command of the caller's",
    "report": "writes a file",
    "facts check": "its answer is an exit code",
    "facts new": "prints a file to fill in",
    "facts schema": "prints a schema for editors",
    "kernel tables": "writes files",
    "web": "a server",
    "mcp": "a server",
}
"""Verbs that are no tools, and why."""

_L, _O, _N = "array", "object", "number"
RESULT_KEYS: Mapping[str, Mapping[str, str]] = {
    "compare": {"inputs": _O, "rows": _L, "warnings": _L},
    "plan": {"inputs": _O, "plans": _L},
    "rates": {"inputs": _O, "plans": _L, "unserved": _L, "warnings": _L},
    "forward": {"inputs": _O, "rows": _L, "warnings": _L},
    "fit": {"inputs": _O, "fits": "boolean", "binds": "string", "memory_B": _O, "smallest_chips": "integer"},
    "traffic": {"inputs": _O, "ttft_s": _O, "tpot_s": _O, "ranges": _O, "usd_per_mtok": _N, "warnings": _L},
    "rl": {"inputs": _O, "step_s": _O, "usd_per_mtok": _O, "rows": _L, "warnings": _L},
    "brief": {"inputs": _O, "headline": _O, "rows": _L},
    "sweep": {"inputs": _O, "rows": _L},
    "fleet": {"inputs": _O, "status": "string", "usd": _N, "buy": _L, "rent": _L, "assign": _L, "warnings": _L},
    "model": {"name": "string", "params": _N, "params_active": _N, "layers": _L},
    "explain": {"metric": "string", "metrics": _L, "formula": "string", "terms": _L, "facts": _L, "moves": _L},
    "validate": {"inputs": _O, "summary": _O},
    "calibrate": {"inputs": _O, "constants": _L, "summary": _O, "overlay": "string", "refused": _L},
    "verify": {"inputs": _O, "rows": _L, "causes": _L, "verdict": "string"},
    "forecasts": {"file": "string", "head": "string", "rows": _L, "summary": _O},
    "facts": {"entries": _L, "facts": _L},
    "facts-diff": {"a": "string", "b": "string", "rows": _L},
    "example": {"examples": _L},
    "kernel-tasks": {"tasks": _L},
    "kernel-check": {"findings": _L},
    "judge": {"rows": _L},
    "kernel": {"total_ps": _N},
    "kernel-advise": {"time_s": _O, "edits": _L},
    "kernel-tune": {"rows": _L},
    "kernel-run": {"outputs": _L},
    "kernel-debug": {"stop": _O},
    "kernel-diff": {"rows": _L},
    "kernel-layer": {"inputs": _O, "rows": _L},
    **{name: {"inputs": _O, **schema_of_room(name).keys} for name in room_names()},
}
"""Kind of result -> the keys that say most, and their types in JSON."""


# ---- schemas
# ----------------------------------------------------------------------------------------------------------------------

_TYPES: Mapping[str, Result] = {
    "flag": {"type": "boolean"},
    "count": {"type": ["integer", "string"]},
    "number": {"type": ["number", "string"]},
    "quantity": {"type": ["number", "string"]},
    "share": {"type": ["number", "string"]},
    "names": {"type": ["array", "string"], "items": {"type": "string"}},
    "texts": {"type": "array", "items": {"type": "string"}},
    "files": {"type": "array", "items": {"type": "string"}},
}
"""Kind of a field -> its type in JSON. Bounds are told by the verb, where they are broken."""
_WORD: Result = {"type": "string"}
"""The type of others."""
