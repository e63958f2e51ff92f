"""Slim transfers: the planes a measurement needs, from an answer that is left when they have arrived.

The archive sends the HDUs of a cutout in the order IMAGE, FLAGS, VARIANCE, ZODI, PSF or EPSF, WCS-WAVE; the PSF alone
is 4.9 MB and the same in all images of a detector and release (facts 1.7, 1.9, 1.11). The beginning of it is read and
compared with the calibration file that will stand in for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from spxflow import mef
from spxflow.mef.blocks import BLOCK
from spxflow.mef.header import Header
from spxflow.transfer.client import read_exactly
from spxflow.transfer.faults import INVALID_FILE, TransferFault

PLANES = ("IMAGE", "FLAGS", "VARIANCE", "ZODI")
KEPT = ("PRIMARY", *PLANES)

PSF_NAMES = ("PSF", "EPSF", "PSF-DATA-CUBE")
_ORIGIN = "Calibration source file:"
_HEADER_STEP = 2 * BLOCK


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
    slim
        The slim file in it.
    psf
        Mark of the PSF that follows; None when it was not asked for or none follows.
    """

    content: bytes
    slim: bytes
    psf: PsfMark | None


def read_planes(read: Callable[[int], bytes], with_psf_mark: bool) -> Arrived:
    """Read an answer until its image planes are there, and the mark of the PSF after them if asked for.

    Parameters
    ----------
    read
        Gives the next bytes, at most so many; empty at the end.

    Raises
    ------
    TransferFault
        When it is not FITS, or ends before.
    """
    content, extents = _read_until(read, _psf_in if with_psf_mark else _has_planes)
    first: dict[str, mef.HduExtent] = {}
    for extent in extents:
        if extent.name in KEPT and extent.end <= len(content):
            first.setdefault(extent.name, extent)
    slim = b"".join(content[extent.start : extent.end] for extent in first.values())
    return Arrived(content, slim, _mark_in(content, extents) if with_psf_mark else None)


def read_psf_mark(path: Path) -> PsfMark:
    """Mark of the PSF of a calibration file."""
    with open(path, "rb") as stream:
        mark = _mark_in(*_read_until(stream.read, _psf_in))
    if mark is None:
        raise mef.InvalidFile(f"{path.name} has no PSF")
    return mark


def _read_until(
    read: Callable[[int], bytes], enough: Callable[[tuple[mef.HduExtent, ...], int], object]
) -> tuple[bytes, tuple[mef.HduExtent, ...]]:
    """Content and HDUs, read never more than one step beyond what is needed, until there is enough or no more."""
    content = bytearray()
    extents: tuple[mef.HduExtent, ...] = ()
    while True:
        extents = _extents(content, extents)
        if enough(extents, len(content)):
            break
        missing = extents[-1].end - len(content) if extents else 0
        wanted = min(missing, BLOCK) if missing > 0 and extents[-1].name in PSF_NAMES else missing
        piece = read_exactly(read, wanted if wanted > 0 else _HEADER_STEP)
        if not piece:
            break
        content += piece
    return bytes(content), extents


def _extents(content: bytearray, known: tuple[mef.HduExtent, ...]) -> tuple[mef.HduExtent, ...]:
    try:
        return mef.scan(content, known)[0]
    except mef.InvalidFile as error:
        raise TransferFault(error.reason, INVALID_FILE, fingerprint=bytes(content[:BLOCK]).hex()) from error


def _has_planes(extents: tuple[mef.HduExtent, ...], length: int) -> bool:
    there = {extent.name for extent in extents if extent.end <= length}
    return there.issuperset(PLANES) or bool(extents and extents[-1].name in PSF_NAMES)


def _psf_in(extents: tuple[mef.HduExtent, ...], length: int) -> mef.HduExtent | None:
    """The first PSF of which its mark has arrived."""
    arrived = (extent for extent in extents if extent.name in PSF_NAMES and extent.data_start + BLOCK <= length)
    return next(arrived, None)


def _mark_in(content: bytes, extents: tuple[mef.HduExtent, ...]) -> PsfMark | None:
    psf = _psf_in(extents, len(content))
    if psf is None:
        return None
    beginning = content[psf.data_start : psf.data_start + BLOCK]
    return psf_mark(psf.name, content[psf.start : psf.data_start], beginning)


def psf_mark(name: str, header: bytes, beginning: bytes) -> PsfMark:
    """Mark of a PSF from its HDU's name and header and the first block of its data."""
    lines = (line for line in Header(header, name).history() if line.startswith(_ORIGIN))
    return PsfMark(beginning, next((line.removeprefix(_ORIGIN).strip() for line in lines), ""))
