"""How far the transfers of a run are, in lines a person can read."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from spxflow.transfer.record import TransferRecord


class Progress:
    """Counts finished transfers and says so now and then, and when the last one is done.

    Parameters
    ----------
    say
        Takes one line of text.
    every_s
        Shortest time between two lines, s.
    clock
        Seconds that only go forward.
    """

    def __init__(
        self, say: Callable[[str], object], every_s: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say = say
        self._every_s = every_s
        self._clock = clock
        self._lock = threading.Lock()
        self._begin = self._said = clock()
        self._expected = self._done = self._failed = self._bytes = 0

    def expect(self, transfers: int) -> None:
        """So many more transfers will come."""
        with self._lock:
            if self._done >= self._expected:
                self._begin = self._said = self._clock()
            self._expected += transfers

    def finished(self, record: TransferRecord) -> None:
        """One transfer is over, well or not."""
        with self._lock:
            self._done += 1
            self._failed += not record.is_ok
            self._bytes += record.received_bytes
            now = self._clock()
            if now - self._said < self._every_s and self._done != self._expected:
                return
            self._said = now
            line = self._line(now)
        self._say(line)

    def _line(self, now: float) -> str:
        rate = self._bytes / 1e6 / max(now - self._begin, 1e-3)
        failed = f", {self._failed} failed" if self._failed else ""
        return (
            f"fetched {self._done - self._failed} of {max(self._expected, self._done)} files, "
            f"{self._bytes / 1e6:.1f} MB, {rate:.1f} MB/s{failed}"
        )
