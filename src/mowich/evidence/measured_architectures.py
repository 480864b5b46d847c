"""Which architectures have published measurements on a chip: a rate of any other is extrapolated, and says so.

Architectures are those of `serving.engines.architecture`: dense, moe, mla, hybrid. A chip counts as measured where its
processor was measured under another name or in another machine: same family, equally fast memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache

from mowich.errors import UserError
from mowich.evidence.measured_tables import TRAINIUM, shipped_rows
from mowich.evidence.serving_notes import find_model
from mowich.facts import Facts
from mowich.serving.anchors import anchors_for
from mowich.serving.engines import architecture
from mowich.serving.own_rows import own_rows
from mowich.software.vendors import chip_of

_AS_FAST = 0.05
"""Two chips of a family have the same processor where their memory speeds differ by at most this."""

MeasuredModels = Mapping[str, tuple[str, ...]]
"""Architecture -> names of the models that were measured, sorted."""


def served_on(facts: Facts, system_id: str) -> MeasuredModels:
    """What was measured in serving on the chip of a system, by the rows that ship and those of a user.

    >>> from mowich.facts import load_facts
    >>> served_on(load_facts(), "trn3-gen2")
    {'moe': ('gpt-oss-20b', 'qwen3-30b-a3b')}
    """
    return _on_chip(facts, system_id, (*_served(), *facts.once(("served", "own"), _own)))


def most_ranks(facts: Facts, system_id: str) -> int:
    """The most ranks of a worker that served a mixture of experts in a published row of Trainium on the chip of a
    system; 0 where none did.

    >>> from mowich.facts import load_facts
    >>> [most_ranks(load_facts(), name) for name in ("trn2", "trn3-gen2")]
    [64, 8]
    """
    return max((ranks for chip, ranks in _mixtures() if _is_same(facts, chip_of(facts, system_id), chip)), default=0)


def trained_on(facts: Facts, system_id: str) -> MeasuredModels:
    """What was measured in training on the chip of a system.

    >>> from mowich.facts import load_facts
    >>> trained_on(load_facts(), "trn3-gen2")
    {}
    """
    return _on_chip(facts, system_id, _trained(facts))


def extrapolated_from(measured: MeasuredModels, arch: str) -> str:
    """What a rate of an architecture is extrapolated from; "" where it was measured.

    >>> extrapolated_from({"moe": ("gpt-oss-20b",)}, "mla"), extrapolated_from({}, "moe")
    ('extrapolated from gpt-oss-20b on the same chip', 'extrapolated from other chips')
    >>> extrapolated_from({"moe": ("gpt-oss-20b",)}, "moe")
    ''
    """
    if arch in measured:
        return ""
    near = sorted(measured, key=lambda a: (a == "dense", a))  # mixtures are closer to each other than to dense models
    return f"extrapolated from {measured[near[0]][0]} on the same chip" if near else "extrapolated from other chips"


def _on_chip(facts: Facts, system_id: str, rows: Iterable[tuple[str, str, str]]) -> MeasuredModels:
    """rows: (chip, architecture, model)."""
    own = chip_of(facts, system_id)
    alike = {chip for chip in facts.ids("chips") if _is_same(facts, own, chip)}
    found: dict[str, set[str]] = {}
    for chip, arch, model in rows:
        if chip in alike:
            found.setdefault(arch, set()).add(model)
    return {arch: tuple(sorted(found[arch])) for arch in sorted(found)}


def _is_same(facts: Facts, one: str, other: str) -> bool:
    if one == other:
        return True
    families = [facts.meta("chips", chip).get("family") for chip in (one, other)]
    if None in families or families[0] != families[1]:
        return False
    fast = [facts.get(f"chips.{chip}.memory.hbm_bandwidth") for chip in (one, other)]
    speeds = [float(f.value) for f in fast if f is not None and isinstance(f.value, float)]
    return len(speeds) == len(fast) and max(speeds) <= (1.0 + _AS_FAST) * min(speeds)


def _own(facts: Facts) -> tuple[tuple[str, str, str], ...]:
    """(chip, architecture, model) of the rows that a user measured (`mowich calibrate`)."""
    return tuple((row.one.chip, row.one.arch, row.one.model) for row in own_rows(facts))


@cache
def _served() -> tuple[tuple[str, str, str], ...]:
    """(chip, architecture, model) of every measurement: the rows that ship, and those of Trainium."""
    words = anchors_for().words
    found = set(zip(words["chip"], words["model"], strict=True))
    found |= {(row["chip"], row["model"]) for row in shipped_rows(TRAINIUM) if row["answerable"] == "yes"}
    return tuple((chip, arch, name) for chip, model in sorted(found) for arch, name in _model(model))


@cache
def _mixtures() -> tuple[tuple[str, int], ...]:
    """(chip, ranks) of the rows of Trainium whose model is a mixture of experts."""
    rows = [row for row in shipped_rows(TRAINIUM) if row["answerable"] == "yes"]
    of = {row["model"]: _model(row["model"]) for row in rows}
    return tuple((r["chip"], int(r["tp"])) for r in rows if any(arch != "dense" for arch, _ in of[r["model"]]))


@cache
def _model(name: str) -> tuple[tuple[str, str], ...]:
    """(architecture, our name) of a model as tables call it; none where we do not know it."""
    try:
        model = find_model(name)
    except UserError:
        return ()
    return ((architecture(model), model.name),)


def _trained(facts: Facts) -> Iterable[tuple[str, str, str]]:
    """(chip, architecture, model) of published training steps."""
    for name, arch, model in _steps():
        try:
            yield str(facts.meta("systems", facts.resolve_system(name))["chip"]), arch, model
        except (UserError, KeyError):  # a chip that our facts do not have
            continue


@cache
def _steps() -> tuple[tuple[str, str, str], ...]:
    return tuple(dict.fromkeys((row["chip"], _columns(row), row["model_name"]) for row in shipped_rows()))


def _columns(row: Mapping[str, str]) -> str:
    """The architecture that the columns of a training row state."""
    if row["mla"]:
        return "mla"
    return "moe" if float(row["n_experts"] or 0.0) > 1.0 else "dense"
