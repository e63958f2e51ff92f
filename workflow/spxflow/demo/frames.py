"""Pixels of an exposure: stars, sky, noise and flaws, for any window of the detector.

A window is equal to the crop of the whole frame to the last bit: random numbers come in tiles of 64 x 64 detector
pixels, each with its own stream, and everything else is evaluated pixel by pixel or star by star.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from spxflow.demo.cutouts import clipped_span
from spxflow.demo.exposures import Exposure
from spxflow.demo.geometry import CRPIX, FRAME, Floats, Window, unit_vector
from spxflow.demo.instrument import DETECTORS, UJY_PER_ARCSEC2, generator, key_of, science_wavelength
from spxflow.demo.optics import STAMP_HALF, stamps
from spxflow.demo.sky import Sky, band_mean
from spxflow.mef.flags import KNOWN_FLAGS

TILE = 64
WHOLE: Window = (0, 0, FRAME, FRAME)

_BIT = {name: np.int32(1 << bit) for name, bit in KNOWN_FLAGS.items()}
LATE_FLAGS = ("GHOST", "GHOST_FPA", "GHOST_EXT", "BLOOM", "SNOWBALL", "HALO")  # not in l2b-v20 (facts 1.5)
QR3_FLAGS = ("CROSSTALK", "STREAK", "SATELLITE_HALO")

# Parts of the pixels, after the counters of the real header (facts 1.2). Those of one exposure:
DENSITIES = {"TRANSIENT": 0.0053, "OUTLIER": 0.0170, "SUR_ERROR": 0.0037, "PERSIST": 0.0020, "FULLSAMPLE": 0.00006}
# and those of a detector, the same in all its exposures:
FIXED_DENSITIES = {"NONFUNC": 0.0029, "COLD": 0.0004, "HOT": 0.00002}
DICHROIC_ROWS = {3: "bottom", 4: "top"}
SOURCE_THRESHOLD = 0.3  # light of catalogued stars, in units of the sky noise, that sets SOURCE


@dataclass(frozen=True)
class Camera:
    """What the pixels of all exposures of a scenario have in common.

    ``asymmetry`` is that of the PSF; ``noise_scale`` multiplies the noise but not the VARIANCE written;
    ``unflagged_nan_fraction`` is the part of the NaN variances that carry no flag; ``gain_error`` gives QR2 images the
    gain error relative to QR3 that the QR3 flux correction maps undo; ``flaw_scale`` multiplies the numbers of flawed
    pixels but not that of listed NaN variances.
    """

    seed: int
    asymmetry: float
    noise_scale: float = 1.0
    unflagged_nan_fraction: float = 0.0
    gain_error: bool = False
    flaw_scale: float = 1.0

    def gain_rows(self, exposure: Exposure) -> Floats:
        """Factor to the QR3 scale by detector row, 1 where the scenario has no gain error."""
        if self.gain_error and exposure.release == "qr2":
            return gain_by_row(exposure.detector)
        return np.ones(FRAME)


@dataclass(frozen=True)
class Pixels:
    """Planes of a window: MJy/sr, flag bits, (MJy/sr)^2, MJy/sr; ``(ny, nx)``."""

    image: NDArray[np.float32]
    flags: NDArray[np.int32]
    variance: NDArray[np.float32]
    zodi: NDArray[np.float32]


@dataclass(frozen=True)
class SeenSources:
    """Point sources on the detector: 0-based pixels, total flux in µJy, wavelength and bandwidth in µm."""

    x: Floats
    y: Floats
    flux_ujy: Floats
    wavelength_um: Floats
    bandwidth_um: Floats


def _offsets(window: Window) -> tuple[Floats, Floats]:
    """Column and row offsets of a window's pixels from the reference pixel, shapes ``(1, nx)`` and ``(ny, 1)``."""
    x0, y0, nx, ny = window
    columns, rows = np.arange(x0, x0 + nx, dtype=float), np.arange(y0, y0 + ny, dtype=float)
    return columns[None, :] - (CRPIX - 1.0), rows[:, None] - (CRPIX - 1.0)


