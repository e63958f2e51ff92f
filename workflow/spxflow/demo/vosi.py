"""What a service says of itself: the standard VOSI documents."""

from __future__ import annotations

from xml.sax.saxutils import escape

from spxflow.demo import votable
from spxflow.demo.catalogue import TABLES
from spxflow.demo.web import Limits, Response, xml


def availability() -> Response:
    """The service is there."""
    return xml(
        '<vosi:availability xmlns:vosi="http://www.ivoa.net/xml/VOSIAvailability/v1.0">'
        "<vosi:available>true</vosi:available></vosi:availability>"
    )


def _capability(standard: str, address: str, use: str, content: str = "") -> str:
    """One ``capability`` element of a VOSI document."""
    kind = 'xsi:type="tr:TableAccess" ' if content else ""
    return (
        f'<capability {kind}standardID="{standard}"><interface xsi:type="vs:ParamHTTP" role="std" version="1.1">'
        f'<accessURL use="{use}">{escape(address)}</accessURL></interface>{content}</capability>'
    )


def _document(*capabilities: str) -> Response:
    return xml(
        '<vosi:capabilities xmlns:vosi="http://www.ivoa.net/xml/VOSICapabilities/v1.0" '
        'xmlns:tr="http://www.ivoa.net/xml/TAPRegExt/v1.0" xmlns:vs="http://www.ivoa.net/xml/VODataService/v1.1" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">' + "".join(capabilities) + "</vosi:capabilities>"
    )


def sia_capabilities(address: str) -> Response:
    """Where the image search is."""
    return _document(_capability("ivo://ivoa.net/std/SIA#query-2.0", address, "base"))


def tap_capabilities(address: str, limits: Limits) -> Response:
    """Where the table service is, and what it can do."""
    functions = "".join(
        f"<feature><form>{name}</form></feature>"
        for name in ("POINT", "CIRCLE", "POLYGON", "CONTAINS", "INTERSECTS", "DISTANCE")
    )
    bounds = "".join(
        f'<{tag} unit="row">{value}</{tag}>'
        for tag, value in (("default", limits.default), ("hard", limits.hard))
        if value is not None
    )
    content = (
        '<language><name>ADQL</name><version ivo-id="ivo://ivoa.net/std/ADQL#v2.0">2.0</version>'
        "<description>ADQL 2.0</description>"
        f'<languageFeatures type="ivo://ivoa.net/std/TAPRegExt#features-adqlgeo">{functions}</languageFeatures>'
        "</language>"
        "<outputFormat><mime>application/x-votable+xml</mime><alias>votable</alias></outputFormat>"
        "<outputFormat><mime>text/csv</mime><alias>csv</alias></outputFormat>"
        '<uploadMethod ivo-id="ivo://ivoa.net/std/TAPRegExt#upload-inline"/>'
        + (f"<outputLimit>{bounds}</outputLimit>" if bounds else "")
    )
    return _document(
        _capability("ivo://ivoa.net/std/TAP", address, "base", content=content),
        _capability("ivo://ivoa.net/std/VOSI#capabilities", f"{address}/capabilities", "full"),
        _capability("ivo://ivoa.net/std/VOSI#availability", f"{address}/availability", "full"),
        _capability("ivo://ivoa.net/std/VOSI#tables", f"{address}/tables", "full"),
    )


def tables() -> Response:
    """The tables and their columns."""
    schemas: dict[str, list[str]] = {}
    for name, columns in TABLES.items():
        described = "".join(
            f"<column><name>{column.name}</name><description>{escape(column.description)}</description>"
            f"<unit>{column.unit}</unit><ucd>{column.ucd}</ucd>"
            f'<dataType xsi:type="vs:VOTableType"{_any_length(column)}>{column.datatype}</dataType></column>'
            for column in columns
        )
        schemas.setdefault(name.split(".")[0], []).append(f"<table><name>{name}</name>{described}</table>")
    content = "".join(f"<schema><name>{name}</name>{''.join(elements)}</schema>" for name, elements in schemas.items())
    return xml(
        '<vosi:tableset xmlns:vosi="http://www.ivoa.net/xml/VOSITables/v1.0" '
        'xmlns:vs="http://www.ivoa.net/xml/VODataService/v1.1" '
        f'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">{content}</vosi:tableset>'
    )


def _any_length(column: votable.Field) -> str:
    return ' arraysize="*"' if column.datatype == "char" else ""
