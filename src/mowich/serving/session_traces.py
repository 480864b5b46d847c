"""Public traces of sessions, as graphs of calls (`sessions`). The format is told by the first line:

- Mooncake with sessions (AIPerf, Dynamo): `session_id`, `input_length`, `output_length`, and `timestamp` or `delay`, ms
- Dynamo's agentic Mooncake: a header with `schema`, then `request_id`, `dependencies`; or lines with `wait_for`
- Weka and AgentX: one object a session, with `requests` (`t`, `in`, `out`, `api_time`, s) and subagents among them
- LLMServingSim: one object a session, with `sub_requests` (`input_toks`, `output_toks`, `tool_duration_ns`, token ids)
- Qwen-Bailian: `chat_id`, `parent_chat_id`, `timestamp` in s
- BurstGPT with `Session ID` and `Elapsed time`, CSV
- AISimulate's agents: `num_turns`, `assistant_response_length`, `tool_call_latency`; without moments of arrival

A recorded pause between an answer and the next prompt is kept as a pause after our answer. Where only arrivals are
recorded, a turn comes at its moment, but not before the answer that it needs. Blocks of other sizes, and token ids, get
names by all that stands before them, over blocks of the scenario's `hash_block`. Sessions are read whole and sorted.
"""

from __future__ import annotations

import csv
import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mowich.errors import UserError
from mowich.files import open_lines
from mowich.serving.arrivals import (
    LOG_LIMIT,
    TraceLines,
    csv_lines,
    json_line,
    json_lines,
    moment_s,
    token_count,
)
from mowich.serving.sessions import CallSession, Context, Edges, SessionBlocks, SessionCall

LONGEST_LINE = 256_000_000
"""Characters of a line: a session of a day may stand in one."""

BAILIAN_BLOCK = 16
MOONCAKE_BLOCK = 512
"""Tokens that one hash of these traces names, where they do not say."""

SAME_MOMENT_S = 1e-6
"""By how much a call may seem to begin before the recorded end of the one that it came after."""

_Row = Mapping[str, object]


