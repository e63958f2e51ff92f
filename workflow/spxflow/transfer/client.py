"""One pooled HTTP client a process: few connections, kept alive, with patience for faults that pass."""

from __future__ import annotations

import hashlib
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urljoin, urlsplit

from spxflow import workers
from spxflow.archive.errors import one_line, reason
from spxflow.archive.urls import moved_url
from spxflow.retries import Backoff, go_on, passes, retry_after_s, unless_stopped, wait
from spxflow.transfer.faults import INVALID_FILE, TransferFault
from spxflow.transfer.settings import TransferSettings

if TYPE_CHECKING:
    import requests

_T = TypeVar("_T")

_CHUNK = 1 << 16
_ERROR_PAGE = 4096
_REDIRECTIONS = 3
_SAME_ANSWERS = 3
_RECEIVE_BUFFER = 1 << 15


@dataclass
class Tally:
    """What was asked and received for one file, all tries together."""

    requests: int = 0
    received_bytes: int = 0


class Body:
    """The body of an answer while it arrives.

    Parameters
    ----------
    response
        Open answer.
    tally
        Where received bytes are counted.
    settings
        Patience and the largest size.
    """

    def __init__(self, response: requests.Response, tally: Tally, settings: TransferSettings) -> None:
        self.headers = response.headers
        self.status = response.status_code
        self.length = _content_length(response.headers)
        self.received = 0
        self._raw = response.raw
        self._tally = tally
        self._settings = settings
        self._limit = int(settings.max_file_mb * 1e6)
        self._begin = time.monotonic()
        if self.length is not None and self.length > self._limit:
            raise self._too_large(self.length)

    def read(self, size: int = _CHUNK) -> bytes:
        """The next bytes, at most so many; empty at the end.

        Raises
        ------
        TransferFault
            When the connection breaks, the answer ends before its length, is too slow or too large.
        """
        from urllib3.exceptions import HTTPError, IncompleteRead

        go_on()
        try:
            piece = self._raw.read1(size, decode_content=False)
        except (HTTPError, OSError) as error:
            if isinstance(error, IncompleteRead) or isinstance(error.__cause__, IncompleteRead):
                raise self._cut_off() from error
            raise TransferFault(f"the connection broke after {self.received} bytes: {_named(error)}") from error
        self.received += len(piece)
        self._tally.received_bytes += len(piece)
        if self.received > self._limit:
            raise self._too_large(self.received)
        if not piece and self.length is not None and self.received < self.length:
            raise self._cut_off()
        self._refuse_crawl()
        return piece

    def _refuse_crawl(self) -> None:
        seconds = time.monotonic() - self._begin
        least = self._settings.min_rate_kb_s * 1e3 * seconds
        if seconds > self._settings.timeout_s and self.received < least:
            raise TransferFault(f"the answer is too slow: {self.received} bytes in {seconds:.0f} s")

    def _cut_off(self) -> TransferFault:
        of_length = f" of {self.length}" if self.length is not None else ""
        return TransferFault(f"the answer was cut off after {self.received}{of_length} bytes")

    def _too_large(self, size: int) -> TransferFault:
        reason = f"the answer is larger than download.max_file_mb, {self._settings.max_file_mb:g}: {size} bytes"
        return TransferFault(reason, INVALID_FILE, passes=False)


def read_exactly(read: Callable[[int], bytes], size: int) -> bytes:
    """So many bytes from what gives them by pieces, fewer only at the end."""
    pieces = []
    while size > 0 and (piece := read(min(size, _CHUNK))):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def write_pieces(path: Path, pieces: Iterable[bytes]) -> tuple[str, int]:
    """Write a file as its pieces arrive; its SHA-256 and size."""
    digest = hashlib.sha256()
    size = 0
    with open(path, "wb") as stream:
        for piece in pieces:
            stream.write(piece)
            digest.update(piece)
            size += len(piece)
    return digest.hexdigest(), size


