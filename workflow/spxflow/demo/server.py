"""The local archive: a simulated sky behind the real archive's protocols, on loopback.

``{url}/TAP``, ``{url}/SIA``, ``{url}/datalink``, ``{url}/ibe/data/spherex/...`` with cutouts,
``{url}/ibe/dir/list/spherex/...`` and, in the place of the S3 bucket, ``{url}/s3/...``. URLs inside
answers carry the real archive's host unless the archive is told to advertise itself; what leads on
within a protocol (jobs, capabilities) carries the address that the client used.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from spxflow.demo import web
from spxflow.demo.catalogue import Catalogue
from spxflow.demo.datalink import DatalinkService
from spxflow.demo.faults import Fault, FaultPlan, without_hdu
from spxflow.demo.holdings import Holdings
from spxflow.demo.images import FITS, ImageService
from spxflow.demo.sia import SiaService
from spxflow.demo.tap import TapService
from spxflow.demo.traffic import LoggedRequest, Traffic
from spxflow.demo.web import Addresses, Limits, RefusalError, Request, Response

if TYPE_CHECKING:
    from spxflow.demo.scenario import Scenario

CONTROL = "/_control"
_CHUNK = 65536
_IDLE_S = 120.0
_IN_FLIGHT = 131072  # sent but not read yet: as on a long way, not megabytes as on loopback


@dataclass(frozen=True)
class Options:
    """How the archive is run.

    Parameters
    ----------
    port
        0: any free one.
    advertise
        Host inside answers: ``irsa``, the real archive's, or ``self``.
    limits
        Rows of query answers.
    join_fails
        Whether geometry on ``s_region`` in a join fails, as it does in the real archive.
    ingested_before
        Only files with a lower ``ingested`` index are there at first; ``None``: all.
    request_log
        File that gets one JSON line a request.
    control
        Whether ``/_control`` is answered.
    """

    port: int = 0
    advertise: str = "irsa"
    limits: Limits = field(default_factory=Limits)
    join_fails: bool = True
    ingested_before: int | None = None
    request_log: Path | None = None
    control: bool = False


class _Server(ThreadingHTTPServer):
    """Threads that end with the process, no name look-ups."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    archive: Archive

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _IN_FLIGHT)
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "localhost", self.server_address[1]


class Archive:
    """A running archive.

    Its content can be changed while it runs: see :attr:`holdings` and :meth:`set_faults`.
    """

    def __init__(self, scenario: Scenario, faults: FaultPlan | None = None, options: Options | None = None) -> None:
        self.options = options or Options()
        self.holdings = Holdings(scenario, self.options.ingested_before)
        self.faults = faults or FaultPlan()
        self.traffic = Traffic(self.options.request_log)
        self._server = _Server(("127.0.0.1", self.options.port), _Handler)
        self._server.archive = self
        self.port: int = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        addresses = Addresses.irsa() if self.options.advertise == "irsa" else Addresses.own(self.url)
        self._routes = self._services(addresses)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def _services(self, addresses: Addresses) -> dict[str, Callable[[Request, str], Response]]:
        """What answers below a path; longer paths first."""
        images = ImageService(self.holdings)
        tap = TapService(Catalogue(self.holdings, addresses), self.options.limits, self.options.join_fails)
        return {
            "/ibe/data/spherex/": images.answer,
            "/ibe/dir/list/spherex": images.answer_listing,
            "/s3/": images.answer_object,
            "/TAP": tap.answer,
            "/SIA": SiaService(self.holdings, addresses, self.options.limits).answer,
            "/datalink": DatalinkService(self.holdings, addresses).answer,
        }

    def answer(self, request: Request) -> Response:
        """The answer to a request, without faults."""
        try:
            if request.path == CONTROL and self.options.control:
                return self._control(request)
            for prefix, service in self._routes.items():
                if request.path.startswith(prefix):
                    return service(request, request.path.removeprefix(prefix))
            raise RefusalError(404, f"The requested URL {request.path} was not found on this server.")
        except RefusalError as refusal:
            return web.error_page(refusal.status, str(refusal))

    def stop(self) -> None:
        """End the server and all its connections."""
        self._server.shutdown()
        self._server.server_close()
        self.traffic.close()
        self._thread.join()

    @property
    def requests(self) -> tuple[LoggedRequest, ...]:
        """All requests so far, in the order in which answers ended."""
        return self.traffic.requests

    def set_faults(self, faults: Mapping[str, Any]) -> None:
        """A new plan of faults, as JSON; attempts count anew."""
        self.faults = FaultPlan.parse(faults)
        self.traffic.forget_attempts()

    def _control(self, request: Request) -> Response:
        """Changes from another process: a JSON object of methods of :class:`Holdings` with their argument, ``faults``
        and ``forget``.

        ``replace`` takes ``{"path": ..., "base64": ...}``; the answer is the traffic so far.
        """
        try:
            changes = json.loads(request.body) if request.body else {}
            self._change(changes)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise RefusalError(400, str(error)) from None
        return Response(json.dumps(self.traffic.summary()).encode(), "application/json")

    def _change(self, changes: Mapping[str, Any]) -> None:
        actions: dict[str, Callable[[Any], None]] = {
            "faults": self.set_faults,
            "publish": self.holdings.publish,
            "hide": self.holdings.hide,
            "show": self.holdings.show,
            "remove": self.holdings.remove,
            "restore": self.holdings.restore,
            "replace": lambda new: self.holdings.replace(new["path"], base64.b64decode(new["base64"])),
            "forget": lambda _: self.traffic.forget(),
        }
        if unknown := set(changes) - set(actions):
            raise ValueError(f"unknown change: {', '.join(sorted(unknown))}; known: {', '.join(actions)}")
        for name, value in changes.items():
            actions[name](value)


