"""ADQL on SQLite: the little that differs in the text, and the geometry as functions.

Shapes are text (see :mod:`spxflow.demo.sphere`), so that they can be stored in tables and
returned in answers.
"""

from __future__ import annotations

import math
import re
import sqlite3
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

from spxflow.demo import sphere

_TOKEN = re.compile(
    r"""(?P<blank>\s+|--[^\n]*)
    | '(?:[^']|'')*' | "[^"]*"             # literals and quoted names
    | [A-Za-z_]\w* | \d+(?:\.\d*)?(?:[eE][+-]?\d+)? | .""",
    re.VERBOSE | re.DOTALL,
)


def words(query: str) -> list[str]:
    """Names, literals and signs of a query, without blanks and comments."""
    return [match[0] for match in _TOKEN.finditer(query) if match["blank"] is None]


def to_sqlite(query: str) -> str:
    """The query in SQLite's dialect: every ``SELECT TOP n`` becomes a ``LIMIT n`` of its level."""
    query = query.strip().rstrip(";")
    significant = words(query)
    if not significant or significant[0].upper() not in ("SELECT", "WITH"):
        raise ValueError("only SELECT queries are answered")
    if ";" in significant:
        raise ValueError("only one statement is answered")
    output: list[str] = []
    limits = [""]
    previous = ["", ""]
    for match in _TOKEN.finditer(query):
        word = match[0]
        if match["blank"] is not None:
            output.append(" ")
            continue
        before, last = previous
        previous = [last, word.upper()]
        if word.upper() == "TOP" and (last == "SELECT" or (before == "SELECT" and last in ("DISTINCT", "ALL"))):
            continue
        if last == "TOP":
            if not word.isdigit():
                raise ValueError("TOP takes a number of rows")
            limits[-1] = f" LIMIT {word}"
            continue
        if word == "(":
            limits.append("")
        elif word == ")" and len(limits) > 1:
            output.append(limits.pop())
        output.append(word)
    return "".join([*output, limits[0]])


def fails_in_join(query: str) -> bool:
    """Whether the real archive's fault applies: a geometry test of ``s_region`` in a join (facts 3.2)."""
    used = {word.upper() for word in words(query)}
    return {"JOIN", "S_REGION"} <= used and bool(used & {"CONTAINS", "INTERSECTS"})


class Geometry:
    """The geometry functions of ADQL, registered with a connection.

    SQLite hides what a function of ours complains about; ``complaint`` keeps the last text.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.complaint: str | None = None
        functions: dict[str, Callable[..., Any]] = {
            **{kind: partial(_shape, kind) for kind in ("POINT", "CIRCLE", "POLYGON")},
            "CONTAINS": _contains,
            "INTERSECTS": _intersects,
            "DISTANCE": _distance,
        }
        for name, function in functions.items():
            connection.create_function(name, -1, self._keeping_complaint(name, function), deterministic=True)

    def _keeping_complaint(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def checked(*arguments: Any) -> Any:
            if None in arguments:
                return None
            try:
                return function(*arguments)
            except (ValueError, TypeError) as error:
                self.complaint = str(error) if isinstance(error, ValueError) else f"wrong arguments of {name}"
                raise

        return checked


@lru_cache(maxsize=65536)
def _shape(kind: str, first: Any, *others: Any) -> str:
    """The text of a shape; the name of the coordinate system may stand before its numbers."""
    text = sphere.shape_text(kind, others if isinstance(first, str) else (first, *others))
    sphere.parse_shape(text)
    return text


def _contains(inner: str, outer: str) -> int:
    return int(sphere.contains(sphere.parse_shape(inner), sphere.parse_shape(outer)))


def _intersects(a: str, b: str) -> int:
    return int(sphere.intersects(sphere.parse_shape(a), sphere.parse_shape(b)))


def _distance(a: str, b: str) -> float:
    """Great-circle distance of two centres, degrees."""
    return math.degrees(sphere.separation(sphere.parse_shape(a).center, sphere.parse_shape(b).center))
