"""Writes docs/records/kernel-layer.md: decoder layers and steps made of kernels, beside published times per token.

    python tools/kernel_layer.py NKI_LIBRARY [OTHER_RATIOS.csv]

NKI_LIBRARY: a checkout of aws-neuron/nki-library. OTHER_RATIOS: a table of published times of whole models on trn2 and
trn3 (columns what, model, chip, value), for the ratio of the two chips.
"""

from __future__ import annotations

import csv
import statistics
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from pages import write

from mowich.errors import UserError
from mowich.facts import Facts, load_facts
from mowich.facts.load import shipped_folder
from mowich.requests.kernels import LAYER
from mowich.studies.layer.study import LayerKind, LayerPart, LayerStudy, time_layers

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "records" / "kernel-layer.md"
ENGINES = ("tensor", "vector", "scalar", "gpsimd", "dma", "collective")
MOST_BATCH = 16
CHIPS = {"trainium2": "trn2", "trainium3": "trn3"}
TARGETS = (
    ("qwen3-30b-a3b", "trn3:1", 4, 2, 640),
    ("gpt-oss-20b", "trn3:1", 8, 1, 640),
    ("llama-3.1-70b", "trn2:16", 64, 2, 2048),
    ("llama-3.1-70b", "trn3:16", 64, 2, 2048),
)
"""(model, chips, ranks, cores of a rank, tokens in the cache)"""

BEFORE = """# Whole layers and steps, made of kernels

`mowich kernel layer MODEL --on trn3:1` says how long a decode or prefill step of a model takes on Trainium 2 or 3, made of kernels that run on the simulated
NeuronCore: each part, each engine, what is busiest. No measured step or layer is used here: a time follows from the kernels, the
[kernel clock](../theory/kernel-timing.md), whose constants come from documentation and measured kernels, and the machine's links.

```console
mowich kernel layer qwen3-30b-a3b --on trn3:1 --tp 4 --lnc 2 --context 640
mowich kernel layer gpt-oss-20b --on trn3:1 --lnc 1 --batch 4 --json
mowich kernel layer llama-3.1-70b --on trn2:16 --library ../nki-library
```

From Python: `mowich.run_layer("qwen3-30b-a3b", "trn3:1", context=640).step_s`. MODEL is a name or a config.json.

## How

- **Ranks.** `--tp` ranks share each layer; a rank is `--lnc` cores. Without `--tp` all cores of the chips take part. All ranks run the same kernels on
  the same shapes, so one is traced and stands for all. The cores of a chip share its HBM.
- **Parts.** Norm, QKV, rotary positions, attention, output projection, MLP or router and experts, all-reduces, residuals: each a launch of its own. After
  the layers: last norm, head, greedy sampling. Without `--library` the kernels are ours (`kernels/`, in the wheel too).
- **nki-library.** `--library DIR` names a checkout of [aws-neuron/nki-library](https://github.com/aws-neuron/nki-library), whose kernels are taken as they
  stand: {entry_points}. Where one refuses a shape, ours is taken and a note says so. A checkout whose kernels take other arguments is refused in one line.
- **One launch.** Where nki-library's blocks do both halves of a layer (decoding, one key-value head on a rank), all layers of a kind are also one launch with
  all-reduces over all ranks in it: `transformer_tkg` for layers of Llama's form, else its blocks one after the other. The step takes that time. Of launches above
  200,000 instructions some layers are traced, the others take what the last of these take, and a note says so.
- **Collectives** inside a chip cost what the [clock](../theory/kernel-timing.md) says, beyond it what the [fabric](../theory/collectives.md) takes for all ranks.
- **No kernel.** Latent and sparse attention, recurrences and feed-forward networks without a gate have none here: that half of a layer is named, taken from the
  planner's law of serving, and its share of the step is told. A model none of whose layers has a kernel is refused.

Left out: the embedding, the host, the scheduler. Weights, activations and caches are bf16; widths that are no whole tiles are padded, the cache to 256 tokens. With
our kernels experts are read once each for all tokens that choose them, tokens spread evenly; new keys and values are written where the
positions are turned.
"""

STACKS = """
## Beside published times per token

Rows of `facts/published/trainium_serving.csv` in bf16, on whole chips without data or expert parallelism, up to batch {most}, whose model has kernels. A published time is of the
whole software; the factor is what its stack takes over AWS's kernels as this page times them. It is **learned by comparison, not hidden**: nothing here is fitted to
these rows. Below 1 the published stack has kernels that are written for that model (megakernels), or the clock is too slow.
"""

