"""Rows of a measurement table to models: built-ins when they agree, filled in and listed when not, refused with a
reason."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from mowich.errors import UserError
from mowich.models import load_model
from mowich.models.columns import model_from_columns

TRUTH = Path(__file__).resolve().parents[3] / "shared" / "truth"


def row(text: str, **more: str) -> dict[str, str]:
    columns = "model_ref n_layers hidden n_heads n_kv_heads head_dim ffn_hidden moe_ffn_hidden vocab n_experts top_k"
    return {**dict(zip(columns.split(), (t.strip() for t in text.split("|")), strict=False)), **more}


def test_builtin_when_the_columns_agree() -> None:
    model, inferred = model_from_columns(row("llama3-8b|32|4096|32|8|128|14336||128256"))
    assert model == load_model("llama3-8b")
    assert inferred == []


def test_shortened_proxy_keeps_the_rest() -> None:
    model, _ = model_from_columns(row("llama3.1-405b|21|16384|128|8|128|53248||128256"))
    assert model.num_layers == 21
    assert model.layers[0].attention == load_model("llama-3.1-405b").layers[0].attention


def test_learned_positions_follow_the_sequence() -> None:
    line = "mpt-125m|12|768|12|12|64|3072||50368"
    assert model_from_columns(row(line, seq_len="512"))[0].params == 124_525_056 - 512 * 768
    assert model_from_columns(row(line, seq_len="1024"))[0].params == 124_525_056


def test_columns_alone() -> None:
    model, inferred = model_from_columns(row("|30|3072|32|||12288||51200", model_name="GPT 3.6B", seq_len="2048"))
    assert model.params / 1e9 == pytest.approx(3.6, rel=0.02)
    assert not model.layers[0].ffn.gated
    assert inferred == ["n_kv_heads 32", "head_dim 96", "plain MLP with biases (GPT family)"]
    gated, listed = model_from_columns(row("my-model|10|1024|8|2|128|4096|512|32000|16|2"))
    assert gated.layers[0].ffn.gated
    assert "gated MLP, untied embeddings" in listed


def test_latent_attention_from_words() -> None:
    line = row(
        "my-mla|61|7168|128|128|qk_nope 128 + qk_rope 64, v 128|18432|2048|129280|256|8",
        n_shared_experts="1",
        n_dense_layers="3",
        mla="yes: q_lora 1536, kv_lora 512",
    )
    model, _ = model_from_columns(line)
    assert model.params == load_model("deepseek-v3").params
    with pytest.raises(UserError, match="is not modelled"):
        model_from_columns({**line, "mla": "compressed attention"})


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"model_name": "Jamba Large"}, "a hybrid that no built-in"),
        ({"model_ref": "marin-535b"}, "latent experts"),
        ({"model_name": "MaxText 1160B"}, "not stated"),
        ({"model_name": "X", "hidden": "1024"}, "number of layers"),
        ({"model_name": "X", "hidden": "1024", "n_layers": "2", "n_experts": "8"}, "width of its experts"),
    ],
)
def test_refused_with_a_reason(given: dict[str, str], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        model_from_columns(given)


def test_the_published_table_is_covered() -> None:
    file = TRUTH / "training_calibration.csv"
    if not file.exists():
        pytest.skip("the table of measurements is not here")
    rows = list(csv.DictReader(file.open()))
    answered = 0
    for line in rows:
        try:
            model, _ = model_from_columns(line)
        except UserError:
            continue
        answered += 1
        if line["model_ref"].startswith("mpt-"):
            assert model.params == int(line["params_total"]), line["id"]
    assert answered >= 0.95 * len(rows)
