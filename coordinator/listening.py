"""Accepting connections: who may hold how many, counted from the first packet on. What is said on them is not known.

A stranger's connection costs before it says anything: a file descriptor, and memory for TLS while its handshake lasts.
So it counts from the moment that it is accepted. One peer gets at most half of the places that are left: however many
connections a few peers open, there is room for another one.
"""

import asyncio
import contextlib
import errno
import resource
import socket
import ssl
import struct
from asyncio import sslproto
from collections.abc import Callable
from typing import Final

import structlog
from aiohttp import web

from coordinator.peers import peer_of

BACKLOG: Final = 1024
HANDSHAKE_S: Final = 10.0
RESERVED: Final = 128
"""File descriptors for everything but strangers: the ledger, witnesses, vendors, threads, logs."""
TLS_BUFFER: Final = 32 * 1024
"""Bytes that asyncio sets aside for each TLS connection, said or silent; two records fit. Its own figure is 256 KiB."""
_ALWAYS: Final = 16  # of one peer, while there is any place at all
_BATCH: Final = 16  # accepted before others have a turn
_PAUSE_S: Final = 0.1
_FULL: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: no time is spent on closing.
log = structlog.get_logger("coordinator.listening")


class Listener:
    """Listens on one port for *server*.

    Args:
        server: aiohttp's, which makes a handler for each connection.
        bind: The address to listen on; None means all, of IPv4 and IPv6.
        port: 0 for any free one.
        tls: None for plain HTTP.
        most: Connections at a time.
        per_peer: Connections of one peer at a time, if there are as many.

    Raises:
        OSError: The port is taken, or the address is not this machine's.
    """

    def __init__(
        self, server: web.Server, bind: str | None, port: int, tls: ssl.SSLContext | None, *, most: int, per_peer: int
    ) -> None:
        # A class attribute, for there is no argument: thousands of silent connections would take a gigabyte otherwise.
        sslproto.SSLProtocol.max_size = min(sslproto.SSLProtocol.max_size, TLS_BUFFER)
        self._server = server
        self._tls = tls
        self._most = most
        self._per_peer = per_peer
        self._peers: dict[str, int] = {}
        self._held: dict[object, str] = {}
        self._socket = _listen(bind, port)
        self._accepting: asyncio.Task[None] | None = None
        lost = server.connection_lost

        def connection_lost(handler: web.RequestHandler, exc: BaseException | None = None) -> None:
            self._release(handler)
            lost(handler, exc)

        server.connection_lost = connection_lost  # type: ignore[method-assign]

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._socket.getsockname()[1])

    @property
    def held(self) -> int:
        """How many connections there are, handshakes included."""
        return len(self._held)

    def start(self) -> None:
        """Accept from now on, until :meth:`stop`."""
        self._accepting = asyncio.get_running_loop().create_task(self._accept(), name="accept")

    async def stop(self) -> None:
        """Accept no more; connections that stand go on."""
        self._socket.close()
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.wait([self._accepting])

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as handshakes:
            while True:
                for _ in range(_BATCH):
                    try:
                        connection, address = await loop.sock_accept(self._socket)
                    except OSError as error:
                        if error.errno in _FULL:
                            log.warning("no_descriptor", detail=error.strerror)
                            await asyncio.sleep(_PAUSE_S)
                        continue  # Else it was gone before it was accepted.
                    peer = peer_of(str(address[0])) if isinstance(address, tuple) else ""
                    if self._has_room(peer):
                        handler = self._server()
                        self._hold(handler, peer)
                        handshakes.create_task(self._shake(connection, handler))
                    else:
                        with contextlib.suppress(OSError):  # It is gone already.
                            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                        connection.close()
                await asyncio.sleep(0)

    async def _shake(self, connection: socket.socket, handler: web.RequestHandler) -> None:
        """Bring a connection up, or forget it."""
        make: Callable[[], asyncio.BaseProtocol] = lambda: handler  # noqa: E731 - a factory of the one that counts.
        loop = asyncio.get_running_loop()
        try:
            if self._tls is None:
                await loop.connect_accepted_socket(make, connection)
            else:
                await loop.connect_accepted_socket(make, connection, ssl=self._tls, ssl_handshake_timeout=HANDSHAKE_S)
        except (OSError, TimeoutError):  # A handshake that failed, or took too long: ssl's errors are OSErrors.
            self._release(handler)
        except Exception:
            # Whatever a stranger's handshake brought about here: it must not end the task that accepts all others.
            self._release(handler)
            connection.close()
            log.exception("handshake_failed")
        except BaseException:
            self._release(handler)
            raise

    def _has_room(self, peer: str) -> bool:
        left = self._most - len(self._held)
        return left > 0 and self._peers.get(peer, 0) < min(self._per_peer, max(_ALWAYS, left // 2))

    def _hold(self, handler: object, peer: str) -> None:
        self._held[handler] = peer
        self._peers[peer] = self._peers.get(peer, 0) + 1

    def _release(self, handler: object) -> None:
        peer = self._held.pop(handler, None)
        if peer is None:
            return
        if self._peers[peer] == 1:
            del self._peers[peer]
        else:
            self._peers[peer] -= 1


def room_for_connections(wanted: int, ports: int) -> int:
    """Connections that each of *ports* may hold, at most *wanted*, by the process's limit of descriptors.

    The limit is raised as far as the system lets it: the usual one, 1024, is fewer than one stranger can open.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted * ports + RESERVED
    if soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, min(wanted, (soft - RESERVED) // ports))


def _listen(bind: str | None, port: int) -> socket.socket:
    if bind is None and socket.has_dualstack_ipv6():
        found = socket.create_server(("", port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True)
    else:
        family = socket.AF_INET6 if bind is not None and ":" in bind else socket.AF_INET
        found = socket.create_server((bind or "", port), family=family, backlog=BACKLOG)
    found.setblocking(False)
    return found
