"""Cost of the workflow: overhead a file, start-up, nothing to do, growth, memory, and end to end beside SPXQuery.

    python tests/benchmarks/bench_workflow.py [PART ...] [--peer-python path/to/python/with/spxquery]

Parts: overhead, rerun, growth, catalogue, endtoend (default: all). Everything
runs against the local archive on loopback, in a temporary directory; seconds are of whole processes. `make benchmark`
runs all; results with machine and date are in docs/performance.md.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import datetime
import json
import os
import platform
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "workflow"))
ENVIRONMENT = {**os.environ, "MPLBACKEND": "agg", "PYTHONPATH": str(REPOSITORY / "workflow")}
PRODUCTS = "products=[photometry,lightcurve,combined_plot,state]"  # what the peer makes too
LINE = {"latency_s": 0.3, "bytes_per_s": 3e6}  # about what the real archive gives

PEER = """
import json, logging, os, sys, time
task = json.load(sys.stdin)
from spxquery.core import query
query.TAP_URL = task["url"] + "/TAP"
query._ADQL_SELECT = query._ADQL_SELECT.replace("https://irsa.ipac.caltech.edu/", task["url"] + "/")
from spxquery.core import pipeline
spent = dict.fromkeys(("run_query", "run_download"), 0.0)
def timed(name, stage):
    def run(*arguments, **options):
        begin = time.monotonic()
        stage(*arguments, **options)
        spent[name] = time.monotonic() - begin
    return run
for name in spent:
    setattr(pipeline.SPXQueryPipeline, name, timed(name, getattr(pipeline.SPXQueryPipeline, name)))
pipeline.run_pipeline(task["ra"], task["dec"], output_dir=task["directory"], source_name="peer", cutout_size="60px",
                      max_download_workers=4, max_processing_workers=task["workers"], log_level="WARNING")
print("\\nsecond(s) before processing:", sum(spent.values()))
"""


@dataclass(frozen=True)
class Cost:
    """Of a process with its children: wall time s, processor time s but for that of workers, largest memory of all
    together MB, and how many cores of the machine were at work meanwhile, for the archive as well.
    """

    wall_s: float
    cpu_s: float
    memory_mb: float
    busy_cores: float


def measured(command: list[str], directory: Path, text: str | None = None) -> Cost:
    """Run a command to its end; refuse one that fails."""
    log = directory.with_suffix(".log")
    before, idle_s = os.times(), psutil.cpu_times().idle
    begin = time.monotonic()
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command, cwd=directory, env=ENVIRONMENT, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.PIPE
        )
        peak = _Peak(process.pid)
        process.communicate(None if text is None else text.encode())
    wall_s = time.monotonic() - begin
    busy_cores = (os.cpu_count() or 1) - (psutil.cpu_times().idle - idle_s) / wall_s
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)[:200]} failed:\n{log.read_text(errors='replace')[-3000:]}")
    after = os.times()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return Cost(wall_s, cpu_s, peak.stop(), busy_cores)


class _Peak:
    """Largest memory of a process and its children together; shared pages count once (PSS)."""

    def __init__(self, pid: int) -> None:
        self._largest = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(psutil.Process(pid),), daemon=True)
        self._thread.start()

    def _watch(self, process: psutil.Process) -> None:
        while not self._over.wait(0.5):
            total = 0
            with contextlib.suppress(psutil.Error):
                for one in (process, *process.children(recursive=True)):
                    with contextlib.suppress(psutil.Error):
                        total += one.memory_full_info().pss
            self._largest = max(self._largest, total)

    def stop(self) -> float:
        self._over.set()
        self._thread.join()
        return self._largest / 1e6


@contextlib.contextmanager
def archive(scenario: str, directory: Path, faults: dict[str, Any] | None = None, **overrides: Any) -> Iterator[str]:
    """The local archive in a process of its own."""
    port = directory / "port"
    port.unlink(missing_ok=True)
    command = [sys.executable, "-m", "spxflow.demo", "serve", "--scenario", scenario, "--port-file", str(port)]
    command += [f"--set={name}={value}" for name, value in overrides.items()]
    command += ["--exit-with-parent", "--control", *(["--faults", json.dumps(faults)] if faults else [])]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    try:
        while not port.exists():
            if process.poll() is not None:
                raise RuntimeError("the local archive did not start")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{int(port.read_text())}"
    finally:
        process.terminate()
        process.wait()


def received(url: str) -> int:
    """Bytes that the archive has sent."""
    import requests

    return requests.post(f"{url}/_control", json={}, timeout=30).json()["bytes_sent"]


class Runs:
    """Runs of the workflow in one directory."""

    def __init__(self, directory: Path, url: str, target: list[str]) -> None:
        self.directory = directory
        self.directory.mkdir(exist_ok=True)
        self._config = ["archive={url: " + url + "}", *target]

    def __call__(self, *config: str, targets: tuple[str, ...] = (), options: tuple[str, ...] = ()) -> Cost:
        return measured(self.command(*config, targets=targets, options=options), self.directory)

    def command(self, *config: str, targets: tuple[str, ...] = (), options: tuple[str, ...] = ()) -> list[str]:
        """The command of a run."""
        command = [sys.executable, "-m", "snakemake", "--cores", "2", "--snakefile", str(REPOSITORY / "Snakefile")]
        return [*command, *options, "--config", *self._config, *config, *(("--", *targets) if targets else ())]

    @property
    def printed(self) -> str:
        return self.directory.with_suffix(".log").read_text(errors="replace")


def target_of(name: str) -> list[str]:
    """Position of a scenario's target."""
    from spxflow.demo.scenario import RECIPES

    target = RECIPES[name].target
    return [f"ra={target.ra_deg}", f"dec={target.dec_deg}", "name=target"]


