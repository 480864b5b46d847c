"""Runs what the documents tell a reader to run, and keeps the output that they show true.

`run_document` executes the fenced blocks of one Markdown file in order, in an empty directory: a block whose info
string names a file (```yaml my-facts/chips/acme1.yaml) writes that file, `console` and `bash` blocks run their lines
that begin with `mowich`, `python` blocks run as they stand. A line may end in `# exit 2` where another code than 0 is
right. `<!-- output -->` before a ```text block means "what the last command printed"; `from "A" to "B"` keeps the lines
from the first that holds A to the next that holds B, `before "B"` leaves that line out. That holds for every page.

In a table of docs/theory/facts.md, the cell after the path of a fact is the fact as it is written in its file (`renew_facts`).

`make docs` writes output and values back; tests/house/test_docs.py fails when a command fails or what is shown has
changed.

`PAGES` are all pages; those of `DOCUMENTS` can be followed in an empty directory, the others beside the `scenarios`,
`kernels` and `examples` of a checkout; `page_commands` finds what each tells a reader to type: lines of shell blocks (console, bash,
no language, indented) that begin with a program. In a block that has `$ ` prompts only those lines are commands.
`tests/house/commands_not_run.yaml` lists those that no test runs, each with its reason.
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

import yaml

from mowich import cli
from mowich.facts import load_facts

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "read" / "tutorial.md")
PAGES = tuple(
    sorted(
        [
            *ROOT.glob("*.md"),
            *(ROOT / "docs").rglob("*.md"),
            ROOT / "benchmarks" / "README.md",
            ROOT / "tools" / "README.md",
            ROOT / "tests" / "conformance" / "README.md",
        ]
    )
)
NOT_RUN = ROOT / "tests" / "house" / "commands_not_run.yaml"
PROGRAMS = (
    "mowich",
    "make",
    "python",
    "python3",
    "pip",
    "uv",
    "pipx",
    "duckdb",
    "ray",
    "git",
    "docker",
    "npm",
    "npx",
    "curl",
    "jupyter",
)
SHELL = ("", "console", "bash", "sh", "shell")
FACTS_PAGE = ROOT / "docs" / "theory" / "facts.md"

FENCE = re.compile(r"^```(\w+)?[ ]*(\S+)?[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OUTPUT = re.compile(r'<!-- output(?: from "(?P<start>[^"]*)")?(?: (?P<kind>to|before) "(?P<end>[^"]*)")? -->\n\Z')
FACT_ROW = re.compile(r"^\| `(\w+(?:\.[\w-]+)+)` \|[^|\n]*\|", re.MULTILINE)
EXIT = re.compile(r"#\s*exit (\d+)\s*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """One command: the line as written, the exit code that the document states, the code it gave, and what it
    printed."""

    line: str
    expected: int
    code: int
    stdout: str
    stderr: str


def commands(block: str) -> Iterator[tuple[list[str], int, str]]:
    """(words, stated exit code, line) of each `mowich` line of a block; a backslash continues a line, `$ ` may precede
    it."""
    for line in re.sub(r"\\\n\s*", "", block).splitlines():
        text = line.removeprefix("$ ")
        if text.startswith("mowich "):
            stated = EXIT.search(text)
            yield shlex.split(text, comments=True)[1:], int(stated[1]) if stated else 0, text


def shell_lines(block: str) -> Iterator[str]:
    """Commands of a shell block, each on one line: `a && b` are two, comments and prompts are left out but for the
    stated exit code."""
    lines = re.sub(r"\\\n\s*", "", block).splitlines()
    prompted = any(line.startswith("$ ") for line in lines)
    for line in lines:
        if prompted and not line.startswith("$ "):
            continue
        text = line.removeprefix("$ ").strip()
        if text.split(" ")[0] in PROGRAMS:
            parts = text.split(" && ")
            yield from (part if part.split(" ")[0] in PROGRAMS else text for part in parts)


def page_commands(path: Path) -> list[str]:
    """Everything that a page tells a reader to type, in order."""
    text = path.read_text(encoding="utf-8")
    out: list[str] = []
    for block in FENCE.finditer(text):
        if (block[1] or "") in SHELL:
            out += shell_lines(block[3])
    for block in re.findall(r"(?:(?<=\n\n)|\A)((?: {4}[^\n]*\n)+)", FENCE.sub("", text)):
        out += shell_lines(re.sub(r"(?m)^ {4}", "", block))
    return out


def has_code(path: Path) -> bool:
    """Whether a page has anything to run."""
    languages = {block[1] for block in FENCE.finditer(path.read_text(encoding="utf-8"))}
    return bool(page_commands(path)) or "python" in languages


def not_run() -> dict[str, str]:
    """Command, or what it begins with -> why no test runs it."""
    data = yaml.safe_load(NOT_RUN.read_text(encoding="utf-8"))
    return {str(prefix): str(reason) for reason, prefixes in data.items() for prefix in prefixes}


def is_left_out(line: str) -> bool:
    """Whether a command is listed as not run."""
    bare = line.split(" #")[0].strip()
    return any(
        bare == prefix or bare.startswith(prefix.rstrip("*"))
        for prefix in not_run()
        if prefix.endswith("*") or bare == prefix
    )


def call(words: list[str]) -> tuple[int, str, str]:
    """Run one command line in this process -> (exit code, stdout, stderr)."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.run(words)
    return code, out.buffer.getvalue().decode(), err.buffer.getvalue().decode()  # type: ignore[attr-defined]


