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
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from spxflow.demo import web
from spxflow.demo.catalogue import Catalogue
from spxflow.demo.datalink import DatalinkService
from spxflow.demo.faults import Fault, FaultPlan, without_hdu
from spxflow.demo.holdings import Holdings, Scenario
from spxflow.demo.images import FITS, ImageService
from spxflow.demo.sia import SiaService
from spxflow.demo.tap import TapService
from spxflow.demo.traffic import LoggedRequest, Traffic
from spxflow.demo.web import Addresses, Limits, RefusalError, Request, Response

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
    verbose
        Whether requests are reported on standard error.
    """

    port: int = 0
    advertise: str = "irsa"
    limits: Limits = field(default_factory=Limits)
    join_fails: bool = True
    ingested_before: int | None = None
    request_log: Path | None = None
    control: bool = False
    verbose: bool = False

    def __post_init__(self) -> None:
        if self.advertise not in ("irsa", "self"):
            raise ValueError(f"advertise takes irsa or self, not {self.advertise!r}")


class _Server(ThreadingHTTPServer):
    """Threads that end with the process, no name look-ups, no noise about clients that leave."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    archive: Archive

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _IN_FLIGHT)
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "localhost", self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        traceback.print_exc()


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

    def set_faults(self, faults: FaultPlan | Mapping[str, Any]) -> None:
        """A new plan of faults; attempts count anew."""
        self.faults = faults if isinstance(faults, FaultPlan) else FaultPlan.parse(faults)
        self.traffic.forget_attempts()

    def publish(self, ingested_before: int | None) -> None:
        """Show the files whose ``ingested`` index is below this; ``None``: all."""
        self.holdings.publish(ingested_before)

    def hide(self, paths: Iterable[str]) -> None:
        """Take files out of listings and storage, as if they had never been ingested."""
        self.holdings.hide(paths)

    def show(self, paths: Iterable[str]) -> None:
        """Undo :meth:`hide`."""
        self.holdings.show(paths)

    def remove(self, path: str) -> None:
        """Lose a file: still listed, no longer there."""
        self.holdings.remove(path)

    def replace(self, path: str, content: bytes) -> None:
        """Answer requests for a file, whole or cutout, with this content."""
        self.holdings.replace(path, content)

    def restore(self, path: str) -> None:
        """Undo :meth:`remove` and :meth:`replace`."""
        self.holdings.restore(path)

    def _control(self, request: Request) -> Response:
        """Changes from another process, a JSON object of methods above with their argument.

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
            "publish": self.publish,
            "hide": self.hide,
            "show": self.show,
            "remove": self.remove,
            "restore": self.restore,
            "replace": lambda new: self.replace(new["path"], base64.b64decode(new["base64"])),
            "forget": lambda _: self.traffic.forget(),
        }
        if unknown := set(changes) - set(actions):
            raise ValueError(f"unknown change: {', '.join(sorted(unknown))}; known: {', '.join(actions)}")
        for name, value in changes.items():
            actions[name](value)


@contextmanager
def running(
    scenario: Scenario | str, faults: FaultPlan | Mapping[str, Any] | None = None, **options: Any
) -> Iterator[Archive]:
    """An archive in this process, for the length of the block.

    Parameters
    ----------
    scenario
        A simulated sky, or its name.
    faults
        What goes wrong, as a plan or as its JSON (:meth:`FaultPlan.parse`).
    options
        Fields of :class:`Options`.
    """
    from spxflow.demo.scenario import load

    plan = FaultPlan.parse(faults) if isinstance(faults, Mapping) else faults
    archive = Archive(load(scenario) if isinstance(scenario, str) else scenario, plan, Options(**options))
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
        if self.server.archive.options.verbose:
            super().log_message(format, *args)

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def _serve(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        self.status, self.bytes_sent, self.complete = 0, 0, False
        if path == CONTROL:
            self._answer(self._read_request(path, url.query), None)
            return
        kind = kind_of(path, url.query)
        started = self.traffic.now()
        concurrency = self.traffic.begin(self.open_connection, kind)
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
                concurrency=concurrency,
                fault=None if fault is None else fault.kind,
                byte_range=self.headers.get("Range"),
            )
            self.traffic.end(self.open_connection, entry)

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
        return Request(self.command, path, query, self.headers, f"http://{host}", parameters, uploads, body)

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
        kind = None if fault is None else fault.kind
        if fault is None or kind not in ("reset", "truncated", "stall", "drip"):
            self._send(body, rate)
        elif kind == "drip":
            self._send(body, fault.bytes_per_s)
        else:
            cut = int(len(body) * fault.sent_fraction)
            self._send(body[:cut], rate)
            if kind == "reset":
                self._reset()
                return
            if kind == "truncated":
                self.close_connection = True
                return
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