def report(what: str, value: float, unit: str, bar: str = "") -> None:
    """One line of the result."""
    print(f"{what:<78s} {value:9.3f} {unit:<8s} {bar}", flush=True)


def overhead(home: Path, _: argparse.Namespace) -> None:
    """File by file: overhead of a job, start-up, nothing to do."""
    report(
        "start-up: from the command to the first request of the first job", _start_up_s(home / "start"), "s", "bar: 3"
    )
    with archive("many", home, n=300) as url:
        run = Runs(home / "flat", url, target_of("many"))
        query = run(targets=("query",))
        report("start-up and query of 300 files", query.wall_s, "s")
        whole = run(PRODUCTS)
        report("300 files, file by file: fetched and measured, products", whole.wall_s, "s")
        report("300 files, nothing to do", run(PRODUCTS).wall_s, "s", "bar: 4")
        changed = "photometry={psf: {radius_px: 3.5}}"
        again = run(PRODUCTS, changed)
        report("300 files, measured again", again.wall_s, "s")
        per_file_s = _seconds_a_file(run.directory, "out/target")
        report("  of a file: measuring itself", 1e3 * per_file_s, "ms")
        empty = run(PRODUCTS, changed, "quality={min_snr: 6}")  # all products again, and no file
        for what, spent_s in (("", again.wall_s - empty.wall_s), (", processor time", again.cpu_s - empty.cpu_s)):
            report(
                f"  of a file: scheduling and bookkeeping{what}", 1e3 * (spent_s / 300 - per_file_s), "ms", "bar: 15"
            )
        run = Runs(home / "batch", url, [*target_of("many"), "batch=true"])
        run(PRODUCTS)
        report("300 files in one job, measured again", run(PRODUCTS, changed).wall_s, "s")
        report("300 files in one job, nothing to do", run(PRODUCTS, changed).wall_s, "s")


