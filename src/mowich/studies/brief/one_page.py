"""Answers behind a brief, each asked once, and the page that they make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from mowich.errors import EXIT_INFEASIBLE, UserError
from mowich.examples import names_of
from mowich.facts import Facts
from mowich.models import load_model
from mowich.models.model import Model
from mowich.progress import course
from mowich.requests.brief import BRIEF_SIZES
from mowich.shown import Rows
from mowich.studies.brief.known import AT, BEFORE, NEXT, SERVED_ON, SUBJECT, TO_SERVE, TO_TRAIN, Known
from mowich.studies.brief.now import claim_section, memory_section, price_section, scale_section
from mowich.studies.brief.outlook import energy_section, fleet_section, next_section, sure_section
from mowich.studies.brief.verdicts import Brief, BriefGap, Section, capital, plainly
from mowich.studies.compare import compare
from mowich.studies.fleet import fleet
from mowich.studies.gap import gap
from mowich.studies.serving_plan import compare_serving
from mowich.studies.value import value

_FLEET = "rainier"
"""The scenario of a fleet that a brief reads."""

_QUESTIONS = (
    claim_section,
    memory_section,
    scale_section,
    price_section,
    energy_section,
    next_section,
    fleet_section,
    sure_section,
)

_PROPERTIES = {
    "compute": "arithmetic",
    "bandwidth": "memory speed",
    "capacity": "memory size",
    "scale-up": "links between chips",
    "scale-out": "the network",
    "software": "software",
    "rest": "the rest of the machine",
}
"""Properties of a gap in plain words."""


def asked_once(facts: Facts, *, against: Sequence[str], models: Sequence[str | Model]) -> Known:
    """The answers that the questions read. Raises UserError where a rival is Trainium 3 itself, and where the first
    model has no plan on it."""
    if SUBJECT in against:
        raise UserError("Trainium 3 is what a brief is about", field="against", given=SUBJECT, allowed="other machines")
    chosen = tuple(load_model(m) if isinstance(m, str) else m for m in models)
    with course(len(BRIEF_SIZES) + len(chosen) + 3) as begin:
        return _known(facts, tuple(against), chosen, begin)


def _known(facts: Facts, against: Sequence[str], chosen: tuple[Model, ...], begin: Callable[[str], None]) -> Known:
    """The same of models that are read. begin: is told what is asked next."""
    systems, sizes = (SUBJECT, *against), {}
    for chips in BRIEF_SIZES:
        begin(f"training on {chips:,} chips of each")
        asked = (*systems, *(x for x in (BEFORE, NEXT) if x not in systems)) if chips == AT else systems
        sizes[chips] = compare(chosen[0], asked, train=TO_TRAIN, chips=chips, facts=facts)
    if sizes[AT].rows[0].plan is None:
        raise UserError(
            f"{chosen[0].name} has no plan on {AT:,} chips of Trainium 3: {sizes[AT].rows[0].reason}",
            field="models",
            given=chosen[0].name,
            code=EXIT_INFEASIBLE,
        )
    served = {}
    for model in chosen:
        begin(f"serving {model.name}")
        also = () if NEXT in systems else (NEXT,)
        served[model.name] = compare_serving(model, (*systems, *also), job=TO_SERVE, chips=SERVED_ON, facts=facts)
    begin("with one property exchanged after another")
    why = gap(chosen[0], SUBJECT, against[0], train=TO_TRAIN, chips=AT, facts=facts)
    begin("with less and more memory")
    loose = replace(TO_SERVE, ttft_s=float("inf"), tpot_s=float("inf"))
    memory = {
        "train": value([chosen[0]], f"{SUBJECT}:{AT}", of="memory", train=TO_TRAIN, points=4, facts=facts),
        "serve": value(chosen, f"{SUBJECT}:{SERVED_ON}", of="memory", serve=TO_SERVE, points=4, facts=facts),
        "bulk": value(chosen, f"{SUBJECT}:{SERVED_ON}", of="memory", serve=loose, points=4, facts=facts),
    }
    begin("in a fleet")
    return Known(
        facts=facts,
        rivals=tuple(against),
        models=chosen,
        sizes=sizes,
        served=served,
        gap=why,
        memory=memory,
        fleet=fleet(names_of("scenarios")[_FLEET], facts),
    )


def brief(facts: Facts, *, against: Sequence[str], models: Sequence[str | Model]) -> Brief:
    """The eight questions about Trainium 3. against: machines that it is set beside, the first is the one that `gap`
    explains; models: the first is trained, all are served. Raises UserError where a rival is
    Trainium 3 itself, and where the first model has no plan on it."""
    return page_of_known(asked_once(facts, against=against, models=models))


def page_of_known(known: Known) -> Brief:
    """What the answers say."""
    rows = [question(known) for question in _QUESTIONS]
    return Brief(
        inputs={
            "subject": SUBJECT,
            "against": list(known.rivals),
            "models": [m.name for m in known.models],
            "train": TO_TRAIN.inputs(),
            "sizes": list(BRIEF_SIZES),
            "serve": {
                "isl": TO_SERVE.prompt,
                "osl": TO_SERVE.output,
                "ttft_s": TO_SERVE.ttft_s,
                "tpot_s": TO_SERVE.tpot_s,
            },
            "price_term": known.sizes[AT].inputs["price_term"],
        },
        facts_hash=known.facts.hash(),
        headline=_headline(known, rows),
        story=BriefGap(
            first=known.name(SUBJECT),
            second=known.name(known.rivals[0]),
            start=float(known.gap.systems[0].tokens_per_s_per_chip),
            factors={_PROPERTIES.get(r.property, r.property): float(r.factor) for r in known.gap.rows},
            command=f"mowich gap {SUBJECT} {known.rivals[0]} --model {known.models[0].name} --train --tokens 15T"
            f" --seq {TO_TRAIN.seq} --batch {TO_TRAIN.batch_seqs:.0f}seqs --chips {AT}",
        ),
        rows=Rows(rows),
    )


def _headline(known: Known, rows: Sequence[Section]) -> tuple[str, ...]:
    """The answer in a few sentences."""
    by_id = {row.id: row for row in rows}
    first, gap = known.rivals[0], known.gap
    causes = sorted(gap.rows, key=lambda r: -float(r.factor))[:2]
    worst, second = ((_PROPERTIES.get(r.property, r.property), plainly(float(r.factor))) for r in causes)
    capacity = float(gap.factor("capacity"))
    return (
        f"Memory size: {by_id['memory'].level} a handicap. A chip of {known.name(first)} trains"
        f" {known.models[0].name} {plainly(float(gap.ratio))} times as fast; memory size is a factor of"
        f" {plainly(capacity, 3)} of that.",
        f"{capital(worst[0])} is the largest part (a factor of {worst[1]}), then {second[0]} ({second[1]}).",
        f"Scale: {by_id['scale'].level}. Price: {by_id['price'].level}; what Trainium 3 sells for is not published"
        " (searched 2026-11: AWS price pages).",
    )
