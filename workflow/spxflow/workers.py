"""Many small tasks at once: threads that wait for the archive, processes that measure and draw."""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from spxflow.retries import go_on

Task = TypeVar("Task")
Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")


def shared(make: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """A function as one that is called once for the same arguments in a process, by whichever thread comes first."""
    lock = threading.Lock()
    made: Callable[..., Result] = functools.cache(lambda _process, *arguments, **named: make(*arguments, **named))

    @functools.wraps(make)
    def get(*arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        with lock:
            return made(os.getpid(), *arguments, **named)

    return get


@shared
def threads(count: int) -> ThreadPoolExecutor:
    """The threads of this process that wait for answers, shared by all who ask for as many."""
    return ThreadPoolExecutor(count)


def finished(
    executor: Executor, function: Callable[[Task], Result], tasks: Iterable[Task], ahead: int
) -> Iterator[tuple[Task, Future[Result]]]:
    """Tasks with their futures as they end, in any order.

    At most ``ahead`` of them are under way or queued, and ``tasks`` is read no faster, so that several callers share an
    executor fairly and one that gives up leaves little behind.
    """
    waiting = iter(tasks)
    running: dict[Future[Result], Task] = {}
    try:
        while True:
            go_on()
            for task in itertools.islice(waiting, ahead - len(running)):
                running[executor.submit(function, task)] = task
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future
    finally:
        for future in running:
            future.cancel()


class Processes(Executor):
    """Worker processes that are replaced when one of them dies.

    Parameters
    ----------
    count
        How many.
    preload
        Modules that they need.
    """

    def __init__(self, count: int, preload: tuple[str, ...] = ()) -> None:
        self._count = count
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(preload))
        self._lock = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None

    def submit(self, function, /, *arguments, **options):
        """Run a function in a worker; the future raises `BrokenProcessPool` when the worker died."""
        with self._lock:
            for _ in range(2):
                if self._pool is None:
                    self._pool = ProcessPoolExecutor(self._count, self._context, initializer=_leave_with_parent)
                try:
                    with _no_main_script():
                        return self._pool.submit(function, *arguments, **options)
                except BrokenProcessPool:
                    self._pool = None
            raise BrokenProcessPool("worker processes do not start")

    def warm_up(self) -> None:
        """Start a worker before there is something to do, so that what it imports is there by then."""
        self.submit(os.getpid)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the workers."""
        with self._lock:
            if self._pool is not None:
                self._pool.shutdown(wait, cancel_futures=cancel_futures)


@shared
def processes(count: int) -> Processes:
    """The workers of this process, shared by all who ask for as many."""
    return Processes(count, ("spxflow.measure", "spxflow.transfer.calibration", "matplotlib.backends.backend_agg"))


def called(pool: Processes, function: Callable[..., Result], *arguments: object) -> Result:
    """What a function gives that is called in a worker; once more, :func:`alone`, when the worker died.

    All tasks of a pool fail with the one that kills a worker, so this may have been another.
    """
    try:
        return pool.submit(function, *arguments).result()
    except BrokenProcessPool:
        go_on()
        return alone(function, *arguments)


def here(function: Callable[..., Result], *arguments: object) -> Result:
    """What a function gives that is called in this process."""
    return function(*arguments)


def alone(function: Callable[..., Result], *arguments: object) -> Result:
    """What a function gives that is called in a process of its own; `BrokenProcessPool` when that dies."""
    with Processes(1) as pool:
        return pool.submit(function, *arguments).result()


@contextmanager
def _no_main_script() -> Iterator[None]:
    """Have workers that start meanwhile not import the script that this process runs: they need nothing of it.

    For the script of Snakemake that would be half a second in each of them.
    """
    main = vars(sys.modules["__main__"])
    script = main.pop("__file__", None)
    try:
        yield
    finally:
        if script is not None:
            main["__file__"] = script


def _leave_with_parent() -> None:
    """End this worker with the process it works for, however that ends; a Ctrl-C in the terminal is for that one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
