"""How a campaign makes its requests, and what its scripts start an engine with, where it decides a time: what a row
does not print and its campaign does.

`facts/published/serving_notes.yaml` holds them with their source, by the content of rows. A schedule that looks for new
requests only every so many steps, or that lets a prompt wait for others, makes the time to first token longer by steps
of the decoding users; a deployment that is not told to do so has none of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NotRequired, TypedDict

from mowich.evidence.row_checks import PublishedRow, is_noted
from mowich.plans.launch_settings import NOTHING_STATED, LaunchSettings


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
    verified in a step; ep: ranks that share the experts; interval: steps between two looks for new requests; balance:
    steps after which ranks of data-parallel attention no longer wait until each has a prompt; wait: steps that a first
    prompt waits for others; budget: prompt tokens of a step at most, prompts: the same in nominal prompts (the greater
    holds); memory: share of the memory that the engine takes; drafts: tokens guessed beside the next one; graphs: as in
    `LaunchSettings`; spreads: over the ranks of tp, whatever the row says: "experts",
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
    interval: int
    balance: int
    wait: int
    budget: float
    prompts: float
    more: float
    memory: float
    drafts: int
    graphs: str
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


def budget_of(note: LaunchNote, prompt: float) -> float | None:
    """Prompt tokens of a step at most; None where it is not known. prompt: nominal tokens of one."""
    return max(note.get("budget", 0.0), note.get("prompts", 0.0) * prompt + note.get("more", 0.0)) or None


def stated_launch(note: LaunchNote, *, prompt: float, moe: str) -> LaunchSettings:
    """What a row's engine was started with. prompt: nominal tokens of one; moe: kernels of its experts, "" where no
    entry says. What a script that is known does not say is what the engine does by itself; of a row without a script
    nothing is stated."""
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
