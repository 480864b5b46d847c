"""`mowich gap`: why one machine beats another at a job, as factors that multiply to the whole ratio.

Each property of the first machine is exchanged for the second one's (`software.hybrid`), and the job is planned again.
The named properties are exchanged in every order, or in some (`studies.attribution`); what then is left, the rest, is
exchanged last. So the product of the factors is the ratio of the two answers that `compare` gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from mowich.economics import money
from mowich.errors import EXIT_INFEASIBLE, UserError, or_infeasible
from mowich.estimate import Estimate, Notes, from_spreads, log_spread, product_of, worst_grade
from mowich.facts import Facts
from mowich.facts.together import moves_together
from mowich.models.model import Model
from mowich.progress import tell
from mowich.requests.jobs import CompareRequest
from mowich.requests.rooms.gap import OF_GAP, GapRequest
from mowich.shown import Keyed, Result, Rows, Shown
from mowich.software.engine import engine_for
from mowich.software.hybrid import PROPERTIES, REST, Hybrids, is_inside_chip, property_of
from mowich.software.stack import Platform, equip
from mowich.studies.attribution import Attribution, CauseShare, over_all_orders, over_some_orders
from mowich.studies.compare import solve_system, system_asks
from mowich.studies.explain.rules.rule import R
from mowich.studies.explain.source import Source
from mowich.studies.explain.tree import ResultPath
from mowich.studies.outcome import SystemAsk, used_chips
from mowich.studies.serving_plan import ServeAsk, ServeRow, serving_inputs, solve_serving
from mowich.studies.system_row import SystemRow
from mowich.sums import float_sum
from mowich.training import longrun
from mowich.training.search import search
from mowich.units import show, show_gib

_SPEED, _COST, _TOTAL = OF_GAP

_PRICE = "price"

MOST_TRAINED, MOST_SERVED = 25e6, 1.6e6
"""Plans of training, and points of serving, that all searches together may look at: about 5 s of a processor. Where
every set of properties would take more, some orders are drawn."""

Planner = Callable[[Platform, str], tuple[float, str] | None]
"""A machine and an engine -> (what it makes, its plan in words); None where nothing fits or keeps the limits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GapSystem(Keyed):
    """One of the two machines with its best plan. price: USD per chip and second, unknown where there is none."""

    KEYS = "system system_id display chips software plan price_label tokens_per_s_per_chip usd_per_mtok price"

    system: str
    system_id: str
    display: str
    chips: int
    software: str
    plan: str
    tokens_per_s_per_chip: Estimate
    usd_per_mtok: Estimate
    price: Estimate
    price_label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor(Keyed):
    """What one property is worth. factor: above 1 where it speaks for the second machine; its range: the facts of that
    property and the errors of the model on both machines, 90%, and the orders of exchange.
    orders_low, orders_high: the least and the most over orders alone; alone, alone_plan: where it is exchanged first;
    first, second: what the two machines have."""

    KEYS = "property orders_low orders_high alone alone_plan first second factor"

    property: str
    factor: Estimate
    orders_low: float
    orders_high: float
    alone: float | None
    alone_plan: str
    first: str
    second: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap(Shown):
    """Why the second of two machines is better, or worse. ratio: of the second one's answer to the first one's; of a
    cost the other way round, so that more is better; machines: how many were planned on; orders: orders that were
    averaged, is_exact: all of them; rest_first: whether the rest had to be exchanged first, because its other place
    has no plan; price_parity: price of a chip-hour of the first machine over that of the second at which a token costs
    the same; work: plans, or points of serving, that one search looks at.

    Units: factors have none; `ratio` is a ratio.

    Example:
        >>> import mowich
        >>> job = {"tokens": "1T", "seq": 4096, "batch": "256seqs"}
        >>> mowich.gap("trn2", "trn3", model="llama-3.2-1b", train=job, chips=8).metric  # doctest: +SKIP
        'tokens_per_s_per_chip'
    """

    SCHEMA = "mowich/gap@1"
    KEYS = "inputs facts_hash metric systems ratio product rows machines orders is_exact rest_first price_parity"

    inputs: Mapping[str, object]
    facts_hash: str
    metric: str
    systems: tuple[GapSystem, GapSystem]
    ratio: Estimate
    rows: Rows[Factor]
    machines: int
    orders: int
    is_exact: bool
    rest_first: bool
    price_parity: Estimate
    work: float = 0.0

    @property
    def product(self) -> float:
        """Of all factors."""
        return math.prod(float(row.factor) for row in self.rows)

    def factor(self, name: str) -> Estimate:
        """The factor of a property."""
        return next(row.factor for row in self.rows if row.property == name)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """One of the two answers. made: what is attributed, more is better: tokens/s and chip, of a cost per chip that is
    paid for and with failures; widths: how far it may lie below and above, in ln, by property; work: plans that its
    search looked at."""

    shown: GapSystem
    platform: Platform
    engine: str
    made: Estimate
    widths: Mapping[str, tuple[float, float]]
    work: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """sides: the two answers; plan: what plans a machine between them; most: the work that is allowed."""

    inputs: dict[str, object]
    sides: tuple[_Side, _Side]
    planner: Planner
    most: float


