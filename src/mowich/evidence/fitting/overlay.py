"""The fitted constants as an overlay of facts: the file that `--facts` takes.

A fact keeps its grade: constants of grade C count with the residual of their fit, constants of grade D with their own
ranges. So a narrower range of a fact never widens the range of an answer.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mowich.evidence.fitting.solve import RANGE_END, Calibrated, Posterior
from mowich.facts import Facts, load_facts
from mowich.facts.fields import is_plain_number
from mowich.facts.together import FITTED_TOGETHER, correlations_text
from mowich.serving.anchors import Anchor
from mowich.serving.own_rows import OWN_ROWS, rows_text
from mowich.shown import Keyed
from mowich.units import write_value
from mowich.writing import write_file

CONFIRMED = "confirmed"
WRITTEN = 2e-5
"""How far a written value, which has six digits, may lie from the fitted value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedFact(Keyed):
    """A constant before and after, SI. verdict: "identified", "moved" where the data moves it and hardly narrows its
    range, or "confirmed" where it stays and its range narrows; others: constants that the data cannot tell from it
    well; stopped: held at the end of today's range; widened: the new range passes today's."""

    KEYS = "path unit grade today today_low today_high fitted=value low high narrowed verdict others stopped widened"

    path: str
    unit: str
    grade: str
    today: float
    today_low: float
    today_high: float
    value: float
    low: float
    high: float
    verdict: str
    others: tuple[str, ...]
    stopped: bool
    widened: bool

    @classmethod
    def of(
        cls,
        facts: Facts,
        path: str,
        sd: float,
        *,
        value: float | None = None,
        verdict: str = CONFIRMED,
        others: tuple[str, ...] = (),
        stopped: bool = False,
    ) -> FittedFact:
        """A constant with this spread of its ln; value: the fitted value, None for today's. Its range is today's,
        narrowed by the spread, unless the value lies outside."""
        fact, today = facts.fact(path), facts.number(path)
        assert fact.low is not None
        assert fact.high is not None
        half, value = RANGE_END * sd, today if value is None else value
        low, high = value * math.exp(-half), value * math.exp(half)
        widened = value > fact.high * (1 + 1e-9) or value < fact.low * (1 - 1e-9)
        if not widened:
            value = min(max(value, fact.low), fact.high)
            low, high = max(low, fact.low), min(high, fact.high)
        return cls(
            path=path,
            unit=fact.unit,
            grade=fact.grade or "user",
            today=today,
            today_low=fact.low,
            today_high=fact.high,
            value=value,
            low=low,
            high=high,
            verdict=verdict,
            others=others,
            stopped=stopped,
            widened=widened,
        )

    @property
    def narrowed(self) -> float:
        """Width of the new range over the width of today's, in logarithms."""
        return math.log(self.high / self.low) / math.log(self.today_high / self.today_low)


def fitted_facts(found: Calibrated, facts: Facts) -> list[FittedFact]:
    """The constants that the data informs: first those that are kept, the narrowest first, then those whose values it
    confirms."""
    kept = {path: j for j, path in enumerate(found.prior.paths)}
    out = []
    for path, sd in zip(found.posterior.paths, found.posterior.sd, strict=True):
        j = kept.get(path)
        if j is None:
            out.append(FittedFact.of(facts, path, float(sd)))
            continue
        out.append(
            FittedFact.of(
                facts,
                path,
                float(sd),
                value=math.exp(float(found.solution.theta[j])),
                verdict="identified" if path in found.identified else "moved",
                others=found.together.get(path, ()),
                stopped=bool(found.solution.stopped[j]),
            )
        )
    return sorted(out, key=lambda one: (one.verdict == CONFIRMED, one.narrowed, one.path))


