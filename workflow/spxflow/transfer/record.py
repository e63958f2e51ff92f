"""What became of the transfer of one file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spxflow.files import read_json, write_json

OK = "ok"


@dataclass(frozen=True)
class TransferRecord:
    """Outcome of one transfer.

    Attributes
    ----------
    stem
        File name without ``.fits``.
    status
        ``ok``, ``download_failed`` or ``invalid_file``.
    reason
        Why not, for a person; empty when ok.
    url
        Address asked.
    file_bytes, sha256
        Size and digest of the file written; 0 and empty without one.
    received_bytes
        Bytes of all answers that arrived, failed tries included.
    requests
        Requests made.
    seconds
        Time from the first request to the file in its place, s.
    mode
        ``cutout``, ``full`` or ``slim``.
    failed_runs
        Invocations up to this one in which the file could not be had.
    """

    stem: str
    status: str
    reason: str
    url: str
    file_bytes: int
    received_bytes: int
    sha256: str
    requests: int
    seconds: float
    mode: str
    failed_runs: int

    @property
    def is_ok(self) -> bool:
        """Whether the file is there."""
        return self.status == OK


def write_record(path: Path | str, record: TransferRecord) -> None:
    """Write a record as JSON."""
    write_json(path, asdict(record), indent=1)


def read_record(path: Path | str) -> TransferRecord:
    """Read a record written by :func:`write_record`."""
    return TransferRecord(**read_json(path))


def state(record_path: Path | str, file_path: Path | str | None) -> int:
    """Number of invocations in which a file could not be had, as far as its record and the file tell.

    It changes exactly when the transfer has to be tried again: after a failed one, and when a file that was there
    is gone or of another size. Without a record it is 0.
    """
    try:
        return failed_runs(read_json(record_path), file_path)
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def failed_runs(record: Mapping[str, Any], file_path: Path | str | None) -> int:
    """As :func:`state`, from the content of the record; without a path the file is not looked for."""
    count, size = int(record["failed_runs"]), int(record["file_bytes"])
    if record["status"] != OK or file_path is None:
        return count
    try:
        return count if os.stat(file_path).st_size == size else count + 1
    except OSError:
        return count + 1
