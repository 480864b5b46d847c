"""The page of tasks: operators to write faster kernels for."""

from __future__ import annotations

from collections import Counter

from mowich.show.page import NOTHING, Column, Page, Run, Table
from mowich.shown import Result


def tasks_page(result: Result, run: Run) -> Page:
    """A table of tasks."""
    rows = result["tasks"]
    counts = Counter(row["group"] for row in rows)
    said = ", ".join(f"{count} of {group}" for group, count in counts.items() if group != "example")
    if counts["example"]:
        said = ", ".join([*filter(None, [said]), f"{counts['example']} that ship as examples"])
    columns = [
        Column(name="name", right=False),
        Column(name="sizes", right=False, keep=2),
        Column(name="full sizes", right=False, keep=1),
        Column(name="what", right=False),
    ]
    return Page(
        title="Tasks",
        sentences=(
            f"{len(rows)} tasks can be judged.",
            f"They are {said}.",
            "mowich kernel tasks NAME prints one; mowich kernel judge --reference task:NAME judges others for it.",
        ),
        parts=(
            Table(
                title="tasks",
                columns=columns,
                rows=[[row["name"], row["sizes"] or NOTHING, row["full"] or NOTHING, row["what"]] for row in rows],
            ),
        ),
        records=[{k: v for k, v in row.items() if k != "text"} for row in rows],
    )
