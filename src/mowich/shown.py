"""How results show themselves: printed, in a notebook as a small table, as plain rows for any dataframe, as pictures.

Pages of results are drawn by `mowich.show`, which stands above them in the order of imports. So no result knows it:
what draws is registered here (`draw_with`), by the public face of the package, and loaded when a result is first shown.
`Rows` is the tuple of a result's rows; when called, it gives them as plain numbers.

>>> class Two:
...     def to_dict(self):
...         step = {"value": 2.0, "low": 1.0, "high": 3.0, "grade": "C", "unit": "s"}
...         return {"system": "trn3", "step_s": step, "plan": {"tp": 4}}
>>> Rows([Two()])()
[{'system': 'trn3', 'step_s': 2.0, 'step_s_low': 1.0, 'step_s_high': 3.0, 'step_s_grade': 'C', 'plan_tp': 4}]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

T = TypeVar("T", covariant=True)

LEFT_OUT = ("spread", "breakdown", "coverage", "unit", "reason_of")
"""Of an estimate and of a row, what is no column."""


class Text(str):
    """Text that a prompt and a notebook show as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(self)}</pre>"


class Rows(tuple[T, ...]):
    """Rows of a result; `rows()` gives them as a list of dicts of plain numbers, SI, None where unknown."""

    __slots__ = ()

    def __call__(self) -> list[dict[str, Any]]:
        return [plain(_as_dict(row)) for row in self]


def _as_dict(row: Any) -> Mapping[str, Any]:
    from dataclasses import fields, is_dataclass  # not above: `import mowich` loads this module, and they take 10 ms

    if isinstance(row, tuple):  # (the question, its answer)
        return {k: v for part in row for k, v in _as_dict(part).items()}
    if hasattr(row, "to_dict"):
        return row.to_dict()  # type: ignore[no-any-return]
    if is_dataclass(row):
        return {f.name: getattr(row, f.name) for f in fields(row)}
    raise TypeError(f"{type(row).__name__} is no row")


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """One row, nested objects spread over columns; an estimate E becomes E, E_low, E_high and E_grade."""
    from dataclasses import is_dataclass

    out: dict[str, Any] = {}
    for key, value in row.items():
        if key in LEFT_OUT:
            continue
        value = value.to_dict() if hasattr(value, "to_dict") else value
        if isinstance(value, Mapping) and "grade" in value and "value" in value:
            out |= {key: value["value"], **{f"{key}_{part}": value.get(part) for part in ("low", "high", "grade")}}
        elif isinstance(value, Mapping) or is_dataclass(value):
            out |= {f"{key}_{k}": v for k, v in plain(value if isinstance(value, Mapping) else _as_dict(value)).items()}
        elif isinstance(value, list | tuple):
            out[key] = "; ".join(map(str, value))
        else:
            out[key] = value
    return out


class Drawer(Protocol):
    """What draws results: `mowich.show.render.notebook` is one."""

    def html(self, result: Any, /) -> str: ...
    def text(self, result: Any, /) -> str: ...
    def plot(self, result: Any, which: int | str, /) -> Any: ...
    def pictures(self, result: Any, /) -> list[str]: ...
    def explained(self, result: Any, metric: str, facts: Any, /) -> str: ...


_find: Callable[[], Drawer] | None = None


def draw_with(find: Callable[[], Drawer]) -> None:
    """Name what draws results. find: gives it, and is called each time that a result is drawn; so it can load it
    late."""
    global _find
    _find = find


def _drawer() -> Drawer:
    assert _find is not None, "importing the package names what draws results"
    return _find()


class Shown:
    """A result that a notebook can show. Needs `to_dict()` with a schema."""

    __slots__ = ()

    def __str__(self) -> str:
        """The page that the command line prints; of a result without one, its fields."""
        return _drawer().text(self)

    def _repr_html_(self) -> str:
        """Headline, the main table with ranges and grades, and the remarks."""
        return _drawer().html(self)

    def plot(self, which: int | str = 0) -> Any:
        """A picture of the result, by its place or a word of its title; `pictures()` lists them."""
        return _drawer().plot(self, which)

    def pictures(self) -> list[str]:
        """Titles of the pictures that there are."""
        return _drawer().pictures(self)

    def explain(self, metric: str, *, facts: Any = None) -> Text:
        """Where a number comes from, "trn3.step_s.ep", as `mowich explain` prints it. facts: those that made the
        result, where they are not the shipped ones."""
        return Text(_drawer().explained(self, metric, facts))
