"""Exposures of sources: one query for many positions where the service takes it, else one query for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from spxflow.archive import obscore, sia, tap
from spxflow.archive.errors import ArchiveError
from spxflow.archive.listing import FoundExposures, ListedFile, exposures
from spxflow.archive.session import QuerySession
from spxflow.archive.settings import ArchiveSettings, QuerySettings
from spxflow.archive.tap import CutOffError
from spxflow.position import apparent_position, observer_at
from spxflow.sources import Source

Position = tuple[float, float]
Answer = tuple[list[ListedFile], list[str]] | ArchiveError

_SURVEY_MJD = 61100.0  # 2026 February 28, within the two years of the survey
_SERVICES = {"tap": tap.files_at, "sia": sia.files_at, "obscore": obscore.files_at}
_TAKE_MANY = ("tap", "obscore")
_IN_VAIN = 3  # sources in a row that the service does not answer for: it is down


def find(
    sources: Sequence[Source], settings: ArchiveSettings, query: QuerySettings, bands: Sequence[str]
) -> dict[str, FoundExposures | ArchiveError]:
    """Exposures of every source, by the source's key; the error where the service does not answer for that one.

    Raises
    ------
    ArchiveError
        When the service answers for none.
    """
    if not sources:
        return {}
    service, session = _SERVICES[settings.service], QuerySession(settings)
    together = settings.service in _TAKE_MANY
    search = _Search(lambda positions: service(positions, settings, query, bands, session), settings, together)
    survey = observer_at(_SURVEY_MJD)
    answers = search.many([apparent_position(source, survey) for source in sources])
    silences = [one for one in answers if isinstance(one, ArchiveError) and not isinstance(one, CutOffError)]
    if len(silences) == len(answers):
        raise silences[0]
    found: dict[str, FoundExposures | ArchiveError] = {}
    for source, answer in zip(sources, answers, strict=True):
        if isinstance(answer, ArchiveError):
            found[source.key] = answer
        else:
            files, messages = answer
            found[source.key] = exposures(files, settings, query, bands, messages)
    return found


@dataclass
class _Search:
    files_at: Callable[[Sequence[Position]], tuple[list[list[ListedFile]], list[str]]]
    settings: ArchiveSettings
    together: bool
    silences: tuple[ArchiveError, ...] = ()  # since a source was last answered for

    def many(self, positions: Sequence[Position]) -> list[Answer]:
        step = self.settings.upload_sources
        answers: list[Answer] = []
        for start in range(0, len(positions), step):
            answers += self._part(positions[start : start + step])
        return answers

    def _part(self, positions: Sequence[Position]) -> list[Answer]:
        if not self.together or len(positions) == 1:
            return self._one_by_one(positions, [])
        try:
            found, messages = self.files_at(positions)
        except CutOffError:
            half = len(positions) // 2
            return self._part(positions[:half]) + self._part(positions[half:])
        except ArchiveError as error:
            self.together = False
            return self._one_by_one(positions, [f"batched query failed, asked for each source: {error}"])
        return [(files, list(messages)) for files in found]

    def _one_by_one(self, positions: Sequence[Position], messages: list[str]) -> list[Answer]:
        def one(position: Position) -> Answer:
            silences = self.silences
            if len(silences) >= _IN_VAIN:
                return silences[-1]
            try:
                (files,), own = self.files_at([position])
            except CutOffError as error:
                return error
            except ArchiveError as error:
                self.silences = (*self.silences, error)
                return error
            self.silences = ()
            return files, messages + own

        # the first in turn: when the service is down, that is known after few queries
        answers = [one(position) for position in positions[:_IN_VAIN]]
        with ThreadPoolExecutor(self.settings.connections) as pool:
            answers += pool.map(one, positions[_IN_VAIN:])
        return answers
