"""The corpus: some 250 questions with the answers that are kept, so that a change shows every number and every line
that it moves.

    python tests/golden/corpus.py renew            write what is answered now            (make golden)
    python tests/golden/corpus.py diff             kept against what is answered now     (make golden-diff)
    python tests/golden/corpus.py diff --since REV kept at a commit against what is kept now
    python tests/golden/corpus.py diff --share 10  of a tenth of the questions that are not slow, chosen by hash;
                                                   --part 3: of another tenth
    python tests/golden/corpus.py time             seconds of each group, and of the slowest questions

questions.yaml and kernels.yaml ask; answers/GROUP.jsonl keeps one line for each question. Numbers are kept with 12
digits and compared at 1e-9 of the larger, those in a sentence, a table or CSV too. Words, and whole numbers in a text,
are compared as they stand, line by line. Left out: clock times, hashes of code and of facts, the version.

Outputs of kernels are kept as a hash of their bits. Where NumPy's own arithmetic has other bits than on the machine
that wrote the answers (another processor, another release), sums over the outputs are compared instead, at 1e-5.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import io
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ANSWERS = HERE / "answers"
KERNELS = "kernels"
"""The group of kernels, which are run through Python."""

TOLERANCE = 1e-9
"""Of the larger of two numbers."""
RESIDUE = 1e-12
"""Of the whole that the parts of a breakdown add up to."""
LOOSE = 1e-5
"""For sums over a kernel's outputs, on a machine whose arithmetic has other bits."""
LEFT_OUT = frozenset({"version", "facts_hash", "hash", "costs_hash", "digest", "seconds"})
"""Keys of JSON that hold no answer: versions, hashes, how long it took."""
CLOCK = re.compile(r"(\b(?:evaluated|the limits,|engine steps\)))\s+in\s+[0-9.e+-]+(?:\s+s\b|$)", re.MULTILINE)
"""How wide it is decides where a line breaks, so it may stand on two."""
BROKEN = re.compile(r"(\bin _ s)\n\s*s\b")
"""What stood on two lines, where each was read by itself."""
HASH = re.compile(r"\b[0-9a-f]{12}\b")
HEADLINES = (
    "step_s",
    "hand_tuned_step_s",
    "days",
    "usd_per_mtok",
    "J_per_token",
    "mfu",
    "goodput",
    "ttft_s",
    "tpot_s",
    "tokens_per_s_per_chip",
    "time_s",
    "objective",
    "total_ps",
    "median_abs_error",
)
"""What a line for CHANGELOG names first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """ask: the command line without "mowich", or "kernel FILE NAME ..." of the group of kernels; form: json, text,
    html, csv or kernel; is_slow: compared by `make test-slow`."""

    group: str
    ask: str
    form: str
    keep: str = ""
    is_slow: bool = False
    kernel: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.ask if self.form in ("json", "kernel") else f"{self.ask}  [{self.form}]"

    @property
    def first(self) -> str:
        """The command, the first of several."""
        return self.ask.split(" | ")[0].strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One field of one answer that is not what it was; None: not there."""

    question: str
    field: str
    old: Any
    new: Any

    @property
    def change(self) -> float:
        """new / old - 1; infinite where it is no number or began at zero."""
        a, b = self.old, self.new
        if not (is_number(a) and is_number(b)) or a == 0:
            return float("inf")
        return float(b) / float(a) - 1.0

    def line(self) -> str:
        """command, field, old, new, per cent."""
        percent = f"{self.change:+.2%}" if np.isfinite(self.change) else "-"
        return f"{percent:>10}  {self.question}\n{'':12}{self.field}: {shown(self.old)} -> {shown(self.new)}"


def is_number(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool)


def shown(x: Any) -> str:
    """A value as a reader wants it."""
    return "nothing" if x is None else f"{x:.6g}" if isinstance(x, float) else str(x) if is_number(x) else repr(x)


