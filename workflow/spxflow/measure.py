"""One file in, one record out: read, locate, background, aperture, forced, quality.

A file that cannot be read or measured gives a record with a status and a reason. All per-file code here is safe to run
in many threads at once.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from spxflow.aperture import Aperture, ApertureSum, place_aperture, raw_sum, total_sum
from spxflow.background import Background, find_pixels
from spxflow.background import measure as measure_background
from spxflow.forced import PsfFit, fit_psf, masked_fraction
from spxflow.mef import Calibration, Exposure, InvalidFile, SkyWindow, read_exposure
from spxflow.noise import blank_sky_scale
from spxflow.observations import Observation
from spxflow.position import Observer, apparent_position, barycentric_julian_date, observer_at, position_at
from spxflow.quality import Seen, decide_status
from spxflow.scene import Array, Scene, cut_out
from spxflow.settings import PhotometrySettings
from spxflow.sources import Source
from spxflow.tables import empty_record

log = logging.getLogger(__name__)

# 1 MJy/sr = 1e12 µJy per (180 x 3600 / pi)^2 arcsec^2
UJY_PER_ARCSEC2 = 1e12 / (180.0 * 3600.0 / math.pi) ** 2

Record = dict[str, Any]
Placed = tuple[float, float, Array]  # window pixel x, y, and the share of a source's flux in each pixel

_MARGIN_PX = 40  # that is read of a file beyond the scene
_SAME_SOURCE_PX = 0.3  # nearer than this (1.8 arcsec) a neighbour is the target itself under another position
_ROUNDS_OF_OWN_LIGHT = 2
_LEAST_DIFFERENCE = 0.1  # of two estimators' variances, in units of the larger


def missing_record(observation: Observation, status: str, reason: str) -> Record:
    """The record of an exposure that was not measured."""
    return empty_record() | {
        "obs_id": observation.obs_id,
        "band": observation.band,
        "detector": observation.detector,
        "mjd": observation.mjd_mid,
        "mjd_begin": observation.mjd_begin,
        "mjd_end": observation.mjd_end,
        "status": status,
        "reason": reason,
        "is_good": False,
        "is_upper_limit": False,
        "file": f"{observation.stem}.fits",
        "version": observation.version,
        "collection": observation.collection,
    }


def measure_exposure(
    path: Path | str,
    source: Source,
    observation: Observation,
    settings: PhotometrySettings,
    neighbours: Sequence[Source] = (),
    calibration: Calibration | None = None,
) -> Record:
    """Measure a source on one exposure.

    Parameters
    ----------
    path
        Level-2 file: a cutout of any size or a whole image.
    source
        What to measure.
    observation
        What the archive says of the exposure.
    settings
        The method.
    neighbours
        Other sources whose light may fall on this one's.
    calibration
        Used in place of what the file holds.

    Returns
    -------
    dict
        A value or None for each of :data:`spxflow.tables.COLUMNS`; those that depend on the quality cuts are
        filled in by :func:`spxflow.quality.judge`.
    """
    record = missing_record(observation, "error", "")
    try:
        exposure = read_exposure(path, calibration, _part_to_read(source, observation, settings))
        record |= describe_file(exposure)
        with np.errstate(invalid="ignore", over="ignore"):  # pixels may hold infinities; what comes of them is checked
            record |= measure(exposure, source, settings, neighbours)
    except (InvalidFile, OSError) as error:
        record |= {"status": "invalid_file", "reason": str(error)}
    except Exception as error:
        log.exception("%s: measurement failed", observation.stem)
        record |= {"status": "error", "reason": f"{type(error).__name__}: {error}"}
    return record


def _part_to_read(source: Source, observation: Observation, settings: PhotometrySettings) -> SkyWindow | None:
    """A window with room for the scene, around where the source was then, as the archive's cutouts are.

    The whole file where the method wants statistics of all of it.
    """
    if settings.needs_whole_image:
        return None
    return SkyWindow(*position_at(source, observation.mjd_mid), settings.window_px + _MARGIN_PX)


def measure(
    exposure: Exposure, source: Source, settings: PhotometrySettings, neighbours: Sequence[Source] = ()
) -> Record:
    """The measured part of a record; see :func:`measure_exposure`."""
    observer = observer_at(exposure.mjd_mid, exposure.spacecraft_km)
    target = locate(exposure, apparent_position(source, observer), settings)
    record = describe_place(exposure, target, observer)
    if not exposure.has_pixel(target.x, target.y):
        return record | {"status": "off_image", "reason": "the source is not on the image"}

    scene = cut_out(exposure, target.x, target.y, settings)
    profile = scene.profile(exposure, scene.x, scene.y, settings.psf.offset_px)
    others = place_neighbours(exposure, scene, neighbours, target, observer, settings)
    psf = measure_psf(scene, profile, others, settings)
    aperture = place_aperture(scene.x, scene.y, aperture_radius(exposure, target, settings), ~scene.good)
    sums = measure_aperture(scene, profile, aperture, settings)
    if psf is not None and psf.neighbours and settings.neighbours.fit:
        raw = sums.raw
        scene, borrowed = without_neighbours(scene, aperture, psf, others)
        sums = replace(measure_aperture(scene, profile, aperture, settings, borrowed), raw=raw)
    error_scale = blank_sky_scale(scene, aperture.radius)

    unit = target.ujy_per_mjysr
    error_unit = unit * error_scale if settings.errors.rescale and error_scale else unit
    seen = Seen(scene, aperture, exposure.flag_bits, settings.bad_flags)
    masked = masked_fraction(scene, profile, settings.psf.radius_px)
    if "psf" in settings.estimators:
        record |= psf_columns(psf, unit, error_unit) | {"psf_masked_fraction": masked}
    if "aperture" in settings.estimators:
        record |= aperture_columns(sums, unit, error_unit)
    if settings.primary != "psf":
        masked = sums.masked_fraction
    record |= seen.describe_flags() | contamination(psf, others, bool(neighbours), settings)
    record |= {
        "aperture_radius_px": aperture.radius,
        "aperture_n_bad": aperture.n_bad,
        "zodi_scale": scene.zodi_scale,
        "error_scale": error_scale,
        "n_variance_repaired": scene.n_variance_repaired,
        "estimator": settings.primary,
        "flux_ujy": record[f"{settings.primary}_flux_ujy"],
        "flux_err_ujy": record[f"{settings.primary}_flux_err_ujy"],
        "estimators_disagree": estimators_disagree(record, settings.disagree_sigma),
    }
    has_background = psf is not None if settings.primary == "psf" else sums.background is not None
    record["status"], record["reason"] = decide_status(
        settings.primary, record["flux_ujy"] is not None, has_background, masked, settings.max_masked_fraction, seen
    )
    if record["status"] == "ok" and record["estimators_disagree"]:
        record["status"] = "flagged"
        record["reason"] = "psf and aperture flux disagree: an artefact without a flag, or a blend"
    return record


# --- where ---


@dataclass(frozen=True)
class Target:
    """The source on an exposure: its place on the sky (ICRS, deg) and in the arrays at hand, and the pixel's size."""

    ra_deg: float
    dec_deg: float
    x: float
    y: float
    solid_angle_arcsec2: float

    @property
    def ujy_per_mjysr(self) -> float:
        """Flux of a pixel of 1 MJy/sr."""
        return UJY_PER_ARCSEC2 * self.solid_angle_arcsec2


