"""The fleet question as data: periods, workloads, systems on offer, sites and money. It holds no optimisation and no
speeds.

`read_problem` turns a scenario file into a `FleetProblem`; the speed of each task on each system comes separately, as
`TaskRates` (a file that `studies.fleet` writes from `plan`, for training, and `plan --serve`, for serving). Periods are
counted from 0; a vector over periods has shape [T]. Chips are counted in chips, purchases and rentals in units (an
UltraServer, a rack, a pod slice), money in USD, energy in J.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mowich.errors import UserError
from mowich.estimate import Estimate
from mowich.files import read_json
from mowich.machines.system import System
from mowich.readback import read_fields
from mowich.shown import Keyed
from mowich.sums import float_sum
from mowich.writing import write_file

Vector = NDArray[np.float64]

CLOUD = "cloud"
"""The site of rented units unless the offer names one: no power cap of ours, power in the price."""

LENGTHS = {"month": 365.25 * 86400 / 12, "quarter": 365.25 * 86400 / 4, "year": 365.25 * 86400}
PER_YEAR = {"month": 12, "quarter": 4, "year": 1}
LETTER = {"month": "M", "quarter": "Q"}

HOURS = 24

TASK_KINDS = ("train", "serve", "batch", "rl")

GOALS = ("cost", "energy", "stacks")
"""Minimised goals: net present USD, energy at the meter, software stacks kept."""

WORK_GOALS = ("tokens", "revenue")
"""Maximised goals, with installed units and the budget: tokens of all workloads, or their net present USD."""

GOAL_UNITS = {"cost": "USD", "energy": "J", "stacks": "stacks", "tokens": "tokens", "revenue": "USD"}
"""Goal -> the unit of its value."""

LEAST_PACE = 0.25
"""Between its first and its last period a training run does at least this share of its fullest period, so that it has
no gap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetTask:
    """One thing that runs on chips. tokens: over the whole window (0 where a rate is asked for); tokens_per_s: [T], at
    the peak of the day (0 outside the window); ask: the question to `plan` that finds its speed. day: load of each hour
    of the day as a share of its peak (empty: flat); peak: peak of the day over its mean, where only this is known;
    any_hour: it can use free chips in any hour."""

    name: str
    workload: str
    kind: str
    tokens: float
    tokens_per_s: Vector
    ask: Mapping[str, object]
    day: tuple[float, ...] = ()
    peak: float = 1.0
    any_hour: bool = False

    @property
    def day_mean(self) -> float:
        """Mean load of the day over that of its peak."""
        return float_sum(self.day) / len(self.day) if self.day else 1.0

    @property
    def mean_load(self) -> float:
        """Tokens of a day over those of chips that work at its peak all day."""
        return self.day_mean / self.peak

    def hour(self, hour: int) -> float:
        """Chips that it needs in an hour of the day, over the chips counted for it; 0 where any hour will do."""
        return 0.0 if self.any_hour else self.day[hour] if self.day else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """first, last: periods of its window, both inside. systems: names allowed (empty: all). porting_usd: cost per stack
    that it runs on. max_chips: at one time, all tasks together (0: no limit). most: times the asked work that is
    welcome where a goal maximises work (inf: any). worth_usd: USD that a token brings: output of serving, training, or
    a rollout. tenant: owner of the work."""

    name: str
    kind: str
    tasks: tuple[FleetTask, ...]
    first: int
    last: int
    one_system: bool
    systems: tuple[str, ...]
    porting_usd: Mapping[str, float]
    max_chips: float
    most: float = 1.0
    worth_usd: float = 0.0
    tenant: str = ""

    @property
    def whose(self) -> str:
        """Its tenant; its own name where the scenario names none."""
        return self.tenant or self.name

    @property
    def is_run(self) -> bool:
        """Whether it is a training run, which goes on without a gap once it has begun."""
        return self.kind == "train"


