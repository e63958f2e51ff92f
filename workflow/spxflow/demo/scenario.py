"""Simulated fields by name: their exposures, their sky, their files and their truth."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

import numpy as np

from spxflow.demo import level2
from spxflow.demo.calibration import CalibrationFile, calibration_files
from spxflow.demo.exposures import Exposure, cloverleaf_exposures, survey_exposures
from spxflow.demo.frames import WHOLE, Camera, sources_seen, spiked_in
from spxflow.demo.geometry import FRAME, Window, frame_outlines
from spxflow.demo.instrument import DETECTORS, key_of
from spxflow.demo.sky import KINDS, Sky, truth_sources

Position = tuple[float, float]


@dataclass(frozen=True)
class Target:
    """The source a scenario is about, ICRS degrees."""

    ra_deg: float
    dec_deg: float
    name: str


@dataclass(frozen=True)
class ArchiveFile:
    """One Level-2 file as the archive lists it.

    ``path`` is the key after ``/ibe/data/spherex/``; ``footprint`` the sky positions (degrees) of the frame's outer
    corners, ``center`` of pixel 1019.5, 1019.5; wavelengths in metres, times in MJD (UTC); ``ingested`` counts the
    files in the order in which the archive got them.
    """

    path: str
    stem: str
    obs_id: str
    detector: int
    release: str
    version: str
    collections: tuple[str, ...]
    mjd_begin: float
    mjd_end: float
    wavelength_min_m: float
    wavelength_max_m: float
    footprint: tuple[Position, Position, Position, Position]
    center: Position
    target_id: str
    ingested: int
    exposure: Exposure = field(repr=False)


@dataclass(frozen=True)
class Scenario:
    """A field of the local archive.

    ``files`` maps paths (after ``/ibe/data/spherex/``) to files, in the order in which the archive got them.
    Everything is made on demand and depends on the seed alone. All methods may be called from several threads.
    """

    name: str
    target: Target
    files: Mapping[str, ArchiveFile] = field(repr=False)
    sky: Sky = field(repr=False)
    camera: Camera

    def sky_to_pixel(self, file: ArchiveFile, ra_deg: float, dec_deg: float) -> tuple[float, float]:
        """0-based pixel of the whole frame that sees a position (degrees), distortion included."""
        x, y = file.exposure.wcs.sky_to_pixel(ra_deg, dec_deg)
        return float(x), float(y)

    def render(self, file: ArchiveFile, window: Window | None = None) -> bytes:
        """The file, or the cutout of a window (x0, y0, nx, ny of 0-based detector pixels), as bytes."""
        return level2.render(file.exposure, self.sky, self.camera, window or WHOLE)

    @cached_property
    def calibration(self) -> Mapping[str, CalibrationFile]:
        """Calibration products by path, next to the Level-2 files."""
        return MappingProxyType(calibration_files(self.camera))

    def truth(self) -> list[dict[str, object]]:
        """Truth table: a row for each file and source that its detector sees."""
        return [row for file in self.files.values() for row in truth_rows(file, self.sky, self.camera)]


def truth_rows(file: ArchiveFile, sky: Sky, camera: Camera) -> list[dict[str, object]]:
    """Rows of the truth table for one file.

    ``flux_ujy`` is the total flux in the image as it is: the mean over the rectangular band CBAND about CWAVE at the
    source's position, divided by the image's gain error where the scenario has one. ``flux_r7_ujy`` is the same without
    the gain error. ``wavelength_um`` and ``bandwidth_um`` are CWAVE and CBAND; the WCS-WAVE table differs by up to
    0.3 nm. ``spiked`` marks the exposures with a flagged cosmic ray in the source's core.
    """
    exposure = file.exposure
    seen = sources_seen(exposure, sky)
    gain = camera.gain_rows(exposure)
    rows: list[dict[str, object]] = []
    for index, source in enumerate(sky.sources):
        x, y = float(seen.x[index]), float(seen.y[index])
        if not (-0.5 <= x < FRAME - 0.5 and -0.5 <= y < FRAME - 0.5):
            continue
        ra, dec = source.position(exposure.mjd_mid)
        flux = float(seen.flux_ujy[index])
        rows.append(
            {
                "stem": file.stem,
                "obs_id": file.obs_id,
                "band": f"D{file.detector}",
                "source": source.name,
                "ra_deg": ra,
                "dec_deg": dec,
                "flux_ujy": flux / float(np.interp(y, np.arange(FRAME), gain)),
                "flux_r7_ujy": flux,
                "wavelength_um": float(seen.wavelength_um[index]),
                "bandwidth_um": float(seen.bandwidth_um[index]),
                "x_det": x,
                "y_det": y,
                "mjd": exposure.mjd_mid,
                "spiked": source.spiked and spiked_in(source.name, exposure),
            }
        )
    return rows


@dataclass(frozen=True)
class Recipe:
    """What a scenario is made from; every value can be overridden in :func:`load`.

    Parameters
    ----------
    n
        Number of files (survey scenarios only).
    kind, amplitude_ujy
        Spectrum of the target and its flux density at 2 µm, µJy.
    mjd_first, slews_per_day
        Start and pace of the survey: large slews, of four exposures by two detectors each.
    dim_mjd
        When ``variable`` is 10 % fainter, MJD.
    stars_per_deg2, clear_px
        Density of field stars, and how far they keep from the sources of the truth table, px.
    """

    name: str
    target: Target
    seed: int
    n: int = 0
    kind: str = "flat"
    amplitude_ujy: float = 3000.0
    mjd_first: float = 60800.0
    slews_per_day: float = 0.5
    dim_mjd: tuple[float, float] = (60820.0, 60830.0)
    stars_per_deg2: float = 5000.0
    clear_px: float = 8.0
    asymmetry: float = 1.0
    noise_scale: float = 1.0
    unflagged_nan_fraction: float = 0.0
    gain_error: bool = False
    flaw_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind: got {self.kind!r}, takes {', '.join(KINDS)}")
        if not self.slews_per_day > 0.0:
            raise ValueError(f"slews_per_day: got {self.slews_per_day}, takes a number above 0")


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "demo", Target(213.942708, 11.495389, "cloverleaf"), seed=11,
            kind="quasar", amplitude_ujy=2200.0, dim_mjd=(60849.5, 60852.0),
        ),
        Recipe(
            "field2", Target(271.340512, -38.617244, "field2"), seed=2, n=108, kind="cool star",
            mjd_first=61213.0, slews_per_day=0.27, dim_mjd=(61225.0, 61235.0),
            stars_per_deg2=10000.0, asymmetry=1.4, unflagged_nan_fraction=0.02,
        ),
        Recipe(
            "releases", Target(150.118321, 2.205713, "releases"), seed=3, n=96, kind="red",
            mjd_first=60800.0, slews_per_day=0.03, dim_mjd=(61000.0, 61060.0), gain_error=True,
        ),
        Recipe(
            "many", Target(201.365063, -14.712905, "many"), seed=4, n=300,
            mjd_first=60800.0, slews_per_day=3.0, dim_mjd=(60805.0, 60810.0),
        ),
        Recipe(
            "deep", Target(273.875, 65.348, "deep"), seed=5, n=2000,
            mjd_first=60796.0, slews_per_day=5.0, dim_mjd=(60820.0, 60830.0),
        ),
    )
}  # fmt: skip


def _refuse_unknown(overrides: Mapping[str, object], recipe: Recipe) -> None:
    known = {key: value for key, value in vars(recipe).items() if key not in ("name", "target")}
    for key, value in overrides.items():
        if key not in known:
            raise ValueError(f"{key}: no such value; there are {', '.join(known)}")
        if isinstance(value, str) and not isinstance(known[key], str):
            raise ValueError(f"{key}: got {value!r}, takes numbers, as {known[key]}")


def load(name: str, **overrides: object) -> Scenario:
    """A scenario by name.

    Parameters
    ----------
    name
        ``demo``: the 108 real Cloverleaf exposures. ``field2``: another position, telescope and star density, half
        QR2 and half QR3. ``releases``: QR2 and QR3 exposures of one field, some listed in two collections, some at two
        processing versions, some without their second band. ``many``: ``n`` files; the first ones do not depend on
        ``n``. ``deep``: ``n`` up to 20,000.
    overrides
        Fields of :class:`Recipe`.
    """
    if name not in RECIPES:
        raise ValueError(f"no scenario {name!r}; there are {', '.join(RECIPES)}")
    _refuse_unknown(overrides, RECIPES[name])
    recipe = dataclasses.replace(RECIPES[name], **overrides)  # type: ignore[arg-type]
    target = recipe.target
    files = _archive_files(list(_LISTS.get(name, _survey_list)(recipe)))
    sources = truth_sources(
        target.ra_deg, target.dec_deg, target.name, recipe.seed, recipe.kind, recipe.amplitude_ujy, recipe.dim_mjd
    )
    return Scenario(
        name=name,
        target=target,
        files=MappingProxyType(files),
        sky=Sky(target.ra_deg, target.dec_deg, sources, recipe.seed, recipe.stars_per_deg2, recipe.clear_px),
        camera=Camera(
            seed=recipe.seed,
            asymmetry=recipe.asymmetry,
            noise_scale=recipe.noise_scale,
            unflagged_nan_fraction=recipe.unflagged_nan_fraction,
            gain_error=recipe.gain_error,
            flaw_scale=recipe.flaw_scale,
        ),
    )


Listed = tuple[Exposure, tuple[str, ...]]  # an exposure and the collections that list it


def _cloverleaf_list(recipe: Recipe) -> Iterable[Listed]:
    for exposure in cloverleaf_exposures(recipe.target.ra_deg, recipe.target.dec_deg):
        yield exposure, ("spherex_qr2",)


def _survey(recipe: Recipe) -> Iterable[Exposure]:
    return itertools.islice(
        survey_exposures(
            recipe.target.ra_deg, recipe.target.dec_deg, recipe.seed, recipe.mjd_first, recipe.slews_per_day
        ),
        recipe.n,
    )


def _survey_list(recipe: Recipe) -> Iterable[Listed]:
    for exposure in _survey(recipe):
        yield exposure, (f"spherex_{exposure.release}",)


def _deep_list(recipe: Recipe) -> Iterable[Listed]:
    for exposure in _survey(recipe):
        yield exposure, (f"spherex_{exposure.release}_deep",)


def _releases_list(recipe: Recipe) -> Iterable[Listed]:
    """Every fifth observation lacks its second band, every fourth is listed wide and deep, every seventh QR2 file is
    there in an older version as well."""
    late = dataclasses.replace(recipe, n=recipe.n * 3 // 8, mjd_first=61238.0, slews_per_day=0.2)
    early = dataclasses.replace(recipe, n=recipe.n - late.n)
    for index, exposure in enumerate(itertools.chain(_survey(early), _survey(late))):
        observation = index // 2
        if observation % 5 == 2 and index % 2:
            continue
        wide = f"spherex_{exposure.release}"
        collections = (wide, f"{wide}_deep") if observation % 4 == 1 else (wide,)
        if index % 7 == 3 and exposure.release == "qr2":
            yield dataclasses.replace(exposure, version=_older(exposure.version)), collections
        yield exposure, collections


def _older(version: str) -> str:
    """The processing version that preceded one."""
    number, year, day = version.removeprefix("l2b-v").split("-")
    if int(number) <= 20:
        return f"l2b-v{number}-{year}-{int(day) - 7:03d}"
    return f"l2b-v{int(number) - 1}-{year}-{day}"


_LISTS = {"demo": _cloverleaf_list, "releases": _releases_list, "deep": _deep_list}


def _archive_files(listed: Sequence[Listed]) -> dict[str, ArchiveFile]:
    outlines = frame_outlines([exposure.wcs for exposure, _ in listed]).tolist()
    files = (
        _archive_file(index, exposure, collections, tuple(map(tuple, outline)))
        for index, ((exposure, collections), outline) in enumerate(zip(listed, outlines, strict=True))
    )
    return {file.path: file for file in files}


def _archive_file(
    index: int, exposure: Exposure, collections: tuple[str, ...], positions: tuple[Position, ...]
) -> ArchiveFile:
    low, high = DETECTORS[exposure.detector].wavelength_range_um
    return ArchiveFile(
        path=exposure.path,
        stem=exposure.stem,
        obs_id=exposure.obs_id,
        detector=exposure.detector,
        release=exposure.release,
        version=exposure.version,
        collections=collections,
        mjd_begin=exposure.mjd_begin,
        mjd_end=exposure.mjd_end,
        wavelength_min_m=low * 1e-6,
        wavelength_max_m=high * 1e-6,
        footprint=positions[:4],  # type: ignore[arg-type]
        center=positions[4],
        target_id=_target_id(exposure),
        ingested=index,
        exposure=exposure,
    )


def _target_id(exposure: Exposure) -> str:
    """Name of the planned pointing, in the form of the release."""
    number = key_of("target", exposure.obs_id)
    if exposure.release == "qr3":
        return f"SPS_{number % 30000:06d}_S{number % 60:02d}"
    return f"SPS_{number % 100000:05d}"
