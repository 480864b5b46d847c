"""Writes docs/records/trainium-gain.md: how much faster Trainium 3 trains than Trainium 2, why, and between which ends.

python tools/trainium_gain.py
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pages import write

from mowich.facts import Facts, load_facts
from mowich.models import load_model
from mowich.models.model import as_trained
from mowich.plans.plan import TrainJob
from mowich.software.stack import RECIPE_CHOSEN, equip
from mowich.training.search import Candidate, search
from mowich.training.step import STEP_PARTS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "records" / "trainium-gain.md"
CHIPS = 16384
SEQ = 4096
JOBS = (("deepseek-v3", 16384), ("deepseek-v3", 65536), ("llama-3.1-405b", 16384), ("llama-3.1-405b", 65536))
SYSTEMS = ("trn2", "trn3")

LINKS = tuple(
    f"chips.trainium3.scale_up.{name}_per_direction" for name in ("intra_server", "inter_server_in_rack", "inter_rack")
)
EFA = "chips.trainium3.scale_out.bandwidth_per_direction"
ATTENTION = ("devices.neuroncore-v3.attention", "devices.neuroncore-v4.attention")
GEMM = ("devices.neuroncore-v3.product_16", "devices.neuroncore-v4.product_16")
APART = 0.93
"""Factor on the attention of each chip, one down and one up: half of an operator table's interval of 14%, as the other
half, one clock behind both, is common."""
UTILISATION = 90.0 / 60.0
"""Tensor engine of Anthropic's kernels, Trainium 3 over 2, as AWS states it."""

HEAD = """# Trainium 3 over Trainium 2 in training

How much faster a step is on as many chips, and why. 16,384 chips of each, 4,096 tokens a sequence, the best plan of each for the software as shipped, searched anew in each row. Written by `python tools/trainium_gain.py`. No training step of Trainium 3 and one of Trainium 2 has been published (searched 27 November
2026): this page is a forecast, and the interval of each step (half to twice) is mostly common to both chips.

Both train in BF16. The software that ships is TorchTitan Neuron 0.2.2+neuron.1 (beta, Neuron 2.33.0 of 19 October 2026, read 1 December 2026), and it has no recipe in 8 bit; one row of the table counts those formats all the same.

AWS's 4.4 times for the UltraServer is a ratio of peaks of 144 chips and 64: 1.94 a chip in 8 bit. BF16 peak is the same on both, 671 and 667 TFLOP/s.
"""

WHY = """
## Why not the ratio of the peaks

- **EFA** is 200 Gbit/s a chip on both. What crosses the network between UltraServers (gradients, weights of ZeRO-3) takes as long on Trainium 3 (row *dp* of DeepSeek-V3).
- **Batch.** 16,384 sequences on 65,536 devices are a quarter of a sequence each, so there is one micro-batch, and its gathers hide behind little. With 65,536 sequences DeepSeek-V3 gains more.
- **Attention** runs in 16 bit, where the peaks are the same. Our own forward kernel reaches {a2:.2f} of the peak on Trainium 2 and {a3:.2f} on Trainium 3, whose exponentials are four times as fast. Latent
  attention (DeepSeek) has no kernel of ours yet, and takes the same shares.
- **Links.** A Trainium 3 drives {links:.0f} GB/s one way over its three levels, {low:.0f} to {high:.0f} by how lanes are counted ([facts.md](../theory/facts.md#numbers-that-vendors-leave-open-and-what-we-chose)); experts' dispatch needs them.
- **Fixed times** of a step are the same.
- **Software** is counted on what devices compute, not on transfers: what an immature stack loses does not make a link slower.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A job with the best plan on each chip, Trainium 2 and 3."""

    name: str
    seqs: int
    best: tuple[Candidate, Candidate]

    @property
    def gain(self) -> float:
        """Tokens a second on Trainium 3 over those on Trainium 2."""
        two, three = self.best
        return (three.tokens / three.step_s) / (two.tokens / two.step_s)


def pair(name: str, seqs: int, facts: Facts) -> Pair:
    """A job with its best plans."""
    model = as_trained(load_model(name))
    job = TrainJob(tokens=15e12, seq=SEQ, batch_seqs=seqs)
    two, three = (search(model, equip(facts, on, chips=CHIPS), job).best[0] for on in SYSTEMS)
    return Pair(name=name, seqs=seqs, best=(two, three))