def _start_up_s(directory: Path) -> float:
    """Time until the workflow first asks an archive, which here is a socket that never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        run = Runs(directory, f"http://127.0.0.1:{server.getsockname()[1]}", target_of("many"))
        begin = time.monotonic()
        process = subprocess.Popen(
            run.command(), cwd=directory, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        server.accept()[0].close()
        seconds = time.monotonic() - begin
        process.kill()
        process.wait()
    return seconds


def _seconds_a_file(directory: Path, source: str) -> float:
    """Time of one measurement alone, warm, one thread."""
    code = (
        "import json, sys, time; from pathlib import Path; from spxflow.measure import measure_exposure;"
        "from spxflow.observations import read_observations; from spxflow.settings import PhotometrySettings;"
        "from spxflow.sources import Source; home = Path(sys.argv[1]);"
        "facts = json.loads((home / 'records/exposures.json').read_text())['source'];"
        "source = Source(**facts); settings = PhotometrySettings();"
        "files = [(home / 'data' / o.band / (o.stem + '.fits'), o)"
        "         for o in read_observations(home / 'records/observations.csv')];"
        "measure = lambda: [measure_exposure(path, source, o, settings) for path, o in files];"
        "measure(); begin = time.monotonic(); measure(); print((time.monotonic() - begin) / len(files))"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code, str(directory / source)],
        env=ENVIRONMENT, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return float(finished.stdout)


def growth(home: Path, arguments: argparse.Namespace) -> None:
    """Time and memory against the number of exposures of one deep source, whose images are not kept."""
    for n in arguments.sizes:
        for batch in arguments.batch:
            with archive("deep", home, n=n) as url:
                config = [*target_of("deep"), f"batch={batch}", "download={mode: slim, keep: false}"]
                run = Runs(home / f"deep-{n}-{batch}", url, config)
                how = "in one job" if batch == "true" else "file by file"
                cost = run(PRODUCTS)
                report(f"deep, {n} exposures {how}: all", cost.wall_s, "s")
                report(f"  a file, the archive on the same cores included: {n} {how}", 1e3 * cost.wall_s / n, "ms")
                report(f"  memory: {n} {how}", cost.memory_mb, "MB", "bar: 1500")
                cost = run(PRODUCTS)
                bar = {True: "bar: 15", False: ""}[n == 5000]
                report(f"  nothing to do: {n} {how}", cost.wall_s, "s", bar)
                report(f"  nothing to do, memory: {n} {how}", cost.memory_mb, "MB")


def catalogue(home: Path, arguments: argparse.Namespace) -> None:
    """Catalogues of sources x 108 exposures, their planning, and what the way of decision 8 costs against batches."""
    with archive("demo", home) as url:
        for count in arguments.catalogues:
            run = Runs(home / f"run-{count}", url, _catalogue_of(home, count))
            cost = run(PRODUCTS)
            report(f"catalogue of {count} sources x 108 exposures", cost.wall_s, "s")
            report(f"  a source: {count}", cost.wall_s / count, "s")
            report(f"  cores at work, for the archive too: {count}", cost.busy_cores, "")
            report(f"  memory: {count}", cost.memory_mb, "MB")
            report(f"  nothing to do: {count}", run(PRODUCTS).wall_s, "s")
            target = _catalogue_of(home, count + 10)
            report(f"  ten sources more: {count}", Runs(run.directory, url, target)(PRODUCTS).wall_s, "s")
        one = Runs(home / "one", url, [*target_of("demo"), "download={mode: slim}"])
        one(PRODUCTS)
        report("a Snakemake of its own for a source (decision 8), at least", one(PRODUCTS).wall_s, "s")
        for count in arguments.sources:
            run = Runs(home / f"plan-{count}", url, _catalogue_of(home, count))
            cost = run(PRODUCTS, options=("--dry-run", "--quiet"))
            report(f"catalogue of {count} sources, planning", cost.wall_s, "s")
            report(f"  memory: {count}", cost.memory_mb, "MB")


def _catalogue_of(home: Path, count: int) -> list[str]:
    """The configuration for a catalogue of positions on a grid around the demonstration's target."""
    from spxflow.demo.scenario import RECIPES

    target = RECIPES["demo"].target
    path = home / f"grid-{count}.csv"
    side, step_deg = 32, 0.02
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("id", "ra", "dec"))
        for number in range(count):
            x, y = number % side - side // 2, number // side - side // 2
            writer.writerow((f"grid-{number}", target.ra_deg + step_deg * x, target.dec_deg + step_deg * y))
    return [f"sources={path}", "download={mode: slim}"]


