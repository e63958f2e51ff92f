"""A Level-2 file as HDUs by name: headers and views of their data, before any meaning is given to them."""

from __future__ import annotations

import math
import mmap
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spxflow.mef.blocks import Buffer, HduExtent, InvalidFile, whole
from spxflow.mef.header import Header

_TFORM = re.compile(r"(\d*)([LXBIJKAEDCMPQ])(.*)")
_COLUMN_TYPES = {"L": "u1", "B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8", "A": "S1"}
_PIXEL_TYPES = {
    bitpix: np.dtype(kind)
    for bitpix, kind in ((8, "u1"), (16, ">i2"), (32, ">i4"), (64, ">i8"), (-32, ">f4"), (-64, ">f8"))
}
_WIDEST_ROW = 1 << 28


@dataclass(frozen=True)
class Hdu:
    """One HDU of a file in memory."""

    extent: HduExtent
    buffer: Buffer

    @property
    def raw_header(self) -> bytes:
        return bytes(self.buffer[self.extent.start : self.extent.data_start])

    @cached_property
    def header(self) -> Header:
        return Header(self.raw_header, self.extent.name)

    def bytes(self) -> NDArray[np.uint8]:
        """View of the data, without padding."""
        return np.frombuffer(self.buffer, np.uint8, self.extent.data_bytes, self.extent.data_start)

    def array(self) -> NDArray:
        """View of the data of an image HDU, in the byte order and type of the file."""
        kind = _PIXEL_TYPES[self.extent.bitpix]
        if self.extent.data_bytes != kind.itemsize * math.prod(self.extent.shape):
            raise InvalidFile(f"HDU {self.extent.name}: PCOUNT or GCOUNT is not that of an image")
        return self.bytes().view(kind).reshape(self.extent.shape)

    def table(self) -> NDArray[np.void]:
        """View of the rows of a binary table; variable-length columns as (length, heap offset) pairs."""
        if self.extent.kind != "BINTABLE" or len(self.extent.shape) != 2:
            raise InvalidFile(f"HDU {self.extent.name}: not a binary table")
        n_rows, width = self.extent.shape
        names, formats, offsets = self._columns()
        if offsets[-1] != width or not n_rows or n_rows * width > self.extent.data_bytes:
            raise InvalidFile(
                f"HDU {self.extent.name}: the columns take {offsets[-1]} bytes a row of {width}, {n_rows} rows"
            )
        row = np.dtype({"names": names, "formats": formats, "offsets": offsets[:-1], "itemsize": width})
        return self.bytes()[: n_rows * width].view(row)

    def _columns(self) -> tuple[list[str], list[np.dtype], list[int]]:
        header, name = self.header, self.extent.name
        count = header.integer("TFIELDS")
        if not 1 <= count <= 999:
            raise InvalidFile(f"HDU {name}: TFIELDS is {count}")
        names: list[str] = []
        formats: list[np.dtype] = []
        offsets = [0]
        for column in range(1, count + 1):
            label, form = header.text(f"TTYPE{column}", f"column {column}").upper(), header.text(f"TFORM{column}")
            match = _TFORM.fullmatch(form)
            if match is None or match[2] in "XCM" or label in names:
                raise InvalidFile(f"HDU {name}: column {label} has the format {form!r} or its name twice")
            repeat = int(match[1] or 1) if len(match[1]) < 10 else _WIDEST_ROW + 1
            descriptor = {"P": ">i4", "Q": ">i8"}.get(match[2])
            kind, repeat = (descriptor, 2 * min(repeat, 1)) if descriptor else (_COLUMN_TYPES[match[2]], repeat)
            width = repeat * np.dtype(kind).itemsize
            if offsets[-1] + width > _WIDEST_ROW:
                raise InvalidFile(f"HDU {name}: column {label} is too wide ({form!r})")
            names.append(label)
            formats.append(np.dtype((kind, (repeat,))))
            offsets.append(offsets[-1] + width)
        return names, formats, offsets


class Layout(dict[str, Hdu]):
    """The HDUs of a file by name."""

    def __missing__(self, name: str) -> Hdu:
        raise InvalidFile(f"HDU {name} is missing (there are {', '.join(self)})")


def open_layout(source: Path | str | bytes) -> Layout:
    """Find the HDUs of a file, which must be there to its last byte.

    Parameters
    ----------
    source
        A path, which is mapped into memory, or the content of a file.

    Raises
    ------
    InvalidFile
        For anything that is not a whole FITS file.
    OSError
        When the file cannot be opened.
    """
    buffer = source if isinstance(source, bytes) else _mapped(source)
    layout = Layout()
    for extent in whole(buffer):
        layout.setdefault(extent.name, Hdu(extent, buffer))
    return layout


def _mapped(path: Path | str) -> Buffer:
    with open(path, "rb") as stream:
        try:
            return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # an empty file cannot be mapped
            return b""
