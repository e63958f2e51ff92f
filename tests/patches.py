"""Exposures made to measure: a cutout of the real format whose sources, sky and noise are set by the test."""

import dataclasses
import functools
import math

import level2
import numpy as np
from spxflow.measure import UJY_PER_ARCSEC2
from spxflow.mef import read_exposure
from spxflow.observations import Observation
from spxflow.scene import cut_out
from spxflow.settings import PhotometrySettings
from spxflow.sources import Source

SIDE = 60
X, Y = 29.37, 29.81  # where the target lies unless said otherwise
SKY_MJYSR = 0.2
SKY_VARIANCE = 0.013**2
PER_BRIGHTNESS = 1.2e-3  # variance that a source adds, per MJy/sr
SOURCE = 1 << 21
OUTLIER = 1 << 19

OBSERVATION = Observation(
    stem="level2_2025W51_1A_0684_2D3_spx_l2b-v21-2025-354",
    obs_id="2025W51_1A_0684_2",
    band="D3",
    mjd_begin=61027.214984375,
    mjd_end=61027.216316753,
    wavelength_min_um=1.63,
    wavelength_max_um=2.43,
    url="",
    version="l2b-v21-2025-354",
    collection="spherex_qr2",
)


@functools.cache
def base(release="QR2"):
    """A cutout with the real header, an exactly known PSF and blank planes."""
    blank = np.zeros((SIDE, SIDE), np.float32)
    planes = (blank, blank.astype(np.int32), blank + np.float32(SKY_VARIANCE), blank)
    return read_exposure(level2.file_bytes(level2.level2_hdus(release, planes=planes)))


def star(x=X, y=Y, **motion):
    """The source seen at pixel (x, y) of a patch."""
    ra, dec = base().wcs.pixel_to_sky(x, y)
    return Source("star", "star", float(ra), float(dec), **motion)


def share(x=X, y=Y):
    """True share of a source's flux in each pixel."""
    exposure = base()
    return level2.CORE.pixels(x + exposure.x0, y + exposure.y0, exposure.x0, exposure.y0, SIDE, SIDE)


def ujy_per_mjysr(x=X, y=Y):
    """Flux of a pixel of 1 MJy/sr, µJy."""
    return UJY_PER_ARCSEC2 * float(base().solid_angle_arcsec2(x, y))


def patch(sources=(), seed=None, slope=(0.0, 0.0), noise=1.0, variance_follows_pixel=True, release="QR2"):
    """An exposure.

    Parameters
    ----------
    sources
        (flux in µJy, x, y) of each.
    seed
        Of the noise; None for none.
    slope
        Of the sky, MJy/sr per pixel.
    noise
        The noise in units of what VARIANCE says.
    variance_follows_pixel
        VARIANCE has the photon noise of the noisy pixel, as in real files; else of its expectation.
    """
    rows, columns = np.mgrid[:SIDE, :SIDE]
    sky = SKY_MJYSR + slope[0] * (columns - X) + slope[1] * (rows - Y)
    light = sum((flux / ujy_per_mjysr(x, y) * share(x, y) for flux, x, y in sources), np.zeros((SIDE, SIDE)))
    variance = SKY_VARIANCE + PER_BRIGHTNESS * light
    image = sky + light
    if seed is not None:
        image = image + noise * np.sqrt(variance) * np.random.default_rng(seed).standard_normal((SIDE, SIDE))
        if variance_follows_pixel:
            variance = SKY_VARIANCE + PER_BRIGHTNESS * (image - sky)
    flags = np.where(light > math.sqrt(SKY_VARIANCE), np.uint32(SOURCE), np.uint32(0))
    return dataclasses.replace(
        base(release),
        image=image.astype(np.float32),
        variance=variance.astype(np.float32),
        zodi=np.full((SIDE, SIDE), SKY_MJYSR / 1.2, np.float32),
        flags=flags,
    )


def altered(exposure, **planes):
    """An exposure with pixels set: ``image={(x, y): value}``; flags are added to those there are."""
    changed = {}
    for name, pixels in planes.items():
        plane = getattr(exposure, name).copy()
        for (x, y), value in pixels.items():
            plane[y, x] = plane[y, x] | np.uint32(value) if name == "flags" else value
        changed[name] = plane
    return dataclasses.replace(exposure, **changed)


def scene_of(exposure, x=X, y=Y, settings=None):
    """The measured window of an exposure around pixel (x, y)."""
    return cut_out(exposure, x, y, settings or PhotometrySettings())


def best_error_ujy(flux_ujy):
    """Cramer-Rao bound of a flux at the usual place, sky known, µJy."""
    variance = SKY_VARIANCE + PER_BRIGHTNESS * flux_ujy / ujy_per_mjysr() * share()
    return ujy_per_mjysr() / math.sqrt(float((share() ** 2 / variance).sum()))


def write(exposure, path, release="QR2"):
    """The exposure's planes as a Level-2 file."""
    planes = exposure.image, exposure.flags.astype(np.int32), exposure.variance, exposure.zodi
    path.write_bytes(level2.file_bytes(level2.level2_hdus(release, x0=exposure.x0, y0=exposure.y0, planes=planes)))
    return path
