"""How accurate the measurement is on the local archive's truth: the table of docs/method.md. Run by hand:

python tests/benchmarks/accuracy.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "workflow"), str(REPOSITORY / "tests")]

import test_truth as truth  # noqa: E402


def isolated(field):
    """Isolated stars of S/N 20 to 100, as in the tests."""
    return truth.isolated.__wrapped__(type("Request", (), {"param": field}))


def line(label, seen, estimator):
    """Print median of the flux ratio, and mean and standard deviation of the pulls."""
    flux, error, true = truth.columns(seen, estimator)
    pulls = (flux - true) / error
    ratio = f"{100 * (np.median(flux / true) - 1):+.2f} %" if (true > 0).all() else "-"
    print(
        f"| {label} | {estimator} | {flux.size} of {len(seen)} | {ratio} | {pulls.mean():+.2f} | {pulls.std():.2f} |",
        flush=True,
    )


def main():
    """Print the table."""
    print("| sources | estimator | used | median flux / truth - 1 | mean pull | std of pulls |")
    print("|---|---|---|---|---|---|")
    for field in truth.FIELDS:
        stars = isolated(field)
        for estimator in ("psf", "aperture"):
            line(f"{field}: isolated, S/N 20-100", [(star.record, star.truth) for star in stars], estimator)
        for radius in truth.RADII_PX:
            line(
                f"{field}: the same, radius {radius} px",
                [(star.by_radius[radius], star.truth) for star in stars if star.by_radius],
                "aperture",
            )
        usable = [star for star in stars if star.record["status"] == "ok"]
        misses = [(star.record["psf_flux_ujy"] - star.truth["flux_ujy"]) / star.bound for star in usable]
        print(f"| {field}: scatter over the Cramer-Rao bound | psf | {len(usable)} | | | {np.std(misses):.3f} |")
        for kind, step in (("blank", 1), ("faint", 2)):
            seen = truth.observe(field, kind, step)
            for estimator in ("psf", "aperture"):
                line(f"{field}: {kind}", seen, estimator)
        seen = truth.observe(field, "blend", 4, neighbour_of=truth.partner)
        for estimator in ("psf", "aperture"):
            line(f"{field}: blends, neighbour given", seen, estimator)


if __name__ == "__main__":
    main()
