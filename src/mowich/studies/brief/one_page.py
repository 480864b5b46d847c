"""The answers behind a brief, each computed once, and their page."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from mowich.errors import EXIT_INFEASIBLE, UserError
from mowich.examples import names_of
from mowich.facts import Facts
from mowich.machines.system import resolve
from mowich.models.model import Model
from mowich.progress import course
from mowich.requests.brief import BRIEF_SIZES, BriefRequest
from mowich.requests.fields import Edge
from mowich.requests.jobs import CompareRequest
from mowich.requests.next_measure import NextRequest
from mowich.requests.rl import RL
from mowich.requests.rooms.gap import GapRequest
from mowich.requests.rooms.value import ValueRequest
from mowich.requests.scenarios import FleetRequest
from mowich.requests.schema import QuestionSource
from mowich.serving.search import ServeJob
from mowich.shown import Rows
from mowich.software.engine import engine_for
from mowich.software.stack import RECIPE_CHOSEN, equip
from mowich.software.vendors import HAND_TUNED
from mowich.studies.brief.decisions import buys_text, gap_text, memory_text
from mowich.studies.brief.economy import FALLS_TO, LARGE_TENANT, TENANT_WORDS, TENANTS
from mowich.studies.brief.jobs import job_table, jobs_section
from mowich.studies.brief.known import (
    AT,
    BEFORE,
    IN_BULK,
    NEXT,
    PRICE_OF_ALL,
    RL_CHIPS,
    SERVED_JOBS,
    SERVED_ON,
    SETTLED_BY,
    SUBJECT,
    TO_REINFORCE,
    TO_SERVE,
    TO_TRAIN,
    TRAIN_WORDS,
    Known,
    MemoryWork,
    ReadBy,
    ServedJob,
    by_hand,
    gap_command,
    rl_command,
    serve_command,
    serve_words,
    train_command,
)
from mowich.studies.brief.now import claim_section, memory_section, price_section, scale_section
from mowich.studies.brief.outlook import energy_section, fleet_section, next_section, sure_section
from mowich.studies.brief.rates import deciding_constant, told_training, trained_basis
from mowich.studies.brief.verdicts import Brief, BriefGap, JobRow, Section
from mowich.studies.compare import Comparison, compare
from mowich.studies.fleet import fleet
from mowich.studies.heard import heard
from mowich.studies.next_measure import NextMeasurements, next_measurements
from mowich.studies.rl_answer import rl
from mowich.studies.rl_split import RlSplit
from mowich.studies.rooms.gap import answer as gap
from mowich.studies.rooms.value import OF_MEMORY, amount_of, paths_of_property
from mowich.studies.rooms.value import answer as value
from mowich.studies.serving_plan import ServeResult, ServeRow, compare_serving
from mowich.studies.stack_support import served_basis, widened
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
"""Questions after the table."""

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
"""Amounts of memory that are tried, over today's: even steps, one of them twice today's."""


def asked_once(asked: BriefRequest) -> Known:
    """The answers that the questions read. Raises UserError where a rival is Trainium 3 itself, and where the first
    model has no plan on it."""
    if SUBJECT in asked.against:
        raise UserError(
            "a brief is about Trainium 3, which cannot be its own rival",
            field="against",
            given=SUBJECT,
            allowed="other machines",
        )
    with course(len(BRIEF_SIZES) + len(asked.models) + 5) as begin:
        return _known(asked, begin)


def _known(asked: BriefRequest, begin: Callable[[str], None]) -> Known:
    """`asked_once`, with a call of `begin` before each question."""
    facts, against, chosen = asked.facts, asked.against, asked.models
    systems, first = (SUBJECT, *against), chosen[0]
    reads: list[ReadBy] = []
    ask = _Trained(facts=facts, model=first, reads=reads)
    sizes: dict[int, Comparison] = {}
    for chips in BRIEF_SIZES:
        begin(f"training on {chips:,} chips of each")
        sizes[chips] = ask.ask(systems, chips)
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
            job_asked = _Served(facts=facts, model=model, job=job, key=key, bases=bases, rests_on=rests, reads=reads)
            served[key] = job_asked.ask(systems)
            tuned |= {(*key, s): job_asked.ask((s,), HAND_TUNED).rows[0] for s in own}
            if job is TO_SERVE:
                announced[model.name] = job_asked.ask((NEXT,)).rows[0]
    for s, machine in machines.items():
        if words := trained_basis(facts, first, machine.id):
            bases["train", first.name, s] = words
    begin("with one property exchanged after another")
    alone = facts.heard()
    pair = (SUBJECT, against[0])
    why = gap(GapRequest(facts=alone, model=first, systems=pair, train=TO_TRAIN, chips=AT, term=PRICE_OF_ALL))
    reads.append(ReadBy.of(gap_command(first.name, against[0]), alone))
    begin("with less and more memory")
    memory = _memory(facts, chosen, served, tuned, reads)
    begin("in a fleet")
    with_kernels = [s for s in systems if has_kernels(equip(facts, s, chips=AT))]
    at_best = ask.ask(with_kernels, AT, hand_tuned=True).rows if with_kernels else ()
    later = replace(ask, facts=facts.with_values({RECIPE_CHOSEN: "future"}), is_future=True)
    mine = equip(facts, SUBJECT, chips=AT)
    (future,) = later.ask((SUBJECT,), AT).rows if mine.not_shipped and not mine.takes_future else (None,)
    alone = facts.heard()
    mix = fleet(FleetRequest(facts=alone, scenario=names_of("scenarios")[_FLEET], draws=0))
    reads.append(ReadBy.of(f"fleet {_FLEET}", alone))
    alone = facts.heard()
    who, there = (LARGE_TENANT, FALLS_TO), names_of("scenarios")[TENANTS]
    tenants = fleet(FleetRequest(facts=alone, scenario=there, draws=0, relaxed=True, tenant=who))
    reads.append(ReadBy.of(TENANT_WORDS, alone))
    begin("in reinforcement learning over two vendors")
    split = _split(facts, first, systems[:2], reads)
    begin("what measurements would settle")
    settles = _settles(facts, first)
    return Known(
        facts=facts,
        rivals=against,
        models=chosen,
        settings=_settings(asked.given),
        sizes=sizes,
        tuned={row.system: row for row in at_best},
        future=future,
        beside=ask.ask((BEFORE, NEXT), AT),
        served=served,
        served_tuned=tuned,
        announced=announced,
        bases=bases,
        rests_on=rests,
        gap=why,
        memory=memory,
        fleet=mix,
        tenants=tenants,
        split=split,
        reads=reads,
        settles=settles,
    )


def _split(facts: Facts, model: Model, systems: Sequence[str], reads: list[ReadBy]) -> RlSplit:
    """Reinforcement learning of a model over two machines, and on each machine alone. Fills `reads`."""
    own = facts.heard()
    asked = {"model": model, **TO_REINFORCE, "on": list(systems), "chips": RL_CHIPS, "price": PRICE_OF_ALL}
    found = rl(RL.read(asked, QuestionSource(edge=Edge.KEYWORD, facts=own))).split
    assert found is not None
    reads.append(ReadBy.of(rl_command(model.name, systems), own))
    return found


def _settings(given: Mapping[str, object]) -> tuple[str, ...]:
    """Words of a command line that make the facts of a question."""
    return tuple(
        word
        for option, key in (("--set", "set"), ("--facts", "facts_dirs"))
        for value in given.get(key) or ()  # type: ignore[attr-defined]
        for word in (option, str(value))
    )


def _settles(facts: Facts, model: Model) -> NextMeasurements | None:
    """The measurements that would narrow the cost of a training token on Trainium 3 most; None where it has no
    range."""
    question = train_command(model.name, (SUBJECT,), AT)
    asked = NextRequest(on=SUBJECT, question=question, number=None, budget=SETTLED_BY, facts=facts, model=model)
    try:
        return next_measurements(asked)
    except UserError:  # no number of the row has a range
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trained:
    """One model in training. Fills `reads`. is_future: `facts` allow formats that no software ships yet."""

    facts: Facts
    model: Model
    reads: list[ReadBy]
    is_future: bool = False

    def ask(self, systems: Sequence[str], chips: int, *, hand_tuned: bool = False) -> Comparison:
        """Training on some machines, with the grade of each rate."""
        own, model = self.facts.heard(), self.model
        found = compare(
            CompareRequest(
                facts=own,
                model=model,
                systems=tuple(systems),
                train=TO_TRAIN,
                chips=chips,
                term=PRICE_OF_ALL,
                hand_tuned=hand_tuned,
            )
        )
        rows = [told_training(r, trained_basis(own, model, r.system_id)) for r in found.rows]
        words = train_command(model.name, systems, chips, tuned=hand_tuned, future=self.is_future)
        self.reads.append(ReadBy.of(words, own))
        return replace(found, rows=Rows(rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Served:
    """One model at one job of serving. Fills bases, rests_on and reads of `Known`."""

    facts: Facts
    model: Model
    job: ServeJob
    key: ServedJob
    bases: dict[tuple[str, str, str], str]
    rests_on: dict[tuple[str, str, str], str]
    reads: list[ReadBy]

    def ask(self, systems: Sequence[str], engine: str | None = None) -> ServeResult:
        """The answer; its rows have their own grades and ranges."""
        own = self.facts.heard()
        found = _served(own, self.model, systems, self.job, SERVED_ON, engine)
        rows = [self._told(row, by_hand(row.system) if engine else row.system, own) for row in found.rows]
        words = serve_command(self.model.name, systems, self.job, tuned=engine is not None)
        self.reads.append(ReadBy.of(words, own))
        return replace(found, rows=Rows(rows))

    def _told(self, row: ServeRow, who: str, facts: Facts) -> ServeRow:
        basis = served_basis(facts, self.model, row.system_id)
        decided = deciding_constant(facts, self.model, row, self.job, chips=SERVED_ON)
        if basis:
            self.bases[*self.key, who] = basis
        if decided:
            self.rests_on[*self.key, who] = decided
        return widened(facts, row, basis, is_large=bool(decided))


def _served(
    facts: Facts, model: Model, systems: Sequence[str], job: ServeJob, chips: int, engine: str | None
) -> ServeResult:
    """Serving on some machines at this page's prices."""
    return compare_serving(
        CompareRequest(
            facts=facts,
            model=model,
            systems=tuple(systems),
            serve=job,
            chips=chips,
            engine=engine,
            term=PRICE_OF_ALL,
        )
    )