@lru_cache(maxsize=6)
def gain_by_row(detector: int) -> Floats:
    """Factor that brings QR2 images of a detector to the QR3 scale, by detector row ``(2040,)``.

    Median and range as found in the real maps for D1 and D5 (facts 4); half a percent assumed for the others.
    """
    median, half_range = {1: (0.970, 0.06), 5: (1.007, 0.02)}.get(detector, (1.0, 0.005))
    v = (np.arange(FRAME) - (CRPIX - 1.0)) / (0.5 * FRAME)
    return median + half_range * v * (1.0 - 0.6 * v * v) - 0.5 * half_range * v * v


def sources_seen(exposure: Exposure, sky: Sky) -> SeenSources:
    """The sources of the truth table on the detector of an exposure, in their order."""
    x, y = exposure.wcs.vector_to_pixel(sky.source_vectors(exposure.mjd_mid))
    return _seen(exposure, x, y, sky.source_kinds, sky.source_amplitudes(exposure.mjd_mid))


def _seen(exposure: Exposure, x: Floats, y: Floats, kind: NDArray[np.intp], amplitude: Floats) -> SeenSources:
    wavelength, bandwidth = science_wavelength(exposure.detector, exposure.release, x, y)
    flux = amplitude * band_mean(kind, wavelength, bandwidth)
    return SeenSources(x, y, flux, wavelength, bandwidth)


def _field_seen(exposure: Exposure, sky: Sky, window: Window) -> SeenSources:
    """Field stars whose light may reach a window."""
    x0, y0, nx, ny = window
    margin = STAMP_HALF + 2.0
    xs = np.linspace(x0 - margin, x0 + nx + margin, 9)
    ys = np.linspace(y0 - margin, y0 + ny + margin, 9)
    edge_x = np.concatenate([xs, xs, np.full(9, xs[0]), np.full(9, xs[-1])])
    edge_y = np.concatenate([np.full(9, ys[0]), np.full(9, ys[-1]), ys, ys])
    stars = sky.field
    index = stars.near(unit_vector(*exposure.wcs.pixel_to_sky(edge_x, edge_y)))
    x, y = exposure.wcs.vector_to_pixel(stars.vectors[:, index])
    close = (x > xs[0]) & (x < xs[-1]) & (y > ys[0]) & (y < ys[-1])
    index = index[close]
    return _seen(exposure, x[close], y[close], stars.kind[index], stars.amplitude_ujy[index])


def starlight(exposure: Exposure, sky: Sky, asymmetry: float, window: Window) -> Floats:
    """Flux of all point sources in each pixel of a window, µJy, ``(ny, nx)``."""
    x0, y0, nx, ny = window
    pad = 2 * STAMP_HALF + 3
    canvas = np.zeros((ny + 2 * pad, nx + 2 * pad))
    for seen in (sources_seen(exposure, sky), _field_seen(exposure, sky, window)):
        reach = STAMP_HALF + 1.0
        inside = (seen.x > x0 - reach) & (seen.x < x0 + nx + reach) & (seen.y > y0 - reach) & (seen.y < y0 + ny + reach)
        inside &= seen.flux_ujy != 0.0
        x, y, flux = seen.x[inside], seen.y[inside], seen.flux_ujy[inside]
        for start in range(0, x.size, 2048):
            part = slice(start, start + 2048)
            left, bottom, shares = stamps(exposure.detector, x[part], y[part], asymmetry)
            shares *= flux[part, None, None]
            _add_stamps(canvas, left - x0 + pad, bottom - y0 + pad, shares)
    return canvas[pad : pad + ny, pad : pad + nx]


def _add_stamps(canvas: Floats, left: NDArray[np.intp], bottom: NDArray[np.intp], shares: Floats) -> None:
    side = 2 * STAMP_HALF + 1
    for i, j, stamp in zip(left.tolist(), bottom.tolist(), shares, strict=True):
        canvas[j : j + side, i : i + side] += stamp


