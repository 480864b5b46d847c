"""What to measure next: what is chosen narrows the answer, in the order of what it tells; bad input is one line."""

from __future__ import annotations

import pytest

from mowich.errors import UserError
from mowich.evidence.measured_architectures import served_on
from mowich.facts import load_facts
from mowich.requests.next_measure import NextRequest
from mowich.serving.own_rows import OWN_ROWS, read_rows, rows_text
from mowich.studies.next_measure import next_measurements

SERVED = "plan llama-3.1-8b --serve --isl 2k --osl 500 --tpot 20ms --on h200:1 --set plan.mode=aggregated"
TRAINED = "compare llama-3.1-8b --train --tokens 1T --seq 8192 --batch 128seqs --on trn3:16"


def _next(question: str, on: str, number: str | None = None, budget: int = 2):  # type: ignore[no-untyped-def]
    return next_measurements(NextRequest(question=question, on=on, number=number, budget=budget))


@pytest.mark.share(3)
@pytest.mark.parametrize(
    ("question", "on", "number"),
    [(SERVED, "h200:1", "1.tpot_s"), (SERVED, "h200:1", None), (TRAINED, "trn3:16", "1.step_s")],
)
def test_each_measurement_narrows_the_answer_further(question: str, on: str, number: str | None) -> None:
    found = _next(question, on, number)
    assert found.rows
    left = [1.0, *(row.left for row in found.rows)]
    assert left == sorted(left, reverse=True)
    for row in found.rows:
        assert row.left <= row.alone * (1.0 + 1e-9)
        assert row.after.low < row.after.value < row.after.high
        assert row.offer.reads
    assert len(_next(question, on, number, budget=1).rows) == 1


@pytest.mark.parametrize(
    ("question", "on", "number", "said"),
    [
        ("model llama-3.1-8b", "h200:1", None, "no measurements are chosen for"),
        (SERVED, "b300:1", None, "has no row of"),
        (SERVED, "h200:1", "1.chips_used", "is not a number with a range"),
        ("compare nosuch --serve --on h200:1", "h200:1", None, "unknown model"),
    ],
)
def test_what_cannot_be_asked_is_one_line(question: str, on: str, number: str | None, said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        _next(question, on, number)
    assert "\n" not in str(error.value)


def test_a_row_of_ones_own_counts_as_measured_for_its_architecture() -> None:
    facts = load_facts()
    shipped = served_on(facts, "trn3-gen2")
    assert "mla" not in shipped
    text = rows_text(read_rows(_row("deepseek-v3", "mla", "trainium3")))
    own = served_on(facts.with_values({OWN_ROWS: text}), "trn3-gen2")
    assert own == {**shipped, "mla": ("deepseek-v3",)}


def _row(model: str, arch: str, chip: str) -> str:
    head = (
        "id,source,vendor,engine,version,arch,model,family,chip,weights,plan,guesses,ranks,users,prompt,output,"
        "tpot,tpot_noise,ttft,ttft_noise"
    )
    return f"{head}\nown,own,AWS,vllm-neuron,,{arch},{model},neuroncore-v4,{chip},bf16,tp,,8,1,1000,100,0.1,,0.2,\n"
