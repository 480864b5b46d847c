"""A server that others than its user may ask: slow, greedy and hostile clients over sockets, limits, health, metrics
and log."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from mowich.cli.app import app
from mowich.cli.verbs import load_verbs
from mowich.errors import UserError
from mowich.requests import known
from mowich.requests.fields import Edge
from mowich.requests.schema import QuestionSource
from mowich.web import connections, guard
from mowich.web.clients import network
from mowich.web.connections import ConnectionBook
from mowich.web.run import server_of
from mowich.web.server import ServerOptions, create_app
from server_here import Here

HALF = b"GET / HTTP/1.1\r\nHost: localhost\r\nX: "


@contextmanager
def serving(book: ConnectionBook | None = None, workers: Here | None = None, **options: Any) -> Iterator[int]:
    """A server in a thread; its port."""
    listening = socket.create_server(("127.0.0.1", 0))
    book = book or ConnectionBook(100)
    app = create_app(ServerOptions(warm=False, **options), workers or Here(), book)
    server = server_of(app, book)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    while not server.started:
        time.sleep(0.005)
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def connect(port: int, sent: bytes = b"") -> socket.socket:
    one = socket.create_connection(("127.0.0.1", port), timeout=5)
    with contextlib.suppress(OSError):
        one.sendall(sent)
    return one


def rest(one: socket.socket) -> bytes:
    """What comes until the server closes; b"" where it reset the connection."""
    out = b""
    with one, contextlib.suppress(ConnectionError):
        while piece := one.recv(65536):
            out += piece
    return out


def asked(port: int, path: str = "/health", body: bytes | None = None, *headers: bytes) -> tuple[int, bytes]:
    """(status, all of the answer) of one request on a connection of its own."""
    said = [b"Host: localhost", b"Connection: close", *headers]
    if body is not None:
        said += [b"Content-Length: %d" % len(body), b"Content-Type: application/json"]
    verb = b"GET" if body is None else b"POST"
    answer = rest(connect(port, b"\r\n".join([verb + f" {path} HTTP/1.1".encode(), *said, b"", body or b""])))
    return int(answer.split()[1]), answer


# ---- slow and greedy clients
# ----------------------------------------------------------------------------------------------------------------------


def test_half_open_connections_keep_nobody_out() -> None:
    book = ConnectionBook(20)
    with serving(book) as port:
        half = [connect(port, HALF) for _ in range(200)]
        begin = time.monotonic()
        assert asked(port)[0] == 200
        assert time.monotonic() - begin < 2
        assert len(book.addresses) <= 20
        assert book.closed["full"] >= 180
        for one in half:
            one.close()


def test_one_address_has_so_many_connections() -> None:
    book = ConnectionBook(1000, per_address=5, trusted=())
    with serving(book) as port:
        half = [connect(port, HALF) for _ in range(30)]
        assert asked(port)[0] == 200
        assert book.by_address["127.0.0.1"] <= 5
        for one in half:
            one.close()
    proxy = ConnectionBook(1000, per_address=5, trusted=(network("127.0.0.0/8"),))
    with serving(proxy) as port:
        half = [connect(port, HALF) for _ in range(30)]
        assert asked(port)[0] == 200
        assert len(proxy.addresses) >= 30
        for one in half:
            one.close()


def test_slow_heads_and_bodies_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.3)
    monkeypatch.setattr(connections, "IDLE_S", 0.1)
    monkeypatch.setattr(guard, "BODY_S", 0.3)
    monkeypatch.setattr(guard, "DROP_S", 0.2)
    book = ConnectionBook(100)
    with serving(book) as port:
        begin = time.monotonic()
        head, silent = connect(port, HALF), connect(port)
        post = b"POST /api/model HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n"
        body = connect(port, post + b'{"m')
        again = connect(port, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" + HALF)  # half a head after an answer
        assert rest(head) == rest(silent) == b""
        assert rest(again).count(b"HTTP/1.1") == 1
        answer = rest(body)
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"the body did not come within" in answer
        drip = connect(port, post)  # piece after piece, but never all of it
        with contextlib.suppress(OSError):
            for _ in range(20):
                drip.sendall(b" ")
                time.sleep(0.04)
        assert rest(drip)[:12] in (b"HTTP/1.1 408", b"")
        assert time.monotonic() - begin < 4
        assert book.closed["slow head"] == 3
        assert not book.addresses


def test_a_client_that_takes_nothing_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "TAKE_S", 0.3)
    book = ConnectionBook(100)
    with serving(book) as port:
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.connect(("127.0.0.1", port))
        one.sendall(b"GET /static/echarts.min.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 30)
        until = time.monotonic() + 5
        while not book.closed["slow answer"] and time.monotonic() < until:
            time.sleep(0.02)
        assert book.closed["slow answer"] == 1
        one.close()


def test_what_is_too_large_is_told_so() -> None:
    with serving() as port:
        one = connect(port, b"POST /api/model HTTP/1.1\r\nHost: localhost\r\nContent-Length: 67108864\r\n\r\n")
        with contextlib.suppress(OSError):
            for _ in range(300):  # 19 MiB, whether or not anybody reads it
                one.sendall(b"x" * 65536)
        one.shutdown(socket.SHUT_WR)
        assert rest(one).startswith(b"HTTP/1.1 413")
        long = asked(port, "/health", None, b"X: " + b"a" * 40_000)
        assert long[0] in (400, 431)
        assert b'"errors"' in long[1]
        assert asked(port, "/health", None, *[b"X: a"] * 200)[0] == 431
        assert asked(port, "/health?" + "a" * 40_000)[0] in (400, 431)
        for garbage in (b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"\r\n\r\n\r\n", b"HELO mail\r\n\r\n"):
            answer = rest(connect(port, garbage + b"\r\n\r\n"))
            assert answer.startswith(b"HTTP/1.1 400")
            assert b"nosniff" in answer
            assert b'"errors"' in answer
        assert asked(port)[0] == 200


def test_what_is_no_http_is_refused_in_our_words_wherever_it_comes() -> None:
    ask = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    post = b"POST /api/model HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    large = b"400000\r\n" + b"x" * 0x400000 + b"\r\n"
    book = ConnectionBook(100)
    with serving(book) as port:
        for first, then, statuses in (
            (ask, b"HELO mail\r\n\r\n", [200, 400]),  # after an answer
            (b"", ask + b"HELO mail\r\n\r\n", [200]),  # in one piece with a request
            (b"", post + b"ZZ\r\n", [400]),  # in a body that comes with its head
            (post, b"ZZ\r\n", []),  # in a body that is read
            (post + large, b"ZZ\r\n", [413]),  # in the rest of a body that was refused
        ):
            closed = book.closed["not HTTP"]
            one = connect(port, first)
            time.sleep(0.3 if first else 0.0)
            with contextlib.suppress(OSError):
                one.sendall(then)
            answer = rest(one)
            assert [int(part.split()[0]) for part in answer.split(b"HTTP/1.1 ")[1:]] == statuses
            assert b"Invalid" not in answer
            assert book.closed["not HTTP"] == closed + 1
            assert (b"this is no request of HTTP/1.1" in answer) is (400 in statuses)


def test_a_connection_waits_but_while_its_request_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.2)
    monkeypatch.setattr(connections, "IDLE_S", 0.1)
    book, workers = ConnectionBook(100), Holding()
    with serving(book, workers) as port:
        busy = model(port)
        workers.wait_for("model begins")
        time.sleep(0.4)  # longer than a head may take
        assert len(book.addresses) == 1
        assert not book.waiting
        busy.close()
        two = connect(port, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2)  # both in one piece
        answers = b""
        while answers.count(b'"status"') < 2:
            answers += two.recv(65536)
        assert rest(two) == b""  # it was silent too long
        assert book.closed == {"slow head": 1}
    assert not book.addresses


def test_an_answer_whose_client_has_gone_starts_no_clock() -> None:
    class Bare(connections.TimedProtocol):
        book = ConnectionBook(100)
        inner_class = staticmethod(lambda **_: asyncio.Protocol())

    async def scene() -> None:
        one = Bare(app_state={})
        one.connection_made(mock.Mock(get_extra_info=lambda _: ("127.0.0.1", 1)))
        assert one._head is not None
        one.begin()
        one.connection_lost(None)
        one.answered()
        assert one._head is None
        assert not Bare.book.addresses

    asyncio.run(scene())


# ---- who goes away, and a server that ends
# ----------------------------------------------------------------------------------------------------------------------


class Holding(Here):
    """Verbs that take until they are cancelled. seen: what happened."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    async def call(self, name: str, *arguments: Any, limit_s: Any = None) -> Any:
        self.seen.append(f"{name} begins")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.seen.append(f"{name} stops")
            raise

    def wait_for(self, what: str) -> None:
        until = time.monotonic() + 5
        while what not in self.seen and time.monotonic() < until:
            time.sleep(0.005)
        assert what in self.seen


