"""The local background of an aperture: median of the sky pixels around it, outliers clipped.

When too few pixels are left, a ladder of steps is climbed until one has enough, and the step is recorded:

``annulus``, ``annulus+1`` ...   the annulus, widened so many times
``window``                       a square around the source without the aperture
``sources``                      pixels of known sources too, in the window or the widest annulus
``window_sources``               pixels of known sources too, in the window
``few``                          what there is in the widest annulus or the window, even if only one pixel
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spxflow.scene import Scene
from spxflow.settings import BackgroundSettings

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Pixels = NDArray[np.intp]

_MEDIAN_OVER_MEAN_ERROR = math.sqrt(0.5 * math.pi)  # of a normal sample
_HALF_DIAGONAL_PX = 0.707


@dataclass(frozen=True)
class Background:
    """Level and its error, MJy/sr, with the pixels they are from and the step of the ladder."""

    level: float
    error: float
    n_pixels: int
    step: str


def clip(values: Array, sigma: float, iterations: int) -> Mask:
    """Which values remain after rounds of leaving out those more than ``sigma`` deviations from the mean."""
    kept = np.ones(values.shape, dtype=bool)
    for _ in range(iterations):
        sample = values[kept]
        deviation = sample.std()
        if deviation == 0.0:
            break
        remaining = kept & (np.abs(values - sample.mean()) <= sigma * deviation)
        if remaining.sum() == kept.sum():
            break
        kept = remaining
    return kept


def find_pixels(scene: Scene, aperture_radius: float, settings: BackgroundSettings) -> tuple[Pixels, str] | None:
    """Indices of the background pixels and the step that found them; None if no step has enough."""
    for step, region, allowed, needed in _ladder(scene, aperture_radius, settings):
        pixels = np.flatnonzero(region & allowed)
        if pixels.size >= needed:
            return pixels, step
    return None


def measure(values: Array, step: str, settings: BackgroundSettings, simple_error: bool) -> Background:
    """Clipped median of pixel values (MJy/sr), and its error from their scatter.

    The error is that of a median, 1.25 std / sqrt(n) of the pixels kept, with n - 1 in the deviation.
    ``simple_error`` makes it std / sqrt(n) with the pixels before clipping, the reference system's formula.
    """
    sample = values[clip(values, settings.clip_sigma, settings.clip_iterations)]
    deviation = float(sample.std())
    if simple_error:
        error = deviation / math.sqrt(values.size)
    else:
        error = _MEDIAN_OVER_MEAN_ERROR * deviation / math.sqrt(max(sample.size - 1, 1))
    return Background(float(np.median(sample)), error, int(sample.size), step)


def _ladder(
    scene: Scene, aperture_radius: float, settings: BackgroundSettings
) -> Iterator[tuple[str, Mask, Mask, int]]:
    """Steps in order: name, region, pixels allowed in it, number needed."""
    region = np.zeros(scene.sky.shape, dtype=bool)
    if settings.method == "window":
        region = _window(scene, aperture_radius, settings.window_px)
        yield "window", region, scene.sky, settings.min_pixels
    else:
        for widened, region in enumerate(_annuli(scene, aperture_radius, settings)):
            yield f"annulus+{widened}" if widened else "annulus", region, scene.sky, settings.min_pixels
    for step in settings.fallbacks:
        if step in ("window", "window_sources"):
            allowed = scene.sky if step == "window" else scene.good
            yield step, _window(scene, aperture_radius, settings.window_px), allowed, settings.min_pixels
        elif step == "sources":
            yield step, region, scene.good, settings.min_pixels
        elif step == "few":
            yield step, region, scene.sky, 1


def _annuli(scene: Scene, aperture_radius: float, settings: BackgroundSettings) -> Iterator[Mask]:
    """The annulus and its widenings, as long as there is room for them."""
    room = scene.room_px
    inner = aperture_radius + settings.gap_px
    outer = min(math.sqrt(settings.min_area_px / math.pi + inner**2), settings.max_radius_px)
    if outer > room:
        outer = room
        inner = inner if inner < outer else 0.7 * outer
    limit = min(settings.max_radius_px, room)
    for _ in range(settings.tries):
        yield (scene.radius2 >= inner**2) & (scene.radius2 <= outer**2)
        if outer >= limit:
            return
        outer = min(outer + settings.step_px, limit)


def _window(scene: Scene, aperture_radius: float, side_px: float) -> Mask:
    """Square around the source less every pixel that may touch the aperture."""
    ny, nx = scene.sky.shape
    half = 0.5 * side_px
    columns = slice(max(math.floor(scene.x - half), 0), min(math.ceil(scene.x + half), nx))
    rows = slice(max(math.floor(scene.y - half), 0), min(math.ceil(scene.y + half), ny))
    region = np.zeros((ny, nx), dtype=bool)
    region[rows, columns] = scene.radius2[rows, columns] > (aperture_radius + _HALF_DIAGONAL_PX) ** 2
    return region
