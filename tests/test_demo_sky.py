"""The simulated sky: the files are what real ones are, and their pixels hold what the truth table says."""

import io
import json
import math
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from spxflow.demo import frames, geometry, headers, instrument, optics, scenario
from spxflow.demo.exposures import cloverleaf_exposures
from spxflow.demo.frames import target_window
from spxflow.demo.geometry import FRAME, TanSip
from spxflow.demo.wholes import ImageContent, Recent
from spxflow.mef.flags import KNOWN_FLAGS

VECTORS = json.loads((Path(__file__).parent / "data" / "wcs_test_vectors.json").read_text())
UJY_PER_ARCSEC2 = 23.504430
UNUSABLE = sum(1 << KNOWN_FLAGS[name] for name in KNOWN_FLAGS if name not in ("SOURCE", "FULLSAMPLE"))


@pytest.fixture(scope="module")
def demo(demo_scenario):
    return demo_scenario


@pytest.fixture(scope="module")
def field2():
    return scenario.load("field2")


@pytest.fixture(scope="module")
def releases():
    return scenario.load("releases")


def opened(field, file, window=None):
    return fits.open(io.BytesIO(field.render(file, window)))


def file_of(field, **wanted):
    """The first file whose attributes are as wanted."""
    return next(f for f in field.files.values() if all(getattr(f, key) == value for key, value in wanted.items()))


def pixel_areas(wcs, window):
    """Solid angles of a cutout's pixels in arcsec^2, from the sky positions of their corners."""
    _, _, nx, ny = window
    x, y = np.meshgrid(np.arange(nx + 1) - 0.5, np.arange(ny + 1) - 0.5)
    ra, dec = np.radians(wcs.all_pix2world(x, y, 0))
    p = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)
    diagonals = p[1:, 1:] - p[:-1, :-1], p[1:, :-1] - p[:-1, 1:]
    return 0.5 * np.linalg.norm(np.cross(*diagonals), axis=-1) * 206264.80624709636**2


# --- where things fall ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_frame():
    values = headers.header_values(headers.read_template("qr2_image_header.txt"))
    return TanSip(float(values["CRVAL1"]), float(values["CRVAL2"]), geometry.real_pc())


def test_the_real_header_gives_the_archives_corners_and_centre(real_frame):
    outline = geometry.frame_outlines([real_frame])[0]
    assert np.allclose(outline[:4], VECTORS["frame_outer_corners_sky"], rtol=0, atol=1e-11)
    assert np.allclose(outline[4], VECTORS["frame_center_sky (0-based 1019.5,1019.5)"], rtol=0, atol=1e-11)


def test_pixels_and_wavelengths_of_the_real_cutout(real_frame):
    x0, y0 = VECTORS["cutout_origin_det0"]
    table = instrument.wave_table(3, "qr2")
    for pixel in VECTORS["pixels"]:
        x, y = pixel["cut0"][0] + x0, pixel["cut0"][1] + y0
        assert np.allclose(real_frame.pixel_to_sky(x, y), (pixel["ra"], pixel["dec"]), rtol=0, atol=1e-11)
        assert np.allclose(real_frame.sky_to_pixel(pixel["ra"], pixel["dec"]), (x, y), rtol=0, atol=1e-8)
        assert np.allclose(table.at(x, y), (pixel["wavelength"], pixel["bandwidth"]), rtol=0, atol=1e-6)


def test_solid_angles_have_the_median_and_spread_of_the_real_header(real_frame):
    index = np.arange(0, FRAME, 4)
    area = real_frame.solid_angle_arcsec2(index[None, :], index[:, None])
    assert np.median(area) == pytest.approx(37.861739642774666, abs=0.003)
    assert area.std() == pytest.approx(0.2014352039507048, rel=0.01)


