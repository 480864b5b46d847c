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
    memory = tuple(f"{root}.memory.{k}" for k in ("mbu_bandwidth", "hbm_bandwidth"))

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

    def terms(name: ResultPath, notes: Notes) -> None:
        chosen = (
            [str(name[2])]
            if name[0] == "time_s" and len(name) > 2
            else known_parts
            if name[0] in ("time_s", "mfu", "hfu", "mbu", "engines", "top")
            else []
        )
        for k in chosen:
            paths = (f"{root}.{k}",) if k in now else ()
            notes.add(k, parts[k], "s", words="time on the critical path that this fact sets", facts=paths)

    clock = f"{root}.tensor_engine.clock"
    rate, engines = f"{root}.dma.rate", f"{root}.dma.engines"
    cores = int(result["cores"])
    symbols = {
        "peak": 2.0 * 128 * 128 * facts.number(clock) * cores,
        "hbm_Bps": stack_of(facts),
        "dma_Bps": facts.number(rate) * facts.number(engines) * cores,
    }
    behind = {"peak": (clock,), "hbm_Bps": memory, "dma_Bps": (rate, engines)}
    return Source(
        at=(), numbers=numbers, terms=terms, symbols=symbols, behind=behind, title=f"kernel on {result['target']}"
    )
