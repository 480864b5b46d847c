"""One number of a result explained: what it is, its formula with the numbers put in, the facts behind it, and what
would change it most.

The answer joins four independent things: the name of the number (`tree`), the line that says what it is (`rules`), the
model that makes it again and records its formulas (`source`), and the facts, moved to the ends of their ranges one at a
time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from mowich import models
from mowich.errors import UserError
from mowich.estimate import GRADES, Estimate, Notes, Term, worst_grade
from mowich.facts import Fact, Facts, Watched
from mowich.facts.moves import noted
from mowich.models.given import model_of_inputs
from mowich.models.model import Model
from mowich.shown import Result
from mowich.studies.explain import tree, validate
from mowich.studies.explain.explanation import NUDGE, Explanation, Move
from mowich.studies.explain.formula import UnknownNameError, evaluate, names_in
from mowich.studies.explain.makers import make_source, place_of
from mowich.studies.explain.rules.every import rules_of
from mowich.studies.explain.rules.rule import METRIC_UNITS, Rule
from mowich.studies.explain.source import Numbers, Source, rule_of_row
from mowich.studies.explain.tree import ResultPath
from mowich.studies.ranking import LESS_IS_BETTER, ranking
from mowich.sums import float_sum
from mowich.version import VERSION

LEAST = 1e-6
"""A smaller relative change counts as none."""

SHOWN_MOVES = 12
"""Most facts of a sensitivity; the winner is asked for at the first `_FLIPS` of them."""

_FLIPS = 6

SLOW_MOVES = 8
"""Most facts that are moved where each move costs a simulation or a programme."""

DEFAULT = (
    "step_s",
    "tpot_s",
    "item_s",
    "time_s",
    "goodput",
    "total_W",
    "tco_total",
    "derived",
    "predicted",
    "memory_B",
    "tokens_per_s_per_chip",
)
"""The number that is explained where only a row is named."""


class Explainer:
    """Explains numbers of one result. facts: those of the result; model: as loaded (None: loaded by the name in the
    result)."""

    def __init__(self, result: Result, facts: Facts, model: Model | None = None) -> None:
        self.result = result
        self.facts = facts
        self._model = model
        self._sources: dict[ResultPath, Source | None] = {}
        self._hash = ""
        self._set: dict[tuple[tuple[str, float], ...], Facts] = {}
        self._ends: dict[tuple[ResultPath, str, float], Numbers] = {}
        self._cells: Mapping[str, Mapping[str, str]] | None = None
        self._symbols: dict[ResultPath, Mapping[str, float]] = {}
        self._noted: dict[tuple[ResultPath, ResultPath], Mapping[str, Term]] = {}
        self._moved_symbols: dict[ResultPath, Mapping[str, Term]] = {}
        self.rules = rules_of(result)
        if not self.rules:
            raise UserError(
                "not a result that can be explained",
                given=result.get("schema"),
                allowed="what a verb writes with --json or --out",
            )

    # the number
    # --------------------------------------------------------------------------------------------------------
    def explain(self, metric: str, *, sensitivity: bool = True) -> Explanation:
        """The number of a name. Raises UserError for an unknown name, and for a row without a plan."""
        path = self._number(tree.find_path(self.result, metric))
        self._has_plan(path)
        return self.at(path, sensitivity=sensitivity)

    def _has_plan(self, path: ResultPath) -> None:
        """Raise UserError, with the row's reason, for a number that is unknown because its row has no plan."""
        node = tree.at(self.result, path)
        row = tree.at(self.result, path[:2]) if len(path) > 2 else None
        if isinstance(row, Mapping) and tree.is_estimate(node) and node["value"] is None and row.get("reason"):
            no_plan = all(row.get(k) is None for k in ("plan", "decode"))
            if no_plan and "feasible" in row:
                raise UserError(f"{tree.name_of(self.result, path[:2])} has no plan to explain: {row['reason']}")

    def _number(self, path: ResultPath) -> ResultPath:
        """One number for a path; the path may lead to an object with several numbers."""
        node = tree.at(self.result, path)
        if tree.is_number(node) or tree.is_estimate(node) or node is None:
            return path
        if path and path[-1] == "breakdown":
            return path[:-1]
        if isinstance(node, Mapping):
            if self.rule(path) is not None:
                return path
            for key in DEFAULT:
                if key in node:
                    return (*path, key)
        name = tree.name_of(self.result, path)
        inside = [n for p in tree.numbers(self.result) if (n := tree.name_of(self.result, p)).startswith(f"{name}.")]
        raise UserError(f"'{name}' is not a number", allowed=inside[:20] or "mowich explain RESULT lists what there is")

    def rule(self, path: ResultPath) -> Rule | None:
        """The line of the table that says what a number is."""
        for rule in self.rules:
            if rule.matches(path) and rule.holds(self._parent(path)):
                return rule
        return None

    def _parent(self, path: ResultPath) -> Result:
        """The mapping that holds a number, directly or in a list."""
        found = tree.at(self.result, path[:-1])
        if isinstance(found, list) and len(path) > 1:
            return self._parent(path[:-1])
        return found if isinstance(found, Mapping) else {}

    def at(self, path: ResultPath, *, sensitivity: bool = True, winners: bool = True) -> Explanation:
        """The number at a path of the result. winners: say who is best when a fact has moved."""
        warnings = self.warnings()
        inside = self._inside_of_estimate(path, sensitivity)
        if inside is not None:
            return replace(inside, warnings=tuple(warnings))
        name = tree.name_of(self.result, path)
        if path[0] == "inputs":
            return self._input(path, name, warnings)
        rule = self.rule(path)
        if rule is None:
            raise UserError(f"nothing is known of '{name}'", fix="this is a gap of mowich: please report it")
        source = self.source(path)
        rule = rule_of_row(rule, path, source)
        notes = Notes()
        if source is not None:
            notes.terms |= self._terms(source, path[len(source.at) :])
        elif self._needs_source(path):
            warnings.append(
                "its scenario or file is not here: facts and sensitivities are left out; run explain where the result"
                " was made"
            )
        estimate, parts = self._stated(path, rule.unit)
        inputs, units, behind = self._put_in(rule, path, source, notes)
        found = self._facts(rule, notes, behind, path)
        moves: tuple[Move, ...] = ()
        if source is not None and sensitivity and estimate.value:
            moves = self._moves(source, path, float(estimate.value), found, warnings, winners=winners)
            for m in moves:
                found.setdefault(m.fact.path, m.fact)
        if not estimate.grade and found:
            is_graded = any(f.grade and f.grade in GRADES for f in found.values())
            grade = worst_grade(f.grade for f in found.values()) if is_graded else "user"
            estimate = replace(estimate, grade=grade)
        title = source.title if source is not None and source.title else ""
        return Explanation(
            metric=name,
            title=f"{title}: {self._short(path, source)}" if title else name,
            says=rule.says,
            formula=rule.formula,
            words=rule.words,
            kind=rule.kind,
            inputs=inputs,
            units=units,
            estimate=estimate,
            parts=parts,
            terms=tuple(notes.terms.values()),
            facts=tuple(found.values()),
            moves=moves,
            warnings=tuple(warnings),
            held=source.held.get(path[len(source.at) :][:1], "") if source is not None else "",
        )

    def _input(self, path: ResultPath, name: str, warnings: Sequence[str]) -> Explanation:
        """A number that the question stated."""
        node = tree.at(self.result, path)
        if not tree.is_number(node):
            raise UserError(f"'{name}' is not a number")
        return Explanation(
            metric=name,
            title=name,
            says="an input of the result",
            formula="",
            words="as given, or the default of the verb",
            kind="lookup",
            inputs={},
            estimate=Estimate(value=node, unit="1", grade="user"),
            warnings=tuple(warnings),
        )

    def _stated(self, path: ResultPath, unit: str) -> tuple[Estimate, Mapping[str, float]]:
        """(the number at a path as the result has it, its parts). unit: of a number that is no estimate; an object is
        the sum of its parts."""
        node = tree.at(self.result, path)
        if tree.is_estimate(node):
            return Estimate.from_dict(node), node.get("breakdown") or {}
        if isinstance(node, Mapping):
            parts = {k: float(v) for k, v in node.items()}
            return Estimate(value=float_sum(parts.values()), unit=unit, grade=""), parts
        holder = tree.at(self.result, path[:-1])
        reason = holder.get("reason") if node is None and isinstance(holder, Mapping) else None
        return Estimate(value=node, unit=unit, grade="", reason=reason), {}

    def _short(self, path: ResultPath, source: Source | None) -> str:
        words = [str(p) for p in path[len(source.at) if source else 0 :] if p != "breakdown"]
        return ".".join(words)

    def _inside_of_estimate(self, path: ResultPath, sensitivity: bool) -> Explanation | None:
        """The explanation of an estimate's low, high, value or coverage."""
        for i, word in ((1, "value"), (1, "low"), (1, "high"), (2, "coverage")):
            if len(path) > i and path[-i] == word and tree.is_estimate(tree.at(self.result, path[:-i])):
                whole = self.at(path[:-i], sensitivity=sensitivity)
                if word == "value":
                    return whole
                if word == "coverage":
                    unit, says = "1", f"share of the number that rests on this kind of cost: {path[-1]}"
                    words = "cost of this kind / all, by what its constants come from"
                else:
                    unit, says = whole.estimate.unit, f"{word} end of the 90% predictive interval of: {whole.says}"
                    words = (
                        f"value x exp({'-' if word == 'low' else '+'} sqrt(sum of squares of ln changes by each ranged"
                        " fact, and of the error of the fit)), the same in log odds for goodput, or percentiles of"
                        " draws; exact where nothing is uncertain"
                    )
                return replace(
                    whole,
                    metric=tree.name_of(self.result, path),
                    says=says,
                    formula="",
                    words=words,
                    kind="inside",
                    inputs={},
                    estimate=Estimate(value=tree.at(self.result, path), unit=unit, grade=whole.estimate.grade),
                    parts={},
                )
        return None

    # formula
    # -----------------------------------------------------------------------------------------------------------
    def _put_in(
        self, rule: Rule, path: ResultPath, source: Source | None, notes: Notes
    ) -> tuple[dict[str, float | str], dict[str, str], list[str]]:
        """(numbers put into the formula, their units, paths of facts behind the symbols)."""
        inputs: dict[str, float | str] = {}
        units: dict[str, str] = {}
        for symbol in names_in(rule.formula) if rule.formula else ():
            try:
                value = self.lookup(symbol, path, source, notes)
            except UnknownNameError:
                continue
            inputs[symbol] = _shown(value)
            units |= {symbol: unit} if (unit := self._unit(symbol, path, source, notes)) not in ("", "1") else {}
        return inputs, units, self._behind(source, inputs)

    def _terms(self, source: Source, key: ResultPath) -> Mapping[str, Term]:
        """The formulas of one number of a source, each with the facts that move it."""
        if (source.at, key) not in self._noted:
            notes = Notes()
            source.terms(key, notes)
            if source.record is not None:
                notes.terms |= noted(partial(source.record, key), self._facts_at(source.at)).terms
            self._noted[source.at, key] = notes.terms
        return self._noted[source.at, key]

    def _symbols_of(self, source: Source | None) -> Mapping[str, float]:
        """The names that a source gives to formulas."""
        if source is None:
            return {}
        if source.at not in self._symbols:
            self._symbols[source.at] = source.symbols(self._facts_at(source.at))
        return self._symbols[source.at]

    def _behind(self, source: Source | None, names: Iterable[str]) -> list[str]:
        """The facts that move those names of a formula that its source gives."""
        wanted = self._symbols_of(source).keys() & set(names)
        if source is None or not wanted:
            return []

        def record(known: Facts, notes: Notes) -> None:
            for name, value in source.symbols(known).items():
                notes.add(name, value, "")

        if source.at not in self._moved_symbols:
            self._moved_symbols[source.at] = noted(record, self._facts_at(source.at)).terms
        return [path for name, term in self._moved_symbols[source.at].items() if name in wanted for path in term.facts]

    def _unit(self, symbol: str, path: ResultPath, source: Source | None, notes: Notes) -> str:
        """The unit of a name in a formula, found where `lookup` finds its value."""
        first, *rest = symbol.split(".")
        here = tree.at(self.result, path)
        if first == "parts" and tree.is_estimate(here):
            return str(here["unit"])
        if first == "result":
            return self._unit_at(tuple(rest))
        beside = self._beside(first, path)
        if beside is not None:
            return self._unit_at((*beside, *rest))
        if first in self._symbols_of(source):
            return METRIC_UNITS.get(first, "")
        for term in reversed(notes.terms.values()):
            if term.name.replace(" ", "_") == first:
                return term.unit
            if first in term.inputs:
                return term.units.get(first, METRIC_UNITS.get(first, ""))
        return METRIC_UNITS.get(first, "")

    def _beside(self, name: str, path: ResultPath) -> ResultPath | None:
        """The path of a name next to the number at `path`, or else further out; None where the result has none."""
        for i in range(len(path) - 1, -1, -1):
            scope = tree.at(self.result, path[:i])
            if isinstance(scope, Mapping) and not isinstance(scope.get(name), str | None):
                return *path[:i], name
        return None

    def _unit_at(self, path: ResultPath) -> str:
        """The unit of the number at a path; of a list or an object, the unit of its numbers."""
        rule = next((r for r in self.rules if r.matches(path) or r.matches((*path, "*"))), None)
        try:
            node = tree.at(self.result, path)
        except (KeyError, TypeError):
            node = None
        return str(node["unit"]) if tree.is_estimate(node) else rule.unit if rule is not None else ""

    def evaluate(self, path: ResultPath) -> float | None:
        """The number by its own formula; None where the formula is in words or a name in it is unknown."""
        rule, source, notes = self.rule(path), self.source(path), Notes()
        if rule is None or not (rule := rule_of_row(rule, path, source)).formula:
            return None
        if source is not None:
            source.terms(path[len(source.at) :], notes)
            if source.record is not None:
                source.record(path[len(source.at) :], self._facts_at(source.at), notes)
        try:
            return evaluate(rule.formula, lambda name: self.lookup(name, path, source, notes))
        except UnknownNameError:
            return None

    def lookup(self, symbol: str, path: ResultPath, source: Source | None, notes: Notes) -> object:
        """The value of a name in a formula. Looks next to the number, further out, in the model's records, in the
        inputs."""
        first, *rest = symbol.split(".")
        node = self._first(first, path, source, notes)
        for word in rest:
            if isinstance(node, list):
                node = np.array([_number(x[word]) for x in node])
            elif isinstance(node, Mapping):
                node = node[word]
            else:
                raise TypeError(f"{symbol}: {type(node).__name__} has no part '{word}'")
        return _number(node)

    def _first(self, name: str, path: ResultPath, source: Source | None, notes: Notes) -> object:
        here = tree.at(self.result, path)
        if name == "parts" and tree.is_estimate(here):
            return here["breakdown"]
        if name == "result":
            return self.result
        beside = self._beside(name, path)
        if beside is not None:
            return tree.at(self.result, beside)
        if name in (symbols := self._symbols_of(source)):
            return symbols[name]
        for term in reversed(notes.terms.values()):
            if term.name.replace(" ", "_") == name:
                return term.value
            if name in term.inputs:
                return term.inputs[name]
        inputs = self.result.get("inputs", {})
        if name in inputs:
            return inputs[name]
        raise UnknownNameError(name)

    # facts
    # -------------------------------------------------------------------------------------------------------------
    def _facts(self, rule: Rule, notes: Notes, behind: Sequence[str], path: ResultPath) -> dict[str, Fact]:
        """Facts that the terms, the symbols and the rule name."""
        paths = [p for t in notes.terms.values() for p in t.facts] + list(behind)
        names_of, known = self._names(path), self.facts_of(path)
        if not any("{" in p for p in rule.facts) or names_of:
            for template in rule.facts:
                at = template.format(**names_of)
                paths += known.paths(at.removesuffix(".*")) if at.endswith(".*") else [at]
        found: dict[str, Fact] = {}
        for p in paths:
            fact = known.get(p)
            if fact is not None:
                found.setdefault(fact.path, fact)
        return found

    def _names(self, path: ResultPath) -> dict[str, str]:
        """{system} and {chip} of the row that a path is in."""
        from mowich.machines.system import machine_id, parse_spec

        for i in range(len(path), -1, -1):
            node = tree.at(self.result, path[:i])
            if isinstance(node, Mapping) and (word := node.get("system_id") or node.get("system")):
                system = machine_id(self.facts, parse_spec(str(word))[0])
                return {"system": system, "chip": str(self.facts.meta("systems", system)["chip"])}
        return {}

    def _moves(
        self,
        source: Source,
        path: ResultPath,
        value: float,
        found: Mapping[str, Fact],
        warnings: list[str],
        *,
        winners: bool,
    ) -> tuple[Move, ...]:
        """The facts that move the number, largest first, with who wins at their ends."""
        key = path[len(source.at) :]
        known = self.facts_of(path)
        watched = Watched(known)
        made = source.numbers(watched, key)
        now = made.get(key)
        if now is None and isinstance(tree.at(self.result, path), Mapping):
            now = _sum_of(made, key)
        if not now:
            return ()
        if abs(now / value - 1.0) > 1e-6 and not source.is_slow:
            self._warn_if_changed(value, now, warnings)

        def sizes(ends: Iterable[tuple[Fact, float, float]]) -> list[Move]:
            moves = (self._moved(source, known, key, now, *one) for one in ends)
            return sorted((m for m in moves if m.size > LEAST), key=lambda m: -m.size)[:SHOWN_MOVES]

        read = [f for f in watched.read.values() if isinstance(f.value, float) and f.value]
        wide = _wide(read, found if source.is_slow else None)
        ranged = sizes((f, f.low, f.high) for f in wide if f.low is not None and f.high is not None)
        if (ranged and found) or source.is_slow:
            return tuple(
                replace(m, flips=self._winner_at(m, path)) if i < _FLIPS and winners else m
                for i, m in enumerate(ranged)
            )
        nudged = sizes((f, value, value * NUDGE) for f, value in _exact(read))
        return (*ranged, *nudged[: SHOWN_MOVES - len(ranged)])

    def _moved(
        self, source: Source, known: Facts, key: ResultPath, now: float, fact: Fact, low: float, high: float
    ) -> Move:
        """What moving one fact to either end changes a number by, over what it is now; 0 where the number cannot be
        made again."""

        def change(to: float) -> float:
            if to == fact.value:
                return 0.0
            try:
                made = self._at_end(source, known, key, fact.path, to)
            except (UserError, ZeroDivisionError, OverflowError):
                return 0.0
            new = made[key] if made.get(key) is not None else _sum_of(made, key)
            return 0.0 if new is None else new / now - 1.0

        return Move(fact=fact, low=low, high=high, at_low=change(low), at_high=change(high))

    def _warn_if_changed(self, value: float, now: float, warnings: list[str]) -> None:
        """Warn where a number, made again from the same facts, differs from the result."""
        if self.result.get("facts_hash") not in (None, self._hash):
            return
        is_same = self.result.get("version") == VERSION
        changed = "the result was changed, or another build of this version made it"
        why = changed if is_same else "another version made it"
        warnings.append(f"the result has {value:.6g}, made again it is {now:.6g}: {why}")

    def _winner_at(self, move: Move, path: ResultPath) -> str | None:
        """The best row with the fact at each end of its range, where another row is best now."""
        metric = str(path[-1])
        if (
            len(path) != 3
            or path[0] != "rows"
            or metric not in LESS_IS_BETTER
            or self.result["schema"] == "mowich/sweep@1"
        ):
            return None  # points of a sweep are different questions
        if self.result["schema"] == "mowich/compare@1" and ranking(self.result, metric).best is None:
            return None  # no row wins now, so no row can lose
        rows = self.result["rows"]
        sources = {i: self.source((*path[:1], i, metric)) for i in range(len(rows))}
        if len([s for s in sources.values() if s is not None]) < 2 or any(
            s is not None and s.is_slow for s in sources.values()
        ):
            return None

        def best(moved: str, to: float) -> int | None:
            values = {
                i: v
                for i, s in sources.items()
                if s is not None and (v := self._at_end(s, self.facts, (metric,), moved, to).get((metric,))) is not None
            }
            return min(values, key=lambda i: values[i] * (1 if LESS_IS_BETTER[metric] else -1)) if values else None

        now = best("", 0.0)
        words = []
        for end, at in (("low", move.low), ("high", move.high)):
            other = best(move.fact.path, at)
            if other is not None and other != now:
                words.append(f"{tree.item_label(rows, other)} at its {end} end")
        return ", ".join(words) or None

    def _at_end(self, source: Source, known: Facts, wanted: ResultPath, moved: str, to: float) -> Numbers:
        """The numbers of a source with one fact moved (moved: its path; "": none), at least the wanted one. They are
        kept, because the numbers of a row move under the same facts."""
        key = (source.at, moved, to)
        kept = self._ends.get(key, {})
        if wanted not in kept:
            made = source.numbers(known.with_values({moved: to}) if moved else known, wanted)
            kept = self._ends[key] = {**kept, **made}
        return kept

    # sources
    # -----------------------------------------------------------------------------------------------------------
    def warnings(self) -> list[str]:
        """What has changed since the result was made."""
        out = []
        made, hashed = self.result.get("version"), self.result.get("facts_hash")
        self._hash = self._hash or self.facts.hash()
        if made is not None and made != VERSION:
            out.append(f"made by mowich {made}, explained by {VERSION}: formulas are of now")
        if hashed is not None and hashed != self._hash:
            out.append(f"the facts have changed since it was made ({hashed}, now {self._hash}): terms are of now")
        return out

    def model(self, name: str | None = None) -> Model:
        """The model of the result, or of one row of a sweep. Raises UserError where it differs from the result's."""
        inputs = self.result["inputs"]
        if name is not None:
            own = (inputs.get("model_inputs") or {}).get(name)
            return (model_of_inputs(own) if own else None) or models.load_model(name)
        if self._model is None:
            named = str(inputs.get("model_given") or inputs.get("model"))
            self._model = model_of_inputs(inputs) or models.load_model(named)
        wanted = self.result["inputs"].get("model_params")
        if wanted is not None and wanted != self._model.params:
            raise UserError(
                f"'{self._model.name}' is not the model of this result",
                given=f"{self._model.params} parameters",
                allowed=f"{wanted}",
                fix="run explain where the result was made",
            )
        return self._model

    def facts_of(self, path: ResultPath) -> Facts:
        """The facts that the number at a path was made with: those of the result, and what its point of a sweep
        sets."""
        row = tree.at(self.result, path[:2]) if path[0] == "rows" and len(path) > 1 else None
        settings = row.get("set") if isinstance(row, Mapping) else None
        facts = {k: v for k, v in (settings or {}).items() if k != "engine" and not k.startswith("plan.")}
        values = tuple((k, float(v)) for k, v in facts.items())
        if not values:
            return self.facts
        if values not in self._set:
            self._set[values] = self.facts.with_values(dict(values))
        return self._set[values]

    def source(self, path: ResultPath) -> Source | None:
        """The source that makes the number at a path again; None without one (a count, a row without a plan)."""
        place = place_of(self.result, path)
        if place is None:
            return None
        if place not in self._sources:
            self._sources[place] = self._source_at(place)
        return self._sources[place]

    def _needs_source(self, path: ResultPath) -> bool:
        return place_of(self.result, path) is not None and self.result["schema"] in (
            "mowich/traffic@1",
            "mowich/fleet@1",
            "mowich/validate@1",
            "mowich/rl@1",
        )

    def _source_at(self, place: ResultPath) -> Source | None:
        return make_source(self.result, place, self._facts_at(place), self.model, self._measured)

    def _facts_at(self, place: ResultPath) -> Facts:
        """The facts of a place (`place_of`)."""
        return self.facts_of(place) if place else self.facts

    def _measured(self) -> Mapping[str, Mapping[str, str]]:
        """The measured rows of a result of validate, by id."""
        if self._cells is None:
            self._cells = validate.measured_rows(self.result, self.facts)
        return self._cells


