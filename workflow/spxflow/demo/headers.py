"""Header cards: the archive's own text, with single values replaced."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from types import MappingProxyType

from spxflow.mef.blocks import BLOCK, CARD

Value = bool | int | float | str


@lru_cache(maxsize=8)
def read_template(name: str) -> tuple[str, ...]:
    """Cards of a header kept in ``data``, one of 80 characters a line, END left out."""
    text = (files("spxflow.demo") / "data" / name).read_text(encoding="ascii")
    cards = tuple(line.ljust(CARD)[:CARD] for line in text.splitlines() if line.strip())
    return tuple(card for card in cards if card.rstrip() != "END")


def keyword(card: str) -> str:
    """Keyword of a card, without HIERARCH."""
    if card.startswith("HIERARCH "):
        return card[9:].split("=", 1)[0].strip()
    return card[:8].rstrip()


def _value_and_comment(card: str) -> tuple[str, str]:
    """Text of the value and of the comment of a card that has a value."""
    rest = card.split("=", 1)[1]
    if rest.lstrip().startswith("'"):
        start = rest.index("'")
        end = rest.index("'", start + 1)
        while rest[end + 1 : end + 2] == "'":
            end = rest.index("'", end + 2)
        return rest[start : end + 1], rest[end + 1 :].partition("/")[2].rstrip()
    value, _, comment = rest.partition("/")
    return value.strip(), comment.rstrip()


def header_values(cards: Iterable[str]) -> dict[str, str]:
    """Value texts by keyword."""
    return {keyword(card): _value_and_comment(card)[0] for card in cards if "=" in card[:40] and card[:7] != "COMMENT"}


def _format_value(value: Value) -> str:
    if isinstance(value, bool):
        return "T" if value else "F"
    if isinstance(value, str):
        return f"'{value:<8s}'"
    if isinstance(value, float):
        return repr(value).upper()
    return str(value)


def make_card(key: str, value: Value, comment: str = "") -> str:
    """One card: fixed format for short keywords, HIERARCH for the others."""
    text = _format_value(value)
    short = len(key) <= 8 and " " not in key and "." not in key
    if not short:
        card = f"HIERARCH {key} = {text}"
    elif isinstance(value, str):
        card = f"{key:<8s}= {text:<20s}"
    else:
        card = f"{key:<8s}= {text:>20s}"
    if comment:
        card = f"{card} / {comment}"
    return card.ljust(CARD)[:CARD]


class Template:
    """Cards of a header with values that can be replaced one by one.

    Building a header costs one join; only the cards that change are formatted.
    """

    def __init__(self, cards: Sequence[str]) -> None:
        self._cards = tuple(cards)
        self._index: dict[str, int] = {}
        for index, card in enumerate(self._cards):
            key = keyword(card)
            if key not in ("COMMENT", "HISTORY", "") and "=" in card:
                self._index.setdefault(key, index)

    def render(self, values: Mapping[str, Value] = MappingProxyType({})) -> bytes:
        """The header as bytes, END and padding included; values of which it has no card are left out."""
        cards = list(self._cards)
        for key in values.keys() & self._index.keys():
            index = self._index[key]
            cards[index] = make_card(key, values[key], _value_and_comment(cards[index])[1].strip())
        text = "".join(cards) + "END".ljust(CARD)
        return text.ljust(-(-len(text) // BLOCK) * BLOCK).encode("ascii")
