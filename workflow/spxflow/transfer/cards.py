"""Header cards changed as a window of an image asks for it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from spxflow.mef.blocks import BLOCK, CARD
from spxflow.mef.header import Header

_OF_COMPRESSION = re.compile(
    r"XTENSION|BITPIX|NAXIS\d?|[PG]COUNT|TFIELDS|T(TYPE|FORM|UNIT|DIM)\d+|THEAP|"
    r"Z(IMAGE|TENSION|BITPIX|NAXIS\d?|TILE\d|[PG]COUNT|CMPTYPE|NAME\d+|VAL\d+|QUANTIZ|DITHER0|BLANK|HECKSUM|DATASUM)"
)
_SHIFTED = ("CRPIX1", "CRPIX2", "CRPIX1A", "CRPIX2A", "CRPIX1W", "CRPIX2W")


def window_header(raw: bytes, hdu: str, x0: int, y0: int, nx: int, ny: int) -> bytes:
    """Header of a window of an image, as the cutout service writes it: size and reference pixels.

    Parameters
    ----------
    raw
        Header of the image.
    hdu
        Its name, for messages.
    x0, y0, nx, ny
        First pixel of the window, 0-based, and its size.
    """
    header = Header(raw, hdu)
    values: dict[str, int | float] = {"NAXIS1": nx, "NAXIS2": ny}
    for keyword in _SHIFTED:
        if keyword in header:
            values[keyword] = header.number(keyword) - (x0 if keyword[5] == "1" else y0)
    return with_values(raw, values)


def with_values(raw: bytes, values: Mapping[str, int | float]) -> bytes:
    """A header with other numbers in some of its cards."""
    return _header(_with_value(card, values) for card in _cards(raw))


def uncompressed_header(raw: bytes, hdu: str) -> bytes:
    """Header of the image that a tile-compressed table holds."""
    header = Header(raw, hdu)
    structure = {
        "BITPIX": header.integer("ZBITPIX"),
        "NAXIS": 2,
        "NAXIS1": header.integer("ZNAXIS1"),
        "NAXIS2": header.integer("ZNAXIS2"),
        "PCOUNT": 0,
        "GCOUNT": 1,
    }
    begin = [_card("XTENSION", "'IMAGE   '"), *(_card(keyword, str(value)) for keyword, value in structure.items())]
    rest = (card for card in _cards(raw) if not _OF_COMPRESSION.fullmatch(card[:8].decode("latin-1").rstrip()))
    return _header([*begin, *rest])


def _cards(raw: bytes) -> Iterator[bytes]:
    for start in range(0, len(raw), CARD):
        card = raw[start : start + CARD]
        if card.startswith(b"END     "):
            return
        yield card


def _header(cards: Iterator[bytes] | list[bytes]) -> bytes:
    content = b"".join([*cards, b"END".ljust(CARD)])
    return content.ljust(-(-len(content) // BLOCK) * BLOCK)


def _with_value(card: bytes, values: Mapping[str, int | float]) -> bytes:
    keyword = card[:8].decode("latin-1").rstrip()
    if keyword not in values or card[8:10] != b"= ":
        return card
    comment = card[10:].decode("latin-1").partition("/")[2].strip()
    value = values[keyword]
    return _card(
        keyword, str(int(value)) if float(value).is_integer() and isinstance(value, int) else repr(value), comment
    )


def _card(keyword: str, value: str, comment: str = "") -> bytes:
    text = f"{keyword:<8}= {value:<20}" if value.startswith("'") else f"{keyword:<8}= {value:>20}"
    if comment:
        text += f" / {comment}"
    return text[:CARD].ljust(CARD).encode("latin-1")
