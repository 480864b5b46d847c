"""Compare FLOP per token with torch's FlopCounterMode: `python tests/slow/check_flops.py [--write] [CONFIG ...]`.

Runs only where torch and transformers can be imported; skips otherwise. Each small config of tests/fixtures/configs is
built on the meta device and run forward once; what torch counts (matrix products and convolutions) is compared with
Mowich's count of the same work: 2 x the matrices that a token uses, and the mixers' cores as eager code executes them,
which computes the whole square where a causal kernel computes half of it, masks what a window or an indexer leaves out,
and runs recurrences in chunks. `--write` renews docs/records/flops.md and tests/golden/flops.json.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "src"))
sys.path.insert(0, str(ROOT / "tests" / "slow"))
FIXTURES = ROOT / "tests" / "fixtures" / "configs"
TOKENS = 512
NAMES = (
    "llama",
    "bert",
    "gpt2",
    "gemma2",
    "gpt_oss",
    "mixtral",
    "qwen3_moe",
    "qwen2_moe",
    "deepseek_v3",
    "llama4_text",
    "mimo_v2_flash",
    "minimax_m2",
    "gemma4_text-small",
    "gemma4_text-experts",
    "qwen3_next",
    "qwen3_5_text",
    "qwen3_5_moe_text",
    "nemotron_h",
    "nemotron_h-latent",
    "mamba2",
    "bamba",
    "minimax",
    "deepseek_v32",
    "glm_moe_dsa-types",
    "deepseek_v4",
    "minimax_m3",
    "kimi_linear",
)


def torch_count(data: dict[str, Any], seq: int) -> float:
    """FLOP per token that FlopCounterMode counts in one forward pass of one sequence, eager attention, experts as one
    batched product."""
    import torch
    from check_params import build
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import masking_utils

    config, model = build(data)
    for part in [config, *(m.config for m in model.modules() if hasattr(m, "config"))]:
        part._attn_implementation = "eager"
        part._experts_implementation = "batched_mm"
    masking_utils.find_packed_sequence_indices = lambda positions: (
        None
    )  # it looks at values, which a meta tensor has not
    counter = FlopCounterMode(display=False)
    ids = torch.zeros((1, seq), dtype=torch.long, device="meta")
    with counter, torch.no_grad():
        model(input_ids=ids, **({} if data["model_type"] == "bert" else {"use_cache": False}))
    return counter.get_total_flops() / seq


def executed(model: Any, seq: int) -> float:
    """Mowich's count per token of what that run executes."""
    from mowich.models.model import Layer, Moe

    def core(layer: Layer) -> float:
        r, a = layer.recurrent, layer.attention
        if r is not None:
            return recurrence(r, seq)
        entries = seq * (1 + (1 / a.compressor.ratio if a.compressor else 0))
        flop = 2.0 * entries * a.num_heads * (a.head_dim + a.v_head_dim)
        i = a.indexer
        if i and not i.shared:
            scored = seq / (a.compressor.ratio if a.compressor else 1)
            weighted = i.num_heads if i.head_weights and not a.compressor else 0  # the compressed one sums elementwise
            flop += 2.0 * scored * (i.num_heads * i.head_dim + weighted)
        return flop

    total = 2.0 * (model.vocab * model.hidden + model.other_matmul_params)
    for layer in model.layers:
        if model.architecture == "llama4_text" and isinstance(layer.ffn, Moe):  # its eager experts all see every token
            layer = replace(layer, ffn=replace(layer.ffn, top_k=layer.ffn.num_experts))
        total += layer.count * (
            2.0 * layer.matmul_params + core(layer) + (layer.residual_flop if layer.streams > 1 else 0.0)
        )
    return total


def recurrence(r: Any, seq: int) -> float:
    """What eager code counts of one recurrence: the chunked products and the convolution."""
    chunks = seq / r.chunk
    conv = 2.0 * r.conv * r.conv_width * (seq + r.conv - 1) / seq  # padded on the left, cut on the right
    H, P, N, Q = r.num_heads, r.head_dim, r.state_dim, r.chunk
    if (
        r.kind == "gdn"
    ):  # the chunk's triangular system is solved, which torch does not count, where kernels multiply by its inverse
        return r.chunked_flop_per_token() - 2.0 * Q * H * (N + P) + conv
    if r.kind == "kda":  # scores within the chunk are elementwise products here, N a step
        return r.chunked_flop_per_token() - 4.0 * Q * H * N + conv
    if r.kind == "lightning":
        return 2.0 * Q * H * (N + P) + 4.0 * H * N * P
    grouped = 2.0 * Q * r.num_groups * N
    passing = 2.0 * (chunks + 1) ** 2 * H * P * N / seq  # chunk states combined by a square of chunks
    return r.chunked_flop_per_token() - grouped + 2.0 * Q * H * N + passing + conv


