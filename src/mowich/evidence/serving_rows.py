"""One row of serving measurements -> one `ServingCase`: what served, how it was spread, under which load, and what was
measured.

Tables fold plans (tp already multiplied by ep), leave out the cache format, the rounds and speculation, and mix
campaigns. Each rule here names its repair (`inferred`); a row that cannot be read honestly is refused with a reason, by
a rule about its content (here, in `serving_checks` and in `facts/published/serving_notes.yaml`), never by its id.
Nothing here looks at a predicted time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from mowich.errors import UserError
from mowich.evidence.measured_tables import table_form
from mowich.evidence.row_checks import PublishedRow, RefusedError, cell_number, cell_text
from mowich.evidence.row_words import meaning_of
from mowich.evidence.serving_notes import (
    AS_MANY,
    CompiledGraph,
    NotedRun,
    compiled_graph,
    engine_of,
    find_machine,
    find_model,
    first_note,
    notes_of,
    rounds_of,
    skipped_metrics,
    speculation_of,
    stack_note,
    stated_launch,
)
from mowich.evidence.serving_ranks import NOT_TIMED, decode_worker, read_ranks
from mowich.facts import Facts
from mowich.machines.system import System
from mowich.models.model import Model
from mowich.plans.plan import KV, WEIGHTS, KvFormat, ServePlan, one_of
from mowich.serving.engines import Served, architecture
from mowich.software.engine import build_for
from mowich.software.vendors import of_vendor

CONCURRENCY_FACTOR = 1.5
"""How far throughput x latency may lie from the concurrency (Little's law). The published rows that print all of them
lie between 0.72 and 1.01: a closed loop of R rounds that drains at its end holds R / (R + 1) of its users on average,
0.67 with two rounds. Rows that count several replicas, or whose rate is another run's, are off by twice or more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingCase(Served):
    """A row, read: what decides its constants, as far as no facts say it (`serving_cases.gather_cases` adds the rest),
    its load, and what was measured. users: requests in flight per rank group; chips: of the worker; mean_length: mean
    over nominal length; rounds: requests per user; stack: the row's own word for who serves with which kernels; skip:
    metrics not to score; decode_only: a decode worker, whose prompts other workers compute; elsewhere_s: seconds that
    each of its requests is with those (the row's own TTFT, 0 where it states none); memory_share: above 1, sequences
    that decode by the row's own figures over those that the cache holds by our memory model; graph: how the graph of a
    row of Trainium was compiled."""

    id: str
    chip: str
    source: str
    version: str
    date: str
    chips: int
    prompt: float
    output: float
    users: float
    mean_length: float
    rounds: float
    is_static: bool
    cached: float
    stack: str
    measured: Mapping[str, float]
    inferred: tuple[str, ...]
    skip: Mapping[str, str]
    fully_specified: bool
    decode_only: bool = False
    elsewhere_s: float = 0.0
    memory_share: float = 1.0
    graph: CompiledGraph = AS_MANY

    @property
    def other_cache(self) -> KvFormat | None:
        """The format that its cache may have as well, where its own is a guess; None where it is not."""
        if GUESSED_CACHE in self.inferred:
            return "bf16"
        return "fp8" if WIDE_CACHE in self.inferred and self.plan.weights != "bf16" else None


def weights_of(row: PublishedRow, model: Model, system: System, facts: Facts) -> tuple[str, str]:
    """(format of the weights, how it was read, "" when stated). Raises RefusedError for words that name none."""
    text = row.get("precision") or ""
    meaning_of("served_precision", text)
    tail = text.casefold().partition("weights ")[2] or text.casefold()
    tail = re.sub(r"\(.*?\)", "", tail).strip() or tail  # "BF16 (dequantised from FP8)" holds 16-bit weights
    said = meaning_of("served_weights", tail)
    name = "int4" if "int4_wo" in (row.get("notes") or "").casefold() else "" if said is None else said.means
    native = "mxfp4" if model.architecture.startswith("gpt_oss") or "gpt-oss" in model.name else ""
    if native and name in ("", "fp4", "mxfp4"):
        return native, "" if name else "precision not stated: the checkpoint's own"
    if name == "fp4":
        name = "nvfp4" if "nvfp4" in system.peak_flops else of_vendor(facts, system.vendor, "four_bit")
    return name or "bf16", "" if name else "precision not stated: 16 bit, the checkpoint's own"


WIDE_CACHE = "kv=bf16 (not stated)"
"""Words for a row that states no format of its cache."""
GUESSED_CACHE = "kv=fp8 (quantised checkpoints of this campaign saturate as with 8-bit caches)"
"""Words for a row whose campaign suggests the format of its cache."""


def kv_of(row: PublishedRow, weights: str, campaign: str) -> tuple[str, str]:
    """(format of the cache, how it was read)."""
    said = meaning_of("kv_precision", row.get("kv_precision") or "")
    if said is not None and said.means:
        return said.means, ""
    if campaign == "ix":
        if note := first_note(notes_of("caches"), row):
            return note["kv"], f"kv={note['kv']} ({note['script']})"
        if weights != "bf16":
            return "fp8", GUESSED_CACHE
    return "bf16", WIDE_CACHE


def check_mode(mode: str) -> None:
    """Raises RefusedError for a load of an unknown kind, or that lengths and concurrency do not describe."""
    meaning_of("mode", mode)
    if mode.startswith("MLPerf"):
        raise RefusedError("the row states no plan and no concurrency")
    if any(word in mode for word in ("agentic", "trace", "embedding", "prefix caching", "workload", "offline")):
        raise RefusedError(f"the load ({mode}) is not stated as lengths and concurrency")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Load:
    """The load on the machine of a row. row: for a disaggregated pool, the row of its decode worker; lengths: tokens of
    a prompt and of an answer; skip: metrics not to score, with the reason; inferred: what was filled in."""

    row: PublishedRow
    lengths: tuple[float, float]
    is_decode_only: bool
    skip: dict[str, str]
    inferred: tuple[str, ...]


def _load_of(row: PublishedRow) -> _Load:
    """The load of a row. Raises RefusedError with the reason."""
    mode = row.get("mode") or ""
    table_form("serving").check_whole(row)
    inferred = [] if mode else ["mode=online (not stated)"]
    check_mode(mode)
    skip = skipped_metrics(row)
    is_decode_only = "disagg" in mode
    if is_decode_only:
        row, how = decode_worker(row)
        inferred.append(how)
        skip |= dict.fromkeys(("ttft_ms", "output_tok_s_per_chip"), NOT_TIMED)
    prompt, output = cell_number(row, "isl"), cell_number(row, "osl")
    if not prompt or not output:
        raise RefusedError("the lengths are not stated")
    if not cell_text(row, "tp"):
        raise RefusedError("the plan is not stated")
    return _Load(row=row, lengths=(prompt, output), is_decode_only=is_decode_only, skip=skip, inferred=tuple(inferred))


def read_case(row: PublishedRow, facts: Facts, *, folds: bool = True, is_shorter: bool = False) -> ServingCase:
    """One row by itself; `serving_checks.read_serving_cases` also asks whether it fits and agrees with itself. folds:
    whether a plan that reads as folded is unfolded; is_shorter: as in `serving_checks.shorter_of_two`. Raises
    RefusedError with the reason."""
    load = _load_of(row)
    whole, row, lengths, skip = row, load.row, load.lengths, load.skip
    stack = stack_note(cell_text(row, "stack"))
    engine = stack["engine"] if stack else engine_of(row["framework"])
    try:
        model = find_model(row["model"])
        campaign = first_note(notes_of("campaigns"), row)
        one = find_machine(facts, row["chip"], 1, cell_text(row, "lnc"))
        engine = build_for(facts, engine, one.vendor)
    except UserError as error:
        raise RefusedError(error.what) from error
    starts_together = bool(stack and stack.get("batch") == "static")
    ranks = read_ranks(row, one, lengths=lengths, starts_together=starts_together, folds=folds)
    tp, dp, users = ranks.tp, ranks.dp, ranks.users
    system = find_machine(facts, row["chip"], ranks.chips, cell_text(row, "lnc"))
    weights, how_weights = weights_of(row, model, system, facts)
    kv, how_kv = kv_of(row, weights, campaign["campaign"])
    ep = ranks.ep if model.has_experts else 1
    run = NotedRun(lengths=lengths, users=users * dp, tp=tp, dp=dp, ep=ep, is_shorter=is_shorter)
    speculates, accept, how_guessed = speculation_of(row, campaign["campaign"], run)
    script = first_note(notes_of("launch"), row, replace(run, tp=tp * dp, speculates=speculates))
    graph = compiled_graph(notes_of("graphs"), row, users=users) if stack else AS_MANY
    filled = (how for how in (how_weights, how_kv, how_guessed) if how)
    inferred = (*load.inferred, *ranks.inferred, *filled, *graph.words)
    moe = first_note(notes_of("experts"), row, run).get("path", "")
    launch = stated_launch(script, prompt=lengths[0], moe=moe)
    measured = {m: v for m in table_form("serving").metrics if (v := cell_number(row, m))}
    if ranks.is_static and is_rate_of_decoding(row, users * dp):
        skip |= {"output_tok_s_per_chip": "the rate of decoding alone: what TPOT says already"}
    if ranks.in_flight and not ranks.is_static:
        check_concurrency(whole, cell_number(whole, "concurrency") or ranks.in_flight, lengths[1])
    return ServingCase(
        id=row["id"],
        chip=row["chip"],
        source=row.get("source") or "",
        campaign=campaign["campaign"],
        engine=engine,
        version=row["framework"],
        date=(row.get("date") or ""),
        model=model,
        arch=architecture(model),
        system=system,
        chips=ranks.chips,
        plan=ServePlan(
            tp=tp,
            pp=ranks.pp,
            dp=dp,
            ep=ep,
            weights=one_of(weights, WEIGHTS, "format of weights"),
            kv=one_of(kv, KV, "format of the cache"),
            launch=launch if engine == "trtllm" else replace(launch, moe=None),
        ),
        prompt=lengths[0],
        output=lengths[1],
        users=users,
        mean_length=1.0 if ranks.is_static else float(campaign["mean_length"]),
        rounds=rounds_of(campaign, users * dp, row.get("ttft_stat") or ""),
        is_static=ranks.is_static,
        speculates=speculates,
        accept=accept,
        cached=0.0,
        stack=cell_text(row, "stack"),
        measured=measured,
        inferred=inferred,
        skip=skip,
        decode_only=load.is_decode_only,
        drafts=script.get("drafts", 0),
        products=script.get("products", ""),
        norms_apart=first_note(notes_of("norms"), row).get("apart", False),
        graph=graph,
        elsewhere_s=measured.get("ttft_ms", 0.0) / 1e3 if load.is_decode_only else 0.0,
        fully_specified=not any("not stated" in i or "speculative" in i for i in inferred),
    )


def check_concurrency(row: PublishedRow, concurrency: float, output: float) -> None:
    """Raises RefusedError where Little's law does not hold: concurrency = requests/s x (TTFT + (output - 1) x TPOT),
    within `CONCURRENCY_FACTOR`, of a row that prints a throughput and both latencies."""
    ttft, tpot, rate = (cell_number(row, key) for key in ("ttft_ms", "tpot_ms", "output_tok_s"))
    each, chips = cell_number(row, "output_tok_s_per_chip"), cell_number(row, "n_chips")
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
    tpot, each, chips = (cell_number(row, key) for key in ("tpot_ms", "output_tok_s_per_chip", "n_chips"))
    if not (tpot and each and chips):
        return False
    return abs(each * chips * tpot / 1e3 / users - 1.0) <= DECODING
