"""Programs that tests run and pip does not have: from Debian's packages, installed where that is possible."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

_LOCK = Path(tempfile.gettempdir()) / "spxflow-tests-apt.lock"


class UnavailableError(RuntimeError):
    """Why a program cannot be had."""


def have(programs, packages, search_path=None):
    """Have all programs on the search path, from the packages if they are not there.

    Raises
    ------
    UnavailableError
        Saying why, when they cannot be had here.
    """

    def missing():
        return [program for program in programs if shutil.which(program, path=search_path) is None]

    if not missing():
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise UnavailableError(f"{', '.join(missing())} not installed (apt-get install {' '.join(packages)})")
    with open(_LOCK, "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # apt-get does not wait for another one, as of a test that runs beside
        if missing():
            _install(packages)


def _install(packages):
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    patience = ("-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20")
    for command in (("update",), ("install", "-y", "--no-install-recommends", *packages)):
        try:
            done = subprocess.run(
                ["apt-get", "-q", *patience, *command],
                env=environment, capture_output=True, text=True, timeout=300, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise UnavailableError(f"apt-get {command[0]} did not end in 300 s") from None
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["?"])[-1]
            raise UnavailableError(f"apt-get {command[0]} failed: {reason}")
