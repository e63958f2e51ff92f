"""What of a source's exposures is drawn, and between which ends: for the picture and for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from spxflow.config import Section
from spxflow.quality import AB_ZERO_POINT
from spxflow.spectrum import SpectrumSettings, outliers, samples_by_band, smooth_samples
from spxflow.tables import STATUSES

_OUTLIER_SIGMA = 5.0
_MOST_SEGMENTS = 6
LEAST_DAYS, LEAST_UM = 4.0, 0.1  # that an axis spans


@dataclass(frozen=True)
class PlotSettings(Section):
    """Section ``plot`` of the configuration; sizes in points, opacities from 0 to 1, ``figsize`` in inches.

    ``figsize`` and ``dpi`` of None leave them to ``matplotlibrc``.
    """

    magnitude: bool = False
    errorbars: bool = True
    show_rejected: bool = True
    wavelength_scale: str = "log"
    wavelength_cmap: str = "rainbow"
    date_cmap: str = "viridis"
    band_shading: bool = True
    break_gaps_days: float = 60.0
    density_above: int = 3000
    ylim_percentiles: tuple[float, float] = (0.0, 100.0)
    ylim_padding: float = 0.1
    marker_size_good: float = 3.0
    marker_size_rejected: float = 3.0
    marker_size_upper_limit: float = 4.0
    marker_alpha: float = 0.9
    errorbar_alpha: float = 0.4
    errorbar_linewidth: float = 0.6
    figsize: tuple[float, float] | None = (10.0, 8.0)
    dpi: float | None = 150.0


@dataclass(frozen=True)
class Points:
    """What is drawn, as arrays over the exposures that have a time, a wavelength and a flux or an upper limit.

    ``value`` and ``error`` are in µJy, or AB magnitudes; of an upper limit ``value`` is the limit. A value of
    ``inf`` is a flux without a magnitude: fainter than everything. ``stray`` marks points far from the source's own
    smooth spectrum, which do not set the range of the axis; ``row`` is the position in the list of records.
    """

    row: np.ndarray
    mjd: np.ndarray
    wavelength_um: np.ndarray
    value: np.ndarray
    error: np.ndarray
    good: np.ndarray
    limit: np.ndarray
    stray: np.ndarray

    @property
    def rejected(self) -> np.ndarray:
        return ~self.good & ~self.limit

    @property
    def kind(self) -> np.ndarray:
        """What each point is: ``good``, ``limit`` or ``rejected``."""
        return np.select([self.good, self.limit], ["good", "limit"], "rejected")

    def __len__(self) -> int:
        return len(self.mjd)

    def chosen(self, which: np.ndarray) -> Points:
        """The points of a mask."""
        return Points(*(getattr(self, field.name)[which] for field in fields(self)))


def points(records: Sequence[Mapping[str, Any]], magnitude: bool) -> Points:
    """The records that can be drawn."""
    limit = np.array([bool(record["is_upper_limit"]) for record in records], dtype=bool)
    good = np.array([bool(record["is_good"]) for record in records], dtype=bool) & ~limit
    value = np.where(limit, _numbers(records, "upper_limit_ujy"), _numbers(records, "flux_ujy"))
    error = _numbers(records, "flux_err_ujy")
    mjd, wavelength = _numbers(records, "mjd"), _numbers(records, "wavelength_um")
    drawn = np.isfinite(value) & np.isfinite(mjd) & np.isfinite(wavelength)
    if magnitude:
        flux = np.where(value > 0, value, np.nan)
        value = np.where(value > 0, AB_ZERO_POINT - 2.5 * np.log10(flux), np.inf)
        error = 2.5 / np.log(10) * error / flux
    columns = (np.arange(len(records)), mjd, wavelength, value, error, good, limit, _stray(records))
    return Points(*(column[drawn] for column in columns))


def _numbers(records: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """A column as floats, None as NaN."""
    return np.array([np.nan if record[name] is None else record[name] for record in records], dtype=float)


def _stray(records: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Records that neither the smooth spectrum nor repeats support, or, without repeats, far off it."""
    stray = np.zeros(len(records), dtype=bool)
    for samples in samples_by_band(records, STATUSES):
        smooth = smooth_samples(samples, SpectrumSettings())
        near = np.searchsorted(samples.x, samples.x + 0.5) - np.searchsorted(samples.x, samples.x - 0.5)
        alone = (near == 1) & (np.abs(smooth.deviation) > 2 * _OUTLIER_SIGMA)
        stray[samples.row] = outliers(samples, smooth, _OUTLIER_SIGMA) | alone
    return stray


