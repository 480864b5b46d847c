"""Runs an adapter as a process of its tool's environment, and keeps what it answers.

`answers/TOOL.csv` has a line for each row and metric: id, metric, value, low, high, inside, or a reason. The first
lines, which begin with #, say which version answered, when, by which command, in how many seconds of CPU.
"""

from __future__ import annotations

import csv
import datetime
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.accuracy.rows import ROOT, Asked

ADAPTERS = Path(__file__).with_name("adapters")
ANSWERS = Path(__file__).with_name("answers")
COLUMNS = ("id", "metric", "value", "low", "high", "inside", "reason")


@dataclass(frozen=True, slots=True)
class Answer:
    """One figure. low, high: the ends of its range, where the tool states one; inside: whether the measurement lay in
    it, where the range itself is not kept."""

    value: float
    low: float | None = None
    high: float | None = None
    inside: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What a tool said. cpu_s: of all answers together; answers: row -> metric -> figure."""

    tool: str
    version: str
    date: str
    cpu_s: float
    answers: Mapping[str, Mapping[str, Answer]]
    reasons: Mapping[str, str] = field(default_factory=dict)

    @property
    def cpu_s_each(self) -> float | None:
        """Seconds of CPU a row that is answered."""
        return self.cpu_s / len(self.answers) if self.answers else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One adapter. file: adapters/ask_FILE.py; title: as the page names it; python: of its environment, "": of this
    process; folder: a checkout; is_ready: whether it can be asked here."""

    file: str
    title: str
    python: str = ""
    folder: str = ""
    is_ready: bool = True

    @property
    def command(self) -> list[str]:
        out = [self.python or sys.executable, str(ADAPTERS / f"ask_{self.file}.py")]
        return out + (["--dir", self.folder] if self.folder else [])


def ask(tool: Tool, rows: Sequence[Asked], truth: Path) -> Answered:
    """Run the adapter on the rows. Raises RuntimeError with the last line of what it said where it fails."""
    paths = os.pathsep.join(str(ROOT / name) for name in ("src", "tools", ".")) if not tool.python else ""
    done = subprocess.run(
        ["nice", *tool.command, "--truth", str(truth)],
        input=json.dumps([row.to_dict() for row in rows]),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
    )
    if done.returncode:
        raise RuntimeError(f"{tool.title}: {(done.stderr.strip() or 'no output').splitlines()[-1]}")
    (log := os.environ.get("PEERS_LOG")) and Path(log).write_text(done.stderr, encoding="utf-8")
    said = json.loads(done.stdout)
    return Answered(
        tool=tool.file,
        version=said["version"],
        date=datetime.date.today().isoformat(),
        cpu_s=said["cpu_s"],
        answers={row: {m: Answer(**one) for m, one in of.items()} for row, of in said["answers"].items()},
        reasons=said["reasons"],
    )


def text_of(found: Answered) -> str:
    """The file of kept answers."""
    out = io.StringIO()
    for name in ("version", "date"):
        out.write(f"# {name}: {getattr(found, name)}\n")
    out.write(f"# cpu_s: {found.cpu_s:.4g}\n")
    table = csv.writer(out, lineterminator="\n")
    table.writerow(COLUMNS)

    def cell(value: float | bool | None) -> str:
        return "" if value is None else str(int(value)) if isinstance(value, bool) else f"{value:.6g}"

    for row, of in sorted(found.answers.items()):
        for metric, one in sorted(of.items()):
            table.writerow((row, metric, *(cell(v) for v in (one.value, one.low, one.high, one.inside)), ""))
    for row, why in sorted(found.reasons.items()):
        table.writerow((row, "", "", "", "", "", why))
    return out.getvalue()


def keep(found: Answered) -> Path:
    """Write answers/TOOL.csv."""
    file = ANSWERS / f"{found.tool}.csv"
    file.write_text(text_of(found), encoding="utf-8")
    return file


def kept(tool: str, folder: Path = ANSWERS) -> Answered | None:
    """What was kept of a tool; None where nothing was."""
    file = folder / f"{tool}.csv"
    if not file.is_file():
        return None
    lines = file.read_text(encoding="utf-8").splitlines()
    head = dict(line[2:].split(": ", 1) for line in lines if line.startswith("# "))
    answers: dict[str, dict[str, Answer]] = {}
    reasons: dict[str, str] = {}
    for row in csv.DictReader(_body(lines)):
        if row["reason"]:
            reasons[row["id"]] = row["reason"]
            continue
        low, high = (float(row[end]) if row[end] else None for end in ("low", "high"))
        inside = bool(int(row["inside"])) if row["inside"] else None
        answers.setdefault(row["id"], {})[row["metric"]] = Answer(float(row["value"]), low, high, inside)
    return Answered(
        tool=tool,
        version=head["version"],
        date=head["date"],
        cpu_s=float(head["cpu_s"]),
        answers=answers,
        reasons=reasons,
    )


def _body(lines: Iterable[str]) -> list[str]:
    return [line for line in lines if not line.startswith("# ")]


def needs_of(tool: Tool) -> str:
    """What an adapter says must be installed or given, read from its file: it may not be importable here."""
    text = (ADAPTERS / f"ask_{tool.file}.py").read_text(encoding="utf-8")
    return text.split('\nNEEDS = "', 1)[1].split('"\n', 1)[0]
