"""Pixel flags by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from spxflow.mef.blocks import InvalidFile
from spxflow.mef.header import Header

# Bit of every flag that a release uses (facts 1.5), and what the FLAGS header says of it. QR2 headers before version 21
# lack bits 22-28; CROSSTALK, STREAK and SATELLITE_HALO came with QR3, whose header says nothing of them.
_FLAGS = {
    "TRANSIENT": (0, "transient detected while the ramp was sampled"),
    "OVERFLOW": (1, "overflow detected while the ramp was sampled"),
    "SUR_ERROR": (2, "error in onboard processing"),
    "PHANTOM": (4, "phantom pixel"),
    "REFERENCE": (5, "reference pixel"),
    "NONFUNC": (6, "permanently unusable"),
    "DICHROIC": (7, "low efficiency due to the dichroic"),
    "MISSING_DATA": (9, "onboard data lost"),
    "HOT": (10, "hot pixel"),
    "COLD": (11, "anomalously low signal"),
    "FULLSAMPLE": (12, "the pixel's full sample history is available"),
    "PHANMISS": (14, "phantom correction was not applied"),
    "NONLINEAR": (15, "nonlinearity correction cannot be applied reliably"),
    "PERSIST": (17, "persistent charge above threshold"),
    "OUTLIER": (19, "found by outlier detection"),
    "CROSSTALK": (20, ""),
    "SOURCE": (21, "on a known source"),
    "GHOST": (22, "affected by a bright source inside the exposure"),
    "GHOST_FPA": (23, "affected by a bright source on another detector"),
    "GHOST_EXT": (24, "affected by a bright source outside the field of view"),
    "STREAK": (25, ""),
    "BLOOM": (26, "part of a bloom artefact"),
    "SNOWBALL": (27, "part of a snowball artefact"),
    "HALO": (28, "part of a transient halo"),
    "SATELLITE_HALO": (29, ""),
}

#: Bit of every flag that a release uses; a file's own header has the last word on its bits.
KNOWN_FLAGS: Mapping[str, int] = MappingProxyType({name: bit for name, (bit, _) in _FLAGS.items()})

#: What the FLAGS header says of each flag, where it says anything.
FLAG_MEANINGS: Mapping[str, str] = MappingProxyType({name: text for name, (_, text) in _FLAGS.items() if text})

_QR3_NAME = re.compile(r"MSKN(\d{4})")


def read_flag_bits(header: Header) -> Mapping[str, int]:
    """Names of the flags and their bits, as a FLAGS header gives them.

    QR2 writes ``MP_<name> = bit``; QR3 ``MSKNnnnn = '<name>'`` with the mask in ``MSKMnnnn`` (the bit is nnnn where
    that is missing).
    """
    bits: dict[str, int] = {}
    for keyword in header.keywords():
        if keyword.startswith("MP_"):
            bits[keyword[3:]] = header.integer(keyword)
        elif match := _QR3_NAME.fullmatch(keyword):
            mask = header.get(f"MSKM{match[1]}")
            if isinstance(mask, int) and mask > 0 and mask.bit_count() == 1:
                bits[header.text(keyword)] = mask.bit_length() - 1
            else:
                bits[header.text(keyword)] = int(match[1])
    if not bits:
        raise InvalidFile("HDU FLAGS: no flag is named, neither by MP_* (QR2) nor by MSKNnnnn (QR3) keywords")
    for name, bit in bits.items():
        if not 0 <= bit <= 31:
            raise InvalidFile(f"HDU FLAGS: flag {name} has bit {bit}, outside 0-31")
    return MappingProxyType(dict(sorted(bits.items(), key=lambda item: item[1])))


def mask_of(flags: Iterable[str | int], flag_bits: Mapping[str, int]) -> int:
    """Mask with the bits of the given flags.

    Parameters
    ----------
    flags
        Names or bit numbers. A name that the file does not use has no bit in it and counts for nothing.
    flag_bits
        Bit of each flag of the file.
    """
    mask = 0
    for flag in flags:
        bit = flag if isinstance(flag, int) else flag_bits.get(flag)
        if bit is not None:
            mask |= 1 << bit
    return mask


def names_of(value: int, flag_bits: Mapping[str, int]) -> tuple[str, ...]:
    """Names of the flags set in a value, in the order of their bits; ``BIT_n`` for a bit without name."""
    names = {bit: name for name, bit in flag_bits.items()}
    return tuple(names.get(bit, f"BIT_{bit}") for bit in range(value.bit_length()) if value >> bit & 1)
