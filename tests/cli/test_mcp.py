"""`mowich mcp`: verbs as tools whose arguments are those of the schema, in processes of their own, over the protocol:
answers with ranges, kept for the session, and their explanations."""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mowich import cli
from mowich.cli import mcp as served
from mowich.cli import tool_calls, tool_process
from mowich.cli.app import app, outcome
from mowich.cli.options import VerbCall
from mowich.cli.tool_calls import ToolAnswer, tool_call
from mowich.cli.tool_process import verb_of
from mowich.cli.tool_prompts import TOOL_PROMPTS
from mowich.cli.tool_resources import ResourceAsk, ResourceText, resource_of
from mowich.cli.tool_results import ASIDE, KeptResults, shown_result
from mowich.cli.tools import NO_TOOLS, RESULT_KEYS, TOOLS
from mowich.cli.verbs import load_verbs
from mowich.errors import UserError
from mowich.requests.fields import Edge

anyio = pytest.importorskip("anyio")
jsonschema = pytest.importorskip("jsonschema")

ROOT = Path(__file__).resolve().parents[2]
SOFTMAX = (ROOT / "kernels" / "softmax.py").read_text(encoding="utf-8")
ON = {"kernel": "softmax", "arguments": ["x=float32[128,64]"]}


def called(name: str, /, **arguments: object) -> ToolAnswer:
    call = tool_call(name, arguments, timeout_s=120.0, memory_GiB=4.0)
    done = subprocess.run(call.command, input=call.given, capture_output=True, check=False, env=call.environment)
    return call.answer(done.returncode, done.stdout, done.stderr, 120.0)


def called_here(name: str, kept: KeptResults | None = None, /, **arguments: object) -> ToolAnswer:
    """The same in this process, for tools that run nobody's code."""
    assert TOOLS[name].code == "nobody"
    call = tool_call(name, arguments, timeout_s=120.0, memory_GiB=4.0, kept=kept)
    out, err, asked = io.StringIO(), io.StringIO(), json.loads(call.given)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = outcome(lambda: tool_process._call(TOOLS[name], asked), debug=False)
    return call.answer(code, out.getvalue().encode(), err.getvalue().encode(), 120.0)


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
    assert set(tool.texts) <= set(schema["properties"])
    for field in tool.fields:
        told = schema["properties"][field.name]
        assert tool.in_its_words(field.help) in told["description"] or tool.texts.get(field.name) == "result"
        assert not re.search(r"(?<![\w-])--?[a-z]", told["description"])
        assert len(told["description"]) <= 300
        assert set(told.get("enum", field.vocabulary)) == set(field.vocabulary)
    for field in tool.schema.at(Edge.OPTION):  # nothing writes a file, and no folder of the caller is read
        if field.kind in ("file", "files") and not field.is_argument and field.name not in tool.texts:
            assert field.name not in schema["properties"]
    assert not {"as_json", "as_csv", "plain", "quiet", "out", "emit", "cache", "trace"} & set(schema["properties"])


def test_every_verb_is_a_tool_or_says_why_not() -> None:
    groups = [load_verbs(app), *(group.typer_instance for group in app.registered_groups)]
    verbs = [c.callback for group in groups if group is not None for c in group.registered_commands]
    names = {verb.schema.name for verb in verbs if isinstance(verb, VerbCall)}
    assert names - {tool.schema.name for tool in TOOLS.values()} == set(NO_TOOLS)


def test_kernels_that_a_caller_sends_run_closed() -> None:
    """Each verb that takes code says whose business closing is."""
    assert {name for name, tool in TOOLS.items() if "kernel" in tool.texts.values()} == {
        name for name, tool in TOOLS.items() if tool.code != "nobody"
    }
    assert {name for name, tool in TOOLS.items() if tool.code == "guests"} == {"kernel_judge", "kernel_tune"}


