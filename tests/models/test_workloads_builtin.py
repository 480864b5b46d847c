"""Built-in names: found however they are spelled, equal to their published configs, refused with a reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mowich.errors import UserError
from mowich.models import load_model, model_names
from mowich.models.builtin import aliases, builtin_name, refused

GOLDEN = json.loads((Path(__file__).resolve().parents[1] / "golden" / "params.json").read_text())
SHARED = Path(__file__).resolve().parents[3] / "shared" / "models"

TWINS = {
    "deepseek-v3": "deepseek-ai--DeepSeek-V3",
    "deepseek-r1": "deepseek-ai--DeepSeek-R1",
    "kimi-k2": "moonshotai--Kimi-K2-Instruct",
    "llama-3.1-405b": "meta-llama--Meta-Llama-3.1-405B",
    "llama-3.1-70b": "meta-llama--Meta-Llama-3.1-70B",
    "llama-3.1-8b": "meta-llama--Meta-Llama-3.1-8B",
    "llama4-scout": "meta-llama--Llama-4-Scout-17B-16E-Instruct",
    "llama4-maverick": "meta-llama--Llama-4-Maverick-17B-128E-Instruct",
    "qwen3-0.6b": "Qwen--Qwen3-0.6B",
    "qwen3-1.7b": "Qwen--Qwen3-1.7B",
    "qwen3-8b": "Qwen--Qwen3-8B",
    "qwen3-32b": "Qwen--Qwen3-32B",
    "qwen3-30b-a3b": "Qwen--Qwen3-30B-A3B",
    "qwen3-235b-a22b": "Qwen--Qwen3-235B-A22B",
    "qwen3-coder-480b-a35b": "Qwen--Qwen3-Coder-480B-A35B-Instruct",
    "gpt-oss-120b": "openai--gpt-oss-120b",
    "gpt-oss-20b": "openai--gpt-oss-20b",
    "mixtral-8x7b": "mistralai--Mixtral-8x7B-v0.1",
    "minimax-m2": "MiniMaxAI--MiniMax-M2.5",
    "mimo-v2-flash": "XiaomiMiMo--MiMo-V2-Flash",
    "deepseek-v3.2": "deepseek-ai--DeepSeek-V3.2",
    "deepseek-v4-flash": "deepseek-ai--DeepSeek-V4-Flash",
    "deepseek-v4-pro": "deepseek-ai--DeepSeek-V4-Pro",
    "glm-5": "zai-org--GLM-5",
    "glm-5.1": "zai-org--GLM-5.1",
    "glm-5.2": "zai-org--GLM-5.2",
    "kimi-k2.5": "moonshotai--Kimi-K2.5",
    "kimi-k3": "moonshotai--Kimi-K3",
    "qwen3.5-27b": "Qwen--Qwen3.5-27B",
    "qwen3.5-35b-a3b": "Qwen--Qwen3.5-35B-A3B",
    "qwen3.5-122b-a10b": "Qwen--Qwen3.5-122B-A10B",
    "qwen3.5-397b-a17b": "Qwen--Qwen3.5-397B-A17B",
    "nemotron-3-nano": "nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
    "nemotron-3-super": "nvidia--NVIDIA-Nemotron-3-Super-120B-A12B-FP8",
    "nemotron-3-ultra": "nvidia--NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16",
    "nemotron-3.5-lightning": "nvidia--NVIDIA-Nemotron-3.5-Lightning-30B-A3B-NVFP4",
    "nemotron-h-56b": "nvidia--Nemotron-H-56B-Base-8K",
    "minimax-m3": "MiniMaxAI--MiniMax-M3",
    "llama-3.3-nemotron-super-49b": "nvidia--Llama-3_3-Nemotron-Super-49B-v1",
    "step-3.7-flash": "stepfun-ai--Step-3.7-Flash",
    "gemma4-26b": "google--gemma-4-26B-A4B",
    "gemma4-31b": "nvidia--Gemma-4-31B-IT-NVFP4",
    "trinity-nano": "arcee-ai--Trinity-Nano-Preview",
    "trinity-mini": "arcee-ai--Trinity-Mini",
    "trinity-large": "arcee-ai--Trinity-Large-Preview",
    "sarvam-30b": "sarvamai--sarvam-30b",
    "solar-open-100b": "upstage--Solar-Open-100B",
    "mimo-v2.5": "XiaomiMiMo--MiMo-V2.5",
    "mimo-v2.5-pro": "XiaomiMiMo--MiMo-V2.5-Pro",
    "qwen3.5-2b": "Qwen--Qwen3.5-2B",
    "qwen3.5-4b": "Qwen--Qwen3.5-4B",
    "qwen3.5-9b": "Qwen--Qwen3.5-9B",
    "ministral-8b": "mistralai--Ministral-8B-Instruct-2410",
    "ministral-3-14b": "mistralai--Ministral-3-14B-Instruct-2512",
    "mistral-small-3.1-24b": "mistralai--Mistral-Small-3.1-24B-Instruct-2503",
    "glm-5.3-flash": "zai-org--GLM-5.3-Flash",
}


@pytest.mark.parametrize("name", model_names())
def test_every_name_loads(name: str) -> None:
    m = load_model(name)
    assert m.params >= m.params_active > 0
    assert m.source
    assert len(m.pattern) == m.num_layers


@pytest.mark.parametrize("name", sorted(n.removeprefix("built-in ") for n in GOLDEN if n.startswith("built-in ")))
def test_counts_equal_transformers(name: str) -> None:
    assert load_model(name).params == GOLDEN[f"built-in {name}"]


@pytest.mark.parametrize(("name", "file"), TWINS.items())
def test_equal_to_the_published_config(name: str, file: str) -> None:
    path = SHARED / f"{file}_config.json"
    if not path.exists():
        pytest.skip("the published configs are not here")
    ours, theirs = load_model(name), load_model(str(path))
    assert ours.layers == theirs.layers
    assert (ours.params, ours.pattern, ours.mtp_layers) == (theirs.params, theirs.pattern, theirs.mtp_layers)


def test_spelling_does_not_matter() -> None:
    for name in ("llama3.1-405b", "Llama-3.1-405B", "meta-llama/Llama-3.1-405B", "llama_3.1_405b"):
        assert load_model(name).name == "llama-3.1-405b"


def test_aliases_point_at_models() -> None:
    assert set(aliases().values()) <= set(model_names())
    assert not {builtin_name(name) for name in refused()} - {None}


def test_unknown_name() -> None:
    with pytest.raises(UserError, match=r"unknown model 'deepsek-v3'.*did you mean 'deepseek-v3'\?"):
        load_model("deepsek-v3")
    with pytest.raises(UserError, match="'marin-535b' is not supported: its latent experts"):
        load_model("marin-535b")
    with pytest.raises(UserError, match="unknown model ''"):
        load_model("")


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("palm-540b", 540.36),
        ("bloom-176b", 176.25),
        ("megatron-1t", 1008.0),
        ("opt-175b", 174.6),
        ("gpt3-175b", 174.6),
        ("llama-3.3-nemotron-super-49b", 49.87),
        ("kimi-k3", 2779.5),
        ("nemotron-3-super", 120.67),
        ("deepseek-v4-pro", 1573.0),
        ("kimi-linear-48b-a3b", 49.12),
        ("maxtext-moe-10t", 10362),
        ("nanotron-469b", 469.36),
        ("nemotron4-340b", 341.0),
        ("trinity-large", 398.6),
        ("solar-open-100b", 102.65),
        ("mimo-v2.5-pro", 1021.25),
        ("ministral-8b", 8.0198),
    ],
)
def test_sizes_as_published(name: str, billions: float) -> None:
    assert load_model(name).params / 1e9 == pytest.approx(billions, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "active"),
    [
        ("kimi-k3", 104),
        ("nemotron-3-super", 12.1),
        ("nemotron-3-ultra", 55),
        ("qwen3.5-397b-a17b", 16.4),
        ("deepseek-v4-flash", 13.3),
        ("deepseek-v4-pro", 49),
        ("glm-5", 40),
        ("nemotron-3-nano", 3.2),
        ("minimax-m3", 24.7),
    ],
)
def test_active_parameters_as_published(name: str, active: float) -> None:
    """Published active counts leave out the embedding table (a lookup) and are rounded."""
    m = load_model(name)
    assert (m.params_active - m.params_embedding) / 1e9 == pytest.approx(active, rel=0.04)
