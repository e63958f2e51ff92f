"""Whole files of which parts are read: only the detector rows asked for are rendered.

A whole image takes a second to render and 72 MB to keep; a client that reads byte ranges wants a
hundredth of it. Files whose layout depends on their pixels (QR3: compressed flags) are rendered whole.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spxflow.demo.frames import WHOLE
from spxflow.demo.geometry import FRAME
from spxflow.demo.level2 import PLANES, plane_headers
from spxflow.mef.blocks import whole

if TYPE_CHECKING:
    from spxflow.demo.scenario import ArchiveFile, Scenario

_ROW_BYTES = 4 * FRAME
_PLANE_BYTES = FRAME * _ROW_BYTES  # whole FITS blocks
_MOST_ROWS = 512
_ROWS_AT_A_TIME = 8  # so that reads of headers, which take in some rows, share one rendering


@dataclass(frozen=True)
class KnownContent:
    """Bytes at hand."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, start: int, stop: int) -> bytes:
        return self.data[start:stop]


class Recent:
    """What was made last, up to a total size in bytes; one thing is made at a time."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._contents: OrderedDict[object, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: object, make: Callable[[], bytes]) -> bytes:
        with self._lock:
            if key not in self._contents:
                self._contents[key] = make()
            self._contents.move_to_end(key)
            while len(self._contents) > 1 and sum(map(len, self._contents.values())) > self._capacity:
                self._contents.popitem(last=False)
            return self._contents[key]


class ImageContent:
    """A whole Level-2 file with planes of a fixed size, rendered as far as it is read."""

    def __init__(self, scenario: Scenario, file: ArchiveFile, recent: Recent) -> None:
        self._scenario = scenario
        self._file = file
        self._recent = recent
        self._segments = list(self._layout())
        self.size = sum(length for length, _ in self._segments)

    def read(self, start: int, stop: int) -> bytes:
        """Bytes from ``start`` to before ``stop``."""
        if stop - start > _MOST_ROWS * _ROW_BYTES:
            return self._recent.get(self._file.path, lambda: self._scenario.render(self._file))[start:stop]
        parts = []
        offset = 0
        for length, read in self._segments:
            first, last = max(start - offset, 0), min(stop - offset, length)
            if first < last:
                parts.append(read(first, last))
            offset += length
        return b"".join(parts)

    def _layout(self) -> Iterator[tuple[int, Callable[[int, int], bytes]]]:
        """Length and reader of each part of the file, in its order."""
        stripe = self._stripe(0, _ROWS_AT_A_TIME)
        headers = plane_headers(self._file.exposure, WHOLE)
        for hdu in whole(stripe):
            if hdu.name in PLANES:
                yield len(headers[hdu.name]), KnownContent(headers[hdu.name]).read
                yield _PLANE_BYTES, self._plane_reader(hdu.name)
            else:
                content = KnownContent(stripe[hdu.start : hdu.end])
                yield content.size, content.read

    def _plane_reader(self, name: str) -> Callable[[int, int], bytes]:
        def read(start: int, stop: int) -> bytes:
            step = _ROWS_AT_A_TIME
            first = start // _ROW_BYTES // step * step
            last = -(-stop // (_ROW_BYTES * step)) * step
            stripe = self._stripe(first, last - first)
            plane = next(hdu.data_start for hdu in whole(stripe) if hdu.name == name) - first * _ROW_BYTES
            return stripe[plane + start : plane + stop]

        return read

    def _stripe(self, first: int, count: int) -> bytes:
        """The file's cutout of whole rows."""
        window = (0, first, FRAME, count)
        return self._recent.get((self._file.path, window), lambda: self._scenario.render(self._file, window))


Content = KnownContent | ImageContent