class HttpClient:
    """Asks for files with at most ``settings.connections`` connections to a host at any time.

    Safe for many threads. A host that asks for a pause (``Retry-After``) gets it from all of them.
    """

    def __init__(self, settings: TransferSettings) -> None:
        self._settings = settings
        self._backoff = Backoff(settings.retry_wait_s, settings.retry_wait_max_s)
        self._hosts = {urlsplit(settings.archive_url).netloc, urlsplit(settings.s3_url).netloc}
        self._quiet_until: dict[str, float] = {}
        self._silences: dict[str, int] = {}
        self._session = _session(settings)

    def get(
        self,
        url: str,
        use: Callable[[Body], _T],
        tally: Tally | None = None,
        headers: Mapping[str, str] | None = None,
        statuses: tuple[int, ...] = (200,),
    ) -> _T:
        """What ``use`` makes of the answer; asked for again while a fault is one that passes.

        Parameters
        ----------
        url
            Address on one of the archive's hosts.
        use
            Takes the open body of an answer; may leave it before its end, or raise :class:`TransferFault`.
        tally
            Where requests and received bytes are counted.
        headers
            Of the request, added to the usual ones.
        statuses
            HTTP statuses of answers that are used.

        Raises
        ------
        TransferFault
            The last fault, when all tries are used up or it is not one that passes.
        StoppedError
            When this process is told to stop before the answer is there.
        """
        tally = tally if tally is not None else Tally()
        seen: Counter[str] = Counter()
        faults = 0
        while True:
            self._keep_quiet(url)
            try:
                return unless_stopped(lambda: self._try(url, use, tally, headers, statuses))
            except TransferFault as fault:
                faults += 1
                if fault.wait_s is not None:
                    self._ask_for_quiet(url, fault.wait_s)
                if fault.fingerprint is not None:
                    seen[fault.fingerprint] += 1
                if not fault.passes or faults > self._retries(url) or max(seen.values(), default=0) >= _SAME_ANSWERS:
                    raise
                wait(self._backoff.wait_s(faults))

    def read(self, url: str, limit: int) -> bytes:
        """The whole of a small answer, at most ``limit`` bytes."""

        def whole(body: Body) -> bytes:
            content = read_exactly(body.read, limit + 1)
            if len(content) > limit:
                raise TransferFault(f"the answer is larger than {limit} bytes", passes=False)
            return content

        return self.get(url, whole)

    def _try(
        self,
        url: str,
        use: Callable[[Body], _T],
        tally: Tally,
        headers: Mapping[str, str] | None,
        statuses: tuple[int, ...],
    ) -> _T:
        for _ in range(_REDIRECTIONS + 1):
            with self._open(url, tally, headers) as response:
                target = response.headers.get("Location") if response.is_redirect else None
                if target is None:
                    body = Body(response, tally, self._settings)
                    if body.status not in statuses:
                        raise self._refusal(body)
                    return use(body)
            url = self._redirected(url, target)
        raise TransferFault(f"redirected more than {_REDIRECTIONS} times")

    def _open(self, url: str, tally: Tally, headers: Mapping[str, str] | None) -> requests.Response:
        """An answer, whose connection goes back to the pool when it is closed: of use again if read to its end."""
        import requests

        tally.requests += 1
        timeout = (self._settings.connect_timeout_s, self._settings.timeout_s)
        host = urlsplit(url).netloc
        try:
            response = self._session.get(
                url, headers=dict(headers or {}), stream=True, allow_redirects=False, timeout=timeout
            )
        except requests.RequestException as error:
            self._silences[host] = self._silences.get(host, 0) + 1
            raise TransferFault(f"{host}: {reason(error)}") from error
        self._silences[host] = 0
        return response

    def _retries(self, url: str) -> int:
        """Tries left after a fault: none at a host that has long been silent, so that an outage ends soon."""
        silences = self._silences.get(urlsplit(url).netloc, 0)
        return 0 if silences > self._settings.retries * self._settings.connections else self._settings.retries

    def _redirected(self, url: str, target: str) -> str:
        try:
            target = urljoin(url, target)
            if urlsplit(target).netloc in self._hosts:
                return target
            return moved_url(target, self._settings.archive_url)
        except ValueError as error:
            raise TransferFault(f"redirected elsewhere: {error}", passes=False) from error

    def _refusal(self, body: Body) -> TransferFault:
        try:
            page = one_line(read_exactly(body.read, _ERROR_PAGE).decode("latin-1"), 160)
        except TransferFault:
            page = ""
        wait_s = retry_after_s(body.headers)
        reason = f"HTTP status {body.status}" + (f": {page}" if page else "")
        return TransferFault(reason, passes=passes(body.status), wait_s=wait_s)

    def _ask_for_quiet(self, url: str, wait_s: float) -> None:
        host = urlsplit(url).netloc
        self._quiet_until[host] = max(self._quiet_until.get(host, 0.0), time.monotonic() + wait_s)

    def _keep_quiet(self, url: str) -> None:
        host = urlsplit(url).netloc
        while (left_s := self._quiet_until.get(host, 0.0) - time.monotonic()) > 0.0:
            if left_s > self._settings.retry_after_max_s:
                raise TransferFault(f"{host} asks to be left alone for another {left_s:.0f} s", passes=False)
            wait(left_s)


def _session(settings: TransferSettings) -> requests.Session:
    """Session with the client's connections, for files as they are."""
    from requests.adapters import HTTPAdapter

    from spxflow.archive.session import BareSession

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, socket_options=_socket_options(settings), **kwargs)

    session = BareSession(settings.connections, Adapter)
    session.headers["Accept-Encoding"] = "identity"
    return session


def _socket_options(settings: TransferSettings) -> list[tuple[int, int, int]]:
    options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    if settings.mode == "slim" and settings.slim_from == "cutout":
        # what the archive may send ahead of an answer that is left before its end
        options.append((socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER))
    return options


def _content_length(headers: Mapping[str, str]) -> int | None:
    text = headers.get("Content-Length", "")
    return int(text) if text.isdigit() else None


def _named(error: BaseException) -> str:
    """An error of the network in few words: the innermost one."""
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__ or error
    return one_line(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__, 120)


@workers.shared
def http_client(settings: TransferSettings) -> HttpClient:
    """The client of this process for these settings."""
    return HttpClient(settings)
