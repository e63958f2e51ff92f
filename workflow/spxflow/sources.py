"""Sky positions to measure, and the names of their directories."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import erfa
import numpy as np

from spxflow import config
from spxflow.errors import ConfigError
from spxflow.files import write_csv


@dataclass(frozen=True)
class Source:
    """A position on the sky.

    ``ra_deg`` and ``dec_deg`` are ICRS at the Julian year ``epoch_yr``; ``pmra_masyr`` includes
    the factor cos(dec). ``key`` names the directory of the source and is safe as a path component.
    """

    key: str
    name: str
    ra_deg: float
    dec_deg: float
    pmra_masyr: float = 0.0
    pmdec_masyr: float = 0.0
    parallax_mas: float = 0.0
    epoch_yr: float = 2016.0


def parse_ra_deg(value: float | int | str) -> float:
    """Right ascension in degrees from degrees or sexagesimal hours (``14:15:46.25``, ``14h15m46.25s``)."""
    ra_deg = _parse_angle(value, "ra", sexagesimal_unit="hourangle")
    if not 0.0 <= ra_deg < 360.0:
        swapped = " (are ra and dec swapped?)" if -90.0 <= ra_deg < 0.0 else ""
        raise ConfigError(f"ra: got {value}, takes degrees from 0 up to 360, or hours as 14:15:46.25{swapped}")
    return ra_deg


def parse_dec_deg(value: float | int | str) -> float:
    """Declination in degrees from degrees or sexagesimal degrees (``+11:29:43.4``, ``+11d29m43.4s``)."""
    dec_deg = _parse_angle(value, "dec", sexagesimal_unit="deg")
    if not -90.0 <= dec_deg <= 90.0:
        raise ConfigError(f"dec: got {value}, takes degrees from -90 to 90, or +11:29:43.4 (are ra and dec swapped?)")
    return dec_deg


def _parse_angle(value: float | int | str, option: str, sexagesimal_unit: str) -> float:
    try:
        angle_deg = float(value)
    except (TypeError, ValueError, OverflowError):
        angle_deg = _parse_sexagesimal(str(value), sexagesimal_unit)
    if isinstance(value, bool) or not math.isfinite(angle_deg):
        example = {"ra": "213.94 or 14:15:46.25", "dec": "-11.5 or -11:29:43.4"}[option]
        got = repr(value) if isinstance(value, str) else value
        raise ConfigError(
            f"{option}: got {str(got)[:80]}, takes a number of degrees or a sexagesimal position, as {example}"
        )
    return angle_deg


def _parse_sexagesimal(text: str, unit: str) -> float:
    from astropy.coordinates import Angle

    try:
        return float(Angle(text, unit=unit).deg)
    except (ValueError, TypeError, OverflowError):
        return math.nan


_DAY_CS = 8_640_000


def position_name(ra_deg: float, dec_deg: float) -> str:
    """Name of a position, ``JHHMMSS.ss+DDMMSS.s``, digits truncated as the IAU recommends."""
    ra_cs = int(ra_deg / 15.0 * 360_000.0 + 1e-6) % _DAY_CS
    dec_ds = int(abs(dec_deg) * 36_000.0 + 1e-6)
    sign = "-" if dec_deg < 0 else "+"
    ra_minutes, ra_seconds = divmod(ra_cs, 6_000)
    dec_minutes, dec_seconds = divmod(dec_ds, 600)
    return (
        f"J{ra_minutes // 60:02d}{ra_minutes % 60:02d}{ra_seconds / 100:05.2f}"
        f"{sign}{dec_minutes // 60:02d}{dec_minutes % 60:02d}{dec_seconds / 10:04.1f}"
    )


def directory_key(name: str) -> str:
    """A path component made from a name: letters, digits, ``. _ + -`` stay, other runs become ``_``.

    Letters of other scripts are lost that way, so a name that has any gets a digest of itself added: ``α Cen`` and
    ``β Cen`` stay two names.

    Raises
    ------
    ConfigError
        When nothing is left of the name, or it is too long for a directory.
    """
    key = re.sub(r"[^A-Za-z0-9._+-]+", "_", name.strip()).lstrip(".+-_").rstrip("._")
    if any(letter.isalnum() and not letter.isascii() for letter in name):
        key = f"{key}_{hashlib.sha256(name.strip().encode()).hexdigest()[:8]}".lstrip("_")
    if not key or len(key) > 100 or key.lower() in ("null", "none"):  # which are no name in an option
        raise ConfigError(f"name: got {name[:80]!r}, takes 1 to 100 characters with at least one letter or digit")
    return key


def source_from_config(options: Mapping[str, Any]) -> Source:
    """The single source that ``ra``, ``dec`` and their companions in the configuration describe."""
    ra_deg = parse_ra_deg(options["ra"])
    dec_deg = parse_dec_deg(options["dec"])
    name = str(options["name"]) if options.get("name") else position_name(ra_deg, dec_deg)
    return Source(
        key=directory_key(name),
        name=name,
        ra_deg=ra_deg,
        dec_deg=dec_deg,
        **{option: float(options[option]) for option in config.MOTION},
    )


# Column names of catalogues in the wild, compared in lower case without punctuation.
_COLUMNS = {
    "id": ("id", "sourceid", "objid", "objectid", "identifier", "designation"),
    "name": ("name", "source", "object", "target", "objname", "mainid"),
    "ra": ("ra", "radeg", "raj2000", "raicrs", "rightascension", "alpha"),
    "dec": ("dec", "decdeg", "de", "dej2000", "decj2000", "deicrs", "declination", "delta"),
    "pmra": ("pmra", "pmramasyr", "pmracosdec", "mura"),
    "pmdec": ("pmdec", "pmde", "pmdecmasyr", "mudec"),
    "parallax": ("parallax", "parallaxmas", "plx"),
    "epoch": ("epoch", "epochyr", "refepoch", "refepochyr"),
}
# What stands in a cell without a motion, parallax or epoch: Gaia's archive writes null, others nan.
_NO_VALUE = ("", "null", "nan", "none", "--")


def read_catalogue(path: Path | str, default_epoch_yr: float = 2016.0, option: str = "sources") -> dict[str, Source]:
    """Sources of a CSV catalogue by key, in the order of the file.

    Parameters
    ----------
    path
        CSV file with a header; columns ``ra`` and ``dec`` (degrees or sexagesimal), and optionally ``id``, ``name``,
        ``pmra``, ``pmdec`` (mas/yr), ``parallax`` (mas) and ``epoch`` (Julian year), under the names usual for them.
        Ids are text: never read as numbers. A motion, parallax or epoch without a value may be empty, ``null``,
        ``nan`` or ``--``. Lines that start with ``#`` are comments.
    default_epoch_yr
        Epoch of positions without one.
    option
        Name of the option that gave the path, for messages.

    Raises
    ------
    ConfigError
        Naming the line and column, when the file cannot be read, lacks a position or has an id twice.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            lines = [(number, line) for number, line in enumerate(stream, start=1) if _holds_data(line)]
        rows = iter(list(csv.reader(line for _, line in lines)))
    except (OSError, ValueError, csv.Error) as error:
        why = "it is not text in UTF-8" if isinstance(error, UnicodeDecodeError) else getattr(error, "strerror", error)
        raise ConfigError(f"{option}: got {str(path)!r}, takes a CSV catalogue that can be read ({why})") from None
    header = next(rows, [])
    columns = _find_columns(header, f"{option}: {path}")
    catalogue: dict[str, Source] = {}
    for (number, _), row in zip(lines[1:], rows, strict=False):
        if any(cell.strip() for cell in row[len(header) :]):
            raise ConfigError(
                f"{option}: {path} line {number}: has {len(row)} cells, the header {len(header)};"
                " decimals have a point, and text with a comma stands in quotation marks"
            )
        source = _catalogue_source(row, columns, default_epoch_yr, f"{option}: {path} line {number}")
        if source.key in catalogue:
            raise ConfigError(f"{option}: {path} line {number}: id {source.key!r} is there twice; each id once, please")
        catalogue[source.key] = source
    if not catalogue:
        raise ConfigError(f"{option}: got {str(path)!r}, takes a catalogue with at least one source")
    return catalogue


