"""A log beside a forecast: a run as it was predicted is inside, another speed outside, and another setup gives no
verdict."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mowich
import mowich.studies.verify as study
from mowich import cli
from mowich.errors import UserError
from mowich.requests.result_check import check_result
from mowich.studies.explain import Explainer, metrics
from mowich.studies.verify import Verification

SERVE = {"isl": "1k", "osl": "200", "tpot": "20ms"}
TRAIN = {"tokens": "100B", "seq": 8192, "batch": "128seqs"}


@pytest.fixture(autouse=True)
def no_fit(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What calibrate makes of a log takes a second: it is asked where a test is about it."""
    if "calibrate" not in request.node.name:
        monkeypatch.setattr(study, "_made_of", lambda *given: ("not asked here", ""))


@cache
def served() -> Any:
    return mowich.plan("llama-3.1-8b", "h100:8", serve=SERVE, top=1)


@cache
def trained() -> Any:
    return mowich.plan("llama-3.1-8b", "h100:64", train=TRAIN, fixed={"zero": "3"}, top=1)


def users_of(answer: Any) -> int:
    from mowich.launch.serving_benchmark import sent_load

    data = answer.to_dict()
    return sent_load(data["inputs"], data["plans"][0], "").users


def bench(answer: Any, slower: float = 1.0, **other: Any) -> dict[str, Any]:
    """A result of vllm bench serve with the times of the forecast, so many times as long."""
    row, users = answer.rows[0], users_of(answer)
    ttft, tpot = 1e3 * slower * row.ttft_s.value, 1e3 * slower * row.tpot_s.value
    rate = row.tokens_per_s_per_chip.value * row.chips_used / slower
    done = 20 * users
    seconds = done * 200 / rate
    return {
        "backend": "vllm",
        "model_id": "meta-llama/Llama-3.1-8B-Instruct",
        "request_rate": "inf",
        "max_concurrency": users,
        "duration": seconds,
        "completed": done,
        "total_input_tokens": done * 1000,
        "total_output_tokens": done * 200,
        "request_throughput": done / seconds,
        "output_throughput": rate,
        "mean_ttft_ms": 1.4 * ttft,
        "median_ttft_ms": ttft,
        "mean_tpot_ms": tpot,
        **other,
    }


def titan(answer: Any, slower: float = 1.0, *, tp: int | None = None, batch: int | None = None) -> str:
    """A log of torchtitan with the speed of the forecast."""
    row = answer.rows[0]
    plan = row.plan
    rate = row.tokens_per_s_per_chip.value / slower
    head = (
        f"Building device mesh with parallelism: pp={plan.pp}, dp_replicate=1, dp_shard={plan.dp}, cp={plan.cp},"
        f" tp={tp or plan.tp}\nTrainer is initialized with local batch size {plan.micro_batch}, global batch size"
        f" {batch or round(row.global_batch_seqs)}, gradient accumulation steps 1, sequence length 8192\n"
    )
    return head + "".join(
        f"step: {n}  loss: 2.0  memory: 30.0GiB  tps: {rate:.4f}  tflops: 400.0\n" for n in range(1, 12)
    )


def verified(answer: Any, folder: Path, *texts: object) -> Verification:
    files = []
    for i, text in enumerate(texts):
        file = folder / f"run{i}.log"
        file.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
        files.append(file)
    return mowich.verify(answer, files)


def states(found: Verification) -> dict[str, str]:
    return {row.name: row.status for row in found.rows if row.status != "not predicted"}


def test_a_run_as_predicted_is_inside(tmp_path: Path) -> None:
    for answer, text in ((served(), bench(served())), (trained(), titan(trained()))):
        found = verified(answer, tmp_path, text)
        assert found.verdict == "inside"
        assert set(states(found).values()) == {"inside"}
        ratios = [row.ratio for row in found.rows if row.status == "inside"]
        assert ratios == pytest.approx([1.0] * len(ratios), rel=1e-6)
        assert found.causes == ()
        assert all(item.agrees is not False for item in found.setup)


def test_a_load_is_held_beside_its_percentiles(tmp_path: Path) -> None:
    load = {"isl": "1k", "osl": "200", "rate": "20rps", "p99_ttft": "2s"}
    answer = mowich.plan("llama-3.1-8b", "h100", serve=load)
    row = answer.rows[0]
    log = {
        **bench(served()),
        "max_concurrency": None,
        "request_rate": 20.0,
        "mean_ttft_ms": 1e3 * row.ttft_s.value,
        "p99_ttft_ms": 1e3 * (row.p99_ttft_s.high * 1.5),
        "mean_tpot_ms": 1e3 * row.tpot_s.value,
    }
    found = verified(answer, tmp_path, log)
    assert states(found) == {"ttft_s": "inside", "tpot_s": "inside", "p99_ttft_s": "above"}
    assert verified(answer, tmp_path, {**log, "request_rate": 30.0}).verdict == "another setup"


