"""What a row of an answer says of its system, whether it trains or serves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from mowich.estimate import Estimate, unknown_estimate
from mowich.launch.origin import LaunchedRow
from mowich.plans.preference import Preferred
from mowich.shown import Keyed, Rows, Shown
from mowich.studies.footing import OwnedChips
from mowich.studies.runnable import Compromise

R = TypeVar("R", bound=LaunchedRow)

NO_PRICE = unknown_estimate("USD/chip/h", "no other row with a known price")
NO_POWER = unknown_estimate("W", "no other row with a known power")
"""The values of a row that is not set against others, or has no others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside(Keyed):
    """A row beside the first one. row: the name of that one; saving_usd: of the tokens that both make in the time, and
    saving_usd_per_GW of those that a gigawatt of either makes; saving_usd_per_chip_year: of the tokens that a chip of
    this row makes in a year; porting_usd, pays_from_chips: what a port costs, and from how many chips it is earned back
    within `within_years`, None where the software is of the same maker."""

    KEYS = "beside=row saving_usd saving_usd_per_GW saving_usd_per_chip_year porting_usd? pays_from_chips?"

    row: str
    saving_usd: Estimate
    saving_usd_per_GW: Estimate
    saving_usd_per_chip_year: Estimate
    porting_usd: Estimate | None = None
    pays_from_chips: Estimate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Yearly(Keyed):
    """What a row comes to in the time that was asked, at work all the time. cost_usd: at the price of the row;
    energy_J: at the meter; provisioned_W: at the meter, of all its chips; revenue_usd, margin_usd: at the price of
    tokens that was asked; residual_usd: what machines that are bought now are worth after `within_years`; beside: the
    saving beside the first row. None: not asked, or nothing to tell."""

    KEYS = "tokens cost_usd revenue_usd? margin_usd? energy_J provisioned_W residual_usd? within_years **beside"

    tokens: Estimate
    cost_usd: Estimate
    energy_J: Estimate
    provisioned_W: Estimate
    within_years: Estimate
    revenue_usd: Estimate | None = None
    margin_usd: Estimate | None = None
    residual_usd: Estimate | None = None
    beside: Beside | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemRow(LaunchedRow):
    """The plan of one system, or why there is none. system: as the user wrote it; feasible: whether it fits and keeps
    its limits, None where the range of the memory itself decides; memory_B: bytes per device by category;
    memory_capacity_B: what a program may use per device, at the low end of its range; tokens_per_s_per_chip: of
    training without failures; binds: what its time is made of; price_label: at which price; power_basis: whether the
    power was metered; owned: what chips cost that are there; yearly: what a year of it comes to; None without."""

    system: str
    system_id: str
    display: str
    chips_requested: int
    chips_used: int = 0
    chips_idle: int = 0
    devices_per_chip: int = 1
    lnc: int = 0
    feasible: bool | None = False
    reason: str | None = None
    memory_B: Mapping[str, float] = field(default_factory=dict)
    memory_capacity_B: float = 0.0
    tokens_per_s_per_chip: Estimate
    usd_per_mtok: Estimate
    J_per_token: Estimate
    breakeven_usd_per_chip_h: Estimate = NO_PRICE
    breakeven_W_per_chip: Estimate = NO_POWER
    binds: str = ""
    price_label: str = ""
    power_basis: str = ""
    search_counts: Mapping[str, float] = field(default_factory=dict)
    owned: OwnedChips | None = None
    yearly: Yearly | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemRows(Shown, Generic[R]):
    """Rows of one system or of several. inputs: fully resolved; a run with them gives the same bytes; facts_hash: of
    the facts that made the rows."""

    inputs: Mapping[str, object]
    facts_hash: str
    rows: Rows[R]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchedRows(SystemRows[R]):
    """Rows that one search found. evaluated, feasible: plans; seconds: time taken, not in `to_dict`; preferred: the
    first is simpler than the fastest; compromise: what it costs that a program has to run the plans."""

    evaluated: int
    feasible: int
    seconds: float
    preferred: Preferred | None = None
    compromise: Compromise | None = None
