"""The call of a tool: what it was given becomes files and arguments, a process answers, and its answer is read.

A call is a process of its own, which answers with what the verb prints for programs (`--json`). So a call that hangs,
crashes or prints does no harm to the next one. Code of a caller runs closed: kernels of `kernel judge` in its guests
and its reference beside them, those of the other verbs with the whole call. A call writes no file but those of its own
folder, which ends with it, and keeps nothing for the next one: what a session keeps is in `cli/tool_results.py`. This
module knows nothing of a protocol.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mowich.cli.tool_results import KeptResults
from mowich.cli.tools import SUFFIX_OF, TOOLS, SentText, ToolVerb
from mowich.errors import UserError, unknown
from mowich.examples import file_or_example, folder_of
from mowich.kept import CACHE_VARIABLE
from mowich.shown import Result

MOST_SENT = 4_000_000
"""Characters of the arguments of a call."""

MOST_ANSWER_B = 32_000_000
"""Bytes that a call may answer with."""

SAID = "said: "
"""What stands before a sentence of the page of an answer, on stderr of the process."""


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
    caller sent as text; sent: those that an explanation of the answer may read again, name -> text."""

    tool: ToolVerb
    command: tuple[str, ...]
    given: bytes
    folder: tempfile.TemporaryDirectory[str]
    sent: Mapping[str, str]

    @property
    def environment(self) -> dict[str, str]:
        """Of the process: ours, but nothing is kept in the user's folder."""
        return {**os.environ, CACHE_VARIABLE: "off"}

    def close(self) -> None:
        """Remove the files that were sent."""
        self.folder.cleanup()

    def refused(self, what: str) -> ToolAnswer:
        """The answer of a call that was ended."""
        self.close()
        return ToolAnswer(text=what, result=None, is_error=True)

    def answer(self, code: int | None, out: bytes, err: bytes, timeout_s: float) -> ToolAnswer:
        """What the process gave. code: None: it was ended because it took too long."""
        if code is None:
            return self.refused(f"the call took longer than {timeout_s:g} s")
        if len(out) > MOST_ANSWER_B:
            return self.refused(f"the answer is larger than {MOST_ANSWER_B / 1e6:g} MB; ask for less")
        self.close()
        inner = re.compile(rf"{re.escape(self.folder.name)}/({_OF_RESULT}/)?")
        said, told = (inner.sub("", text.decode(errors="replace")) for text in (out, err))
        try:
            result = json.loads(said)
        except ValueError:
            lines = [self._in_their_words(x) for x in _after(told, "error: ")]
            text = "\n".join(lines) or f"the call ended with exit code {code} and no answer"
            return ToolAnswer(text=text, result=None, is_error=True)
        return ToolAnswer(text="\n".join(_after(told, SAID, "note: ", "warning: ", "error: ")), result=result)

    def _in_their_words(self, line: str) -> str:
        """An error with fields as the tool calls them."""
        for field in self.tool.fields:
            if field.is_argument:
                line = re.sub(rf"^{re.escape(field.flag)}(?=:)", field.name, line)
        return self.tool.in_its_words(line)


_OF_RESULT = "of-result"
"""The folder of files that were sent for an answer that is asked of."""


def _after(told: str, *begins: str) -> list[str]:
    """The lines that begin so, without that; those of the first beginning first."""
    return [line.removeprefix(begin) for begin in begins for line in told.splitlines() if line.startswith(begin)]


def tool_call(
    name: str,
    arguments: Mapping[str, object],
    *,
    timeout_s: float,
    memory_GiB: float,
    kept: KeptResults | None = None,
) -> ToolCall:
    """The call of a tool. kept: the answers of the session, which `result` may name. Raises UserError for a tool or an
    argument that is not known, for an answer that is not kept, and where too much is sent."""
    if name not in TOOLS:
        raise unknown("tool", name, TOOLS)
    tool = TOOLS[name]
    known_fields = {field.name: field for field in tool.fields}
    for key in arguments:
        if key not in known_fields:
            raise unknown("argument", key, known_fields, where=name)
    sent = len(json.dumps(arguments))
    if sent > MOST_SENT:
        raise UserError(f"too much is sent: {sent:,} characters", where=name, allowed=f"{MOST_SENT:,}")
    folder = tempfile.TemporaryDirectory(prefix="mowich-")
    try:
        values, reads = dict(arguments), list[str]()
        for word in map(str, _listed(values.get("arguments"))):
            reads += [str(Path(word.partition("=")[2]).resolve())] if word.endswith(".npy") else []
        files = _Files(folder=Path(folder.name), reads=reads, kept=kept, sent={})
        for key, field in known_fields.items():
            if values.get(key) is not None and (holds := tool.holds(field)) is not None:
                values[key] = files.named(values[key], key, holds)
        asked = {
            "tool": name,
            "values": {**{key: value for key, value in values.items() if value is not None}, **tool.always},
            "reads": reads,
            "time_s": timeout_s,
            "memory_B": int(memory_GiB * 2**30),
        }
    except BaseException:
        folder.cleanup()
        raise
    command = (sys.executable, "-P", "-m", "mowich.cli.tool_process")
    return ToolCall(tool=tool, command=command, given=json.dumps(asked).encode(), folder=folder, sent=files.sent)


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, Sequence) and not isinstance(value, str) else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Files:
    """The files of a call. folder: of those that are sent; reads: gets every file of kernels; kept: answers; sent: gets
    the texts of the others, but not of results."""

    folder: Path
    reads: list[str]
    kept: KeptResults | None
    sent: dict[str, str]

    def named(self, value: object, key: str, holds: SentText) -> object:
        """Texts are written as files in the folder; names stay. Raises UserError for a value that is neither."""
        if isinstance(value, list | tuple):
            return [self.named(one, f"{key}_{i}", holds) for i, one in enumerate(value, 1)]
        if isinstance(value, Mapping) and holds in ("model", "result"):
            value = json.dumps(value)
        if not isinstance(value, str):
            raise UserError("not a text", where=key, given=value)
        if holds == "result" and self.kept is not None and (found := self.kept.named(value)) is not None:
            value = found.text_in(self.folder / _OF_RESULT)
        if _is_text(value, holds):
            file = self.folder / f"{key}{SUFFIX_OF[holds] if holds != 'model' or _is_json(value) else '.yaml'}"
            file.write_text(value, encoding="utf-8")
            if holds == "kernel":
                self.reads.append(str(file.resolve()))
            elif holds != "result":
                self.sent[file.name] = value
            if holds == "scenario":
                self._beside(value)
            return str(file)
        if holds == "kernel":
            named = re.sub(r":[A-Za-z_]\w*$", "", value) if not value.startswith("task:") else value
            with suppress(UserError):  # the verb says what is wrong with it
                self.reads.append(str(file_or_example(named, "kernels").resolve()))
        return value

    def _beside(self, scenario: str) -> None:
        """Put the files that ship beside scenarios there, where a text names them: a scenario that ships may be sent
        with a line changed."""
        for file in sorted(folder_of("scenarios").glob("*.json")):
            if file.name in scenario:
                self.sent[file.name] = text = file.read_text(encoding="utf-8")
                (self.folder / file.name).write_text(text, encoding="utf-8")


def _is_json(text: str) -> bool:
    with suppress(ValueError):
        return isinstance(json.loads(text), Mapping)
    return False


def _is_text(value: str, holds: SentText) -> bool:
    """Whether this is the text of a file, and not its name."""
    return "\n" in value or value == "" or (holds != "kernel" and value.lstrip().startswith(("{", "[")))
