"""Where requests come from: public traces, read line by line in bounded memory, or distributions.

Traces: Azure LLM CSV (TIMESTAMP, ContextTokens, GeneratedTokens, and NumImages in that of multimodal models), processed
CSV (arrived_at, num_prefill_tokens, num_decode_tokens), BurstGPT CSV (Timestamp, Request tokens, Response tokens),
Mooncake JSONL (timestamp in ms, input_length, output_length, hash_ids), logs of vLLM benchmarks as JSONL (input_toks,
output_toks, arrival_time or queued_ts or arrival_time_ns; hash_ids where prompts share blocks). The format is told by
the first line; traces of sessions are read in `session_traces`.
Every complaint names file and line.
"""

from __future__ import annotations

import csv
import itertools
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import NormalDist
from typing import IO, NamedTuple, TypeGuard

import numpy as np

from mowich.errors import UserError
from mowich.files import open_lines
from mowich.serving.rate_curve import RateCurve
from mowich.serving.traffic.columns import RequestColumns, one_by_one
from mowich.serving.traffic.moments import earlier
from mowich.units import parse_count

TraceLines = Iterator[tuple[int, Mapping[str, object]]]
"""Lines of a trace as mappings, with their numbers."""


@dataclass(frozen=True, slots=True)
class TraceForm:
    """A form of trace: the columns for time, prompt and output, seconds per unit of time, the column of block hashes,
    whether lines may be out of order because they are a log by request (read whole and sorted), the column of
    images in a request."""

    name: str
    time: tuple[str, ...]
    prompt: str
    output: str
    unit_s: tuple[float, ...]
    hashes: str | None = None
    is_log: bool = False
    images: str | None = None


FORMS = (
    TraceForm("azure-multimodal", ("TIMESTAMP",), "ContextTokens", "GeneratedTokens", (1.0,), images="NumImages"),
    TraceForm("azure", ("TIMESTAMP",), "ContextTokens", "GeneratedTokens", (1.0,)),
    TraceForm("processed", ("arrived_at",), "num_prefill_tokens", "num_decode_tokens", (1.0,)),
    TraceForm("burstgpt", ("Timestamp",), "Request tokens", "Response tokens", (1.0,)),
    TraceForm("mooncake", ("timestamp",), "input_length", "output_length", (1e-3,), hashes="hash_ids"),
    TraceForm(
        "vllm-log",
        ("queued_ts", "arrival_time", "arrival_time_ns"),
        "input_toks",
        "output_toks",
        (1.0, 1.0, 1e-9),
        hashes="hash_ids",
        is_log=True,
    ),
)
"""In the order tried; the first whose columns the first line has."""

_NO_ID = object()
MOST_PLAIN = 1 << 53
"""Whole numbers below this are floats without a rounding."""

LOG_LIMIT = 1_000_000
"""Most lines of a log by request, which is sorted in memory."""


MAX_HEADER = 1_000_000
"""Characters of the first line of a trace."""


_CHUNK = 4096
"""Requests that are drawn or read at once."""


def read_trace_columns(path: Path, *, limit: int | None = None, speed: float = 1.0) -> Iterator[RequestColumns]:
    """Requests of a trace in order of arrival, times from 0 at the first one, `speed` times as fast as recorded;
    some thousands at a time.

    Raises UserError with file:line: a missing or empty file, unknown columns, a cell that is not a number, a length
    below 1 (an output of 0 counts as 1), times that go back.
    """
    with open_lines(path) as file:
        rows, form = _rows(file, path)
        found = (_sorted_log if form.is_log else _in_order)(rows, form, path, limit)
        start, count = math.nan, 0
        while lines := list(itertools.islice(found, _CHUNK)):
            if not count:
                start = lines[0].at_s
            yield _columns(lines, count, start, speed)
            count += len(lines)
        if not count:
            raise UserError("no requests after the header", where=f"{path}:1")


read_trace = one_by_one(read_trace_columns)
"""The requests of `read_trace_columns`, one by one."""


class _Line(NamedTuple):
    """A request as a line of a trace has it. id: None where it has none; images: how many it has."""

    at_s: float
    prompt: int
    output: int
    names: Sequence[int]
    id: str | None
    images: int = 0