def test_astropy_reads_the_same_positions_from_a_cutout(demo, field2):
    for field in (demo, field2):
        for file in list(field.files.values())[::17]:
            window = (700, 1203, 61, 40)
            with opened(field, file, window) as hdus:
                wcs = WCS(hdus["IMAGE"].header)
                areas = pixel_areas(wcs, window)
            ra, dec = wcs.all_pix2world(30.25, 11.5, 0)
            assert demo.sky_to_pixel(file, ra, dec) == pytest.approx((730.25, 1214.5), abs=1e-7)
            inner = file.exposure.wcs.solid_angle_arcsec2(*np.meshgrid(np.arange(700, 761), np.arange(1203, 1243)))
            assert np.allclose(areas, inner, rtol=1e-6)


def test_the_target_lies_where_the_listed_wavelength_is(demo):
    listed = {(e.obs_id, e.detector): e for e in cloverleaf_exposures(demo.target.ra_deg, demo.target.dec_deg)}
    rows = _cloverleaf_rows()
    assert len(rows) == len(listed) == len(demo.files) == 108
    for file in demo.files.values():
        row = rows[file.obs_id, file.detector]
        x, y = demo.sky_to_pixel(file, demo.target.ra_deg, demo.target.dec_deg)
        wavelength, _ = instrument.wave_table(file.detector, "qr2").at(x, y)
        assert wavelength == pytest.approx(float(row["wavelength_um"]), abs=1e-4)
        assert f"https://irsa.ipac.caltech.edu/ibe/data/spherex/{file.path}" == row["url"]
        assert (file.mjd_begin, file.mjd_end) == (float(row["t_min"]), float(row["t_max"]))


def _cloverleaf_rows():
    import csv

    text = (Path(scenario.__file__).parent / "data" / "cloverleaf_observations.csv").read_text()
    return {(row["obs_id"], int(row["band"][1])): row for row in csv.DictReader(text.splitlines())}


def test_detectors_of_a_pair_see_nearly_the_same_sky(demo):
    by_obs = {}
    for file in demo.files.values():
        by_obs.setdefault(file.obs_id, []).append(file)
    pairs = [files for files in by_obs.values() if len(files) == 2]
    assert len(pairs) > 40
    for first, second in pairs:
        assert abs(second.detector - first.detector) == 3
        x, y = demo.sky_to_pixel(second, *first.center)
        assert math.hypot(x - 1019.5, y - 1019.5) < 20.0


# --- files ------------------------------------------------------------------------------------


def test_a_qr2_cutout_has_the_hdus_cards_and_length_of_real_ones(demo):
    file = file_of(demo, detector=4)
    content = demo.render(file, target_window(file.exposure))
    assert len(content) == 5_106_240
    with fits.open(io.BytesIO(content)) as hdus:
        hdus.verify("exception")
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "IMAGE", "FLAGS", "VARIANCE", "ZODI", "PSF", "WCS-WAVE"]
        assert [len(hdu.header) for hdu in hdus] == [5, 239, 146, 119, 119, 509, 18]
        assert [hdu.data.dtype.str for hdu in hdus[1:6]] == [">f4", ">i4", ">f4", ">f4", ">f4"]
        assert hdus["WCS-WAVE"].columns.formats == ["13J", "20J", "520E"]
        assert hdus["WCS-WAVE"].data["VALUES"].shape == (1, 20, 13, 2)
        assert hdus["IMAGE"].header["EXPIDN"] == int(
            f"{file.obs_id[:4]}{file.obs_id[5:7]}{file.obs_id[8]}01" + (f"{file.obs_id[11:15]}{file.obs_id[16]}4")
        )


def test_the_whole_download_is_as_large_as_the_real_one(demo):
    """The real 108 cutouts of 60 x 60 px had 0.5136001110076904 GiB."""
    total = sum(len(demo.render(file, target_window(file.exposure))) for file in demo.files.values())
    assert total / 2**30 == pytest.approx(0.5136001110076904, rel=1e-12)


