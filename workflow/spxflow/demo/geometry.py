"""Where the sky falls on a detector: tangent plane and distortion polynomials.

Everything that is evaluated for many positions at once uses additions, multiplications, divisions and
square roots only. Those are rounded alike however an array is cut, which is what makes a cutout equal to
the crop of its whole frame to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spxflow.demo.headers import header_values, read_template

Floats = NDArray[np.float64]

FRAME = 2040  # light-sensitive pixels along either side of a detector
CRPIX = 1020.5  # FITS reference pixel of the whole frame, both axes (facts 1.3)
Window = tuple[int, int, int, int]  # x0, y0, nx, ny: 0-based detector pixels

Coefficients = tuple[float, ...]  # of u^p v^q in the order 00 10 20 30 01 11 21 02 12 03
_POWERS = ((0, 0), (1, 0), (2, 0), (3, 0), (0, 1), (1, 1), (2, 1), (0, 2), (1, 2), (0, 3))


def _distortion(u: Floats, v: Floats) -> tuple[Floats, Floats]:
    """Displacement, pixel to sky, in px at offsets ``u, v`` (px) from the reference pixel."""
    a, b = _sip()
    return _cubic(a, u, v), _cubic(b, u, v)


def _jacobian(u: Floats, v: Floats) -> Floats:
    """Determinant of the distorted with respect to the plain pixel coordinates."""
    a, b = _sip()
    a_u, a_v = _cubic_slopes(a, u, v)
    b_u, b_v = _cubic_slopes(b, u, v)
    return (1.0 + a_u) * (1.0 + b_v) - a_v * b_u


def _cubic(coefficients: Coefficients, u: Floats, v: Floats) -> Floats:
    c00, c10, c20, c30, c01, c11, c21, c02, c12, c03 = coefficients
    return (c00 + u * (c10 + u * (c20 + u * c30))) + v * ((c01 + u * (c11 + u * c21)) + v * ((c02 + u * c12) + v * c03))


def _cubic_slopes(coefficients: Coefficients, u: Floats, v: Floats) -> tuple[Floats, Floats]:
    """Derivatives with respect to u and v."""
    _, c10, c20, c30, c01, c11, c21, c02, c12, c03 = coefficients
    by_u = (c10 + u * (2.0 * c20 + u * (3.0 * c30))) + v * ((c11 + u * (2.0 * c21)) + v * c12)
    by_v = (c01 + u * (c11 + u * c21)) + v * (2.0 * (c02 + u * c12) + v * (3.0 * c03))
    return by_u, by_v


@lru_cache(maxsize=1)
def _sip() -> tuple[Coefficients, Coefficients]:
    """The SIP polynomials A and B of the real header kept in ``data``; used for every detector."""
    values = header_values(read_template("qr2_image_header.txt"))
    a, b = (tuple(float(values[f"{axis}_{p}_{q}"]) for p, q in _POWERS) for axis in "AB")
    return a, b


@lru_cache(maxsize=1)
def real_pc() -> tuple[float, float, float, float]:
    """PC1_1, PC1_2, PC2_1, PC2_2 of the real header, deg/px."""
    values = header_values(read_template("qr2_image_header.txt"))
    return tuple(float(values[key]) for key in ("PC1_1", "PC1_2", "PC2_1", "PC2_2"))  # type: ignore[return-value]


def _significant(value: float) -> float:
    """``value`` as the archive's headers write it, with twelve significant digits."""
    return float(f"{value:.12G}")


