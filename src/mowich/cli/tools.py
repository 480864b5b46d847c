"""Verbs as tools for programs: a table, and for each tool the JSON schema of its arguments, made from the schema of the
verb, and the call.

A call is a process of its own, which answers with what the verb prints for programs (`--json`). So a call that hangs,
crashes or prints does no harm to the next one. Code of a caller runs closed: kernels of `kernel judge` in its guests
and its reference beside them, those of the other verbs with the whole call. This module knows nothing of a protocol.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mowich.errors import UserError, unknown
from mowich.examples import file_or_example
from mowich.requests import advising, gaps, jobs, judging, kernels, known, machines, prices, rl, tasks, tuning
from mowich.requests.common import CHART, FORM, LEGEND
from mowich.requests.fields import Edge, Field
from mowich.requests.schema import Schema
from mowich.shown import Result

CodeOf = Literal["nobody", "call", "guests"]
"""Whose code a verb runs: nobody's; the caller's, so that the whole call is closed; the caller's, in processes that the
verb closes itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolVerb:
    """A verb as a tool. code: whose code it runs; kernels: names of its fields that take the text of a file of kernels,
    or its name."""

    schema: Schema[object]
    code: CodeOf = "nobody"
    kernels: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """ "kernel_judge" """
        return self.schema.name.replace(" ", "_")

    @property
    def fields(self) -> tuple[Field[object], ...]:
        """What a call may say: not the form of the answer, nor files and folders that are no argument of the verb, nor
        limits of a process in a call that is closed with its own."""
        left = {f.name for f in (*FORM, LEGEND, CHART, judging.LINES)} | _WRITES
        left |= {f.name for f in (kernels.GUEST_TIME, kernels.GUEST_MEMORY) if self.code == "call"}
        every = self.schema.at(Edge.OPTION)
        return tuple(f for f in every if f.name not in left and (f.is_argument or f.kind not in ("file", "files")))

    def input_schema(self) -> Result:
        """The JSON schema of its arguments."""
        return {
            "type": "object",
            "properties": {f.name: _property(f, f.name in self.kernels) for f in self.fields},
            "required": [f.name for f in self.fields if f.needs],
            "additionalProperties": False,
        }


_WRITES = frozenset(("emit",))
"""Fields whose answer is no JSON."""

TOOLS: Mapping[str, ToolVerb] = {
    tool.name: tool
    for tool in (
        ToolVerb(schema=kernels.CHECK, code="call", kernels=("file",)),
        ToolVerb(schema=judging.JUDGE, code="guests", kernels=("candidates", "reference")),
        ToolVerb(schema=kernels.PROFILE, code="call", kernels=("file",)),
        ToolVerb(schema=advising.ADVISE, code="call", kernels=("file",)),
        ToolVerb(schema=tuning.TUNE, code="guests", kernels=("file", "reference")),
        ToolVerb(schema=kernels.RUN, code="call", kernels=("file", "first_difference")),
        ToolVerb(schema=kernels.KERNEL_DIFF, code="call", kernels=("a", "b")),
        ToolVerb(schema=tasks.KERNEL_TASKS),
        ToolVerb(schema=jobs.COMPARE),
        ToolVerb(schema=jobs.PLAN),
        ToolVerb(schema=jobs.FIT),
        ToolVerb(schema=gaps.GAP),
        ToolVerb(schema=gaps.VALUE),
        ToolVerb(schema=rl.RL),
        ToolVerb(schema=machines.COLLECTIVE),
        ToolVerb(schema=machines.GOODPUT),
        ToolVerb(schema=machines.POWER),
        ToolVerb(schema=prices.PRICES),
        ToolVerb(schema=known.MODEL_VIEW),
    )
}
"""Every tool by its name. A verb becomes one by a line here."""


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
"""Kind of a field -> its type in JSON; others are texts."""
_TEXT = "The text of a Python file, or a name: FILE.py, @NAME (an example), task:NAME."


def _property(field: Field[object], is_kernel: bool) -> Result:
    """One argument as JSON schema has it."""
    out = dict(_TYPES.get(field.kind, {"type": "string"}))
    said = [field.help]
    if is_kernel:
        said = [_TEXT, field.help]
    if field.kind == "quantity":
        said.append(f"A number is in {field.unit}; a text has its unit.")
    if field.kind in ("count", "number", "share"):
        out |= {"minimum": field.low} if abs(field.low) != float("inf") else {}
        out |= {"maximum": field.high} if abs(field.high) != float("inf") else {}
    if field.words:
        out["enum"] = list(field.words)
    if isinstance(field.default, bool | int | float | str):
        out["default"] = field.default
    elif field.shown:
        said.append(f"Default: {field.shown}.")
    return {**out, "description": " ".join(filter(None, said))}


