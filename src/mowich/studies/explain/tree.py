"""Names of the numbers of a result: `trn3.step_s.ep`, `1.goodput`, `ttft_s.p99`.

A name is a path through the JSON of a verb with three shortenings: the main list (rows, plans, claims) is left out, an
item of a list goes by what identifies it (system, id, strategy, ...) or by its number from 1, and the parts of an
estimate follow it directly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeGuard

from mowich.errors import UserError, did_you_mean
from mowich.shown import Result

ResultPath = tuple[str | int, ...]

MAIN = ("rows", "plans", "claims")
"""Lists whose name may be left out, in order of preference."""

IDENTITY = (
    "system",
    "id",
    "strategy",
    "system_id",
    "name",
    "task",
    "what",
    "constraint",
    "stack",
    "model",
    "property",
    "file",
)
"""Keys that name an item of a list, where they tell items apart."""

SKIPPED = ("inputs", "schema", "version", "facts_hash", "over_time", "stale", "timeline")


def is_estimate(node: object) -> TypeGuard[Result]:
    return isinstance(node, Mapping) and {"value", "unit", "low", "high"} <= node.keys()


def is_number(node: object) -> TypeGuard[float]:
    return isinstance(node, int | float) and not isinstance(node, bool)


def at(result: Result, path: ResultPath) -> Any:
    """The node at a path."""
    node: Any = result
    for step in path:
        node = node[step]
    return node


def labels(items: Sequence[object]) -> list[str]:
    """The name of each item of a list: its first identity that no other item has, else its number from 1."""
    count = Counter(
        (k, w) for item in items if isinstance(item, Mapping) for k in IDENTITY if isinstance(w := item.get(k), str)
    )
    return [_called(item, i, lambda key, word: count[key, word]) for i, item in enumerate(items)]


def item_label(items: Sequence[object], i: int) -> str:
    """The name of item i of a list; faster than `labels` for one item."""
    return _called(items[i], i, lambda key, word: sum(isinstance(o, Mapping) and o.get(key) == word for o in items))


def _called(item: object, i: int, count: Callable[[str, str], int]) -> str:
    identity = item if isinstance(item, Mapping) else {}
    for key in IDENTITY:
        word = identity.get(key)
        if isinstance(word, str) and count(key, word) == 1:
            return word
    return str(i + 1)


def name_of(result: Result, path: ResultPath) -> str:
    """The name of the number at a path."""
    words: list[str] = []
    node: Any = result
    for i, step in enumerate(path):
        left_out = i == 0 and step == main_list(result) and len(path) > 1
        if isinstance(step, int):
            words.append(item_label(node, step))
        elif not left_out and not (step == "breakdown" and is_estimate(node)):
            words.append(step)
        node = node[step]
    return ".".join(words)


def main_list(result: Result) -> str | None:
    return next((k for k in MAIN if isinstance(result.get(k), list)), None)


def numbers(result: Result, *, inputs: bool = False) -> Iterator[ResultPath]:
    """Paths of every number of a result in order; an estimate counts once, and so does each of its parts."""

    def walk(node: object, path: ResultPath) -> Iterator[ResultPath]:
        if is_estimate(node):
            yield path
            for part in node.get("breakdown") or {}:
                yield (*path, "breakdown", part)
        elif is_number(node):
            yield path
        elif isinstance(node, Mapping):
            for key, child in node.items():
                if path or key not in SKIPPED or (inputs and key == "inputs"):
                    yield from walk(child, (*path, key))
        elif isinstance(node, list):
            for i, child in enumerate(node):
                yield from walk(child, (*path, i))

    yield from walk(result, ())


def find_path(result: Result, name: str) -> ResultPath:
    """The path that a name stands for: of a number, an estimate, or an object that holds numbers. Raises UserError with
    the closest name."""
    starts = [()] if (main := main_list(result)) is None else [(main,), ()]
    best: tuple[int, ResultPath, str] = (-1, (), name)
    for start in starts:
        path: ResultPath = start
        node, rest = at(result, start), name
        while rest:
            step = _step(node, rest)
            if step is None:
                break
            used, more = step
            path, node = (*path, *more), at(node, more)
            rest = rest[used:].removeprefix(".")
        if not rest:
            return path
        if len(name) - len(rest) > best[0]:
            best = (len(name) - len(rest), path, rest)
    raise _unknown(result, name, best[1], best[2])


def _children(node: object) -> dict[str, ResultPath]:
    """Names one step below a node -> the path there."""
    out: dict[str, ResultPath] = {}
    if is_estimate(node):
        out |= {k: ("breakdown", k) for k in node.get("breakdown") or {}}
        out |= {k: (k,) for k in ("value", "low", "high", "breakdown") if k in node}
        out |= {"coverage": ("coverage",)} if node.get("coverage") else {}
    elif isinstance(node, Mapping):
        out |= {str(k): (k,) for k in node}
    elif isinstance(node, list):
        out |= {str(i + 1): (i,) for i in range(len(node))}
        for i, item in enumerate(node):
            if isinstance(item, Mapping):
                for key in IDENTITY:
                    if isinstance(item.get(key), str):
                        out.setdefault(item[key], (i,))
        out |= {word: (i,) for i, word in enumerate(labels(node))}
    return out


def _step(node: object, rest: str) -> tuple[int, ResultPath] | None:
    """(characters used, path) of the longest child name that `rest` begins with."""
    known = _children(node)
    for word in sorted(known, key=len, reverse=True):
        if rest == word or rest.startswith(word + "."):
            return len(word), known[word]
    return None


def _unknown(result: Result, name: str, path: ResultPath, rest: str) -> UserError:
    """The error for a wrong name; it lists the names at the place where the name went wrong."""
    node = at(result, path)
    known = [k for k, p in _children(node).items() if _holds_numbers(at(node, p))]
    if not path or path == (main_list(result),):
        known += [k for k, v in result.items() if k not in (*SKIPPED, main_list(result), *known) and _holds_numbers(v)]
    if not known:
        return UserError(
            f"{name[: -len(rest) - 1]} has no part '{rest}'", fix="mowich explain RESULT lists what there is"
        )
    word = rest.split(".")[0]
    shown = [k for k in known if not k.isdigit()] or known
    close = did_you_mean(word, shown) or did_you_mean(rest, shown)
    there = " of " + name[: -len(rest) - 1] if len(rest) < len(name) else ""
    return UserError(
        f"unknown metric '{word}'{there}", allowed=shown[:40], fix=close or "mowich explain RESULT lists all"
    )


def _holds_numbers(node: object) -> bool:
    if is_number(node) or is_estimate(node):
        return True
    children = node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ()
    return any(_holds_numbers(c) for c in children)


def flat_numbers(data: Result, below: ResultPath = ()) -> dict[ResultPath, float]:
    """Path -> value of every number of an object."""
    out: dict[ResultPath, float] = {}
    for path in numbers(data):
        node = at(data, path)
        value = node["value"] if is_estimate(node) else node
        if value is not None:
            out[(*below, *path)] = float(value)
    return out