def answer(asked: GapRequest) -> Gap:
    """Why the second of two machines beats the first at a job: factors that multiply to the ratio.

    Args:
        first: a system.
        second: the system that it is set against.
        model: a name, a file, or what `mowich.load` gave.
        train: the training job, keys as in `mowich.Train`.
        serve: the serving job, keys as in `mowich.Serve`.
        chips: of each system.
        metric: "tokens_per_s_per_chip", "usd_per_mtok", or "usd_total" of a training run.
        stack: training software.
        seed: of the orders of exchange, where they are drawn.
        price: kind of price for both.
        recipe: "future" takes precisions too that no software ships on a chip; "shipped" is the default.
        fixed: choices of the plan that are not searched.
        term: the older name of `price`.
        facts: other facts than the shipped ones.

    Returns: a `Gap`: `.rows` with a factor for each property, `.ratio`. Units: factors have none; rows name their own.

    Example:
        >>> import mowich
        >>> job = {"tokens": "1T", "seq": 4096, "batch": "256seqs"}
        >>> found = mowich.gap("trn2", "trn3", model="llama-3.2-1b", train=job, chips=8)  # doctest: +SKIP
        >>> round(found.product / float(found.ratio), 6)  # doctest: +SKIP
        1.0
    """
    metric = asked.metric
    if asked.train is None and metric == _TOTAL:
        raise UserError("serving has no end, so it has no total", field="metric", given=metric, allowed=(_SPEED, _COST))
    question = _trained(asked) if asked.train is not None else _served(asked)
    a, b = question.sides
    prices = (a.shown.price, b.shown.price)
    if metric != _SPEED:
        for side in (a.shown, b.shown):
            if side.price.value is None:
                raise UserError(
                    f"{side.system} has no price: {side.price.reason}",
                    field="metric",
                    given=metric,
                    fix=f"for example --set prices.{side.system_id}='$1.40/chip/h'",
                )
    hybrids = Hybrids(a.platform, b.platform)
    causes = [n for n in hybrids.differing() if n != "software"]
    if a.engine != b.engine or "software" in hybrids.differing():
        causes.append("software")
    found = _Exchanges(hybrids, (a, b), question.planner)
    rest_first = found.log_made(frozenset(causes)) is None
    held = frozenset({REST}) if rest_first else frozenset()

    def worth(taken: frozenset[str]) -> float | None:
        return found.log_made(taken | held)

    per_plan = 0.5 * (a.work + b.work)
    if 2.0 ** len(causes) * per_plan <= question.most:
        shared = over_all_orders(causes, worth)
    else:
        shared = over_some_orders(causes, worth, most_sets=int(question.most / per_plan), seed=asked.seed)
    rows = _rows(found, shared, held, causes)
    ratio = product_of([(b.made, 1.0), (a.made, -1.0)], "1")
    if metric != _SPEED:
        rows.append(_price_factor(prices))
        ratio = product_of([(ratio, 1.0), (prices[0], 1.0), (prices[1], -1.0)], "1")
    return Gap(
        inputs={**question.inputs, "metric": metric, "seed": asked.seed},
        facts_hash=asked.facts.hash(),
        metric=metric,
        systems=(a.shown, b.shown),
        ratio=ratio,
        rows=Rows(rows),
        machines=found.machines,
        orders=shared.orders,
        is_exact=shared.is_exact,
        rest_first=rest_first,
        price_parity=product_of([(a.made, 1.0), (b.made, -1.0)], "1"),
        work=per_plan,
    )


