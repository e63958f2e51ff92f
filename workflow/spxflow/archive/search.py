"""Exposures of sources: one query for many positions where the service takes it, else one query for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import ModuleType

from spxflow.archive import obscore, sia, tap
from spxflow.archive.errors import ArchiveError
from spxflow.archive.listing import FoundExposures, ListedFile, exposures
from spxflow.archive.session import QuerySession
from spxflow.archive.settings import ArchiveSettings, QuerySettings
from spxflow.archive.tap import CutOffError
from spxflow.position import apparent_position, observer_at
from spxflow.sources import Source

Position = tuple[float, float]
Listed = tuple[list[ListedFile], list[str]]
Answer = Listed | CutOffError

_SURVEY_MJD = 61100.0  # 2026 February 28, within the two years of the survey
_SERVICES: dict[str, ModuleType] = {"tap": tap, "sia": sia, "obscore": obscore}


def find(
    sources: Sequence[Source], settings: ArchiveSettings, query: QuerySettings, bands: Sequence[str]
) -> dict[str, FoundExposures | CutOffError]:
    """Exposures of every source, by the source's key; the error where the answer for one source alone is cut off.

    Raises
    ------
    ArchiveError
        When the service does not answer.
    """
    if not sources:
        return {}
    search = _Search(_SERVICES[settings.service], settings, query, tuple(bands), QuerySession(settings))
    survey = observer_at(_SURVEY_MJD)
    positions = [apparent_position(source, survey) for source in sources]
    found: dict[str, FoundExposures | CutOffError] = {}
    for source, answer in zip(sources, search.many(positions), strict=True):
        if isinstance(answer, CutOffError):
            found[source.key] = answer
        else:
            files, messages = answer
            found[source.key] = exposures(files, settings, query, bands, messages)
    return found


@dataclass
class _Search:
    service: ModuleType
    settings: ArchiveSettings
    query: QuerySettings
    bands: tuple[str, ...]
    session: QuerySession
    uploads: bool = True

    def many(self, positions: Sequence[Position]) -> list[Answer]:
        step = self.settings.upload_sources
        answers: list[Answer] = []
        for start in range(0, len(positions), step):
            answers += self._part(positions[start : start + step])
        return answers

    def _part(self, positions: Sequence[Position]) -> list[Answer]:
        files_at_many: Callable | None = getattr(self.service, "files_at_many", None)
        if files_at_many is None or not self.uploads or len(positions) == 1:
            return self._one_by_one(positions, [])
        try:
            found, messages = files_at_many(positions, self.settings, self.query, self.bands, self.session)
        except CutOffError:
            half = len(positions) // 2
            return self._part(positions[:half]) + self._part(positions[half:])
        except ArchiveError as error:
            self.uploads = False
            return self._one_by_one(positions, [f"batched query failed, asked for each source: {error}"])
        return [(files, list(messages)) for files in found]

    def _one_by_one(self, positions: Sequence[Position], messages: list[str]) -> list[Answer]:
        def one(position: Position) -> Answer:
            try:
                files, own = self.service.files_at(position, self.settings, self.query, self.bands, self.session)
            except CutOffError as error:
                return error
            return files, messages + own

        # the first alone: when the service is down, that is known after one query
        answers = [one(positions[0])]
        with ThreadPoolExecutor(self.settings.connections) as pool:
            answers += pool.map(one, positions[1:])
        return answers
