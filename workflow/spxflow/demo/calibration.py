"""Calibration products: the tree of files that hold once per detector what every Level-2 file repeats.

Families, tokens and contents are those of the archive (facts 4, 1.11). Made up are the oldest token of
``spectral_wcs``, the day in the tokens of ``epsf``, the names of the HDUs but for CWAVE, CBAND, WCS-WAVE and
PSF-DATA-CUBE, and how older versions differ from the newest ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spxflow.demo import level2
from spxflow.demo.frames import Camera, dead_pixels, gain_by_row
from spxflow.demo.geometry import FRAME, TanSip, rotated_pc
from spxflow.demo.headers import Template, make_card
from spxflow.demo.instrument import science_wavelength, solid_angle_scale

# release, family, token, detectors; several tokens of a family are in order of age.
_TREE = (
    ("qr2", "spectral_wcs", "cal-wcs-v3-2025-172", (1, 2, 3, 4, 5, 6)),
    ("qr2", "spectral_wcs", "cal-wcs-v4-2025-254", (1, 2, 3, 4, 5, 6)),
    ("qr2", "solid_angle_pixel_map", "cal-sapm-v2-2025-164", (1, 2, 3, 4, 5, 6)),
    ("qr2", "average_psf", "cal-psf-v4-2025-161", (1, 2, 3, 4, 5, 6)),
    ("qr2", "average_psf", "cal-psf-v5-2025-206", (1, 2, 3, 4, 5, 6)),
    ("qr2", "average_psf", "cal-psf-v5-2026-082", (1, 2, 3, 4, 5, 6)),
    ("qr3", "spectral_wcs", "cal-swcs-v5-2026-191", (1, 2, 3, 4, 5, 6)),
    ("qr3", "epsf", "cal-epsf-v1-2026-191", (1, 2, 3, 4, 5, 6)),
    ("qr3", "epsf", "cal-epsf-v2-2026-191", (3,)),
    ("qr3", "l3_flux_corrections", "cal-flxc-v1-2026-191", (1, 2, 3, 4, 5, 6)),
)
_OLD_WAVELENGTHS, _OLD_PSF = "cal-wcs-v3-2025-172", "cal-psf-v4-2025-161"
_CORRECTED_PSF = "cal-psf-v5-2026-082"  # zone keywords in the right order (facts 1.7)


@dataclass(frozen=True)
class CalibrationFile:
    """One calibration product of one detector. ``path`` is the key after ``/ibe/data/spherex/``."""

    path: str
    release: str
    family: str
    token: str
    detector: int
    camera: Camera

    def render(self) -> bytes:
        """The whole file."""
        own = make_card("TELESCOP", "SPHEREx", "project name"), make_card("INSTRUME", "SPHEREx", "instrument name")
        return level2.primary_header(*own) + _MAKERS[self.family](self)


def calibration_files(camera: Camera) -> dict[str, CalibrationFile]:
    """All calibration products of an archive, by path."""
    products = {}
    for release, family, token, detectors in _TREE:
        for detector in detectors:
            path = f"{release}/{family}/{token}/{detector}/{family}_D{detector}_spx_{token}.fits"
            products[path] = CalibrationFile(path, release, family, token, detector, camera)
    return products


def _map_hdu(detector: int, name: str, unit: str, values: NDArray[np.float64]) -> bytes:
    cards = (
        make_card("XTENSION", "IMAGE", "Image extension"),
        make_card("BITPIX", -32, "array data type"),
        make_card("NAXIS", 2, "number of array dimensions"),
        make_card("NAXIS1", FRAME),
        make_card("NAXIS2", FRAME),
        make_card("PCOUNT", 0, "number of parameters"),
        make_card("GCOUNT", 1, "number of groups"),
        make_card("EXTNAME", name, "extension name"),
        make_card("BUNIT", unit, "Unit of pixel value"),
        make_card("DETECTOR", detector, "1-3: SWIR, 4-6: MWIR"),
        make_card("DETCOORD", "sky", "MWIR pixels flipped on X to match SWIR view"),
    )
    return Template(cards).render() + np.broadcast_to(values, (FRAME, FRAME)).astype(">f4").tobytes()  # whole blocks


def _grid() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Columns ``(1, 2040)`` and rows ``(2040, 1)`` of a detector, 0-based."""
    index = np.arange(FRAME, dtype=float)
    return index[None, :], index[:, None]


def _spectral_wcs(file: CalibrationFile) -> bytes:
    wavelength, bandwidth = science_wavelength(file.detector, file.release, *_grid())
    if file.token == _OLD_WAVELENGTHS:
        wavelength = wavelength + 0.003
    return (
        _map_hdu(file.detector, "CWAVE", "um", wavelength)
        + _map_hdu(file.detector, "CBAND", "um", bandwidth)
        + level2.wave_hdu(file.detector, file.release)
    )


def _solid_angle(file: CalibrationFile) -> bytes:
    wcs = TanSip(0.0, 0.0, rotated_pc(0.0, solid_angle_scale(file.detector)))
    return _map_hdu(file.detector, "IMAGE", "arcsec2", wcs.solid_angle_arcsec2(*_grid()))


def _average_psf(file: CalibrationFile) -> bytes:
    asymmetry = file.camera.asymmetry * (0.7 if file.token == _OLD_PSF else 1.0)
    return level2.psf_hdu(file.detector, asymmetry, file.token != _CORRECTED_PSF, "PSF-DATA-CUBE")


def _epsf(file: CalibrationFile) -> bytes:
    is_superseded = file.detector == 3 and "-v1-" in file.token
    return level2.epsf_hdu(file.detector, file.camera.asymmetry, "epsf_3_20260311.fits" if is_superseded else "")


def _flux_corrections(file: CalibrationFile) -> bytes:
    """The factor of each row, 1 where the scenario has no gain error; wild values in pixels that do not work."""
    rows = gain_by_row(file.detector) if file.camera.gain_error else np.ones(FRAME)
    factor = np.repeat(rows[:, None], FRAME, axis=1)
    j, i = dead_pixels(file.camera, file.detector)
    factor[j, i] = np.where((i + j) % 2 == 0, 0.01, 37.5)
    return _map_hdu(file.detector, "IMAGE", "", factor)


_MAKERS: dict[str, Callable[[CalibrationFile], bytes]] = {
    "spectral_wcs": _spectral_wcs,
    "solid_angle_pixel_map": _solid_angle,
    "average_psf": _average_psf,
    "epsf": _epsf,
    "l3_flux_corrections": _flux_corrections,
}
