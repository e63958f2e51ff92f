"""The spectrum of a source: its exposures combined in the mission's 102 spectral channels."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from spxflow.config import Section
from spxflow.smooth import SmoothSpectrum, slope_weights, smooth_spectrum, smooth_variance
from spxflow.tables import FLUX_UCD, Column

_SIGNIFICANCE = 0.001  # chance of a chi-square from which on a channel's own scatter is believed
_SCATTER_ITERATIONS = 5
_MANY_CHANNELS = 5  # whose median no outlier sets
_LARGEST_SCATTER = 2.0  # times that about the smooth spectrum, which many points tell, but curvature adds to
_ROUNDING = 1e-6  # is what is left of a chi-square that the slope takes altogether
_LEAST_EXPECTED = 0.5  # for one channel: where the slope takes more, its chi-square is that of the neighbours
_LINE_SIGMA = 0.42  # channels: profile of an unresolved line, as wide as the passband (1 channel FWHM)
_LINE_REACH = 0.75  # channels from its centre that a line reaches
_CONTINUUM_REACH, _CONTINUUM_POINTS = 3.5, 3  # channels around it, and points, that tell the continuum
_TELLING_SIGMA = 4.0


@dataclass(frozen=True)
class SpectrumSettings(Section):
    """Section ``spectrum`` of the configuration.

    ``statuses`` names the exposures that enter; there is no cut in signal-to-noise ratio, which would bias faint
    channels. ``outlier_sigma`` of 0 rejects nothing. ``smoothing_channels`` is the half width of the local lines,
    ``pass_gap_days`` the time without exposures that separates two survey passes.
    """

    statuses: tuple[str, ...] = ("ok", "flagged")
    outlier_sigma: float = 5.0
    smoothing_channels: float = 1.5
    pass_gap_days: float = 40.0


@dataclass(frozen=True)
class Channel:
    """One of the 17 spectral channels of a detector.

    ``wavelength_um`` is the median over the channel's pixels, the limits are those of its pixels (channels of a
    detector overlap a little), ``bandwidth_um`` is the wavelength over the resolving power. Source: calibration
    product ``spectral_channels`` (``cal-sch-v1-2026-106``).
    """

    detector: int
    channel: int
    wavelength_um: float
    wavelength_min_um: float
    wavelength_max_um: float
    resolution: float
    resolution_std: float
    bandwidth_um: float

    @property
    def band(self) -> str:
        return f"D{self.detector}"


@cache
def channels() -> tuple[Channel, ...]:
    """The 102 channels, by detector and then wavelength, which is by wavelength altogether."""
    with files("spxflow").joinpath("data/spectral_channels.csv").open(encoding="utf-8") as stream:
        return tuple(
            Channel(int(detector), int(channel), *map(float, values))
            for detector, channel, *values in list(csv.reader(stream))[1:]
        )


@cache
def band_channels(band: str) -> tuple[Channel, ...]:
    """The channels of one detector, by wavelength."""
    return tuple(channel for channel in channels() if channel.band == band)


@cache
def band_limits_um(band: str) -> tuple[float, float]:
    """Shortest and longest wavelength of a detector's channels, in µm."""
    own = band_channels(band)
    return own[0].wavelength_min_um, own[-1].wavelength_max_um


def channel_coordinate(band: str, wavelength_um: np.ndarray) -> np.ndarray:
    """Channel number as a continuous coordinate: 1 at the first channel's wavelength, straight lines in between."""
    centres = np.array([channel.wavelength_um for channel in band_channels(band)])
    numbers = np.arange(1.0, len(centres) + 1.0)
    inside = np.interp(wavelength_um, centres, numbers)
    first, last = centres[1] - centres[0], centres[-1] - centres[-2]
    before, after = np.minimum(wavelength_um - centres[0], 0.0), np.maximum(wavelength_um - centres[-1], 0.0)
    return inside + before / first + after / last


