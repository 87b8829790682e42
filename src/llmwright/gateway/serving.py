"""Running the gateway: one process, uvicorn, an address that is checked before anything starts.

The socket is bound here and handed to uvicorn, so that a port in use is one sentence and not a
log line of the server. Without an API key only this machine is served: an open model on a
network is everyone's model.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from llmwright.core import ConfigurationError
from llmwright.gateway.hangup import Shutdown

GRACE_SECONDS = 5
"""How long answers being written may go on after Ctrl-C."""


def serve(
    app: Starlette,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until Ctrl-C or SIGTERM; answers being written then have `GRACE_SECONDS` to end.

    ``port=0`` takes a free one. ``ready`` is told the address (``http://127.0.0.1:8000/v1``) once
    clients can connect. Raises ``ConfigurationError`` where the address cannot be had, or where
    it is open to other machines and the app asks for no API key.
    """
    if not app.state.has_api_key and not _is_loopback(host):
        raise ConfigurationError(
            f"{host} is open to other machines and no API key is set",
            where="serve",
            fix="set LLMWRIGHT_API_KEY, or serve this machine only, on 127.0.0.1",
        )
    with bind(host, port) as listener:
        if ready is not None:
            bound_host, bound_port = listener.getsockname()[:2]
            shown = f"[{bound_host}]" if ":" in bound_host else bound_host
            ready(f"http://{shown}:{bound_port}/v1")
        server = _Server(
            app.state.served.shutdown,
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                lifespan="off",
                server_header=False,
                timeout_graceful_shutdown=GRACE_SECONDS + 5,
            ),
        )
        try:
            server.run(sockets=[listener])
        except KeyboardInterrupt:
            return  # uvicorn raises it again after its own shutdown; it has done its work


class _Server(uvicorn.Server):
    """Uvicorn, but what is still being answered after the grace is told so and ends by itself,
    where uvicorn would cancel it with a traceback a request."""

    def __init__(self, stopping: Shutdown, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stopping = stopping
        self._urged = False

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().call_later(GRACE_SECONDS, self._stopping.begin)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit and not self._urged:
            # Asked twice: no grace. Uvicorn would now drop the connections, before those still
            # being answered are told why; it does at the third time.
            self._urged = True
            self._stopping.begin()
            return
        super().handle_exit(sig, frame)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket: clients may connect from now on, and wait in line until served."""
    where = f"{host}:{port}"
    if not 0 <= port <= 65535:
        raise ConfigurationError(f"{port} is not a port", where="serve", fix="use 0 to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        raise ConfigurationError(
            "this host is not known", where=where, fix="use 127.0.0.1 or an address of this machine"
        ) from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        what, fix = _REASONS.get(
            error.errno or 0, (f"cannot listen here ({error.strerror})", "choose another address")
        )
        raise ConfigurationError(what, where=where, fix=fix) from error
    return listener


_REASONS = {
    errno.EADDRINUSE: (
        "the port is in use",
        "stop the program that holds it, or choose another with --port",
    ),
    errno.EACCES: ("the port is not yours to open", "choose one above 1023 with --port"),
    errno.EADDRNOTAVAIL: (
        "this machine does not have that address",
        "use 127.0.0.1 or an address of this machine",
    ),
}


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name; what it stands for can change
        return False
