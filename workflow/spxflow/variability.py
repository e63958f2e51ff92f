"""Light curves at matched wavelength, and whether the source varies.

Every exposure sees another wavelength. Exposures of one detector whose wavelengths agree within a fraction of a
spectral channel are *repeats* of each other; what is left of the wavelength difference is taken out with the source's
own smooth spectrum. All statistics compare repeats only, so that neither the shape of the spectrum nor the flux scale
of a detector enters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from spxflow.config import Section
from spxflow.smooth import smooth_spectrum
from spxflow.spectrum import (
    Samples,
    SpectrumSettings,
    outliers,
    pass_starts,
    samples_by_band,
    smooth_samples,
)
from spxflow.tables import FLUX_UCD, Column

_LINE_DEVIATION = 4.0  # from the smooth spectrum, in standard errors
_LINE_SLOPE = 2.5  # relative slope of an unresolved line's flanks, per channel
_LINE_EXTENT = 1.25  # channels on either side of what is off that may be in the same line
_REACH = 17.0  # channels: however far the next group is, it tells the slope
_UNKNOWN_SLOPE = 0.05  # of the flux, per channel: a continuum as wavelength to the power of 2
_NO_WEIGHT = 1e3  # errors are enlarged by
_DRAWS = 400
_DRAWN_AT_ONCE = 500_000  # numbers: some 20 MB
_MIN_GROUP_SNR = 3.0  # relative fluxes need a flux to be relative to


@dataclass(frozen=True)
class VariabilitySettings(Section):
    """Section ``variability`` of the configuration.

    ``match_channels`` is the largest difference in wavelength between repeats, in spectral channels;
    ``systematic_error`` a relative error added to each flux in quadrature.
    """

    match_channels: float = 0.3
    systematic_error: float = 0.0


@dataclass(frozen=True)
class Repeats:
    """Exposures that have repeats, by group and then time; arrays of shape (n,).

    ``row`` is the position in the list of records, ``group`` the number of the group from 0. ``smooth`` is the
    source's smooth spectrum at the point, ``residual`` flux minus ``smooth``, ``departure`` residual minus the
    group's weighted mean residual, all µJy. ``sigma`` is the departure over its standard error: standard normal for a
    constant source. ``error`` includes the systematic part and that of moving the point to the group's wavelength,
    which grows near lines, whose flanks are steeper than the smooth spectrum knows. Groups that this leaves without
    anything to tell are not there.
    ``reference`` is the group's mean of ``smooth``.
    """

    row: np.ndarray
    group: np.ndarray
    mjd: np.ndarray
    flux: np.ndarray
    error: np.ndarray
    smooth: np.ndarray
    residual: np.ndarray
    departure: np.ndarray
    sigma: np.ndarray
    reference: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    def chosen(self, which: np.ndarray) -> Repeats:
        """The repeats of a mask; keep groups whole."""
        return Repeats(*(getattr(self, name)[which] for name in self.__dataclass_fields__))

    @property
    def sizes(self) -> np.ndarray:
        """Number of exposures in each group that is present."""
        return np.unique(self.group, return_counts=True)[1]

    @property
    def chi2(self) -> float:
        return float(((self.departure / self.error) ** 2).sum())

    @property
    def dof(self) -> int:
        return len(self) - len(self.sizes)


def find_repeats(
    records: Sequence[Mapping[str, Any]], settings: VariabilitySettings, spectrum: SpectrumSettings
) -> Repeats:
    """Exposures with a repeat, and their departures from the mean of their group."""
    parts: list[Repeats] = []
    first_group = 0
    for samples in samples_by_band(records, spectrum.statuses):
        part = _band_repeats(samples, settings, spectrum, first_group)
        first_group += len(part.sizes)
        parts.append(part)
    names = Repeats.__dataclass_fields__
    if not parts:
        return Repeats(*(np.array([], dtype=int if name in ("row", "group") else float) for name in names))
    return Repeats(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def matched_groups(x: np.ndarray, width: float) -> np.ndarray:
    """Group numbers of sorted channel coordinates: no group is wider than ``width``; -1 for a point alone."""
    group = np.full(len(x), -1)
    start, number = 0, 0
    while start < len(x):
        end = int(np.searchsorted(x, x[start] + width, side="right"))
        if end - start >= 2:
            group[start:end] = number
            number += 1
        start = end
    return group


def _band_repeats(
    samples: Samples, settings: VariabilitySettings, spectrum: SpectrumSettings, first_group: int
) -> Repeats:
    group = matched_groups(samples.x, settings.match_channels)
    everywhere, steepness = _smooth_through_groups(samples, group, spectrum)
    order = np.lexsort((samples.mjd, group))
    order = order[group[order] >= 0]
    group, kept, smooth = group[order], samples.chosen(order), everywhere[order]
    measured = np.hypot(kept.error, settings.systematic_error * smooth)
    share = _shares(measured, group)
    # The slope's error is common to a group; over 1 - share it adds to the sum of its departures what it adds in truth.
    moving = np.abs(kept.x - _summed(share * kept.x, group)) * steepness[order] / np.sqrt(1.0 - share)
    error = np.hypot(measured, moving)
    share = _shares(error, group)
    residual = kept.flux - smooth
    departure = residual - _summed(share * residual, group)
    repeats = Repeats(
        row=kept.row,
        group=group,
        mjd=kept.mjd,
        flux=kept.flux,
        error=error,
        smooth=smooth,
        residual=residual,
        departure=departure,
        sigma=departure / (error * np.sqrt(1.0 - share)),
        reference=_summed(share * smooth, group),
    )
    telling = repeats.chosen(_is_telling(repeats, measured))
    return replace(telling, group=np.unique(telling.group, return_inverse=True)[1] + first_group)


def _is_telling(repeats: Repeats, measured: np.ndarray) -> np.ndarray:
    """Whether a group can tell anything, at each of its points.

    Where moving is less certain than the fluxes are, as in lines, departures are far below their errors whatever the
    source does: such a group is none, unless it departs even more than that.
    """
    uncertain = _summed(repeats.error**2, repeats.group) > 2.0 * _summed(measured**2, repeats.group)
    dof = _summed(np.ones(len(repeats)), repeats.group) - 1.0
    return ~uncertain | (_summed((repeats.departure / repeats.error) ** 2, repeats.group) > dof)


def _smooth_through_groups(
    samples: Samples, group: np.ndarray, spectrum: SpectrumSettings
) -> tuple[np.ndarray, np.ndarray]:
    """The smooth spectrum at each sample, µJy, and how wrong its slope may be, µJy per channel.

    It goes through the means of groups, and through points alone: departures from a mean are independent of it. A fit
    to the points would follow the very departures that it is to judge; two repeats without neighbours would have
    their own line, and never depart.
    """
    wrong = outliers(samples, smooth_samples(samples, spectrum), _LINE_DEVIATION)
    error = np.where(wrong, _NO_WEIGHT * samples.error, samples.error)
    knot = np.cumsum((np.diff(group, prepend=-1) != 0) | (group < 0)) - 1
    share = _shares(error, knot)
    x, flux = np.bincount(knot, share * samples.x), np.bincount(knot, share * samples.flux)
    error = np.bincount(knot, error**-2) ** -0.5
    fit = smooth_spectrum(x, flux, error, spectrum.smoothing_channels, reach=_REACH)
    known = np.isfinite(fit.value)
    value = np.interp(x, x[known], fit.value[known]) if known.any() else flux
    slope_error = np.where(known, fit.slope_variance**0.5, _UNKNOWN_SLOPE * np.abs(flux))
    alone = np.isnan(fit.residual)
    off = np.where(alone, flux - value, fit.residual)
    in_line = np.abs(off) > _LINE_DEVIATION * np.where(alone, error, fit.residual_error)
    steepness = np.hypot(slope_error, _line_slope(x, np.where(in_line, off, 0.0)))
    return value[knot] + fit.slope[knot] * (samples.x - x[knot]), steepness[knot]


def _line_slope(x: np.ndarray, off: np.ndarray) -> np.ndarray:
    """How steep the flanks of lines may be at each place, µJy per channel, where the spectrum is ``off`` by a line."""
    slope = np.zeros(len(x))
    for one in np.flatnonzero(off):
        near = np.abs(x - x[one]) <= _LINE_EXTENT
        slope[near] = np.maximum(slope[near], _LINE_SLOPE * abs(off[one]))
    return slope


def _shares(error: np.ndarray, group: np.ndarray) -> np.ndarray:
    """The weight of each point in the mean of its group."""
    return error**-2 / _summed(error**-2, group)


def _summed(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """The sum of each point's group, at each point."""
    return np.bincount(group, weights=values)[group] if len(group) else values


