"""`mowich mcp`: verbs as tools of the Model Context Protocol, on stdin and stdout.

The protocol is the business of its own library (the extra [mcp]): how a session begins, which revisions there are, what
a message looks like. Which tools there are, and what a call does, is in `cli/tools.py`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mowich.cli.app import app
from mowich.cli.options import verb
from mowich.cli.tools import TOOLS, ToolAnswer, ToolVerb, tool_call
from mowich.errors import UserError
from mowich.requests.agents import MCP, McpRequest
from mowich.version import VERSION

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server
    from mcp.types import CallToolResult, Tool

_INSTRUCTIONS = (
    "Mowich predicts kernels, training and serving on AWS Trainium and the systems beside it, without a device. To"
    " write a fast NKI kernel: kernel_tasks lists operators, kernel_check says what the compiler would refuse,"
    " kernel_judge says which candidates are right and how long each takes, kernel_profile which engine binds and"
    " which lines cost, kernel_advise which edits gain, kernel_tune which constants are fastest. Times are predictions"
    " with a 90% range."
)


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

    async def serve() -> None:
        server = mcp_server(asked.timeout, asked.memory)
        async with stdio.stdio_server() as (reads, writes):
            await server.run(reads, writes, server.create_initialization_options())

    anyio.run(serve)


def mcp_server(timeout_s: float, memory_GiB: float) -> Server[object]:
    """The server of the protocol with a tool for each of `TOOLS`."""
    from mcp import types
    from mcp.server.lowlevel import Server

    async def listed(context: object, params: object) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[_described(tool) for tool in TOOLS.values()])

    async def called(context: object, params: types.CallToolRequestParams) -> CallToolResult:
        try:
            answer = await _called(params.name, params.arguments or {}, timeout_s, memory_GiB)
        except UserError as error:
            answer = ToolAnswer(text=error.line(), result=None, is_error=True)
        texts = [answer.text] * bool(answer.text)
        texts += [] if answer.result is None else [json.dumps(answer.result, ensure_ascii=False)]
        return types.CallToolResult(
            content=[types.TextContent(type="text", text=text) for text in texts],
            structured_content=answer.result,
            is_error=answer.is_error,
        )

    return Server("mowich", version=VERSION, instructions=_INSTRUCTIONS, on_list_tools=listed, on_call_tool=called)


def _described(tool: ToolVerb) -> Tool:
    from mcp import types

    return types.Tool(
        name=tool.name,
        description=f"{tool.schema.help} As on the command line: {tool.schema.example}",
        input_schema=dict(tool.input_schema()),
        annotations=types.ToolAnnotations(read_only_hint=True, open_world_hint=False),
    )


async def _called(name: str, arguments: dict[str, object], timeout_s: float, memory_GiB: float) -> ToolAnswer:
    """Make a call in its process; when the caller gives it up, the process is ended."""
    import anyio

    call = tool_call(name, arguments, timeout_s=timeout_s, memory_GiB=memory_GiB)
    try:
        with anyio.fail_after(timeout_s):
            done = await anyio.run_process(call.command, input=call.given, check=False)
    except TimeoutError:
        return call.answer(None, b"", b"", timeout_s)
    return call.answer(done.returncode, done.stdout, done.stderr, timeout_s)
