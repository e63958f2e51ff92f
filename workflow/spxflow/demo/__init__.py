"""A local archive with a simulated sky, for the demo and for tests whose truth is known.

Known from real files and taken from them: the header cards of IMAGE and FLAGS (texts in ``data``), number of cards
and length of every QR2 HDU (the 108 cutouts of 60 x 60 px have together as many bytes as the real ones), names and
bits of the flags, TAN-SIP with its constant terms, the WCS-WAVE tables of all six detectors, detector pairs, exposure
times, file names and versions; and of each of the 108 Cloverleaf exposures of the scenario ``demo`` the id, times,
wavelength of the target, PSF FWHM, ratio of sky to zodiacal model, noise level and number of NaN variances.

Published by others and followed: layout, zone order and header erratum of the PSF cube, offset of its core, the part
of the light in a 3 px aperture, form of the QR3 tables and flag names, medians of the pixels' solid angle, names of
the calibration products, the range of the gain corrections of D1 and D5.

Assumed: the shape of the PSF (a sum of Gaussians, the same for every exposure of a detector whatever its PSF_FWHM
says), one distortion polynomial for all six detectors, the brightness of the sky (from the noise and the published flux
errors), a noise floor of a fifth of the median variance, uncorrelated Gaussian noise, spectra and numbers of stars,
where on the detector an exposure sees its target (the column; the row follows from the wavelength), what lies in
flagged pixels, how CWAVE differs from WCS-WAVE, the cards of the PSF header beyond its zones. Not simulated: blooming,
streaks, crosstalk, persistence from exposure to exposure, correlated noise, parallax, galaxies.

The sky: :mod:`~spxflow.demo.scenario` (which files there are, and the truth table), :mod:`~spxflow.demo.exposures`,
:mod:`~spxflow.demo.sky`, :mod:`~spxflow.demo.optics`, :mod:`~spxflow.demo.frames` (pixels),
:mod:`~spxflow.demo.level2` and :mod:`~spxflow.demo.calibration` (files). The archive's services:
:mod:`~spxflow.demo.server`.
"""
