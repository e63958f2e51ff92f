"""Time of a measurement, ours and SPXQuery's on the same files in one run. Run by hand:

    python tests/benchmarks/bench_photometry.py [--peer-python path/to/python/with/spxquery]

Prints milliseconds a file, warm (files in the page cache, one thread), and the ratio. Ours is the default method with
both estimators, the peer's its aperture sum. On a shared 2-core machine: 2.2 ms against 30 ms, ratio 0.07.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "workflow"))

from spxflow.demo import scenario  # noqa: E402
from spxflow.measure import measure, measure_exposure  # noqa: E402
from spxflow.mef import read_exposure  # noqa: E402
from spxflow.observations import Observation, parse_stem  # noqa: E402
from spxflow.settings import PhotometrySettings  # noqa: E402
from spxflow.sources import Source  # noqa: E402

SIDE = 60
ROUNDS = 7
SETTINGS = PhotometrySettings()
PEER = """
import json, logging, sys, time
from pathlib import Path
logging.disable(logging.CRITICAL)
from spxquery.core.config import PhotometryConfig, Source
from spxquery.processing.photometry import extract_source_photometry
task = json.load(sys.stdin)
source, config = Source(task["ra"], task["dec"]), PhotometryConfig()
times = []
for _ in range(task["rounds"] + 1):
    start = time.perf_counter()
    for path in task["files"]:
        extract_source_photometry(Path(path), source, config)
    times.append((time.perf_counter() - start) / len(task["files"]))
json.dump(times[1:], sys.stdout)
"""


def render(directory: Path, n_files: int) -> tuple[list[Path], Source]:
    """Default cutouts of the demonstration's target."""
    field = scenario.load("demo")
    target = field.target
    paths = []
    for file in list(field.files.values())[:n_files]:
        x, y = field.sky_to_pixel(file, target.ra_deg, target.dec_deg)
        window = (math.floor(x) - SIDE // 2 + 1, math.floor(y) - SIDE // 2 + 1, SIDE, SIDE)
        paths.append(directory / f"{file.stem}.fits")
        paths[-1].write_bytes(field.render(file, window))
    return paths, Source(target.name, target.name, target.ra_deg, target.dec_deg)


def observation_of(path: Path) -> Observation:
    identity = parse_stem(path.stem)
    return Observation(path.stem, identity.obs_id, identity.band, 6e4, 6e4, 0.0, 0.0, "", identity.version, "")


def seconds_a_file(work, items) -> list[float]:
    """Seconds an item in each round, after one to warm up."""
    times = []
    for _ in range(ROUNDS + 1):
        start = time.perf_counter()
        for item in items:
            work(item)
        times.append((time.perf_counter() - start) / len(items))
    return times[1:]


def report(name: str, times: list[float]) -> float:
    best, median = min(times) * 1e3, statistics.median(times) * 1e3
    print(f"{name:34s} {best:7.2f} ms a file at best, {median:7.2f} ms in the median round")
    return best


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", help="interpreter that has spxquery 0.4.1")
    parser.add_argument("--files", type=int, default=54)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        paths, source = render(Path(directory), arguments.files)
        observations = {path: observation_of(path) for path in paths}
        exposures = [read_exposure(path) for path in paths]
        ours = report(
            "spxflow: read and measure",
            seconds_a_file(lambda path: measure_exposure(path, source, observations[path], SETTINGS), paths),
        )
        report("spxflow: measure alone", seconds_a_file(lambda one: measure(one, source, SETTINGS), exposures))
        if arguments.peer_python:
            task = {
                "files": [str(path) for path in paths],
                "rounds": ROUNDS,
                "ra": source.ra_deg,
                "dec": source.dec_deg,
            }
            finished = subprocess.run(
                [arguments.peer_python, "-c", PEER],
                input=json.dumps(task),
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            peer = report("spxquery 0.4.1: read and measure", json.loads(finished.stdout))
            print(f"ratio {ours / peer:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
