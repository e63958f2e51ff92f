"""Slim files from whole images by byte ranges: headers, then the rows of the window, nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from spxflow import mef
from spxflow.mef.blocks import BLOCK
from spxflow.mef.calibration import DETECTOR_SIZE
from spxflow.mef.header import Header
from spxflow.mef.layout import Hdu
from spxflow.mef.pixels import Window, plane_shape, read_flags
from spxflow.mef.wcs import read_wcs
from spxflow.transfer.cards import uncompressed_header, window_header, with_values
from spxflow.transfer.check import cutout_window
from spxflow.transfer.client import Body, HttpClient, Tally, read_exactly
from spxflow.transfer.faults import INVALID_FILE, TransferFault
from spxflow.transfer.settings import CutoutSize
from spxflow.transfer.slim import PLANES, PsfMark, psf_mark

_FIRST_HEADERS = 10 * BLOCK  # PRIMARY and, of the usual length, IMAGE (facts 1.1)
_HEADER = 6 * BLOCK
_MORE_HEADER = 10 * BLOCK


class NoRangesError(TransferFault):
    """The server, or the layout of the file, does not let parts be read."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, passes=False)


@dataclass(frozen=True)
class RemoteFile:
    """A file of which parts are read.

    Attributes
    ----------
    gap
        Bytes between two wanted parts that are read with them rather than left out.
    """

    url: str
    client: HttpClient
    tally: Tally
    gap: int

    def read(self, start: int, size: int) -> bytes:
        """The bytes from ``start``, fewer than ``size`` only at the end of the file."""

        def use(body: Body) -> bytes:
            if body.status != 206:
                raise NoRangesError(f"{self.url} is not served by byte ranges")
            if not body.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                raise TransferFault("the answer is of another byte range")
            return read_exactly(body.read, size)

        byte_range = {"Range": f"bytes={start}-{start + size - 1}"}
        return self.client.get(self.url, use, self.tally, byte_range, statuses=(200, 206))

    def read_parts(self, starts: list[int], size: int) -> bytes:
        """Parts of one size, joined; they are in ascending order."""
        return b"".join(self._read_run(run, size) for run in _runs(starts, size, self.gap))

    def _read_run(self, starts: list[int], size: int) -> bytes:
        content = self.read(starts[0], starts[-1] + size - starts[0])
        parts = [content[start - starts[0] : start - starts[0] + size] for start in starts]
        if len(parts[-1]) != size:
            raise TransferFault("the file ends before its pixels do", INVALID_FILE, passes=False)
        return b"".join(parts)


def _runs(starts: list[int], size: int, gap: int) -> Iterator[list[int]]:
    run: list[int] = []
    for start in starts:
        if run and start - (run[-1] + size) > gap:
            yield run
            run = []
        run.append(start)
    if run:
        yield run


def read_window(
    file: RemoteFile, center: tuple[float, float], size: CutoutSize, with_psf_mark: bool
) -> tuple[bytes, PsfMark | None]:
    """A slim file of the window that the cutout service would give, and the mark of the PSF if asked for.

    Parameters
    ----------
    file
        Whole image.
    center, size
        Cutout: centre (ICRS, degrees) and size.

    Raises
    ------
    TransferFault
        When the image does not show the window, is not a Level-2 file, or cannot be read by parts.
    """
    try:
        return _read_window(file, center, size, with_psf_mark)
    except mef.InvalidFile as error:
        raise TransferFault(error.reason, INVALID_FILE, passes=False) from error


def _read_window(
    file: RemoteFile, center: tuple[float, float], size: CutoutSize, with_psf_mark: bool
) -> tuple[bytes, PsfMark | None]:
    beginning = file.read(0, _FIRST_HEADERS)
    extents, _ = mef.scan(beginning)
    primary = beginning[: extents[0].end] if extents else b""
    hdu = _hdu_at(file, len(primary), primary, beginning[len(primary) :])
    window = _window(hdu, center, size)
    pieces = [primary]
    for _ in PLANES:
        if hdu.name not in PLANES:
            raise mef.InvalidFile(f"HDU {hdu.name} stands where one of {', '.join(PLANES)} is expected")
        pieces += _plane(file, hdu, window)
        hdu = _hdu_at(file, hdu.end, primary)
    return b"".join(pieces), _mark(file, hdu) if with_psf_mark else None


@dataclass(frozen=True)
class _RemoteHdu:
    """An HDU of which the header was read, and with it some of what follows.

    ``extent`` has offsets from ``start``.
    """

    extent: mef.HduExtent
    start: int
    content: bytes

    @property
    def name(self) -> str:
        return self.extent.name

    @property
    def raw_header(self) -> bytes:
        return self.content[: self.extent.data_start]

    @property
    def data_start(self) -> int:
        return self.start + self.extent.data_start

    @property
    def end(self) -> int:
        return self.start + self.extent.end


