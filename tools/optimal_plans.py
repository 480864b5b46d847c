"""Writes docs/records/optimal-plans.md: the best plan of each system of the README's comparison, why it wins, and what its
neighbours take; and published plans (`facts/published/plans.yaml`) beside ours.

python tools/optimal_plans.py
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import yaml
from pages import write

from mowich import facts, models
from mowich.errors import UserError
from mowich.evidence.measured_tables import published as table_of
from mowich.evidence.measured_tables import read_csv
from mowich.evidence.row_checks import PublishedRow
from mowich.evidence.rows import Case, read_cases
from mowich.facts import Facts
from mowich.machines.system import resolve
from mowich.models.model import Model, as_trained
from mowich.plans.plan import Plan, TrainJob
from mowich.software.stack import Platform, equip
from mowich.studies.compare import solve_system
from mowich.studies.outcome import SystemAsk
from mowich.studies.trade import Why, why
from mowich.training.search import Candidate, candidate, search
from mowich.units import show_gib

PAGE = Path(__file__).resolve().parents[1] / "docs" / "records" / "optimal-plans.md"
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


PUBLISHED = """## Published plans beside ours

{count} plans that were published, each with ours for the same model, chips, batch, precision and software. *Step*: what we predict of the published plan, over ours.
*Why*: for each degree that differs, the best plan that keeps the published value, how much slower it is per token, and the part of the step that grows most. Degrees count devices; `dp` follows from the others.
What a row leaves open of its plan is filled in as [accuracy.md](../records/accuracy.md) tells; a batch that is not stated is such a guess. Plans and sources: `facts/published/plans.yaml`. A plan within 10% of ours
is not told apart from it: measured runs so near follow the predicted order little better than a coin does ([search.md](../theory/search.md)).

What the differences come to: recipes spread more pipeline chunks and keep one sequence a micro-batch, at 0 to 2% of a step; MaxText's shard all weights and spread no experts, so that one plan serves
any number of slices; Megatron's keep tensor ranks in a server where ours share a sequence (`cp`); PyTorch's FSDP plans of 2024 recompute whole layers where a pipeline would leave room. Below 1 the
search does not take the published plan: by our count it does not fit, or its layers divide into chunks that the search does not try.

| model, machine | published | ours | step | why | source |
|--|--|--|--:|--|--|
"""
DEGREES = ("tp", "pp", "cp", "ep", "zero", "micro_batch", "recompute")
"""Choices that are compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedPlan:
    """A plan that was published, on its machine, with its source as a Markdown link."""

    name: str
    model: Model
    system: Platform
    job: TrainJob
    plan: Plan
    source: str


def published_plans(known: Facts) -> Iterator[PublishedPlan]:
    """The plans of `facts/published/plans.yaml`. Raises ValueError for a row that is not in training.csv."""
    said = yaml.safe_load((resources.files("mowich.facts") / "published" / "plans.yaml").read_text(encoding="utf-8"))
    rows = read_csv(table_of(), known)
    found = []
    for wanted in said["rows"]:
        row = next((row for row in rows if _says(row, wanted)), None)
        if row is None:
            raise ValueError(f"no row says {wanted}")
        found.append(row)
    for row, case in zip(found, read_cases(found, known), strict=True):
        if not isinstance(case, Case):
            raise ValueError(f"the row of {row['model_name']} on {row['n_chips']} {row['chip']} is refused: {case}")
        yield PublishedPlan(
            name=f"{case.model.name}, {case.system.chips} {row['chip']}",
            model=case.model,
            system=case.system,
            job=case.job,
            plan=case.plan,
            source=f"[{row['source_group']}, {row['date'][:7]}]({row['source_address']})",
        )
    for one in said["stated"]:
        system = equip(known, one["system"])
        yield PublishedPlan(
            name=f"{one['model']}, {system.chips} {one['system'].split(':')[0]}",
            model=as_trained(models.load_model(one["model"])),
            system=system,
            job=TrainJob(tokens=1e12, seq=one["seq"], batch_seqs=one["batch_seqs"], is_balanced=True),
            plan=Plan(**one["plan"]),
            source=f"[{one['source'].split(',')[0]}]({one['address']})",
        )


def _says(row: PublishedRow, wanted: Mapping[str, str]) -> bool:
    return all(row.get(column, "").startswith(str(text)) for column, text in wanted.items())


def beside_ours(one: PublishedPlan) -> str:
    """A row of the table."""
    fixed = {"precision": (one.plan.precision,)}
    ours = search(one.model, one.system, one.job, fixed=fixed).best[0]
    theirs = candidate(one.model, one.system, one.job, one.plan)
    ratio = theirs.seconds_per_token / ours.seconds_per_token
    differ = [name for name in DEGREES if getattr(one.plan, name) != getattr(ours.plan, name)]
    causes = "; ".join(_cause(one, ours, name) for name in differ) or "the same degrees"
    does_not_fit = "" if sum(theirs.memory_B.values()) <= one.system.hbm_usable_B else " (does not fit by our count)"
    return f"| {one.name} | `{one.plan}`{does_not_fit} | `{ours.plan}` | {ratio:.2f} | {causes} | {one.source} |"


def _cause(one: PublishedPlan, ours: Candidate, name: str) -> str:
    """What keeping the published value of one choice costs."""
    value = getattr(one.plan, name)
    try:
        kept = search(one.model, one.system, one.job, fixed={"precision": (one.plan.precision,), name: (value,)}).best
    except UserError:
        return f"{name} {value}: no legal plan of ours"
    if not kept:
        return f"{name} {value}: does not fit"
    slower = kept[0].seconds_per_token / ours.seconds_per_token - 1.0
    grows = {
        part: seconds / kept[0].tokens - ours.parts[part] / ours.tokens
        for part, seconds in kept[0].parts.items()
        if part not in ("jitter", "software")
    }
    part = max(grows, key=lambda part: grows[part])
    return f"{name} {value}: {slower:+.1%}" + (f" ({part})" if slower > 0.001 else "")


def published() -> str:
    """The table of published plans."""
    lines = [beside_ours(one) for one in published_plans(facts.load_facts())]
    return PUBLISHED.replace("{count}", str(len(lines))) + "\n".join(lines) + "\n"


def pages() -> dict[Path, str]:
    """The page and its text."""
    return {PAGE: "\n".join([HEAD, *(section(name) for name in SYSTEMS), published()])}


if __name__ == "__main__":
    write(pages())
