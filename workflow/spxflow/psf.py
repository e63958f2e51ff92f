"""The point spread function of an exposure, as the share of a source's flux in each pixel.

Level-2 files carry the PSF in one of two forms (facts 1.7, 1.11). Both are grids of zones over the detector, blended
bilinearly between the four nearest zone centres, and both are placed at the true sub-pixel position by quintic spline
interpolation, which moves the PSF without broadening it (linear interpolation would smear it by up to a sample):

* :class:`OpticalPsf` (QR2): the pixel response is not in it, so its samples are integrated over each native pixel.
  The spline runs through the cumulative sums, whose values at the sample borders are exact integrals.
* :class:`EffectivePsf` (QR3): the pixel response is in it, so it is sampled at the pixel centres.

The middle sample is where the source is; nothing is recentred and nothing renormalised.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache, reduce

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

_PAD = 12  # samples by which the ends are continued; a quintic spline's memory fades by 0.43 a sample
_TAPS = np.arange(-2, 4)


@dataclass(frozen=True)
class ZoneGrid:
    """Centres of the zones in which the PSF was determined.

    Attributes
    ----------
    x_centres, y_centres
        Ascending 0-based detector pixels, shapes (nx,) and (ny,). The plane of zone (ix, iy) is ``iy * nx + ix``.
    """

    x_centres: tuple[float, ...]
    y_centres: tuple[float, ...]

    def blend(self, x: float, y: float, planes: Array) -> Array:
        """Bilinear mean of the planes around detector position (x, y); constant beyond the outer centres."""
        parts = (
            planes[iy * len(self.x_centres) + ix].astype(np.float64) * (weight_x * weight_y)
            for iy, weight_y in _neighbours(y, self.y_centres)
            for ix, weight_x in _neighbours(x, self.x_centres)
        )
        return reduce(np.add, parts)


def _neighbours(position: float, centres: tuple[float, ...]) -> list[tuple[int, float]]:
    """Indices of the centres on either side with their linear weights; only those with weight."""
    if not position > centres[0]:
        return [(0, 1.0)]
    if position >= centres[-1]:
        return [(len(centres) - 1, 1.0)]
    upper = int(np.searchsorted(centres, position))
    weight = (position - centres[upper - 1]) / (centres[upper] - centres[upper - 1])
    return [(upper - 1, 1.0 - weight), (upper, weight)] if weight else [(upper - 1, 1.0)]


@dataclass(frozen=True)
class PsfModel(ABC):
    """A PSF as cube of oversampled planes, one a zone.

    Attributes
    ----------
    planes
        Shape (zones, n, n), n odd, any float type and byte order.
    zones
        Centres of the zones.
    oversampling
        Samples along the side of a native pixel.
    """

    planes: NDArray[np.floating]
    zones: ZoneGrid
    oversampling: int

    @property
    def radius_px(self) -> float:
        """Half the side of the footprint, native pixels."""
        return self.planes.shape[-1] / 2 / self.oversampling

    def total(self, x: float, y: float) -> float:
        """Flux in the whole footprint of the model for a source at (x, y); about 1."""
        return float(self.zones.blend(x, y, self.planes).sum())

    def stamp(self, x: float, y: float, x0: int, y0: int, nx: int, ny: int) -> Array:
        """Share of the total flux of a source in each pixel of a window.

        Parameters
        ----------
        x, y
            Position of the source, 0-based detector pixels, pixel centres on integers.
        x0, y0, nx, ny
            First detector pixel of the window and its size, pixels.

        Returns
        -------
        ndarray, shape (ny, nx)
            Dimensionless; 0 outside the footprint of the model.
        """
        blended = self.zones.blend(x, y, self.planes)
        return self._along(y0 - y, ny) @ blended @ self._along(x0 - x, nx).T

    @abstractmethod
    def _along(self, first: float, count: int) -> Array:
        """Matrix from the samples along an axis to ``count`` native pixels.

        ``first`` is the centre of the first one relative to the source, native pixels.
        """


@dataclass(frozen=True)
class OpticalPsf(PsfModel):
    """PSF without the pixel response (QR2, HDU ``PSF``): samples hold the flux within themselves."""

    oversampling: int = 10

    def _along(self, first: float, count: int) -> Array:
        """Integrals over the pixels."""
        n = self.planes.shape[-1]
        borders = (first - 0.5 + np.arange(count + 1)) * self.oversampling + n / 2
        return np.diff(_interpolation(borders, _cumulative_spline(n)), axis=0)


@dataclass(frozen=True)
class EffectivePsf(PsfModel):
    """PSF with the pixel response (QR3, HDU ``EPSF``), planes of about unit sum."""

    oversampling: int = 5

    def stamp(self, x: float, y: float, x0: int, y0: int, nx: int, ny: int) -> Array:
        """Share of the total flux of a source in each pixel of a window; see :meth:`PsfModel.stamp`."""
        return self.oversampling**2 * super().stamp(x, y, x0, y0, nx, ny)

    def _along(self, first: float, count: int) -> Array:
        """Values at the centres of the pixels."""
        n = self.planes.shape[-1]
        positions = (first + np.arange(count)) * self.oversampling + (n - 1) / 2
        matrix = _interpolation(positions, _value_spline(n))
        matrix[np.abs(positions - (n - 1) / 2) > n / 2] = 0.0
        return matrix


def _interpolation(positions: Array, spline: Array) -> Array:
    """Matrix from samples to spline values at positions with a common fraction, in units of the knot spacing."""
    fraction = positions[0] - np.floor(positions[0])
    knots = np.rint(positions - fraction).astype(np.intp)
    rows = np.clip(knots[:, None] + _TAPS + _PAD, 0, len(spline) - 1)
    return np.einsum("t,ptn->pn", _quintic_basis(fraction), spline[rows])


def _quintic_basis(fraction: float) -> Array:
    """Values at ``fraction`` of the six quintic B-splines centred on the knots -2 ... 3."""
    distance = np.abs(fraction - _TAPS)
    powers = [np.maximum(k - distance, 0.0) ** 5 for k in (3, 2, 1)]
    return (powers[0] - 6 * powers[1] + 15 * powers[2]) / 120


@lru_cache(maxsize=8)
def _value_spline(n: int) -> Array:
    """Matrix from n samples to the B-spline coefficients at the knots -PAD ... n - 1 + PAD.

    The samples are continued at either end by their last value.
    """
    m = n + 2 * _PAD
    knots = np.arange(m)
    collocation = np.zeros((m, m))
    for offset, value in zip(range(-2, 3), (1, 26, 66, 26, 1), strict=True):
        np.add.at(collocation, (knots, np.clip(knots + offset, 0, m - 1)), value / 120)
    continued = np.eye(n)[np.clip(knots - _PAD, 0, n - 1)]
    spline = np.linalg.solve(collocation, continued)
    spline.setflags(write=False)
    return spline


@lru_cache(maxsize=8)
def _cumulative_spline(n: int) -> Array:
    """Matrix from n samples to the B-spline coefficients of their cumulative sum at the n + 1 sample borders."""
    cumulative = np.tri(n + 1, n, -1)
    spline = _value_spline(n + 1) @ cumulative
    spline.setflags(write=False)
    return spline
