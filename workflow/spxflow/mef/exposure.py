"""A Level-2 file, QR2 or QR3, as one object."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spxflow.mef.blocks import InvalidFile
from spxflow.mef.calibration import DETECTOR_SIZE, Calibration, effective_psf, optical_psf, wave_table
from spxflow.mef.flags import read_flag_bits
from spxflow.mef.header import Header
from spxflow.mef.layout import Layout, open_layout
from spxflow.mef.pixels import Window, plane_shape, read_flags, read_plane
from spxflow.mef.wavelength import Wavelengths
from spxflow.mef.wcs import TanSip, read_wcs
from spxflow.psf import PsfModel

#: Release of each major number of VERSION, the pipeline that made a file (facts 0.2, 1.1).
RELEASES = {6: "QR2", 7: "QR3"}

PLANES = ("IMAGE", "FLAGS", "VARIANCE", "ZODI")

_PSF_FLUX_TOLERANCE = 0.2

_IN_FILE = {"psf": "in the file", "wavelength": "WCS-WAVE in the file", "solid_angle": "celestial WCS", "gain": "none"}


@dataclass(frozen=True)
class SkyWindow:
    """A part of an image: the square of ``size_px`` pixels around a position (ICRS, degrees), clipped to the image."""

    ra_deg: float
    dec_deg: float
    size_px: int


@dataclass(frozen=True)
class Footprint:
    """Where an image lies on the sky and on the detector.

    Attributes
    ----------
    wcs
        Pixels of the image at hand to the sky.
    nx, ny
        Size, pixels.
    x0, y0
        0-based detector pixel of its first pixel.
    """

    wcs: TanSip
    nx: int
    ny: int
    x0: int
    y0: int


@dataclass(frozen=True)
class Exposure:
    """One exposure by one detector, or the part of it that a file holds.

    Attributes
    ----------
    release, pipeline_version
        ``QR2`` or ``QR3``, and VERSION of the file.
    detector
        1-6.
    mjd_begin, mjd_mid, mjd_end
        MJD (UTC) of the exposure.
    psf_fwhm_arcsec
        Median PSF FWHM of the exposure, arcsec.
    image, variance, zodi
        Shape (ny, nx), float32, MJy/sr and (MJy/sr)². ``zodi`` is a model and not subtracted from ``image``.
    flags
        Shape (ny, nx), uint32, bits of ``flag_bits``.
    x0, y0
        0-based detector pixel of ``image[0, 0]``.
    x_file, y_file
        0-based pixel of the file that is ``image[0, 0]``; not 0 only when a window of the file was read.
    wcs
        Pixels of the arrays at hand to the sky.
    wavelength, psf
        Functions of the detector position.
    spacecraft_km
        Geocentric position in the middle of the exposure, km, or None.
    calibration
        What the PSF, the wavelength, the solid angle and the gain are from.
    header
        The other keywords of IMAGE.
    solid_angle_map
        Shape (ny, nx), arcsec², or None: from the celestial WCS.
    """

    release: str
    pipeline_version: str
    detector: int
    mjd_begin: float
    mjd_mid: float
    mjd_end: float
    psf_fwhm_arcsec: float
    image: NDArray[np.float32]
    variance: NDArray[np.float32]
    zodi: NDArray[np.float32]
    flags: NDArray[np.uint32]
    flag_bits: Mapping[str, int]
    x0: int
    y0: int
    x_file: int
    y_file: int
    wcs: TanSip
    wavelength: Wavelengths
    psf: PsfModel
    spacecraft_km: tuple[float, float, float] | None
    calibration: Mapping[str, str]
    header: Header = field(repr=False)
    solid_angle_map: NDArray[np.floating] | None = field(default=None, repr=False)

    def has_pixel(self, x: float, y: float) -> bool:
        """Whether a 0-based position falls on a pixel of the image at hand."""
        ny, nx = self.image.shape
        return bool(-0.5 <= x < nx - 0.5 and -0.5 <= y < ny - 0.5)

    def solid_angle_arcsec2(self, x: ArrayLike, y: ArrayLike) -> NDArray[np.floating]:
        """Solid angle of the pixels at 0-based positions of the image at hand, arcsec².

        From the calibration map (nearest pixel) if there is one, else from the celestial WCS with its distortion.
        """
        if self.solid_angle_map is None:
            return self.wcs.solid_angle_arcsec2(x, y)
        ny, nx = self.solid_angle_map.shape
        column = np.clip(np.rint(x).astype(np.intp), 0, nx - 1)
        row = np.clip(np.rint(y).astype(np.intp), 0, ny - 1)
        return self.solid_angle_map[row, column].astype(np.float64)


def read_exposure(
    source: Path | str | bytes, calibration: Calibration | None = None, around: SkyWindow | None = None
) -> Exposure:
    """Read a Level-2 file: a cutout of any size or a whole image, with or without its PSF and wavelength HDUs.

    Parameters
    ----------
    source
        Path of the file, or its content.
    calibration
        Used in place of what the file holds, and needed for what it does not.
    around
        The part of the image to read; None reads all of it.

    Raises
    ------
    InvalidFile
        For anything that is wrong with the content of the file.
    OSError
        When the file cannot be opened.
    """
    layout = open_layout(source)
    footprint = _footprint(layout)
    header = layout["IMAGE"].header
    _check_unit(header)
    release, version = _release(layout)
    detector = _detector(header)
    calibration = calibration or Calibration(detector)
    if calibration.detector != detector:
        raise InvalidFile(
            f"HDU IMAGE: DETECTOR is {detector}, the calibration given is of detector {calibration.detector}"
        )
    window = _window(footprint, around)
    rows, columns = Window(window.x0 + footprint.x0, window.y0 + footprint.y0, window.nx, window.ny).slices
    image, variance = read_plane(layout["IMAGE"], window), read_plane(layout["VARIANCE"], window)
    gain = calibration.gain[rows, columns] if calibration.gain is not None and release == "QR2" else None
    if gain is not None:
        with np.errstate(all="ignore"):  # pixels that are not finite stay so
            image, variance = image * gain, variance * gain**2
    return Exposure(
        release=release,
        pipeline_version=version,
        detector=detector,
        mjd_begin=header.number("MJD-BEG"),
        mjd_mid=header.number("MJD-AVG"),
        mjd_end=header.number("MJD-END"),
        psf_fwhm_arcsec=_psf_fwhm(header),
        image=image,
        variance=variance,
        zodi=read_plane(layout["ZODI"], window),
        flags=read_flags(layout["FLAGS"], window),
        flag_bits=read_flag_bits(layout["FLAGS"].header),
        x0=columns.start,
        y0=rows.start,
        x_file=window.x0,
        y_file=window.y0,
        wcs=footprint.wcs.shifted(window.x0, window.y0),
        wavelength=calibration.wavelength or _wavelength(layout),
        psf=calibration.psf or _psf(layout, columns.start + window.nx / 2, rows.start + window.ny / 2),
        spacecraft_km=_spacecraft(header),
        calibration=_origins(calibration, gain is not None),
        header=header,
        solid_angle_map=None if calibration.solid_angle is None else calibration.solid_angle[rows, columns],
    )


def validate_file(source: Path | str | bytes, need_psf: bool) -> Footprint:
    """Check cheaply that a file is a whole Level-2 file, without reading its pixels.

    Parameters
    ----------
    source
        Path of the file, or its content.
    need_psf
        Whether the PSF and the wavelength table must be in it; not so for slim files.

    Returns
    -------
    Footprint
        With it the caller sees whether the file has the position that was asked for.

    Raises
    ------
    InvalidFile
        When HDUs are missing, cut short, or of different sizes.
    """
    layout = open_layout(source)
    footprint = _footprint(layout)
    if need_psf:
        _psf_name(layout)
        layout["WCS-WAVE"]
    return footprint


def _footprint(layout: Layout) -> Footprint:
    shapes = {name: plane_shape(layout[name]) for name in PLANES}
    if len(set(shapes.values())) > 1:
        sizes = ", ".join(f"{name} {shape[1]} x {shape[0]}" for name, shape in shapes.items())
        raise InvalidFile(f"the planes differ in size: {sizes}")
    (ny, nx), header = shapes["IMAGE"], layout["IMAGE"].header
    x0, y0 = (1 - header.number(keyword) for keyword in ("CRPIX1A", "CRPIX2A"))
    if not (x0.is_integer() and y0.is_integer() and 0 <= x0 <= DETECTOR_SIZE - nx and 0 <= y0 <= DETECTOR_SIZE - ny):
        raise InvalidFile(
            f"HDU IMAGE: CRPIX1A, CRPIX2A place its {nx} x {ny} pixels at ({x0:g}, {y0:g}) of a detector of "
            f"{DETECTOR_SIZE} x {DETECTOR_SIZE}"
        )
    return Footprint(read_wcs(header), nx, ny, int(x0), int(y0))


def _release(layout: Layout) -> tuple[str, str]:
    version = layout["PRIMARY"].header.text("VERSION")
    major = re.match(r"\d+(?=\.)", version)
    release = RELEASES.get(int(major[0])) if major else None
    if release is None:
        known = ", ".join(f"{number}.x {name}" for number, name in RELEASES.items())
        raise InvalidFile(f"HDU PRIMARY: VERSION {version!r} is of no known release ({known})")
    return release, version


def _check_unit(header: Header) -> None:
    unit = header.text("BUNIT")
    if unit.replace(" ", "") != "MJy/sr":
        raise InvalidFile(f"HDU IMAGE: BUNIT is {unit!r}, not MJy / sr")


def _detector(header: Header) -> int:
    detector = header.integer("DETECTOR")
    if not 1 <= detector <= 6:
        raise InvalidFile(f"HDU IMAGE: DETECTOR is {detector}, not 1-6")
    return detector


def _psf_fwhm(header: Header) -> float:
    fwhm = header.number("PSF_FWHM")
    if not 0 < fwhm < 600:
        raise InvalidFile(f"HDU IMAGE: PSF_FWHM is {fwhm} arcsec")
    return fwhm


def _window(footprint: Footprint, around: SkyWindow | None) -> Window:
    """Window of the file, by the rule of the archive's cutouts: floor(c + 1 - size / 2) (facts 1.9)."""
    if around is None:
        return Window(0, 0, footprint.nx, footprint.ny)
    x, y = footprint.wcs.sky_to_pixel(around.ra_deg, around.dec_deg)
    first_x, nx = _clipped(float(x), around.size_px, footprint.nx)
    first_y, ny = _clipped(float(y), around.size_px, footprint.ny)
    return Window(first_x, first_y, nx, ny)


