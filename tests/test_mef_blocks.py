"""Where HDUs begin and end, in whole files and in the beginnings of them; values of header cards."""

import io
import itertools

import level2
import numpy as np
import pytest
from astropy.io import fits
from spxflow.mef import InvalidFile, scan
from spxflow.mef.blocks import whole
from spxflow.mef.header import Header


@pytest.mark.parametrize("release", ["QR2", "QR3"])
def test_extents_are_those_of_astropy(release):
    content = level2.level2_bytes(release)
    extents, complete = scan(content)
    assert complete
    assert extents[-1].end == len(content)
    with fits.open(io.BytesIO(content), disable_image_compression=True) as hdus:
        assert [extent.name for extent in extents] == [hdu.name for hdu in hdus]
        assert [extent.data_start for extent in extents] == [hdu.fileinfo()["datLoc"] for hdu in hdus]
        assert [extent.start for extent in extents] == [hdu.fileinfo()["hdrLoc"] for hdu in hdus]
        assert [extent.data_bytes for extent in extents] == [hdu.size for hdu in hdus]


def test_growing_stream_shows_the_psf_hdu_when_its_header_is_there():
    content = level2.level2_bytes("QR2")
    psf = next(extent for extent in scan(content)[0] if extent.name == "PSF")
    stream = bytearray()
    seen = []
    extents = ()
    for start in range(0, psf.data_start + 1000, 1000):
        stream += content[start : start + 1000]
        extents, complete = scan(stream, extents)
        assert (extents, complete) == scan(stream)
        assert complete == (len(stream) == extents[-1].end if extents else False)
        seen.append([extent.name for extent in extents])
    assert all(earlier == later[: len(earlier)] for earlier, later in itertools.pairwise(seen))
    assert "PSF" not in [extent.name for extent in scan(content[: psf.data_start - 1])[0]]
    assert seen[-1] == ["PRIMARY", "IMAGE", "FLAGS", "VARIANCE", "ZODI", "PSF"]
    assert scan(stream)[0] == scan(content)[0][:6]


def test_cut_before_the_psf_is_a_whole_file():
    content = level2.level2_bytes("QR2")
    psf = next(extent for extent in scan(content)[0] if extent.name == "PSF")
    assert [extent.name for extent in whole(content[: psf.start])][-1] == "ZODI"


def test_end_card_is_not_found_inside_text():
    """A card that ends with END, before a blank card, looks like the END card but stands out of step."""
    hdu = fits.PrimaryHDU()
    hdu.header["COMMENT"] = "x" * 69 + "END"
    for _ in range(3):
        hdu.header.append(("", "", ""), end=True)
    hdu.header["VERSION"] = "6.5.4"
    header = hdu.header.tostring(padding=False)
    content = header.ljust(2880).encode()
    assert content.count(b"END" + b" " * 77) == 2
    extents, complete = scan(content)
    assert complete
    assert extents[0].data_start == 2880


def test_padding_after_the_last_data_may_be_missing():
    content = level2.level2_bytes("QR2")
    last = scan(content)[0][-1]
    assert len(whole(content[: last.data_start + last.data_bytes])) == 7
    with pytest.raises(InvalidFile, match=r"cut short: HDU WCS-WAVE needs \d+ bytes"):
        whole(content[: last.data_start + last.data_bytes - 1])


def test_rubbish_after_the_last_hdu_is_passed_over():
    content = level2.level2_bytes("QR2")
    assert whole(content + b"\0" * 2880) == whole(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"<!DOCTYPE html><html><body><h1>502 Bad Gateway</h1></body>", "an HTML page: '502 Bad Gateway'"),
        (b"\n<HTML><HEAD><TITLE>Error</TITLE>", "an HTML page: 'Error'"),
        (b"<?xml version='1.0'?><VOTABLE>UsageFault</VOTABLE>", "XML: 'UsageFault'"),
        (b"\x1f\x8b\x08\0\0\0", "gzip"),
        (b"Service Unavailable", "text: 'Service Unavailable'"),
        (b"\x93\x00\xff\x12\x44", "begins with the bytes 93 00 ff 12 44"),
        (b"SIMPLE  =                    T", "ends within its first header, after 30 bytes"),
        (b"SIMPLE  =                    T".ljust(2880 * 1001), "header of HDU 0 has no END"),
    ],
)
def test_what_is_not_fits_is_named(content, reason):
    with pytest.raises(InvalidFile) as caught:
        whole(content)
    assert reason in caught.value.reason


