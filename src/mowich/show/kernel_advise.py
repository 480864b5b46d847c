"""The page of the edits of a kernel that gain most."""

from __future__ import annotations

from mowich.show.formats import interval
from mowich.show.page import NOTHING, Column, Page, Run, Table, estimate_of, paragraphs, word_columns
from mowich.shown import Result
from mowich.units import show


def advise_page(result: Result, run: Run) -> Page:
    """Edits with their gain, a patch of each that is mechanical, and the bound of each kind."""
    edits, others = result["edits"], result["others"]
    return Page(
        title="Edits of a kernel",
        sentences=tuple(_sentences(result)),
        assumptions=[("kernel", f"{result['kernel']} of {result['file']}"), ("target", result["target"])],
        parts=(
            *([_offered(edits, "Edits")] if edits else []),
            *paragraphs(_risks(edits), "note"),
            _bounds(result["bounds"]),
            *([_looked_at(others)] if others else []),
        ),
        charts=[],
        records=[_record(e) for e in (*edits, *(others or []))],
    )


def patches_text(result: Result) -> str:
    """The edits that are mechanical as patches, for a terminal."""
    found = [(n, e["diff"]) for n, e in enumerate(result["edits"], 1) if e["diff"]]
    return "".join(f"\n# edit {n}\n{diff}" for n, diff in found)


def _sentences(result: Result) -> list[str]:
    edits, time = result["edits"], estimate_of(result["time_s"])
    out = [f"{result['kernel']} on {result['target']}: {interval(time, 1e6)} us."]
    if edits:
        first = edits[0]
        out.append(f"The edit that gains most: {_where(first)}, {first['what']}: {first['gain']:.1%} faster.")
    else:
        out.append(f"None of the {result['looked_at']} edits looked at is faster.")
    bound = next(b for b in result["bounds"] if b["kind"] == "all")
    out.append(f"No edits gain more than {bound['gain']:.0%} in all: what is left is {bound['by']}.")
    return out


def _where(edit: Result) -> str:
    """ "softmax.py:33", or several lines of a file."""
    lines = edit["lines"]
    file = lines[0]["file"].split("/")[-1]
    return f"{file}:{', '.join(str(x['line']) for x in lines)}"


def _offered(edits: list[Result], title: str) -> Table:
    return Table(
        title=title,
        columns=[
            Column(name="edit"),
            Column(name="line", right=False),
            Column(name="kind", right=False, keep=4),
            Column(name="what to do", right=False),
            Column(name="time"),
            Column(name="gain"),
            Column(name="time after/before", keep=3),
            Column(name="faster"),
            Column(name="run", right=False),
        ],
        rows=[
            [
                str(n),
                _where(e),
                e["kind"],
                e["what"],
                show(e["time_s"], "s"),
                f"{e['gain']:.1%}",
                interval(estimate_of(e["ratio"])),
                NOTHING if e["p_faster"] is None else f"{e['p_faster']:.0%}",
                _run(e),
            ]
            for n, e in enumerate(edits, 1)
        ],
        note="Faster: the probability of it. Run: the edited file, beside the kernel as it is.",
        elsewhere="--json or --csv",
    )


def _run(edit: Result) -> str:
    """ "right, 6.0% faster", "wrong", or why it was not run."""
    run = edit["run"]
    if run is None:
        return "not run" if edit["is_mechanical"] else "by hand"
    if run["gain"] is None or run["verdict"] != "right":
        return str(run["verdict"])
    return f"{run['verdict']}, {abs(run['gain']):.1%} {'faster' if run['gain'] >= 0 else 'slower'}"


def _risks(edits: list[Result]) -> list[str]:
    """What makes the range of an edit wide."""
    return [
        f"Edit {n}: {text.removeprefix('B: ')}."
        for n, e in enumerate(edits, 1)
        for text in e["risks"]
        if text.startswith("B: ")
    ]


def _bounds(bounds: list[Result]) -> Table:
    return Table(
        title="Most that edits of a kind can gain",
        columns=word_columns(["kind of edits", "gains at most", "because of"], left=["kind of edits", "because of"]),
        rows=[["all together" if b["kind"] == "all" else b["kind"], f"{b['gain']:.0%}", b["by"]] for b in bounds],
        elsewhere="--json",
    )


def _looked_at(others: list[Result]) -> Table:
    return Table(
        title="Looked at and not offered",
        columns=word_columns(["line", "kind", "what", "gain", "why not"], left=["line", "kind", "what", "why not"]),
        rows=[
            [_where(e), e["kind"], e["what"], NOTHING if e["gain"] is None else f"{e['gain']:.1%}", _why_not(e)]
            for e in others
        ],
        most=200,
        elsewhere="--json or --csv",
    )


def _why_not(edit: Result) -> str:
    if edit["why_not"]:
        return str(edit["why_not"])
    run = edit["run"]
    if run is not None and run["verdict"] != "right":
        return f"run: {run['verdict']}{': ' + run['why'] if run['why'] else ''}"
    return "no gain" if edit["gain"] <= 0 else "a larger gain is offered"


def _record(edit: Result) -> Result:
    """An edit as a row of a table."""
    run = edit["run"] or {}
    lines = ", ".join(f"{x['file']}:{x['line']}" for x in edit["lines"])
    left = {k: v for k, v in edit.items() if k not in ("lines", "ratio", "risks", "run", "diff")}
    ratio = edit["ratio"] or {}
    return {
        "lines": lines,
        **left,
        **{f"ratio_{k}": ratio.get(k) for k in ("value", "low", "high")},
        "run": run.get("verdict"),
        "run_time_s": run.get("time_s"),
    }
