"""What is transferred, from where, and how patiently."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spxflow.archive.settings import IRSA_URL
from spxflow.config import Section
from spxflow.errors import ConfigError
from spxflow.mef.calibration import DETECTOR_SIZE

_PIXEL_ARCSEC = 6.153
_UNITS = {"px": _PIXEL_ARCSEC, "arcsec": 1.0, "arcmin": 60.0, "deg": 3600.0}
_SIZE = re.compile(r"(?P<value>\d+(?:\.\d*)?|\.\d+)\s*(?P<unit>[A-Za-z]*)")


@dataclass(frozen=True)
class CutoutSize:
    """Width and height of a cutout in one unit: px, arcsec, arcmin or deg."""

    width: float
    height: float
    unit: str

    @classmethod
    def parse(cls, text: str | float) -> CutoutSize:
        """From ``60px``, ``3arcmin``, ``0.1deg`` or ``60px,40px``.

        Raises
        ------
        ConfigError
            When it is something else.
        """
        parts = [_SIZE.fullmatch(part.strip()) for part in str(text).split(",")]
        found = [(float(part["value"]), part["unit"].lower()) for part in parts if part is not None]
        units = {unit for _, unit in found if unit}
        if len(found) != len(parts) or len(parts) > 2 or len(units) != 1 or not found[-1][1] or units - _UNITS.keys():
            raise _refused(text)
        size = cls(found[0][0], found[-1][0], units.pop())
        if not all(1 <= side <= DETECTOR_SIZE for side in size.pixels()):
            raise _refused(text)
        return size

    def pixels(self) -> tuple[int, int]:
        """Width and height in pixels, the service's ``round(size / scale)`` (facts 1.9)."""
        scale = _PIXEL_ARCSEC / _UNITS[self.unit]
        return round(self.width / scale), round(self.height / scale)

    def __str__(self) -> str:
        sides = (self.width,) if self.width == self.height else (self.width, self.height)
        return ",".join(f"{side:.10g}" for side in sides) + self.unit


def _refused(text: object) -> ConfigError:
    return ConfigError(
        f"cutout.size: got {text!r}, takes a width, or a width and a height, of 1 to {DETECTOR_SIZE} pixels "
        "in px, arcsec, arcmin or deg: 60px or 3arcmin or 0.1deg,0.2deg"
    )


def parse_center(text: str | None) -> tuple[float, float] | None:
    """Right ascension and declination from ``"ra,dec"`` in degrees; None for none.

    Raises
    ------
    ConfigError
        When it is something else.
    """
    if text is None:
        return None
    try:
        ra_deg, dec_deg = (float(part) for part in str(text).split(","))
    except ValueError:
        ra_deg = dec_deg = math.nan
    if not (0.0 <= ra_deg < 360.0 and -90.0 <= dec_deg <= 90.0):
        raise ConfigError(f"cutout.center: got {text!r}, takes ra,dec in degrees (0 to 360, -90 to 90), or null")
    return ra_deg, dec_deg


@dataclass(frozen=True)
class TransferSettings(Section):
    """Sections ``download`` and ``cutout`` of the configuration, and where the archive is.

    Attributes
    ----------
    mode
        ``cutout``, ``full`` or ``slim``.
    size, center
        Cutout, and its centre (ICRS, degrees; None: the source).
    archive_url, s3_url
        Archive host; root of its copy with byte ranges.
    slim_from
        ``cutout`` (cutout service, left at the PSF), ``archive`` or ``s3`` (byte ranges of whole images there).
    range_gap_kb
        Bytes between two wanted parts of a file that are read with them rather than left out, kB.
    connections
        Connections to one host at a time.
    retries, retry_wait_s, retry_wait_max_s
        Tries after the first one; waits between them double from the one to the other, s.
    retry_after_max_s
        A ``Retry-After`` longer than this ends the tries, s.
    connect_timeout_s, timeout_s
        Longest wait for a connection, and for the next bytes, s.
    min_rate_kb_s
        An answer slower than this on average over ``timeout_s`` is given up, kB/s.
    max_file_mb
        Largest file accepted, MB.
    """

    mode: str = "cutout"
    size: CutoutSize = CutoutSize(60.0, 60.0, "px")
    center: tuple[float, float] | None = None
    archive_url: str = IRSA_URL
    s3_url: str = "https://nasa-irsa-spherex.s3.us-east-1.amazonaws.com"
    slim_from: str = "cutout"
    range_gap_kb: float = 1.0
    connections: int = 4
    retries: int = 8
    retry_wait_s: float = 1.0
    retry_wait_max_s: float = 60.0
    retry_after_max_s: float = 600.0
    connect_timeout_s: float = 30.0
    timeout_s: float = 120.0
    min_rate_kb_s: float = 10.0
    max_file_mb: float = 200.0

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> TransferSettings:
        """Settings from the whole configuration.

        Raises
        ------
        ConfigError
            For a cutout size or centre that cannot be read.
        """
        archive, cutout = config["archive"], config["cutout"]
        return cls.from_options(
            {
                **config["download"],
                "archive_url": archive["url"].rstrip("/"),
                "s3_url": archive["s3_url"].rstrip("/"),
                "size": CutoutSize.parse(cutout["size"]),
                "center": parse_center(cutout["center"]),
            }
        )


@dataclass(frozen=True)
class CalibrationSettings(Section):
    """Section ``calibration`` of the configuration.

    Attributes
    ----------
    directory
        Where calibration files are kept, for all sources and runs.
    wavelength
        ``table`` (the coarse table of each file) or ``map`` (wavelength of every pixel).
    solid_angle
        ``wcs`` (by the distortion of each file) or ``map``.
    harmonise
        Whether exposures of earlier releases are brought to the calibration of the latest.
    check_days
        Days after which the archive is asked for newer versions.
    """

    directory: Path | str = "calibration"
    wavelength: str = "table"
    solid_angle: str = "wcs"
    harmonise: bool = False
    check_days: float = 30.0
