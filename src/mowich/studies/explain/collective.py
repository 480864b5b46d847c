"""A row of a collective made again."""

from __future__ import annotations

import math

import numpy as np

from mowich.estimate import Notes
from mowich.facts import Facts
from mowich.machines import collectives
from mowich.machines.system import resolve
from mowich.machines.topology import on_network, per_chip
from mowich.shown import Result
from mowich.studies.explain.source import Numbers, Source
from mowich.studies.explain.tree import ResultPath, flat_numbers


def collective_row(result: Result, at: ResultPath, row: Result, facts: Facts) -> Source:
    """One size of a collective."""
    from mowich.studies import collectives as study

    inputs = result["inputs"]
    over = float(inputs.get("oversubscription") or 1.0)

    def numbers(known: Facts, wanted: ResultPath) -> Numbers:
        found = study.collective(
            known,
            inputs["kind"],
            inputs["on"],
            sizes=[row["bytes"]],
            group=inputs.get("group"),
            network=inputs["network"] or "",
            oversubscription=over,
            fail=inputs["faults"],
            beside=inputs["beside"],
        )
        return flat_numbers(found.to_dict()["rows"][0])  # type: ignore[index]

    system = resolve(facts, inputs["on"])
    if inputs["group"] > system.chips:
        system = resolve(facts, inputs["on"], chips=inputs["group"])
    machine = per_chip(
        on_network(facts, system, inputs["network"] or "", oversubscription=over)
        if inputs["network"] or over != 1.0
        else system
    )
    n, B = float(row["ranks"]), float(row["bytes"])

    def terms(name: ResultPath, notes: Notes) -> None:
        if name[0] not in ("time_s", "busbw_Bps"):
            return
        size, stride = np.array([n]), np.ones(1)
        for hop in collectives.hops(machine, size, stride):
            if float(hop.r[0]) > 1:
                links = tuple(
                    system.paths[f"{hop.level.name}.{x}"]
                    for x in ("bandwidth", "latency")
                    if f"{hop.level.name}.{x}" in system.paths
                )
                notes.add(
                    f"level {hop.level.name}",
                    hop.Bps,
                    "B/s",
                    words="what one chip drives on it, one way",
                    joins=hop.r,
                    step_s=hop.step_s,
                    facts=links,
                )
        f = machine.fabric
        own = tuple(p for k, p in system.paths.items() if k.startswith("fabric."))
        if inputs["kind"] not in ("all-to-all", "permute"):
            for way in collectives.algorithms(machine, size, stride, inputs["kind"]):
                if math.isfinite(float(way.latency_s[0])):
                    T = float(collectives.law_s(machine, way.latency_s, way.bulk_s, way.per_B * B, np.array([B]))[0])
                    is_taken = way.name == row["algorithm"].split(" + ")[0]
                    bulk = way.bulk_s * (B / (B + f.large_B))
                    notes.add(
                        way.name,
                        T,
                        "s",
                        collectives.pipelined_s,
                        note="the least, so it is taken" if is_taken else "",
                        L=way.latency_s + bulk,
                        b=way.per_B,
                        S=B,
                        g=f.pipeline,
                        r=f.pipeline_limit,
                        facts=own,
                    )
        else:
            notes.add(
                row["algorithm"],
                row["time_s"]["value"],
                "s",
                words="latency of the steps and bytes over the links, level by level (docs/collectives.md)",
                S=B,
                n=n,
                facts=own,
            )
        slow = float(result["slowdown"])
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
        terms=terms,
        symbols={"bus_factor": collectives.bus_factor(inputs["kind"], int(n))},
        title=f"{inputs['kind']} on {inputs['on']}",
    )