def _tile(camera: Camera, exposure: Exposure, column: int, row: int) -> tuple[Floats, NDArray[np.int32], Floats]:
    """Random numbers of 64 x 64 pixels: noise in standard deviations, flags, added light in units of the sky noise."""
    rng = generator("tile", camera.seed, exposure.obs_id, exposure.detector, column, row)
    noise = rng.standard_normal((TILE, TILE))
    chance = rng.random((TILE, TILE))
    flags = np.zeros((TILE, TILE), dtype=np.int32)
    spike = np.zeros((TILE, TILE))
    below = 0.0
    for name, density in DENSITIES.items():
        above = below + camera.flaw_scale * density
        j, i = np.nonzero((chance >= below) & (chance < above))
        below = above
        flags[j, i] |= _BIT[name]
        if name == "TRANSIENT":  # half of them left charge behind, some in the next pixel too
            spike[j, i] = np.where(rng.random(j.size) < 0.5, 8.0 * np.exp(rng.normal(0.5, 1.3, j.size)), 0.0)
            neighbour = np.minimum(i + 1, TILE - 1)
            track = rng.random(j.size) < 0.3
            flags[j[track], neighbour[track]] |= _BIT[name]
            spike[j[track], neighbour[track]] += 0.4 * spike[j[track], i[track]]
            flags[j, i] |= np.where(rng.random(j.size) < 0.2, _BIT["SUR_ERROR"], np.int32(0))
        elif name == "OUTLIER":
            spike[j, i] += np.where(rng.random(j.size) < 0.7, 5.0 + rng.exponential(8.0, j.size), -4.0)
        elif name == "SUR_ERROR":
            spike[j, i] += rng.normal(0.0, 4.0, j.size)
        elif name == "PERSIST":
            spike[j, i] += rng.exponential(2.0, j.size)
    return noise, flags, spike


