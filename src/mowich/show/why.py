"""Why a row of a comparison has its numbers, in words: its plan spelled out, where the time goes in five groups, what
takes the memory, what binds, and what would change it most. No raw identifier is shown: each has its words here.

The web page shows it beside the table; a plan and a part of a time have the same words wherever they are spelled out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mowich.estimate import Estimate
from mowich.operators.parts import TimePart
from mowich.price_terms import price_words
from mowich.show.charts_parts import CACHE_READ, memory_words, time_part, whole_parts
from mowich.show.colours import GROUPS, look_of
from mowich.show.formats import number_text
from mowich.show.headline import terms_cell
from mowich.show.legend import spelled_plan
from mowich.show.page import change_of, counted, estimate_of
from mowich.shown import Result
from mowich.software.vendors import HAND_TUNED
from mowich.studies.fact_labels import fact_label
from mowich.studies.ranking import rows_of, runs, same_chips, sizes
from mowich.studies.stated_plan import plan_words
from mowich.sums import float_sum

BINDS_WORDS: Mapping[str, str] = {
    "compute": "Arithmetic takes most of the time.",
    "hbm bandwidth": "Reading and writing memory takes most of the time.",
    "hbm capacity": "Memory size: with more of it another plan would be faster, or would fit.",
    "memory": "Memory size: no plan fits.",
    "expert all-to-all": "The exchange between experts takes most of the time.",
    "tensor-parallel links": "The exchange inside a layer takes most of the time.",
    "data-parallel network": "The exchange of gradients takes most of the time.",
    "pipeline": "Waiting between pipeline stages takes most of the time.",
    "host": "The host program takes most of the time.",
    "host memory link": "The link to the host's memory takes most of the time.",
    "no legal plan": "No plan can be made of this many chips.",
}
"""What binds, as a sentence; words without one follow "Most of the time goes to"."""

MOST_MOVES = 4
"""Facts that are said to move a row most."""
_KINDS = {
    "measured": ("measured", "fitted"),
    "simulated": ("simulated kernels",),
    "estimated": ("analytic",),
}
"""How sure a time is -> kinds of cost that count to it."""


def time_groups(time: Estimate, own: Mapping[str, TimePart] | None = None) -> list[dict[str, object]]:
    """The five groups of a time, in order, each with its seconds and its parts in words, largest first; none where the
    time is one number that is not split."""
    parts = whole_parts(time)
    if len([value for value in parts.values() if value]) < 2:
        return []
    found: dict[str, dict[str, float]] = {group: {} for group in GROUPS}
    for name, value in parts.items():
        part = time_part(name, own)
        found[part.group][part.words] = found[part.group].get(part.words, 0.0) + value
    return [
        {
            "name": name,
            "value": float_sum(said.values()),
            "parts": sorted(((w, v) for w, v in said.items() if v), key=lambda part: -part[1]),
        }
        for name, said in found.items()
    ]


def binds_words(binds: str) -> str:
    """What binds, as a sentence."""
    return BINDS_WORDS.get(binds) or (f"Most of the time goes to {binds}." if binds else "")


def _phrases(plan: Result) -> list[list[str]]:
    """A plan, a word of it and its meaning each."""
    return [[word, meaning] for word, meaning in spelled_plan(plan_words(plan))]


def _plans(row: Result) -> list[dict[str, object]]:
    """What a row's chips do: a title and phrases for the plan, or for each kind of worker."""
    if row.get("plan"):
        return [{"title": "Plan", "phrases": _phrases(row["plan"])}]
    if not row.get("decode"):
        return []
    count = row["replicas"]
    if row["mode"] == "aggregated":
        title = f"{counted(count['decode'], 'worker')} for prompts and answers"
        return [{"title": title, "phrases": _phrases(row["decode"])}]
    return [
        {"title": f"{counted(count['prefill'], 'worker')} for prompts", "phrases": _phrases(row["prefill"])},
        {"title": f"{counted(count['decode'], 'worker')} for answers", "phrases": _phrases(row["decode"])},
    ]


