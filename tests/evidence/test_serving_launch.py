"""What a campaign's scripts start an engine with: read from a row's content, and what it does to the times."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mowich.estimate import Notes
from mowich.evidence.engine_releases import release_year
from mowich.evidence.serving_cases import gather_cases
from mowich.evidence.serving_checks import read_serving_cases, shorter_of_two
from mowich.evidence.serving_notes import NotedRun, ServingNote, budget_of, first_note, spread_ranks
from mowich.evidence.serving_rows import ServingCase
from mowich.facts import Facts, load_facts
from mowich.operators.law import busiest_rank
from mowich.plans.memory import kv_B_per_sequence, weights_B
from mowich.serving.engines import kept_tokens
from mowich.serving.steady import Steady, closed_loop
from mowich.serving.waits import balanced_steps, held_s, held_steps, lockstep_s, together_share

FACTS = load_facts()
SHARED = Path(__file__).resolve().parents[3] / "shared" / "truth" / "serving_calibration.csv"
ROW = {
    "id": "l",
    "source": "InferenceX db dump",
    "date": "2026-03-25",
    "chip": "b200",
    "n_chips": "8",
    "framework": "sglang 0.5.9",
    "model": "deepseek-r1",
    "precision": "fp4",
    "mode": "online agg",
    "tp": "8",
    "isl": "1024",
    "osl": "1024",
    "concurrency": "16",
    "ttft_ms": "400",
    "tpot_ms": "15",
}


def case(**cells: str) -> ServingCase:
    (got,) = read_serving_cases([{**ROW, **cells}], FACTS)
    assert isinstance(got, ServingCase), got
    return got


def steady(one: ServingCase) -> Steady:
    table = gather_cases([one], FACTS)
    return table.steady(np.array([FACTS.number(path) for path in table.columns.names]))


def test_a_scheduler_that_looks_now_and_then_holds_prompts_for_half_of_that() -> None:
    assert case(concurrency="8").plan.launch.interval == 10
    assert case().plan.launch.interval == 30  # from 16 users on
    assert case(source="somebody").plan.launch.interval is None  # nobody says it of a deployment of one's own
    assert case(chip="h200", precision="fp8").plan.launch.interval == 1  # its script says nothing of it
    zero, one = np.zeros(1), np.ones(1)
    steps = [float(held_steps(zero + every, zero, one, one)[0]) for every in (1.0, 10.0, 30.0)]
    assert steps == [0.0, 4.5, 14.5]


def test_held_prompts_wait_for_steps_and_nothing_else_changes() -> None:
    held, free = steady(case()), steady(case(chip="h200", precision="fp8"))
    assert held.ttft_parts["held"][0] > 0.0 == free.ttft_parts["held"][0]
    alone = held_s(np.array([14.5]), np.array([1.0]), np.array([0.01]))
    assert alone[0] == 0.0
    two, many = (held_s(np.array([14.5]), np.array([n]), np.array([0.01])) for n in (2.0, 64.0))
    assert two == many == pytest.approx(0.145)


def test_those_that_join_a_waiting_prompt_wait_for_half_as_long() -> None:
    one = np.ones(1)
    few, many, none = (
        float(held_steps(one, wait * one, users * one, 1024.0 * one)[0])
        for wait, users in ((20.0, 1e-9), (20.0, 1e9), (0.0, 64.0))
    )
    assert few == pytest.approx(20.0)
    assert many == pytest.approx(10.0, rel=1e-3)
    assert none == 0.0


def test_the_first_entry_that_fits_holds() -> None:
    notes: list[ServingNote] = [
        {"framework": "^sglang", "max_users": 15.0, "starts": "2026-01-01", "budget": 1.0},
        {"framework": "^sglang", "dp": True, "budget": 2.0},
        {"framework": "^sglang", "lengths": [1024.0, 8192.0], "budget": 3.0},
        {"framework": "^sglang", "budget": 4.0},
    ]

    def found(users: float = 16.0, dp: int = 1, output: float = 1024.0, date: str = "2026-03-25") -> float | None:
        row = {**ROW, "date": date}
        run = NotedRun(lengths=(1024.0, output), users=users, tp=8, dp=dp)
        return budget_of(first_note(notes, row, run), 1024.0)

    assert found(users=8.0) == 1.0
    assert found(users=8.0, date="2025-10-29") == found(users=8.0, date="in 2026") == 4.0
    assert found(dp=8) == 2.0
    assert found(output=8192.0) == 3.0
    assert found() == 4.0
    assert budget_of({}, 1024.0) is None
    assert budget_of({"budget": 8192.0, "prompts": 1.0}, 16384.0) == 16384.0
    assert budget_of({"prompts": 1.0, "more": 1500.0}, 1024.0) == 2524.0
    aiconfigurator = {"source": "NVIDIA gap-analysis runs", "framework": "trtllm 1.0.0rc3", "model": "llama-3.1-8b"}
    made = case(**aiconfigurator, precision="bf16", chip="h100", date="", isl="4096").plan.launch
    assert (made.budget, made.memory) == (5596.0, 0.8)


def test_a_stated_budget_replaces_that_of_the_engine() -> None:
    """With room for one prompt in a step, a start of many users takes longer than with room for eight."""
    cells = {"framework": "trtllm 1.1.0rc2", "precision": "fp8", "concurrency": "64", "isl": "1024"}
    narrow, wide = case(**cells, date="2025-12-15"), case(**cells, date="2026-02-01")
    assert (narrow.plan.launch.budget, wide.plan.launch.budget) == (1024.0, 8192.0)
    assert steady(narrow).ttft_parts["start_burst"][0] > 1.5 * steady(wide).ttft_parts["start_burst"][0]


def test_requests_of_a_run_follow_from_its_campaign() -> None:
    gap = {"source": "NVIDIA gap-analysis runs", "chip": "h100", "model": "qwen3-32b", "precision": "fp8"}
    rounds = [
        case(**gap, framework="trtllm 1.0.0rc3", concurrency=users, n_chips="8").rounds for users in ("8", "100", "128")
    ]
    assert rounds == [20.0, 20.0, 2000.0 / 128.0]
    other = {**gap, "source": gap["source"].upper()}  # one matcher for all notes: in any case
    assert case(**other, framework="TRTLLM 1.0.0rc3", concurrency="8", n_chips="8").rounds == 20.0
    assert case(**gap, framework="vllm 0.12.0").rounds == 10.0
    assert case().rounds == 10.0


def test_guessed_tokens_follow_from_the_script() -> None:
    mtp = {"framework": "trtllm 1.1.0rc2.post2", "precision": "fp8", "date": "2026-01-14", "concurrency": "64"}
    deep, flat = case(**mtp), case(**mtp, tp="1", dp="8", ep="8")
    assert deep.speculates
    assert flat.speculates
    assert (deep.drafts, flat.drafts) == (3, 1)
    columns = gather_cases([deep, flat], FACTS).columns
    _, engine, verified, accepted = columns.constants(FACTS.number)
    assert verified.tolist() == [4.0, 2.0]
    assert 2.0 < accepted[0] < 4.0
    assert 1.0 < accepted[1] < 2.0
    assert engine.mtp_cost[0] > engine.mtp_cost[1] > 1.0


@settings(deadline=None, max_examples=50)
@given(drafts=st.integers(0, 7), kept=st.floats(0.3, 0.95), repeats=st.floats(0.0, 1.0), answer=st.floats(128, 65536))
def test_a_step_keeps_one_token_to_all_of_them(drafts: int, kept: float, repeats: float, answer: float) -> None:
    given_ = np.array([float(drafts)]), np.array([answer]), np.array([kept]), np.array([repeats])
    got = kept_tokens(*given_)[0]
    assert 1.0 - 1e-9 <= got <= drafts + 1.0 + 1e-9
    more = kept_tokens(given_[0] + 1.0, *given_[1:])[0]
    assert more > got
    assert kept_tokens(given_[0], 2.0 * given_[1], *given_[2:])[0] >= got - 1e-12


def test_a_script_says_how_attention_is_spread_where_the_row_does_not() -> None:
    """A search of November 2025 chose data-parallel attention by users and lengths; results printed tp alone."""
    cells = {"framework": "trtllm", "date": "2025-11-02", "isl": "8192"}
    few, many = case(**cells, concurrency="32"), case(**cells, concurrency="64")
    assert (few.plan.tp, few.plan.dp, few.plan.ep, few.users) == (8, 1, 1, 32.0)
    assert (many.plan.tp, many.plan.dp, many.plan.ep, many.users) == (1, 8, 8, 8.0)
    assert any("attention is data-parallel" in item for item in many.inferred)
    assert many.plan.launch.balance == 60
    assert case(**cells, concurrency="64", source="somebody").plan.dp == 1
    assert case(**{**cells, "date": "2026-01-20"}, concurrency="64").plan.dp == 1  # results say so by then
    assert spread_ranks({"spreads": "experts"}, 8, 1, 1)[:3] == (8, 1, 8)
    assert spread_ranks({"spreads": "attention"}, 4, 2, 1) == (4, 2, 1, [])  # the row says it


def gathered(rate: float, ranks: int, limit: int, steps: int = 40_000) -> float:
    """Mean wait of prompts, in steps, drawn: each goes to the rank with the fewest; one of each rank begins when all
    have one, or after `limit` steps."""
    rng = np.random.default_rng(11)
    waiting, since, area, count = np.zeros(ranks, dtype=int), 0, 0, 0
    for come in rng.poisson(rate * ranks, steps):
        for _ in range(come):
            waiting[np.argmin(waiting)] += 1
        since += 1
        if waiting.min() > 0 or since >= limit:
            waiting, since = np.maximum(waiting - 1, 0), 0
        area, count = area + int(waiting.sum()), count + int(come)
    return area / count


@pytest.mark.parametrize("rate", [0.002, 0.05, 0.1])
def test_ranks_that_wait_for_each_other_against_drawing(rate: float) -> None:
    """Shares of a window of 60 steps; queues behind one prompt of the own rank make the law at most twice as long."""
    law = balanced_steps(np.array([60.0]), np.array([rate]))[0]
    assert 0.9 * gathered(rate, 8, 60) <= law <= 2.4 * gathered(rate, 8, 60)
    assert balanced_steps(np.zeros(1), np.array([rate]))[0] == 0.0


@given(limit=st.floats(1, 100), rate=st.floats(1e-4, 10), more=st.floats(1, 5))
def test_ranks_wait_for_no_longer_than_their_limit(limit: float, rate: float, more: float) -> None:
    wait = balanced_steps(np.array([limit]), np.array([rate]))[0]
    assert 0.0 < wait <= limit * (1 + 1e-12)
    assert balanced_steps(np.array([more * limit]), np.array([rate]))[0] >= wait - 1e-9


def test_of_two_runs_of_a_script_the_shorter_time_per_token_is_with_guesses() -> None:
    """The search of March 2026 ran DeepSeek-R1 in 8 bits on SGLang both ways; results do not say which is which."""
    plain = {**ROW, "precision": "fp8", "tpot_ms": "22.5"}
    rows = [plain, {**plain, "tpot_ms": "20.4"}, {**plain, "concurrency": "32", "tpot_ms": "17"}]
    assert shorter_of_two([*rows, {**rows[2], "tpot_ms": "16.9"}]) == [False, True, False, False]
    got = [one for one in read_serving_cases(rows, FACTS) if isinstance(one, ServingCase)]
    assert [one.speculates for one in got] == [False, True, False]
    assert (got[1].drafts, got[1].plan.launch.budget) == (2, 16384.0)
    assert got[0].plan.launch.budget == 32768.0
    assert case(precision="fp8", concurrency="128").speculates  # only the run with guesses had so many users
    assert case(precision="fp8", isl="8192").speculates
    assert not case(precision="fp8", isl="8192", concurrency="4").speculates
    assert not case(precision="fp8", concurrency="128", framework="sglang 0.6").speculates


def test_tensorrt_llm_takes_its_share_of_what_the_model_leaves(facts: Facts) -> None:
    """85 GB, 33 GB of weights: 0.9 of the rest is for caches, not 0.9 of all less the weights; and a prompt is let in
    when its whole answer fits."""
    gap = {"source": "NVIDIA gap-analysis runs", "chip": "h100", "model": "qwen3-32b", "precision": "fp8", "tp": "1"}
    gap |= {"n_chips": "1", "isl": "4096", "osl": "512", "concurrency": "64", "tpot_ms": "60", "ttft_ms": "2000"}
    room = {}
    for name in ("trtllm 1.2.0rc6.post1", "vllm 0.19.0"):
        table = gather_cases([case(**gap, framework=name, kv_precision="fp8")], FACTS)
        _, engine, _, _ = table.columns.constants(FACTS.number)
        reserve, share = float(engine.reserve_B[0]), float(engine.memory_share[0])
        beside, _ = table.room(np.array([FACTS.number(path) for path in table.columns.names]))
        capacity = float(table.capacity_B[0])
        weights = float(weights_B(table.shapes)[0])
        free = (
            (capacity - weights - reserve) * share if name.startswith("trt") else capacity * share - weights - reserve
        )
        tokens = 4096.0 + (512.0 if name.startswith("trt") else 0.7 * 512.0)
        each = float(kv_B_per_sequence(table.shapes, np.array([tokens]))[0])
        assert beside[0] == pytest.approx(free / each)
        room[name[:4]] = float(beside[0])
    assert room["trtl"] > room["vllm"]
    assert facts.number("serving.common.memory_of_free") == 0.0


def test_prompts_that_are_captured_are_not_late_by_their_launches() -> None:
    """A search of February 2026 captured prompts in graphs from so many users on; results print no more than users."""
    cells = {"framework": "trtllm 1.2.0rc6.post3", "precision": "fp8", "date": "2026-02-05"}
    few, many = case(**cells, concurrency="4"), case(**cells, concurrency="8")
    assert (few.plan.launch.graphs, many.plan.launch.graphs) == ("decode", "piecewise")
    columns = gather_cases([few, many], FACTS).columns
    _, engine, _, _ = columns.constants(FACTS.number)
    dense, mla = (FACTS.number(f"serving.trtllm.visible_{arch}") for arch in ("dense", "mla"))
    later = FACTS.number("serving.common.visible_yearly") ** (
        release_year("trtllm", few.version, "") - FACTS.number("serving.common.visible_year")
    )
    assert engine.visible_tokens == pytest.approx([mla * later, dense * later])
    assert dense < mla


def test_an_explained_wait_says_how_the_share_of_users_in_step_comes_about() -> None:
    one = gather_cases([case(source="NVIDIA gap-analysis runs", framework="trtllm 1.0.0rc3", chip="h100")], FACTS)
    costs, engine, load = one._around(np.array([FACTS.number(path) for path in one.columns.names]))
    notes = Notes()
    closed_loop(one.shapes, costs, engine, load, one.capacity_B, notes=notes)
    term = notes.terms["lockstep.share"]
    assert "lockstep" in term.formula
    assert set(term.inputs) == {"lockstep", "users", "together"}
    assert term.value == notes.terms["lockstep"].inputs["share"]
    assert 0.0 < term.value < 1.0


@settings(deadline=None, max_examples=50)
@given(users=st.floats(1, 4096), before=st.floats(0.01, 500), more=st.floats(1.0, 4.0))
def test_users_in_step_wait_for_so_many_prompts_at_most(users: float, before: float, more: float) -> None:
    n, each = np.array([users]), np.array([0.1])
    wait = lockstep_s(together_share(before, n), n, each)[0]
    assert 0.0 <= wait <= 0.1 * min(before, (users - 1.0) / 2.0) + 1e-12
    assert lockstep_s(together_share(more * before, n), n, each)[0] >= wait - 1e-12
    assert lockstep_s(together_share(0.0, n), n, each)[0] == 0.0


def test_users_who_wait_for_prompts_sent_with_theirs_do_not_decode() -> None:
    one = case(source="NVIDIA gap-analysis", framework="sglang 0.5.1.post1", concurrency="64", osl="128")
    got = steady(one)
    wait, decoding = got.ttft_parts["lockstep"][0], one.output * one.mean_length * got.tpot_s[0]
    assert wait > 0.05 * decoding
    assert got.running[0] < one.users * decoding / (decoding + wait)


@pytest.mark.parametrize(("experts", "ep", "draws"), [(256, 8, 64), (128, 4, 32), (128, 8, 256)])
def test_the_busiest_rank_against_drawing(experts: int, ep: int, draws: int) -> None:
    rng = np.random.default_rng(7)
    most, visited = [], []
    for _ in range(400):
        hit = np.zeros(experts, dtype=bool)
        hit[rng.integers(0, experts, draws)] = True
        ranks = hit.reshape(ep, -1).sum(axis=1)
        most.append(ranks.max() / ranks.mean())
        visited.append(hit.sum())
    of = (np.array([float(x)]) for x in (np.mean(visited), experts, ep, 1.0))
    assert busiest_rank(*of)[0] == pytest.approx(np.mean(most), rel=0.12)


def test_ranks_are_level_where_all_experts_are_visited_or_there_is_one() -> None:
    one, all_ = np.ones(1), np.array([128.0])
    assert busiest_rank(all_, all_, 8.0 * one, one)[0] == 1.0
    assert busiest_rank(4.0 * one, all_, one, one)[0] == 1.0


@given(
    visited=st.floats(0.1, 512), experts=st.floats(1, 512), ep=st.sampled_from([1, 2, 8, 64]), uneven=st.floats(0, 2)
)
def test_no_rank_visits_more_than_its_own_experts(visited: float, experts: float, ep: int, uneven: float) -> None:
    visited = min(visited, experts)
    most = busiest_rank(*(np.array([float(x)]) for x in (visited, experts, ep, uneven)))[0]
    assert 1.0 <= most <= experts / visited * (1 + 1e-12)


def test_a_compiled_graph_does_the_same_work_whichever_experts_are_chosen(facts: Facts) -> None:
    for stack in ("vllm-neuron", "nxdi-port", "nxdi-megakernel"):
        assert facts.number(f"serving.{stack}.ep_uneven") == 0.0
    assert facts.number("serving.common.ep_uneven") > 0.0


@given(users=st.floats(1, 4096), together=st.floats(0, 1), before=st.floats(0, 500))
def test_a_share_that_always_asks_together_adds_to_those_in_step(users: float, together: float, before: float) -> None:
    n = np.array([users])
    share = together_share(before, n, together)[0]
    assert max(together, together_share(before, n)[0]) - 1e-12 <= share <= 1.0 + 1e-12
    assert together_share(0.0, n, together)[0] == pytest.approx(together)


def run_of(users: int, tpot_ms: float, **cells: str) -> dict[str, str]:
    """A row of a closed loop on one H100."""
    row = {**ROW, "source": "somebody", "framework": "trtllm 1.0", "model": "qwen3-32b", "precision": "fp8"}
    row |= {"chip": "h100", "n_chips": "1", "tp": "1", "isl": "4096", "osl": "512"}
    return row | {"concurrency": str(users), "tpot_ms": str(tpot_ms), "ttft_ms": "3000"} | cells


def test_a_cache_that_holds_more_than_16_bits_allow_has_8() -> None:
    """By Little's law 59 of 64 users decode at once; a 16-bit cache holds 35. All rows of the run have that cache."""
    rows = [run_of(64, 62.0), run_of(8, 19.0), run_of(8, 19.0, framework="trtllm 2.0")]
    rows.append(run_of(64, 62.0, kv_precision="bf16", framework="trtllm 3.0"))
    got = read_serving_cases(rows, FACTS)
    caches = [c.plan.kv if isinstance(c, ServingCase) else c for c in got]
    assert caches == ["fp8", "fp8", "bf16", "bf16"]
    first, other = got[0], got[3]
    assert isinstance(first, ServingCase)
    assert isinstance(other, ServingCase)
    assert first.memory_share == 1.0 < other.memory_share
    assert any("16-bit cache holds" in item for item in first.inferred)


