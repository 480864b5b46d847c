"""What a calibration finds: changed constants recovered, ranges that only narrow, left-out points, nothing at all."""

from __future__ import annotations

import importlib.util
import itertools
import json
import random
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import mowich
from measurements import (
    SIZES,
    collective_times,
    json_lines,
    nccl_log,
    nccom_log,
    served,
    sglang_json,
    training_csv,
    vllm_json,
)
from mowich import cli
from mowich.errors import UserError
from mowich.evidence.fitting.moved import uncertain, with_numbers
from mowich.evidence.readers.setup import Setup
from mowich.facts import Facts, load_facts
from mowich.requests.calibrate import CalibrateRequest
from mowich.requests.command import command_of
from mowich.serving.own_rows import OWN_ROWS, read_rows
from mowich.show.json import to_json
from mowich.software.stack import equip
from mowich.studies.calibrate import Calibration, calibrate


def _tool() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "tools" / "calibrate_halves.py"
    spec = importlib.util.spec_from_file_location("mowich_calibrate_halves", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up by name
    spec.loader.exec_module(module)
    return module


tool = _tool()


def moved(facts: Facts, path: str, share: float) -> float:
    """A value inside the range of a fact: share 0 is the low end, 1 the high end, of logarithms."""
    fact = facts.fact(path)
    assert fact.low is not None
    assert fact.high is not None
    return float(fact.low ** (1.0 - share) * fact.high**share)


def recovered(found: Calibration, truth: dict[str, float]) -> None:
    """Each changed constant is identified, lies in its new range, and nearer to the truth than it was."""
    known = {one.path: one for one in found.constants}
    for path, value in truth.items():
        one = known[path]
        assert one.verdict == "identified", path
        assert one.low <= value <= one.high, (path, one.low, value, one.high)
        assert abs(np.log(one.value / value)) < abs(np.log(one.today / value)), path
        assert one.narrowed < 0.75


def narrower(found: Calibration) -> None:
    for one in found.constants:
        assert one.today_low <= one.low <= one.value <= one.high <= one.today_high, one
        assert one.narrowed <= 1.0


def test_changed_links_of_trainium_are_recovered_from_nccom_test(facts: Facts, tmp_path: Path) -> None:
    truth = {
        "networks.collectives.neuroncore-v4.ring_efficiency": 0.75,
        "networks.collectives.neuroncore-v4.base": moved(facts, "networks.collectives.neuroncore-v4.base", 0.85),
    }
    log = tmp_path / "nccom.log"
    changed = facts.with_values(truth)
    log.write_text(nccom_log(collective_times(changed, "trn3:4", "all-reduce", 16), 16), encoding="utf-8")
    found = calibrate(CalibrateRequest(facts=facts, files=(log,)), setup=setup_of("trn3:4"))
    narrower(found)
    assert found.after.median is not None
    assert found.before.median is not None
    assert found.after.median < 0.25 * found.before.median
    known = {one.path: one for one in found.constants}
    base = known["networks.collectives.neuroncore-v4.base"]
    assert base.low <= truth[base.path] <= base.high


def setup_of(on: str, model: str = "", software: str = "", **plan: str) -> Setup:
    return Setup(on=on, model=model, software=software, plan=plan)


def test_changed_links_are_recovered_from_nccl_tests(facts: Facts, tmp_path: Path) -> None:
    path = "networks.collectives.hopper.ring_efficiency"
    truth = {path: moved(facts, path, 0.1)}
    files = []
    for ranks in (2, 4):
        files.append(tmp_path / f"r{ranks}.log")
        times = collective_times(facts.with_values(truth), f"h100:{ranks}", "all-gather", ranks)
        files[-1].write_text(nccl_log(times, ranks, "all-gather"), encoding="utf-8")
    found = calibrate(CalibrateRequest(facts=facts, files=tuple(files)), setup=setup_of("h100"))
    recovered(found, truth)
    narrower(found)
    assert [(x.format, x.points, x.refused) for x in found.files] == [("nccl-tests", len(SIZES), 0)] * 2


RUNS = [
    {"model_name": m, "model_ref": m, "n_chips": n, "TP": tp, "PP": pp, "global_batch_seqs": b, "seq_len": s}
    for m, n, tp, pp, b, s in (
        ("llama-3.1-8b", "64", "4", "1", "256", "8192"),
        ("llama-3.1-8b", "64", "8", "1", "256", "8192"),
        ("llama-3.1-8b", "128", "4", "1", "512", "4096"),
        ("llama-3.1-70b", "256", "8", "4", "512", "8192"),
        ("llama-3.1-70b", "128", "8", "8", "256", "4096"),
        ("llama-3.2-1b", "16", "1", "1", "128", "8192"),
        ("llama-3.1-8b", "32", "8", "1", "64", "32768"),
        ("llama-3.1-8b", "16", "4", "1", "64", "2048"),
    )
]


def test_a_changed_trainium_is_recovered_from_training_steps(facts: Facts, tmp_path: Path) -> None:
    """Two constants that no published step of Trainium 3 fixes; the page of facts says so by their wide ranges."""
    truth = {"devices.neuroncore-v4.attention": 0.33, "devices.neuroncore-v4.product_16": 0.75}
    runs = [{**run, "chip": "trn3", "precision": "bf16", "micro_batch": "1", "stack": "neuron"} for run in RUNS]
    table = tmp_path / "steps.csv"
    table.write_text(training_csv(runs, facts.with_values(truth)), encoding="utf-8")
    found = calibrate(CalibrateRequest(facts=facts, files=(table,), out=tmp_path / "my.yaml"))
    narrower(found)
    known = {one.path: one for one in found.constants}
    for path, value in truth.items():
        assert known[path].low <= value <= known[path].high, known[path]
    assert found.after.median is not None
    assert found.left_out.median is not None
    assert found.before.median is not None
    assert found.after.median < 0.03 < found.before.median
    assert found.left_out.median < 0.5 * found.before.median

    mine = load_facts([tmp_path / "my.yaml"])
    again = calibrate(CalibrateRequest(facts=mine, files=(table,)))
    assert again.before.median == pytest.approx(found.after.median, rel=1e-2)


SMALL = {"chip": "h200", "n_chips": "1", "tp": "1", "model": "llama-3.1-8b", "precision": "bf16", "mode": "online"}
SERVED = {"chip": "h200", "n_chips": "8", "tp": "8", "model": "llama-3.1-70b", "precision": "bf16", "mode": "online"}


@pytest.mark.parametrize("engine", ["vllm", pytest.param("sglang", marks=pytest.mark.slow)])
def test_a_changed_engine_is_recovered_from_its_benchmarks(facts: Facts, tmp_path: Path, engine: str) -> None:
    path = f"serving.{engine}.front_end"
    truth = {path: moved(facts, path, 0.9)}
    changed = facts.with_values(truth)
    make = vllm_json if engine == "vllm" else sglang_json
    objects = []
    for isl, osl, users in itertools.product((128, 512, 2048), (64, 256), (1, 2, 8, 16)):
        cells = {**SMALL, "framework": engine, "isl": str(isl), "osl": str(osl), "concurrency": str(users)}
        objects.append(make(isl, osl, users, *served(cells, changed)))
    file = tmp_path / "bench.jsonl"
    file.write_text(json_lines(objects), encoding="utf-8")
    found = calibrate(
        CalibrateRequest(facts=facts, files=(file,)), setup=setup_of("h200:1", "llama-3.1-8b", tp="1", precision="bf16")
    )
    assert not found.refused
    narrower(found)
    recovered(found, truth)
    assert found.left_out.median is not None
    assert found.before.median is not None
    assert found.left_out.median < found.before.median


@pytest.mark.parametrize(
    ("said", "engine"), [("", "vllm-neuron"), pytest.param("nxdi-nki", "nxdi-nki", marks=pytest.mark.slow)]
)
def test_vllm_on_trainium_is_the_engine_of_its_chip(facts: Facts, tmp_path: Path, said: str, engine: str) -> None:
    """A log of vLLM says "vllm" on every chip; on Trainium that is another engine, unless the user names one."""
    objects = [vllm_json(1024, 128, users, 150.0, 9.0) for users in (1, 2)]
    file = tmp_path / "bench.jsonl"
    file.write_text(json_lines(objects), encoding="utf-8")
    found = calibrate(
        CalibrateRequest(facts=facts, files=(file,)),
        setup=setup_of("trn3:1", "qwen3-30b-a3b", said, tp="4", precision="bf16"),
    )
    assert not found.refused
    assert f"serving.{engine}.moe_layer" in found.asked
    assert not any(path.startswith("serving.vllm.") for path in found.asked)


@pytest.mark.slow
def test_half_of_the_rows_of_one_chip_brings_large_errors_of_the_other_half_down(tmp_path: Path) -> None:
    """Figures in docs/read/calibrate.md."""
    own, other = tool.halves_of("GB200", tmp_path)
    got = tool.half_for_other(own, other, tmp_path)
    assert got.constants
    assert got.before.n == got.after.n > 40
    assert got.before.p90_abs_error is not None
    assert got.after.p90_abs_error is not None
    assert got.after.p90_abs_error < got.before.p90_abs_error


def test_a_run_that_moves_no_constant_stands_beside_the_rows_that_ship(
    facts: Facts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = {**SERVED, "framework": "vllm", "isl": "1024", "osl": "256", "concurrency": "16"}
    file = tmp_path / "bench.json"
    file.write_text(json_lines([vllm_json(1024, 256, 16, *served(cells, facts))]), encoding="utf-8")
    out = tmp_path / "my.yaml"
    words = ["--on", "h200:8", "--model", "llama-3.1-70b", "--plan", "tp=8,precision=bf16", "--plain"]
    assert cli.run(["calibrate", str(file), *words, "--out", str(out)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "2 measured points identify no constant. 2 measured rows of yours stand beside those that ship." in said
    assert "nothing could be left out" in said
    known = load_facts([out])
    assert known.number("serving.vllm.step") == facts.number("serving.vllm.step")
    assert [row.id for row in read_rows(known.text(OWN_ROWS))] == [file.name] * 2


def test_a_measurement_beyond_a_range_stops_at_its_end_unless_it_may_widen(facts: Facts, tmp_path: Path) -> None:
    path = "networks.collectives.hopper.ring_efficiency"
    fact = facts.fact(path)
    assert fact.low is not None
    times = collective_times(facts.with_values({path: 0.7 * fact.low}), "h100:4", "all-gather", 4)
    log = tmp_path / "far.log"
    log.write_text(nccl_log(times, 4, "all-gather"), encoding="utf-8")
    kept = calibrate(CalibrateRequest(facts=facts, files=(log,)), setup=setup_of("h100"))
    narrower(kept)
    assert next(one for one in kept.constants if one.path == path).stopped
    assert any(path in text and "--widen" in text for text in kept.warnings)
    wide = calibrate(CalibrateRequest(facts=facts, files=(log,), widen=True), setup=setup_of("h100"))
    one = next(one for one in wide.constants if one.path == path)
    assert one.widened
    assert one.value < fact.low
    assert any("outside today's range" in text for text in wide.warnings)


def test_ranges_hold_the_truth_of_random_machines(facts: Facts, tmp_path: Path) -> None:
    """Machines drawn from the ranges of their facts, measured with a scatter of 3%: nine of ten true constants lie in
    the new ranges, no range is wider than it was, and left-out points are off by not much more than the scatter."""
    rng = random.Random(7)
    held, n, errors = 0, 0, []
    for trial in range(24):
        on, ranks = rng.choice((("h100:8", 8), ("trn3:4", 16), ("trn2:4", 16), ("gb300:16", 16)))
        system = equip(facts, on)
        paths = sorted({p for k, p in uncertain(system, facts).items() if not k.startswith(("efficiency.", "stack."))})
        truth = {path: moved(facts, path, min(1.0, max(0.0, rng.gauss(0.5, 0.3)))) for path in paths}
        log = tmp_path / f"{trial}.log"
        times = collective_times(facts.with_values(truth), on, "all-reduce", ranks)
        scattered = [t * float(np.exp(rng.gauss(0.0, 0.03))) for t in times]
        log.write_text(nccl_log(scattered, ranks), encoding="utf-8")
        found = calibrate(CalibrateRequest(facts=facts, files=(log,)), setup=setup_of(on))
        narrower(found)
        errors.append(found.left_out.median)
        for one in found.constants:
            n += 1
            held += one.low * (1 - 1e-9) <= truth[one.path] <= one.high * (1 + 1e-9)
    assert n >= 40
    assert held / n >= 0.85, (held, n)
    assert np.median([e for e in errors if e is not None]) < 0.1


def test_the_same_files_give_the_same_bytes_and_explain_names_the_overlay(
    facts: Facts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = "networks.collectives.hopper.ring_efficiency"
    times = collective_times(facts.with_values({path: moved(facts, path, 0.2)}), "h100:8", "all-gather", 8)
    log, out, saved = tmp_path / "a.log", tmp_path / "mine.yaml", tmp_path / "r.json"
    log.write_text(nccl_log(times, 8, "all-gather"), encoding="utf-8")
    results = [
        mowich.calibrate(log, on="h100", out=out),
        mowich.calibrate([str(log)], on="h100", out=str(out), plan={"kind": "all-gather"}),
    ]
    assert results[0].overlay == results[1].overlay == out.read_text(encoding="utf-8")
    asked = {"inputs": {}, "digest": ""}  # the question is put in other words
    assert to_json({**results[0].to_dict(), **asked}) == to_json({**results[1].to_dict(), **asked})
    command = [
        "collective",
        "all-gather",
        "--on",
        "h100:8",
        "--bytes",
        "1GiB",
        "--facts",
        str(out),
        "--out",
        str(saved),
    ]
    assert cli.run([*command, "--quiet"]) == 0
    capsys.readouterr()
    assert cli.run(["explain", str(saved), "1.time_s", "--plain"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "calibration mine.yaml, mowich calibrate a.log" in said


def test_an_answer_is_no_wider_with_the_overlay(facts: Facts, tmp_path: Path) -> None:
    """Ranges of facts narrow, and none counts that did not count before."""
    truth = {"devices.neuroncore-v4.product_16": 0.7}
    runs = [{**run, "chip": "trn3", "precision": "bf16", "micro_batch": "1", "stack": "neuron"} for run in RUNS]
    table = tmp_path / "steps.csv"
    table.write_text(training_csv(runs, facts.with_values(truth)), encoding="utf-8")
    calibrate(CalibrateRequest(facts=facts, files=(table,), out=tmp_path / "my.yaml"))

    def width(known: Facts) -> float:
        train = {"tokens": "1T", "seq": 8192, "batch": "256seqs"}
        fixed = {"tp": "2", "pp": "1", "precision": "bf16"}
        step = mowich.plan("llama-3.1-8b", "trn3:64", train=train, fixed=fixed, facts=known).rows[0].step_s
        assert step.low is not None
        assert step.high is not None
        return float(np.log(step.high / step.low))

    assert width(load_facts([tmp_path / "my.yaml"])) < 0.95 * width(facts)


def test_numbers_of_a_system_are_replaced_by_their_names(facts: Facts) -> None:
    """Every name with a range is one that `with_numbers` knows, and its own value changes nothing."""
    rng = random.Random(5)
    for spec in ("trn3:64", "h100:64", "ironwood:64", "gb300:72", "trn2:16"):
        system = equip(facts, spec)
        names = uncertain(system, facts)
        assert names
        same = with_numbers(system, {name: facts.number(path) for name, path in names.items()})
        assert same == system
        name = rng.choice(sorted(names))
        assert with_numbers(system, {name: 1.01 * facts.number(names[name])}) != system
    system = equip(facts, "ironwood:64")
    assert any(level.joins_fabrics for level in system.levels)
    path = system.paths["scale_out.bandwidth"]
    slower = equip(facts.with_values({path: 0.9 * facts.number(path)}), "ironwood:64").levels
    levels = with_numbers(system, {"scale_out.bandwidth": 0.9 * facts.number(path)}).levels
    assert [x.bandwidth_Bps for x in levels] == pytest.approx([x.bandwidth_Bps for x in slower])
    with pytest.raises(KeyError):
        with_numbers(equip(facts, "h100"), {"domain.width": 1.0})


def test_the_command_is_made_again_from_the_result(facts: Facts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text(nccl_log(collective_times(facts, "h100:8", "all-gather", 8), 8, "all-gather"), encoding="utf-8")
    found = mowich.calibrate(log, on="h100:8", plan="kind=all-gather,ranks=8")
    assert command_of(found.to_dict()) == f"mowich calibrate {log} --on h100:8 --plan kind=all-gather,ranks=8"
    assert json.loads(to_json(found.to_dict()))["schema"] == "mowich/calibrate@1"


def test_no_measurement_that_is_usable_is_an_error(facts: Facts, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text(nccl_log([1e-9] * len(SIZES), 8), encoding="utf-8")
    with pytest.raises(UserError, match="times the fastest link"):
        calibrate(CalibrateRequest(facts=facts, files=(log,)), setup=setup_of("h100"))


KERNELS = Path(__file__).resolve().parents[2] / "kernels"
PROFILED = {
    "softmax": ("softmax", "x=float32[128,64]"),
    "rmsnorm": ("rmsnorm", "x=bfloat16[128,512]", "weight=bfloat16[1,512]"),
    "add": ("add", "x=float32[128,512]", "y=float32[128,512]"),
}


def profiled(folder: Path, name: str, *more: str) -> Path:
    """The tables of a kernel's profile."""
    kernel, *arguments = PROFILED[name]
    words = ["kernel", "profile", str(KERNELS / f"{name}.py"), "-k", kernel, *arguments, "--target", "trn3", "-q"]
    assert cli.run([*words, "--parquet", str(folder), *more]) == 0
    return folder


def test_a_changed_clock_is_recovered_from_neuron_explorer_tables(
    facts: Facts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Kernels of a core whose transfers are slower to start, beside their simulated profiles; and the overlay moves the
    clock."""
    pytest.importorskip("duckdb")
    path = "neuroncore.timing-v4.dma.issue"
    truth = moved(facts, path, 0.95)
    folders = []
    for name in PROFILED:
        simulated = profiled(tmp_path / f"sim-{name}", name)
        folders.append(profiled(tmp_path / name, name, "--set", f"{path}={truth * 1e9:.4f} ns"))
        beside = folders[-1].with_name(f"{name}.setup.yaml")
        beside.write_text(f"on: trn3\nsimulated: {simulated}\n", encoding="utf-8")
    out = tmp_path / "my.yaml"
    found = calibrate(CalibrateRequest(facts=facts, files=tuple(folders), out=out))
    narrower(found)
    known = {one.path: one for one in found.constants}
    assert path in known, known
    assert known[path].low <= truth <= known[path].high
    assert known[path].value > known[path].today
    assert found.after.median is not None
    assert found.before.median is not None
    assert found.after.median < found.before.median
    capsys.readouterr()
    words = ["kernel", "profile", str(KERNELS / "softmax.py"), "-k", *PROFILED["softmax"], "--target", "trn3", "--json"]
    times = []
    for more in ((), ("--facts", str(out))):
        assert cli.run([*words, *more]) == 0
        times.append(json.loads(capsys.readouterr().out)["time_s"]["value"])
    assert times[1] > times[0]


def test_a_folder_that_is_no_profile_gives_one_line(tmp_path: Path) -> None:
    pytest.importorskip("duckdb")
    folder = tmp_path / "prof"
    folder.mkdir()
    with pytest.raises(UserError, match=r"no Summary\.parquet"):
        calibrate(CalibrateRequest(facts=load_facts(), files=(folder,)))
    (folder / "Summary.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(UserError, match=r"Summary\.parquet: not a Parquet table") as raised:
        calibrate(CalibrateRequest(facts=load_facts(), files=(folder,)))
    assert "\n" not in raised.value.line()
    made = profiled(tmp_path / "made", "softmax")
    with pytest.raises(UserError, match=r"the simulated profile of the same kernel \(--plan"):
        calibrate(CalibrateRequest(facts=load_facts(), files=(made,)), setup=setup_of("trn3"))
    longer = tmp_path / "longer"
    words = ["kernel", "profile", str(KERNELS / "softmax.py"), "-k", "softmax", "x=float32[4096,2048]", "-q"]
    assert cli.run([*words, "--target", "trn3", "--parquet", str(longer)]) == 0
    with pytest.raises(UserError, match="another kernel, or other shapes"):
        calibrate(CalibrateRequest(facts=load_facts(), files=(made,)), setup=setup_of("trn3", simulated=str(longer)))