def rerun(home: Path, arguments: argparse.Namespace) -> None:
    """Photometry again after an option changed, whole process, beside the peer's processing and plotting."""
    for scenario, n in (("demo", 108), ("deep", arguments.rerun)):
        overrides = {} if scenario == "demo" else {"n": n}
        with archive(scenario, home, **overrides) as url:
            ours = {}
            for batch in ("false", "true"):
                run = Runs(home / f"rerun-{n}-{batch}", url, [*target_of(scenario), f"batch={batch}"])
                run(PRODUCTS)
                cost = run(PRODUCTS, "photometry={aperture: {diameter_fwhm: 2.0}}")
                ours[batch] = cost.wall_s
                report(f"{n} files measured again, batch={batch}", cost.wall_s, "s")
            if arguments.peer_python is None:
                continue
            directory = home / f"peer-{n}"
            data = directory / "data"
            data.mkdir(parents=True)
            # the peer names its files {band}/{obs_id}.fits
            for image in (home / f"rerun-{n}-true" / "out" / "target" / "data").rglob("*.fits"):
                obs_id = re.search(r"level2_(.+)D\d_spx", image.name)[1]
                link = data / image.parent.name / f"{obs_id}.fits"
                link.parent.mkdir(exist_ok=True)
                link.symlink_to(image)
            peer_s = _peer(arguments.peer_python, directory, url, scenario).wall_s
            peer_s -= float(directory.with_suffix(".log").read_text().split("second(s) before processing:")[1])
            report(f"{n} files, the peer's process without query and download", peer_s, "s")
            for batch, wall_s in ours.items():
                bar = "bar: 1.0" if n == 108 else "bar: 0.5"
                report(f"  ratio, batch={batch}", wall_s / peer_s, "", bar)


def _peer(python: str, directory: Path, url: str, scenario: str) -> Cost:
    from spxflow.demo.scenario import RECIPES

    directory.mkdir(exist_ok=True)
    target = RECIPES[scenario].target
    task = {"directory": str(directory), "workers": 2, "ra": target.ra_deg, "dec": target.dec_deg, "url": url}
    return measured([python, "-c", PEER], directory, json.dumps(task))


def endtoend(home: Path, arguments: argparse.Namespace) -> None:
    """From a position to a plot over a line like the real one: 0.3 s latency, 3 MB/s a connection, four connections."""
    with archive("demo", home, faults=LINE) as url:
        results: dict[str, tuple[Cost, int]] = {}
        if arguments.peer_python is not None:
            before = received(url)
            cost = _peer(arguments.peer_python, home / "peer", url, "demo")
            results["peer"] = cost, received(url) - before
        for mode in ("cutout", "slim"):
            run = Runs(home / mode, url, target_of("demo"))
            config = [PRODUCTS, f"download={{mode: {mode}}}", f"calibration={{directory: {home / 'calibration'}}}"]
            if mode == "slim":
                Runs(home / "warm", url, target_of("demo"))(
                    *config, "query={mjd_max: 60850}"
                )  # fills the calibration cache
            before = received(url)
            results[mode] = run(*config), received(url) - before
    for name, (cost, size) in results.items():
        report(f"end to end, {name}", cost.wall_s, "s")
        report(f"  bytes an exposure: {name}", size / 108 / 1e6, "MB", "bar: 0.3" if name == "slim" else "")
    if "peer" in results:
        peer, peer_bytes = results["peer"]
        for name, bar, bar_bytes in (("cutout", "bar: 1.0", ""), ("slim", "bar: 0.4", "bar: 0.1")):
            report(f"  {name} to peer, time", results[name][0].wall_s / peer.wall_s, "", bar)
            report(f"  {name} to peer, bytes", results[name][1] / peer_bytes, "", bar_bytes)


PARTS = {part.__name__: part for part in (overhead, rerun, growth, catalogue, endtoend)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"what to measure: {', '.join(PARTS)}; default: all")
    parser.add_argument("--peer-python", help="interpreter that has spxquery 0.4.1")
    parser.add_argument("--sizes", type=int, nargs="*", default=[100, 1000], help="exposures of the deep source")
    parser.add_argument("--batch", nargs="*", default=["true", "false"], help="ways in which the deep source is done")
    parser.add_argument("--catalogues", type=int, nargs="*", default=[20], help="sources of catalogues that are run")
    parser.add_argument("--sources", type=int, nargs="*", default=[100, 1000], help="sources of planned catalogues")
    parser.add_argument("--rerun", type=int, default=2000, help="files measured again")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    memory_gb = psutil.virtual_memory().total / 2**30
    print(f"{datetime.date.today()}: {os.cpu_count()} cores, {memory_gb:.0f} GB, {platform.machine()},"
          f" Python {platform.python_version()}")  # fmt: skip
    for name in arguments.parts or PARTS:
        with tempfile.TemporaryDirectory(prefix="spxflow-benchmark-") as home:
            print(f"\n{name}: {(PARTS[name].__doc__ or '').strip()}", flush=True)
            PARTS[name](Path(home), arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
