"""What each field of the facts may hold: its unit, its least and greatest value, whether it is a whole number.

One table for every way in: the files that ship, `--facts`, `--set`, the axes of a sweep and `Facts.with_values`.
`check_value` refuses a number, with the same words wherever it came from; the caller says the place. The ranges are
wide: they hold what a machine could be, and keep out slips of unit and of sign.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from mowich.errors import UserError
from mowich.units import NUMBER, Quantity, parse, write_value


@dataclass(frozen=True, slots=True, kw_only=True)
class FactField:
    """unit: SI unit, "" for a number without one, None: as the fact that ships has it. low..high: SI; with `above`, low
    itself is refused."""

    unit: str | None = None
    low: float = 0.0
    high: float = math.inf
    above: bool = True
    whole: bool = False


def _share(*, zero: bool) -> FactField:
    return FactField(high=1.0, above=not zero)


def _count(high: float) -> FactField:
    return FactField(unit="", low=1.0, high=high, above=False, whole=True)


PRICE = FactField(unit="USD/chip/s", high=1e6 / 3600)
_LIFE = FactField(unit="s", low=31557600.0, high=50 * 31557600.0, above=False)
_BYTES = FactField(unit="B", low=1e6, high=1e18, above=False)
_RATE = FactField(unit="B/s", low=1e6, high=1e18, above=False)
LATENCY = FactField(unit="s", high=1.0, above=False)
FLOPS = FactField(unit="FLOP/s", low=1e9, high=1e23, above=False)
_MACHINE = r"(chips|systems)\..*"

_TABLE: tuple[tuple[str, FactField], ...] = (
    # software of reinforcement learning: switches are 0 or 1, and what is not spent is 0
    (r"rl\..*\.(partial|hides_passes|overlaps_sync|\w+_pass|memory_share(_\w+)?)", _share(zero=True)),
    (r"rl\..*\.(generation|training|passes)", FactField(unit="", high=100.0)),
    (r"rl\..*", FactField(above=False)),
    # an observation is kept as it was made: it may be 0, or count in per cent
    (r"claims\..*|networks\.measured\..*", FactField(above=False)),
    (r"reliability\..*\.(hardware_share|gpu_share)", FactField(high=100.0, above=False)),
    # prices
    (r"prices\.user\.[^.]+|prices\..*\.(per_accelerator|rent_3y|own_hyperscaler|own_neocloud)", PRICE),
    (r"prices\.ownership\..*\.(residual\w*|cost_of_capital|builds|spares)", _share(zero=True)),
    (r"prices\.ownership\.(asked\.|rules\.\w+\.|capital\.|facility\.)(life|building_life).*", _LIFE),
    (r"prices\.ownership\.asked\.chips|prices\.machines\.bill\..*\.machine_chips", _count(1e9)),
    # memory, links, peaks, power
    (_MACHINE + r"\.(hbm_capacity|hbm_usable)|neuroncore\..*\.hbm_capacity", _BYTES),
    (_MACHINE + r"\.(bandwidth|hbm_bandwidth|bandwidth_per_direction)|neuroncore\..*\.hbm_bandwidth", _RATE),
    (_MACHINE + r"\.latency", LATENCY),
    (r"networks\.collectives\..*\.step", LATENCY),  # what a level's latency refers to
    (_MACHINE + r"\.(tdp|all_in)", FactField(unit="W", low=10.0, high=1e6, above=False)),
    (_MACHINE + r"\.(bf16|fp8|mxfp8|nvfp4|mxfp4)", FLOPS),
    (_MACHINE + r"\.clock", FactField(unit="Hz", low=1e6, high=1e12, above=False)),
    # counts
    (_MACHINE + r"\.devices_per_chip", _count(1e3)),
    (_MACHINE + r"\.axes", _count(16)),
    (r"systems\..*\.(chips|chips_per_unit|chips_per_server|max_chips)|systems\.[^.]+\.also_rented\.[^.]+", _count(1e9)),
    (_MACHINE + r"\.in_network_reduction", _share(zero=True)),
    (
        r"serving\..*\.(products|prompt_products\w*|attention_kernels|expand|reads|dense_4|widened_4|tp_graph|tp_wires|ep_wires)",
        FactField(high=100.0),
    ),
    (
        r"serving\..*\.(moe_layer|expert_visit|expert_launch|kernel|prefill_kernel|guess_host)|serving\.unstated\.\w+_moe",
        FactField(unit="s", high=1.0, above=False),
    ),
    (r"serving\.profiles\..*", FactField(high=100.0)),
    (r"serving\.schedulers\..*\.(chunks|mixes|ratio|ratio_dp|ratio_least)", _share(zero=True)),
    (r"serving\.schedulers\..*", _count(1e6)),
    (r"serving\..*\.capture", FactField(unit="tokens", high=1e6, above=False)),
    (r"serving\..*\.(activation_passes|ep_uneven|launch_ep)", FactField(high=1e4, above=False)),
    (r"serving\.lockstep\..*", FactField(high=1e4, above=False)),
    (r"serving\..*\.together|serving\.unstated\.\w+_graphs", _share(zero=True)),
    (r"serving\.unstated\.\w+_(interval|wait|balance)", FactField(high=1e3, above=False)),
    (r"serving\.(\w+\.release_year|common\.visible_year)", FactField(unit="", low=2000.0, high=2100.0)),
    (r"serving\.[\w-]+\.generations", FactField(unit="", high=20.0, above=False)),
    (r"serving\.common\.(generation|visible_yearly)", FactField(unit="", high=10.0)),
    # shares and ratios
    (r"(prices|sites)\..*\.pue(_\w+)?", FactField(low=1.0, high=10.0, above=False)),
    (
        r"serving\.common\.(queue_share|burst_share)|networks\.collectives\..*\.switch_reduce_efficiency",
        FactField(high=10.0),
    ),
    (
        r".*(_overlap|_exposed|exposed_inside|exposed_outside|idle_power_share|unfused_attention|"
        r"unfused_encoder|eager|dense_masks|selective_attention|expert_host(_full|_partial)?|has_older_attention|copies_own|recompute_stops|unfused_gate|node_dispatch|node_dispatch_alltoall|comm_contention|moe_capacity|mixes_prompts|packs_prompts|memory_of_free|kernel_tables|reduce_norms|reduce_norms_dense|"
        r"exposed_limited)",
        _share(zero=True),
    ),
    (
        r"devices\..*\.(product_\d+|weights_\d+|memory|attention)|training\..*\.(sustained|older_attention|masked_attention)",
        _share(zero=False),
    ),
    (r"devices\..*\.(misaligned|narrow_columns|attention_half)", FactField(high=1e4, above=False)),
    (r".*\.drawn_share", FactField(high=1.2)),  # of a chip whose provisioned figure is a metered mean
    (r".*(_efficiency|_share)|(systems|networks\.collectives)\..*\.efficiency", _share(zero=False)),
    (r"training\..*\.(communicator_B|workspace_B|graph_pool_B)", FactField(unit="B", high=1e12, above=False)),
    (r"training\..*\.sink_attention_B", FactField(unit="B/element", above=False)),
    (r"training\..*\.(matrix_saves_B|matrix_gather_B)", FactField(high=1e3, above=False)),
    (r"training\..*\.newton_schulz", FactField(unit="", high=1e3, above=False, whole=True)),
    (r"training\..*\.offloaded_layers", FactField(unit="", high=1e4, above=False)),
    (r"training\..*\.(fragmentation|memory_spread)", FactField(high=10.0, above=False)),
    (r"training\.residuals\..*", FactField(high=10.0)),  # spread of a logarithm
    (r"training\..*\.(speed|framework_carry|attention_kernels)", FactField(high=100.0)),
    (
        r".*\.quantise_(4_)?B|training\..*\.(expert_launch(_8bit|_block)?|graphed_launch|chunk_handover|host_per_layer|kernel_start|pass_start)|neuroncore\..*\.(overhead|load_latency|startup|scale_headroom|shares_copies|merges_repeats|links\.base|links\.pair)",
        FactField(above=False),
    ),
)
"""A pattern of paths -> what it may hold; the first that matches the whole path counts."""

HIGHEST: Mapping[str, float] = {
    "": 1e15,
    "1": 1e15,
    "s": 1e11,
    "B": 1e21,
    "B/s": 1e21,
    "FLOP/s": 1e24,
    "OP/s": 1e24,
    "W": 1e12,
    "J": 1e21,
    "FLOP": 1e33,
    "OP": 1e33,
    "Hz": 1e14,
    "1/s": 1e3,
    "USD": 1e15,
    "USD/s": 1e7,
    "USD/chip/s": PRICE.high,
    "USD/J": 1e-4,
    "USD/B": 1.0,
    "USD/W": 1e6,
    "USD/W/s": 1e-3,
    "USD/token": 1.0,
    "USD/m2": 1e12,
    "m": 1e7,
    "m2": 1e3,
    "1/m2": 1e9,
    "tokens": 1e12,
    "cycles": 1e12,
    "passes": 1e6,
    "B/element": 1e6,
    "B/param": 1e6,
}
"""SI unit -> the greatest value of a field for which the table states no greatest value."""

_EXAMPLES: Mapping[str, str] = {
    "B/s": "4.9 TB/s",
    "FLOP/s": "2500 TFLOP/s",
    "W": "900 W",
    "s": "1.3 us",
    "Hz": "1.4 GHz",
    "USD/chip/s": "$1.40/chip/h",
    "USD/J": "$0.08/kWh",
}
"""How a quantity of a unit is written."""

NOMINAL = 2**30 / 1e9
"""A capacity in "GB" may be meant in GiB: its usable part may be more than the number, up to this factor."""

ROUNDED = 1.01
"""Factor by which the usable part of a capacity in GiB may exceed it, as vendors round (TPU v5p: 95 GiB, a program
may have 95.74)."""


@cache
def field_of(path: str) -> FactField:
    """What the table says of a path; any number above 0 where it says nothing."""
    found = _patterns().fullmatch(path)
    # of groups within groups the outer one is the last to end: its name says which line of the table
    return FactField() if found is None else _TABLE[int(str(found.lastgroup).removeprefix("line"))][1]


@cache
def _patterns() -> re.Pattern[str]:
    """The first column of the table as one pattern, in order: of the lines that match, the first one does."""
    return re.compile("|".join(f"(?P<line{i}>{pattern})" for i, (pattern, _) in enumerate(_TABLE)))


def unit_of(path: str, unit: str | None = None) -> str | None:
    """The SI unit that a field must have: the table's, else `unit`, that of the fact that is there; None where nothing
    says it."""
    known = field_of(path).unit
    return unit if known is None else known


def is_plain_number(unit: str | None) -> bool:
    """Whether a number has no unit: a count, a share or a ratio."""
    return unit in ("", "1")


def check_unit(path: str, unit: str, shown: str, known: str | None = None) -> None:
    """Raise UserError where a number has no unit, or another one than its field (`known`: that of the fact that is
    there). shown: as it is written."""
    wanted = unit_of(path, known)
    if wanted is None or unit == wanted or (is_plain_number(unit) and is_plain_number(wanted)):
        return
    if is_plain_number(unit):
        raise no_unit(shown, wanted)
    example = _EXAMPLES.get(wanted)
    raise UserError(
        f"measures {unit}",
        given=shown,
        allowed="a number without a unit" if is_plain_number(wanted) else wanted,
        fix=f'write it as in "{example}"' if example else None,
    )


_MEANT: Mapping[str, tuple[tuple[float, str], ...]] = {
    "B": ((0.5, ""), (4096.0, "GB"), (1e6, "MB")),
    "B/s": ((0.05, ""), (32.0, "TB/s"), (1e5, "GB/s")),
    "FLOP/s": ((0.05, ""), (15.0, "PFLOP/s"), (1e5, "TFLOP/s")),
    "W": ((0.2, ""), (5.0, "kW"), (1e5, "W")),
    "Hz": ((0.1, ""), (10.0, "GHz"), (1e4, "MHz")),
}
"""For fields of chips and machines: below which number which unit is meant. Above the last number and below the first
no unit is guessed."""


def unit_meant(number: str, wanted: str) -> str:
    """The unit that a bare number most likely has, by its field and its size; "" where that is not clear.

    >>> unit_meant("192", "B"), unit_meant("1000", "FLOP/s"), unit_meant("6", "B/s"), unit_meant("1e12", "B")
    ('GB', 'TFLOP/s', 'TB/s', '')
    """
    try:
        size = abs(float(number.replace("_", "")))
    except ValueError:
        return ""
    return next((unit for most, unit in _MEANT.get(wanted, ()) if size < most), "")


def no_unit(shown: str, wanted: str) -> UserError:
    """The error for a bare number where a field needs a unit."""
    example = _EXAMPLES.get(wanted)
    number = (shown.split() or ["1"])[0]  # a word without a number has none to repeat
    meant = unit_meant(number, wanted)
    fix = (
        f'write "{number} GiB" or "{number} GB"; they differ by 7%'
        if wanted == "B" and meant == "GB"
        else f'write "{number} {meant}", if that is meant'
        if meant
        else f'write its unit, as in "{example}"'
        if example
        else f"write its unit ({wanted})"
    )
    return UserError(f"{number} has no unit", fix=fix)


def read_fact_quantity(path: str, text: str, known: str | None = None) -> Quantity:
    """A quantity as it is written in a file or after `--set`. Raises UserError, without a place, for other text;
    `check_unit` and `check_value` come after."""
    wanted = unit_of(path, known)
    if wanted and not is_plain_number(wanted) and re.fullmatch(rf"\s*[+-]?{NUMBER}\s*", text):
        raise no_unit(text.strip(), wanted)
    return parse(text)


def check_value(path: str, value: float, unit: str) -> None:
    """Raise UserError, without a place, where a field cannot hold a value (SI, of `unit`)."""
    if not math.isfinite(value):
        raise UserError("not a finite number", given=f"{value}")
    field = field_of(path)
    high = field.high if field.high < math.inf else HIGHEST[unit]
    if field.low <= value <= high and not (field.above and value == field.low):
        if field.whole and value != round(value):
            raise UserError("must be a whole number", given=write_value(value, unit))
        return
    allowed = f"{'above ' if field.above else ''}{write_value(field.low, unit)} to {write_value(high, unit)}"
    if field.whole and value < field.low:
        what = f"must be at least {field.low:g}"
    elif value <= 0:
        what = "must be above 0" if field.above or field.low else "must be at least 0"
    else:
        what = "out of range"
    raise UserError(what, given=write_value(value, unit), allowed=allowed)


def is_binary(capacity: float) -> bool:
    """Whether bytes are a whole number of MiB: a capacity in GiB. One in GB is not.

    >>> is_binary(144 * 2.0**30), is_binary(80e9)
    (True, False)
    """
    return math.isclose(capacity / 2**20, round(capacity / 2**20), rel_tol=1e-12)


def usable_share(usable: float, capacity: float, other: float) -> float:
    """What share of another capacity is usable, where `usable` bytes of a capacity are. "80 GB" of which 79.6 GiB are
    usable are 80 GiB: of a capacity in GiB it is the share of those."""
    is_nominal = usable > capacity and not is_binary(capacity) and is_binary(other)
    return usable / capacity / (NOMINAL if is_nominal else 1.0)


def check_memory(capacity: float, usable: float) -> None:
    """Raise UserError where more memory is usable than there is. Bytes; of ranges, the high end of the capacity and the
    low end of what is usable."""
    if capacity < _BYTES.low:
        return  # no capacity at all, which `check_value` refuses
    nominal = ROUNDED if is_binary(capacity) else NOMINAL
    if usable > capacity * nominal * (1 + 1e-9):
        raise UserError(
            f"hbm_usable is more than hbm_capacity, {write_value(capacity, 'B')}",
            given=write_value(usable, "B"),
            fix="give hbm_capacity: the same share of it is usable",
        )
