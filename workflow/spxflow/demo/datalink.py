"""Links from an identifier to its image, cutouts, cloud copy and calibration (DataLink 1.1).

The real service's answer is known by its ``#this`` rows and the name of its cutout service only
(facts 3.3); the other rows are as the standard has them.
"""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import quoteattr

from spxflow.demo import votable
from spxflow.demo.holdings import Holdings
from spxflow.demo.records import Record, records_of
from spxflow.demo.votable import Field
from spxflow.demo.web import Addresses, Request, Response

FIELDS = (
    Field("ID", ucd="meta.id;meta.main"),
    Field("access_url", ucd="meta.ref.url"),
    Field("service_def", ucd="meta.ref"),
    Field("error_message", ucd="meta.code.error"),
    Field("description", ucd="meta.note"),
    Field("semantics", ucd="meta.code"),
    Field("content_type", ucd="meta.code.mime"),
    Field("content_length", "long", "byte", "phys.size;meta.file"),
)
_FITS = "image/fits"


class DatalinkService:
    """Everything under ``/datalink``: any number of IDs in one request, by GET or POST."""

    def __init__(self, holdings: Holdings, addresses: Addresses) -> None:
        self._holdings = holdings
        self._addresses = addresses
        self._revision: int | None = None
        self._records: dict[str, list[Record]] = {}

    def answer(self, request: Request, rest: str) -> Response:
        """Answer a request for ``/datalink`` + ``rest``."""
        rows: list[tuple[Any, ...]] = []
        descriptors: list[str] = []
        known = self._by_identifier()
        for identifier in request.get_all("ID"):
            records = known.get(identifier, [])
            if not records:
                message = f"NotFoundFault: no data with the identifier {identifier[:120]}"
                rows.append((identifier, None, None, message, None, "#this", None, None))
            for record in records:
                name = f"ibe-cutout-{len(descriptors)}"
                descriptors.append(self._cutout_service(name, record))
                rows += self._rows(identifier, record, name)
        document = votable.document(votable.results(FIELDS, rows), *descriptors)
        return Response(document, "application/x-votable+xml;content=datalink")

    def _by_identifier(self) -> dict[str, list[Record]]:
        revision, files = self._holdings.listed()
        if revision != self._revision:
            table: dict[str, list[Record]] = {}
            for record in records_of(files):
                table.setdefault(record.publisher_did, []).append(record)
            self._records, self._revision = table, revision
        return self._records

    def _rows(self, identifier: str, record: Record, cutout_service: str) -> list[tuple[Any, ...]]:
        path = record.file.path
        size = record.size_kb * 1000
        links = [
            (self._addresses.image(path), None, "spectral image", "#this", _FITS, size),
            (None, cutout_service, "cutout service", "#cutout", _FITS, None),
            (self._addresses.object(path), None, "copy in the S3 bucket", "#counterpart", _FITS, size),
        ]
        links += [
            (self._addresses.image(product), None, product.split("/")[1], "#calibration", _FITS, None)
            for product in self._holdings.scenario.calibration
            if product.startswith(f"{record.file.release}/") and f"_D{record.file.detector}_" in product
        ]
        return [(identifier, url, service, None, *others) for url, service, *others in links]

    def _cutout_service(self, name: str, record: Record) -> str:
        url = quoteattr(self._addresses.image(record.file.path))
        return (
            f'<RESOURCE type="meta" utype="adhoc:service" ID="{name}">'
            f'<PARAM name="accessURL" datatype="char" arraysize="*" value={url}/>'
            '<GROUP name="inputParams">'
            '<PARAM name="center" datatype="char" arraysize="*" value=""/>'
            '<PARAM name="size" datatype="char" arraysize="*" value=""/>'
            "</GROUP></RESOURCE>"
        )
