"""What the campaign, scripts or release of a row of serving measurements state and the row does not.

`facts/published/serving_notes.yaml` holds these notes with their sources, by the content of rows and never by their id:
names of engines and models, rows that are left out, how requests are made, how ranks are spread, what an engine is
started with, formats of caches, kernels, guesses, and how graphs of Trainium were compiled. A note belongs to a row
whose columns match all its patterns and whose run meets all its conditions (`is_noted`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, TypedDict, cast

from mowich.errors import UserError
from mowich.evidence.row_checks import PublishedRow, RefusedError, cell_count, cell_text, fits_all, refusal
from mowich.evidence.row_words import meaning_of
from mowich.facts import Facts
from mowich.facts.load import once_for, shipped_folder
from mowich.files import shipped_yaml
from mowich.machines.system import System, logical_cores, resolve
from mowich.models import load_model
from mowich.models.model import Model
from mowich.plans.launch_settings import NOTHING_STATED, LaunchSettings
from mowich.units import is_digits

# notes, and the rows that they are of
# ----------------------------------------------------------------------------------------------------------------------


class ServingNote(TypedDict, total=False):
    """A note. The first keys are patterns of the columns of their name; the next, to `twice`, are conditions of the run
    (`_CONDITIONS`); all others are facts about it. script: the source of these.

    engines, stacks: engine, pattern: of the name or word; batch "static": one that starts together and is not refilled.
    rules: exclude: why a row is left out; skip, reason: metrics of it that are, and why.
    campaigns: rounds: requests of each user; requests: at most, of all users; mean_length: mean over nominal length.
    ranks: spreads: over the ranks of tp, whatever the row says: "experts", "attention", which is then data-parallel,
    and experts, or "nothing", so that ranks cut every layer.
    caches: kv: format of the cache. experts: path: name of the kernels in `serving.common.experts_<path>`, the time
    that they take beside the usual ones. norms: apart: whether norms are kernels of their own after an all-reduce.
    launch: interval: steps between two looks for new requests; balance: steps after which ranks of data-parallel
    attention no longer wait until each has a prompt; wait: steps that a first prompt waits for others; budget: prompt
    tokens of a step at most, prompts: the same in nominal prompts, more: tokens beside these (the greater holds);
    memory: share of the memory that the engine takes; drafts: tokens guessed beside the next one; graphs: as in
    `LaunchSettings`; products: the path of products of 8-bit weights in steps with prompts
    (`serving.common.prompt_products_<path>`), the usual one if absent.
    graphs: options of a compiled graph; batch: a pattern of the notes whose group is the compiled batch; disputed: what
    contradicts the row.
    """

    source: str
    chip: str
    mode: str
    framework: str
    model: str
    date: str
    notes: str
    precision: str
    starts: str
    ends: str
    lengths: list[float]
    min_users: float
    max_users: float
    tp: int
    min_tp: int
    max_tp: int
    dp: bool
    ep: int
    speculates: bool
    twice: bool
    script: str
    engine: str
    pattern: str
    batch: str
    exclude: str
    skip: list[str]
    reason: str
    campaign: str
    rounds: float
    requests: float
    mean_length: float
    spreads: Literal["experts", "attention", "nothing"]
    kv: str
    path: str
    apart: bool
    interval: int
    balance: int
    wait: int
    budget: float
    prompts: float
    more: float
    memory: float
    drafts: int
    graphs: str
    products: str
    sampling_on_device: bool
    fused_qkv: bool
    block_wise: bool
    asynchronous: bool
    disputed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotedRun:
    """The properties of a run that notes read. lengths: nominal tokens of a prompt and of an answer; users: of the
    whole worker; is_shorter: its time per token is the shorter of two that were measured under one plan and load."""

    lengths: tuple[float, float] = (0.0, 0.0)
    users: float = 0.0
    tp: int = 1
    dp: int = 1
    ep: int = 1
    speculates: bool = False
    is_shorter: bool = False


PATTERN_COLUMNS = ("source", "chip", "mode", "framework", "model", "date", "notes", "precision")
"""Columns of a row for which a note may have a pattern."""

_LAST_DATE = "9"
"""Sorts after every date; stands in for words that are not a date."""

_CONDITIONS: Mapping[str, Callable[[ServingNote, NotedRun, str], bool]] = {
    "starts": lambda note, run, date: note["starts"] <= date <= _LAST_DATE,
    "ends": lambda note, run, date: date <= note["ends"],
    "lengths": lambda note, run, date: tuple(note["lengths"]) == run.lengths,
    "min_users": lambda note, run, date: note["min_users"] <= run.users,
    "max_users": lambda note, run, date: run.users <= note["max_users"],
    "tp": lambda note, run, date: note["tp"] == run.tp,
    "min_tp": lambda note, run, date: note["min_tp"] <= run.tp,
    "max_tp": lambda note, run, date: run.tp <= note["max_tp"],
    "dp": lambda note, run, date: note["dp"] == (run.dp > 1),
    "ep": lambda note, run, date: note["ep"] == run.ep,
    "speculates": lambda note, run, date: note["speculates"] == run.speculates,
    "twice": lambda note, run, date: run.is_shorter or not note["twice"],
}
"""Key of a note -> whether a run meets it, by the note, the run and the date of its row. dp: whether
attention is data-parallel; speculates: whether several tokens are verified in a step; twice: the script ran with
guesses and without, so that of two times per token under one plan and load the shorter one is with guesses."""


def is_noted(note: ServingNote, row: PublishedRow, run: NotedRun | None = None) -> bool:
    """Whether a note is about a row and its run.

    >>> is_noted({"framework": "^vllm", "dp": True}, {"framework": "vLLM 0.18"}, NotedRun(dp=8))
    True
    """
    said, run = cast("Mapping[str, object]", note), run or NotedRun()
    return fits_all(row, {key: str(said[key]) for key in PATTERN_COLUMNS if key in said}) and all(
        met(note, run, cell_text(row, "date")) for key, met in _CONDITIONS.items() if key in said
    )


def first_note(notes: Sequence[ServingNote], row: PublishedRow, run: NotedRun | None = None) -> ServingNote:
    """The first note about a row and its run; an empty one without any."""
    empty: ServingNote = {}
    return next((note for note in notes if is_noted(note, row, run)), empty)


NotePart = Literal[
    "engines", "stacks", "graphs", "campaigns", "rules", "speculation", "ranks", "caches", "experts", "norms", "launch"
]


@cache
def notes_of(part: NotePart) -> Sequence[ServingNote]:
    """The notes of a part of `serving_notes.yaml`; the first match counts."""
    found: Sequence[ServingNote] = shipped_yaml(_FILE)[part]
    return found


@cache
def _other_names() -> Mapping[str, str]:
    """Names of models in tables -> our names."""
    found: Mapping[str, str] = shipped_yaml(_FILE)["models"]
    return found


_FILE = shipped_folder() / "published" / "serving_notes.yaml"


# names, and rows that are left out
# ----------------------------------------------------------------------------------------------------------------------

_SUFFIX = re.compile(r"[-_](fp8|nvfp4|fp4|mxfp4|bf16|int4|awq|gptq|w8a8|hf|v0\.\d)([-_].*)?$", re.IGNORECASE)


@cache
def find_model(name: str) -> Model:
    """A model by its name in a table, without suffixes of precision. Raises UserError."""
    tried = name
    while True:
        try:
            return load_model(tried)
        except UserError as error:
            shorter = _SUFFIX.sub("", tried)
            if shorter == tried:
                other = _other_names().get(name.rsplit("/", 1)[-1].casefold())
                if other and other != tried:
                    tried = other
                    continue
                raise error
            tried = shorter


@once_for(256)
def find_machine(facts: Facts, name: str, chips: int, lnc: str = "") -> System:
    """The machine of a row, by the name of its chip and the cores of a device where the row states them. A chip that
    holds fewer devices than a unit is a part of it. Raises UserError for a chip that is not known, RefusedError for
    cores that it has not."""
    system = resolve(facts, facts.resolve_system(name), chips=chips)
    try:
        return logical_cores(facts, system, int(float(lnc))) if lnc else system
    except UserError as error:
        raise refusal("lnc", lnc, str(error.allowed or "none on this chip")) from error


def stack_note(stack: str) -> ServingNote | None:
    """The note on a word of the column `stack` (who serves, with which kernels); None where a row states none. Raises
    RefusedError for an unknown word."""
    if not stack:
        return None
    for note in notes_of("stacks"):
        if re.fullmatch(note["pattern"], stack, re.IGNORECASE) or stack == note["engine"]:
            return note
    raise refusal("stack", stack, [note["pattern"] for note in notes_of("stacks")])


def engine_of(framework: str) -> str:
    """The engine whose constants a framework's name selects. Raises RefusedError for an unknown name."""
    for note in notes_of("engines"):
        if re.search(note["pattern"], framework, re.IGNORECASE):
            return note["engine"]
    raise refusal("framework", framework, sorted({note["engine"] for note in notes_of("engines")}))


