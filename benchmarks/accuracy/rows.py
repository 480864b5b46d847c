"""The rows that every tool is asked: a fixed, stratified sample of published measurements.

`draw` picks the sample once, from a seed, and `sample.csv` keeps it: id, table, class. `read` gives each of its rows
as a tool gets it: the cells that were published, and what Mowich's readers make of them. A row that Mowich's reader
refuses stays in the sample, with the reason.
"""

from __future__ import annotations

import csv
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TRUTH = ROOT.parent / "shared" / "truth"
SAMPLE = Path(__file__).with_name("sample.csv")
SEED = 49

KNOWN, MODEL, RELEASE = "known chip, model and release", "model never seen", "release never seen"
CHIP, PROFILE = "chip never fitted", "own profile given"
POOLS, UNREAD = "disaggregated, never fitted", "not read by Mowich"
CLASSES = (KNOWN, MODEL, RELEASE, CHIP, POOLS, PROFILE, UNREAD)
"""What Mowich was not shown of a row. Other tools were not fitted to it by us; what they have seen is theirs to say."""

TABLES = {
    "serving": "serving_calibration.csv",
    "mi300x": "serving_mi300x.csv",
    "training": "training_calibration.csv",
    "profile": "forward_profiles.csv",
}
WORK = {"serving": "serving", "mi300x": "serving", "training": "training", "profile": "forward pass"}
METRICS = ("ttft_ms", "tpot_ms", "output_tok_s_per_chip", "step_s", "pass_ms")
SERVING_METRICS = METRICS[:3]

