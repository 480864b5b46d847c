"""Compare parameter counts with transformers: `python tests/slow/check_params.py [--write] [CONFIG ...]`.

Runs only where torch and transformers can be imported (they are no dependencies of Mowich); skips otherwise. Each
config is built on the meta device, tied weights are counted once, multi-token-prediction layers and buffers are left
out. Without arguments it takes our own configs in tests/fixtures/configs and those of ../shared/models where present.
`--write` renews docs/records/parameters.md and tests/golden/params.json.
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "src"))
FIXTURES = ROOT / "tests" / "fixtures" / "configs"
SHARED = ROOT.parent / "shared" / "models"


SAME = {
    "kimi_k2": "deepseek_v3",
    "mimo": "qwen2",
    "deepseek_ref": "deepseek_v4",
    "minimax_m3": "minimax_m3_vl_text",
}
"""The same structure under another name: kimi_k2 names DeepSeek-V3's class in its config, mimo extends Qwen2's."""

DERIVED = {
    "kimi_k3": (
        "derived from Kimi Linear, the config and public descriptions; published total 2.78 T, active 104 B (grade C)"
    ),
    "mimo_v2": "derived from MiMo-V2-Flash; equal to the published tensors but for the biases of experts",
    "nemotron-nas": "derived from the published modeling code's rule for widths; published total 49.9 B (grade C)",
}
"""Architectures that no released transformers builds -> how their count was found."""


def transformers_count(data: dict[str, Any]) -> int:
    """Parameters of the text model that transformers builds for this config, on the meta device."""
    if data.get("model_type") in ("qwen3_vl", "qwen3_vl_moe", "llama4", "gemma4", "glm5_next"):
        return _without_vision(data)
    if data.get("model_type") == "glm5_next_text":
        return _without_vision({"model_type": "glm5_next", "text_config": data, "tie_word_embeddings": False})
    if data.get("model_type") in ("step3p5", "step3p7"):
        return _without_vision(_step(data))
    _, model = build(data)
    return sum(p.numel() for p in model.parameters())


def build(data: dict[str, Any]) -> tuple[Any, Any]:
    """(config, text model) of transformers for a parsed config, on the meta device, tied weights tied."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForMaskedLM

    from mowich.models.architectures import WRAPPERS

    text = dict(data)
    if isinstance(data.get("text_config"), dict):
        text = dict(data["text_config"])
        if data.get("tie_word_embeddings") is not None:
            text["tie_word_embeddings"] = data["tie_word_embeddings"]
    text.pop("quantization_config", None)
    text.pop("auto_map", None)
    kind = str(text.get("model_type") or WRAPPERS.get(str(data.get("model_type"))))
    kind = SAME.get(kind, kind)
    text["model_type"] = kind
    if kind == "kimi_linear" and text.get("attn_res_block_size"):
        raise ValueError("transformers has no Kimi K3: " + DERIVED["kimi_k3"])
    if kind in DERIVED:
        raise ValueError("not in transformers: " + DERIVED[kind])
    config = CONFIG_MAPPING[kind].from_dict({k: v for k, v in text.items() if k != "rope_scaling"})
    auto = AutoModelForMaskedLM if kind == "bert" else AutoModelForCausalLM
    with torch.device("meta"):
        model = auto.from_config(config)
    model.tie_weights()
    return config, model


def _without_vision(data: dict[str, Any]) -> int:
    """Parameters of the whole multimodal model without those of its vision tower and projector."""
    vision = ("visual", "vision", "projector")
    _, model = build_whole(data)
    return sum(p.numel() for name, p in model.named_parameters() if not any(v in name for v in vision))


