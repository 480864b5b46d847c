"""Built-in models that were captured from code: what their publishers say of them, and the work of a pass by hand."""

from __future__ import annotations

import re
from dataclasses import asdict

import pytest

from mowich.capture.adapters.diffusers import CLASSES
from mowich.models import load_model, model_names
from mowich.models.builtin import builtin, captured_names, config_of
from mowich.models.latent import latent_tokens
from mowich.training.forward import forward_flop


@pytest.mark.parametrize("name", captured_names())
def test_parameters_are_those_published(name: str) -> None:
    model, said = load_model(name), re.match(r"(\d+)B", str(config_of(name)["published"]))
    assert said
    assert round(model.params / 1e9) == int(said[1])
    assert model.kind == "diffusion"
    assert not model.doubts
    assert name in model_names()


def test_parameters_are_those_of_the_tensors() -> None:
    assert builtin("qwen-image").params == 20_430_401_088  # published by tensor


@pytest.mark.parametrize("name", captured_names())
def test_what_was_captured_is_of_the_config_that_is_stated(name: str) -> None:
    entry, captured = config_of(name), builtin(name).captured
    assert captured is not None
    assert captured.source == f"diffusers:{entry['class']}"
    config = entry["config"]
    assert isinstance(config, dict)
    width = config["num_attention_heads"] * config["attention_head_dim"]
    layers = [config.get(key, 0) for key in ("num_layers", "num_single_layers", "num_refiner_layers")]
    assert captured.hidden == width
    assert len(captured.pattern) == sum(layers)
    assert captured.latent is not None
    helper = CLASSES[str(entry["class"])].latent.record(config)
    patch = captured.latent.patch
    assert {**asdict(captured.latent), "patch": list(patch or ())} == helper


@pytest.mark.parametrize("name", ["FLUX.1-dev", "black-forest-labs/FLUX.1-dev", "flux1-dev"])
def test_a_name_of_the_hub_is_found(name: str) -> None:
    assert load_model(name).name == "flux.1-dev"


@pytest.mark.parametrize("name", ["Wan 2.2 A14B", "Wan-AI/Wan2.2-T2V-A14B-Diffusers"])
def test_one_expert_of_two_is_said(name: str) -> None:
    model = load_model(name)
    assert model.name == "wan-2.2-a14b"
    assert any("two experts" in remark for remark in model.remarks)


@pytest.mark.parametrize("tokens", [1560, 4680])
def test_the_work_of_a_clip_by_hand(tokens: int) -> None:
    """Wan 2.1: 40 blocks of self-attention, attention to 512 tokens of text, and a feed-forward of 13,824."""
    model, h, ffn, text = builtin("wan-2.1-14b"), 5120, 13_824, 512
    on_tokens = 4 * h * h + 2 * h * h + 2 * h * ffn
    products = 2.0 * 40 * (on_tokens * tokens + 2 * h * h * text)
    cores = 2.0 * 40 * 2 * h * tokens * (tokens + text)
    found = forward_flop(model, tokens)
    assert found == pytest.approx(products + cores, rel=0.01)  # embeddings and modulation beside them
    assert found > products + cores


@pytest.mark.parametrize(
    ("name", "size", "tokens"),
    [
        ("flux.1-dev", {"height": 1024, "width": 1024}, 4096),
        ("wan-2.1-14b", {"height": 480, "width": 832, "frames": 9}, 4680),
        ("hunyuan-video", {"height": 320, "width": 512, "frames": 61}, 10_240),
        ("ltx-2", {"height": 480, "width": 704, "frames": 49}, 2310),
    ],
)
def test_tokens_of_a_size(name: str, size: dict[str, int], tokens: int) -> None:
    assert latent_tokens(builtin(name), **size) == tokens