def _columns(lines: Sequence[_Line], first: int, start_s: float, speed: float) -> RequestColumns:
    ats, prompts, outputs, names, ids, images = zip(*lines, strict=True)
    return RequestColumns(
        first=first,
        arrival_s=(np.array(ats) - start_s) / speed,
        prompt=np.array(prompts, np.int64),
        output=np.array(outputs, np.int64),
        priority=np.zeros(len(lines), np.int64),
        names_at=np.cumsum([0, *map(len, names)]),
        names=list(itertools.chain.from_iterable(names)),
        ids=[str(first + i) if name is None else name for i, name in enumerate(ids)]
        if any(name is not None for name in ids)
        else None,
        images=np.array(images, np.int64) if any(images) else None,
    )


def _in_order(rows: TraceLines, form: TraceForm, path: Path, limit: int | None) -> Iterator[_Line]:
    """The lines of a trace that is in order of time."""
    last = -math.inf
    for line, row in rows if limit is None else itertools.islice(rows, limit):
        one = _line(row, form, path, line)
        if one.at_s < last:
            raise UserError(
                "times go back", where=f"{path}:{line}", given=row[form.time[0]], fix="sort the trace by time"
            )
        last = one.at_s
        yield one


def _sorted_log(rows: TraceLines, form: TraceForm, path: Path, limit: int | None) -> Iterator[_Line]:
    """The lines of a log by request. One that has no name is called by where it stood."""
    out: list[_Line] = []
    for line, row in rows:
        one = _line(row, form, path, line)
        out.append(one if one.id is not None else one._replace(id=str(len(out))))
        if len(out) > LOG_LIMIT:
            raise UserError(
                f"a log of more than {LOG_LIMIT} requests cannot be sorted in memory",
                where=str(path),
                fix="write it as a trace in order of time",
            )
    out.sort(key=lambda one: one.at_s)
    return iter(out[:limit])


def _rows(file: IO[str], path: Path) -> tuple[TraceLines, TraceForm]:
    """(lines as mappings with their numbers, form)."""
    first = file.readline(MAX_HEADER)
    if len(first) == MAX_HEADER:
        raise UserError("the first line is too long", where=f"{path}:1", allowed=f"up to {MAX_HEADER} characters")
    if not first.strip():
        raise UserError("the trace is empty", where=f"{path}:1")
    if first.lstrip().startswith("{"):
        return json_lines(first, file, path), _form(list(json_line(first, path, 1)), path)
    return csv_lines(first, file, path), _form(next(csv.reader([first])), path)


def json_lines(first: str, rest: Iterator[str], path: Path) -> TraceLines:
    """The lines of a JSONL trace, with their numbers. Raises UserError where one is not one JSON object."""
    yield 1, json_line(first, path, 1)
    for number, text in enumerate(rest, start=2):
        if text.strip():
            yield number, json_line(text, path, number)


def csv_lines(first: str, rest: Iterator[str], path: Path) -> TraceLines:
    """The lines of a CSV trace after the first, which names the columns. Raises UserError where one has other cells."""
    columns = next(csv.reader([first]))
    width = len(columns)
    for number, row in enumerate(csv.reader(rest), start=2):
        if not row:
            continue
        if len(row) != width:
            raise UserError("wrong number of cells", where=f"{path}:{number}", given=len(row), allowed=str(width))
        yield number, dict(zip(columns, row, strict=True))


_DECODER = json.JSONDecoder()


def json_line(text: str, path: Path, line: int) -> Mapping[str, object]:
    """One line of a JSONL trace. Raises UserError where it is not one JSON object."""
    try:
        row, end = _DECODER.raw_decode(text)
        if text[end:].strip():
            row = json.loads(text)
    except (ValueError, RecursionError) as error:
        why = getattr(error, "msg", "nested too deep, or a number of too many digits")
        raise UserError(f"not JSON: {why}", where=f"{path}:{line}") from None
    if not isinstance(row, dict):
        raise UserError("a line is one JSON object", where=f"{path}:{line}", given=text[:40])
    return row


def _form(columns: list[str], path: Path) -> TraceForm:
    for form in FORMS:
        has_images = form.images is None or form.images in columns
        if has_images and form.prompt in columns and form.output in columns and any(c in columns for c in form.time):
            return form
    best = max(
        (f for f in FORMS if f.images is None),
        key=lambda f: sum(name in columns for name in (*f.time, f.prompt, f.output)),
    )
    needed = (best.time[0], best.prompt, best.output)
    missing = [name for name in needed if name not in columns]
    if len(missing) < len(needed):
        raise UserError(
            f"missing columns: {', '.join(missing)}", where=f"{path}:1", allowed=f"{best.name}: {', '.join(needed)}"
        )
    known = "; ".join(f"{f.name}: {f.time[0]}, {f.prompt}, {f.output}" for f in FORMS if f.images is None)
    raise UserError("not a trace that is known", where=f"{path}:1", given=", ".join(columns[:8]), allowed=known)


