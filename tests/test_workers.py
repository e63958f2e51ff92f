"""Worker processes: one that dies takes only its own task with it, and none runs what its parent was started by."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
from spxflow import workers

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
