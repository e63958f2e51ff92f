"""The block structure of a FITS file: where each HDU begins and ends.

Works on a growing prefix of a file as well as on a whole one, and trusts nothing it reads (FITS standard 4.0,
sections 3 and 4.4.1).
"""

from __future__ import annotations

import math
import mmap
import re
from dataclasses import dataclass

BLOCK = 2880
CARD = 80

Buffer = bytes | bytearray | mmap.mmap

_END = b"END" + b" " * (CARD - 3)
_LONGEST_HEADER = 1000 * BLOCK
_LONGEST_REASON = 500
_STRUCTURE = re.compile(rb"(SIMPLE|XTENSION|BITPIX|NAXIS\d{0,3}|PCOUNT|GCOUNT|GROUPS|EXTNAME) *= *('[^']*'|[^ /]*)")
_BITPIX = (8, 16, 32, 64, -32, -64)


class InvalidFile(Exception):  # noqa: N818 - the name says what it is
    """A file that cannot be used as a Level-2 image; its text is the reason, for a person."""

    def __init__(self, reason: str) -> None:
        self.reason = "".join(character if character.isprintable() else "?" for character in reason[:_LONGEST_REASON])
        super().__init__(self.reason)


@dataclass(frozen=True)
class HduExtent:
    """Where an HDU lies in a file.

    Attributes
    ----------
    name
        EXTNAME, or ``PRIMARY`` for the first HDU without one.
    kind
        ``IMAGE`` or ``BINTABLE`` (or what XTENSION says).
    bitpix, shape
        Type of the data and its shape, slowest axis first; ``()`` without data.
    start, data_start, data_bytes, end
        Byte offsets of the header, of the data, their size, and of the byte after the last block.
    """

    name: str
    kind: str
    bitpix: int
    shape: tuple[int, ...]
    start: int
    data_start: int
    data_bytes: int
    end: int


def scan(buffer: Buffer, known: tuple[HduExtent, ...] = ()) -> tuple[tuple[HduExtent, ...], bool]:
    """HDUs of a file, or of its beginning.

    Parameters
    ----------
    buffer
        A whole file, or as much of its beginning as has arrived.
    known
        The HDUs found when less of it had arrived.

    Returns
    -------
    extents
        The HDUs whose header is there to its end; the data of the last one may not be.
    complete
        Whether the buffer ends where an HDU ends (true of a whole file; padding or rubbish after the last HDU is
        passed over, as the standard asks).

    Raises
    ------
    InvalidFile
        When the bytes are not the beginning of a FITS file.
    """
    extents = list(known)
    start, length = known[-1].end if known else 0, len(buffer)
    if start > length:
        return known, False
    while True:
        mark = b"XTENSION=" if extents else b"SIMPLE  ="
        here = bytes(buffer[start : start + len(mark)])
        if not mark.startswith(here):
            if extents:
                return tuple(extents), True
            raise InvalidFile(_not_fits(bytes(buffer[:512])))
        if not here:
            return tuple(extents), bool(extents)
        end = _header_end(buffer, start, len(extents))
        if end is None:
            return tuple(extents), False
        extent = _extent(bytes(buffer[start:end]), start, end, len(extents))
        extents.append(extent)
        if extent.end > length:
            return tuple(extents), False
        start = extent.end


def whole(buffer: Buffer) -> tuple[HduExtent, ...]:
    """HDUs of a file that must be there to its last byte.

    The padding after the very last data may be missing.

    Raises
    ------
    InvalidFile
        When the file is empty, not FITS, or ends before an HDU does.
    """
    if not len(buffer):
        raise InvalidFile("the file is empty")
    extents, complete = scan(buffer)
    if complete:
        return extents
    if not extents:
        raise InvalidFile(f"the file ends within its first header, after {len(buffer)} bytes")
    last = extents[-1]
    if last.data_start + last.data_bytes > len(buffer):
        raise InvalidFile(
            f"the file is cut short: HDU {last.name} needs {last.data_bytes} bytes of data, "
            f"{max(len(buffer) - last.data_start, 0)} are there"
        )
    if last.end < len(buffer):
        raise InvalidFile(f"the file ends within the header after HDU {last.name}, after {len(buffer)} bytes")
    return extents