def locate(exposure: Exposure, position: tuple[float, float], settings: PhotometrySettings) -> Target:
    """Pixel of a sky position (deg) and the solid angle there."""
    x, y = (float(value) for value in exposure.wcs.sky_to_pixel(*position))
    if settings.solid_angle == "plane":
        (cd11, cd12), (cd21, cd22) = exposure.wcs.cd
        solid_angle = math.hypot(cd11, cd21) * math.hypot(cd12, cd22) * 3600.0**2
    else:
        solid_angle = float(exposure.solid_angle_arcsec2(x, y))
    return Target(*position, x, y, solid_angle)


def aperture_radius(exposure: Exposure, target: Target, settings: PhotometrySettings) -> float:
    """Radius of the aperture, px."""
    if settings.aperture.method == "fixed":
        return 0.5 * settings.aperture.diameter_px
    fwhm_px = exposure.psf_fwhm_arcsec / math.sqrt(target.solid_angle_arcsec2)
    return 0.5 * settings.aperture.diameter_fwhm * fwhm_px


def place_neighbours(
    exposure: Exposure,
    scene: Scene,
    neighbours: Sequence[Source],
    target: Target,
    observer: Observer,
    settings: PhotometrySettings,
) -> list[Placed]:
    """Those neighbours that lie within the radius asked for, at the time of the exposure; the target itself not."""
    placed = []
    for neighbour in neighbours:
        x, y = (float(value) for value in exposure.wcs.sky_to_pixel(*apparent_position(neighbour, observer)))
        if _SAME_SOURCE_PX < math.hypot(x - target.x, y - target.y) <= settings.neighbours.radius_px:
            x, y = x - target.x + scene.x, y - target.y + scene.y
            placed.append((x, y, scene.profile(exposure, x, y, settings.psf.offset_px)))
    return placed