def _are_names(hashes: object) -> TypeGuard[Sequence[int]]:
    """Whether these can be names of blocks."""
    return isinstance(hashes, list | tuple) and not {list, dict} & set(map(type, hashes))


def _line(row: Mapping[str, object], form: TraceForm, path: Path, line: int) -> _Line:
    hashes = (row.get(form.hashes) if form.hashes else None) or ()
    called = row.get("request_id", _NO_ID)
    name = None if called is _NO_ID else str(called)
    at, prompt, output = row.get(form.time[0]), row.get(form.prompt), row.get(form.output)
    if (  # as most lines are
        (type(at) is int and 0 <= at < MOST_PLAIN and _are_names(hashes) and form.images is None)
        and (type(prompt) is int and 0 < prompt <= MOST_TOKENS)
        and (type(output) is int and 0 < output <= MOST_TOKENS)
    ):
        return _Line(at * form.unit_s[0], prompt, output, hashes, name)
    where = f"{path}:{line}"
    which = next((i for i, key in enumerate(form.time) if row.get(key) not in (None, "")), None)
    if which is None:
        raise UserError(f"missing {form.time[0]}", where=where)
    arrival = moment_s(row[form.time[which]], where, form.time[which]) * form.unit_s[which]
    lengths = []
    for key in (form.prompt, form.output):
        number = token_count(row.get(key), f"{where}, column {key}", least=key == form.prompt)
        lengths.append(max(1, number))
    if not _are_names(hashes):
        raise UserError("not a list of block hashes", where=f"{where}, column {form.hashes}", given=hashes)
    return _Line(arrival, lengths[0], lengths[1], hashes, name, _images(row, form, where))


MOST_IMAGES = 10_000
"""Images of a request."""


def _images(row: Mapping[str, object], form: TraceForm, where: str) -> int:
    """Images of a line of a trace; 0 where it has no such column."""
    if form.images is None:
        return 0
    value = row.get(form.images)
    try:
        count = int(str(value))
    except ValueError:
        count = -1
    if not 0 <= count <= MOST_IMAGES:
        allowed = f"a whole number, 0 to {MOST_IMAGES:,}"
        raise UserError("not a number of images", where=f"{where}, column {form.images}", given=value, allowed=allowed)
    return count


def token_count(value: object, where: str, *, least: int = 1) -> int:
    """A number of tokens of a trace, at least so many. Raises UserError."""
    try:
        number = int(str(value) if isinstance(value, str | bool) else value)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        raise UserError("not a whole number", where=where, given=value) from None
    if isinstance(value, float) and value != number:
        raise UserError("not a whole number", where=where, given=value)
    if number < least:
        raise UserError("a length must be at least 1", where=where, given=value)
    if number > MOST_TOKENS:
        raise UserError("too long", where=where, given=value, allowed=f"at most {MOST_TOKENS:,} tokens")
    return int(number)


def moment_s(value: object, where: str, name: str) -> float:
    """Seconds of a moment. One without a zone is taken as UTC, so that the clock of this machine is in no answer."""
    text = str(value)
    with suppress(ValueError):
        found = math.nan if isinstance(value, bool) else float(text)
        if math.isfinite(found):
            return found
    stamp = re.fullmatch(r"([^.]*)(\.\d+)?(Z|[+-]\d\d:?\d\d)?", text)
    if stamp:
        with suppress(ValueError, OverflowError):
            moment = datetime.fromisoformat(stamp[1] + (stamp[3] or ""))
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() + float(stamp[2] or 0)
    raise UserError(
        "not a time", where=f"{where}, column {name}", given=value, allowed="seconds, or 2023-11-16 18:17:03.97"
    )


# distributions
# ----------------------------------------------------------------------------------------------------------

Draw = Callable[[np.random.Generator, int], np.ndarray]

MOST_TOKENS = 10**9
"""Tokens of a prompt or an answer: a thousand times the longest context that models have."""


