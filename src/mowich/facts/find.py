"""Facts by what a reader calls them: the paths that a name means, the facts below a path, two things side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict

from mowich.errors import UserError, did_you_mean
from mowich.facts import Fact, Facts
from mowich.facts.freshness import confirmed_on
from mowich.facts.load import FACT_KINDS


def facts_below(facts: Facts, prefix: str) -> Iterator[Fact]:
    """Every fact at or below a path, in file order."""
    fact = facts.get(prefix)
    if fact is not None:
        yield fact
        return
    for key in facts.children(prefix):
        yield from facts_below(facts, f"{prefix}.{key}")


def fact_rows(facts: Facts, paths: Iterable[str]) -> list[dict[str, object]]:
    """Facts below paths, each with the day on which it was last confirmed."""
    found = [fact for path in paths for fact in facts_below(facts, path)]
    days = [confirmed_on(facts.leaf(fact.path), facts.sources) for fact in found]
    return [
        {**asdict(fact), "confirmed": day.isoformat() if day else None} for fact, day in zip(found, days, strict=True)
    ]


def locate(facts: Facts, name: str) -> list[str]:
    """The paths that a name means: a path of facts, "kind.id", a chip, a system (with its chip), or a file of any
    kind."""
    kind = name.split(".")[0]
    if kind in FACT_KINDS and "." in name:
        if facts.get(name) is None and not facts.children(name):
            facts.fact(name)  # raises, with the closest path
        return [name]
    for kind in FACT_KINDS:
        if name in facts.ids(kind):
            return [f"{kind}.{name}"] + (
                [f"chips.{facts.meta('systems', name)['chip']}"]
                if kind == "systems" and facts.meta("systems", name).get("chip")
                else []
            )
    try:
        system = facts.resolve_system(name)
    except UserError as error:
        known = [i for k in FACT_KINDS for i in facts.ids(k)]
        raise UserError(
            f"unknown name '{name}'",
            allowed=(
                "a path such as chips.trainium3.memory.hbm_capacity, a chip, a system, or an id of `mowich facts list`"
            ),
            fix=did_you_mean(name, known) or error.fix,
        ) from error
    return [f"systems.{system}", f"chips.{facts.meta('systems', system)['chip']}"]


def diff_paths(facts: Facts, one: str, two: str) -> list[tuple[str, Fact | None, Fact | None]]:
    """Fields of two things side by side: chips of systems, then the systems; fields in order of first appearance."""
    a, b = (
        dict(zip([p.split(".")[0] for p in paths], paths, strict=True))
        for paths in (locate(facts, one), locate(facts, two))
    )
    out: list[tuple[str, Fact | None, Fact | None]] = []
    for kind in ("chips", *[k for k in a if k != "chips"]):
        if kind not in a or kind not in b:
            continue
        left, right = ({f.path[len(root) + 1 :]: f for f in facts_below(facts, root)} for root in (a[kind], b[kind]))
        out += [(field, left.get(field), right.get(field)) for field in dict.fromkeys([*left, *right])]
    if not out:
        raise UserError(
            f"'{one}' and '{two}' are not of the same kind", allowed="two chips, two systems, or two ids of one kind"
        )
    return out
