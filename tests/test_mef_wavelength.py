"""Wavelengths of detector positions against the real tables, computed vectors, and astropy."""

import io
import json

import level2
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from spxflow.mef import InvalidFile, WaveMap, WaveTable, read_wave_map, read_wave_table

VECTORS = json.loads((level2.DATA / "wcs_test_vectors.json").read_text())
CENTRE_UM = {1: 0.904493, 2: 1.337678, 3: 1.982878, 4: 3.011007, 5: 4.095991, 6: 4.688843}  # facts 1.8
CENTRE_BANDWIDTH_UM = {1: 0.022993, 2: 0.032280, 3: 0.048751, 4: 0.087510, 5: 0.036824, 6: 0.037475}


def table(detector=3):
    return read_wave_table(level2.file_bytes([fits.PrimaryHDU(), level2.wave_hdu(detector)]))


@pytest.mark.parametrize("detector", range(1, 7))
def test_knots_and_middle_of_each_detector(detector):
    real = level2.WAVE_TABLES[f"qr2:D{detector}"]
    ours = table(detector)
    x, y = np.meshgrid(np.array(real["x"]) - 1, np.array(real["y"]) - 1)
    np.testing.assert_allclose(ours.at(x, y), [real["wavelength"], real["bandwidth"]], rtol=0, atol=3e-7)
    expected = CENTRE_UM[detector], CENTRE_BANDWIDTH_UM[detector]
    assert ours.at(1019, 1019) == pytest.approx(expected, abs=1e-6)


def test_pixels_of_the_real_cutout():
    for vector in VECTORS["pixels"]:
        x, y = np.array(vector["det1based"]) - 1
        assert table().at(x, y) == pytest.approx((vector["wavelength"], vector["bandwidth"]), abs=1e-6)


def test_agrees_with_astropy_without_distortion():
    """The W alternate WCS of a whole file, SIP left out as it has to be."""
    content = level2.level2_bytes("QR2")
    with fits.open(io.BytesIO(content)) as hdus:
        wcs = WCS(hdus["IMAGE"].header, fobj=hdus, key="W")
        wcs.sip = None
        x, y = np.random.default_rng(3).uniform(0, 59, (2, 200))
        expected = wcs.all_pix2world(x, y, 0)
    np.testing.assert_allclose(table().at(x + 1292, y + 863), expected, rtol=0, atol=1e-7)


def test_continued_by_half_a_pixel_and_then_constant():
    ours = table()
    inner, edge = ours.at(1019.0, 1.0)[0], ours.at(1019.0, 0.0)[0]
    assert ours.at(1019.0, -0.5)[0] == pytest.approx(edge - 0.5 * (inner - edge), abs=1e-12)
    assert ours.at(1019.0, -40.0)[0] == ours.at(1019.0, -0.5)[0]
    assert ours.at(5000.0, 5000.0)[1] == ours.at(2039.5, 2039.5)[1]


def test_no_position_has_no_wavelength():
    assert np.isnan(table().at(np.nan, 5.0)).all()
    wavelength, _ = flat_map().at([np.nan, 5.0], [5.0, np.nan])
    assert np.isnan(wavelength).all()


def flat_map():
    y, x = np.mgrid[:2040, :2040].astype(np.float32)
    return WaveMap(2 + 1e-4 * x - 2e-4 * y, 0.05 + 1e-6 * x)


def test_map_is_bilinear_between_pixel_centres():
    wavelength, bandwidth = flat_map().at([10.25, 2039.0], [20.75, 0.0])
    np.testing.assert_allclose(wavelength, [2 + 1.025e-3 - 4.15e-3, 2.2039], atol=1e-6)
    np.testing.assert_allclose(bandwidth, [0.05001025, 0.052039], atol=1e-7)
    assert flat_map().at(-3.0, 9000.0)[0] == pytest.approx(2 - 2e-4 * 2039, abs=1e-6)


def test_map_and_table_of_a_calibration_file():
    ours = flat_map()
    content = level2.file_bytes(
        [
            fits.PrimaryHDU(),
            fits.ImageHDU(ours.wavelength, name="CWAVE"),
            fits.ImageHDU(ours.bandwidth, name="CBAND"),
            level2.wave_hdu(),
        ]
    )
    assert read_wave_map(content).at(100.5, 200.5) == ours.at(100.5, 200.5)
    assert isinstance(read_wave_table(content), WaveTable)
    with pytest.raises(InvalidFile, match="HDU CWAVE is missing"):
        read_wave_map(level2.file_bytes([fits.PrimaryHDU(), level2.wave_hdu()]))


@pytest.mark.parametrize(
    ("x", "values", "complaint"),
    [
        ([1, 900, 800, 2040], np.full((3, 4, 2), 2.0), "ascend"),
        ([1, 700, 900, 2040], np.full((3, 4, 2), np.nan), "wavelengths"),
        ([1, 700, 900], np.full((3, 4, 2), 2.0), "shape"),
    ],
)
def test_table_that_makes_no_sense_is_refused(x, values, complaint):
    with pytest.raises(InvalidFile, match=complaint):
        WaveTable(np.array(x, float), np.array([1.0, 1000.0, 2040.0]), values)
