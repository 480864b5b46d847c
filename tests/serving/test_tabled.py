"""Steps of engines whose constants are shares of what kernels reach: products and attention by operator tables."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mowich.arrays import Floats
from mowich.estimate import Notes
from mowich.facts import load_facts
from mowich.machines.system import resolve
from mowich.models import load_model
from mowich.operators.kernels import Kernels, kernels_of, reach_of, table_code
from mowich.operators.law import both
from mowich.operators.tables import operator_s
from mowich.operators.tables.lookup import least_s
from mowich.operators.tables.schema import read_table
from mowich.plans.plan import ServePlan
from mowich.serving.step import step
from mowich.serving.traffic.policies import Scheduler
from mowich.serving.traffic.times import StepTimes
from mowich.studies.serving import Deployment, deploy

FACTS = load_facts()
WORK = ("linear", "head", "attention", "prefill_attention")


def deployed(model: str, on: str, engine: str, plan: ServePlan | None = None) -> Deployment:
    return deploy(load_model(model), resolve(FACTS, on), engine, [plan or ServePlan(tp=4)], FACTS)


def taken(d: Deployment, **work: float) -> tuple[dict[str, float], dict[str, float]]:
    """(seconds by part, of those by tables)."""
    timed: dict[str, Floats] = {}
    parts = step(d.shapes, d.costs, timed=timed, **{"n": 0.0, "context": 0.0, **work})  # type: ignore[arg-type]
    return {k: float(v[0]) for k, v in parts.items()}, {k: float(v[0]) for k, v in timed.items()}


DECODE = {"n": 4.0, "context": 3000.0}
PROMPT = {"prompt": 3000.0, "prompt_context": 1500.0, "finishing": 1.0}


@pytest.mark.parametrize("work", [DECODE, PROMPT], ids=["decode", "prompt"])
@pytest.mark.parametrize("on", ["trn2:1", "trn3:1"])
def test_products_and_attention_of_a_dense_model_are_by_tables(on: str, work: dict[str, float]) -> None:
    parts, timed = taken(deployed("llama-3.1-8b", on, "vllm-neuron"), **work)
    for name in WORK:
        assert timed[name] == pytest.approx(parts[name], rel=1e-9)
    assert sum(timed.values()) > 0.5 * sum(parts.values())


def shortest_s(chip: str) -> float:
    """The shortest product of a chip's table, in which next to nothing but a launch is."""
    return min(row.seconds for row in read_table("matmul", chip=chip, dtype="bf16", scope="chip"))


def test_a_step_takes_what_the_kernels_take_over_the_share_that_the_engine_reaches() -> None:
    """By hand, product by product: QKV, output, gate and up, down, of 32 layers of Llama 3.1 8B on a quarter of a
    chip."""
    d = deployed("llama-3.1-8b", "trn2:1", "vllm-neuron")
    launch = shortest_s("trainium2")
    sides = ((6144 / 4, 4096), (4096, 1024), (2 * 14336 / 4, 4096), (4096, 14336 / 4))
    seconds = 32 * sum(float(operator_s("trainium2", "matmul", "bf16", {"m": 4, "n": n, "k": k}).seconds) - launch
                       for n, k in sides)  # fmt: skip
    W = 32 * sum(n * k for n, k in sides)
    compute, memory = (np.array(x) for x in (2 * 4 * W / d.costs.peak_linear[0], 2 * W / d.costs.hbm_Bps[0]))
    at_best = reach_of(table_code("trainium2", 4))
    c = d.costs.rate("linear")[0] / d.costs.peak_linear[0] / at_best.compute
    w = d.costs.weights_linear[0] / at_best.memory
    reached = both(compute / min(c, 1.0), memory / min(w, 1.0)) / both(compute, memory)
    assert taken(d, **DECODE)[0]["linear"] == pytest.approx(seconds * float(reached), rel=1e-9)


def test_logical_cores_choose_the_table() -> None:
    """gpt-oss on a chip of eight devices of one core and of four of two: other tables, and none for a chip without."""
    assert len({table_code("trainium3", 4), table_code("trainium3", 8), table_code("trainium4", 4)}) == 3
    assert table_code("trainium4", 4) == table_code("h100", 1) == 0
    one, two = kernels_of(table_code("trainium3", 8)), kernels_of(table_code("trainium3", 4))
    assert (one.scope, one.lnc, two.scope, two.lnc) == ("chip_lnc1", 1, "chip", 2)
    rows, sizes = np.array([64.0]), np.array([2048.0])
    assert one.product_s(rows, sizes, sizes, "bf16")[0] > two.product_s(rows, sizes, sizes, "bf16")[0]