# --- statistics --------------------------------------------------------------------------------


def variability(
    records: Sequence[Mapping[str, Any]], settings: VariabilitySettings, spectrum: SpectrumSettings
) -> dict[str, Any]:
    """The content of ``variability.json``.

    Returns
    -------
    dict
        None where there is too little to compute a value. Keys besides the settings and the counts:

    chi2, dof, p_value
        Departures of repeats from their means, against constancy; ``p_value`` is the chance of a larger chi-square
        from a constant source. ``chi2_without_largest``, ``p_value_without_largest``: the same without the exposure
        that departs most, against constant sources without the one that departs most of theirs.
    excess_variance, excess_variance_err
        Relative variance beyond the errors, moment estimate ``(chi2 - dof) / C`` with C from the relative weights
        (DerSimonian & Laird 1986), negative when there is less scatter than the errors say; ``rms_fraction`` is its
        root.
    von_neumann
        Mean square of successive differences of the departures in time order over their variance (von Neumann
        1941), its expectation, and the chance of a smaller one: small values mean that neighbours in time go
        together.
    largest_deviation
        The exposure that departs most, in standard errors, and the chance that any of ``trials`` does (Šidák).
    passes
        Flux of each survey pass at matched wavelength, relative to the mean of the passes that repeats link (of sets
        that none links with each other, the one with most repeats); None for the others. They have the numbers that
        they have in the spectra of the passes.
    releases, harmonised, note
        Data releases of the repeats; whether a gain map was applied to all those of the earlier release, None where
        they are of one release; what to beware of, or None.
    bands, groups
        The same for each detector, and chi-square for each group of repeats.
    """
    repeats = find_repeats(records, settings, spectrum)
    bands = [records[row]["band"] for row in repeats.row]
    draws = _drawn(repeats)
    return {
        "settings": {**asdict(settings), "statuses": list(spectrum.statuses)},
        "n_exposures": len(records),
        "n_repeats": len(repeats),
        "n_groups": len(repeats.sizes),
        **_releases([records[row] for row in repeats.row]),
        **_constancy(repeats),
        **_without_largest(repeats, draws[:, 0]),
        **_von_neumann(repeats, draws[:, 1]),
        "largest_deviation": _largest_deviation(repeats, records),
        "passes": _passes(repeats, pass_starts(samples_by_band(records, spectrum.statuses), spectrum.pass_gap_days)),
        "bands": {
            band: _constancy(repeats.chosen(np.array([own == band for own in bands]))) for band in sorted(set(bands))
        },
        "groups": [_group(repeats.chosen(repeats.group == group), records) for group in np.unique(repeats.group)],
    }


