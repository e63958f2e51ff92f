"""A SPHEREx Level-2 multi-extension FITS file as one object: pixels, flags by name, sky, wavelength, PSF.

:func:`read_exposure` reads QR2 and QR3, cutouts and whole images. Pixels are 0-based with centres on integers.
"""

from spxflow.mef.blocks import HduExtent, InvalidFile, scan
from spxflow.mef.calibration import (
    Calibration,
    read_gain,
    read_psf,
    read_solid_angle,
    read_wave_map,
    read_wave_table,
)
from spxflow.mef.exposure import Exposure, Footprint, SkyWindow, read_exposure, validate_file
from spxflow.mef.flags import KNOWN_FLAGS, mask_of, names_of
from spxflow.mef.wavelength import Wavelengths, WaveMap, WaveTable

__all__ = [
    "KNOWN_FLAGS",
    "Calibration",
    "Exposure",
    "Footprint",
    "HduExtent",
    "InvalidFile",
    "SkyWindow",
    "WaveMap",
    "WaveTable",
    "Wavelengths",
    "mask_of",
    "names_of",
    "read_exposure",
    "read_gain",
    "read_psf",
    "read_solid_angle",
    "read_wave_map",
    "read_wave_table",
    "scan",
    "validate_file",
]
