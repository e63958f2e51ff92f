"""Level-2 files of the real formats, QR2 and QR3, as bytes.

Headers are the real ones kept in ``data`` with the cards replaced in which exposures differ. What of them is
not known from real files: the PSF header but for its zone keywords, OVERSAMP, CRPIX and CDELT; the units of VARIANCE
and ZODI as strings; which 16 of the 255 IMAGE cards of v21 are missing in v20; everything of QR3 that
``facts`` 1.10 and 1.11 do not say. Counters of flagged pixels are those expected from the densities, not counted.
"""

from __future__ import annotations

import datetime
import io
import math
import uuid
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spxflow.demo import frames
from spxflow.demo.exposures import Exposure
from spxflow.demo.frames import DENSITIES, FIXED_DENSITIES, LATE_FLAGS, QR3_FLAGS, Camera
from spxflow.demo.geometry import CRPIX, FRAME, Window, unit_vector
from spxflow.demo.headers import Template, Value, keyword, make_card, read_template
from spxflow.demo.instrument import DETECTORS, ZONE_CENTRES, generator, key_of, wave_table
from spxflow.demo.optics import epsf_table, epsf_zones, psf_cube
from spxflow.demo.sky import Sky
from spxflow.mef.blocks import BLOCK, CARD, whole
from spxflow.mef.flags import KNOWN_FLAGS

XPOSURE_S = 113.5826
N_PIXELS = FRAME * FRAME
PLANES = ("IMAGE", "FLAGS", "VARIANCE", "ZODI")

# Cards of the v21 IMAGE header that v20 is assumed to lack: those of artefacts first flagged in v21 (facts 1.1, 1.5).
_NOT_IN_V20 = (
    "NBLMPIX", "NHALOPIX", "NSNOWPIX", "L2 N_TRAN_NB", "L2 N_PERS_NB", "DAXIS", "CONTRAST", "QS_NMATCH_VAR",
    "ASTRONETSOLVED", "L2 N_GHOST", "L2 N_GHOST_FPA", "L2 N_GHOST_EXT", "L2 N_BLOOM_NS", "L2 N_SNOW_NS", "PXSRCMSK",
)  # fmt: skip
_QR3_CALIBRATION = ("epsf", "he_template", "aurora_template", "xtalk", "zodi_scaling_v2")  # facts 1.10
_ARTEFACT_HISTORY = "HISTORY Source blooming and cosmic ray halo flagging"


def render(exposure: Exposure, sky: Sky, camera: Camera, window: Window) -> bytes:
    """The whole file for a window of the detector (a cutout, or the full frame)."""
    pixels = frames.render(exposure, sky, camera, window)
    headers = plane_headers(exposure, window)
    if exposure.release == "qr3":
        flags = compressed_flags(headers["FLAGS"], pixels.flags)
        psf = epsf_hdu(exposure.detector, camera.asymmetry)
    else:
        flags = headers["FLAGS"] + _big(pixels.flags, ">i4")
        psf = psf_hdu(exposure.detector, camera.asymmetry, zone_order_is_wrong(exposure.pipeline_version))
    return b"".join(
        (
            primary_header(make_card("VERSION", exposure.pipeline_version, "Pipeline version")),
            *(headers["IMAGE"], _big(pixels.image, ">f4"), flags),
            *(headers["VARIANCE"], _big(pixels.variance, ">f4"), headers["ZODI"], _big(pixels.zodi, ">f4")),
            *(psf, wave_hdu(exposure.detector, exposure.release)),
        )
    )


def _big(plane: NDArray[np.generic], dtype: str) -> bytes:
    """Pixels as they lie in the file, filled up to whole blocks."""
    data = plane.astype(dtype).tobytes()
    return data + bytes(-len(data) % BLOCK)


def primary_header(*own_cards: str) -> bytes:
    """The first header: four structural cards and those of the kind of file."""
    cards = (
        make_card("SIMPLE", True, "conforms to FITS standard"),
        make_card("BITPIX", 8, "array data type"),
        make_card("NAXIS", 0, "number of array dimensions"),
        make_card("EXTEND", True),
    )
    return Template((*cards, *own_cards)).render()