def build_whole(data: dict[str, Any]) -> tuple[Any, Any]:
    """(config, multimodal model) of transformers for a parsed config, on the meta device."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForImageTextToText

    config = CONFIG_MAPPING[data["model_type"]].from_dict({k: v for k, v in data.items() if k != "quantization_config"})
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    model.tie_weights()
    return config, model


def _step(data: dict[str, Any]) -> dict[str, Any]:
    """The multimodal config around Step's text config, whose class is built only so; keys as the published checkpoint
    has them."""
    text = {"n_routed_experts" if k == "num_experts" else k: v for k, v in data.items() if k != "quantization_config"}
    return {"model_type": "step3p7", "text_config": {**text, "model_type": "step3p5"}, "tie_word_embeddings": False}


def builtin_rows() -> list[tuple[str, str, int | None, int | str]]:
    """Built-in models that are stated in the words of a Hugging Face config, compared the same way."""
    from mowich.models import load_model, model_names
    from mowich.models.builtin import captured_names, config_of

    rows: list[tuple[str, str, int | None, int | str]] = []
    for name in sorted({*model_names()} - {*captured_names()}):
        config = {k: v for k, v in config_of(name).items() if k not in ("source", "quantization_config")}
        if config["model_type"] == "decoder":
            continue
        period = config.pop("sliding_window_pattern", None)
        if period:
            kinds = ["sliding_attention"] * (period - 1) + ["full_attention"]
            config["layer_types"] = [kinds[i % period] for i in range(config["num_hidden_layers"])]
        try:
            theirs: int | str = transformers_count(config)
        except ValueError as error:
            theirs = str(error)
        rows.append((f"built-in {name}", config["model_type"], load_model(name).params, theirs))
    return rows


def main(arguments: list[str]) -> int:
    try:
        import torch
        import transformers
    except ImportError:
        print("skipped: torch and transformers are not installed")
        return 0
    transformers.logging.set_verbosity_error()
    from mowich.errors import UserError
    from mowich.models.given import read_config

    write = "--write" in arguments
    files = [Path(a) for a in arguments if not a.startswith("--")]
    everything = not files
    if everything:
        files = sorted(FIXTURES.glob("*.json")) + sorted(SHARED.glob("*_config.json"))
    rows: list[tuple[str, str, int | None, int | str]] = []
    for file in files:
        data = json.loads(file.read_text())
        kind = str(data.get("model_type"))
        try:
            ours: int | None = read_config(file).params
        except UserError as error:
            rows.append((file.name, kind, None, error.line().split(": ", 1)[-1].split(";")[0]))
            print(f"{file.name:60} {kind:20} refused: {rows[-1][3]}")
            continue
        theirs: int | str
        try:
            theirs = transformers_count(data)
        except Exception as error:
            why = str(error).splitlines()[0]
            theirs = why if "transformers" in why[:20] else f"not built: {type(error).__name__}: {why[:90]}"
        gc.collect()
        rows.append((file.name, kind, ours, theirs))
        mark = "" if not isinstance(theirs, int) else "equal" if ours == theirs else f"DIFFERS by {ours - theirs}"
        print(f"{file.name:60} {kind:20} {ours:>16} {theirs:>16} {mark}", flush=True)
    if everything:
        rows += builtin_rows()
    answered = [r for r in rows if r[2] is not None]
    known = [r for r in answered if not (isinstance(r[3], str) and any(r[3].endswith(why) for why in DERIVED.values()))]
    equal = [r for r in known if r[2] == r[3]]
    print(
        f"{len(equal)} of {len(known)} equal; {len(answered) - len(known)} that transformers does not have; "
        f"{len(rows) - len(answered)} refused"
    )
    if write:
        _write(rows, torch.__version__, transformers.__version__)
    return 0 if len(equal) == len(known) else 1


def _write(rows: list[tuple[str, str, int | None, int | str]], torch_version: str, version: str) -> None:
    shared = [r for r in rows if r[0].endswith("_config.json")]
    built = [r for r in rows if r[0].startswith("built-in ")]
    done = [r for r in shared if r[2] is not None]
    equal = sum(r[2] == r[3] for r in done)
    out = [
        "# Parameter counts",
        "",
        (
            f"Counted by Mowich from the config, and by transformers {version} (torch {torch_version}) on the meta"
            " device: the text"
        ),
        "model, tied weights once, multi-token-prediction layers and buffers left out. Renew with",
        "",
        "    python tests/slow/check_params.py --write",
        "",
        (
            "where torch and transformers can be imported (Mowich itself needs neither). Small configs of our own cover"
            " each"
        ),
        "architecture with its options switched on; the others are published configs.",
        f"Of {len(shared)} published configs {len(done)} are read; {equal} equal transformers.",
        (
            f"Of {len(built)} built-in models in the words of a Hugging Face config"
            f" {sum(r[2] == r[3] for r in built)} equal transformers."
        ),
        "Where transformers has no such architecture the row says what the count was derived from.",
        "",
        "| config | model_type | ours | transformers | equal |",
        "|--|--|--:|--:|--|",
    ]
    for name, kind, ours, theirs in rows:
        if ours is not None:
            shown = f"{theirs:,}" if isinstance(theirs, int) else theirs
            out.append(f"| {name} | {kind} | {ours:,} | {shown} | {'yes' if ours == theirs else 'no'} |")
    refused = [f"| {name} | {kind} | {why} |" for name, kind, ours, why in rows if ours is None]
    if refused:
        out += ["", "Refused:", "", "| config | model_type | why |", "|--|--|--|", *refused]
    (ROOT / "docs").mkdir(exist_ok=True)
    (ROOT / "docs" / "records" / "parameters.md").write_text("\n".join(out) + "\n")
    golden = {name: theirs for name, _, ours, theirs in rows if ours is not None and isinstance(theirs, int)}
    (ROOT / "tests" / "golden" / "params.json").write_text(json.dumps(golden, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
