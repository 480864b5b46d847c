"""The README of a bundle: what it is, what to do in which order, what is predicted and how it is checked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from mowich.launch.bundle import FORECAST, Bundle, BundleFile, Prediction
from mowich.units import show
from mowich.version import VERSION

_VARIABLE = re.compile(r'^: "\$\{(\w+):([=?])(.*)\}"$', re.MULTILINE)


def readme_text(bundle: Bundle, files: Sequence[BundleFile], pick: int) -> str:
    """The page, as Markdown. files: all others; pick: which row of the answer it runs, from 1."""
    parts = [
        [f"# {bundle.title}", "", f"Written by Mowich {VERSION} for `{bundle.program}`."],
        ["## What to do", "", *_steps(bundle)],
        _predicted(bundle.benchmark.predictions, pick),
        _variables(files),
        _notes(bundle),
        ["## Files", "", *(f"- `{file.path}`{f': {file.about}' if file.about else ''}" for file in files)],
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"


def next_steps(bundle: Bundle) -> list[tuple[str, str]]:
    """Commands in order, each with what it does."""
    out = list(bundle.benchmark.steps)
    if bundle.program.startswith("kubernetes"):
        out = [("kubectl apply -f kubernetes/", "all workers, in the place of the scripts"), *out]
    runs = [file for file in bundle.benchmark.files if file.is_script]
    out += [(file.path, file.about) for file in runs]
    if bundle.benchmark.predictions:
        out.append((f"mowich verify . {bundle.benchmark.log}", "measured beside predicted"))
    return [*out, *bundle.benchmark.after]


def _steps(bundle: Bundle) -> Iterator[str]:
    for number, (what, why) in enumerate(next_steps(bundle), 1):
        commands = ", ".join(f"`{one}`" for one in what.split(" or "))
        yield f"{number}. {commands}: {why}"


def _predicted(predictions: Sequence[Prediction], pick: int) -> list[str]:
    if not predictions:
        return []
    lines = ["## What is predicted", "", "| number | predicted | 90% range | grade |", "|--|--|--|--|"]
    for one in predictions:
        e = one.estimate
        ends = "" if e.low is None or e.high is None else f"{show(e.low, e.unit)} to {show(e.high, e.unit)}"
        lines.append(f"| {one.what} (`{one.name}`) | {show(e.value, e.unit)} | {ends} | {e.grade} |")
    example = f"mowich explain {FORECAST} {pick}.{predictions[0].name}"
    return [*lines, "", f"`{example}` says where a number comes from."]


def _variables(files: Sequence[BundleFile]) -> list[str]:
    """What scripts take from the environment."""
    found: dict[str, dict[str, list[str]]] = {}
    for file in files:
        for name, kind, value in _VARIABLE.findall(file.text) if file.is_script else ():
            said = f"`{value}`" if kind == "=" else f"you set it: {value}"
            found.setdefault(name, {}).setdefault(said, []).append(file.path)
    if not found:
        return []
    lines = ["## What scripts take from the environment", "", "| variable | where nobody sets it |", "|--|--|"]
    lines += [f"| `{name}` | {'; '.join(values)} |" for name, values in sorted(found.items())]
    return lines


def _notes(bundle: Bundle) -> list[str]:
    notes = [*bundle.notes, *bundle.benchmark.notes]
    return ["## What is left to you", "", *(f"- {note}" for note in notes)] if notes else []