@dataclass(frozen=True)
class Samples:
    """The usable exposures of one detector, sorted by wavelength.

    Arrays of shape (n,): ``row`` is the position in the list of records, ``x`` the channel coordinate, ``flux`` and
    ``error`` are in µJy, signed.
    """

    band: str
    row: np.ndarray
    mjd: np.ndarray
    wavelength_um: np.ndarray
    x: np.ndarray
    flux: np.ndarray
    error: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    def chosen(self, which: np.ndarray) -> Samples:
        """The samples of a mask or an index array."""
        arrays = (self.row, self.mjd, self.wavelength_um, self.x, self.flux, self.error)
        return Samples(self.band, *(array[which] for array in arrays))


def samples_by_band(records: Sequence[Mapping[str, Any]], statuses: Iterable[str]) -> list[Samples]:
    """Records with one of the statuses, a signed flux and a positive error, for each detector that has any."""
    allowed = set(statuses)
    bands: dict[str, list[tuple[float, float, float, float, int]]] = {}
    for row, record in enumerate(records):
        values = [record[name] for name in ("wavelength_um", "mjd", "flux_ujy", "flux_err_ujy")]
        if record["status"] in allowed and None not in values and values[3] > 0:
            bands.setdefault(record["band"], []).append((*values, row))
    gathered = []
    for band in sorted(bands):
        wavelength, mjd, flux, error, rows = (np.array(column) for column in zip(*sorted(bands[band]), strict=True))
        gathered.append(Samples(band, rows, mjd, wavelength, channel_coordinate(band, wavelength), flux, error))
    return gathered


def smooth_samples(samples: Samples, settings: SpectrumSettings) -> SmoothSpectrum:
    """The detector's smooth spectrum through its samples."""
    return smooth_spectrum(samples.x, samples.flux, samples.error, settings.smoothing_channels)


def outliers(samples: Samples, smooth: SmoothSpectrum, sigma: float) -> np.ndarray:
    """Samples that no real spectrum explains.

    An outlier deviates from the smooth spectrum of the others by more than ``sigma``, and no spectral line can be the
    reason: a line is as wide as the instrument's passband, about one channel. So on one side of the point at least
    its neighbours are raised as much, and on the other they cannot fall more steeply than the flank of the passband.
    Where neighbours should show that and do not, the point is an outlier; where they are absent or too noisy to tell,
    it stays.

    Returns
    -------
    ndarray of bool, shape (n,)
    """
    rejected = np.zeros(len(samples), dtype=bool)
    if sigma <= 0:
        return rejected
    deviant = np.abs(smooth.deviation) > sigma
    for one in map(int, np.flatnonzero(deviant)):
        near = np.flatnonzero(np.abs(samples.x - samples.x[one]) <= _CONTINUUM_REACH)
        here = int(np.searchsorted(near, one))
        rejected[one] = _is_no_line(here, samples.chosen(near), deviant[near], smooth.scale)
    return rejected


def _is_no_line(one: int, samples: Samples, deviant: np.ndarray, scale: float) -> bool:
    """Whether the neighbours deny that a point is raised (or lowered) by a line.

    The excesses are over a straight continuum through the calm points further out than a line reaches.
    """
    offset = samples.x - samples.x[one]
    far = (np.abs(offset) > _LINE_REACH) & ~deviant
    if far.sum() < _CONTINUUM_POINTS:
        return False
    degree = 1 if (offset[far] < 0).any() and (offset[far] > 0).any() else 0
    continuum = np.polynomial.Polynomial.fit(offset[far], samples.flux[far], degree, w=1.0 / samples.error[far])
    excess = samples.flux - continuum(offset)
    own, raised, noise = abs(excess[one]), excess * np.sign(excess[one]), scale * samples.error

    def deny(where: np.ndarray, profile: np.ndarray) -> bool:
        where = where & (np.abs(offset) <= _LINE_REACH) & (np.arange(len(samples)) != one)
        return _denies_line(profile[where], raised[where], noise[where], own, noise[one])

    peak = np.exp(-0.5 * (offset / _LINE_SIGMA) ** 2)
    flank = peak * np.exp(-_LINE_REACH * np.abs(offset) / _LINE_SIGMA**2)
    return deny(offset != 0, flank) or (deny(offset < 0, peak) and deny(offset > 0, peak))