def test_all_cards_of_the_real_header_are_there_with_their_comments(releases):
    file = file_of(releases, version="l2b-v21-2025-354")
    with opened(releases, file, (0, 0, 8, 8)) as hdus:
        image, flags = hdus["IMAGE"].header, hdus["FLAGS"].header
    real = fits.Header.fromstring("".join(headers.read_template("qr2_image_header.txt")))
    assert list(image) == list(real)
    assert len(image) == 255
    assert len(flags) == 152
    unchanged = [
        key for key in ("TSAMP", "NCHANNEL", "A_0_0", "BP_3_0", "XPOSURE", "PS1_0W") if image[key] == real[key]
    ]
    assert len(unchanged) == 6
    assert all(str(image.comments[key]) == str(real.comments[key]) for key in ("PSF_FWHM", "CRVAL1", "X_SC", "EXPIDN"))


def test_cutout_headers_are_shifted_and_the_rest_is_whole(demo):
    file = file_of(demo, detector=5)
    with opened(demo, file) as whole, opened(demo, file, (1292, 863, 117, 90)) as cutout:
        assert whole["IMAGE"].header["CRPIX1"] == whole["IMAGE"].header["CRPIX2"] == 1020.5
        assert whole["FLAGS"].header["CRPIX1W"] == whole["ZODI"].header["CRPIX2A"] == 1.0
        for name in ("IMAGE", "FLAGS", "VARIANCE", "ZODI"):
            header = cutout[name].header
            assert (header["CRPIX1"], header["CRPIX2"]) == (-271.5, 157.5)
            assert (header["CRPIX1A"], header["CRPIX2W"]) == (-1291.0, -862.0)
            assert cutout[name].data.shape == (90, 117)
        assert np.array_equal(whole["PSF"].data, cutout["PSF"].data)
        assert np.array_equal(whole["WCS-WAVE"].data["VALUES"], cutout["WCS-WAVE"].data["VALUES"])


def test_flag_names_by_version(demo, releases):
    v20, v21 = file_of(demo, detector=1), file_of(releases, version="l2b-v21-2025-354")
    qr3 = file_of(releases, release="qr3")
    with opened(demo, v20, (0, 0, 8, 8)) as hdus:
        assert "MP_SOURCE" in hdus["FLAGS"].header
        assert "MP_HALO" not in hdus["FLAGS"].header
    with opened(releases, v21, (0, 0, 8, 8)) as hdus:
        assert hdus["FLAGS"].header["MP_HALO"] == 28
    with opened(releases, qr3, (0, 0, 8, 8)) as hdus:
        assert not any(key.startswith("MP_") for key in hdus["FLAGS"].header)
        assert hdus["FLAGS"].header["MSKN0021"] == "SOURCE"
        assert hdus["FLAGS"].header["MSKN0029"] == "SATELLITE_HALO"


def test_a_qr3_file_opens_and_is_as_described(releases):
    for detector, zones in ((3, (11, 41)), (5, (21, 21))):
        file = file_of(releases, release="qr3", detector=detector)
        with opened(releases, file, target_window(file.exposure)) as hdus:
            hdus.verify("exception")
            assert [hdu.name for hdu in hdus] == ["PRIMARY", "IMAGE", "FLAGS", "VARIANCE", "ZODI", "EPSF", "WCS-WAVE"]
            assert hdus[0].header["VERSION"] == "7.0.5"
            assert isinstance(hdus["FLAGS"], fits.CompImageHDU)
            assert hdus["FLAGS"].data.shape == hdus["IMAGE"].data.shape == (60, 60)
            table = hdus["EPSF"].data
            assert len(table) == zones[0] * zones[1]
            assert np.array_equal(table["BINX"], np.arange(len(table)) % zones[0])
            assert np.allclose(table["XCENTER"], (table["BINX"] + 0.5) * 2040 / zones[0] - 0.5)
            assert np.allclose(table["EPSF"].sum(axis=1), 1.0, atol=1e-3)
            qr2 = instrument.wave_table(detector, "qr2").wavelength
            shift = hdus["WCS-WAVE"].data["VALUES"][0, ..., 0] - qr2
            assert np.allclose(shift, 0.0064 if detector == 5 else 0.0, atol=1e-6)


