"""Waits that end when the process is told to stop."""

import threading
import time

import pytest
from answers import answering
from spxflow import archive, retries
from spxflow.archive.search import find
from spxflow.demo import server
from spxflow.files import partial_path
from spxflow.observations import BANDS
from spxflow.retries import STOPPING
from spxflow.sources import Source
from spxflow.transfer import TransferSettings
from spxflow.transfer.client import HttpClient


@pytest.fixture
def told_to_stop():
    """Tells this process to stop shortly after it is called, and to go on after the test."""

    def tell(after_s=0.3):
        timer = threading.Timer(after_s, STOPPING.set)
        timer.daemon = True
        timer.start()

    yield tell
    STOPPING.clear()


def seconds_until_stopped(work):
    begin = time.monotonic()
    with pytest.raises(retries.StoppedError):
        work()
    return time.monotonic() - begin


BUSY = (429, {"Retry-After": "60"}, b"")


def test_a_transfer_that_waits_as_it_was_asked_to_ends_when_told_to_stop(told_to_stop):
    with answering(lambda path: BUSY) as url:
        client = HttpClient(TransferSettings(archive_url=url))
        told_to_stop()
        assert seconds_until_stopped(lambda: client.read(f"{url}/ibe/data/x.fits", 1000)) < 1.0
        assert seconds_until_stopped(lambda: client.read(f"{url}/ibe/data/x.fits", 1000)) < 0.1


@pytest.mark.parametrize(
    "fault",
    [{"kind": "drip", "bytes_per_s": 1000}, {"kind": "stall", "seconds": 4, "fraction": 0.0}],
    ids=lambda fault: fault["kind"],
)
def test_a_transfer_that_reads_a_slow_answer_ends_when_told_to_stop(demo_scenario, told_to_stop, fault):
    with server.running(demo_scenario, faults={"files": {"*": fault}}) as local:
        path = next(iter(demo_scenario.files.values())).path
        client = HttpClient(TransferSettings(archive_url=local.url))
        told_to_stop()
        assert seconds_until_stopped(lambda: client.read(f"{local.url}/ibe/data/spherex/{path}", 10**8)) < 3.0


def test_a_transfer_told_to_stop_leaves_nothing_half_written(demo_scenario, told_to_stop, tmp_path):
    def keep(body):
        with partial_path(tmp_path / "x.fits") as partial, open(partial, "wb") as stream:
            while piece := body.read():
                stream.write(piece)
                told_to_stop(0.0)

    with server.running(demo_scenario, faults={"files": {"*": {"kind": "drip", "bytes_per_s": 1000}}}) as local:
        path = next(iter(demo_scenario.files.values())).path
        client = HttpClient(TransferSettings(archive_url=local.url))
        assert seconds_until_stopped(lambda: client.get(f"{local.url}/ibe/data/spherex/{path}", keep)) < 10.0
        deadline = time.monotonic() + 10.0  # of the thread that was left behind, on a busy machine
        while list(tmp_path.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("service", ["tap", "sia", "obscore"])
@pytest.mark.parametrize("answer", ["busy", "late"])
def test_a_query_ends_when_told_to_stop(told_to_stop, service, answer, tmp_path):
    late = threading.Event()

    def answered(path):
        if answer == "late":
            late.wait(10.0)
        return BUSY

    with answering(answered) as url:
        settings = archive.ArchiveSettings(url=url, service=service, cache=tmp_path)
        sources = [Source(f"s{number}", "", 10.0 + number, 20.0) for number in range(3)]
        told_to_stop()
        seconds = seconds_until_stopped(lambda: find(sources, settings, archive.QuerySettings(), BANDS))
        late.set()
    assert seconds < 3.0


def test_what_is_asked_for_in_a_thread_of_its_own_comes_with_its_value_or_error():
    assert retries.unless_stopped(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        retries.unless_stopped(lambda: 1 / 0)
