"""The cards of a FITS header, parsed when they are asked for."""

from __future__ import annotations

import math
from typing import TypeVar

from spxflow.mef.blocks import CARD, InvalidFile

Value = bool | int | float | str
_T = TypeVar("_T")
_REQUIRED = object()


class Header:
    """Keywords of one HDU.

    Parameters
    ----------
    raw
        The header's blocks.
    hdu
        Name of the HDU, for messages.
    """

    def __init__(self, raw: bytes, hdu: str) -> None:
        self.hdu = hdu
        text = self._text = raw.decode("latin-1")
        starts = range(len(text) - CARD, -1, -CARD)  # backwards, so that the first card of a keyword has the last word
        self._cards = dict(zip((text[start : start + 8] for start in starts), starts, strict=True))
        if "HIERARCH" in self._cards:
            self._cards.update(_hierarch_cards(text))

    def __contains__(self, keyword: str) -> bool:
        return bool(self._field(keyword))

    def keywords(self) -> tuple[str, ...]:
        """Every keyword, in no certain order."""
        return tuple(keyword.rstrip() for keyword in self._cards)

    def get(self, keyword: str) -> Value | None:
        """Value of a keyword, None when it is not there or has none that can be read."""
        return _parse(self._field(keyword))

    def distinct_numbers(self, stem: str, count: int) -> tuple[float, ...]:
        """The different values, ascending, of the keywords ``<stem>1`` ... ``<stem>count``."""
        fields = {self._field(f"{stem}{number}").split("/", 1)[0] for number in range(1, count + 1)}
        values = [_parse(field) for field in fields]
        numbers = sorted(float(value) for value in values if isinstance(value, (int, float)))
        if len(numbers) < len(values) or not all(map(math.isfinite, numbers)):
            raise InvalidFile(f"HDU {self.hdu}: a keyword of {stem}1 ... {stem}{count} is missing or not a number")
        return tuple(numbers)

    def number(self, keyword: str, default: float | None = None) -> float:
        """Finite number; the default, if any, stands in for a keyword that is not there."""
        value = self._get(keyword, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise InvalidFile(f"HDU {self.hdu}: {keyword} is {value!r}, not a number")
        return float(value)

    def integer(self, keyword: str, default: int | None = None) -> int:
        """Whole number, also when written as text or with a decimal point."""
        value = self._get(keyword, default)
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if isinstance(value, bool) or not number.is_integer() or abs(number) > 2**53:
            raise InvalidFile(f"HDU {self.hdu}: {keyword} is {value!r}, not a whole number")
        return int(number)

    def text(self, keyword: str, default: str | None = None) -> str:
        """Text, whatever the type of the value."""
        return str(self._get(keyword, default)).strip()

    def history(self) -> tuple[str, ...]:
        """Text of the HISTORY cards, in order."""
        cards = (self._text[start : start + CARD] for start in range(0, len(self._text), CARD))
        return tuple(card[8:].strip() for card in cards if card.startswith("HISTORY "))

    def _field(self, keyword: str) -> str:
        """Text after the value indicator; empty for no such keyword or one without value."""
        start = self._cards.get(keyword.ljust(8))
        if start is None:
            return ""
        card = self._text[start : start + CARD]
        if card.startswith("HIERARCH"):
            return card.partition("=")[2]
        return card[10:] if card[8:10] == "= " else ""

    def _get(self, keyword: str, default: Value | None) -> Value:
        value = self.get(keyword)
        if value is None:
            value = default
        if value is None:
            raise InvalidFile(f"HDU {self.hdu}: keyword {keyword} is missing")
        return value


def _hierarch_cards(text: str) -> dict[str, int]:
    """Keywords of the HIERARCH convention and where their cards start."""
    cards: dict[str, int] = {}
    start = 0
    while (start := text.find("HIERARCH ", start)) >= 0:
        sign = text.find("=", start, start + CARD)
        if start % CARD == 0 and sign > 0:
            cards.setdefault(text[start + 9 : sign].strip().ljust(8), start)
        start += 9
    return cards


def _parse(field: str) -> Value | None:
    field = field.lstrip()
    if field.startswith("'"):
        return _quoted(field)
    word = field.split("/", 1)[0].strip()
    if word in ("T", "F"):
        return word == "T"
    try:
        return int(word)
    except ValueError:
        pass
    try:
        return float(word.replace("D", "E").replace("d", "e"))
    except ValueError:
        return None


def _quoted(field: str) -> str:
    """Text between quotes, where two quotes stand for one."""
    end = 1
    while (end := field.find("'", end)) >= 0:
        if field[end + 1 : end + 2] != "'":
            return field[1:end].replace("''", "'").rstrip()
        end += 2
    return field[1:].rstrip()