def test_psf_cube_and_its_zone_keywords(demo, releases):
    wrong = file_of(releases, version="l2b-v21-2025-354")
    right = file_of(releases, version="l2b-v25-2026-203")
    for file, (xctr_2, yctr_2) in ((wrong, (93.22727273, 278.68181818)), (right, (278.68181818, 93.22727273))):
        with opened(releases, file, (0, 0, 8, 8)) as hdus:
            cube, header = hdus["PSF"].data, hdus["PSF"].header
            assert (header["XCTR_2"], header["YCTR_2"]) == (xctr_2, yctr_2)
            assert (header["XCTR_61"], header["OVERSAMP"], header["CRPIX1"]) == (1020.5, 10, 51.0)
        assert cube.shape == (121, 101, 101)
        assert np.allclose(cube.sum(axis=(1, 2), dtype=float), 1.0, atol=1e-5)
    versions = Counter(file.exposure.pipeline_version for file in demo.files.values())
    assert set(versions) == {"6.5.4", "6.5.4+psffix1"}


def test_planes_are_x_fast_and_cores_lie_where_real_ones_do(demo):
    """Core about (-0.053, -0.048) native px off the middle (published measurement of the real cubes)."""
    cube = optics.psf_cube(1, demo.camera.asymmetry).astype(float)
    index = np.arange(101) - 50.0
    core = cube[:, 46:55, 46:55]
    weight = np.exp(-0.5 * (index[46:55, None] ** 2 + index[None, 46:55] ** 2) / 3.0**2) * core
    dx = (weight * index[46:55]).sum((1, 2)) / weight.sum((1, 2))
    dy = (weight * index[46:55, None]).sum((1, 2)) / weight.sum((1, 2))
    narrowing = dx.mean() / -0.53  # a Gaussian weight narrows the core and so its offset
    assert 0.3 < narrowing < 1.0
    by_row = dy.reshape(11, 11).mean(axis=1)
    assert by_row[-1] - by_row[0] > 0.1  # the offset in y grows with y, so along the slow index
    assert abs(np.diff(dy.reshape(11, 11).mean(axis=0))).max() < 0.02


def test_a_three_pixel_aperture_holds_what_published_corrections_say(demo):
    """Factors from 1.13 to 1.45 (facts 6)."""
    for detector in range(1, 7):
        left, bottom, shares = optics.stamps(detector, np.array([1019.5]), np.array([1019.2]), demo.camera.asymmetry)
        assert shares.sum() == pytest.approx(1.0, abs=1e-9)
        fine = (np.arange(20) - 9.5) / 20
        x = (left[0] + np.arange(15))[:, None] + fine - 1019.5
        y = (bottom[0] + np.arange(15))[:, None] + fine - 1019.2
        inside = (x.ravel()[None, :] ** 2 + y.ravel()[:, None] ** 2 < 1.5**2).reshape(15, 20, 15, 20).mean((1, 3))
        assert 1.13 < 1.0 / (inside * shares[0]).sum() < 1.45


# --- pixels -----------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["demo", "releases"])
def test_a_cutout_is_the_crop_of_the_whole_frame(which, request):
    field = request.getfixturevalue(which)
    file = file_of(field, release="qr2" if which == "demo" else "qr3", detector=4 if which == "demo" else 5)
    with opened(field, file) as whole:
        planes = {name: whole[name].data for name in ("IMAGE", "FLAGS", "VARIANCE", "ZODI")}
    windows = [
        target_window(file.exposure),
        (0, 1980, 33, 60),
        (1990, 0, 50, 20),
        (601, 1303, 200, 130),
        (64, 64, 1, 1),
    ]
    for x0, y0, nx, ny in windows:
        with opened(field, file, (x0, y0, nx, ny)) as cutout:
            for name, plane in planes.items():
                crop = plane[y0 : y0 + ny, x0 : x0 + nx]
                assert cutout[name].data.tobytes() == crop.tobytes(), (name, x0, y0)


@pytest.mark.parametrize("which", ["demo", "releases"])
def test_byte_ranges_are_those_of_the_whole_file(which, request):
    field = request.getfixturevalue(which)
    file = [file for file in field.files.values() if file.release == "qr2"][-1]
    whole, content = field.render(file), ImageContent(field, file, Recent(10**8))
    assert content.size == len(whole)
    rng = np.random.default_rng(1)
    for length in (1, 80, 241, 9000, 700_000):
        for start in rng.integers(0, len(whole), 6).tolist():
            assert content.read(start, start + length) == whole[start : start + length]


