"""Writes docs/optimal-plans.md: the best plan of each system of the README's comparison, why it wins, and what its
neighbours take.

python tools/optimal_plans.py
"""

from __future__ import annotations

from pathlib import Path

from pages import write

from mowich import facts, models
from mowich.machines.system import resolve
from mowich.models.model import as_trained
from mowich.plans.plan import TrainJob
from mowich.studies.compare import solve_system
from mowich.studies.outcome import SystemAsk
from mowich.studies.trade import Why, why
from mowich.units import show_gib

PAGE = Path(__file__).resolve().parents[1] / "docs" / "optimal-plans.md"
SYSTEMS = ("trn2", "trn3", "trn3-gen1", "trn4", "ironwood", "gb300")
CHIPS = 16384

HEAD = """# The optimal plans of the main comparison, and their neighbours

DeepSeek-V3, 15T tokens, 4,096 tokens a sequence, 16,384 sequences a step, 16,384 chips of each system. Per system: the best plan, where its time goes, the
sentence of `mowich plan ... --neighbours` on why it wins, and the neighbours: the best plan with one choice a step away and all others made anew, by how much it is slower
or does not fit, and the part of the step that grows most. Trainium trains in BF16 here: its software that ships (TorchTitan Neuron 0.2.2+neuron.1, beta, Neuron 2.33.0 of
19 October 2026, read 1 December 2026) has no recipe in 8 bit; `--recipe future` counts FP8 on Trainium 2 and MXFP8 on Trainium 3. Written by `python tools/optimal_plans.py`.
"""


def section(name: str) -> str:
    """One system."""
    known = facts.load_facts()
    system = resolve(known, name, chips=CHIPS)
    ask = SystemAsk(
        name=name,
        system_id=system.id,
        chips=CHIPS,
        stack=None,
        model=as_trained(models.load_model("deepseek-v3")),
        facts=known,
        job=TrainJob(tokens=15e12, seq=4096, batch_seqs=16384),
        term="default",
    )
    row, reasons = solve_system(ask, fixed={}, brief=True)[0], why(ask)
    total = row.step_s.value or 1.0
    shares = sorted(((v / total, k) for k, v in row.step_s.breakdown.items()), reverse=True)[:7]
    lines = [
        f"## {name}: `{row.plan}`",
        "",
        (
            f"{total:.3g} s a step, MFU {row.mfu.value or 0:.1%}, {sum(row.memory_B.values()) / 2**30:.0f} GiB per"
            f" device of {row.memory_capacity_B / 2**30:.0f}, binds: {row.binds}. Time:"
            f" {', '.join(f'{k} {s:.0%}' for s, k in shares)}."
        ),
        "",
        f"Why: {reasons.sentence}.",
        "",
    ]
    return "\n".join([*lines, *table(reasons)]) + "\n"


def table(reasons: Why) -> list[str]:
    """Neighbours as a Markdown table, and the ties."""
    lines = ["| with | time | GiB per device | because | best such plan |", "|--|--:|--:|--|--|"]
    for n in reasons.neighbours:
        slower = f"{n.slower:+.1%}" if n.slower is not None else f"no fit, +{show_gib(n.short_B)}"
        grows = n.cause or "-"
        lines.append(f"| {n.field} {n.value} | {slower} | {n.memory_B / 2**30:.0f} | {grows} | `{n.plan}` |")
    if reasons.ties.count > 1:
        differ = "; ".join(f"{k} {', '.join(v)}" for k, v in reasons.ties.differ_in.items())
        lines += ["", f"{reasons.ties.count} plans tie within 0.1%; they differ in {differ}."]
    return lines


def pages() -> dict[Path, str]:
    """The page and its text."""
    return {PAGE: "\n".join([HEAD, *(section(name) for name in SYSTEMS)])}


if __name__ == "__main__":
    write(pages())
