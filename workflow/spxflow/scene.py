"""The pixels around a source as they are measured: a window of the exposure with its masks, zodiacal light removed.

The window has one size whatever the file: where it leaves the image its pixels are bad. With the default options it
holds just the pixels of the default cutout, the source in pixel (29, 29), so that a measurement does not depend on how
large a part of the image the file has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spxflow.mef.flags import mask_of
from spxflow.settings import PhotometrySettings, ZodiSettings

if TYPE_CHECKING:
    from spxflow.mef import Exposure

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_LEAST_SKY_FRACTION = 0.5  # of the window, to scale the zodiacal light model by it
_REPAIR_REACH_PX = 2  # half side of the square whose pixels lend their variance
_LEAST_LENDERS = 5


@dataclass(frozen=True)
class Scene:
    """Window around a source.

    Attributes
    ----------
    image
        MJy/sr, zodiacal light subtracted as asked, shape (n, n); NaN outside the image.
    variance
        (MJy/sr)^2; filled in where it was missing near the source, NaN elsewhere.
    flags
        Flags of each pixel, bit by bit; 0 outside the image.
    on_image, good, sky
        Pixels that exist; that are not bad; that are good and on no known source.
    radius2
        Squared distance from the source, px^2.
    x, y
        The source, 0-based pixels of the window.
    x_det0, y_det0
        Detector pixel of the window's first one.
    room_px
        Distance from the source to the nearest end of the image, as far as pixel index 0 or its length.
    zodi_scale
        Factor of the zodiacal light model that was subtracted.
    n_variance_repaired
        Missing variances that were filled in.
    """

    image: Array
    variance: Array
    flags: NDArray[np.int64]
    on_image: Mask
    good: Mask
    sky: Mask
    radius2: Array
    x: float
    y: float
    x_det0: int
    y_det0: int
    room_px: float
    zodi_scale: float
    n_variance_repaired: int

    def profile(self, exposure: Exposure, x: float, y: float, offset_px: tuple[float, float] = (0.0, 0.0)) -> Array:
        """Share of a source's flux in each pixel of the window, the source at window pixel (x, y) plus the offset."""
        x, y = x + offset_px[0], y + offset_px[1]
        reach = math.ceil(exposure.psf.radius_px) + 1
        size = self.image.shape[0]
        first_x, first_y = max(math.floor(x) - reach, 0), max(math.floor(y) - reach, 0)
        after_x, after_y = min(math.floor(x) + reach + 2, size), min(math.floor(y) + reach + 2, size)
        profile = np.zeros_like(self.image)
        if first_x < after_x and first_y < after_y:
            profile[first_y:after_y, first_x:after_x] = exposure.psf.stamp(
                x + self.x_det0,
                y + self.y_det0,
                first_x + self.x_det0,
                first_y + self.y_det0,
                after_x - first_x,
                after_y - first_y,
            )
        return profile


