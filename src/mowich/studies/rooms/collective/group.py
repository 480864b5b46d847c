"""One collective on one machine, with its interval. Ranks are whole chips (GPUs)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mowich.errors import UserError, unknown
from mowich.estimate import Estimate
from mowich.evidence.collective_times import CollectiveMachine, timed
from mowich.facts import Facts
from mowich.machines import collectives, flows, links
from mowich.machines.system import DEVICE_LAYER, System, call_layers, logical_cores, parse_spec, resolve
from mowich.machines.topology import LevelRow, describe
from mowich.readback import record_of
from mowich.requests.rooms.collective import CollectiveRequest
from mowich.shown import Keyed, Rows, Shown
from mowich.units import show

FloatArray = NDArray[np.float64]

PUBLIC_TRN3 = "networks.measured.neuron_collectives.trn3_public"
"""What is measured in public of the collectives of Trainium 3, in words and with its date."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectiveRow(Keyed):
    """One size of a collective. time_s: Estimate; busbw_Bps: nccl-tests' bus bandwidth; binds: level or link, or
    "latency". Of weights one method: algorithm is its name, binds its longest part; trainer_s, workers_s: seconds that
    either side is held, None of a collective; tensors: that a device of a worker takes by name."""

    KEYS = "bytes ranks time_s busbw_Bps algorithm binds trainer_s? workers_s? tensors?"

    bytes: int
    ranks: int
    time_s: Estimate
    busbw_Bps: float
    algorithm: str
    binds: str
    trainer_s: float | None = None
    workers_s: float | None = None
    tensors: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectiveStudy(Shown):
    """Time against size of one collective among whole chips, or among logical cores of `lnc` physical ones. slowdown:
    of the bytes' term by faults and by what runs beside; 1 where whole; layer: of software that calls it; calls: that
    in words, "" where one layer alone is known; asked: what only weights ask (`weight_sync`).

    Units: seconds, bytes, bytes per second.

    Example:
        >>> import mowich
        >>> found = mowich.collective("all-reduce", "trn3:64", sizes=["1GiB"])
        >>> found.rows[0].time_s.unit
        's'
    """

    SCHEMA = "mowich/collective@1"
    KEYS = (
        "inputs.kind=kind inputs.on=system inputs.network=network:none inputs.group=group "
        "inputs.oversubscription=oversubscription inputs.layer=layer inputs.lnc=lnc inputs.faults=faults "
        "inputs.beside=beside inputs.=**asked facts_hash display calls levels slowdown rows warnings"
    )

    kind: str
    system: str
    display: str
    network: str
    rows: Rows[CollectiveRow]
    slowdown: float
    faults: tuple[str, ...]
    beside: tuple[str, ...]
    levels: tuple[LevelRow, ...]
    warnings: tuple[str, ...]
    group: int
    oversubscription: float
    layer: str
    calls: str
    lnc: int | None
    facts_hash: str
    asked: Mapping[str, object] = field(default_factory=dict)