AFTER = """
## What it does not know

- Public stacks put kernels between operators that XLA compiles. What XLA makes of those is not simulated: it is in the factor of the stack.
- A layer as one launch may take longer than its parts: `transformer_tkg` calls `mlp` without its column tiling, which takes half as long again, and passes the
  residual stream through HBM.
- `attention_block_tkg` takes one key-value head. With several on a rank our kernels are taken, a launch each.
- Prefill is a sum of launches: no weights are loaded ahead of a part. A step takes up to 16,384 tokens of prompts.
- Which experts tokens choose decides how many are read: spread evenly here, as the planner's law has it.
- The grade is that of the clock's weakest constant on the path, and the interval comes from the ranges of its facts.
"""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(r)} |" for r in (head, ["--"] * len(head), *rows))


def us(seconds: float) -> str:
    return f"{seconds * 1e6:,.1f}" if seconds else ""


def target_text(found: LayerStudy) -> str:
    """A target: its step, then the parts of each kind of layer."""
    j, step = found.job, found.step_s
    out = [
        f"### {found.model} on {found.on}",
        "",
        f"TP{j.tp} of {j.lnc}-core ranks, batch {j.batch}, {j.context:,} tokens: **{float(step) * 1e3:.2f} ms** a step"
        f" ({(step.low or 0) * 1e3:.2f} .. {(step.high or 0) * 1e3:.2f}), grade {step.grade}, {found.by_law_s / float(step):.0%} by law.",
        "",
    ]
    for kind in found.kinds:
        out += [_kind_text(kind), ""]
    rows = [_part_row(p) for p in found.after]
    out += ["After the layers:", "", table(["part", "kernel", "us", "busiest", *ENGINES], rows), ""]
    return "\n".join(out)


def _kind_text(kind: LayerKind) -> str:
    rows = [_part_row(p) for p in kind.parts]
    total = sum(float(p.time_s) for p in kind.parts)
    rows.append(["sum of the parts", "", us(total), "", *[""] * len(ENGINES)])
    if kind.one is not None:
        rows.append(["**as one launch**", *_part_row(kind.one)[1:]])
    words = f"{kind.count} layers ({kind.words}), us a layer; all of them {float(kind.all_s) * 1e3:.2f} ms:"
    return words + "\n\n" + table(["part", "kernel", "us", "busiest", *ENGINES], rows)


def _part_row(part: LayerPart) -> list[str]:
    kernel = f"`{part.kernel}`" if part.kernel else f"law: {part.why}" if part.why else ""
    engines = [us(part.engines.get(name, 0.0)) for name in ENGINES]
    return [part.name, kernel.replace(" + ", "` + `"), us(float(part.time_s)), part.binds, *engines]