class _Exchanges:
    """What machines between the two make; the two themselves as they were answered."""

    def __init__(self, hybrids: Hybrids, sides: tuple[_Side, _Side], planner: Planner) -> None:
        self.hybrids, self.sides, self._planner = hybrids, sides, planner
        self._known: dict[frozenset[str], tuple[float, str] | None] = {}
        for side, taken in zip(sides, (frozenset[str](), frozenset((*PROPERTIES, REST))), strict=True):
            self._known[taken] = (float(side.made), side.shown.plan)

    @property
    def machines(self) -> int:
        """Machines that were planned on, the two themselves among them."""
        return len(self._known)

    def at(self, taken: frozenset[str]) -> tuple[float, str] | None:
        """(what is made, plan) with these properties exchanged; those in which the two do not differ go with the
        rest."""
        if REST in taken:
            taken |= frozenset(PROPERTIES) - self._differing
        if taken not in self._known:
            engine = self.sides["software" in taken].engine
            tell("planning on machines between the two", len(self._known) - 2, 2 ** len(self._differing) - 1)
            self._known[taken] = self._planner(self.hybrids.with_taken(taken), engine)
        return self._known[taken]

    @property
    def _differing(self) -> frozenset[str]:
        return frozenset(self.hybrids.differing()) | (
            frozenset({"software"}) if self.sides[0].engine != self.sides[1].engine else frozenset()
        )

    def log_made(self, taken: frozenset[str]) -> float | None:
        """The logarithm of what is made; None where nothing is."""
        found = self.at(taken)
        return None if found is None else math.log(found[0])


def _rows(found: _Exchanges, shared: Attribution, held: frozenset[str], causes: Sequence[str]) -> list[Factor]:
    """The factors of all named properties and the rest. held: the rest, where it was exchanged first."""
    a, b = found.sides
    none, whole = frozenset[str](), frozenset((*causes, REST))
    start, end = (none, held) if held else (frozenset(causes), whole)
    before, after = found.log_made(start), found.log_made(end)
    assert before is not None
    assert after is not None
    rest = after - before
    shares = {**shared.shares, REST: CauseShare(value=rest, low=rest, high=rest)}
    same = CauseShare(value=0.0, low=0.0, high=0.0)
    rows = []
    for name in (*PROPERTIES, REST):
        share = shares.get(name, same)
        downs = [a.widths.get(name, _SURE)[1], b.widths.get(name, _SURE)[0], share.value - share.low]
        ups = [a.widths.get(name, _SURE)[0], b.widths.get(name, _SURE)[1], share.high - share.value]
        alone = found.at(frozenset({name})) if name in causes else None
        rows.append(
            Factor(
                property=name,
                factor=from_spreads(
                    math.exp(share.value),
                    "1",
                    downs,
                    ups,
                    grade=worst_grade((a.made.grade, b.made.grade)) if name in shares else "A",
                ),
                orders_low=math.exp(share.low),
                orders_high=math.exp(share.high),
                alone=alone[0] / float(a.made) if alone else None,
                alone_plan=alone[1] if alone else "",
                first=property_words(a.platform, a.shown.software, name),
                second=property_words(b.platform, b.shown.software, name),
            )
        )
    return rows


