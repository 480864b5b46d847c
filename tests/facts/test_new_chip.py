"""A chip of one's own: a file to fill in, and every fault of it in one run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from test_facts_file import TEXT

from mowich.cli import run
from mowich.errors import UserErrors
from mowich.facts import Facts, load_facts
from mowich.facts.skeleton import FILL, chip_skeleton, families, system_skeleton
from mowich.machines.system import resolve

NUMBERS = {
    "bf16": "1200", "fp8": "2400", "mxfp8": "2400", "nvfp4": "4800", "mxfp4": "4800", "hbm_capacity": "192",
    "hbm_usable": "180000", "hbm_bandwidth": "6", "bandwidth_per_direction": "600", "tdp": "900", "all_in": "1500",
    "bandwidth": "400", "chips_per_unit": "16", "chips_per_server": "8", "max_chips": "4096",
}  # fmt: skip


def filled(text: str) -> str:
    """A skeleton with a number in each line that asks for one."""
    return "\n".join(
        line.replace(f'"{FILL} ', f'"{NUMBERS[key[1]]} ').replace(f"{{value: {FILL}", f"{{value: {NUMBERS[key[1]]}")
        if FILL in line and (key := re.match(r"\s*(\w+): \{", line))
        else line
        for line in text.splitlines()
    )


@pytest.mark.parametrize("family", ["hopper", "cdna4", "neuroncore-v4", "tpu-v7", "rubin"])
def test_a_filled_file_of_each_family_is_right_at_once(tmp_path: Path, facts: Facts, family: str) -> None:
    file = tmp_path / "acme1.yaml"
    file.write_text(filled(chip_skeleton(facts, "acme1", family)), encoding="utf-8")
    system = resolve(load_facts([file]), "acme1")
    assert (system.family, system.chips, system.hbm_Bps * system.devices_per_chip) == (family, 16, 6e12)
    assert system.levels[-1].name == "scale_out"


def test_each_family_has_a_file(facts: Facts) -> None:
    assert {"hopper", "cdna3", "cdna4", "neuroncore-v4", "tpu-v7"} <= set(families(facts))
    for family in families(facts):
        assert f"family: {family}\n" in chip_skeleton(facts, "acme1", family)


def test_from_a_skeleton_to_an_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "acme1.yaml"
    assert run(["facts", "new", "chip", "acme1", "--family", "hopper", "--out", str(file)]) == 0
    assert run(["facts", "new", "chip", "acme1", "--out", str(file)]) == 2  # never over a file that is there
    assert "is there already" in capsys.readouterr().err
    assert run(["facts", "check", "--facts", str(file)]) == 5
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == file.read_text().count(FILL) - 1  # the head says what FILL is
    assert all(FILL in line and str(file) in line for line in lines)
    file.write_text(filled(file.read_text()), encoding="utf-8")
    assert run(["facts", "check", "--facts", str(file)]) == 0
    ask = "compare llama-3.1-8b --serve --isl 1k --osl 100 --on acme1:16,h100:16 --ttft 5s --json -q"
    assert run([*ask.split(), "--facts", str(file)]) == 0
    rows = json.loads(capsys.readouterr().out.split("facts check: ok\n")[-1])["rows"]
    assert {r["system_id"] for r in rows if r["tpot_s"]["value"]} == {"acme1", "h100"}


def test_a_machine_of_a_shipped_chip(tmp_path: Path, facts: Facts, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(filled(system_skeleton(facts, "mine", "trainium3")), encoding="utf-8")
    system = resolve(load_facts([file]), "mine")
    assert (system.chip, [level.name for level in system.levels]) == ("trainium3", ["chip", "domain", "scale_out"])
    assert run(["facts", "new", "system", "mine"]) == 2
    assert "--chip" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["chip", "h100_sxm"], "is there already"),
        (["chip", "p5e.48xlarge"], "not a name"),
        (["chip", "acme", "--family", "hooper"], "did you mean 'hopper'?"),
        (["board", "acme"], "chip, system"),
        (["system", "acme", "--chip", "h100"], "unknown chip 'h100'"),
        (["chip", "acme", "--chip", "h100_sxm"], "--family"),
    ],
)
def test_wrong_questions_are_one_line(given: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["facts", "new", *given]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert said in error


def test_all_faults_of_a_file_are_said_in_one_run(tmp_path: Path) -> None:
    file = tmp_path / "acme.yaml"
    text = TEXT.replace('bf16: {value: "1200 TFLOP/s", grade: user}', "bf16: {value: 1200, grade: user}")  # no unit
    text = text.replace("    memory:\n", "    memry:\n")  # no such group, so three facts are missing
    text = text.replace("    max_chips: {value: 4096, grade: user}\n", "")  # missing
    text = text.replace("{text: switch, grade: user}", "{text: swich, grade: user}")  # no such kind
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserErrors) as caught:
        load_facts([file])
    said = "\n".join(error.line() for error in caught.value.errors)
    for part in (
        "peak_dense.bf16: 1200 has no unit",
        "unknown field 'memry.hbm_capacity'; did you mean 'memory.hbm_capacity'?",
        "lacks chips.acme1.memory.hbm_usable",
        "lacks systems.acme.max_chips",
        "levels.domain.kind is 'swich'",
    ):
        assert part in said, said


def test_the_schema_of_a_kind_has_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["facts", "schema", "chips"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert {"peak_dense", "memory", "scale_out", "power", "devices_per_chip"} == set(schema["required"])
    assert schema["properties"]["memory"]["required"] == ["hbm_capacity", "hbm_usable", "hbm_bandwidth"]
    assert schema["properties"]["memory"]["properties"]["hbm_bandwidth"]["description"] == "SI unit: B/s"
    assert run(["facts", "schema", "systems"]) == 0
    assert "max_chips" in json.loads(capsys.readouterr().out)["required"]
    assert run(["facts", "schema"]) == 0
    assert "required" not in json.loads(capsys.readouterr().out)
    assert run(["facts", "schema", "chip"]) == 2
    assert "did you mean 'chips'?" in capsys.readouterr().err