def main(arguments: list[str]) -> int:
    try:
        import torch
        import transformers
    except ImportError:
        print("skipped: torch and transformers are not installed")
        return 0
    transformers.logging.set_verbosity_error()
    from mowich.models.given import read_config

    files = [Path(a) for a in arguments if not a.startswith("--")] or [FIXTURES / f"{name}.json" for name in NAMES]
    rows = []
    for file in files:
        data = json.loads(file.read_text())
        seq = min(TOKENS, int(data.get("max_position_embeddings") or data.get("n_positions") or TOKENS))
        model = read_config(file)
        theirs: float | str
        try:
            theirs = torch_count(data, seq)
        except Exception as error:
            theirs = f"not run: {type(error).__name__}: {str(error).splitlines()[0][:90]}"
        ours = executed(model, seq)
        rows.append((file.stem, data["model_type"], seq, ours, theirs, model.flop_per_token(seq)))
        off = f"{ours / theirs - 1:+.4%}" if isinstance(theirs, float) else theirs
        print(f"{file.stem:24} {data['model_type']:20} {seq:5} {ours:16,.1f} {off}", flush=True)
    close = [r for r in rows if isinstance(r[4], float) and abs(r[3] / r[4] - 1) < 1e-3]
    print(f"{len(close)} of {len(rows)} within 0.1%")
    if "--write" in arguments:
        write(rows, torch.__version__, transformers.__version__)
    return 0 if len(close) == len(rows) else 1


def write(rows: list[Any], torch_version: str, version: str) -> None:
    """docs/records/flops.md."""
    out = [
        "# FLOP per token",
        "",
        (
            "What a model computes, per token and forward, is counted from its shapes (`Model.flop_per_token`, `mowich"
            " model`); one FLOP is one"
        ),
        "addition or one multiplication, and a training step is three times the forward pass, recompute left out.",
        "",
        "| part | FLOP per token, forward |",
        "|--|--|",
        (
            "| every matrix that the token meets (projections, feed-forward, router, shared and chosen experts, head) |"
            " 2 per weight |"
        ),
        "| attention, causal, length s | 2 H (d_qk + d_v) s/2 |",
        "| attention in a window or to the best w of an indexer | the same with w - w^2/(2s) for s/2 |",
        "| attention in chunks of w | the same with the chunks' mean, w/2 |",
        (
            "| attention with a compressed past, ratio r | window and past together: min(context, w) + min(context/r,"
            " kept) entries |"
        ),
        "| indexer | 2 H_i (d_i + 1) per entry that it scores; s/2 entries, s/(2r) with a compressed past |",
        "| Mamba-2 | 7 H N P (the convention of Megatron-LM), and 2 taps per convolved channel |",
        "| gated delta net, Kimi delta attention | 8 H N P, and the convolution |",
        "| lightning attention | 4 H N P |",
        "| n > 1 residual streams (hyper-connections) | 2 n^2 h a block, and the matrices that weigh them |",
        "",
        (
            "H heads of width d or P, N state columns per head. Norms, softmax, activations and the embedding lookup"
            " are left out. A decode step"
        ),
        (
            "at context c counts `Attention.decode_flop(c)`: MLA then works on the cached latent, 2 H (2 kv_lora +"
            " rope) per entry. Chunked kernels of recurrences compute"
        ),
        "`Recurrent.chunked_flop_per_token`, more than the recurrence asks for: that is what times are predicted from.",
        "",
        "## Against torch",
        "",
        (
            "Small configs of our own (tests/fixtures/configs) run forward once on the meta device by transformers"
            f" {version}, torch {torch_version}, under"
        ),
        (
            "FlopCounterMode, which counts matrix products and convolutions. Eager code computes the whole square of an"
            " attention that is causal, windowed or"
        ),
        (
            'sparse, and recurrences in chunks; "ours, executed" counts the same. "model" is what Mowich reports. Renew'
            " with"
        ),
        "",
        "    python tests/slow/check_flops.py --write",
        "",
        "| config | model_type | tokens | torch, per token | ours, executed | difference | model |",
        "|--|--|--:|--:|--:|--:|--:|",
    ]
    for name, kind, seq, ours, theirs, model in rows:
        shown = (
            f"{theirs:,.1f} | {ours:,.1f} | {ours / theirs - 1:+.3%}"
            if isinstance(theirs, float)
            else f"{theirs} | {ours:,.1f} | -"
        )
        out.append(f"| {name} | {kind} | {seq} | {shown} | {model:,.1f} |")
    (ROOT / "docs" / "records" / "flops.md").write_text("\n".join(out) + "\n")
    golden = {
        name: {"tokens": seq, "torch": theirs} for name, _, seq, _, theirs, _ in rows if isinstance(theirs, float)
    }
    (ROOT / "tests" / "golden" / "flops.json").write_text(json.dumps(golden, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
