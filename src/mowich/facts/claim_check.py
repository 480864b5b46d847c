"""How a public claim is derived again: the `check` of an entry of facts/claims, read with one line for each mistake.

A check names facts (`inputs`) and combines them (`formula`). An entry without a check has that of its file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from string import Formatter
from typing import Literal

from mowich.errors import UserError, unknown
from mowich.facts.entries import entries
from mowich.facts.load import Facts
from mowich.formula import calculated, problem_in

CHECK_KEY = "check"
"""The key of a check, in an entry and at the top of a file."""

MODEL_NAMES = ("expert_share",)
"""What formulas of `given` may take of the check's model: the share of its parameters that lies in routed experts."""

SERVED_NAMES = ("tpot_ms", "throughput", "same_weights", "response", "alone")
"""What `served` may print of the serving model's answer."""

_SYMBOL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def number_by(text: str, symbols: Mapping[str, float]) -> float:
    """The value of a check's formula. Raises UserError where it has none: a division by zero, a root of less than
    zero."""
    try:
        return calculated(text, symbols.__getitem__)
    except (ArithmeticError, ValueError, TypeError) as error:
        shown = ", ".join(f"{name} = {value:.6g}" for name, value in symbols.items())
        raise UserError(f"the formula {text} of a claim has no value ({error})", given=shown) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """How a claim is derived. Texts may hold names in braces, as of `str.format`."""

    says: str = ""
    """The formula in words."""
    formula: str = ""
    """Arithmetic over `inputs` and `given`, in the unit of the claim; "" where nothing is derived."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Symbol -> path of a fact."""
    model: str = ""
    """The model whose `MODEL_NAMES` the formulas of `given` may take."""
    given: Mapping[str, str] = field(default_factory=dict)
    """Symbol -> formula of a number that is no fact, of the model and of those before it."""
    spread: tuple[str, ...] = ()
    """Formulas of the ends of the derived number, where the formula itself holds a number that is no fact."""
    gain: bool = False
    """Whether the claim is a share on top: "40 %" is 1.4 times."""
    counts: tuple[str, ...] = ()
    """Facts with the chips of a unit (UltraServer, rack, pod) of the new machine, then of the old one."""
    per: Literal["chip", "unit"] = "chip"
    """What the claim is of, so that the other reading can stand beside it."""
    condition: str = ""
    """What makes the derived number the claimed one, if only under a condition."""
    missing: str = ""
    """What would have to be published, if the claim cannot be checked."""
    unknown: tuple[str, ...] = ()
    """Facts that `missing` says are not known."""
    note: str = ""
    """Why the facts give another number."""
    more: Mapping[str, str] = field(default_factory=dict)
    """Name -> formula of a number for `condition` and `missing`, of `inputs` and of the number `claimed`."""
    served: str = ""
    """What the serving model adds to the reason, with `SERVED_NAMES`."""

    def derived(self, values: Mapping[str, float]) -> float:
        """The number that follows from inputs and given numbers.

        >>> Check(formula="a / b", inputs={"a": "chips.x.p", "b": "chips.y.p"}).derived({"a": 6.0, "b": 2.0})
        3.0
        """
        return number_by(self.formula, values)

    def ends(self, values: Mapping[str, float]) -> tuple[float, ...]:
        """The ends of the formula itself; none where `spread` is empty."""
        return tuple(number_by(end, values) for end in self.spread)

    def of_claimed(self, inputs: Mapping[str, float], claimed: float) -> dict[str, float]:
        """The numbers of `more`."""
        symbols = {**inputs, "claimed": claimed}
        return {name: number_by(text, symbols) for name, text in self.more.items()}


_KINDS: Mapping[str, type] = {
    f.name: {"str": str, "bool": bool, "tuple[str, ...]": list}.get(str(f.type), dict) for f in fields(Check)
} | {"per": str}
"""Key -> what YAML makes of its value."""

_WANTED = {str: "a text", bool: "true or false", list: "a list of texts", dict: "a mapping of names to texts"}


