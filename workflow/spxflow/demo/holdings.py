"""What the archive holds at the moment: the scenario's files, less what is hidden, lost or replaced."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spxflow.demo.calibration import CalibrationFile
    from spxflow.demo.scenario import ArchiveFile, Scenario


class Holdings:
    """The files on show.

    ``revision`` grows with every change of what the query services list.
    """

    def __init__(self, scenario: Scenario, ingested_before: int | None = None) -> None:
        self.scenario = scenario
        self.revision = 0
        self._ingested_before = ingested_before
        self._hidden: set[str] = set()
        self._lost: set[str] = set()
        self._replaced: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def listed(self) -> tuple[int, tuple[ArchiveFile, ...]]:
        """The files that query services list, with the revision they belong to."""
        with self._lock:
            return self.revision, tuple(file for file in self.scenario.files.values() if self._is_shown(file))

    def file(self, path: str) -> ArchiveFile | None:
        """The Level-2 file of this path, if it is there to be read."""
        file = self.scenario.files.get(path)
        return None if file is None or path in self._lost or not self._is_shown(file) else file

    def calibration(self, path: str) -> CalibrationFile | None:
        """The calibration product of this path, if it is there to be read."""
        return None if path in self._lost else self.scenario.calibration.get(path)

    def replacement(self, path: str) -> bytes | None:
        """Content that stands in the place of the real one."""
        return self._replaced.get(path)

    def paths(self) -> Iterable[str]:
        """Paths of everything that can be read."""
        yield from (file.path for file in self.listed()[1] if file.path not in self._lost)
        yield from (path for path in self.scenario.calibration if path not in self._lost)

    def _is_shown(self, file: ArchiveFile) -> bool:
        before = self._ingested_before
        return file.path not in self._hidden and (before is None or file.ingested < before)

    def publish(self, ingested_before: int | None) -> None:
        """Show the files whose ``ingested`` index is below this; ``None``: all."""
        with self._lock:
            self._ingested_before = ingested_before
            self.revision += 1

    def hide(self, paths: Iterable[str]) -> None:
        """Take files out of listings and storage, as if they had never been ingested."""
        with self._lock:
            self._hidden.update(paths)
            self.revision += 1

    def show(self, paths: Iterable[str]) -> None:
        """Undo :meth:`hide`."""
        with self._lock:
            self._hidden.difference_update(paths)
            self.revision += 1

    def remove(self, path: str) -> None:
        """Lose a file: still listed, no longer there."""
        self._lost.add(path)

    def replace(self, path: str, content: bytes) -> None:
        """Answer requests for a file, whole or cutout, with this content."""
        self._replaced[path] = content

    def restore(self, path: str) -> None:
        """Undo :meth:`remove` and :meth:`replace`."""
        self._lost.discard(path)
        self._replaced.pop(path, None)
