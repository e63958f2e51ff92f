"""Compare aperture photometry with SPXQuery 0.4.1, number by number, on the same files. Run by hand:

    python tests/peers/compare_spxquery.py --peer-python path/to/python/with/spxquery

Files are cutouts of the local archive's scenarios; the method is that of config/spxquery.yaml, with both kinds of
aperture and of background.

Result, with photutils 2.3.0 and astropy 7.2.3 on the peer's side: for 1,024 QR2 files (demo and field2, six sources
each), times four methods, the peer gives 3,852 numbers. All of them agree, relative to 2.5e-6 in flux and 2.9e-7 in
error. For another 188 only we have a number: the peer drops exposures with an unflagged NaN variance, and fluxes that
are not positive.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "workflow"))

from spxflow.demo import scenario  # noqa: E402
from spxflow.measure import measure_exposure  # noqa: E402
from spxflow.observations import Observation, parse_stem  # noqa: E402
from spxflow.settings import PhotometrySettings  # noqa: E402
from spxflow.sources import Source  # noqa: E402

TOLERANCE = 1e-4
PEER = """
import json, logging, sys
from pathlib import Path
logging.disable(logging.CRITICAL)
from spxquery.core.config import PhotometryConfig, Source
from spxquery.processing.photometry import extract_source_photometry
task = json.load(sys.stdin)
results = []
for options in task["options"]:
    config = PhotometryConfig(**options)
    for path, ra, dec in task["files"]:
        found = extract_source_photometry(Path(path), Source(ra, dec), config)
        results.append(None if found is None else [float(found.flux), float(found.flux_error)])
json.dump(results, sys.stdout)
"""


def render(directory: Path, name: str, source_names: list[str], size_px: int) -> list[tuple[Path, Source]]:
    """Cutouts of a scenario around some of its sources."""
    field = scenario.load(name)
    sources = {item.name: item for item in field.sky.sources}
    truth = {(row["stem"], row["source"]): row for row in field.truth()}
    made = []
    for file, source_name in itertools.product(field.files.values(), source_names):
        row = truth.get((file.stem, source_name))
        if row is None or file.release != "qr2":
            continue
        x0, y0 = (math.floor(float(row[axis])) - size_px // 2 + 1 for axis in ("x_det", "y_det"))
        window = (max(x0, 0), max(y0, 0), min(size_px, 2040 - x0), min(size_px, 2040 - y0))
        path = directory / source_name / f"{file.stem}.fits"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(field.render(file, window))
        item = sources[source_name]
        made.append((path, Source(source_name, source_name, item.ra_deg, item.dec_deg)))
    return made


def measured_by_peer(python: str, files: list[tuple[Path, Source]], options: list[dict[str, Any]]) -> list[Any]:
    """[flux, error] in µJy or None for each option and file, from the peer in an interpreter of its own."""
    task = {"options": options, "files": [(str(path), source.ra_deg, source.dec_deg) for path, source in files]}
    finished = subprocess.run(
        [python, "-c", PEER], input=json.dumps(task), stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(finished.stdout)


def measured_here(path: Path, source: Source, method: str, background: str) -> dict[str, Any]:
    """Our record of one file, by the peer's method."""
    config = yaml.safe_load((REPOSITORY / "config" / "spxquery.yaml").read_text(encoding="utf-8"))
    config["photometry"]["aperture"]["method"] = method
    config["photometry"]["background"]["method"] = background
    identity = parse_stem(path.stem)
    observation = Observation(path.stem, identity.obs_id, identity.band, 6e4, 6e4, 0.0, 0.0, "", identity.version, "")
    return measure_exposure(path, source, observation, PhotometrySettings.from_config(config))


def compare(python: str, files: list[tuple[Path, Source]]) -> bool:
    """Print the differences; whether all are within the tolerance."""
    methods = list(itertools.product(("fwhm", "fixed"), ("annulus", "window")))
    theirs = measured_by_peer(
        python, files, [{"aperture_method": method, "background_method": background} for method, background in methods]
    )
    agreed = True
    for (method, background), start in zip(methods, itertools.count(0, len(files)), strict=False):
        ours = [measured_here(path, source, method, background) for path, source in files]
        pairs = list(zip(ours, theirs[start : start + len(files)], strict=True))
        numbers = [(record, peer) for record, peer in pairs if peer is not None and math.isfinite(peer[0] + peer[1])]
        lost = [record for record, _ in numbers if record["aperture_raw_flux_ujy"] is None]
        kept = [(record, peer) for record, peer in numbers if record["aperture_raw_flux_ujy"] is not None]
        flux = [abs(record["aperture_raw_flux_ujy"] / peer[0] - 1.0) for record, peer in kept]
        error = [abs(record["aperture_raw_flux_err_ujy"] / peer[1] - 1.0) for record, peer in kept]
        more = sum(record["aperture_raw_flux_ujy"] is not None for record in ours) - len(kept)
        print(
            f"{method:5s} {background:7s}: {len(files)} files, {len(numbers)} numbers from the peer,"
            f" {len(lost)} of them not from us, {more} from us alone;"
            f" largest relative difference: flux {max(flux):.1e}, error {max(error):.1e}"
        )
        for (record, peer), difference in zip(kept, flux, strict=True):
            if difference > TOLERANCE:
                print(f"    {record['file']} {record['background_step']}: {record['aperture_raw_flux_ujy']} {peer[0]}")
        agreed = agreed and not lost and max(*flux, *error) <= TOLERANCE
    return agreed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", required=True, help="interpreter that has spxquery 0.4.1")
    parser.add_argument(
        "--sources", default="isolated-03,isolated-09,faint-04,blend-02a,spiked", help="besides the target"
    )
    parser.add_argument("--size", type=int, default=60, help="side of the cutouts, px")
    arguments = parser.parse_args()
    agreed = True
    for name in ("demo", "field2"):
        with tempfile.TemporaryDirectory() as directory:
            names = [scenario.load(name).target.name, *arguments.sources.split(",")]
            print(name)
            agreed = compare(arguments.peer_python, render(Path(directory), name, names, arguments.size)) and agreed
    print("agreed" if agreed else "NOT agreed", f"within {TOLERANCE:g}")
    return 0 if agreed else 1


if __name__ == "__main__":
    sys.exit(main())
