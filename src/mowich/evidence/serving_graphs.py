"""How the graph of a row of Trainium was compiled, and whether other rows contradict it: what its notes say, once, as
flags. `facts/published/serving_notes.yaml` holds the patterns with their sources.

A compiled graph computes its whole batch, however few users ask; which options it was compiled with decides a good part
of a step. A table may state the same flags as columns of its own; these come first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from mowich.evidence.row_checks import PublishedRow, refusal
from mowich.units import is_digits

_FLAGS = ("sampling_on_device", "fused_qkv", "block_wise", "asynchronous")
"""Options of a graph; columns of that name hold yes or no."""
_BATCH = "compiled_batch"
_SEARCHED = ("source", "model", "framework", "chip", "notes")
_WORDS = {"yes": True, "no": False}


class GraphNote(TypedDict, total=False):
    """Rows by patterns of their columns, and how their graphs were compiled. batch: a pattern of the notes whose group
    is the compiled batch; disputed: what contradicts the row; script: where this is said."""

    source: str
    model: str
    framework: str
    chip: str
    notes: str
    sampling_on_device: bool
    fused_qkv: bool
    block_wise: bool
    asynchronous: bool
    batch: str
    disputed: str
    script: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledGraph:
    """sampling_on_device, fused_qkv, block_wise (products of experts), asynchronous: None where nothing says it; batch:
    sequences that a step computes at least, 0 where the graph is of as many as ask; disputed: what contradicts the row,
    "" where nothing does."""

    sampling_on_device: bool | None = None
    fused_qkv: bool | None = None
    block_wise: bool | None = None
    asynchronous: bool | None = None
    batch: float = 0.0
    disputed: str = ""

    @property
    def words(self) -> tuple[str, ...]:
        """What is said of the row in `inferred`."""
        batch = (f"compiled batch={self.batch:g} (each step computes it)",) if self.batch else ()
        return (*batch, *((f"disputed: {self.disputed}",) if self.disputed else ()))


AS_MANY = CompiledGraph()
"""A graph of as many sequences as ask, of which nothing else is said."""


def compiled_graph(notes: Sequence[GraphNote], row: PublishedRow, *, users: float) -> CompiledGraph:
    """The graph of a row. users: in flight per rank group. Raises RefusedError for a flag that is neither yes nor no,
    and for a compiled batch that is no whole number or smaller than the users in flight.

    >>> compiled_graph([{"batch": "batch (\\\\d+) graph"}], {"notes": "batch 32 graph always"}, users=1.0).batch
    32.0
    """
    mine = [n for n in notes if all(re.search(str(n.get(k, "")), row.get(k) or "", re.IGNORECASE) for k in _SEARCHED)]
    said: dict[str, bool | None] = {}
    for flag in _FLAGS:
        word = (row.get(flag) or "").strip().casefold()
        if word and word not in _WORDS:
            raise refusal(flag, word, list(_WORDS))
        said[flag] = _WORDS[word] if word else next((bool(n[flag]) for n in mine if flag in n), None)  # type: ignore[literal-required]
    batch = _batch(mine, row, users)
    disputed = next((n["disputed"] for n in mine if "disputed" in n), "")
    return CompiledGraph(**said, batch=batch if batch > users else 0.0, disputed=disputed)


def _batch(notes: Sequence[GraphNote], row: PublishedRow, users: float) -> float:
    """The compiled batch that a row states: in its own column, in that of the batch, or in its notes; 0 without."""
    for column in (_BATCH, "batch"):
        if word := (row.get(column) or "").strip():
            if not is_digits(word) or int(word) < 1 or (column == _BATCH and int(word) < users):
                raise refusal(column, word, f"a whole number from {max(1.0, users):g}")
            return float(word)
    found = (re.search(n["batch"], row.get("notes") or "", re.IGNORECASE) for n in notes if "batch" in n)
    return next((float(hit.group(1)) for hit in found if hit), 0.0)