def _denies_line(profile: np.ndarray, raised: np.ndarray, noise: np.ndarray, own: float, own_noise: float) -> bool:
    """Whether neighbours rule out a line profile that is as high at the point as the point is."""
    information = float((profile**2 / noise**2).sum())
    if not information:
        return False
    amplitude = float((profile * np.clip(raised, -own, own) / noise**2).sum()) / information
    return own > _TELLING_SIGMA * float(np.hypot(information**-0.5, own_noise)) and amplitude < 0.5 * own


# --- channels ----------------------------------------------------------------------------------

COLUMNS: tuple[Column, ...] = (  # axis, flux and uncertainty first, as specutils looks for them
    Column(
        "wavelength_um", "float", "um", "em.wl.central;meta.main", "wavelength of the channel, where the flux holds"
    ),
    Column("flux_ujy", "float", "uJy", f"{FLUX_UCD};meta.main", "combined flux density, signed"),
    Column(
        "flux_err_ujy",
        "float",
        "uJy",
        f"stat.error;{FLUX_UCD};meta.main",
        "its uncertainty: the formal one, enlarged where the points scatter more",
    ),
    Column("bandwidth_um", "float", "um", "instr.bandwidth", "width of the channel's passband"),
    Column("band", "text", "", "instr.bandpass", "detector name, D1 to D6"),
    Column("channel", "int", "", "meta.id;spect.binSize", "channel number in the detector, 1 to 17"),
    Column("wavelength_min_um", "float", "um", "em.wl;stat.min", "shortest wavelength of the channel's pixels"),
    Column("wavelength_max_um", "float", "um", "em.wl;stat.max", "longest wavelength of the channel's pixels"),
    Column("wavelength_eff_um", "float", "um", "em.wl.effective", "weighted mean wavelength of the points used"),
    Column("flux_err_formal_ujy", "float", "uJy", f"stat.error;{FLUX_UCD}", "uncertainty from the points' own errors"),
    Column(
        "flux_err_scatter_ujy",
        "float",
        "uJy",
        f"stat.stdev;{FLUX_UCD}",
        "uncertainty from the scatter of the points used; none for one point",
    ),
    Column("chi2_dof", "float", "", "stat.fit.chi2", "reduced chi-square of the points used; none for one point"),
    Column("n_used", "int", "", "meta.number", "exposures combined"),
    Column("n_rejected", "int", "", "meta.number", "exposures rejected as outliers"),
    Column(
        "slope_ujy_um",
        "float",
        "uJy/um",
        "phot.flux.density;arith.ratio",
        "local slope with which points were moved to the channel's wavelength; none: not moved",
    ),
    Column("mjd_first", "float", "d", "time.start", "first exposure used, MJD (UTC)"),
    Column("mjd_last", "float", "d", "time.end", "last exposure used, MJD (UTC)"),
    Column("mjd_mean", "float", "d", "time.epoch", "weighted mean time of the exposures used, MJD (UTC)"),
    Column("survey_pass", "int", "", "meta.id;obs", "survey pass by time, from 1; 0: all together"),
)


def combine(records: Sequence[Mapping[str, Any]], settings: SpectrumSettings) -> list[dict[str, Any]]:
    """The spectrum of all exposures: one row for each of the 102 channels, also for empty ones.

    See :data:`COLUMNS` for the keys. Method, for each channel: outliers go (:func:`outliers`), the others are moved
    to the channel's wavelength along the local line and averaged with weights that do not depend on their own noise
    (:func:`spxflow.smooth.smooth_variance`). The formal error is that of this mean, the slope's included. It is
    enlarged by the root of the scatter (:func:`_scatter`): that of the source, or that of the detector as far as it
    differs by more than noise, or the channel's own where that is significantly larger.
    """
    return _combine(samples_by_band(records, settings.statuses), settings, survey_pass=0)


def combine_passes(records: Sequence[Mapping[str, Any]], settings: SpectrumSettings) -> list[dict[str, Any]]:
    """The spectra of the survey passes, 102 rows each, one after the other."""
    bands = samples_by_band(records, settings.statuses)
    starts = pass_starts(bands, settings.pass_gap_days)
    rows = []
    for number in range(1, len(starts) + 1):
        own = [band.chosen(np.searchsorted(starts, band.mjd, side="right") == number) for band in bands]
        rows += _combine([band for band in own if len(band)], settings, number)
    return rows