def test_noise_is_what_the_variance_says(demo):
    """Of the empty, unflagged sky: residuals over sqrt(VARIANCE) have unit width, medians are the listed ones."""
    rows = _cloverleaf_rows()
    for detector in range(1, 7):
        file = file_of(demo, detector=detector)
        pixels = frames.render(file.exposure, demo.sky, demo.camera, (800, 800, 320, 320))
        empty = pixels.flags & (UNUSABLE | 1 << KNOWN_FLAGS["SOURCE"]) == 0
        pull = (pixels.image - file.exposure.zodi_scale * pixels.zodi)[empty] / np.sqrt(pixels.variance[empty])
        spread = np.subtract(*np.percentile(pull, [84.135, 15.865])) / 2.0
        assert spread == pytest.approx(1.0, abs=0.03)
        listed = math.sqrt(float(rows[file.obs_id, detector]["median_variance_uJy2_arcsec-4"])) / UJY_PER_ARCSEC2
        assert math.sqrt(np.median(pixels.variance[empty])) == pytest.approx(listed, rel=0.04)


def test_variance_is_a_straight_line_of_the_noisy_pixel(demo):
    file = file_of(demo, detector=2)
    pixels = frames.render(file.exposure, demo.sky, demo.camera, target_window(file.exposure))
    good = np.isfinite(pixels.variance) & np.isfinite(pixels.image)
    slope, floor = np.polyfit(pixels.image[good].astype(float), pixels.variance[good].astype(float), 1)
    detector = instrument.DETECTORS[2]
    assert (slope, floor) == pytest.approx((detector.photon_slope, detector.read_variance), rel=1e-3)


def test_nan_variances_are_as_many_as_listed_and_flagged(demo):
    for file in demo.files.values():
        x0, y0, nx, ny = window = target_window(file.exposure)
        assert (nx, ny) == (60, 60)
        x, y = demo.sky_to_pixel(file, demo.target.ra_deg, demo.target.dec_deg)
        assert (x0, y0) == (math.floor(x + 1 - 30), math.floor(y + 1 - 30))
        pixels = frames.render(file.exposure, demo.sky, demo.camera, window)
        nan = np.isnan(pixels.variance)
        assert nan.sum() == int(_cloverleaf_rows()[file.obs_id, file.detector]["n_nan_variance"])
        assert (pixels.flags[nan] != 0).all()
        assert not (np.isnan(pixels.image) & ~nan).any()


def test_some_nan_variances_may_carry_no_flag(field2):
    unflagged = 0
    for file in list(field2.files.values())[:12]:
        pixels = frames.render(file.exposure, field2.sky, field2.camera, (500, 500, 400, 400))
        unflagged += (np.isnan(pixels.variance) & (pixels.flags & ~(1 << KNOWN_FLAGS["SOURCE"]) == 0)).sum()
    assert 20 < unflagged < 400


def test_flags_are_about_as_frequent_as_in_the_real_frame(releases):
    """Counts of the real header: TRANSIENT 22044, SUR_ERROR 15463, NONFUNC 12153, DICHROIC 109713 of D3."""
    file = next(f for f in releases.files.values() if f.detector == 3 and "v20" not in f.version)
    flags = frames.render(file.exposure, releases.sky, releases.camera).flags
    counts = {name: int((flags >> bit & 1).sum()) for name, bit in KNOWN_FLAGS.items()}
    for name, real in {"TRANSIENT": 22044, "SUR_ERROR": 15463, "NONFUNC": 12153, "DICHROIC": 109713}.items():
        assert 0.7 * real < counts[name] < 1.6 * real, name
    assert 0.03 < counts["SOURCE"] / flags.size < 0.4
    assert min(counts[name] for name in ("OUTLIER", "PERSIST", "OVERFLOW", "COLD", "HALO", "SNOWBALL")) > 0


