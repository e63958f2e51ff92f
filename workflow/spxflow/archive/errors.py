"""What the archive's query services did not do, in one line."""

from __future__ import annotations

import re


class ArchiveError(RuntimeError):
    """A query service cannot be asked, or its answer cannot be used."""


def one_line(error: BaseException | str, length: int = 200) -> str:
    """The first words of an error or an error page, tags and line breaks taken out."""
    text = re.sub(r"<[^>]*>", " ", str(error)[:20_000])
    text = "".join(character if character.isprintable() else " " for character in text)
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 3] + "..."
