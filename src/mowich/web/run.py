"""Listening: a socket, uvicorn, and the line that says where the page is."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from types import ModuleType

from mowich.errors import UserError
from mowich.web.server import ServerOptions, create_app

_NAMES = ("localhost", "127.0.0.1", "[::1]")


def serve(
    uvicorn: ModuleType,
    *,
    host: str,
    port: int,
    browse: bool,
    kernels: bool,
    workers: int,
    timeout_s: float,
    dirs: tuple[str, ...],
    say: Callable[[str], None],
) -> None:
    """Listen until interrupted. Raises UserError where the address cannot be had."""
    try:
        # with the protocol named, as asyncio turns Nagle's delay off only then: 40 ms of every answer
        listening = socket.socket(
            socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP
        )
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(1024)
    except OSError as error:
        raise UserError(
            f"cannot listen on {host} port {port} ({error.strerror})", field="port", fix="choose another, or --port 0"
        ) from None
    local = (
        host == "localhost" or ipaddress.ip_address(socket.gethostbyname(host) if ":" not in host else host).is_loopback
    )
    shown = f"http://{'[' + host + ']' if ':' in host else host}:{listening.getsockname()[1]}"
    app = create_app(
        ServerOptions(
            dirs=dirs, workers=workers, timeout_s=timeout_s, kernels=kernels, hosts=(*_NAMES, host) if local else ()
        )
    )
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        timeout_keep_alive=15,
        server_header=False,
        date_header=False,
        lifespan="on",
    )
    say(f"mowich web: {shown}   (Ctrl-C ends it)")
    if browse:
        import threading
        import webbrowser

        threading.Timer(0.5, webbrowser.open, (shown,)).start()
    uvicorn.Server(config).run(sockets=[listening])