# questions
# ---------------------------------------------------------------------------------------------------------------


@cache
def questions() -> list[Question]:
    """All of them, in the order of the files."""
    found = []
    for group, entries in yaml.safe_load((HERE / "questions.yaml").read_text(encoding="utf-8")).items():
        for entry in entries:
            over: dict[str, list[Any]] = entry.get("for") or {}
            for values in itertools.product(*over.values()):
                ask = entry["ask"]
                for name, value in zip(over, values, strict=True):
                    ask = ask.replace("{" + name + "}", str(value))
                form, keep, is_slow = entry.get("form", "json"), entry.get("keep", ""), entry.get("slow", False)
                found.append(Question(group=group, ask=" ".join(ask.split()), form=form, keep=keep, is_slow=is_slow))
    for entry in yaml.safe_load((HERE / "kernels.yaml").read_text(encoding="utf-8")):
        more = "".join(f" {k}={v}" for k, v in (entry.get("inputs") or {}).items())
        grid = entry.get("grid")
        more += f" [{grid if isinstance(grid, int) else ', '.join(map(str, grid))}]" if grid else ""
        for target in entry.get("targets", ("trn1", "trn2", "trn3")):
            ask = f"kernel {entry['file']} {entry['kernel']}{more} --target {target}"
            found.append(Question(group=KERNELS, ask=ask, form="kernel", kernel={**entry, "target": target}))
    return found


def groups() -> list[str]:
    return list(dict.fromkeys(q.group for q in questions()))


@cache
def homes() -> dict[str, str]:
    """Command -> the group that asks it first: whoever goes through the questions by the home of their first command
    has each command run once, whatever its forms."""
    return {q.first: q.group for q in reversed(questions())}


# answers
# -----------------------------------------------------------------------------------------------------------------


def answer(question: Question) -> dict[str, Any]:
    """What is answered now, ready to be kept: {"answer": ...} and the exit code where it is not 0."""
    if question.form == "kernel":
        return {"answer": of_kernel(question.kernel)}
    *before, last = [part.strip() for part in question.ask.split(" | ")]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "result.json"
        for ask in before:
            file.write_text(ran(ask).result, encoding="utf-8")
        words = [str(file) if word == "-" else word for word in shlex.split(last)]
        if question.form == "html":
            page = Path(folder) / "page.html"
            code = ran(last).code
            file.write_text(ran(last).result, encoding="utf-8")
            said(["report", str(file), "--html", str(page), "-q"])
            kept: Any = Read.of(page.read_text(encoding="utf-8"))
        elif question.form == "json":
            code = ran(last).code
            kept = tidied(json.loads(ran(last).result))
            kept = of_validation(kept) if question.keep == "summary" else kept
        elif question.form == "csv":
            code, out = said([*words, "--csv", "-q"])
            kept = out.splitlines()
        else:
            code, out = said(words, notes=True) if before else (ran(last).code, ran(last).text)
            kept = [line.rstrip() for line in clean(out, folder).splitlines()]
    return {"answer": kept} if not code else {"exit": code, "answer": kept}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """One run of a command: its exit code, what a terminal shows of it with its notes ("" where no question asks for
    that), and its result as JSON."""

    code: int
    text: str = ""
    result: str = ""


@cache
def ran(ask: str) -> Ran:
    """A command run once for all questions that ask it, and for all that begin with it: where one of them wants the
    text, its result is the one that the same run keeps for `mowich explain last`."""
    from mowich.kept import CACHE_VARIABLE

    words = shlex.split(ask)
    forms = {q.form if q.ask == ask else "json" for q in questions() if q.first == ask} or {"json"}
    if "text" not in forms:
        code, out = said([*words, "--json", "-q"])
        return Ran(code=code, result=out)
    with tempfile.TemporaryDirectory() as folder, set_variable(CACHE_VARIABLE, folder):
        code, text = said(words, notes=True)
        kept = Path(folder) / "last.json"
        result = kept.read_text(encoding="utf-8") if kept.is_file() else ""
    if forms != {"text"} and not result:  # a verb of which nothing is kept
        result = said([*words, "--json", "-q"])[1]
    return Ran(code=code, text=text, result=result)


