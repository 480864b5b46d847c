"""What the helpers of transformers and timm take whole, over drawn small configurations. Needs PyTorch and the
libraries."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("timm")

from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import masking_utils

from mowich.capture.__main__ import captured
from mowich.capture.adapters.transformers import Mask, mask_of
from mowich.capture.problem import CaptureError

SMALL = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 320}


def made(name: str, **values: Any) -> dict[str, Any]:
    return captured(f"transformers:{name}", settings={**SMALL, **values})


@settings(max_examples=6, deadline=None)
@given(
    window=st.integers(1, 4096),
    kv_heads=st.sampled_from((1, 2, 4)),
    width=st.sampled_from((16, 32)),
    is_tied=st.booleans(),
)
def test_windows_and_heads_are_those_of_the_configuration(
    window: int, kv_heads: int, width: int, is_tied: bool
) -> None:
    """A window is kept although no pass is as long; tied tables are counted once."""
    document = made(
        "MistralForCausalLM",
        sliding_window=window,
        num_attention_heads=4,
        num_key_value_heads=kv_heads,
        head_dim=width,
        tie_word_embeddings=is_tied,
    )
    (layer,) = document["layers"]
    (core,) = layer["cores"]
    assert (core["window"], core["causal"], core["masked"]) == (window, True, False)
    assert (core["heads"], core["kv_heads"], core["qk"]) == (4, kv_heads, width)
    assert layer["cached_elements"] == 2 * kv_heads * width
    table = 320 * 64
    assert document["tied"] is is_tied
    assert document["components"]["head"] == (0 if is_tied else table)


@settings(max_examples=4, deadline=None)
@given(experts=st.integers(2, 9), top_k=st.integers(1, 2), width=st.sampled_from((32, 48)))
def test_experts_are_taken_with_top_k(experts: int, top_k: int, width: int) -> None:
    document = made(
        "Qwen3MoeForCausalLM",
        num_experts=experts,
        num_experts_per_tok=top_k,
        moe_intermediate_size=width,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
    )
    (row,) = document["layers"][0]["experts"]
    assert (row["number"], row["top_k"], row["ffn"], row["width"], row["run"]) == (experts, top_k, width, 64, "chosen")
    assert row["params"] == experts * 3 * width * 64


@given(window=st.integers(1, 10**6), offset=st.integers(0, 9))
def test_a_mask_says_what_it_was_made_of(window: int, offset: int) -> None:
    sliding = masking_utils.sliding_window_causal_mask_function(window)
    moved = masking_utils.add_offsets_to_mask_function(sliding, offset, offset)
    assert mask_of(moved) == Mask(is_causal=True, window=window)
    dense = masking_utils.or_masks(sliding, lambda *_: True)
    assert mask_of(dense).is_dense
    assert mask_of(masking_utils.bidirectional_mask_function) == Mask()


def test_a_latent_cache_is_counted_compressed() -> None:
    document = made(
        "DeepseekV3ForCausalLM",
        num_attention_heads=4,
        num_key_value_heads=4,
        kv_lora_rank=32,
        q_lora_rank=48,
        qk_rope_head_dim=8,
        qk_nope_head_dim=16,
        v_head_dim=16,
        first_k_dense_replace=2,
    )
    (layer,) = document["layers"]
    assert layer["cached_elements"] == 32 + 8
    assert layer["cores"][0]["latent"] == {"kv_lora": 32, "rope": 8}


def test_an_encoder_is_no_decoder_and_an_image_is_fixed() -> None:
    text = made("BertModel", num_attention_heads=4)
    assert text["kind"] == "encoder"
    assert not any(core["causal"] for layer in text["layers"] for core in layer["cores"])
    image = captured("timm:vit_tiny_patch16_224")
    assert image["layers"][0]["cores"][0]["queries"] == [197, 0, 0, 0]


@pytest.mark.parametrize(
    "spec", ["transformers:NoSuchModel", "timm:no_such_model", "transformers:/no/such/config.json"]
)
def test_what_is_not_there_is_one_line(spec: str) -> None:
    with pytest.raises(CaptureError) as error:
        captured(spec)
    assert "\n" not in str(error.value)


def test_a_config_file_is_read(tmp_path: Any) -> None:
    path = tmp_path / "config.json"
    values = {**SMALL, "num_attention_heads": 4, "model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    path.write_text(json.dumps(values), encoding="utf-8")
    document = captured(f"transformers:{path}")
    assert (document["kind"], document["hidden"], document["config"]["model_type"]) == ("decoder", 64, "llama")