def plane_headers(exposure: Exposure, window: Window) -> dict[str, bytes]:
    """Headers of IMAGE, FLAGS, VARIANCE and ZODI."""
    values = {**_exposure_values(exposure), **_window_values(window), **_image_values(exposure)}
    return {name: plane_template(name, format_of(exposure)).render(values) for name in PLANES}


def format_of(exposure: Exposure) -> str:
    """Which set of header cards a file has: ``v20``, ``v21`` or ``qr3``."""
    if exposure.release == "qr3":
        return "qr3"
    return "v20" if exposure.version.startswith("l2b-v20") else "v21"


@lru_cache(maxsize=16)
def plane_template(name: str, layout: str) -> Template:
    """Cards of an image HDU. VARIANCE and ZODI have the cards of FLAGS but for the flags: 119, as in real files."""
    if name == "IMAGE":
        cards = list(read_template("qr2_image_header.txt"))
        if layout == "v20":
            cards = [c for c in cards if keyword(c) not in _NOT_IN_V20 and not c.startswith(_ARTEFACT_HISTORY)]
        if layout == "qr3":
            cards = [c for c in cards if not c.startswith("HISTORY [CALIB] average_psf")]
            cards += [f"HISTORY [CALIB] {family} {_calibration_id(family)}".ljust(CARD) for family in _QR3_CALIBRATION]
        return Template(cards)
    cards = list(read_template("qr2_flags_header.txt"))
    if name == "FLAGS":
        return Template(_flag_cards(cards, layout))
    unit, what = ("(MJy / sr)**2", "VARIANCE") if name == "VARIANCE" else ("MJy / sr", "ZODI")
    head = [make_card(keyword(c), -32, "array data type") if keyword(c) == "BITPIX" else c for c in cards[:7]]
    extname = next(i for i, card in enumerate(cards) if keyword(card) == "EXTNAME")
    own = [
        make_card("BUNIT", unit, "Unit of pixel value"),
        make_card("EXTTYPE", "IMAGE", "Extension supports mask overlay"),
        make_card("EXTNAME", what, "extension name"),
    ]
    return Template([*head, *own, *cards[extname + 1 :]])


def _calibration_id(family: str) -> str:
    """An identifier of a calibration product, in the form of the real ones."""
    return str(uuid.UUID(int=key_of("calibration", family) << 64 | key_of(family)))


def _flag_cards(cards: list[str], layout: str) -> list[str]:
    """FLAGS cards with the flag names as the release writes them."""
    if layout == "v20":
        return [card for card in cards if keyword(card).removeprefix("MP_") not in LATE_FLAGS]
    if layout == "v21":
        return cards
    names = [keyword(card).removeprefix("MP_") for card in cards if keyword(card).startswith("MP_")]
    first = next(i for i, card in enumerate(cards) if keyword(card).startswith("MP_"))
    bits = {name: KNOWN_FLAGS[name] for name in (*names, *QR3_FLAGS)}
    numbered = []
    for name, bit in sorted(bits.items(), key=lambda item: item[1]):
        numbered.append(make_card(f"MSKN{bit:04d}", name, "Name of the mask bit"))
        numbered.append(make_card(f"MSKM{bit:04d}", 1 << bit, "Value of the mask bit"))
    rest = [card for card in cards if not keyword(card).startswith("MP_")]
    return [*rest[:first], *numbered, *rest[first:]]


def _window_values(window: Window) -> dict[str, Value]:
    x0, y0, nx, ny = window
    return {
        "NAXIS1": nx,
        "NAXIS2": ny,
        "CRPIX1": CRPIX - x0,
        "CRPIX2": CRPIX - y0,
        "CRPIX1A": 1.0 - x0,
        "CRPIX2A": 1.0 - y0,
        "CRPIX1W": 1.0 - x0,
        "CRPIX2W": 1.0 - y0,
    }


