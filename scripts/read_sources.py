"""The sources that the configuration names: one position, one name, or a catalogue."""

import bisect
import math
import os
from dataclasses import asdict
from pathlib import Path

from spxflow import archive, files, sources
from spxflow.archive.names import ResolvedName
from spxflow.config import MOTION
from spxflow.errors import ConfigError


def main(config):
    """Sources by key; none where the configuration names none.

    Raises
    ------
    ConfigError
        When a position, catalogue or name cannot be used.
    """
    refuse_unwritable("outdir", config["outdir"])
    if config["sources"] is not None:
        catalogue = sources.read_catalogue(config["sources"], config["epoch_yr"])
        for key in catalogue.keys() & _OWN_NAMES:
            raise ConfigError(f"sources: {config['sources']}: id {key!r} is a file of the whole catalogue; rename it")
        return catalogue
    if config["ra"] is None and config["name"] is not None:
        config = config | _resolved(config)
    if config["ra"] is None:
        return {}
    source = sources.source_from_config(config)
    return {source.key: source}


_OWN_NAMES = {"images", "logs", "index.html", "catalogue.csv", "catalogue.parquet"}  # in outdir, beside the sources


def refuse_unwritable(option, directory):
    """Raise `ConfigError` when the directory that an option names cannot be written, nor made."""
    try:
        wanted = Path(directory).absolute()
        existing = next(path for path in (wanted, *wanted.parents) if path.exists())
        writable = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    except (OSError, ValueError):  # too long, or no path at all
        existing, writable = "it", False
    if not writable:
        raise ConfigError(
            f"{option}: got {str(directory)[:80]!r}, takes a directory that can be written; {existing} is none"
        )


def _resolved(config):
    """Position and motion of a named object, asked for once and then kept with the source."""
    kept = Path(config["outdir"]) / sources.directory_key(config["name"]) / "records" / "name.json"
    try:
        found = ResolvedName(**files.read_cache(kept))
    except (OSError, ValueError, TypeError):
        found = None
    if found is None or found.name != config["name"]:
        try:
            found = archive.resolve_name(config["name"], archive.ArchiveSettings.from_config(config))
            files.write_json(kept, asdict(found), indent=1)
        except archive.ArchiveError as error:
            raise ConfigError(str(error)) from None
        except OSError as error:
            raise ConfigError(f"outdir: {kept} cannot be written ({error.strerror})") from None
    found = asdict(found)
    return {"ra": found["ra_deg"], "dec": found["dec_deg"], **{option: found[option] for option in MOTION}}


def neighbours_of(sources_by_key, config):
    """Known sources near each source, as a function of its key.

    Returns
    -------
    callable
        From a key to a list of dicts with the fields of `spxflow.sources.Source`.
    """
    options = config["photometry"]["neighbours"]
    known = list(sources_by_key.values()) if options["catalogue"] else []
    if options["file"] is not None:
        known += sources.read_catalogue(
            options["file"], config["epoch_yr"], option="photometry.neighbours.file"
        ).values()
    # only those of about the same declination are looked at, in the order of the catalogue
    by_dec = sorted(range(len(known)), key=lambda number: known[number].dec_deg)
    decs = [known[number].dec_deg for number in by_dec]
    fit_arcsec = options["radius_px"] * _ARCSEC_PER_PX + _MARGIN_ARCSEC
    farthest_arcsec = max(map(_motion_arcsec, known), default=0.0)

    def neighbours(key):
        source = sources_by_key[key]
        reach_arcsec = fit_arcsec + _motion_arcsec(source)
        band_deg = (reach_arcsec + farthest_arcsec) / 3600.0
        first, last = (
            bisect.bisect_left(decs, source.dec_deg - band_deg),
            bisect.bisect_right(decs, source.dec_deg + band_deg),
        )
        around = [known[number] for number in sorted(by_dec[first:last]) if known[number] is not source]
        return [
            asdict(other)
            for other in around
            if sources.separation_arcsec(source, other) <= reach_arcsec + _motion_arcsec(other)
        ]

    return neighbours


_ARCSEC_PER_PX = 6.2
_MARGIN_ARCSEC = 2.0
_SURVEY_YR = (2025.0, 2031.0)


def _motion_arcsec(source):
    """How far a source may be from its catalogue position during the survey."""
    years = max(abs(year - source.epoch_yr) for year in _SURVEY_YR)
    return (math.hypot(source.pmra_masyr, source.pmdec_masyr) * years + abs(source.parallax_mas)) / 1e3
