"""Short accounts of a run: what the query found, what was fetched, what was measured."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from spxflow.observations import BANDS, Observation, parse_stem

# Bytes of one file: whole images as the archive gives them (facts 1.1), and of a cutout the part that
# does not depend on its size (PSF cube and headers, facts 1.9: 60 x 60 px cutouts have 4.76 MB).
_FULL_BYTES = 71_638_000
_CUTOUT_FIXED_BYTES = 4_937_284 + 100_000
_PLANES_BYTES_PER_PX = 16


def estimated_bytes(mode: str, cutout_pixels: float) -> int:
    """Size of one file before it is fetched, from the download mode and the cutout's area in pixels."""
    planes = int(_PLANES_BYTES_PER_PX * cutout_pixels)
    return {"full": _FULL_BYTES, "cutout": _CUTOUT_FIXED_BYTES + planes, "slim": 100_000 + planes}[mode]


def query_summary(
    source: Mapping[str, Any],
    observations: Sequence[Observation],
    found: Mapping[str, Any],
    file_bytes_estimated: int,
) -> dict[str, Any]:
    """The content of ``query_summary.yaml`` before anything is fetched.

    Parameters
    ----------
    source
        Fields of the source.
    observations
        What the query found.
    found
        How it was asked: time, archive, collections, refused rows.
    file_bytes_estimated
        Expected size of one file.
    """
    times = [observation.mjd_mid for observation in observations]
    counts = Counter(observation.band for observation in observations)
    return {
        "source": {"name": source["name"], "ra": source["ra_deg"], "dec": source["dec_deg"]},
        "query_time": found["query_time"],
        "archive": found["archive"],
        "service": found["service"],
        "search": dict(found["search"]),
        "n_observations": len(observations),
        "band_counts": {band: counts[band] for band in BANDS if counts[band]},
        "mjd_first": min(times, default=None),
        "mjd_last": max(times, default=None),
        "time_span_days": max(times) - min(times) if times else 0.0,
        "total_size_gb": file_bytes_estimated * len(observations) / 2**30,
        "total_size_gb_estimated": True,
        "ignored": list(found["ignored"]),
        "messages": list(found["messages"]),
        "observations": [_listed(observation) for observation in observations],
    }


def _listed(observation: Observation) -> dict[str, Any]:
    return {
        "obs_id": observation.obs_id,
        "band": observation.band,
        "mjd_start": observation.mjd_begin,
        "mjd_end": observation.mjd_end,
        "wavelength_min_um": observation.wavelength_min_um,
        "wavelength_max_um": observation.wavelength_max_um,
        "version": observation.version,
        "collection": observation.collection,
        "url": observation.url,
    }


def download_summary(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The content of ``downloads.json``: totals, failures with reasons, and every file."""
    files = sorted(records, key=lambda record: record["stem"])
    had = [record for record in files if record["status"] == "ok"]
    return {
        "n_files": len(files),
        "n_ok": len(had),
        "total_bytes": sum(record["file_bytes"] for record in had),
        "received_bytes": sum(record["received_bytes"] or 0 for record in files),
        "failed": [
            {key: record[key] for key in ("stem", "status", "reason")} for record in files if record["status"] != "ok"
        ],
        "files": files,
    }


def with_actual_size(summary: Mapping[str, Any], downloads: Mapping[str, Any]) -> dict[str, Any]:
    """The query summary with the size of what was fetched instead of its estimate, if it is of the same files."""
    listed = {f"{one['obs_id']}{one['band']}" for one in summary["observations"]}
    fetched = {f"{(identity := parse_stem(file['stem'])).obs_id}{identity.band}" for file in downloads["files"]}
    if listed != fetched:
        return dict(summary)
    return {
        **summary,
        "total_size_gb": downloads["total_bytes"] / 2**30,
        "total_size_gb_estimated": False,
    }


def describe_failures(downloads: Mapping[str, Any], where: str, most: int = 10) -> str:
    """A few lines for the screen: files that could not be had, with reasons; empty when there are none."""
    failed = downloads["failed"]
    if not failed:
        return ""
    lines = [f"  {len(failed)} of {downloads['n_files']} files could not be had; the next invocation tries them again:"]
    lines += [f"    {file['stem']}: {file['reason']}" for file in failed[:most]]
    if len(failed) > most:
        lines.append(f"    ... all {len(failed)} in {where}/results/downloads.json")
    return "\n".join(lines)


def describe_query(observations: Sequence[Observation], file_bytes_estimated: int, where: str) -> str:
    """A line for the screen before anything is measured: exposures found by detector, and the size of their files."""
    counts = Counter(observation.band for observation in observations)
    by_band = "  ".join(f"{band} {counts[band]}" for band in BANDS if counts[band])
    size = f", some {file_bytes_estimated * len(observations) / 1e6:.0f} MB ({by_band})" if observations else ""
    return f"{where}: {len(observations)} exposures found{size}; more in results/query_summary.yaml"


def describe(photometry: Mapping[str, Any], where: str) -> str:
    """A few lines for the screen: exposures found, measured, rejected and why, signal-to-noise ratios."""
    exposures = photometry["exposures"]
    measured = [row for row in exposures if row["flux_ujy"] is not None]
    good = [row for row in exposures if row["is_good"]]
    lines = [
        f"{photometry['source']['name']}: {len(exposures)} exposures, {len(measured)} measured, {len(good)} good",
    ]
    reasons = Counter((row["status"], row["reason"]) for row in exposures if row["flux_ujy"] is None)
    lines += [f"  {count} x {status}: {reason}" for (status, reason), count in reasons.most_common(8)]
    if len(reasons) > 8:
        lines.append(f"  ... and {len(reasons) - 8} more reasons, all in photometry.json")
    medians = {
        band: statistics.median(row["snr"] for row in measured if row["band"] == band and row["snr"] is not None)
        for band in BANDS
        if any(row["band"] == band and row["snr"] is not None for row in measured)
    }
    if medians:
        lines.append("  median S/N: " + "  ".join(f"{band} {snr:.1f}" for band, snr in medians.items()))
    lines.append(f"  results: {where}/results")
    return "\n".join(lines)
