"""Traffic: queueing theory, conservation, agreement with the steady state, traces, scenarios, measured logs."""

from __future__ import annotations

import csv
import itertools
import json
import math
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drawn_loads import drawn_load
from mowich import cli
from mowich.errors import UserError, UserErrors
from mowich.facts import load_facts
from mowich.machines.system import resolve
from mowich.models import load_model
from mowich.plans.plan import ServePlan
from mowich.requests.scenarios import TrafficRequest
from mowich.serving.arrivals import draw, lengths, read_trace
from mowich.serving.steady import Load, closed_loop
from mowich.serving.traffic.cache import PrefixCache
from mowich.serving.traffic.moments import earlier
from mowich.serving.traffic.outages import Failure
from mowich.serving.traffic.policies import Scheduler
from mowich.serving.traffic.replica import Replica
from mowich.serving.traffic.requests import UserRequest
from mowich.serving.traffic.routing import ReplicaFleet
from mowich.serving.traffic.tiers import CacheTier, TierStore
from mowich.serving.traffic.times import StepTimes
from mowich.studies.serving import deploy
from mowich.studies.traffic import traffic
from mowich.studies.traffic_scenario import read_traffic
from mowich.studies.traffic_tally import EXACT, Figures

FACTS = load_facts()
TRACES = Path(__file__).resolve().parents[3] / "shared" / "traces"
SCENARIOS = Path(__file__).resolve().parents[2] / "scenarios"


def flat(step_s: float = 0.01, per_context: float = 0.0, prompt_token_s: float = 0.0, limit: int = 70000) -> StepTimes:
    """A worker whose steps take `step_s`, and `prompt_token_s` more for each prompt token."""
    return StepTimes(
        tokens=[step_s + prompt_token_s * max(0, m - 1) for m in range(limit)],
        sampled=[0.0] * 5000,
        per_context=per_context,
        windows=(),
        prefill_step=0.0,
        pair=0.0,
        window_pairs=(),
        kv_B=1.0,
    )


def run(
    requests: list[UserRequest], times: StepTimes, scheduler: Scheduler, replicas: int = 1, **fleet: object
) -> ReplicaFleet:
    pool = [Replica(i, times, scheduler) for i in range(replicas)]
    out = ReplicaFleet(replicas=pool, **fleet)  # type: ignore[arg-type]
    list(out.run(requests))
    return out


@pytest.mark.share(3)
@pytest.mark.parametrize("load_", [0.3, 0.6, 0.8])
def test_m_d_1(load_: float) -> None:
    """One replica, one request at a time: waiting is that of M/D/1, rho s / (2 (1 - rho))."""
    service = 0.01 * 10  # a prompt step and nine decode steps
    requests = list(draw(rate=load_ / service, requests=60_000, prompt=lengths(4, ""), output=lengths(10, ""), seed=3))
    run(requests, flat(), Scheduler(max_sequences=1))
    wait = np.mean([r.scheduled_s - r.arrival_s for r in requests])
    assert wait == pytest.approx(load_ * service / (2 * (1 - load_)), rel=0.06)
    assert all(r.last_token_s - r.scheduled_s == pytest.approx(service) for r in requests[:100])


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    blocks=st.integers(40, 400),
    policy=st.sampled_from(["fcfs", "priority"]),
    preemption=st.sampled_from(["recompute", "swap"]),
    cache=st.booleans(),
    mixes=st.booleans(),
    chunks=st.booleans(),
    apart=st.booleans(),
    fails=st.booleans(),
    route=st.sampled_from(["round-robin", "least-loaded", "prefix"]),
    accepted=st.sampled_from([1.0, 1.7]),
)
def test_requests_tokens_and_blocks_are_conserved(
    seed: int,
    blocks: int,
    policy: str,
    preemption: str,
    cache: bool,
    mixes: bool,
    chunks: bool,
    apart: bool,
    fails: bool,
    route: str,
    accepted: float,
) -> None:
    rng = np.random.default_rng(seed)
    requests = drawn_load(rng, seed, rate=20.0, requests=60, prompt="uniform(8, 200)", output="uniform(1, 60)")
    scheduler = Scheduler(
        budget=64 if chunks else 256,
        max_sequences=16,
        blocks=blocks,
        block=16,
        policy=policy,
        preemption=preemption,
        prefix_cache=cache,
        hash_block=32,
        host_blocks=40,
        host_Bps=1e5,
        mixes=mixes,
        chunks=chunks,
        verified=1.0 if accepted == 1.0 else 2.0,
        accepted=accepted,
    )
    times = flat(0.01, 1e-6, 1e-5)
    done: list[UserRequest] = []
    pool = [Replica(i, times, scheduler, on_done=done.append) for i in range(2)]
    decoders = [Replica(i, times, scheduler, on_done=done.append) for i in range(2)] if apart else []
    failures = (Failure(at_s=1.0, replica=1, down_s=0.5),) if fails else ()
    list(
        ReplicaFleet(
            replicas=pool, decoders=decoders, route=route, failures=failures, transfer_s=lambda n: n * 1e-5
        ).run(requests)
    )
    assert sorted(int(r.id) for r in done) == list(range(60))
    for r in requests:
        assert r.arrival_s <= r.scheduled_s <= r.first_token_s <= r.last_token_s
        assert (r.last_token_s > r.first_token_s) == (r.output > 1)
    for replica in (*pool, *decoders):
        assert replica.load == 0
        assert replica.blocks_private == 0
        assert replica.cache.used_blocks == 0
        assert pytest.approx(0.0) == replica.S
        assert replica._used(replica.D) == 0
    if accepted == 1.0 and not fails and not cache and not any(r.preemptions for r in requests):
        assert sum(r.prompt_tokens for r in pool) == sum(r.prompt for r in requests)


