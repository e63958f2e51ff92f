"""The six detectors: wavelengths, noise and other numbers, with where each comes from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spxflow.demo.geometry import FRAME, Floats

UJY_PER_ARCSEC2 = 23.504430  # 1 MJy/sr in uJy/arcsec^2 (facts 0.5)
PIXEL_ARCSEC = 6.153  # sqrt|det PC| of the real header
ZONE_CENTRES = tuple((index + 0.5) * FRAME / 11 + 0.5 for index in range(11))  # 1-based px, facts 1.7
QR3_WAVELENGTH_SHIFT_UM = {5: 0.0064, 6: 0.0064}  # QR3 tables minus QR2 tables, facts 1.8


@dataclass(frozen=True)
class Detector:
    """Numbers of one detector.

    ``wavelength_range_um`` is em_min, em_max of the archive's answers, ``omega_arcsec2`` the median of real
    OMEGA_MEDIAN cards, ``sigma_mjysr`` the median of sqrt(VARIANCE) in the Cloverleaf cutouts (facts 1.6, 4, 5).
    ``photon_slope`` is the variance per brightness (MJy/sr) that explains the published errors of the
    Cloverleaf fluxes: (err^2 - n_pixels sigma^2) / flux. ``zodi_scale`` and ``psf_fwhm_arcsec`` are the Cloverleaf
    medians.
    """

    wavelength_range_um: tuple[float, float]
    resolving_power: float
    omega_arcsec2: float
    sigma_mjysr: float
    photon_slope: float
    zodi_scale: float
    psf_fwhm_arcsec: float
    overflow_mjysr: float  # brightness of a pixel above which the ramp overflows (from facts 5: 0.1-0.2 Jy)

    @property
    def read_variance(self) -> float:
        """Part of the variance that does not depend on brightness: a fifth of the median (assumed)."""
        return 0.2 * self.sigma_mjysr**2

    def background_mjysr(self, sigma_mjysr: ArrayLike) -> Floats:
        """Brightness of the sky that makes a pixel as noisy as ``sigma_mjysr``."""
        excess = np.asarray(sigma_mjysr, dtype=float) ** 2 - self.read_variance
        return np.maximum(excess, 0.1 * self.read_variance) / self.photon_slope


DETECTORS = {
    1: Detector((0.7455, 1.1167), 39.1, 37.866, 0.0165, 1.47e-3, 1.21, 4.65, 60.0),
    2: Detector((1.1033, 1.6499), 41.4, 37.700, 0.0161, 1.30e-3, 1.17, 4.54, 60.0),
    3: Detector((1.6301, 2.4346), 40.6, 37.866, 0.0134, 1.17e-3, 1.17, 4.60, 60.0),
    4: Detector((2.4027, 3.8473), 34.9, 37.938, 0.0098, 0.97e-3, 1.35, 5.31, 60.0),
    5: Detector((3.8113, 4.4300), 111.6, 37.777, 0.0227, 3.46e-3, 1.26, 5.57, 200.0),
    6: Detector((4.4115, 5.0096), 127.8, 37.939, 0.0329, 4.64e-3, 1.04, 5.58, 200.0),
}


@dataclass(frozen=True)
class WaveTable:
    """WCS-WAVE table of a detector: bilinear in 1-based detector pixels, µm."""

    x: NDArray[np.int32]
    y: NDArray[np.int32]
    wavelength: Floats  # (ny, nx)
    bandwidth: Floats  # (ny, nx)

    def at(self, x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
        """Wavelength and bandwidth in µm at 0-based detector pixels, held constant outside the frame."""
        i, s = _cell(self.x, x)
        j, t = _cell(self.y, y)
        return _bilinear(self.wavelength, i, j, s, t), _bilinear(self.bandwidth, i, j, s, t)

    def row_of(self, x: float, wavelength_um: float) -> float:
        """0-based detector row in column ``x`` with that wavelength; NaN outside the frame."""
        rows = self.y.astype(float) - 1.0
        wavelengths, _ = self.at(np.full(rows.size, x), rows)
        return float(np.interp(-wavelength_um, -wavelengths, rows, left=np.nan, right=np.nan))


def _cell(knots: NDArray[np.int32], position: ArrayLike) -> tuple[NDArray[np.intp], Floats]:
    p = np.clip(np.asarray(position, dtype=float) + 1.0, 1.0, float(FRAME))
    index = np.clip(np.searchsorted(knots, p, side="right") - 1, 0, knots.size - 2)
    left = knots[index]
    return index, (p - left) / (knots[index + 1] - left)


def _bilinear(table: Floats, i: NDArray[np.intp], j: NDArray[np.intp], s: Floats, t: Floats) -> Floats:
    low = table[j, i] * (1.0 - s) + table[j, i + 1] * s
    high = table[j + 1, i] * (1.0 - s) + table[j + 1, i + 1] * s
    return low * (1.0 - t) + high * t


@lru_cache(maxsize=12)
def wave_table(detector: int, release: str) -> WaveTable:
    """The real table of a detector; QR3 differs by a constant in D5 and D6 (facts 1.8)."""
    text = (files("spxflow.demo") / "data" / "wave_tables_qr2.json").read_text(encoding="utf-8")
    table = json.loads(text)["tables"][f"qr2:D{detector}"]
    shift = QR3_WAVELENGTH_SHIFT_UM.get(detector, 0.0) if release == "qr3" else 0.0
    # The archive stores float32; what a reader gets is that, not the decimal numbers.
    stored = (np.array(table["wavelength"]) + shift).astype(np.float32), np.array(table["bandwidth"], np.float32)
    return WaveTable(
        x=np.array(table["x"], dtype=np.int32),
        y=np.array(table["y"], dtype=np.int32),
        wavelength=stored[0].astype(float),
        bandwidth=stored[1].astype(float),
    )


def science_wavelength(detector: int, release: str, x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    """Wavelength and bandwidth of a pixel as the CWAVE and CBAND maps hold them, µm.

    The maps are the finer calibration; WCS-WAVE follows them to about 1 nm. How they differ is not known:
    assumed is a smooth ripple of up to 0.3 nm.
    """
    wavelength, bandwidth = wave_table(detector, release).at(x, y)
    u = np.asarray(x, dtype=float) / (0.5 * FRAME) - 1.0
    v = np.asarray(y, dtype=float) / (0.5 * FRAME) - 1.0
    return wavelength + 3.0e-4 * (v * (1.0 - v * v) * 2.0 + 0.3 * u * (1.0 - u * u)), bandwidth


def solid_angle_scale(detector: int) -> float:
    """Pixel area of a detector relative to that of the real header (which is of D3)."""
    return DETECTORS[detector].omega_arcsec2 / DETECTORS[3].omega_arcsec2


def key_of(*parts: object) -> int:
    """A 64-bit number made of what the arguments say, alike on every machine."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def generator(*parts: object) -> np.random.Generator:
    """A random stream of its own for what the arguments say."""
    return np.random.Generator(np.random.Philox(key=key_of(*parts)))
