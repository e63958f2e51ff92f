"""A request as the services see it, and their answer to it."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP
from http.client import responses
from urllib.parse import parse_qsl, quote

IRSA = "https://irsa.ipac.caltech.edu"
BUCKET = "nasa-irsa-spherex"
REGION = "us-east-1"

VOTABLE = "application/x-votable+xml"


@dataclass(frozen=True)
class Request:
    """One request: parameter names in upper case, each with all its values in order.

    ``path`` is decoded and starts with a slash, ``own_url`` is the address the client used
    (``http://127.0.0.1:port``), ``uploads`` maps the names of multipart files to their content.
    """

    method: str
    path: str
    headers: Mapping[str, str] | Message
    own_url: str
    parameters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    uploads: Mapping[str, bytes] = field(default_factory=dict)
    body: bytes = b""

    def get(self, name: str, default: str = "") -> str:
        """The last value given for a parameter."""
        return self.parameters.get(name, (default,))[-1]

    def get_all(self, name: str) -> tuple[str, ...]:
        return self.parameters.get(name, ())

    @property
    def accepts_gzip(self) -> bool:
        return "gzip" in self.headers.get("Accept-Encoding", "").lower()


@dataclass(frozen=True)
class Response:
    """Status, body and headers (without ``Content-Length``, which follows from the body)."""

    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class RefusalError(Exception):
    """A request that is answered with an error page."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def xml(text: str) -> Response:
    """An XML document, of which the text is the root element."""
    return Response(f'<?xml version="1.0" encoding="UTF-8"?>{text}'.encode(), "text/xml; charset=utf-8")


def error_page(status: int, message: str = "", headers: Mapping[str, str] | None = None) -> Response:
    """An error as the archive's web servers answer it: a small HTML page."""
    phrase = responses.get(status, "Error")
    page = (
        '<!DOCTYPE HTML PUBLIC "-//IETF//DTD HTML 2.0//EN">\n'
        f"<html><head>\n<title>{status} {phrase}</title>\n</head><body>\n<h1>{phrase}</h1>\n"
        f"<p>{html.escape(message)}</p>\n</body></html>\n"
    )
    return Response(page.encode(), "text/html; charset=iso-8859-1", status, dict(headers or {}))


def parse_parameters(query: str) -> dict[str, tuple[str, ...]]:
    """Parameters of a query string or form, names in upper case."""
    parameters: dict[str, tuple[str, ...]] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        parameters[name.upper()] = (*parameters.get(name.upper(), ()), value)
    return parameters


def parse_multipart(content_type: str, body: bytes) -> tuple[dict[str, tuple[str, ...]], dict[str, bytes]]:
    """Parameters and files of a ``multipart/form-data`` body."""
    message = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    parameters: dict[str, tuple[str, ...]] = {}
    uploads: dict[str, bytes] = {}
    for part in message.iter_parts():
        name = str(part.get_param("name", "", header="content-disposition"))
        content = part.get_payload(decode=True)
        if not isinstance(content, bytes):
            continue
        if part.get_filename() is None:
            parameters[name.upper()] = (*parameters.get(name.upper(), ()), content.decode())
        else:
            uploads[name] = content
    return parameters, uploads


@dataclass(frozen=True)
class Addresses:
    """Hosts that appear inside answers: the archive's web server and its S3 bucket."""

    web: str
    s3: str

    @classmethod
    def irsa(cls) -> Addresses:
        """As in the real archive's answers."""
        return cls(IRSA, f"https://{BUCKET}.s3.{REGION}.amazonaws.com")

    @classmethod
    def own(cls, url: str) -> Addresses:
        """Everything on this server."""
        return cls(url, f"{url}/s3")

    def image(self, path: str) -> str:
        return f"{self.web}/ibe/data/spherex/{path}"

    def object(self, path: str) -> str:
        return f"{self.s3}/{path}"

    def datalink(self, publisher_did: str) -> str:
        return f"{self.web}/datalink/links/spherex?ID={quote(publisher_did, safe=':/')}"


@dataclass(frozen=True)
class Limits:
    """Rows an answer has at most: when the client does not say, and whatever it says."""

    default: int | None = None
    hard: int | None = None

    def rows(self, asked: str) -> int | None:
        """The limit of a request that says ``MAXREC=asked``."""
        if not asked:
            limits = [self.default, self.hard]
        elif asked.isdigit():
            limits = [int(asked), self.hard]
        else:
            raise ValueError(f"MAXREC takes a number of rows, not {asked[:40]!r}")
        return min((limit for limit in limits if limit is not None), default=None)
