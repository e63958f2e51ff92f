"""Files from the archive: one HTTP client, transfers that end in a valid file or a reason, calibration files."""

from __future__ import annotations

from spxflow.transfer.fetch import fetch
from spxflow.transfer.record import TransferRecord, failed_runs, read_record, state, write_record
from spxflow.transfer.settings import CalibrationSettings, CutoutSize, TransferSettings

__all__ = [
    "CalibrationSettings",
    "CutoutSize",
    "TransferRecord",
    "TransferSettings",
    "failed_runs",
    "fetch",
    "read_record",
    "state",
    "write_record",
]
