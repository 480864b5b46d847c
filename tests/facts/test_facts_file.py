"""Facts of one's own in one file: the same as in a directory, with the lines of the file in every complaint."""

from __future__ import annotations

from pathlib import Path

import pytest

import mowich
from mowich.cli import run
from mowich.errors import UserError, UserErrors
from mowich.facts import load_facts

TEXT = """\
# a chip of our own
chips:
  acme1:
    id: acme1
    name: Acme One
    vendor: Acme
    family: hopper
    peak_dense:
      bf16: {value: "1200 TFLOP/s", grade: user}
      fp8: {value: "2400 TFLOP/s", grade: user}
      mxfp8: {value: null, unit: "TFLOP/s", reason: "not supported"}
      nvfp4: {value: null, unit: "TFLOP/s", reason: "not supported"}
      mxfp4: {value: null, unit: "TFLOP/s", reason: "not supported"}
    memory:
      hbm_capacity: {value: "192 GB", grade: user}
      hbm_usable: {value: "178 GiB", grade: user}
      hbm_bandwidth: {value: "6 TB/s", grade: user}
    scale_up:
      bandwidth_per_direction: {value: "600 GB/s", grade: user}
    scale_out:
      bandwidth_per_direction: {value: "50 GB/s", grade: user}
    power:
      tdp: {value: "900 W", grade: user}
      all_in: {value: "1500 W", grade: user}
    devices_per_chip: {value: 1, grade: user}

systems:
  acme:
    id: acme
    display: Acme server (16 Acme One)
    chip: acme1
    vendor: Acme
    chips_per_unit: {value: 16, grade: user}
    chips_per_server: {value: 16, grade: user}
    max_chips: {value: 4096, grade: user}
    levels:
      domain:
        kind: {text: switch, grade: user}
        chips: {value: 16, grade: user}
        bandwidth: {ref: chips.acme1.scale_up.bandwidth_per_direction}
        latency: {value: "10 us", grade: user}
      scale_out:
        kind: {text: network, grade: user}
        bandwidth: {ref: chips.acme1.scale_out.bandwidth_per_direction}
        latency: {value: "30 us", grade: user}
prices:
  user: {acme: {value: "$2.10/chip/h", grade: user}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "acme.yaml"
    path.write_text(TEXT)
    return path


def test_a_new_chip_is_one_file_and_no_code(file: Path) -> None:
    facts = load_facts([file])
    assert facts.number("prices.user.acme") == pytest.approx(2.1 / 3600)
    row = mowich.plan(
        "llama-3.1-8b", "acme:64", train={"tokens": "1T", "seq": 4096, "batch": "512seqs"}, top=1, facts=facts
    ).rows[0]
    assert row.plan is not None
    assert row.usd_per_mtok.value
    assert facts.number("chips.trainium3.memory.hbm_bandwidth") == load_facts().number(
        "chips.trainium3.memory.hbm_bandwidth"
    )


def test_a_file_is_the_directory_that_it_stands_for(file: Path, tmp_path: Path) -> None:
    import yaml

    folder = tmp_path / "own"
    for kind, names in yaml.safe_load(TEXT).items():
        for name, data in names.items():
            (folder / kind).mkdir(parents=True, exist_ok=True)
            (folder / kind / f"{name}.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    one, many = load_facts([file]), load_facts([folder])
    for kind, name in (("chips", "acme1"), ("systems", "acme"), ("prices", "user")):
        assert one.paths(f"{kind}.{name}") == many.paths(f"{kind}.{name}") != ()
        for path in one.paths(f"{kind}.{name}"):
            assert one.fact(path) == many.fact(path)


@pytest.mark.parametrize(
    ("old", "new", "extra", "said"),
    [
        ('hbm_bandwidth: {value: "6 TB/s", grade: user}', 'hbm_bandwidth: {value: "6", grade: user}', 0, "has no unit"),
        ('tdp: {value: "900 W"', 'tdp: {value: "900 TB"', 0, "W"),
        ("chips:\n  acme1", "chip:\n  acme1", 0, "did you mean 'chips'"),
        ('  user: {acme: {value: "$2.10/chip/h", grade: user}}', "  user: 3", 0, "holds facts"),
        ("systems:\n  acme:", "systems: 3\nx:\n  acme:", 1, "kind of facts"),
        ('latency: {value: "10 us", grade: user}', "latency: 10", 0, "latency"),
    ],
)
def test_mistakes_are_said_with_the_lines_of_the_file(
    file: Path, old: str, new: str, extra: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = TEXT[: TEXT.index(old)].count("\n") + 1 + extra
    file.write_text(TEXT.replace(old, new))
    with pytest.raises((UserError, UserErrors)) as error:
        load_facts([file])
    assert f"{file}:{line}" in error.value.line(), error.value.line()
    assert said in error.value.line()
    assert run(["facts", "check", "--facts", str(file), "--quiet"]) in (2, 5)
    assert f"{file}:{line}" in capsys.readouterr().err


def test_the_commands_take_it(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["facts", "check", "--facts", str(file)]) == 0
    assert (
        run(
            [
                "fit",
                "llama-3.1-8b",
                "--train",
                "--seq",
                "4096",
                "--batch",
                "64seqs",
                "--on",
                "acme:16",
                "--facts",
                str(file),
            ]
        )
        == 0
    )
    assert "Acme server" in capsys.readouterr().out
    assert run(["facts", "check", "--facts", str(file.with_name("none.yaml"))]) == 2


def test_a_directory_that_changes_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "sites" / "default.yaml"
    file.parent.mkdir()
    made = []
    for pue in ("1.21", "1.333"):
        file.write_text(f"pue: {{value: {pue}, grade: user}}\n")
        known = load_facts([tmp_path])
        made.append((known.number("sites.default.pue"), known.hash()))
    assert [pue for pue, _ in made] == [1.21, 1.333]
    assert made[0][1] != made[1][1]


def test_a_name_is_not_a_path(tmp_path: Path) -> None:
    file = tmp_path / "chip.yaml"
    file.write_text("prices:\n  ../../escaped:\n    a: {value: 1, grade: user}\n")
    with pytest.raises(UserError, match="not a name"):
        load_facts([file])