def model(port: int) -> socket.socket:
    body = b'{"model": "gpt2"}'
    said = b"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: %d" % len(body)
    return connect(port, b"POST /api/model HTTP/1.1\r\n" + said + b"\r\n\r\n" + body)


def test_a_client_that_goes_away_frees_its_place() -> None:
    workers = Holding()
    with serving(workers=workers, at_once=2) as port:
        first, second = model(port), model(port)
        workers.wait_for("model begins")
        assert asked(port, "/api/models")[0] == 429
        first.close()
        time.sleep(0.1)
        assert "model stops" not in workers.seen  # the second waits for the same answer
        second.close()
        workers.wait_for("model stops")
        assert workers.seen == ["model begins", "model stops"]
        listing = connect(port, b"GET /api/models HTTP/1.1\r\nHost: localhost\r\n\r\n")
        workers.wait_for("models begins")
        counted = asked(port, "/metrics")[1].decode()
        assert 'mowich_requests_total{method="POST",route="/api/model",status="499"} 2' in counted
        assert 'mowich_refused_total{why="at once"} 1' in counted
        listing.close()
        workers.wait_for("models stops")


def test_all_files_of_the_page_may_be_asked_for_together() -> None:
    """As a browser does through a proxy that speaks HTTP/2."""
    with serving(at_once=1) as port:
        ask = b"GET /static/main.js HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        many = [connect(port, ask) for _ in range(30)]
        assert {rest(one)[:12] for one in many} == {b"HTTP/1.1 200"}


