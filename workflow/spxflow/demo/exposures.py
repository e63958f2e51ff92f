"""Which exposures a scenario has: the real Cloverleaf list, and surveys made up in its manner."""

from __future__ import annotations

import csv
import datetime
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from spxflow.demo.geometry import FRAME, TanSip, ecliptic_north_pa, pointing_for, rotated_pc
from spxflow.demo.instrument import DETECTORS, UJY_PER_ARCSEC2, generator, key_of, solid_angle_scale, wave_table
from spxflow.observations import parse_stem

EXPOSURE_DAYS = 0.001332379  # MJD-END - MJD-BEG of the real lists, d (115.117 s)
SMALL_SLEW_DAYS = 128.9 / 86400.0  # start to start within a large slew (facts 5)
SMALL_SLEW_PX = 115.0  # along +y (facts 5)
PAIRS = ((1, 4), (2, 5), (3, 6))  # detectors that see the same sky at once
QR3_FIRST_MJD = 61241.0  # 2026-07-20 (facts 2)
EDGE_PX = 31.0  # real sources lie no closer to the frame's edge than half a cutout

# Processing version and PRIMARY VERSION by time of exposure (tokens seen in the archive; which
# software version made which of them is assumed).
_PROCESSING = (
    (60980.0, "l2b-v20-2025-253", "6.5.4"),
    (61032.0, "l2b-v21-2025-354", "6.5.5"),
    (61050.0, "l2b-v22-2026-007", "6.5.5"),
    (61120.0, "l2b-v23-2026-012", "6.5.5+psffix1"),
    (61200.0, "l2b-v24-2026-089", "6.5.6"),
    (QR3_FIRST_MJD, "l2b-v25-2026-203", "6.5.7"),
    (math.inf, "l2b-v27-2026-222", "7.0.5"),
)


@dataclass(frozen=True)
class Exposure:
    """One exposure by one detector: everything its pixels and header depend on.

    ``background_mjysr`` is the brightness of the empty sky at the frame's centre, ``zodi_scale`` its ratio to the
    zodiacal model; ``target_x, target_y`` the 0-based detector pixel meant to see the target;
    ``n_nan_variance`` the number of NaN variances in the 60 x 60 cutout of the target (None: as it comes).
    """

    obs_id: str
    detector: int
    release: str
    version: str
    pipeline_version: str
    mjd_begin: float
    mjd_end: float
    wcs: TanSip
    target_x: float
    target_y: float
    psf_fwhm_arcsec: float
    zodi_scale: float
    background_mjysr: float
    n_nan_variance: int | None

    @property
    def mjd_mid(self) -> float:
        return 0.5 * (self.mjd_begin + self.mjd_end)

    @property
    def stem(self) -> str:
        return f"level2_{self.obs_id}D{self.detector}_spx_{self.version}"

    @property
    def path(self) -> str:
        """Key in the archive, after ``/ibe/data/spherex/``."""
        period = self.obs_id[:10]
        return f"{self.release}/level2/{period}/{self.version}/{self.detector}/{self.stem}.fits"


@lru_cache(maxsize=1)
def cloverleaf_exposures(ra_deg: float, dec_deg: float) -> tuple[Exposure, ...]:
    """The 108 real observations of the Cloverleaf, in order of time.

    Ids, times, versions, PSF FWHM, zodi scale, number of NaN variances and noise level are the real ones.
    The column of the source is made up (one a large slew, within a pixel), its row follows from the real wavelength.
    Where the two detectors of an exposure then want rows some pixels apart (they do, by up to 17 px) each has its own
    pointing.
    """
    text = (files("spxflow.demo") / "data" / "cloverleaf_observations.csv").read_text(encoding="ascii")
    rows = list(csv.DictReader(text.splitlines()))
    columns = _cloverleaf_columns(rows)
    exposures = [_cloverleaf_exposure(row, columns[row["obs_id"]], ra_deg, dec_deg) for row in rows]
    return tuple(sorted(exposures, key=lambda exposure: (exposure.mjd_begin, exposure.detector)))


def _cloverleaf_columns(rows: list[dict[str, str]]) -> dict[str, float]:
    """Detector column of the source by observation: one a large slew, unless the edge forbids it."""
    by_obs: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        by_obs.setdefault(row["obs_id"], []).append((int(row["band"][1]), float(row["wavelength_um"])))
    columns = {}
    for obs_id, wanted in by_obs.items():
        rng = generator("cloverleaf column", obs_id.rsplit("_", 1)[0])
        candidates = rng.uniform(EDGE_PX, FRAME - 1 - EDGE_PX, 2000)
        column = next(x for x in candidates if all(_row_fits(d, x, w) for d, w in wanted))
        columns[obs_id] = float(column + generator("cloverleaf phase", obs_id).uniform(-0.5, 0.5))
    return columns


def _row_fits(detector: int, x: float, wavelength_um: float) -> bool:
    row = wave_table(detector, "qr2").row_of(x, wavelength_um)
    return EDGE_PX <= row <= FRAME - 1 - EDGE_PX


