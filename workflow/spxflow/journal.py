"""What was done for each exposure of a source, and with which options, written as it goes.

A job that does all files of a source reads from it which of them are new, changed or failed, and a job that was
killed loses nothing of what it had done.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from spxflow.files import write_atomically

Record = Mapping[str, Any]


def digest_of(task: Any) -> str:
    """Digest of everything that an outcome depends on: any value that JSON can hold."""
    text = json.dumps(task, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Journal:
    """Outcomes by exposure, kept in a file to which each new one is appended.

    One process at a time may write. A line that was cut off by the end of its writer is as if it had not been written.

    Parameters
    ----------
    records
        File of records that are made from it; beside it stands the journal, a JSON object a line: stem, digest, record.
        A later line replaces an earlier one.
    """

    def __init__(self, records: Path | str) -> None:
        self._path = Path(records).with_suffix(".journal")
        self._entries: dict[str, tuple[str, Record]] = {}
        if not self._read():
            self.keep(self._entries)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = open(self._path, "a", encoding="utf-8")  # noqa: SIM115

    def _read(self) -> bool:
        """Read all lines; whether the file was whole."""
        try:
            text = self._path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return True
        whole = text.endswith("\n") or not text
        for line in text.splitlines():
            try:
                entry = json.loads(line)
                self._entries[entry["stem"]] = (entry["digest"], entry["record"])
            except (ValueError, KeyError, TypeError):
                whole = False
        return whole

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def record(self, stem: str) -> Record | None:
        """The last outcome for an exposure."""
        entry = self._entries.get(stem)
        return None if entry is None else entry[1]

    def is_current(self, stem: str, digest: str) -> bool:
        """Whether the last outcome for an exposure is of this task."""
        entry = self._entries.get(stem)
        return entry is not None and entry[0] == digest

    def add(self, stem: str, digest: str, record: Record) -> None:
        """Note an outcome."""
        self._entries[stem] = (digest, record)
        self._stream.write(_line(stem, digest, record))
        self._stream.flush()

    def keep(self, stems: Iterable[str]) -> list[Record]:
        """Forget all other exposures, and lines that were replaced; the records in the order of ``stems``."""
        self._entries = {stem: self._entries[stem] for stem in stems}
        write_atomically(self._path, "".join(_line(stem, *entry) for stem, entry in self._entries.items()))
        return [record for _, record in self._entries.values()]


def _line(stem: str, digest: str, record: Record) -> str:
    return json.dumps({"stem": stem, "digest": digest, "record": record}, allow_nan=False, ensure_ascii=False) + "\n"
