"""The page of what ships: scenarios, kernels and logs by name, with the command that runs each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mowich.examples import Shipped
from mowich.show.page import Column, Page, Run, Table, Words
from mowich.shown import Result


def example_answer(examples: Sequence[Shipped], copies: Sequence[Path], with_text: bool) -> Result:
    """The JSON: name, kind, file, what and command of each; text of the file where it is one; copies: files written."""
    rows = []
    for example in examples:
        row = {
            "name": example.name,
            "kind": example.kind.removesuffix("s"),
            "file": example.path.name,
            "what": example.what,
            "command": example.command,
        }
        rows.append({**row, "text": example.path.read_text(encoding="utf-8")} if with_text else row)
    return {"schema": "mowich/example@1", "examples": rows, "copies": [str(path) for path in copies]}


def example_page(result: Result, run: Run) -> Page:
    """A table of examples."""
    rows, copies = result["examples"], result["copies"]
    columns = [Column(name=name, right=False) for name in ("name", "kind", "command", "what")]
    return Page(
        title="Examples",
        sentences=(f"{len(copies)} files copied.",)
        if copies
        else (f"{len(rows)} examples ship.", "mowich example NAME prints one, with --copy DIR it copies it."),
        parts=(
            Table(title="examples", columns=columns, rows=[[row[c.name] for c in columns] for row in rows]),
            *(Words(text=path, kind="caption") for path in copies),
        ),
        records=[{k: v for k, v in row.items() if k != "text"} for row in rows],
    )
