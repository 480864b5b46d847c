"""Two hundred clients at once, each with an address of its own, slow ones and hostile ones among them.

    python tests/web/check_load.py [--seconds 60] [--clients 200]

The server runs as one that others may ask (its limits of an address are on). Exits 1 where one of these does not hold:
no answer of 500 or more; no request of a polite client is lost, and none of a quick one is refused; a quick question is
answered within 1 s at the 99th percentile while heavy ones compute; the server's memory is flat (from 300 s on: shorter
runs only say what it was). Each client has an address in 127.0.0.0/8, which Linux has without asking for it.

This process sends and receives with asyncio and computes nothing. How late its own clock rings is measured apart: times
of requests hold that delay, and where it is large, the machine or this process was the slow one.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import itertools
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from serving import ROOT, started

MOST_S = 1.0
"""Most seconds of a quick question at the 99th percentile."""
MEMORY_FROM_S = 300
"""A run of so many seconds says whether memory is flat."""
MOST_GROWTH = 0.10
"""Most growth of memory from the second fifth of a run to its last, as a share, beside SPARE_B."""
SPARE_B = 20 * 2**20
PATIENCE_S = 180.0
"""A polite client waits so long for an answer."""
MODELS = ["llama-3.1-8b", "llama-3.1-70b", "llama-3.1-405b", "deepseek-v3", "gpt-oss-120b", "mixtral-8x7b"]
SYSTEMS = ["trn2", "trn3", "trn4", "ironwood", "gb300", "h200", "tpu-v5p"]
FLEET = (ROOT / "scenarios" / "startup.yaml").read_text(encoding="utf-8")


@dataclass
class Seen:
    """What the clients saw. answers: (kind, status) -> how many; times_s: kind -> seconds of each answer; lost:
    requests of polite clients without an answer; bad: what may not be; late_s: how late the clock of this process
    rang; memory_B: (seconds, bytes by process) of the server."""

    answers: collections.Counter[tuple[str, int]] = field(default_factory=collections.Counter)
    times_s: dict[str, list[float]] = field(default_factory=lambda: collections.defaultdict(list))
    lost: list[str] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)
    memory_B: list[tuple[float, dict[str, int]]] = field(default_factory=list)
    used_s: dict[str, float] = field(default_factory=dict)
    """Seconds of processor time during the run, by process."""


@dataclass
class Client:
    """One address. own: where it connects from; end: when the run ends, by time.monotonic."""

    port: int
    own: str
    draw: random.Random
    seen: Seen
    end: float

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, local_addr=(self.own, 0), limit=2**22)

    async def send(self, data: bytes, wait_s: float) -> tuple[int, bytes]:
        """(status, body) of what is sent as it is; 0 where there was no answer."""
        writer = None
        try:
            async with asyncio.timeout(wait_s):
                reader, writer = await self.connect()
                writer.write(data)
                await writer.drain()
                return await answer(reader)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
            return 0, b""
        finally:
            if writer is not None:
                writer.transport.abort()

    async def ask(self, kind: str, method: str, path: str, body: dict[str, Any] | None = None) -> None:
        """A question of a polite client."""
        data = request(method, path, json.dumps(body).encode() if body is not None else None)
        begin = time.monotonic()
        status, said = await self.send(data, PATIENCE_S)
        self.note(kind, status, said, f"{method} {path} {json.dumps(body)[:200]}")
        if status == 200:
            self.seen.times_s[kind].append(time.monotonic() - begin)
        elif status == 0:
            self.seen.lost.append(f"{kind} {method} {path}")

    def note(self, kind: str, status: int, said: bytes, asked: str) -> None:
        self.seen.answers[kind, status] += 1
        if status >= 500:
            self.seen.bad.append(f"{status} {asked}: {said[:200]!r}")

    async def rest(self, low_s: float, high_s: float) -> None:
        await asyncio.sleep(self.draw.uniform(low_s, high_s))

    def goes_on(self) -> bool:
        return time.monotonic() < self.end


def request(method: str, path: str, body: bytes | None = None, *, length: int | None = None) -> bytes:
    """A request as bytes. length: of the body, where that is said wrongly."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close"]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body) if length is None else length}"]
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """(status, body) of an answer. Raises OSError, ValueError, IncompleteReadError."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status, fields = int(head.split()[1]), head.lower()
    if "content-length: " in fields:
        return status, await reader.readexactly(int(fields.split("content-length: ")[1].split()[0]))
    return status, await reader.read()


# ---- polite clients
# ----------------------------------------------------------------------------------------------------------------------


async def quick(one: Client) -> None:
    """Questions that take milliseconds, most of them never asked before."""
    while one.goes_on():
        draw = one.draw
        size, slots = f"{draw.randint(1, 10**6)}KiB", str(draw.randint(1, 65536))
        questions: list[tuple[str, str, dict[str, Any] | None]] = [
            ("POST", "/api/collective", {"kind": "all-reduce", "on": "trn3-gen2", "sizes": [size]}),
            ("POST", "/api/fit", {"model": draw.choice(MODELS), "on": "h100", "kv": slots}),
            ("POST", "/api/model", {"model": draw.choice(MODELS)}),
            ("GET", f"/api/facts/{draw.choice(SYSTEMS)}", None),
            ("GET", f"/api/facts/side?name={draw.choice(SYSTEMS)}&name=gb300", None),
            ("GET", "/api/systems", None),
        ]
        await one.ask("quick", *draw.choice(questions))
        await one.rest(1.0, 4.0)


async def page(one: Client) -> None:
    """The page itself, and what watches the server."""
    while one.goes_on():
        path = one.draw.choice(["/", "/static/main.js", "/static/app.css", "/first.json", "/health", "/metrics"])
        await one.ask("page", "GET", path)
        await one.rest(1.0, 4.0)


def job(draw: random.Random, systems: int) -> dict[str, Any]:
    train = {"tokens": f"{draw.randint(1, 30)}T", "seq": 4096, "batch": f"{draw.choice([1024, 2048, 4096])}seqs"}
    return {
        "model": draw.choice(MODELS),
        "on": draw.sample(SYSTEMS, systems),
        "chips": draw.choice([256, 512, 1024, 2048, 4096]),
        "train": train,
    }


def large(draw: random.Random) -> tuple[str, dict[str, Any]]:
    """A heavy question: a comparison of any size, a search, or one of those that take seconds."""
    work = job(draw, draw.randint(1, 5))
    single = {**work, "on": work["on"][0]}
    kind = draw.random()
    if kind < 0.4:
        return "compare", work
    if kind < 0.6:
        return "plan", {**single, "top": 3}
    if kind < 0.7:
        return "compare", {
            **{k: work[k] for k in ("model", "on")},
            "chips": 32,
            "serve": {"isl": str(draw.randint(500, 9000)), "osl": "1k"},
        }
    if kind < 0.78:
        return "explain", {"ask": {**work, "on": ["h200"]}, "metric": "h200.step_s"}
    if kind < 0.84:
        return "goodput", {"on": f"h100:{draw.choice([1024, 4096])}", "days": draw.randint(30, 3000), "samples": 300}
    if kind < 0.9:
        return "fleet", {"yaml": FLEET, "relaxed": True, "seed": draw.randint(1, 10**6)}
    if kind < 0.95:
        return "gap", {**{k: v for k, v in work.items() if k != "on"}, "first": "h100", "second": "trn3"}
    return "report", {**work, "on": ["h200"]}


async def heavy(one: Client) -> None:
    while one.goes_on():
        path, body = large(one.draw)
        await one.ask("heavy", "POST", f"/api/{path}", body)
        await one.rest(0.0, 3.0)


# ---- the others
# ----------------------------------------------------------------------------------------------------------------------


async def fickle(one: Client) -> None:
    """Asks for much and goes away before it is answered."""
    while one.goes_on():
        with contextlib.suppress(OSError):
            _, writer = await one.connect()
            path, body = large(one.draw)
            writer.write(request("POST", f"/api/{path}", json.dumps(body).encode()))
            await one.rest(0.0, 0.5)
            writer.transport.abort()
        await one.rest(0.2, 1.0)


async def slow_head(one: Client) -> None:
    """Many connections that send a head letter by letter."""
    while one.goes_on():
        writers = []
        with contextlib.suppress(OSError):
            for _ in range(20):
                writers.append((await one.connect())[1])
                writers[-1].write(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
            for _ in range(12):
                await asyncio.sleep(1)
                for writer in writers:
                    writer.write(b"a")
        for writer in writers:
            writer.transport.abort()
        one.seen.answers["slow head", 0] += len(writers)


async def half_body(one: Client) -> None:
    while one.goes_on():
        body = b'{"model": "gp'
        data = request("POST", "/api/model", body, length=one.draw.choice([20, 5000, 200_000]))
        status, said = await one.send(data, one.draw.choice([1.0, 40.0]))
        one.note("half a body", status, said, "half a body")
        await one.rest(0.2, 1.0)


async def slow_taker(one: Client) -> None:
    """Asks for the largest file many times and reads none of it."""
    while one.goes_on():
        with contextlib.suppress(OSError):
            reader, writer = await one.connect()
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(b"GET /static/echarts.min.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
            await one.rest(5, 20)
            writer.transport.abort()
            del reader
        one.seen.answers["slow taker", 0] += 1


def malformed(draw: random.Random) -> bytes:
    """A request that is wrong in one of many ways."""
    post = draw.choice(["/api/compare", "/api/plan", "/api/fleet", "/api/model", "/api/explain", "/api/scenario"])
    return draw.choice(
        [
            lambda: request("POST", post, b"{" * draw.randint(1, 50_000)),
            lambda: request("POST", post, b'{"model": "gpt2", "model": "gpt2"}'),
            lambda: request("POST", post, b"\xff\xfe\x00"),
            lambda: request("POST", post, b'{"chips": ' + b"9" * 9_000 + b"}"),
            lambda: request("POST", post, b'{"a": "' + b"a" * 250_000 + b'"}'),
            lambda: request("POST", post, b"x" * 400_000),
            lambda: request("POST", post, b"[1, 2]"),
            lambda: request("GET", "/" + "a" * draw.randint(1, 60_000)),
            lambda: request("GET", "/api/facts/..%2f..%2fetc%2fpasswd"),
            lambda: request(draw.choice(["BREW", "TRACE", "PUT", "DELETE"]), post),
            lambda: b"GET / HTTP/1.1\r\n" + b"X: " + b"a" * draw.randint(40_000, 200_000) + b"\r\n\r\n",
            lambda: b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: a\r\n" * 3000 + b"\r\n",
            lambda: b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
            lambda: b"GET /api/validate HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site\r\n\r\n",
            lambda: draw.randbytes(draw.randint(1, 3000)) + b"\r\n\r\n",
            lambda: b"POST /api/model HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            lambda: b"POST /api/model HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        ]
    )()


async def hostile(one: Client) -> None:
    while one.goes_on():
        status, said = await one.send(malformed(one.draw), 20.0)
        one.note("hostile", status, said, "hostile")
        if status == 200:
            one.seen.bad.append(f"a hostile request was answered: {said[:100]!r}")
        await one.rest(0.1, 1.0)


async def greedy(one: Client) -> None:
    """Fifty questions at once from one address, again and again."""
    while one.goes_on():

        async def ask() -> None:
            path, body = large(one.draw)
            status, said = await one.send(request("POST", f"/api/{path}", json.dumps(body).encode()), 60.0)
            one.note("greedy", status, said, path)

        await asyncio.gather(*(ask() for _ in range(50)))
        await one.rest(0.5, 2.0)


KINDS: list[tuple[Callable[[Client], Awaitable[None]], int]] = [
    (quick, 80),
    (page, 20),
    (heavy, 50),
    (fickle, 10),
    (slow_head, 8),
    (half_body, 8),
    (slow_taker, 4),
    (hostile, 16),
    (greedy, 4),
]
"""What clients do, and how many of two hundred."""


# ---- the run
# ----------------------------------------------------------------------------------------------------------------------


async def clock(seen: Seen, end: float) -> None:
    """How late this process is."""
    while time.monotonic() < end:
        begin = time.monotonic()
        await asyncio.sleep(0.02)
        seen.late_s.append(time.monotonic() - begin - 0.02)


def memory_B(pid: int) -> dict[str, int]:
    """Bytes in memory of the server and of its processes."""
    out = {}
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    for name, one in (("server", str(pid)), *((f"worker {c}", c) for c in children)):
        with contextlib.suppress(OSError):
            out[name] = int(Path(f"/proc/{one}/statm").read_text(encoding="ascii").split()[1]) * 4096
    return out


def used_s(pid: int) -> dict[str, float]:
    """Seconds of processor time of this process, of the server and of its processes."""
    out = {"this process": time.process_time()}
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    for name, one in (("server", str(pid)), *((f"worker {c}", c) for c in children)):
        with contextlib.suppress(OSError):
            parts = Path(f"/proc/{one}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
            out[name] = (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")
    return out


async def weigh(one: Client, pid: int) -> None:
    """Memory every two seconds, without the answers that the server keeps: they are bounded, and fill up."""
    begin = time.monotonic()
    while one.goes_on():
        by = memory_B(pid)
        kept = [line for line in await told(one) if line.startswith("mowich_cache_bytes ")]
        if kept:
            by["answers kept"] = -int(kept[0].split()[1])
            one.seen.memory_B.append((time.monotonic() - begin, by))
        await asyncio.sleep(2)


async def told(one: Client) -> list[str]:
    """What the server says of itself."""
    return (await one.send(request("GET", "/metrics"), 10.0))[1].decode().splitlines()


async def from_some_time(work: Callable[[Client], Awaitable[None]], one: Client) -> None:
    """Clients do not all come in the same moment."""
    await one.rest(0.0, 5.0)
    await work(one)


async def storm(port: int, pid: int, clients: int, seconds: float) -> Seen:
    seen, begin, before = Seen(), time.monotonic(), used_s(pid)
    end = begin + seconds
    shares = list(itertools.chain.from_iterable([kind] * n for kind, n in KINDS))
    work = []
    for i in range(clients):
        one = Client(port, f"127.0.{1 + i // 250}.{1 + i % 250}", random.Random(i), seen, end)
        work.append(asyncio.ensure_future(from_some_time(shares[i * len(shares) // clients], one)))
    watch = Client(port, "127.0.0.1", random.Random(0), seen, end)
    await asyncio.gather(clock(seen, end), weigh(watch, pid))
    seen.used_s = {name: s - before.get(name, 0.0) for name, s in used_s(pid).items()}
    for task in work:  # what is under way is given up: it was neither answered nor lost
        task.cancel()
    await asyncio.wait(work)
    for task in work:
        if not task.cancelled() and task.exception() is not None:
            raise task.exception()
    return seen


def at(values: list[float], share: float) -> float:
    """The value below which a share of them lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def judged(seen: Seen, seconds: float) -> list[str]:
    """Print what was seen; what does not hold."""
    kinds = sorted({kind for kind, _ in seen.answers})
    print(f"{sum(seen.answers.values())} requests in {seconds:g} s (status 0: no answer was taken or given)")
    for kind in kinds:
        by = {status: n for (k, status), n in sorted(seen.answers.items()) if k == kind}
        times = seen.times_s.get(kind) or [0.0]
        said = f"median {statistics.median(times):.3f} s, 99% {at(times, 0.99):.3f}, worst {max(times):.3f}"
        print(f"  {kind:<12} {by}  {said}")
    late = (statistics.median(seen.late_s), at(seen.late_s, 0.99), max(seen.late_s))
    print("  this process was late by {:.4f} s (median), 99% {:.4f}, worst {:.3f}".format(*late))
    print("  processor time in s:", ", ".join(f"{name} {s:.1f}" for name, s in seen.used_s.items()))
    print("  load of the machine at the end: {:.1f} {:.1f} {:.1f}".format(*os.getloadavg()))
    failed = [f"answered {line}" for line in seen.bad[:20]]
    failed += [f"lost: {line}" for line in seen.lost[:20]]
    refused = sum(n for (kind, status), n in seen.answers.items() if kind in ("quick", "page") and status != 200)
    if refused:
        failed.append(f"{refused} quick requests were not answered with 200")
    for kind in ("quick", "heavy"):
        if not seen.times_s.get(kind):
            failed.append(f"no {kind} request was answered")
    p99 = at(seen.times_s.get("quick", []), 0.99)
    if p99 > MOST_S:
        failed.append(f"a quick question took {p99:.2f} s at the 99th percentile; at most {MOST_S:g} s")
    totals = [(when, sum(by.values())) for when, by in seen.memory_B]
    early = statistics.median(b for when, b in totals if seconds / 5 <= when < 2 * seconds / 5)
    last = statistics.median(b for when, b in totals if when >= 4 * seconds / 5)
    grew = f"from {early / 2**20:.0f} MiB in the second fifth of the run to {last / 2**20:.0f} in the last"
    print(f"  memory {grew};", ", ".join(f"{name} {b / 2**20:.0f}" for name, b in seen.memory_B[-1][1].items()))
    if seconds >= MEMORY_FROM_S and last > early * (1 + MOST_GROWTH) + SPARE_B:
        failed.append(f"memory grew {grew}")
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("options", nargs="*", help="of mowich web, after --")
    given = parser.parse_args()
    with started("--public-name", "load.test", *given.options) as (base, pid):
        port = urlsplit(base).port or 0
        one = Client(port, "127.0.0.1", random.Random(0), Seen(), 0.0)
        for path, body in (("plan", {**job(one.draw, 1), "on": "h100"}), ("model", {"model": "gpt2"})):
            asyncio.run(one.ask("page", "POST", f"/api/{path}", body))  # all is imported
        seen = asyncio.run(storm(port, pid, given.clients, given.seconds))
        asyncio.run(one.ask("page", "GET", "/api/about"))
        print("\n".join(line for line in asyncio.run(told(one)) if line.split("{")[0].split(" ")[0] in TELLS))
    failed = judged(seen, given.seconds)
    if one.seen.answers != {("page", 200): 3}:
        failed.append(f"the server did not answer before or after: {dict(one.seen.answers)}")
    for line in failed:
        print("FAILED", line)
    print("failed" if failed else "ok")
    return 1 if failed else 0


TELLS = (
    *("mowich_refused_total", "mowich_stopped_total", "mowich_worker_restarts_total"),
    *("mowich_connections_closed_total", "mowich_queue_waiting", "mowich_queue_running"),
)
"""Metrics that are printed at the end."""


if __name__ == "__main__":
    sys.exit(main())
