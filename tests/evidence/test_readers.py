"""Readers of measurements: what each format gives, and one line for what is malformed, contradictory or missing."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

import mowich
from measured_files import (
    GOOD,
    INFERENCEX,
    LLMPERF,
    MAXTEXT,
    MEGATRON,
    SIZES,
    TIMES,
    TITAN,
    TITAN_NEURON,
    aiperf_json,
)
from measurements import nccl_log, sglang_json, vllm_json
from mowich import cli
from mowich.errors import UserError
from mowich.evidence.fitting.serving import row_of_serving
from mowich.evidence.fitting.training import row_of_training
from mowich.evidence.readers.read import FILE_FORMATS, FORMAT_NAMES, read_measurements, read_stated
from mowich.evidence.readers.record import Reading
from mowich.evidence.readers.setup import Setup
from mowich.facts import Facts
from mowich.requests.calibrate import CalibrateRequest
from mowich.studies.calibrate import calibrate


def written(folder: Path, name: str, text: str) -> Path:
    file = folder / f"{name}.log"
    file.write_text(text, encoding="utf-8")
    return file


def test_every_format_has_a_file_here() -> None:
    assert set(GOOD) == set(FORMAT_NAMES)


@pytest.mark.share(2)
@pytest.mark.share(3)
@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_a_file_is_known_by_its_content_and_predicted(name: str, facts: Facts, tmp_path: Path) -> None:
    text, setup, count = GOOD[name]
    file = written(tmp_path, name, text)
    assert sum(f.looks(text) for f in FILE_FORMATS[: FORMAT_NAMES.index(name) + 1]) == 1, "no format before takes it"
    reading = read_measurements(file, setup)
    assert len(reading.records) == count
    assert reading.refused == ()
    found = calibrate(CalibrateRequest(facts=facts, files=(file,)), setup=setup)
    assert [one.reason for one in found.refused] == []
    assert len({row.point.where for row in found.rows}) == count
    assert all(row.point.where.startswith(str(file)) for row in found.rows)


def one_line(error: UserError, file: Path) -> str:
    said = error.line()
    assert "\n" not in said
    assert said.startswith(str(file))
    return said


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_a_file_of_another_kind_gives_one_line(name: str, tmp_path: Path) -> None:
    for other in ("nothing here\n", "{}", "[1, 2", '{"a": 1,,}', "a,b\n1\n", "\x00\x01"):
        file = written(tmp_path, "other", other)
        with pytest.raises(UserError) as raised:
            read_measurements(file, Setup(), name)
        one_line(raised.value, file)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_a_file_cut_or_spoilt_anywhere_gives_lines_or_measurements(name: str, facts: Facts, tmp_path: Path) -> None:
    """Whatever is cut out or overwritten: measurements, refusals with a place, or one line for each problem."""
    rng = random.Random(11)
    text, setup, _ = GOOD[name]
    for _ in range(25):
        at, length = rng.randrange(len(text)), rng.choice((1, 3, 20, 200))
        filled = rng.choice(("", "x", "-", "999999999", "\n", '"'))
        file = written(tmp_path, "spoilt", text[:at] + filled + text[at + length :])
        assert all(str(file) in line for line in refusals(tmp_path, facts, "", setup, file=file, name=name))


def refusals(
    folder: Path, facts: Facts, text: str, setup: Setup, *, file: Path | None = None, name: str | None = None
) -> list[str]:
    """What is said of a file, line by line: its refused measurements, or the error. file: in the place of `text`."""
    file = file or written(folder, "bad", text)
    try:
        found = calibrate(CalibrateRequest(facts=facts, files=(file,), format=name), setup=setup)
    except UserError as error:
        return error.line().splitlines()
    return [f"{one.where}: {one.reason}" for one in found.refused]


def test_what_contradicts_itself_is_refused_by_file_and_line(facts: Facts, tmp_path: Path) -> None:
    serve = GOOD["vllm"][1]
    whole = vllm_json(1024, 256, 16, 90.0, 12.0)
    for changed, words in (
        (whole | {"mean_tpot_ms": 0.012, "mean_ttft_ms": 0.09}, "Little's law"),  # seconds in a field of ms
        (whole | {"max_concurrency": 64}, "Little's law"),
        (whole | {"output_throughput": 1.0}, "wrong units"),
        (whole | {"request_throughput": 5000.0}, "wrong units"),
        (whole | {"mean_e2el_ms": 3.15}, "wrong units"),
        (whole | {"mean_tpot_ms": -1.0}, "-1 ms"),
        (whole | {"completed": 0}, "no request was completed"),
        (whole | {"max_concurrency": None}, "the number of users is not known"),
    ):
        (said,) = refusals(tmp_path, facts, json.dumps(changed), serve)
        assert words in said, said
        assert said.startswith(str(tmp_path / "bad.log"))
    (said,) = refusals(tmp_path, facts, json.dumps(INFERENCEX | {"mean_tpot": 18.2}), Setup())
    assert "is not 1: wrong units" in said
    (said,) = refusals(tmp_path, facts, json.dumps(INFERENCEX | {"disagg": True}), Setup())
    assert "disaggregated" in said
    (said,) = refusals(
        tmp_path, facts, json.dumps(LLMPERF | {"results_inter_token_latency_s_mean": 9.6}), GOOD["llmperf"][1]
    )
    assert "is not the 1.44 s of a request" in said

    log = nccl_log(TIMES, 8, sizes=SIZES)
    lines = log.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("  1048576"))
    lines[at] = lines[at].replace("40.000", "0.040", 1)
    (said,) = refusals(tmp_path, facts, "\n".join(lines), Setup(on="h100"))
    assert said.startswith(f"{tmp_path / 'bad.log'}:{at + 1}: algbw")
    assert len(refusals(tmp_path, facts, log, Setup(on="h100:8", plan={"ranks": "4"}))) == 3
    (*_, said) = refusals(tmp_path, facts, log.replace("all_reduce_perf", "all_gather_perf"), Setup(on="h100"))
    assert "another collective, or other ranks" in said


def test_a_training_log_beyond_the_peak_is_refused(facts: Facts, tmp_path: Path) -> None:
    titan, megatron = GOOD["torchtitan"][1], GOOD["megatron"][1]
    (said,) = refusals(tmp_path, facts, TITAN.replace("mfu: 43.49%", "mfu: 143.49%"), titan)
    assert "above 100%" in said
    (said,) = refusals(tmp_path, facts, MEGATRON.replace("(ms): 45", "(ms): 4"), megatron)
    assert "would be an MFU of" in said
    (said,) = refusals(tmp_path, facts, TITAN.replace("tflops: 430.12", "tflops: 43.0"), titan)
    assert "FLOP a token" in said
    (said,) = refusals(tmp_path, facts, MAXTEXT.replace("seconds: 4.400", "seconds: 44.00"), GOOD["maxtext"][1])
    assert "wrong units" in said
    (said,) = refusals(
        tmp_path, facts, MEGATRON.replace("global batch size:   256", "global batch size:   128"), megatron
    )
    assert "ramping up" in said
    table = "id,chip,n_chips,model_name,model_ref,n_layers,hidden,seq_len,precision,global_batch_seqs,TP,PP,"
    table += "primary_metric,step_time_s,tokens_per_s_total\n"
    table += "a,h100,64,llama-3.1-8b,llama-3.1-8b,,,8192,bf16,256,2,1,step_time_s,4.5,46603\n"
    (said,) = refusals(tmp_path, facts, table, Setup())
    assert said.startswith(f"{tmp_path / 'bad.log'}:2: step_time_s")
    assert "wrong units or batch" in said


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vllm", "the system (--on), nor the plan (--plan tp=8)"),
        ("llmperf", "the engine (--software)"),
        ("nccl-tests", "the system (--on)"),
        ("torchtitan", "the model (--model)"),
        ("megatron", "the system (--on), nor the model (--model)"),
    ],
)
def test_what_a_log_does_not_state_is_asked_for_in_one_line(name: str, words: str, tmp_path: Path) -> None:
    file = written(tmp_path, "a", GOOD[name][0])
    with pytest.raises(UserError) as raised:
        read_measurements(file, Setup())
    assert words in one_line(raised.value, file)
    assert ".setup.yaml" in raised.value.line()


def test_a_setup_beside_the_file_counts_before_the_options(tmp_path: Path) -> None:
    text = GOOD["vllm"][0]
    file = written(tmp_path, "a", text)
    beside = tmp_path / "a.log.setup.yaml"
    beside.write_text("on: h200:8\nmodel: llama-3.1-70b\ntp: 8\n", encoding="utf-8")
    (record,) = read_measurements(file, Setup(on="h100:4", plan={"precision": "bf16"})).records
    assert (record.cells["chip"], record.cells["n_chips"], record.cells["tp"]) == ("h200", "8", "8")
    assert record.cells["precision"] == "bf16"
    beside.write_text("on: h200:8\nmodle: llama-3.1-70b\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.log\.setup\.yaml:2: unknown key of a setup 'modle'.*did you mean 'model'"):
        read_measurements(file, Setup())


def test_a_setup_that_contradicts_the_file_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, "a", MEGATRON)
    found: Reading = read_measurements(file, Setup(on="h100", model="llama-3.1-8b", plan={"tp": "4"}))
    assert not found.records
    assert found.refused[0].reason == "TP: the file states 2, and the options say 4: one is wrong"


def test_warm_up_steps_are_left_out(tmp_path: Path) -> None:
    titan = read_measurements(written(tmp_path, "t", TITAN), GOOD["torchtitan"][1]).records[0]
    assert titan.cells["device_tokens_per_s"] == "7406.5"
    megatron = read_measurements(written(tmp_path, "m", MEGATRON), GOOD["megatron"][1]).records[0]
    assert megatron.cells["step_time_s"] == "4.535"
    assert {c: megatron.cells[c] for c in ("TP", "PP", "n_chips", "precision", "recompute", "SP")} == {
        "TP": "2",
        "PP": "1",
        "n_chips": "64",
        "precision": "bf16",
        "recompute": "none",
        "SP": "yes",
    }


def test_a_log_of_torchtitan_on_trainium_states_its_plan_and_counts_logical_cores(facts: Facts, tmp_path: Path) -> None:
    """What `--emit torchtitan` launches comes back: stack, plan and batch from the log, rates of ranks as of chips."""
    file = written(tmp_path, "t", TITAN_NEURON)
    for on, stack, each in (("trn2", "torchtitan-neuron", 4), ("h100", "pytorch-fsdp", 1)):
        (record,) = read_measurements(file, Setup(on=on, model="llama-3.1-8b")).records
        row = row_of_training(record.cells, record.where, facts)
        assert (row["stack"], row["n_chips"]) == (stack, str(64 // each))
        assert float(row["tokens_per_s_per_chip"]) == each * float(record.cells["device_tokens_per_s"])
        kept = {"TP": "4", "DP": "16", "fsdp_zero": "3", "global_batch_seqs": "64", "recompute": "selective"}
        assert {name: row[name] for name in kept} == kept
    found = calibrate(CalibrateRequest(facts=facts, files=(file,)), setup=Setup(on="trn2", model="llama-3.1-8b"))
    assert len(found.rows) == 1
    assert "training.torchtitan-neuron.speed" in found.asked
    (said,) = refusals(tmp_path, facts, TITAN_NEURON, Setup(on="trn2:8", model="llama-3.1-8b"))
    assert "16" in said
    newer = TITAN_NEURON.replace(
        "local batch size 1, global batch size 64, gradient accumulation steps 4, sequence length 4096",
        "4096 tokens per DP rank, 262144 tokens per train step, gradient accumulation steps 4,"
        " maximum context length 4096",
    ).replace("Applied selective", "Applied FullAC")
    (record,) = read_measurements(written(tmp_path, "n", newer), Setup(on="trn2", model="llama-3.1-8b")).records
    assert (record.cells["global_batch_seqs"], record.cells["recompute"]) == ("64", "full")


def test_what_vllm_prints_on_trainium_is_read(facts: Facts, tmp_path: Path) -> None:
    """The table says what the JSON of the same run says; a server's log gives tokens of all engines under full load,
    with the plan of its arguments, and is of the engine of its chip."""
    same = {"completed": 64, "duration": 12.6, "total_input_tokens": 65536, "total_output_tokens": 16384}
    same |= {"mean_ttft_ms": 90.0, "mean_tpot_ms": 12.0, "max_concurrency": 16, "backend": "vllm"}
    _, setup, _ = GOOD["vllm-table"]
    (table,) = read_measurements(written(tmp_path, "t", GOOD["vllm-table"][0]), setup).records
    (data,) = read_measurements(written(tmp_path, "j", json.dumps(same)), setup).records
    for name in ("isl", "osl", "concurrency", "ttft_ms", "tpot_ms", "framework"):
        assert table.cells[name] == data.cells[name], name
    text, setup, _ = GOOD["vllm-server"]
    (record,) = read_measurements(written(tmp_path, "s", text), setup).records
    kept = {"tp": "4", "dp": "2", "ep": "8", "precision": "mxfp4", "kv_precision": "fp8", "concurrency": "16"}
    assert {name: record.cells[name] for name in kept} == kept
    assert float(record.cells["output_tok_s"]) == pytest.approx(2 * 403.0)
    assert row_of_serving(record.cells, record.where, facts)["framework"] == "vllm-neuron"
    idle = text.replace("Running: 8", "Running: 0").replace("Running: 3", "Running: 0")
    (said,) = refusals(tmp_path, facts, idle, setup)
    assert "no token was generated under a load" in said
    short = written(tmp_path, "u", GOOD["vllm-table"][0].replace("Total generated tokens", "Total made tokens"))
    with pytest.raises(UserError, match="without Total generated tokens"):
        read_measurements(short, setup)


def test_the_time_per_token_of_llmperf_leaves_the_first_token_out(tmp_path: Path) -> None:
    (record,) = read_measurements(written(tmp_path, "l", GOOD["llmperf"][0]), GOOD["llmperf"][1]).records
    assert float(record.cells["tpot_ms"]) == pytest.approx(1e3 * (1.44 - 0.05) / 149)


def stated(folder: Path, data: dict[str, object]) -> dict[str, str]:
    """What a JSON result states of itself."""
    (record,) = read_stated(written(folder, "r", json.dumps(data))).records
    return dict(record.cells)


def test_percentiles_are_read_by_the_names_that_each_program_gives_them(tmp_path: Path) -> None:
    run = vllm_json(1024, 256, 16, 90.0, 12.0) | {"median_ttft_ms": 81.0, "p90_ttft_ms": 135.0, "p99_itl_ms": 40.0}
    cells = stated(tmp_path, run | {"p99_e2el_ms": 3465.0, "p99_tpot_ms": 14.4, "mean_itl_ms": 12.5})
    assert {
        name: cells[name] for name in ("p50_ttft_ms", "p90_ttft_ms", "p99_itl_ms", "p99_e2e_ms", "p99_tpot_ms")
    } == {
        "p50_ttft_ms": "81",
        "p90_ttft_ms": "135",
        "p99_itl_ms": "40",
        "p99_e2e_ms": "3465",
        "p99_tpot_ms": "14.4",
    }
    assert (cells["mean_itl_ms"], cells["tpot_ms"], cells["request_rate"]) == ("12.5", "12", "")
    assert cells["p99_ttft_ms"] == "", "what is not stated is not made up"
    assert stated(tmp_path, run | {"request_rate": 5.0})["request_rate"] == "5"
    cells = stated(tmp_path, sglang_json(1024, 256, 16, 90.0, 12.0) | {"p99_e2e_latency_ms": 3465.0})
    assert cells["p99_e2e_ms"] == "3465"
    assert stated(tmp_path, INFERENCEX | {"p99_ttft": 0.7, "p99_e2el": 20.0})["p99_ttft_ms"] == "700"
    assert stated(tmp_path, LLMPERF | {"results_ttft_s_quantiles_p90": 0.07})["p90_ttft_ms"] == "70"


def test_a_table_that_vllm_prints_has_the_percentiles_of_its_json(tmp_path: Path) -> None:
    table = GOOD["vllm-table"][0].replace(
        "Mean TPOT", "P99 TTFT (ms):      180.00\nMedian TTFT (ms):  81.00\nMean TPOT"
    )
    (record,) = read_stated(written(tmp_path, "t", table)).records
    assert (record.cells["p99_ttft_ms"], record.cells["p50_ttft_ms"]) == ("180", "81")


def test_aiperf_and_genai_perf_say_the_same_in_json_and_csv(tmp_path: Path) -> None:
    """Its inter-token latency is that of a request: the time per output token. A CSV says nothing of the load."""
    cells = stated(tmp_path, aiperf_json(16, 90.0, 12.0))
    (table,) = read_stated(written(tmp_path, "c", GOOD["aiperf-csv"][0])).records
    same = (
        "isl",
        "osl",
        "ttft_ms",
        "tpot_ms",
        "p50_ttft_ms",
        "p90_ttft_ms",
        "p99_ttft_ms",
        "p99_tpot_ms",
        "p99_e2e_ms",
    )
    assert {name: float(cells[name]) for name in same} == pytest.approx(
        {name: float(table.cells[name]) for name in same}
    )
    assert (cells["concurrency"], table.cells["concurrency"]) == ("16", "")
    assert cells["model"] == "meta-llama/Llama-3.1-70B-Instruct"


def test_the_load_of_aiperf_is_read_where_each_release_writes_it(tmp_path: Path) -> None:
    whole = aiperf_json(16, 90.0, 12.0)
    for config, users, rate in (
        ({"loadgen": {"concurrency": 16}, "endpoint": {"model_names": ["m"]}}, "16", ""),  # the first releases
        ({"model": ["m"], "concurrency": 16, "request_rate": None}, "16", ""),  # GenAI-Perf
        ({"model_names": ["m"], "perf_analyzer": {"stimulus": {"concurrency": 16}}}, "16", ""),
        (
            {"model": "m", "phases": [{"name": "profiling", "type": "poisson", "rate": 4.0, "concurrency": 99}]},
            "16",
            "4",
        ),
        ({"model": "m"}, "", ""),
    ):
        cells = stated(tmp_path, whole | {"input_config": config})
        assert (cells["concurrency"], cells["request_rate"], cells["model"]) == (users, rate, "m"), config


@pytest.mark.parametrize(
    ("rate", "cap", "users"), [(9.0, 16, "16"), (5.08, 400, "16"), ("inf", 16, "16"), (5.08, None, "16")]
)
def test_a_rate_and_a_cap_of_one_run_say_who_is_in_flight(
    rate: float | str, cap: int | None, users: str, tmp_path: Path
) -> None:
    """The cap where it is reached, else what the rate and the time of a request make."""
    cells = stated(tmp_path, vllm_json(1024, 256, 16, 90.0, 12.0) | {"request_rate": rate, "max_concurrency": cap})
    assert (cells["concurrency"], cells["request_rate"]) == (users, "" if rate == "inf" else f"{rate:g}")


def test_a_run_of_aiperf_that_is_not_whole_is_refused(facts: Facts, tmp_path: Path) -> None:
    whole, setup = aiperf_json(16, 90.0, 12.0), GOOD["aiperf"][1]
    for changed, words in (
        ({"was_cancelled": True}, "cancelled"),
        ({"is_complete": False, "incomplete_reason": "records stalled"}, "records stalled"),
        ({"time_to_first_token": None}, "no time to the first token"),
        ({"request_latency": {"unit": "ms", "avg": 3.15}}, "wrong units"),
        ({"output_token_throughput": {"unit": "tokens/sec", "avg": 10.0}}, "is not the 256 tokens of an answer"),
        ({"inter_token_latency": {"unit": "tokens", "avg": 12.0}}, "inter_token_latency: the unit is not a time"),
    ):
        (said,) = refusals(tmp_path, facts, json.dumps(whole | changed), setup)
        assert words in said, said
        assert said.startswith(str(tmp_path / "bad.log"))


def test_all_that_is_wrong_with_several_files_is_told_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [written(tmp_path, name, text) for name, text in (("a", ""), ("b", "words\n"), ("c", GOOD["vllm"][0]))]
    assert cli.run(["calibrate", *map(str, files), str(tmp_path / "none.json")]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 4
    assert all(line.startswith("error: ") for line in said)
    assert cli.run(["calibrate", str(files[2]), "--format", "vlm"]) == 2
    assert "did you mean 'vllm'" in capsys.readouterr().err
    assert cli.run(["calibrate", str(files[2]), "--plan", "tp8"]) == 2
    assert "--plan: not a choice of a plan" in capsys.readouterr().err


def test_ranks_are_devices_and_a_group_is_whole_chips(facts: Facts, tmp_path: Path) -> None:
    """Four chips of Trainium 3 are four ranks of a group, and sixteen logical cores."""
    rows = {}
    for column, count in (("group", 4), ("ranks", 4), ("ranks", 16)):
        table = f"system,kind,{column},bytes,time_us\ntrn3:4,all-reduce,{count},1073741824,9000\n"
        table += f"trn3:4,send-recv,{count},1024,9\n"
        found = calibrate(CalibrateRequest(facts=facts, files=(written(tmp_path, f"{column}{count}", table),)))
        rows[column, count] = found.rows[0].before
        assert [one.reason.split(";")[0] for one in found.refused] == ["unknown collective 'send-recv'"]
    own = mowich.collective("all-reduce", "trn3:4", sizes=[1073741824], group=4).rows[0].time_s
    assert rows["group", 4] == pytest.approx(float(own) * 1e6)
    assert len(set(rows.values())) == 3