@contextlib.contextmanager
def set_variable(name: str, value: str) -> Iterator[None]:
    """A variable of the environment, until the end of the block."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
        os.environ |= {} if before is None else {name: before}


def said(words: list[str], *, notes: bool = False) -> tuple[int, str]:
    """(exit code, what one command line prints), in this process and from the root of the project; notes: with what
    goes to stderr.

    A command that prints nothing but an error, where notes were not asked for, is a mistake in questions.yaml.
    """
    from mowich.cli import run

    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(ROOT), contextlib.redirect_stdout(out), contextlib.redirect_stderr(out if notes else err):
        code = run(words)
    if code == 70 or (code and not out.getvalue()):
        raise RuntimeError(f"mowich {shlex.join(words)}: {err.getvalue() or out.getvalue()}")
    return code, out.getvalue()


def clean(line: str, folder: str = "") -> str:
    """Without clock times, hashes and places on this machine."""
    for place in filter(None, (folder, str(ROOT))):
        line = line.replace(f"{place}/", "")
    return HASH.sub("(hash)", CLOCK.sub(r"\1 in _ s", line)).rstrip()


def rounded(x: float) -> float:
    """A number of 12 digits."""
    return float(f"{x:.12g}")


def tidied(value: Any) -> Any:
    """JSON with numbers of 12 digits, without what is no answer."""
    if isinstance(value, dict):
        return {k: tidied(SHORT[k](v) if k in SHORT else v) for k, v in value.items() if k not in LEFT_OUT}
    if isinstance(value, list):
        return [tidied(v) for v in value]
    if isinstance(value, float):
        return rounded(value)
    return clean(value) if isinstance(value, str) else value


def ends(front: list[Any]) -> Any:
    """Of the many points of a Pareto front the first and the last, and how many there are."""
    return {"points": len(front), "first": front[0], "last": front[-1]} if front else front


def by_file(paths: list[str]) -> dict[str, str]:
    """Of the many facts that an answer read, how many there are of each file, and 6 digits of a hash of their names."""
    files: dict[str, list[str]] = {}
    for path in paths:
        files.setdefault(".".join(path.split(".")[:2]), []).append(path)
    return {k: f"{len(v)} {hashlib.sha256(' '.join(v).encode()).hexdigest()[:6]}" for k, v in files.items()}


SHORT: Mapping[str, Callable[[list[Any]], Any]] = {"front": ends, "facts_read": by_file}
"""Long lists in JSON, which are kept short."""


def of_validation(found: dict[str, Any]) -> dict[str, Any]:
    """The summaries by chip and source, and what each row is predicted."""
    rows = {row["id"]: row["predicted"] if row["status"] == "ok" else row["status"] for row in found.pop("rows")}
    return {**found, "predicted": rows}


class Read(HTMLParser):
    """Headline, warnings and tables of a report: one line each, cells set apart by " | "."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.text: list[str] | None = None
        self.cells: list[str] | None = None
        self.until = ""

    @classmethod
    def of(cls, page: str) -> list[str]:
        read = cls()
        read.feed(page)
        return [clean(line) for line in read.lines]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        kind = dict(attrs).get("class") or ""
        if tag == "tr":
            self.cells = []
        elif tag in ("td", "th") and self.cells is not None:
            self.text = []
        elif tag in ("h1", "h2") or (tag == "p" and kind.split(" ")[0] in ("headline", "beneath", "warning")):
            self.text, self.until = [], tag

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th") and self.cells is not None and self.text is not None:
            self.cells.append(" ".join("".join(self.text).split()))
            self.text = None
        elif tag == "tr" and self.cells is not None:
            self.lines.append(" | ".join(self.cells))
            self.cells = None
        elif self.until and tag == self.until and self.text is not None:
            self.lines.append(" ".join("".join(self.text).split()))
            self.text, self.until = None, ""

    def handle_data(self, data: str) -> None:
        if self.text is not None:
            self.text.append(data)


