"""Reading a scenario file into a `FleetProblem`, every mistake with its file and line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from mowich.economics.energy import chip_power, drawn_power
from mowich.economics.energy import read_site as site_facts
from mowich.economics.money import RATE, RENTAL_KINDS, TERMS
from mowich.economics.money import price as published_price
from mowich.economics.ownership import owned
from mowich.errors import UserError, unknown
from mowich.estimate import Estimate, exact, unknown_estimate
from mowich.facts import Facts
from mowich.fleets.problem import (
    CLOUD,
    GOALS,
    HOURS,
    LENGTHS,
    LETTER,
    PER_YEAR,
    TASK_KINDS,
    WORK_GOALS,
    Choice,
    FleetProblem,
    FleetSite,
    FleetTask,
    Offer,
    Supplied,
    Vector,
    Workload,
)
from mowich.fleets.supply import is_of_facts, supply_of_facts, units_a_period
from mowich.machines.system import System, resolve
from mowich.readback import record_of
from mowich.scenario import FORMAT, Node, parse_text, read_scenario
from mowich.software.engine import engine_names
from mowich.software.vendors import ported_stack
from mowich.units import is_digits, parse, show

DEMAND_FROM = ("invented", "forecast", "ordered", "measured")
"""Where the demand of a scenario comes from, which decides how much an idle chip means."""

_COUNTED = re.compile(r"\s*(\S+)\s+(chip|unit)s?\s*")
"""A count with its noun: "512 chips"."""


def _run_of(node: Node) -> str:
    """The scenario of a run of reinforcement learning: the path of its file (relative to the fleet's file unless it is
    absolute or shipped), or its text where the fleet's file contains it."""
    run = node.raw("run")
    if isinstance(run, Mapping):
        return json.dumps({"mowich": FORMAT, **run}, default=str)
    beside = Path(node.file).parent / str(run)
    return str(beside) if beside.is_file() else str(run)


def period_labels(start: str, count: int, length: str) -> tuple[str, ...]:
    """ "2027-Q3", 3, "quarter" -> ("2027-Q3", "2027-Q4", "2028-Q1"). Raises UserError for a start of another form.

    >>> period_labels("2027-Q3", 3, "quarter")
    ('2027-Q3', '2027-Q4', '2028-Q1')
    >>> period_labels("2027", 2, "year")
    ('2027', '2028')
    """
    per_year, letter = PER_YEAR[length], LETTER.get(length, "")
    year, _, part = start.partition("-")
    first = part.removeprefix(letter) if letter else "1"
    if not (
        is_digits(year)
        and is_digits(first)
        and 1 <= int(first) <= per_year
        and bool(part) == bool(letter)
        and (not letter or part.startswith(letter))
    ):
        raise UserError(
            "not the name of a period",
            given=start,
            allowed={"quarter": "2027-Q1", "month": "2027-M01", "year": "2027"}[length],
        )
    out = []
    for i in range(count):
        ahead = int(first) - 1 + i
        number = ahead % per_year + 1
        text = f"{int(year) + ahead // per_year}"
        out.append(text + (f"-{letter}{number:02d}" if length == "month" else f"-{letter}{number}" if letter else ""))
    return tuple(out)


