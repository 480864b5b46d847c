"""The page of a check of kernels: what the compiler would refuse, line by line."""

from __future__ import annotations

from mowich.show.page import Page, Run, Table, word_columns
from mowich.shown import Result


def check_page(result: Result, run: Run) -> Page:
    """Findings of a check, in the order of the lines."""
    found = result["findings"]
    count = len(found)
    said = f"{count} finding{'s' * (count != 1)}" if count else "Nothing found"
    rows = [[f"{f['file']}:{f['line']}", f["what"], f["fix"], f["rule"]] for f in found]
    parsing = len(result.get("parsing_front_end", ()))
    older = f"NKI 0.6 and before, which parse a kernel, refuse {parsing} more place{'s' * (parsing != 1)}: --nki 0.6."
    return Page(
        title=f"Check of {result['file']}",
        sentences=(
            f"{said} in {len(result['kernels'])} kernels, {result['functions']} functions.",
            *((older,) if parsing else ()),
        ),
        assumptions=[
            ("NKI", result["nki"] or "what every compiler refuses, parsing (0.6) or tracing (0.7)"),
            ("kernels", ", ".join(result["kernels"]) or "none under nki.jit"),
        ],
        parts=(Table(title="Findings", columns=word_columns(["line", "what", "instead", "rule"]), rows=rows),),
        records=found,
        inputs=result.get("inputs", {}),
    )