@dataclass(slots=True)
class _Reader:
    """What all formats need. block: tokens that a hash of the scenario names; count: calls so far; known: names by
    (scope, name of the block before, what the trace calls this one)."""

    path: Path
    block: int
    deltas: bool
    count: int = 0
    known: dict[tuple[object, int, object], int] = field(default_factory=dict)

    def where(self, line: int, column: str = "") -> str:
        return f"{self.path}:{line}" + (f", column {column}" if column else "")

    def tokens(self, row: _Row, line: int, *columns: str, least: int = 1) -> int:
        """A length under the first of the columns that is there; an answer of 0 counts as 1."""
        name = next((c for c in columns if row.get(c) is not None), columns[0])
        if row.get(name) is None:
            raise UserError(f"missing {columns[0]}", where=self.where(line))
        self.count += 1
        if self.count > 2 * LOG_LIMIT:
            raise UserError(f"sessions of more than {LOG_LIMIT} requests", where=str(self.path), fix="use a part of it")
        return max(1, token_count(row[name], self.where(line, name), least=least))

    def lengths(self, row: _Row, line: int) -> tuple[int, int]:
        """(prompt, answer) of a line as Mooncake and those after it name them."""
        prompt = self.tokens(row, line, "input_length", "input_tokens")
        return prompt, self.tokens(row, line, "output_length", "output_tokens", least=0)

    def seconds(self, row: _Row, line: int, column: str, unit_s: float) -> float | None:
        """A moment or a pause, s; None where it is not there."""
        value = row.get(column)
        if value is None or value == "":
            return None
        found = moment_s(value, self.where(line), column) * unit_s
        if not math.isfinite(found):
            raise UserError("not a time", where=self.where(line, column), given=value)
        return found

    def first_seconds(self, row: _Row, line: int, *columns: str) -> float | None:
        """A moment in ms under the first of the columns that is there, s."""
        found = (self.seconds(row, line, column, 1e-3) for column in columns)
        return next((one for one in found if one is not None), None)

    def pause(self, row: _Row, line: int, unit_s: float, *columns: str) -> float | None:
        """A pause, at least 0 s."""
        for column in columns:
            found = self.seconds(row, line, column, unit_s)
            if found is not None:
                if found < 0.0:
                    raise UserError("a pause is at least 0", where=self.where(line, column), given=row[column])
                return found
        return None

    def rows(self, row: _Row, line: int, column: str) -> Sequence[_Row]:
        """A list of objects."""
        found = row.get(column)
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise UserError("not a list of objects", where=self.where(line, column), given=str(found)[:40])
        return found

    def hashes(self, row: _Row, line: int, column: str, block: int, tokens: int, scope: object) -> tuple[int, ...]:
        """Names of the whole blocks of a prompt, of hashes of `block` tokens each. scope: the session where hashes
        mean something in it alone."""
        found = row.get(column)
        if not found:
            return ()
        if not isinstance(found, list):
            raise UserError("not a list of block hashes", where=self.where(line, column), given=str(found)[:40])
        each, rest = divmod(self.block, block)
        if rest:
            raise UserError(
                f"hashes of {block} tokens do not fill the scheduler's hash_block",
                where=self.where(line, column),
                given=self.block,
                fix=f"scheduler: {{hash_block: {block}}}, or a multiple",
            )
        return self.names(found, each, min(len(found) // each, tokens // self.block), scope)

    def names(self, parts: Sequence[object], each: int, whole: int, scope: object) -> tuple[int, ...]:
        """Names of `whole` blocks, of `each` parts: equal where all before is equal."""
        before, out = -1, []
        for i in range(whole):
            key = (scope, before, tuple(map(str, parts[i * each : (i + 1) * each])))
            before = self.known.setdefault(key, len(self.known))
            out.append(before)
        return tuple(out)


@dataclass(frozen=True, slots=True)
class SessionForm:
    """A format: its name, the columns by which its first line is known, how it is read, and whether it says when
    sessions begin."""

    name: str
    columns: tuple[str, ...]
    read: Callable[[_Reader, TraceLines], list[CallSession]]
    has_moments: bool = True


def session_form(path: Path) -> SessionForm | None:
    """The format of a trace of sessions, by its first line; None where it is another kind of trace, or no file that can
    be read."""
    try:
        with open_lines(path) as file:
            first = file.readline(LONGEST_LINE)
            if first.lstrip().startswith("{"):
                text = first if first.rstrip().endswith("}") else first + file.read(LONGEST_LINE)
                columns = list(json_line(text, path, 1))
            else:
                columns = next(csv.reader([first]), [])
    except UserError:
        return None
    return next((form for form in SESSION_FORMS if all(name in columns for name in form.columns)), None)


def read_sessions(
    path: Path,
    form: SessionForm,
    *,
    block: int,
    longest: int = 10**9,
    limit: int | None = None,
    speed: float = 1.0,
    deltas: bool = False,
) -> list[CallSession]:
    """The sessions of a trace in the order in which they begin, the first at 0 s, and `speed` times as fast as recorded
    (pauses after answers are as they were). block: tokens that a hash names; longest: tokens of a prompt and its answer
    beyond which the rest of a session is cut; deltas: whether lines hold what a turn adds to what was said.

    Raises UserError with file:line.
    """
    reader = _Reader(path, block, deltas)
    with open_lines(path) as file:
        first = file.readline(LONGEST_LINE)
        is_one = not first.rstrip().endswith("}")  # one object over many lines
        if first.lstrip().startswith("{"):
            lines = json_lines(first + "".join(file) if is_one else first, file, path)
        else:
            lines = csv_lines(first, file, path)
        found = form.read(reader, lines)
    if not found:
        raise UserError("no sessions", where=f"{path}:1")
    found.sort(key=lambda one: one.at_s)
    start = found[0].at_s
    out = []
    for one in found[:limit]:
        calls = [replace(call, at_s=call.at_s / speed) if call.at_s else call for call in one.calls]
        out.append(_fitting(replace(one, calls=calls, at_s=(one.at_s - start) / speed), longest))
    return out


def _fitting(session: CallSession, longest: int) -> CallSession:
    """The session without calls that the cache could not hold, and without those that wait for these. A first call
    stays: that it has no room is told when it is asked."""
    kept: dict[int, int] = {}
    calls: list[SessionCall] = []
    for i, call in enumerate(session.calls):
        waits = [other for other, _ in (*call.after, *call.beside)]
        if (i and call.prompt + call.output > longest) or any(other not in kept for other in waits):
            continue
        kept[i] = len(calls)
        calls.append(
            replace(
                call,
                after=tuple((kept[other], s) for other, s in call.after),
                beside=tuple((kept[other], s) for other, s in call.beside),
            )
        )
    return replace(session, calls=calls, is_cut=len(calls) < len(session.calls))


def _with_answers(calls: list[SessionCall], block: int) -> list[SessionCall]:
    """Calls with the names of the blocks that their answers fill: those of the next prompt that repeats prompt and
    answer. What no later prompt repeats has no names."""
    out = list(calls)
    for call in calls:
        for other, _ in call.after:
            said = out[other]
            whole = (said.prompt + said.output) // block
            held = len(said.hashes)
            if not said.later and held and call.hashes[:held] == said.hashes and len(call.hashes) >= whole > held:
                out[other] = replace(said, later=call.hashes[held:whole])
    return out


# chains of turns
# ----------------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Turns:
    """The turns of one session so far. last_s: when the last one came, or ended; said: what was said, where lines hold
    what is added."""

    name: str
    at_s: float = 0.0
    last_s: float = 0.0
    calls: list[SessionCall] = field(default_factory=list)
    said: Context | None = None

    def add(
        self,
        prompt: int,
        output: int,
        pause_s: float = 0.0,
        *,
        hashes: tuple[int, ...] = (),
        later: tuple[int, ...] = (),
        at_s: float = 0.0,
        name: str | None = None,
    ) -> None:
        """A turn, so long after the answer of the one before it."""
        n = len(self.calls)
        after, name = ((n - 1, pause_s),) if n else (), f"{self.name}.{n}" if name is None else name
        self.calls.append(
            SessionCall(prompt=prompt, output=output, hashes=hashes, later=later, after=after, at_s=at_s, name=name)
        )

    def grow(
        self, said: Context, more: int, output: int, pause_s: float, *, at_s: float = 0.0, name: str | None = None
    ) -> None:
        """A turn that adds tokens to what was said before it. said: before the first."""
        asked = (self.said or said).grown(more)
        self.said = asked.grown(output)
        later = self.said.names[len(asked.names) :]
        self.add(asked.tokens, output, pause_s, hashes=asked.names, later=later, at_s=at_s, name=name)

    def session(self, block: int = 0) -> CallSession:
        """block: to name the blocks of answers by the prompts that repeat them (0: they have their names)."""
        return CallSession(
            calls=_with_answers(self.calls, block) if block else self.calls, name=self.name, at_s=self.at_s
        )


def _mooncake(reader: _Reader, lines: TraceLines) -> list[CallSession]:
    """Lines of turns: each after the one before it of its session, `delay` ms after that one's answer, or at its
    `timestamp`, whichever is later."""
    by_name: dict[object, _Turns] = {}
    for line, row in lines:
        if row.get("wait_for") or row.get("dependencies"):
            fix = 'the first line of a graph of requests has "wait_for" or "schema"'
            raise UserError("waits for others", where=reader.where(line), fix=fix)
        prompt, output = reader.lengths(row, line)
        at = reader.first_seconds(row, line, "timestamp", "created_time")
        delay = reader.pause(row, line, 1e-3, "delay", "delay_ms")
        key = row.get("session_id") if row.get("session_id") is not None else ("", line)
        turns = by_name.get(key)
        if turns is None:
            begin = 0.0 if at is None else at
            name = str(key if isinstance(key, str | int) else line)
            turns = by_name[key] = _Turns(name, begin, begin)
        elif at is not None and at < turns.last_s:
            raise UserError("times go back in a session", where=reader.where(line, "timestamp"), given=row["timestamp"])
        turns.last_s = turns.last_s if at is None else at
        at_s = 0.0 if at is None or delay is not None else at - turns.at_s
        title = str(row["request_id"]) if "request_id" in row else None
        if reader.deltas:
            empty = Context(SessionBlocks(len(by_name), reader.block))
            turns.grow(empty, prompt, output, delay or 0.0, at_s=at_s, name=title)
        else:
            hashes = reader.hashes(row, line, "hash_ids", MOONCAKE_BLOCK, prompt, None)
            turns.add(prompt, output, delay or 0.0, hashes=hashes, at_s=at_s, name=title)
    return [one.session(reader.block) for one in by_name.values()]


def _burstgpt(reader: _Reader, lines: TraceLines) -> list[CallSession]:
    """Rows of BurstGPT: those of one Session ID are turns, each so long after the answer before it as was recorded.
    Requests that failed (no tokens of an answer) are left out."""
    by_name: dict[str, _Turns] = {}
    for line, row in lines:
        if str(row.get("Response tokens")).strip() in ("0", "0.0"):
            continue
        prompt, output = (reader.tokens(row, line, c) for c in ("Request tokens", "Response tokens"))
        at, took = reader.seconds(row, line, "Timestamp", 1.0), reader.pause(row, line, 1.0, "Elapsed time")
        if at is None:
            raise UserError("missing Timestamp", where=reader.where(line))
        key = str(row["Session ID"]).strip() or f"line {line}"
        turns = by_name.setdefault(key, _Turns(key, at, at))
        turns.add(prompt, output, max(0.0, at - turns.last_s))
        turns.last_s = at + (took or 0.0)
    return [one.session() for one in by_name.values()]


def _bailian(reader: _Reader, lines: TraceLines) -> list[CallSession]:
    """Chats with the chat that each goes on from: at its moment, but not before the answer that it goes on from."""
    of: dict[str, tuple[int, int]] = {}
    trees: list[_Turns] = []
    rows = [(reader.seconds(row, line, "timestamp", 1.0), line, row) for line, row in lines]
    for at, line, _ in rows:
        if at is None:
            raise UserError("missing timestamp", where=reader.where(line))
    for at, line, row in sorted(rows, key=lambda one: (one[0] or 0.0, one[1])):
        prompt = reader.tokens(row, line, "input_length")
        output = reader.tokens(row, line, "output_length", least=0)
        chat, parent = str(row["chat_id"]), str(row.get("parent_chat_id", -1))
        if chat in of:
            raise UserError("this chat_id is there twice", where=reader.where(line), given=chat)
        moment = at or 0.0
        if parent in of:  # the parent of a chat that began before the trace is not in it
            tree, before = of[parent]
            after: tuple[tuple[int, float], ...] = ((before, 0.0),)
        else:
            tree, after = len(trees), ()
            trees.append(_Turns(chat, moment))
        turns = trees[tree]
        of[chat] = tree, len(turns.calls)
        hashes = reader.hashes(row, line, "hash_ids", BAILIAN_BLOCK, prompt, None)
        turns.calls.append(
            SessionCall(prompt=prompt, output=output, hashes=hashes, after=after, at_s=moment - turns.at_s, name=chat)
        )
    return [one.session(reader.block) for one in trees]


def _sub_requests(reader: _Reader, lines: TraceLines) -> list[CallSession]:
    """LLMServingSim: a session in a line, its calls in a row with the time of a tool after each; single requests may
    stand between them. Token ids of prompts and answers make names of blocks."""
    out = []
    for line, row in lines:
        at = reader.seconds(row, line, "arrival_time_ns", 1e-9) or 0.0
        turns, pause = _Turns(str(row.get("session_id", f"line {line}")), at), 0.0
        inner = reader.rows(row, line, "sub_requests") if "sub_requests" in row else (row,)
        if not inner:
            raise UserError("a session without a request", where=reader.where(line, "sub_requests"))
        for one in inner:
            prompt = reader.tokens(one, line, "input_toks")
            output = reader.tokens(one, line, "output_toks", least=0)
            ids = _ids(reader, one, line, "input_tok_ids", prompt)
            said = (*ids, *_ids(reader, one, line, "output_tok_ids", output)) if ids else ()
            names = reader.names(said, reader.block, len(said) // reader.block, None)
            whole = len(ids) // reader.block
            turns.add(prompt, output, pause, hashes=names[:whole], later=names[whole:])
            pause = reader.pause(one, line, 1e-9, "tool_duration_ns") or 0.0
        out.append(turns.session())
    return out


def _ids(reader: _Reader, row: _Row, line: int, column: str, count: int) -> tuple[object, ...]:
    """Ids of all tokens; none where they are not there."""
    found = row.get(column)
    if not found:
        return ()
    if not isinstance(found, list) or len(found) != count:
        given = len(found) if isinstance(found, list) else found
        raise UserError("not one id for each token", where=reader.where(line, column), given=given, allowed=str(count))
    return tuple(found)


def _applied(reader: _Reader, lines: TraceLines) -> list[CallSession]:
    """AISimulate's agents: lengths of the first prompt, of each answer, of what each tool returns, and the seconds that
    it takes; a last answer."""
    out: list[CallSession] = []
    for line, row in lines:
        columns = ("assistant_response_length", "tool_call_output_length", "tool_call_latency")
        lists = []
        for column in columns:
            found = row.get(column)
            if not isinstance(found, list):
                raise UserError("not a list", where=reader.where(line, column), given=found)
            lists.append(found)
        if len({len(one) for one in lists}) != 1:
            raise UserError(
                f"{', '.join(columns)} have one entry for each turn",
                where=reader.where(line),
                given=", ".join(str(len(one)) for one in lists),
            )
        more, pause = reader.tokens(row, line, "input_prompt_length"), 0.0
        turns, empty = _Turns(str(len(out))), Context(SessionBlocks(len(out), reader.block))
        answers = [*lists[0], row.get("final_assistant_response_length")]
        for n, answer in enumerate(answers):
            output = reader.tokens({columns[0]: answer}, line, columns[0], least=0)
            turns.grow(empty, more, output, pause)
            if n < len(lists[1]):
                more = max(0, token_count(lists[1][n], reader.where(line, columns[1]), least=0))
                pause = reader.pause({columns[2]: lists[2][n]}, line, 1.0, columns[2]) or 0.0
        out.append(turns.session())
    return out


# graphs of requests
# ----------------------------------------------------------------------------------------------------------------------


_Nodes = Mapping[str, tuple[int, _Row]]
"""Requests by name: line, row."""
_Waits = Mapping[str, list[tuple[str, float, bool]]]
"""What each waits for: (request, seconds after it, whether after its start)."""


def _agentic(reader: _Reader, lines: TraceLines) -> list[CallSession]:
    """Dynamo's agentic Mooncake: requests that name those that they wait for."""
    block, local = MOONCAKE_BLOCK, False
    nodes: dict[str, tuple[int, _Row]] = {}
    for line, row in lines:
        if "schema" in row:
            block, local = token_count(row.get("block_size"), reader.where(line, "block_size")), True
            continue
        name = row.get("request_id")
        if not isinstance(name, str) or not name:
            raise UserError("missing request_id", where=reader.where(line))
        if name in nodes:
            raise UserError("this request_id is there twice", where=reader.where(line), given=name)
        nodes[name] = line, row
    edges = {name: _dependencies(reader, line, row, nodes) for name, (line, row) in nodes.items()}
    play = _plays(nodes, edges)
    order = _in_order(reader, nodes, edges)
    members: dict[str, list[str]] = {}
    for name in order:
        members.setdefault(play[name], []).append(name)
    return [_graph(reader, title, names, nodes, edges, block, local) for title, names in members.items()]


def _graph(
    reader: _Reader, title: str, names: Sequence[str], nodes: _Nodes, edges: _Waits, block: int, local: bool
) -> CallSession:
    """The session of requests in their order. local: hashes mean something in it alone."""
    place = {name: i for i, name in enumerate(names)}
    begins = [
        reader.first_seconds(row, line, "not_before_ms", "timestamp") or 0.0
        for line, row in (nodes[name] for name in names)
    ]
    start = min(s for s, name in zip(begins, names, strict=True) if not edges[name])
    calls = []
    for name, begin in zip(names, begins, strict=True):
        line, row = nodes[name]
        prompt, output = reader.lengths(row, line)
        ended, asked = (tuple((place[o], s) for o, s, starts in edges[name] if starts == of) for of in (False, True))
        hashes = reader.hashes(row, line, "hash_ids", block, prompt, title if local else None)
        at = max(0.0, begin - start)
        calls.append(
            SessionCall(prompt=prompt, output=output, hashes=hashes, after=ended, beside=asked, at_s=at, name=name)
        )
    return CallSession(calls=_with_answers(calls, reader.block), name=title, at_s=start)


def _dependencies(reader: _Reader, line: int, row: _Row, known: Mapping[str, object]) -> list[tuple[str, float, bool]]:
    """(request that is waited for, seconds after it, whether after its start) of one request."""
    out = []
    if "wait_for" in row:
        found = row["wait_for"]
        if not isinstance(found, list):
            raise UserError("not a list of requests", where=reader.where(line, "wait_for"), given=found)
        pause = reader.pause(row, line, 1e-3, "delay", "delay_ms") or 0.0
        pause += reader.pause(row, line, 1e-3, "tool_wait_ms") or 0.0
        out = [(str(other), pause, False) for other in found]
    elif row.get("dependencies"):
        for one in reader.rows(row, line, "dependencies"):
            trigger = one.get("trigger", "completion")
            if trigger not in ("completion", "dispatch"):
                raise UserError(
                    "unknown trigger",
                    where=reader.where(line, "dependencies"),
                    given=trigger,
                    allowed="completion, dispatch",
                )
            pause = reader.pause(one, line, 1e-3, "delay_ms") or 0.0
            out.append((str(one.get("request_id")), pause, trigger == "dispatch"))
    for other, _, _ in out:
        if other not in known:
            raise UserError("waits for a request that is not there", where=reader.where(line), given=other)
    return out


def _plays(nodes: _Nodes, edges: _Waits) -> dict[str, str]:
    """The session of each request: its play_id, and that of all that it waits for."""
    of = {name: name for name in nodes}

    def root(name: str) -> str:
        while of[name] != name:
            of[name] = of[of[name]]
            name = of[name]
        return name

    first: dict[object, str] = {}
    for name, (_, row) in nodes.items():
        others = [other for other, _, _ in edges[name]]
        if row.get("play_id") is not None:
            others.append(first.setdefault(row["play_id"], name))
        for other in others:
            a, b = sorted((root(name), root(other)), key=lambda n: nodes[n][0])
            of[b] = a
    return {name: root(name) for name in nodes}


def _in_order(reader: _Reader, nodes: _Nodes, edges: _Waits) -> list[str]:
    """Requests, each behind those that it waits for. Raises UserError where they wait for one another in a circle."""
    left = {name: len(edges[name]) for name in nodes}
    behind: dict[str, list[str]] = {name: [] for name in nodes}
    for name, some in edges.items():
        for other, _, _ in some:
            behind[other].append(name)
    ready = [(nodes[name][0], name) for name, count in left.items() if not count]
    heapq.heapify(ready)
    out = []
    while ready:
        _, name = heapq.heappop(ready)
        out.append(name)
        for other in behind[name]:
            left[other] -= 1
            if not left[other]:
                heapq.heappush(ready, (nodes[other][0], other))
    if len(out) < len(nodes):
        name = next(name for name, count in left.items() if count)
        raise UserError("requests wait for one another in a circle", where=reader.where(nodes[name][0]), given=name)
    return out


class _Stream:
    """Calls of one agent in the order in which they were asked. A call comes after all that were answered by then and
    that no other call came after; where there is none, beside the call that was asked last."""

    __slots__ = ("free", "last_ended", "running", "seen")

    def __init__(self) -> None:
        self.seen: list[tuple[float, float, int]] = []  # asked, answered, number
        self.running: list[tuple[float, int]] = []  # answered, number
        self.free: dict[int, float] = {}  # answered, and nothing came after it: number, when
        self.last_ended: tuple[float, int] | None = None

    def add(self, at_s: float, end_s: float, number: int) -> None:
        self.seen.append((at_s, end_s, number))
        heapq.heappush(self.running, (end_s, number))

    def before(self, at_s: float) -> tuple[Edges, Edges]:
        """(what a call at this moment comes after, what it comes beside)."""
        while self.running and self.running[0][0] <= at_s + SAME_MOMENT_S:
            end, number = heapq.heappop(self.running)
            self.free[number] = end
            self.last_ended = max(self.last_ended or (end, number), (end, number))
        waits = dict(self.free)
        if self.last_ended is not None:
            waits.setdefault(self.last_ended[1], self.last_ended[0])
        self.free.clear()
        if waits:
            return tuple((i, max(0.0, at_s - end)) for i, end in sorted(waits.items())), ()
        return self.forked(-math.inf, at_s)

    def forked(self, ended_s: float, at_s: float | None = None) -> tuple[Edges, Edges]:
        """What comes after the call that was asked last, where that had been answered by then, else beside it."""
        if not self.seen:
            return (), ()
        asked, end, number = self.seen[-1]
        at = ended_s if at_s is None else at_s
        if end <= ended_s + SAME_MOMENT_S:
            return ((number, max(0.0, at - end)),), ()
        return (), ((number, max(0.0, at - asked)),)

    def join(self, other: _Stream) -> None:
        """Let later calls wait for the last ones of a subagent too."""
        for end, number in (*other.running, *((end, number) for number, end in other.free.items())):
            heapq.heappush(self.running, (end, number))


@dataclass(slots=True)
class _Play:
    """One session of a Weka trace, as it is read. scope: in what its hashes mean something."""

    reader: _Reader
    line: int
    block: int
    scope: object
    name: str
    calls: list[SessionCall] = field(default_factory=list)

    def put(self, row: _Row, at_s: float, stream: _Stream, before: tuple[Edges, Edges]) -> None:
        """Add a call that was asked at a moment. before: what it comes after, and beside."""
        reader, line = self.reader, self.line
        prompt = reader.tokens(row, line, "in")
        after, beside = before
        call = SessionCall(
            prompt=prompt,
            output=reader.tokens(row, line, "out", least=0),
            hashes=reader.hashes(row, line, "hash_ids", self.block, prompt, self.scope),
            after=after,
            beside=beside,
            name=f"{self.name}.{len(self.calls)}",
        )
        stream.add(at_s, at_s + (reader.pause(row, line, 1.0, "api_time") or 0.0), len(self.calls))
        self.calls.append(call)

    def moment(self, row: _Row) -> float:
        found = self.reader.seconds(row, self.line, "t", 1.0)
        if found is None:
            raise UserError("missing t", where=self.reader.where(self.line))
        return found


def _weka(reader: _Reader, lines: TraceLines) -> list[CallSession]:
    """Weka and AgentX: a session in an object. A subagent begins with the call before it; the next call that was asked
    after its end waits for it."""
    out = []
    for number, (line, row) in enumerate(lines):
        block = token_count(row.get("block_size"), reader.where(line, "block_size"))
        scope = number if row.get("hash_id_scope") == "local" else None
        play = _Play(reader, line, block, scope, str(row.get("id", number)))
        entries = reader.rows(row, line, "requests")
        inner = [reader.rows(one, line, "requests") if one.get("type") == "subagent" else () for one in entries]
        moments = [play.moment(one) for one in entries]
        is_relative = any(
            play.moment(one) < at - SAME_MOMENT_S for at, some in zip(moments, inner, strict=True) for one in some
        )
        stream = _Stream()
        for at, entry, some in zip(moments, entries, inner, strict=True):
            if entry.get("type") != "subagent":
                play.put(entry, at, stream, stream.before(at))
                continue
            own = _Stream()
            for i, one in enumerate(some):
                begin = play.moment(one) + (at if is_relative else 0.0)
                play.put(one, begin, own, own.before(begin) if i else stream.forked(begin))
            stream.join(own)
        if not play.calls:
            raise UserError("a session without a request", where=reader.where(line, "requests"))
        out.append(CallSession(calls=_with_answers(play.calls, reader.block), name=play.name, at_s=moments[0]))
    return out


SESSION_FORMS = (
    SessionForm("agentic-mooncake", ("schema", "block_size"), _agentic),
    SessionForm("agentic-mooncake", ("request_id", "wait_for"), _agentic),
    SessionForm("weka", ("requests", "block_size"), _weka),
    SessionForm("llmservingsim", ("sub_requests",), _sub_requests),
    SessionForm("bailian", ("chat_id", "parent_chat_id"), _bailian),
    SessionForm("aisimulate", ("assistant_response_length", "tool_call_latency"), _applied, has_moments=False),
    SessionForm("burstgpt", ("Session ID", "Request tokens", "Response tokens"), _burstgpt),
    SessionForm("mooncake", ("session_id", "input_length"), _mooncake),
    SessionForm("mooncake", ("session_id", "input_tokens"), _mooncake),
)
"""In the order tried; the first whose columns the first line has."""
