"""Worker processes: one that dies takes only its own task with it, and none runs what its parent was started by."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path

import pytest
from conftest import REPOSITORY
from spxflow import files, workers
from spxflow.observations import Observation

sys.path.insert(0, str(REPOSITORY))
from scripts import measure_exposure

PACKAGE_HOME = Path(workers.__file__).parents[1]


@pytest.fixture
def pool():
    with workers.Processes(1) as processes:
        yield processes


def test_a_task_is_done_in_another_process(pool):
    assert workers.called(pool, os.getpid) != os.getpid()
    assert workers.called(pool, divmod, 7, 2) == (3, 1)


def test_an_error_of_a_task_is_its_own(pool):
    with pytest.raises(ZeroDivisionError):
        workers.called(pool, divmod, 7, 0)
    assert workers.called(pool, divmod, 7, 2) == (3, 1)


def test_a_task_that_kills_its_worker_fails_and_the_others_do_not(pool):
    with ThreadPoolExecutor(4) as threads:
        deadly = threads.submit(workers.called, pool, os._exit, 1)
        others = [threads.submit(workers.called, pool, divmod, number, 2) for number in range(6)]
        assert [other.result(timeout=60) for other in others] == [divmod(number, 2) for number in range(6)]
        with pytest.raises(BrokenProcessPool):
            deadly.result(timeout=60)
    assert workers.called(pool, divmod, 7, 2) == (3, 1)


def test_those_who_ask_at_once_share_what_is_made():
    @workers.shared
    def make(count):
        time.sleep(0.05)
        return [count]

    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(make, [2] * 8))
    assert len(set(map(id, made))) == 1
    assert make(3) == [3]


def test_an_interrupt_in_the_terminal_is_for_the_parent_alone(pool):
    worker = workers.called(pool, os.getpid)
    os.kill(worker, signal.SIGINT)
    assert workers.called(pool, os.getpid) == worker


def test_an_exposure_whose_worker_dies_is_a_row_with_a_reason(tmp_path, pool):
    (tmp_path / "transfer.json").write_text('{"status": "ok", "mode": "cutout"}', encoding="utf-8")
    obs_id, version = "2025W25_1B_0062_1", "l2b-v20-2025-252"
    stem = f"level2_{obs_id}D3_spx_{version}"
    exposure = Observation(stem, obs_id, "D3", 60842.0, 60842.1, 1.6, 2.4, "", version, "spherex_qr2")

    def dies(_, *arguments):
        return workers.called(pool, os._exit, 1)

    measure_exposure.main(
        str(tmp_path / "transfer.json"), "", str(tmp_path / "record.json"), str(tmp_path / "log"), {}, dies,
        "image.fits", {}, asdict(exposure), [], {},
    )  # fmt: skip
    record = files.read_json(tmp_path / "record.json")
    assert (record["status"], record["reason"]) == ("error", "the process that measured it died")
    assert "error" in (tmp_path / "log").read_text(encoding="utf-8")


def test_workers_do_not_run_the_script_that_started_their_parent(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys\n"
        "print('ran', file=sys.stderr)\n"
        "from spxflow import workers\n"
        "if __name__ == '__main__':\n"
        "    with workers.Processes(2) as pool:\n"
        "        print(workers.called(pool, abs, -3), os.path.basename(__file__))\n",
        encoding="utf-8",
    )
    finished = subprocess.run(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": str(PACKAGE_HOME)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert finished.stdout.split() == ["3", "script.py"]
    assert finished.stderr.count("ran") == 1