def pass_starts(bands: Sequence[Samples], gap_days: float) -> np.ndarray:
    """First times of the survey passes, MJD, split where no detector saw anything for longer than ``gap_days``."""
    times = np.sort(np.concatenate([np.array([]), *(band.mjd for band in bands)]))
    return times[np.diff(times, prepend=-np.inf) > gap_days]


def _combine(bands: Sequence[Samples], settings: SpectrumSettings, survey_pass: int) -> list[dict[str, Any]]:
    rows = {channel: _empty_row(channel, survey_pass) for channel in channels()}
    means: list[dict[Channel, _ChannelMean]] = []
    smooth_scatter: list[float] = []
    for samples in bands:
        smooth = smooth_samples(samples, settings)
        rejected = outliers(samples, smooth, settings.outlier_sigma)
        for number in channel_numbers(samples.chosen(rejected)):
            if number:
                rows[band_channels(samples.band)[number - 1]]["n_rejected"] += 1
        means.append(_channel_means(samples.chosen(~rejected), settings))
        smooth_scatter.append(smooth.scale**2)
    scatter = _scatter([mean for band in means for mean in band.values()], expected=1.0)
    scatter = min(scatter, _LARGEST_SCATTER * float(np.median(smooth_scatter or 1.0)))
    for band in means:
        band_scatter = _scatter(list(band.values()), expected=scatter)
        for channel, mean in band.items():
            rows[channel].update(mean.as_row(channel, band_scatter))
    return list(rows.values())


def _channel_means(samples: Samples, settings: SpectrumSettings) -> dict[Channel, _ChannelMean]:
    """The mean of each channel of a detector that has points."""
    if not len(samples):
        return {}
    weight = 1.0 / smooth_variance(samples.x, samples.error)
    number = channel_numbers(samples)
    return {
        channel: _ChannelMean.of(samples, number == channel.channel, weight, channel, settings.smoothing_channels)
        for channel in band_channels(samples.band)
        if channel.channel in number
    }


def channel_numbers(samples: Samples) -> np.ndarray:
    """The channel of each sample; 0 outside the detector's channels."""
    low, high = band_limits_um(samples.band)
    inside = (samples.wavelength_um >= low) & (samples.wavelength_um <= high)
    return np.where(inside, np.clip(np.rint(samples.x), 1, len(band_channels(samples.band))), 0).astype(int)


def _scatter(means: Sequence[_ChannelMean], expected: float) -> float:
    """How much more than their errors the points of channels scatter: a variance ratio, at least 1.

    From repeats within channels, without those that scatter significantly more than the others. It is shrunk to what
    is expected as far as noise explains the difference (James & Stein 1961), by twice the noise's variance: with once,
    errors that are right come out larger in single passes.
    """
    repeated = [mean for mean in means if mean.dof and mean.expected_chi2 > _ROUNDING * mean.dof]
    if not repeated:
        return expected
    dof = np.array([float(mean.dof) for mean in repeated])
    chi2 = dof * np.array([mean.chi2 / mean.expected_chi2 for mean in repeated])
    ratio = float(np.median(chi2 / _chi2_quantile(0.5, dof))) if len(repeated) >= _MANY_CHANNELS else expected
    for _ in range(_SCATTER_ITERATIONS):
        usual = chi2 < max(expected, ratio) * _chi2_quantile(_SIGNIFICANCE, dof)
        ratio = float(chi2[usual].sum() / dof[usual].sum()) if usual.any() else expected
    variance = 2.0 * expected**2 / float(dof.sum())
    excess = ratio - expected
    return max(1.0, expected + excess * max(0.0, 1.0 - 2.0 * variance / max(excess**2, variance)))


def _chi2_quantile(chance: float, dof: Any) -> Any:
    """The chi-square that is larger with the chance given."""
    from scipy.special import chdtri

    return chdtri(dof, chance)


