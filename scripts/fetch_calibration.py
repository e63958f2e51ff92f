"""Fetch what calibration exposures of one release and detector need; write which files these are."""

import math
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType

from spxflow import files, transfer
from spxflow.transfer.calibration import CalibrationUnavailableError, calibration_cache


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
        Earlier invocations in which a file could not be had.
    """
    content = {"status": "ok", "reason": "", "release": release, "failed_runs": failed_runs, "files": {}}
    try:
        calibration = cache_of(config).load(release, int(detector), config["download"]["mode"] == "slim")
        content["files"] = dict(calibration.provenance)
    except CalibrationUnavailableError as error:
        content |= {"status": "no_calibration", "reason": str(error), "failed_runs": failed_runs + 1}
        with open(log, "a", encoding="utf-8") as stream:  # in batches that of all calibration of a source
            stream.write(f"{release} D{detector}: {error}\n")
    files.write_json(manifest, content, indent=1)


def renew(manifest, config, release, detector):
    """Have a manifest name newer files, where the archive has some and has not been asked for `check_days`.

    One that cannot be read or written, as another user's, stays as it is.
    """
    content = _account(manifest)
    if content.get("status") != "ok":
        return
    with suppress(OSError, CalibrationUnavailableError):
        names = cache_of(config).names(release, int(detector), config["download"]["mode"] == "slim")
        if names != content.get("files"):
            files.write_json(manifest, {**content, "files": names}, indent=1)


def load(config, release, detector, slim, names=MappingProxyType({})):
    """Calibration as configured, from the cache that all sources and runs share: those files that a manifest names.

    Newer versions are not looked for here, where each exposure might get another.
    """
    return cache_of(config, check_days=math.inf).load(release, detector, slim, names)


def cache_of(config, **options):
    """The cache of this process for a configuration, but for some options of the section ``calibration``."""
    settings = replace(transfer.CalibrationSettings.from_options(config["calibration"]), **options)
    return calibration_cache(settings, transfer.TransferSettings.from_config(config))


def failures(manifest):
    """Invocations in which the calibration could not be had, by its manifest; 0 without one."""
    return _account(manifest).get("failed_runs", 0)


def is_wanted(manifest):
    """Whether the calibration of a manifest is still to be had, or its manifest is damaged."""
    return _account(manifest).get("status") != "ok"


def _account(manifest):
    """What a manifest says; nothing where there is none, or it is damaged."""
    try:
        return files.read_json(manifest)
    except (OSError, ValueError):
        return {}