def _hdu_at(file: RemoteFile, start: int, primary: bytes, content: bytes = b"") -> _RemoteHdu:
    content = content or file.read(start, _HEADER)
    while True:
        extents, _ = mef.scan(primary + content)
        if len(extents) > 1:
            extent = extents[1]
            before = len(primary)
            moved = replace(extent, start=0, data_start=extent.data_start - before, end=extent.end - before)
            return _RemoteHdu(moved, start, content)
        more = file.read(start + len(content), _MORE_HEADER)
        if not more:
            raise mef.InvalidFile(f"the file ends within a header, after {start + len(content)} bytes")
        content += more


def _window(image: _RemoteHdu, center: tuple[float, float], size: CutoutSize) -> Window:
    header = Header(image.raw_header, image.name)
    ny, nx = plane_shape(Hdu(image.extent, image.content))
    if (nx, ny) != (DETECTOR_SIZE, DETECTOR_SIZE):
        raise mef.InvalidFile(f"{nx} x {ny} pixels are not a whole image")
    x, y = (float(pixel) for pixel in read_wcs(header).sky_to_pixel(*center))
    (x0, x1), (y0, y1) = (cutout_window(pixel, side) for pixel, side in zip((x, y), size.pixels(), strict=True))
    if x0 >= x1 or y0 >= y1:
        raise TransferFault("the cutout does not overlap the image", passes=False)
    return Window(x0, y0, x1 - x0, y1 - y0)


def _plane(file: RemoteFile, hdu: _RemoteHdu, window: Window) -> list[bytes]:
    if hdu.extent.kind == "BINTABLE":
        flags = _compressed_flags(file, hdu, window).astype(">i4")
        header, data = uncompressed_header(hdu.raw_header, hdu.name), flags.tobytes()
    else:
        header, data = hdu.raw_header, _rows(file, hdu, window)
    padding = b"\0" * (-len(data) % BLOCK)
    return [window_header(header, hdu.name, window.x0, window.y0, window.nx, window.ny), data, padding]


def _rows(file: RemoteFile, hdu: _RemoteHdu, window: Window) -> bytes:
    width = abs(hdu.extent.bitpix) // 8
    length = hdu.extent.shape[1] * width
    first = hdu.data_start + window.y0 * length + window.x0 * width
    return file.read_parts([first + row * length for row in range(window.ny)], window.nx * width)


def _compressed_flags(file: RemoteFile, hdu: _RemoteHdu, window: Window) -> np.ndarray:
    """Flags of the window from the tiles of its rows, shape (ny, nx)."""
    header = Header(hdu.raw_header, hdu.name)
    if header.get("ZTILE2") != 1 or header.get("ZTILE1") != header.get("ZNAXIS1") or header.get("TFIELDS") != 1:
        raise NoRangesError(f"HDU {hdu.name}: the tiles are not rows")
    rows, length = hdu.extent.shape
    pair = np.dtype(">i8" if "Q" in header.text("TFORM1") else ">i4")
    if length != 2 * pair.itemsize:
        raise NoRangesError(f"HDU {hdu.name}: the rows of the table hold more than their tile")
    table = file.read(hdu.data_start + window.y0 * length, window.ny * length)
    descriptors = np.frombuffer(table, pair).reshape(window.ny, 2).astype(np.int64)
    first, end = int(descriptors[:, 1].min()), int(descriptors.sum(axis=1).max())
    heap_start = hdu.data_start + header.integer("THEAP", rows * length)
    if not 0 <= first < end <= hdu.data_start + hdu.extent.data_bytes - heap_start:
        raise mef.InvalidFile(f"HDU {hdu.name}: compressed rows lie outside the heap")
    heap = file.read(heap_start + first, end - first)
    descriptors[:, 1] -= first
    values = {"NAXIS2": window.ny, "ZNAXIS2": window.ny, "PCOUNT": len(heap), "THEAP": window.ny * length}
    content = with_values(hdu.raw_header, values)
    data = descriptors.astype(pair).tobytes() + heap
    extent = replace(hdu.extent, shape=(window.ny, length), data_bytes=len(data), data_start=len(content))
    return read_flags(Hdu(extent, content + data), replace(window, y0=0)).view(np.int32)


def _mark(file: RemoteFile, hdu: _RemoteHdu) -> PsfMark:
    data = hdu.content[hdu.extent.data_start : hdu.extent.data_start + BLOCK]
    if len(data) < BLOCK:
        data = file.read(hdu.data_start, BLOCK)
    return psf_mark(hdu.name, hdu.raw_header, data)
