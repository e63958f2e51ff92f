"""The archive's image search (SIA 2) with its answers' quirks (facts 3.1).

Known from a real answer: the columns, their order and number formats; in CSV the JSON of
``cloud_access`` stands unescaped; rows are in no order; errors are VOTables with status 200.
"""

from __future__ import annotations

import hashlib
import html
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from spxflow.demo import sphere, vosi, votable
from spxflow.demo.holdings import Holdings
from spxflow.demo.level2 import XPOSURE_S
from spxflow.demo.records import Record, records_of
from spxflow.demo.votable import Field
from spxflow.demo.web import BUCKET, REGION, VOTABLE, Addresses, Limits, RefusalError, Request, Response

DESCRIPTION = "Caltech/IPAC-IRSA IVOA Simple Image Access v2 Service"
_FAULT = "UsageFault: BAD_REQUEST: "


class SiaError(ValueError):
    """A search that cannot be done; the text says why."""


@dataclass(frozen=True)
class Column:
    """A column of the answer: what it holds for a record, and how it is written."""

    name: str
    value: Callable[[Record, Addresses], Any]
    form: str = "s"
    unit: str = ""
    ucd: str = ""

    @property
    def field(self) -> Field:
        datatype = {"s": "char", "d": "long"}.get(self.form, "double")
        return Field(self.name, datatype, self.unit, self.ucd)

    def text(self, record: Record, addresses: Addresses) -> str | None:
        value = self.value(record, addresses)
        return None if value is None else format(value, self.form)


def _fixed(value: Any) -> Callable[[Record, Addresses], Any]:
    return lambda record, addresses: value


def _of(part: Callable[[Record], Any]) -> Callable[[Record, Addresses], Any]:
    return lambda record, addresses: part(record)


def _cloud_access(record: Record) -> str:
    return f'{{"aws": {{"bucket_name": "{BUCKET}", "key":"{record.file.path}", "region": "{REGION}"}}}}'


_NOTHING = _fixed(None)

COLUMNS: tuple[Column, ...] = (
    Column("s_ra", _of(lambda r: r.file.center[0]), ".17g", "deg", "pos.eq.ra"),
    Column("s_dec", _of(lambda r: r.file.center[1]), ".17g", "deg", "pos.eq.dec"),
    Column("facility_name", _fixed("SPHEREx")),
    Column("instrument_name", _fixed("SPHEREx")),
    Column("dataproduct_subtype", _fixed("science")),
    Column("calib_level", _fixed(2), "d"),
    Column("dataproduct_type", _fixed("image")),
    Column("energy_bandpassname", _of(lambda r: f"SPHEREx-{r.band}")),
    Column("energy_emband", _fixed("Infrared")),
    Column("obs_id", _of(lambda r: r.file.obs_id), ucd="meta.id"),
    Column("s_resolution", _fixed(3.075), "f", "arcsec"),
    Column("em_min", _of(lambda r: r.file.wavelength_min_m), ".5e", "m", "em.wl;stat.min"),
    Column("em_max", _of(lambda r: r.file.wavelength_max_m), ".5e", "m", "em.wl;stat.max"),
    Column("em_res_power", _of(lambda r: r.resolving_power), "f"),
    Column("proposal_title", _fixed("SPHEREx LVF Survey Data")),
    Column("access_url", lambda r, addresses: addresses.image(r.file.path), ucd="meta.ref.url"),
    Column("access_format", _fixed("image/fits"), ucd="meta.code.mime"),
    Column("access_estsize", _of(lambda r: r.size_kb), "d", "kbyte"),
    Column("t_exptime", _fixed(XPOSURE_S), "f", "s"),
    Column("s_region", _of(lambda r: r.region), ucd="pos.outline;obs.field"),
    Column("obs_collection", _of(lambda r: r.collection)),
    Column("obs_intent", _fixed("science")),
    Column("algorithm_name", _fixed("exposure")),
    Column("facility_keywords", _NOTHING),
    Column("instrument_keywords", _NOTHING),
    Column("environment_photometric", _NOTHING),
    Column("proposal_id", _NOTHING),
    Column("proposal_pi", _NOTHING),
    Column("proposal_project", _fixed("SPHEREx")),
    Column("target_name", _of(lambda r: r.file.target_id)),
    Column("target_type", _fixed("field")),
    Column("target_standard", _fixed(0), "d"),
    Column("target_moving", _fixed(0), "d"),
    Column("target_keywords", _NOTHING),
    Column("obs_release_date", _of(lambda r: r.release_date)),
    Column("s_xel1", _fixed(2040), "d"),
    Column("s_xel2", _fixed(2040), "d"),
    Column("s_pixel_scale", _fixed(6.15), "f", "arcsec"),
    Column("position_timedependent", _fixed(0), "d"),
    Column("t_min", _of(lambda r: r.file.mjd_begin), ".6f", "d", "time.start;obs.exposure"),
    Column("t_max", _of(lambda r: r.file.mjd_end), ".6f", "d", "time.end;obs.exposure"),
    Column("t_resolution", _NOTHING, "f", "s"),
    Column("t_xel", _NOTHING, "d"),
    Column("obs_publisher_did", _of(lambda r: r.publisher_did), ucd="meta.ref.ivoid"),
    Column("s_fov", _fixed(3.485), ".17g", "deg"),
    Column("em_xel", _NOTHING, "d"),
    Column("pol_states", _NOTHING),
    Column("pol_xel", _NOTHING, "d"),
    Column("cloud_access", _of(_cloud_access)),
    Column("o_ucd", _NOTHING),
    Column("upload_row_id", _fixed(1), "d"),
)


