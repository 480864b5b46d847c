"""The only place where strings become SI floats and back.

Inside Mowich every number is SI: s, B, B/s, FLOP, FLOP/s, W, J, USD, Hz. In files and on the command
line a quantity is a string with its unit: "4.9 TB/s", "144 GiB", "1.3 us", "$1.40/chip/h". "GB" is
10^9 bytes and "GiB" is 2^30. A bare number is a count, and only where a count is expected.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import NamedTuple

from mowich.errors import UserError

_SI = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_SMALL = {"m": 1e-3, "u": 1e-6, "µ": 1e-6, "n": 1e-9, "p": 1e-12}
_MONEY = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "B": 1e9, "T": 1e12}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50}
_TIME = {
    "s": 1.0,
    "min": 60.0,
    "h": 3600.0,
    "hour": 3600.0,
    "hours": 3600.0,
    "d": 86400.0,
    "day": 86400.0,
    "days": 86400.0,
    "month": 2629800.0,
    "months": 2629800.0,
    "quarter": 7889400.0,
    "quarters": 7889400.0,
    "y": 31557600.0,
    "year": 31557600.0,
    "years": 31557600.0,
}


class Quantity(NamedTuple):
    """A number in SI and the SI unit that it is in."""

    value: float
    unit: str


def _build() -> dict[str, Quantity]:
    table: dict[str, Quantity] = {}
    for prefix, scale in _SI.items():
        table[f"{prefix}B"] = Quantity(scale, "B")
        table[f"{prefix}bit"] = Quantity(scale / 8, "B")
        table[f"{prefix}bit/s"] = Quantity(scale / 8, "B/s")
        table[f"{prefix}B/s"] = Quantity(scale, "B/s")
        for op in ("FLOP", "OP"):
            table[f"{prefix}{op}"] = Quantity(scale, op)
            table[f"{prefix}{op}/s"] = Quantity(scale, f"{op}/s")
        table[f"{prefix}Hz"] = Quantity(scale, "Hz")
        table[f"{prefix}W"] = Quantity(scale, "W")
        table[f"{prefix}J"] = Quantity(scale, "J")
        table[f"{prefix}Wh"] = Quantity(scale * 3600, "J")
    for prefix, scale in _BINARY.items():
        table[f"{prefix}B"] = Quantity(scale, "B")
        table[f"{prefix}B/s"] = Quantity(scale, "B/s")
    for prefix, scale in _SMALL.items():
        table[f"{prefix}s"] = Quantity(scale, "s")
        if prefix == "m":
            table["mW"] = Quantity(scale, "W")
    for name, scale in _TIME.items():
        table[name] = Quantity(scale, "s")
        table[f"1/{name}"] = table[f"/{name}"] = Quantity(1 / scale, "1/s")
    for money in ("USD", "$"):
        table |= {f"{scale}{money}": Quantity(factor, "USD") for scale, factor in _MONEY.items()}
        for hour in ("h", "hour"):
            for what in ("chip", "GPU", "accelerator", "device"):
                table[f"{money}/{what}/{hour}"] = Quantity(1 / 3600, "USD/chip/s")
                table[f"{money}/{what}-{hour}"] = Quantity(1 / 3600, "USD/chip/s")
            table[f"{money}/{hour}"] = Quantity(1 / 3600, "USD/s")
        table[f"{money}/GB"] = Quantity(1e-9, "USD/B")
        table[f"{money}/mm2"] = Quantity(1e6, "USD/m2")
        table[f"{money}/kWh"] = Quantity(1 / 3.6e6, "USD/J")
        table[f"{money}/MWh"] = Quantity(1 / 3.6e9, "USD/J")
        table[f"{money}/Mtok"] = Quantity(1e-6, "USD/token")
        table[f"{money}/TB"] = Quantity(1e-12, "USD/B")
        table[f"{money}/W"] = Quantity(1.0, "USD/W")
        table[f"{money}/kW/month"] = Quantity(1e-3 / _TIME["month"], "USD/W/s")
        table[f"{money}/month"] = Quantity(1 / _TIME["month"], "USD/s")
        table[f"{money}/kW/year"] = Quantity(1e-3 / _TIME["year"], "USD/W/s")
    table["mm2"] = Quantity(1e-6, "m2")
    table["mm"] = Quantity(1e-3, "m")
    table["1/cm2"] = Quantity(1e4, "1/m2")
    table["%"] = Quantity(0.01, "1")
    table["x"] = Quantity(1.0, "1")
    table["1"] = Quantity(1.0, "1")
    table["B/element"] = Quantity(1.0, "B/element")
    table["B/param"] = Quantity(1.0, "B/param")
    table["passes"] = Quantity(1.0, "passes")
    table["tokens"] = Quantity(1.0, "tokens")
    table["cycles"] = Quantity(1.0, "cycles")
    return table


UNITS = _build()
"""Every unit that Mowich reads -> its SI scale and SI unit."""

NUMBER = r"(?:[0-9]+(?:_[0-9]+)*(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
"""A number as every edge reads it: digits of ASCII, single underscores between them, a point, an exponent."""

_OF_MONEY = "an amount in single quotes, as a shell reads a dollar sign without them as a variable: '$2M'"
_NUMBER = re.compile(rf"^\s*([+-]?{NUMBER})(?![0-9_.])\s*(.*?)\s*$")
_COUNT_SUFFIX = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9, "T": 1e12, "Ki": 2.0**10, "Mi": 2.0**20}


def is_digits(text: str) -> bool:
    """Whether a text is a whole number of plain digits. `str.isdigit` takes other digits too, which `int` refuses or a
    reader does not expect.

    >>> is_digits("12"), is_digits("\u00b2"), is_digits("\uff18"), is_digits("")
    (True, False, False, False)
    """
    return text.isascii() and text.isdigit()


def parse(text: object, unit: str | None = None, *, where: str | None = None, example: str = "") -> Quantity:
    """ "4.9 TB/s" -> Quantity(4.9e12, "B/s"). With `unit`, refuses any other dimension.

    example: a usual quantity, "2 s": a bare number is told to take its unit. Raises UserError for a bare number (its
    unit is missing), an unknown unit, or a wrong dimension.

    >>> parse("144 GiB").value
    154618822656.0
    >>> parse("$3.60/chip/h").value, parse("$2.5M").value
    (0.001, 2500000.0)
    """
    shown = text if isinstance(text, str) else str(text)
    money = re.match(rf"^\s*\$\s*([+-]?{NUMBER})\s*([kMGBT]?)(/.*)?$", shown)
    if money:
        shown = f"{money[1]} {money[2]}${(money[3] or '').replace(' ', '')}"
    match = _NUMBER.match(shown)
    if not match:
        allowed = _OF_MONEY if unit == "USD" else 'a number and a unit, "4.9 TB/s"'
        raise UserError("not a quantity", where=where, given=text, allowed=allowed)
    number, name = float(match[1].replace("_", "")), match[2]
    if not math.isfinite(number):
        raise UserError("too large a number", where=where, given=text)
    if unit == "USD" and name in _MONEY:
        raise UserError(f"{shown.strip()} has no unit", where=where, fix=f"write '${match[1]}{name}'")
    if not name:
        raise UserError(f"{shown.strip()} has no unit", where=where, fix=_with_unit(match[1], unit, example))
    quantity = UNITS.get(name)
    if quantity is None:
        known = sorted(k for k, q in UNITS.items() if unit is None or q.unit == unit)
        from mowich.errors import did_you_mean

        raise UserError(
            f"unknown unit '{name}'", where=where, given=text, allowed=known[:24], fix=did_you_mean(name, known)
        )
    if unit is not None and quantity.unit != unit:
        raise UserError(f"unit '{name}' measures {quantity.unit}", where=where, given=text, allowed=unit)
    return Quantity(number * quantity.value, quantity.unit)


def _with_unit(number: str, unit: str | None, example: str) -> str:
    """How to write a bare number. unit: the SI unit of what is read; example: a usual quantity."""
    if unit == "B":
        return f'write "{number} GiB" or "{number} GB"; they differ by 7%'
    usual = _NUMBER.match(example)
    name = usual[2] if usual else next((k for k, q in UNITS.items() if unit and q.unit == unit), None)
    return 'write the unit, as in "144 GiB"' if name is None else f'write "{number} {name}"'


def parse_count(text: object, *, where: str | None = None, minimum: float = 1, whole: bool = True) -> float:
    """ "15T" -> 1.5e13, "4k" -> 4000, 16384 -> 16384. K, M, G (or B), T are powers of 1000; Ki and Mi
    powers of 1024.

    Raises UserError when it is not a number, is below `minimum`, or is not whole.
    """
    if isinstance(text, bool):
        raise UserError("not a count", where=where, given=text)
    if isinstance(text, (int, float)):
        value = float(text) if abs(text) < 1e300 or isinstance(text, float) else math.inf
    else:
        match = _NUMBER.match(str(text))
        if not match or match[2] not in _COUNT_SUFFIX:
            raise UserError("not a count", where=where, given=text, allowed="a number such as 16384, 4k, 64M, 15T")
        value = float(match[1].replace("_", "")) * _COUNT_SUFFIX[match[2]]
    if value == math.inf:
        raise UserError("too large a number", where=where, given=text)
    if not math.isfinite(value) or value < minimum:
        raise UserError(f"must be at least {minimum:g}", where=where, given=text)
    if whole and abs(value - round(value)) > 1e-6 * max(1.0, value * 1e-9):
        raise UserError("must be a whole number", where=where, given=text)
    return float(round(value)) if whole else value


@dataclass(frozen=True, slots=True, kw_only=True)
class StepBatch:
    """The batch of a step as it is asked: sequences, or tokens. within: share by which a plan's may differ (0: exact);
    typed: the amount as it was given.

    >>> str(StepBatch.read("1024 seqs ~ 5%")), StepBatch.read("64M tokens").tokens
    ('1024seqs~5%', 64000000.0)
    """

    sequences: float | None = None
    tokens: float | None = None
    within: float = 0.0
    typed: str = ""

    @classmethod
    def read(cls, text: object, *, where: str | None = None) -> StepBatch:
        """What "16384seqs", "64M" or "64M tokens" and "16384seqs~5%" say. Raises UserError when it is no count, or the
        share is above a half."""
        word, _, share = (part.strip() for part in str(text).partition("~"))
        within = parse(share, "1").value if share else 0.0
        if not 0.0 <= within <= _FURTHEST:
            raise UserError("how far a batch may be off", where=where, given=share, allowed="0% to 50%")
        if word.endswith((_SEQS, _SEQS[:-1])):
            count = word.removesuffix("s").removesuffix(_SEQS[:-1]).strip()
            return cls(sequences=parse_count(count, where=where), within=within, typed=word)
        tokens = parse_count(word.removesuffix("tokens").strip(), where=where)
        return cls(tokens=tokens, within=within, typed=word)

    def of(self, seq: float, *, where: str | None = None) -> float:
        """Sequences of a step, of `seq` tokens each. Tokens are seldom a number of sequences that divides over ranks:
        they are rounded to one that does (`round_batch`). Raises UserError for less than one sequence.

        >>> StepBatch.read("1024seqs").of(4096), StepBatch.read("64M").of(4096)
        (1024.0, 15360.0)
        """
        if self.sequences is not None or self.tokens is None:
            return self.sequences or 0.0
        if self.tokens < seq:
            what = f"{self.typed} tokens are less than one sequence of {seq:.0f}"
            fix = f"sequences are written {self.typed.removesuffix('tokens').strip()}{_SEQS}"
            raise UserError(what, where=where, fix=fix)
        return round_batch(self.tokens / seq)

    def __str__(self) -> str:
        amount = f"{self.sequences:.12g}{_SEQS}" if self.tokens is None else show_count(self.tokens)
        return f"{amount}~{self.within * 100:.12g}%" if self.within else amount


_SEQS = "seqs"
"""What stands behind a number of sequences."""
_FURTHEST = 0.5
"""Largest share by which a batch may be off."""


def round_batch(sequences: float) -> float:
    """The nearest multiple of the largest power of two that is at most a tenth of some sequences, so within 5% of
    them; of fewer than ten the nearest whole number.

    >>> [round_batch(x) for x in (15625.0, 1953.125, 1024.0, 6.4)]
    [15360.0, 1920.0, 1024.0, 6.0]
    """
    grain = float(2 ** max(0, math.floor(math.log2(sequences / 10.0))))
    return max(1, round(sequences / grain)) * grain


_LADDERS: dict[str, tuple[tuple[float, str], ...]] = {
    "B": ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B")),
    "B/s": ((1e15, "PB/s"), (1e12, "TB/s"), (1e9, "GB/s"), (1e6, "MB/s"), (1, "B/s")),
    "FLOP": ((1e18, "EFLOP"), (1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"), (1, "FLOP")),
    "FLOP/s": ((1e18, "EFLOP/s"), (1e15, "PFLOP/s"), (1e12, "TFLOP/s"), (1e9, "GFLOP/s"), (1, "FLOP/s")),
    "OP/s": ((1e15, "POP/s"), (1e12, "TOP/s"), (1, "OP/s")),
    "Hz": ((1e9, "GHz"), (1e6, "MHz"), (1, "Hz")),
    "W": ((1e9, "GW"), (1e6, "MW"), (1e3, "kW"), (1, "W")),
    "J": ((3.6e15, "TWh"), (3.6e12, "GWh"), (3.6e9, "MWh"), (3.6e6, "kWh"), (1, "J"), (1e-3, "mJ"), (1e-6, "uJ")),
    "s": ((86400, "d"), (3600, "h"), (1, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns")),
    "USD": ((1e9, "G$"), (1e6, "M$"), (1, "$")),
}


def sig(value: float, digits: int = 3) -> str:
    """`value` with `digits` significant digits and no exponent below 10^6.

    >>> sig(1234.5), sig(0.012345), sig(2)
    ('1230', '0.0123', '2.00')
    """
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    places = digits - 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, places)
    if abs(rounded) >= 1e7:
        return f"{value:.{digits - 1}e}"
    places = digits - 1 - math.floor(math.log10(abs(rounded)))
    return f"{rounded:.{max(0, places)}f}"


def show(value: float | None, unit: str, digits: int = 3) -> str:
    """SI value -> short text with a readable unit; "?" when unknown.

    >>> show(4.9e12, "B/s"), show(None, "W"), show(2**30, "B")
    ('4.90 TB/s', '?', '1.07 GB')
    """
    if value is None:
        return "?"
    if unit == "USD/chip/s":
        return f"${sig(value * 3600, digits)}/chip/h"
    if unit == "USD/J":
        return f"${sig(value * 3.6e6, digits)}/kWh"
    for scale, name in _LADDERS.get(unit, ()):
        if abs(value) >= scale * 0.9999:
            return f"{sig(value / scale, digits)} {name}"
    if unit in _LADDERS and value:
        scale, name = _LADDERS[unit][-1]
        return f"{sig(value / scale, digits)} {name}"
    return f"{sig(value, digits)} {unit}".removesuffix(" 1")


def write_value(value: float, unit: str) -> str:
    """SI value -> text of six digits with a readable unit, for what was given and what is allowed.

    >>> write_value(4.9e12, "B/s"), write_value(-2.1 / 3600, "USD/chip/s"), write_value(0.999, "1"), write_value(0, "B")
    ('4.9 TB/s', '$-2.1/chip/h', '0.999', '0 B')
    """
    if unit == "USD/chip/s":
        return f"${value * 3600:.6g}/chip/h"
    if unit == "USD/J":
        return f"${value * 3.6e6:.6g}/kWh"
    unit = "" if unit == "1" else unit
    ladder = _LADDERS.get(unit, ((1.0, unit),))
    scale, name = next(
        (rung for rung in ladder if abs(value) >= rung[0] * 0.9999), ladder[-1] if value else (1.0, unit)
    )
    return f"{value / scale:.6g} {name}".rstrip()


def exact_digits(value: float) -> str:
    """A number with as many digits as it takes to read it back.

    >>> exact_digits(0.1 + 0.2), exact_digits(4096)
    ('0.30000000000000004', '4096')
    """
    text = f"{value:.12g}"
    return text if float(text) == value else repr(float(value))


def exact_words(value: float, unit: str) -> str:
    """SI value -> text that is read back as the same value, with a readable unit where six digits say it.

    >>> exact_words(4.9e12, "B/s"), exact_words(1234567.0, "B/s")
    ('4.9 TB/s', '1234567 B/s')
    """
    words = write_value(value, unit)
    return words if parse(words, unit).value == value else f"{exact_digits(value)} {unit}"


def show_gib(value: float, digits: int = 3) -> str:
    """Bytes as GiB: what drivers report and what a memory fit is decided in."""
    return f"{sig(value / 2**30, digits)} GiB"


def show_count(value: float) -> str:
    """1.5e13 -> "15T", 671e9 -> "671B", 16384 -> "16384"."""
    for scale, name in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if abs(value) >= scale:
            number = value / scale
            return f"{number:.4g}{name}"
    return f"{value:.15g}"


_PIXELS = re.compile(r"\s*([0-9]+)\s*[xX]\s*([0-9]+)\s*")
MOST_PIXELS = 100_000
"""Of a side of an image."""


def parse_pixels(text: object) -> tuple[float, float]:
    """Width and height in pixels, of "1024x768". Raises UserError.

    >>> parse_pixels("1024x768")
    (1024.0, 768.0)
    """
    found = _PIXELS.fullmatch(str(text))
    sides = [float(side) for side in found.groups() if len(side) < len(str(MOST_PIXELS)) + 1] if found else []
    if len(sides) != 2 or not all(1 <= side <= MOST_PIXELS for side in sides):
        raise UserError("not a size of an image", given=text, allowed="width x height in pixels, such as 1024x768")
    return sides[0], sides[1]