_SURE = (0.0, 0.0)


def _price_factor(prices: tuple[Estimate, Estimate]) -> Factor:
    factor = product_of([(prices[0], 1.0), (prices[1], -1.0)], "1")
    first, second = (show(float(p), "USD/chip/s") for p in prices)
    value = float(factor)
    return Factor(
        property=_PRICE,
        factor=factor,
        orders_low=value,
        orders_high=value,
        alone=value,
        alone_plan="",
        first=first,
        second=second,
    )


def property_words(platform: Platform, software: str, name: str) -> str:
    """What a machine has of a property, per chip."""
    devices = platform.devices_per_chip
    if name == "compute":
        peak = platform.peak_flops
        eight = max((k for k in ("fp8", "mxfp8", "int8") if k in peak), key=lambda k: peak[k], default="bf16")
        both = dict.fromkeys(("bf16", eight))
        return ", ".join(f"{show(peak[k] * devices, 'FLOP/s')} {k}" for k in both)
    if name == "bandwidth":
        return show(platform.hbm_Bps * devices, "B/s")
    if name == "capacity":
        return show_gib(platform.hbm_usable_B * devices)
    if name == "software":
        return software
    if name == REST:
        return f"{platform.chips:,} chips of {devices} device{'s' if devices > 1 else ''}"
    levels = [x for x in platform.levels if x.is_network == (name == "scale-out") and not is_inside_chip(platform, x)]
    links = " + ".join(show(x.bandwidth_Bps * devices, "B/s") for x in levels)
    return f"{links}, {platform.chips_per_unit:,} chips" if name == "scale-up" else links


# ---- training
# ----------------------------------------------------------------------------------------------------------------------


def _trained(asked: GapRequest) -> _Question:
    job, facts, fixed = asked.train_job, asked.facts, asked.fixed
    found = system_asks(CompareRequest.of(asked))
    a, b = (_trained_side(ask, fixed, asked.metric) for ask in found.asks)
    model, paid = found.asks[0].model, asked.metric != _SPEED

    def planner(platform: Platform, engine: str) -> tuple[float, str] | None:
        plans = or_infeasible(search, model, platform, job, fixed=fixed)
        if isinstance(plans, UserError) or not plans.best:
            return None
        best = plans.best[0]
        used = used_chips(best.plan, platform)
        made = best.tokens * job.fill / best.step_s / (platform.chips if paid else used)
        if paid:
            made *= longrun.kept(facts, platform.id, chips=used, step_s=best.step_s).value or 0.0
        return (made, str(best.plan)) if made > 0 else None

    return _Question(inputs=dict(found.inputs), sides=(a, b), planner=planner, most=MOST_TRAINED)


def _trained_side(ask: SystemAsk, fixed: Mapping[str, Sequence[int | str]], metric: str) -> _Side:
    row = solve_system(ask, fixed=fixed, brief=True)[0]
    _has_plan(ask.name, row)
    platform = replace(ask.system, hbm_usable_B=ask.usable_B[0])
    widths: dict[str, list[tuple[float, float]]] = {}
    owner = {ask.facts.fact(path).path: property_of(field) for field, path in reversed([*ask.system.paths.items()])}
    for path, at_low, at_high in moves_together(
        row.spread, ask.facts
    ):  # changes of ln time: what is made moves the other way
        ends = (max(0.0, at_low, at_high), max(0.0, -at_low, -at_high))
        widths.setdefault(owner.get(path, REST), []).append(ends)
    made = row.tokens_per_s_per_chip
    if metric != _SPEED:
        made = product_of([(made, 1.0), (row.goodput, 1.0)], "1/s").scaled(row.chips_used / ask.chips, "1/s")
        widths.setdefault(REST, []).append(_half_widths(row.goodput))
    assert row.plan is not None
    shown = _shown(row, ask.facts, ask.term, software=platform.stack.name, plan=str(row.plan))
    if metric == _TOTAL:
        shown = replace(shown, usd_per_mtok=row.usd_per_mtok.scaled(ask.job.tokens / 1e6, "USD"))
    return _Side(
        shown=shown,
        platform=platform,
        engine="",
        made=made,
        widths=_with_remainder(made, widths),
        work=row.search_counts["evaluated"],
    )