@pytest.mark.parametrize(
    ("model", "on", "engine", "plan", "left"),
    [
        ("llama-3.1-8b", "trn2:1", "vllm-neuron", ServePlan(tp=4, kv="fp8"), {"attention"}),
        ("deepseek-v3", "trn3:16", "vllm-neuron", ServePlan(tp=64), set(WORK)),
        ("qwen3-30b-a3b", "trn3:1", "nxdi-nki", ServePlan(tp=4), {"linear", "head"}),
        ("llama-3.1-8b", "trn4:1", "vllm-neuron", ServePlan(tp=4), set(WORK)),
        ("llama-3.1-8b", "trn1:16", "neuron", ServePlan(tp=32), set(WORK)),
        ("llama-3.1-8b", "h100:8", "vllm", ServePlan(tp=8), set(WORK)),
    ],
)
def test_what_no_table_holds_is_by_the_closed_form(
    model: str, on: str, engine: str, plan: ServePlan, left: set[str]
) -> None:
    """Caches in 8 bits, latent attention, products of models with experts, chips without tables, engines whose
    constants are shares of published rates."""
    d = deployed(model, on, engine, plan)
    for work in (DECODE, PROMPT):
        parts, timed = taken(d, **work)
        for name in WORK:
            if name in left:
                assert timed[name] == 0.0
            elif parts[name] > 0:
                assert timed[name] > 0.0


def test_no_step_is_faster_than_the_hardware() -> None:
    """At no point is a part by tables below the published rates; 200 random steps of each engine, seeded."""
    rng = np.random.default_rng(3)
    for engine, on in (("vllm-neuron", "trn2:1"), ("nxdi-megakernel", "trn3:1")):
        for model in ("llama-3.1-8b", "qwen3-30b-a3b"):
            d = deployed(model, on, engine)
            at = np.zeros(200, dtype=np.intp)
            s, costs = d.shapes.take(at), d.costs.take(at)
            n, context = np.exp(rng.uniform(0, 6, 200)).round(), np.exp(rng.uniform(2, 11, 200)).round()
            prompt = np.where(rng.random(200) < 0.5, 0.0, context)
            work = {"n": n, "context": context, "prompt": prompt, "prompt_context": prompt / 2, "finishing": prompt > 0}
            parts, best = step(s, costs, **work), step(s, costs.at_published(), **work)  # type: ignore[arg-type]
            for name in ("linear", "head", "experts", "attention"):
                assert (parts[name] >= best[name] * (1 - 1e-9)).all(), name


def test_kernels_in_a_row_have_no_launch_and_keep_to_the_hardware() -> None:
    rng = np.random.default_rng(5)
    m, n, k = (
        np.exp(rng.uniform(np.log(low), np.log(high), 300)).round() for low, high in ((1, 4096), (128, 9e3), (128, 1e4))
    )
    for chip in ("trainium2", "trainium3"):
        alone, in_a_row = (Kernels(chip, in_a_row=x).product_s(m, n, k, "bf16") for x in (False, True))
        launch = shortest_s(chip)
        least = least_s(chip, "matmul", "bf16", np.stack([m, n, k]), "chip")
        np.testing.assert_allclose(in_a_row, np.maximum(alone - launch, least))
        assert (in_a_row < alone).any()


@pytest.mark.parametrize(("chip", "scope"), [("trainium2", "chip"), ("trainium3", "chip_lnc1")])
def test_what_is_read_along_a_line_is_what_the_table_says(chip: str, scope: str) -> None:
    """Products along their rows and caches along their sequences, at 4,000 drawn sizes: within the table, on its sizes,
    beyond it, and where it does not reach."""
    kernels, rng = Kernels(chip, scope=scope, in_a_row=True), np.random.default_rng(23)

    def drawn(low: float, high: float, n: int) -> Floats:
        sizes = np.exp(rng.uniform(np.log(low), np.log(high), n))
        return np.where(rng.random(n) < 0.5, 2.0 ** np.round(np.log2(sizes)), sizes)

    m, column = drawn(0.5, 2e5, 4000), rng.integers(0, 60, 4000)
    n, k = drawn(16.0, 1e5, 60), drawn(16.0, 1e5, 60)
    for dtype in ("bf16", "fp8"):
        found = kernels.product_lines(n, k, dtype)
        assert found is not None
        told = kernels.product_s(m, n[column], k[column], dtype)
        np.testing.assert_allclose(found.at(m, column), told, rtol=1e-12)
        assert 0.2 < np.isfinite(told).mean() < 1.0
    group, context, dim = drawn(1.0, 32.0, 60), drawn(64.0, 3e5, 60), drawn(32.0, 300.0, 60)
    lines = kernels.cache_lines(group, context, dim)
    assert lines is not None
    told = kernels.cache_s(m, group[column], context[column], dim[column])
    np.testing.assert_allclose(lines.at(m, column), told, rtol=1e-12)
    assert 0.2 < np.isfinite(told).mean() < 1.0
    assert kernels.product_lines(n, k, "int8") is None


def test_kernels_reach_less_than_what_is_published() -> None:
    for chip, devices in (("trainium2", 4), ("trainium2", 8), ("trainium3", 4), ("trainium3", 8)):
        reach = reach_of(table_code(chip, devices))
        assert 0.85 < reach.compute < 1.0
        assert 0.6 < reach.memory <= 1.0
        assert 0.2 < reach.prompt < 0.8
        assert 0.6 < reach.cache <= 1.0


