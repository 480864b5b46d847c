"""mcp: verbs as tools for programs that speak the Model Context Protocol."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mowich.requests.common import QUIET, Request, form_of
from mowich.requests.fields import TYPED, names
from mowich.requests.kernels import GUEST_MEMORY, GUEST_TIME
from mowich.requests.schema import QuestionReader, Schema

_CALL_TIME = replace(
    GUEST_TIME, help="Most seconds that one call of a tool may take.", default=300.0, shown="300", keyword=""
)
_CALL_MEMORY = replace(
    GUEST_MEMORY, help="Most GiB that a kernel of a call may take.", default=8.0, shown="8", keyword=""
)


_TOOLS = names("tools", "Serve these tools alone: compare,plan,explain (else all).", metavar="NAMES", edges=TYPED)


@dataclass(frozen=True, slots=True, kw_only=True)
class McpRequest(Request):
    """A server of tools. timeout: seconds of a call; memory: GiB of its kernel; tools: names, None: all."""

    timeout: float
    memory: float
    tools: tuple[str, ...] | None


def _mcp(reader: QuestionReader) -> McpRequest:
    form = form_of(reader)
    if reader.get(_TOOLS) == ():
        reader.add("names no tool", _TOOLS, fix="for example --tools compare,plan,explain")
    reader.stop()
    return reader.fill(McpRequest, form=form)


MCP = Schema(
    name="mcp",
    fields=(_TOOLS, _CALL_TIME, _CALL_MEMORY, QUIET),
    make=_mcp,
    help=(
        "Serve verbs as tools to programs that speak the Model Context Protocol, on stdin and stdout: answers with"
        " ranges, kept for the session, and their explanations as resources. Kernels run in closed processes."
    ),
    short="Verbs as tools of the Model Context Protocol, on stdin and stdout.",
    example="claude mcp add mowich -- mowich mcp",
)
