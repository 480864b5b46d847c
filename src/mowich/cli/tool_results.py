"""The answers of a session of tools: kept for what is asked of them next, and shortened for who reads them.

Answers are kept in memory, as the text of their JSON, and end with the session.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mowich.errors import UserError, did_you_mean
from mowich.kept import LAST
from mowich.shown import Result

MOST_ANSWERS = 64
"""Answers that a session keeps; the oldest goes first."""

MOST_ANSWER_CHARS = 64_000_000
"""Characters of all of them."""

MOST_SHOWN = 24_000
"""Characters of an answer as it is shown, some 6,000 tokens."""

ASIDE = ("facts_read",)
"""Keys that are shown in the whole answer alone: a list of every fact that was read is longer than most answers."""

_ALWAYS = frozenset(("schema", "version", "inputs"))

_NOT_LAST = frozenset(("explain", "facts_list", "facts_show", "facts_diff", "example", "kernel_tasks"))
"""Tools whose answer is no result that `last` could mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptResult:
    """An answer. name: its ID; text: its JSON; title: its first sentence; sent: the files that were sent for it, name
    -> text, which its explanation reads again."""

    name: str
    text: str
    title: str
    sent: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Characters that it holds."""
        return len(self.text) + sum(map(len, self.sent.values()))

    def text_in(self, folder: Path) -> str:
        """Its JSON, with the files that were sent for it in a folder."""
        text = self.text
        for name, body in self.sent.items():
            folder.mkdir(exist_ok=True)
            (folder / name).write_text(body, encoding="utf-8")
            text = text.replace(json.dumps(name), json.dumps(str(folder / name)))
        return text

    @property
    def uri(self) -> str:
        """Its address in the session."""
        return f"mowich://results/{self.name}"

    def part(self, path: str) -> object:
        """The value at a path of keys and places, "rows/0/step_s". Raises UserError where there is none."""
        node: object = json.loads(self.text)
        for i, key in enumerate(keys := [key for key in path.split("/") if key], 1):
            where = f"{self.uri}/at/{'/'.join(keys[:i])}"
            if isinstance(node, Mapping) and key in node:
                node = node[key]
            elif isinstance(node, list) and key.isdecimal() and int(key) < len(node):
                node = node[int(key)]
            elif isinstance(node, list):
                raise UserError("no such place in the answer", where=where, allowed=f"0 to {len(node) - 1}")
            else:
                known = sorted(node) if isinstance(node, Mapping) else []
                raise UserError(
                    "no such key in the answer", where=where, allowed=known or None, fix=did_you_mean(key, known)
                )
        return node


@dataclass(slots=True, kw_only=True)
class KeptResults:
    """The answers of one session, the oldest first."""

    most: int = MOST_ANSWERS
    most_chars: int = MOST_ANSWER_CHARS
    _of: dict[str, KeptResult] = field(default_factory=dict)
    _made: int = 0
    _last: str = ""

    def __iter__(self) -> Iterator[KeptResult]:
        return iter(self._of.values())

    def __len__(self) -> int:
        return len(self._of)

    def keep(self, tool: str, result: Result, title: str, sent: Mapping[str, str] | None = None) -> KeptResult:
        """Keep an answer; the same answer again has the same name."""
        text = json.dumps(result, ensure_ascii=False, separators=(",", ":"))
        found = next((one for one in self._of.values() if one.text == text and one.sent == (sent or {})), None)
        if found is None:
            self._made += 1
            name = f"{tool.replace('_', '-')}-{self._made}"
            found = KeptResult(name=name, text=text, title=title, sent=sent or {})
        self._of.pop(found.name, None)
        self._of[found.name] = found
        if tool not in _NOT_LAST:
            self._last = found.name
        while len(self._of) > 1 and (
            len(self._of) > self.most or sum(one.size for one in self._of.values()) > self.most_chars
        ):
            del self._of[next(iter(self._of))]
        return found

    def find(self, name: str) -> KeptResult:
        """An answer by its name; the last for `last`. Raises UserError for one that is not kept."""
        if name == LAST and self._last in self._of:
            return self._of[self._last]
        if name not in self._of:
            what = "no answer is kept yet" if not self._of else "no such answer is kept"
            raise UserError(
                what,
                given=name,
                allowed=[LAST, *self._of] if self._of else None,
                fix="ask first, for example compare" if not self._of else f"the last {self.most} answers are kept",
            )
        return self._of[name]

    def named(self, given: str) -> KeptResult | None:
        """The answer that a text names; None for one that names none: a file, or JSON. Raises UserError for the name of
        one that is not kept."""
        is_name = given == LAST or given in self._of or _NAME.fullmatch(given) is not None
        return self.find(given) if is_name else None


_NAME = re.compile(r"[a-z-]+-\d+")


def shown_result(kept: KeptResult, most: int = MOST_SHOWN) -> Result:
    """An answer as it is shown: whole where it is short. A longer one loses the ends of its lists, the longest first;
    `left_out` says what, and `whole` where all of it is.

    most: characters of its JSON.
    """
    result = json.loads(kept.text)
    out = {key: value for key, value in result.items() if key not in ASIDE}
    left = {key: _count(result[key]) for key in ASIDE if result.get(key)}
    size_of = {key: _size(value) + len(key) + _AROUND for key, value in out.items()}
    cut: set[str] = set()
    while (over := sum(size_of.values()) + 1 - most) > 0 and (keys := size_of.keys() - cut - _ALWAYS):
        key = max(sorted(keys), key=size_of.__getitem__)
        value, room = out.pop(key), size_of.pop(key) - over
        first = _first(value, room - len(key) - _AROUND) if isinstance(value, list) else []
        left[key] = f"{len(value) - len(first):,} of {len(value):,}" if first else _count(value)
        if first:
            out[key], size_of[key] = first, _size(first) + len(key) + _AROUND
            cut.add(key)
    out = {key: out[key] for key in result if key in out}
    return {**out, "left_out": left, "whole": kept.uri} if left else out


_AROUND = 4
"""Characters around a key: two quotes, a colon, a comma."""


def _count(value: object) -> str:
    """How many there are of what is left out."""
    return f"{len(value):,} of {len(value):,}" if isinstance(value, list | dict) else "all"


def _size(value: object) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def _first(values: list[object], room: int) -> list[object]:
    """As many of the first values as there is room for."""
    size = 2
    for i, value in enumerate(values):
        size += _size(value) + 1
        if size > room:
            return values[:i]
    return values
