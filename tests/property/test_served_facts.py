"""What `explain` says of a served number: formulas as they were called, and the facts that move each part while the
batch is held as it is."""

from __future__ import annotations

import random
from functools import lru_cache

import pytest

import mowich
from fair_probe import unfair
from mowich.estimate import Notes, Term
from mowich.facts import Facts
from mowich.models import load_model
from mowich.studies.explain.formula import evaluate
from mowich.studies.explain.serving import ServedRow, memory_terms, record_served_memory, served_row
from mowich.studies.serving import worker_rows

MODELS = [
    *("llama-3.1-8b", "llama-3.1-70b", "qwen3-30b-a3b", "gpt-oss-120b", "deepseek-v3", "mixtral-8x7b", "gemma-3-27b"),
    *("qwen3-next-80b-a3b", "qwen3-235b-a22b"),
]
SYSTEMS = ["trn3:32", "trn3:64", "trn2:16", "h100:16", "h200:16", "gb300:16", "ironwood:16"]
ENGINES: dict[str, list[str | None]] = {
    "trn3": [None, "nxdi-nki", "nxdi-megakernel"],
    "trn2": [None, "nxdi-xla"],
    "h100": [None, "sglang", "trtllm"],
    "h200": [None, "sglang", "trtllm"],
    "gb300": [None, "trtllm"],
    "ironwood": [None],
}
LOADS = [("8k", "1k"), ("1k", "8k"), ("2k", "200"), ("32k", "500")]
MODES = ["aggregated", "disaggregated"]


@lru_cache(maxsize=8)
def drawn(seed: int, facts: Facts) -> ServedRow:
    """A row of one model, machine, engine and load, colocated and in pairs by turns."""
    rng = random.Random(seed)
    while True:
        name, on, (isl, osl) = rng.choice(MODELS), rng.choice(SYSTEMS), rng.choice(LOADS)
        asked = mowich.Serve(isl=isl, osl=osl)
        if (engine := rng.choice(ENGINES[on.split(":")[0]])) is not None:
            asked["engine"] = engine
        if rng.random() < 0.3:
            asked["accept"] = 2.0
        result = mowich.plan(name, on, serve=asked, top=1, fixed={"mode": MODES[seed % 2]}, facts=facts).to_dict()
        rows = [row for row in result["plans"] if row.get("decode")]
        if rows:
            return served_row(result, rows[0], load_model(name), facts)


def terms_of(served: ServedRow) -> dict[str, Term]:
    """All that is recorded of a row."""
    memory = Notes()
    memory_terms(served.here, served.facts, memory, ())
    return {**served.recorded.terms, **memory.terms}


@pytest.mark.share(2)
@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(i, marks=pytest.mark.slow) for i in range(4, 80))])
def test_every_formula_gives_the_value_that_was_recorded_with_it(seed: int, facts: Facts) -> None:
    served = drawn(seed, facts)
    terms = terms_of(served)
    with_formula = [t for t in terms.values() if t.formula]
    for term in with_formula:
        value = evaluate(term.formula, term.inputs.__getitem__)
        assert value == pytest.approx(term.value, rel=1e-9), term
    for metric in ("ttft_s", "tpot_s"):
        parts = served.row[metric]["breakdown"]
        for part in (name for name, seconds in parts.items() if seconds and name != "correction"):
            assert terms[part].formula or "sum over" in terms[part].words
            assert terms[part].value == pytest.approx(parts[part], rel=1e-9)
            assert terms[part].facts


@pytest.mark.parametrize("seed", [0, *(pytest.param(i, marks=pytest.mark.slow) for i in range(1, 40))])
def test_served_terms_rest_on_what_moves_them_at_the_held_point(seed: int, facts: Facts) -> None:
    served = drawn(seed, facts)
    told = Notes()
    told.terms = terms_of(served)

    def under(known: Facts, notes: Notes) -> None:
        rows = worker_rows(served.deployment(known))
        served.record(rows, notes)
        record_served_memory(rows[0], notes)
        for name in told.terms.keys() - notes.terms.keys():  # a term that is nothing is not told
            notes.add(name, 0.0, "s")

    assert len(told.terms) > 15
    assert unfair(told, under, facts) == []
