"""One row of serving measurements -> one `ServingCase`: what served, how it was spread, under which load, and what was
measured.

Tables fold plans (tp already multiplied by ep), leave the cache format, the rounds and speculation open, and mix
campaigns. Each rule here names what it repaired or filled in (`inferred`); a row that cannot be read honestly is
refused with a reason, by a rule about its content (here, in `serving_checks` and in
`facts/published/serving_notes.yaml`), never by its id. Nothing here looks at a predicted time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal, NotRequired, TypedDict

from mowich.errors import UserError
from mowich.evidence.row_checks import PublishedRow, RefusedError, TableForm, check_whole, has_word, refusal
from mowich.evidence.serving_guesses import SpeculationNote, speculation_of
from mowich.evidence.serving_launch import (
    UNTOLD,
    CampaignNote,
    EngineSettings,
    LaunchNote,
    campaign_of,
    rounds_of,
    script_of,
    spread_ranks,
)
from mowich.evidence.serving_pools import NOT_TIMED, decode_worker
from mowich.evidence.serving_unsaid import CacheNote, ExpertsNote, NormsNote, cache_of, experts_of, norms_apart
from mowich.facts import Facts
from mowich.facts.load import shipped_folder
from mowich.files import shipped_yaml
from mowich.machines.system import System, logical_cores, resolve
from mowich.models import load_model
from mowich.models.model import Model, Moe
from mowich.plans.plan import KV, WEIGHTS, ServePlan, one_of
from mowich.serving.engines import architecture
from mowich.software.vendors import of_vendor

SERVING = TableForm(
    required=(
        "id",
        "chip",
        "n_chips",
        "framework",
        "model",
        "precision",
        "mode",
        "tp",
        "isl",
        "osl",
        "concurrency",
    ),
    metrics=(
        "tpot_ms",
        "ttft_ms",
        "output_tok_s_per_chip",
    ),
    counts=(
        "n_chips",
        "tp",
        "pp",
        "isl",
        "osl",
        "concurrency",
        "batch",
        "lnc",
        "prefill_workers",
        "decode_workers",
    ),
    counts_from_zero=(
        "dp",
        "ep",
        "moe_tp",
    ),
    amounts=("output_tok_s",),
)
"""The columns of serving measurements; sources write 0 for a parallelism that is not used. Each metric that a row
states gives one result."""

CONCURRENCY_FACTOR = 1.5
"""How far throughput x latency may lie from the concurrency (Little's law). The published rows that print all of them
lie between 0.72 and 1.01: a closed loop of R rounds that drains at its end holds R / (R + 1) of its users on average,
0.67 with two rounds. Rows that count several replicas, or whose rate is another run's, are off by twice or more."""

MODES = ("online", "aggregated", "disaggregated", "static batch", "offline", "MLPerf", "agentic", "trace", "embedding")
"""Words of `mode`: how the requests were made, and whether one worker does both phases."""
MODE_PATTERNS = (
    "online",
    "closed[- ]loop",
    "(?:dis)?agg(?:regated)?",
    "static",
    "offline",
    "mlperf",
    "agentic",
    "traces?",
    "embedding",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingCase:
    """A row, read. users: requests in flight per rank group; chips: of the worker; mean_length: mean over nominal
    length; rounds: requests per user; speculates: whether several tokens are verified per step, accept: tokens per
    step if stated; stack: the row's own word for who serves with which kernels; skip: metrics not to score;
    decode_only: a decode worker, whose prompts other workers compute; elsewhere_s: seconds that each of its requests is
    with those (the row's own TTFT, 0 where it states none); launch: settings of its engine; memory_share: above 1,
    sequences that decode by the row's own figures over those that the cache holds by our memory model; experts: the
    path of their kernels, "" the usual one; norms_apart: norms are kernels of their own after an all-reduce."""

    id: str
    chip: str
    source: str
    campaign: str
    engine: str
    version: str
    date: str
    model: Model
    arch: str
    system: System
    chips: int
    plan: ServePlan
    prompt: float
    output: float
    users: float
    mean_length: float
    rounds: float
    is_static: bool
    speculates: bool
    accept: float | None
    cached: float
    stack: str
    measured: Mapping[str, float]
    inferred: tuple[str, ...]
    skip: Mapping[str, str]
    fully_specified: bool
    decode_only: bool = False
    elsewhere_s: float = 0.0
    launch: EngineSettings = UNTOLD
    memory_share: float = 1.0
    experts: str = ""
    norms_apart: bool = False


Searched = Literal["source", "chip", "mode", "framework", "model", "date", "notes"]
_SEARCHED: tuple[Searched, ...] = ("source", "chip", "mode", "framework", "model", "date", "notes")
"""Columns that a rule searches."""


class EngineNote(TypedDict):
    """The engine of a framework by its name."""

    engine: str
    pattern: str


class StackNote(TypedDict):
    """The engine of a word of the column `stack`; batch: "static" where a batch starts together and is not refilled."""

    engine: str
    pattern: str
    batch: NotRequired[str]


class RuleNote(TypedDict, total=False):
    """Rows that are left out, or metrics of them, by patterns of their columns, and why."""

    source: str
    chip: str
    mode: str
    framework: str
    model: str
    date: str
    notes: str
    min_tp: int
    exclude: str
    skip: list[str]
    reason: str


class _Notes(TypedDict):
    """`serving_notes.yaml`. models: names that tables use -> names of ours."""

    engines: list[EngineNote]
    stacks: list[StackNote]
    campaigns: list[CampaignNote]
    models: dict[str, str]
    rules: list[RuleNote]
    speculation: list[SpeculationNote]
    ranks: list[LaunchNote]
    caches: list[CacheNote]
    experts: list[ExpertsNote]
    norms: list[NormsNote]
    launch: list[LaunchNote]


@cache
def _notes() -> _Notes:
    """`serving_notes.yaml`."""
    loaded: _Notes = shipped_yaml(shipped_folder() / "published" / "serving_notes.yaml")
    return loaded


_SUFFIX = re.compile(r"[-_](fp8|nvfp4|fp4|mxfp4|bf16|int4|awq|gptq|w8a8|hf|v0\.\d)([-_].*)?$", re.IGNORECASE)


@cache
def find_model(name: str) -> Model:
    """A model by the name that a table uses, with suffixes of precision taken off. Raises UserError."""
    tried = name
    while True:
        try:
            return load_model(tried)
        except UserError as error:
            shorter = _SUFFIX.sub("", tried)
            if shorter == tried:
                other = _notes().get("models", {}).get(name.rsplit("/", 1)[-1].casefold())
                if other and other != tried:
                    tried = other
                    continue
                raise error
            tried = shorter


def _stack_of(stack: str) -> StackNote | None:
    """What `serving_notes.yaml` says of a word of the column `stack` (who serves, with which kernels); None where a row
    states none. Raises RefusedError for a word that is not known."""
    if not stack:
        return None
    for entry in _notes()["stacks"]:
        if re.fullmatch(entry["pattern"], stack, re.IGNORECASE) or stack == entry["engine"]:
            return entry
    raise refusal("stack", stack, [entry["pattern"] for entry in _notes()["stacks"]])


def is_stack(engine: str) -> bool:
    """Whether an engine is one that rows name in their column `stack`."""
    return any(entry["engine"] == engine for entry in _notes()["stacks"])


def engine_of(framework: str) -> str:
    """The engine whose constants a framework's name asks for. Raises RefusedError for one that is not known."""
    for entry in _notes()["engines"]:
        if re.search(entry["pattern"], framework, re.IGNORECASE):
            return str(entry["engine"])
    raise refusal("framework", framework, sorted({str(entry["engine"]) for entry in _notes()["engines"]}))


def _number(row: PublishedRow, key: str) -> float | None:
    text = (row.get(key) or "").strip()
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _degree(row: PublishedRow, key: str) -> int:
    return max(1, int(_number(row, key) or 1))


def unfold_plan(tp: int, dp: int, ep: int, moe_tp: int, domain: int = 8) -> tuple[int, int, int, str]:
    """(tp, dp, ep, what was repaired): undoes plans whose tp or dp was already multiplied by ep or dp. domain: devices
    of a scale-up domain.

    (16, 1, 4, 4) is TP4 with EP4 on 4 chips; (1, 64, 8, 8) attention DP 8 with EP8; (4, 4, 16, 1) TP4 with EP4, as runs
    that are printed both ways and the scripts of the others show. But (4, 1, 2, 2) stays TP4, whose experts are cut by
    EP2 and TP2: inside a domain tp = ep moe_tp is how engines state such a plan; beyond it no engine cuts a layer so.
    """
    if ep > 1 and moe_tp == ep:
        if dp == 1 and tp == ep * moe_tp and tp > domain:
            return ep, 1, ep, f"tp={ep} (folded: tp {tp} counts ep {ep} twice)"
        if tp == 1 and dp == ep * moe_tp:
            return 1, ep, ep, f"dp={ep} (folded: dp {dp} counts ep {ep} twice)"
    if tp == dp > 1 and ep == tp * dp:
        return tp, 1, tp, f"dp=1, ep={tp} (folded: dp {dp} counts ep {tp} again, and ep {ep} twice)"
    return tp, dp, ep, ""


_PRECISION_WORDS = ("bf16", "fp16", "fp8", "mxfp8", "fp4", "nvfp4", "mxfp4", "int8", "int4")
"""Words for the format of the weights; what stands beside them is free text."""
PRECISION_PATTERNS = (
    "bf16",
    "bfloat16",
    "fp16",
    "float16",
    "half",
    "16[- ]?bits?",
    "(?:mx)?fp8(?:_?e4m3)?",
    "float8",
    "(?:nv|mx)?fp4",
    "int8",
    "int4",
    "w8a8",
    "w8a16",
    "w4a16",
    "awq",
    "gptq",
)
KV_WORDS = ("fp8", "int8", "bf16", "fp16", "auto")
"""Words for the format of the cache."""


def weights_of(row: PublishedRow, model: Model, system: System, facts: Facts) -> tuple[str, str]:
    """(format of the weights, how it was read, "" when stated)."""
    word = (row.get("precision") or "").casefold()
    if word and not has_word(word, *PRECISION_PATTERNS):
        raise refusal("precision", row["precision"], _PRECISION_WORDS)
    note = (row.get("notes") or "").casefold()
    tail = word.partition("weights ")[2] or word
    tail = re.sub(r"\(.*?\)", "", tail).strip() or tail  # "BF16 (dequantised from FP8)" holds 16-bit weights
    native = "mxfp4" if model.architecture.startswith("gpt_oss") or "gpt-oss" in model.name else ""
    if has_word(tail, "int4", "w4a16", "awq", "gptq") or "int4_wo" in note:
        return "int4", ""
    if "int8" in tail or "w8a8" in tail or "w8a16" in tail:
        return "int8", ""
    if native and ("fp4" in tail or not word):
        return native, "" if word else "precision not stated: the checkpoint's own"
    if "mxfp4" in tail:
        return "mxfp4", ""
    if "fp4" in tail:
        name = "nvfp4" if "nvfp4" in system.peak_flops else of_vendor(facts, system.vendor, "four_bit")
        return name, ""
    if "mxfp8" in tail:
        return "mxfp8", ""
    if "fp8" in tail:
        return "fp8", ""
    if not word:
        return "bf16", "precision not stated: 16 bit, the checkpoint's own"
    return "bf16", ""


WIDE_CACHE = "kv=bf16 (not stated)"
"""What is said of a row that states no format of its cache."""


def kv_of(row: PublishedRow, weights: str, campaign: str) -> tuple[str, str]:
    """(format of the cache, how it was read)."""
    word = (row.get("kv_precision") or "").casefold()
    if has_word(word, "(?:mx)?fp8(?:_?e[45]m[23])?", "int8"):
        return "fp8", ""
    if has_word(word, "bf16", "bfloat16", "fp16", "float16", "half", "16[- ]?bits?"):
        return "bf16", ""
    if word not in ("", "auto"):
        raise refusal("kv_precision", row["kv_precision"], KV_WORDS)
    if campaign == "ix":
        if note := cache_of(_notes()["caches"], row):
            return note["kv"], f"kv={note['kv']} ({note['script']})"
        if weights != "bf16":
            return "fp8", "kv=fp8 (quantised checkpoints of this campaign saturate as with 8-bit caches)"
    return "bf16", WIDE_CACHE


def skipped_metrics(row: PublishedRow) -> dict[str, str]:
    """Metrics of a row that are not compared -> the reason, by the rules of `serving_notes.yaml`. Raises RefusedError
    for a row that they exclude."""
    skip: dict[str, str] = {}
    for entry in _notes()["rules"]:
        hit = all(re.search(entry.get(key, ""), row.get(key) or "", re.IGNORECASE) for key in _SEARCHED)
        if hit and _degree(row, "tp") >= entry.get("min_tp", 0):
            if "exclude" in entry:
                raise RefusedError(f"excluded: {entry['exclude']}")
            skip |= dict.fromkeys(entry["skip"], str(entry["reason"]))
    return skip


def check_mode(mode: str) -> None:
    """Raises RefusedError for a load that lengths and concurrency do not describe, or that is none of the known."""
    if mode and not has_word(mode, *MODE_PATTERNS):
        raise refusal("mode", mode, MODES)
    if mode.startswith("MLPerf"):
        raise RefusedError("the row states no plan and no concurrency")
    if any(word in mode for word in ("agentic", "trace", "embedding", "prefix caching", "workload", "offline")):
        raise RefusedError(f"the load ({mode}) is not stated as lengths and concurrency")


def ranks_of(row: PublishedRow, one: System, *, folds: bool) -> tuple[int, int, int, str]:
    """(tp, dp, ep, how they were unfolded) of a row. A plan whose own count of chips agrees is taken as printed."""
    tp, dp, ep = _degree(row, "tp"), _degree(row, "dp"), _degree(row, "ep")
    devices = tp * dp * _degree(row, "pp")
    is_stated = "n_chips" not in (row.get("derived_fields") or "")
    if not folds or (is_stated and _number(row, "n_chips") == -(-devices // one.devices_per_chip)):
        return tp, dp, ep, ""
    return unfold_plan(tp, dp, ep, _degree(row, "moe_tp"), one.domain_devices)


def _chips_of(tp: int, dp: int, pp: int, stated: float | None, one: System) -> int:
    """Chips that a plan needs. stated: those of the row, None where it does not say; one: the machine with one chip.
    Raises RefusedError where they are not as many as stated, or more than the fabric joins."""
    chips = -(-tp * dp * pp // one.devices_per_chip)
    if stated and chips != stated:
        more = ": replicas, whose share of the concurrency is not stated" if chips < stated else ""
        raise RefusedError(
            f"n_chips: tp {tp} x dp {dp} x pp {pp} needs {chips} chips and the row states {stated:g}{more}"
        )
    if chips > one.max_chips:
        raise RefusedError(f"needs {chips} chips; the fabric joins {one.max_chips}")
    return chips


def read_case(
    row: PublishedRow,
    facts: Facts,
    systems: dict[tuple[str, int], System] | None = None,
    *,
    folds: bool = True,
    is_shorter: bool = False,
) -> ServingCase:
    """One row by itself; `serving_checks.read_serving_cases` also asks whether it fits and agrees with itself. folds:
    whether a plan that reads as folded is unfolded; is_shorter: as in `serving_guesses.shorter_of_two`. Raises
    RefusedError with the reason."""
    table = _notes()
    row_id, mode = row["id"], row.get("mode") or ""
    check_whole(row, SERVING)
    inferred: list[str] = [] if mode else ["mode=online (not stated)"]
    check_mode(mode)
    skip = skipped_metrics(row)
    whole, decode_only = row, "disagg" in mode
    if decode_only:
        row, how = decode_worker(row)
        inferred.append(how)
        skip |= dict.fromkeys(("ttft_ms", "output_tok_s_per_chip"), NOT_TIMED)
    prompt, output = _number(row, "isl"), _number(row, "osl")
    if not prompt or not output:
        raise RefusedError("the lengths are not stated")
    if not (row.get("tp") or "").strip():
        raise RefusedError("the plan is not stated")
    stack = _stack_of((row.get("stack") or "").strip())
    engine = stack["engine"] if stack else engine_of(row["framework"])
    try:
        model = find_model(row["model"])
    except UserError as error:
        raise RefusedError(error.what) from error
    campaign = campaign_of(table["campaigns"], row)
    try:
        one = _system(row, 1, facts, systems)
    except UserError as error:
        raise RefusedError(error.what) from error
    tp, dp, ep, how = ranks_of(row, one, folds=folds)
    pp = _degree(row, "pp")
    if how:
        inferred.append(how)
    concurrency, batch = _number(row, "concurrency"), _number(row, "batch")
    lengths = (prompt, output)
    spread = script_of(table["ranks"], row, lengths=lengths, users=concurrency or 0.0, tp=tp, dp=dp)
    tp, dp, ep, said = spread_ranks(spread, tp, dp, ep)
    inferred += said
    is_static = mode.startswith("static") or bool(stack and stack.get("batch") == "static")
    if not concurrency and (not batch or mode.startswith("online")):
        raise RefusedError(
            "concurrency is not stated"
            + (": a batch alone does not say how many users wait" if batch else ", nor a batch")
        )
    if concurrency and batch and not is_static:
        check_replicas(row, concurrency, batch, (_degree(row, "dp"), dp))
    users = (
        max(1.0, concurrency / dp) if concurrency else float(batch or 0.0)
    )  # fewer users than ranks: some ranks rest
    chips = _chips_of(tp, dp, pp, None if how else _number(row, "n_chips"), one)
    system = _system(row, chips, facts, systems)
    weights, how = weights_of(row, model, system, facts)
    if how:
        inferred.append(how)
    kv, how = kv_of(row, weights, campaign["campaign"])
    if how:
        inferred.append(how)
    if not any(isinstance(layer.ffn, Moe) for layer in model.layers):
        ep = 1
    speculates, accept, how = speculation_of(
        table["speculation"],
        row,
        campaign["campaign"],
        lengths=lengths,
        users=users * dp,
        tp=tp,
        ep=ep,
        is_shorter=is_shorter,
    )
    if how:
        inferred.append(how)
    launch = script_of(
        table["launch"], row, lengths=lengths, users=users * dp, tp=tp * dp, dp=dp, ep=ep, speculates=speculates
    )
    measured = {m: v for m in SERVING.metrics if (v := _number(row, m))}
    if is_static and is_rate_of_decoding(row, users * dp):
        skip |= {"output_tok_s_per_chip": "the rate of decoding alone: what TPOT says already"}
    if concurrency and not is_static:
        check_concurrency(whole, _number(whole, "concurrency") or concurrency, output)
    return ServingCase(
        id=row_id,
        chip=row["chip"],
        source=row.get("source") or "",
        campaign=campaign["campaign"],
        engine=engine,
        version=row["framework"],
        date=(row.get("date") or ""),
        model=model,
        arch=architecture(model),
        system=system,
        chips=chips,
        plan=ServePlan(
            tp=tp,
            pp=pp,
            dp=dp,
            ep=ep,
            weights=one_of(weights, WEIGHTS, "format of weights"),
            kv=one_of(kv, KV, "format of the cache"),
        ),
        prompt=prompt,
        output=output,
        users=users,
        mean_length=1.0 if is_static else float(campaign["mean_length"]),
        rounds=rounds_of(campaign, users * dp),
        is_static=is_static,
        speculates=speculates,
        accept=accept,
        cached=0.0,
        stack=(row.get("stack") or "").strip(),
        measured=measured,
        inferred=tuple(inferred),
        skip=skip,
        decode_only=decode_only,
        launch=EngineSettings.of(launch, lengths=lengths, users=users),
        experts=experts_of(table["experts"], row, dp=dp),
        norms_apart=norms_apart(table["norms"], row),
        elsewhere_s=measured.get("ttft_ms", 0.0) / 1e3 if decode_only else 0.0,
        fully_specified=not any("not stated" in i or "speculative" in i for i in inferred),
    )


def check_replicas(row: PublishedRow, concurrency: float, batch: float, data_ranks: Iterable[int]) -> None:
    """Raises RefusedError where the concurrency is more than the batch of a rank times the ranks of attention data
    parallelism: the rest belongs to replicas that the row does not count, or waits for a cap on the batch. data_ranks:
    dp as printed and as unfolded; a batch may be rounded."""
    if all(concurrency - batch * dp >= max(dp, 0.01 * concurrency) for dp in data_ranks):
        raise RefusedError(
            f"concurrency: '{row['concurrency']}' is not batch '{row['batch']}' x dp '{row.get('dp') or 1}': it counts"
            " several replicas, whose number is not stated, or a cap on the batch"
        )


def check_concurrency(row: PublishedRow, concurrency: float, output: float) -> None:
    """Raises RefusedError where Little's law does not hold: concurrency = requests/s x (TTFT + (output - 1) x TPOT),
    within `CONCURRENCY_FACTOR`, of a row that prints a throughput and both latencies."""
    ttft, tpot, rate = (_number(row, key) for key in ("ttft_ms", "tpot_ms", "output_tok_s"))
    each, chips = _number(row, "output_tok_s_per_chip"), _number(row, "n_chips")
    rate = rate or (each * chips if each and chips else None)
    if not (ttft and tpot and rate):
        return
    users = rate / output * (ttft + (output - 1.0) * tpot) / 1e3
    decoding = rate * tpot / 1e3  # some sources print the rate of decoding alone
    if not any(1.0 / CONCURRENCY_FACTOR <= found / concurrency <= CONCURRENCY_FACTOR for found in (users, decoding)):
        raise RefusedError(
            f"concurrency: '{row['concurrency']}' contradicts the row's own rate and latencies: {rate:g} tokens/s x"
            f" (TTFT {ttft:g} ms + TPOT {tpot:g} ms x {output - 1:g}) / {output:g} tokens is {users:.3g} users"
            " (Little's law)"
        )


DECODING = 0.05
"""How far a rate times TPOT may lie from the users to be called a rate of decoding alone."""


def is_rate_of_decoding(row: PublishedRow, users: float) -> bool:
    """Whether the throughput of a batch that starts together is that of its decoding: its users / TPOT, the time to
    first token left out."""
    tpot, each, chips = (_number(row, key) for key in ("tpot_ms", "output_tok_s_per_chip", "n_chips"))
    if not (tpot and each and chips):
        return False
    return abs(each * chips * tpot / 1e3 / users - 1.0) <= DECODING


def _system(row: PublishedRow, chips: int, facts: Facts, known: dict[tuple[str, int], System] | None) -> System:
    """The machine of a row, by the name of its chip and the cores of a device where the row states them (`lnc`);
    remembered in `known`. A chip that holds fewer devices than a unit is a part of it."""
    name, lnc = row["chip"], (row.get("lnc") or "").strip()
    key = (f"{name} {lnc}", chips)
    if known is not None and key in known:
        return known[key]
    system = resolve(facts, facts.resolve_system(name), chips=chips)
    if lnc:
        try:
            system = logical_cores(facts, system, int(float(lnc)))
        except UserError as error:
            raise refusal("lnc", lnc, str(error.allowed or "none on this chip")) from error
    if known is not None:
        known[key] = system
    return system
