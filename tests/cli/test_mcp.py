"""`mowich mcp`: verbs as tools whose arguments are those of the schema, in closed processes, over the protocol."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mowich import cli
from mowich.cli.tool_process import verb_of
from mowich.cli.tools import TOOLS, ToolAnswer, tool_call
from mowich.errors import UserError
from mowich.requests.fields import Edge

anyio = pytest.importorskip("anyio")
jsonschema = pytest.importorskip("jsonschema")

KERNELS = Path(__file__).resolve().parents[2] / "kernels"
SOFTMAX = (KERNELS / "softmax.py").read_text(encoding="utf-8")
ON = {"kernel": "softmax", "arguments": ["x=float32[128,64]"]}


def called(name: str, **arguments: object) -> ToolAnswer:
    call = tool_call(name, arguments, timeout_s=120.0, memory_GiB=4.0)
    done = subprocess.run(call.command, input=call.given, capture_output=True, check=False)
    return call.answer(done.returncode, done.stdout, done.stderr, 120.0)


# ---- the table
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(TOOLS))
def test_a_tool_has_the_fields_of_its_verb(name: str) -> None:
    tool = TOOLS[name]
    schema = tool.input_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert verb_of(tool).schema is tool.schema
    assert set(schema["required"]) == {f.name for f in tool.schema.at(Edge.OPTION) if f.needs}
    assert set(schema["properties"]) <= {f.name for f in tool.schema.at(Edge.OPTION)}
    for field in tool.fields:
        told = schema["properties"][field.name]
        assert field.help in told["description"]
        assert set(told.get("enum", field.words)) == set(field.words)
    for field in tool.schema.at(Edge.OPTION):  # nothing writes a file, and no folder of the caller is read
        if field.kind in ("file", "files") and not field.is_argument:
            assert field.name not in schema["properties"]
    assert not {"as_json", "as_csv", "plain", "quiet", "out", "emit", "cache", "trace"} & set(schema["properties"])


def test_kernels_that_a_caller_sends_run_closed() -> None:
    """Each verb that takes code says whose business closing is."""
    assert {name for name, tool in TOOLS.items() if tool.kernels} == {
        name for name, tool in TOOLS.items() if tool.code != "nobody"
    }
    assert {name for name, tool in TOOLS.items() if tool.code == "guests"} == {"kernel_judge", "kernel_tune"}


# ---- calls
# ----------------------------------------------------------------------------------------------------------------------


def test_an_answer_is_the_json_of_the_verb_with_a_few_words(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file.py").write_text(SOFTMAX, encoding="utf-8")
    assert cli.run(["kernel", "profile", str(tmp_path / "file.py"), "-k", "softmax", *ON["arguments"], "--json"]) == 0
    wanted = capsys.readouterr().out.replace(f"{tmp_path}/", "")
    found = called("kernel_profile", file=SOFTMAX, **ON)
    assert not found.is_error, found.text
    assert found.result == json.loads(wanted)
    assert found.text.startswith("softmax on trn3: ")


def test_candidates_are_judged_and_a_reference_is_closed_too() -> None:
    wrong = SOFTMAX.replace("op0=nl.multiply, operand0=inverse", "op0=nl.add, operand0=inverse")
    ours = {"shapes": ["x=float32[128,64]"], "seeds": 1}
    found = called("kernel_judge", candidates=[SOFTMAX, wrong, "import os\n"], reference="task:softmax", **ours)
    assert found.result is not None, found.text
    assert [(row["file"], row["status"]) for row in found.result["rows"]] == [
        ("candidates_1.py", "ok"),
        ("candidates_2.py", "wrong"),
        ("candidates_3.py", "refused"),
    ]
    reads = "def reference(x):\n    return open('/etc/hostname').read()\n"
    found = called("kernel_judge", candidates=["@softmax"], reference=reads, **ours)
    assert found.result is not None, found.text
    [row] = found.result["rows"]
    if sys.platform == "linux" and not found.result["missing"]:
        assert "reference.py:2: PermissionError" in row["reason"]


LEAVES = """
import os, socket
ways = [lambda: open('/etc/hostname'), lambda: open('new', 'w'), os.fork, socket.socket, lambda: os.listdir('/home')]
for leave in ways:
    try:
        leave()
    except OSError:
        continue
    raise AssertionError('left')
"""


@pytest.mark.skipif(sys.platform != "linux", reason="closed by Linux")
def test_a_kernel_cannot_leave_its_process() -> None:
    found = called("kernel_profile", file=LEAVES + SOFTMAX, **ON)
    if "cannot close" in found.text:
        pytest.skip(found.text)
    assert not found.is_error, found.text
    assert not Path("new").exists()


def test_what_is_wrong_is_said_in_the_words_of_the_tool() -> None:
    with pytest.raises(UserError, match="did you mean 'kernel_check'"):
        tool_call("kernel_chek", {}, timeout_s=1.0, memory_GiB=1.0)
    with pytest.raises(UserError, match="compare: unknown argument 'chip'"):
        tool_call("compare", {"chip": 4}, timeout_s=1.0, memory_GiB=1.0)
    call = tool_call("compare", {}, timeout_s=1.0, memory_GiB=1.0)
    said = b"note: read\nerror: --chips: is required with --serve; for example --seq 4096\nerror: MODEL: is required\n"
    found = call.answer(2, b"", said, 1.0)
    assert (found.text, found.result, found.is_error) == (
        "chips: is required with serve; for example seq 4096\nmodel: is required",
        None,
        True,
    )
    assert call.answer(None, b"", b"", 1.5).text == "the call took longer than 1.5 s"
    assert call.answer(-9, b"", b"", 1.0).text == "the call ended with exit code -9 and no answer"


# ---- the protocol
# ----------------------------------------------------------------------------------------------------------------------


def test_a_client_on_stdin_and_stdout() -> None:
    mcp = pytest.importorskip("mcp")
    from mcp.client.client import Client

    async def session() -> dict[str, Any]:
        server = mcp.StdioServerParameters(command=sys.executable, args=["-m", "mowich", "mcp"])
        async with Client(server) as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            good = await client.call_tool("kernel_check", {"file": SOFTMAX})
            bad = await client.call_tool("kernel_tasks", {"task": "gelo"})
            return {"tools": tools, "good": good, "bad": bad, "name": client.server_info.name}

    found = anyio.run(session)
    assert found["name"] == "mowich"
    assert {name: dict(tool.input_schema) for name, tool in found["tools"].items()} == {
        name: dict(tool.input_schema()) for name, tool in TOOLS.items()
    }
    assert all(tool.annotations.read_only_hint for tool in found["tools"].values())
    good, bad = found["good"], found["bad"]
    assert good.structured_content["schema"] == "mowich/kernel-check@1"
    assert json.loads(good.content[1].text) == good.structured_content
    assert good.content[0].text.startswith("Nothing found")
    assert bad.is_error
    assert "did you mean 'gelu'" in bad.content[0].text


def test_without_the_extra_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mcp.server.stdio", None)
    assert cli.run(["mcp"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: mowich mcp: needs the extra [mcp]")
    assert line.endswith("pip install 'mowich[mcp]'")
