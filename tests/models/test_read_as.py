"""Configs of decoders that have no row of their own: what they may be read as, and what follows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mowich.cli import run
from mowich.errors import UserError
from mowich.models import load_model
from mowich.models.architectures import ARCHITECTURES, REFUSED, WRAPPERS
from mowich.models.config import model_from_config
from mowich.models.likeness import looks_like, others

LLAMA = {
    "model_type": "llama", "hidden_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 16,
    "num_key_value_heads": 4, "intermediate_size": 4096, "vocab_size": 32000, "max_position_embeddings": 4096,
}  # fmt: skip


def config(tmp_path: Path, **changed: object) -> str:
    file = tmp_path / "newthing.json"
    file.write_text(json.dumps({**LLAMA, "model_type": "newthing", **changed}), encoding="utf-8")
    return str(file)


def test_an_unknown_type_is_one_short_line_that_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = config(tmp_path)
    assert run(["model", file]) == 2
    error = capsys.readouterr().err
    said = "--as llama reads it as one of those, everything then has grade D"
    assert error == f"error: {file}: unknown model_type 'newthing'; {said}\n"


def test_read_as_a_llama_it_has_the_same_numbers_and_grade_d(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = config(tmp_path)
    read = load_model(f"{file} as llama")
    assert (read.params, read.read_as) == (model_from_config(LLAMA, name="t", where="t").params, "llama")
    assert run(["model", file, "--as", "llama"]) == 0
    shown = capsys.readouterr()
    assert "read as llama (grade D)" in " ".join(shown.out.split())
    assert shown.err == "note: newthing: its model_type is not known and was read as llama: all has grade D\n"
    known = tmp_path / "known.json"
    known.write_text(json.dumps(LLAMA), encoding="utf-8")
    ask = ["--train", "--tokens", "1G", "--seq", "2048", "--batch", "64seqs", "--on", "h100:8", "--json", "-q"]
    grades, steps = [], []
    for model in ([file, "--as", "llama"], [str(known)]):
        assert run(["compare", *model, *ask]) == 0
        row = json.loads(capsys.readouterr().out)["rows"][0]
        grades.append(row["step_s"]["grade"])
        steps.append(row["step_s"]["value"])
    assert grades == ["D", "C"]
    assert steps[0] == steps[1]


def test_what_was_read_as_another_can_be_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "r.json")
    ask = ["--serve", "--isl", "1k", "--osl", "100", "--on", "h100:1", "--out", out]
    assert run(["compare", config(tmp_path), "--as", "llama", *ask]) == 0
    assert json.loads(Path(out).read_text())["rows"][0]["tpot_s"]["grade"] == "D"
    assert run(["explain", out, "h100.tpot_s"]) == 0
    capsys.readouterr()


@pytest.mark.parametrize(
    ("changed", "read_as", "said"),
    [
        ({"num_experts": 8, "num_experts_per_tok": 2}, "llama", "'num_experts' is nothing that llama has"),
        ({"kv_lora_rank": 512}, "llama", "perhaps --as deepseek_v3"),
        ({"mamba_d_state": 128}, "llama", "cannot be read as another model's"),
        ({}, "lama", "did you mean 'llama'?"),
        ({"model_type": "qwen2"}, "llama", "is read by its own structure"),
        ({"hidden_size": None}, "llama", "missing key 'hidden_size'"),
    ],
)
def test_structure_that_the_other_has_not_is_refused(
    tmp_path: Path, changed: dict[str, object], read_as: str, said: str
) -> None:
    with pytest.raises(UserError) as caught:
        load_model(f"{config(tmp_path, **changed)} as {read_as}")
    assert said in caught.value.line()


def test_a_decoder_of_transformers_is_told_what_it_is_like(tmp_path: Path) -> None:
    assert looks_like("seed_oss").like == "llama"
    assert "--as qwen2_moe" in _refused(tmp_path, "mellum")
    assert "encoder-decoder" in _refused(tmp_path, "bart")
    assert "--as" not in _refused(tmp_path, "bart")


def _refused(tmp_path: Path, model_type: str) -> str:
    with pytest.raises(UserError) as caught:
        load_model(config(tmp_path, model_type=model_type))
    return caught.value.line()


def test_the_table_holds_no_name_that_is_read(tmp_path: Path) -> None:
    assert len(others()) > 100
    assert not set(others()) & {*ARCHITECTURES, *WRAPPERS, *REFUSED}
    assert {one.like for one in others().values()} - {""} <= set(ARCHITECTURES)


def test_a_page_of_the_hub_is_its_id_or_refused(capsys: pytest.CaptureFixture[str]) -> None:
    known = load_model("https://huggingface.co/meta-llama/Llama-3.1-8B/tree/main")
    assert known.name == load_model("meta-llama/Llama-3.1-8B").name
    assert run(["model", "https://huggingface.co/acme/newthing"]) == 2
    error = capsys.readouterr().err
    assert "no built-in model 'acme/newthing'" in error
    assert "https://huggingface.co/acme/newthing/raw/main/config.json" in error


def test_a_context_that_is_not_stated_is_not_zero(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = config(tmp_path, model_type="llama", max_position_embeddings=None)
    assert run(["model", file]) == 0
    page = " ".join(capsys.readouterr().out.split())
    assert "longest sequence ? (not stated in the config)" in page
