"""Wavelength and bandwidth of a detector position.

Every exposure carries a coarse table (``WCS-WAVE``); calibration files hold the same per pixel. Both are functions of
the raw detector pixel: the celestial distortion (SIP) has no part in them (facts 1.4, 1.8).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spxflow.mef.blocks import InvalidFile

Array = NDArray[np.floating]


class Wavelengths(Protocol):
    """What gives a wavelength to a detector position."""

    def at(self, x_det: ArrayLike, y_det: ArrayLike) -> tuple[Array, Array]:
        """Central wavelength and bandwidth, µm; see :meth:`WaveTable.at`."""


@dataclass(frozen=True)
class WaveTable:
    """Bilinear lookup table over the detector.

    Attributes
    ----------
    x_knots, y_knots
        Ascending control points, 1-based raw detector pixels as in the file, shapes (nx,) and (ny,).
    values
        Shape (ny, nx, 2): wavelength and bandwidth, µm.
    """

    x_knots: Array
    y_knots: Array
    values: Array

    def __post_init__(self) -> None:
        shape = (len(self.y_knots), len(self.x_knots), 2)
        if min(shape) < 2 or self.values.shape != shape:
            raise InvalidFile(f"HDU WCS-WAVE: VALUES has the shape {self.values.shape}, not {shape}")
        if not (np.all(np.diff(self.x_knots) > 0) and np.all(np.diff(self.y_knots) > 0)):
            raise InvalidFile("HDU WCS-WAVE: the control points X or Y do not ascend")
        if not (np.all(np.isfinite(self.values)) and self.values.min() > 0 and self.values.max() < 100):
            raise InvalidFile("HDU WCS-WAVE: VALUES are not wavelengths in µm")

    def at(self, x_det: ArrayLike, y_det: ArrayLike) -> tuple[Array, Array]:
        """Central wavelength and bandwidth at detector positions.

        Parameters
        ----------
        x_det, y_det
            0-based detector pixels. Within the outer half of a border pixel the table is continued linearly, further
            out it keeps that value.

        Returns
        -------
        wavelength, bandwidth
            µm.
        """
        ix, fx = _cell(np.asarray(x_det, float) + 1, self.x_knots)
        iy, fy = _cell(np.asarray(y_det, float) + 1, self.y_knots)
        lower = self.values[iy, ix] * (1 - fx)[..., None] + self.values[iy, ix + 1] * fx[..., None]
        upper = self.values[iy + 1, ix] * (1 - fx)[..., None] + self.values[iy + 1, ix + 1] * fx[..., None]
        both = lower * (1 - fy)[..., None] + upper * fy[..., None]
        return both[..., 0], both[..., 1]


def _cell(position: Array, knots: Array) -> tuple[NDArray[np.intp], Array]:
    """Index of the knot before a position, and the position in the cell as a fraction of it."""
    position = np.clip(position, knots[0] - 0.5, knots[-1] + 0.5)
    index = np.clip(np.searchsorted(knots, position, side="right") - 1, 0, len(knots) - 2)
    return index, (position - knots[index]) / (knots[index + 1] - knots[index])


@dataclass(frozen=True)
class WaveMap:
    """Wavelength and bandwidth of every detector pixel (calibration HDUs ``CWAVE`` and ``CBAND``).

    Attributes
    ----------
    wavelength, bandwidth
        Shape (2040, 2040), µm, values at the pixel centres.
    """

    wavelength: NDArray[np.floating]
    bandwidth: NDArray[np.floating]

    def at(self, x_det: ArrayLike, y_det: ArrayLike) -> tuple[Array, Array]:
        """Central wavelength and bandwidth at 0-based detector positions, µm.

        Bilinear between pixel centres; beyond the outermost centres the value there.
        """
        x, y = np.asarray(x_det, float), np.asarray(y_det, float)
        return _bilinear(self.wavelength, x, y), _bilinear(self.bandwidth, x, y)


def _bilinear(image: NDArray[np.floating], x: Array, y: Array) -> Array:
    ny, nx = image.shape
    known = np.isfinite(x) & np.isfinite(y)
    x, y = np.clip(np.where(known, x, 0), 0, nx - 1), np.clip(np.where(known, y, 0), 0, ny - 1)
    ix, iy = np.minimum(x.astype(np.intp), nx - 2), np.minimum(y.astype(np.intp), ny - 2)
    fx, fy = x - ix, y - iy
    lower = image[iy, ix] * (1 - fx) + image[iy, ix + 1] * fx
    upper = image[iy + 1, ix] * (1 - fx) + image[iy + 1, ix + 1] * fx
    return np.where(known, lower * (1 - fy) + upper * fy, math.nan)