@settings(max_examples=3)
@given(slower=st.floats(0.2, 5.0))
def test_times_of_another_length_are_outside_on_their_side(
    slower: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    answer = served()
    found = verified(answer, tmp_path_factory.mktemp("logs"), bench(answer, slower))
    for row in found.rows:
        if row.predicted is None or row.status == "not predicted":
            continue
        assert row.predicted.low is not None
        assert row.predicted.high is not None
        assert row.ratio == pytest.approx(1.0 / slower, rel=1e-6)
        outside = not row.predicted.low <= row.measured <= row.predicted.high
        assert row.is_outside == outside
        is_longer = (row.status == "above") == (row.name != "tokens_per_s_per_chip")
        assert not outside or is_longer == (slower > 1.0)
    for cause in found.causes:
        assert (cause.factor > 1.0) == (slower > 1.0)


@settings(max_examples=5)
@given(
    other=st.sampled_from(
        [{"max_concurrency": 1}, {"total_input_tokens": 5}, {"total_output_tokens": 10}, {"tp": 2}, {"batch": 512}]
    ),
    slower=st.floats(0.3, 3.0),
)
def test_a_log_of_another_setup_is_no_verdict(
    other: dict[str, int], slower: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("logs")
    name, value = next(iter(other.items()))
    if name in ("tp", "batch"):
        found = verified(trained(), folder, titan(trained(), slower, **{name: value}))
    else:
        log = bench(served(), slower)
        value = value if name == "max_concurrency" else log[name] * value
        if name == "total_output_tokens":
            log["output_throughput"] = value / log["duration"]
        found = verified(served(), folder, {**log, name: value})
    assert found.verdict == "another setup"
    assert all(row.ratio is None for row in found.rows)
    assert found.causes == ()
    assert any(item.agrees is False for item in found.setup)


@pytest.mark.parametrize(("word", "same", "other"), [("isl", "1020", "2000"), ("concurrency", None, "1")])
def test_a_log_that_the_file_beside_it_contradicts_is_refused(
    word: str, same: str | None, other: str, tmp_path: Path
) -> None:
    log = {**bench(served()), "max_concurrency": users_of(served())}
    beside = tmp_path / "run0.log.setup.yaml"
    beside.write_text(f"{word}: {same or users_of(served())}\n")
    assert verified(served(), tmp_path, log).verdict == "inside"
    beside.write_text(f"{word}: {other}\n")
    found = verified(served(), tmp_path, log)
    assert found.verdict == "nothing to compare"
    assert not found.rows
    (refused,) = found.refused
    assert "run0.log.setup.yaml says" in refused.reason
    assert other in refused.reason


def test_the_order_of_logs_does_not_matter(tmp_path: Path) -> None:
    one, two = bench(served()), bench(served(), 3.0)
    first, second = verified(served(), tmp_path, one, two), verified(served(), tmp_path, two, one)
    assert first.verdict == second.verdict == "outside"
    assert sorted(r.measured for r in first.rows) == sorted(r.measured for r in second.rows)


def test_every_number_is_explained_with_what_calibrate_makes_of_it(tmp_path: Path) -> None:
    for answer, text in ((served(), bench(served(), 3.0)), (trained(), titan(trained(), 3.0))):
        data = verified(answer, tmp_path, text).to_dict()
        check_result(data, "here")
        explainer = Explainer(data, mowich.load_facts())
        for metric in metrics(data):
            assert explainer.explain(metric, sensitivity=False).says


def test_the_command_line_says_the_verdict_by_its_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r.json").write_text(json.dumps(served().to_dict()), encoding="utf-8")
    for name, slower, code in (("in.json", 1.0, 0), ("out.json", 3.0, 5)):
        Path(name).write_text(json.dumps(bench(served(), slower)), encoding="utf-8")
        assert cli.run(["verify", "r.json", name]) == code
        assert capsys.readouterr().out.startswith("Inside" if code == 0 else "Outside")
    assert cli.run(["verify", "r.json", "out.json", "--out", "v.json", "-q"]) == 5
    assert cli.run(["report", "v.json", "--html", "v.html"]) == 0
    assert "would have to take" in Path("v.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["r.json"], "LOG: needs a log"),
        (["r.json", "in.json", "--pick", "7"], "--pick: is not a row of the result, got '7'; allowed: 1 to 1, h100:8"),
        (["empty"], "empty: holds no forecast.json"),
        (["r.json", "none.json"], "none.json: cannot be read"),
        (["r.json", "train.log"], "train.log:13: measures training, and the forecast is of serving"),
        (["v.json", "in.json"], "v.json: no log measures this result, got 'verify@1'"),
        (["half.json", "in.json"], "half.json: not a whole result: KeyError 'system'"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("r.json").write_text(json.dumps(served().to_dict()), encoding="utf-8")
    Path("in.json").write_text(json.dumps(bench(served())), encoding="utf-8")
    Path("train.log").write_text(titan(trained()), encoding="utf-8")
    half = {"schema": "mowich/plan@1", "inputs": {"systems": []}, "plans": [{"tp": 1}]}
    Path("half.json").write_text(json.dumps(half), encoding="utf-8")
    Path("v.json").write_text(json.dumps(verified(served(), tmp_path, bench(served())).to_dict()), encoding="utf-8")
    assert cli.run(["verify", *words]) == 2
    errors = capsys.readouterr().err
    assert len(errors.splitlines()) == 1
    assert said in errors


def test_a_comparison_says_which_row(tmp_path: Path) -> None:
    answer = mowich.compare("llama-3.1-8b", ["h100:8", "h200:8"], serve=SERVE)
    file = tmp_path / "run.json"
    file.write_text(json.dumps(bench(served())), encoding="utf-8")
    with pytest.raises(UserError, match="which of them was run"):
        mowich.verify(answer, file)
    assert mowich.verify(answer, file, pick="h200:8").forecast.place == 2
