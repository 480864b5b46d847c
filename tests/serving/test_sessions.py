"""Sessions: agents with tools, thinking and sub-agents, drawn; the time to a task, and what it is made of."""

from __future__ import annotations

import csv
import itertools
import re
import tempfile
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mowich.errors import UserError, UserErrors
from mowich.facts import load_facts
from mowich.requests.scenarios import TrafficRequest
from mowich.serving.agents import JOINS, AgentKind, Agents, Subagents, Tool
from mowich.serving.arrivals import lengths
from mowich.serving.conversations import Conversations, pauses
from mowich.serving.sessions import (
    CallSession,
    Context,
    EndedSession,
    SessionBlocks,
    SessionCall,
    SessionLoad,
    ended_session,
)
from mowich.serving.traffic.policies import ROUTES, Scheduler
from mowich.serving.traffic.replica import Replica
from mowich.serving.traffic.requests import UserRequest
from mowich.serving.traffic.routing import ReplicaFleet
from mowich.serving.traffic.times import StepTimes
from mowich.studies.traffic import TrafficResult, simulate_traffic, traffic
from mowich.studies.traffic_scenario import read_traffic

FACTS = load_facts()
SCENARIOS = Path(__file__).resolve().parents[2] / "scenarios"


ONE_STEP_S = 0.1


def flat(step_s: float = 0.01) -> StepTimes:
    """A worker whose steps take `step_s`, and a tenth of a millisecond more for each prompt token."""
    return StepTimes(
        tokens=[step_s + 1e-4 * max(0, m - 1) for m in range(9000)],
        sampled=[0.0] * 500,
        per_context=1e-7,
        windows=(),
        prefill_step=0.0,
        pair=0.0,
        window_pairs=(),
        kv_B=1.0,
    )


def kind(name: str = "coder", **more: object) -> AgentKind:
    words: dict[str, object] = {
        "name": name,
        "share": 1.0,
        "system": 128,
        "prompt": lengths("uniform(50, 300)", ""),
        "turns": lengths("uniform(1, 6)", ""),
        "output": lengths("uniform(1, 60)", ""),
        "thinking": None,
        "keeps_thinking": False,
        "tools": (
            Tool(name="read", share=0.5, time=pauses("0.1 s", ""), tokens=lengths("uniform(1, 200)", "")),
            Tool(name="shell", share=0.5, time=pauses("lognormal(1 s, p95 4 s)", ""), tokens=None),
        ),
        "subagents": None,
        "compact_at": float("inf"),
        "compact_to": 0,
    }
    return AgentKind(**(words | more))  # type: ignore[arg-type]


def branching(join: str = "all", count: str = "uniform(1, 3)", **more: object) -> Subagents:
    words: dict[str, object] = {
        "chance": 0.4,
        "count": lengths(count, ""),
        "turns": lengths("uniform(1, 3)", ""),
        "prompt": lengths(40, ""),
        "output": lengths("uniform(1, 50)", ""),
        "returns": lengths(30, ""),
        "join": join,
        "system": None,
    }
    return Subagents(**(words | more))  # type: ignore[arg-type]


def agents(kinds: tuple[AgentKind, ...], **more: object) -> Agents:
    words: dict[str, object] = {"kinds": kinds, "sessions": 40, "think": pauses("0.5 s", ""), "users": 8, "block": 32}
    return Agents(**(words | more))  # type: ignore[arg-type]


class Ended(NamedTuple):
    index: int
    session: CallSession
    told: EndedSession


def play(
    load: SessionLoad, *, replicas: int = 2, blocks: int = 3000, route: str = "kv", step_s: float = 0.01
) -> tuple[list[UserRequest], list[Ended]]:
    """(requests in the order in which they were answered, sessions in the order in which they ended)."""
    done: list[UserRequest] = []
    scheduler = Scheduler(budget=512, max_sequences=8, blocks=blocks, prefix_cache=True, hash_block=32)
    pool = [Replica(i, flat(step_s), scheduler, on_done=done.append) for i in range(replicas)]
    given_ = list(ReplicaFleet(replicas=pool, route=route, follow=load.after).run(load.starts()))
    assert len(given_) == len(done)
    assert all(not r.load and not r.blocks_private for r in pool)
    by_session: dict[int, dict[int, UserRequest]] = {}
    for request in done:
        by_session.setdefault(request.conversation, {})[request.turn] = request
    ended = []
    for number, some in by_session.items():
        session = load.make(number)
        assert session is not None
        if len(some) == len(session.calls):  # a limit on requests may stop one
            ended.append(Ended(number, session, ended_session(session, some)))
    return done, ended


