"""How a campaign makes its requests, and what its scripts start an engine with, where it decides a time: what a row
does not print and its campaign does.

`facts/published/serving_notes.yaml` holds them with their source, by the content of rows. A schedule that looks for new
requests only every so many steps, or that lets a prompt wait for others, makes the time to first token longer by steps
of the decoding users; a deployment that is not told to do so has none of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NotRequired, TypedDict

import numpy as np

from mowich.arrays import Floats
from mowich.evidence.row_checks import PublishedRow, is_noted


class CampaignNote(TypedDict):
    """How the requests of a campaign are made, by patterns of a row's columns. rounds: requests of each user; requests:
    at most, of all users; mean_length: mean over nominal length."""

    campaign: str
    source: NotRequired[str]
    framework: NotRequired[str]
    rounds: float
    requests: NotRequired[float]
    mean_length: float


def campaign_of(notes: Sequence[CampaignNote], row: PublishedRow) -> CampaignNote:
    """The first campaign that a row fits; the last entry fits all."""
    return next(note for note in notes if is_noted(note, row))


def rounds_of(campaign: CampaignNote, users: float, stat: str = "") -> float:
    """Requests of each of so many users; inf where none of the first, that all users ask together, is in the statistic
    of a time to first token: a median of more than two rounds, as "median" or "p50" in its column."""
    rounds = min(float(campaign["rounds"]), campaign.get("requests", math.inf) / users)
    return math.inf if rounds > _FIRST_HALF and stat.strip().lower() in _MEDIANS else rounds


_MEDIANS = ("median", "p50")
_FIRST_HALF = 2.0
"""Rounds of requests of which the first is no more than half."""


class LaunchNote(TypedDict, total=False):
    """Rows by patterns of their columns, their users, lengths and plan; what their engine was started with.

    starts, ends: first and last date; dp: whether attention is data-parallel; speculates: whether several tokens are
    verified in a step; ep: ranks that share the experts; every: steps between two looks for new requests; balance:
    steps after which ranks of data-parallel attention no longer wait until each has a prompt; wait: steps that a first
    prompt waits for others; budget: prompt tokens of a step at most, prompts: the same in nominal prompts (the greater
    holds); memory: share of the memory that the engine takes; drafts: tokens guessed beside the next one; captured:
    steps with prompts are launched as whole graphs; spreads: over the ranks of tp, whatever the row says: "experts",
    "attention", which is then data-parallel, and experts, or "nothing", so that ranks cut every layer; products: the
    path of products of 8-bit weights in steps with prompts (`serving.common.prompt_products_<path>`), the usual one if
    absent; script: where this is said.
    """

    source: str
    framework: str
    model: str
    chip: str
    precision: str
    starts: str
    ends: str
    lengths: list[float]
    min_users: float
    max_users: float
    max_tp: int
    dp: bool
    speculates: bool
    ep: int
    every: float
    balance: float
    wait: float
    budget: float
    prompts: float
    more: float
    memory: float
    drafts: int
    captured: bool
    spreads: Literal["experts", "attention", "nothing"]
    products: str
    script: str


def script_of(
    notes: Sequence[LaunchNote],
    row: PublishedRow,
    *,
    lengths: tuple[float, float],
    users: float,
    tp: int,
    dp: int,
    ep: int = 1,
    speculates: bool = False,
) -> LaunchNote:
    """What is known of the start of a row's engine: the first entry that fits; empty where none does. lengths: prompt
    and output, tokens; users: of the whole worker."""
    date = (row.get("date") or "").strip()
    for note in notes:
        if (
            is_noted(note, row)
            and note.get("starts", "") <= date <= note.get("ends", "9")
            and tuple(note.get("lengths", lengths)) == lengths
            and note.get("min_users", 0.0) <= users <= note.get("max_users", users)
            and tp <= note.get("max_tp", tp)
            and note.get("dp", dp > 1) == (dp > 1)
            and note.get("ep", ep) == ep
            and note.get("speculates", speculates) == speculates
        ):
            return note
    return {}


def held_steps(note: LaunchNote, users: float, output: float) -> float:
    """Steps that a new prompt is left waiting, on average: half of those between two looks; and all of those that the
    first prompt waits, half of them for those that join it. users: of a rank group; output: mean tokens of an answer,
    so that users / output of them begin anew in a step."""
    wait = note.get("wait", 0.0)
    joined = wait * users / output
    return note.get("every", 1.0) / 2.0 - 0.5 + wait * (1.0 + joined / 2.0) / (1.0 + joined)


def balanced_steps(limit: Floats, rate: Floats) -> Floats:
    """Steps that a new prompt waits where ranks begin prompts together: when each rank has one, or after `limit` steps.

    T = min(limit, 1 / rate) * (1 + min(rate * limit, 1)) / 2

    rate: prompts that come to a rank in a step, so that each has one after 1 / rate. A prompt waits half of the time
    between two beginnings; each takes one prompt of a rank, so it waits as long again for one that came before.
    """
    busy = np.minimum(rate * limit, 1.0)
    return np.asarray(np.minimum(limit, 1.0 / np.maximum(rate, 1e-9)) * (1.0 + busy) / 2.0)


def budget_of(note: LaunchNote, prompt: float) -> float:
    """Prompt tokens of a step at most; nan where it is not known. prompt: nominal tokens of one."""
    stated = max(note.get("budget", 0.0), note.get("prompts", 0.0) * prompt + note.get("more", 0.0))
    return stated or math.nan


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Settings of an engine. held: steps that it leaves a new prompt waiting; gathers: steps whose new prompts begin
    together; balance: those after which its ranks no longer wait for each other's prompts; drafts: tokens guessed
    beside the next one, 0 where not known; budget, memory: prompt tokens of a step and share of the memory, nan where
    not known; captured: steps with prompts are launched as whole graphs; products: path of their products, "" the usual
    one."""

    held: float = 0.0
    gathers: float = 1.0
    balance: float = 0.0
    drafts: int = 0
    budget: float = math.nan
    memory: float = math.nan
    captured: bool = False
    products: str = ""

    @classmethod
    def of(cls, note: LaunchNote, *, lengths: tuple[float, float], users: float) -> EngineSettings:
        """What an entry says of a row. users: of a rank group."""
        held = held_steps(note, users, lengths[1])
        return cls(
            held,
            note.get("every", 1.0) + note.get("wait", 0.0),
            note.get("balance", 0.0),
            note.get("drafts", 0),
            budget_of(note, lengths[0]),
            note.get("memory", math.nan),
            note.get("captured", False),
            note.get("products", ""),
        )


UNTOLD = EngineSettings()
"""Of an engine of which nothing is known: its defaults."""


def spread_ranks(note: LaunchNote, tp: int, dp: int, ep: int) -> tuple[int, int, int, list[str]]:
    """(tp, dp, ep, how they were read): the ranks of tp spread as the script says where the row says nothing of it."""
    if dp > 1 or tp == 1 or "spreads" not in note:
        return tp, dp, ep, []
    said = note.get("script", "its script")
    if note["spreads"] == "nothing":
        return tp, dp, 1, [f"ep=1 ({said})"] if ep > 1 else []
    if note["spreads"] == "attention":
        return 1, tp, tp, [f"dp={tp}, ep={tp} ({said}: attention is data-parallel)"]
    return tp, dp, (tp if ep == 1 else ep), [f"ep={tp} ({said})"] if ep == 1 else []
