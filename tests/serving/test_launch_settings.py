"""What an engine is started with, as settings of a plan: what they do to times, and what is said where nobody states
them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import mowich
from mowich import cli
from mowich.facts import load_facts
from mowich.machines.system import resolve
from mowich.models import load_model
from mowich.plans.launch_settings import LaunchSettings
from mowich.plans.plan import ServePlan
from mowich.requests.scenarios import TrafficRequest
from mowich.serving.search import ServeJob, closed_load
from mowich.serving.steady import closed_loop
from mowich.serving.step import step, total
from mowich.studies.serving import Deployment, deploy
from mowich.studies.traffic import traffic
from mowich.studies.unstated import unstated_settings

FACTS = load_facts()
Run = Callable[..., tuple[int, str, str]]
WORKERS = (
    ("deepseek-v3", "h200:8", {"tp": 8, "weights": "fp8"}),
    ("deepseek-v3", "b200:8", {"dp": 8, "ep": 8, "weights": "fp8"}),
    ("qwen3-235b-a22b", "h200:8", {"tp": 8, "ep": 8, "weights": "fp8"}),
    ("llama-3.1-70b", "h100:8", {"tp": 8, "weights": "fp8"}),
)


def worker(at: int, engine: str, *launches: LaunchSettings) -> Deployment:
    model, on, plan = WORKERS[at]
    plans = [ServePlan(**plan, launch=one) for one in launches]  # type: ignore[arg-type]
    return deploy(load_model(model), resolve(FACTS, on), engine, plans, FACTS)


def times(d: Deployment, job: ServeJob, users: float) -> tuple[list[float], list[float]]:
    """(TTFT, TPOT) of each plan, without corrections."""
    load = closed_load(job, np.full(len(d.plans), users), d.verified, d.accepted)
    found = closed_loop(d.shapes, d.costs, d.around, load, d.system.hbm_usable_B)
    return found.ttft_s.tolist(), found.tpot_s.tolist()


DRAWN = {
    "at": st.integers(0, len(WORKERS) - 1),
    "users": st.floats(1.0, 200.0),
    "prompt": st.floats(16.0, 20_000.0),
    "output": st.floats(16.0, 4000.0),
}


@settings(max_examples=40)
@given(
    at=st.integers(0, len(WORKERS) - 1),
    engine=st.sampled_from(("vllm", "sglang", "trtllm")),
    sizes=st.integers(1, 20_000),
    n=st.floats(0.0, 200.0),
    prompt=st.floats(0.0, 7_900.0),  # a step holds no more tokens than its engine lets in
)
def test_more_graphs_are_never_slower(at: int, engine: str, sizes: int, n: float, prompt: float) -> None:
    """Steps that are launched as whole graphs leave out launches, and nothing else; graphs up to a number of tokens are
    no graphs for steps of more."""
    graphs = ("off", "decode", sizes, "piecewise")
    d = worker(at, engine, *(LaunchSettings(graphs=g, interval=1, balance=0) for g in graphs))
    parts = step(d.shapes, d.costs, n=n, context=1000.0, prompt=prompt, prompt_context=prompt / 2.0)
    off, decode, sized, piecewise = total(parts).tolist()
    assert off * (1.0 + 1e-9) >= decode
    assert off > decode or prompt > 0
    assert decode * (1.0 + 1e-9) >= max(sized, piecewise)
    if n + prompt > sizes and sizes < float(np.ravel(d.around.budget)[0]):
        assert sized == pytest.approx(decode, rel=1e-12)
    assert d.around.visible_tokens[3] <= d.around.visible_tokens[1]
    assert all(np.ptp(parts[name]) == 0.0 for name in parts if name not in ("layers", "launches"))


@settings(max_examples=40)
@given(**DRAWN, less=st.integers(1, 30), more=st.integers(0, 30))
def test_a_prompt_waits_for_half_of_the_steps_between_two_looks(
    at: int, users: float, prompt: float, output: float, less: int, more: int
) -> None:
    launches = [LaunchSettings(graphs="decode", interval=n) for n in (less, less + more)]
    d, job = worker(at, "sglang", *launches), ServeJob(prompt=prompt, output=output)
    load = closed_load(job, np.full(2, users), d.verified, d.accepted)
    found = closed_loop(d.shapes, d.costs, d.around, load, d.system.hbm_usable_B)
    held = found.ttft_parts["held"]
    step = sum(found.tpot_parts.values()) - found.tpot_parts["prefill_interference"]
    waits = min(max(min(users, float(found.capacity.min())) - 1.0, 0.0), 1.0)
    for i, every in enumerate((less, less + more)):
        assert held[i] <= (every / 2.0 - 0.5) * step[i] * d.around.mtp_cost[i] * (1.0 + 1e-6)
        if waits == 1.0:
            assert held[i] == pytest.approx((every / 2.0 - 0.5) * step[i], rel=1e-6)


@settings(max_examples=25)
@given(**DRAWN, backend=st.sampled_from(("cutlass", "triton", "deepgemm")))
def test_kernels_of_experts_add_their_launches_to_layers_with_experts(
    at: int, users: float, prompt: float, output: float, backend: str
) -> None:
    d = worker(at, "trtllm", *(LaunchSettings(graphs="decode", balance=0, moe=m) for m in ("trtllm", backend)))
    job = ServeJob(prompt=prompt, output=output)
    load = closed_load(job, np.full(2, users), d.verified, d.accepted)
    layers = closed_loop(d.shapes, d.costs, d.around, load, d.system.hbm_usable_B).tpot_parts["layers"]
    each = FACTS.number(f"serving.common.experts_{backend}")
    moe_layers = float(np.sum(d.shapes.moe_layers[:, 0]))
    assert layers[1] - layers[0] == pytest.approx(moe_layers * each * float(d.costs.fixed_times[0]), abs=1e-12)


# the same examples each time: two rounds of the loop leave up to 0.2% where it is full; smaller ones take minutes
@settings(max_examples=20, phases=(Phase.explicit, Phase.generate), derandomize=True)
@given(**DRAWN, engine=st.sampled_from(("sglang", "trtllm")))
def test_what_is_not_stated_lies_between_what_it_may_be(
    at: int, users: float, prompt: float, output: float, engine: str
) -> None:
    """A time without a setting is between those at the two ends that measured rows have, and stating any of these is
    what narrows it; where all is stated nothing is open."""
    job = ServeJob(prompt=prompt, output=output)
    d = worker(at, engine, LaunchSettings())
    open_ = unstated_settings(d, 0, users, job, FACTS)
    first, later = times(d, job, users)
    for one in open_:
        ends = [LaunchSettings.of({one.setting: end}) for end in (one.low, one.high)]
        firsts, laters = times(worker(at, engine, *ends), job, users)
        assert [x / first[0] for x in firsts] == pytest.approx(one.ttft, rel=1e-6)
        assert [x / later[0] for x in laters] == pytest.approx(one.tpot, rel=1e-6)
        assert min(one.ttft) <= 1.001  # a full loop gives the same time at one end, to its own rounds
        assert max(one.ttft) >= 0.999
        stated = worker(at, engine, ends[0])
        assert one.setting not in {s.setting for s in unstated_settings(stated, 0, users, job, FACTS)}
    assert open_ or (engine, at) == ("trtllm", 3)  # dense, on ranks that wait for nobody
    all_stated = LaunchSettings(graphs="decode", interval=1, balance=0, moe=None if engine == "sglang" else "trtllm")
    assert unstated_settings(worker(at, engine, all_stated), 0, users, job, FACTS) == ()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """The command line in this process: (exit code, stdout, stderr)."""

    def ran(*words: str) -> tuple[int, str, str]:
        code = cli.run(words)
        out, err = capsys.readouterr()
        return code, out, err

    return ran


def ask(**fixed: str) -> Any:
    serve = {"isl": "2k", "osl": "500", "engine": "sglang"}
    fixed = {"tp": "8", "dp": "1", "ep": "1", "pp": "1", "kv": "fp8", "sequences": "32", **fixed}
    return mowich.plan("deepseek-v3", "h200:8", serve=serve, fixed=fixed, top=1)


def test_a_range_is_narrower_where_settings_are_stated() -> None:
    def width(row: Any) -> float:
        return math.log(row.ttft_s.high / row.ttft_s.low)

    open_, some, stated = ask(), ask(interval="10"), ask(interval="10", graphs="piecewise")
    assert width(open_.rows[0]) > 1.05 * width(some.rows[0]) > 1.05 * width(stated.rows[0])
    names = [[one["setting"] for one in found.rows[0].to_dict().get("unstated", ())] for found in (open_, some, stated)]
    assert names == [["plan.interval", "plan.graphs"], ["plan.graphs"], []]
    assert open_.warnings[0].startswith("plan.interval of sglang is not stated: measured rows have 1 to 30")
    assert "--set plan.interval=1 narrows the range" in open_.warnings[0]
    assert stated.warnings == ()
    assert "interval=10" in str(stated.rows[0].decode)


def test_settings_go_through_a_result_and_its_explanation() -> None:
    found = ask(interval="10", graphs="piecewise", memory="0.85", budget="4096")
    row = found.rows[0].to_dict()
    again = ServePlan.from_dict(row["decode"])
    assert again == found.rows[0].decode
    assert (again.launch.interval, again.launch.memory, again.launch.budget) == (10, 0.85, 4096)
    said = str(mowich.explain(found, "1.ttft_s"))
    assert "held" in said or "scheduler" in said


def test_memory_and_tokens_of_a_step_are_those_of_the_engine_that_is_told() -> None:
    small, usual = (
        ask(memory=share).rows[0].memory_B["kv"] for share in ("0.8", str(FACTS.number("serving.sglang.memory_share")))
    )
    plain = ask().rows[0].memory_B["kv"]
    assert small < usual == pytest.approx(plain)


SCENARIO = (
    "{{mowich: 1, model: llama-3.1-70b, on: 'h100:8', engine: {engine}, plan: {{tp: 8, weights: fp8, {more}}},"
    " traffic: {{rate: 4, prompt: 1000, output: 300, requests: 400, seed: 3}}}}"
)


@pytest.mark.parametrize(
    ("engine", "setting", "least", "most"), [("sglang", "interval", 1, 20), ("trtllm", "wait", 0, 10)]
)
def test_simulated_prompts_wait_as_those_of_the_steady_state(engine: str, setting: str, least: int, most: int) -> None:
    """The wait that a setting adds to a first token under traffic is that of the closed form, about."""
    quiet, told = (
        traffic(
            TrafficRequest(
                facts=FACTS, scenario=SCENARIO.format(engine=engine, more=f"graphs: decode, {setting}: {n}"), draws=0
            )
        )
        for n in (least, most)
    )
    added = (told.ttft_s["mean"] or 0.0) - (quiet.ttft_s["mean"] or 0.0)
    steps = {"interval": most / 2.0 - 0.5, "wait": float(most)}[setting]
    step = quiet.tpot_s["mean"] or 0.0
    assert 0.7 * steps * step < added < 1.4 * steps * step
    assert told.completed == quiet.completed == 400


def test_a_setting_of_another_engine_is_refused_in_one_line(run: Run) -> None:
    serve = ("plan", "llama-3.1-70b", "--serve", "--isl", "1k", "--osl", "100", "--on", "h100:8")
    code, _, err = run(*serve, "--set", "plan.interval=10")
    assert code == 2
    assert "plan.interval: vllm has no such setting: vLLM looks in every step; allowed: settings of vllm: graphs" in err
    code, _, err = run(*serve, "--engine", "sglang", "--set", "plan.interval=0")
    assert code == 2
    assert "got '0'; allowed: a whole number of steps from 1 to 1000" in err
    code, _, err = run(*serve, "--set", "plan.graps=off")
    assert (code, "did you mean 'graphs'?" in err) == (2, True)
    code, _, err = run("traffic", SCENARIO.format(engine="vllm", more="interval: 3"))
    assert code == 2
    assert "plan.interval: vllm has no such setting" in err
    code, _, err = run("traffic", SCENARIO.format(engine="sglang", more="interval: many"))
    assert (code, "plan.interval: not a value of interval" in err) == (2, True)


def test_settings_of_a_file_that_its_engine_lacks_are_left_out(run: Run, tmp_path: Any) -> None:
    file = tmp_path / "launch.sh"
    file.write_text("python -m sglang.launch_server --model-path m --tp 8 --scheduler-recv-interval 30\n")
    serve = ("plan", "llama-3.1-70b", "--serve", "--isl", "1k", "--osl", "100", "--on", "h100:8", "--plan", str(file))
    code, out, err = run(*serve)
    assert (code, "plan.interval=30" in err, "is not a setting of vllm, and is left out" in err) == (0, True, True)
    code, out, err = run(*serve, "--engine", "sglang")
    assert (code, "interval=30" in out, "left out: --model-path" in err) == (0, True, True)


def test_plans_and_rows_are_told_of_settings_by_one_rule() -> None:
    """A plan and a measured row that are started alike have the same constants."""
    from mowich.evidence.serving_cases import gather_cases
    from mowich.evidence.serving_checks import read_serving_cases

    row = {"id": "l", "source": "InferenceX", "date": "2026-03-25", "chip": "b200", "n_chips": "8"}
    row |= {"framework": "sglang 0.5.9", "model": "deepseek-r1", "precision": "fp4", "mode": "online agg", "tp": "8"}
    row |= {"isl": "1024", "osl": "1024", "concurrency": "16", "ttft_ms": "400", "tpot_ms": "15"}
    (case,) = read_serving_cases([row], FACTS)
    assert not isinstance(case, str)
    assert case.plan.launch == LaunchSettings(
        graphs="decode", interval=30, wait=0, balance=0, budget=16384, memory=0.85
    )
    table = gather_cases([replace(case, campaign="")], FACTS)
    _, engine, _, _ = table.columns.constants(FACTS.number)
    around = deploy(case.model, case.system, "sglang", [case.plan], FACTS).around
    for name in ("interval", "wait", "balance", "budget", "memory_share"):
        assert np.ravel(getattr(engine, name))[0] == np.ravel(getattr(around, name))[0]
