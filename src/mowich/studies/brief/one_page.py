"""Answers behind a brief, each asked once, and the page that they make."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from mowich.errors import EXIT_INFEASIBLE, UserError
from mowich.examples import names_of
from mowich.facts import Facts
from mowich.machines.system import resolve
from mowich.models import load_model
from mowich.models.model import Model
from mowich.progress import course
from mowich.requests.brief import BRIEF_SIZES
from mowich.serving.search import ServeJob
from mowich.shown import Rows
from mowich.software.engine import engine_for
from mowich.software.stack import equip
from mowich.software.vendors import HAND_TUNED
from mowich.studies.brief.decisions import buys_text, gap_text, memory_text
from mowich.studies.brief.jobs import job_table, jobs_section
from mowich.studies.brief.known import (
    AT,
    BEFORE,
    IN_BULK,
    LONG_ANSWERS,
    NEXT,
    PRICE_OF_ALL,
    SERVED_JOBS,
    SERVED_ON,
    SUBJECT,
    TO_SERVE,
    TO_TRAIN,
    TRAIN_WORDS,
    Known,
    MemoryWork,
    ServedJob,
    by_hand,
    serve_words,
)
from mowich.studies.brief.now import claim_section, memory_section, price_section, scale_section
from mowich.studies.brief.outlook import energy_section, fleet_section, next_section, sure_section
from mowich.studies.brief.rates import basis_of, deciding_constant, told_serving, told_training
from mowich.studies.brief.verdicts import Brief, BriefGap, JobRow, Section
from mowich.studies.compare import Comparison, compare
from mowich.studies.fleet import fleet
from mowich.studies.gap import gap
from mowich.studies.serving_plan import ServeResult, ServeRow, compare_serving
from mowich.studies.value import OF_MEMORY, amount_of, paths_of_property, value
from mowich.training.tuned import has_kernels

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
"""Questions after that of the table."""

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

_LEAST, _MOST, _POINTS = 2.0 / 3.0, 8.0 / 3.0, 4
"""Amounts of memory that are looked at, of today's: even steps, of which one is twice today's."""


def asked_once(
    facts: Facts, *, against: Sequence[str], models: Sequence[str | Model], settings: Sequence[str] = ()
) -> Known:
    """The answers that the questions read. settings: words of a command line that make these facts. Raises UserError
    where a rival is Trainium 3 itself, and where the first model has no plan on it."""
    if SUBJECT in against:
        raise UserError("Trainium 3 is what a brief is about", field="against", given=SUBJECT, allowed="other machines")
    chosen = tuple(load_model(m) if isinstance(m, str) else m for m in models)
    with course(len(BRIEF_SIZES) + len(chosen) + 3) as begin:
        return _known(facts, tuple(against), chosen, tuple(settings), begin)


def _known(
    facts: Facts,
    against: tuple[str, ...],
    chosen: tuple[Model, ...],
    settings: tuple[str, ...],
    begin: Callable[[str], None],
) -> Known:
    """The same of models that are read. begin: is told what is asked next."""
    systems, first = (SUBJECT, *against), chosen[0]
    sizes: dict[int, Comparison] = {}
    for chips in BRIEF_SIZES:
        begin(f"training on {chips:,} chips of each")
        sizes[chips] = _trained(first, systems, chips, facts)
    row = sizes[AT].rows[0]
    if row.plan is None or row.feasible is False:
        raise UserError(
            f"{first.name} has no plan on {AT:,} chips of Trainium 3: {row.reason}",
            field="models",
            given=first.name,
            code=EXIT_INFEASIBLE,
        )
    served, tuned, announced = (
        dict[ServedJob, ServeResult](),
        dict[tuple[str, str, str], ServeRow](),
        dict[str, ServeRow](),
    )
    rests, bases = dict[tuple[str, str, str], str](), dict[tuple[str, str, str], str]()
    machines = {s: resolve(facts, s) for s in systems}
    own = [s for s, m in machines.items() if engine_for(facts, m, HAND_TUNED) != engine_for(facts, m, None)]
    for model in chosen:
        begin(f"serving {model.name}")
        for name, (_, job) in SERVED_JOBS.items():
            key = (name, model.name)
            asked = _Served(facts=facts, model=model, job=job, key=key, bases=bases, rests_on=rests)
            served[key] = asked.ask(systems)
            tuned |= {(*key, s): asked.ask((s,), HAND_TUNED).rows[0] for s in own}
            if job is TO_SERVE:
                announced[model.name] = asked.ask((NEXT,)).rows[0]
    for s, machine in machines.items():
        if words := basis_of(facts, first, machine.id, serves=False):
            bases["train", first.name, s] = words
    begin("with one property exchanged after another")
    why = gap(first, SUBJECT, against[0], train=TO_TRAIN, chips=AT, facts=facts, term=PRICE_OF_ALL)
    begin("with less and more memory")
    memory = _memory(facts, chosen)
    begin("in a fleet")
    with_kernels = [s for s in systems if has_kernels(equip(facts, s, chips=AT))]
    at_best = _trained(first, with_kernels, AT, facts, hand_tuned=True).rows if with_kernels else ()
    return Known(
        facts=facts,
        rivals=against,
        models=chosen,
        settings=settings,
        sizes=sizes,
        tuned={row.system: row for row in at_best},
        beside=_trained(first, (BEFORE, NEXT), AT, facts),
        served=served,
        served_tuned=tuned,
        announced=announced,
        bases=bases,
        rests_on=rests,
        gap=why,
        memory=memory,
        fleet=fleet(names_of("scenarios")[_FLEET], facts),
    )


def _trained(model: Model, systems: Sequence[str], chips: int, facts: Facts, *, hand_tuned: bool = False) -> Comparison:
    """Training on some machines, with the grade that each rate has."""
    found = compare(model, systems, train=TO_TRAIN, chips=chips, facts=facts, term=PRICE_OF_ALL, hand_tuned=hand_tuned)
    rows = [told_training(r, basis_of(facts, model, r.system_id, serves=False)) for r in found.rows]
    return replace(found, rows=Rows(rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Served:
    """One model at one job of serving. bases, rests_on: of `Known`, filled with what is found."""

    facts: Facts
    model: Model
    job: ServeJob
    key: ServedJob
    bases: dict[tuple[str, str, str], str]
    rests_on: dict[tuple[str, str, str], str]

    def ask(self, systems: Sequence[str], engine: str | None = None) -> ServeResult:
        """The answer, its rows with the grade and the range that they have."""
        found = compare_serving(
            self.model, systems, job=self.job, chips=SERVED_ON, facts=self.facts, engine=engine, term=PRICE_OF_ALL
        )
        return replace(
            found, rows=Rows(self._told(row, by_hand(row.system) if engine else row.system) for row in found.rows)
        )

    def _told(self, row: ServeRow, who: str) -> ServeRow:
        basis = basis_of(self.facts, self.model, row.system_id, serves=True)
        decided = deciding_constant(self.facts, self.model, row, self.job, chips=SERVED_ON)
        if basis:
            self.bases[*self.key, who] = basis
        if decided:
            self.rests_on[*self.key, who] = decided
        return told_serving(self.facts, row, basis, decided)


def _memory(facts: Facts, models: Sequence[Model]) -> list[MemoryWork]:
    """The work that is looked at with other amounts of memory: training and serving as everywhere on this page, then
    serving in bulk with kernels written by hand: long answers, and on the fewest chips that hold a model."""
    today = amount_of(paths_of_property(facts, equip(facts, SUBJECT), OF_MEMORY), OF_MEMORY)

    def study(
        work: str, model: Model, chips: int, *, job: ServeJob | None = None, engine: str | None = None
    ) -> MemoryWork:
        least, most, points = (_LEAST, _MOST, _POINTS) if job in (None, TO_SERVE) else (1.0, 2.0, 2)
        found = value(
            [model],
            f"{SUBJECT}:{chips}",
            of=OF_MEMORY,
            train=TO_TRAIN if job is None else None,
            serve=job,
            low=least * today,
            high=most * today,
            points=points,
            facts=facts,
            engine=engine,
            term=PRICE_OF_ALL,
        )
        asked = TRAIN_WORDS if job is None else serve_words(job)
        ends = (f"{x * today / 2.0**30:.12g}GiB" for x in (least, most))
        return MemoryWork(
            work=work.format(model.name),
            model=model.name,
            study=found,
            command=f"value {SUBJECT}:{chips} --of {OF_MEMORY} --model {model.name} {asked}"
            f" --from {next(ends)} --to {next(ends)} --points {points} --price {PRICE_OF_ALL}"
            + (f" --engine {engine}" if engine else ""),
        )

    out = [study("training {}", models[0], AT)]
    for model in models:
        out.append(study(SERVED_JOBS["serve"][0], model, SERVED_ON, job=TO_SERVE))
        out.append(study(SERVED_JOBS["bulk"][0], model, SERVED_ON, job=IN_BULK))
        out.append(
            study(f"{SERVED_JOBS['long'][0]}, hand-tuned,", model, SERVED_ON, job=LONG_ANSWERS, engine=HAND_TUNED)
        )
        few = _fewest(facts, model)
        if few:
            work = f"{SERVED_JOBS['bulk'][0]} on {_chips(few)}, hand-tuned,"
            out.append(study(work, model, few, job=IN_BULK, engine=HAND_TUNED))
    return out


def _chips(n: int) -> str:
    return "one chip" if n == 1 else f"{n} chips"


def _fewest(facts: Facts, model: Model) -> int:
    """The smallest power of two of chips, below `SERVED_ON`, on which Trainium 3 serves a model; 0 for none."""
    for i in range(SERVED_ON.bit_length() - 1):
        chips = 1 << i
        row = compare_serving(model, [SUBJECT], job=IN_BULK, chips=chips, facts=facts, engine=HAND_TUNED).rows[0]
        if row.feasible:
            return chips
    return 0


def brief(
    facts: Facts,
    *,
    against: Sequence[str],
    models: Sequence[str | Model],
    given: Mapping[str, object] | None = None,
) -> Brief:
    """The questions about Trainium 3. against: machines that it is set beside, the first is the one that `gap`
    explains; models: the first is trained, all are served; given: the settings and folders that made the facts, "set"
    and "facts_dirs". Raises UserError where a rival is Trainium 3 itself, and where the first model has no plan on
    it."""
    settings = [
        word
        for option, key in (("--set", "set"), ("--facts", "facts_dirs"))
        for value in (given or {}).get(key) or ()  # type: ignore[attr-defined]
        for word in (option, str(value))
    ]
    return page_of_known(asked_once(facts, against=against, models=models, settings=settings))


def page_of_known(known: Known) -> Brief:
    """What the answers say."""
    table = job_table(known)
    rows = [jobs_section(known, table), *(question(known) for question in _QUESTIONS)]
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
        headline=_headline(known, table, rows),
        table=table,
        story=BriefGap(
            first=known.name(SUBJECT),
            second=known.name(known.rivals[0]),
            start=float(known.gap.systems[0].tokens_per_s_per_chip),
            factors={_PROPERTIES.get(r.property, r.property): float(r.factor) for r in known.gap.rows},
            command=known.command(
                f"gap {SUBJECT} {known.rivals[0]} --model {known.models[0].name} {TRAIN_WORDS} --chips {AT}"
            ),
        ),
        rows=Rows(rows),
    )


def _headline(known: Known, table: Sequence[JobRow], rows: Sequence[Section]) -> tuple[str, ...]:
    """The answer in a few sentences: all work, each rival by its name."""
    by_id = {row.id: row for row in rows}
    today = known.memory[0].study.today
    bought = []
    for rival in known.rivals:
        told = [r for r in table if r.rival == rival and not r.rests_on]
        ratios = {
            is_training: [(r.dollar, r.tuned_dollar) for r in told if (r.job == "train") == is_training]
            for is_training in (True, False)
        }
        bought.append(buys_text(known.name(rival), ratios[True], ratios[False]))
    sold = "; what Trainium 3 sells for is not published (searched 2026-11: AWS price pages)"
    if known.is_yours(SUBJECT):
        sold = ""
    return (
        memory_text(today / 2.0**30, by_id["memory"].level),
        *filter(None, bought),
        gap_text(
            known.name(known.rivals[0]),
            known.models[0].name,
            float(known.gap.ratio),
            {_PROPERTIES.get(r.property, r.property): float(r.factor) for r in known.gap.rows},
            float(known.gap.factor("capacity")),
        ),
        f"Scale: {by_id['scale'].level}. Price: {by_id['price'].level}{sold}.",
    )
