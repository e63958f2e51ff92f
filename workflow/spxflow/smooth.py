"""A source's own smooth spectrum: robust local regression along one detector.

The abscissa is the *channel number* of a detector read as a continuous coordinate (1 at the centre of its first
channel, 17 at that of its last), so that one unit is one spectral channel everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_ITERATIONS = 4
_BISQUARE = 6.0  # residuals beyond this many scales have no weight (Cleveland 1979)
_MIN_NEIGHBOURS = 4
_MAX_HALF_WIDTH = 4.0  # channels
_NODES_PER_CHANNEL = 8
_MAX_POINT_NODES = 400
_MAD_TO_SIGMA = 1.4826
_DISTINCT_WEIGHT_RATIO = 2.25


@dataclass(frozen=True)
class SmoothSpectrum:
    """Robust local-linear fit at each of n points of one detector.

    Attributes
    ----------
    value, slope, slope_variance : ndarray, shape (n,)
        Fit at each point, µJy and µJy per channel; NaN where there are too few neighbours.
    residual, residual_error : ndarray, shape (n,)
        Point minus the fit of the *other* points (of all where they are many), µJy, and its expected standard
        deviation for the errors given.
    scale : float
        Robust standard deviation of ``residual / residual_error``, at least 1: how much the points scatter more
        than their errors say.
    """

    value: np.ndarray
    slope: np.ndarray
    slope_variance: np.ndarray
    residual: np.ndarray
    residual_error: np.ndarray
    scale: float

    @property
    def deviation(self) -> np.ndarray:
        """Residuals in units of their error and of the detector's scatter; 0 where there is no fit."""
        return np.nan_to_num(self.residual / (self.residual_error * self.scale))


def smooth_spectrum(
    x: np.ndarray, y: np.ndarray, error: np.ndarray, half_width: float, reach: float = _MAX_HALF_WIDTH
) -> SmoothSpectrum:
    """Fit y(x) of one detector by local lines that outliers do not pull.

    Tricube kernel of ``half_width`` channels, widened where fewer than four neighbours fall in it; weights from
    :func:`smooth_variance`; bisquare reweighting on leave-one-out residuals (LOWESS, Cleveland 1979), started from
    local medians.

    Parameters
    ----------
    x : ndarray, shape (n,)
        Channel coordinate, sorted.
    y, error : ndarray, shape (n,)
        Flux density and its standard error, µJy.
    """
    nodes = _nodes(x)
    at_points = len(nodes) == len(x)
    weight = 1.0 / smooth_variance(x, error)
    widths = _half_widths(nodes, x, half_width, reach)
    trust = _trust(_median_deviation(x, y, error, half_width))
    for _ in range(_ITERATIONS + 1):
        smoother, gradient = _line_weights(nodes, x, weight * trust, widths)
        residual, residual_error = _left_out_residuals(smoother, nodes, x, y, error, at_points)
        trust = _trust(residual / residual_error)
    scale = max(1.0, _spread(residual / residual_error))
    value, slope, slope_variance = smoother @ y, gradient @ y, gradient**2 @ error**2
    if not at_points:
        value, slope, slope_variance = (np.interp(x, nodes, values) for values in (value, slope, slope_variance))
    return SmoothSpectrum(value, slope, slope_variance, residual, residual_error, scale)


def slope_weights(where: float, x: np.ndarray, weight: np.ndarray, half_width: float) -> np.ndarray | None:
    """Weights whose sum over y is the slope of the local line at one place; None for too few points or too close."""
    near = np.abs(x - where) < half_width
    if near.sum() < 3 or np.ptp(x[near]) < 0.5:
        return None
    _, gradient = _line_weights(np.array([where]), x, weight, np.array([half_width]))
    return gradient[0]


def smooth_variance(x: np.ndarray, error: np.ndarray, half_width: float = 2.0) -> np.ndarray:
    """Variances for weights: the local median, larger only for points that are clearly noisier.

    The variance of a single measurement follows its own noise (fewer counts, less photon noise), and weights made
    from it pull every mean down. The median of the neighbourhood does not know the point's noise.
    """
    variance = error**2
    typical = _local_median(x, variance, half_width)
    return np.where(variance > _DISTINCT_WEIGHT_RATIO * typical, variance, typical)


