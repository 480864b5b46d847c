"""How each claim is checked: the formula, its inputs, and what is unknown."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from mowich.facts import Fact
from mowich.facts.entries import figure_of
from mowich.models import load_model
from mowich.models.model import Model, Moe
from mowich.sums import float_sum


def quotient(a: float, b: float) -> float:
    """A figure of one machine over that of another.

    T = a / b
    """
    return a / b


def machines_quotient(n3: float, q3: float, n2: float, q2: float) -> float:
    """A figure of all chips of one machine over that of another.

    T = n3 * q3 / (n2 * q2)
    """
    return n3 * q3 / (n2 * q2)


def pods_quotient(m: float, q: float, n: float, p: float) -> float:
    """The same for two pods: m chips of q each over n of p.

    T = m * q / (n * p)
    """
    return m * q / (n * p)


def chips_per_watt(q3: float, p3: float, q2: float, p2: float, **_: float) -> float:
    """Rate per watt of one chip over that of another. Numbers of chips cancel out.

    T = q3 / p3 / (q2 / p2)
    """
    return (q3 / p3) / (q2 / p2)


def per_watt_quotient(a: float, p: float, b: float, q: float) -> float:
    """Rate a at p watts over rate b at q watts.

    T = a / p / (b / q)
    """
    return (a / p) / (b / q)


def of_all(n: float, q: float) -> float:
    """A figure of n chips.

    T = n * q
    """
    return n * q


def capacity_read_as_GB(n: float, q: float) -> float:
    """Memory of n chips of q bytes, where a GiB is told as a GB.

    T = n * q / 2 ** 30 * 1e9
    """
    return n * q / 2**30 * 1e9


def links_quotient(s: float, r: float, k: float, a: float, b: float) -> float:
    """Three levels of links of one chip over two of another.

    T = (s + r + k) / (a + b)
    """
    return (s + r + k) / (a + b)


def tokens_for_claim(claim: float, a: float, b: float) -> float:
    """Tokens per chip that a gain per watt needs.

    T = claim * a / b
    """
    return claim * a / b


def decoding_gain(b3: float, b2: float, w: float) -> float:
    """Gain of decoding from bandwidth, and from fewer bytes of weights: the middle of no part of it and all.

    T = b3 / b2 * sqrt(w)
    """
    return b3 / b2 * math.sqrt(w)


def decoding_gain_per_watt(b3: float, b2: float, p3: float, p2: float, w: float) -> float:
    """The same per watt.

    T = b3 / b2 / (p3 / p2) * sqrt(w)
    """
    return b3 / b2 / (p3 / p2) * math.sqrt(w)


def mean_gain(
    bf160: float,
    fp8_full0: float,
    bf161: float,
    fp8_full1: float,
    bf162: float,
    fp8_full2: float,
    bf163: float,
    fp8_full3: float,
    bf164: float,
    fp8_full4: float,
) -> float:
    """Geometric mean of five ratios of times.

    T = (bf160 / fp8_full0 * (bf161 / fp8_full1) * (bf162 / fp8_full2) * (bf163 / fp8_full3) * (bf164 / fp8_full4)) **
    (1 / 5)
    """
    gains = (bf160 / fp8_full0, bf161 / fp8_full1, bf162 / fp8_full2, bf163 / fp8_full3, bf164 / fp8_full4)
    return float(math.prod(gains) ** (1 / 5))


TRN2_CHIPS, TRN3_CHIPS = "systems.trn2.chips_per_unit", "systems.trn3-gen2.chips_per_unit"
ULTRASERVERS = (TRN3_CHIPS, TRN2_CHIPS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """How a claim is derived. inputs: symbol -> path of a fact; given: symbol -> a number that is no fact; of: the
    function that computes it, of these symbols; is_gain: the claim is a share on top ("40 %" is 1.4 times); counts:
    facts with the chips of a unit (UltraServer, rack, pod) of the new machine and, where it is set against an old one,
    of that; per: whether the claim is of a "unit" or of a "chip", so that the other reading can stand beside it;
    condition: what makes the derived number the claimed one, if only under a condition; spread:
    ends of the formula itself, where it holds a number that is not a fact; missing: what would have to be published, if
    nothing is derived; unknown: facts that this says are not known. condition and missing may hold {value}, {low},
    {high}, and where there is `more` the inputs and what it makes of them and of the published number."""

    formula: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    given: Mapping[str, float] = field(default_factory=dict)
    of: Callable[..., float] | None = None
    is_gain: bool = False
    counts: tuple[str, ...] = ()
    per: Literal["chip", "unit"] = "chip"
    condition: str = ""
    missing: str = ""
    unknown: tuple[str, ...] = ()
    note: str = ""
    more: Callable[[Mapping[str, float], float], Mapping[str, float]] | None = None
    spread: Callable[[Mapping[str, float]], tuple[float, float]] | None = None


def ratio(a: str, b: str, formula: str, **more: object) -> Check:
    """a / b of two facts."""
    return Check(formula=formula, inputs={"a": a, "b": b}, of=quotient, **more)  # type: ignore[arg-type]


def _scaled(chip: str, quantity: str, formula: str) -> Check:
    """UltraServer over UltraServer: (144 x Trn3) / (64 x Trn2)."""
    mine, theirs = {
        "compute": ("peak_dense.mxfp8", "peak_dense.fp8"),
        "bandwidth": ("memory.hbm_bandwidth",) * 2,
        "memory": ("memory.hbm_capacity",) * 2,
    }[quantity]
    return Check(
        formula=formula,
        inputs={"n3": TRN3_CHIPS, "q3": f"chips.trainium3.{mine}", "n2": TRN2_CHIPS, "q2": f"chips.{chip}.{theirs}"},
        of=machines_quotient,
        counts=ULTRASERVERS,
        per="unit",
    )


_NO_PRICE = "the prices, and the workload, batch and latency that were compared"


_NOT_BUILT = "the figure of a chip that is built: what the facts hold is derived from this very claim"
NO_RUN = "the workload, its lengths, batch and latency, and the measured runs"


def checks() -> dict[str, Check]:
    """Beginning of the id of a claim -> how it is derived. The first that fits wins."""
    return {**_of_trainium3(), **_of_trainium_later(), **_of_tpus(), **_of_nvidia(), **_of_measurements()}


def _of_trainium3() -> dict[str, Check]:
    """What AWS says of Trainium 3 against Trainium 2."""
    t3, t2 = "chips.trainium3", "chips.trainium2"
    gpt = gpt_oss()
    return {
        "trainium3-reinvent-2025.Trn3_UltraServer_compute": _scaled(
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
            of=chips_per_watt,
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
            of=chips_per_watt,
            is_gain=True,
            condition=(
                "a Trainium 3 draws {watts:.2f} times the power of a Trainium 2 (peak MXFP8 against FP8); AWS publishes"
                " neither (searched 2026-11: its product, instance and Neuron pages), and our estimates are"
                " {assumed:.2f} times"
            ),
            more=lambda x, claimed: {"watts": x["q3"] / x["q2"] / claimed, "assumed": x["p3"] / x["p2"]},
        ),
        "trainium3-reinvent-2025.Memory_bandwidth_vs_Trn2": _scaled(
            "trainium2", "bandwidth", "144 x HBM bandwidth of Trn3 / (64 x of Trn2)"
        ),
        "trainium3-reinvent-2025.Memory_bandwidth_vs_Trainium2": _scaled(
            "trainium2", "bandwidth", "144 x HBM bandwidth of Trn3 / (64 x of Trn2)"
        ),
        "trainium3-reinvent-2025.Memory_per_UltraServer": Check(
            formula="144 x HBM of Trn3, a TB taken as 1000 GiB",
            inputs={"n": TRN3_CHIPS, "q": f"{t3}.memory.hbm_capacity"},
            of=capacity_read_as_GB,
            counts=(TRN3_CHIPS,),
            per="unit",
            condition="a TB is read as 1000 GiB; in TB of 10^12 bytes it is 7% more",
        ),
        "trainium3-reinvent-2025.Peak_FP8": Check(
            formula="144 x MXFP8 of Trn3",
            inputs={"n": TRN3_CHIPS, "q": f"{t3}.peak_dense.mxfp8"},
            of=of_all,
            counts=(TRN3_CHIPS,),
            per="unit",
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
        "trainium3-reinvent-2025.Per-chip_memory_capacity": ratio(
            f"{t3}.memory.hbm_capacity", f"{t2}.memory.hbm_capacity", "HBM of Trn3 / of Trn2", counts=ULTRASERVERS
        ),
        "trainium3-reinvent-2025.Per-chip_memory_bandwidth": ratio(
            f"{t3}.memory.hbm_bandwidth",
            f"{t2}.memory.hbm_bandwidth",
            "HBM bandwidth of Trn3 / of Trn2",
            counts=ULTRASERVERS,
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
            of=links_quotient,
            condition=(
                "the 2.56 TB/s of the chip page are used in full; the three levels of the architecture page make"
                " {low:.2g} to {high:.2g} times Trainium 2"
            ),
        ),
        "trainium3-reinvent-2025.NeuronSwitch": Check(missing="any latency of the switch"),
        "trainium3-reinvent-2025.Cost_reduction": Check(missing=_NO_PRICE),
        "trainium3-reinvent-2025.Operating_cost": Check(missing=_NO_PRICE),
        "trainium3-reinvent-2025.Time_to_train": Check(
            missing="the model, the tokens and the machine before: months to weeks is any factor of two or more"
        ),
    }


def _of_trainium_later() -> dict[str, Check]:
    """What AWS says of prices, of accuracy, and of Trainium 4."""
    t3, t4 = "chips.trainium3", "chips.trainium4"
    return {
        "trainium-later.Trainium2_price": Check(missing=_NO_PRICE),
        "trainium-later.Trainium_price": Check(missing=_NO_PRICE),
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
            missing=_NOT_BUILT,
        ),
        "trainium4.FP8": ratio(
            f"{t4}.peak_dense.mxfp8",
            f"{t3}.peak_dense.mxfp8",
            "MXFP8 of Trn4 / of Trn3",
            missing=_NOT_BUILT,
        ),
        "trainium4.Memory_bandwidth": ratio(
            f"{t4}.memory.hbm_bandwidth",
            f"{t3}.memory.hbm_bandwidth",
            "HBM bandwidth of Trn4 / of Trn3",
            missing=_NOT_BUILT,
        ),
        "trainium4.Memory_capacity": ratio(
            f"{t4}.memory.hbm_capacity",
            f"{t3}.memory.hbm_capacity",
            "HBM of Trn4 / of Trn3",
            missing=_NOT_BUILT,
        ),
        "trainium4": Check(missing="details of the chip"),
    }


def _of_tpus() -> dict[str, Check]:
    """What Google says of Ironwood and TPU 8."""
    iron, v6e, v5p = "chips.tpu_v7_ironwood", "chips.tpu_v6e", "chips.tpu_v5p"
    pod = "systems.ironwood.chips_per_unit"
    return {
        "ironwood.Pod_compute": Check(
            formula="9,216 x FP8 of Ironwood",
            inputs={"n": pod, "q": f"{iron}.peak_dense.fp8"},
            of=of_all,
            counts=(pod,),
            per="unit",
        ),
        "ironwood.Perf_per_watt": Check(
            formula="(FP8 / P) of Ironwood / (8-bit / P) of Trillium",
            inputs={
                "a": f"{iron}.peak_dense.fp8",
                "p": f"{iron}.power.all_in",
                "b": f"{v6e}.peak_dense.fp8",
                "q": f"{v6e}.power.all_in",
            },
            of=per_watt_quotient,
            condition=(
                "an Ironwood draws {watts:.2f} times the power of a Trillium chip; Google publishes neither"
                " (searched 2026-11: Google Cloud pages and talks), and our estimates are {assumed:.2f} times"
            ),
            more=lambda x, claimed: {"watts": x["a"] / x["b"] / claimed, "assumed": x["p"] / x["q"]},
        ),
        "ironwood.HBM_capacity": ratio(
            f"{iron}.memory.hbm_capacity", f"{v6e}.memory.hbm_capacity", "HBM of Ironwood / of Trillium"
        ),
        "ironwood.HBM_bandwidth": ratio(
            f"{iron}.memory.hbm_bandwidth",
            f"{v6e}.memory.hbm_bandwidth",
            "HBM bandwidth of Ironwood / of Trillium",
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
            of=capacity_read_as_GB,
            counts=(pod,),
            per="unit",
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
            of=pods_quotient,
            counts=("chips.tpu_8t.scale_up.domain_size", pod),
            per="unit",
            condition="FP4 is set against FP8: at equal precision no page of Google states the gain",
        ),
        "tpu8.8i_pod": Check(
            missing="the FP8 rate of TPU 8i but by this claim (ours is worked back from it), and what the prior pod is"
        ),
        "tpu8": Check(missing=_NO_PRICE),
    }


def _of_nvidia() -> dict[str, Check]:
    """What NVIDIA says of GB300 and Vera Rubin."""
    return {
        "gb300.Dense_FP4": ratio(
            "chips.gb300.peak_dense.fp4", "chips.gb200.peak_dense.fp4", "dense FP4 of GB300 / of GB200"
        ),
        "gb300.NVL72_dense": Check(
            formula="72 x dense FP4",
            inputs={"n": "systems.gb300.chips_per_unit", "q": "chips.gb300.peak_dense.fp4"},
            of=of_all,
            counts=("systems.gb300.chips_per_unit",),
            per="unit",
        ),
        "gb300.Throughput_per_MW": Check(
            formula="tokens per chip that 5x per megawatt needs: 5 x P(GB300) / P(H100)",
            inputs={
                "a": "chips.gb300.power.all_in",
                "b": "chips.h100_sxm.power.all_in",
                "claim": "claims.gb300.claims.Throughput_per_MW_vs_Hopper.published",
            },
            of=tokens_for_claim,
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
    }


def _of_measurements() -> dict[str, Check]:
    """What others measured and say."""
    return {
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
        float_sum(
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
    e = expert_share(load_model("gpt-oss-120b"))
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
            given={"w": w},
            of=decoding_gain,
            counts=ULTRASERVERS,
            spread=lambda x: (speed(x), speed(x) * w),
            condition=(
                f"{formats}, at a batch where weights are part of the bytes: one format on both gives about"
                " {low:.2g}, the two formats up to {high:.2g}"
            ),
        ),
        "response": Check(
            formula=f"B3 / B2 x f, f from 1 (one format) {top}",
            inputs=paths,
            given={"w": w},
            of=decoding_gain,
            spread=lambda x: (speed(x), speed(x) * w),
            condition=(
                f"{formats}, at a small batch: one format on both gives about {{low:.2g}}, the two formats up to"
                " {high:.2g}"
            ),
        ),
        "per_megawatt": Check(
            formula=f"B3 / B2 x f / (P3 / P2), f from 1 {top}",
            inputs={**paths, "p3": "chips.trainium3.power.all_in", "p2": "chips.trainium2.power.all_in"},
            given={"w": w},
            of=decoding_gain_per_watt,
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
        of=mean_gain,
        spread=lambda x: (min(gains(x)), max(gains(x))),
    )


def number_of(fact: Fact) -> float | None:
    """The value of a fact of a claim where it is a number."""
    return float(fact.value) if isinstance(fact.value, int | float) else None


def claimed(check: Check, fact: Fact) -> float | None:
    """The claim as a number: a share on top is 1 more; the first number of a text only where a formula is set against
    it."""
    value = number_of(fact)
    if value is None and check.of is not None and (found := figure_of(fact)) is not None:
        value = found[0]
    return value if value is None or not check.is_gain else 1.0 + value
