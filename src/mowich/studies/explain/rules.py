"""What every number of every result is: one line each, as data.

A `Rule` gives the path of the number ("*": any one step, "**": any rest), its unit, what it is, and how it comes about:
arithmetic over names of the result where it begins with "= " (then `explain` shows the numbers put in, and a test holds
that it gives the number), else words. Estimates bring their own unit. Formulas that the model evaluates itself (a step,
an engine's step, a collective) are not told here: `Source.terms` records them from the code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mowich.studies.explain.tree import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """path: pattern of steps. says: what the number is. formula: arithmetic, without "= "; words: how it comes about
    otherwise. facts: templates of paths, {chip} and {system} filled in;
    when: (name, value) that must hold beside the number."""

    path: tuple[str, ...]
    unit: str
    says: str
    formula: str = ""
    words: str = ""
    facts: tuple[str, ...] = ()
    when: tuple[str, Any] | None = None

    def matches(self, path: Path) -> bool:
        """Whether the rule is of the number at `path`."""
        for i, step in enumerate(self.path):
            if step == "**":
                return len(path) > i
            if i >= len(path) or (step != "*" and step != str(path[i])):
                return False
        return len(path) == len(self.path)


def _rule(path: str, unit: str, says: str, how: str, *facts: str, when: tuple[str, Any] | None = None) -> Rule:
    words = {"formula": how[2:]} if how.startswith("= ") else {"words": how}
    return Rule(path=tuple(path.split(" ")), unit=unit, says=says, facts=facts, when=when, **words)


def _under(prefix: str, rules: Iterable[Rule]) -> list[Rule]:
    from dataclasses import replace

    return [replace(r, path=(*prefix.split(" "), *r.path)) for r in rules]


R = _rule
CHOSEN = "chosen by the search: of all legal plans that fit, the one that this row is about"
MOVED = "the model evaluated once more with this one fact at the end of its range, everything else fixed"

UNITS: Mapping[str, str] = {
    "tokens_per_step": "tokens",
    "tokens": "tokens",
    "tokens_per_s": "1/s",
    "flop_per_token": "FLOP",
    "peak": "FLOP/s",
    "price": "USD/chip/s",
    "power": "W",
    "hbm_usable": "B",
    "usable": "B",
    "one_request": "B",
    "weights": "B",
    "kv": "B",
    "bandwidth": "B/s",
    "hbm_Bps": "B/s",
    "dma_Bps": "B/s",
    "cap_W": "W",
    "osl": "tokens",
    "isl": "tokens",
    "powered_chips": "chips",
    "tokens_per_s_per_chip": "1/s",
    "days": "d",
}
"""Units of names that a formula finds in no number of the result; a count or a share has none."""

CHIPS = [
    R(
        "chips_requested",
        "chips",
        "chips that were asked for, and are paid for",
        "as asked: the size in the system's name, --chips, or one scale-up unit",
    ),
    R(
        "chips_idle",
        "chips",
        "chips that the plan cannot use; they are powered and paid for",
        "= chips_requested - chips_used",
    ),
    R(
        "devices_per_chip",
        "devices",
        "devices that software sees of one chip: what a rank runs on",
        "as published",
        "chips.{chip}.devices_per_chip",
    ),
]

TRAIN_ROW = [
    *CHIPS,
    R("seq", "tokens", "tokens of a sequence", "as the scenario says"),
    R("batch_seqs", "sequences", "sequences of a global batch, as asked", "as the scenario says, in sequences"),
    R("tokens", "tokens", "tokens of the run", "as the scenario says"),
    R(
        "chips_used",
        "chips",
        "chips that the plan runs on",
        "= ceil(plan.tp * plan.pp * plan.dp * plan.cp / devices_per_chip)",
    ),
    R(
        "global_batch_seqs",
        "sequences",
        "sequences of one step: the legal batch nearest to the one asked for",
        "micro-batch x data-parallel ranks x micro-batches of a step, within 5% of the batch asked for",
    ),
    R("plan *", "1", "a choice of the plan", CHOSEN),
    R("step_s", "s", "time of one training step", "= sum(parts)"),
    R("step_s breakdown *", "s", "a part of the step", "the terms below, over all layers and micro-batches"),
    R(
        "hand_tuned_step_s",
        "s",
        "the same step with operators at the times of our kernels and software that adds nothing to them",
        "= sum(parts)",
    ),
    R(
        "hand_tuned_step_s breakdown *",
        "s",
        "a part of that step",
        "the terms below, over all layers and micro-batches",
    ),
    R(
        "tokens_per_s_per_chip",
        "1/s",
        "tokens trained per second and chip used",
        "= tokens_per_step / (chips_used * step_s)",
    ),
    R(
        "mfu",
        "1",
        "share of the published dense peak that the model's FLOP (no recompute, causal attention halved) make",
        "= flop_per_token * tokens_per_step / (chips_used * peak * step_s)",
    ),
    R(
        "usd_per_mtok",
        "USD/Mtok",
        "cost of a million trained tokens; idle chips are paid too",
        "= (chips_used + chips_idle) * price * step_s / (tokens_per_step * goodput) * 1e6",
    ),
    R(
        "J_per_token",
        "J/token",
        "energy at the meter of a trained token",
        "= pue * power * (chips_used + idle_share * chips_idle) * step_s / (tokens_per_step * goodput)",
    ),
    R(
        "goodput",
        "1",
        "share of the time that trains, after failures, restarts and checkpoints",
        "= useful * (1 - missing) * (1 - silent) * (1 - slow)",
    ),
    R("days", "d", "length of the run", "= tokens / tokens_per_step * step_s / goodput / 86400"),
    R(
        "breakeven_usd_per_chip_h",
        "USD/chip/h",
        "price at which this row costs what the best other row does",
        "= best * tokens_per_s * goodput / (chips_used + chips_idle) * 3600 / 1e6",
    ),
    R(
        "breakeven_W_per_chip",
        "W",
        "power per chip at which this row uses the energy of the best other row",
        "= best * tokens_per_s * goodput / (pue * powered_chips)",
    ),
    R("memory_B", "B", "memory that one device needs", "= sum(memory_B)"),
    R("memory_B *", "B", "bytes of one device", "the term below"),
    R(
        "memory_capacity_B",
        "B",
        "what a program may use of a device's memory, at the low end of what is known",
        "= hbm_usable / devices_per_chip",
    ),
    R("spread * at_low", "1", "change of ln(time per token) with this fact at the low end of its range", MOVED),
    R("spread * at_high", "1", "change of ln(time per token) with this fact at the high end of its range", MOVED),
]

SERVE_ROW = [
    *CHIPS,
    R(
        "chips_used",
        "chips",
        "chips that workers run on",
        "= ceil(replicas.decode * decode.tp * decode.pp * decode.dp * decode.cp / devices_per_chip)",
        when=("mode", "aggregated"),
    ),
    R(
        "chips_used",
        "chips",
        "chips that workers run on",
        "= ceil((replicas.decode * decode.tp * decode.pp * decode.dp * decode.cp + replicas.prefill * prefill.tp *"
        " prefill.pp * prefill.dp * prefill.cp) / devices_per_chip)",
        when=("mode", "disaggregated"),
    ),
    R("chips_used", "chips", "chips that workers run on", "none: there is no plan"),
    R(
        "batch",
        "sequences",
        "sequences that a decode worker holds at once, on average",
        "of a ladder of batches and the gaps beside its best, the one with the most tokens per second and chip within"
        " the limits (docs/serving.md)",
    ),
    R("prefill *", "1", "a choice of the plan of prefill workers", CHOSEN),
    R("decode *", "1", "a choice of the plan of decode workers", CHOSEN),
    R(
        "replicas *",
        "workers",
        "workers of one kind",
        "as many as the chips hold; apart, the split of prefill and decode at which neither starves",
    ),
    R("ttft_s", "s", "time from a request to its first token", "= sum(parts)"),
    R("ttft_s breakdown *", "s", "a part of the time to first token", "the term below"),
    R("tpot_s", "s", "time between output tokens", "= sum(parts)"),
    R("tpot_s breakdown *", "s", "a part of the time per output token", "the term below"),
    R(
        "tokens_per_s_per_chip",
        "1/s",
        "output tokens per second and chip, all chips counted",
        "= batch * replicas.decode * osl / (ttft_s + (osl - 1) * tpot_s) / chips_requested",
        when=("mode", "aggregated"),
    ),
    R(
        "tokens_per_s_per_chip",
        "1/s",
        "output tokens per second and chip, all chips counted",
        "min(prefill workers x prompts per second, decode workers x answers per second) x output tokens / chips",
    ),
    R("tokens_per_s_per_user", "1/s", "speed that one user sees", "= 1 / tpot_s"),
    R("usd_per_mtok", "USD/Mtok", "cost of a million output tokens", "= price / tokens_per_s_per_chip * 1e6"),
    R(
        "J_per_token",
        "J/token",
        "energy at the meter of an output token",
        "= pue * power * (chips_used + idle_share * chips_idle) / (tokens_per_s_per_chip * chips_requested)",
    ),
    R(
        "breakeven_usd_per_chip_h",
        "USD/chip/h",
        "price at which this row costs what the best other row does",
        "= best * tokens_per_s_per_chip * 3600 / 1e6",
    ),
    R(
        "breakeven_W_per_chip",
        "W",
        "power per chip at which this row uses the energy of the best other row",
        "= best * tokens_per_s_per_chip * chips_requested / (pue * powered_chips)",
    ),
    R(
        "memory_B",
        "B",
        "memory of a decoding device: what is not weights or reserve is room for caches",
        "= sum(memory_B)",
    ),
    R("memory_B *", "B", "bytes of a decoding device", "the terms below"),
    R("memory_capacity_B", "B", "what a program may use of a device's memory", "= hbm_usable / devices_per_chip"),
    R(
        "front * 0",
        "1/s",
        "tokens per second that a user sees, at a point of the Pareto front",
        "1 / time per output token of the plan and batch at this point",
    ),
    R(
        "front * 1",
        "1/s",
        "tokens per second and chip, at a point of the Pareto front",
        "tokens per second of the plan and batch at this point / chips",
    ),
]

SEARCHED = [
    R(
        "evaluated",
        "plans",
        "plans that were timed or weighed",
        "counted while searching: legal plans of the model on the devices (serving: plans at each batch, and pairs of"
        " workers)",
    ),
    R("points", "points", "distinct plans at each batch", "counted while searching"),
    R("feasible", "plans", "plans that fit in memory and meet the limits", "counted while searching"),
]

WHY = [
    R(
        "plan *",
        "1",
        "a choice of the neighbouring plan",
        "the best plan with one choice a step away, the others made anew",
    ),
    R(
        "slower",
        "1",
        "how much slower the neighbour is, per token",
        "time per token of the neighbour / of the best - 1",
    ),
    R("short_B", "B", "memory that the neighbour lacks on a device", "need - usable, not below 0"),
    R(
        "memory_B",
        "B",
        "memory that the neighbour needs on a device",
        "sum of its categories (mowich explain ... memory_B of a plan has them)",
    ),
    R(
        "part_change",
        "1",
        "what the part that changes most adds, over the step",
        "change of that part / step of the best",
    ),
    R("unused", "1", "share of the devices that the neighbour leaves idle", "1 - devices of the plan / devices"),
]

LEVEL = [
    R("joins", "chips", "chips that one domain of this level joins", "as the facts of the system state it"),
    R("of", "domains", "domains of this level in the machine", "chips of the machine / chips of a domain"),
    R("Bps", "B/s", "bandwidth of a chip at this level, one way", "as the facts of the system and its chip state it"),
    R("hops", "links", "links between the two chips of a domain that are furthest apart", "of the kind of the level"),
    R("cut_Bps", "B/s", "bandwidth through the middle of a domain, one way", "links across the worst even cut x rate"),
    R("latency_s", "s", "time of one step at this level", "as the facts of the network state it"),
]

FIT = [
    R("largest_tried", "chips", "the most chips that were tried for the smallest number", "a bound of the search"),
    R(
        "chips",
        "chips",
        "chips that were asked for",
        "as asked: the size in the system's name, --chips, or one scale-up unit",
    ),
    *CHIPS[2:],
    R(
        "plan *",
        "1",
        "a choice of the plan that is shown",
        "training: the legal plan with the least memory per device; serving: the worker plan whose copies hold most"
        " requests",
    ),
    R("memory_B", "B", "memory of one device", "= sum(memory_B)"),
    R("memory_B *", "B", "bytes of one device", "the terms below"),
    R("memory_capacity_B", "B", "what a program may use of a device's memory", "= hbm_usable / devices_per_chip"),
    R(
        "smallest_chips",
        "chips",
        "fewest chips that fit, of powers of two inside a scale-up unit, the unit, and its doublings",
        "counts tried upward until the plan with the least memory fits",
    ),
    R(
        "workers",
        "workers",
        "copies of the model that the chips hold",
        "= floor(chips * devices_per_chip / (plan.tp * plan.pp * plan.dp * plan.cp))",
    ),
    R(
        "requests",
        "requests",
        "whole requests whose caches fit at once",
        "= floor((usable - memory_B.weights - memory_B.reserve) / one_request) * plan.dp * workers",
    ),
]

SHARE_OF_FAILED = "see the terms: what is lost of the time, in turn"
SUMMARY = [
    R("n", "rows", "rows that are answered", "counted"),
    R("unsupported", "rows", "rows that are refused, with the reason", "counted"),
    R("median_abs_error", "1", "median of max(ratio, 1/ratio) - 1", "median over the answered rows"),
    R("mean_abs_error", "1", "mean of max(ratio, 1/ratio) - 1", "mean over the answered rows"),
    R(
        "p90_abs_error",
        "1",
        "90% of the errors are below",
        "90th percentile over the answered rows, linear between ranks",
    ),
    R("bias", "1", "whether predictions are slow (above 0) or fast", "exp(mean of ln ratio) - 1"),
    R("interval_coverage", "1", "share of the measured figures inside their 90% interval", "counted / answered rows"),
]
TIMES = [
    R("mean", "s", "mean over the completed requests", "sum / requests"),
    R(
        "*",
        "s",
        "percentile over the completed requests",
        "of the sorted times, linear between ranks (above 200,000 requests: bins of 0.25%)",
    ),
]

E_LINES = [
    R("busy_s", "s", "time in which the engine worked, mean over cores", "union of its instructions in the schedule"),
    R("wait_s", "s", "time in which it had instructions and none was ready", "gaps before its instructions"),
    R("idle_s", "s", "time after its last instruction", "= time_s - busy_s - wait_s"),
    R("instructions", "1", "instructions that ran on it", "counted"),
    R(
        "waits_s *",
        "s",
        "waiting of the engine, by whom it waited for",
        "gaps before instructions, by what released them",
    ),
]

RULES: Mapping[str, tuple[Rule, ...]] = {
    "mowich/compare@1": (*_under("rows *", TRAIN_ROW),),
    "mowich/plan@1": (
        *_under("plans *", TRAIN_ROW),
        *_under("pareto *", TRAIN_ROW),
        R("why plan *", "1", "a choice of the plan that the neighbours are of", CHOSEN),
        *_under("why neighbours *", WHY),
        *SEARCHED,
        R("why ties within", "1", "plans this close to the best count as ties", "what the model can tell apart"),
        R("why ties count", "plans", "plans that tie with the best", "counted"),
    ),
    "serve": (*_under("rows *", SERVE_ROW), *_under("plans *", SERVE_ROW), *_under("front *", SERVE_ROW), *SEARCHED),
    "mowich/sweep@1": (*_under("rows *", TRAIN_ROW), R("points", "points", "points of the grid", "counted")),
    "mowich/fit@1": (*_under("smallest_by_weights *", FIT), *FIT),
    "mowich/collective@1": (
        *_under("levels *", LEVEL),
        R(
            "slowdown",
            "1",
            "time of the bytes on failed or shared links over that on whole ones",
            "max-min fair flows over the links that are left; 1 where all are whole",
        ),
        R("rows * bytes", "B", "size of the buffer (of an all-to-all: what each sends)", "as asked: --bytes"),
        R("rows * ranks", "chips", "chips that take part", "as asked: --group, less failed chips"),
        R("rows * time_s", "s", "time of the collective", "= sum(parts)"),
        R("rows * time_s breakdown *", "s", "what a level's bytes, or the steps, take of the time", "the terms below"),
        R("rows * busbw_Bps", "B/s", "bus bandwidth as nccl-tests define it", "= bus_factor * bytes / time_s"),
    ),
    "mowich/goodput@1": (
        R("rows * goodput", "1", "share of the time that trains", "= 1 - sum(lost)"),
        R("rows * mtbf_s", "s", "mean time between failures that stop the job", "= 1 / (failure_rate * chips)"),
        R("rows * checkpoint_s", "s", "time between checkpoints", "= tau"),
        R("rows * failures", "1", "failures over the run", "= days * 86400 / mtbf_s"),
        R("rows * lost *", "1", "share of the time that is lost", SHARE_OF_FAILED),
        R(
            "rows * monte_carlo mean",
            "1",
            "mean goodput of simulated runs",
            "failures drawn one by one, over `samples` runs; it checks the formula",
        ),
        R("rows * monte_carlo sd", "1", "spread of simulated runs: luck", "standard deviation over `samples` runs"),
        R("rows * recovery_s", "s", "from a failure until the job trains again", "= detect + restart"),
        R(
            "rows * breakeven_recovery_s",
            "s",
            "longest recovery with which goodput still reaches the target",
            "bisection of the formula over the recovery",
        ),
        R("target", "1", "goodput that the break-even is given for", "a definition: 90%"),
    ),
    "mowich/power@1": (
        R("rows * chips", "chips", "chips of the machine", "as named"),
        R(
            "rows * parts_W chip",
            "W",
            "the package",
            "TDP, published or estimated",
            "chips.{chip}.power.tdp",
            "chips.{chip}.power.measured_mean",
            "chips.{chip}.power.tdp_estimate",
        ),
        R("rows * parts_W server", "W", "host, fans and scale-up switches", "= it_W - parts_W.chip - parts_W.network"),
        R(
            "rows * parts_W network",
            "W",
            "ports of the scale-out network",
            "scale-out bandwidth / bandwidth of a port x watts of a port",
            "sites.parts.network_port",
            "sites.parts.network_port_bandwidth",
            "systems.{system}.levels.scale_out.bandwidth",
        ),
        R("rows * parts_W cooling", "W", "cooling and losses of the building", "= (pue - 1) * it_W"),
        R(
            "rows * it_W",
            "W",
            "power of a chip with its share of host and network, before the building",
            "as published or estimated",
            "chips.{chip}.power.all_in",
        ),
        R("rows * total_W", "W", "power of a busy chip at the meter", "= it_W * pue"),
        R("rows * total_W breakdown *", "W", "a part of it", "see parts_W"),
        R("rows * it_W breakdown *", "W", "a part of it", "see parts_W"),
        R("rows * idle_W", "W", "power of an idle chip at the meter", "= total_W * idle_share"),
        R("rows * machine_W", "W", "power of the whole machine at the meter", "= total_W * chips"),
        R(
            "rows * chips_under_cap",
            "chips",
            "chips that the cap feeds",
            "= floor(cap_W / (total_W * (1 - spares) + idle_W * spares))",
        ),
        R(
            "rows * tokens_per_s_per_MW",
            "1/s/MW",
            "tokens per second and megawatt",
            "= tokens_per_s_per_chip / total_W * 1e6",
        ),
    ),
    "mowich/claims@1": (
        R("verdicts *", "claims", "claims with this verdict", "counted"),
        R("claims * published_value", "1", "what was claimed", "as published"),
        R("claims * derived", "1", "the claim derived again", "the formula of the claim, below"),
        R(
            "claims * low",
            "1",
            "least that the ranges of its facts allow",
            "the formula at every corner of the ranges of its facts",
        ),
        R(
            "claims * high",
            "1",
            "most that the ranges of its facts allow",
            "the formula at every corner of the ranges of its facts",
        ),
        R("memory * context", "tokens", "tokens of a sequence", "a line of the table"),
        R(
            "memory * memory_B",
            "B",
            "memory of a chip that a program may use",
            "as published or measured",
            "chips.{chip}.memory.hbm_usable",
        ),
        R(
            "memory * chips_min",
            "chips",
            "chips that hold the weights and one sequence",
            "= max(1, ceil((weights + kv) / memory_B))",
        ),
        R(
            "memory * chips",
            "chips",
            "chips that the rate is given for",
            "the scale-up unit (at most 144), or chips_min where that is more",
        ),
        R(
            "memory * tokens_per_s",
            "1/s",
            "decoding rate of a chip with memory full, bound by bandwidth",
            "= bandwidth / kv * max(0, 1 - weights / (chips * memory_B))",
        ),
        R("memory * loss", "1", "share of the bandwidth that reads weights", "= weights / (chips * memory_B)"),
        R(
            "memory * left_at_8",
            "1",
            "share of the bandwidth left for sequences on 8 chips",
            "= max(0, 1 - weights / (8 * memory_B))",
        ),
        R(
            "memory * offset_chips",
            "chips",
            "chips from which that loss is below 10%",
            "= max(1, ceil(10 * weights / memory_B))",
        ),
        R(
            "memory * price_ratio",
            "1",
            "price per chip over the first system's at which a token costs the same",
            "tokens per second of this row / of the first system, same model and context",
        ),
    ),
    "mowich/model@1": (
        R("seq", "tokens", "length that FLOP and bytes are given for", "as asked: --seq, else 4096"),
        *(
            R(k, "1", f"{k} of the configuration", "read from the model's config.json")
            for k in ("num_layers", "hidden", "vocab", "max_seq", "mtp_layers")
        ),
        R(
            "params",
            "1",
            "parameters of the text model, tied weights once",
            "= sum(layers.count * layers.params) + params_embedding + params_head + params_other",
        ),
        R(
            "params_active",
            "1",
            "parameters that one token uses",
            "= sum(layers.count * layers.params_active) + params_embedding + params_head + params_other",
        ),
        R(
            "params_embedding",
            "1",
            "parameters of the token table (and of positions and types, where learned)",
            "vocabulary x hidden, and the other tables",
        ),
        R(
            "params_head",
            "1",
            "parameters of the output head; 0 where tied",
            "vocabulary x hidden, where it is not the token table",
        ),
        R("params_other", "1", "final norm and what else stands outside of layers", "counted from the configuration"),
        R(
            "mtp_params",
            "1",
            "parameters of multi-token-prediction layers, not counted in params",
            "counted from the configuration",
        ),
        R(
            "flop_per_token_forward",
            "FLOP",
            "work of a token forward, at seq",
            "= sum(layers.count * layers.flop_per_token_forward) + head_flop_per_token_forward",
        ),
        R("flop_per_token_train", "FLOP", "work of a token in training", "= 3 * flop_per_token_forward"),
        R(
            "attention_flop_per_token_forward",
            "FLOP",
            "of that: scores and values, causal, mean over positions",
            "= sum(layers.count * layers.attention_flop_per_token_forward)",
        ),
        R("head_flop_per_token_forward", "FLOP", "of that: the output head", "= 2 * hidden * vocab"),
        R(
            "kv_bytes_per_token",
            "B",
            "cache that a token adds, all layers",
            "= sum(layers.count * layers.kv_bytes_per_token)",
        ),
        R(
            "kv_bytes_at_seq",
            "B",
            "cache of a sequence of seq tokens; windows keep less",
            "= sum(layers.count * layers.kv_bytes_at_seq)",
        ),
        R(
            "state_bytes_per_sequence",
            "B",
            "recurrent state of a sequence",
            "= sum(layers.count * layers.state_bytes_per_sequence)",
        ),
        R("bytes_per_element", "B", "bytes of a cached element", "as asked: --kv-bytes"),
        R(
            "weight_bytes *",
            "B",
            "bytes of the published checkpoint, by part",
            "parameters of the part x bytes of its stored format",
        ),
        R("layers * count", "layers", "layers of this kind", "read from the configuration"),
        R("layers * params", "1", "parameters of one layer", "mixer + feed-forward + norms"),
        R("layers * params_active", "1", "of these, what one token uses", "mixer + shared and chosen experts + norms"),
        R(
            "layers * params_mixer",
            "1",
            "parameters of attention or recurrence",
            "its projections, from heads and widths",
        ),
        R(
            "layers * params_ffn",
            "1",
            "parameters of the feed-forward block",
            "matrices x hidden x width, all experts and the router",
        ),
        R(
            "layers * flop_per_token_forward",
            "FLOP",
            "work of a token in one layer",
            "mixer + scores and values + feed-forward + rest",
        ),
        R("layers * mixer_flop_per_token_forward", "FLOP", "projections", "2 x parameters of its matrices"),
        R(
            "layers * attention_flop_per_token_forward",
            "FLOP",
            "scores and values, or the recurrence",
            "2 heads (head size + value size) x mean tokens attended",
        ),
        R(
            "layers * ffn_flop_per_token_forward",
            "FLOP",
            "feed-forward",
            "2 x parameters of the matrices that a token uses",
        ),
        R(
            "layers * kv_bytes_per_token",
            "B",
            "cache that a token adds in one layer",
            "cached elements x bytes_per_element",
        ),
        R(
            "layers * kv_bytes_at_seq",
            "B",
            "cache of a sequence in one layer",
            "elements kept at seq x bytes_per_element",
        ),
        R(
            "layers * state_bytes_per_sequence",
            "B",
            "recurrent state in one layer",
            "elements of the state x 4 + of the convolution x 2",
        ),
        R("layers * window", "tokens", "tokens that the layer sees at most", "read from the configuration"),
    ),
    "mowich/validate@1": (
        R(
            "rows * measured",
            "1",
            "what was measured, in the metric's unit",
            "read from the file; training rows: as published",
        ),
        R(
            "rows * predicted",
            "1",
            "what the model says, in the metric's unit",
            "the step that the terms make, turned into the metric of the row",
        ),
        R(
            "rows * low",
            "1",
            "low end of the 90% interval of the prediction",
            "predicted / exp(half-width of the residual for this kind of row)",
        ),
        R(
            "rows * high",
            "1",
            "high end of the 90% interval of the prediction",
            "predicted x exp(half-width of the residual for this kind of row)",
        ),
        R(
            "rows * ratio",
            "1",
            "predicted time over measured time: above 1 is predicted slower",
            "predicted / measured for a time, measured / predicted for a rate",
        ),
        R("rows * abs_error", "1", "error, alike for fast and slow", "= max(ratio, 1 / ratio) - 1"),
        *_under("summary all", SUMMARY),
        *_under("summary fully_specified", SUMMARY),
        *_under("summary fits_memory", SUMMARY),
        *_under("summary does_not_fit_memory", SUMMARY),
        *_under("summary * *", SUMMARY),
    ),
    "mowich/traffic@1": (
        R("requests", "requests", "requests that arrived", "counted"),
        R("completed", "requests", "requests that were answered to the end", "counted"),
        *_under("ttft_s", TIMES),
        *_under("tpot_s", TIMES),
        *_under("e2e_s", TIMES),
        *_under("queue_s", TIMES),
        R(
            "goodput_frac",
            "1",
            "share of the requests that met every limit of the scenario",
            "requests within ttft, tpot and e2e limits / requests",
        ),
        R(
            "tokens_per_s_per_chip",
            "1/s",
            "output tokens per second and chip over the whole run",
            "output tokens of completed requests / (makespan_s x chips)",
        ),
        R(
            "utilisation",
            "1",
            "share of the time in which workers had work",
            "busy time of all workers / (workers x makespan_s)",
        ),
        R(
            "J_per_token",
            "J/token",
            "energy at the meter of an output token",
            "= pue * power * (utilisation + idle_share * (1 - utilisation)) / tokens_per_s_per_chip",
        ),
        R("usd_per_mtok", "USD/Mtok", "cost of a million output tokens", "= price / tokens_per_s_per_chip * 1e6"),
        R("cached_frac", "1", "share of the prompt tokens found in the prefix cache", "counted"),
        R("preemptions", "1", "times that a sequence lost its place", "counted"),
        R("failures", "1", "sequences lost to failed workers and served again", "counted"),
        R("chips", "chips", "chips that the workers use", "devices of all workers / devices of a chip"),
        R("makespan_s", "s", "from the first arrival to the last token", "read off the simulated clock"),
        R("events", "1", "events that were simulated", "counted"),
        R("steps", "1", "engine steps that were simulated", "counted"),
        R(
            "coverage *",
            "1",
            "share of the busy time that rests on this kind of cost",
            "busy time of workers, by what their constants come from",
        ),
    ),
    "mowich/fleet@1": (
        R(
            "objective",
            "USD",
            "cost of the plan over the horizon",
            "orders x prices (discounted as the scenario says) + energy where it is not in the price; minimised by the"
            " integer programme",
        ),
        R("bound", "USD", "no plan costs less", "best bound of the branch and bound"),
        R("gap", "1", "how far the plan may be from the best possible", "= (objective - bound) / objective"),
        R(
            "energy_J",
            "J",
            "energy at the meter over the horizon",
            "busy and idle chips x power x PUE x time, systems whose power is known",
        ),
        *(
            rule
            for kind in ("buy", "rent")
            for rule in (
                R(f"{kind} * units", "units", f"units to {kind} in the period", "a variable of the programme"),
                R(f"{kind} * chips", "chips", "chips of these units", "units x chips of a unit"),
                R(
                    f"{kind} * usd",
                    "USD",
                    "what they cost within the horizon, before discounting",
                    "chips x price x time within the horizon",
                ),
            )
        ),
        R(
            "assign * chips",
            "chips",
            "chips at work on the task in the period, on average",
            "a variable of the programme",
        ),
        R(
            "assign * share",
            "1",
            "share of the task's work of the period (or of the run) that they do",
            "chips x speed x time / work",
        ),
        R("use * chips", "chips", "chips that stand in the period", "bought, rented, committed and already there"),
        R("use * busy", "chips", "of these at work", "sum of the assignments"),
        R("use * idle", "chips", "of these idle", "max(0, chips - busy)"),
        R("use * MWh", "MWh", "energy at the meter in the period", "(busy + idle share x idle) x power x PUE x time"),
        R(
            "binding * shadow_price",
            "USD",
            "what one more unit of the constraint saves (a demand: one per cent less)",
            "dual value of the linear relaxation",
        ),
        R(
            "single_vendor * objective",
            "USD",
            "cost of the best plan on this stack alone",
            "the same programme without the other stacks",
        ),
        R(
            "single_vendor * over",
            "1",
            "how much more that costs than the mixed plan",
            "= objective / result.objective - 1",
        ),
        R("rates * chips", "chips", "chips that the speed was found for", "as the scenario says, or one unit"),
        R(
            "rates * tokens_per_s_per_chip",
            "1/s",
            "speed of the task on the system",
            "the best plan of mowich plan (its goodput and idle chips counted); mowich explain of that plan has its"
            " terms",
        ),
        R("rates * plan *", "1", "a choice of that plan", CHOSEN),
        R("robust draws", "draws", "draws of prices and speeds that were solved", "counted"),
        R("robust asked", "draws", "draws that were asked for", "as asked: --draws"),
        R("robust infeasible", "draws", "draws without any plan", "counted"),
        R(
            "robust share * *",
            "1",
            "share of the chip-hours of a system: 5%, median, 95% over draws",
            "percentiles over the optimum of each draw",
        ),
        R("robust wins *", "1", "share of the draws in which the system does most", "counted / draws"),
        R(
            "robust kept_regret *",
            "1",
            "what the plan costs over the best of a draw: median and 95%",
            "percentiles over draws",
        ),
        R(
            "robust single_vendor_regret * *",
            "1",
            "what one stack alone costs over the best of a draw: median and 95%",
            "percentiles over draws",
        ),
        R(
            "flips * at",
            "1",
            "price or speed at which work changes hands, over today's",
            "bisection of the linear relaxation",
        ),
        R("flips * value", "1", "the same in its unit", "today's value x at"),
        R("what_if objective_before", "USD", "cost without the system", "the programme without it, relaxed"),
        R("what_if objective_after", "USD", "cost with the system", "the programme with it, relaxed"),
        R("what_if share_before *", "1", "share of the chip-hours at work, without it", "assignments / all"),
        R("what_if share_after *", "1", "share of the chip-hours at work, with it", "assignments / all"),
        R(
            "what_if win_price *",
            "USD/chip/h",
            "price at which it takes most of the task",
            "bisection of the linear relaxation",
        ),
        R(
            "what_if unit_cost",
            "USD",
            "what a package costs to make",
            "(silicon x logic + memory x price + packaging) x (1 + losses) + other",
            "prices.unit-cost.logic",
            "prices.unit-cost.hbm",
            "prices.unit-cost.packaging",
            "prices.unit-cost.other",
            "prices.unit-cost.losses",
            "prices.unit-cost.silicon",
        ),
        R("what_if unit_cost breakdown *", "USD", "a part of that", "facts prices.unit-cost", "prices.unit-cost.*"),
        R(
            "what_if knobs * *",
            "1",
            "share of the chip-hours with the property at 90% or 110%, or points per per cent",
            "the programme solved again with that property moved",
        ),
    ),
    "mowich/kernel@1": (
        R("time_s", "s", "latency of the kernel", "= sum(parts)"),
        R("time_s breakdown *", "s", "part of the critical path, by the fact that sets it", "the term below"),
        R("cores", "cores", "cores that were scheduled together", "counted"),
        R("instructions", "1", "instructions of the kernel", "counted"),
        *_under("engines *", E_LINES),
        R("mfu", "1", "useful FLOP over the bf16 peak", "= flop / (peak * time_s)"),
        R(
            "hfu",
            "1",
            "all FLOP of the Tensor Engine over the bf16 peak",
            "useful FLOP and transposes and broadcasts / (peak x time)",
        ),
        R(
            "mbu",
            "1",
            "bytes of HBM over the bandwidth of one stack",
            "= (hbm_read_B + hbm_write_B) / (hbm_Bps * time_s)",
        ),
        R("flop", "FLOP", "useful operations of the Tensor Engine", "2 for each multiply-add, counted"),
        R("hbm_read_B", "B", "bytes read from HBM", "counted"),
        R("hbm_write_B", "B", "bytes written to HBM", "counted"),
        R("spill_B", "B", "bytes stored and reloaded as tiles exceed SBUF", "counted"),
        R("roofline flop_per_B", "FLOP/B", "work per byte of HBM", "= flop / max(1, hbm_read_B + hbm_write_B)"),
        R("roofline ridge_flop_per_B", "FLOP/B", "work per byte from which on the array can bind", "= peak / dma_Bps"),
        R("sbuf_peak_B", "B", "most bytes of a partition of SBUF at one time", "live tiles over the schedule"),
        R("psum_peak_banks", "banks", "most banks of PSUM at one time", "live tiles over the schedule"),
        R("dma * descriptor_low_B", "B", "smallest descriptor of the class", "a definition"),
        R("dma * descriptor_high_B", "B", "descriptors of the class are shorter than this", "a definition"),
        R("dma * bytes", "B", "bytes moved by such descriptors", "counted"),
        R("dma * descriptors", "1", "descriptors", "counted"),
        R(
            "dma * efficiency",
            "1",
            "share of the DMA engines' rate that they reach",
            "bytes / (rate x time of their transfers)",
        ),
        R("top * line", "1", "line of the kernel", "where the instruction was written"),
        R(
            "top * seconds",
            "s",
            "part of the critical path that the line takes",
            "sum of its steps on the critical path",
        ),
        R(
            "over_time **",
            "1",
            "a second, or a level, of a curve over time",
            "read off the schedule, thinned to what a screen shows",
        ),
    ),
    "mowich/kernel-run@1": (
        R("generation", "1", "generation of the NeuronCore", "of the target: 2, 3 or 4"),
        R("cores", "cores", "cores that ran", "the launch grid, or --lnc"),
        R("instructions", "1", "instructions that were executed and checked", "counted"),
        R("outputs * output", "1", "place of the output", "counted from 0"),
        R("outputs * shape *", "1", "length of an axis", "as the kernel made it"),
        R("outputs * *", "1", "a figure of the values that the kernel made", "over all elements of the output"),
        R("*", "1", "a figure of the run", "counted"),
        R("**", "1", "a figure of the run", "counted"),
    ),
    "mowich/kernel-diff@1": (
        *(
            rule
            for side, word in (("a", "first"), ("b", "second"))
            for rule in (
                R(
                    f"lines * {side}_path",
                    "ns",
                    f"part of the critical path of the {word} version that the line takes",
                    "sum of its steps on the critical path",
                ),
                R(f"lines * {side}_count", "1", f"instructions of the line in the {word} version", "counted"),
            )
        ),
        *(
            rule
            for name, what in (
                ("summary", "figure"),
                ("engines", "time of the engine"),
                ("causes", "part of the critical path"),
                ("opcodes", "opcode"),
                ("lines", "line"),
            )
            for rule in (
                R(f"{name} * a", "1", f"the {what} of the first version", "of its profile"),
                R(f"{name} * b", "1", f"the {what} of the second version", "of its profile"),
                R(f"{name} * ratio", "1", "second over first", "= b / a"),
            )
        ),
    ),
}
"""Schema -> rules, the first that matches wins; "serve" stands for serving results of compare and plan."""


def rules_of(result: Mapping[str, Any]) -> tuple[Rule, ...]:
    """The rules of a result; none for an unknown schema."""
    schema = str(result.get("schema"))
    is_serving = (
        isinstance(result.get("inputs"), Mapping)
        and result["inputs"].get("task") == "serve"
        and schema != "mowich/fit@1"
    )
    return RULES.get("serve" if is_serving else schema, ())
