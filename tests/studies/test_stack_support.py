"""What rows support of a rate on Trainium: the grade and the range without a row, and no dollars where fixed time
decides."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from mowich.cli.app import app
from mowich.cli.verbs import load_verbs
from mowich.errors import UserError
from mowich.facts import Facts, load_facts
from mowich.models import load_model
from mowich.requests.jobs import CompareRequest
from mowich.requests.rooms.gap import GapRequest
from mowich.serving.search import ServeJob
from mowich.studies.brief.known import SERVED_ON, TO_SERVE
from mowich.studies.rooms import gap
from mowich.studies.serving_plan import ServeRow, compare_serving
from mowich.studies.stack_support import fixed_share

FACTS = load_facts()
EXTRAPOLATED = "serving.extrapolated"
FIXED = (
    "layer_",
    "moe_layer",
    "expert_visit",
    "expert_launch",
    "launch_ep",
    "tp_latency",
    "step",
    "prefill_",
    "front_end",
)
"""Beginnings of the names of an engine's fixed times."""


TOGETHER: Mapping[str, Sequence[int | str]] = {"mode": ("aggregated",), "kv": ("fp8",), "pp": (1,), "cp": (1,)}
"""A search that is short."""


def served(
    name: str,
    on: str,
    job: ServeJob = TO_SERVE,
    engine: str | None = None,
    facts: Facts = FACTS,
    fixed: Mapping[str, Sequence[int | str]] | None = None,
) -> ServeRow:
    asked = CompareRequest(
        facts=facts,
        model=load_model(name),
        systems=(on,),
        serve=job,
        chips=SERVED_ON,
        engine=engine,
        term="tco",
        fixed=fixed or {},
    )
    return compare_serving(asked).rows[0]


def test_what_no_row_supports_is_grade_d_with_its_range() -> None:
    """Mixtures on more ranks than a row of that chip has, from 64 on, and architectures that nobody measured there."""
    times, large = FACTS.number(f"{EXTRAPOLATED}.times"), FACTS.fact(f"{EXTRAPOLATED}.large_mixture")
    for name, on, widths in (
        ("deepseek-v3", "trn3", (min(1.0 / times, large.low or 1.0), max(times, large.high or 1.0))),
        ("qwen3-235b-a22b", "trn3", (large.low or 1.0, large.high or 1.0)),
        ("llama-3.1-70b", "trn3", (1.0 / times, times)),
    ):
        row = served(name, on, fixed=TOGETHER)
        rate, cost = row.tokens_per_s_per_chip, row.usd_per_mtok
        assert (rate.grade, cost.grade, row.tpot_s.grade) == ("D", "D", "D"), name
        value, low, high = (float(x or 0.0) for x in (rate.value, rate.low, rate.high))
        assert low <= value * widths[0] * (1 + 1e-9), name
        assert high >= value * widths[1] * (1 - 1e-9), name
    assert served("gpt-oss-20b", "trn3", fixed=TOGETHER).tokens_per_s_per_chip.grade == "C"
    for tp, dp, grade in ((64, 1, "C"), (8, 32, "D")):  # rows there have 64 ranks
        fixed = {**TOGETHER, "tp": (tp,), "dp": (dp,)}
        assert served("deepseek-v3", "trn2", fixed=fixed).tokens_per_s_per_chip.grade == grade


@settings(deadline=None, max_examples=5)
@given(
    on=st.sampled_from(["trn2", "trn3"]),
    name=st.sampled_from(["qwen3-30b-a3b", "gpt-oss-120b"]),
    tpot_ms=st.floats(12.0, 60.0),
)
def test_dollars_are_given_only_where_fixed_time_leaves_room(on: str, name: str, tpot_ms: float) -> None:
    """At any limit: a row has dollars if and only if fixed time is at most the stated share of it."""
    row = served(name, on, replace(TO_SERVE, tpot_s=tpot_ms / 1e3), "vllm-neuron", fixed=TOGETHER)
    if row.decode is None:
        return
    is_decided = fixed_share(row.tpot_s, tpot_ms / 1e3) <= FACTS.number(f"{EXTRAPOLATED}.fixed_share")
    assert (row.usd_per_mtok.value is not None) == is_decided
    assert bool(row.undecided) == (not is_decided)
    assert ("undecided" in row.to_dict()) == (not is_decided)