def dead_pixels(camera: Camera, detector: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of a detector's NONFUNC pixels."""
    tiles = range(-(-FRAME // TILE))
    flags = np.block(
        [[_fixed_flaws(camera.seed, detector, column, row, camera.flaw_scale) for column in tiles] for row in tiles]
    )
    rows, columns = np.nonzero(flags[:FRAME, :FRAME] & _BIT["NONFUNC"])
    return rows, columns


@lru_cache(maxsize=2048)
def _fixed_flaws(seed: int, detector: int, column: int, row: int, scale: float) -> NDArray[np.int32]:
    """Flaws of a detector's pixels within a tile, as flag bits."""
    chance = generator("fixed flaws", seed, detector, column, row).random((TILE, TILE))
    flags = np.zeros((TILE, TILE), dtype=np.int32)
    below = 0.0
    for name, density in FIXED_DENSITIES.items():
        flags[(chance >= below) & (chance < below + scale * density)] |= _BIT[name]
        below += scale * density
    flags.flags.writeable = False
    return flags


def render(exposure: Exposure, sky: Sky, camera: Camera, window: Window = WHOLE) -> Pixels:
    """Planes of a window of an exposure.

    Brightness: zodiacal light (``zodi_scale`` times the model of the ZODI plane) plus the stars' flux over the pixel's
    solid angle. Noise: Gaussian with variance ``read + slope x brightness``. VARIANCE is the same line evaluated at
    the noisy brightness, as in the archive (facts 1.6).
    """
    x0, y0, nx, ny = window
    detector = DETECTORS[exposure.detector]
    light = starlight(exposure, sky, camera.asymmetry, window)
    area = exposure.wcs.solid_angle_arcsec2(np.arange(x0, x0 + nx)[None, :], np.arange(y0, y0 + ny)[:, None])
    zodi = _zodi_model(exposure, window)
    stars = light / (UJY_PER_ARCSEC2 * area)
    brightness = exposure.zodi_scale * zodi + stars
    noise, flags, spike = _random_planes(camera, exposure, window)
    dichroic = _dichroic(exposure.detector, window)
    excess = np.where(dichroic, 3.0, 1.0)  # noise of the rows that the dichroic dims (assumed)
    sigma = np.sqrt(detector.read_variance + detector.photon_slope * exposure.background_mjysr)
    variance = excess * (detector.read_variance + detector.photon_slope * brightness)

    flags |= np.where(dichroic, _BIT["DICHROIC"], np.int32(0))
    is_source = stars > SOURCE_THRESHOLD * sigma
    flags |= np.where(is_source, _BIT["SOURCE"], np.int32(0))
    missed = is_source & (flags & _BIT["OUTLIER"] != 0) & (flags & _BIT["TRANSIENT"] == 0)
    flags[missed] &= ~_BIT["OUTLIER"]  # outliers are looked for off the sources
    spike[missed] = 0.0
    flags |= np.where(brightness > detector.overflow_mjysr, _BIT["OVERFLOW"] | _BIT["SUR_ERROR"], np.int32(0))
    _add_discs(camera, exposure, window, flags, spike)
    _add_core_spikes(exposure, sky, window, flags, spike, sigma)

    observed = brightness + np.sqrt(variance) * (camera.noise_scale * noise) + sigma * spike
    observed = np.where(flags & _BIT["HOT"] != 0, observed + 60.0 * sigma, observed)
    observed = np.where(flags & _BIT["COLD"] != 0, 0.3 * observed, observed)
    written = excess * (detector.read_variance + detector.photon_slope * np.maximum(observed, 0.0))
    written[_apply_dead_pixels(camera, exposure, window, flags, observed)] = np.nan
    gain = camera.gain_rows(exposure)[y0 : y0 + ny, None]
    return Pixels(
        image=(observed / gain).astype(np.float32),
        flags=flags,
        variance=(written / (gain * gain)).astype(np.float32),
        zodi=zodi.astype(np.float32),
    )


def _zodi_model(exposure: Exposure, window: Window) -> Floats:
    """Zodiacal light model, MJy/sr: a few percent of gradient over the frame, its direction by observation."""
    u, v = (offset / (0.5 * FRAME) for offset in _offsets(window))
    tilt = generator("zodi tilt", exposure.obs_id).uniform(-0.02, 0.02, 2)
    return exposure.background_mjysr / exposure.zodi_scale * (1.0 + tilt[0] * u + tilt[1] * v + 0.005 * (u * u - v * v))


def _random_planes(camera: Camera, exposure: Exposure, window: Window) -> tuple[Floats, NDArray[np.int32], Floats]:
    """Noise in standard deviations, flags and added light in units of the sky noise, from the tiles of a window."""
    x0, y0, nx, ny = window
    noise, spike = np.empty((ny, nx)), np.empty((ny, nx))
    flags = np.empty((ny, nx), dtype=np.int32)
    for row in range(y0 // TILE, (y0 + ny - 1) // TILE + 1):
        for column in range(x0 // TILE, (x0 + nx - 1) // TILE + 1):
            tile_noise, tile_flags, tile_spike = _tile(camera, exposure, column, row)
            fixed = _fixed_flaws(camera.seed, exposure.detector, column, row, camera.flaw_scale)
            here, there = _overlap((column * TILE, row * TILE, TILE, TILE), window)
            noise[here], spike[here] = tile_noise[there], tile_spike[there]
            flags[here] = tile_flags[there] | fixed[there]
    return noise, flags, spike


def _overlap(part: Window, window: Window) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Slices of the common pixels of two windows, in the second and in the first."""
    here, there = [], []
    for axis in (1, 0):
        low = max(part[axis], window[axis])
        high = max(low, min(part[axis] + part[axis + 2], window[axis] + window[axis + 2]))
        here.append(slice(low - window[axis], high - window[axis]))
        there.append(slice(low - part[axis], high - part[axis]))
    return (here[0], here[1]), (there[0], there[1])


def _dichroic(detector: int, window: Window) -> NDArray[np.bool_]:
    """Pixels dimmed by the dichroic: the bottom of D3, the top of D4, bounded by an arc; 2.6 % of the frame."""
    side = DICHROIC_ROWS.get(detector)
    _, y0, nx, ny = window
    if side is None:
        return np.zeros((ny, nx), dtype=bool)
    u, _ = _offsets(window)
    depth = 45.0 + 24.0 * (u / (0.5 * FRAME)) * (u / (0.5 * FRAME))
    row = np.arange(y0, y0 + ny)[:, None]
    return row < depth if side == "bottom" else row > FRAME - 1 - depth


def _add_discs(camera: Camera, exposure: Exposure, window: Window, flags: NDArray[np.int32], spike: Floats) -> None:
    """Halos of cosmic rays, snowballs and ghosts: round patches of extra light. Files before v21 have none."""
    if exposure.version.startswith("l2b-v20"):
        return
    rng = generator("discs", camera.seed, exposure.obs_id, exposure.detector)
    u, v = (offset + (CRPIX - 1.0) for offset in _offsets(window))
    for name, number, radius, strength in (("HALO", 6, 6.0, 3.0), ("SNOWBALL", 2, 4.0, 40.0), ("GHOST", 1, 14.0, 1.0)):
        for x, y in rng.uniform(0.0, FRAME, (number, 2)):
            if not (window[0] - radius < x < window[0] + window[2] + radius):
                continue
            if not (window[1] - radius < y < window[1] + window[3] + radius):
                continue
            distance2 = ((u - x) * (u - x) + (v - y) * (v - y)) / (radius * radius)
            inside = distance2 < 1.0
            flags[inside] |= _BIT[name]
            spike[inside] += strength * (1.0 - distance2[inside])


def _add_core_spikes(
    exposure: Exposure, sky: Sky, window: Window, flags: NDArray[np.int32], spike: Floats, sigma: float
) -> None:
    """A flagged cosmic ray in the core of each source meant to have one, in every other exposure."""
    x0, y0, nx, ny = window
    seen = sources_seen(exposure, sky)
    for index, source in enumerate(sky.sources):
        if not (source.spiked and spiked_in(source.name, exposure)):
            continue
        i = int(np.floor(seen.x[index] + 0.5)) + key_of("spike", exposure.stem) % 2 - x0
        j = int(np.floor(seen.y[index] + 0.5)) - y0
        if 0 <= i < nx and 0 <= j < ny:
            flags[j, i] |= _BIT["TRANSIENT"]
            spike[j, i] = 40.0 / sigma  # 40 MJy/sr: some 36,000 uJy


def spiked_in(name: str, exposure: Exposure) -> bool:
    """Whether a source meant to have flagged spikes has one in this exposure."""
    return key_of("spiked", name, exposure.obs_id, exposure.detector) % 2 == 0


def target_window(exposure: Exposure) -> Window:
    """Window of the cutout of 60 x 60 px about the target, clipped to the frame."""
    (x0, nx), (y0, ny) = (clipped_span(c, 60) for c in (exposure.target_x, exposure.target_y))
    return x0, y0, nx, ny


def _apply_dead_pixels(
    camera: Camera, exposure: Exposure, window: Window, flags: NDArray[np.int32], observed: Floats
) -> NDArray[np.bool_]:
    """Set pixels that do not work to NaN or to garbage; returns where the variance is NaN.

    They are the detector's NONFUNC pixels; but within the target's 60 x 60 cutout, if the exposure says how
    many NaN variances its real counterpart has there, that many made-up ones in their place.
    """
    x0, y0, nx, ny = window
    if exposure.n_nan_variance is not None:
        here, _ = _overlap(target_window(exposure), window)
        flags[here] &= ~_BIT["NONFUNC"]
        rows, columns = _listed_nan(camera.seed, exposure)
        rows, columns = rows - y0, columns - x0
        inside = (rows >= 0) & (rows < ny) & (columns >= 0) & (columns < nx)
        flags[rows[inside], columns[inside]] |= _BIT["NONFUNC"]
    dead = flags & _BIT["NONFUNC"] != 0
    rows, columns = np.nonzero(dead)
    lot = _lot(columns + x0, rows + y0)
    observed[rows, columns] = np.where(lot < 0.5, np.nan, 50.0 * (lot - 0.6))
    silent = lot < 0.5 * camera.unflagged_nan_fraction
    flags[rows[silent], columns[silent]] &= ~_BIT["NONFUNC"]
    return dead


def _listed_nan(seed: int, exposure: Exposure) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the NaN variances in the target's cutout."""
    x0, y0, nx, ny = target_window(exposure)
    chosen = generator("nan", seed, exposure.obs_id, exposure.detector).choice(
        nx * ny, min(exposure.n_nan_variance or 0, nx * ny), replace=False
    )
    return y0 + chosen // nx, x0 + chosen % nx


def _lot(columns: NDArray[np.intp], rows: NDArray[np.intp]) -> Floats:
    """A number in [0, 1) for each detector pixel, always the same one."""
    return ((columns * 7919 + rows * 104729 + 12345) * 2654435761 % 4294967296) / 4294967296.0