def is_fitted(fact: Fact) -> bool:
    """Whether a fact was fitted to measurements: then the residual of the fit holds its error, and its range does
    not."""
    return fact.path.startswith(("devices.", "training.", "serving.")) and fact.grade == "C"


def _sum_of(made: Mapping[ResultPath, float], key: ResultPath) -> float | None:
    """The sum of what lies below a path."""
    below = [v for k, v in made.items() if k[: len(key)] == key and len(k) == len(key) + 1]
    return float_sum(below) if below else None


def _number(node: object) -> object:
    """The value of an estimate; anything else unchanged."""
    value = node["value"] if tree.is_estimate(node) else node
    if value is None:
        raise UnknownNameError("unknown")
    return value


def _shown(value: object) -> float | str:
    """A symbol's value for printing: lists in short."""
    if isinstance(value, int | float):
        return float(value)
    if not isinstance(value, Iterable):
        return str(value)
    items = list(value.values() if isinstance(value, Mapping) else value)
    words = [f"{x:.6g}" if isinstance(x, int | float | np.floating) else "?" for x in items[:6]]
    return ", ".join(words) + (f", ... ({len(items)})" if len(items) > 6 else "")


def _wide(read: Sequence[Fact], named: Mapping[str, Fact] | None) -> list[Fact]:
    """The facts that have a range of their own; with `named` only the widest few of these."""
    wide = [f for f in read if f.low is not None and f.high is not None and f.low != f.high and not is_fitted(f)]
    if named is None:
        return wide
    widest = sorted(wide, key=lambda f: -(f.high or 1.0) / max(f.low or 0.0, 1e-30))
    return [f for f in widest if f.path in named][:SLOW_MOVES]


def _exact(read: Sequence[Fact]) -> Iterator[tuple[Fact, float]]:
    """(fact, its value) of the facts without a range of their own, but for counts: these cannot be moved by a per
    cent."""
    for fact in read:
        value = float(fact.value or 0.0)
        is_count = fact.unit == "" and value == round(value)
        if (fact.low == fact.high or is_fitted(fact)) and not is_count:
            yield fact, value
