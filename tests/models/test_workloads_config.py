"""Configs to models: counts equal to transformers (golden), layer patterns, and one clear line per mistake."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from mowich.errors import UserError
from mowich.models import Moe, load_model
from mowich.models.architectures import ARCHITECTURES, WRAPPERS
from mowich.models.config import known, model_from_config

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "fixtures" / "configs"
SHARED = ROOT.parent / "shared" / "models"
GOLDEN = json.loads((ROOT / "tests" / "golden" / "params.json").read_text())
LLAMA = json.loads((FIXTURES / "llama.json").read_text())


@pytest.mark.parametrize("name", sorted(p.name for p in FIXTURES.glob("*.json")))
def test_counts_equal_transformers(name: str) -> None:
    assert load_model(str(FIXTURES / name)).params == GOLDEN[name]


@pytest.mark.share(3)
@pytest.mark.parametrize("name", sorted(n for n in GOLDEN if n.endswith("_config.json")))
def test_published_counts_equal_transformers(name: str) -> None:
    if not (SHARED / name).exists():
        pytest.skip("the published configs are not here")
    assert load_model(str(SHARED / name)).params == GOLDEN[name]


def test_every_architecture_has_a_golden_count() -> None:
    covered = {json.loads((FIXTURES / n).read_text())["model_type"] for n in GOLDEN if (FIXTURES / n).exists()}
    vision_or_same = {
        "qwen3_vl_text",
        "qwen3_vl_moe_text",
        "qwen2_vl_text",
        "qwen2_5_vl_text",
        "qwen3_omni_moe_text",
        "glm4v_text",
        "glm4v_moe_text",
        "mimo",
        "mimo_v2",
        "ministral",
        "decoder",
        "minimax_m3",
        "deepseek_ref",
        "step3p7",
        "nemotron-nas",
    }
    assert set(ARCHITECTURES) - covered <= vision_or_same
    assert set(WRAPPERS.values()) <= set(ARCHITECTURES)


def test_windows_by_layer() -> None:
    def windows(name: str) -> list[int | None]:
        m = load_model(str(FIXTURES / f"{name}.json"))
        return [m.layers[i].attention.window for i in m.pattern]

    assert windows("gpt_oss") == [32, None] * 3
    assert windows("gemma2") == [64, None] * 3
    assert windows("gemma3-sparse") == [128] * 5 + [None, 128]
    assert windows("qwen2") == [None] * 4 + [32] * 2
    assert windows("olmo3") == [64, 64, 64, None, 64, 64]
    assert windows("mistral-defaults") == [4096] * 6
    assert windows("llama4_text") == [64, 64, 64, None, 64, 64]
    assert windows("mimo_v2_flash") == [None, 32, 32, None, 32, 32]
    assert windows("afmoe") == [32, 32, None] * 2
    assert windows("ministral3") == [None] * 6


def test_experts_by_layer() -> None:
    def experts(name: str) -> list[bool]:
        m = load_model(str(FIXTURES / f"{name}.json"))
        return [isinstance(m.layers[i].ffn, Moe) for i in m.pattern]

    assert experts("deepseek_v3") == [False, False, True, True, True, True]
    assert experts("qwen2_moe") == [False, True, False, False, False, True]
    assert experts("llama4_text") == [False, True] * 3


def test_layer_types_win_over_the_pattern() -> None:
    config = {**json.loads((FIXTURES / "gemma2.json").read_text()), "layer_types": ["full_attention"] * 6}
    assert [layer.attention.window for layer in model_from_config(config, name="t", where="t").layers] == [None]


def fails(config: dict[str, object]) -> str:
    with pytest.raises(UserError) as caught:
        model_from_config(config, name="t", where="config.json")
    return caught.value.line()


def test_unknown_architecture_is_refused_with_what_to_do() -> None:
    line = fails({"model_type": "qwen9"})
    assert line.startswith("config.json: unknown model_type 'qwen9'; did you mean 'qwen")
    assert "--as llama" in line
    assert "did you mean 'qwen" in line
    assert "\n" not in line
    assert "side by side" in fails({"model_type": "falcon_h1"})
    assert "missing key 'model_type'" in fails({})


def test_missing_and_wrong_keys_are_named_together() -> None:
    line = fails({k: v for k, v in LLAMA.items() if k not in ("hidden_size", "vocab_size")})
    assert line.splitlines() == [
        "config.json: missing key 'hidden_size'; model_type llama needs it",
        "config.json: missing key 'vocab_size'; model_type llama needs it",
    ]
    assert "'vocab_size' must be a whole number, at least 1, got '32k'" in fails({**LLAMA, "vocab_size": "32k"})
    assert "not a multiple" in fails({**LLAMA, "num_key_value_heads": 3})
    assert "at most" in fails({**LLAMA, "num_hidden_layers": 10**9})
    assert "wrong type" in fails({**json.loads((FIXTURES / "mimo_v2_flash.json").read_text()), "moe_layer_freq": [0]})


DEEPSEEK = json.loads((FIXTURES / "deepseek_v3.json").read_text())
MIXTRAL = json.loads((FIXTURES / "mixtral.json").read_text())
KIMI = json.loads((FIXTURES / "kimi_linear.json").read_text())


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (
            {**MIXTRAL, "num_experts_per_tok": 64},
            "'num_experts_per_tok' is above the number of experts, got 64; allowed: 1 to ",
        ),
        ({**DEEPSEEK, "q_lora_rank": -4096}, "'q_lora_rank' must be a whole number, at least 0, got -4096"),
        ({**DEEPSEEK, "q_lora_rank": float("inf")}, "'q_lora_rank' must be a whole number, at least 0, got inf"),
        (
            {**DEEPSEEK, "num_nextn_predict_layers": -3},
            "'num_nextn_predict_layers' must be a whole number, at least 0, got -3",
        ),
        ({**DEEPSEEK, "moe_layer_freq": 0}, "'moe_layer_freq' must be a whole number, at least 1, got 0"),
        ({**LLAMA, "tie_word_embeddings": "false"}, "'tie_word_embeddings' must be true or false, got 'false'"),
        ({**LLAMA, "attention_bias": []}, "'attention_bias' must be true or false, got []"),
        ({**LLAMA, "mlp_bias": "no"}, "'mlp_bias' must be true or false, got 'no'"),
        (
            {**LLAMA, "max_position_embeddings": "abc"},
            "'max_position_embeddings' must be a whole number, at least 0, got 'abc'",
        ),
        ({**LLAMA, "hidden_size": 10**18}, "'hidden_size' must be at most 1000000000"),
        ({**LLAMA, "num_hidden_layers": 1e30}, "'num_hidden_layers' must be at most 10000, got 1e+30"),
        ({**KIMI, "num_hidden_layers": 1e30}, "'num_hidden_layers' must be at most 10000, got 1e+30"),
        (
            {**KIMI, "max_position_embeddings": -1},
            "'max_position_embeddings' must be a whole number, at least 0, got -1",
        ),
        (
            {**KIMI, "linear_attn_config": {"num_heads": -1}},
            "'linear_attn_config.num_heads' must be a whole number, at least 1, got -1",
        ),
        (
            {**KIMI, "linear_attn_config": {"head_dim": -1}},
            "'linear_attn_config.head_dim' must be a whole number, at least 1, got -1",
        ),
    ],
)
def test_what_no_model_has_is_refused_by_its_key(config: dict[str, object], says: str) -> None:
    line = fails(config)
    assert says in line
    assert "\n" not in line


def test_files(tmp_path: Path) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    file = folder / "config.json"
    file.write_text(json.dumps(LLAMA))
    assert load_model(str(folder)).name == "my-model"
    assert load_model(str(file)).params == GOLDEN["llama.json"]
    file.write_text(json.dumps(LLAMA, indent=2)[:60])
    with pytest.raises(UserError, match=r"config\.json:4:\d+: not valid JSON: .*cut off"):
        load_model(str(file))
    file.write_text("[1]")
    with pytest.raises(UserError, match="not a JSON object"):
        load_model(str(file))
    with pytest.raises(UserError, match="no such file"):
        load_model(str(tmp_path / "none.json"))
    with pytest.raises(UserError, match="no such home directory"):
        load_model("~nobody-has-this-name/config.json")
    with pytest.raises(UserError, match="unknown model"):
        load_model("7" * 400)


def test_known_is_sorted_and_hides_our_own_form() -> None:
    assert known() == sorted(known())
    assert "decoder" not in known()


def kinds(name: str) -> list[str]:
    """Mixer of every layer in order, in a word."""
    m = load_model(str(FIXTURES / f"{name}.json"))
    words = []
    for layer in (m.layers[i] for i in m.pattern):
        a, r = layer.attention, layer.recurrent
        sparse = "sparse " if a.indexer else ""
        words.append(
            r.kind
            if r
            else f"{sparse}{a.compressor.ratio}"
            if a.compressor
            else f"{sparse}{a.kind}"
            if a.num_heads
            else "-"
        )
    return words


def test_mixers_by_layer() -> None:
    assert kinds("qwen3_5_text") == ["gdn", "gdn", "gqa"] * 2
    assert kinds("qwen3_5_moe_text") == ["gdn", "gqa"] * 3
    assert kinds("nemotron_h") == ["mamba2", "-", "mamba2", "gqa", "-", "mamba2"]
    assert kinds("bamba") == ["mamba2", "gqa", "mamba2", "mamba2", "gqa", "mamba2"]
    assert kinds("minimax") == ["lightning", "lightning", "gqa"] * 2
    assert kinds("kimi_linear") == ["kda", "kda", "mla"] * 2
    assert kinds("deepseek_v4") == ["gqa", "128", "sparse 4", "128", "sparse 4", "gqa"]
    assert kinds("minimax_m3") == ["gqa", "gqa", "sparse gqa", "sparse gqa", "gqa", "sparse gqa"]
    assert kinds("deepseek_v32") == ["sparse mla"] * 6


def test_indexers_shared_between_layers() -> None:
    def shared(name: str) -> list[bool]:
        m = load_model(str(FIXTURES / f"{name}.json"))
        return [bool(i and i.shared) for i in (m.layers[k].attention.indexer for k in m.pattern)]

    assert shared("glm_moe_dsa") == [False, False, True, False, True, False]
    assert shared("glm_moe_dsa-types") == [False, True, True, False, True, True]


def test_prediction_blocks_are_what_the_config_says() -> None:
    hybrid = load_model(str(FIXTURES / "nemotron_h-latent.json"))
    assert [(x.has_mixer, x.has_ffn) for x in hybrid.mtp_block] == [(True, False), (False, True)]
    assert load_model(str(FIXTURES / "qwen3_5_moe_text.json")).mtp_block[0].attention.num_heads == 4
    assert load_model(str(FIXTURES / "deepseek_v4.json")).mtp_block[0].attention.compressor is None


def test_lists_that_miss_layers_and_unknown_kinds() -> None:
    hybrid = json.loads((FIXTURES / "qwen3_5_moe_text.json").read_text())
    assert "'layer_types' must list all 6 layers, got 2" in fails({**hybrid, "layer_types": ["full_attention"] * 2})
    assert "allowed: linear_attention, full_attention" in fails({**hybrid, "layer_types": ["windowed"] * 6})
    nemotron = json.loads((FIXTURES / "nemotron_h.json").read_text())
    assert "unknown kind of block, got 'X'" in fails({**nemotron, "hybrid_override_pattern": "MX"})
    assert "missing key 'layers_block_type'" in fails({**nemotron, "hybrid_override_pattern": None})


def test_searched_blocks() -> None:
    """Widths follow the published rule: the multiple of 256 at or above 2/3 of ffn_mult x 2 x h."""
    blocks = [
        {"attention": {"n_heads_in_group": 4}, "ffn": {"ffn_mult": 2.625}},
        {"attention": {"no_op": True}, "ffn": {"ffn_mult": 1.0}},
        {"attention": {"replace_with_linear": True}, "ffn": {"no_op": True}},
    ]
    m = model_from_config(
        {
            "model_type": "nemotron-nas",
            "hidden_size": 1024,
            "num_hidden_layers": 3,
            "num_attention_heads": 8,
            "vocab_size": 1000,
            "block_configs": blocks,
        },
        name="t",
        where="t",
    )
    h, attention = 1024, 1024 * (1024 + 2 * 256 + 1024)
    first, second, third = (m.layers[i] for i in m.pattern)
    assert (first.params, second.params, third.params) == (attention + 3 * h * 1792 + 2 * h, 3 * h * 768 + h, h * h + h)


@pytest.mark.parametrize(
    ("name", "counted"), json.loads((ROOT / "tests" / "golden" / "flops.json").read_text()).items()
)
def test_flop_equal_torch(name: str, counted: dict[str, float]) -> None:
    """What torch's FlopCounterMode counted of the same config (tests/slow/check_flops.py), against our count of what
    that run executes."""
    spec = importlib.util.spec_from_file_location("check_flops", ROOT / "tests" / "slow" / "check_flops.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    ours = module.executed(load_model(str(FIXTURES / f"{name}.json")), int(counted["tokens"]))
    assert ours == pytest.approx(counted["torch"], rel=1e-6)
