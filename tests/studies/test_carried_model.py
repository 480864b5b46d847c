"""A result of a user's config.json carries it: explain and report read it where that file is not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from captured_models import captured_json
from mowich.cli.app import run
from mowich.models.builtin import config_of, load_model
from mowich.models.given import model_of_inputs

TRAIN = ("--train", "--tokens", "1T", "--seq", "4096", "--batch", "64seqs")
SERVE = ("--serve", "--isl", "1k", "--osl", "200")
ASKED = {
    "compare": ("compare", *TRAIN, "--on", "trn3:16,h100:16"),
    "plan": ("plan", *TRAIN, "--on", "h100:16", "--top", "1"),
    "served": ("plan", *SERVE, "--on", "h100:8", "--top", "1"),
    "fit": ("fit", *TRAIN[:1], *TRAIN[3:], "--on", "trn3:16"),
    "captured": ("fit", *TRAIN[:1], *TRAIN[3:], "--on", "trn3:16"),
}
METRICS = {"compare": "h100.step_s", "plan": "1.step_s", "served": "1.tpot_s"} | dict.fromkeys(
    ("fit", "captured"), "memory_B"
)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A config whose sizes no model that ships has."""
    shapes = {**config_of("llama-3.1-8b"), "num_hidden_layers": 5}
    file = tmp_path / "mine" / "config.json"
    file.parent.mkdir()
    file.write_text(json.dumps({k: v for k, v in shapes.items() if k != "source"}))
    return file


@pytest.mark.share(4)
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in ("compare", "plan") else n for n in ASKED]
)
def test_a_result_is_explained_and_reported_without_the_config(
    name: str, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(config.parent)
    if name == "captured":
        config.write_text(json.dumps(captured_json(load_model("config.json"))))
    verb, *words = ASKED[name]
    assert run([verb, "config.json", *words, "--json"]) == 0
    result = tmp_path / "elsewhere" / "r.json"
    result.parent.mkdir()
    result.write_text(capsys.readouterr().out)
    config.unlink()
    monkeypatch.chdir(result.parent)
    assert run(["explain", "r.json", METRICS[name]]) == 0
    assert f"{METRICS[name].rpartition('.')[2]} = " in capsys.readouterr().out
    assert run(["report", "r.json"]) == 0
    assert result.with_suffix(".html").is_file()


def test_what_is_carried_makes_the_same_model(config: Path) -> None:
    model = load_model(str(config))
    made = model_of_inputs(json.loads(json.dumps(model.inputs())))
    assert made is not None
    assert replace(made, source=model.source) == model
    assert load_model("gpt2").inputs() == {"model": "gpt2"}
