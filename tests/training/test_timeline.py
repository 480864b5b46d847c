"""The timeline of a plan: as a trace that parses, as text, as SVG."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import pytest

from mowich.cli import run
from mowich.facts import Facts
from mowich.models import load_model
from mowich.plans.memory import stage_split
from mowich.plans.plan import SCHEDULES, Plan, Plans, TrainJob
from mowich.show import timeline as drawing
from mowich.show.render.terminal import Style
from mowich.software.stack import equip
from mowich.training.timeline import PlanTimeline, stage_layers, timeline

JOB = TrainJob(tokens=1e12, seq=4096, batch_seqs=64)
CHUNKS = {"interleaved": 2, "zb-v": 2, "dualpipe-v": 2}


def played(facts: Facts, schedule: str = "1f1b", pp: int = 4) -> PlanTimeline:
    plan = Plan(pp=pp, vpp=CHUNKS.get(schedule, 1), dp=4, micro_batch=2, schedule=schedule)
    return timeline(load_model("llama-3.1-8b"), equip(facts, "h100:16"), JOB, plan)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_trace_holds_every_operation_once_and_none_overlap(facts: Facts, schedule: str) -> None:
    found = played(facts, schedule)
    events = json.loads(drawing.to_trace(found))["traceEvents"]
    slices = [e for e in events if e["ph"] == "X"]
    work = [e for e in slices if e["cat"] != "step"]
    assert len(work) == len(found.line.spans)
    assert {e["tid"] for e in work} == {0, 1, 2, 3}
    for device in range(4):
        mine = sorted((e["ts"], e["ts"] + e["dur"]) for e in slices if e["tid"] == device)
        assert all(one[1] <= two[0] + 1e-3 for one, two in pairwise(mine))
    assert max(e["ts"] + e["dur"] for e in slices) == pytest.approx(found.step_s * 1e6)
    assert {e["args"]["name"] for e in events if e.get("name") == "thread_name"} == {
        f"stage device {i}" for i in range(4)
    }


def test_even_stages_without_a_head_take_what_the_step_says(facts: Facts) -> None:
    """One device has no uneven stages: the timeline is the step."""
    plan = Plan(dp=16, micro_batch=2)
    model, system = load_model("llama-3.1-8b"), equip(facts, "h100:16")
    found = timeline(model, system, JOB, plan)
    assert found.line.makespan_s == pytest.approx(found.closed_s, rel=1e-9)


def test_layers_are_dealt_evenly() -> None:
    assert sum(stage_layers(126, 64)) == 126
    assert max(stage_layers(126, 64)) - min(stage_layers(126, 64)) == 1


def test_the_drawing_is_as_wide_as_asked_and_shows_who_waits(facts: Facts) -> None:
    lines = drawing.draw_timeline(played(facts), Style(width=80))
    assert all(len(line) <= 80 for line in lines[:-1])
    assert lines[3].split()[1].startswith("..")  # the last stage waits for the first forward


def test_an_svg_has_one_box_per_operation(facts: Facts) -> None:
    found = played(facts, "zb-h1")
    root = ET.fromstring(drawing.to_svg(found))
    space = "{http://www.w3.org/2000/svg}"
    titles = [t.text for box in root.iter(f"{space}rect") for t in box.iter(f"{space}title")]
    assert len(titles) == len(found.line.spans) + len(found.tail_s)


def test_too_many_operations_are_refused(facts: Facts) -> None:
    plan = Plan(pp=32, vpp=1, micro_batch=1)
    with pytest.raises(ValueError, match="do not fit in a timeline"):
        timeline(
            load_model("llama-3.1-8b"), equip(facts, "h100:32"), TrainJob(tokens=1e12, seq=4096, batch_seqs=10000), plan
        )


ARGS = (
    "plan",
    "llama-3.1-8b",
    "--train",
    "--tokens",
    "1T",
    "--seq",
    "4096",
    "--batch",
    "64seqs",
    "--on",
    "h100:16",
    "--set",
    "plan.pp=2,4",
    "--set",
    "plan.cp=1",
    "--quiet",
)


def test_plan_writes_the_timeline_of_the_picked_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "t.json"
    assert run([*ARGS, "--timeline", str(file), "--pick", "2", "--top", "2"]) == 0
    out = capsys.readouterr().out
    assert "micro-batches:" in out
    assert "F forward" in out
    assert json.loads(file.read_text())["traceEvents"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--timeline", "t.png"), "allowed: FILE.json, FILE.svg"),
        (("--timeline", "no/such/dir/t.json"), "cannot be written"),
        (("--pick", "9"), "1 to 5"),
    ],
)
def test_a_timeline_that_cannot_be_is_one_line(
    args: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*ARGS, *args]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(("model", "pp"), [("llama-3.1-8b", 4), ("llama-3.1-8b", 8), ("llama-3.1-70b", 8), ("gpt2", 4)])
def test_a_balanced_split_makes_room_for_the_head(facts: Facts, model: str, pp: int) -> None:
    """Fewer layers on the last stage: never slower than an even deal played out. The closed form bounds it from above,
    by 6% at most unless the head weighs a third of the model, as in gpt2."""
    job, system, shapes = TrainJob(tokens=1e12, seq=4096, batch_seqs=64), equip(facts, "h100:32"), load_model(model)
    even, balanced = (timeline(shapes, system, job, Plan(pp=pp, dp=2, split=split)) for split in ("even", "balanced"))
    assert balanced.line.makespan_s <= even.line.makespan_s * (1 + 1e-9)
    assert balanced.line.makespan_s <= balanced.closed_s * (1 + 1e-6)
    assert balanced.closed_s <= balanced.line.makespan_s * (1.3 if model == "gpt2" else 1.06)


def test_a_balanced_split_keeps_every_layer(facts: Facts) -> None:
    for name in ("llama-3.1-8b", "llama-3.1-405b", "deepseek-v3", "gpt2"):
        shapes = load_model(name)
        for pp in (2, 4, 8):
            most, last = stage_split(shapes, Plans.of([Plan(pp=pp, split="balanced")]))
            assert 0 <= last[0] <= most[0]
            assert most[0] * (pp - 1) + last[0] >= shapes.num_layers
