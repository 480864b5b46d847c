"""A vendor that nobody has heard of, with software of its own: files alone make it answer every verb."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_facts_file import TEXT

import mowich
from mowich.cli import run
from mowich.errors import UserError
from mowich.facts import Facts, load_facts
from mowich.fleets.read import read_problem
from mowich.machines.system import System, resolve
from mowich.software.engine import engine_for, engine_names
from mowich.software.stack import equip, stack_names
from mowich.software.vendors import failure_class, of_vendor, ported_stack

SOFTWARE = """\
vendors:
  acme:
    id: acme
    name: Acme
    training_stack: {text: acme-trainer, grade: user}
    serving_engine: {text: acme-serve, grade: user}
    failure_class: {text: tpu, grade: user}
training:
  acme-trainer:
    id: acme-trainer
    speed: {value: 0.5, grade: user}
    host_per_layer: {ref: training.megatron.host_per_layer}
    tp_overlap: {ref: training.megatron.tp_overlap}
    dp_overlap: {ref: training.megatron.dp_overlap}
    memory_passes: {ref: training.megatron.memory_passes}
    unfused_attention: {ref: training.megatron.unfused_attention}
    schedules: {text: "1f1b", grade: user}
    residuals: {text: "none", grade: user}
serving:
  acme-serve:
    id: acme-serve
    layer_dense: {value: "100 us", grade: user}
"""
ENGINE = (
    "layer_moe", "layer_mla", "layer_hybrid", "step", "per_sequence", "prefill_step", "tp_latency", "front_end",
    "front_end_per_token", "visible_dense", "visible_moe", "visible_mla", "visible_hybrid", "prompt_budget",
    "mixes_prompts", "memory_share", "reserve",
)  # fmt: skip
TRAIN = {"tokens": "1T", "seq": 4096, "batch": "512seqs"}
FLEET = """\
mowich: 1
name: a fleet
periods: {start: 2027-Q1, count: 2, length: quarter}
workloads:
  extraction:
    batch: {model: llama-3.1-8b, isl: 1000, osl: 200, tokens: 100G}
    on_chips: 16
    porting: {acme: $50k, cuda: $50k}
systems:
  acme: {rent: {price: $2/chip/h, for: 1 quarter, supply: 10}}
  h100: {rent: {price: $3/chip/h, for: 1 quarter, supply: 10}}
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("facts") / "acme.yaml"
    rest = "".join(f"    {name}: {{ref: serving.vllm.{name}}}\n" for name in ENGINE)
    path.write_text(TEXT + SOFTWARE + rest)
    return path


@pytest.fixture(scope="module")
def facts(file: Path) -> Facts:
    return load_facts([file])


def test_the_files_say_what_runs_on_its_machines(facts: Facts) -> None:
    system = resolve(facts, "acme")
    assert equip(facts, "acme").stack.name == "acme-trainer"
    assert equip(facts, "acme").schedules == ("1f1b",)
    assert equip(facts, "acme", stack="megatron").stack.name == "megatron"
    assert engine_for(facts, system, None) == "acme-serve"
    assert failure_class(facts, "acme") == "tpu"
    assert ported_stack(facts, system.vendor) == "acme"
    assert "acme-trainer" in stack_names(facts)
    assert "acme-serve" in engine_names(facts)
    with pytest.raises(UserError, match="acme-serv") as error:
        engine_for(facts, system, "acme-serv")
    assert "acme-serve" in error.value.line()


def test_an_engine_names_the_one_that_is_written_by_hand_in_its_place(file: Path, facts: Facts) -> None:
    assert engine_for(facts, resolve(facts, "acme"), "hand-tuned") == "acme-serve"  # it names none
    file = file.with_name("named.yaml")
    file.write_text(f"{file.with_name('acme.yaml').read_text()}    hand_tuned: {{text: nxdi-nki, grade: user}}\n")
    named = load_facts([file])
    assert engine_for(named, resolve(named, "acme"), "hand-tuned") == "nxdi-nki"
    assert engine_for(named, resolve(named, "acme"), None) == "acme-serve"


def test_what_its_files_do_not_say_is_as_of_others(tmp_path: Path) -> None:
    path = tmp_path / "acme.yaml"
    path.write_text(TEXT)
    facts = load_facts([path])
    for what in ("training_stack", "serving_engine", "failure_class"):
        assert of_vendor(facts, "Acme", what) == facts.text(f"vendors.others.{what}")
    with pytest.raises(UserError, match=r"vendors\.acme\.colour is not known"):
        of_vendor(facts, "Acme", "colour")


def test_a_system_is_hardware_only() -> None:
    assert not {"stack", "efficiency", "recipes", "schedules"} & set(System.__dataclass_fields__)
    assert not any(path.startswith(("training.", "serving.")) for path in resolve(load_facts(), "h100").paths.values())


def test_compare_takes_its_stack(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (
        "compare llama-3.1-8b --train --tokens 1T --seq 4096 --batch 512seqs --on acme,h100 --chips 64 --json --facts"
    )
    assert run([*words.split(), str(file)]) == 0
    got = json.loads(capsys.readouterr().out)
    assert [s["stack"] for s in got["inputs"]["systems"]] == ["acme-trainer", "megatron"]
    assert run([*words.split(), str(file), "--stack", "megatron"]) == 0
    other = json.loads(capsys.readouterr().out)
    assert got["rows"][0]["step_s"]["value"] > 1.5 * other["rows"][0]["step_s"]["value"], "its speed is half"


def test_plan_serve_takes_its_engine(facts: Facts) -> None:
    ask = {"isl": "1k", "osl": "256"}
    own = mowich.plan("llama-3.1-8b", "acme:8", serve=ask, top=1, facts=facts)
    named = mowich.plan("llama-3.1-8b", "acme:8", serve={**ask, "engine": "vllm"}, top=1, facts=facts)
    assert own.inputs["systems"][0]["engine"] == "acme-serve"
    assert named.inputs["systems"][0]["engine"] == "vllm"
    assert own.rows[0].tpot_s.value != named.rows[0].tpot_s.value


def test_its_engine_may_be_named(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "plan llama-3.1-8b --serve --isl 1k --osl 256 --on h100:8 --top 1 --json --engine acme-serve --facts"
    assert run([*words.split(), str(file)]) == 0
    assert json.loads(capsys.readouterr().out)["inputs"]["systems"][0]["engine"] == "acme-serve"


def test_goodput_takes_its_class_of_failures(facts: Facts) -> None:
    def mtbf_s(known: Facts) -> float:
        return mowich.goodput("acme:1024", facts=known, samples=10).rows[0].formula.mtbf_s

    as_gpus = facts.with_values({"vendors.acme.failure_class": "gpu"})
    factor = facts.number("reliability.components.tpu_factor")
    assert factor != 1
    assert mtbf_s(as_gpus) != mtbf_s(facts)


def test_fleet_ports_its_workloads_to_its_software(facts: Facts, tmp_path: Path) -> None:
    scenario = tmp_path / "fleet.yaml"
    scenario.write_text(FLEET)
    problem = read_problem(scenario, facts)
    assert {c.name: c.stack for c in problem.choices} == {"acme": "acme", "h100": "cuda"}
    answer = mowich.fleet(scenario, facts=facts)
    assert answer.to_dict()["status"] == "optimal"
    wrong = FLEET.replace("acme: $50k", "acmee: $50k")
    scenario.write_text(wrong)
    with pytest.raises(UserError, match="acmee"):
        read_problem(scenario, facts)
