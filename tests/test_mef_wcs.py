"""Sky positions and solid angles against astropy, the archive's own footprint and the header's own statistics."""

import json

import level2
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from spxflow.mef import InvalidFile
from spxflow.mef.header import Header
from spxflow.mef.wcs import read_wcs

VECTORS = json.loads((level2.DATA / "wcs_test_vectors.json").read_text())


def both(cards, **changes):
    """Our WCS and astropy's of the same header."""
    header = fits.Header.fromstring("".join(line.ljust(80) for line in cards.splitlines()))
    for keyword, value in changes.items():
        if value is None:
            del header[keyword]
        else:
            header[keyword] = value
    return read_wcs(Header(header.tostring().encode(), "IMAGE")), WCS(header)


@pytest.fixture(scope="module")
def cutout():
    return both(level2.IMAGE_CARDS)


@pytest.fixture(scope="module")
def detector_pixels():
    """Pixels all over the detector, as pixels of the cutout."""
    x, y = np.random.default_rng(1).uniform(-0.5, 2039.5, (2, 4000))
    return x - 1292, y - 863


def test_pixels_of_the_real_cutout(cutout):
    for vector in VECTORS["pixels"]:
        ra, dec = cutout[0].pixel_to_sky(*vector["cut0"])
        assert (ra, dec) == pytest.approx((vector["ra"], vector["dec"]), abs=1e-12)
        x, y = cutout[0].sky_to_pixel(vector["ra"], vector["dec"])
        assert (x, y) == pytest.approx(vector["cut0"], abs=1e-9)


def test_centre_of_the_real_cutout(cutout):
    """The vector is from an iteration that stops early; 1e-8 px are 2e-11 deg."""
    assert cutout[0].sky_to_pixel(10.6847, 41.2690) == pytest.approx(VECTORS["center_in_cut0"], abs=1e-8)


def test_frame_has_the_footprint_that_the_archive_lists(cutout):
    frame = cutout[0].shifted(-1292, -863)
    corners = np.array([(-0.5, -0.5), (2039.5, -0.5), (2039.5, 2039.5), (-0.5, 2039.5)]).T
    np.testing.assert_allclose(
        np.transpose(frame.pixel_to_sky(*corners)), VECTORS["frame_outer_corners_sky"], rtol=0, atol=1e-12
    )
    centre = VECTORS["frame_center_sky (0-based 1019.5,1019.5)"]
    assert frame.pixel_to_sky(1019.5, 1019.5) == pytest.approx(centre, abs=1e-12)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"LONPOLE": 137.0},
        {"CRVAL1": 0.0005},
        {"CRVAL1": 123.0, "CRVAL2": 88.9, "LATPOLE": 88.9},
        {"CRVAL2": -89.99, "LATPOLE": -89.99},
        {"CDELT1": -1.1, "CDELT2": 0.9},
        {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"},
    ],
    ids=lambda changes: ",".join(changes) or "as it is",
)
def test_agrees_with_astropy(changes, detector_pixels):
    if "CTYPE1" in changes:
        changes |= {f"{letter}_ORDER": None for letter in ("A", "B", "AP", "BP")}
    ours, theirs = both(level2.IMAGE_CARDS, **changes)
    ra, dec = theirs.all_pix2world(*detector_pixels, 0)
    our_ra, our_dec = ours.pixel_to_sky(*detector_pixels)
    turn = (our_ra - ra + 180) % 360 - 180
    assert np.abs(turn * np.cos(np.radians(dec))).max() < 1e-12
    assert np.abs(our_dec - dec).max() < 1e-12
    x, y = ours.sky_to_pixel(ra, dec)
    assert np.hypot(x - detector_pixels[0], y - detector_pixels[1]).max() < 1e-9


