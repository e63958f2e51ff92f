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

from spxflow.demo import sphere
from spxflow.demo.geometry import FRAME, Window

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
_LARGEST = 1e12  # of the numbers, far from what a float cannot hold


class CutoutError(ValueError):
    """A cutout that is not given; the text says why."""


def _numbers(name: str, text: str) -> tuple[tuple[float, ...], bool]:
    """The one or two numbers of ``center`` or ``size``, and whether they are pixels; degrees otherwise."""
    match = _PAIR.fullmatch(text)
    if match is None:
        raise CutoutError(f"{name} is not a number or a pair of numbers with a unit: {text[:60]!r}")
    unit = match[3].lower()
    if unit not in _PIXELS and unit not in _ANGLES_DEG:
        raise CutoutError(f"unknown unit of {name}: {unit[:20]!r}")
    factor = _ANGLES_DEG.get(unit, 1.0)
    values = tuple(float(number) * factor for number in match.group(1, 2) if number is not None)
    if max(map(abs, values)) > _LARGEST:
        raise CutoutError(f"{name} is too large: {text[:60]!r}")
    return values, unit in _PIXELS


def cutout_window(
    center: str,
    size: str,
    sky_to_pixel: Callable[[float, float], tuple[float, float]],
    frame_center: tuple[float, float],
    pixel_scale_deg: float,
) -> Window:
    """Detector pixels of the cutout that a client asks for.

    Parameters
    ----------
    center, size
        The two parameters of the request.
    sky_to_pixel
        Right ascension and declination (deg) to 0-based pixel of the full frame.
    frame_center
        Sky position of the frame's centre, degrees.
    pixel_scale_deg
        Side of a pixel, degrees: the root of ``|det PC|``.

    Raises
    ------
    CutoutError
        When a parameter is missing or illegal, or the cutout and the frame do not overlap.
    """
    if not center or not size:
        raise CutoutError("a cutout needs both center and size")
    (where, in_pixels), (extent, extent_in_pixels) = _numbers("center", center), _numbers("size", size)
    if len(where) != 2:
        raise CutoutError("center takes two numbers")
    if not in_pixels and abs(where[1]) > 90.0:
        raise CutoutError(f"declination {where[1]:g} lies outside [-90, 90]")
    if min(extent) < 0.0:
        raise CutoutError("negative sizes are illegal")
    if in_pixels:
        x, y = where[0] - 1.0, where[1] - 1.0
    else:
        separation = sphere.separation(sphere.unit_vector(*where), sphere.unit_vector(*frame_center))
        if math.degrees(separation) > _FAR_DEG:
            raise CutoutError("the cutout does not overlap the image")
        x, y = sky_to_pixel(where[0] % 360.0, where[1])
    scale = 1.0 if extent_in_pixels else pixel_scale_deg
    (x0, nx), (y0, ny) = (
        clipped_span(c, pixel_count(length / scale)) for c, length in zip((x, y), extent * 2, strict=False)
    )
    return x0, y0, nx, ny


def pixel_count(extent: float) -> int:
    """Whole pixels of an extent in pixels."""
    return max(1, math.floor(extent + 0.5))


def clipped_span(center: float, count: int) -> tuple[int, int]:
    """First pixel and number of pixels of one axis, within the frame."""
    if not math.isfinite(center):
        raise CutoutError("the cutout does not overlap the image")
    first = math.floor(center + 1.0 - count / 2.0)
    start, stop = max(first, 0), min(first + count, FRAME)
    if start >= stop:
        raise CutoutError("the cutout does not overlap the image")
    return start, stop - start