def _shown(row: SystemRow, facts: Facts, term: str, *, software: str, plan: str) -> GapSystem:
    """One of the two systems, by its row."""
    price = money.price(facts, row.system_id, term=term)
    return GapSystem(
        system=row.system,
        system_id=row.system_id,
        display=row.display,
        chips=row.chips_requested,
        software=software,
        plan=plan,
        tokens_per_s_per_chip=row.tokens_per_s_per_chip,
        usd_per_mtok=row.usd_per_mtok,
        price=price.rate,
        price_label=price.label,
    )


def _half_widths(e: Estimate) -> tuple[float, float]:
    """How far an estimate may lie below and above, in ln."""
    value = float(e)
    return log_spread(value, e.low or value, e.high or value)


def _with_remainder(
    made: Estimate, widths: Mapping[str, Sequence[tuple[float, float]]]
) -> dict[str, tuple[float, float]]:
    """Half-widths by property: those of its facts in quadrature. What the facts do not make of the answer's own range
    is the error of the model on measured runs, and goes with the software."""
    out = {name: _quadrature(parts) for name, parts in widths.items()}
    whole, known = _half_widths(made), _quadrature(list(out.values()))
    left = tuple(math.sqrt(max(0.0, w * w - k * k)) for w, k in zip(whole, known, strict=True))
    out["software"] = _quadrature([out.get("software", _SURE), (left[0], left[1])])
    return out