@pytest.mark.skipif(not SHARED.exists(), reason="the shared table of measured rows is not here")
def test_published_rows_of_the_campaign_have_a_script() -> None:
    with SHARED.open(newline="", encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if "InferenceX db dump" in r["source"] and r["mode"] == "online agg"]
    cases = [c for c in read_serving_cases(rows[::9], FACTS) if isinstance(c, ServingCase)]
    told = [c.plan.launch.budget is not None for c in cases if c.engine in ("trtllm", "sglang")]
    assert sum(told) > 0.9 * len(told)


def test_prompts_that_a_scheduler_takes_together_share_a_step() -> None:
    """With 30 steps between two looks, the prompts of 30 steps begin together and share what a step takes beside."""
    cells = {"concurrency": "128", "isl": "1024"}
    looks = case(**cells)
    assert looks.plan.launch.interval == 30
    each = replace(looks, plan=replace(looks.plan, launch=replace(looks.plan.launch, interval=1)))
    shared, apart = (steady(one).tpot_parts["prefill_interference"][0] for one in (looks, each))
    assert 0.0 < shared < 0.8 * apart


def test_kernels_of_prompts_are_launched_one_by_one_unless_captured() -> None:
    cells = {"framework": "trtllm 1.2.0rc6.post3", "precision": "fp8", "date": "2026-02-05"}
    few, many = case(**cells, concurrency="4"), case(**cells, concurrency="8")
    costs, _, _, _ = gather_cases([few, many], FACTS).columns.constants(FACTS.number)
    assert costs.prefill_kernel.tolist() == [FACTS.number("serving.trtllm.prefill_kernel"), 0.0]
    qwen = {"model": "qwen3.5-397b-a17b", "chip": "b300", "precision": "fp8", "tp": "4", "n_chips": "4"}
    old, new = (
        case(**qwen, framework=f"sglang 0.5.{r}", date=d) for r, d in (("9", "2026-04-03"), ("10.post1", "2026-04-17"))
    )
    assert (old.plan.launch.graphs, new.plan.launch.graphs) == ("decode", "piecewise")


def test_kernels_for_few_rows_make_prompts_longer() -> None:
    guess = case(precision="fp8", concurrency="128", isl="8192")
    assert guess.speculates
    assert guess.products == "trtllm"
    usual = replace(guess, products="")
    slow, fast = steady(guess), steady(usual)
    assert slow.tpot_parts["prefill_interference"][0] > 1.2 * fast.tpot_parts["prefill_interference"][0]
    assert slow.full_step["linear"][0] == fast.full_step["linear"][0]  # no step without a prompt takes longer


def test_a_stall_that_no_prompt_explains_is_in_both_times() -> None:
    cells = {"framework": "sglang", "date": "2025-11-10", "isl": "8192", "concurrency": "4"}
    cold = case(**cells, ttft_ms="5500", tpot_ms="13.6")
    assert {"ttft_ms", "tpot_ms"} <= set(cold.skip)
    assert "stood still" in cold.skip["tpot_ms"]
    long = case(**{**cells, "isl": "1024", "osl": "8192"}, ttft_ms="5500", tpot_ms="13.6")
    assert set(long.skip) == {"ttft_ms"}  # a long answer has hardly any of it
    assert "tpot_ms" not in case(**cells, ttft_ms="700", tpot_ms="13.6").skip