def test_the_list_of_tools_is_short_enough_to_read() -> None:
    """What docs/read/agents.md says of its size is true, within a tenth."""
    pytest.importorskip("mcp")
    size = 0
    for tool in TOOLS.values():
        listed = served.described(tool).model_dump(by_alias=True, exclude_none=True, mode="json")
        assert len(listed["description"]) <= 600
        read = {key: listed[key] for key in ("name", "description", "inputSchema")}
        size += len(json.dumps(read, ensure_ascii=False, separators=(",", ":")))
    [said] = re.findall(r"some ([\d,]+) tokens", (ROOT / "docs" / "read" / "agents.md").read_text(encoding="utf-8"))
    assert float(said.replace(",", "")) == pytest.approx(size / 4, rel=0.1)


def test_output_schemas_hold_for_the_answers_that_are_kept() -> None:
    checked = set()
    for file in sorted((ROOT / "tests" / "golden" / "answers").glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines()[::7]:
            answer = json.loads(line)["answer"]
            kind = answer.get("schema", "").removeprefix("mowich/").removesuffix("@1") if type(answer) is dict else ""
            for tool in TOOLS.values():
                if kind in tool.answers:
                    jsonschema.validate(answer, tool.output_schema())
                    assert RESULT_KEYS[kind].keys() <= answer.keys() | {"unserved"}, (kind, line[:100])
                    checked.add(kind)
    assert len(checked) > 10
    assert set(RESULT_KEYS) >= {kind for tool in TOOLS.values() for kind in tool.answers}


# ---- answers that are kept
# ----------------------------------------------------------------------------------------------------------------------

PLANNED = {"schema": "mowich/plan@1", "inputs": {"model": "x"}, "plans": [{"tp": 1}, {"tp": 2}]}


def test_answers_are_kept_by_name_and_the_oldest_goes_first() -> None:
    kept = KeptResults(most=2)
    with pytest.raises(UserError, match="no answer is kept yet"):
        kept.find("last")
    first = kept.keep("plan", PLANNED, "")
    assert kept.keep("plan", dict(PLANNED), "").name == first.name == "plan-1"
    second = kept.keep("facts_show", {"schema": "mowich/facts@1"}, "")
    assert kept.find("last") is first  # facts are no result
    third = kept.keep("compare", {"schema": "mowich/compare@1"}, "")
    assert [one.name for one in kept] == [second.name, third.name] == ["facts-show-2", "compare-3"]
    with pytest.raises(UserError, match="no such answer is kept, got 'plan-1'; allowed: last, facts-show-2, compare-3"):
        kept.find("plan-1")
    assert kept.find("last") is third
    large = KeptResults(most_chars=100)
    for i in range(5):
        large.keep("plan", {"schema": "mowich/plan@1", "text": f"{i}" * 40}, "")
    assert len(large) == 1


json_values = st.recursive(
    st.none() | st.integers(-9, 9) | st.text("ab", max_size=60),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text("cd", max_size=3), inner, max_size=4),
    max_leaves=12,
)
parts = st.dictionaries(st.sampled_from(["rows", "plans", "why", "text"]), json_values)
read_facts = st.dictionaries(st.text("ef", min_size=1), st.just(1.0))


@given(rest=parts, facts=read_facts, most=st.integers(60, 500))
def test_a_long_answer_loses_ends_of_lists_and_says_which(
    rest: dict[str, Any], facts: dict[str, float], most: int
) -> None:
    result = {"schema": "mowich/plan@1", **rest, "facts_read": facts}
    kept = KeptResults().keep("plan", result, "")
    shown = shown_result(kept, most)
    assert json.loads(kept.text) == result
    left = shown.pop("left_out", {})
    assert shown.pop("whole", kept.uri) == kept.uri
    assert len(json.dumps(shown, ensure_ascii=False, separators=(",", ":"))) <= most
    for key, value in result.items():
        if key not in shown:
            assert key in left or (key in ASIDE and not value)
        elif key in left:
            assert shown[key] == value[: len(shown[key])] != value
        else:
            assert shown[key] == value


