"""Records of exposures for tests of the products: simulated ones, and those of a real star."""

import csv
import math
from pathlib import Path

import numpy as np
from spxflow.observations import BANDS
from spxflow.quality import judge
from spxflow.settings import QualitySettings
from spxflow.spectrum import band_channels
from spxflow.tables import empty_record

GAIA_STAR = Path(__file__).parent / "data" / "gaia_star" / "318381458887086976.csv"
SOURCE = {
    "key": "star",
    "name": "a star",
    "ra_deg": 213.942708,
    "dec_deg": 11.495389,
    "pmra_masyr": 1.5,
    "pmdec_masyr": -2.0,
    "parallax_mas": 0.0,
    "epoch_yr": 2016.0,
}
QUALITY = {"min_snr": 5.0, "upper_limit_sigma": 3.0}
PASS_DAYS = 20.0


def smooth_truth(wavelength_um):
    """A smooth spectrum, µJy, about 1000 at 2 µm."""
    return 2000.0 / wavelength_um * (1.0 + 0.3 * np.sin(3.0 * wavelength_um))


def record(**values):
    """One judged record with the values given."""
    return judge({**empty_record(), "status": "ok", "reason": "", **values}, QualitySettings())


def simulate(
    seed,
    snr=30.0,
    truth=smooth_truth,
    exposures=18,
    passes=2,
    errors_too_small=1.0,
    dimming=lambda mjd: 1.0,
    outliers=0.0,
):
    """Exposures of a constant source as the survey takes them: each band scanned once a pass, Gaussian noise.

    ``snr`` is that of a flux of 1000 µJy; the noise is the same everywhere.
    """
    rng = np.random.default_rng(seed)
    error = 1000.0 / snr
    simulated = []
    for band in BANDS:
        centres = [channel.wavelength_um for channel in band_channels(band)]
        for survey_pass in range(passes):
            place = rng.uniform(0.5, 1.5) + np.arange(exposures) * 17.0 / exposures
            wavelengths = np.interp(place, np.arange(1, 18), centres)
            times = 60800.0 + 180.0 * survey_pass + np.sort(rng.uniform(0.0, PASS_DAYS, exposures))
            for wavelength, mjd in zip(wavelengths, times, strict=True):
                flux = truth(wavelength) * dimming(mjd) + rng.normal(0.0, error)
                if rng.random() < outliers:
                    flux += rng.choice([-1.0, 1.0]) * rng.uniform(15.0, 100.0) * error
                simulated.append(
                    record(
                        obs_id=f"2025W{20 + survey_pass}_1A_{len(simulated):04d}_1",
                        band=band,
                        mjd=float(mjd),
                        wavelength_um=float(wavelength),
                        bandwidth_um=float(wavelength) / 40.0,
                        flux_ujy=float(flux),
                        flux_err_ujy=error / errors_too_small,
                        flags=2097152,
                    )
                )
    return simulated


def real_star():
    """The 278 published exposures of a Gaia star, judged; flags of bad pixels make a record ``unusable``."""
    bad = sum(1 << bit for bit in (0, 1, 2, 6, 7, 9, 10, 11, 14, 15, 17, 19))
    with open(GAIA_STAR, newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return [
        record(
            obs_id=row["obs_id"],
            band=row["band"],
            mjd=float(row["mjd"]),
            wavelength_um=float(row["wavelength"]),
            bandwidth_um=float(row["bandwidth"]),
            flux_ujy=float(row["flux"]),
            flux_err_ujy=float(row["flux_error"]),
            flags=int(row["flag"]),
            status="unusable" if int(row["flag"]) & bad else "ok",
            reason="bad pixels in the aperture" if int(row["flag"]) & bad else "",
            x_pix=float(row["pix_x"]),
            y_pix=float(row["pix_y"]),
        )
        for row in rows
    ]


def missing(status="download_failed", reason="HTTP 404: not found", **values):
    """A record of a file that was not had."""
    return record(status=status, reason=reason, obs_id="2025W20_1A_0001_1", band="D1", mjd=60810.5, **values)


def same(a, b):
    """Whether two numbers are the same, bit for bit; None and NaN are alike."""
    a, b = (math.nan if value is None else float(value) for value in (a, b))
    return np.float64(a).tobytes() == np.float64(b).tobytes() or (math.isnan(a) and math.isnan(b))
