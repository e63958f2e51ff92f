"""One way to ask a query service: bounded answers, patience with faults that pass, the configured host only."""

from __future__ import annotations

import functools
import io
import re
from typing import Any
from urllib.parse import urljoin

import requests
from requests.adapters import HTTPAdapter

import spxflow
from spxflow.archive.errors import one_line
from spxflow.archive.settings import ArchiveSettings
from spxflow.archive.urls import moved_url
from spxflow.retries import Backoff, passes, retry_after_s, unless_stopped, wait

_CHUNK = 1 << 18
_REDIRECTIONS = 5
_DECLARATION = re.compile(rb"<!\s*(DOCTYPE(?!\s+html)|ENTITY)", re.IGNORECASE)
_PAGE = re.compile(rb"\s*<(!doctype\s+html|html)\b", re.IGNORECASE)
_LONGEST_WAIT_S = 60.0
_LONGEST_RETRY_AFTER_S = 600.0


class RefusedAnswerError(requests.RequestException):
    """An answer that is not used: too large, XML that declares entities, or a page instead of data."""


class BareSession(requests.Session):
    """Session that says who asks, keeps to some connections to a host, and leaves redirections to its user."""

    def __init__(self, connections: int, adapter: type[HTTPAdapter] = HTTPAdapter) -> None:
        super().__init__()
        self.headers["User-Agent"] = f"spxflow/{spxflow.__version__} python-requests/{requests.__version__}"
        for scheme in ("https://", "http://"):
            self.mount(scheme, adapter(pool_maxsize=connections, pool_block=True))

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None: a session that follows redirections reads their bodies, however long they are."""


class QuerySession(BareSession):
    """Session for query services, for :mod:`pyvo` too.

    Answers are read whole, up to ``max_answer_mb``, and asked for again when they are cut off or tell of a fault that
    passes; silence until ``timeout_s`` is final. XML that declares entities is refused. Addresses on the IRSA host
    go to the configured archive, those on other hosts are refused.

    Parameters
    ----------
    settings
        Patience, limits, and the archive's address.
    elsewhere
        The service asked is not the archive's: addresses stay as they are.
    """

    def __init__(self, settings: ArchiveSettings, elsewhere: bool = False) -> None:
        super().__init__(settings.connections)
        self._settings = settings
        self._elsewhere = elsewhere
        self._backoff = Backoff(settings.retry_wait_s, _LONGEST_WAIT_S)

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
        """One request, repeated while its fault is one that passes; the answer is in memory when this returns."""
        if kwargs.get("timeout") is None:
            kwargs["timeout"] = (min(30.0, self._settings.timeout_s), self._settings.timeout_s)
        kwargs["stream"] = True
        if kwargs.get("files"):  # streams, which a second try would find at their end
            kwargs["files"] = {name: stream.read() for name, stream in kwargs["files"].items()}
        url = self._moved(str(url))
        for faults in range(1, self._settings.retries + 2):
            last = faults > self._settings.retries
            wait_s = None
            try:
                response = self._ask(method, url, *args, **kwargs)
            except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
                if last or isinstance(error, requests.Timeout):
                    raise
            else:
                wait_s = retry_after_s(response.headers)
                if last or not passes(response.status_code) or (wait_s or 0.0) > _LONGEST_RETRY_AFTER_S:
                    return response
            wait(self._backoff.wait_s(faults) if wait_s is None else wait_s)
        raise AssertionError("unreachable")

    def _ask(self, method: str | bytes, url: str, *args: Any, **kwargs: Any) -> requests.Response:
        for _ in range(_REDIRECTIONS):
            response = unless_stopped(functools.partial(self._ask_once, method, url, *args, **kwargs))
            if not response.is_redirect or kwargs.get("allow_redirects") is False:
                return response
            url = self._moved(_target(response))
            if response.status_code in (301, 302, 303):
                method, args, kwargs = "GET", (), {"timeout": kwargs["timeout"], "stream": True}
        raise requests.TooManyRedirects(f"redirected more than {_REDIRECTIONS} times", response=response)

    def _ask_once(self, method: str | bytes, url: str, *args: Any, **kwargs: Any) -> requests.Response:
        with super().request(method, url, *args, **kwargs) as response:
            content = self._bounded(response)
        if response.ok and _PAGE.match(content):
            raise RefusedAnswerError(
                f"the answer is a page, not data ({one_line(content[:2000].decode(errors='replace'), 80)});"
                " is the address right, and the service not under maintenance?"
            )
        response._content = content
        response._content_consumed = True  # type: ignore[attr-defined]
        response.raw = _Content(content)
        return response

    def _moved(self, url: str) -> str:
        if self._elsewhere:
            return url
        try:
            return moved_url(url, self._settings.url)
        except ValueError as error:
            raise requests.exceptions.InvalidURL(str(error)) from error

    def _bounded(self, response: requests.Response) -> bytes:
        limit = int(self._settings.max_answer_mb * 1e6)
        pieces: list[bytes] = []
        size = 0
        for piece in response.iter_content(_CHUNK):
            size += len(piece)
            if size > limit:
                raise RefusedAnswerError(f"the answer is larger than {limit} bytes (archive.max_answer_mb)")
            pieces.append(piece)
        content = b"".join(pieces)
        if b"\0" in content[:4] or _DECLARATION.search(content):
            raise RefusedAnswerError("the answer is XML in UTF-16 or declares entities")
        return content


def _target(response: requests.Response) -> str:
    """Where a redirection leads."""
    try:
        return urljoin(response.url, response.headers["Location"])
    except ValueError as error:
        raise requests.exceptions.InvalidURL(f"redirected to no address: {error}") from error


class _Content(io.BytesIO):
    """A body in memory that is read like the body of an open answer."""

    def read(self, size: int | None = -1, decode_content: bool = False) -> bytes:
        return super().read(-1 if size is None else size)