@dataclass(frozen=True)
class TanSip:
    """Celestial WCS of one whole frame: gnomonic projection with SIP distortion, ICRS.

    ``pc`` is PC1_1, PC1_2, PC2_1, PC2_2 in deg/px. Pixels are 0-based with centres on integers.
    """

    crval1: float
    crval2: float
    pc: tuple[float, float, float, float]

    def _basis(self) -> tuple[tuple[float, float, float], ...]:
        """Unit vectors east, north and towards the reference point."""
        ra, dec = math.radians(self.crval1), math.radians(self.crval2)
        sin_ra, cos_ra, sin_dec, cos_dec = math.sin(ra), math.cos(ra), math.sin(dec), math.cos(dec)
        return (
            (-sin_ra, cos_ra, 0.0),
            (-sin_dec * cos_ra, -sin_dec * sin_ra, cos_dec),
            (cos_dec * cos_ra, cos_dec * sin_ra, sin_dec),
        )

    def pixel_to_plane(self, x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
        """Tangent plane coordinates (east, north) in degrees of pixels."""
        u = np.asarray(x, dtype=float) - (CRPIX - 1.0)
        v = np.asarray(y, dtype=float) - (CRPIX - 1.0)
        du, dv = _distortion(u, v)
        u, v = u + du, v + dv
        return self.pc[0] * u + self.pc[1] * v, self.pc[2] * u + self.pc[3] * v

    def pixel_to_sky(self, x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
        """Right ascension and declination in degrees of pixels."""
        return plane_to_sky(self.crval1, self.crval2, *self.pixel_to_plane(x, y))

    def vector_to_pixel(self, vectors: Floats) -> tuple[Floats, Floats]:
        """Pixels of unit vectors ``(3, n)``; NaN where the vector lies behind the tangent point."""
        east, north, centre = self._basis()
        e, n, c = (axis[0] * vectors[0] + axis[1] * vectors[1] + axis[2] * vectors[2] for axis in (east, north, centre))
        c = np.where(c > 0.1, c, np.nan)
        xi, eta = e / c * (180.0 / math.pi), n / c * (180.0 / math.pi)
        p11, p12, p21, p22 = self.pc
        determinant = p11 * p22 - p12 * p21
        u_plane = (p22 * xi - p12 * eta) / determinant
        v_plane = (p11 * eta - p21 * xi) / determinant
        u, v = u_plane, v_plane
        for _ in range(9):  # each round gains two digits or more within the frame
            du, dv = _distortion(u, v)
            u, v = u_plane - du, v_plane - dv
        return u + (CRPIX - 1.0), v + (CRPIX - 1.0)

    def sky_to_pixel(self, ra_deg: ArrayLike, dec_deg: ArrayLike) -> tuple[Floats, Floats]:
        """Pixels of positions in degrees."""
        return self.vector_to_pixel(unit_vector(ra_deg, dec_deg))

    def solid_angle_arcsec2(self, x: ArrayLike, y: ArrayLike) -> Floats:
        """Solid angle of the pixels centred on ``x, y``, arcsec^2.

        The area in the tangent plane, |det PC| x the distortion's determinant, times the gnomonic factor
        (1 + xi^2 + eta^2)^(-3/2).
        """
        u = np.asarray(x, dtype=float) - (CRPIX - 1.0)
        v = np.asarray(y, dtype=float) - (CRPIX - 1.0)
        p11, p12, p21, p22 = self.pc
        du, dv = _distortion(u, v)
        u_plane, v_plane = (u + du) * (math.pi / 180.0), (v + dv) * (math.pi / 180.0)
        xi, eta = p11 * u_plane + p12 * v_plane, p21 * u_plane + p22 * v_plane
        square = 1.0 + xi * xi + eta * eta
        return 3600.0 * 3600.0 * abs(p11 * p22 - p12 * p21) * np.abs(_jacobian(u, v)) / (square * np.sqrt(square))

    def header_values(self) -> dict[str, float]:
        """The header cards that differ from frame to frame."""
        names = ("PC1_1", "PC1_2", "PC2_1", "PC2_2")
        return {
            **dict(zip(names, self.pc, strict=True)),
            "CRVAL1": self.crval1,
            "CRVAL2": self.crval2,
            "LATPOLE": self.crval2,
        }


def plane_to_sky(crval1: ArrayLike, crval2: ArrayLike, xi_deg: Floats, eta_deg: Floats) -> tuple[Floats, Floats]:
    """Positions in degrees of tangent plane coordinates; all arguments broadcast."""
    dec0 = np.radians(crval2)
    xi, eta = np.radians(xi_deg), np.radians(eta_deg)
    sin, cos = np.sin(dec0), np.cos(dec0)
    forward = cos - eta * sin
    ra = np.asarray(crval1) + np.degrees(np.arctan2(xi, forward))
    return ra % 360.0, np.degrees(np.arctan2(sin + eta * cos, np.hypot(xi, forward)))


def frame_outlines(frames: Sequence[TanSip]) -> Floats:
    """Right ascension and declination (degrees) of the outer corners and of the centre of frames: ``(n, 5, 2)``.

    Corners in the archive's order (-0.5, -0.5), (2039.5, -0.5), (2039.5, 2039.5), (-0.5, 2039.5); then the centre,
    1019.5, 1019.5.
    """
    low, middle, high = -0.5, 0.5 * (FRAME - 1), FRAME - 0.5
    u = np.array([low, high, high, low, middle]) - (CRPIX - 1.0)
    v = np.array([low, low, high, high, middle]) - (CRPIX - 1.0)
    du, dv = _distortion(u, v)
    u, v = u + du, v + dv
    pc = np.array([frame.pc for frame in frames]).reshape(-1, 4, 1)
    crval1, crval2 = (np.array([getattr(f, name) for f in frames])[:, None] for name in ("crval1", "crval2"))
    ra, dec = plane_to_sky(crval1, crval2, pc[:, 0] * u + pc[:, 1] * v, pc[:, 2] * u + pc[:, 3] * v)
    return np.stack([ra, dec], axis=-1)


def unit_vector(ra_deg: ArrayLike, dec_deg: ArrayLike) -> Floats:
    """Unit vectors ``(3, ...)`` of positions in degrees."""
    ra, dec = np.radians(np.asarray(ra_deg, dtype=float)), np.radians(np.asarray(dec_deg, dtype=float))
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])


