"""The process of one call of a tool: reads the call from stdin, closes itself where it runs code of the caller, and
answers as the verb does with --json. On stderr it says what the page of the answer says before its tables."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout

from mowich.cli.app import app, outcome
from mowich.cli.options import VerbCall
from mowich.cli.tool_calls import SAID
from mowich.cli.tools import TOOLS, ToolVerb
from mowich.cli.verbs import load_verbs
from mowich.errors import UserError
from mowich.examples import folder_of
from mowich.requests.common import JSON, Request
from mowich.shown import Result


def verb_of(tool: ToolVerb) -> VerbCall[Request]:
    """What the command line calls for a tool's verb. Raises LookupError for one that it has not."""
    load_verbs(app)
    groups = [app, *(group.typer_instance for group in app.registered_groups if group.typer_instance is not None)]
    for command in (command for group in groups for command in group.registered_commands):
        if isinstance(command.callback, VerbCall) and command.callback.schema is tool.schema:
            return command.callback
    raise LookupError(tool.name)


def _answered() -> int:
    asked, printed = json.load(sys.stdin), io.StringIO()
    with redirect_stdout(printed):
        code = outcome(lambda: _call(TOOLS[asked["tool"]], asked), debug=False)
        for sentence in said_of(printed.getvalue()):
            print(f"{SAID}{sentence}", file=sys.stderr)
    sys.stdout.write(printed.getvalue())
    return code


def said_of(printed: str) -> list[str]:
    """What the page of an answer says before its tables, each in one line; of an explanation, what it is of."""
    from mowich.show.explain import explanation_said
    from mowich.show.verbs import has_page, page_of

    try:
        result = json.loads(printed)
    except ValueError:
        return []
    if result.get("schema") == "mowich/explain@1":
        said = explanation_said(result)
    else:
        said = list(page_of(result).sentences) if has_page(result) else []
    return [" ".join(sentence.split()) for sentence in said]


def _call(tool: ToolVerb, asked: Result) -> int | None:
    if tool.code == "call":
        _close(asked["reads"], int(asked["memory_B"]), float(asked["time_s"]))
    elif tool.code == "guests":
        from mowich.studies.judge.referee import READS_ALONE

        READS_ALONE.set(tuple(asked["reads"]))
    return verb_of(tool)(**asked["values"], **{JSON.name: True})


def _close(reads: Sequence[str], memory_B: int, time_s: float) -> None:
    """Close this process: to the system, whose guards machine code does not pass either. Hooks of Python would stop the
    verb as well, which reads its modules as it needs them. Raises UserError on a system that cannot."""
    from mowich.studies.judge.closed import GUARDS, close, readable_folders

    shipped = str(folder_of("kernels").resolve())
    guards = [name for name in GUARDS if name != "hooks"]
    found = close(reads=(*readable_folders(), shipped, *reads), memory_B=memory_B, time_s=time_s, guards=guards)
    lost = {"files", "calls"} & set(found.missing)
    if lost:
        raise UserError(
            f"this system cannot close the process of a kernel (without: {', '.join(sorted(lost))})",
            fix="kernel_judge runs candidates behind hooks of Python, or use the command line",
        )


if __name__ == "__main__":
    sys.exit(_answered())
