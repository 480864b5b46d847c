"""What no checkpoint states is refused by its key, whatever the architecture and wherever the key stands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mowich.errors import UserError
from mowich.models.config import model_from_config

CONFIGS = Path(__file__).parents[1] / "fixtures" / "configs"
NAMES = ("llama.json", "mixtral.json", "gemma2.json", "qwen3_moe.json", "deepseek_v3.json")
WRONG_NUMBERS = st.one_of(
    st.sampled_from([[], {}, "x", True, [1], {"a": 1}]), st.floats(-1e9, -1e-9), st.integers(-(10**9), -1)
)
CASES: dict[str, st.SearchStrategy[object]] = {
    "torch_dtype": st.one_of(st.integers(), st.sampled_from(["float3", "", "bf16 ", [], {}])),
    "dtype": st.one_of(st.integers(), st.sampled_from(["float3", "bfloat", ["bfloat16"]])),
    "hidden_act": st.one_of(st.integers(), st.just([])),
    "architectures": st.one_of(st.text(max_size=4), st.lists(st.integers(), min_size=1, max_size=2)),
    "rope_theta": st.one_of(WRONG_NUMBERS, st.just(0)),
    "rope_scaling": st.one_of(st.integers(), st.text(max_size=4), st.just([])),
    "rope_scaling.factor": st.one_of(WRONG_NUMBERS, st.just(0)),
    "quantization_config.bits": st.one_of(WRONG_NUMBERS, st.sampled_from([0, 1, 7, 99, 4.5])),
    "quantization_config.group_size": st.one_of(st.sampled_from([0, -2, 1.5, "x", []])),
    "quantization_config.weight_block_size": st.sampled_from([[0, 0], [-1, 128], [128], [128, 128, 1], "x", 128, {}]),
    "sliding_window": st.one_of(WRONG_NUMBERS, st.just(0.5)),
    "layer_types": st.integers(1, 10**5).map(lambda more: ["full_attention"] * (10**3 + more)),
}


def _config(name: str) -> dict[str, object]:
    if not (CONFIGS / name).exists():
        pytest.skip(f"no {name}")
    return dict(json.loads((CONFIGS / name).read_text()))


@given(st.sampled_from(NAMES), st.sampled_from(sorted(CASES)), st.booleans(), st.data())
def test_a_value_that_no_checkpoint_has_is_named(name: str, key: str, is_nested: bool, data: st.DataObject) -> None:
    config = _config(name)
    group, _, inner = key.partition(".")
    value = data.draw(CASES[key])
    config[group] = {"rope_type": "yarn", "quant_method": "gptq"} | {inner: value} if inner else value
    whole = {"model_type": config["model_type"], "text_config": config} if is_nested else config
    with pytest.raises(UserError) as told:
        model_from_config(whole, name=name, where="config.json")
    assert f"'{key}'" in told.value.line()
    assert "wrong type" not in told.value.line()


@pytest.mark.parametrize("name", sorted(p.name for p in CONFIGS.glob("*.json")))
def test_a_head_of_a_million_is_no_head(name: str) -> None:
    config = _config(name)
    if not isinstance(config.get("head_dim"), int):
        pytest.skip("states no head_dim")
    with pytest.raises(UserError, match="'head_dim' must be at most 8192"):
        model_from_config({**config, "head_dim": 10**6}, name=name, where="config.json")


def test_what_checkpoints_do_state_is_read() -> None:
    config = _config("llama.json")
    stated = {
        "torch_dtype": "torch.bfloat16",
        "sliding_window": None,
        "rope_parameters": {"full_attention": {"rope_theta": 1e6, "rope_type": "default"}},
        "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": -1},
    }
    plain, more = (model_from_config(c, name="m", where="c") for c in (config, {**config, **stated}))
    assert plain.params == more.params