def value_range(drawn: Points, settings: PlotSettings, magnitude: bool = False) -> tuple[float, float]:
    """Lower and upper end of the values shown, µJy or magnitudes: percentiles of the good points, padded.

    Single points off the source's own spectrum do not widen it. Upper limits widen it to show three quarters of them,
    by the range of the others at most (or their value, or a magnitude, if that is more), and stand in for good points
    that are few. Where there is neither, all points count.
    """
    counting = np.isfinite(drawn.value) & ~drawn.stray
    good, limit = drawn.value[drawn.good & counting], drawn.value[drawn.limit & counting]
    if len(good) < 0.1 * len(drawn):
        good = np.concatenate([good, limit])
    values = good if good.size else drawn.value[np.isfinite(drawn.value)]
    if not values.size:
        return 0.0, 1.0
    low, high = np.percentile(values, settings.ylim_percentiles)
    span = max(high - low, 1.0 if magnitude else abs(high))
    if limit.size:
        low = max(min(low, np.percentile(limit, 25)), low - span)
        high = min(max(high, np.percentile(limit, 75)), high + span)
    padding = settings.ylim_padding * (high - low) if high > low else 0.5 if magnitude else 0.5 * abs(high) or 1.0
    return float(low - padding), float(high + padding)


def time_segments(mjd: np.ndarray, gap_days: float) -> list[tuple[float, float]]:
    """First and last times of the stretches between gaps longer than ``gap_days``; one if they would be too many."""
    times = np.sort(mjd)
    cuts = np.flatnonzero(np.diff(times) > gap_days) if gap_days > 0 else np.array([], dtype=int)
    if len(cuts) >= _MOST_SEGMENTS:
        cuts = cuts[:0]
    starts, ends = np.concatenate([[0], cuts + 1]), np.concatenate([cuts, [len(times) - 1]])
    return [(float(times[start]), float(times[end])) for start, end in zip(starts, ends, strict=True)]


def apart(values: np.ndarray, least: float) -> tuple[float, float]:
    """Smallest and largest value, drawn apart when they are closer than ``least``."""
    low, high = float(values.min()), float(values.max())
    missing = max(least - (high - low), 0.0)
    return low - 0.5 * missing, high + 0.5 * missing


def padded(values: np.ndarray, least: float, scale: str = "linear") -> tuple[float, float]:
    """Ends of an axis for values: a little beyond them, ``least`` apart at least."""
    low, high = apart(values, least)
    if scale == "log":
        low, high = np.log10(low), np.log10(high)
    low, high = low - 0.02 * (high - low), high + 0.02 * (high - low)
    return (float(10**low), float(10**high)) if scale == "log" else (low, high)


def counts_in_words(records: Sequence[Mapping[str, Any]], drawn: Points) -> str:
    """How many exposures there are, and how many of each kind: ``2 exposures, 1 good, 1 without a flux``."""
    counts = {
        "good": drawn.good.sum(),
        "upper limits": drawn.limit.sum(),
        "rejected": drawn.rejected.sum(),
        "without a flux": len(records) - len(drawn),
    }
    every = f"{len(records)} exposure{'s' * (len(records) != 1)}"
    return ", ".join([every, *(f"{count} {kind}" for kind, count in counts.items() if count)])


def nothing_to_draw(records: Sequence[Mapping[str, Any]]) -> str:
    """Why there is no picture."""
    return "no exposure of this source could be measured" if records else "no exposure of this source was found"
