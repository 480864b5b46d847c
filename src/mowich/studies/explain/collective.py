"""A row of a collective made again."""

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
from mowich.requests.machines import COLLECTIVE, WEIGHTS_KIND
from mowich.rl.sync import sync_times
from mowich.shown import Result
from mowich.studies.explain.source import Numbers, Source
from mowich.studies.explain.tree import ResultPath, flat_numbers


def collective_row(result: Result, at: ResultPath, row: Result, facts: Facts, model: Callable[[], Model]) -> Source:
    """One size of a collective, or one method of sending weights."""
    from mowich.studies import collectives as study

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
    asked = COLLECTIVE.of(
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
        found = study.collective(replace(asked, facts=known))
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
    from mowich.studies.weight_sync import sync_ends, weight_sync

    method, link_Bps, to = str(row["algorithm"]), inputs["link_Bps"], inputs["to"] or ""
    given = {"worker": inputs["worker"], "weights": inputs["weights"], "link_Bps": link_Bps, "method": method}
    asked = COLLECTIVE.of(facts, kind=WEIGHTS_KIND, on=inputs["on"], to=to, model=model, **given)

    def numbers(known: Facts, wanted: ResultPath) -> Numbers:
        found = weight_sync(replace(asked, facts=known))
        return flat_numbers(found.rows[0].to_dict())

    def record(name: ResultPath, known: Facts, notes: Notes) -> None:
        ends = sync_ends(known, model, inputs["on"], to, worker=inputs["worker"], weights=inputs["weights"])
        sync_times(model, *ends, method, facts=known, link_Bps=link_Bps, notes=notes)

    return Source(
        at=at, numbers=numbers, record=record, symbols=lambda known: {"bus_factor": 1.0}, title=f"weights by {method}"
    )
