"""The archive's table service: ADQL over HTTP, at once or as jobs (TAP 1.1)."""

from __future__ import annotations

import csv
import io

from spxflow.demo import adql, vosi, votable
from spxflow.demo.catalogue import Answer, Catalogue
from spxflow.demo.uws import JobError, Jobs
from spxflow.demo.web import VOTABLE, Limits, RefusalError, Request, Response

_VOTABLE_NAMES = ("votable", "votable/td", "application/x-votable+xml", "text/xml", "")
_CSV_NAMES = ("csv", "text/csv")


class TapService:
    """Everything under ``/TAP``."""

    def __init__(self, catalogue: Catalogue, limits: Limits, join_fails: bool) -> None:
        self._catalogue = catalogue
        self._limits = limits
        self._join_fails = join_fails
        self._jobs = Jobs(self._work)

    def answer(self, request: Request, rest: str) -> Response:
        """Answer a request for ``/TAP`` + ``rest``."""
        resource = rest.strip("/")
        if resource == "sync":
            try:
                return self._work(request)
            except JobError as error:
                return error.document
        if resource.split("/")[0] == "async":
            return self._jobs.answer(request, resource.removeprefix("async"))
        if resource == "availability":
            return vosi.availability()
        if resource == "capabilities":
            return vosi.tap_capabilities(f"{request.own_url}/TAP", self._limits)
        if resource == "tables":
            return vosi.tables()
        raise RefusalError(404, f"no resource {rest[:80]} here")

    def _work(self, request: Request) -> Response:
        try:
            form = request.get("RESPONSEFORMAT") or request.get("FORMAT")
            if form.lower().split(";")[0] not in _VOTABLE_NAMES + _CSV_NAMES:
                raise ValueError(f"unknown output format: {form[:40]!r}")
            if request.get("LANG", "ADQL").upper().split("-")[0] != "ADQL":
                raise ValueError(f"unknown query language: {request.get('LANG')[:40]!r}")
            query = request.get("QUERY")
            if not query.strip():
                raise ValueError("parameter QUERY is missing")
            if self._join_fails and adql.fails_in_join(query):
                raise ValueError("function st_covers(character varying, geography) does not exist")
            answer = self._catalogue.query(query, _uploads(request), self._limits.rows(request.get("MAXREC")))
        except ValueError as error:
            message = f"UsageFault: BAD_REQUEST: {error}"
            document = votable.error_document(message, "Table Access Protocol service of the local archive")
            raise JobError(message, Response(document, VOTABLE, 400)) from None
        if form.lower().split(";")[0] in _CSV_NAMES:
            return Response(_csv_text(answer).encode(), "text/csv; charset=utf-8; header=present")
        return Response(votable.document(votable.results(answer.fields, answer.rows, answer.overflow)), VOTABLE)


def _uploads(request: Request) -> dict[str, bytes]:
    """Uploaded tables by name: ``UPLOAD=name,param:file[;...]``, the content as a multipart file."""
    tables = {}
    for item in filter(None, (item for value in request.get_all("UPLOAD") for item in value.split(";"))):
        name, _, address = item.partition(",")
        scheme, _, file_name = address.partition(":")
        if scheme != "param":
            raise ValueError(f"only uploads with the request are read (name,param:file), not {item[:80]!r}")
        if file_name not in request.uploads:
            raise ValueError(f"no file {file_name[:80]!r} came with the request")
        tables[name] = request.uploads[file_name]
    return tables


def _csv_text(answer: Answer) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in answer.fields])
    writer.writerows([votable.cell_text(value) for value in row] for row in answer.rows)
    return text.getvalue()