def test_a_row_without_dollars_says_why_and_what_kernels_by_hand_give() -> None:
    model = load_model("qwen3-235b-a22b")
    assert not served(model.name, "trn2", fixed=TOGETHER).undecided  # a port leaves room
    row = served(model.name, "trn2", engine="vllm-neuron", fixed=TOGETHER)
    assert row.feasible
    assert "of the limit on the time per token" in row.undecided
    assert "with kernels written by hand: " in row.undecided
    assert row.usd_per_mtok.reason
    assert row.breakeven_usd_per_chip_h.value is None
    with pytest.raises(UserError, match="no figure in dollars"):
        gap.answer(
            GapRequest(
                facts=FACTS,
                model=model,
                systems=("trn2", "trn3"),
                serve=TO_SERVE,
                chips=SERVED_ON,
                engine="vllm-neuron",
                metric="usd_per_mtok",
                term="tco",
                fixed=TOGETHER,
            )
        )
    words = (
        "compare qwen3-235b-a22b --serve --isl 8k --osl 1k --tpot 50ms --on trn2:64 --set plan.mode=aggregated --plain"
    )
    page = CliRunner().invoke(load_verbs(app), [*words.split(), "--engine", "vllm-neuron", "--price", "tco"]).output
    assert "No figure in dollars, as fixed time decides the rate: trn2:64." in " ".join(page.split())
    assert "No price known" not in page


def test_other_engines_are_not_asked() -> None:
    """However tight the limit."""
    row = served("llama-3.1-8b", "h100", replace(TO_SERVE, tpot_s=0.008), fixed=TOGETHER)
    assert row.feasible
    assert fixed_share(row.tpot_s, 0.008) > 0.2
    assert row.undecided == ""
    assert row.usd_per_mtok.value is not None


def fixed_constants(engine: str, family: str) -> Iterator[str]:
    """Paths of the fixed times of a step on a stack."""
    yield from (f"serving.{engine}.{name}" for name in FACTS.children(f"serving.{engine}") if name.startswith(FIXED))
    yield from ("serving.common.ep_latency", f"serving.generations.{family}")


def moves_no_figure(
    name: str, on: str, paths: Sequence[str], fixed: Mapping[str, Sequence[int | str]] | None = None
) -> None:
    row = served(name, on, fixed=fixed)
    before = float(row.tokens_per_s_per_chip)
    assert row.usd_per_mtok.value is not None
    for path in paths:
        for factor in (0.8, 1.2):
            under = FACTS.with_values({path: factor * FACTS.number(path)})
            after = served(name, on, engine=row.engine, facts=under, fixed=fixed)
            assert after.feasible, (path, factor)
            assert before / 1.5 <= float(after.tokens_per_s_per_chip) <= 1.5 * before, (path, factor)


def test_a_fifth_of_a_fixed_constant_moves_no_figure_by_half() -> None:
    """The largest, and one that is drawn; all of them below."""
    paths = list(fixed_constants("nxdi-port", "neuroncore-v4"))
    assert len(paths) >= 13
    for name, on in (("qwen3-235b-a22b", "trn2"), ("deepseek-v3", "trn3")):
        drawn = random.Random(name).choice(paths)
        moves_no_figure(name, on, ["serving.nxdi-port.moe_layer", drawn], TOGETHER)


@pytest.mark.slow
@pytest.mark.parametrize("on", ["trn2", "trn3"])
@pytest.mark.parametrize("name", ["deepseek-v3", "kimi-k2", "qwen3-235b-a22b", "gpt-oss-120b", "llama-3.1-70b"])
def test_no_fixed_constant_decides_a_figure(name: str, on: str) -> None:
    row = served(name, on)
    moves_no_figure(name, on, list(fixed_constants(row.engine, "neuroncore-v4")))
