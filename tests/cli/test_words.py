"""Words of other programs, slips of the pen, and the last result."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import mowich
from mowich import cli
from mowich.cli.app import app
from mowich.cli.options import VerbCall
from mowich.cli.verbs import load_verbs
from mowich.cli.words import VerbOptions, in_our_words, other_words
from mowich.facts.fields import unit_meant

COMPARE = ["compare", "llama-3.1-8b", "--on", "trn3"]


@pytest.mark.parametrize(
    ("verb", "option", "hint"),
    [
        ("compare", "--rate", "here: mowich plan --serve --rate 4"),
        ("compare", "--concurrency", "here: mowich plan --serve --users 4"),
        ("plan", "--gpus", "here: --chips 4"),
        ("plan", "--num-prompts", "here: a scenario of mowich traffic, with traffic: {requests: 4}"),
        ("fit", "--random-input-len", "here: --kv N, of prompt and answer together"),
        ("fit", "--osl", "here: --kv N, of prompt and answer together"),
        ("plan", "--streaming", "here: nothing: TTFT and TPOT are those of a streamed answer"),
        ("fit", "--max-model-len", "here: --kv 4 in serving, --seq 4 in training"),
        ("plan", "--context-length", "here: --isl and --osl, together at most 4, in serving; --seq 4 in training"),
        ("plan", "--dtype", "here: --set plan.precision=bf16"),
        ("plan", "--kv-cache-dtype", "here: --set plan.kv=bf16 or fp8; the type of the model is bf16"),
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


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("-dp 4", "here: --set plan.dp=4, beside plan.tp as in vLLM (SGLang counts it inside --tp-size)"),
        ("--dp_size=4", "here: --set plan.dp=4, beside plan.tp as in vLLM (SGLang counts it inside --tp-size)"),
        ("--quantization awq", "here: --set plan.weights=int4"),
        ("--quantization own", "here: --set plan.weights=fp8"),
        (
            "--chunked-prefill-size 4096",
            "here: --set plan.budget=4096, of one rank group (SGLang divides its own by dp)",
        ),
        ("--enforce-eager", "here: --set plan.graphs=off"),
        ("--tensor-parallel-size", "here: --set plan.tp=N"),
        ("--tensor-parallel-size --json", "here: --set plan.tp=N"),
        ("--enable-expert-parallel", "here: --set plan.ep=N, with N = plan.tp x plan.dp"),
    ],
)
def test_what_to_write_is_told_with_the_value_that_was_typed(
    words: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["plan", "llama-3.1-8b", "--on", "trn3", *words.split()]) == 2
    given = words.replace("=", " ").split()[0]
    assert capsys.readouterr().err == f"error: no such option: {given}; {hint}\n"


FOREIGN = (
    "plan --model llama-3.1-8b --serve --random-input-len 1k --random-output-len=100 --system h100_sxm --total_gpus 8"
    " -tp 4 --pipeline-parallel-size=2 --kv-cache-dtype fp8_e4m3 --max-num-seqs 64"
)
OURS = (
    "plan llama-3.1-8b --serve --isl 1k --osl 100 --on h100_sxm --chips 8 --set plan.tp=4 --set plan.pp=2 --set"
    " plan.kv=fp8 --set plan.sequences=64"
)


def test_a_word_that_means_one_thing_of_ours_is_read_as_that(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*OURS.split(), "--csv"]) == 0
    ours = capsys.readouterr()
    assert cli.run([*FOREIGN.split(), "--csv"]) == 0
    foreign = capsys.readouterr()
    assert foreign.out == ours.out
    notes = [line for line in foreign.err.splitlines() if line not in ours.err]
    assert notes[:2] == [
        "note: --model llama-3.1-8b is the model here",
        "note: --random-input-len 1k is --isl 1k here",
    ]
    assert len(notes) == 9
    assert cli.run([*FOREIGN.split(), "--csv", "--quiet"]) == 0
    assert capsys.readouterr() == (ours.out, "")


def verbs() -> dict[str, VerbOptions]:
    """What each verb has on the command line."""
    return {
        c.callback.__name__: c.callback.options
        for c in load_verbs(app).registered_commands
        if isinstance(c.callback, VerbCall)
    }


def test_no_word_changes_what_a_verb_has() -> None:
    found = verbs()
    for options in found.values():
        for flag in options.flags:
            args = [flag, "--tensor-parallel-size", "--", "--tp=4", flag]
            after = args if flag in options.valued else args[:1]
            assert in_our_words(args, options)[0][: len(after)] == after
            assert in_our_words([flag], options) == ([flag], [])
    assert in_our_words(["--model", "m"], found["gap"]) == (["--model", "m"], [])
    assert in_our_words(["--hf-id", "m"], found["gap"])[0] == ["--model", "m"]
    assert in_our_words(["--users", "3", "-1", "-"], found["plan"]) == (["--users", "3", "-1", "-"], [])


def test_help_says_that_words_are_taken_and_the_page_names_all(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("compare", "plan", "fit", "gap", "value", "sweep", "power"):
        assert cli.run([name, "--help"]) == 0
        assert capsys.readouterr().out.count("AIConfigurator") == (name != "power")
    page = (Path(__file__).parents[2] / "docs" / "records" / "other-words.md").read_text(encoding="utf-8")
    assert [w for w, entry in other_words().items() if entry.taken and f"`--{w}`" not in page] == []


def test_every_word_leads_to_an_option_that_some_verb_has() -> None:
    groups = [g.typer_instance for g in load_verbs(app).registered_groups if g.typer_instance is not None]
    commands = [c.callback for a in (app, *groups) for c in a.registered_commands]
    known = set().union(*(c.options.flags for c in commands if isinstance(c, VerbCall)))
    for word, entry in other_words().items():
        assert not word.startswith("-")
        assert entry.taken or entry.told, word
        for form in (*entry.taken, *entry.told):
            named = {part for part in re.split(r"[ ,;()]", form) if part.startswith("--")}
            assert named <= known | {"--tp-size"}, word
    taken = {f"--{word}" for word, entry in other_words().items() if entry.taken}
    assert not {"--on", "--chips", "--isl", "--osl", "--ttft", "--tpot", "--set"} & taken


def test_the_machine_of_a_kernel_and_that_of_a_plan_lead_to_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["kernel", "run", "@softmax", "--on", "trn3"]) == 2
    assert "no such option: --on; here: --target trn3" in capsys.readouterr().err
    assert cli.run(["power", "--target", "trn3,gb300"]) == 2
    assert "no such option: --target; here: --on trn3,gb300" in capsys.readouterr().err


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
    kernel = (
        "import nki, nki.isa as nisa, nki.language as nl\n\n@nki.jit\ndef same(x):\n"
        "    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)\n    nisa.dma_copy(dst=out, src=x)\n"
        "    return out\n"
    )
    ask = ["kernel", "run", str(file), "-k", "same", "x=float32[4,4]"]
    said = {
        kernel: "note: no reference: add reference(), with the arguments of the kernel, to be told how far",
        kernel + "\ndef reference(x):\n    return x * (1 - 1e-6)\n": "difference from reference(): 1.43e-06 at",
        kernel + "\ndef reference(y):\n    return y\n": "(the one in the file takes other arguments)\n",
    }
    for text, told in said.items():
        file.write_text(text)
        assert cli.run(ask) == 0
        assert told in capsys.readouterr().err
        assert cli.run([*ask, "--quiet"]) == 0
        assert capsys.readouterr().err == ""