def changes(facts: Facts) -> dict[str, dict[str, float | str]]:
    """Words of each row of the table -> facts that it changes."""
    known = {path: facts.fact(path) for path in (*LINKS, *ATTENTION, *GEMM)}
    ends: dict[str, dict[str, float | str]] = {
        end: {path: float(getattr(known[path], end) or known[path].value) for path in LINKS} for end in ("low", "high")
    }
    a2, a3 = (float(known[path].value) for path in ATTENTION)
    g2, g3 = (float(known[path].value) for path in GEMM)
    alike: dict[str, float | str] = dict.fromkeys(ATTENTION, math.sqrt(a2 * a3))
    return {
        "at our values": {},
        "in 8 bit too, which no software ships (`--recipe future`)": {RECIPE_CHOSEN: "future"},
        "links at half of AWS's table (352 GB/s)": {path: float(low) / 2.0 for path, low in ends["low"].items()},
        "links at their low end (704 GB/s)": ends["low"],
        "links at their high end (1,152 GB/s)": ends["high"],
        "attention alike on both": alike,
        "products alike on both": dict.fromkeys(GEMM, g3),
        "EFA of Trainium 3 doubled": {EFA: 2.0 * facts.number(EFA)},
        "**low end**: links low, attention and products alike": ends["low"] | alike | dict.fromkeys(GEMM, g3),
        "**high end**: links high, attention apart, products by AWS's 60 and 90%": ends["high"]
        | {ATTENTION[0]: a2 * APART, ATTENTION[1]: a3 / APART}
        | {GEMM[0]: g2, GEMM[1]: g2 * UTILISATION},
    }


def parts(pairs: Sequence[Pair]) -> list[str]:
    """Where the time of the first job of each model goes, on each chip."""
    lines = []
    for p in {p.name: p for p in reversed(pairs)}.values():
        two, three = p.best
        lines += [
            "",
            f"## {p.name}, {p.seqs:,} sequences",
            "",
            f"Trainium 2 `{two.plan}`, Trainium 3 `{three.plan}`. Seconds a step:",
            "",
            "| part | Trainium 2 | Trainium 3 | ratio |",
            "|--|--:|--:|--:|",
        ]
        for part in STEP_PARTS:
            a, b = two.parts[part], three.parts[part]
            if max(a / two.step_s, b / three.step_s) >= 0.01:
                lines.append(f"| {part} | {a:.2f} | {b:.2f} | {f'{a / b:.2f}' if b > 0.001 else '-'} |")
        lines.append(
            f"| **step** | **{two.step_s:.2f}** | **{three.step_s:.2f}** | **{two.step_s / three.step_s:.2f}** |"
        )
    return lines


def pages() -> dict[Path, str]:
    """The page and its text."""
    facts = load_facts()
    rows = {
        words: [pair(name, seqs, facts.with_values(change) if change else facts) for name, seqs in JOBS]
        for words, change in changes(facts).items()
    }
    pairs = next(iter(rows.values()))
    lines = [
        HEAD,
        "| | " + " | ".join(f"{p.name}, {p.seqs:,} sequences" for p in pairs) + " |",
        "|--|" + "--:|" * len(pairs),
    ]
    lines += [f"| {words} | " + " | ".join(f"{p.gain:.2f}" for p in row) + " |" for words, row in rows.items()]
    base, low, high = pairs, *(list(rows.values())[-2:])
    lines += [
        "",
        "In short: "
        + "; ".join(
            f"{p.name} with {p.seqs:,} sequences {p.gain:.1f} ({a.gain:.1f} to {b.gain:.1f})"
            for p, a, b in zip(base, low, high, strict=True)
        )
        + " times as many tokens a second on a Trainium 3 as on a Trainium 2.",
    ]
    total = facts.fact("chips.trainium3.scale_up.bandwidth_sum_of_levels_per_direction")
    lines.append(
        WHY.format(
            a2=facts.number(ATTENTION[0]),
            a3=facts.number(ATTENTION[1]),
            links=sum(facts.number(path) for path in LINKS) / 1e9,
            low=float(total.low or 0.0) / 1e9,
            high=float(total.high or 0.0) / 1e9,
        ).rstrip("\n")
    )
    return {PAGE: "\n".join([*lines, *parts(pairs)]) + "\n"}


if __name__ == "__main__":
    write(pages())