def _memory(
    facts: Facts,
    models: Sequence[Model],
    served: Mapping[ServedJob, ServeResult],
    tuned: Mapping[tuple[str, str, str], ServeRow],
    reads: list[ReadBy],
) -> list[MemoryWork]:
    """Work with other amounts of memory: training and serving as elsewhere on this page, then serving in bulk with
    kernels written by hand, with long answers and on the fewest chips that hold a model. served, tuned: with today's
    memory. Fills `reads`."""
    first = models[0]
    amounts = paths_of_property(facts, equip(facts, SUBJECT), OF_MEMORY)
    today = amount_of(amounts, OF_MEMORY)

    def serves(work: str, model: Model, job: str, row: ServeRow, *, by_hand: bool = False) -> MemoryWork:
        chips, asked = row.chips_requested, SERVED_JOBS[job][1]
        engine, own = HAND_TUNED if by_hand else None, facts.heard()
        amount_of(paths_of_property(own, equip(own, SUBJECT), OF_MEMORY), OF_MEMORY)
        twice = own.with_values({path: 2.0 * x for path, x in amounts.items()})
        more = _served(twice, model, (SUBJECT,), asked, chips, engine)
        command = _value_command(model, chips, serve_words(asked), today, (1.0, 2.0), 2)
        command += f" --engine {engine}" if engine else ""
        reads.append(ReadBy.of(command, own))
        return MemoryWork(work=work.format(model.name), gain=_gain(row, more.rows[0]), command=command)

    out = _studies(facts, first, today, reads)
    for model in models:
        for job in ("serve", "bulk"):
            if model is not first or job != "serve":
                out.append(serves(SERVED_JOBS[job][0], model, job, _of(served[job, model.name].rows)))
        long = tuned.get(("long", model.name, SUBJECT))
        if long is not None:
            out.append(serves(f"{SERVED_JOBS['long'][0]}, hand-tuned,", model, "long", long, by_hand=True))
        few = _fewest(facts, model)
        if few is not None:
            chips = "one chip" if few.chips_requested == 1 else f"{few.chips_requested} chips"
            out.append(serves(f"{SERVED_JOBS['bulk'][0]} on {chips}, hand-tuned,", model, "bulk", few, by_hand=True))
    return out


