"""Calibration that holds for every image of a detector: from the files of a release, in place of a file's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spxflow.mef.blocks import InvalidFile
from spxflow.mef.header import Header
from spxflow.mef.layout import Hdu, Layout, open_layout
from spxflow.mef.wavelength import Wavelengths, WaveMap, WaveTable
from spxflow.psf import EffectivePsf, OpticalPsf, PsfModel, ZoneGrid

Source = Path | str | bytes

DETECTOR_SIZE = 2040  # active pixels a side
_GAIN_LIMITS = (0.5, 2.0)  # factors outside belong to dead and hot pixels (facts 1.11)


@dataclass(frozen=True)
class Calibration:
    """What is used instead of, or on top of, what an exposure's file holds.

    Attributes
    ----------
    detector
        1-6; files of another detector are refused.
    psf, wavelength
        Replace the file's own, and stand in where the file has none (slim files).
    solid_angle
        Shape (2040, 2040), arcsec²; replaces that of the celestial WCS.
    gain
        Shape (2040, 2040), repaired by :func:`read_gain`: multiplies IMAGE of QR2 files, its square VARIANCE.
    provenance
        Which file each of ``psf``, ``wavelength``, ``solid_angle``, ``gain`` is from.
    """

    detector: int
    psf: PsfModel | None = None
    wavelength: Wavelengths | None = None
    solid_angle: NDArray[np.floating] | None = None
    gain: NDArray[np.floating] | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)


def read_psf(source: Source) -> PsfModel:
    """PSF of a calibration file (families ``average_psf`` and ``epsf``) or of a Level-2 file."""
    layout = open_layout(source)
    if "EPSF" in layout:
        return effective_psf(layout["EPSF"])
    for name in ("PSF", "PSF-DATA-CUBE"):
        if name in layout:
            return optical_psf(layout[name])
    cubes = [hdu for hdu in layout.values() if hdu.extent.kind == "IMAGE" and len(hdu.extent.shape) == 3]
    if not cubes:
        raise InvalidFile(f"no PSF cube and no EPSF table (there are {', '.join(layout)})")
    return optical_psf(cubes[0])


def read_wave_table(source: Source) -> WaveTable:
    """Wavelength table (HDU ``WCS-WAVE``) of a calibration file (family ``spectral_wcs``) or of a Level-2 file."""
    return wave_table(open_layout(source)["WCS-WAVE"])


def read_wave_map(source: Source) -> WaveMap:
    """Wavelength and bandwidth of every pixel (HDUs ``CWAVE`` and ``CBAND``; family ``spectral_wcs``)."""
    layout = open_layout(source)
    return WaveMap(_detector_map(layout["CWAVE"]), _detector_map(layout["CBAND"]))


def read_solid_angle(source: Source) -> NDArray[np.floating]:
    """Solid angle of every pixel, arcsec², shape (2040, 2040) (family ``solid_angle_pixel_map``)."""
    return _detector_map(_only_map(open_layout(source)))


def read_gain(source: Source) -> NDArray[np.float32]:
    """Factors that bring QR2 images to the scale of QR3, shape (2040, 2040) (family ``l3_flux_corrections``).

    Factors outside 0.5-2, which dead and hot pixels have, are replaced by the median of the good ones of their row.
    """
    factors = _detector_map(_only_map(open_layout(source))).astype(np.float32)
    factors[~((factors >= _GAIN_LIMITS[0]) & (factors <= _GAIN_LIMITS[1]))] = np.nan
    bad = np.isnan(factors)
    if bad.all():
        raise InvalidFile("the gain map has no factor within 0.5-2")
    for row in np.flatnonzero(bad.any(axis=1)):
        good = factors[row][~bad[row]]
        factors[row, bad[row]] = np.median(good if good.size else factors[~bad])
    return factors


def _only_map(layout: Layout) -> Hdu:
    for hdu in layout.values():
        if hdu.extent.shape == (DETECTOR_SIZE, DETECTOR_SIZE):
            return hdu
    raise InvalidFile(f"no image of {DETECTOR_SIZE} x {DETECTOR_SIZE} pixels (there are {', '.join(layout)})")


def _detector_map(hdu: Hdu) -> NDArray[np.floating]:
    if hdu.extent.kind != "IMAGE" or hdu.extent.bitpix > 0 or hdu.extent.shape != (DETECTOR_SIZE, DETECTOR_SIZE):
        raise InvalidFile(f"HDU {hdu.extent.name}: not a floating point image of the detector ({hdu.extent.shape})")
    return hdu.array()


def wave_table(hdu: Hdu) -> WaveTable:
    """Table of HDU ``WCS-WAVE``: one row with columns X, Y, VALUES."""
    rows = hdu.table()
    x, y, values = (_column(hdu, rows, name)[0].astype(np.float64) for name in ("X", "Y", "VALUES"))
    if values.size != 2 * x.size * y.size:
        raise InvalidFile(f"HDU WCS-WAVE: VALUES has {values.size} numbers for {x.size} x {y.size} control points")
    return WaveTable(x, y, values.reshape(y.size, x.size, 2))


def optical_psf(hdu: Hdu) -> OpticalPsf:
    """PSF cube of HDU ``PSF`` (facts 1.7).

    The zone axes are the distinct centres, ascending, and planes are counted along x first: the keywords of single
    planes are transposed in files of VERSION 6.5.5 and before.
    """
    name = hdu.extent.name
    if hdu.extent.kind != "IMAGE" or hdu.extent.bitpix > 0 or len(hdu.extent.shape) != 3:
        raise InvalidFile(f"HDU {name}: not a cube of floating point numbers ({hdu.extent.shape})")
    n_planes, ny, nx = hdu.extent.shape
    if ny != nx or nx % 2 == 0 or not 3 <= nx <= 1001:
        raise InvalidFile(f"HDU {name}: planes of {nx} x {ny} samples have no middle one")
    return OpticalPsf(hdu.array(), *_cube_geometry(hdu.raw_header, name, n_planes, nx))


@lru_cache(maxsize=32)
def _cube_geometry(raw_header: bytes, name: str, n_planes: int, n: int) -> tuple[ZoneGrid, int]:
    """Zones and oversampling of a PSF cube; its 500 cards are the same in all files of a detector and version."""
    header = Header(raw_header, name)
    for axis in (1, 2):
        if header.number(f"CRPIX{axis}", (n + 1) / 2) != (n + 1) / 2:
            raise InvalidFile(
                f"HDU {name}: CRPIX{axis} is {header.get(f'CRPIX{axis}')}, not the middle sample {(n + 1) / 2}"
            )
    x_centres, y_centres = (np.array(header.distinct_numbers(f"{axis}CTR_", n_planes)) - 1 for axis in "XY")
    return _zones(x_centres, y_centres, n_planes, name), _oversampling(header.integer("OVERSAMP"), n, name)


def effective_psf(hdu: Hdu) -> EffectivePsf:
    """PSF table of HDU ``EPSF``, a row a zone, counted along x first (facts 1.11)."""
    rows, name = hdu.table(), hdu.extent.name
    samples = _column(hdu, rows, "EPSF")
    n = round(samples.shape[1] ** 0.5)
    if samples.dtype.kind != "f" or n * n != samples.shape[1] or n % 2 == 0 or n < 3:
        raise InvalidFile(f"HDU {name}: {samples.shape[1]} samples are no square with a middle one")
    x_centres, y_centres = (_column(hdu, rows, axis)[:, 0].astype(np.float64) for axis in ("XCENTER", "YCENTER"))
    zones = _zones(x_centres, y_centres, len(rows), name)
    in_order = np.tile(zones.x_centres, len(zones.y_centres))
    if np.abs(in_order - x_centres).max() > 0.01:
        raise InvalidFile(f"HDU {name}: the zones are not in the order x first, then y")
    oversampling = hdu.header.integer("OVSMPX")
    if hdu.header.integer("OVSMPY", oversampling) != oversampling:
        raise InvalidFile(f"HDU {name}: OVSMPX and OVSMPY differ")
    return EffectivePsf(samples.reshape(len(rows), n, n), zones, _oversampling(oversampling, n, name))


def _zones(x_centres: NDArray, y_centres: NDArray, n_planes: int, name: str) -> ZoneGrid:
    if not (np.isfinite(x_centres).all() and np.isfinite(y_centres).all()):
        raise InvalidFile(f"HDU {name}: zone centres are not numbers")
    x_axis, y_axis = (tuple(np.unique(np.round(centres, 3)).tolist()) for centres in (x_centres, y_centres))
    if len(x_axis) * len(y_axis) != n_planes:
        raise InvalidFile(f"HDU {name}: {n_planes} planes for {len(x_axis)} x {len(y_axis)} zones")
    return ZoneGrid(x_axis, y_axis)


def _oversampling(value: int, n: int, name: str) -> int:
    if not 1 <= value <= n:
        raise InvalidFile(f"HDU {name}: oversampling is {value} for planes of {n} samples")
    return value


def _column(hdu: Hdu, rows: NDArray, name: str) -> NDArray:
    if name not in (rows.dtype.names or ()):
        raise InvalidFile(f"HDU {hdu.extent.name}: column {name} is missing")
    column = rows[name]
    if column.dtype.kind not in "fiu" or not column.shape[1]:
        raise InvalidFile(f"HDU {hdu.extent.name}: column {name} holds no numbers")
    return column