def test_the_target_is_flagged_source(demo):
    for file in list(demo.files.values())[::9]:
        x, y = (round(value) for value in demo.sky_to_pixel(file, demo.target.ra_deg, demo.target.dec_deg))
        pixels = frames.render(file.exposure, demo.sky, demo.camera, (x, y, 1, 1))
        assert pixels.flags[0, 0] & 1 << KNOWN_FLAGS["SOURCE"]


# --- fluxes -----------------------------------------------------------------------------------


def _wide_aperture(field, file, row):
    """Sum of a source's light within 7.5 px in µJy and its formal error; None where a pixel is unusable."""
    x0, y0 = round(row["x_det"]) - 9, round(row["y_det"]) - 9
    if not (0 <= x0 < FRAME - 19 and 0 <= y0 < FRAME - 19):
        return None
    window = (x0, y0, 19, 19)
    with opened(field, file, window) as hdus:
        header = hdus["IMAGE"].header
        x, y = WCS(header).all_world2pix(row["ra_deg"], row["dec_deg"], 0)
        sky = file.exposure.zodi_scale * hdus["ZODI"].data.astype(float)
        area = pixel_areas(WCS(header), window)
        rows, columns = np.indices(area.shape)
        inside = (columns - x) ** 2 + (rows - y) ** 2 < 7.5**2
        if (hdus["FLAGS"].data[inside] & UNUSABLE).any():
            return None
        gain = field.camera.gain_rows(file.exposure)[y0 : y0 + 19, None]
        light = (hdus["IMAGE"].data - sky / gain) * area * UJY_PER_ARCSEC2
        variance = hdus["VARIANCE"].data * (area * UJY_PER_ARCSEC2) ** 2
    return light[inside].sum(), math.sqrt(variance[inside].sum())


@pytest.mark.parametrize("name", ["demo", "field2", "releases"])
def test_summed_light_of_isolated_sources_is_the_true_flux(name):
    """In a sky with more room about the sources, seen by detectors with few flaws."""
    field = scenario.load(name, clear_px=17.0, flaw_scale=0.1)
    files = {file.stem: file for file in field.files.values()}
    rows = [row for row in field.truth() if row["source"].startswith("isolated")]
    pulls, ratios = [], []
    for index in np.random.default_rng(3).choice(len(rows), 70, replace=False):
        row = rows[index]
        measured = _wide_aperture(field, files[row["stem"]], row)
        if measured is not None:
            pulls.append((measured[0] - row["flux_ujy"]) / measured[1])
            ratios.append(measured[0] / row["flux_ujy"])
    assert len(pulls) > 35
    assert abs(np.mean(pulls)) < 4.0 / math.sqrt(len(pulls))
    assert 0.8 < np.std(pulls) < 1.2
    assert np.median(ratios) == pytest.approx(1.0, abs=0.03)


def test_without_noise_the_light_is_exact():
    """The light of an isolated source adds up to its flux, and the pixels hold it over their solid angle."""
    quiet = scenario.load("demo", clear_px=24.0, noise_scale=0.0, flaw_scale=0.0)
    file = file_of(quiet, detector=3)
    row = next(r for r in scenario.truth_rows(file, quiet.sky, quiet.camera) if r["source"] == "isolated-05")
    window = (round(row["x_det"]) - 8, round(row["y_det"]) - 8, 17, 17)
    light = frames.starlight(file.exposure, quiet.sky, quiet.camera.asymmetry, window)
    assert light.sum() == pytest.approx(row["flux_ujy"], rel=1e-8)
    pixels = frames.render(file.exposure, quiet.sky, quiet.camera, window)
    with opened(quiet, file, window) as hdus:
        area = pixel_areas(WCS(hdus["IMAGE"].header), window)
    seen = (pixels.image - file.exposure.zodi_scale * pixels.zodi) * area * UJY_PER_ARCSEC2
    usable = pixels.flags & UNUSABLE == 0
    assert usable.sum() > 280
    assert np.allclose(seen[usable], light[usable], rtol=1e-5, atol=1e-2)