LOADS = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10_000),
        "users": st.sampled_from([0, 1, 7, 50]),
        "join": st.sampled_from(JOINS),
        "system": st.sampled_from([None, 64]),
        "thinking": st.booleans(),
        "keeps": st.booleans(),
        "compacts": st.booleans(),
        "mixed": st.booleans(),
    }
)


def drawn(
    seed: int, users: int, join: str, system: int | None, thinking: bool, keeps: bool, compacts: bool, mixed: bool
) -> Agents:
    more: dict[str, object] = {"subagents": branching(join, system=system)}
    if thinking:
        more |= {"thinking": lengths("uniform(1, 80)", ""), "keeps_thinking": keeps}
    if compacts:
        more |= {"compact_at": 600.0, "compact_to": 50}
    kinds = (kind(share=0.6, **more), kind("clerk", share=0.4, turns=lengths(2, ""))) if mixed else (kind(**more),)
    return agents(kinds, seed=seed, users=users, rate=None if users else 2.0)


@settings(max_examples=12, deadline=None)
@given(load=LOADS, route=st.sampled_from(ROUTES))
def test_a_task_takes_the_time_of_its_critical_path(load: dict[str, object], route: str) -> None:
    """Each call comes after all that it waits for (or the first of them) and its pause; the parts of the critical path
    sum to the time of the task; sessions inside are sessions per second times their time."""
    made = drawn(**load)  # type: ignore[arg-type]
    done, ended = play(made.load(), route=route)
    assert len(ended) == 40
    of = {(r.conversation, r.turn): r for r in done}
    inside = 0.0
    for index, session, one in ended:
        calls = session.calls
        assert one.calls == len(calls)
        last = of[index, session.last or 0]
        assert one.end_s == last.last_token_s
        assert one.begin_s == of[index, 0].arrival_s
        assert sum(one.parts.values()) == pytest.approx(one.end_s - one.begin_s, rel=1e-9)
        assert min(one.parts.values()) >= -1e-9
        for i, call in enumerate(calls):
            ready = sorted(of[index, other].last_token_s + pause for other, pause in call.after)
            if ready and not call.need:
                assert of[index, i].arrival_s == ready[-1]
            elif ready:  # ends within one step are told of in the order of steps
                assert of[index, i].arrival_s in ready
                assert of[index, i].arrival_s - ready[0] < ONE_STEP_S
        inside += one.end_s - one.begin_s
    events = sorted([(e.told.begin_s, 1) for e in ended] + [(e.told.end_s, -1) for e in ended])
    counts = itertools.accumulate(step for _, step in events[:-1])
    gaps = (b - a for (a, _), (b, _) in itertools.pairwise(events))
    assert sum(n * gap for n, gap in zip(counts, gaps, strict=True)) == pytest.approx(inside, rel=1e-9)


@settings(max_examples=5, deadline=None)
@given(load=LOADS)
def test_a_slower_machine_is_asked_the_same(load: dict[str, object]) -> None:
    asked = []
    for step_s, replicas in ((0.01, 3), (0.05, 1)):
        done, _ = play(drawn(**load).load(), step_s=step_s, replicas=replicas)  # type: ignore[arg-type]
        asked.append({(r.conversation, r.turn): (r.id, r.prompt, r.output, r.hashes) for r in done})
    assert asked[0] == asked[1]


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), few=st.integers(1, 3), more=st.integers(0, 3), join=st.sampled_from(JOINS))
def test_more_branches_never_make_fewer_tokens(seed: int, few: int, more: int, join: str) -> None:
    """And the calls that both have are the same."""
    found = []
    for count in (few, few + more):
        made = agents((kind(subagents=branching(join, str(count))),), seed=seed)
        calls = [call for i in range(40) for call in made.session(i).calls]  # type: ignore[union-attr]
        found.append((len(calls), sum(c.prompt for c in calls), sum(c.output for c in calls)))
    assert all(a <= b for a, b in zip(*found, strict=True))
    assert more == 0 or found[0] != found[1]


