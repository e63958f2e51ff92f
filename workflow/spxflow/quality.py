"""What a measurement is worth: its status with a reason, flags in words, and the cuts that make a good point."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from spxflow.aperture import Aperture
from spxflow.mef.flags import mask_of, names_of
from spxflow.scene import Scene
from spxflow.settings import QualitySettings

AB_ZERO_POINT = 23.9  # magnitude of 1 µJy: 3631 Jy is 0 (Oke & Gunn 1983)
_NEGLIGIBLE_FRACTION = 0.01  # of the PSF on bad pixels outside the aperture


@dataclass(frozen=True)
class Seen:
    """An aperture on a scene, and what the flags of its pixels are called."""

    scene: Scene
    aperture: Aperture
    flag_bits: Mapping[str, int]
    bad_flags: tuple[str | int, ...]

    @property
    def n_outside(self) -> int:
        """Pixels of the aperture that are not on the image."""
        return int(np.count_nonzero(~self.scene.on_image.flat[self.aperture.every]))

    def describe_flags(self) -> dict[str, Any]:
        """Flags of the pixels that the aperture touches: OR'ed, by name, and the weighted part of it under each."""
        weights = self.aperture.weights.flat[self.aperture.every]
        flags = self.scene.flags.flat[self.aperture.every]
        value = int(np.bitwise_or.reduce(flags))
        bits = [bit for bit in range(value.bit_length()) if value >> bit & 1]
        area = float(weights.sum())
        shares = [float(weights[(flags >> bit & 1).astype(bool)].sum()) / area for bit in bits]
        fractions = dict(zip(names_of(value, self.flag_bits), shares, strict=True))
        return {"flags": value, "flag_names": "|".join(fractions), "flag_fractions": fractions}

    def bad_pixels_in_words(self) -> str:
        """How many of its pixels are bad, and by which flags: ``2 bad pixels (OUTLIER)``."""
        every = self.aperture.every
        unused = every[~self.scene.good.flat[every] & self.scene.on_image.flat[every]]
        value = int(np.bitwise_or.reduce(self.scene.flags.flat[unused])) if unused.size else 0
        names = ", ".join(names_of(value & mask_of(self.bad_flags, self.flag_bits), self.flag_bits)) or "without value"
        return f"{unused.size} bad pixel{'' if unused.size == 1 else 's'}" + (f" [{names}]" if unused.size else "")


def decide_status(
    estimator: str,
    has_value: bool,
    has_background: bool,
    masked_fraction: float,
    max_masked_fraction: float,
    seen: Seen,
) -> tuple[str, str]:
    """Status of a measured exposure, and the reason if it is not ``ok``.

    A record without a value says what is missing. One with a value is ``unusable`` when it rests on too little of
    the source, or is a raw sum with bad pixels in it; ``edge`` or ``flagged`` when parts of the source were left out.

    Parameters
    ----------
    estimator
        The primary one.
    has_value, has_background
        Whether it gave a flux, and whether there was a background for it.
    masked_fraction, max_masked_fraction
        Part of the source's light that the estimator should have seen and did not, and how much of it is allowed.
    seen
        The pixels of the aperture.
    """
    bad = seen.bad_pixels_in_words()
    if masked_fraction > max_masked_fraction:
        return "unusable", f"{masked_fraction:.0%} of the source's light is on pixels that cannot be used ({bad})"
    if seen.n_outside and has_value:
        return "edge", f"{seen.n_outside} of {seen.aperture.every.size} aperture pixels are outside the image"
    if not has_background:
        return "no_background", "too few good sky pixels around the source"
    if not has_value:
        return "unusable", f"no value for {estimator} ({bad})"
    if seen.aperture.n_bad:
        if estimator == "aperture_raw":
            return "unusable", f"the raw sum contains {bad}"
        return "flagged", f"{bad} left out of the aperture"
    if masked_fraction > _NEGLIGIBLE_FRACTION:
        return "flagged", f"{masked_fraction:.1%} of the source's light is on bad pixels left out of the fit"
    return "ok", ""


def judge(record: Mapping[str, Any], settings: QualitySettings) -> dict[str, Any]:
    """The record with what depends on the quality cuts: S/N, magnitude, upper limit, whether the point is good.

    A point is good when its status is accepted, its signal-to-noise ratio and, if asked, its reduced chi-square pass.
    It is an upper limit when its status is accepted and the ratio is below ``upper_limit_sigma``; the limit itself, so
    many sigma, is given for every point that has an error. The magnitude of a flux that is not positive does not
    exist.
    """
    flux, error = record["flux_ujy"], record["flux_err_ujy"]
    judged = dict(record)
    judged.update(snr=None, mag_ab=None, mag_ab_err=None, upper_limit_ujy=None, is_upper_limit=False, is_good=False)
    if flux is None or not error:
        return judged
    snr = flux / error
    judged["snr"] = snr
    judged["upper_limit_ujy"] = settings.upper_limit_sigma * error
    if flux > 0.0:
        judged["mag_ab"] = AB_ZERO_POINT - 2.5 * math.log10(flux)
        judged["mag_ab_err"] = 2.5 / math.log(10.0) / snr
    if record["status"] in settings.statuses:
        chi2 = record["psf_chi2_dof"]
        fits = settings.max_chi2_dof is None or chi2 is None or chi2 <= settings.max_chi2_dof
        judged["is_good"] = snr >= settings.min_snr and fits
        judged["is_upper_limit"] = snr < settings.upper_limit_sigma
    return judged