@contextmanager
def running(scenario: Scenario, faults: Mapping[str, Any] | None = None, **options: Any) -> Iterator[Archive]:
    """An archive in this process, for the length of the block.

    Parameters
    ----------
    scenario
        A simulated sky.
    faults
        What goes wrong, as the JSON of a plan (:meth:`FaultPlan.parse`).
    options
        Fields of :class:`Options`.
    """
    archive = Archive(scenario, FaultPlan.parse(faults or {}), Options(**options))
    try:
        yield archive
    finally:
        archive.stop()


def kind_of(path: str, query: str) -> str:
    """What sort of request it is, for counts and the log."""
    if path.startswith("/ibe/data/"):
        if "center=" in query.lower() or "size=" in query.lower():
            return "cutout"
        return "image" if "/level2/" in path else "calibration"
    kinds = {"/ibe/dir/": "listing", "/s3/": "s3", "/TAP": "tap", "/SIA": "sia", "/datalink": "datalink"}
    return next((kind for prefix, kind in kinds.items() if path.startswith(prefix)), "other")


class _Handler(BaseHTTPRequestHandler):
    """One connection: reads requests, has them answered, delivers answers well or badly."""

    protocol_version = "HTTP/1.1"
    server_version = "Apache"
    sys_version = ""
    disable_nagle_algorithm = True
    timeout = _IDLE_S
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.traffic = self.server.archive.traffic
        self.open_connection = self.traffic.connected(self.connection)

    def finish(self) -> None:
        self.traffic.disconnected(self.open_connection)
        super().finish()

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: :class:`Traffic` keeps the log."""

    def _serve(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        self.status, self.bytes_sent, self.complete = 0, 0, False
        if path == CONTROL:
            self._answer(self._read_request(path, url.query), None)
            return
        kind = kind_of(path, url.query)
        started = self.traffic.now()
        self.traffic.begin(self.open_connection, kind)
        fault = None
        try:
            request = self._read_request(path, url.query)
            plan = self.server.archive.faults
            fault = plan.fault(path, self.traffic.attempt(path))
            time.sleep(plan.latency_s)
            self._answer(request, fault)
        except ConnectionError:
            self.close_connection = True
        finally:
            entry = LoggedRequest(
                method=self.command,
                path=path,
                query=url.query,
                kind=kind,
                status=self.status,
                bytes_sent=self.bytes_sent,
                complete=self.complete,
                time=started,
                seconds=self.traffic.now() - started,
                client_port=self.client_address[1],
                fault=None if fault is None else fault.kind,
                byte_range=self.headers.get("Range"),
            )
            self.traffic.end(self.open_connection, entry)

    do_GET = do_HEAD = do_POST = do_DELETE = _serve  # noqa: N815

    def _read_request(self, path: str, query: str) -> Request:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        content_type = self.headers.get("Content-Type", "")
        parameters = web.parse_parameters(query)
        uploads: dict[str, bytes] = {}
        if content_type.startswith("multipart/form-data"):
            form, uploads = web.parse_multipart(content_type, body)
            parameters |= form
        elif content_type.startswith("application/x-www-form-urlencoded"):
            parameters |= web.parse_parameters(body.decode("utf-8", "replace"))
        host = self.headers.get("Host") or f"127.0.0.1:{self.server.server_port}"
        return Request(self.command, path, self.headers, f"http://{host}", parameters, uploads, body)

    def _answer(self, request: Request, fault: Fault | None) -> None:
        archive = self.server.archive
        if fault is not None and fault.kind == "reset" and fault.sent_fraction == 0.0:
            self._reset()
            return
        response = None if fault is None else fault.replacement(request.path)
        if response is None:
            spoilt = fault is not None and fault.kind == "missing_hdu"
            try:
                response = archive.answer(replace(request, headers={}) if spoilt else request)
            except Exception:
                traceback.print_exc()
                response = web.error_page(500, "the local archive failed; see its standard error")
            if fault is not None and spoilt and response.content_type == FITS:
                response = replace(response, body=without_hdu(response.body, fault.hdu))
        self._deliver(response, fault)

    def _deliver(self, response: Response, fault: Fault | None) -> None:
        """Send an answer, with what the fault does to its delivery."""
        self.status = response.status
        self.send_response(response.status)
        self.send_header("Content-Type", response.content_type)
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        body = b"" if self.command == "HEAD" else response.body
        rate = self.server.archive.faults.bytes_per_s
        if fault is None:
            self._send(body, rate)
        else:
            cut = int(len(body) * fault.sent_fraction)
            self._send(body[:cut], fault.bytes_per_s if fault.kind == "drip" else rate)
            if fault.kind == "reset":
                self._reset()
                return
            if fault.kind == "truncated":
                self.close_connection = True
                return
            if fault.kind == "stall":
                time.sleep(fault.seconds)
                self._send(body[cut:], rate)
        self.complete = True

    def _send(self, content: bytes, bytes_per_s: float | None) -> None:
        """Send in pieces, no faster than the rate."""
        view = memoryview(content)
        piece = _CHUNK if bytes_per_s is None else max(1, min(_CHUNK, int(bytes_per_s * 0.05)))
        started = time.monotonic()
        for offset in range(0, len(view), piece):
            if bytes_per_s is not None:
                time.sleep(max(0.0, started + offset / bytes_per_s - time.monotonic()))
            sent = view[offset : offset + piece]
            self.connection.sendall(sent)
            self.bytes_sent += len(sent)

    def _reset(self) -> None:
        """Close the connection so that the client sees a reset, not an end."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())