def _quadrature(parts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    down, up = (math.sqrt(float_sum(part[i] ** 2 for part in parts)) for i in (0, 1))
    return down, up


def _has_plan(name: str, row: SystemRow) -> None:
    """Raise UserError for a machine that surely has no plan, with the reason."""
    if row.feasible is not True:
        raise UserError(
            f"{name} has no plan to compare: {row.reason}",
            fix="ask for more chips, or looser limits",
            code=EXIT_INFEASIBLE,
        )


# ---- serving
# ----------------------------------------------------------------------------------------------------------------------


def _served(asked: GapRequest) -> _Question:
    model, job, facts, names, chips = asked.model, asked.serve_job, asked.facts, asked.systems, asked.chips
    fixed, term, metric = asked.fixed, asked.term, asked.metric
    platforms = [equip(facts, name, chips=chips) for name in names]
    engines = [engine_for(facts, platform, asked.engine, model) for platform in platforms]

    def solved(platform: Platform, name: str, software: str) -> tuple[ServeRow, int]:
        ask = ServeAsk(name=name, model=model, system=platform, engine=software, job=job, facts=facts, fixed=fixed)
        rows, _, got = solve_serving(replace(ask, term=term))
        return rows[0], got.points

    def side(name: str, platform: Platform, software: str) -> _Side:
        row, points = solved(platform, name, software)
        _has_plan(name, row)
        if row.undecided and metric != _SPEED:
            raise UserError(f"{name}: {row.undecided}", field="metric", given=metric, allowed=_SPEED)
        return _Side(
            shown=_shown(row, facts, term, software=software, plan=workers_words(row)),
            platform=platform,
            engine=software,
            made=row.tokens_per_s_per_chip,
            widths=_with_remainder(row.tokens_per_s_per_chip, {}),
            work=points,
        )

    def planner(platform: Platform, software: str) -> tuple[float, str] | None:
        row, _ = solved(platform, platform.id, software)
        return (float(row.tokens_per_s_per_chip), workers_words(row)) if row.feasible else None

    a, b = (side(*given) for given in zip(names, platforms, engines, strict=True))
    systems = list(zip(names, platforms, engines, strict=True))
    return _Question(
        inputs={**serving_inputs(model, job, fixed, term, systems, facts), "chips": chips},
        sides=(a, b),
        planner=planner,
        most=MOST_SERVED,
    )


def workers_words(row: ServeRow) -> str:
    """ "tp8 fp8/fp8", "prefill tp2, decode tp8": workers of both kinds where they differ."""
    if row.mode == "aggregated":
        return str(row.decode)
    return f"prefill {row.prefill}, decode {row.decode}"


_ORDER = (
    "search: the job planned again with the property exchanged after each set of the other named ones that the orders"
    " come through"
)

RULES = (
    R("systems * chips", "chips", "chips of the machine", "lookup: as named, --chips, or one unit"),
    R(
        "systems * tokens_per_s_per_chip",
        "1/s",
        "tokens per second and chip of its best plan",
        "search: the best plan of the machine, as `compare` finds it",
    ),
    R(
        "systems * usd_per_mtok",
        "USD/Mtok",
        "cost of a million tokens; of usd_total that of the whole run",
        "search: the best plan of the machine at its price, as `compare` finds it",
    ),
    R("systems * price", "USD/chip/s", "price of a chip", "lookup: as the facts state it for the terms asked for"),
    R(
        "ratio",
        "1",
        "how many times the first machine's answer the second one's is; of a cost, tokens for a dollar",
        "inside: what the second machine makes / what the first one makes",
    ),
    R("product", "1", "all factors together", "inside: product of the factors; it is the ratio"),
    R(
        "rows * factor",
        "1",
        "what a property is worth: above 1 it speaks for the second machine",
        "search: exp of the mean, over the orders of exchange, of what it adds to ln of what is made; price:"
        " first / second; the rest: what is left when all named ones are exchanged",
    ),
    R("rows * orders_low", "1", "the least that it is worth over the orders", _ORDER),
    R("rows * orders_high", "1", "the most that it is worth over the orders", _ORDER),
    R("rows * alone", "1", "what it is worth where it is exchanged first", _ORDER),
    R(
        "machines",
        "1",
        "machines that were planned on",
        "search: the two, and those between them that were asked for",
    ),
    R("orders", "1", "orders that were averaged", "search: all along which plans fit, or those that were drawn"),
    R(
        "price_parity",
        "1",
        "price of a chip-hour of the first machine over that of the second at which a token costs the same",
        "inside: what a chip of the first makes / what a chip of the second makes",
    ),
)
"""What each number is."""


def source(result: Result, at: ResultPath, row: Result, facts: Facts, model: Callable[[], Model]) -> Source:
    """One property of both machines."""

    paths = {s["system"]: _paths(result, s, str(row["property"]), facts) for s in result["systems"]}

    def record(name: ResultPath, known: Facts, notes: Notes) -> None:
        for system in result["systems"]:
            if row["property"] == "price":
                own = Notes()
                money.price(known, system["system_id"], term=result["inputs"]["price_term"], notes=own)
                notes.take(own, f" of {system['system']}")
                continue
            for field, path in paths[system["system"]].items():
                fact = known.get(path)
                if fact is not None and isinstance(fact.value, float):
                    notes.add(f"{field} of {system['system']}", fact.value, fact.unit)

    return Source(
        at=at,
        record=record,
        title=" and ".join(s["system"] for s in result["systems"]),
    )


def _paths(result: Result, system: Result, name: str, facts: Facts) -> dict[str, str]:
    """Field -> path of the facts of a property of one machine. Software of serving is its engine, and the chip's
    family under it."""
    serves = result["inputs"].get("task") == "serve"
    platform = equip(facts, system["system_id"], stack=None if serves else system["software"])
    if serves and name == "software":
        files = (f"serving.{platform.family}", f"serving.{system['software']}")
        return {path.removeprefix("serving."): path for file in files for path in facts.paths(file)}
    return {field: path for field, path in platform.paths.items() if property_of(field) == name}
