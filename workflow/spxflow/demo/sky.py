"""The simulated sky: sources of known spectrum, and the field stars between them.

Flux densities in µJy. What a pixel at wavelength λ with bandwidth b sees of a source is the mean of its flux
density over [λ - b/2, λ + b/2]: :func:`band_mean`, the one definition that both the images and the truth table use.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spxflow.demo.geometry import Floats, offset_position, unit_vector
from spxflow.demo.instrument import PIXEL_ARCSEC, generator

REFERENCE_UM = 2.0  # wavelength at which amplitudes hold
_GRID_START_UM, _GRID_STEP_UM, _GRID_SIZE = 0.68, 0.001, 4421
CELL_ARCSEC = 180.0  # side of the cells by which field stars are looked up
FIELD_HALF_ARCSEC = 5.2 * 3600.0  # field stars reach as far as any frame that holds the target


def _quasar(w: Floats) -> Floats:
    """A dusty quasar at z = 2.56, with emission lines.

    In an aperture of 2.5 FWHM it has about the median fluxes of the real Cloverleaf list.
    """
    knots_um = [0.70, 0.93, 1.35, 2.00, 3.00, 4.10, 4.70, 5.10]
    knots_ujy = [1250.0, 1500.0, 2050.0, 2200.0, 2450.0, 3400.0, 3700.0, 3850.0]
    continuum = np.exp(np.interp(np.log(w), np.log(knots_um), np.log(knots_ujy)))
    lines = ((0.9960, 0.15), (1.7310, 0.15), (1.7826, 0.10), (2.3363, 0.60), (3.896, 0.05), (4.559, 0.06))
    for centre, strength in lines:
        continuum = continuum * (1.0 + strength * np.exp(-0.5 * ((w - centre) / (0.012 * centre)) ** 2))
    return continuum


def _cool_star(w: Floats) -> Floats:
    """A late-type star: Rayleigh-Jeans tail, the 1.6 µm bump, CO bands at 2.35 and 4.6 µm."""
    tail = (w / 2.0) ** -1.6 / (1.0 + (1.05 / w) ** 4)
    bands = 1.0 - 0.12 * np.exp(-0.5 * ((w - 2.37) / 0.06) ** 2) - 0.10 * np.exp(-0.5 * ((w - 4.60) / 0.15) ** 2)
    return tail * bands * (1.0 + 0.12 * np.exp(-0.5 * ((w - 1.63) / 0.18) ** 2))


# In the order of ``Source.spectrum`` and of the field stars' kinds.
_SHAPES = {
    "quasar": _quasar,
    "flat": lambda w: np.ones_like(w),
    "blue": lambda w: (w / 2.0) ** -1.0,
    "hot star": lambda w: (w / 2.0) ** -1.9,
    "cool star": _cool_star,
    "red": lambda w: (w / 2.0) ** 0.9,
}
KINDS = tuple(_SHAPES)


@lru_cache(maxsize=1)
def _integrals() -> Floats:
    """Integrals from the start of a grid of 1 nm of the spectra, normalised at 2 µm, constant within each nanometre."""
    middle = _GRID_START_UM + (np.arange(_GRID_SIZE) + 0.5) * _GRID_STEP_UM
    values = np.stack([shape(middle) / shape(np.array([REFERENCE_UM]))[0] for shape in _SHAPES.values()])
    cumulative = np.cumsum(values, axis=1) * _GRID_STEP_UM
    return np.concatenate([np.zeros((len(KINDS), 1)), cumulative], axis=1)


def _integral_to(kind: NDArray[np.intp], wavelength_um: Floats) -> Floats:
    position = np.clip((wavelength_um - _GRID_START_UM) / _GRID_STEP_UM, 0.0, _GRID_SIZE - 1e-6)
    index = np.floor(position).astype(np.intp)
    below = _integrals()[kind, index]
    return below + (position - index) * (_integrals()[kind, index + 1] - below)


def band_mean(kind: ArrayLike, wavelength_um: ArrayLike, bandwidth_um: ArrayLike) -> Floats:
    """Mean flux density over a rectangular band, relative to the flux density at 2 µm."""
    kind = np.asarray(kind, dtype=np.intp)
    middle, half = np.asarray(wavelength_um, dtype=float), 0.5 * np.asarray(bandwidth_um, dtype=float)
    return (_integral_to(kind, middle + half) - _integral_to(kind, middle - half)) / (2.0 * half)


@dataclass(frozen=True)
class SkySource:
    """A source of the truth table.

    Position in ICRS degrees at ``epoch_yr``; proper motions in mas/yr (that in right ascension times cos dec);
    ``amplitude_ujy`` is the flux density at 2 µm of the spectrum ``kind``; during ``dim_mjd`` the flux is
    ``dim_factor`` times as large; a ``spiked`` source has a flagged cosmic ray in its core in every other exposure.
    """

    name: str
    ra_deg: float
    dec_deg: float
    kind: str
    amplitude_ujy: float
    pmra_masyr: float = 0.0
    pmdec_masyr: float = 0.0
    epoch_yr: float = 2016.0
    dim_mjd: tuple[float, float] = (0.0, 0.0)
    dim_factor: float = 1.0
    spiked: bool = False

    def position(self, mjd: float) -> tuple[float, float]:
        """Right ascension and declination in degrees at a time: straight motion on the sphere, no parallax."""
        if self.pmra_masyr == 0.0 and self.pmdec_masyr == 0.0:
            return self.ra_deg, self.dec_deg
        years = 2000.0 + (mjd - 51544.5) / 365.25 - self.epoch_yr
        ra, dec = offset_position(
            self.ra_deg, self.dec_deg, self.pmra_masyr * years / 1000.0, self.pmdec_masyr * years / 1000.0
        )
        return float(ra), float(dec)

    def factor(self, mjd: float) -> float:
        """Brightness relative to the quiet state."""
        return self.dim_factor if self.dim_mjd[0] <= mjd < self.dim_mjd[1] else 1.0


@dataclass(frozen=True)
class FieldStars:
    """Field stars, sorted by cells of the tangent plane of the field's centre.

    ``vectors`` are unit vectors ``(3, n)``, ``kind`` indices into the spectra, ``amplitude_ujy`` flux densities at
    2 µm; stars of cell ``(row, column)`` are those from ``starts[row * n_cells + column]`` on.
    """

    centre: Floats  # basis (3, 3): east, north, centre
    vectors: Floats
    kind: NDArray[np.intp]
    amplitude_ujy: Floats
    starts: NDArray[np.intp]
    n_cells: int

    def near(self, vectors: Floats) -> NDArray[np.intp]:
        """Indices, in catalogue order, of the stars within the box that holds unit vectors ``(3, m)``."""
        e, n, c = (axis @ vectors for axis in self.centre)
        scale = 206264.80624709636 / CELL_ARCSEC
        half = 0.5 * self.n_cells
        columns, rows = e / c * scale + half, n / c * scale + half
        c0, c1 = (int(np.clip(math.floor(edge), 0, self.n_cells - 1)) for edge in (columns.min(), columns.max()))
        r0, r1 = (int(np.clip(math.floor(edge), 0, self.n_cells - 1)) for edge in (rows.min(), rows.max()))
        pieces = [
            np.arange(self.starts[row * self.n_cells + c0], self.starts[row * self.n_cells + c1 + 1])
            for row in range(r0, r1 + 1)
        ]
        return np.concatenate(pieces)


def _cell_of(east_arcsec: Floats, north_arcsec: Floats, n_cells: int) -> NDArray[np.intp]:
    column = np.floor(east_arcsec / CELL_ARCSEC + 0.5 * n_cells).astype(np.intp)
    row = np.floor(north_arcsec / CELL_ARCSEC + 0.5 * n_cells).astype(np.intp)
    return np.clip(row, 0, n_cells - 1) * n_cells + np.clip(column, 0, n_cells - 1)


def make_field_stars(
    ra_deg: float, dec_deg: float, seed: int, per_deg2: float, keep_clear: tuple[SkySource, ...], clear_px: float
) -> FieldStars:
    """Field stars about a position.

    Counts follow N(>F) proportional to F^-0.8 between 12 µJy and 3 Jy at 2 µm (assumed; about as steep as star counts
    at intermediate latitudes), ``per_deg2`` of them per square degree. None lies within ``clear_px`` of a source to be
    kept clear: those are meant to be isolated.
    """
    rng = generator("field stars", seed)
    n_cells = math.ceil(2.0 * FIELD_HALF_ARCSEC / CELL_ARCSEC)
    half = 0.5 * n_cells * CELL_ARCSEC
    number = rng.poisson(per_deg2 * (2.0 * half / 3600.0) ** 2)
    east, north = rng.uniform(-half, half, (2, number))
    faint, bright, slope = 12.0, 3.0e6, 0.8
    amplitude = faint * (1.0 - rng.random(number) * (1.0 - (bright / faint) ** -slope)) ** (-1.0 / slope)
    kinds = [KINDS.index(name) for name in ("hot star", "cool star", "blue", "red")]
    kind = rng.choice(kinds, number, p=[0.3, 0.4, 0.2, 0.1])
    clear = _clear_of(east, north, ra_deg, dec_deg, keep_clear, clear_px * PIXEL_ARCSEC)
    east, north, amplitude, kind = east[clear], north[clear], amplitude[clear], kind[clear]
    cell = _cell_of(east, north, n_cells)
    order = np.argsort(cell, kind="stable")
    ra, dec = offset_position(ra_deg, dec_deg, east[order], north[order])
    return FieldStars(
        centre=_basis(ra_deg, dec_deg),
        vectors=unit_vector(ra, dec),
        kind=kind[order].astype(np.intp),
        amplitude_ujy=amplitude[order],
        starts=np.searchsorted(cell[order], np.arange(n_cells * n_cells + 1)),
        n_cells=n_cells,
    )


def _basis(ra_deg: float, dec_deg: float) -> Floats:
    centre = unit_vector(ra_deg, dec_deg)
    east = unit_vector(ra_deg + 90.0, 0.0)
    return np.stack([east, np.cross(centre, east), centre])


def _clear_of(
    east: Floats, north: Floats, ra_deg: float, dec_deg: float, sources: tuple[SkySource, ...], radius_arcsec: float
) -> NDArray[np.bool_]:
    """Which tangent-plane positions (arcsec) keep off every source."""
    basis = _basis(ra_deg, dec_deg)
    clear = np.ones(east.size, dtype=bool)
    for source in sources:
        e, n, c = basis @ unit_vector(source.ra_deg, source.dec_deg)
        de, dn = east - e / c * 206264.80624709636, north - n / c * 206264.80624709636
        clear &= de * de + dn * dn > radius_arcsec**2
    return clear


@dataclass(frozen=True)
class Sky:
    """All that shines, but for the zodiacal light.

    Sources of the truth table come first, then the field stars, always in the same order.
    """

    ra_deg: float
    dec_deg: float
    sources: tuple[SkySource, ...]
    seed: int
    stars_per_deg2: float
    clear_px: float

    @cached_property
    def field(self) -> FieldStars:
        return make_field_stars(self.ra_deg, self.dec_deg, self.seed, self.stars_per_deg2, self.sources, self.clear_px)

    def source_vectors(self, mjd: float) -> Floats:
        """Unit vectors ``(3, n)`` of the truth-table sources at a time."""
        still = self._still_vectors
        if not self._moving:
            return still
        moved = still.copy()
        for index in self._moving:
            moved[:, index] = unit_vector(*self.sources[index].position(mjd))
        return moved

    @cached_property
    def _moving(self) -> tuple[int, ...]:
        return tuple(i for i, s in enumerate(self.sources) if s.pmra_masyr or s.pmdec_masyr)

    @cached_property
    def _still_vectors(self) -> Floats:
        return unit_vector([s.ra_deg for s in self.sources], [s.dec_deg for s in self.sources])

    @cached_property
    def source_kinds(self) -> NDArray[np.intp]:
        return np.array([KINDS.index(source.kind) for source in self.sources], dtype=np.intp)

    def source_amplitudes(self, mjd: float) -> Floats:
        """Flux densities at 2 µm of the truth-table sources at a time, µJy."""
        return np.array([source.amplitude_ujy * source.factor(mjd) for source in self.sources])


_SPACING_PX = 24.0  # between neighbouring sources of the truth table
_BLENDS = ((0.6, 1.0), (1.0, 2.0), (1.5, 3.0), (2.0, 5.0), (2.5, 2.0), (3.0, 5.0))  # separation px, flux ratio
_ISOLATED_UJY = (1200.0, 2000.0, 3000.0, 5000.0, 8000.0, 12000.0, 1500.0, 2500.0, 4000.0, 6000.0, 9000.0, 14000.0)
_ISOLATED_KIND = ("flat", "flat", "red", "blue", "flat", "cool star")
_FAINT_UJY = (15.0, 30.0, 50.0, 80.0, 110.0, 150.0)


def truth_sources(
    ra_deg: float, dec_deg: float, name: str, seed: int, kind: str, amplitude_ujy: float, dim_mjd: tuple[float, float]
) -> tuple[SkySource, ...]:
    """The target and, on a jittered grid around it, sources of every sort a photometer should be tried on.

    ``isolated-NN`` (signal-to-noise some 20 to 100), ``faint-NN`` (0 to 3), ``blank-NN`` (no flux), ``blend-NNa`` and
    ``blend-NNb`` (0.6 to 3 px apart, flux ratio 1 to 5), ``mover`` (1.1 arcsec a year), ``variable`` (10 % fainter
    during ``dim_mjd``), ``spiked`` (flagged cosmic rays in its core), ``bright`` (overflows the detector).
    """
    places = _places(ra_deg, dec_deg, seed)
    sources = [SkySource(name, ra_deg, dec_deg, kind, amplitude_ujy)]
    for index, flux in enumerate(_ISOLATED_UJY):
        shape = _ISOLATED_KIND[index % len(_ISOLATED_KIND)]
        sources.append(SkySource(f"isolated-{index + 1:02d}", *next(places), shape, flux))
    for index, flux in enumerate(_FAINT_UJY):
        sources.append(SkySource(f"faint-{index + 1:02d}", *next(places), "flat", flux))
    sources += [SkySource(f"blank-{index + 1:02d}", *next(places), "flat", 0.0) for index in range(4)]
    angle = generator("blend angles", seed)
    for index, (separation, ratio) in enumerate(_BLENDS):
        ra, dec = next(places)
        pa, arcsec = angle.uniform(0.0, 2.0 * math.pi), separation * PIXEL_ARCSEC
        ra2, dec2 = offset_position(ra, dec, arcsec * math.sin(pa), arcsec * math.cos(pa))
        sources.append(SkySource(f"blend-{index + 1:02d}a", ra, dec, "flat", 6000.0))
        sources.append(SkySource(f"blend-{index + 1:02d}b", float(ra2), float(dec2), "flat", 6000.0 / ratio))
    sources.append(SkySource("mover", *next(places), "flat", 4000.0, pmra_masyr=900.0, pmdec_masyr=-600.0))
    sources.append(SkySource("variable", *next(places), "flat", 20000.0, dim_mjd=dim_mjd, dim_factor=0.9))
    sources.append(SkySource("spiked", *next(places), "flat", 4000.0, spiked=True))
    sources.append(SkySource("bright", *next(places), "hot star", 600000.0))
    return tuple(sources)


def _places(ra_deg: float, dec_deg: float, seed: int) -> Iterator[tuple[float, float]]:
    """Positions on a grid of 7 x 7 without its middle, each up to 3 px off, in random order."""
    rng = generator("places", seed)
    grid = [(i, j) for i in range(-3, 4) for j in range(-3, 4) if (i, j) != (0, 0)]
    for index in rng.permutation(len(grid)):
        offset = (np.array(grid[index]) * _SPACING_PX + rng.uniform(-3.0, 3.0, 2)) * PIXEL_ARCSEC
        ra, dec = offset_position(ra_deg, dec_deg, offset[0], offset[1])
        yield round(float(ra), 8), round(float(dec), 8)