def _of(rows: Sequence[ServeRow]) -> ServeRow:
    """The row of Trainium 3."""
    return next(row for row in rows if row.system == SUBJECT)


def _gain(today: ServeRow, more: ServeRow) -> float | None:
    """Tokens with more memory over tokens with today's: infinite where the work fits only with more, None where it
    never fits."""
    if today.feasible and more.feasible:
        return float(more.tokens_per_s_per_chip) / float(today.tokens_per_s_per_chip)
    return math.inf if more.feasible else None


def _value_command(model: Model, chips: int, job: str, today: float, ends: tuple[float, float], points: int) -> str:
    """The command for what memory is worth between two amounts, as shares of today's."""
    low, high = (f"{x * today / 2.0**30:.12g}GiB" for x in ends)
    return (
        f"value {SUBJECT}:{chips} --of {OF_MEMORY} --model {model.name} {job} --from {low} --to {high}"
        f" --points {points} --price {PRICE_OF_ALL}"
    )


def _studies(facts: Facts, model: Model, today: float, reads: list[ReadBy]) -> list[MemoryWork]:
    """Training and serving within limits over a range of amounts, one of them twice today's. Fills `reads`."""
    out = []
    for work, chips, train, serve in (
        ("training {}", AT, TO_TRAIN, None),
        (SERVED_JOBS["serve"][0], SERVED_ON, None, TO_SERVE),
    ):
        own = facts.heard()
        try:
            found = value(
                ValueRequest(
                    facts=own,
                    model=model,
                    models=(model,),
                    systems=(f"{SUBJECT}:{chips}",),
                    of=OF_MEMORY,
                    train=train,
                    serve=serve,
                    low=_LEAST * today,
                    high=_MOST * today,
                    points=_POINTS,
                    term=PRICE_OF_ALL,
                )
            )
        except UserError as error:
            if error.code != EXIT_INFEASIBLE:
                raise
            continue
        job = TRAIN_WORDS if serve is None else serve_words(serve)
        command = _value_command(model, chips, job, today, (_LEAST, _MOST), _POINTS)
        reads.append(ReadBy.of(command, own))
        out.append(
            MemoryWork(
                work=work.format(model.name),
                study=found,
                gain=min(found.rows, key=lambda p: abs(p.amount - 2.0 * today)).gain,
                command=command,
            )
        )
    return out


def _fewest(facts: Facts, model: Model) -> ServeRow | None:
    """Serving in bulk on the smallest power of two of chips below `SERVED_ON` that holds a model; None without one."""
    for i in range(SERVED_ON.bit_length() - 1):
        (row,) = _served(facts, model, (SUBJECT,), IN_BULK, 1 << i, HAND_TUNED).rows
        if row.feasible:
            return row
    return None


@heard()
def brief(asked: BriefRequest) -> Brief:
    """Trainium 3 on one page. Raises UserError where a rival is Trainium 3 itself, and where the first model has no
    plan on it."""
    return page_of_known(asked_once(asked))


def page_of_known(known: Known) -> Brief:
    """The page from the answers."""
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
            command=known.command(gap_command(known.models[0].name, known.rivals[0])),
        ),
        rows=Rows(rows),
    )


def _headline(known: Known, table: Sequence[JobRow], rows: Sequence[Section]) -> tuple[str, ...]:
    """The answer in a few sentences, with all work and each rival's name."""
    by_id = {row.id: row for row in rows}
    today = known.today
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