# kernels
# -----------------------------------------------------------------------------------------------------------------

_modules: dict[str, ModuleType] = {}


def module_of(file: str) -> ModuleType:
    """A file of kernels, imported once."""
    if file not in _modules:
        import mowich.nki

        place = ROOT / file
        spec = importlib.util.spec_from_file_location(f"golden_{place.stem}", place)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        with mowich.nki.installed():
            spec.loader.exec_module(module)
        _modules[file] = module
    return _modules[file]


def of_kernel(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Picoseconds in all and of each engine, bytes moved, and the outputs of one kernel on one target."""
    import mowich
    from mowich.nki import installed

    module = module_of(entry["file"])
    kernel = getattr(module, entry["kernel"])
    grid = entry.get("grid")
    given: Any = (
        module.inputs(**(entry.get("inputs") or {})) if hasattr(module, "inputs") else module.INPUTS[entry["kernel"]]()
    )
    arrays, named, ranks = (given, {}, 1) if isinstance(given, tuple) else ((), given, 1)
    if isinstance(given, list):  # arguments of each rank
        named, ranks = given[0], len(given)
    if grid is not None:
        kernel = kernel[grid if isinstance(grid, int) else tuple(grid)]
    with installed():
        found: Any = mowich.run_kernel(kernel, *arrays, target=entry["target"], ranks=ranks, **named)
    result = found[0] if isinstance(found, list) else found
    profile, time_s = result.profile, result.time_s
    return {
        "total_ps": profile.schedule.total,
        "low_s": rounded(time_s.low),
        "high_s": rounded(time_s.high),
        "instructions": len(profile),
        "busy_ps": {name: round(use.busy_s * 1e12, 3) for name, use in profile.engines.items()},
        "hbm_read_B": profile.hbm_B[0],
        "hbm_write_B": profile.hbm_B[1],
        "spill_B": profile.spill_B,
        "flop": profile.flop,
        "sbuf_peak_B": profile.sbuf_peak_B,
        "psum_peak_banks": profile.psum_peak_banks,
        "outputs": [of_output(np.asarray(x)) for x in result.outputs],
    }


def of_output(x: np.ndarray) -> dict[str, Any]:
    """Shape, type, a hash of the bits, and two sums: of the absolute values, and of those times 1, 2, ... 97, 1, 2,
    ..."""
    bits = np.ascontiguousarray(x)
    flat = np.abs(np.asarray(x, np.float64).reshape(-1))
    return {
        "shape": list(x.shape),
        "dtype": str(x.dtype),
        "bits": hashlib.sha256(bits.tobytes()).hexdigest()[:16],
        "absolute": rounded(flat.sum()),
        "weighted": rounded((flat * (1 + np.arange(len(flat)) % 97)).sum()),
    }


@cache
def is_other_arithmetic() -> bool:
    """Whether NumPy has other bits here than where the answers were written."""
    return bool(read(KERNELS)["arithmetic"]["answer"] != arithmetic())


def arithmetic() -> str:
    """A hash of the bits of what NumPy computes here: functions and products of float32 that kernels use."""
    x = np.random.default_rng(0).standard_normal((192, 192)).astype(np.float32)
    parts = [f(np.abs(x) + 0.1) for f in (np.exp, np.log, np.sqrt, np.tanh, np.sin, np.cos, np.reciprocal)]
    parts += [x @ x, x.sum(axis=1), np.square(x).mean(axis=0), np.float32(x @ x[:, :7])]
    return hashlib.sha256(b"".join(np.ascontiguousarray(p).tobytes() for p in parts)).hexdigest()[:16]


# kept answers
# ------------------------------------------------------------------------------------------------------------


def read(group: str, text: str | None = None) -> dict[str, dict[str, Any]]:
    """question -> what is kept of its answer."""
    if text is None:
        file = ANSWERS / f"{group}.jsonl"
        text = file.read_text(encoding="utf-8") if file.exists() else ""
    return {line.pop("question"): line for line in map(json.loads, text.splitlines())}


def write(group: str, found: Mapping[str, Mapping[str, Any]]) -> None:
    ANSWERS.mkdir(exist_ok=True)
    lines = [
        json.dumps({"question": name, **kept}, ensure_ascii=False, separators=(",", ":"))
        for name, kept in found.items()
    ]
    (ANSWERS / f"{group}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


Asked = Callable[[Question], bool]
"""Which questions of the corpus are asked."""


def every(question: Question) -> bool:
    """All of them."""
    return True


def one_in(share: int, part: int = 0) -> Asked:
    """One in `share` of the questions of each group that are not slow, and one at least, in the order of the hashes of
    their words, so the same ones on every machine. All parts together, 0 to share - 1, ask every question."""
    chosen: set[str] = set()
    for group in groups():
        names = [q.name for q in questions() if q.group == group and not q.is_slow]
        names.sort(key=lambda name: hashlib.sha256(name.encode()).digest())
        chosen.update(names[part % len(names) :: share])
    return lambda question: question.name in chosen


def answers(group: str, is_asked: Asked = every) -> dict[str, dict[str, Any]]:
    """What is answered now; the group of kernels says with which arithmetic."""
    found = {q.name: answer(q) for q in questions() if q.group == group and is_asked(q)}
    return {"arithmetic": {"answer": arithmetic()}, **found} if group == KERNELS else found


def moved(group: str, is_asked: Asked = every) -> list[Move]:
    """What is answered now, against what is kept."""
    left = {q.name for q in questions() if q.group == group and not is_asked(q)}
    kept = {name: found for name, found in read(group).items() if name not in left}
    return compared(kept, answers(group, is_asked))


# comparison
# --------------------------------------------------------------------------------------------------------------


def compared(old: Mapping[str, Mapping[str, Any]], new: Mapping[str, Mapping[str, Any]]) -> list[Move]:
    """All fields that moved, question by question."""
    old, new = dict(old), dict(new)
    other_bits = old.pop("arithmetic", None) != new.pop("arithmetic", None)
    moves = []
    for name in dict.fromkeys((*old, *new)):
        if name not in old or name not in new:
            moves.append(Move(question=name, field="question", old=name in old or None, new=name in new or None))
            continue
        moves += [m for m in _moves(name, "", old[name], new[name]) if not (other_bits and _is_rounding(m))]
    return moves


def _is_rounding(move: Move) -> bool:
    """Whether other bits of the machine's arithmetic explain it: the hash of an output, or its sums but for
    rounding."""
    last = move.field.rpartition(".")[2]
    return "outputs" in move.field and (
        last == "bits" or (last in ("absolute", "weighted") and abs(move.change) < LOOSE)
    )


def _moves(name: str, path: str, a: Any, b: Any, whole: float = 0.0) -> Iterator[Move]:
    """Fields below `path` that differ. whole: what the parts of a breakdown add up to; a part of a trillionth of it is
    a residue of rounding."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        total = max((abs(x["value"]) for x in (a, b) if is_number(x.get("value"))), default=0.0)
        for key in dict.fromkeys((*a, *b)):
            below = f"{path}.{key}".removeprefix(".").removeprefix("answer.")
            of = total if key == "breakdown" else 1.0 if key == "lost" else whole  # goodput loses shares of a time
            yield from _moves(name, below, a.get(key), b.get(key), of)
    elif isinstance(a, list) and isinstance(b, list):
        if all(isinstance(x, str) for x in (*a, *b)):
            yield from _lines(name, path, a, b)
            return
        keys_a, keys_b = _keys(a), _keys(b)
        mine, theirs = dict(zip(keys_a, a, strict=True)), dict(zip(keys_b, b, strict=True))
        for key in dict.fromkeys((*keys_a, *keys_b)):
            yield from _moves(name, f"{path}.{key}", mine.get(key), theirs.get(key), whole)
    elif not _same(a, b, whole):
        yield Move(question=name, field=path, old=a, new=b)


NUMBER = re.compile(r"(?<![\w.])((?<![^\s(\[,;:=|~$\"'])[+-])?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
"""In a text: "12.5" of "12.5 ms", "12.5ms" and "12.5,". Digits after letters belong to a word: "fp8", "trn3"."""
WIDTHS = re.compile(r"\s+|([─━═=_-])\1+")
"""What grows with the columns of a table."""


def _same_text(a: str, b: str, tolerance: float = TOLERANCE) -> bool:
    """Whether two texts differ by nothing but the last digits of their numbers and the widths of columns."""
    if a == b:
        return True
    words, numbers = zip(*((NUMBER.sub("#", x), [m.group() for m in NUMBER.finditer(x)]) for x in (a, b)), strict=True)
    return WIDTHS.sub(" ", words[0]) == WIDTHS.sub(" ", words[1]) and all(
        x == y or (not (x.isdigit() and y.isdigit()) and _near(float(x), float(y), tolerance))
        for x, y in zip(*numbers, strict=True)
    )


def _near(a: float, b: float, tolerance: float = TOLERANCE) -> bool:
    return a == b or abs(a - b) <= tolerance * max(abs(a), abs(b))


def whole_times(lines: list[str]) -> list[str]:
    """The lines, with no clock time on two of them."""
    text = "\n".join(lines)
    return BROKEN.sub(r"\1", text).split("\n") if BROKEN.search(text) else lines


def _lines(name: str, path: str, a: list[str], b: list[str]) -> Iterator[Move]:
    """Lines of a text that are gone, new or other."""
    from difflib import SequenceMatcher

    a, b = whole_times(a), whole_times(b)
    # a text of `kernel run` shows sums over outputs
    tolerance = LOOSE if name.startswith("kernel run ") and is_other_arithmetic() else TOLERANCE
    if len(a) == len(b) and all(_same_text(x, y, tolerance) for x, y in zip(a, b, strict=True)):
        return
    for what, i, j, k, m in SequenceMatcher(a=a, b=b, autojunk=False).get_opcodes():
        if what != "equal":
            for n, (old, new) in enumerate(itertools.zip_longest(a[i:j], b[k:m])):
                if old is None or new is None or not _same_text(old, new, tolerance):
                    line = f"{path}.line {i + n + 1}".removeprefix("answer.")
                    yield Move(question=name, field=line, old=old, new=new)


def _keys(items: list[Any]) -> list[str]:
    """What to call the items of a list: their own name where that tells them apart, else their places."""
    for keys in (("system",), ("id",), ("name",), ("strategy",), ("claim",), ("fact",), ("task", "system")):
        names = [
            ",".join(str(x[k]) for k in keys) if isinstance(x, Mapping) and all(k in x for k in keys) else ""
            for x in items
        ]
        if all(names) and len(set(names)) == len(names):
            return names
    return [str(i) for i in range(len(items))]


def _same(a: Any, b: Any, whole: float) -> bool:
    if is_number(a) and is_number(b):
        return _near(a, b) or abs(a - b) <= RESIDUE * whole
    return _same_text(a, b) if isinstance(a, str) and isinstance(b, str) else bool(a == b)


def changelog(moves: Iterable[Move]) -> list[str]:
    """One line for each command that moved: the most telling field, old, new, and how many more."""
    by: dict[str, list[Move]] = {}
    for move in moves:
        by.setdefault(move.question, []).append(move)
    lines = []
    for name, mine in by.items():
        told = min(mine, key=lambda m: (_rank(m.field), -abs(m.change) if np.isfinite(m.change) else 0.0))
        more = f", and {len(mine) - 1} more" if len(mine) > 1 else ""
        percent = f" ({told.change:+.1%})" if np.isfinite(told.change) else ""
        lines.append(f"- `mowich {name}`: {told.field} {shown(told.old)} -> {shown(told.new)}{percent}{more}.")
    return lines


def _rank(path: str) -> int:
    parts = path.split(".")
    return next((i for i, n in enumerate(HEADLINES) if parts[-1] == n or parts[-2:] == [n, "value"]), len(HEADLINES))


def report(moves: list[Move], most: int) -> str:
    """The moves by size, and the lines for CHANGELOG."""
    if not moves:
        return "nothing moved"
    ranked = sorted(
        moves, key=lambda m: (not np.isfinite(m.change), -abs(m.change), m.question, m.field)
    )  # numbers first
    text = [
        f"{len(moves)} fields of {len({m.question for m in moves})} answers moved",
        *(m.line() for m in ranked[:most]),
    ]
    if len(ranked) > most:
        text.append(f"... and {len(ranked) - most} more: --most {len(ranked)} shows all")
    return "\n".join([*text, "", 'For CHANGELOG.md, "Numbers that moved", each with its reason:', *changelog(moves)])


# commands
# ----------------------------------------------------------------------------------------------------------------


def kept_at(revision: str) -> dict[str, dict[str, dict[str, Any]]]:
    """group -> what was kept at a commit."""
    out = {}
    for group in groups():
        file = f"{revision}:{(ANSWERS / f'{group}.jsonl').relative_to(ROOT)}"
        found = subprocess.run(["git", "show", file], cwd=ROOT, capture_output=True, text=True, check=False)
        if found.returncode:
            raise SystemExit(f"error: --since {revision}: {found.stderr.strip()}")
        out[group] = read(group, found.stdout)
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description="The corpus of kept answers.")
    parser.add_argument("what", choices=("renew", "diff", "time"))
    parser.add_argument("--group", action="append", choices=groups(), help="these groups only; repeatable")
    parser.add_argument("--since", metavar="REV", help="diff: what was kept at a commit against what is kept now")
    parser.add_argument("--share", type=int, metavar="N", help="diff: one in N of the questions that are not slow")
    parser.add_argument("--part", type=int, default=0, metavar="K", help="diff: which of the N parts (default 0)")
    parser.add_argument("--most", type=int, default=200, metavar="N", help="diff: fields to print (default 200)")
    given = parser.parse_args()
    chosen = given.group or groups()
    start = time.process_time()
    if given.what == "time":
        spent = []
        for group in chosen:
            begun = time.process_time()
            for q in (q for q in questions() if q.group == group):
                one = time.process_time()
                answer(q)
                spent.append((time.process_time() - one, q.name))
            print(f"{time.process_time() - begun:6.2f} s  {group}")
        for seconds, name in sorted(spent, reverse=True)[:15]:
            print(f"{seconds:6.2f} s  {name}")
    elif given.what == "renew":
        for group in chosen:
            write(group, answers(group))
        for file in ANSWERS.glob("*.jsonl"):
            if file.stem not in groups():
                file.unlink()
        print(f"{len(questions())} answers kept, {time.process_time() - start:.0f} s of processor time")
    else:
        moves: list[Move] = []
        before = kept_at(given.since) if given.since else {}
        is_asked = one_in(given.share, given.part) if given.share else every
        for group in chosen:
            moves += compared(before[group], read(group)) if given.since else moved(group, is_asked)
        print(report(moves, given.most))
        return 5 if moves and not given.since else 0
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.exit(main())
