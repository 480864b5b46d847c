"""The verbs from Python: strings with units at the edge, the same answers as the command line, immutable results."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

import mowich
from mowich import cli
from mowich.errors import UserError

TRAIN = {"tokens": "1T", "seq": 4096, "batch": "512seqs"}


def test_the_public_names_are_there() -> None:
    for name in mowich.__all__:
        assert getattr(mowich, name) is not None
    with pytest.raises(AttributeError):
        mowich.no_such_verb  # noqa: B018


def test_compare_equals_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    found = mowich.compare("llama-3.1-8b", ["trn3", "h100"], train=TRAIN, chips=64)
    assert (
        cli.run(
            [
                "compare",
                "llama-3.1-8b",
                "--train",
                "--tokens",
                "1T",
                "--seq",
                "4096",
                "--batch",
                "512seqs",
                "--on",
                "trn3,h100",
                "--chips",
                "64",
                "--json",
            ]
        )
        == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert json.loads(json.dumps(found.to_dict()["rows"])) == told["rows"]


def test_plan_fit_and_explain() -> None:
    best = mowich.plan("llama-3.1-8b", "h100:64", train=TRAIN, top=2)
    assert len(best.rows) == 2
    assert best.rows[0].feasible
    assert mowich.fit("llama-3.1-8b", "h100:64", train=TRAIN) is True
    assert mowich.fit("deepseek-v3", "h100:8", train=TRAIN) is False
    told = mowich.explain(best, "1.step_s", model="llama-3.1-8b")
    assert told.estimate.value == best.rows[0].step_s.value


def test_training_software_is_named_as_on_the_command_line() -> None:
    own = mowich.plan("llama-3.1-8b", "h100:64", train=TRAIN, top=1, stack="jax-gpu")
    assert own.inputs["systems"][0]["stack"] == "jax-gpu"  # type: ignore[index]
    assert own.rows[0].step_s.value != mowich.plan("llama-3.1-8b", "h100:64", train=TRAIN, top=1).rows[0].step_s.value
    with pytest.raises(UserError, match="option of training"):
        mowich.plan("llama-3.1-8b", "h100:8", serve={"isl": "2k", "osl": "500"}, stack="jax-gpu")


def test_fit_and_goodput_take_what_the_command_line_does() -> None:
    assert mowich.fit("llama-3.1-8b", "h100:64", train=TRAIN, fixed={"tp": "1", "precision": "bf16"}, stack="jax-gpu")
    assert mowich.fit("llama-3.1-8b", "h100:1", kv="8k", engine="vllm", fixed={"weights": "fp8"})
    with pytest.raises(UserError, match="option of serving"):
        mowich.fit("llama-3.1-8b", "h100:64", train=TRAIN, engine="vllm")
    rows = mowich.goodput("h100:1024", days=5, strategies=["async"], samples=20).rows
    assert [row.strategy for row in rows] == ["async"]


def test_models_and_systems() -> None:
    assert mowich.load("gpt2").params == 124439808
    assert mowich.system("trn3-gen2*4").chips == 576
    assert mowich.system("trn3", chips=64).devices == 256


def test_batch_in_tokens_is_batch_in_sequences() -> None:
    one = mowich.compare("gpt2", ["h100:8"], train={"tokens": "1B", "seq": 1024, "batch": "512seqs"}).rows[0]
    two = mowich.compare("gpt2", ["h100:8"], train={"tokens": "1B", "seq": "1Ki", "batch": "524288"}).rows[0]
    assert one.step_s == two.step_s


def test_fixed_choices_and_results_do_not_change() -> None:
    row = mowich.compare("llama-3.1-8b", ["h100:64"], train=TRAIN, fixed={"tp": "8", "precision": "bf16"}).rows[0]
    assert row.plan is not None
    assert (row.plan.tp, row.plan.precision) == (8, "bf16")
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.chips_used = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ({"tokens": "1T", "seq": 4096}, "train.batch: is required with train"),
        ({**TRAIN, "sequence": 1}, "unknown key of train 'sequence'"),
        ({**TRAIN, "tokens": "-1"}, "train.tokens: must be at least 1"),
        ({**TRAIN, "seq": "many"}, "train.seq: not a count"),
        ({**TRAIN, "tokens": float("nan")}, "train.tokens"),
    ],
)
def test_bad_input_is_a_user_error(train: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as error:
        mowich.compare("gpt2", ["h100:8"], train=train)
    assert said in error.value.line()


def test_validate_answers() -> None:
    assert mowich.validate().to_dict()["schema"] == "mowich/validate@1"


def test_neighbours_pareto_and_sweep(tmp_path: Path) -> None:
    best = mowich.plan("llama-3.1-8b", "h100:16", train=TRAIN, top=1, fixed={"cp": "1"})
    reasons = mowich.neighbours(best, fixed={"cp": "1"})
    assert reasons.plan == best.rows[0].plan
    assert "slower" in reasons.sentence
    front = mowich.pareto(best, fixed={"cp": "1"})
    assert front[0].plan == best.rows[0].plan
    file = tmp_path / "s.yaml"
    file.write_text(
        "mowich: 1\nmodels: llama-3.1-8b\non: h100:16\nseq: 4096\nbatch: 512seqs\ntokens: 1T\nplan: {cp: 1}\n"
    )
    ((_, row),) = mowich.sweep(file).rows
    assert row.plan == best.rows[0].plan


def test_fabrics_long_runs_power_and_claims() -> None:
    [row] = mowich.collective("all-reduce", "trn3-gen2", sizes=["1GiB"], fail=["link:3"]).rows
    assert row.ranks == 144
    assert {r.strategy for r in mowich.goodput("h100:1024", days=10, samples=20).rows} == {
        "sync",
        "async",
        "memory",
        "elastic",
    }
    assert len(mowich.claims()) > 70
    assert mowich.power(["trn3-gen2"], cap_W=1e8)[0].chips_under_cap is not None


SERVE = {"isl": "4k", "osl": "1k", "ttft": "2s", "tpot": "30ms"}


def test_serving_equals_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    found = mowich.plan(
        "llama-3.1-8b", "h100:8", serve={**SERVE, "engine": "sglang", "cached": "50%"}, top=2, fixed={"tp": "1,2"}
    )
    args = [
        "plan",
        "llama-3.1-8b",
        "--serve",
        "--on",
        "h100:8",
        "--isl",
        "4k",
        "--osl",
        "1k",
        "--ttft",
        "2s",
        "--tpot",
        "30ms",
        "--top",
        "2",
    ]
    assert cli.run([*args, "--engine", "sglang", "--cached", "50%", "--set", "plan.tp=1,2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert json.loads(json.dumps(found.to_dict()["plans"])) == told["plans"]
    assert found.front
    two = mowich.compare("llama-3.1-8b", ["h100:8", "trn2:4"], serve=SERVE)
    assert [r.system for r in two.rows] == ["h100:8", "trn2:4"]
    seconds = mowich.compare("llama-3.1-8b", ["h100:8"], serve={"isl": 4000, "osl": 1000, "ttft": 2.0, "tpot": 0.03})
    assert seconds.rows[0].tpot_s == two.rows[0].tpot_s


@pytest.mark.parametrize(
    ("serve", "complaint"),
    [
        ({"isl": "4k"}, "serve.osl: is required with serve"),
        ({**SERVE, "tfft": "2s"}, "did you mean 'ttft'"),
        ({**SERVE, "tpot": -1.0}, "must be above 0"),
        ({**SERVE, "cached": 1.5}, "0 to 1"),
        ({**SERVE, "accept": 0.5}, "1 to 16"),
        ({**SERVE, "engine": "vlm"}, "did you mean 'vllm'"),
    ],
)
def test_serving_says_what_is_wrong(serve: dict[str, object], complaint: str) -> None:
    with pytest.raises(UserError) as error:
        mowich.plan("llama-3.1-8b", "h100:8", serve=serve)
    assert complaint in str(error.value)


def test_one_job_at_a_time() -> None:
    with pytest.raises(UserError, match="either train or serve"):
        mowich.plan("llama-3.1-8b", "h100:8", train=TRAIN, serve=SERVE)  # type: ignore[call-overload]
    with pytest.raises(UserError, match="either train or serve"):
        mowich.compare("llama-3.1-8b", ["h100:8"])  # type: ignore[call-overload]


def test_traffic_of_a_scenario(tmp_path: Path) -> None:
    path = tmp_path / "chat.yaml"
    path.write_text(
        "mowich: 1\nmodel: llama-3.1-8b\non: h100:1\ntraffic: {rate: 2, requests: 20, prompt: 500, output: 50}\n",
        encoding="utf-8",
    )
    found = mowich.traffic(path, requests_out=tmp_path / "requests.csv")
    assert found.completed == 20
    assert found.coverage == {"fitted": 1.0}
    assert len((tmp_path / "requests.csv").read_text(encoding="utf-8").splitlines()) == 21
    path.write_text(path.read_text(encoding="utf-8").replace("h100:1", "l40s:1"), encoding="utf-8")
    assert mowich.traffic(path).coverage == {"operator tables": 1.0}
    path.write_text(path.read_text(encoding="utf-8").replace("l40s:1", "trn3:1"), encoding="utf-8")
    coverage = mowich.traffic(path).coverage
    planned = mowich.plan("llama-3.1-8b", "trn3:1", serve={"isl": 500, "osl": 50}).rows[0].tpot_s.coverage
    assert set(coverage) == set(planned) == {"simulated kernels", "fitted"}
    assert sum(coverage.values()) == pytest.approx(1.0)


@pytest.mark.parametrize("wrong", [None, 7, 3.5, [], {}])
def test_a_model_that_is_none_is_refused_in_one_line(wrong: object) -> None:
    with pytest.raises(UserError, match="not a model"):
        mowich.load(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", ["acme.yaml", 3, ["acme.yaml"]])
def test_facts_by_their_file_name_say_what_reads_them(wrong: object) -> None:
    with pytest.raises(UserError, match="not facts") as told:
        mowich.prices("trn3", facts=wrong)  # type: ignore[arg-type]
    assert "load_facts" in str(told.value)
