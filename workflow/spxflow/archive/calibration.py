"""Calibration products: which versions the archive's directories list, and where their files are (facts 4).

``{url}/ibe/data/spherex/{release}/{family}/{token}/{detector}/{family}_D{detector}_spx_{token}.fits``, where a token is
``cal-wcs-v4-2025-254``: an abbreviation, a version, a year and a day. Listings come as one JSON object a line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from spxflow.archive.errors import ArchiveError
from spxflow.archive.urls import DATA_ROOT

LARGEST_LISTING = 4_000_000

_TOKEN = re.compile(r"[A-Za-z]+(?:-[A-Za-z]+)*(?:-v(?P<version>\d{1,4}))?(?:-(?P<year>\d{4})-(?P<day>\d{3}))?")


@dataclass(frozen=True)
class CalibrationFile:
    """A version of a calibration product for one detector."""

    release: str
    family: str
    detector: int
    token: str
    url: str

    @property
    def name(self) -> str:
        """File name, by which rows of results say what they were calibrated with."""
        return self.url.rsplit("/", 1)[1]


def version_key(token: str) -> tuple[int, int, int]:
    """Order of versions: version, year, day; those not given count as 0.

    Raises
    ------
    ValueError
        When it is no such token. Tokens come from outside and become names of files.
    """
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise ValueError(f"not a calibration version: {token[:80]!r}")
    return int(match["version"] or 0), int(match["year"] or 0), int(match["day"] or 0)


def latest_file(
    read: Callable[[str], bytes], archive_url: str, release: str, family: str, detector: int
) -> CalibrationFile:
    """The newest version of a product that has a file for a detector.

    Parameters
    ----------
    read
        Gives the content of a listing's address.
    archive_url
        Archive host.
    release
        ``QR2`` or ``QR3``.
    family
        Product, for example ``spectral_wcs``.
    detector
        1 to 6.

    Raises
    ------
    ArchiveError
        When the directories list none.
    """
    directory = f"{release.lower()}/{family}"
    tokens = filter(_TOKEN.fullmatch, _names(read, archive_url, directory))
    for token in sorted(tokens, key=version_key, reverse=True):
        name = f"{family}_D{detector}_spx_{token}.fits"
        if str(detector) not in _names(read, archive_url, f"{directory}/{token}"):
            continue
        if name in _names(read, archive_url, f"{directory}/{token}/{detector}"):
            url = f"{archive_url}{DATA_ROOT}{directory}/{token}/{detector}/{name}"
            return CalibrationFile(release, family, detector, token, url)
    raise ArchiveError(f"{archive_url} lists no {family} of {release} for D{detector}")


def _names(read: Callable[[str], bytes], archive_url: str, directory: str) -> Iterator[str]:
    """Names in a directory of the archive, without a trailing slash."""
    listing = read(f"{archive_url}/ibe/dir/list/spherex/{directory}")
    for line in listing.decode("utf-8", "replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and isinstance(entry.get("name"), str):
            yield entry["name"].rstrip("/").rsplit("/", 1)[-1]