@given(n=st.integers(1, 20), outputs=st.lists(st.integers(2, 80), min_size=1, max_size=12), gap=st.floats(0.001, 0.2))
@settings(max_examples=60, deadline=None)
def test_leaps_are_exact(n: int, outputs: list[int], gap: float) -> None:
    """Advancing an unchanged batch in one move gives the times of stepping one token at a time."""
    scheduler, times = Scheduler(budget=64, max_sequences=8), flat(0.01, 3e-5, 1e-4)

    def requests() -> list[UserRequest]:
        return [UserRequest(str(i), i * gap, 10 * n, o) for i, o in enumerate(outputs)]

    leapt, stepped = requests(), requests()
    run(leapt, times, scheduler)
    slow = Replica(0, times, scheduler)
    for r in stepped:
        while slow.t < earlier(r.arrival_s) and slow.load:
            slow.advance(min(r.arrival_s, slow.t + 1e-6))
        slow.submit(r, r.arrival_s)
    while slow.load:
        slow.advance(slow.t + 1e-6)
    for a, b in zip(leapt, stepped, strict=True):
        assert a.last_token_s == pytest.approx(b.last_token_s, rel=1e-9)
        assert a.first_token_s == pytest.approx(b.first_token_s, rel=1e-9)


def test_full_cache_preempts_and_still_finishes() -> None:
    requests = [UserRequest(str(i), 0.0, 100, 100) for i in range(8)]
    scheduler = Scheduler(budget=1000, max_sequences=8, blocks=60, block=16)
    run(requests, flat(), scheduler)
    assert sum(r.preemptions for r in requests) > 0
    assert all(r.last_token_s > 0 for r in requests)


def test_priority_goes_first() -> None:
    requests = [UserRequest(str(i), 0.001 * i, 10, 50, priority=1 if i < 8 else 0) for i in range(10)]
    run(requests, flat(), Scheduler(max_sequences=1, policy="priority"))
    order = sorted(requests, key=lambda r: r.scheduled_s)
    assert [r.id for r in order[1:3]] == ["8", "9"]


def test_prefix_cache_hits_depend_on_its_size() -> None:
    def served(blocks: int) -> float:
        names = [tuple(range(100 * (i % 6), 100 * (i % 6) + 4)) for i in range(60)]
        requests = [UserRequest(str(i), 2.0 * i, 4 * 32 + 20, 5, hashes=h) for i, h in enumerate(names)]
        run(requests, flat(), Scheduler(blocks=blocks, prefix_cache=True, hash_block=32))
        return sum(r.cached for r in requests) / sum(r.prompt for r in requests)

    small, large = served(20), served(1000)
    assert small < 0.1
    assert large == pytest.approx(54 / 60 * 128 / 148, rel=0.02)


def test_prefix_cache_evicts_oldest_to_host() -> None:
    host = TierStore(CacheTier(name="host", capacity_B=2.0, read_Bps=1e9, write_Bps=1e9), 1.0)
    cache = PrefixCache(2, (host,))
    for group in ((1, 2), (3,), (4,)):
        cache.take(group, 0.0)
        cache.release(group)
    cache.shrink(4, 0.0)
    assert list(cache.idle) == [3, 4]
    assert cache.found((2,), 1.0) == (0, [1])
    assert cache.found((3, 2, 4, 5, 1), 1.0) == (1, [1, 0])


