"""The sources that the configuration names: one position, one name, or a catalogue."""

from dataclasses import asdict
from pathlib import Path

from spxflow import archive, files, sources
from spxflow.errors import ConfigError


def main(config):
    """Sources by key; none where the configuration names none.

    Raises
    ------
    ConfigError
        When a position, catalogue or name cannot be used.
    """
    if config["sources"] is not None:
        return sources.read_catalogue(config["sources"], config["epoch_yr"])
    if config["ra"] is None and config["name"] is not None:
        config = config | _resolved(config)
    if config["ra"] is None:
        return {}
    source = sources.source_from_config(config)
    return {source.key: source}


def _resolved(config):
    """Position and motion of a named object, asked for once and then kept with the source."""
    kept = Path(config["outdir"]) / sources.directory_key(config["name"]) / "records" / "name.json"
    if not kept.exists():
        try:
            found = archive.resolve_name(config["name"], archive.ArchiveSettings.from_config(config))
        except archive.ArchiveError as error:
            raise ConfigError(str(error)) from None
        files.write_json(kept, asdict(found), indent=1)
    found = files.read_json(kept)
    return {
        "ra": found["ra_deg"],
        "dec": found["dec_deg"],
        **{option: found[option] for option in ("pmra_masyr", "pmdec_masyr", "parallax_mas", "epoch_yr")},
    }


def neighbours_of(sources_by_key, config):
    """Known sources near each source, as a function of its key.

    Returns
    -------
    callable
        From a key to a list of dicts with the fields of `spxflow.sources.Source`.
    """
    options = config["photometry"]["neighbours"]
    known = dict(sources_by_key) if options["catalogue"] else {}
    listed = []
    if options["file"] is not None:
        listed = list(
            sources.read_catalogue(options["file"], config["epoch_yr"], option="photometry.neighbours.file").values()
        )

    def neighbours(key):
        around = [source for other, source in known.items() if other != key] + listed
        return [asdict(near) for near in sources.within(sources_by_key[key], around, _REACH_ARCSEC)]

    return neighbours


# Far enough for any fit radius that is reasonable, and for proper motion during the survey.
_REACH_ARCSEC = 180.0
