"""Every number of every verb's JSON can be explained: a formula, and sources where there is hardware behind it.

Each verb runs once, small, and every number of its JSON (ends of ranges, shares and inputs included) is asked for.
Where the formula is arithmetic over the result, it must give the number.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mowich import cli
from mowich.errors import UserError
from mowich.evidence.measured_tables import published
from mowich.facts import Facts
from mowich.requests.rooms import room_names
from mowich.studies.explain import Explainer, metrics, tree
from mowich.studies.explain.headline import headline_metrics
from mowich.studies.explain.rules.every import RULES
from mowich.studies.explain.rules.rule import KINDS, R
from mowich.studies.rooms import room_study

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ("--train", "--seq", "4096", "--batch", "256seqs")
SERVE = ("--serve", "--isl", "2k", "--osl", "500", "--ttft", "2s", "--tpot", "50ms")

VERBS: dict[str, tuple[str, ...]] = {
    "compare": ("compare", "llama-3.1-8b", *TRAIN, "--tokens", "1T", "--on", "trn3:64,h100:64"),
    "compare-tuned": (
        *("compare", "llama-3.1-8b", *TRAIN, "--tokens", "1T", "--on", "trn3:64,h100:64", "--stack", "hand-tuned"),
    ),
    "compare-budget": ("compare", "llama-3.2-1b", *TRAIN, "--on", "trn3,h100", "--budget", "$20k", "--days", "30"),
    "compare-year": (
        *("compare", "llama-3.2-1b", *SERVE, "--on", "trn3:4,h100:4", "--per", "year", "--sells", "$0.3..$0.6/Mtok"),
    ),
    "compare-serve": ("compare", "llama-3.1-8b", *SERVE, "--on", "h100:8,trn2:4,h100:1"),
    "plan": ("plan", "llama-3.1-8b", *TRAIN, "--tokens", "1T", "--on", "h100:64", "--top", "1", "--neighbours"),
    "plan-pareto": ("plan", "llama-3.2-1b", *TRAIN, "--tokens", "1T", "--on", "h100:8", "--top", "1", "--pareto"),
    "plan-serve": ("plan", "llama-3.1-8b", *SERVE, "--on", "h100:2", "--top", "1"),
    "plan-apart": ("plan", "llama-3.1-8b", *SERVE, "--on", "h100:4", "--top", "1", "--set", "plan.mode=disaggregated"),
    "plan-load": (
        *("plan", "llama-3.1-8b", "--serve", "--isl", "500", "--osl", "20", "--on", "h100:4", "--rate", "60rps"),
        *("--p99-tpot", "50ms"),
    ),
    "fit": ("fit", "llama-3.1-8b", *TRAIN, "--on", "trn3:8"),
    "fit-serve": ("fit", "llama-3.1-405b", "--serve", "--kv", "128k", "--on", "trn3"),
    "sweep": ("sweep", "{tmp}/sweep.yaml", "--jobs", "1"),
    "sweep-serve": (
        *("sweep", "llama-3.1-8b", "--serve", "--isl", "500,1k", "--osl", "20", "--tpot", "30ms", "--on", "h100:1"),
        *("--set", "plan.mode=aggregated", "--vary", "plan.tp=1", "--jobs", "1"),
    ),
    "traffic": ("traffic", "{tmp}/chat.yaml"),
    "traffic-agents": ("traffic", "{tmp}/agents.yaml", "--draws", "1"),
    "traffic-scaled": ("traffic", "{tmp}/scaled.yaml", "--draws", "0"),
    "traffic-images": ("traffic", "{tmp}/images.yaml", "--draws", "0"),
    "plan-images": (
        *("plan", "qwen3.5-2b", *SERVE, "--on", "h100:1", "--top", "1", "--set", "plan.tp=1"),
        *("--images", "2", "--image-size", "640x480"),
    ),
    "rl": (
        *("rl", "llama-3.2-1b", "--grpo", "--prompts", "4", "--samples", "4", "--mean", "200", "--cap", "400"),
        *("--rollouts", "h100:1", "--trainer", "h100:1", "--rollout-plan", "tp=1", "--trainer-plan", "tp=1"),
    ),
    "rl-split": (
        *("rl", "llama-3.2-1b", "--grpo", "--prompts", "16", "--samples", "4", "--mean", "200", "--cap", "400"),
        *("--on", "h100,trn3", "--chips", "16"),
    ),
    "forward": (
        *("compare", "llama-3.2-1b", "--task", "encode", "--tokens", "512", "--batch", "4", "--on", "trn3,h100"),
        *("--chips", "2"),
    ),
    "forward-diffuse": (
        *("compare", "flux.1-dev", "--task", "diffuse", "--height", "512", "--width", "512", "--steps", "4"),
        *("--guidance", "2", "--on", "trn2,h100", "--chips", "2"),
    ),
    "forward-plan": ("plan", "llama-3.2-1b", "--task", "encode", "--tokens", "512", "--on", "h100:4", "--top", "2"),
    "forward-fit": ("fit", "llama-3.2-1b", "--task", "encode", "--tokens", "512", "--on", "trn3:1"),
    "model-images": ("model", "qwen3.5-2b"),
    "fleet": (
        "fleet",
        str(ROOT / "scenarios" / "startup.yaml"),
        "--rates",
        str(ROOT / "scenarios" / "startup.rates.json"),
        "--draws",
        "3",
        "--flips",
    ),
    "fleet-work": ("fleet", str(ROOT / "scenarios" / "rainier.yaml"), "--draws", "2", "--lp"),
    "fleet-tenant": ("fleet", "trainium-tenants", "--draws", "0", "--lp", "--tenant", "anthropic=30%"),
    "collective": ("collective", "all-reduce", "--on", "trn3-gen2", "--bytes", "1MiB,1GiB"),
    "collective-weights": (
        *("collective", "weights", "--on", "h100:16", "--model", "qwen3-30b-a3b", "--to", "trn3:32"),
        *("--method", "host"),
    ),
    "collective-nccl": ("collective", "all-reduce", "--on", "h100:64", "--bytes", "1GiB"),
    "collective-a2a": ("collective", "all-to-all", "--on", "ironwood:64", "--bytes", "1MiB"),
    "collective-fail": (
        "collective",
        "all-reduce",
        "--on",
        "trn3-gen2",
        "--bytes",
        "1GiB",
        "--group",
        "64",
        "--fail",
        "link:3",
    ),
    "goodput": ("goodput", "--on", "trn3:16384", "--days", "10", "--samples", "50"),
    "power": ("power", "--on", "trn3,gb300", "--cap", "100MW", "--tokens-per-s", "1000"),
    "prices": ("prices", "--on", "trn3,gb300", "--rule", "semianalysis", "--quarter", "2026Q1"),
    "gap": (
        "gap",
        "trn3",
        "h100",
        "--model",
        "llama-3.2-1b",
        *TRAIN,
        "--tokens",
        "1T",
        "--chips",
        "8",
        "--set",
        "plan.pp=1",
    ),
    "value": (
        "value",
        "h100:8",
        "--of",
        "memory",
        "--model",
        "llama-3.1-8b",
        *TRAIN,
        "--tokens",
        "1T",
        "--points",
        "3",
    ),
    "value-serve": ("value", "trn3:8", "--of", "software", "--model", "llama-3.2-1b", *SERVE),
    "gap-serve": (
        "gap",
        "gb300",
        "h100",
        "--model",
        "llama-3.2-1b",
        *SERVE,
        "--chips",
        "8",
        "--metric",
        "usd_per_mtok",
    ),
    "claims": ("claims", "trainium3"),
    "claims-measured": ("claims", "measured"),
    "model": ("model", "deepseek-v3"),
    "validate": ("validate", "{tmp}/rows.csv"),
    "calibrate": ("calibrate", "{tmp}/rows.csv"),
    "verify": ("verify", "{tmp}/forecast.json", str(ROOT / "scenarios" / "logs" / "megatron-llama-8b.log")),
    "kernel-profile": ("kernel", "profile", str(ROOT / "kernels" / "matmul.py"), "-k", "matmul", "--target", "trn2"),
    "kernel-run": (
        "kernel",
        "run",
        str(ROOT / "kernels" / "softmax.py"),
        "-k",
        "softmax",
        "x=float32[128,64]",
        "--target",
        "trn2",
    ),
    "kernel-check": ("kernel", "check", str(ROOT / "kernels" / "softmax.py")),
    "kernel-layer": ("kernel", "layer", "llama-3.2-1b", "--on", "trn3:1", "--tp", "2", "--context", "256"),
    "kernel-diff": ("kernel", "diff", "{tmp}/a", "{tmp}/b"),
    "kernel-order": (
        *(
            "kernel",
            "diff",
            str(ROOT / "kernels" / "softmax.py"),
            str(ROOT / "kernels" / "softmax.py"),
            "-k",
            "softmax",
        ),
        *("x=float32[128,64]", "--target", "trn2"),
    ),
    "model-captured": ("model", str(ROOT / "tests" / "fixtures" / "captured" / "dit.json")),
}

SCALED = """mowich: 1
model: llama-3.1-8b
on: h100:2
plan: {tp: 1}
slo: {ttft: 1 s, tpot: 20 ms}
autoscale: {by: [inside, sla], inside: 9, least: 1, most: 2, every: 4 s, start: {weights: host}, hold: 9 s, regret: yes}
traffic: {rate: {0 s: 2, 60 s: 2, 61 s: 30, 80 s: 30, 81 s: 2}, duration: 120 s, prompt: 500, output: 100}
"""
"""A traffic whose replicas come and go."""

HARDWARE = {
    "compare": (
        "h100:64.days",
        "h100:64.mfu",
        "trn3:64.J_per_token",
        "trn3:64.step_s.gemm",
        "trn3:64.memory_capacity_B",
    ),
    "compare-serve": ("h100:8.usd_per_mtok", "trn2:4.tpot_s", "h100:8.memory_B"),
    "plan": ("1.goodput",),
    "plan-serve": ("1.tpot_s.linear",),
    "plan-load": ("1.p99_tpot_s", "1.usd_per_mtok"),
    "fit": ("memory_capacity_B",),
    "fit-serve": ("requests", "smallest_by_weights.bf16.memory_B.reserve"),
    "collective": ("1.time_s", "2.busbw_Bps"),
    "collective-nccl": ("1.time_s",),
    "goodput": ("sync.goodput", "sync.mtbf_s", "elastic.lost.missing_hardware"),
    "power": ("trn3.total_W", "gb300.parts_W.network", "trn3.chips_under_cap"),
    "prices": ("trn3.tco.silicon", "gb300.tco_total", "gb300.capital.machine"),
    "traffic": ("ttft_s.p99", "usd_per_mtok"),
    "rl": ("1.step_s", "1.parts.training", "1.usd_per_mtok"),
    "forward": ("trn3.item_s", "h100.pass_s.gemm", "trn3.usd_per_item", "h100.J_per_item", "trn3.mfu"),
    "traffic-agents": ("sessions.task_s.p99", "sessions.usd_per_task", "sessions.J_per_task"),
    "traffic-scaled": ("scaling.start_s", "scaling.regret.chip_hours"),
    "validate": ("1.predicted", "M01202.hand_tuned", "M01202.hand_tuned_coverage"),
    "kernel-profile": ("time_s", "mfu"),
    "sweep": ("1.tokens_per_s_per_chip",),
    "sweep-serve": ("2.tpot_s", "1.usd_per_mtok"),
    "fleet": ("objective",),
    "claims": ("1.derived",),
    "gap": ("software.factor", "bandwidth.factor", "scale-up.factor"),
    "value": ("2.tokens_per_s_per_chip", "1.worth", "life", "memory_price"),
    "gap-serve": ("software.factor", "compute.factor", "price.factor"),
    "plan-apart": ("1.ttft_s",),
}
"""Numbers of each verb that rest on hardware: at least one fact with source and grade. The first of each is asked in
every run of the tests."""


LONG = (
    *("compare-budget", "compare-year", "compare-tuned", "fleet-work", "gap-serve", "plan-apart", "plan-load"),
    *("plan-pareto", "sweep", "sweep-serve", "value-serve", "rl", "rl-split", "forward-diffuse", "forward-plan"),
)
"""Verbs with choices that take seconds: `make test-slow` asks them, and every second one of the others."""
QUICK = {verb for i, verb in enumerate(verb for verb in VERBS if verb not in LONG) if i % 2 == 0}


def slow_if(verb: str) -> list[pytest.MarkDecorator]:
    return [] if verb in QUICK else [pytest.mark.slow]


def write_inputs(tmp: Path) -> None:
    """The files that questions of `VERBS` name: a sweep, a short traffic, a few measured rows."""
    (tmp / "sweep.yaml").write_text(
        "mowich: 1\nmodels: llama-3.1-8b\non: [h100]\nchips: [64]\nseq: 4096\nbatch: 256seqs\ntokens: 1T\n"
    )
    chat = (ROOT / "scenarios" / "chat-llama-70b.yaml").read_text(encoding="utf-8")
    assert "requests: 4000" in chat
    (tmp / "chat.yaml").write_text(chat.replace("requests: 4000", "requests: 400"), encoding="utf-8")
    (tmp / "agents.yaml").write_text(
        "{mowich: 1, model: llama-3.1-8b, on: 'h200:1', slo: {task: 9 s}, traffic: {users: 4, sessions: 8, agents: {"
        "coder: {share: 50%, system: 1k, prompt: 500, turns: 3, output: 60, tools: {shell: {time: 1 s, tokens: 200}}},"
        "clerk: {share: 50%, prompt: 400, turns: 1, output: 30}}}}",
        encoding="utf-8",
    )
    (tmp / "images.yaml").write_text(
        "mowich: 1\nmodel: qwen3.5-2b\non: h100:2\nreplicas: 1\ndisaggregated: {encode: 1}\n"
        "traffic: {rate: 4, requests: 20, prompt: 100, output: 10, images: {size: 640x480}}\n",
        encoding="utf-8",
    )
    with published().open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    (tmp / "scaled.yaml").write_text(SCALED, encoding="utf-8")
    trained = ["plan", "llama-3.1-8b", "--train", "--tokens", "1B", "--on", "h100:8", "--seq", "8192"]
    trained += ["--batch", "128seqs", "--set", "plan.cp=2", "--set", "plan.zero=1", "--set", "plan.precision=fp8"]
    assert cli.run([*trained, "--top", "1", "--out", str(tmp / "forecast.json"), "-q"]) == 0
    with (tmp / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        on_trainium = next(row for row in rows if row[0] == "M01202")  # has kernels of ours: what hand-tuned ones take
        csv.writer(file).writerows([*rows[:4], on_trainium])


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The JSON of every verb, made when first asked for."""
    tmp = tmp_path_factory.mktemp("explain")
    write_inputs(tmp)
    for name in ("a", "b"):
        assert (
            cli.run(
                [
                    "kernel",
                    "profile",
                    str(ROOT / "kernels" / "softmax.py"),
                    "-k",
                    "softmax",
                    "x=float32[128,64]",
                    "--parquet",
                    str(tmp / name),
                    "-q",
                ]
            )
            == 0
        )
    return {"tmp": tmp}