def _interval(name: str, value: str) -> tuple[float, float]:
    """One number or two of a TIME or BAND, infinities allowed."""
    try:
        numbers = [float(word) for word in value.split()]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2) or any(map(math.isnan, numbers)) or numbers[0] > numbers[-1]:
        raise SiaError(f"{name} takes one value or a lower and an upper one, not {value[:40]!r}")
    return numbers[0], numbers[-1]


def _shape(value: str) -> sphere.Shape:
    kind = value.split(maxsplit=1)[0].upper() if value.strip() else ""
    if kind not in ("CIRCLE", "POLYGON"):
        raise SiaError(f"POS takes a circle or a polygon, not {value[:40]!r}")
    try:
        return sphere.parse_shape(value)
    except ValueError as error:
        raise SiaError(str(error)) from None


def search(records: Iterable[Record], request: Request) -> list[Record]:
    """Records that meet the request: values of one parameter are alternatives, parameters add up."""
    collections = set(request.get_all("COLLECTION"))
    shapes = [_shape(value) for value in request.get_all("POS")]
    times = [_interval("TIME", value) for value in request.get_all("TIME")]
    bands = [_interval("BAND", value) for value in request.get_all("BAND")]
    found = [
        record
        for record in records
        if (not collections or record.collection in collections)
        and _overlaps(times, record.file.mjd_begin, record.file.mjd_end)
        and _overlaps(bands, record.file.wavelength_min_m, record.file.wavelength_max_m)
        and (not shapes or any(sphere.intersects(shape, sphere.parse_shape(record.region)) for shape in shapes))
    ]
    return sorted(found, key=lambda record: hashlib.blake2b(record.file.path.encode()).digest())


def _overlaps(intervals: list[tuple[float, float]], lower: float, upper: float) -> bool:
    return not intervals or any(begin <= upper and lower <= end for begin, end in intervals)


def csv_text(records: Iterable[Record], addresses: Addresses) -> str:
    """The CSV answer: nothing quoted or escaped, as the archive does it."""
    lines = [",".join(column.name for column in COLUMNS)]
    lines += [",".join(column.text(record, addresses) or "" for column in COLUMNS) for record in records]
    return "\n".join([*lines, ""])


def _html_text(records: Iterable[Record], addresses: Addresses) -> str:
    head = "".join(f"<th>{column.name}</th>" for column in COLUMNS)
    rows = "".join(
        "<tr>"
        + "".join(f"<td>{html.escape(column.text(record, addresses) or '')}</td>" for column in COLUMNS)
        + "</tr>\n"
        for record in records
    )
    return f"<!DOCTYPE html><html><body><table><tr>{head}</tr>\n{rows}</table></body></html>"


class SiaService:
    """Everything under ``/SIA``."""

    def __init__(self, holdings: Holdings, addresses: Addresses, limits: Limits) -> None:
        self._holdings = holdings
        self._addresses = addresses
        self._limits = limits

    def answer(self, request: Request, rest: str) -> Response:
        """Answer a request for ``/SIA`` + ``rest``."""
        if rest.strip("/") == "capabilities":
            return vosi.sia_capabilities(f"{request.own_url}/SIA")
        if rest.strip("/"):
            raise RefusalError(404, f"no resource {rest[:80]} here")
        try:
            return self._search(request)
        except ValueError as error:
            return Response(votable.error_document(f"{_FAULT}{error}", DESCRIPTION), VOTABLE)

    def _search(self, request: Request) -> Response:
        form = request.get("RESPONSEFORMAT", "VOTABLE").upper()
        limit = self._limits.rows(request.get("MAXREC"))
        found = search(records_of(self._holdings.listed()[1]), request)
        overflow = limit is not None and len(found) > limit
        found = found[:limit]
        if form in ("CSV", "TEXT/CSV"):
            return Response(csv_text(found, self._addresses).encode(), "text/csv; charset=utf-8; header=present")
        if form in ("HTML", "TEXT/HTML"):
            return Response(_html_text(found, self._addresses).encode(), "text/html; charset=utf-8")
        if form not in ("VOTABLE", VOTABLE.upper(), "TEXT/XML"):
            raise SiaError(f"unknown RESPONSEFORMAT {form[:40]!r}")
        rows = [[column.text(record, self._addresses) for column in COLUMNS] for record in found]
        table = votable.results([column.field for column in COLUMNS], rows, overflow)
        return Response(votable.document(table, description=DESCRIPTION), VOTABLE)