def _cloverleaf_exposure(row: dict[str, str], x: float, ra_deg: float, dec_deg: float) -> Exposure:
    identity = parse_stem(row["url"].rsplit("/", 1)[1])
    detector = DETECTORS[identity.detector]
    sigma = math.sqrt(float(row["median_variance_uJy2_arcsec-4"])) / UJY_PER_ARCSEC2
    y = wave_table(identity.detector, "qr2").row_of(x, float(row["wavelength_um"]))
    pa = _y_axis_pa(ra_deg, dec_deg, identity.obs_id)
    return Exposure(
        obs_id=identity.obs_id,
        detector=identity.detector,
        release="qr2",
        version=identity.version,
        pipeline_version="6.5.4" if key_of("psffix", identity.obs_id) % 2 else "6.5.4+psffix1",
        mjd_begin=float(row["t_min"]),
        mjd_end=float(row["t_max"]),
        wcs=pointing_for(ra_deg, dec_deg, x, y, rotated_pc(pa, solid_angle_scale(identity.detector))),
        target_x=x,
        target_y=y,
        psf_fwhm_arcsec=float(row["psf_fwhm_arcsec"]),
        zodi_scale=float(row["zodi_scale"]),
        background_mjysr=float(detector.background_mjysr(sigma)),
        n_nan_variance=int(row["n_nan_variance"]),
    )


def _y_axis_pa(ra_deg: float, dec_deg: float, obs_id: str) -> float:
    """Position angle of +y: away from the ecliptic pole, as SPS_EPA = 180 says, within 3 degrees by period."""
    return (ecliptic_north_pa(ra_deg, dec_deg) + 180.0 + _roll_jitter(obs_id[:10])) % 360.0


@lru_cache(maxsize=512)
def _roll_jitter(period: str) -> float:
    return generator("roll", period).uniform(-3.0, 3.0)


def survey_exposures(
    ra_deg: float, dec_deg: float, seed: int, mjd_first: float, slews_per_day: float
) -> Iterator[Exposure]:
    """Exposures of a made-up survey, in order of time, without end; two detectors each.

    A large slew takes four exposures 128.9 s apart in each of which the source falls one small slew (115 px) lower on
    the detector; the detector pair changes from large slew to large slew. The n-th exposure depends on n and
    ``seed`` alone.
    """
    number = 0
    while True:
        rng = generator("survey", seed, number)
        pair = PAIRS[number % 3]
        x = rng.uniform(200.0, FRAME - 200.0)
        top = rng.uniform(120.0 + 3 * SMALL_SLEW_PX, FRAME - 120.0)
        begin = mjd_first + (number + rng.uniform(0.0, 0.5)) / slews_per_day
        for small in range(4):
            mjd = round(begin + small * SMALL_SLEW_DAYS, 9)
            obs_id = f"{_period(begin)}_{_slew_number(begin):04d}_{small + 1}"
            phase = rng.uniform(-0.5, 0.5, 2)
            for detector in pair:
                yield _survey_exposure(
                    obs_id, detector, mjd, x + phase[0], top - small * SMALL_SLEW_PX + phase[1], ra_deg, dec_deg, seed
                )
        number += 1


def _survey_exposure(
    obs_id: str, number: int, mjd: float, x: float, y: float, ra_deg: float, dec_deg: float, seed: int
) -> Exposure:
    detector = DETECTORS[number]
    rng = generator("survey exposure", seed, obs_id, number)
    _, version, pipeline = next(row for row in _PROCESSING if mjd < row[0])
    pa = _y_axis_pa(ra_deg, dec_deg, obs_id)
    return Exposure(
        obs_id=obs_id,
        detector=number,
        release="qr3" if mjd >= QR3_FIRST_MJD else "qr2",
        version=version,
        pipeline_version=pipeline,
        mjd_begin=mjd,
        mjd_end=round(mjd + EXPOSURE_DAYS, 9),
        wcs=pointing_for(ra_deg, dec_deg, x, y, rotated_pc(pa, solid_angle_scale(number))),
        target_x=x,
        target_y=y,
        psf_fwhm_arcsec=detector.psf_fwhm_arcsec * rng.uniform(0.94, 1.08),
        zodi_scale=round(detector.zodi_scale * rng.uniform(0.93, 1.12), 4),
        background_mjysr=float(detector.background_mjysr(detector.sigma_mjysr * rng.uniform(0.92, 1.12))),
        n_nan_variance=None,
    )


def _date(mjd: float) -> datetime.datetime:
    return datetime.datetime(1858, 11, 17) + datetime.timedelta(days=mjd)


def _period(mjd: float) -> str:
    """Planning period, half a week: ``2025W25_1B``."""
    year, week, day = _date(mjd).isocalendar()
    return f"{year}W{week:02d}_{1 if day <= 3 else 2}A"


def _slew_number(mjd: float) -> int:
    """Running number of a large slew within its period of up to four days, one each nine minutes."""
    date = _date(mjd)
    weekday = date.isocalendar()[2]
    start = 1 if weekday <= 3 else 4
    minutes = (weekday - start) * 1440 + date.hour * 60 + date.minute
    return 1 + minutes // 9
