"""One file of one exposure from the archive to its place on disk."""

from __future__ import annotations

import itertools
import time
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from spxflow import mef
from spxflow.archive.urls import DATA_ROOT
from spxflow.files import partial_path
from spxflow.observations import Observation
from spxflow.position import position_at
from spxflow.sources import Source
from spxflow.transfer.calibration import CalibrationUnavailableError, release_of
from spxflow.transfer.check import check_file
from spxflow.transfer.client import Body, HttpClient, Tally, http_client, read_exactly, write_pieces
from spxflow.transfer.faults import DOWNLOAD_FAILED, INVALID_FILE, TransferFault
from spxflow.transfer.ranges import NoRangesError, RemoteFile, read_window
from spxflow.transfer.record import OK, TransferRecord
from spxflow.transfer.settings import TransferSettings
from spxflow.transfer.slim import PsfMark, read_planes, read_psf_mark

if TYPE_CHECKING:
    from spxflow.transfer.calibration import CalibrationCache

_GZIP = b"\x1f\x8b"
_CHUNK = 1 << 16
_PACKED_CHUNK = 1 << 12
_BEGINNING = 512


def fetch(
    observation: Observation,
    source: Source,
    destination: Path | str,
    settings: TransferSettings,
    client: HttpClient | None = None,
    failed_runs: int = 0,
    calibration: CalibrationCache | None = None,
) -> TransferRecord:
    """Bring one file; whatever the archive, the network or the disk does becomes the record.

    ``destination`` is written only with a complete and valid file.

    Parameters
    ----------
    observation, source
        Exposure, and the source in it.
    destination
        Where the file goes.
    settings
        Mode, cutout and patience.
    client
        HTTP client; None: the one of this process for these settings.
    failed_runs
        Earlier invocations in which this file could not be had.
    calibration
        Where the PSF of slim files comes from: with it the PSF of the archive is compared, and a file whose PSF is
        another one is taken whole (its record says ``cutout``).
    """
    begin = time.monotonic()
    transfer = _Transfer(observation, source, Path(destination), settings, calibration)
    digest, size, status, reason = "", 0, OK, ""
    try:
        digest, size = transfer.run(client or http_client(settings))
    except TransferFault as fault:
        status, reason = fault.status, fault.reason
    except OSError as error:
        status, reason = DOWNLOAD_FAILED, f"the file cannot be written: {error.strerror or error}"
    return TransferRecord(
        stem=observation.stem,
        status=status,
        reason=reason,
        url=transfer.url,
        file_bytes=size,
        received_bytes=transfer.tally.received_bytes,
        sha256=digest,
        requests=transfer.tally.requests,
        seconds=round(time.monotonic() - begin, 3),
        mode=transfer.mode,
        failed_runs=failed_runs + (status != OK),
    )


def cutout_center(observation: Observation, source: Source, settings: TransferSettings) -> tuple[float, float]:
    """Centre of a cutout (ICRS, degrees, to 1e-7): as configured, or the source at the time of the exposure."""
    ra_deg, dec_deg = settings.center or position_at(source, observation.mjd_mid)
    return round(ra_deg, 7), round(dec_deg, 7)


def cutout_url(observation: Observation, center: tuple[float, float], settings: TransferSettings) -> str:
    """Address of a cutout around a position (ICRS, degrees)."""
    return f"{observation.url}?center={center[0]:.7f},{center[1]:.7f}&size={settings.size}&gzip=false"


def ranges_url(observation: Observation, settings: TransferSettings) -> str:
    """Address of a whole image where byte ranges are read."""
    if settings.slim_from == "archive":
        return observation.url
    return f"{settings.s3_url}/{observation.url.split(DATA_ROOT, 1)[1]}"


