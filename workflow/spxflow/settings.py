"""Typed options of the measurement.

Ranges and messages are the business of :mod:`spxflow.config`; here options only get names and types. A section or
option that is not given has the default below, which is that of ``config/config.yaml``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from spxflow.config import Section

BAD_FLAGS: tuple[str | int, ...] = (
    "TRANSIENT",
    "OVERFLOW",
    "SUR_ERROR",
    "NONFUNC",
    "DICHROIC",
    "MISSING_DATA",
    "HOT",
    "COLD",
    "PHANMISS",
    "NONLINEAR",
    "PERSIST",
    "OUTLIER",
    "STREAK",
    "BLOOM",
    "SNOWBALL",
)


NEIGHBOUR_CORE_PX = 2.0  # pixels this near to a neighbour enter the fit even on a known source
_DEFAULT_CUTOUT_PX = 60
_WIDEST_FWHM_PX = 2.0


@dataclass(frozen=True)
class ApertureSettings(Section):
    """Section ``photometry.aperture``: the size of the circular aperture."""

    method: str = "fwhm"  # fwhm: diameter_fwhm x PSF FWHM of the exposure; fixed: diameter_px
    diameter_fwhm: float = 2.5
    diameter_px: float = 3.0


@dataclass(frozen=True)
class BackgroundSettings(Section):
    """Section ``photometry.background``: where the local background of the aperture is taken, and how."""

    method: str = "annulus"  # annulus or window
    gap_px: float = 1.414
    min_area_px: float = 150.0
    max_radius_px: float = 8.0
    step_px: float = 1.0
    tries: int = 5
    min_pixels: int = 30
    window_px: int = 50
    clip_sigma: float = 3.0
    clip_iterations: int = 3
    fallbacks: tuple[str, ...] = ("window", "window_sources")  # also: sources, few (see spxflow.background)
    remove_source: bool = True


@dataclass(frozen=True)
class ZodiSettings(Section):
    """Section ``photometry.zodi``: the zodiacal light model."""

    subtract: str = "scaled"  # scaled, as_is or none
    region: str = "window"  # where the scale is fitted: window (of the measurement) or image (all of it at hand)
    weights: str = "uniform"  # of the pixels in that fit: uniform or inverse_variance
    scale_min: float = 0.0
    scale_max: float = 10.0


@dataclass(frozen=True)
class PsfSettings(Section):
    """Section ``photometry.psf``: the forced PSF fit."""

    radius_px: float = 4.0
    background: str = "constant"  # constant or plane
    background_radius_px: float = 8.0
    offset_px: tuple[float, float] = (0.0, 0.0)  # of the stars in the image from where WCS and PSF model put them


@dataclass(frozen=True)
class NeighbourSettings(Section):
    """Section ``photometry.neighbours``: what becomes of known sources near the target."""

    radius_px: float = 6.0
    fit: bool = True
    blend_fracflux: float = 0.1


@dataclass(frozen=True)
class ErrorSettings(Section):
    """Section ``errors``."""

    rescale: bool = False
    variance_repair: str = "local"  # local or image
    method: str = "exact"  # exact, or simple: partial pixels count by their weight, background error std / sqrt(n)


@dataclass(frozen=True)
class PhotometrySettings(Section):
    """Sections ``photometry`` and ``errors``: everything a measurement depends on."""

    estimators: tuple[str, ...] = ("psf", "aperture")
    primary: str = "psf"
    bad_flags: tuple[str | int, ...] = BAD_FLAGS
    background_flags: tuple[str | int, ...] = ("SOURCE",)
    max_masked_fraction: float = 0.5
    disagree_sigma: float = 4.0
    solid_angle: str = "local"  # local: with the distortion at the source; plane: of the linear WCS
    aperture: ApertureSettings = field(default_factory=ApertureSettings)
    background: BackgroundSettings = field(default_factory=BackgroundSettings)
    zodi: ZodiSettings = field(default_factory=ZodiSettings)
    psf: PsfSettings = field(default_factory=PsfSettings)
    neighbours: NeighbourSettings = field(default_factory=NeighbourSettings)
    errors: ErrorSettings = field(default_factory=ErrorSettings)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """From the two sections of a configuration that :func:`spxflow.config.complete` has checked."""
        return cls.from_options({**config.get("photometry", {}), "errors": config.get("errors", {})})

    @property
    def needs_whole_image(self) -> bool:
        """Whether statistics of the whole image at hand are wanted."""
        return self.errors.variance_repair == "image" or self.zodi.region == "image"

    @property
    def reach_px(self) -> float:
        """How far from the source the pixels of aperture and PSF fit lie at most."""
        if self.aperture.method == "fixed":
            radius = 0.5 * self.aperture.diameter_px
        else:
            radius = 0.5 * self.aperture.diameter_fwhm * _WIDEST_FWHM_PX
        neighbours = self.neighbours.radius_px + NEIGHBOUR_CORE_PX
        return max(radius + 1.0, self.psf.background_radius_px, self.psf.radius_px, neighbours)

    @property
    def window_px(self) -> int:
        """Side of the window that is measured, even: the default cutout, or more where the options reach further."""
        reach = max(self.reach_px, self.background.max_radius_px)
        needed = max(2 * math.ceil(reach) + 4, self.background.window_px + 2, _DEFAULT_CUTOUT_PX)
        return needed + needed % 2


@dataclass(frozen=True)
class QualitySettings(Section):
    """Section ``quality``: which points are good."""

    min_snr: float = 5.0
    upper_limit_sigma: float = 3.0
    statuses: tuple[str, ...] = ("ok", "flagged")
    max_chi2_dof: float | None = None