def test_parts_of_an_answer_have_addresses() -> None:
    kept = KeptResults()
    kept.keep("plan", PLANNED, "")

    def read(uri: str) -> object:
        found = resource_of(uri, kept)
        assert isinstance(found, ResourceText)
        return json.loads(found.text)

    assert read("mowich://results/plan-1") == read("mowich://results/last") == PLANNED
    assert read("mowich://results/plan-1/at/plans/1/tp") == 2
    asked = resource_of("mowich://results/plan-1/explain/a.b%2Fc", kept)
    assert asked == ResourceAsk(tool="explain", arguments={"result": "plan-1", "metric": "a.b/c"})
    facts = resource_of("mowich://facts/trn3", kept)
    assert facts == ResourceAsk(tool="facts_show", arguments={"names": ["trn3"]})
    skill = resource_of("mowich://skill", kept)
    assert isinstance(skill, ResourceText)
    assert skill.text.startswith("---\nname: mowich\ndescription: ")
    for uri, what in (
        ("mowich://results/plan-1/at/plans/2", "no such place in the answer; allowed: 0 to 1"),
        ("mowich://results/plan-1/at/plan", "no such key in the answer; allowed: .*did you mean 'plans'"),
        ("mowich://results/plan-2", "no such answer is kept, got 'plan-2'"),
        ("mowich://results/plan-1/explain/a/b", "no such resource"),
        ("mowich://results", "no such resource"),
        ("mowich://facts/", "no such resource"),
        ("mowich://examples/../secret", "no such resource"),
        ("mowich://examples/..%2Fsecret", "unknown example"),
        ("file:///etc/passwd", "no such resource"),
    ):
        with pytest.raises(UserError, match=what):
            resource_of(uri, kept)


def test_prompts_say_how_to_give_numbers() -> None:
    for prompt in TOOL_PROMPTS.values():
        filled = prompt.filled({name: f"({name})" for name in prompt.needs})
        assert all(f"({name})" in filled for name in prompt.needs)
        assert "90% range" in filled
        with pytest.raises(UserError, match="is required"):
            prompt.filled({})
        with pytest.raises(UserError, match="unknown argument 'chip'"):
            prompt.filled({"chip": "x"})


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


SWEPT = """mowich: 1
models: [llama-3.1-8b]
on: [trn3]
chips: [16, 32]
seq: [4096]
batch: [64seqs]
tokens: 1B
"""


CHAT = """mowich: 1
name: a small chat
model: llama-3.1-8b
on: h200:1
plan: {tp: 1}
traffic: {rate: 2, requests: 20, prompt: 200, output: 40}
"""


