"""`mowich value`: what more of one property of a machine is worth: memory, bandwidth, links, compute, or software.

Each point of a range is the machine with that property set and nothing else, exactly as `--set` does, and the job
planned again. What a unit more is worth in dollars is what it adds to the tokens of a chip-hour, at the price of that
chip-hour, over the life of the machine; beside it stands what the memory costs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from mowich.economics import money
from mowich.economics.energy import of_fact
from mowich.economics.ownership import read_terms
from mowich.errors import EXIT_INFEASIBLE, UserError
from mowich.estimate import Estimate, Notes, product_of, unknown_estimate
from mowich.facts import Facts
from mowich.machines.system import resolve
from mowich.models.model import Model
from mowich.progress import steps
from mowich.requests.jobs import CompareRequest
from mowich.requests.rooms.value import VALUE_UNITS, ValueRequest
from mowich.shown import Keyed, Result, Rows, Shown
from mowich.software.engine import engine_for, engine_names
from mowich.software.hybrid import is_inside_chip
from mowich.software.stack import Platform, equip, training_stacks
from mowich.studies.compare import solve_system, system_asks
from mowich.studies.explain.rules.rule import R
from mowich.studies.explain.source import Source
from mowich.studies.explain.tree import ResultPath
from mowich.studies.rooms.gap import workers_words
from mowich.studies.serving_plan import ServeAsk, serving_inputs, solve_serving
from mowich.sums import float_sum
from mowich.units import show

OF_MEMORY, OF_SOFTWARE = "memory", "software"


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueOf:
    """How a property is shown. scale: SI in one `shown` unit; low, high: ends of the range where none are asked for, in
    SI (0: half and twice of today's)."""

    shown: str
    scale: float
    low: float = 0.0
    high: float = 0.0


VALUED: Mapping[str, ValueOf] = {
    OF_MEMORY: ValueOf(shown="GiB", scale=2.0**30, low=96 * 2.0**30, high=384 * 2.0**30),
    "bandwidth": ValueOf(shown="TB/s", scale=1e12),
    "scale-up": ValueOf(shown="GB/s", scale=1e9),
    "scale-out": ValueOf(shown="GB/s", scale=1e9),
    "compute": ValueOf(shown="PFLOP/s", scale=1e15),
    OF_SOFTWARE: ValueOf(shown="release", scale=1.0),
}
"""What can be valued. compute: the fastest rate, the others in proportion; scale-up: all levels together, each in
proportion; software: the stacks or engines, slowest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ValuePoint(Keyed):
    """One amount of the property for one job. amount: SI, of software its place; set: the facts that make it; software:
    the stack or engine; is_today: as the machine is.
    cached_frac: share of a prompt that the memory left keeps, where it follows from a trace; gain: tokens over those of
    today; more: tokens per second and chip that each unit (SI) between today's amount and
    this one adds, of software since the point before; days_less: days that it saves; worth: USD that
    it is worth over the life of the machine, per chip; pays_from: USD per chip-hour from which the memory pays."""

    KEYS = (
        "model task amount software is_today feasible reason plan gain more days_less set tokens_per_s_per_chip "
        "days usd_per_mtok worth pays_from cached_frac?"
    )

    model: str
    task: str
    amount: float
    set: Mapping[str, float]
    software: str
    is_today: bool
    feasible: bool
    reason: str
    plan: str
    tokens_per_s_per_chip: Estimate
    days: Estimate
    usd_per_mtok: Estimate
    gain: float | None = None
    more: float | None = None
    days_less: float | None = None
    cached_frac: float | None = None
    worth: Estimate
    pays_from: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueStudy(Shown):
    """What a property of a machine is worth. today: amount, SI; memory_price: USD per byte of
    the HBM, memory_label: of which kind and quarter; price: USD per chip and second; life_s: seconds.

    Units: SI (seconds, bytes, joules, watts), dollars; each number an `Estimate` with its 90% range and grade.

    Example:
        >>> import mowich
        >>> job = {"tokens": "1T", "seq": 4096, "batch": "256seqs"}
        >>> found = mowich.value("h100:8", of="memory", models="llama-3.1-8b", train=job, points=2)  # doctest: +SKIP
        >>> found.of  # doctest: +SKIP
        'memory'
    """

    SCHEMA = "mowich/value@1"
    KEYS = (
        "inputs facts_hash system_id display of today price_label memory_label unit shown_unit price memory_price "
        "life rows"
    )

    inputs: Mapping[str, object]
    facts_hash: str
    system_id: str
    display: str
    of: str
    today: float
    price: Estimate
    price_label: str
    memory_price: Estimate
    memory_label: str
    life: Estimate
    rows: Rows[ValuePoint]

    @property
    def unit(self) -> str:
        """Unit of an amount of the property, SI."""
        return VALUE_UNITS[self.of]

    @property
    def shown_unit(self) -> str:
        """The unit that a page shows it in."""
        return VALUED[self.of].shown


def paths_of_property(facts: Facts, platform: Platform, of: str) -> dict[str, float]:
    """The facts that are the amount of a property, with their values per chip. Raises UserError where the machine has
    none of it."""
    chip, system = f"chips.{platform.chip}", f"systems.{platform.id}"
    if of == OF_MEMORY:
        found = [f"{chip}.memory.hbm_capacity"]
    elif of == "bandwidth":
        found = [f"{chip}.memory.hbm_bandwidth"]
    elif of == "compute":
        found = [platform.paths[f"peak_flops.{name}"] for name in platform.peak_flops]
    else:
        wanted = [x for x in platform.levels if x.is_network == (of == "scale-out") and not is_inside_chip(platform, x)]
        found = [f"{system}.levels.{level.name}.bandwidth" for level in wanted]
    out = {fact.path: facts.number(fact.path) for fact in map(facts.fact, found)}  # several may refer to one fact
    if not out:
        raise UserError(f"{platform.display} has no {of} links", field="of", given=of)
    return out


def amount_of(values: Mapping[str, float], of: str) -> float:
    """The amount that facts with these values are: of links their sum, of compute the fastest."""
    return float_sum(values.values()) if of in ("scale-up", "scale-out") else max(values.values())


def answer(asked: ValueRequest) -> ValueStudy:
    """What more of a property of a machine is worth, for each model and each job that is given.

    Args:
        on: one system.
        of: "memory", "bandwidth", "scale-up", "scale-out", "compute" or "software".
        models: one model or several.
        train: the training job, keys as in `mowich.Train`.
        serve: the serving job, keys as in `mowich.Serve`.
        low: where the range begins, "96 GiB" or SI.
        high: where it ends.
        points: amounts between them, evenly.
        chips: of the system.
        stack: training software.
        price: kind of price.
        recipe: "future" takes precisions too that no software ships on a chip; "shipped" is the default.
        fixed: choices of the plan that are not searched.
        term: the older name of `price`.
        facts: other facts than the shipped ones.

    Returns: a `ValueStudy`: `.rows`, one for each amount, model and job. Units: SI (bytes, bytes/s, FLOP/s), dollars.

    Example:
        >>> import mowich
        >>> job = {"tokens": "1T", "seq": 4096, "batch": "256seqs"}
        >>> found = mowich.value("h100:8", of="memory", models="llama-3.1-8b", train=job, points=2)  # doctest: +SKIP
        >>> len(found.rows)  # doctest: +SKIP
        3
    """
    facts, of, term, stack, engine = asked.facts, asked.of, asked.term, asked.stack, asked.engine
    platform = equip(facts, asked.systems[0], chips=asked.chips, stack=stack)
    price = money.price(facts, platform.id, term=term)
    memory_price, label = _memory_price(facts, platform.id)
    life = of_fact(facts.fact(worth_facts(facts, platform.id)[1]), "s")
    tasks = [task for task, job in (("train", asked.train), ("serve", asked.serve)) if job is not None]
    today, amounts = 0.0, list[float]()
    if of != OF_SOFTWARE:
        known = paths_of_property(facts, platform, of)
        today = amount_of(known, of)
        amounts = _amounts(of, today, asked.low, asked.high, asked.points)
    rows: list[ValuePoint] = []
    for model in asked.models:
        for task in tasks:
            solve = _solver(asked, model, task)
            if of == OF_SOFTWARE:
                named = engine if task == "serve" else stack
                found = _software(solve, model, facts, platform, task, named)
            else:
                found = [
                    solve(_set(facts, known, x / today) if x != today else {}, facts, stack, engine, x, x == today)
                    for x in steps(amounts, f"planning {model.name} with more and less {of}")
                ]
            rows += _with_worth(found, of, price.rate, memory_price, life)
    if not any(row.feasible for row in rows):
        raise UserError(f"nothing fits at any amount: {rows[0].reason}", field="of", given=of, code=EXIT_INFEASIBLE)
    ends = {"low": asked.low, "high": asked.high, "points": asked.points}
    return ValueStudy(
        inputs={**_inputs(asked, platform), "price_term": term, "of": of, **ends},
        facts_hash=facts.hash(),
        system_id=platform.id,
        display=platform.display,
        of=of,
        today=today,
        price=price.rate,
        price_label=price.label,
        memory_price=memory_price,
        memory_label=label,
        life=life,
        rows=Rows(rows),
    )


def _set(facts: Facts, known: Mapping[str, float], share: float) -> dict[str, float]:
    """The settings that make `share` of every fact of a property."""
    return {path: number * share for path, number in known.items()}


def _amounts(name: str, today: float, low: float | None, high: float | None, points: int) -> list[float]:
    """Even steps from end to end, and today's amount. Raises UserError for a range that ends before it begins."""
    of, unit = VALUED[name], VALUE_UNITS[name]
    first = low if low is not None else of.low or 0.5 * today
    last = high if high is not None else of.high or 2.0 * today
    if not 0.0 < first < last:
        raise UserError(
            "the range ends before it begins",
            field="low",
            given=f"{show(first, unit)} to {show(last, unit)}",
            allowed="an end above its beginning, both above 0",
        )
    even = [first + (last - first) * i / (points - 1) for i in range(points)] if points > 1 else [first]
    return sorted({today, *(x for x in even if abs(x / today - 1.0) > _SAME)})


_SAME = 1e-6
"""An amount this close to today's is today's."""

Solver = Callable[[Mapping[str, float], Facts, str | None, str | None, float, bool], ValuePoint]
"""Settings, facts, stack, engine, amount and whether it is today's -> the point, without what it is worth."""


def _solver(asked: ValueRequest, model: Model, task: str) -> Solver:
    """What plans one job on the machine under other facts."""
    on, chips, fixed, term = asked.systems[0], asked.chips, asked.fixed, asked.term
    none = unknown_estimate("USD", "what the others are set against")

    def solve(
        settings: Mapping[str, float],
        facts: Facts,
        stack: str | None,
        engine: str | None,
        amount: float,
        is_today: bool,
    ) -> ValuePoint:
        under = facts.with_values(settings) if settings else facts
        cached = None
        if task == "train":
            of_one = CompareRequest.of(asked, facts=under, model=model, stack=stack, serve=None)
            found = system_asks(of_one).asks[0]
            row = solve_system(found, fixed=fixed, brief=True)[0]
            speed, days, usd, plan = row.tokens_per_s_per_chip, row.days, row.usd_per_mtok, str(row.plan or "")
            feasible, reason = row.feasible is True, row.reason or ""
            software = found.system.stack.name
        else:
            platform = equip(under, on, chips=chips)
            software = engine_for(under, platform, engine, model)
            ask = ServeAsk(
                name=on,
                model=model,
                system=platform,
                engine=software,
                job=asked.serve_job,
                facts=under,
                fixed=fixed,
                term=term,
            )
            served = solve_serving(ask)[0][0]
            speed, usd, plan = served.tokens_per_s_per_chip, served.usd_per_mtok, workers_words(served)
            days = unknown_estimate("d", "serving has no end")
            feasible, reason, cached = served.feasible is True, served.reason or "", served.cached_frac
        if not feasible:
            speed, days, usd = (unknown_estimate(e.unit, reason) for e in (speed, days, usd))
        return ValuePoint(
            model=model.name,
            task=task,
            amount=amount,
            set=settings,
            software=software,
            is_today=is_today,
            feasible=feasible,
            reason="" if feasible else reason,
            plan=plan if feasible else "",
            cached_frac=cached if feasible else None,
            tokens_per_s_per_chip=speed,
            days=days,
            usd_per_mtok=usd,
            worth=none,
            pays_from=none,
        )

    return solve


def _software(
    solve: Solver, model: Model, facts: Facts, platform: Platform, task: str, named: str | None
) -> list[ValuePoint]:
    """The job under each stack or engine that the facts describe, slowest first: each step is a release."""
    serves = task == "serve"
    if serves:
        today = engine_for(facts, platform, named, model)
        names = [*dict.fromkeys(engine_for(facts, platform, name) for name in engine_names(facts))]
    else:
        today, names = platform.stack.name, training_stacks(facts)
    found = []
    for name in steps(names, "planning with {}"):
        stack, engine = (None, name) if serves else (name, None)
        found.append(solve({}, facts, stack, engine, 0.0, name == today))
    ordered = sorted(found, key=lambda p: p.tokens_per_s_per_chip.value or 0.0)
    return [replace(point, amount=float(i)) for i, point in enumerate(ordered, 1)]


def _with_worth(
    points: Sequence[ValuePoint], of: str, rate: Estimate, memory_price: Estimate, life: Estimate
) -> list[ValuePoint]:
    """The points with what a unit more adds: between today's amount and the point's, of software since the point
    before. Where nothing fits with today's amount, the least that fits stands in its place."""
    today = next((p for p in points if p.is_today and p.feasible), None)
    base = today or next((p for p in points if p.feasible), None)
    out: list[ValuePoint] = []
    before: ValuePoint | None = None
    for point in points:
        if point.feasible:
            if today is not None:
                gain = float(point.tokens_per_s_per_chip) / float(today.tokens_per_s_per_chip)
                point = replace(point, gain=gain)
            other = before if of == OF_SOFTWARE else base
            if other is not None and other.amount != point.amount:
                point = _against(other, point, of, rate, memory_price, life)
            before = point
        out.append(point)
    return out


def _against(
    before: ValuePoint, point: ValuePoint, of: str, rate: Estimate, memory_price: Estimate, life: Estimate
) -> ValuePoint:
    """A point with what each unit between the other one and it adds."""
    units = point.amount - before.amount
    old, new = float(before.tokens_per_s_per_chip), float(point.tokens_per_s_per_chip)
    days = None
    if before.days.value is not None and point.days.value is not None:
        days = (before.days.value - point.days.value) / units
    gain = (new / old - 1.0) / units  # share of a chip-hour's tokens that a unit adds
    worth = product_of([(rate, 1.0), (life, 1.0)], "USD").scaled(gain, "USD")
    if of != OF_MEMORY:
        pays = unknown_estimate("USD/chip/h", "only the price of memory is known by its amount")
    elif gain * abs(units) <= _LEAST:
        pays = unknown_estimate("USD/chip/h", "more memory adds nothing here")
    else:
        pays = product_of([(memory_price, 1.0), (life, -1.0)], "USD/chip/h").scaled(3600.0 / gain, "USD/chip/h")
    return replace(point, more=(new - old) / units, days_less=days, worth=_ordered(worth), pays_from=pays)


_LEAST = 1e-9
"""A gain of tokens below this is none."""


def _ordered(e: Estimate) -> Estimate:
    """An estimate that was scaled by a negative number, with its ends in order."""
    if e.low is None or e.high is None or e.low <= e.high:
        return e
    return replace(e, low=e.high, high=e.low)


def worth_facts(facts: Facts, system_id: str) -> tuple[str | None, str]:
    """(path of the price of the machine's kind of HBM in the quarter that is asked for, path of its life); None where
    no bill of the machine is known."""
    terms = read_terms(facts)
    life = "prices.ownership.asked.life"
    if terms.life_s is None:
        life = f"prices.ownership.rules.{terms.rule}.life"
    kind = facts.get(f"prices.machines.bill.{system_id}.hbm_kind")
    known = kind is not None and kind.value is not None
    return (f"prices.memory.{kind.value}.{terms.quarter}" if known and kind is not None else None), life


def _memory_price(facts: Facts, system_id: str) -> tuple[Estimate, str]:
    """(USD per byte of HBM, its kind and quarter)."""
    path = worth_facts(facts, system_id)[0]
    if path is None:
        return unknown_estimate("USD/B", f"no bill of {system_id} says which memory it has"), ""
    _, _, kind, quarter = path.split(".")
    return of_fact(facts.fact(path), "USD/B"), f"{kind.upper().replace('E', 'e')}, {quarter}"


def _inputs(asked: ValueRequest, platform: Platform) -> dict[str, object]:
    """What was asked, so that it can be asked again."""
    train, serve = asked.train, asked.serve
    out: dict[str, object] = {"models": [m.name for m in asked.models], "on": asked.systems[0], "chips": asked.chips}
    out |= {"system_chips": platform.chips, "stack": asked.stack, "engine": asked.engine}
    out["train"] = None if train is None else train.inputs()
    served = None
    if serve is not None:
        served = serving_inputs(asked.models[0], serve, asked.fixed, "", [], asked.facts)
        served = {k: v for k, v in served.items() if k in ("isl", "osl", "ttft_s", "tpot_s", "cached", "accept")}
    out["serve"] = served
    out["fixed"] = {k: list(v) for k, v in asked.fixed.items()}
    return out


IS_SLOW = True


RULES = (
    R("today", "1", "amount of the property that the machine has", "lookup: as the facts state it"),
    R("price", "USD/chip/s", "price of a chip", "lookup: as the facts state it for the terms asked for"),
    R(
        "memory_price",
        "USD/B",
        "price of a byte of HBM to whoever makes the package",
        "lookup: as the facts state it",
        "prices.machines.bill.{system}.hbm_kind",
        "prices.memory.*",
    ),
    R(
        "life",
        "s",
        "how long a machine earns what it cost",
        "lookup: as the facts state it",
        "prices.ownership.asked.rule",
        "prices.ownership.rules.*",
    ),
    R(
        "rows * amount",
        "",
        "amount of the property; of software its place",
        "lookup: even steps from --from to --to",
    ),
    R(
        "rows * set *",
        "",
        "value of a fact of this line, as --set takes it",
        "lookup: today's times amount / today",
    ),
    R(
        "rows * tokens_per_s_per_chip",
        "1/s",
        "tokens per second and chip of the best plan with this amount",
        "search: the best plan of the machine, as `compare --set` finds it",
    ),
    R("rows * days", "d", "days of the whole run, with failures", "search: as `compare --set` finds it"),
    R("rows * usd_per_mtok", "USD/Mtok", "cost of a million tokens", "search: as `compare --set` finds it"),
    R(
        "rows * cached_frac",
        "1",
        "share of the prompt tokens that the cache has",
        "search: the curve of hits at the memory that the plan leaves",
    ),
    R("rows * gain", "1", "tokens over those of the machine as it is", "inside: this line's / today's"),
    R(
        "rows * more",
        "1/s",
        "tokens per second and chip that a unit adds",
        "inside: (this line's - today's) / units between",
    ),
    R("rows * days_less", "d", "days that a unit saves", "inside: (this line's - today's) / units between"),
    R(
        "rows * worth",
        "USD",
        "what a unit is worth over the life of the machine, per chip",
        "inside: price x life x share of the tokens that it adds to today's",
    ),
    R(
        "rows * pays_from",
        "USD/chip/h",
        "price of a chip-hour from which the memory pays",
        "inside: price of the memory / (life x share of the tokens that it adds)",
    ),
)
"""What each number is."""


_OF_MEMORY = ("pays_from",)
_OF_LIFE = ("worth", "pays_from")


def source(result: Result, at: ResultPath, row: Result, facts: Facts, model: Callable[[], Model]) -> Source:
    """One amount of the property: the facts that it sets, and those of its worth. A plan is not searched again."""
    system = resolve(facts, str(result["inputs"]["on"]))

    def record(name: ResultPath, known: Facts, notes: Notes) -> None:
        paths = list(row["set"]) or [f"chips.{system.chip}.memory.hbm_capacity"]
        memory, life = worth_facts(known, system.id)
        paths += [life] if name[0] in _OF_LIFE else []
        paths += [memory] if name[0] in _OF_MEMORY and memory is not None else []
        for path in paths:
            fact = known.fact(path)
            notes.add(path, fact.value, fact.unit)

    return Source(at=at, record=record, title=f"{row['model']} on {system.display}")