PER_CHIP = {KNOWN: 18, MODEL: 18, RELEASE: 18, CHIP: 40, POOLS: 8, UNREAD: 5, PROFILE: 40}
"""Most rows of a chip in each class."""
TRAINING_PER_CHIP = {KNOWN: 16, MODEL: 16, RELEASE: 16, CHIP: 8, UNREAD: 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One row. kind: its class; cells: as published; measured: by metric, in the unit of its name; reading: what
    Mowich's reader made of it, for tools that need a plan or a model in numbers; refused: why it made nothing."""

    id: str
    table: str
    kind: str
    chip: str
    cells: Mapping[str, str]
    measured: Mapping[str, float]
    reading: Mapping[str, Any] = field(default_factory=dict)
    refused: str = ""

    @property
    def work(self) -> str:
        """serving, training or forward pass."""
        return WORK[self.table]

    def to_dict(self) -> dict[str, Any]:
        """What a tool is told: everything but what was measured."""
        return {key: value for key, value in asdict(self).items() if key != "measured"} | {"work": self.work}


def tools() -> None:
    """Let the scripts of `tools` be imported."""
    folder = str(ROOT / "tools")
    if folder not in sys.path:
        sys.path.insert(0, folder)


def cells_of(folder: Path, table: str) -> list[dict[str, str]]:
    """The published rows of one table. Raises OSError where it is absent."""
    with (folder / TABLES[table]).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def sampled() -> list[dict[str, str]]:
    """id, table, class of every row of the sample."""
    with SAMPLE.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# ---- the draw


def others(values: Sequence[tuple[str, str]]) -> Callable[[int], bool]:
    """Whether the name of row i occurs in another fold than its own. values: (name, fold) of each row."""
    folds: dict[str, set[str]] = defaultdict(set)
    for name, fold in values:
        folds[name].add(fold)
    return lambda i: len(folds[values[i][0]]) > 1


def serving_classes(folder: Path) -> dict[str, tuple[str, list[str]]]:
    """Row -> (chip, classes that it can stand for)."""
    tools()
    import fit_serving

    from mowich.evidence.serving_cases import class_of

    rows, found = cells_of(folder, "serving"), serving_cases(folder, "serving")
    known = [c for c in found if not isinstance(c, str) and not c.decode_only]
    ones = [class_of(c) for c in known]
    fold = fit_serving.folds_of([f"{c.chip}, {o.model}, {c.version}" for c, o in zip(known, ones, strict=True)], 30)
    named = [
        others(list(zip(names, fold, strict=True)))
        for names in ([c.chip for c in known], [o.model for o in ones], [c.version for c in known])
    ]
    is_known = {c.id: all(name(i) for name in named) for i, c in enumerate(known)}
    out = {}
    for row, case in zip(rows, found, strict=True):
        if not any(row[metric] for metric in SERVING_METRICS):
            continue
        if isinstance(case, str):
            kinds = [UNREAD]
        elif case.decode_only:
            kinds = [POOLS]
        elif not set(case.measured) - set(case.skip):
            kinds = []
        else:
            kinds = [*([KNOWN] if is_known[case.id] else []), MODEL, RELEASE]
        out[row["id"]] = (row["chip"], kinds)
    return out


def training_classes(folder: Path) -> dict[str, tuple[str, list[str]]]:
    """Row -> (chip, classes that it can stand for): which of its names are left out with it, in the folds that
    tools/held_out.csv was written with."""
    tools()
    import fit_training

    from mowich.evidence.measured_tables import read_csv
    from mowich.evidence.rows import read_cases
    from mowich.facts import load_facts

    facts = load_facts()
    every = read_csv(folder / TABLES["training"], facts)
    out: dict[str, tuple[str, list[str]]] = {}
    rows = []
    for row, case in zip(every, read_cases(every, facts), strict=True):
        if isinstance(case, str):
            out[row["id"]] = (row["chip"], [UNREAD])
        else:
            rows.append(row)
    fold = [str(k) for k in fit_training.folds_of([fit_training.group_of(row) for row in rows], 5)]
    source = [str(k) for k in fit_training.folds_of([row["source_group"] for row in rows], 5)]
    model = [row["model_ref"] or row["model_name"] for row in rows]
    chip = [row["chip"] for row in rows]
    chip_out, model_out = (others(list(zip(names, fold, strict=True))) for names in (chip, model))
    chip_by_source = others(list(zip(chip, source, strict=True)))
    for i, row in enumerate(rows):
        if not chip_by_source(i):
            kinds = [CHIP]  # no other publication has the chip
        elif not chip_out(i):
            kinds = [RELEASE]
        else:
            kinds = [RELEASE, KNOWN if model_out(i) else MODEL]
        out[row["id"]] = (chip[i], kinds)
    return out


def picked(
    classes: Mapping[str, tuple[str, list[str]]], most: Mapping[str, int], chosen: random.Random
) -> list[tuple[str, str]]:
    """(id, class): of every chip at most so many of a class, drawn; a row stands for one class."""
    by_chip: dict[str, list[str]] = defaultdict(list)
    for row, (chip, _) in classes.items():
        by_chip[chip].append(row)
    out = []
    for chip in sorted(by_chip):
        rows = sorted(by_chip[chip])
        chosen.shuffle(rows)
        left: Counter[str] = Counter(most)
        for row in rows:
            kinds = [kind for kind in classes[row][1] if left[kind] > 0]
            if kinds:
                kind = max(kinds, key=lambda k: left[k])
                left[kind] -= 1
                out.append((row, kind))
    return out


def draw(folder: Path) -> None:
    """Write sample.csv."""
    chosen = random.Random(SEED)
    amd = {row["id"]: (row["chip"], [CHIP]) for row in cells_of(folder, "mi300x")}
    own = {row["id"]: (row["model"], [PROFILE]) for row in cells_of(folder, "profile")}
    drawn = {
        "serving": picked(serving_classes(folder), PER_CHIP, chosen),
        "mi300x": picked(amd, PER_CHIP, chosen),
        "training": picked(training_classes(folder), TRAINING_PER_CHIP, chosen),
        "profile": picked(own, PER_CHIP, chosen),
    }
    with SAMPLE.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(("id", "table", "class"))
        for table, rows in drawn.items():
            out.writerows((row, table, kind) for row, kind in sorted(rows, key=lambda one: (one[1], one[0])))


# ---- the reading


def serving_cases(folder: Path, table: str) -> list[Any]:
    """Every row of a table of serving as a case, or the reason why it is none: a row is read beside the others."""
    from mowich.evidence.serving_checks import read_serving_cases
    from mowich.facts import load_facts

    return read_serving_cases(cells_of(folder, table), load_facts())


def served(case: Any) -> dict[str, Any]:
    """Numbers of a serving case, SI: the worker, the load, and what one device of the chip has."""
    from mowich.plans.plan import KV_B, WEIGHT_B

    model, plan, system = case.model, case.plan, case.system
    prompt, output = case.prompt * case.mean_length, case.output * case.mean_length
    return {
        "model": model.name,
        "engine": case.engine,
        "tp": plan.tp,
        "pp": plan.pp,
        "dp": plan.dp,
        "cp": plan.cp,
        "ep": plan.ep,
        "devices": plan.devices,
        "chips": case.chips,
        "weights": plan.weights,
        "kv": plan.kv,
        "users": case.users,
        "prompt": prompt,
        "output": output,
        "decode_only": case.decode_only,
        "is_static": case.is_static,
        "params": model.params - model.params_embedding,
        "params_active": model.params_active - model.params_embedding,
        "weight_B": float(WEIGHT_B[plan.weights]),
        "prompt_flop": model.flop_per_token(prompt) * prompt,
        "token_flop": model.flop_per_token(1.0),
        "kv_B": model.kv_bytes(prompt + output / 2.0, float(KV_B[plan.kv])),
        "peak_flops": system.peak_flops.get(plan.weights, system.peak_flops["bf16"]),
        "hbm_Bps": system.hbm_Bps,
    }


def trained(case: Any) -> dict[str, Any]:
    """Numbers of a training case, SI: model, plan, job and what one device of the chip has."""
    model, job, system = case.model, case.job, case.system
    layer = model.layers[0]
    attention, ffn = layer.mixer, layer.ffn
    return {
        "model": model.name,
        "layers": model.num_layers,
        "hidden": model.hidden,
        "vocab": model.vocab,
        "heads": getattr(attention, "num_heads", 0),
        "kv_heads": getattr(attention, "num_kv_heads", 0),
        "head_dim": getattr(attention, "head_dim", 0),
        "kind": getattr(attention, "kind", "other"),
        "causal": bool(getattr(attention, "causal", False)),
        "ffn": ffn.ffn,
        "gated": ffn.gated,
        "experts": getattr(ffn, "num_experts", 0),
        "alike": len(model.layers) == 1,
        "plan": case.plan.to_dict(),
        "task": job.task,
        "seq": job.seq,
        "batch": job.batch_seqs,
        "devices": case.plan.devices,
        "params": model.params,
        "step_flop": 3.0 * model.flop_per_token(job.seq, mtp=True) * job.seq * job.batch_seqs,
        "peak_flops": system.peak_flops.get(case.plan.precision, system.peak_flops["bf16"]),
        "hbm_Bps": system.hbm_Bps,
        "domain": system.domain_devices,
    }


def serving_row(at: Mapping[str, str], cells: Mapping[str, str], case: Any) -> Asked:
    """A row of serving; a metric that our reader says not to score is scored for no tool."""
    own = {"id": at["id"], "table": at["table"], "kind": at["class"], "chip": cells["chip"], "cells": dict(cells)}
    if isinstance(case, str):
        measured = {metric: float(cells[metric]) for metric in SERVING_METRICS if cells.get(metric)}
        return Asked(**own, measured=measured, refused=case)
    measured = {m: float(case.measured[m]) for m in SERVING_METRICS if m in case.measured and m not in case.skip}
    return Asked(**own, measured=measured, reading=served(case))


def training_row(at: Mapping[str, str], cells: Mapping[str, str], case: Any) -> Asked:
    own = {"id": at["id"], "table": "training", "kind": at["class"], "chip": cells["chip"], "cells": dict(cells)}
    if isinstance(case, str):
        return Asked(**own, measured={"step_s": float("nan")}, refused=case)
    return Asked(**own, measured={"step_s": case.measured_step_s}, reading=trained(case))


def read(folder: Path, sample: Iterable[Mapping[str, str]] | None = None) -> list[Asked]:
    """The rows of the sample. Raises OSError where a table is absent."""
    from mowich.evidence.measured_tables import read_csv
    from mowich.evidence.rows import read_cases
    from mowich.facts import load_facts

    facts, out = load_facts(), []
    by_table: dict[str, list[Mapping[str, str]]] = defaultdict(list)
    for at in sampled() if sample is None else sample:
        by_table[at["table"]].append(at)
    for table, asked in by_table.items():
        rows = cells_of(folder, table) if table != "training" else read_csv(folder / TABLES[table], facts)
        place = {row["id"]: i for i, row in enumerate(rows)}
        if table == "training":
            mine = [rows[place[at["id"]]] for at in asked]
            found = read_cases(mine, facts)
            out += [training_row(at, row, case) for at, row, case in zip(asked, mine, found, strict=True)]
        elif table == "profile":
            for at in asked:
                row = rows[place[at["id"]]]
                out.append(
                    Asked(
                        id=at["id"],
                        table=table,
                        kind=at["class"],
                        chip=row["hardware"],
                        cells=row,
                        measured={"pass_ms": float(row["measured_ms"])},
                    )
                )
        else:
            every = serving_cases(folder, table)
            out += [serving_row(at, rows[place[at["id"]]], every[place[at["id"]]]) for at in asked]
    return out
