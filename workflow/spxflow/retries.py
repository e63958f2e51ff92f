"""When an answer is asked for again, how long to wait before it, and how to leave a wait when told to stop."""

from __future__ import annotations

import email.utils
import math
import random
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

Result = TypeVar("Result")

_PASSING_CLIENT_STATUS = frozenset({408, 425, 429})
_LASTING_SERVER_STATUS = frozenset({501, 505, 511})
_LOOK_S = 0.1
_PUT_AWAY_S = 1.0

STOPPING = threading.Event()
"""Set when this process is told to stop: nothing more is begun or waited for."""


class StoppedError(BaseException):
    """Work was given up because this process is told to stop: no fault, so not an ``Exception``."""


def go_on() -> None:
    """Nothing, or :class:`StoppedError` once this process is told to stop."""
    if STOPPING.is_set():
        raise StoppedError("told to stop; what is done is kept")


def wait(seconds: float) -> None:
    """Wait as `time.sleep` does, but not once this process is told to stop: then :class:`StoppedError` is raised."""
    STOPPING.wait(seconds)
    go_on()


def unless_stopped(ask: Callable[[], Result]) -> Result:
    """What ``ask`` gives, which may be long in coming.

    It runs in a thread of its own, which is left behind with whatever it waits for when this process is told to stop:
    then :class:`StoppedError` is raised here.
    """
    go_on()
    outcome: Future[Result] = Future()
    thread = threading.Thread(target=_settle, args=(outcome, ask), daemon=True)
    thread.start()
    while thread.is_alive() and not STOPPING.is_set():
        thread.join(_LOOK_S)
    thread.join(_PUT_AWAY_S)
    if not outcome.done():
        go_on()
    try:
        return outcome.result()
    finally:
        del outcome  # an exception refers to this frame


def _settle(outcome: Future[Result], ask: Callable[[], Result]) -> None:
    try:
        outcome.set_result(ask())
    except BaseException as error:
        outcome.set_exception(error)


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
