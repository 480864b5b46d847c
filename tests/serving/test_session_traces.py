"""Public traces of sessions: the graphs that are read from small files of each format, and what is said of bad ones."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from mowich.errors import UserError, UserErrors
from mowich.facts import load_facts
from mowich.requests.scenarios import TrafficRequest
from mowich.serving.session_traces import SESSION_FORMS, read_sessions, session_form
from mowich.serving.sessions import CallSession
from mowich.studies.traffic import simulate_traffic, traffic
from mowich.studies.traffic_scenario import read_traffic

FACTS = load_facts()
TRACES = Path(__file__).parent / "session_traces"


def read(name: str | Path, block: int = 64, **more: object) -> list[CallSession]:
    path = TRACES / name
    form = session_form(path)
    assert form is not None
    return read_sessions(path, form, block=block, **more)  # type: ignore[arg-type]


def test_each_format_is_told_by_its_first_line(tmp_path: Path) -> None:
    found = {path.name: form.name for path in sorted(TRACES.iterdir()) if (form := session_form(path)) is not None}
    assert found == {
        "agentic.jsonl": "agentic-mooncake",
        "aisimulate.jsonl": "aisimulate",
        "bailian.jsonl": "bailian",
        "burstgpt.csv": "burstgpt",
        "mooncake.jsonl": "mooncake",
        "sub_requests.jsonl": "llmservingsim",
        "wait_for.jsonl": "agentic-mooncake",
        "weka.jsonl": "weka",
    }
    assert {form.name for form in SESSION_FORMS} == set(found.values())
    plain = tmp_path / "plain.jsonl"
    plain.write_text('{"timestamp": 1, "input_length": 5, "output_length": 2, "hash_ids": [0]}\n')
    assert session_form(plain) is None
    pretty = tmp_path / "pretty.json"
    pretty.write_text(json.dumps(json.loads((TRACES / "weka.jsonl").read_text().splitlines()[0]), indent=1))
    assert read(pretty)[0].calls == read("weka.jsonl")[1].calls


def test_sessions_of_mooncake() -> None:
    """A turn with a delay comes so long after our answer, one with a moment not before both; hashes of 512 tokens."""
    a, b, single = read("mooncake.jsonl", 512)
    assert (a.name, a.at_s, b.at_s, single.at_s) == ("a", 0.0, 0.5, 2.0)
    assert [(c.prompt, c.output, c.after, c.at_s) for c in a.calls] == [
        (1100, 40, (), 0.0),
        (1700, 30, ((0, 2.5),), 0.0),
        (1800, 25, ((1, 0.0),), 0.0),
    ]
    assert [(c.after, c.at_s) for c in b.calls] == [((), 0.0), (((0, 0.0),), 7.5)]
    assert [len(c.hashes) for c in a.calls] == [2, 3, 3]
    assert a.calls[0].hashes == a.calls[1].hashes[:2]
    assert a.calls[0].hashes[0] == b.calls[0].hashes[0]
    added = read("mooncake.jsonl", 512, deltas=True)[0].calls
    assert [c.prompt for c in added] == [1100, 1100 + 40 + 1700, 1100 + 40 + 1700 + 30 + 1800]
    assert added[1].hashes[:2] == added[0].hashes


def test_graphs_of_requests() -> None:
    p, q = read("agentic.jsonl")
    assert [c.name for c in p.calls] == ["r1", "r2", "r3", "r4"]
    assert [c.after for c in p.calls] == [(), ((0, 0.5),), (), ((1, 0.0), (2, 1.0))]
    assert [c.beside for c in p.calls] == [(), (), ((0, 0.1),), ()]
    assert (q.at_s, q.calls[0].hashes[0] == p.calls[0].hashes[0]) == (0.25, False)
    assert p.calls[1].hashes[:3] == p.calls[0].hashes == p.calls[3].hashes[:3]
    assert p.calls[1].later == p.calls[3].hashes[4:5]  # the prompt behind the join repeats the answer before it
    (one,) = read("wait_for.jsonl", 512)
    assert [(c.name, c.after) for c in one.calls] == [
        ("a", ()),
        ("b", ((0, 0.005),)),
        ("c", ((0, 0.05), (1, 0.05))),
    ]


def test_sessions_of_weka() -> None:
    """A subagent begins with the call before it, the call after its end waits for it, calls that overlap follow the
    same answer or the start of the one before."""
    short, long_ = read("weka.jsonl")
    assert (short.at_s, long_.at_s) == (0.0, 5.0)
    main, first, second, after, overlaps, last = long_.calls
    assert main.after == main.beside == ()
    assert first.after == ((0, 0.5),)
    assert second.after == ((1, 0.5),)
    assert after.after == ((0, 5.0), (2, 2.0))
    assert overlaps.after == ((2, 3.0),)
    assert last.after == ((3, 1.0), (4, 3.0))
    assert main.hashes == after.hashes[:3] == overlaps.hashes[:3]
    assert short.calls[0].hashes[0] != main.hashes[0]  # hashes mean something in one session alone
    with pytest.raises(UserError, match=r"weka.jsonl:1, column hash_ids: hashes of 64 tokens do not fill .*hash_block"):
        read("weka.jsonl", 100)


def test_sub_requests_with_token_ids() -> None:
    """Ids of prompts and answers make names of blocks, by all that stands before them."""
    single, one = read("sub_requests.jsonl", 3)
    a, b = one.calls
    assert (one.at_s, b.after) == (1.0, ((0, 1.5),))
    assert a.hashes + a.later == b.hashes
    assert (len(a.hashes), len(a.later), len(b.hashes), len(b.later)) == (2, 1, 3, 1)
    assert single.calls[0].hashes == a.hashes[:1]


def test_chats_with_their_parents() -> None:
    first, other = read("bailian.jsonl", 16)
    assert [(c.name, c.after, c.at_s) for c in first.calls] == [
        ("1", (), 0.0),
        ("3", ((0, 0.0),), 60.75),
        ("4", ((0, 0.0),), 79.5),
    ]
    assert first.calls[0].hashes == other.calls[0].hashes[:1] + first.calls[1].hashes[1:2]
    assert first.calls[0].later == first.calls[1].hashes[2:3]
    faster = read("bailian.jsonl", 16, speed=2.0)[0].calls
    assert [c.at_s for c in faster] == [0.0, 30.375, 39.75]


def test_burstgpt_turns_follow_the_recorded_answer() -> None:
    c1, c2, api = read("burstgpt.csv")
    assert (c1.at_s, c2.at_s, api.at_s) == (0.0, 40.0, 56.0)
    assert [(c.prompt, c.output, c.after) for c in c1.calls] == [(472, 18, ()), (600, 30, ((0, 51.5),))]
    assert len(c2.calls) == 1  # a failed one is left out


def test_agents_without_moments() -> None:
    one, two = read("aisimulate.jsonl")
    assert [(c.prompt, c.output, c.after) for c in one.calls] == [
        (900, 50, ()),
        (1250, 60, ((0, 1.5),)),
        (1320, 70, ((1, 0.25),)),
    ]
    assert [(c.prompt, c.output) for c in two.calls] == [(100, 20)]


def test_the_order_of_lines_does_not_matter(tmp_path: Path) -> None:
    """Of formats whose lines are whole sessions, or name what they wait for."""
    for name in ("weka.jsonl", "sub_requests.jsonl", "bailian.jsonl", "agentic.jsonl"):
        first, *lines = (TRACES / name).read_text().splitlines(keepends=True)
        told = [first] if name == "agentic.jsonl" else []
        lines = lines if told else [first, *lines]
        random.Random(3).shuffle(lines)
        if name == "sub_requests.jsonl":
            lines.sort(key=lambda line: "sub_requests" not in line)  # the first line tells the format
        path = tmp_path / name
        path.write_text("".join([*told, *lines]))

        def shape(sessions: list[CallSession]) -> list[object]:
            return [
                (
                    one.at_s,
                    sorted((c.prompt, c.output, len(c.hashes), sorted(p for _, p in c.after)) for c in one.calls),
                )
                for one in sessions
            ]

        assert shape(read(path, 48 if name == "bailian.jsonl" else 64)) == shape(
            read(name, 48 if name == "bailian.jsonl" else 64)
        )


SCENARIO = """mowich: 1
model: llama-3.1-8b
on: h200:1
scheduler: {prefix_cache: true, hash_block: 512}
traffic: {trace: %s}
"""


@pytest.mark.parametrize("name", sorted(path.name for path in TRACES.iterdir()))
def test_every_format_is_played(tmp_path: Path, name: str) -> None:
    """As recorded, or begun by users: all calls are answered, in an order that keeps every pause."""
    path = tmp_path / "s.yaml"
    how = [", users: 2", ", rate: 3"] + ([] if name == "aisimulate.jsonl" else [""])
    for more in how:
        path.write_text(SCENARIO % f"{TRACES / name}{more}")
        out = tmp_path / "t.csv"
        result = simulate_traffic(read_traffic(path, FACTS), FACTS, sessions_out=out)
        sessions = result.sessions
        assert sessions is not None
        assert (
            sessions["completed"] == sessions["begun"] == len(read(name, 512)) == len(out.read_text().splitlines()) - 1
        )
        assert result.completed == result.requests == sum(len(one.calls) for one in read(name, 512))


@pytest.mark.parametrize(
    ("name", "old", "new", "complaint"),
    [
        ("mooncake.jsonl", '"delay": 2500', '"delay": -1', "mooncake.jsonl:3, column delay: a pause is at least 0"),
        (
            "mooncake.jsonl",
            '"timestamp": 9000',
            '"timestamp": 900',
            ":4, column timestamp: times go back",
        ),
        (
            "mooncake.jsonl",
            '"output_length": 30',
            '"output_length": "x"',
            ":3, column output_length: not a whole",
        ),
        ("mooncake.jsonl", '"delay": 2500, "input_length": 1700', '"delay": 1', ":3: missing input_length"),
        ("agentic.jsonl", '"request_id": "r1", "trigger"', '"request_id": "r9", "trigger"', "waits for a request that"),
        ("agentic.jsonl", '"dispatch"', '"start"', "agentic.jsonl:4, column dependencies: unknown trigger"),
        (
            "agentic.jsonl",
            '"request_id": "r2", "play_id"',
            '"request_id": "r1", "play_id"',
            ":3: this request_id is",
        ),
        ("wait_for.jsonl", '"wait_for": []', '"wait_for": ["c"]', "wait_for.jsonl:1: requests wait for one another"),
        ("weka.jsonl", '"t": 5.0, ', "", "weka.jsonl:1: missing t"),
        ("weka.jsonl", '"in": 100', '"in": 0', "weka.jsonl:2, column in: a length must be at least 1"),
        ("weka.jsonl", '"block_size": 64', '"block_size": 0', "weka.jsonl:1, column block_size: a length"),
        ("sub_requests.jsonl", "[7, 8, 9]", "[7, 8]", ":1, column output_tok_ids: not one id for each token"),
        ("sub_requests.jsonl", '"tool_duration_ns": 0', '"tool_duration_ns": -5', "tool_duration_ns: a pause"),
        ("bailian.jsonl", '"chat_id": 2', '"chat_id": 1', "bailian.jsonl:2: this chat_id is there twice"),
        ("bailian.jsonl", '"timestamp": 2.0', '"timestamp": "noon"', ":2, column timestamp: not a time"),
        ("burstgpt.csv", "60,c1,4,", "60,c1,-4,", "burstgpt.csv:4, column Elapsed time: a pause is at least 0"),
        ("burstgpt.csv", "61,,1,ChatGPT,90,7,97,API log", "61,,1", "burstgpt.csv:5: wrong number of cells"),
        ("aisimulate.jsonl", "[300, 10]", "[300]", "aisimulate.jsonl:1: assistant_response_length, tool_call_output"),
        ("aisimulate.jsonl", "}\n{", "}\n{oops", "aisimulate.jsonl:2: not JSON"),
    ],
)
def test_bad_traces_of_sessions_say_where(tmp_path: Path, name: str, old: str, new: str, complaint: str) -> None:
    text = (TRACES / name).read_text()
    assert old in text
    path = tmp_path / name
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError) as caught:
        read(path, 512 if name == "mooncake.jsonl" else 64)
    assert complaint in str(caught.value), caught.value
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (", requests: 3", "s.yaml:5 traffic.requests: this is a trace of sessions"),
        (", user: 3", "s.yaml:5 traffic.user: unknown key"),
        (", deltas: maybe", "s.yaml:5 traffic.deltas: yes or no"),
        ("", "s.yaml:5 traffic.trace: this trace does not say when sessions begin"),
    ],
)
def test_bad_words_for_a_trace_of_sessions(tmp_path: Path, more: str, complaint: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(SCENARIO % f"{TRACES / 'aisimulate.jsonl'}{more}")
    with pytest.raises((UserError, UserErrors)) as caught:
        read_traffic(path, FACTS)
    assert complaint in str(caught.value), caught.value


def test_turns_that_hold_what_they_add(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(SCENARIO % f"{TRACES / 'mooncake.jsonl'}, deltas: true, sessions: 1, users: 1")
    result = traffic(TrafficRequest(facts=FACTS, scenario=path, draws=0))
    assert result.requests == 3
    assert result.prompt_mean == pytest.approx((1100 + 2840 + 4670) / 3)
    assert result.cached_frac > 0.3
