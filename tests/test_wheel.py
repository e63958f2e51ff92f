"""The package as pip installs it: whole, and of use without the tree that it was made from."""

import os
import subprocess
import sys
import zipfile

import pytest
from conftest import REPOSITORY


def run(*command, directory, **environment):
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=directory,
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("hatchling")
    made = tmp_path_factory.mktemp("wheel")
    build = ["pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(made)]
    built = run(*build, str(REPOSITORY), directory=made)
    assert built.returncode == 0, built.stderr
    return next(made.glob("*.whl"))


def test_a_wheel_has_everything_that_is_read_at_run_time(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    package = REPOSITORY / "workflow" / "spxflow"
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "."],
        cwd=package,
        capture_output=True,
        text=True,
        check=True,
    )
    wanted = {f"spxflow/{name}" for name in tracked.stdout.splitlines()}
    wanted |= {f"spxflow/schemas/{path.name}" for path in (REPOSITORY / "workflow" / "schemas").iterdir()}
    assert wanted <= inside
    assert {name for name in inside if not name.startswith(("spxflow/", "spxflow-"))} == set()


def test_an_installed_wheel_works_by_itself(wheel, tmp_path):
    installed = run(
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(tmp_path / "site"),
        str(wheel),
        directory=tmp_path,
    )
    assert installed.returncode == 0, installed.stderr
    told = run("spxflow.demo", "truth", directory=tmp_path, PYTHONPATH=str(tmp_path / "site"))
    assert told.returncode == 0, told.stderr
    assert "flux_ujy" in told.stdout
    where = "import spxflow, spxflow.config as c; c.complete({}); print(spxflow.__file__, c.schema_path(), sep='\\n')"
    printed = subprocess.run(
        [sys.executable, "-c", where],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert all(line.startswith(str(tmp_path)) for line in printed.splitlines())