# --- how much ---


def measure_psf(scene: Scene, profile: Array, others: Sequence[Placed], settings: PhotometrySettings) -> PsfFit | None:
    """Forced PSF flux; with the neighbours fitted too, or left in the flux when they are only to be reported.

    Without neighbours, nothing is fitted unless the flux is wanted.
    """
    if "psf" not in settings.estimators and not others:
        return None
    joint = fit_psf(scene, profile, others, settings.psf, settings.background)
    if not others or settings.neighbours.fit:
        return joint
    alone = fit_psf(scene, profile, (), settings.psf, settings.background)
    return replace(alone, fracflux=joint.fracflux) if joint and alone else alone


def without_neighbours(scene: Scene, aperture: Aperture, psf: PsfFit, others: Sequence[Placed]) -> tuple[Scene, Array]:
    """The scene less the light of the fitted neighbours, and how much of each pixel left the aperture with it."""
    image, borrowed = scene.image.copy(), np.zeros_like(scene.image)
    for index, flux, influence in zip(psf.neighbours, psf.fluxes[1:], psf.influence[1:], strict=True):
        image -= flux * others[index][2]
        borrowed.flat[psf.pixels] += aperture.psf_fraction(others[index][2]) * influence
    return replace(scene, image=image), borrowed


@dataclass(frozen=True)
class ApertureSums:
    """Aperture photometry in MJy/sr px: background, raw sum over all pixels, sum over the good ones.

    ``psf_fraction`` is the share of the source's flux on the good pixels: it brings ``total`` to the total flux.
    """

    background: Background | None
    raw: ApertureSum | None
    total: ApertureSum | None
    psf_fraction: float
    masked_fraction: float


def measure_aperture(
    scene: Scene, profile: Array, aperture: Aperture, settings: PhotometrySettings, borrowed: Array | None = None
) -> ApertureSums:
    """Background around the aperture, and sums within it; ``borrowed`` as in :func:`without_neighbours`.

    The source's own light in the background's pixels, known from the PSF once the flux is, is taken out of them.
    """
    every = aperture.psf_fraction(profile, good_only=False)
    fraction = aperture.psf_fraction(profile)
    masked = 1.0 - fraction / every if every > 0.0 else 1.0
    found = find_pixels(scene, aperture.radius, settings.background)
    if found is None:
        return ApertureSums(None, None, None, fraction, masked)
    pixels, step = found
    values, share = scene.image.flat[pixels], profile.flat[pixels]
    simple = settings.errors.method == "simple"
    rounds = _ROUNDS_OF_OWN_LIGHT if settings.background.remove_source and fraction > 0.0 and share.any() else 0
    own = np.zeros_like(share)
    for _ in range(1 + rounds):
        background = measure_background(values - own, step, settings.background, simple)
        total = total_sum(aperture, scene.image, scene.variance, background, borrowed)
        own = total.value / (fraction or 1.0) * share
    raw = raw_sum(aperture, scene.image, scene.variance, background, simple)
    return ApertureSums(background, raw, total if fraction > 0.0 else None, fraction, masked)


# --- as columns ---


def describe_file(exposure: Exposure) -> Record:
    """What the file says of itself."""
    return {
        "mjd": exposure.mjd_mid,
        "mjd_begin": exposure.mjd_begin,
        "mjd_end": exposure.mjd_end,
        "psf_fwhm_arcsec": exposure.psf_fwhm_arcsec,
        "release": exposure.release,
        "pipeline_version": exposure.pipeline_version,
        "calibration": "; ".join(f"{part}: {origin}" for part, origin in exposure.calibration.items()),
    }


