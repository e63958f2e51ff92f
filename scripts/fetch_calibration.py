"""Fetch what calibration exposures of one release and detector need; write which files these are."""

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
        calibration = load(config, release, int(detector), config["download"]["mode"] == "slim")
        content["files"] = dict(calibration.provenance)
    except CalibrationUnavailableError as error:
        content |= {"status": "no_calibration", "reason": str(error), "failed_runs": failed_runs + 1}
        files.write_atomically(log, f"{release} D{detector}: {error}\n")
    files.write_json(manifest, content, indent=1)


def load(config, release, detector, slim):
    """Calibration as configured, from the cache that all sources and runs share."""
    settings = transfer.TransferSettings.from_config(config)
    cache = calibration_cache(transfer.CalibrationSettings.from_config(config), settings)
    return cache.load(release, detector, slim)


def failures(manifest):
    """Invocations in which the calibration could not be had, by its manifest; 0 without one."""
    try:
        return files.read_json(manifest)["failed_runs"]
    except (OSError, ValueError, KeyError):
        return 0
