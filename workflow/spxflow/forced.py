"""Forced PSF photometry: a linear fit of fluxes at fixed positions together with the sky.

Model of pixel i, with P_k the share of source k's flux in it: d_i = sum_k F_k P_ki + b (+ slopes). Weighted least
squares has a closed form; what needs care is the weights. VARIANCE follows the noise of its own pixel (bright by chance
means noisier by record), so weights from it pull fluxes down. The weights here come from the median variance of the sky
and the photon noise of the *fitted* source; the error then is that of this estimator for the variances of the file
(the "sandwich" covariance), which holds for any weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spxflow.background import clip
from spxflow.scene import Scene
from spxflow.settings import NEIGHBOUR_CORE_PX, BackgroundSettings, PsfSettings

Array = NDArray[np.float64]
Pixels = NDArray[np.intp]

_LEAST_SHARE = 0.2  # of a neighbour's flux on fitted pixels, below it it is left out
_LEAST_VARIANCE = 0.25  # of a pixel, in units of its model's
_SPARE_PIXELS = 3


@dataclass(frozen=True)
class PsfFit:
    """Result of a fit, in the image's unit: fluxes in MJy/sr px, backgrounds in MJy/sr.

    Attributes
    ----------
    fluxes, covariance
        Of the target first, then of the neighbours in the fit.
    neighbours
        Which of the neighbours given are in the fit.
    background
        Sky at the source.
    chi2_dof
        Reduced chi-square of the pixels within the fit radius.
    n_pixels
        Pixels in the fit.
    fracflux
        Light of the neighbours over the target's, both weighted by the target's PSF.
    pixels, influence
        Indices into the flattened scene, shape (n,), and how much each flux follows each of these pixels, shape
        (sources, n).
    """

    fluxes: Array
    covariance: Array
    neighbours: tuple[int, ...]
    background: float
    chi2_dof: float | None
    n_pixels: int
    fracflux: float
    pixels: Pixels
    influence: Array

    @property
    def flux(self) -> float:
        return float(self.fluxes[0])

    @property
    def error(self) -> float:
        return float(np.sqrt(self.covariance[0, 0]))


def fit_psf(
    scene: Scene,
    profile: Array,
    neighbours: Sequence[tuple[float, float, Array]],
    settings: PsfSettings,
    clipping: BackgroundSettings,
) -> PsfFit | None:
    """Fit the target, its neighbours and the sky.

    Parameters
    ----------
    scene
        Pixels around the target.
    profile
        Share of the target's flux in each pixel of the scene.
    neighbours
        (x, y, profile) of each neighbour, 0-based pixels of the scene.
    settings
        Radius of the fit: within it pixels count even where known sources are, further out, to the background radius,
        only blank sky does, outliers clipped.
    clipping
        Rounds and threshold of the clipping.

    Returns
    -------
    PsfFit or None
        None when there are too few pixels.
    """
    core = _core(scene, neighbours, settings)
    sky = np.flatnonzero(scene.sky & (scene.radius2 <= settings.background_radius_px**2) & ~core)
    inner = np.flatnonzero(core & scene.good)
    pixels = np.concatenate([inner, sky])
    members = tuple(k for k, (_, _, share) in enumerate(neighbours) if share.flat[pixels].sum() >= _LEAST_SHARE)
    design = _design(scene, pixels, [profile, *(neighbours[k][2] for k in members)], settings.background == "plane")
    n_sources = 1 + len(members)
    data, variance = scene.image.flat[pixels], scene.variance.flat[pixels]
    if inner.size < design.shape[1] + _SPARE_PIXELS or not profile.flat[inner].any():
        return None

    first = weighted_least_squares(design, data, np.ones_like(data))
    if first is None:
        return None
    residual = data - design @ first[0]
    keep = np.ones(pixels.size, dtype=bool)
    if sky.size:
        keep[inner.size :] = clip(residual[inner.size :], clipping.clip_sigma, clipping.clip_iterations)
    design, data, variance = design[keep], data[keep], variance[keep]

    smooth, per_brightness = _smooth_variance(design, first[0], data, variance, n_sources, inner.size)
    second = weighted_least_squares(design, data, 1.0 / smooth)
    if second is None:
        return None
    solution, inverse = second
    residual = data - design @ solution
    expected = np.maximum(variance - per_brightness * residual, _LEAST_VARIANCE * smooth)
    weighted = design / smooth[:, None]
    covariance = inverse @ (weighted.T @ (weighted * expected[:, None])) @ inverse

    error = float(np.sqrt(covariance[0, 0]))
    near = scene.radius2.flat[pixels[keep]] <= settings.radius_px**2
    return PsfFit(
        fluxes=solution[:n_sources],
        covariance=covariance[:n_sources, :n_sources],
        neighbours=members,
        background=float(solution[n_sources]),
        chi2_dof=_chi2_dof(residual[near], expected[near], n_sources),
        n_pixels=int(keep.sum()),
        fracflux=_fracflux(design[: inner.size, :n_sources], solution[:n_sources], error),
        pixels=pixels[keep],
        influence=(inverse @ weighted.T)[:n_sources],
    )


def _core(scene: Scene, neighbours: Sequence[tuple[float, float, Array]], settings: PsfSettings) -> NDArray[np.bool_]:
    """Pixels near the target or one of its neighbours."""
    core = scene.radius2 <= settings.radius_px**2
    columns, rows = np.arange(scene.image.shape[1]), np.arange(scene.image.shape[0])
    for x, y, _ in neighbours:
        core |= (columns - x)[None, :] ** 2 + (rows - y)[:, None] ** 2 <= NEIGHBOUR_CORE_PX**2
    return core


def _design(scene: Scene, pixels: Pixels, profiles: Sequence[Array], with_slopes: bool) -> Array:
    """Columns of the model: sources, constant, and slopes along x and y if asked for."""
    columns = [profile.flat[pixels] for profile in profiles]
    columns.append(np.ones(pixels.size))
    if with_slopes:
        rows, cols = np.divmod(pixels, scene.image.shape[1])
        columns += [cols - scene.x, rows - scene.y]
    return np.stack(columns, axis=1)


def _chi2_dof(residual: Array, variance: Array, n_parameters: int) -> float | None:
    free = residual.size - n_parameters
    return float((residual**2 / variance).sum() / free) if free > 0 else None


def _fracflux(profiles: Array, fluxes: Array, error: float) -> float:
    """Light of the neighbours over the target's, weighted by the target's profile (shape (n, sources), target first).

    For a target that is lost in the noise its error stands in for its flux.
    """
    own = profiles[:, 0]
    light = float(own @ profiles[:, 1:] @ fluxes[1:])
    return light / (max(abs(float(fluxes[0])), error) * float(own @ own))


def weighted_least_squares(design: Array, data: Array, weights: Array) -> tuple[Array, Array] | None:
    """Weighted least squares: solution and inverse of the normal matrix; None if the columns are not independent.

    Parameters
    ----------
    design
        Model columns, shape (n, k).
    data, weights
        Shape (n,).
    """
    weighted = design * weights[:, None]
    normal = weighted.T @ design
    scale = np.sqrt(np.diagonal(normal))
    if not (scale > 0.0).all():
        return None
    correlation = normal / np.outer(scale, scale)
    try:
        inverse = np.linalg.inv(correlation) / np.outer(scale, scale)
    except np.linalg.LinAlgError:
        return None
    if not np.isfinite(inverse).all() or (np.diagonal(inverse) <= 0.0).any():
        return None
    return inverse @ (weighted.T @ data), inverse


def _smooth_variance(
    design: Array, solution: Array, data: Array, variance: Array, n_sources: int, n_inner: int
) -> tuple[Array, float]:
    """Variance of each pixel without the noise of the pixel, and the slope of VARIANCE against brightness.

    The sky's is the median VARIANCE of the sky pixels; the sources add photon noise in proportion to their model, by
    the slope found in these very pixels.
    """
    excess = data - data.mean()
    spread = float(excess @ excess)
    per_brightness = max(float(excess @ variance) / spread, 0.0) if spread > 0.0 else 0.0
    sky = variance[n_inner:] if variance.size - n_inner >= 10 else variance
    light = np.maximum(design[:, :n_sources] @ solution[:n_sources], 0.0)
    return float(np.median(sky)) + per_brightness * light, per_brightness


def masked_fraction(scene: Scene, profile: Array, radius_px: float) -> float:
    """Part of the light within a radius of the source that falls on bad pixels or outside the image."""
    within = scene.radius2 <= radius_px**2
    everything = float(profile[within].sum())
    return float(np.clip(1.0 - profile[within & scene.good].sum() / everything, 0.0, 1.0)) if everything > 0 else 1.0
