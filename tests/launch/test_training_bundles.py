"""Bundles of training and of a fleet's answer: every device has a rank, manifests hold the chips of the plan, and the
commands in them are the plan."""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import mowich
from mowich import cli
from mowich.errors import UserError
from mowich.facts import load_facts
from mowich.fleets.answer import Assignment
from mowich.launch.arguments import LaunchProgram
from mowich.launch.emitted import ON_TRAINIUM, PROGRAMS
from mowich.launch.kubernetes import kubernetes_files, kubernetes_name
from mowich.launch.plans import LaunchedPool, PlanLaunch, launch_of
from mowich.launch.read import read_plan_file
from mowich.launch.shapes import maxtext_shape, megatron_layout, megatron_shape
from mowich.launch.training_bundle import training_files
from mowich.launch.training_start import nodes_of
from mowich.launch.write import command
from mowich.studies.fleet_bundles import assigned_in

GOLDEN = Path(__file__).parent / "golden"
TRAINED = [
    p.stem for p in sorted(GOLDEN.glob("*.json")) if p.stem.split("-")[0] in ("torchtitan", "megatron", "maxtext")
]


@cache
def kept(case: str) -> tuple[LaunchProgram, PlanLaunch]:
    """A kept plan as it is launched."""
    data = json.loads((GOLDEN / f"{case}.json").read_text(encoding="utf-8"))
    name = case.split("-")[0]
    program = ON_TRAINIUM[name] if "-neuron" in case else PROGRAMS[name]
    return program, launch_of(data["inputs"], data["row"], load_facts(), data["layers"])


@pytest.mark.parametrize("case", TRAINED)
def test_scripts_parse_cover_the_devices_and_are_the_plan(case: str, tmp_path: Path) -> None:
    program, launch = kept(case)
    data = json.loads((GOLDEN / f"{case}.json").read_text(encoding="utf-8"))
    files, benchmark = training_files(program, launch, launch.inputs, data["row"], load_facts())
    texts = {file.path: file for file in [*files, *benchmark.files, *kubernetes_files(program, launch, load_facts())]}
    nodes, per_node = nodes_of(launch)
    assert nodes * per_node == launch.pools[0].devices
    for path, file in texts.items():
        if file.is_script:
            assert subprocess.run(["bash", "-n"], input=file.text, text=True, check=False).returncode == 0, path
        if path.endswith(".py"):
            ast.parse(file.text)
    for path in ("launch/node.sh", "kubernetes/job.yaml"):
        where = tmp_path / Path(path).name
        where.write_text(texts[path].text, encoding="utf-8")
        found = read_plan_file(where, layers=data["layers"]).plan
        alone = tmp_path / "commands.txt"
        alone.write_text(texts["launch/commands.txt"].text, encoding="utf-8")
        assert found == read_plan_file(alone, layers=data["layers"]).plan


def job_of(text: str) -> tuple[int, dict[str, object]]:
    """(chips of all pods of a JobSet, its pod)."""
    (document,) = yaml.safe_load_all(text)
    (one,) = document["spec"]["replicatedJobs"]
    job = one["template"]["spec"]
    pod = job["template"]["spec"]
    limits = pod["containers"][0]["resources"]["limits"]
    chips = next(count for name, count in limits.items() if not name.startswith("vpc."))
    assert job["parallelism"] == job["completions"]
    return one["replicas"] * job["parallelism"] * chips, pod


@settings(max_examples=20, deadline=None)
@given(case=st.sampled_from(TRAINED), factor=st.sampled_from([1, 2, 3, 8]))
def test_a_job_set_holds_the_chips_of_the_plan(case: str, factor: int) -> None:
    program, launch = kept(case)
    pool = launch.pools[0]
    fields = {**pool.fields, "nodes": nodes_of(launch)[0] * factor, "dp": int(pool.fields["dp"]) * factor}
    fields["batch"] = int(pool.fields["batch"]) * factor
    fields["slices"] = 1
    more = LaunchedPool(role="", copies=1, devices=pool.devices * factor, fields=fields)
    grown = PlanLaunch(
        **{name: getattr(launch, name) for name in ("work", "model", "system", "spec", "software", "per_server")},
        pools=(more,),
        inputs=launch.inputs,
    )
    (file,) = kubernetes_files(program, grown, load_facts())
    chips, _ = job_of(file.text)
    assert chips * launch.system.devices_per_chip == more.devices