def published(facts: Facts, library: Path) -> list[tuple[Mapping[str, str], float, float]]:
    """(row, ms published, ms made of kernels) of each row that can be compared."""
    with (shipped_folder() / "published" / "trainium_serving.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    made: dict[tuple[object, ...], float | None] = {}
    out: list[tuple[Mapping[str, str], float, float]] = []
    for row in rows:
        plain = row["precision"] == "BF16" and row["answerable"] == "yes" and not row["dp"] and not row["ep"]
        if not plain or not row["tpot_ms"] or row["spec_decode"] or int(row["batch"] or 1) > MOST_BATCH:
            continue
        context = int(float(row["isl"]) + float(row["osl"]) / 2)
        key = (
            row["model"],
            CHIPS[row["chip"]],
            row["n_chips"],
            row["tp"],
            row["lnc"],
            row["batch"],
            -(-context // 256),
        )
        if key not in made:
            made[key] = _step_ms(facts, row, context, library)
        value = made[key]
        if value is not None:
            out.append((row, float(row["tpot_ms"]), value))
    return out


def _timed(facts: Facts, model: str, on: str, **asked: object) -> LayerStudy:
    return time_layers(LAYER.of(facts, model=model, on=on, **asked))


def _step_ms(facts: Facts, row: Mapping[str, str], context: int, library: Path) -> float | None:
    try:
        found = _timed(
            facts,
            row["model"],
            f"{CHIPS[row['chip']]}:{row['n_chips']}",
            tp=int(row["tp"]),
            lnc=int(row["lnc"]),
            batch=int(row["batch"]),
            context=context,
            library=library,
        )
    except UserError as error:
        print(f"left out: {row['id']}: {error}", file=sys.stderr)
        return None
    return float(found.step_s) * 1e3 if found.by_law_s == 0 else None


def stacks_text(compared: Sequence[tuple[Mapping[str, str], float, float]]) -> str:
    """The factor of each stack, then each row."""
    by_stack: dict[str, list[float]] = defaultdict(list)
    for row, measured, made in compared:
        by_stack[row["stack"]].append(measured / made)
    short = [
        [f"`{stack}`", str(len(f)), f"{statistics.median(f):.2f}", f"{min(f):.2f} .. {max(f):.2f}"]
        for stack, f in sorted(by_stack.items(), key=lambda x: statistics.median(x[1]))
    ]
    rows = [
        [
            row["id"],
            row["model"],
            f"{row['n_chips']} {CHIPS[row['chip']]}, TP{row['tp']}, LNC {row['lnc']}",
            row["batch"],
            f"{float(row['isl']) + float(row['osl']) / 2:,.0f}",
            f"{measured:.2f}",
            f"{made:.2f}",
            f"{measured / made:.2f}",
        ]
        for row, measured, made in compared
    ]
    return (
        STACKS.format(most=MOST_BATCH)
        + "\n"
        + table(["stack", "rows", "published over kernels, median", "range"], short)
        + "\n\n"
        + table(["row", "model", "ranks", "batch", "tokens", "published, ms", "kernels, ms", "factor"], rows)
        + "\n"
    )


def ratios_text(facts: Facts, library: Path, file: Path | None) -> str:
    """Trainium 2 over Trainium 3 of the same step, beside what is published of whole models."""
    rows = []
    for words, prefill, context in (("decode", False, 2048), ("prefill", True, 2048)):
        for model in ("qwen3-30b-a3b", "llama-3.1-8b"):
            each = [
                float(_timed(facts, model, on, context=context, prefill=prefill, library=library).step_s)
                for on in ("trn2:1", "trn3:1")
            ]
            rows.append(
                [model, f"{words}, {context:,} tokens", *(f"{x * 1e3:.2f}" for x in each), f"{each[0] / each[1]:.2f}"]
            )
    out = [
        "## Trainium 3 over Trainium 2",
        "",
        "One chip each, TP4 of 2-core ranks, nki-library's kernels where it has them.",
        "",
        table(["model", "step", "trn2, ms", "trn3, ms", "trn2 over trn3"], rows),
        "",
    ]
    if file is not None:
        known = published_ratios(file)
        low, high = min(known.values()), max(known.values())
        out += [
            f"Published of whole models (one forward pass of {len(known)} diffusion transformers on one chip, TP4, compiled by XLA): {low:.2f} to {high:.2f}.",
            "",
        ]
    return "\n".join(out)


def published_ratios(file: Path) -> dict[str, float]:
    """Model -> time on trn2 over that on trn3, of models that are published on both."""
    with file.open(encoding="utf-8", newline="") as text:
        rows = [r for r in csv.DictReader(text) if r["model"]]
    by_model: dict[str, dict[str, float]] = defaultdict(dict)
    for r in rows:
        by_model[f"{r['model']} {r['shape']}"][r["chip"]] = float(r["value"])
    return {name: t["trn2"] / t["trn3"] for name, t in by_model.items() if {"trn2", "trn3"} <= set(t)}


ENTRY_POINTS = (
    "`attention_block_tkg`, `mlp`, `moe_block_tkg`, `moe_tkg` and `transformer_tkg` for decoding, `qkv`,"
    " `attention_cte`, `output_projection_cte` and `mlp` for prompts"
)


def pages_of(library: Path, ratios: Path | None) -> dict[Path, str]:
    """The page and its text."""
    facts = load_facts()
    found = [
        _timed(facts, model, on, tp=tp, lnc=lnc, context=context, library=library)
        for model, on, tp, lnc, context in TARGETS
    ]
    head = BEFORE.format(entry_points=ENTRY_POINTS)
    version = found[0].version
    middle = f"\n## Three models\n\nDecoding, kernels of nki-library{f' at {version}' if version else ''}. Generated by `tools/kernel_layer.py`.\n\n"
    text = head + middle + "\n".join(target_text(x) for x in found)
    text += stacks_text(published(facts, library)) + "\n" + ratios_text(facts, library, ratios) + AFTER
    return {PAGE: text}


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("name a checkout of aws-neuron/nki-library")
    write(pages_of(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None))