def offset_position(ra_deg: float, dec_deg: float, east_arcsec: ArrayLike, north_arcsec: ArrayLike) -> Floats:
    """Positions ``(2, ...)`` in degrees at tangent-plane offsets from a centre."""
    ra, dec = math.radians(ra_deg), math.radians(dec_deg)
    xi = np.asarray(east_arcsec, dtype=float) / 206264.80624709636
    eta = np.asarray(north_arcsec, dtype=float) / 206264.80624709636
    denominator = math.cos(dec) - eta * math.sin(dec)
    ra_out = ra + np.arctan2(xi, denominator)
    dec_out = np.arctan2(math.sin(dec) + eta * math.cos(dec), np.hypot(xi, denominator))
    return np.stack([np.degrees(ra_out) % 360.0, np.degrees(dec_out)])


def rotated_pc(y_axis_pa_deg: float, solid_angle_scale: float) -> tuple[float, float, float, float]:
    """The real PC matrix turned so that +y points to a position angle, with a scaled pixel area.

    Parameters
    ----------
    y_axis_pa_deg
        Position angle of the detector's +y axis, degrees east of north.
    solid_angle_scale
        Ratio of the pixel's solid angle to that of the real header.
    """
    p11, p12, p21, p22 = real_pc()
    turn = math.radians(y_axis_pa_deg) - math.atan2(p12, p22)
    cos, sin, scale = math.cos(turn), math.sin(turn), math.sqrt(solid_angle_scale)
    turned = (p11 * cos + p21 * sin, p12 * cos + p22 * sin, p21 * cos - p11 * sin, p22 * cos - p12 * sin)
    return tuple(_significant(scale * value) for value in turned)  # type: ignore[return-value]


def pointing_for(ra_deg: float, dec_deg: float, x: float, y: float, pc: tuple[float, float, float, float]) -> TanSip:
    """The frame whose pixel ``x, y`` sees a position.

    Closed form: with the tangent-plane coordinates (xi, eta) of the pixel,
    sin(dec) sqrt(1 + xi^2 + eta^2) = sin(dec0) + eta cos(dec0).
    """
    xi, eta = map(math.radians, TanSip(0.0, 0.0, pc).pixel_to_plane(x, y))
    length = math.sqrt(1.0 + xi * xi + eta * eta)
    dec0 = math.asin(length * math.sin(math.radians(dec_deg)) / math.hypot(1.0, eta)) - math.atan(eta)
    ra0 = math.radians(ra_deg) - math.atan2(xi, math.cos(dec0) - eta * math.sin(dec0))
    return TanSip(_significant(math.degrees(ra0) % 360.0), _significant(math.degrees(dec0)), pc)


@lru_cache(maxsize=64)
def ecliptic_north_pa(ra_deg: float, dec_deg: float) -> float:
    """Position angle of the direction to the ecliptic pole, degrees east of north."""
    pole = unit_vector(270.0, 90.0 - 23.4392911)
    east, north, _ = TanSip(ra_deg, dec_deg, real_pc())._basis()
    return math.degrees(math.atan2(float(np.dot(east, pole)), float(np.dot(north, pole))))
