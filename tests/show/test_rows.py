"""What the lines below a table say of its rows."""

from __future__ import annotations

import re

import pytest

import mowich
from mowich.show.rows import kinds_of_systems


def test_a_system_of_many_plans_is_named_once_with_the_span_of_its_shares() -> None:
    result = mowich.plan("qwen3-32b", "trn3:16", serve=mowich.Serve(isl=2000, osl=500))
    rows = result.to_dict()["plans"]
    assert len(rows) > 1
    (said,) = kinds_of_systems(rows, "tpot_s")
    assert re.fullmatch(r"\d+% to \d+% fitted, \d+% to \d+% simulated kernels", said)
    page = " ".join(str(result).split())
    assert f"Times rest on constants: {said}. Engine" in page
    assert re.search(r"by operator tables of simulated kernels: \d+% to \d+%\.", page)


@pytest.mark.parametrize(
    ("model", "on", "fixed", "said"),
    [
        ("llama-3.2-1b", ["h100:1"], {}, "Weights: bf16, as the checkpoint has them; --set plan.weights=fp8 asks"),
        ("olmo2-7b", ["h100:1"], {}, "Weights: bf16, assumed because the model's config does not say"),
        ("gpt-oss-20b", ["trn2:1", "h100:1"], {}, "Weights: bf16 (trn2:1), mxfp4 (h100:1); the checkpoint has mxfp4."),
        ("llama-3.2-1b", ["h100:1"], {"weights": "fp8"}, ""),
    ],
)
def test_the_format_of_the_weights_is_said_where_nobody_chose_it(
    model: str, on: list[str], fixed: dict[str, str], said: str
) -> None:
    page = " ".join(str(mowich.compare(model, on, serve=mowich.Serve(isl=2000, osl=500), fixed=fixed)).split())
    assert said in page
    assert ("Weights: " in page) is bool(said)


def test_the_best_with_prompts_apart_stands_beside_the_best_without() -> None:
    def said(**fixed: str) -> str:
        job = mowich.Serve(isl=8000, osl=1000, ttft="2s", tpot="50ms")
        return " ".join(str(mowich.plan("llama-3.1-70b", "h200:16", serve=job, fixed=fixed)).split())

    both = said()
    found = re.search(r"best of each kind: (.*?) tokens/s per chip \(plan (\d)\); (.*?) tokens/s per chip", both)
    assert found is not None
    assert found[2] == "1"
    assert {found[1].rsplit(" ", 2)[0], found[3].rsplit(" ", 2)[0]} == {
        "workers that do prompts and answers",
        "prompts and answers on workers of their own",
    }
    assert "best of each kind" not in said(mode="aggregated")
