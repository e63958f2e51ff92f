"""What was asked of the server: a log of requests, and how much of it at a time."""

from __future__ import annotations

import dataclasses
import json
import select
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ALL = "all"
_HUNG_UP = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR
_SETTLING_S = 1.0


@dataclass(frozen=True)
class LoggedRequest:
    """One request and its answer.

    ``status`` is 0 when the connection was cut before an answer; ``bytes_sent`` counts the body as
    far as it was handed to the connection; ``complete`` tells whether that was all of it; ``time``
    is in seconds since the server started.
    """

    method: str
    path: str
    query: str
    kind: str
    status: int
    bytes_sent: int
    complete: bool
    time: float
    seconds: float
    client_port: int
    fault: str | None
    byte_range: str | None


@dataclass(eq=False)
class Connection:
    """An open connection, and what it has been used for.

    ``kinds`` are those of all its requests, ``current`` that of the one in progress.
    """

    socket: socket.socket
    kinds: set[str] = field(default_factory=lambda: {ALL})
    current: str | None = None

    @property
    def is_left(self) -> bool:
        """Whether the client has closed it, which the thread that serves it may not know yet."""
        poll = select.poll()
        try:
            poll.register(self.socket, _HUNG_UP)
        except (OSError, ValueError):
            return True
        return bool(poll.poll(0))


class _Gauge:
    """A number that goes up and down, by kind, and the highest it has been."""

    def __init__(self) -> None:
        self.now: Counter[str] = Counter()
        self.highest: Counter[str] = Counter()

    def add(self, kind: str) -> None:
        self.now[kind] += 1
        self.highest[kind] = max(self.highest[kind], self.now[kind])

    def remove(self, kind: str) -> None:
        self.now[kind] -= 1

    def forget(self) -> None:
        self.highest = Counter({kind: number for kind, number in self.now.items() if number})


class Traffic:
    """Counts connections and requests, and keeps a log; safe to use from many threads."""

    def __init__(self, log: Path | None = None) -> None:
        self._changed = threading.Condition()
        self._start = time.monotonic()
        self._log = None if log is None else open(log, "a", encoding="utf-8", buffering=1)  # noqa: SIM115
        self._open: list[Connection] = []
        self._connections = _Gauge()
        self._in_progress = _Gauge()
        self._attempts: Counter[str] = Counter()
        self._requests: list[LoggedRequest] = []
        self._unlogged = 0

    def now(self) -> float:
        """Seconds since the server started."""
        return time.monotonic() - self._start

    def connected(self, client: socket.socket) -> Connection:
        """A client has connected."""
        connection = Connection(client)
        with self._changed:
            self._drop_left()
            self._open.append(connection)
            self._connections.add(ALL)
        return connection

    def disconnected(self, connection: Connection) -> None:
        """A connection has come to its end."""
        with self._changed:
            self._drop(connection)

    def begin(self, connection: Connection, kind: str) -> None:
        """A request has come."""
        with self._changed:
            self._drop_left()
            self._unlogged += 1
            if connection not in self._open:
                return
            if kind not in connection.kinds:
                connection.kinds.add(kind)
                self._connections.add(kind)
            connection.current = kind
            self._in_progress.add(kind)
            self._in_progress.add(ALL)

    def end(self, connection: Connection, request: LoggedRequest) -> None:
        """A request is done with."""
        with self._changed:
            self._finish(connection)
            self._unlogged -= 1
            self._requests.append(request)
            if self._log is not None:
                self._log.write(json.dumps(dataclasses.asdict(request)) + "\n")
            self._changed.notify_all()

    def _drop_left(self) -> None:
        """Count out what clients have closed: else a client that reconnects seems to hold two."""
        for connection in [connection for connection in self._open if connection.is_left]:
            self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        if connection in self._open:
            self._finish(connection)
            self._open.remove(connection)
            for kind in connection.kinds:
                self._connections.remove(kind)

    def _finish(self, connection: Connection) -> None:
        if connection.current is not None:
            self._in_progress.remove(connection.current)
            self._in_progress.remove(ALL)
            connection.current = None

    def attempt(self, path: str) -> int:
        """How often the path was asked for before."""
        with self._changed:
            self._attempts[path] += 1
            return self._attempts[path] - 1

    def forget_attempts(self) -> None:
        """Let every path's next attempt be its first."""
        with self._changed:
            self._attempts.clear()

    def forget(self) -> None:
        """Start counting anew; what is open or in progress stays so."""
        with self._changed:
            self._settle()
            self._requests.clear()
            self._attempts.clear()
            self._connections.forget()
            self._in_progress.forget()

    def close(self) -> None:
        """End all connections and the log."""
        with self._changed:
            for connection in self._open:
                try:
                    connection.socket.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # closed already
            self._settle()
            if self._log is not None:
                self._log.close()
                self._log = None

    def _settle(self) -> None:
        """Wait a little for requests whose answer is out but whose log entry is not."""
        self._changed.wait_for(lambda: self._unlogged == 0, _SETTLING_S)

    @property
    def requests(self) -> tuple[LoggedRequest, ...]:
        """The log, in the order in which answers ended."""
        with self._changed:
            self._settle()
            return tuple(self._requests)

    def summary(self) -> dict[str, Any]:
        """Counts as a JSON-ready mapping: requests by status and kind, bytes, the most at a time."""
        requests = self.requests
        with self._changed:
            connections, in_progress = dict(self._connections.highest), dict(self._in_progress.highest)
        return {
            "requests": len(requests),
            "by_status": dict(Counter(str(request.status) for request in requests)),
            "by_kind": dict(Counter(request.kind for request in requests)),
            "faults": dict(Counter(request.fault for request in requests if request.fault)),
            "bytes_sent": sum(request.bytes_sent for request in requests),
            "max_connections": connections,
            "max_in_progress": in_progress,
        }