def _tokens(text: object, where: str) -> float:
    count = parse_count(text, where=where)
    if count > MOST_TOKENS:
        raise UserError("too long", where=where, given=text, allowed=f"at most {MOST_TOKENS:,} tokens")
    return count


def lengths(text: object, where: str) -> Draw:
    """A distribution of token counts: "1k", "uniform(512, 2k)", "lognormal(8k, p95 32k)" (median and 95th percentile),
    "exponential(300)".

    Raises UserError for anything else.
    """
    match = re.fullmatch(r"\s*(uniform|lognormal|exponential)\s*\(([^)]*)\)\s*", str(text))
    if not match:
        fixed = int(_tokens(text, where))
        return lambda rng, n: np.full(n, fixed)
    kind, words = match[1], [w.strip().removeprefix("p95").strip() for w in match[2].split(",")]
    if len(words) != (1 if kind == "exponential" else 2):
        raise UserError(
            "not a distribution",
            where=where,
            given=text,
            allowed="uniform(512, 2k), lognormal(8k, p95 32k), exponential(300)",
        )
    a, *rest = (_tokens(w, where) for w in words)
    if kind == "exponential":
        return lambda rng, n: np.maximum(1, np.rint(rng.exponential(a, n)))
    b = rest[0]
    if b < a:
        raise UserError("the second number is below the first", where=where, given=text)
    if kind == "uniform":
        return lambda rng, n: rng.integers(int(a), int(b) + 1, n)
    sigma = lognormal_sigma(a, b)
    return lambda rng, n: np.maximum(1, np.rint(a * np.exp(sigma * rng.standard_normal(n))))


def lognormal_sigma(median: float, p95: float) -> float:
    """Standard deviation of the logarithm of what has this median and 95th percentile."""
    return math.log(p95 / median) / NormalDist().inv_cdf(0.95)


ARRIVALS = ("poisson", "fixed", "gamma")


def draw_columns(
    *,
    rate: float | RateCurve,
    requests: int,
    prompt: Draw,
    output: Draw,
    arrivals: str = "poisson",
    cv: float = 1.0,
    seed: int = 0,
    shared_prefix: int = 0,
    priorities: int = 1,
    block: int = 512,
    until_s: float = math.inf,
) -> Iterator[RequestColumns]:
    """`requests` requests at `rate` per second, none later than until_s, in chunks. fixed: even gaps; poisson:
    exponential gaps; gamma: gaps of coefficient of variation `cv`.

    shared_prefix: tokens at the start of every prompt that are the same for all; priorities: classes drawn evenly.
    """
    rng = np.random.default_rng(seed)
    curve = rate if isinstance(rate, RateCurve) else None
    rate = 1.0 if isinstance(rate, RateCurve) else rate  # along a curve, gaps are in requests expected
    now, made = 0.0, 0
    prefix = range(shared_prefix // block)
    while made < requests:
        n = min(_CHUNK, requests - made)
        if arrivals == "fixed":
            gaps = np.full(n, 1.0 / rate)
        elif arrivals == "poisson":
            gaps = rng.exponential(1.0 / rate, n)
        else:
            shape = 1.0 / cv**2
            gaps = rng.gamma(shape, 1.0 / (rate * shape), n)
        ins, outs = prompt(rng, n), output(rng, n)
        ranks = rng.integers(0, priorities, n) if priorities > 1 else np.zeros(n, np.int64)
        gaps[0] += now
        at = np.cumsum(gaps)  # one after the other, as a clock
        now = float(at[-1])
        if curve is not None:
            at = np.array([curve.time_of(count) for count in at.tolist()])
        late = (earlier(at) > until_s) | (at == math.inf)
        is_last = bool(late.any())
        if is_last:
            n = int(np.argmax(late))
        if n:
            has_prefix = ins[:n] > shared_prefix if prefix else np.zeros(n, bool)
            yield RequestColumns(
                first=made,
                arrival_s=at[:n],
                prompt=np.minimum(ins[:n], MOST_PLAIN).astype(np.int64),
                output=np.maximum(1, np.minimum(outs[:n], MOST_PLAIN).astype(np.int64)),
                priority=ranks[:n],
                names_at=np.concatenate([[0], np.cumsum(has_prefix) * len(prefix)]),
                names=list(prefix) * int(has_prefix.sum()),
            )
        if is_last:
            return
        made += n


draw = one_by_one(draw_columns)
"""The requests of `draw_columns`, one by one."""
