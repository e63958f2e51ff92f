"""A name on disk never points at half a file."""

import signal
import subprocess
import sys
import time

import pytest
from spxflow import files


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "a" / "file.txt"
    files.write_atomically(target, "old")
    with pytest.raises(RuntimeError), files.partial_path(target) as partial:
        partial.write_text("half of the new")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(target.parent.iterdir()) == [target]


def test_not_a_number_is_refused_in_json(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "x.json", {"flux": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_what_killed_writers_left_is_removed(tmp_path):
    files.write_atomically(tmp_path / "a" / "kept.fits", "x")
    (tmp_path / "a" / ".kept.fits.0123abcd.part").touch()
    (tmp_path / "a" / ".lock").touch()
    files.remove_partials(tmp_path)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [".lock", "kept.fits"]


def test_killed_writer_never_shows_half_a_file(tmp_path):
    target = tmp_path / "big.json"
    code = (
        "import sys; from spxflow import files\n"
        "n = 0\n"
        "while True:\n"
        "    n += 1\n"
        "    files.write_json(sys.argv[1], [n] * 200_000)\n"
    )
    for delay in (0.3, 0.37, 0.45):
        writer = subprocess.Popen([sys.executable, "-c", code, str(target)])
        deadline = time.monotonic() + 20
        while not target.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        numbers = files.read_json(target)
        assert len(numbers) == 200_000
        assert len(set(numbers)) == 1
