"""Memory over a step: the peak of what is played out is the closed form that the search uses."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mowich.facts import load_facts
from mowich.models import load_model
from mowich.plans import schedules
from mowich.plans.memory import memory_B
from mowich.plans.plan import OFFLOAD_BITS, RECOMPUTE, SCHEDULES, Plan, Plans, TrainJob
from mowich.show import timeline as drawing
from mowich.show.render.terminal import Style
from mowich.software.stack import equip
from mowich.training.memory_time import COMES, MOST_SLOWER, STAYS, MemoryLevel
from mowich.training.step import micro_batches_of
from mowich.training.timeline import PlanTimeline, stage_layers, timeline

MODELS = ("llama3-8b", "llama2-7b", "qwen3-30b-a3b")
SYSTEMS = (("h100:64", None), ("h100:64", "pytorch-fsdp"), ("trn3:64", None), ("ironwood:64", None))


def need_B(model: str, system: str, stack: str | None, job: TrainJob, plan: Plan) -> float:
    """Bytes of the fullest device by the closed form."""
    columns, facts = Plans.of([plan]), load_facts()
    on = equip(facts, system, stack=stack)
    found = memory_B(load_model(model), on, job, columns, micro_batches_of(job, columns))
    return float(sum(v[0] for v in found.values()))


@st.composite
def plans(draw: st.DrawFn) -> tuple[Plan, TrainJob]:
    """A plan of any schedule with whole rounds of micro-batches, and a job that fills it."""
    schedule = draw(st.sampled_from(SCHEDULES))
    pp = draw(st.sampled_from([1, 2, 4])) if schedule in ("1f1b", "gpipe") else draw(st.sampled_from([2, 4]))
    vpp = draw(st.sampled_from([2, 3])) if schedule == "interleaved" else 2 if schedule in ("zb-v", "dualpipe-v") else 1
    rounds, micro = draw(st.integers(2, 4)), draw(st.sampled_from([1, 2, 8]))
    plan = Plan(
        pp=pp,
        vpp=vpp,
        dp=4,
        tp=draw(st.sampled_from([1, 2])),
        micro_batch=micro,
        schedule=schedule,
        zero=draw(st.sampled_from([0, 1, 2, 3])),
        recompute=draw(st.sampled_from([mode for mode in RECOMPUTE if mode != "experts"])),
        offload=draw(st.sampled_from(["none", "none", *OFFLOAD_BITS])),
    )
    seqs = float(4 * micro * rounds * pp)
    return plan, TrainJob(tokens=1e12, seq=draw(st.sampled_from([2048, 4096])), batch_seqs=seqs)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(MODELS), st.sampled_from(SYSTEMS), plans())
def test_the_peak_of_the_timeline_is_the_memory_of_the_plan(
    model: str, where: tuple[str, str | None], drawn: tuple[Plan, TrainJob]
) -> None:
    (plan, job), (system, stack) = drawn, where
    if equip(load_facts(), system).host_Bps <= 0:  # nothing travels where no link is known
        plan = replace(plan, offload="none")
    found = timeline(load_model(model), equip(load_facts(), system, stack=stack), job, plan)
    assert found.memory.peak.total_B == pytest.approx(need_B(model, system, stack, job, plan), rel=1e-9)
    for levels in found.memory.levels:
        assert all(one.at_s <= two.at_s + 1e-9 * found.step_s for one, two in pairwise(levels))
        assert levels[-1].at_s == pytest.approx(found.step_s)
        for level in levels:
            assert set(level.held_B) == {*STAYS, *COMES}
            assert min(level.held_B.values()) >= 0.0
            assert {name: level.held_B[name] for name in STAYS} == {name: levels[0].held_B[name] for name in STAYS}
        for ends in (levels[0], levels[-1]):  # a step begins and ends with nothing in flight
            assert sum(ends.held_B[name] for name in COMES) == 0.0


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("pp", [2, 4, 8])
def test_what_the_device_of_the_head_holds_follows_from_the_order(schedule: str, pp: int) -> None:
    """Played out: the most that a device holds when a forward pass of the last stage ends."""
    for vpp in (2, 4) if schedule == "interleaved" else (1,):
        g, chunks = 4 * pp, schedules.num_chunks(schedule, vpp)
        lists = schedules.order(schedule, pp, vpp, g)
        most = 0
        for ops in lists:
            held = 0
            for op in ops:
                held += {"F": 1, "B": 0, "W": -1, "BW": -1}[op.kind]
                if op.kind == "F" and op.stage == pp * chunks - 1:
                    most = max(most, held)
        columns = Plans.of([Plan(pp=pp, vpp=chunks if chunks > 1 else 1, schedule=schedule)])
        per_device = 1 if schedule == "dualpipe" else chunks
        assert most / per_device == schedules.in_flight_at_head(columns, np.array([float(g)]))[0]


def shown(recompute: str = "none", schedule: str = "1f1b") -> PlanTimeline:
    vpp = schedules.num_chunks(schedule, 2 if schedule == "interleaved" else 1)
    plan = Plan(pp=4, vpp=vpp, dp=4, micro_batch=2, zero=1, recompute=recompute, schedule=schedule)  # type: ignore[arg-type]
    job = TrainJob(tokens=1e12, seq=4096, batch_seqs=64)
    return timeline(load_model("llama-3.1-8b"), equip(load_facts(), "h100:16"), job, plan)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_activations_come_and_go_layer_by_layer(schedule: str) -> None:
    """In each pass as many equal steps as the stage has layers, up in forward, down in backward to the weights; the
    head's loss is held before the layers of a backward pass, and not beside them."""
    found = shown(schedule=schedule)
    layers = stage_layers(32, found.line.num_stages)
    for levels in found.memory.levels:
        of_pass: dict[object, list[MemoryLevel]] = {}
        for level in levels:
            if level.during is not None:
                of_pass.setdefault(level.during, []).append(level)
        for op, some in of_pass.items():
            held = [level.held_B["activations"] for level in some]
            steps = [abs(two - one) for one, two in pairwise(held) if two != one]
            assert held == sorted(held, reverse=op.kind != "F")
            is_last, n = op.stage == found.line.num_stages - 1, layers[op.stage]
            assert len(steps) == (0 if op.kind == "B" else n - 1 + (op.kind == "F" and is_last))
            assert steps == pytest.approx([max(steps, default=0.0)] * len(steps))
            with_loss = [level for level in some if level.held_B["loss"] > 0.0]
            assert with_loss == (some[:1] if is_last and op.kind in ("B", "BW") else [])
    per_layer = {round(a.held_B["activations"] - b.held_B["activations"]) for a, b in pairwise(found.memory.levels[0])}
    assert len({abs(step) for step in per_layer} - {0}) == 1


