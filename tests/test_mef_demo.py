"""Files of the local archive, every detector and release, as the reader sees them against what they were made from."""

import io
import itertools

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from spxflow.demo import optics, scenario
from spxflow.demo.frames import target_window
from spxflow.mef import Calibration, read_exposure, read_psf, read_wave_table, scan, validate_file

SCENARIO = scenario.load("releases")


def _one_of_each():
    files = {}
    for file in SCENARIO.files.values():
        files.setdefault((file.release, file.detector), file)
    return files


FILES = _one_of_each()


@pytest.fixture(scope="module", params=sorted(FILES), ids=lambda key: f"{key[0]}-D{key[1]}")
def case(request):
    """An archive file, the cutout of the target in it, and the reader's view of that."""
    file = FILES[request.param]
    content = SCENARIO.render(file, target_window(file.exposure))
    return file, content, read_exposure(content)


def test_both_releases_of_all_detectors_are_there():
    assert set(FILES) == set(itertools.product(("qr2", "qr3"), range(1, 7)))


def test_identity_and_times(case):
    file, content, exposure = case
    made = file.exposure
    assert exposure.detector == file.detector
    assert exposure.release == file.release.upper()
    assert exposure.pipeline_version == made.pipeline_version
    times = exposure.mjd_begin, exposure.mjd_mid, exposure.mjd_end
    assert times == pytest.approx((made.mjd_begin, made.mjd_mid, made.mjd_end), abs=1e-8)
    assert exposure.psf_fwhm_arcsec == pytest.approx(made.psf_fwhm_arcsec, rel=1e-6)
    window = target_window(made)
    assert (exposure.x0, exposure.y0, *exposure.image.shape[::-1]) == window
    validate_file(content, need_psf=True)


def test_pixels_and_sky_are_those_of_astropy(case):
    _, content, exposure = case
    with fits.open(io.BytesIO(content)) as hdus:
        np.testing.assert_array_equal(exposure.image, hdus["IMAGE"].data)
        np.testing.assert_array_equal(exposure.variance, hdus["VARIANCE"].data)
        np.testing.assert_array_equal(exposure.zodi, hdus["ZODI"].data)
        np.testing.assert_array_equal(exposure.flags.view(np.int32), hdus["FLAGS"].data)
        sky = WCS(hdus["IMAGE"].header)
        wave = WCS(hdus["IMAGE"].header, fobj=hdus, key="W")
    wave.sip = None
    x, y = np.random.default_rng(7).uniform(0, 59, (2, 100))
    np.testing.assert_allclose(exposure.wcs.pixel_to_sky(x, y), sky.all_pix2world(x, y, 0), rtol=0, atol=1e-12)
    wavelengths = exposure.wavelength.at(x + exposure.x0, y + exposure.y0)
    np.testing.assert_allclose(wavelengths, wave.all_pix2world(x, y, 0), rtol=0, atol=1e-7)


def test_target_is_on_the_cutout(case):
    file, _, exposure = case
    position = SCENARIO.target.ra_deg, SCENARIO.target.dec_deg
    x, y = exposure.wcs.sky_to_pixel(*position)
    assert exposure.has_pixel(x, y)
    assert (x + exposure.x0, y + exposure.y0) == pytest.approx(SCENARIO.sky_to_pixel(file, *position), abs=1e-8)


def test_psf_is_the_telescopes(case):
    """The simulated telescope is a formula that bends between zone centres, where we blend: 3.5e-4 at most here."""
    file, _, exposure = case
    rng = np.random.default_rng(8)
    x, y = exposure.x0 + rng.uniform(10, 50, 40), exposure.y0 + rng.uniform(10, 50, 40)
    left, bottom, shares = optics.stamps(file.detector, x, y, SCENARIO.camera.asymmetry)
    for index in range(40):
        stamp = exposure.psf.stamp(x[index], y[index], left[index], bottom[index], 15, 15)
        rows, columns = np.mgrid[:15, :15]
        distance = np.hypot(columns + left[index] - x[index], rows + bottom[index] - y[index])
        inside = distance < exposure.psf.radius_px - 0.5
        assert np.abs(stamp - shares[index])[inside].max() < 5e-4
        aperture = distance < 2
        assert stamp[aperture].sum() == pytest.approx(shares[index][aperture].sum(), abs=5e-4)


def test_slim_file_and_calibration_of_another_exposure(case):
    """What a slim transfer keeps, with PSF and wavelengths from any file of the same detector and release."""
    _, content, exposure = case
    end = next(extent.start for extent in scan(content)[0] if extent.name in ("PSF", "EPSF"))
    calibration = Calibration(exposure.detector, psf=read_psf(content), wavelength=read_wave_table(content))
    slim = read_exposure(content[:end], calibration)
    x, y = exposure.x0 + 30.2, exposure.y0 + 29.7
    window = exposure.x0 + 20, exposure.y0 + 20, 21, 21
    np.testing.assert_array_equal(slim.psf.stamp(x, y, *window), exposure.psf.stamp(x, y, *window))
    np.testing.assert_array_equal(slim.wavelength.at(x, y), exposure.wavelength.at(x, y))
    np.testing.assert_array_equal(slim.flags, exposure.flags)