def test_more_replicas_share_the_work_and_failures_cost() -> None:
    def last(replicas: int, failures: tuple[Failure, ...] = ()) -> float:
        requests = list(draw(rate=50.0, requests=300, prompt=lengths(50, ""), output=lengths(40, ""), seed=1))
        run(requests, flat(), Scheduler(max_sequences=4), replicas, route="least-loaded", failures=failures)
        return max(r.last_token_s for r in requests)

    assert last(2) < 0.6 * last(1)
    assert last(2, (Failure(at_s=1.0, replica=0, down_s=5.0),)) > last(2)


def test_step_times_of_one_case_are_made_once() -> None:
    """Of a case that differs in one cost, or in one limit of the scheduler, they are others."""
    d = deploy(load_model("llama-3.1-8b"), resolve(FACTS, "h200:1"), "vllm", [ServePlan(tp=1)], FACTS)
    small = Scheduler(budget=512, max_sequences=8)
    times = StepTimes.of(d.shapes, d.costs, d.around, small)
    assert StepTimes.of(d.shapes, d.costs, d.around, small) is times
    slower = replace(d.costs, step=d.costs.step + 0.001)
    assert StepTimes.of(d.shapes, slower, d.around, small).sampled[1] == pytest.approx(times.sampled[1] + 0.001)
    assert len(StepTimes.of(d.shapes, d.costs, d.around, replace(small, max_sequences=9)).sampled) == 10


def test_agrees_with_the_steady_state_at_low_load() -> None:
    model, system = load_model("llama-3.1-70b"), resolve(FACTS, "h200:4")
    d = deploy(model, system, "vllm", [ServePlan(tp=4, weights="fp8")], FACTS)
    scheduler = Scheduler(budget=8192, max_sequences=64)
    times = StepTimes.of(d.shapes, d.costs, d.around, scheduler)
    requests = list(draw(rate=0.02, requests=40, prompt=lengths(2000, ""), output=lengths(200, "")))
    run(requests, times, scheduler)
    ones = np.ones(1)
    load_ = Load(
        users=ones,
        prompt=ones * 2000,
        output=ones * 200,
        cached=ones * 0,
        verify=ones,
        accepted=ones,
        rounds=ones * math.inf,
        is_static=ones * 0,
    )
    steady = closed_loop(d.shapes, d.costs, d.around, load_, system.hbm_usable_B)
    tpot = np.mean([(r.last_token_s - r.first_token_s) / 199 for r in requests])
    prefill = np.mean([r.first_token_s - r.scheduled_s for r in requests])
    decode = sum(v[0] for k, v in steady.tpot_parts.items() if k != "prefill_interference")
    assert tpot == pytest.approx(decode, rel=0.02)
    assert prefill == pytest.approx(steady.ttft_parts["prefill"][0], rel=0.05)


# traces
# ----------------------------------------------------------------------------------------------------------------------


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:04.0319600,3180,8\n"
)


