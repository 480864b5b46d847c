"""A collective among chips, or weights from a trainer to rollout workers (`mowich collective`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from mowich.estimate import Notes, told
from mowich.evidence.collective_times import CollectiveMachine, times
from mowich.facts import Facts
from mowich.machines import collectives
from mowich.machines.system import DEVICE_LAYER, logical_cores, resolve
from mowich.models.model import Model
from mowich.requests.rooms.collective import SCHEMA, WEIGHTS_KIND, CollectiveRequest
from mowich.rl.sync import sync_times
from mowich.shown import Result
from mowich.studies.explain.rules.rule import R, under
from mowich.studies.explain.source import Numbers, Source
from mowich.studies.explain.tree import ResultPath, flat_numbers
from mowich.studies.rooms.collective.group import CollectiveStudy, collective
from mowich.studies.rooms.collective.weight_sync import sync_ends, weight_sync


def answer(asked: CollectiveRequest) -> CollectiveStudy:
    """Time of a collective among whole chips, for each size; of "weights", of a sync from a trainer to rollout workers,
    for each method.

    Args:
        kind: "all-reduce", "all-gather", "reduce-scatter", "all-to-all" ... or "weights".
        on: one system, "trn3:64"; of weights the trainer's.
        sizes: bytes, or "1GiB".
        group: chips of a group; None: all.
        network: another network than the machine's own.
        oversubscription: of the network, at least 1.
        fail: failed links or chips, "link:3".
        beside: other jobs on the same links.
        layer: software that calls it: "graph" (a compiled graph, on the device), "kernel", "framework".
        lnc: ranks are logical cores of so many physical ones; None: whole chips.
        model: of weights: the model that is sent.
        to: of weights: the machine of the rollout workers; "": the trainer's own chips.
        method: of weights: "reshard", "rdma", "relay" ...; "": every method that leads there.
        link_Bps: of weights: link between the sites, bytes/s or "100Gbit/s"; None: they share a network.
        worker: of weights: chips of one rollout worker; None: the fewest that hold the weights twice.
        weights: of weights: format that the workers serve in.
        facts: other facts than the shipped ones.

    Returns: a `CollectiveStudy`: `.rows`, one for each size. Units: seconds, bytes, bytes per second.

    Example:
        >>> import mowich
        >>> found = mowich.collective("all-reduce", "trn3:64", sizes=["1MiB", "1GiB"])
        >>> found.rows[0].time_s.unit
        's'
        >>> sync = mowich.collective("weights", "h100:16", model="qwen3-30b-a3b", to="trn3:32", method="relay")
        >>> sync.rows[0].algorithm
        'relay'
    """
    return collective(asked) if asked.model is None else weight_sync(asked)


_LEVEL = [
    R("joins", "chips", "chips that one domain of this level joins", "lookup: as the facts of the system state it"),
    R("of", "domains", "domains of this level in the machine", "inside: chips of the machine / chips of a domain"),
    R(
        "Bps",
        "B/s",
        "bandwidth of a chip at this level, one way",
        "lookup: as the facts of the system and its chip state it",
    ),
    R(
        "hops",
        "links",
        "links between the two chips of a domain that are furthest apart",
        "lookup: of the kind of the level",
    ),
    R(
        "cut_Bps",
        "B/s",
        "bandwidth through the middle of a domain, one way",
        "inside: links across the worst even cut x rate",
    ),
    R("latency_s", "s", "time of one step at this level", "lookup: as the facts of the network state it"),
]

RULES = (
    *under("levels *", _LEVEL),
    R(
        "slowdown",
        "1",
        "time of the bytes on failed or shared links over that on whole ones",
        "simulation: max-min fair flows over the links that are left; 1 where all are whole",
    ),
    R("rows * bytes", "B", "size of the buffer (of an all-to-all: what each sends)", "lookup: as asked: --bytes"),
    R("rows * ranks", "chips", "chips that take part", "lookup: as asked: --group, less failed chips"),
    R("rows * time_s", "s", "time of the collective", "= sum(parts)"),
    R(
        "rows * time_s breakdown *",
        "s",
        "what a level's bytes, or the steps, take of the time",
        "terms: the terms below",
    ),
    R(
        "rows * trainer_s",
        "s",
        "what a sync holds the trainer",
        "terms: the parts in which it takes part (rl/sync.py, mowich help rl-sync)",
    ),
    R(
        "rows * workers_s",
        "s",
        "what a sync holds the workers",
        "terms: the parts in which they take part (rl/sync.py, mowich help rl-sync)",
    ),
    R("rows * tensors", "1", "tensors that a device of a worker takes by name", "terms: sync_load below"),
    R("rows * busbw_Bps", "B/s", "bus bandwidth as nccl-tests define it", "= bus_factor * bytes / time_s"),
)
"""What each number is."""


def source(result: Result, at: ResultPath, row: Result, facts: Facts, model: Callable[[], Model]) -> Source:
    """One size of a collective, or one method of sending weights, made again."""
    inputs = result["inputs"]
    if inputs["kind"] == WEIGHTS_KIND:
        return _sync_row(at, inputs, row, model(), facts)
    kind, on, network = inputs["kind"], inputs["on"], inputs["network"] or ""
    over, slow = float(inputs.get("oversubscription") or 1.0), float(result["slowdown"])
    lnc = inputs.get("lnc") or 0
    each = logical_cores(facts, resolve(facts, on), lnc).devices_per_chip if lnc else 1
    runs_on = CollectiveMachine(
        on=on,
        chips=max(resolve(facts, on).chips, -(-inputs["group"] // each)),
        network=network,
        oversubscription=over,
        layer=inputs.get("layer") or DEVICE_LAYER,
        lnc=lnc,
    )
    asked = SCHEMA.of(
        facts,
        kind=kind,
        on=on,
        sizes=[row["bytes"]],
        group=inputs.get("group"),
        network=network,
        oversubscription=over,
        fail=inputs["faults"],
        beside=inputs["beside"],
        layer=runs_on.layer,
        lnc=lnc or None,
    )
    n, S = float(row["ranks"]), np.array([float(row["bytes"])])
    size, stride = np.array([n]), np.ones(1)

    def numbers(known: Facts, wanted: ResultPath) -> Numbers:
        found = collective(replace(asked, facts=known))
        return flat_numbers(found.to_dict()["rows"][0])  # type: ignore[index]

    def record(name: ResultPath, known: Facts, notes: Notes) -> None:
        """The slowdown by faults and by what runs beside is held."""
        if name[0] not in ("time_s", "busbw_Bps"):
            return
        machine = runs_on.system(known)
        for hop in collectives.hops(machine, size, stride):
            if float(hop.r[0]) > 1:
                words = "what one chip drives on it, one way"
                notes.add(f"level {hop.level.name}", hop.Bps, "B/s", words=words, joins=hop.r, step_s=hop.step_s)
        if machine.fabric.pass_Bps is not None:
            words = "what the cores of a rank pass on, at once with the links; the first bytes are faster"
            notes.add("cores", 1.0 / collectives.core_pass_B(machine, size)[0], "B/s", words=words)
        if machine.layer is not None:
            words = "what the software that calls it adds"
            notes.add("call", collectives.call_s(machine, size, stride), "s", words=words, layer=runs_on.layer)
        if kind in ("all-to-all", "permute"):
            notes.add(
                row["algorithm"],
                times(machine, kind, S, row["ranks"], slow)[0],
                "s",
                words="latency of the steps and bytes over the links, level by level (mowich help collectives)",
                S=S,
                n=n,
            )
        else:
            for way in collectives.algorithms(machine, size, stride, kind):
                if np.isfinite(way.latency_s).all():
                    is_taken = way.name == row["algorithm"].split(" + ")[0]
                    law = told(
                        notes, way.name, collectives.pipelined_s, note="the least, so it is taken" if is_taken else ""
                    )
                    collectives.law_s(machine, way.latency_s, way.bulk_s, way.x_s(machine, S) / S, S, S, law)
        if slow > 1.0:
            notes.add(
                "slowdown",
                slow,
                "1",
                words="bytes' term over its term on whole links, by max-min fair flows",
                faults=", ".join(inputs["faults"]) or "-",
                beside=", ".join(inputs["beside"]) or "-",
            )

    return Source(
        at=at,
        numbers=numbers,
        record=record,
        symbols=lambda known: {"bus_factor": collectives.bus_factor(kind, int(n))},
        title=f"{kind} on {on}",
    )


def _sync_row(at: ResultPath, inputs: Result, row: Result, model: Model, facts: Facts) -> Source:
    """One method of sending weights."""
    method, link_Bps, to = str(row["algorithm"]), inputs["link_Bps"], inputs["to"] or ""
    given = {"worker": inputs["worker"], "weights": inputs["weights"], "link_Bps": link_Bps, "method": method}
    asked = SCHEMA.of(facts, kind=WEIGHTS_KIND, on=inputs["on"], to=to, model=model, **given)

    def numbers(known: Facts, wanted: ResultPath) -> Numbers:
        found = weight_sync(replace(asked, facts=known))
        return flat_numbers(found.rows[0].to_dict())

    def record(name: ResultPath, known: Facts, notes: Notes) -> None:
        ends = sync_ends(known, model, inputs["on"], to, worker=inputs["worker"], weights=inputs["weights"])
        sync_times(model, *ends, method, facts=known, link_Bps=link_Bps, notes=notes)

    return Source(
        at=at, numbers=numbers, record=record, symbols=lambda known: {"bus_factor": 1.0}, title=f"weights by {method}"
    )
