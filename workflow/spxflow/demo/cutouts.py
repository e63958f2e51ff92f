"""The rules of the archive's cutout service (facts 1.9).

``?center=x,y[units]&size=w[,h][units]``. Known by measurement: the number of pixels is the size over
the pixel scale, rounded; the first pixel is ``floor(c + 1 - n/2)`` with ``c`` the 0-based pixel of
the centre; the window is clipped at the frame; no overlap is an error. Assumed: halves round up, a
window has one pixel at least, a centre in pixels counts from 1, one of the two parameters alone is
an error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from spxflow.demo import sphere
from spxflow.demo.geometry import FRAME

_ANGLES_DEG = {
    "": 1.0,
    "d": 1.0,
    "deg": 1.0,
    "rad": math.degrees(1.0),
    "arcsec": 1.0 / 3600.0,
    "arcmin": 1.0 / 60.0,
}
_PIXELS = ("px", "pix", "pixels")
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_PAIR = re.compile(rf"\s*({_NUMBER})\s*(?:,\s*({_NUMBER})\s*)?([a-z]*)\s*", re.IGNORECASE)
_FAR_DEG = 10.0

Window = tuple[int, int, int, int]


class CutoutError(ValueError):
    """A cutout that is not given; the text says why."""


@dataclass(frozen=True)
class Quantity:
    """One or two numbers with their unit: degrees when ``pixels`` is false."""

    values: tuple[float, ...]
    pixels: bool


def parse_quantity(name: str, text: str) -> Quantity:
    """The value of ``center`` or ``size``.

    Raises
    ------
    CutoutError
        When it is no number or pair of numbers with a known unit.
    """
    match = _PAIR.fullmatch(text)
    if match is None:
        raise CutoutError(f"{name} is not a number or a pair of numbers with a unit: {text[:60]!r}")
    first, second, unit = match[1], match[2], match[3].lower()
    values = tuple(float(number) for number in (first, second) if number is not None)
    if unit in _PIXELS:
        return Quantity(values, True)
    if unit not in _ANGLES_DEG:
        raise CutoutError(f"unknown unit of {name}: {unit[:20]!r}")
    return Quantity(tuple(value * _ANGLES_DEG[unit] for value in values), False)


@dataclass(frozen=True)
class CutoutRequest:
    """What a client asks for: a centre and a size."""

    center: Quantity
    size: Quantity

    @classmethod
    def parse(cls, center: str, size: str) -> CutoutRequest:
        """From the two parameters.

        Raises
        ------
        CutoutError
            When one of them is missing or illegal.
        """
        if not center or not size:
            raise CutoutError("a cutout needs both center and size")
        where, extent = parse_quantity("center", center), parse_quantity("size", size)
        if len(where.values) != 2:
            raise CutoutError("center takes two numbers")
        if not where.pixels and abs(where.values[1]) > 90.0:
            raise CutoutError(f"declination {where.values[1]:g} lies outside [-90, 90]")
        if min(extent.values) < 0.0:
            raise CutoutError("negative sizes are illegal")
        return cls(where, extent)

    def window(
        self,
        sky_to_pixel: Callable[[float, float], tuple[float, float]],
        frame_center: tuple[float, float],
        pixel_scale_deg: float,
    ) -> Window:
        """Detector pixels of the cutout.

        Parameters
        ----------
        sky_to_pixel
            Right ascension and declination (deg) to 0-based pixel of the full frame.
        frame_center
            Sky position of the frame's centre, degrees.
        pixel_scale_deg
            Side of a pixel, degrees: the root of ``|det PC|``.

        Returns
        -------
        tuple
            First column and row (0-based) and the numbers of columns and rows.

        Raises
        ------
        CutoutError
            When the cutout and the frame do not overlap.
        """
        x, y = self._center_pixel(sky_to_pixel, frame_center)
        scale = 1.0 if self.size.pixels else pixel_scale_deg
        width, height = (value / scale for value in (self.size.values * 2)[:2])
        x0, nx = clipped_span(x, pixel_count(width))
        y0, ny = clipped_span(y, pixel_count(height))
        return x0, y0, nx, ny

    def _center_pixel(
        self,
        sky_to_pixel: Callable[[float, float], tuple[float, float]],
        frame_center: tuple[float, float],
    ) -> tuple[float, float]:
        first, second = self.center.values
        if self.center.pixels:
            return first - 1.0, second - 1.0
        separation = sphere.separation(sphere.unit_vector(first, second), sphere.unit_vector(*frame_center))
        if math.degrees(separation) > _FAR_DEG:
            raise CutoutError("the cutout does not overlap the image")
        return sky_to_pixel(first % 360.0, second)


def pixel_count(extent: float) -> int:
    """Whole pixels of an extent in pixels; never more than can overlap a frame from anywhere near."""
    return max(1, min(math.floor(extent + 0.5), 4 * FRAME))


def clipped_span(center: float, count: int) -> tuple[int, int]:
    """First pixel and number of pixels of one axis, within the frame."""
    if not math.isfinite(center):
        raise CutoutError("the cutout does not overlap the image")
    first = math.floor(center + 1.0 - count / 2.0)
    start, stop = max(first, 0), min(first + count, FRAME)
    if start >= stop:
        raise CutoutError("the cutout does not overlap the image")
    return start, stop - start