def excerpt(text: str, start: str | None, end: str | None, *, with_end: bool = True) -> str:
    """Lines from the first that holds `start` to the next that holds `end`, that one kept or (with what is empty before
    it) not. Raises ValueError when there is none."""
    lines = [line.rstrip() for line in text.rstrip().splitlines()]
    first = 0 if start is None else next((i for i, line in enumerate(lines) if start in line), -1)
    last = (
        len(lines) - 1 if end is None else next((i for i, line in enumerate(lines) if i >= first and end in line), -1)
    )
    if first < 0 or last < 0:
        raise ValueError(f"the output has no line with {start!r} .. {end!r}")
    return "\n".join(lines[first : last + with_end]).rstrip() + "\n"


def run_document(path: Path, folder: Path) -> tuple[list[Ran], str]:
    """Execute a document in `folder` -> (its commands, its text with every shown output renewed)."""
    text = path.read_text(encoding="utf-8")
    ran: list[Ran] = []
    renewed: list[str] = []
    names: dict[str, object] = {"__name__": "__main__"}  # blocks of a page follow each other
    at = 0
    back, kept = Path.cwd(), os.environ.get("MOWICH_CACHE")
    os.environ["MOWICH_CACHE"] = str(folder / ".kept")  # the last result of this page, and of nobody else
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    loaded = set(sys.modules)
    try:
        for block in FENCE.finditer(text):
            language, name, body = block[1] or "", block[2] or "", block[3]
            before = text[at : block.start()]
            renewed.append(before)
            at = block.end()
            shown = OUTPUT.search(before)
            if shown and language == "text":
                if ran and ran[-1].code == ran[-1].expected:
                    body = excerpt(
                        ran[-1].stdout or ran[-1].stderr,
                        shown["start"],
                        shown["end"],
                        with_end=shown["kind"] != "before",
                    )
                renewed.append(f"```text\n{body}```")
                continue
            renewed.append(block[0])
            if name:
                file = folder / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(body, encoding="utf-8")
            elif language in SHELL:
                for words, expected, line in commands("\n".join(shell_lines(body))):
                    if is_left_out(line):
                        continue
                    code, out, err = call(words)
                    ran.append(Ran(line=line, expected=expected, code=code, stdout=out, stderr=err))
            elif language == "python":
                printed = io.StringIO()
                with contextlib.redirect_stdout(printed):
                    exec(compile(body, f"{path.name}, python block", "exec"), names)
                ran.append(Ran(line="python", expected=0, code=0, stdout=printed.getvalue(), stderr=""))
    finally:
        os.environ.pop("MOWICH_CACHE")
        os.environ |= {} if kept is None else {"MOWICH_CACHE": kept}
        os.chdir(back)
        sys.path.remove(str(folder))
        for name in set(sys.modules) - loaded:  # the page's own files, gone with its folder
            if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]
    return ran, "".join(renewed) + text[at:]


def follow(path: Path, folder: Path) -> tuple[list[Ran], str]:
    """`run_document`, with the scenarios, kernels and examples of the checkout in the folder where the page expects them."""
    for name in () if path in DOCUMENTS else ("scenarios", "kernels", "examples"):
        (folder / name).symlink_to(ROOT / name)
    return run_document(path, folder)


def shows_output(path: Path) -> bool:
    """Whether a page shows what its commands print."""
    return re.search(r"^<!-- output[^\n]*-->\n```text$", path.read_text(encoding="utf-8"), re.MULTILINE) is not None


def renew_facts(text: str) -> str:
    """A page with the value of every fact in its tables renewed: | `path` | value (range) | ... |. Raises UserError for
    an unknown path."""
    facts = load_facts()
    return FACT_ROW.sub(lambda row: f"| `{row[1]}` | {facts.fact(row[1]).as_written} |", text)


def main() -> int:
    """Renew the values of docs/theory/facts.md and the shown output of every document; 1 when a command did not end as
    stated."""
    failed = 0
    FACTS_PAGE.write_text(renew_facts(FACTS_PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    for path in (*DOCUMENTS, *(p for p in PAGES if p not in DOCUMENTS and shows_output(p))):
        with tempfile.TemporaryDirectory() as folder:
            ran, text = follow(path, Path(folder).resolve())
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
