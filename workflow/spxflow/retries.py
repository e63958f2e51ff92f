"""When an answer is asked for again, and how long to wait before it."""

from __future__ import annotations

import email.utils
import math
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass

_PASSING_CLIENT_STATUS = frozenset({408, 425, 429})
_LASTING_SERVER_STATUS = frozenset({501, 505, 511})


def passes(status: int) -> bool:
    """Whether an HTTP status tells of a fault that may be gone at the next try."""
    return status in _PASSING_CLIENT_STATUS or (status >= 500 and status not in _LASTING_SERVER_STATUS)


@dataclass(frozen=True)
class Backoff:
    """Waits that double from ``first_s`` to ``longest_s``, each drawn from its upper half."""

    first_s: float
    longest_s: float

    def wait_s(self, faults: int) -> float:
        """Wait in s after that many faults (1, 2, ...) in a row."""
        full = min(self.longest_s, self.first_s * 2.0 ** min(faults - 1, 30))
        return full * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The wait that a ``Retry-After`` header asks for, s: a number of seconds or an HTTP date; None without one."""
    value = headers.get("Retry-After")
    if value is None:
        return None
    date = email.utils.parsedate_tz(value)
    if date is not None:
        return max(0.0, email.utils.mktime_tz(date) - time.time())
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if 0.0 <= seconds < math.inf else None