def test_503_is_the_answer_of_a_server_that_ends() -> None:
    with TestClient(create_app(ServerOptions(warm=False), Here())) as client:
        assert client.get("/health").json()["status"] == "ok"
        assert client.post("/api/model", json={"model": "gpt2"}).status_code == 200
        client.app.state.end()  # type: ignore[attr-defined]
        answer = client.post("/api/model", json={"model": "gpt2"})
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        assert client.get("/health").status_code == 503
        assert client.get("/metrics").status_code == 200


# ---- limits, names, keys
# ----------------------------------------------------------------------------------------------------------------------


def test_a_key_stands_once_in_an_object() -> None:
    with TestClient(create_app(ServerOptions(warm=False), Here())) as client:
        kind = {"content-type": "application/json"}
        for body in (
            '{"model": "gpt2", "model": "gpt2"}',
            '{"model": {"a": 1, "a": 2}}',
            '{"model": "gpt2", "mod\\u0065l": "llama-3.1-8b"}',
        ):
            answer = client.post("/api/model", content=body, headers=kind)
            assert answer.status_code == 400
            assert "stands twice" in answer.json()["errors"][0]["line"]
        assert client.post("/api/model", content='{"model": "gpt2"}', headers=kind).status_code == 200


def loaded(app: Any, *proxies: str) -> Any:
    """What uvicorn calls for a request, where these proxies are trusted."""
    config = server_of(app, ConnectionBook(100, trusted=tuple(map(network, proxies)))).config
    config.load()
    return config.loaded_app


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["127.0.0.1"], "203.0.113.9"),  # no proxy of ours: what it says is not believed
        ("127.0.0.1", ["203.0.113.7"], "127.0.0.1"),  # uvicorn itself would believe it
        ("10.0.0.2", [], "10.0.0.2"),
        ("10.0.0.2", ["203.0.113.7"], "203.0.113.7"),
        ("10.0.0.2", ["203.0.113.7:4711"], "203.0.113.7"),
        ("10.0.0.2", ["1.1.1.1", "2.2.2.2, 203.0.113.7, 10.0.0.3"], "203.0.113.7"),
        ("10.0.0.2", ["nonsense, 203.0.113.7"], "203.0.113.7"),
        ("10.0.0.2", ["203.0.113.7, "], "10.0.0.2"),
        ("10.0.0.2", ["10.0.0.9, 10.0.0.8"], "10.0.0.9"),
        ("10.0.0.2", ["[2001:db8::1]"], "2001:db8::1"),
        ("testclient", ["203.0.113.7"], "testclient"),
    ],
)
def test_only_trusted_proxies_are_believed(
    peer: str, forwarded: list[str], found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["client"][0])

    headers = [(b"x-forwarded-for", line.encode()) for line in forwarded]
    scope = {"type": "http", "client": (peer, 1), "headers": headers, "state": {}}
    for proxies, address in ((("10.0.0.7/8",), found), ((), peer)):
        asyncio.run(loaded(app, *proxies)(dict(scope), None, None))
        assert seen.pop() == address


