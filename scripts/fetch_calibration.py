"""Fetch what calibration exposures of one release and detector need; write which files these are."""

import math
import os
import time
from dataclasses import replace

from spxflow import files, transfer
from spxflow.transfer.calibration import CalibrationUnavailableError, calibration_cache

_DAY_S = 86400.0


def main(manifest, log, config, release, detector, failed_runs):
    """Fill the cache of calibration files.

    Parameters
    ----------
    manifest, log : str
        Files to write: the names of the calibration files with a status (JSON), and why they could not be had.
    config : dict
        The whole configuration.
    release, detector : str
        ``QR2`` or ``QR3``, ``1`` to ``6``.
    failed_runs : int
        What `failures` says.
    """
    content = {"status": "ok", "reason": "", "release": release, "failed_runs": failed_runs, "files": {}}
    try:
        calibration = _cache(config).load(release, int(detector), config["download"]["mode"] == "slim")
        content["files"] = dict(calibration.provenance)
    except CalibrationUnavailableError as error:
        content |= {"status": "no_calibration", "reason": str(error), "failed_runs": failed_runs + 1}
        with open(log, "a", encoding="utf-8") as stream:  # in batches that of all calibration of a source
            stream.write(f"{release} D{detector}: {error}\n")
    files.write_json(manifest, content, indent=1)


def load(config, release, detector, slim):
    """Calibration as configured, from the cache that all sources and runs share; newer versions are looked for by
    `main` alone, so that all exposures are measured with those that the manifest names.
    """
    return _cache(config, check_days=math.inf).load(release, detector, slim)


def _cache(config, **options):
    settings = replace(transfer.CalibrationSettings.from_options(config["calibration"]), **options)
    return calibration_cache(settings, transfer.TransferSettings.from_config(config))


def failures(manifest, check_days):
    """How often the calibration of a manifest could not be had, or became due for a look for newer versions: a change
    makes the workflow ask for it. 0 without a manifest.
    """
    try:
        return files.read_json(manifest)["failed_runs"] + _is_old(manifest, check_days)
    except (OSError, ValueError, KeyError):
        return 0


def is_wanted(manifest, check_days):
    """Whether the archive is to be asked for the calibration of a manifest."""
    try:
        return files.read_json(manifest)["status"] != "ok" or _is_old(manifest, check_days)
    except (OSError, ValueError, KeyError):
        return True


def _is_old(manifest, check_days):
    return time.time() - os.stat(manifest).st_mtime > check_days * _DAY_S
