"""`mowich mcp`: verbs as tools of the Model Context Protocol, on stdin and stdout.

The protocol is the business of its own library (the extra [mcp]): how a session begins, which revisions there are, what
a message looks like. Which tools there are is in `cli/tools.py`, what a call does in `cli/tool_calls.py`, what a
session keeps in `cli/tool_results.py`, what can be read by address in `cli/tool_resources.py`.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from mowich.cli.app import app
from mowich.cli.options import verb
from mowich.cli.tool_calls import MOST_ANSWER_B, ToolAnswer, ToolCall, tool_call
from mowich.cli.tool_prompts import TOOL_PROMPTS
from mowich.cli.tool_resources import (
    JSON_TEXT,
    MARKDOWN_TEXT,
    RESOURCE_FORMS,
    SKILL_ABOUT,
    SKILL_URI,
    ResourceText,
    resource_of,
)
from mowich.cli.tool_results import KeptResult, KeptResults, shown_result
from mowich.cli.tools import TOOLS, ToolVerb
from mowich.errors import UserError, unknown
from mowich.requests.agents import MCP, McpRequest
from mowich.version import VERSION

if TYPE_CHECKING:
    from anyio.abc import ByteReceiveStream, Process
    from mcp import types
    from mcp.server.context import ServerRequestContext
    from mcp.server.lowlevel import Server

    _Context = ServerRequestContext["ToolSession"]

INSTRUCTIONS = (
    "Mowich predicts training, serving and kernels on AWS Trainium and the systems beside it, without a device:"
    " compare, plan, fit, traffic, rl, sweep, fleet, gap, value, prices; kernel_* write and judge NKI kernels. An"
    " estimate is {value, low, high, unit, grade}: a 90% range, in SI, graded A (measured) to D (an estimate of ours)."
    " State the range with each number; where two ranges overlap, name no winner. Answers are kept: explain with result"
    " compare-1 (its ID) or last, and a metric, gives formula, facts and sources; mowich://results/ID is the whole"
    " answer. mowich://skill says which question is which tool."
)

CALLS_AT_ONCE = 4
"""Calls that run side by side; others wait."""


class ToolSession:
    """One client: the answers that are kept for it, and its turns. tools: those that it has."""

    def __init__(self, timeout_s: float, memory_GiB: float, tools: Collection[str]) -> None:
        from anyio import CapacityLimiter

        self.kept = KeptResults()
        self._turns = CapacityLimiter(CALLS_AT_ONCE)
        self._timeout_s, self._memory_GiB, self._tools = timeout_s, memory_GiB, tools

    async def asked(self, tool: str, arguments: dict[str, object]) -> tuple[ToolAnswer, KeptResult | None]:
        """The answer of a tool that the client has."""
        if tool not in self._tools:
            return ToolAnswer(text=unknown("tool", tool, self._tools).line(), result=None, is_error=True), None
        return await self.answer(tool, arguments)

    async def answer(self, tool: str, arguments: dict[str, object]) -> tuple[ToolAnswer, KeptResult | None]:
        """Make a call, and keep its answer where it has one. What is wrong is an answer too."""
        try:
            call = tool_call(tool, arguments, timeout_s=self._timeout_s, memory_GiB=self._memory_GiB, kept=self.kept)
        except UserError as error:
            return ToolAnswer(text=error.line(), result=None, is_error=True), None
        try:
            async with self._turns:
                found = await _made(call, self._timeout_s)
        finally:
            call.close()
        if found.result is None:
            return found, None
        return found, self.kept.keep(tool, found.result, found.text.partition("\n")[0], call.sent)


async def _made(call: ToolCall, timeout_s: float) -> ToolAnswer:
    """Make a call in its process; when the caller gives it up, the process and what it started are ended."""
    import anyio

    out, err = bytearray(), bytearray()
    process = await anyio.open_process(call.command, env=call.environment, start_new_session=True)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    code: int | None = None
    try:
        with anyio.move_on_after(timeout_s):
            async with anyio.create_task_group() as group:
                group.start_soon(_read, process.stdout, out)
                group.start_soon(_read, process.stderr, err)
                with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                    await process.stdin.send(call.given)
                await process.stdin.aclose()
            if len(out) <= MOST_ANSWER_B:
                code = await process.wait()
    finally:
        with anyio.CancelScope(shield=True):
            await _end(process)
    return call.answer(-1 if len(out) > MOST_ANSWER_B else code, bytes(out), bytes(err), timeout_s)


async def _read(stream: ByteReceiveStream, into: bytearray) -> None:
    """Read what a process prints, up to a little more than an answer may have."""
    async for piece in stream:
        into += piece
        if len(into) > MOST_ANSWER_B:
            return


async def _end(process: Process) -> None:
    """End a process and all that it started."""
    with suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    await process.aclose()


@verb(app, MCP, "mcp")
def mcp_(asked: McpRequest) -> None:
    """Serve until stdin ends."""
    try:
        import anyio
        import mcp.server.stdio as stdio
    except ImportError as error:
        raise UserError(
            f"needs the extra [mcp] ({error.name} is not installed)",
            where="mowich mcp",
            fix="pip install 'mowich[mcp]'",
        ) from None

    chosen = asked.tools or tuple(TOOLS)
    for name in chosen:
        if name not in TOOLS:
            raise unknown("tool", name, TOOLS, where="--tools")

    async def serve() -> None:
        server = mcp_server(asked.timeout, asked.memory, chosen)
        async with stdio.stdio_server() as (reads, writes):
            await server.run(reads, writes, server.create_initialization_options())

    anyio.run(serve)


def mcp_server(timeout_s: float, memory_GiB: float, chosen: Collection[str] = tuple(TOOLS)) -> Server[ToolSession]:
    """The server of the protocol: tools, what can be read, prompts. Each client has answers of its own. chosen: names
    of its tools."""
    from mcp import types
    from mcp.server.lowlevel import Server

    @asynccontextmanager
    async def session(server: Server[ToolSession]) -> AsyncIterator[ToolSession]:
        yield ToolSession(timeout_s, memory_GiB, chosen)

    async def tools(context: _Context, params: object) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[described(TOOLS[name]) for name in chosen])

    async def forms(context: _Context, params: object) -> types.ListResourceTemplatesResult:
        return types.ListResourceTemplatesResult(
            resource_templates=[
                types.ResourceTemplate(
                    uri_template=form.template, name=form.name, description=form.about, mime_type=form.kind
                )
                for form in RESOURCE_FORMS
            ]
        )

    async def prompts(context: _Context, params: object) -> types.ListPromptsResult:
        return types.ListPromptsResult(
            prompts=[
                types.Prompt(
                    name=prompt.name,
                    description=prompt.about,
                    arguments=[
                        types.PromptArgument(name=name, description=about, required=True)
                        for name, about in prompt.needs.items()
                    ],
                )
                for prompt in TOOL_PROMPTS.values()
            ]
        )

    return Server(
        "mowich",
        version=VERSION,
        instructions=INSTRUCTIONS,
        lifespan=session,
        on_list_tools=tools,
        on_call_tool=_called,
        on_list_resources=_resources,
        on_list_resource_templates=forms,
        on_read_resource=_read_resource,
        on_list_prompts=prompts,
        on_get_prompt=_prompted,
    )


def described(tool: ToolVerb) -> types.Tool:
    """A tool as the protocol lists it."""
    from mcp import types

    return types.Tool(
        name=tool.name,
        description=tool.about,
        input_schema=dict(tool.input_schema()),
        output_schema=dict(tool.output_schema()),
        annotations=types.ToolAnnotations(
            read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
        ),
    )


async def _called(context: _Context, params: types.CallToolRequestParams) -> types.CallToolResult:
    """The answer of a tool: sentences, its JSON as it is shown, and where all of it and its explanations are."""
    from mcp import types

    answer, kept = await context.lifespan_context.asked(params.name, params.arguments or {})
    texts = [answer.text] * bool(answer.text)
    shown = None if kept is None else shown_result(kept)
    texts += [] if shown is None else [_json(shown)]
    links = [] if kept is None else [_link(kept)]
    return types.CallToolResult(
        content=[*(types.TextContent(type="text", text=text) for text in texts), *links],
        structured_content=shown,
        is_error=answer.is_error,
    )


def _link(kept: KeptResult) -> types.ResourceLink:
    from mcp import types

    return types.ResourceLink(
        uri=kept.uri,
        name=kept.name,
        description=f"Whole answer; its numbers: {kept.uri}/explain",
        mime_type=JSON_TEXT,
        size=len(kept.text.encode()),
    )


async def _resources(context: _Context, params: object) -> types.ListResourcesResult:
    """The page for assistants, and the answers of the session, the newest first."""
    from mcp import types

    kept = [
        types.Resource(
            uri=one.uri, name=one.name, description=one.title, mime_type=JSON_TEXT, size=len(one.text.encode())
        )
        for one in reversed(list(context.lifespan_context.kept))
    ]
    skill = types.Resource(uri=SKILL_URI, name="skill", description=SKILL_ABOUT, mime_type=MARKDOWN_TEXT)
    return types.ListResourcesResult(resources=[skill, *kept])


async def _read_resource(context: _Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
    """A resource. Raises MCPError where nothing is at an address."""
    from mcp import types
    from mcp.shared.exceptions import MCPError

    session = context.lifespan_context
    try:
        found = resource_of(params.uri, session.kept)
    except UserError as error:
        raise MCPError(types.INVALID_PARAMS, error.line()) from None
    if not isinstance(found, ResourceText):
        answer, kept = await session.answer(found.tool, dict(found.arguments))
        if kept is None:
            raise MCPError(types.INVALID_PARAMS, answer.text)
        found = ResourceText(text=_json(shown_result(kept)), kind=JSON_TEXT)
    return types.ReadResourceResult(
        contents=[types.TextResourceContents(uri=params.uri, mime_type=found.kind, text=found.text)]
    )


async def _prompted(context: _Context, params: types.GetPromptRequestParams) -> types.GetPromptResult:
    """A prompt with its blanks filled. Raises MCPError for one that is not known."""
    from mcp import types
    from mcp.shared.exceptions import MCPError

    try:
        if params.name not in TOOL_PROMPTS:
            raise unknown("prompt", params.name, TOOL_PROMPTS)
        text = TOOL_PROMPTS[params.name].filled(params.arguments or {})
    except UserError as error:
        raise MCPError(types.INVALID_PARAMS, error.line()) from None
    content = types.TextContent(type="text", text=text)
    return types.GetPromptResult(
        description=TOOL_PROMPTS[params.name].about, messages=[types.PromptMessage(role="user", content=content)]
    )


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
