"""One exposure seen by one detector: its identity in the archive, and the table of them.

The archive's own file name is the identity (facts 2):
``level2_{period}_{slew}_{small slew}D{detector}_spx_l2b-v{version}-{year}-{day}.fits``.
"""

from __future__ import annotations

import csv
import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spxflow.files import write_csv

BANDS = ("D1", "D2", "D3", "D4", "D5", "D6")

STEM_PATTERN = (
    r"level2_(?P<obs_id>\d{4}W\d{2}_\d[A-Z]_\d{4}_\d{1,2})D(?P<detector>[1-6])"
    r"_spx_(?P<version>l2b-v(?P<v>\d{1,3})-(?P<year>\d{4})-(?P<day>\d{3}))"
)
_STEM = re.compile(STEM_PATTERN)


@dataclass(frozen=True)
class FileIdentity:
    """What the archive's file name says."""

    stem: str
    obs_id: str
    detector: int
    version: str
    version_key: tuple[int, int, int]

    @property
    def band(self) -> str:
        return f"D{self.detector}"


def parse_stem(name: str) -> FileIdentity:
    """Identity from a Level-2 file name.

    Parameters
    ----------
    name
        File name or stem, without any directory; a trailing ``.fits`` is allowed.

    Raises
    ------
    ValueError
        When the name is not of the archive's form. Names come from outside and decide
        where files are written, so nothing else is let through.
    """
    stem = name.removesuffix(".fits")
    match = _STEM.fullmatch(stem)
    if match is None:
        raise ValueError(f"not a Level-2 file name: {name[:120]!r}")
    return FileIdentity(
        stem=stem,
        obs_id=match["obs_id"],
        detector=int(match["detector"]),
        version=match["version"],
        version_key=(int(match["v"]), int(match["year"]), int(match["day"])),
    )


@dataclass(frozen=True)
class Observation:
    """One exposure by one detector, as the archive lists it.

    Times are MJD (UTC) of the start and end of the exposure, wavelengths the detector's
    range in µm, ``url`` the whole image (no cutout query), ``collection`` the archive
    collections that list the file, joined with ``+``.
    """

    stem: str
    obs_id: str
    band: str
    mjd_begin: float
    mjd_end: float
    wavelength_min_um: float
    wavelength_max_um: float
    url: str
    version: str
    collection: str

    @property
    def detector(self) -> int:
        return int(self.band[1])

    @property
    def mjd_mid(self) -> float:
        return 0.5 * (self.mjd_begin + self.mjd_end)


_FIELDS = tuple(field.name for field in dataclasses.fields(Observation))
_NUMBERS = frozenset(field.name for field in dataclasses.fields(Observation) if field.type == "float")


def write_observations(path: Path | str, observations: Iterable[Observation]) -> None:
    """Write the observation table as CSV, floats in full precision."""
    write_csv(path, _FIELDS, map(dataclasses.astuple, observations))


def read_observations(path: Path | str) -> tuple[Observation, ...]:
    """Read a table written by :func:`write_observations`.

    Raises
    ------
    ValueError
        When it is no such table.
    """
    with open(path, newline="", encoding="utf-8") as stream:
        try:
            return tuple(_from_text(row) for row in csv.DictReader(stream))
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path}: not an observation table ({error}); remove it to ask again") from None


def _from_text(row: dict[str, str]) -> Observation:
    values: dict[str, Any] = {name: float(text) if name in _NUMBERS else text for name, text in row.items()}
    parse_stem(values["stem"])
    return Observation(**values)
