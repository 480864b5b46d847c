"""What a session of tools has to read, by address: answers and their explanations, facts, examples, a page for
assistants. This module knows nothing of a protocol."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from mowich.cli.tool_results import KeptResults
from mowich.errors import UserError

SCHEME = "mowich://"
JSON_TEXT, MARKDOWN_TEXT, PLAIN_TEXT = "application/json", "text/markdown", "text/plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceText:
    """A text that is there. kind: its media type."""

    text: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceAsk:
    """A resource that the call of a tool makes."""

    tool: str
    arguments: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceForm:
    """A family of addresses: its template, its name, what it holds."""

    template: str
    name: str
    about: str
    kind: str = JSON_TEXT


RESOURCE_FORMS: Sequence[ResourceForm] = (
    ResourceForm(template="mowich://results/{id}", name="result", about="An answer of this session, whole."),
    ResourceForm(
        template="mowich://results/{id}/at/{+path}", name="part", about="A part of an answer: at/rows/0/step_s."
    ),
    ResourceForm(
        template="mowich://results/{id}/explain",
        name="metrics",
        about="Names of the numbers of an answer: `first` are those that say most.",
    ),
    ResourceForm(
        template="mowich://results/{id}/explain/{metric}",
        name="explanation",
        about="One number of an answer: formula, numbers put in, facts with sources, what moves it most.",
    ),
    ResourceForm(
        template="mowich://facts/{path}",
        name="facts",
        about="A chip, a system, or a fact by its path: value, range, grade, source, date.",
    ),
    ResourceForm(
        template="mowich://examples/{name}",
        name="example",
        about="Text of a scenario or a kernel that ships (tool example lists them).",
        kind=PLAIN_TEXT,
    ),
)
SKILL_URI = "mowich://skill"
SKILL_ABOUT = "Which question is which command, how to read ranges, how to cite facts."


def resource_of(uri: str, kept: KeptResults) -> ResourceText | ResourceAsk:
    """What is at an address. Raises UserError where nothing is."""
    from mowich.examples import find

    head, *rest = [unquote(part) for part in uri.removeprefix(SCHEME).split("/")]
    if not uri.startswith(SCHEME) or "" in (head, *rest):
        raise _nothing(uri)
    if uri == SKILL_URI:
        return ResourceText(text=find("skill").path.read_text(encoding="utf-8"), kind=MARKDOWN_TEXT)
    if head == "examples" and len(rest) == 1:
        return ResourceText(text=find(rest[0]).path.read_text(encoding="utf-8"), kind=PLAIN_TEXT)
    if head == "facts" and len(rest) == 1:
        return ResourceAsk(tool="facts_show", arguments={"names": rest})
    if head != "results" or not rest:
        raise _nothing(uri)
    found, of = kept.find(rest[0]), rest[1:]
    if not of:
        return ResourceText(text=found.text, kind=JSON_TEXT)
    if of[0] == "at" and of[1:]:
        return ResourceText(text=json.dumps(found.part("/".join(of[1:])), ensure_ascii=False), kind=JSON_TEXT)
    if of[0] == "explain" and len(of) <= 2:
        return ResourceAsk(tool="explain", arguments={"result": found.name, **({"metric": of[1]} if of[1:] else {})})
    raise _nothing(uri)


def _nothing(uri: str) -> UserError:
    return UserError("no such resource", given=uri, allowed=[SKILL_URI, *(form.template for form in RESOURCE_FORMS)])
