"""The true point-spread function: a closed formula, continuous over the field.

A sum of five Gaussians (core, halo and three lobes of a trefoil) whose widths and offsets change smoothly over the
detector, so that its integral over any pixel is a product of error functions. The cube and the table that
go into the files are this formula at the zone centres. A photometer has to interpolate them; the
simulated stars do not come from them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spxflow.demo.geometry import FRAME, Floats
from spxflow.demo.instrument import DETECTORS, PIXEL_ARCSEC, ZONE_CENTRES

STAMP_HALF = 7  # a stamp is 15 x 15 px; what lies outside is below 1e-9
CUBE_SIDE, CUBE_OVERSAMPLING = 101, 10
EPSF_SIDE, EPSF_OVERSAMPLING = 33, 5

# Core and halo weights by detector, chosen so that a 3 px wide aperture holds the part of the light that the
# published correction factors imply (facts 6); what is left goes to the lobes.
_CORE_WEIGHT = {1: 0.42, 2: 0.42, 3: 0.42, 4: 0.40, 5: 0.48, 6: 0.60}
_HALO_WEIGHT = {1: 0.22, 2: 0.22, 3: 0.20, 4: 0.22, 5: 0.22, 6: 0.20}
_LOBE_SHARE = (0.31, 0.30, 0.39)
_LOBE_ANGLE_DEG = (80.0, 325.0, 205.0)
_LOBE_DISTANCE_PX = 1.47
_LOBE_SIGMA_PX = 0.53
_HALO_SIGMA_PX = 0.78


@dataclass(frozen=True)
class Components:
    """Gaussians of the PSF at n positions: arrays ``(5, n)``, offsets and widths in px, weights of unit sum."""

    weight: Floats
    dx: Floats
    dy: Floats
    sigma_x: Floats
    sigma_y: Floats


def components(detector: int, x: ArrayLike, y: ArrayLike, asymmetry: float) -> Components:
    """The PSF at 0-based detector positions. The core lies about (-0.053, -0.048) px off (facts 1.7).

    ``asymmetry`` is what distinguishes one simulated telescope from another: it scales the lobes' differences and the
    ellipticity of the core.
    """
    u = np.atleast_1d(np.asarray(x, dtype=float)) / (0.5 * FRAME) - 1.0
    v = np.atleast_1d(np.asarray(y, dtype=float)) / (0.5 * FRAME) - 1.0
    q = 0.5 * (u * u + v * v)
    one = np.ones_like(u)
    a = asymmetry
    sigma = DETECTORS[detector].psf_fwhm_arcsec / PIXEL_ARCSEC / 2.3548200450309493
    core_x, core_y = -0.053 + 0.007 * u, -0.048 + 0.03 * v
    gaussians: list[tuple[Floats, ...]] = []  # weight, dx, dy, sigma_x, sigma_y
    core_weight = _CORE_WEIGHT[detector] * (1.0 - 0.05 * q)
    gaussians.append(
        (core_weight, core_x, core_y, sigma * (1.0 + 0.06 * q + 0.03 * a * u), sigma * (1.0 + 0.08 * q - 0.03 * a * v))
    )
    halo_weight = _HALO_WEIGHT[detector] * one
    halo_sigma = _HALO_SIGMA_PX * (1.0 + 0.04 * q)
    gaussians.append((halo_weight, core_x - 0.08 * a, core_y + 0.02 * a, halo_sigma, halo_sigma * (1.0 + 0.05 * a)))
    turn = 0.25 * a * u * v + 0.1 * v  # small rotation of the trefoil over the field
    distance = _LOBE_DISTANCE_PX * (1.0 + 0.02 * q)
    lobe_sigma = _LOBE_SIGMA_PX * (1.0 + 0.05 * q)
    for share, angle in zip(_LOBE_SHARE, _LOBE_ANGLE_DEG, strict=True):
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        uneven_share = 1.0 / 3.0 + a * (share - 1.0 / 3.0)
        lobe_x, lobe_y = core_x + distance * (cos - sin * turn), core_y + distance * (sin + cos * turn)
        lobe_weight = (1.0 - core_weight - halo_weight) * uneven_share
        gaussians.append((lobe_weight, lobe_x, lobe_y, lobe_sigma, lobe_sigma * (1.0 + 0.04 * a)))
    return Components(*(np.stack(values) for values in zip(*gaussians, strict=True)))


def _shares(edges: Floats, offset: Floats, sigma: Floats) -> Floats:
    """Part of a Gaussian between neighbouring edges: ``(n, m + 1)`` edges to ``(n, m)``."""
    from scipy.special import erf

    scaled = erf((edges - offset[:, None]) / (sigma[:, None] * np.sqrt(2.0)))
    return 0.5 * (scaled[:, 1:] - scaled[:, :-1])


def _integrals(parts: Components, edges_x: Floats, edges_y: Floats) -> Floats:
    """Light in the cells between edges ``(n, m + 1)`` relative to the source: ``(n, my, mx)``."""
    total = np.zeros((edges_x.shape[0], edges_y.shape[1] - 1, edges_x.shape[1] - 1))
    for index in range(parts.weight.shape[0]):
        along_x = _shares(edges_x, parts.dx[index], parts.sigma_x[index])
        along_y = _shares(edges_y, parts.dy[index], parts.sigma_y[index]) * parts.weight[index][:, None]
        total += along_y[:, :, None] * along_x[:, None, :]
    return total


def stamps(detector: int, x: Floats, y: Floats, asymmetry: float) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """Pixel shares of point sources of unit flux.

    Parameters
    ----------
    x, y
        0-based detector positions ``(n,)``, px.

    Returns
    -------
    left, bottom
        Detector pixel of each stamp's first element, ``(n,)``.
    shares
        Part of the total flux in each pixel, ``(n, 15, 15)``.
    """
    left = np.floor(x + 0.5).astype(np.intp) - STAMP_HALF
    bottom = np.floor(y + 0.5).astype(np.intp) - STAMP_HALF
    steps = np.arange(2 * STAMP_HALF + 2) - 0.5
    edges_x = (left[:, None] + steps) - x[:, None]
    edges_y = (bottom[:, None] + steps) - y[:, None]
    return left, bottom, _integrals(components(detector, x, y, asymmetry), edges_x, edges_y)


def psf_cube(detector: int, asymmetry: float) -> NDArray[np.float32]:
    """The QR2 cube: the optical PSF over 0.1 px cells at the 11 x 11 zone centres, ``(121, 101, 101)``.

    Plane ``iy * 11 + ix``; the zone centres are 1-based pixels. Planes sum to the light within 10.1 px.
    """
    centres = np.array(ZONE_CENTRES) - 1.0
    y, x = (grid.ravel() for grid in np.meshgrid(centres, centres, indexing="ij"))
    edges = (np.arange(CUBE_SIDE + 1) - 0.5 * CUBE_SIDE) / CUBE_OVERSAMPLING
    edges = np.broadcast_to(edges, (x.size, edges.size))
    return _integrals(components(detector, x, y, asymmetry), edges, edges).astype(np.float32)


def epsf_zones(detector: int) -> tuple[int, int]:
    """Zones of the QR3 table along x and y (facts 1.7)."""
    return (11, 41) if detector == 3 else (21, 21)


def epsf_table(detector: int, asymmetry: float) -> tuple[Floats, Floats, Floats]:
    """The QR3 effective PSF: zone centres ``x, y`` (0-based px) and samples ``(zones, 33, 33)``.

    A sample is the light in a native pixel centred there, divided by 25; rows are x-fast.
    """
    nx, ny = epsf_zones(detector)
    y, x = (
        grid.ravel()
        for grid in np.meshgrid(
            (np.arange(ny) + 0.5) * FRAME / ny - 0.5, (np.arange(nx) + 0.5) * FRAME / nx - 0.5, indexing="ij"
        )
    )
    parts = components(detector, x, y, asymmetry)
    centres = (np.arange(EPSF_SIDE) - EPSF_SIDE // 2) / EPSF_OVERSAMPLING
    total = np.zeros((x.size, EPSF_SIDE, EPSF_SIDE))
    for index in range(parts.weight.shape[0]):
        along_x = _pixel_shares(centres, parts.dx[index], parts.sigma_x[index])
        along_y = _pixel_shares(centres, parts.dy[index], parts.sigma_y[index]) * parts.weight[index][:, None]
        total += along_y[:, :, None] * along_x[:, None, :]
    return x, y, total / EPSF_OVERSAMPLING**2


def _pixel_shares(centres: Floats, offset: Floats, sigma: Floats) -> Floats:
    """Part of a Gaussian in a native pixel about each centre: ``(n, m)``."""
    from scipy.special import erf

    scale = sigma[:, None] * np.sqrt(2.0)
    distance = centres[None, :] - offset[:, None]
    return 0.5 * (erf((distance + 0.5) / scale) - erf((distance - 0.5) / scale))
