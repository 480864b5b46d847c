"""Each public claim, derived again from sourced facts (`mowich claims`, docs/claims.md): formula, inputs, result,
verdict.

Verdicts: `holds` (derived from facts of grade A to C and within TOLERANCE), `holds only if` (true under a stated
condition, or for a part of the range of an estimated fact), `does not follow` (the facts give another number), `cannot
be checked` (something is not published: said what). A claim that we have no formula for is still listed, with what is
missing. A test holds docs/claims.md to what the facts give.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mowich.facts import Fact, Facts
from mowich.facts.entries import entries, figure
from mowich.models import load
from mowich.models.model import Model, Moe
from mowich.studies import serving_claims

TOLERANCE = 0.055
"""A derived value this close to the published one agrees: published figures are rounded to one or two digits."""

HOLDS, ONLY_IF, NOT, UNCHECKED = "holds", "holds only if", "does not follow", "cannot be checked"

TRN2_CHIPS, TRN3_CHIPS = "systems.trn2.chips_per_unit", "systems.trn3-gen2.chips_per_unit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A claim with its check. published: in words, with the unit of its source; published_value, derived: SI or a
    ratio, None where there is none; low, high: of derived, over the ranges of its inputs; unit: of derived, "x" for a
    ratio."""

    id: str
    group: str
    text: str
    published: str
    published_value: float | None
    formula: str
    inputs: Mapping[str, str]
    derived: float | None
    low: float | None
    high: float | None
    unit: str
    verdict: str
    reason: str
    source: str

    def to_dict(self) -> dict[str, object]:
        """As in the JSON of `mowich claims`."""
        return {
            "id": self.id,
            "group": self.group,
            "claim": self.text,
            "published": self.published,
            "published_value": self.published_value,
            "formula": self.formula,
            "inputs": dict(self.inputs),
            "derived": self.derived,
            "low": self.low,
            "high": self.high,
            "unit": self.unit,
            "verdict": self.verdict,
            "reason": self.reason,
            "source": self.source,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """How a claim is derived. inputs: symbol -> path of a fact; of: the formula over their values; published: the claim
    as a number where it is neither a number nor the first one in the claim's text; is_gain: the claim is a share on top
    ("40 %" is 1.4 times); condition: what makes the derived number the claimed one, if only under a condition; spread:
    ends of the formula itself, where it holds a number that is not a fact; missing: what would have to be published, if
    nothing is derived; unknown: facts that this says are not known. condition and missing may hold {value}, {low},
    {high}, {need} (derived over published), and where there is `more` the inputs and what it makes of them and of the
    published number."""

    formula: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    of: Callable[[Mapping[str, float]], float] | None = None
    published: float | None = None
    is_gain: bool = False
    condition: str = ""
    missing: str = ""
    unknown: tuple[str, ...] = ()
    note: str = ""
    more: Callable[[Mapping[str, float], float], Mapping[str, float]] | None = None
    spread: Callable[[Mapping[str, float]], tuple[float, float]] | None = None


def ratio(a: str, b: str, formula: str, **more: object) -> Check:
    """a / b of two facts."""
    return Check(formula=formula, inputs={"a": a, "b": b}, of=lambda x: x["a"] / x["b"], **more)  # type: ignore[arg-type]


def scaled(chip: str, quantity: str, formula: str) -> Check:
    """UltraServer over UltraServer: (144 x Trn3) / (64 x Trn2)."""
    mine, theirs = {
        "compute": ("peak_dense.mxfp8", "peak_dense.fp8"),
        "bandwidth": ("memory.hbm_bandwidth",) * 2,
        "memory": ("memory.hbm_capacity",) * 2,
    }[quantity]
    return Check(
        formula=formula,
        inputs={"n3": TRN3_CHIPS, "q3": f"chips.trainium3.{mine}", "n2": TRN2_CHIPS, "q2": f"chips.{chip}.{theirs}"},
        of=lambda x: x["n3"] * x["q3"] / (x["n2"] * x["q2"]),
    )


NO_PRICE = "the prices, and the workload, batch and latency that were compared"
NO_RUN = "the workload, its lengths, batch and latency, and the measured runs"


def checks() -> dict[str, Check]:
    """Beginning of the id of a claim -> how it is derived. The first that fits wins."""
    t3, t2, t4 = "chips.trainium3", "chips.trainium2", "chips.trainium4"
    iron, v6e, v5p = "chips.tpu_v7_ironwood", "chips.tpu_v6e", "chips.tpu_v5p"
    pod = "systems.ironwood.chips_per_unit"
    gpt = gpt_oss()
    return {
        "trainium3-reinvent-2025.Trn3_UltraServer_compute": scaled(
            "trainium2", "compute", "144 x MXFP8 of Trn3 / (64 x FP8 of Trn2)"
        ),
        "trainium3-reinvent-2025.Energy_efficiency_vs_Trn2": Check(
            formula="(144 x MXFP8 / P3) / (64 x FP8 / P2) with P the power of all chips",
            inputs={
                "n3": TRN3_CHIPS,
                "q3": f"{t3}.peak_dense.mxfp8",
                "p3": f"{t3}.power.all_in",
                "n2": TRN2_CHIPS,
                "q2": f"{t2}.peak_dense.fp8",
                "p2": f"{t2}.power.all_in",
            },
            of=lambda x: (x["q3"] / x["p3"]) / (x["q2"] / x["p2"]),
            missing=(
                "the power of either UltraServer: with peak FP8 per watt, {n3:g} Trainium 3 would have to draw"
                " {servers:.2f} times what {n2:g} Trainium 2 draw, {chips:.2f} per chip"
            ),
            unknown=("systems.trn3-gen2.power", "systems.trn2.power"),
            more=lambda x, claimed: {
                "servers": x["n3"] * x["q3"] / (x["n2"] * x["q2"]) / claimed,
                "chips": x["q3"] / x["q2"] / claimed,
            },
        ),
        "trainium3-reinvent-2025.Energy_efficiency_vs_previous": Check(
            formula="(MXFP8 / P) of Trn3 / (FP8 / P) of Trn2",
            inputs={
                "q3": f"{t3}.peak_dense.mxfp8",
                "p3": f"{t3}.power.all_in",
                "q2": f"{t2}.peak_dense.fp8",
                "p2": f"{t2}.power.all_in",
            },
            of=lambda x: (x["q3"] / x["p3"]) / (x["q2"] / x["p2"]),
            is_gain=True,
            condition=(
                "a Trainium 3 draws {need:.2f} times the power of a Trainium 2 (peak MXFP8 against FP8); AWS publishes"
                " neither"
            ),
        ),
        "trainium3-reinvent-2025.Memory_bandwidth_vs_Trn2": scaled(
            "trainium2", "bandwidth", "144 x HBM bandwidth of Trn3 / (64 x of Trn2)"
        ),
        "trainium3-reinvent-2025.Memory_bandwidth_vs_Trainium2": scaled(
            "trainium2", "bandwidth", "144 x HBM bandwidth of Trn3 / (64 x of Trn2)"
        ),
        "trainium3-reinvent-2025.Memory_per_UltraServer": Check(
            formula="144 x HBM of Trn3, a TB taken as 1000 GiB",
            inputs={"n": TRN3_CHIPS, "q": f"{t3}.memory.hbm_capacity"},
            of=lambda x: x["n"] * x["q"] / 2**30 * 1e9,
            condition="a TB is read as 1000 GiB; in TB of 10^12 bytes it is 7% more",
        ),
        "trainium3-reinvent-2025.Peak_FP8": Check(
            formula="144 x MXFP8 of Trn3",
            inputs={"n": TRN3_CHIPS, "q": f"{t3}.peak_dense.mxfp8"},
            of=lambda x: x["n"] * x["q"],
        ),
        "trainium3-reinvent-2025.Chips_per_UltraServer": Check(
            formula="servers x chips: 36 x 4",
            inputs={"servers": "systems.trn3-gen2.racks", "per": "systems.trn3-gen2.levels.rack.chips"},
            of=lambda x: x["servers"] * x["per"],
        ),
        "trainium3-reinvent-2025.GPT-OSS_throughput": gpt["throughput"],
        "trainium3-reinvent-2025.GPT-OSS_response": gpt["response"],
        "trainium3-reinvent-2025.Output_tokens_per_megawatt": gpt["per_megawatt"],
        "trainium3-reinvent-2025.Tensor-engine": Check(
            missing="the kernels, their shapes and times; our own kernels on the simulated core are in tables/"
        ),
        "trainium3-reinvent-2025.Trainium2_chips_serving": Check(missing="a count by anyone but the two companies"),
        "trainium3-reinvent-2025.Cluster_size": Check(
            missing=(
                "a cluster of that size in operation: a configuration, not a measurement; `mowich collective --on"
                " trn3:1000000` and `mowich goodput --on trn3:1000000` say what it would take"
            )
        ),
        "trainium3-reinvent-2025.Per-chip_memory": Check(
            formula="HBM bandwidth of Trn3 / of Trn2 (capacity: 144 / 96 GiB = 1.5)",
            inputs={"a": f"{t3}.memory.hbm_bandwidth", "b": f"{t2}.memory.hbm_bandwidth"},
            of=lambda x: x["a"] / x["b"],
            published=1.7,
        ),
        "trainium3-reinvent-2025.Inter-chip": Check(
            formula="sum of the levels of Trn3 / (in the server + between servers) of Trn2, per direction",
            inputs={
                "s": f"{t3}.scale_up.intra_server_per_direction",
                "r": f"{t3}.scale_up.inter_server_in_rack_per_direction",
                "k": f"{t3}.scale_up.inter_rack_per_direction",
                "a": f"{t2}.scale_up.intra_server_per_direction",
                "b": f"{t2}.scale_up.inter_server_per_direction",
            },
            of=lambda x: (x["s"] + x["r"] + x["k"]) / (x["a"] + x["b"]),
            condition=(
                "the 2.56 TB/s of the chip page are used in full; the three levels of the architecture page make"
                " {low:.2g} to {high:.2g} times Trainium 2"
            ),
        ),
        "trainium3-reinvent-2025.NeuronSwitch": Check(missing="any latency of the switch"),
        "trainium3-reinvent-2025.Cost_reduction": Check(missing=NO_PRICE),
        "trainium3-reinvent-2025.Operating_cost": Check(missing=NO_PRICE),
        "trainium3-reinvent-2025.Time_to_train": Check(
            missing="the model, the tokens and the machine before: months to weeks is any factor of two or more"
        ),
        "trainium-later.Trainium2_price": Check(missing=NO_PRICE),
        "trainium-later.Trainium_price": Check(missing=NO_PRICE),
        "trainium-later": Check(
            missing=(
                "accuracy is a property of the arithmetic and the run, not of facts; `mowich.nki` computes MXFP4 bit by"
                " bit, the model's weights are not ours"
            )
        ),
        "trainium4.FP4": ratio(
            f"{t4}.peak_dense.mxfp4",
            f"{t3}.peak_dense.mxfp4",
            "MXFP4 of Trn4 / of Trn3",
            condition="the rate that AWS announced is built: the fact is derived from this very claim",
        ),
        "trainium4.FP8": ratio(
            f"{t4}.peak_dense.mxfp8",
            f"{t3}.peak_dense.mxfp8",
            "MXFP8 of Trn4 / of Trn3",
            condition="the rate that AWS announced is built: the fact is derived from this very claim",
        ),
        "trainium4.Memory_bandwidth": ratio(
            f"{t4}.memory.hbm_bandwidth",
            f"{t3}.memory.hbm_bandwidth",
            "HBM bandwidth of Trn4 / of Trn3",
            condition="the bandwidth that AWS announced is built",
        ),
        "trainium4.Memory_capacity": ratio(
            f"{t4}.memory.hbm_capacity",
            f"{t3}.memory.hbm_capacity",
            "HBM of Trn4 / of Trn3",
            condition="the capacity of the preview is built: the fact is derived from this very claim",
        ),
        "trainium4": Check(missing="details of the chip"),
        "ironwood.Pod_compute": Check(
            formula="9,216 x FP8 of Ironwood",
            inputs={"n": pod, "q": f"{iron}.peak_dense.fp8"},
            of=lambda x: x["n"] * x["q"],
        ),
        "ironwood.Perf_per_watt": Check(
            formula="(FP8 / P) of Ironwood / (8-bit / P) of Trillium",
            inputs={
                "a": f"{iron}.peak_dense.fp8",
                "p": f"{iron}.power.all_in",
                "b": f"{v6e}.peak_dense.fp8",
                "q": f"{v6e}.power.all_in",
            },
            of=lambda x: (x["a"] / x["p"]) / (x["b"] / x["q"]),
            condition="an Ironwood draws {need:.2f} times the power of a Trillium chip; Google publishes neither",
        ),
        "ironwood.HBM_capacity": ratio(
            f"{iron}.memory.hbm_capacity", f"{v6e}.memory.hbm_capacity", "HBM of Ironwood / of Trillium"
        ),
        "ironwood.HBM_bandwidth": ratio(
            f"{iron}.memory.hbm_bandwidth", f"{v6e}.memory.hbm_bandwidth", "HBM bandwidth of Ironwood / of Trillium"
        ),
        "ironwood.Peak_vs_v5p": ratio(
            f"{iron}.peak_dense.fp8", f"{v5p}.peak_dense.bf16", "FP8 of Ironwood / BF16 of v5p (v5p has no FP8)"
        ),
        "ironwood.Per-chip": ratio(
            f"{iron}.peak_dense.fp8", f"{v6e}.peak_dense.bf16", "FP8 of Ironwood / BF16 of Trillium"
        ),
        "ironwood.Directly": Check(
            formula="9,216 x 192 GB",
            inputs={"n": pod, "q": f"{iron}.memory.hbm_capacity"},
            of=lambda x: x["n"] * x["q"] / 2**30 * 1e9,
            condition="the pages' GB are GB: with the 192 GiB of the chip page it is 1.90 PB",
        ),
        "ironwood.FP8_over": fp8_gain(),
        "tpu8.8t_pod": Check(
            formula="pod of 8t x its FP4 / (9,216 x FP8 of Ironwood)",
            inputs={
                "m": "chips.tpu_8t.scale_up.domain_size",
                "q": "chips.tpu_8t.peak_dense.fp4",
                "n": pod,
                "p": f"{iron}.peak_dense.fp8",
            },
            of=lambda x: x["m"] * x["q"] / (x["n"] * x["p"]),
            condition="FP4 is set against FP8: at equal precision the gain is not published",
            unknown=("chips.tpu_8t.peak_dense.fp8",),
        ),
        "tpu8.8i_pod": Check(
            missing="the FP8 rate of TPU 8i and what the prior pod is", unknown=("chips.tpu_8i.peak_dense.fp8",)
        ),
        "tpu8": Check(missing=NO_PRICE),
        "gb300.Dense_FP4": ratio(
            "chips.gb300.peak_dense.fp4", "chips.gb200.peak_dense.fp4", "dense FP4 of GB300 / of GB200"
        ),
        "gb300.NVL72_dense": Check(
            formula="72 x dense FP4",
            inputs={"n": "systems.gb300.chips_per_unit", "q": "chips.gb300.peak_dense.fp4"},
            of=lambda x: x["n"] * x["q"],
        ),
        "gb300.Throughput_per_MW": Check(
            formula="tokens per chip that 5x per megawatt needs: 5 x P(GB300) / P(H100)",
            inputs={
                "a": "chips.gb300.power.all_in",
                "b": "chips.h100_sxm.power.all_in",
                "claim": "claims.gb300.claims.Throughput_per_MW_vs_Hopper.published",
            },
            of=lambda x: x["claim"] * x["a"] / x["b"],
            missing=(
                "the operating point: the derived figure is how many times the tokens of an H100 a GB300 would have to"
                " make"
            ),
        ),
        "gb300.Attention": Check(
            missing=(
                "the time of attention on either chip, and its shapes; the rate of exponentials, part of that time, is"
                " stated as twice that of B200 (chips.gb300.on_chip.sfu_exp_rate)"
            )
        ),
        "gb300": Check(missing=NO_RUN),
        "vera-rubin.Inference": ratio(
            "chips.vr200_rubin.fp4_inference",
            "chips.gb200.peak_dense.fp4",
            "FP4 with adaptive compression of Rubin / dense FP4 of GB200",
        ),
        "vera-rubin.Training": ratio(
            "chips.vr200_rubin.peak_dense.fp4", "chips.gb200.peak_dense.fp4", "dense FP4 of Rubin / of GB200"
        ),
        "vera-rubin": Check(missing=NO_RUN),
        "inferencex-v2-gb300.Blackwell_Ultra_vs_Blackwell_FP8": ratio(
            "chips.gb300.peak_dense.fp8",
            "chips.gb200.peak_dense.fp8",
            "dense FP8 of GB300 / of GB200",
            note="measured on a service: HBM of 288 against 186 GB holds larger batches",
        ),
        "inferencex-v2-gb300.Blackwell_Ultra_vs_Blackwell_FP4": ratio(
            "chips.gb300.memory.hbm_bandwidth",
            "chips.gb200.memory.hbm_bandwidth",
            "HBM bandwidth of GB300 / of GB200 (decoding is bound by it)",
            condition="the runs are bound by memory bandwidth, which is the same; the 1.5x of FP4 does not show",
        ),
        "inferencex-v2-gb300": Check(
            missing="the curves that the figures are read from; a measurement, not a specification"
        ),
        "measured-trainium2": Check(
            missing="a second measurement: one project on an engine of its own; a floor, not a ceiling"
        ),
    }


def expert_share(model: Model) -> float:
    """Share of a model's parameters that lies in routed experts."""
    return (
        sum(
            layer.count * layer.ffn.num_experts * (3.0 if layer.ffn.gated else 2.0) * layer.ffn.ffn * model.hidden
            for layer in model.layers
            if isinstance(layer.ffn, Moe)
        )
        / model.params
    )


MXFP4_B, BF16_B = 4.25 / 8.0, 2.0
"""Bytes per weight: blocks of 32 with one 8-bit scale; 16 bits."""


def gpt_oss() -> dict[str, Check]:
    """GPT-OSS 120B decoding, bound by HBM: the ratio of bandwidths times that of the bytes of a step, from cached keys
    alone to weights alone.

    Weights in BF16 on Trn2, experts in MXFP4 on Trn3 (Neuron's recipe): bytes of weights fall by w = 1 / (e x 4.25/16 +
    1 - e), e the experts' share. The ratio lies between bandwidth alone (keys and values only) and w x bandwidth
    (weights only).
    """
    e = expert_share(load("gpt-oss-120b"))
    w = 1.0 / (e * MXFP4_B / BF16_B + 1.0 - e)
    paths = {"b3": "chips.trainium3.memory.hbm_bandwidth", "b2": "chips.trainium2.memory.hbm_bandwidth"}
    top = f"up to {w:.2f} (weights alone, MXFP4 experts against BF16)"
    formats = "Trn2 runs BF16 weights and Trn3 MXFP4 ones"

    def speed(x: Mapping[str, float]) -> float:
        return x["b3"] / x["b2"]

    def efficiency(x: Mapping[str, float]) -> float:
        return speed(x) / (x["p3"] / x["p2"])

    return {
        "throughput": Check(
            formula=f"B3 / B2 x f, f from 1 (keys and values alone) {top}",
            inputs=paths,
            of=lambda x: speed(x) * w**0.5,
            spread=lambda x: (speed(x), speed(x) * w),
            condition=(
                f"{formats}, at a batch where weights are part of the bytes: one format on both gives about"
                " {low:.2g}, the two formats up to {high:.2g}"
            ),
        ),
        "response": Check(
            formula=f"B3 / B2 x f, f from 1 (one format) {top}",
            inputs=paths,
            of=lambda x: speed(x) * w**0.5,
            spread=lambda x: (speed(x), speed(x) * w),
            condition=(
                f"{formats}, at a small batch: one format on both gives about {{low:.2g}}, the two formats up to"
                " {high:.2g}"
            ),
        ),
        "per_megawatt": Check(
            formula=f"B3 / B2 x f / (P3 / P2), f from 1 {top}",
            inputs={**paths, "p3": "chips.trainium3.power.all_in", "p2": "chips.trainium2.power.all_in"},
            of=lambda x: efficiency(x) * w**0.5,
            spread=lambda x: (efficiency(x), efficiency(x) * w),
            condition=(
                f"{formats}, and Trn3 draws little more than Trn2: with the claimed 3x per chip its power would be 3/5"
                " of Trn2's, so the two figures are of different operating points"
            ),
        ),
    }


def fp8_gain() -> Check:
    """BF16 step over FP8 step of the same measured jobs: their geometric mean, and the least and the most."""
    root = "claims.measured-ironwood-training.claims"
    jobs = (
        "deepseek-v3_128_2048_4096",
        "deepseek-v3_256_4096_4096",
        "llama3_1-405b_256_1536_8192",
        "llama3_1-70b_64_256_8192",
        "qwen3-235b-a22b_256_8192_4096",
    )
    inputs = {
        f"{kind}{i}": f"{root}.{job}_{kind}.step_time" for i, job in enumerate(jobs) for kind in ("bf16", "fp8_full")
    }

    def gains(x: Mapping[str, float]) -> list[float]:
        return [x[f"bf16{i}"] / x[f"fp8_full{i}"] for i in range(len(jobs))]

    return Check(
        formula="geometric mean of BF16 step / FP8 step over the measured pairs",
        inputs=inputs,
        of=lambda x: math.prod(gains(x)) ** (1 / len(jobs)),
        spread=lambda x: (min(gains(x)), max(gains(x))),
    )


def number(fact: Fact) -> float | None:
    """The value of a fact of a claim where it is a number."""
    return float(fact.value) if isinstance(fact.value, int | float) else None


def derive(facts: Facts, check: Check) -> tuple[float | None, float | None, float | None, dict[str, str], str]:
    """(value, low, high, inputs as written, missing fact): over the ends of the ranges of the inputs."""
    if check.of is None:
        return None, None, None, {}, check.missing
    shown: dict[str, str] = {}
    ends: dict[str, tuple[float, ...]] = {}
    values: dict[str, float] = {}
    for symbol, path in check.inputs.items():
        fact = facts.fact(path)
        value = number(fact)
        if value is None:
            return None, None, None, shown, f"{path} is not published"
        values[symbol] = value
        ends[symbol] = (value,) if fact.low is None or fact.low == fact.high else (fact.low, float(fact.high or value))
        shown[symbol] = f"{path} = {fact.as_written}"
    value = check.of(values)
    corners = [check.of(dict(zip(ends, combo, strict=True))) for combo in itertools.product(*ends.values())]
    low, high = min([value, *corners]), max([value, *corners])
    if check.spread is not None:
        spans = [check.spread(dict(zip(ends, combo, strict=True))) for combo in itertools.product(*ends.values())]
        low, high = min(a for a, _ in spans), max(b for _, b in spans)
    return value, low, high, shown, ""


def verdict(
    check: Check,
    published: float | None,
    value: float | None,
    low: float | None,
    high: float | None,
    *,
    at_least: bool = False,
    more: Mapping[str, float] | None = None,
) -> tuple[str, str]:
    """(verdict, reason) of a claimed number against a derived one and its range. at_least: the claim is a bound (">4
    x"); more: numbers for the reason."""
    if value is None or low is None or high is None:
        return UNCHECKED, ""
    if published is None:
        return UNCHECKED, "the claim states no number"
    numbers = {"value": value, "low": low, "high": high, "need": value / published, **(more or {})}
    if check.missing:
        return UNCHECKED, f"not published: {check.missing.format(**numbers)}"
    near = value >= published * (1 - TOLERANCE) if at_least else abs(value / published - 1) <= TOLERANCE
    inside = low * (1 - TOLERANCE) <= published <= high * (1 + TOLERANCE) or (at_least and high >= published)
    condition = check.condition.format(**numbers)
    if near and not condition:
        return HOLDS, ""
    if (near or inside) and condition:
        return ONLY_IF, condition
    if inside:
        return ONLY_IF, f"the derived value is known as {low:.3g} to {high:.3g}, and the claim lies inside"
    return (
        (ONLY_IF, condition)
        if condition
        else (NOT, f"the facts give {value:.3g}, not {published:.3g}" + (f": {check.note}" if check.note else ""))
    )


def claimed(check: Check, fact: Fact) -> float | None:
    """The claim as a number: a share on top is 1 more; the first number of a text only where a formula is set against
    it."""
    if check.published is not None:
        return check.published
    value = number(fact)
    if value is None and check.of is not None and (found := figure(fact)) is not None:
        value = found[0]
    return value if value is None or not check.is_gain else 1.0 + value


_UNIT_IN_NOTE = re.compile(r"(?:(?P<before>press report); )?in (?P<unit>[^;]*)(?:; (?P<after>.*))?")

LONGEST_NOTE = 40
"""Characters of a note that is shown beside a claim; longer ones are in the facts."""


def as_published(fact: Fact) -> str:
    """A claim as its source has it, with a short note: "100 x (up to)". The unit of a count stands in its note ("in
    output token/s per box")."""
    shown, note = fact.as_written, fact.note or ""
    unit = _UNIT_IN_NOTE.fullmatch(note) if fact.unit == "" and fact.value is not None else None
    if fact.unit == "" and isinstance(fact.value, float) and fact.value.is_integer() and not fact.shown_range:
        shown = f"{fact.value:,.0f}"
    if unit:
        shown = f"{shown} {unit['unit']}"
        note = "; ".join(x for x in (unit["before"], unit["after"]) if x)
    return f"{shown} ({note})" if 0 < len(note) < LONGEST_NOTE else shown


def title(key: str) -> str:
    """The words of a claim from its key."""
    return re.sub(r"\s+", " ", key.replace("_", " ")).strip()


def training_row(facts: Facts, root: str, key: str) -> Claim:
    """A measured training row: its tokens per chip from batch, length and step, and its MFU from the published peak."""
    match = re.fullmatch(r"(.+)_(\d+)_(\d+)_(\d+)_(bf16|fp8_full)", key)
    step, tokens = facts.fact(f"{root}.{key}.step_time"), facts.fact(f"{root}.{key}.tokens_per_chip")
    published = float(tokens.value or 0)
    assert match is not None, key
    chips, batch, seq = (int(match[i]) for i in (2, 3, 4))
    value = batch * seq / (float(step.value or 1) * chips)
    agrees = abs(value / published - 1) <= 0.01
    return Claim(
        id=f"{root.split('.')[1]}.{key}",
        group=root.split(".")[1],
        text=f"{match[1]}, {chips} chips, {match[5]}: tokens per second and chip",
        published=f"{published:g} tokens/s",
        published_value=published,
        formula="batch x length / (step x chips)",
        inputs={
            "step": f"{step.path} = {step.as_written}",
            "batch": str(batch),
            "length": str(seq),
            "chips": str(chips),
        },
        derived=value,
        low=value,
        high=value,
        unit="tokens/s",
        verdict=HOLDS if agrees else NOT,
        reason=(
            "arithmetic of the row; our own prediction of it is in accuracy.md"
            if agrees
            else f"the row's step gives {value:.1f}"
        ),
        source=f"{tokens.title}, {tokens.locator}",
    )


def claims(facts: Facts) -> list[Claim]:
    """Every entry of facts/claims with its verdict, in the order of the files."""
    table = checks()
    out: list[Claim] = []
    for entry in entries(facts):
        name, key, found = entry.file, entry.key, entry.id
        if name == "measured-ironwood-training":
            out.append(training_row(facts, entry.path.rpartition(".")[0], key))
            continue
        fact = facts.fact(entry.published)
        check = next((c for start, c in table.items() if found.startswith(start)), None)
        if check is None:
            check = Check(
                missing=(
                    "concurrency, engine settings and latency of the measured point; `mowich validate` predicts rows"
                    " that state them"
                )
            )
        value, low, high, shown, missing = derive(facts, check)
        published = claimed(check, fact)
        more = None
        if check.more and value is not None and published:
            values = {symbol: facts.number(path) for symbol, path in check.inputs.items()}
            more = {**values, **check.more(values, published)}
        at_least = isinstance(fact.value, str) and fact.value.startswith(">")
        judged, reason = verdict(check, published, value, low, high, at_least=at_least, more=more)
        if judged == UNCHECKED and not reason:
            reason = f"not published: {missing or check.missing}"
            if fact.value is None:
                reason = f"{fact.reason}; {reason}"
        if found.startswith("trainium3-reinvent-2025.GPT-OSS"):
            reason += served(serving_claims.gpt_oss_served(facts), is_response="response" in key)
        unit = "x" if check.is_gain or fact.unit in ("1", "text") else fact.unit
        out.append(
            Claim(
                id=found,
                group=name,
                text=title(key),
                published=as_published(fact),
                published_value=published,
                formula=check.formula,
                inputs=shown,
                derived=value,
                low=low,
                high=high,
                unit=unit,
                verdict=judged,
                reason=reason,
                source=f"{fact.title}, {fact.locator}",
            )
        )
    return out


def served(claim: serving_claims.ServeClaim, *, is_response: bool) -> str:
    """What the serving model adds to the bound of bandwidth: the same claim with engines, links and batches."""
    if is_response:
        said = (
            f"responses {claim.response:.2g} times as fast at equal throughput per chip"
            f" ({claim.response_alone:.2g} times for a lone user)"
        )
    else:
        said = (
            f"{claim.throughput:.2g} times the throughput per chip ({claim.throughput_same_format:.2g} times with"
            " 16-bit weights on both)"
        )
    return (
        f"; the serving model, at a limit of {claim.tpot_s * 1e3:.0f} ms per token and with those two formats, gives"
        f" {said}"
    )


# the question behind the claims
# ----------------------------------------------------------------------------------------------------------------------
MEMORY_MODELS = ("gpt-oss-120b", "llama-3.1-405b", "deepseek-v3", "kimi-k2")
MEMORY_CONTEXTS = (8_192, 131_072, 1_048_576)
MEMORY_SYSTEMS = ("trn3-gen2", "ironwood", "gb300")
WEIGHT_B = 1.0
"""Bytes per weight and per cached element: 8 bits on all three machines, so that memory is compared and not format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryRow:
    """Decoding with full memory. chips_min: chips that hold the weights and one sequence; tokens_per_s: per chip, on
    `chips`; loss: share of the bandwidth that reads weights; left_at_8: share of the bandwidth that is left for
    sequences on 8 chips; offset_chips: chips from which that loss is below 10%; price_ratio: price per chip over the
    first system's at which a token costs the same."""

    model: str
    context: int
    system: str
    memory_B: float
    chips_min: int
    chips: int
    tokens_per_s: float | None
    loss: float | None
    left_at_8: float
    offset_chips: int
    price_ratio: float | None


def decode_bound(bandwidth_Bps: float, kv_B: float, weights_B: float, memory_B: float, chips: float) -> float:
    """Tokens per second and chip of decoding with memory full: (B / k) (1 - W / (n m)).

    A step reads all of the memory, n m bytes at n B bytes/s; (n m - W) / k sequences get a token each. k: bytes of one
    sequence's keys and values (one token is read once per step for each of them); W: weights; n chips of m bytes and B
    bytes/s. Weights cost only through W / (n m): more chips buy memory back.

    >>> round(decode_bound(5e12, 1e9, 1e12, 100e9, 20.0), 1)
    2500.0
    """
    return bandwidth_Bps / kv_B * max(0.0, 1.0 - weights_B / (chips * memory_B))


def memory_table(facts: Facts) -> list[MemoryRow]:
    """Per model and context: what 144, 192 and 288 GB cost, and from which scale and price on they do not."""
    out = []
    for name in MEMORY_MODELS:
        model = load(name)
        weights = model.params * WEIGHT_B
        for context in MEMORY_CONTEXTS:
            kv = model.kv_bytes(context, WEIGHT_B)
            best: float | None = None
            for system in MEMORY_SYSTEMS:
                chip = facts.meta("systems", system)["chip"]
                memory, bandwidth = (
                    facts.number(f"chips.{chip}.memory.hbm_usable"),
                    facts.number(f"chips.{chip}.memory.hbm_bandwidth"),
                )
                least = max(1, -int(-(weights + kv) // memory))
                domain = min(144, round(facts.number(f"systems.{system}.chips_per_unit")))
                chips = max(least, domain if system != "gb300" else 72)
                rate = decode_bound(bandwidth, kv, weights, memory, chips)
                best = rate if best is None else best
                out.append(
                    MemoryRow(
                        model=name,
                        context=context,
                        system=system,
                        memory_B=memory,
                        chips_min=least,
                        chips=chips,
                        tokens_per_s=rate,
                        loss=weights / (chips * memory),
                        left_at_8=max(0.0, 1.0 - weights / (8.0 * memory)),
                        offset_chips=max(1, -int(-10.0 * weights // memory)),
                        price_ratio=rate / best if best else None,
                    )
                )
    return out