def test_terms_say_which_table_gave_a_part() -> None:
    d = deployed("llama-3.1-8b", "trn3:1", "vllm-neuron")
    notes = Notes()
    parts = step(d.shapes, d.costs, n=2.0, context=1000.0, notes=notes)
    term = notes.terms["linear.kernels"]
    assert term.value == pytest.approx(float(parts["linear"][0]))
    assert "operator tables of trainium3, LNC 2" in term.note
    assert term.formula == "kernels * both(compute / (c * faster), memory / (w * wider)) / both(compute, memory)"
    assert notes.terms["attention.kernels"].formula == "kernels / (share * faster)"


def test_an_answer_says_how_much_is_by_tables(tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    asked = [
        "plan",
        "llama-3.1-8b",
        "--serve",
        "--on",
        "trn2:1",
        "--isl",
        "1000",
        "--osl",
        "200",
        "--set",
        "plan.kv=bf16",
    ]
    run = subprocess.run([sys.executable, "-m", "mowich", *asked, "--out", str(out)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "operator tables of simulated kernels: 100%." in " ".join(run.stdout.split())
    row = json.loads(out.read_text())["plans"][0]
    for name in ("tpot_s", "ttft_s"):
        coverage = row[name]["coverage"]
        assert sum(coverage.values()) == pytest.approx(1.0)
        assert 0.3 < coverage["simulated kernels"] < 1.0


@pytest.mark.parametrize("tp", [1, 4])
def test_traffic_takes_as_long_as_a_usual_step(tp: int) -> None:
    """A traffic has times per token: they are those of a usual batch, not of one token, for which a kernel takes as
    long as for a tile."""
    d = deployed("llama-3.1-8b", "trn3:1", "vllm-neuron", ServePlan(tp=tp))
    times = StepTimes.of(d.shapes, d.costs, d.around, Scheduler(max_sequences=64, budget=4096))
    prompt = taken(d, prompt=2048.0, prompt_context=1024.0)[0]
    assert times.prompt_s(0, 2048) == pytest.approx(prompt["prefill_attention"], rel=1e-6)
    decode = taken(d, n=16.0, context=2048.0)[0]
    assert 16 * 2048 * times.per_context == pytest.approx(decode["attention"], rel=1e-6)


@pytest.mark.parametrize(("n", "context"), [(1, 512), (1, 2048), (1, 30_000), (3, 700), (40, 1500), (64, 9000)])
def test_traffic_reads_caches_as_long_as_a_step_does(n: int, context: int) -> None:
    """Between the sizes that are kept: 2,048 tokens of one sequence take 2.4 times as long for each token as those of
    16."""
    d = deployed("llama-3.1-8b", "trn3:1", "vllm-neuron", ServePlan(tp=4))
    times = StepTimes.of(d.shapes, d.costs, d.around, Scheduler(max_sequences=64, budget=4096))
    step_s = taken(d, n=float(n), context=float(context))[0]["attention"]
    assert times.reading_s(n, float(n * context)) == pytest.approx(step_s, rel=0.15)


@pytest.mark.parametrize(("start", "tokens"), [(0, 200), (0, 1000), (0, 4096), (4096, 1000), (26_000, 4000)])
def test_traffic_reads_prompts_as_long_as_a_step_does(start: int, tokens: int) -> None:
    d = deployed("llama-3.1-8b", "trn3:1", "vllm-neuron", ServePlan(tp=4))
    times = StepTimes.of(d.shapes, d.costs, d.around, Scheduler(max_sequences=64, budget=4096))
    work = {"prompt": float(tokens), "prompt_context": start + tokens / 2.0}
    assert times.prompt_s(start, tokens) == pytest.approx(taken(d, **work)[0]["prefill_attention"], rel=0.15)


@pytest.mark.parametrize(
    ("path", "work", "part"),
    [
        ("chips.trainium3.memory.hbm_bandwidth", DECODE, "attention"),
        ("chips.trainium3.memory.hbm_bandwidth", DECODE, "linear"),
        ("chips.trainium3.peak_dense.bf16", PROMPT, "prefill_attention"),
        ("chips.trainium3.peak_dense.bf16", PROMPT, "linear"),
    ],
)
def test_a_faster_machine_runs_the_kernels_faster(path: str, work: dict[str, float], part: str) -> None:
    """Tables are of the chip as it is: a question that moves its rates moves what binds a kernel, in proportion."""
    moved = FACTS.with_values({path: 2.0 * FACTS.number(path)})
    plan = ServePlan(tp=4)
    now, then = (
        taken(deploy(load_model("llama-3.1-8b"), resolve(facts, "trn3:1"), "vllm-neuron", [plan], facts), **work)[0]
        for facts in (moved, FACTS)
    )
    assert 0.49 * then[part] < now[part] < 0.62 * then[part]
