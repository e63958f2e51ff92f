"""The archive's files over HTTP: whole images, cutouts, calibration, directories, S3 objects.

``/ibe/data/spherex/<path>`` and ``/s3/<path>`` answer byte ranges of whole files; cutouts ignore
ranges, as the real service does. Cutouts are compressed for clients that accept it unless the
parameter ``gzip`` says no.
"""

from __future__ import annotations

import hashlib
import html
import json
import math
import re
import struct
import zlib
from functools import partial
from typing import TYPE_CHECKING

from spxflow.demo.cutouts import CutoutError, cutout_window
from spxflow.demo.holdings import Holdings
from spxflow.demo.web import RefusalError, Request, Response, error_page
from spxflow.demo.wholes import Content, ImageContent, KnownContent, Recent
from spxflow.mef.blocks import whole

if TYPE_CHECKING:
    from spxflow.demo.scenario import ArchiveFile

FITS = "image/fits"
LAST_MODIFIED = "Tue, 27 Jan 2026 19:52:50 GMT"
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_KEPT, _KEPT_COMPRESSED = 300_000_000, 100_000_000  # bytes
_LONG_HDU = 1_000_000
_GZIP_START = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_DEFLATE_END = b"\x03\x00"


class ImageService:
    """Everything that is a file of the archive, and the listing of its directories."""

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings
        self._recent = Recent(_KEPT)
        self._compressed = Recent(_KEPT_COMPRESSED)

    def answer(self, request: Request, path: str) -> Response:
        """Answer a request for ``/ibe/data/spherex/`` + ``path``."""
        file = self._holdings.file(path)
        if file is not None and {"CENTER", "SIZE"} & request.parameters.keys():
            return self._cutout(request, file)
        content = self._content(path)
        if content is None:
            raise RefusalError(404, f"The requested URL {request.path} was not found on this server.")
        return ranged(request, content, path)

    def answer_object(self, request: Request, path: str) -> Response:
        """Answer a request for ``/s3/`` + ``path``, with S3's kind of errors."""
        content = self._content(path)
        if content is None:
            error = f"<Error><Code>NoSuchKey</Code><Key>{html.escape(path)}</Key></Error>"
            return Response(f'<?xml version="1.0" encoding="UTF-8"?>\n{error}'.encode(), "application/xml", 404)
        return ranged(request, content, path)

    def answer_listing(self, request: Request, path: str) -> Response:
        """Answer a request for ``/ibe/dir/list/spherex/`` + ``path``: a JSON object a line, sizes left open."""
        prefix = f"{path.strip('/')}/" if path.strip("/") else ""
        children = {name[len(prefix) :].partition("/")[0] for name in self._holdings.paths() if name.startswith(prefix)}
        if not children:
            raise RefusalError(404, f"The requested URL {request.path} was not found on this server.")
        entries = ({"name": child, "last_modified": LAST_MODIFIED, "size": "-"} for child in sorted(children))
        return Response("".join(f"{json.dumps(entry)}\n" for entry in entries).encode(), "application/x-ndjson")

    def _content(self, path: str) -> Content | None:
        """The whole file, ``None`` when there is none."""
        file, product = self._holdings.file(path), self._holdings.calibration(path)
        if file is None and product is None:
            return None
        replacement = self._holdings.replacement(path)
        if replacement is not None:
            return KnownContent(replacement)
        scenario = self._holdings.scenario
        if file is None:
            return KnownContent(self._recent.get(path, scenario.calibration[path].render))
        if file.release == "qr2":
            return ImageContent(scenario, file, self._recent)
        return KnownContent(self._recent.get(path, partial(scenario.render, file)))

    def _cutout(self, request: Request, file: ArchiveFile) -> Response:
        replacement = self._holdings.replacement(file.path)
        if replacement is not None:
            return Response(replacement, FITS)
        try:
            content = self._render_cutout(request, file)
        except CutoutError as error:
            return error_page(400, str(error))
        if request.accepts_gzip and request.get("GZIP", "true").lower() not in ("false", "0", "no"):
            headers = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
            return Response(gzipped(content, self._compressed), FITS, headers=headers)
        return Response(content, FITS)

    def _render_cutout(self, request: Request, file: ArchiveFile) -> bytes:
        scenario = self._holdings.scenario
        p11, p12, p21, p22 = file.exposure.wcs.pc
        window = cutout_window(
            request.get("CENTER"),
            request.get("SIZE"),
            partial(scenario.sky_to_pixel, file),
            file.center,
            math.sqrt(abs(p11 * p22 - p12 * p21)),
        )
        return scenario.render(file, window)


def gzipped(content: bytes, recent: Recent) -> bytes:
    """The content as one gzip stream.

    Long HDUs are compressed once and kept: the PSF is most of a cutout and the same in all of a detector.
    """
    parts = [content[hdu.start : hdu.end] for hdu in whole(content)]
    stream = b"".join(
        recent.get(hashlib.blake2b(part).digest(), partial(_deflated, part))
        if len(part) > _LONG_HDU
        else _deflated(part)
        for part in parts
    )
    return _GZIP_START + stream + _DEFLATE_END + struct.pack("<LL", zlib.crc32(content), len(content) % 2**32)


def _deflated(content: bytes) -> bytes:
    """A piece of a deflate stream that does not refer to what precedes it."""
    compressor = zlib.compressobj(1, wbits=-15)
    return compressor.compress(content) + compressor.flush(zlib.Z_FULL_FLUSH)


def ranged(request: Request, content: Content, path: str) -> Response:
    """A whole file, or the one range of bytes that is asked for."""
    size = content.size
    headers = {
        "Accept-Ranges": "bytes",
        "Last-Modified": LAST_MODIFIED,
        "ETag": f'"{hashlib.blake2b(f"{path}/{size}".encode(), digest_size=16).hexdigest()}"',
    }
    wanted = byte_range(request.headers.get("Range", ""), size)
    if wanted is None:
        return Response(content.read(0, size), FITS, headers=headers)
    start, stop = wanted
    if start >= stop:
        return error_page(416, "Requested Range Not Satisfiable", {"Content-Range": f"bytes */{size}"})
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return Response(content.read(start, stop), FITS, 206, headers)


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """First byte and the one after the last of a ``Range`` header.

    ``None`` when there is none, or none that is understood (several ranges, an end before the
    start): the whole file is the answer then. Empty when it lies behind the end of the file.
    """
    match = _RANGE.fullmatch(header.replace(" ", ""))
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        return max(size - int(match[2]), 0), size
    start = int(match[1])
    last = int(match[2]) if match[2] else size - 1
    return None if match[2] and last < start else (start, min(last + 1, size))
