"""Known sources near the one that is measured."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from spxflow.errors import ConfigError
from spxflow.position import Observer, Star, apparent_position, direction
from spxflow.settings import NeighbourSettings

_SAME_SOURCE_ARCSEC = 0.5  # closer than this it is the target itself under another name
_ARCSEC_PER_PX = 6.2  # at least: to search by, not to measure
_ROOM_FOR_MOTION_ARCSEC = 60.0
_ARCSEC_PER_RADIAN = math.degrees(1.0) * 3600.0

_COLUMNS = {
    "ra_deg": ("ra_deg", "ra"),
    "dec_deg": ("dec_deg", "dec"),
    "pmra_masyr": ("pmra_masyr", "pmra"),
    "pmdec_masyr": ("pmdec_masyr", "pmdec"),
    "parallax_mas": ("parallax_mas", "parallax"),
    "epoch_yr": ("epoch_yr", "epoch", "ref_epoch"),
}


@dataclass(frozen=True)
class Neighbour:
    """A position whose light is fitted together with the target's; units as in :class:`spxflow.sources.Source`."""

    ra_deg: float
    dec_deg: float
    pmra_masyr: float = 0.0
    pmdec_masyr: float = 0.0
    parallax_mas: float = 0.0
    epoch_yr: float = 2016.0


def read_neighbours(path: Path | str) -> tuple[Neighbour, ...]:
    """Neighbours from a CSV file with columns ``ra``, ``dec`` in degrees and optionally ``pmra``, ``pmdec`` (mas/yr),
    ``parallax`` (mas), ``epoch`` (Julian year); names with units (``ra_deg`` ...) do as well.

    Raises
    ------
    ConfigError
        When the file cannot be read, or a position is missing or no number.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(line for line in stream if not line.startswith("#")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"photometry.neighbours.file: cannot read {path} ({error})") from error
    return tuple(_neighbour(row, path, number) for number, row in enumerate(rows, start=1))


def _neighbour(row: dict[str, str], path: Path | str, number: int) -> Neighbour:
    given = {(key or "").strip().lower(): value for key, value in row.items()}
    values: dict[str, float] = {}
    for field, names in _COLUMNS.items():
        text = next((given[name] for name in names if (given.get(name) or "").strip()), None)
        if text is None:
            if field in ("ra_deg", "dec_deg"):
                raise ConfigError(f"photometry.neighbours.file: {path}, row {number} has no {names[1]}")
            continue
        try:
            values[field] = float(text)
        except ValueError as error:
            raise ConfigError(f"photometry.neighbours.file: {path}, row {number}: {names[1]} is {text!r}") from error
    return Neighbour(**values)


def neighbours_of(star: Star, catalogue: Iterable[Star], settings: NeighbourSettings) -> tuple[Neighbour, ...]:
    """Neighbours of a source: from the file of the options, and of the other sources of the catalogue if wanted.

    Meant to be called once a source. Those that come near enough only in some exposures are among them.
    """
    candidates: list[Star] = list(catalogue) if settings.catalogue else []
    if settings.file is not None:
        candidates.extend(read_neighbours(settings.file))
    return near(star, candidates, settings.radius_px * _ARCSEC_PER_PX + _ROOM_FOR_MOTION_ARCSEC)


def near(star: Star, others: Iterable[Star], radius_arcsec: float) -> tuple[Neighbour, ...]:
    """Those of the other stars within a radius of this one, by catalogue positions; itself not."""
    here = direction(star.ra_deg, star.dec_deg)
    found = []
    for other in others:
        # Half of the chord is the sine of half of the angle, exact for small ones too.
        chord = float(math.dist(here, direction(other.ra_deg, other.dec_deg)))
        separation = 2.0 * math.asin(min(0.5 * chord, 1.0)) * _ARCSEC_PER_RADIAN
        if _SAME_SOURCE_ARCSEC < separation <= radius_arcsec:
            found.append(
                Neighbour(
                    other.ra_deg,
                    other.dec_deg,
                    other.pmra_masyr,
                    other.pmdec_masyr,
                    other.parallax_mas,
                    other.epoch_yr,
                )
            )
    return tuple(found)


def sky_positions(
    neighbours: Sequence[Star], target: tuple[float, float], observer: Observer
) -> list[tuple[float, float]]:
    """Where the neighbours are seen, (ra, dec) in degrees, but for one that is the target itself."""
    positions = [apparent_position(neighbour, observer) for neighbour in neighbours]
    here = direction(*target)
    limit = _SAME_SOURCE_ARCSEC / _ARCSEC_PER_RADIAN
    return [position for position in positions if math.dist(here, direction(*position)) > limit]