@lru_cache(maxsize=512)
def _exposure_values(exposure: Exposure) -> Mapping[str, Value]:
    """Cards that follow from the pointing and the time."""
    mid = round(exposure.mjd_mid, 9)
    begin, middle, end = (_iso(mjd) for mjd in (exposure.mjd_begin, mid, exposure.mjd_end))
    return {
        **exposure.wcs.header_values(),
        "DATE-OBS": begin,
        "MJD-OBS": exposure.mjd_begin,
        "DATE-BEG": begin,
        "MJD-BEG": exposure.mjd_begin,
        "DATE-AVG": middle,
        "MJD-AVG": mid,
        "DATE-END": end,
        "MJD-END": exposure.mjd_end,
        **_counters(exposure.detector),
    }


@lru_cache(maxsize=512)
def _image_values(exposure: Exposure) -> Mapping[str, Value]:
    """Cards of the IMAGE header alone."""
    target = key_of("target", exposure.obs_id)
    rng = generator("image header", exposure.obs_id, exposure.detector)
    longitude, latitude = _ecliptic(exposure.wcs.crval1, exposure.wcs.crval2)
    values: dict[str, Value] = {
        "DETECTOR": exposure.detector,
        "OBSID": exposure.obs_id,
        "EXPIDN": exposure_number(exposure.obs_id, exposure.detector),
        "DATE": _processing_date(exposure.version),
        "SPS_TARGET": target % 100000,
        "SPS_ELON": round(longitude, 6),
        "SPS_ELAT": round(latitude, 6),
        "OMEGA_MEDIAN": DETECTORS[exposure.detector].omega_arcsec2 + float(rng.normal(0.0, 0.004)),
        "OMEGA_STDDEV": 0.2014352039507048,
        "MATCH_NSTARS": int(rng.integers(2000, 6000)),
        "PSF_FWHM": exposure.psf_fwhm_arcsec,
    }
    for suffix, mjd in (("_START", exposure.mjd_begin), ("", exposure.mjd_mid), ("_END", exposure.mjd_end)):
        position, velocity = spacecraft_state(mjd)
        for axis, km, km_s in zip("XYZ", position, velocity, strict=True):
            values[f"{axis}_SC{suffix}"] = km
            values[f"V{axis}_SC{suffix}"] = km_s
    return values


def _counters(detector: int) -> dict[str, Value]:
    """Numbers of flagged pixels of a whole frame, as expected from the densities."""
    densities = {**DENSITIES, **FIXED_DENSITIES, "DICHROIC": 0.026 if detector in (3, 4) else 0.0}
    return {f"L2 N_{name}": round(density * N_PIXELS) for name, density in densities.items()}


def exposure_number(obs_id: str, detector: int) -> int:
    """EXPIDN of an exposure: year, week, period digit and letter, large slew, small slew, detector (facts 1.2)."""
    period, large, small = obs_id.rsplit("_", 2)
    year, week, half = period[:4], period[5:7], period[8:]
    return int(f"{year}{week}{half[0]}{ord(half[1]) - 64:02d}{large}{small}{detector}")