def test_traces_are_told_apart(tmp_path: Path) -> None:
    azure = list(read_trace(write(tmp_path / "a.csv", AZURE)))
    assert [(round(r.arrival_s, 4), r.prompt, r.output) for r in azure] == [(0.0, 4808, 10), (0.052, 3180, 8)]
    mooncake = '{"timestamp": 3000, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}\n'
    one = next(read_trace(write(tmp_path / "m.jsonl", mooncake)))
    assert (one.prompt, one.output, one.hashes) == (6758, 500, (0, 1))
    log = (
        '{"request_id": "b", "input_toks": 5, "output_toks": 6, "arrival_time": 9.5}\n{"request_id": "a", "input_toks":'
        ' 5, "output_toks": 6, "arrival_time": 9.0}\n'
    )
    assert [(r.id, r.arrival_s) for r in read_trace(write(tmp_path / "l.jsonl", log))] == [("a", 0.0), ("b", 0.5)]
    assert [r.id for r in read_trace(tmp_path / "a.csv", limit=1)] == ["0"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "t.csv:1: the trace is empty"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", "t.csv:1: no requests"),
        ("TIMESTAMP,ContextTokens\n1,2\n", "missing columns: GeneratedTokens"),
        ("a,b\n1,2\n", "not a trace that is known"),
        (AZURE + "2023-11-16 18:17:00,5,5\n", "t.csv:4: times go back"),
        (AZURE + "2023-11-16 18:18:00,-5,5\n", "t.csv:4, column ContextTokens: a length must be at least 1"),
        (AZURE + "2023-11-16 18:18:00,x,5\n", "t.csv:4, column ContextTokens: not a whole number"),
        (AZURE + "yesterday,5,5\n", "t.csv:4, column TIMESTAMP: not a time"),
        (AZURE + "1,2\n", "t.csv:4: wrong number of cells"),
        ('{"timestamp": 1, "input_length": 5, "output_length": 2}\n{oops\n', "t.csv:2: not JSON"),
    ],
)
def test_bad_traces_say_where(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(UserError) as caught:
        list(read_trace(write(tmp_path / "t.csv", text)))
    assert complaint in caught.value.line()


@pytest.mark.parametrize(
    "word", ["nan", "inf", "-inf", "1e400", "", "2023-11-16 18:17:0x", "2023-13-16 18:17:03", "true"]
)
def test_what_is_no_time_is_said(tmp_path: Path, word: str) -> None:
    text = f"{AZURE}{word or chr(32)},5,5\n"
    with pytest.raises(UserError, match=r"t\.csv:4.*not a time"):
        list(read_trace(write(tmp_path / "t.csv", text)))


@pytest.mark.parametrize("length", ["1.5", "true", "[1]", "1e400", "{}", '"x"'])
def test_what_is_no_length_is_said(tmp_path: Path, length: str) -> None:
    text = f'{{"timestamp": 1, "input_length": {length}, "output_length": 2}}\n'
    with pytest.raises(UserError, match=r"t\.jsonl:1, column input_length: not a whole number"):
        list(read_trace(write(tmp_path / "t.jsonl", text)))


@pytest.mark.parametrize("zone", ["America/New_York", "UTC", "Australia/Lord_Howe"])
def test_times_without_a_zone_do_not_depend_on_that_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    """Around the hour in which clocks are put forward in New York."""
    text = "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-03-10 01:59:59.5,9,9\n2024-03-10 03:00:00.25,9,9\n"
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        times = [r.arrival_s for r in read_trace(write(tmp_path / "t.csv", text))]
        zoned = text.replace("59.5,", "59.5-05:00,").replace("00.25,", "00.25-04:00,")
        assert [r.arrival_s for r in read_trace(write(tmp_path / "z.csv", zoned))] == [0.0, 0.75]
    finally:
        monkeypatch.undo()
        time.tzset()
    assert times == [0.0, 3600.75]


def test_block_hashes_are_a_list(tmp_path: Path) -> None:
    row = '{{"timestamp": 1, "input_length": 9, "output_length": 5, "hash_ids": {}}}\n'
    for none in ("null", "[]", '""'):
        assert next(read_trace(write(tmp_path / "none.jsonl", row.format(none)))).hashes == ()
    for wrong in ("3", '"0 1 2"', "[[1]]", '[0, {"a": 1}]'):
        with pytest.raises(UserError, match=r"t\.jsonl:1, column hash_ids: not a list of block hashes"):
            next(read_trace(write(tmp_path / "t.jsonl", row.format(wrong))))


def test_long_traces_stream(tmp_path: Path) -> None:
    """Reading keeps nothing: the first requests of a long trace come at once, and figures fold into bins."""
    path = tmp_path / "long.csv"
    with path.open("w") as file:
        file.write("arrived_at,num_prefill_tokens,num_decode_tokens\n")
        file.writelines(f"{i},10,2\n" for i in range(50_000))
    assert len(list(itertools.islice(read_trace(path), 3))) == 3
    figures = Figures()
    for chunk in np.array_split(1.0 + np.arange(EXACT + 50_000) / (EXACT + 50_000), 100):
        figures.add(chunk)
    assert figures.quantile(0.5) == pytest.approx(1.5, rel=0.003)
    assert figures.to_dict()["mean"] == pytest.approx(1.5, rel=1e-4)
    assert np.count_nonzero(figures._bins) < 400


def test_distributions() -> None:
    rng = np.random.default_rng(0)
    got = lengths("lognormal(8k, p95 32k)", "x")(rng, 40_000)
    assert np.median(got) == pytest.approx(8000, rel=0.03)
    assert np.quantile(got, 0.95) == pytest.approx(32000, rel=0.05)
    requests = list(
        draw(rate=5.0, requests=20_000, prompt=lengths(1, ""), output=lengths(1, ""), arrivals="gamma", cv=3.0)
    )
    gaps = np.diff([r.arrival_s for r in requests])
    assert gaps.mean() == pytest.approx(0.2, rel=0.1)
    assert gaps.std() / gaps.mean() == pytest.approx(3.0, rel=0.15)
    with pytest.raises(UserError, match="not a count"):
        lengths("about 5", "traffic.prompt")


# scenarios
# ----------------------------------------------------------------------------------------------------------------------

SCENARIO = """mowich: 1
model: llama-3.1-8b
on: h100:2
engine: vllm
plan: {tp: 1, weights: bf16}
traffic: {rate: 4, requests: 60, prompt: 500, output: 50}
slo: {ttft: 1 s, tpot: 30 ms}
"""


def test_scenario_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "s.yaml", SCENARIO)
    code = cli.run(
        [
            "traffic",
            str(path),
            "--json",
            "--requests-out",
            str(tmp_path / "r.csv"),
            "--trace-out",
            str(tmp_path / "t.json"),
        ]
    )
    assert code == 0
    data = json.loads(capsys.readouterr().out)
    assert data["schema"] == "mowich/traffic@1"
    assert data["completed"] == data["requests"] == 60
    assert set(data["ttft_s"]) == {"mean", "p50", "p90", "p99"}
    assert 0 < data["goodput_frac"] <= 1
    assert data["inputs"]["replicas"] == 2
    rows = list(csv.DictReader((tmp_path / "r.csv").open()))
    assert {"id", "arrival_s", "scheduled_s", "first_token_s", "last_token_s", "prompt", "output"} <= set(rows[0])
    assert len(rows) == 60
    assert json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    assert cli.run(["traffic", str(path)]) == 0
    assert "requests served" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("engine: vllm", "engine: vlm", "did you mean 'vllm'"),
        ("tp: 1", "tp: 3", "tp=3 does not divide"),
        ("rate: 4", "rte: 4", "traffic.rate is missing"),
        ("slo:", "slos:", "unknown key"),
        ("on: h100:2", "on: h100:2\nreplicas: 5", "more devices than the system has"),
        ("model: llama-3.1-8b", "model: llama-3.1-405b", "does not fit"),
    ],
)
def test_bad_scenarios_say_where(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    with pytest.raises((UserError, UserErrors)) as caught:
        traffic(TrafficRequest(facts=FACTS, scenario=write(tmp_path / "s.yaml", SCENARIO.replace(old, new))))
    assert complaint in caught.value.line()
    assert "s.yaml" in caught.value.line()


def with_blocks(log: Path, dataset: Path, block: int = 16) -> list[dict[str, object]]:
    """The lines of a log with the names of the blocks of each prompt, from the tokens that were asked."""
    names: dict[tuple[int, ...], int] = {}
    asked = [json.loads(line) for line in dataset.read_text().splitlines()]
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    for row in rows:
        tokens = asked[int(row["request_id"].removeprefix("bench-"))]["input_tok_ids"]
        ends = range(block, len(tokens) + 1, block)
        row["hash_ids"] = [names.setdefault(tuple(tokens[:end]), len(names)) for end in ends]
    return rows


@pytest.mark.skipif(not TRACES.is_dir(), reason="the shared traces are not beside the project")
@pytest.mark.parametrize(
    ("log", "on", "sched"),
    [
        ("RTXPRO6000", "rtx-pro-6000:1", "max_num_seqs: 128"),
        ("RTX4090", "rtx-4090:1", "max_num_seqs: 256, kv_blocks: 2588"),
    ],
)
def test_measured_logs_are_reproduced(tmp_path: Path, log: str, on: str, sched: str) -> None:
    """Mean and 99th percentile of the end-to-end time, means of TTFT and TPOT, and each request's end-to-end time
    (median and 90th percentile of its error) within 5% of vLLM's own timestamps. Nothing was fitted to the logs."""
    source = TRACES / "llmservingsim_vllm_groundtruth" / f"{log}_Llama-3.1-8B_requests.jsonl"
    rows = with_blocks(source, TRACES / "llmservingsim_sharegpt-llama-3.1-8b-300-sps10.jsonl")
    trace = write(tmp_path / "log.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    text = (
        f"mowich: 1\nmodel: llama-3.1-8b\non: {on}\nengine: vllm\nrelease: 0.19.0\nplan: {{tp: 1}}\nscheduler:"
        f" {{{sched}, max_num_batched_tokens: 2048, prefix_cache: true, hash_block: 16}}\ntraffic: {{trace: {trace}}}\n"
        "front_end: false\n"
    )
    result = traffic(
        TrafficRequest(facts=FACTS, scenario=write(tmp_path / "s.yaml", text), requests_out=tmp_path / "r.csv")
    )
    seen = {str(r["request_id"]): {k: float(v) for k, v in r.items() if k.endswith("_ts")} for r in rows}
    ours = list(csv.DictReader((tmp_path / "r.csv").open()))
    pairs = []
    for r in ours:
        m, tokens = seen[r["id"]], int(r["output"]) - 1
        begin, first, last = (float(r[f"{name}_s"]) for name in ("arrival", "first_token", "last_token"))
        measured = m["first_token_ts"] - m["queued_ts"], (m["last_token_ts"] - m["first_token_ts"]) / tokens
        pairs.append(
            [first - begin, (last - first) / tokens, last - begin, *measured, m["last_token_ts"] - m["queued_ts"]]
        )
    found = np.array(pairs)
    assert found[:, :3].mean(axis=0) == pytest.approx(found[:, 3:].mean(axis=0), rel=0.05)
    assert np.quantile(found[:, 2], 0.99) == pytest.approx(np.quantile(found[:, 5], 0.99), rel=0.05)
    error = np.expm1(np.abs(np.log(found[:, 2] / found[:, 5])))
    assert np.median(error) <= 0.05
    assert np.quantile(error, 0.9) <= 0.05
    assert 0.01 < result.cached_frac < 0.1


def test_the_release_of_an_engine_says_which_all_reduces_it_has(tmp_path: Path) -> None:
    """Over PCIe those of vLLM 0.19 take longer than those of 0.24."""
    said = SCENARIO.replace("h100:2", "rtx-pro-6000:2").replace("tp: 1", "tp: 2")
    new, old = (
        traffic(TrafficRequest(facts=FACTS, scenario=write(tmp_path / "s.yaml", said + more), draws=0)).tpot_s["mean"]
        or 0.0
        for more in ("", 'release: "0.19.0"\n')
    )
    assert old > 1.1 * new
    with pytest.raises((UserError, UserErrors)) as caught:
        traffic(TrafficRequest(facts=FACTS, scenario=write(tmp_path / "s.yaml", said + "release: 0.19\n")))
    assert "is text, not a number" in caught.value.line()


def test_the_plan_that_aws_published_for_trainium3_can_be_stated() -> None:
    """Six prefill replicas with devices of two cores, and a decode server with devices of one, on one machine: each
    side has the chips that its cores need."""
    scenario = read_traffic(SCENARIOS / "gpt-oss-120b-trn3.yaml", FACTS)
    assert scenario.decode is not None
    assert (scenario.serve.replicas, scenario.decode.replicas) == (6, 1)
    assert scenario.serve.deployment.system.devices_per_chip == 4
    assert scenario.decode.deployment.system.devices_per_chip == 8
    assert (scenario.decode.plan.devices, scenario.decode.plan.ep) == (128, 128)
    assert scenario.chips == 6 * 8 / 4 + 128 / 8
    assert (scenario.inputs["plan"]["lnc"], scenario.inputs["decode_plan"]["lnc"]) == (2, 1)
    assert (scenario.inputs["engine"], scenario.inputs["decode_engine"]) == ("vllm-neuron", "nxdi-megakernel")


def test_a_traffic_names_the_measured_rows_around_its_mean_load(tmp_path: Path) -> None:
    """As the row of a plan does: those of the pool that decodes."""
    path = write(tmp_path / "s.yaml", SCENARIO)
    result, scenario = traffic(TrafficRequest(facts=FACTS, scenario=path, draws=0)), read_traffic(path, FACTS)
    pool = scenario.decode or scenario.serve
    users = max(1.0, result.in_flight / (pool.replicas * pool.plan.dp))
    answer = result.tokens_per_s_per_chip * result.chips_mean / result.requests_per_s
    distance, nearest = pool.deployment.measured(0, users=users, prompt=result.prompt_mean, output=answer)
    assert result.measured == {"distance": distance, "nearest": [asdict(row) for row in nearest]}
    assert len(nearest) == 3
    assert result.to_dict()["measured"] == result.measured
