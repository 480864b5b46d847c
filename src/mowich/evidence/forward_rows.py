"""Measured forward passes of whole models: each row becomes one pass.

A row names a model, a size (`1024x1024`, `480x832x9`: height, width, frames; or `512 tokens`), a chip and the time of
one pass, or of one denoising step, which is one pass unless `branches` says two. A row that is no pass of a model (a
product, a collective) is refused, and so is one that repeats the figure of another model. The rules read only the row's
cells, and nothing here looks at a predicted time. The steps of an engine that decodes are read by `forward_passes`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypedDict

from mowich.evidence.measured_tables import table_form
from mowich.evidence.row_checks import (
    PublishedRow,
    RefusedError,
    cell_count,
    has_word,
    read_or_why,
    refusal,
)
from mowich.evidence.serving_notes import find_model
from mowich.facts import Facts
from mowich.facts.load import shipped_folder
from mowich.files import shipped_yaml
from mowich.machines.system import resolve
from mowich.models.model import Model
from mowich.plans.forward import FORWARD_PRECISIONS, ForwardPlan

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_PASS = ("forward", "pass", "step", "encode", "encoder")
"""Words of `what` for a pass of a model."""
_SIZE = re.compile(r"(?P<height>\d+)\s*[x×]\s*(?P<width>\d+)(?:\s*[x×]\s*(?P<frames>\d+))?")
_TOKENS = re.compile(r"(?P<tokens>\d+)\s*tokens?")
_TP = re.compile(r"\bTP ?(\d+)\b")
"""Tensor parallelism of a chip's devices that the source of a row states."""


class _Notes(TypedDict):
    """source: of the sizes; sizes: kind of what is made -> height, width, frames, where a row states none."""

    source: str
    sizes: Mapping[Literal["image", "clip"], Mapping[str, int]]


@cache
def _notes() -> _Notes:
    loaded: _Notes = shipped_yaml(shipped_folder() / "published" / "pass_notes.yaml")
    return loaded


@dataclass(frozen=True, slots=True, kw_only=True)
class PassCase:
    """A pass, read. chip, source: in the row's words; height, width, frames: of what is made, 0 where `tokens` are
    stated; plan: as the row states it; stack: "" : the vendor's own; measured_s: seconds of one pass, or of a step of
    `branches` passes; inferred: "field=value (how)".

    Units: seconds.
    """

    id: str
    chip: str
    source: str
    model: Model
    height: int
    width: int
    frames: int
    tokens: int
    branches: int
    system_id: str
    chips: int
    plan: ForwardPlan
    stack: str
    measured_s: float
    inferred: tuple[str, ...]


def read_passes(rows: Sequence[PublishedRow], facts: Facts) -> list[PassCase | str]:
    """Every row as a pass, or the reason why it is refused."""
    out: list[PassCase | str] = []
    figures: dict[tuple[str, ...], str] = {}
    for row in rows:
        found = read_or_why(lambda cells: _case(cells, facts), row)
        if not isinstance(found, str):
            at = tuple(row[name] for name in ("chip", "shape", "value", "unit"))
            first = figures.setdefault(at, row["model"])
            if first != row["model"]:
                found = f"value: {row['value']} {row['unit']} is that of {first} on this chip: one of the two is a copy"
        out.append(found)
    return out


def _case(row: PublishedRow, facts: Facts) -> PassCase:
    table_form("passes").check_whole(row)
    if not row["model"] or not has_word(row["what"], *_PASS):
        raise RefusedError(f"no pass of a model but a product or a collective, got '{row['what']}'")
    if row["unit"] not in _UNITS:
        raise refusal("unit", row["unit"], tuple(_UNITS))
    seconds = float(row["value"]) * _UNITS[row["unit"]]
    if not seconds:
        raise RefusedError("value: no time")
    model = find_model(row["model"])
    inferred: list[str] = []
    system = resolve(facts, facts.resolve_system(row["chip"]))
    chips = cell_count(row, "n_chips")
    if not row.get("n_chips"):
        inferred.append("n_chips=1 (not stated)")
    precision = row.get("precision") or "bf16"
    if precision not in FORWARD_PRECISIONS:
        raise refusal("precision", precision, FORWARD_PRECISIONS)
    devices = chips * system.devices_per_chip
    tp, cp, cfg = (cell_count(row, name) for name in ("tp", "cp", "cfg"))
    stated = _TP.search(row.get("source", ""))
    if not row.get("tp") and devices > cp * cfg:
        tp = int(stated[1]) if stated else devices // (cp * cfg)
        inferred.append(f"tp={tp} ({'its source' if stated else 'all devices'})")
    if tp * cp * cfg > devices:
        raise refusal("tp", str(tp), f"tp x cp x cfg up to {devices}, the devices of {chips} {row['chip']}")
    size = _size(row, model, inferred)
    return PassCase(
        id=row["id"],
        chip=row["chip"],
        source=row.get("source", ""),
        model=model,
        height=size.get("height", 0),
        width=size.get("width", 0),
        frames=size.get("frames", 0),
        tokens=size.get("tokens", 0),
        branches=cell_count(row, "branches"),
        system_id=system.id,
        chips=chips,
        plan=ForwardPlan(tp=tp, cp=cp, cfg=cfg, batch=cell_count(row, "batch"), precision=precision, lnc=system.lnc),
        stack=row.get("framework", ""),
        measured_s=seconds,
        inferred=tuple(inferred),
    )


def _size(row: PublishedRow, model: Model, inferred: list[str]) -> dict[str, int]:
    """Height, width, frames, or tokens, of a row; where it states none, those of its kind of model."""
    text = row["shape"].casefold()
    if text:
        found = _SIZE.fullmatch(text) or _TOKENS.fullmatch(text)
        if not found:
            raise refusal("shape", row["shape"], "HEIGHTxWIDTH, HEIGHTxWIDTHxFRAMES, or N tokens")
        return {name: int(n) for name, n in found.groupdict().items() if n}
    latent = model.captured.latent if model.captured else None
    if latent is None:
        raise RefusedError("shape: not stated")
    size = dict(_notes()["sizes"]["clip" if (latent.vae_temporal or 1) > 1 else "image"])
    inferred.append(f"shape={'x'.join(map(str, size.values()))} (not stated; {_notes()['source']})")
    return size