def test_files_are_sent_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scenario, a table, logs, a model, a result: as texts, which leave nothing behind."""
    monkeypatch.chdir(tmp_path)
    swept = called_here("sweep", scenario=SWEPT)
    assert swept.result is not None, swept.text
    assert [row["chips_requested"] for row in swept.result["rows"]] == [16, 32]
    log = (ROOT / "tests" / "golden" / "measured" / "made-trn3-nccom.log").read_text(encoding="utf-8")
    fitted = called_here("calibrate", files=[log], on="trn3:4")
    assert fitted.result is not None, fitted.text
    assert fitted.result["inputs"]["files"] == ["files_1.log"]
    assert fitted.result["constants"]
    config = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config |= {"num_key_value_heads": 4, "intermediate_size": 128, "vocab_size": 100}
    for model in (config, json.dumps(config)):
        read = called_here("model", model=model)
        assert read.result is not None, read.text
        assert read.result["num_layers"] == 2
    kept = KeptResults()
    kept.keep("model", read.result, "")
    for result in ("model-1", "last", read.result, json.dumps(read.result)):
        explained = called_here("explain", kept, result=result, metric="params")
        assert explained.result is not None, explained.text
        assert explained.result["value"] == read.result["params"]
    played = tool_call("traffic", {"scenario": CHAT}, timeout_s=1.0, memory_GiB=1.0)
    played.close()
    assert dict(played.sent) == {"scenario.yaml": CHAT}
    found = called_here("traffic", scenario=CHAT, draws=0)
    assert found.result is not None, found.text
    kept.keep("traffic", found.result, "", played.sent)
    explained = called_here("explain", kept, result="last", metric="ttft_s.p99")
    assert explained.result is not None, explained.text
    assert explained.result["title"].startswith("a small chat: ")  # its scenario was read again
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_verified_against_an_answer_of_the_session() -> None:
    kept = KeptResults()
    asked = {"model": "llama-3.1-8b", "train": True, "tokens": "1T", "seq": 8192, "batch": "128seqs", "on": "h100:8"}
    planned = called_here("plan", **asked, top=1)
    assert planned.result is not None, planned.text
    kept.keep("plan", planned.result, "")
    log = (ROOT / "scenarios" / "logs" / "megatron-llama-8b.log").read_text(encoding="utf-8")
    found = called_here("verify", kept, result="plan-1", files=[log])
    assert found.result is not None, found.text
    jsonschema.validate(found.result, TOOLS["verify"].output_schema())
    assert RESULT_KEYS["verify"].keys() <= found.result.keys()
    [step] = [row for row in found.result["rows"] if row["name"] == "step_s"]
    assert step["log"].startswith("files_1.log:")
    assert has_range(step["predicted"])
    wrong = called_here("verify", kept, result="plan-1", files=["what\nis this\n"])
    assert wrong.is_error
    assert wrong.text.startswith("files_1.log"), wrong.text


@pytest.mark.parametrize(
    ("tool", "arguments", "line"),
    [
        ("traffic", {"scenario": "mowich: 1\nmodle: x\n"}, r"scenario.yaml:1: model is missing; did you mean 'modle'"),
        ("traffic", {"scenario": "chat-lama-70b"}, "no such file"),
        ("sweep", {"scenario": SWEPT.replace("[16, 32]", "[x]")}, "scenario.yaml:4 chips"),
        ("sweep", {"scenario": SWEPT, "jobs": 2}, "unknown argument 'jobs'"),
        ("fleet", {"scenario": "mowich: 1\n"}, "scenario.yaml:1"),
        ("fleet", {"scenario": "startup", "draws": -1}, "^draws: must be"),
        ("brief", {"against": "trn33"}, "^against: "),
        ("explain", {"result": "plan-9", "metric": "x"}, "no answer is kept yet, got 'plan-9'"),
        ("explain", {"result": "{}", "metric": "x"}, "not a result of mowich"),
        ("explain", {"result": json.dumps(PLANNED), "metric": "x"}, "unknown metric 'x'"),
        ("validate", {"file": "a,b\n1,2\n"}, "file.csv"),
        ("calibrate", {"files": []}, "^files: is required"),
        ("calibrate", {"files": ["what\nis this\n"]}, "files_1.log"),
        ("verify", {"result": "plan-9", "files": ["x"]}, "no answer is kept yet, got 'plan-9'"),
        ("facts_list", {"kind": "chip"}, "did you mean 'chips'"),
        ("facts_show", {"names": ["trn33"]}, "unknown name 'trn33'"),
        ("facts_diff", {"one": "trn3", "two": "trn33"}, "'trn33'"),
        ("example", {"name": "startupp"}, "did you mean 'startup'"),
        ("kernel_layer", {"model": "lama", "on": "trn3:1"}, "^model: "),
        ("model", {"model": "x" * 5_000_000}, "too much is sent"),
        ("model", {"model": 3}, "model: not a text"),
    ],
)
def test_bad_input_is_one_line_in_the_words_of_the_tool(tool: str, arguments: dict[str, Any], line: str) -> None:
    try:
        found = called_here(tool, KeptResults(), **arguments)
    except UserError as error:
        found = ToolAnswer(text=error.line(), result=None, is_error=True)
    assert found.is_error, found.result
    assert re.search(line, found.text), found.text
    assert "bug" not in found.text
    assert not found.text.startswith("--")
    assert "/tmp" not in found.text


def test_a_call_keeps_nothing_in_the_users_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CACHE_HOME", "MOWICH_CACHE", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    found = called("power", on="trn3")
    assert found.result is not None, found.text
    assert found.text.startswith("Provisioned power")
    assert list(tmp_path.iterdir()) == []


# ---- the protocol
# ----------------------------------------------------------------------------------------------------------------------


def with_client(do: Callable[[Any], Awaitable[None]], timeout_s: float = 120.0) -> None:
    """A session of the protocol's own client with a server in this process."""
    pytest.importorskip("mcp")
    from mcp.client.client import Client

    async def session() -> None:
        async with Client(served.mcp_server(timeout_s, 4.0)) as client:
            await do(client)

    anyio.run(session)


