"""Slim transfers: the planes a measurement needs, from an answer that is left when they have arrived.

The archive sends the HDUs of a cutout in the order IMAGE, FLAGS, VARIANCE, ZODI, PSF or EPSF, WCS-WAVE; the PSF alone
is 4.9 MB and the same in all images of a detector and release (facts 1.7, 1.9, 1.11). The beginning of it is read and
compared with the calibration file that will stand in for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from spxflow import mef
from spxflow.mef.blocks import BLOCK
from spxflow.mef.header import Header
from spxflow.transfer.faults import INVALID_FILE, TransferFault

PLANES = ("IMAGE", "FLAGS", "VARIANCE", "ZODI")
KEPT = ("PRIMARY", *PLANES)

PSF_NAMES = ("PSF", "EPSF", "PSF-DATA-CUBE")
_ORIGIN = "Calibration source file:"
_HEADER_STEP = 2 * BLOCK


class Reader(Protocol):
    """An answer that is read from its beginning."""

    def read_exactly(self, size: int) -> bytes:
        """So many bytes, fewer only at the end."""


@dataclass(frozen=True)
class PsfMark:
    """What tells the PSF of one calibration from that of another.

    Attributes
    ----------
    beginning
        First block of its data.
    origin
        Calibration file that its header names; empty when it names none.
    """

    beginning: bytes
    origin: str

    def matches(self, other: PsfMark) -> bool:
        """Whether both are of the same calibration."""
        return self.beginning == other.beginning or (bool(self.origin) and self.origin == other.origin)


@dataclass(frozen=True)
class Arrived:
    """The beginning of an answer.

    Attributes
    ----------
    content
        All bytes read so far.
    planes
        The HDUs of a slim file in it.
    psf
        Mark of the PSF that follows; None when it was not asked for or none follows.
    """

    content: bytes
    planes: tuple[mef.HduExtent, ...]
    psf: PsfMark | None

    def planes_content(self) -> bytes:
        """The slim file."""
        return b"".join(self.content[extent.start : extent.end] for extent in self.planes)


def read_planes(reader: Reader, with_psf_mark: bool) -> Arrived:
    """Read an answer until its image planes are there, and the mark of the PSF after them if asked for.

    Raises
    ------
    TransferFault
        When it is not FITS, or ends before.
    """
    content = bytearray()
    _read_until(reader, content, _has_planes)
    mark = None
    if with_psf_mark:
        _read_until(reader, content, _has_psf_mark)
        mark = _mark_in(bytes(content))
    extents, _ = mef.scan(bytes(content))
    first: dict[str, mef.HduExtent] = {}
    for extent in extents:
        if extent.name in KEPT and extent.end <= len(content):
            first.setdefault(extent.name, extent)
    return Arrived(bytes(content), tuple(sorted(first.values(), key=lambda extent: extent.start)), mark)


def read_psf_mark(path: Path) -> PsfMark:
    """Mark of the PSF of a calibration file."""
    with open(path, "rb") as stream:
        content = bytearray()
        _read_until(_FileReader(stream.read), content, _has_psf_mark)
    mark = _mark_in(bytes(content))
    if mark is None:
        raise mef.InvalidFile(f"{path.name} has no PSF")
    return mark


@dataclass(frozen=True)
class _FileReader:
    read_exactly: Callable[[int], bytes]


def _read_until(reader: Reader, content: bytearray, enough: Callable[[tuple[mef.HduExtent, ...], int], bool]) -> None:
    """Read headers and data, never more than one step beyond what is needed, until there is enough or no more."""
    extents: tuple[mef.HduExtent, ...] = ()
    while True:
        extents = _extents(content, extents)
        if enough(extents, len(content)):
            return
        missing = extents[-1].end - len(content) if extents else 0
        wanted = min(missing, BLOCK) if missing > 0 and extents[-1].name in PSF_NAMES else missing
        piece = reader.read_exactly(wanted if wanted > 0 else _HEADER_STEP)
        if not piece:
            return
        content += piece


def _extents(content: bytearray, known: tuple[mef.HduExtent, ...]) -> tuple[mef.HduExtent, ...]:
    try:
        return mef.scan(content, known)[0]
    except mef.InvalidFile as error:
        raise TransferFault(error.reason, INVALID_FILE, fingerprint=bytes(content[:BLOCK]).hex()) from error


def _has_planes(extents: tuple[mef.HduExtent, ...], length: int) -> bool:
    there = {extent.name for extent in extents if extent.end <= length}
    return there.issuperset(PLANES) or bool(extents and extents[-1].name in PSF_NAMES)


def _has_psf_mark(extents: tuple[mef.HduExtent, ...], length: int) -> bool:
    return any(extent.name in PSF_NAMES and extent.data_start + BLOCK <= length for extent in extents)


def _mark_in(content: bytes) -> PsfMark | None:
    for extent in mef.scan(content)[0]:
        if extent.name in PSF_NAMES and extent.data_start + BLOCK <= len(content):
            header = content[extent.start : extent.data_start]
            return psf_mark(extent.name, header, content[extent.data_start : extent.data_start + BLOCK])
    return None


def psf_mark(name: str, header: bytes, beginning: bytes) -> PsfMark:
    """Mark of a PSF from its HDU's name and header and the first block of its data."""
    lines = (line for line in Header(header, name).history() if line.startswith(_ORIGIN))
    return PsfMark(beginning, next((line.removeprefix(_ORIGIN).strip() for line in lines), ""))
