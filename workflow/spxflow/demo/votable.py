"""VOTable documents: written for answers, read for uploads."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape, quoteattr

_OPENING = (
    '<?xml version="1.0" encoding="utf-8"?><VOTABLE version="1.3" '
    'xmlns="http://www.ivoa.net/xml/VOTable/v1.3" '
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
)
_NULL_LONG = -(2**63)


@dataclass(frozen=True)
class Field:
    """A column: VOTable datatype ``double``, ``long`` or ``char`` (any length)."""

    name: str
    datatype: str = "char"
    unit: str = ""
    ucd: str = ""
    description: str = ""

    def element(self, null: bool = False) -> str:
        """The ``FIELD`` element, with a null value declared for integers that have gaps."""
        attributes = {
            "ID": self.name,
            "name": self.name,
            "datatype": self.datatype,
            "arraysize": "*" if self.datatype == "char" else "",
            "unit": self.unit,
            "ucd": self.ucd,
        }
        text = " ".join(f"{key}={quoteattr(value)}" for key, value in attributes.items() if value)
        content = f"<DESCRIPTION>{escape(self.description)}</DESCRIPTION>" if self.description else ""
        if null:
            content += f'<VALUES null="{_NULL_LONG}"/>'
        return f"<FIELD {text}>{content}</FIELD>"


def cell_text(value: Any) -> str:
    """A value as table text: shortest exact numbers, nothing for no value."""
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else ("NaN" if math.isnan(value) else f"{value:+}")
    return str(value)


def document(*resources: str, description: str = "") -> bytes:
    """A whole document around its resources."""
    about = f"<DESCRIPTION>{escape(description)}</DESCRIPTION>" if description else ""
    return f"{_OPENING}{about}{''.join(resources)}</VOTABLE>".encode()


def status_info(value: str, message: str = "") -> str:
    return f'<INFO name="QUERY_STATUS" value="{value}">{escape(message)}</INFO>'


def error_document(message: str, description: str = "") -> bytes:
    """The answer to a query that cannot be had."""
    return document(f'<RESOURCE type="results">{status_info("ERROR", message)}</RESOURCE>', description=description)


def results(fields: Sequence[Field], rows: Iterable[Sequence[Any]], overflow: bool = False) -> str:
    """The results resource: one table, its status before it, an overflow after it.

    A value is written as it is when it is text, otherwise by :func:`cell_text`.
    """
    rows = list(rows)
    gaps = [field.datatype == "long" and any(row[index] is None for row in rows) for index, field in enumerate(fields)]
    missing = [f"<TD>{_NULL_LONG}</TD>" if gap else "<TD/>" for gap in gaps]
    head = "".join(field.element(gap) for field, gap in zip(fields, gaps, strict=True))
    body = "".join(
        "<TR>"
        + "".join(
            nothing if value is None else f"<TD>{escape(cell_text(value))}</TD>"
            for value, nothing in zip(row, missing, strict=True)
        )
        + "</TR>\n"
        for row in rows
    )
    end = status_info("OVERFLOW") if overflow else ""
    return (
        f'<RESOURCE type="results">{status_info("OK")}<TABLE>{head}'
        f"<DATA><TABLEDATA>\n{body}</TABLEDATA></DATA></TABLE>{end}</RESOURCE>"
    )


def infer_field(name: str, values: Iterable[Any]) -> Field:
    """The column that holds these Python values."""
    kinds = {type(value) for value in values if value is not None}
    if kinds and kinds <= {int}:
        return Field(name, "long")
    if kinds and kinds <= {int, float}:
        return Field(name, "double")
    return Field(name)


def read_table(content: bytes) -> tuple[list[str], list[list[Any]]]:
    """Column names and rows of the first table of a document, masked values as ``None``.

    Raises
    ------
    ValueError
        When the content is no VOTable.
    """
    import io

    from astropy.io.votable import parse_single_table

    try:
        table = parse_single_table(io.BytesIO(content)).to_table(use_names_over_ids=True)
    except Exception as error:
        raise ValueError(f"uploaded table is not a VOTable: {error}") from None
    columns = [table[name].tolist() for name in table.colnames]
    return list(table.colnames), [list(row) for row in zip(*columns, strict=True)]