def ranges(node: object) -> Iterator[Mapping[str, Any]]:
    """Every estimate of an answer."""
    if isinstance(node, dict):
        if {"value", "low", "high"} <= node.keys():
            yield node
        for value in node.values():
            yield from ranges(value)
    elif isinstance(node, list):
        for value in node:
            yield from ranges(value)


def has_range(estimate: Mapping[str, Any]) -> bool:
    value, low, high = (estimate[end] for end in ("value", "low", "high"))
    return None not in (value, low, high) and low < value < high


JOB = {"model": "llama-3.1-8b", "train": True, "tokens": "1T", "seq": 4096, "batch": "64seqs", "on": ["trn3", "h100"]}
LOAD = {"model": "llama-3.1-8b", "serve": True, "rate": 2, "isl": "1k", "osl": 64, "p99_ttft": "5s", "on": ["h200"]}


def test_an_assistant_asks_and_gets_ranges() -> None:
    """A client on stdin and stdout asks a comparison, a load and an explanation; each has ranges. The client checks
    every answer against the output schema of its tool."""
    mcp = pytest.importorskip("mcp")
    from mcp.client.client import Client

    async def session() -> dict[str, Any]:
        server = mcp.StdioServerParameters(command=sys.executable, args=["-m", "mowich", "mcp"])
        async with Client(server) as client:
            return {
                "name": client.server_info.name,
                "tools": {tool.name: tool for tool in (await client.list_tools()).tools},
                "compared": await client.call_tool("compare", {**JOB, "chips": 16}),
                "loaded": await client.call_tool("plan", LOAD),
                "explained": await client.call_tool("explain", {"result": "compare-1", "metric": "trn3.step_s"}),
                "bad": await client.call_tool("kernel_tasks", {"task": "gelo"}),
            }

    found = anyio.run(session)
    assert found["name"] == "mowich"
    for schema in ("input_schema", "output_schema"):
        assert {name: dict(getattr(tool, schema)) for name, tool in found["tools"].items()} == {
            name: dict(getattr(tool, schema)()) for name, tool in TOOLS.items()
        }
    hints = {
        (h.read_only_hint, h.idempotent_hint, h.destructive_hint, h.open_world_hint)
        for h in (tool.annotations for tool in found["tools"].values())
    }
    assert hints == {(True, True, False, False)}
    for answer, name in (("compared", "compare-1"), ("loaded", "plan-2"), ("explained", "explain-3")):
        said, text, link = found[answer].content
        shown = found[answer].structured_content
        assert json.loads(text.text) == shown
        assert link.uri == f"mowich://results/{name}"
        assert any(has_range(one) for one in ranges(shown)), answer
        assert re.search(r"\(\d|90% range", said.text), said.text
    for row in found["compared"].structured_content["rows"]:
        assert has_range(row["step_s"])
        assert has_range(row["usd_per_mtok"])
    row = found["loaded"].structured_content["plans"][0]
    assert any(has_range(one) for one in ranges(row))
    explained = found["explained"].structured_content
    assert has_range(explained)
    assert explained["value"] == found["compared"].structured_content["rows"][0]["step_s"]["value"]
    assert explained["facts"][0]["path"]
    assert found["bad"].is_error
    assert "did you mean 'gelu'" in found["bad"].content[0].text


def test_what_a_session_has_to_read() -> None:
    from mcp.shared.exceptions import MCPError

    async def do(client: Any) -> None:
        await client.call_tool("power", {"on": "trn3"})
        listed = (await client.list_resources()).resources
        assert [one.uri for one in listed] == ["mowich://skill", "mowich://results/power-1"]
        assert listed[1].description.startswith("Provisioned power")
        templates = (await client.list_resource_templates()).resource_templates
        assert "mowich://results/{id}/explain/{metric}" in {one.uri_template for one in templates}
        whole = (await client.read_resource(listed[1].uri)).contents[0]
        assert (len(whole.text.encode()), whole.mime_type) == (listed[1].size, "application/json")
        names = json.loads((await client.read_resource("mowich://results/power-1/explain")).contents[0].text)
        assert set(names["first"]) <= set(names["metrics"])
        one = (await client.read_resource("mowich://results/power-1/explain/trn3.total_W")).contents[0]
        assert has_range(json.loads(one.text))
        for uri in ("mowich://results/none-1", "mowich://facts/trn33"):
            with pytest.raises(MCPError, match=r"none-1|unknown name 'trn33'"):
                await client.read_resource(uri)
        prompts = {one.name: one for one in (await client.list_prompts()).prompts}
        assert set(prompts) == set(TOOL_PROMPTS)
        asked = await client.get_prompt("does_it_fit", {"model": "deepseek-v3", "system": "trn2"})
        assert "Does deepseek-v3 fit on trn2?" in asked.messages[0].content.text
        with pytest.raises(MCPError, match="did you mean 'does_it_fit'"):
            await client.get_prompt("does_it_fitt", {})

    with_client(do)


