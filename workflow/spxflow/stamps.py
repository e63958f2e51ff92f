"""Small pictures of an exposure around the source: what was seen, what the PSF model says, what was left out."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spxflow.measure import UJY_PER_ARCSEC2
from spxflow.mef import Exposure, mask_of
from spxflow.scene import good_pixels

Array = NDArray[np.float64]

_RESIDUAL_SIGMAS = 5.0


@dataclass(frozen=True)
class Stamp:
    """The surroundings of the source on one exposure.

    Attributes
    ----------
    image
        Zodiacal light and background subtracted as in the measurement, MJy/sr, shape (n, n); NaN outside the image.
    model
        The PSF with the flux measured, MJy/sr. Neighbours are not in it.
    masked
        Pixels that the measurement does not use.
    x, y
        The source, 0-based pixels of the stamp.
    aperture_radius_px
        Radius of the aperture, or None.
    """

    image: Array
    model: Array
    masked: NDArray[np.bool_]
    x: float
    y: float
    aperture_radius_px: float | None

    @property
    def residual(self) -> Array:
        """Image minus model, MJy/sr."""
        return self.image - self.model

    @property
    def noise(self) -> float:
        """Robust scatter of the residual over the pixels used, MJy/sr; 1 where there are none."""
        used = self.residual[~self.masked & np.isfinite(self.image)]
        return float(1.4826 * np.median(np.abs(used - np.median(used)))) or 1.0 if used.size else 1.0

    @property
    def flux_scale(self) -> tuple[float, float]:
        """Limits of the colours of image and model: from below the noise to the model's peak, MJy/sr."""
        return -3.0 * self.noise, max(float(np.nanmax(self.model)), self.residual_span)

    @property
    def residual_span(self) -> float:
        """What the colours of the residual span on either side of zero, MJy/sr."""
        return _RESIDUAL_SIGMAS * self.noise


def make_stamp(
    exposure: Exposure,
    record: Mapping[str, Any],
    bad_flags: Iterable[str | int],
    size_px: int,
    offset_px: Sequence[float] = (0.0, 0.0),
) -> Stamp:
    """The stamp of a measured exposure, the source in its middle pixel.

    Parameters
    ----------
    exposure
        The part of the image around the source, or more.
    record
        Its record; position, flux, background and zodiacal light are taken from it.
    bad_flags
        Flags whose pixels were not used, by name or number.
    size_px
        Side of the stamp, pixels, odd.
    offset_px
        The model is this far from the record's position, x and y, as in the measurement.
    """
    half = size_px // 2
    first_x, first_y = (round(record[name]) - half for name in ("x_det", "y_det"))
    ny, nx = exposure.image.shape
    columns, rows = first_x - exposure.x0 + np.arange(size_px), first_y - exposure.y0 + np.arange(size_px)
    on_image = ((rows >= 0) & (rows < ny))[:, None] & ((columns >= 0) & (columns < nx))[None, :]
    inside = np.ix_(np.clip(rows, 0, ny - 1), np.clip(columns, 0, nx - 1))

    scale, variance = record["zodi_scale"] or 0.0, exposure.variance[inside]
    sky = _first(record, "psf_background_mjysr", "background_mjysr") + (scale * exposure.zodi[inside] if scale else 0.0)
    image = np.where(on_image, exposure.image[inside] - sky, np.nan).astype(np.float64)
    good = good_pixels(image, variance, exposure.flags[inside], mask_of(bad_flags, exposure.flag_bits))
    x_model, y_model = record["x_det"] + offset_px[0], record["y_det"] + offset_px[1]
    share = exposure.psf.stamp(x_model, y_model, first_x, first_y, size_px, size_px)
    flux = _first(record, "psf_flux_ujy", "flux_ujy")
    return Stamp(
        image=image,
        model=flux / (UJY_PER_ARCSEC2 * record["solid_angle_arcsec2"]) * share,
        masked=~good,
        x=record["x_det"] - first_x,
        y=record["y_det"] - first_y,
        aperture_radius_px=record["aperture_radius_px"],
    )


def _first(record: Mapping[str, Any], *names: str) -> float:
    """The first of some values that is there and finite, or 0."""
    values = (record[name] for name in names)
    return next((value for value in values if value is not None and math.isfinite(value)), 0.0)


def encode(stamp: Stamp) -> dict[str, Any]:
    """A stamp as JSON: pictures as bytes (base64) between the limits of their scales, first row at the bottom."""
    low, high = stamp.flux_scale
    span = stamp.residual_span
    return {
        "size": stamp.image.shape[0],
        "x": round(stamp.x, 3),
        "y": round(stamp.y, 3),
        "radius": stamp.aperture_radius_px,
        "low": low,
        "high": high,
        "span": span,
        "image": _as_bytes(stamp.image, low, high),
        "model": _as_bytes(stamp.model, low, high),
        "residual": _as_bytes(stamp.residual, -span, span),
        "masked": base64.b64encode(stamp.masked.astype(np.uint8).tobytes()).decode(),
    }


def _as_bytes(picture: np.ndarray, low: float, high: float) -> str:
    levels = np.clip((np.nan_to_num(picture, nan=low) - low) / (high - low), 0.0, 1.0)
    return base64.b64encode(np.rint(255.0 * levels).astype(np.uint8).tobytes()).decode()
