"""Listening: a socket, uvicorn, and the line that says where the page is."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from mowich.errors import UserError
from mowich.requests.known import WebRequest
from mowich.web.clients import network
from mowich.web.connections import BACKLOG, IDLE_S, ConnectionBook, most_connections, timed_protocol
from mowich.web.guard import MOST_HEAD_B
from mowich.web.server import ServerOptions, create_app
from mowich.writing import told_unwritable

_NAMES = ("localhost", "127.0.0.1", "[::1]")
ADDRESS_CONNECTIONS = 64
"""Connections of one address at once, where others than the user of this machine may ask."""
SHARE = 8
"""One address may have this part of the queue at most, where others may ask."""
ENDING_S = 10
"""Most seconds for what runs when the server is told to end."""


class _Server(uvicorn.Server):
    """Refuses what waits and what comes as soon as it is told to end; what runs may finish."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.state.end()
        await super().shutdown(sockets)


def serve(
    asked: WebRequest, *, workers: int, say: Callable[[str], None], log: Callable[[str], None] | None = None
) -> None:
    """Listen until interrupted. log: takes a line for each request. Raises UserError where the address cannot be
    had."""
    host, port = asked.host, asked.port
    try:
        # with the protocol named, as asyncio turns Nagle's delay off only then: 40 ms of every answer
        listening = socket.socket(
            socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP
        )
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError as error:
        raise UserError(
            f"cannot listen on {host} port {port} ({error.strerror})", field="port", fix="choose another, or --port 0"
        ) from None
    local = (
        host == "localhost" or ipaddress.ip_address(socket.gethostbyname(host) if ":" not in host else host).is_loopback
    )
    shown = f"http://{'[' + host + ']' if ':' in host else host}:{listening.getsockname()[1]}"
    names = tuple(name.lower() for name in asked.public_name)
    trusted = tuple(network(proxy) for proxy in asked.trusted_proxy)
    book = ConnectionBook(most_connections(), ADDRESS_CONNECTIONS if asked.is_exposed else 0, trusted)
    if asked.links is not None:
        with told_unwritable(field="links", given=str(asked.links)):
            asked.links.mkdir(parents=True, exist_ok=True)
    app = create_app(
        ServerOptions(
            dirs=tuple(str(d.resolve()) for d in asked.dirs),
            workers=workers,
            timeout_s=asked.timeout_s,
            kernels=asked.kernels,
            hosts=(*_NAMES, host, *names) if local or names else (),
            trusted=trusted,
            at_once=asked.client_requests,
            a_minute=asked.client_rate,
            queue=asked.queue,
            share=max(1, asked.queue // SHARE) if asked.is_exposed else None,
            log=log,
            links=asked.links,
        ),
        book=book,
    )
    server = server_of(app, book)
    say(f"mowich web: {shown}   (Ctrl-C ends it)")
    if asked.browse:
        import threading
        import webbrowser

        threading.Timer(0.5, webbrowser.open, (shown,)).start()
    server.run(sockets=[listening])


def server_of(app: FastAPI, book: ConnectionBook) -> uvicorn.Server:
    """What listens for an application, with its connections in `book`."""
    return _Server(
        uvicorn.Config(
            app,
            http=timed_protocol(book),
            ws="none",
            log_level="error",
            access_log=False,
            proxy_headers=False,  # the guard believes the proxies that were named, and no other
            timeout_keep_alive=IDLE_S,
            timeout_graceful_shutdown=ENDING_S,
            h11_max_incomplete_event_size=MOST_HEAD_B,
            backlog=BACKLOG,
            server_header=False,
            date_header=False,
            lifespan="on",
        ),
        app,
    )
