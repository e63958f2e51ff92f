"""Calibration files, fetched once for all sources and runs, and checked against the exposures they stand in for."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from spxflow import workers
from spxflow.archive.calibration import LARGEST_LISTING, CalibrationFile, latest_file
from spxflow.archive.errors import ArchiveError
from spxflow.files import hold_lock, partial_path, read_cache, remove_partials, write_json
from spxflow.mef.blocks import InvalidFile
from spxflow.observations import Observation
from spxflow.transfer.client import Body, HttpClient, http_client, write_pieces
from spxflow.transfer.faults import INVALID_FILE, TransferFault
from spxflow.transfer.settings import CalibrationSettings, TransferSettings

if TYPE_CHECKING:
    from spxflow.mef import Calibration

LATEST_RELEASE = "QR3"

_PSF = {"QR2": "average_psf", "QR3": "epsf"}
_WAVELENGTH = "spectral_wcs"
_SOLID_ANGLE = "solid_angle_pixel_map"
_SOLID_ANGLE_RELEASE = "QR2"  # one map, of the pixels of the detector, for all releases
_GAIN = "l3_flux_corrections"
_DAY_S = 86400.0
_RELEASE = re.compile(r"spherex[/_](?P<release>qr\d+)")


class CalibrationUnavailableError(RuntimeError):
    """A calibration file that cannot be had; the text says which and why."""


def release_of(observation: Observation) -> str:
    """Release of an exposure, ``QR2`` or ``QR3``, by its address or collection; ``unknown`` where neither tells."""
    match = _RELEASE.search(observation.url) or _RELEASE.search(observation.collection)
    return match["release"].upper() if match else "unknown"


def _psf_family(release: str) -> str:
    if release not in _PSF:
        raise CalibrationUnavailableError(f"no calibration is known of release {release}, only of {', '.join(_PSF)}")
    return _PSF[release]


@dataclass(frozen=True)
class KeptFile:
    """A calibration file on disk."""

    file: CalibrationFile
    path: Path
    sha256: str


class CalibrationCache:
    """Calibration files of the latest version, in a directory shared by sources, runs, threads and processes.

    Each product and detector has a directory with its files and ``latest.json``, which says which of them is used, its
    digest, and when the archive was last asked for newer ones.

    Parameters
    ----------
    settings
        Directory, and which products are used.
    archive_url
        Archive host.
    client
        HTTP client.
    """

    def __init__(self, settings: CalibrationSettings, archive_url: str, client: HttpClient) -> None:
        self._settings = settings
        self._archive_url = archive_url
        self._client = client
        self._loaded: dict[tuple[Any, ...], Calibration] = {}
        self._kept: dict[tuple[str, str, int], KeptFile] = {}

    def load(
        self, release: str, detector: int, slim: bool = False, names: Mapping[str, str] = MappingProxyType({})
    ) -> Calibration:
        """Calibration of exposures of a release and detector, as configured.

        Parameters
        ----------
        release
            ``QR2`` or ``QR3``.
        detector
            1 to 6.
        slim
            Whether it has to stand in for the PSF and the wavelength table of the file.
        names
            Files to take for parts of the calibration, where they are kept, rather than those in use now.

        Raises
        ------
        CalibrationUnavailableError
            When a file cannot be had.
        """
        key = (release, detector, slim, *names.items())
        if key not in self._loaded:
            self._loaded[key] = self._load(release, detector, slim, names)
        return self._loaded[key]

    def names(self, release: str, detector: int, slim: bool = False) -> dict[str, str]:
        """Files in use for the parts of a calibration; otherwise as :meth:`load`."""
        products = self._products(release, slim)
        return {part: self.kept_file(*product, detector).file.name for part, (product, _) in products.items()}

    def psf_file(self, release: str, detector: int) -> Path:
        """The file with the PSF of a release and detector."""
        return self.kept_file(_psf_family(release), release, detector).path

    def kept_file(self, family: str, release: str, detector: int) -> KeptFile:
        """A product of the latest version, fetched when it is not there.

        Raises
        ------
        CalibrationUnavailableError
            When it cannot be had.
        """
        key = (family, release, detector)
        if key not in self._kept:
            self._kept[key] = self._find(family, release, detector)
        return self._kept[key]

    def _load(self, release: str, detector: int, slim: bool, names: Mapping[str, str]) -> Calibration:
        from spxflow import mef

        parts: dict[str, Any] = {}
        provenance: dict[str, str] = {}
        for part, (product, reader) in self._products(release, slim).items():
            path = self.kept_file(*product, detector).path
            named = path.parent / Path(names.get(part, "")).name
            path = named if named.is_file() else path
            try:
                parts[part] = getattr(mef, reader)(path)
            except (InvalidFile, OSError) as error:
                raise CalibrationUnavailableError(f"{path}: {error}") from error
            provenance[part] = path.name
        return mef.Calibration(detector=detector, provenance=provenance, **parts)

    def _products(self, release: str, slim: bool) -> dict[str, tuple[tuple[str, str], str]]:
        """By part of the calibration: family and release of its product, and what of :mod:`spxflow.mef` reads it."""
        settings = self._settings
        harmonise = settings.harmonise and release != LATEST_RELEASE
        products: dict[str, tuple[tuple[str, str], str]] = {}
        if slim:
            products["psf"] = (_psf_family(release), release), "read_psf"
        if slim or harmonise or settings.wavelength == "map":
            reader = "read_wave_map" if settings.wavelength == "map" else "read_wave_table"
            products["wavelength"] = (_WAVELENGTH, LATEST_RELEASE if harmonise else release), reader
        if settings.solid_angle == "map":
            products["solid_angle"] = (_SOLID_ANGLE, _SOLID_ANGLE_RELEASE), "read_solid_angle"
        if harmonise:
            products["gain"] = (_GAIN, LATEST_RELEASE), "read_gain"
        return products

    def _find(self, family: str, release: str, detector: int) -> KeptFile:
        directory = Path(self._settings.directory) / release.lower() / family / f"D{detector}"
        kept = self._current(directory)  # that of another user is read where it cannot be locked
        if kept is not None:
            return kept
        try:
            with hold_lock(directory / ".lock", waits=True):
                return self._current(directory) or self._renewed(directory, release, family, detector)
        except (TransferFault, ArchiveError, OSError) as error:
            kept, _ = _recorded(directory)
            if kept is None:
                raise CalibrationUnavailableError(
                    f"calibration {family} of {release} D{detector} cannot be had: {error}"
                ) from error
            return kept

    def _current(self, directory: Path) -> KeptFile | None:
        kept, checked = _recorded(directory)
        return kept if time.time() - checked < self._settings.check_days * _DAY_S else None

    def _renewed(self, directory: Path, release: str, family: str, detector: int) -> KeptFile:
        remove_partials(directory)
        kept, _ = _recorded(directory)
        file = latest_file(self._listing, self._archive_url, release, family, detector)
        if kept is None or kept.file.token != file.token:
            kept = self._fetched(file, directory)
        content = {**asdict(kept.file), "sha256": kept.sha256, "size": kept.path.stat().st_size}
        write_json(directory / "latest.json", {**content, "checked": time.time()}, indent=1)
        return kept

    def _listing(self, url: str) -> bytes:
        return self._client.read(url, LARGEST_LISTING)

    def _fetched(self, file: CalibrationFile, directory: Path) -> KeptFile:
        path = directory / file.name

        def keep(body: Body) -> str:
            with partial_path(path) as partial:
                digest, _ = write_pieces(partial, iter(body.read, b""))
                _check_fits(partial, digest)
            return digest

        return KeptFile(file, path, self._client.get(file.url, keep))


@workers.shared
def calibration_cache(settings: CalibrationSettings, transfer: TransferSettings) -> CalibrationCache:
    """The cache of this process for these settings, which shares the client of its transfers."""
    return CalibrationCache(settings, transfer.archive_url, http_client(transfer))


def _check_fits(path: Path, digest: str) -> None:
    from spxflow.mef.layout import open_layout

    try:
        open_layout(path)
    except InvalidFile as error:
        raise TransferFault(error.reason, INVALID_FILE, fingerprint=digest) from error


def _recorded(directory: Path) -> tuple[KeptFile | None, float]:
    """The file in use and when newer ones were looked for; None when it is not there as it was written."""
    try:
        content = read_cache(directory / "latest.json")
        file = CalibrationFile(**{name: content[name] for name in CalibrationFile.__dataclass_fields__})
        path = directory / file.name
        if path.parent != directory or not path.is_file() or path.stat().st_size != content["size"]:
            return None, 0.0
        return KeptFile(file, path, str(content["sha256"])), float(content["checked"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None, 0.0
