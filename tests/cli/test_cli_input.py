"""Bad input as a new user would try it, beyond names and flags: broken files, impossible numbers, choices that
contradict each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mowich import cli
from mowich.cli.help import PAGES_LINE

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "intermediate_size": 128,
    "vocab_size": 100,
}


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, list[str]]:
    code = cli.run(args)
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err.splitlines()


def compare(model: str = "llama-3.1-8b", on: str = "trn3", *more: str, **job: str) -> list[str]:
    given = {"tokens": "1T", "seq": "4096", "batch": "512seqs", **job}
    return ["compare", model, "--train", *(w for k, v in given.items() for w in (f"--{k}={v}",)), "--on", on, *more]


def serve(on: str, *more: str, model: str = "llama-3.1-8b") -> list[str]:
    return ["plan", model, "--serve", "--isl", "200", "--osl", "50", "--on", on, *more]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (compare(on=""), "--on: names no system"),
        (compare(on="trn3,trn3"), "'trn3' is named twice"),
        (compare(on="trn3,trn3-gen2"), "--on: 'trn3' and 'trn3-gen2' are the same 144 chips of trn3-gen2"),
        (compare(on="gb300:4x4"), "a shape needs a torus"),
        (compare(on="ironwood:4x4x4x4"), "this torus has 3 axes"),
        (compare(on="efa"), "--on: 'efa' has facts but is not a machine"),
        (compare(on="trn9"), "--on: unknown system 'trn9'"),
        (compare("no-such-model"), "MODEL: unknown model 'no-such-model'"),
        (compare("", "trn3"), "MODEL: unknown model ''"),
        (compare("llama-3.1-8b", "trn3", "--chips", "1.5"), "--chips: must be a whole number"),
        (compare("llama-3.1-8b", "trn3", "--chips", "10000000"), "number of chips out of range"),
        (
            ["goodput", "--on", "h100:16384", "--checkpoint", "0s"],
            "--checkpoint: must be above 0",
        ),
        (["goodput", "--on", "h100:16384", "--days", "1e9"], "--days: too many failures to draw one by one"),
        (compare("llama-3.1-8b", "trn3", "--stack", "foo"), "--stack: unknown software stack 'foo'"),
        (compare("llama-3.1-8b", "trn3", "--equal", "usd"), "--equal: needs --chips"),
        (compare("llama-3.1-8b", "trn3", "--set", "plan.tp=24"), "tp=24 does not divide the 32 query heads"),
        (compare("llama-3.1-8b", "trn3", "--set", "plan.ep=4"), "llama-3.1-8b is dense"),
        (compare("llama-3.1-8b", "h100", "--set", "plan.precision=nvfp4"), "has no nvfp4 matrix rate"),
        (compare("llama-3.1-8b", "trn3", "--set", "plan.tp=²"), "not a legal degree"),
        (compare("llama-3.1-8b", "trn3", "--set", "plan.tp=2", "--set", "plan.tp=4"), "plan.tp is set twice"),
        (compare("llama-3.1-8b", "trn3", "--set", "prices.trn3=1.4"), "1.4 has no unit; write"),
        (compare("llama-3.1-8b", "trn3", "--set", "prices.trn3=$1e999/chip/h"), "too large a number"),
        (compare("llama-3.1-8b", "trn3", "--set", "prices.efa=$1/chip/h"), "not a machine"),
        (compare("llama-3.1-8b", "trn3", "--set", "site.pue=0.5"), "out of range"),
        (compare("llama-3.1-8b", "trn3", "--set", "devices.neuroncore-v4.product_16=300%"), "out of range"),
        (compare("llama-3.1-8b", "trn3", "--set", "chips.trainium3.devices_per_chip=0.5"), "must be at least 1"),
        (compare("llama-3.1-8b", "trn3", "--set", "chips.trainium3.devices_per_chip=2.5"), "must be a whole number"),
        (compare("llama-3.1-8b", "trn3", "--set", "foo.bar=3"), "unknown setting 'foo.bar'"),
        (
            compare("llama-3.1-8b", "trn3", "--out", "{tmp}/nowhere/r.json"),
            "/nowhere/r.json: cannot be written",
        ),
        (compare(batch="100"), "100 tokens are less than one sequence of 4096"),
        (compare(batch="1e15seqs"), "less than one step"),
        (compare(tokens="5"), "5 tokens are less than one step"),
        (compare(tokens="-5"), "--tokens: must be at least 1"),
        (compare(tokens="nan"), "--tokens: not a count"),
        (compare(tokens="1e400"), "--tokens: too large a number"),
        (compare(seq="1e12"), "--seq: must be at most 1e+09"),
        (["facts", "check", "--facts", "{tmp}/nowhere"], "--facts: no such directory"),
        (["validate", "{tmp}/nowhere.csv"], "no such file"),
        (["plan", *compare()[1:], "--top", "0"], "--top"),
        (compare("llama-3.1-8b", "trn3", "--set", "plan.lcn=1"), "did you mean 'lnc'?"),
        (serve("trn3:1", "--set", "plan.lcn=1"), "did you mean 'lnc'?"),
        (serve("gb300:1", "--ttft", "2"), '--ttft: 2 has no unit; write "2 s"'),
        (serve("gb300:1", "--tpot", "20"), '--tpot: 20 has no unit; write "20 ms"'),
        (serve("gb300:1", "--users", "4", "--p99-ttft", "2"), '--p99-ttft: 2 has no unit; write "2 s"'),
        (["prices", "--on", "trn3", "--life", "4"], '--life: 4 has no unit; write "4 years"'),
        (["power", "--on", "trn3", "--cap", "100"], '--cap: 100 has no unit; write "100 MW"'),
        (["plan", *compare()[1:], "--stack", "hand-tuned"], "--stack: is a choice that only compare has"),
        (serve("trn3:1", model="bert-large"), "bert-large is an encoder"),
        (
            [
                "traffic",
                '{"mowich": 1, "model": "llama-3.1-8b", "on": "trn3:1", "traffic": {"usres": 4, "rate": 1,'
                ' "requests": 1, "prompt": 1, "output": 1}}',
            ],
            "did you mean 'users'?",
        ),
        (
            [word for word in serve("trn3:1") if word != "--serve"],
            "--train: give either --train or --serve, or --task diffuse or encode, got 'neither'",
        ),
        (["brief", "--against", "h100"], "--set systems.h100.max_chips=1000000 lets it"),
        (["fit", "bert-large", "--serve", "--kv", "500", "--on", "trn3:1"], "bert-large is an encoder"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    args: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, *(word.replace("{tmp}", str(tmp_path)) for word in args))
    assert code == 2
    assert out == ""
    assert [line for line in err if line.startswith("error: ")] == err
    assert len(err) == 1
    assert said in err[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "foo"}, "unknown model_type 'foo'"),
        ({"hidden_size": 0}, "'hidden_size' must be a whole number"),
        ({"hidden_size": float("nan")}, "'hidden_size' must be a whole number"),
        ({"hidden_size": "big"}, "'hidden_size' must be a whole number"),
        ({"hidden_size": None}, "missing key 'hidden_size'"),
        ({"num_hidden_layers": 10**9}, "'num_hidden_layers' must be at most"),
        ({"num_key_value_heads": 3}, "not a multiple of 'num_key_value_heads'"),
    ],
)
def test_a_config_that_is_wrong_is_refused_by_key(
    tmp_path: Path, change: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**LLAMA, **change}), encoding="utf-8")
    for args in (["model", str(path)], compare(str(tmp_path))):
        code, out, err = run(capsys, *args)
        assert (code, out, len(err)) == (2, "", 1)
        assert said in err[0]
        assert str(path) in err[0]


@pytest.mark.parametrize("text", [b"", b"[]", b'{"model_type": "lla', b"\xff\xfe"])
def test_a_file_that_is_no_config_is_refused(tmp_path: Path, text: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(text)
    code, out, err = run(capsys, *compare(str(path)))
    assert (code, out, len(err)) == (2, "", 1)
    assert str(path) in err[0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        '{"schema": "mowich/compare@1", "rows": [',
        '{"a": 1}',
        '{"schema": "mowich/compare@1"}',
        '{"schema": "mowich/compare@1", "rows": 5, "inputs": 7}',
        '{"schema": "mowich/plan@1", "plans": [{"system": "x"}], "inputs": {}}',
    ],
)
def test_explain_of_something_else_is_refused(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r.json"
    path.write_text(text, encoding="utf-8")
    code, out, err = run(capsys, "explain", str(path), "trn3.step_s")
    assert (code, out) == (2, "")
    assert err
    assert all(line.startswith(f"error: {path}:") for line in err)


def test_one_chip_for_a_large_model_says_by_how_much_it_does_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *compare("deepseek-v3", "trn3", "--chips", "1"))
    assert (code, err) == (3, [])
    assert "does not fit" in out
    assert all(word in out for word in ("short per device", "weights", "gradients", "optimizer", "usable"))


def test_a_step_longer_than_the_time_between_failures_is_unknown_not_a_crash(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, _ = run(
        capsys, *compare("llama-3.1-8b", "trn3", "--chips", "4096", "--json", tokens="1e30", batch="1e15seqs")
    )
    assert code == 0
    row = json.loads(out)["rows"][0]
    assert row["step_s"]["value"] > 0
    for metric in ("goodput", "days"):
        assert row[metric]["value"] is None
        assert "too long to finish between failures" in row[metric]["reason"]


def test_a_size_in_the_name_wins_and_is_noted(capsys: pytest.CaptureFixture[str]) -> None:
    job = ["llama-3.1-8b", "--train", "--seq", "4096", "--batch", "64seqs", "--on", "trn3:4", "--chips", "32"]
    for args in (["fit", *job], ["plan", *job, "--tokens", "1T", "--top", "1"], ["compare", *job, "--tokens", "1T"]):
        assert "a size in a system's name wins over --chips" in "\n".join(run(capsys, *args)[2])


def test_sequences_longer_than_the_model_was_made_for_are_noted(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, *compare("gpt2", "h100", seq="2048"))
    assert code == 0
    assert err == ["note: --seq 2048 is longer than the context of gpt2, 1024 tokens"]


@pytest.mark.parametrize(
    "args",
    [
        ["power", "--on", "trn3"],
        ["prices", "--on", "trn3"],
        ["goodput", "--on", "trn3:64"],
        ["collective", "all-reduce", "--on", "trn3"],
        ["claims"],
        ["traffic", "chat-llama-70b"],
        ["kernel", "profile", "@softmax"],
        ["kernel", "layer", "llama-3.1-8b", "--on", "trn3:1"],
    ],
)
@pytest.mark.parametrize("setting", ["plan.tp=4", "plan.lnc=1", "prices.term=3y"])
def test_a_setting_that_a_verb_would_ignore_is_refused(
    args: list[str], setting: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, *args, "--set", setting)
    assert (code, out, len(err)) == (2, "", 1)
    assert "allowed: paths of facts" in err[0]


def test_kernels_written_by_hand_that_nobody_wrote_are_noted(capsys: pytest.CaptureFixture[str]) -> None:
    said = "note: no kernels written by hand are known for {}: as shipped there"
    assert said.format("trn1:1") in run(capsys, *serve("trn1:1", "--engine", "hand-tuned"))[2]
    assert run(capsys, *serve("trn3:1", "--engine", "hand-tuned"))[2] == []
    assert said.format("h100") in run(capsys, *compare("llama-3.1-8b", "h100,trn3", "--stack", "hand-tuned"))[2]


def test_a_slice_far_from_a_cube_is_noted(capsys: pytest.CaptureFixture[str]) -> None:
    said = "is taken as 64 chips in as near a cube as can be"
    for args in (compare("llama-3.1-8b", "ironwood:8x8x1"), ["collective", "all-reduce", "--on", "ironwood:8x8x1"]):
        assert run(capsys, *args)[2] == [f"note: ironwood:8x8x1 {said}, whatever its shape"]
    for on in ("ironwood:4x4x8", "ironwood:64"):
        assert run(capsys, "collective", "all-reduce", "--on", on)[2] == []


def test_a_format_that_a_chip_does_not_multiply_is_noted(capsys: pytest.CaptureFixture[str]) -> None:
    served = "weights are timed in {} as asked; its software serves bf16, "
    for on, weights in (("trn1:1", "fp8"), ("trn2:1", "mxfp4"), ("trn3:1", "nvfp4"), ("trn3:1", "int4")):
        (err,) = run(capsys, *serve(on, "--set", f"plan.weights={weights}"))[2]
        assert err.startswith(f"note: {on}: {served.format(weights)}")
    (err,) = run(capsys, *serve("h100:1", "--set", "plan.weights=mxfp4"))[2]
    assert err.startswith("note: h100:1 has no matrix unit for mxfp4: ")
    for on, weights in (("trn3:1", "mxfp4"), ("gb300:1", "nvfp4"), ("h100:1", "int4"), ("h100:1", "fp8")):
        assert run(capsys, *serve(on, "--set", f"plan.weights={weights}"))[2] == []


def test_json_does_not_depend_on_the_clock(capsys: pytest.CaptureFixture[str]) -> None:
    one, two = (run(capsys, *compare("llama-3.1-8b", "trn3,h100", "--json"))[1] for _ in range(2))
    assert one == two
    assert "seconds" not in json.loads(one)["rows"][0]


@pytest.mark.slow
def test_explain_does_not_mix_up_two_models_of_one_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative config.json names another file in another directory: the result carries its own."""
    for name, layers in (("a", 2), ("b", 8)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(
            json.dumps({**LLAMA, "num_hidden_layers": layers}), encoding="utf-8"
        )
    result = str(tmp_path / "r.json")
    monkeypatch.chdir(tmp_path / "a")
    assert run(capsys, *compare("./config.json", "h100", "--out", result, seq="1024"))[0] == 0
    here = run(capsys, "explain", result, "h100.step_s")
    assert here[0] == 0
    monkeypatch.chdir(tmp_path / "b")
    assert run(capsys, "explain", result, "h100.step_s") == here


def test_a_batch_in_tokens_is_shown_in_whole_sequences(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, *compare("llama-3.1-8b", "h100", "--chips", "64", batch="1M"))
    assert "seq 4096, batch 240;" in out


def test_an_unknown_stack_is_told_once_for_all_systems(capsys: pytest.CaptureFixture[str]) -> None:
    job = ("--train", "--tokens", "1T", "--seq", "4096", "--batch", "64seqs", "--chips", "64")
    assert cli.run(["compare", "llama-3.1-8b", *job, "--on", "trn3,gb300", "--stack", "hand-tund"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --stack: unknown software stack 'hand-tund'; allowed: ")
    assert line.endswith("; did you mean 'hand-tuned'?")


@pytest.mark.parametrize(("replicas", "left"), [(3, 1), (4, 0)])
def test_chips_of_a_scenario_in_no_replica_are_told(
    replicas: int, left: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """A plan counts such chips as paid for; the price of the same workers came out lower here without a word."""
    scenario = {
        "mowich": 1,
        "model": "llama-3.2-1b",
        "on": "gb300:4",
        "replicas": replicas,
        "traffic": {"users": 4, "requests": 8, "prompt": 100, "output": 20},
    }
    code, out, err = run(capsys, "traffic", json.dumps(scenario), "--draws", "0")
    assert (code, err) == (0, [])
    assert (f"{left} of the 4 chips that the scenario names are in no replica" in out) == bool(left)


def test_a_first_try_is_told_all_that_it_lacks_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["plan", "gpt-oss-20b", "--rate", "50", "--p99-ttft", "2"]) == 2
    said = capsys.readouterr().err
    for lacks in ("either --train or --serve", "--on: is required", "--isl: is required", "--p99-ttft: 2 has no unit"):
        assert lacks in said
    assert "--seq" not in said


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("2M", "2M has no unit; write '$2M'"),
        ("2000000", "2000000 has no unit; write '$2000000'"),
        ("M", "as a shell reads a dollar sign without them as a variable: '$2M'"),
    ],
)
def test_money_without_its_sign_says_how_to_write_it(given: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = "compare llama-3.1-8b --train --seq 4096 --batch 512seqs --on h200 --days 30"
    assert cli.run([*words.split(), "--budget", given]) == 2
    assert told in capsys.readouterr().err


def test_help_of_a_verb_may_be_asked_with_the_word_help(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["fit"], ["kernel", "check"]):
        assert cli.run(["help", *words]) == 0
        said = capsys.readouterr().out
        assert cli.run([*words, "--help"]) == 0
        assert said.removesuffix(PAGES_LINE) == capsys.readouterr().out