def primary_with(*cards):
    text = "".join(card.ljust(80) for card in ("SIMPLE  =                    T", *cards, "END"))
    return text.ljust(2880).encode()


@pytest.mark.parametrize(
    ("cards", "reason"),
    [
        (["BITPIX  =                    7", "NAXIS   =                    0"], "BITPIX is 7"),
        (["BITPIX  =                    8"], "keyword NAXIS is missing"),
        (["BITPIX  =                    8", "NAXIS   =                 1000"], "NAXIS is 1000"),
        (["BITPIX  =                    8", "NAXIS   =                   -1"], "NAXIS is -1"),
        (["BITPIX  =                    8", "NAXIS   =                    1"], "keyword NAXIS1 is missing"),
        (["BITPIX  =                    8", "NAXIS   =                    1", "NAXIS1  =        -5"], "negative"),
        (["BITPIX  =                    8", "NAXIS   =                  1.5"], "NAXIS is '1.5', not an integer"),
        (
            ["BITPIX  =                    8", "NAXIS   =                    1", "NAXIS1  =   99999999999999999"],
            "needs 99999999999999999 bytes of data, 0 are there",
        ),
    ],
)
def test_absurd_sizes_are_named(cards, reason):
    with pytest.raises(InvalidFile) as caught:
        whole(primary_with(*cards))
    assert reason in caught.value.reason


def test_values_of_the_real_header_are_those_of_astropy():
    text = "".join(line.ljust(80) for line in level2.IMAGE_CARDS.splitlines())
    ours, theirs = Header(text.encode(), "IMAGE"), fits.Header.fromstring(text)
    keywords = [keyword for keyword in theirs if keyword not in ("COMMENT", "HISTORY", "")]
    assert len(keywords) > 200
    for keyword in keywords:
        assert keyword in ours
        value = ours.get(keyword)
        assert value == (theirs[keyword].rstrip() if isinstance(theirs[keyword], str) else theirs[keyword]), keyword
    assert ours.history()


def test_cards_of_every_kind():
    cards = [
        "QUOTE   = 'O''Neill  '         / a quote / in a comment",
        "EXPONENT=               1.5D-3",
        "NAN     =                  NaN",
        "TWICE   =                    1",
        "TWICE   =                    2",
        "HIERARCH Long.keyword name = 'x = y' / c",
        "BLANK   =                      / no value",
        "NOVALUE   7",
        "INT     =                  5.0",
        "BIG     = 99999999999999999999999999999",
    ]
    header = Header("".join(card.ljust(80) for card in cards).encode(), "TEST")
    assert header.text("QUOTE") == "O'Neill"
    assert header.number("EXPONENT") == 1.5e-3
    assert header.get("TWICE") == 1
    assert header.text("Long.keyword name") == "x = y"
    assert header.get("BLANK") is None
    assert "NOVALUE" not in header
    assert header.integer("INT") == 5
    for keyword, method in (("NAN", header.number), ("BIG", header.integer), ("QUOTE", header.number)):
        with pytest.raises(InvalidFile, match=f"HDU TEST: {keyword} is"):
            method(keyword)
    with pytest.raises(InvalidFile, match="HDU TEST: keyword ABSENT is missing"):
        header.text("ABSENT")
    assert header.number("ABSENT", 3.0) == 3.0


def test_distinct_numbers():
    cards = [f"XCTR_{i}  = {value} / centre {i}".ljust(80) for i, value in enumerate([2.5, 1.5, 2.5], start=1)]
    header = Header("".join(cards).encode(), "PSF")
    assert header.distinct_numbers("XCTR_", 3) == (1.5, 2.5)
    with pytest.raises(InvalidFile, match=r"XCTR_1 ... XCTR_4 is missing"):
        header.distinct_numbers("XCTR_", 4)
    assert np.isfinite(header.distinct_numbers("XCTR_", 1)).all()