@settings(max_examples=50, deadline=None)
@given(data=st.data(), block=st.integers(1, 40), shared=st.integers(0, 90))
def test_blocks_have_one_name_as_far_as_tokens_are_the_same(data: st.DataObject, block: int, shared: int) -> None:
    """Contexts of one session that branch at random, with the tokens that they stand for written out."""
    fresh = itertools.count(1000)
    common = tuple(range(shared // block))
    contexts = [(Context(SessionBlocks(3, block, len(common)), common), list[int]())]
    for _ in range(12):
        context, tokens = data.draw(st.sampled_from(contexts))
        more = data.draw(st.integers(0, 60))
        start = len(tokens)
        new = [*tokens, *(k if k < len(common) * block else next(fresh) for k in range(start, start + more))]
        contexts.append((context.grown(more), new))
    for (a, x), (b, y) in itertools.combinations(contexts, 2):
        assert a.tokens == len(x)
        assert len(a.names) == len(x) // block
        same = next((i for i, (p, q) in enumerate(zip(x, y, strict=False)) if p != q), min(len(x), len(y)))
        alike = next((i for i, (p, q) in enumerate(zip(a.names, b.names, strict=False)) if p != q), None)
        assert (min(len(a.names), len(b.names)) if alike is None else alike) == min(
            same // block, len(a.names), len(b.names)
        )


def test_one_turn_without_tools_is_a_conversation_of_one_turn() -> None:
    """To the byte, at a rate or of users (who go on until so many requests were made there, and have so many sessions
    each here)."""
    base = "{mowich: 1, name: x, model: llama-3.1-8b, on: 'h200:2', scheduler: {prefix_cache: true}, traffic: {%s}}"
    lengths_ = "prompt: 'lognormal(700, p95 3k)', output: 'uniform(20, 300)'"
    for how, think in (("users: 80", "think: exponential(2 s), "), ("rate: 9", "")):
        talks = base % f"seed: 4, {how}, {think}requests: 80, turns: 1, {lengths_}"
        tasks = base % f"seed: 4, {how}, {think}sessions: 80, agents: {{one: {{turns: 1, {lengths_}}}}}"
        a, b = (simulate_traffic(read_traffic(text, FACTS), FACTS).to_dict() for text in (talks, tasks))
        sessions = b.pop("sessions")
        assert {k: v for k, v in a.items() if k != "inputs"} == {k: v for k, v in b.items() if k != "inputs"}
        assert sessions["task_s"] == pytest.approx(a["e2e_s"])  # type: ignore[index]
        assert sessions["parts_s"]["tools"] == 0.0  # type: ignore[index]


def test_what_was_thought_is_read_again_where_it_is_dropped() -> None:
    """A prompt that leaves thinking out shares no block of the answer behind it; one that keeps it finds all."""
    share = {}
    for keeps in (True, False):
        one = kind(thinking=lengths(200, ""), keeps_thinking=keeps, turns=lengths(6, ""), tools=())
        done, _ = play(agents((one,), users=1, sessions=10).load(), replicas=1)
        later = [r for r in done if r.turn]
        share[keeps] = sum(r.cached for r in later) / sum(r.prompt for r in later)
        before = {(r.conversation, r.turn): r for r in done}
        for r in later:
            last = before[r.conversation, r.turn - 1]
            assert r.prompt == last.prompt + last.output - (0 if keeps else 200)
            assert r.cached == min((last.prompt + (last.output if keeps else 0)) // 32 * 32, r.prompt - 1)
    assert share[False] < share[True]


def test_a_context_is_summed_up_at_its_limit() -> None:
    """No call but the one that sums up is above the limit; what follows begins with the system prompt and the sum."""
    one = kind(turns=lengths(30, ""), compact_at=900.0, compact_to=64)
    found = agents((one,), sessions=20)
    for number in range(20):
        calls = found.session(number).calls  # type: ignore[union-attr]
        sums = [i for i, c in enumerate(calls) if c.output == 64 and c.prompt + 64 > 700 and i + 1 < len(calls)]
        over = [i for i, c in enumerate(calls) if c.prompt + c.output > 900 and i]
        assert set(over) <= set(sums)
        assert any(calls[i + 1].prompt == 128 + 64 for i in sums)
        assert len(calls) > 30


def test_a_session_that_outgrows_the_cache_is_no_task_that_was_done(tmp_path: Path) -> None:
    one = kind(turns=lengths(30, ""))
    made = agents((one,), sessions=12, longest=1500)
    _, ended = play(made.load())
    assert len(ended) == 12
    assert any(e.told.is_cut for e in ended)
    assert all(c.prompt + c.output <= 1500 for e in ended for c in e.session.calls)
    text = SCENARIO.replace("turns: 3", 'turns: "uniform(3, 30)"').replace("hash_block: 64", "kv_blocks: 500")
    path = tmp_path / "s.yaml"
    path.write_text(text)
    sessions = simulate_traffic(read_traffic(path, FACTS), FACTS).sessions
    assert sessions is not None
    assert sessions["cut"] == sessions["begun"] - sessions["completed"] > 0  # type: ignore[operator]


SCENARIO = """mowich: 1
model: llama-3.1-8b
on: h200:2
route: kv
scheduler: {prefix_cache: true, hash_block: 64}
slo: {task: 10 s}
traffic:
  users: 6
  sessions: 12
  agents:
    coder:
      system: 1k
      prompt: 400
      turns: 3
      output: "uniform(20, 200)"
      tools:
        shell: {time: "exponential(4 s)", tokens: 300}
"""


def test_figures_of_sessions(tmp_path: Path) -> None:
    """What is told of tasks is what the lines of sessions say; a request is good if its task is done in time."""
    path = tmp_path / "s.yaml"
    path.write_text(SCENARIO)
    result = traffic(
        TrafficRequest(
            facts=FACTS, scenario=path, draws=1, requests_out=tmp_path / "r.csv", sessions_out=tmp_path / "t.csv"
        )
    )
    rows = list(csv.DictReader((tmp_path / "t.csv").open()))
    times = [float(r["end_s"]) - float(r["begin_s"]) for r in rows]
    found = result.sessions
    assert found is not None
    assert len(rows) == found["completed"] == 12
    assert found["task_s"]["mean"] == pytest.approx(np.mean(times), abs=2e-6)  # type: ignore[index]
    assert found["task_s"]["p90"] == pytest.approx(np.quantile(times, 0.9), abs=2e-6)  # type: ignore[index]
    assert sum(found["parts_s"].values()) == pytest.approx(np.mean(times), abs=2e-6)  # type: ignore[attr-defined]
    low, high = result.ranges["task_s"]["p90"]
    assert low < found["task_s"]["p90"] < high  # type: ignore[index]
    kept = {r["id"] for r, t in zip(rows, times, strict=True) if t <= 10.0}
    assert 0 < len(kept) < 12
    assert found["goodput_frac"] == len(kept) / 12
    requests = list(csv.DictReader((tmp_path / "r.csv").open()))
    good = sum(r["id"].split(".")[0] in kept for r in requests)
    assert result.goodput_frac == good / len(requests)
    hours = result.makespan_s / 3600.0
    assert found["tasks_per_h_per_chip"] == pytest.approx(12 / hours / 2)
    assert found["usd_per_task"] == pytest.approx((result.usd_per_h or 0.0) * hours / 12)
    tokens = sum(int(r["output"]) for r in rows)
    assert found["J_per_task"] == pytest.approx((result.J_per_token or 0.0) * tokens / 12)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("users: 6", "users: 6\n  rate: 2", "s.yaml:8 traffic.users: give either a rate or users"),
        ("  sessions: 12\n", "", "traffic.sessions is missing"),
        ("sessions: 12", "requests: 12", "traffic.requests: agents have sessions"),
        ("sessions: 12", "sessions: 12\n  prompt: 3", "traffic.prompt: is stated for each kind of agent"),
        ("sessions: 12", "sessions: 12\n  cv: 2", "traffic.cv: unknown key"),
        ("sessions: 12", "sessions: 12\n  shared_prefix: 2k", "traffic.agents.coder.system: is shorter than"),
        ("turns: 3", "turn: 3", "traffic.agents.coder.turns is missing"),
        ("turns: 3", "turns: 3\n      keep_thinking: true", "agents.coder.keep_thinking: needs thinking"),
        ("turns: 3", "turns: some", "agents.coder.turns: not a count"),
        ("turns: 3", "turns: 3\n      share: 40%", "traffic.agents: shares of kinds of agents add up to 1, got '0.4'"),
        ('time: "exponential(4 s)"', "time: soon", "agents.coder.tools.shell.time: not a quantity"),
        ('time: "exponential(4 s)"', "time: uniform(4 s)", "tools.shell.time: not a distribution of times"),
        ('time: "exponential(4 s)"', "tim: 4 s", "agents.coder.tools.shell.tim: unknown key"),
        ("turns: 3", "turns: 3\n      subagents: {chance: 20%}", "agents.coder.subagents.count is missing"),
        (
            "turns: 3",
            "turns: 3\n      subagents: {chance: 0.2, count: 2, turns: 1, prompt: 9, output: 9, returns: 9, join: any}",
            "agents.coder.subagents.join: unknown join 'any'",
        ),
        (
            "turns: 3",
            "turns: 3\n      subagents: {chance: 0.2, count: 1M, turns: 1, prompt: 9, output: 9, returns: 9}",
            "agents.coder.subagents.count: too many at once, got '1M'; allowed: at most 1,000",
        ),
        (
            "turns: 3",
            "turns: 3\n      compact: {at: 1k, to: 100}",
            "compact.at: leaves no room for a task",
        ),
        ("slo: {task: 10 s}", "slo: {task: soon}", "slo.task: not a quantity"),
    ],
)
def test_bad_agents_say_where(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    path = tmp_path / "s.yaml"
    assert old in SCENARIO
    path.write_text(SCENARIO.replace(old, new, 1))
    with pytest.raises((UserError, UserErrors)) as caught:
        read_traffic(path, FACTS)
    assert complaint in str(caught.value), caught.value
    assert "s.yaml:" in str(caught.value)


def test_figures_of_sessions_need_sessions(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    head = SCENARIO[: SCENARIO.index("traffic:")]
    path.write_text(head + "traffic: {rate: 2, requests: 9, prompt: 9, output: 9}\n")
    with pytest.raises(UserError, match=r"s.yaml: slo.task needs sessions"):
        traffic(TrafficRequest(facts=FACTS, scenario=path, draws=0))


def test_conversations_are_sessions() -> None:
    """A conversation is the chain of calls that it was asked as."""
    talks = Conversations(
        requests=60,
        prompt=lengths("uniform(50, 400)", ""),
        output=lengths("uniform(1, 80)", ""),
        turns=lengths("uniform(1, 5)", ""),
        think=pauses("exponential(1 s)", ""),
        users=5,
        block=32,
    )
    done, _ = play(talks._load)
    for r in done:
        call: SessionCall = talks.session(r.conversation).calls[r.turn]
        assert (r.prompt, r.output, r.hashes, r.later) == (call.prompt, call.output, call.hashes, call.later)


def test_a_recorded_start_is_followed_from_the_start() -> None:
    """`beside` follows a call from the moment it is asked, `at_s` is not sooner than so long after the beginning, and a
    session without a last call ends with its last answer."""
    calls = [
        SessionCall(prompt=50, output=400),
        SessionCall(prompt=50, output=5, beside=((0, 0.5),)),
        SessionCall(prompt=50, output=5, after=((1, 0.0),), at_s=2.0),
    ]
    load = SessionLoad(
        make=lambda i: CallSession(calls=calls) if i < 3 else None, begins=partial(iter, [1.0, 1.2, 9.0])
    )
    done, ended = play(load, replicas=1)
    assert len(done) == 9
    of = {(r.conversation, r.turn): r for r in done}
    for index, _, one in ended:
        a, b, c = (of[index, i] for i in range(3))
        assert b.arrival_s == a.arrival_s + 0.5
        assert c.arrival_s == max(b.last_token_s, one.begin_s + 2.0)
        assert one.end_s == a.last_token_s > c.last_token_s
        assert one.parts["tools"] == 0.0


def fleet(name: str, part: int, blocks: int) -> TrafficResult:
    """A fleet of agents that ships, a part of its people on one worker with so many blocks of cache."""
    text = (SCENARIOS / f"{name}.yaml").read_text(encoding="utf-8")
    users, sessions = (int(re.search(rf"^  {key}: (\d+)$", text, re.M)[1]) for key in ("users", "sessions"))  # type: ignore[index]
    text = text.replace(f"  users: {users}\n", f"  users: {users // part}\n")
    text = text.replace(f"  sessions: {sessions}\n", f"  sessions: {2 * users // part}\n")
    text = text.replace("prefix_cache: true", f"prefix_cache: true, kv_blocks: {blocks}").replace("trn3:4", "trn3:1")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fleet.yaml"
        path.write_text(text, encoding="utf-8")
        return simulate_traffic(read_traffic(path, FACTS), FACTS)


def mean_task(result: TrafficResult) -> float:
    assert result.sessions is not None
    return float(result.sessions["task_s"]["mean"])  # type: ignore[index]


def test_memory_is_not_what_agents_wait_for_on_trainium3_and_is_on_gb300() -> None:
    """The finding of docs/records/agents-traffic.md, at a smaller size: half of the cache changes nothing for half the
    people of a Trainium 3. On GB300 a twelfth of its people reads prompts again with half of a twelfth of its cache."""
    whole, half = (fleet("agents-trn3", 8, blocks) for blocks in (117_473, 58_736))
    assert mean_task(half) == pytest.approx(mean_task(whole), rel=0.02)
    assert half.cached_frac > whole.cached_frac - 0.005
    whole, half = (fleet("agents-gb300", 12, blocks) for blocks in (53_472, 26_736))
    assert half.cached_frac < whole.cached_frac - 0.015
    assert mean_task(half) > mean_task(whole)