def skipped_metrics(row: PublishedRow) -> dict[str, str]:
    """Metrics of a row that are not compared -> the reason. Raises RefusedError for a row that is left out."""
    skip: dict[str, str] = {}
    for note in notes_of("rules"):
        if is_noted(note, row, NotedRun(tp=cell_count(row, "tp"))):
            if "exclude" in note:
                raise RefusedError(f"excluded: {note['exclude']}")
            skip |= dict.fromkeys(note["skip"], note["reason"])
    return skip


# requests
# ----------------------------------------------------------------------------------------------------------------------

_MEDIANS = ("median", "p50")
_FIRST_HALF = 2.0
"""Rounds of requests, of which the first has at most half of all requests."""


def rounds_of(campaign: ServingNote, users: float, stat: str = "") -> float:
    """Requests of each user. inf where the first round, which all users send together, does not reach the statistic of
    the TTFT: a median ("median" or "p50" in its column) of more than two rounds."""
    rounds = min(float(campaign["rounds"]), campaign.get("requests", math.inf) / users)
    return math.inf if rounds > _FIRST_HALF and stat.strip().lower() in _MEDIANS else rounds


def speculation_of(row: PublishedRow, campaign: str, run: NotedRun) -> tuple[bool, float | None, str]:
    """(whether several tokens are predicted at once, how many of them are accepted where stated, how it was filled in).
    A campaign's searches ran some plans and loads with guesses, and their rows do not state which. Raises RefusedError
    for words that say neither."""
    spec = cell_text(row, "spec_decode")
    stated = re.search(r"accept\w* (?:length )?([\d.]+)", spec)
    accept = float(stated[1]) if stated else None
    if not spec and campaign == "ix" and first_note(notes_of("speculation"), row, run):
        return True, accept, "speculative (runs of this engine and date predict several tokens)"
    said = meaning_of("spec_decode", spec)
    return said is not None and said.means == "yes", accept, ""