def _header_end(buffer: Buffer, start: int, index: int) -> int | None:
    """Offset of the first block after the header, or None when it is not all there."""
    position = start
    while (position := buffer.find(_END, position, start + _LONGEST_HEADER)) >= 0:
        if (position - start) % CARD == 0:
            end = start + ((position - start) // BLOCK + 1) * BLOCK
            return end if end <= len(buffer) else None
        position += 1
    if len(buffer) - start >= _LONGEST_HEADER:
        raise InvalidFile(f"the header of HDU {index} has no END")
    return None


def _extent(header: bytes, start: int, data_start: int, index: int) -> HduExtent:
    cards = _structure(header)
    name = cards.get("EXTNAME", "" if index else "PRIMARY") or f"number {index}"
    bitpix = _integer(cards, "BITPIX", name)
    if bitpix not in _BITPIX:
        raise InvalidFile(f"HDU {name}: BITPIX is {bitpix}, not one of {', '.join(map(str, _BITPIX))}")
    n_axes = _integer(cards, "NAXIS", name)
    if not 0 <= n_axes <= 999:
        raise InvalidFile(f"HDU {name}: NAXIS is {n_axes}")
    axes = [_integer(cards, f"NAXIS{axis + 1}", name) for axis in range(n_axes)]
    pcount = _integer(cards, "PCOUNT", name) if "PCOUNT" in cards else 0
    gcount = _integer(cards, "GCOUNT", name) if "GCOUNT" in cards else 1
    if min([*axes, pcount, gcount]) < 0:
        raise InvalidFile(f"HDU {name}: a size is negative (NAXISn {axes}, PCOUNT {pcount}, GCOUNT {gcount})")
    size = abs(bitpix) // 8 * gcount * (pcount + math.prod(axes)) if axes else 0
    return HduExtent(
        name=name,
        kind=cards.get("XTENSION", "IMAGE"),
        bitpix=bitpix,
        shape=tuple(reversed(axes)),
        start=start,
        data_start=data_start,
        data_bytes=size,
        end=data_start + -(-size // BLOCK) * BLOCK,
    )


def _structure(header: bytes) -> dict[str, str]:
    """The keywords that give an HDU's size and name, of which the sizes stand first."""
    cards: dict[str, str] = {}
    position = 0
    for position in range(0, len(header), CARD):
        match = _STRUCTURE.match(header, position, position + CARD)
        if match is None:
            break
        cards.setdefault(match[1].decode(), match[2].decode("latin-1").strip("' "))
    while "EXTNAME" not in cards and (position := header.find(b"EXTNAME ", position)) >= 0:
        match = _STRUCTURE.match(header, position, position + CARD) if position % CARD == 0 else None
        if match is not None:
            cards["EXTNAME"] = match[2].decode("latin-1").strip("' ")
        position += 1
    return cards


def _integer(cards: dict[str, str], keyword: str, name: str) -> int:
    text = cards.get(keyword)
    if text is None:
        raise InvalidFile(f"HDU {name}: keyword {keyword} is missing or out of its place")
    if re.fullmatch(r"[+-]?\d{1,18}", text) is None:
        raise InvalidFile(f"HDU {name}: {keyword} is {text!r}, not an integer")
    return int(text)


def _not_fits(beginning: bytes) -> str:
    text = beginning.lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return f"not a FITS file but an HTML page: {_excerpt(beginning)}"
    if text.startswith((b"<?xml", b"<votable")):
        return f"not a FITS file but XML: {_excerpt(beginning)}"
    if beginning.startswith(b"\x1f\x8b"):
        return "not a plain FITS file but gzip-compressed"
    if beginning.isascii() and beginning.decode().isprintable():
        return f"not a FITS file but text: {_excerpt(beginning)}"
    return f"not a FITS file: it begins with the bytes {beginning[:8].hex(' ')}"


def _excerpt(beginning: bytes) -> str:
    """Start of a text on one line, without markup."""
    text = re.sub(r"<[^>]*>", " ", beginning.decode("latin-1"))
    text = "".join(character if character.isprintable() else " " for character in text)
    return repr(" ".join(text.split())[:120])