def read_check(said: object, at: str) -> Check:
    """The check that a file states at a path. Raises UserError, with the path of what is wrong as its place."""
    if not isinstance(said, Mapping):
        raise UserError("a check is a mapping", where=at, given=said, allowed=", ".join(_KINDS))
    made: dict[str, object] = {}
    for key, value in said.items():
        here = f"{at}.{key}"
        if key not in _KINDS:
            raise unknown("key", str(key), tuple(_KINDS), where=here)
        wanted = _KINDS[key]
        inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
        if not isinstance(value, wanted) or not all(isinstance(x, str) for x in inner):
            raise UserError(f"{key} is {_WANTED[wanted]}", where=here, given=value)
        made[str(key)] = tuple(value) if isinstance(value, list) else value
    check = Check(**made)  # type: ignore[arg-type]
    for where, what, allowed in _problems(check):
        raise UserError(what, where=f"{at}.{where}", allowed=allowed)
    return check


def _problems(check: Check) -> Iterator[tuple[str, str, str]]:
    """(key, what is wrong, what is allowed) of a check whose keys are right by themselves."""
    if check.per not in ("chip", "unit"):
        yield "per", f"per is '{check.per}'", "chip, unit"
    if not check.formula and not check.missing:
        yield "formula", "a check has a formula, or says in `missing` what would have to be published", ""
    if check.formula and not check.inputs:
        yield "inputs", "a formula has inputs", "symbol: path of a fact"
    if len(check.counts) > 2:
        yield "counts", "counts are of the new machine and of the old one", "one path or two"
    for group in ("inputs", "given", "more"):
        for symbol in getattr(check, group):
            if not _SYMBOL.fullmatch(symbol):
                yield f"{group}.{symbol}", f"'{symbol}' is no symbol", "letters, digits and _"
    known = list(MODEL_NAMES) if check.model else []
    for symbol, text in check.given.items():
        yield from _wrong(f"given.{symbol}", text, known)
        known.append(symbol)
    symbols = [*check.inputs, *check.given]
    if check.formula:
        yield from _wrong("formula", check.formula, symbols)
    for end in check.spread:
        yield from _wrong("spread", end, symbols)
    for name, text in check.more.items():
        yield from _wrong(f"more.{name}", text, [*check.inputs, "claimed"])
    numbers = ["value", "low", "high", *((*check.inputs, *check.more) if check.more else ())]
    names = {"says": list(check.given), "condition": numbers, "missing": numbers, "served": list(SERVED_NAMES)}
    for key, allowed in names.items():
        yield from _wrong_text(key, getattr(check, key), allowed)


def _wrong(where: str, text: str, symbols: list[str]) -> Iterator[tuple[str, str, str]]:
    what = problem_in(text, symbols)
    if what:
        yield where, what, f"arithmetic over {', '.join(symbols) or 'numbers'}"


def _wrong_text(where: str, text: str, names: list[str]) -> Iterator[tuple[str, str, str]]:
    """Names in braces that nothing would fill in, and braces that do not close."""
    try:
        found = {name for _, name, _, _ in Formatter().parse(text) if name is not None}
        strange = sorted(found - set(names))
        if not strange:
            text.format(**dict.fromkeys(names, 1.0))
    except (ValueError, KeyError, IndexError, AttributeError) as error:
        yield where, f"cannot be filled in: {error}", "{name} or {name:.2f}"
        return
    if strange:
        yield where, f"nothing is called {{{strange[0]}}}", ", ".join(names) or "no names in braces"


def check_of(facts: Facts, path: str, file: str) -> Check:
    """The check of the entry at a path: its own, else that of its file. Raises UserError."""
    for at in (f"{path}.{CHECK_KEY}", f"claims.{file}.{CHECK_KEY}"):
        said = facts.group(at)
        if said:
            return read_check(said, at)
    return Check(missing="how the claim would be derived: no entry of ours says it")


def stated_checks(data: Mapping[str, object], at: str) -> Iterator[tuple[str, object]]:
    """(path, what stands there) of each check of a file of claims."""
    for key, value in data.items():
        if key == CHECK_KEY:
            yield f"{at}.{key}", value
        elif isinstance(value, Mapping):
            yield from stated_checks(value, f"{at}.{key}")


def unknown_inputs(facts: Facts) -> Iterator[UserError]:
    """One error for each path of a check that is no fact. Its place is the path of the check's key."""
    for entry in entries(facts):
        check = check_of(facts, entry.path, entry.file)
        named = [(f"inputs.{symbol}", path) for symbol, path in check.inputs.items()]
        for key, path in [*named, *(("counts", path) for path in check.counts)]:
            if facts.get(path) is None:
                try:
                    facts.fact(path)
                except UserError as error:
                    error.where = f"{entry.path}.{CHECK_KEY}.{key}"
                    yield error
