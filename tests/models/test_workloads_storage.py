"""Bytes of checkpoints: what quantisation configs say, module by module, against published sizes."""

from __future__ import annotations

from pathlib import Path

import pytest

from mowich.errors import UserError
from mowich.models import load_model, model_names
from mowich.models.config import model_from_config

SHARED = Path(__file__).resolve().parents[3] / "shared" / "models"
LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 1000,
}
MOE = {
    "model_type": "deepseek_v3",
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 1000,
    "moe_intermediate_size": 32,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
}
NVFP4 = {
    "config_groups": {
        "group_0": {"weights": {"num_bits": 4, "type": "float", "group_size": 16}, "targets": ["Linear"]}
    },
    "quant_algo": "NVFP4",
    "quant_method": "modelopt",
}


def stored(config: dict[str, object], name: str = "t", **quantization: object) -> dict[str, float]:
    if quantization:
        config = {**config, "quantization_config": quantization}
    return dict(model_from_config(config, name=name, where="t").storage.bytes_per_weight)


@pytest.mark.parametrize("name", model_names())
def test_components_sum_to_the_model(name: str) -> None:
    model = load_model(name)
    assert sum(model.component_params().values()) == model.params


@pytest.mark.parametrize(
    ("groups", "key"), [([4], "config_groups"), ({"a": "b"}, "a"), ({"a": {"weights": "4"}}, "weights")]
)
def test_a_group_of_a_quantisation_is_a_mapping(groups: object, key: str) -> None:
    with pytest.raises(UserError, match=f"t: a value has the wrong type: '{key}' must be a mapping"):
        stored(LLAMA, quant_method="compressed-tensors", config_groups=groups)


def test_sixteen_bits_when_nothing_is_said() -> None:
    assert set(stored(LLAMA).values()) == {2.0}
    model = model_from_config(LLAMA, name="t", where="t")
    assert sum(model.weight_bytes().values()) == 2 * model.params


def test_blocks_of_eight_bits_leave_head_router_and_embedding() -> None:
    got = stored(MOE, quant_method="fp8", weight_block_size=[128, 128])
    assert got["experts"] == got["mixer"] == got["mlp"] == got["shared"] == pytest.approx(1 + 4 / 128**2)
    assert got["head"] == got["router"] == got["embedding"] == 2.0


def test_exclusions_by_glob_layer_by_layer() -> None:
    got = stored(
        MOE,
        **NVFP4,
        ignore=[
            "lm_head",
            "model.layers.0*",
            "model.layers.1.self_attn*",
            "model.layers.2.mlp.shared_experts*",
            "mtp.layers.3*",
        ],
    )
    assert got["mlp"] == 2.0  # the only dense layer is layer 0
    assert got["mixer"] == pytest.approx((2 * 2.0 + 2 * 0.5625) / 4)
    assert got["shared"] == pytest.approx((2.0 + 2 * 0.5625) / 3)
    assert got["experts"] == pytest.approx(0.5625)


def test_exclusions_by_expression_and_by_name() -> None:
    ignore = ["lm_head", "re:.*self_attn.*", "re:.*shared_experts.*", r"re:.*mlp\.(gate|up|gate_up|down)_proj.*"]
    got = stored(
        MOE,
        config_groups={"g": {"weights": {"num_bits": 4, "type": "int", "group_size": 32}}},
        ignore=ignore,
        quant_method="compressed-tensors",
    )
    assert (got["mixer"], got["mlp"], got["shared"], got["experts"]) == (2.0, 2.0, 2.0, 0.5625)
    named = stored(
        LLAMA,
        quant_method="fp8",
        modules_to_not_convert=["lm_head", "model.layers.0.self_attn", "model.layers.1.mlp.gate_proj"],
    )
    assert named["mixer"] == pytest.approx((2.0 + 3 * 1.0) / 4)


def test_listed_layers() -> None:
    layers = {f"model.layers.{i}.self_attn.q_proj": {"quant_algo": "FP8"} for i in range(4)} | {
        f"model.layers.{i}.mlp.gate_proj": {"quant_algo": "NVFP4"} for i in range(2)
    }
    got = stored(LLAMA, quant_algo="MIXED_PRECISION", quantized_layers=layers, quant_method="modelopt")
    assert got["mixer"] == 1.0
    assert got["mlp"] == pytest.approx((2 * 0.5625 + 2 * 2.0) / 4)


def test_by_the_name_alone_and_said_so() -> None:
    model = model_from_config(MOE, name="Some-Model-NVFP4", where="t")
    assert "by the name alone" in model.storage.assumed
    assert (model.storage.of("experts"), model.storage.of("mixer"), model.storage.of("head")) == (0.5625, 2.0, 2.0)
    assert model_from_config(MOE, name="Some-Model", where="t").storage.assumed == ""


@pytest.mark.parametrize(
    ("file", "gigabytes"),
    [
        ("openai--gpt-oss-120b", 60.8 * 1.073741824),
        ("openai--gpt-oss-20b", 12.8 * 1.073741824),
        ("moonshotai--Kimi-K3", 1560.86),
    ],
)
def test_published_sizes(file: str, gigabytes: float) -> None:
    """Checkpoints as published: the gpt-oss model card (60.8 and 12.8 GiB), total_size of Kimi K3's index (with its
    vision tower)."""
    path = SHARED / f"{file}_config.json"
    if not path.exists():
        pytest.skip("the published configs are not here")
    assert sum(load_model(str(path)).weight_bytes().values()) / 1e9 == pytest.approx(gigabytes, rel=0.01)


def form(config: dict[str, object], **quantization: object) -> str:
    return model_from_config(config | {"quantization_config": quantization}, name="t", where="t").storage.form


def test_the_form_is_that_of_most_weights() -> None:
    assert model_from_config(LLAMA, name="t", where="t").storage.form == "bf16"
    assert form(LLAMA, quant_method="fp8", weight_block_size=[128, 128]) == "fp8"
    assert form(MOE, **NVFP4, ignore=["lm_head", "re:.*self_attn.*"]) == "nvfp4"
    assert form(LLAMA, **NVFP4, ignore=["*"]) == "bf16"
    assert [
        load_model(n).storage.form for n in ("gpt-oss-120b", "deepseek-v3", "deepseek-v4-pro", "kimi-k2.5", "kimi-k3")
    ] == ["mxfp4", "fp8", "mxfp4", "int4", "mxfp4"]


@pytest.mark.parametrize("name", ["gpt-oss-120b", "gpt-oss-20b", "mimo-v2-flash"])
def test_built_in_models_are_stored_as_published(name: str) -> None:
    """Attention of gpt-oss stays in 16 bits: 65.3 and 13.8 GB by its model card; MiMo V2 is 8 bit throughout."""
    gigabytes = {"gpt-oss-120b": 65.3, "gpt-oss-20b": 13.76, "mimo-v2-flash": 310}[name]
    assert sum(load_model(name).weight_bytes().values()) / 1e9 == pytest.approx(gigabytes, rel=0.01)