# what an engine is started with
# ----------------------------------------------------------------------------------------------------------------------


def budget_of(note: ServingNote, prompt: float) -> float | None:
    """Most prompt tokens of a step; None where unknown. prompt: nominal tokens of a prompt."""
    return max(note.get("budget", 0.0), note.get("prompts", 0.0) * prompt + note.get("more", 0.0)) or None


def stated_launch(note: ServingNote, *, prompt: float, moe: str) -> LaunchSettings:
    """The launch settings of a row's engine. A schedule that looks for new requests only every few steps, or lets a
    prompt wait for others, adds steps of the decoding users to the TTFT. prompt: nominal tokens of a prompt; moe:
    kernels of its experts, "" without a note. A known script that leaves out a setting means the engine's default; a
    row without a script states nothing."""
    if not note:
        return replace(NOTHING_STATED, moe=moe or None)
    return LaunchSettings(
        graphs=note.get("graphs", "decode"),
        interval=note.get("interval", 1),
        wait=note.get("wait", 0),
        balance=note.get("balance", 0),
        moe=moe or "trtllm",
        budget=budget_of(note, prompt),
        memory=note.get("memory"),
    )


def spread_ranks(note: ServingNote, tp: int, dp: int, ep: int) -> tuple[int, int, int, list[str]]:
    """(tp, dp, ep, how they were read): where the row does not say how the ranks of tp are spread, the script does."""
    if dp > 1 or tp == 1 or "spreads" not in note:
        return tp, dp, ep, []
    said = note.get("script", "its script")
    if note["spreads"] == "nothing":
        return tp, dp, 1, [f"ep=1 ({said})"] if ep > 1 else []
    if note["spreads"] == "attention":
        return 1, tp, tp, [f"dp={tp}, ep={tp} ({said}: attention is data-parallel)"]
    return tp, dp, (tp if ep == 1 else ep), [f"ep={tp} ({said})"] if ep == 1 else []


