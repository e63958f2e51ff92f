"""Cells of an answered table."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from spxflow.archive.errors import ArchiveError

if TYPE_CHECKING:
    from astropy.table import Table


def rows(table: Table, *names: str) -> Iterator[tuple[Any, ...]]:
    """The cells of some columns, row by row; None where masked."""
    absent = [name for name in names if name not in table.colnames]
    if absent:
        raise ArchiveError(f"the answer has no column {', '.join(absent)}")
    return zip(*(table[name].tolist() for name in names), strict=True)


def text(value: Any) -> str:
    """A cell as text; empty where masked."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "" if value is None else str(value)


def number(value: Any) -> float:
    """A cell as a number; NaN where masked or not a number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