def test_true_flux_is_the_band_mean_of_the_spectrum(demo):
    row = next(r for r in demo.truth() if r["source"] == "cloverleaf" and r["band"] == "D4")
    from spxflow.demo.sky import KINDS, band_mean

    fine = np.linspace(-0.5, 0.5, 4001) * row["bandwidth_um"] + row["wavelength_um"]
    narrow = band_mean(KINDS.index("quasar"), fine, np.full(fine.size, 1e-4))
    assert row["flux_ujy"] == pytest.approx(2200.0 * narrow.mean(), rel=1e-4)


def test_every_exposure_lists_every_source_it_sees(demo):
    rows = demo.truth()
    by_source = Counter(row["source"] for row in rows)
    assert by_source["cloverleaf"] == 108
    assert len({(row["stem"], row["source"]) for row in rows}) == len(rows)
    assert {name.split("-")[0] for name in by_source} >= {
        *("isolated", "faint", "blank", "blend", "mover", "variable", "spiked", "bright", "cloverleaf"),
    }
    assert all(row["flux_ujy"] == 0.0 for row in rows if row["source"].startswith("blank"))


def test_blends_are_as_close_and_as_unequal_as_said(demo):
    by_name = {source.name: source for source in demo.sky.sources}
    separations, ratios = [], []
    for index in range(1, 7):
        a, b = by_name[f"blend-{index:02d}a"], by_name[f"blend-{index:02d}b"]
        dra = (a.ra_deg - b.ra_deg) * math.cos(math.radians(a.dec_deg))
        separations.append(math.hypot(dra, a.dec_deg - b.dec_deg) * 3600.0 / 6.153)
        ratios.append(a.amplitude_ujy / b.amplitude_ujy)
    assert separations == pytest.approx([0.6, 1.0, 1.5, 2.0, 2.5, 3.0], abs=1e-3)
    assert ratios == pytest.approx([1.0, 2.0, 3.0, 5.0, 2.0, 5.0])


def test_a_moving_star_moves_and_a_variable_dims(demo):
    rows = demo.truth()
    mover = next(source for source in demo.sky.sources if source.name == "mover")
    row = next(r for r in rows if r["source"] == "mover")
    years = 2000.0 + (row["mjd"] - 51544.5) / 365.25 - 2016.0
    dra = (row["ra_deg"] - mover.ra_deg) * math.cos(math.radians(mover.dec_deg)) * 3.6e6
    assert dra == pytest.approx(900.0 * years, abs=1.0)
    assert (row["dec_deg"] - mover.dec_deg) * 3.6e6 == pytest.approx(-600.0 * years, abs=1.0)
    fluxes = {r["flux_ujy"] / 20000.0 for r in rows if r["source"] == "variable"}
    assert {round(value, 6) for value in fluxes} == {1.0, 0.9}


def test_spikes_in_cores_are_large_and_flagged(demo):
    files = {file.stem: file for file in demo.files.values()}
    spiked = [row for row in demo.truth() if row["source"] == "spiked" and row["spiked"]]
    assert 30 < len(spiked) < 80
    for row in spiked[::12]:
        window = (round(row["x_det"]) - 1, round(row["y_det"]) - 1, 3, 3)
        pixels = frames.render(files[row["stem"]].exposure, demo.sky, demo.camera, window)
        top = np.nanargmax(pixels.image)
        assert pixels.image.flat[top] > 30.0
        assert pixels.flags.flat[top] & 1 << KNOWN_FLAGS["TRANSIENT"]


# --- scenarios --------------------------------------------------------------------------------


def test_the_first_files_do_not_depend_on_how_many_there_are():
    few, more = scenario.load("many", n=300), scenario.load("many", n=330)
    assert list(more.files)[:300] == list(few.files)
    assert [file.ingested for file in more.files.values()] == list(range(330))
    for path in (next(iter(few.files)), list(few.files)[299]):
        window = target_window(few.files[path].exposure)
        assert few.render(few.files[path], window) == more.render(more.files[path], window)