@given(layers=st.integers(4, 130), mtp=st.integers(0, 1), stages=st.integers(2, 32))
def test_a_layout_holds_every_layer_once(layers: int, mtp: int, stages: int) -> None:
    if layers + mtp < 2 * stages:
        return
    text = megatron_layout(layers, mtp, stages)
    parts = text.split("|")
    opened = re.sub(r"t\*(\d+)", lambda m: "t" * int(m[1]), text)
    assert len(parts) == stages
    assert (opened.count("t"), opened.count("m"), opened.count("E"), opened.count("L")) == (layers, mtp, 1, 1)
    assert (opened[0], opened[-1]) == ("E", "L")


def test_shapes_are_those_of_the_model_or_say_why_not() -> None:
    for name in ("llama-3.1-8b", "deepseek-v3", "gpt-oss-120b", "qwen3-30b-a3b", "gpt3-175b"):
        model = mowich.load(name)
        words = " ".join(megatron_shape(model, 4096).words)
        assert f"--num-layers {model.num_layers} --hidden-size {model.hidden}" in words
        assert len(model.layers_in_order) == model.num_layers
    assert "--window-size 127,0" in " ".join(megatron_shape(mowich.load("gpt-oss-120b"), 4096).words)
    assert megatron_shape(mowich.load("gemma3-27b"), 4096).why
    assert maxtext_shape(mowich.load("deepseek-v3")).why


def test_a_name_is_one_that_kubernetes_takes() -> None:
    assert kubernetes_name("Meta/Llama 3.1!", "vllm", "") == "meta-llama-3-1-vllm"
    assert len(kubernetes_name("x" * 90)) <= 44


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_a_node_asks_for_what_it_needs() -> None:
    program, launch = kept("megatron")
    data = json.loads((GOLDEN / "megatron.json").read_text(encoding="utf-8"))
    files, _ = training_files(program, launch, launch.inputs, data["row"], load_facts())
    text = next(file.text for file in files if file.path == "launch/node.sh")
    done = subprocess.run(["bash", "-s"], input=text, text=True, capture_output=True, env={"PATH": "/bin:/usr/bin"})
    assert done.returncode != 0
    assert "NODE_RANK: number of this node, 0 to 7" in done.stderr


def test_maxtext_does_not_accumulate_in_fp8() -> None:
    """Its config refuses the two together."""
    program, launch = kept("maxtext")
    pool = launch.pools[0]
    eight = LaunchedPool(role="", copies=1, devices=pool.devices, fields={**pool.fields, "precision": "fp8"})
    with pytest.raises(UserError, match="cannot run this plan"):
        command(program, launch, eight)


def test_assignments_are_taken_once() -> None:
    made = [
        Assignment(task=task, system="h100", period=period, chips=chips, share=1.0)
        for task, period, chips in (("a", "2027", 0.0), ("a", "2028", 4.0), ("a", "2029", 8.0), ("b", "2027", 2.0))
    ]
    assert [(one.task, one.chips) for one in assigned_in(made, None)] == [("a", 4.0), ("b", 2.0)]
    assert [(one.task, one.chips) for one in assigned_in(made, "2029")] == [("a", 8.0)]


def run(words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = cli.run(shlex.split(words))
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.share(2)
def test_a_fleet_writes_a_bundle_of_each_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(f"fleet startup --draws 0 --emit megatron --out {tmp_path} --period 2027-Q2", capsys)
    assert code == 0
    folder = tmp_path / "continue-training-on-h100"
    assert f"{folder}: continue-training on h100 in 2027-Q2" in out
    assert "chat on h100 is not written: " in out
    rates = json.loads((Path(__file__).parents[2] / "scenarios" / "startup.rates.json").read_text(encoding="utf-8"))
    plan = next(r["plan"] for r in rates["rates"] if (r["task"], r["system"]) == ("continue-training", "h100"))
    forecast = json.loads((folder / "forecast.json").read_text(encoding="utf-8"))
    assert forecast["plans"][0]["plan"] == plan
    assert forecast["bundle"]["log"] == "benchmark/train.log"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--emit vlm --out x", "--emit: unknown program 'vlm'"),
        ("--emit vllm", "--emit: writes folders, got 'vllm'; say where: --out DIR"),
        ("--emit vllm --out x --json", "--emit: writes folders and prints their names"),
        ("--period 2027-Q1", "--period: says which period --emit writes"),
    ],
)
def test_a_fleet_that_cannot_be_written_is_one_line(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(f"fleet startup --draws 0 {words}", capsys)
    assert (code, out, err.count("error:")) == (2, "", 1)
    assert said in err