# ---- calls
# ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolAnswer:
    """What a call gave. text: a few sentences, or what is wrong, a line each; result: the JSON of the verb, None where
    it has none; is_error: whether it refused."""

    text: str
    result: Result | None
    is_error: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call, ready to be made. command: of the process; given: what it reads from stdin; folder: of the files that the
    caller sent as text."""

    tool: ToolVerb
    command: tuple[str, ...]
    given: bytes
    folder: tempfile.TemporaryDirectory[str]

    def answer(self, code: int | None, out: bytes, err: bytes, timeout_s: float) -> ToolAnswer:
        """What the process gave. code: None: it was ended because it took too long."""
        self.folder.cleanup()
        if code is None:
            return ToolAnswer(text=f"the call took longer than {timeout_s:g} s", result=None, is_error=True)
        inner = f"{self.folder.name}/"
        said, told = (text.decode(errors="replace").replace(inner, "") for text in (out, err))
        try:
            result = json.loads(said)
        except ValueError:
            lines = [
                self._in_their_words(x.removeprefix("error: ")) for x in told.splitlines() if x.startswith("error: ")
            ]
            text = "\n".join(lines) or f"the call ended with exit code {code} and no answer"
            return ToolAnswer(text=text, result=None, is_error=True)
        notes = [
            x.removeprefix("note: ") for x in told.splitlines() if x.startswith(("note: ", "warning: ", "error: "))
        ]
        return ToolAnswer(text="\n".join([*_sentences(result), *notes]), result=result)

    def _in_their_words(self, line: str) -> str:
        """An error with fields as the tool calls them."""
        for field in self.tool.fields:
            said = field.flag if field.is_argument else rf"{re.escape(field.flag)}(?![\w-])"
            line = re.sub(rf"^{said}(?=:)" if field.is_argument else said, field.name, line)
        return line


def tool_call(name: str, arguments: Mapping[str, object], *, timeout_s: float, memory_GiB: float) -> ToolCall:
    """The call of a tool. Raises UserError for a tool or an argument that is not known."""
    if name not in TOOLS:
        raise unknown("tool", name, TOOLS)
    tool = TOOLS[name]
    known_fields = {field.name: field for field in tool.fields}
    for key in arguments:
        if key not in known_fields:
            raise unknown("argument", key, known_fields, where=name)
    folder = tempfile.TemporaryDirectory(prefix="mowich-")
    try:
        values, reads = dict(arguments), list[str]()
        for word in map(str, _listed(values.get("arguments"))):
            reads += [str(Path(word.partition("=")[2]).resolve())] if word.endswith(".npy") else []
        for key in (k for k in tool.kernels if k in values):
            values[key] = _as_files(values[key], key, Path(folder.name), reads)
        asked = {
            "tool": name,
            "values": {key: value for key, value in values.items() if value is not None},
            "reads": reads,
            "time_s": timeout_s,
            "memory_B": int(memory_GiB * 2**30),
        }
    except BaseException:
        folder.cleanup()
        raise
    command = (sys.executable, "-P", "-m", "mowich.cli.tool_process")
    return ToolCall(tool=tool, command=command, given=json.dumps(asked).encode(), folder=folder)


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, Sequence) and not isinstance(value, str) else ()


def _as_files(value: object, key: str, folder: Path, reads: list[str]) -> object:
    """Texts of files as files in a folder; names as they are. reads: gets every file."""
    if _listed(value):
        return [_as_files(one, f"{key}_{i}", folder, reads) for i, one in enumerate(_listed(value), 1)]
    if not isinstance(value, str):
        raise UserError("not a text", where=key, given=value)
    if "\n" in value or value == "":
        file = folder / f"{key}.py"
        file.write_text(value, encoding="utf-8")
        reads.append(str(file.resolve()))
        return str(file)
    named = re.sub(r":[A-Za-z_]\w*$", "", value) if not value.startswith("task:") else value
    with suppress(UserError):  # the verb says what is wrong with it
        reads.append(str(file_or_example(named, "kernels").resolve()))
    return value


def _sentences(result: Result) -> list[str]:
    """What the page of an answer says before its tables."""
    from mowich.show.verbs import PAGES, page_of

    return list(page_of(result).sentences) if result.get("schema") in PAGES else []