@dataclass(frozen=True)
class _ChannelMean:
    """Weighted mean of the points of a channel; fluxes in µJy, slope in µJy per channel.

    ``chi2`` is that of the points about their mean, ``expected_chi2`` what their errors let expect of it: less than
    ``dof`` (one less than the points), since the slope is made of them too.
    """

    flux: float
    formal_error: float
    chi2: float
    expected_chi2: float
    dof: int
    slope: float | None
    wavelength_um: float
    mjd: tuple[float, float, float]

    @classmethod
    def of(
        cls, samples: Samples, used: np.ndarray, weight: np.ndarray, channel: Channel, half_width: float
    ) -> _ChannelMean:
        """The mean of the ``used`` samples of a detector; the others tell the slope too."""
        known = slope_weights(channel.channel, samples.x, weight, half_width)
        gradient = np.zeros(len(samples)) if known is None else known
        slope = float(gradient @ samples.flux)
        share = np.where(used, weight, 0.0) / weight[used].sum()
        offset = samples.x - channel.channel
        mean_offset = float(share @ offset)
        moved = samples.flux - slope * offset
        flux = float(share @ moved)
        variance = samples.error**2
        expected = _departure_variance(variance, share, gradient, offset - mean_offset)
        chi2, expected_chi2 = (float((part / variance)[used].sum()) for part in ((moved - flux) ** 2, expected))
        dof = int(used.sum()) - 1
        return cls(
            flux=flux,
            formal_error=float((share - mean_offset * gradient) ** 2 @ variance) ** 0.5,
            chi2=chi2,
            expected_chi2=expected_chi2,
            dof=dof,
            slope=None if known is None else slope,
            wavelength_um=float(share @ samples.wavelength_um),
            mjd=(float(samples.mjd[used].min()), float(samples.mjd[used].max()), float(share @ samples.mjd)),
        )

    def as_row(self, channel: Channel, band_scatter: float) -> dict[str, Any]:
        own = self.chi2 / max(self.expected_chi2, _LEAST_EXPECTED * self.dof) if self.dof else None
        scatter = band_scatter
        if own is not None and own * self.dof > band_scatter * _chi2_quantile(_SIGNIFICANCE, self.dof):
            scatter = own
        return {
            "flux_ujy": self.flux,
            "flux_err_ujy": self.formal_error * scatter**0.5,
            "flux_err_formal_ujy": self.formal_error,
            "flux_err_scatter_ujy": None if own is None else self.formal_error * own**0.5,
            "chi2_dof": own,
            "n_used": self.dof + 1,
            "slope_ujy_um": None if self.slope is None else self.slope / _channel_spacing_um(channel),
            "wavelength_eff_um": self.wavelength_um,
            "mjd_first": self.mjd[0],
            "mjd_last": self.mjd[1],
            "mjd_mean": self.mjd[2],
        }


def _departure_variance(variance: np.ndarray, share: np.ndarray, gradient: np.ndarray, lever: np.ndarray) -> np.ndarray:
    """Variance of points about their mean, when all were moved along a slope that is made of them too.

    ``share`` and ``gradient`` are the weights of the points in the mean and in the slope, ``lever`` is how far each
    was moved more than the mean, channels. Departures are linear in the fluxes, with the coefficients of the identity
    minus share minus lever times gradient.
    """
    of_mean = variance * (1.0 - 2.0 * share) + share**2 @ variance
    with_slope = gradient * variance - (share * gradient) @ variance
    return of_mean - 2.0 * lever * with_slope + lever**2 * (gradient**2 @ variance)


def _channel_spacing_um(channel: Channel) -> float:
    """Wavelength from the channel before to the one after, for one channel, µm."""
    own = band_channels(channel.band)
    before, after = max(channel.channel - 1, 1), min(channel.channel + 1, len(own))
    return (own[after - 1].wavelength_um - own[before - 1].wavelength_um) / (after - before)


def _empty_row(channel: Channel, survey_pass: int) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(column.name for column in COLUMNS)
    for name in ("wavelength_um", "bandwidth_um", "band", "channel", "wavelength_min_um", "wavelength_max_um"):
        row[name] = getattr(channel, name)
    return {**row, "n_used": 0, "n_rejected": 0, "survey_pass": survey_pass}