def test_loaded_again_everything_is_the_same_and_another_seed_differs(demo):
    file = file_of(demo, detector=6)
    again, other = scenario.load("demo"), scenario.load("demo", seed=77)
    window = target_window(file.exposure)
    assert again.render(again.files[file.path], window) == demo.render(file, window)
    assert other.render(other.files[file.path], window) != demo.render(file, window)


def test_releases_hold_what_a_reader_has_to_cope_with(releases):
    files = list(releases.files.values())
    assert {file.release for file in files} == {"qr2", "qr3"}
    assert {file.detector for file in files if file.release == "qr3"} == {1, 2, 3, 4, 5, 6}
    assert any(file.collections == ("spherex_qr3", "spherex_qr3_deep") for file in files)
    versions = Counter((file.obs_id, file.detector) for file in files)
    assert max(versions.values()) == 2
    bands = Counter(obs_id for obs_id, _ in versions)
    assert set(bands.values()) == {1, 2}


def test_gain_error_is_undone_by_the_correction_map(releases):
    file = file_of(releases, release="qr2", detector=1)
    product = next(c for c in releases.calibration.values() if c.family == "l3_flux_corrections" and c.detector == 1)
    with fits.open(io.BytesIO(product.render())) as hdus:
        factor = hdus[1].data
    assert np.median(factor) == pytest.approx(0.970, abs=0.005)
    assert ((factor < 0.5) | (factor > 2.0)).mean() == pytest.approx(0.0029, rel=0.1)
    row = next(r for r in releases.truth() if r["stem"] == file.stem and r["source"] == "isolated-01")
    assert row["flux_ujy"] * np.median(factor[round(row["y_det"])]) == pytest.approx(row["flux_r7_ujy"], rel=1e-4)


def test_calibration_products(demo):
    products = demo.calibration
    assert len({c.token for c in products.values() if c.family == "average_psf"}) == 3
    for product in products.values():
        if product.detector != 3:
            continue
        with fits.open(io.BytesIO(product.render())) as hdus:
            hdus.verify("exception")
            _check_product(demo, product, hdus)


def _check_product(demo, product, hdus):
    if product.family == "spectral_wcs" and product.token != "cal-wcs-v3-2025-172":
        table, _ = instrument.wave_table(3, product.release).at(np.arange(FRAME)[None, :], np.arange(FRAME)[:, None])
        assert 1e-4 < np.abs(hdus["CWAVE"].data - table).max() < 1e-3
        assert [hdu.name for hdu in hdus[1:]] == ["CWAVE", "CBAND", "WCS-WAVE"]
    elif product.family == "solid_angle_pixel_map":
        assert np.median(hdus[1].data) == pytest.approx(37.866, abs=0.01)
    elif product.token.startswith("cal-psf-v5"):
        with opened(demo, file_of(demo, detector=3), (0, 0, 8, 8)) as level2:
            assert level2["PSF"].data.tobytes() == hdus["PSF-DATA-CUBE"].data.tobytes()
    elif product.family == "epsf":
        assert "Calibration source file: epsf_3_" in str(hdus["EPSF"].header["HISTORY"])


def test_threads_render_the_same_bytes(demo):
    jobs = [(file, target_window(file.exposure)) for file in list(demo.files.values())[:24]]
    alone = [demo.render(*job) for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda job: demo.render(*job), jobs)) == alone


def test_a_deep_field_has_as_many_files_as_asked_for():
    assert len(scenario.load("deep", n=20000).files) == 20000


def test_an_unknown_scenario_is_named():
    with pytest.raises(ValueError, match="no scenario 'nowhere'; there are demo, field2"):
        scenario.load("nowhere")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"nn": 3}, "nn: no such value; there are seed, n, kind"),
        ({"n": "many"}, "n: got 'many', takes numbers, as 0"),
        ({"kind": "purple"}, "kind: got 'purple', takes quasar, flat"),
        ({"slews_per_day": 0}, "slews_per_day: got 0, takes a number above 0"),
    ],
)
def test_a_wrong_value_of_a_scenario_is_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        scenario.load("demo", **wrong)
