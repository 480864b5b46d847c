"""Extreme but legal questions: finite, ordered answers with ranges, or a refusal that says why; at most 10 s of
processor time and 1 GB each.

Every number of an answer is looked at: finite, none below 0 that may not be, no share above 1, each value between the
ends of its range. `make test-slow` asks all of them; CI asks a few that take little time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hostile_cases import TRAFFIC
from hostile_judge import ANSWERED, Case, problems, told
from hostile_seeds import MIXTRAL

SCENARIOS = Path(__file__).resolve().parents[2] / "scenarios"
EXPERTS = json.dumps({**MIXTRAL, "num_local_experts": 10_000, "intermediate_size": 1024})
"""10,000 experts a layer."""
MODELS = ("gpt2", "llama-3.1-8b", "llama-3.1-405b", "deepseek-v3", "qwen3-next-80b-a3b", "m.json")


def systems(chips: int) -> tuple[str, ...]:
    """Few chips of all vendors in one question; many of each in a question of its own. Nobody joins so many H100."""
    return ("trn3", "ironwood", "gb300") if chips > 10_000 else ("h100,trn3,ironwood,gb300",)


def trained() -> Iterator[tuple[str, ...]]:
    """Questions of training: one sequence, ten million; one token, ten million; one chip, a million."""
    for model in MODELS:
        for chips, seq, batch, tokens in (
            (1, "1", "1seqs", "1"),
            (1, "1", "1seqs", "1e18"),
            (8, "4096", "10Mseqs", "1e15"),
            (8, "10M", "1seqs", "1T"),
            (1_000_000, "4096", "1seqs", "15T"),
            (1_000_000, "4096", "16384seqs", "15T"),
            (1_000_000, "4096", "10Mseqs", "1e15"),
            (1_000_000, "10M", "1024seqs", "15T"),
            (1_000_000, "1", "1024seqs", "15T"),
            (7, "4095", "13seqs", "1T"),
        ):
            job = ("--train", "--seq", seq, "--batch", batch, "--tokens", tokens)
            for on in systems(chips):
                yield ("compare", model, *job, "--on", on, "--chips", str(chips))
    for of in ("memory", "bandwidth", "scale-out"):
        for chips in (1, 1_000_000):
            job = ("--train", "--seq", "1", "--batch", "1024seqs", "--tokens", "1T")
            yield ("value", f"trn3:{chips}", "--of", of, "--model", "llama-3.1-8b", *job, "--points", "2")
    for chips, batch in ((1, "1000seqs"), (1000, "1000seqs"), (100_000, "100000seqs")):
        job = ("--train", "--seq", "8192", "--batch", batch, "--tokens", "15T")
        yield ("gap", "trn3", "h100", "--model", "gpt2", *job, "--chips", str(chips))
    yield ("fit", "m.json", "--train", "--seq", "10M", "--batch", "10Mseqs", "--on", "h100:1")
    yield ("fit", "deepseek-v3", "--train", "--seq", "1", "--batch", "1seqs", "--on", "trn3:1000000")


def served() -> Iterator[tuple[str, ...]]:
    """Questions of serving: a prompt and an answer of one token, of ten million; one chip, a million."""
    for model in MODELS:
        for chips, isl, osl, more in (
            (1, "1", "1", ()),
            (1, "1", "10M", ()),
            (8, "10M", "1", ()),
            (8, "10M", "10M", ("--ttft", "1y", "--tpot", "1h")),
            (1_000_000, "1000", "1000", ("--ttft", "1us", "--tpot", "1us")),
            (1_000_000, "1000", "1000", ("--ttft", "2s", "--tpot", "50ms")),
            (8, "1000", "1000", ("--cached", "100%")),
            (8, "1000", "1000", ("--accept", "1")),
        ):
            words = ("--serve", "--isl", isl, "--osl", osl, *more)
            for on in systems(chips):
                yield ("compare", model, *words, "--on", on, "--chips", str(chips))
    for rate in ("0.000001rps", "1000000rps"):
        load = ("--serve", "--isl", "100", "--osl", "10", "--rate", rate, "--p99-tpot", "50ms")
        yield ("plan", "gpt2", *load, "--on", "h100:8")
        yield ("plan", "gpt2", *load, "--on", "h100:1000000")
    for model in ("gpt2", "llama-3.1-8b"):
        yield ("plan", model, "--serve", "--isl", "1k", "--osl", "1M", "--on", "h100:8")
    yield ("fit", "llama-3.1-405b", "--serve", "--kv", "10M", "--on", "trn3")
    yield ("fit", "m.json", "--serve", "--kv", "1", "--on", "h100")


def machines() -> Iterator[tuple[str, ...]]:
    """Questions of machines alone."""
    for kind in ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "permute"):
        for on in ("trn3:1000000", "gb300:1000000", "h100:2", "ironwood:1000000"):
            yield ("collective", kind, "--on", on, "--bytes", "1B,1KiB,1TiB,1PB")
    yield ("collective", "all-reduce", "--on", "h100:1", "--bytes", "1GiB")
    for on in ("h100:1", "trn3:1000000", "gb300:1000000"):
        for days in ("0.001", "36500"):
            yield ("goodput", "--on", on, "--days", days, "--samples", "5")
    yield ("power", "--on", "h100,trn3", "--cap", "1W")
    yield ("power", "--on", "h100,trn3", "--cap", "1000GW")
    yield ("prices", "--on", "h100,trn3,gb300", "--chips", "1000000")
    yield ("prices", "--on", "h100,trn3,gb300", "--chips", "1")


def loads() -> Iterator[Case]:
    """Loads: a request in eleven days, a million a second; one token, a million of an answer."""
    for old, new in (
        ("rate: 2", "rate: 0.000001"),
        ("rate: 2", "rate: 1000000"),
        ("requests: 40", "requests: 1"),
        ("prompt: 100", "prompt: 1"),
        ("prompt: 100", "prompt: 1M"),
        ('"lognormal(20, p95 60)"', "1"),
        ('"lognormal(20, p95 60)"', "100k"),
        ("max_num_seqs: 16", "max_num_seqs: 1"),
        ("max_num_seqs: 16", "max_num_seqs: 100000"),
        ("max_num_batched_tokens: 1024", "max_num_batched_tokens: 1"),
    ):
        assert old in TRAFFIC
        yield Case(f"traffic {new}", ("traffic", "s.yaml", "--json"), {"s.yaml": TRAFFIC.replace(old, new)})
    text = TRAFFIC.replace("requests: 40", "requests: 8").replace('"lognormal(20, p95 60)"', "1M")
    for old, new in (("max_num_seqs: 16", "max_num_seqs: 16"), ("max_num_seqs: 16", "max_num_seqs: 1")):
        words = ("traffic", "s.yaml", "--json")
        yield Case(f"traffic answers of a million tokens, {new}", words, {"s.yaml": text.replace(old, new)})


FLEET = (
    ("first: 4k", "first: 4G"),
    ("first: 4k", "first: 0.001"),
    ("tokens: 300G", "tokens: 300000T"),
    ("tokens: 300G", "tokens: 1"),
    ("total: $20M", "total: $1"),
    ("total: $20M", "total: $20000T"),
    ("supply: 100}", "supply: 1000000000}"),
)


def fleets() -> Iterator[Case]:
    """The start-up's fleet with demand, money and supply a million times, and a millionth, of what they are."""
    text = (SCENARIOS / "startup.yaml").read_text(encoding="utf-8")
    rates = (SCENARIOS / "startup.rates.json").read_text(encoding="utf-8")
    for old, new in FLEET:
        assert old in text, old
        files = {"f.yaml": text.replace(old, new), "r.json": rates}
        words = ("fleet", "f.yaml", "--rates", "r.json", "--draws", "2", "--json")
        yield Case(f"fleet {new}", words, files)


def asked() -> list[Case]:
    """All of them."""
    words = [*trained(), *served(), *machines()]
    return [*(Case(" ".join(w), (*w, "--json"), {"m.json": EXPERTS}) for w in words), *loads(), *fleets()]


def is_quick(case: Case) -> bool:
    """Whether CI asks it."""
    return case.words[0] in ("collective", "power", "prices", "fit") and not any(
        word in case.name for word in ("1000000", "10Mseqs")
    )


CASES = [case if is_quick(case) else pytest.param(case, marks=pytest.mark.slow) for case in asked()]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name[:90])
def test_an_extreme_question_has_an_ordered_answer_or_a_reason(case: Case) -> None:
    found = problems(case)
    assert not found, told(case, found)


def test_most_questions_are_answered() -> None:
    """So that the table is not one of refusals: of those that CI asks, some have numbers."""
    assert sum(problems(replace(case, codes=ANSWERED)) == [] for case in asked() if is_quick(case)) > 5
