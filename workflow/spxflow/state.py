"""What a run did, with what, by which versions: the audit trail of a source, from which the run can be repeated."""

from __future__ import annotations

import importlib.metadata
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from spxflow import __version__
from spxflow.config import MOTION, STATE, is_batch, load_schema
from spxflow.errors import ConfigError
from spxflow.sources import directory_key

_LIBRARIES = ("snakemake", "numpy", "astropy", "scipy", "pyvo", "requests", "matplotlib")


def run_state(
    config: Mapping[str, Any],
    source: Mapping[str, Any],
    query: Mapping[str, Any],
    transfers: Iterable[Mapping[str, Any]],
    exposures: Sequence[Mapping[str, Any]],
    neighbours: str | None,
    time: str,
) -> dict[str, Any]:
    """The content of ``{source}.yaml``: every option, and under ``state`` what was done with them.

    The file is a configuration of its own: the workflow ignores ``state`` when it reads it with ``--configfile``.

    Parameters
    ----------
    config
        The whole configuration.
    source
        Fields of the source.
    query
        Account of the query.
    transfers, exposures
        Transfer records, and judged photometry records.
    neighbours
        Catalogue of the neighbours that were taken into account; None without any.
    time
        Now, ISO 8601.
    """
    files = sorted(transfers, key=lambda record: record["stem"])
    return {
        **_one_source(config, source, neighbours),
        STATE: {
            "source": dict(source),
            "time": time,
            "stages_complete": ["query", "download", "photometry"],
            "versions": versions(),
            "query": dict(query) | {"n_observations": len(exposures)},
            "photometry": photometry_summary(exposures),
            "files": [
                {
                    key: record[key]
                    for key in ("stem", "status", "reason", "mode", "file_bytes", "sha256", "failed_runs")
                }
                for record in files
            ],
        },
    }


def _one_source(config: Mapping[str, Any], source: Mapping[str, Any], neighbours: str | None) -> dict[str, Any]:
    """The configuration with the source's own position and neighbours, also where a catalogue or a name gave them."""
    around = config["photometry"]["neighbours"]
    if neighbours is not None:
        around = {**around, "file": neighbours, "catalogue": False}
    return dict(config) | {
        "photometry": {**config["photometry"], "neighbours": around},
        "ra": source["ra_deg"],
        "dec": source["dec_deg"],
        "name": _name(source),
        "sources": None,
        "batch": is_batch(config),  # which auto would decide anew without the catalogue, and find other records
        **{option: source[option] for option in MOTION},
    }


def _name(source: Mapping[str, Any]) -> str:
    """A name that gives the source's directory again: its own, unless a catalogue has an id beside it."""
    name, longest = source["name"], load_schema()["properties"]["name"]["maxLength"]
    try:
        same = len(name) <= longest and directory_key(name) == source["key"]
    except ConfigError:
        same = False
    return name if same else source["key"]


def photometry_summary(exposures: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Counts of exposures by status, and of good points and upper limits."""
    statuses = Counter(row["status"] for row in exposures)
    return {
        "n_exposures": len(exposures),
        "n_measured": sum(row["flux_ujy"] is not None for row in exposures),
        "n_good": sum(bool(row["is_good"]) for row in exposures),
        "n_upper_limits": sum(bool(row["is_upper_limit"]) for row in exposures),
        "statuses": dict(sorted(statuses.items())),
    }


def versions() -> dict[str, str]:
    """Versions of the workflow, Python and the libraries that numbers depend on."""
    return {
        "spxflow": __version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _LIBRARIES},
    }