def test_an_address_is_held_to_its_rate_and_another_is_not() -> None:
    app = create_app(ServerOptions(warm=False, a_minute=3), Here())
    with TestClient(loaded(app, "10.0.0.1"), client=("10.0.0.1", 1)) as proxied:
        a, b = {"x-forwarded-for": "203.0.113.1"}, {"x-forwarded-for": "6.6.6.6, 203.0.113.2"}
        assert [proxied.get("/api/about", headers=a).status_code for _ in range(4)] == [200, 200, 200, 429]
        assert proxied.get("/api/about", headers=b).status_code == 200
        refused = proxied.get("/api/about", headers=a)
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert "3 requests a minute" in refused.json()["errors"][0]["line"]
        assert refused.headers["x-content-type-options"] == "nosniff"
        assert all(proxied.get(path, headers=a).status_code == 200 for path in ("/health", "/metrics") * 5)
    app = create_app(ServerOptions(warm=False, a_minute=3), Here())
    with TestClient(loaded(app, "10.0.0.1"), client=("203.0.113.9", 1)) as direct:
        seen = [direct.get("/api/about", headers={"x-forwarded-for": f"1.1.1.{i}"}).status_code for i in range(4)]
        assert seen == [200, 200, 200, 429]  # it may say what it likes


def test_the_log_has_a_line_a_request_without_what_was_asked() -> None:
    lines: list[str] = []
    app = create_app(ServerOptions(warm=False, log=lines.append), Here())
    with TestClient(loaded(app, "10.0.0.1"), client=("10.0.0.1", 1)) as client:
        client.post("/api/model?token=secret", json={"model": "gpt2"}, headers={"x-forwarded-for": "203.0.113.1"})
        client.get("/nothing")
    assert len(lines) == 2
    assert "secret" not in lines[0]
    assert "gpt2" not in lines[0]
    when, address, method, path, status, size, seconds = lines[0].split()
    assert (address, method, path, status) == ("203.0.113.1", "POST", "/api/model", "200")
    assert when.endswith("Z")
    assert int(size) > 100
    assert float(seconds) < 60
    assert lines[1].split()[1:5] == ["10.0.0.1", "GET", "/nothing", "404"]


def test_metrics_count_routes_and_no_client_makes_new_ones() -> None:
    with TestClient(create_app(ServerOptions(warm=False), Here())) as client:
        for path in ("/api/facts/trn3", "/api/facts/h100", "/nothing/at/all", "/x"):
            client.get(path)
        client.post("/api/model", json={"model": "no-such-model"})
        text = client.get("/metrics").text
    assert 'mowich_requests_total{method="GET",route="/api/facts/{name}",status="200"} 2' in text
    assert 'mowich_requests_total{method="GET",route="other",status="404"} 2' in text
    assert 'mowich_requests_total{method="POST",route="/api/model",status="422"} 1' in text
    assert "no-such-model" not in text
    for name in ("queue_waiting", "refused_total", "stopped_total", "memory_bytes", "cache_bytes", "connections"):
        assert f"# TYPE mowich_{name} " in text