def test_clients_do_not_see_each_others_answers() -> None:
    pytest.importorskip("mcp")
    from mcp.client.client import Client

    async def session() -> str:
        server = served.mcp_server(120.0, 4.0)
        async with Client(server) as one, Client(server) as other:
            await one.call_tool("power", {"on": "trn3"})
            found = await other.call_tool("explain", {"result": "power-1"})
            assert found.is_error
            return str(found.content[0].text)

    assert anyio.run(session) == "no answer is kept yet, got 'power-1'; ask first, for example compare"


def children() -> set[str]:
    """Processes that this one has started and that run."""
    return {pid for file in Path("/proc/self/task").glob("*/children") for pid in file.read_text().split()}


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_call_that_is_given_up_ends_its_process() -> None:
    from mcp.shared.exceptions import MCPError

    before = children()

    async def do(client: Any) -> None:
        with pytest.raises(MCPError):
            await client.call_tool("brief", {}, read_timeout_seconds=0.4)
        with anyio.fail_after(5):
            while children() - before:
                await anyio.sleep(0.02)
        assert not (await client.call_tool("power", {"on": "trn3"})).is_error

    with_client(do)


def test_a_call_is_bounded_in_time_and_in_size(monkeypatch: pytest.MonkeyPatch) -> None:
    async def late(client: Any) -> None:
        found = await client.call_tool("brief", {})
        assert found.is_error
        assert found.content[0].text == "the call took longer than 0.3 s"

    with_client(late, timeout_s=0.3)

    async def large(client: Any) -> None:
        found = await client.call_tool("facts_list", {})
        assert found.is_error
        assert found.content[0].text == "the answer is larger than 0.002 MB; ask for less"

    for module in (tool_calls, served):
        monkeypatch.setattr(module, "MOST_ANSWER_B", 2000)
    with_client(large)


def test_a_long_answer_is_shortened_and_kept_whole() -> None:
    async def do(client: Any) -> None:
        found = await client.call_tool("facts_show", {"names": ["trn3"]})
        shown = found.structured_content
        whole = json.loads((await client.read_resource(shown["whole"])).contents[0].text)
        assert len(found.content[-2].text) < 25_000 < len(json.dumps(whole))
        assert shown["facts"] == whole["facts"][: len(shown["facts"])]
        assert shown["left_out"]["facts"] == f"{len(whole['facts']) - len(shown['facts'])} of {len(whole['facts'])}"

    with_client(do)


def test_a_server_of_some_tools(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mcp")
    from mcp.client.client import Client

    async def session() -> None:
        async with Client(served.mcp_server(60.0, 4.0, ("plan", "explain"))) as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == ["plan", "explain"]
            found = await client.call_tool("compare", {})
            assert found.content[0].text.startswith("unknown tool 'compare'; allowed: explain, plan")

    anyio.run(session)
    assert cli.run(["mcp", "--tools", "plan,explan"]) == 2
    assert cli.run(["mcp", "--tools", ","]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("error: --tools: unknown tool 'explan'")
    assert first.endswith("did you mean 'explain'?")
    assert second == "error: --tools: names no tool; for example --tools compare,plan,explain"


def test_without_the_extra_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mcp.server.stdio", None)
    assert cli.run(["mcp"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: mowich mcp: needs the extra [mcp]")
    assert line.endswith("pip install 'mowich[mcp]'")