def write_catalogue(path: Path | str, sources: Sequence[Source]) -> None:
    """Write sources as a catalogue that :func:`read_catalogue` reads."""
    header = ("id", "name", "ra", "dec", "pmra", "pmdec", "parallax", "epoch")
    write_csv(path, header, map(dataclasses.astuple, sources))


def _holds_data(line: str) -> bool:
    return bool(line.strip()) and not line.startswith("#")


def _find_columns(header: list[str], where: str) -> dict[str, int]:
    plain = [re.sub(r"[^a-z0-9]", "", name.lower()) for name in header]
    found = {
        column: next(plain.index(name) for name in names if name in plain)
        for column, names in _COLUMNS.items()
        if any(name in plain for name in names)
    }
    for column in ("ra", "dec"):
        if column not in found:
            has = " ".join(", ".join(header).split())[:100] or "no header"
            raise ConfigError(f"{where} has no column {column}; it has {has}; columns are separated by commas")
    return found


def _catalogue_source(row: list[str], columns: Mapping[str, int], default_epoch_yr: float, where: str) -> Source:
    def cell(column: str) -> str:
        place = columns.get(column)
        return row[place].strip() if place is not None and place < len(row) else ""

    def number(column: str, option: str, default: float = 0.0) -> float:
        text, entry = cell(column), config.load_schema()["properties"][option]
        if text.lower() in _NO_VALUE:
            return default
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not entry["minimum"] <= value <= entry["maximum"]:
            raise ConfigError(f"{column}: got {text!r}, takes {config.accepted(entry)}")
        return value

    try:
        ra_deg, dec_deg = parse_ra_deg(cell("ra")), parse_dec_deg(cell("dec"))
        name = cell("name") or cell("id") or position_name(ra_deg, dec_deg)
        return Source(
            key=directory_key(cell("id") or name),
            name=name,
            ra_deg=ra_deg,
            dec_deg=dec_deg,
            pmra_masyr=number("pmra", "pmra_masyr"),
            pmdec_masyr=number("pmdec", "pmdec_masyr"),
            parallax_mas=number("parallax", "parallax_mas"),
            epoch_yr=number("epoch", "epoch_yr", default_epoch_yr),
        )
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def separation_arcsec(source: Source, other: Source) -> float:
    """Angle between two sources, each at its own epoch."""
    positions = np.radians((source.ra_deg, source.dec_deg, other.ra_deg, other.dec_deg))
    return math.degrees(erfa.seps(*positions)) * 3600.0