def describe_place(exposure: Exposure, target: Target, observer: Observer) -> Record:
    """Where and when the source was seen, and at what wavelength."""
    place: Record = {
        "ra_deg": target.ra_deg,
        "dec_deg": target.dec_deg,
        "bjd_tdb": barycentric_julian_date(observer, target.ra_deg, target.dec_deg),
    }
    if not (math.isfinite(target.x) and math.isfinite(target.y)):
        return place
    x_det, y_det = target.x + exposure.x0, target.y + exposure.y0
    place |= {
        "x_pix": target.x + exposure.x_file,
        "y_pix": target.y + exposure.y_file,
        "x_det": x_det,
        "y_det": y_det,
    }
    if exposure.has_pixel(target.x, target.y):
        wavelength, bandwidth = exposure.wavelength.at(x_det, y_det)
        place |= {
            "wavelength_um": float(wavelength),
            "bandwidth_um": float(bandwidth),
            "solid_angle_arcsec2": target.solid_angle_arcsec2,
        }
    return place


def psf_columns(psf: PsfFit | None, unit: float, error_unit: float) -> Record:
    """Columns of the PSF fit; ``unit`` turns MJy/sr px into µJy, ``error_unit`` does so for errors."""
    if psf is None:
        return {"psf_flux_ujy": None, "psf_flux_err_ujy": None}
    return {
        "psf_flux_ujy": psf.flux * unit,
        "psf_flux_err_ujy": psf.error * error_unit,
        "psf_chi2_dof": psf.chi2_dof,
        "psf_background_mjysr": psf.background,
        "psf_n_pixels": psf.n_pixels,
    }


def aperture_columns(sums: ApertureSums, unit: float, error_unit: float) -> Record:
    """Columns of the aperture photometry; units as in :func:`psf_columns`."""
    columns: Record = dict.fromkeys(
        ("aperture_flux_ujy", "aperture_flux_err_ujy", "aperture_raw_flux_ujy", "aperture_raw_flux_err_ujy")
    )
    columns["aperture_psf_fraction"] = sums.psf_fraction
    if sums.background is not None:
        columns |= {
            "background_mjysr": sums.background.level,
            "background_err_mjysr": sums.background.error,
            "background_n_pixels": sums.background.n_pixels,
            "background_step": sums.background.step,
        }
    if sums.total is not None and math.isfinite(sums.total.error):
        columns["aperture_flux_ujy"] = sums.total.value / sums.psf_fraction * unit
        columns["aperture_flux_err_ujy"] = sums.total.error / sums.psf_fraction * error_unit
    if sums.raw is not None and math.isfinite(sums.raw.value) and math.isfinite(sums.raw.error):
        columns["aperture_raw_flux_ujy"] = sums.raw.value * unit
        columns["aperture_raw_flux_err_ujy"] = sums.raw.error * error_unit
    return columns


def contamination(psf: PsfFit | None, others: Sequence[Placed], has_list: bool, settings: PhotometrySettings) -> Record:
    """How much the known neighbours shine into the source; nothing is said without a list of them."""
    if not has_list:
        return {"fracflux": None, "is_blended": None}
    if not others:
        return {"fracflux": 0.0, "is_blended": False}
    if psf is None:
        return {"fracflux": None, "is_blended": True}
    inseparable = len(psf.neighbours) < len(others)
    return {
        "fracflux": psf.fracflux,
        "is_blended": abs(psf.fracflux) > settings.neighbours.blend_fracflux or inseparable,
    }


def estimators_disagree(record: Record, sigma: float) -> bool | None:
    """Whether PSF and aperture flux differ by more than so many sigma of their difference; None unless there are both.

    They share their pixels' noise: of an efficient and another estimator the variance of the difference is the
    difference of the variances (Hausman 1978, Econometrica 46, 1251).
    """
    psf, aperture = record.get("psf_flux_ujy"), record.get("aperture_flux_ujy")
    if psf is None or aperture is None:
        return None
    variance = record["aperture_flux_err_ujy"] ** 2
    difference = max(variance - record["psf_flux_err_ujy"] ** 2, _LEAST_DIFFERENCE * variance)
    return bool(abs(psf - aperture) > sigma * math.sqrt(difference))
