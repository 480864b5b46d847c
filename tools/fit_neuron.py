"""Fits the constants of the software stacks of Trainium 2 and 3: writes facts/serving/<stack>.yaml, the fixed times of
the generations, the rates at which devices read operands (facts/devices), and the ranges of their predictions.

Rows: `facts/published/trainium_serving.csv`. A constant is a product of factors (`facts/serving/neuron_priors.csv`):
one for all stacks, one for each stack that says how it differs, pulled to 1. So a stack with few rows stays near the
others. Gauss-Newton on the log error of TPOT and TTFT with a robust loss. What the shares of peaks and bandwidths are
is not fitted here: they are facts of the families of chips. Left out: each source in turn, and everything is fitted
again without it; from these errors come the ranges.

    python tools/fit_neuron.py [--write]

Some minutes on one core.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from accuracy import entries, kept
from fit_serving import by_hand, put_line
from numpy.typing import NDArray

from mowich.evidence.measured_tables import TRAINIUM, published, read_csv
from mowich.evidence.scores import FITTED_TO, left_out_file
from mowich.evidence.serving_cases import Cases, gather_cases
from mowich.evidence.serving_checks import read_serving_cases
from mowich.evidence.serving_notes import notes_of
from mowich.evidence.serving_rows import ServingCase
from mowich.facts import Facts, load_facts
from mowich.facts.load import shipped_folder
from mowich.models.model import Moe
from mowich.units import parse

Floats = NDArray[np.float64]

FOLDER = shipped_folder() / "serving"
METRICS = ("tpot", "ttft")
SCALE = {"tpot": 0.15, "ttft": 0.35}
"""Log error of one row, at which its weight begins to fall."""
DISPUTED = 0.25
"""Weight of a row that others contradict (`evidence.serving_notes`), over that of another."""
STEP = 1e-3


@dataclass(frozen=True)
class Factor:
    """A factor of some constants: ln of its middle and its standard deviation (a 90% range of low..high); sd 0: given.
    paths: the constants that it is part of."""

    name: str
    unit: str
    value: float
    sd: float
    paths: tuple[str, ...]
    why: str


def stacks() -> list[str]:
    """The engines that rows with a column `stack` are read as."""
    return list(dict.fromkeys(str(entry["engine"]) for entry in notes_of("stacks")))


def path_of(owner: str, field: str) -> str:
    """The fact of a constant: the shares at which operands are read are of the device."""
    return f"{'devices' if field.startswith('weights_') else 'serving'}.{owner}.{field}"


def factors() -> list[Factor]:
    """The priors, SI; "each" engine: a factor for every stack."""
    out = []
    with (FOLDER / "neuron_priors.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            unit = row["unit"]
            value, low, high = (
                float(row[k]) if unit in ("", "1") else parse(f"{row[k]} {unit}").value
                for k in ("value", "low", "high")
            )
            sd = math.log(high / low) / 3.29 if high > low else 0.0
            owners = stacks() if row["engines"] in ("all", "each") else row["engines"].split()
            groups = [[one] for one in owners] if row["engines"] == "each" else [owners]
            for group in groups:
                name = f"{row['name']}: {group[0]}" if row["engines"] == "each" else row["name"]
                paths = tuple(path_of(owner, field) for owner in group for field in row["fields"].split())
                out.append(Factor(name, unit, value, sd, paths, row["why"]))
    return out


class Problem:
    """Rows as columns, and their constants as products of factors."""

    def __init__(self, cases: Sequence[ServingCase], facts: Facts) -> None:
        self.cases = cases
        self.factors = factors()
        made = {path for factor in self.factors for path in factor.paths}
        known = facts.with_values({path: 1.0 for path in made if facts.get(path) is not None})
        self.table: Cases = gather_cases(cases, known)
        self.names = self.table.columns.names
        position = {name: i for i, name in enumerate(self.names)}
        self.base = np.array([0.0 if name in made else math.log(max(facts.number(name), 1e-12)) for name in self.names])
        self.zero = np.array([name not in made and facts.number(name) == 0.0 for name in self.names])
        self.M = np.zeros((len(self.names), len(self.factors)))
        for j, factor in enumerate(self.factors):
            for path in factor.paths:
                if path in position:
                    self.M[position[path], j] = 1.0
        self.mu = np.array([math.log(max(f.value, 1e-12)) for f in self.factors])
        self.off = np.array([f.value == 0.0 for f in self.factors])
        self.sd = np.array([f.sd for f in self.factors])
        self.free = np.nonzero(self.sd > 0)[0]
        self.measured = {
            m: np.log(
                np.array([math.nan if f"{m}_ms" in c.skip else c.measured.get(f"{m}_ms", math.nan) for c in cases])
                / 1e3
            )
            for m in METRICS
        }
        size = Counter((c.source, c.model.name) for c in cases)
        weight = np.array([size[c.source, c.model.name] ** -0.25 for c in cases])
        weight *= np.array([DISPUTED if c.graph.disputed else 1.0 for c in cases])
        self.weight = weight / weight.mean()

    def values(self, theta: Floats) -> Floats:
        """The constants in the order of the table."""
        out = np.exp(self.base + self.M @ theta)
        out[self.zero | (self.M[:, self.off].sum(axis=1) > 0)] = 0.0
        return out

    def predict(self, theta: Floats) -> dict[str, Floats]:
        """ln TPOT and ln TTFT."""
        steady = self.table.steady(self.values(theta))
        return {"tpot": np.log(steady.tpot_s), "ttft": np.log(steady.ttft_s)}


def solve(p: Problem, train: NDArray[np.bool_], start: Floats | None = None, rounds: int = 8) -> tuple[Floats, Floats]:
    """(factors, their standard deviations), ln."""
    theta = p.mu.copy() if start is None else start.copy()
    F = len(p.free)
    for _ in range(rounds):
        base = p.predict(theta)
        slopes = {m: np.zeros((len(p.cases), F)) for m in METRICS}
        for k, j in enumerate(p.free):
            moved = theta.copy()
            moved[j] += STEP
            for m, value in p.predict(moved).items():
                slopes[m][:, k] = (value - base[m]) / STEP
        H, v = np.diag(p.sd[p.free] ** -2), (p.mu - theta)[p.free] * p.sd[p.free] ** -2
        for m in METRICS:
            ok = train & ~np.isnan(p.measured[m])
            miss = (p.measured[m] - base[m])[ok]
            error = miss / SCALE[m]
            weight = p.weight[ok] / np.sqrt(1.0 + (error / 1.5) ** 2) / SCALE[m] ** 2
            A = slopes[m][ok]
            H += A.T @ (A * weight[:, None])
            v += A.T @ (weight * miss)
        step = np.clip(np.linalg.solve(H, v), -0.5, 0.5)
        theta[p.free] += step
        if np.max(np.abs(step)) < 1e-3:
            break
    sd = np.zeros(len(theta))
    sd[p.free] = np.sqrt(np.diag(np.linalg.inv(H)))
    return theta, sd


def left_out(p: Problem, full: Floats, labels: Sequence[str]) -> dict[str, Floats]:
    """ln predictions of every row from a fit without the rows that share its label."""
    out = {m: np.full(len(p.cases), math.nan) for m in METRICS}
    of = np.array(labels)
    for label in sorted(set(labels)):
        test = of == label
        theta, _ = solve(p, ~test, start=full, rounds=4)
        got = p.predict(theta)
        for m in METRICS:
            out[m][test] = got[m][test]
    return out


def errors(log_ratio: Floats) -> str:
    """ "median / 90th percentile (bias)" of max(p/m, m/p) - 1."""
    r = log_ratio[~np.isnan(log_ratio)]
    if not len(r):
        return "-"
    e = np.expm1(np.abs(r))
    return f"{np.median(e):.0%} / {np.quantile(e, 0.9):.0%} ({np.expm1(np.median(r)):+.0%})"


def is_moe(case: ServingCase) -> bool:
    """Whether the model has layers with experts."""
    return any(isinstance(layer.ffn, Moe) for layer in case.model.layers)


def classes(cases: Sequence[ServingCase]) -> Mapping[str, NDArray[np.bool_]]:
    """Rows by chip and kind of model, by stack as the rows say it, and by source."""
    moe, chip = np.array([is_moe(c) for c in cases]), np.array([c.chip for c in cases])
    out = {"all": np.ones(len(cases), dtype=bool)}
    for name in sorted(set(chip.tolist())):
        for kind, of in (("mixtures of experts", moe), ("dense", ~moe)):
            if (of & (chip == name)).any():
                out[f"{name}, {kind}"] = of & (chip == name)
    for word, labels in (("stack", [c.stack for c in cases]), ("source", [c.source for c in cases])):
        out |= {f"{word} {name}": np.array(labels) == name for name in sorted(set(labels))}
    return out


def page(
    p: Problem,
    theta: Floats,
    sd: Floats,
    inside: Mapping[str, Floats],
    by: Mapping[str, Mapping[str, Floats]],
    widths: Mapping[tuple[str, str], float],
    unknown: Mapping[tuple[str, str], float],
    refused: Counter[str],
) -> str:
    """Text of docs/records/accuracy-trainium.md."""
    moe = np.array([is_moe(c) for c in p.cases])
    lines = [HEAD.format(rows=len(p.cases))]
    lines += ["## Errors", "", "Rows left out with their whole source, their stack, their chip; in sample last.", ""]
    lines += [
        "| rows | | TPOT, source out | in range | TPOT, stack out | TPOT, chip out | TPOT in sample |"
        " TTFT, source out | in range | TTFT in sample |",
        "|--|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]

    def held(m: str, at: NDArray[np.bool_]) -> str:
        half = np.where(moe, widths[m, "moe"], widths[m, "dense"])
        miss = np.abs(by["source"][m] - p.measured[m])
        of = at & ~np.isnan(miss)
        return f"{np.mean(miss[of] <= half[of]):.0%}" if of.any() else "-"

    for name, at in classes(p.cases).items():
        tpot = {key: errors((by[key]["tpot"] - p.measured["tpot"])[at]) for key in by}
        ttft = errors((by["source"]["ttft"] - p.measured["ttft"])[at])
        own = [errors((inside[m] - p.measured[m])[at]) for m in METRICS]
        lines.append(
            f"| {name} | {at.sum()} | {tpot['source']} | {held('tpot', at)} | {tpot['stack']} | "
            f"{tpot['chip']} | {own[0]}"
            f" | {ttft} | {held('ttft', at)} | {own[1]} |"
        )
    disputed = Counter((c.source, c.graph.disputed) for c in p.cases if c.graph.disputed)
    lines += [
        "",
        "## Disputed rows",
        "",
        f"They weigh {DISPUTED:g} of another row in the fit, and are scored like all.",
        "",
    ]
    lines += [f"- {n} x {source}: {why}" for (source, why), n in sorted(disputed.items())]
    lines += ["", "## Ranges", ""]
    lines += [
        f"Range of 90% nominal: {COVERED:.0%} of the rows whose source was left out lie inside. A stack and a kind of"
        " model with rows of their own have the first range; all others the second, from rows whose stack or chip was"
        " left out.",
        "",
        "| | with rows | without |",
        "|--|--:|--:|",
        *(
            f"| {m.upper()}, {k} | x/{math.exp(widths[m, k]):.2f} | x/{math.exp(unknown[m, k]):.2f} |"
            for m, k in widths
        ),
        "",
        "## Constants",
        "",
        "A constant of a stack is the common factor times the stack's own. Width: 90% of the posterior, beside the"
        " prior's. Where both are alike no row decides it.",
        "",
        "| factor | value | width | prior | its width | what |",
        "|--|--:|--:|--:|--:|--|",
    ]
    for j in p.free:
        f = p.factors[j]
        scale = SHOWN[f.unit]
        unit = "" if f.unit in ("", "1") else f" {f.unit}"
        lines.append(
            f"| {f.name} | {math.exp(theta[j]) / scale:.3g}{unit} | x/{math.exp(1.645 * sd[j]):.2f} |"
            f" {f.value / scale:.3g}{unit} | x/{math.exp(1.645 * f.sd):.2f} | {f.why} |"
        )
    lines += ["", "## Refused rows", "", *(f"- {n} x {why}" for why, n in refused.most_common()), "", TAIL]
    return "\n".join(lines)


HEAD = """# Accuracy of serving on Trainium 2 and 3

