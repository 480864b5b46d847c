"""Which models of transformers, diffusers and timm are captured, and whether what was captured is right.

Run: `python tests/capture/check_families.py [--python VENV/bin/python] [--write] [NAME ...]` (that interpreter, or
this one, has torch, transformers, diffusers and timm; twenty minutes). Each model is captured in a process of its own,
with limits of time and memory, or refused with its reason; every dimension is checked by the exporter at a fifth size.
Parameters are compared with PyTorch's count, FLOP with `Model.flop_per_token` where Mowich reads the configuration too.
`--write` renews docs/records/capture-coverage.md. Exit code 1 where less is captured than `TARGETS` says, or
parameters differ.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mowich.errors import UserError, UserErrors
from mowich.models.attention import Attention, Indexer
from mowich.models.config import model_from_config

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "records" / "capture-coverage.md"
TOKENS = 4096
TARGETS = {"decoder": 171, "completed": 183, "vision-language": 7, "diffusers": 11}
"""Models of a group that are captured at least, as counted on 2026-12-02; they only become more. "completed": decoders
with the values of completed.yaml."""

VISION_LANGUAGE = (
    "Qwen2VLForConditionalGeneration",
    "Qwen2_5_VLForConditionalGeneration",
    "Qwen3VLForConditionalGeneration",
    "Qwen3VLMoeForConditionalGeneration",
    "Glm4vForConditionalGeneration",
    "LlavaForConditionalGeneration",
    "Gemma3ForConditionalGeneration",
    "PaliGemmaForConditionalGeneration",
    "InternVLForConditionalGeneration",
    "MllamaForConditionalGeneration",
    "Idefics3ForConditionalGeneration",
    "Mistral3ForConditionalGeneration",
)
OTHERS = (
    "BertModel",
    "RobertaForMaskedLM",
    "ModernBertModel",
    "ViTModel",
    "Dinov2Model",
    "DINOv3ViTModel",
    "SiglipVisionModel",
    "CLIPVisionModel",
    "CLIPTextModel",
    "Wav2Vec2Model",
    "HubertModel",
    "ParakeetEncoder",
    "WhisperForConditionalGeneration",
    "T5ForConditionalGeneration",
    "BartForConditionalGeneration",
)
TIMM = (
    "vit_base_patch16_224",
    "resnet50",
    "convnext_base",
    "swin_base_patch4_window7_224",
    "eva02_base_patch14_224",
    "efficientnet_b0",
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """What became of one model. ratio: FLOP of the file to those of `Model`, None where Mowich reads no such config."""

    group: str
    name: str
    is_completed: bool = False
    refused: str = ""
    params: int = 0
    is_exact: bool = True
    ratio: float | None = None
    seconds: float = 0.0
    peak_B: int = 0
    doubts: tuple[str, ...] = ()


def at(size: Sequence[int], tokens: int) -> float:
    """A dimension a + bB + cS + dBS at one sequence.

    >>> at((1, 2, 3, 4), 10)
    73.0
    """
    a, b, c, d = size
    return float(a + b + (c + d) * tokens)


def flop(document: Mapping[str, Any], tokens: int) -> float:
    """Forward FLOP of one sequence: 2 n k rows, cores (causal ones as `Attention.context` counts), experts (top_k of
    them), scans."""
    total = 0.0
    for layer in [*document["layers"], document["outside"]]:
        work = sum(2.0 * p["n"] * p["k"] * at(p["rows"], tokens) * p["times"] for p in layer["products"])
        for core in layer["cores"]:
            keys = at(core["keys"], tokens)
            kept = core.get("kept")
            indexer = Indexer(num_heads=0, head_dim=0, top_k=kept, head_weights=False) if kept else None
            attends = Attention(
                kind="gqa",
                num_heads=core["heads"],
                num_kv_heads=core["kv_heads"],
                head_dim=core["qk"],
                v_head_dim=core["v"],
                window=core["window"],
                chunked=core["chunked"],
                causal=core["causal"],
                indexer=indexer,
            )
            rows = at(core["sequences"], tokens) * at(core["queries"], tokens)
            work += 2.0 * rows * attends.context(keys) * core["heads"] * (core["qk"] + core["v"])
        for routed in layer["experts"]:
            matrices = 3 if routed["gated"] else 2
            work += 2.0 * at(routed["rows"], tokens) * routed["top_k"] * matrices * routed["ffn"] * routed["width"]
        work += sum(at(scan["flop"], tokens) for scan in layer["scans"])
        total += work * layer["count"]
    return total


def ours(document: Mapping[str, Any], name: str) -> float | None:
    """FLOP of one sequence by `Model`, None where Mowich does not read the configuration or reads another model."""
    config = document["config"]
    if not isinstance(config, Mapping):
        return None
    try:
        model = model_from_config(config, name=name, where=name)
    except (UserError, UserErrors):
        return None
    return model.flop_per_token(TOKENS) * TOKENS if model.params == document["params"] else None


def asked(decoders: Mapping[str, str], completed: Mapping[str, Any]) -> Iterator[tuple[Row, dict[str, Any]]]:
    """Every model with what the worker is asked."""
    for model_type, cls in decoders.items():
        values = completed.get(model_type)
        row = Row(group="decoder", name=model_type, is_completed=values is not None)
        yield row, {"spec": f"transformers:{cls}", "settings": values or {}}
    for group, family, names in (
        ("vision-language", "transformers", VISION_LANGUAGE),
        ("encoder and speech", "transformers", OTHERS),
        ("timm", "timm", TIMM),
    ):
        for name in names:
            values = completed.get(name)
            row = Row(group=group, name=name, is_completed=values is not None)
            yield row, {"spec": f"{family}:{name}", "settings": values or {}}
    from mowich.capture.adapters.diffusers import CLASSES

    for name in CLASSES:
        values = completed.get(name)
        row = Row(group="diffusers", name=name, is_completed=values is not None)
        yield row, {"spec": f"diffusers:{name}", "settings": values or {}}


def answered(row: Row, answer: Mapping[str, Any]) -> Row:
    """The row with what the worker answered."""
    given = {"group": row.group, "name": row.name, "is_completed": row.is_completed}
    if "refused" in answer:
        return Row(**given, refused=" ".join(str(answer["refused"]).split())[:240])
    document = answer["document"]
    if row.group == "vision-language" and document["kind"] != row.group:
        return Row(**given, refused="its text part alone was captured, without images")
    by_model = ours(document, row.name) if row.group == "decoder" else None
    whats = sorted({f"{one['what']}" for one in document["not_understood"]})
    return Row(
        **given,
        params=document["params"],
        is_exact=document["params"] == answer["parameters"],
        ratio=flop(document, TOKENS) / by_model if by_model else None,
        seconds=answer["seconds"],
        peak_B=answer["peak_B"],
        doubts=tuple(whats),
    )


def page(rows: Sequence[Row], version: str) -> str:
    """docs/records/capture-coverage.md."""
    lines = [
        "# What is captured",
        "",
        f"Written by `python tests/capture/check_families.py --write` with transformers {version}. Each model is built "
        "from its default configuration, the completed ones with the values of `tests/capture/completed.yaml`. FLOP: "
        f"those of the file to those of `Model.flop_per_token` at {TOKENS:,} tokens, where Mowich reads the "
        "configuration itself with the same parameters. Seconds are CPU time without the import of libraries.",
        "",
        "| group | models | captured | refused |",
        "|--|--|--|--|",
    ]
    groups = list(dict.fromkeys(row.group for row in rows))
    for group in groups:
        held = [row for row in rows if row.group == group]
        refused = sum(bool(row.refused) for row in held)
        lines.append(f"| {group} | {len(held)} | {len(held) - refused} | {refused} |")
    lines += ["", *_sums(rows), ""]
    for group in groups:
        lines += [
            f"## {group[0].upper()}{group[1:]}",
            "",
            "| model | status | parameters | FLOP | CPU s |",
            "|--|--|--|--|--|",
        ]
        for row in (row for row in rows if row.group == group):
            status = f"refused: {row.refused}" if row.refused else "completed" if row.is_completed else "captured"
            status += f"; not understood: {', '.join(row.doubts)}" if row.doubts else ""
            ratio = "" if row.ratio is None else f"{row.ratio:.4f}"
            numbers = ("", "", "") if row.refused else (f"{row.params:,}", ratio, f"{row.seconds:.1f}")
            lines.append(f"| {row.name} | {status.replace('|', '/')} | {' | '.join(numbers)} |")
        lines.append("")
    return "\n".join(lines)


def _sums(rows: Sequence[Row]) -> list[str]:
    done = [row for row in rows if not row.refused]
    both = [row.ratio for row in done if row.ratio is not None]
    near = {share: sum(abs(ratio - 1) <= share for ratio in both) for share in (0.001, 0.01)}
    return [
        f"- Parameters are those of PyTorch in {sum(row.is_exact for row in done)} of {len(done)}.",
        f"- FLOP of {len(both)} that Mowich reads too: within 0.1% {near[0.001]}, within 1% {near[0.01]}.",
        f"- CPU seconds: median {statistics.median(row.seconds for row in done):.1f}, "
        f"most {max(row.seconds for row in done):.1f}; memory at most {max(row.peak_B for row in done) / 1e6:,.0f} MB.",
    ]


def short(rows: Sequence[Row]) -> list[str]:
    """What falls short of `TARGETS`."""
    done = [row for row in rows if not row.refused]
    counts = {group: sum(row.group == group for row in done) for group in TARGETS}
    counts["completed"] = counts["decoder"]
    counts["decoder"] = sum(row.group == "decoder" and not row.is_completed for row in done)
    found = [f"{group}: {counts[group]} of {target}" for group, target in TARGETS.items() if counts[group] < target]
    return found + [f"{row.name}: parameters differ" for row in done if not row.is_exact]


def main(arguments: Sequence[str] | None = None) -> int:
    """The check; 1 where it fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--python", default=sys.executable, help="interpreter with torch, transformers, diffusers and timm"
    )
    parser.add_argument("--write", action="store_true", help="renew docs/records/capture-coverage.md")
    parser.add_argument("names", nargs="*", help="models, all of them without")
    given = parser.parse_args(arguments)
    source = str(HERE.parents[1] / "src")
    environment = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    worker = subprocess.Popen(
        [given.python, str(HERE / "families_worker.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    assert worker.stdin is not None
    assert worker.stdout is not None
    first = json.loads(worker.stdout.readline())
    completed = yaml.safe_load((HERE / "completed.yaml").read_text(encoding="utf-8"))
    rows = []
    for row, question in asked(first["decoders"], completed):
        if given.names and row.name not in given.names:
            continue
        worker.stdin.write(json.dumps(question) + "\n")
        worker.stdin.flush()
        rows.append(answered(row, json.loads(worker.stdout.readline())))
        last = rows[-1]
        said = last.refused or f"{last.params:,} parameters, FLOP {last.ratio}, {last.seconds:.1f} s"
        print(f"{last.group}\t{last.name}\t{said}", flush=True)
    worker.stdin.close()
    worker.wait()
    print("\n".join(_sums(rows)))
    if given.write:
        PAGE.write_text(page(rows, first["transformers"]), encoding="utf-8")
    if given.names:
        return int(any(row.refused or not row.is_exact for row in rows))
    problems = short(rows)
    print("\n".join(problems))
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
