"""Which rows verify several tokens in a step: those that say so, and those of searches whose results do not.

A search runs some plans and loads with guessed tokens and some without, by its configuration; its results print one
time per token each. Where one plan and load ran both ways, two times stand there, of which the shorter one is with
guesses.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NotRequired, TypedDict

from mowich.evidence.row_checks import PublishedRow, is_noted, refusal


class SpeculationNote(TypedDict):
    """Rows that predict several tokens at once without saying so. lengths, min_users, tp, ep: as their scripts have
    them; twice: the script ran with guesses and without, so that of two times per token under one plan and load the
    shorter one is with guesses."""

    model: str
    framework: str
    date: NotRequired[str]
    chip: NotRequired[str]
    precision: NotRequired[str]
    lengths: NotRequired[list[float]]
    min_users: NotRequired[float]
    tp: NotRequired[int]
    ep: NotRequired[int]
    twice: NotRequired[bool]


SPECULATION_WORDS = ("none", "MTP", "EAGLE", "Medusa", "ngram", "draft", "acceptance")
"""Words for speculative decoding; lengths and rates beside them are read where they are stated."""


def speculates_by(text: str) -> bool:
    """Whether `spec_decode` says that several tokens are verified per step. Raises RefusedError for words that say
    neither."""
    word = text.casefold().strip()
    if word in ("", "none", "no", "off", "false", "0"):
        return False
    if re.search(r"mtp|eagle|medusa|n-?gram|lookahead|draft|specul|accept", word) or word in ("yes", "true", "on", "1"):
        return True
    raise refusal("spec_decode", text, SPECULATION_WORDS)


TWICE = 1.05
"""Two times per token of one plan and load that differ by more are of two runs."""


def shorter_of_two(rows: Sequence[PublishedRow]) -> list[bool]:
    """Whether each row's time per token is the shorter of two that were measured under one plan and load."""
    same = ("framework", "model", "chip", "precision", "date", "tp", "pp", "dp", "ep", "isl", "osl", "concurrency")
    keys = [tuple(row.get(name) or "" for name in same) for row in rows]
    times = [_time(row) for row in rows]
    longest: dict[tuple[str, ...], float] = {}
    for key, time in zip(keys, times, strict=True):
        longest[key] = max(longest.get(key, 0.0), time)
    return [longest[key] > TWICE * time > 0.0 for key, time in zip(keys, times, strict=True)]


def _time(row: PublishedRow) -> float:
    """Time per token, ms; 0 where none can be read."""
    try:
        return float(row.get("tpot_ms") or 0.0)
    except ValueError:
        return 0.0


def speculation_of(
    notes: Sequence[SpeculationNote],
    row: PublishedRow,
    campaign: str,
    *,
    lengths: tuple[float, float],
    users: float,
    tp: int,
    ep: int,
    is_shorter: bool,
) -> tuple[bool, float | None, str]:
    """(whether several tokens are predicted at once, how many of them are accepted where stated, how it was filled in).

    notes: entries of `serving_notes.yaml` that may hold; users: of the whole worker; is_shorter: of two measured times
    per token, as in `shorter_of_two`.
    """
    spec = (row.get("spec_decode") or "").strip()
    stated = re.search(r"accept\w* (?:length )?([\d.]+)", spec)
    accept = float(stated[1]) if stated else None
    if not spec and campaign == "ix":
        for entry in notes:
            if (
                is_noted(entry, row)
                and tuple(entry.get("lengths", lengths)) == lengths
                and users >= entry.get("min_users", 0.0)
                and entry.get("tp", tp) == tp
                and entry.get("ep", ep) == ep
                and (is_shorter or not entry.get("twice"))
            ):
                return True, accept, "speculative (runs of this engine and date predict several tokens)"
    return speculates_by(spec), accept, ""
