"""Output of `nccl-tests` (all_reduce_perf and its neighbours) and of AWS's `nccom-test`.

Both print a line for each size: bytes, count, type, time in microseconds, algorithm and bus bandwidth in GB/s (10^9).
Formats: nccl-tests' src/common.cu and doc/PERFORMANCE.md; the NCCOM-TEST user guide of the Neuron documentation.
"""

from __future__ import annotations

import re

from mowich.errors import UserError
from mowich.evidence.readers.record import FileFormat, Reading, cell, log_figure, log_lines, not_of_format, read_each
from mowich.evidence.row_checks import RefusedError

_TESTS = {
    "all_reduce_perf": "all-reduce",
    "all_gather_perf": "all-gather",
    "reduce_scatter_perf": "reduce-scatter",
    "alltoall_perf": "all-to-all",
    "broadcast_perf": "broadcast",
    "sendrecv_perf": "permute",
}
"""Program of nccl-tests -> what it measures."""
_COMMANDS = {
    "allr": "all-reduce",
    "all_reduce": "all-reduce",
    "allg": "all-gather",
    "all_gather": "all-gather",
    "redsct": "reduce-scatter",
    "reduce_scatter": "reduce-scatter",
    "alltoall": "all-to-all",
    "permute": "permute",
}
"""Word of nccom-test's command line -> what it measures."""

_PREFIX = re.compile(r"^\s*(?:\d+:\s+|\[[\d,]+\]<std\w+>:\s*)?")
"""Prefix that launchers of several processes put before a line."""


def _looks_nccl(text: str) -> bool:
    return bool(re.search(r"^[^\n]*#\s+size\s+count\s+type\b.*\balgbw\b", text, re.MULTILINE))


def _looks_nccom(text: str) -> bool:
    return bool(re.search(r"size\(B\)\s+count\(elems\)\s+type\s+time\S*\(us\)", text))


def _table(file: str, text: str, header: re.Pattern[str], common: dict[str, str], name: str) -> Reading:
    """The lines below a header of named columns. Of two times or bandwidths of one name the first counts: the
    out-of-place one."""
    columns: list[str] = []
    found: list[tuple[str, tuple[list[str], list[str]]]] = []
    for number, line in log_lines(text):
        where, bare = f"{file}:{number}", _PREFIX.sub("", line).strip()
        if header.match(bare):
            columns = [_plain(word) for word in bare.lstrip("#").split()]
            if "time" not in columns or "size" not in columns:
                raise UserError("a header without size and time", where=where, given=bare)
        elif columns and re.match(r"\d+\s+\d+\s", bare):
            found.append((where, (columns, bare.split())))
    if not found:
        raise not_of_format(name, file, "a header with size, time, algbw and busbw, and lines of numbers below it")
    return read_each(file, name, "collective", found, lambda line, where: {**common, **_line_cells(line, where)})


def _line_cells(line: tuple[list[str], list[str]], where: str) -> dict[str, str]:
    """The cells of one size. line: the columns of the header, and the words below it."""
    columns, words = line
    if len(words) < len(columns):
        raise RefusedError(f"{len(words)} columns below a header of {len(columns)}")
    at = dict(zip(reversed(columns), reversed(words[: len(columns)]), strict=True))  # the first of a name stays
    size, time_us = log_figure(at["size"], where, "the size"), log_figure(at["time"], where, "the time")
    if size <= 0 or time_us <= 0:
        raise RefusedError(f"size {at['size']} and time {at['time']}: nothing to time")
    return {
        "bytes": cell(size),
        "time_us": cell(time_us),
        "algbw_GBps": _checked(at.get("algbw", ""), where, "the algorithm bandwidth"),
        "busbw_GBps": _checked(at.get("busbw", ""), where, "the bus bandwidth"),
        "wrong": _checked(at.get("#wrong", "0"), where, "the count of wrong values") or "0",
    }


def _checked(word: str, where: str, what: str) -> str:
    """A number as it is printed; "" where the program printed none."""
    if word in ("", "N/A"):
        return ""
    log_figure(word, where, what)
    return word.replace(",", "")


def _plain(word: str) -> str:
    """ "time:avg(us)" -> "time"."""
    return word if word.startswith("#") else re.match(r"[a-z]*", word)[0]  # type: ignore[index]


def read_nccl(file: str, text: str) -> Reading:
    """Every size of a run. The list of devices gives the ranks; the name of the program gives the collective."""
    ranks = {m[1] for _, line in log_lines(text) if (m := re.search(r"#\s+Rank\s+(\d+)\s", line))}
    program = next((kind for word, kind in _TESTS.items() if re.search(rf"\b{word}\b", text)), "")
    common = {"kind": program, "ranks": str(len(ranks)) if ranks else ""}
    return _table(file, text, re.compile(r"#\s+size\s+count\s+type\b"), common, "nccl-tests")


def read_nccom(file: str, text: str) -> Reading:
    """Every size of a run. The command, where the log shows it, gives the ranks and the collective."""
    command = next((line for _, line in log_lines(text) if re.search(r"\bnccom-test\s", line)), "")
    ranks = re.search(r"(?:-r|--nworkers)[ =](\d+)", command)
    kind = next((k for word, k in _COMMANDS.items() if re.search(rf"\s{word}(?:\s|$)", command)), "")
    common = {"kind": kind, "ranks": ranks[1] if ranks else ""}
    return _table(file, text, re.compile(r"size\(B\)\s+count\(elems\)"), common, "nccom-test")


NCCL = FileFormat(name="nccl-tests", says="output of all_reduce_perf and the like", looks=_looks_nccl, read=read_nccl)
NCCOM = FileFormat(name="nccom-test", says="output of nccom-test", looks=_looks_nccom, read=read_nccom)
