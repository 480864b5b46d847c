"""Encoders of images and of sound: parameters and tokens as transformers has them, work, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mowich.errors import UserError, UserErrors
from mowich.facts import load_facts
from mowich.models import load_model
from mowich.models.builtin import model_names
from mowich.models.config import model_from_config
from mowich.models.encoder import FAMILIES, Encoder, encoder_kinds, encoder_of
from mowich.models.model import Model

FACTS = load_facts()
KNOWN = json.loads((Path(__file__).resolve().parents[1] / "fixtures" / "encoders.json").read_text())["models"]
SHIPPED = [name for name in model_names() if encoder_kinds(load_model(name))]
FREE = ("Qwen3-VL-8B-Instruct", "Qwen2.5-VL-7B", "Kimi-K2.5", "Mistral-Small-3.1-24B-Instruct-2503", "GLM-4.1V-9B")


def model(name: str) -> Model:
    return model_from_config(KNOWN[name]["config"], name=name, where=name)


@pytest.mark.parametrize("name", KNOWN)
def test_parameters_are_those_of_transformers(name: str) -> None:
    found = {kind: encoder_of(model(name), kind).params for kind in encoder_kinds(model(name))}
    assert found == KNOWN[name]["params"]


@pytest.mark.parametrize("name", [name for name, of in KNOWN.items() if of["tokens"]])
def test_tokens_are_those_of_the_familys_own_processor(name: str) -> None:
    for size, wanted in KNOWN[name]["tokens"].items():
        if size.endswith("s"):
            assert encoder_of(model(name), "audio").audio(float(size[:-1]), FACTS).tokens == wanted, size
        else:
            item = encoder_of(model(name), "image").image(*map(int, size.split("x")), FACTS)
            assert [item.positions, item.tokens, item.prompt] == wanted, size


def test_each_family_has_a_case() -> None:
    """A family without one is the reader of one that has."""
    cases = {(model(name).media or {})["model_type"] for name in KNOWN}
    readers = {row.read for (family, _), row in FAMILIES.items() if family in cases}
    assert all(row.read in readers for row in FAMILIES.values())


@pytest.mark.parametrize("name", SHIPPED)
def test_models_that_ship_read_images_into_their_own_width(name: str) -> None:
    encoder = encoder_of(load_model(name), "image")
    assert encoder.out % load_model(name).hidden == 0
    assert 50e6 < encoder.params < 1e9


def _flop(encoder: Encoder, width: int, height: int) -> float:
    return encoder.flop(encoder.image(width, height, FACTS))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(FREE), st.integers(60, 1200), st.integers(60, 1200), st.integers(0, 400), st.integers(0, 400))
def test_more_pixels_never_make_fewer_tokens_or_less_work(name: str, w: int, h: int, dw: int, dh: int) -> None:
    """Below the limits of a family, where a picture keeps its size."""
    if max(w + dw, h + dh) > 1500 or max(w, h) > 4 * min(w, h):
        return
    encoder = encoder_of(model(name), "image")
    if w * h < 70_000:  # enlarged to the least size, whose shape decides
        return
    small, large = encoder.image(w, h, FACTS), encoder.image(w + dw, h + dh, FACTS)
    assert large.tokens >= small.tokens
    assert _flop(encoder, w + dw, h + dh) >= _flop(encoder, w, h)


def test_windows_leave_attention_out() -> None:
    """Qwen2.5-VL: 4 of 32 layers see the whole picture, the others 64 patches; by hand."""
    encoder = encoder_of(model("Qwen2.5-VL-7B"), "image")
    item = encoder.image(896, 896, FACTS)
    cores = sum(layer.count * layer.attention.core_flop_per_token(item.span) for layer in encoder.layers)
    assert cores == 4 * 1280 * (4 * 4096 + 28 * 64)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"depth": None}, "missing key 'depth'"),
        ({"num_heads": 7}, "'num_heads' does not divide hidden_size"),
        ({"patch_size": 0}, "'patch_size' must be a whole number"),
        ({"deepstack_visual_indexes": 3}, "'deepstack_visual_indexes' must be a list"),
        ({"use_sink_heads": 4}, "'use_sink_heads' is not understood"),
    ],
)
def test_a_key_that_is_wrong_is_named(change: dict[str, object], said: str) -> None:
    config = dict(KNOWN["Qwen3-VL-8B-Instruct"]["config"])
    config["vision_config"] = {k: v for k, v in {**config["vision_config"], **change}.items() if v is not None}
    one = model_from_config(config, name="mine", where="mine.json")
    with pytest.raises((UserError, UserErrors)) as caught:
        encoder_of(one, "image")
    assert said in str(caught.value)
    assert "vision_config of mine" in str(caught.value)


def test_what_is_no_encoder_and_what_is_not_understood_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"llama-3.1-8b reads no images: its config has no 'vision_config'"):
        encoder_of(load_model("llama-3.1-8b"), "image")
    with pytest.raises(UserError, match=r"reads no sound.*it has vision_config"):
        encoder_of(load_model("qwen3.5-27b"), "audio")
    other = {**KNOWN["Qwen3-VL-8B-Instruct"]["config"], "model_type": "mimo_v2_vl"}
    text = {"model_type": "llama", **other["text_config"]}
    with pytest.raises(UserError, match="'mimo_v2_vl' is not understood: 'deepstack_visual_indexes'"):
        encoder_of(model_from_config({**other, "text_config": text}, name="m", where="m"), "image")


def test_a_model_shows_its_encoder_and_a_text_model_none() -> None:
    shown = load_model("qwen3.5-27b").to_dict()["encoders"]
    assert shown["image"]["tokens"] == 1024
    assert shown["image"]["params"] == 460_730_096
    assert "encoders" not in load_model("llama-3.1-8b").to_dict()
