"""Circular apertures with exact partial pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spxflow.background import Background

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


def circle_weights(x: float, y: float, radius: float, shape: tuple[int, int]) -> Array:
    """Part of each pixel that lies inside a circle, exactly.

    Parameters
    ----------
    x, y
        Centre, 0-based pixels, pixel centres on integers.
    radius
        Pixels.
    shape
        (ny, nx) of the image.

    Returns
    -------
    ndarray, shape (ny, nx)
        0 to 1; the sum is the circle's area inside the image.
    """
    weights = np.zeros(shape)
    x_first, x_last = _reach(x, radius, shape[1])
    y_first, y_last = _reach(y, radius, shape[0])
    if x_first >= x_last or y_first >= y_last:
        return weights
    x_borders = (np.arange(x_first, x_last + 1, dtype=np.float64) - 0.5 - x) / radius
    y_borders = (np.arange(y_first, y_last + 1, dtype=np.float64) - 0.5 - y) / radius
    quadrants = _quadrant_area(x_borders[None, :], y_borders[:, None])
    inside = np.diff(np.diff(quadrants, axis=0), axis=1) * radius**2
    weights[y_first:y_last, x_first:x_last] = np.clip(inside, 0.0, 1.0) * (inside > 1e-12)
    return weights


def _reach(centre: float, radius: float, size: int) -> tuple[int, int]:
    """First pixel, and the one after the last, that the circle touches along an axis."""
    first, last = int(np.floor(centre - radius + 0.5)), int(np.floor(centre + radius + 0.5)) + 1
    return max(first, 0), min(last, size)


def _quadrant_area(x: Array, y: Array) -> Array:
    """Area of the unit disc's part left of ``x`` and below ``y``.

    With s(t) = sqrt(1 - t^2), it is the integral up to x of s + sign(y) min(s, |y|).
    """
    height = np.minimum(np.abs(y), 1.0)
    shoulder = np.sqrt(1.0 - height * height)
    x = np.clip(x, -1.0, 1.0)
    capped = (
        _half_disc_area(np.minimum(x, -shoulder))
        + height * (np.clip(x, -shoulder, shoulder) + shoulder)
        + _half_disc_area(np.maximum(x, shoulder))
        - _half_disc_area(shoulder)
    )
    return _half_disc_area(x) + np.sign(y) * capped


def _half_disc_area(x: Array) -> Array:
    """Integral of sqrt(1 - t^2) from -1 to x."""
    return 0.5 * (x * np.sqrt(1.0 - x * x) + np.arcsin(x) + 0.5 * np.pi)


@dataclass(frozen=True)
class Aperture:
    """A circular aperture on an image and which of its pixels can be used.

    Attributes
    ----------
    radius
        Pixels.
    weights
        Part of each pixel inside, shape (ny, nx).
    used
        Indices into the flattened image of the good pixels inside.
    every
        Indices of all pixels inside.
    """

    radius: float
    weights: Array
    used: NDArray[np.intp]
    every: NDArray[np.intp]

    @property
    def n_bad(self) -> int:
        return self.every.size - self.used.size

    def psf_fraction(self, stamp: Array, good_only: bool = True) -> float:
        """Share of a source's total flux inside, ``stamp`` being its share in each pixel."""
        pixels = self.used if good_only else self.every
        return float(self.weights.flat[pixels] @ stamp.flat[pixels])


def place_aperture(x: float, y: float, radius: float, bad: Mask) -> Aperture:
    """Aperture at a position of an image; ``bad`` marks the pixels not to be used."""
    weights = circle_weights(x, y, radius, (bad.shape[0], bad.shape[1]))
    every = np.flatnonzero(weights)
    return Aperture(radius, weights, every[~bad.flat[every]], every)


@dataclass(frozen=True)
class ApertureSum:
    """Sum over an aperture less the background, and its error, in the image's unit x pixels."""

    value: float
    error: float


def total_sum(
    aperture: Aperture, image: Array, variance: Array, background: Background, borrowed: Array | None = None
) -> ApertureSum:
    """Sum over the good pixels, weights squared in the variance.

    Where neighbours were taken out of the image, the sum follows the pixels they were fitted on too: ``borrowed`` is
    how much of each pixel, shape (ny, nx), went out of the sum with them.
    """
    weights = aperture.weights.flat[aperture.used]
    if borrowed is None:
        pixel_variance = float(weights**2 @ variance.flat[aperture.used])
    else:
        net = -borrowed.ravel()
        net[aperture.used] += weights
        touched = np.flatnonzero(net)
        pixel_variance = float(net[touched] ** 2 @ variance.flat[touched])
    return _less_background(weights, image.flat[aperture.used], pixel_variance, background)


def raw_sum(aperture: Aperture, image: Array, variance: Array, background: Background, simple: bool) -> ApertureSum:
    """Sum over every pixel inside, bad ones too, as it stands; NaN if one has no value.

    ``simple`` has partial pixels count in the variance by their weight instead of its square.
    """
    weights = aperture.weights.flat[aperture.every]
    pixel_variance = float((weights if simple else weights**2) @ variance.flat[aperture.every])
    return _less_background(weights, image.flat[aperture.every], pixel_variance, background)


def _less_background(weights: Array, values: Array, pixel_variance: float, background: Background) -> ApertureSum:
    """The error of the background is common to all pixels, so its part of the variance goes with the area squared."""
    area = float(weights.sum())
    error = float(np.sqrt(pixel_variance + (background.error * area) ** 2))
    return ApertureSum(float(weights @ values) - background.level * area, error)
