"""Small Level-2 files of the real format for tests, written with astropy around the real headers."""

import functools
import io
import json
from pathlib import Path

import numpy as np
from astropy.io import fits
from scipy.special import erf

DATA = Path(__file__).parent / "data"
IMAGE_CARDS = (DATA / "qr2_cutout_image_header.txt").read_text()
FLAGS_CARDS = (DATA / "qr2_flags_header.txt").read_text()
WAVE_TABLES = json.loads((DATA / "wave_tables_qr2.json").read_text())["tables"]

OPTICAL_CENTRES = 93.22727273 + 2040 / 11 * np.arange(11)  # 1-based, as XCTR_i of the real files (facts 1.7)
QR3_FLAGS = {"TRANSIENT": 0, "OVERFLOW": 1, "SUR_ERROR": 2, "NONFUNC": 6, "CROSSTALK": 20, "SOURCE": 21, "STREAK": 25}


class GaussianPsf:
    """A PSF known exactly: a sum of round and oval Gaussians, off-centre and asymmetric, varying over the detector.

    ``components`` are (share, x, y, sigma_x, sigma_y), native pixels.
    """

    def __init__(self, components):
        self.components = components

    def at(self, x_det, y_det):
        """Components at a 0-based detector position: the shares vary linearly, so that blending zones is exact."""
        tilt = 0.1 * (x_det - 1019.5) / 1020 + 0.05 * (y_det - 1019.5) / 1020
        first, *rest = self.components
        return [(first[0] + tilt, *first[1:]), (rest[0][0] - tilt, *rest[0][1:]), *rest[1:]]

    def integrals(self, x_det, y_det, x_edges, y_edges):
        """Flux between edges, native pixels relative to the source; shape (len(y_edges) - 1, len(x_edges) - 1)."""
        return sum(
            share * np.outer(_gaussian_integrals(y_edges - y, sy), _gaussian_integrals(x_edges - x, sx))
            for share, x, y, sx, sy in self.at(x_det, y_det)
        )

    def pixels(self, x, y, x0, y0, nx, ny):
        """Share of the flux in each native pixel of a window, for a source at detector position (x, y)."""
        return self.integrals(x, y, x0 - 0.5 + np.arange(nx + 1) - x, y0 - 0.5 + np.arange(ny + 1) - y)


def _gaussian_integrals(edges, sigma):
    return np.diff(0.5 * erf(edges / (sigma * np.sqrt(2))))


CORE = GaussianPsf([(0.7, -0.05, -0.05, 0.30, 0.33), (0.25, -0.2, 0.1, 0.6, 0.5), (0.05, 0.0, 0.0, 0.9, 0.9)])


def optical_planes(psf=CORE, n=101, oversampling=10, centres=OPTICAL_CENTRES - 1):
    """QR2 cube, planes counted along x first."""
    edges = (np.arange(n + 1) - n / 2) / oversampling
    return np.array([psf.integrals(x, y, edges, edges) for y in centres for x in centres], np.float32)


