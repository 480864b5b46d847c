"""The rules by which the words of published training rows are read.

The rules are data: `facts/published/row_notes.yaml`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Literal, NotRequired, Required, TypedDict

from mowich.evidence.row_checks import PublishedRow, fits_all, note_pattern
from mowich.facts import Facts
from mowich.facts.load import shipped_folder
from mowich.files import shipped_yaml
from mowich.machines.system import System
from mowich.models.model import Attention, Mixer, Model
from mowich.software.recipes import newest, releases

STATED_BY_CONVENTION = (
    "sp=",
    "etp=",
    "zero=",
    "grad_B=",
    "dp=",
    "task=",
    "memory=",
    "recipe=",
    "model: head_dim",
    "model: n_kv_heads",
    "model: plain MLP",
)
"""First words of inferred fields that follow from the software, the model's family or arithmetic: with these the row
stays fully specified."""


TOPOLOGY = re.compile(
    r"(\d+)\s*x?\s*(?:NC|neuron ?cores?|cores?|GPUs?|chips?)\s*\(TP\)\s*x\s*(\d+)[^()\[\]]*\(DP\)", re.IGNORECASE
)
"""A topology printed as "[8xNC(TP)x4(DP)] x 32Nodes(DP)" or "8 cores (TP) x 4 (DP)"."""


STACK_NUMBERS = (
    "optimizer_memory_B",
    "moe_capacity",
    "full_recompute",
    "moe_passes",
    "fsdp_overlap",
    "tp_overlap",
    "grad_B",
    "grad_memory_B",
    "logit_B",
    "offloaded_layers",
)
"""Numbers of the software that a recipe may set: bytes of optimizer states per parameter, times the mean load that
every expert is padded to, the part of a layer that full recompute runs again, passes over the experts' rows, the part
of gathers and scatters of weights that is issued early enough to hide, and of the collectives of tensor parallelism,
bytes per parameter in which gradients are reduced and kept, and of the loss per logit, layers whose activations wait in
the host's memory."""

RECIPE_NUMBERS = ("document", "mtp_layers", "device_order", *STACK_NUMBERS)
"""Numbers without a column that a recipe may set: mean tokens of packed documents, prediction blocks trained, 1 where
groups on a torus follow the order of devices, and `STACK_NUMBERS`."""

OLD_MEGATRON = ("megatron-2021", "deepspeed-2022")
"""Stacks of 2021 to 2023: no sequence parallelism, no interleaving unless stated; pipeline stages send slices of an
activation."""


_NameNote = TypedDict(
    "_NameNote", {"stack": str, "release": str, "columns": list[str], "pattern": str, "and": NotRequired[str]}
)
"""The software of a row where the pattern is found in one of `columns`, and `and` (if given) in the name of its source.
stacks: stack. releases: release; the first group of the pattern is its number, else `release` is its whole name."""


class RowNote(TypedDict, total=False):
    """Knowledge about rows whose columns have certain patterns. match: patterns by column; a single pattern is for the
    model's name, and `notes` for the notes. set: cells, or numbers of a recipe; batch: sequences of a step."""

    match: Required[dict[str, str] | str]
    notes: str
    set: dict[str, object]
    batch: float
    source: str
    reason: str


class _Notes(TypedDict):
    """The parts of `row_notes.yaml`, which match rows by content."""

    stacks: list[_NameNote]
    releases: list[_NameNote]
    models: list[RowNote]
    recipes: list[RowNote]
    batches: list[RowNote]
    misprints: list[RowNote]
    refused: list[RowNote]


@cache
def _file() -> _Notes:
    loaded: _Notes = shipped_yaml(shipped_folder() / "published" / "row_notes.yaml")
    return loaded


def notes_on(
    part: Literal["models", "recipes", "batches", "misprints", "refused"], row: PublishedRow
) -> Iterator[RowNote]:
    """The notes of a part that match a row. Each match sees the row's latest changes."""
    for note in _file()[part]:
        match = note["match"]
        patterns = {"model_name": match, "notes": note.get("notes", "")} if isinstance(match, str) else match
        if fits_all(row, patterns):
            yield note


def stack_of_row(row: PublishedRow) -> tuple[str, bool]:
    """(software stack, whether the row's own words decide it): a `stack` column, else the first pattern of
    `row_notes.yaml` that fits, else "megatron"."""
    if row.get("stack"):
        return row["stack"], True
    source = {"source": f"{row.get('source_group', '')} {row.get('source_title', '')}"}
    for note in _file()["stacks"]:
        is_named = any(fits_all(row, {column: note["pattern"]}) for column in note["columns"])
        if is_named and fits_all(source, {"source": note.get("and", "")}):
            return note["stack"], True
    return "megatron", False


