"""Shapes to numbers: parameters, FLOP and cache bytes of hand-made models."""

from __future__ import annotations

import pytest

from mowich.models import Attention, Layer, Mlp, Model, Moe, load_model


def gqa(**kwargs: object) -> Attention:
    return Attention(**{"kind": "gqa", "num_heads": 8, "num_kv_heads": 2, "head_dim": 16, "v_head_dim": 16, **kwargs})


def model(attention: Attention, ffn: Mlp | Moe, **kwargs: object) -> Model:
    layer = Layer(count=3, mixer=attention, ffn=ffn, norm_params=256, hidden=128)
    return Model(
        **{
            "name": "t",
            "architecture": "decoder",
            "hidden": 128,
            "vocab": 1000,
            "layers": (layer,),
            "tied_embeddings": False,
            "embedding_params": 128000,
            "head_params": 128000,
            "final_norm_params": 128,
            **kwargs,
        }
    )


def test_params_by_hand() -> None:
    m = model(gqa(), Mlp(ffn=384))
    per_layer = 128 * (128 + 2 * 32 + 128) + 3 * 128 * 384 + 256
    assert m.params == 3 * per_layer + 2 * 128000 + 128 == m.params_active
    biased = model(gqa(qkv_bias=True, out_bias=True, qk_norm="head", sinks=True), Mlp(ffn=384, gated=False, bias=True))
    assert biased.layers[0].params == 128 * (128 + 64 + 128) + (192 + 128) + 32 + 8 + 2 * 128 * 384 + 384 + 128 + 256


def test_moe_counts_visited_experts_only() -> None:
    m = model(gqa(), Moe(num_experts=8, top_k=2, ffn=64, shared_ffn=32, shared_gate=True))
    expert = 3 * 128 * 64
    assert m.params - m.params_active == 3 * 6 * expert
    assert m.layers[0].ffn.matmul_params(128) == 2 * expert + 3 * 128 * 32 + 128 * 8 + 128


def test_mla_projections() -> None:
    a = Attention(
        kind="mla", num_heads=4, num_kv_heads=4, head_dim=12, v_head_dim=10, q_lora=24, kv_lora=16, rope_head_dim=4
    )
    assert a.matmul_params(64) == 24 * (64 + 48) + 64 * 20 + 16 * 4 * (8 + 10) + 64 * 40
    assert a.params(64) - a.matmul_params(64) == 24 + 16
    assert a.kv_elements_per_token == 20


@pytest.mark.parametrize(
    ("kwargs", "seq", "expected"),
    [
        ({}, 1000, 500.0),
        ({"causal": False}, 1000, 1000.0),
        ({"window": 100}, 1000, 95.0),
        ({"window": 2000}, 1000, 500.0),
        ({"window": 100, "chunked": True}, 1000, 50.0),
        ({"window": 400, "chunked": True}, 1000, 180.0),
    ],
)
def test_context(kwargs: dict[str, object], seq: int, expected: float) -> None:
    assert gqa(**kwargs).context(seq) == pytest.approx(expected)


def test_window_joins_full_attention_smoothly() -> None:
    assert gqa(window=4096).context(4096) == gqa().context(4096)
    assert gqa(window=4095).context(4096) == pytest.approx(gqa().context(4096), rel=1e-6)


@pytest.mark.parametrize(
    ("name", "seq", "tflop"),
    [
        ("llama-3.1-405b", 8192, 2.524),
        ("llama-3.1-70b", 8192, 0.4492),
        ("llama-3.1-8b", 8192, 0.05147),
        ("deepseek-v3", 4096, 0.25045),
        ("gemma4-26b", 4096, 0.0250386),
        ("gemma4-e2b", 8192, 0.0154274),
        ("gemma4-e4b", 8192, 0.0296991),
    ],
)
def test_training_flop_per_token_as_published(name: str, seq: int, tflop: float) -> None:
    """Model TFLOP per trained token as printed by the frameworks (Megatron-Bridge, MaxText; causal half)."""
    assert 3 * load_model(name).flop_per_token(seq) / 1e12 == pytest.approx(tflop, rel=2e-4)


def test_mtp_flop_as_published() -> None:
    assert 3 * load_model("deepseek-v3").flop_per_token(4096, mtp=True) / 1e12 == pytest.approx(0.2606, rel=5e-4)


def test_flop_splits_into_matrices_and_attention() -> None:
    m = load_model("gpt-oss-20b")
    near, far = m.flop_per_token(1024), m.flop_per_token(8192)
    assert far - near == pytest.approx(m.attention_flop_per_token(8192) - m.attention_flop_per_token(1024))


def test_kv_bytes() -> None:
    assert load_model("llama-3.1-8b").kv_bytes_per_token() == 2 * 32 * 2 * 8 * 128
    assert load_model("deepseek-v3").kv_bytes_per_token() == 2 * 61 * 576
    windowed = load_model("gpt-oss-20b")
    assert windowed.kv_bytes(8192) == pytest.approx(2 * 12 * 1024 * (8192 + 128))


def test_dict_holds_the_contract() -> None:
    data = load_model("deepseek-v3").to_dict()
    assert data["schema"] == "mowich/model@1"
    assert data["params"] == 671_026_404_352
    assert {"params_active", "params_embedding", "flop_per_token_forward", "kv_bytes_per_token", "layers"} <= set(data)
    assert [row["count"] for row in data["layers"]] == [3, 58]  # type: ignore[attr-defined, index]


def test_view_adds_up() -> None:
    m = load_model("kimi-k2")
    view = m.view(seq=8192)
    assert (
        view.params
        == sum(r.count * r.params for r in view.layers) + view.params_embedding + view.params_head + view.params_other
    )
    total = sum(r.count * r.flop_per_token_forward for r in view.layers) + view.head_flop_per_token_forward
    assert view.flop_per_token_forward == pytest.approx(total)
    assert load_model("gpt2").view().seq == 1024
