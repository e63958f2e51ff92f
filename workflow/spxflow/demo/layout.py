"""Byte ranges of whole files without rendering the whole file.

A 72 MB frame costs a second or two; the rows around a source some milliseconds. Planes are rendered in blocks of
whole tiles, and the last blocks are kept, since a client asks for neighbouring rows one after the other.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from spxflow.demo import frames, level2
from spxflow.demo.exposures import Exposure
from spxflow.demo.frames import TILE, WHOLE, Camera, Pixels, Window
from spxflow.demo.geometry import FRAME
from spxflow.demo.headers import BLOCK
from spxflow.demo.sky import Sky

_ITEM = 4  # bytes of a pixel
_PLANE_BYTES = _ITEM * FRAME * FRAME
_DTYPES = {"image": ">f4", "flags": ">i4", "variance": ">f4", "zodi": ">f4"}


class Kept:
    """The results made last, up to a total cost. One lock: what is asked for twice at a time is made once."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._results: OrderedDict[Any, tuple[int, Any]] = OrderedDict()
        self._used = 0
        self._lock = threading.Lock()

    def get(self, key: Any, cost: int, make: Callable[[], Any]) -> Any:
        """The result kept under ``key``, made if it is not there."""
        with self._lock:
            if key not in self._results:
                self._results[key] = cost, make()
                self._used += cost
            self._results.move_to_end(key)
            while self._used > self._capacity and len(self._results) > 1:
                self._used -= self._results.popitem(last=False)[1][0]
            return self._results[key][1]


@dataclass(frozen=True)
class Segment:
    """A stretch of a file: its length in bytes and how to get a part of it."""

    length: int
    read: Callable[[int, int], bytes]


def _constant(content: bytes) -> Segment:
    return Segment(len(content), lambda start, stop: content[start:stop])


class Layout:
    """A whole file as a sequence of segments: ``size`` and ``read(start, stop)``."""

    def __init__(self, segments: list[Segment]) -> None:
        self._segments = segments
        self._starts = [0]
        for segment in segments:
            self._starts.append(self._starts[-1] + segment.length)

    @property
    def size(self) -> int:
        """Length of the file in bytes."""
        return self._starts[-1]

    def read(self, start: int, stop: int) -> bytes:
        """Bytes ``start`` to ``stop`` (excluded) of the file."""
        start, stop = max(start, 0), min(stop, self.size)
        parts = []
        index = bisect_right(self._starts, start) - 1
        while start < stop:
            base, segment = self._starts[index], self._segments[index]
            end = min(stop, base + segment.length)
            parts.append(segment.read(start - base, end - base))
            start, index = end, index + 1
        return b"".join(parts)


def layout_of(exposure: Exposure, sky: Sky, camera: Camera, kept: Kept) -> Layout:
    """Layout of a whole file. That of a QR3 file needs its flags, whose packed length is not known before."""

    def block(window: Window) -> Pixels:
        cost = window[2] * window[3]
        return kept.get((exposure.path, window), cost, lambda: frames.render(exposure, sky, camera, window))

    def plane(name: str) -> Segment:
        return Segment(-(-_PLANE_BYTES // BLOCK) * BLOCK, lambda start, stop: _plane_bytes(block, name, start, stop))

    headers = level2.plane_headers(exposure, WHOLE)
    if exposure.release == "qr3":
        flags = kept.get((exposure.path, "flags"), FRAME * 64, lambda: _packed_flags(exposure, sky, camera))
        middle = [_constant(flags.header), _constant(flags.data)]
        psf = level2.epsf_hdu(exposure.detector, camera.optics)
    else:
        middle = [_constant(headers["FLAGS"]), plane("flags")]
        psf = level2.psf_hdu(exposure.detector, camera.optics, exposure.pipeline_version)
    wave = level2.wave_hdu(exposure.detector, exposure.release)
    return Layout(
        [
            _constant(level2.primary_header(exposure.pipeline_version)),
            *(_constant(headers["IMAGE"]), plane("image"), *middle),
            *(_constant(headers["VARIANCE"]), plane("variance"), _constant(headers["ZODI"]), plane("zodi")),
            *(_constant(content) for content in (psf.header, psf.data, wave.header, wave.data)),
        ]
    )


def _packed_flags(exposure: Exposure, sky: Sky, camera: Camera) -> level2.Hdu:
    return level2.compressed_flags(exposure, WHOLE, frames.render(exposure, sky, camera, WHOLE).flags)


def _plane_bytes(block: Callable[[Window], Pixels], name: str, start: int, stop: int) -> bytes:
    """Bytes of a whole plane's data unit, rendered tile row by tile row."""
    padding = max(stop - max(start, _PLANE_BYTES), 0)
    stop = min(stop, _PLANE_BYTES)
    parts = []
    while start < stop:
        row, last = start // (_ITEM * FRAME), (stop - 1) // (_ITEM * FRAME)
        top = row // TILE * TILE
        bottom = min(top + TILE, FRAME)
        x0, x1 = (0, FRAME) if last > row else _tile_columns(start, stop, row)
        pixels = block((x0, top, x1 - x0, bottom - top))
        rows = slice(row - top, min(last + 1, bottom) - top)
        content = np.ascontiguousarray(getattr(pixels, name)[rows].astype(_DTYPES[name])).tobytes()
        offset = _ITEM * (row * FRAME + x0)  # byte of the plane at which this content begins
        end = min(stop, _ITEM * bottom * FRAME)
        parts.append(content[start - offset : end - offset])
        start = end
    return b"".join(parts) + bytes(padding)


def _tile_columns(start: int, stop: int, row: int) -> tuple[int, int]:
    """Columns of whole tiles that hold the bytes of a row."""
    first, last = (byte // _ITEM - row * FRAME for byte in (start, stop - 1))
    return first // TILE * TILE, min((last // TILE + 1) * TILE, FRAME)
