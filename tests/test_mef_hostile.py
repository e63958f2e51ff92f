"""Damaged files: whatever is done to the bytes, the reader gives an exposure or says in words what is wrong."""

import functools
import re

import level2
import numpy as np
import pytest
from astropy.io import fits
from spxflow.mef import InvalidFile, SkyWindow, names_of, read_exposure, scan, validate_file

pytestmark = pytest.mark.filterwarnings("error")

ODD_VALUES = [
    "-1",
    "0",
    "1E400",
    "NaN",
    "T",
    "'text'",
    "99999999999999999999",
    "2147483648",
    "1.5",
    "",
    "-7.25D99",
    "\x00\xff",
]
KEYWORDS_READ = re.compile(
    rb"(SIMPLE|XTENSION|BITPIX|NAXIS\d?|PCOUNT|GCOUNT|TFIELDS|TTYPE\d|TFORM\d|THEAP|Z[A-Z]+\d?|EXTNAME|BUNIT|VERSION"
    rb"|CRPIX\d[AW]?|PC\d_\d|CDELT\d|CRVAL\d|CTYPE\d|LONPOLE|[AB]_ORDER|[AB]_\d_\d|MJD-(BEG|AVG|END)|DETECTOR|OBSID"
    rb"|XPOSURE|PSF_FWHM|OVSMP[XY]|OVERSAMP|[XYZ]_SC|[XY]CTR_\d|MSK[NM]\d+|(HIERARCH )?MP_[A-Z_]+) *="
)


