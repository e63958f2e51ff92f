"""Whether a file that arrived is the one that was asked for."""

from __future__ import annotations

import math
from pathlib import Path

from spxflow import mef
from spxflow.mef.calibration import DETECTOR_SIZE
from spxflow.transfer.settings import CutoutSize

_TOLERANCE_PX = 2


def check_file(path: Path, slim: bool, center: tuple[float, float] | None, size: CutoutSize) -> None:
    """Refuse a file that is not whole, lacks an HDU, or shows another part of the sky than was asked for.

    Parameters
    ----------
    path
        File that arrived.
    slim
        Whether the image planes are enough.
    center
        Centre of the cutout asked for (ICRS, degrees); None: a whole image.
    size
        Size of the cutout.

    Raises
    ------
    InvalidFile
        With the reason.
    """
    footprint = mef.validate_file(path, need_psf=not slim)
    if center is not None:
        _check_window(footprint, center, size)
    elif (footprint.nx, footprint.ny) != (DETECTOR_SIZE, DETECTOR_SIZE):
        raise mef.InvalidFile(f"{footprint.nx} x {footprint.ny} pixels are not a whole image")


def _check_window(footprint: mef.Footprint, center: tuple[float, float], size: CutoutSize) -> None:
    position = footprint.wcs.sky_to_pixel(*center)
    firsts, lengths = (footprint.x0, footprint.y0), (footprint.nx, footprint.ny)
    for axis, pixel, side, first, length in zip("xy", position, size.pixels(), firsts, lengths, strict=True):
        begin, end = cutout_window(float(pixel) + first, side)
        if abs(first - begin) > _TOLERANCE_PX or abs(first + length - end) > _TOLERANCE_PX:
            raise mef.InvalidFile(
                f"the file does not show the position asked for: its {axis} pixels are {first} to {first + length - 1} "
                f"of the detector, not {begin} to {end - 1}"
            )


def cutout_window(center_px: float, side_px: int) -> tuple[int, int]:
    """First pixel, and the one after the last, of a cutout on one axis of the detector (facts 1.9).

    Parameters
    ----------
    center_px
        0-based detector pixel of the centre asked for.
    side_px
        Side of the cutout in pixels.

    Raises
    ------
    InvalidFile
        When the position is not on this side of the sky.
    """
    if not math.isfinite(center_px):
        raise mef.InvalidFile("the file does not show the position asked for")
    first = math.floor(center_px + 1.0 - side_px / 2.0)
    return max(0, first), min(DETECTOR_SIZE, first + side_px)
