"""Bundles of served plans: every file is well formed, workers share no device, commands are read back as the plan, the
benchmark sends what was asked, and a folder is written whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import subprocess
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from mowich import cli, writing
from mowich.errors import UserError
from mowich.facts import load_facts
from mowich.launch.bundle import Bundle, BundleFile
from mowich.launch.bundle_folder import check_folder, write_bundle
from mowich.launch.bundle_readme import next_steps
from mowich.launch.emitted import bundled
from mowich.launch.plans import launch_of
from mowich.launch.read import read_plan_file
from mowich.launch.serving_benchmark import roomy, sent_load
from mowich.launch.serving_bundle import worker_starts
from mowich.launch.vllm import VLLM_SERVE
from mowich.studies.explain import Explainer

FACTS = load_facts()
TARGETS = {
    "vllm": ("h100", "h200", "gb300", "mi300x", "ironwood", "trn2", "trn3"),
    "sglang": ("h100", "b200", "mi300x"),
    "trtllm": ("h100", "gb300"),
    "nxdi": ("trn1", "trn2"),
}
MODELS = ("llama-3.1-70b", "gpt-oss-120b", "maxtext-scale-16b", 'my model\'s "8b" $HOME\nexit 1')
FORMATS = {
    "vllm": ("bf16", "fp8", "mxfp4"),
    "sglang": ("bf16", "fp8", "nvfp4"),
    "trtllm": ("bf16", "fp8"),
    "nxdi": ("bf16",),
}


def estimate(value: float, unit: str = "s") -> dict[str, object]:
    return {"value": value, "unit": unit, "low": 0.8 * value, "high": 1.3 * value, "grade": "C"}


def row_of(
    system: str, engine: str, plans: Mapping[str, Mapping[str, object]], replicas: Mapping[str, int], apart: bool
) -> dict[str, object]:
    """The JSON of a row of a served plan."""
    whole = {"cp": 1, "kv": "bf16", "lnc": 2 if system.startswith("trn") else 0}
    return {
        "system": system,
        "engine": engine,
        "chips_requested": 4096,
        "chips_used": 64,
        "mode": "disaggregated" if apart else "aggregated",
        "prefill": {**whole, **plans["prefill"]},
        "decode": {**whole, **plans["decode"]},
        "replicas": dict(replicas),
        "batch": 40.0,
        "ttft_s": estimate(0.4),
        "tpot_s": estimate(0.03),
        "tokens_per_s_per_chip": estimate(900.0, "1/s"),
    }


def inputs_of(model: str, system: str, isl: int, osl: int, **more: object) -> dict[str, object]:
    return {"task": "serve", "model": model, "isl": isl, "osl": osl, "systems": [{"system": system}], **more}


DEGREES = st.sampled_from((1, 2, 4, 8, 16))


@st.composite
def bundles(draw: st.DrawFn) -> tuple[str, dict[str, object], dict[str, object]]:
    """(program, inputs, row) of a plan that the program may or may not be able to run."""
    program = draw(st.sampled_from(sorted(TARGETS)))
    system = draw(st.sampled_from(TARGETS[program]))
    apart = draw(st.booleans())

    def plan() -> dict[str, object]:
        tp, pp = draw(DEGREES), draw(st.sampled_from((1, 1, 2)))
        dp = draw(DEGREES) if draw(st.booleans()) else 1
        dp, tp = (tp, 1) if program == "trtllm" and dp > 1 else (dp, tp)
        ep = draw(st.sampled_from((1, tp * dp)))
        return {"tp": tp, "dp": dp, "pp": 1 if system.startswith("trn") else pp, "ep": ep, "precision": weights}

    weights = draw(st.sampled_from(FORMATS[program]))
    decode = plan()
    prefill = plan() if apart else decode
    many = st.integers(1, 5)
    count = draw(many)
    replicas = {"prefill": draw(many) if apart else count, "decode": count}
    engine = {"nxdi": "nxdi-xla"}.get(program, "vllm-neuron" if system.startswith("trn") else program)
    row = row_of(system, engine, {"prefill": prefill, "decode": decode}, replicas, apart)
    inputs = inputs_of(draw(st.sampled_from(MODELS)), system, draw(st.integers(1, 9000)), draw(st.integers(1, 3000)))
    if draw(st.booleans()):
        load = {"rate": draw(st.sampled_from((0.5, 12))), "prompt": inputs["isl"], "output": inputs["osl"], "seed": 7}
        row |= {"scenario": json.dumps({"traffic": load}), "in_flight": 31.4, "requests_per_s": load["rate"]}
        row |= {"p99_ttft_s": estimate(0.9), "p99_tpot_s": estimate(0.05)}
        inputs |= {"rate": load["rate"], "users": None, "p99_ttft_s": 2.0}
    return program, inputs, row


def made(program: str, inputs: Mapping[str, object], row: Mapping[str, object]) -> Bundle:
    try:
        return bundled(program, inputs, row, FACTS, layers=80)
    except UserError:
        assume(False)
        raise


def files_of(bundle: Bundle) -> list[BundleFile]:
    return [*bundle.files, *bundle.benchmark.files]


def outside_quotes(text: str) -> str:
    """A script without comments and without what stands in quotes."""
    kept = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    return re.sub(r"'[^']*'|\"(?:\\.|[^\"\\])*\"", "", "\n".join(kept))


DRAWN = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


@DRAWN
@given(bundles())
def test_every_file_is_well_formed(drawn: tuple[str, dict[str, object], dict[str, object]]) -> None:
    bundle = made(*drawn)
    files = files_of(bundle)
    assert len({file.path for file in files}) == len(files)
    scripts = [file for file in files if file.path.endswith(".sh")]
    for file in scripts:
        assert file.is_script
        assert file.text.startswith("#!/usr/bin/env bash\n")
        assert "\nset -euo pipefail\n" in file.text
        assert not re.findall(r"\$(?!\()[\w{@*]", outside_quotes(file.text)), file.text
    one = "".join(f"f{n}() {{\n{file.text}}}\n" for n, file in enumerate(scripts))
    checked = subprocess.run(["bash", "-n"], input=one, text=True, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr
    for file in files:
        if file.path.endswith(".yaml"):
            documents = [data for data in yaml.safe_load_all(file.text) if data]
            assert documents
        assert file.text.endswith("\n")
        assert ".." not in file.path
    assert bundle.benchmark.predictions
    json.dumps(bundle.about(1))


@DRAWN
@given(bundles())
def test_workers_share_no_device_and_ranks_cover_the_plan(
    drawn: tuple[str, dict[str, object], dict[str, object]],
) -> None:
    program, inputs, row = drawn
    bundle = made(program, inputs, row)
    launch = launch_of(inputs, row, FACTS, 80)
    starts = worker_starts(VLLM_SERVE, launch, FACTS)
    wanted = sum(pool.devices * pool.copies for pool in launch.pools)
    assert sum(one.devices * one.times for one in starts) == wanted
    texts = {file.path: file.text for file in bundle.files}
    covered = 0
    for kind in {one.kind for one in starts}:
        mine = [one for one in starts if one.kind == kind]
        shared = re.findall(
            r'FIRST=(\d+) PORT=(\d+)(?: BOOTSTRAP=\d+)? "\$here/(\S+)"', texts.get(f"launch/server-{kind}.sh", "")
        )
        if not shared:
            shared = [("0", "8000", path.removeprefix("launch/")) for path in {one.path for one in mine} & texts.keys()]
        for rank in {one.rank for one in mine}:
            end = "-rank-0.sh" if program == "trtllm" else f"-rank-{rank}.sh"  # MPI runs one script as every rank
            own = [(int(first), path) for first, _, path in shared if path.endswith(end)]
            held = [first + n for first, path in own for n in range(devices(texts[f"launch/{path}"]))]
            assert len(held) == len(set(held))
            assert max(held) < launch.per_server
            covered += len(held) * mine[0].times
        assert len({port for _, port, _ in shared}) == (1 if mine[0].ranks > 1 else len(shared))
    assert covered == wanted


def devices(text: str) -> int:
    """How many devices a script gives its worker."""
    match = re.search(r"^last=\$\(\(FIRST \+ (\d+)\)\)$", text, re.MULTILINE)
    assert match
    assert re.search(r"^export \w+_VISIBLE_(DEVICES|CORES)=|^\w+_VISIBLE_(DEVICES|CHIPS)=", text, re.MULTILINE)
    return int(match[1]) + 1


@DRAWN
@given(bundles())
@example(("vllm", inputs_of("gpt-oss-120b", "h100", 2000, 500), row_of("h100", "vllm", {
    "prefill": {"tp": 8, "dp": 2, "pp": 1, "ep": 16, "precision": "mxfp4"},
    "decode": {"tp": 8, "dp": 2, "pp": 1, "ep": 16, "precision": "mxfp4"},
}, {"prefill": 2, "decode": 2}, False)))  # fmt: skip
def test_a_command_of_a_bundle_is_read_back_as_the_plan(
    tmp_path_factory: pytest.TempPathFactory, drawn: tuple[str, dict[str, object], dict[str, object]]
) -> None:
    program, inputs, row = drawn
    bundle = made(program, inputs, row)
    folder = tmp_path_factory.mktemp("bundle")
    texts = {file.path: file.text for file in bundle.files}

    def read(text: str) -> object:
        file = folder / "launch"
        file.write_text(text, encoding="utf-8")
        found = read_plan_file(file, layers=80)
        return found.program.title, found.plan, found.pools

    whole = read(texts["launch/commands.txt"])
    starts = [text for path, text in texts.items() if "-rank-" in path]
    assert read("\n".join(starts)) == whole
    launch = launch_of(inputs, row, FACTS, 80)
    roomy_launch = roomy(launch, sent_load(inputs, row, launch.system.vendor))
    assert all(f"{pool.fields['context']}" in texts["launch/commands.txt"] for pool in roomy_launch.pools)


WORDS = {
    "vllm": ("--random-input-len", "--random-output-len", "--num-prompts", "--request-rate", "--max-concurrency"),
    "sglang": ("--random-input-len", "--random-output-len", "--num-prompts", "--request-rate", "--max-concurrency"),
    "trtllm": ("--isl", "--osl", "--request-count", "--request-rate", "--concurrency"),
}
CASES = {"vllm": "h100", "sglang": "h100", "trtllm": "h100", "nxdi": "trn2"}
SIMPLE = {"tp": 4, "dp": 1, "pp": 1, "ep": 1, "precision": "bf16"}


def simple(program: str, **more: object) -> tuple[dict[str, object], dict[str, object]]:
    system = CASES[program]
    inputs = inputs_of("llama-3.1-70b", system, 2000, 500, **more)
    engine = "nxdi-xla" if program == "nxdi" else program
    return inputs, row_of(system, engine, {"prefill": SIMPLE, "decode": SIMPLE}, {"prefill": 2, "decode": 2}, False)


def sent(bundle: Bundle) -> dict[str, str]:
    """Options of the command of a benchmark."""
    text = next(file.text for file in bundle.benchmark.files if file.path.endswith("run.sh"))
    command = text[text.index('cd "$here"') :].replace("\\\n", " ")
    words = shlex.split(command)
    return {name: value for name, value in zip(words, [*words[1:], ""], strict=True) if name.startswith("-")}


@pytest.mark.parametrize("program", CASES)
def test_the_benchmark_of_a_steady_plan_keeps_as_many_requests_as_the_forecast_has(program: str) -> None:
    inputs, row = simple(program)
    bundle = bundled(program, inputs, row, FACTS, layers=80)
    found = sent(bundle)
    isl, osl, count, rate, together = WORDS.get(program, WORDS["vllm"])
    assert (found[isl], found[osl]) == ("2000", "500")
    assert rate not in found
    per_s = 900.0 * 64 / 500
    assert int(found[together]) == round(per_s * (0.4 + 499 * 0.03))  # Little's law over all workers
    assert int(found[count]) >= 20 * int(found[together])
    assert program in ("sglang", "trtllm") or "--ignore-eos" in found
    assert bundle.benchmark.predictions[0].what == "time to first token, median"


@pytest.mark.parametrize("program", CASES)
def test_the_benchmark_of_a_load_sends_it_as_it_was_played(program: str) -> None:
    inputs, row = simple(program, rate=7.5, users=None, p99_ttft_s=2.0, p99_tpot_s=0.05)
    traffic = {"rate": 7.5, "prompt": 2000, "output": "uniform(400, 600)", "seed": 3}
    row |= {"scenario": json.dumps({"traffic": traffic}), "in_flight": 90.2, "requests_per_s": 7.5}
    row |= {"p99_ttft_s": estimate(0.9), "p99_tpot_s": estimate(0.05)}
    bundle = bundled(program, inputs, row, FACTS, layers=80)
    found = sent(bundle)
    isl, osl, count, rate, together = WORDS.get(program, WORDS["vllm"])
    assert (found[isl], found[osl], found[rate]) == ("2000", "500", "7.5")
    assert together not in found
    assert int(found[count]) >= 2000  # twenty lie beyond the 99th percentile
    assert found.get("--seed", found.get("--random-seed")) == "3"
    if program != "sglang":
        assert json.loads(found["--random-range-ratio"]) == {"input": 0.0, "output": 0.2}
    limits = found["--goodput"]
    assert "2000" in limits
    names = [one.name for one in bundle.benchmark.predictions]
    assert names == ["ttft_s", "tpot_s", "p99_ttft_s", "p99_tpot_s"]  # the load decides the speed
    for pool in re.findall(r"--max-model-len (\d+)|max_seq_len\W+(\d+)|--context-length (\d+)", bundle.files[0].text):
        assert int("".join(pool)) >= 2600


def test_users_and_a_shared_prefix_are_sent() -> None:
    inputs, row = simple("vllm", users=40, rate=None, cached=0.25)
    traffic = {"users": 40, "think": "0 s", "prompt": 2000, "output": 500, "seed": 0, "shared_prefix": 500}
    row |= {"scenario": json.dumps({"traffic": traffic}), "in_flight": 40.0, "requests_per_s": 3.0}
    found = sent(bundled("vllm", inputs, row, FACTS, layers=80))
    assert (found["--max-concurrency"], found["--random-input-len"], found["--random-prefix-len"]) == (
        "40",
        "1500",
        "500",
    )
    assert found["--request-rate"] == "4.5"  # not all at once: that would be what the 99th percentile shows
    inputs["think_s"] = 30.0
    bundle = bundled("vllm", inputs, row, FACTS, layers=80)
    assert sent(bundle)["--request-rate"] == "3"
    assert any("think for 30 s" in note for note in bundle.benchmark.notes)


ROUTERS = {
    ("vllm", "h100", False): {"vllm-router.sh", "production-stack.sh", "llm-d.values.yaml", "dynamo.yaml"},
    ("vllm", "h100", True): {"vllm-router.sh", "llm-d.values.yaml", "dynamo.yaml"},
    ("vllm", "mi300x", True): {"vllm-router.sh", "llm-d.values.yaml"},
    ("sglang", "h100", True): {"sglang-router.sh", "llm-d.values.yaml", "dynamo.yaml"},
    ("trtllm", "h100", False): {"dynamo.yaml"},
    ("trtllm", "h100", True): {"trtllm-disaggregated.sh", "dynamo.yaml"},
    ("vllm", "trn2", False): {"vllm-router.sh", "production-stack.sh"},
    ("vllm", "trn2", True): {"vllm-router.sh", "neuron-proxy.sh"},
    ("nxdi", "trn2", False): {"vllm-router.sh", "production-stack.sh"},
    ("nxdi", "trn2", True): {"neuron-proxy.sh"},
}


@pytest.mark.parametrize(("program", "system", "apart"), ROUTERS)
def test_only_routers_that_can_stand_before_the_workers_are_written(program: str, system: str, apart: bool) -> None:
    engine = {"nxdi": "nxdi-xla"}.get(program, "vllm-neuron" if system == "trn2" else program)
    plans = {"prefill": SIMPLE, "decode": SIMPLE}
    row = row_of(system, engine, plans, {"prefill": 2, "decode": 2}, apart)
    bundle = bundled(program, inputs_of("llama-3.1-70b", system, 1000, 100), row, FACTS, layers=80)
    routers = {file.path.removeprefix("router/") for file in bundle.files if file.path.startswith("router/")}
    assert routers == ROUTERS[program, system, apart]
    alone = {**row, "replicas": {"prefill": 1, "decode": 1}, "mode": "aggregated"}
    bundle = bundled(program, inputs_of("llama-3.1-70b", system, 1000, 100), alone, FACTS, layers=80)
    assert not [file for file in bundle.files if file.path.startswith("router/")]


@pytest.mark.parametrize("name", ["vllm-router.sh", "neuron-proxy.sh"])
def test_a_router_is_started_with_every_address(name: str, tmp_path: Path) -> None:
    row = row_of("trn2", "vllm-neuron", {"prefill": SIMPLE, "decode": SIMPLE}, {"prefill": 2, "decode": 3}, True)
    bundle = bundled("vllm", inputs_of("llama-3.1-70b", "trn2", 1000, 100), row, FACTS, layers=80)
    script = tmp_path / name
    script.write_text(next(f.text for f in bundle.files if f.path.endswith(name)), encoding="utf-8")
    for program in ("vllm-router", "python3"):
        (tmp_path / program).write_text('#!/bin/sh\nfor w in "$@"; do echo "$w"; done\n', encoding="utf-8")
        (tmp_path / program).chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "VLLM_NEURON": "/src"}
    env |= {"PREFILL": "http://a:8000 http://b:8001", "DECODE": "http://c:8000 http://d:8000 http://e:8000"}
    out = subprocess.run(["bash", str(script)], env=env, text=True, capture_output=True, check=True).stdout.split()
    if name == "vllm-router.sh":
        assert [b for a, b in pairwise(out) if a == "--prefill"] == ["http://a:8000", "http://b:8001"]
        assert out.count("--decode") == 3
    else:
        at = out.index("--decoder-hosts")
        assert out[at : at + 8] == ["--decoder-hosts", "c", "d", "e", "--decoder-ports", "8000", "8000", "8000"]
        assert out[out.index("--prefiller-ports") + 2] == "8001"
    del env["DECODE"]
    failed = subprocess.run(["bash", str(script)], env=env, text=True, capture_output=True, check=False)
    assert failed.returncode
    assert "DECODE" in failed.stderr


SERVED = shlex.split("plan llama-3.1-8b --serve --isl 1k --osl 100 --on h100:1 --emit vllm")


# the folder
# -----------------------------------------------------------------------------------------------------------------
def small(program: str = "vllm", replicas: int = 2) -> Bundle:
    inputs, row = simple(program)
    row["replicas"] = {"prefill": replicas, "decode": replicas}
    return bundled(program, inputs, row, FACTS, layers=80)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_bundle_replaces_a_bundle_and_leaves_other_files(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "bundle"
    first = write_bundle(folder, small(), "{}\n", 1)
    assert set(contents(folder)) == set(first.files)
    assert os.access(folder / "launch" / "server-1.sh", os.X_OK)
    assert not os.access(folder / "README.md", os.X_OK) or os.geteuid() == 0
    assert not (folder / "README.md").stat().st_mode & 0o111
    (folder / "benchmark" / "result.json").write_text("{}", encoding="utf-8")
    (folder / "router" / "vllm-router.sh").write_text("mine\n", encoding="utf-8")
    second = write_bundle(folder, small(replicas=1), "{}\n", 1)
    assert second.left == ("benchmark/result.json", "router/vllm-router.sh")  # somebody changed the second
    assert not (folder / "launch" / "server-1.sh").exists()
    assert not (folder / "router" / "dynamo.yaml").exists()
    assert (folder / "launch" / "worker-rank-0.sh").exists()


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ({"thesis.tex": "x"}, "holds thesis.tex, but no bundle"),
        ({"a": "x", "b": "x"}, "holds a and 1 more, but no bundle"),
        ({"bundle.json": '{"schema": "other"}'}, "is not the list of files of a bundle"),
        ({"bundle.json": "{"}, "not valid JSON"),
        ({"bundle.json": '{"schema": "mowich/bundle@1", "files": {"../x": "1"}}'}, "a file outside its folder"),
        (None, "is not a folder"),
    ],
)
def test_a_folder_with_other_files_is_refused(
    held: Mapping[str, str] | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mine"
    if held is None:
        folder.write_text("a file", encoding="utf-8")
    else:
        folder.mkdir()
        for name, text in held.items():
            (folder / name).write_text(text, encoding="utf-8")
    before = contents(tmp_path)
    with pytest.raises(UserError, match=re.escape(said)):
        check_folder(folder)
    assert cli.run([*SERVED, "--out", str(folder)]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("error:") == 1
    assert contents(tmp_path) == before


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder, other = tmp_path / "bundle", tmp_path / "other"
    other.mkdir()
    write_bundle(folder, small(), "{}\n", 1)
    for file in (folder / "router").iterdir():
        file.unlink()
    (folder / "router").rmdir()
    (folder / "router").symlink_to(other)
    with pytest.raises(UserError, match="leads out of the folder"):
        write_bundle(folder, small("sglang"), "{}\n", 1)
    assert not list(other.iterdir())


def test_a_full_disk_leaves_all_files_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "bundle"
    files = write_bundle(folder, small(), "{}\n", 1).files
    before, synced = contents(folder), 0
    real = writing._sync

    def full(path: Path, flags: int) -> None:
        nonlocal synced
        synced += 1
        if synced == len(files) - 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, flags)

    monkeypatch.setattr(writing, "_sync", full)
    with pytest.raises(UserError, match="cannot be written"):
        write_bundle(folder, small("sglang", replicas=4), '{"new": 1}\n', 1)
    assert contents(folder) == before


def test_the_forecast_of_a_bundle_is_the_answer_and_is_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "bundle"
    assert cli.run([*SERVED, "--top", "2", "--pick", "2", "--out", str(folder)]) == 0
    said = capsys.readouterr().out
    assert f"files in {folder}" in said
    assert "benchmark/run.sh" in said
    forecast = json.loads((folder / "forecast.json").read_text(encoding="utf-8"))
    about = forecast["bundle"]
    assert (forecast["schema"], about["program"], about["pick"]) == ("mowich/plan@1", "vllm", 2)
    row = forecast["plans"][1]
    assert about["predicted"]
    for one in about["predicted"]:
        assert one["value"] == row[one["name"]]["value"]
        assert one["low"] <= one["value"] <= one["high"]
    script = (folder / "benchmark" / "run.sh").read_text(encoding="utf-8")
    assert "MODEL:=meta-llama/Llama-3.1-8B-Instruct}" in script
    for name in ("bundle.predicted.ttft_s", "bundle.pick"):
        assert Explainer(forecast, FACTS).explain(name, sensitivity=False)
    readme = (folder / "README.md").read_text(encoding="utf-8")
    explained = re.search(r"`mowich (explain forecast.json \S+)`", readme)
    assert explained
    assert explained[1].split()[2] == "2.ttft_s"
    index = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    assert set(index["files"]) == set(contents(folder)) - {"bundle.json"}


def test_a_row_in_python_writes_its_bundle(tmp_path: Path) -> None:
    import mowich

    found = mowich.plan("llama-3.1-8b", "h100:2", serve={"isl": "1k", "osl": "100"}, top=2)
    text = found.rows[1].bundle("sglang", tmp_path / "bundle")
    assert "mowich verify . benchmark/result.jsonl" in text
    forecast = json.loads((tmp_path / "bundle" / "forecast.json").read_text(encoding="utf-8"))
    assert forecast["bundle"]["pick"] == 2
    assert forecast["inputs"]["model_given"] == "llama-3.1-8b"
    with pytest.raises(UserError, match="does not run on"):
        found.rows[0].bundle("nxdi", tmp_path / "other")
    assert not (tmp_path / "other").exists()


COMPARED = shlex.split("compare llama-3.1-8b --serve --isl 1k --osl 100 --on h100:2,trn2:2 --emit")


def test_a_comparison_writes_its_best_system_that_the_program_runs_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([*COMPARED, "sglang", "--out", str(tmp_path / "bundle")]) == 0
    out = capsys.readouterr().out
    assert "note: h100:2: the only one that sglang runs on" in out
    assert "The forecast is of vllm, and the bundle starts SGLang: --engine sglang" in out
    forecast = json.loads((tmp_path / "bundle" / "forecast.json").read_text(encoding="utf-8"))
    assert [row["system"] for row in forecast["plans"]] == ["h100:2"]
    assert forecast["inputs"]["systems"][0]["chips"] == 2
    assert cli.run([*COMPARED, "nxdi"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("# trn2:2: ")
    assert "override_neuron_config" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([*COMPARED, "maxtext"], "--emit: MaxText is for training, and this plan is for serving"),
        ([*COMPARED, "vlm"], "--emit: unknown program 'vlm'"),
        ([*COMPARED, "vllm", "--json"], "--emit: prints a launch command and nothing else"),
        (
            shlex.split("compare llama-3.2-1b --task encode --tokens 512 --batch 4 --on h100 --emit vllm"),
            "--emit: is an option of training and serving",
        ),
        ([*SERVED, "--out", "/proc/none/bundle"], "--out: cannot be written"),
    ],
)
def test_what_cannot_be_written_of_a_comparison_is_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("error:") == 1


def test_manifests_take_the_place_of_scripts_and_a_wrapper_has_its_file() -> None:
    inputs, row = simple("vllm")
    first = next_steps(bundled("kubernetes", inputs, row, FACTS, layers=80))
    assert first[0][0] == "kubectl apply -f kubernetes/"
    assert not any(what.startswith("launch/") for what, _ in first)
    for name, path in (("skypilot", "skypilot.yaml"), ("profile:vllm", "profile.sh")):
        assert path in {file.path for file in bundled(name, inputs, row, FACTS, layers=80).files}