# compiled graphs
# ----------------------------------------------------------------------------------------------------------------------

_FLAGS: tuple[Literal["sampling_on_device", "fused_qkv", "block_wise", "asynchronous"], ...] = (
    *("sampling_on_device", "fused_qkv", "block_wise", "asynchronous"),
)
"""Options of a graph; columns of that name hold yes or no, and come before notes."""
_BATCH = "compiled_batch"
_WORDS = {"yes": True, "no": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledGraph:
    """How the graph of a row of Trainium was compiled, and whether other rows contradict it. A compiled graph computes
    its whole batch, however few users ask. sampling_on_device, fused_qkv, block_wise (products of experts),
    asynchronous: None where nothing says it; batch: sequences that a step computes at least, 0 where the graph is of as
    many as ask; disputed: what contradicts the row, "" where nothing does."""

    sampling_on_device: bool | None = None
    fused_qkv: bool | None = None
    block_wise: bool | None = None
    asynchronous: bool | None = None
    batch: float = 0.0
    disputed: str = ""

    @property
    def words(self) -> tuple[str, ...]:
        """The words about the graph in `inferred`."""
        batch = (f"compiled batch={self.batch:g} (each step computes it)",) if self.batch else ()
        return (*batch, *((f"disputed: {self.disputed}",) if self.disputed else ()))


AS_MANY = CompiledGraph()
"""A graph for as many sequences as ask; nothing else is stated of it."""


def compiled_graph(notes: Sequence[ServingNote], row: PublishedRow, *, users: float) -> CompiledGraph:
    """The graph of a row, by the first word of its notes on each. users: in flight per rank group. Raises RefusedError
    for a flag that is neither yes nor no, and for a compiled batch that is no whole number or smaller than the users in
    flight.

    >>> compiled_graph([{"batch": "batch (\\\\d+) graph"}], {"notes": "batch 32 graph always"}, users=1.0).batch
    32.0
    """
    mine = [note for note in notes if is_noted(note, row)]
    said: dict[str, bool | None] = {}
    for flag in _FLAGS:
        word = cell_text(row, flag).casefold()
        if word and word not in _WORDS:
            raise refusal(flag, word, list(_WORDS))
        said[flag] = _WORDS[word] if word else next((note[flag] for note in mine if flag in note), None)
    batch = _compiled_batch(mine, row, users)
    disputed = next((note["disputed"] for note in mine if "disputed" in note), "")
    return CompiledGraph(**said, batch=batch if batch > users else 0.0, disputed=disputed)


def _compiled_batch(notes: Sequence[ServingNote], row: PublishedRow, users: float) -> float:
    """The compiled batch that a row states: in its own column, in that of the batch, or in its notes; 0 without."""
    for column in (_BATCH, "batch"):
        if word := cell_text(row, column):
            if not is_digits(word) or int(word) < 1 or (column == _BATCH and int(word) < users):
                raise refusal(column, word, f"a whole number from {max(1.0, users):g}")
            return float(word)
    found = (re.search(note["batch"], row.get("notes") or "", re.IGNORECASE) for note in notes if "batch" in note)
    return next((float(hit.group(1)) for hit in found if hit), 0.0)
