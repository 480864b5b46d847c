"""What a row of serving measurements does not say and the scripts of its campaign do: the format of its cache, the
kernels of its experts, and those of its norms. `facts/published/serving_notes.yaml` holds them with their sources."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from mowich.evidence.row_checks import PublishedRow, is_noted


class CacheNote(TypedDict, total=False):
    """The format of the cache of rows that do not state it, by patterns of their columns. kv: the format; script: where
    this is said."""

    model: str
    framework: str
    date: str
    chip: str
    precision: str
    kv: str
    script: str


class ExpertsNote(TypedDict, total=False):
    """The kernels of the experts of rows, by patterns of their columns. dp: whether attention is data-parallel; path:
    their name in `serving.common.experts_<path>`, the time that they take beside the usual ones; script: where this is
    said."""

    source: str
    model: str
    framework: str
    date: str
    chip: str
    precision: str
    dp: bool
    path: str
    script: str


class NormsNote(TypedDict, total=False):
    """Whether norms are kernels of their own after an all-reduce, by patterns of the columns of rows, where a current
    release of the engine says nothing of the run. apart: whether they are; script: where this is said."""

    source: str
    model: str
    framework: str
    date: str
    chip: str
    precision: str
    apart: bool
    script: str


def cache_of(notes: Sequence[CacheNote], row: PublishedRow) -> CacheNote:
    """The first entry that a row fits; empty where none says how its cache is kept."""
    empty: CacheNote = {}
    return next((note for note in notes if is_noted(note, row)), empty)


def experts_of(notes: Sequence[ExpertsNote], row: PublishedRow, *, dp: int) -> str:
    """The path of the first entry that a row fits; "" where none does: the usual kernels."""
    return next(
        (note["path"] for note in notes if is_noted(note, row) and note.get("dp", dp > 1) == (dp > 1)),
        "",
    )


def norms_apart(notes: Sequence[NormsNote], row: PublishedRow) -> bool:
    """What the first entry that a row fits says; no where none does: as in current releases."""
    return next((note["apart"] for note in notes if is_noted(note, row)), False)