def result_of(results: dict[str, Any], verb: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    if verb not in results:
        capsys.readouterr()
        args = [a.format(tmp=results["tmp"]) for a in VERBS[verb]]
        quiet = [] if args[:2] == ["kernel", "diff"] else ["--quiet"]
        code = cli.run([*args, "--json", *quiet])
        assert code == 0, capsys.readouterr().err
        results[verb] = json.loads(capsys.readouterr().out)
    return dict(results[verb])


def explained(
    results: dict[str, Any], verb: str, facts: Facts, capsys: pytest.CaptureFixture[str]
) -> tuple[dict[str, Any], Explainer]:
    """The JSON of a verb and its explainer, which all tests ask."""
    result = result_of(results, verb, capsys)
    explainers = results.setdefault("explainers", {})
    return result, explainers.setdefault(verb, Explainer(result, facts))


def every_number(node: Any, path: tree.ResultPath = ()) -> Iterator[tree.ResultPath]:
    """Paths of every number of the JSON, nothing skipped."""
    if tree.is_number(node):
        yield path
    for key, child in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from every_number(child, (*path, key))


def ends_of_lists(paths: Iterable[tree.ResultPath]) -> Iterator[tree.ResultPath]:
    """Of the paths that differ only in the places of rows, points or parts the first and the last."""
    alike: dict[tuple[object, ...], list[tree.ResultPath]] = {}
    for path in paths:
        alike.setdefault(tuple("*" if isinstance(key, int) else key for key in path), []).append(path)
    for found in alike.values():
        yield from dict.fromkeys((found[0], found[-1]))


@pytest.mark.share(2)
@pytest.mark.parametrize(
    ("verb", "asks"),
    [
        *(pytest.param(verb, ends_of_lists, marks=slow_if(verb), id=verb) for verb in VERBS),
        *(pytest.param(verb, iter, marks=pytest.mark.slow, id=f"{verb}, all") for verb in VERBS),
    ],
)
def test_every_number_has_a_formula(
    results: dict[str, Any],
    verb: str,
    asks: Callable[[Iterable[tree.ResultPath]], Iterator[tree.ResultPath]],
    facts: Facts,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result, explainer = explained(results, verb, facts, capsys)
    asked = 0
    for path in asks(every_number(result)):
        told = explainer.at(path, sensitivity=False)
        assert told.formula or told.words, (verb, path)
        assert told.says, (verb, path)
        value = tree.at(result, path)
        assert told.estimate.value == value, (verb, path)
        asked += 1
    assert asked > 5
    for path in tree.numbers(result):
        assert tree.find_path(result, tree.name_of(result, path)) == path


@pytest.mark.share(2)
@pytest.mark.parametrize("verb", [pytest.param(verb, marks=slow_if(verb)) for verb in VERBS])
def test_formulas_give_the_numbers(
    results: dict[str, Any], verb: str, facts: Facts, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where a formula is arithmetic over the result, evaluating it on what the result holds gives what the result
    says."""
    result, explainer = explained(results, verb, facts, capsys)
    for path in tree.numbers(result):
        rule, node = explainer.rule(path), tree.at(result, path)
        value = node["value"] if tree.is_estimate(node) else node
        made = explainer.evaluate(path) if rule is not None and value is not None else None
        if rule is not None and value is not None and (rule.formula or made is not None):
            assert explainer.evaluate(path) == pytest.approx(value, rel=1e-9, abs=1e-12), (verb, path, rule.formula)


EVERY_RULE = [rule for rules in (*RULES.values(), *(room_study(name).RULES for name in room_names())) for rule in rules]


@pytest.mark.parametrize("rule", EVERY_RULE, ids=lambda r: " ".join(r.path))
def test_a_rule_is_arithmetic_or_says_why_it_is_not(rule: Any) -> None:
    assert bool(rule.formula) != bool(rule.words)
    assert rule.kind in KINDS if rule.words else rule.kind == ""


@pytest.mark.parametrize("how", ["chosen by hand", "guess: by hand", "lookup: ", "lookup"])
def test_words_without_a_kind_are_refused(how: str) -> None:
    with pytest.raises(ValueError, match="words without a kind"):
        R("x", "1", "a number", how)


NO_FORMULA = {"count", "lookup", "search", "simulation", "table"}
"""Kinds of numbers that have no formula; a headline number of any other kind is arithmetic."""


@pytest.mark.parametrize(
    "verb",
    [
        pytest.param(verb, marks=slow_if(verb))
        for verb in (
            *("compare", "plan", "fit", "sweep", "compare-serve", "plan-serve", "plan-apart", "fit-serve"),
            *("goodput", "power", "prices", "claims", "claims-measured", "fleet", "traffic", "validate"),
        )
    ],
)
def test_a_headline_number_is_arithmetic_or_of_a_kind_without_a_formula(
    results: dict[str, Any], verb: str, facts: Facts, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the arithmetic gives the number: its own, or that of a term which the model recorded."""
    result, explainer = explained(results, verb, facts, capsys)
    for path in headline_metrics(result):
        told = explainer.at(path, sensitivity=False)
        if told.kind == "terms":
            assert any(t.formula and t.value == pytest.approx(told.estimate.value) for t in told.terms), path
            continue
        assert bool(told.formula) != (told.kind in NO_FORMULA), (path, told.kind, told.words)
        if told.formula:
            assert set(told.inputs), path
            assert explainer.evaluate(path) == pytest.approx(told.estimate.value, rel=1e-9), path


@pytest.mark.share(2)
@pytest.mark.parametrize(
    ("verb", "metric"),
    [
        pytest.param(v, m, marks=slow_if(v) or ([pytest.mark.slow] if i else []))
        for v, names in HARDWARE.items()
        for i, m in enumerate(names)
    ],
)
def test_hardware_behind_a_number_is_named_with_its_source(
    results: dict[str, Any], verb: str, metric: str, facts: Facts, capsys: pytest.CaptureFixture[str]
) -> None:
    _, explainer = explained(results, verb, facts, capsys)
    told = explainer.explain(metric)
    assert not told.warnings
    assert any(f.grade and (f.title or f.source) for f in told.facts), metric
    assert told.estimate.grade in {*"ABCD", "user"}
    sizes = [m.size for m in told.moves if not m.is_nudge]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("verb", ["compare", "plan-serve", "power", "goodput", "model", "fleet"])
def test_fifteen_names_are_listed_where_none_is_given(
    results: dict[str, Any], verb: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Of every row the same, none that is a part, and first what a reader asks for first."""
    result = result_of(results, verb, capsys)
    saved = tmp_path / "r.json"
    saved.write_text(json.dumps(result))
    names = [tree.name_of(result, path) for path in headline_metrics(result)]
    assert len(names) == 15
    assert cli.run(["explain", str(saved), "--plain"]) == 0
    out = capsys.readouterr().out
    assert f"15 of {len(metrics(result))} numbers" in out
    assert all(name in out for name in names)
    if verb == "compare":
        assert {"trn3:64.step_s", "h100:64.step_s", "h100:64.usd_per_mtok"} <= set(names)


def test_names_of_a_result_are_listed_and_each_is_known(
    results: dict[str, Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    result = result_of(results, "goodput", capsys)
    saved = tmp_path / "r.json"
    saved.write_text(json.dumps(result))
    assert cli.run(["explain", str(saved), "--all"]) == 0
    out = capsys.readouterr().out
    for name in metrics(result):
        assert f" {name} " in out
    assert cli.run(["explain", str(saved), "async.goodput", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == "mowich/explain@1"
    assert told["moves"][0]["fact"].startswith("reliability.")


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("asynch.goodput", "did you mean 'async'?"),
        ("sync.godput", "did you mean 'goodput'?"),
        ("sync.lost.x", "unknown metric 'x' of sync.lost"),
    ],
)
def test_an_unknown_name_is_one_line_with_the_closest(
    results: dict[str, Any], metric: str, said: str, facts: Facts, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError) as error:
        Explainer(result_of(results, "goodput", capsys), facts).explain(metric)
    assert said in error.value.line()
    assert len(error.value.line().splitlines()) == 1


def test_a_scenario_that_is_gone_is_said(
    results: dict[str, Any], facts: Facts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = result_of(results, "traffic", capsys)
    gone = {**result, "inputs": {**result["inputs"], "scenario": str(tmp_path / "chat.yaml")}}
    told = Explainer(gone, facts).explain("ttft_s.p99")
    assert told.formula or told.words
    assert any("is not here" in w for w in told.warnings)


def test_a_claim_that_is_not_derived_says_why(
    results: dict[str, Any], facts: Facts, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["claims", "gb300", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    without = [c for c in result["claims"] if c["derived"] is None]
    assert without
    for claim in without:
        told = Explainer(result, facts).explain(f"{claim['id']}.derived")
        assert told.estimate.value is None
        assert told.estimate.reason == claim["reason"]
