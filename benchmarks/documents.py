"""Runs what the documents tell a reader to run, and keeps the output that they show true.

`run_document` executes the fenced blocks of one Markdown file in order, in an empty directory: a block whose info string names a file
(```yaml my-facts/chips/acme1.yaml) writes that file, `console` and `bash` blocks run their lines that begin with `mowich`, `python` blocks run as
they stand. A line may end in `# exit 2` where another code than 0 is right. `<!-- output -->` before a ```text block means "what the last command
printed"; `from "A" to "B"` keeps the lines from the first that holds A to the next that holds B.

In a table of docs/facts.md, the cell after the path of a fact is the fact as it is written in its file (`renew_facts`).

`make docs` writes output and values back; tests/unit/test_docs.py fails when a command fails or what is shown has changed.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mowich import cli
from mowich.facts import load

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "tutorial.md")
FACTS_PAGE = ROOT / "docs" / "facts.md"

FENCE = re.compile(r"^```(\w+)?[ ]*(\S+)?[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OUTPUT = re.compile(r'<!-- output(?: from "(?P<start>[^"]*)")?(?: to "(?P<end>[^"]*)")? -->\n\Z')
FACT_ROW = re.compile(r"^\| `(\w+(?:\.[\w-]+)+)` \|[^|\n]*\|", re.MULTILINE)
EXIT = re.compile(r"#\s*exit (\d+)\s*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """One command: the line as written, the exit code that the document states, the code it gave, and what it printed."""

    line: str
    expected: int
    code: int
    stdout: str
    stderr: str


def commands(block: str) -> Iterator[tuple[list[str], int, str]]:
    """(words, stated exit code, line) of each `mowich` line of a block; a backslash continues a line, `$ ` may precede it."""
    for line in re.sub(r"\\\n\s*", "", block).splitlines():
        text = line.removeprefix("$ ")
        if text.startswith("mowich "):
            stated = EXIT.search(text)
            yield shlex.split(text, comments=True)[1:], int(stated[1]) if stated else 0, text


def call(words: list[str]) -> tuple[int, str, str]:
    """Run one command line in this process -> (exit code, stdout, stderr)."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.run(words)
    return code, out.buffer.getvalue().decode(), err.buffer.getvalue().decode()  # type: ignore[attr-defined]


def excerpt(text: str, start: str | None, end: str | None) -> str:
    """Lines from the first that holds `start` to the next that holds `end`, both kept. Raises ValueError when there is none."""
    lines = [line.rstrip() for line in text.rstrip().splitlines()]
    first = 0 if start is None else next((i for i, line in enumerate(lines) if start in line), -1)
    last = (
        len(lines) - 1 if end is None else next((i for i, line in enumerate(lines) if i >= first and end in line), -1)
    )
    if first < 0 or last < 0:
        raise ValueError(f"the output has no line with {start!r} .. {end!r}")
    return "\n".join(lines[first : last + 1]) + "\n"


def run_document(path: Path, folder: Path) -> tuple[list[Ran], str]:
    """Execute a document in `folder` -> (its commands, its text with every shown output renewed)."""
    text = path.read_text(encoding="utf-8")
    ran: list[Ran] = []
    renewed: list[str] = []
    at = 0
    back = Path.cwd()
    os.chdir(folder)
    try:
        for block in FENCE.finditer(text):
            language, name, body = block[1] or "", block[2] or "", block[3]
            before = text[at : block.start()]
            renewed.append(before)
            at = block.end()
            shown = OUTPUT.search(before)
            if shown and language == "text":
                if ran and ran[-1].code == ran[-1].expected:
                    body = excerpt(ran[-1].stdout or ran[-1].stderr, shown["start"], shown["end"])
                renewed.append(f"```text\n{body}```")
                continue
            renewed.append(block[0])
            if name:
                file = folder / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(body, encoding="utf-8")
            elif language in ("console", "bash"):
                for words, expected, line in commands(body):
                    code, out, err = call(words)
                    ran.append(Ran(line=line, expected=expected, code=code, stdout=out, stderr=err))
            elif language == "python":
                printed = io.StringIO()
                with contextlib.redirect_stdout(printed):
                    exec(compile(body, f"{path.name}, python block", "exec"), {"__name__": "__main__"})
                ran.append(Ran(line="python", expected=0, code=0, stdout=printed.getvalue(), stderr=""))
    finally:
        os.chdir(back)
    return ran, "".join(renewed) + text[at:]


def renew_facts(text: str) -> str:
    """A page with the value of every fact in its tables renewed: | `path` | value (range) | ... |. Raises UserError for an unknown path."""
    facts = load()
    return FACT_ROW.sub(lambda row: f"| `{row[1]}` | {facts.fact(row[1]).as_written} |", text)


def main() -> int:
    """Renew the values of docs/facts.md and the shown output of every document; 1 when a command did not end as stated."""
    failed = 0
    FACTS_PAGE.write_text(renew_facts(FACTS_PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    for path in DOCUMENTS:
        with tempfile.TemporaryDirectory() as folder:
            ran, text = run_document(path, Path(folder).resolve())
        for one in ran:
            if one.code != one.expected:
                failed = 1
                print(f"{path.name}: exit {one.code}, not {one.expected}: {one.line}\n{one.stderr}", file=sys.stderr)
        if not failed:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.name} ({len(ran)} commands)")
    return failed


if __name__ == "__main__":
    sys.exit(main())