def collective(asked: CollectiveRequest) -> CollectiveStudy:
    """Time of a collective among neighbouring chips for each size, with its interval. The group is alone on the
    machine but for what runs beside it. Raises UserError for an unknown kind, a group larger than the system, a layer
    that was not measured, and a fault that does not exist or leaves fewer than two chips."""
    facts, kind, lnc = asked.facts, asked.kind, asked.lnc
    if kind not in collectives.COLLECTIVE_KINDS:
        raise unknown("collective", kind, collectives.COLLECTIVE_KINDS)
    is_disturbed = bool(asked.fail or asked.beside)
    if lnc and is_disturbed:
        raise UserError(
            "links are laid out for whole chips", field="lnc", given=lnc, fix="leave out lnc, or fail and beside"
        )
    chips, wanted = _chips_and_group(facts, asked.on, asked.group, lnc or 0)
    runs_on = record_of(CollectiveMachine, asked, chips=chips, lnc=lnc or 0)
    system, data = runs_on.system(facts), np.array([float(b) for b in asked.sizes])
    runs = _disturbed(system, kind, data, wanted, asked.fail, asked.beside) if is_disturbed else _Runs(ranks=wanted)
    found, names, bound = timed(facts, runs_on, kind, asked.sizes, runs.ranks, runs.slowdown)
    notes = []
    if system.family == "neuroncore-v4":
        notes.append(f"{facts.text(PUBLIC_TRN3)}; link bandwidth is known to a factor of two, latency by analogy")
    return record_of(
        CollectiveStudy,
        asked,
        system=asked.on,
        display=system.display,
        rows=Rows(
            CollectiveRow(
                bytes=size,
                ranks=runs.ranks,
                time_s=estimate,
                busbw_Bps=collectives.bus_factor(kind, runs.ranks) * size / float(estimate),
                algorithm=algorithm,
                binds=binds,
            )
            for size, estimate, algorithm, binds in zip(
                asked.sizes,
                found,
                runs.algorithm or names,
                runs.binds or bound,
                strict=True,
            )
        ),
        slowdown=runs.slowdown,
        faults=asked.fail,
        levels=tuple(describe(system)),
        warnings=tuple(notes),
        group=wanted,
        calls=layer_words(facts, system, asked.layer),
        facts_hash=facts.hash(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Runs:
    """How a collective runs. ranks: that take part; slowdown: of the bytes' term, by what failed and what runs beside
    it; algorithm, binds: one for each size, None: as on a whole machine that is alone."""

    ranks: int
    slowdown: float = 1.0
    algorithm: Sequence[str] | None = None
    binds: Sequence[str] | None = None


def _chips_and_group(facts: Facts, on: str, group: int | None, lnc: int) -> tuple[int, int]:
    """(chips of the machine, ranks of the group). A system that is named without a size is as large as its group asks.
    Raises UserError for a group of one, and for one that is larger than a system of stated size."""
    system, has_size = resolve(facts, on), parse_spec(on)[2] is not None
    each = logical_cores(facts, system, lnc).devices_per_chip if lnc else 1
    wanted = system.chips * each if group is None else group
    if wanted < 2:
        raise UserError(f"a collective needs at least two {'ranks' if lnc else 'chips'}", field="group", given=wanted)
    chips = system.chips if has_size else max(system.chips, -(-wanted // each))
    if wanted > chips * each:
        raise UserError(
            "the group is larger than the system", field="group", given=wanted, allowed=f"2 to {chips * each}"
        )
    return chips, wanted


def layer_words(facts: Facts, system: System, layer: str) -> str:
    """The layer of software that calls a collective, in words; "" on machines of which one layer alone is known."""
    if len(call_layers(facts, system)) == 1:
        return ""
    if layer == DEVICE_LAYER:
        return "started on the device by a compiled graph, as steps of training and serving do: no call is added"
    called = system.layer
    assert called is not None
    what = {"kernel": "a kernel launched alone", "framework": "a call of the framework"}.get(layer, layer)
    ends = sorted({called.call_s, called.host_call_s})
    adds = " to ".join(show(end, "s") for end in ends)
    return f"{what}: adds {adds} to each" + (", more with more ranks on a host" if len(ends) > 1 else "")


def _disturbed(
    system: System, kind: str, data_B: FloatArray, group: int, fail: Sequence[str], beside: Sequence[str]
) -> _Runs:
    """How a collective runs where links or chips failed, or others run beside it. data_B: [sizes]."""
    if not beside and links.chips_of_unit(system):
        return _failed(system, kind, data_B, group, fail)
    local = links.laid_out(system, group, kind)
    graph, laid = links.build(local), min(group, local.chips)
    members, faults = list(range(laid)), dict[int, float]()
    for text in fail:
        what, index, share = links.parse_fault(graph, text)
        if what == "link":
            faults[index] = share
        elif index >= laid:
            raise UserError(
                "the chip is not in the group", field="fail", given=text, allowed=f"chip:0 to chip:{laid - 1}"
            )
        else:
            members = [m for m in members if m != index]
    left = group - laid + len(members)
    if left < 2:
        raise UserError("fewer than two chips are left", field="fail")
    others = [_beside(text, graph.chips) for text in beside]
    found = flows.asymmetric(local, kind, data_B, members, faults=faults, beside=others)
    whole = group > laid == len(members)  # a part of the group is laid out: the library chooses for all of it
    return _Runs(ranks=left, slowdown=found.slowdown, algorithm=None if whole else found.algorithm, binds=found.binds)


def _failed(system: System, kind: str, data_B: FloatArray, group: int, fail: Sequence[str]) -> _Runs:
    """How a collective runs where links or chips of a machine of many units failed. data_B: [sizes]."""
    numbers, dead, faults = links.LinkNumbers.of(system), set[int](), dict[int, float]()
    for text in fail:
        what, index, share = links.parse_fault(numbers, text)
        if what == "link":
            faults[index] = share
        elif index >= group:
            raise UserError(
                "the chip is not in the group", field="fail", given=text, allowed=f"chip:0 to chip:{group - 1}"
            )
        else:
            dead.add(index)
    if group - len(dead) < 2:
        raise UserError("fewer than two chips are left", field="fail")
    found = flows.failed(system, kind, data_B, group, dead=sorted(dead), faults=faults)
    return _Runs(ranks=group - len(dead), slowdown=found.slowdown, algorithm=found.algorithm, binds=found.binds)


def _beside(text: str, chips: int) -> tuple[str, list[int]]:
    kind, _, span = text.partition(":")
    first, _, last = span.partition("-")
    if kind not in collectives.COLLECTIVE_KINDS:
        raise unknown("collective", kind, collectives.COLLECTIVE_KINDS, field="beside")
    try:
        a, b = int(first), int(last)
    except ValueError:
        a, b = -1, -1
    if not 0 <= a < b < chips:
        raise UserError(
            "not a range of chips", field="beside", given=text, allowed=f"KIND:FIRST-LAST, chips 0 to {chips - 1}"
        )
    return kind, list(range(a, b + 1))