def test_layers_come_in_groups_where_there_are_too_many_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    fine = shown()
    monkeypatch.setattr("mowich.training.memory_time.MOST_LEVELS", 2 * len(fine.line.spans))
    coarse = shown()
    assert sum(map(len, coarse.memory.levels)) < sum(map(len, fine.memory.levels)) / 2
    assert coarse.memory.peak.total_B == fine.memory.peak.total_B


def test_a_trace_counts_memory_by_category_on_every_device() -> None:
    found = shown("full")
    events = [e for e in json.loads(drawing.to_trace(found))["traceEvents"] if e["ph"] == "C"]
    names = {e["name"] for e in events}
    assert names == {f"memory of device {d}, GiB" for d in range(4)}
    top = max(sum(e["args"].values()) for e in events)
    assert top == pytest.approx(found.memory.peak.total_B / 2**30, abs=1e-3)
    first = [e for e in events if e["name"] == "memory of device 0, GiB"]
    assert all(one["args"] != two["args"] for one, two in pairwise(first))
    assert max(e["args"]["loss"] for e in first) == 0.0
    assert max(e["args"]["loss"] for e in events) > 0.0


def test_the_picture_and_the_words_say_what_sets_the_peak_and_what_lowers_it() -> None:
    found = shown()
    lines = "\n".join(drawing.draw_timeline(found, Style(width=100)))
    assert f"   GiB {'9' * 3}" in lines or "9" in lines.split("GiB ")[1].splitlines()[0]
    words = drawing.words_of_peak(found)
    assert words[0].startswith(f"Memory peaks at {found.memory.peak.total_B / 2**30:.1f}"[:20])
    assert "activations" in words[0]
    assert "recompute selective" in words[1]
    picture = drawing.to_svg(found)
    assert picture.count("<polygon") >= len(STAYS) + 1
    assert "<title>usable</title>" in picture


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(["none", "selective", "full"]), st.sampled_from(["1f1b", "gpipe"]))
def test_a_relief_is_a_legal_plan_that_needs_less(recompute: str, schedule: str) -> None:
    found = shown(recompute, schedule)
    assert found.memory.reliefs
    gains = [relief.less_B for relief in found.memory.reliefs]
    assert gains == sorted(gains, reverse=True)
    for relief in found.memory.reliefs:
        assert 0.0 < relief.less_B < found.memory.peak.total_B
        assert -1.0 < relief.slower <= MOST_SLOWER
