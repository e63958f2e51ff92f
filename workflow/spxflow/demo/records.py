"""One row a file and collection, as the query services describe it (facts 3.1, 3.2).

Known from a real SIA answer: the constants, the wavelength limits and resolving powers of the
detectors, the sizes, the form of identifiers and regions. Assumed: release dates (40 days after
processing) and the identifiers of planes and observations (UUIDs made from the file's name).
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spxflow.demo.instrument import DETECTORS
from spxflow.demo.sphere import shape_text

if TYPE_CHECKING:
    from spxflow.demo.scenario import ArchiveFile

_SIZE_KB = {"qr2": 71638, "qr3": 65912}
_SIZE_KB_V20 = 71635
_NAMESPACE = uuid.UUID("7d0b1c52-64c4-5f6e-9a53-53b0c1a5f2a1")


@dataclass(frozen=True)
class Record:
    """A file as one collection lists it."""

    file: ArchiveFile
    collection: str

    @property
    def band(self) -> str:
        return f"D{self.file.detector}"

    @property
    def publisher_did(self) -> str:
        return f"ivo://irsa.ipac/{self.collection}?{self.file.obs_id}/{self.band}"

    @property
    def plane_id(self) -> str:
        return str(uuid.uuid5(_NAMESPACE, f"{self.collection}/{self.file.path}"))

    @property
    def observation_id(self) -> str:
        return str(uuid.uuid5(_NAMESPACE, f"{self.collection}/{self.file.obs_id}"))

    @property
    def region(self) -> str:
        """Outer corners of the frame, the first repeated at the end."""
        corners = [*self.file.footprint, self.file.footprint[0]]
        return shape_text("POLYGON", (number for corner in corners for number in corner))

    @property
    def resolving_power(self) -> float:
        return DETECTORS[self.file.detector].resolving_power

    @property
    def size_kb(self) -> int:
        return _SIZE_KB_V20 if "-v20-" in self.file.version else _SIZE_KB[self.file.release]

    @property
    def release_date(self) -> str:
        date = datetime.datetime.strptime(self.file.version[-8:], "%Y-%j") + datetime.timedelta(days=40)
        return f"{date:%Y-%m-%d} 19:52:50"


def records_of(files: Iterable[ArchiveFile]) -> Iterator[Record]:
    """A file that is in two collections is listed twice."""
    return (Record(file, collection) for file in files for collection in file.collections)