def test_cd_matrix_is_pc_times_cdelt(detector_pixels):
    pc, _ = both(level2.IMAGE_CARDS, CDELT1=0.5, CDELT2=2.0)
    rows = {f"CD{i}_{j}": pc.cd[i - 1][j - 1] for i in (1, 2) for j in (1, 2)}
    header = fits.Header.fromstring("".join(line.ljust(80) for line in level2.IMAGE_CARDS.splitlines()))
    for keyword in ("PC1_1", "PC1_2", "PC2_1", "PC2_2", "CDELT1", "CDELT2"):
        del header[keyword]
    header.update(rows)
    cd = read_wcs(Header(header.tostring().encode(), "IMAGE"))
    np.testing.assert_array_equal(cd.pixel_to_sky(*detector_pixels), pc.pixel_to_sky(*detector_pixels))


def test_inversion_agrees_with_astropy_where_ap_bp_do_not(cutout, detector_pixels):
    """AP and BP of the real header are off by more than we allow ourselves."""
    ours, theirs = cutout
    ra, dec = theirs.all_pix2world(*detector_pixels, 0)
    by_iteration = np.array(theirs.all_world2pix(ra, dec, 0, tolerance=1e-10))
    assert np.abs(np.array(ours.sky_to_pixel(ra, dec)) - by_iteration).max() < 1e-8
    foc = theirs.wcs_world2pix(ra, dec, 0)
    by_header = np.array(theirs.sip_foc2pix(*foc, 0))
    assert np.abs(by_header - by_iteration).max() > 1e-4


def test_window_moves_pixels_only(cutout):
    ours = cutout[0]
    assert ours.shifted(7, 11).pixel_to_sky(3.5, 4.0) == pytest.approx(ours.pixel_to_sky(10.5, 15.0), abs=1e-13)


def test_positions_without_a_pixel_are_nan(cutout):
    ra = [190.088, 10.088, 100.0, np.nan, 55.0]
    dec = [-40.9, -60.0, 0.0, 41.0, 41.0]
    x, y = cutout[0].sky_to_pixel(ra, dec)
    assert not (np.abs(x - 58) < 1e4).any()
    assert np.isnan(x[[0, 3]]).all()
    assert np.isnan(y[[0, 3]]).all()


def test_solid_angle_is_that_of_the_pixel_corners(cutout):
    """Against the area of the small spherical quadrilateral between the corners, by astropy."""
    ours, theirs = cutout
    x, y = np.random.default_rng(2).uniform(-1292, 747, (2, 30))
    dx, dy = np.array([-0.5, 0.5, 0.5, -0.5]), np.array([-0.5, -0.5, 0.5, 0.5])
    corners = theirs.all_pix2world(x[:, None] + dx, y[:, None] + dy, 0)
    centre = SkyCoord(*(np.array(theirs.all_pix2world(x, y, 0))[:, :, None]), unit="deg")
    east, north = (offset.arcsec for offset in centre.spherical_offsets_to(SkyCoord(*corners, unit="deg")))
    area = 0.5 * np.abs((east * np.roll(north, -1, 1) - np.roll(east, -1, 1) * north).sum(axis=1))
    np.testing.assert_allclose(ours.solid_angle_arcsec2(x, y), area, rtol=1e-8)


def test_solid_angle_has_the_statistics_of_the_header(cutout):
    """The pipeline wrote median and scatter of its own solid angle map into this very header."""
    header = Header("".join(line.ljust(80) for line in level2.IMAGE_CARDS.splitlines()).encode(), "IMAGE")
    x, y = np.meshgrid(np.arange(4, 2040, 8.0), np.arange(4, 2040, 8.0))
    omega = cutout[0].shifted(-1292, -863).solid_angle_arcsec2(x, y)
    assert np.median(omega) == pytest.approx(header.number("OMEGA_MEDIAN"), rel=2e-5)
    assert omega.std() == pytest.approx(header.number("OMEGA_STDDEV"), rel=2e-2)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("CTYPE1", "RA---SIN"), ("CRVAL1", None), ("A_ORDER", 12), ("PC1_1", 0.0), ("CRVAL2", 95.0), ("CRPIX1", "x")],
)
def test_header_that_makes_no_sense_is_refused_by_name(keyword, value):
    changes = {keyword: value} | ({"PC2_1": 0.0} if keyword == "PC1_1" else {})
    with pytest.raises(InvalidFile, match=keyword[:2]):
        both(level2.IMAGE_CARDS, **changes)