def sureness(coverage: Mapping[str, float]) -> dict[str, float]:
    """Shares of a time that rest on measurements, on simulated kernels, and on formulas and estimates.

    >>> sureness({"fitted": 0.75, "simulated kernels": 0.25})
    {'measured': 0.75, 'simulated': 0.25, 'estimated': 0.0}
    """
    known = {kind for kinds in _KINDS.values() for kind in kinds}
    out = {name: float_sum(coverage.get(kind, 0.0) for kind in kinds) for name, kinds in _KINDS.items()}
    return {**out, "estimated": out["estimated"] + float_sum(v for kind, v in coverage.items() if kind not in known)}


def why_of(row: Result) -> dict[str, object]:
    """Why one row has its numbers, as plain data."""
    times = [(key, title) for key, title in _TIMES if row.get(key) and estimate_of(row[key]).value is not None]
    main = estimate_of(row[times[0][0]]) if times else None
    memory = row.get("memory_B") or {}
    return {
        "plans": _plans(row),
        "times": [
            {
                "title": title,
                "metric": key,
                "groups": time_groups(estimate_of(row[key]), CACHE_READ if key == "tpot_s" else None),
            }
            for key, title in times
            if estimate_of(row[key]).breakdown
        ],
        "memory": [
            [memory_words(name), value] for name, value in sorted(memory.items(), key=lambda kv: -kv[1]) if value > 0
        ],
        "binds": binds_words(str(row.get("binds") or "")),
        "price": price_words(str(row.get("price") or "")),
        "sure": sureness(main.coverage) if main is not None else {},
        "users": _users(row),
        "announced": bool(row.get("estimated")) or look_of(str(row.get("system_id") or "")).is_announced,
        "moves": [
            [fact_label(m["fact"]), change_of(m["at_low"]), change_of(m["at_high"])]
            for m in (row.get("spread") or ())[:MOST_MOVES]
        ],
    }


def _users(row: Result) -> dict[str, object] | None:
    """Users that a plan of serving decodes at once, with what they are made of; None where a row has no such plan. Its
    workers and the sequences of each are choices of the plan, which have no range."""
    batch, workers = row.get("batch"), (row.get("replicas") or {}).get("decode")
    if not row.get("decode") or not batch or not workers:
        return None
    return {"value": batch * workers, "of": f"{number_text(batch)} × {workers:,}" if workers > 1 else ""}


_TIMES = (("step_s", "Time of a step"), ("tpot_s", "Time of an output token"), ("ttft_s", "Time to the first token"))


def whys(result: Result) -> list[dict[str, object]]:
    """Why each row of a comparison has its numbers."""
    return [why_of(row) for row in rows_of(result)]


def footing(result: Result) -> str:
    """What all rows have in common, in a line: "16,384 chips each; cost of ownership for all; facts 11e0620c8a96"."""
    rows = rows_of(result)
    equal = str(result["inputs"].get("equal") or "chips")
    asked = {int(row.get("chips_requested") or 0) for row in rows}
    if len(asked) == 1 or same_chips(rows):
        said = [f"{counted(max(asked), 'chip')} each"]
    else:
        footing_words = "" if equal == "chips" else f" (equal {_EQUAL_WORDS.get(equal, equal)})"
        said = [f"chips: {sizes(rows)}{footing_words}"]
    terms = _terms(rows)
    said += [f"{terms[0]} for all" if len(terms) == 1 else "prices of different kinds"] if terms else []
    software = result["inputs"].get("software")
    if software:
        said.append(f"software: {'hand-tuned where there is some' if software == HAND_TUNED else software}")
    if result.get("facts_hash"):
        said.append(f"facts {result['facts_hash']}")
    return "; ".join(said)


_EQUAL_WORDS = {"usd": "dollars an hour"}


def _terms(rows: Sequence[Result]) -> list[str]:
    """Kinds of price of the rows that run."""
    found = [terms_cell(str(row.get("price") or "")) for row in rows if runs(row)]
    return list(dict.fromkeys(word for word in found if word != "?"))
