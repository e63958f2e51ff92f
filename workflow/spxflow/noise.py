"""How noisy the sky of an exposure really is, against what its variance says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spxflow.aperture import circle_weights
from spxflow.background import clip
from spxflow.forced import weighted_least_squares
from spxflow.scene import Scene

_CLEAR_OF_SOURCE_PX = 5.0
_LEAST_APERTURES = 20
_CLIP_SIGMA, _CLIP_ROUNDS = 3.0, 3
_STD_AFTER_CLIP = 0.9866  # of a normal sample cut at 3 sigma


def blank_sky_scale(scene: Scene, radius: float) -> float | None:
    """Scatter of apertures on blank sky over their formal error.

    The window is tiled with apertures of the given radius (px), centred on pixels; those with a bad or a source pixel
    are left out, and so is the surrounding of the target. A plane is subtracted for the sky's level and slope.
    None when fewer than twenty apertures are left.
    """
    half = max(math.ceil(radius - 0.5), 0)
    side = 2 * half + 1
    weights = circle_weights(half, half, radius, (side, side))
    usable = scene.sky & (scene.variance > 0.0) & (scene.radius2 > (_CLEAR_OF_SOURCE_PX + radius) ** 2)
    n_tiles = scene.image.shape[0] // side
    extent = n_tiles * side

    def tiles(plane: NDArray[Any]) -> NDArray[Any]:
        cut = plane[:extent, :extent].reshape(n_tiles, side, n_tiles, side)
        return cut.transpose(0, 2, 1, 3).reshape(n_tiles * n_tiles, side * side)

    kernel = weights.ravel()
    clean = np.flatnonzero(tiles(~usable) @ (kernel > 0.0) == 0)
    if clean.size < _LEAST_APERTURES:
        return None
    # Pixels without value can only stand where the kernel is 0, in the corners.
    sums = np.nan_to_num(tiles(scene.image)[clean]) @ kernel
    errors = np.sqrt(np.nan_to_num(tiles(scene.variance)[clean]) @ kernel**2)
    rows, columns = np.divmod(clean, n_tiles)
    kept = np.ones(clean.size, dtype=bool)
    plane = np.column_stack([np.ones(clean.size), columns - columns.mean(), rows - rows.mean()])
    for _ in range(2):
        level = weighted_least_squares(plane[kept], sums[kept], np.ones(int(kept.sum())))
        if level is None:
            return None
        pulls = (sums - plane @ level[0]) / errors
        kept = clip(pulls, _CLIP_SIGMA, _CLIP_ROUNDS)
    free = max(int(kept.sum()) - plane.shape[1], 1)
    return float(math.sqrt((pulls[kept] ** 2).sum() / free) / _STD_AFTER_CLIP)