@dataclass(frozen=True, slots=True, kw_only=True)
class Supplied(Keyed):
    """Chips for the whole world, from facts. quarterly: chips a quarter, with the range; share: of them that can be
    ordered here; fact: its path."""

    KEYS = "fact quarterly share"

    quarterly: Estimate
    share: float
    fact: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Units for money. kind: "buy" or "rent". price: USD per unit to buy, USD per chip and second to rent. term:
    periods that a rental runs, or that a purchase is written off over; supply: [T] units that can be ordered in each
    period; supplied: the facts behind it, None where the scenario states it; delay: periods from order to use; site: of
    the units."""

    system: str
    kind: str
    site: str
    price: Estimate
    price_label: str
    term: int
    supply: Vector
    delay: int
    supplied: Supplied | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A system on the table. have: site -> [T] units in hand, which cost only power. committed: [T] rented units that
    are paid even when unused, at committed_price; resale: share of that price that a period of a unit brings when it is
    let to others (0: it cannot be). power_W: provisioned, per chip, before PUE, which counts for caps. drawn_share:
    share of it that a working chip draws, which counts for energy. engine: of serving ("": that of the vendor's
    machines)."""

    name: str
    system: System
    stack: str
    unit_chips: int
    power_W: Estimate
    have: Mapping[str, Vector]
    committed: Vector
    committed_price: Estimate
    offers: tuple[Offer, ...]
    engine: str = ""
    resale: float = 0.0
    drawn_share: float = 1.0

    def resale_usd(self, length_s: float) -> float:
        """USD that one committed unit brings when it is let to others for a period."""
        return self.resale * float(self.committed_price) * self.unit_chips * length_s


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSite:
    """cap_W: [T] at the meter (inf: none). electricity: USD per J for units owned there."""

    name: str
    cap_W: Vector
    pue: Estimate
    electricity: Estimate
    idle_share: float
    systems: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetProblem:
    """Everything but speeds. labels: of the periods. length_s: of one period. budget: USD in all, and [T] per period
    (inf: none). stack_usd: USD per period for every stack kept. demand_from: source of the demand ("": not stated)."""

    name: str
    labels: tuple[str, ...]
    length_s: float
    periods_per_year: int
    workloads: tuple[Workload, ...]
    choices: tuple[Choice, ...]
    sites: tuple[FleetSite, ...]
    budget_usd: float
    budget_per_period: Vector
    stack_usd: float
    discount: float
    goals: tuple[str, ...]
    rates_file: str = ""
    demand_from: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def counts_work(self) -> bool:
        """Whether work beyond the asked work counts."""
        return any(goal in WORK_GOALS for goal in self.goals)

    @property
    def num_periods(self) -> int:
        return len(self.labels)

    @property
    def tasks(self) -> tuple[FleetTask, ...]:
        return tuple(task for workload in self.workloads for task in workload.tasks)

    @property
    def hours(self) -> tuple[int, ...]:
        """The hours of the day in which the tasks together may need most chips: no other hour is at least as high for
        every task. None where every task is flat."""
        if not any(task.day for task in self.tasks):
            return ()
        loads = {h: tuple(task.hour(h) for task in self.tasks) for h in range(HOURS)}
        first = {load: h for h, load in reversed(loads.items())}
        return tuple(
            h
            for load, h in sorted(first.items(), key=lambda pair: pair[1])
            if not any(o != load and all(a >= b for a, b in zip(o, load, strict=True)) for o in first)
        )

    @property
    def stacks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(choice.stack for choice in self.choices))

    def workload(self, name: str) -> Workload:
        return next(w for w in self.workloads if w.name == name)

    def allowed(self, workload: Workload) -> tuple[Choice, ...]:
        return tuple(c for c in self.choices if not workload.systems or c.name in workload.systems)

    def discounts(self) -> Vector:
        """[T] worth today of a dollar paid in each period."""
        return np.asarray((1 + self.discount) ** (-np.arange(self.num_periods) / self.periods_per_year))


# ---- speeds
# ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate(Keyed):
    """How fast a task runs on a system: tokens per second and chip, all chips of the plan counted, failures included.
    None where it does not run. engine: the one that the scenario named for it ("": none)."""

    KEYS = "task system chips tokens_per_s_per_chip plan source engine:none?"

    task: str
    system: str
    tokens_per_s_per_chip: Estimate
    chips: int = 0
    plan: Mapping[str, object] = field(default_factory=dict)
    source: str = ""
    engine: str = ""


TaskRates = Mapping[tuple[str, str], Rate]
"""(task, system) -> Rate"""

RATES_SCHEMA = "mowich/rates@1"


def write_rates(path: str | Path, rates: TaskRates, *, facts_hash: str) -> None:
    """Speeds as a file that a scenario names. Raises UserError where it cannot be written."""
    data = {"schema": RATES_SCHEMA, "facts_hash": facts_hash, "rates": [r.to_dict() for r in rates.values()]}
    write_file(Path(path), json.dumps(data, indent=1) + "\n", where=str(path))


def read_rates(path: str | Path) -> tuple[dict[tuple[str, str], Rate], str]:
    """A file of speeds -> (rates, hash of the facts they were made from). Raises UserError for anything else."""
    where = str(path)
    data = read_json(path, "rates", fix="mowich fleet SCENARIO --rates-out FILE writes one")
    if data.get("schema") != RATES_SCHEMA:
        raise UserError("not a file of speeds", where=where, given=data.get("schema"), allowed=RATES_SCHEMA)
    out: dict[tuple[str, str], Rate] = {}
    rows = data.get("rates", [])
    if not isinstance(rows, list):
        raise UserError("'rates' is a list", where=where, given=type(rows).__name__)
    for place, row in enumerate(rows):
        rate = read_fields(Rate, row, f"{where} rates[{place}]", fix="write it again with --rates-out FILE")
        speed = rate.tokens_per_s_per_chip.value
        if speed is not None and not speed > 0:
            raise UserError("a speed must be above 0", where=f"{where} rates[{place}]", given=speed)
        out[rate.task, rate.system] = rate
    return out, str(data.get("facts_hash", ""))