@functools.cache
def small_file(release):
    """A whole file of a few hundred kilobytes: 3 x 3 PSF zones, few pixels."""
    hdus = level2.level2_hdus(release, nx=12, ny=10)
    centres = np.array([300.5, 1020.5, 1740.5])
    if release == "QR2":
        psf = fits.ImageHDU(level2.optical_planes(n=31, centres=centres - 1), name="PSF")
        psf.header.update(OVERSAMP=10, CRPIX1=16.0, CRPIX2=16.0)
        for plane in range(9):
            psf.header[f"XCTR_{plane + 1}"], psf.header[f"YCTR_{plane + 1}"] = centres[plane % 3], centres[plane // 3]
    else:
        psf = level2.epsf_hdu(3, 3)
    return level2.file_bytes([*hdus[:5], psf, hdus[6]])


def survives(content):
    """Whether the file was read; if so, everything of it is used."""
    window = SkyWindow(10.68, 41.27, 8)
    try:
        exposure = read_exposure(content, around=window)
        validate_file(content, need_psf=True)
    except InvalidFile as error:
        assert 10 < len(error.reason) < 1000
        assert error.reason.isprintable()
        return False
    x, y = exposure.x0 + 2.3, exposure.y0 + 1.8
    ny, nx = exposure.image.shape
    with np.errstate(all="ignore"):
        assert exposure.psf.stamp(x, y, exposure.x0, exposure.y0, nx, ny).shape == (ny, nx)
    exposure.wavelength.at(x, y)
    exposure.solid_angle_arcsec2(np.arange(nx), 0.0)
    exposure.has_pixel(*exposure.wcs.sky_to_pixel(10.68, 41.27))
    names_of(int(np.bitwise_or.reduce(exposure.flags, axis=None)), exposure.flag_bits)
    return True


@pytest.mark.parametrize("release", ["QR2", "QR3"])
def test_undamaged_file_is_read(release):
    assert survives(small_file(release))


@pytest.mark.parametrize("release", ["QR2", "QR3"])
def test_flipped_bytes(release):
    """In the headers, where they matter most, and anywhere."""
    rng, content = np.random.default_rng(11), small_file(release)
    extents = scan(content)[0]
    headers = np.concatenate([np.arange(extent.start, extent.data_start) for extent in extents])
    cards = [position for position in headers[::80] if content[position : position + 1].strip()]
    outcomes = []
    for trial in range(600):
        damaged = np.frombuffer(content, np.uint8).copy()
        in_headers = rng.choice(cards, 8) + rng.integers(0, 40, 8)
        where = in_headers if trial % 2 else rng.integers(0, len(content), 400)
        damaged[where] = rng.integers(0, 256, where.size)
        outcomes.append(survives(damaged.tobytes()))
    assert 0 < sum(outcomes) < len(outcomes)


@pytest.mark.parametrize("release", ["QR2", "QR3"])
def test_odd_values_of_every_keyword_that_is_read(release):
    content, outcomes = small_file(release), []
    starts = [start for extent in scan(content)[0] for start in range(extent.start, extent.data_start, 80)]
    cards = [(start, keyword) for start in starts if (keyword := KEYWORDS_READ.match(content, start))]
    assert len(cards) > 120
    for start, keyword in cards:
        for value in ODD_VALUES:
            card = keyword[0] + b" " + value.encode("latin-1")
            outcomes.append(survives(content[:start] + card.ljust(80)[:80] + content[start + 80 :]))
    assert 0 < sum(outcomes) < len(outcomes)


@pytest.mark.parametrize("release", ["QR2", "QR3"])
def test_truncation_anywhere(release):
    content = small_file(release)
    last = scan(content)[0][-1]
    lengths = np.random.default_rng(12).integers(0, last.data_start + last.data_bytes, 300)
    borders = [extent.start for extent in scan(content)[0]]
    for length in [*lengths, *borders, *(border + 7 for border in borders)]:
        assert not survives(content[:length])


@pytest.mark.parametrize("release", ["QR2", "QR3"])
def test_hdus_left_out_or_in_another_order(release):
    content = small_file(release)
    hdus = [content[extent.start : extent.end] for extent in scan(content)[0]]
    for left_out in range(len(hdus)):
        assert not survives(b"".join(hdus[:left_out] + hdus[left_out + 1 :]))
    assert survives(b"".join([hdus[0], *reversed(hdus[1:])]))
    assert survives(content + hdus[1])


def test_damaged_compressed_rows():
    """The heap of QR3 flags only: any pixels may come out, or the row is named."""
    rng, content = np.random.default_rng(13), small_file("QR3")
    flags = next(extent for extent in scan(content)[0] if extent.name == "FLAGS")
    outcomes = []
    for trial in range(500):
        damaged = np.frombuffer(content, np.uint8).copy()
        where = flags.data_start + rng.integers(0, flags.data_bytes, 1 + trial % 40)
        damaged[where] = 0 if trial % 3 == 0 else rng.integers(0, 256, where.size)
        outcomes.append(survives(damaged.tobytes()))
    assert 0 < sum(outcomes) < len(outcomes)


@pytest.mark.parametrize("release", ["QR2", "QR3"])
def test_rubbish_in_the_psf_planes(release):
    content = small_file(release)
    psf = next(extent for extent in scan(content)[0] if extent.name in ("PSF", "EPSF"))
    for rubbish in (
        np.random.default_rng(15).bytes(psf.data_bytes // 2),
        b"\0" * (psf.data_bytes // 2),
        b"\xff" * 9999,
    ):
        middle = psf.data_start + psf.data_bytes // 2 - len(rubbish) // 2
        damaged = content[:middle] + rubbish + content[middle + len(rubbish) :]
        with pytest.raises(InvalidFile, match=r"E?PSF"):
            read_exposure(damaged)


def test_random_bytes_and_blocks():
    rng = np.random.default_rng(14)
    for size in (1, 79, 80, 2880, 5760, 100_000):
        assert not survives(rng.bytes(size))
        assert not survives(b"\0" * size)
        assert not survives(b" " * size)
    content = small_file("QR2")
    for _ in range(50):
        block = rng.integers(0, len(content) // 2880) * 2880
        survives(content[:block] + rng.bytes(2880) + content[block + 2880 :])