def cut_out(exposure: Exposure, x: float, y: float, settings: PhotometrySettings) -> Scene:
    """The window around pixel (x, y) of an exposure, which must be on the image.

    Bad is a pixel with one of the bad flags, without a value, or with a variance that is infinite or not positive. A
    pixel that only lacks its variance (NaN) is used with the variance filled in.
    """
    size = settings.window_px
    x_first, y_first = math.floor(x) - (size // 2 - 1), math.floor(y) - (size // 2 - 1)

    def window(plane: NDArray[Any], fill: float, dtype: type) -> NDArray[Any]:
        """Part of a plane, filled up where it leaves the image."""
        seen = plane[max(y_first, 0) : y_first + size, max(x_first, 0) : x_first + size]
        below, left = max(-y_first, 0), max(-x_first, 0)
        part: NDArray[Any] = np.full((size, size), fill, dtype=dtype)
        part[below : below + seen.shape[0], left : left + seen.shape[1]] = seen
        return part

    image = window(exposure.image, np.nan, np.float64)
    variance = window(exposure.variance, np.nan, np.float64)
    flags = window(exposure.flags, 0, np.int64)
    ny, nx = exposure.image.shape
    columns, rows = np.arange(size) + x_first, np.arange(size) + y_first
    on_image = ((rows >= 0) & (rows < ny))[:, None] & ((columns >= 0) & (columns < nx))[None, :]
    radius2 = (columns - x)[None, :] ** 2 + (rows - y)[:, None] ** 2

    good, sky = _masks(image, variance, flags, exposure, settings)

    if settings.errors.variance_repair == "image":
        n_repaired = _repair_from_image(variance, on_image, exposure.variance)
    else:
        near = on_image & (radius2 <= settings.reach_px**2)
        n_repaired = _repair_from_neighbours(variance, image, good, near)
    zodi_scale = 0.0
    if settings.zodi.subtract != "none":
        zodi = window(exposure.zodi, np.nan, np.float64)
        if settings.zodi.region == "image":
            zodi_scale = _zodi_scale_of_image(exposure, settings)
        else:
            zodi_scale = _zodi_scale(image, zodi, variance, sky, int(on_image.sum()), settings.zodi)
        image = image - zodi_scale * zodi
        lost = ~np.isfinite(image)
        good, sky = good & ~lost, sky & ~lost
    return Scene(
        image=image,
        variance=variance,
        flags=flags,
        on_image=on_image,
        good=good,
        sky=sky,
        radius2=radius2,
        x=x - x_first,
        y=y - y_first,
        x_det0=exposure.x0 + x_first,
        y_det0=exposure.y0 + y_first,
        room_px=min(x, y, nx - x, ny - y),
        zodi_scale=zodi_scale,
        n_variance_repaired=n_repaired,
    )


def good_pixels(
    image: NDArray[np.floating], variance: NDArray[np.floating], flags: NDArray[np.integer], bad_bits: int
) -> Mask:
    """Pixels with a value, none of the bad flag bits, and a variance that is positive or only missing (NaN)."""
    return np.isfinite(image) & ~((variance <= 0.0) | np.isinf(variance)) & ((flags & bad_bits) == 0)


def _masks(
    image: Array, variance: Array, flags: NDArray[np.integer], exposure: Exposure, settings: PhotometrySettings
) -> tuple[Mask, Mask]:
    """Pixels that are not bad, and those of them that are on no known source."""
    bad_bits = mask_of(settings.bad_flags, exposure.flag_bits)
    source_bits = mask_of(settings.background_flags, exposure.flag_bits)
    good = good_pixels(image, variance, flags, bad_bits)
    return good, good & ((flags & source_bits) == 0)


def _zodi_scale(image: Array, zodi: Array, variance: Array, sky: Mask, n_pixels: int, settings: ZodiSettings) -> float:
    """Least-squares factor of the zodiacal light model on the sky pixels.

    With uniform weights there is no bias: the variance is nearly flat over the sky, and what it varies by follows the
    pixel's own noise, so that inverse-variance weights pull the factor down by a percent or two. The factor is 1 when
    half of the pixels are no sky, or when it falls outside its limits.
    """
    if settings.subtract == "as_is":
        return 1.0
    usable = sky & np.isfinite(zodi) & (zodi != 0.0)
    if settings.weights == "inverse_variance":
        usable &= variance > 0.0
    pixels = np.flatnonzero(usable)
    if pixels.size == 0 or np.count_nonzero(sky) < _LEAST_SKY_FRACTION * n_pixels:
        return 1.0
    model = zodi.flat[pixels]
    weighted = model / variance.flat[pixels] if settings.weights == "inverse_variance" else model
    scale = float(weighted @ image.flat[pixels] / (weighted @ model))
    return scale if settings.scale_min < scale <= settings.scale_max else 1.0


def _zodi_scale_of_image(exposure: Exposure, settings: PhotometrySettings) -> float:
    """The factor fitted on all of the image at hand."""
    image, variance = exposure.image.astype(np.float64), exposure.variance.astype(np.float64)
    _, sky = _masks(image, variance, exposure.flags, exposure, settings)
    _repair_from_image(variance, np.ones(variance.shape, dtype=bool), exposure.variance)
    return _zodi_scale(image, exposure.zodi.astype(np.float64), variance, sky, image.size, settings.zodi)


def _repair_from_image(variance: Array, on_image: Mask, whole: NDArray[np.floating]) -> int:
    """Fill in missing variances by the median over the whole image, in place; how many."""
    missing = np.isnan(variance) & on_image
    count = int(missing.sum())
    if count:
        valid = whole[np.isfinite(whole) & (whole > 0)]
        if valid.size:
            variance[missing] = float(np.median(valid))
    return count


def _repair_from_neighbours(variance: Array, image: Array, good: Mask, where: Mask) -> int:
    """Fill in missing variances from the pixels around, in place; how many."""
    missing = np.flatnonzero(~(variance > 0.0) & where)
    lenders = good & (variance > 0.0)
    if missing.size == 0 or not lenders.any():
        return 0
    repaired = [_borrowed_variance(variance, image, lenders, *divmod(int(i), variance.shape[1])) for i in missing]
    variance.flat[missing] = repaired
    return int(missing.size)


def _borrowed_variance(variance: Array, image: Array, lenders: Mask, row: int, column: int) -> float:
    """Median variance of the good pixels around, each brought to the brightness of this one.

    Photon noise makes variance a straight line in brightness, whose slope comes from the same pixels. With too few of
    them it is the median of all good pixels of the window.
    """
    reach = _REPAIR_REACH_PX
    square = np.s_[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1]
    near = lenders[square]
    if np.count_nonzero(near) < _LEAST_LENDERS:
        return float(np.median(variance[lenders]))
    lent, brightness = variance[square][near], image[square][near]
    excess = brightness - brightness.mean()
    spread = float(excess @ excess)
    slope = max(float(excess @ lent) / spread, 0.0) if spread > 0.0 else 0.0
    own = image[row, column] if math.isfinite(image[row, column]) else float(np.median(brightness))
    return max(float(np.median(lent + slope * (own - brightness))), float(lent.min()))