def _clipped(centre: float, size: int, available: int) -> tuple[int, int]:
    """First pixel and number of pixels; a pixel at the border for a centre that is not on the image."""
    nearest = min(max(np.nan_to_num(centre, nan=-1e9), -size / 2), available + size / 2)
    first = int(np.floor(nearest + 1 - size / 2))
    start = min(max(first, 0), available - 1)
    return start, max(min(first + size, available) - start, 1)


def _psf_name(layout: Layout) -> str:
    for name in ("PSF", "EPSF"):
        if name in layout:
            return name
    raise InvalidFile(f"HDU PSF (QR2) or EPSF (QR3) is missing (there are {', '.join(layout)}), none was given")


def _psf(layout: Layout, x: float, y: float) -> PsfModel:
    """PSF in the file; its planes for detector position (x, y), the middle of the image, must hold about unit flux."""
    name = _psf_name(layout)
    psf = optical_psf(layout[name]) if name == "PSF" else effective_psf(layout[name])
    with np.errstate(all="ignore"):  # damaged bytes make any number
        total = psf.total(x, y)
    if not abs(total - 1) < _PSF_FLUX_TOLERANCE:
        raise InvalidFile(f"HDU {name}: the PSF at detector pixel ({x:.0f}, {y:.0f}) has the flux {total:.4g}, not 1")
    return psf


def _wavelength(layout: Layout) -> Wavelengths:
    header = layout["IMAGE"].header
    for axis in (1, 2):
        if header.number(f"CRPIX{axis}W", header.number(f"CRPIX{axis}A")) != header.number(f"CRPIX{axis}A"):
            raise InvalidFile(f"HDU IMAGE: CRPIX{axis}W and CRPIX{axis}A disagree on the place on the detector")
    return wave_table(layout["WCS-WAVE"])


def _spacecraft(header: Header) -> tuple[float, float, float] | None:
    if not all(keyword in header for keyword in ("X_SC", "Y_SC", "Z_SC")):
        return None
    return header.number("X_SC"), header.number("Y_SC"), header.number("Z_SC")


def _origins(calibration: Calibration, gain_used: bool) -> Mapping[str, str]:
    used = {
        "psf": calibration.psf is not None,
        "wavelength": calibration.wavelength is not None,
        "solid_angle": calibration.solid_angle is not None,
        "gain": gain_used,
    }
    return {part: calibration.provenance.get(part, "given") if used[part] else _IN_FILE[part] for part in used}