def spacecraft_state(mjd: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Geocentric position (km) and velocity (km/s): the real state of one exposure carried on along a circular orbit of
    98 minutes whose plane turns with the sun."""
    r0 = np.array([5481.951086440418, 150.0940688632607, 4388.6535283501635])
    v0 = np.array([4.682025825872335, -1.2096334037448198, -5.778226402051567])
    days = mjd - 61027.215650564
    radius = float(np.sqrt(r0 @ r0))
    along = v0 - r0 * (v0 @ r0) / radius**2
    along *= radius / np.sqrt(along @ along)
    phase = 2.0 * math.pi * ((days * 1440.0 / 98.0) % 1.0)
    rate = 2.0 * math.pi / (98.0 * 60.0)
    position = r0 * math.cos(phase) + along * math.sin(phase)
    velocity = rate * (along * math.cos(phase) - r0 * math.sin(phase))
    turn = math.radians(days * 360.0 / 365.2422)
    cos, sin = math.cos(turn), math.sin(turn)

    def turned(vector: NDArray[np.float64]) -> tuple[float, ...]:
        x, y, z = vector.tolist()
        return cos * x - sin * y, sin * x + cos * y, z

    return turned(position), turned(velocity)


def _iso(mjd: float) -> str:
    date = datetime.datetime(1858, 11, 17) + datetime.timedelta(days=mjd)
    return (date + datetime.timedelta(microseconds=500)).isoformat(timespec="microseconds")[:23]


def _processing_date(version: str) -> str:
    day = datetime.datetime.strptime(version[-8:], "%Y-%j")
    return _iso((day - datetime.datetime(1858, 11, 17)).days + 0.324)


def _ecliptic(ra_deg: float, dec_deg: float) -> tuple[float, float]:
    x, y, z = unit_vector(ra_deg, dec_deg).tolist()
    tilt = math.radians(23.4392911)
    y, z = y * math.cos(tilt) + z * math.sin(tilt), z * math.cos(tilt) - y * math.sin(tilt)
    return math.degrees(math.atan2(y, x)) % 360.0, math.degrees(math.asin(z))


def zone_order_is_wrong(pipeline_version: str) -> bool:
    """Whether the PSF header lists the zone centres y-fast: up to 6.5.5, unless reissued (facts 1.7)."""
    number, _, local = pipeline_version.partition("+")
    return tuple(int(part) for part in number.split(".")) <= (6, 5, 5) and local != "psffix1"


@lru_cache(maxsize=36)
def psf_hdu(detector: int, asymmetry: float, transposed: bool, extname: str = "PSF") -> bytes:
    """The QR2 PSF cube. 509 cards, as in real files; ``transposed``: with those of the zones' centres y-fast."""
    cards = [
        make_card("XTENSION", "IMAGE", "Image extension"),
        make_card("BITPIX", -32, "array data type"),
        make_card("NAXIS", 3, "number of array dimensions"),
        make_card("NAXIS1", 101),
        make_card("NAXIS2", 101),
        make_card("NAXIS3", 121),
        make_card("PCOUNT", 0, "number of parameters"),
        make_card("GCOUNT", 1, "number of groups"),
        make_card("EXTNAME", extname, "extension name"),
        make_card("DETECTOR", detector, "1-3: SWIR, 4-6: MWIR"),
        make_card("DETCOORD", "sky", "MWIR pixels flipped on X to match SWIR view"),
        make_card("OVERSAMP", 10, "Oversampling factor of the PSF"),
        make_card("CRPIX1", 51.0, "Pixel coordinate of reference point"),
        make_card("CRPIX2", 51.0, "Pixel coordinate of reference point"),
        make_card("CRVAL1", 0.0, "[arcsec] Offset at reference point"),
        make_card("CRVAL2", 0.0, "[arcsec] Offset at reference point"),
        make_card("CDELT1", 0.615, "[arcsec] Coordinate increment"),
        make_card("CDELT2", 0.615, "[arcsec] Coordinate increment"),
        make_card("CUNIT1", "arcsec", "Units of coordinate increment and value"),
        make_card("CUNIT2", "arcsec", "Units of coordinate increment and value"),
        make_card("CTYPE1", "LINEAR", "Coordinate type code"),
        make_card("CTYPE2", "LINEAR", "Coordinate type code"),
        make_card("NXZONE", 11, "Number of zones in x"),
        make_card("NYZONE", 11, "Number of zones in y"),
        make_card("BUNIT", "", "Unit of pixel value (dimensionless)"),
    ]
    for plane in range(121):
        slow, fast = divmod(plane, 11)
        ix, iy = (slow, fast) if transposed else (fast, slow)
        cards += [
            make_card(f"XCTR_{plane + 1}", round(ZONE_CENTRES[ix], 8), f"Center of x zone ({ix}, {iy})"),
            make_card(f"YCTR_{plane + 1}", round(ZONE_CENTRES[iy], 8), f"Center of y zone ({ix}, {iy})"),
            make_card(f"XWID_{plane + 1}", round(FRAME / 11, 8), f"Width of x zone ({ix}, {iy})"),
            make_card(f"YWID_{plane + 1}", round(FRAME / 11, 8), f"Width of y zone ({ix}, {iy})"),
        ]
    return Template(cards).render() + _big(psf_cube(detector, asymmetry), ">f4")


@lru_cache(maxsize=24)
def wave_hdu(detector: int, release: str) -> bytes:
    """The WCS-WAVE table: one row of X, Y (1-based detector pixels) and VALUES (wavelength, bandwidth in µm)."""
    from astropy.io import fits

    table = wave_table(detector, release)
    x, y = table.x, table.y
    values = np.stack([table.wavelength, table.bandwidth], axis=-1).astype(np.float32)
    columns = [
        fits.Column("X", f"{x.size}J", array=x[None]),
        fits.Column("Y", f"{y.size}J", array=y[None]),
        fits.Column("VALUES", f"{values.size}E", unit="um", dim=f"(2,{x.size},{y.size})", array=values[None]),
    ]
    hdu = fits.BinTableHDU.from_columns(columns, name="WCS-WAVE")
    hdu.header["DETECTOR"] = (detector, "1-3: SWIR, 4-6: MWIR")
    return _file_bytes(hdu)[BLOCK:]


@lru_cache(maxsize=18)
def epsf_hdu(detector: int, asymmetry: float, source: str = "") -> bytes:
    """The QR3 effective PSF table (facts 1.11); ``source``: the calibration file that it quotes as its origin."""
    from astropy.io import fits

    nx, ny = epsf_zones(detector)
    x, y, samples = epsf_table(detector, asymmetry)
    n = x.size
    index = np.arange(n)
    wavelength, bandwidth = wave_table(detector, "qr3").at(x, y)
    single = {"XCENTER": x, "YCENTER": y, "XWIDTH": np.full(n, FRAME / nx), "YWIDTH": np.full(n, FRAME / ny)}
    late = {
        "NEFF_MEAN": 1.0 / (samples[:, 1::5, 1::5] ** 2).sum((1, 2)) / 625.0,
        "CWAVE": wavelength,
        "CBAND": bandwidth,
    }
    columns = [
        fits.Column("BINX", "J", array=(index % nx).astype(np.int32)),
        fits.Column("BINY", "J", array=(index // nx).astype(np.int32)),
        *(fits.Column(name, "E", array=array.astype(np.float32)) for name, array in single.items()),
        fits.Column("NSTAR", "J", array=(600 + (index * 37) % 250).astype(np.int32)),
        *(fits.Column(name, "E", array=array.astype(np.float32)) for name, array in late.items()),
        fits.Column("EPSF", "1089D", array=samples.reshape(n, 1089)),
    ]
    table = fits.BinTableHDU.from_columns(columns, name="EPSF")
    table.header["DETECTOR"] = (str(detector), "detector array identifier")
    table.header["OVSMPX"] = (5, "oversampling in x")
    table.header["OVSMPY"] = (5, "oversampling in y")
    table.header["ORDERING"] = ("x-fast then y", "order of the zones")
    table.header["DETCOORD"] = ("sky", "MWIR pixels flipped on X to match SWIR view")
    table.header["HISTORY"] = f"Calibration source file: {source or f'epsf_{detector}_20260507.fits'}"
    return _file_bytes(table)[BLOCK:]


def compressed_flags(header: bytes, flags: NDArray[np.int32]) -> bytes:
    """The QR3 FLAGS: RICE-compressed, a tile a row; the cards of the image follow those of the table that holds it."""
    from astropy.io import fits

    packed = fits.CompImageHDU(flags, name="FLAGS", compression_type="RICE_1", tile_shape=(1, flags.shape[1]))
    content = _file_bytes(packed)
    _, table = whole(content)
    image_cards = [card for card in _cards(header)[7:] if keyword(card) != "EXTNAME"]
    cards = _cards(content[table.start : table.data_start]) + image_cards
    return Template(cards).render() + content[table.data_start :]


def _cards(header: bytes) -> list[str]:
    """Cards of a header, END left out."""
    text = header.decode("ascii")
    cards = [text[start : start + CARD] for start in range(0, len(text), CARD)]
    return cards[: cards.index("END".ljust(CARD))]


def _file_bytes(hdu: Any) -> bytes:
    """A file of an astropy HDU after an empty first one, which takes one block."""
    from astropy.io import fits

    stream = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(stream)
    return stream.getvalue()