def effective_planes(psf=CORE, n=33, oversampling=5, nx=21, ny=21):
    """QR3 planes, zones counted along x first: the flux in a pixel around each sample, over oversampling squared."""
    offsets = (np.arange(n) - n // 2) / oversampling
    x_centres, y_centres = effective_centres(nx), effective_centres(ny)
    planes = np.empty((ny, nx, n, n))
    for iy, y in enumerate(y_centres):
        for ix, x in enumerate(x_centres):
            planes[iy, ix] = sum(
                share * np.outer(_box(offsets - dy, sy), _box(offsets - dx, sx))
                for share, dx, dy, sx, sy in psf.at(x, y)
            )
    return planes.reshape(-1, n, n) / oversampling**2


def effective_centres(n):
    return (np.arange(n) + 0.5) * 2040 / n - 0.5


def _box(offset, sigma):
    """A Gaussian integrated over a native pixel around each offset."""
    return 0.5 * (erf((offset + 0.5) / sigma / np.sqrt(2)) - erf((offset - 0.5) / sigma / np.sqrt(2)))


def file_bytes(hdus):
    """Content of a FITS file."""
    stream = io.BytesIO()
    fits.HDUList(hdus).writeto(stream, output_verify="ignore")
    return stream.getvalue()


def header(cards, x0, y0):
    """Real header, moved to the window whose first detector pixel is (x0, y0)."""
    moved = fits.Header.fromstring("".join(line.ljust(80) for line in cards.splitlines()))
    for axis, first in ((1, x0), (2, y0)):
        moved[f"CRPIX{axis}"] = 1020.5 - first
        for letter in "AW":
            if f"CRPIX{axis}{letter}" in moved:
                moved[f"CRPIX{axis}{letter}"] = 1.0 - first
    return moved


def random_planes(nx, ny, seed=0):
    """IMAGE, FLAGS, VARIANCE, ZODI of plausible values, some variances NaN."""
    rng = np.random.default_rng(seed)
    image = rng.normal(0.2, 0.02, (ny, nx)).astype(np.float32)
    flags = np.where(rng.random((ny, nx)) < 0.7, 1 << 21, 0) | np.where(rng.random((ny, nx)) < 0.02, 1 << 6, 0)
    variance = rng.uniform(1e-4, 3e-4, (ny, nx)).astype(np.float32)
    variance[rng.random((ny, nx)) < 0.002] = np.nan
    return image, flags.astype(np.int32), variance, np.full((ny, nx), 0.15, np.float32)


@functools.cache
def psf_hdu(transposed=False):
    """HDU PSF of a QR2 file; transposed: with the zone keywords of VERSION 6.5.5 and before (facts 1.7)."""
    hdu = fits.ImageHDU(optical_planes(), name="PSF")
    hdu.header.update(OVERSAMP=10, CRPIX1=51.0, CRPIX2=51.0, CDELT1=0.615, CDELT2=0.615)
    for plane in range(121):
        iy, ix = divmod(plane, 11)
        if transposed:
            ix, iy = iy, ix
        hdu.header[f"XCTR_{plane + 1}"] = (OPTICAL_CENTRES[ix], f"Center of x zone ({ix}, {iy})")
        hdu.header[f"YCTR_{plane + 1}"] = (OPTICAL_CENTRES[iy], f"Center of y zone ({ix}, {iy})")
        hdu.header[f"XWID_{plane + 1}"] = (2040 / 11, f"Width of x zone ({ix}, {iy})")
        hdu.header[f"YWID_{plane + 1}"] = (2040 / 11, f"Width of y zone ({ix}, {iy})")
    return hdu


@functools.cache
def epsf_hdu(nx=21, ny=21):
    """HDU EPSF of a QR3 file (facts 1.11)."""
    rows = np.zeros(
        nx * ny,
        [
            *((name, "i4") for name in ("BINX", "BINY")),
            *((name, "f4") for name in ("XCENTER", "YCENTER", "XWIDTH", "YWIDTH")),
            *(("NSTAR", "i4"), ("NEFF_MEAN", "f4"), ("CWAVE", "f4"), ("CBAND", "f4"), ("EPSF", "f8", (33 * 33,))),
        ],
    )
    rows["BINY"], rows["BINX"] = np.divmod(np.arange(nx * ny), nx)
    rows["XCENTER"], rows["YCENTER"] = effective_centres(nx)[rows["BINX"]], effective_centres(ny)[rows["BINY"]]
    rows["XWIDTH"], rows["YWIDTH"] = 2040 / nx, 2040 / ny
    rows["EPSF"] = effective_planes(nx=nx, ny=ny).reshape(nx * ny, -1)
    hdu = fits.BinTableHDU(rows, name="EPSF")
    hdu.header.update(DETECTOR="3", OVSMPX=5, OVSMPY=5, ORDERING="x-fast then y", DETCOORD="sky")
    return hdu


def wave_hdu(detector=3):
    """HDU WCS-WAVE with the real table of a detector."""
    table = WAVE_TABLES[f"qr2:D{detector}"]
    x, y = np.array(table["x"], np.int32), np.array(table["y"], np.int32)
    values = np.stack([table["wavelength"], table["bandwidth"]], axis=-1).astype(np.float32)
    columns = [
        fits.Column("X", f"{x.size}J", array=x[None]),
        fits.Column("Y", f"{y.size}J", array=y[None]),
        fits.Column("VALUES", f"{values.size}E", dim=f"(2,{x.size},{y.size})", array=values[None]),
    ]
    return fits.BinTableHDU.from_columns(columns, name="WCS-WAVE")


def level2_hdus(release="QR2", x0=1292, y0=863, nx=60, ny=60, planes=None):
    """HDUs of a Level-2 cutout of detector 3."""
    image, flags, variance, zodi = planes or random_planes(nx, ny)
    ny, nx = image.shape
    primary = fits.PrimaryHDU()
    primary.header["VERSION"] = {"QR2": "6.5.7", "QR3": "7.0.5"}[release]
    image_header, flags_header = header(IMAGE_CARDS, x0, y0), header(FLAGS_CARDS, x0, y0)
    if release == "QR3":
        for keyword in [keyword for keyword in flags_header if keyword.startswith("MP_")]:
            del flags_header[keyword]
        for name, bit in QR3_FLAGS.items():
            flags_header[f"MSKN{bit:04d}"], flags_header[f"MSKM{bit:04d}"] = name, 1 << bit
        compression = {"compression_type": "RICE_1", "tile_shape": (1, nx)}
        flags_hdu = fits.CompImageHDU(flags, flags_header, name="FLAGS", **compression)
    else:
        flags_hdu = fits.ImageHDU(flags, flags_header, name="FLAGS")
    return [
        primary,
        fits.ImageHDU(image, image_header, name="IMAGE"),
        flags_hdu,
        fits.ImageHDU(variance, name="VARIANCE"),
        fits.ImageHDU(zodi, name="ZODI"),
        psf_hdu() if release == "QR2" else epsf_hdu(),
        wave_hdu(),
    ]


@functools.cache
def level2_bytes(release="QR2", **window):
    """Content of a Level-2 cutout of detector 3."""
    return file_bytes(level2_hdus(release, **window))
