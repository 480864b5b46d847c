"""Words of other programs, slips of the pen, and the last result."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import mowich
from mowich import cli
from mowich.facts.fields import unit_meant

COMPARE = ["compare", "llama-3.1-8b", "--on", "trn3"]


@pytest.mark.parametrize(
    ("verb", "option", "hint"),
    [
        ("compare", "--rate", "here: mowich plan --serve --rate 20rps"),
        ("compare", "--concurrency", "here: mowich plan --serve --users N"),
        ("plan", "--concurrency", "here: --users N"),
        ("compare", "--model", "here: the model stands without an option, after the verb"),
        ("plan", "--tensor-parallel-size", "here: --set plan.tp=N"),
        ("plan", "--kv_cache_dtype", "here: --set plan.kv=fp8"),
        ("compare", "--total-gpus", "here: --chips N"),
        ("plan", "--neighbors", "did you mean '--neighbours'?"),
        ("compare", "--chip", "did you mean '--chips'?"),
        ("compare", "--trane", "did you mean '--train'?"),
        ("compare", "--zzz", "see mowich compare --help"),
    ],
)
def test_an_option_of_another_program_is_led_to_ours(
    verb: str, option: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([verb, "llama-3.1-8b", "--on", "trn3", option, "4"]) == 2
    assert capsys.readouterr().err == f"error: no such option: {option}; {hint}\n"


def test_every_word_leads_to_an_option_that_some_verb_has() -> None:
    from mowich.requests import fields, gaps, jobs, results, scenarios

    schemas = (jobs.COMPARE, jobs.PLAN, jobs.FIT, gaps.GAP, gaps.VALUE, scenarios.SWEEP, results.REPORT)
    known = {f.flag for s in schemas for f in s.at(fields.Edge.OPTION)}
    words = yaml.safe_load(Path(cli.__file__).with_name("words.yaml").read_text(encoding="utf-8"))
    for word, told in words.items():
        assert not word.startswith("-")
        for ours in told:
            assert {part for part in ours.replace(",", " ").split() if part.startswith("--")} <= known, word
    assert not {f.lstrip("-") for f in {"--on", "--chips", "--isl", "--osl", "--set"}} & set(words)


@pytest.mark.parametrize(
    ("field", "number", "meant"),
    [
        ("memory.hbm_capacity", "192", 'write "192 GiB" or "192 GB"; they differ by 7%'),
        ("memory.hbm_bandwidth", "6", 'write "6 TB/s", if that is meant'),
        ("memory.hbm_bandwidth", "4900", 'write "4900 GB/s", if that is meant'),
        ("peak_dense.bf16", "1000", 'write "1000 TFLOP/s", if that is meant'),
        ("peak_dense.bf16", "2.5", 'write "2.5 PFLOP/s", if that is meant'),
        ("power.tdp", "700", 'write "700 W", if that is meant'),
        ("power.tdp", "1e9", 'write its unit, as in "900 W"'),
    ],
)
def test_a_bare_number_gets_the_unit_of_its_field_and_size(
    field: str, number: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["power", "--on", "trn3", "--set", f"chips.trainium3.{field}={number}"]) == 2
    assert f"{number} has no unit; {meant}" in capsys.readouterr().err
    assert unit_meant("many", "B") == ""


def test_a_file_of_ones_own_needs_no_source(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("chips: {trainium3: {memory: {hbm_capacity: 192}}}\n")
    with pytest.raises(mowich.UserError, match=r'192 has no unit; write \{value: "192 GB", grade: user\}'):
        mowich.load_facts([file])


def test_the_last_result_is_kept_and_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOWICH_CACHE", str(tmp_path / "kept"))
    assert cli.run(["explain", "last"]) == 2
    assert "error: last: no result is kept yet; ask something first" in capsys.readouterr().err
    assert cli.run(["power", "--on", "trn3"]) == 0
    assert cli.run(["example"]) == 0  # explains nothing, and takes nobody's place
    assert cli.run(["explain", "last", "trn3.total_W"]) == 0
    assert "chips.trainium3" in capsys.readouterr().out
    assert [p.name for p in (tmp_path / "kept").iterdir()] == ["last.json"]
    (tmp_path / "last").write_text("{}")  # a file of that name is that file
    assert cli.run(["explain", "last"]) == 2
    assert "not a result of mowich" in capsys.readouterr().err


def test_nothing_is_kept_where_it_is_off_or_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for value in ("off", "/dev/null/no"):
        monkeypatch.setenv("MOWICH_CACHE", value)
        assert cli.run(["power", "--on", "trn3"]) == 0
        assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("MOWICH_CACHE", "off")
    capsys.readouterr()
    assert cli.run(["explain", "last"]) == 2
    assert "MOWICH_CACHE is off" in capsys.readouterr().err


def test_a_kernel_is_told_how_far_it_is_from_its_reference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "own.py"
    kernel = "import nki\n\n@nki.jit\ndef same(x):\n    return x\n"
    ask = ["kernel", "run", str(file), "-k", "same", "x=float32[4,4]"]
    said = {
        kernel: "note: no reference: add reference(), with the arguments of the kernel, to be told how far",
        kernel + "\ndef reference(x):\n    return x + 0.5\n": "note: largest difference from reference(): 0.5\n",
        kernel + "\ndef reference(y):\n    return y\n": "(the one in the file takes other arguments)\n",
    }
    for text, told in said.items():
        file.write_text(text)
        assert cli.run(ask) == 0
        assert told in capsys.readouterr().err
        assert cli.run([*ask, "--quiet"]) == 0
        assert capsys.readouterr().err == ""
