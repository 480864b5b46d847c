"""The measured points nearest to a training row, predicted again. Their errors show best how far to trust the row.

Near means the same chip, then dense or mixture of experts, then the size of the model and of the machine, in
logarithms. Each shows its error by the shipped fit; docs/records/accuracy.md has the errors of fits without the row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mowich.errors import UserError
from mowich.evidence.measured_tables import shipped_rows
from mowich.evidence.rows import read_cases
from mowich.evidence.scores import RowResult
from mowich.evidence.validate import predict
from mowich.facts import Facts
from mowich.models.model import Model

OTHER_KIND = 2.0
"""Distance between a dense model and a mixture of experts: as far as a model e^2 times larger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Near:
    """A measured point, its error (`result`), and its distance from the row; is_chip: on the same chip, else on another
    chip of its vendor."""

    model: str
    is_chip: bool
    chips: int
    params: float
    distance: float
    result: RowResult


def nearest(model: Model, system_id: str, chips: int, facts: Facts, *, count: int = 3) -> tuple[Near, ...]:
    """The nearest published rows of the same system or chip, one of each model and size. Without any, rows of the
    vendor's other chips; none where the vendor has none."""
    own = str(facts.meta("systems", system_id)["chip"])
    of = _nearest(model, chips, facts, count, lambda chip: chip == own)
    if of:
        return of
    vendor = facts.meta("chips", own)["vendor"]
    return _nearest(
        model, chips, facts, count, lambda chip: facts.meta("chips", chip)["vendor"] == vendor, is_chip=False
    )


def _nearest(
    model: Model, chips: int, facts: Facts, count: int, takes: Callable[[str], bool], *, is_chip: bool = True
) -> tuple[Near, ...]:
    """The nearest rows on chips that `takes` accepts."""
    is_moe = model.has_experts
    names: dict[str, bool] = {}

    def same_chip(name: str) -> bool:
        if name not in names:
            try:
                names[name] = takes(str(facts.meta("systems", facts.resolve_system(name))["chip"]))
            except (UserError, KeyError):  # an unknown chip in a published table has no neighbours
                names[name] = False
        return names[name]

    scored = []
    for row in shipped_rows():
        if not same_chip(row["chip"]):
            continue
        params = _number(row.get("params_total")) or _estimate(row)
        size = _number(row.get("n_chips"))
        if not params or not size:
            continue
        kind = OTHER_KIND if is_moe != bool(_number(row.get("n_experts"))) else 0.0
        scored.append(
            (kind + abs(math.log(params / model.params)) + 0.5 * abs(math.log(size / chips)), row, params, int(size))
        )
    scored.sort(key=lambda item: (item[0], item[1]["id"]))
    out: list[Near] = []
    seen: set[tuple[str, int]] = set()
    for distance, row, params, size in scored:
        key = (row["model_name"], size)
        if key in seen or len(seen) > 4 * count:
            continue
        seen.add(key)
        case = read_cases([row], facts)[0]
        if not isinstance(case, str):
            out.append(
                Near(
                    is_chip=is_chip,
                    model=row["model_name"],
                    chips=size,
                    params=params,
                    distance=distance,
                    result=predict(case, facts),
                )
            )
        if len(out) == count:
            break
    return tuple(out)


def _number(text: str | None) -> float:
    try:
        return float(text or 0.0)
    except ValueError:
        return 0.0


def _estimate(row: Mapping[str, str]) -> float:
    """Parameters from the columns of a row that states no total: 12 L h^2 and the token table, gated feed-forwards and
    experts by their width."""
    L, h = _number(row.get("n_layers")), _number(row.get("hidden"))
    ffn, experts, width = (_number(row.get(k)) for k in ("ffn_hidden", "n_experts", "moe_ffn_hidden"))
    if not L or not h:
        return 0.0
    each = 4.0 * h * h + 3.0 * h * ((experts * width) if experts and width else (ffn or 4.0 * h))
    return L * each + 2.0 * _number(row.get("vocab")) * h
