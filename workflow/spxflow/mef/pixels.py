"""Planes of pixels from the HDUs of a file: physical values and flags, whole or a window of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spxflow.mef.blocks import InvalidFile
from spxflow.mef.compressed import compressed_shape, decompressed
from spxflow.mef.layout import Hdu


@dataclass(frozen=True)
class Window:
    """A rectangle of an image: first pixel, 0-based, and size."""

    x0: int
    y0: int
    nx: int
    ny: int

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.y0, self.y0 + self.ny), slice(self.x0, self.x0 + self.nx)


def plane_shape(hdu: Hdu) -> tuple[int, int]:
    """Shape (ny, nx) of a plane, compressed or not."""
    shape: tuple[int, ...]
    if hdu.extent.kind == "BINTABLE" and hdu.header.get("ZIMAGE") is True:
        shape = compressed_shape(hdu)
    elif hdu.extent.kind == "IMAGE":
        shape = hdu.extent.shape
    else:
        raise InvalidFile(f"HDU {hdu.extent.name}: a {hdu.extent.kind} extension, not an image")
    if len(shape) != 2 or min(shape) < 1:
        raise InvalidFile(f"HDU {hdu.extent.name}: the image has the shape {shape}, not two axes with pixels")
    return shape[0], shape[1]


def read_plane(hdu: Hdu, window: Window) -> NDArray[np.float32]:
    """Physical values of a window, shape (ny, nx), native float32; blank pixels are NaN."""
    if hdu.extent.kind != "IMAGE":
        raise InvalidFile(f"HDU {hdu.extent.name}: a {hdu.extent.kind} extension, not an image")
    header, bitpix = hdu.header, hdu.extent.bitpix
    scale, zero = header.number("BSCALE", 1.0), header.number("BZERO", 0.0)
    if bitpix > 0 and "BSCALE" not in header:
        raise InvalidFile(
            f"HDU {hdu.extent.name}: BITPIX is {bitpix}: whole numbers without BSCALE, not physical values"
        )
    stored = hdu.array()[window.slices]
    if (scale, zero) == (1.0, 0.0) and bitpix < 0:
        with np.errstate(all="ignore"):  # doubles beyond the range of floats
            return stored.astype(np.float32)
    with np.errstate(all="ignore"):  # absurd factors of a damaged file give infinite pixels
        values = stored * scale + zero
        if bitpix > 0 and "BLANK" in header:
            values[stored == header.integer("BLANK")] = np.nan
        return values.astype(np.float32)


def read_flags(hdu: Hdu, window: Window) -> NDArray[np.uint32]:
    """Flag bits of a window, shape (ny, nx)."""
    header, compressed = hdu.header, hdu.extent.kind != "IMAGE"
    bitpix = header.integer("ZBITPIX") if compressed else hdu.extent.bitpix
    if bitpix not in (8, 16, 32):
        raise InvalidFile(f"HDU {hdu.extent.name}: BITPIX is {bitpix}: flags must be whole numbers of at most 32 bits")
    zero = header.integer("BZERO", 0)
    if header.number("BSCALE", 1.0) != 1.0 or zero not in (0, 1 << (bitpix - 1)):
        raise InvalidFile(f"HDU {hdu.extent.name}: BSCALE or BZERO scale the flags")
    stored = decompressed(hdu, *window.slices) if compressed else hdu.array()[window.slices]
    return (stored.astype(np.int64) + zero).astype(np.uint32)