def _nodes(x: np.ndarray) -> np.ndarray:
    """Where lines are fitted: at the points, or on a grid fine enough when there are many."""
    if len(x) <= _MAX_POINT_NODES:
        return x
    return np.linspace(x[0], x[-1], max(2, int(np.ceil((x[-1] - x[0]) * _NODES_PER_CHANNEL)) + 1))


def _half_widths(nodes: np.ndarray, x: np.ndarray, half_width: float, reach: float) -> np.ndarray:
    """Half width at each node: as asked, or up to the nearest points needed."""
    if len(x) <= _MIN_NEIGHBOURS:
        return np.full(len(nodes), reach)
    distance = np.abs(nodes[:, None] - x[None, :])
    needed = np.partition(distance, _MIN_NEIGHBOURS, axis=1)[:, _MIN_NEIGHBOURS] * 1.05
    return np.minimum(np.maximum(half_width, needed), reach)


def _line_weights(
    nodes: np.ndarray, x: np.ndarray, weight: np.ndarray, widths: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What each point adds to value and slope of the line around each node, two arrays of shape (m, n)."""
    offset = x[None, :] - nodes[:, None]
    kernel = np.clip(1.0 - np.abs(offset / widths[:, None]) ** 3, 0.0, None) ** 3 * weight[None, :]
    s0, s1, s2 = kernel.sum(1), (kernel * offset).sum(1), (kernel * offset**2).sum(1)
    determinant = s0 * s2 - s1**2
    with np.errstate(divide="ignore", invalid="ignore"):
        leaning = determinant > 1e-3 * s0**2
        smoother = np.where(
            leaning[:, None],
            kernel * (s2[:, None] - s1[:, None] * offset) / determinant[:, None],
            kernel / s0[:, None],
        )
        gradient = np.where(leaning[:, None], kernel * (s0[:, None] * offset - s1[:, None]) / determinant[:, None], 0.0)
    return np.where(((kernel > 0).sum(1) >= 2)[:, None], smoother, np.nan), gradient


def _left_out_residuals(
    smoother: np.ndarray, nodes: np.ndarray, x: np.ndarray, y: np.ndarray, error: np.ndarray, at_points: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Residuals from the fit without the point itself, and their standard errors."""
    value, variance = smoother @ y, smoother**2 @ error**2
    if not at_points:
        return y - np.interp(x, nodes, value), np.sqrt(error**2 + np.interp(x, nodes, variance))
    own = np.diagonal(smoother)
    others = variance - own**2 * error**2
    with np.errstate(divide="ignore", invalid="ignore"):
        residual = np.where(own < 0.95, (y - value) / (1.0 - own), np.nan)
        residual_error = np.sqrt(error**2 + others / (1.0 - own) ** 2)
    return residual, residual_error


def _local_median(x: np.ndarray, values: np.ndarray, half_width: float) -> np.ndarray:
    """Median of the values within ``half_width`` of each point."""
    nodes = _nodes(x)
    first, last = np.searchsorted(x, nodes - half_width), np.searchsorted(x, nodes + half_width, side="right")
    known = np.flatnonzero(last > first)
    medians = [np.median(values[first[node] : last[node]]) for node in known]
    return np.interp(x, nodes[known], medians)


def _median_deviation(x: np.ndarray, y: np.ndarray, error: np.ndarray, half_width: float) -> np.ndarray:
    """How far each point is from the median of its neighbourhood, in its scatter and the point's error."""
    off = y - _local_median(x, y, half_width)
    return off / np.hypot(error, _MAD_TO_SIGMA * _local_median(x, np.abs(off), half_width))


def _spread(z: np.ndarray) -> float:
    """Robust standard deviation about zero."""
    known = z[np.isfinite(z)]
    return float(_MAD_TO_SIGMA * np.median(np.abs(known))) if known.size else 1.0


def _trust(z: np.ndarray) -> np.ndarray:
    """Bisquare weights of standardised residuals; full weight where there is no residual."""
    u = np.nan_to_num(z / (_BISQUARE * max(1.0, _spread(z))))
    return np.clip(1.0 - u**2, 0.0, None) ** 2