class _Transfer:
    """One transfer under way."""

    def __init__(
        self,
        observation: Observation,
        source: Source,
        destination: Path,
        settings: TransferSettings,
        calibration: CalibrationCache | None,
    ) -> None:
        self.mode = settings.mode
        self.tally = Tally()
        self._observation = observation
        self._destination = destination
        self._settings = settings
        self._calibration = calibration
        self._center = None if settings.mode == "full" else cutout_center(observation, source, settings)
        self.url = observation.url if self._center is None else cutout_url(observation, self._center, settings)

    def run(self, client: HttpClient) -> tuple[str, int]:
        """Digest and size of the file, once it is in its place."""
        if self.mode != "slim" or self._center is None:
            return client.get(self.url, self._keep_all, self.tally)
        expected = self._expected_psf()
        if self._settings.slim_from == "cutout":
            return client.get(self.url, lambda body: self._keep_planes(body, expected), self.tally)
        return self._keep_window(client, self._center, expected)

    def _expected_psf(self) -> PsfMark | None:
        """Mark of the PSF that stands in; had before the transfer begins, which then holds a connection."""
        if self._calibration is None:
            return None
        try:
            path = self._calibration.psf_file(release_of(self._observation), self._observation.detector)
            return read_psf_mark(path)
        except (CalibrationUnavailableError, mef.InvalidFile) as error:
            raise TransferFault(str(error)) from error

    def _keep_all(self, body: Body) -> tuple[str, int]:
        return self._keep(iter(_Unpacked(body, self._settings).read, b""), slim=False)

    def _keep_planes(self, body: Body, expected: PsfMark | None) -> tuple[str, int]:
        answer = _Unpacked(body, self._settings)
        arrived = read_planes(answer.read, with_psf_mark=expected is not None)
        same = expected is None or (arrived.psf is not None and expected.matches(arrived.psf))
        self.mode = "slim" if same else "cutout"
        if same:
            return self._keep([arrived.slim], slim=True)
        return self._keep(itertools.chain([arrived.content], iter(answer.read, b"")), slim=False)

    def _keep_window(
        self, client: HttpClient, center: tuple[float, float], expected: PsfMark | None
    ) -> tuple[str, int]:
        cutout, self.url = self.url, ranges_url(self._observation, self._settings)
        file = RemoteFile(self.url, client, self.tally, int(self._settings.range_gap_kb * 1e3))
        try:
            content, mark = read_window(file, center, self._settings.size, expected is not None)
        except NoRangesError:
            self.url = cutout
            return client.get(self.url, lambda body: self._keep_planes(body, expected), self.tally)
        if expected is not None and (mark is None or not expected.matches(mark)):
            self.mode, self.url = "cutout", cutout
            return client.get(self.url, self._keep_all, self.tally)
        return self._keep([content], slim=True)

    def _keep(self, pieces: Iterable[bytes], slim: bool) -> tuple[str, int]:
        with partial_path(self._destination) as partial:
            digest, size = write_pieces(partial, pieces)
            try:
                check_file(partial, slim, self._center, self._settings.size)
            except mef.InvalidFile as error:
                raise TransferFault(error.reason, INVALID_FILE, fingerprint=digest) from error
        return digest, size


class _Unpacked:
    """An answer as plain bytes, also when the archive compressed it. Pages instead of files are refused."""

    def __init__(self, body: Body, settings: TransferSettings) -> None:
        self._body = body
        self._limit = int(settings.max_file_mb * 1e6)
        self._size = 0
        packed = read_exactly(body.read, _BEGINNING)
        _refuse_page(packed)
        self._unpack = zlib.decompressobj(wbits=31) if packed.startswith(_GZIP) else None
        self._ahead = self._unpacked(packed)

    def read(self, size: int = _CHUNK) -> bytes:
        """The next bytes, at most so many; empty at the end."""
        if self._unpack is None and not self._ahead:
            return self._body.read(size)
        while not self._ahead and (packed := self._body.read(_PACKED_CHUNK)):
            self._ahead = self._unpacked(packed)
        if not self._ahead and self._unpack is not None and not self._unpack.eof:
            raise TransferFault(f"the compressed answer was cut off after {self._body.received} bytes")
        piece, self._ahead = self._ahead[:size], self._ahead[size:]
        return piece

    def _unpacked(self, packed: bytes) -> bytes:
        if self._unpack is None:
            return packed
        try:
            plain = self._unpack.decompress(packed)
        except zlib.error as error:
            raise TransferFault(f"the answer cannot be unpacked: {error}") from error
        self._size += len(plain)
        if self._size > self._limit:
            raise TransferFault("the unpacked answer is larger than download.max_file_mb", INVALID_FILE, passes=False)
        return plain


def _refuse_page(beginning: bytes) -> None:
    text = beginning.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<votable")):
        raise TransferFault("the archive answered with a page instead of a file")