def release_of_row(row: PublishedRow, facts: Facts) -> str | None:
    """The release of software that a row names, among releases with recipes. A repair (26.02.01) without its own recipe
    counts as the release that it repairs; without a number, the newest by the row's date counts."""
    known = releases(facts)
    for note in _file()["releases"]:
        name, pattern = note["release"], note_pattern(note["pattern"])
        if not fits_all(row, {"source_group": note.get("and", "")}):
            continue
        found = [match for column in note["columns"] if (match := pattern.search(row.get(column, "")))]
        if found and not pattern.groups:
            return newest(facts, by=row.get("date", "")[:7] or "0", of=name)
        for number in (match[1] for match in found):
            named = (f"{name}-{number.replace('.', '-')}", f"{name}-{number[:5].replace('.', '-')}")
            return next((release for release in named if release in known), None)
    return None


def per_device_batch(text: str, seq: int) -> float | None:
    """Sequences per device from "2 per chip", "0.125 per JAX device" or "8k tokens/device"."""
    match = re.match(r"\s*([\d.]+)\s*(k?)\s*(tokens)?", text)
    if not match:
        return None
    value = float(match[1]) * (1024 if match[2] else 1)
    return value / seq if match[3] else value


def _windowless(mixer: Mixer) -> Mixer:
    return replace(mixer, window=None) if isinstance(mixer, Attention) else mixer


def stated_flop_per_token(row: PublishedRow, model: Model, seq: int) -> float:
    """The source's FLOP per token, forward and backward, by the words of `flop_convention`.

    levanter: no layer has a window. halved: 3 x forward with causal attention halved. hardware: 4 x forward of the
    layers (one recompute) plus 3 x head, full attention. Otherwise 3 x forward with the full attention square, the
    older habit.
    """
    words = row.get("flop_convention", "").casefold()
    if "levanter" in words:
        model = replace(model, layers=tuple(replace(at, mixer=_windowless(at.mixer)) for at in model.layers))
    forward, attention = model.flop_per_token(seq), model.attention_flop_per_token(seq)
    causal = 1.0 if any(layer.attention.causal for layer in model.layers) else 0.0
    head = 2.0 * model.vocab * model.hidden
    if "hardware" in words or "= 4x forward" in words:
        return 4.0 * (forward - head + causal * attention) + 3.0 * head
    halved = re.search(r"causal[- ](attention )?halved", words) and not re.search(
        r"not causal|without causal|not halved", words
    )
    return 3.0 * (forward + (0.0 if halved else causal * attention))


_LENGTHS = tuple(2**i for i in range(9, 18))
"""Sequence lengths that are tried for a printed MFU."""

_ALIKE, _UNLIKE = 0.05, 0.1
"""How far FLOP per token may be from a printed MFU's, which is rounded, and how far every other length must be from
it."""


def length_of_mfu(row: PublishedRow, system: System, model: Model) -> int | None:
    """Sequence length, a power of two, whose FLOP per token match a printed MFU at a printed rate; None where the row
    does not print both, or where not exactly one length fits."""
    mfu, rate = row.get("mfu_reported_pct"), row.get("tokens_per_s_total")
    if not mfu or not rate:
        return None
    counted = float(mfu) / 100.0 * system.peak_flops["bf16"] * system.devices_per_chip * system.chips / float(rate)
    off = {seq: abs(stated_flop_per_token(row, model, seq) / counted - 1.0) for seq in _LENGTHS}
    near = [seq for seq, error in off.items() if error < _UNLIKE]
    return near[0] if len(near) == 1 and off[near[0]] < _ALIKE else None


def network_speed(text: str) -> tuple[float, bool] | None:
    """(B/s one way, whether it is per chip) of the scale-out network that a `system_note` states, None when it states
    none.

    Reads "4 x Omni-Path 100 Gb/s links per node", "1600 Gbps node-node", "400 Gb/s RDMA per GPU" and MLPerf's
    "Compute: 8x ConnectX-7 IB NDR 400Gb/s"; storage and management links are left out.

    >>> network_speed("4 x Omni-Path 100 Gb/s links per node"), network_speed("RoCE 400 Gb/s per GPU")
    ((50000000000.0, False), (50000000000.0, True))
    """
    part = re.search(r"compute: ([^,]*)", text, re.IGNORECASE)
    found = re.search(
        r"(?:(\d+)\s*x\s+)?[^,;]*?\b(\d+)\s*(?:Gb/s(?:ec)?|Gbps|Gb\b)", part[1] if part else text, re.IGNORECASE
    )
    if not found or not (found[1] or part or re.search(r"per gpu|node", text, re.IGNORECASE)):
        return None
    return int(found[1] or 1) * int(found[2]) * 1e9 / 8, "per gpu" in text.casefold()


def board_limits(text: str) -> tuple[float | None, float | None]:
    """(memory bandwidth in B/s, power limit in W) of a board that a `chip_detail` states to differ from the standard
    one, None where it says nothing.

    >>> board_limits("H100 96GB HBM2e 2.4 TB/s, 500 W limit (Grand Teton)"), board_limits("H100 80GB HBM3, 700 W TDP")
    ((2400000000000.0, 500.0), (None, None))
    """
    rate = re.search(r"([\d.]+)\s*TB/s", text)
    watts = re.search(r"(\d+)\s*W (?:limit|cap)", text, re.IGNORECASE)
    return float(rate[1]) * 1e12 if rate else None, float(watts[1]) if watts else None
