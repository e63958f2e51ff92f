"""Wavelength and bandwidth of a detector position.

Every exposure carries a coarse table (``WCS-WAVE``); calibration files hold the same per pixel. Both are functions of
the raw detector pixel: the celestial distortion (SIP) has no part in them (facts 1.4, 1.8).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spxflow.mef.blocks import InvalidFile

Array = NDArray[np.floating]
Cell = tuple[NDArray[np.intp], Array]


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
        x = _cell(np.asarray(x_det, float) + 1, self.x_knots, beyond=0.5)
        y = _cell(np.asarray(y_det, float) + 1, self.y_knots, beyond=0.5)
        return _bilinear(self.values[..., 0], x, y), _bilinear(self.values[..., 1], x, y)


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
        ny, nx = self.wavelength.shape
        x, y = _cell(np.asarray(x_det, float), np.arange(nx)), _cell(np.asarray(y_det, float), np.arange(ny))
        return _bilinear(self.wavelength, x, y), _bilinear(self.bandwidth, x, y)


Wavelengths = WaveTable | WaveMap
"""What gives a wavelength to a detector position."""


def _cell(position: Array, knots: NDArray, beyond: float = 0.0) -> Cell:
    """Index of the knot before a position, and the position in the cell as a fraction of it.

    Positions more than ``beyond`` outside the knots are taken to be there.
    """
    position = np.clip(position, knots[0] - beyond, knots[-1] + beyond)
    index = np.clip(np.searchsorted(knots, position, side="right") - 1, 0, len(knots) - 2)
    return index, (position - knots[index]) / (knots[index + 1] - knots[index])


def _bilinear(image: Array, x: Cell, y: Cell) -> Array:
    (ix, fx), (iy, fy) = x, y
    lower = image[iy, ix] * (1 - fx) + image[iy, ix + 1] * fx
    upper = image[iy + 1, ix] * (1 - fx) + image[iy + 1, ix + 1] * fx
    return lower * (1 - fy) + upper * fy
