"""A kernel profile made again from its parts."""

from __future__ import annotations

from collections.abc import Mapping

from mowich.estimate import Notes
from mowich.facts import Facts
from mowich.shown import Result
from mowich.studies.explain.source import Numbers, Source
from mowich.studies.explain.tree import ResultPath


def kernel(result: Result, facts: Facts) -> Source:
    """A profile: its critical path is a sum over facts of the core, so a fact that moves takes its part along (to first
    order: the path may change)."""
    from mowich.neuroncore.clock.costs import Costs
    from mowich.neuroncore.clock.schedule import stack_Bps
    from mowich.neuroncore.profile import part_at
    from mowich.neuroncore.targets import generation_of

    generation = generation_of(result["target"].split()[0])
    root = f"neuroncore.timing-v{generation}"
    parts: Mapping[str, float] = result["time_s"]["breakdown"]
    known_parts = [k for k in parts if facts.get(f"{root}.{k}") is not None]
    now = {k: facts.number(f"{root}.{k}") for k in known_parts}

    def stack_of(known: Facts) -> float:
        return stack_Bps(Costs(generation, known))

    def numbers(known: Facts, wanted: ResultPath) -> Numbers:
        out: dict[ResultPath, float] = {}
        total = 0.0
        for name, seconds in parts.items():
            factor = known.number(f"{root}.{name}") / now[name] if now.get(name) else 1.0
            out[("time_s", "breakdown", name)] = part_at(name, seconds, factor)
            total += out[("time_s", "breakdown", name)]
        out[("time_s",)] = total
        ratio = total / result["time_s"]["value"] if result["time_s"]["value"] else 1.0
        mbu = result["mbu"] / ratio * stack_of(facts) / stack_of(known)
        return {**out, **{(k,): result[k] / ratio for k in ("mfu", "hfu")}, ("mbu",): mbu}

    def record(name: ResultPath, known: Facts, notes: Notes) -> None:
        chosen = (
            [str(name[2])]
            if name[0] == "time_s" and len(name) > 2
            else known_parts
            if name[0] in ("time_s", "mfu", "hfu", "mbu", "engines", "top")
            else []
        )
        made = numbers(known, name)
        for k in chosen:
            value = made["time_s", "breakdown", k]
            notes.add(k, value, "s", words="time on the critical path that this fact sets")

    cores = int(result["cores"])

    def symbols(known: Facts) -> dict[str, float]:
        return {
            "peak": 2.0 * 128 * 128 * known.number(f"{root}.tensor_engine.clock") * cores,
            "hbm_Bps": stack_of(known),
            "dma_Bps": known.number(f"{root}.dma.rate") * known.number(f"{root}.dma.engines") * cores,
        }

    title = f"kernel on {result['target']}"
    return Source(at=(), numbers=numbers, record=record, symbols=symbols, title=title)
