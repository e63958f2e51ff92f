"""The archive's image search (SIA 2) with its answers' quirks (facts 3.1).

Known from a real answer: the columns, their order and number formats; in CSV the JSON of
``cloud_access`` stands unescaped; rows are in no order; errors are VOTables with status 200.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
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


@dataclass(frozen=True)
class Column:
    """A column of the answer: what it holds for a record, and how it is written."""

    name: str
    value: Any = None  # the same for all records, or a function of the record and the addresses
    form: str = "s"
    unit: str = ""
    ucd: str = ""

    @property
    def field(self) -> Field:
        datatype = {"s": "char", "d": "long"}.get(self.form, "double")
        return Field(self.name, datatype, self.unit, self.ucd)

    def text(self, record: Record, addresses: Addresses) -> str | None:
        value = self.value(record, addresses) if callable(self.value) else self.value
        return None if value is None else format(value, self.form)


def _cloud_access(record: Record, _: Addresses) -> str:
    return f'{{"aws": {{"bucket_name": "{BUCKET}", "key":"{record.file.path}", "region": "{REGION}"}}}}'


COLUMNS: tuple[Column, ...] = (
    Column("s_ra", lambda r, _: r.file.center[0], ".17g", "deg", "pos.eq.ra"),
    Column("s_dec", lambda r, _: r.file.center[1], ".17g", "deg", "pos.eq.dec"),
    Column("facility_name", "SPHEREx"),
    Column("instrument_name", "SPHEREx"),
    Column("dataproduct_subtype", "science"),
    Column("calib_level", 2, "d"),
    Column("dataproduct_type", "image"),
    Column("energy_bandpassname", lambda r, _: f"SPHEREx-{r.band}"),
    Column("energy_emband", "Infrared"),
    Column("obs_id", lambda r, _: r.file.obs_id, ucd="meta.id"),
    Column("s_resolution", 3.075, "f", "arcsec"),
    Column("em_min", lambda r, _: r.file.wavelength_min_m, ".5e", "m", "em.wl;stat.min"),
    Column("em_max", lambda r, _: r.file.wavelength_max_m, ".5e", "m", "em.wl;stat.max"),
    Column("em_res_power", lambda r, _: r.resolving_power, "f"),
    Column("proposal_title", "SPHEREx LVF Survey Data"),
    Column("access_url", lambda r, addresses: addresses.image(r.file.path), ucd="meta.ref.url"),
    Column("access_format", "image/fits", ucd="meta.code.mime"),
    Column("access_estsize", lambda r, _: r.size_kb, "d", "kbyte"),
    Column("t_exptime", XPOSURE_S, "f", "s"),
    Column("s_region", lambda r, _: r.region, ucd="pos.outline;obs.field"),
    Column("obs_collection", lambda r, _: r.collection),
    Column("obs_intent", "science"),
    Column("algorithm_name", "exposure"),
    Column("facility_keywords"),
    Column("instrument_keywords"),
    Column("environment_photometric"),
    Column("proposal_id"),
    Column("proposal_pi"),
    Column("proposal_project", "SPHEREx"),
    Column("target_name", lambda r, _: r.file.target_id),
    Column("target_type", "field"),
    Column("target_standard", 0, "d"),
    Column("target_moving", 0, "d"),
    Column("target_keywords"),
    Column("obs_release_date", lambda r, _: r.release_date),
    Column("s_xel1", 2040, "d"),
    Column("s_xel2", 2040, "d"),
    Column("s_pixel_scale", 6.15, "f", "arcsec"),
    Column("position_timedependent", 0, "d"),
    Column("t_min", lambda r, _: r.file.mjd_begin, ".6f", "d", "time.start;obs.exposure"),
    Column("t_max", lambda r, _: r.file.mjd_end, ".6f", "d", "time.end;obs.exposure"),
    Column("t_resolution", None, "f", "s"),
    Column("t_xel", None, "d"),
    Column("obs_publisher_did", lambda r, _: r.publisher_did, ucd="meta.ref.ivoid"),
    Column("s_fov", 3.485, ".17g", "deg"),
    Column("em_xel", None, "d"),
    Column("pol_states"),
    Column("pol_xel", None, "d"),
    Column("cloud_access", _cloud_access),
    Column("o_ucd"),
    Column("upload_row_id", 1, "d"),
)


def _interval(name: str, value: str) -> tuple[float, float]:
    """One number or two of a TIME or BAND, infinities allowed."""
    try:
        numbers = [float(word) for word in value.split()]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2) or any(map(math.isnan, numbers)) or numbers[0] > numbers[-1]:
        raise ValueError(f"{name} takes one value or a lower and an upper one, not {value[:40]!r}")
    return numbers[0], numbers[-1]


def _shape(value: str) -> sphere.Shape:
    kind = value.split(maxsplit=1)[0].upper() if value.strip() else ""
    if kind not in ("CIRCLE", "POLYGON"):
        raise ValueError(f"POS takes a circle or a polygon, not {value[:40]!r}")
    return sphere.parse_shape(value)


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
        if form not in ("VOTABLE", VOTABLE.upper(), "TEXT/XML"):
            raise ValueError(f"unknown RESPONSEFORMAT {form[:40]!r}")
        rows = [[column.text(record, self._addresses) for column in COLUMNS] for record in found]
        table = votable.results([column.field for column in COLUMNS], rows, overflow)
        return Response(votable.document(table, description=DESCRIPTION), VOTABLE)