def _constancy(repeats: Repeats) -> dict[str, Any]:
    chi2, dof = repeats.chi2, repeats.dof
    return {"chi2": chi2, "dof": dof, "p_value": _chi2_p_value(chi2, dof), **_excess_variance(repeats)}


def _chi2_p_value(chi2: float, dof: int) -> float | None:
    from scipy.special import gammaincc

    return float(gammaincc(0.5 * dof, 0.5 * chi2)) if dof > 0 else None


def _excess_variance(repeats: Repeats) -> dict[str, Any]:
    bright = repeats.chosen(repeats.reference > _MIN_GROUP_SNR * _group_medians(repeats.error, repeats.group))
    absent = {"excess_variance": None, "excess_variance_err": None, "rms_fraction": None}
    if bright.dof < 1:
        return absent
    weight = (bright.reference / bright.error) ** 2
    norm = float((weight * (1.0 - weight / _summed(weight, bright.group))).sum())
    excess = (bright.chi2 - bright.dof) / norm
    error = float(np.sqrt(2.0 * bright.dof + 4.0 * norm * max(excess, 0.0)) / norm)
    return {
        "excess_variance": excess,
        "excess_variance_err": error,
        "rms_fraction": excess**0.5 if excess > 0 else 0.0,
    }


def _group_medians(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    medians = {number: np.median(values[group == number]) for number in np.unique(group)}
    return np.array([medians[number] for number in group])


def _drawn(repeats: Repeats) -> np.ndarray:
    """Chi-square without the largest departure, and von Neumann's ratio, of constant sources, (_DRAWS, 2).

    Departures within a group are tied to each other, so what a constant source gives is drawn, not looked up.
    """
    if repeats.dof < 1:
        return np.zeros((_DRAWS, 2))
    rng = np.random.default_rng(0)
    order, sizes = _in_time(repeats), repeats.sizes
    starts = np.cumsum(sizes) - sizes
    share = _shares(repeats.error, repeats.group)
    draws_at_once = max(1, _DRAWN_AT_ONCE // len(repeats))
    drawn = []
    for first in range(0, _DRAWS, draws_at_once):
        noise = rng.standard_normal((min(draws_at_once, _DRAWS - first), len(repeats))) * repeats.error
        means = np.add.reduceat(share * noise, starts, axis=1)
        relative = (noise - np.repeat(means, sizes, axis=1)) / repeats.error
        sigma = relative / np.sqrt(1.0 - share)
        drawn.append(np.stack([_rest((relative**2).sum(1), sigma), _ratio(sigma[:, order])], axis=1))
    return np.concatenate(drawn)


def _in_time(repeats: Repeats) -> np.ndarray:
    return np.lexsort((repeats.group, repeats.mjd))


def _rest(chi2: Any, sigma: np.ndarray) -> Any:
    """Chi-square without the exposure that departs most: it takes its own sigma squared with it (last axis)."""
    return np.maximum(chi2 - np.max(sigma**2, axis=-1), 0.0)


def _without_largest(repeats: Repeats, drawn: np.ndarray) -> dict[str, Any]:
    """Chi-square of the others, and the chance of a larger one: a gamma distribution of the draws' mean and variance.

    Not a chi-square distribution of one degree of freedom less: what is left out is the largest of all, so that even a
    constant source loses more than 1.
    """
    from scipy.special import gammaincc

    if repeats.dof < 2:
        return {"chi2_without_largest": None, "p_value_without_largest": None}
    rest = float(_rest(repeats.chi2, repeats.sigma))
    mean, variance = float(drawn.mean()), float(drawn.var())
    p_value = float(gammaincc(mean**2 / variance, rest * mean / variance))
    return {"chi2_without_largest": rest, "p_value_without_largest": p_value}


def _von_neumann(repeats: Repeats, drawn: np.ndarray) -> dict[str, Any]:
    from scipy.special import ndtr

    sigma = repeats.sigma[_in_time(repeats)]
    if len(repeats) < 4 or not sigma.any():
        return {"von_neumann": None, "von_neumann_expected": None, "von_neumann_p_value": None}
    ratio = float(_ratio(sigma))
    expected, spread = float(drawn.mean()), float(drawn.std())
    return {
        "von_neumann": ratio,
        "von_neumann_expected": expected,
        "von_neumann_p_value": float(ndtr((ratio - expected) / spread)) if spread else None,
    }


def _ratio(z: np.ndarray) -> Any:
    """Mean square successive difference over the variance (last axis)."""
    return (np.diff(z) ** 2).mean(axis=-1) / z.var(axis=-1)


def _releases(compared: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Which data releases are compared with each other, and whether they are on one scale."""
    releases = sorted({record["release"] for record in compared if record["release"]})
    if len(releases) < 2:
        return {"releases": releases, "harmonised": None, "note": None}
    earlier = [record for record in compared if record["release"] and record["release"] != releases[-1]]
    bare = [record for record in earlier if not _has_gain(record)]
    note = (
        f"{' and '.join(releases)} are compared, and no gain map was applied to {len(bare)} of the {len(earlier)} "
        "exposures of the earlier release: the releases differ in gain, which looks like variation"
    )
    return {"releases": releases, "harmonised": not bare, "note": note if bare else None}


def _has_gain(record: Mapping[str, Any]) -> bool:
    """Whether the column ``calibration`` names a gain map that the fluxes were multiplied by."""
    parts = dict(part.partition(": ")[::2] for part in (record["calibration"] or "").split("; "))
    return parts.get("gain", "none") != "none"


def _largest_deviation(repeats: Repeats, records: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    from scipy.special import erfc

    if not len(repeats):
        return None
    one = int(np.argmax(np.abs(repeats.sigma)))
    sigma = float(repeats.sigma[one])
    trials = int(np.where(repeats.sizes == 2, 1, repeats.sizes).sum())  # the two of a pair depart alike
    chance = -np.expm1(trials * np.log1p(-erfc(abs(sigma) / 2**0.5))) if sigma else 1.0
    record = records[repeats.row[one]]
    return {
        **{name: record[name] for name in ("obs_id", "band", "mjd", "wavelength_um")},
        "sigma": sigma,
        "departure_ujy": float(repeats.departure[one]),
        "trials": trials,
        "p_value": float(chance),
    }


def _passes(repeats: Repeats, starts: np.ndarray) -> list[dict[str, Any]]:
    """Flux of each survey pass relative to the mean of those that repeats link; None for a pass that none links."""
    repeats = repeats.chosen(repeats.reference > _MIN_GROUP_SNR * _group_medians(repeats.error, repeats.group))
    number = np.searchsorted(starts, repeats.mjd, side="right")
    present = np.unique(number)
    if len(present) < 2:
        return []
    linked = _linked_passes(number, repeats.group)
    within = np.isin(number, linked)
    levels = _levels(repeats.chosen(within), number[within], linked) if len(linked) > 1 else {}
    passes = []
    for one in map(int, present):
        mjd = repeats.mjd[number == one]
        flux, error = levels.get(one, (None, None))
        passes.append(
            {
                "survey_pass": one,
                "mjd_first": float(mjd.min()),
                "mjd_last": float(mjd.max()),
                "n_repeats": len(mjd),
                "relative_flux": flux,
                "relative_flux_err": error,
            }
        )
    return passes


def _linked_passes(number: np.ndarray, group: np.ndarray) -> np.ndarray:
    """The passes that groups of repeats link with each other, directly or through others: the set with most."""
    sets: list[set[int]] = []
    for one in np.unique(group):
        joined = set(number[group == one].tolist())
        apart = [other for other in sets if not other & joined]
        sets = [*apart, joined.union(*(other for other in sets if other & joined))]
    repeats = [int(np.isin(number, list(passes)).sum()) for passes in sets]
    return np.array(sorted(sets[int(np.argmax(repeats))]))


def _levels(repeats: Repeats, number: np.ndarray, passes: np.ndarray) -> dict[int, tuple[float, float]]:
    """Relative flux of each pass and its error: least squares with a free level for each group of repeats."""
    member = (number[:, None] == passes[None, :]).astype(float)
    weight = (repeats.reference / repeats.error) ** 2
    share = weight / _summed(weight, repeats.group)
    centred = member - np.stack([_summed(share * column, repeats.group) for column in member.T], axis=1)
    information = centred.T @ (weight[:, None] * centred)
    covariance = np.linalg.pinv(information, rcond=1e-9, hermitian=True)
    level = covariance @ (centred.T @ (weight * repeats.departure / repeats.reference))
    errors = np.sqrt(np.diagonal(covariance))
    return {int(one): (1.0 + float(own), float(error)) for one, own, error in zip(passes, level, errors, strict=True)}


def _group(repeats: Repeats, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    weight = repeats.error**-2
    wavelengths = [records[row]["wavelength_um"] for row in repeats.row]
    return {
        "group": int(repeats.group[0]),
        "band": records[repeats.row[0]]["band"],
        "wavelength_um": float(np.mean(wavelengths)),
        "n": len(repeats),
        "flux_ujy": float((weight * (repeats.reference + repeats.residual)).sum() / weight.sum()),
        "flux_err_ujy": float(weight.sum() ** -0.5),
        "chi2": repeats.chi2,
        "dof": repeats.dof,
        "p_value": _chi2_p_value(repeats.chi2, repeats.dof),
        "mjd_first": float(repeats.mjd.min()),
        "mjd_last": float(repeats.mjd.max()),
    }


# --- light curves ------------------------------------------------------------------------------

COLUMNS: tuple[Column, ...] = (
    Column("group", "int", "", "meta.id", "group of repeats, from 0"),
    Column("band", "text", "", "instr.bandpass", "detector name, D1 to D6"),
    Column("group_wavelength_um", "float", "um", "em.wl.central", "mean wavelength of the group"),
    Column("mjd", "float", "d", "time.epoch;meta.main", "middle of the exposure, MJD (UTC)"),
    Column("wavelength_um", "float", "um", "em.wl", "wavelength of the exposure"),
    Column("matched_flux_ujy", "float", "uJy", f"{FLUX_UCD};meta.main", "flux moved to the group's mean wavelength"),
    Column(
        "matched_flux_err_ujy", "float", "uJy", f"stat.error;{FLUX_UCD}", "its uncertainty, that of moving included"
    ),
    Column("flux_ujy", "float", "uJy", FLUX_UCD, "flux as measured"),
    Column("smooth_flux_ujy", "float", "uJy", f"{FLUX_UCD};stat.fit", "the source's smooth spectrum at the wavelength"),
    Column("departure_ujy", "float", "uJy", f"stat.fit.residual;{FLUX_UCD}", "matched flux minus the group's mean"),
    Column("departure_sigma", "float", "", "stat.fit.residual", "departure over its standard error"),
    Column("obs_id", "text", "", "meta.id;obs", "observation id of the archive"),
)


def matched_lightcurve(
    records: Sequence[Mapping[str, Any]], settings: VariabilitySettings, spectrum: SpectrumSettings
) -> list[dict[str, Any]]:
    """The repeats as rows of :data:`COLUMNS`, by group and time."""
    repeats = find_repeats(records, settings, spectrum)
    wavelength = np.array([records[row]["wavelength_um"] for row in repeats.row])
    mean = _summed(wavelength, repeats.group) / np.maximum(_summed(np.ones(len(repeats)), repeats.group), 1)
    columns = {
        "group": repeats.group,
        "group_wavelength_um": mean,
        "mjd": repeats.mjd,
        "wavelength_um": wavelength,
        "matched_flux_ujy": repeats.reference + repeats.residual,
        "matched_flux_err_ujy": repeats.error,
        "flux_ujy": repeats.flux,
        "smooth_flux_ujy": repeats.smooth,
        "departure_ujy": repeats.departure,
        "departure_sigma": repeats.sigma,
    }
    named = [{name: records[row][name] for name in ("band", "obs_id")} for row in repeats.row]
    return [
        {**names, **{name: values[index].item() for name, values in columns.items()}}
        for index, names in enumerate(named)
    ]