Generated by `tools/fit_neuron.py --write`. Do not edit.

Steps of diffusion transformers on the same chips: [accuracy.md](../records/accuracy.md#forward-passes-of-diffusion-transformers).

{rows} published rows of `facts/published/trainium_serving.csv` (`mowich validate trainium-serving`). The software decides: one model on one chip is served several times faster by one
stack than by another, so each row says its stack, and each stack is an engine: `--engine vllm-neuron` (vLLM, which AWS recommends, as measured over NxD Inference: the default on Trainium 2
and 3 for dense models and gpt-oss), `nxdi-port` (ports that users contribute, static batches: the default for other mixtures of experts, which no server supports today), `nxdi-xla` (NxD Inference without kernels of its own), `nxdi-nki` (with NKI kernels), `nxdi-megakernel` (one kernel
for all layers, written by hand: what is possible). **Error** is max(predicted/measured, measured/predicted) - 1, median / 90th percentile, and in brackets the bias.

A step takes the time of its products and of its attention as our kernels take them ([tables.md](../theory/tables.md)), over the share of their speed that software reaches: `weights`, `compute`,
`decode_attention`, `prefill_attention`. Beyond the tables (latent attention, windows shorter than a prompt, four bits), for experts and for the products of models that have some the closed form
stands, at the share of the published rates that kernels reach at their largest shapes. And what a stack adds:

- `layer`, `moe_layer`: launches, norms and routing of a layer, and of a layer with experts beside it. Experts that the compiler lays out (XLA, vLLM Neuron) take several times what
  kernels and ports take that were written for them. None of them grows with ranks. `fixed_times` multiplies all fixed times on Trainium 3.
- `expert_visit`: each visited expert that a rank has a part of, beside its bytes.
- A compiled graph computes its whole batch: a row that states a compiled batch above its users has the step of that batch.
- 8-bit weights on Trainium 2 are widened to 16 bits before a product (`weights_8`): they are hardly faster than weights of 16 bits. Trainium 3 multiplies MXFP8 itself; no row tells how fast.
- `expert_reads`: how often the weights of a visited expert move. XLA gathers the chosen experts, writes and reads them again (about 3); it does not compute all experts. Where all
  experts are visited each is read once.
- `expert_launch`: time for each expert of a layer in a prompt. It makes short prompts of mixtures slow: 128 experts and 48 layers take a third of a second. Ranks that share the experts save
  some of it: experts x ep^-`launch_ep`.
- `prefill_layer`, `prefill_step`: fixed times of a prompt. Each prompt runs alone, and stops the decoding of the others.
"""
TAIL = """## What is not known

- The compiled bucket of a prompt: few rows state it. A prompt is timed at its length; where its bucket is far longer, TTFT is too short.
- On-device sampling, fused QKV, block-wise products and asynchronous mode are read from notes as flags of a row (`evidence/serving_notes.py`). Only one source has them off, and it is
  disputed, so no constant stands for them.
- Logical cores of one or two (LNC): only one model and one stack were measured at one.
- Rows that were published elsewhere and are not in the table may be further off than rows left out here: ports differ from one another more than these do.
- Products of mixtures by tables were tried: left out by source, their mean log error of TPOT rises from 0.300 to 0.310 on Trainium 2 and falls from 0.201 to 0.192 on Trainium 3, that of TTFT rises
  there from 0.261 to 0.282. So they keep the closed form; their attention is by tables.
- Experts by tables were tried: with the times of `grouped_matmul` rows of mixtures on Trainium 2 whose source was left out were off by up to 83% at the 90th percentile instead of 66%. On narrow experts
  (256 columns a rank) that kernel reaches half of the bandwidth and on wide ones (1,792) nine tenths; published stacks do not show that difference. So experts keep the closed form.
- MXFP4, more than 64 ranks, attention data parallelism, speculation: no row.
"""

SHOWN = {"": 1.0, "1": 1.0, "us": 1e-6, "ms": 1e-3, "tokens": 1.0, "GB": 1e9}
"""Unit -> SI, as constants are written."""
DATE = "2026-12-01"
LEARNED = 0.75
"""A constant is called fitted where the rows narrow one of its factors to less than this share of its prior."""


def write(found: Sequence[Factor], theta: Floats, sd: Floats) -> None:
    """facts/serving: a YAML file for each stack, and one for the generations. theta, sd: of the factors, ln."""
    leaves: dict[str, dict[str, str]] = {}
    for path in dict.fromkeys(path for factor in found for path in factor.paths):
        parts = [j for j, factor in enumerate(found) if path in factor.paths]
        first = found[parts[0]]
        kind, name, field = path.split(".")
        scale, unit = SHOWN[first.unit], first.unit
        middle = 0.0 if any(found[j].value == 0.0 for j in parts) else math.exp(sum(theta[j] for j in parts))
        width = 1.645 * math.hypot(*(sd[j] for j in parts))

        def show(x: float, scale: float = scale, unit: str = unit) -> str:
            number = f"{x / scale:.4g}"
            return number if unit in ("", "1") else f'"{number} {unit}"'

        head = f"{{value: {show(middle)}"
        learned = any(f.sd > 0 and sd[j] < LEARNED * f.sd for j, f in ((j, found[j]) for j in parts))
        high = middle * math.exp(width)
        high = min(high, 1.0) if kind == "devices" else high
        if width > 0:
            head += f", low: {show(middle * math.exp(-width))}, high: {show(high)}"
            why = (
                f'grade: C, formula: "fit of published rows of Trainium; {first.why}"'
                if learned
                else f'grade: D, reason: "few or no published rows depend on it; {first.why}"'
            )
        else:
            why = f'grade: C, note: "{first.why}"'
        leaf = f"{head}, source: mowich-serving-fit, date: {DATE}, {why}}}"
        if kind == "devices":
            put_line(shipped_folder() / kind / f"{name}.yaml", field, leaf)
        else:
            leaves.setdefault(name, {})[field] = f"{field}: {leaf}"
    words = ("about", "version", "released", "hand_tuned")
    with (FOLDER / "neuron_stacks.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            about = f"source: mowich-serving-fit, date: {DATE}, grade: C"
            said = {key: f'{key}: {{text: "{row[key]}", {about}}}' for key in words if row[key]}
            kept_lines = {line.partition(":")[0]: line for line in by_hand(row["engine"])}
            leaves[row["engine"]] = {**said, **kept_lines, **leaves[row["engine"]]}
    for name, lines in leaves.items():
        text = "# Written by tools/fit_neuron.py from neuron_priors.csv and published/trainium_serving.csv. Do not edit"
        text += ", but for the lines release, status and ships.\n" if by_hand(name) else ".\n"
        (FOLDER / f"{name}.yaml").write_text(
            text + f"id: {name}\n" + "\n".join(lines.values()) + "\n", encoding="utf-8"
        )


COVERED = 0.92
"""Share of left-out rows that a range holds."""
KINDS = {"dense": ("dense",), "moe": ("moe", "mla", "hybrid")}
"""Kind of model -> architectures that its range is used for."""


def half_widths(p: Problem, outside: Mapping[str, Floats]) -> dict[tuple[str, str], float]:
    """ln half-width by (metric, kind of model): what holds `COVERED` of left-out rows."""
    moe = np.array([is_moe(c) for c in p.cases])
    out = {}
    for m in METRICS:
        miss = np.abs(outside[m] - p.measured[m])
        for kind in KINDS:
            of = miss[(moe == (kind == "moe")) & ~np.isnan(miss)]
            out[m, kind] = float(np.quantile(of, COVERED))
    return out


WHAT = {"tpot": "time per token", "ttft": "time to first token"}


def figures(
    p: Problem, outside: Mapping[str, Floats], widths: Mapping[tuple[str, str], float]
) -> list[dict[str, object]]:
    """The entries of `mowich.evidence.scores.LeftOut`: rows whose source was left out, all and by chip."""
    half = {m: np.array([widths[m, "moe" if is_moe(c) else "dense"] for c in p.cases]) for m in METRICS}
    out: list[dict[str, object]] = []
    for m in METRICS:
        miss = np.abs(outside[m] - p.measured[m])
        words = {"work": FITTED_TO[TRAINIUM], "what": WHAT[m], "unit": "sources"}
        out += entries(words, miss, (miss <= half[m]).astype(float), [c.chip for c in p.cases])
    return out


def write_ranges(p: Problem, widths: Mapping[tuple[str, str], float], unknown: Mapping[tuple[str, str], float]) -> None:
    """facts/serving/ranges_neuron.csv, in the form of corrections.csv: no correction, the ranges alone. widths: of a
    stack and an architecture that have rows; unknown: of all others."""
    lines = [
        "# Ranges of serving times of the stacks of Trainium by class, ln; written by "
        "tools/fit_neuron.py. Do not edit.",
        "metric,level,class,value,sd,cases",
    ]
    count = Counter((c.engine, c.arch) for c in p.cases)
    families = sorted({(c.engine, c.system.family) for c in p.cases})
    for m in METRICS:
        widest = max(unknown[m, kind] for kind in KINDS)
        lines += [f"{m},noise,,0,,", f"{m},width,,1,,", f"{m},arch,*,0,{widest:.4f},", f"{m},family,*,0,{widest:.4f},"]
        for engine in stacks():
            for kind, architectures in KINDS.items():
                for arch in architectures:
                    if count[engine, arch]:
                        lines.append(f'{m},arch,"{engine}|{arch}",0,{widths[m, kind]:.4f},{count[engine, arch]}')
        for engine, family in families:
            n = sum(c.engine == engine and c.system.family == family for c in p.cases)
            lines.append(f'{m},family,"{engine}|{family}",0,0,{n}')
    (FOLDER / "ranges_neuron.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write facts/serving")
    parser.add_argument(
        "--priors", action="store_true", help="write the priors as they are, for a stack without a file"
    )
    options = parser.parse_args()
    if options.priors:
        found = factors()
        write(found, np.array([math.log(max(f.value, 1e-12)) for f in found]), np.array([f.sd for f in found]))
        return
    facts = load_facts()
    rows = read_csv(published(TRAINIUM), facts)
    read = read_serving_cases(rows, facts)
    cases = [c for c in read if not isinstance(c, str) and not c.decode_only]
    for why, n in Counter(c for c in read if isinstance(c, str)).items():
        print("refused", n, why)
    p = Problem(cases, facts)
    full, sd = solve(p, np.ones(len(cases), dtype=bool))
    inside = p.predict(full)
    by = {
        "source": left_out(p, full, [c.source for c in cases]),
        "stack": left_out(p, full, [c.engine for c in cases]),
        "chip": left_out(p, full, [c.chip for c in cases]),
    }
    widths, others = half_widths(p, by["source"]), [half_widths(p, by[name]) for name in ("stack", "chip")]
    unknown = {key: max(widths[key], *(w[key] for w in others)) for key in widths}
    text = page(p, full, sd, inside, by, widths, unknown, Counter(c for c in read if isinstance(c, str)))
    if options.write:
        write(p.factors, full, sd)
        write_ranges(p, widths, unknown)
        left_out_file().write_text(kept(FITTED_TO[TRAINIUM], figures(p, by["source"], widths)), encoding="utf-8")
        (Path(__file__).resolve().parents[1] / "docs" / "records" / "accuracy-trainium.md").write_text(
            text, encoding="utf-8"
        )
    else:
        print(text)


if __name__ == "__main__":
    main()