def test_kernels_run_for_no_request_that_was_passed_on() -> None:
    with TestClient(create_app(ServerOptions(warm=False, kernels=True), Here())) as client:
        for header in ("x-forwarded-for", "forwarded", "via", "x-real-ip"):
            answer = client.post(
                "/api/kernel/profile", json={"source": "x", "kernel": "k"}, headers={header: "1.1.1.1"}
            )
            assert answer.status_code == 403
            assert "proxy" in answer.text


# ---- options
# ----------------------------------------------------------------------------------------------------------------------


def web(**given: object) -> known.WebRequest:
    found = known.WEB.read(given, QuestionSource(edge=Edge.OPTION))
    assert isinstance(found, known.WebRequest)
    return found


def test_limits_stand_where_others_may_ask() -> None:
    own = web()
    assert (own.is_exposed, own.client_requests, own.client_rate) == (False, 0, 0)
    for given in ({"host": "0.0.0.0"}, {"trusted_proxy": ["127.0.0.1"]}, {"public_name": ["mowich.example.org"]}):
        open_ = web(**given)
        assert (open_.is_exposed, open_.client_requests, open_.client_rate) == (True, 16, 600)
    chosen = web(host="0.0.0.0", client_requests="4", client_rate="0")
    assert (chosen.client_requests, chosen.client_rate) == (4, 0)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--trusted-proxy", "nginx"], "--trusted-proxy: not an address"),
        (["--public-name", "http://x/"], "--public-name: not the name of a host"),
        (["--kernels", "--host", "0.0.0.0"], "loopback"),
        (["--kernels", "--trusted-proxy", "127.0.0.1"], "behind no proxy"),
        (["--kernels", "--public-name", "x.org"], "behind no proxy"),
        (["--client-rate", "-1"], "--client-rate"),
    ],
)
def test_options_that_do_not_go_are_refused(words: list[str], line: str) -> None:
    refused = CliRunner().invoke(load_verbs(app), ["web", *words])
    assert isinstance(refused.exception, UserError)
    assert line in str(refused.exception)


def test_a_public_name_is_answered_and_no_other() -> None:
    options = ServerOptions(warm=False, hosts=("localhost", "mowich.example.org"))
    with TestClient(create_app(options, Here())) as client:
        for host, status in (("mowich.example.org", 200), ("MOWICH.example.org:443", 200), ("evil.example", 421)):
            assert client.get("/api/about", headers={"host": host}).status_code == status
        from_page = {"host": "mowich.example.org", "origin": "https://mowich.example.org"}
        assert client.post("/api/model", json={"model": "gpt2"}, headers=from_page).status_code == 200
        assert json.loads(client.get("/health", headers={"host": "localhost"}).text)["status"] == "ok"


def test_what_a_kernel_starts_ends_with_it(tmp_path: Any) -> None:
    """Also where the client goes away while it runs."""
    from mowich.web import asks, kernels

    mark = tmp_path / "child"
    source = (
        "import pathlib, subprocess, time\n"
        "child = subprocess.Popen(['sleep', '30'])\n"
        f"pathlib.Path({str(mark)!r}).write_text(str(child.pid))\n"
        "time.sleep(60)\n"
    )
    ask = asks.KernelProfile.model_validate({"source": source, "kernel": "k"})

    async def scene() -> None:
        run = asyncio.create_task(kernels.profile(ask, 60.0))
        while not (mark.exists() and mark.read_text()):
            assert not run.done()
            await asyncio.sleep(0.02)
        run.cancel()
        ended, _ = await asyncio.wait([run], timeout=10)
        assert ended

    asyncio.run(scene())
    until = time.monotonic() + 5
    while _lives(int(mark.read_text())) and time.monotonic() < until:
        time.sleep(0.02)
    assert not _lives(int(mark.read_text()))


def _lives(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked for does not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_request_with_two_lengths_is_the_last_of_its_connection() -> None:
    """Who stands between may read the other length: what follows could be a request of somebody else."""
    head = b"POST /api/model HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 4\r\n"
    chunked = b'Transfer-Encoding: chunked\r\n\r\n10\r\n{"model":"gpt2"}\r\n0\r\n\r\n'
    with serving() as port:
        answer = rest(connect(port, head + chunked + b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        assert answer.startswith(b"HTTP/1.1 400")
        assert answer.count(b"HTTP/1.1 ") == 1
        assert b"says its length once" in answer
        assert b"connection: close" in answer.lower()