def overlay_text(
    fitted: Sequence[FittedFact],
    out: Path | None,
    files: Sequence[str],
    points: int,
    facts: Facts,
    rows: Sequence[Anchor] = (),
    posterior: Posterior | None = None,
) -> str:
    """The YAML of an overlay, "" where nothing was found. out: the file, which `explain` gives as the source, None for
    my.yaml; rows: measured rows to add to the shipped rows; posterior: correlations of the constants, None without
    any."""
    if not fitted and not rows:
        return ""
    name = out.name if out else "my.yaml"
    tree: dict[str, dict[str, dict[str, object]]] = {}
    said = ", ".join(Path(file).name for file in files)
    measured = f"mowich calibrate {said}: {points} measured points"
    for one in fitted:
        kind, file, *keys = one.path.split(".")
        leaf: dict[str, object] = {
            "value": _written(one.value, one.unit),
            "low": _written(one.low, one.unit),
            "high": _written(one.high, one.unit),
            "source": f"calibration {name}",
            "locator": measured,
            "grade": one.grade,
        }
        before = facts.fact(one.path).as_written
        why = f"fit to {points} points; today's value is {before}"
        leaf["reason" if one.grade == "D" else "formula"] = why
        node: dict[str, object] = tree.setdefault(kind, {}).setdefault(file, {})
        for key in keys[:-1]:
            below = node.setdefault(key, {})
            assert isinstance(below, dict)
            node = below
        node[keys[-1]] = leaf
    together = "" if posterior is None else correlations_text(posterior.paths, posterior.correlation)
    if together:
        _, file, key = FITTED_TOGETHER.split(".")
        tree.setdefault("training", {}).setdefault(file, {})[key] = {
            "text": together,
            "source": f"calibration {name}",
            "locator": measured,
            "grade": "B",
        }
    if rows:
        known: dict[str, object] = tree.setdefault("serving", {}).setdefault("anchors", {})
        known[OWN_ROWS.rpartition(".")[2]] = {
            "text": rows_text([replace(row, id=Path(row.id).name, source=f"calibration {name}") for row in rows]),
            "source": f"calibration {name}",
            "locator": measured,
            "grade": "B",
        }
    lines = [
        f"# Written by mowich calibrate from {said}. Use: --facts {name}",
        "# Values fitted to what was measured; each range is today's, as far as the measurements narrow it.",
    ]
    for kind, names in sorted(tree.items()):
        lines.append(f"{kind}:")
        for file, node in sorted(names.items()):
            lines.append(f"  {file}:")
            lines += _lines(node, 4)
    return "\n".join(lines) + "\n"


def _lines(node: dict[str, object], indent: int) -> list[str]:
    out = []
    for key, child in sorted(node.items()):
        assert isinstance(child, dict)
        if "value" in child or "text" in child:
            leaf = ", ".join(f"{name}: {_yaml(value)}" for name, value in child.items())
            out.append(f"{' ' * indent}{key}: {{{leaf}}}")
        else:
            out.append(f"{' ' * indent}{key}:")
            out += _lines(child, indent + 2)
    return out


def _yaml(value: object) -> str:
    """A value of a flow mapping: JSON is YAML."""
    return value if isinstance(value, _Number) else json.dumps(value, ensure_ascii=False)


class _Number(str):
    """A number without a unit, written unchanged."""


def _written(value: float, unit: str) -> str:
    return _Number(f"{value:.6g}") if is_plain_number(unit) else write_value(value, unit)


def write_fitted(path: Path | None, text: str, fitted: Sequence[FittedFact]) -> str:
    """Write the overlay where a file is asked for and there is one, and read it back like `--facts`. Returns the file,
    "" for none. Raises UserError where it cannot be written."""
    if path is None or not text:
        return ""
    write_file(path, text, field="overlay", given=str(path))
    known = load_facts([path])
    for one in fitted:
        if abs(known.number(one.path) / one.value - 1.0) > WRITTEN:
            raise AssertionError(f"{one.path} was written as {known.number(one.path)}, not {one.value}")
    return str(path)