class _Reader:
    """Reads one scenario, and holds the shared state of its parts."""

    def __init__(self, root: Node, facts: Facts) -> None:
        self.root, self.facts = root, facts
        self.labels: tuple[str, ...] = ("",)
        self.length = "quarter"
        self.warnings: list[str] = []

    @property
    def num_periods(self) -> int:
        return len(self.labels)

    def period(self, node: Node, key: str, default: int) -> int:
        """The period that a key names."""
        word = node.text(key)
        return self.place_of(node, key, word, default) if word else default

    def place_of(self, node: Node, key: str, word: str, default: int) -> int:
        """The place of the period of a name; the default where there is none, which the node notes."""
        if word in self.labels:
            return self.labels.index(word)
        with node.watch(key, given=None, allowed=f"{self.labels[0]} .. {self.labels[-1]}"):
            raise unknown("period", word, self.labels)
        return default

    def periods_of(self, node: Node, key: str, default: int, minimum: int) -> int:
        """A length of time as a whole number of periods: "3y", "2 quarters" or a bare count of periods."""
        value = node.raw(key)
        if value is None:
            return default
        if isinstance(value, int) and not isinstance(value, bool):
            number = float(value)
        else:
            seconds = node.quantity(key, "s")
            if seconds is None:
                return default
            number = seconds / LENGTHS[self.length]
        if number < minimum - 1e-6:
            node.problem(key, f"must be at least {minimum} period(s)", given=value)
        return max(minimum, round(number))

    def series(
        self,
        node: Node,
        key: str,
        default: float,
        *,
        unit: str | None = None,
        whole: bool = False,
        read: Callable[[object], float] | None = None,
    ) -> Vector:
        """[T] from one value, a list with one value per period, {PERIOD: value} (from then on), or {first: value,
        growth: 5%} (per period). read: reads one value that is neither a count nor a quantity."""
        value = node.raw(key)
        if value is None:
            return np.full(self.num_periods, default)

        def one(given: object) -> float:
            if read is not None:
                return read(given)
            if unit is None:
                return node.count_of(key, given, minimum=0, whole=whole)
            with node.watch(key, given=given):
                return parse(given, unit, where=node.name(key)).value
            return default

        if isinstance(value, list):
            if len(value) != self.num_periods:
                node.problem(key, f"has {len(value)} values for {self.num_periods} periods")
                return np.full(self.num_periods, default)
            return np.array([one(v) for v in value])
        if isinstance(value, Mapping):
            if "first" in value:
                with node.inside(key) as child:
                    child.raw("first")
                    growth = child.number("growth", 0.0, low=-0.99, high=10.0)
                return np.asarray(one(value["first"]) * (1 + growth) ** np.arange(self.num_periods), dtype=float)
            out = np.zeros(self.num_periods)
            for word, given in value.items():
                at = self.place_of(node, key, str(word), self.num_periods)
                if at < self.num_periods:
                    out[at:] = one(given)
            return out
        return np.full(self.num_periods, one(value))

    def units_of(self, node: Node, key: str, unit_chips: int, bare: bool, given: object) -> float:
        """Units of a system from "512 chips" or "8 units". bare: a number alone counts units; elsewhere it is refused
        where a unit has several chips, because it could mean either."""
        match = _COUNTED.fullmatch(str(given))
        number = node.count_of(key, match[1] if match else given, minimum=0)
        if match and match[2] == "chip":
            under = int(number // unit_chips)
            if number % unit_chips:
                near = " or ".join(f"{n * unit_chips:,} chips" for n in (under, under + 1) if n)
                node.problem(
                    key, f"a unit has {unit_chips} chips, and only whole units stand", given=given, allowed=near
                )
            return float(under)
        if not match and not bare and unit_chips > 1 and number:
            node.problem(
                key,
                f"{number:,.0f} of what? a unit has {unit_chips} chips",
                given=given,
                allowed=f"'{number:.0f} chips' or '{number:.0f} units' ({number * unit_chips:,.0f} chips)",
            )
        return number

    def estimate(self, node: Node, key: str, unit: str) -> Estimate | None:
        """The user's own number: a quantity, or {value:, low:, high:}."""
        value = node.raw(key)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            number = node.quantity(key, unit)
            return None if number is None else exact(number, unit, "user")
        with node.inside(key, "low", "high") as child:
            low, high, middle = (child.quantity(name, unit) for name in ("low", "high", "value"))
        if low is None or high is None:
            return None
        if middle is None:
            middle = (low * high) ** 0.5
        if not 0 < low <= middle <= high:
            node.problem(key, "low, value and high must rise and be above 0")
            return None
        return Estimate(value=middle, unit=unit, low=low, high=high, grade="user")

    def day(self, node: Node) -> tuple[float, ...]:
        """`day`: the load of each hour as a share of its peak, from a list of 24 numbers or from {from: 8, to: 20,
        night: 30%}: full between two hours and less before and after. Empty where there is none."""
        value = node.raw("day")
        if value is None:
            return ()
        if isinstance(value, Mapping):
            with node.inside("day", "from", "to", "night") as child:
                first, last = child.count("from", minimum=0), child.count("to", HOURS, minimum=0)
                night = child.number("night", 1.0, low=0.0, high=1.0)
            if not 0 <= first < last <= HOURS:
                node.problem("day", f"'from' comes before 'to', both hours up to {HOURS}", given=f"{first:g}, {last:g}")
            return tuple(1.0 if first <= hour < last else night for hour in range(HOURS))
        if not isinstance(value, list) or len(value) != HOURS:
            node.problem("day", f"{HOURS} numbers, one for each hour", given=value)
            return ()
        loads = [node.count_of("day", load, minimum=0, whole=False) for load in value]
        if max(loads) <= 0:
            node.problem("day", "one hour at least has a load")
            return ()
        return tuple(load / max(loads) for load in loads)

    # parts
    # -------------------------------------------------------------------------------------------------------------
    def read_periods(self) -> None:
        node = self.root.node("periods")
        node.need("start", "count")
        self.length = node.text("length", "quarter", allowed=tuple(LENGTHS))
        count = int(node.count("count", 1))
        if count > 1000:
            node.problem("count", "at most 1000 periods", given=count)
            count = 1
        self.labels = tuple(map(str, range(count)))
        with node.watch("start"):
            start = node.text("start", "2027" if self.length == "year" else "2027-Q1")
            self.labels = period_labels(start, count, self.length)
        node.done()

    def read_tasks(self, kind: str, name: str, node: Node, chips: int, active: Vector) -> list[FleetTask]:
        """The tasks of a workload: one, or the rollouts and the updates of reinforcement learning. active: [T] 1 inside
        the window."""

        def question(do: str, **keys: str) -> dict[str, object]:
            words = {name: node.raw(key) for name, key in keys.items()}
            return {"do": do, "model": node.text("model"), **words, "chips": chips}

        def train(tokens: str) -> dict[str, object]:
            return question("train", tokens=tokens, seq="seq", batch="batch")

        serve = partial(question, "serve", isl="isl", osl="osl")

        def task(part: str, tokens: str, ask: Mapping[str, object]) -> FleetTask:
            full = name if part == kind else f"{name}.{part}"
            return FleetTask(
                name=full, workload=name, kind=part, tokens=node.count(tokens, 1.0), tokens_per_s=0.0 * active, ask=ask
            )

        if kind == "train":
            node.need("model", "tokens", "seq", "batch")
            return [task(kind, "tokens", train("tokens"))]
        if kind == "batch":
            node.need("model", "isl", "osl", "tokens")
            return [task(kind, "tokens", serve())]
        if kind == "serve":
            node.need("model", "isl", "osl", "tokens_per_s")
            limits = {k: v for k in ("ttft", "tpot") if (v := node.raw(k)) is not None}
            day = self.day(node)
            if day and "peak" in node:
                node.problem("peak", "'day' says how high the peak is: give one of the two")
            peak = node.number("peak", 1.0, low=1.0, high=100.0)
            asked = FleetTask(
                name=name,
                workload=name,
                kind=kind,
                tokens=0.0,
                tokens_per_s=active,
                ask=serve() | limits,
                day=day,
                peak=peak,
            )
            rate = self.series(node, "tokens_per_s", 0.0) * (peak / asked.day_mean) * active
            return [replace(asked, tokens_per_s=rate)]
        if "run" in node:
            node.need("tokens")
            run = _run_of(node)
            return [task(part, "tokens", {"do": part, "run": run, "chips": chips}) for part in ("rollouts", "updates")]
        node.need("model", "rollout_tokens", "update_tokens", "isl", "osl", "seq", "batch")
        return [task("rollouts", "rollout_tokens", serve()), task("updates", "update_tokens", train("update_tokens"))]

    def read_workload(self, name: str, node: Node, choices: Sequence[str], stacks: Sequence[str]) -> Workload:
        kinds = [k for k in TASK_KINDS if k in node]
        if len(kinds) != 1:
            node.problem(None, "a workload has one of train, serve, batch and rl", given=kinds or node.keys())
        kind = kinds[0] if kinds else "train"
        first, last = self.period(node, "from", 0), self.period(node, "until", self.num_periods - 1)
        if last < first:
            node.problem("until", f"lies before its start, {self.labels[first]}", given=self.labels[last])
        active = np.zeros(self.num_periods)
        active[first : last + 1] = 1.0
        what = node.node(kind)
        tasks = self.read_tasks(kind, name, what, int(node.count("on_chips", 0)), active)
        what.done()
        if node.flag("any_hour"):
            if kind == "serve":
                node.problem("any_hour", "users of a serving workload do not wait", fix="give 'day' instead")
            tasks = [replace(t, any_hour=True) for t in tasks]
        needs = node.names("needs", ("bf16", "fp8", "mxfp8", "nvfp4", "mxfp4"))
        if needs:
            tasks = [replace(t, ask={**t.ask, "precision": list(needs)}) for t in tasks]
        porting = node.node("porting")
        cost = {stack: porting.quantity(stack, "USD", 0.0) or 0.0 for stack in stacks}
        porting.done(stacks)
        allowed = node.names("systems", choices)
        most = np.inf if node.raw("most") == "any" else node.number("most", 1.0, low=1.0, high=1e6)
        out = Workload(
            name=name,
            kind=kind,
            tasks=tuple(tasks),
            first=first,
            last=last,
            one_system=node.flag("one_system"),
            systems=allowed,
            porting_usd=cost,
            max_chips=node.count("max_chips", 0.0),
            most=most,
            worth_usd=node.quantity("worth", "USD/token", 0.0) or 0.0,
            tenant=node.text("tenant"),
        )
        node.done()
        return out

    def read_offer(
        self, kind: str, name: str, node: Node, system: System, sites: Sequence[str], unit_chips: int
    ) -> Offer:
        unit = "USD" if kind == "buy" else RATE
        term = node.raw("price")
        given = self.estimate(node, "price", unit) if term not in (TERMS if kind == "rent" else ("tco",)) else None
        if given is not None:
            price, label = given, "yours"
        elif kind == "rent":
            term = node.text("price", "rent", allowed=("default", *RENTAL_KINDS))
            found = published_price(self.facts, system.id, term="rent" if term == "default" else term)
            price, label = found.rate, found.label
        elif term == "tco":
            price, label = self.capital(system, unit_chips)
        else:
            price, label = unknown_estimate(unit, "a purchase has no price unless it is given"), "unknown"
        if price.value is None:
            node.problem(
                "price" if "price" in node else None,
                f"{name}: {price.reason}",
                fix="give a price, or a range {low:, high:}" + (", or tco" if kind == "buy" and term != "tco" else ""),
            )
        default = self.num_periods if kind == "buy" else 1
        term_periods = self.periods_of(node, "life" if kind == "buy" else "for", default, 1)
        place = node.text(
            "site",
            CLOUD if kind == "rent" else (sites[0] if len(sites) == 1 else ""),
            allowed=[*sites, CLOUD] if kind == "rent" else sites,
        )
        if not place:
            node.problem("site" if "site" in node else None, f"{name}: what is bought stands at a site", allowed=sites)
        supply, supplied = self.read_supply(node, system, unit_chips)
        delay = self.periods_of(node, "delay", 0, 0)
        node.done()
        return Offer(
            system=name,
            kind=kind,
            site=place,
            price=price,
            price_label=label,
            term=term_periods,
            supply=supply,
            delay=delay,
            supplied=supplied,
        )

    def read_supply(self, node: Node, system: System, unit_chips: int) -> tuple[Vector, Supplied | None]:
        """[T] units that can be ordered in a period, and the facts behind them where the scenario asks for facts."""
        given = node.raw("supply")
        if not isinstance(given, str) or not is_of_facts(given):
            read = partial(self.units_of, node, "supply", unit_chips, True)
            return self.series(node, "supply", np.inf, read=read), None
        with node.watch("supply", given=given):
            found = supply_of_facts(given, self.facts, system.chip)
            units = units_a_period(found, float(found.quarterly), unit_chips, LENGTHS[self.length])
            return np.full(self.num_periods, units), found
        return np.full(self.num_periods, np.inf), None

    def capital(self, system: System, unit_chips: int) -> tuple[Estimate, str]:
        """(the cost of a unit to its buyer, by the bill of its parts; label)."""
        cost = owned(self.facts, system.id)
        price = replace(cost.capital_total.scaled(unit_chips, "USD"), breakdown={})
        if price.value is None:
            return price, "unknown"
        return price, f"{show(price.value, 'USD')}/unit, tco, {cost.terms.quarter}, {cost.terms.buyer}"

    def read_choice(self, name: str, node: Node, sites: Sequence[str]) -> Choice | None:
        system: System | None = None
        with self.root.node("systems").watch(name):
            system = resolve(self.facts, name, chips=None)
        if system is None:
            return None
        power = self.estimate(node, "power", "W") or chip_power(self.facts, system.id)
        unit_chips = int(node.count("unit_chips", system.chips_per_unit))
        have_node = node.node("have")
        have = {
            site: self.series(have_node, site, 0.0, read=partial(self.units_of, have_node, site, unit_chips, False))
            for site in have_node
        }
        for site in have:
            if site not in (*sites, CLOUD):
                error = unknown("site", site, [*sites, CLOUD])
                have_node.problem(site, error.what, allowed=error.allowed, fix=error.fix)
        have_node.done([*sites, CLOUD])
        committed, committed_price, resale = np.zeros(self.num_periods), exact(0.0, RATE), 0.0
        if "committed" in node:
            with node.inside("committed") as child:
                committed = self.series(child, "units", 0.0)
                term = child.raw("price", "rent")
                committed_price = (
                    published_price(self.facts, system.id, term="rent" if term == "default" else str(term)).rate
                    if term in TERMS
                    else self.estimate(child, "price", RATE)
                ) or committed_price
                if committed_price.value is None:
                    child.problem(None, f"{name}: {committed_price.reason}", fix="give a price")
                resale = child.number("resale", 0.0, low=0.0, high=1.0)
        offers = []
        for kind in ("buy", "rent"):
            value = node.raw(kind)
            if value is not None:
                offers.append(self.read_offer(kind, name, node.node(kind), system, sites, unit_chips))
        stack = node.text("stack", ported_stack(self.facts, system.vendor))
        engine = node.text("engine", "", allowed=engine_names(self.facts))
        node.done()
        return Choice(
            name=name,
            system=system,
            stack=stack,
            unit_chips=unit_chips,
            power_W=power,
            drawn_share=float(drawn_power(self.facts, system.id).share),
            have=have,
            committed=committed,
            committed_price=committed_price,
            offers=tuple(offers),
            engine=engine,
            resale=resale,
        )

    def read_site(self, name: str, node: Node, systems: Sequence[str]) -> FleetSite:
        default = site_facts(self.facts)
        cap = self.series(node, "power", np.inf, unit="W")
        pue = node.number("pue", 0.0, low=1.0, high=3.0) if "pue" in node else None
        electricity = self.estimate(node, "electricity", "USD/J")
        allowed = node.names("systems", systems)
        node.done()
        return FleetSite(
            name=name,
            cap_W=cap,
            pue=default.pue if pue is None else exact(pue, "1", "user"),
            electricity=electricity or default.electricity,
            idle_share=float(default.idle_share),
            systems=allowed,
        )

    def read(self) -> FleetProblem:
        root = self.root
        root.need("name", "periods", "workloads", "systems")
        self.read_periods()
        systems = root.node("systems")
        sites_node = root.node("sites")
        site_names = sites_node.keys()
        choices = [c for name, node in systems.nodes() if (c := self.read_choice(name, node, site_names)) is not None]
        names = [c.name for c in choices]
        stacks = tuple(dict.fromkeys(c.stack for c in choices))
        sites = [self.read_site(name, node, names) for name, node in sites_node.nodes()]
        usual, nothing = site_facts(self.facts), np.full(self.num_periods, np.inf)
        idle_share = float(usual.idle_share)
        sites.append(record_of(FleetSite, usual, name=CLOUD, cap_W=nothing, idle_share=idle_share, systems=()))
        workloads = tuple(
            self.read_workload(name, node, names, stacks) for name, node in root.node("workloads").nodes()
        )
        if not workloads and "workloads" in root:
            root.problem("workloads", "a fleet needs at least one workload")
        with root.inside("budget") as money:
            budget = money.quantity("total", "USD", np.inf)
            per_period = self.series(money, "per_period", np.inf, unit="USD")
            discount = money.number("discount", 0.0, low=0.0, high=1.0)
        stack_usd = root.quantity("stack_cost", "USD", 0.0) or 0.0
        goals = root.names("goals", (*GOALS, *WORK_GOALS)) or GOALS
        if any(goal in WORK_GOALS for goal in goals):  # of plans with equal work, the one that wastes least
            goals = tuple(dict.fromkeys((*goals, "cost", "energy")))
        out = FleetProblem(
            name=root.text("name"),
            labels=self.labels,
            length_s=LENGTHS[self.length],
            periods_per_year=PER_YEAR[self.length],
            workloads=workloads,
            choices=tuple(choices),
            sites=tuple(sites),
            budget_usd=np.inf if budget is None else budget,
            budget_per_period=per_period,
            stack_usd=stack_usd,
            discount=discount,
            goals=goals,
            rates_file=root.text("rates"),
            demand_from=root.text("demand", allowed=DEMAND_FROM),
        )
        root.text("note")
        self.check(out)
        root.done()
        root.stop()
        return replace(out, warnings=tuple(self.warnings))

    def check(self, problem: FleetProblem) -> None:
        """Checks for numbers that nobody publishes (power at a capped or metered site), and for bounds of a goal of
        work."""
        self.check_work(problem)
        systems = self.root.node("systems")
        for choice in problem.choices:
            places = {o.site for o in choice.offers} | set(choice.have)
            metered = sorted(places - {CLOUD, ""})
            if metered and choice.power_W.value is None:
                systems.problem(
                    choice.name,
                    f"{choice.name} stands at {metered[0]}, and the facts do not have its power",
                    fix='give power: "900 W", or a range {low:, high:}',
                )
            for site in problem.sites:
                if site.name in places and site.systems and choice.name not in site.systems:
                    systems.problem(
                        choice.name, f"{choice.name} cannot stand at {site.name}", allowed=", ".join(site.systems)
                    )

    def check_work(self, problem: FleetProblem) -> None:
        """Checks the keys that a goal of work needs, and the keys that do nothing without one."""
        works = self.root.node("workloads")
        for workload in problem.workloads:
            node = works.node(workload.name)
            for key, goals in (("most", WORK_GOALS), ("worth", ("revenue",))):
                if key in node and not set(goals) & set(problem.goals):
                    self.warnings.append(f"{node.name(key)} changes nothing: it is for goals: [{' or '.join(goals)}]")
            open_to = [c.name for c in problem.allowed(workload) if any(np.isinf(o.supply).any() for o in c.offers)]
            if problem.counts_work and np.isinf(workload.most) and open_to:
                node.problem("most", f"any amount, with any number of {open_to[0]}", fix="give its supply, or a number")
        first = next((goal for goal in problem.goals if goal in (*WORK_GOALS, "cost")), "cost")
        if first == "cost":
            return
        if "revenue" in problem.goals and not any(w.worth_usd for w in problem.workloads):
            self.root.problem("goals", "no workload says what a token brings", fix="give worth: $2/Mtok")
        bounded = np.isfinite(problem.budget_usd) or np.isfinite(problem.budget_per_period).all()
        ordered = [c.name for c in problem.choices if c.offers]
        if ordered and not bounded:
            self.root.problem(
                "goals",
                f"without a budget, the goal '{first}' would order all that is on offer of {', '.join(ordered)}",
                fix="give budget.total, or leave out buy and rent to plan only what is there",
            )


def read_problem(path: str | Path, facts: Facts, *, text: str | None = None) -> FleetProblem:
    """A scenario file -> Problem. Raises UserError (all mistakes at once, with file:line). text: the scenario itself,
    where there is no file; `path` names it."""
    return _Reader(read_scenario(path) if text is None else parse_text(text, str(path)), facts).read()
